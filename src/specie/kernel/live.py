"""Whether a setting may change while its program runs: said beside each field, as its `metadata`; pure.

`field(default=1200, metadata=LIVE)`. Not here: what happens when a setting changes; `ops.reload` does that.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["LIVE", "RESTART"]

LIVE: Final[dict[str, Any]] = {"live": True}
"""A running program takes a new value; what was begun under the old one ends under it."""

RESTART: Final[dict[str, Any]] = {"live": False}
"""A new value is taken at the next start."""
