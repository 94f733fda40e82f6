"""Quotes, their states, and the signature that unlocks a locked one."""

from __future__ import annotations

import msgspec
import pytest

from specie.ecash.codes import QuotePubkeyRequiredError, QuoteSignatureInvalidError
from specie.ecash.proof import BlindedMessage
from specie.ecash.quote import (
    LEGACY_SIGNATURE_VERSION,
    MintQuote,
    MintState,
    quote_pubkey_checked,
    quote_signature_digest,
    quote_signature_digests,
    quote_signature_message,
    verify_quote_signature,
)
from tests.support.coins import public_key, signature

KEY = public_key("lock").hex()
OUTPUTS = [BlindedMessage(amount, "009a1f293253e41e", public_key(f"b {amount}")) for amount in (0, 1, 255, 256, 2**64 - 1)]


@pytest.mark.parametrize(
    ("paid", "issued", "state", "mintable"),
    [
        (0, 0, MintState.UNPAID, 0),
        (5, 0, MintState.PAID, 5),
        (5, 3, MintState.PAID, 2),
        (5, 5, MintState.ISSUED, 0),
        (5, 6, "ISSUED", 0),
    ],
)
def test_state_follows_from_the_two_amounts(paid: int, issued: int, state: str, mintable: int) -> None:
    """The deprecated state cannot disagree with what was paid and issued."""
    quote = MintQuote("q", "bolt11", "lnbc", "sat", 5, amount_paid=paid, amount_issued=issued)
    assert (quote.state, quote.mintable) == (state, mintable)


def test_message_frames_every_field() -> None:
    """Amounts are shortest big-endian bytes, 0 is none; each field stands behind its length."""
    message = quote_signature_message("q", OUTPUTS)
    parts = [b"Cashu_MintQuoteSig_v1", b"\x00\x00\x00\x01q"]
    for length, output in zip((0, 1, 1, 2, 8), OUTPUTS, strict=True):
        parts += [length.to_bytes(4, "big"), output.amount.to_bytes(length, "big"), b"\x00\x00\x00\x21", output.B_]
    assert message == b"".join(parts)


@pytest.mark.parametrize("version", [0, 1])
def test_both_versions_unlock(version: int) -> None:
    """A mint takes either signature, from a key of either parity."""
    made = signature(quote_signature_digest("q", OUTPUTS, version=version), "lock").hex()
    for key in (KEY, "02" + KEY[2:], "03" + KEY[2:]):
        verify_quote_signature(key, made, "q", OUTPUTS)
        verify_quote_signature(key, made.upper(), "q", OUTPUTS)


def test_a_signature_commits_to_quote_outputs_and_order() -> None:
    """Another quote, another amount (which the legacy form misses), another order: refused."""
    digest, legacy = quote_signature_digests("q", OUTPUTS)
    made = signature(digest, "lock").hex()
    dearer = [msgspec.structs.replace(OUTPUTS[0], amount=2), *OUTPUTS[1:]]
    for quote_id, outputs in (("p", OUTPUTS), ("q", OUTPUTS[::-1]), ("q", OUTPUTS[1:]), ("q", dearer)):
        with pytest.raises(QuoteSignatureInvalidError):
            verify_quote_signature(KEY, made, quote_id, outputs)
    verify_quote_signature(KEY, signature(legacy, "lock").hex(), "q", dearer, versions=(LEGACY_SIGNATURE_VERSION,))


@pytest.mark.parametrize("made", [None, "", "00" * 64, "00" * 63, "zz" * 64, "é" * 128])
def test_no_signature_or_a_broken_one_is_refused(made: str | None) -> None:
    """Whatever is wrong with it, the answer is 20008 and the quote stays mintable."""
    with pytest.raises(QuoteSignatureInvalidError):
        verify_quote_signature(KEY, made, "q", OUTPUTS)


def test_another_key_is_refused() -> None:
    """The signature of somebody else does not unlock; nor does a key that is none."""
    made = signature(quote_signature_digest("q", OUTPUTS), "somebody").hex()
    for key in (KEY, "02" + "ff" * 32, "", "zz"):
        with pytest.raises(QuoteSignatureInvalidError):
            verify_quote_signature(key, made, "q", OUTPUTS)


def test_lock_keys_are_curve_points() -> None:
    """A key off the curve would lock a quote for good (20009)."""
    assert quote_pubkey_checked(KEY.upper()) == KEY
    for text in ("02" + "ff" * 32, KEY[2:], "", "zz" * 33):
        with pytest.raises(QuotePubkeyRequiredError):
            quote_pubkey_checked(text)
