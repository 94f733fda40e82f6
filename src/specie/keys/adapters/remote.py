"""`RemoteSigner`: a `keys.ports.Signer` whose keys are in another process, reached over a unix socket (`signer_server`).

| what happens                       | what a call under way hears               | what calls hear afterwards             |
|------------------------------------|-------------------------------------------|----------------------------------------|
| the signer's process dies          | UnavailableError                          | the same at once, until it is back     |
| it does not answer in time         | UnavailableError; the connection ends     | the same                               |
| a frame is none, or answers nobody | PeerFaultError; the connection ends       | UnavailableError until it is back      |
| an answer is of another shape      | PeerFaultError                            | nothing                                |
| an answer is not true              | PeerFaultError; nothing of it is given out| nothing                                |
| it comes back with another seed    |                                           | UnavailableError that says so          |

Every verb is a function of its arguments and has no effect at the signer. So a call whose answer was lost is certain to have
had none, and may be asked again: that is why it is UnavailableError, never UncertainError.

What is looked at in an answer: its shape, lengths and counts, always. Points of public keys, and that a key asked for twice is
the same, always. BIP 340 and ECDSA signatures against the key, always. The Y of a coin is made here. A blind signature is
checked by its DLEQ the first time that a key signs on a connection, and then once in 16 answers, drawn at random; or always,
with `check_all` (`docs/adr/0021`). Whether a coin holds cannot be checked without the key, nor what `derive_secrets`,
`own_blinded` and `unwrap` say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from specie.ecash.bdhke import hash_to_curve
from specie.ecash.dleq import verify_dleq
from specie.ecash.proof import Dleq
from specie.kernel import curve
from specie.kernel.clock import Clock
from specie.kernel.entropy import Entropy
from specie.kernel.errors import MalformedError, PeerFaultError, RefusedError, SpecieError, UnavailableError
from specie.kernel.telemetry import NULL_TELEMETRY, Telemetry
from specie.keys import wire
from specie.keys.adapters.pairing import Pairing
from specie.keys.adapters.signer_link import AwayError, Link, connect
from specie.keys.errors import SignerClosedError
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

__all__ = ["RemoteSigner"]

_FIRST_PAUSE_S = 0.05
_AWAY_PAUSE_S = 0.2
"""Longest pause between looks for a signer whose socket nobody serves: it is being started again, and a look costs little."""
_LONGEST_PAUSE_S = 2.0
"""Longest pause after one that was reached, and refused us or was refused."""
_THREADED = 256
"""Ys of more coins than this (2 to 4 ms) are made on another thread."""
_SAMPLED = 16
"""One answer in so many has a DLEQ checked beyond the first of each key."""
_MAX_SECRET_CHARS = 1000


class RemoteSigner:
    """A `keys.ports.Signer` at `place`, the path of a signer's socket. `open` makes one that has been reached.

    `check_all`: check every DLEQ, in place of a sample.

    `welcome`: what the signer said of itself before. It is held to it: another seed is never used in its place. Every call may
    raise UnavailableError (ask again: nothing happened) and PeerFaultError (the answer is not to be trusted), and otherwise
    what the provider raises. Belongs to the event loop that it is first used in.
    """

    def __init__(
        self,
        place: Path,
        pairing: Pairing,
        welcome: wire.Welcome,
        *,
        clock: Clock,
        entropy: Entropy,
        deadline_s: float = 10.0,
        connect_s: float = 5.0,
        check_all: bool = False,
        telemetry: Telemetry = NULL_TELEMETRY,
    ) -> None:
        """Nothing is connected yet; the first call does it, and waits for it."""
        self._place = place
        self._pairing = pairing
        self.welcome = welcome
        self._clock = clock
        self._entropy = entropy
        self._deadline_s = deadline_s
        self._connect_s = connect_s
        self._check_all = check_all
        self._telemetry = telemetry
        self._paged: set[str] = set()
        self._link: Link | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._tried: asyncio.Event | None = None
        self._reason = "the signer was not reached yet"
        self._again_s = _FIRST_PAUSE_S
        self._closed = False
        self._keysets: dict[KeysetRef, dict[int, bytes]] = {}
        self._keys: dict[KeyRef, bytes] = {}

    @classmethod
    async def open(
        cls,
        place: Path,
        pairing: Pairing,
        *,
        clock: Clock,
        entropy: Entropy,
        deadline_s: float = 10.0,
        connect_s: float = 5.0,
        wait_s: float = 10.0,
        check_all: bool = False,
        telemetry: Telemetry = NULL_TELEMETRY,
    ) -> RemoteSigner:
        """Reach a signer and hear what it can do, trying for `wait_s`. UnavailableError, PairingError, PeerFaultError."""
        until = clock.monotonic() + wait_s
        while True:
            try:
                welcome = await cls.probe(place, pairing, clock=clock, connect_s=connect_s)
            except UnavailableError:
                if clock.monotonic() >= until:
                    raise
                await clock.sleep(4 * _FIRST_PAUSE_S)
                continue
            options = {"deadline_s": deadline_s, "connect_s": connect_s}
            made = cls(
                place, pairing, welcome, clock=clock, entropy=entropy, check_all=check_all, telemetry=telemetry, **options
            )
            try:
                await made._reached()
            except BaseException:
                await made.close()
                raise
            return made

    @staticmethod
    async def probe(place: Path, pairing: Pairing, *, clock: Clock, connect_s: float = 5.0) -> wire.Welcome:
        """Connect once and hear what the signer says of itself. Errors as of `open`."""
        link, welcome = await connect(place, pairing, clock, connect_s, connect_s)
        link.end()
        await link.lost
        return welcome

    def __repr__(self) -> str:
        return f"<RemoteSigner {self._place} {'closed' if self._closed else 'up' if self._link else 'down'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signer cannot be pickled or copied")

    @property
    def place(self) -> Path:
        """The signer's socket."""
        return self._place

    @property
    def reachable(self) -> bool:
        """Whether there is a connection now."""
        return self._link is not None

    async def health(self) -> dict[str, object]:
        """Where the signer is, and what; UnavailableError with the reason while it cannot be reached."""
        await self._reached()
        return {"socket": str(self._place), "provider": self.welcome.capabilities.provider}

    def capabilities(self) -> Capabilities:
        """What the signer's provider can do, as it said at the first connection; `remote: ` stands before its name."""
        told = self.welcome.capabilities
        return Capabilities(
            provider=f"remote: {told.provider}",
            curves=told.curves,
            bdhke=told.bdhke,
            dleq=told.dleq,
            bip340=told.bip340,
            ecdsa=told.ecdsa,
            derivation=told.derivation,
            wrapping=told.wrapping,
        )

    async def keyset_public_keys(self, keyset: KeysetRef, amounts: Sequence[int]) -> dict[int, bytes]:
        """Public key for each amount, in order; each a point, and the same as ever."""
        found = await self._call("keyset_public_keys", (keyset, list(amounts)))
        known = self._keysets.get(keyset, {})
        if list(found) != list(dict.fromkeys(amounts)):
            raise self._fault("keys of other amounts")
        for amount, key in found.items():
            if not _is_point(key) or known.get(amount, key) != key:
                raise self._fault("a keyset's key that is no point, or another than before")
        self._keysets.setdefault(keyset, {}).update(found)
        return dict(found)

    async def verify_proofs(self, proofs: Sequence[ProofToVerify]) -> list[bytes | None]:
        """For each proof its Y, made here, where the signer says that it holds."""
        held = await self._call("verify_proofs", (list(proofs),))
        return await self._ys(proofs, held)

    async def blind_sign(self, messages: Sequence[ToBlindSign]) -> list[BlindSigned]:
        """Blind signatures with DLEQ, sampled; see the module."""
        signed = await self._call("blind_sign", (list(messages),))
        await self._check_blind(messages, signed)
        return list(signed)

    async def exchange(
        self, proofs: Sequence[ProofToVerify], messages: Sequence[ToBlindSign]
    ) -> tuple[list[bytes | None], list[BlindSigned]]:
        """Both in one go, checked as the two are alone; signatures beside a coin that does not hold are a fault."""
        held, signed = await self._call("exchange", (list(proofs), list(messages)))
        ys = await self._ys(proofs, held)
        if None in ys:
            if signed:
                raise self._fault("signatures beside a coin that does not hold")
            return ys, []
        await self._check_blind(messages, signed)
        return ys, list(signed)

    async def public_key(self, ref: KeyRef) -> bytes:
        """Public key of a ref, a point, and the same as ever."""
        key: bytes = await self._call("public_key", (ref,))
        if not _is_point(key) or self._keys.setdefault(ref, key) != key:
            raise self._fault("a public key that is no point, or another than before")
        return key

    async def sign_schnorr(self, ref: KeyRef, digests: Sequence[bytes]) -> list[bytes]:
        """BIP 340 signatures, each verified under the ref's public key."""
        signatures = await self._call("sign_schnorr", (ref, list(digests)))
        if digests:
            self._check_schnorr(digests, signatures, await self._known(ref))
        return list(signatures)

    async def own_blinded(self, keys: Sequence[BlindedKey]) -> list[bool]:
        """As the signer says, one answer a key."""
        owned: list[bool] = await self._call("own_blinded", (list(keys),))
        if len(owned) != len(keys):
            raise self._fault("another number of answers than was asked for")
        return owned

    async def sign_blinded(self, key: BlindedKey, digests: Sequence[bytes]) -> list[bytes]:
        """BIP 340 signatures, each verified under the blinded key."""
        signatures = await self._call("sign_blinded", (key, list(digests)))
        if digests:
            self._check_schnorr(digests, signatures, key.key)
        return list(signatures)

    async def sign_recoverable(self, ref: KeyRef, digests: Sequence[bytes]) -> list[tuple[bytes, int]]:
        """Compact ECDSA signatures; the ref's public key must come back from each."""
        signatures = await self._call("sign_recoverable", (ref, list(digests)))
        if len(signatures) != len(digests):
            raise self._fault("another number of signatures than was asked for")
        key = await self._known(ref) if digests else b""
        for digest, (signature, recovery_id) in zip(digests, signatures, strict=True):
            if len(signature) != 64 or not 0 <= recovery_id <= 3 or _recovered(digest, signature, recovery_id) != key:
                raise self._fault("a signature of another key")
        return list(signatures)

    async def derive_secrets(self, keyset_id: str, counters: Sequence[int]) -> list[DerivedSecret]:
        """As the signer says: one for each counter, with a factor that is a scalar."""
        derived: list[DerivedSecret] = []
        for at in range(0, len(counters) or 1, wire.MAX_SECRETS):
            derived += await self._call("derive_secrets", (keyset_id, list(counters[at : at + wire.MAX_SECRETS])))
        if [one.counter for one in derived] != list(counters):
            raise self._fault("secrets of other counters")
        if any(len(one.r) != 32 or not curve.is_scalar(one.r) or len(one.secret) > _MAX_SECRET_CHARS for one in derived):
            raise self._fault("a secret that can be none")
        return derived

    async def wrap(self, plaintext: bytes, *, context: bytes) -> bytes:
        """Sealed at the signer, under its wrapping key; the plaintext goes to it over the socket."""
        sealed: bytes = await self._call("wrap", (plaintext, context))
        if len(sealed) <= len(plaintext) or (len(plaintext) >= 8 and plaintext in sealed):
            raise self._fault("something sealed that is not")
        return sealed

    async def unwrap(self, sealed: bytes, *, context: bytes) -> bytes:
        """Opened at the signer."""
        plaintext: bytes = await self._call("unwrap", (sealed, context))
        if len(plaintext) >= len(sealed):
            raise self._fault("more than was sealed")
        return plaintext

    async def close(self) -> None:
        """End the connection; the signer and its keys stay. Calls that wait hear it. A second time does nothing."""
        self._closed = True
        if self._tried is not None:
            self._tried.set()
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
            self._keeping = None

    async def _call(self, verb: str, arguments: tuple[object, ...]) -> Any:
        link = self._link or await self._reached()
        answer = await link.ask(verb, arguments)
        if answer.error is not None:
            raise wire.error_from_failure(answer.error, link.peer)
        try:
            return wire.value_from_raw(verb, answer.value)
        except MalformedError as error:
            raise PeerFaultError(error.detail, peer=link.peer) from None

    async def _reached(self) -> Link:
        """The connection. The first attempt is waited for; while the signer is away afterwards this raises at once."""
        if self._closed:
            raise SignerClosedError("the signer is closed")
        if self._keeping is None or self._tried is None:
            self._tried = asyncio.Event()
            self._keeping = asyncio.get_running_loop().create_task(self._keep(self._tried))
        await self._tried.wait()
        if self._closed:  # while we waited
            raise SignerClosedError("the signer is closed")
        if self._link is None:
            raise UnavailableError(self._reason, retry_after_s=self._again_s)
        return self._link

    async def _keep(self, tried: asyncio.Event) -> None:
        """Keep one connection until closed: after each loss try again, with pauses that grow while it fails."""
        pause_s, longest_s = _FIRST_PAUSE_S, _LONGEST_PAUSE_S
        link: Link | None = None
        lost_at: float | None = None
        try:
            while True:
                try:
                    link = await self._connect_again()
                except SpecieError as error:
                    self._reason = error.detail
                    longest_s = _AWAY_PAUSE_S if isinstance(error, AwayError) else _LONGEST_PAUSE_S
                except Exception as error:  # whatever it was, it must not end the attempts
                    self._reason = f"the signer cannot be reached: {type(error).__name__}"
                else:
                    pause_s, self._link = _FIRST_PAUSE_S, link
                    tried.set()
                    if lost_at is not None:
                        self._telemetry.event("signer_back", after_s=round(self._clock.monotonic() - lost_at, 3))
                    self._reason = await asyncio.shield(link.lost)
                    self._link, lost_at = None, self._clock.monotonic()
                    self._telemetry.event("signer_lost", reason=self._reason)
                    self._telemetry.count("signer_lost")
                tried.set()
                self._again_s = max(pause_s, 0.1)
                await self._clock.sleep(pause_s)
                pause_s = min(2 * pause_s, longest_s)
        finally:
            self._link = None
            if link is not None:
                link.end()
                await link.lost

    async def _connect_again(self) -> Link:
        link, welcome = await connect(self._place, self._pairing, self._clock, self._connect_s, self._deadline_s)
        if welcome != self.welcome:
            link.end()
            await link.lost
            raise PeerFaultError("the signer has another seed, or can do other things, than before", peer=link.peer)
        return link

    async def _known(self, ref: KeyRef) -> bytes:
        return self._keys.get(ref) or await self.public_key(ref)

    async def _ys(self, proofs: Sequence[ProofToVerify], held: Sequence[bool]) -> list[bytes | None]:
        if len(held) != len(proofs):
            raise self._fault("another number of answers than was asked for")
        if len(proofs) > _THREADED:
            return await asyncio.to_thread(_made_ys, proofs, held)
        return _made_ys(proofs, held)

    async def _check_blind(self, messages: Sequence[ToBlindSign], signed: Sequence[BlindSigned]) -> None:
        """Shape of all; the DLEQ of the first of each key, and now and then of one drawn."""
        if len(signed) != len(messages):
            raise self._fault("another number of signatures than was asked for")
        proven = self.welcome.capabilities.dleq
        for one in signed:
            if not _is_point(one.c_):
                raise self._fault("a signature that is no point")
            for part in (one.dleq_e, one.dleq_s):
                if (part is not None) is not proven or (part is not None and len(part) != 32):
                    raise self._fault("a signature without its proof, or with a proof that is none")
        seen = self._link.seen if self._link is not None else set()
        chosen = {
            (message.keyset, message.amount): index
            for index, message in enumerate(messages)
            if (message.keyset, message.amount) not in seen
        }
        picked = set(range(len(messages))) if self._check_all else set(chosen.values())
        drawn = int.from_bytes(self._entropy.bytes(8), "big")
        if messages and drawn % _SAMPLED == 0:
            picked.add(drawn // _SAMPLED % len(messages))
        for index in sorted(picked) if proven else ():
            message, one = messages[index], signed[index]
            key = await self._mint_key(message.keyset, message.amount)
            try:
                verify_dleq(message.b_, one.c_, Dleq(one.dleq_e or b"", one.dleq_s or b""), key)
            except (RefusedError, PeerFaultError):
                raise self._fault("a blind signature of another key") from None
        seen.update(chosen)

    async def _mint_key(self, keyset: KeysetRef, amount: int) -> bytes:
        known = self._keysets.get(keyset, {}).get(amount)
        return known or (await self.keyset_public_keys(keyset, [amount]))[amount]

    def _check_schnorr(self, digests: Sequence[bytes], signatures: Sequence[bytes], key: bytes) -> None:
        if len(signatures) != len(digests):
            raise self._fault("another number of signatures than was asked for")
        for digest, signature in zip(digests, signatures, strict=True):
            if len(signature) != 64 or not curve.schnorr_verify(signature, digest, key):
                raise self._fault("a signature of another key")

    def _fault(self, what: str) -> PeerFaultError:
        self._telemetry.count("signer_faults")
        if what not in self._paged:
            self._paged.add(what)
            self._telemetry.page("an answer of the signer is not true", answer=what)
        return PeerFaultError(f"the signer answered with {what}", peer=str(self._place))


def _is_point(data: bytes) -> bool:
    return len(data) == 33 and curve.is_point(data)


def _made_ys(proofs: Sequence[ProofToVerify], held: Sequence[bool]) -> list[bytes | None]:
    return [hash_to_curve(proof.secret) if good else None for proof, good in zip(proofs, held, strict=True)]


def _recovered(digest: bytes, signature: bytes, recovery_id: int) -> bytes:
    try:
        return curve.ecdsa_recover(digest, signature, recovery_id)
    except (ValueError, MalformedError):
        return b""
