"""The wallet from its words alone: every live coin of every keyset, no spent one, and counters behind all of them."""

from __future__ import annotations

import asyncio

import pytest

from specie.kernel import UnavailableError
from specie.lightning.adapters.play import Answer, Fault, PlayFaults
from tests.support.wallets import MINT_URL, virtually, world

WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"


@virtually
async def test_restores_the_balance_over_all_keysets() -> None:
    """Coins of the active and of inactive keysets come back; spent ones do not; a second restore adds nothing."""
    async with world() as w:
        old, bob = await w.wallet(words=WORDS), await w.wallet()
        await w.fund(old, 100)
        await bob.receive((await old.send(21)).text)
        await old.check_pending()
        await w.bank.mint.rotate_keyset("sat")
        await old.add_mint(MINT_URL)
        await w.fund(old, 50)
        assert {p.proof.id for p in await old._proofs()} == {k.id for k in w.bank.mint.keysets()}

        progress: list[tuple[str, int, int]] = []
        new = await w.wallet(words=WORDS, trusted=False)
        (restored,) = await new.restore([MINT_URL], progress=lambda *step: progress.append(step))
        assert (restored.amount, restored.pending) == (129, 0)
        assert restored.spent > 0
        assert (await new.balance()).available == 129
        assert len(progress) >= 2 * 3
        await w.books_hold(new, bob)
        (again,) = await new.restore()
        assert (again.amount, again.coins) == (0, 0)


@virtually
async def test_a_restore_takes_back_what_an_old_backup_believes() -> None:
    """Two wallets of one seed, as after putting back a backup: what one has spent the other no longer offers."""
    async with world() as w:
        stale, bob = await w.wallet(words=WORDS), await w.wallet()
        await w.fund(stale, 100)
        device = await w.wallet(words=WORDS)
        await device.restore()
        await bob.receive((await device.send(90)).text)
        assert (await stale.balance()).available == 100
        await stale.restore()
        assert (await stale.balance()).available == (await device.balance()).available == 10
        await w.books_hold(stale, bob)


@virtually
async def test_restored_wallet_never_uses_a_secret_twice() -> None:
    """After a restore the counters go on behind the last hit: new coins are signed at once, without a collision."""
    async with world() as w:
        old = await w.wallet(words=WORDS)
        await w.fund(old, 100)
        new = await w.wallet(words=WORDS, trusted=False)
        await new.restore([MINT_URL])
        w.faults.calls.clear()
        await w.fund(new, 30)
        await new.send(37)
        assert w.faults.calls.count("restore") == 0
        assert (await new.balance()).total == 130


@virtually
async def test_gap_is_a_setting() -> None:
    """Counters that were skipped for more than the gap hide what lies behind them; a wider gap finds it."""
    from dataclasses import replace

    from specie.wallet.adapters.store_sql import SqlWalletStore
    from tests.support.wallets import SETTINGS, memory_storage

    async with world() as w:
        storage = await memory_storage()
        old = await w.wallet(storage, words=WORDS)
        keyset = w.bank.keyset().id
        await storage.transact(lambda tx: SqlWalletStore().take_counters(tx, MINT_URL, keyset, 450))
        await w.fund(old, 100)
        narrow = await w.wallet(words=WORDS, trusted=False)
        assert sum(one.amount for one in await narrow.restore([MINT_URL])) == 0
        wide = await w.wallet(words=WORDS, trusted=False, settings=replace(SETTINGS, restore_gap=6))
        assert sum(one.amount for one in await wide.restore([MINT_URL])) == 100


@virtually
async def test_coins_of_a_running_payment_come_back_locked() -> None:
    """Coins that the mint holds for a payment are restored as pending and are free only when the mint frees them."""
    async with world() as w:
        old = await w.wallet(words=WORDS)
        await w.fund(old, 100)
        slow = Fault.fail(after_s=300.0)
        w.bank.rail.set_faults(PlayFaults(always=Fault(slow.truth, slow.after_s, Answer.PENDING)))
        assert (await old.pay(await w.foreign_invoice(21_000), wait_s=1)).state == "PENDING"
        new = await w.wallet(words=WORDS, trusted=False)
        (restored,) = await new.restore([MINT_URL])
        assert restored.pending > 0
        assert restored.pending + restored.amount == 100
        await new.check_pending()
        assert (await new.balance()).reserved == restored.pending
        await old.resume(wait_s=2000)
        report = await new.check_pending()
        assert report.released == {"sat": restored.pending}
        assert (await new.balance()).available == 100


@virtually
async def test_locked_coins_can_be_opened_after_a_restore() -> None:
    """Keys for locks are derived again, so a token locked to the lost wallet is redeemed by the restored one."""
    from specie.wallet import P2PK

    async with world() as w:
        old, alice = await w.wallet(words=WORDS), await w.wallet()
        await w.fund(alice, 100)
        for _ in range(3):
            key = await old.p2pk_key()
        token = await alice.send(37, lock=P2PK((key,)))
        new = await w.wallet(words=WORDS, trusted=False)
        await new.restore([MINT_URL])
        assert (await new.receive(token.text)).amount == 37
        assert await new.p2pk_key() not in {key}


@virtually
async def test_change_of_a_payment_is_restorable() -> None:
    """Change on blank outputs comes from the seed too: the amount is the mint's to say."""
    async with world() as w:
        old = await w.wallet(words=WORDS)
        await w.fund(old, 100)
        await old.pay(await w.foreign_invoice(21_000))
        new = await w.wallet(words=WORDS, trusted=False)
        await new.restore([MINT_URL])
        assert (await new.balance()).available == (await old.balance()).available
        await w.books_hold(new)


@virtually
async def test_restore_needs_the_mint() -> None:
    """A mint that does not answer is UnavailableError, not an empty wallet."""
    async with world() as w:
        new = await w.wallet(words=WORDS)
        w.faults.plant("before", "restore", *[UnavailableError("off-line")] * 9)
        with pytest.raises(UnavailableError):
            await new.restore()


@virtually
async def test_trying_in_vain_leaves_no_gap_for_a_restore() -> None:
    """Hundreds of sends without a network, and of tokens that do not open, take no counters: the words still find the rest."""
    from specie.wallet import P2PK
    from specie.wallet.adapters.store_sql import SqlWalletStore
    from specie.wallet.errors import TokenLockedError
    from tests.support.wallets import memory_storage

    async with world() as w:
        storage = await memory_storage()
        old, alice = await w.wallet(storage, words=WORDS), await w.wallet()
        await w.fund(old, 100)
        await w.fund(alice, 100)
        locked = await alice.send(37, lock=P2PK((await alice.p2pk_key(),)))
        keyset = w.bank.keyset().id
        before = await storage.read(lambda tx: SqlWalletStore().counter(tx, MINT_URL, keyset))
        for number in range(20):
            w.faults.plant("before", "swap", *[UnavailableError("off-line")] * 3)
            with pytest.raises(UnavailableError):
                await old.send(37)
            w.faults.before.clear()
            await asyncio.sleep(200)  # until the breaker lets a call through again
            w.faults.plant("before", "melt", *[UnavailableError("off-line")] * 3)
            with pytest.raises(UnavailableError):
                await old.pay(await w.foreign_invoice(21_000, f"payee {number}"))
            w.faults.before.clear()
            await asyncio.sleep(200)
            with pytest.raises(TokenLockedError):
                await old.receive(locked.text)
        assert await storage.read(lambda tx: SqlWalletStore().counter(tx, MINT_URL, keyset)) == before
        assert (await old.send(37)).amount == 37
