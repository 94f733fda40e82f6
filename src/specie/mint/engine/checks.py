"""What must hold of a transaction's inputs and outputs, checked before anything is written (NUT-03).

Order: shape and keysets, balance, whether the mint signed the inputs, then spending conditions: a stranger can write any
number of signatures into a coin that does not exist, and each costs as much to check as a coin. Whether an input is
already spent is not looked at here: the unique insert decides that, and only it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from specie.ecash import (
    BlindedMessage,
    BlindSignature,
    Dleq,
    Proof,
    fee_for,
)
from specie.ecash.codes import (
    AmountOutOfRangeError,
    DuplicateInputsError,
    DuplicateOutputsError,
    MixedUnitsError,
    ProofInvalidError,
    TooManyInputsError,
    TooManyOutputsError,
    UnitMismatchError,
)
from specie.ecash.conditions import parse_secret
from specie.kernel import MAX_AMOUNT, MalformedError
from specie.keys import BlindSigned, ProofToVerify, ToBlindSign
from specie.ledger import Posting
from specie.mint.engine.catalogue import Catalogue, Entry
from specie.mint.engine.context import Context
from specie.mint.ports import Claim

__all__ = [
    "Inputs",
    "blind_sign",
    "by_keyset",
    "check_inputs",
    "check_outputs",
    "check_same_unit",
    "exchange",
    "issued",
    "operation_hash",
    "verify_proofs",
]


@dataclass(frozen=True, slots=True)
class Inputs:
    """Checked inputs: `fee` is what spending them costs, `amount` their sum."""

    proofs: tuple[Proof, ...]
    entries: tuple[Entry, ...]
    unit: str
    amount: int
    fee: int

    def claims(self, ys: Sequence[bytes]) -> list[Claim]:
        """Rows for the spent set; a witness is kept only where the secret asked for one (NUT-07)."""
        return [
            Claim(y, proof.id, proof.amount, proof.witness if proof.witness and parse_secret(proof.secret) else None)
            for y, proof in zip(ys, self.proofs, strict=True)
        ]

    def questions(self) -> list[ProofToVerify]:
        """What to ask the signer."""
        return [
            ProofToVerify(entry.ref, proof.amount, proof.secret.encode(), proof.C)
            for proof, entry in zip(self.proofs, self.entries, strict=True)
        ]


def by_keyset(coins: Sequence[Proof] | Sequence[BlindedMessage] | Sequence[BlindSignature]) -> dict[str, int]:
    """Sum of amounts for each keyset id."""
    sums: dict[str, int] = {}
    for coin in coins:
        sums[coin.id] = sums.get(coin.id, 0) + coin.amount
    return sums


def check_inputs(inputs: Sequence[Proof], catalogue: Catalogue, now: int, limit: int) -> Inputs:
    """Shape, keysets, units and repeats of inputs; their amounts must be amounts of their keysets."""
    if not inputs:
        raise MalformedError("no inputs")
    if len(inputs) > limit:
        raise TooManyInputsError
    found = {keyset: catalogue.spendable(keyset, now) for keyset in dict.fromkeys([proof.id for proof in inputs])}
    entries = tuple([found[proof.id] for proof in inputs])
    unit = entries[0].keyset.unit
    if any(entry.keyset.unit != unit for entry in found.values()):
        raise MixedUnitsError
    for proof in inputs:
        if proof.amount not in found[proof.id].keyset.keys:
            raise AmountOutOfRangeError("an input's amount is no amount of its keyset")
    if len({proof.secret for proof in inputs}) != len(inputs):  # as many secrets as Ys
        raise DuplicateInputsError
    amount = sum([proof.amount for proof in inputs])
    if amount > MAX_AMOUNT:
        raise AmountOutOfRangeError("the inputs sum to more than 2^64-1")
    fee = fee_for(entry.keyset.input_fee_ppk for entry in entries)
    return Inputs(tuple(inputs), entries, unit, amount, fee)


def check_outputs(
    outputs: Sequence[BlindedMessage], catalogue: Catalogue, now: int, limit: int, *, blank: bool = False
) -> tuple[str, int]:
    """Shape, keysets, unit and repeats of outputs; their unit and sum. Amounts of `blank` ones mean nothing (NUT-08)."""
    if not outputs:
        raise MalformedError("no outputs")
    if len(outputs) > limit:
        raise TooManyOutputsError
    keysets = {keyset: catalogue.signable(keyset, now).keyset for keyset in dict.fromkeys([output.id for output in outputs])}
    unit = keysets[outputs[0].id].unit
    if any(keyset.unit != unit for keyset in keysets.values()):
        raise MixedUnitsError
    if not blank and any(output.amount not in keysets[output.id].keys for output in outputs):
        raise AmountOutOfRangeError("an output's amount is no amount of its keyset")
    if len({output.B_ for output in outputs}) != len(outputs):
        raise DuplicateOutputsError
    amount = 0 if blank else sum([output.amount for output in outputs])
    if amount > MAX_AMOUNT:
        raise AmountOutOfRangeError("the outputs sum to more than 2^64-1")
    return unit, amount


def check_same_unit(inputs: Inputs, unit: str) -> None:
    """UnitMismatchError unless both sides are of one unit."""
    if inputs.unit != unit:
        raise UnitMismatchError


def issued(unit: str, coins: Sequence[BlindedMessage] | Sequence[BlindSignature]) -> list[Posting]:
    """The ledger's lines for coins that are signed."""
    return [Posting(f"liability:keyset/{keyset}/issued", unit, -amount) for keyset, amount in by_keyset(coins).items()]


async def verify_proofs(context: Context, inputs: Inputs) -> list[bytes]:
    """The inputs' Ys; ProofInvalidError unless the mint signed every one of them."""
    return _all_held(await context.signer.verify_proofs(inputs.questions()))


async def blind_sign(context: Context, outputs: Sequence[BlindedMessage]) -> list[BlindSignature]:
    """Signatures on outputs, in order. They must not leave before the transaction that pays for them is durable."""
    return _signatures(outputs, await context.signer.blind_sign(_messages(context, outputs)))


async def exchange(
    context: Context, inputs: Inputs, outputs: Sequence[BlindedMessage]
) -> tuple[list[bytes], list[BlindSignature]]:
    """Both in one go: the inputs' Ys and the signatures. ProofInvalidError, and nothing signed, as `verify_proofs`."""
    ys, signed = await context.signer.exchange(inputs.questions(), _messages(context, outputs))
    return _all_held(ys), _signatures(outputs, signed)


def _all_held(ys: Sequence[bytes | None]) -> list[bytes]:
    held = [y for y in ys if y is not None]
    if len(held) != len(ys):
        raise ProofInvalidError
    return held


def _messages(context: Context, outputs: Sequence[BlindedMessage]) -> list[ToBlindSign]:
    return [ToBlindSign(context.catalogue.get(output.id).ref, output.amount, output.B_) for output in outputs]


def _signatures(outputs: Sequence[BlindedMessage], signed: Sequence[BlindSigned]) -> list[BlindSignature]:
    return [
        BlindSignature(
            amount=output.amount,
            id=output.id,
            C_=result.c_,
            dleq=None if result.dleq_e is None or result.dleq_s is None else Dleq(e=result.dleq_e, s=result.dleq_s),
        )
        for output, result in zip(outputs, signed, strict=True)
    ]


def operation_hash(kind: str, quote: str, inputs: Sequence[Proof], outputs: Sequence[BlindedMessage]) -> bytes:
    """SHA-256 that names a request by everything it commits to: equal requests are one operation, any other is another.

    Every field is framed by its length, so no two different requests give the same bytes.
    """
    pieces = [_framed(data) for data in (b"specie operation v1", kind.encode(), quote.encode(), len(inputs).to_bytes(4, "big"))]
    for proof in inputs:
        pieces += (_framed_amount(proof.amount), _framed_id(proof.id), _framed(proof.secret.encode()), _framed(proof.C))
        pieces.append(_framed(b"" if proof.witness is None else b"\x01" + proof.witness.encode()))
    for output in outputs:
        pieces += (_framed_amount(output.amount), _framed_id(output.id), _framed(output.B_))
    return hashlib.sha256(b"".join(pieces)).digest()


def _framed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


@lru_cache(maxsize=1024)
def _framed_id(keyset: str) -> bytes:
    return _framed(keyset.encode())


@lru_cache(maxsize=1024)
def _framed_amount(amount: int) -> bytes:
    return _framed(amount.to_bytes(8, "big"))
