"""Taking tokens for resources (NUT-24): one payment, one resource, and the same token again gets the same resource.

| a crash ...                        | leaves behind                       | the same token, shown again                 |
|------------------------------------|-------------------------------------|---------------------------------------------|
| before the taking is written       | nothing                             | is taken as if for the first time           |
| after it, before the swap is       | BEGUN, the coins still the payer's  | is taken as if for the first time           |
| while the swap is on its way       | BEGUN, and the swap in the journal  | the journal's swap is carried to its end    |
| after the swap, before it is TAKEN | BEGUN, and the swap DONE            | is known to have paid by the swap           |
| after TAKEN, before the answer     | TAKEN, not answered                 | gets the resource                           |
| after the answer began             | TAKEN, answered                     | gets it again, for a while and a few times  |

A token that was refused leaves no trace and stays the payer's. Where the mint cannot say what became of a swap the taking
stays BEGUN and the caller is told to come again. What is taken off-line is bounded by a cap, locked to a key of ours, and
checked against keys that were known before. Every coin carries a DLEQ proof, now or later: made-up and spent coins are told
apart before a swap is tried.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from hashlib import sha256

from specie.ecash.codes import KeysetUnknownError, ProofsPendingError, ProofsSpentError
from specie.ecash.payload import PaymentPayload
from specie.ecash.requests import LockOption, Mismatch, PaymentMismatchError, PaymentRequest, verify_payment
from specie.ecash.token import Token, TokenDraft, decode_token, encode_token, resolve_token
from specie.kernel.errors import MalformedError, PeerFaultError, RefusedError, UnavailableError, UncertainError
from specie.kernel.money import amount_checked, unit_checked
from specie.storage.ports import Transaction
from specie.wallet.engine.context import Context
from specie.wallet.engine.locks import fresh_key
from specie.wallet.engine.mints import fresh_keysets, known_mint, refresh
from specie.wallet.engine.perform import check_unspent, perform, taken_up
from specie.wallet.engine.receive import receive, receive_offline
from specie.wallet.errors import TokenUsedError
from specie.wallet.operation import Operation
from specie.wallet.paid import TAKING, Settle, Taking, TakingState
from specie.wallet.states import CoinState, OperationState

__all__ = ["Till"]

_KEY = "till"
_MOST_COINS = 100
_LOOK_AGAIN_S = 10
"""Unknown keysets of tokens make us ask their mint no oftener than this."""
_LOCK_AHEAD_S = 86_400
"""A payer may add a time to the lock that was asked for, to have his coins back, if it is this far ahead."""


class Till:
    """Takes tokens for resources; `Wallet.till`. Verbs may run at the same time."""

    def __init__(self, ctx: Context) -> None:
        """Over a wallet's ports."""
        self._ctx = ctx
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}
        self._offline = asyncio.Lock()
        self._keyed = asyncio.Lock()

    async def key(self) -> str:
        """The key of ours that payments are locked to (hex, 33 bytes): always the same, for a token may come late."""
        ctx = self._ctx
        async with self._keyed:
            found = await ctx.storage.read(lambda tx: ctx.store.keys(tx, _KEY))
            if found:
                return (await ctx.signer.public_key(f"p2pk/{min(found.values())}")).hex()
            key = await fresh_key(ctx)
            public = bytes.fromhex(key)
            index = (await ctx.storage.read(lambda tx: ctx.store.keys(tx, "p2pk")))[public[1:]]
            await ctx.storage.transact(lambda tx: ctx.store.save_key(tx, _KEY, index, public))
            return key

    async def request(
        self, amount: int, *, unit: str = "sat", mints: Sequence[str] = (), locked: bool = False, description: str | None = None
    ) -> PaymentRequest:
        """What a payer is asked for: from `mints`, or (none given) any mint this wallet trusts; `locked` to our key.

        RefusedError where the wallet knows no such mint; MalformedError for an amount that is not positive.
        """
        if amount_checked(amount) == 0:
            raise MalformedError("a price is positive")
        unit = unit_checked(unit)
        gone = {one.mint for one in await self._ctx.storage.read(self._ctx.store.leaving)}
        known = [record.url for record in await self._ctx.storage.read(self._ctx.store.mints) if record.url not in gone]
        asked = [url for url in mints or known if url in known]
        usable = [url for url in asked if self._ctx.choose_keyset(await self._ctx.keysets(url), unit) is not None]
        if not usable or (mints and len(asked) != len(mints)):
            raise RefusedError(f"this wallet knows no mint to be paid {unit} from, or not all that were named")
        lock = LockOption("P2PK", await self.key()) if locked else None
        return PaymentRequest(amount=amount, unit=unit, mints=tuple(usable), lock=lock, description=description)

    async def take(
        self,
        text: str,
        request: PaymentRequest,
        resource: str,
        *,
        settle: Settle = Settle.NOW,
        cap: int = 0,
        honour_s: int = 600,
        deliveries: int = 5,
    ) -> Taking:
        """Take a token for a resource, once; the taking, with this delivery counted. Follow it by `answered` or `released`.

        A token taken before is honoured for the same resource: until it has been answered for, and then for `honour_s`
        seconds, at most `deliveries` times in all. `cap`: the most that may be held unswapped of a mint and unit (LATER);
        beyond it tokens are swapped at once. PaymentMismatchError, MalformedError, TokenUsedError and the wallet's and
        mint's refusals leave the token with the payer; UnavailableError: nothing happened yet, or it is not known, come again.
        """
        ctx = self._ctx
        draft = decode_token(text, limits=ctx.settings.limits)
        if not request.takes(draft.mint) or not await known_mint(ctx, draft.mint):
            raise PaymentMismatchError(Mismatch.MINT, "the token is of a mint that is not taken here")
        token = await self._resolved(draft)
        if len(token.proofs) > min(_MOST_COINS, await ctx.array_limit(token.mint)):
            raise MalformedError("the token has too many coins")
        token = Token(token.mint, token.unit, tuple(sorted(token.proofs, key=lambda p: (p.amount, p.secret))))
        name = sha256(b"".join(sorted(proof.y for proof in token.proofs))).hexdigest()
        async with self._alone(name):
            known = await ctx.storage.read(lambda tx: ctx.store.taking(tx, name))
            if known is not None and known.resource != resource:
                raise TokenUsedError("this token has paid for something else")
            if known is None:
                known = await self._redeemed(token, await self._begin(token, request, resource, name, settle), cap)
            elif known.state is TakingState.BEGUN:
                ours = await self._is_ours(token, known)
                known = await (self._taken(known) if ours else self._redeemed(token, known, cap))
            return await self._admitted(known, honour_s, deliveries)

    async def answered(self, name: str) -> None:
        """The resource is being given: the time in which the token is honoured again begins."""

        async def body(tx: Transaction) -> None:
            taking = await self._ctx.store.taking(tx, name)
            if taking is not None and taking.answered_at is None:
                await self._ctx.store.save_taking(tx, replace(taking, answered_at=now))

        now = self._ctx.clock.now()
        await self._ctx.storage.transact(body)

    async def released(self, name: str) -> None:
        """The resource could not be given: this delivery does not count."""

        async def body(tx: Transaction) -> None:
            taking = await self._ctx.store.taking(tx, name)
            if taking is not None and taking.deliveries:
                await self._ctx.store.save_taking(tx, replace(taking, deliveries=taking.deliveries - 1))

        await self._ctx.storage.transact(body)

    async def takings(self, *, since: int = 0, limit: int = 1000) -> list[Taking]:
        """What was taken, newest first."""
        return await self._ctx.storage.read(lambda tx: self._ctx.store.takings(tx, since=since, limit=limit))

    async def forget(self, older_than_s: int) -> int:
        """Forget takings that were begun longer ago; their number. Their tokens are spent, so they are refused all the same."""
        before = self._ctx.clock.now() - older_than_s
        return await self._ctx.storage.transact(lambda tx: self._ctx.store.forget_takings(tx, before))

    @contextlib.asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[None]:
        """One at a time for each token, within this process; across processes the store and the mint decide."""
        lock, users = self._locks.get(name, (asyncio.Lock(), 0))
        self._locks[name] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(name)
            if users > 1:
                self._locks[name] = (lock, users - 1)

    async def _resolved(self, draft: TokenDraft) -> Token:
        ctx = self._ctx
        try:
            return resolve_token(draft, [known.keyset for known in await ctx.keysets(draft.mint)])
        except KeysetUnknownError:
            if ctx.clock.now() - (await ctx.mint_record(draft.mint)).refreshed_at < _LOOK_AGAIN_S:
                raise
            await refresh(ctx, draft.mint)
            return resolve_token(draft, [known.keyset for known in await ctx.keysets(draft.mint)])

    async def _begin(self, token: Token, request: PaymentRequest, resource: str, name: str, settle: Settle) -> Taking:
        """Judge the payment, and write down that it may be redeemed for the resource."""
        ctx = self._ctx
        known = await fresh_keysets(ctx, token.mint)
        now = ctx.clock.now()
        later = settle is Settle.LATER and request.lock is not None
        verify_payment(
            request,
            PaymentPayload(token.mint, token.unit, token.proofs),
            keysets={one.keyset.id: one.keyset for one in known},
            now=now,
            locktime_at_least=now + _LOCK_AHEAD_S,
            payer_pays_fees=False,
        )
        taking = Taking(
            name=name,
            resource=resource,
            mint=token.mint,
            unit=token.unit,
            amount=token.amount,
            settle=Settle.LATER if later else Settle.NOW,
            state=TakingState.BEGUN,
            created_at=now,
        )
        ys = [proof.y for proof in token.proofs]

        async def body(tx: Transaction) -> bool:
            if await ctx.store.proofs_by_y(tx, ys):
                raise TokenUsedError("this wallet has seen a coin of this token before")
            return await ctx.store.add_taking(tx, taking)

        if not await ctx.storage.transact(body):
            raise UnavailableError("this token is being taken just now")
        return taking

    async def _redeemed(self, token: Token, taking: Taking, cap: int) -> Taking:
        """The taking once its token is ours. What refuses the token, and what certainly had no effect, drops the taking."""
        try:
            ys = [proof.y for proof in token.proofs]
            await self._redeem(encode_token(token, short_ids=False), ys, taking, cap)
        except (PeerFaultError, UncertainError) as error:
            raise UnavailableError(f"what became of the token is not known yet: {error.detail}") from error
        except ProofsSpentError:
            await self._drop(taking)
            raise TokenUsedError("a coin of this token has been spent before") from None
        except ProofsPendingError as error:
            await self._drop(taking)
            raise UnavailableError("a coin of this token is being used just now") from error
        except (RefusedError, UnavailableError):
            await self._drop(taking)
            raise
        return await self._taken(taking)

    async def _taken(self, taking: Taking) -> Taking:
        taken = replace(taking, state=TAKING.next(TakingState.BEGUN, "redeem"))

        async def body(tx: Transaction) -> Taking:
            stored = await self._ctx.store.taking(tx, taking.name)
            if stored is None:
                await self._ctx.store.add_taking(tx, taken)
            elif stored.state is TakingState.BEGUN:
                await self._ctx.store.save_taking(tx, taken)
            return taken

        return await self._ctx.storage.transact(body)

    async def _redeem(self, text: str, ys: Sequence[bytes], taking: Taking, cap: int) -> None:
        if taking.settle is Settle.LATER:
            async with self._offline:
                if await self._unswapped(taking) + taking.amount <= cap:
                    await receive_offline(self._ctx, text, preimage=None)
                    return
        await check_unspent(self._ctx, taking.mint, ys)
        await receive(self._ctx, text, preimage=None, trust=False)

    async def _unswapped(self, taking: Taking) -> int:
        ctx = self._ctx
        held = await ctx.storage.read(
            lambda tx: ctx.store.proofs(tx, mint=taking.mint, unit=taking.unit, states=(CoinState.UNSPENT,))
        )
        return sum(stored.proof.amount for stored in held if stored.unswapped)

    async def _is_ours(self, token: Token, taking: Taking) -> bool:
        """Whether this wallet has redeemed exactly these coins since the taking was begun, by a swap or off-line.

        None of them was in the store when it was begun. A swap that was interrupted is carried to its end.
        """
        ctx = self._ctx
        ys = [proof.y for proof in token.proofs]
        held = await ctx.storage.read(lambda tx: ctx.store.proofs_by_y(tx, ys))
        if len(held) == len(ys) and all(stored.unswapped for stored in held):
            return True
        swaps = await ctx.storage.read(lambda tx: ctx.store.swaps_of(tx, b"".join(ys), taking.created_at))
        if any(state is OperationState.DONE for _, state in swaps):
            return True
        for operation_id in (one for one, state in swaps if state is OperationState.OPEN):
            async with taken_up(ctx, operation_id) as operation:
                if operation is None:
                    raise UnavailableError("this token is being taken just now")
                return await self._resumed(operation)
        return False

    async def _resumed(self, operation: Operation) -> bool:
        """Whether a swap that was interrupted has taken effect in the end."""
        try:
            await perform(self._ctx, operation, resumed=True)
        except (PeerFaultError, UncertainError) as error:
            raise UnavailableError(f"what became of the token is not known yet: {error.detail}") from error
        except RefusedError:
            return False
        return True

    async def _drop(self, taking: Taking) -> None:
        await self._ctx.storage.transact(lambda tx: self._ctx.store.drop_taking(tx, taking.name))

    async def _admitted(self, taking: Taking, honour_s: int, deliveries: int) -> Taking:
        """Count one more delivery; TokenUsedError where the time or the number of them is over."""
        now = self._ctx.clock.now()

        async def body(tx: Transaction) -> Taking | None:
            stored = await self._ctx.store.taking(tx, taking.name)
            if stored is None or stored.deliveries >= deliveries:
                return None
            if stored.answered_at is not None and now - stored.answered_at > honour_s:
                return None
            counted = replace(stored, deliveries=stored.deliveries + 1)
            await self._ctx.store.save_taking(tx, counted)
            return counted

        admitted = await self._ctx.storage.transact(body)
        if admitted is None:
            raise TokenUsedError("this token has been used; the time in which it is honoured again is over")
        return admitted
