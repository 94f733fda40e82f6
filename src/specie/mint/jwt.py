"""Clear authentication tokens: JSON Web Tokens that an OpenID provider signed (RFC 7519, RFC 7515). The one user of joserfc.

Allowed algorithms are named by the caller and tied to the kind of key, so that a token never chooses how it is verified
(RFC 8725 §3.1). Symmetric keys and `none` do not exist here. Not here: whose keys they are, and where they come from.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from specie.ecash.codes import ClearAuthFailedError
from specie.kernel import MalformedError
from specie.kernel.encoding import base64url_decode
from specie.mint.auth import JwtAlgorithm

__all__ = ["TokenRules", "VerificationKey", "check_claims", "token_header", "verification_keys", "verify_token"]

_MAX_TOKEN_CHARS = 16_384
_MAX_KEYS = 100
_MAX_MEMBER_CHARS = 1_400
_MIN_RSA_BITS = 2048
_MAX_SUBJECT_CHARS = 255
_TYPES = ("jwt", "at+jwt", "application/at+jwt")


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key that verifies tokens of one algorithm."""

    kid: str | None
    algorithm: JwtAlgorithm
    key: Key


def verification_keys(published: Iterable[Mapping[str, Any]]) -> list[VerificationKey]:
    """Those of a provider's hostile keys that can verify a token here; others are left out. At most 100 are looked at."""
    found: list[VerificationKey] = []
    for member, _ in zip(published, range(_MAX_KEYS), strict=False):
        key = _key(member)
        if key is not None:
            found.append(key)
    return found


def _key(member: Mapping[str, Any]) -> VerificationKey | None:
    kid = member.get("kid")
    if not isinstance(kid, str | None) or member.get("use", "sig") != "sig":
        return None
    public = {name: member[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in member}
    if any(not isinstance(value, str) or len(value) > _MAX_MEMBER_CHARS for value in public.values()):
        return None
    key: Key
    try:
        match public.get("kty"), public.get("crv"):
            case "EC", "P-256":
                algorithm, key = JwtAlgorithm.ES256, ECKey.import_key(public)
            case "OKP", "Ed25519":
                algorithm, key = JwtAlgorithm.EDDSA, OKPKey.import_key(public)
            case "RSA", None:
                algorithm, key = JwtAlgorithm.RS256, _rsa_key(public)
            case _:
                return None
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    named = {JwtAlgorithm.EDDSA: ("EdDSA", "Ed25519")}.get(algorithm, (algorithm.value,))
    return VerificationKey(kid, algorithm, key) if member.get("alg", named[0]) in named else None


def _rsa_key(public: dict[str, Any]) -> RSAKey:
    """An RSA key that is neither too short nor made to be slow; ValueError."""
    key = RSAKey.import_key(public)
    if key.public_key.key_size < _MIN_RSA_BITS or key.public_key.public_numbers().e > 2**32:
        raise ValueError("not a key to trust")
    return key


def token_header(token: str, algorithms: Sequence[JwtAlgorithm]) -> tuple[JwtAlgorithm, str | None]:
    """Algorithm and key id that a token claims. ClearAuthFailedError unless it is a JWT of an allowed algorithm."""
    if len(token) > _MAX_TOKEN_CHARS or token.count(".") != 2 or not token.isascii():
        raise ClearAuthFailedError("the clear token is no JWT")
    try:
        header = json.loads(base64url_decode(token.partition(".")[0]))
    except (MalformedError, ValueError, RecursionError):
        raise ClearAuthFailedError("the clear token is no JWT") from None
    if not isinstance(header, dict):
        raise ClearAuthFailedError("the clear token is no JWT")
    name, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    algorithm = JwtAlgorithm.EDDSA if name == "Ed25519" else next((each for each in JwtAlgorithm if each.value == name), None)
    if algorithm is None or algorithm not in algorithms:
        raise ClearAuthFailedError("the clear token is signed by an algorithm that is not taken")
    if "crit" in header or not isinstance(kid, str | None) or not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise ClearAuthFailedError("the clear token has a header that is not understood")
    return algorithm, kid


def verify_token(token: str, keys: Sequence[VerificationKey], algorithm: JwtAlgorithm) -> dict[str, Any]:
    """The claims of a token that one of the keys signed by `algorithm`; ClearAuthFailedError otherwise. Not yet judged."""
    name = "Ed25519" if algorithm is JwtAlgorithm.EDDSA else algorithm.value
    names = [name, "EdDSA"] if algorithm is JwtAlgorithm.EDDSA else [name]
    for candidate in keys:
        if candidate.algorithm is not algorithm:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SecurityWarning)  # the old name EdDSA is what NUT-21's providers write
                payload = jws.deserialize_compact(token, candidate.key, algorithms=names).payload
        except (JoseError, ValueError, TypeError):
            continue
        try:
            claims = json.loads(payload)
        except (ValueError, RecursionError):
            break
        if isinstance(claims, dict):
            return claims
        break
    raise ClearAuthFailedError("the clear token is not signed by the provider")


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What a token must say: `issuer` exactly, the audience if one is set, the client, and the present within `skew_s`."""

    issuer: str
    client_id: str
    audience: str
    skew_s: int


def check_claims(claims: Mapping[str, Any], rules: TokenRules, now: int) -> str:
    """The subject (`sub`) of a token that is ours and valid at `now`. ClearAuthFailedError otherwise (RFC 7519 §4.1)."""
    if claims.get("iss") != rules.issuer:
        raise ClearAuthFailedError("the clear token is of another issuer")
    expires = _time(claims, "exp")
    if expires is None or now >= expires + rules.skew_s:
        raise ClearAuthFailedError("the clear token has expired")
    for name in ("nbf", "iat"):
        moment = _time(claims, name)
        if moment is not None and moment > now + rules.skew_s:
            raise ClearAuthFailedError("the clear token is not valid yet")
    _check_addressee(claims, rules)
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= _MAX_SUBJECT_CHARS:
        raise ClearAuthFailedError("the clear token names no user")
    return subject


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**53:
        raise ClearAuthFailedError("the clear token has a time that is none")
    return value


def _check_addressee(claims: Mapping[str, Any], rules: TokenRules) -> None:
    """A provider serves many: a token counts only if it was made for this mint's audience, or for its client."""
    named = claims.get("aud")
    audiences = [named] if isinstance(named, str) else named if isinstance(named, list) else []
    clients = [claims[name] for name in ("azp", "client_id") if claims.get(name) is not None]
    if any(client != rules.client_id for client in clients):
        raise ClearAuthFailedError("the clear token was given to another client")
    if rules.audience:
        if rules.audience not in audiences:
            raise ClearAuthFailedError("the clear token is meant for somebody else")
    elif not clients and rules.client_id not in audiences:
        raise ClearAuthFailedError("the clear token is meant for somebody else")
