"""The engine behind `Wallet`, one module a verb."""

from specie.wallet.engine.pay import PartOutcome, Payment
from specie.wallet.engine.receive import Receipt
from specie.wallet.engine.recover import CheckReport, ResumeReport
from specie.wallet.engine.restore import Progress, Restored
from specie.wallet.engine.split import SplitPlan
from specie.wallet.engine.wallet import Wallet

__all__ = ["CheckReport", "PartOutcome", "Payment", "Progress", "Receipt", "Restored", "ResumeReport", "SplitPlan", "Wallet"]
