"""Outputs of a request: secrets from the seed (NUT-13) or locked ones (NUT-10), and the coins that signatures make of them.

The counter is advanced and committed before any secret is derived: a crash skips numbers and never uses one twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from specie.ecash.blank import PLACEHOLDER_AMOUNT
from specie.ecash.keyset import Keyset
from specie.ecash.proof import BlindedMessage, BlindSignature
from specie.ecash.transaction import blinded_message, unblind_signature
from specie.kernel import curve
from specie.kernel.errors import MalformedError, PeerFaultError, RefusedError
from specie.wallet.engine.context import Context
from specie.wallet.engine.locks import LockedSecret
from specie.wallet.holding import KnownKeyset, StoredProof
from specie.wallet.operation import Operation, Output, Role
from specie.wallet.selection import keep_amounts
from specie.wallet.states import CoinState

__all__ = ["coins_from", "derived_outputs", "kept_amounts", "locked_outputs", "pieces_held", "probe_outputs"]


async def derived_outputs(ctx: Context, mint: str, keyset: Keyset, amounts: Sequence[int], role: Role) -> list[Output]:
    """Outputs whose secrets and blinding factors the seed can give again; their counters are committed here."""
    if not amounts:
        return []
    first = await ctx.storage.transact(lambda tx: ctx.store.take_counters(tx, mint, keyset.id, len(amounts)))
    derived = await ctx.signer.derive_secrets(keyset.id, range(first, first + len(amounts)))
    return [
        Output(
            role, amount, keyset.id, one.secret, one.r, blinded_message(amount, keyset.id, one.secret, one.r).B_, one.counter
        )
        for amount, one in zip(amounts, derived, strict=True)
    ]


async def probe_outputs(ctx: Context, keyset_id: str, first: int, count: int) -> list[Output]:
    """Outputs of `count` counters from `first`, to ask the mint about (NUT-09); amounts are placeholders, no counter moves."""
    derived = await ctx.signer.derive_secrets(keyset_id, range(first, first + count))
    return [
        Output(
            Role.KEEP,
            PLACEHOLDER_AMOUNT,
            keyset_id,
            one.secret,
            one.r,
            blinded_message(PLACEHOLDER_AMOUNT, keyset_id, one.secret, one.r).B_,
            one.counter,
        )
        for one in derived
    ]


def locked_outputs(ctx: Context, keyset: Keyset, amounts: Sequence[int], secrets: Sequence[LockedSecret]) -> list[Output]:
    """Outputs with these locked secrets and FRESH blinding factors; no seed can restore them."""
    outputs: list[Output] = []
    for amount, secret in zip(amounts, secrets, strict=True):
        r = curve.scalar_from_bytes_wrapping(ctx.entropy.bytes(32))
        b_ = blinded_message(amount, keyset.id, secret.text, r).B_
        outputs.append(Output(Role.SEND, amount, keyset.id, secret.text, r, b_, None, secret.p2pk_e))
    return outputs


def pieces_held(proofs: Sequence[StoredProof], keyset: Keyset) -> Counter[int]:
    """How many free coins of each denomination there are of a keyset."""
    return Counter(
        p.proof.amount for p in proofs if p.proof.id == keyset.id and p.state is CoinState.UNSPENT and not p.unswapped
    )


async def kept_amounts(ctx: Context, mint: str, keyset: Keyset, amount: int) -> list[int]:
    """Coins to make of `amount` that stays in the wallet, small change filled up first."""
    if amount <= 0:
        return []
    proofs = await ctx.storage.read(lambda tx: ctx.store.proofs(tx, mint=mint, unit=keyset.unit, states=(CoinState.UNSPENT,)))
    return keep_amounts(amount, sorted(keyset.keys), pieces_held(proofs, keyset), target=ctx.settings.change_pieces)


def coins_from(
    operation: Operation,
    pairs: Sequence[tuple[Output, BlindSignature]],
    keysets: Sequence[KnownKeyset],
    *,
    require_dleq: bool,
    restored: bool = False,
) -> list[tuple[Output, StoredProof]]:
    """Unblind signatures into coins, checking every amount, id and DLEQ on the way; PeerFaultError if one is wrong.

    The amount is the mint's to say for blank outputs and for `restored` signatures (NUT-08, NUT-09); the caller compares.
    """
    known: Mapping[str, Keyset] = {entry.keyset.id: entry.keyset for entry in keysets if entry.mint == operation.mint}
    coins: list[tuple[Output, StoredProof]] = []
    for output, signature in pairs:
        keyset = known.get(signature.id)
        key = None if keyset is None else keyset.keys.get(signature.amount)
        if keyset is None or key is None:
            raise PeerFaultError("the mint signed with a keyset or amount that it never announced", peer=operation.mint)
        try:
            proof = unblind_signature(
                BlindedMessage(output.amount, output.keyset_id, output.b_),
                signature,
                secret=output.secret,
                r=output.r,
                key=key,
                blank=restored or output.role is Role.CHANGE,
                require_dleq=require_dleq,
            )
        except (RefusedError, MalformedError) as error:
            raise PeerFaultError(f"the mint's signature is wrong: {error.detail}", peer=operation.mint) from error
        if output.p2pk_e is not None:
            proof = msgspec.structs.replace(proof, p2pk_e=output.p2pk_e)
        coins.append((output, StoredProof(proof, proof.y, operation.mint, keyset.unit, CoinState.UNSPENT)))
    if len({stored.y for _, stored in coins}) != len(coins):
        raise PeerFaultError("two coins would share a secret", peer=operation.mint)
    return coins
