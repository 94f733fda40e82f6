"""Two devices of one seed draw the same secrets: what one did must not leave the other with coins locked for ever.

An operation whose inputs the other device had spent, and whose secrets it had used for other amounts, stayed open with "the
mint signed another amount than asked"; so did a payment that was never made, once the other device had spent its coins.
"""

from __future__ import annotations

import pytest

from specie.kernel.errors import UnavailableError, UncertainError
from specie.storage import Transaction
from specie.storage.adapters.sqlite import SqliteStorage
from specie.wallet.adapters.store_sql import SqlWalletStore
from specie.wallet.engine.merging import merge
from tests.support.wallets import memory_storage, virtually, world

WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
STORE = SqlWalletStore()


async def _copy(storage: SqliteStorage) -> SqliteStorage:
    rows = await storage.read(STORE.tables)
    made = await memory_storage()

    async def body(tx: Transaction) -> None:
        await STORE.fill(tx, rows)

    await made.transact(body)
    return made


@virtually
async def test_secrets_that_the_other_device_used_for_other_amounts() -> None:
    """The operation is closed as not done, the counters go on, and the wallet works; restored it has what is owed."""
    async with world() as w:
        first = await memory_storage()
        one = await w.wallet(first, words=WORDS)
        await w.fund(one, 64)
        two = await w.wallet(await _copy(first), words=WORDS, trusted=False)
        w.faults.plant("before", "swap", *[UncertainError("lost")] * 9)
        with pytest.raises(UncertainError):
            await two.send(20)
        w.faults.before.clear()
        sent = await one.send(37)
        w.clock.skip(1000)
        report = await two.resume()
        assert (len(report.failed), report.open) == (1, {})
        assert (await two.balance()).total == 0
        await two.restore()
        await w.fund(two, 8)
        await two.send(5)
        assert (await one.reclaim(sent.text)).amount == 37


@virtually
async def test_a_payment_never_made_whose_coins_the_other_device_spent() -> None:
    """Alone it stays open, for nobody knows; merged with the other device's books it is closed, and the rest is free."""
    async with world() as w:
        first = await memory_storage()
        one, bob = await w.wallet(first, words=WORDS), await w.wallet()
        await w.fund(one, 4)
        await w.fund(one, 64)
        second = await _copy(first)
        two = await w.wallet(second, words=WORDS, trusted=False)
        invoice = await w.foreign_invoice(66_000)
        w.faults.plant("before", "melt", *[UncertainError("lost")] * 9)
        w.faults.plant("before", "melt_quote", *[UnavailableError("lost")] * 9)
        with pytest.raises(UncertainError):
            await two.pay(invoice, wait_s=1)
        w.faults.before.clear()
        await bob.receive((await one.send(64)).text)
        w.clock.skip(1000)
        assert len((await two.resume()).open) == 1
        await merge(one._context, await second.read(STORE.tables))
        report = await one.resume()
        assert (len(report.failed), report.open) == (1, {})
        await one.check_pending()
        await bob.check_pending()
        assert (await one.balance()).available == 4
        await w.books_hold(one, bob)
