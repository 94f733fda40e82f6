"""Mutated bytes for every parser of `ecash`: each answers with a value or with a refusal, never with another exception.

The seeds are files in corpus/ecash/<parser>/; a file that once broke a parser is added there and stays. Mutation is
seeded by the file's name, so a failure comes back; `SPECIE_FUZZ_ROUNDS` raises the budget. What is accepted is written
and read again, and must be the same.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cbor2
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specie.ecash import wire
from specie.ecash.codes import ConditionUnmetError
from specie.ecash.conditions import parse_secret, parse_witness, verify_spend
from specie.ecash.keyset import resolve_keyset_id, short_keyset_id_checked
from specie.ecash.liabilities import (
    CommitmentBrokenError,
    ConsistencyProof,
    Evidence,
    Side,
    SumNode,
    verify_consistency,
    verify_epoch,
    verify_evidence,
    verify_inclusion,
    verify_successor,
)
from specie.ecash.mint_url import mint_url_checked
from specie.ecash.proof import Proof
from specie.ecash.requests import decode_payment_request, encode_payment_request
from specie.ecash.subscription import Notification, RpcError, RpcResult, SubscriptionKind
from specie.ecash.token import Token, TokenDraft, decode_token, decode_token_raw, encode_token, encode_token_raw
from specie.kernel.encoding import base64url_decode, base64url_encode, bech32_decode, bech32_encode, convert_bits
from specie.kernel.errors import RefusedError
from specie.kernel.money import MAX_AMOUNT

ROOT = Path(__file__).parent / "corpus" / "ecash"
ROUNDS = int(os.environ.get("SPECIE_FUZZ_ROUNDS", "60"))
Parser = Callable[[bytes], object]


def both_ways(read: Callable[..., Any], write: Callable[[Any], bytes]) -> Parser:
    """A parser whose accepted values are written and read again."""

    def judge(data: bytes) -> object:
        value = read(data)
        assert read(write(value)) == value
        check_amounts(value)
        return value

    return judge


def check_amounts(value: object) -> None:
    """Every number named like an amount, anywhere in a value, is an unsigned 64-bit integer."""
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            item = getattr(value, name)
            if "amount" in name and item is not None:
                assert type(item) is int
                assert 0 <= item <= MAX_AMOUNT
            check_amounts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            check_amounts(item)


def as_text(data: bytes) -> str:
    """Text as a decoder would hand it on; what is no UTF-8 does not reach the parser."""
    return data.decode(errors="replace")


def judge_token(data: bytes) -> object:
    """Text, V3 and V4."""
    draft = decode_token(as_text(data))
    check_token(draft)
    if draft.version == 3:
        again = decode_token(encode_token(Token(draft.mint, draft.unit or "sat", draft.proofs, draft.memo), 3))
        assert again.proofs == draft.proofs
    return draft


def judge_token_raw(data: bytes) -> object:
    """Bytes."""
    draft = decode_token_raw(data)
    check_token(draft)
    if all(len(proof.id) == 66 or proof.id.startswith("00") for proof in draft.proofs):
        again = decode_token_raw(
            encode_token_raw(Token(draft.mint, draft.unit or "", draft.proofs, draft.memo), short_ids=False)
        )
        assert sorted(again.proofs, key=lambda proof: proof.secret) == sorted(draft.proofs, key=lambda proof: proof.secret)
    return draft


def check_token(draft: TokenDraft) -> None:
    """What every reader of a token may rely on."""
    check_amounts(draft)
    assert draft.proofs
    assert mint_url_checked(draft.mint) == draft.mint
    assert len({proof.secret for proof in draft.proofs}) == len(draft.proofs)


def judge_payment_request(data: bytes) -> object:
    """Every text of a request; what is accepted is written in both forms, where the second has words for it."""
    request = decode_payment_request(as_text(data))
    check_amounts(request)
    assert request.unit is not None or request.amount is None
    assert decode_payment_request(encode_payment_request(request)) == request
    try:
        text = encode_payment_request(request, "creqB")
    except RefusedError:
        return request
    again = decode_payment_request(text)
    assert (again.id, again.amount, again.unit, again.mints) == (request.id, request.amount, request.unit, request.mints)
    assert encode_payment_request(again, "creqB") == text
    return request


def judge_secret(data: bytes) -> object:
    """A lock is a lock: without a witness, before any locktime, a coin with a condition is never spendable."""
    text = as_text(data)
    condition = parse_secret(text)
    if condition is not None:
        assert len(condition.keys) >= condition.n_sigs
        with pytest.raises(ConditionUnmetError):
            verify_spend([Proof(1, "00" * 8, text, b"\x02" * 33)], (), None, 0)
    return condition


def judge_witness(data: bytes) -> object:
    """Parsed, and judged on a real lock that it does not open."""
    text = as_text(data)
    witness = parse_witness(text)
    lock = '["P2PK",{"nonce":"00","data":"0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"}]'
    with pytest.raises(RefusedError):
        verify_spend([Proof(1, "00" * 8, lock, b"\x02" * 33, text)], (), None, 0)
    return witness


def judge_message(data: bytes) -> object:
    """A mint's message, and the payload of its news read as each kind."""
    message = wire.rpc_message_from_json(data)
    assert isinstance(message, RpcResult | RpcError | Notification)
    if isinstance(message, Notification):
        for kind in ("proof_state", "bolt11_mint_quote", "bolt11_melt_quote"):
            try:
                check_amounts(wire.payload_from_json(message.payload, SubscriptionKind.parse(kind), unit="sat", amount_asked=1))
            except RefusedError:
                continue
    return message


def judge_keyset_id(data: bytes) -> object:
    """Parsed, and looked up."""
    text = short_keyset_id_checked(as_text(data))
    return resolve_keyset_id(text, [text])


def judge_epochs(data: bytes) -> object:
    """Read, written again, and judged by themselves and as a chain."""
    epochs = both_ways(wire.epochs_from_json, wire.epochs_to_json)(data)
    assert isinstance(epochs, tuple)
    for epoch in epochs:
        with contextlib.suppress(CommitmentBrokenError):
            verify_epoch(epoch, b"\x02" + b"\x11" * 32)
    for before, after in itertools.pairwise(epochs):
        with contextlib.suppress(CommitmentBrokenError):
            verify_successor(before, after)
    return epochs


def judge_inclusion(data: bytes) -> object:
    """Read, written again, and held against logs of several sizes: it never holds for a root of zeros."""
    proofs = both_ways(wire.inclusion_from_json, wire.inclusion_to_json)(data)
    assert isinstance(proofs, tuple)
    for proof in proofs:
        for size in (0, 1, 3, 2**63 - 1):
            with pytest.raises(CommitmentBrokenError):
                verify_inclusion(proof, size, SumNode(bytes(32), 1))
    return proofs


def judge_consistency(data: bytes) -> object:
    """Read, written again, and held against roots of zeros."""
    proof = both_ways(wire.consistency_from_json, wire.consistency_to_json)(data)
    assert isinstance(proof, ConsistencyProof)
    with pytest.raises(CommitmentBrokenError):
        verify_consistency(proof, (proof.old_size, SumNode(bytes(32), 1)), (proof.new_size, SumNode(bytes(32), 1)))
    return proof


def judge_evidence(data: bytes) -> object:
    """Read, written again; what verifies is of the key that signed the seeds, whatever was changed."""
    evidence = both_ways(wire.evidence_from_json, wire.evidence_to_json)(data)
    assert isinstance(evidence, Evidence)
    with contextlib.suppress(CommitmentBrokenError):
        verify_evidence(evidence)
    return evidence


PARSERS: dict[str, Parser] = {
    "swap": both_ways(wire.swap_request_from_json, wire.swap_request_to_json),
    "mint": both_ways(wire.mint_request_from_json, wire.mint_request_to_json),
    "melt": both_ways(wire.melt_request_from_json, wire.melt_request_to_json),
    "mint_quote_request": both_ways(wire.mint_quote_request_from_json, wire.mint_quote_request_to_json),
    "melt_quote_request": both_ways(wire.melt_quote_request_from_json, wire.melt_quote_request_to_json),
    "checkstate": both_ways(wire.check_state_request_from_json, wire.check_state_request_to_json),
    "restore_request": both_ways(wire.restore_request_from_json, wire.restore_request_to_json),
    "keys": both_ways(wire.keys_from_json, wire.keys_to_json),
    "keysets": both_ways(wire.keysets_from_json, wire.keysets_to_json),
    "signatures": both_ways(wire.signatures_from_json, wire.signatures_to_json),
    "states": both_ways(wire.states_from_json, wire.states_to_json),
    "restore": both_ways(wire.restore_from_json, wire.restore_to_json),
    "payment_payload": both_ways(wire.payment_payload_from_json, wire.payment_payload_to_json),
    "mint_list": both_ways(wire.mint_list_from_json, lambda found: wire.mint_list_to_json(*found)),
    "proofs": both_ways(wire.proofs_from_json, wire.proofs_to_json),
    "mint_quote": both_ways(wire.mint_quote_from_json, wire.mint_quote_to_json),
    "melt_quote": both_ways(wire.melt_quote_from_json, wire.melt_quote_to_json),
    "info": both_ways(wire.info_from_json, wire.info_to_json),
    "error": lambda data: wire.error_to_json(wire.error_from_json(data)),
    "rpc_request": both_ways(wire.rpc_request_from_json, wire.rpc_request_to_json),
    "rpc_message": judge_message,
    "token": judge_token,
    "token_raw": judge_token_raw,
    "payment_request": judge_payment_request,
    "secret": judge_secret,
    "witness": judge_witness,
    "mint_url": lambda data: mint_url_checked(as_text(data)),
    "keyset_id": judge_keyset_id,
    "epochs": judge_epochs,
    "leaves": both_ways(wire.leaves_from_json, wire.leaves_to_json),
    "inclusion": judge_inclusion,
    "consistency": judge_consistency,
    "evidence": judge_evidence,
    "proof_request": lambda data: wire.proof_request_from_json(data, Side.ISSUED, most=10),
    "quote_lookup": both_ways(
        lambda data: wire.quote_lookup_from_json(data, method="bolt11"), lambda asked: wire.quote_lookup_to_json(asked)
    ),
    "quote_page": both_ways(lambda data: wire.quote_page_from_json(data, method="bolt11"), wire.quote_page_to_json),
}
FIELDS = "amount id secret C B_ C_ inputs outputs signatures witness quote request unit state keys keysets dleq".split()  # noqa: SIM905
CORPUS = sorted(path for path in ROOT.glob("*/*") if path.is_file())

NASTY: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**63, 2**64 - 1, 2**64, 10**30, 0.5, 1.0, "", "0", " ", "é", "\x00", "\ud83d\ude00",
    "02" + "ff" * 32,
    "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798", "f" * 64, "1" * 5000, [], {}, [[]], [None] * 3,
    {"a": 1}, "SIG_ALL", "PAID", "cashuB", "99999999999999999999", "http://", "\u202e",
)  # fmt: skip


def twist(source: random.Random, value: Any, depth: int = 0) -> Any:
    """One change somewhere in a decoded body: a value replaced, an item gone, doubled, moved or buried."""
    if depth < 6 and isinstance(value, dict) and value and source.random() < 0.85:
        copy = dict(value)
        key = source.choice(list(copy))
        match source.randrange(8):
            case 0:
                del copy[key]
            case 1:
                copy[source.choice([*copy, "amount", "id", "witness", "x"])] = copy[key]
            case 2:
                copy[key] = source.choice(NASTY)
            case _:
                copy[key] = twist(source, copy[key], depth + 1)
        return copy
    if depth < 6 and isinstance(value, list) and value and source.random() < 0.85:
        place = source.randrange(len(value))
        match source.randrange(8):
            case 0:
                return value[:place] + value[place + 1 :]
            case 1:
                return [*value, value[place]]
            case 2:
                return [*value[:place], source.choice(NASTY), *value[place + 1 :]]
            case _:
                return [*value[:place], twist(source, value[place], depth + 1), *value[place + 1 :]]
    if isinstance(value, str) and value and source.random() < 0.5:
        place = source.randrange(len(value))
        return value[:place] + source.choice(("", "0", "A", "\u00e9", value[: place + 1])) + value[place + 1 :]
    if isinstance(value, bytes) and source.random() < 0.7:
        return scramble(source, value)
    if isinstance(value, int) and source.random() < 0.5:
        return value + source.choice((-1, 1, 2**32, 2**64))
    return source.choice((*NASTY, [value], {"x": value}))


def scramble(source: random.Random, data: bytes) -> bytes:
    """One change to bytes: flipped, cut, doubled, filled in."""
    place = source.randrange(len(data) + 1)
    match source.randrange(6):
        case 0:
            return data[:place]
        case 1:
            return data[:place] + bytes((source.randrange(256),)) + data[place + 1 :]
        case 2:
            return data[:place] + data[place + source.randint(1, 9) :]
        case 3:
            return data[:place] + data[max(place - 20, 0) : place] + data[place:]
        case 4:
            return (
                data[:place]
                + source.choice((b"[" * 2000, b'"', b"\xff", b"\x00", b"9" * 400, b"\\u0050", b",", b"}", b"="))
                + data[place:]
            )
        case _:
            return data[:place] + source.randbytes(source.randint(1, 8)) + data[place:]


def mutants(source: random.Random, name: str, seed: bytes) -> list[bytes]:
    """Half byte by byte, half through the structure where there is one, which gets past the outermost parser."""
    found: list[bytes] = []
    for _ in range(ROUNDS):
        data = seed
        for _ in range(source.randint(1, 3)):
            data = (source.random() < 0.6 and restructure(source, name, data)) or scramble(source, data)
        found.append(data)
    return found


def restructure(source: random.Random, name: str, data: bytes) -> bytes | None:
    """A change to the decoded body, encoded again; None where it does not decode."""
    try:
        if name == "token_raw":
            return data[:5] + cbor2.dumps(twist(source, cbor2.loads(data[5:])))
        if name == "token" and data[:6] == b"cashuB":
            body = cbor2.dumps(twist(source, cbor2.loads(base64url_decode(data[6:].decode()))))
            return b"cashuB" + base64url_encode(body).encode()
        if name == "payment_request":
            return restructure_request(source, data)
        if name == "token":
            body = json.dumps(twist(source, json.loads(base64url_decode(data[6:].decode())))).encode()
            return b"cashuA" + base64url_encode(body).encode()
        return json.dumps(twist(source, json.loads(data))).encode()
    except (ValueError, RecursionError, OverflowError, RefusedError, cbor2.CBORError):
        return None


def restructure_request(source: random.Random, data: bytes) -> bytes:
    """A change inside of `creqA` or `creqB`, with a checksum that is right again."""
    if data[:5].lower() == b"creqa":
        return (
            b"creqA" + base64url_encode(cbor2.dumps(twist(source, cbor2.loads(base64url_decode(data[5:].decode()))))).encode()
        )
    _, words = bech32_decode(data.decode().strip(), variant="bech32m")
    body = scramble(source, bytes(convert_bits(words, 5, 8, pad=False)))
    return bech32_encode("creqb", convert_bits(body, 8, 5, pad=True), variant="bech32m").encode()


def accepts(name: str, data: bytes) -> bool:
    """Run a parser; True if it took the bytes. Any exception but a refusal fails the test."""
    try:
        PARSERS[name](data)
    except RefusedError:
        return False
    return True


def test_every_parser_has_seeds() -> None:
    """And at least one of them is accepted, so that mutation starts inside the format."""
    assert {path.parent.name for path in CORPUS} == set(PARSERS)
    for name in PARSERS:
        assert any(accepts(name, path.read_bytes()) for path in CORPUS if path.parent.name == name), name


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_mutated_bytes_are_read_or_refused(path: Path) -> None:
    """Never another exception, and what is accepted survives being written."""
    name, seed = path.parent.name, path.read_bytes()
    accepts(name, seed)
    for data in mutants(random.Random(f"{name}/{path.name}"), name, seed):
        accepts(name, data)


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_arbitrary_bytes_are_refused_politely(name: str) -> None:
    """Bytes that hypothesis thinks of, not near any seed."""

    @settings(max_examples=30, deadline=None)
    @given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode(errors="replace")))
    def judge(data: bytes) -> None:
        accepts(name, data)

    judge()


@pytest.mark.parametrize("name", sorted(set(PARSERS) - {"token", "token_raw", "payment_request", "mint_url", "keyset_id"}))
def test_arbitrary_json_is_refused_politely(name: str) -> None:
    """JSON of any shape, with the field names that the parser looks for."""
    fields = st.sampled_from(FIELDS)
    leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10)
    values = st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(fields, inner, max_size=4), max_leaves=12
    )

    @settings(max_examples=40, deadline=None)
    @given(values)
    def judge(value: Any) -> None:
        accepts(name, json.dumps(value).encode())

    judge()
