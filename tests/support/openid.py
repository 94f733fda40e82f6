"""An OpenID provider in a test's hands: its keys, the tokens it signs, and those that it would never sign."""

from __future__ import annotations

import hmac
import json
import warnings
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from joserfc import jws
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from specie.ecash import Keyset
from specie.ecash.wire import auth_token_to_text
from specie.kernel import Clock, UnavailableError
from specie.kernel.encoding import base64url_encode
from specie.mint import Auth, AuthSettings
from specie.mint.auth import ProviderKeys
from tests.support.house import House, Outputs, Purse

ISSUER = "https://login.example/realms/bank"
DISCOVERY = f"{ISSUER}/.well-known/openid-configuration"
CLIENT = "cashu-client"
EVERYTHING = ("POST /v1/swap", "POST /v1/mint/*", "POST /v1/melt/*", "POST /v1/checkstate", "GET /v1/ws")


@cache
def key_of(algorithm: str, kid: str) -> Key:
    """A key pair, made once a run: RSA takes its time."""
    options: dict[str, Any] = {"kid": kid}
    if algorithm == "ES256":
        return ECKey.generate_key("P-256", options)
    if algorithm == "EdDSA":
        return OKPKey.generate_key("Ed25519", options)
    return RSAKey.generate_key(2048, options)


def public(algorithm: str, kid: str) -> dict[str, Any]:
    """The public half as a provider publishes it."""
    return {**key_of(algorithm, kid).as_dict(private=False), "kid": kid, "use": "sig", "alg": algorithm}


@dataclass
class Provider:
    """Signs tokens, publishes keys, and is away when it is told to be. A `mint.KeySource`."""

    clock: Clock
    algorithm: str = "ES256"
    kid: str = "one"
    issuer: str = ISSUER
    published: list[dict[str, Any]] = field(default_factory=list)
    away: bool = False
    asked: int = 0

    def __post_init__(self) -> None:
        self.published = self.published or [public(self.algorithm, self.kid)]

    async def fetch(self) -> ProviderKeys:
        self.asked += 1
        if self.away:
            raise UnavailableError("away")
        return ProviderKeys(self.issuer, tuple(self.published))

    async def close(self) -> None:
        """Nothing is open."""

    def rotate(self, kid: str, algorithm: str = "ES256") -> None:
        """Sign with another key from now on, the only one published."""
        self.kid, self.algorithm = kid, algorithm
        self.published = [public(algorithm, kid)]

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = self.clock.now()
        claims = {"iss": ISSUER, "sub": "alice", "aud": "mint", "azp": CLIENT, "iat": now, "exp": now + 300, **changes}
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """A token as the provider signs it; `changes` are claims, None to leave one out."""
        return sign(self.claims(**changes), self.algorithm, self.kid, header)


def sign(claims: object, algorithm: str, kid: str, header: dict[str, Any] | None = None) -> str:
    """A token that the named key signs."""
    head = {"alg": algorithm, "kid": kid, "typ": "JWT", **(header or {})}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        return jws.serialize_compact(head, json.dumps(claims).encode(), key_of(algorithm, kid), algorithms=[algorithm])


def unsigned(claims: object) -> str:
    """A token of algorithm `none`."""
    parts = [base64url_encode(json.dumps(part).encode()) for part in ({"alg": "none", "kid": "one"}, claims)]
    return ".".join((*parts, ""))


def confused(claims: object, algorithm: str, kid: str) -> str:
    """A token of HS256 whose secret is the provider's public key, as PEM: what a confused verifier would take."""
    head = {"alg": "HS256", "kid": kid}
    text = ".".join(base64url_encode(json.dumps(part).encode()) for part in (head, claims))
    secret = key_of(algorithm, kid).as_pem(private=False)
    return f"{text}.{base64url_encode(hmac.digest(secret, text.encode(), 'sha256'))}"


def auth_settings(**changes: Any) -> AuthSettings:
    """Blind tokens for everything that moves money, unless told otherwise."""
    return AuthSettings(**{"openid_discovery": DISCOVERY, "blind_endpoints": EVERYTHING, **changes})


def auth_keyset(auth: Auth) -> Keyset:
    """The keyset that signs blind tokens."""
    return next(keyset for keyset in auth.keysets() if keyset.active)


def outputs_of(house: House, count: int, seed: object = "bats") -> Outputs:
    """Blinded messages for `count` blind tokens."""
    assert house.mint.auth is not None
    return Purse(house, seed).outputs([1] * count, auth_keyset(house.mint.auth))


async def blind_tokens(house: House, count: int, *, subject: str = "alice", seed: object = "bats") -> list[str]:
    """Header values of fresh blind tokens."""
    assert house.mint.auth is not None
    outputs = outputs_of(house, count, seed)
    signatures = await house.mint.auth.mint(outputs.messages, subject)
    return [auth_token_to_text(proof) for proof in outputs.proofs(signatures)]
