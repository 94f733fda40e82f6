"""SIGKILL under load: real processes, real stores; no coin is lost, none is created, and no request has two effects."""

from __future__ import annotations

import asyncio
import random
import shutil
from pathlib import Path

import pytest

from specie.ecash import MintQuoteRequest, Proof, wire
from specie.kernel import RefusedError
from tests.support.http_purse import HttpPurse
from tests.support.process import BankProcess
from tests.support.rocks import needs_rocksdb

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

KILLS = 6
HOLDERS = 6
COIN_SUM = 64


async def hold(purse: HttpPurse, done: asyncio.Event, number: int) -> tuple[list[Proof], int, int]:
    """Swap without end and now and then pay an own invoice, until told; what is held, what was paid away, how many swaps."""
    coins = await purse.mint(COIN_SUM)
    paid = swaps = 0
    while not done.is_set():
        coins = await purse.swap(coins)
        swaps += 1
        if swaps % 7 == number % 7 and paid < 20:
            asked = wire.mint_quote_request_to_json(MintQuoteRequest("bolt11", "sat", 1))
            invoice = wire.mint_quote_from_json(await purse.ask("POST", "/v1/mint/quote/bolt11", asked)).request
            coin = min(coins, key=lambda one: one.amount)
            try:
                _, change = await purse.pay(invoice, [coin])
            except RefusedError:  # the invoice paid itself first; the coin is still ours
                continue
            coins = [one for one in coins if one is not coin] + change
            paid += 1
    return coins, paid, swaps


async def spend_and_kill(banks: list[BankProcess], seed: int) -> None:
    """Hold coins at `banks` while they are killed in turn, then count."""
    rng = random.Random(seed)
    purses = [HttpPurse([bank.url for bank in banks]) for _ in range(HOLDERS)]
    done = asyncio.Event()
    holding = [asyncio.create_task(hold(purse, done, number)) for number, purse in enumerate(purses)]
    try:
        for kill in range(KILLS):
            await asyncio.sleep(rng.uniform(0.3, 1.2))
            bank = banks[kill % len(banks)]
            bank.kill()
            await asyncio.to_thread(bank.start)
        done.set()
        held = await asyncio.wait_for(asyncio.gather(*holding), 120)
        assert all(coins for coins, _, _ in held)
        assert sum(purse.lost_answers for purse in purses) > 0, "no request was hit by a kill"
        assert sum(swaps for _, _, swaps in held) > 2 * HOLDERS
        every = [coin for coins, _, _ in held for coin in coins]
        assert len({coin.secret for coin in every}) == len(every)
        body = wire.check_state_request_to_json([coin.y for coin in every])
        states = wire.states_from_json(await purses[0].ask("POST", "/v1/checkstate", body))
        assert {state.state.value for state in states} == {"UNSPENT"}
        books = banks[0].run("mint", "liabilities", "--verify", "--data", str(banks[0].data), *database(banks[0]))
        outstanding = sum(int(row["outstanding"]) for row in books["keysets"])
        assert sum(coin.amount for coin in every) == outstanding
    finally:
        done.set()
        for task in holding:
            task.cancel()
        await asyncio.gather(*holding, return_exceptions=True)
        for purse in purses:
            await purse.close()


def database(bank: BankProcess) -> list[str]:
    return [] if bank.dsn is None else ["--database", bank.dsn]


async def test_sqlite_survives_sigkill_under_load(tmp_path: Path) -> None:
    """One process on SQLite, killed six times while six holders swap and pay."""
    bank = BankProcess(tmp_path, tmp_path / "bank")
    bank.start()
    try:
        await spend_and_kill([bank], seed=1)
    finally:
        assert bank.stop() == 0


@needs_rocksdb
async def test_rocksdb_survives_sigkill_under_load(tmp_path: Path) -> None:
    """One process on RocksDB (it takes no second one), killed six times while six holders swap and pay."""
    bank = BankProcess(tmp_path, tmp_path / "bank", arguments=("--store", "rocksdb"))
    bank.start()
    try:
        await spend_and_kill([bank], seed=3)
    finally:
        assert bank.stop() == 0
    assert (tmp_path / "bank" / "bank.rocksdb").is_dir()
    assert not (tmp_path / "bank" / "bank.sqlite").exists()


@pytest.mark.postgres
async def test_postgres_with_two_processes_survives_sigkill_under_load(tmp_path: Path, postgres_dsn: str) -> None:
    """Two processes with one seed on one PostgreSQL, killed in turn; requests go to either."""
    first = BankProcess(tmp_path, tmp_path / "first", dsn=postgres_dsn)
    first.start()
    second = BankProcess(tmp_path, tmp_path / "second", dsn=postgres_dsn)
    shutil.copytree(first.data, second.data, ignore=shutil.ignore_patterns("*.sock", "lock"))
    second.start()
    try:
        await spend_and_kill([first, second], seed=2)
    finally:
        first.stop()
        second.stop()
