"""Locked coins at the mint (NUT-11, NUT-14): swap and melt ask for what the lock says, and a refusal changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from specie.ecash import MeltQuote, MeltRequest, MeltState, MintQuoteRequest, Proof, SwapRequest
from specie.ecash import codes as refused
from specie.ecash.conditions import SigFlag, p2pk_secret, sig_all_digest, sig_inputs_digest, witness_text
from specie.kernel import RefusedError, curve
from tests.support.coins import public_key, secret_key, signature
from tests.support.house import House, Outputs, Purse

ALICE, BOB, CAROL = (public_key(name).hex() for name in ("alice", "bob", "carol"))


async def locked(purse: Purse, amounts: Sequence[int], **terms: object) -> list[Proof]:
    """Coins locked to alice, with whatever else is asked for."""
    secrets = [p2pk_secret(ALICE, nonce=bytes([n + 1]) * 32, **terms) for n in range(len(amounts))]  # type: ignore[arg-type]
    outputs = purse.outputs(amounts, secrets=secrets)
    coins = await purse.mint(sum(amounts))
    return outputs.proofs(await purse.house.mint.swap(SwapRequest(tuple(coins), outputs.messages)))


def with_witness(coins: Sequence[Proof], *signatures: bytes) -> tuple[Proof, ...]:
    """The first coin with signatures, the others bare."""
    return (msgspec.structs.replace(coins[0], witness=witness_text(signatures)), *coins[1:])


async def own_invoice(purse: Purse, amount: int) -> MeltQuote:
    """A melt quote for an invoice of the mint itself, and so without a reserve."""
    asked = await purse.house.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", amount))
    return await purse.melt_quote(asked.request)


async def all_unspent(bank: House, coins: Sequence[Proof]) -> bool:
    return {state.state.value for state in await bank.mint.check_state([coin.y for coin in coins])} == {"UNSPENT"}


async def test_sig_all_of_a_melt_covers_its_quote_and_blank_outputs(bank: House, purse: Purse) -> None:
    """The very request that was signed is taken: no other quote, other blank outputs, none, another order, or a swap."""
    coins = await locked(purse, [4, 8], sigflag=SigFlag.SIG_ALL)
    quote, other = await own_invoice(purse, 9), await own_invoice(purse, 9)
    blanks, others = purse.outputs([1, 1]), purse.outputs([4, 8])
    signed = with_witness(coins, signature(sig_all_digest(coins, blanks.messages, quote.quote), "alice"))
    wrong: list[MeltRequest | SwapRequest] = [
        MeltRequest("bolt11", other.quote, signed, blanks.messages),
        MeltRequest("bolt11", quote.quote, signed, blanks.messages[::-1]),
        MeltRequest("bolt11", quote.quote, signed, blanks.messages[:1]),
        MeltRequest("bolt11", quote.quote, signed, ()),
        MeltRequest("bolt11", quote.quote, signed, tuple(msgspec.structs.replace(b, amount=2) for b in blanks.messages)),
        MeltRequest("bolt11", quote.quote, signed[::-1], blanks.messages),
        SwapRequest(signed, others.messages),
        SwapRequest(with_witness(coins, signature(sig_inputs_digest(coins[0]), "alice")), others.messages),
    ]
    for request in wrong:
        with pytest.raises(refused.ConditionUnmetError):
            await (bank.mint.swap(request) if isinstance(request, SwapRequest) else bank.mint.melt(request))
        assert await all_unspent(bank, coins)
    assert (await bank.mint.melt(MeltRequest("bolt11", quote.quote, signed, blanks.messages))).state is MeltState.PAID


async def test_sig_all_of_a_swap_covers_its_outputs(bank: House, purse: Purse) -> None:
    """Outputs changed, added to or put in another order after signing are refused, and so is another coin among the inputs."""
    coins = await locked(purse, [4, 8], sigflag=SigFlag.SIG_ALL)
    plain = await purse.mint(4)
    outputs, thief = purse.outputs([4, 8]), purse.outputs([4, 8])
    sign = signature(sig_all_digest(coins, outputs.messages), "alice")
    signed = with_witness(coins, sign)
    more = purse.outputs([4, 4, 8])
    mixed = (*coins, *plain)
    both = signature(sig_all_digest(mixed, more.messages), "alice")
    for request in (
        SwapRequest(signed, thief.messages),
        SwapRequest(signed, outputs.messages[::-1]),
        SwapRequest(signed[::-1], outputs.messages),
        SwapRequest(with_witness(mixed, both), more.messages),
        SwapRequest((*plain, *with_witness(coins, both)), more.messages),
    ):
        with pytest.raises(refused.ConditionUnmetError):
            await bank.mint.swap(SwapRequest(tuple(request.inputs), request.outputs))
    assert await all_unspent(bank, [*coins, *plain])
    assert len(await bank.mint.swap(SwapRequest(signed, outputs.messages))) == 2


async def test_distinct_keys_are_counted(bank: House, purse: Purse) -> None:
    """Two of three, twice signed by one of them, with other randomness or in capital letters: not enough."""
    (coin,) = await locked(purse, [4], pubkeys=[BOB, CAROL], n_sigs=2)
    digest = sig_inputs_digest(coin)
    once, again = signature(digest, "alice"), signature(digest, "alice", aux=b"\x01" * 32)
    assert once != again

    async def spend(witness: str) -> None:
        outputs: Outputs = purse.outputs([4])
        await bank.mint.swap(SwapRequest((msgspec.structs.replace(coin, witness=witness),), outputs.messages))

    shouted = f'{{"signatures":["{once.hex()}","{once.hex().upper()}"]}}'
    for witness in (witness_text([once, again]), witness_text([once, once]), shouted, witness_text([once])):
        with pytest.raises(refused.ConditionUnmetError):
            await spend(witness)
    await spend(f'{{"signatures":["{signature(digest, "carol").hex().upper()}","{again.hex()}"]}}')


async def test_the_second_of_the_locktime(bank: House, purse: Purse) -> None:
    """At the locktime the coin is still locked, one second later two refund keys take it; one of them is not enough."""
    until = bank.clock.now() + 10
    coins = await locked(purse, [4, 4], locktime=until, refund=[BOB, CAROL, ALICE], n_sigs_refund=2)

    async def spend(coin: Proof, *names: str) -> None:
        signatures = [signature(sig_inputs_digest(coin), name) for name in names]
        await bank.mint.swap(SwapRequest(with_witness([coin], *signatures), purse.outputs([4]).messages))

    bank.clock.skip(10)
    assert bank.clock.now() == until
    with pytest.raises(RefusedError):
        await spend(coins[0], "carol", "bob")
    bank.clock.skip(1)
    with pytest.raises(RefusedError):
        await spend(coins[0], "carol")
    await spend(coins[0], "carol", "bob")
    await spend(coins[1], "alice")  # the main way stays open, and is not mixed with the other


async def test_the_mint_tells_the_witness_of_a_locked_coin_alone(bank: House, purse: Purse) -> None:
    """State checks answer what spent a locked coin, for the other side of a swap; what stands on an ordinary one is dropped."""
    (coin,) = await locked(purse, [4])
    (plain,) = await purse.mint(4)
    witness = witness_text([curve.schnorr_sign(sig_inputs_digest(coin), secret_key("alice"), bytes(32))])
    inputs = [msgspec.structs.replace(one, witness=witness) for one in (coin, plain)]
    await bank.mint.swap(SwapRequest(tuple(inputs), purse.outputs([8]).messages))
    states = await bank.mint.check_state([coin.y, plain.y])
    assert [state.witness for state in states] == [witness, None]
