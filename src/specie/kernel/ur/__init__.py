"""Uniform resources (UR): long bytes as QR codes, in as many frames as it takes, in any order (BCR-2020-005)."""

from specie.kernel.ur.bytewords import BytewordsStyle, bytewords_decode, bytewords_encode
from specie.kernel.ur.fountain import Fountain, FountainDecoder, FountainPart, MessageBrokenError, PartStrayError
from specie.kernel.ur.resource import BYTES, UrDecoder, UrEncoder, bytes_from_cbor, bytes_to_cbor, is_ur

__all__ = [
    "BYTES",
    "BytewordsStyle",
    "Fountain",
    "FountainDecoder",
    "FountainPart",
    "MessageBrokenError",
    "PartStrayError",
    "UrDecoder",
    "UrEncoder",
    "bytes_from_cbor",
    "bytes_to_cbor",
    "bytewords_decode",
    "bytewords_encode",
    "is_ur",
]
