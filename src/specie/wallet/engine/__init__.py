"""The engine behind `Wallet`, one module a verb."""

from specie.wallet.engine.auth import WalletAuth
from specie.wallet.engine.mint_list import MintBackup, MintList
from specie.wallet.engine.pay import PartOutcome, Payment
from specie.wallet.engine.receive import Receipt
from specie.wallet.engine.receiver import PaymentReceiver
from specie.wallet.engine.recover import CheckReport, ResumeReport
from specie.wallet.engine.requests import Requests
from specie.wallet.engine.restore import Progress, Restored
from specie.wallet.engine.split import SplitPlan
from specie.wallet.engine.wallet import Wallet

__all__ = [
    "CheckReport",
    "MintBackup",
    "MintList",
    "PartOutcome",
    "Payment",
    "PaymentReceiver",
    "Progress",
    "Receipt",
    "Requests",
    "Restored",
    "ResumeReport",
    "SplitPlan",
    "Wallet",
    "WalletAuth",
]
