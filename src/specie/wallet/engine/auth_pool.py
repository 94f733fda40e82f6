"""The pool of blind tokens (NUT-22): minted in batches, each good for one request, none lost to an error.

Secrets and blinding factors are FRESH and stored before the mint is asked. They are not derived from the seed: mints give
no blind tokens back (NUT-09 knows money only), and a mint could choose a keyset id whose secrets are those of coins.

What a crash leaves behind:

    before the batch is stored             nothing
    after it, before the answer is stored  ASKED: the same request is sent again, and the mint answers as before
    with a token on its way                RESERVED: tried again after ten minutes, as one whose answer was lost
    after the request's end                deleted, READY or UNCERTAIN

A token that was refused as spent is deleted and another one taken; the request it came with had no effect.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import replace

from specie.ecash.auth import AUTH_UNIT, BlindAuthSetting
from specie.ecash.keyset import Keyset, verify_keyset_id
from specie.ecash.proof import BlindedMessage, BlindSignature
from specie.ecash.transaction import blinded_message, unblind_signature
from specie.kernel import curve
from specie.kernel.clock import Clock
from specie.kernel.entropy import Entropy, uuid7
from specie.kernel.errors import MalformedError, PeerFaultError, RefusedError, UnavailableError
from specie.kernel.telemetry import Telemetry
from specie.storage.ports import Storage, Transaction
from specie.wallet.auth import BlindToken, BlindTokenState
from specie.wallet.auth_ports import AuthClient, BlindTokenStore
from specie.wallet.errors import LoginRequiredError

__all__ = ["Pool"]

BATCH = 20
"""Blind tokens minted at once, or as many as the mint allows."""

_SETTLED_S = 60
"""After which a mint has decided what became of a request whose answer was lost."""
_DEAD_S = 600
"""After which a token that is on its way belongs to a process that ended."""


class Pool:
    """The blind tokens of a wallet, of all mints."""

    def __init__(self, storage: Storage, store: BlindTokenStore, clock: Clock, entropy: Entropy, telemetry: Telemetry) -> None:
        self._storage = storage
        self._store = store
        self._clock = clock
        self._entropy = entropy
        self._telemetry = telemetry
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def take(self, client: AuthClient, setting: BlindAuthSetting, *, sure: bool = False) -> BlindToken:
        """Reserve a token, minting a batch if there is none. With `sure` only one that was never sent.

        LoginRequiredError, RefusedError or UnavailableError where none can be had; the request was not sent then.
        """
        async with self._locks[client.url]:
            token = await self._reserve(client.url, sure=sure)
            if token is None:
                await self._top_up(client, setting)
                token = await self._reserve(client.url, sure=True)
            if token is None:
                raise UnavailableError("other requests took all blind tokens at once")
            return token

    async def _reserve(self, mint: str, *, sure: bool) -> BlindToken | None:
        now = self._clock.now()
        choices = [(BlindTokenState.READY, now + 1)]
        if not sure:
            choices += [(BlindTokenState.UNCERTAIN, now - _SETTLED_S), (BlindTokenState.RESERVED, now - _DEAD_S)]

        async def body(tx: Transaction) -> BlindToken | None:
            for state, before in choices:
                token = await self._store.take(tx, mint, state, before=before, now=now)
                if token is not None:
                    return token
            return None

        return await self._storage.transact(body)

    async def put_back(self, token: BlindToken) -> None:
        """The request was refused or never sent: the token is good for another."""
        await self._move(token, BlindTokenState.READY)

    async def doubt(self, token: BlindToken) -> None:
        """The answer was lost: the token is tried again later, and dropped if it was spent."""
        await self._move(token, BlindTokenState.UNCERTAIN)

    async def _move(self, token: BlindToken, state: BlindTokenState) -> None:
        now = self._clock.now()
        await self._storage.transact(lambda tx: self._store.move(tx, token.secret, state, now))

    async def drop(self, token: BlindToken) -> None:
        """It is spent."""
        await self._storage.transact(lambda tx: self._store.drop(tx, [token.secret]))

    async def counts(self) -> dict[str, dict[BlindTokenState, int]]:
        """How many tokens there are of each mint and state."""
        return await self._storage.read(self._store.counts)

    async def forget(self, mint: str) -> None:
        """Delete all tokens of a mint."""
        await self._storage.transact(lambda tx: self._store.keep_keysets(tx, mint, ()))

    # -- minting ------------------------------------------------------------------------------------------------------

    async def _top_up(self, client: AuthClient, setting: BlindAuthSetting) -> None:
        keyset = await self._keyset(client)
        batch = await self._storage.read(lambda tx: self._store.asked(tx, client.url))
        if not batch:
            batch = await self._new_batch(client.url, keyset, min(setting.bat_max_mint, BATCH))
        try:
            signatures = await client.mint_auth([_message(token) for token in batch])
            signed = self._unblinded(client.url, keyset, batch, signatures)
        except (UnavailableError, LoginRequiredError):
            raise
        except (RefusedError, PeerFaultError) as error:
            await self._storage.transact(lambda tx: self._store.drop(tx, [token.secret for token in batch]))
            if isinstance(error, PeerFaultError):
                self._telemetry.page("wallet: a mint's blind tokens are wrong", mint=client.url, reason=error.detail)
            raise
        await self._storage.transact(lambda tx: self._store.settle(tx, signed))
        self._telemetry.event("wallet_blind_tokens", mint=client.url, count=len(signed))

    async def _keyset(self, client: AuthClient) -> Keyset:
        """The mint's keyset for new tokens, its id verified; tokens of keysets that it no longer lists are dropped."""
        listed = [entry for entry in await client.auth_keysets() if entry.unit == AUTH_UNIT]
        dropped = await self._storage.transact(
            lambda tx: self._store.keep_keysets(tx, client.url, {entry.id for entry in listed})
        )
        if dropped:
            self._telemetry.event("wallet_blind_tokens_void", mint=client.url, count=dropped)
        active = next((entry for entry in listed if entry.active), None)
        if active is None:
            raise UnavailableError("the mint has no keyset for blind tokens now", retry_after_s=60.0)
        keyset = await client.auth_keys(active.id)
        try:
            if keyset.id != active.id or keyset.unit != AUTH_UNIT or 1 not in keyset.keys:
                raise MalformedError("it is none for blind tokens")
            verify_keyset_id(
                Keyset(
                    id=keyset.id,
                    unit=keyset.unit,
                    keys=keyset.keys,
                    input_fee_ppk=active.input_fee_ppk,
                    final_expiry=active.final_expiry,
                )
            )
        except RefusedError as error:
            raise PeerFaultError(f"the mint's auth keyset is wrong: {error.detail}", peer=client.url) from error
        return keyset

    async def _new_batch(self, mint: str, keyset: Keyset, count: int) -> list[BlindToken]:
        now = self._clock.now()
        name = uuid7(self._clock.now_ns() // 1_000_000, self._entropy.bytes(10))
        batch = [
            BlindToken(
                secret=self._entropy.bytes(32).hex(),
                mint=mint,
                keyset_id=keyset.id,
                r=curve.scalar_from_bytes_wrapping(self._entropy.bytes(32)),
                batch=name,
                position=position,
                C=None,
                state=BlindTokenState.ASKED,
                changed_at=now,
            )
            for position in range(count)
        ]
        await self._storage.transact(lambda tx: self._store.add(tx, batch))
        return batch

    def _unblinded(
        self, mint: str, keyset: Keyset, batch: list[BlindToken], signatures: list[BlindSignature]
    ) -> list[BlindToken]:
        """The batch with its signatures, every DLEQ proof verified: a missing one could mark the user (NUT-22)."""
        if len(signatures) != len(batch):
            raise PeerFaultError("the mint signed another number of blind tokens than asked", peer=mint)
        now = self._clock.now()
        signed: list[BlindToken] = []
        for token, signature in zip(batch, signatures, strict=True):
            if token.keyset_id != keyset.id:
                raise PeerFaultError("the mint signs with another auth keyset meanwhile", peer=mint)
            try:
                proof = unblind_signature(
                    _message(token), signature, secret=token.secret, r=token.r, key=keyset.keys[1], require_dleq=True
                )
            except RefusedError as error:
                raise PeerFaultError(f"the mint's blind token is wrong: {error.detail}", peer=mint) from error
            signed.append(replace(token, C=proof.C, state=BlindTokenState.READY, changed_at=now))
        return signed


def _message(token: BlindToken) -> BlindedMessage:
    return blinded_message(1, token.keyset_id, token.secret, token.r)
