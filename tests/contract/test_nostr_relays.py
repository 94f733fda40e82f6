"""`wallet.ports.NostrRelays` by nostr-sdk, against a real relay on a loopback port, and against what hostile ones hold."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Sequence

import nostr_sdk as sdk
import pytest

from specie.ecash.requests import NostrProfile
from specie.kernel import curve
from specie.kernel.errors import MalformedError, RefusedError, UnavailableError
from specie.keys.adapters.software import SoftwareSigner
from specie.keys.errors import KeyUnknownError
from specie.wallet.adapters.nostr import SdkNostrRelays
from specie.wallet.ports import NostrMessage
from tests.support.entropy import CountingEntropy
from tests.support.relay import running_relay

pytestmark = [pytest.mark.network, pytest.mark.anyio]

RECORD = {"kind": 30078, "name": "mint-list"}
NOWHERE = "ws://127.0.0.1:1"


def signer(name: str = "payee") -> SoftwareSigner:
    """A wallet's signer."""
    return SoftwareSigner(name.encode() * 8, threads=0, entropy=CountingEntropy(name))


def plug(keys: SoftwareSigner, timeout_s: float = 5.0) -> SdkNostrRelays:
    """The adapter, which may write to this machine."""
    return SdkNostrRelays(keys, timeout_s=timeout_s, allow_private=True)


async def profile(keys: SoftwareSigner, ref: str, *relays: str) -> NostrProfile:
    """Where a key of ours is written to."""
    return NostrProfile((await keys.public_key(ref))[1:], relays)


async def held(keys: SoftwareSigner, refs: Sequence[str], url: str) -> list[NostrMessage]:
    """Messages that a relay holds for these keys."""
    return [message async for message in plug(keys).messages(refs, [url], since=0, follow=False)]


async def publish(url: str, *events: sdk.Event) -> None:
    """Put events on the relay, as anybody can."""
    client = sdk.ClientBuilder().build()
    await client.add_relay(sdk.RelayUrl.parse(url), and_connect=True)
    for event in events:
        assert (await client.send_event(event)).success
    await client.shutdown()


async def test_message_reaches_the_key_it_is_for() -> None:
    """Each key gets its own messages, told apart by the name the signer knows; the sender is a key nobody has seen before."""
    keys = signer()
    async with running_relay() as (_, url):
        sender = plug(signer("payer"))
        assert await sender.send(await profile(keys, "nostr/0", NOWHERE, url), "first") == 1
        assert await sender.send(await profile(keys, "nostr/1", url), "second ☕") == 1
        found = await held(keys, ["nostr/0", "nostr/1"], url)
        assert {(message.ref, message.text) for message in found} == {("nostr/0", "first"), ("nostr/1", "second ☕")}
        assert await held(keys, ["nostr/2"], url) == []


async def test_followed_messages_arrive_as_they_are_sent() -> None:
    """What is held comes first, then what is sent while listening; each once."""
    keys = signer()
    async with running_relay() as (_, url):
        sender = plug(signer("payer"))
        to = await profile(keys, "nostr/0", url)
        await sender.send(to, "before")
        stream = plug(keys).messages(["nostr/0"], [url], since=0, follow=True)
        assert (await anext(stream)).text == "before"
        await sender.send(to, "after")
        assert (await anext(stream)).text == "after"
        await stream.aclose()


async def test_forged_messages_are_passed_over() -> None:
    """A wrap that is no wrap, holds another kind, or whose rumor claims another author than signed its seal, is no message."""
    keys = signer()
    mallory, alice = sdk.Keys.generate(), sdk.Keys.generate()
    async with running_relay() as (_, url):
        me = sdk.PublicKey.parse((await keys.public_key("nostr/0"))[1:].hex())
        tag = sdk.Tag.parse(["p", me.to_hex()])
        garbage = sdk.EventBuilder(sdk.Kind(1059), "not encrypted").tags([tag]).finalize(mallory)
        other_kind = sdk.nip59_make_gift_wrap(
            mallory, me, sdk.EventBuilder(sdk.Kind(1), "a note").finalize_unsigned(mallory.public_key())
        )
        false_author = json.loads(sdk.EventBuilder(sdk.Kind(14), "forged").finalize_unsigned(alice.public_key()).as_json())
        seal = sdk.EventBuilder(
            sdk.Kind(13), sdk.nip44_encrypt(mallory.secret_key(), me, json.dumps(false_author), sdk.Nip44Version.V2)
        ).finalize(mallory)
        once = sdk.Keys.generate()
        forged = (
            sdk.EventBuilder(sdk.Kind(1059), sdk.nip44_encrypt(once.secret_key(), me, seal.as_json(), sdk.Nip44Version.V2))
            .tags([tag])
            .finalize(once)
        )
        good = sdk.nip17_make_private_msg(mallory, me, "good")
        await publish(url, garbage, other_kind, forged, good)
        assert [message.text for message in await held(keys, ["nostr/0"], url)] == ["good"]


async def test_events_that_no_filter_asked_for_are_passed_over() -> None:
    """A relay may send what it likes: other kinds, wraps for others, changed ones, huge ones, and one twice."""
    keys = signer()
    ours = (await keys.public_key("nostr/0"))[1:].hex()
    me, other, once = sdk.PublicKey.parse(ours), sdk.Keys.generate(), sdk.Keys.generate()
    good = sdk.nip17_make_private_msg(other, me, "good")
    body = json.loads(good.as_json())
    changed = sdk.Event.from_json(json.dumps({**body, "content": body["content"][:-4] + "AAAA"}))
    for_others = sdk.nip17_make_private_msg(once, other.public_key(), "not for us")
    tag = sdk.Tag.parse(["p", ours])
    other_kind = sdk.EventBuilder(sdk.Kind(1), "note").tags([tag]).finalize(other)
    huge = sdk.EventBuilder(sdk.Kind(1059), "x" * 300_000).tags([tag]).finalize(other)
    relays, seen = plug(keys), OrderedDict[str, None]()
    for event in (changed, for_others, other_kind, huge):
        assert await relays._opened(event, {ours: "nostr/0"}, seen) is None
    message = await relays._opened(good, {ours: "nostr/0"}, OrderedDict())
    assert message is not None
    assert message.text == "good"
    crowded: OrderedDict[str, None] = OrderedDict.fromkeys(map(str, range(20_000)))
    assert await relays._opened(good, {ours: "nostr/0"}, crowded) is not None
    assert await relays._opened(good, {ours: "nostr/0"}, crowded) is None
    assert len(crowded) == 20_000


async def test_names_of_relays_are_looked_up() -> None:
    """Public addresses are written to; names that do not exist are not."""
    from specie.wallet.adapters.nostr import _is_public

    assert await _is_public("wss://93.184.215.14")
    assert not await _is_public("wss://127.0.0.1:99999999")


async def test_record_is_replaced_and_read_by_its_owner_alone() -> None:
    """The newest record wins, its text is encrypted, its tags are those of NUT-27, and another seed finds nothing."""
    keys = signer()
    async with running_relay() as (_, url):
        relays = plug(keys)
        empty = await relays.read_record("mint-backup", [url, NOWHERE], **RECORD)  # type: ignore[arg-type]
        assert (empty.text, empty.answered, empty.holding) == (None, (url,), 0)
        for at, text in ((1000, "one"), (2000, "two")):
            assert await relays.write_record("mint-backup", [url], text, at=at, **RECORD) == 1  # type: ignore[arg-type]
        record = await relays.read_record("mint-backup", [url], **RECORD)  # type: ignore[arg-type]
        assert (record.text, record.created_at, record.holding) == ("two", 2000, 1)
        client = sdk.ClientBuilder().build()
        await client.add_relay(sdk.RelayUrl.parse(url), and_connect=True)
        (event,) = await client.fetch_events(sdk.ReqTarget.auto([sdk.Filter().kind(sdk.Kind(30078))]))
        await client.shutdown()
        assert "two" not in event.as_json()
        assert [tag.to_vec() for tag in event.tags()] == [["d", "mint-list"], ["client", "specie"]]
        assert event.author().to_hex() == (await keys.public_key("mint-backup"))[1:].hex()
        assert (await plug(signer("another")).read_record("mint-backup", [url], **RECORD)).text is None  # type: ignore[arg-type]


async def test_strangers_records_are_not_ours() -> None:
    """A relay that answers with records of others, of another name or kind is not believed."""
    from specie.wallet.adapters.nostr import _newest

    keys = signer()
    ours = (await keys.public_key("mint-backup"))[1:]
    mallory = sdk.Keys.generate()

    def event(keys: sdk.Keys, kind: int = 30078, name: str = "mint-list") -> sdk.Event:
        return sdk.EventBuilder(sdk.Kind(kind), "x").tags([sdk.Tag.parse(["d", name])]).finalize(keys)

    good = event(mallory)
    public = bytes.fromhex(mallory.public_key().to_hex())
    assert _newest([good], public, 30078, "mint-list") is not None
    assert _newest([good], ours, 30078, "mint-list") is None
    assert _newest([event(mallory, name="other"), event(mallory, 30077)], public, 30078, "mint-list") is None
    body = json.loads(good.as_json())
    changed = sdk.Event.from_json(json.dumps({**body, "content": "y"}))
    assert _newest([changed], public, 30078, "mint-list") is None


async def test_unreachable_relays() -> None:
    """Where no relay answers it is said so, and nothing is taken for an empty record."""
    keys = signer()
    relays = plug(keys, timeout_s=0.5)
    to = await profile(keys, "nostr/0", NOWHERE)
    with pytest.raises(UnavailableError):
        await relays.send(to, "text")
    with pytest.raises(UnavailableError):
        await relays.read_record("mint-backup", [NOWHERE, "not an address"], **RECORD)  # type: ignore[arg-type]
    with pytest.raises(UnavailableError):
        await relays.write_record("mint-backup", [NOWHERE], "text", at=1, **RECORD)  # type: ignore[arg-type]
    with pytest.raises(UnavailableError):
        await anext(relays.messages(["nostr/0"], [NOWHERE], since=0, follow=True))


async def test_silent_relay_has_not_answered() -> None:
    """A server that takes the connection and says nothing is not one that has no record."""

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(UnavailableError):
        await plug(signer(), 0.5).read_record("mint-backup", [f"ws://127.0.0.1:{port}"], **RECORD)  # type: ignore[arg-type]
    server.close()
    await server.wait_closed()


async def test_payees_relays_on_this_machine_are_refused() -> None:
    """Addresses that a stranger wrote into a request lead into no private network, unless that is allowed."""
    keys = signer()
    relays = SdkNostrRelays(keys, timeout_s=0.5)
    for url in ("ws://127.0.0.1:7000", "ws://[::1]", "wss://10.0.0.1/", "http://example.com", "wss://"):
        with pytest.raises(RefusedError, match="private network"):
            await relays.send(await profile(keys, "nostr/0", url), "text")


async def test_messages_that_cannot_be_written() -> None:
    """A key that is none, and a text that no private message holds."""
    relays = plug(signer())
    with pytest.raises(MalformedError):
        await relays.send(NostrProfile(bytes(32), (NOWHERE,)), "text")
    with pytest.raises(MalformedError):
        await relays.send(await profile(signer(), "nostr/0", NOWHERE), "x" * 100_000)


async def test_signer_encrypts_and_decrypts() -> None:
    """NIP-44 both ways between two signers and the library; what was changed or is for others is refused, mint keys too."""
    ours, theirs = signer(), signer("payer")
    here, there = (await ours.public_key("nostr/0"))[1:], (await theirs.public_key("nostr/9"))[1:]
    sealed = await ours.nip44_encrypt("nostr/0", there, "money")
    assert await theirs.nip44_decrypt("nostr/9", here, sealed) == "money"
    for attempt in (theirs.nip44_decrypt("nostr/8", here, sealed), theirs.nip44_decrypt("nostr/9", here, sealed[:-4] + "AAA=")):
        with pytest.raises(MalformedError):
            await attempt
    with pytest.raises(MalformedError):
        await ours.nip44_encrypt("nostr/0", bytes(32), "money")
    with pytest.raises(KeyUnknownError):
        await ours.nip44_encrypt("mint/sat/0/1", there, "money")
    assert curve.is_point(await ours.public_key("mint-backup"))
