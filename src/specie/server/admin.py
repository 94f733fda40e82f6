"""The operator's JSON API. It trusts whoever can reach it, so it is served on a 0600 unix socket and never on TCP.

Quote ids are shown shortened even here: whoever holds one whole can look at a wallet's business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from specie.ecash.keyset import Keyset
from specie.kernel.errors import MalformedError, RefusedError
from specie.ledger import Books
from specie.mint import MeltRecord, MintRecord
from specie.server.admin_audit import AuditOperator, recorded_request
from specie.server.admin_config import ConfigOperator
from specie.server.admin_liabilities import LiabilityOperator
from specie.server.errors import answer_error
from specie.server.ports import PlayChainActions, ServerContext

__all__ = ["build_admin"]

_MAX_BODY_BYTES = 65_536
_MAX_QUOTES = 1000

T = TypeVar("T")


class _Rotate(msgspec.Struct, forbid_unknown_fields=True):
    unit: str = "sat"
    input_fee_ppk: int | None = None
    final_expiry: int | None = None
    home: str | None = None


class _Backup(msgspec.Struct, forbid_unknown_fields=True):
    path: str


class _Settle(msgspec.Struct, forbid_unknown_fields=True):
    request: str
    amount_msat: int | None = None


class _Mine(msgspec.Struct, forbid_unknown_fields=True):
    blocks: int = 1


class _Reorganise(msgspec.Struct, forbid_unknown_fields=True):
    depth: int = 1
    drop: str | None = None


class _Prune(msgspec.Struct, forbid_unknown_fields=True):
    grace_s: int
    act: bool = False
    cursor: str | None = None


class _Replace(msgspec.Struct, forbid_unknown_fields=True):
    txid: str
    paid: bool = True


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


async def _read(request: Request, kind: type[T]) -> T:
    chunks: list[bytes] = []
    async for chunk in request.stream():
        chunks.append(chunk)
        if sum(map(len, chunks)) > _MAX_BODY_BYTES:
            raise MalformedError("the body is too long")
    try:
        return msgspec.json.decode(b"".join(chunks) or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise MalformedError(str(error)) from None


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", "20")
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= _MAX_QUOTES:
        raise MalformedError(f"limit must be from 1 to {_MAX_QUOTES}")
    return int(text)


class _Operator:
    """The handlers; one for each thing an operator may ask."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context

    async def health(self, request: Request) -> Response:
        return _json(await self._context.health.report())

    async def keysets(self, request: Request) -> Response:
        books = await self._context.mint.books()
        mint = self._context.mint
        return _json({"keysets": [_keyset(one, books) | {"home": mint.keyset_home(one.id)} for one in mint.keysets()]})

    async def rotate(self, request: Request) -> Response:
        asked = await _read(request, _Rotate)
        mint = self._context.mint
        keyset = await mint.rotate_keyset(
            asked.unit, input_fee_ppk=asked.input_fee_ppk, final_expiry=asked.final_expiry, home=asked.home
        )
        return _json(_keyset(keyset, await mint.books()) | {"home": mint.keyset_home(keyset.id)})

    async def quotes(self, request: Request) -> Response:
        limit = _limit(request)
        mint = self._context.mint
        minted, melted = await mint.recent_mint_quotes(limit), await mint.recent_melt_quotes(limit)
        records: list[MintRecord | MeltRecord] = [*minted, *melted]
        records.sort(key=attrgetter("created_at"), reverse=True)
        return _json({"quotes": [_quote(record) for record in records[:limit]]})

    async def books(self, request: Request) -> Response:
        return _json(_books(await self._context.mint.books()))

    async def audit(self, request: Request) -> Response:
        audited = await self._context.mint.audit()
        return _json({"balanced": True} | _books(audited))

    async def prune(self, request: Request) -> Response:
        asked = await _read(request, _Prune)
        pruning = self._context.mint.pruning
        if pruning is None:
            raise RefusedError("this bank's store cannot drop rows")
        expired = pruning.expired(asked.grace_s)
        step = await pruning.step(grace_s=asked.grace_s, act=asked.act, cursor=asked.cursor)
        rows = [
            {"keyset": keyset, "side": side.value, "count": gone.count, "total": gone.total}
            for (side, keyset), gone in step.found.items()
        ]
        return _json({"expired": expired, "rows": rows, "cursor": step.cursor})

    async def backup(self, request: Request) -> Response:
        asked = await _read(request, _Backup)
        action = self._context.operator.backup
        if action is None:
            raise RefusedError("this bank's store has backup tools of its own")
        target = Path(asked.path)
        if not target.is_absolute():
            raise MalformedError("path must be absolute")
        await action(target)
        return _json({"path": str(target)})

    async def settle(self, request: Request) -> Response:
        asked = await _read(request, _Settle)
        action = self._context.operator.settle
        if action is None:
            raise RefusedError("this bank has no play rail")
        await action(asked.request, asked.amount_msat)
        return _json({"settled": True})

    def _chain(self) -> PlayChainActions:
        chain = self._context.operator.chain
        if chain is None:
            raise RefusedError("this bank has no on-chain play rail")
        return chain

    async def mine(self, request: Request) -> Response:
        asked = await _read(request, _Mine)
        return _json({"height": await self._chain().mine(asked.blocks)})

    async def reorganise(self, request: Request) -> Response:
        asked = await _read(request, _Reorganise)
        return _json({"withdrawn": await self._chain().reorganise(asked.depth, drop=asked.drop)})

    async def replace(self, request: Request) -> Response:
        asked = await _read(request, _Replace)
        return _json({"txid": await self._chain().replace(asked.txid, paid=asked.paid)})

    async def workers(self, request: Request) -> Response:
        found = self._context.operator.workers
        if found is None:
            return _json({"count": 1, "generation": 0})
        return _json({"count": found.count, "generation": found.generation})

    async def restart(self, request: Request) -> Response:
        found = self._context.operator.workers
        if found is None:
            raise RefusedError("this bank is one process: stop it and start it again (server.workers makes several)")
        found.restart()
        return _json({"count": found.count, "generation": found.generation})

    async def stop(self, request: Request) -> Response:
        action = self._context.operator.stop
        if action is None:
            raise RefusedError("this bank is stopped by the program it runs in")
        action()
        return _json({"stopping": True})


def _keyset(keyset: Keyset, books: Books) -> dict[str, Any]:
    return {
        "id": keyset.id,
        "unit": keyset.unit,
        "active": keyset.active,
        "input_fee_ppk": keyset.input_fee_ppk,
        "final_expiry": keyset.final_expiry,
        "issued": books.issued(keyset.id, keyset.unit),
        "redeemed": books.redeemed(keyset.id, keyset.unit),
        "outstanding": books.outstanding(keyset.id, keyset.unit),
    }


def _quote(record: MintRecord | MeltRecord) -> dict[str, Any]:
    return {
        "quote": f"…{record.quote[-6:]}",
        "direction": "in" if isinstance(record, MintRecord) else "out",
        "method": record.method,
        "rail": record.rail,
        "unit": record.unit,
        "amount": record.amount_paid if isinstance(record, MintRecord) and record.amount is None else record.amount,
        "state": record.public().state.value,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "expiry": record.expiry,
    }


def _books(books: Books) -> dict[str, Any]:
    return {
        "units": [
            {
                "unit": unit,
                "assets": books.total("asset", unit),
                "liabilities": books.total("liability", unit),
                "income": books.total("income", unit),
                "expense": books.total("expense", unit),
                "outstanding": sum(books.outstanding(keyset_id, unit) for keyset_id in books.keysets(unit)),
            }
            for unit in books.units()
        ],
        "accounts": [
            {"account": account, "unit": unit, "balance": amount} for (account, unit), amount in sorted(books.balances.items())
        ],
    }


def build_admin(context: ServerContext) -> Starlette:
    """The operator's ASGI application; give it to `run.serve` as `admin` and to nothing else."""
    operator = _Operator(context)
    liabilities = LiabilityOperator(context)
    audit = AuditOperator(context)
    config = ConfigOperator(context)

    def guarded(name: str, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            context.metrics.count("admin_request", route=name)
            if request.method == "POST":
                context.metrics.event("operator", action=name)
            try:
                async with recorded_request(context.audit, name, request) as recorded:
                    return await handler(recorded)
            except Exception as error:  # a face: every error becomes an answer
                answer = answer_error(error, context.metrics, f"admin{name}", context.entropy.bytes(6).hex())
                headers = {key.decode(): value.decode() for key, value in answer.headers}
                return Response(answer.body, answer.status, headers, media_type="application/json")

        return endpoint

    table: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
        ("GET", "/health", operator.health),
        ("GET", "/keysets", operator.keysets),
        ("POST", "/keysets/rotate", operator.rotate),
        ("GET", "/quotes", operator.quotes),
        ("GET", "/books", operator.books),
        ("POST", "/audit", operator.audit),
        ("GET", "/audit/records", audit.records),
        ("GET", "/audit/checkpoints", audit.checkpoints),
        ("GET", "/audit/head", audit.head),
        ("POST", "/audit/checkpoint", audit.checkpoint),
        ("GET", "/epochs", liabilities.epochs),
        ("POST", "/epochs/close", liabilities.close),
        ("POST", "/epochs/audit", liabilities.audit),
        ("GET", "/epochs/prove", liabilities.prove),
        ("POST", "/prune", operator.prune),
        ("POST", "/backup", operator.backup),
        ("POST", "/play/settle", operator.settle),
        ("POST", "/play/mine", operator.mine),
        ("POST", "/play/reorganise", operator.reorganise),
        ("POST", "/play/replace", operator.replace),
        ("GET", "/config", config.running),
        ("GET", "/config/revisions", config.revisions),
        ("GET", "/config/revision", config.revision),
        ("POST", "/config/check", config.check),
        ("POST", "/config/apply", config.apply),
        ("POST", "/config/rollback", config.rollback),
        ("GET", "/workers", operator.workers),
        ("POST", "/restart", operator.restart),
        ("POST", "/stop", operator.stop),
    ]
    return Starlette(routes=[Route(path, guarded(path, handler), methods=[method]) for method, path, handler in table])
