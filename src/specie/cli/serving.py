"""One bank behind its faces: an opened `app.bank.Bank` joined with health, metrics and the operator's actions.

Both a running bank (`specie up`) and one opened for a single question (`specie mint ...` where none runs) are built here,
so that an operator's command does the same in both.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, runtime_checkable

from specie._version import __version__
from specie.app.bank import Bank
from specie.app.system import SystemClock, SystemEntropy
from specie.cli.reloading import remembered
from specie.kernel.errors import MalformedError, RefusedError
from specie.keys import SealKind, Signer
from specie.lightning import decode_invoice
from specie.ops.health import Health, rail_check, storage_check
from specie.ops.metrics import Metrics
from specie.server.ports import (
    BankFacts,
    ConfigActions,
    OperatorActions,
    PlayChainActions,
    RailFacts,
    ServerContext,
    WorkerActions,
)

__all__ = ["bank_facts", "payment_id_of", "sealing_notice", "server_context"]


@runtime_checkable
class _Settling(Protocol):
    """A rail that can be told to pay one of its own requests: every play rail. BOLT 11's takes no amount."""

    async def settle(self, *request_and_amount: Any) -> object: ...


@runtime_checkable
class _Chain(Protocol):
    """A rail that has a play chain."""

    async def mine(self, blocks: int = 1) -> int: ...

    async def reorganise(self, depth: int, *, drop: str | None = None) -> int: ...

    async def replace(self, txid: str, *, paid: bool = True) -> str | None: ...


@runtime_checkable
class _Away(Protocol):
    """A signer that is somewhere else, and may not be reached."""

    async def health(self) -> dict[str, object]: ...


@runtime_checkable
class _Several(Protocol):
    """A signer in several places, one of which may be away unnoticed."""

    async def health_of_all(self) -> dict[str, object]: ...


@runtime_checkable
class _Homes(Protocol):
    """A signer whose keysets may live elsewhere, over a main one."""

    main: Signer

    async def health_of_homes(self) -> dict[str, object]: ...


def payment_id_of(request: str) -> str:
    """The payment hash (64 hex characters) of a BOLT 11 invoice, or of itself. RefusedError for anything else."""
    text = request.strip().lower()
    if len(text) == 64 and all(char in "0123456789abcdef" for char in text):
        return text
    try:
        return decode_invoice(text.removeprefix("lightning:")).payment_hash.hex()
    except MalformedError as error:
        raise RefusedError(f"neither an invoice nor a payment hash: {error.detail}") from None


def sealing_notice(bank: Bank) -> str:
    """What people must be told of how the keys are sealed; empty where they are sealed by something of the operator's."""
    if bank.sealed is None or bank.sealed.kind is not SealKind.PLAY_KEY:
        return ""
    return (
        f"The keys of this bank are sealed by a random key in {bank.sealed.where}. That is good enough for play money and for"
        " nothing else: for real money give --passphrase-file or --keyring."
    )


def bank_facts(bank: Bank) -> BankFacts:
    """What the start page and the operator are told."""
    return BankFacts(
        version=__version__,
        rails=tuple(RailFacts(rail.name, rail.method, rail.play) for rail in bank.rails),
        sealing_notice=sealing_notice(bank),
        public_url=bank.settings.server.public_url,
    )


def _settle(bank: Bank) -> Callable[[str, int | None], Awaitable[None]] | None:
    rails: list[Any] = [rail for rail in bank.rails if rail.play and isinstance(rail, _Settling)]
    invoices = [rail for rail in rails if rail.method == "bolt11"]
    others = [rail for rail in rails if rail.method != "bolt11"]
    if not invoices and not others:
        return None

    async def settle(request: str, amount_msat: int | None = None) -> None:
        text = request.strip()
        for rail in others:
            try:
                await rail.settle(text, amount_msat)
            except RefusedError:
                continue
            return
        if not invoices:
            raise RefusedError("no play rail of this bank has issued it")
        await invoices[0].settle(payment_id_of(text))

    return settle


def _chain(bank: Bank) -> PlayChainActions | None:
    for rail in bank.rails:
        if rail.play and isinstance(rail, _Chain):
            return PlayChainActions(mine=rail.mine, reorganise=rail.reorganise, replace=rail.replace)
    return None


def server_context(
    bank: Bank,
    metrics: Metrics,
    stop: Callable[[], None] | None = None,
    workers: WorkerActions | None = None,
    config: ConfigActions | None = None,
) -> ServerContext:
    """Everything the faces of `bank` are built over; `stop` begins its graceful stop, `workers` if it is one of several.

    `config` is how its settings are seen and changed; unless given, what the store remembers of them can be seen.
    """
    clock = SystemClock()
    health = Health(metrics, clock.now, clock.monotonic)
    health.add("store", storage_check(bank.storage))
    for rail in bank.rails:
        health.add(f"rail {rail.name}", rail_check(rail))
    signer = bank.signer
    if isinstance(signer, _Homes):
        health.add("keys in a token", signer.health_of_homes, required=False)
        signer = signer.main
    if isinstance(signer, _Away):
        health.add("signer", signer.health)
    if isinstance(signer, _Several):
        health.add("every signer", signer.health_of_all, required=False)
    embedded = bank.settings.store.dsn is None
    return ServerContext(
        mint=bank.mint,
        facts=bank_facts(bank),
        settings=bank.settings.server,
        limits=bank.settings.limits,
        metrics=metrics,
        health=health,
        clock=clock,
        entropy=SystemEntropy(),
        operator=OperatorActions(
            backup=bank.storage.backup if embedded else None,
            settle=_settle(bank),
            stop=stop,
            workers=workers,
            chain=_chain(bank),
            config=config or remembered(bank),
        ),
        auth=bank.mint.auth,
        audit=bank.audit,
    )
