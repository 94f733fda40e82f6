"""Animated QR codes (NUT-16): frames of ours are read by the library that other wallets use, and theirs by us."""

from __future__ import annotations

import random

import pytest

from specie.kernel.ur import BYTES, UrDecoder, UrEncoder, bytes_from_cbor, bytes_to_cbor
from tests.interop.peers import Driver

pytestmark = pytest.mark.interop

TOKENS = {length: "cashuB" + random.Random(length).randbytes(length).hex() for length in (10, 100, 900, 6000)}


@pytest.mark.parametrize("length", sorted(TOKENS))
@pytest.mark.parametrize("most", [30, 100, 500])
def test_their_frames_are_ours(cashu_ts: Driver, length: int, most: int) -> None:
    """Both libraries make the same frames of the same text, mixed ones too, to the letter."""
    encoder = UrEncoder(BYTES, bytes_to_cbor(TOKENS[length].encode()), most_bytes=most)
    count = min(2 * encoder.seq_len + 20, 300)
    theirs = cashu_ts.call("ur_frames", text=TOKENS[length], most_bytes=most, first=1, count=count)
    assert [frame.lower() for frame in theirs] == [encoder.frame(number) for number in range(1, count + 1)]


def test_they_read_ours_out_of_order_and_with_losses(cashu_ts: Driver) -> None:
    """A third of our frames lost and the rest shuffled, their decoder has the text."""
    rng = random.Random("theirs")
    encoder = UrEncoder(BYTES, bytes_to_cbor(TOKENS[900].encode()), most_bytes=80)
    frames = [encoder.frame(number) for number in range(1, 6 * encoder.seq_len) if rng.random() > 0.33]
    rng.shuffle(frames)
    assert cashu_ts.call("ur_text", frames=frames) == {"type": "bytes", "text": TOKENS[900]}


def test_we_read_theirs_out_of_order_and_with_losses(cashu_ts: Driver) -> None:
    """And the other way round, from mixed frames alone."""
    rng = random.Random("ours")
    frames = cashu_ts.call("ur_frames", text=TOKENS[900], most_bytes=80, first=200, count=200)
    rng.shuffle(frames)
    decoder = UrDecoder(BYTES)
    assert any(decoder.take(frame) for frame in frames)
    assert bytes_from_cbor(decoder.message or b"").decode() == TOKENS[900]
