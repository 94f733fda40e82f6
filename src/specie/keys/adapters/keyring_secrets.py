"""Small secrets in the operating system's keyring, as entries of their own: what is kept beside a seed that it seals.

A keyring bounds an entry (Windows: 2560 bytes, in two bytes a character), so a secret lies in numbered parts, and a head says
which of two slots holds them:

    service `specie-secrets`, user `{wallet}/{digest}`                   the head: `1 {slot} {count} {SHA-256 of the text}`
    service `specie-secrets`, user `{wallet}/{digest}/{slot}{number}`    a part of the text, at most 1024 characters

`wallet` is the name of its seed's key, `wallet-{seal id}`, random and new with each sealing, so wallets of one name in two
places share nothing. `digest` is SHA-256 of that and the secret's name. The text is base64url of what the signer has sealed,
with both names as context: whoever reads the keyring alone reads no secret, and no entry can be put in another's place. One
more secret, with `names` for a digest, is the list of names.

What a crash leaves behind:

| after                            | put                                                  | delete                          |
|----------------------------------|------------------------------------------------------|---------------------------------|
| the list of names                | a name without a secret                              | (it is the last step)           |
| some or all parts of a free slot | what was there before; the next put overwrites them  | -                               |
| the head                         | the new secret; parts of the old one, sealed         | no secret; parts of it, sealed  |
| some or all old parts removed    | the new secret                                       | no secret                       |

Parts are written upwards and removed downwards, so those of a slot stand without a gap and the next put or delete finds what
was left. Parts that do not fit their head (somebody changed them, or two processes put at once) are no secret: None. Nothing
here is kept anywhere else when the keyring refuses: UnavailableError, or KeyringUnsafeError.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
from collections.abc import Callable

import msgspec

from specie.kernel.encoding import base64url_decode, base64url_encode
from specie.kernel.errors import MalformedError, UnavailableError
from specie.kernel.seal import SealBrokenError
from specie.keys.adapters.system_keyring import Keyring
from specie.keys.ports import Signer

__all__ = ["KeyringSecrets"]

_SERVICE = "specie-secrets"
_MOST_NAME = 512
_MOST_BYTES = 64 * 1024
_PART_CHARS = 1024
_MOST_PARTS = 99
_LOOKS = 3
_HEAD = re.compile(r"1 ([ab]) ([1-9][0-9]?) ([0-9a-f]{64})")
_PART = re.compile(rf"[A-Za-z0-9_-]{{1,{_PART_CHARS}}}")


class KeyringSecrets:
    """A `keys.SecretShelf` in the keyring. The keyring is called on threads, one call at a time.

    `wallet` begins the user names of all entries: `OpenedSeed.key_name`. `keyring` finds the keyring: `safe_keyring`.
    Every method may raise KeyringUnsafeError, and UnavailableError where the keyring is locked or fails: then try again.
    """

    def __init__(self, wallet: str, signer: Signer, keyring: Callable[[], Keyring]) -> None:
        """Nothing is asked of the keyring yet."""
        self._wallet = wallet
        self._signer = signer
        self._keyring = keyring
        self._turn = asyncio.Lock()
        self._calls = threading.Lock()  # a thread goes on when whoever waits for it is cancelled
        self._seen: dict[str, tuple[str, str]] = {}

    async def put(self, name: str, secret: str) -> None:
        """Keep `secret` under `name`, in place of what was there. MalformedError beyond 512 characters or 64 KiB."""
        data = secret.encode()
        if not 1 <= len(name) <= _MOST_NAME or len(data) > _MOST_BYTES:
            raise MalformedError("a secret has a name of 1 to 512 characters and at most 64 KiB")
        async with self._turn:
            known = await self.names()
            if name not in known:
                await self._put(None, _index(known | {name}))
            await self._put(name, data)

    async def get(self, name: str) -> str | None:
        """The secret of this name, or None; also where its entries are incomplete or were changed."""
        data = await self._get(name)
        return None if data is None else data.decode()

    async def delete(self, name: str) -> None:
        """Forget the secret of this name, and what an interrupted `put` left of one."""
        async with self._turn:
            await asyncio.to_thread(self._remove, self._user(name))
            known = await self.names()
            left = known - {name}
            if not left:
                await asyncio.to_thread(self._remove, self._user(None))
            elif left != known:
                await self._put(None, _index(left))

    async def names(self) -> frozenset[str]:
        """Names of what is kept, or was to be when a crash came; without them if their list was changed by others."""
        data = await self._get(None)
        return frozenset() if data is None else frozenset(msgspec.json.decode(data, type=list[str]))

    async def _put(self, name: str | None, data: bytes) -> None:
        sealed = await self._signer.wrap(data, context=self._context(name))
        await asyncio.to_thread(self._write, self._user(name), base64url_encode(sealed))

    async def _get(self, name: str | None) -> bytes | None:
        text = await asyncio.to_thread(self._read, self._user(name))
        if text is None:
            return None
        try:
            return await self._signer.unwrap(base64url_decode(text), context=self._context(name))
        except (SealBrokenError, MalformedError):
            return None

    def _context(self, name: str | None) -> bytes:
        use = "keyring secrets 1" if name is None else f"keyring secret 1 {name}"
        return f"{self._wallet} {use}".encode()

    def _user(self, name: str | None) -> str:
        """Begins the user names of a secret's entries; None stands for the list of names."""
        last = "names" if name is None else hashlib.sha256(f"{self._wallet} {name}".encode()).hexdigest()
        return f"{self._wallet}/{last}"

    def _write(self, user: str, text: str) -> None:
        with self._calls:
            ring = self._keyring()
            head = _HEAD.fullmatch(ring.get_password(_SERVICE, user) or "")
            slot, former = ("b", "a") if head is not None and head[1] == "a" else ("a", "b")
            parts = [text[start : start + _PART_CHARS] for start in range(0, len(text), _PART_CHARS)]
            for number, part in enumerate(parts):
                ring.set_password(_SERVICE, _part(user, slot, number), part)
            self._sweep(ring, user, slot, len(parts))
            ring.set_password(_SERVICE, user, f"1 {slot} {len(parts)} {_digest(text)}")
            if self._look(ring, user) != text:
                raise UnavailableError("the keyring does not keep what it is given", retry_after_s=5.0)
            self._sweep(ring, user, former, 0)

    def _read(self, user: str) -> str | None:
        with self._calls:
            return self._look(self._keyring(), user)

    def _look(self, ring: Keyring, user: str) -> str | None:
        """The text that fits its head. Where none does, another process may just have put a new one: looked at again."""
        before = None
        for _ in range(_LOOKS):
            head = ring.get_password(_SERVICE, user)
            if head is None or head == before:
                return None
            seen = self._seen.get(user)
            if seen is not None and seen[0] == head:
                return seen[1]
            text = self._joined(ring, user, head)
            if text is not None:
                self._seen[user] = (head, text)
                return text
            before = head
        return None

    def _joined(self, ring: Keyring, user: str, head: str) -> str | None:
        parsed = _HEAD.fullmatch(head)
        if parsed is None:
            return None
        parts: list[str] = []
        for number in range(int(parsed[2])):
            part = ring.get_password(_SERVICE, _part(user, parsed[1], number))
            if part is None or not _PART.fullmatch(part):
                return None
            parts.append(part)
        text = "".join(parts)
        return text if _digest(text) == parsed[3] else None

    def _remove(self, user: str) -> None:
        with self._calls:
            ring = self._keyring()
            if ring.get_password(_SERVICE, user) is not None:
                ring.delete_password(_SERVICE, user)
            self._seen.pop(user, None)
            for slot in "ab":
                self._sweep(ring, user, slot, 0)

    def _sweep(self, ring: Keyring, user: str, slot: str, start: int) -> None:
        """Remove the parts of a slot from `start` on, the last one first."""
        end = start
        while end < _MOST_PARTS and ring.get_password(_SERVICE, _part(user, slot, end)) is not None:
            end += 1
        for number in reversed(range(start, end)):
            ring.delete_password(_SERVICE, _part(user, slot, number))


def _part(user: str, slot: str, number: int) -> str:
    return f"{user}/{slot}{number}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _index(names: frozenset[str]) -> bytes:
    data = msgspec.json.encode(sorted(names))
    if len(data) > _MOST_BYTES:
        raise MalformedError("too many secrets: their names alone are longer than 64 KiB")
    return data
