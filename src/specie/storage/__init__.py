"""What is remembered: transactions as functions, group commit, migrations. Adapters are plugged in by `app` only."""

from specie.storage.errors import ConstraintError, SchemaError
from specie.storage.ports import Body, Migration, Row, Storage, StorageStatus, Tally, Transaction, Value

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
