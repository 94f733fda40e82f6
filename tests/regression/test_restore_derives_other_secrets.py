"""The mistake: what restores derives otherwise than what issued, so the words give nothing back.

Another path, another id version, another reading of the counter or of the keyset's number, and restore finds no coin though
all are there. Here a wallet that has done everything is lost, and its words must give the very same secrets again.
"""

from __future__ import annotations

import pytest

from specie.ecash.derivation import derive
from specie.kernel.hd import seed_from_words
from specie.lightning.adapters.play import PlayFaults
from specie.mint import MintSettings
from specie.storage.adapters.sqlite import SqliteStorage
from specie.wallet import P2PK, Wallet
from specie.wallet.states import CoinState
from tests.support.house import house
from tests.support.wallets import World, virtually, world

WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"


async def secrets(wallet: Wallet) -> set[tuple[str, int, str, bytes]]:
    """Everything spendable: keyset, amount, secret and C."""
    return {
        (one.proof.id, one.proof.amount, one.proof.secret, one.proof.C)
        for one in await wallet._proofs()
        if one.state is CoinState.UNSPENT
    }


async def live(w: World, wallet: Wallet, name: str) -> None:
    """Mint, send, pay with change, receive: every way by which a wallet gets coins."""
    other = await w.wallet()
    await w.fund(wallet, 100)
    token = await wallet.send(21)
    await other.receive(token.text)
    w.bank.rail.set_faults(PlayFaults())
    await wallet.pay(await w.foreign_invoice(17_000, name))
    await w.fund(other, 13)
    await wallet.receive((await other.send(8)).text)
    await wallet.check_pending()


@virtually
@pytest.mark.parametrize("version", [0, 1])
async def test_the_words_give_the_very_same_secrets(version: int) -> None:
    """For both versions of keyset ids: the same ids, amounts, secrets and Cs, and the money moves."""
    async with world(settings=MintSettings(keyset_version=version, input_fee_ppk=100)) as w:
        wallet = await w.wallet(words=WORDS)
        await live(w, wallet, "one")
        assert w.bank.keyset().id.startswith(f"0{version}")
        again = await w.wallet(words=WORDS)
        await again.restore()
        assert await secrets(again) == await secrets(wallet)
        assert (await again.balance()).available == (await wallet.balance()).available > 0
        await again.consolidate()


@virtually
async def test_coins_of_every_rotation_come_back() -> None:
    """Old and new version, inactive and active keysets, all at once; each with its own counter from zero."""
    store = SqliteStorage(":memory:", inline=True)
    async with house(storage=store, settings=MintSettings(keyset_version=0)) as bank:
        w = World(bank)
        wallet = await w.wallet(words=WORDS)
        await w.fund(wallet, 100)
        await w.bank.mint.rotate_keyset("sat")
        w.clock.skip(10_000)
        await w.fund(wallet, 50)
        kept = wallet._context.storage
    async with house(storage=store, clock=bank.clock, seed=1, settings=MintSettings(keyset_version=1)) as bank:
        w = World(bank)
        w.clock.skip(10_000)
        wallet = await w.wallet(kept, words=WORDS, trusted=False)
        await w.fund(wallet, 25)
        held = await secrets(wallet)
        assert {len(one) for one, *_ in held} == {16, 66}
        assert len({one for one, *_ in held}) == 3
        again = await w.wallet(words=WORDS)
        await again.restore()
        assert await secrets(again) == held
        assert (await again.balance()).available == 175
    await store.close()


@virtually
async def test_secrets_are_those_of_the_specification() -> None:
    """What the wallet holds is NUT-13 of its seed, keyset and counters without gaps: any other wallet finds it too."""
    async with world() as w:
        wallet = await w.wallet(words=WORDS)
        await w.fund(wallet, 100)
        seed = seed_from_words(WORDS)
        keyset = w.bank.keyset().id
        assert {derive(seed, keyset, counter)[0] for counter in range(3)} == {
            secret for _, _, secret, _ in await secrets(wallet)
        }


@virtually
async def test_keys_for_locks_are_derived_again() -> None:
    """A token locked to the third key of a lost wallet is opened by the wallet restored from its words."""
    async with world() as w:
        wallet, other = await w.wallet(words=WORDS), await w.wallet()
        keys = [await wallet.p2pk_key() for _ in range(3)]
        await w.fund(other, 100)
        token = await other.send(21, lock=P2PK((keys[2],)))
        again = await w.wallet(words=WORDS)
        await again.restore()
        assert (await again.receive(token.text)).amount == 21
        assert await again.p2pk_key() not in keys


@virtually
async def test_other_words_find_nothing() -> None:
    """The judge can tell: another seed, though one word apart, restores no coin."""
    async with world() as w:
        wallet = await w.wallet(words=WORDS)
        await w.fund(wallet, 100)
        stranger = await w.wallet()
        await stranger.restore()
        assert (await stranger.balance()).total == 0
