"""JSON of errors (NUT-00) and of mint information (NUT-06), both ways.

What a mint says about itself is read leniently, bounded and cleaned of control characters; what we say is written strictly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from specie.ecash.codes import error_from_code
from specie.ecash.info import Contact, MintInfo
from specie.ecash.wire.codec import decode, encode
from specie.kernel.errors import MalformedError, RefusedError, SpecieError
from specie.kernel.limits import DEFAULT_LIMITS, Limits
from specie.kernel.money import MAX_AMOUNT

__all__ = ["error_from_json", "error_to_json", "info_from_json", "info_to_json"]

_LINE_CHARS = 500
_TEXT_CHARS = 10_000
_ENTRIES = 100

_object = msgspec.json.Decoder(dict[str, Any])


def error_to_json(error: SpecieError) -> bytes:
    """Error body `{"detail", "code"}` (NUT-00); code 0 where the specification has none for it."""
    code = error.code if isinstance(error, RefusedError) else None
    return encode({"detail": error.detail, "code": code or 0})


def error_from_json(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> RefusedError:
    """The error that a mint's body means; returned, not raised. MalformedError if the body is no error at all."""
    body = decode(data, _object, limits)
    detail = body.get("detail", body.get("error"))
    code = body.get("code")
    if detail is None and code is None:
        raise MalformedError("body is no error")
    text = _clean(detail, _LINE_CHARS) or "the mint gave no reason"
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) < 10:
        code = int(code)
    if isinstance(code, bool) or not isinstance(code, int) or not 0 < code < 2**31:
        return RefusedError(text)
    return error_from_code(code, text)


def info_to_json(info: MintInfo) -> bytes:
    """Answer of GET /v1/info; what is not set is left out."""
    body: dict[str, Any] = {
        "name": info.name,
        "pubkey": info.pubkey,
        "version": info.version,
        "description": info.description,
        "description_long": info.description_long,
        "contact": [{"method": contact.method, "info": contact.info} for contact in info.contact] or None,
        "motd": info.motd,
        "icon_url": info.icon_url,
        "urls": list(info.urls) or None,
        "time": info.time,
        "tos_url": info.tos_url,
        "max_array_length": info.max_array_length,
        "nuts": dict(info.nuts),
    }
    return encode({key: value for key, value in body.items() if value is not None})


def info_from_json(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> MintInfo:
    """A mint's information. Fields of another type than the specification's are taken as absent.

    `contact` is read as objects or as pairs. MalformedError only where the body is no JSON object or nested too deeply.
    """
    body = decode(data, _object, limits)
    if _depth(body) > limits.json_depth:
        raise MalformedError("mint information is nested too deeply")
    nuts = body.get("nuts")
    urls = body.get("urls")
    return MintInfo(
        name=_clean(body.get("name"), _LINE_CHARS),
        pubkey=_clean(body.get("pubkey"), _LINE_CHARS),
        version=_clean(body.get("version"), _LINE_CHARS),
        description=_clean(body.get("description"), _TEXT_CHARS),
        description_long=_clean(body.get("description_long"), _TEXT_CHARS),
        contact=_contacts(body.get("contact")),
        motd=_clean(body.get("motd"), _TEXT_CHARS),
        icon_url=_clean(body.get("icon_url"), _TEXT_CHARS),
        urls=tuple(text for url in urls[:_ENTRIES] if (text := _clean(url, _LINE_CHARS))) if isinstance(urls, list) else (),
        time=_number(body.get("time")),
        tos_url=_clean(body.get("tos_url"), _TEXT_CHARS),
        max_array_length=_number(body.get("max_array_length")) or None,
        nuts=dict(nuts) if isinstance(nuts, Mapping) else {},
    )


def _contacts(value: Any) -> tuple[Contact, ...]:
    found: list[Contact] = []
    for entry in value[:_ENTRIES] if isinstance(value, list) else ():
        match entry:
            case {"method": str(method), "info": str(info)} | [str(method), str(info)]:
                found.append(Contact(_clean(method, _LINE_CHARS) or "", _clean(info, _LINE_CHARS) or ""))
            case _:
                continue
    return tuple(found)


def _clean(value: Any, limit: int) -> str | None:
    """Text without control and direction characters, cut to `limit`; None for what is no text."""
    if not isinstance(value, str):
        return None
    return "".join(char for char in value[:limit] if char == "\n" or char.isprintable())


def _number(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_AMOUNT:
        return None
    return value


def _depth(value: Any) -> int:
    """Nesting of decoded JSON; its recursion is bounded by that of the decoder."""
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0
