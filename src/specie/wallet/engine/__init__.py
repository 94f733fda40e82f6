"""The engine behind `Wallet`, one module a verb."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specie.kernel.front_door import front_door

if TYPE_CHECKING:
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
else:
    __getattr__ = front_door(
        __name__,
        {
            "auth": ("WalletAuth",),
            "mint_list": ("MintBackup", "MintList"),
            "pay": ("PartOutcome", "Payment"),
            "receive": ("Receipt",),
            "receiver": ("PaymentReceiver",),
            "recover": ("CheckReport", "ResumeReport"),
            "requests": ("Requests",),
            "restore": ("Progress", "Restored"),
            "split": ("SplitPlan",),
            "wallet": ("Wallet",),
        },
    )

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
