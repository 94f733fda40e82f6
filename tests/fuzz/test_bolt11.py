"""Mutated invoices: the decoder answers with a value or with its own error, never with another exception."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from specie.kernel import curve, encoding
from specie.kernel.errors import RefusedError
from specie.lightning import decode_invoice, encode_invoice, invoice_amount_msat
from specie.lightning.invoice import InvoiceDraft

CORPUS = sorted((Path(__file__).parent / "corpus" / "bolt11").glob("*.txt"))
ROUNDS = 60


def mutate(source: random.Random, words: list[int]) -> list[int]:
    """One to four changes to the 5-bit groups of an invoice: the kinds that reach the parser behind the checksum."""
    words = list(words)
    for _ in range(source.randint(1, 4)):
        place = source.randrange(len(words) + 1)
        match source.randrange(5):
            case 0:
                words.insert(place, source.randrange(32))
            case 1:
                del words[place : place + source.randint(1, 8)]
            case 2:
                words[place:place] = words[place : place + source.randint(1, 60)]
            case 3:
                words[place : place + 2] = [source.randrange(32), source.randrange(32)]
            case _:
                words = words[place:] + words[:place] if source.random() < 0.1 else words[: max(place, 1)]
    return words


def judge(text: str) -> bool:
    """Decode; True if it was accepted. What is accepted has the bounds that callers rely on."""
    try:
        invoice = decode_invoice(text)
    except RefusedError:
        return False
    assert len(invoice.payment_hash) == len(invoice.payment_secret) == 32
    assert (invoice.description is None) != (invoice.description_hash is None)
    assert len(invoice.payee) == 33
    assert invoice.expiry < 2**63
    assert decode_invoice(invoice.text) == invoice
    return True


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_mutated_invoices_are_read_or_refused(path: Path) -> None:
    """Changed characters, and changed groups under a right checksum, never surprise the decoder."""
    text = path.read_text().strip()
    source = random.Random(path.stem)
    judge(text)
    try:
        prefix, words = encoding.bech32_decode(text)
    except RefusedError:
        prefix, words = "lnbcrt1u", [source.randrange(32) for _ in range(200)]
    for _ in range(ROUNDS):
        judge(encoding.bech32_encode(prefix, mutate(source, words)))
        place = source.randrange(len(text) + 1)
        broken = text[:place] + chr(source.choice((0, 49, 0x1F600, 0x130, 0xDFFF, source.randrange(128)))) + text[place + 1 :]
        assert not judge(broken) or broken.lower() == text.lower()
        try:
            invoice_amount_msat(broken)
        except RefusedError:
            continue


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
async def test_what_is_accepted_can_be_said_again(path: Path) -> None:
    """An accepted invoice is a valid draft: written again and signed by another key, it reads the same."""
    try:
        invoice = decode_invoice(path.read_text().strip())
    except RefusedError:
        return
    draft = InvoiceDraft(**{name: getattr(invoice, name) for name in InvoiceDraft.__dataclass_fields__})
    if draft.named_payee is None:
        again = decode_invoice(await encode_invoice(draft, lambda digest: curve.ecdsa_sign_recoverable(digest, b"\x05" * 32)))
        assert again.payment_hash == invoice.payment_hash
        assert again.routes == invoice.routes
