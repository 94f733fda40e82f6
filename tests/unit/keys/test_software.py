"""The software signer: documented paths, threads, and that secrets do not leak. The port's contract is in `tests/contract`."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from specie.ecash import dleq
from specie.kernel import curve, hd
from specie.kernel.errors import SpecieError
from specie.keys import KeysetRef, KeyUnknownError, ToBlindSign
from specie.keys.adapters import software
from specie.keys.adapters.software import SoftwareSigner
from tests.support.entropy import CountingEntropy

SEED = bytes(range(32))
NUT12 = json.loads((Path(__file__).parents[2] / "vectors/cashu/nut12-dleq.json").read_text())["records"]

PINNED_MINT = [
    "0284ffc3465d5db314de29bfb9aaefa1c5da6be9c29b36329912d145bcd5adafb2",
    "03c4ca3f943e9956e776e01c525ac02f6d9171667e891058482d1fd33060fa48f8",
]
PINNED_NODE = "025c2e1eca91c877a553b5d0139017edbc31e454ad5c1774442da551087f460a03"
PINNED_WRAPPED = (
    "737065636965000100000000000000000000000000f16a4a1b2fd41054fae8e71b8fb76d953f46e1f641542ce6b7b2147dfd0d1542dd917da9"
)


def signer(seed: bytes = SEED, *, threads: int | None = 0) -> SoftwareSigner:
    return SoftwareSigner(seed, threads=threads, entropy=CountingEntropy())


@pytest.mark.parametrize(("unit", "index", "amount"), [("sat", 0, 1), ("sat", 3, 2**63), ("usd", 2**31 - 1, 1024)])
async def test_mint_keys_stand_at_their_path(unit: str, index: int, amount: int) -> None:
    """m/0'/{unit}'/{keyset}'/{log2(amount)}' as documented, so that a backup of the seed is a backup of the keys."""
    unit_index = int.from_bytes(hashlib.sha256(unit.encode()).digest()[:4], "big") & 0x7FFFFFFF
    path = hd.path_from_text(f"m/0'/{unit_index}'/{index}'/{amount.bit_length() - 1}'")
    expected = curve.public_key(hd.ExtendedKey.from_seed(SEED).derive(path).secret)
    assert await signer().keyset_public_keys(KeysetRef(unit, index), [amount]) == {amount: expected}


@pytest.mark.parametrize("ref", ["node", "wallet/auth"])
async def test_other_keys_stand_at_their_path(ref: str) -> None:
    """m/"spec"'/ and the eight words of sha256(ref), all hardened, as documented."""
    digest = hashlib.sha256(ref.encode()).digest()
    words = [int.from_bytes(digest[start : start + 4], "big") & 0x7FFFFFFF for start in range(0, 32, 4)]
    path = hd.path_from_text(f"m/{int.from_bytes(b'spec', 'big')}'/" + "/".join(f"{word}'" for word in words))
    assert await signer().public_key(ref) == curve.public_key(hd.ExtendedKey.from_seed(SEED).derive(path).secret)


async def test_no_more_keys_are_kept_than_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for ever new keysets and refs gets each, and fills no memory; dropped keys are derived again, the same."""
    monkeypatch.setattr(software, "_MOST_KEYSETS", 3)
    monkeypatch.setattr(software, "_MOST_REFS", 3)
    opened = signer()
    first, node = await opened.keyset_public_keys(KeysetRef("sat", 0), [1, 2]), await opened.public_key("node")
    for number in range(10):
        await opened.keyset_public_keys(KeysetRef("sat", 0, f"home{number}"), [1, 2])
        await opened.public_key(f"nostr/{number}")
        assert len(opened._mint) <= 3
        assert len(opened._refs) <= 3
    assert await opened.keyset_public_keys(KeysetRef("sat", 0), [1, 2]) == first
    assert await opened.public_key("node") == node


async def test_keys_are_pinned() -> None:
    """Keys of a fixed seed in figures: a change of any path would lose every coin and channel of a running bank."""
    opened = signer()
    keys = await opened.keyset_public_keys(KeysetRef("sat", 0), [1, 64])
    assert [key.hex() for key in keys.values()] == PINNED_MINT
    assert (await opened.public_key("node")).hex() == PINNED_NODE
    assert await opened.unwrap(bytes.fromhex(PINNED_WRAPPED), context=b"pin") == b"macaroon"


@pytest.mark.parametrize("count", [1, 2, 7, 64, 65, 129])
@pytest.mark.parametrize("threads", [0, 1, 2, 3])
async def test_every_division_into_chunks_keeps_order(monkeypatch: pytest.MonkeyPatch, count: int, threads: int) -> None:
    """Whatever the threads and the batch, answers are those of one thread in order."""
    monkeypatch.setattr(software, "_INLINE", 0)
    tasks = [
        ToBlindSign(KeysetRef("sat", 0), 1 << index % 64, curve.public_key(bytes(31) + bytes((1 + index,))))
        for index in range(count)
    ]
    parallel, plain = signer(threads=threads), signer()
    assert await parallel.blind_sign(tasks) == await plain.blind_sign(tasks)
    await parallel.close()


async def test_only_large_batches_leave_the_thread() -> None:
    """A small batch starts no thread; a large one does, unless there are none; close stops them."""
    message = ToBlindSign(KeysetRef("sat", 0), 1, curve.public_key(bytes(31) + b"\x01"))

    pooled, single = signer(threads=2), signer(threads=0)
    await pooled.blind_sign([message] * 4)
    await single.blind_sign([message] * 100)
    assert pooled._pool is None
    assert single._pool is None
    await pooled.blind_sign([message] * 100)
    pool = pooled._pool
    assert pool is not None
    await pooled.close()
    with pytest.raises(RuntimeError):
        pool.submit(int)


def test_threads_default_to_the_cores() -> None:
    """None takes a core each; a negative number is an error of the caller."""
    assert signer(threads=None)._threads >= 1
    with pytest.raises(ValueError):
        signer(threads=-1)


@pytest.mark.parametrize("seed", [b"", bytes(15), bytes(65)])
def test_seed_length(seed: bytes) -> None:
    """A seed has 16 to 64 bytes."""
    with pytest.raises(ValueError):
        signer(seed)


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"])
def test_signer_cannot_be_copied(take: Callable[[object], object]) -> None:
    """Neither pickle nor copy takes the keys along."""
    with pytest.raises(TypeError):
        take(signer())


async def test_nothing_shows_a_secret() -> None:
    """Repr of the signer and of its key pairs, and every error, are free of seed and keys."""
    opened = signer()
    await opened.public_key("node")
    await opened.keyset_public_keys(KeysetRef("sat", 0), [1])
    pairs = [*opened._refs.values(), *opened._mint[KeysetRef("sat", 0)].values()]
    secrets = [SEED, *(pair.secret for pair in pairs)]
    shown = [repr(opened), str(opened), f"{opened!r:>40}", *map(repr, pairs)]
    for attempt in (opened.public_key("no such"), opened.unwrap(b"", context=b""), opened.derive_secrets("zz", [0])):
        with pytest.raises(SpecieError) as caught:
            await attempt
        shown += [str(caught.value), repr(caught.value)]
    for secret in secrets:
        for form in (secret.hex(), repr(secret)[2:-1], str(int.from_bytes(secret, "big"))):
            assert not any(form in text for text in shown)


async def test_close_forgets() -> None:
    """After close no attribute holds the seed or a key."""
    opened = signer()
    await opened.public_key("node")
    await opened.keyset_public_keys(KeysetRef("sat", 0), [1])
    await opened.close()
    held = [getattr(opened, name) for name in SoftwareSigner.__slots__ if name not in ("_entropy", "_threads")]
    assert not any(held)
    assert repr(opened) == "<SoftwareSigner closed>"


async def test_schnorr_uses_fresh_randomness() -> None:
    """Two signatures of one digest differ, since each takes fresh auxiliary bytes."""
    first, second = await signer().sign_schnorr("node", [bytes(32), bytes(32)])
    assert first != second


def test_uncompressed_points_make_the_same_proof() -> None:
    """The DLEQ of the specification's vector comes out byte for byte from the forms that the signer hands over."""
    vector = next(record for record in NUT12 if record["kind"] == "deterministic")
    k, a, b_, c_ = (bytes.fromhex(vector[name]) for name in ("a", "A", "B_", "C_"))
    for form in (bytes, curve.uncompress):
        proof = dleq.prove(k, form(a), form(b_), form(c_))
        assert (proof.e.hex(), proof.s.hex()) == (vector["e"], vector["s"])
    (signed,) = software._blind_sign([(software._pair(k), b_)])
    assert (signed.c_, signed.dleq_e, signed.dleq_s) == (c_, bytes.fromhex(vector["e"]), bytes.fromhex(vector["s"]))


@pytest.mark.parametrize("verb", ["verify", "sign"])
async def test_secret_multiplication_is_the_constant_time_one(monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    """No verb multiplies by a secret in variable time."""

    def refuse(*_: object) -> bytes:
        raise AssertionError("variable-time multiplication with a secret")

    monkeypatch.setattr(curve, "multiply_public", refuse)
    point = curve.public_key(bytes(31) + b"\x07")
    opened = signer()
    if verb == "sign":
        await opened.blind_sign([ToBlindSign(KeysetRef("sat", 0), 1, point)])
    else:
        assert await opened.verify_proofs([software.ProofToVerify(KeysetRef("sat", 0), 1, b"7", point)]) == [None]


async def test_unknown_amount_leaves_no_trace() -> None:
    """A refused amount is not cached."""
    opened = signer()
    with pytest.raises(KeyUnknownError):
        await opened.keyset_public_keys(KeysetRef("sat", 0), [3])
    assert not opened._mint
