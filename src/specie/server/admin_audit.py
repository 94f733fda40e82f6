"""The audit log behind the operator's socket: what is recorded of each verb, and the log itself to be read.

A verb that changes something is recorded before it is done and when it has ended. What of its body is recorded is named
here, for each route; a route that is not named is recorded by its path alone. Nothing else of a body reaches the log.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from specie.audit import AuditLog
from specie.audit.record import Scalar, checkpoint_text
from specie.kernel.errors import MalformedError, RefusedError
from specie.ops.redaction import redact_text
from specie.server.operator_peer import operator_name
from specie.server.ports import ServerContext

__all__ = ["AuditOperator", "recorded_request"]

_MAX_BODY_BYTES = 65_536
_MAX_ROWS = 1000

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class _Verb:
    name: str
    subject: str = ""
    """The member of the body that it is about."""
    details: tuple[str, ...] = ()
    """The members that are recorded."""
    if_true: str = ""
    """The member without which nothing is changed, so that nothing is recorded."""


_VERBS = {
    "/keysets/rotate": _Verb("keyset.rotate", "unit", ("input_fee_ppk", "final_expiry")),
    "/audit": _Verb("books.audit"),
    "/audit/checkpoint": _Verb("audit.checkpoint"),
    "/epochs/close": _Verb("epoch.close"),
    "/epochs/audit": _Verb("epoch.audit"),
    "/prune": _Verb("keyset.prune", "", ("grace_s",), "act"),
    "/backup": _Verb("store.backup", "path"),
    "/play/settle": _Verb("play.settle", "", ("amount_msat",)),
    "/play/mine": _Verb("play.mine", "", ("blocks",)),
    "/play/reorganise": _Verb("play.reorganise", "", ("depth", "drop")),
    "/play/replace": _Verb("play.replace", "txid", ("paid",)),
    "/restart": _Verb("bank.restart_asked"),
    "/stop": _Verb("bank.stop_asked"),
}


@asynccontextmanager
async def recorded_request(log: AuditLog | None, path: str, request: Request) -> AsyncIterator[Request]:
    """The request that the handler is to be given, its verb recorded around it. MalformedError for a body too long.

    Whatever `AuditLog.record` raises is raised before anything is done.
    """
    if log is None or request.method != "POST":
        yield request
        return
    body = await _body(request)
    verb, members = _VERBS.get(path, _Verb("operator.call")), _members(body)
    given = Request(request.scope, _replayed(body))
    if verb.if_true and members.get(verb.if_true) is not True:
        yield given
        return
    subject = members.get(verb.subject) if verb.name != "operator.call" else path
    detail = {name: _plain(members[name]) for name in verb.details if name in members}
    actor = await asyncio.to_thread(operator_name, request.client.host if request.client else "")
    with log.acting(actor):
        async with log.recorded(verb.name, str(_plain(subject) or ""), detail):
            yield given


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise MalformedError("the body is too long")
    return bytes(body)


def _replayed(body: bytes) -> Callable[[], Awaitable[dict[str, Any]]]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _members(body: bytes) -> dict[str, Any]:
    """The members of a body; none where the handler will refuse it."""
    try:
        found = msgspec.json.decode(body or b"{}")
    except (msgspec.MsgspecError, UnicodeError):
        return {}
    return found if isinstance(found, dict) else {}


def _plain(value: object) -> Scalar:
    if isinstance(value, str):
        return redact_text(value, public=True)
    return value if isinstance(value, int | None) else "[not plain]"


class AuditOperator:
    """The handlers that read the log; RefusedError in each where there is none."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context

    @property
    def _log(self) -> AuditLog:
        found = self._context.audit
        if found is None:
            raise RefusedError("this bank keeps no audit log")
        return found

    async def records(self, request: Request) -> Response:
        """Records in order, as they lie in the store."""
        rows = await self._log.records(after=_number(request, "after", 0), limit=_number(request, "limit", _MAX_ROWS))
        return _json({"records": [{"sequence": row.sequence, "text": row.text, "hash": row.hash.hex()} for row in rows]})

    async def checkpoints(self, request: Request) -> Response:
        """Checkpoints in order, as they lie in the store."""
        rows = await self._log.checkpoints(after=_number(request, "after", 0), limit=_number(request, "limit", _MAX_ROWS))
        return _json({"checkpoints": [{"count": count, "text": text} for count, text in rows]})

    async def head(self, request: Request) -> Response:
        """Where the store says that the chain ends."""
        head = await self._log.head()
        shown = None if head is None else {"count": head.count, "hash": head.hash.hex(), "peaks": head.peaks.hex()}
        return _json({"head": shown})

    async def checkpoint(self, request: Request) -> Response:
        """Keep a checkpoint now, and anchor it."""
        made = await self._log.checkpoint()
        return _json({"checkpoint": None if made is None else json.loads(checkpoint_text(made))})


def _number(request: Request, name: str, otherwise: int) -> int:
    text = request.query_params.get(name, str(otherwise))
    if not text.isascii() or not text.isdigit() or len(text) > 16:
        raise MalformedError(f"{name} is a number")
    return min(int(text), _MAX_ROWS) if name == "limit" else int(text)


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
