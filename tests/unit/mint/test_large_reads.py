"""Large questions about the past: shares, turns and rests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from specie.mint.engine.large_reads import SHARE, LargeReads
from specie.storage import Transaction
from specie.storage.ports import StorageStatus

MOST = 1_000


class Store:
    """Answers keys with themselves, and knows how many are asked for at once; commits as it is told."""

    def __init__(self) -> None:
        self.asked: list[list[bytes]] = []
        self.commits_a_read = 0
        self.commits = 0
        self.held: asyncio.Event | None = None
        self.reading = 0
        self.most_reading = 0

    async def read(self, body: Any) -> Any:
        self.reading += 1
        self.most_reading = max(self.most_reading, self.reading)
        if self.held is not None:
            await self.held.wait()
        await asyncio.sleep(0)
        self.commits += self.commits_a_read
        self.reading -= 1
        return await body(self)

    def status(self) -> StorageStatus:
        return StorageStatus("double", self.commits, 0, 0)

    async def look(self, tx: Transaction, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        assert tx is not None
        self.asked.append(list(keys))
        return {key: key for key in keys if key != b"unknown"}


class Clock:
    """Each look at it is a hundredth of a second later; sleeps are written down."""

    def __init__(self) -> None:
        self.at = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        self.at += 0.01
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reads(store: Store, clock: Clock) -> LargeReads:
    return LargeReads(store, clock)  # type: ignore[arg-type]  # doubles of what is used


def keys(count: int) -> list[bytes]:
    return [number.to_bytes(4, "big") for number in range(count)]


async def test_everything_is_found_in_shares(reads: LargeReads, store: Store) -> None:
    """A thousand keys are four reads, none larger than a share; what is not there is absent, and nothing is asked twice."""
    wanted = keys(MOST)
    found = await reads.read(store.look, [*wanted, b"unknown", *wanted])
    assert found == {key: key for key in wanted}
    assert [len(part) for part in store.asked] == [SHARE, SHARE, SHARE, MOST + 1 - 3 * SHARE]
    assert sorted(key for part in store.asked for key in part) == sorted([*wanted, b"unknown"])


async def test_nothing_is_asked_for_no_keys_at_all(reads: LargeReads, store: Store) -> None:
    """An empty question has an empty answer."""
    assert await reads.read(store.look, []) == {}
    assert store.asked in ([], [[]])


async def test_rests_while_money_moves(reads: LargeReads, store: Store, clock: Clock) -> None:
    """Where something was committed during a share, the next waits four times as long as it took."""
    store.commits_a_read = 1
    await reads.read(store.look, keys(MOST))
    assert clock.slept == pytest.approx([0.04] * 4)


async def test_does_not_rest_on_a_quiet_mint(reads: LargeReads, store: Store, clock: Clock) -> None:
    """Nobody waits where nothing is committed."""
    await reads.read(store.look, keys(MOST))
    assert clock.slept == []


async def test_a_rest_is_bounded(reads: LargeReads, store: Store, clock: Clock) -> None:
    """However long a share took, the next one comes after a tenth of a second."""
    store.commits_a_read = 1
    real = clock.monotonic
    clock.monotonic = lambda: real() * 1_000  # type: ignore[method-assign]
    await reads.read(store.look, keys(MOST))
    assert clock.slept == [0.1] * 4


async def test_one_at_a_time(reads: LargeReads, store: Store) -> None:
    """Large questions of many requests are read one after another, and each gets its own answer."""
    questions = [[bytes([number]) + key for key in keys(SHARE)] for number in range(5)]
    answers = await asyncio.gather(*(reads.read(store.look, question) for question in questions))
    assert [list(answer) for answer in answers] == questions
    assert store.most_reading == 1


async def test_small_questions_do_not_wait(reads: LargeReads, store: Store) -> None:
    """Half a share or less is answered while a large question is stuck."""
    store.held = asyncio.Event()
    large = asyncio.ensure_future(reads.read(store.look, keys(MOST)))
    await asyncio.sleep(0)
    held, store.held = store.held, None
    assert len(await reads.read(store.look, keys(SHARE // 2))) == SHARE // 2
    assert not large.done()
    held.set()
    assert len(await large) == MOST


async def test_a_failure_lets_the_next_one_in(reads: LargeReads, store: Store) -> None:
    """A question whose caller is gone, or whose read failed, keeps nobody waiting."""

    async def broken(tx: Transaction, asked: Sequence[bytes]) -> Mapping[bytes, bytes]:
        raise OSError("the disk")

    with pytest.raises(OSError, match="the disk"):
        await reads.read(broken, keys(MOST))
    store.held = asyncio.Event()
    gone = asyncio.ensure_future(reads.read(store.look, keys(MOST)))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    store.held = None
    assert len(await reads.read(store.look, keys(MOST))) == MOST
