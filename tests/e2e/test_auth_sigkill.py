"""SIGKILL of a mint that asks for blind tokens: each effect took one token, no error took any, and no wallet lost its pool."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from specie.app.wallet import Wallet
from specie.kernel.errors import RefusedError, UnavailableError, UncertainError
from specie.keys import SealSource
from specie.wallet import RetryPolicy, WalletSettings
from specie.wallet.auth import Login
from tests.support.openid import CLIENT, public, sign
from tests.support.process import BankProcess

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

KILLS = 5
WALLETS = 3
COIN_SUM = 64
SETTINGS = WalletSettings(retry=RetryPolicy(attempts=8, base_s=0.2, longest_s=1.0), breaker_threshold=1000)


@contextlib.contextmanager
def provider() -> Iterator[str]:
    """The documents of an OpenID provider on loopback; its issuer."""

    class Documents(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = documents.get(self.path)
            body = json.dumps(found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Documents) as server:
        issuer = f"http://127.0.0.1:{server.server_port}"
        documents = {
            "/.well-known/openid-configuration": {"issuer": issuer, "jwks_uri": f"{issuer}/jwks"},
            "/jwks": {"keys": [public("ES256", "one")]},
        }
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield issuer
        server.shutdown()
        thread.join()


def login(issuer: str, user: str) -> Login:
    """As the provider would give it."""
    now = int(time.time())
    claims = {"iss": issuer, "sub": user, "azp": CLIENT, "iat": now, "exp": now + 3600}
    return Login(
        discovery=f"{issuer}/.well-known/openid-configuration",
        client_id=CLIENT,
        token_endpoint=f"{issuer}/token",
        access_token=sign(claims, "ES256", "one"),
        expires_at=now + 3600,
    )


async def swap_until(wallet: Wallet, done: asyncio.Event) -> int:
    """Swap without end, carry on what a kill interrupted; how often a kill was felt."""
    felt = 0
    while not done.is_set():
        try:
            await wallet.split([1, 2, 4])
        except (UnavailableError, UncertainError, RefusedError) as error:
            if getattr(error, "code", None) in (30001, 30002, 31001):
                raise
            felt += 1
            await asyncio.sleep(0.1)
            await wallet.resume()
    return felt


def test_blind_tokens_survive_sigkill(tmp_path: Path) -> None:
    """Wallets swap on blind tokens while the mint is killed again and again; then everything is counted."""
    with provider() as issuer:
        config = tmp_path / "bank.toml"
        config.write_text(
            f"""[mint.auth]
openid_discovery = "{issuer}/.well-known/openid-configuration"
client_id = "{CLIENT}"
blind_endpoints = ["POST /v1/swap", "POST /v1/mint/*", "POST /v1/checkstate", "POST /v1/restore"]
bats_per_hour = 0
"""
        )
        bank = BankProcess(tmp_path, tmp_path / "bank", arguments=("--config", str(config)))
        bank.start()
        try:
            asyncio.run(_story(bank, issuer, tmp_path))
            books = bank.run("mint", "liabilities", "--verify", "--data", str(bank.data))
            assert sum(int(row["outstanding"]) for row in books["keysets"]) == WALLETS * COIN_SUM
        finally:
            bank.stop()
    with contextlib.closing(sqlite3.connect(bank.data / "bank.sqlite")) as store:
        count = "SELECT COUNT(*) FROM mint_auth_token WHERE state = "
        ((reserved,),), ((spent,),) = store.execute(count + "1").fetchall(), store.execute(count + "2").fetchall()
        ((effects,),) = store.execute("SELECT COUNT(DISTINCT operation) FROM mint_output").fetchall()
    assert reserved == 0
    assert spent >= effects > WALLETS


async def _story(bank: BankProcess, issuer: str, home: Path) -> None:
    rng = random.Random(21)
    async with contextlib.AsyncExitStack() as stack:
        wallets = [
            await stack.enter_async_context(
                Wallet.open(
                    home / f"wallet{n}",
                    mint=bank.url,
                    sealed=SealSource(play_key=True),
                    config_home=home / f"config{n}",
                    settings=SETTINGS,
                )
            )
            for n in range(WALLETS)
        ]
        for number, wallet in enumerate(wallets):
            await wallet.auth._logins._keep(bank.url, login(issuer, f"user {number}"))
            assert await wallet.mint(COIN_SUM, timeout_s=30) == COIN_SUM
        done = asyncio.Event()
        swapping = [asyncio.create_task(swap_until(wallet, done)) for wallet in wallets]
        for _ in range(KILLS):
            await asyncio.sleep(rng.uniform(0.3, 1.0))
            bank.kill()
            await asyncio.to_thread(bank.start)
        await asyncio.sleep(0.5)
        done.set()
        assert sum(await asyncio.wait_for(asyncio.gather(*swapping), 60)) > 0, "no wallet felt a kill"
        for wallet in wallets:
            await wallet.resume()
            assert await wallet.operations() == []
            assert (await wallet.balance()).available == COIN_SUM
            (status,) = await wallet.auth.status()
            assert status.uncertain <= 8 * KILLS
            await wallet.split([1])
