"""The mistake: the NUT-13 counter is committed after success, so a crash uses secrets twice.

A secret used twice is refused by the mint at best (11003); at worst the second coin is lost or links the two. The counter is
committed before a secret is even derived: a crash skips numbers. The judge is the wire: every blinded message ever sent.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import pytest

from specie.ecash import BlindedMessage
from specie.ecash.codes import PaymentFailedError
from specie.kernel import UncertainError
from specie.wallet import Wallet
from tests.support.virtual import run_virtual
from tests.support.wallets import Died, MortalStorage, World, memory_storage, virtually, world

WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
LOST = UncertainError("the answer was lost")


def sent_outputs(w: World) -> list[str]:
    """Every B_ that was sent, once for each different request that carried it."""
    requests = {body for verb, body in w.faults.bodies if verb in ("issue", "swap", "melt")}
    return [output["B_"] for body in requests for output in json.loads(body).get("outputs") or []]


async def _claim(w: World, wallet: Wallet) -> object:
    quote = await wallet.mint_quote(13)
    await w.pay(quote.request)
    return await wallet.claim(quote)


async def _send(w: World, wallet: Wallet) -> object:
    return await wallet.send(37)


async def _pay(w: World, wallet: Wallet) -> object:
    return await wallet.pay(await w.foreign_invoice(21_000))


@pytest.mark.parametrize("before", [True, False], ids=["lost", "durable"])
@pytest.mark.parametrize("act", [_claim, _send, _pay])
def test_no_output_is_ever_made_twice(act: Callable[[World, Wallet], Awaitable[object]], before: bool) -> None:
    """The wallet dies at each commit of a verb, restarts without resuming, and does it again: all outputs are new."""

    async def life(number: int) -> bool:
        async with world() as w:
            storage = MortalStorage(await memory_storage())
            wallet = await w.wallet(storage, words=WORDS)
            await w.fund(wallet, 100)
            await w.fund(wallet, 100)
            storage.at, storage.before = storage.commits + number, before
            died = False
            try:
                await act(w, wallet)
            except Died:
                died = True
            storage.at = None
            again = await w.wallet(storage.inner, words=WORDS, trusted=False)
            await again.send(21)  # before any resume
            await w.fund(again, 50)
            await again.resume(wait_s=60)
            await again.send(5)
            outputs = sent_outputs(w)
            assert len(outputs) == len(set(outputs))
            return died

    assert run_virtual(life(1))
    for number in range(2, 40):
        if not run_virtual(life(number)):
            return
    pytest.fail("the verb never ended")


@virtually
async def test_a_refused_or_lost_request_gives_no_number_back() -> None:
    """After a refusal, and after an answer that never came, the next request has other outputs."""
    async with world() as w:
        wallet = await w.wallet(words=WORDS)
        await w.fund(wallet, 100)
        w.fail_payments()
        for _ in range(3):
            with pytest.raises(PaymentFailedError):
                await _pay(w, wallet)
        w.faults.plant("after", "swap", LOST, LOST, LOST)
        with pytest.raises(UncertainError):
            await wallet.send(37)
        await wallet.send(3)
        outputs = sent_outputs(w)
        assert len(outputs) == len(set(outputs))


@virtually
async def test_a_restored_wallet_begins_behind_the_last_secret() -> None:
    """After a restore from words nothing that the mint has signed is derived again, change of a melt included."""
    async with world() as w:
        wallet = await w.wallet(words=WORDS)
        await w.fund(wallet, 100)
        await wallet.send(37)
        await _pay(w, wallet)
        asked = [BlindedMessage(1, w.bank.keyset().id, bytes.fromhex(b_)) for b_ in sent_outputs(w)]
        signed = {message.B_.hex() for message, _ in await w.bank.mint.restore(asked)}
        assert len(signed) > 5
        again = await w.wallet(words=WORDS)
        await again.restore()
        w.faults.bodies.clear()
        await w.fund(again, 100)
        await again.send(37)
        assert sent_outputs(w)
        assert not signed & set(sent_outputs(w))
