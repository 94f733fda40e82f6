"""The verbs against a real mint engine, one after the other, with the mint's books as the judge."""

from __future__ import annotations

import pytest

from specie.ecash import codes as refused
from tests.support.wallets import MINT_URL, virtually, world


@virtually
async def test_money_goes_round() -> None:
    """Mint, send, receive, pay and restore: every unit is accounted for at each step."""
    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        assert (await alice.balance()).available == 100
        await w.books_hold(alice, bob)

        token = await alice.send(21, memo="lunch")
        assert (await alice.balance()).sent == 21
        receipt = await bob.receive(token.text)
        assert (receipt.amount, receipt.fee, receipt.memo) == (21, 0, "lunch")
        await alice.check_pending()
        assert (await alice.balance()).total == 79
        await w.books_hold(alice, bob)

        quote = await bob.mint_quote(10)
        payment = await alice.pay(quote.request)
        assert payment.state == "PAID"
        assert await bob.claim(await bob.wait(quote, timeout_s=5)) == 10
        assert (await bob.balance()).available == 31
        await w.books_hold(alice, bob)


@virtually
async def test_double_receive_is_refused() -> None:
    """A token redeemed once is refused to everybody, the second time to the same wallet too."""
    async with world() as w:
        alice, bob, carol = await w.wallet(), await w.wallet(), await w.wallet()
        await w.fund(alice, 8)
        token = await alice.send(5)
        await bob.receive(token.text)
        for wallet in (bob, carol, alice):
            with pytest.raises(refused.ProofsSpentError):
                await wallet.receive(token.text)
        await alice.check_pending()
        await w.books_hold(alice, bob, carol)
        assert MINT_URL
