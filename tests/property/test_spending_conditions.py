"""The judge of locks against a plain reading of NUT-11: keys are counted, pathways are not mixed, the clock decides."""

from __future__ import annotations

from hashlib import sha256

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from specie.ecash.codes import ConditionUnmetError
from specie.ecash.conditions import (
    SigFlag,
    SignatureChecks,
    htlc_secret,
    open_pathways,
    p2pk_secret,
    parse_secret,
    parse_witness,
    sig_all_digest,
    sig_inputs_digest,
    signatures_by_key,
    verify_spend,
    witness_text,
)
from specie.ecash.proof import BlindedMessage, Proof
from specie.kernel import curve
from tests.support.coins import public_key, signature

PEOPLE = [f"person {number}" for number in range(6)]
KEYS = {name: public_key(name).hex() for name in PEOPLE}
PREIMAGE = bytes(range(32))
DIGEST = sha256(PREIMAGE).hexdigest()
UNTIL = 1000

groups = st.lists(st.sampled_from(PEOPLE), unique=True, max_size=4)
signers = st.lists(st.tuples(st.sampled_from(PEOPLE), st.integers(0, 1)), max_size=8)


def enough(keys: list[str], wanted: int, signed: set[str]) -> bool:
    return len(signed & set(keys)) >= wanted


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(["P2PK", "HTLC"]),
    main=groups,
    refund=groups,
    thresholds=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    has_time=st.booleans(),
    now=st.sampled_from([UNTIL - 1, UNTIL, UNTIL + 1]),
    made=signers,
    shown=st.booleans(),
    together=st.booleans(),
    noise=st.booleans(),
)
def test_who_may_spend(
    kind: str,
    main: list[str],
    refund: list[str],
    thresholds: tuple[int, int],
    has_time: bool,
    now: int,
    made: list[tuple[str, int]],
    shown: bool,
    together: bool,
    noise: bool,
) -> None:
    """Whoever signs, however often and in whatever order, with the preimage or without: the verdict is that of the words."""
    main = main or (PEOPLE[:1] if kind == "P2PK" else [])
    refund = refund if has_time else []
    n_main = min(thresholds[0], len(main)) if main else 0
    n_refund = min(thresholds[1], len(refund)) if refund else 0
    terms = {
        "nonce": bytes(32),
        "n_sigs": n_main or None,
        "locktime": UNTIL if has_time else None,
        "refund": [KEYS[name] for name in refund],
        "n_sigs_refund": n_refund or None,
        "sigflag": SigFlag.SIG_ALL if together else SigFlag.SIG_INPUTS,
    }
    keys = [KEYS[name] for name in main]
    if kind == "P2PK":
        text = p2pk_secret(keys[0], pubkeys=keys[1:], **terms)  # type: ignore[arg-type]
    else:
        text = htlc_secret(DIGEST, pubkeys=keys, **terms)  # type: ignore[arg-type]
    coin = Proof(1, "00" * 8, text, public_key("C"))
    outputs = (BlindedMessage(1, "00" * 8, public_key("B")),)
    digest = sig_all_digest([coin], outputs) if together else sig_inputs_digest(coin)
    signatures = [signature(digest, name, aux=bytes([aux]) * 32) for name, aux in made]
    if noise:
        signatures = [signature(bytes(32), PEOPLE[0]), *signatures, bytes(64)]
    coin = replace(coin, witness=witness_text(signatures, PREIMAGE if shown else None))
    signed = {name for name, _ in made}
    expected = enough(main, n_main, signed) and (kind == "P2PK" or shown)
    if has_time and now > UNTIL:
        expected = expected or (enough(refund, n_refund, signed) if refund else True)
    try:
        verify_spend([coin], outputs, None, now)
        verdict = True
    except ConditionUnmetError:
        verdict = False
    assert verdict == expected
    condition = parse_secret(text)
    assert condition is not None
    for pathway in open_pathways(condition, now):
        found = signatures_by_key(pathway, parse_witness(coin.witness), digest, SignatureChecks(1))
        assert list(found) == [key for key in pathway.keys if key in found]
        assert len(found) <= pathway.n_sigs
        assert all(curve.schnorr_verify(one, digest, key) for key, one in found.items())
