"""The mint's curve work in native batches (`keys/native/batch.c`), where it was built and proves right; else None.

Each call runs outside of the interpreter lock. What the library leaves to the caller (a very long secret, a hash that is no
scalar) comes back as None and is computed by the binding, one by one.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from specie.ecash.bdhke import hash_to_curve
from specie.ecash.dleq import prove
from specie.kernel import curve
from specie.keys.native.build import LIBRARY, SOURCE, source_mark

__all__ = ["NativeBatch", "Unbuilt", "native_batch", "opened"]

_CURVE = (
    "secp256k1_context_create",
    "secp256k1_context_randomize",
    "secp256k1_ec_pubkey_parse",
    "secp256k1_ec_pubkey_serialize",
    "secp256k1_ec_pubkey_create",
    "secp256k1_ecdh",
    "secp256k1_ec_seckey_verify",
    "secp256k1_ec_seckey_tweak_mul",
    "secp256k1_ec_seckey_tweak_add",
)
_HASHES = ("SHA256", "HMAC", "EVP_sha256", "CRYPTO_memcmp", "OPENSSL_cleanse")
_SIGNED = 97
_NO_POINT = bytes(33)

ProofTask = tuple[bytes, bytes, bytes]
"""(k, secret, C)"""

SignTask = tuple[bytes, bytes, bytes]
"""(k, k*G in 65 bytes, B_)"""


@dataclass(frozen=True, slots=True)
class Unbuilt:
    """Why native batches cannot be used here."""

    reason: str


class NativeBatch:
    """The opened library; safe to call from several threads at once."""

    __slots__ = ("_library",)

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def exchange(
        self, jobs: Sequence[tuple[Sequence[ProofTask], Sequence[SignTask]]]
    ) -> tuple[list[tuple[bytes, bool] | None], list[tuple[bytes, bytes, bytes] | None]]:
        """Coins and outputs of several jobs, in one call; the answers over all jobs, one behind another.

        For each coin (k, secret, C): Y = hash_to_curve(secret), and whether C == k*Y. For each output (k, k*G in 65 bytes, B_)
        of a job whose coins all hold: C_ = k*B_ and e, s of its DLEQ. None where the binding has to say, or refuse.
        """
        proofs = [task for coins, _ in jobs for task in coins]
        messages = [task for _, outputs in jobs for task in outputs]
        coins, outputs = len(proofs), len(messages)
        sizes = (ctypes.c_uint32 * (2 * len(jobs)))(*[len(tasks) for job in jobs for tasks in job])
        lengths = (ctypes.c_uint32 * coins)(*[len(secret) for _, secret, _ in proofs])
        ys, signed = ctypes.create_string_buffer(33 * coins), ctypes.create_string_buffer(_SIGNED * outputs)
        found, valid, done = (ctypes.create_string_buffer(count) for count in (coins, coins, outputs))
        self._library.specie_exchange(
            len(jobs),
            sizes,
            b"".join([secret for _, secret, _ in proofs]),
            lengths,
            b"".join([k for k, _, _ in proofs]),
            b"".join([c if len(c) == 33 else _NO_POINT for _, _, c in proofs]),
            ys,
            found,
            valid,
            b"".join([k for k, _, _ in messages]),
            b"".join([key for _, key, _ in messages]),
            b"".join([b if len(b) == 33 else _NO_POINT for _, _, b in messages]),
            signed,
            done,
        )
        y, known, held, out, ok = ys.raw, found.raw, valid.raw, signed.raw, done.raw
        return (
            [(y[33 * at : 33 * at + 33], held[at] == 1) if known[at] else None for at in range(coins)],
            [
                (out[at : at + 33], out[at + 33 : at + 65], out[at + 65 : at + 97]) if ok[place] else None
                for place, at in enumerate(range(0, _SIGNED * outputs, _SIGNED))
            ],
        )

    def verify(self, tasks: Sequence[ProofTask]) -> list[tuple[bytes, bool] | None]:
        """Coins alone."""
        return self.exchange([(tasks, ())])[0]

    def sign(self, tasks: Sequence[SignTask]) -> list[tuple[bytes, bytes, bytes] | None]:
        """Outputs alone."""
        return self.exchange([((), tasks)])[1]


def opened(path: Path, seed: bytes) -> NativeBatch | Unbuilt:
    """The library at `path`, blinded by 32 FRESH random bytes; or why it cannot be trusted here."""
    if not path.is_file():
        return Unbuilt("they were not built (python -m specie.keys.native.build)")
    try:
        library = ctypes.CDLL(str(path))
        library.specie_batch_source.restype = ctypes.c_char_p
        if library.specie_batch_source() != source_mark(SOURCE).encode():
            return Unbuilt("they were built from another source (python -m specie.keys.native.build)")
        hashes = ctypes.CDLL(ctypes.util.find_library("crypto"))
        addresses = [*curve.library_functions(_CURVE), *(_address(hashes, name) for name in _HASHES)]
    except (OSError, AttributeError) as error:
        return Unbuilt(f"they do not fit this machine ({error})")
    size, text, buffer = ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p
    library.specie_batch_open.argtypes = (buffer, size, text)
    coins, outputs = (text, buffer, text, text, buffer, buffer, buffer), (text, text, text, buffer, buffer)
    library.specie_exchange.argtypes = (size, buffer, *coins, *outputs)
    library.specie_exchange.restype = None
    functions = (ctypes.c_void_p * len(addresses))(*addresses)
    if library.specie_batch_open(functions, len(addresses), seed):
        return Unbuilt("they could not be opened")
    batch = NativeBatch(library)
    return batch if _proved(batch) else Unbuilt("they gave a wrong answer and are not used")


@cache
def native_batch() -> NativeBatch | Unbuilt:
    """The library of this process, opened once; or why there is none."""
    return opened(LIBRARY, secrets.token_bytes(32))


def _address(library: ctypes.CDLL, name: str) -> int:
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0


def _proved(batch: NativeBatch) -> bool:
    """Whether it says what the binding says, of a coin that is good, one that is not, and a signature with its proof."""
    k = bytes(31) + b"\x07"
    key, secret = curve.public_key_uncompressed(k), b"specie"
    y = hash_to_curve(secret)
    c = curve.multiply_secret(y, k)
    proof = prove(k, key, y, c)
    return batch.verify([(k, secret, c), (k, secret, y)]) == [(y, True), (y, False)] and batch.sign([(k, key, y)]) == [
        (c, proof.e, proof.s)
    ]
