"""The parsers of outside bytes beside ecash and invoices: sealed files, text forms, words, paths, settings.

Seeded mutation of a corpus: whatever the bytes, a parser answers or refuses with an error of ours, and never any other way.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from specie.kernel import RefusedError, encoding, hd, seal
from specie.keys.sealing import passphrase_from_bytes, sealed_seed_from_bytes
from specie.ops.config import load_settings

CORPUS = Path(__file__).parent / "corpus" / "rest"
ROUNDS = int(os.environ.get("SPECIE_FUZZ_ROUNDS", "400"))


def _settings(data: bytes, scratch: Path) -> object:
    file = scratch / "bank.toml"
    file.write_bytes(data)
    return load_settings(file, {}, {})


PARSERS: dict[str, tuple[str, Callable[[bytes, Path], object]]] = {
    "seal header": ("seal_key.bin", lambda data, _: seal.is_passphrase_sealed(data)),
    "unseal": ("seal_key.bin", lambda data, _: seal.unseal(data, bytes(range(32)), context=b"x")),
    "sealed seed": ("sealed_seed.bin", lambda data, _: sealed_seed_from_bytes(data, use="mint")),
    "passphrase": ("words.txt", lambda data, _: passphrase_from_bytes(data)),
    "bech32": ("bech32.txt", lambda data, _: encoding.bech32_decode(data.decode("latin-1"))),
    "base64url": ("base64url.txt", lambda data, _: encoding.base64url_decode(data.decode("latin-1"))),
    "hex": ("base64url.txt", lambda data, _: encoding.hex_checked(data.decode("latin-1"))),
    "words": ("words.txt", lambda data, _: hd.entropy_from_words(data.decode("latin-1"))),
    "path": ("path.txt", lambda data, _: hd.path_from_text(data.decode("latin-1"))),
    "settings": ("settings.toml", _settings),
}


def _mutant(data: bytes, rng: random.Random) -> bytes:
    """A few bytes flipped, cut, repeated or put in."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(4):
            case 0 if out:
                out[at % len(out)] ^= 1 << rng.randrange(8)
            case 1:
                out[at:at] = rng.randbytes(rng.randint(1, 8))
            case 2:
                del out[at : at + rng.randint(1, 12)]
            case _:
                out[at:at] = out[: rng.randint(0, 40)]
    return bytes(out)


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_a_parser_answers_or_refuses(name: str, tmp_path: Path) -> None:
    """No mutant of the corpus gets anything but an answer or a RefusedError out of a parser; the corpus itself is read."""
    file, parse = PARSERS[name]
    sound = (CORPUS / file).read_bytes()
    if name != "hex":
        parse(sound, tmp_path)
    rng = random.Random(f"fuzz {name}")
    refused = 0
    for _ in range(ROUNDS):
        try:
            parse(_mutant(sound, rng), tmp_path)
        except RefusedError:
            refused += 1
    assert refused or name == "passphrase"
