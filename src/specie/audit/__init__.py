"""The audit log: who did what to the bank, in a chain that anybody who holds a copy can check. Entry: `AuditLog`."""

from specie.audit.engine import AuditLog
from specie.audit.errors import AuditBrokenError, AuditDetailError
from specie.audit.ports import Anchor, AuditStore
from specie.audit.record import Checkpoint, Draft, Outcome, Record
from specie.audit.verify import Finding, FindingKind, Report, verify

__all__ = [
    "Anchor",
    "AuditBrokenError",
    "AuditDetailError",
    "AuditLog",
    "AuditStore",
    "Checkpoint",
    "Draft",
    "Finding",
    "FindingKind",
    "Outcome",
    "Record",
    "Report",
    "verify",
]
