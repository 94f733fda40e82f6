"""The wallet SDK: hold and spend ecash. Entry: `Wallet`; nobody else holds proofs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specie.kernel.front_door import front_door

if TYPE_CHECKING:
    from specie.wallet.auth import AuthStatus, DeviceCode, LoginOffer
    from specie.wallet.engine import (
        CheckReport,
        MintBackup,
        MintList,
        PartOutcome,
        Payment,
        PaymentReceiver,
        Progress,
        Receipt,
        Requests,
        Restored,
        ResumeReport,
        SplitPlan,
        Wallet,
        WalletAuth,
    )
    from specie.wallet.engine.deposits import DepositClaim
    from specie.wallet.engine.exits import Departure, Dust, Exits, Stuck, WatchReport
    from specie.wallet.engine.offline import Offline, Settlement
    from specie.wallet.engine.targets import Rebalance, Targets
    from specie.wallet.engine.transfer import Transfers
    from specie.wallet.errors import LiabilitiesBrokenError
    from specie.wallet.history import HistoryEntry
    from specie.wallet.holding import Balance, MintView, SentToken, SplitPart, SplitPayment, WalletMeltQuote, WalletMintQuote
    from specie.wallet.liabilities import KeptEvidence, LiabilityFault, LiabilityReport
    from specie.wallet.lock import HTLC, P2PK
    from specie.wallet.offline import OfflinePolicy, Risk, Unsettled
    from specie.wallet.operation import Operation
    from specie.wallet.placement import Advice, Leaving, MintHealth, Reason, WatchPolicy
    from specie.wallet.ports import MintClient, MintClients, NostrRelays, PaymentPost, Transports, WalletStore
    from specie.wallet.request import (
        Arrival,
        OwnRequest,
        PaymentPlan,
        PaymentState,
        RequestPayment,
        RequestReceipt,
        RequestState,
    )
    from specie.wallet.retry import RetryPolicy
    from specie.wallet.settings import WalletSettings
    from specie.wallet.target import Holding, Move, Target
    from specie.wallet.transfer import Transfer, TransferQuote, TransferState
else:
    __getattr__ = front_door(
        __name__,
        {
            "auth": ("AuthStatus", "DeviceCode", "LoginOffer"),
            "engine": (
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
            ),
            "engine.deposits": ("DepositClaim",),
            "engine.exits": ("Departure", "Dust", "Exits", "Stuck", "WatchReport"),
            "engine.offline": ("Offline", "Settlement"),
            "engine.targets": ("Rebalance", "Targets"),
            "engine.transfer": ("Transfers",),
            "errors": ("LiabilitiesBrokenError",),
            "history": ("HistoryEntry",),
            "holding": ("Balance", "MintView", "SentToken", "SplitPart", "SplitPayment", "WalletMeltQuote", "WalletMintQuote"),
            "liabilities": ("KeptEvidence", "LiabilityFault", "LiabilityReport"),
            "lock": ("HTLC", "P2PK"),
            "offline": ("OfflinePolicy", "Risk", "Unsettled"),
            "operation": ("Operation",),
            "placement": ("Advice", "Leaving", "MintHealth", "Reason", "WatchPolicy"),
            "ports": ("MintClient", "MintClients", "NostrRelays", "PaymentPost", "Transports", "WalletStore"),
            "request": (
                "Arrival",
                "OwnRequest",
                "PaymentPlan",
                "PaymentState",
                "RequestPayment",
                "RequestReceipt",
                "RequestState",
            ),
            "retry": ("RetryPolicy",),
            "settings": ("WalletSettings",),
            "target": ("Holding", "Move", "Target"),
            "transfer": ("Transfer", "TransferQuote", "TransferState"),
        },
    )

__all__ = [
    "HTLC",
    "P2PK",
    "Advice",
    "Arrival",
    "AuthStatus",
    "Balance",
    "CheckReport",
    "Departure",
    "DepositClaim",
    "DeviceCode",
    "Dust",
    "Exits",
    "HistoryEntry",
    "Holding",
    "KeptEvidence",
    "Leaving",
    "LiabilitiesBrokenError",
    "LiabilityFault",
    "LiabilityReport",
    "LoginOffer",
    "MintBackup",
    "MintClient",
    "MintClients",
    "MintHealth",
    "MintList",
    "MintView",
    "Move",
    "NostrRelays",
    "Offline",
    "OfflinePolicy",
    "Operation",
    "OwnRequest",
    "PartOutcome",
    "Payment",
    "PaymentPlan",
    "PaymentPost",
    "PaymentReceiver",
    "PaymentState",
    "Progress",
    "Reason",
    "Rebalance",
    "Receipt",
    "RequestPayment",
    "RequestReceipt",
    "RequestState",
    "Requests",
    "Restored",
    "ResumeReport",
    "RetryPolicy",
    "Risk",
    "SentToken",
    "Settlement",
    "SplitPart",
    "SplitPayment",
    "SplitPlan",
    "Stuck",
    "Target",
    "Targets",
    "Transfer",
    "TransferQuote",
    "TransferState",
    "Transfers",
    "Transports",
    "Unsettled",
    "Wallet",
    "WalletAuth",
    "WalletMeltQuote",
    "WalletMintQuote",
    "WalletSettings",
    "WalletStore",
    "WatchPolicy",
    "WatchReport",
]
