"""`RoutingSigner`: one signer over several homes of keys; each keyset says in its ref where its keys live.

Everything but a mint's keysets belongs to the main signer. Another home is opened when it is first needed, so a bank that has
no keyset there needs no device to start; one that has, and finds the device gone, hears UnavailableError and tries again.

What a device refuses of keys that a mint already uses (its PIN, a capability, a key that is missing) is no fault of the wallet
that asked: it becomes UnavailableError, and someone is paged, once until the device answers again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import NoReturn, Protocol

from specie.kernel.errors import MalformedError, RefusedError, UnavailableError
from specie.kernel.telemetry import NULL_TELEMETRY, Telemetry
from specie.keys.errors import KeyUnknownError
from specie.keys.ports import (
    SOFTWARE,
    BlindedKey,
    BlindSigned,
    Capabilities,
    DerivedSecret,
    KeyRef,
    KeysetRef,
    ProofToVerify,
    Signer,
    ToBlindSign,
)

__all__ = ["KeysetHome", "RoutingSigner"]


class KeysetHome(Signer, Protocol):
    """A signer that makes the keys of a new keyset."""

    async def create_keyset(self, keyset: KeysetRef, amounts: Sequence[int]) -> dict[int, bytes]:
        """Make them, and give their public keys; keys that are there already are kept."""
        ...


class RoutingSigner:
    """A `keys.ports.Signer`. `homes` opens the signer of each other home, by the name that `KeysetRef.home` has."""

    def __init__(
        self,
        main: Signer,
        homes: Mapping[str, Callable[[], Awaitable[KeysetHome]]],
        *,
        telemetry: Telemetry = NULL_TELEMETRY,
    ) -> None:
        """Nothing is opened yet."""
        self.main = main
        self._telemetry = telemetry
        self._refused: dict[str, str] = {}
        self._homes = homes
        self._opened: dict[str, KeysetHome] = {}
        self._opening = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<RoutingSigner {self.main!r} {sorted(self._opened)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signer cannot be pickled or copied")

    def capabilities(self) -> Capabilities:
        """Those of the main signer."""
        return self.main.capabilities()

    async def create_keyset(self, keyset: KeysetRef, amounts: Sequence[int]) -> dict[int, bytes]:
        """Make the keys of a NEW keyset in its home. RefusedError where that cannot sign blindly; errors of the home."""
        if keyset.home == SOFTWARE:
            return await self.main.keyset_public_keys(keyset, amounts)
        home = await self._home(keyset.home)
        if not home.capabilities().bdhke:
            raise RefusedError(f"keys of a mint cannot live in {keyset.home}: it has no ECDH on secp256k1 that gives x alone")
        return await home.create_keyset(keyset, amounts)

    async def keyset_public_keys(self, keyset: KeysetRef, amounts: Sequence[int]) -> dict[int, bytes]:
        """Public keys, from the keyset's home."""
        return await (await self._of(keyset)).keyset_public_keys(keyset, amounts)

    async def verify_proofs(self, proofs: Sequence[ProofToVerify]) -> list[bytes | None]:
        """Each home its own, one home after another; answers in order."""
        homes = {proof.keyset.home: proof.keyset for proof in proofs}
        if len(homes) <= 1:
            with self._asked(next(iter(homes.values()), None)):
                return await (await self._any(homes)).verify_proofs(proofs)
        answers: list[bytes | None] = [None] * len(proofs)
        for name, ref in homes.items():
            places = [place for place, proof in enumerate(proofs) if proof.keyset.home == name]
            with self._asked(ref):
                found = await (await self._of(ref)).verify_proofs([proofs[place] for place in places])
            for place, y in zip(places, found, strict=True):
                answers[place] = y
        return answers

    async def blind_sign(self, messages: Sequence[ToBlindSign]) -> list[BlindSigned]:
        """Each home its own; nothing is answered unless all have signed."""
        homes = {message.keyset.home: message.keyset for message in messages}
        if len(homes) <= 1:
            with self._asked(next(iter(homes.values()), None)):
                return await (await self._any(homes)).blind_sign(messages)
        answers: dict[int, BlindSigned] = {}
        for name, ref in homes.items():
            places = [place for place, message in enumerate(messages) if message.keyset.home == name]
            with self._asked(ref):
                made = await (await self._of(ref)).blind_sign([messages[place] for place in places])
            answers.update(zip(places, made, strict=True))
        return [answers[place] for place in range(len(messages))]

    async def exchange(
        self, proofs: Sequence[ProofToVerify], messages: Sequence[ToBlindSign]
    ) -> tuple[list[bytes | None], list[BlindSigned]]:
        """In one go where one home has all the keys; else verified first, everywhere, then signed."""
        homes = {proof.keyset.home: proof.keyset for proof in proofs}
        homes.update({message.keyset.home: message.keyset for message in messages})
        if len(homes) <= 1:
            with self._asked(next(iter(homes.values()), None)):
                return await (await self._any(homes)).exchange(proofs, messages)
        ys = await self.verify_proofs(proofs)
        return ys, ([] if None in ys else await self.blind_sign(messages))

    async def public_key(self, ref: KeyRef) -> bytes:
        """Of the main signer."""
        return await self.main.public_key(ref)

    async def sign_schnorr(self, ref: KeyRef, digests: Sequence[bytes]) -> list[bytes]:
        """By the main signer."""
        return await self.main.sign_schnorr(ref, digests)

    async def own_blinded(self, keys: Sequence[BlindedKey]) -> list[bool]:
        """By the main signer."""
        return await self.main.own_blinded(keys)

    async def sign_blinded(self, key: BlindedKey, digests: Sequence[bytes]) -> list[bytes]:
        """By the main signer."""
        return await self.main.sign_blinded(key, digests)

    async def sign_recoverable(self, ref: KeyRef, digests: Sequence[bytes]) -> list[tuple[bytes, int]]:
        """By the main signer."""
        return await self.main.sign_recoverable(ref, digests)

    async def derive_secrets(self, keyset_id: str, counters: Sequence[int]) -> list[DerivedSecret]:
        """By the main signer."""
        return await self.main.derive_secrets(keyset_id, counters)

    async def wrap(self, plaintext: bytes, *, context: bytes) -> bytes:
        """By the main signer."""
        return await self.main.wrap(plaintext, context=context)

    async def unwrap(self, sealed: bytes, *, context: bytes) -> bytes:
        """By the main signer."""
        return await self.main.unwrap(sealed, context=context)

    async def close(self) -> None:
        """Close all that were opened."""
        for home in self._opened.values():
            await home.close()
        await self.main.close()

    @contextlib.contextmanager
    def _asked(self, keyset: KeysetRef | None) -> Iterator[None]:
        """Around a question about coins: what another home refuses is its trouble, and not the asker's."""
        home = SOFTWARE if keyset is None else keyset.home
        try:
            yield
        except MalformedError:
            raise
        except RefusedError as error:
            if home == SOFTWARE:
                raise
            if home not in self._refused:
                self._telemetry.page("what holds the keys of a keyset refuses them", home=home, reason=error.detail)
            self._refused[home] = error.detail
            raise UnavailableError("the keys of this keyset cannot be used now", retry_after_s=30.0) from error
        else:
            self._refused.pop(home, None)

    async def health_of_homes(self) -> dict[str, object]:
        """Homes that are open; UnavailableError while one refuses its keys."""
        if self._refused:
            raise UnavailableError("; ".join(f"{home}: {reason}" for home, reason in self._refused.items()))
        return dict.fromkeys(self._opened, "open")

    async def _any(self, homes: Mapping[str, KeysetRef]) -> Signer:
        return await self._of(next(iter(homes.values()))) if homes else self.main

    async def _of(self, keyset: KeysetRef) -> Signer:
        return self.main if keyset.home == SOFTWARE else await self._home(keyset.home)

    async def _home(self, name: str) -> KeysetHome:
        found = self._opened.get(name)
        if found is not None:
            return found
        open_home = self._homes.get(name)
        if open_home is None:
            raise KeyUnknownError(f"the settings name no {name} for keys that live there")
        async with self._opening:
            if name not in self._opened:
                self._opened[name] = await open_home()
            return self._opened[name]
