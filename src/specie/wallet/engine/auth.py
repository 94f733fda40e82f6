"""`WalletAuth`: logins and blind tokens for mints that ask who uses them (NUT-21, NUT-22).

What becomes of a blind token by what becomes of its request:

    a good answer                            deleted
    an error of the mint, or never sent      back in the pool: an error burns no token at the mint
    refused as spent or void (31002)         deleted, and the request made again with another one
    no answer                                UNCERTAIN: tried again later

NUT-22 would rather have a token deleted after an error as well, for the mint can tell that both requests are of one
wallet. The wallet keeps it: a mint that answers with errors must not be able to empty the pool.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from specie.ecash import wire
from specie.ecash.auth import (
    BLIND_AUTH_PREFIX,
    INFO_PATH,
    BlindAuthSetting,
    ClearAuthSetting,
    blind_auth_setting,
    clear_auth_setting,
    is_protected,
)
from specie.ecash.codes import (
    BlindAuthFailedError,
    BlindAuthRequiredError,
    ClearAuthFailedError,
    ClearAuthRequiredError,
)
from specie.ecash.info import MintInfo
from specie.ecash.mint_url import mint_url_checked
from specie.ecash.openid import may_be_asked
from specie.kernel.clock import Clock
from specie.kernel.entropy import Entropy
from specie.kernel.errors import MalformedError, PeerFaultError, RefusedError, UnavailableError, UncertainError
from specie.kernel.limits import DEFAULT_LIMITS, Limits
from specie.kernel.telemetry import NULL_TELEMETRY, Telemetry
from specie.keys.ports import SecretStore
from specie.storage.ports import Storage
from specie.wallet.auth import AuthStatus, BlindToken, BlindTokenState, DeviceCode, LoginOffer
from specie.wallet.auth_ports import AuthClient, BlindTokenStore, OpenIdClient, RedirectListener
from specie.wallet.engine.auth_login import Logins
from specie.wallet.engine.auth_pool import Pool
from specie.wallet.errors import LoginRequiredError, UnsupportedError
from specie.wallet.ports import MintClients, WalletStore

__all__ = ["WalletAuth"]

T = TypeVar("T")

_ATTEMPTS = 6


class WalletAuth:
    """Authentication of one wallet; its clients' requests go through `run`, its owner calls the rest."""

    def __init__(
        self,
        *,
        storage: Storage,
        store: WalletStore,
        tokens: SecretStore,
        pool: BlindTokenStore,
        openid: OpenIdClient,
        listener: RedirectListener,
        clients: MintClients,
        clock: Clock,
        entropy: Entropy,
        telemetry: Telemetry = NULL_TELEMETRY,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """Take the ports; `clients` makes a mint's client, to learn from it where to log in."""
        self._storage = storage
        self._store = store
        self._openid = openid
        self._clients = clients
        self._limits = limits
        self._logins = Logins(openid, tokens, listener, clock, entropy)
        self._pool = Pool(storage, pool, clock, entropy, telemetry)
        self._infos: dict[str, MintInfo] = {}

    # -- for the owner ------------------------------------------------------------------------------------------------

    async def offer(self, mint: str) -> LoginOffer:
        """Where a mint wants its users to log in, as it says now; nothing is sent there yet. UnsupportedError if nowhere."""
        url = mint_url_checked(mint)
        client = self._clients(url)
        try:
            info = await client.info()
        finally:
            await client.close()
        self.learnt(url, info)
        setting = clear_auth_setting(info)
        if setting is None:
            raise UnsupportedError("this mint asks nobody to log in", nut=21)
        if not may_be_asked(setting.openid_discovery):
            raise PeerFaultError("the mint names a login provider that is neither https nor on this machine", peer=url)
        return LoginOffer(url, setting.openid_discovery, setting.client_id)

    async def login(self, offer: LoginOffer, show: Callable[[str], None], *, timeout_s: float = 300.0) -> AuthStatus:
        """Log in with a browser on this machine: `show` gets the address it must visit (authorization code, PKCE).

        LoginRefusedError where the user or the provider said no; UnavailableError where nobody came back in time.
        """
        await self._logins.with_code(offer, show, timeout_s)
        return await self._status(offer.mint)

    async def login_with_device(self, offer: LoginOffer, show: Callable[[DeviceCode], None]) -> AuthStatus:
        """Log in on any device: `show` gets the code and where to type it. UnsupportedError where the provider has none."""
        await self._logins.with_device(offer, show)
        return await self._status(offer.mint)

    async def login_with_password(self, offer: LoginOffer, user: str, password: str) -> AuthStatus:
        """Log in with a password through this wallet; UnsupportedError unless the provider announces that it takes some."""
        await self._logins.with_password(offer, user, password)
        return await self._status(offer.mint)

    async def logout(self, mint: str) -> bool:
        """Forget the login and the blind tokens of a mint; whether there was a login."""
        url = mint_url_checked(mint)
        await self._pool.forget(url)
        return await self._logins.logout(url)

    async def status(self) -> list[AuthStatus]:
        """How the wallet stands with every mint that asks for a login, or of which it has blind tokens; asks nobody."""
        urls = {record.url for record in await self._storage.read(self._store.mints)} | (await self._pool.counts()).keys()
        found = [await self._status(url) for url in sorted(urls)]
        return [one for one in found if one.host or one.logged_in or one.ready or one.uncertain]

    async def _status(self, mint: str) -> AuthStatus:
        login = await self._logins.login(mint)
        counts = (await self._pool.counts()).get(mint, {})
        info = self._infos.get(mint) or await self._stored(mint)
        setting = None if info is None else clear_auth_setting(info)
        return AuthStatus(
            mint=mint,
            host="" if setting is None else LoginOffer(mint, setting.openid_discovery, setting.client_id).host,
            logged_in=login is not None,
            renewable=login is not None and login.refresh_token is not None,
            expires_at=None if login is None else login.expires_at,
            ready=counts.get(BlindTokenState.READY, 0),
            uncertain=counts.get(BlindTokenState.UNCERTAIN, 0) + counts.get(BlindTokenState.RESERVED, 0),
        )

    async def close(self) -> None:
        """Let go of connections to providers."""
        await self._openid.close()

    # -- for the mints' clients ---------------------------------------------------------------------------------------

    def learnt(self, mint: str, info: MintInfo) -> None:
        """The mint has just said this of itself."""
        self._infos[mint] = info

    async def run(self, client: AuthClient, verb: str, path: str, call: Callable[[Mapping[str, str]], Awaitable[T]]) -> T:
        """Make a request with the headers that the mint asks for; again where it was refused for them alone.

        What `call` raises, and before anything was sent: LoginRequiredError, RefusedError of minting blind tokens, or
        UnavailableError. A request that is refused for its authentication had no effect.
        """
        if path == INFO_PATH:
            return await call({})
        looked = renew = False
        refused: RefusedError = LoginRequiredError(client.url)
        for attempt in range(_ATTEMPTS):
            clear, blind = await self._needs(client, verb, path)
            headers: dict[str, str] = {}
            if clear is not None:
                headers["clear-auth"] = await self._prepared(self._logins.token(client.url, clear, renew=renew))
            token = None
            if blind is not None:
                token = await self._prepared(self._pool.take(client, blind, sure=attempt > 1))
                headers["blind-auth"] = wire.auth_token_to_text(token.proof)
            try:
                return await self._sent(token, call, headers)
            except (ClearAuthRequiredError, BlindAuthRequiredError) as error:
                if looked:
                    raise
                looked, refused = True, error
                self.learnt(client.url, await client.info())  # what it protects has changed
            except ClearAuthFailedError as error:
                if clear is None:
                    raise
                if renew:
                    raise LoginRequiredError(client.url) from error
                renew, refused = True, error
            except BlindAuthFailedError as error:
                if token is None:
                    raise
                refused = error
        raise refused

    async def _sent(
        self, token: BlindToken | None, call: Callable[[Mapping[str, str]], Awaitable[T]], headers: Mapping[str, str]
    ) -> T:
        """One try, after which the token is where it belongs."""
        if token is None:
            return await call(headers)
        try:
            result = await call(headers)
        except BlindAuthFailedError:
            await self._pool.drop(token)
            raise
        except (RefusedError, UnavailableError):
            await self._pool.put_back(token)
            raise
        except BaseException:
            await self._pool.doubt(token)
            raise
        await self._pool.drop(token)
        return result

    async def _prepared(self, work: Awaitable[T]) -> T:
        """Get what a request needs before it is sent: whatever goes wrong here, the request itself was not sent."""
        try:
            return await work
        except (UncertainError, PeerFaultError) as error:
            raise UnavailableError(f"authentication is not possible now: {error.detail}", retry_after_s=5.0) from error

    async def _needs(self, client: AuthClient, verb: str, path: str) -> tuple[ClearAuthSetting | None, BlindAuthSetting | None]:
        info = self._infos.get(client.url)
        if info is None:
            info = self._infos[client.url] = await self._stored(client.url) or await client.info()
        clear, blind = clear_auth_setting(info), blind_auth_setting(info)
        if clear is not None and not is_protected(clear.protected_endpoints, verb, path):
            clear = None
        if blind is not None and (
            path.startswith(BLIND_AUTH_PREFIX) or not is_protected(blind.protected_endpoints, verb, path)
        ):
            blind = None
        return clear, blind

    async def _stored(self, mint: str) -> MintInfo | None:
        """What the mint last said of itself, as the wallet remembers it."""
        for record in await self._storage.read(self._store.mints):
            if record.url == mint and record.info != b"{}":
                try:
                    return wire.info_from_json(record.info, limits=self._limits)
                except MalformedError:
                    return None
        return None
