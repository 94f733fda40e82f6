"""A bank that is killed again and again while wallets use it, and the count afterwards.

The bank is a process of its own (`specie up`), killed with SIGKILL at drawn moments, some of them while it starts. The
wallets live here; they take up what was cut off, as any wallet does. Everything lies in a temporary directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from specie.app.wallet import Wallet
from specie.kernel.errors import InvariantError, RefusedError, SpecieError, UnavailableError, UncertainError
from specie.keys import SealSource
from specie.server.admin_client import admin_client
from specie.wallet import RetryPolicy, WalletSettings

__all__ = ["CrashReport", "crash_bank"]

_START_S = 60.0
_SETTLE_S = 90.0
_WALLETS = ("alice", "bob", "carol")
_CUSTOMERS = 2
"""Verbs of one wallet that run at once."""
_SEALED = SealSource(play_key=True)
_SETTINGS = WalletSettings(
    payment_wait_s=5.0,
    breaker_threshold=1_000_000,
    retry=RetryPolicy(attempts=3, base_s=0.05, longest_s=0.15),
    poll_s=0.1,
    longest_poll_s=0.5,
)


@dataclass
class CrashReport:
    """What happened and what was counted; amounts in sat."""

    seed: int
    kills: int = 0
    seconds: float = 0.0
    mints: int = 0
    payments: int = 0
    tokens: int = 0
    interrupted: int = 0
    refused: int = 0
    issued: int = 0
    redeemed: int = 0
    outstanding: int = 0
    held: int = 0
    audit: str = field(default="not audited")
    """What the audit found wrong; empty if the books agree with all history."""

    @property
    def lost(self) -> int:
        """What the bank owes and no wallet holds."""
        return max(self.outstanding - self.held, 0)

    @property
    def created(self) -> int:
        """What wallets hold and the bank does not owe."""
        return max(self.held - self.outstanding, 0)

    @property
    def sound(self) -> bool:
        """Whether every coin is where it should be, the books agree, and there was money to lose."""
        return self.issued > 0 and self.lost == self.created == 0 and not self.audit

    def facts(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self) | {"lost": self.lost, "created": self.created, "sound": self.sound}


class _Bank:
    """The bank's process; always the same port and directory."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = 0
        self.url = ""
        self.socket = home / "bank" / "admin.sock"
        self._process: asyncio.subprocess.Process | None = None

    async def spawn(self) -> asyncio.subprocess.Process:
        """Start it; it is not ready yet."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPECIE_", "XDG_"))}
        places = {"HOME": self.home, "XDG_DATA_HOME": self.home, "XDG_CONFIG_HOME": self.home / "config"}
        options = [
            "--data",
            str(self.home / "bank"),
            "--port",
            str(self.port),
            "--autopay-delay",
            "0.4",
            "--log-level",
            "error",
        ]
        with (self.home / "bank.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "specie", "up", "--json", *options),
                env=kept | {name: str(place) for name, place in places.items()},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        return self._process

    async def ready(self) -> None:
        """Wait until it takes connections. UnavailableError if it does not."""
        process = self._process
        if process is None or process.stdout is None:
            raise InvariantError("the bank was not spawned")
        try:
            async with asyncio.timeout(_START_S):
                line = await process.stdout.readline()
        except TimeoutError:
            line = b""
        if not line:
            log = (self.home / "bank.log").read_text(errors="replace").strip().splitlines()
            raise UnavailableError(f"the bank did not start: {log[-1] if log else 'it said nothing'}")
        facts = json.loads(line)
        self.port, self.url = facts["port"], facts["url"]

    async def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; the exit code."""
        process = self._process
        if process is None:
            return 0
        self._process = None
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        return await process.wait()


async def crash_bank(kills: int, seed: int, say: Callable[[str], None]) -> CrashReport:
    """Run the whole demonstration; `say` hears how it goes. Ends in bounded time, with nothing left behind."""
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    if task is not None:
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        async with asyncio.timeout(120 + 20 * kills):
            with tempfile.TemporaryDirectory(prefix="specie-demo-") as place:
                return await _crash(Path(place), kills, seed, say)
    except TimeoutError:
        raise UnavailableError("the demonstration took too long on this machine") from None
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def _crash(home: Path, kills: int, seed: int, say: Callable[[str], None]) -> CrashReport:
    report, rng, began = CrashReport(seed), random.Random(seed), time.monotonic()  # noqa: S311 - draws moments, not secrets
    bank = _Bank(home)
    try:
        await bank.spawn()
        await bank.ready()
        async with _wallets(home, bank.url) as wallets:
            done = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                for number in range(_CUSTOMERS * len(wallets)):
                    wallet, to = wallets[number % len(wallets)], wallets[(number + 1) % len(wallets)]
                    group.create_task(_customer(wallet, to, random.Random(f"{seed}:{number}"), report, done))  # noqa: S311
                await _kill_often(bank, kills, rng, report, say)
                await asyncio.sleep(1.0)
                done.set()
            say("the wallets take up what was cut off")
            await _settle(wallets)
            say("counting")
            report.held = sum([(await wallet.balance()).available for wallet in wallets])
        await _count(bank, report)
        if await bank.end(signal.SIGTERM) != 0:
            report.audit = report.audit or "the bank did not stop cleanly"
    finally:
        await asyncio.shield(bank.end(signal.SIGKILL))
    report.seconds = round(time.monotonic() - began, 1)
    return report


@contextlib.asynccontextmanager
async def _wallets(home: Path, url: str) -> AsyncIterator[list[Wallet]]:
    """Fresh wallets that trust the bank."""
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                Wallet.open(home / name, sealed=_SEALED, mint=url, settings=_SETTINGS, config_home=home / "config")
            )
            for name in _WALLETS
        ]


async def _kill_often(bank: _Bank, kills: int, rng: random.Random, report: CrashReport, say: Callable[[str], None]) -> None:
    """Kill and restart until it has been killed `kills` times; one in five dies while it starts."""
    for _ in range(200):  # first some money
        if report.mints >= len(_WALLETS):
            break
        await asyncio.sleep(0.1)
    while report.kills < kills:
        await asyncio.sleep(rng.uniform(0.1, 1.5))
        done = f"{report.mints} mints, {report.payments} payments, {report.tokens} tokens"
        say(f"kill {report.kills + 1} of {kills}  ·  {done}")
        await bank.end(signal.SIGKILL)
        report.kills += 1
        await bank.spawn()
        while report.kills < kills and rng.random() < 0.2:
            await asyncio.sleep(rng.uniform(0.1, 1.2))
            await bank.end(signal.SIGKILL)
            report.kills += 1
            await bank.spawn()
        await bank.ready()


async def _customer(wallet: Wallet, to: Wallet, rng: random.Random, report: CrashReport, done: asyncio.Event) -> None:
    """Mint, pay the neighbour's invoices and hand tokens over until told to stop; errors are what this is about."""
    while not done.is_set():
        try:
            async with asyncio.timeout(20):
                await _verb(wallet, to, rng, report)
        except (UnavailableError, UncertainError, TimeoutError):
            report.interrupted += 1
            await wallet.resume()
            await asyncio.sleep(0.2)
        except RefusedError:  # an invoice that paid itself first, a quote that is being worked on
            report.refused += 1
            await wallet.resume()


async def _verb(wallet: Wallet, to: Wallet, rng: random.Random, report: CrashReport) -> None:
    free = (await wallet.balance()).available
    choice = rng.random()
    if free < 20 or choice < 0.1:
        await wallet.mint(rng.randrange(100, 1000), timeout_s=5.0)
        report.mints += 1
    elif choice < 0.5:
        quote = await to.mint_quote(rng.randrange(1, free // 4))
        if (await wallet.pay(quote.request, max_fee=5)).state == "PAID":
            report.payments += 1
        await to.check_pending()
    else:
        token = await wallet.send(rng.randrange(1, free // 4))
        await to.receive(token.text)
        report.tokens += 1


async def _settle(wallets: list[Wallet]) -> None:
    """Until nothing is open in any wallet: operations, tokens nobody took, invoices that were paid."""
    until = time.monotonic() + _SETTLE_S
    while time.monotonic() < until:
        for wallet in wallets:
            await wallet.resume(wait_s=2.0)
            for token in await wallet.tokens():
                with contextlib.suppress(SpecieError):  # redeemed by its receiver: the look below marks it so
                    await wallet.reclaim(token.token_id)
            await wallet.check_pending()
        balances = [await wallet.balance() for wallet in wallets]
        open_operations = [operation for wallet in wallets for operation in await wallet.operations()]
        if not open_operations and not any(one.reserved or one.sent or one.unswapped for one in balances):
            return
        await asyncio.sleep(0.5)
    raise InvariantError("the wallets could not finish what was cut off")


async def _count(bank: _Bank, report: CrashReport) -> None:
    """What the bank's own books say, checked against all its history."""
    async with admin_client(bank.socket) as operator:
        try:
            await operator.audit()
            report.audit = ""
        except InvariantError as error:
            report.audit = error.detail
        for keyset in await operator.keysets():
            report.issued += keyset["issued"]
            report.redeemed += keyset["redeemed"]
            report.outstanding += keyset["outstanding"]
