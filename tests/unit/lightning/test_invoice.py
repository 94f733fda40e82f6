"""BOLT 11 codec: official examples, peers' amount rules, every malformed class, round trips."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import coincurve
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specie.kernel import curve, encoding
from specie.kernel.errors import MalformedError, RefusedError
from specie.lightning import (
    Fallback,
    Hop,
    Invoice,
    InvoiceDraft,
    InvoiceFeatureError,
    InvoiceMalformedError,
    InvoiceSignatureError,
    Network,
    bare_invoice,
    decode_invoice,
    encode_invoice,
    invoice_amount_msat,
)
from specie.lightning.invoice import MAX_AMOUNT_MSAT

VECTORS = Path(__file__).parents[2] / "vectors"
OFFICIAL = json.loads((VECTORS / "bolt11.json").read_text())
PEERS = json.loads((VECTORS / "cashu" / "peer-bolt11-amounts.json").read_text())
KEY = bytes.fromhex(OFFICIAL["private_key"])
NODE = curve.public_key(KEY)


def sign(digest: bytes) -> tuple[bytes, int]:
    return curve.ecdsa_sign_recoverable(digest, KEY)


def draft_of(invoice: Invoice) -> InvoiceDraft:
    return InvoiceDraft(**{name: getattr(invoice, name) for name in InvoiceDraft.__dataclass_fields__})


def make_draft(**changes: Any) -> InvoiceDraft:
    values: dict[str, Any] = {
        "network": Network.REGTEST,
        "amount_msat": 21_000,
        "timestamp": 1_700_000_000,
        "payment_hash": b"\x01" * 32,
        "payment_secret": b"\x02" * 32,
        "description": "tea",
    }
    return InvoiceDraft(**(values | changes))


def by_validity(valid: bool) -> list[Any]:
    return [pytest.param(r, id=r["id"]) for r in OFFICIAL["records"] if r["valid"] is valid]


def seen(invoice: Invoice) -> dict[str, Any]:
    """The facts of an invoice in the shape of the vectors."""

    def scid(number: int) -> str:
        return f"{number >> 40}x{number >> 16 & 0xFFFFFF}x{number & 0xFFFF}"

    return {
        "network": str(invoice.network),
        "timestamp": invoice.timestamp,
        "payment_hash": invoice.payment_hash.hex(),
        "payment_secret": invoice.payment_secret.hex(),
        "amount_msat": invoice.amount_msat,
        "description": invoice.description,
        "description_hash": invoice.description_hash and invoice.description_hash.hex(),
        "expiry_s": invoice.expiry_s,
        "min_final_cltv_expiry_delta": invoice.min_final_cltv_expiry_delta,
        "fallbacks": [{"version": f.version, "program": f.program.hex()} for f in invoice.fallbacks],
        "routes": [
            [
                {
                    "node": hop.node.hex(),
                    "short_channel_id": scid(hop.short_channel_id),
                    "fee_base_msat": hop.fee_base_msat,
                    "fee_ppm": hop.fee_ppm,
                    "cltv_expiry_delta": hop.cltv_expiry_delta,
                }
                for hop in route
            ]
            for route in invoice.routes
        ],
        "features": sorted(invoice.features),
        "metadata": invoice.metadata and invoice.metadata.hex(),
    }


@pytest.mark.parametrize("record", by_validity(True))
def test_official_examples_decode(record: dict[str, Any]) -> None:
    """Every valid example of BOLT 11 gives exactly the facts its breakdown prints, and its payee."""
    invoice = decode_invoice(record["invoice"])
    expected = dict(record["expected"])
    payee = expected.pop("payee")
    assert seen(invoice) == expected
    assert payee is None or invoice.payee.hex() == payee
    assert invoice.text == record["invoice"].lower()
    assert invoice.expiry == invoice.timestamp + invoice.expiry_s
    assert invoice.payment_id == expected["payment_hash"]


@pytest.mark.parametrize("record", by_validity(False))
def test_official_invalid_examples_are_refused(record: dict[str, Any]) -> None:
    """Every invalid example fails, and for the reason it was printed for."""
    kind = {"malformed": MalformedError, "signature": InvoiceSignatureError, "feature": InvoiceFeatureError}[record["failure"]]
    with pytest.raises(kind) as caught:
        decode_invoice(record["invoice"])
    if record["failure"] == "malformed":
        assert not isinstance(caught.value, InvoiceSignatureError)
    if "bit" in record:
        assert isinstance(caught.value, InvoiceFeatureError)
        assert caught.value.bit == record["bit"]


@pytest.mark.parametrize("record", by_validity(True))
async def test_official_examples_encode_again(record: dict[str, Any]) -> None:
    """Signed again with the example's key, the facts give the same invoice, byte for byte where the order of fields is ours."""
    invoice = decode_invoice(record["invoice"])
    again = decode_invoice(await encode_invoice(draft_of(invoice), sign))
    assert draft_of(again) == draft_of(invoice)
    assert again.payee == NODE
    if record["id"] in ("00", "01", "02", "03"):
        assert again.text == invoice.text


def test_high_s_is_recovered_as_another_library_does() -> None:
    """A high S without an `n` field is accepted, and recovers to the key that an independent library finds."""
    record = next(r for r in OFFICIAL["records"] if r.get("high_s"))
    words = encoding.bech32_decode(record["invoice"])[1]
    compact = bytes(encoding.convert_bits(words[-104:], 5, 8, pad=False))
    assert int.from_bytes(compact[32:64], "big") > curve.ORDER // 2
    digest = bytes.fromhex("6daf4d488be41ce7cbb487cab1ef2975e5efcea879b20d421f0ef86b07cbb987")
    expected = coincurve.PublicKey.from_signature_and_message(compact, digest, hasher=None).format()
    assert decode_invoice(record["invoice"]).payee == expected


@pytest.mark.parametrize("record", [pytest.param(r, id=r["id"]) for r in PEERS["records"]])
def test_peers_amounts(record: dict[str, Any]) -> None:
    """The human-readable part is read as peers read it: multipliers, missing amounts, and what must be refused."""
    text = record.get("invoice", record.get("invoice_prefix"))
    if record.get("error"):
        with pytest.raises(MalformedError):
            invoice_amount_msat(text)
    else:
        assert invoice_amount_msat(text) == record["msat"]
    if "invoice" in record:
        assert decode_invoice(text).amount_msat == record["msat"]


def test_amount_of_an_endless_text_is_refused() -> None:
    """A text beyond the bound is refused before anything looks at it."""
    with pytest.raises(InvoiceMalformedError):
        invoice_amount_msat("lnbc1" + "q" * 5000)
    with pytest.raises(MalformedError):
        decode_invoice("lnbc1" + "q" * 5000)


@pytest.mark.parametrize(
    ("human", "amount_msat"),
    [("lnbc1", 10**11), ("lnbc1000u", 10**8), ("lnbc10p", 1), ("lnbc21000000", MAX_AMOUNT_MSAT), ("lnbc", None)],
)
def test_amounts_that_are_not_shortest_are_read(human: str, amount_msat: int | None) -> None:
    """Readers take longer forms than writers make, from a millisatoshi to all bitcoin."""
    assert invoice_amount_msat(human + "1q") == amount_msat


@pytest.mark.parametrize(
    "human", ["lnbc21000001", "lnbc1p", "lnbc1.5u", "lnbc-1", "lnbc1k", "lnxy1u", "lnbcu", "lnbc9999999999999999999999"]
)
def test_amounts_and_networks_that_are_refused(human: str) -> None:
    """More than all bitcoin, finer than a millisatoshi, no digits, no such network."""
    with pytest.raises(InvoiceMalformedError):
        invoice_amount_msat(human + "1q")


def test_bare_invoice_takes_what_people_paste() -> None:
    """A URI scheme in either case and white space are dropped; anything else stays."""
    assert bare_invoice("  lightning:lnbc1x\n") == "lnbc1x"
    assert bare_invoice("LIGHTNING:LNBC1X") == "LNBC1X"
    assert bare_invoice("lnbc1x") == "lnbc1x"


# Malformed classes, each signed properly so that nothing but the fault itself refuses it


def tagged(letter: str, groups: list[int]) -> list[int]:
    tag = {"p": 1, "s": 16, "d": 13, "m": 27, "n": 19, "h": 23, "x": 6, "c": 24, "f": 9, "r": 3, "9": 5, "?": 2}[letter]
    return [tag, len(groups) >> 5, len(groups) & 31, *groups]


def octets(data: bytes) -> list[int]:
    return encoding.convert_bits(data, 8, 5, pad=True)


HASH = tagged("p", octets(b"\x01" * 32))
SECRET = tagged("s", octets(b"\x02" * 32))
TEA = tagged("d", octets(b"tea"))
TIME = [1, 12, 18, 31, 28, 25, 0]


def assemble(
    *parts: list[int], human: str = "lnbcrt", key: bytes = KEY, twist: bool = False, recovery: int | None = None
) -> str:
    signed = TIME + [group for part in parts for group in part]
    digest = hashlib.sha256(human.encode() + bytes(encoding.convert_bits(signed, 5, 8, pad=True))).digest()
    signature, recovery_id = curve.ecdsa_sign_recoverable(digest, key)
    if twist:
        s = curve.ORDER - int.from_bytes(signature[32:], "big")
        signature, recovery_id = signature[:32] + s.to_bytes(32, "big"), recovery_id ^ 1
    tail = signature + bytes((recovery_id if recovery is None else recovery,))
    return encoding.bech32_encode(human, signed + encoding.convert_bits(tail, 8, 5, pad=True))


def test_a_plain_invoice_is_accepted() -> None:
    """The frame that the following tests break is itself right."""
    invoice = decode_invoice(assemble(HASH, SECRET, TEA))
    assert (invoice.description, invoice.payee, invoice.amount_msat) == ("tea", NODE, None)
    assert not invoice.expired(invoice.timestamp + 3599)
    assert invoice.expired(invoice.timestamp + 3600)


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([SECRET, TEA], id="no hash"),
        pytest.param([HASH, TEA], id="no secret"),
        pytest.param([HASH, SECRET], id="no description"),
        pytest.param([HASH, SECRET, TEA, tagged("h", octets(b"\x03" * 32))], id="description and its hash"),
        pytest.param([tagged("p", octets(b"\x01" * 31)), HASH, SECRET, TEA], id="short hash"),
        pytest.param([HASH, tagged("s", octets(b"\x01" * 33)), TEA], id="long secret"),
        pytest.param([HASH, SECRET, tagged("h", octets(b"\x01" * 20))], id="short description hash"),
        pytest.param([HASH, SECRET, TEA, tagged("n", octets(NODE)[:-1])], id="short payee"),
        pytest.param([HASH, SECRET, TEA, tagged("n", octets(b"\x05" + NODE[1:]))], id="payee is no point"),
        pytest.param([[*HASH[:-1], HASH[-1] | 1], SECRET, TEA], id="padding of the hash is not zero"),
        pytest.param([HASH, SECRET, tagged("d", octets(b"\xff\xfe"))], id="description is not UTF-8"),
        pytest.param([HASH, SECRET, tagged("d", [1])], id="description of five bits"),
        pytest.param([HASH, SECRET, TEA, tagged("x", [0, 5])], id="expiry not minimal"),
        pytest.param([HASH, SECRET, TEA, tagged("x", [1] * 12)], id="expiry too large"),
        pytest.param([HASH, SECRET, TEA, tagged("x", [1] * 1023)], id="expiry very long"),
        pytest.param([HASH, SECRET, TEA, tagged("c", [0])], id="cltv not minimal"),
        pytest.param([HASH, SECRET, TEA, tagged("c", [31] * 7)], id="cltv too large"),
        pytest.param([HASH, SECRET, TEA, tagged("9", [0, 16])], id="features not minimal"),
        pytest.param([HASH, SECRET, TEA, tagged("9", [8] + [0] * 300)], id="features too long"),
        pytest.param([HASH, SECRET, TEA, tagged("f", [])], id="fallback empty"),
        pytest.param([HASH, SECRET, TEA, tagged("f", [0, *octets(b"\x01" * 21)])], id="witness version 0 of 21 bytes"),
        pytest.param([HASH, SECRET, TEA, tagged("f", [1, *octets(b"\x01")])], id="witness program of one byte"),
        pytest.param([HASH, SECRET, TEA, tagged("f", [17, *octets(b"\x01" * 19)])], id="key hash of 19 bytes"),
        pytest.param([HASH, SECRET, TEA, tagged("r", [])], id="route empty"),
        pytest.param([HASH, SECRET, TEA, tagged("r", octets(NODE + bytes(17)))], id="half a hop"),
        pytest.param([HASH, SECRET, TEA, tagged("r", octets(b"\x04" + NODE[1:] + bytes(18)))], id="hop without a node"),
        pytest.param([HASH, SECRET, TEA, [13, 0]], id="field cut in its head"),
        pytest.param([HASH, SECRET, TEA, [13, 0, 9, 1, 2]], id="field longer than the invoice"),
    ],
)
def test_malformed_invoices_are_refused(parts: list[list[int]]) -> None:
    """Each rule of BOLT 11 refuses by itself, under a signature that is right."""
    with pytest.raises(MalformedError) as caught:
        decode_invoice(assemble(*parts))
    assert not isinstance(caught.value, InvoiceSignatureError)


def test_unknown_fields_and_fallbacks_are_skipped() -> None:
    """Unknown tags and fallback versions of the future do not disturb; of a field given twice the first counts."""
    future = tagged("f", [19, *octets(b"\x01" * 20)])
    other = tagged("p", octets(b"\x09" * 32))
    invoice = decode_invoice(assemble(tagged("?", [1, 2, 3]), HASH, other, SECRET, TEA, tagged("d", octets(b"two")), future))
    assert invoice.payment_hash == b"\x01" * 32
    assert invoice.description == "tea"
    assert invoice.fallbacks == ()


def test_empty_fields_have_their_plain_meaning() -> None:
    """An empty description is a description; empty expiry is no time at all; empty features are none."""
    invoice = decode_invoice(assemble(HASH, SECRET, tagged("d", []), tagged("x", []), tagged("9", []), tagged("m", [])))
    assert (invoice.description, invoice.expiry_s, invoice.features, invoice.metadata) == ("", 0, frozenset(), b"")


def test_named_payee_must_have_signed() -> None:
    """An `n` field is believed only under its own low-S signature; without it any S is recovered."""
    other = curve.public_key(b"\x07" * 32)
    named = tagged("n", octets(NODE))
    assert decode_invoice(assemble(HASH, SECRET, TEA, named)).payee == NODE
    assert decode_invoice(assemble(HASH, SECRET, TEA, named, recovery=3)).payee == NODE
    assert decode_invoice(assemble(HASH, SECRET, TEA, twist=True)).payee == NODE
    for text in (
        assemble(HASH, SECRET, TEA, tagged("n", octets(other))),
        assemble(HASH, SECRET, TEA, named, twist=True),
        assemble(HASH, SECRET, TEA, recovery=4),
    ):
        with pytest.raises(InvoiceSignatureError):
            decode_invoice(text)


def test_features_are_known_by_the_caller() -> None:
    """An even bit fails unless the caller knows it; an odd bit never does."""
    text = assemble(HASH, SECRET, TEA, tagged("9", [1, *[0] * 20]))
    with pytest.raises(InvoiceFeatureError) as caught:
        decode_invoice(text)
    assert caught.value.bit == 100
    assert decode_invoice(text, known_features=frozenset({100})).features == {100}
    assert decode_invoice(assemble(HASH, SECRET, TEA, tagged("9", [2, *[0] * 20]))).features == {101}
    assert isinstance(caught.value, RefusedError)


# Writing


@pytest.mark.parametrize(
    "changes",
    [
        {"amount_msat": 0},
        {"amount_msat": -1},
        {"amount_msat": MAX_AMOUNT_MSAT + 1},
        {"timestamp": 2**35},
        {"timestamp": -1},
        {"payment_hash": b"\x01" * 31},
        {"payment_secret": b""},
        {"description": None},
        {"description_hash": b"\x01" * 32},
        {"description": None, "description_hash": b"\x01"},
        {"description": "x" * 640},
        {"metadata": bytes(640)},
        {"named_payee": b"\x02"},
        {"expiry_s": -1},
        {"min_final_cltv_expiry_delta": 2**32},
        {"fallbacks": (Fallback(19, b"\x01" * 20),)},
        {"fallbacks": (Fallback(0, b"\x01" * 19),)},
        {"routes": ((),)},
        {"routes": ((Hop(b"\x00" * 33, 0, 0, 0, 0),),)},
        {"routes": ((Hop(NODE, 2**64, 0, 0, 0),),)},
        {"routes": ((Hop(NODE, 0, -1, 0, 0),),)},
        {"features": frozenset({-1})},
        {"features": frozenset({1280})},
        {"routes": tuple((Hop(NODE, 0, 0, 0, 0),) for _ in range(50))},
    ],
)
async def test_drafts_that_break_the_rules_are_not_written(changes: dict[str, Any]) -> None:
    """A writer refuses what a reader would."""
    with pytest.raises(InvoiceMalformedError):
        await encode_invoice(make_draft(**changes), sign)


async def test_signing_may_be_awaited_and_must_be_the_named_payees() -> None:
    """The key stays behind a callable, async or not; a named payee whose key did not sign is noticed at once."""

    async def later(digest: bytes) -> tuple[bytes, int]:
        return sign(digest)

    assert await encode_invoice(make_draft(), later) == await encode_invoice(make_draft(), sign)
    assert decode_invoice(await encode_invoice(make_draft(named_payee=NODE), later)).named_payee == NODE
    with pytest.raises(InvoiceSignatureError):
        await encode_invoice(make_draft(named_payee=curve.public_key(b"\x07" * 32)), sign)


@pytest.mark.parametrize(
    ("amount_msat", "human"),
    [
        (1, "lnbcrt10p"),
        (1000, "lnbcrt10n"),
        (100_000, "lnbcrt1u"),
        (10**8, "lnbcrt1m"),
        (10**11, "lnbcrt1"),
        (150_000, "lnbcrt1500n"),
    ],
)
async def test_amounts_are_written_in_the_shortest_form(amount_msat: int, human: str) -> None:
    """The largest multiplier that fits."""
    text = await encode_invoice(make_draft(amount_msat=amount_msat), sign)
    assert text.rpartition("1")[0] == human


NODES = [curve.public_key(bytes([n]) * 32) for n in range(1, 5)]
HOPS = st.builds(
    Hop,
    st.sampled_from(NODES),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 65535),
)
FALLBACKS = st.one_of(
    st.builds(Fallback, st.just(0), st.binary(min_size=20, max_size=20) | st.binary(min_size=32, max_size=32)),
    st.builds(Fallback, st.integers(1, 16), st.binary(min_size=2, max_size=40)),
    st.builds(Fallback, st.integers(17, 18), st.binary(min_size=20, max_size=20)),
)
DESCRIPTIONS = st.one_of(
    st.fixed_dictionaries({"description": st.text(max_size=150)}),
    st.fixed_dictionaries({"description_hash": st.binary(min_size=32, max_size=32)}),
)
DRAFTS = st.builds(
    lambda about, **values: InvoiceDraft(**about, **values),
    DESCRIPTIONS,
    network=st.sampled_from(Network),
    amount_msat=st.none() | st.integers(1, MAX_AMOUNT_MSAT),
    timestamp=st.integers(0, 2**35 - 1),
    payment_hash=st.binary(min_size=32, max_size=32),
    payment_secret=st.binary(min_size=32, max_size=32),
    metadata=st.none() | st.binary(max_size=639),
    named_payee=st.none() | st.just(NODE),
    expiry_s=st.integers(0, 2**53),
    min_final_cltv_expiry_delta=st.integers(0, 2**32 - 1),
    fallbacks=st.lists(FALLBACKS, max_size=3).map(tuple),
    routes=st.lists(st.lists(HOPS, min_size=1, max_size=3).map(tuple), max_size=3).map(tuple),
    features=st.frozensets(st.sampled_from([8, 14, 16, 48]) | st.integers(0, 600).map(lambda n: 2 * n + 1), max_size=5),
)


@settings(max_examples=150, deadline=None)
@given(draft=DRAFTS, upper=st.booleans())
async def test_every_draft_comes_back(draft: InvoiceDraft, upper: bool) -> None:
    """Whatever can be said in an invoice is read back exactly, in either case, with its payee."""
    text = await encode_invoice(draft, sign)
    invoice = decode_invoice(text.upper() if upper else text)
    assert draft_of(invoice) == draft
    assert (invoice.payee, invoice.text) == (NODE, text)
    assert invoice_amount_msat(text) == draft.amount_msat
