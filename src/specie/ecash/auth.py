"""Which requests of a mint need authentication, and what for (NUT-21, NUT-22). Pure.

A mint announces protected endpoints as method and path: the path itself, or its beginning where it ends in `*`. They are
compared as text and never compiled into a pattern, for they come from strangers. Not here: tokens and their JSON (`wire`),
and who is let in.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from specie.ecash.info import MintInfo
from specie.kernel.errors import MalformedError

__all__ = [
    "AUTH_UNIT",
    "BLIND_AUTH_PREFIX",
    "BLIND_MINT_PATH",
    "INFO_PATH",
    "BlindAuthSetting",
    "ClearAuthSetting",
    "ProtectedEndpoint",
    "blind_auth_setting",
    "clear_auth_setting",
    "endpoint_from_text",
    "is_protected",
]

AUTH_UNIT = "auth"
"""Unit of the keysets that sign blind authentication tokens; their one amount is 1."""

INFO_PATH = "/v1/info"
"""Where a wallet learns what is protected; it can therefore never be protected itself."""

BLIND_AUTH_PREFIX = "/v1/auth/blind/"
"""Beginning of the paths where blind tokens are had; none of them can ask for a blind token."""

BLIND_MINT_PATH = "/v1/auth/blind/mint"
"""Where blind tokens are minted."""

_METHODS = ("GET", "POST")
_MAX_ENDPOINTS = 200
_MAX_CHARS = 2048
_MAX_BATCH = 1000


class ProtectedEndpoint(msgspec.Struct, frozen=True):
    """One protected endpoint: an HTTP method, and a path or, with `*` at its end, the beginning of paths."""

    method: str
    path: str

    def matches(self, method: str, path: str) -> bool:
        """Whether a request of `method` to `path` (without the mint's own prefix, as `/v1/swap`) is meant."""
        if method != self.method:
            return False
        return path.startswith(self.path[:-1]) if self.path.endswith("*") else path == self.path


def is_protected(endpoints: Iterable[ProtectedEndpoint], method: str, path: str) -> bool:
    """Whether any of the endpoints is meant by a request."""
    return any(endpoint.matches(method, path) for endpoint in endpoints)


def endpoint_from_text(text: str) -> ProtectedEndpoint:
    """The endpoint that `POST /v1/mint/*` names; MalformedError unless it is GET or POST, and a path under /v1/.

    A `*` may only be the last character.
    """
    method, _, path = text.partition(" ")
    if method not in _METHODS or not path.startswith("/v1/") or " " in path or not path.isprintable():
        raise MalformedError(f"{text!r} is no endpoint: write a method and a path, as POST /v1/swap or GET /v1/mint/*")
    if "*" in path[:-1]:
        raise MalformedError(f"{text!r}: a * can only be the last character")
    return ProtectedEndpoint(method, path)


class ClearAuthSetting(msgspec.Struct, frozen=True):
    """What a mint says of clear authentication (NUT-21): where its users log in, as which client, and what needs it."""

    openid_discovery: str
    client_id: str
    protected_endpoints: tuple[ProtectedEndpoint, ...] = ()


class BlindAuthSetting(msgspec.Struct, frozen=True):
    """What a mint says of blind authentication (NUT-22): the tokens it signs at once, and what needs one."""

    bat_max_mint: int
    protected_endpoints: tuple[ProtectedEndpoint, ...] = ()


def clear_auth_setting(info: MintInfo) -> ClearAuthSetting | None:
    """What hostile information says of NUT-21; None where it says nothing that can be used."""
    match info.nuts.get("21"):
        case {"openid_discovery": str(url), "client_id": str(client)} as setting if 0 < len(url) <= _MAX_CHARS and (
            0 < len(client) <= _MAX_CHARS and client.isprintable()
        ):
            return ClearAuthSetting(url, client, _endpoints(setting))
    return None


def blind_auth_setting(info: MintInfo) -> BlindAuthSetting | None:
    """What hostile information says of NUT-22; None where it says nothing that can be used. A batch is 1 to 1000."""
    match info.nuts.get("22"):
        case {"bat_max_mint": int(batch)} as setting if not isinstance(batch, bool) and batch > 0:
            return BlindAuthSetting(min(batch, _MAX_BATCH), _endpoints(setting))
    return None


def _endpoints(setting: Any) -> tuple[ProtectedEndpoint, ...]:
    """Those entries that can be read; a `*` that is not the last character is one like any other, as paths go."""
    entries = setting.get("protected_endpoints")
    found: list[ProtectedEndpoint] = []
    for entry in entries[:_MAX_ENDPOINTS] if isinstance(entries, list) else ():
        match entry:
            case {"method": str(method), "path": str(path)} if len(path) <= _MAX_CHARS:
                found.append(ProtectedEndpoint(method.upper(), path))
    return tuple(found)
