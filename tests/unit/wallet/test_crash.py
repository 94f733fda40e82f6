"""A wallet that dies at every step of every verb, and a second process on what it left behind: nothing is ever lost.

The judge is the mint: what it owes after `resume` is exactly what the wallets hold, to the unit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from specie.wallet import Wallet
from tests.support.virtual import run_virtual
from tests.support.wallets import Died, MortalStorage, World, memory_storage, world

Act = Callable[[Wallet], Awaitable[object]]


@dataclass
class Stage:
    """What a verb needs before it runs: the world, a second wallet, and the act that will die."""

    world: World
    other: Wallet
    act: Act


async def _claim(w: World, wallet: Wallet, other: Wallet) -> Act:
    quote = await wallet.mint_quote(13)
    await w.pay(quote.request)
    return lambda one: one.claim(quote)


async def _mint_quote(w: World, wallet: Wallet, other: Wallet) -> Act:
    return lambda one: one.mint_quote(13)


async def _send(w: World, wallet: Wallet, other: Wallet) -> Act:
    return lambda one: one.send(37)


async def _send_exact(w: World, wallet: Wallet, other: Wallet) -> Act:
    return lambda one: one.send(64)


async def _send_locked(w: World, wallet: Wallet, other: Wallet) -> Act:
    from specie.wallet import P2PK

    key = await other.p2pk_key()
    return lambda one: one.send(37, lock=P2PK((key,)))


async def _receive(w: World, wallet: Wallet, other: Wallet) -> Act:
    await w.fund(other, 40)
    token = await other.send(21)
    return lambda one: one.receive(token.text)


async def _receive_offline_and_secure(w: World, wallet: Wallet, other: Wallet) -> Act:
    await w.fund(other, 40)
    token = await other.send(21)

    async def act(one: Wallet) -> None:
        await one.receive(token.text, offline=True)
        await one.secure()

    return act


async def _pay_foreign(w: World, wallet: Wallet, other: Wallet) -> Act:
    invoice = await w.foreign_invoice(21_000)
    return lambda one: one.pay(invoice)


async def _pay_failing(w: World, wallet: Wallet, other: Wallet) -> Act:
    from specie.kernel import SpecieError

    invoice = await w.foreign_invoice(21_000)
    w.fail_payments()

    async def act(one: Wallet) -> None:
        with pytest.raises(SpecieError):
            await one.pay(invoice)

    return act


async def _pay_own(w: World, wallet: Wallet, other: Wallet) -> Act:
    quote = await other.mint_quote(21)
    return lambda one: one.pay(quote.request)


async def _reclaim(w: World, wallet: Wallet, other: Wallet) -> Act:
    token = await wallet.send(21)
    return lambda one: one.reclaim(token.text)


async def _consolidate(w: World, wallet: Wallet, other: Wallet) -> Act:
    await w.fund(wallet, 7)
    await w.fund(wallet, 7)
    return lambda one: one.consolidate()


async def _rotate(w: World, wallet: Wallet, other: Wallet) -> Act:
    await w.bank.mint.rotate_keyset("sat")
    w.clock.skip(10_000)
    return lambda one: one.rotate()


VERBS = {
    "claim": _claim,
    "mint_quote": _mint_quote,
    "send": _send,
    "send_exact": _send_exact,
    "send_locked": _send_locked,
    "receive": _receive,
    "offline": _receive_offline_and_secure,
    "pay_foreign": _pay_foreign,
    "pay_failing": _pay_failing,
    "pay_own": _pay_own,
    "reclaim": _reclaim,
    "consolidate": _consolidate,
    "rotate": _rotate,
}


async def _aftermath(w: World, storage: MortalStorage, words: str, other: Wallet) -> None:
    """A new process on the same store: resume, look around, count."""
    wallet = await w.wallet(storage.inner, words=words, trusted=False)
    report = await wallet.resume(wait_s=60)
    assert not report.open, report.open
    await wallet.check_pending()
    await wallet.secure()  # what came off-line counts in two wallets until it is swapped
    await other.resume()
    await other.check_pending()
    await w.books_hold(wallet, other)
    assert (await wallet.balance()).reserved == 0
    # and the money can be moved: what was sent can be taken back
    for token in await wallet.tokens():
        if not token.locked:
            await wallet.reclaim(token.text)
    await w.books_hold(wallet, other)


async def _run(verb: str, kill: Callable[[World, MortalStorage], None]) -> bool:
    """One life of a wallet that is killed during `verb`; False where the verb ended before the fatal moment."""
    words = "legal winner thank year wave sausage worth useful legal winner thank yellow"
    async with world() as w:
        storage = MortalStorage(await memory_storage())
        wallet = await w.wallet(storage, words=words)
        other = await w.wallet()
        await w.fund(wallet, 100)
        act = await VERBS[verb](w, wallet, other)
        kill(w, storage)
        died = False
        try:
            await act(wallet)
        except Died:
            died = True
        storage.at = None
        w.faults.before.clear()
        w.faults.after.clear()
        await _aftermath(w, storage, words, other)
        return died


@pytest.mark.parametrize("before", [True, False], ids=["lost", "durable"])
@pytest.mark.parametrize("verb", VERBS)
def test_dies_at_every_commit(verb: str, before: bool) -> None:
    """The store dies at commit 1, 2, 3 ... of the verb, before or after the commit is durable."""
    deaths = 0
    for number in range(1, 40):

        def kill(w: World, storage: MortalStorage, number: int = number) -> None:
            storage.at, storage.before = storage.commits + number, before

        if not run_virtual(_run(verb, kill)):
            break
        deaths += 1
    else:
        pytest.fail("the verb never ended")
    assert deaths >= 1


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("send_exact",)])
def test_dies_at_every_call(verb: str, when: str) -> None:
    """The process dies at each call to the mint in turn, before the mint sees it or before we see the answer."""
    calls = {
        "claim": ("mint_quote", "issue"),
        "mint_quote": ("request_mint_quote",),
        "send": ("swap",),
        "send_locked": ("swap",),
        "receive": ("swap",),
        "offline": ("swap",),
        "pay_foreign": ("request_melt_quote", "melt"),
        "pay_failing": ("request_melt_quote", "melt", "melt_quote", "check_state"),
        "pay_own": ("request_melt_quote", "melt"),
        "reclaim": ("swap",),
        "consolidate": ("swap",),
        "rotate": ("keysets", "swap"),
    }[verb]
    for call in calls:

        def kill(w: World, storage: MortalStorage, call: str = call) -> None:
            w.faults.plant(when, call, Died())

        if verb == "pay_failing" and call == "melt" and when == "after":
            continue  # the mint refuses, so there is no answer to lose
        assert run_virtual(_run(verb, kill)), call
