"""`TokenSigner`: keys that were made in a PKCS#11 token (an HSM) and never leave it, a mint's blind signatures among them.

A token multiplies by a key through ECDH, which gives the x coordinate alone. For C = k*P it is asked twice:

    x1 = x(k*P)        x2 = x(k*(a*P + b*G))        a, b fresh and random, unknown to the token

C is that one of the two points at x1 for which x(a*C + b*K) == x2. The second question thus settles the sign and proves the
answer: a token that gave another point at x1 would have to know a and b to answer it, so not even one that wants to can make us
give out a wrong signature. There is no message for which a*P + b*G is the identity, -G included, but by a chance of 1 in 2^256.

To verify coins the claimed C is known, so the second question is enough, and one question does for all coins of one key: does
x(k*(sum a_i*Y_i + b*G)) equal x(sum a_i*C_i + b*K)? Where it does not, the coins are halved until the bad ones are found, and
what is left of one coin is multiplied as above: either the coin is forged, or the token is at fault.

    one blind signature: 2 questions           n coins of m amounts: m questions, if they are good

No DLEQ (NUT-12): s = r + e*k would have to be computed from k. Keys are found, never made, by the verbs of the port: a key that
is not where it must be is KeyUnknownError. New ones are made by `create_keyset`, `create_key` and `create_wrapping_key` alone.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from specie.ecash.bdhke import blind, hash_to_curve, unblind
from specie.kernel import curve
from specie.kernel.entropy import Entropy
from specie.kernel.errors import MalformedError, UnavailableError
from specie.kernel.seal import SealBrokenError
from specie.keys.adapters.seed_store import read_guarded
from specie.keys.adapters.token_session import TokenFacts, TokenKey, TokenPlace, TokenSession
from specie.keys.adapters.token_thread import token_thread
from specie.keys.errors import CapabilityMissingError, KeyFaultError, KeyUnknownError, ProviderMissingError, SignerClosedError
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
from specie.keys.refs import counter_checked, mint_ref, mint_ref_parsed, word_ref_checked

__all__ = ["TokenSigner", "TokenTrial", "pin_checked", "pin_from_file", "token_signer"]

T = TypeVar("T")
R = TypeVar("R")

_PROVIDER = "pkcs11"
_WRAPPING = "wrapping"
_MAGIC = b"specie\x00t\x01"
_NONCE_BYTES, _TAG_BYTES = 12, 16
_MOST_PIN = 255
_COINS = 32
"""Coins of a job of verification."""
_IN_ONE_JOB = 16
"""Messages or coins of a job: a request larger than that lets others in between."""
_COUNTED = frozenset({"p2pk", "quote"})

_Coin = tuple[int, bytes, bytes]
"""(place in the request, Y, C)"""


@dataclass(frozen=True, slots=True)
class TokenTrial:
    """What a token did with a key made for the moment: microseconds of each signature; None for what it cannot do."""

    ecdsa_us: tuple[float, ...]
    blind_us: tuple[float, ...] | None
    public: bytes
    """Public key of that key, which is no more."""


def pin_from_file(path: Path) -> str:
    """The PIN in a file that nobody else may read: one line. MalformedError, SealFileUnsafeError, ProviderMissingError."""
    try:
        data = read_guarded(path, kind="the PIN file", follow=True)
    except FileNotFoundError:
        raise ProviderMissingError(f"there is no PIN file {path}") from None
    return pin_checked(data)


def pin_checked(data: bytes) -> str:
    """A PIN as file or environment hold it: one line of 1 to 255 bytes of text. MalformedError otherwise."""
    line = data.removesuffix(b"\n").removesuffix(b"\r")
    if not 1 <= len(line) <= _MOST_PIN or any(byte < 0x20 for byte in line):
        raise MalformedError(f"a PIN is one line of 1 to {_MOST_PIN} bytes")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise MalformedError("a PIN is UTF-8 text") from None


async def token_signer(
    place: TokenPlace,
    *,
    pin: Callable[[], str],
    entropy: Entropy,
    deadline_s: float = 5.0,
    package: Callable[[], Any] | None = None,
) -> TokenSigner:
    """Open a token and try out what it can do. `pin` gives the PIN at every login; `deadline_s` bounds each call of the module.
    `package` finds python-pkcs11 where it is not to be found by its name.

    ProviderMissingError where the package or the module lacks, TokenPinError, UnavailableError where the token does not answer.
    """
    if not deadline_s > 0:
        raise ValueError("a deadline is above 0 seconds")
    session = TokenSession(place, pin, token_thread(place.module), package)
    facts = await session.thread.run(lambda: session.work(session.facts), deadline_s=deadline_s)
    return TokenSigner(session, facts, entropy=entropy, deadline_s=deadline_s)


class TokenSigner:
    """A `keys.ports.Signer` over the keys of one token; `token_signer` makes one. It may be used from any event loop.

    Besides the port's errors every verb may raise UnavailableError (the token is gone or hangs; nothing was signed that anybody
    knows of) and KeyFaultError (it answered wrongly, or holds a key in a way it must not).
    """

    __slots__ = ("_closed", "_deadline_s", "_entropy", "_session", "facts")

    def __init__(self, session: TokenSession, facts: TokenFacts, *, entropy: Entropy, deadline_s: float) -> None:
        """A session that was opened once, and what was found out then."""
        self.facts = facts
        self._session = session
        self._entropy = entropy
        self._deadline_s = deadline_s
        self._closed = False

    def __repr__(self) -> str:
        return f"<TokenSigner {self._session.place.token!r} {'closed' if self._closed else 'open'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signer cannot be pickled or copied")

    def capabilities(self) -> Capabilities:
        """What this token was found to do; never DLEQ, BIP 340 or derivation."""
        return Capabilities(
            provider=_PROVIDER,
            curves=frozenset({"secp256k1"}) if self.facts.secp256k1 else frozenset(),
            bdhke=self.facts.ecdh,
            dleq=False,
            bip340=False,
            ecdsa=self.facts.secp256k1,
            derivation=False,
            wrapping=self.facts.wrapping,
        )

    # -- new keys

    async def create_keyset(self, keyset: KeysetRef, amounts: Sequence[int]) -> dict[int, bytes]:
        """Make the keys of a NEW keyset in the token; their public keys, in order of `amounts`.

        Call it before the keyset stands in the mint's books, never for one that does: a key lost since then would be replaced.
        It may be called again after it was interrupted; keys that are there are kept. TokenFullError.
        """
        self._can(self.facts.ecdh, "ECDH on secp256k1")
        refs = {amount: mint_ref(keyset, amount) for amount in amounts}
        return {amount: await self._do(partial(self._created, ref)) for amount, ref in refs.items()}

    async def create_key(self, ref: KeyRef) -> bytes:
        """Make the NEW key of a ref that is no mint key (`node`, ...); its public key. A key that is there is kept."""
        self._can(self.facts.secp256k1, "ECDSA on secp256k1")
        named = _word_ref(ref)
        return await self._do(partial(self._created, named))

    async def create_wrapping_key(self) -> None:
        """Make the NEW key of `wrap` and `unwrap`, AES-256. A key that is there is kept."""
        self._can(self.facts.wrapping, "AES-GCM")
        await self._do(lambda: self._session.create_wrapping_key(_WRAPPING))

    async def destroy_key(self, ref: KeyRef) -> int:
        """Destroy the key of a ref that is no mint key, for ever; how many objects of the token that were."""
        self._open()
        named = _word_ref(ref)
        return await self._do(lambda: self._session.destroy(named))

    async def trial(self, rounds: int = 20) -> TokenTrial:
        """Sign `rounds` times with a key made for the moment, in both ways, and prove every answer; the key is destroyed.

        CapabilityMissingError, KeyFaultError.
        """
        self._can(self.facts.secp256k1, "ECDSA on secp256k1")
        return await self._do(partial(self._tried, rounds))

    # -- the port

    async def keyset_public_keys(self, keyset: KeysetRef, amounts: Sequence[int]) -> dict[int, bytes]:
        """Public key for each amount. KeyUnknownError if the token lacks one: this makes none."""
        self._open()
        refs = [mint_ref(keyset, amount) for amount in amounts]
        keys = await self._each(lambda ref: self._session.found(ref).public, refs)
        return dict(zip(amounts, keys, strict=True))

    async def verify_proofs(self, proofs: Sequence[ProofToVerify]) -> list[bytes | None]:
        """For each proof its Y if C == k*Y; None for what is forged, and for what is no point."""
        self._can(self.facts.ecdh, "ECDH on secp256k1")
        coins: dict[KeyRef, list[_Coin]] = {}
        ys: list[bytes | None] = [None] * len(proofs)
        for place, proof in enumerate(proofs):
            coins.setdefault(mint_ref(proof.keyset, proof.amount), []).append((place, hash_to_curve(proof.secret), proof.c))
        shares = [(ref, mine[at : at + _COINS]) for ref, mine in coins.items() for at in range(0, len(mine), _COINS)]
        jobs: list[list[tuple[KeyRef, list[_Coin]]]] = []
        room = 0
        for share in shares:
            if len(share[1]) > room:
                jobs.append([])
                room = _COINS
            jobs[-1].append(share)
            room -= len(share[1])
        for job in jobs:  # forged coins cost a question each and more, so others get in between
            for places in await self._do(partial(_all, lambda share: self._good(*share), job)):
                for place, y in places:
                    ys[place] = y
        return ys

    async def blind_sign(self, messages: Sequence[ToBlindSign]) -> list[BlindSigned]:
        """k*B_, each proved to be so, without DLEQ. MalformedError, and no signature at all, if any B_ is no curve point."""
        self._can(self.facts.ecdh, "ECDH on secp256k1")
        tasks = [(mint_ref(message.keyset, message.amount), _message_checked(message.b_)) for message in messages]
        return await self._each(self._blind_signed, tasks)

    async def exchange(
        self, proofs: Sequence[ProofToVerify], messages: Sequence[ToBlindSign]
    ) -> tuple[list[bytes | None], list[BlindSigned]]:
        """Both, and no signature at all unless every proof holds. MalformedError as `blind_sign`."""
        for message in messages:
            _message_checked(message.b_)
        ys = await self.verify_proofs(proofs)
        return ys, ([] if None in ys else await self.blind_sign(messages))

    async def public_key(self, ref: KeyRef) -> bytes:
        """Public key of a ref (33 bytes). KeyUnknownError if the token lacks it."""
        self._open()
        named = mint_ref(*mint_ref_parsed(ref)) if ref.startswith("mint/") else _word_ref(ref)
        return await self._do(lambda: self._session.found(named).public)

    async def sign_recoverable(self, ref: KeyRef, digests: Sequence[bytes]) -> list[tuple[bytes, int]]:
        """Compact low-S ECDSA signatures with recovery id, each proved to be the key's. Refuses mint keys."""
        self._can(self.facts.secp256k1, "ECDSA on secp256k1")
        named = _word_ref(ref)
        if any(len(digest) != 32 for digest in digests):
            raise MalformedError("a digest has 32 bytes")
        return await self._each(lambda digest: self._recoverable(named, digest), digests)

    async def sign_schnorr(self, ref: KeyRef, digests: Sequence[bytes]) -> list[bytes]:
        """Refused: no token signs by BIP 340."""
        self._lacks("BIP 340 signatures")

    async def own_blinded(self, keys: Sequence[BlindedKey]) -> list[bool]:
        """Refused: blinded keys sign by BIP 340."""
        self._lacks("blinded keys (NUT-28)")

    async def sign_blinded(self, key: BlindedKey, digests: Sequence[bytes]) -> list[bytes]:
        """Refused: blinded keys sign by BIP 340."""
        self._lacks("blinded keys (NUT-28)")

    async def nip44_encrypt(self, ref: KeyRef, peer: bytes, text: str) -> str:
        """Refused: no token speaks NIP-44."""
        self._lacks("NIP-44 encryption")

    async def nip44_decrypt(self, ref: KeyRef, peer: bytes, payload: str) -> str:
        """Refused: no token speaks NIP-44."""
        self._lacks("NIP-44 encryption")

    async def derive_secrets(self, keyset_id: str, counters: Sequence[int]) -> list[DerivedSecret]:
        """Refused: there is no seed from which a token could derive."""
        self._lacks("derivation of secrets (NUT-13)")

    async def wrap(self, plaintext: bytes, *, context: bytes) -> bytes:
        """Seal under the token's AES-256 key (GCM, fresh nonce; `context` and the header are authenticated)."""
        self._can(self.facts.wrapping, "AES-GCM")
        header = _MAGIC + self._entropy.bytes(_NONCE_BYTES)
        sealed = await self._do(
            lambda: self._session.encrypt(self._wrapping_key(), plaintext, header[len(_MAGIC) :], header + context)
        )
        if len(sealed) != len(plaintext) + _TAG_BYTES:
            raise KeyFaultError("the token sealed something else than it was given")
        return header + sealed

    async def unwrap(self, sealed: bytes, *, context: bytes) -> bytes:
        """Open what `wrap` made. SealBrokenError if it was changed, wrapped elsewhere or for another context."""
        self._can(self.facts.wrapping, "AES-GCM")
        start = len(_MAGIC) + _NONCE_BYTES
        if len(sealed) < start + _TAG_BYTES or not sealed.startswith(_MAGIC):
            raise MalformedError("not a blob that a token sealed")
        opened = await self._do(
            lambda: self._session.decrypt(
                self._wrapping_key(), _WRAPPING, sealed[start:], sealed[len(_MAGIC) : start], sealed[:start] + context
            )
        )
        if opened is None:
            raise SealBrokenError("wrong token or context, or the sealed bytes were changed")
        return opened

    async def close(self) -> None:
        """Leave the token. A second time does nothing; of a token that hangs no answer is awaited for long."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(UnavailableError):
            await self._session.thread.run(self._session.close, deadline_s=self._deadline_s)

    # -- on the token's thread

    def _tried(self, rounds: int) -> TokenTrial:
        with self._session.session_key() as key:
            ecdsa_us, blind_us = [], []
            for _ in range(rounds):
                digest = self._entropy.bytes(32)
                started = time.perf_counter()
                signature = self._session.ecdsa(key.handle, digest)
                ecdsa_us.append((time.perf_counter() - started) * 1e6)
                if not curve.ecdsa_verify(digest, signature, key.public):
                    raise KeyFaultError("the token made a signature that is not the key's")
            secret, unblinded = self._entropy.bytes(16).hex(), set()
            for _ in range(rounds if self.facts.ecdh else 0):
                r = self._scalar()
                started = time.perf_counter()
                signed = self._multiplied(key, blind(secret, r))
                blind_us.append((time.perf_counter() - started) * 1e6)
                unblinded.add(unblind(signed, r, key.public))
            if len(unblinded) > 1:  # one coin, however it was blinded
                raise KeyFaultError("the token's blind signatures differ once unblinded")
            return TokenTrial(tuple(ecdsa_us), tuple(blind_us) or None, key.public)

    def _created(self, ref: KeyRef) -> bytes:
        return self._session.create(ref).public

    def _good(self, ref: KeyRef, coins: Sequence[_Coin]) -> list[tuple[int, bytes]]:
        """Place and Y of the coins of one key that are good."""
        key = self._session.found(ref)
        return self._halved(key, [coin for coin in coins if curve.is_point(coin[2])])

    def _halved(self, key: TokenKey, coins: Sequence[_Coin]) -> list[tuple[int, bytes]]:
        if not coins:
            return []
        if self._hold(key, coins):
            return [(place, y) for place, y, _ in coins]
        if len(coins) == 1:  # forged, or the token is at fault: this tells
            ((place, y, c),) = coins
            return [(place, y)] if self._multiplied(key, y) == c else []
        middle = len(coins) // 2
        return self._halved(key, coins[:middle]) + self._halved(key, coins[middle:])

    def _hold(self, key: TokenKey, coins: Sequence[_Coin]) -> bool:
        """Whether C == k*Y for all of these, by one question."""
        factors = [self._scalar() for _ in coins]
        b = self._scalar()
        asked = [curve.multiply_public(y, a) for a, (_, y, _) in zip(factors, coins, strict=True)]
        claimed = [curve.multiply_public(c, a) for a, (_, _, c) in zip(factors, coins, strict=True)]
        x = self._session.ecdh(key.handle, curve.add([*asked, curve.public_key(b)]))
        return x == curve.x_only(curve.add([*claimed, curve.multiply_public(key.public, b)]))

    def _multiplied(self, key: TokenKey, point: bytes) -> bytes:
        """k*point, proved. KeyFaultError if the token's two answers do not fit."""
        try:
            even = curve.lift_x(self._session.ecdh(key.handle, point))
        except MalformedError:
            raise KeyFaultError("the token answered with an x coordinate of no point") from None
        a, b = self._scalar(), self._scalar()
        x = self._session.ecdh(key.handle, curve.tweak_add_public(curve.multiply_public(point, a), b))
        offset = curve.multiply_public(key.public, b)
        scaled = curve.multiply_public(even, a)
        if curve.x_only(curve.add([scaled, offset])) == x:
            return even
        if curve.x_only(curve.subtract(offset, scaled)) == x:
            return curve.negate(even)
        raise KeyFaultError("the token multiplied a point wrongly, or by another key")

    def _blind_signed(self, task: tuple[KeyRef, bytes]) -> BlindSigned:
        ref, b_ = task
        return BlindSigned(self._multiplied(self._session.found(ref), b_), None, None)

    def _recoverable(self, ref: KeyRef, digest: bytes) -> tuple[bytes, int]:
        key = self._session.found(ref)
        signature = self._session.ecdsa(key.handle, digest)
        for recovery_id in range(4):
            try:
                if curve.ecdsa_recover(digest, signature, recovery_id) == key.public:
                    return signature, recovery_id
            except MalformedError:
                continue
        raise KeyFaultError("the token made a signature that is not the key's")

    def _wrapping_key(self) -> object:
        key = self._session.find_wrapping_key(_WRAPPING)
        if key is None:
            raise KeyUnknownError(f"the token {self._session.place.token!r} has no wrapping key")
        return key

    def _scalar(self) -> bytes:
        return curve.scalar_from_bytes_wrapping(self._entropy.bytes(32))

    # -- waiting for it

    async def _do(self, task: Callable[[], T]) -> T:
        self._open()
        return await self._session.thread.run(lambda: self._session.work(task), deadline_s=self._deadline_s)

    async def _each(self, work: Callable[[R], T], tasks: Sequence[R]) -> list[T]:
        """`work` on all tasks in order, in jobs of bounded size."""
        done: list[T] = []
        for start in range(0, len(tasks), _IN_ONE_JOB):
            done += await self._do(partial(_all, work, tasks[start : start + _IN_ONE_JOB]))
        return done

    def _open(self) -> None:
        if self._closed:
            raise SignerClosedError("the signer is closed")

    def _can(self, able: bool, capability: str) -> None:
        self._open()
        if not able:
            raise CapabilityMissingError(provider=_PROVIDER, capability=capability)

    def _lacks(self, capability: str) -> NoReturn:
        self._open()
        raise CapabilityMissingError(provider=_PROVIDER, capability=capability)


def _all(work: Callable[[R], T], tasks: Sequence[R]) -> list[T]:
    return [work(task) for task in tasks]


def _word_ref(ref: KeyRef) -> KeyRef:
    """A ref that is no mint key's. KeyUnknownError as every provider."""
    if ref.startswith("mint/"):
        raise KeyUnknownError("a mint key signs blinded messages only")
    branch, _, rest = ref.partition("/")
    if branch in _COUNTED:
        counter_checked(branch, rest)
    return word_ref_checked(ref)


def _message_checked(b_: bytes) -> bytes:
    if not curve.is_point(b_):
        raise MalformedError("a blinded message is not a compressed secp256k1 point")
    return b_
