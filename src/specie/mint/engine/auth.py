"""`Auth`: who may use the mint. Clear tokens name a user (NUT-21); blind tokens prove one and name nobody (NUT-22).

Blind tokens are ecash of the unit `auth`, but no money: nothing is owed for them, so they stand in no books. Their keysets
and their spent set are in tables of their own, which no verb of money reads; to swap, mint and melt an auth keyset is unknown.

What becomes of a blind token (`mint_auth_token`: absent, RESERVED with the request's holder and a lease, SPENT):

    the request succeeds                     SPENT, in the transaction of its effect; if it changed nothing, in one of its own
    it is refused, or nothing happened       absent again: an error never burns a token
    its end is not known (UncertainError)    SPENT if an effect is committed, else absent again

What a crash leaves behind:

    before the claim                         nothing
    between claim and effect                 RESERVED: freed at the next start, or once its lease has run out
    after the effect's commit                SPENT together with the effect, for both are one transaction
    after a release                          absent
    while a payment goes on                  SPENT: the commit of the payment's intent is the effect

A request counts as done because the store says so, never because its answer was sent. The claim is a unique insert, so one
token never runs two requests, in however many processes.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from typing import Any

from specie.ecash import BlindedMessage, BlindSignature, Keyset, derive_keyset_id
from specie.ecash.auth import AUTH_UNIT, ProtectedEndpoint
from specie.ecash.codes import (
    AmountOutOfRangeError,
    BlindAuthFailedError,
    BlindAuthRateLimitedError,
    BlindAuthTooManyError,
    DuplicateOutputsError,
    KeysetInactiveError,
    KeysetUnknownError,
    OutputsSignedError,
)
from specie.ecash.proof import Dleq
from specie.ecash.wire import auth_token_from_text
from specie.kernel import (
    Clock,
    Entropy,
    InvariantError,
    MalformedError,
    PeerFaultError,
    RefusedError,
    SpecieError,
    Telemetry,
    UnavailableError,
)
from specie.keys import KeysetRef, ProofToVerify, Signer, ToBlindSign
from specie.mint.auth import AuthSettings, AuthTokenState
from specie.mint.auth_ports import AuthStore, KeySource
from specie.mint.engine.auth_clear import ClearAuth
from specie.mint.engine.auth_held import HELD, Held, SpendingStorage
from specie.mint.engine.checks import operation_hash
from specie.storage import Storage, Transaction

__all__ = ["Auth"]

LEASE_S = 300
"""A claim that was not ended within this time is that of a dead process."""

_VERSIONS = (0, 1)
_SUBJECTS = 100_000


class Auth:
    """Authentication of one mint, where settings ask for it. `storage` is what the mint must commit through."""

    def __init__(
        self,
        *,
        settings: AuthSettings,
        storage: Storage,
        store: AuthStore,
        signer: Signer,
        source: KeySource,
        clock: Clock,
        entropy: Entropy,
        telemetry: Telemetry,
        keyset_version: int = 1,
        exclusive: bool = True,
    ) -> None:
        self._settings = settings
        self._storage = storage
        self._store = store
        self._signer = signer
        self._source = source
        self._clock = clock
        self._entropy = entropy
        self._version = keyset_version
        self._exclusive = exclusive
        self._clear = ClearAuth(settings, source, clock, telemetry)
        self._ref = KeysetRef(AUTH_UNIT, settings.blind_keyset)
        self._keysets: dict[str, Keyset] = {}
        self._minting = _Pace(settings.bats_per_hour, settings.bat_burst)
        self.clear_endpoints: tuple[ProtectedEndpoint, ...] = settings.clear
        self.blind_endpoints: tuple[ProtectedEndpoint, ...] = settings.blind
        self.storage: Storage = SpendingStorage(storage, store) if settings.blind else storage

    async def start(self, *, serve: bool = True) -> None:
        """Derive the keysets and, unless nothing may move, free what a crash left claimed where no other process holds it."""
        if not self.blind_endpoints:
            return
        if not self._signer.capabilities().dleq:
            raise RefusedError("blind authentication needs a signer that proves its signatures (NUT-12)")
        keys = await self._signer.keyset_public_keys(self._ref, [1])
        for version in _VERSIONS:  # ids of both versions name the same key, so that a change of the setting voids nothing
            identifier = derive_keyset_id(version, unit=AUTH_UNIT, keys=keys)
            self._keysets[identifier] = Keyset(id=identifier, unit=AUTH_UNIT, keys=keys, active=version == self._version)
        if self._exclusive and serve:
            await self._storage.transact(self._store.release_all)

    async def close(self) -> None:
        """Let go of the provider."""
        await self._source.close()

    def nuts(self) -> dict[str, Any]:
        """What NUT-06 announces: 21, and 22 where blind tokens are asked for."""
        settings = self._settings
        shown: dict[str, Any] = {
            "21": {
                "openid_discovery": settings.openid_discovery,
                "client_id": settings.client_id,
                "protected_endpoints": _shown(self.clear_endpoints),
            }
        }
        if self.blind_endpoints:
            shown["22"] = {
                "bat_max_mint": settings.bat_max_mint,
                "protected_endpoints": _shown(self.blind_endpoints),
            }
        return shown

    async def clear(self, token: str) -> str:
        """The user that a clear token names. ClearAuthFailedError; UnavailableError while the provider is not there."""
        return await self._clear.verify(token)

    # -- blind tokens -------------------------------------------------------------------------------------------------

    def keysets(self) -> list[Keyset]:
        """The keysets of blind tokens; one of them signs."""
        return list(self._keysets.values())

    def keyset(self, keyset_id: str) -> Keyset:
        """One of them; KeysetUnknownError."""
        try:
            return self._keysets[keyset_id]
        except KeyError:
            raise KeysetUnknownError from None

    async def mint(self, outputs: Sequence[BlindedMessage], subject: str) -> list[BlindSignature]:
        """Blind tokens for a user, with DLEQ; the same request again gets the same answer, and is not counted again.

        BlindAuthTooManyError above `bat_max_mint`, BlindAuthRateLimitedError beyond the user's pace; then nothing is signed.
        """
        self._check(outputs)
        operation = operation_hash("auth", "", (), outputs)
        done = await self._storage.read(lambda tx: self._replay(tx, outputs, operation))
        if done is not None:
            return done
        if not self._minting.take(subject, len(outputs), self._clock.monotonic()):
            raise BlindAuthRateLimitedError
        tasks = [ToBlindSign(self._ref, 1, output.B_) for output in outputs]
        signatures: list[BlindSignature] = []
        for output, signed in zip(outputs, await self._signer.blind_sign(tasks), strict=True):
            if signed.dleq_e is None or signed.dleq_s is None:
                raise InvariantError("the signer left out a DLEQ proof")
            signatures.append(BlindSignature(1, output.id, signed.c_, Dleq(signed.dleq_e, signed.dleq_s)))
        rows = [(output.B_, signature) for output, signature in zip(outputs, signatures, strict=True)]
        now = self._clock.now()

        async def body(tx: Transaction) -> list[BlindSignature]:
            if not await self._store.add_signatures(tx, rows, operation=operation, at=now):
                raise OutputsSignedError
            return signatures

        try:
            return await self._storage.transact(body)
        except OutputsSignedError:  # the same request may have come twice at once
            done = await self._storage.read(lambda tx: self._replay(tx, outputs, operation))
            if done is None:
                raise
            return done

    def _check(self, outputs: Sequence[BlindedMessage]) -> None:
        if not outputs:
            raise MalformedError("no outputs")
        if len(outputs) > self._settings.bat_max_mint:
            raise BlindAuthTooManyError
        for output in outputs:
            if not self.keyset(output.id).active:
                raise KeysetInactiveError
            if output.amount != 1:
                raise AmountOutOfRangeError("a blind token has the amount 1")
        if len({output.B_ for output in outputs}) != len(outputs):
            raise DuplicateOutputsError

    async def _replay(
        self, tx: Transaction, outputs: Sequence[BlindedMessage], operation: bytes
    ) -> list[BlindSignature] | None:
        found = await self._store.signatures(tx, [output.B_ for output in outputs])
        records = [found[output.B_] for output in outputs if output.B_ in found]
        if len(records) != len(outputs) or any(record.operation != operation for record in records):
            return None
        return [record.signature for record in records]

    @contextlib.asynccontextmanager
    async def spending(self, text: str) -> AsyncIterator[None]:
        """Run a request on the blind token of a header. BlindAuthFailedError, before it runs, for one that is not good.

        What the request raises decides what becomes of the token (see above) and is raised on.
        """
        held = await self._reserve(text)
        token = HELD.set(held)
        try:
            yield
            if not held.spent and not await self._storage.transact(lambda tx: self._store.spend(tx, held.y, held.holder)):
                raise BlindAuthFailedError("the request took too long: its blind token has gone to another one")
            held.spent = True
        except BaseException as error:
            held.ended = True
            refused = isinstance(error, RefusedError | UnavailableError | PeerFaultError)
            if refused or not held.spent:
                with contextlib.suppress(SpecieError):  # the lease frees it then
                    await self._storage.transact(lambda tx: self._store.release(tx, held.y, held.holder, spent_too=refused))
            raise
        finally:
            held.ended = True
            HELD.reset(token)

    async def _reserve(self, text: str) -> Held:
        proof = auth_token_from_text(text)
        if proof.id not in self._keysets:
            raise BlindAuthFailedError("the blind token is of a keyset that is not taken")
        (y,) = await self._signer.verify_proofs([ProofToVerify(self._ref, 1, proof.secret.encode(), proof.C)])
        if y is None:
            raise BlindAuthFailedError("the blind token was not signed by this mint")
        held = Held(y, self._entropy.bytes(16).hex())
        now = self._clock.now()

        async def body(tx: Transaction) -> None:
            claimed = await self._store.reserve(tx, y, keyset=proof.id, holder=held.holder, now=now, lease_s=LEASE_S)
            if not claimed:
                spent = await self._store.state(tx, y) is AuthTokenState.SPENT
                raise BlindAuthFailedError(
                    "the blind token was used before" if spent else "the blind token is in use by another request"
                )

        await self._storage.transact(body)
        return held


def _shown(endpoints: Sequence[ProtectedEndpoint]) -> list[dict[str, str]]:
    return [{"method": endpoint.method, "path": endpoint.path} for endpoint in endpoints]


class _Pace:
    """Tokens a user may mint: a steady pace and a burst (generic cell rate algorithm), in bounded memory of this process."""

    def __init__(self, per_hour: int, burst: int) -> None:
        self._interval_s = 3600 / per_hour if per_hour else 0.0
        self._burst = burst
        self._arrivals: OrderedDict[str, float] = OrderedDict()

    def take(self, subject: str, count: int, now: float) -> bool:
        """Count `count` tokens at `now` (monotonic seconds), or none and False."""
        if not self._interval_s:
            return True
        arrival = max(self._arrivals.get(subject, now), now) + count * self._interval_s
        if arrival - now > self._burst * self._interval_s + 1e-9:
            return False
        self._arrivals[subject] = arrival
        self._arrivals.move_to_end(subject)
        if len(self._arrivals) > _SUBJECTS:
            self._arrivals.popitem(last=False)
        return True
