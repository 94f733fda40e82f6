"""The vectors of the Cashu specification and of its peers' tests against `specie.ecash`; all from tests/vectors/cashu."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import cbor2
import msgspec
import pytest

from specie.ecash import codes, conditions, dleq, info, keyset, mint_url, p2bk, quote, wire
from specie.ecash.bdhke import hash_to_curve
from specie.ecash.blank import blank_count, change_amounts
from specie.ecash.codes import ConditionMalformedError, ConditionUnmetError, KeysetUnknownError
from specie.ecash.derivation import derive, p2pk_secret_key, quote_secret_key
from specie.ecash.proof import BlindedMessage
from specie.ecash.token import Token, decode_token, decode_token_raw, encode_token, encode_token_raw
from specie.kernel import curve, hd, money
from specie.kernel.encoding import base64url_decode, base64url_encode, hex_checked
from specie.kernel.errors import MalformedError
from tests.support.vectors import FOLDER, each, records

Record = dict[str, Any]
POWERS = [2**exponent for exponent in range(64)]
NOW = 1_800_000_000
OFF_CURVE = "02e2aeb97f47690e3c418592a5bcda77282d1339a3017f5558928c2441b7731d50"
"""A placeholder in the specification's multisig examples; no point has this x, so nobody could sign for it."""
POINT = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"


def test_every_file_is_used_and_well_formed() -> None:
    """No vector file lies here unused, and ids are unique in each."""
    sources = "".join(path.read_text() for path in Path(__file__).parents[1].rglob("test_*.py"))
    for path in FOLDER.glob("*.json"):
        ids = [record["id"] for record in records(path.stem)]
        assert len(ids) == len(set(ids)), path.stem
        assert path.stem in sources, path.stem


# NUT-00


@each("error-codes")
def test_error_code_has_one_class(record: Record) -> None:
    """Each code of the table has a class that carries it, and the class its words."""
    kind = codes.CODES[record["code"]]
    assert kind.code == record["code"]
    assert kind().detail == record["description"]
    assert type(codes.error_from_code(record["code"], "why")) is kind


def test_error_codes_are_complete_and_distinct() -> None:
    """The table of classes has those codes and no others."""
    assert set(codes.CODES) == {record["code"] for record in records("error-codes")}
    assert len(set(codes.CODES.values())) == len(codes.CODES)


@each("nut00-hash-to-curve")
def test_hash_to_curve(record: Record) -> None:
    """Y of a message."""
    assert hash_to_curve(bytes.fromhex(record["message_hex"])).hex() == record["point"]


@each("nut00-blinded-messages")
def test_blinded_message(record: Record) -> None:
    """B_ = Y + rG, on raw bytes as this vector has it (a secret's text is hashed the same way)."""
    point = curve.add((hash_to_curve(bytes.fromhex(record["x_hex"])), curve.public_key(bytes.fromhex(record["r"]))))
    assert point.hex() == record["B_"]


@each("nut00-blind-signatures")
def test_blind_signature(record: Record) -> None:
    """C_ = kB_."""
    assert curve.multiply_secret(bytes.fromhex(record["B_"]), bytes.fromhex(record["k"])).hex() == record["C_"]


def _plain_v3(text: str) -> Any:
    return json.loads(base64url_decode(text.removeprefix("cashuA")))


@each("nut00-tokens-v3")
def test_token_v3(record: Record) -> None:
    """V3 tokens decode to what is printed, and encode to the same JSON; wrong prefixes are refused."""
    if record["kind"] == "invalid":
        with pytest.raises(MalformedError):
            decode_token(record["token"])
        return
    draft = decode_token(record["token"])
    again = encode_token(Token(draft.mint, draft.unit or "", draft.proofs, draft.memo), 3)
    assert _plain_v3(again) == _plain_v3(record["token"]) == record["decoded"]
    if record["kind"] == "roundtrip":
        assert again == record["token"].rstrip("=")


def _shown(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: _shown(item) for key, item in value.items()}
    return [_shown(item) for item in value] if isinstance(value, list) else value


@each("nut00-tokens-v4", kind="roundtrip")
def test_token_v4(record: Record) -> None:
    """V4 tokens decode, and encode to the same bytes."""
    draft = decode_token(record["token"])
    again = encode_token(Token(draft.mint, draft.unit or "", draft.proofs, draft.memo))
    assert again == record["token"].rstrip("=")
    assert base64url_decode(again.removeprefix("cashuB")).hex() == record["cbor_hex"]
    assert _shown(cbor2.loads(bytes.fromhex(record["cbor_hex"]))) == record["decoded"]


@each("nut00-tokens-v4", kind="raw")
def test_token_raw(record: Record) -> None:
    """The binary form decodes, and encodes to the same bytes."""
    draft = decode_token_raw(bytes.fromhex(record["raw_hex"]))
    assert encode_token_raw(Token(draft.mint, draft.unit or "", draft.proofs, draft.memo)).hex() == record["raw_hex"]


@each("peer-mint-urls")
def test_mint_url(record: Record) -> None:
    """URLs have one normal form, and are joined with one slash."""
    if "join" in record:
        assert mint_url.join_url(record["base"], *record["join"]) == record["result"]
    else:
        assert mint_url.mint_url_checked(record["input"]) == record["normalised"]


# NUT-01, NUT-02


def _keys_body(keys: dict[str, str], identifier: str = "00456a94ab4e1c46", **more: Any) -> bytes:
    return json.dumps({"keysets": [{"id": identifier, "unit": "sat", "keys": keys, **more}]}).encode()


@each("nut01-keysets")
def test_keyset_keys(record: Record) -> None:
    """Keys of wrong length or form are refused; amounts reach 2^63 exactly."""
    if not record["valid"]:
        with pytest.raises(MalformedError):
            wire.keys_from_json(_keys_body(record["keys"]))
        return
    (found,) = wire.keys_from_json(_keys_body(record["keys"]))
    assert {str(amount): key.hex() for amount, key in found.keys.items()} == record["keys"]
    assert list(found.keys) == sorted(found.keys)


@each("nut01-minor-units")
def test_minor_unit(record: Record) -> None:
    """Each unit is shown with its own number of decimals."""
    assert money.decimals(record["unit"]) == record["minor_unit"]


@each("nut02-fees")
def test_fee(record: Record) -> None:
    """The fee is rounded up once, over all inputs."""
    assert keyset.fee_for(ppk for ppk, count in record["inputs"] for _ in range(count)) == record["expected_fee"]


@each("nut02-keyset-ids")
def test_keyset_id(record: Record) -> None:
    """Ids of both versions, with and without fee and expiry; they verify, and shorten."""
    body = _keys_body(
        record["keys"],
        record["keyset_id"],
        input_fee_ppk=record.get("input_fee_ppk"),
        final_expiry=record.get("final_expiry"),
    )
    (found,) = wire.keys_from_json(body)
    assert found.id == record["keyset_id"]
    keyset.verify_keyset_id(found)
    assert keyset.short_keyset_id(found.id) == record.get("short_id", found.id)


@each("peer-keyset-id-parsing")
def test_keyset_id_parsing(record: Record) -> None:
    """Full and short ids parse or are refused as peers decided, and short ones find the one they name."""
    match record["op"]:
        case "to_short":
            assert keyset.short_keyset_id(record["value"]) == record["result"]
        case "resolve" if record["result"] is None:
            with pytest.raises((MalformedError, KeysetUnknownError)):
                keyset.resolve_keyset_id(record["short"], record["known"])
        case "resolve":
            assert keyset.resolve_keyset_id(record["short"], record["known"]) == record["result"]
        case operation:
            parse = keyset.keyset_id_checked if operation == "parse_full" else keyset.short_keyset_id_checked
            if record["ok"]:
                assert parse(record["value"]) == record["value"].lower()
            else:
                with pytest.raises(MalformedError):
                    parse(record["value"])


@each("peer-pubkeys")
def test_public_key(record: Record) -> None:
    """Keys are 33-byte curve points in hex of either case; their canonical form is lower case."""
    if "keys" in record:
        first, second = (hex_checked(key, 33) for key in record["keys"])
        assert (curve.x_only(first) != curve.x_only(second)) is record["distinct"]
        return
    if record["valid"]:
        assert quote.quote_pubkey_checked(record["pubkey"]) == record["canonical"]
    else:
        with pytest.raises(codes.QuotePubkeyRequiredError):
            quote.quote_pubkey_checked(record["pubkey"])


# NUT-04, NUT-08


@each("nut04-method-names")
def test_method_name(record: Record) -> None:
    """A method without a name of its own is shown in title case."""
    assert info.method_name(record["method"]) == record["method_name"]


@each("nut08-blank-outputs")
def test_blank_outputs(record: Record) -> None:
    """How many blank outputs a reserve needs, and how change is written on them."""
    assert blank_count(record["fee_reserve"]) == record["n_blank_outputs"]
    if "change" in record:
        assert change_amounts(record["change"], record["n_blank_outputs"], POWERS) == record["change_amounts"]


# NUT-10, NUT-11, NUT-14


@each("nut10-tags")
def test_tag(record: Record) -> None:
    """A tag is an array of one or more texts that are not empty."""
    text = json.dumps(["P2PK", {"nonce": "00", "data": POINT, "tags": [record["tag"]]}])
    if record["valid"]:
        secret = conditions.parse_well_known_secret(text)
        assert secret is not None
        assert secret.tags == (tuple(record["tag"]),)
    else:
        with pytest.raises(ConditionMalformedError):
            conditions.parse_secret(text)


def _is_well_known(text: str) -> bool:
    try:
        return conditions.parse_well_known_secret(text) is not None
    except ConditionMalformedError:
        return False


@pytest.mark.parametrize(
    "record", [item for item in records("peer-nut10-secrets") if "secret" in item], ids=lambda record: str(record["id"])
)
def test_well_known_secret(record: Record) -> None:
    """What has the form of NUT-10, and what has not; and nothing that begins as P2PK or HTLC passes as ordinary."""
    assert _is_well_known(record["secret"]) is record["parses"]
    if not record["parses"] and record["secret"].startswith(('["P2PK"', '["HTLC"')):
        with pytest.raises(ConditionMalformedError):
            conditions.parse_secret(record["secret"])


@pytest.mark.parametrize("text", next(r["not_integers"] for r in records("peer-nut10-secrets") if "not_integers" in r))
def test_tag_number(text: str) -> None:
    """A number in a tag is never read from a prefix: n_sigs is malformed then, a locktime is no time."""
    secret = ["P2PK", {"nonce": "00", "data": POINT, "tags": [["n_sigs", text]]}]
    with pytest.raises(ConditionMalformedError):
        conditions.parse_secret(json.dumps(secret))
    secret[1]["tags"] = [["locktime", text]]  # type: ignore[index]
    condition = conditions.parse_secret(json.dumps(secret))
    assert condition is not None
    assert condition.locktime is None


@each("nut11-key-canonicalisation")
def test_keys_are_compared_by_x(record: Record) -> None:
    """02 and 03 of one x, in any case, are one key: twice in a pathway is malformed, once in each is not."""
    if "keys" in record:
        assert len({curve.x_only(hex_checked(key, 33)) for key in record["keys"]}) == 1
        return
    tags = [[name, *record[name]] for name in ("pubkeys", "refund") if name in record] + [["locktime", "1"]]
    text = json.dumps(["P2PK", {"nonce": "00", "data": record["data"], "tags": tags}])
    if record["malformed"]:
        with pytest.raises(ConditionMalformedError):
            conditions.parse_secret(text)
    else:
        assert conditions.parse_secret(text) is not None


@each("nut11-p2pk-proofs")
def test_p2pk_proof(record: Record) -> None:
    """The message that SIG_INPUTS signs, and the verdict."""
    proofs = wire.proofs_from_json(json.dumps([record["proof"]]))
    assert conditions.sig_inputs_message(proofs[0]).decode() == record["message"]
    assert conditions.sig_inputs_digest(proofs[0]).hex() == record["message_sha256"]
    if record["expected_valid"]:
        conditions.verify_spend(proofs, (), None, NOW)
    else:
        with pytest.raises(ConditionUnmetError):
            conditions.verify_spend(proofs, (), None, NOW)


@each("nut11-sig-all")
def test_sig_all(record: Record) -> None:
    """The message that SIG_ALL signs for swaps and melts, P2PK and HTLC, and the verdict."""
    body = json.dumps(record["request"]).encode()
    quote_id = None
    if record["type"] == "swap":
        swap = wire.swap_request_from_json(body)
        inputs, outputs = swap.inputs, swap.outputs
    else:
        melt = wire.melt_request_from_json(body)
        inputs, outputs, quote_id = melt.inputs, melt.outputs, melt.quote
    assert conditions.sig_all_message(inputs, outputs, quote_id).decode() == record["message"]
    assert conditions.sig_all_digest(inputs, outputs, quote_id).hex() == record["message_sha256"]
    if record["expected_valid"]:
        conditions.verify_spend(inputs, outputs, quote_id, NOW)
    else:
        with pytest.raises(ConditionUnmetError):
            conditions.verify_spend(inputs, outputs, quote_id, NOW)


@each("peer-htlc-preimages")
def test_preimage(record: Record) -> None:
    """A preimage is 32 bytes in hex, and its bytes are hashed."""
    assert conditions.is_preimage(record["preimage"], bytes.fromhex(record["hash"])) is record["valid"]


@each("nut14-htlc")
def test_htlc(record: Record) -> None:
    """Hash of a preimage; the secrets printed in NUT-14, of which one has a key that is on no curve."""
    if record["kind"] == "hash":
        assert hashlib.sha256(bytes.fromhex(record["preimage"])).hexdigest() == record["hash"]
        assert conditions.is_preimage(record["preimage"], bytes.fromhex(record["hash"]))
        return
    text = json.dumps(record["secret"])
    if OFF_CURVE in text:
        with pytest.raises(ConditionMalformedError):
            conditions.parse_secret(text)
    condition = conditions.parse_secret(text.replace(OFF_CURVE, POINT))
    assert condition is not None
    assert condition.kind == "HTLC"
    assert condition.locktime == 1689418329


# NUT-12, NUT-13


@each("nut12-dleq")
def test_dleq(record: Record) -> None:
    """Challenge, deterministic proof, and both checks."""
    hexes = {"a", "A", "B_", "C_", "R1", "R2", "K", "e", "s", "hash"}
    raw = {name: bytes.fromhex(value) for name, value in record.items() if name in hexes}
    match record["kind"]:
        case "hash_e":
            assert dleq.hash_e((raw["R1"], raw["R2"], raw["K"], raw["C_"])) == raw["hash"]
        case "deterministic":
            made = dleq.prove(raw["a"], raw["A"], raw["B_"], raw["C_"])
            assert (made.e, made.s) == (raw["e"], raw["s"])
            dleq.verify_dleq(raw["B_"], raw["C_"], made, raw["A"])
        case "blind_signature":
            body = json.dumps({"signatures": [record["blind_signature"]]}).encode()
            (signature,) = wire.signatures_from_json(body)
            assert signature.dleq is not None
            dleq.verify_dleq(raw["B_"], signature.C_, signature.dleq, raw["A"])
        case "proof":
            (proof,) = wire.proofs_from_json(json.dumps([record["proof"]]))
            dleq.verify_proof_dleq(proof, raw["A"])
            assert proof.y.hex() == record["reconstructed"]["Y"]
        case kind:
            pytest.fail(f"unknown kind {kind}")


@each("nut13-deterministic-secrets")
def test_deterministic_secret(record: Record) -> None:
    """Secret and blinding factor of both keyset versions, from the words."""
    seed = hd.seed_from_words(record["mnemonic"])
    assert seed.hex() == record["seed_hex"]
    secret, r = derive(seed, record["keyset_id"], record["counter"])
    assert (secret, r.hex()) == (record["secret"], record["r"])


@each("draft-derived-keys", scheme="bip32")
def test_derived_key(record: Record) -> None:
    """Wallet keys for P2PK and quote locks, as merged since July 2026. The HMAC records were never merged."""
    seed = hd.seed_from_words(record["mnemonic"])
    counter = int(record["path"].rsplit("/", 1)[1])
    make = p2pk_secret_key if "NUT-11" in record["use"] else quote_secret_key
    assert curve.public_key(make(seed, counter)).hex() == record["pubkey"]


# NUT-28


@each("nut28-p2bk", kind="slot")
def test_blinded_slot(record: Record) -> None:
    """Sender and receiver reach the same key of each slot, from opposite ends of one ECDH; the parity rule picks the scalar."""
    e, p, named = (bytes.fromhex(record[name]) for name in ("e", "p", "P"))
    ephemeral, slot = bytes.fromhex(record["E"]), record["slot"]
    assert curve.public_key(e) == ephemeral
    assert p2bk.shared_x(named, e).hex() == p2bk.shared_x(ephemeral, p).hex() == record["Zx"]
    assert p2bk.blinding_scalar(bytes.fromhex(record["Zx"]), slot).hex() == record["r"]
    blinded = p2bk.blind_key(named, e, slot)
    assert blinded.hex() == record["blinded_pubkey"]
    k = p2bk.unblinded_secret(blinded, p, bytes.fromhex(record["Zx"]), slot)
    assert k is not None
    assert k.hex() == record[f"sk_{record['correct']}"]
    assert curve.public_key(k) == blinded


@each("nut28-p2bk", kind="proof")
def test_blinded_proof(record: Record) -> None:
    """A coin with p2pk_e is read, and its receiver's key is that of the slot."""
    (proof,) = wire.proofs_from_json(json.dumps([record["proof"]]).encode())
    condition = conditions.parse_secret(proof.secret)
    assert condition is not None
    assert proof.p2pk_e is not None
    secret = bytes.fromhex(record["receiver_privkey"])
    k = p2bk.unblinded_secret(condition.keys[0], secret, p2bk.shared_x(proof.p2pk_e, secret), record["slot"])
    assert k is not None
    assert curve.public_key(k) == condition.keys[0]


# NUT-20


def _outputs(request: Record) -> list[BlindedMessage]:
    return [BlindedMessage(item["amount"], item["id"], bytes.fromhex(item["B_"])) for item in request["outputs"]]


@each("nut20-mint-quote-signatures")
def test_quote_signature_legacy(record: Record) -> None:
    """The form of before July 2026: its message, and that it is still accepted (the prose example never verified)."""
    request = record["request"]
    outputs = _outputs(request)
    message = quote.quote_signature_message(request["quote"], outputs, version=quote.LEGACY_SIGNATURE_VERSION)
    assert message.decode() == record["message"]
    assert quote.quote_signature_digests(request["quote"], outputs)[1].hex() == record["message_sha256"]
    if record["expected_valid"]:
        quote.verify_quote_signature(record["pubkey"], request["signature"], request["quote"], outputs)
    else:
        with pytest.raises(codes.QuoteSignatureInvalidError):
            quote.verify_quote_signature(record["pubkey"], request["signature"], request["quote"], outputs)


@each("draft-nut20-nut29-signature-v1")
def test_quote_signature_v1(record: Record) -> None:
    """The form that was merged: its message, and that a signature on it is accepted, for one quote and in a batch."""
    request = record["request"]
    quote_id = request.get("quote") or record["quote"]
    signature = request.get("signature") or request["signatures"][0]
    outputs = _outputs(request)
    assert quote.quote_signature_message(quote_id, outputs).hex() == record["message_hex"]
    assert quote.quote_signature_digests(quote_id, outputs)[0].hex() == record["message_sha256"]
    quote.verify_quote_signature(record["pubkey"], signature, quote_id, outputs)
    with pytest.raises(codes.QuoteSignatureInvalidError):
        quote.verify_quote_signature(record["pubkey"], signature, quote_id, outputs, versions=(quote.LEGACY_SIGNATURE_VERSION,))


@each("nut29-batch-mint", kind="signature")
def test_quote_signature_of_a_batch(record: Record) -> None:
    """The legacy signature of NUT-29: valid for the repaired quote id, invalid as printed."""
    signature = record["request"]["signatures"][0]
    outputs = _outputs(record["request"])
    body = json.dumps(record["request"]).encode()
    assert wire.mint_batch_request_from_json(body, method="bolt11").outputs == tuple(outputs)
    if record["expected_valid"]:
        quote.verify_quote_signature(record["pubkey"], signature, record["quote"], outputs)
    else:
        with pytest.raises(codes.QuoteSignatureInvalidError):
            quote.verify_quote_signature(record["pubkey"], signature, record["quote"], outputs)


# Whole bodies


def _json(record: Record) -> bytes:
    return json.dumps(record.get("json", record.get("example"))).encode()


def _read_shape(record: Record) -> object:
    """The reader for one of the peers' bodies."""
    name, value, body = record["id"], record["json"], _json(record)
    match name.removeprefix("fuzz_").split("-")[0]:
        case "restore":
            return wire.restore_from_json(body)
        case "keys" if "keys" in value["keysets"][0]:
            return wire.keys_from_json(body)
        case "keys":
            return wire.keysets_from_json(body)
        case "swap_request":
            return wire.swap_request_from_json(body)
        case "melt_request":
            return wire.melt_request_from_json(body)
        case "dleq" if "r" in value:
            proof = {"amount": 1, "id": "009a1f293253e41e", "secret": "s", "C": POINT, "dleq": value}
            return wire.proofs_from_json(json.dumps([proof]))
        case "dleq":
            signature = {"amount": 1, "id": "009a1f293253e41e", "C_": POINT, "dleq": value}
            return wire.signatures_from_json(json.dumps({"signatures": [signature]}).encode())
        case "blind_signature" if "B_" in value:
            return wire.restore_request_from_json(json.dumps({"outputs": [value]}).encode())
        case "blind_signature":
            return wire.signatures_from_json(json.dumps({"signatures": [value]}).encode())
        case "spending_conditions" if name.endswith("tags"):
            return conditions.parse_secret(json.dumps(["P2PK", {"nonce": "00", "data": POINT, "tags": value}]))
        case "spending_conditions":
            return conditions.parse_secret(body.decode())
        case "proof" | "p2pk_witness" | "htlc_witness" | "witness" if isinstance(value, dict) and "C" not in value:
            return conditions.parse_witness(body.decode())
        case "proof":
            return wire.proofs_from_json(body if isinstance(value, list) else b"[" + body + b"]")
    raise LookupError(name)


@each("peer-json-shapes", must_parse=True)
def test_peer_body(record: Record) -> None:
    """Bodies that another implementation reads are read here: nulls, absent fields, old ids, witnesses as objects."""
    assert _read_shape(record) is not None


NOT_BUILT = "a feature that is not built here: "
EXAMPLES: dict[str, str] = {
    "nut18-4": "the text of this request is tested as nut18-payment-requests",
    "nut26-0": "a sketch, whose fields have other names than those of NUT-18",
    "nut26-1": "the text of this request is tested as nut26-payment-requests",
    "nut27-3": "an event of Nostr whose signature and content are not printed whole",
    "nut11-8": "two keys, tested as nut11-key-canonicalisation",
    "nut11-9": "two keys, tested as nut11-key-canonicalisation",
    "nut11-6": "a refund key in it is on no curve: a test of its own sees it refused, and read with another key",
    "nut14-5": "a refund key in it is on no curve: a test of its own sees it refused, and read with another key",
    "nut17-5": "an array of shortened ids",
    "nut29-8": "text where signatures belong",
}
"""Why an example of the specification is not read as a body: by id, or by NUT."""


def _read_example(record: Record) -> object:
    """The reader for one of the specification's examples, by what stands in it."""
    value, body = record["example"], _json(record)
    match value:
        case {"detail": _, "code": _}:
            return wire.error_from_json(body)
        case {"token": _}:
            return decode_token("cashuA" + base64url_encode(body))
        case {"keysets": [{"keys": _}, *_]}:
            return wire.keys_from_json(body)
        case {"keysets": _}:
            return wire.keysets_from_json(body)
        case {"nuts": _}:
            return wire.info_from_json(body)
        case {"states": _}:
            return wire.states_from_json(body)
        case {"signatures": _}:
            return wire.signatures_from_json(body)
        case {"secret": _, "C": _}:
            return wire.proofs_from_json(b"[" + body + b"]")
        case {"jsonrpc": _, "method": _, "id": _}:
            return wire.rpc_request_from_json(body)
        case {"jsonrpc": _}:
            return wire.rpc_message_from_json(body)
        case ["P2PK" | "HTLC", _]:
            return conditions.parse_secret(body.decode())
        case {"quote": _, "fee_reserve": _} | {"quote": _, "fee_options": _} | {"change": _}:
            known = quote.MeltQuote("q", "bolt11", "lnbc", "sat", 10, 2)
            return wire.melt_quote_from_json(body, quote=known)
        case {"quote": _}:
            return wire.mint_quote_from_json(body, unit="sat", amount_asked=10)
        case [{"quote": _}, *_]:
            return [wire.mint_quote_from_json(json.dumps(item).encode()) for item in value]
        case {"mints": [*_], "timestamp": _}:
            return wire.mint_list_from_json(body)
        case {"method": _, "unit": _}:
            return msgspec.convert(value, info.MethodSetting)
        case dict():
            return wire.info_from_json(json.dumps({"nuts": value}).encode())
    raise LookupError(record["id"])


@each("spec-json-examples")
def test_specification_example(record: Record) -> None:
    """Every concrete body printed in the specification is read, save those with a reason above."""
    if reason := EXAMPLES.get(record["id"], EXAMPLES.get(f"nut{record['nut']}", "")):
        pytest.skip(reason)
    assert _read_example(record) is not None


@pytest.mark.parametrize("name", ["nut11-6", "nut14-5"])
def test_specification_multisig_example(name: str) -> None:
    """With a real key in place of the one that is on no curve, the multisig examples are read; as printed they are refused."""
    text = next(json.dumps(record["example"]) for record in records("spec-json-examples") if record["id"] == name)
    with pytest.raises(ConditionMalformedError):
        conditions.parse_secret(text)
    condition = conditions.parse_secret(text.replace(OFF_CURVE, curve.public_key(b"\x07" * 32).hex()))
    assert condition is not None
    assert condition.n_sigs == 2
