"""The bank's side: what a signer that lies, stalls, dies or speaks nonsense can make of it. Unix sockets only."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop

from specie.app.system import SystemClock
from specie.ecash.bdhke import blind, hash_to_curve
from specie.kernel import NullTelemetry, curve
from specie.kernel.errors import MalformedError, PeerFaultError, UnavailableError
from specie.keys import (
    BlindedKey,
    BlindSigned,
    Capabilities,
    DerivedSecret,
    KeysetRef,
    ProofToVerify,
    SignerClosedError,
    ToBlindSign,
    wire,
)
from specie.keys.adapters.pairing import Pairing, make_pairing
from specie.keys.adapters.remote import RemoteSigner
from specie.keys.adapters.signer_link import refusal
from specie.keys.adapters.signer_server import bind_signer_socket
from specie.keys.adapters.software import SoftwareSigner
from tests.support.entropy import CountingEntropy
from tests.support.signer_process import PEER_CREDENTIALS, SignerThread

pytestmark = pytest.mark.skipif(not PEER_CREDENTIALS, reason="this system has no SO_PEERCRED")

CLOCK = SystemClock()
SAT = KeysetRef("sat", 0)
OTHER = SoftwareSigner(bytes(32), threads=0, entropy=CountingEntropy())
TASKS = [ToBlindSign(SAT, 1 << (index % 3), blind(f"s{index}", (index + 1).to_bytes(32, "big"))) for index in range(6)]
DIGESTS = [bytes(32), bytes((1,)) * 32]
OFF_CURVE = b"\x02" + (5).to_bytes(32, "big")


def true_signer() -> SoftwareSigner:
    return SoftwareSigner(bytes(range(64)), threads=0, entropy=CountingEntropy())


class Told(NullTelemetry):
    """What was reported."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.counts: Counter[str] = Counter()
        self.pages: list[str] = []

    def count(self, name: str, /, amount: int = 1, **labels: str) -> None:
        self.counts[name] += amount

    def event(self, name: str, /, **facts: object) -> None:
        self.events.append((name, facts))

    def page(self, reason: str, /, **facts: object) -> None:
        self.pages.append(reason)


class Liar:
    """A signer that answers some verbs as it is told to, and the others truly."""

    def __init__(self) -> None:
        self.lies: dict[str, Callable[..., Any]] = {}
        self._true = true_signer()

    def __getattr__(self, verb: str) -> Any:
        lie = self.lies.get(verb)
        if lie is None:
            return getattr(self._true, verb)

        async def answer(*arguments: Any, **named: Any) -> Any:
            found = lie(await getattr(self._true, verb)(*arguments, **named))
            return await found if asyncio.iscoroutine(found) else found

        return answer


@pytest.fixture
def liar() -> Liar:
    return Liar()


@pytest.fixture
def thread(liar: Liar) -> Iterator[SignerThread]:
    served = SignerThread(liar)  # type: ignore[arg-type]
    yield served
    served.stop()


def remote(thread: SignerThread, **options: Any) -> RemoteSigner:
    return RemoteSigner(
        thread.place, thread.bank, thread.probe(), clock=CLOCK, entropy=CountingEntropy(), **{"deadline_s": 5.0} | options
    )


@pytest.fixture
async def signer(thread: SignerThread) -> AsyncIterator[RemoteSigner]:
    made = remote(thread)
    yield made
    await made.close()


BLINDED = BlindedKey("p2pk/0", curve.public_key(bytes(31) + b"\x05"), 0, curve.public_key(bytes(31) + b"\x06"))
LIES: list[tuple[str, Callable[..., Any], Callable[[RemoteSigner], Any]]] = [
    ("keyset_public_keys", lambda found: {2: found[1]}, lambda s: s.keyset_public_keys(SAT, [1])),
    ("keyset_public_keys", lambda found: {1: OFF_CURVE}, lambda s: s.keyset_public_keys(SAT, [1])),
    ("keyset_public_keys", lambda found: {1: b""}, lambda s: s.keyset_public_keys(SAT, [1])),
    ("verify_proofs", lambda found: [*found, b"x"], lambda s: s.verify_proofs([])),
    ("blind_sign", lambda found: found[:-1], lambda s: s.blind_sign(TASKS)),
    ("blind_sign", lambda found: OTHER.blind_sign(TASKS), lambda s: s.blind_sign(TASKS)),
    ("blind_sign", lambda found: [found[0]._replace(c_=OFF_CURVE), *found[1:]], lambda s: s.blind_sign(TASKS)),
    ("blind_sign", lambda found: [found[0]._replace(c_=b""), *found[1:]], lambda s: s.blind_sign(TASKS)),
    ("blind_sign", lambda found: [found[0]._replace(dleq_e=None), *found[1:]], lambda s: s.blind_sign(TASKS)),
    ("blind_sign", lambda found: [found[0]._replace(dleq_s=b"short"), *found[1:]], lambda s: s.blind_sign(TASKS)),
    ("exchange", lambda found: ([None], [BlindSigned(TASKS[0].b_, bytes(32), bytes(32))]), lambda s: s.exchange(COIN, TASKS)),
    ("exchange", lambda found: ([], []), lambda s: s.exchange(COIN, TASKS)),
    ("public_key", lambda found: OFF_CURVE, lambda s: s.public_key("node")),
    ("sign_schnorr", lambda found: found[:1], lambda s: s.sign_schnorr("node", DIGESTS)),
    ("sign_schnorr", lambda found: found[::-1], lambda s: s.sign_schnorr("node", DIGESTS)),
    ("sign_schnorr", lambda found: OTHER.sign_schnorr("node", DIGESTS), lambda s: s.sign_schnorr("node", DIGESTS)),
    ("sign_schnorr", lambda found: [b"", b""], lambda s: s.sign_schnorr("node", DIGESTS)),
    ("sign_recoverable", lambda found: found[:1], lambda s: s.sign_recoverable("node", DIGESTS)),
    ("sign_recoverable", lambda found: OTHER.sign_recoverable("node", DIGESTS), lambda s: s.sign_recoverable("node", DIGESTS)),
    ("sign_recoverable", lambda found: [(found[0][0], 9)] * 2, lambda s: s.sign_recoverable("node", DIGESTS)),
    ("sign_recoverable", lambda found: [(bytes(64), 0)] * 2, lambda s: s.sign_recoverable("node", DIGESTS)),
    ("own_blinded", lambda found: [], lambda s: s.own_blinded([BLINDED])),
    ("derive_secrets", lambda found: found[::-1], lambda s: s.derive_secrets("009a1f293253e41e", [0, 1])),
    ("derive_secrets", lambda found: [DerivedSecret(0, "x", bytes(32))], lambda s: s.derive_secrets("009a1f293253e41e", [0])),
    ("derive_secrets", lambda found: [DerivedSecret(0, "x" * 5000, b"\x01" * 32)], lambda s: s.derive_secrets("00" * 8, [0])),
    ("wrap", lambda found: b"", lambda s: s.wrap(b"a secret of the bank", context=b"")),
    ("wrap", lambda found: b"sealed: a secret of the bank", lambda s: s.wrap(b"a secret of the bank", context=b"")),
]
COIN = [ProofToVerify(SAT, 1, b"secret", TASKS[0].b_)]


@pytest.mark.parametrize(("verb", "lie", "call"), LIES, ids=[f"{index}-{lie[0]}" for index, lie in enumerate(LIES)])
async def test_what_is_not_true_does_not_get_out(
    liar: Liar, signer: RemoteSigner, verb: str, lie: Callable[..., Any], call: Callable[[RemoteSigner], Any]
) -> None:
    """An answer of the wrong number, length, point or key is the signer's fault, and nothing of it is given out."""
    await signer.public_key("other")
    liar.lies[verb] = lie
    with pytest.raises(PeerFaultError):
        await call(signer)
    assert signer.reachable  # the connection is not to blame


async def test_more_than_was_sealed_is_no_plaintext(liar: Liar, signer: RemoteSigner) -> None:
    """What is opened is shorter than what was sealed."""
    sealed = await signer.wrap(b"x", context=b"c")
    liar.lies["unwrap"] = lambda found: bytes(1000)
    with pytest.raises(PeerFaultError):
        await signer.unwrap(sealed, context=b"c")


async def test_a_blinded_key_that_signs_as_another_is_found(liar: Liar, signer: RemoteSigner) -> None:
    """Signatures for a blinded key verify under that very key."""
    from specie.ecash.p2bk import blind_key

    secret = bytes(31) + b"\x05"
    key = BlindedKey("p2pk/0", curve.public_key(secret), 0, blind_key(await signer.public_key("p2pk/0"), secret, 0))
    assert len(await signer.sign_blinded(key, DIGESTS)) == 2
    liar.lies["sign_blinded"] = lambda found: OTHER.sign_schnorr("node", DIGESTS)
    with pytest.raises(PeerFaultError):
        await signer.sign_blinded(key, DIGESTS)


async def test_public_keys_are_pinned_at_first_sight(liar: Liar, signer: RemoteSigner) -> None:
    """A key that was one and is another later is refused, for refs and for keysets."""
    await signer.public_key("node")
    await signer.keyset_public_keys(SAT, [1, 2])
    liar.lies["public_key"] = lambda found: OTHER.public_key("node")
    liar.lies["keyset_public_keys"] = lambda found: OTHER.keyset_public_keys(SAT, list(found))
    with pytest.raises(PeerFaultError):
        await signer.public_key("node")
    with pytest.raises(PeerFaultError):
        await signer.keyset_public_keys(SAT, [2])


async def test_a_wrong_key_is_found_by_the_sample_later_too(liar: Liar, signer: RemoteSigner) -> None:
    """After the first of each key was checked, a signer that turns wrong is found within some answers."""
    await signer.blind_sign(TASKS)
    liar.lies["blind_sign"] = lambda found: OTHER.blind_sign(TASKS)
    assert await first_fault(lambda: signer.blind_sign(TASKS)) is not None


async def test_a_provider_without_dleq_is_taken_at_its_word() -> None:
    """Where the keys cannot prove, signatures come without proofs, and one with a proof is a fault."""

    class Proofless(Liar):
        def capabilities(self) -> Capabilities:
            return replace(true_signer().capabilities(), dleq=False)

    token = Proofless()
    token.lies["blind_sign"] = lambda found: [BlindSigned(one.c_, None, None) for one in found]
    served = await asyncio.to_thread(SignerThread, token)
    made = remote(served, check_all=True)
    assert not made.capabilities().dleq
    assert [one.dleq_e for one in await made.blind_sign(TASKS)] == [None] * len(TASKS)
    del token.lies["blind_sign"]
    with pytest.raises(PeerFaultError):
        await made.blind_sign(TASKS)
    await made.close()
    await asyncio.to_thread(served.stop)


async def test_all_are_checked_where_that_is_asked_for(liar: Liar, thread: SignerThread) -> None:
    """One wrong signature of a key that was right before is found at once."""
    made = remote(thread, check_all=True)
    await made.blind_sign(TASKS)
    wrong = (await OTHER.blind_sign(TASKS))[-1]
    liar.lies["blind_sign"] = lambda found: [*found[:-1], wrong]
    with pytest.raises(PeerFaultError):
        await made.blind_sign(TASKS)
    await made.close()


async def first_fault(ask: Callable[[], Any]) -> PeerFaultError | UnavailableError | None:
    """Ask up to 500 times; the first error."""
    for _ in range(500):
        try:
            await ask()
        except (PeerFaultError, UnavailableError) as error:
            return error
        await asyncio.sleep(0)
    return None


async def test_ys_are_made_here(liar: Liar, signer: RemoteSigner) -> None:
    """The mark that a coin is spent comes from its secret, whatever Y the signer's process has in mind."""
    coins = [ProofToVerify(SAT, 1, f"secret {index}".encode(), TASKS[0].b_) for index in range(300)]
    liar.lies["verify_proofs"] = lambda found: [b"another Y", *([None] * 298), b"another Y"]
    ys = await signer.verify_proofs(coins)
    assert (ys[0], ys[-1]) == (hash_to_curve(b"secret 0"), hash_to_curve(b"secret 299"))
    assert ys[1:-1] == [None] * 298


async def test_an_error_inside_the_signer_is_its_fault_and_tells_nothing(
    liar: Liar, thread: SignerThread, signer: RemoteSigner
) -> None:
    """What no caller can mend arrives as PeerFaultError without its text; the signer's own log has its class."""
    liar.lies["public_key"] = lambda found: 1 // 0
    with pytest.raises(PeerFaultError, match="its log says how") as caught:
        await signer.public_key("node")
    assert "division" not in str(caught.value)
    assert {"signer failed", "ZeroDivisionError"} <= {str(value) for one in thread.told for value in one.values()}


async def test_many_calls_of_one_moment_leave_together(thread: SignerThread, signer: RemoteSigner) -> None:
    """A thousand calls at once are all answered, each its own."""
    refs = [f"ref/{index}" for index in range(1000)]
    found = await asyncio.gather(*(signer.public_key(ref) for ref in refs))
    true = true_signer()
    assert found == [await true.public_key(ref) for ref in refs]


async def test_a_caller_who_gives_up_leaves_the_others_alone(signer: RemoteSigner) -> None:
    """The answer to a call that was cancelled is dropped, and the connection goes on."""
    await signer.public_key("node")
    task = asyncio.create_task(signer.derive_secrets("009a1f293253e41e", list(range(2000))))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    assert await signer.public_key("a") != await signer.public_key("b")
    assert signer.reachable


async def test_calls_fail_at_once_while_it_is_away_and_work_again_after(thread: SignerThread) -> None:
    """No signer: UnavailableError without waiting, with a time to come back; the same seed back: work; another: refused."""
    made = remote(thread)
    key = await made.public_key("node")
    await asyncio.to_thread(thread.stop, forget=False)
    assert isinstance(await first_fault(lambda: made.public_key("node")), UnavailableError)
    with pytest.raises(UnavailableError) as caught:
        await made.public_key("node")
    assert caught.value.retry_after_s > 0
    back = await asyncio.to_thread(SignerThread, true_signer(), home=thread.home)
    assert await eventually(made) == key
    await asyncio.to_thread(back.stop, forget=False)
    stranger = await asyncio.to_thread(
        SignerThread, SoftwareSigner(bytes(32), threads=0, entropy=CountingEntropy()), home=thread.home
    )
    for _ in range(500):
        with pytest.raises(UnavailableError) as caught:
            await made.public_key("node")
        if "another seed" in caught.value.detail:
            break
        await asyncio.sleep(0.01)
    assert "another seed" in caught.value.detail
    await made.close()
    await asyncio.to_thread(stranger.stop)


async def test_what_was_lost_and_when_it_came_back_is_told(thread: SignerThread) -> None:
    """Two lines of the log, a counter, and a health check that says why while it is away."""
    told = Told()
    made = remote(thread, telemetry=told)
    assert await made.health() == {"socket": str(thread.place), "provider": "software"}
    await asyncio.to_thread(thread.stop, forget=False)
    assert isinstance(await first_fault(lambda: made.public_key("node")), UnavailableError)
    with pytest.raises(UnavailableError):
        await made.health()
    back = await asyncio.to_thread(SignerThread, true_signer(), home=thread.home)
    await eventually(made)
    assert [event for event, _ in told.events] == ["signer_lost", "signer_back"]
    assert told.events[1][1]["after_s"] > 0
    await made.close()
    await asyncio.to_thread(back.stop)


async def test_a_kind_of_lie_pages_once(liar: Liar, thread: SignerThread) -> None:
    """An answer that is not true is counted each time, and somebody is called the first time."""
    told = Told()
    made = remote(thread, telemetry=told)
    liar.lies["public_key"] = lambda found: OFF_CURVE
    for _ in range(3):
        with pytest.raises(PeerFaultError):
            await made.public_key("node")
    assert (told.counts["signer_faults"], len(told.pages)) == (3, 1)
    await made.close()


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("TLSV1_ALERT_UNKNOWN_CA", "refuses the bank's certificate (unknown ca)"),
        ("WRONG_VERSION_NUMBER", "TLS with the signer failed (wrong version number)"),
    ],
)
def test_what_tls_says_is_told(reason: str, sentence: str) -> None:
    """An alert is the other side's word about our certificate; anything else is named."""
    error = ssl.SSLError(1, f"[SSL: {reason}]")
    error.reason = reason
    assert sentence in refusal(error)


async def eventually(signer: RemoteSigner) -> bytes:
    """The key of `node`, as soon as the signer is back."""
    for _ in range(500):
        try:
            return await signer.public_key("node")
        except UnavailableError:
            await asyncio.sleep(0.01)
    raise AssertionError("the signer did not come back")


async def test_open_waits_for_a_signer_and_not_for_ever(thread: SignerThread) -> None:
    """Where no signer is, `open` says so after its patience; where one is, it is held to what it said."""
    opened = await RemoteSigner.open(thread.place, thread.bank, clock=CLOCK, entropy=CountingEntropy())
    assert opened.reachable
    assert opened.place == thread.place
    assert opened.capabilities().provider == "remote: software"
    assert "up" in repr(opened)
    with pytest.raises(TypeError):
        opened.__reduce__()
    await opened.close()
    assert "closed" in repr(opened)
    with pytest.raises(SignerClosedError):
        await opened.public_key("node")
    nowhere = thread.home / "nowhere.sock"
    with pytest.raises(UnavailableError, match="no signer at"):
        await RemoteSigner.open(nowhere, thread.bank, clock=CLOCK, entropy=CountingEntropy(), wait_s=0.3)


def test_it_works_on_the_loop_that_banks_run_on(thread: SignerThread) -> None:
    """The same over uvloop, whose transports are not asyncio's."""
    made = remote(thread)

    async def ask() -> bytes:
        try:
            return await made.public_key("node")
        finally:
            await made.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert curve.is_point(runner.run(ask()))


Reply = Callable[[wire.Request, asyncio.StreamWriter], None]


@asynccontextmanager
async def speaking(reply: Reply, **options: Any) -> AsyncIterator[RemoteSigner]:
    """A signer with a good certificate that greets well and then says whatever `reply` writes."""
    home = Path(tempfile.mkdtemp(prefix="signer-"))
    true = true_signer()
    ours, bank = make_pairing(home / "signer", home / "bank", now=CLOCK.now(), days=1)
    welcome = wire.Welcome(wire.VERSION, await true.public_key("signer"), true.capabilities())
    writers: list[asyncio.StreamWriter] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        frames = wire.FrameReader()
        while data := await reader.read(65536):
            for frame in frames.feed(data):
                request = wire.request_from_bytes(frame)
                if request.verb == wire.HELLO:
                    writer.write(wire.answer_to_frame(request.id, welcome))
                else:
                    reply(request, writer)
        writer.close()

    listener = bind_signer_socket(home / "s.sock")
    server = await asyncio.start_unix_server(talk, sock=listener, ssl=ours.context(CLOCK.now(), server=True))
    made = RemoteSigner(home / "s.sock", bank, welcome, clock=CLOCK, entropy=CountingEntropy(), **options)
    try:
        yield made
    finally:
        await made.close()
        server.close()
        for writer in writers:
            writer.close()
        for _ in range(50):
            await asyncio.sleep(0.001)
        shutil.rmtree(home)


def said(data: bytes) -> Reply:
    return lambda request, writer: writer.write(data)


PROTOCOL_FAULTS: dict[str, Reply] = {
    "garbage": said(b"HTTP/1.1 200 OK\r\n\r\n" * 10),
    "a huge length": said(b"\xff\xff\xff\xff"),
    "no length": said(bytes(4)),
    "an answer to another request": lambda request, writer: writer.write(wire.answer_to_frame(request.id + 1, b"x")),
    "an answer to nothing": lambda request, writer: writer.write(wire.answer_to_frame(0, b"x")),
    "a frame that is no message": said((3).to_bytes(4, "big") + b"\xc1\xc1\xc1"),
    "nesting": said((50_000).to_bytes(4, "big") + b"\x91" * 50_000),
}


@pytest.mark.parametrize("reply", PROTOCOL_FAULTS.values(), ids=PROTOCOL_FAULTS.keys())
async def test_a_signer_that_speaks_nonsense_is_hung_up_on(reply: Reply) -> None:
    """The calls under way hear that the signer broke the protocol; the connection is ended."""
    async with speaking(reply) as signer:
        with pytest.raises(PeerFaultError, match="broke the protocol"):
            await signer.public_key("node")


async def test_a_second_answer_ends_the_connection() -> None:
    """The first answer counts; the second answers nothing that was asked."""
    key = await true_signer().public_key("node")
    async with speaking(lambda request, writer: writer.write(2 * wire.answer_to_frame(request.id, key))) as signer:
        assert await signer.public_key("node") == key
        for _ in range(100):
            if not signer.reachable:
                break
            await asyncio.sleep(0.001)
        assert not signer.reachable


@pytest.mark.parametrize("value", [None, 1, [], {"a": 1}, "text", [b"x"]])
async def test_an_answer_of_another_shape_is_a_fault(value: object) -> None:
    """Bytes were asked for."""
    async with speaking(lambda request, writer: writer.write(wire.answer_to_frame(request.id, value))) as signer:
        with pytest.raises(PeerFaultError, match="cannot be read"):
            await signer.public_key("node")


async def test_answers_may_come_in_any_order_and_in_pieces() -> None:
    """Two calls answered backwards, cut anywhere, find their callers."""
    asked: list[wire.Request] = []
    true = true_signer()
    keys = {ref: await true.public_key(ref) for ref in ("a", "b")}

    def reply(request: wire.Request, writer: asyncio.StreamWriter) -> None:
        asked.append(request)
        if len(asked) == 2:
            for one in reversed(asked):
                (ref,) = wire.arguments_from_raw(one.verb, one.arguments)
                for byte in wire.answer_to_frame(one.id, keys[ref]):
                    writer.write(bytes((byte,)))

    async with speaking(reply) as signer:
        assert await asyncio.gather(signer.public_key("a"), signer.public_key("b")) == [keys["a"], keys["b"]]


async def test_a_signer_that_stalls_costs_no_more_than_the_deadline() -> None:
    """No answer: UnavailableError when the time is up, and the connection is given up."""
    async with speaking(lambda request, writer: None, deadline_s=0.3) as signer:
        with pytest.raises(UnavailableError, match=r"within 0\.3 s"):
            await asyncio.wait_for(signer.public_key("node"), 5)


async def test_a_signer_that_hangs_up_leaves_calls_unavailable() -> None:
    """A connection lost in the middle of a frame: nothing happened, ask again."""

    def reply(request: wire.Request, writer: asyncio.StreamWriter) -> None:
        writer.write((1000).to_bytes(4, "big") + b"half")
        writer.close()

    async with speaking(reply) as signer:
        with pytest.raises(UnavailableError, match="was lost"):
            await signer.public_key("node")


async def test_too_many_calls_are_told_to_come_back() -> None:
    """What waits is bounded, too."""
    async with speaking(lambda request, writer: None, deadline_s=30.0) as signer:
        calls = [asyncio.create_task(signer.public_key("node")) for _ in range(4097)]
        done, waiting = await asyncio.wait(calls, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        for call in waiting:
            call.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        (refused,) = done
        with pytest.raises(UnavailableError, match="more to do"):
            await refused


async def test_many_secrets_are_asked_for_in_parts(signer: RemoteSigner) -> None:
    """More counters than one question may have: all are answered, in order; none, too."""
    counters = range(5, wire.MAX_SECRETS + 7)
    derived = await signer.derive_secrets("009a1f293253e41e", counters)
    assert [one.counter for one in derived] == list(counters)
    assert derived == await true_signer().derive_secrets("009a1f293253e41e", counters)
    assert await signer.derive_secrets("009a1f293253e41e", []) == []


async def test_a_batch_beyond_the_bound_is_refused_here() -> None:
    """More than a message takes is not sent at all."""
    async with speaking(lambda request, writer: None) as signer:
        with pytest.raises(MalformedError):
            await signer.verify_proofs([ProofToVerify(SAT, 1, b"", b"")] * (wire.MAX_ITEMS + 1))


@pytest.mark.parametrize(
    "greeting",
    [None, b"", wire.Welcome(2, TASKS[0].b_, OTHER.capabilities()), wire.Welcome(1, OFF_CURVE, OTHER.capabilities())],
)
async def test_greetings_that_make_no_sense(greeting: object) -> None:
    """Another version than offered, an identity that is no point, no greeting at all."""
    home = Path(tempfile.mkdtemp(prefix="signer-"))
    ours, bank = make_pairing(home / "signer", home / "bank", now=CLOCK.now(), days=1)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(wire.answer_to_frame(1, greeting))
        await reader.read(100)
        writer.close()

    server = await asyncio.start_unix_server(
        talk, sock=bind_signer_socket(home / "s.sock"), ssl=ours.context(CLOCK.now(), server=True)
    )
    with pytest.raises(PeerFaultError):
        await RemoteSigner.probe(home / "s.sock", bank, clock=CLOCK)
    server.close()
    for _ in range(50):
        await asyncio.sleep(0.001)
    shutil.rmtree(home)


async def test_a_signer_that_never_shakes_hands(thread: SignerThread) -> None:
    """A socket that takes connections and says nothing is unavailable after the time to connect."""
    listener = bind_signer_socket(thread.home / "silent.sock")
    with pytest.raises(UnavailableError, match="does not answer"):
        await RemoteSigner.probe(thread.home / "silent.sock", thread.bank, clock=CLOCK, connect_s=0.2)
    listener.close()


@pytest.mark.parametrize("steps", [1, 2, 20])
async def test_whoever_waits_for_the_first_connection_hears_that_it_is_closed(thread: SignerThread, steps: int) -> None:
    """Closed before the first attempt begins, or during it: calls that wait end, and at once."""
    signer = remote(thread)
    listener = bind_signer_socket(thread.home / "silent.sock")
    signer._place = thread.home / "silent.sock"
    calls = [asyncio.create_task(signer.public_key("node")) for _ in range(3)]
    for _ in range(steps):
        await asyncio.sleep(0)
    await signer.close()
    async with asyncio.timeout(2):
        found = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in found] == [SignerClosedError] * 3
    listener.close()


async def test_a_signer_with_another_certificate_is_not_talked_to(thread: SignerThread, tmp_path: Path) -> None:
    """Somebody else's signer at our path: refused, and nothing is asked of it."""
    _, stranger = make_pairing(tmp_path / "s", tmp_path / "b", now=CLOCK.now(), days=1)
    with pytest.raises(UnavailableError, match="is not the pinned one"):
        await RemoteSigner.probe(thread.place, Pairing(thread.bank.identity, stranger.peer), clock=CLOCK)


async def test_a_bank_with_another_certificate_is_told_so(thread: SignerThread, tmp_path: Path) -> None:
    """The bank hears that it must be paired, the signer's log whose certificate it was not."""
    _, stranger = make_pairing(tmp_path / "s", tmp_path / "b", now=CLOCK.now(), days=1)
    with pytest.raises(UnavailableError, match="another certificate than the bank's"):
        await RemoteSigner.probe(thread.place, Pairing(stranger.identity, thread.bank.peer), clock=CLOCK)
    await thread.tells("certificate is not the pinned one")
