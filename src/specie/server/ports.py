"""What the HTTP face needs from the bank behind it. `specie.mint.Mint` is a `MintFace`; `app` fills in the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from specie.audit import AuditLog
from specie.ecash import (
    BlindedMessage,
    BlindSignature,
    Keyset,
    MeltQuote,
    MeltQuoteRequest,
    MeltRequest,
    MintBatchRequest,
    MintInfo,
    MintQuote,
    MintQuoteRequest,
    MintRequest,
    ProofState,
    ProtectedEndpoint,
    QuoteLookup,
    QuotePage,
    SwapRequest,
)
from specie.kernel import Clock, Entropy, Limits, RailHealth
from specie.ledger import Books
from specie.mint import Liabilities, MeltRecord, MintRecord, Pruning
from specie.ops.health import Health
from specie.ops.metrics import Metrics
from specie.ops.revision import Revision
from specie.ops.settings import ServerSettings

__all__ = [
    "AuthFace",
    "BankFacts",
    "Change",
    "ConfigActions",
    "MintFace",
    "OperatorActions",
    "PlayChainActions",
    "RailFacts",
    "Reorganise",
    "Replace",
    "ServerContext",
    "WorkerActions",
]


class Change(Protocol):
    """Something wallets may wait for has changed. Only its name travels; the new state is read when it is told."""

    @property
    def kind(self) -> str:
        """`mint_quote`, `melt_quote` or `proof_state`."""
        ...

    @property
    def key(self) -> str:
        """The quote's id, or Y in lower-case hex."""
        ...


class MintFace(Protocol):
    """The mint's verbs. Each raises only leaves of the error tree."""

    def info(self) -> MintInfo: ...

    def keysets(self) -> Sequence[Keyset]: ...

    def keyset(self, keyset_id: str) -> Keyset: ...

    async def request_mint_quote(self, request: MintQuoteRequest) -> MintQuote: ...

    async def mint_quote(self, quote_id: str, method: str) -> MintQuote: ...

    async def find_mint_quotes(self, request: QuoteLookup) -> QuotePage: ...

    @property
    def liabilities(self) -> Liabilities | None: ...

    @property
    def pruning(self) -> Pruning | None: ...

    async def issue(self, request: MintRequest) -> Sequence[BlindSignature]: ...

    async def check_mint_quotes(self, quotes: Sequence[str], method: str) -> Sequence[MintQuote]: ...

    async def issue_batch(self, request: MintBatchRequest) -> Sequence[BlindSignature]: ...

    async def swap(self, request: SwapRequest) -> Sequence[BlindSignature]: ...

    async def request_melt_quote(self, request: MeltQuoteRequest) -> MeltQuote: ...

    async def melt_quote(self, quote_id: str, method: str) -> MeltQuote: ...

    async def melt(self, request: MeltRequest) -> MeltQuote: ...

    async def check_state(self, ys: Sequence[bytes]) -> Sequence[ProofState]: ...

    async def restore(self, outputs: Sequence[BlindedMessage]) -> Sequence[tuple[BlindedMessage, BlindSignature]]: ...

    def changes(self) -> AsyncIterator[Change]: ...

    async def rotate_keyset(
        self, unit: str, *, input_fee_ppk: int | None = None, final_expiry: int | None = None, home: str | None = None
    ) -> Keyset: ...

    def keyset_home(self, keyset_id: str) -> str: ...

    async def recent_mint_quotes(self, limit: int = 20) -> Sequence[MintRecord]: ...

    async def recent_melt_quotes(self, limit: int = 20) -> Sequence[MeltRecord]: ...

    async def rail_health(self) -> Mapping[str, RailHealth]: ...

    async def books(self) -> Books: ...

    async def audit(self) -> Books: ...


class AuthFace(Protocol):
    """Who may use the mint (NUT-21, NUT-22). `specie.mint.Auth` is one."""

    @property
    def clear_endpoints(self) -> Sequence[ProtectedEndpoint]:
        """What needs a clear token."""
        ...

    @property
    def blind_endpoints(self) -> Sequence[ProtectedEndpoint]:
        """What needs a blind token."""
        ...

    async def clear(self, token: str) -> str: ...

    def spending(self, text: str) -> AbstractAsyncContextManager[None]: ...

    def keysets(self) -> Sequence[Keyset]: ...

    def keyset(self, keyset_id: str) -> Keyset: ...

    async def mint(self, outputs: Sequence[BlindedMessage], subject: str) -> Sequence[BlindSignature]: ...


@dataclass(frozen=True, slots=True)
class RailFacts:
    """A payment rail as people are told of it."""

    name: str
    method: str
    play: bool


@dataclass(frozen=True, slots=True)
class BankFacts:
    """What the start page and the operator are told beside the mint's own info."""

    version: str
    rails: tuple[RailFacts, ...]
    sealing_notice: str = ""
    """Shown where a random sealing key outside the data directory is used; empty otherwise."""
    public_url: str = ""
    """URL of the mint for wallets; empty to take the one it was asked under."""

    @property
    def play(self) -> bool:
        """Whether any of its money is play money."""
        return any(rail.play for rail in self.rails)


class Reorganise(Protocol):
    """Undo the newest play blocks; how many arrivals were withdrawn."""

    async def __call__(self, depth: int, *, drop: str | None = None) -> int: ...


class Replace(Protocol):
    """Replace a play transaction that no block has; the other's id, None where it pays somebody else."""

    async def __call__(self, txid: str, *, paid: bool = True) -> str | None: ...


@dataclass(frozen=True, slots=True)
class PlayChainActions:
    """What an operator may do to a chain of play blocks."""

    mine: Callable[[int], Awaitable[int]]
    """New blocks now; the height after them."""
    reorganise: Reorganise
    replace: Replace


@dataclass(frozen=True, slots=True)
class WorkerActions:
    """One of several processes of a bank, as its supervisor knows it, and what that supervisor may be asked."""

    count: int
    generation: int
    """How often this seat was taken, from 1. The operator's socket is the last to change hands in a restart."""
    restart: Callable[[], None]
    """Have every worker replaced, one after another."""


@dataclass(frozen=True, slots=True)
class OperatorActions:
    """Effects an operator may ask for through the unix socket. None where the bank cannot do it."""

    backup: Callable[[Path], Awaitable[None]] | None = None
    """Write a consistent copy of the store to a new file."""
    settle: Callable[[str, int | None], Awaitable[None]] | None = None
    """Have the play rail pay one of its own requests now, with an amount in millisatoshi where it names none."""
    stop: Callable[[], None] | None = None
    """Begin a graceful stop."""
    workers: WorkerActions | None = None
    """Ask whoever supervises this process."""
    chain: PlayChainActions | None = None
    """Move the chain of the on-chain play rail."""
    config: ConfigActions | None = None
    """See and change the settings."""


@dataclass(frozen=True, slots=True)
class ConfigActions:
    """What an operator may ask about the settings of a bank. `author` is who asks, as the history is to show it."""

    history: Callable[[int], Awaitable[Sequence[Revision]]]
    """The newest revisions of this bank, newest first."""
    find: Callable[[int], Awaitable[Revision | None]]
    """One revision by its number."""
    running: Callable[[], Awaitable[tuple[int | None, Mapping[str, str]]]]
    """What runs, or ran last: the newest revision's number, and every setting by its name, without secrets."""
    check: Callable[[Path | None], Awaitable[Mapping[str, object]]] | None = None
    """What a settings file (that of the bank unless given) would change. None where no bank runs."""
    apply: Callable[[str], Awaitable[Revision]] | None = None
    """Take the settings file now. None where no bank runs, or this one has several processes."""
    rollback: Callable[[int, str], Awaitable[Revision]] | None = None
    """Write and take the settings file of an earlier revision."""


@dataclass(slots=True, eq=False)
class ServerContext:
    """Everything the faces of one bank are built over. `settings` is replaced whole by `Front` while the bank runs."""

    mint: MintFace
    facts: BankFacts
    settings: ServerSettings
    limits: Limits
    metrics: Metrics
    health: Health
    clock: Clock
    entropy: Entropy
    operator: OperatorActions = field(default_factory=OperatorActions)
    auth: AuthFace | None = None
    """Who may use the mint; None for everybody."""
    audit: AuditLog | None = None
    """Where what an operator does is recorded; None for faces that stand alone, as in tests."""
