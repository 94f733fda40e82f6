"""Merging two states of one wallet: idempotent, the same from both sides once the mints have spoken, and nothing is lost."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specie.kernel.errors import InvariantError
from specie.storage.ports import Transaction, Value
from specie.wallet.adapters.store_sql import SqlWalletStore
from specie.wallet.merge import RULES, Changes, Record, Tables, merge_tables
from tests.support.virtual import run_virtual
from tests.support.wallets import memory_storage

MINT = "http://mint.test"
STORE = SqlWalletStore()


def coin(y: int, state: str = "UNSPENT", *, operation: str | None = None, token: str | None = None, at: int = 1) -> Record:
    return {
        "y": bytes([2, y] + [0] * 31),
        "mint": MINT,
        "unit": "sat",
        "keyset": "00aa",
        "amount": "8",
        "secret": f"secret {y}",
        "c": b"\x02" * 33,
        "witness": None,
        "dleq_e": None,
        "dleq_s": None,
        "dleq_r": None,
        "p2pk_e": None,
        "state": state,
        "operation": operation,
        "token": token,
        "unswapped": 0,
        "created_at": at,
        "changed_at": at,
    }


def operation(name: str, state: str = "OPEN", *, kind: str = "swap", quote: str | None = None, at: int = 1) -> Record:
    return {
        "id": name,
        "kind": kind,
        "purpose": "send",
        "mint": MINT,
        "unit": "sat",
        "amount": "8",
        "fee": "0",
        "request": b"{}",
        "inputs": b"",
        "method": "bolt11",
        "quote": quote,
        "memo": None,
        "include_dleq": 1,
        "locked": 0,
        "state": state,
        "error": "",
        "created_at": at,
        "updated_at": at,
    }


def output(name: str, position: int = 0, *, secret: str = "o", counter: str | None = "4") -> Record:
    return {
        "operation": name,
        "position": position,
        "role": "keep",
        "amount": "8",
        "keyset": "00aa",
        "secret": secret,
        "r": b"r",
        "b_": b"b",
        "counter": counter,
    }


def token(name: str, state: str = "PENDING") -> Record:
    return {
        "id": name,
        "mint": MINT,
        "unit": "sat",
        "amount": "8",
        "text": "cashuB",
        "memo": None,
        "state": state,
        "locked": 0,
        "created_at": 1,
    }


def counter(value: int) -> Record:
    return {"mint": MINT, "keyset": "00aa", "next": str(value)}


def applied(ours: Tables, changes: dict[str, Changes]) -> dict[str, list[Record]]:
    """The tables after the changes."""
    after: dict[str, list[Record]] = {}
    for name, rule in RULES.items():
        rows = {tuple(row[column] for column in rule.key): row for row in ours.get(name, ())}
        for key in changes[name].removed:
            del rows[key]
        for row in changes[name].rows:
            rows[tuple(row[column] for column in rule.key)] = row
        after[name] = [rows[key] for key in sorted(rows, key=str)]
    return after


def merged(ours: Tables, theirs: Tables) -> dict[str, list[Record]]:
    before = copy.deepcopy((ours, theirs))
    changes, _ = merge_tables(ours, theirs)
    assert (ours, theirs) == before, "nothing that was given is changed"
    return applied(ours, changes)


def states(tables: Tables) -> dict[str, tuple[Value, Value, Value]]:
    return {str(row["secret"]): (row["state"], row["operation"], row["token"]) for row in tables["wallet_proof"]}


def one_coin(ours: Record | None, theirs: Record | None, **more: Sequence[Record]) -> tuple[Value, Value, Value]:
    """State, operation and token of the coin after merging; `more` are other tables, on both sides."""
    tables = [{**more, "wallet_proof": [row] if row is not None else []} for row in (ours, theirs)]
    (state,) = states(merged(*tables)).values()
    return state


async def test_every_table_of_the_wallet_has_a_rule() -> None:
    """A table that a room adds to the wallet must say how two states of it become one, or backups would lose it."""
    storage = await memory_storage()
    try:
        assert sorted(RULES) == await storage.read(STORE.table_names)
        for table, rule in RULES.items():
            rows = await storage.read(
                lambda tx, table=table: tx.fetch("SELECT name FROM pragma_table_info($1) WHERE pk", table)
            )
            assert sorted(str(row[0]) for row in rows) == sorted(rule.key), table
    finally:
        await storage.close()


def test_a_table_without_a_rule_stops_the_merge() -> None:
    """Nothing is taken up by halves."""
    with pytest.raises(InvariantError, match="no rule"):
        merge_tables({"wallet_surprise": []}, {})


def test_spent_is_certain() -> None:
    """Whoever knows that a coin was spent is right, on either side."""
    for other in (coin(1), coin(1, "RESERVED", operation="x"), coin(1, "PENDING", token="t"), coin(1, "PENDING")):
        assert one_coin(coin(1, "SPENT"), other)[0] == one_coin(other, coin(1, "SPENT"))[0] == "SPENT"


def test_a_coin_of_an_old_copy_is_asked_about_first() -> None:
    """What only the other side calls free is not free before its mint said so; ours stays as it is."""
    assert one_coin(None, coin(1)) == ("PENDING", None, None)
    assert one_coin(coin(1), None) == ("UNSPENT", None, None)
    assert one_coin(coin(1), coin(1, at=9)) == ("UNSPENT", None, None)
    assert one_coin(None, coin(1, "SPENT"))[0] == "SPENT"
    _, report = merge_tables({}, {"wallet_proof": [coin(1), coin(2, "SPENT")]})
    assert report.to_ask == 1


def test_a_reserved_coin_follows_its_operation() -> None:
    """Held while the operation is open on any side; else for its mint to judge."""
    held = coin(1, "RESERVED", operation="op")
    assert one_coin(None, held, wallet_operation=[operation("op")]) == ("RESERVED", "op", None)
    assert one_coin(coin(1), held, wallet_operation=[operation("op")]) == ("RESERVED", "op", None)
    assert one_coin(coin(1), held, wallet_operation=[operation("op", "FAILED")]) == ("PENDING", None, None)
    assert one_coin(held, None) == ("PENDING", None, None)


def test_a_sent_coin_stays_in_its_token() -> None:
    """A token of either side keeps its coins; without the token's row the mint is asked."""
    sent = coin(1, "PENDING", token="t")
    assert one_coin(coin(1), sent, wallet_token=[token("t")]) == ("PENDING", None, "t")
    assert one_coin(sent, coin(1), wallet_token=[token("t")]) == ("PENDING", None, "t")
    assert one_coin(None, sent) == ("PENDING", None, None)
    two = one_coin(coin(1, "PENDING", token="s"), sent, wallet_token=[token("s"), token("t")])
    assert two == one_coin(sent, coin(1, "PENDING", token="s"), wallet_token=[token("s"), token("t")])


def test_what_a_coin_needs_is_kept_from_both() -> None:
    """Witness, DLEQ and the key of a blinded lock come from whichever side has them."""
    mine, other = coin(1), coin(1, at=9) | {"p2pk_e": b"e", "witness": "w", "unswapped": 1}
    for a, b in ((mine, other), (other, mine)):
        (row,) = merged({"wallet_proof": [a]}, {"wallet_proof": [b]})["wallet_proof"]
        assert (row["p2pk_e"], row["witness"], row["unswapped"], row["created_at"], row["changed_at"]) == (b"e", "w", 1, 1, 9)


@pytest.mark.parametrize(
    ("ours", "theirs", "after"),
    [
        ("OPEN", "DONE", "DONE"),
        ("DONE", "OPEN", "DONE"),
        ("FAILED", "DONE", "DONE"),
        ("DONE", "FAILED", "DONE"),
        ("OPEN", "OPEN", "OPEN"),
        ("FAILED", "FAILED", "FAILED"),
    ],
)
def test_what_an_operation_came_to_is_certain(ours: str, theirs: str, after: str) -> None:
    """DONE beats all; and a DONE operation needs neither request nor outputs."""
    sides = [{"wallet_operation": [operation("op", state)], "wallet_output": [output("op")]} for state in (ours, theirs)]
    result = merged(*sides)
    assert [row["state"] for row in result["wallet_operation"]] == [after]
    assert len(result["wallet_output"]) == (after != "DONE")
    assert (result["wallet_operation"][0]["request"] == b"") is (after == "DONE")


def _reopened(kind: str = "swap", *, extra: Tables | None = None) -> str:
    failed = {"wallet_operation": [operation("op", "FAILED", kind=kind)], "wallet_output": [output("op")], **(extra or {})}
    sent = {"wallet_operation": [operation("op", kind=kind)], "wallet_output": [output("op")]}
    results = {
        str(row["state"])
        for sides in ((failed, sent), (sent, failed))
        for row in merged(*sides)["wallet_operation"]
        if row["id"] == "op"
    }
    (state,) = results
    return state


def test_what_one_side_gave_up_and_the_other_sent_is_taken_up() -> None:
    """Unless its secrets were used since, or it is a payment, which could be made twice."""
    assert _reopened() == "OPEN"
    assert _reopened("melt") == "FAILED"
    assert _reopened(extra={"wallet_proof": [coin(1) | {"secret": "o"}]}) == "FAILED"
    other = {
        "wallet_operation": [operation("op", "FAILED"), operation("on")],
        "wallet_output": [output("op"), output("on")],
    }
    assert _reopened(extra=other) == "FAILED"


def test_one_open_operation_a_quote() -> None:
    """Ours goes on; the other is closed, said so, and its coins are asked about."""
    ours = {"wallet_operation": [operation("b", kind="melt", quote="q")]}
    theirs = {
        "wallet_operation": [operation("a", kind="melt", quote="q")],
        "wallet_proof": [coin(1, "RESERVED", operation="a")],
    }
    changes, report = merge_tables(ours, theirs)
    result = applied(ours, changes)
    assert {row["id"]: row["state"] for row in result["wallet_operation"]} == {"a": "FAILED", "b": "OPEN"}
    assert states(result) == {"secret 1": ("PENDING", None, None)}
    assert "another one of the same quote" in report.notes[0]


def test_counters_take_the_maximum() -> None:
    """By number, not by text; and open operations keep theirs from being given out again."""
    for a, b in ((9, 10), (10, 9)):
        assert merged({"wallet_counter": [counter(a)]}, {"wallet_counter": [counter(b)]})["wallet_counter"] == [counter(10)]
    theirs = {"wallet_operation": [operation("op")], "wallet_output": [output("op", counter="41")]}
    assert merged({"wallet_counter": [counter(7)]}, theirs)["wallet_counter"] == [counter(42)]
    assert merged({}, theirs)["wallet_counter"] == [counter(42)]


def test_the_newer_row_wins() -> None:
    """Quotes by their own clock and amounts by size; paid is paid; secrets and mints by time; a closed token stays closed."""
    quote: Record = {
        "mint": MINT,
        "quote": "q",
        "method": "bolt11",
        "unit": "sat",
        "request": "ln",
        "amount": "8",
        "expiry": None,
        "amount_paid": "8",
        "amount_issued": "0",
        "updated_at": "5",
        "key_index": None,
        "created_at": 3,
    }
    older = quote | {"updated_at": "4", "amount_paid": "0", "amount_issued": "8", "key_index": 7, "created_at": 2}
    for a, b in ((quote, older), (older, quote)):
        (row,) = merged({"wallet_mint_quote": [a]}, {"wallet_mint_quote": [b]})["wallet_mint_quote"]
        wanted = ("8", "8", "5", 7, 2)
        assert tuple(row[name] for name in ("amount_paid", "amount_issued", "updated_at", "key_index", "created_at")) == wanted
    melt = {"mint": MINT, "quote": "q", "state": "PAID", "preimage": "p"}
    for a, b in ((melt, melt | {"state": "UNPAID", "preimage": None}), (melt | {"state": "PENDING", "preimage": None}, melt)):
        assert merged({"wallet_melt_quote": [a]}, {"wallet_melt_quote": [b]})["wallet_melt_quote"] == [melt]
    secret = {"name": "n", "sealed": b"new", "changed_at": 5}
    for a, b in (
        (secret, secret | {"sealed": b"old", "changed_at": 4}),
        (secret | {"sealed": b"old", "changed_at": 4}, secret),
    ):
        assert merged({"wallet_secret": [a]}, {"wallet_secret": [b]})["wallet_secret"] == [secret]
    for a, b in (("PENDING", "CLAIMED"), ("CLAIMED", "PENDING")):
        result = merged({"wallet_token": [token("t", a)]}, {"wallet_token": [token("t", b)]})
        assert result["wallet_token"] == [token("t", "CLAIMED")]


def test_mints_keep_their_order_and_keysets_their_mint() -> None:
    """New mints come behind ours; a keyset whose secrets would be another's stays out, and that is said."""

    def mint(url: str, position: int, added: int, refreshed: int) -> Record:
        return {"url": url, "position": position, "info": str(refreshed).encode(), "added_at": added, "refreshed_at": refreshed}

    ours = {"wallet_mint": [mint("a", 1, 5, 5)]}
    theirs = {"wallet_mint": [mint("c", 1, 2, 2), mint("b", 2, 1, 1), mint("a", 3, 4, 9)]}
    result = {str(row["url"]): row for row in merged(ours, theirs)["wallet_mint"]}
    assert [result[url]["position"] for url in "abc"] == [1, 2, 3]
    assert (result["a"]["info"], result["a"]["added_at"]) == (b"9", 4)

    def keyset(name: str, derivation: int | None) -> Record:
        return {"id": name, "mint": MINT, "derivation": derivation}

    changes, report = merge_tables(
        {"wallet_keyset": [keyset("x", 1)]}, {"wallet_keyset": [keyset("y", 1), keyset("z", None), keyset("x", 1)]}
    )
    assert [row["id"] for row in changes["wallet_keyset"].rows] == ["z"]
    assert "keyset y collides" in report.notes[0]


_COIN_STATES = st.sampled_from(
    [("UNSPENT", None, None), ("SPENT", None, None), ("PENDING", None, None)]
    + [("RESERVED", name, None) for name in ("o1", "o2")]
    + [("PENDING", None, name) for name in ("t1", "t2")]
)


@st.composite
def _wallet(draw: st.DrawFn) -> dict[str, list[Record]]:
    """Any state of a wallet of a few coins, operations, tokens and counters."""
    at = draw(st.integers(1, 9))
    coins = [
        coin(y, state, operation=held, token=part, at=at)
        for y in range(4)
        if draw(st.booleans())
        for state, held, part in [draw(_COIN_STATES)]
    ]
    operations = [
        operation(name, draw(st.sampled_from(["OPEN", "DONE", "FAILED"])), kind=kind, quote=quote, at=at)
        for name, kind, quote in (("o1", "swap", None), ("o2", "melt", "q"), ("o3", "melt", "q"))
        if draw(st.booleans())
    ]
    if {row["state"] for row in operations if row["quote"]} == {"OPEN"}:
        operations = [row for row in operations if row["id"] != "o3"]
    outputs = [
        output(str(row["id"]), secret=f"of {row['id']}", counter={"o1": "3", "o2": "12", "o3": None}[str(row["id"])])
        for row in operations
        if row["state"] != "DONE"
    ]
    return {
        "wallet_proof": coins,
        "wallet_operation": operations,
        "wallet_output": outputs,
        "wallet_token": [token(name, draw(st.sampled_from(["PENDING", "CLAIMED"]))) for name in ("t1", "t2")],
        "wallet_counter": [counter(draw(st.integers(0, 20)))],
        "wallet_history": [{"id": str(draw(st.integers(0, 5))), "kind": "send"}],
    }


def _after_the_mint(tables: Tables) -> Any:
    """What is left of the difference between the sides once the mints were asked: coins to ask about are nobody's yet."""
    return {
        "coins": {
            name: "ASK" if s in (("UNSPENT", None, None), ("PENDING", None, None)) else s for name, s in states(tables).items()
        },
        "operations": {str(row["id"]): row["state"] for row in tables["wallet_operation"] if row["quote"] is None},
        "tokens": tables["wallet_token"],
        "history": {str(row["id"]) for row in tables["wallet_history"]},
        "counters": [row["next"] for row in tables["wallet_counter"]],
    }


@given(a=_wallet(), b=_wallet())
@settings(max_examples=300)
def test_merging_again_changes_nothing(a: dict[str, list[Record]], b: dict[str, list[Record]]) -> None:
    """Idempotent: the same backup twice is the same as once."""
    once = merged(a, b)
    assert merged(once, b) == once
    assert merged(once, once) == once


@given(a=_wallet(), b=_wallet())
@settings(max_examples=300)
def test_it_does_not_matter_which_side_is_ours(a: dict[str, list[Record]], b: dict[str, list[Record]]) -> None:
    """Commutative, but for coins whose mint has to be asked, and for which of two operations of one quote goes on."""
    one, other = _after_the_mint(merged(a, b)), _after_the_mint(merged(b, a))
    held = {"o2", "o3"}
    for name, state in one["coins"].items():
        if state[1] in held or other["coins"][name][1] in held or "ASK" in (state, other["coins"][name]):
            one["coins"][name] = other["coins"][name] = "ASK"
    if {row["id"] for side in (a, b) for row in side["wallet_operation"] if row["state"] == "OPEN"} >= held:
        one["counters"] = other["counters"]
    assert one == other


@given(a=_wallet(), b=_wallet())
@settings(max_examples=300)
def test_nothing_of_value_is_lost(a: dict[str, list[Record]], b: dict[str, list[Record]]) -> None:
    """A coin that either side has, and neither knows to be spent, is there; so are tokens, history and counters."""
    result = merged(a, b)
    after = states(result)
    for side, other in ((a, b), (b, a)):
        known = {row["secret"] for row in other["wallet_proof"] if row["state"] == "SPENT"}
        for row in side["wallet_proof"]:
            if row["state"] != "SPENT" and row["secret"] not in known:
                assert after[str(row["secret"])][0] != "SPENT"
        for name in ("wallet_token", "wallet_history", "wallet_operation"):
            assert {row["id"] for row in side[name]} <= {row["id"] for row in result[name]}
        assert int(str(result["wallet_counter"][0]["next"])) >= int(str(side["wallet_counter"][0]["next"]))
    open_now = {row["id"] for row in result["wallet_operation"] if row["state"] == "OPEN"}
    for state, held, _ in after.values():
        assert (state == "RESERVED") is (held is not None and state == "RESERVED")
        assert state != "RESERVED" or held in open_now
    quotes = [row["quote"] for row in result["wallet_operation"] if row["state"] == "OPEN" and row["quote"]]
    assert len(quotes) == len(set(quotes))


async def test_written_as_found() -> None:
    """What the merge says is what the store has afterwards; filled tables come back whole."""
    storage = await memory_storage()
    rows: dict[str, list[Record]] = {
        "wallet_proof": [coin(1), coin(2)],
        "wallet_counter": [counter(3)],
        "wallet_operation": [operation("op")],
        "wallet_output": [output("op")],
    }
    theirs = {
        "wallet_proof": [coin(2, "SPENT"), coin(3)],
        "wallet_counter": [counter(5)],
        "wallet_operation": [operation("op", "DONE")],
    }
    try:
        await storage.transact(lambda tx: STORE.fill(tx, rows))

        async def body(tx: Transaction) -> Tables:
            changes, _ = merge_tables(await STORE.tables(tx), theirs)
            await STORE.write(tx, changes)
            return await STORE.tables(tx)

        found = await storage.transact(body)
        assert states(found) == {
            "secret 1": ("UNSPENT", None, None),
            "secret 2": ("SPENT", None, None),
            "secret 3": ("PENDING", None, None),
        }
        assert found["wallet_output"] == []
        assert found["wallet_counter"] == [counter(5)]
    finally:
        await storage.close()


def _transfer(name: str, quote: str = "m", state: str = "PAYING") -> Record:
    numbers = {"amount": "8", "fee": "1", "created_at": 1, "updated_at": 1}
    places = {"source": MINT, "destination": "http://other.test", "unit": "sat", "mint_quote": "i", "melt_quote": quote}
    return {"id": name, **places, **numbers, "state": state, "error": ""}


def _receipt(name: str, operation: str, coins: bytes = b"c", *, request: str = "r", single: int = 1) -> Record:
    money = {"mint": MINT, "unit": "sat", "amount": "8", "fee": "0", "memo": None, "created_at": 1}
    return {"id": name, "request": request, **money, "operation": operation, "coins": coins, "single": single}


def _paid(name: str, operation: str, *, single: int = 1, fingerprint: bytes = b"f") -> Record:
    money = {"request": "creqA", "mint": MINT, "unit": "sat", "amount": "8", "memo": None, "created_at": 1}
    told = {"delivered_by": None, "delivered_at": None, "error": "", "fingerprint": fingerprint, "single": single}
    return {"id": name, **money, "operation": operation, **told}


def _claimed(name: str, quote: str, *, position: int = 0, is_open: int = 1) -> Record:
    return {
        "operation": name, "position": position, "mint": MINT, "quote": quote, "amount": "8", "issued": "0", "open": is_open,
    }  # fmt: skip


def _part(payment: str, operation: str, position: int = 0) -> Record:
    return {
        "payment": payment, "position": position, "mint": MINT, "quote": "q", "operation": operation, "part_msat": "8000",
    }  # fmt: skip


def test_a_quote_that_a_mint_gave_twice_is_one_transfer() -> None:
    """Else a mint could keep a wallet from its backup for good, by an index that is violated. Ours stays."""
    changes, report = merge_tables({"wallet_transfer": [_transfer("b")]}, {"wallet_transfer": [_transfer("a", state="DONE")]})
    assert changes["wallet_transfer"].rows == []
    assert changes["wallet_transfer"].removed == []
    assert "its quote is another one's" in report.notes[0]
    result = merged(
        {"wallet_transfer": [_transfer("b")]}, {"wallet_transfer": [_transfer("a", "other"), _transfer("b", state="PAID")]}
    )
    assert {row["id"]: row["state"] for row in result["wallet_transfer"]} == {"a": "PAYING", "b": "PAID"}


@pytest.mark.parametrize(("ours", "theirs", "kept"), [("FAILED", "DONE", "t"), ("FAILED", "OPEN", "t"), ("DONE", "FAILED", "o"),
                                                      ("OPEN", "DONE", "t"), ("DONE", "DONE", "o")])  # fmt: skip
def test_the_receipt_that_took_effect_stays(ours: str, theirs: str, kept: str) -> None:
    """The same coins were given to both devices, and the mint let one have them: else the payee would call it unpaid."""
    result = merged(
        {"wallet_operation": [operation("x", ours)], "wallet_request_receipt": [_receipt("o", "x")]},
        {"wallet_operation": [operation("y", theirs)], "wallet_request_receipt": [_receipt("t", "y")]},
    )
    assert [(row["id"], row["single"]) for row in result["wallet_request_receipt"]] == [(kept, 1)]


def test_the_claim_of_a_request_is_that_which_holds() -> None:
    """A claim that came to nothing gives way, for it will be removed; nobody is told of a second payment that never was."""
    ours = {"wallet_operation": [operation("x", "FAILED")], "wallet_request_receipt": [_receipt("o", "x", b"1")]}
    theirs = {"wallet_operation": [operation("y")], "wallet_request_receipt": [_receipt("t", "y", b"2")]}
    changes, report = merge_tables(ours, theirs)
    assert {row["id"]: row["single"] for row in applied(ours, changes)["wallet_request_receipt"]} == {"o": 0, "t": 1}
    assert report.notes == []
    both = {"wallet_operation": [operation("x", "DONE")], "wallet_request_payment": [_paid("o", "x")]}
    more = {"wallet_operation": [operation("y", "DONE")], "wallet_request_payment": [_paid("t", "y")]}
    changes, report = merge_tables(both, more)
    assert {row["id"]: row["single"] for row in applied(both, changes)["wallet_request_payment"]} == {"o": 1, "t": 0}
    assert "paid on both sides" in report.notes[0]


def test_a_receipt_whose_operation_nobody_knows_does_no_harm() -> None:
    """It comes, behind one that is known; the store shows none without its operation."""
    ours = {"wallet_operation": [operation("x", "OPEN")], "wallet_request_receipt": [_receipt("o", "x")]}
    result = merged(ours, {"wallet_request_receipt": [_receipt("t", "gone"), _receipt("u", "gone", b"2", single=0)]})
    assert [row["id"] for row in result["wallet_request_receipt"]] == ["o", "u"]


def test_what_is_being_sent_here_is_not_closed_for_what_is_taken_up() -> None:
    """We gave `a` up and try `b`; the other side still has `a` open. `b` may have reached the mint, so it goes on."""
    ours = {
        "wallet_operation": [operation("a", "FAILED", kind="mint", quote="q"), operation("b", kind="mint", quote="q")],
        "wallet_output": [output("a", secret="1"), output("b", secret="2")],
    }
    theirs = {"wallet_operation": [operation("a", kind="mint", quote="q")], "wallet_output": [output("a", secret="1")]}
    result = merged(ours, theirs)
    assert {row["id"]: row["state"] for row in result["wallet_operation"]} == {"a": "FAILED", "b": "OPEN"}


def test_claims_are_open_with_their_operations() -> None:
    """A batch and a claim of one of its quotes cannot both go on; the claims of what was closed are closed with it."""
    ours = {"wallet_operation": [operation("b", kind="mint", quote="q")], "wallet_claim": [_claimed("b", "q")]}
    theirs = {
        "wallet_operation": [operation("a", kind="mint"), operation("d", "DONE", kind="mint")],
        "wallet_claim": [_claimed("a", "p"), _claimed("a", "q", position=1), _claimed("d", "z"), _claimed("gone", "y")],
    }
    result = merged(ours, theirs)
    assert {row["id"]: row["state"] for row in result["wallet_operation"]} == {"a": "FAILED", "b": "OPEN", "d": "DONE"}
    assert {(row["operation"], row["quote"]) for row in result["wallet_claim"] if row["open"]} == {("b", "q")}


def test_targets_of_a_unit_are_one_whole() -> None:
    """Shares of two sides would add up to more than all, and a bound that the owner took away would be back."""

    def target(mint: str, share: int | None, maximum: str | None = None, unit: str = "sat") -> Record:
        return {"mint": mint, "unit": unit, "share_ppm": share, "maximum": maximum}

    ours = {"wallet_target": [target("a", 900_000)]}
    theirs = {"wallet_target": [target("a", None, "5"), target("b", 800_000), target("b", 700_000, unit="usd")]}
    result = merged(ours, theirs)["wallet_target"]
    assert result == [target("a", 900_000), target("b", 700_000, unit="usd")]


def test_a_mint_that_answers_again_is_not_ill_again() -> None:
    """Empty columns of health mean that nothing failed."""
    well: Record = {"mint": MINT, "failures": 0, "failing_since": None, "failed_at": None, "answered_at": 9}
    ill = well | {"failures": 3, "failing_since": 4, "failed_at": 5, "answered_at": 3}
    assert merged({"wallet_health": [well]}, {"wallet_health": [ill]})["wallet_health"] == [well]


def test_a_payment_for_a_resource_is_as_far_as_either_side_knows() -> None:
    """What was taken stays taken with the greater number of deliveries; tolls and cancelled requests go one way only."""
    begun: Record = {"name": "n", "state": "BEGUN", "deliveries": 3, "answered_at": None}
    taken = begun | {"state": "TAKEN", "deliveries": 1, "answered_at": 4}
    for a, b in ((begun, taken), (taken, begun)):
        assert merged({"wallet_taking": [a]}, {"wallet_taking": [b]})["wallet_taking"] == [taken | {"deliveries": 3}]
    sent: Record = {"id": "t", "state": "SENT", "amount": "8", "token": "k"}
    back = sent | {"state": "BACK", "amount": "0"}
    for a, b in ((sent, back), (back, sent)):
        assert merged({"wallet_toll": [a]}, {"wallet_toll": [b]})["wallet_toll"] == [back]
    asked: Record = {"id": "r", "text": "creq", "key_number": 1, "created_at": 1, "cancelled_at": None}
    for a, b in ((asked, asked | {"cancelled_at": 5}), (asked | {"cancelled_at": 5}, asked)):
        assert merged({"wallet_request": [a]}, {"wallet_request": [b]})["wallet_request"][0]["cancelled_at"] == 5


_CLAIMS_OF = {"o1": ("q1",), "o2": ("q1", "q2"), "o3": ("q2",), "o4": (), "o5": ("q1",)}
_RECEIPTS = [
    _receipt("u", "o1", b"1"), _receipt("v", "o2", b"1"), _receipt("w", "o3", b"2"), _receipt("x", "gone", b"3"),
    _receipt("y", "o5", b"1", request="s", single=0), _receipt("z", "o4", b"2", request="s", single=0),
]  # fmt: skip
_PAID = [_paid("k", "o1"), _paid("l", "o2"), _paid("m", "o3", fingerprint=b"g"), _paid("n", "gone", fingerprint=b"g")]
_TRANSFERS = [_transfer("d", "m1"), _transfer("e", "m1", "PAID"), _transfer("f", "m2", "DONE"), _transfer("g", "m2", "FAILED")]
_PARTS = [_part("h", "o1"), _part("i", "o1"), _part("i", "o2", 1), _part("j", "o3")]
_KEYSETS: list[Record] = [
    {"id": name, "mint": MINT, "unit": "sat", "active": 1, "listed": 1, "input_fee_ppk": "0", "final_expiry": None,
     "keys": "{}", "derivation": number}
    for name, number in (("01", 1), ("02", 1), ("03", 2), ("04", None))
]  # fmt: skip


def _keeps_apart(rows: Sequence[Record], *indexes: str, single: str | None = None) -> list[Record]:
    """Those rows that one store can hold, the first of them first."""
    held: list[Record] = []
    for row in rows:
        clash = any(row[index] == one[index] and row[index] is not None for one in held for index in indexes)
        clash |= single is not None and any(one["single"] and row["single"] and row[single] == one[single] for one in held)
        held += [] if clash else [dict(row)]
    return held


@st.composite
def _busy_wallet(draw: st.DrawFn) -> dict[str, list[Record]]:
    """Rows of every table with a unique index beside its key: valid by themselves, and of few names so that sides collide."""

    def some(rows: Sequence[Record]) -> list[Record]:
        return draw(st.lists(st.sampled_from(rows), unique_by=lambda row: str(row), max_size=4))

    operations: list[Record] = []
    claims: list[Record] = []
    taken: set[str] = set()
    for name, quotes in _CLAIMS_OF.items():
        state = draw(st.sampled_from(("OPEN", "FAILED", "DONE", "none")))
        if state == "none" or (state == "OPEN" and taken & set(quotes)):
            continue
        taken |= set(quotes) if state == "OPEN" else set()
        operations.append(operation(name, state, kind="mint", quote=quotes[0] if len(quotes) == 1 else None))
        claims += [_claimed(name, quote, position=at, is_open=int(state == "OPEN")) for at, quote in enumerate(quotes)]
    payments = [row | {"single": draw(st.integers(0, 1))} for row in some(_PAID)]
    return {
        "wallet_operation": operations,
        "wallet_output": [output(str(row["id"]), secret=str(row["id"])) for row in operations if row["state"] != "DONE"],
        "wallet_claim": claims,
        "wallet_request_receipt": _keeps_apart(some(_RECEIPTS), "coins", single="request"),
        "wallet_request_payment": _keeps_apart(payments, single="fingerprint"),
        "wallet_transfer": _keeps_apart(some(_TRANSFERS), "melt_quote"),
        "wallet_payment_part": _keeps_apart(some(_PARTS), "operation"),
        "wallet_keyset": _keeps_apart(some(_KEYSETS), "derivation"),
    }


@given(a=_busy_wallet(), b=_busy_wallet())
@settings(max_examples=200, deadline=None)
def test_no_index_of_the_store_stops_a_merge(a: dict[str, list[Record]], b: dict[str, list[Record]]) -> None:
    """Whatever two sides have, the store takes what was merged; and merging the same again changes nothing."""

    async def main() -> None:
        storage = await memory_storage()
        try:
            await storage.transact(lambda tx: STORE.fill(tx, a))

            async def body(tx: Transaction) -> dict[str, Changes]:
                changes, _ = merge_tables(await STORE.tables(tx), b)
                await STORE.write(tx, changes)
                return merge_tables(await STORE.tables(tx), b)[0]

            again = await storage.transact(body)
            assert {name: change for name, change in again.items() if change.rows or change.removed} == {}
        finally:
            await storage.close()

    run_virtual(main())
