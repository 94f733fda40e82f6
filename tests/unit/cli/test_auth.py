"""`specie wallet login`, `logout` and `auth status`, at a mint and a provider in this process."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from specie.cli.wallet import auth
from specie.wallet import Wallet
from tests.support.guarded import GuardedWorld, guarded_world
from tests.support.wallets import MINT_URL
from tests.unit.cli.conftest import Ran

Specie = Callable[..., Ran]


@pytest.fixture
def mint(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The wallet of each command is one at a guarded mint; `before` is done to it first, and `world` is the last one's."""
    known: dict[str, Any] = {"before": lambda wallet, world: None}

    @contextlib.asynccontextmanager
    async def opened(choice: object, screen: object) -> AsyncIterator[Wallet]:
        async with guarded_world() as world:
            known["world"] = world
            wallet = await world.user()
            done = known["before"](wallet, world)
            if done is not None:
                await done
            yield wallet

    monkeypatch.setattr(auth, "opened", opened)
    return known


async def logged_in(wallet: Wallet, world: GuardedWorld) -> None:
    await wallet.auth.login(await wallet.auth.offer(MINT_URL), lambda url: None)
    await wallet.add_mint(MINT_URL)


def test_nothing_is_contacted_before_the_user_says_so(specie: Specie, mint: dict[str, Any]) -> None:
    """Where nobody can be asked the answer is no, and the provider hears nothing."""
    ran = specie("wallet", "login", MINT_URL)
    assert ran.code == 3
    assert "login.example was not contacted" in ran.err
    assert mint["world"].desk.forms == []


def test_a_login_prints_where_to_go_and_what_came_of_it(specie: Specie, mint: dict[str, Any]) -> None:
    """The address on standard error, bare; the result on standard output, as text or JSON."""
    ran = specie("wallet", "login", MINT_URL, "--yes", "--no-browser")
    assert ran.code == 0, ran.err
    assert "https://login.example/realms/bank/auth?response_type=code" in ran.err.replace("\n", "")
    assert "logged in at login.example" in ran.out
    facts = specie("wallet", "login", MINT_URL, "--yes", "--json").json()
    assert facts["logged_in"] is True
    assert facts["renewable"] is True
    assert "token" not in json.dumps(facts)


def test_a_device_code_is_shown(specie: Specie, mint: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Code and address, for any device."""

    def at_once(wallet: Wallet, world: GuardedWorld) -> None:
        async def no_sleep(seconds: float) -> None:
            world.clock.skip(seconds)

        monkeypatch.setattr(world.clock, "sleep", no_sleep)

    mint["before"] = at_once
    ran = specie("wallet", "login", MINT_URL, "--yes", "--device")
    assert ran.code == 0, ran.err
    assert "open https://login.example/realms/bank/device on any device and type ABCD" in ran.err


def test_a_password_comes_from_a_file_or_unseen(specie: Specie, mint: dict[str, Any], tmp_path: Path) -> None:
    """Never from the command line, which others can read."""
    file = tmp_path / "password"
    file.write_text("swordfish\n")
    ran = specie("wallet", "login", MINT_URL, "--yes", "--user", "alice", "--password-file", str(file))
    assert ran.code == 0, ran.err
    assert mint["world"].desk.forms[0]["password"] == "swordfish"
    assert specie("wallet", "login", MINT_URL, "--yes", "--user", "a", "--password-file", str(tmp_path / "no")).code == 2


@pytest.mark.parametrize("words", [("--device", "--user", "alice"), ("--password-file", "x")])
def test_ways_that_contradict_each_other_are_refused(specie: Specie, mint: dict[str, Any], words: tuple[str, ...]) -> None:
    """Told before anything is opened."""
    assert specie("wallet", "login", MINT_URL, *words).code == 2
    assert "world" not in mint


def test_status_and_logout(specie: Specie, mint: dict[str, Any]) -> None:
    """How the wallet stands, for people and programs; leaving is told apart from never having been there."""
    assert "no mint of this wallet asks for a login" in specie("wallet", "auth", "status").out
    assert specie("wallet", "logout", MINT_URL, "--json").json() == {"mint": MINT_URL, "logged_out": False}
    assert "there was no login" in specie("wallet", "logout", MINT_URL).out
    mint["before"] = logged_in
    (status,) = specie("wallet", "auth", "status", "--json").json()["mints"]
    assert (status["mint"], status["host"], status["ready"]) == (MINT_URL, "login.example", 0)
    assert "renewed by itself" in specie("wallet", "auth").out
    assert "logged out" in specie("wallet", "logout", MINT_URL).out


@pytest.mark.parametrize(("expires_in", "told"), [(300, "until 2027-01-15"), (None, "yes")])
def test_a_login_that_is_not_renewed_says_until_when(
    specie: Specie, mint: dict[str, Any], expires_in: int | None, told: str
) -> None:
    """Without a refresh token, the end of the login; and where there is none, how to get one."""

    async def short(wallet: Wallet, world: GuardedWorld) -> None:
        from specie.wallet.auth import TokenAnswer

        async def tokens(endpoint: str, form: object) -> TokenAnswer:
            return TokenAnswer(world.provider.token(), None, expires_in)

        world.desk.tokens = tokens  # type: ignore[method-assign,assignment]
        await logged_in(wallet, world)

    mint["before"] = short
    assert told in specie("wallet", "auth", "status").out

    async def stranger(wallet: Wallet, world: GuardedWorld) -> None:
        await wallet.add_mint(MINT_URL)

    mint["before"] = stranger
    assert "no: specie wallet login" in specie("wallet", "auth", "status").out
