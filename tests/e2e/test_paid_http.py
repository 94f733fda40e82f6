"""Paid HTTP in real processes: a bank, a paywall in front of a small server, and somebody who pays; with kills between."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from specie import SyncWallet
from specie.keys import SealSource
from tests.support.process import free_port
from tests.support.programs import SPECIE, RunningBank, home_environment, running_bank

pytestmark = pytest.mark.e2e

PRICE = 21


@dataclass
class Upstream:
    """A server that sells something: it counts, and hangs while it is told to."""

    url: str = ""
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """It runs in a thread of this process."""
    state = Upstream()
    state.go.set()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            state.requests.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            state.arrived.set()
            state.go.wait(30)
            content = b"wares of " + self.path.encode() + b" " + body
            with contextlib.suppress(OSError):
                self.send_response(302 if self.path == "/moved" else 200)
                if self.path == "/moved":
                    self.send_header("location", "/elsewhere")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        do_GET = do_POST = _answer

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield state
    state.go.set()
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBank]:
    """One bank for all tests here."""
    with running_bank(tmp_path_factory.mktemp("bank"), "--autopay-delay", "0.1") as running:
        yield running


@dataclass
class Shop:
    """A paywall in a process, which can be killed and started again at the same address."""

    home: Path
    bank: RunningBank
    upstream: Upstream
    arguments: tuple[str, ...]
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[str] | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return home_environment(self.home, SPECIE_WALLET_MINT_URL=self.bank.url)

    def start(self) -> None:
        log = Path(tempfile.mkstemp(dir=self.home, suffix=".log")[1])
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                [*SPECIE, "wallet", "paywall", "--json", "--listen", f"127.0.0.1:{self.port}", *self.arguments],
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=self.home,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, log.read_text()
        self.facts = json.loads(line)

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return code

    def run(self, *arguments: str) -> Any:
        done = subprocess.run(
            [*SPECIE, *arguments, "--json"], env=self.environment, cwd=self.home, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@contextlib.contextmanager
def shop(home: Path, bank: RunningBank, upstream: Upstream, *arguments: str) -> Iterator[Shop]:
    """A running paywall that sells `/paid*` of the upstream."""
    home.mkdir(exist_ok=True)
    prices = arguments or ("--price", f"GET /paid*={PRICE}", "--price", "POST /paid*=5", "--price", "GET /moved=3")
    running = Shop(home, bank, upstream, ("--upstream", upstream.url, *prices))
    running.start()
    try:
        yield running
    finally:
        if running.process is not None:
            running.end(signal.SIGKILL)


@pytest.fixture
def payer(bank: RunningBank, tmp_path: Path) -> Iterator[SyncWallet]:
    """A wallet with money."""
    with SyncWallet.open(
        tmp_path / "payer", mint=bank.url, sealed=SealSource(play_key=True), config_home=tmp_path / "config"
    ) as wallet:
        wallet.mint(500)
        yield wallet


def get(running: Shop, path: str, token: str | None = None, **options: Any) -> httpx2.Response:
    headers = {} if token is None else {"X-Cashu": token}
    return httpx2.get(running.facts["url"] + path, headers=headers, timeout=30, trust_env=False, **options)


def taken(running: Shop) -> dict[str, int]:
    found = running.run("wallet", "takings")
    return {one["resource"]: one["amount"] for one in found["takings"]}


def test_client_proxy_upstream(bank: RunningBank, upstream: Upstream, payer: SyncWallet, tmp_path: Path) -> None:
    """`specie wallet fetch` pays `specie wallet paywall` and prints the upstream's body; every limit and option holds."""
    with shop(tmp_path / "shop", bank, upstream) as running:
        assert running.facts["prices"][0] == {"method": "GET", "path": "/paid*", "amount": PRICE, "unit": "sat"}
        assert get(running, "/free").content == b"wares of /free "
        asked = get(running, "/paid/a")
        assert (asked.status_code, asked.headers["x-cashu"][:5]) == (402, "creqA")

        home = tmp_path / "buyer"
        home.mkdir()
        environment = home_environment(home, SPECIE_WALLET_MINT_URL=bank.url)

        def fetch(*arguments: str) -> subprocess.CompletedProcess[bytes]:
            url = running.facts["url"]
            line = [*SPECIE, "wallet", *(one.replace("URL", url) for one in arguments)]
            return subprocess.run(line, env=environment, cwd=home, capture_output=True, timeout=60)

        assert fetch("mint", "100").returncode == 0
        bought = fetch("fetch", "URL/paid/a?x=1", "--max", "30")
        assert (bought.returncode, bought.stdout) == (0, b"wares of /paid/a?x=1 ")
        refused = fetch("fetch", "URL/paid/b", "--max", "20", "--json")
        assert refused.returncode == 3
        assert json.loads(refused.stderr.splitlines()[-1])["error"]["error"] == "SpendingLimitError"
        assert fetch("fetch", "URL/paid/b", "--max", "30", "--max-host", "41").returncode == 3  # 21 were spent before
        posted = json.loads(fetch("fetch", "URL/paid/c", "--max", "30", "-X", "post", "-d", "hello", "--json").stdout)
        assert (posted["status"], posted["body"], posted["paid"][0]["amount"]) == (200, "wares of /paid/c hello", 5)
        moved = fetch("fetch", "URL/moved", "--max", "30", "-L", "-o", "out")
        assert (moved.returncode, (home / "out").read_bytes()) == (0, b"wares of /elsewhere ")
        assert all("x-cashu" not in headers for _, _, headers, _ in upstream.requests)
        assert running.end(signal.SIGTERM) == 0
        assert taken(running) == {"GET /paid/a?x=1": 21, "POST /paid/c": 5, "GET /moved": 3}
        held = json.loads(fetch("balance", "--json").stdout)["balance"]["sat"]
        assert held + running.run("wallet", "balance")["balance"]["sat"] == 100


def test_killed_between_redeem_and_answer(bank: RunningBank, upstream: Upstream, payer: SyncWallet, tmp_path: Path) -> None:
    """SIGKILL while the paid request is at the upstream: after a restart the same token gets the wares, paid for once."""
    with shop(tmp_path / "shop", bank, upstream) as running:
        token = payer.send(PRICE).text
        for _ in range(3):
            upstream.go.clear()
            upstream.arrived.clear()
            errors: list[BaseException] = []

            def ask(errors: list[BaseException] = errors) -> None:
                try:
                    get(running, "/paid", token)
                except httpx2.TransportError as error:
                    errors.append(error)

            asking = threading.Thread(target=ask)
            asking.start()
            assert upstream.arrived.wait(30)
            running.end(signal.SIGKILL)
            asking.join(30)
            assert errors
            upstream.go.set()
            running.start()
        answer = get(running, "/paid", token)
        assert (answer.status_code, answer.content) == (200, b"wares of /paid ")
        assert get(running, "/paid/other", token).status_code == 400
        running.end(signal.SIGTERM)
        assert taken(running) == {"GET /paid": PRICE}


def test_killed_at_any_moment(bank: RunningBank, upstream: Upstream, payer: SyncWallet, tmp_path: Path) -> None:
    """SIGKILL at moments spread over the taking of a token: the payer, asking again, gets what he paid for, paid once."""
    with shop(tmp_path / "shop", bank, upstream) as running:
        for number in range(5):
            token = payer.send(PRICE).text
            path = f"/paid/{number}"
            killer = threading.Timer(0.006 * number, lambda: os.kill(running.process.pid, signal.SIGKILL))  # type: ignore[union-attr]
            killer.start()
            with contextlib.suppress(httpx2.TransportError):
                get(running, path, token)
            killer.join()
            running.end(signal.SIGKILL)
            running.start()
            answer = get(running, path, token)
            assert (answer.status_code, answer.content) == (200, f"wares of {path} ".encode())
        running.end(signal.SIGTERM)
        assert sum(taken(running).values()) == 5 * PRICE
        assert running.run("wallet", "balance")["balance"]["sat"] == 5 * PRICE


def test_two_at_once_and_what_does_not_fit(bank: RunningBank, upstream: Upstream, payer: SyncWallet, tmp_path: Path) -> None:
    """Ten at the same moment are one payment; too little, a spent token and an oversized header are told apart."""
    with shop(tmp_path / "shop", bank, upstream) as running:
        token = payer.send(PRICE).text

        async def at_once() -> list[int]:
            async with httpx2.AsyncClient(base_url=running.facts["url"], trust_env=False, timeout=30) as client:
                answers = await asyncio.gather(*(client.get("/paid", headers={"X-Cashu": token}) for _ in range(10)))
            return sorted(one.status_code for one in answers)

        assert asyncio.run(at_once()) == [200] * 5 + [400] * 5
        assert "less" in get(running, "/paid/x", payer.send(PRICE - 1).text).json()["detail"]
        spent = payer.send(PRICE)
        payer.reclaim(spent.token_id)
        assert "spent" in get(running, "/paid/x", spent.text).json()["detail"]
        assert get(running, "/paid/x", "cashuB" + "A" * 20_000).status_code == 431
        with contextlib.suppress(httpx2.TransportError):  # the server may hang up on what it does not read
            assert get(running, "/paid/x", "cashuB" + "A" * 200_000).status_code in (400, 431)
        running.end(signal.SIGTERM)
        assert taken(running) == {"GET /paid": PRICE}


def test_taken_off_line(bank: RunningBank, upstream: Upstream, payer: SyncWallet, tmp_path: Path) -> None:
    """With --lock and --later a token is taken without the mint, and swapped when the paywall ends."""
    from specie.wallet import P2PK

    arguments = ("--price", "GET /*=8", "--lock", "--later", "100")
    with shop(tmp_path / "shop", bank, upstream, *arguments) as running:
        from specie.ecash import decode_payment_request

        lock = decode_payment_request(get(running, "/a").headers["x-cashu"]).lock
        assert lock is not None
        token = payer.send(8, lock=P2PK((lock.data,))).text
        assert get(running, "/a", payer.send(8).text).status_code == 400
        assert get(running, "/a", token).status_code == 200
        running.end(signal.SIGKILL)
        running.start()
        assert decode_payment_request(get(running, "/a").headers["x-cashu"]).lock == lock
        assert get(running, "/a", token).status_code == 200
        assert get(running, "/b", token).status_code == 400
        running.end(signal.SIGTERM)
        running.run("wallet", "tidy")
        assert running.run("wallet", "balance")["mints"][0]["available"] == 8


@pytest.mark.parametrize(
    "arguments",
    [
        ("--price", "GET /=1"),
        ("--upstream", "http://127.0.0.1:1"),
        ("--upstream", "http://127.0.0.1:1", "--price", "nonsense"),
        ("--upstream", "http://127.0.0.1:1", "--price", "GET /=1", "--later", "5"),
    ],
)
def test_command_lines_that_say_too_little(bank: RunningBank, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """No upstream, no price, a price that is none, later without a lock: usage errors before anything is served."""
    environment = home_environment(tmp_path, SPECIE_WALLET_MINT_URL=bank.url)
    done = subprocess.run(
        [*SPECIE, "wallet", "paywall", *arguments], env=environment, cwd=tmp_path, capture_output=True, timeout=60
    )
    assert done.returncode == 2, done.stderr
