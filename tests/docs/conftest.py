"""What the tests of the documents share: the servers they need."""

from __future__ import annotations

from tests.support.postgres import postgres_dsn, postgres_server

__all__ = ["postgres_dsn", "postgres_server"]
