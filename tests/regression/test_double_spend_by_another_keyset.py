"""The mistake: the spent set is kept by keyset (or amount, or unit), so one secret is spent once in each.

Y depends on the secret alone. One secret signed by two keysets is one coin: the second is worth nothing, and a wallet that
made it lost its value; a mint that takes it has a spent set with holes.
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from specie.ecash import MeltRequest, Proof, SwapRequest
from specie.ecash import codes as refused
from specie.mint import MintSettings
from tests.support.house import House, Purse, house
from tests.support.orders import foreign_invoice

SECRET = "one secret, two coins"


async def coin(purse: Purse, amount: int, unit: str = "sat") -> Proof:
    """A good coin with SECRET in the active keyset of a unit."""
    keyset = purse.house.keyset(unit)
    outputs = purse.outputs([amount], keyset, [SECRET])
    return outputs.proofs(await purse.house.mint.swap(SwapRequest(tuple(await purse.mint(amount, unit)), outputs.messages)))[0]


async def test_one_secret_in_two_keysets_is_spent_once(bank: House, purse: Purse) -> None:
    """After a rotation, and at another amount: once one of them is spent all are (11001), by swap and by melt."""
    old = await coin(purse, 4)
    await bank.mint.rotate_keyset("sat")
    new, large = await coin(purse, 4), await coin(purse, 64)
    assert len({old.id, new.id}) == 2
    assert old.y == new.y == large.y
    await purse.swap([old], [4])
    for twin in (new, large):
        with pytest.raises(refused.ProofsSpentError):
            await purse.swap([twin], [twin.amount])
    quote = await purse.melt_quote(await foreign_invoice(bank))
    with pytest.raises(refused.ProofsSpentError):
        await bank.mint.melt(MeltRequest("bolt11", quote.quote, (large,)))
    await bank.mint.audit()


async def test_twins_in_one_request_are_a_repeat(bank: House, purse: Purse) -> None:
    """11007 for two coins of one secret side by side, though ids, amounts and Cs differ."""
    old = await coin(purse, 4)
    await bank.mint.rotate_keyset("sat")
    with pytest.raises(refused.DuplicateInputsError):
        await purse.swap([old, await coin(purse, 2)], [4, 2])


async def test_units_share_one_spent_set() -> None:
    """A coin of msat and one of sat with one secret: the second is spent."""
    async with house(settings=MintSettings(units=("sat", "msat"))) as bank:
        purse = Purse(bank)
        sat, msat = await coin(purse, 4), await coin(purse, 4, "msat")
        await purse.swap([sat], [4])
        with pytest.raises(refused.ProofsSpentError):
            await bank.mint.swap(SwapRequest((msat,), purse.outputs([4], bank.keyset("msat")).messages))
        await bank.mint.audit()


async def test_a_coin_is_no_coin_of_another_keyset(bank: House, purse: Purse) -> None:
    """A coin relabelled with another keyset's id, for its lower fee or to be spent again, does not verify."""
    (old,) = await purse.mint(4)
    fresh = await bank.mint.rotate_keyset("sat")
    with pytest.raises(refused.ProofInvalidError):
        await purse.swap([replace(old, id=fresh.id)], [4])
    assert await purse.swap([old], [4])
