"""The wallet store's port: one suite, on every SQL storage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from specie.ecash import Keyset, MeltFeeOption, Proof, ProofDleq
from specie.kernel import RefusedError
from specie.storage import Storage, Transaction
from specie.storage.adapters.postgres import PostgresStorage
from specie.storage.adapters.sqlite import SqliteStorage
from specie.wallet.adapters.store_sql import MIGRATIONS, SqlWalletStore
from specie.wallet.history import HistoryEntry
from specie.wallet.holding import (
    Balance,
    KnownKeyset,
    MintRecord,
    SentToken,
    SplitPart,
    SplitPayment,
    StoredProof,
    WalletMeltQuote,
    WalletMintQuote,
)
from specie.wallet.operation import Claimed, Kind, Operation, Output, Purpose, Role
from specie.wallet.paid import Settle, Taking, TakingState, Toll, TollState
from specie.wallet.placement import Leaving, MintHealth
from specie.wallet.ports import WalletStore
from specie.wallet.request import RequestPayment, RequestReceipt, RequestRecord
from specie.wallet.states import CoinState, OperationState, TokenState
from specie.wallet.target import Target
from specie.wallet.transfer import Transfer, TransferState

MAX_U64 = 2**64 - 1
MINT, OTHER = "http://mint.test", "http://other.test"
NOW = 1_800_000_000
POINT = bytes.fromhex("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")


class Bench:
    """A store and the storage under it; each call is its own transaction."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.store: WalletStore = SqlWalletStore()

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        def call(*args: Any, **kwargs: Any) -> Awaitable[Any]:
            return self.storage.transact(lambda tx: getattr(self.store, name)(tx, *args, **kwargs))

        return call


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.network])])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    storage: Storage
    if request.param == "sqlite":
        storage = SqliteStorage(tmp_path / "wallet.db", synchronous="OFF")
    else:
        storage = await PostgresStorage.connect(request.getfixturevalue("postgres_dsn"))
    await storage.migrate(MIGRATIONS)
    yield Bench(storage)
    await storage.close()


def coin(number: int, amount: int = 1, **fields: Any) -> StoredProof:
    proof = Proof(
        amount,
        "01" + "ab" * 32,
        f"secret {number}",
        POINT,
        witness='{"signatures":[]}',
        dleq=ProofDleq(b"e" * 32, b"s" * 32, b"r" * 32),
        p2pk_e=POINT,
    )
    return StoredProof(proof, number.to_bytes(33, "big"), MINT, "sat", **fields)


def operation(name: str = "01", **fields: Any) -> Operation:
    outputs = (
        Output(Role.KEEP, MAX_U64, "01" + "ab" * 32, "keep", b"r" * 32, POINT, MAX_U64),
        Output(Role.SEND, 2, "01" + "ab" * 32, '["P2PK",{}]', b"q" * 32, POINT[:-1] + b"\0", None),
        Output(Role.SEND, 1, "01" + "ab" * 32, '["P2PK",{"nonce":""}]', b"p" * 32, POINT[:-1] + b"\1", None, POINT),
    )
    known: dict[str, Any] = {
        "operation_id": name,
        "kind": Kind.SWAP,
        "purpose": Purpose.SEND,
        "mint": MINT,
        "unit": "sat",
        "amount": MAX_U64,
        "fee": 3,
        "request": b'{"inputs":[]}\x00\xff',
        "inputs": (b"\x01" * 33, b"\x02" * 33),
        "outputs": outputs,
        "memo": "lunch",
        "created_at": NOW,
        "updated_at": NOW,
    }
    return Operation(**(known | fields))


async def test_mints_keep_their_order_and_first_time(bench: Bench) -> None:
    """Renewing a mint changes its info and time, not its place or when it was added."""
    await bench.save_mint(MintRecord(OTHER, b"{}", NOW, NOW))
    await bench.save_mint(MintRecord(MINT, b"{}", NOW + 1, NOW + 1))
    await bench.save_mint(MintRecord(OTHER, b'{"name":"x"}', NOW + 9, NOW + 9))
    assert await bench.mints() == [MintRecord(OTHER, b'{"name":"x"}', NOW, NOW + 9), MintRecord(MINT, b"{}", NOW + 1, NOW + 1)]


async def test_keysets_belong_to_one_mint(bench: Bench) -> None:
    """An id of another mint is refused and changes nothing; amounts to 2^63 and long expiries survive."""
    keyset = Keyset(id="01" + "ab" * 32, unit="sat", keys={1: POINT, 2**63: POINT}, input_fee_ppk=MAX_U64, final_expiry=MAX_U64)
    known = KnownKeyset(MINT, keyset)
    assert await bench.save_keyset(known, None)
    assert not await bench.save_keyset(KnownKeyset(OTHER, keyset), None)
    assert await bench.keysets() == [known]
    assert await bench.keysets(OTHER) == []
    await bench.mark_unlisted(MINT, {"something else"})
    assert await bench.keysets(MINT) == [replace(known, listed=False)]
    inactive = replace(known, keyset=Keyset(id=keyset.id, unit="sat", keys=keyset.keys, active=False))
    assert await bench.save_keyset(inactive, None)
    assert await bench.keysets(MINT) == [inactive]


async def test_counters_never_go_back(bench: Bench) -> None:
    """A counter is of (mint, keyset), is taken once, and raising it to less changes nothing."""
    assert await bench.take_counters(MINT, "k", 3) == 0
    assert await bench.take_counters(MINT, "k", 2) == 3
    assert await bench.take_counters(OTHER, "k", 1) == 0
    await bench.raise_counter(MINT, "k", 4)
    assert await bench.counter(MINT, "k") == 5
    await bench.raise_counter(MINT, "k", 2**63)
    assert await bench.take_counters(MINT, "k", 1) == 2**63


async def test_counters_are_given_back_only_from_the_top(bench: Bench) -> None:
    """Numbers that never left return if nobody took others since; else they stay skipped."""
    first = await bench.take_counters(MINT, "k", 3)
    assert await bench.return_counters(MINT, "k", first, 3)
    assert await bench.take_counters(MINT, "k", 3) == first
    await bench.take_counters(MINT, "k", 1)
    assert not await bench.return_counters(MINT, "k", first, 3)
    assert await bench.counter(MINT, "k") == 4


async def test_key_indices(bench: Bench) -> None:
    """Indices are given out once each; a remembered key lies below the next index."""
    assert [await bench.take_key_index("p2pk") for _ in range(2)] == [0, 1]
    assert await bench.take_key_index("quote") == 0
    await bench.save_key("p2pk", 7, POINT)
    await bench.save_key("p2pk", 3, POINT[:-1] + b"\0")
    assert await bench.take_key_index("p2pk") == 8
    assert await bench.keys("p2pk") == {POINT[1:]: 7, POINT[1:-1] + b"\0": 3}


async def test_coins_survive_whole(bench: Bench) -> None:
    """Witness, DLEQ and p2pk_e come back as they went in, and so do coins without them; amounts are exact to 2^64-1."""
    full = coin(1, MAX_U64, unswapped=True)
    bare = StoredProof(Proof(1, "00" + "cd" * 7, "bare", POINT), b"\x03" * 33, OTHER, "usd")
    assert await bench.add_proofs([full, bare], NOW) == 2
    assert await bench.add_proofs([replace(full, unit="eur")], NOW) == 0
    assert await bench.proofs() == sorted([full, bare], key=lambda one: one.y)
    assert await bench.proofs(mint=OTHER) == [bare]
    assert await bench.proofs(unit="sat") == [full]
    assert await bench.proofs(states=(CoinState.SPENT,)) == []
    assert await bench.proofs_by_y([bare.y, b"\x09" * 33]) == [bare]


async def test_balances_are_exact_sums_by_mint_and_unit(bench: Bench) -> None:
    """Each coin in the column of what holds it, spent ones nowhere, and sums beyond 2^64 exact."""
    coins = [coin(1, MAX_U64), coin(2, MAX_U64), coin(3, 4, unswapped=True), coin(4, 8, state=CoinState.PENDING)]
    coins.append(replace(coin(5, 16), unit="usd"))
    coins.append(replace(coin(6, 32), mint=OTHER))
    await bench.add_proofs([*coins, coin(7, 64), coin(8, 128), coin(9, 256)], NOW)
    assert await bench.reserve([coin(7).y], "op")
    await bench.move_proofs([coin(8).y], (CoinState.UNSPENT,), CoinState.PENDING, NOW, token="token")
    await bench.move_proofs([coin(9).y], (CoinState.UNSPENT,), CoinState.PENDING, NOW)
    await bench.move_proofs([coin(9).y], (CoinState.PENDING,), CoinState.SPENT, NOW)
    here = Balance("sat", MINT, available=2 * MAX_U64, reserved=8 + 64, sent=128, unswapped=4)
    cents, there = Balance("usd", MINT, available=16), Balance("sat", OTHER, available=32)
    assert await bench.balances() == [here, cents, there]
    assert await bench.balances(mint=MINT) == [here, cents]
    assert await bench.balances(unit="sat") == [here, there]
    assert await bench.balances(mint=OTHER, unit="usd") == []


async def test_reservation_is_all_or_nothing_with_the_caller(bench: Bench) -> None:
    """A coin that is not UNSPENT makes it False; what the same body reserved is undone with the body."""
    await bench.add_proofs([coin(1), coin(2), coin(3, state=CoinState.PENDING)], NOW)
    ys = [coin(n).y for n in (1, 2, 3)]
    assert await bench.reserve(ys[:2], "op")
    assert not await bench.reserve(ys[:1], "other")

    class Undo(Exception):
        pass

    async def body(tx: Transaction) -> None:
        assert await bench.store.release(tx, "op") == 2
        assert await bench.store.reserve(tx, ys[:1], "third")
        assert not await bench.store.reserve(tx, ys[2:], "third")
        raise Undo

    with pytest.raises(Undo):
        await bench.storage.transact(body)
    states = {p.y: (p.state, p.operation) for p in await bench.proofs()}
    assert states[ys[0]] == (CoinState.RESERVED, "op")
    assert await bench.release("nobody") == 0
    assert await bench.release("op") == 2
    assert {p.operation for p in await bench.proofs(states=(CoinState.UNSPENT,))} == {None}


async def test_moves_respect_the_state_before(bench: Bench) -> None:
    """Only coins in a named state move; UNSPENT clears operation and token; SPENT is kept out of the default view."""
    await bench.add_proofs([coin(1), coin(2)], NOW)
    first, second = coin(1).y, coin(2).y
    await bench.reserve([first], "op")
    assert await bench.move_proofs([first, second], (CoinState.RESERVED,), CoinState.PENDING, NOW, token="t") == 1
    (moved,) = await bench.proofs_by_y([first])
    assert (moved.state, moved.token) == (CoinState.PENDING, "t")
    assert await bench.move_proofs([first], (CoinState.PENDING,), CoinState.UNSPENT, NOW) == 1
    (freed,) = await bench.proofs_by_y([first])
    assert (freed.state, freed.token, freed.operation) == (CoinState.UNSPENT, None, None)
    assert await bench.move_proofs([first], (CoinState.UNSPENT, CoinState.RESERVED), CoinState.SPENT, NOW) == 1
    assert [p.y for p in await bench.proofs()] == [second]
    assert await bench.move_proofs([first], tuple(CoinState)[:3], CoinState.UNSPENT, NOW) == 0


async def test_operations_are_kept_to_the_byte(bench: Bench) -> None:
    """Request bytes, outputs and inputs come back identical; DONE forgets the secrets, FAILED keeps them."""
    done, failed = operation("01"), operation("02", quote="q", kind=Kind.MELT)
    assert await bench.add_operation(done)
    assert await bench.add_operation(failed)
    assert await bench.operation("01") == done
    assert await bench.operations((OperationState.OPEN,)) == [done, failed]
    assert await bench.note_operation("01", request=b"other", error="why", now=NOW + 1)
    noted = await bench.operation("01")
    assert (noted.request, noted.error, noted.updated_at) == (b"other", "why", NOW + 1)
    assert await bench.close_operation("01", OperationState.DONE, "", NOW)
    assert not await bench.close_operation("01", OperationState.FAILED, "", NOW)
    assert not await bench.note_operation("01", request=None, error="late", now=NOW)
    closed = await bench.operation("01")
    assert (closed.state, closed.request, closed.outputs) == (OperationState.DONE, b"", ())
    assert await bench.close_operation("02", OperationState.FAILED, "no", NOW)
    assert (await bench.operation("02")).outputs == failed.outputs
    assert await bench.operations((OperationState.OPEN,)) == []
    assert await bench.operation("03") is None


async def test_one_open_operation_a_quote(bench: Bench) -> None:
    """A second operation on a quote is refused while the first is OPEN, at the same mint only."""
    assert await bench.add_operation(operation("01", quote="q"))
    assert not await bench.add_operation(operation("02", quote="q"))
    assert await bench.operation("02") is None
    assert await bench.add_operation(operation("03", quote="q", mint=OTHER))
    await bench.close_operation("01", OperationState.FAILED, "", NOW)
    assert await bench.add_operation(operation("04", quote="q"))


async def test_old_news_of_a_quote_is_ignored(bench: Bench) -> None:
    """An answer with a lower `updated_at` changes nothing (NUT-04)."""
    quote = WalletMintQuote(MINT, "q", "bolt11", "sat", "lnbc", MAX_U64, NOW, 0, 0, 5, 3, NOW)
    await bench.save_mint_quote(quote)
    await bench.save_mint_quote(replace(quote, amount_paid=MAX_U64, updated_at=6))
    await bench.save_mint_quote(replace(quote, amount_paid=0, updated_at=4))
    assert await bench.mint_quote(MINT, "q") == replace(quote, amount_paid=MAX_U64, updated_at=6)
    later = replace(quote, quote="r", amount=None, expiry=None, key_index=None, created_at=NOW + 1)
    await bench.save_mint_quote(later)
    assert [one.quote for one in await bench.mint_quotes()] == ["r", "q"]
    assert await bench.mint_quote(OTHER, "q") is None


async def test_melt_quotes_keep_their_preimage(bench: Bench) -> None:
    """State and preimage are renewed; a preimage once known is never forgotten."""
    quote = WalletMeltQuote(MINT, "q", "bolt11", "sat", "lnbc", MAX_U64, 1, "UNPAID", None, None, NOW)
    await bench.save_melt_quote(quote)
    await bench.save_melt_quote(replace(quote, state="PAID", preimage="aa"))
    await bench.save_melt_quote(replace(quote, state="PAID"))
    assert await bench.melt_quote(MINT, "q") == replace(quote, state="PAID", preimage="aa")
    assert await bench.melt_quotes() == [replace(quote, state="PAID", preimage="aa")]
    assert await bench.melt_quote(MINT, "r") is None


async def test_melt_quotes_keep_their_fees_and_outpoint(bench: Bench) -> None:
    """Options are stored as quoted; the choice and its reserve are renewed; an outpoint once known is never forgotten."""
    options = (MeltFeeOption(0, MAX_U64, 1), MeltFeeOption(7, 12, 144))
    quote = WalletMeltQuote(
        MINT, "q", "onchain", "sat", "bc1q", 5, MAX_U64, "UNPAID", None, None, NOW, options, 0, None, MAX_U64
    )
    await bench.save_melt_quote(quote)
    assert await bench.melt_quote(MINT, "q") == quote
    chosen = replace(quote, fee_index=7, fee_reserve=12, state="PENDING", outpoint="aa:0")
    await bench.save_melt_quote(chosen)
    await bench.save_melt_quote(replace(chosen, outpoint=None))
    assert await bench.melt_quote(MINT, "q") == chosen


async def test_one_open_claim_a_quote(bench: Bench) -> None:
    """A quote of an OPEN batch is in no other operation, until the batch is closed; what it claims comes back in order."""
    batch = operation("01", claims=(Claimed("b", MAX_U64, 0), Claimed("a", 5, 7)))
    assert await bench.add_operation(batch)
    assert (await bench.operation("01")).claims == batch.claims

    async def refused(tx: Transaction) -> None:
        if not await bench.store.add_operation(tx, operation("02", claims=(Claimed("c", 1, 0), Claimed("a", 1, 0)))):
            raise RefusedError("busy")

    with pytest.raises(RefusedError):
        await bench.storage.transact(refused)
    assert await bench.operation("02") is None
    assert await bench.add_operation(operation("03", mint=OTHER, claims=(Claimed("a", 1, 0),)))
    await bench.close_operation("01", OperationState.FAILED, "", NOW)
    await bench.storage.transact(refused)
    assert (await bench.operation("01")).claims == batch.claims


async def test_payments_by_several_mints(bench: Bench) -> None:
    """A payment comes back with its parts as their operations, quotes and lines of the history stand."""
    for name, mint in (("01", MINT), ("02", OTHER)):
        quote = WalletMeltQuote(mint, f"q{name}", "bolt11", "sat", "LNBC1", 5, 3, "UNPAID", None, None, NOW, part_msat=5000)
        await bench.save_melt_quote(quote)
        await bench.add_operation(
            operation(name, kind=Kind.MELT, purpose=Purpose.PAY, mint=mint, quote=quote.quote, amount=5, fee=1)
        )
    parts = (SplitPart(MINT, "q01", "01", 5000, 5, 4), SplitPart(OTHER, "q02", "02", 4500, 5, 4))
    payment = SplitPayment("09", "LNBC1", "sat", 10, "memo", NOW, parts)
    await bench.add_payment(payment)
    assert await bench.split_payments() == [payment]
    assert await bench.payment_of("02") == payment
    assert await bench.payment_of("03") is None
    assert await bench.invoice_states("lnbc1") == {OperationState.OPEN}
    assert await bench.invoice_states("lnbc2") == set()
    assert payment.state == "PENDING"
    await bench.close_operation("01", OperationState.DONE, "", NOW)
    await bench.add_history(HistoryEntry("01", NOW, "pay", MINT, "sat", 5, 2))
    await bench.add_history(HistoryEntry("05", NOW, "pay", MINT, "sat", 5, 2))
    assert [entry.payment for entry in await bench.history(before=None, limit=9)] == [None, "09"]
    await bench.close_operation("02", OperationState.FAILED, "", NOW)
    (found,) = await bench.split_payments()
    assert [(part.state, part.fee) for part in found.parts] == [(OperationState.DONE, 2), (OperationState.FAILED, 4)]
    assert found.state == "TORN"
    assert await bench.invoice_states("LnBc1") == {OperationState.DONE, OperationState.FAILED}


async def test_tokens_are_closed_once(bench: Bench) -> None:
    """A sent token goes from PENDING to one end and stays there."""
    token = SentToken("01", MINT, "sat", MAX_U64, "cashuB...", "memo", TokenState.PENDING, True, NOW)
    await bench.add_token(token)
    await bench.add_token(replace(token, amount=1))
    assert await bench.token("01") == token
    assert await bench.tokens((TokenState.PENDING,)) == [token]
    assert await bench.close_token("01", TokenState.CLAIMED)
    assert not await bench.close_token("01", TokenState.RECLAIMED)
    assert await bench.tokens((TokenState.PENDING,)) == []
    assert (await bench.token("01")).state is TokenState.CLAIMED
    assert await bench.token("02") is None


async def test_history_is_paged_and_append_only(bench: Bench) -> None:
    """Newest first, a page at a time; an id written twice keeps its first line."""
    entries = [HistoryEntry(f"0{n}", NOW + n, "send", MINT, "sat", MAX_U64, n, None, "ref") for n in range(5)]
    for entry in entries:
        await bench.add_history(entry)
    await bench.add_history(replace(entries[0], amount=1))
    first = await bench.history(before=None, limit=3)
    assert first == entries[:1:-1]
    assert await bench.history(before=first[-1].entry_id, limit=3) == entries[1::-1]


def taking(name: str = "t", **fields: Any) -> Taking:
    known: dict[str, Any] = {
        "name": name,
        "resource": "GET /",
        "mint": MINT,
        "unit": "sat",
        "amount": MAX_U64,
        "settle": Settle.LATER,
        "state": TakingState.BEGUN,
        "created_at": NOW,
    }
    return Taking(**(known | fields))


async def test_takings_are_written_once(bench: Bench) -> None:
    """One of a name; state, deliveries and answer are renewed; only what is BEGUN is dropped, only TAKEN forgotten."""
    assert await bench.add_taking(taking())
    assert not await bench.add_taking(taking(resource="GET /other"))
    assert await bench.taking("t") == taking()
    assert await bench.taking("u") is None
    taken = taking(state=TakingState.TAKEN, deliveries=2, answered_at=NOW + 5)
    await bench.save_taking(taken)
    await bench.drop_taking("t")
    assert await bench.taking("t") == taken
    await bench.add_taking(taking("u", created_at=NOW + 1))
    assert [one.name for one in await bench.takings(since=NOW, limit=9)] == ["u", "t"]
    assert [one.name for one in await bench.takings(since=NOW + 1, limit=9)] == ["u"]
    assert [one.name for one in await bench.takings(since=0, limit=1)] == ["u"]
    assert await bench.forget_takings(NOW + 9) == 1
    await bench.drop_taking("u")
    assert await bench.takings(since=0, limit=9) == []


async def test_swaps_are_found_by_their_inputs(bench: Bench) -> None:
    """All swaps of exactly these coins since a time, with their states; other kinds and other coins are not among them."""
    await bench.add_operation(operation("01"))
    await bench.add_operation(operation("02", kind=Kind.MELT))
    await bench.add_operation(operation("03", inputs=(b"\x01" * 33,)))
    await bench.add_operation(operation("04"))
    await bench.close_operation("01", OperationState.DONE, "", NOW)
    inputs = b"\x01" * 33 + b"\x02" * 33
    assert await bench.swaps_of(inputs, NOW) == [("01", OperationState.DONE), ("04", OperationState.OPEN)]
    assert await bench.swaps_of(inputs, NOW + 1) == []


async def test_tolls_move_by_compare_and_swap(bench: Bench) -> None:
    """A toll moves from the state it was seen in, or not at all; they are found by host, time and state."""
    first = Toll("01", "a.test", "GET /", MINT, "sat", MAX_U64, TollState.BEGUN, None, NOW)
    second = replace(first, toll_id="02", host="b.test", created_at=NOW + 1)
    await bench.add_toll(first)
    await bench.add_toll(second)
    sent = replace(first, state=TollState.SENT, token="x", amount=5)
    assert await bench.save_toll(sent, TollState.BEGUN)
    assert not await bench.save_toll(sent, TollState.BEGUN)
    assert await bench.tolls() == [sent, second]
    assert await bench.tolls(host="b.test") == [second]
    assert await bench.tolls(since=NOW + 1) == [second]
    assert await bench.tolls(states=(TollState.SENT, TollState.SPENT)) == [sent]


def receipt(number: int, request: str, coins: bytes, operation: str) -> RequestReceipt:
    return RequestReceipt(f"r{number}", request, MINT, "sat", MAX_U64, 1, "memo", NOW, operation, coins)


async def test_requests_and_the_claims_on_them(bench: Bench) -> None:
    """One claim for a single-use request, one for the same coins; one whose operation FAILED is none."""
    one, two = RequestRecord("one", "creqA", 7, NOW), RequestRecord("two", "creqA", None, NOW + 1)
    assert await bench.add_request(one)
    assert not await bench.add_request(one)
    assert await bench.add_request(two)
    assert await bench.requests() == [two, one]
    assert await bench.request("one") == one
    assert await bench.request("three") is None
    await bench.cancel_request("one", NOW + 5)
    await bench.cancel_request("one", NOW + 9)
    assert await bench.request("one") == replace(one, cancelled_at=NOW + 5)
    for name in ("a", "b", "c"):
        assert await bench.add_operation(operation(name))
    first = receipt(1, "two", b"x" * 32, "a")
    assert await bench.add_receipt(first, only=True)
    assert not await bench.add_receipt(receipt(2, "two", b"y" * 32, "b"), only=True)
    assert not await bench.add_receipt(receipt(3, "one", b"x" * 32, "b"), only=False)
    assert await bench.receipts("two") == [first]
    assert await bench.close_operation("a", OperationState.FAILED, "no", NOW)
    assert await bench.receipts("two") == []
    second = receipt(4, "two", b"y" * 32, "b")
    assert await bench.add_receipt(second, only=True)
    assert await bench.close_operation("b", OperationState.DONE, "", NOW)
    assert await bench.receipts("two") == [replace(second, settled=True)]
    assert await bench.add_receipt(receipt(5, "one", b"z" * 32, "c"), only=False)


async def test_payments_of_requests(bench: Bench) -> None:
    """One claim for a single-use request; the operation that makes the coins may change; what is delivered stays so."""
    paid = RequestPayment("p1", "creqA", MINT, "sat", MAX_U64, None, NOW, "o1")
    print_ = b"f" * 32
    assert await bench.save_payment(paid, print_, only=True)
    again = replace(paid, operation="o2")
    assert await bench.save_payment(again, print_, only=True)
    other = replace(paid, payment_id="p2", operation="o3")
    assert not await bench.save_payment(other, print_, only=True)
    assert await bench.save_payment(replace(other, payment_id="p3"), print_, only=False)
    assert [one.payment_id for one in await bench.payments(print_)] == ["p1", "p3"]
    await bench.release_payment("p1")
    assert await bench.save_payment(other, print_, only=True)
    assert await bench.payments(b"g" * 32) == []
    await bench.note_delivery("p1", by=None, at=None, error="away")
    assert (await bench.payments())[0] == replace(again, error="away")
    await bench.note_delivery("p1", by="post", at=NOW, error="")
    await bench.note_delivery("p1", by=None, at=None, error="late news")
    assert (await bench.payments())[0] == replace(again, delivered_by="post", delivered_at=NOW)


async def test_sealed_secrets_are_kept_by_name(bench: Bench) -> None:
    """One a name, replaced whole, forgotten on request; forgetting what is not there does nothing."""
    await bench.save_secret("token", b"sealed", NOW)
    await bench.save_secret("token", b"sealed again", NOW + 1)
    await bench.save_secret("other", b"another", NOW)
    assert await bench.secret("token") == b"sealed again"
    await bench.delete_secret("token")
    await bench.delete_secret("token")
    assert await bench.secret("token") is None
    assert await bench.secret("other") == b"another"


# where money lies: transfers, marks, health, targets, policies


def transfer(number: int = 1, **fields: Any) -> Transfer:
    known: dict[str, Any] = {"amount": MAX_U64, "fee": 3, "mint_quote": f"m{number}", "melt_quote": f"p{number}"}
    return Transfer(f"{number:02}", MINT, OTHER, "sat", **(known | fields))


async def test_transfers_move_as_their_table_says(bench: Bench) -> None:
    """Oldest first by state; PAYING to PAID to DONE; nothing leaves DONE; a failed one may yet be paid."""
    for number in (2, 1):
        await bench.add_transfer(transfer(number, created_at=NOW, updated_at=NOW))
    both = tuple(TransferState)
    assert [one.transfer_id for one in await bench.transfers(both)] == ["01", "02"]
    assert await bench.transfer("01") == transfer(1, created_at=NOW, updated_at=NOW)
    assert await bench.transfer("99") is None
    assert not await bench.move_transfer("99", TransferState.PAID, fee=None, error="", now=NOW)
    assert await bench.move_transfer("01", TransferState.PAYING, fee=None, error="why", now=NOW + 1)
    assert await bench.move_transfer("01", TransferState.PAID, fee=1, error="", now=NOW + 2)
    assert not await bench.move_transfer("01", TransferState.FAILED, fee=None, error="", now=NOW + 3)
    assert await bench.move_transfer("01", TransferState.DONE, fee=None, error="", now=NOW + 4)
    found = await bench.transfer("01")
    assert (found.state, found.fee, found.error, found.updated_at) == (TransferState.DONE, 1, "", NOW + 4)
    assert await bench.move_transfer("02", TransferState.FAILED, fee=None, error="no", now=NOW)
    assert await bench.move_transfer("02", TransferState.PAID, fee=None, error="", now=NOW)
    assert await bench.transfers((TransferState.FAILED,)) == []


async def test_operations_and_cost_of_a_quote(bench: Bench) -> None:
    """States of the operations about a quote, and what its payment cost by the history."""
    assert await bench.quote_operations(MINT, "q") == []
    await bench.add_operation(operation("01", mint=MINT, quote="q"))
    assert await bench.quote_operations(MINT, "q") == [OperationState.OPEN]
    assert await bench.payment_cost(MINT, "lnbc1") is None
    await bench.add_history(HistoryEntry("01", NOW, "pay", MINT, "sat", 5, 2, None, "lnbc1"))
    assert await bench.payment_cost(MINT, "lnbc1") == 2


async def test_marks_health_targets_and_policies(bench: Bench) -> None:
    """Each is replaced by what is saved again; a mark keeps its time; deleting is by what was named."""
    await bench.save_leaving(Leaving(MINT, (OTHER,), NOW))
    await bench.save_leaving(Leaving(MINT, (), NOW + 5, 7, NOW + 9))
    assert await bench.leaving() == [Leaving(MINT, (), NOW, 7, NOW + 9)]
    assert await bench.drop_leaving(MINT)
    assert not await bench.drop_leaving(MINT)
    await bench.save_health(MintHealth(MINT, 1, NOW, NOW, None))
    await bench.save_health(MintHealth(MINT, 0, None, NOW, NOW))
    assert await bench.health() == [MintHealth(MINT, 0, None, NOW, NOW)]
    for target in (Target(MINT, "sat", 1, None), Target(MINT, "sat", None, MAX_U64), Target(OTHER, "usd", 5, 6)):
        await bench.save_target(target)
    assert await bench.targets() == [Target(MINT, "sat", None, MAX_U64), Target(OTHER, "usd", 5, 6)]
    assert await bench.drop_targets(mint=None, unit="usd") == 1
    assert await bench.drop_targets(mint=OTHER, unit=None) == 0
    assert await bench.drop_targets(mint=None, unit=None) == 1
    assert await bench.policy("offline") is None
    for text in ("a", "b"):
        await bench.save_policy("offline", text)
    assert await bench.policy("offline") == "b"
    await bench.save_policy("offline", None)
    assert await bench.policy("offline") is None


async def test_unswapped_coins_with_their_time_and_a_mint_forgotten(bench: Bench) -> None:
    """Only UNSPENT coins received off-line, whole, oldest first; forgetting a mint leaves its coins and counters."""
    await bench.save_mint(MintRecord(MINT, b"{}", NOW, NOW))
    await bench.add_proofs([coin(2, unswapped=True)], NOW)
    await bench.add_proofs([coin(1, unswapped=True), coin(3)], NOW + 1)
    assert await bench.unswapped() == [(coin(2, unswapped=True), NOW), (coin(1, unswapped=True), NOW + 1)]
    await bench.save_leaving(Leaving(MINT, (), NOW))
    await bench.take_counters(MINT, "k", 3)
    assert await bench.drop_mint(MINT)
    assert not await bench.drop_mint(MINT)
    assert await bench.leaving() == []
    assert await bench.counter(MINT, "k") == 3
    assert len(await bench.proofs(mint=MINT)) == 3
