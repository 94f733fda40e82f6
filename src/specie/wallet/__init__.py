"""The wallet SDK: hold and spend ecash. Entry: `Wallet`; nobody else holds proofs."""

from specie.wallet.auth import AuthStatus, DeviceCode, LoginOffer
from specie.wallet.auth_ports import TokenStore
from specie.wallet.engine import CheckReport, Payment, Progress, Receipt, Restored, ResumeReport, Wallet, WalletAuth
from specie.wallet.history import HistoryEntry
from specie.wallet.holding import Balance, MintView, SentToken, WalletMeltQuote, WalletMintQuote
from specie.wallet.lock import HTLC, P2PK
from specie.wallet.operation import Operation
from specie.wallet.ports import MintClient, MintClients, WalletStore
from specie.wallet.retry import RetryPolicy
from specie.wallet.settings import WalletSettings

__all__ = [
    "HTLC",
    "P2PK",
    "AuthStatus",
    "Balance",
    "CheckReport",
    "DeviceCode",
    "HistoryEntry",
    "LoginOffer",
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
    "TokenStore",
    "Wallet",
    "WalletAuth",
    "WalletMeltQuote",
    "WalletMintQuote",
    "WalletSettings",
    "WalletStore",
]
