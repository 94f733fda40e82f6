"""Who may spend a locked coin: NUT-10 secrets, P2PK and HTLC pathways, SIG_INPUTS and SIG_ALL, builders and witnesses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from specie.ecash.codes import ConditionMalformedError, ConditionUnmetError, ProofInvalidError
from specie.ecash.conditions import (
    SigFlag,
    SpendingCondition,
    add_signatures,
    htlc_secret,
    is_preimage,
    lock_key_checked,
    open_pathways,
    p2pk_secret,
    parse_secret,
    parse_well_known_secret,
    parse_witness,
    sig_all_digest,
    sig_inputs_digest,
    verify_spend,
    witness_text,
)
from specie.ecash.proof import BlindedMessage, Proof
from specie.kernel.errors import MalformedError
from specie.kernel.limits import Limits
from tests.support.coins import public_key, secret_key, signature

ALICE, BOB, CAROL, DAVE = (public_key(name).hex() for name in ("alice", "bob", "carol", "dave"))
NONCE = b"n" * 32
NOW = 1_800_000_000
PREIMAGE = secret_key("preimage")
HASH = sha256(PREIMAGE).hexdigest()
OUTPUTS = (BlindedMessage(2, "00ad268c4d1f5826", public_key("b1")), BlindedMessage(4, "00ad268c4d1f5826", public_key("b2")))


def coin(secret: str, witness: str | None = None) -> Proof:
    """A coin as the judge sees it; C is not its business."""
    return Proof(1, "00ad268c4d1f5826", secret, public_key("c"), witness)


def signed(proof: Proof, *names: str, preimage: bytes | None = None) -> Proof:
    """The coin with SIG_INPUTS signatures."""
    return add_signatures(proof, [signature(sig_inputs_digest(proof), name) for name in names], preimage)


def verdict(*inputs: Proof, outputs: Sequence[BlindedMessage] = OUTPUTS, quote_id: str | None = None, now: int = NOW) -> bool:
    """True if all may be spent; ConditionMalformedError passes through."""
    try:
        verify_spend(inputs, outputs, quote_id, now)
    except ConditionUnmetError:
        return False
    return True


def parsed(text: str) -> SpendingCondition:
    """The condition of a text that carries one."""
    condition = parse_secret(text)
    assert condition is not None
    return condition


def raw(kind: str = "P2PK", data: str = ALICE, *tags: list[Any]) -> str:
    """A secret as any wallet may write it, right or wrong."""
    return json.dumps([kind, {"nonce": "00", "data": data, "tags": list(tags)}])


# Reading


@pytest.mark.parametrize(
    "text",
    ["", "a" * 64, "[", "[]", "[1]", '["P2P', '["p2pk",{}]', '["NEW",{"nonce":"","data":""}]', '{"P2PK":1}', '"P2PK"', "[[]]",
     "\ufeff" + raw(), "\u00a0" + raw(), "P2PK"],
)  # fmt: skip
def test_ordinary_secrets(text: str) -> None:
    """Text, other JSON, and kinds that are not enforced: anyone who has the secret may spend, whatever the witness says."""
    assert parse_secret(text) is None
    assert verdict(coin(text, "not json"))


@pytest.mark.parametrize(
    "text",
    [
        '["P2PK"', '["P2PK"]', '["P2PK",', '["P2PK",{}]', '["P2PK",[]]', '["P2PK",{"nonce":"0","data":"0"},1]',
        '["P2PK",{"nonce":"0"}]', '["P2PK",{"data":"' + ALICE + '"}]', ' [ "P2PK"] ', '["P\\u0032PK",{}]', '\n["HTLC",1]',
        '["P2PK",{"nonce":"0","data":"' + ALICE + '","data":"' + BOB + '"}]',
        '["P2PK",{"nonce":"0","data":"' + ALICE + '","x":{"a":1,"a":2}}]',
        '["P2PK",{"nonce":"0","data":"' + ALICE + '","x":NaN}]',
        '["P2PK",{"nonce":"0","data":"' + ALICE + '","x":' + "9" * 5000 + "}]",
        '["P2PK",{"nonce":"0","data":"' + ALICE + '","x":' + "[" * 20 + "]" * 20 + "}]",
        '["P2PK",{"nonce":"0","data":"' + ALICE + '","x":' + "[" * 3000 + "]" * 3000 + "}]",
        '["P2PK",{"nonce":"0","data":"' + ALICE + '"}] trailing',
        '["P2PK",{"nonce":"0\n","data":"' + ALICE + '"}]',
        raw("P2PK", ALICE[2:]), raw("P2PK", "02" + "ff" * 32), raw("HTLC", HASH[2:]),
        raw("HTLC", "zz" * 32), raw("HTLC", ALICE),
        raw("P2PK", ALICE, ["sigflag", "SIG_ALL"], ["sigflag", "SIG_ALL"]),
        raw("P2PK", ALICE, ["locktime", "1"], ["locktime", "2"]),
        raw("P2PK", ALICE, ["sigflag", "SIG_NONE"]), raw("P2PK", ALICE, ["sigflag"]),
        raw("P2PK", ALICE, ["sigflag", "SIG_ALL", "SIG_ALL"]),
        raw("P2PK", ALICE, ["n_sigs", "0"]), raw("P2PK", ALICE, ["n_sigs", "2"]), raw("P2PK", ALICE, ["n_sigs", "-1"]),
        raw("P2PK", ALICE, ["n_sigs", "1", "1"]), raw("P2PK", ALICE, ["n_sigs"]), raw("P2PK", ALICE, ["n_sigs", "١"]),
        raw("P2PK", ALICE, ["n_sigs_refund", "1"]), raw("P2PK", ALICE, ["refund", BOB], ["n_sigs_refund", "2"]),
        raw("P2PK", ALICE, ["pubkeys", ALICE]), raw("P2PK", ALICE, ["pubkeys", "03" + ALICE[2:].upper()]),
        raw("P2PK", ALICE, ["pubkeys", BOB, BOB]), raw("P2PK", ALICE, ["refund", BOB, BOB]),
        raw("P2PK", ALICE, ["pubkeys", "x"]), raw("P2PK", ALICE, ["locktime", "1"], ["refund"]),
        raw("HTLC", HASH, ["locktime", "1"], ["refund"]),
        raw("HTLC", HASH, ["n_sigs", "1"]), raw("P2PK", ALICE, []), raw("P2PK", ALICE, ["locktime", 1]),
        raw("P2PK", ALICE, ["x", ""]),
    ],
)  # fmt: skip
def test_malformed_secrets_are_unspendable(text: str) -> None:
    """A broken lock never opens to everyone: it is refused, with code 10001."""
    with pytest.raises(ConditionMalformedError) as caught:
        verify_spend([coin(text)], (), None, 2**40)
    assert caught.value.code == ProofInvalidError.code == 10001


def test_a_locked_secret_has_a_longest_length() -> None:
    """The bound comes from the limits."""
    with pytest.raises(ConditionMalformedError):
        parse_secret(raw(), limits=Limits(secret_chars=100))


def test_unknown_tags_and_fields_are_ignored() -> None:
    """Also twice; what a later specification adds does not lock coins up."""
    text = json.dumps(["P2PK", {"nonce": "0", "data": ALICE, "tags": [["memo"], ["memo", "x"]], "more": {"a": [1]}}])
    assert parsed(text).keys == (bytes.fromhex(ALICE),)
    assert parsed(json.dumps(["P2PK", {"nonce": "0", "data": ALICE, "tags": None}])) == parsed(
        json.dumps(["P2PK", {"nonce": "0", "data": ALICE}])
    )


@pytest.mark.parametrize("values", [[], ["1", "2"], ["-5"], ["soon"], ["18446744073709551616"], ["1.5"]])
def test_a_locktime_that_is_no_time_locks_for_good(values: list[str]) -> None:
    """NUT-11: then the lock is permanent, and the refund key never opens it."""
    text = raw("P2PK", ALICE, ["locktime", *values], ["refund", BOB])
    assert parsed(text).locktime is None
    assert not verdict(signed(coin(text), "bob"), now=2**63)
    assert verdict(signed(coin(text), "alice"))


# Pathways


def test_p2pk_asks_for_its_key() -> None:
    """No witness, an empty one, another key: no. The right key: yes, also in upper-case hex."""
    proof = coin(p2pk_secret(ALICE, nonce=NONCE))
    assert not verdict(proof)
    assert not verdict(msgspec.structs.replace(proof, witness=""))
    assert not verdict(msgspec.structs.replace(proof, witness='{"signatures":[]}'))
    assert not verdict(signed(proof, "bob"))
    good = signed(proof, "alice")
    assert verdict(good)
    shouted = json.dumps({"signatures": [item.upper() for item in parse_witness(good.witness).signatures]})
    assert verdict(msgspec.structs.replace(proof, witness=shouted))


def test_a_signature_is_for_one_secret() -> None:
    """A signature on another coin with the same lock does not open this one."""
    other = signed(coin(p2pk_secret(ALICE, nonce=b"o" * 32)), "alice")
    assert not verdict(coin(p2pk_secret(ALICE, nonce=NONCE), other.witness))


def test_keys_count_not_signatures() -> None:
    """One key signing twice is one of two; the text in upper case, or twice, is not another signature."""
    proof = coin(p2pk_secret(ALICE, nonce=NONCE, pubkeys=[BOB, CAROL], n_sigs=2))
    digest = sig_inputs_digest(proof)
    twice = [signature(digest, "alice", aux=bytes([n]) * 32) for n in range(5)]
    assert len(set(twice)) == 5
    assert not verdict(add_signatures(proof, twice))
    text = twice[0].hex()
    assert not verdict(coin(proof.secret, json.dumps({"signatures": [text, text.upper(), text]})))
    assert verdict(add_signatures(proof, [*twice, signature(digest, "carol")]))
    assert verdict(signed(proof, "carol", "bob"))


def test_broken_signatures_are_passed_over() -> None:
    """One signature that is no hex does not spoil the one that is good."""
    proof = coin(p2pk_secret(ALICE, nonce=NONCE))
    good = signature(sig_inputs_digest(proof), "alice").hex()
    assert verdict(coin(proof.secret, json.dumps({"signatures": ["zz", "00", "00" * 64, good], "more": 1})))


@pytest.mark.parametrize(
    "witness", ["[]", "1", "{", '{"signatures":"x"}', '{"signatures":[1]}', '{"preimage":1}', '"x"', "[" * 5000]
)
def test_a_witness_that_does_not_parse_is_malformed(witness: str) -> None:
    """It is told apart from one that does not suffice."""
    with pytest.raises(ConditionMalformedError):
        verdict(coin(p2pk_secret(ALICE, nonce=NONCE), witness))


def test_a_witness_has_a_longest_length() -> None:
    """The bound comes from the limits."""
    with pytest.raises(ConditionMalformedError):
        parse_witness('{"signatures":[]}', limits=Limits(witness_chars=5))


@pytest.mark.parametrize(("now", "opened"), [(999, False), (1000, False), (1001, True)])
def test_refund_opens_after_the_locktime(now: int, opened: bool) -> None:
    """Before and at the very second only the main pathway; after it both, never mixed."""
    proof = coin(p2pk_secret(ALICE, nonce=NONCE, pubkeys=[DAVE], n_sigs=2, locktime=1000, refund=[BOB, CAROL], n_sigs_refund=2))
    assert verdict(signed(proof, "alice", "dave"), now=now)
    assert verdict(signed(proof, "bob", "carol"), now=now) is opened
    assert not verdict(signed(proof, "alice", "bob"), now=now)
    assert len(open_pathways(parsed(proof.secret), now)) == 1 + opened


def test_without_refund_keys_anyone_may_spend_after_the_locktime() -> None:
    """Even with a witness that does not parse."""
    proof = coin(p2pk_secret(ALICE, nonce=NONCE, locktime=1000))
    assert not verdict(proof, now=1000)
    assert verdict(proof, now=1001)
    assert verdict(msgspec.structs.replace(proof, witness="garbage"), now=1001)


def test_one_key_may_stand_in_both_pathways() -> None:
    """It then signs for the main one before, and for either after the locktime."""
    proof = coin(p2pk_secret(ALICE, nonce=NONCE, locktime=1000, refund=[ALICE]))
    assert verdict(signed(proof, "alice"), now=1)
    assert verdict(signed(proof, "alice"), now=2000)


def test_htlc_needs_preimage_and_signatures() -> None:
    """Either alone is not enough; `data` is no key, so n_sigs counts pubkeys only."""
    proof = coin(htlc_secret(HASH, nonce=NONCE, pubkeys=[ALICE, BOB], n_sigs=2, locktime=1000, refund=[CAROL]))
    assert not verdict(signed(proof, "alice", "bob"), now=1)
    assert not verdict(signed(proof, "alice", preimage=PREIMAGE), now=1)
    assert not verdict(signed(proof, "alice", "bob", preimage=secret_key("wrong")), now=1)
    for now in (1, 2000):
        assert verdict(signed(proof, "alice", "bob", preimage=PREIMAGE), now=now)
    assert not verdict(signed(proof, "carol"), now=1000)
    assert verdict(signed(proof, "carol"), now=1001)


def test_htlc_without_keys_opens_by_the_preimage_alone() -> None:
    """Its 32 bytes are hashed, not their text; upper case is the same bytes; after the locktime anyone, without refund."""
    proof = coin(htlc_secret(HASH.upper(), nonce=NONCE, locktime=1000))
    for text, good in (
        (PREIMAGE.hex(), True),
        (PREIMAGE.hex().upper(), True),
        (PREIMAGE.hex()[2:], False),
        ("", False),
        ("zz", False),
    ):
        assert verdict(coin(proof.secret, json.dumps({"preimage": text})), now=1) is good
    assert not verdict(proof, now=1)
    assert verdict(proof, now=1001)
    hashed_text = htlc_secret(sha256(PREIMAGE.hex().encode()).hexdigest(), nonce=NONCE)
    assert not verdict(coin(hashed_text, json.dumps({"preimage": PREIMAGE.hex()})))
    assert not is_preimage(PREIMAGE.hex(), None)


# SIG_ALL


def all_secret(nonce: bytes = NONCE, **more: Any) -> str:
    """A P2PK secret with SIG_ALL."""
    return p2pk_secret(ALICE, nonce=nonce, sigflag=SigFlag.SIG_ALL, **more)


def sign_all(inputs: list[Proof], *names: str, quote_id: str | None = None) -> list[Proof]:
    """The inputs with a witness on the first that covers the request."""
    digest = sig_all_digest(inputs, OUTPUTS, quote_id)
    return [add_signatures(inputs[0], [signature(digest, name) for name in names]), *inputs[1:]]


def test_sig_all_covers_the_whole_request() -> None:
    """Inputs, outputs, their order and amounts, and the quote: a change to any breaks the signature."""
    inputs = sign_all([coin(all_secret(b"1" * 32)), coin(all_secret(b"2" * 32))], "alice")
    assert verdict(*inputs)
    assert not verdict(*inputs, quote_id="q")
    assert not verdict(*inputs, outputs=OUTPUTS[::-1])
    assert not verdict(*inputs, outputs=OUTPUTS[:1])
    assert not verdict(*inputs, outputs=(msgspec.structs.replace(OUTPUTS[0], amount=8), OUTPUTS[1]))
    assert not verdict(*inputs[::-1])
    assert not verdict(inputs[0])
    melt = sign_all([coin(all_secret())], "alice", quote_id="q")
    assert verdict(*melt, quote_id="q")
    assert not verdict(*melt, quote_id="p")


def test_a_signature_on_the_input_alone_is_not_sig_all() -> None:
    """The flag decides what is signed."""
    assert not verdict(signed(coin(all_secret()), "alice"))


def test_sig_all_anywhere_binds_every_input() -> None:
    """An ordinary coin, a SIG_INPUTS coin or other tags beside it: refused, in either order."""
    mine = coin(all_secret(b"1" * 32))
    for other in ("plain", p2pk_secret(ALICE, nonce=NONCE), all_secret(locktime=1), all_secret(pubkeys=[BOB]),
                  htlc_secret(HASH, nonce=NONCE, sigflag=SigFlag.SIG_ALL)):  # fmt: skip
        for inputs in ([mine, coin(other)], [coin(other), mine]):
            assert not verdict(*sign_all(inputs, "alice")), other


def test_sig_all_compares_tags_in_order() -> None:
    """Equal tags in another order are other terms."""
    left = raw("P2PK", ALICE, ["sigflag", "SIG_ALL"], ["pubkeys", BOB])
    right = raw("P2PK", ALICE, ["pubkeys", BOB], ["sigflag", "SIG_ALL"])
    assert not verdict(*sign_all([coin(left), coin(right)], "alice"))
    assert verdict(*sign_all([coin(left), coin(left.replace('"00"', '"01"'))], "bob"))


def test_sig_all_has_the_same_pathways() -> None:
    """After the locktime the main pathway stays open, refund opens, and without refund keys anyone may spend."""
    locked = [coin(all_secret(locktime=1000, refund=[BOB]))]
    for now, name, good in ((999, "bob", False), (1001, "bob", True), (1001, "alice", True), (1001, "carol", False)):
        assert verdict(*sign_all(locked, name), now=now) is good
    assert verdict(coin(all_secret(locktime=1000)), now=1001)


def test_sig_all_htlc_needs_the_preimage_once() -> None:
    """On the first input, as all share the hash."""
    inputs = [coin(htlc_secret(HASH, nonce=bytes([n]) * 32, sigflag=SigFlag.SIG_ALL)) for n in range(2)]
    assert verdict(add_signatures(inputs[0], [], PREIMAGE), inputs[1])
    assert not verdict(inputs[0], add_signatures(inputs[1], [], PREIMAGE))


def test_mixed_inputs_are_judged_one_by_one() -> None:
    """Without SIG_ALL, ordinary coins pass beside locked ones, and every lock counts."""
    good = signed(coin(p2pk_secret(ALICE, nonce=NONCE)), "alice")
    assert verdict(coin("plain"), good)
    assert not verdict(good, coin(p2pk_secret(BOB, nonce=NONCE)))
    assert verdict()


def test_the_cost_of_one_request_is_bounded() -> None:
    """Many keys times many signatures are refused before they cost their product."""
    names = [f"k{n}" for n in range(60)]
    keys = [public_key(name).hex() for name in names]
    proof = coin(p2pk_secret(keys[0], nonce=NONCE, pubkeys=keys[1:], n_sigs=60))
    wrong = [bytes([n]) * 64 for n in range(100)]
    with pytest.raises(ConditionUnmetError, match="too many signatures"):
        verify_spend([add_signatures(proof, wrong)], (), None, NOW)
    assert verdict(signed(proof, *names))


# Writing


def test_builders_write_what_the_parser_reads() -> None:
    """All tags arrive; x-only keys get 02."""
    text = p2pk_secret(
        ALICE[2:],
        nonce=NONCE,
        pubkeys=[BOB.upper()],
        n_sigs=2,
        locktime=5,
        refund=[CAROL],
        n_sigs_refund=1,
        sigflag=SigFlag.SIG_ALL,
    )
    condition = parsed(text)
    assert condition.keys == (bytes.fromhex("02" + ALICE[2:]), bytes.fromhex(BOB))
    assert (condition.n_sigs, condition.locktime, condition.n_sigs_refund) == (2, 5, 1)
    assert (condition.refund, condition.sigflag, condition.hash) == ((bytes.fromhex(CAROL),), SigFlag.SIG_ALL, None)
    assert condition.secret.nonce == NONCE.hex()
    assert parsed(htlc_secret(HASH, nonce=NONCE)).hash == bytes.fromhex(HASH)


@pytest.mark.parametrize(
    "arguments",
    [
        {"pubkey": ALICE, "refund": [BOB]},
        {"pubkey": ALICE, "n_sigs": 2},
        {"pubkey": ALICE, "n_sigs": 0},
        {"pubkey": ALICE, "n_sigs_refund": 1},
        {"pubkey": ALICE, "pubkeys": ["03" + ALICE[2:]]},
        {"pubkey": ALICE, "locktime": 1, "refund": [BOB, BOB]},
        {"pubkey": ALICE, "locktime": -1},
        {"pubkey": ALICE, "locktime": 2**64},
        {"pubkey": "02" + "ff" * 32},
        {"pubkey": "ff" * 32},
        {"pubkey": "00"},
        {"pubkey": ALICE, "nonce": b"short"},
        {"pubkey": ALICE, "limits": Limits(secret_chars=50)},
    ],
)
def test_builders_refuse_what_nobody_could_spend(arguments: dict[str, Any]) -> None:
    """Duplicate keys, thresholds out of reach, refund without locktime, keys off the curve."""
    with pytest.raises(MalformedError):
        p2pk_secret(**{"nonce": NONCE, **arguments})


def test_htlc_builder_refuses_a_short_hash() -> None:
    """No preimage has it."""
    with pytest.raises(MalformedError):
        htlc_secret(HASH[2:], nonce=NONCE)


def test_lock_keys() -> None:
    """Compressed keys keep their parity, x-only ones get the even point."""
    assert lock_key_checked(ALICE.upper()) == ALICE
    assert lock_key_checked(ALICE[2:]) == "02" + ALICE[2:]


def test_signers_add_in_turn() -> None:
    """Signatures gather without repetition and the preimage stays; what is no witness is not built upon."""
    proof = coin(htlc_secret(HASH, nonce=NONCE, pubkeys=[ALICE, BOB], n_sigs=2))
    first = signed(proof, "alice", preimage=PREIMAGE)
    both = signed(signed(first, "bob"), "alice")
    assert len(parse_witness(both.witness).signatures) == 2
    assert parse_witness(both.witness).preimage == PREIMAGE.hex()
    assert verdict(both)
    for witness in ("garbage", '{"signatures":["zz"]}', '{"preimage":"zz"}'):
        with pytest.raises(ConditionMalformedError):
            add_signatures(coin(proof.secret, witness), [])
    with pytest.raises(ConditionMalformedError):
        add_signatures(proof, [b"short"])


def test_witness_text_is_that_of_the_specification() -> None:
    """Preimage where there is one, signatures always."""
    assert witness_text([b"\x01" * 64]) == '{"signatures":["' + "01" * 64 + '"]}'
    assert json.loads(witness_text([], b"\x02" * 32)) == {"preimage": "02" * 32, "signatures": []}


def test_the_form_is_read_without_its_meaning() -> None:
    """NUT-10 alone does not ask what data is."""
    secret = parse_well_known_secret(raw("P2PK", "anything", ["n_sigs", "many"]))
    assert secret is not None
    assert (secret.kind, secret.data, secret.tags) == ("P2PK", "anything", (("n_sigs", "many"),))


@pytest.mark.parametrize("depth", [20, 480, 700, 900, 990, 2000, 4000])
def test_a_secret_nested_ever_deeper_is_malformed(depth: int) -> None:
    """Also where its JSON still parses and only the look at its depth runs out of stack: never another error."""
    text = '["P2PK",{"nonce":"a","data":"b","tags":' + "[" * depth + "]" * depth + "}]"
    with pytest.raises(ConditionMalformedError):
        parse_secret(text)
