"""A private PostgreSQL for a test session, and a fresh database for each test that asks.

Fixtures: `postgres_server` (session) and `postgres_dsn`. Where no server is installed it is a missing component
(`tests.support.components`). A conftest takes them with
`from tests.support.postgres import postgres_dsn, postgres_server  # noqa: F401`.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.components import missing_component

__all__ = ["PrivatePostgres", "postgres_dsn", "postgres_server"]

SCRIPT = Path(__file__).parents[2] / "scripts" / "postgres.sh"


@dataclass(frozen=True)
class PrivatePostgres:
    """A running server: `directory` for the script, `url` of its maintenance database, `binaries` for psql."""

    directory: Path
    url: str
    binaries: Path

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run one statement; what it prints."""
        return subprocess.run(
            [
                self.binaries / "psql",
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-d",
                self.dsn(database),
                "-c",
                statement,
            ],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout.strip()

    def dsn(self, database: str) -> str:
        """The URL of one of its databases."""
        return self.url.rpartition("/")[0] + "/" + database

    def kill(self) -> None:
        """SIGKILL the server and start it again on the same port."""
        port = self.url.rpartition("/")[0].rpartition(":")[2]
        subprocess.run([SCRIPT, "kill", self.directory], check=True, timeout=60)
        subprocess.run([SCRIPT, "start", self.directory, port], check=True, capture_output=True, timeout=120)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PrivatePostgres]:
    """One server for the session (for each worker of a parallel one)."""
    found = subprocess.run([SCRIPT, "find"], capture_output=True, text=True, check=False)
    if found.returncode:
        missing_component("postgres", "no PostgreSQL server binaries; scripts/install-postgres.sh installs them")
    # Not under pytest's tmp_path: the server's own user could not reach it.
    directory = Path(tempfile.mkdtemp(prefix="specie-postgres-"))
    started = subprocess.run([SCRIPT, "start", directory], capture_output=True, text=True, check=False, timeout=120)
    if started.returncode:
        shutil.rmtree(directory, ignore_errors=True)
        pytest.fail(f"PostgreSQL is installed but does not start: {started.stderr}")
    try:
        yield PrivatePostgres(directory, started.stdout.strip(), Path(found.stdout.strip()))
    finally:
        subprocess.run([SCRIPT, "stop", directory], check=False, timeout=60)
        shutil.rmtree(directory, ignore_errors=True)


_numbers = itertools.count(1)


@pytest.fixture
def postgres_dsn(postgres_server: PrivatePostgres) -> Iterator[str]:
    """The URL of a fresh, empty database."""
    name = f"test{next(_numbers)}"
    postgres_server.sql(f"CREATE DATABASE {name}")
    yield postgres_server.dsn(name)
    postgres_server.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
