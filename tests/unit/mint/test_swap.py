"""Swap (NUT-03) at the mint: what it gives, what it refuses and with which code, and that a refusal changes nothing."""

from __future__ import annotations

import asyncio
import dataclasses

import msgspec
import pytest

from specie.ecash import SwapRequest
from specie.ecash import codes as refused
from specie.kernel import MalformedError, curve
from specie.mint import MintSettings
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.house import House, Purse, house


async def books_hold(bank: House, outstanding: int) -> None:
    books = await bank.mint.audit()
    assert sum(books.outstanding(keyset, "sat") for keyset in books.keysets("sat")) == outstanding


async def test_gives_coins_of_the_amounts_asked_for(bank: House, purse: Purse) -> None:
    """Value is conserved, new coins verify (DLEQ in the purse), and the books show both sides."""
    coins = await purse.mint(100)
    fresh = await purse.swap(coins, [32, 64, 4])
    assert [coin.amount for coin in fresh] == [32, 64, 4]
    assert sum(coin.amount for coin in await purse.swap(fresh, [4, 32, 64])) == 100
    await books_hold(bank, 100)


async def test_refuses_a_second_spend(bank: House, purse: Purse) -> None:
    """A spent coin is refused with 11001 whatever else is in the request."""
    coins = await purse.mint(8)
    await purse.swap(coins, [8])
    with pytest.raises(refused.ProofsSpentError):
        await purse.swap(coins, [4, 4])
    await books_hold(bank, 8)


async def test_same_request_again_gets_the_same_answer(bank: House, purse: Purse) -> None:
    """A lost answer is asked for again: same signatures, no second effect, even after the keyset was rotated."""
    coins = await purse.mint(8)
    outputs = purse.outputs([4, 4])
    request = SwapRequest(tuple(coins), outputs.messages)
    first = await bank.mint.swap(request)
    await bank.mint.rotate_keyset("sat")
    assert await bank.mint.swap(request) == first
    await books_hold(bank, 8)


async def test_replay_answers_only_the_very_same_request(bank: House, purse: Purse) -> None:
    """Another witness, order or output is another operation: it is refused, not answered from the store."""
    coins = await purse.mint(6)
    outputs = purse.outputs([2, 4])
    await bank.mint.swap(SwapRequest(tuple(coins), outputs.messages))
    for request in (
        SwapRequest(tuple(reversed(coins)), outputs.messages),
        SwapRequest(tuple(coins), tuple(reversed(outputs.messages))),
        SwapRequest((msgspec.structs.replace(coins[0], witness="{}"), *coins[1:]), outputs.messages),
    ):
        with pytest.raises(refused.ProofsSpentError):
            await bank.mint.swap(request)


async def test_concurrent_spends_of_one_coin_have_one_winner(tmp_path: object) -> None:
    """On a threaded store, of fifty swaps of one coin at once exactly one succeeds, and equal requests share its answer."""
    async with house(storage=SqliteStorage(f"{tmp_path}/bank.sqlite")) as bank:
        purse = Purse(bank)
        coins = await purse.mint(8)
        requests = [SwapRequest(tuple(coins), purse.outputs([8]).messages) for _ in range(25)] * 2
        results = await asyncio.gather(*(bank.mint.swap(request) for request in requests), return_exceptions=True)
        won = [result for result in results if not isinstance(result, BaseException)]
        assert len(won) == 2
        assert won[0] == won[1]
        assert all(isinstance(r, refused.ProofsSpentError) for r in results if isinstance(r, BaseException))
        await books_hold(bank, 8)
        await bank.storage.close()


async def test_refuses_repeats_inside_a_request(purse: Purse) -> None:
    """11007 for an input twice, 11008 for an output twice."""
    coins = await purse.mint(4)
    with pytest.raises(refused.DuplicateInputsError):
        await purse.swap([*coins, *coins], [8])
    outputs = purse.outputs([2, 2])
    with pytest.raises(refused.DuplicateOutputsError):
        await purse.house.mint.swap(SwapRequest(tuple(coins), (outputs.messages[0], outputs.messages[0])))


async def test_refuses_outputs_signed_before(purse: Purse) -> None:
    """11003, and the inputs stay spendable: claim and signatures are one transaction."""
    first, second = await purse.mint(4), await purse.mint(4)
    outputs = purse.outputs([4])
    await purse.house.mint.swap(SwapRequest(tuple(first), outputs.messages))
    with pytest.raises(refused.OutputsSignedError):
        await purse.house.mint.swap(SwapRequest(tuple(second), outputs.messages))
    assert len(await purse.swap(second, [2, 2])) == 2


@pytest.mark.parametrize("amounts", [[4, 4], [16], [2]])
async def test_refuses_an_unbalanced_swap(purse: Purse, amounts: list[int]) -> None:
    """11005 for more and for less than was put in."""
    coins = await purse.mint(4)
    with pytest.raises(refused.UnbalancedError):
        await purse.swap(coins, amounts)


async def test_refuses_forged_and_altered_coins(purse: Purse) -> None:
    """10001 for a C the mint never made, for another secret, and for a coin raised to a higher amount."""
    coin = (await purse.mint(4))[0]
    for forged in (
        msgspec.structs.replace(coin, C=curve.public_key(b"\x07" * 32)),
        msgspec.structs.replace(coin, secret="another"),
    ):
        with pytest.raises(refused.ProofInvalidError):
            await purse.swap([forged], [4])
    with pytest.raises(refused.ProofInvalidError):
        await purse.swap([msgspec.structs.replace(coin, amount=8)], [8])


async def test_refuses_unknown_inactive_and_foreign_keysets(bank: House, purse: Purse) -> None:
    """12001 for a keyset nobody has, 12002 to sign with an old one, whose coins are still taken."""
    coins = await purse.mint(4)
    old = bank.keyset()
    with pytest.raises(refused.KeysetUnknownError):
        await purse.swap([msgspec.structs.replace(coins[0], id="00" * 8)], [4])
    await bank.mint.rotate_keyset("sat", input_fee_ppk=1)
    outputs = purse.outputs([4], keyset=old)
    with pytest.raises(refused.KeysetInactiveError):
        await bank.mint.swap(SwapRequest(tuple(coins), outputs.messages))
    assert len(await purse.swap(coins, [4])) == 1


async def test_final_expiry_closes_a_keyset(bank: House, purse: Purse) -> None:
    """12003 after the expiry, for inputs and outputs alike; until then its coins are taken."""
    keyset = await bank.mint.rotate_keyset("sat", final_expiry=bank.clock.now() + 100)
    coins = await purse.mint(4)
    coins = await purse.swap(coins, [2, 2])
    bank.clock.skip(101)
    assert not next(k for k in bank.mint.keysets() if k.id == keyset.id).active
    with pytest.raises(refused.KeysetExpiredError):
        await bank.mint.swap(SwapRequest(tuple(coins), purse.outputs([4], keyset=keyset).messages))
    await bank.mint.rotate_keyset("sat")
    with pytest.raises(refused.KeysetExpiredError):
        await purse.swap(coins, [4])


async def test_takes_the_input_fee_once_for_all_inputs() -> None:
    """NUT-02: the fee is rounded up over the whole transaction, and is income in the books."""
    async with house(settings=MintSettings(input_fee_ppk=400)) as bank:
        purse = Purse(bank)
        coins = await purse.mint(7)
        assert len(coins) == 3
        with pytest.raises(refused.UnbalancedError):
            await purse.swap(coins, [4, 2, 1])
        fresh = await purse.swap(coins, [4, 1])
        assert sum(coin.amount for coin in fresh) == 5
        books = await bank.mint.audit()
        assert books.total("income", "sat") == 2
        assert books.outstanding(bank.keyset().id, "sat") == 5


async def test_units_do_not_mix() -> None:
    """11009 for two units on one side, 11010 for one on each side."""
    async with house(settings=MintSettings(units=("sat", "msat"))) as bank:
        purse = Purse(bank)
        sats, msats = await purse.mint(4), await purse.mint(4, "msat")
        msat_keyset = bank.keyset("msat")
        with pytest.raises(refused.MixedUnitsError):
            await purse.swap([*sats, *msats], [8])
        mixed = (*purse.outputs([2]).messages, *purse.outputs([2], msat_keyset).messages)
        with pytest.raises(refused.MixedUnitsError):
            await bank.mint.swap(SwapRequest(tuple(sats), mixed))
        with pytest.raises(refused.UnitMismatchError):
            await bank.mint.swap(SwapRequest(tuple(sats), purse.outputs([4], msat_keyset).messages))


async def test_bounds_the_number_of_inputs_and_outputs() -> None:
    """11014 and 11015 above the announced array length; nothing at all is malformed."""
    limits = dataclasses.replace(MintSettings().limits, array_length=2)
    async with house(settings=MintSettings(limits=limits)) as bank:
        purse = Purse(bank)
        coins = [*await purse.mint(1), *await purse.mint(1), *await purse.mint(1)]
        with pytest.raises(refused.TooManyInputsError):
            await purse.swap(coins, [1, 2])
        with pytest.raises(refused.TooManyOutputsError):
            await purse.swap(coins[:2], [1, 1, 1])
        for request in (SwapRequest((), purse.outputs([1]).messages), SwapRequest(tuple(coins[:1]), ())):
            with pytest.raises(MalformedError):
                await bank.mint.swap(request)
        with pytest.raises(refused.TooManyInputsError):
            await bank.mint.check_state([b"\x02" * 33] * 3)
        with pytest.raises(refused.TooManyOutputsError):
            await bank.mint.restore([*purse.outputs([1, 1, 1]).messages])
        assert bank.mint.info().max_array_length == 2


async def test_amounts_must_be_those_of_the_keyset(purse: Purse) -> None:
    """11006 for an input or output of an amount that has no key."""
    coin = (await purse.mint(4))[0]
    with pytest.raises(refused.AmountOutOfRangeError):
        await purse.swap([msgspec.structs.replace(coin, amount=3)], [2, 1])
    outputs = purse.outputs([4])
    odd = msgspec.structs.replace(outputs.messages[0], amount=3)
    with pytest.raises(refused.AmountOutOfRangeError):
        await purse.house.mint.swap(SwapRequest((coin,), (odd,)))


async def test_state_and_restore_follow_a_swap(bank: House, purse: Purse) -> None:
    """NUT-07 answers each position, also repeated and unknown ones; NUT-09 gives back what was signed, with DLEQ."""
    coins = await purse.mint(4)
    y = coins[0].y
    assert [state.state for state in await bank.mint.check_state([y, y])] == ["UNSPENT", "UNSPENT"]
    outputs = purse.outputs([2, 2])
    signatures = await bank.mint.swap(SwapRequest(tuple(coins), outputs.messages))
    assert (await bank.mint.check_state([y]))[0].state == "SPENT"
    unknown = purse.outputs([1])
    asked = [unknown.messages[0], msgspec.structs.replace(outputs.messages[1], amount=0), outputs.messages[0]]
    found = await bank.mint.restore(asked)
    assert [message.B_ for message, _ in found] == [outputs.messages[1].B_, outputs.messages[0].B_]
    assert [signature for _, signature in found] == [signatures[1], signatures[0]]


async def test_amounts_near_2_64_are_exact(bank: House, purse: Purse) -> None:
    """Sixty-four coins up to 2^63 are swapped, stored and booked without losing a unit; one more overflows and is refused."""
    keyset = bank.keyset()
    ref = bank.mint._context.catalogue.get(keyset.id).ref
    outputs = purse.outputs(sorted(keyset.keys))

    async def forge(messages: object) -> list[object]:
        from specie.mint.engine import checks

        return list(await checks.blind_sign(bank.mint._context, messages))  # type: ignore[arg-type]

    coins = outputs.proofs(await forge(outputs.messages))  # type: ignore[arg-type]
    assert ref.unit == "sat"
    assert sum(coin.amount for coin in coins) == 2**64 - 1
    fresh = await purse.swap(coins, sorted(keyset.keys))
    books = await bank.mint.books()
    assert books.issued(keyset.id, "sat") == 2**64 - 1
    assert sum(coin.amount for coin in fresh) == 2**64 - 1
    extra = purse.outputs([1])
    more = extra.proofs(await forge(extra.messages))  # type: ignore[arg-type]
    with pytest.raises(refused.AmountOutOfRangeError):
        await purse.swap([*fresh, *more], [1])
