"""Keys in a token, when things go wrong: a real SoftHSM2 behind a shim that delays, refuses and falsifies its answers."""

from __future__ import annotations

import asyncio
import copy
import shutil
import threading
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from specie.ecash.bdhke import blind, hash_to_curve, unblind
from specie.kernel import curve
from specie.kernel.errors import InvariantError, MalformedError, RefusedError, UnavailableError
from specie.keys import (
    BlindedKey,
    CapabilityMissingError,
    KeyFaultError,
    KeysetRef,
    KeyUnknownError,
    ProofToVerify,
    ProviderMissingError,
    SignerClosedError,
    ToBlindSign,
    TokenFullError,
    TokenPinError,
)
from specie.keys.adapters import token_session
from specie.keys.adapters.token import TokenSigner, token_signer
from specie.keys.adapters.token_session import TokenPlace, TokenSession
from specie.keys.adapters.token_thread import TokenThread, token_thread
from tests.support.entropy import CountingEntropy
from tests.support.softhsm import PIN, SoftToken, new_token, token_store
from tests.support.token_shim import ShimPackage

SAT = KeysetRef("sat", 0)
G = curve.public_key(bytes(31) + b"\x01")
R = (7).to_bytes(32, "big")
OFF_CURVE = b"\x02" + (5).to_bytes(32, "big")


@pytest.fixture(scope="module")
def shared() -> SoftToken:
    """One token for tests that do not change what is in it."""
    return new_token()


@pytest.fixture
def shim() -> ShimPackage:
    token_store()  # says aloud where it is missing
    return ShimPackage()


async def opened(token: SoftToken, shim: ShimPackage, **options: Any) -> TokenSigner:
    given = {"pin": lambda: PIN, "entropy": CountingEntropy(), "package": lambda: shim} | options
    return await token_signer(TokenPlace(token.module, token.label), **given)


@pytest.fixture
async def signer(shared: SoftToken, shim: ShimPackage) -> AsyncIterator[TokenSigner]:
    """A signer with a keyset of two amounts, a node key and a wrapping key."""
    made = await opened(shared, shim)
    await made.create_keyset(SAT, [1, 2])
    await made.create_key("node")
    await made.create_wrapping_key()
    yield made
    shim.hooks.clear()
    await made.close()


@pytest.fixture
async def own(shim: ShimPackage) -> AsyncIterator[TokenSigner]:
    """The same in a token of its own, for tests that break it."""
    made = await opened(new_token(), shim)
    await made.create_keyset(SAT, [1, 2])
    yield made
    shim.hooks.clear()
    await made.close()


async def at_token(signer: TokenSigner, task: Callable[[TokenSession], Any]) -> Any:
    """Do something with the token itself, as another program would."""
    session = signer._session
    return await session.thread.run(lambda: session.work(lambda: task(session)), deadline_s=5)


def objects(session: TokenSession, kind: str, ref: str) -> list[Any]:
    return list(session._objects(getattr(session._pkcs11.ObjectClass, kind), ref))


def destroy_half(kind: str, ref: str) -> Callable[[TokenSession], None]:
    def task(session: TokenSession) -> None:
        (half,) = objects(session, kind, ref)
        half.destroy()
        session._keys.clear()

    return task


async def coin(signer: TokenSigner, amount: int = 1, secret: str = "coin") -> ProofToVerify:
    public = (await signer.keyset_public_keys(SAT, [amount]))[amount]
    (signed,) = await signer.blind_sign([ToBlindSign(SAT, amount, blind(secret, R))])
    return ProofToVerify(SAT, amount, secret.encode(), unblind(signed.c_, R, public))


def point_of(index: int) -> bytes:
    return curve.public_key((index + 1000).to_bytes(32, "big"))


# -- what is signed and verified


async def test_the_message_that_a_fixed_offset_could_not_sign(signer: TokenSigner) -> None:
    """-G and G are signed as any message: the answers are the mint's public key, negated and plain."""
    public = (await signer.keyset_public_keys(SAT, [1]))[1]
    plain, negated = await signer.blind_sign([ToBlindSign(SAT, 1, G), ToBlindSign(SAT, 1, curve.negate(G))])
    assert plain.c_ == public
    assert negated.c_ == curve.negate(public)
    assert (plain.dleq_e, plain.dleq_s) == (None, None)


async def test_both_parities_are_settled(signer: TokenSigner) -> None:
    """For B and -B the answers are C and -C, fifty times: the sign is found, not guessed."""
    for index in range(50):
        one, other = await signer.blind_sign(
            [ToBlindSign(SAT, 1, point_of(index)), ToBlindSign(SAT, 1, curve.negate(point_of(index)))]
        )
        assert one.c_ == curve.negate(other.c_)


async def test_coins_of_one_key_cost_one_question(signer: TokenSigner, shim: ShimPackage) -> None:
    """Thirty-two good coins of one key are verified by one call of the token; a bad one among them is found by halving."""
    proofs = [await coin(signer, secret=f"coin {index}") for index in range(32)]
    ys = [hash_to_curve(proof.secret) for proof in proofs]
    shim.calls.clear()
    assert await signer.verify_proofs(proofs) == ys
    assert shim.calls["derive_key"] == 1
    proofs[7] = proofs[7]._replace(c=curve.negate(proofs[7].c))
    proofs[8] = proofs[8]._replace(c=OFF_CURVE)
    shim.calls.clear()
    assert await signer.verify_proofs(proofs) == [y if index not in (7, 8) else None for index, y in enumerate(ys)]
    assert shim.calls["derive_key"] <= 16


async def test_coins_that_are_wrong_together_are_not_right(signer: TokenSigner) -> None:
    """Two coins whose errors cancel out in a plain sum are both refused: the factors are random."""
    first, second = await coin(signer, secret="a"), await coin(signer, secret="b")
    error = point_of(1)
    bad = [first._replace(c=curve.add([first.c, error])), second._replace(c=curve.subtract(second.c, error))]
    assert await signer.verify_proofs(bad) == [None, None]
    assert await signer.verify_proofs([first._replace(c=second.c), second._replace(c=first.c)]) == [None, None]


@pytest.mark.parametrize("bad", [b"", bytes(33), OFF_CURVE, G[:32], curve.uncompress(G), b"\x04" + bytes(64)])
async def test_what_is_no_point_never_reaches_the_token(signer: TokenSigner, shim: ShimPackage, bad: bytes) -> None:
    """Messages that are no compressed point are refused, and coins that are none are forged, without a call."""
    good = await coin(signer)
    shim.calls.clear()
    with pytest.raises(MalformedError):
        await signer.blind_sign([ToBlindSign(SAT, 1, G), ToBlindSign(SAT, 1, bad)])
    with pytest.raises(MalformedError):
        await signer.exchange([good], [ToBlindSign(SAT, 1, bad)])
    assert await signer.verify_proofs([good._replace(c=bad)]) == [None]
    assert not shim.calls["derive_key"]


# -- wrong answers


def falsified(change: Callable[[bytes], Any]) -> Callable[..., Any]:
    """A hook of `getitem` that changes what ECDH answered."""

    def hook(real: Callable[[Any], Any], attribute: Any) -> Any:
        value = real(attribute)
        return change(value) if attribute.name == "VALUE" else value

    return hook


@pytest.mark.parametrize(
    "change",
    [
        lambda x: bytes((x[0] ^ 1,)) + x[1:],
        lambda x: x[:-1],
        lambda x: b"",
        lambda x: x + b"\0",
        lambda x: None,
        lambda x: (5).to_bytes(32, "big"),
        lambda x: curve.x_only(G),
        lambda x: bytes(32),
    ],
    ids=["flipped", "short", "empty", "long", "nothing", "no point", "another point", "zero"],
)
async def test_a_wrong_answer_never_leaves(signer: TokenSigner, shim: ShimPackage, change: Callable[[bytes], Any]) -> None:
    """A token that answers wrongly, in one question or in all, is at fault: nothing is signed, and no coin is called forged."""
    good = await coin(signer)
    for only in (None, 1, 2):
        asked = 0

        def changed(x: bytes, only: int | None = only) -> Any:
            nonlocal asked
            asked += 1
            return change(x) if only in (None, asked) else x

        shim.hooks["getitem"] = falsified(changed)
        with pytest.raises(KeyFaultError):
            await signer.blind_sign([ToBlindSign(SAT, 1, point_of(3))])
    shim.hooks["getitem"] = falsified(change)
    with pytest.raises(KeyFaultError):
        await signer.verify_proofs([good])
    with pytest.raises(InvariantError):
        await signer.exchange([good], [ToBlindSign(SAT, 1, point_of(3))])
    shim.hooks.clear()
    assert await signer.verify_proofs([good]) == [hash_to_curve(good.secret)]


async def test_another_key_is_noticed(signer: TokenSigner, shim: ShimPackage) -> None:
    """A token that multiplies consistently, but by the key of another amount, signs nothing."""
    await signer.keyset_public_keys(SAT, [1, 2])
    other = await at_token(signer, lambda session: session.found("mint/sat/0/2").handle.real)
    shim.hooks["derive_key"] = lambda real, *given, **named: other.derive_key(*given, **named)
    with pytest.raises(KeyFaultError):
        await signer.blind_sign([ToBlindSign(SAT, 1, point_of(1))])


async def test_a_token_that_knows_the_offset_of_others_is_caught(signer: TokenSigner, shim: ShimPackage) -> None:
    """It shifts its first answer and the second by the same: that would do if the second question were B + G."""
    shift = point_of(9)
    shim.hooks["getitem"] = falsified(lambda x: curve.x_only(curve.add([curve.lift_x(x), shift])))
    for index in range(10):
        with pytest.raises(KeyFaultError):
            await signer.blind_sign([ToBlindSign(SAT, 1, point_of(index))])


async def test_answers_without_their_leading_zeros(signer: TokenSigner, shim: ShimPackage) -> None:
    """Some tokens give a number, not 32 bytes: it is filled up on the left."""
    short = 0

    def stripped(x: bytes) -> bytes:
        nonlocal short
        short += not x[0]
        return x.lstrip(b"\0")

    shim.hooks["getitem"] = falsified(stripped)
    for index in range(5000):
        proof = await coin(signer, secret=f"zero {index}")
        if short:
            break
    assert short
    shim.hooks.clear()
    assert await signer.verify_proofs([proof]) == [hash_to_curve(proof.secret)]


async def test_signatures_are_low_and_proved(signer: TokenSigner, shim: ShimPackage) -> None:
    """High S is made low; a signature of something else, of another key or of no shape is the token's fault."""
    n = curve.ORDER

    def high(real: Callable[..., bytes], *given: Any, **named: Any) -> bytes:
        made = real(*given, **named)
        s = int.from_bytes(made[32:], "big")
        return made[:32] + max(s, n - s).to_bytes(32, "big")

    shim.hooks["sign"] = high
    public = await signer.public_key("node")
    ((signature, recovery_id),) = await signer.sign_recoverable("node", [b"\x05" * 32])
    assert curve.ecdsa_recover(b"\x05" * 32, signature, recovery_id) == public
    assert int.from_bytes(signature[32:], "big") <= n // 2
    for wrong in (b"", bytes(64), b"\xff" * 64, bytes(63), bytes(65)):
        shim.hooks["sign"] = lambda real, *given, wrong=wrong, **named: wrong
        with pytest.raises(KeyFaultError):
            await signer.sign_recoverable("node", [bytes(32)])
    shim.hooks["sign"] = lambda real, digest, **named: real(b"\x01" * 32, **named)
    with pytest.raises(KeyFaultError):
        await signer.sign_recoverable("node", [bytes(32)])
    shim.hooks["sign"] = lambda real, digest, **named: (5).to_bytes(32, "big") + (1).to_bytes(32, "big")  # r is on no point
    with pytest.raises(KeyFaultError):
        await signer.sign_recoverable("node", [bytes(32)])


# -- calls that hang, sessions that are lost


async def test_a_call_that_hangs(shared: SoftToken, shim: ShimPackage) -> None:
    """Whoever waits hears so within the deadline, everybody else at once, until the call is back; then all is well."""
    signer = await opened(shared, shim, deadline_s=0.2)
    await signer.create_keyset(SAT, [1])
    release, entered = threading.Event(), threading.Event()

    def hang(real: Callable[..., Any], *given: Any, **named: Any) -> Any:
        entered.set()
        assert release.wait(30)
        return real(*given, **named)

    shim.hooks["derive_key"] = hang
    try:
        first = asyncio.ensure_future(signer.blind_sign([ToBlindSign(SAT, 1, G)]))
        second = asyncio.ensure_future(signer.keyset_public_keys(SAT, [1]))  # stands in line behind it
        for waiting in (first, second):
            with pytest.raises(UnavailableError) as hung:
                await waiting
            assert hung.value.retry_after_s > 0
        assert entered.is_set()
        for call in (signer.public_key("node"), signer.blind_sign([ToBlindSign(SAT, 1, G)])):
            with pytest.raises(UnavailableError, match="has not answered"):
                await call
        assert shim.calls["derive_key"] <= 3  # two at the opening: nothing was sent after the call that hangs
    finally:
        release.set()
        shim.hooks.clear()
    await until(lambda: not signer._session.thread.hangs(0.2))
    assert len(await signer.blind_sign([ToBlindSign(SAT, 1, G)])) == 1
    await signer.close()


async def until(condition: Callable[[], bool]) -> None:
    """Let the other thread go on until it is so."""
    while not condition():
        await asyncio.sleep(0)


async def test_closing_while_the_token_hangs(shared: SoftToken, shim: ShimPackage) -> None:
    """`close` does not wait for it, and the signer is closed."""
    signer = await opened(shared, shim, deadline_s=0.1)
    await signer.create_keyset(SAT, [1])
    release = threading.Event()
    shim.hooks["derive_key"] = lambda real, *given, **named: release.wait(30) and real(*given, **named)
    try:
        with pytest.raises(UnavailableError):
            await signer.blind_sign([ToBlindSign(SAT, 1, G)])
        await signer.close()
        with pytest.raises(SignerClosedError):
            await signer.public_key("node")
    finally:
        release.set()
        shim.hooks.clear()
    await until(lambda: not signer._session.thread.hangs(0.1))


@pytest.mark.parametrize("name", ["DeviceError", "SessionHandleInvalid", "GeneralError", "UserNotLoggedIn", "PKCS11Error"])
async def test_a_session_that_is_lost_once_is_opened_again(signer: TokenSigner, shim: ShimPackage, name: str) -> None:
    """Nobody notices: the work is done once more in a new session."""
    await signer.keyset_public_keys(SAT, [1])
    once = iter([True])

    def lost(real: Callable[..., Any], *given: Any, **named: Any) -> Any:
        if next(once, False):
            raise getattr(shim, name)
        return real(*given, **named)

    before = shim.calls["reinitialize"]
    shim.hooks["derive_key"] = lost
    (signed,) = await signer.blind_sign([ToBlindSign(SAT, 1, G)])
    assert signed.c_ == (await signer.keyset_public_keys(SAT, [1]))[1]
    assert shim.calls["reinitialize"] == before + 1


async def test_a_session_that_stays_lost(signer: TokenSigner, shim: ShimPackage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again after pauses that grow to half a minute, asks fail at once in between, and it comes back by itself."""
    now = 1000.0
    monkeypatch.setattr(token_session, "time", SimpleNamespace(monotonic=lambda: now))
    await signer.keyset_public_keys(SAT, [1])

    def gone(real: Callable[..., Any], *given: Any, **named: Any) -> Any:
        raise shim.TokenNotPresent

    shim.hooks["derive_key"] = shim.hooks["open"] = gone
    pauses = []
    for _ in range(9):
        with pytest.raises(UnavailableError, match="TokenNotPresent") as lost:
            await signer.blind_sign([ToBlindSign(SAT, 1, G)])
        pauses.append(lost.value.retry_after_s)
        tried = shim.calls["open"]
        with pytest.raises(UnavailableError, match="was lost"):
            await signer.blind_sign([ToBlindSign(SAT, 1, G)])
        assert shim.calls["open"] == tried
        now += lost.value.retry_after_s
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    shim.hooks.clear()
    assert len(await signer.blind_sign([ToBlindSign(SAT, 1, G)])) == 1


async def test_a_session_that_is_lost_twice_in_one_go(signer: TokenSigner, shim: ShimPackage) -> None:
    """A token that opens but does nothing is not asked for ever."""

    def gone(real: Callable[..., Any], *given: Any, **named: Any) -> Any:
        raise shim.DeviceError

    await signer.keyset_public_keys(SAT, [1])
    shim.hooks["derive_key"] = gone
    shim.calls.clear()
    with pytest.raises(UnavailableError, match="DeviceError"):
        await signer.blind_sign([ToBlindSign(SAT, 1, G)])
    assert shim.calls["derive_key"] == 2


@pytest.mark.parametrize(("known", "misses"), [(True, 2), (False, 1)])
async def test_a_session_that_went_blind(
    own: TokenSigner, shim: ShimPackage, monkeypatch: pytest.MonkeyPatch, known: bool, misses: int
) -> None:
    """It finds nothing without an error, as after a token vanished and came back. That is never taken for an answer.

    Where a key is known that one is looked for as well; where none is, an old session is opened anew before it is believed.
    """
    now = time.monotonic()
    monkeypatch.setattr(token_session, "time", SimpleNamespace(monotonic=lambda: now))
    public = await own.keyset_public_keys(SAT, [1, 2])

    def forget(session: TokenSession) -> None:
        del session._keys["mint/sat/0/1"]
        if not known:
            session._keys.clear()

    await at_token(own, forget)
    now += 10
    left = iter([True] * misses)
    shim.hooks["get_objects"] = lambda real, *given, **named: [] if next(left, False) else real(*given, **named)
    before = shim.calls["reinitialize"]
    assert await own.keyset_public_keys(SAT, [1]) == {1: public[1]}
    assert shim.calls["reinitialize"] == before + 1


async def test_a_token_whose_files_are_gone(shim: ShimPackage) -> None:
    """It is unavailable, makes no new keys, and is found again once it is back."""
    token = new_token()
    signer = await opened(token, shim)
    public = await signer.create_keyset(SAT, [1])
    hidden = token.directory.with_name("gone")
    token.directory.rename(hidden)
    try:
        for call in (
            signer.blind_sign([ToBlindSign(SAT, 1, G)]),
            signer.create_keyset(KeysetRef("sat", 1), [1]),
            signer.keyset_public_keys(KeysetRef("sat", 1), [1]),
        ):
            with pytest.raises(UnavailableError):
                await call
    finally:
        shutil.rmtree(token.directory, ignore_errors=True)
        hidden.rename(token.directory)
    signer._session._not_before = 0.0
    assert await signer.keyset_public_keys(SAT, [1]) == public
    with pytest.raises(KeyUnknownError):
        await signer.keyset_public_keys(KeysetRef("sat", 1), [1])
    await signer.close()


async def test_a_key_that_another_program_destroyed(own: TokenSigner) -> None:
    """Its handle is no longer good, so it is looked for, and is not there: no other takes its place."""

    def destroyed(session: TokenSession) -> None:
        for kind in ("PRIVATE_KEY", "PUBLIC_KEY"):
            for half in objects(session, kind, "mint/sat/0/1"):
                half.destroy()

    await own.keyset_public_keys(SAT, [1, 2])
    await at_token(own, destroyed)
    with pytest.raises(KeyUnknownError, match="mint/sat/0/1"):
        await own.blind_sign([ToBlindSign(SAT, 1, G)])
    with pytest.raises(KeyUnknownError):
        await own.keyset_public_keys(SAT, [1, 2])
    assert not await at_token(own, lambda session: objects(session, "PRIVATE_KEY", "mint/sat/0/1"))
    assert len(await own.blind_sign([ToBlindSign(SAT, 2, G)])) == 1


# -- keys


async def test_keys_are_found_and_never_made_by_asking(signer: TokenSigner, shim: ShimPackage) -> None:
    """A keyset or ref that the token lacks has no key, by any verb; nothing is generated."""
    shim.calls.clear()
    missing = KeysetRef("sat", 77)
    calls: list[Awaitable[Any]] = [
        signer.keyset_public_keys(missing, [1]),
        signer.blind_sign([ToBlindSign(missing, 1, G)]),
        signer.verify_proofs([ProofToVerify(missing, 1, b"x", G)]),
        signer.public_key("nobody"),
        signer.public_key("mint/sat/77/1"),
        signer.sign_recoverable("nobody", [bytes(32)]),
    ]
    for call in calls:
        with pytest.raises(KeyUnknownError):
            await call
    assert not shim.calls["generate_keypair"]


async def test_created_keys_stay(own: TokenSigner, shim: ShimPackage) -> None:
    """Asked for again they are the same; a keyset that was made in part is completed; they can leave in no way."""
    first = await own.create_keyset(SAT, [1, 2])
    assert await own.create_keyset(SAT, [1, 2, 4]) == first | {4: (await own.keyset_public_keys(SAT, [4]))[4]}
    assert await own.create_key("node") == await own.create_key("node") == await own.public_key("node")

    def attributes(session: TokenSession) -> list[bool]:
        handle, attribute = session.found("mint/sat/0/1").handle, session._pkcs11.Attribute
        names = ("SENSITIVE", "ALWAYS_SENSITIVE", "NEVER_EXTRACTABLE", "LOCAL", "EXTRACTABLE")
        return [handle[getattr(attribute, name)] for name in names]

    assert await at_token(own, attributes) == [True, True, True, True, False]
    with pytest.raises(RefusedError):
        await at_token(own, lambda s: s._attribute(s.found("mint/sat/0/1").handle, s._pkcs11.Attribute.VALUE))
    with pytest.raises(KeyUnknownError):
        await own.create_key("mint/sat/0/8")
    with pytest.raises(KeyUnknownError):
        await own.create_keyset(SAT, [3])


async def test_a_lost_public_half_is_computed(own: TokenSigner) -> None:
    """The private key alone gives the same public key as before."""
    public = await own.keyset_public_keys(SAT, [1, 2])
    await at_token(own, destroy_half("PUBLIC_KEY", "mint/sat/0/1"))
    assert await own.keyset_public_keys(SAT, [1, 2]) == public
    assert await own.create_keyset(SAT, [1, 2]) == public


async def test_a_public_half_alone_is_no_key(own: TokenSigner) -> None:
    """What a kill left in the middle of generation: asking finds no key, and making it anew replaces the half."""
    public = await own.keyset_public_keys(SAT, [1, 2])
    await at_token(own, destroy_half("PRIVATE_KEY", "mint/sat/0/1"))
    with pytest.raises(KeyUnknownError):
        await own.keyset_public_keys(SAT, [1])
    made = await own.create_keyset(SAT, [1, 2])
    assert made[1] != public[1]
    assert made[2] == public[2]
    assert len(await at_token(own, lambda session: objects(session, "PUBLIC_KEY", "mint/sat/0/1"))) == 1
    assert len(await own.blind_sign([ToBlindSign(SAT, 1, G)])) == 1


async def test_two_keys_of_one_name_are_none(own: TokenSigner) -> None:
    """Which is meant cannot be known."""

    def doubled(session: TokenSession) -> None:
        session._generate("specie/mint/sat/0/1", store=True)
        session._keys.clear()

    await at_token(own, doubled)
    with pytest.raises(KeyFaultError, match="more than one"):
        await own.keyset_public_keys(SAT, [1])
    with pytest.raises(KeyFaultError):
        await own.create_keyset(SAT, [1])


async def test_a_public_half_of_another_key(own: TokenSigner) -> None:
    """A token that shows another public key than its private one is at fault."""

    def swapped(session: TokenSession) -> None:
        attribute = session._pkcs11.Attribute
        halves = [(amount, *objects(session, "PUBLIC_KEY", f"mint/sat/0/{amount}")) for amount in (1, 2)]
        for amount, half in halves:
            half.real[attribute.LABEL] = f"specie/mint/sat/0/{3 - amount}"
        session._keys.clear()

    await at_token(own, swapped)
    with pytest.raises(KeyFaultError, match="public half"):
        await own.keyset_public_keys(SAT, [1])


@pytest.mark.parametrize("point", [b"", OFF_CURVE, b"\x04\x21" + OFF_CURVE, b"\x04\x41\x04" + bytes(64), b"\x04" * 200, None])
async def test_a_public_key_that_is_none(own: TokenSigner, shim: ShimPackage, point: object) -> None:
    """What the token calls a public key must be a point of the curve."""
    await at_token(own, lambda session: session._keys.clear())
    shim.hooks["getitem"] = lambda real, attribute: point if attribute.name == "EC_POINT" else real(attribute)
    with pytest.raises(KeyFaultError, match="no point"):
        await own.keyset_public_keys(SAT, [1])


@pytest.mark.parametrize(("name", "value"), [("EXTRACTABLE", True), ("SENSITIVE", False)])
async def test_a_key_that_could_leave_is_refused(own: TokenSigner, shim: ShimPackage, name: str, value: bool) -> None:
    """Whoever put it there, under our name."""
    await at_token(own, lambda session: session._keys.clear())
    shim.hooks["getitem"] = lambda real, attribute: value if attribute.name == name else real(attribute)
    with pytest.raises(KeyFaultError, match="could leave"):
        await own.keyset_public_keys(SAT, [1])


async def test_a_full_token(signer: TokenSigner, shim: ShimPackage) -> None:
    """It says so, and the keys it has go on working."""

    def full(real: Callable[..., Any], *given: Any, **named: Any) -> Any:
        raise shim.DeviceMemory

    shim.hooks["generate_keypair"] = full
    with pytest.raises(TokenFullError):
        await signer.create_keyset(KeysetRef("sat", 5), [1])
    assert len(await signer.blind_sign([ToBlindSign(SAT, 1, G)])) == 1


async def test_destroying(own: TokenSigner) -> None:
    """A key that is no mint key can be destroyed, with both halves; there is none left then."""
    await own.create_key("probe/1")
    assert await own.destroy_key("probe/1") == 2
    assert await own.destroy_key("probe/1") == 0
    with pytest.raises(KeyUnknownError):
        await own.public_key("probe/1")
    with pytest.raises(KeyUnknownError):
        await own.destroy_key("mint/sat/0/1")


# -- wrapping


async def test_wrapping_needs_its_key(own: TokenSigner, shim: ShimPackage) -> None:
    """It is made by name only; two of them, or one that could leave, are none."""
    with pytest.raises(KeyUnknownError):
        await own.wrap(b"x", context=b"")
    await own.create_wrapping_key()
    await own.create_wrapping_key()
    sealed = await own.wrap(b"x", context=b"c")
    assert await own.unwrap(sealed, context=b"c") == b"x"
    shim.hooks["encrypt"] = lambda real, *given, **named: b"short"
    with pytest.raises(KeyFaultError):
        await own.wrap(b"x", context=b"c")
    await at_token(own, lambda session: session._aes("specie/wrapping", store=True))
    with pytest.raises(KeyFaultError):
        await own.unwrap(sealed, context=b"c")


async def test_what_was_not_wrapped_here_does_not_open(signer: TokenSigner, shim: ShimPackage) -> None:
    """Changed anywhere, cut short or of another context; whether the token says so or speaks of a general error."""
    sealed = await signer.wrap(b"macaroon", context=b"lnd")
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(RefusedError):
            await signer.unwrap(bytes(changed), context=b"lnd")
        with pytest.raises(RefusedError):
            await signer.unwrap(sealed[:place], context=b"lnd")

    def invalid(real: Callable[..., Any], *given: Any, **named: Any) -> Any:
        raise shim.EncryptedDataInvalid

    shim.hooks["decrypt"] = invalid
    with pytest.raises(RefusedError):
        await signer.unwrap(sealed, context=b"lnd")
    shim.hooks.clear()
    assert await signer.unwrap(sealed, context=b"lnd") == b"macaroon"

    def gone(real: Callable[..., Any], *given: Any, **named: Any) -> Any:
        shim.hooks["get_objects"] = lambda real, *given, **named: []
        raise shim.GeneralError

    shim.hooks["decrypt"] = gone
    with pytest.raises((UnavailableError, KeyUnknownError)):
        await signer.unwrap(sealed, context=b"lnd")


# -- opening


async def test_a_wrong_pin_is_tried_once(shared: SoftToken, shim: ShimPackage) -> None:
    """Each try may be the last before the token locks itself. The PIN is in no error, repr or traceback."""
    alone, wrong = new_token(), "8888" + "-wrong"
    with pytest.raises(TokenPinError) as refused:
        await opened(alone, shim, pin=lambda: wrong)
    told = "".join(traceback.format_exception(refused.value)) + repr(refused.value) + str(vars(refused.value))
    assert wrong not in told
    session = TokenSession(TokenPlace(alone.module, alone.label), lambda: wrong, token_thread(alone.module), lambda: shim)
    shim.calls.clear()
    for _ in range(3):
        with pytest.raises(TokenPinError, match="not tried again"):
            await session.thread.run(lambda: session.work(session.facts), deadline_s=5)
    assert shim.calls["open"] == 0
    assert wrong not in repr(session)
    await (await opened(alone, shim)).close()  # the right one is tried


async def test_each_bank_has_keys_of_its_own(own: TokenSigner, shim: ShimPackage) -> None:
    """Two banks on one token: the same keyset of each has other keys, and a coin of one is no coin of the other."""
    place = own._session.place
    other = await token_signer(
        TokenPlace(place.module, place.token, "0badf00d"), pin=lambda: PIN, entropy=CountingEntropy(), package=lambda: shim
    )
    with pytest.raises(KeyUnknownError):
        await other.keyset_public_keys(SAT, [1])
    theirs = await other.create_keyset(SAT, [1, 2])
    ours = await own.keyset_public_keys(SAT, [1, 2])
    assert not set(theirs.values()) & set(ours.values())
    assert await other.verify_proofs([await coin(own)]) == [None]
    await other.close()


async def test_a_token_that_was_exchanged_is_found_out(own: TokenSigner) -> None:
    """After the session was lost another token of that label answers, with keys of the same names: it signs nothing."""
    await own.keyset_public_keys(SAT, [1, 2])

    def exchanged(session: TokenSession) -> None:
        for kind in ("PRIVATE_KEY", "PUBLIC_KEY"):
            (half,) = objects(session, kind, "mint/sat/0/1")
            half.destroy()
        session._generate("specie/mint/sat/0/1", store=True)
        session._forget()

    await at_token(own, exchanged)
    with pytest.raises(KeyFaultError, match="another key"):
        await own.blind_sign([ToBlindSign(SAT, 1, G)])
    with pytest.raises(KeyFaultError, match="another key"):
        await own.keyset_public_keys(SAT, [1])
    assert len(await own.blind_sign([ToBlindSign(SAT, 2, G)])) == 1


async def test_a_full_token_still_signs(own: TokenSigner, shim: ShimPackage) -> None:
    """No room for a key of the moment says nothing of what the keys that are there can do."""
    await own.close()

    def full(real: Callable[..., Any], *given: Any, **named: Any) -> Any:
        raise shim.DeviceMemory

    shim.hooks["generate_keypair"] = shim.hooks["generate_key"] = full
    place = own._session.place
    again = await token_signer(place, pin=lambda: PIN, entropy=CountingEntropy(), package=lambda: shim)
    assert again.capabilities().bdhke
    assert len(await again.blind_sign([ToBlindSign(SAT, 1, G)])) == 1
    await again.close()


async def test_a_trial_that_is_cut_off_is_no_verdict(own: TokenSigner, shim: ShimPackage) -> None:
    """A token that goes away while it is tried out has not failed the trial: opening it fails, and is tried again."""
    await own.close()

    def gone(real: Callable[..., Any], *given: Any, **named: Any) -> Any:
        shim.hooks["get_mechanisms"] = gone
        raise shim.DeviceRemoved

    shim.hooks["generate_keypair"] = gone
    with pytest.raises(UnavailableError):
        await token_signer(own._session.place, pin=lambda: PIN, entropy=CountingEntropy(), package=lambda: shim)


async def test_who_leaves_leaves_nothing_behind(own: TokenSigner, shim: ShimPackage) -> None:
    """An asker that is gone before the answer costs the token no object."""
    await own.keyset_public_keys(SAT, [1])
    before = await at_token(own, lambda session: len(list(session._session.get_objects({}))))
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(real: Callable[..., Any], *given: Any, **named: Any) -> Any:
        loop.call_soon_threadsafe(asked.set)
        time.sleep(0.2)
        return real(*given, **named)

    shim.hooks["derive_key"] = slow
    asking = asyncio.ensure_future(own.blind_sign([ToBlindSign(SAT, 1, G)]))
    await asked.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    shim.hooks.clear()
    assert await at_token(own, lambda session: len(list(session._session.get_objects({})))) == before


async def test_the_pin_is_nowhere(signer: TokenSigner) -> None:
    """Not in what a signer or session shows, nor in a copy, for there is none."""
    assert PIN not in repr(signer) + repr(signer._session) + repr(vars(signer._session))
    with pytest.raises(TypeError):
        copy.copy(signer)


async def test_two_signers_of_one_token(signer: TokenSigner, shared: SoftToken, shim: ShimPackage) -> None:
    """A login is the process's: the second signer is let in, and both work, one after another on one thread."""
    second = await opened(shared, shim)
    assert await second.keyset_public_keys(SAT, [1]) == await signer.keyset_public_keys(SAT, [1])
    assert second._session.thread is signer._session.thread
    await asyncio.gather(*(one.blind_sign([ToBlindSign(SAT, 1, G)]) for one in (signer, second) * 20))
    await second.close()
    assert len(await signer.blind_sign([ToBlindSign(SAT, 1, G)])) == 1


async def test_what_lacks_on_this_machine_is_named(shared: SoftToken, tmp_path: Path) -> None:
    """The package, the module, the token."""

    def missing() -> Any:
        raise ImportError("no pkcs11")

    place = TokenPlace(shared.module, shared.label)
    with pytest.raises(ProviderMissingError, match=r"specie\[hsm\]"):
        await token_signer(place, pin=lambda: PIN, entropy=CountingEntropy(), package=missing)
    with pytest.raises(ProviderMissingError, match="cannot be loaded"):
        await token_signer(TokenPlace(tmp_path / "none.so", "x"), pin=lambda: PIN, entropy=CountingEntropy())
    with pytest.raises(UnavailableError, match="NoSuchToken"):
        await token_signer(TokenPlace(shared.module, "nowhere"), pin=lambda: PIN, entropy=CountingEntropy())
    with pytest.raises(ValueError):
        await token_signer(place, pin=lambda: PIN, entropy=CountingEntropy(), deadline_s=0)


async def test_a_module_that_does_not_start(shared: SoftToken, shim: ShimPackage, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is no missing module: it may start later."""

    def fails(path: str) -> Any:
        raise shim.GeneralError

    monkeypatch.setattr(shim, "lib", fails)
    with pytest.raises(UnavailableError, match="GeneralError"):
        await opened(shared, shim)


async def test_an_error_that_is_not_the_librarys_stays_what_it_is(signer: TokenSigner, shim: ShimPackage) -> None:
    """A defect of ours is not called an absent token."""

    def defect(real: Callable[..., Any], *given: Any, **named: Any) -> Any:
        raise RuntimeError("a defect")

    shim.hooks["derive_key"] = defect
    with pytest.raises(RuntimeError, match="a defect"):
        await signer.blind_sign([ToBlindSign(SAT, 1, G)])


async def test_a_token_without_the_curve(shared: SoftToken, shim: ShimPackage) -> None:
    """Capabilities are what was tried: a token that refuses secp256k1, GCM or x alone says so, and each verb is refused."""

    def refuses(real: Callable[..., Any], *given: Any, **named: Any) -> Any:
        raise shim.DomainParamsInvalid

    shim.hooks["generate_keypair"] = shim.hooks["generate_key"] = refuses
    signer = await opened(shared, shim)
    can = signer.capabilities()
    assert (can.curves, can.bdhke, can.ecdsa, can.wrapping) == (frozenset(), False, False, False)
    for call in (
        signer.create_keyset(SAT, [1]),
        signer.create_key("node"),
        signer.create_wrapping_key(),
        signer.blind_sign([]),
        signer.verify_proofs([]),
        signer.sign_recoverable("node", []),
        signer.wrap(b"", context=b""),
        signer.unwrap(b"", context=b""),
        signer.sign_schnorr("node", []),
        signer.own_blinded([]),
        signer.sign_blinded(BlindedKey("p2pk/0", G, 0, G), []),
        signer.derive_secrets("00", [0]),
        signer.nip44_encrypt("node", G[1:], "x"),
        signer.nip44_decrypt("node", G[1:], "x"),
    ):
        with pytest.raises(CapabilityMissingError) as refused:
            await call
        assert refused.value.provider == "pkcs11"
    await signer.close()


async def test_mechanisms_that_lack_are_not_tried(shared: SoftToken, shim: ShimPackage) -> None:
    """A token whose list lacks them is not asked to make a key; what the library cannot name is shown as a number."""
    shim.hooks["get_mechanisms"] = lambda real: [0x80001234]
    shim.calls.clear()
    signer = await opened(shared, shim)
    assert signer.facts.mechanisms == frozenset({"0x80001234"})
    assert not shim.calls["generate_keypair"] + shim.calls["generate_key"]
    await signer.close()


async def test_tokens_that_take_points_in_der(shared: SoftToken, shim: ShimPackage) -> None:
    """The form is found by trying; a token that takes neither has no ECDH."""

    def der_only(real: Callable[..., Any], *given: Any, mechanism_param: Any, **named: Any) -> Any:
        if len(mechanism_param[2]) != 67:
            raise shim.MechanismParamInvalid
        return real(*given, mechanism_param=mechanism_param, **named)

    shim.hooks["derive_key"] = der_only
    signer = await opened(shared, shim)
    await signer.create_keyset(SAT, [1])
    (signed,) = await signer.blind_sign([ToBlindSign(SAT, 1, G)])
    assert signed.c_ == (await signer.keyset_public_keys(SAT, [1]))[1]
    await signer.close()
    shim.hooks["getitem"] = falsified(lambda x: bytes(31) + b"\x01")
    neither = await opened(shared, shim)
    assert not neither.capabilities().bdhke
    assert neither.capabilities().ecdsa
    await neither.close()


# -- the thread


async def test_jobs_of_those_who_left_are_dropped() -> None:
    """A caller that was cancelled costs no more calls; the thread goes on with the next."""
    thread = TokenThread("test")
    gate, entered, made = threading.Event(), threading.Event(), []

    def slow() -> None:
        thread.call(lambda: (entered.set(), gate.wait(30)))
        thread.call(lambda: made.append("never"))

    def waiting() -> None:
        made.append("never")

    first = asyncio.ensure_future(thread.run(slow, deadline_s=20))
    await until(entered.is_set)
    second = asyncio.ensure_future(thread.run(waiting, deadline_s=20))
    await asyncio.sleep(0)
    for task in (first, second):
        task.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    gate.set()
    assert await thread.run(lambda: thread.call(lambda: 5), deadline_s=20) == 5
    assert made == []


async def test_too_many_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line is bounded: more are told to come back."""
    monkeypatch.setattr("specie.keys.adapters.token_thread._MOST_WAITING", 1)
    thread, gate, entered = TokenThread("test"), threading.Event(), threading.Event()
    first = asyncio.ensure_future(thread.run(lambda: thread.call(lambda: (entered.set(), gate.wait(30))), deadline_s=20))
    await until(entered.is_set)
    second = asyncio.ensure_future(thread.run(lambda: 2, deadline_s=20))
    await asyncio.sleep(0)
    with pytest.raises(UnavailableError, match="more to do"):
        await thread.run(lambda: 3, deadline_s=20)
    gate.set()
    await first
    assert await second == 2


def test_an_event_loop_that_ended_is_no_matter() -> None:
    """Its answer is nobody's, and the thread serves the next loop."""
    thread, gate, entered = TokenThread("test"), threading.Event(), threading.Event()

    async def leaves() -> None:
        task = asyncio.ensure_future(thread.run(lambda: (entered.set(), gate.wait(30)), deadline_s=20))
        await until(entered.is_set)
        task.cancel()

    asyncio.run(leaves())
    gate.set()
    assert asyncio.run(thread.run(lambda: 1, deadline_s=20)) == 1


# -- the trial


async def test_the_trial_finds_a_faulty_token(signer: TokenSigner, shim: ShimPackage) -> None:
    """A good token passes, and nothing is left; a wrong signature of either kind ends it, and nothing is left either."""
    before = len(await at_token(signer, lambda session: list(session._session.get_objects())))
    trial = await signer.trial(3)
    assert len(trial.ecdsa_us) == len(trial.blind_us or ()) == 3
    shim.hooks["sign"] = lambda real, digest, **named: real(b"\x01" * 32, **named)
    with pytest.raises(KeyFaultError):
        await signer.trial(1)
    shim.hooks.clear()
    shim.hooks["getitem"] = falsified(lambda x: curve.x_only(G))
    with pytest.raises(KeyFaultError):
        await signer.trial(1)
    shim.hooks.clear()
    assert len(await at_token(signer, lambda session: list(session._session.get_objects()))) == before


async def test_the_trial_looks_at_what_is_unblinded(signer: TokenSigner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signatures that were right for themselves but not of one coin would be noticed, too."""
    answers = iter([point_of(1), point_of(2)])
    monkeypatch.setattr(TokenSigner, "_multiplied", lambda self, key, point: next(answers))
    with pytest.raises(KeyFaultError, match="unblinded"):
        await signer.trial(2)


async def test_the_trial_of_a_token_without_ecdh(shared: SoftToken, shim: ShimPackage) -> None:
    """It signs by ECDSA alone."""
    shim.hooks["get_mechanisms"] = lambda real: [one for one in real() if one.name != "ECDH1_DERIVE"]
    signer = await opened(shared, shim)
    assert (await signer.trial(2)).blind_us is None
    with pytest.raises(CapabilityMissingError, match="ECDH"):
        await signer.create_keyset(SAT, [1])
    await signer.close()
