"""The operator's API of settings: what runs, what was before, and taking a changed file. `ops.reload` does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from specie.kernel.errors import MalformedError, RefusedError
from specie.ops.revision import Revision
from specie.server.ports import ConfigActions, ServerContext

__all__ = ["ConfigOperator"]

_MAX_BODY_BYTES = 65_536
_MAX_REVISIONS = 1000
_MAX_NUMBER = 2**53

T = TypeVar("T")


class _Check(msgspec.Struct, forbid_unknown_fields=True):
    file: str | None = None


class _Apply(msgspec.Struct, forbid_unknown_fields=True):
    author: str = "operator"


class _Rollback(msgspec.Struct, forbid_unknown_fields=True):
    number: int
    author: str = "operator"


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


async def _read(request: Request, kind: type[T]) -> T:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise MalformedError("the body is too long")
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise MalformedError(str(error)) from None


def _number(request: Request, name: str, default: str, most: int) -> int:
    text = request.query_params.get(name, default)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:17]) <= most:
        raise MalformedError(f"{name} must be from 1 to {most}")
    return int(text)


class ConfigOperator:
    """The handlers; one for each thing an operator may ask about settings."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context

    def _actions(self) -> ConfigActions:
        found = self._context.operator.config
        if found is None:
            raise RefusedError("this bank takes its settings from the program it runs in")
        return found

    def _refused(self) -> RefusedError:
        workers = self._context.operator.workers
        if workers is not None:
            return RefusedError(
                f"this bank is {workers.count} processes, which take settings one by one as they are replaced: "
                "specie mint restart, or SIGHUP to the supervisor"
            )
        return RefusedError("no bank runs here; the settings file is read when it starts")

    async def running(self, request: Request) -> Response:
        """Settings by name, and whether others can be taken now."""
        actions = self._actions()
        number, settings = await actions.running()
        return _json({"revision": number, "settings": dict(settings), "live": actions.apply is not None})

    async def revisions(self, request: Request) -> Response:
        """The newest, without their settings."""
        found = await self._actions().history(_number(request, "limit", "20", _MAX_REVISIONS))
        return _json({"revisions": [revision.facts for revision in found]})

    async def revision(self, request: Request) -> Response:
        """One, with its settings."""
        number = _number(request, "number", "", _MAX_NUMBER)
        found: Revision | None = await self._actions().find(number)
        if found is None:
            raise RefusedError(f"there is no revision {number}; specie config history lists them")
        more: dict[str, Any] = {"settings": dict(found.settings), "document": found.document}
        return _json(found.facts | more)

    async def check(self, request: Request) -> Response:
        """What a file would change."""
        asked = await _read(request, _Check)
        action = self._actions().check
        if action is None:
            raise self._refused()
        if asked.file is not None and not Path(asked.file).is_absolute():
            raise MalformedError("file must be absolute")
        return _json(dict(await action(None if asked.file is None else Path(asked.file))))

    async def apply(self, request: Request) -> Response:
        """Take the file."""
        asked = await _read(request, _Apply)
        action = self._actions().apply
        if action is None:
            raise self._refused()
        return _json((await action(asked.author)).facts)

    async def rollback(self, request: Request) -> Response:
        """Write and take an earlier file."""
        asked = await _read(request, _Rollback)
        action = self._actions().rollback
        if action is None:
            raise self._refused()
        return _json((await action(asked.number, asked.author)).facts)
