"""One signer over two homes of keys: each keyset by its own, in order, and nothing by halves."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

import pytest

from specie.ecash.bdhke import blind, hash_to_curve, unblind
from specie.kernel import curve
from specie.kernel.errors import MalformedError, RefusedError, UnavailableError
from specie.kernel.telemetry import NullTelemetry
from specie.keys import SOFTWARE, Capabilities, KeysetRef, KeyUnknownError, ProofToVerify, SignerClosedError, ToBlindSign
from specie.keys.adapters.routing import RoutingSigner
from specie.keys.adapters.software import SoftwareSigner
from tests.support.entropy import CountingEntropy

R = (9).to_bytes(32, "big")
HERE, THERE = KeysetRef("sat", 0), KeysetRef("sat", 1, "pkcs11")
MESSAGE = blind("x", R)


class Home(SoftwareSigner):
    """Another signer, which makes keys when it is asked to."""

    made: list[KeysetRef]
    able = True

    async def create_keyset(self, keyset: KeysetRef, amounts: Sequence[int]) -> dict[int, bytes]:
        self.made.append(keyset)
        return await self.keyset_public_keys(keyset, amounts)

    def capabilities(self) -> Capabilities:
        can = super().capabilities()
        return Capabilities(can.provider, can.curves, self.able, False, can.bip340, can.ecdsa, can.derivation, can.wrapping)


class Opener:
    """Opens the home, unless it is away; counts how often."""

    def __init__(self) -> None:
        self.home = Home(b"another seed....", threads=0, entropy=CountingEntropy())
        self.home.made = []
        self.away = False
        self.opened = 0

    async def __call__(self) -> Home:
        if self.away:
            raise UnavailableError("away")
        self.opened += 1
        return self.home


@pytest.fixture
def opener() -> Opener:
    return Opener()


@pytest.fixture
def signer(opener: Opener) -> RoutingSigner:
    return RoutingSigner(SoftwareSigner(bytes(16), threads=0, entropy=CountingEntropy()), {"pkcs11": opener})


async def coin(signer: RoutingSigner, keyset: KeysetRef, secret: str) -> ProofToVerify:
    public = (await signer.keyset_public_keys(keyset, [1]))[1]
    (signed,) = await signer.blind_sign([ToBlindSign(keyset, 1, blind(secret, R))])
    return ProofToVerify(keyset, 1, secret.encode(), unblind(signed.c_, R, public))


async def test_each_keyset_by_its_home(signer: RoutingSigner, opener: Opener) -> None:
    """Keys, signatures and verification come from the home that the ref names; mixed requests are answered in order."""
    here, there = await signer.keyset_public_keys(HERE, [1]), await signer.keyset_public_keys(THERE, [1])
    assert there == await opener.home.keyset_public_keys(KeysetRef("sat", 1), [1]) != here
    proofs = [await coin(signer, ref, f"{index}") for index, ref in enumerate([HERE, THERE, HERE, THERE])]
    ys = [hash_to_curve(proof.secret) for proof in proofs]
    assert await signer.verify_proofs(proofs) == ys
    tasks = [ToBlindSign(ref, 1, MESSAGE) for ref in (THERE, HERE, THERE)]
    signed = await signer.blind_sign(tasks)
    assert signed[0] == signed[2] != signed[1]
    assert await signer.exchange(proofs, tasks) == (ys, signed)
    assert await signer.exchange(proofs, tasks[:1]) == (ys, signed[:1])
    assert await signer.exchange(proofs[:1], tasks[1:2]) == (ys[:1], signed[1:2])
    assert await signer.exchange([], []) == ([], [])
    assert await signer.verify_proofs([]) == await signer.blind_sign([]) == []


async def test_a_forged_coin_of_one_home_stops_both(signer: RoutingSigner) -> None:
    """Nothing is signed anywhere; a coin is good in its own home only; a bad message is refused whole."""
    good = [await coin(signer, ref, "a") for ref in (HERE, THERE)]
    tasks = [ToBlindSign(HERE, 1, MESSAGE), ToBlindSign(THERE, 1, MESSAGE)]
    for place in (0, 1):
        forged = [one._replace(c=curve.negate(one.c)) if at == place else one for at, one in enumerate(good)]
        ys, signed = await signer.exchange(forged, tasks)
        assert [y is None for y in ys] == [at == place for at in (0, 1)]
        assert signed == []
    moved = [good[0]._replace(keyset=THERE), good[1]._replace(keyset=HERE)]
    assert await signer.verify_proofs(moved) == [None, None]
    with pytest.raises(MalformedError):
        await signer.blind_sign([*tasks, ToBlindSign(THERE, 1, b"")])


async def test_a_home_is_opened_when_it_is_needed(signer: RoutingSigner, opener: Opener) -> None:
    """Once, and not before; one that is away is unavailable, and found when it is back; the main signer goes on meanwhile."""
    await coin(signer, HERE, "a")
    await signer.public_key("node")
    assert opener.opened == 0
    opener.away = True
    with pytest.raises(UnavailableError):
        await signer.blind_sign([ToBlindSign(THERE, 1, MESSAGE)])
    assert len(await signer.blind_sign([ToBlindSign(HERE, 1, MESSAGE)])) == 1
    opener.away = False
    await coin(signer, THERE, "b")
    await coin(signer, THERE, "c")
    assert opener.opened == 1


async def test_a_home_that_is_not_there(signer: RoutingSigner) -> None:
    """A name that the settings do not know has no keys."""
    nowhere = KeysetRef("sat", 0, "moon")
    for call in (signer.keyset_public_keys(nowhere, [1]), signer.create_keyset(nowhere, [1])):
        with pytest.raises(KeyUnknownError, match="moon"):
            await call


async def test_new_keysets_are_made_in_their_home(signer: RoutingSigner, opener: Opener) -> None:
    """By the home's own verb, derived where it is the seed; a home that cannot sign blindly is refused before it makes any."""
    assert HERE.home == SOFTWARE
    assert await signer.create_keyset(HERE, [1]) == await signer.keyset_public_keys(HERE, [1])
    assert await signer.create_keyset(THERE, [1]) == await signer.keyset_public_keys(THERE, [1])
    assert opener.home.made == [THERE]
    opener.home.able = False
    with pytest.raises(RefusedError, match="cannot live"):
        await signer.create_keyset(KeysetRef("sat", 2, "pkcs11"), [1])
    assert opener.home.made == [THERE]


async def test_closing_closes_all(signer: RoutingSigner, opener: Opener) -> None:
    """The main signer, and a home that was opened; neither can be copied."""
    await coin(signer, THERE, "a")
    with pytest.raises(TypeError):
        pickle.dumps(signer)
    assert "pkcs11" in repr(signer)
    await signer.close()
    for call in (signer.public_key("node"), opener.home.public_key("node")):
        with pytest.raises(SignerClosedError):
            await call


async def test_what_a_home_refuses_is_no_fault_of_who_asks(opener: Opener) -> None:
    """A key that is missing in the token, say: wallets are told to come back, one page, health says why; until it answers."""
    pages: list[tuple[str, dict[str, object]]] = []

    class Log(NullTelemetry):
        def page(self, reason: str, /, **facts: object) -> None:
            pages.append((reason, facts))

    main = SoftwareSigner(bytes(32), threads=0, entropy=CountingEntropy())
    signer = RoutingSigner(main, {"pkcs11": opener}, telemetry=Log())
    missing = KeysetRef("sat", -1, "pkcs11")
    coin = ProofToVerify(missing, 1, b"x", MESSAGE)
    for _ in range(2):
        for call in (
            signer.blind_sign([ToBlindSign(missing, 1, MESSAGE)]),
            signer.verify_proofs([coin]),
            signer.exchange([coin], [ToBlindSign(HERE, 1, MESSAGE)]),
            signer.blind_sign([ToBlindSign(HERE, 1, MESSAGE), ToBlindSign(missing, 1, MESSAGE)]),
        ):
            with pytest.raises(UnavailableError, match="cannot be used now"):
                await call
    assert [reason for reason, _ in pages] == ["what holds the keys of a keyset refuses them"]
    with pytest.raises(UnavailableError, match="pkcs11: a keyset index"):
        await signer.health_of_homes()
    with pytest.raises(KeyUnknownError):
        await signer.blind_sign([ToBlindSign(KeysetRef("sat", -1), 1, MESSAGE)])
    with pytest.raises(MalformedError):
        await signer.blind_sign([ToBlindSign(THERE, 1, b"\x02" + (5).to_bytes(32, "big"))])
    await signer.blind_sign([ToBlindSign(THERE, 1, MESSAGE)])
    assert await signer.health_of_homes() == {"pkcs11": "open"}
    await signer.close()
