"""What the wallet needs from outside: a mint to talk to and tables to remember in.

Besides these an engine takes the kernel's Clock, Entropy and Telemetry, a `storage.Storage` and a `keys.Signer`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from typing import Protocol

from specie.ecash.info import MintInfo
from specie.ecash.keyset import Keyset, KeysetInfo
from specie.ecash.proof import BlindedMessage, BlindSignature, ProofState
from specie.ecash.quote import MeltQuote, MeltQuoteRequest, MintQuote, MintQuoteRequest
from specie.storage.ports import Transaction
from specie.wallet.history import HistoryEntry
from specie.wallet.holding import KnownKeyset, MintRecord, SentToken, StoredProof, WalletMeltQuote, WalletMintQuote
from specie.wallet.operation import Operation
from specie.wallet.placement_ports import PlacementStore
from specie.wallet.states import CoinState, OperationState, TokenState

__all__ = ["MintClient", "MintClients", "WalletStore"]


class MintClient(Protocol):
    """One mint's API (NUT-01 to NUT-09, 17, 20, 23). Requests that move value are taken as the journal's bytes.

    Errors of every method: RefusedError (the leaf of its NUT code) where the mint refuses; PeerFaultError where its answer
    breaks the specification; UnavailableError where it was not reached, so nothing happened. `issue`, `swap` and `melt`
    raise UncertainError where the request may have arrived and no answer came. Nothing is retried here.
    """

    @property
    def url(self) -> str:
        """Normalised URL of the mint."""
        ...

    async def info(self) -> MintInfo:
        """GET /v1/info (NUT-06)."""
        ...

    async def keysets(self) -> list[KeysetInfo]:
        """GET /v1/keysets: all of them (NUT-02). Ids are not verified yet."""
        ...

    async def keys(self, keyset_id: str) -> Keyset:
        """GET /v1/keys/{id}: one keyset with its keys (NUT-01). Its id is not verified yet."""
        ...

    async def request_mint_quote(self, request: MintQuoteRequest) -> MintQuote:
        """POST /v1/mint/quote/{method} (NUT-04). A lost answer costs no more than an unpaid quote: UnavailableError."""
        ...

    async def mint_quote(self, known: MintQuote) -> MintQuote:
        """GET /v1/mint/quote/{method}/{id}. What an old mint leaves out is taken from `known`."""
        ...

    async def issue(self, method: str, request: bytes) -> list[BlindSignature]:
        """POST /v1/mint/{method} (NUT-04)."""
        ...

    async def swap(self, request: bytes) -> list[BlindSignature]:
        """POST /v1/swap (NUT-03)."""
        ...

    async def request_melt_quote(self, request: MeltQuoteRequest) -> MeltQuote:
        """POST /v1/melt/quote/{method} (NUT-05). A lost answer costs nothing: UnavailableError."""
        ...

    async def melt_quote(self, known: MeltQuote) -> MeltQuote:
        """GET /v1/melt/quote/{method}/{id}. What an old mint leaves out is taken from `known`."""
        ...

    async def melt(self, known: MeltQuote, request: bytes) -> MeltQuote:
        """POST /v1/melt/{method} (NUT-05); may take as long as a payment does."""
        ...

    async def check_state(self, ys: Sequence[bytes]) -> list[ProofState]:
        """POST /v1/checkstate (NUT-07): one state for each Y, in order."""
        ...

    async def restore(self, outputs: Sequence[BlindedMessage]) -> list[tuple[BlindedMessage, BlindSignature]]:
        """POST /v1/restore (NUT-09): the outputs that the mint has signed, with the signatures. Match them by B_."""
        ...

    def watch(self, kind: str, name: str) -> AsyncIterator[None]:
        """One item for each news of a thing (NUT-17); `kind` is `bolt11_mint_quote`, `bolt11_melt_quote` or `proof_state`.

        News say that there is something to look at, not what: look with a GET. UnavailableError when the connection ends
        or cannot be had, UnsupportedError where the mint has none: poll then.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


MintClients = Callable[[str], MintClient]
"""Makes the client of a mint's normalised URL; the wallet closes what it made."""


class WalletStore(PlacementStore, Protocol):
    """The wallet's tables. Every method works inside the caller's transaction and commits nothing itself."""

    # mints and keysets

    async def save_mint(self, tx: Transaction, mint: MintRecord) -> None:
        """Insert a mint, or renew its info and time."""
        ...

    async def mints(self, tx: Transaction) -> list[MintRecord]:
        """All mints, in the order they were added."""
        ...

    async def save_keyset(self, tx: Transaction, known: KnownKeyset, derivation: int | None) -> bool:
        """Insert a keyset, or renew `active`, `input_fee_ppk`, `final_expiry` and `listed` of the same mint's.

        False, and nothing written, if the id belongs to another mint, or if `derivation` (the number that a version 00 id
        becomes in NUT-13) belongs to another keyset.
        """
        ...

    async def mark_unlisted(self, tx: Transaction, mint: str, listed: Collection[str]) -> None:
        """Mark the mint's keysets whose id is not in `listed`; they are kept."""
        ...

    async def keysets(self, tx: Transaction, mint: str | None = None) -> list[KnownKeyset]:
        """All keysets with their keys, of one mint or of all."""
        ...

    # counters

    async def take_counters(self, tx: Transaction, mint: str, keyset_id: str, count: int) -> int:
        """Advance the NUT-13 counter of (mint, keyset) by `count`; the first of the taken numbers."""
        ...

    async def return_counters(self, tx: Transaction, mint: str, keyset_id: str, first: int, count: int) -> bool:
        """Undo `take_counters` for numbers that certainly never left; False, and no change, if others were taken since."""
        ...

    async def raise_counter(self, tx: Transaction, mint: str, keyset_id: str, at_least: int) -> None:
        """Make the next counter no less than `at_least`."""
        ...

    async def counter(self, tx: Transaction, mint: str, keyset_id: str) -> int:
        """The next counter that would be taken; 0 for a keyset that has none yet."""
        ...

    async def take_key_index(self, tx: Transaction, purpose: str) -> int:
        """Advance the index of keys of a purpose (`p2pk`, `quote`); the number taken."""
        ...

    async def save_key(self, tx: Transaction, purpose: str, index: int, public_key: bytes) -> None:
        """Remember the public key (33 bytes) of `{purpose}/{index}`; raises the purpose's next index beyond it."""
        ...

    async def keys(self, tx: Transaction, purpose: str) -> dict[bytes, int]:
        """Our public keys of a purpose, x-only (32 bytes), with their indices."""
        ...

    # coins

    async def add_proofs(self, tx: Transaction, proofs: Iterable[StoredProof], now: int) -> int:
        """Insert coins; those known by Y already are left as they are. The number inserted."""
        ...

    async def proofs(
        self, tx: Transaction, *, mint: str | None = None, unit: str | None = None, states: Collection[CoinState] = ()
    ) -> list[StoredProof]:
        """Coins, filtered; no `states` means all but SPENT."""
        ...

    async def proofs_by_y(self, tx: Transaction, ys: Sequence[bytes]) -> list[StoredProof]:
        """Those of the coins that are ours, in any state."""
        ...

    async def reserve(self, tx: Transaction, ys: Sequence[bytes], operation_id: str) -> bool:
        """UNSPENT to RESERVED for all, or False where any is not UNSPENT (the caller then raises to undo)."""
        ...

    async def release(self, tx: Transaction, operation_id: str) -> int:
        """RESERVED of this operation back to UNSPENT."""
        ...

    async def move_proofs(
        self,
        tx: Transaction,
        ys: Sequence[bytes],
        before: Collection[CoinState],
        after: CoinState,
        now: int,
        *,
        token: str | None = None,
    ) -> int:
        """Those of the coins in a state of `before` become `after`, with `token` if given; the number moved.

        Becoming UNSPENT clears operation and token.
        """
        ...

    # operations

    async def add_operation(self, tx: Transaction, operation: Operation) -> bool:
        """Journal an operation whole. False, and nothing written, if its quote has an OPEN operation already."""
        ...

    async def operation(self, tx: Transaction, operation_id: str) -> Operation | None:
        """One operation."""
        ...

    async def operations(self, tx: Transaction, states: Collection[OperationState]) -> list[Operation]:
        """Operations in these states, oldest first."""
        ...

    async def note_operation(self, tx: Transaction, operation_id: str, *, request: bytes | None, error: str, now: int) -> bool:
        """Change request bytes (if given) and error of an OPEN operation; False if it is OPEN no more."""
        ...

    async def close_operation(self, tx: Transaction, operation_id: str, state: OperationState, error: str, now: int) -> bool:
        """To DONE or FAILED as `states.OPERATION` allows, by compare-and-swap; else False. DONE forgets request and outputs."""
        ...

    # quotes, tokens, history

    async def save_mint_quote(self, tx: Transaction, quote: WalletMintQuote) -> None:
        """Insert, or renew amounts unless a later `updated_at` is stored."""
        ...

    async def mint_quotes(self, tx: Transaction) -> list[WalletMintQuote]:
        """All quotes, newest first."""
        ...

    async def mint_quote(self, tx: Transaction, mint: str, quote_id: str) -> WalletMintQuote | None:
        """One quote."""
        ...

    async def save_melt_quote(self, tx: Transaction, quote: WalletMeltQuote) -> None:
        """Insert, or renew state and preimage."""
        ...

    async def melt_quote(self, tx: Transaction, mint: str, quote_id: str) -> WalletMeltQuote | None:
        """One quote."""
        ...

    async def melt_quotes(self, tx: Transaction) -> list[WalletMeltQuote]:
        """All quotes, newest first."""
        ...

    async def add_token(self, tx: Transaction, token: SentToken) -> None:
        """Insert a sent token."""
        ...

    async def token(self, tx: Transaction, token_id: str) -> SentToken | None:
        """One token."""
        ...

    async def tokens(self, tx: Transaction, states: Collection[TokenState]) -> list[SentToken]:
        """Sent tokens in these states, oldest first."""
        ...

    async def close_token(self, tx: Transaction, token_id: str, state: TokenState) -> bool:
        """PENDING to CLAIMED or RECLAIMED; False if it was closed before."""
        ...

    async def add_history(self, tx: Transaction, entry: HistoryEntry) -> None:
        """Append a line; one with the same id is left as it is."""
        ...

    async def history(self, tx: Transaction, *, before: str | None, limit: int) -> list[HistoryEntry]:
        """Lines, newest first, those with an id below `before` if given."""
        ...
