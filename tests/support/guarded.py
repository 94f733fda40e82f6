"""A mint that asks who uses it, behind its HTTP face in this process, and wallets that log in at a provider of the test's."""

from __future__ import annotations

import contextlib
import io
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2

from specie.kernel.errors import UnavailableError
from specie.kernel.hd import seed_from_words, words_from_entropy
from specie.keys.adapters.software import SoftwareSigner
from specie.mint import MintSettings
from specie.ops.health import Health
from specie.ops.logging import make_logger
from specie.ops.metrics import Metrics
from specie.ops.settings import LogFormat, LogSettings, ServerSettings
from specie.server import BankFacts, RailFacts, ServerContext, build_app
from specie.storage import Storage
from specie.wallet import Wallet, WalletAuth
from specie.wallet.adapters.auth_store import SqlBlindTokenStore
from specie.wallet.adapters.http import HttpMintClient
from specie.wallet.adapters.store_sql import SqlWalletStore
from specie.wallet.auth import DeviceCode, Login, TokenAnswer
from specie.wallet.auth import Provider as Described
from specie.wallet.engine.kept_secrets import KeptSecrets
from specie.wallet.errors import LoginRefusedError
from tests.support.house import House, house
from tests.support.openid import CLIENT, DISCOVERY, ISSUER, Provider, auth_settings
from tests.support.virtual import SeededEntropy, VirtualClock
from tests.support.wallets import MINT_URL, SETTINGS, World, memory_storage


@dataclass
class Desk:
    """The wallet's side of the provider: `wallet.auth_ports.OpenIdClient`. What it was asked is in `forms`."""

    provider: Provider
    grants: tuple[str, ...] = ("authorization_code", "refresh_token", "password")
    lifetime_s: int = 300
    away: bool = False
    answers: list[LoginRefusedError | UnavailableError] = field(default_factory=list)
    forms: list[Mapping[str, str]] = field(default_factory=list)
    described: Described | None = None

    async def discover(self, url: str) -> Described:
        assert url == DISCOVERY
        return self.described or Described(
            issuer=ISSUER,
            token_endpoint=f"{ISSUER}/token",
            authorization_endpoint=f"{ISSUER}/auth",
            device_endpoint=f"{ISSUER}/device",
            grants=self.grants,
        )

    async def tokens(self, endpoint: str, form: Mapping[str, str]) -> TokenAnswer:
        self.forms.append(form)
        if self.away:
            raise UnavailableError("away")
        if self.answers:
            raise self.answers.pop(0)
        access = self.provider.token(exp=self.provider.clock.now() + self.lifetime_s, jti=str(len(self.forms)))
        return TokenAnswer(access, f"refresh {len(self.forms)}".replace(" ", "-"), self.lifetime_s)

    async def device(self, endpoint: str, form: Mapping[str, str]) -> DeviceCode:
        self.forms.append(form)
        return DeviceCode(
            device_code="d", user_code="ABCD", verification_uri=f"{ISSUER}/device", expires_in_s=600, interval_s=5
        )

    async def close(self) -> None:
        """Nothing is open."""


class Browser:
    """A `RedirectListener` whose user says at once what `says` makes of the state."""

    def __init__(self) -> None:
        self.says: Callable[[str], Mapping[str, str]] | None = lambda state: {"code": "c", "state": state}

    @contextlib.asynccontextmanager
    async def listening(self, state: str) -> AsyncIterator[Any]:
        import asyncio

        answer: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()
        if self.says is not None:
            answer.set_result(self.says(state))
        yield answer


class Line(httpx2.AsyncBaseTransport):
    """The way to the mint, which can lose a request or an answer, and keeps what was said."""

    def __init__(self, app: Any) -> None:
        self._inner = httpx2.ASGITransport(app=app, client=("127.0.0.1", 5000), raise_app_exceptions=True)
        self.lose: dict[str, list[str]] = {}
        """Path to `before` or `after`, each for one request."""
        self.requests: list[httpx2.Request] = []
        self.change: Callable[[httpx2.Request, httpx2.Response], httpx2.Response] | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        planned = self.lose.get(request.url.path)
        fault = planned.pop(0) if planned else ""
        if fault == "before":
            raise httpx2.ConnectError("lost")
        response = await self._inner.handle_async_request(request)
        if fault == "after":
            raise httpx2.ReadError("lost")
        return response if self.change is None else self.change(request, response)

    def sent(self, path: str, header: str) -> list[str | None]:
        """A header of every request to a path."""
        return [request.headers.get(header) for request in self.requests if request.url.path == path]


class GuardedWorld(World):
    """A world whose mint asks for authentication."""

    def __init__(self, bank: House, provider: Provider) -> None:
        super().__init__(bank)
        self.provider = provider
        log = io.StringIO()
        metrics = Metrics(make_logger(LogSettings(format=LogFormat.JSON), log), self.clock.now, version="9")
        context = ServerContext(
            mint=bank.mint,
            facts=BankFacts(version="specie 9", rails=(RailFacts("play", "bolt11", True),)),
            settings=ServerSettings(),
            limits=MintSettings().limits,
            metrics=metrics,
            health=Health(metrics, self.clock.now, self.clock.monotonic),
            clock=self.clock,
            entropy=bank.entropy,
            auth=bank.mint.auth,
        )
        self.line = Line(build_app(context))
        self.desk = Desk(provider)
        self.browser = Browser()
        self._made = 0

    async def user(self, storage: Storage | None = None, *, name: int | None = None) -> Wallet:
        """A wallet that talks to the mint over HTTP and can log in; it neither has yet, nor knows the mint."""
        self._made += 1
        name = self._made if name is None else name
        storage = storage or await memory_storage()
        entropy = SeededEntropy(f"user {self._made}")
        signer = SoftwareSigner(seed_from_words(words_from_entropy(name.to_bytes(16, "big"))), threads=0, entropy=entropy)
        store = SqlWalletStore()

        def clients(url: str) -> HttpMintClient:
            assert url == MINT_URL
            return HttpMintClient(url, transport=self.line, auth=auth)

        auth = WalletAuth(
            storage=storage,
            store=store,
            tokens=KeptSecrets(storage, store, signer, self.clock),
            pool=SqlBlindTokenStore(),
            openid=self.desk,
            listener=self.browser,
            clients=clients,
            clock=self.clock,
            entropy=entropy,
            telemetry=self.pages,
        )
        return Wallet(
            storage=storage,
            store=store,
            signer=signer,
            clients=clients,
            clock=self.clock,
            entropy=entropy,
            settings=SETTINGS,
            telemetry=self.pages,
            auth=auth,
        )

    async def member(self, storage: Storage | None = None) -> Wallet:
        """A wallet that has logged in and added the mint."""
        wallet = await self.user(storage)
        await wallet.auth.login(await wallet.auth.offer(MINT_URL), lambda url: None)
        await wallet.add_mint(MINT_URL)
        return wallet


@contextlib.asynccontextmanager
async def guarded_world(**changes: Any) -> AsyncIterator[GuardedWorld]:
    """A mint with these authentication settings, and whoever uses it."""
    clock = VirtualClock()
    provider = Provider(clock)
    settings = MintSettings(auth=auth_settings(**changes))
    async with house(clock=clock, settings=settings, auth_source=provider) as bank:
        yield GuardedWorld(bank, provider)


__all__ = ["CLIENT", "Browser", "Desk", "GuardedWorld", "Line", "Login", "guarded_world"]
