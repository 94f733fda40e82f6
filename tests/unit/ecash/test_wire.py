"""The JSON of the NUTs both ways: exact amounts, bounds, leniency where old peers need it, strictness elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from specie.ecash import codes, wire
from specie.ecash.keyset import Keyset
from specie.ecash.proof import BlindedMessage, BlindSignature, Dleq, Proof, ProofState, State
from specie.ecash.quote import MeltQuote, MeltQuoteRequest, MeltState, MintQuote, MintQuoteRequest
from specie.ecash.transaction import MeltRequest, MintRequest, SwapRequest
from specie.kernel.errors import MalformedError, RefusedError, UnavailableError
from specie.kernel.limits import Limits
from specie.kernel.money import MAX_AMOUNT
from tests.support.coins import make_coin, make_keyset, public_key, sign_output

KEYSET = make_keyset(amounts=64, fee=3, expiry=9)
COIN = make_coin("secret", 1, keyset=KEYSET)
BARE = msgspec.structs.replace(COIN, dleq=None)
OUTPUT = BlindedMessage(MAX_AMOUNT, KEYSET.id, public_key("b"))
SIGNED = BlindSignature(MAX_AMOUNT, KEYSET.id, public_key("c_"), Dleq(b"e" * 32, b"s" * 32))
POINT = public_key("p").hex()
OFF_CURVE = "02" + "ff" * 32
SMALL = Limits(array_length=1, body_bytes=4000, secret_chars=10, witness_chars=10, request_chars=10, description_chars=10)


def body(**fields: Any) -> bytes:
    """A JSON object."""
    return json.dumps(fields).encode()


def in_(**change: Any) -> dict[str, Any]:
    """An input's JSON."""
    return {"amount": 1, "id": KEYSET.id, "secret": "s", "C": POINT, **change}


def out(**change: Any) -> dict[str, Any]:
    """An output's JSON."""
    return {"amount": 1, "id": KEYSET.id, "B_": POINT, **change}


MINT_QUOTE = MintQuote("q", "bolt11", "lnbc1", "sat", MAX_AMOUNT, 5, POINT, MAX_AMOUNT, 7, 11)
MELT_QUOTE = MeltQuote("q", "bolt11", "lnbc1", "sat", MAX_AMOUNT, 3, MeltState.PAID, 5, "00" * 32, (SIGNED,), 12)

ROUND_TRIPS: list[tuple[str, Callable[..., Any], Callable[..., Any], Any]] = [
    ("keys", wire.keys_to_json, wire.keys_from_json, [KEYSET, make_keyset("b", amounts=1)]),
    ("keysets", wire.keysets_to_json, wire.keysets_from_json, [KEYSET.info]),
    ("swap", wire.swap_request_to_json, wire.swap_request_from_json, SwapRequest((BARE,), (OUTPUT, OUTPUT))),
    ("mint", wire.mint_request_to_json, wire.mint_request_from_json, MintRequest("bolt11", "q", (OUTPUT,), "00" * 64)),
    ("mint unlocked", wire.mint_request_to_json, wire.mint_request_from_json, MintRequest("bolt11", "q", ())),
    ("melt", wire.melt_request_to_json, wire.melt_request_from_json, MeltRequest("bolt11", "q", (BARE,), (OUTPUT,), True)),
    ("melt plain", wire.melt_request_to_json, wire.melt_request_from_json, MeltRequest("bolt11", "q", (BARE,))),
    ("signatures", wire.signatures_to_json, wire.signatures_from_json, (SIGNED, msgspec.structs.replace(SIGNED, dleq=None))),
    ("checkstate", wire.check_state_request_to_json, wire.check_state_request_from_json, [COIN.y, COIN.y]),
    ("states", wire.states_to_json, wire.states_from_json, [ProofState(COIN.y, state, "w") for state in State]),
    ("restore request", wire.restore_request_to_json, wire.restore_request_from_json, (OUTPUT,)),
    ("restore", wire.restore_to_json, wire.restore_from_json, [(OUTPUT, SIGNED)]),
    (
        "proofs",
        wire.proofs_to_json,
        wire.proofs_from_json,
        (COIN, msgspec.structs.replace(BARE, p2pk_e=public_key("e"), witness="w")),
    ),
    ("mint quote", wire.mint_quote_to_json, wire.mint_quote_from_json, MINT_QUOTE),
    ("mint quote open", wire.mint_quote_to_json, wire.mint_quote_from_json, MintQuote("q", "bolt11", "r", "usd")),
    ("melt quote", wire.melt_quote_to_json, wire.melt_quote_from_json, MELT_QUOTE),
    ("melt quote plain", wire.melt_quote_to_json, wire.melt_quote_from_json, MeltQuote("q", "bolt11", "r", "sat", 1, 0)),
    (
        "mint quote request",
        wire.mint_quote_request_to_json,
        wire.mint_quote_request_from_json,
        MintQuoteRequest("bolt11", "sat", MAX_AMOUNT, "text ☕", POINT),
    ),
    (
        "mint quote open request",
        wire.mint_quote_request_to_json,
        wire.mint_quote_request_from_json,
        MintQuoteRequest("bolt11", "sat"),
    ),
    *(
        ("melt quote request", wire.melt_quote_request_to_json, wire.melt_quote_request_from_json, request)
        for request in (
            MeltQuoteRequest("bolt11", "lnbc", "sat"),
            MeltQuoteRequest("bolt11", "lnbc", "sat", amount_msat=MAX_AMOUNT),
            MeltQuoteRequest("bolt11", "lnbc", "sat", mpp_msat=1),
        )
    ),
]


@pytest.mark.parametrize(("write", "read", "value"), [row[1:] for row in ROUND_TRIPS], ids=[row[0] for row in ROUND_TRIPS])
def test_what_is_written_is_read(write: Callable[..., bytes], read: Callable[..., Any], value: Any) -> None:
    """Every body both ways, amounts to 2^64-1, and with unknown fields beside."""
    data = write(value)
    assert read(data) == value
    shape = json.loads(data)
    if isinstance(shape, dict):
        assert read(json.dumps({**shape, "later": [{"x": None}]}).encode()) == value


@pytest.mark.parametrize("read", [row[2] for row in ROUND_TRIPS], ids=[row[0] for row in ROUND_TRIPS])
@pytest.mark.parametrize("data", [b"", b"{", b"null", b"1", b'"x"', b"\xff\xfe", b"{}x", b"[" * 3000, b'{"a":' * 3000, b"[1]"])
def test_other_json_and_no_json_are_malformed(read: Callable[..., Any], data: bytes) -> None:
    """Never another exception, whatever the body."""
    with pytest.raises(MalformedError):
        read(data)


@pytest.mark.parametrize("read", [row[2] for row in ROUND_TRIPS if row[0] != "proofs"])
def test_bodies_have_a_longest_length(read: Callable[..., Any]) -> None:
    """Before anything is parsed."""
    with pytest.raises(MalformedError, match="too large"):
        read(b" " * 4001 + b"{}", limits=SMALL)


def test_mints_never_see_what_wallets_keep() -> None:
    """Requests carry no DLEQ, no blinding factor and no ephemeral key; sent by another wallet they are ignored."""
    coin = msgspec.structs.replace(COIN, p2pk_e=public_key("e"), witness="w")
    data = wire.swap_request_to_json(SwapRequest((coin,), ()))
    assert set(json.loads(data)["inputs"][0]) == {"amount", "id", "secret", "C", "witness"}
    given = json.loads(wire.proofs_to_json([coin]))
    (read,) = wire.swap_request_from_json(body(inputs=given, outputs=[])).inputs
    assert (read.dleq, read.p2pk_e, read.witness) == (None, None, "w")


@pytest.mark.parametrize("value", [-1, 2**64, 1.0, 1e3, True, "1", None, [1]])
def test_amounts_are_unsigned_64_bit_integers(value: object) -> None:
    """No booleans, floats or texts; in inputs, outputs, signatures and quotes."""
    readers: list[tuple[Callable[[bytes], object], bytes]] = [
        (wire.swap_request_from_json, body(inputs=[in_(amount=value)], outputs=[])),
        (wire.swap_request_from_json, body(inputs=[], outputs=[out(amount=value)])),
        (wire.signatures_from_json, body(signatures=[{"amount": value, "id": KEYSET.id, "C_": POINT}])),
        (wire.proofs_from_json, json.dumps([in_(amount=value)]).encode()),
        (wire.melt_quote_request_from_json, body(request="r", unit="sat", options={"mpp": {"amount": value}})),
        (wire.melt_quote_request_from_json, body(request="r", unit="sat", options={"amountless": {"amount_msat": value}})),
    ]
    if value is not None:
        readers += [
            (wire.mint_quote_request_from_json, body(unit="sat", amount=value)),
            (wire.mint_quote_from_json, body(quote="q", request="r", unit="sat", amount=value, state="PAID")),
            (wire.mint_quote_from_json, body(quote="q", request="r", unit="sat", amount_paid=value)),
            (wire.mint_quote_from_json, body(quote="q", request="r", unit="sat", amount_paid=1, amount_issued=value)),
            (wire.mint_quote_from_json, body(quote="q", request="r", unit="sat", amount_paid=1, updated_at=value)),
            (wire.mint_quote_from_json, body(quote="q", request="r", unit="sat", amount_paid=1, expiry=value)),
            (wire.melt_quote_from_json, body(quote="q", request="r", unit="sat", amount=value, state="PAID")),
            (wire.melt_quote_from_json, body(quote="q", request="r", unit="sat", amount=1, fee_reserve=value, state="PAID")),
            (wire.keysets_from_json, body(keysets=[{"id": KEYSET.id, "unit": "sat", "input_fee_ppk": value}])),
        ]
    for read, data in readers:
        with pytest.raises(MalformedError):
            read(data)


@pytest.mark.parametrize("text", ["", "zz" * 33, POINT[:-2], POINT + "00", " " + POINT[1:], POINT[:-2] + "  ", "é" * 66])
def test_points_are_66_characters_of_hex(text: str) -> None:
    """Everywhere; white space that Python's hex would skip counts."""
    for read, data in (
        (wire.swap_request_from_json, body(inputs=[in_(C=text)], outputs=[])),
        (wire.swap_request_from_json, body(inputs=[], outputs=[out(B_=text)])),
        (wire.check_state_request_from_json, body(Ys=[text])),
        (wire.signatures_from_json, body(signatures=[{"amount": 1, "id": KEYSET.id, "C_": text}])),
        (wire.proofs_from_json, json.dumps([in_(C=text)]).encode()),
        (wire.proofs_from_json, json.dumps([in_(p2pk_e=text)]).encode()),
    ):
        with pytest.raises(MalformedError):
            read(data)


def test_points_that_are_multiplied_are_on_the_curve() -> None:
    """B_, C_ and a wallet's C are checked; C of a mint's input is only compared, so its shape suffices.

    So it does for a B_ that the signer reads next: it refuses what is no point (test_signer); and for one that is only looked
    for among those that were signed.
    """
    for read, data in (
        (wire.swap_request_from_json, body(inputs=[], outputs=[out(B_=OFF_CURVE + "00")])),
        (wire.melt_request_from_json, body(quote="q", inputs=[], outputs=[out(B_=OFF_CURVE)])),
        (wire.restore_request_from_json, body(outputs=[out(B_=OFF_CURVE + "00")])),
        (wire.signatures_from_json, body(signatures=[{"amount": 1, "id": KEYSET.id, "C_": OFF_CURVE}])),
        (wire.proofs_from_json, json.dumps([in_(C=OFF_CURVE)]).encode()),
    ):
        with pytest.raises(MalformedError):
            read(data)
    (proof,) = wire.swap_request_from_json(body(inputs=[in_(C=OFF_CURVE)], outputs=[])).inputs
    assert bytes.fromhex(OFF_CURVE) == proof.C
    (output,) = wire.swap_request_from_json(body(inputs=[], outputs=[out(B_=OFF_CURVE)])).outputs
    assert bytes.fromhex(OFF_CURVE) == output.B_
    (looked_for,) = wire.restore_request_from_json(body(outputs=[out(B_=OFF_CURVE)]))
    assert bytes.fromhex(OFF_CURVE) == looked_for.B_


def test_upper_case_hex_is_the_same() -> None:
    """Points and keyset ids in either case; ids in base64 keep theirs."""
    request = wire.swap_request_from_json(
        body(inputs=[in_(C=POINT.upper(), id=KEYSET.id.upper())], outputs=[out(B_=POINT.upper(), id="eGnEWtdJ0PIM")])
    )
    assert (request.inputs[0].C.hex(), request.inputs[0].id) == (POINT, KEYSET.id)
    assert (request.outputs[0].B_.hex(), request.outputs[0].id) == (POINT, "eGnEWtdJ0PIM")
    assert wire.check_state_request_from_json(body(Ys=[POINT.upper()])) == [bytes.fromhex(POINT)]


@pytest.mark.parametrize("identifier", ["", "02" * 33, "keyset_1", "x"])
def test_ids_of_no_known_version_are_unknown_keysets(identifier: str) -> None:
    """12001, as for any keyset a mint does not have."""
    for data in (body(inputs=[in_(id=identifier)], outputs=[]), body(inputs=[], outputs=[out(id=identifier)])):
        with pytest.raises(codes.KeysetUnknownError):
            wire.swap_request_from_json(data)


def test_lengths_are_bounded() -> None:
    """Arrays with their own codes; secrets, witnesses, ids, requests, descriptions and signatures."""
    two_in, two_out = [in_(), in_()], [out(), out()]
    cases: list[tuple[type[RefusedError], Callable[..., object], bytes]] = [
        (codes.TooManyInputsError, wire.swap_request_from_json, body(inputs=two_in, outputs=[])),
        (codes.TooManyOutputsError, wire.swap_request_from_json, body(inputs=[], outputs=two_out)),
        (codes.TooManyInputsError, wire.melt_request_from_json, body(quote="q", inputs=two_in)),
        (codes.TooManyOutputsError, wire.melt_request_from_json, body(quote="q", inputs=[], outputs=two_out)),
        (codes.TooManyOutputsError, wire.mint_request_from_json, body(quote="q", outputs=two_out)),
        (codes.TooManyOutputsError, wire.restore_request_from_json, body(outputs=two_out)),
        (codes.TooManyInputsError, wire.check_state_request_from_json, body(Ys=[POINT, POINT])),
        (MalformedError, wire.signatures_from_json, wire.signatures_to_json([SIGNED, SIGNED])),
        (MalformedError, wire.states_from_json, wire.states_to_json([ProofState(COIN.y, State.SPENT)] * 2)),
        (MalformedError, wire.proofs_from_json, json.dumps(two_in).encode()),
        (MalformedError, wire.swap_request_from_json, body(inputs=[in_(secret="s" * 11)], outputs=[])),
        (MalformedError, wire.swap_request_from_json, body(inputs=[in_(witness="w" * 11)], outputs=[])),
        (MalformedError, wire.swap_request_from_json, body(inputs=[in_(witness={"signatures": []})], outputs=[])),
        (MalformedError, wire.swap_request_from_json, body(inputs=[in_(id="0" * 67)], outputs=[])),
        (MalformedError, wire.mint_request_from_json, body(quote="q" * 256, outputs=[])),
        (MalformedError, wire.mint_request_from_json, body(quote="", outputs=[])),
        (MalformedError, wire.mint_request_from_json, body(quote="q", outputs=[], signature="0" * 129)),
        (MalformedError, wire.melt_quote_request_from_json, body(request="r" * 11, unit="sat")),
        (MalformedError, wire.mint_quote_request_from_json, body(unit="sat", description="d" * 11)),
        (MalformedError, wire.mint_quote_request_from_json, body(unit="u" * 33)),
    ]
    for kind, read, data in cases:
        with pytest.raises(RefusedError) as caught:
            read(data, limits=SMALL)
        assert type(caught.value) is kind, data


def test_errors_do_not_repeat_what_was_read() -> None:
    """A secret in a broken body does not reach logs by way of the error."""
    for data in (body(inputs=[{**in_(), "amount": "hunter2", "secret": "hunter2"}], outputs=[]), b'{"inputs": hunter2}'):
        with pytest.raises(MalformedError) as caught:
            wire.swap_request_from_json(data)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("method", ["", "BOLT11", "a/b", "..", "é", "a" * 65, "bolt11\n"])
def test_methods_are_path_segments(method: str) -> None:
    """Only what NUT-04 allows."""
    with pytest.raises(MalformedError):
        wire.mint_request_from_json(body(quote="q", outputs=[]), method=method)
    assert wire.method_checked("apple-pay_2") == "apple-pay_2"


def test_quote_pubkeys_are_checked_on_request() -> None:
    """A key that nobody could sign for is 20009; upper case becomes lower."""
    assert wire.mint_quote_request_from_json(body(unit="sat", pubkey=POINT.upper())).pubkey == POINT
    with pytest.raises(codes.QuotePubkeyRequiredError):
        wire.mint_quote_request_from_json(body(unit="sat", pubkey=OFF_CURVE))


def test_units_are_lower_case() -> None:
    """`SAT` is `sat`, on both sides."""
    assert wire.mint_quote_request_from_json(body(unit="SAT")).unit == "sat"
    assert wire.keysets_from_json(body(keysets=[{"id": KEYSET.id, "unit": "SAT"}]))[0].unit == "sat"


def test_melt_options_exclude_each_other() -> None:
    """And neither may be zero; null options are none."""
    for options in (
        {"amountless": {"amount_msat": 1}, "mpp": {"amount": 1}},
        {"mpp": {"amount": 0}},
        {"amountless": {"amount_msat": 0}},
    ):
        with pytest.raises(MalformedError):
            wire.melt_quote_request_from_json(body(request="r", unit="sat", options=options))
    for options in (None, {}, {"mpp": None}):
        assert wire.melt_quote_request_from_json(body(request="r", unit="sat", options=options)).mpp_msat is None


def test_melt_requests_may_leave_out_what_is_empty() -> None:
    """No outputs, null outputs, null flag."""
    for more in ({}, {"outputs": None, "prefer_async": None}, {"outputs": [], "prefer_async": False}):
        request = wire.melt_request_from_json(body(quote="q", inputs=[in_()], **more))
        assert (request.outputs, request.prefer_async) == ((), False)


@pytest.mark.parametrize(
    ("fields", "paid", "issued"),
    [
        ({"state": "UNPAID"}, 0, 0),
        ({"state": "PENDING"}, 0, 0),
        ({"state": "PAID"}, 10, 0),
        ({"state": "ISSUED"}, 10, 10),
        ({"state": "UNPAID", "amount_paid": 4}, 4, 0),
        ({"amount_paid": 4, "amount_issued": 3}, 4, 3),
    ],
)
def test_old_mint_quotes_speak_by_state(fields: dict[str, Any], paid: int, issued: int) -> None:
    """The two amounts count where they are; else they follow from the state."""
    quote = wire.mint_quote_from_json(body(quote="q", request="r", **fields), unit="sat", amount_asked=10)
    assert (quote.amount_paid, quote.amount_issued, quote.amount, quote.unit) == (paid, issued, 10, "sat")


@pytest.mark.parametrize("fields", [{}, {"state": "GONE", "amount": 1}, {"state": "PAID"}, {"state": "ISSUED"}])
def test_mint_quotes_must_say_something(fields: dict[str, Any]) -> None:
    """Neither amounts nor a usable state; and a quote without a unit that nobody knows."""
    with pytest.raises(MalformedError):
        wire.mint_quote_from_json(body(quote="q", request="r", unit="sat", **fields))
    with pytest.raises(MalformedError):
        wire.mint_quote_from_json(body(quote="q", request="r", amount_paid=0))


def test_mint_quotes_carry_the_deprecated_state() -> None:
    """Older wallets read it; newer ones the method and the amounts."""
    shape = json.loads(wire.mint_quote_to_json(MINT_QUOTE))
    assert (shape["state"], shape["method"], shape["updated_at"], shape["amount_issued"]) == ("PAID", "bolt11", 11, 7)
    assert (
        wire.mint_quote_from_json(body(quote="q", request="r", unit="sat", amount_paid=0, method="bolt12")).method == "bolt12"
    )


def test_old_melt_answers_are_completed() -> None:
    """From the quote as it was (NUT-08 prints an answer without its id), and the boolean `paid`."""
    answer = wire.melt_quote_from_json(body(paid=True, payment_preimage="00"), quote=MELT_QUOTE)
    assert (answer.quote, answer.amount, answer.fee_reserve, answer.request) == ("q", MAX_AMOUNT, 3, "lnbc1")
    assert (answer.state, answer.change) == (MeltState.PAID, None)
    assert wire.melt_quote_from_json(body(quote="q", amount=1, paid=False), unit="sat", request="r").state == "UNPAID"
    for data in (
        body(amount=1, state="PAID"),
        body(quote="q", state="PAID"),
        body(quote="q", amount=1),
        body(quote="q", amount=1, state="X"),
    ):
        with pytest.raises(MalformedError):
            wire.melt_quote_from_json(data, unit="sat")


def test_key_amounts_are_plain_decimals() -> None:
    """Sorted by number; no zero, sign, space, leading zero or other digits."""
    keys = {"16": POINT, "2": POINT, str(2**64 - 1): POINT}
    (found,) = wire.keys_from_json(body(keysets=[{"id": KEYSET.id, "unit": "sat", "keys": keys}]))
    assert list(found.keys) == [2, 16, 2**64 - 1]
    for name in ("0", "-1", "+1", " 1", "01", "", "1.0", "²", "٣", str(2**64), "9" * 30):
        with pytest.raises(MalformedError):
            wire.keys_from_json(body(keysets=[{"id": KEYSET.id, "unit": "sat", "keys": {name: POINT}}]))
    with pytest.raises(MalformedError):
        wire.keys_from_json(body(keysets=[{"id": KEYSET.id, "unit": "sat", "keys": {str(n): POINT for n in range(1, 5000)}}]))


def test_keysets_of_a_later_version_are_left_out_of_keys() -> None:
    """A mint with another curve beside ours stays usable; the list of keysets still names it."""
    later = {"id": "02" * 33, "unit": "sat", "keys": {"1": "ab" * 96}}
    ours = json.loads(wire.keys_to_json([KEYSET]))["keysets"][0]
    assert wire.keys_from_json(body(keysets=[later, ours])) == [KEYSET]
    assert [item.id for item in wire.keysets_from_json(body(keysets=[later, ours]))] == ["02" * 33, KEYSET.id]


def test_missing_and_null_keyset_fields() -> None:
    """Old mints: no fee is 0, no expiry or 0 is none, no `active` is active."""
    for more in ({}, {"input_fee_ppk": None, "final_expiry": None}, {"input_fee_ppk": 0, "final_expiry": 0}):
        (found,) = wire.keys_from_json(body(keysets=[{"id": KEYSET.id, "unit": "sat", "keys": {"1": POINT}, **more}]))
        assert found == Keyset(id=KEYSET.id, unit="sat", keys={1: bytes.fromhex(POINT)})


def test_restore_answers_align() -> None:
    """Two arrays of one length, under the new or the old name."""
    pairs = json.loads(wire.restore_to_json([(OUTPUT, SIGNED)]))
    old = {"outputs": pairs["outputs"], "promises": pairs["signatures"]}
    assert wire.restore_from_json(body(**old)) == [(OUTPUT, SIGNED)]
    for data in (body(outputs=pairs["outputs"]), body(outputs=[], signatures=pairs["signatures"])):
        with pytest.raises(MalformedError):
            wire.restore_from_json(data)


def test_unknown_states_are_refused() -> None:
    """A state we do not know is not taken for unspent."""
    with pytest.raises(MalformedError):
        wire.states_from_json(body(states=[{"Y": POINT, "state": "LOST"}]))


def test_a_witness_object_becomes_its_text() -> None:
    """Some wallets send the object itself."""
    (proof,) = wire.swap_request_from_json(body(inputs=[in_(witness={"signatures": ["00"]})], outputs=[])).inputs
    assert proof.witness == '{"signatures":["00"]}'


# Errors


def test_errors_cross_the_wire_as_their_class() -> None:
    """Every code, its class and its detail; what has no code is sent as 0 and read as a refusal."""
    for kind in codes.CODES.values():
        answer = wire.error_from_json(wire.error_to_json(kind("why")))
        assert (type(answer), answer.detail, answer.code) == (kind, "why", kind.code)
    plain = wire.error_from_json(wire.error_to_json(MalformedError("no")))
    assert (type(plain), plain.code) == (RefusedError, None)
    assert json.loads(wire.error_to_json(UnavailableError("later"))) == {"detail": "later", "code": 0}


def test_unmet_conditions_have_the_code_of_an_invalid_proof() -> None:
    """There is no official one; peers' own numbers are understood."""
    assert json.loads(wire.error_to_json(codes.ConditionUnmetError()))["code"] == 10001
    assert isinstance(wire.error_from_json(body(detail="x", code=11000)), codes.ConditionUnmetError)
    answer = wire.error_from_json(body(detail="x", code=80001))
    assert (type(answer), answer.code) == (codes.ClearAuthRequiredError, 80001)


@pytest.mark.parametrize(
    ("fields", "code", "detail"),
    [
        ({"detail": "x", "code": "11001"}, 11001, "x"),
        ({"detail": "x", "code": 4242}, 4242, "x"),
        ({"detail": "x"}, None, "x"),
        ({"error": "x", "code": None}, None, "x"),
        ({"detail": [{"msg": "x"}], "code": 11001}, 11001, "the mint gave no reason"),
        ({"code": 11001}, 11001, "the mint gave no reason"),
        ({"detail": "x", "code": True}, None, "x"),
        ({"detail": "x", "code": -5}, None, "x"),
        ({"detail": "x", "code": "soon"}, None, "x"),
        ({"detail": "a\x1b[31m\u202eb\nc"}, None, "a[31mb\nc"),
        ({"detail": "x" * 9999}, None, "x" * 500),
    ],
)
def test_errors_of_other_mints(fields: dict[str, Any], code: int | None, detail: str) -> None:
    """Codes as text or missing, details that are no text; their words are cleaned and cut."""
    answer = wire.error_from_json(body(**fields))
    assert (answer.code, answer.detail) == (code, detail)


@pytest.mark.parametrize("data", [b"<html>", b"[]", b"{}", b""])
def test_what_is_no_error_is_malformed(data: bytes) -> None:
    """A proxy's page is not a mint's refusal."""
    with pytest.raises(MalformedError):
        wire.error_from_json(data)


def test_proofs_of_wallets_are_read_from_text_too() -> None:
    """As stores and payloads hold them."""
    assert wire.proofs_from_json(wire.proofs_to_json([COIN]).decode()) == (COIN,)
    assert isinstance(COIN, Proof)
    assert sign_output(BlindedMessage(1, KEYSET.id, public_key("b"))).dleq is not None


@pytest.mark.parametrize("quote", ["", "q" * 256, "a\0b"])
def test_quote_ids_are_bounded_texts(quote: str) -> None:
    """Empty, too long, or with U+0000 in it, which a store may refuse as if we were wrong: refused at the door."""
    for read in (wire.mint_request_from_json, wire.melt_request_from_json):
        with pytest.raises(MalformedError):
            read(body(quote=quote, outputs=[], inputs=[]))
