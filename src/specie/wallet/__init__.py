"""The wallet SDK: hold and spend ecash. Entry: `Wallet`; nobody else holds proofs."""

from specie.wallet.engine import CheckReport, Payment, Progress, Receipt, Restored, ResumeReport, Wallet
from specie.wallet.engine.exits import Departure, Dust, Exits, Stuck, WatchReport
from specie.wallet.engine.offline import Offline, Settlement
from specie.wallet.engine.targets import Rebalance, Targets
from specie.wallet.engine.transfer import Transfers
from specie.wallet.history import HistoryEntry
from specie.wallet.holding import Balance, MintView, SentToken, WalletMeltQuote, WalletMintQuote
from specie.wallet.lock import HTLC, P2PK
from specie.wallet.offline import OfflinePolicy, Risk, Unsettled
from specie.wallet.operation import Operation
from specie.wallet.placement import Advice, Leaving, MintHealth, Reason, WatchPolicy
from specie.wallet.ports import MintClient, MintClients, WalletStore
from specie.wallet.retry import RetryPolicy
from specie.wallet.settings import WalletSettings
from specie.wallet.target import Holding, Move, Target
from specie.wallet.transfer import Transfer, TransferQuote, TransferState

__all__ = [
    "HTLC",
    "P2PK",
    "Advice",
    "Balance",
    "CheckReport",
    "Departure",
    "Dust",
    "Exits",
    "HistoryEntry",
    "Holding",
    "Leaving",
    "MintClient",
    "MintClients",
    "MintHealth",
    "MintView",
    "Move",
    "Offline",
    "OfflinePolicy",
    "Operation",
    "Payment",
    "Progress",
    "Reason",
    "Rebalance",
    "Receipt",
    "Restored",
    "ResumeReport",
    "RetryPolicy",
    "Risk",
    "SentToken",
    "Settlement",
    "Stuck",
    "Target",
    "Targets",
    "Transfer",
    "TransferQuote",
    "TransferState",
    "Transfers",
    "Unsettled",
    "Wallet",
    "WalletMeltQuote",
    "WalletMintQuote",
    "WalletSettings",
    "WalletStore",
    "WatchPolicy",
    "WatchReport",
]
