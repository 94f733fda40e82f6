"""Vectors of bytewords, random numbers, fountain parts and URs (BCR-2020-005, BCR-2020-012, BCR-2024-001)."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from specie.kernel.errors import MalformedError
from specie.kernel.ur import (
    BytewordsStyle,
    Fountain,
    FountainPart,
    UrDecoder,
    UrEncoder,
    bytes_from_cbor,
    bytes_to_cbor,
    bytewords_decode,
    bytewords_encode,
)
from specie.kernel.ur.fountain import fragment_length, fragments_of
from specie.kernel.ur.xoshiro import AliasSampler, Xoshiro256

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "ur.json").read_text())


def _message(length: int) -> bytes:
    return Xoshiro256(b"Wolf").next_bytes(length)


@pytest.mark.parametrize("record", VECTORS["bytewords"], ids=lambda record: record["hex"][:12])
def test_bytewords(record: dict[str, str]) -> None:
    """Every style spells the bytes as published, and reads back, in either case."""
    data = bytes.fromhex(record["hex"])
    for style in BytewordsStyle:
        if style in record:
            assert bytewords_encode(data, style) == record[style]
            assert bytewords_decode(record[style].upper(), style) == data


@pytest.mark.parametrize(("style", "text"), VECTORS["bytewords_refused"])
def test_bytewords_refused(style: str, text: str) -> None:
    """Wrong checksums and texts too short are refused."""
    with pytest.raises(MalformedError):
        bytewords_decode(text, BytewordsStyle(style))


def test_random_numbers() -> None:
    """The generator, seeded by text and by a checksum, gives the published numbers; so do its ranges and its bytes."""
    expected = VECTORS["xoshiro"]
    numbers = Xoshiro256(b"Wolf")
    assert [numbers.next() % 100 for _ in range(100)] == expected["remainders_100_of_Wolf"]
    numbers = Xoshiro256(zlib.crc32(b"Wolf").to_bytes(4, "big"))
    assert [numbers.next() % 100 for _ in range(100)] == expected["remainders_100_of_crc32_of_Wolf"]
    numbers = Xoshiro256(b"Wolf")
    assert [numbers.next_int(1, 10) for _ in range(100)] == expected["from_1_to_10_of_Wolf"]
    numbers = Xoshiro256(b"Wolf")
    assert [numbers.next_bytes(10).hex() for _ in range(2)] == expected["bytes_of_Wolf"]


def test_checksums() -> None:
    """CRC-32 is the one that is meant."""
    for text, expected in VECTORS["crc32"]:
        assert zlib.crc32(text.encode()).to_bytes(4, "big").hex() == expected


def test_draws() -> None:
    """The alias method draws the published indices, also for the degrees of mixed parts."""
    sampler, numbers = AliasSampler([1, 2, 4, 8]), Xoshiro256(b"Wolf")
    assert [sampler.next(numbers) for _ in range(500)] == VECTORS["alias_sampler_1_2_4_8"]
    sampler = AliasSampler([1 / number for number in range(1, 12)])
    degrees = [sampler.next(Xoshiro256(f"Wolf-{nonce}".encode())) + 1 for nonce in range(1, 201)]
    assert degrees == VECTORS["degrees_of_11"]


def test_shuffles() -> None:
    """Fragments are picked one by one from those left, as in the published shuffles."""
    numbers = Xoshiro256(b"Wolf")
    for expected in VECTORS["shuffles_of_1_to_10"]:
        left = list(range(1, 11))
        assert [left.pop(numbers.next_int(0, len(left) - 1)) for _ in range(10)] == expected


def test_fragments() -> None:
    """Lengths, pieces and the choice of pieces for each part are as published."""
    for length, least, most, expected in VECTORS["fragment_length"]:
        assert fragment_length(length, most, least) == expected
    message = _message(1024)
    fountain = Fountain(message, 100)
    assert [fountain.part(number).data.hex() for number in range(1, 12)] == VECTORS["fragments_of_1024"]
    chosen = [sorted(fragments_of(number, 11, zlib.crc32(message))) for number in range(1, 31)]
    assert chosen == VECTORS["fragment_indices_of_1024"]


def test_parts() -> None:
    """The first twenty parts of a message, as CBOR; each is read back."""
    fountain = Fountain(_message(256), 30)
    parts = [fountain.part(number) for number in range(1, 21)]
    assert [part.to_bytes().hex() for part in parts] == VECTORS["parts_of_256"]
    assert [FountainPart.from_bytes(bytes.fromhex(text)) for text in VECTORS["parts_of_256"]] == parts


def test_frames() -> None:
    """A whole UR and the first twenty frames of a longer one; without four of them, backwards, they give the message."""
    whole = UrEncoder("bytes", bytes_to_cbor(_message(50)), most_bytes=100)
    assert whole.seq_len == 1
    assert whole.frame(7) == VECTORS["ur_of_50"]
    encoder = UrEncoder("bytes", bytes_to_cbor(_message(256)), most_bytes=30)
    assert [encoder.frame(number) for number in range(1, 21)] == VECTORS["frames_of_256"]
    decoder = UrDecoder("bytes")
    assert any(decoder.take(frame) for frame in reversed(VECTORS["frames_of_256"][4:]))
    assert bytes_from_cbor(decoder.message or b"") == _message(256)
