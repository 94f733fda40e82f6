"""Payment requests between real wallets at a real bank: over a real Nostr relay, by HTTP POST, and in the terminal."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from nostr_sdk import LocalRelay, LocalRelayBuilder

from specie.app.wallet import Wallet
from specie.cli.program import run
from specie.kernel.errors import RefusedError
from specie.keys import SealSource
from specie.wallet import PaymentReceiver, PaymentState, RequestState
from specie.wallet.errors import DeliveryFailedError
from tests.support.programs import SPECIE, RunningBank, home_environment, running_bank

pytestmark = [pytest.mark.e2e, pytest.mark.network]


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBank]:
    """One bank for all tests here; its invoices pay themselves at once."""
    with running_bank(tmp_path_factory.mktemp("bank"), "--autopay-delay", "0.1") as running:
        yield running


@pytest.fixture
def relay() -> Iterator[str]:
    """The address of a relay of this process; it runs on threads of its own."""

    async def start() -> tuple[LocalRelay, str]:
        made = LocalRelayBuilder().addr("127.0.0.1").build()
        await made.run()
        return made, str(await made.url())

    running, url = asyncio.run(start())
    yield url
    running.shutdown()


@contextlib.asynccontextmanager
async def purse(tmp_path: Path, name: str, bank: RunningBank | None, **options: Any) -> AsyncIterator[Wallet]:
    """A wallet of somebody, in a home of their own."""
    home = tmp_path / name
    mint = None if bank is None else bank.url
    async with Wallet.open(
        name,
        mint=mint,
        sealed=SealSource(play_key=True),
        home=home / "data",
        config_home=home / "config",
        private_payees=True,
        **options,
    ) as wallet:
        yield wallet


def test_two_wallets_pay_each_other_over_a_relay(tmp_path: Path, bank: RunningBank, relay: str) -> None:
    """NIP-17 both ways: one request waits at the relay, the other is watched; locked coins; all of it redeemed once."""

    async def main() -> None:
        async with purse(tmp_path, "alice", bank) as alice, purse(tmp_path, "bob", bank) as bob:
            await alice.mint(100)
            own = await bob.requests.create(21, description="tea", relays=[relay], lock=True)
            paid = await alice.requests.pay(own.short, memo="thanks")
            assert (paid.state, paid.delivered_by) == (PaymentState.DELIVERED, "nostr")
            (arrival,) = [one async for one in bob.requests.watch(follow=False)]
            assert arrival.receipt is not None, arrival.error
            assert (arrival.receipt.amount, arrival.receipt.memo) == (21, "thanks")
            assert (await bob.requests.show(own.request_id)).state is RequestState.PAID

            back = await alice.requests.create(5, relays=[relay])
            async with contextlib.aclosing(alice.requests.watch()) as stream:
                waiting = asyncio.ensure_future(anext(stream))
                await asyncio.sleep(0)
                await bob.requests.pay(back.text)
                async with asyncio.timeout(20):
                    got = await waiting
            assert got.receipt is not None, got.error
            assert (await alice.balance()).available == 84
            assert (await bob.balance()).available == 16
            with pytest.raises(RefusedError):
                await anext(bob.requests.watch())

    asyncio.run(main())


def test_list_of_mints_comes_back_from_the_words(tmp_path: Path, bank: RunningBank, relay: str) -> None:
    """Another device, with nothing but the words and a relay, finds the mint, agrees to it, and restores the money."""

    async def main() -> None:
        async with purse(tmp_path, "alice", bank) as alice:
            await alice.mint(64)
            words = alice.words()
            assert (await alice.mint_list.backup([relay])).relays == 1
        async with purse(tmp_path, "phone", None, words=words) as phone:
            found = await phone.mint_list.restore([relay])
            assert found.new == (bank.url,)
            assert await phone.mints() == []
            await phone.restore(found.new)
            assert (await phone.balance()).available == 64
        async with purse(tmp_path, "carol", bank) as carol:
            assert (await carol.mint_list.restore([relay])).mints == ()

    asyncio.run(main())


def test_payment_is_posted_to_a_shop(tmp_path: Path, bank: RunningBank) -> None:
    """A server mounts the receiver: a shop that is away is delivered to later, and one that answers has been paid."""

    async def main() -> None:
        async with purse(tmp_path, "alice", bank) as alice, purse(tmp_path, "shop", bank) as shop:
            await alice.mint(100)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            own = await shop.requests.create(21, post=f"http://127.0.0.1:{port}/")
            with pytest.raises(DeliveryFailedError):
                await alice.requests.pay(own.text)
            config = uvicorn.Config(PaymentReceiver(shop.requests), port=port, log_level="error", lifespan="off")
            server = uvicorn.Server(config)
            serving = asyncio.ensure_future(server.serve())
            while not server.started:
                await asyncio.sleep(0.05)
            (payment,) = await alice.requests.payments()
            assert payment.state is PaymentState.UNDELIVERED
            assert (await alice.requests.deliver(payment.payment_id)).state is PaymentState.DELIVERED
            assert (await shop.requests.show(own.request_id)).received == 21
            second = await shop.requests.create(5, post=f"http://127.0.0.1:{port}/")
            assert (await alice.requests.pay(second.text)).delivered_by == "post"
            server.should_exit = True
            await serving
            assert (await shop.balance()).available == 26

    asyncio.run(main())


@dataclass(frozen=True)
class Ran:
    """What a command line came to."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Standard output as JSON, of a command that worked."""
        assert self.code == 0, self.err
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def specie(bank: RunningBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs `specie wallet` in this process, in a home of its own; `stdin` is what is piped in."""
    for name, value in home_environment(tmp_path, SPECIE_WALLET_MINT_URL=bank.url, COLUMNS="100").items():
        monkeypatch.setenv(name, value)

    def call(*arguments: object, stdin: str = "") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capfd.readouterr()
        code = run(["wallet", *(str(argument) for argument in arguments)])
        captured = capfd.readouterr()
        return Ran(code, captured.out, captured.err)

    return call


def test_request_in_the_terminal_in_band(specie: Run) -> None:
    """create, pay, accept, show, list: standard output is the request, then the token; a second payment is refused."""
    specie("mint", "100")
    made = specie("request", "create", "21", "--description", "coffee", "--name", "bob")
    request = made.out.strip()
    assert request.startswith("creqA")
    number = specie("request", "list", "--name", "bob", "--json").json()["requests"][0]["id"]
    assert number in made.err
    paid = specie("request", "pay", "-", "--memo", "hi", stdin=request + "\n")
    token = paid.out.strip()
    assert token.startswith("cashuB")
    assert "coffee" in paid.err
    assert specie("request", "pay", request).code == 3
    got = specie("request", "accept", request, "-", "--name", "bob", stdin=token)
    assert "21 sat" in got.out
    assert "hi" in got.out
    shown = specie("request", "show", number, "--name", "bob")
    assert "PAID" in shown.out
    assert "coffee" in specie("request", "list", "--name", "bob").out
    listed = specie("request", "list", "--paid", "--json").json()["payments"]
    assert [(one["state"], one["amount"]) for one in listed] == [("CLAIMED", 21)]
    assert "CLAIMED" in specie("request", "list", "--paid").out
    other = specie("request", "create", "--form", "creqB", "--many", "--name", "bob", "--json").json()
    assert other["short"].startswith("CREQB1")
    assert specie("request", "cancel", other["id"], "--name", "bob", "--json").json()["state"] == "CANCELLED"
    assert specie("request", "show", "nothing", "--name", "bob").code == 3
    assert "none yet" in specie("request", "list", "--name", "carol").out
    assert "nothing paid" in specie("request", "list", "--paid", "--name", "carol").out


def test_request_in_the_terminal_over_a_relay(specie: Run, relay: str) -> None:
    """create --relay, pay --private, watch --once and --count; without --private a relay on this machine is refused."""
    specie("mint", "100")
    own = specie("request", "create", "21", "--relay", relay, "--lock", "--name", "bob", "--json").json()
    refused = specie("request", "pay", own["short"])
    assert refused.code == 6
    (payment,) = specie("request", "list", "--paid", "--json").json()["payments"]
    assert payment["state"] == "UNDELIVERED"
    assert "private network" in payment["error"]
    delivered = specie("request", "deliver", payment["id"], "--private")
    assert "delivered by nostr" in delivered.out
    arrivals = specie("request", "watch", "--once", "--name", "bob", "--json").json()["arrivals"]
    assert [(one["request"], one["amount"]) for one in arrivals] == [(own["id"], 21)]
    again = specie("request", "create", "5", "--relay", relay, "--many", "--name", "bob", "--json").json()
    for _ in range(2):
        assert specie("request", "pay", again["request"], "--private", "--json").json()["state"] == "DELIVERED"
    watched = specie("request", "watch", "--count", "2", "--name", "bob")
    assert watched.out.count("5 sat") == 2
    assert specie("request", "watch", "--once", "--name", "bob").out.count("5 sat") == 2
    assert specie("request", "watch", "--name", "carol").code == 3


def test_posted_payment_in_the_terminal(specie: Run, bank: RunningBank, tmp_path: Path) -> None:
    """watch --listen takes what is posted, in a process of its own, and ends after one."""
    specie("mint", "100")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}/"
    own = specie("request", "create", "21", "--post", address, "--name", "shop", "--json").json()
    assert specie("request", "watch", "--listen", "here", "--name", "shop").code == 2
    with subprocess.Popen(
        [*SPECIE, "wallet", "request", "watch", "--listen", f"127.0.0.1:{port}", "--count", "1", "--name", "shop", "--json"],
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as shop:
        watchdog = threading.Timer(60, shop.kill)
        watchdog.start()
        code = specie("request", "pay", own["request"], "--private").code
        while code == 6 and shop.poll() is None:
            (payment,) = specie("request", "list", "--paid", "--json").json()["payments"]
            code = specie("request", "deliver", payment["id"], "--private").code
        out, err = shop.communicate()
        watchdog.cancel()
    assert (code, shop.returncode) == (0, 0), err
    assert json.loads(out)["amount"] == 21


def test_list_of_mints_in_the_terminal(
    specie: Run, bank: RunningBank, relay: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mints backup, then mints restore in another wallet of the same words: nothing without a yes, then the mint is trusted."""
    specie("mint", "10")
    words = specie("words", "--json").json()["words"]
    assert "1 mints on 1 of 1 relays" in specie("mints", "backup", relay).out
    assert specie("mints", "restore", relay, "--json").json()["new"] == []
    file = tmp_path / "words.txt"
    file.write_text(words)
    monkeypatch.setenv("SPECIE_WALLET_MINT_URL", "http://127.0.0.1:1")
    assert specie("init", "--words-file", file, "--name", "phone", "--key-file").code == 0
    asked = specie("mints", "restore", relay, "--name", "phone")
    assert "1 not trusted" in asked.out
    assert "new" in asked.out
    found = specie("mints", "restore", relay, "--yes", "--name", "phone", "--json").json()
    assert (found["mints"], found["added"]) == ([bank.url], [bank.url])
    assert "10 sat restored" in specie("restore", "--words-file", file, "--name", "phone").out
    assert specie("mints", "restore", "ws://127.0.0.1:1").code == 5
