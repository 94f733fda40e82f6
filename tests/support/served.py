"""A bank with its HTTP faces in one process, without sockets."""

from __future__ import annotations

import contextlib
import io
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2

from specie.mint import MintSettings
from specie.ops.health import Health
from specie.ops.logging import make_logger
from specie.ops.metrics import Metrics
from specie.ops.settings import LogFormat, LogSettings, ServerSettings
from specie.server import BankApp, BankFacts, OperatorActions, RailFacts, ServerContext, build_app
from tests.support.house import House, Purse, house


@dataclass
class Served:
    """A bank behind its application, and clients for it."""

    house: House
    purse: Purse
    context: ServerContext
    log: io.StringIO
    app: BankApp
    clients: list[httpx2.AsyncClient] = field(default_factory=list)

    @property
    def metrics(self) -> Metrics:
        return self.context.metrics

    def client(self, address: str = "127.0.0.1", app: Any = None, **headers: str) -> httpx2.AsyncClient:
        """A client that comes from `address`."""
        transport = httpx2.ASGITransport(app=app or self.app, client=(address, 5000), raise_app_exceptions=True)
        client = httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:3338", headers=headers)
        self.clients.append(client)
        return client

    def rebuild(self, **changes: Any) -> BankApp:
        """The application over a context with other parts."""
        self.context = replace(self.context, **changes)
        self.app = build_app(self.context)
        return self.app


@contextlib.asynccontextmanager
async def serving(*, methods: Sequence[str] = (), **options: Any) -> AsyncIterator[Served]:
    """A running mint with payment `methods` beside BOLT 11 and settings of `options`, and an app over it."""
    settings = MintSettings(name="Test <b>bank</b>", motd="Hello & <script>alert(1)</script>", input_fee_ppk=0, **options)
    async with house(settings=settings, methods=methods) as running:
        log = io.StringIO()
        metrics = Metrics(make_logger(LogSettings(format=LogFormat.JSON), log), running.clock.now, version="9")
        context = ServerContext(
            mint=running.mint,
            facts=BankFacts(version="specie 9", rails=(RailFacts("play", "bolt11", True),)),
            settings=ServerSettings(),
            limits=settings.limits,
            metrics=metrics,
            health=Health(metrics, running.clock.now, running.clock.monotonic),
            clock=running.clock,
            entropy=running.entropy,
            operator=OperatorActions(),
        )
        served = Served(running, Purse(running), context, log, build_app(context))
        try:
            yield served
        finally:
            for client in served.clients:
                await client.aclose()
            await served.app.aclose()
