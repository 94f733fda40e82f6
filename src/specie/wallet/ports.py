"""What the wallet needs from outside: a mint to talk to, tables to remember in, and ways for payments to travel.

Besides these an engine takes the kernel's Clock, Entropy and Telemetry, a `storage.Storage` and a `keys.Signer`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from specie.wallet.paid import PaidStore
from specie.wallet.placement_ports import PlacementStore

if TYPE_CHECKING:
    from specie.ecash.info import MintInfo
    from specie.ecash.keyset import Keyset, KeysetInfo
    from specie.ecash.proof import BlindedMessage, BlindSignature, ProofState
    from specie.ecash.quote import MeltQuote, MeltQuoteRequest, MintQuote, MintQuoteRequest
    from specie.ecash.requests import NostrProfile
    from specie.storage.ports import Transaction
    from specie.wallet.history import HistoryEntry
    from specie.wallet.holding import (
        Balance,
        KnownKeyset,
        MintRecord,
        SentToken,
        SplitPayment,
        StoredProof,
        WalletMeltQuote,
        WalletMintQuote,
    )
    from specie.wallet.liabilities import CoinRecord, KeptEvidence, LoggedItem
    from specie.wallet.merge import Changes, Record, Tables
    from specie.wallet.operation import Operation
    from specie.wallet.request import RequestPayment, RequestReceipt, RequestRecord
    from specie.wallet.states import CoinState, OperationState, TokenState

__all__ = [
    "MintClient",
    "MintClients",
    "NostrMessage",
    "NostrRecord",
    "NostrRelays",
    "PaymentPost",
    "RequestStore",
    "Transports",
    "WalletStore",
]


class MintClient(Protocol):
    """One mint's API (NUT-01 to NUT-09, 15, 17, 20, 23, 25, 29, 30). Requests that move value are taken as the journal's bytes.

    Errors of every method: RefusedError (the leaf of its NUT code) where the mint refuses; PeerFaultError where its answer
    breaks the specification; UnavailableError where it was not reached, so nothing happened. `issue`, `issue_batch`, `swap`
    and `melt` raise UncertainError where the request may have arrived and no answer came. Nothing is retried here.
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

    async def mint_quotes(self, known: Sequence[MintQuote]) -> list[MintQuote]:
        """POST /v1/mint/quote/{method}/check: quotes of one method, in this order (NUT-29)."""
        ...

    async def issue_batch(self, method: str, request: bytes) -> list[BlindSignature]:
        """POST /v1/mint/{method}/batch (NUT-29)."""
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
        """One item for each news of a thing (NUT-17); `kind` is `{method}_mint_quote`, `{method}_melt_quote` or `proof_state`.

        News say that there is something to look at, not what: look with a GET. UnavailableError when the connection ends
        or cannot be had, UnsupportedError where the mint has none: poll then.
        """
        ...

    async def ask(self, verb: str, *path: str, content: bytes | None = None, query: Mapping[str, int] | None = None) -> bytes:
        """A question of an optional part of the API, below /v1: the body of the answer, for the caller to read."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


MintClients = Callable[[str], MintClient]
"""Makes the client of a mint's normalised URL; the wallet closes what it made."""


class PaymentPost(Protocol):
    """Hands a payment over by HTTP POST (NUT-18). The address comes from a stranger: see the adapter for what it refuses."""

    async def post(self, url: str, body: bytes) -> None:
        """Deliver; on return the payee has answered that it took the payment.

        RefusedError for an address that is not gone to, and where the payee refuses the payment (with its words);
        UnavailableError where it was not reached; UncertainError where it may have arrived and no answer came.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass(frozen=True, slots=True)
class NostrMessage:
    """A private message (NIP-17) to one of our keys, decrypted, its signatures checked. `text` is hostile."""

    message_id: str
    ref: str
    """Our key that it was sent to, as the signer knows it."""
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class NostrRecord:
    """What relays keep under one of our keys: the newest `text` (None if there is none).

    `created_at`: Unix seconds, as the event says. `answered`: the relays that answered; `holding`: how many of them had it.
    """

    text: str | None = field(repr=False)
    created_at: int
    answered: tuple[str, ...]
    holding: int


class NostrRelays(Protocol):
    """Nostr relays (NIP-01), for private messages (NIP-17) and for records that only we can read (NIP-78).

    Keys are named as the signer names them; none leaves it. Relays are strangers: what they send is verified, and bounded
    in size and number. UnavailableError where no relay answers.
    """

    async def send(self, to: NostrProfile, text: str) -> int:
        """Send a private message from a key made for it alone; how many relays took it, at least one."""
        ...

    def messages(
        self, refs: Sequence[str], relays: Sequence[str], *, since: int, follow: bool
    ) -> AsyncGenerator[NostrMessage, None]:
        """Messages to our keys that relays hold, from `since` (Unix seconds) on; with `follow` also those yet to come."""
        ...

    async def read_record(self, ref: str, relays: Sequence[str], *, kind: int, name: str) -> NostrRecord:
        """The newest addressable event `kind` with tag `d` = `name` of our key, decrypted (NIP-44)."""
        ...

    async def write_record(self, ref: str, relays: Sequence[str], text: str, *, kind: int, name: str, at: int) -> int:
        """Replace the event, encrypted to ourselves and dated `at` (Unix seconds); how many relays took it, at least one."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass(frozen=True, slots=True)
class Transports:
    """How payments of requests travel; what is None is not to be had. `nostr` is made on first use, since it costs start-up."""

    post: PaymentPost | None = None
    nostr: Callable[[], NostrRelays] | None = None


class RequestStore(Protocol):
    """The wallet's tables of payment requests. Every method works inside the caller's transaction."""

    async def add_request(self, tx: Transaction, record: RequestRecord) -> bool:
        """Insert a request of ours; False if the id is taken."""
        ...

    async def requests(self, tx: Transaction) -> list[RequestRecord]:
        """All requests of ours, newest first."""
        ...

    async def request(self, tx: Transaction, request_id: str) -> RequestRecord | None:
        """One request of ours."""
        ...

    async def cancel_request(self, tx: Transaction, request_id: str, now: int) -> None:
        """Take no more payments for a request; the first time counts."""
        ...

    async def add_receipt(self, tx: Transaction, receipt: RequestReceipt, *, only: bool) -> bool:
        """Claim a request for these coins; False, and nothing written, if they, or (`only`) the request, are claimed already.

        A claim whose operation FAILED is none.
        """
        ...

    async def receipts(self, tx: Transaction, request_id: str) -> list[RequestReceipt]:
        """What was taken for a request, oldest first; claims whose operation FAILED are left out."""
        ...

    async def save_payment(self, tx: Transaction, payment: RequestPayment, fingerprint: bytes, *, only: bool) -> bool:
        """Insert a payment, or note the operation that makes its coins now; False if (`only`) another one holds the claim."""
        ...

    async def release_payment(self, tx: Transaction, payment_id: str) -> None:
        """Give up the claim of a payment that came to nothing, or was taken back."""
        ...

    async def note_delivery(self, tx: Transaction, payment_id: str, *, by: str | None, at: int | None, error: str) -> None:
        """Remember how a delivery went; one that was delivered stays delivered."""
        ...

    async def payments(self, tx: Transaction, fingerprint: bytes | None = None) -> list[RequestPayment]:
        """Payments as stored, oldest first: all, or those of one request. State and token are not filled in."""
        ...


class WalletStore(RequestStore, PaidStore, PlacementStore, Protocol):
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

    async def key_index(self, tx: Transaction, purpose: str) -> int:
        """The index that would be taken next; 0 if none was."""
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

    async def balances(self, tx: Transaction, *, mint: str | None = None, unit: str | None = None) -> list[Balance]:
        """What is held, filtered, by mint and unit: a line for each that has any coin but SPENT ones."""
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
        """Journal an operation whole. False if a quote of it has an OPEN operation already: the caller then raises to undo."""
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

    async def save_mint_quote(self, tx: Transaction, quote: WalletMintQuote, *, older: bool = False) -> None:
        """Insert, or renew amounts unless a later `updated_at` is stored; with `older` even then."""
        ...

    async def mint_quotes(self, tx: Transaction) -> list[WalletMintQuote]:
        """All quotes, newest first."""
        ...

    async def mint_quote(self, tx: Transaction, mint: str, quote_id: str) -> WalletMintQuote | None:
        """One quote."""
        ...

    async def save_melt_quote(self, tx: Transaction, quote: WalletMeltQuote) -> None:
        """Insert, or renew state, preimage, outpoint and chosen option (with its reserve)."""
        ...

    async def melt_quote(self, tx: Transaction, mint: str, quote_id: str) -> WalletMeltQuote | None:
        """One quote."""
        ...

    async def melt_quotes(self, tx: Transaction) -> list[WalletMeltQuote]:
        """All quotes, newest first."""
        ...

    async def invoice_states(self, tx: Transaction, request: str) -> set[OperationState]:
        """States of the operations that pay, or paid, this very request, in any case of letters."""
        ...

    async def add_payment(self, tx: Transaction, payment: SplitPayment) -> None:
        """Insert a payment by several mints; its parts' operations are journalled beside it."""
        ...

    async def split_payments(self, tx: Transaction) -> list[SplitPayment]:
        """Payments by several mints, newest first."""
        ...

    async def payment_of(self, tx: Transaction, operation_id: str) -> SplitPayment | None:
        """The payment by several mints that an operation pays a part of; None for any other operation."""
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

    async def save_secret(self, tx: Transaction, name: str, sealed: bytes, now: int) -> None:
        """Keep a secret that the signer has sealed, in place of one of the same name."""
        ...

    async def secret(self, tx: Transaction, name: str) -> bytes | None:
        """A sealed secret, or None."""
        ...

    async def delete_secret(self, tx: Transaction, name: str) -> None:
        """Forget a sealed secret; nothing happens where there is none."""
        ...

    # whole tables, for backups and merging

    async def schema(self, tx: Transaction) -> dict[str, int]:
        """The version of each room's tables in this store."""
        ...

    async def tables(self, tx: Transaction) -> dict[str, list[Record]]:
        """All rows of all tables of the wallet."""
        ...

    async def fill(self, tx: Transaction, tables: Tables) -> None:
        """Insert all rows into empty tables. MalformedError for a table or column that this store does not have."""
        ...

    async def write(self, tx: Transaction, changes: Mapping[str, Changes]) -> None:
        """Carry out what `merge.merge_tables` found."""
        ...

    async def add_history(self, tx: Transaction, entry: HistoryEntry) -> None:
        """Append a line; one with the same id is left as it is."""
        ...

    async def history(self, tx: Transaction, *, before: str | None, limit: int) -> list[HistoryEntry]:
        """Lines, newest first, those with an id below `before` if given."""
        ...

    # what mints owe

    async def coin_records(self, tx: Transaction, mint: str) -> list[CoinRecord]:
        """Every coin of a mint, spent ones too, with its times."""
        ...

    async def liability_view(self, tx: Transaction, mint: str) -> bytes | None:
        """How far a mint's epochs were checked, as it was saved."""
        ...

    async def save_liability_view(self, tx: Transaction, mint: str, view: bytes) -> None:
        """Remember how far a mint's epochs were checked."""
        ...

    async def logged_items(self, tx: Transaction, mint: str) -> list[LoggedItem]:
        """Our items that were seen in a mint's logs."""
        ...

    async def add_logged_items(self, tx: Transaction, mint: str, items: Iterable[LoggedItem]) -> None:
        """Remember items that were seen; those known already are left as they are."""
        ...

    async def add_evidence(self, tx: Transaction, kept: KeptEvidence) -> None:
        """Keep evidence; the same is kept once."""
        ...

    async def evidence(self, tx: Transaction) -> list[KeptEvidence]:
        """All evidence, oldest first."""
        ...
