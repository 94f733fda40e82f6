"""Tokens out of and into this wallet: text of coins, and a text's coins with their keysets resolved and DLEQ checked."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from specie.ecash.codes import KeysetUnknownError
from specie.ecash.dleq import verify_proof_dleq
from specie.ecash.proof import Proof
from specie.ecash.token import Token, TokenDraft, encode_token, resolve_token
from specie.kernel.errors import MalformedError
from specie.wallet.engine.context import Context
from specie.wallet.engine.mints import refresh
from specie.wallet.errors import DleqMissingError
from specie.wallet.holding import KnownKeyset

__all__ = ["check_dleq", "resolved", "token_text"]


def token_text(mint: str, unit: str, proofs: Sequence[Proof], memo: str | None, *, include_dleq: bool) -> str:
    """Token V4 of coins (NUT-00), the smallest first; without `include_dleq` receivers cannot check it off-line."""
    ordered = sorted(proofs, key=lambda proof: (proof.amount, proof.secret))
    if not include_dleq:
        ordered = [msgspec.structs.replace(proof, dleq=None) for proof in ordered]
    return encode_token(Token(mint, unit, tuple(ordered), memo))


async def resolved(ctx: Context, draft: TokenDraft, *, offline: bool = False) -> Token:
    """The token with full keyset ids, by the keysets of its mint; asks the mint once for ids we do not know.

    KeysetUnknownError where the mint (or, off-line, the wallet) has no such keyset.
    """
    try:
        return resolve_token(draft, [known.keyset for known in await ctx.keysets(draft.mint)])
    except KeysetUnknownError:
        if offline:
            raise
        await refresh(ctx, draft.mint)
        return resolve_token(draft, [known.keyset for known in await ctx.keysets(draft.mint)])


def check_dleq(proofs: Sequence[Proof], keysets: Sequence[KnownKeyset], *, required: bool) -> None:
    """Verify the DLEQ of every coin that has one, against keys already known for its mint (NUT-12).

    ProofInvalidError where one is wrong; DleqMissingError where one is missing and `required`; MalformedError for an
    amount without a key.
    """
    keys = {known.keyset.id: known.keyset.keys for known in keysets}
    for proof in proofs:
        key = keys[proof.id].get(proof.amount)
        if key is None:
            raise MalformedError("the mint has no key for the amount of a coin")
        if proof.dleq is not None:
            verify_proof_dleq(proof, key)
        elif required:
            raise DleqMissingError("a coin carries no DLEQ proof, so it cannot be checked off-line")
