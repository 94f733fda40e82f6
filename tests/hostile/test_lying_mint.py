"""A mint that lies about anything, at any time, in any order, and then tells the truth: what the wallet may lose to it.

Generated histories: a wallet works at a mint whose answers are exchanged at random. While the lies last, every verb ends in
an answer or in an error of the house's tree. Afterwards the mint is honest, and then:

    the wallet never believes in more than the honest mint owes
    the words bring back every coin the honest mint owes, whatever the wallet was told in between
    whatever was paid on a quote that the wallet knows is claimed
    the mint's own books still balance
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specie.kernel import InvariantError, SpecieError
from specie.mint import MintSettings
from specie.wallet import Wallet
from tests.support.lies import LIES, Liar
from tests.support.method_lies import METHOD_LIES
from tests.support.methods import foreign_address, foreign_offer
from tests.support.virtual import run_virtual
from tests.support.wallets import MINT_URL, World, memory_storage, world

FLAT = [(verb, name) for verb, lies in LIES.items() for name in lies]
BY_METHOD = [(verb, name) for verb, lies in METHOD_LIES.items() for name in lies]
ALL_LIES = {**LIES, **METHOD_LIES}
NEEDS_TROUBLE = ("melt_quote",)
"""Verbs that are asked only where something went wrong before."""
VERBS = (
    "mint",
    "mint several",
    "renew",
    "send",
    "receive",
    "pay",
    "split",
    "consolidate",
    "rotate",
    "check",
    "resume",
    "restore",
)
METHOD_VERBS = ("offer", "address", "voucher", "several offers", "reorganise", "pay offer", "pay address", "deposit", "find")
METHODS = ("bolt12", "onchain", "voucher")


async def _work(w: World, wallet: Wallet, other: Wallet, verb: str, amount: int, number: int) -> None:
    """One verb as a person would use it."""
    match verb:
        case "mint":
            quote = await wallet.mint_quote(amount)
            await _look(wallet)
            await w.pay(quote.request)
            await wallet.claim(await wallet.wait(quote, timeout_s=1))
        case "mint several":
            quotes = [await wallet.mint_quote(one) for one in (amount, amount + 1)]
            await _look(wallet)
            for quote in quotes:
                await w.pay(quote.request)
            await wallet.claim_all()
        case "send":
            await wallet.send(amount)
        case "receive":
            token = await other.send(amount)
            await wallet.receive(token.text)
        case "pay":
            await wallet.pay(await w.foreign_invoice(amount * 1000, f"payee {number}"), wait_s=1)
        case "renew":
            await w.bank.mint.rotate_keyset("sat")
            await wallet.add_mint(MINT_URL)
        case "split":
            await wallet.split([amount, 1])
        case "consolidate":
            await wallet.consolidate()
        case "rotate":
            await wallet.rotate()
        case "check":
            await wallet.check_pending()
        case "resume":
            await wallet.resume()
        case "restore":
            await wallet.restore()
        case _:
            await _by_method(w, wallet, other, verb, amount, number)


async def _look(wallet: Wallet) -> None:
    """Before anybody has paid."""
    with contextlib.suppress(SpecieError):
        await wallet.claim_all()


async def _by_method(w: World, wallet: Wallet, other: Wallet, verb: str, amount: int, number: int) -> None:
    """One verb that an invoice has no part in."""
    match verb:
        case "offer" | "voucher":
            method = "bolt12" if verb == "offer" else verb
            quote = await wallet.mint_quote(amount if number % 2 else None, method=method)
            for _ in range(2):
                await w.bank.requests[method].settle(quote.request, amount * 1000)
                await wallet.claim(await wallet.wait(quote, timeout_s=3))
        case "address":
            quote = await wallet.mint_quote(method="onchain")
            await w.bank.onchain.settle(quote.request, (1000 + amount) * 1000)
            await wallet.wait(quote, timeout_s=1)
            await w.bank.onchain.mine(3)
            await wallet.claim(await wallet.wait(quote, timeout_s=3))
        case "several offers":
            for _ in range(3):
                await w.bank.requests["bolt12"].settle((await wallet.mint_quote(method="bolt12")).request, amount * 1000)
            await asyncio.sleep(1)
            await wallet.claim_all()
        case "reorganise":
            await w.bank.onchain.reorganise(3)
            await wallet.check_pending()
            await w.bank.onchain.mine(4)
        case "pay offer":
            await wallet.pay(foreign_offer(amount * 1000, name=number + 1, description="x"), wait_s=1)
        case "pay address":
            quote = await wallet.melt_quote(foreign_address(number + 1), amount=1000 + amount)
            await wallet.pay(quote, wait_s=1, **({"blocks": 1} if number % 2 else {}))
            await wallet.resume(wait_s=1)
            await w.bank.onchain.mine(6)
            await wallet.resume(wait_s=3)
        case "deposit":
            await w.pay(await other.deposits.request(amount, await wallet.deposits.key(), mint=MINT_URL))
            await asyncio.sleep(1)
            await wallet.deposits.claim(MINT_URL)
        case "find":
            await wallet.deposits.find(MINT_URL)


async def _history(steps: Sequence[tuple[str, int]], plan: Sequence[tuple[str, str]], times: int) -> list[tuple[str, str]]:
    async with world(methods=METHODS, settings=MintSettings(quote_lookup=True)) as w:
        wallet, other = await w.wallet(), await w.wallet()
        await w.fund(wallet, 40_000 if any(verb == "pay address" for verb, _ in steps) else 200)
        await w.fund(other, 200)
        liar = Liar(plan, times, ALL_LIES)
        w.faults.change = liar
        for number, (verb, amount) in enumerate(steps):
            try:
                await asyncio.wait_for(_work(w, wallet, other, verb, amount, number), 3600)
            except InvariantError:
                raise  # "we are wrong", which no lie may make us say
            except SpecieError:
                continue
        liar.on = False
        await w.bank.onchain.mine(6)
        await asyncio.sleep(600)  # breakers close, payments end
        await w.bank.mint.reconcile()
        for one in (wallet, other):
            await one.add_mint(MINT_URL)
            await one.resume()
            for quote in await one.mint_quotes():
                try:
                    await one.claim(quote)
                except SpecieError:
                    continue
            await one.check_pending()
        for one in (wallet, other):
            await one.restore([MINT_URL])
            await one.check_pending()
            await _all_is_claimed(w, one, liar)
        books = await w.bank.mint.audit()
        owed = sum(books.issued(one, "sat") - books.redeemed(one, "sat") for one in books.keysets("sat"))
        held = [(await one.balance()).total for one in (wallet, other)]
        assert sum(held) <= owed, (held, owed, liar.told)
        again = [await w.wallet(await memory_storage(), words=words) for words in (w.words[0], w.words[1])]
        found = 0
        for one in again:
            await one.restore([MINT_URL])
            found += (await one.balance()).total
        assert found == owed, (found, owed, held, liar.told)
        return liar.told


async def _all_is_claimed(w: World, wallet: Wallet, liar: Liar) -> None:
    """Of the quotes that the wallet knows, and that there are, nothing is left to claim."""
    for quote in await wallet.mint_quotes():
        try:
            seen = await w.bank.mint.mint_quote(quote.quote, quote.method)
        except SpecieError:  # the mint made up the quote
            continue
        assert not seen.mintable, (seen, quote, liar.told)


WHOLE_LIFE = [
    ("mint", 50),
    ("mint several", 6),
    ("renew", 1),
    ("send", 21),
    ("receive", 30),
    ("pay", 40),
    ("split", 17),
    ("consolidate", 1),
    ("check", 1),
]
WHOLE_LIFE += [("resume", 1), ("restore", 1), ("pay", 9), ("send", 3)]


@pytest.mark.parametrize("times", [1, 9])
@pytest.mark.parametrize("lie", FLAT, ids=[f"{verb}: {name}" for verb, name in FLAT])
def test_each_lie_alone_neither_creates_nor_loses_money(lie: tuple[str, str], times: int) -> None:
    """Told once, and told whenever the wallet tries again, in a life that uses every verb; and it really was told."""
    told = run_virtual(_history(WHOLE_LIFE, [lie], times))
    assert lie in told or lie[0] in NEEDS_TROUBLE


LIFE_BY_METHOD = [
    ("offer", 21),
    ("address", 50),
    ("voucher", 8),
    ("several offers", 5),
    ("mint", 33),
    ("deposit", 13),
    ("pay offer", 1500),
    ("pay address", 60),
    ("reorganise", 1),
    ("address", 9),
    ("offer", 6),
    ("voucher", 3),
    ("pay address", 11),
    ("pay offer", 4),
    ("pay", 2100),
    ("deposit", 7),
    ("resume", 1),
    ("restore", 1),
]


@pytest.mark.parametrize(
    ("lie", "times"),
    [(lie, 1 if at % 2 else 9) for at, lie in enumerate(BY_METHOD)],
    ids=[f"{verb}: {name}" for verb, name in BY_METHOD],
)
def test_each_lie_about_a_method_neither_creates_nor_loses_money(lie: tuple[str, str], times: int) -> None:
    """The same of offers, addresses, what another method has, and deposits found by key.

    There are several of each kind, so every second is told once and the others again and again; histories do both.
    """
    told = run_virtual(_history(LIFE_BY_METHOD, [lie], times))
    assert lie in told


@settings(max_examples=40)
@given(
    steps=st.lists(st.tuples(st.sampled_from(VERBS + METHOD_VERBS), st.integers(1, 60)), min_size=2, max_size=8),
    plan=st.lists(st.sampled_from(FLAT + BY_METHOD), min_size=2, max_size=8),
    times=st.integers(1, 3),
)
def test_no_lies_together_create_or_lose_money(steps: list[tuple[str, int]], plan: list[tuple[str, str]], times: int) -> None:
    """Whatever is told when: see the three promises above."""
    run_virtual(_history(steps, plan, times))
