"""RocksDB in tests: skipped aloud where its libraries are missing, and one owner for whoever would open a directory twice."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from specie.storage import Storage
from tests.support.components import VARIABLE

MISSING = [name for name in ("rocksdict", "sqlglot") if find_spec(name) is None]
_REASON = f"component rocksdb is missing: {', '.join(MISSING)} is not installed"
_SKIPPED = bool(MISSING) and os.environ.get(VARIABLE) != "1"
needs_rocksdb = pytest.mark.skipif(_SKIPPED, reason=_REASON)


def skip_module_without_rocksdb() -> None:
    """For modules that cannot be imported without its libraries; where every component is required they then fail."""
    if _SKIPPED:
        pytest.skip(_REASON, allow_module_level=True)


_OWNERS: dict[Path, _Owner] = {}


class _Owner:
    """The one store on a directory, and how many hold it."""

    def __init__(self, store: Storage) -> None:
        self.store = store
        self.holders = 0


class _Held:
    """What a holder has: the store; it is closed when the last one closes it."""

    def __init__(self, path: Path, owner: _Owner) -> None:
        self._path, self._owner, self._closed = path, owner, False
        owner.holders += 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._owner.store, name)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._owner.holders -= 1
        if not self._owner.holders:
            del _OWNERS[self._path]
            await self._owner.store.close()


def rocks_store(path: Path, **settings: Any) -> Storage:
    """A store on the directory; the one that is open already where there is one, for RocksDB has one owner."""
    from specie.storage.adapters.rocks import RocksStorage

    if path not in _OWNERS:
        _OWNERS[path] = _Owner(RocksStorage(path, **settings))
    return _Held(path, _OWNERS[path])  # type: ignore[return-value]
