"""The mistake: a keyset's final expiry is stored and shown, and nobody obeys it.

A mint may forget the spent coins of an expired keyset, so it must not take them any more (12003), nor sign. A wallet that
looks at `active` alone makes coins that die, and holds others until they have.
"""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from specie.ecash import MeltRequest, MeltState, MintQuoteRequest, MintRequest, SwapRequest
from specie.ecash import codes as refused
from specie.kernel import RefusedError
from specie.lightning.adapters.play import Fault, PlayFaults
from specie.mint import MintSettings
from tests.support.house import House, Purse, house
from tests.support.orders import foreign_invoice
from tests.support.virtual import run_virtual
from tests.support.wallets import MINT_URL, virtually, world

DAY = 86_400


async def test_an_expired_keyset_neither_takes_nor_signs(bank: House, purse: Purse) -> None:
    """12003 as soon as its last second is over: as input of swap and melt, as output of swap, mint and change."""
    expiry = bank.clock.now() + 100
    dying = await bank.mint.rotate_keyset("sat", final_expiry=expiry)
    coins = await purse.mint(64)
    outputs = purse.outputs([64], dying)
    await bank.mint.rotate_keyset("sat")
    healthy = await purse.mint(64)
    quote = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 64))
    await bank.pay(quote)
    price = await purse.melt_quote(await foreign_invoice(bank))
    bank.clock.skip(100)
    assert bank.clock.now() == expiry
    bank.clock.skip(1)
    with pytest.raises(refused.KeysetExpiredError):
        await purse.swap(coins, [64])
    with pytest.raises(refused.KeysetExpiredError):
        await bank.mint.melt(MeltRequest("bolt11", price.quote, tuple(coins)))
    with pytest.raises(refused.KeysetExpiredError):
        await bank.mint.swap(SwapRequest(tuple(healthy), outputs.messages))
    with pytest.raises(refused.KeysetExpiredError):
        await bank.mint.issue(MintRequest("bolt11", quote.quote, outputs.messages))
    with pytest.raises(refused.KeysetExpiredError):
        await bank.mint.melt(MeltRequest("bolt11", price.quote, tuple(healthy), outputs.messages))
    assert not next(one for one in bank.mint.keysets() if one.id == dying.id).active
    assert await bank.mint.issue(MintRequest("bolt11", quote.quote, purse.outputs([64]).messages))


async def test_until_its_expiry_a_rotated_keyset_is_taken(bank: House, purse: Purse) -> None:
    """In its last second its coins are good, though it signs no more."""
    await bank.mint.rotate_keyset("sat", final_expiry=bank.clock.now() + 100)
    coins = await purse.mint(64)
    await bank.mint.rotate_keyset("sat")
    bank.clock.skip(100)
    assert await purse.swap(coins, [64])


def test_a_payment_under_way_is_settled_beyond_the_expiry() -> None:
    """Coins locked in time stay locked; when the payment arrives later they are spent, and change is given by their keyset."""

    async def main() -> None:
        async with house(settings=MintSettings(reconcile_every_s=1, pay_deadline_s=1)) as bank:
            purse = Purse(bank)
            await bank.mint.rotate_keyset("sat", final_expiry=bank.clock.now() + 100)
            coins = await purse.mint(64)
            quote = await purse.melt_quote(await foreign_invoice(bank))
            blanks = purse.outputs([1] * 6)
            bank.rail.set_faults(PlayFaults(always=Fault.delay(500.0)))
            request = MeltRequest("bolt11", quote.quote, tuple(coins), blanks.messages)
            assert (await bank.mint.melt(request)).state is MeltState.PENDING
            await bank.mint.rotate_keyset("sat")
            await asyncio.sleep(600)
            settled = await bank.mint.melt_quote(quote.quote, "bolt11")
            assert settled.state is MeltState.PAID
            assert settled.change is not None
            assert blanks.proofs(settled.change, blank=True)
            await bank.mint.audit()

    run_virtual(main())


async def test_the_id_commits_to_the_expiry(bank: House) -> None:
    """A mint cannot shorten the life of a keyset in silence: the id is another, and zero or a past time is refused."""
    from specie.ecash import verify_keyset_id
    from specie.kernel import MalformedError

    keyset = await bank.mint.rotate_keyset("sat", final_expiry=bank.clock.now() + 100)
    verify_keyset_id(keyset)
    for expiry in (None, bank.clock.now() + 99):
        with pytest.raises(MalformedError):
            verify_keyset_id(replace(keyset, final_expiry=expiry))
    for expiry in (0, bank.clock.now(), bank.clock.now() - 1):
        with pytest.raises(RefusedError):
            await bank.mint.rotate_keyset("sat", final_expiry=expiry)


@virtually
async def test_a_wallet_moves_off_a_dying_keyset_in_time() -> None:
    """Coins of a keyset that expires within the horizon are moved to the new one, and none is lost when the day comes."""
    async with world() as w:
        dying = await w.bank.mint.rotate_keyset("sat", final_expiry=w.clock.now() + 40 * DAY)
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        assert await wallet.rotate() == 0  # forty days are far away
        w.clock.skip(15 * DAY)
        await w.bank.mint.rotate_keyset("sat")
        assert await wallet.rotate() > 0
        held = {one.proof.id for one in await wallet._proofs()}
        assert dying.id not in held
        w.clock.skip(30 * DAY)
        token = await wallet.send(37)
        other = await w.wallet()
        assert (await other.receive(token.text)).amount == 37
        await wallet.check_pending()
        await w.books_hold(wallet, other)


@virtually
async def test_a_wallet_makes_no_coin_for_an_expired_keyset() -> None:
    """A keyset that the mint still calls active but that has expired is not used, and its coins are not taken off-line."""
    async with world() as w:
        await w.bank.mint.rotate_keyset("sat", final_expiry=w.clock.now() + 40 * DAY)
        wallet, other = await w.wallet(), await w.wallet()
        await w.fund(wallet, 100)
        token = await wallet.send(37)
        w.clock.skip(40 * DAY + 1)
        (view,) = await other.mints()
        assert view.url == MINT_URL
        assert other._context.choose_keyset(await other._context.keysets(MINT_URL), "sat") is None
        with pytest.raises(refused.KeysetExpiredError):
            await other.receive(token.text, offline=True)
        with pytest.raises(RefusedError):
            await other.receive(token.text)
        assert (await other.balance()).total == 0
