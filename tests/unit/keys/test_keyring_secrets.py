"""Secrets in the keyring: bounded entries, no crash or change that makes a wrong secret, and never anything weaker."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specie.kernel.errors import MalformedError, UnavailableError
from specie.keys import KeyringUnsafeError, SealSource, SecretShelf, SecretStore
from specie.keys.adapters import keyring_secrets
from specie.keys.adapters.keyring_secrets import KeyringSecrets
from specie.keys.adapters.seed_store import SeedStore
from specie.keys.adapters.software import SoftwareSigner
from specie.keys.adapters.system_keyring import safe_keyring
from tests.support.entropy import CountingEntropy
from tests.support.keyrings import KilledError, MemoryKeyring

WALLET = "wallet-" + "0" * 32
NAME = "login/https://mint.example"
_STARTS = itertools.count()
LONG, LONGER = "canary " * 700, "other " * 1500


def shelf(ring: MemoryKeyring, wallet: str = WALLET, seed: bytes = bytes(64), start: str = "") -> KeyringSecrets:
    """As a process that has just started sees the keyring."""
    signer = SoftwareSigner(seed, threads=0, entropy=CountingEntropy(start or f"process {next(_STARTS)}"))
    return KeyringSecrets(wallet, signer, lambda: safe_keyring(ring))


@pytest.fixture
def ring() -> MemoryKeyring:
    return MemoryKeyring()


async def test_put_got_replaced_deleted(ring: MemoryKeyring) -> None:
    """Of any length up to 64 KiB, within the bound of the smallest keyring; nothing is left over in the end."""
    secrets: SecretShelf = shelf(ring)
    store: SecretStore = secrets
    assert await store.get(NAME) is None
    for secret in ("", "x", "ü" * 32_768, LONG, "z" * 65_536, "x" * 1500, LONGER):
        await store.put(NAME, secret)
        assert await store.get(NAME) == await shelf(ring).get(NAME) == secret
        sealed = len(secret.encode()) + 100
        assert len(ring.entries) <= 1 + -(-sealed * 4 // 3) // 1024 + 1 + 2  # head and parts, and the list's two
    await store.put("login/other", "y")
    assert await secrets.names() == {NAME, "login/other"}
    await store.delete(NAME)
    assert (await store.get(NAME), await store.get("login/other"), await secrets.names()) == (None, "y", {"login/other"})
    await store.delete(NAME)
    await store.delete("login/other")
    assert ring.entries == {}
    await store.delete("login/other")


async def test_what_a_secret_may_be(ring: MemoryKeyring) -> None:
    """The bounds of `keys.SecretStore`; nothing is written beyond them."""
    secrets = shelf(ring)
    for name, secret in (("", "x"), ("n" * 513, "x"), ("n", "x" * 65_537), ("n", "ü" * 32_769)):
        with pytest.raises(MalformedError):
            await secrets.put(name, secret)
    assert ring.entries == {}
    await secrets.put(NAME, "x")
    for strange in ("", "names", "n" * 600):
        await secrets.delete(strange)
        assert await secrets.get(strange) is None
    assert await shelf(ring).names() == {NAME}


async def test_names_are_bounded_together(ring: MemoryKeyring, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of names is a secret like others; one name too many is refused, and nothing is written for it."""
    monkeypatch.setattr(keyring_secrets, "_MOST_BYTES", 60)
    secrets = shelf(ring)
    await secrets.put("a" * 30, "x")
    before = dict(ring.entries)
    with pytest.raises(MalformedError, match="too many"):
        await secrets.put("b" * 30, "x")
    assert ring.entries == before


async def test_no_entry_shows_a_secret(ring: MemoryKeyring) -> None:
    """Entries are sealed by the signer: whoever reads the keyring alone has neither secret nor name, only the seal's id."""
    await shelf(ring).put(NAME, LONG)
    assert "canary" not in repr(ring.entries)
    assert "mint.example" not in repr(ring.entries)
    assert all(place[0] == "specie-secrets" and place[1].startswith(WALLET) for place in ring.entries)
    assert await shelf(ring, seed=b"\1" * 64).get(NAME) is None


async def test_wallets_share_nothing(ring: MemoryKeyring) -> None:
    """Two wallets of one keyring, even of the same words: what one puts and deletes the other does not see."""
    one, other = shelf(ring), shelf(ring, "wallet-" + "1" * 32)
    await one.put(NAME, "of one")
    assert await other.get(NAME) is None
    await other.put(NAME, "of the other")
    await one.delete(NAME)
    assert (await one.get(NAME), await other.get(NAME)) == (None, "of the other")


async def test_the_keyring_is_called_on_threads(ring: MemoryKeyring) -> None:
    """It blocks, so never on the event loop's thread."""
    await shelf(ring).put(NAME, "x")
    assert threading.current_thread() not in ring.threads


async def test_an_unchanged_secret_costs_one_look(ring: MemoryKeyring) -> None:
    """A request with a token reads the head alone; a new secret of another process is seen all the same."""
    secrets, other = shelf(ring), shelf(ring)
    await secrets.put(NAME, LONG)
    before = ring.reads
    assert await secrets.get(NAME) == LONG
    assert ring.reads == before + 1
    await other.put(NAME, LONGER)
    assert await secrets.get(NAME) == LONGER
    await other.delete(NAME)
    assert await secrets.get(NAME) is None


# -- crashes


async def _killed_at(ring: MemoryKeyring, step: int, work: Callable[[KeyringSecrets], object]) -> bool:
    ring.lives = step
    try:
        await work(shelf(ring))  # type: ignore[misc]
    except KilledError:
        return True
    finally:
        ring.lives = None
    return False


@pytest.mark.parametrize("before", [None, "x", LONG, LONGER])
async def test_killed_while_putting(before: str | None) -> None:
    """At any write: the old secret or the new one, whole; the next put and delete leave nothing over."""
    step, died = 0, True
    while died:
        ring = MemoryKeyring()
        if before is not None:
            await shelf(ring).put(NAME, before)
        died = await _killed_at(ring, step, lambda secrets: secrets.put(NAME, "new " * 1000))
        assert await shelf(ring).get(NAME) in ((before, "new " * 1000) if died else ("new " * 1000,))
        if step % 2:
            await shelf(ring).put(NAME, "last")
            assert await shelf(ring).get(NAME) == "last"
            assert len(ring.entries) == 4
        await shelf(ring).delete(NAME)
        assert ring.entries == {}
        step += 1
    assert step > 6


@pytest.mark.parametrize("others", [0, 1])
async def test_killed_while_deleting(others: int) -> None:
    """At any write: the secret or none; its name stays listed until nothing of it is left, so a repetition cleans up."""
    step, died = 0, True
    while died:
        ring = MemoryKeyring()
        await shelf(ring).put(NAME, LONG)
        for number in range(others):
            await shelf(ring).put(f"other {number}", "x")
        died = await _killed_at(ring, step, lambda secrets: secrets.delete(NAME))
        assert await shelf(ring).get(NAME) in ((LONG, None) if not step else (None,))
        for name in await shelf(ring).names() | {NAME}:
            await shelf(ring).delete(name)
        assert ring.entries == {}
        step += 1
    assert step > 6


async def test_cancelled_while_putting(ring: MemoryKeyring) -> None:
    """The thread goes on after its task is gone; the next put waits for it, and its secret is the one that stays."""
    secrets, started, let_go = shelf(ring), threading.Event(), threading.Event()

    def wait(_: str) -> None:
        started.set()
        assert let_go.wait(10)

    ring.on_read = wait
    first = asyncio.create_task(secrets.put(NAME, LONG))
    assert await asyncio.to_thread(started.wait, 10)
    first.cancel()
    second = asyncio.create_task(secrets.put(NAME, LONGER))
    await asyncio.sleep(0)
    ring.on_read = lambda _: None
    let_go.set()
    await second
    assert first.cancelled()
    assert await shelf(ring).get(NAME) == LONGER


# -- what others do to entries


@pytest.mark.parametrize("tampered", ["", "x", "ü", "\ud800", "A" * 1025, "1 a 2 ", "1 a 99 " + "0" * 64, None])
async def test_a_changed_entry_is_no_secret(tampered: str | None) -> None:
    """Each entry in turn, of a secret and of the list: None, never another secret, and the next put makes it good."""
    ring = MemoryKeyring()
    await shelf(ring).put(NAME, LONG)
    whole = dict(ring.entries)
    for place in whole:
        ring.entries = dict(whole)
        if tampered is None:
            del ring.entries[place]
        else:
            ring.entries[place] = tampered
        secrets = shelf(ring)
        assert await secrets.get(NAME) in (None, LONG)
        assert (await secrets.get(NAME) is None) or (await secrets.names() == frozenset())
        await secrets.put(NAME, "again")
        assert await shelf(ring).get(NAME) == "again"
        assert await shelf(ring).names() == {NAME}


@given(data=st.data())
def test_no_byte_can_be_changed(data: st.DataObject) -> None:
    """One character of one part or head, to any other."""

    async def work() -> None:
        ring = MemoryKeyring()
        await shelf(ring, start="always").put(NAME, LONG)
        place = data.draw(st.sampled_from(sorted(ring.entries)))
        text = ring.entries[place]
        at = data.draw(st.integers(0, len(text) - 1))
        char = data.draw(st.sampled_from(sorted(set("AZaz09-_ 1b") - {text[at]})))
        ring.entries[place] = text[:at] + char + text[at + 1 :]
        secrets = shelf(ring)
        assert (await secrets.get(NAME), await secrets.names()) in ((None, {NAME}), (LONG, frozenset()))

    asyncio.run(work())


async def test_parts_that_fit_their_head_and_are_not_ours(ring: MemoryKeyring) -> None:
    """Whoever writes the keyring can make a head that fits, but no secret; nor put one secret in place of another."""
    secrets = shelf(ring)
    await secrets.put(NAME, LONG)
    await secrets.put("other", LONG)
    mine, other = secrets._user(NAME), secrets._user("other")
    for (service, user), text in list(ring.entries.items()):
        if user.startswith(other):
            ring.entries[service, mine + user.removeprefix(other)] = text
    assert await shelf(ring).get(NAME) is None
    for junk in ("A", "AAAA", "A" * 200):
        ring.entries["specie-secrets", f"{mine}/a0"] = junk
        ring.entries["specie-secrets", mine] = f"1 a 1 {keyring_secrets._digest(junk)}"
        assert await shelf(ring).get(NAME) is None


async def test_a_reader_meets_a_writer(ring: MemoryKeyring) -> None:
    """What another process puts between two looks is read, not taken for damage; who changes it for ever is not waited for."""
    await shelf(ring).put(NAME, LONG)
    stale, user = dict(ring.entries), shelf(ring)._user(NAME)
    await shelf(ring).put(NAME, LONGER)
    fresh = dict(ring.entries)
    ring.entries = dict(stale)

    def turned(place: str) -> None:
        if place == f"{user}/a1":
            ring.entries = dict(fresh)

    ring.on_read = turned
    assert await shelf(ring).get(NAME) == LONGER

    def restless(place: str) -> None:
        if place == user:
            ring.reads += 1
            ring.entries["specie-secrets", user] = f"1 a 1 {ring.reads:064x}"

    ring.on_read = restless
    assert await shelf(ring).get(NAME) is None


# -- keyrings that do not work


@pytest.mark.parametrize("refusal", [OSError("the bus is gone"), RuntimeError("x"), None])
async def test_a_keyring_that_fails_is_a_matter_of_time(ring: MemoryKeyring, refusal: Exception | None) -> None:
    """Locked, or an error of whatever lies below it: to be tried again, and nothing is lost or kept elsewhere."""
    secrets = shelf(ring)
    await secrets.put(NAME, LONG)
    if refusal is None:
        ring.lock()
    else:
        ring.refusal = refusal
    for work in (secrets.get(NAME), secrets.put(NAME, "x"), secrets.put("new", "x"), secrets.delete(NAME), secrets.names()):
        with pytest.raises(UnavailableError, match="keyring did not answer") as caught:
            await work
        assert "canary" not in str(caught.value)
    ring.refusal = None
    assert await secrets.get(NAME) == LONG


async def test_a_keyring_with_a_smaller_bound(ring: MemoryKeyring) -> None:
    """What it refuses is an error, and the secret before it stays."""
    secrets = shelf(ring)
    await secrets.put(NAME, "x")
    ring.most_bytes = 1000
    with pytest.raises(UnavailableError):
        await secrets.put(NAME, LONG)
    assert await shelf(ring).get(NAME) == "x"


async def test_a_keyring_that_forgets_is_noticed(ring: MemoryKeyring, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was put is read again before it counts as kept."""
    monkeypatch.setattr(MemoryKeyring, "set_password", lambda *_: None)
    with pytest.raises(UnavailableError, match="does not keep"):
        await shelf(ring).put(NAME, "x")


async def test_an_unsafe_keyring_gets_nothing() -> None:
    """A keyring that is not known to be safe is refused at each call, not at the start alone."""

    class Plain(MemoryKeyring):
        pass

    Plain.__module__ = "keyrings.alt.file"
    plain = Plain()
    with pytest.raises(KeyringUnsafeError):
        await shelf(plain).put(NAME, "x")
    assert plain.entries == {}


async def test_beside_a_seed(ring: MemoryKeyring, tmp_path: Path) -> None:
    """Only a seed that the keyring seals has its secrets there, named after the seal; sealed anew, it has other names."""
    seeds = SeedStore(tmp_path, entropy=CountingEntropy(), use="wallet", backend=ring, config_home=tmp_path / "config")
    signer = SoftwareSigner(bytes(64), threads=0, entropy=CountingEntropy("beside"))
    made = seeds.create(bytes(16), SealSource(keyring=True), all_play=True)
    first = seeds.secrets(made, signer)
    assert first is not None
    await first.put(NAME, "x")
    assert all(user.startswith(made.key_name) for _, user in ring.entries)
    again = seeds.secrets(seeds.open(SealSource(keyring=True), all_play=True), signer)
    assert again is not None
    assert await again.get(NAME) == "x"
    anew = seeds.reseal(SealSource(keyring=True), SealSource(keyring=True), all_play=True)
    assert anew.key_name != made.key_name
    assert seeds.secrets(seeds.reseal(SealSource(keyring=True), SealSource(passphrase="p"), all_play=True), signer) is None


def test_the_list_is_plain_json_inside() -> None:
    """Sorted, so that the same names make the same list."""
    assert json.loads(keyring_secrets._index(frozenset({"b", "a"}))) == ["a", "b"]
