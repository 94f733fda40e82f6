"""`NostrRelays` by nostr-sdk: private messages (NIP-17 in NIP-59 wraps, NIP-44) and records of our own (NIP-78).

No key is given to the library but those it makes for one message and drops: our keys sign and decrypt behind
`keys.MessageSigner`, which the library calls. Senders stay unknown, too: a payment's seal is signed by a key made for it.

Relays are strangers. Ids, signatures, kinds, authors and recipients are verified here, whatever a relay claims to have
filtered, and sizes and numbers are bounded. A payee's relays stand in a request, so those on this machine or on a private
network are refused, unless `allow_private`; the library resolves names itself, so a name that changes in between gets a
WebSocket handshake and no coins that it could read.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import socket
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import timedelta
from urllib.parse import urlsplit

from nostr_sdk import (
    AsyncNostrSigner,
    Client,
    ClientBuilder,
    ClientNotification,
    Event,
    EventBuilder,
    Filter,
    Keys,
    Kind,
    NostrSdkError,
    PublicKey,
    RelayLimits,
    RelayUrl,
    ReqTarget,
    Tag,
    Timestamp,
    UnsignedEvent,
    UnwrappedGift,
    nip17_make_private_msg,
)

from specie.ecash.requests import NostrProfile
from specie.kernel.errors import MalformedError, RefusedError, UnavailableError
from specie.keys.ports import MessageSigner
from specie.wallet.ports import NostrMessage, NostrRecord

__all__ = ["SdkNostrRelays"]

_GIFT_WRAP, _PRIVATE_MESSAGE = 1059, 14
_MESSAGE_BYTES = 256_000
_HELD = 2000
"""Most stored events taken from relays at once."""
_SEEN = 20_000
_RELAYS = 10
_CLIENT = "specie"


class _SignerOf(AsyncNostrSigner):  # type: ignore[misc]
    """One of our keys, as the library calls it; the key stays with `signer`."""

    def __init__(self, signer: MessageSigner, ref: str) -> None:
        self._signer = signer
        self._ref = ref

    async def get_public_key_async(self) -> PublicKey:
        return PublicKey.parse((await self._signer.public_key(self._ref))[1:].hex())

    async def sign_event_async(self, unsigned_event: UnsignedEvent) -> Event:
        unsigned = unsigned_event.ensure_id()
        digest = bytes.fromhex(json.loads(unsigned.as_json())["id"])
        (signature,) = await self._signer.sign_schnorr(self._ref, [digest])
        return unsigned.add_signature(signature.hex())

    async def nip44_encrypt_async(self, public_key: PublicKey, content: str) -> str:
        return await self._signer.nip44_encrypt(self._ref, bytes.fromhex(public_key.to_hex()), content)

    async def nip44_decrypt_async(self, public_key: PublicKey, payload: str) -> str:
        return await self._signer.nip44_decrypt(self._ref, bytes.fromhex(public_key.to_hex()), payload)

    async def nip04_encrypt_async(self, public_key: PublicKey, content: str) -> str:
        raise RefusedError("NIP-04 is not used")

    async def nip04_decrypt_async(self, public_key: PublicKey, encrypted_content: str) -> str:
        raise RefusedError("NIP-04 is not used")


class SdkNostrRelays:
    """Implements `wallet.ports.NostrRelays`. `timeout_s` bounds connecting and each question."""

    def __init__(self, signer: MessageSigner, *, timeout_s: float = 10.0, allow_private: bool = False) -> None:
        """Nothing is opened. `allow_private`: also write to payees whose relays are on this machine or a private network."""
        self._signer = signer
        self._timeout_s = timeout_s
        self._allow_private = allow_private

    async def send(self, to: NostrProfile, text: str) -> int:
        """Send a private message; errors as the port says, and RefusedError where all relays are private."""
        relays = [relay for relay in to.relays[:_RELAYS] if self._allow_private or await _is_public(relay)]
        if not relays:
            raise RefusedError("the payee's relays are on this machine or on a private network, or have no address")
        try:
            event = nip17_make_private_msg(Keys.generate(), PublicKey.parse(to.public_key.hex()), text)
        except NostrSdkError:
            raise MalformedError("the payee's key is none, or the payment is too large for a private message") from None
        return await self._publish(event, relays)

    async def _publish(self, event: Event, relays: Sequence[str]) -> int:
        async with self._connected(relays) as (client, _):
            try:
                output = await client.send_event(event, ok_timeout=timedelta(seconds=self._timeout_s))
            except NostrSdkError:
                raise UnavailableError("no relay took the event") from None
            if not output.success:
                raise UnavailableError("no relay took the event")
            return len(output.success)

    @contextlib.asynccontextmanager
    async def _connected(self, relays: Sequence[str]) -> AsyncIterator[tuple[Client, tuple[str, ...]]]:
        """A client of those relays that can be reached, and which these are; UnavailableError for none."""
        limits = RelayLimits().message_max_size(2 * _MESSAGE_BYTES).event_max_size(_MESSAGE_BYTES)
        client = ClientBuilder().relay_limits(limits).verify_subscriptions(True).build()
        try:
            urls: dict[str, str] = {}
            for relay in relays:
                try:
                    url = RelayUrl.parse(relay)
                except NostrSdkError:
                    continue
                urls[str(url)] = relay
                await client.add_relay(url)
            output = await client.try_connect(timedelta(seconds=self._timeout_s))
            if not output.success:
                raise UnavailableError("no relay could be reached")
            yield client, tuple(urls.get(str(url), str(url)) for url in output.success)
        finally:
            await client.shutdown()

    async def messages(
        self, refs: Sequence[str], relays: Sequence[str], *, since: int, follow: bool
    ) -> AsyncGenerator[NostrMessage, None]:
        """Messages to our keys; as the port says."""
        keys = {(await self._signer.public_key(ref))[1:].hex(): ref for ref in refs}
        wanted = Filter().kind(Kind(_GIFT_WRAP)).pubkeys([PublicKey.parse(key) for key in keys])
        wanted = wanted.since(Timestamp.from_secs(since)).limit(_HELD)
        seen: OrderedDict[str, None] = OrderedDict()
        async with self._connected(relays) as (client, _):
            notifications = client.notifications()
            if follow:
                await client.subscribe(ReqTarget.auto([wanted]))
            else:
                for event in await self._held(client, wanted):
                    if (message := await self._opened(event, keys, seen)) is not None:
                        yield message
                return
            while True:
                notification = await notifications.next()
                if notification is None:
                    raise UnavailableError("the relays' connection has ended")
                if isinstance(notification, ClientNotification.NEW_EVENT):
                    message = await self._opened(notification.event, keys, seen)
                    if message is not None:
                        yield message

    async def _held(self, client: Client, wanted: Filter) -> list[Event]:
        try:
            question = client.fetch_events(ReqTarget.auto([wanted]), timedelta(seconds=self._timeout_s), max_events=_HELD)
            return list(await question)
        except NostrSdkError:
            raise UnavailableError("the relays did not answer") from None

    async def _opened(self, event: Event, keys: dict[str, str], seen: OrderedDict[str, None]) -> NostrMessage | None:
        """The message in a wrap for one of `keys`; None for anything else, and for one that was seen before."""
        name = event.id().to_hex()
        if name in seen:
            return None
        seen[name] = None
        if len(seen) > _SEEN:
            seen.popitem(last=False)
        if event.kind().as_u16() != _GIFT_WRAP or len(event.content()) > _MESSAGE_BYTES or not event.verify():
            return None
        ref = next((keys[key] for key in _values(event, "p") if key in keys), None)
        if ref is None:
            return None
        try:
            gift = await UnwrappedGift.from_gift_wrap_async(_SignerOf(self._signer, ref), event)
        except Exception:
            return None
        rumor = gift.rumor()
        if rumor.kind().as_u16() != _PRIVATE_MESSAGE or rumor.author().to_hex() != gift.sender().to_hex():
            return None
        return NostrMessage(name, ref, rumor.content())

    async def read_record(self, ref: str, relays: Sequence[str], *, kind: int, name: str) -> NostrRecord:
        """The newest record; as the port says."""
        public = (await self._signer.public_key(ref))[1:]
        wanted = Filter().kind(Kind(kind)).author(PublicKey.parse(public.hex())).identifier(name).limit(_RELAYS)
        found = dict(zip(relays, await asyncio.gather(*(self._asked(relay, wanted) for relay in relays)), strict=True))
        answers = {relay: _newest(events, public, kind, name) for relay, events in found.items() if events is not None}
        if not answers:
            raise UnavailableError("no relay answered")
        newest = _newest([event for event in answers.values() if event is not None], public, kind, name)
        if newest is None:
            return NostrRecord(None, 0, tuple(answers), 0)
        same = [event for event in answers.values() if event is not None and event.id().to_hex() == newest.id().to_hex()]
        text = await self._signer.nip44_decrypt(ref, public, newest.content())
        return NostrRecord(text, newest.created_at().as_secs(), tuple(answers), len(same))

    async def _asked(self, relay: str, wanted: Filter) -> list[Event] | None:
        """What one relay has; None if it did not answer. A relay that says nothing in time is not one that has nothing."""
        try:
            async with self._connected([relay]) as (client, _), asyncio.timeout(self._timeout_s):
                patience = timedelta(seconds=2 * self._timeout_s)
                return list(await client.fetch_events(ReqTarget.auto([wanted]), patience, max_events=_RELAYS))
        except (UnavailableError, NostrSdkError, TimeoutError):
            return None

    async def write_record(self, ref: str, relays: Sequence[str], text: str, *, kind: int, name: str, at: int) -> int:
        """Replace a record; as the port says."""
        public = (await self._signer.public_key(ref))[1:]
        content = await self._signer.nip44_encrypt(ref, public, text)
        builder = EventBuilder(Kind(kind), content).tags([Tag.parse(["d", name]), Tag.parse(["client", _CLIENT])])
        event = await builder.custom_created_at(Timestamp.from_secs(at)).finalize_async(_SignerOf(self._signer, ref))
        return await self._publish(event, relays)

    async def close(self) -> None:
        """Nothing is held between calls."""


def _values(event: Event, name: str) -> list[str]:
    """First values of an event's tags of a name."""
    tags = [tag.to_vec() for tag in event.tags()]
    return [tag[1] for tag in tags if len(tag) > 1 and tag[0] == name]


def _newest(events: Sequence[Event], public: bytes, kind: int, name: str) -> Event | None:
    """The record to believe: ours, whole, signed; the newest, and of two of one second the one with the lesser id (NIP-01)."""
    good = [
        event
        for event in events
        if event.author().to_hex() == public.hex()
        and event.kind().as_u16() == kind
        and _values(event, "d")[:1] == [name]
        and len(event.content()) <= _MESSAGE_BYTES
        and event.verify()
    ]
    return min(good, key=lambda event: (-event.created_at().as_secs(), event.id().to_hex()), default=None)


async def _is_public(relay: str) -> bool:
    """Whether every address of a relay's name is public."""
    try:
        parts = urlsplit(relay)
        port = parts.port or (443 if parts.scheme == "wss" else 80)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            return False
        found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, ValueError, UnicodeError):
        return False
    return bool(found) and all(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]).is_global for entry in found)
