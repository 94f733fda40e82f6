"""`ReplicatedSigner`: the same keys in several places, asked in order, so that losing one of them is a non-event.

Every verb of the port is a function of its arguments and the keys: a question that one replica did not answer may be put to
the next, and two replicas that both answer contradict nobody. So no lease is needed here: nothing is signed twice with effect.

| a replica ...                                 | then                                                                      |
|-----------------------------------------------|---------------------------------------------------------------------------|
| is away, or says nothing until the deadline   | its circuit opens: nobody asks it, the next one answers, it is probed      |
| was not asked for ten seconds                 | it is probed as well, so that a dead standby is known before it is needed |
| is back                                       | it proves its keys (below), then its circuit closes                        |
| refuses (a key it does not have, bad input)   | the caller hears that: others would say the same                          |
| was caught by its own provider at a fault     | as if it were away, and a human is paged                                  |
| has other keys, or signs what does not verify | it is expelled, a human is paged, the next one answers                     |
| is the last one                               | UnavailableError: nothing is signed (fail closed), a human is paged        |

A replica proves itself with every public key that was seen so far and with a signature over FRESH bytes; one that has not is
never asked. What is verified of each answer: public keys against those seen first, ECDSA and BIP 340 signatures against the
key, blind signatures by their DLEQ (NUT-12). Without a DLEQ (keys inside an HSM) only their shape can be, and the provider's
own check counts. Whether a proof of somebody is good (`verify_proofs`) and what is unsealed is believed.

Not here: where the replicas are (`app`), and how a key came to be in two of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeVar

from specie.ecash.dleq import verify_dleq
from specie.ecash.proof import Dleq
from specie.kernel import curve
from specie.kernel.clock import Clock
from specie.kernel.entropy import Entropy
from specie.kernel.errors import InvariantError, MalformedError, PeerFaultError, RefusedError, SpecieError, UnavailableError
from specie.kernel.telemetry import NULL_TELEMETRY, Telemetry
from specie.keys.errors import KeyFaultError, KeysDifferError, SignerClosedError
from specie.keys.ports import (
    BlindedKey,
    BlindSigned,
    Capabilities,
    DerivedSecret,
    KeyRef,
    KeysetRef,
    ProofToVerify,
    Signer,
    ToBlindSign,
)

__all__ = ["Circuit", "Replica", "ReplicaStatus", "ReplicatedSigner"]

T = TypeVar("T")

_EACH_S: Final = 0.005
"""What a call may take longer for each thing in it."""
_FIRST_PROBE_S: Final = 0.25
_LAST_PROBE_S: Final = 30.0
_IDLE_S: Final = 10.0
_ON_THIS_THREAD: Final = 16
"""DLEQ proofs that are verified at once (2 ms); more of them go to another thread."""


class Circuit(StrEnum):
    """Whether a replica is asked."""

    CLOSED = "closed"
    """It is."""
    OPEN = "open"
    """It is away, or has not proved its keys yet."""
    EXPELLED = "expelled"
    """It has other keys, or signed what does not verify; it is never asked again in this run."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One place where the keys are; `name` is for logs and health pages."""

    name: str
    signer: Signer


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """How it is with one replica: answers and failures since the start, and why its circuit is not closed."""

    name: str
    circuit: Circuit
    answered: int
    failed: int
    reason: str


@dataclass(slots=True)
class _Place:
    name: str
    signer: Signer
    circuit: Circuit = Circuit.OPEN
    answered: int = 0
    failed: int = 0
    reason: str = "not asked yet"
    probe: asyncio.Task[None] | None = None
    seen: int = 0
    """What `answered` was at the last look."""


@dataclass(slots=True)
class _Seen:
    """Every public key that a proven replica named: what the others must name, too."""

    refs: dict[KeyRef, bytes] = field(default_factory=dict)
    keysets: dict[KeysetRef, dict[int, bytes]] = field(default_factory=dict)


class ReplicatedSigner:
    """A `keys.ports.Signer` over replicas in order of preference, at least one.

    Args:
        replicas: where the keys are. All are closed with this one.
        identity: the ref by which replicas prove themselves: they sign FRESH bytes with it (recoverable ECDSA).
        deadline_s: how long one replica may take for a call, and 5 ms more for each thing in it.

    Call `start` before anything else. Errors as of the port; UnavailableError when no replica answers.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        *,
        clock: Clock,
        entropy: Entropy,
        telemetry: Telemetry = NULL_TELEMETRY,
        identity: KeyRef = "node",
        deadline_s: float = 1.0,
    ) -> None:
        if not replicas or len({replica.name for replica in replicas}) != len(replicas):
            raise InvariantError("replicas have names of their own, and there is at least one")
        self._places = [_Place(replica.name, replica.signer) for replica in replicas]
        self._clock = clock
        self._entropy = entropy
        self._telemetry = telemetry
        self._identity = identity
        self._deadline_s = deadline_s
        self._seen = _Seen()
        self._closed = False
        self._alone = False
        self._watch: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<ReplicatedSigner {', '.join(f'{place.name} {place.circuit}' for place in self._places)}>"

    # Life

    async def start(self) -> None:
        """Prove every replica that can be reached; the others are probed until they can.

        Raises:
            UnavailableError: none can be reached.
            KeysDifferError: two that can have different keys. Which of them is right, only a human knows.
        """
        try:
            found = await asyncio.gather(*(self._identified(place) for place in self._places))
        except BaseException:
            await self.close()
            raise
        if len(set(found) - {None}) > 1:
            await self.close()
            names = ", ".join(place.name for place in self._places)
            raise KeysDifferError(f"the replicas of the keys do not have the same keys: {names}")
        for place, key in zip(self._places, found, strict=True):
            if key is not None:
                self._seen.refs[self._identity] = key
                place.circuit, place.reason = Circuit.CLOSED, ""
        if all(key is None for key in found):
            await self.close()
            raise UnavailableError("no replica of the keys answers: " + self._reasons(), retry_after_s=_FIRST_PROBE_S)
        for place in self._places:
            if place.circuit is Circuit.OPEN:
                self._opened(place)
        self._watch = asyncio.get_running_loop().create_task(self._watched())

    async def _identified(self, place: _Place) -> bytes | None:
        """The key that a replica proves it has; None if it is away."""
        try:
            async with asyncio.timeout(self._proof_s()):
                return await self._proved(place)
        except (TimeoutError, UnavailableError, PeerFaultError, KeyFaultError) as error:
            place.reason = _reason(error)
            return None

    async def close(self) -> None:
        """Close all replicas. A second time does nothing."""
        if self._closed:
            return
        self._closed = True
        probes = [task for task in (self._watch, *(place.probe for place in self._places)) if task is not None]
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)
        await asyncio.gather(*(place.signer.close() for place in self._places), return_exceptions=True)

    def status(self) -> list[ReplicaStatus]:
        """How it is with each replica, in order of preference."""
        return [ReplicaStatus(p.name, p.circuit, p.answered, p.failed, p.reason) for p in self._places]

    async def health(self) -> dict[str, object]:
        """The circuit of each replica; UnavailableError with the reasons while nobody is asked."""
        if all(place.circuit is not Circuit.CLOSED for place in self._places):
            raise UnavailableError(self._reasons())
        return {place.name: place.circuit.value for place in self._places}

    async def health_of_all(self) -> dict[str, object]:
        """Answers of each replica since the start; UnavailableError with the reasons while one of them is not asked."""
        if any(place.circuit is not Circuit.CLOSED for place in self._places):
            raise UnavailableError(self._reasons())
        return {place.name: place.answered for place in self._places}

    def capabilities(self) -> Capabilities:
        """What all replicas can do."""
        several = [place.signer.capabilities() for place in self._places]
        return Capabilities(
            provider="replicated: " + ", ".join(place.name for place in self._places),
            curves=frozenset.intersection(*(each.curves for each in several)),
            bdhke=all(each.bdhke for each in several),
            dleq=all(each.dleq for each in several),
            bip340=all(each.bip340 for each in several),
            ecdsa=all(each.ecdsa for each in several),
            derivation=all(each.derivation for each in several),
            wrapping=all(each.wrapping for each in several),
        )

    # The port

    async def keyset_public_keys(self, keyset: KeysetRef, amounts: Sequence[int]) -> dict[int, bytes]:
        """As the port says; the keys seen first are those that count."""
        seen = self._seen.keysets.get(keyset, {})
        if all(amount in seen for amount in amounts):
            return {amount: seen[amount] for amount in amounts}
        keys = await self._ask(
            lambda signer: signer.keyset_public_keys(keyset, amounts),
            len(amounts),
            lambda found: _keys_checked(found, amounts, seen),
        )
        self._seen.keysets.setdefault(keyset, {}).update(keys)
        return keys

    async def public_key(self, ref: KeyRef) -> bytes:
        """As the port says; the key seen first is the one that counts."""
        key = self._seen.refs.get(ref)
        if key is None:
            key = await self._ask(lambda signer: signer.public_key(ref), 1, _point_checked)
            key = self._seen.refs.setdefault(ref, key)
        return key

    async def verify_proofs(self, proofs: Sequence[ProofToVerify]) -> list[bytes | None]:
        """As the port says."""
        return await self._ask(
            lambda signer: signer.verify_proofs(proofs), len(proofs), lambda ys: _ys_checked(ys, len(proofs))
        )

    async def blind_sign(self, messages: Sequence[ToBlindSign]) -> list[BlindSigned]:
        """As the port says; signatures that do not verify do not leave."""
        keys = await self._keys_of(messages)
        return await self._ask_checked(
            lambda signer: signer.blind_sign(messages), len(messages), lambda signed: _signed_checked(signed, messages, keys), 0
        )

    async def exchange(
        self, proofs: Sequence[ProofToVerify], messages: Sequence[ToBlindSign]
    ) -> tuple[list[bytes | None], list[BlindSigned]]:
        """As the port says; signatures that do not verify do not leave."""
        keys = await self._keys_of(messages)

        def checked(answer: tuple[list[bytes | None], list[BlindSigned]]) -> None:
            ys, signed = answer
            _ys_checked(ys, len(proofs))
            _signed_checked(signed, () if None in ys else messages, keys)

        return await self._ask_checked(
            lambda signer: signer.exchange(proofs, messages), len(proofs) + len(messages), checked, len(proofs)
        )

    async def sign_schnorr(self, ref: KeyRef, digests: Sequence[bytes]) -> list[bytes]:
        """As the port says; a signature that does not verify does not leave."""
        key = (await self.public_key(ref))[1:]
        return await self._ask(
            lambda signer: signer.sign_schnorr(ref, digests), len(digests), lambda found: _schnorr_checked(found, digests, key)
        )

    async def sign_recoverable(self, ref: KeyRef, digests: Sequence[bytes]) -> list[tuple[bytes, int]]:
        """As the port says; a signature that does not verify does not leave."""
        key = await self.public_key(ref)
        return await self._ask(
            lambda signer: signer.sign_recoverable(ref, digests),
            len(digests),
            lambda found: _ecdsa_checked(found, digests, key),
        )

    async def own_blinded(self, keys: Sequence[BlindedKey]) -> list[bool]:
        """As the port says."""
        return await self._ask(lambda signer: signer.own_blinded(keys), len(keys), lambda found: _counted(found, len(keys)))

    async def sign_blinded(self, key: BlindedKey, digests: Sequence[bytes]) -> list[bytes]:
        """As the port says; a signature that does not verify does not leave."""
        return await self._ask(
            lambda signer: signer.sign_blinded(key, digests),
            len(digests),
            lambda found: _schnorr_checked(found, digests, key.key[-32:]),
        )

    async def derive_secrets(self, keyset_id: str, counters: Sequence[int]) -> list[DerivedSecret]:
        """As the port says."""
        return await self._ask(
            lambda signer: signer.derive_secrets(keyset_id, counters),
            len(counters),
            lambda found: _counted([secret.counter for secret in found], list(counters)),
        )

    async def wrap(self, plaintext: bytes, *, context: bytes) -> bytes:
        """As the port says; every replica opens it, since all have the same wrapping key."""
        return await self._ask(lambda signer: signer.wrap(plaintext, context=context), 1, _anything)

    async def unwrap(self, sealed: bytes, *, context: bytes) -> bytes:
        """As the port says."""
        return await self._ask(lambda signer: signer.unwrap(sealed, context=context), 1, _anything)

    # How a question finds its answer

    async def _keys_of(self, messages: Sequence[ToBlindSign]) -> dict[tuple[KeysetRef, int], bytes]:
        wanted: dict[KeysetRef, set[int]] = {}
        for message in messages:
            wanted.setdefault(message.keyset, set()).add(message.amount)
        found: dict[tuple[KeysetRef, int], bytes] = {}
        for keyset, amounts in wanted.items():
            keys = await self.keyset_public_keys(keyset, sorted(amounts))
            found |= {(keyset, amount): key for amount, key in keys.items()}
        return found

    async def _ask_checked(
        self, question: Callable[[Signer], Awaitable[T]], size: int, checked: Callable[[T], None], cheap: int
    ) -> T:
        """`_ask` where the check may take long: then it has a thread of its own."""
        if size - cheap <= _ON_THIS_THREAD:
            return await self._ask(question, size, checked)

        async def both(signer: Signer) -> T:
            answer = await question(signer)
            await asyncio.to_thread(checked, answer)
            return answer

        return await self._ask(both, size, _anything)

    async def _ask(self, question: Callable[[Signer], Awaitable[T]], size: int, checked: Callable[[T], None]) -> T:
        """The first good answer in order of preference."""
        if self._closed:
            raise SignerClosedError("the signer is closed")
        for place in self._places:
            if place.circuit is not Circuit.CLOSED:
                continue
            try:
                async with asyncio.timeout(self._deadline_s + size * _EACH_S):
                    answer = await question(place.signer)
                checked(answer)
            except (TimeoutError, UnavailableError, SignerClosedError) as error:
                place.failed += 1
                self._open(place, _reason(error))
            except (PeerFaultError, KeyFaultError) as error:
                place.failed += 1
                self._open(place, _reason(error))
                self._telemetry.page("a replica answered wrongly, as its own provider found", replica=place.name)
            except _WrongAnswer as error:
                place.failed += 1
                self._expel(place, _reason(error))
            else:
                place.answered += 1
                self._alone = False
                return answer
        if not self._alone:
            self._alone = True
            self._telemetry.page("no replica of the keys answers; nothing is signed", reasons=self._reasons())
        raise UnavailableError("no replica of the keys answers now", retry_after_s=_FIRST_PROBE_S)

    def _reasons(self) -> str:
        return "; ".join(f"{place.name}: {place.reason}" for place in self._places if place.reason)

    # Circuits

    def _open(self, place: _Place, reason: str) -> None:
        """Ask it no more until it proved itself; once, however many calls failed together."""
        if place.circuit is Circuit.CLOSED and not self._closed:
            place.circuit, place.reason = Circuit.OPEN, reason
            self._telemetry.count("replica_away", replica=place.name)
            self._telemetry.event("replica_away", replica=place.name, reason=reason)
            self._opened(place)

    def _opened(self, place: _Place) -> None:
        place.probe = asyncio.get_running_loop().create_task(self._until_back(place))

    def _expel(self, place: _Place, reason: str) -> None:
        if place.circuit is not Circuit.EXPELLED:
            place.circuit, place.reason = Circuit.EXPELLED, reason
            self._telemetry.count("replica_expelled", replica=place.name)
            self._telemetry.page("a replica has other keys, or lies: it is asked no more", replica=place.name, reason=reason)

    async def _watched(self) -> None:
        """Probe those that nobody asked lately."""
        while True:
            await self._clock.sleep(_IDLE_S)
            for place in self._places:
                if place.circuit is Circuit.CLOSED and place.answered == place.seen:
                    try:
                        async with asyncio.timeout(self._proof_s()):
                            await self._proved(place)
                    except KeysDifferError as error:
                        self._expel(place, _reason(error))
                    except Exception as error:  # whatever it is, it is no proof
                        self._open(place, _reason(error))
                place.seen = place.answered

    async def _until_back(self, place: _Place) -> None:
        """Probe with growing pauses; a replica that proves itself is asked again, one with other keys is expelled."""
        pause_s = _FIRST_PROBE_S
        while True:
            await self._clock.sleep(pause_s)
            pause_s = min(_LAST_PROBE_S, pause_s * 2)
            try:
                async with asyncio.timeout(self._proof_s()):
                    await self._proved(place)
            except KeysDifferError as error:
                self._expel(place, _reason(error))
                return
            except Exception as error:  # whatever it is, it is no proof
                place.reason = _reason(error)
            else:
                if place.circuit is not Circuit.OPEN:  # another call has found it lying meanwhile
                    return
                place.circuit, place.reason = Circuit.CLOSED, ""
                self._telemetry.count("replica_back", replica=place.name)
                self._telemetry.event("replica_back", replica=place.name)
                return

    def _proof_s(self) -> float:
        """How long a proof may take: a look at every key that was seen."""
        return self._deadline_s + _EACH_S * (len(self._seen.refs) + sum(len(keys) for keys in self._seen.keysets.values()))

    async def _proved(self, place: _Place) -> bytes:
        """The identity's key, once the replica named every key that was seen and signed FRESH bytes; else KeysDifferError.

        What its policy refuses now it need not name: it would refuse whoever asks.
        """
        signer, identity, own = place.signer, self._identity, b""
        for ref, expected in {**self._seen.refs, identity: self._seen.refs.get(identity, b"")}.items():
            try:
                key = await signer.public_key(ref)
            except RefusedError:
                if ref == identity:
                    raise UnavailableError(f"{place.name} refuses to prove itself", retry_after_s=_LAST_PROBE_S) from None
                continue
            if expected and key != expected:
                raise KeysDifferError(f"{place.name} has another key for {ref}")
            if ref == identity:
                own = key
        for keyset, seen in tuple(self._seen.keysets.items()):
            try:
                same = await signer.keyset_public_keys(keyset, list(seen)) == seen
            except RefusedError:
                continue
            if not same:
                raise KeysDifferError(f"{place.name} has other keys for keyset {keyset.unit}/{keyset.index}")
        digests = [self._entropy.bytes(32)]
        try:
            _ecdsa_checked(await signer.sign_recoverable(identity, digests), digests, own)
        except _WrongAnswer as error:
            raise KeysDifferError(f"{place.name}: {error}") from None
        return own


class _WrongAnswer(Exception):
    """An answer that a replica with these keys would not give."""


def _reason(error: BaseException) -> str:
    """Why a replica did not answer, without anything that was asked."""
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    return error.detail if isinstance(error, SpecieError) else str(error) or type(error).__name__


def _anything(answer: object) -> None:
    """Nothing to check."""


def _counted(found: object, expected: object) -> None:
    if isinstance(expected, int):
        found = len(found)  # type: ignore[arg-type]  # lists only
    if found != expected:
        raise _WrongAnswer("it answered another question")


def _point_checked(key: bytes) -> None:
    if not curve.is_point(key):
        raise _WrongAnswer("a public key is no point")


def _keys_checked(found: dict[int, bytes], amounts: Sequence[int], seen: dict[int, bytes]) -> None:
    if set(found) != set(amounts):
        raise _WrongAnswer("it answered for other amounts")
    for amount, key in found.items():
        _point_checked(key)
        if seen.get(amount, key) != key:
            raise _WrongAnswer(f"the key for amount {amount} is another one now")


def _ys_checked(ys: Sequence[bytes | None], count: int) -> None:
    _counted(ys, count)
    if any(y is not None and len(y) != 33 for y in ys):
        raise _WrongAnswer("a Y is no point")


def _signed_checked(
    signed: Sequence[BlindSigned], messages: Sequence[ToBlindSign], keys: dict[tuple[KeysetRef, int], bytes]
) -> None:
    _counted(signed, len(messages))
    for message, answer in zip(messages, signed, strict=True):
        if answer.dleq_e is None or answer.dleq_s is None:
            _point_checked(answer.c_)
            continue
        try:
            verify_dleq(message.b_, answer.c_, Dleq(answer.dleq_e, answer.dleq_s), keys[message.keyset, message.amount])
        except (RefusedError, MalformedError):
            raise _WrongAnswer("a blind signature does not verify") from None


def _schnorr_checked(found: Sequence[bytes], digests: Sequence[bytes], key: bytes) -> None:
    _counted(found, len(digests))
    if not all(curve.schnorr_verify(signature, digest, key) for signature, digest in zip(found, digests, strict=True)):
        raise _WrongAnswer("a BIP 340 signature does not verify")


def _ecdsa_checked(found: Sequence[tuple[bytes, int]], digests: Sequence[bytes], key: bytes) -> None:
    _counted(found, len(digests))
    for (signature, recovery), digest in zip(found, digests, strict=True):
        try:
            if curve.ecdsa_recover(digest, signature, recovery) == key:
                continue
        except (ValueError, SpecieError):
            pass
        raise _WrongAnswer("an ECDSA signature does not verify")
