"""What is remembered: transactions as functions, group commit, migrations. Adapters are plugged in by `app` only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specie.kernel.front_door import front_door

if TYPE_CHECKING:
    from specie.storage.errors import ConstraintError, SchemaError
    from specie.storage.ports import Body, Migration, Row, Storage, StorageStatus, Tally, Transaction, Value
else:
    __getattr__ = front_door(
        __name__,
        {
            "errors": ("ConstraintError", "SchemaError"),
            "ports": ("Body", "Migration", "Row", "Storage", "StorageStatus", "Tally", "Transaction", "Value"),
        },
    )

__all__ = [
    "Body",
    "ConstraintError",
    "Migration",
    "Row",
    "SchemaError",
    "Storage",
    "StorageStatus",
    "Tally",
    "Transaction",
    "Value",
]
