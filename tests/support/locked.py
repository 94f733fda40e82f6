"""Locked coins at a real mint, for tests that try to spend them."""

from __future__ import annotations

from collections.abc import Sequence

from specie.ecash import Proof, SwapRequest
from specie.ecash.conditions import sig_all_digest, sig_inputs_digest, witness_text
from tests.support.coins import signature
from tests.support.house import Outputs, Purse

__all__ = ["lock", "sign_all", "sign_inputs", "spend", "witnessed"]

AMOUNT = 4


async def lock(purse: Purse, *secrets: str) -> list[Proof]:
    """One coin of 4 for each text of a secret."""
    coins = await purse.mint(AMOUNT * len(secrets))
    outputs = purse.outputs([AMOUNT] * len(secrets), secrets=secrets)
    return outputs.proofs(await purse.house.mint.swap(SwapRequest(tuple(coins), outputs.messages)))


def witnessed(coin: Proof, signatures: Sequence[bytes], preimage: bytes | None = None) -> Proof:
    """The coin with exactly these signatures."""
    from msgspec.structs import replace

    return replace(coin, witness=witness_text(signatures, preimage))


def sign_inputs(coin: Proof, *names: str, preimage: bytes | None = None) -> Proof:
    """The coin signed by the keys of these names, each over its own secret."""
    return witnessed(coin, [signature(sig_inputs_digest(coin), name) for name in names], preimage)


def sign_all(coins: Sequence[Proof], outputs: Outputs, *names: str, quote: str | None = None) -> list[Proof]:
    """The coins, the first signed over the whole request."""
    digest = sig_all_digest(coins, outputs.messages, quote)
    return [witnessed(coins[0], [signature(digest, name) for name in names]), *coins[1:]]


async def spend(purse: Purse, coins: Sequence[Proof], outputs: Outputs | None = None) -> list[Proof]:
    """Swap them for ordinary coins; raises what the mint refuses with."""
    outputs = outputs or purse.outputs([coin.amount for coin in coins])
    return outputs.proofs(await purse.house.mint.swap(SwapRequest(tuple(coins), outputs.messages)))
