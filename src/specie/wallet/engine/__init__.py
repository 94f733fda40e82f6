"""The engine behind `Wallet`, one module a verb."""

from specie.wallet.engine.auth import WalletAuth
from specie.wallet.engine.pay import Payment
from specie.wallet.engine.receive import Receipt
from specie.wallet.engine.recover import CheckReport, ResumeReport
from specie.wallet.engine.restore import Progress, Restored
from specie.wallet.engine.wallet import Wallet

__all__ = ["CheckReport", "Payment", "Progress", "Receipt", "Restored", "ResumeReport", "Wallet", "WalletAuth"]
