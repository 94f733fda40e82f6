"""Logins and blind tokens as a wallet holds them (NUT-21, NUT-22), and the pure parts of logging in. Pure.

Not here: who is asked (`auth_ports`), and what becomes of a token (`engine.auth`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from urllib.parse import urlencode, urlsplit

import msgspec

from specie.ecash.proof import Proof
from specie.kernel.encoding import base64url_encode

__all__ = [
    "REDIRECT_URL",
    "AuthStatus",
    "BlindToken",
    "BlindTokenState",
    "DeviceCode",
    "Login",
    "LoginOffer",
    "Provider",
    "TokenAnswer",
    "authorization_url",
    "pkce_challenge",
    "scopes_for",
]

REDIRECT_URL = "http://localhost:33388/callback"
"""Where a browser brings the authorization code back to (NUT-21)."""


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """What a login provider says of itself (OpenID Connect Discovery §3); addresses checked to be safe to ask."""

    issuer: str
    token_endpoint: str
    authorization_endpoint: str | None = None
    device_endpoint: str | None = None
    grants: tuple[str, ...] = ("authorization_code",)
    scopes: tuple[str, ...] | None = None


class TokenAnswer(msgspec.Struct, frozen=True):
    """What a token endpoint gave (RFC 6749 §5.1). SECRET."""

    access_token: str
    refresh_token: str | None = None
    expires_in_s: int | None = None

    def __repr__(self) -> str:
        """Without the tokens."""
        return f"TokenAnswer(expires_in_s={self.expires_in_s})"


class DeviceCode(msgspec.Struct, frozen=True, kw_only=True):
    """What the user types where, and what the wallet polls with (RFC 8628 §3.2)."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str | None = None
    expires_in_s: int
    interval_s: int


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """A user's login at a mint's provider. SECRET: whoever has it is the user. Kept sealed, as JSON."""

    discovery: str
    client_id: str
    token_endpoint: str
    access_token: str
    refresh_token: str | None = None
    expires_at: int | None = None
    """Unix seconds; None where the provider did not say."""

    def __repr__(self) -> str:
        """Without the tokens."""
        return f"Login(discovery={self.discovery!r}, expires_at={self.expires_at})"


@dataclass(frozen=True, slots=True)
class LoginOffer:
    """Where a mint sends its users to log in. The mint chose it: show `host` and ask before anything is sent there."""

    mint: str
    discovery: str
    client_id: str

    @property
    def host(self) -> str:
        """Host and port of the provider."""
        return urlsplit(self.discovery).netloc


class BlindTokenState(StrEnum):
    """Where a blind token stands. One that was spent is deleted."""

    ASKED = "ASKED"
    """Its secret is stored and the mint was, or will be, asked to sign."""
    READY = "READY"
    """Signed, verified and never sent."""
    RESERVED = "RESERVED"
    """On its way with a request."""
    UNCERTAIN = "UNCERTAIN"
    """Sent with a request whose answer was lost: perhaps spent."""


@dataclass(frozen=True, slots=True)
class BlindToken:
    """One blind token of the pool. SECRET, though it is no money. `C` is None until it is signed."""

    secret: str = field(repr=False)
    mint: str
    keyset_id: str
    r: bytes = field(repr=False)
    batch: str
    position: int
    C: bytes | None
    state: BlindTokenState
    changed_at: int

    @property
    def proof(self) -> Proof:
        """As it is shown to the mint."""
        if self.C is None:
            raise ValueError("the token is not signed yet")
        return Proof(1, self.keyset_id, self.secret, self.C)


@dataclass(frozen=True, slots=True)
class AuthStatus:
    """How a wallet stands with a mint that asks who uses it."""

    mint: str
    host: str
    logged_in: bool
    renewable: bool
    """Whether the login is renewed by itself when it runs out."""
    expires_at: int | None
    ready: int
    """Blind tokens that can be used."""
    uncertain: int
    """Blind tokens of which it is not known whether they are spent."""


def pkce_challenge(verifier: str) -> str:
    """S256 challenge of a code verifier (RFC 7636 §4.2)."""
    return base64url_encode(sha256(verifier.encode()).digest())


def scopes_for(provider: Provider) -> str:
    """Scopes to ask for: a login that lasts where the provider has that."""
    lasting = provider.scopes is None or "offline_access" in provider.scopes
    return "openid offline_access" if lasting else "openid"


def authorization_url(endpoint: str, provider: Provider, *, client_id: str, state: str, verifier: str) -> str:
    """Where the user's browser goes to log in (RFC 6749 §4.1.1, RFC 7636 §4.3). `state` and `verifier` are FRESH."""
    scope = scopes_for(provider)
    query: Mapping[str, str] = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": REDIRECT_URL,
        "scope": scope,
        "state": state,
        "code_challenge": pkce_challenge(verifier),
        "code_challenge_method": "S256",
        **({"prompt": "consent"} if "offline_access" in scope else {}),
    }
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"
