"""The Nutshell wallet as `bench.wallet` calls it (see ours.py).

Runs in Nutshell's own interpreter and imports nothing of ours.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

_answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # whatever the wallet prints goes to stderr

from cashu.core.base import Proof  # noqa: E402
from cashu.core.helpers import sum_proofs  # noqa: E402
from cashu.wallet.helpers import deserialize_token_from_string  # noqa: E402
from cashu.wallet.wallet import Wallet  # noqa: E402

_held: list[Proof] = []
_wallets: list[Wallet] = []


async def _timed(work: Callable[[], Any]) -> dict[str, Any]:
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
    wallet = await Wallet.with_db(mint, directory, unit="sat", skip_db_read=True)
    await wallet._init_private_key(words)
    await wallet.load_mint()
    await wallet.load_proofs(reload=True)
    _wallets.append(wallet)
    return {}


async def _proofs(token: str) -> list[Proof]:
    proofs = list(deserialize_token_from_string(token).proofs)
    await _wallets[-1]._expand_short_keyset_ids(proofs)
    return proofs


async def _receive(token: str) -> dict[str, Any]:
    async def work() -> int:
        kept, _ = await _wallets[-1].redeem(await _proofs(token))
        return int(sum_proofs(kept))

    return await _timed(work)


async def _restore() -> dict[str, Any]:
    wallet = _wallets[-1]
    told = await _timed(lambda: wallet.restore_wallet_from_mnemonic(None))
    await wallet.load_proofs(reload=True)
    return {**told, "result": int(sum_proofs(wallet.proofs))}


async def _dleq(token: str) -> dict[str, Any]:
    proofs = await _proofs(token)
    if any(proof.dleq is None for proof in proofs):
        raise ValueError("a proof without DLEQ would not be checked")
    told = await _timed(lambda: _wallets[-1].verify_proofs_dleq(proofs))
    return {**told, "result": len(proofs)}


async def _hold(keyset: str, secrets: list[str], point: str, amounts: list[int]) -> dict[str, Any]:
    _held[:] = [Proof(id=keyset, amount=a, secret=s, C=point) for a, s in zip(amounts, secrets, strict=True)]
    return {}


async def _select(keyset: str, target: int) -> dict[str, Any]:
    told = await _timed(lambda: _wallets[-1].coinselect(_held, target, include_fees=True))
    return {**told, "result": int(sum_proofs(told["result"]))}


_CALLS = {"open": _open, "receive": _receive, "restore": _restore, "dleq": _dleq, "hold": _hold, "select": _select}


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asked = json.loads(line)
        try:
            answer = {"id": asked["id"], "ok": await _CALLS[asked["call"]](**asked["args"])}
        except Exception as error:
            answer = {"id": asked["id"], "error": {"message": f"{type(error).__name__}: {error}", "code": None}}
        _answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    asyncio.run(_serve())
