"""The mint as a whole: keysets, announcement, restart, audit, and the stop of a verb that broke an invariant."""

from __future__ import annotations

from typing import Any

import pytest

from specie.ecash import MeltRequest, MintQuoteRequest, MintRequest, Proof, SwapRequest, derive_keyset_id
from specie.ecash import codes as refused
from specie.ecash.conditions import p2pk_secret, witness_text
from specie.kernel import InvariantError, PaymentState, RefusedError, UnavailableError
from specie.kernel.machine import Machine
from specie.keys.adapters.software import SoftwareSigner
from specie.ledger import Ledger, Posting
from specie.ledger.adapters.store_sql import SqlLedgerStore
from specie.lightning.adapters.play import PlayRail
from specie.mint import Mint, MintSettings
from specie.mint.adapters.store_sql import SqlMintStore
from specie.mint.states import MACHINES, MELT_QUOTE
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.coins import public_key
from tests.support.house import MIGRATIONS, SEED, House, Pages, Purse, house
from tests.support.orders import foreign_invoice
from tests.support.virtual import SeededEntropy, VirtualClock


async def test_keyset_ids_are_recomputable(bank: House) -> None:
    """NUT-02: 64 keys, and an id that commits to keys, unit, fee and expiry."""
    await bank.mint.rotate_keyset("sat", input_fee_ppk=100, final_expiry=bank.clock.now() + 1000)
    for keyset in bank.mint.keysets():
        assert sorted(keyset.keys) == [1 << n for n in range(64)]
        assert keyset.id == derive_keyset_id(
            1,
            unit=keyset.unit,
            keys=keyset.keys,
            input_fee_ppk=keyset.input_fee_ppk,
            final_expiry=keyset.final_expiry,
        )
    assert bank.mint.keyset(bank.keyset().id) == bank.keyset()
    with pytest.raises(refused.KeysetUnknownError):
        bank.mint.keyset("01" * 33)


async def test_rotation_leaves_one_active_keyset_a_unit(bank: House) -> None:
    """The old keyset stays listed and spendable; bad fees, expiries and units are refused."""
    before = bank.keyset()
    after = await bank.mint.rotate_keyset("sat")
    assert [keyset.active for keyset in bank.mint.keysets()] == [False, True]
    assert bank.keyset().id == after.id != before.id
    for options in ({"final_expiry": bank.clock.now()}, {"final_expiry": 2**63}, {"input_fee_ppk": -1}):
        with pytest.raises(RefusedError):
            await bank.mint.rotate_keyset("sat", **options)
    with pytest.raises(refused.UnitUnsupportedError):
        await bank.mint.rotate_keyset("usd")


async def test_a_changed_fee_makes_a_new_keyset_at_start() -> None:
    """The fee is part of the id: a changed setting never edits a keyset, it rotates; an unchanged one does not."""
    store = SqliteStorage(":memory:", inline=True)
    async with house(storage=store) as bank:
        first = bank.keyset().id
    async with house(storage=store) as bank:
        assert bank.keyset().id == first
    async with house(storage=store, settings=MintSettings(input_fee_ppk=7)) as bank:
        assert bank.keyset().input_fee_ppk == 7
        assert len(bank.mint.keysets()) == 2
    async with house(storage=store, settings=MintSettings(keyset_version=0)) as bank:
        assert len(bank.keyset().id) == 16
    await store.close()


async def test_a_fee_chosen_for_one_rotation_stays() -> None:
    """An operator's rotation with a fee of its own is not undone by the next start with the same setting."""
    store = SqliteStorage(":memory:", inline=True)
    async with house(storage=store) as bank:
        chosen = await bank.mint.rotate_keyset("sat", input_fee_ppk=250)
    async with house(storage=store) as bank:
        assert bank.keyset().id == chosen.id
    async with house(storage=store, settings=MintSettings(input_fee_ppk=7)) as bank:
        assert bank.keyset().input_fee_ppk == 7
    await store.close()


async def test_a_look_at_a_bank_moves_nothing() -> None:
    """Opened without serving, a mint with other settings makes no keyset and takes up no payment."""
    store = SqliteStorage(":memory:", inline=True)
    async with house(storage=store) as bank:
        before = [keyset.id for keyset in bank.mint.keysets()]
    signer = SoftwareSigner(SEED, threads=0, entropy=SeededEntropy(0))
    mint = Mint(
        settings=MintSettings(input_fee_ppk=99),
        storage=store,
        store=SqlMintStore(),
        ledger=Ledger(SqlLedgerStore()),
        signer=signer,
        rails=[],
        clock=VirtualClock(),
        entropy=SeededEntropy(0),
    )
    await mint.start(serve=False)
    assert [keyset.id for keyset in mint.keysets()] == before
    await mint.close()
    await store.close()


async def test_books_that_do_not_balance_stop_a_start() -> None:
    """A store whose running balances are off is served for looking only."""
    store = SqliteStorage(":memory:", inline=True)
    async with house(storage=store) as bank:
        await Purse(bank).mint(8)

    async def cook(tx: object) -> None:
        await tx.execute("UPDATE ledger_balance SET amount = '1' WHERE account LIKE 'asset%'")  # type: ignore[attr-defined]

    await store.transact(cook)
    async with house(storage=store) as bank:
        assert bank.telemetry.pages
        with pytest.raises(InvariantError):
            await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 8))
    await store.close()


async def test_another_seed_is_refused_at_start() -> None:
    """A store belongs to the seed that made its keysets: starting with another signs nothing."""
    store = SqliteStorage(":memory:", inline=True)
    async with house(storage=store):
        pass
    other = SoftwareSigner(b"\x01" * 32, threads=0, entropy=SeededEntropy(0))
    mint = Mint(
        settings=MintSettings(),
        storage=store,
        store=SqlMintStore(),
        ledger=Ledger(SqlLedgerStore()),
        signer=other,
        rails=[],
        clock=VirtualClock(),
        entropy=SeededEntropy(0),
    )
    with pytest.raises(RefusedError, match="seed"):
        await mint.start()
    await store.close()


async def test_a_keyset_of_another_process_is_seen(bank: House) -> None:
    """Two processes on one store: what one rotates the other signs with, without a restart."""
    import asyncio

    async with house(storage=bank.storage, seed=3, clock=bank.clock, exclusive=False) as other:
        keyset = await other.mint.rotate_keyset("sat")
        for _ in range(20):
            await asyncio.sleep(0)
        assert bank.keyset().id == keyset.id


async def test_info_announces_what_is_on(bank: House) -> None:
    """NUT-06: methods with bounds, the NUTs that work here, and no other."""
    info = bank.mint.info()
    assert set(info.nuts) == {"4", "5", "7", "8", "9", "10", "11", "12", "14", "15", "17", "19", "20", "29"}
    assert info.methods(4)[0].max_amount == MintSettings().mint_max
    assert info.supports(20)
    assert info.pubkey is not None
    commands = info.nuts["17"]["supported"][0]["commands"]
    assert commands == ["bolt11_melt_quote", "bolt11_mint_quote", "proof_state"]


async def test_money_survives_a_restart(bank: House) -> None:
    """Coins, spent marks, quotes and books are where they were."""
    purse = Purse(bank)
    spent, kept = await purse.mint(8), await purse.mint(4)
    await purse.swap(spent, [8])
    async with house(storage=bank.storage, seed=9) as again:
        other = Purse(again, "later")
        with pytest.raises(refused.ProofsSpentError):
            await other.swap(spent, [8])
        assert len(await other.swap(kept, [2, 2])) == 2
        assert len(await again.mint.recent_mint_quotes()) == 2
        assert (await again.mint.audit()).outstanding(again.keyset().id, "sat") == 12


async def test_an_audit_that_fails_stops_the_verbs(bank: House) -> None:
    """Books that differ from the coins stop swap, mint and melt, and page someone."""
    purse = Purse(bank)
    coins = await purse.mint(8)

    async def cook(tx: object) -> None:
        await tx.execute("DELETE FROM mint_output")  # type: ignore[attr-defined]

    await bank.storage.transact(cook)
    with pytest.raises(InvariantError):
        await bank.mint.audit()
    for verb in (
        lambda: purse.swap(coins, [8]),
        lambda: bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 8)),
        lambda: purse.melt_quote("lnbcrt1"),
    ):
        with pytest.raises(InvariantError):
            await verb()
    assert bank.telemetry.pages


async def test_a_broken_invariant_stops_its_verb(bank: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A swap whose entry does not balance is undone, and no further swap is taken."""
    purse = Purse(bank)
    coins = await purse.mint(8)

    async def lopsided(tx: object, **entry: object) -> None:
        raise InvariantError("an entry does not balance")

    monkeypatch.setattr(bank.mint._context.ledger, "post", lopsided)
    with pytest.raises(InvariantError):
        await purse.swap(coins, [8])
    monkeypatch.undo()
    assert (await bank.mint.check_state([coins[0].y]))[0].state == "UNSPENT"
    with pytest.raises(InvariantError):
        await bank.mint.swap(SwapRequest(tuple(coins), purse.outputs([8]).messages))
    assert bank.telemetry.pages


async def test_rail_health_never_raises(bank: House) -> None:
    """A rail that does not answer is reported as such."""
    from specie.lightning.adapters.play import PlayFaults

    assert (await bank.mint.rail_health())["play"].ok
    bank.rail.set_faults(PlayFaults(unavailable=True))
    assert not (await bank.mint.rail_health())["play"].ok
    assert bank.mint.rails[0].play


async def test_background_work_that_ends_is_reported(bank: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A background task never dies in silence."""
    import asyncio

    async def broken() -> None:
        raise ValueError("broken")

    bank.mint._spawn(broken)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert bank.telemetry.pages[-1][0] == "background work of the mint ended"


async def test_a_rail_that_was_unplugged_stops_nothing(bank: House) -> None:
    """Quotes of a rail that is no longer configured are answered as they stand; nobody can stop a verb by asking for them."""
    purse = Purse(bank)
    coins = await purse.mint(64)
    asked = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 8))
    price = await purse.melt_quote(await foreign_invoice(bank))
    async with house(storage=bank.storage, seed=4, rails=[Renamed(bank.rail)]) as later:
        assert (await later.mint.mint_quote(asked.quote, "bolt11")).amount_paid == 0
        with pytest.raises(refused.QuoteUnpaidError):
            await later.mint.issue(MintRequest("bolt11", asked.quote, Purse(later, "x").outputs([8]).messages))
        with pytest.raises(UnavailableError):
            await later.mint.melt(MeltRequest("bolt11", price.quote, tuple(coins)))
        assert {state.state for state in await later.mint.check_state([coin.y for coin in coins])} == {"UNSPENT"}
        assert len(await Purse(later, "y").swap(coins, [32, 32])) == 2
        assert not later.telemetry.pages


class Renamed:
    """The same rail under another name."""

    name = "other"

    def __init__(self, inner: PlayRail) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


async def test_signatures_are_checked_on_coins_that_exist(bank: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's coin with any number of signatures on it costs one multiplication and not one signature check."""
    key = public_key("a")
    secret = p2pk_secret(key.hex(), nonce=bytes(32))
    witness = witness_text([bytes([number]) * 64 for number in range(1, 17)])
    false = Proof(8, bank.keyset().id, secret, key, witness)
    checks: list[bytes] = []

    def check(signature: bytes, digest: bytes, key: bytes) -> bool:
        checks.append(signature)
        return False

    monkeypatch.setattr("specie.kernel.curve.schnorr_verify", check)
    with pytest.raises(refused.ProofInvalidError):
        await Purse(bank).swap([false], [8])
    assert not checks


@pytest.mark.parametrize(
    "settings",
    [
        {"units": ()},
        {"units": ("usd",)},
        {"input_fee_ppk": -1},
        {"keyset_version": 2},
        {"mint_min": 5, "mint_max": 4},
        {"melt_max": 2**64},
        {"quote_expiry_s": 0},
        {"pay_deadline_s": 0},
    ],
)
def test_settings_that_can_never_work_are_refused(settings: dict[str, object]) -> None:
    """Each bound of MintSettings is checked when the value is made."""
    with pytest.raises(ValueError):
        MintSettings(**settings)  # type: ignore[arg-type]


async def test_the_ledger_refuses_what_does_not_balance() -> None:
    """Entries sum to zero in every unit, on known kinds of account; an overdrawn keyset is found by the check."""
    store = SqliteStorage(":memory:", inline=True)
    await store.migrate(MIGRATIONS)
    ledger = Ledger(SqlLedgerStore())

    async def post(*lines: Posting) -> None:
        await store.transact(lambda tx: ledger.post(tx, at=1, kind="test", reference="r", postings=lines))

    with pytest.raises(InvariantError):
        await post(Posting("asset:a", "sat", 1), Posting("income:b", "msat", -1))
    with pytest.raises(InvariantError):
        await post(Posting("purse:a", "sat", 1), Posting("income:b", "sat", -1))
    await post(Posting("asset:a", "sat", 2**64), Posting("liability:keyset/x/issued", "sat", -(2**64)))
    await post(Posting("asset:a", "sat", 0))
    books = await store.read(ledger.audit)
    assert books.issued("x", "sat") == books.total("asset", "sat") == books.total("liability", "sat") == 2**64
    entries = await store.read(ledger.journal)
    assert [entry.kind for entry in entries] == ["test"]
    await post(Posting("liability:keyset/x/redeemed", "sat", 2**65), Posting("asset:a", "sat", -(2**65)))
    with pytest.raises(InvariantError):
        (await store.read(ledger.books)).check()

    async def cook(tx: object) -> None:
        await tx.execute("DELETE FROM ledger_entry WHERE entry_id = 2")  # type: ignore[attr-defined]

    await post(Posting("liability:keyset/x/redeemed", "sat", -(2**65)), Posting("asset:a", "sat", 2**65))
    await store.transact(cook)
    with pytest.raises(InvariantError):
        await store.read(ledger.audit)
    await store.close()


def test_state_machines_know_what_cannot_happen() -> None:
    """A transition outside the table is an invariant broken; drawings name every state."""
    with pytest.raises(InvariantError):
        MELT_QUOTE.next(MELT_QUOTE.table[MELT_QUOTE.initial, "settle inside the mint"], "lock inputs")
    for machine in MACHINES:
        assert isinstance(machine, Machine)
        assert all(state in machine.mermaid() for state in machine.states())


def test_pages_and_states_are_values() -> None:
    """The telemetry double keeps what it is told, so tests that look can see."""
    pages = Pages()
    pages.page("why", fact=1)
    pages.event("that")
    assert pages.pages == [("why", {"fact": 1})]
    assert PaymentState.PAID.value == "PAID"
