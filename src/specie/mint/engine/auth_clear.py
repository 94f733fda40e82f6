"""Clear authentication (NUT-21): who a token names, by the keys of the mint's OpenID provider.

Keys are kept for an hour and looked at again when a token names one that is not among them, at most six times a minute, so that
a flood of made-up key ids reaches the provider no more often. While the provider does not answer, the keys last seen count
for a day; after that, or before the first look, nobody can be told apart: UnavailableError, neither a pass nor a refusal.
"""

from __future__ import annotations

import asyncio

from specie.ecash.codes import ClearAuthFailedError
from specie.ecash.openid import issuer_of
from specie.kernel import Clock, Telemetry, UnavailableError
from specie.mint.auth import AuthSettings
from specie.mint.auth_ports import KeySource
from specie.mint.jwt import TokenRules, VerificationKey, check_claims, token_header, verification_keys, verify_token

__all__ = ["ClearAuth"]

_FRESH_S = 3600.0
_STALE_S = 86_400.0
_LOOK_AGAIN_S = 10.0
_RETRY_S = 5.0


class ClearAuth:
    """Verifies clear tokens of one provider; its issuer is pinned to the configured discovery URL."""

    def __init__(self, settings: AuthSettings, source: KeySource, clock: Clock, telemetry: Telemetry) -> None:
        self._settings = settings
        self._source = source
        self._clock = clock
        self._telemetry = telemetry
        self._issuer = ""
        self._keys: list[VerificationKey] = []
        self._seen_at: float | None = None
        self._looked_at: float | None = None
        self._away = False
        self._look = asyncio.Lock()

    async def verify(self, token: str) -> str:
        """The subject of a token; ClearAuthFailedError (30002), or UnavailableError while the provider cannot be asked."""
        algorithm, kid = token_header(token, self._settings.algorithms)
        await self._refreshed()
        keys = self._named(kid)
        if not keys and self._looked_before(_LOOK_AGAIN_S):
            await self._refresh(_LOOK_AGAIN_S)
            keys = self._named(kid)
        if not keys and self._away:
            raise UnavailableError("the login provider cannot be asked now", retry_after_s=_RETRY_S)
        if not keys:
            raise ClearAuthFailedError("the clear token is signed by a key that the provider does not publish")
        claims = verify_token(token, keys, algorithm)
        settings = self._settings
        rules = TokenRules(self._issuer, settings.client_id, settings.audience, settings.clock_skew_s)
        return check_claims(claims, rules, self._clock.now())

    def _named(self, kid: str | None) -> list[VerificationKey]:
        return [key for key in self._keys if kid is None or key.kid == kid]

    def _looked_before(self, seconds: float) -> bool:
        return self._looked_at is None or self._clock.monotonic() - self._looked_at >= seconds

    async def _refreshed(self) -> None:
        """Keys that count at this moment."""
        age = None if self._seen_at is None else self._clock.monotonic() - self._seen_at
        if age is not None and (age < _FRESH_S or (age < _STALE_S and self._look.locked())):
            return  # also while another request looks: a provider that hangs makes one wait, not everybody
        try:
            await self._refresh(_RETRY_S)
        except UnavailableError:
            if age is None or age >= _STALE_S:
                raise

    async def _refresh(self, unless_within_s: float) -> None:
        """Ask the provider once for all who wait; not at all if somebody did so meanwhile."""
        async with self._look:
            if not self._looked_before(unless_within_s):
                if self._away:
                    raise UnavailableError("the login provider cannot be asked now", retry_after_s=_RETRY_S)
                return
            self._looked_at = self._clock.monotonic()
            self._away = True
            try:
                published = await self._source.fetch()
            except UnavailableError as error:
                self._looked_at = self._clock.monotonic()  # it may have taken long: who waited here does not ask again at once
                self._telemetry.event("auth_provider_unavailable", reason=error.detail)
                raise UnavailableError("the login provider cannot be asked now", retry_after_s=_RETRY_S) from error
            if published.issuer.rstrip("/") != issuer_of(self._settings.openid_discovery):
                self._telemetry.page("the login provider calls itself otherwise than its URL", issuer=published.issuer[:200])
                raise UnavailableError("the login provider is not the configured one", retry_after_s=60.0)
            self._issuer = published.issuer
            self._keys = verification_keys(published.keys)
            self._seen_at = self._clock.monotonic()
            self._away = False
            self._telemetry.event("auth_keys_seen", keys=len(self._keys))
