"""A message as an endless sequence of parts, any sufficient number of which gives it back (BCR-2024-001).

The first `seq_len` parts are its fragments one by one; each later one is some of them, added by XOR. Which ones is drawn
from the part's number and the message's checksum, so a part carries no list of them. The checksum is CRC-32: it tells
messages apart and finds errors of reading; it proves nothing about who sent them.
"""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass

from specie.kernel.errors import MalformedError
from specie.kernel.ur.item import array_head, bytes_item, read_array_head, read_bytes, read_unsigned, unsigned_item
from specie.kernel.ur.xoshiro import AliasSampler, Xoshiro256

__all__ = [
    "LEAST_FRAGMENT_BYTES",
    "MOST_FRAGMENTS",
    "MOST_MESSAGE_BYTES",
    "Fountain",
    "FountainDecoder",
    "FountainPart",
    "MessageBrokenError",
    "PartStrayError",
    "fragment_length",
    "fragments_of",
]

MOST_MESSAGE_BYTES = 1 << 20
"""Longest message, either way."""
MOST_FRAGMENTS = 1024
"""Most fragments of a message, either way; what a decoder does for one part grows with it."""
LEAST_FRAGMENT_BYTES = 10
_MOST_NUMBER = 0xFFFF_FFFF
_PARTS_KEPT = 2
"""Mixed parts that a decoder keeps, for each fragment."""


class PartStrayError(MalformedError):
    """The part belongs to another message than those before it; nothing was changed."""


class MessageBrokenError(MalformedError):
    """The parts fit together, but what they give is not what was sent; the decoder has begun anew."""


@dataclass(frozen=True, slots=True)
class FountainPart:
    """One part. `seq_num` counts from 1 without end; `data` is one fragment, or several added by XOR."""

    seq_num: int
    seq_len: int
    """How many fragments the message has."""
    message_length: int
    """In bytes; the last fragment is filled up with zeros."""
    checksum: int
    """CRC-32 of the whole message."""
    data: bytes

    def to_bytes(self) -> bytes:
        """CBOR: an array of the five values."""
        numbers = (self.seq_num, self.seq_len, self.message_length, self.checksum)
        return array_head(5) + b"".join(map(unsigned_item, numbers)) + bytes_item(self.data)

    @classmethod
    def from_bytes(cls, data: bytes) -> FountainPart:
        """Parse and judge one part. MalformedError for what is no part, contradicts itself or breaks a bound."""
        count, at = read_array_head(data, 0)
        if count != 5:
            raise MalformedError("a part has five values")
        seq_num, at = read_unsigned(data, at)
        seq_len, at = read_unsigned(data, at)
        length, at = read_unsigned(data, at)
        checksum, at = read_unsigned(data, at)
        body, at = read_bytes(data, at)
        if at != len(data):
            raise MalformedError("a part has bytes behind its end")
        part = cls(seq_num, seq_len, length, checksum, body)
        part._checked()
        return part

    def _checked(self) -> None:
        if not (1 <= self.seq_num <= _MOST_NUMBER and 0 <= self.checksum <= _MOST_NUMBER):
            raise MalformedError("a part's number or checksum is out of range")
        if not (1 <= self.seq_len <= MOST_FRAGMENTS and 1 <= self.message_length <= MOST_MESSAGE_BYTES):
            raise MalformedError("the message is too long, or in too many parts")
        if not (self.seq_len - 1) * len(self.data) < self.message_length <= self.seq_len * len(self.data):
            raise MalformedError("a part's length does not fit its message")

    @property
    def message(self) -> tuple[int, int, int, int]:
        """What the parts of one message have in common."""
        return self.seq_len, self.message_length, self.checksum, len(self.data)


@functools.lru_cache(maxsize=8)
def _degrees(seq_len: int) -> AliasSampler:
    return AliasSampler([1.0 / number for number in range(1, seq_len + 1)])


def fragments_of(seq_num: int, seq_len: int, checksum: int) -> frozenset[int]:
    """Which fragments, counted from 0, are in part `seq_num` (BCR-2024-001, "Fragment Chooser")."""
    if seq_num <= seq_len:
        return frozenset({seq_num - 1})
    numbers = Xoshiro256(seq_num.to_bytes(4, "big") + checksum.to_bytes(4, "big"))
    degree = _degrees(seq_len).next(numbers) + 1
    remaining = list(range(seq_len))
    return frozenset(remaining.pop(numbers.next_int(0, len(remaining) - 1)) for _ in range(degree))


def fragment_length(message_length: int, most: int, least: int = LEAST_FRAGMENT_BYTES) -> int:
    """Length of each fragment of a message: at most `most` bytes, all alike, as few as that takes."""
    length = message_length
    for count in range(1, max(message_length // least, 1) + 1):
        length = -(-message_length // count)
        if length <= most:
            break
    return length


class Fountain:
    """The parts of one message, each by its number."""

    def __init__(self, message: bytes, most_bytes: int) -> None:
        """Cut `message` into fragments of at most `most_bytes` (10 or more). MalformedError beyond our bounds."""
        if most_bytes < LEAST_FRAGMENT_BYTES:
            raise ValueError(f"a fragment has at least {LEAST_FRAGMENT_BYTES} bytes")
        if not 1 <= len(message) <= MOST_MESSAGE_BYTES:
            raise MalformedError(f"a message has from 1 to {MOST_MESSAGE_BYTES} bytes")
        self._bytes = fragment_length(len(message), most_bytes)
        self._fragments = [
            int.from_bytes(message[at : at + self._bytes].ljust(self._bytes, b"\0"), "big")
            for at in range(0, len(message), self._bytes)
        ]
        if len(self._fragments) > MOST_FRAGMENTS:
            raise MalformedError(f"a message has at most {MOST_FRAGMENTS} fragments; make them longer")
        self._length = len(message)
        self._checksum = zlib.crc32(message)

    @property
    def seq_len(self) -> int:
        """How many fragments there are; that many parts, without a loss, are enough."""
        return len(self._fragments)

    def part(self, seq_num: int) -> FountainPart:
        """Part `seq_num`, from 1 to 2**32-1."""
        mixed = 0
        for index in fragments_of(seq_num, self.seq_len, self._checksum):
            mixed ^= self._fragments[index]
        return FountainPart(seq_num, self.seq_len, self._length, self._checksum, mixed.to_bytes(self._bytes, "big"))


class FountainDecoder:
    """Takes parts in any order, with repeats and losses, until they give the message.

    What it keeps is bounded by its first part: the fragments, and twice as many mixed parts.
    """

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._forget()
        self._message: bytes | None = None

    def _forget(self) -> None:
        self._about: tuple[int, int, int, int] | None = None
        self._simple: dict[int, int] = {}
        self._mixed: dict[frozenset[int], int] = {}

    @property
    def message(self) -> bytes | None:
        """The message, once there is enough."""
        return self._message

    @property
    def found(self) -> int:
        """How many fragments are known."""
        return len(self._simple)

    @property
    def wanted(self) -> int:
        """How many fragments there are; 0 before the first part."""
        return 0 if self._about is None else self._about[0]

    def take(self, part: FountainPart) -> bool:
        """Use one part; True once the message is there. PartStrayError, MessageBrokenError."""
        if self._about is not None and part.message != self._about:
            raise PartStrayError("this part belongs to another message than the parts before it")
        if self._message is not None:
            return True
        self._about = part.message
        indices = fragments_of(part.seq_num, part.seq_len, part.checksum)
        self._reduce(indices, int.from_bytes(part.data, "big"))
        if len(self._simple) == part.seq_len:
            self._message = self._joined(part)
        return self._message is not None

    def _reduce(self, indices: frozenset[int], data: int) -> None:
        """Take out of the part what is known, and out of the known parts what it makes known."""
        waiting = [(indices, data)]
        while waiting:
            indices, data = waiting.pop()
            for index in indices.intersection(self._simple):
                data ^= self._simple[index]
            indices = indices.difference(self._simple)
            for inner in [one for one in self._mixed if one < indices]:
                if inner < indices:
                    indices, data = indices - inner, data ^ self._mixed[inner]
            if not indices or indices in self._mixed:
                known = self._mixed.get(indices, 0)
                if known != data:
                    self._forget()
                    raise MessageBrokenError("two parts contradict each other; all of them were dropped")
                continue
            if len(indices) > 1 and len(self._mixed) >= _PARTS_KEPT * self.wanted:
                continue
            for outer in [one for one in self._mixed if indices < one or (len(indices) == 1 and indices <= one)]:
                waiting.append((outer, self._mixed.pop(outer)))
            if len(indices) == 1:
                (index,) = indices
                self._simple[index] = data
            else:
                self._mixed[indices] = data

    def _joined(self, part: FountainPart) -> bytes:
        length = len(part.data)
        whole = b"".join(self._simple[index].to_bytes(length, "big") for index in range(part.seq_len))
        message, filling = whole[: part.message_length], whole[part.message_length :]
        if zlib.crc32(message) != part.checksum or any(filling):
            self._forget()
            raise MessageBrokenError("the message's checksum is wrong; all its parts were dropped")
        self._mixed.clear()
        return message
