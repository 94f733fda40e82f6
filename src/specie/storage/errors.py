"""Leaves of the error tree that storage adds."""

from __future__ import annotations

from specie.kernel.errors import RefusedError

__all__ = ["ConstraintError", "SchemaError"]


class ConstraintError(RefusedError):
    """A row breaks a constraint (unique, foreign key, check, not null), so the whole body was undone.

    Engines that expect a conflict use `ON CONFLICT DO NOTHING` and look at the count instead. The detail names tables and
    columns or the constraint, never values.
    """


class SchemaError(RefusedError):
    """The store's schema and this program do not fit: the store is newer, or a released migration was edited."""
