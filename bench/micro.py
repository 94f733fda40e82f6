"""What each part costs by itself, in this process: microseconds a call, the least and the median of several rounds.

The least is the figure to compare; the median shows how much the machine was disturbed.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvloop

from bench.signing import bank_signer
from specie.app.system import SystemClock, SystemEntropy
from specie.ecash import (
    BlindedMessage,
    BlindSignature,
    Dleq,
    Proof,
    ProofDleq,
    SwapRequest,
    Token,
    blind,
    decode_token,
    encode_token,
    hash_to_curve,
    unblind,
    verify_dleq,
    wire,
)
from specie.keys import KeysetRef, ProofToVerify, ToBlindSign
from specie.keys.adapters.software import SoftwareSigner
from specie.ledger import Ledger
from specie.ledger.adapters.store_sql import MIGRATIONS as LEDGER_MIGRATIONS
from specie.ledger.adapters.store_sql import SqlLedgerStore
from specie.mint import Mint, MintSettings
from specie.mint.adapters.store_sql import MIGRATIONS as MINT_MIGRATIONS
from specie.mint.adapters.store_sql import SqlMintStore
from specie.storage import Migration, Transaction
from specie.storage.adapters.sqlite import SqliteStorage

__all__ = ["Figure", "measure_all"]

_KEYSET = "01" + "5a" * 32
_ROUNDS = 25
_BATCHES = (1, 4, 64)
_REMEMBERED = 2048
"""Points that `kernel.curve` remembers; a reader is given more, or it would never meet a new one."""
_TABLE = "CREATE TABLE bench (k BLOB PRIMARY KEY, v BLOB NOT NULL)"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured thing. `per` is what was counted: a call that handles several things is still one call."""

    name: str
    per: str
    least_us: float
    median_us: float


def _timed(name: str, call: Callable[[], object], seconds: float, per: str = "call") -> Figure:
    call()
    count, took = 1, 0.0
    while took < seconds / _ROUNDS / 2:
        count *= 2
        start = time.perf_counter()
        for _ in range(count):
            call()
        took = time.perf_counter() - start
    rounds = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            for _ in range(count):
                call()
            rounds.append((time.perf_counter() - start) / count * 1e6)
    finally:
        gc.enable()
    return Figure(name, per, min(rounds), statistics.median(rounds))


def _curve(seconds: float) -> Iterator[Figure]:
    secret, r = os.urandom(32).hex(), bytes([1]) + os.urandom(31)
    seed = os.urandom(32)
    signer = SoftwareSigner(seed, threads=0, entropy=SystemEntropy())
    keyset = KeysetRef("sat", 0)
    b_ = blind(secret, r)
    with asyncio.Runner() as runner:
        key = runner.run(signer.keyset_public_keys(keyset, [64]))[64]
        signed = runner.run(signer.blind_sign([ToBlindSign(keyset, 64, b_)]))[0]
    assert signed.dleq_e is not None
    assert signed.dleq_s is not None
    dleq = Dleq(signed.dleq_e, signed.dleq_s)
    yield _timed("hash_to_curve", lambda: hash_to_curve(secret.encode()), seconds)
    yield _timed("blind", lambda: blind(secret, r), seconds)
    yield _timed("unblind", lambda: unblind(signed.c_, r, key), seconds)
    yield _timed("verify_dleq", lambda: verify_dleq(b_, signed.c_, dleq, key), seconds)


def _signer(seconds: float) -> Iterator[Figure]:
    signer = bank_signer(os.urandom(32), SystemEntropy())
    keyset = KeysetRef("sat", 0)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(signer.keyset_public_keys(keyset, [1 << power for power in range(8)]))
        for batch in _BATCHES:
            points = [hash_to_curve(os.urandom(32)) for _ in range(batch)]
            proofs = [ProofToVerify(keyset, 1 << at % 8, point, point) for at, point in enumerate(points)]
            messages = [ToBlindSign(keyset, 1 << at % 8, point) for at, point in enumerate(points)]
            verify = partial(signer.verify_proofs, proofs)
            sign = partial(signer.blind_sign, messages)
            yield _timed(f"signer.verify_proofs x{batch}", lambda v=verify: runner.run(v()), seconds, "batch")  # type: ignore[misc]
            yield _timed(f"signer.blind_sign x{batch}", lambda s=sign: runner.run(s()), seconds, "batch")  # type: ignore[misc]
        runner.run(signer.close())


def _point() -> bytes:
    return hash_to_curve(os.urandom(32))


def _fresh_swap(coins: int) -> SwapRequest:
    """A swap that reads well; nothing in it is signed."""
    return SwapRequest(
        tuple(Proof(1 << at % 8, _KEYSET, os.urandom(32).hex(), _point()) for at in range(coins)),
        tuple(BlindedMessage(1 << at % 8, _KEYSET, _point()) for at in range(coins)),
    )


def _codecs(seconds: float) -> Iterator[Figure]:
    for coins in (4, 64):
        request = _fresh_swap(coins)
        signatures = [BlindSignature(o.amount, o.id, o.B_, Dleq(os.urandom(32), os.urandom(32))) for o in request.outputs]
        size = f"{coins}/{coins}"
        bodies = itertools.cycle([wire.swap_request_to_json(_fresh_swap(coins)) for _ in range(_REMEMBERED // coins + 1)])
        yield _timed(f"wire: read swap {size}", lambda b=bodies: wire.swap_request_from_json(next(b)), seconds, "request")  # type: ignore[misc]
        yield _timed(f"wire: write swap {size}", partial(wire.swap_request_to_json, request), seconds, "request")
        yield _timed(f"wire: write {coins} signatures", partial(wire.signatures_to_json, signatures), seconds, "answer")
    dleq = ProofDleq(*(os.urandom(32) for _ in range(3)))
    coins8 = tuple(Proof(1 << at, _KEYSET, os.urandom(32).hex(), _point(), dleq=dleq) for at in range(8))
    token = Token("https://mint.example", "sat", coins8)
    text = encode_token(token)
    yield _timed("token V4 of 8 coins: write", lambda: encode_token(token), seconds, "token")
    yield _timed("token V4 of 8 coins: read", lambda: decode_token(text), seconds, "token")


async def _storage(directory: Path, seconds: float) -> list[Figure]:
    storage = SqliteStorage(directory / "commits.sqlite")
    await storage.migrate([Migration("bench", 1, _TABLE, _TABLE)])

    async def body(tx: Transaction) -> None:
        await tx.execute("INSERT INTO bench (k, v) VALUES ($1, $2)", os.urandom(33), bytes(96))

    found = []
    for together in (1, 64):
        rounds: list[float] = []
        deadline = time.perf_counter() + seconds * 2
        while time.perf_counter() < deadline or len(rounds) < _ROUNDS:
            start = time.perf_counter()
            await asyncio.gather(*(storage.transact(body) for _ in range(together)))
            rounds.append((time.perf_counter() - start) / together * 1e6)
        found.append(Figure(f"sqlite: commit, {together} at a time", "body", min(rounds), statistics.median(rounds)))
    await storage.close()
    return found


async def _swaps(directory: Path, seconds: float) -> list[Figure]:
    """Swaps of 4 coins through `Mint.swap` on SQLite: engine, signer, ledger and store, without HTTP and JSON."""
    storage = SqliteStorage(directory / "swaps.sqlite")
    await storage.migrate((*LEDGER_MIGRATIONS, *MINT_MIGRATIONS))
    signer = bank_signer(os.urandom(32), SystemEntropy())
    mint = Mint(
        settings=MintSettings(),
        storage=storage,
        store=SqlMintStore(),
        ledger=Ledger(SqlLedgerStore()),
        signer=signer,
        rails=(),
        clock=SystemClock(),
        entropy=SystemEntropy(),
    )
    await mint.start()
    try:
        found = []
        for together in (1, 64):
            rounds: list[float] = []
            deadline = time.perf_counter() + seconds * 4
            while time.perf_counter() < deadline or len(rounds) < _ROUNDS:
                requests = [await _swap_request(mint, signer) for _ in range(together)]
                start = time.perf_counter()
                await asyncio.gather(*(mint.swap(request) for request in requests))
                rounds.append((time.perf_counter() - start) / together * 1e6)
            found.append(Figure(f"mint.swap 4/4, {together} at a time", "swap", min(rounds), statistics.median(rounds)))
        return found
    finally:
        await mint.close()
        await storage.close()
        await signer.close()


async def _swap_request(mint: Mint, signer: SoftwareSigner) -> SwapRequest:
    """A swap of 4 coins that were never issued but are truly signed."""
    keyset, amounts = mint.keysets()[0], (1, 2, 4, 8)
    secrets, factors = [os.urandom(32).hex() for _ in amounts], [bytes([1]) + os.urandom(31) for _ in amounts]
    tasks = [
        ToBlindSign(KeysetRef("sat", 0), amount, blind(secret, r))
        for amount, secret, r in zip(amounts, secrets, factors, strict=True)
    ]
    signed = await signer.blind_sign(tasks)
    inputs = tuple(
        Proof(amount, keyset.id, secret, unblind(done.c_, r, keyset.keys[amount]))
        for amount, secret, r, done in zip(amounts, secrets, factors, signed, strict=True)
    )
    outputs = tuple(BlindedMessage(amount, keyset.id, blind(os.urandom(32).hex(), factors[0])) for amount in amounts)
    return SwapRequest(inputs, outputs)


def measure_all(directory: Path, seconds: float) -> Iterator[Figure]:
    """Every micro-benchmark, some `seconds` for each; stores are made in `directory`."""
    yield from _curve(seconds)
    yield from _signer(seconds)
    yield from _codecs(seconds)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield from runner.run(_storage(directory, seconds))
        yield from runner.run(_swaps(directory, seconds))
