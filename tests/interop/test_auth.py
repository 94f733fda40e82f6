"""Authentication with a certified OpenID provider: every wallet at our mint, ours at Nutshell's too (NUT-21, NUT-22)."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mnemonic import Mnemonic
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from specie.app.wallet import Wallet
from specie.ecash.codes import ClearAuthFailedError, error_from_code
from specie.keys import SealSource
from specie.wallet import DeviceCode
from specie.wallet.errors import LoginRequiredError
from tests.interop.peers import Driver, MintProcess, PeerError, PeerWallet, fresh_words, our_environment
from tests.interop.provider import OpenIdProvider, User, redirect_port

PLAY = SealSource(play_key=True)
pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]


def _opened(home: Path, name: str, mint: MintProcess | None = None, *, sealed: SealSource = PLAY) -> Any:
    url = None if mint is None else mint.url
    return Wallet.open(home / name, sealed=sealed, words=fresh_words(), mint=url, config_home=home / f"{name}-config")


async def _log_in(wallet: Wallet, mint: MintProcess, name: str = "alice") -> None:
    """Through the browser: the user follows the provider's pages back to the wallet's own port."""
    user = User(name)
    pages: list[str] = []
    browser: list[threading.Thread] = []

    def show(url: str) -> None:
        browser.append(threading.Thread(target=lambda: pages.append(user.visit(url))))
        browser[0].start()

    try:
        with redirect_port():
            await wallet.auth.login(await wallet.auth.offer(mint.url), show, timeout_s=60)
            await asyncio.to_thread(browser[0].join, 20)
    finally:
        user.close()
    assert "logged in" in pages[0]


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA"])
def test_our_wallet_with_a_browser(
    openid_provider: OpenIdProvider, guarded_mint: MintProcess, tmp_path: Path, algorithm: str
) -> None:
    """Authorization code with PKCE at a real provider, tokens of each algorithm, then money in, over and out."""
    openid_provider.start(algorithm, "first")

    async def story() -> None:
        async with _opened(tmp_path, "alice", guarded_mint) as alice, _opened(tmp_path, "bob", guarded_mint) as bob:
            with pytest.raises(LoginRequiredError):
                await alice.mint(64)
            await _log_in(alice, guarded_mint)
            await _log_in(bob, guarded_mint, "bob")
            assert await alice.mint(64, timeout_s=30) == 64
            receipt = await bob.receive((await alice.send(21)).text)
            assert receipt.amount == 21
            quote = await bob.mint_quote(5)
            assert (await alice.pay(quote.request)).state == "PAID"
            (status,) = await alice.auth.status()
            assert status.logged_in
            assert status.renewable
            assert status.ready > 0

    asyncio.run(story())


def test_a_device_code_a_renewal_and_a_logout(
    openid_provider: OpenIdProvider, guarded_mint: MintProcess, tmp_path: Path
) -> None:
    """RFC 8628 at a real provider, whose refresh tokens rotate; logged out, the wallet is a stranger again."""

    async def story() -> None:
        user = User("carol")
        async with _opened(tmp_path, "carol", guarded_mint) as carol:

            def show(code: DeviceCode) -> None:
                assert code.verification_uri_complete is not None
                user.enter(code.verification_uri_complete)

            await carol.auth.login_with_device(await carol.auth.offer(guarded_mint.url), show)
            assert await carol.mint(8, timeout_s=30) == 8
            logins, setting = carol.auth._logins, (await carol.auth._needs(_client(carol, guarded_mint), *_MINTING))[0]
            assert setting is not None
            first = await logins.token(guarded_mint.url, setting)
            second = await logins.token(guarded_mint.url, setting, renew=True)
            third = await logins.token(guarded_mint.url, setting, renew=True)
            assert len({first, second, third}) == 3
            await carol.auth.logout(guarded_mint.url)
            with pytest.raises(LoginRequiredError):
                await carol.split([1])
        user.close()

    asyncio.run(story())


_MINTING = ("POST", "/v1/auth/blind/mint")


def _client(wallet: Wallet, mint: MintProcess) -> Any:
    return wallet._context.client(mint.url)._client  # type: ignore[attr-defined]


def test_a_rotation_of_the_providers_keys_and_a_forged_token(
    openid_provider: OpenIdProvider, guarded_mint: MintProcess, tmp_path: Path
) -> None:
    """Keys that are gone no longer open anything, keys that are new do within seconds, and no mint is restarted."""

    async def story() -> None:
        async with _opened(tmp_path, "dave", guarded_mint) as dave:
            await _log_in(dave, guarded_mint)
            assert await dave.mint(8, timeout_s=30) == 8
            login = await dave.auth._logins.login(guarded_mint.url)
            assert login is not None
            openid_provider.start("RS256", "second")
            await _log_in(dave, guarded_mint)
            end = time.monotonic() + 40
            while True:
                await dave.auth._pool.forget(guarded_mint.url)
                try:
                    assert await dave.mint(8, timeout_s=30) == 8
                    break
                except (LoginRequiredError, ClearAuthFailedError):  # the mint looks at the keys every ten seconds
                    assert time.monotonic() < end
                    await asyncio.sleep(1)
                    await _log_in(dave, guarded_mint)
            refused = await asyncio.to_thread(_ask_for_tokens, guarded_mint, login.access_token)
            assert refused.json()["code"] == 30002

    asyncio.run(story())


def _ask_for_tokens(mint: MintProcess, token: str) -> httpx2.Response:
    with httpx2.Client(trust_env=False) as client:
        return client.post(f"{mint.url}/v1/auth/blind/mint", content=b'{"outputs":[]}', headers={"clear-auth": token})


def test_the_terminal(openid_provider: OpenIdProvider, guarded_mint: MintProcess, tmp_path: Path) -> None:
    """`specie wallet login`, `auth status` and `logout`, as a person and as a program use them."""
    environment = our_environment(tmp_path / "home")

    def run(*command: str, code: int = 0) -> dict[str, Any]:
        argv = [sys.executable, "-m", "specie", "wallet", *command, "--json"]
        done = subprocess.run(argv, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        answer: dict[str, Any] = json.loads((done.stdout or done.stderr).strip().splitlines()[-1])
        return answer

    run("mints", "add", guarded_mint.url)
    assert run("mint", "10", code=3)["error"]["error"] == "LoginRequiredError"
    assert run("login", guarded_mint.url, code=3)["error"]["error"] == "DeclinedError"
    argv = [sys.executable, "-m", "specie", "wallet", "login", guarded_mint.url, "--device", "--yes", "--json"]
    with subprocess.Popen(
        argv, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        line = next(text for text in process.stderr if text.startswith("or open "))
        user = User("erin")
        user.enter(line.removeprefix("or open ").strip())
        user.close()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert json.loads(out)["logged_in"] is True
    assert run("mint", "10")["amount"] == 10
    (status,) = run("auth", "status")["mints"]
    assert status["host"] == f"127.0.0.1:{openid_provider.port}"
    assert status["logged_in"] is True
    assert status["ready"] > 0
    assert run("logout", guarded_mint.url)["logged_out"] is True
    assert run("auth")["mints"][0]["logged_in"] is False


def test_cashu_ts_with_a_login_and_blind_tokens(
    cashu_ts: Driver, openid_provider: OpenIdProvider, guarded_mint: MintProcess, tmp_path: Path
) -> None:
    """The cashu-ts wallet logs in by device code, mints its pool at our mint, and its money and ours change hands."""
    seed = Mnemonic.to_seed(fresh_words()).hex()
    opened = cashu_ts.call("open_auth", mint=guarded_mint.url, unit="sat", seed=seed, pool=10)
    user = User("frank")
    user.enter(opened["visit"])
    user.close()
    peer = _guarded(cashu_ts, guarded_mint, opened["wallet"])
    assert cashu_ts.call("login", peer.handle)["pool"] == 10
    assert peer.mint(100) == 100
    assert cashu_ts.call("pool", peer.handle)["pool"] < 10
    for _ in range(6):  # more requests than one pool holds
        peer.swap()
    asyncio.run(_trade(peer, guarded_mint, tmp_path))


def _guarded(driver: Driver, mint: MintProcess, handle: int) -> PeerWallet:
    """The wallet that the driver opened with `open_auth`, without money."""
    peer = PeerWallet.__new__(PeerWallet)
    peer.driver, peer.mint_url, peer.handle, peer.balance, peer._privkeys = driver, mint.url, handle, 0, []
    return peer


async def _trade(peer: PeerWallet, mint: MintProcess, tmp_path: Path) -> None:
    """Tokens of a peer's wallet and of ours change hands, and the peer pays our invoice."""
    async with _opened(tmp_path, "grace", mint) as grace:
        await _log_in(grace, mint)
        await grace.receive(await asyncio.to_thread(peer.send, 33))
        assert await asyncio.to_thread(peer.receive, (await grace.send(12)).text) == 12
        quote = await grace.mint_quote(7)
        assert (await asyncio.to_thread(peer.melt, quote.request))["state"] == "PAID"
        assert await grace.claim(await grace.wait(quote, timeout_s=30)) == 7


@pytest.mark.parametrize("flow", ["code", "device"])
@pytest.mark.parametrize("guarded_mint", [12], indirect=True)
def test_nutshell_with_a_login_and_blind_tokens(
    nutshell: Driver, openid_provider: OpenIdProvider, guarded_mint: MintProcess, tmp_path: Path, flow: str
) -> None:
    """Without a token Nutshell is refused; by either flow it logs in, mints a pool, spends all of it, and mints another."""
    openid_provider.start(pkce=flow == "device", token_s=60)  # Nutshell renews what ends within a minute, so each time
    stranger = PeerWallet(nutshell, guarded_mint.url, fresh_words())
    nutshell.call("unaware", stranger.handle)
    with pytest.raises(PeerError) as refused:
        stranger.mint_quote(8)
    assert refused.value.code == 31001

    about = {"mint": guarded_mint.url, "unit": "sat", "words": fresh_words(), "directory": str(tmp_path / "nutshell")}
    user = User("judy")
    with redirect_port():
        opened = nutshell.call("open_auth", **about, device=flow == "device")
        if flow == "device":
            user.enter(opened["visit"])
        else:
            assert "Authentication Successful" in user.visit(opened["visit"])
        first = nutshell.call("login", opened["wallet"])
    user.close()
    peer = _guarded(nutshell, guarded_mint, opened["wallet"])
    assert first["pool"] == 12
    assert peer.mint(100) == 100
    peer.swap()
    assert nutshell.call("pool", peer.handle)["pool"] == 12 - 3  # the quote, the coins, the swap
    asyncio.run(_trade(peer, guarded_mint, tmp_path))

    token = nutshell.call("take", peer.handle)
    assert _ask_for_states(guarded_mint, token).json() == {"states": []}
    assert _ask_for_states(guarded_mint, token).json()["code"] == 31002
    for _ in range(nutshell.call("pool", peer.handle)["pool"]):
        peer.swap()
    with pytest.raises(PeerError, match="no blind auth tokens"):
        peer.swap()
    second = nutshell.call("top_up", peer.handle)
    assert second["pool"] == 12
    assert second["login"] != first["login"]
    peer.swap()


def _ask_for_states(mint: MintProcess, token: str) -> httpx2.Response:
    with httpx2.Client(trust_env=False) as client:
        return client.post(f"{mint.url}/v1/checkstate", content=b'{"Ys":[]}', headers={"blind-auth": token})


def test_the_socket_of_a_guarded_mint(openid_provider: OpenIdProvider, guarded_mint: MintProcess, tmp_path: Path) -> None:
    """A stranger is refused with an HTTP answer that holds the code; our wallet hears of its payment through the socket."""

    async def story() -> None:
        address = guarded_mint.url.replace("http", "ws") + "/v1/ws"
        with pytest.raises(InvalidStatus) as refused:
            await connect(address)
        assert refused.value.response.status_code == 400
        assert json.loads(refused.value.response.body or b"")["code"] == 31001
        async with _opened(tmp_path, "heidi", guarded_mint) as heidi:
            await _log_in(heidi, guarded_mint)
            quote = await heidi.mint_quote(9)
            watching = _client(heidi, guarded_mint).watch("bolt11_mint_quote", quote.quote)
            async with asyncio.timeout(20):
                await anext(watching)
            await watching.aclose()

    asyncio.run(story())


def test_our_wallet_at_a_guarded_mint_of_nutshell(
    openid_provider: OpenIdProvider, nutshell_runs: Callable[..., AbstractContextManager[MintProcess]], tmp_path: Path
) -> None:
    """A forged login is refused with a code that we read; with a real one, blind tokens, a mint and a swap go through."""

    async def story(mint: MintProcess) -> None:
        sealed = SealSource(passphrase="of the interop tests")  # Nutshell does not say that its money is play money
        async with _opened(tmp_path, "ivan", mint, sealed=sealed) as ivan:
            with pytest.raises(LoginRequiredError):
                await ivan.mint(64)
            await _log_in(ivan, mint, "ivan")
            assert await ivan.mint(64, timeout_s=30) == 64
            await ivan.split([8, 8])
            (status,) = await ivan.auth.status()
            assert status.ready > 0

    settings = {
        "MINT_REQUIRE_AUTH": "TRUE",
        "MINT_AUTH_OICD_DISCOVERY_URL": openid_provider.discovery,
        "MINT_AUTH_DATABASE": str(tmp_path / "auth"),
        "MINT_AUTH_RATE_LIMIT_PER_MINUTE": "1000",
        "MINT_INPUT_FEE_PPK": "0",  # its auth keyset's id counts a fee in that the mint does not tell
    }
    with nutshell_runs(**settings) as mint:
        refused = _ask_for_tokens(mint, "e30.e30.e30").json()
        assert isinstance(error_from_code(refused["code"], refused["detail"]), ClearAuthFailedError)
        asyncio.run(story(mint))
