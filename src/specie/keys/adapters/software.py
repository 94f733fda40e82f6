"""`SoftwareSigner`: every key from one seed in this process's memory, arithmetic by libsecp256k1.

| ref                                  | BIP 32 path                                                                    |
|--------------------------------------|--------------------------------------------------------------------------------|
| `mint/{unit}/{keyset index}/{amount}`| m/0'/{unit index}'/{keyset index}'/{log2(amount)}'                             |
| `p2pk/{counter}`                     | m/129373'/10'/0'/0'/{counter} (NUT-11, derived keys)                           |
| `quote/{counter}`                    | m/129373'/20'/0'/0'/{counter} (NUT-20, derived keys)                           |
| `mint-backup`                        | none: SHA-256 of the seed and `cashu-mint-backup` (NUT-27)                     |
| any other (`node`, `nostr/{counter}`)| m/1936745827'/{i0}'/.../{i7}'                                                  |

The unit's index is the first four bytes of sha256(unit), big-endian, without its top bit. i0 to i7 are the eight
big-endian words of sha256(ref), each without its top bit; 1936745827 is "spec" in ASCII. NUT-13 secrets stand below
m/129372' (id version 00) or come from an HMAC of the seed (01), see `ecash.derivation`. `nostr/{counter}` are the keys
to which payments of requests are sent (NUT-18), one a request, so that payers cannot tell that they belong together.

Not here: where the seed comes from (`adapters.seed_store`). Python cannot wipe memory for certain; `close` drops every
reference to the seed and its keys, and neither repr, pickle nor an exception shows them.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NoReturn, TypeVar

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from specie.ecash.bdhke import hash_to_curve
from specie.ecash.derivation import derive, mint_backup_secret_key, p2pk_secret_key, quote_secret_key
from specie.ecash.dleq import prove
from specie.ecash.p2bk import shared_x, unblinded_secret
from specie.kernel import curve, hd, seal
from specie.kernel.errors import MalformedError
from specie.keys.adapters.lanes import Lanes
from specie.keys.errors import KeyUnknownError, SignerClosedError
from specie.keys.ports import (
    BlindedKey,
    BlindSigned,
    Capabilities,
    DerivedSecret,
    KeyRef,
    KeysetRef,
    ProofToVerify,
    ToBlindSign,
)
from specie.keys.refs import amount_checked, counter_checked, mint_ref_parsed, word_ref_checked

if TYPE_CHECKING:
    from specie.kernel.entropy import Entropy
    from specie.keys.adapters.native_batch import NativeBatch

__all__ = ["SoftwareSigner"]

T = TypeVar("T")
R = TypeVar("R")

_REF_PURPOSE = 0x73706563  # "spec"
_MINT_BACKUP = "mint-backup"
_WRAP_INFO = b"specie wrapping key v1"
_INLINE = 64
"""Batches up to this many point multiplications (3 to 4 ms) run on the calling thread.

Measured under load: a hop to another thread costs a batch of this size 10 to 40 % of throughput, since every call into the
library hands the interpreter lock over; larger ones would hold up the event loop for too long.
"""
_LANE_WEIGHT = 128
"""Point multiplications that a lane does in one native call (5 to 6 ms), and the most that one job of it may be."""
_MOST_KEYSETS = 1000
_MOST_REFS = 10_000
"""Keys are kept, once derived, of so many keysets and refs; of one more, all are dropped and derived again when asked for."""

_Tasks = tuple[Sequence["_ProofTask"], Sequence["_SignTask"]]
_Exchanged = tuple[list[bytes | None], list["BlindSigned | None"]]


@dataclass(frozen=True, slots=True, repr=False)
class _KeyPair:
    secret: bytes
    public: bytes
    public_uncompressed: bytes


class SoftwareSigner:
    """A `keys.ports.Signer` over a seed of 16 to 64 bytes (a mint's 32 random bytes, a wallet's 64-byte BIP 39 seed).

    `threads`: worker threads; None takes one a core, 0 never leaves the calling thread (simulation). `batch`: native code for
    the mint's verbs, whose work then goes to the threads in batches over all requests; without it only large requests do.
    Ports' contract holds: refs and amounts it has no key for raise KeyUnknownError, use after `close` SignerClosedError.
    """

    __slots__ = ("_batch", "_entropy", "_lanes", "_master", "_mint", "_pool", "_refs", "_seed", "_threads", "_wrapping")

    def __init__(self, seed: bytes, *, threads: int | None = None, entropy: Entropy, batch: NativeBatch | None = None) -> None:
        """Take the seed; ValueError unless it is 16 to 64 bytes, MalformedError (never met) if it has no master key."""
        self._threads = _cores() if threads is None else threads
        if self._threads < 0:
            raise ValueError("threads must not be negative")
        self._master: hd.ExtendedKey | None = hd.ExtendedKey.from_seed(seed)
        self._seed = bytes(seed)
        self._wrapping = HKDF(SHA256(), 32, salt=None, info=_WRAP_INFO).derive(self._seed)
        self._entropy = entropy
        self._mint: dict[KeysetRef, dict[int, _KeyPair]] = {}
        self._refs: dict[KeyRef, _KeyPair] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._batch = batch
        self._lanes: Lanes[_Tasks, _Exchanged] | None = None

    def __repr__(self) -> str:
        return f"<SoftwareSigner {'closed' if self._master is None else 'open'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signer cannot be pickled or copied")

    def capabilities(self) -> Capabilities:
        """Everything the port knows, on secp256k1."""
        return Capabilities(
            provider="software",
            curves=frozenset({"secp256k1"}),
            bdhke=True,
            dleq=True,
            bip340=True,
            ecdsa=True,
            derivation=True,
            wrapping=True,
        )

    async def keyset_public_keys(self, keyset: KeysetRef, amounts: Sequence[int]) -> dict[int, bytes]:
        """Public key for each amount; amounts are powers of two up to 2**63."""
        self._open()
        return {amount: self._mint_key(keyset, amount).public for amount in amounts}

    async def verify_proofs(self, proofs: Sequence[ProofToVerify]) -> list[bytes | None]:
        """For each proof its Y if C == k*Y, multiplied in constant time; None for what is forged, and for what is no point."""
        self._open()
        tasks = self._proof_tasks(proofs)
        if self._batch is None:
            return await self._run(_verify, tasks, weight=1)
        return (await self._batched(tasks, ()))[0]

    async def blind_sign(self, messages: Sequence[ToBlindSign]) -> list[BlindSigned]:
        """k*B_ in constant time, with DLEQ. MalformedError, and no signature at all, if any B_ is no curve point."""
        self._open()
        tasks = self._sign_tasks(messages)
        if self._batch is None:
            return await self._run(_blind_sign, tasks, weight=3)
        return (await self._batched((), tasks))[1]

    async def exchange(
        self, proofs: Sequence[ProofToVerify], messages: Sequence[ToBlindSign]
    ) -> tuple[list[bytes | None], list[BlindSigned]]:
        """Both, and no signature at all unless every proof holds. MalformedError as `blind_sign`."""
        self._open()
        inputs, outputs = self._proof_tasks(proofs), self._sign_tasks(messages)
        if self._batch is not None:
            return await self._batched(inputs, outputs)
        ys = await self._run(_verify, inputs, weight=1)
        return ys, ([] if None in ys else await self._run(_blind_sign, outputs, weight=3))

    async def public_key(self, ref: KeyRef) -> bytes:
        """Public key of any ref of the table above (33 bytes)."""
        if ref.startswith("mint/"):
            return self._mint_key(*mint_ref_parsed(ref)).public
        return self._ref_key(ref).public

    async def sign_schnorr(self, ref: KeyRef, digests: Sequence[bytes]) -> list[bytes]:
        """BIP 340 signatures over 32-byte digests, each with fresh auxiliary randomness. Refuses mint keys."""
        secret = self._signing_key(ref)
        tasks = [(secret, _digest_checked(digest), self._entropy.bytes(32)) for digest in digests]
        return await self._run(_sign_schnorr, tasks, weight=1)

    async def own_blinded(self, keys: Sequence[BlindedKey]) -> list[bool]:
        """For each blinded key whether it is the key of its ref (NUT-28). Refuses mint keys."""
        self._open()
        tasks = [(self._signing_key(key.ref), key) for key in keys]
        return await self._run(_own_blinded, tasks, weight=2)

    async def sign_blinded(self, key: BlindedKey, digests: Sequence[bytes]) -> list[bytes]:
        """BIP 340 signatures by the blinded key, each with fresh auxiliary randomness. KeyUnknownError if it is not ours."""
        secret = _blinded_secret(self._signing_key(key.ref), key, {})
        if secret is None:
            raise KeyUnknownError("this blinded key is not one of ours")
        tasks = [(secret, _digest_checked(digest), self._entropy.bytes(32)) for digest in digests]
        return await self._run(_sign_schnorr, tasks, weight=1)

    async def sign_recoverable(self, ref: KeyRef, digests: Sequence[bytes]) -> list[tuple[bytes, int]]:
        """Compact low-S ECDSA signatures with recovery id over 32-byte digests. Refuses mint keys."""
        secret = self._signing_key(ref)
        tasks = [(secret, _digest_checked(digest)) for digest in digests]
        return await self._run(_sign_recoverable, tasks, weight=1)

    async def nip44_encrypt(self, ref: KeyRef, peer: bytes, text: str) -> str:
        """Encrypt to an x-only key (NIP-44 version 2, by the Nostr library). Refuses mint keys; errors as the port says."""
        from nostr_sdk import Nip44Version, NostrSdkError, PublicKey, SecretKey, nip44_encrypt

        secret = self._signing_key(ref)
        try:
            return str(nip44_encrypt(SecretKey.parse(secret.hex()), PublicKey.parse(peer.hex()), text, Nip44Version.V2))
        except NostrSdkError:
            raise MalformedError("the text or the key it is for cannot be used") from None

    async def nip44_decrypt(self, ref: KeyRef, peer: bytes, payload: str) -> str:
        """Decrypt from an x-only key. Refuses mint keys; errors as the port says."""
        from nostr_sdk import NostrSdkError, PublicKey, SecretKey, nip44_decrypt

        secret = self._signing_key(ref)
        try:
            return str(nip44_decrypt(SecretKey.parse(secret.hex()), PublicKey.parse(peer.hex()), payload))
        except NostrSdkError:
            raise MalformedError("the message is for somebody else, or was changed") from None

    async def derive_secrets(self, keyset_id: str, counters: Sequence[int]) -> list[DerivedSecret]:
        """NUT-13 secrets and blinding factors, for keyset ids of both versions."""
        self._open()
        tasks = [(self._seed, keyset_id, counter) for counter in counters]
        return await self._run(_derive_secret, tasks, weight=3)

    async def wrap(self, plaintext: bytes, *, context: bytes) -> bytes:
        """Seal under a key that HKDF-SHA256 makes of the seed (AES-256-GCM, fresh nonce)."""
        self._open()
        return seal.seal(plaintext, self._wrapping, nonce=self._entropy.bytes(seal.NONCE_BYTES), context=context)

    async def unwrap(self, sealed: bytes, *, context: bytes) -> bytes:
        """Open what `wrap` made. SealBrokenError if it was changed, wrapped elsewhere or for another context."""
        self._open()
        return seal.unseal(sealed, self._wrapping, context=context)

    async def close(self) -> None:
        """Drop the seed, its keys and the threads. A second time does nothing."""
        self._master = None
        self._seed = self._wrapping = b""
        self._mint.clear()
        self._refs.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None
        if self._lanes is not None:
            self._lanes.close()
            self._lanes = None

    def _open(self) -> hd.ExtendedKey:
        if self._master is None:
            raise SignerClosedError("the signer is closed")
        return self._master

    def _mint_key(self, keyset: KeysetRef, amount: int) -> _KeyPair:
        cached = self._mint.get(keyset)
        if cached is not None and (pair := cached.get(amount)) is not None:
            return pair
        master = self._open()
        amount_checked(keyset, amount)
        unit = int.from_bytes(hashlib.sha256(keyset.unit.encode()).digest()[:4], "big") & ~hd.HARDENED
        path = (0, unit, keyset.index, amount.bit_length() - 1)
        secret = master.derive(tuple(step | hd.HARDENED for step in path)).secret
        pair = _pair(secret)
        if cached is None and len(self._mint) >= _MOST_KEYSETS:
            self._mint.clear()
        self._mint.setdefault(keyset, {})[amount] = pair
        return pair

    def _ref_key(self, ref: KeyRef) -> _KeyPair:
        master = self._open()
        pair = self._refs.get(ref)
        if pair is None:
            branch, _, rest = ref.partition("/")
            if ref == _MINT_BACKUP:
                secret = mint_backup_secret_key(self._seed)
            elif (derive_key := _WALLET_KEYS.get(branch)) is not None:
                secret = derive_key(self._seed, counter_checked(branch, rest))
            else:
                secret = master.derive(_ref_path(ref)).secret
            if len(self._refs) >= _MOST_REFS:
                self._refs.clear()
            pair = self._refs[ref] = _pair(secret)
        return pair

    def _signing_key(self, ref: KeyRef) -> bytes:
        if ref.startswith("mint/"):
            raise KeyUnknownError("a mint key signs blinded messages only")
        return self._ref_key(ref).secret

    def _proof_tasks(self, proofs: Sequence[ProofToVerify]) -> list[_ProofTask]:
        return [(self._mint_key(proof.keyset, proof.amount).secret, proof.secret, proof.c) for proof in proofs]

    def _sign_tasks(self, messages: Sequence[ToBlindSign]) -> list[_SignTask]:
        return [(self._mint_key(message.keyset, message.amount), message.b_) for message in messages]

    async def _batched(
        self, inputs: Sequence[_ProofTask], outputs: Sequence[_SignTask]
    ) -> tuple[list[bytes | None], list[BlindSigned]]:
        """Through the lanes, in jobs that are bounded; small requests are one job."""
        ys: list[bytes | None]
        signed: list[BlindSigned | None]
        if len(inputs) + 3 * len(outputs) <= _LANE_WEIGHT:
            ys, signed = await self._job(inputs, outputs)
        else:
            ys = [y for part, _ in await self._jobs(inputs, (), _LANE_WEIGHT) for y in part]
            signed = []
            if None not in ys:
                signed = [one for _, part in await self._jobs((), outputs, _LANE_WEIGHT // 3) for one in part]
        whole = [one for one in signed if one is not None]
        if len(whole) != len(signed):
            raise MalformedError("a blinded message is not a compressed secp256k1 point")
        return ys, whole

    async def _jobs(self, inputs: Sequence[_ProofTask], outputs: Sequence[_SignTask], size: int) -> list[_Exchanged]:
        parts = range(0, max(len(inputs), len(outputs)), size)
        return await asyncio.gather(*(self._job(inputs[at : at + size], outputs[at : at + size]) for at in parts))

    async def _job(self, inputs: Sequence[_ProofTask], outputs: Sequence[_SignTask]) -> _Exchanged:
        assert self._batch is not None
        if not self._threads:
            return _exchange(self._batch, [(inputs, outputs)])[0]
        if self._lanes is None:
            self._open()
            self._lanes = Lanes(self._threads, _LANE_WEIGHT, partial(_exchange, self._batch))
        return await self._lanes.put((inputs, outputs), len(inputs) + 3 * len(outputs))

    async def _run(self, work: Callable[[Sequence[T]], list[R]], tasks: Sequence[T], *, weight: int) -> list[R]:
        """Run `work` on all tasks in order: here if they are few, else in chunks over the threads."""
        if not self._threads or len(tasks) * weight <= _INLINE:
            return work(tasks)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="signer")
        loop = asyncio.get_running_loop()
        size = -(-len(tasks) // self._threads)
        chunks = [tasks[start : start + size] for start in range(0, len(tasks), size)]
        done = await asyncio.gather(*(loop.run_in_executor(self._pool, work, chunk) for chunk in chunks))
        return [result for chunk in done for result in chunk]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pair(secret: bytes) -> _KeyPair:
    uncompressed = curve.public_key_uncompressed(secret)
    return _KeyPair(secret, curve.compress(uncompressed), uncompressed)


_WALLET_KEYS: dict[str, Callable[[bytes, int], bytes]] = {
    "p2pk": p2pk_secret_key,
    "quote": quote_secret_key,
}


def _ref_path(ref: KeyRef) -> tuple[int, ...]:
    digest = hashlib.sha256(word_ref_checked(ref).encode()).digest()
    words = (int.from_bytes(digest[start : start + 4], "big") for start in range(0, 32, 4))
    return tuple(step | hd.HARDENED for step in (_REF_PURPOSE, *words))


def _digest_checked(digest: bytes) -> bytes:
    if len(digest) != 32:
        raise MalformedError("a digest has 32 bytes")
    return digest


_ProofTask = tuple[bytes, bytes, bytes]
"""(k, secret, C)"""

_SignTask = tuple[_KeyPair, bytes]
"""(key, B_)"""


def _exchange(batch: NativeBatch, jobs: Sequence[_Tasks]) -> list[_Exchanged]:
    """All jobs in one native call; the outputs of a job whose inputs do not hold are not signed."""
    verified, made = batch.exchange(
        [(proofs, [(pair.secret, pair.public_uncompressed, b_) for pair, b_ in messages]) for proofs, messages in jobs]
    )
    results: list[_Exchanged] = []
    coin = output = 0
    for proofs, messages in jobs:
        found = verified[coin : coin + len(proofs)]
        given = made[output : output + len(messages)]
        coin, output = coin + len(proofs), output + len(messages)
        ys = [_verified(*task) if one is None else one[0] if one[1] else None for task, one in zip(proofs, found, strict=True)]
        if None in ys:
            results.append((ys, []))
            continue
        signed = [_signed(*task) if one is None else BlindSigned(*one) for task, one in zip(messages, given, strict=True)]
        results.append((ys, signed))
    return results


def _verify(tasks: Sequence[_ProofTask]) -> list[bytes | None]:
    return [_verified(*task) for task in tasks]


def _verified(k: bytes, secret: bytes, c: bytes) -> bytes | None:
    y = hash_to_curve(secret)
    return y if hmac.compare_digest(curve.multiply_secret(y, k), c) else None


def _blind_sign(tasks: Sequence[_SignTask]) -> list[BlindSigned]:
    signed = [one for task in tasks if (one := _signed(*task)) is not None]
    if len(signed) != len(tasks):
        raise MalformedError("a blinded message is not a compressed secp256k1 point")
    return signed


def _signed(pair: _KeyPair, b_: bytes) -> BlindSigned | None:
    """C_ with its proof; None unless B_ is the 33 bytes of a point. The uncompressed forms spare the proof its square roots."""
    try:
        if len(b_) != 33:
            return None
        b_uncompressed = curve.uncompress(b_)
    except ValueError:
        return None
    c_uncompressed = curve.multiply_secret_uncompressed(b_uncompressed, pair.secret)
    proof = prove(pair.secret, pair.public_uncompressed, b_uncompressed, c_uncompressed)
    return BlindSigned(curve.compress(c_uncompressed), proof.e, proof.s)


def _sign_schnorr(tasks: Sequence[tuple[bytes, bytes, bytes]]) -> list[bytes]:
    return [curve.schnorr_sign(digest, secret, aux) for secret, digest, aux in tasks]


def _blinded_secret(secret: bytes, key: BlindedKey, shared: dict[tuple[bytes, bytes], bytes]) -> bytes | None:
    """The secret key of a blinded key, None if it is not ours; `shared` remembers what ECDH gave before."""
    try:
        zx = shared.get((secret, key.ephemeral))
        if zx is None:
            zx = shared[secret, key.ephemeral] = shared_x(key.ephemeral, secret)
        return unblinded_secret(key.key, secret, zx, key.slot)
    except MalformedError:
        return None


def _own_blinded(tasks: Sequence[tuple[bytes, BlindedKey]]) -> list[bool]:
    shared: dict[tuple[bytes, bytes], bytes] = {}
    return [_blinded_secret(secret, key, shared) is not None for secret, key in tasks]


def _sign_recoverable(tasks: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, int]]:
    return [curve.ecdsa_sign_recoverable(digest, secret) for secret, digest in tasks]


def _derive_secret(tasks: Sequence[tuple[bytes, str, int]]) -> list[DerivedSecret]:
    return [DerivedSecret(counter, *derive(seed, keyset_id, counter)) for seed, keyset_id, counter in tasks]
