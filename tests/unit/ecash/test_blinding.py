"""Blinding, unblinding, DLEQ and the scheme that a keyset's version chooses."""

from __future__ import annotations

import msgspec
import pytest

from specie.ecash import bdhke, dleq
from specie.ecash.codes import KeysetUnknownError, ProofInvalidError
from specie.ecash.proof import BlindedMessage, Dleq, Proof, ProofDleq, sum_amounts, y
from specie.ecash.scheme import SECP256K1, scheme_for
from specie.ecash.transaction import blinded_message, unblind_signature
from specie.kernel import curve
from specie.kernel.errors import MalformedError
from tests.support.coins import is_good, make_coin, make_keyset, public_key, secret_key, sign_output

KEYSET = make_keyset(amounts=4)


def test_a_coin_is_the_signature_on_its_secret() -> None:
    """Blind, sign, unblind gives C = kY, for the text of the secret (64 hex characters are 64 bytes)."""
    coin = make_coin("00" * 32, 8, keyset=KEYSET)
    assert is_good(coin)
    assert coin.y == y(coin) == bdhke.hash_to_curve(b"00" * 32) != bdhke.hash_to_curve(bytes(32))
    dleq.verify_proof_dleq(coin, KEYSET.keys[8])


@pytest.mark.parametrize("r", [bytes(32), b"\xff" * 32, b"\x01" * 31, curve.ORDER.to_bytes(32, "big")])
def test_a_blinding_factor_is_a_scalar(r: bytes) -> None:
    """Zero, too large or too short is refused before it blinds nothing."""
    with pytest.raises(MalformedError):
        bdhke.blind("secret", r)


def test_blinding_to_the_identity_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one r with B_ at infinity has no point to send."""
    r = secret_key("r")
    monkeypatch.setattr(bdhke, "hash_to_curve", lambda message: curve.negate(curve.public_key(r)))
    with pytest.raises(MalformedError):
        bdhke.blind("secret", r)


def test_a_message_without_a_point_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search for Y ends."""
    monkeypatch.setattr(bdhke, "_ATTEMPTS", 1)
    with pytest.raises(MalformedError):
        bdhke.hash_to_curve(bytes.fromhex("00" * 31 + "01"))  # found at counter 3


@pytest.mark.parametrize("c_", [b"", b"\x02" + b"\xff" * 32])
def test_unblinding_what_is_no_point_is_refused(c_: bytes) -> None:
    """A signature off the curve raises our error, not the library's."""
    with pytest.raises(MalformedError):
        bdhke.unblind(c_, secret_key("r"), KEYSET.keys[1])


def test_scheme_is_chosen_by_version() -> None:
    """Versions 00 and 01 and old base64 ids are secp256k1; another version is an unknown keyset, not a guess."""
    assert scheme_for(KEYSET.id) is scheme_for("009a1f293253e41e") is scheme_for("eGnEWtdJ0PIM") is SECP256K1
    for identifier in ("02" * 33, "", "x", "99456a94ab4e1c46"):
        with pytest.raises(KeysetUnknownError):
            scheme_for(identifier)


def test_proof_hides_its_secret() -> None:
    """A coin in a log or a traceback is not money."""
    coin = make_coin("very secret text", keyset=KEYSET)
    assert "very secret" not in repr(coin)
    assert "very secret" not in f"{(coin,)}"


def test_amounts_are_summed_exactly() -> None:
    """Beyond 64 bits too."""
    top = BlindedMessage(2**64 - 1, KEYSET.id, public_key("b"))
    assert sum_amounts([top, top]) == 2**65 - 2


@pytest.mark.parametrize("field", ["e", "s"])
def test_a_changed_dleq_fails(field: str) -> None:
    """Each part of the proof counts."""
    coin = make_coin("coin", keyset=KEYSET)
    assert coin.dleq is not None
    for value in (bytes(32), b"\xff" * 32, b"\x01" * 32, b"short"):
        changed = msgspec.structs.replace(coin, dleq=msgspec.structs.replace(coin.dleq, **{field: value}))
        with pytest.raises(ProofInvalidError):
            dleq.verify_proof_dleq(changed, KEYSET.keys[1])


def test_dleq_binds_key_secret_and_blinding() -> None:
    """Another key, another secret, another C or another r fail; none at all is not a pass."""
    coin = make_coin("coin", keyset=KEYSET)
    assert coin.dleq is not None
    bad = [
        msgspec.structs.replace(coin, secret="other"),
        msgspec.structs.replace(coin, C=public_key("other")),
        msgspec.structs.replace(coin, C=b"\x02" + b"\xff" * 32),
        msgspec.structs.replace(coin, dleq=msgspec.structs.replace(coin.dleq, r=secret_key("other"))),
        msgspec.structs.replace(coin, dleq=msgspec.structs.replace(coin.dleq, r=b"\xff" * 32)),
        msgspec.structs.replace(coin, dleq=None),
    ]
    for proof in bad:
        with pytest.raises(ProofInvalidError):
            dleq.verify_proof_dleq(proof, KEYSET.keys[1])
    with pytest.raises(ProofInvalidError):
        dleq.verify_proof_dleq(coin, KEYSET.keys[2])


def test_dleq_nonce_is_deterministic_and_depends_on_all() -> None:
    """The same signature has the same nonce, another message, key or signature has another."""
    k, a = secret_key("k"), public_key("k")
    b1, b2 = public_key("b1"), public_key("b2")
    nonces = [dleq.nonce(k, a, b1, b2), dleq.nonce(k, a, b2, b1), dleq.nonce(secret_key("l"), a, b1, b2)]
    assert dleq.nonce(k, a, b1, b2) == nonces[0]
    assert len(set(nonces)) == 3


def test_dleq_nonce_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A digest that is no scalar is passed over; 256 of them give up."""
    seen: list[bytes] = []

    def is_scalar(data: bytes) -> bool:
        seen.append(data)
        return len(seen) == 3

    monkeypatch.setattr(dleq.curve, "is_scalar", is_scalar)
    assert dleq.nonce(b"\x01" * 32, public_key(1), public_key(2), public_key(3)) == seen[2]
    assert len(set(seen)) == 3
    monkeypatch.setattr(dleq.curve, "is_scalar", lambda data: False)
    with pytest.raises(MalformedError):
        dleq.nonce(b"\x01" * 32, public_key(1), public_key(2), public_key(3))


def test_unblinding_insists_on_what_was_asked() -> None:
    """Another keyset, another amount, a wrong DLEQ or a missing one that is required: no coin."""
    r = secret_key("r")
    output = blinded_message(4, KEYSET.id, "s", r)
    good = sign_output(output)
    key = KEYSET.keys[4]

    def take(**change: object) -> Proof:
        return unblind_signature(output, msgspec.structs.replace(good, **change), secret="s", r=r, key=key)

    assert is_good(take())
    assert take(dleq=None).dleq is None
    for change in ({"id": "009a1f293253e41e"}, {"amount": 2}, {"dleq": Dleq(bytes(32), bytes(32))}, {"C_": public_key("x")}):
        with pytest.raises(ProofInvalidError):
            take(**change)
    with pytest.raises(ProofInvalidError):
        unblind_signature(output, msgspec.structs.replace(good, dleq=None), secret="s", r=r, key=key, require_dleq=True)
    with pytest.raises(MalformedError):
        take(dleq=None, C_=b"\x02" + b"\xff" * 32)


def test_a_blank_output_takes_the_amount_that_was_signed() -> None:
    """Change is worth what the signature says (NUT-08)."""
    r = secret_key("r")
    blank = blinded_message(1, KEYSET.id, "s", r)
    signed = sign_output(msgspec.structs.replace(blank, amount=8))
    coin = unblind_signature(blank, signed, secret="s", r=r, key=KEYSET.keys[8], blank=True)
    assert (coin.amount, is_good(coin)) == (8, True)
    assert isinstance(coin.dleq, ProofDleq)
