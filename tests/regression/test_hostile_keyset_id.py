"""The mistake: keysets are known by their id alone, so a hostile mint that announces another mint's id gets its secrets.

NUT-13 derives secrets from seed, keyset id and counter. A wallet that keys counters by the id alone shows the hostile mint
the blinded secrets of the honest one, or uses them up. An id belongs to one mint for good, and is recomputed before belief.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from specie.ecash import Keyset, KeysetInfo
from specie.kernel import PeerFaultError, SpecieError
from specie.wallet.errors import KeysetCollisionError
from tests.support.coins import make_keyset
from tests.support.direct_client import DirectClient, Faults
from tests.support.house import Purse, house
from tests.support.wallets import MINT_URL, World, virtually, world

HOSTILE = "http://hostile.test"
WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"


def announcing(keyset: Keyset) -> Callable[[str, object], object]:
    """A mint that says it signs with this keyset."""

    def change(verb: str, answer: object) -> object:
        if verb == "keysets":
            return [keyset.info]
        return keyset if verb == "keys" else answer

    return change


async def hostile(w: World, keyset: Keyset, bank: object = None) -> Faults:
    """Put a mint that announces `keyset` at HOSTILE."""
    faults = Faults()
    faults.change = announcing(keyset)
    w.clients[HOSTILE] = DirectClient(bank or w.bank.mint, HOSTILE, faults)  # type: ignore[arg-type]
    return faults


@virtually
async def test_another_mints_id_is_refused_and_nothing_is_stored() -> None:
    """With the true keys (so that the id checks out) the id is taken by its first mint; the hostile one is not added."""
    async with world() as w:
        wallet = await w.wallet(words=WORDS)
        await w.fund(wallet, 100)
        faults = await hostile(w, w.bank.keyset())
        with pytest.raises(KeysetCollisionError) as caught:
            await wallet.add_mint(HOSTILE)
        assert caught.value.peer == HOSTILE
        assert [view.url for view in await wallet.mints()] == [MINT_URL]
        assert not {"swap", "issue", "melt", "restore"} & set(faults.calls)
        await wallet.send(37)
        await w.books_hold(wallet)


@virtually
async def test_restoring_at_a_hostile_mint_shows_it_no_secret() -> None:
    """`restore` asks about blinded secrets: a mint with another's id is refused before it is asked anything."""
    async with world() as w:
        wallet = await w.wallet(words=WORDS)
        await w.fund(wallet, 100)
        faults = await hostile(w, w.bank.keyset())
        with pytest.raises(KeysetCollisionError):
            await wallet.restore([HOSTILE])
        assert "restore" not in faults.calls


@virtually
async def test_keys_under_a_false_id_are_left_out() -> None:
    """Keys of its own under the honest mint's id, or under a made-up one: the id does not come out, so they are not used."""
    async with world() as w:
        wallet = await w.wallet(words=WORDS)
        own = make_keyset("hostile")
        for false in (w.bank.keyset().id, "01" + "cd" * 32, "00" + "cd" * 7):
            await hostile(w, replace(own, id=false))
            view = await wallet.add_mint(HOSTILE)
            assert view.keysets == ()
            with pytest.raises(SpecieError):
                await wallet.mint_quote(5, mint=HOSTILE)
        assert [known.keyset.id for known in await wallet._context.keysets(MINT_URL)] == [w.bank.keyset().id]


@virtually
@pytest.mark.parametrize("terms", [{"input_fee_ppk": 5000}, {"final_expiry": 1_800_000_001}, {"unit": "usd"}])
async def test_a_known_keyset_keeps_its_terms(terms: dict[str, object]) -> None:
    """A mint that raises the fee, ends the life or changes the unit of a keyset in use is told off; its coins are kept."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        changed = replace(w.bank.keyset(), **terms)
        w.faults.change = lambda verb, answer: [changed.info] if verb == "keysets" else answer
        with pytest.raises(PeerFaultError):
            await wallet.add_mint(MINT_URL)
        w.faults.change = None
        (known,) = await wallet._context.keysets(MINT_URL)
        assert known.keyset.info == w.bank.keyset().info
        assert (await wallet.balance()).available == 100


@virtually
async def test_counters_belong_to_mint_and_keyset() -> None:
    """Two honest mints with keysets of their own: each counts from zero, and neither ever sees the other's outputs."""
    async with world() as w, house(seed="second", clock=w.clock) as second:
        await second.mint.rotate_keyset("sat", input_fee_ppk=1)
        other = DirectClient(second.mint, HOSTILE, Faults())

        def change(verb: str, answer: object) -> object:  # the second house has the same seed: show only its own keyset
            if verb == "keysets" and isinstance(answer, list):
                return [one for one in answer if isinstance(one, KeysetInfo) and one.active]
            return answer

        other.faults.change = change
        w.clients[HOSTILE] = other
        wallet = await w.wallet(words=WORDS)
        await wallet.add_mint(HOSTILE)
        await w.fund(wallet, 100)
        quote = await wallet.mint_quote(100, mint=HOSTILE)
        await second.pay(await second.mint.mint_quote(quote.quote, "bolt11"))
        await wallet.claim(quote)
        seen = [{body for _, body in faults.bodies} for faults in (w.faults, other.faults)]
        assert all(seen)
        secrets = [one.proof.secret for one in await wallet._proofs()]
        assert len(secrets) == len(set(secrets)) == 6
        assert await Purse(second).mint(1)
