"""The wallet at our own server: the same verbs through the real HTTP face, in one process and without sockets."""

from __future__ import annotations

import io

import httpx2

from specie.mint import MintSettings
from specie.ops.health import Health
from specie.ops.logging import make_logger
from specie.ops.metrics import Metrics
from specie.ops.settings import LogFormat, LogSettings, ServerSettings
from specie.server import BankFacts, OperatorActions, RailFacts, ServerContext, build_app
from specie.wallet import P2PK
from specie.wallet.adapters.http import HttpMintClient
from tests.support.wallets import MINT_URL, World, virtually, world


def over_http(w: World) -> None:
    """Let the world's wallets talk to the mint by HTTP from here on."""
    log = io.StringIO()
    metrics = Metrics(make_logger(LogSettings(format=LogFormat.JSON), log), w.clock.now, version="9")
    context = ServerContext(
        mint=w.bank.mint,
        facts=BankFacts(version="specie 9", rails=(RailFacts("play", "bolt11", True),)),
        settings=ServerSettings(),
        limits=MintSettings().limits,
        metrics=metrics,
        health=Health(metrics, w.clock.now, w.clock.monotonic),
        clock=w.clock,
        entropy=w.bank.entropy,
        operator=OperatorActions(),
    )
    transport = httpx2.ASGITransport(app=build_app(context), client=("127.0.0.1", 5000), raise_app_exceptions=True)
    w.clients[MINT_URL] = HttpMintClient(MINT_URL, transport=transport)


@virtually
async def test_every_verb() -> None:
    """Mint, send, lock, receive, pay, restore and check over HTTP; the books agree."""
    async with world(settings=MintSettings(input_fee_ppk=100)) as w:
        over_http(w)
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 500)
        await bob.receive((await alice.send(37)).text)
        await bob.receive((await alice.send(21, lock=P2PK((await bob.p2pk_key(),), sig_all=True))).text)
        payment = await alice.pay(await w.foreign_invoice(21_000))
        assert payment.state == "PAID"
        await alice.consolidate()
        await alice.check_pending()
        await bob.restore()
        await w.books_hold(alice, bob)
