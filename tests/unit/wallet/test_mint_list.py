"""The backup of the list of mints (NUT-27): merged, never shortened, and restored by choice."""

from __future__ import annotations

import json

import pytest

from specie.ecash import wire
from specie.kernel.errors import MalformedError, UnavailableError
from specie.wallet import Transports, Wallet
from specie.wallet.errors import TransportUnsupportedError
from tests.support.payees import MemoryNostr, MemoryRelays
from tests.support.wallets import MINT_URL, World, virtually, world

ONE, TWO = "wss://one.test", "wss://two.test"
WORDS = "zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo wrong"


async def device(w: World, relays: MemoryRelays, *, trusted: bool = True) -> Wallet:
    """A device of one owner."""
    found: list[Wallet] = []

    def nostr() -> MemoryNostr:
        return MemoryNostr(relays, found[0]._context.signer)

    found.append(await w.wallet(words=WORDS, trusted=trusted, transports=Transports(nostr=nostr)))
    return found[0]


@virtually
async def test_another_device_finds_the_mints() -> None:
    """What one device wrote, another of the same words reads; nothing is added until the owner says so."""
    async with world() as w:
        relays = MemoryRelays()
        first, second = await device(w, relays), await device(w, relays, trusted=False)
        assert (await second.mint_list.restore([ONE])).mints == ()
        written = await first.mint_list.backup([ONE, TWO])
        assert (written.mints, written.new, written.relays) == ((MINT_URL,), (), 2)
        found = await second.mint_list.restore([TWO])
        assert (found.mints, found.new, found.written_at) == ((MINT_URL,), (MINT_URL,), w.clock.now())
        assert await second.mints() == []
        for url in found.new:
            await second.add_mint(url)
        assert (await second.mint_list.restore([ONE])).new == ()


@virtually
async def test_longer_list_of_another_device_is_kept() -> None:
    """A device that knows fewer mints adds its own; and writes nothing where nothing is new and all relays have it."""
    async with world() as w:
        relays = MemoryRelays()
        wallet = await device(w, relays)
        public = (await wallet._context.signer.public_key("mint-backup"))[1:]
        key = (ONE, public, 30078, "mint-list")
        ahead = w.clock.now() + 1000
        relays.records[key] = (ahead, wire.mint_list_to_json(["https://other.test"], ahead).decode())
        merged = await wallet.mint_list.backup([ONE])
        assert merged.mints == ("https://other.test", MINT_URL)
        assert merged.new == ("https://other.test",)
        assert relays.records[key][0] == ahead + 1  # else the relay would keep the older one
        before = dict(relays.records)
        assert (await wallet.mint_list.backup([ONE])).mints == merged.mints
        assert relays.records == before
        assert (await wallet.mint_list.backup([ONE, TWO])).relays == 2
        assert {relay for relay, *_ in relays.records} == {ONE, TWO}


@virtually
async def test_relay_that_did_not_answer_is_not_written_to() -> None:
    """It may hold a longer list; where none answers nothing is written at all."""
    async with world() as w:
        relays = MemoryRelays()
        wallet = await device(w, relays)
        relays.dead.add(TWO)
        assert (await wallet.mint_list.backup([ONE, TWO])).relays == 1
        assert {relay for relay, *_ in relays.records} == {ONE}
        with pytest.raises(UnavailableError):
            await wallet.mint_list.backup([TWO])
        with pytest.raises(MalformedError):
            await wallet.mint_list.restore([])
        plain = await w.wallet()
        with pytest.raises(TransportUnsupportedError):
            await plain.mint_list.backup([ONE])


@virtually
async def test_unreadable_list_is_not_overwritten() -> None:
    """Something of a later version, or of another program, stands: it is said so and left."""
    async with world() as w:
        relays = MemoryRelays()
        wallet = await device(w, relays)
        public = (await wallet._context.signer.public_key("mint-backup"))[1:]
        key = (ONE, public, 30078, "mint-list")
        relays.records[key] = (5, '{"mints":{}}')
        with pytest.raises(MalformedError):
            await wallet.mint_list.backup([ONE])
        assert relays.records[key] == (5, '{"mints":{}}')


@pytest.mark.parametrize(
    "change",
    [
        {"timestamp": 1_703_721_600_000},
        {"timestamp": 1703721600.5},
        {"timestamp": -1},
        {"timestamp": "1703721600"},
        {"mints": ["ftp://mint.test"]},
        {"mints": ["https://mint.test"] * 1001},
        {"mints": None},
    ],
    ids=str,
)
def test_lists_that_are_refused(change: dict[str, object]) -> None:
    """Milliseconds, fractions, other URLs, too many."""
    body = {"mints": ["https://mint.test"], "timestamp": 1_703_721_600}
    assert wire.mint_list_from_json(json.dumps(body)) == (("https://mint.test",), 1_703_721_600)
    with pytest.raises(MalformedError):
        wire.mint_list_from_json(json.dumps({**body, **change}))
