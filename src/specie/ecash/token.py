"""Tokens, the text in which coins travel (NUT-00): V4 (CBOR) both ways, V3 (JSON) both ways, and the raw bytes `craw`.

Reading takes two steps: `decode_token` gives a `TokenDraft`, whose keyset ids may be short; `resolve_token` expands them
with the keysets of the token's mint, and only its result may be spent. Not here: whether the coins are good.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import cbor2
import msgspec

from specie.ecash.cbor import decode_cbor
from specie.ecash.codes import MixedUnitsError, UnitMismatchError
from specie.ecash.keyset import Keyset, KeysetInfo, keyset_id_checked, resolve_keyset_id, short_keyset_id
from specie.ecash.mint_url import mint_url_checked
from specie.ecash.proof import Proof, ProofDleq, sum_amounts
from specie.ecash.wire.codec import amount, bounded_text, decode, encode, point
from specie.ecash.wire.coins import ProofWire, proof_from_wire, proof_to_wire
from specie.kernel.encoding import base64url_decode, base64url_encode
from specie.kernel.errors import MalformedError
from specie.kernel.limits import DEFAULT_LIMITS, Limits
from specie.kernel.money import unit_checked

__all__ = [
    "CURRENT_TOKEN_VERSION",
    "Token",
    "TokenDraft",
    "decode_token",
    "decode_token_raw",
    "encode_token",
    "encode_token_raw",
    "resolve_token",
]

CURRENT_TOKEN_VERSION = 4

_PREFIX_V3, _PREFIX_V4, _PREFIX_RAW = "cashuA", "cashuB", b"crawB"
_URI_SCHEMES = ("web+cashu://", "cashu://", "cashu:")


class Token(msgspec.Struct, frozen=True):
    """Coins of one mint and unit. `mint` is in the normal form of `mint_url`, keyset ids are full."""

    mint: str
    unit: str
    proofs: tuple[Proof, ...]
    memo: str | None = None

    @property
    def amount(self) -> int:
        """What the coins say they are worth, in the minor unit; exact."""
        return sum_amounts(self.proofs)


class TokenDraft(msgspec.Struct, frozen=True):
    """A token as read: keyset ids of its proofs may be short, and V3 may leave out the unit. `memo` is hostile text."""

    mint: str
    unit: str | None
    proofs: tuple[Proof, ...]
    memo: str | None = None
    version: int = CURRENT_TOKEN_VERSION

    @property
    def amount(self) -> int:
        """What the coins say they are worth, in the minor unit; exact."""
        return sum_amounts(self.proofs)


class _EntryV3(msgspec.Struct):
    mint: str
    proofs: list[ProofWire]


class _TokenV3(msgspec.Struct, omit_defaults=True):
    token: list[_EntryV3]
    unit: str | None = None
    memo: str | None = None


class _DleqV4(msgspec.Struct):
    e: bytes
    s: bytes
    r: bytes

    def __repr__(self) -> str:
        return f"_DleqV4(e={self.e.hex()!r}, s={self.s.hex()!r}, r=...)"


class _ProofV4(msgspec.Struct):
    a: int
    s: str
    c: bytes
    d: _DleqV4 | None = None
    w: str | None = None
    pe: bytes | None = None

    def __repr__(self) -> str:
        return f"_ProofV4(a={self.a}, s=..., c={self.c.hex()!r})"


class _KeysetV4(msgspec.Struct):
    i: bytes
    p: list[_ProofV4]


class _TokenV4(msgspec.Struct):
    t: list[_KeysetV4]
    m: str
    u: str
    d: str | None = None


_v3 = msgspec.json.Decoder(_TokenV3)


def encode_token(token: Token, version: int = CURRENT_TOKEN_VERSION, *, short_ids: bool = True) -> str:
    """Text of a token, version 4 or the deprecated 3. With `short_ids`, ids of 33 bytes are cut to 8 in version 4.

    MalformedError for another version, no proofs, or (version 4) a keyset id that is not hex.
    """
    if version == 4:
        return _PREFIX_V4 + base64url_encode(_cbor(token, short_ids))
    if version == 3:
        entry = _EntryV3(token.mint, [proof_to_wire(proof) for proof in _proofs(token)])
        return _PREFIX_V3 + base64url_encode(encode(_TokenV3([entry], token.unit, token.memo)))
    raise MalformedError("tokens have version 3 or 4")


def encode_token_raw(token: Token, *, short_ids: bool = True) -> bytes:
    """Version 4 as bytes, behind `crawB` (NUT-00), for channels that carry bytes."""
    return _PREFIX_RAW + _cbor(token, short_ids)


def decode_token(text: str, *, limits: Limits = DEFAULT_LIMITS) -> TokenDraft:
    """Read a token of version 3 or 4, with or without `cashu:` before it and padding behind it.

    Nothing in it has been verified. MalformedError for anything else, for coins of several mints, and for a coin twice.
    """
    if len(text) > limits.token_chars:
        raise MalformedError("token is too long")
    text = text.strip()
    for scheme in _URI_SCHEMES:
        if text[: len(scheme)].lower() == scheme:
            text = text[len(scheme) :]
            break
    body = text[len(_PREFIX_V4) :]
    if text.startswith(_PREFIX_V4):
        return _draft_v4(base64url_decode(body), limits)
    if text.startswith(_PREFIX_V3):
        return _draft_v3(base64url_decode(body), limits)
    raise MalformedError("not a Cashu token: it starts with neither cashuA nor cashuB")


def decode_token_raw(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> TokenDraft:
    """Read the bytes that `encode_token_raw` writes. MalformedError as `decode_token`."""
    if len(data) > limits.token_chars:
        raise MalformedError("token is too long")
    if not data.startswith(_PREFIX_RAW):
        raise MalformedError("not a raw Cashu token: it does not start with crawB")
    return _draft_v4(data[len(_PREFIX_RAW) :], limits)


def resolve_token(draft: TokenDraft, known: Iterable[KeysetInfo | Keyset]) -> Token:
    """The token with full keyset ids, by the keysets `known` of its mint, of all units and states.

    KeysetUnknownError for an id that none of them has; MalformedError for a short id of two; MixedUnitsError and
    UnitMismatchError where the keysets' units differ among each other or from the token's.
    """
    units = {keyset.id: keyset.unit for keyset in known}
    full = {short: resolve_keyset_id(short, units) for short in {proof.id for proof in draft.proofs}}
    found = {units[identifier] for identifier in full.values()}
    if len(found) != 1:
        raise MixedUnitsError("the token holds coins of several units")
    unit = found.pop()
    if draft.unit is not None and draft.unit != unit:
        raise UnitMismatchError("the token names another unit than that of its coins")
    proofs = tuple(msgspec.structs.replace(proof, id=full[proof.id]) for proof in draft.proofs)
    return Token(draft.mint, unit, proofs, draft.memo)


def _proofs(token: Token) -> tuple[Proof, ...]:
    if not token.proofs:
        raise MalformedError("a token holds at least one proof")
    return token.proofs


def _cbor(token: Token, short_ids: bool) -> bytes:
    groups: dict[str, list[dict[str, Any]]] = {}
    for proof in _proofs(token):
        groups.setdefault(proof.id, []).append(_proof_map(proof))
    body: dict[str, Any] = {"t": [{"i": _id_bytes(name, short_ids), "p": proofs} for name, proofs in groups.items()]}
    if token.memo is not None:
        body["d"] = token.memo
    body |= {"m": token.mint, "u": token.unit}
    return cbor2.dumps(body)


def _id_bytes(identifier: str, short: bool) -> bytes:
    return bytes.fromhex(short_keyset_id(identifier) if short else keyset_id_checked(identifier))


def _proof_map(proof: Proof) -> dict[str, Any]:
    item: dict[str, Any] = {"a": proof.amount, "s": proof.secret, "c": proof.C}
    if (dleq := proof.dleq) is not None:
        item["d"] = {"e": dleq.e, "s": dleq.s, "r": dleq.r}
    if proof.witness is not None:
        item["w"] = proof.witness
    if proof.p2pk_e is not None:
        item["pe"] = proof.p2pk_e
    return item


def _draft_v3(data: bytes, limits: Limits) -> TokenDraft:
    if len(data) > limits.body_bytes:
        raise MalformedError("token is too long")
    wire = decode(data, _v3, limits)
    mints = {mint_url_checked(entry.mint) for entry in wire.token}
    if len(mints) != 1:
        raise MalformedError("token holds coins of several mints, or of none; split it by mint first")
    proofs = [proof_from_wire(item, limits) for entry in wire.token for item in entry.proofs]
    return TokenDraft(
        mints.pop(),
        None if wire.unit is None else unit_checked(wire.unit),
        _distinct(proofs, limits),
        wire.memo,
        3,
    )


def _draft_v4(data: bytes, limits: Limits) -> TokenDraft:
    try:
        wire = msgspec.convert(decode_cbor(data, limits, "token"), _TokenV4, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise MalformedError(f"token does not fit: {error}"[:200]) from None
    proofs = [
        _proof_v4(_id_text(group.i), item, limits)
        for group in wire.t
        for item in group.p
    ]  # fmt: skip
    return TokenDraft(mint_url_checked(wire.m), unit_checked(wire.u), _distinct(proofs, limits), wire.d, 4)


def _id_text(data: bytes) -> str:
    if len(data) not in (8, 33):
        raise MalformedError("a keyset id in a token has 8 or 33 bytes")
    return data.hex()


def _proof_v4(identifier: str, item: _ProofV4, limits: Limits) -> Proof:
    dleq = item.d
    if dleq is not None and not len(dleq.e) == len(dleq.s) == len(dleq.r) == 32:
        raise MalformedError("DLEQ values have 32 bytes each")
    return Proof(
        amount(item.a),
        identifier,
        bounded_text(item.s, limits.secret_chars, "secret"),
        point(item.c.hex(), identifier),
        None if item.w is None else bounded_text(item.w, limits.witness_chars, "witness"),
        None if dleq is None else ProofDleq(dleq.e, dleq.s, dleq.r),
        None if item.pe is None else point(item.pe.hex()),
    )


def _distinct(proofs: list[Proof], limits: Limits) -> tuple[Proof, ...]:
    """Refuse no coins, too many, and a coin twice: its second copy is worth nothing but swells the shown amount."""
    if not proofs:
        raise MalformedError("token holds no proofs")
    if len(proofs) > 10 * limits.array_length:
        raise MalformedError("token holds too many proofs")
    if len({proof.secret for proof in proofs}) != len(proofs):
        raise MalformedError("token holds a coin twice")
    return tuple(proofs)
