"""Our wallet as `bench.wallet` calls it: one JSON request a line on stdin, one JSON answer a line on stdout.

A call that is measured answers with its own `ms` and `cpu_ms`, so that pipes and JSON cost nobody anything.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from specie import Wallet
from specie.ecash import Proof, decode_token, resolve_token
from specie.ecash.proof import y
from specie.keys import SealSource
from specie.wallet.engine.tokens import check_dleq
from specie.wallet.holding import StoredProof
from specie.wallet.selection import KeysetTerms, select

_held: list[StoredProof] = []
_wallets: list[Wallet] = []


async def _timed(work: Callable[[], Awaitable[Any] | Any]) -> dict[str, Any]:
    start, cpu = time.perf_counter(), time.process_time()
    result = work()
    if isinstance(result, Awaitable):
        result = await result
    return {
        "ms": (time.perf_counter() - start) * 1e3,
        "cpu_ms": (time.process_time() - cpu) * 1e3,
        "result": result,
    }


async def _open(mint: str, words: str, seed: str, directory: str) -> dict[str, Any]:
    home = Path(directory)
    source = SealSource(play_key=True)
    opening = Wallet.open(home / "data", sealed=source, words=words, mint=mint, config_home=home / "config")
    _wallets.append(await opening)
    return {}


async def _receive(token: str) -> dict[str, Any]:
    told = await _timed(lambda: _wallets[-1].receive(token))
    return told | {"result": told["result"].amount}


async def _restore() -> dict[str, Any]:
    wallet = _wallets[-1]
    told = await _timed(wallet.restore)
    return told | {"result": (await wallet.balance()).available}


async def _dleq(token: str) -> dict[str, Any]:
    (view,) = await _wallets[-1].mints()
    keysets = list(view.keysets)
    proofs = resolve_token(decode_token(token), [known.keyset for known in keysets]).proofs
    told = await _timed(lambda: check_dleq(proofs, keysets, required=True))
    return told | {"result": len(proofs)}


async def _hold(keyset: str, secrets: list[str], point: str, amounts: list[int]) -> dict[str, Any]:
    c = bytes.fromhex(point)
    proofs = [Proof(amount, keyset, secret, c) for amount, secret in zip(amounts, secrets, strict=True)]
    _held[:] = [StoredProof(proof, y(proof), "http://127.0.0.1", "sat") for proof in proofs]
    return {}


async def _select(keyset: str, target: int) -> dict[str, Any]:
    told = await _timed(lambda: select(_held, target, {keyset: KeysetTerms(0)}))
    return told | {"result": told["result"].amount}


_CALLS: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "open": _open,
    "receive": _receive,
    "restore": _restore,
    "dleq": _dleq,
    "hold": _hold,
    "select": _select,
}


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asked = json.loads(line)
        try:
            answer = {"id": asked["id"], "ok": await _CALLS[asked["call"]](**asked["args"])}
        except Exception as error:
            answer = {"id": asked["id"], "error": {"message": f"{type(error).__name__}: {error}", "code": None}}
        print(json.dumps(answer), flush=True)
    for wallet in _wallets:
        await wallet.close()


if __name__ == "__main__":
    asyncio.run(_serve())
