"""The same keys in several places: who is asked, what is believed, and what happens when one of them is gone or lies."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, cast

import pytest

from specie.ecash.bdhke import blind, hash_to_curve, unblind
from specie.kernel import curve
from specie.kernel.errors import InvariantError, PeerFaultError, UnavailableError
from specie.kernel.telemetry import NULL_TELEMETRY
from specie.keys import (
    KeyFaultError,
    KeysDifferError,
    KeysetRef,
    KeyUnknownError,
    PolicyRefusedError,
    ProofToVerify,
    SignerClosedError,
    ToBlindSign,
)
from specie.keys.adapters.software import SoftwareSigner
from specie.keys.engine.replicated import Circuit, Replica, ReplicatedSigner
from tests.support.entropy import CountingEntropy
from tests.support.virtual import VirtualClock, run_virtual

SEED, OTHER = bytes(range(64)), bytes(64)
SAT = KeysetRef("sat", 0)
DIGESTS = [bytes([number]) * 32 for number in range(3)]
Story = Callable[[], Coroutine[Any, Any, None]]


class Place:
    """A signer that can be away, hang, or change what it answers."""

    def __init__(self, seed: bytes = SEED) -> None:
        self.inner = SoftwareSigner(seed, threads=0, entropy=CountingEntropy())
        self.away = self.hangs = self.closed = False
        self.wrong: dict[str, Callable[[Any], Any]] = {}
        self.asked: list[str] = []

    def capabilities(self) -> Any:
        return self.inner.capabilities()

    async def close(self) -> None:
        self.closed = True
        await self.inner.close()

    def __getattr__(self, verb: str) -> Any:
        async def ask(*arguments: Any, **named: Any) -> Any:
            self.asked.append(verb)
            if self.hangs:
                await asyncio.Event().wait()
            if self.away:
                raise UnavailableError("not reachable", retry_after_s=1.0)
            answer = await getattr(self.inner, verb)(*arguments, **named)
            return self.wrong[verb](answer) if verb in self.wrong else answer

        return ask


class Log:
    """Counts, events and pages by name."""

    def __init__(self) -> None:
        self.pages: list[str] = []
        self.events: list[tuple[str, object]] = []
        self.count = NULL_TELEMETRY.count
        self.observe = NULL_TELEMETRY.observe

    def event(self, name: str, /, **facts: object) -> None:
        self.events.append((name, facts.get("replica")))

    def page(self, reason: str, /, **facts: object) -> None:
        self.pages.append(reason)


def replicated(*places: Place, log: Log | None = None) -> ReplicatedSigner:
    named = [Replica(f"place {number}", cast(Any, place)) for number, place in enumerate(places)]
    return ReplicatedSigner(
        named, clock=VirtualClock(), entropy=CountingEntropy(), telemetry=log or NULL_TELEMETRY, deadline_s=1.0
    )


def told(story: Story) -> Callable[[], None]:
    """A test on virtual time: waiting costs nothing."""

    def test() -> None:
        run_virtual(story())

    test.__doc__, test.__name__ = story.__doc__, story.__name__
    return test


@pytest.fixture
async def opened() -> AsyncIterator[Callable[..., Any]]:
    signers: list[ReplicatedSigner] = []

    async def start(*places: Place, log: Log | None = None) -> ReplicatedSigner:
        signer = replicated(*places, log=log)
        signers.append(signer)
        await signer.start()
        return signer

    yield start
    for signer in signers:
        await signer.close()


def circuits(signer: ReplicatedSigner) -> list[Circuit]:
    return [status.circuit for status in signer.status()]


def messages(count: int) -> list[ToBlindSign]:
    return [ToBlindSign(SAT, 1 << index % 8, blind(f"secret {index}", bytes([1 + index % 200]) * 32)) for index in range(count)]


async def every_verb(signer: Any) -> list[Any]:
    """Answers of all verbs of the port that do not depend on randomness."""
    keys = await signer.keyset_public_keys(SAT, [1, 2, 4])
    blinding, secret = b"\x07" * 32, "a coin"
    (signed,) = await signer.blind_sign([ToBlindSign(SAT, 2, blind(secret, blinding))])
    coin = ProofToVerify(SAT, 2, secret.encode(), unblind(signed.c_, blinding, keys[2]))
    return [
        keys,
        signed,
        await signer.verify_proofs([coin, replace_c(coin)]),
        await signer.exchange([coin], messages(3)),
        await signer.exchange([replace_c(coin)], messages(3)),
        await signer.public_key("node"),
        await signer.sign_recoverable("node", DIGESTS),
        await signer.derive_secrets("00ad268c4d1f5826", [0, 1]),
        await signer.unwrap(await signer.wrap(b"plain", context=b"use"), context=b"use"),
        await signer.own_blinded([]),
    ]


def replace_c(coin: ProofToVerify) -> ProofToVerify:
    return coin._replace(c=hash_to_curve(b"another"))


async def test_answers_as_its_replicas_do(opened: Callable[..., Any]) -> None:
    """Every verb gives what the signer itself gives, and only the first one is asked."""
    first, second = Place(), Place()
    signer = await opened(first, second)
    before = len(second.asked)
    alone = SoftwareSigner(SEED, threads=0, entropy=CountingEntropy())
    assert await every_verb(signer) == await every_verb(alone)
    (signature,) = await signer.sign_schnorr("node", DIGESTS[:1])
    assert curve.schnorr_verify(signature, DIGESTS[0], (await signer.public_key("node"))[1:])
    assert len(second.asked) == before
    assert [status.failed for status in signer.status()] == [0, 0]
    assert signer.capabilities().dleq
    assert list(await signer.health_of_all()) == ["place 0", "place 1"]
    assert "place 0 closed" in repr(signer)


@pytest.mark.parametrize("how", ["away", "hangs"])
async def test_the_next_one_answers(opened: Callable[..., Any], how: str) -> None:
    """A replica that is away, or hangs, is left out of every verb; a human hears of it in the log, and is not paged."""
    first, second, log = Place(), Place(), Log()
    signer = await opened(first, second, log=log)
    signer._deadline_s = 0.01
    setattr(first, how, True)
    alone = SoftwareSigner(SEED, threads=0, entropy=CountingEntropy())
    assert await every_verb(signer) == await every_verb(alone)
    assert circuits(signer) == [Circuit.OPEN, Circuit.CLOSED]
    assert await signer.health() == {"place 0": "open", "place 1": "closed"}
    with pytest.raises(UnavailableError, match="place 0: "):
        await signer.health_of_all()
    assert first.asked.count("blind_sign") + first.asked.count("keyset_public_keys") == 1
    assert ("replica_away", "place 0") in log.events
    assert log.pages == []


@told
async def test_the_gap_is_the_deadline() -> None:
    """A hanging replica costs its deadline and nothing more; after that nobody waits for it."""
    first, second = Place(), Place()
    signer, clock = replicated(first, second), VirtualClock()
    await signer.start()
    await signer.keyset_public_keys(SAT, [1, 2])
    first.hangs = True
    began = clock.monotonic()
    await signer.blind_sign(messages(2))
    assert clock.monotonic() - began == pytest.approx(1.0 + 2 * 0.005)
    began = clock.monotonic()
    await signer.blind_sign(messages(2))
    assert clock.monotonic() == began
    await signer.close()


@told
async def test_comes_back_once_it_proved_itself() -> None:
    """A replica that is back is probed, named all keys, signs, and is asked again; pauses grow meanwhile."""
    first, second, log = Place(), Place(), Log()
    signer, clock = replicated(first, second, log=log), VirtualClock()
    await signer.start()
    first.away = True
    await signer.keyset_public_keys(SAT, [1])
    await clock.sleep(100)
    probes = first.asked.count("public_key")
    assert 5 <= probes <= 12
    first.away = False
    await clock.sleep(31)
    assert circuits(signer) == [Circuit.CLOSED, Circuit.CLOSED]
    assert ("replica_back", "place 0") in log.events
    asked = len(second.asked)
    await signer.blind_sign(messages(1))
    assert len(second.asked) == asked
    await signer.close()


@told
async def test_a_standby_that_dies_unasked_is_known() -> None:
    """A replica that nobody asked is looked at every ten seconds: one that is away or has other keys is known before."""
    for change in ("away", "seed"):
        first, second, log = Place(), Place(), Log()
        signer, clock = replicated(first, second, log=log), VirtualClock()
        await signer.start()
        await signer.blind_sign(messages(1))
        await clock.sleep(25)
        assert circuits(signer) == [Circuit.CLOSED, Circuit.CLOSED]
        if change == "away":
            second.away = True
        else:
            second.inner = SoftwareSigner(OTHER, threads=0, entropy=CountingEntropy())
        await clock.sleep(11)
        assert circuits(signer) == [Circuit.CLOSED, Circuit.OPEN if change == "away" else Circuit.EXPELLED]
        assert len(log.pages) == (change == "seed")
        asked = len(first.asked)
        for _ in range(20):
            await signer.blind_sign(messages(1))
            await clock.sleep(1)
        assert len(first.asked) == asked + 20
        await signer.close()


@told
async def test_one_that_comes_back_with_other_keys_is_expelled() -> None:
    """Restarted with another seed, or with other keys for a keyset only: never asked, and a human is paged."""
    for change in ("seed", "keyset"):
        first, second, log = Place(), Place(), Log()
        signer, clock = replicated(first, second, log=log), VirtualClock()
        await signer.start()
        await signer.keyset_public_keys(SAT, [1, 2])
        first.away = True
        await signer.blind_sign(messages(1))
        if change == "seed":
            first.inner = SoftwareSigner(OTHER, threads=0, entropy=CountingEntropy())
        else:
            first.wrong["keyset_public_keys"] = lambda keys: dict.fromkeys(keys, keys[1])
        first.away = False
        await clock.sleep(5)
        assert circuits(signer) == [Circuit.EXPELLED, Circuit.CLOSED]
        assert len(log.pages) == 1
        await clock.sleep(1_000)
        assert circuits(signer)[0] is Circuit.EXPELLED
        await signer.close()


WRONG: dict[str, Callable[[Any], Any]] = {
    "blind_sign": lambda signed: [replace_signature(signed[0]), *signed[1:]],
    "exchange": lambda answer: (answer[0], [replace_signature(answer[1][0]), *answer[1][1:]]),
    "sign_schnorr": lambda found: [bytes(64), *found[1:]],
    "sign_recoverable": lambda found: [(found[0][0], found[0][1] ^ 1), *found[1:]],
    "verify_proofs": lambda ys: ys[1:],
    "keyset_public_keys": lambda keys: {amount * 2: key for amount, key in keys.items()},
    "derive_secrets": lambda found: found[::-1],
    "own_blinded": lambda found: [*found, True],
    "public_key": lambda key: b"\x05" + key[1:],
}


def replace_signature(signed: Any) -> Any:
    return signed._replace(c_=hash_to_curve(b"another key"))


@pytest.mark.parametrize("verb", WRONG)
async def test_a_wrong_answer_never_leaves(opened: Callable[..., Any], verb: str) -> None:
    """A replica that answers wrongly is expelled on the spot, a human is paged, and the caller gets the good answer."""
    first, second, log = Place(), Place(), Log()
    signer = await opened(first, second, log=log)
    first.wrong[verb] = WRONG[verb]
    alone = SoftwareSigner(SEED, threads=0, entropy=CountingEntropy())
    assert await every_verb(signer) == await every_verb(alone)
    signature = (await signer.sign_schnorr("other", DIGESTS))[0]
    assert curve.schnorr_verify(signature, DIGESTS[0], (await alone.public_key("other"))[1:])
    assert circuits(signer) == [Circuit.EXPELLED, Circuit.CLOSED]
    assert len(log.pages) == 1


@pytest.mark.parametrize(
    ("verb", "change"),
    [
        ("blind_sign", lambda signed: [each._replace(c_=b"\x02" + bytes(32), dleq_e=None, dleq_s=None) for each in signed]),
        ("blind_sign", lambda signed: signed[:-1]),
        ("verify_proofs", lambda ys: [b"short" if y else y for y in ys]),
        ("keyset_public_keys", lambda keys: dict.fromkeys(keys, b"\x02" + bytes(32))),
        ("sign_recoverable", lambda found: [(bytes(64), 0) for _ in found]),
    ],
)
async def test_shapes_are_checked(opened: Callable[..., Any], verb: str, change: Callable[[Any], Any]) -> None:
    """Counts, lengths and points of answers are looked at where no proof comes with them."""
    first, second = Place(), Place()
    signer = await opened(first, second)
    first.wrong[verb] = change
    alone = SoftwareSigner(SEED, threads=0, entropy=CountingEntropy())
    assert await every_verb(signer) == await every_verb(alone)
    assert circuits(signer) == [Circuit.EXPELLED, Circuit.CLOSED]


async def test_signatures_without_a_dleq_pass(opened: Callable[..., Any]) -> None:
    """Keys in an HSM give no DLEQ; their signatures are points, and that is all that can be looked at."""
    first = Place()
    first.wrong["blind_sign"] = lambda signed: [each._replace(dleq_e=None, dleq_s=None) for each in signed]
    signer = await opened(first)
    assert [each.dleq_e for each in await signer.blind_sign(messages(3))] == [None] * 3


async def test_a_key_that_changes_is_another_key(opened: Callable[..., Any]) -> None:
    """The public key seen first stays the key: new amounts of a keyset may be asked for, old ones may not change."""
    first, second = Place(), Place()
    signer = await opened(first, second)
    keys = await signer.keyset_public_keys(SAT, [1])
    first.wrong["keyset_public_keys"] = lambda found: found | {1: found[2]}
    assert await signer.keyset_public_keys(SAT, [1, 2]) == keys | await second.inner.keyset_public_keys(SAT, [2])
    assert circuits(signer) == [Circuit.EXPELLED, Circuit.CLOSED]


@pytest.mark.parametrize("fault", [PeerFaultError("for another key", peer="token"), KeyFaultError("for another key")])
async def test_a_fault_that_a_provider_found_itself(opened: Callable[..., Any], fault: Exception) -> None:
    """A provider that caught its own device at a fault is left alone until it proved itself, and a human is paged."""
    first, second, log = Place(), Place(), Log()
    signer = await opened(first, second, log=log)

    def caught(answer: Any) -> Any:
        raise fault

    first.wrong["sign_recoverable"] = caught
    assert len(await signer.sign_recoverable("node", DIGESTS)) == 3
    assert circuits(signer) == [Circuit.OPEN, Circuit.CLOSED]
    assert len(log.pages) == 1


@told
async def test_a_policy_that_refuses_expels_nobody() -> None:
    """What a replica's policy refuses now is no sign of other keys: by day it signs again, without a page at night."""
    first, second, log = Place(), Place(), Log()
    signer, clock = replicated(first, second, log=log), VirtualClock()
    await signer.start()
    await signer.keyset_public_keys(SAT, [1, 2])
    await signer.public_key("other")

    def night(answer: Any) -> Any:
        raise PolicyRefusedError("rule day: its hours are 08:00-20:00 UTC", rule="day", retry_after_s=1.0)

    for place in (first, second):
        place.wrong["keyset_public_keys"] = night
    await clock.sleep(100)
    assert circuits(signer) == [Circuit.CLOSED, Circuit.CLOSED]
    for place in (first, second):
        place.wrong["public_key"] = night
    await clock.sleep(100)
    assert circuits(signer) == [Circuit.OPEN, Circuit.OPEN]
    for place in (first, second):
        place.wrong.clear()
    await clock.sleep(31)
    assert circuits(signer) == [Circuit.CLOSED, Circuit.CLOSED]
    assert log.pages == []
    await signer.close()


@told
async def test_expelled_is_expelled() -> None:
    """Of two calls under way one fails and one finds a lie: the probe that the first began does not bring the replica back."""
    first, second = Place(), Place()
    signer, clock = replicated(first, second), VirtualClock()
    await signer.start()
    signer._open(signer._places[0], "a call failed")
    signer._expel(signer._places[0], "another call found a lie")
    await clock.sleep(100)
    assert circuits(signer) == [Circuit.EXPELLED, Circuit.CLOSED]
    await signer.close()


async def test_a_refusal_is_the_answer(opened: Callable[..., Any]) -> None:
    """What one replica refuses is not tried on the others, and opens no circuit."""
    first, second = Place(), Place()
    signer = await opened(first, second)
    before = len(second.asked)
    with pytest.raises(KeyUnknownError):
        await signer.keyset_public_keys(SAT, [3])
    with pytest.raises(KeyUnknownError):
        await signer.sign_schnorr("mint/sat/0/1", DIGESTS)
    assert circuits(signer) == [Circuit.CLOSED, Circuit.CLOSED]
    assert len(second.asked) == before


@told
async def test_all_away_signs_nothing() -> None:
    """Without a replica every call fails at once and a human is paged once; the first that is back answers again."""
    first, second, log = Place(), Place(), Log()
    signer, clock = replicated(first, second, log=log), VirtualClock()
    await signer.start()
    first.away = second.away = True
    for _ in range(5):
        with pytest.raises(UnavailableError, match="no replica"):
            await signer.sign_recoverable("node", DIGESTS)
    assert log.pages == ["no replica of the keys answers; nothing is signed"]
    with pytest.raises(UnavailableError, match="place 0: not reachable; place 1: not reachable"):
        await signer.health()
    second.away = False
    await clock.sleep(31)
    assert len(await signer.sign_recoverable("node", DIGESTS)) == 3
    first.away = second.away = True
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await signer.sign_recoverable("node", DIGESTS)
    assert len(log.pages) == 2
    await signer.close()


async def test_starts_without_one_that_is_away(opened: Callable[..., Any]) -> None:
    """A replica that is away at the start does not keep the others from starting."""
    first, second = Place(), Place()
    first.away = True
    signer = await opened(first, second)
    assert circuits(signer) == [Circuit.OPEN, Circuit.CLOSED]
    assert signer.status()[0].reason == "not reachable"
    assert len(await signer.blind_sign(messages(2))) == 2


async def test_does_not_start_with_keys_that_differ() -> None:
    """Two replicas with different keys: which is right, only a human knows, so nothing starts, and all are closed."""
    first, second = Place(), Place(OTHER)
    with pytest.raises(KeysDifferError, match="place 0, place 1"):
        await replicated(first, second).start()
    assert first.closed
    assert second.closed


async def test_does_not_start_with_one_that_cannot_sign() -> None:
    """A replica that names the right key and signs with another one is found at the start."""
    first = Place()
    first.wrong["sign_recoverable"] = lambda found: [(signature, recovery ^ 1) for signature, recovery in found]
    with pytest.raises(KeysDifferError, match="does not verify"):
        await replicated(first, Place()).start()
    assert first.closed


async def test_does_not_start_alone() -> None:
    """Nobody there: UnavailableError with the reasons, and what was opened is closed."""
    first, second = Place(), Place()
    first.away = second.away = True
    with pytest.raises(UnavailableError, match="place 0: not reachable; place 1: not reachable"):
        await replicated(first, second).start()
    assert first.closed


async def test_closed_is_closed(opened: Callable[..., Any]) -> None:
    """After `close` nothing is signed, by a replica or by the whole; again it does nothing."""
    first, second = Place(), Place()
    signer = await opened(first, second)
    await signer.close()
    await signer.close()
    assert first.closed
    assert second.closed
    with pytest.raises(SignerClosedError):
        await signer.blind_sign(messages(1))


async def test_one_that_closed_by_itself_is_away(opened: Callable[..., Any]) -> None:
    """A replica whose process let go of its keys is away."""
    first, second = Place(), Place()
    signer = await opened(first, second)
    await first.inner.close()
    assert len(await signer.blind_sign(messages(1))) == 1
    assert circuits(signer) == [Circuit.OPEN, Circuit.CLOSED]


async def test_large_batches_are_checked_beside_the_loop(opened: Callable[..., Any]) -> None:
    """Hundreds of signatures are verified on another thread; a wrong one among them does not leave either."""
    first, second = Place(), Place()
    signer = await opened(first, second)
    asked = messages(200)
    good = await signer.blind_sign(asked)
    assert good == await second.inner.blind_sign(asked)
    first.wrong["blind_sign"] = lambda signed: [*signed[:-1], replace_signature(signed[-1])]
    assert await signer.blind_sign(asked) == good
    assert circuits(signer) == [Circuit.EXPELLED, Circuit.CLOSED]


def test_names_are_needed() -> None:
    """No replicas, and two of one name, are mistakes of the caller."""
    for replicas in ([], [Replica("a", cast(Any, Place()))] * 2):
        with pytest.raises(InvariantError):
            ReplicatedSigner(replicas, clock=VirtualClock(), entropy=CountingEntropy())


@told
async def test_a_primary_that_is_down_a_tenth_of_the_time() -> None:
    """Ten thousand calls in an hour, the first replica away or hanging a tenth of the time: all are answered, none wrongly."""
    first, second = Place(), Place()
    signer, clock, chance = replicated(first, second), VirtualClock(), random.Random(7)
    await signer.start()
    key = await signer.public_key("node")
    answered, longest = 0, 0.0
    for call in range(10_000):
        if call % 100 == 0:
            down = chance.random() < 0.1
            first.away = down and chance.random() < 0.5
            first.hangs = down and not first.away
        began = clock.monotonic()
        (signature, recovery) = (await signer.sign_recoverable("node", DIGESTS[:1]))[0]
        longest = max(longest, clock.monotonic() - began)
        answered += curve.ecdsa_recover(DIGESTS[0], signature, recovery) == key
        await clock.sleep(0.36)
    assert answered == 10_000
    assert longest <= 1.0 + 0.05
    status = signer.status()
    assert status[0].answered > 7_000
    assert 0 < status[0].failed < 100
    await signer.close()
