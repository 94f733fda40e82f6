"""What the rooms know of keys: `Signer`, which signs in batches and never shows a private key.

A `KeyRef` is a path below the signer's seed, given as text: `mint/sat/0/64` (keyset 0 of unit sat, the key for amount
64), `wallet/...`, `node`. Engines hold refs and public keys only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple, Protocol

import msgspec

__all__ = [
    "SOFTWARE",
    "BlindSigned",
    "BlindedKey",
    "Capabilities",
    "DerivedSecret",
    "KeyRef",
    "KeysetRef",
    "MessageSigner",
    "ProofToVerify",
    "SecretShelf",
    "SecretStore",
    "Signer",
    "ToBlindSign",
]

KeyRef = str

SOFTWARE = "software"
"""Home of keys that are derived from the seed."""


class KeysetRef(msgspec.Struct, frozen=True, cache_hash=True):
    """The keys of one mint keyset: one for each amount, derived from (unit, index)."""

    unit: Annotated[str, msgspec.Meta(max_length=64)]
    index: int
    """0 to 2**31-1, counting up with each rotation of the unit."""
    home: Annotated[str, msgspec.Meta(max_length=16)] = SOFTWARE
    """Which provider has them; a provider itself does not look at it."""


class ProofToVerify(NamedTuple):
    """One question of `verify_proofs`: is C == k*hash_to_curve(secret) for the key of `amount` in `keyset`?"""

    keyset: KeysetRef
    amount: int
    secret: bytes
    """UTF-8 bytes of the coin's secret text."""
    c: bytes
    """The unblinded signature, 33 bytes."""


class ToBlindSign(NamedTuple):
    """One task of `blind_sign`: a blinded message B_ (33 bytes, a checked curve point)."""

    keyset: KeysetRef
    amount: int
    b_: bytes


class BlindSigned(NamedTuple):
    """C_ = k*B_ (33 bytes) with its DLEQ proof, two 32-byte values (NUT-12); None where the key lives in an HSM."""

    c_: bytes
    dleq_e: bytes | None
    dleq_s: bytes | None


@dataclass(frozen=True, slots=True)
class DerivedSecret:
    """NUT-13: the secret's text and the blinding factor r (32 bytes) of one counter."""

    counter: int
    secret: str = field(repr=False)
    r: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class BlindedKey:
    """A key in a lock (33 bytes) that may be ours, blinded by a sender for its slot (NUT-28). All but `ref` is hostile."""

    ref: Annotated[KeyRef, msgspec.Meta(max_length=200)]
    """The key of ours that it may be."""
    ephemeral: bytes
    """p2pk_e of the coin, 33 bytes."""
    slot: int
    """Place in `[data, ...pubkeys, ...refund]`, 0 to 10."""
    key: bytes
    """As it stands in the lock."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider can do; a key that needs more is refused at start."""

    provider: str
    curves: frozenset[str]
    bdhke: bool
    dleq: bool
    bip340: bool
    ecdsa: bool
    derivation: bool
    wrapping: bool


class MessageSigner(Protocol):
    """Signs and decrypts messages of Nostr with keys that stay here; a wallet's signer is one, too."""

    async def public_key(self, ref: KeyRef) -> bytes:
        """Public key of a ref (33 bytes)."""
        ...

    async def sign_schnorr(self, ref: KeyRef, digests: Sequence[bytes]) -> list[bytes]:
        """BIP 340 signatures (64 bytes) over 32-byte digests."""
        ...

    async def nip44_encrypt(self, ref: KeyRef, peer: bytes, text: str) -> str:
        """Encrypt to the x-only key `peer` (32 bytes), which may be our own (NIP-44 version 2, FRESH nonce).

        MalformedError for a peer that is no key, and for a text that is empty or above 65,535 bytes.
        """
        ...

    async def nip44_decrypt(self, ref: KeyRef, peer: bytes, payload: str) -> str:
        """Decrypt what `peer` encrypted to us. MalformedError if it was changed, or is for somebody else."""
        ...


class Signer(Protocol):
    """Signs, verifies with a secret key and derives, each on a batch. RefusedError for a key it does not have."""

    def capabilities(self) -> Capabilities:
        """What this provider can do."""
        ...

    async def keyset_public_keys(self, keyset: KeysetRef, amounts: Sequence[int]) -> dict[int, bytes]:
        """Public key (33 bytes) for each amount of a keyset, deriving it on first use."""
        ...

    async def verify_proofs(self, proofs: Sequence[ProofToVerify]) -> list[bytes | None]:
        """For each proof its Y = hash_to_curve(secret) (33 bytes) if C == k*Y, else None; in order."""
        ...

    async def blind_sign(self, messages: Sequence[ToBlindSign]) -> list[BlindSigned]:
        """Blind signatures with DLEQ (deterministic nonce, NUT-12), in order."""
        ...

    async def exchange(
        self, proofs: Sequence[ProofToVerify], messages: Sequence[ToBlindSign]
    ) -> tuple[list[bytes | None], list[BlindSigned]]:
        """`verify_proofs`, then `blind_sign` if all of them hold, in one go; without signatures if one does not."""
        ...

    async def public_key(self, ref: KeyRef) -> bytes:
        """Public key of a ref (33 bytes)."""
        ...

    async def sign_schnorr(self, ref: KeyRef, digests: Sequence[bytes]) -> list[bytes]:
        """BIP 340 signatures (64 bytes) over 32-byte digests."""
        ...

    async def own_blinded(self, keys: Sequence[BlindedKey]) -> list[bool]:
        """For each blinded key whether it is the key of its ref, in order; what is no point or slot is not."""
        ...

    async def sign_blinded(self, key: BlindedKey, digests: Sequence[bytes]) -> list[bytes]:
        """BIP 340 signatures (64 bytes) over 32-byte digests that are valid for `key.key`. RefusedError if it is not ours."""
        ...

    async def sign_recoverable(self, ref: KeyRef, digests: Sequence[bytes]) -> list[tuple[bytes, int]]:
        """Compact ECDSA signatures with recovery id over 32-byte digests (BOLT 11 invoices, messages)."""
        ...

    async def derive_secrets(self, keyset_id: str, counters: Sequence[int]) -> list[DerivedSecret]:
        """NUT-13 secrets and blinding factors of a wallet's seed, for keyset ids of both versions (hex)."""
        ...

    async def wrap(self, plaintext: bytes, *, context: bytes) -> bytes:
        """Seal bytes under this signer's own wrapping key (AES-256-GCM); `context` names the use."""
        ...

    async def unwrap(self, sealed: bytes, *, context: bytes) -> bytes:
        """Open what `wrap` made. RefusedError if it was changed or wrapped elsewhere."""
        ...

    async def close(self) -> None:
        """Forget the keys, as far as Python lets us."""
        ...


class SecretStore(Protocol):
    """Keeps small secrets (tokens that grant access, say) by name, at least as safe as the seed; never plaintext."""

    async def put(self, name: str, secret: str) -> None:
        """Keep `secret` under `name`, durably, in place of what was there."""
        ...

    async def get(self, name: str) -> str | None:
        """The secret of this name, or None."""
        ...

    async def delete(self, name: str) -> None:
        """Forget the secret of this name; nothing happens where there is none."""
        ...


class SecretShelf(SecretStore, Protocol):
    """A `SecretStore` that knows the names of what it keeps."""

    async def names(self) -> frozenset[str]:
        """Names of all secrets; some may be of none, after a crash."""
        ...
