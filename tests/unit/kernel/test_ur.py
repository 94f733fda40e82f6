"""URs: any order, repeats and losses give the message; frames of two messages and wrong checksums do not."""

from __future__ import annotations

import os
import random
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specie.kernel.errors import MalformedError
from specie.kernel.ur import (
    BytewordsStyle,
    Fountain,
    FountainDecoder,
    FountainPart,
    MessageBrokenError,
    PartStrayError,
    UrDecoder,
    UrEncoder,
    bytes_from_cbor,
    bytes_to_cbor,
    bytewords_decode,
    bytewords_encode,
    is_ur,
)
from specie.kernel.ur.fountain import MOST_FRAGMENTS, MOST_MESSAGE_BYTES
from specie.kernel.ur.item import array_head, bytes_item, read_array_head, read_bytes, read_unsigned, unsigned_item
from specie.kernel.ur.xoshiro import AliasSampler

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus" / "ur"
ROUNDS = int(os.environ.get("SPECIE_FUZZ_ROUNDS", "400"))


@given(
    data=st.binary(min_size=1, max_size=900),
    most=st.integers(min_value=10, max_value=120),
    loss=st.floats(min_value=0, max_value=0.7),
    rng=st.randoms(use_true_random=False),
)
@settings(max_examples=120, deadline=None)
def test_losses_repeats_and_disorder_do_no_harm(data: bytes, most: int, loss: float, rng: random.Random) -> None:
    """Whatever is lost, repeated or late: once it is complete it is the message, and it gets complete."""
    encoder = UrEncoder("bytes", bytes_to_cbor(data), most_bytes=most)
    numbers = [number for number in range(1, 12 * encoder.seq_len + 120) if rng.random() >= loss]
    numbers = [number for number in numbers for _ in range(rng.choice((1, 1, 2)))]
    rng.shuffle(numbers)
    decoder = UrDecoder("bytes")
    for number in numbers:
        frame = encoder.frame(number)
        if decoder.take(frame.upper() if rng.random() < 0.5 else frame):
            break
    assert decoder.message is not None
    assert bytes_from_cbor(decoder.message) == data
    assert decoder.found == decoder.wanted == encoder.seq_len


def test_without_a_loss_no_frame_is_too_many() -> None:
    """The first frames, as many as there are fragments, are enough; later ones change nothing."""
    encoder = UrEncoder("bytes", bytes_to_cbor(bytes(1000)), most_bytes=50)
    decoder = UrDecoder("bytes")
    assert [decoder.take(encoder.frame(number)) for number in range(1, encoder.seq_len + 1)].count(True) == 1
    assert decoder.take(encoder.frame(99))


def test_frames_of_two_messages_are_told_apart() -> None:
    """A frame of another message is refused by name, and those before it still give theirs."""
    first, second = (UrEncoder("bytes", bytes_to_cbor(bytes([fill]) * 300), most_bytes=50) for fill in (1, 2))
    decoder = UrDecoder("bytes")
    decoder.take(first.frame(1))
    with pytest.raises(PartStrayError, match="another message"):
        decoder.take(second.frame(2))
    with pytest.raises(PartStrayError, match="another message"):
        decoder.take(UrEncoder("bytes", bytes_to_cbor(b"whole")).frame(1))
    for number in range(2, first.seq_len + 1):
        decoder.take(first.frame(number))
    assert bytes_from_cbor(decoder.message or b"") == bytes([1]) * 300
    with pytest.raises(PartStrayError):
        decoder.take(second.frame(1))


def test_a_whole_frame_and_others() -> None:
    """A message in one frame is there at once; itself again is welcome, another or a part is not."""
    encoder = UrEncoder("bytes", bytes_to_cbor(b"small"))
    decoder = UrDecoder("bytes")
    assert (decoder.found, decoder.wanted) == (0, 0)
    assert decoder.take(encoder.frame(1))
    assert decoder.take(encoder.frame(1))
    assert (decoder.found, decoder.wanted) == (1, 1)
    with pytest.raises(PartStrayError):
        decoder.take(UrEncoder("bytes", bytes_to_cbor(b"other")).frame(1))
    with pytest.raises(PartStrayError):
        decoder.take(UrEncoder("bytes", bytes_to_cbor(bytes(500)), most_bytes=50).frame(1))


def test_a_wrong_checksum_is_refused_and_forgotten() -> None:
    """Parts that agree with each other but not with their checksum give nothing; good ones after them do."""
    fountain = Fountain(b"a message of several fragments", 10)
    decoder = FountainDecoder()
    for number in (1, 2):
        decoder.take(fountain.part(number))
    with pytest.raises(MessageBrokenError, match="checksum"):
        decoder.take(replace(fountain.part(3), data=b"0123456789"))
    assert decoder.message is None
    assert (decoder.found, decoder.wanted) == (0, 0)
    for number in (1, 2, 3):
        decoder.take(fountain.part(number))
    assert decoder.message == b"a message of several fragments"


def test_filling_is_zeros() -> None:
    """What is behind the message in its last fragment must be zeros, or the parts were made by somebody else."""
    fountain = Fountain(b"a message of 35 letters............", 10)
    last = fountain.part(3)
    assert last.data.endswith(b"\0")
    decoder = FountainDecoder()
    for number in (1, 2):
        decoder.take(fountain.part(number))
    with pytest.raises(MessageBrokenError):
        decoder.take(replace(last, data=last.data[:-1] + b"\1"))


def test_parts_that_contradict_are_refused() -> None:
    """Two different pieces for one place: nobody can say which is right, so all are dropped."""
    fountain = Fountain(bytes(range(100)), 10)
    decoder = FountainDecoder()
    decoder.take(fountain.part(1))
    with pytest.raises(MessageBrokenError, match="contradict"):
        decoder.take(replace(fountain.part(1), data=b"x" * 10))
    assert decoder.wanted == 0


def test_what_is_kept_is_bounded() -> None:
    """Mixed parts alone, thousands of them, are kept up to twice the fragments; what is dropped does no harm."""
    fountain = Fountain(random.Random("kept").randbytes(600), 10)
    decoder = FountainDecoder()
    mixed = [part for part in map(fountain.part, range(61, 3000)) if len(_indices(part)) > 25]
    for part in mixed[:400]:
        decoder.take(part)
        assert len(decoder._mixed) <= 2 * fountain.seq_len
    for number in range(1, 61):
        decoder.take(fountain.part(number))
    assert decoder.message is not None


def _indices(part: FountainPart) -> frozenset[int]:
    from specie.kernel.ur.fountain import fragments_of

    return fragments_of(part.seq_num, part.seq_len, part.checksum)


def test_bounds() -> None:
    """Messages, fragments and types beyond the bounds are refused before anything is made of them."""
    with pytest.raises(MalformedError):
        Fountain(b"", 10)
    with pytest.raises(MalformedError):
        Fountain(bytes(MOST_MESSAGE_BYTES + 1), 1000)
    with pytest.raises(MalformedError, match="fragments"):
        Fountain(bytes(MOST_FRAGMENTS * 10 + 10), 10)
    with pytest.raises(ValueError, match="at least 10"):
        Fountain(b"x", 9)
    with pytest.raises(MalformedError, match="letters"):
        UrEncoder("By tes", b"x")
    with pytest.raises(MalformedError, match="too long"):
        UrDecoder("bytes").take("ur:bytes/" + "ae" * (MOST_MESSAGE_BYTES + 100))


@pytest.mark.parametrize(
    ("part", "why"),
    [
        (FountainPart(0, 3, 30, 1, bytes(10)), "range"),
        (FountainPart(1 << 32, 3, 30, 1, bytes(10)), "range"),
        (FountainPart(1, 0, 30, 1, bytes(10)), "parts"),
        (FountainPart(1, MOST_FRAGMENTS + 1, 30_000, 1, bytes(10)), "parts"),
        (FountainPart(1, 3, 0, 1, bytes(10)), "long"),
        (FountainPart(1, 3, MOST_MESSAGE_BYTES + 1, 1, bytes(10)), "long"),
        (FountainPart(1, 3, 31, 1, bytes(10)), "fit"),
        (FountainPart(1, 3, 20, 1, bytes(10)), "fit"),
        (FountainPart(1, 3, 1, 1, b""), "fit"),
    ],
)
def test_parts_that_cannot_be(part: FountainPart, why: str) -> None:
    """A part that contradicts itself or breaks a bound is refused when it is read."""
    with pytest.raises(MalformedError, match=why):
        FountainPart.from_bytes(part.to_bytes())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        array_head(4) + unsigned_item(1) * 3 + bytes_item(b"x"),
        array_head(5) + unsigned_item(1) * 4 + unsigned_item(7),
        array_head(5) + b"\x18\x01" + unsigned_item(1) * 3 + bytes_item(b"x"),
        array_head(5) + b"\x18",
        array_head(5) + b"\x1f",
        FountainPart(1, 1, 1, 1, b"x").to_bytes() + b"\0",
        array_head(5) + unsigned_item(1) * 4 + b"\x45abc",
    ],
)
def test_bytes_that_are_no_part(data: bytes) -> None:
    """Wrong counts, kinds, lengths, forms and tails are refused."""
    with pytest.raises(MalformedError):
        FountainPart.from_bytes(data)


@pytest.mark.parametrize("value", [0, 23, 24, 255, 256, 65_535, 65_536, 2**32, 2**64 - 1])
def test_items_are_in_their_shortest_form(value: int) -> None:
    """Numbers of every width are written and read alike."""
    assert read_unsigned(unsigned_item(value), 0) == (value, len(unsigned_item(value)))
    assert read_array_head(array_head(value), 0)[0] == value


def test_items_beyond_64_bits_do_not_exist() -> None:
    """No head holds them, and a byte string ends where it says."""
    with pytest.raises(ValueError, match="64 bits"):
        unsigned_item(2**64)
    assert read_bytes(bytes_item(b"abc") + b"d", 0) == (b"abc", 4)
    with pytest.raises(MalformedError, match="behind"):
        bytes_from_cbor(bytes_item(b"abc") + b"d")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bytes/aeadaolazmjendeoti",
        "ur:bytes",
        "ur:bytes/1-2/3/aeadaolazmjendeoti",
        "ur:crypto-psbt/aeadaolazmjendeoti",
        "ur:bytes/zzzz",
        "ur:bytes/aeadaolazmjendeot",
        "ur:bytes/ä",
        "ur:bytes/2-9/lpadascfadaxcywenbpljkhdcahkadaemejtswhhylkepmykhhtsytsnoyoyaxaedsuttydmmhhpktpmsrjtdkgslpgh",
        "ur:bytes/0-9/lpadascfadaxcywenbpljkhdcahkadaemejtswhhylkepmykhhtsytsnoyoyaxaedsuttydmmhhpktpmsrjtdkgslpgh",
        "ur:bytes/1-9/lpadascfadaxcywenbpljkhdcahkadaemejtswhhylkepmykhhtsytsnoyoyaxaedsuttydmmhhpktpmsrjtdkgslpga",
    ],
)
def test_texts_that_are_no_frame(text: str) -> None:
    """Another scheme, type, number or checksum is refused, and leaves the decoder as it was."""
    decoder = UrDecoder("bytes")
    with pytest.raises(MalformedError):
        decoder.take(text)
    assert decoder.wanted == 0


def test_words_apart() -> None:
    """Full words are read too; a word of another list is not, nor a letter outside ASCII."""
    text = bytewords_encode(b"specie", BytewordsStyle.URI)
    assert bytewords_decode(text, BytewordsStyle.URI) == b"specie"
    with pytest.raises(MalformedError, match="no byteword"):
        bytewords_decode(text + "-abandon", BytewordsStyle.URI)
    with pytest.raises(MalformedError, match="ASCII"):
        bytewords_decode("ſ" + text)


def test_what_claims_to_be_a_ur() -> None:
    """Only the scheme is looked at."""
    assert is_ur(" UR:BYTES/AEAD")
    assert not is_ur("cashuBo2F0")


def test_one_weight_is_always_drawn() -> None:
    """A sampler of one index needs no alias."""
    from specie.kernel.ur.xoshiro import Xoshiro256

    assert AliasSampler([5.0]).next(Xoshiro256(b"")) == 0


@pytest.mark.parametrize("file", sorted(CORPUS.glob("*.txt")), ids=lambda path: path.stem)
def test_mutants_of_frames_are_read_or_refused(file: Path) -> None:
    """No mutant of the corpus gets anything but an answer or a refusal out of the decoder, in what order they come."""
    sound = file.read_text().split()
    rng = random.Random(f"fuzz {file.stem}")
    decoder, refused = UrDecoder("bytes"), 0
    for _ in range(ROUNDS):
        data = bytearray(bytewords_decode(rng.choice(sound).split("/")[-1]))
        for _ in range(rng.randint(0, 4)):
            match rng.randrange(3):
                case 0 if data:
                    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                case 1:
                    data[rng.randrange(len(data) + 1) :] = b""
                case _:
                    data += rng.randbytes(3)
        body = bytewords_encode(bytes(data))
        head = rng.choice(sound).rpartition("/")[0] if rng.random() < 0.3 else _head(bytes(data))
        try:
            decoder.take(f"{head}/{body}")
        except MalformedError:
            refused += 1
    assert refused


def _head(data: bytes) -> str:
    """The head that fits the part, so that mutants reach what is behind it."""
    try:
        part = FountainPart.from_bytes(data)
    except MalformedError:
        return "ur:bytes"
    return f"ur:bytes/{part.seq_num}-{part.seq_len}"


def test_the_corpus_is_sound() -> None:
    """The files of the corpus are read."""
    assert len(list(CORPUS.glob("*.txt"))) >= 3
    for file in CORPUS.glob("*.txt"):
        decoder = UrDecoder("bytes")
        assert [decoder.take(frame) for frame in file.read_text().split()][-1]
        assert zlib.crc32(decoder.message or b"")
