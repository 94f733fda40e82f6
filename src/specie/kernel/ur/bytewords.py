"""Bytewords: bytes as four-letter English words with a checksum at the end (BCR-2020-012).

The minimal style, the one of URs, writes only the first and last letter of each word. The checksum is CRC-32, big-endian:
it finds errors of reading, not of malice.
"""

from __future__ import annotations

import zlib
from enum import StrEnum

from specie.kernel.errors import MalformedError

__all__ = ["BytewordsStyle", "bytewords_decode", "bytewords_encode"]

_TEXT = (
    "able acid also apex aqua arch atom aunt away axis back bald barn belt beta bias blue body brag brew bulb buzz calm cash "
    "cats chef city claw code cola cook cost crux curl cusp cyan dark data days deli dice diet door down draw drop drum dull "
    "duty each easy echo edge epic even exam exit eyes fact fair fern figs film fish fizz flap flew flux foxy free frog fuel "
    "fund gala game gear gems gift girl glow good gray grim guru gush gyro half hang hard hawk heat help high hill holy hope "
    "horn huts iced idea idle inch inky into iris iron item jade jazz join jolt jowl judo jugs jump junk jury keep keno kept "
    "keys kick kiln king kite kiwi knob lamb lava lazy leaf legs liar limp lion list logo loud love luau luck lung main many "
    "math maze memo menu meow mild mint miss monk nail navy need news next noon note numb obey oboe omit onyx open oval owls "
    "paid part peck play plus poem pool pose puff puma purr quad quiz race ramp real redo rich road rock roof ruby ruin runs "
    "rust safe saga scar sets silk skew slot soap solo song stub surf swan taco task taxi tent tied time tiny toil tomb toys "
    "trip tuna twin ugly undo unit urge user vast very veto vial vibe view visa void vows wall wand warm wasp wave waxy webs "
    "what when whiz wolf work yank yawn yell yoga yurt zaps zero zest zinc zone zoom"
)
_WORDS = _TEXT.split()
_PAIRS = tuple(word[0] + word[-1] for word in _WORDS)
_BY_WORD = {word: value for value, word in enumerate(_WORDS)}
_BY_PAIR = {pair: value for value, pair in enumerate(_PAIRS)}
_CHECKSUM_BYTES = 4


class BytewordsStyle(StrEnum):
    """How the words are written: apart, joined by hyphens, or two letters each with nothing between."""

    STANDARD = "standard"
    URI = "uri"
    MINIMAL = "minimal"


_BETWEEN = {BytewordsStyle.STANDARD: " ", BytewordsStyle.URI: "-"}


def bytewords_encode(data: bytes, style: BytewordsStyle = BytewordsStyle.MINIMAL) -> str:
    """The words of `data` and of its checksum, lower case."""
    whole = data + zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "big")
    if style is BytewordsStyle.MINIMAL:
        return "".join(map(_PAIRS.__getitem__, whole))
    return _BETWEEN[style].join(map(_WORDS.__getitem__, whole))


def bytewords_decode(text: str, style: BytewordsStyle = BytewordsStyle.MINIMAL) -> bytes:
    """The bytes that the words (in either case) spell. MalformedError for what is no byteword, or a wrong checksum."""
    if not text.isascii():
        raise MalformedError("bytewords are ASCII letters")
    lower = text.lower()
    if style is BytewordsStyle.MINIMAL:
        found = [_BY_PAIR.get(lower[at : at + 2]) for at in range(0, len(lower), 2)]
    else:
        found = [_BY_WORD.get(word) for word in lower.split(_BETWEEN[style])]
    values = [value for value in found if value is not None]
    if len(values) != len(found):
        raise MalformedError("the text has a word that is no byteword")
    if len(values) <= _CHECKSUM_BYTES:
        raise MalformedError("the bytewords are too few")
    data, checksum = bytes(values[:-_CHECKSUM_BYTES]), bytes(values[-_CHECKSUM_BYTES:])
    if zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "big") != checksum:
        raise MalformedError("the checksum of the bytewords is wrong")
    return data
