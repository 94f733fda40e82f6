"""What a bank and its signer process say to each other: frames, messages, bounds, and errors by name. Pure.

    frame     4 bytes of length, big-endian (1 to MAX_FRAME_BYTES), then so many bytes of MessagePack
    request   [id, verb, arguments]           arguments: an array, as ARGUMENTS says for the verb
    answer    [id, value, null]               value: as ANSWERS says for the verb
              [id, null, [name, detail, retry_after_s]]

The first request is `hello`; its answer names the version both sides speak. Afterwards requests may be sent without waiting,
and are answered in any order. Every verb is a function of its arguments: to ask again after an answer was lost changes nothing.

Whether a coin holds is answered yes or no: its Y, which becomes the mark that it is spent, is never taken from the wire.
Not here: sockets and TLS (`adapters.signer_server`, `adapters.remote`), and whether an answer is true (`adapters.remote`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from specie.kernel.errors import MalformedError, PeerFaultError, RefusedError, SpecieError, UnavailableError
from specie.kernel.seal import SealBrokenError
from specie.keys.errors import KeyUnknownError, SignerClosedError
from specie.keys.ports import (
    BlindedKey,
    BlindSigned,
    Capabilities,
    DerivedSecret,
    KeysetRef,
    ProofToVerify,
    ToBlindSign,
)

__all__ = [
    "ANSWERS",
    "ARGUMENTS",
    "HELLO",
    "MAX_FRAME_BYTES",
    "MAX_ITEMS",
    "MAX_SECRETS",
    "VERSION",
    "Answer",
    "Failure",
    "FrameReader",
    "Hello",
    "Request",
    "Welcome",
    "answer_from_bytes",
    "answer_to_frame",
    "arguments_from_raw",
    "error_from_failure",
    "failure_from_error",
    "request_from_bytes",
    "request_to_frame",
    "value_from_raw",
]

VERSION = 1
"""The version of these messages. A side that speaks several offers them all in its `hello`."""
HELLO = "hello"
"""The first verb of a connection."""
MAX_FRAME_BYTES = 4 * 1024 * 1024
"""Longest message; twice what a mint takes in one HTTP request by default."""
MAX_ITEMS = 10_000
"""Longest array in a message."""
MAX_SECRETS = 1000
"""Most counters in one `derive_secrets`: each of a few bytes asks for a hundred."""
_MAX_REF_CHARS = 200
_MAX_DETAIL = 300
_MAX_RETRY_S = 60.0
_LENGTH_BYTES = 4


class Request(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """One question; `id` is the asker's and comes back with the answer."""

    id: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    verb: Annotated[str, msgspec.Meta(max_length=32)]
    arguments: msgspec.Raw


class Failure(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """An error: the name of its class, its sentence, and for UnavailableError when to ask again."""

    name: Annotated[str, msgspec.Meta(max_length=64)]
    detail: Annotated[str, msgspec.Meta(max_length=_MAX_DETAIL)]
    retry_after_s: Annotated[float, msgspec.Meta(ge=0, le=_MAX_RETRY_S)] = 1.0


class Answer(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """One answer: a value, or what went wrong."""

    id: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    value: msgspec.Raw
    error: Failure | None = None


class Hello(msgspec.Struct, frozen=True):
    """Argument of `hello`: the versions that the asker speaks."""

    versions: Annotated[list[int], msgspec.Meta(min_length=1, max_length=16)]


class Welcome(msgspec.Struct, frozen=True):
    """Answer to `hello`: the version chosen, what the provider can do, and a public key that tells its seed from others."""

    version: int
    identity: bytes
    """33 bytes: the public key of the ref `signer`."""
    capabilities: Capabilities


ARGUMENTS: Mapping[str, Any] = {
    HELLO: tuple[Hello],
    "keyset_public_keys": tuple[KeysetRef, list[int]],
    "verify_proofs": tuple[list[ProofToVerify]],
    "blind_sign": tuple[list[ToBlindSign]],
    "exchange": tuple[list[ProofToVerify], list[ToBlindSign]],
    "public_key": tuple[str],
    "sign_schnorr": tuple[str, list[bytes]],
    "own_blinded": tuple[list[BlindedKey]],
    "sign_blinded": tuple[BlindedKey, list[bytes]],
    "sign_recoverable": tuple[str, list[bytes]],
    "derive_secrets": tuple[str, Annotated[list[int], msgspec.Meta(max_length=MAX_SECRETS)]],
    "wrap": tuple[bytes, bytes],
    "unwrap": tuple[bytes, bytes],
}
"""Each verb with the types of its arguments, as `keys.ports.Signer` orders them."""

ANSWERS: Mapping[str, Any] = {
    HELLO: Welcome,
    "keyset_public_keys": dict[int, bytes],
    "verify_proofs": list[bool],
    "blind_sign": list[BlindSigned],
    "exchange": tuple[list[bool], list[BlindSigned]],
    "public_key": bytes,
    "sign_schnorr": list[bytes],
    "own_blinded": list[bool],
    "sign_blinded": list[bytes],
    "sign_recoverable": list[tuple[bytes, int]],
    "derive_secrets": list[DerivedSecret],
    "wrap": bytes,
    "unwrap": bytes,
}
"""Each verb with the type of its answer."""

_ENCODER = msgspec.msgpack.Encoder()
_REQUEST = msgspec.msgpack.Decoder(Request)
_ANSWER = msgspec.msgpack.Decoder(Answer)
_ARGUMENTS = {verb: msgspec.msgpack.Decoder(kind) for verb, kind in ARGUMENTS.items()}
_ANSWERS = {verb: msgspec.msgpack.Decoder(kind) for verb, kind in ANSWERS.items()}
_UNREADABLE = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)
"""What decoding raises at bytes that are none of ours (invalid UTF-8 is a ValueError)."""

_NAMED: Mapping[str, type[RefusedError]] = {
    kind.__name__: kind for kind in (KeyUnknownError, SealBrokenError, MalformedError, RefusedError)
}
"""Errors that cross as themselves; of a subclass crosses the nearest of these."""


class FrameReader:
    """Cuts a stream of bytes into frames; holds at most one unfinished frame."""

    __slots__ = ("_held", "_most")

    def __init__(self, most: int = MAX_FRAME_BYTES) -> None:
        """`most`: longest frame in bytes."""
        self._held = bytearray()
        self._most = most

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that are whole now, in order. MalformedError at a length of nothing, or of too much."""
        held = self._held
        held += data
        frames, at = [], 0
        while len(held) - at >= _LENGTH_BYTES:
            length = int.from_bytes(held[at : at + _LENGTH_BYTES], "big")
            if not 1 <= length <= self._most:
                raise MalformedError(f"a frame of {length:,} bytes")
            end = at + _LENGTH_BYTES + length
            if len(held) < end:
                break
            frames.append(bytes(held[at + _LENGTH_BYTES : end]))
            at = end
        del held[:at]
        return frames


def _frame(body: bytes) -> bytes:
    if len(body) > MAX_FRAME_BYTES:
        raise MalformedError(f"a message of {len(body):,} bytes is too long")
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


def request_to_frame(number: int, verb: str, arguments: tuple[object, ...]) -> bytes:
    """A request as it is sent. KeyUnknownError if a number or a text cannot be a key's; MalformedError if it is too large."""
    if any(isinstance(one, list) and len(one) > MAX_ITEMS for one in arguments):
        raise MalformedError(f"more than {MAX_ITEMS:,} in one batch")
    try:
        body = _ENCODER.encode((number, verb, arguments))
    except (OverflowError, UnicodeEncodeError):
        raise KeyUnknownError("there is no such key") from None
    return _frame(body)


def request_from_bytes(body: bytes) -> Request:
    """Read a frame as a request; MalformedError."""
    try:
        return _REQUEST.decode(body)
    except _UNREADABLE:
        raise MalformedError("this is no request") from None


def arguments_from_raw(verb: str, arguments: msgspec.Raw) -> tuple[Any, ...]:
    """The arguments of a verb. RefusedError for an unknown verb, MalformedError for what are none of its arguments.

    KeyUnknownError for a name that is too long for a key's.
    """
    decoder = _ARGUMENTS.get(verb)
    if decoder is None:
        raise RefusedError("this version of the signer has no such verb")
    try:
        read: tuple[Any, ...] = decoder.decode(arguments)
    except _UNREADABLE:
        raise MalformedError(f"the arguments of {verb} cannot be read") from None
    if any(isinstance(one, list) and len(one) > MAX_ITEMS for one in read):
        raise MalformedError(f"more than {MAX_ITEMS:,} in one batch")
    if isinstance(read[0], str) and len(read[0]) > _MAX_REF_CHARS:
        raise KeyUnknownError("there is no such key")
    return read


def answer_to_frame(number: int, value: object, error: Failure | None = None) -> bytes:
    """An answer as it is sent. MalformedError if it is too long."""
    return _frame(_ENCODER.encode((number, value, error)))


def answer_from_bytes(body: bytes) -> Answer:
    """Read a frame as an answer; MalformedError."""
    try:
        return _ANSWER.decode(body)
    except _UNREADABLE:
        raise MalformedError("this is no answer") from None


def value_from_raw(verb: str, value: msgspec.Raw) -> Any:
    """The value of an answer to `verb`, of the type that ANSWERS says; MalformedError."""
    try:
        return _ANSWERS[verb].decode(value)
    except _UNREADABLE:
        raise MalformedError(f"the answer to {verb} cannot be read") from None


def failure_from_error(error: Exception) -> Failure:
    """An error for the wire. What is not the asker's fault, and not known to pass, crosses without its sentence."""
    if isinstance(error, UnavailableError):
        return Failure("UnavailableError", _printable(error.detail), min(max(error.retry_after_s, 0.0), _MAX_RETRY_S))
    if isinstance(error, SignerClosedError):
        return Failure("UnavailableError", "the signer is stopping", 1.0)
    for kind in type(error).__mro__:
        if kind.__name__ in _NAMED and isinstance(error, RefusedError):
            return Failure(kind.__name__, _printable(error.detail))
    return Failure("InvariantError", "the signer failed inside; its log says how")


def error_from_failure(failure: Failure, peer: str) -> SpecieError:
    """The error that a failure names; PeerFaultError for a name that does not cross."""
    kind = _NAMED.get(failure.name)
    detail = _printable(failure.detail)
    if kind is not None:
        return kind(detail)
    if failure.name == "UnavailableError":
        return UnavailableError(detail, retry_after_s=failure.retry_after_s)
    return PeerFaultError(detail, peer=peer)


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text[:_MAX_DETAIL])
