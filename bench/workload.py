"""What `bench.check` counts instructions of: the same work at each run, in one thread, from fixed seeds.

    python -m bench.workload [MARK_LIBRARY]        under valgrind, with the library of mark.c

Each section runs once to warm up and once counted. Its items, in the order run, are printed as JSON.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

from bench.signing import bank_signer
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
    wire,
)
from specie.ecash.proof import y
from specie.keys import KeysetRef, ToBlindSign
from specie.ledger import Ledger
from specie.ledger.adapters.store_sql import MIGRATIONS as LEDGER_MIGRATIONS
from specie.ledger.adapters.store_sql import SqlLedgerStore
from specie.mint import Mint, MintSettings
from specie.mint.adapters.store_sql import MIGRATIONS as MINT_MIGRATIONS
from specie.mint.adapters.store_sql import SqlMintStore
from specie.storage.adapters.sqlite import SqliteStorage
from specie.wallet.holding import StoredProof
from specie.wallet.selection import KeysetTerms, select
from specie.wallet.states import CoinState

__all__ = ["SECTIONS", "FixedEntropy", "StoppedClock", "main"]

SECTIONS = ("swap4", "wire", "token", "selection")
_SWAPS = 200
_COINS = 4
_KEYSET = "01" + "5a" * 32
_TOKEN_COINS = 64
_HELD = 2000


class FixedEntropy:
    """`kernel.Entropy` from a counter: the same bytes at each run. Never for money."""

    def __init__(self, seed: str) -> None:
        self._seed, self._count = seed, 0

    def bytes(self, count: int) -> bytes:
        """The next `count` bytes, up to 64 a call by SHA-512 and more by repetition with a counter."""
        found = b""
        while len(found) < count:
            self._count += 1
            found += hashlib.sha512(f"{self._seed}/{self._count}".encode()).digest()
        return found[:count]


class StoppedClock:
    """`kernel.Clock` that stands still; whoever sleeps is not woken."""

    def now(self) -> int:
        """Unix time in seconds."""
        return 1_760_000_000

    def now_ns(self) -> int:
        """Unix time in nanoseconds."""
        return self.now() * 10**9

    def monotonic(self) -> float:
        """Seconds."""
        return 0.0

    async def sleep(self, seconds: float) -> None:
        """For ever."""
        await asyncio.get_running_loop().create_future()


class _Marks:
    """The marks of mark.c, or none."""

    def __init__(self, library: str | None) -> None:
        self._library = None if library is None else ctypes.CDLL(library)

    def counted(self, name: str, work: Callable[[], object]) -> None:
        """Run `work` as one section."""
        gc.collect()
        gc.disable()
        if self._library is not None:
            self._library.mark_begin()
        work()
        if self._library is not None:
            self._library.mark_end(name.encode())
        gc.enable()


def _swap_section(marks: _Marks) -> int:
    """Swaps of 4 coins through `Mint.swap`: checks, curve, books and SQLite in memory."""
    entropy = FixedEntropy("swap4")
    loop = asyncio.new_event_loop()
    run = loop.run_until_complete
    storage = SqliteStorage(":memory:", inline=True)
    run(storage.migrate((*LEDGER_MIGRATIONS, *MINT_MIGRATIONS)))
    signer = bank_signer(entropy.bytes(32), entropy, threads=0)
    mint = Mint(
        settings=MintSettings(),
        storage=storage,
        store=SqlMintStore(),
        ledger=Ledger(SqlLedgerStore()),
        signer=signer,
        rails=(),
        clock=StoppedClock(),
        entropy=entropy,
    )
    run(mint.start())
    keyset, amounts = mint.keysets()[0], [1 << at for at in range(_COINS)]

    async def made() -> SwapRequest:
        secrets = [entropy.bytes(32).hex() for _ in amounts]
        factors = [bytes([1]) + entropy.bytes(31) for _ in amounts]
        coins = list(zip(amounts, secrets, factors, strict=True))
        signed = await signer.blind_sign([ToBlindSign(KeysetRef("sat", 0), a, blind(s, r)) for a, s, r in coins])
        inputs = tuple(
            Proof(a, keyset.id, s, unblind(done.c_, r, keyset.keys[a])) for (a, s, r), done in zip(coins, signed, strict=True)
        )
        return SwapRequest(
            inputs, tuple(BlindedMessage(a, keyset.id, blind(entropy.bytes(32).hex(), factors[0])) for a in amounts)
        )

    async def swapped(requests: list[SwapRequest]) -> None:
        for request in requests:
            await mint.swap(request)

    requests = [run(made()) for _ in range(_SWAPS + 20)]
    run(swapped(requests[:20]))
    marks.counted("swap4", lambda: run(swapped(requests[20:])))
    run(mint.close())
    run(storage.close())
    run(signer.close())
    loop.close()
    return _SWAPS


def _point(entropy: FixedEntropy) -> bytes:
    return hash_to_curve(entropy.bytes(16))


def _wire_section(marks: _Marks) -> int:
    """JSON of a 4/4 swap read and its answer written; no request is met twice."""
    entropy, items = FixedEntropy("wire"), 200
    bodies, answers = [], []
    for _ in range(items + 5):
        outputs = tuple(BlindedMessage(1 << at, _KEYSET, _point(entropy)) for at in range(_COINS))
        inputs = tuple(Proof(1 << at, _KEYSET, entropy.bytes(32).hex(), _point(entropy)) for at in range(_COINS))
        bodies.append(wire.swap_request_to_json(SwapRequest(inputs, outputs)))
        answers.append([BlindSignature(o.amount, o.id, o.B_, Dleq(entropy.bytes(32), entropy.bytes(32))) for o in outputs])

    def work(some: slice) -> None:
        for body, answer in zip(bodies[some], answers[some], strict=True):
            wire.swap_request_from_json(body)
            wire.signatures_to_json(answer)

    work(slice(0, 5))
    marks.counted("wire", lambda: work(slice(5, None)))
    return items


def _token_section(marks: _Marks) -> int:
    """A V4 token of 64 coins written and read; an item is a token."""
    entropy, items = FixedEntropy("token"), 20
    tokens = [
        Token(
            "https://mint.example",
            "sat",
            tuple(
                Proof(1 << at % 8, _KEYSET, entropy.bytes(32).hex(), _point(entropy), dleq=ProofDleq(*_three(entropy)))
                for at in range(_TOKEN_COINS)
            ),
        )
        for _ in range(items + 2)
    ]

    def work(some: list[Token]) -> None:
        for token in some:
            decode_token(encode_token(token))

    work(tokens[:2])
    marks.counted("token", lambda: work(tokens[2:]))
    return items


def _three(entropy: FixedEntropy) -> tuple[bytes, bytes, bytes]:
    return entropy.bytes(32), entropy.bytes(32), entropy.bytes(32)


def _selection_section(marks: _Marks) -> int:
    """Coins chosen out of 2,000 for ten different amounts; an item is a choice."""
    entropy, items = FixedEntropy("selection"), 10
    held = []
    for at in range(_HELD):
        proof = Proof(1 << at % 16, _KEYSET, entropy.bytes(32).hex(), _point(entropy))
        held.append(StoredProof(proof, y(proof), "https://mint.example", "sat", CoinState.UNSPENT))
    terms = {_KEYSET: KeysetTerms(input_fee_ppk=100, leaving=False)}
    targets = [1 + int.from_bytes(entropy.bytes(3), "big") % 500_000 for _ in range(items + 1)]
    select(held, targets[0], terms)
    marks.counted("selection", lambda: [select(held, target, terms) for target in targets[1:]])
    return items


def main(arguments: list[str]) -> int:
    """Run every section."""
    library = arguments[0] if arguments else None
    if library is not None and not Path(library).is_file():
        print(f"no such library: {library}", file=sys.stderr)
        return 2
    marks = _Marks(library)
    work = (_swap_section, _wire_section, _token_section, _selection_section)
    print(json.dumps({name: section(marks) for name, section in zip(SECTIONS, work, strict=True)}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
