"""The pure parts of the benchmark programs, and the history that they put into a store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bench import fill
from bench.check import compared, section_totals
from bench.connections import distribution
from bench.history import sizes_up_to
from bench.mixed import shares_of
from bench.wallet import losses
from bench.workload import FixedEntropy, StoppedClock
from specie.keys.adapters.software import SoftwareSigner
from specie.ledger import Ledger
from specie.ledger.adapters.store_sql import MIGRATIONS as LEDGER_MIGRATIONS
from specie.ledger.adapters.store_sql import SqlLedgerStore
from specie.mint import Mint, MintSettings
from specie.mint.adapters.store_sql import MIGRATIONS as MINT_MIGRATIONS
from specie.mint.adapters.store_sql import SqlMintStore
from specie.storage.adapters.sqlite import SqliteStorage

_DUMP = "desc: Trigger: Client Request: swap4\nevents: Ir\nsummary: 100\n\nfl=x\n1 100\n\ntotals: 100\n"


def test_counts_are_read_from_a_dump() -> None:
    """Name and total; a dump that nobody asked for is none, half a dump is an error and not a good result."""
    assert section_totals(_DUMP) == ("swap4", 100)
    assert section_totals(_DUMP.replace("Client Request: swap4", "Program termination")) is None
    with pytest.raises(ValueError, match="no end"):
        section_totals(_DUMP.replace("totals: 100", ""))


def test_more_than_a_tenth_more_instructions_is_wrong() -> None:
    """A tenth is let pass, more is not; less never is; a section that only one side has is wrong, not skipped."""
    rows, wrong = compared({"a": 110.0, "b": 111.0, "c": 10.0, "new": 1.0}, {"a": 100.0, "b": 100.0, "c": 100.0, "old": 1.0})
    assert wrong == ["b", "old", "new"]
    assert ["b", 100.0, 111.0, "+11.0%"] in rows


def test_the_workload_is_the_same_each_time() -> None:
    """Entropy repeats itself from its seed, and not within a run."""
    one, other = FixedEntropy("x"), FixedEntropy("x")
    first = one.bytes(100)
    assert first == other.bytes(100)
    assert len(first) == 100
    assert one.bytes(100) != first
    assert StoppedClock().now() * 10**9 == StoppedClock().now_ns()


def test_histories_go_up_to_what_was_asked() -> None:
    """The series' own sizes below it, and itself."""
    assert sizes_up_to(1_000_000) == [1_000, 1_000_000]
    assert sizes_up_to(50_000) == [1_000, 50_000]


def test_every_coin_has_a_watcher_and_no_watcher_one_twice() -> None:
    """Dealt round and round, also where there are fewer items than each taker wants."""
    shares = shares_of([str(at) for at in range(10)], takers=4, each=3)
    assert {item for share in shares for item in share} == {str(at) for at in range(10)}
    assert all(len(set(share)) == 3 for share in shares)
    assert shares_of(["a", "b"], takers=1, each=8) == [["a", "b"]]
    with pytest.raises(ValueError, match="nothing"):
        shares_of([], 1, 1)


def test_a_distribution_ends_at_the_slowest() -> None:
    """Ascending in both, in percent and milliseconds; nothing measured gives nothing."""
    marks = distribution([at / 1000 for at in range(1, 101)])
    assert marks == sorted(marks)
    assert marks[-1] == (100.0, 100.0)
    assert (99.0, 99.0) in marks
    assert distribution([]) == []


def test_what_ours_loses_is_told() -> None:
    """By time or by processor time, against each other wallet; nothing that the other was not measured at."""
    ours = {"import": {"ms": 2.0, "cpu_ms": 1.0}, "restore": {"ms": 1.0, "cpu_ms": 1.0}}
    theirs = {"import": {"ms": 1.0, "cpu_ms": 1.5}}
    assert losses({"specie": ours, "other": theirs}) == ["import: 2.0 ms of time against 1.0 ms of other"]
    assert losses({"other": theirs}) == []


def test_keys_of_a_history_are_random_and_in_order() -> None:
    """Ascending, all different, of a point's shape, from all over the range; another seed gives others."""
    keys = list(fill.keys(1000, 1))
    assert keys == sorted(set(keys))
    assert {len(key) for key in keys} == {33}
    assert {key[0] for key in keys} == {2}
    assert len({key[1] for key in keys}) > 200
    assert not set(keys) & set(fill.keys(1000, 2))


@pytest.mark.parametrize("rows", [1, 8, 1003])
def test_the_sum_of_a_history_is_that_of_its_coins(rows: int) -> None:
    """The shortcut and the long way agree."""
    assert fill.total_of(rows) == sum(map(fill.amount_of, range(rows)))


def test_sqlite_is_always_among_the_engines() -> None:
    """It needs no setting."""
    assert fill.embedded_engines()[0] == "sqlite"


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[SqliteStorage]:
    """An empty store of a mint on disk."""
    opened = SqliteStorage(tmp_path / "bank.sqlite", inline=True, synchronous="OFF")
    await opened.migrate((*LEDGER_MIGRATIONS, *MINT_MIGRATIONS))
    yield opened
    await opened.close()


@pytest.mark.parametrize("through_port", [True, False])
async def test_a_filled_bank_balances(storage: SqliteStorage, tmp_path: Path, through_port: bool) -> None:
    """Both ways of filling leave a mint whose audit, books against journal against coins, finds nothing wrong."""
    entropy = FixedEntropy("fill")
    mint = Mint(
        settings=MintSettings(),
        storage=storage,
        store=SqlMintStore(),
        ledger=Ledger(SqlLedgerStore()),
        signer=SoftwareSigner(entropy.bytes(32), threads=0, entropy=entropy),
        rails=(),
        clock=StoppedClock(),
        entropy=entropy,
    )
    await mint.start()
    rows, keyset = 1003, mint.keysets()[0].id
    await fill._book(storage, keyset, fill.total_of(rows))
    if through_port:
        await fill._fill_through_port(storage, keyset, rows)
    else:
        await mint.close()
        await storage.close()
        fill._fill_sqlite(tmp_path / "bank.sqlite", keyset, rows)
        storage = SqliteStorage(tmp_path / "bank.sqlite", inline=True, synchronous="OFF")
        mint = Mint(
            settings=MintSettings(),
            storage=storage,
            store=SqlMintStore(),
            ledger=Ledger(SqlLedgerStore()),
            signer=SoftwareSigner(FixedEntropy("fill").bytes(32), threads=0, entropy=entropy),
            rails=(),
            clock=StoppedClock(),
            entropy=entropy,
        )
        await mint.start()
    books = await mint.audit()
    assert books.issued(keyset, "sat") == books.redeemed(keyset, "sat") == fill.total_of(rows)
    some = await fill._some(storage)
    states = await mint.check_state(some[:100])
    assert {state.state.value for state in states} == {"SPENT"}
    await mint.close()
    await storage.close()
