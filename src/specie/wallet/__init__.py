"""The wallet SDK: hold and spend ecash. Entry: `Wallet`; nobody else holds proofs."""

from specie.wallet.engine import CheckReport, PartOutcome, Payment, Progress, Receipt, Restored, ResumeReport, SplitPlan, Wallet
from specie.wallet.history import HistoryEntry
from specie.wallet.holding import Balance, MintView, SentToken, SplitPart, SplitPayment, WalletMeltQuote, WalletMintQuote
from specie.wallet.lock import HTLC, P2PK
from specie.wallet.operation import Operation
from specie.wallet.ports import MintClient, MintClients, WalletStore
from specie.wallet.retry import RetryPolicy
from specie.wallet.settings import WalletSettings

__all__ = [
    "HTLC",
    "P2PK",
    "Balance",
    "CheckReport",
    "HistoryEntry",
    "MintClient",
    "MintClients",
    "MintView",
    "Operation",
    "PartOutcome",
    "Payment",
    "Progress",
    "Receipt",
    "Restored",
    "ResumeReport",
    "RetryPolicy",
    "SentToken",
    "SplitPart",
    "SplitPayment",
    "SplitPlan",
    "Wallet",
    "WalletMeltQuote",
    "WalletMintQuote",
    "WalletSettings",
    "WalletStore",
]
