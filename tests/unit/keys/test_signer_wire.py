"""Messages between bank and signer: frames that come in pieces, bytes that are none, bounds, and errors by name."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specie.kernel.errors import (
    InvariantError,
    MalformedError,
    PeerFaultError,
    RefusedError,
    UnavailableError,
    UncertainError,
)
from specie.kernel.seal import SealBrokenError
from specie.keys import BlindedKey, KeysetRef, KeyUnknownError, ProofToVerify, SignerClosedError, ToBlindSign, wire
from specie.keys.errors import PassphraseWrongError

SAT = KeysetRef("sat", 0)
POINT = b"\x02" + bytes(31) + b"\x01"
DEEP = b"\x91" * 100_000 + b"\x00"


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.integers(1, 40))
def test_frames_come_whole_however_they_are_cut(bodies: list[bytes], piece: int) -> None:
    """A stream cut anywhere gives the very frames that were put in."""
    stream = b"".join(len(body).to_bytes(4, "big") + body for body in bodies)
    reader, found = wire.FrameReader(), []
    for at in range(0, len(stream), piece):
        found += reader.feed(stream[at : at + piece])
    assert found == bodies


@pytest.mark.parametrize("length", [0, wire.MAX_FRAME_BYTES + 1, 2**32 - 1])
def test_a_length_that_cannot_be_ends_the_stream(length: int) -> None:
    """Nothing and too much are refused at the length, before any byte of it is kept."""
    with pytest.raises(MalformedError):
        wire.FrameReader().feed(length.to_bytes(4, "big"))


def test_an_unfinished_frame_waits() -> None:
    """A truncated frame gives nothing, and no error."""
    assert wire.FrameReader().feed((100).to_bytes(4, "big") + b"x" * 99) == []


def test_a_request_is_read_as_it_was_sent() -> None:
    """Verb and arguments of the largest numbers come back as they were."""
    proofs = [ProofToVerify(SAT, 2**63, "ü".encode(), POINT)]
    messages = [ToBlindSign(KeysetRef("usd", 2**31 - 1), 1, POINT)]
    (body,) = wire.FrameReader().feed(wire.request_to_frame(7, "exchange", (proofs, messages)))
    request = wire.request_from_bytes(body)
    assert (request.id, request.verb) == (7, "exchange")
    assert wire.arguments_from_raw(request.verb, request.arguments) == (proofs, messages)


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1])
def test_numbers_beyond_the_encoding_are_no_keys(value: int) -> None:
    """What MessagePack cannot say names no key."""
    with pytest.raises(KeyUnknownError):
        wire.request_to_frame(1, "keyset_public_keys", (SAT, [value]))


def test_text_that_is_no_unicode_is_no_key() -> None:
    """A lone surrogate names no key."""
    with pytest.raises(KeyUnknownError):
        wire.request_to_frame(1, "public_key", ("\ud800",))


def test_batches_and_messages_are_bounded_on_both_sides() -> None:
    """More items than the bound, or more bytes, are refused by whoever would send and by whoever would read them."""
    many = [0] * (wire.MAX_ITEMS + 1)
    with pytest.raises(MalformedError):
        wire.request_to_frame(1, "keyset_public_keys", (SAT, many))
    with pytest.raises(MalformedError):
        wire.arguments_from_raw("keyset_public_keys", msgspec.Raw(msgspec.msgpack.encode((SAT, many))))
    with pytest.raises(MalformedError):
        wire.request_to_frame(1, "wrap", (bytes(wire.MAX_FRAME_BYTES), b""))


LONG: list[tuple[str, tuple[object, ...], type[RefusedError]]] = [
    ("keyset_public_keys", (KeysetRef("s" * 65, 0), [1]), MalformedError),
    ("keyset_public_keys", (KeysetRef("sat", 0, "h" * 17), [1]), MalformedError),
    ("verify_proofs", ([ProofToVerify(KeysetRef("s" * 65, 0), 1, b"", POINT)],), MalformedError),
    ("public_key", ("mint/" + "s" * 200 + "/0/1",), KeyUnknownError),
    ("sign_schnorr", ("n" * 201, []), KeyUnknownError),
    ("sign_blinded", (BlindedKey("n" * 201, POINT, 0, POINT), []), MalformedError),
    ("derive_secrets", ("00" * 8, [0] * (wire.MAX_SECRETS + 1)), MalformedError),
]


@pytest.mark.parametrize(("verb", "arguments", "error"), LONG, ids=[f"{index}-{one[0]}" for index, one in enumerate(LONG)])
def test_names_and_what_grows_are_bounded(verb: str, arguments: tuple[object, ...], error: type[RefusedError]) -> None:
    """Names that would fill a signer's memory, and questions whose answers would, are refused when read."""
    with pytest.raises(error):
        wire.arguments_from_raw(verb, msgspec.Raw(msgspec.msgpack.encode(arguments)))


def test_a_verb_of_another_version_is_refused_by_name() -> None:
    """An unknown verb is refused, and the connection may go on."""
    with pytest.raises(RefusedError, match="no such verb"):
        wire.arguments_from_raw("export_seed", msgspec.Raw(b"\x90"))


NONSENSE = [
    b"",
    b"\xc1",
    b"\x90",
    b"\x93\x01",
    b"\x93\xff\xa1a\x90",
    b"\x94\x01\xa1a\x90\x90",
    b"\x93\x01\xa2\xff\xfe\x90",
    DEEP,
]


@pytest.mark.parametrize("body", NONSENSE)
def test_bytes_that_are_no_message_are_malformed(body: bytes) -> None:
    """Truncated, of wrong types, too long, no Unicode, nested beyond reason: one error."""
    for read in (wire.request_from_bytes, wire.answer_from_bytes):
        with pytest.raises(MalformedError):
            read(body)


@pytest.mark.parametrize("verb", sorted(wire.ARGUMENTS))
def test_arguments_and_values_that_are_none(verb: str) -> None:
    """For every verb: nothing, a number, a map, an array of strangers, nesting."""
    for raw in (b"\xc0", b"\x01", b"\x80", b"\x91\xc0", b"\x93\x01\x02\x03", DEEP):
        with pytest.raises(MalformedError):
            wire.arguments_from_raw(verb, msgspec.Raw(raw))
    for raw in (b"\xc0", b"\xc1", b"\x91\x80", DEEP):
        with pytest.raises(MalformedError):
            wire.value_from_raw(verb, msgspec.Raw(raw))


@given(st.binary(max_size=200))
def test_garbage_is_calmly_refused(body: bytes) -> None:
    """Any bytes are a message or MalformedError, and nothing else."""
    for read in (wire.request_from_bytes, wire.answer_from_bytes):
        with contextlib.suppress(MalformedError):
            read(body)
    for verb in wire.ARGUMENTS:
        for decode in (wire.arguments_from_raw, wire.value_from_raw):
            with contextlib.suppress(MalformedError):
                decode(verb, msgspec.Raw(body))


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (KeyUnknownError("no such key"), KeyUnknownError),
        (MalformedError("no point"), MalformedError),
        (RefusedError("no"), RefusedError),
        (SealBrokenError("changed"), SealBrokenError),
        (PassphraseWrongError("wrong"), SealBrokenError),
        (UnavailableError("later", retry_after_s=3.0), UnavailableError),
        (SignerClosedError("closed"), UnavailableError),
        (InvariantError("a secret, perhaps"), PeerFaultError),
        (UncertainError("what"), PeerFaultError),
        (ValueError("a secret, perhaps"), PeerFaultError),
    ],
)
def test_errors_cross_by_name(raised: Exception, expected: type[Exception]) -> None:
    """Ours come back as themselves or as the nearest that crosses; what failed inside crosses without its sentence."""
    failure = wire.failure_from_error(raised)
    back = wire.error_from_failure(failure, "signer.sock")
    assert type(back) is expected
    assert "secret" not in str(back)
    if isinstance(back, UnavailableError) and isinstance(raised, UnavailableError):
        assert back.retry_after_s == 3.0


def test_sentences_from_the_other_side_are_short_and_plain() -> None:
    """A long sentence with control characters is cut and cleaned, both when sent and when heard."""
    failure = wire.failure_from_error(RefusedError("a\x1b[31m" + "b" * 1000))
    assert len(failure.detail) == 300
    assert "\x1b" not in failure.detail
    assert "\n" not in str(wire.error_from_failure(wire.Failure("RefusedError", "a\nb"), "x"))
    assert isinstance(wire.error_from_failure(wire.Failure("SystemExit", "x"), "x"), PeerFaultError)
