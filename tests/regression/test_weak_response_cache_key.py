"""The mistake: answers kept under a key that does not cover the whole request.

A cache keyed by the path, by the outputs or by the quote answers a request that was never judged: somebody who saw the
outputs gets the signatures without the coins, and a changed request is told the answer of another. Here a request is named
by the hash of everything it commits to, and only a refused request is looked up under it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from specie.ecash import MeltRequest, MintQuoteRequest, MintRequest, SwapRequest
from specie.ecash import codes as refused
from specie.ecash.conditions import p2pk_secret, sig_inputs_digest
from specie.ecash.quote import quote_signature_digest
from specie.kernel import RefusedError, curve
from specie.mint.engine.checks import operation_hash
from tests.support.coins import public_key, secret_key, signature
from tests.support.house import House, Purse
from tests.support.locked import lock, witnessed
from tests.support.orders import foreign_invoice, watch_orders

Change = Callable[[SwapRequest], SwapRequest]

CHANGED: dict[str, Change] = {
    "order of inputs": lambda one: SwapRequest(tuple(reversed(one.inputs)), one.outputs),
    "order of outputs": lambda one: SwapRequest(one.inputs, tuple(reversed(one.outputs))),
    "one input less": lambda one: SwapRequest(one.inputs[1:], one.outputs),
    "one output less": lambda one: SwapRequest(one.inputs, one.outputs[1:]),
    "a witness": lambda one: SwapRequest((replace(one.inputs[0], witness="{}"), *one.inputs[1:]), one.outputs),
    "an empty witness": lambda one: SwapRequest((replace(one.inputs[0], witness=""), *one.inputs[1:]), one.outputs),
    "a C": lambda one: SwapRequest((replace(one.inputs[0], C=public_key("x")), *one.inputs[1:]), one.outputs),
    "a secret": lambda one: SwapRequest((replace(one.inputs[0], secret="x"), *one.inputs[1:]), one.outputs),
    "amounts of outputs": lambda one: SwapRequest(
        one.inputs, tuple(replace(a, amount=b.amount) for a, b in zip(one.outputs, reversed(one.outputs), strict=True))
    ),
}


@pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED)
async def test_a_changed_swap_is_not_answered_from_memory(bank: House, purse: Purse, change: Change) -> None:
    """Whatever is changed in a swap that took effect, it is judged anew and refused; the true one is answered again."""
    coins = await purse.mint(6)
    request = SwapRequest(tuple(coins), purse.outputs([2, 4]).messages)
    first = await bank.mint.swap(request)
    with pytest.raises(RefusedError):
        await bank.mint.swap(change(request))
    assert await bank.mint.swap(request) == first


async def test_outputs_seen_on_the_way_buy_nothing(bank: House, purse: Purse) -> None:
    """Somebody who knows only the blinded outputs cannot have them answered: not for other coins, a quote or change."""
    coins = await purse.mint(4)
    outputs = purse.outputs([4]).messages
    await bank.mint.swap(SwapRequest(tuple(coins), outputs))
    with pytest.raises(refused.OutputsSignedError):
        await bank.mint.swap(SwapRequest(tuple(await purse.mint(4)), outputs))
    quote = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 4))
    with pytest.raises(refused.QuoteUnpaidError):
        await bank.mint.issue(MintRequest("bolt11", quote.quote, outputs))
    await bank.pay(quote)
    with pytest.raises(refused.OutputsSignedError):
        await bank.mint.issue(MintRequest("bolt11", quote.quote, outputs))
    price = await purse.melt_quote(await foreign_invoice(bank))
    with pytest.raises(refused.OutputsSignedError):
        await bank.mint.melt(MeltRequest("bolt11", price.quote, tuple(await purse.mint(64)), outputs))


async def test_another_quote_method_or_amount_is_another_mint_request(bank: House, purse: Purse) -> None:
    """The answer of one quote is not the answer of another, nor of another method; exchanged amounts are refused."""
    first = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 6))
    second = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 6))
    for quote in (first, second):
        await bank.pay(quote)
    outputs = purse.outputs([2, 4]).messages
    answer = await bank.mint.issue(MintRequest("bolt11", first.quote, outputs))
    with pytest.raises(refused.OutputsSignedError):
        await bank.mint.issue(MintRequest("bolt11", second.quote, outputs))
    with pytest.raises(RefusedError):
        await bank.mint.issue(MintRequest("bolt12", first.quote, outputs))
    exchanged = (replace(outputs[0], amount=4), replace(outputs[1], amount=2))
    for changed in (exchanged, tuple(reversed(outputs)), outputs[:1]):
        with pytest.raises(refused.QuoteIssuedError):
            await bank.mint.issue(MintRequest("bolt11", first.quote, changed))
    assert await bank.mint.issue(MintRequest("bolt11", first.quote, outputs)) == answer


async def test_nothing_is_answered_before_the_quote_signature(bank: House, purse: Purse) -> None:
    """A locked quote's answer is given again only to whoever can sign for it, though the request is the same but for that."""
    quote = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 4, pubkey=public_key("alice").hex()))
    await bank.pay(quote)
    outputs = purse.outputs([4]).messages
    digest = quote_signature_digest(quote.quote, outputs)
    good = MintRequest("bolt11", quote.quote, outputs, signature(digest, "alice").hex())
    answer = await bank.mint.issue(good)
    for stolen in (None, "", "00" * 64, signature(digest, "mallory").hex()):
        with pytest.raises(refused.QuoteSignatureInvalidError):
            await bank.mint.issue(replace(good, signature=stolen))
    fresh = curve.schnorr_sign(digest, secret_key("alice"), b"\x01" * 32).hex()
    assert await bank.mint.issue(replace(good, signature=fresh)) == answer


async def test_a_spent_lock_is_not_answered_without_its_signature(bank: House, purse: Purse) -> None:
    """A locked coin's swap is not answered again to somebody who shows no witness, or another one."""
    (coin,) = await lock(purse, p2pk_secret(public_key("alice").hex(), nonce=bytes(32)))
    opened = witnessed(coin, [signature(sig_inputs_digest(coin), "alice")])
    outputs = purse.outputs([4]).messages
    answer = await bank.mint.swap(SwapRequest((opened,), outputs))
    for shown in (coin, witnessed(coin, [signature(sig_inputs_digest(coin), "mallory")])):
        with pytest.raises(RefusedError):
            await bank.mint.swap(SwapRequest((shown,), outputs))
    assert await bank.mint.swap(SwapRequest((opened,), outputs)) == answer


async def test_a_changed_melt_is_not_answered_and_not_paid(bank: House, purse: Purse) -> None:
    """Other coins, other blank outputs or another order for a paid quote: 20006; the true request again: its answer."""
    orders = watch_orders(bank.rail)
    coins, more = await purse.mint(63), await purse.mint(63)
    quote = await purse.melt_quote(await foreign_invoice(bank))
    blanks = purse.outputs([1] * 4).messages
    request = MeltRequest("bolt11", quote.quote, tuple(coins), blanks)
    answer = await bank.mint.melt(request)
    for changed in (
        replace(request, inputs=tuple(more)),
        replace(request, inputs=tuple(reversed(coins))),
        replace(request, outputs=tuple(reversed(blanks))),
        replace(request, outputs=()),
    ):
        with pytest.raises(refused.InvoicePaidError):
            await bank.mint.melt(changed)
    assert await bank.mint.melt(request) == answer
    assert len(orders) == 1
    assert {one.state for one in await bank.mint.check_state([coin.y for coin in more])} == {"UNSPENT"}


async def test_the_name_of_a_request_is_framed(purse: Purse) -> None:
    """No two requests run together into the same bytes: fields that move across a border give another name."""
    (coin,) = await purse.mint(4)
    (output,) = purse.outputs([4]).messages
    named = [
        operation_hash("swap", "", (coin,), (output,)),
        operation_hash("mint", "", (coin,), (output,)),
        operation_hash("swap", "q", (coin,), (output,)),
        operation_hash("swapq", "", (coin,), (output,)),
        operation_hash("swap", "", (), (output,)),
        operation_hash("swap", "", (coin,), ()),
        operation_hash("swap", "", (coin, coin), ()),
        operation_hash("swap", "", (replace(coin, witness=""),), (output,)),
        operation_hash("swap", "", (replace(coin, witness="\x01"),), (output,)),
        operation_hash("swap", "", (replace(coin, secret=coin.secret[:-1]),), (output,)),
        operation_hash("swap", "", (replace(coin, id=coin.id + coin.secret[:1], secret=coin.secret[1:]),), (output,)),
        operation_hash("swap", "", (coin,), (replace(output, amount=5),)),
    ]
    assert len(set(named)) == len(named)
