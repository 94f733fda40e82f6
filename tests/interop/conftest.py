"""Fixtures of the interop tests: peers' wallets and mints.

A peer that is not installed is a missing component (`tests.support.components`).
"""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.interop.matrix import FundedPair, OpenWallet
from tests.interop.ours import OurWallet, OurWallets
from tests.interop.peers import (
    Driver,
    MintProcess,
    PeerWallet,
    cashu_ts_command,
    free_port,
    fresh_words,
    missing_peer,
    nutshell_command,
    our_environment,
    peers_directory,
    run_mint,
)
from tests.interop.provider import OpenIdProvider, missing_provider, run_provider
from tests.support.components import missing_component


def _need(name: str) -> None:
    reason = missing_peer(name)
    if reason is not None:
        missing_component(name, reason)


@pytest.fixture(scope="session")
def cashu_ts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """The cashu-ts wallet's driver."""
    _need("cashu_ts")
    driver = Driver("cashu-ts", cashu_ts_command(), tmp_path_factory.mktemp("cashu_ts"))
    yield driver
    driver.close()


@pytest.fixture(scope="session")
def nutshell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """The Nutshell wallet's driver."""
    _need("nutshell")
    driver = Driver("nutshell", nutshell_command(), tmp_path_factory.mktemp("nutshell"))
    yield driver
    driver.close()


@pytest.fixture
def driver(kind: str, request: pytest.FixtureRequest) -> Driver:
    """The driver of the peer that the test's `kind` names."""
    found: Driver = request.getfixturevalue(kind.replace("-", "_"))
    return found


SLOW_PAYMENT_S = 2


def _nutshell_mint(
    home: Path, pay_delay_s: int = 0, *, port: int | None = None, key: str | None = None, **settings: str
) -> AbstractContextManager[MintProcess]:
    """A Nutshell mint whose fake backend pays its own invoices; 100 ppk input fee, no rate limits."""
    port = port or free_port()
    environment = {
        "CASHU_DIR": str(home / "cashu"),
        "DEBUG": "FALSE",
        "FAKEWALLET_BALANCE_SAT": "100000000",
        "FAKEWALLET_DELAY_INCOMING_PAYMENT": str(pay_delay_s),
        "FAKEWALLET_DELAY_OUTGOING_PAYMENT": "0",
        "LOG_LEVEL": "ERROR",
        "MINT_BACKEND_BOLT11_SAT": "FakeWallet",
        "MINT_DATABASE": str(home / "mint"),
        "MINT_LISTEN_HOST": "127.0.0.1",
        "MINT_LISTEN_PORT": str(port),
        "MINT_PRIVATE_KEY": key or secrets.token_hex(32),
        "MINT_QUOTE_BACKEND_CHECK_RATE_LIMIT": "0",
        "MINT_RATE_LIMIT": "FALSE",
        "TOR": "FALSE",
        **settings,
    }
    python = str(peers_directory() / "nutshell" / "bin" / "python")
    return run_mint("nutshell", [python, "-m", "cashu.mint", "--timeout-keep-alive=75"], home, port, environment)


@contextmanager
def _specie_mint(home: Path, pay_delay_s: int, *, rails: str = "", **mint_settings: int | str) -> Iterator[MintProcess]:
    """Our mint as its user starts it; its play rails pay their own requests. In the end its books must balance."""
    port, data = free_port(), str(home / "data")
    home.mkdir(exist_ok=True)
    config = home / "bank.toml"
    config.write_text(rails)
    command = [sys.executable, "-m", "specie", "up", "--config", str(config), "--data", data, "--port", str(port)]
    settings = {f"SPECIE_MINT_{name.upper()}": str(value) for name, value in mint_settings.items()}
    environment = our_environment(home, settings)
    with run_mint("specie", [*command, "--autopay-delay", str(pay_delay_s)], home, port, environment) as mint:
        yield mint
        verify = [sys.executable, "-m", "specie", "mint", "liabilities", "--verify", "--config", str(config), "--data", data]
        books = subprocess.run(verify, env=our_environment(home), cwd=home, capture_output=True, text=True, timeout=60)
        assert books.returncode == 0, f"the books do not balance:\n{books.stdout}{books.stderr}"


@pytest.fixture(scope="session")
def nutshell_mint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MintProcess]:
    """A Nutshell mint whose invoices are paid at once."""
    _need("nutshell")
    with _nutshell_mint(tmp_path_factory.mktemp("nutshell_mint"), 0) as running:
        yield running


@pytest.fixture
def nutshell_runs(tmp_path: Path) -> Callable[..., AbstractContextManager[MintProcess]]:
    """Runs of one Nutshell mint, each with settings of its own: `with nutshell_runs(NAME="value") as mint`."""
    _need("nutshell")
    port, key = free_port(), secrets.token_hex(32)
    return lambda **settings: _nutshell_mint(tmp_path, port=port, key=key, **settings)


@pytest.fixture(scope="session")
def slow_nutshell_mint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MintProcess]:
    """A Nutshell mint whose invoices are paid after SLOW_PAYMENT_S."""
    _need("nutshell")
    with _nutshell_mint(tmp_path_factory.mktemp("slow_nutshell_mint"), SLOW_PAYMENT_S) as running:
        yield running


@pytest.fixture(scope="session")
def specie_mint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MintProcess]:
    """Our mint with an input fee of 100 ppk, whose invoices are paid at once."""
    with _specie_mint(tmp_path_factory.mktemp("specie_mint"), 0, input_fee_ppk=100) as running:
        yield running


@pytest.fixture(scope="session")
def old_ids_specie_mint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MintProcess]:
    """Our mint with 8-byte keyset ids (NUT-02 v1) and without a fee, whose invoices are paid at once."""
    with _specie_mint(tmp_path_factory.mktemp("old_ids_specie_mint"), 0, keyset_version=0) as running:
        yield running


@pytest.fixture
def rotated_mint(tmp_path: Path) -> Iterator[MintProcess]:
    """A mint of ours for one test, which may rotate its keysets."""
    with _specie_mint(tmp_path, 0, input_fee_ppk=100) as running:
        yield running


@pytest.fixture(scope="session")
def two_unit_mint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MintProcess]:
    """Our mint issuing sat and msat."""
    with _specie_mint(tmp_path_factory.mktemp("two_unit_mint"), 0, units="sat,msat") as running:
        yield running


@pytest.fixture(scope="session")
def slow_specie_mint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MintProcess]:
    """Our mint, whose invoices are paid after SLOW_PAYMENT_S."""
    with _specie_mint(tmp_path_factory.mktemp("slow_specie_mint"), SLOW_PAYMENT_S) as running:
        yield running


_RAILS = """
[[rails]]
network = "{network}"
[[rails]]
method = "bolt12"
[[rails]]
method = "onchain"
confirmations = 2
block_s = 0.2
"""


@pytest.fixture(scope="session")
def method_mints(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MintProcess, MintProcess]]:
    """Two mints of ours with every method, a block each 0.2 s, and one network on which parts of an invoice meet."""
    home = tmp_path_factory.mktemp("method_mints")
    rails = _RAILS.format(network=home / "network.sqlite")
    with _specie_mint(home / "one", 0, rails=rails) as one, _specie_mint(home / "other", 0, rails=rails) as other:
        yield one, other


@pytest.fixture
def method_mint(method_mints: tuple[MintProcess, MintProcess]) -> MintProcess:
    """The first of the `method_mints`."""
    return method_mints[0]


@pytest.fixture
def openid_provider(tmp_path: Path) -> Iterator[OpenIdProvider]:
    """An OpenID provider for one test, which may rotate its keys."""
    reason = missing_provider()
    if reason is not None:
        missing_component("openid", reason)
    home = tmp_path / "provider"
    home.mkdir()
    with run_provider(home) as running:
        yield running


@pytest.fixture
def guarded_mint(openid_provider: OpenIdProvider, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[MintProcess]:
    """Our mint for a provider's users alone, with blind tokens; its invoices are paid after SLOW_PAYMENT_S.

    A test's parameter, if it has one, is how many blind tokens are minted at once.
    """
    settings: dict[str, int | str] = {
        "auth_openid_discovery": openid_provider.discovery,
        "auth_audience": "urn:specie:mint",
        "auth_blind_endpoints": "POST /v1/swap,POST /v1/mint/*,POST /v1/melt/*,POST /v1/checkstate,GET /v1/ws",
        "auth_bat_max_mint": getattr(request, "param", 50),
    }
    with _specie_mint(tmp_path / "mint", SLOW_PAYMENT_S, **settings) as running:
        yield running


@pytest.fixture(scope="session")
def our_wallets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OurWallets]:
    """A place for wallets of ours."""
    wallets = OurWallets(tmp_path_factory.mktemp("our_wallets"))
    yield wallets
    wallets.close()


@pytest.fixture
def open_wallet(request: pytest.FixtureRequest) -> OpenWallet:
    """Opens a wallet: `open_wallet(kind, mint)` a new one, `open_wallet(kind, mint, words)` another device of an old one."""

    def opened(kind: str, mint: MintProcess, words: str | None = None) -> PeerWallet | OurWallet:
        if kind == "specie":
            return OurWallet(request.getfixturevalue("our_wallets"), mint.url, words or fresh_words())
        driver: Driver = request.getfixturevalue(kind.replace("-", "_"))
        return PeerWallet(driver, mint.url, words or fresh_words())

    return opened


@pytest.fixture(scope="session")
def _standing() -> dict[tuple[str, str, str], PeerWallet | OurWallet]:
    return {}


@pytest.fixture
def funded_pair(open_wallet: OpenWallet, _standing: dict[tuple[str, str, str], PeerWallet | OurWallet]) -> FundedPair:
    """Two wallets at a mint, `funded_pair(sender, receiver, mint)`; the sender has at least 100. They are used again by the
    next test that asks for them, so tests look at what changes."""

    def standing(role: str, kind: str, mint: MintProcess) -> PeerWallet | OurWallet:
        key = (role, kind, mint.url)
        if key not in _standing:
            _standing[key] = open_wallet(kind, mint)
        return _standing[key]

    def pair(sender: str, receiver: str, mint: MintProcess) -> tuple[PeerWallet | OurWallet, PeerWallet | OurWallet]:
        giver = standing("giver", sender, mint)
        if giver.balance < 100:
            giver.mint(500)
        return giver, standing("taker", receiver, mint)

    return pair


@pytest.fixture
def mint(request: pytest.FixtureRequest) -> MintProcess:
    """The mint named by the test's parameter: "specie" or "nutshell"."""
    running: MintProcess = request.getfixturevalue(f"{request.param}_mint")
    return running


@pytest.fixture
def slow_mint(request: pytest.FixtureRequest) -> MintProcess:
    """Like `mint`, but an invoice stays unpaid for SLOW_PAYMENT_S, so that somebody else can pay it first."""
    running: MintProcess = request.getfixturevalue(f"slow_{request.param}_mint")
    return running


@pytest.fixture
def stranger_invoice(nutshell: Driver) -> Callable[[int], str]:
    """Makes regtest invoices of a node that no mint here knows: `stranger_invoice(amount_sat)`."""

    def made(amount_sat: int) -> str:
        return str(nutshell.call("invoice", amount_msat=amount_sat * 1000, currency="bcrt")["request"])

    return made
