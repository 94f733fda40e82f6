"""What any `keys.ports.Signer` must do; one suite for every provider. A new provider is one line in `PROVIDERS`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pytest

from specie.ecash.bdhke import blind, hash_to_curve, unblind
from specie.ecash.dleq import verify_dleq
from specie.ecash.p2bk import blind_key
from specie.ecash.proof import Dleq
from specie.kernel import curve, hd
from specie.kernel.errors import MalformedError, RefusedError
from specie.keys import (
    BlindedKey,
    BlindSigned,
    CapabilityMissingError,
    KeysetRef,
    KeyUnknownError,
    ProofToVerify,
    Signer,
    SignerClosedError,
    ToBlindSign,
)
from specie.keys.adapters.native_batch import NativeBatch, native_batch
from specie.keys.adapters.routing import RoutingSigner
from specie.keys.adapters.software import SoftwareSigner
from specie.keys.adapters.token import token_signer
from specie.keys.adapters.token_session import TokenPlace
from tests.support.components import missing_component
from tests.support.entropy import CountingEntropy
from tests.support.signer_process import PEER_CREDENTIALS, ServedSigner
from tests.support.softhsm import PIN, SoftToken, new_token

T = TypeVar("T")

VECTORS = Path(__file__).parents[1] / "vectors/cashu"
NUT13: list[dict[str, Any]] = json.loads((VECTORS / "nut13-deterministic-secrets.json").read_text())["records"]
DERIVED: list[dict[str, Any]] = [
    record for record in json.loads((VECTORS / "draft-derived-keys.json").read_text())["records"] if record["scheme"] == "bip32"
]


def native() -> NativeBatch:
    """The native batches of this machine; a machine without a compiler skips aloud."""
    batch = native_batch()
    if not isinstance(batch, NativeBatch):
        missing_component("native-batches", batch.reason)
    return batch


def served_signer(seed: bytes) -> Signer:
    """A signer behind its unix socket; needs a system that tells who connects to one."""
    if not PEER_CREDENTIALS:
        pytest.skip("this system has no SO_PEERCRED")
    return ServedSigner(seed)


@cache
def prepared_token(seed: bytes) -> SoftToken:
    """A token of its own for each seed, with the keys that this suite asks for, as their owner made them once."""
    token = new_token(f"seed {seed[-4:].hex()}")

    async def prepare() -> None:
        signer = await token_signer(TokenPlace(token.module, token.label), pin=lambda: PIN, entropy=CountingEntropy())
        for keyset, amounts in ((SAT, AMOUNTS), (USD, AMOUNTS), (KeysetRef("sat", 1), AMOUNTS[:8])):
            await signer.create_keyset(keyset, amounts)
        for ref in ("node", "nodes", "node/0", "node/1", "a/b", "a-b", "p2pk/0", "quote/0", "p2pk/1"):
            await signer.create_key(ref)
        await signer.create_wrapping_key()
        await signer.close()

    _apart(prepare())
    return token


def in_token(seed: bytes) -> Signer:
    """A signer over the token of this seed."""
    token = prepared_token(seed)
    return _apart(token_signer(TokenPlace(token.module, token.label), pin=lambda: PIN, entropy=CountingEntropy()))


def _apart(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it in an event loop of its own, on a thread: the caller may be in one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def needs(signer: Signer, *capabilities: str) -> None:
    """Skip a test of what the provider says it cannot do; that it refuses it is another test."""
    for name in capabilities:
        if not getattr(signer.capabilities(), name):
            pytest.skip(f"provider has no {name}")


PROVIDERS: dict[str, Callable[[bytes], Signer]] = {
    "software, inline": lambda seed: SoftwareSigner(seed, threads=0, entropy=CountingEntropy()),
    "software, threads": lambda seed: SoftwareSigner(seed, threads=2, entropy=CountingEntropy()),
    "native, inline": lambda seed: SoftwareSigner(seed, threads=0, entropy=CountingEntropy(), batch=native()),
    "native, threads": lambda seed: SoftwareSigner(seed, threads=2, entropy=CountingEntropy(), batch=native()),
    "routing": lambda seed: RoutingSigner(SoftwareSigner(seed, threads=0, entropy=CountingEntropy()), {}),
    "remote": served_signer,
    "pkcs11, softhsm": lambda seed: in_token(seed),
}
SEED = bytes(range(64))
SAT, USD = KeysetRef("sat", 0), KeysetRef("usd", 0)
AMOUNTS = [1 << exponent for exponent in range(64)]
OFF_CURVE = b"\x02" + (5).to_bytes(32, "big")


@pytest.fixture(params=PROVIDERS)
async def provider(request: pytest.FixtureRequest) -> AsyncIterator[Callable[[bytes], Signer]]:
    """Makes signers of one provider, and closes them after the test."""
    made: list[Signer] = []

    def make(seed: bytes) -> Signer:
        made.append(PROVIDERS[request.param](seed))
        return made[-1]

    yield make
    for signer in made:
        await signer.close()


@pytest.fixture
async def signer(provider: Callable[[bytes], Signer]) -> AsyncIterator[Signer]:
    opened = provider(SEED)
    yield opened
    await opened.close()


def blinded(index: int) -> tuple[str, bytes, bytes]:
    secret, r = f"secret {index}", (index + 1).to_bytes(32, "big")
    return secret, r, blind(secret, r)


async def coins(signer: Signer, keyset: KeysetRef, amounts: list[int]) -> list[ProofToVerify]:
    """Coins issued by the signer and unblinded by their owner."""
    public = await signer.keyset_public_keys(keyset, amounts)
    messages = [blinded(index) for index in range(len(amounts))]
    tasks = [ToBlindSign(keyset, amount, b_) for amount, (_, _, b_) in zip(amounts, messages, strict=True)]
    signed = await signer.blind_sign(tasks)
    return [
        ProofToVerify(keyset, amount, secret.encode(), unblind(answer.c_, r, public[amount]))
        for amount, (secret, r, _), answer in zip(amounts, messages, signed, strict=True)
    ]


async def test_all_amounts_have_their_own_key(signer: Signer) -> None:
    """64 amounts of two keysets have 128 different keys, which are points and do not change."""
    first, second = await signer.keyset_public_keys(SAT, AMOUNTS), await signer.keyset_public_keys(USD, AMOUNTS)
    rotated = await signer.keyset_public_keys(KeysetRef("sat", 1), [1])
    assert list(first) == AMOUNTS
    assert len({*first.values(), *second.values(), *rotated.values()}) == 129
    assert all(curve.is_point(key) for key in first.values())
    assert await signer.keyset_public_keys(SAT, [8, 1]) == {8: first[8], 1: first[1]}


async def test_keys_depend_on_the_seed_alone(provider: Callable[[bytes], Signer]) -> None:
    """A restart gives the same keys, another seed gives others."""
    again, other = provider(SEED), provider(bytes(32))
    keys = [await candidate.keyset_public_keys(SAT, [1, 2]) for candidate in (provider(SEED), again, other)]
    nodes = [await candidate.public_key("node") for candidate in (provider(SEED), again, other)]
    assert keys[0] == keys[1] != keys[2]
    assert nodes[0] == nodes[1] != nodes[2]


@pytest.mark.parametrize("count", [0, 1, 5, 64, 200])
async def test_issued_coins_verify(signer: Signer, count: int) -> None:
    """What is signed blindly is valid once unblinded, in small and in large batches."""
    proofs = await coins(signer, SAT, [AMOUNTS[index % 64] for index in range(count)])
    assert await signer.verify_proofs(proofs) == [hash_to_curve(proof.secret) for proof in proofs]


async def test_verification_answers_in_order(signer: Signer) -> None:
    """Each question has its own answer: forged, swapped, other amount, other keyset, nonsense; none spoils a neighbour."""
    proofs = await coins(signer, SAT, [AMOUNTS[index % 8] for index in range(100)])
    asked: list[ProofToVerify] = list(proofs)
    expected: list[bytes | None] = [hash_to_curve(proof.secret) for proof in proofs]
    for index, changed in {
        3: proofs[3]._replace(c=curve.negate(proofs[3].c)),
        17: proofs[17]._replace(c=proofs[18].c),
        40: proofs[40]._replace(amount=proofs[40].amount * 2),
        41: proofs[41]._replace(keyset=USD),
        42: proofs[42]._replace(keyset=KeysetRef("sat", 1)),
        60: proofs[60]._replace(c=b""),
        61: proofs[61]._replace(secret=b""),
        62: proofs[62]._replace(c=OFF_CURVE),
        63: proofs[63]._replace(secret=b"x" * 5000),
        99: proofs[99]._replace(secret=proofs[98].secret),
    }.items():
        asked[index], expected[index] = changed, None
    assert await signer.verify_proofs(asked) == expected


@pytest.mark.parametrize("count", [1, 5, 200])
async def test_an_exchange_signs_only_for_good_proofs(signer: Signer, count: int) -> None:
    """Both verbs in one: Ys and signatures as each gives them; one forged coin, and nothing is signed."""
    proofs = await coins(signer, SAT, [AMOUNTS[index % 64] for index in range(count)])
    tasks = [ToBlindSign(SAT, AMOUNTS[index % 64], blinded(index + 1000)[2]) for index in range(count)]
    ys, signed = await signer.exchange(proofs, tasks)
    assert ys == await signer.verify_proofs(proofs)
    assert signed == await signer.blind_sign(tasks)
    forged = [*proofs[:-1], proofs[-1]._replace(c=curve.negate(proofs[-1].c))]
    assert await signer.exchange(forged, tasks) == ([*ys[:-1], None], [])


async def test_an_exchange_with_a_bad_message_signs_nothing(signer: Signer) -> None:
    """One message that is no point refuses all, whatever the proofs."""
    proofs = await coins(signer, SAT, [1, 2])
    for bad in (b"", OFF_CURVE, curve.uncompress(blinded(0)[2])):
        with pytest.raises(MalformedError):
            await signer.exchange(proofs, [ToBlindSign(SAT, 1, blinded(7)[2]), ToBlindSign(SAT, 1, bad)])


async def test_many_requests_at_once_hear_their_own_answers(signer: Signer) -> None:
    """Requests of all sizes that stand in line together, good and bad mixed."""
    proofs = await coins(signer, SAT, [1] * 60)

    async def ask(start: int, count: int) -> None:
        mine = proofs[start : start + count]
        good = start % 3 > 0
        if not good:
            mine = [mine[0]._replace(c=curve.negate(mine[0].c)), *mine[1:]]
        ys, signed = await signer.exchange(mine, [ToBlindSign(SAT, 2, blinded(start)[2])])
        assert [y is not None for y in ys] == [good, *[True] * (count - 1)]
        assert len(signed) == good

    await asyncio.gather(*(ask(start, 1 + start % 7) for start in range(50)))


async def test_blind_signatures_prove_themselves(signer: Signer) -> None:
    """Every signature has a DLEQ that holds for the public key; the same request gets the same bytes again."""
    needs(signer, "dleq")
    public = await signer.keyset_public_keys(SAT, AMOUNTS)
    tasks = [ToBlindSign(SAT, amount, blinded(index)[2]) for index, amount in enumerate(AMOUNTS)]
    signed = await signer.blind_sign(tasks)
    for task, answer in zip(tasks, signed, strict=True):
        assert answer.dleq_e is not None
        assert answer.dleq_s is not None
        verify_dleq(task.b_, answer.c_, Dleq(answer.dleq_e, answer.dleq_s), public[task.amount])
    assert await signer.blind_sign(tasks[5:7]) == signed[5:7]
    assert len({answer.dleq_s for answer in signed}) == len(signed)


@pytest.mark.parametrize("bad", [b"", bytes(33), OFF_CURVE, b"\x04" + bytes(64)], ids=["empty", "identity", "off", "65"])
async def test_a_bad_message_signs_nothing(signer: Signer, bad: bytes) -> None:
    """One blinded message that is no compressed point refuses the batch."""
    tasks = [ToBlindSign(SAT, 1, blinded(0)[2]), ToBlindSign(SAT, 1, bad)]
    with pytest.raises(RefusedError):
        await signer.blind_sign(tasks)


async def test_uncompressed_messages_are_refused(signer: Signer) -> None:
    """Only the compressed form is one message, so that two forms cannot be two outputs."""
    with pytest.raises(RefusedError):
        await signer.blind_sign([ToBlindSign(SAT, 1, curve.uncompress(blinded(0)[2]))])


@pytest.mark.parametrize("amount", [0, -1, 3, 6, 2**63 + 1, 2**64])
async def test_amounts_without_a_key(signer: Signer, amount: int) -> None:
    """There are keys for powers of two to 2^63; anything else is refused by every verb."""
    point = blinded(0)[2]
    for call in (
        signer.keyset_public_keys(SAT, [amount]),
        signer.verify_proofs([ProofToVerify(SAT, amount, point, point)]),
        signer.blind_sign([ToBlindSign(SAT, amount, point)]),
    ):
        with pytest.raises(KeyUnknownError):
            await call


@pytest.mark.parametrize("index", [-1, 2**31])
async def test_keysets_without_keys(signer: Signer, index: int) -> None:
    """A keyset's index has 31 bits."""
    with pytest.raises(KeyUnknownError):
        await signer.keyset_public_keys(KeysetRef("sat", index), [1])


@pytest.mark.parametrize("vector", DERIVED, ids=lambda vector: vector["id"])
async def test_wallet_keys_of_the_specification(provider: Callable[[bytes], Signer], vector: dict[str, str]) -> None:
    """P2PK and quote keys are those every wallet derives from the same words."""
    needs(provider(SEED), "derivation")
    opened = provider(hd.seed_from_words(vector["mnemonic"]))
    branch = {"10'": "p2pk", "20'": "quote"}[vector["path"].split("/")[2]]
    assert (await opened.public_key(f"{branch}/{vector['path'].split('/')[-1]}")).hex() == vector["pubkey"]


@pytest.mark.parametrize("vector", NUT13, ids=lambda vector: vector["id"])
async def test_secrets_of_the_specification(provider: Callable[[bytes], Signer], vector: dict[str, Any]) -> None:
    """NUT-13 for both versions of keyset ids."""
    needs(provider(SEED), "derivation")
    opened = provider(bytes.fromhex(vector["seed_hex"]))
    (derived,) = await opened.derive_secrets(vector["keyset_id"], [vector["counter"]])
    assert (derived.counter, derived.secret, derived.r.hex()) == (vector["counter"], vector["secret"], vector["r"])


async def test_secrets_in_large_batches(signer: Signer) -> None:
    """A restore's batch of 100 has each counter's own secret, in the order asked, for both versions."""
    needs(signer, "derivation")
    for keyset_id in ("009a1f293253e41e", "01" + "ab" * 32):
        batch = await signer.derive_secrets(keyset_id, range(100))
        assert [derived.counter for derived in batch] == list(range(100))
        assert len({derived.secret for derived in batch} | {derived.r.hex() for derived in batch}) == 200
        assert await signer.derive_secrets(keyset_id, [57]) == [batch[57]]


@pytest.mark.parametrize("ref", ["node", "p2pk/7", "quote/2147483647", "wallet/auth-1"])
async def test_schnorr_signatures(signer: Signer, ref: str) -> None:
    """BIP 340 signatures of a ref verify under its public key, one for each digest."""
    needs(signer, "bip340")
    digests = [bytes((index,)) * 32 for index in range(70)]
    signatures = await signer.sign_schnorr(ref, digests)
    key = await signer.public_key(ref)
    assert all(curve.schnorr_verify(signature, digest, key) for signature, digest in zip(signatures, digests, strict=True))


E_SECRET = bytes(range(1, 33))
EPHEMERAL = curve.public_key(E_SECRET)


async def blinded_key(signer: Signer, ref: str, slot: int, *, flipped: bool = False) -> BlindedKey:
    """A key of the signer as a sender blinds it; `flipped` as he does who knows its x coordinate with the other parity."""
    named = await signer.public_key(ref)
    return BlindedKey(ref, EPHEMERAL, slot, blind_key(curve.negate(named) if flipped else named, E_SECRET, slot))


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("slot", [0, 1, 10])
async def test_blinded_keys_are_found_and_sign(signer: Signer, slot: int, flipped: bool) -> None:
    """Of each key, even or odd and named with either parity, the blinded form is known and signs for itself (NUT-28)."""
    needs(signer, "bip340")
    keys = [await blinded_key(signer, f"p2pk/{index}", slot, flipped=flipped) for index in range(40)]
    assert await signer.own_blinded(keys) == [True] * 40
    digests = [bytes(32), bytes((1,)) * 32]
    for key in keys[:8]:
        signatures = await signer.sign_blinded(key, digests)
        assert all(curve.schnorr_verify(one, digest, key.key) for one, digest in zip(signatures, digests, strict=True))


async def test_what_is_not_blinded_for_us(signer: Signer) -> None:
    """Another's key, slot or ephemeral key, and nonsense in any place, is not ours and signs nothing; the others stay ours."""
    needs(signer, "bip340")
    good = await blinded_key(signer, "p2pk/0", 3)
    plain = await signer.public_key("p2pk/0")
    wrong = [
        replace(good, ref="p2pk/1"),
        replace(good, slot=4),
        replace(good, slot=11),
        replace(good, slot=-1),
        replace(good, ephemeral=curve.negate(plain)),
        replace(good, ephemeral=OFF_CURVE),
        replace(good, ephemeral=b""),
        replace(good, key=plain),
        replace(good, key=curve.negate(good.key)),
        replace(good, key=OFF_CURVE),
        replace(good, key=bytes(33)),
    ]
    assert await signer.own_blinded([good, *wrong, good]) == [True, *([False] * len(wrong)), True]
    for key in wrong:
        with pytest.raises(RefusedError):
            await signer.sign_blinded(key, [bytes(32)])
    with pytest.raises(RefusedError):
        await signer.sign_blinded(good, [bytes(31)])
    for call in (signer.own_blinded, lambda keys: signer.sign_blinded(keys[0], [bytes(32)])):
        with pytest.raises(KeyUnknownError):
            await call([replace(good, ref="mint/sat/0/64")])


async def test_recoverable_signatures(signer: Signer) -> None:
    """ECDSA signatures recover to the ref's public key, one for each digest."""
    digests = [bytes((index,)) * 32 for index in range(70)]
    key = await signer.public_key("node")
    for digest, (signature, recovery_id) in zip(digests, await signer.sign_recoverable("node", digests), strict=True):
        assert curve.ecdsa_recover(digest, signature, recovery_id) == key


async def test_digests_have_32_bytes(signer: Signer) -> None:
    """A message that was not hashed is refused."""
    for length in (0, 31, 33):
        with pytest.raises(RefusedError):
            await signer.sign_schnorr("node", [bytes(length)])
        with pytest.raises(MalformedError):
            await signer.sign_recoverable("node", [bytes(length)])


async def test_mint_keys_sign_nothing_but_blinded_messages(signer: Signer) -> None:
    """A mint key has a public key under its ref, and refuses any other signature."""
    assert await signer.public_key("mint/sat/0/64") == (await signer.keyset_public_keys(SAT, [64]))[64]
    with pytest.raises(KeyUnknownError if signer.capabilities().bip340 else CapabilityMissingError):
        await signer.sign_schnorr("mint/sat/0/64", [bytes(32)])
    with pytest.raises(KeyUnknownError):
        await signer.sign_recoverable("mint/sat/0/64", [bytes(32)])


@pytest.mark.parametrize(
    "ref",
    [
        *("", "/", "node/", "/node", "no de", "Node", "nö", "a//b", "../a", "x" * 201, "node\n"),
        *("p2pk", "p2pk/", "p2pk/x", "p2pk/-1", "p2pk/01", "p2pk/2147483648", "p2pk/1/2", "quote/99999999999", "quote/٣"),
        *("mint/", "mint/sat", "mint/sat/0", "mint/sat/0/3", "mint/sat/0/64/1", "mint/sat/x/64", "mint//0/64"),
        *("mint/sat/2147483648/64", "mint/sat/0/99999999999999999999", "mint/sat/0/0", "mint/sat/0/064"),
    ],
)
async def test_refs_without_a_key(signer: Signer, ref: str) -> None:
    """What names no key is refused, and never falls back to another key."""
    with pytest.raises(KeyUnknownError):
        await signer.public_key(ref)


async def test_refs_are_apart(signer: Signer) -> None:
    """Different refs have different keys, none of them a mint key's or each other's prefix."""
    refs = ["node", "nodes", "node/0", "node/1", "a/b", "a-b", "p2pk/0", "quote/0", "p2pk/1", "mint/sat/0/1"]
    assert len({await signer.public_key(ref) for ref in refs}) == len(refs)


async def test_wrapping(provider: Callable[[bytes], Signer]) -> None:
    """Wrapped bytes open for the same seed and context only, never twice the same, and changes are noticed."""
    one, same, other = provider(SEED), provider(SEED), provider(bytes(32))
    wrapped, again = await one.wrap(b"macaroon", context=b"lnd"), await one.wrap(b"macaroon", context=b"lnd")
    assert wrapped != again
    assert b"macaroon" not in wrapped
    assert await same.unwrap(wrapped, context=b"lnd") == b"macaroon"
    for refusing, blob, context in (
        (one, wrapped, b"cln"),
        (other, wrapped, b"lnd"),
        (one, wrapped[:-1] + bytes((wrapped[-1] ^ 1,)), b"lnd"),
        (one, b"", b"lnd"),
    ):
        with pytest.raises(RefusedError):
            await refusing.unwrap(blob, context=context)


async def test_closed_signer_refuses_everything(provider: Callable[[bytes], Signer]) -> None:
    """After close no verb works, not even on an empty batch or a key used before; closing again does nothing."""
    opened = provider(SEED)
    point, wrapped = blinded(0)[2], await opened.wrap(b"x", context=b"")
    await opened.public_key("node")
    await opened.keyset_public_keys(SAT, AMOUNTS)
    await coins(opened, SAT, AMOUNTS)
    await opened.close()
    await opened.close()
    for call in (
        opened.keyset_public_keys(SAT, [1]),
        opened.keyset_public_keys(SAT, []),
        opened.verify_proofs([ProofToVerify(SAT, 1, point, point)]),
        opened.verify_proofs([]),
        opened.blind_sign([ToBlindSign(SAT, 1, point)]),
        opened.blind_sign([]),
        opened.public_key("node"),
        opened.public_key("mint/sat/0/1"),
        opened.sign_schnorr("node", [bytes(32)]),
        opened.sign_recoverable("node", [bytes(32)]),
        opened.own_blinded([]),
        opened.sign_blinded(BlindedKey("p2pk/0", point, 0, point), []),
        opened.derive_secrets("009a1f293253e41e", [0]),
        opened.wrap(b"x", context=b""),
        opened.unwrap(wrapped, context=b""),
    ):
        with pytest.raises(SignerClosedError):
            await call


async def test_capabilities_are_stated(signer: Signer) -> None:
    """A provider names itself and its curves, so that a key that needs more is refused at start."""
    can = signer.capabilities()
    assert can.provider
    assert "secp256k1" in can.curves
    answers = await signer.blind_sign([ToBlindSign(SAT, 1, blinded(0)[2])])
    assert isinstance(answers[0], BlindSigned)
    assert (answers[0].dleq_e is not None) is can.dleq


async def test_what_a_provider_cannot_do_it_refuses(signer: Signer) -> None:
    """Whoever asks for it nevertheless hears which provider lacks what, and gets nothing that looks like an answer."""
    can, point = signer.capabilities(), blinded(0)[2]
    lacking: list[Coroutine[Any, Any, Any]] = []
    if not can.bip340:
        key = BlindedKey("p2pk/0", point, 0, point)
        lacking += [signer.sign_schnorr("node", [bytes(32)]), signer.own_blinded([key]), signer.sign_blinded(key, [bytes(32)])]
    if not can.derivation:
        lacking.append(signer.derive_secrets("009a1f293253e41e", [0]))
    if not lacking:
        pytest.skip("provider can do everything")
    for call in lacking:
        with pytest.raises(CapabilityMissingError) as refused:
            await call
        assert refused.value.provider == can.provider
        assert refused.value.capability in refused.value.detail
