"""The wallet SDK: hold and spend ecash. Entry: `Wallet`; nobody else holds proofs."""

from specie.wallet.engine import CheckReport, Payment, Progress, Receipt, Restored, ResumeReport, Wallet
from specie.wallet.engine.deposits import DepositClaim
from specie.wallet.errors import LiabilitiesBrokenError
from specie.wallet.history import HistoryEntry
from specie.wallet.holding import Balance, MintView, SentToken, WalletMeltQuote, WalletMintQuote
from specie.wallet.liabilities import KeptEvidence, LiabilityFault, LiabilityReport
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
    "DepositClaim",
    "HistoryEntry",
    "KeptEvidence",
    "LiabilitiesBrokenError",
    "LiabilityFault",
    "LiabilityReport",
    "MintClient",
    "MintClients",
    "MintView",
    "Operation",
    "Payment",
    "Progress",
    "Receipt",
    "Restored",
    "ResumeReport",
    "RetryPolicy",
    "SentToken",
    "Wallet",
    "WalletMeltQuote",
    "WalletMintQuote",
    "WalletSettings",
    "WalletStore",
]
