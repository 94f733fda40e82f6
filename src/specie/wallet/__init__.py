"""The wallet SDK: hold and spend ecash. Entry: `Wallet`; nobody else holds proofs."""

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
from specie.wallet.errors import LiabilitiesBrokenError
from specie.wallet.history import HistoryEntry
from specie.wallet.holding import Balance, MintView, SentToken, SplitPart, SplitPayment, WalletMeltQuote, WalletMintQuote
from specie.wallet.liabilities import KeptEvidence, LiabilityFault, LiabilityReport
from specie.wallet.lock import HTLC, P2PK
from specie.wallet.operation import Operation
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

__all__ = [
    "HTLC",
    "P2PK",
    "Arrival",
    "AuthStatus",
    "Balance",
    "CheckReport",
    "DepositClaim",
    "DeviceCode",
    "HistoryEntry",
    "KeptEvidence",
    "LiabilitiesBrokenError",
    "LiabilityFault",
    "LiabilityReport",
    "LoginOffer",
    "MintBackup",
    "MintClient",
    "MintClients",
    "MintList",
    "MintView",
    "NostrRelays",
    "Operation",
    "OwnRequest",
    "PartOutcome",
    "Payment",
    "PaymentPlan",
    "PaymentPost",
    "PaymentReceiver",
    "PaymentState",
    "Progress",
    "Receipt",
    "RequestPayment",
    "RequestReceipt",
    "RequestState",
    "Requests",
    "Restored",
    "ResumeReport",
    "RetryPolicy",
    "SentToken",
    "SplitPart",
    "SplitPayment",
    "SplitPlan",
    "Transports",
    "Wallet",
    "WalletAuth",
    "WalletMeltQuote",
    "WalletMintQuote",
    "WalletSettings",
    "WalletStore",
]
