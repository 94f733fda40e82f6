"""Authentication as values: what an operator decides (NUT-21, NUT-22), and what an OpenID provider publishes. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from specie.ecash.auth import BLIND_AUTH_PREFIX, BLIND_MINT_PATH, INFO_PATH, ProtectedEndpoint, endpoint_from_text, is_protected
from specie.ecash.openid import WELL_KNOWN, may_be_asked
from specie.kernel import MalformedError
from specie.kernel.live import RESTART

__all__ = ["AuthSettings", "AuthTokenState", "JwtAlgorithm", "ProviderKeys"]


_ISSUE = re.compile(r"POST /v1/mint/[a-z0-9_-]+")
"""An endpoint that issues for one method; NUT-29 has another for several quotes at once."""


class JwtAlgorithm(StrEnum):
    """Signatures that a clear token may carry: asymmetric ones only (RFC 7518, RFC 8037)."""

    ES256 = "ES256"
    RS256 = "RS256"
    EDDSA = "EdDSA"


class AuthTokenState(StrEnum):
    """A blind token as the mint remembers it; one that it never saw, or let go of, is in no table."""

    RESERVED = "RESERVED"
    """A request runs on it."""
    SPENT = "SPENT"
    """A request succeeded, or its effect is committed."""


def _between(minimum: float, maximum: float) -> dict[str, Any]:
    return {"minimum": minimum, "maximum": maximum}


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """Who may use the mint: users of an OpenID provider, openly (NUT-21) or with blind tokens (NUT-22)."""

    openid_discovery: str = field(default="", metadata=RESTART)
    """URL of the provider's discovery document; it ends in /.well-known/openid-configuration. Empty: everybody may."""
    client_id: str = field(default="cashu-client", metadata=RESTART)
    """Client that wallets log in as; a public one, without a secret."""
    audience: str = field(default="", metadata=RESTART)
    """What `aud` of a token must hold. Empty: the token must be one of the client's."""
    algorithms: tuple[JwtAlgorithm, ...] = field(
        default=(JwtAlgorithm.ES256, JwtAlgorithm.RS256, JwtAlgorithm.EDDSA), metadata=RESTART
    )
    """Signatures taken: some of ES256, RS256, EdDSA."""
    clear_endpoints: tuple[str, ...] = field(default=(), metadata=RESTART)
    """What needs a login that names the user: `POST /v1/swap`, or with a * at the end the beginning of paths."""
    blind_endpoints: tuple[str, ...] = field(default=(), metadata=RESTART)
    """What needs a blind token, each good for one request; a login is then needed to mint those."""
    bat_max_mint: int = field(default=50, metadata=_between(1, 1000) | RESTART)
    """Blind tokens of one request."""
    bats_per_hour: int = field(default=1000, metadata=_between(0, 1_000_000) | RESTART)
    """Blind tokens one user may mint in an hour, in each process of the bank; 0 switches the limit off."""
    bat_burst: int = field(default=200, metadata=_between(1, 1_000_000) | RESTART)
    """Blind tokens a user who minted none for long may mint at once."""
    blind_keyset: int = field(default=0, metadata=_between(0, 2**31 - 1) | RESTART)
    """Number of the keyset that signs blind tokens. Counting it up makes all tokens handed out so far worthless."""
    clock_skew_s: int = field(default=60, metadata=_between(0, 600) | RESTART)
    """How far the provider's clock may be from ours, in seconds."""

    def __post_init__(self) -> None:
        """Refuse what can never work; ValueError names the setting."""
        if not self.openid_discovery:
            if self.clear_endpoints or self.blind_endpoints:
                raise ValueError("openid_discovery: is needed where endpoints are protected")
            return
        if not may_be_asked(self.openid_discovery) or not self.openid_discovery.endswith(WELL_KNOWN):
            raise ValueError(f"openid_discovery: must be https (or http on this machine) and end in {WELL_KNOWN}")
        if not self.client_id or not self.client_id.isprintable():
            raise ValueError("client_id: is empty")
        if not self.algorithms:
            raise ValueError("algorithms: at least one is needed")
        if not self.clear_endpoints and not self.blind_endpoints:
            raise ValueError("clear_endpoints and blind_endpoints: a provider is set, yet nothing is protected")
        if self.bat_burst < self.bat_max_mint:
            raise ValueError("bat_burst: is less than bat_max_mint, so nobody could mint that many")
        for name in ("clear_endpoints", "blind_endpoints"):
            try:
                endpoints = [endpoint_from_text(text) for text in getattr(self, name)]
            except MalformedError as error:
                raise ValueError(f"{name}: {error.detail}") from None
            if is_protected(endpoints, "GET", INFO_PATH):
                raise ValueError(f"{name}: {INFO_PATH} tells wallets what is protected, so it cannot be protected itself")
            for text, endpoint in zip(getattr(self, name), endpoints, strict=True):
                batch = f"{endpoint.path}/batch"
                if _ISSUE.fullmatch(text) and not is_protected(endpoints, "POST", batch):
                    raise ValueError(f"{name}: {text} leaves {batch} open, where the same is had; write POST {endpoint.path}*")
            if name == "blind_endpoints" and any(_reaches(endpoint.path, BLIND_AUTH_PREFIX) for endpoint in endpoints):
                raise ValueError(f"{name}: {BLIND_AUTH_PREFIX} is where blind tokens come from, so it cannot ask for one")

    @property
    def clear(self) -> tuple[ProtectedEndpoint, ...]:
        """What needs a clear token; minting blind ones always does."""
        endpoints = tuple(endpoint_from_text(text) for text in self.clear_endpoints)
        if self.blind_endpoints and not is_protected(endpoints, "POST", BLIND_MINT_PATH):
            endpoints += (ProtectedEndpoint("POST", BLIND_MINT_PATH),)
        return endpoints

    @property
    def blind(self) -> tuple[ProtectedEndpoint, ...]:
        """What needs a blind token."""
        return tuple(endpoint_from_text(text) for text in self.blind_endpoints)


def _reaches(path: str, prefix: str) -> bool:
    """Whether a protected path can be one below `prefix`."""
    if path.endswith("*"):
        return prefix.startswith(path[:-1]) or path.startswith(prefix)
    return path.startswith(prefix)


@dataclass(frozen=True, slots=True)
class ProviderKeys:
    """What a provider publishes, not yet believed: its issuer, and its keys as JSON objects (RFC 7517)."""

    issuer: str
    keys: tuple[Mapping[str, Any], ...]
