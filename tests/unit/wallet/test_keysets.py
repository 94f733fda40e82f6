"""Keysets: verified, bound to one mint, rotated away from in time, and never written off."""

from __future__ import annotations

import msgspec
import pytest

from specie.ecash import Keyset, KeysetInfo, derive_keyset_id
from specie.kernel import PeerFaultError, RefusedError
from specie.mint import MintSettings
from specie.wallet.errors import InsufficientFundsError, KeysetCollisionError, UnsupportedError
from tests.support.direct_client import DirectClient, Faults
from tests.support.house import house
from tests.support.wallets import MINT_URL, SETTINGS, virtually, world

OTHER_URL = "http://other.test"
MONTH_S = 30 * 86_400


@virtually
async def test_wrong_id_is_left_out() -> None:
    """A keyset whose keys do not give its id is not used, and somebody hears of it; the mint's others are."""
    async with world() as w:
        wrong: list[str] = []

        def change(verb: str, answer: object) -> object:
            if verb == "keys" and isinstance(answer, Keyset):
                wrong.append(answer.id)
                return msgspec.structs.replace(answer, keys=dict(list(answer.keys.items())[:-1]))
            return answer

        w.faults.change = change
        wallet = await w.wallet()
        assert wrong
        assert (await wallet.mints())[0].keysets == ()
        assert ("wallet_keyset_unusable") in [name for name, _ in w.pages.events]
        with pytest.raises(UnsupportedError):
            await wallet.mint_quote(5, mint=MINT_URL)


@virtually
async def test_changed_terms_of_a_known_keyset_are_refused() -> None:
    """An id of version 01 commits to fee and unit: a mint that changes them is at fault."""
    async with world() as w:
        wallet = await w.wallet()

        def change(verb: str, answer: object) -> object:
            if verb == "keysets" and isinstance(answer, list):
                return [msgspec.structs.replace(one, input_fee_ppk=777) for one in answer]
            return answer

        w.faults.change = change
        with pytest.raises(PeerFaultError):
            await wallet.add_mint(MINT_URL)
        w.faults.change = None
        await wallet.add_mint(MINT_URL)


@virtually
async def test_another_mints_keyset_is_refused() -> None:
    """A mint that announces the keyset of another one is not added, and nothing of it is stored."""
    async with world() as w:
        wallet = await w.wallet()
        w.clients[OTHER_URL] = DirectClient(w.bank.mint, OTHER_URL)
        with pytest.raises(KeysetCollisionError) as caught:
            await wallet.add_mint(OTHER_URL)
        assert caught.value.peer == OTHER_URL
        assert [view.url for view in await wallet.mints()] == [MINT_URL]


@virtually
async def test_version_00_ids_that_share_a_derivation_number_are_refused() -> None:
    """Two 00 ids equal modulo 2^31-1 would derive the same secrets (NUT-13), so the second is refused."""
    from specie.storage import Transaction
    from specie.wallet.adapters.store_sql import SqlWalletStore
    from specie.wallet.holding import KnownKeyset
    from tests.support.wallets import memory_storage

    storage = await memory_storage()
    store = SqlWalletStore()
    key = bytes.fromhex("02" + "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
    one = Keyset(id=derive_keyset_id(0, unit="sat", keys={1: key}), unit="sat", keys={1: key})
    two = Keyset(id="00" + "11" * 7, unit="sat", keys={1: key})

    async def body(tx: Transaction) -> tuple[bool, bool, bool]:
        return (
            await store.save_keyset(tx, KnownKeyset("http://a", one), 7),
            await store.save_keyset(tx, KnownKeyset("http://b", two), 7),
            await store.save_keyset(tx, KnownKeyset("http://b", two), 8),
        )

    assert await storage.transact(body) == (True, False, True)
    await storage.close()


@virtually
async def test_missing_for_a_moment_is_not_written_off() -> None:
    """A keyset left out of the list gets no new coins, but its coins stay in the balance and are spendable when it is back."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        old = (await wallet.mints())[0].keysets[0].keyset.id
        await w.bank.mint.rotate_keyset("sat")

        def change(verb: str, answer: object) -> object:
            if verb == "keysets" and isinstance(answer, list):
                return [one for one in answer if isinstance(one, KeysetInfo) and one.id != old]
            return answer

        w.faults.change = change
        await wallet.add_mint(MINT_URL)
        assert (await wallet.balance()).available == 100
        assert {k.keyset.id: k.listed for k in (await wallet.mints())[0].keysets}[old] is False
        w.faults.change = None
        await wallet.add_mint(MINT_URL)
        assert {k.keyset.id: k.listed for k in (await wallet.mints())[0].keysets}[old] is True
        await wallet.send(37)
        await w.books_hold(wallet)


@virtually
async def test_rotation_moves_everything_off_the_old_keyset() -> None:
    """After the mint rotated, `rotate` leaves no coin on the inactive keyset; a second run moves nothing."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        new = await w.bank.mint.rotate_keyset("sat", input_fee_ppk=100)
        w.clock.skip(SETTINGS.refresh_after_s + 1)
        assert await wallet.rotate() == 100
        proofs = await wallet._proofs()
        assert {p.proof.id for p in proofs} == {new.id}
        assert await wallet.rotate() == 0
        await w.books_hold(wallet)


@virtually
async def test_expiring_keysets_are_left_in_time() -> None:
    """A keyset that expires within the horizon is left for one that does not, and gets no coins where there is a choice."""
    async with world() as w:
        expiring = await w.bank.mint.rotate_keyset("sat", final_expiry=w.clock.now() + 3 * MONTH_S)
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        assert {p.proof.id for p in await wallet._proofs()} == {expiring.id}
        assert await wallet.rotate() == 0
        lasting = await w.bank.mint.rotate_keyset("sat")
        w.clock.skip(2 * MONTH_S + 10)
        assert await wallet.rotate() == 100
        assert {p.proof.id for p in await wallet._proofs()} == {lasting.id}


@virtually
async def test_keyset_retired_under_us_is_replaced() -> None:
    """A swap refused because the keyset was just retired (12002) is built again for the new one, without the caller knowing."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        new = await w.bank.mint.rotate_keyset("sat")
        token = await wallet.send(37)
        assert token.amount == 37
        ids = {p.proof.id for p in await wallet._proofs()}
        assert new.id in ids
        await w.books_hold(wallet)


@virtually
async def test_claim_after_rotation() -> None:
    """A quote asked for before a rotation is claimed in the new keyset."""
    async with world() as w:
        wallet = await w.wallet()
        quote = await wallet.mint_quote(13)
        await w.bank.mint.rotate_keyset("sat")
        await w.pay(quote.request)
        assert await wallet.claim(quote) == 13
        await w.books_hold(wallet)


@virtually
async def test_split_and_consolidate() -> None:
    """Split makes the coins for each amount, so that each can be sent without the mint; consolidate undoes it."""
    async with world(settings=MintSettings(input_fee_ppk=100)) as w:
        wallet = await w.wallet()
        await w.fund(wallet, 1000)
        fee = await wallet.split([7, 7, 21])
        assert fee == 1
        for amount in (7, 7, 21):
            await wallet.send(amount, offline=True)
        for token in await wallet.tokens():
            await wallet.reclaim(token.text)
        before = len(await wallet._proofs())
        await wallet.consolidate()
        assert len(await wallet._proofs()) < before
        await w.books_hold(wallet)
        with pytest.raises(RefusedError):
            await wallet.split([])
        with pytest.raises(InsufficientFundsError):
            await wallet.split([10_000])


@virtually
async def test_two_mints_are_apart() -> None:
    """Coins of two mints are never mixed: each verb uses one, and the total is the sum."""
    async with world() as w, house(seed="other", clock=w.clock, settings=MintSettings(input_fee_ppk=1)) as second:
        w.clients[OTHER_URL] = DirectClient(second.mint, OTHER_URL, Faults())
        wallet = await w.wallet()
        await wallet.add_mint(OTHER_URL)
        quote = await wallet.mint_quote(50, mint=OTHER_URL)
        await second.pay(await second.mint.mint_quote(quote.quote, "bolt11"))
        await wallet.claim(quote)
        await w.fund(wallet, 100)
        assert (await wallet.balance()).available == 150
        assert [(b.mint, b.available) for b in await wallet.balances()] == [(MINT_URL, 100), (OTHER_URL, 50)]
        with pytest.raises(InsufficientFundsError):
            await wallet.send(120)
        assert (await wallet.send(60)).mint == MINT_URL
        assert (await wallet.send(48, mint=OTHER_URL)).mint == OTHER_URL
