"""URs: bytes of a named type as text made for QR codes, whole or in parts (BCR-2020-005).

    ur:bytes/hdeymejtswhhylkepmyk...          whole
    ur:bytes/3-9/lpaxascfadaxcywenbplj...     part 3 of a message of 9 fragments

The bytes are CBOR whose shape the type says; this module knows only the type `bytes`, a byte string (`bytes_to_cbor`).
"""

from __future__ import annotations

import re

from specie.kernel.errors import MalformedError
from specie.kernel.ur.bytewords import bytewords_decode, bytewords_encode
from specie.kernel.ur.fountain import (
    MOST_MESSAGE_BYTES,
    Fountain,
    FountainDecoder,
    FountainPart,
    PartStrayError,
)
from specie.kernel.ur.item import bytes_item, read_bytes

__all__ = ["BYTES", "UrDecoder", "UrEncoder", "bytes_from_cbor", "bytes_to_cbor", "is_ur"]

BYTES = "bytes"
"""The type of bytes without a declared shape."""

_KIND = re.compile(r"[a-z0-9-]{1,64}")
_SEQUENCE = re.compile(r"([1-9][0-9]{0,9})-([1-9][0-9]{0,9})")
_MOST_TEXT = 2 * (MOST_MESSAGE_BYTES + 64)


def bytes_to_cbor(data: bytes) -> bytes:
    """The message of a UR of type `bytes`."""
    return bytes_item(data)


def bytes_from_cbor(message: bytes) -> bytes:
    """The bytes in the message of a UR of type `bytes`. MalformedError."""
    data, end = read_bytes(message, 0)
    if end != len(message):
        raise MalformedError("a message of bytes has more behind its end")
    return data


def is_ur(text: str) -> bool:
    """Whether a line of text claims to be a UR."""
    return text.lstrip()[:3].lower() == "ur:"


class UrEncoder:
    """The frames of one message: a single one where it fits, else an endless sequence, each by its number."""

    def __init__(self, kind: str, message: bytes, *, most_bytes: int = 100) -> None:
        """`message`: CBOR as the type `kind` wants it; `most_bytes`: most of it in one frame, 10 or more.

        MalformedError for a type that cannot be written, or a message beyond the bounds of `fountain`.
        """
        if not _KIND.fullmatch(kind):
            raise MalformedError("a UR's type has letters, digits and hyphens")
        self._kind = kind
        self._message = message
        self._fountain = Fountain(message, most_bytes)

    @property
    def seq_len(self) -> int:
        """How many frames there are before they begin to be mixed; 1 means that there is only one."""
        return self._fountain.seq_len

    def frame(self, number: int) -> str:
        """Frame `number`, from 1 to 2**32-1, lower case; QR codes take it more densely in upper case."""
        if self.seq_len == 1:
            return f"ur:{self._kind}/{bytewords_encode(self._message)}"
        body = bytewords_encode(self._fountain.part(number).to_bytes())
        return f"ur:{self._kind}/{number}-{self.seq_len}/{body}"


class UrDecoder:
    """Takes frames in any order, with repeats and losses, until they give the message of a UR of type `kind`."""

    def __init__(self, kind: str) -> None:
        """Nothing is known yet."""
        self._kind = kind
        self._parts = FountainDecoder()
        self._whole: bytes | None = None

    @property
    def message(self) -> bytes | None:
        """The message (CBOR), once there is enough."""
        return self._parts.message if self._whole is None else self._whole

    @property
    def found(self) -> int:
        """How many fragments are known."""
        return self._parts.found if self._whole is None else 1

    @property
    def wanted(self) -> int:
        """How many fragments there are; 0 before the first frame."""
        return self._parts.wanted if self._whole is None else 1

    def take(self, text: str) -> bool:
        """Use one frame, in either case; True once the message is there.

        MalformedError for what is no frame of this type, and its leaves `PartStrayError` for a frame of another message
        (those before are kept) and `MessageBrokenError` for a checksum that is wrong in the end (all are dropped).
        """
        pieces = self._pieces(text)
        data = bytewords_decode(pieces[-1])
        if len(pieces) == 1:
            if self.wanted and self.message != data:
                raise PartStrayError("this frame belongs to another message than the frames before it")
            self._whole = data
            return True
        if self._whole is not None:
            raise PartStrayError("this frame belongs to another message than the frames before it")
        sequence = _SEQUENCE.fullmatch(pieces[0])
        part = FountainPart.from_bytes(data)
        if sequence is None or (int(sequence[1]), int(sequence[2])) != (part.seq_num, part.seq_len):
            raise MalformedError("a frame's number is not that of its part")
        return self._parts.take(part)

    def _pieces(self, text: str) -> list[str]:
        if len(text) > _MOST_TEXT:
            raise MalformedError("a frame is too long")
        scheme, _, rest = text.strip().lower().partition(":")
        kind, *pieces = rest.split("/")
        if scheme != "ur" or not text.isascii() or not 1 <= len(pieces) <= 2:
            raise MalformedError("this is no frame of a UR")
        if kind != self._kind:
            raise MalformedError(f"this frame is not of the type {self._kind}")
        return pieces
