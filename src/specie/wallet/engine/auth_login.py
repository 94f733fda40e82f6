"""Logging in at a mint's provider, and staying logged in (NUT-21, OpenID Connect, RFC 6749, RFC 7636, RFC 8628).

A login is kept sealed and renewed before it runs out; the provider is asked at the address of the login, never at one that
a mint has named since. A crash between a provider's answer and its storing costs the user another login, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping

import msgspec

from specie.ecash.auth import ClearAuthSetting
from specie.kernel.clock import Clock
from specie.kernel.encoding import base64url_encode
from specie.kernel.entropy import Entropy
from specie.kernel.errors import PeerFaultError, UnavailableError
from specie.keys.ports import SecretStore
from specie.wallet.auth import (
    REDIRECT_URL,
    DeviceCode,
    Login,
    LoginOffer,
    Provider,
    TokenAnswer,
    authorization_url,
    scopes_for,
)
from specie.wallet.auth_ports import OpenIdClient, RedirectListener
from specie.wallet.errors import LoginRefusedError, LoginRequiredError, UnsupportedError

__all__ = ["Logins"]

_RENEW_BEFORE_S = 30
_DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_SLOW_DOWN_S = 5


class Logins:
    """The logins of a wallet, one a mint."""

    def __init__(
        self, openid: OpenIdClient, store: SecretStore, listener: RedirectListener, clock: Clock, entropy: Entropy
    ) -> None:
        self._openid = openid
        self._store = store
        self._listener = listener
        self._clock = clock
        self._entropy = entropy
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    # -- logging in ---------------------------------------------------------------------------------------------------

    async def with_code(self, offer: LoginOffer, show: Callable[[str], None], timeout_s: float) -> Login:
        """Authorization code with PKCE: `show` gets the URL for the user's browser. UnavailableError after `timeout_s`."""
        provider = await self._openid.discover(offer.discovery)
        if provider.authorization_endpoint is None or "authorization_code" not in provider.grants:
            raise UnsupportedError("the login provider has no authorization code flow", nut=21)
        verifier, state = self._fresh(32), self._fresh(16)
        address = authorization_url(
            provider.authorization_endpoint, provider, client_id=offer.client_id, state=state, verifier=verifier
        )
        async with self._listener.listening(state) as returned:
            show(address)
            try:
                async with asyncio.timeout(timeout_s):
                    answer = await returned
            except TimeoutError:
                raise UnavailableError("nobody came back from the login in time", retry_after_s=1.0) from None
        return await self._save(offer, provider, await self._redeem(offer, provider, answer, verifier))

    async def _redeem(self, offer: LoginOffer, provider: Provider, answer: Mapping[str, str], verifier: str) -> TokenAnswer:
        if answer.get("iss", provider.issuer) != provider.issuer:  # RFC 9207: another provider's answer
            raise PeerFaultError("the login came back from another provider", peer=offer.host)
        if "code" not in answer:
            reason = "".join(char for char in answer.get("error", "")[:60] if char.isalnum() or char in "_-")
            raise LoginRefusedError(f"the login was refused: {reason or 'no reason given'}", reason=reason)
        form = {
            "grant_type": "authorization_code",
            "code": answer["code"],
            "redirect_uri": REDIRECT_URL,
            "client_id": offer.client_id,
            "code_verifier": verifier,
        }
        return await self._openid.tokens(provider.token_endpoint, form)

    async def with_device(self, offer: LoginOffer, show: Callable[[DeviceCode], None]) -> Login:
        """Device code: `show` gets what the user types where, on any device. UnavailableError once the code has run out."""
        provider = await self._openid.discover(offer.discovery)
        if provider.device_endpoint is None:
            raise UnsupportedError("the login provider has no device code flow", nut=21)
        asked = {"client_id": offer.client_id, "scope": scopes_for(provider)}
        device = await self._openid.device(provider.device_endpoint, asked)
        show(device)
        form = {"grant_type": _DEVICE_GRANT, "device_code": device.device_code, "client_id": offer.client_id}
        deadline, pause_s = self._clock.monotonic() + device.expires_in_s, float(device.interval_s)
        while self._clock.monotonic() < deadline:
            await self._clock.sleep(pause_s)
            try:
                return await self._save(offer, provider, await self._openid.tokens(provider.token_endpoint, form))
            except LoginRefusedError as error:
                if error.reason == "slow_down":
                    pause_s += _SLOW_DOWN_S
                elif error.reason != "authorization_pending":
                    raise
            except UnavailableError:
                pause_s += _SLOW_DOWN_S
        raise UnavailableError("nobody logged in before the code ran out", retry_after_s=1.0)

    async def with_password(self, offer: LoginOffer, user: str, password: str) -> Login:
        """The user's own password, through this wallet; only where the provider announces it (NUT-21 advises against it)."""
        provider = await self._openid.discover(offer.discovery)
        if "password" not in provider.grants:
            raise UnsupportedError("the login provider takes no passwords from wallets", nut=21)
        form = {
            "grant_type": "password",
            "client_id": offer.client_id,
            "username": user,
            "password": password,
            "scope": scopes_for(provider),
        }
        return await self._save(offer, provider, await self._openid.tokens(provider.token_endpoint, form))

    def _fresh(self, count: int) -> str:
        return base64url_encode(self._entropy.bytes(count))

    # -- being logged in ----------------------------------------------------------------------------------------------

    async def login(self, mint: str) -> Login | None:
        """The login at a mint, whether it still holds or not."""
        kept = await self._store.get(_name(mint))
        if kept is None:
            return None
        try:
            return msgspec.json.decode(kept, type=Login)
        except msgspec.DecodeError:  # of another version: log in again
            return None

    async def logout(self, mint: str) -> bool:
        """Forget a login; whether there was one."""
        known = await self._store.get(_name(mint)) is not None
        await self._store.delete(_name(mint))
        return known

    async def token(self, mint: str, setting: ClearAuthSetting, *, renew: bool = False) -> str:
        """A clear token for a mint, renewed if it is about to end or `renew` says so.

        LoginRequiredError without a login, with one of another provider than the mint names now, or where it cannot be
        renewed; UnavailableError while the provider cannot be asked.
        """
        login = await self._fitting(mint, setting)
        if not renew and not self._ends(login):
            return login.access_token
        async with self._locks[mint]:
            now = await self._fitting(mint, setting)  # another task or process may have renewed it
            if now.access_token != login.access_token and not self._ends(now):
                return now.access_token
            return (await self._renewed(mint, now)).access_token

    async def _fitting(self, mint: str, setting: ClearAuthSetting) -> Login:
        login = await self.login(mint)
        if login is None or (login.discovery, login.client_id) != (setting.openid_discovery, setting.client_id):
            raise LoginRequiredError(mint)
        return login

    def _ends(self, login: Login) -> bool:
        return login.expires_at is not None and self._clock.now() >= login.expires_at - _RENEW_BEFORE_S

    async def _renewed(self, mint: str, login: Login) -> Login:
        if login.refresh_token is None:
            raise LoginRequiredError(mint)
        form = {"grant_type": "refresh_token", "refresh_token": login.refresh_token, "client_id": login.client_id}
        try:
            answer = await self._openid.tokens(login.token_endpoint, form)
        except LoginRefusedError:
            raise LoginRequiredError(mint) from None
        return await self._keep(
            mint,
            Login(
                discovery=login.discovery,
                client_id=login.client_id,
                token_endpoint=login.token_endpoint,
                access_token=answer.access_token,
                refresh_token=answer.refresh_token or login.refresh_token,
                expires_at=self._end(answer),
            ),
        )

    async def _save(self, offer: LoginOffer, provider: Provider, answer: TokenAnswer) -> Login:
        login = Login(
            discovery=offer.discovery,
            client_id=offer.client_id,
            token_endpoint=provider.token_endpoint,
            access_token=answer.access_token,
            refresh_token=answer.refresh_token,
            expires_at=self._end(answer),
        )
        return await self._keep(offer.mint, login)

    async def _keep(self, mint: str, login: Login) -> Login:
        await self._store.put(_name(mint), msgspec.json.encode(login).decode())
        return login

    def _end(self, answer: TokenAnswer) -> int | None:
        return None if answer.expires_in_s is None else self._clock.now() + answer.expires_in_s


def _name(mint: str) -> str:
    return f"login/{mint}"
