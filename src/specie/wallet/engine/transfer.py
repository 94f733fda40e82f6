"""Moving value from one of our mints to another: the destination's invoice is paid by the source, then claimed.

The transfer is written down with both quotes before anything is paid. Its legs are operations with journals of their own,
so this file never sends a payment twice: it begins one, once, and from then on only looks what became of it.

| a crash ...                             | leaves behind                         | `resume` then                           |
|-----------------------------------------|---------------------------------------|-----------------------------------------|
| while quotes are asked for              | unpaid quotes                         | nothing: they run out                   |
| after the transfer, before its payment  | PAYING, no operation of its quote     | FAILED: nothing was paid, nothing is    |
| while the payment runs                  | PAYING, the melt OPEN, coins locked   | carries the melt on (`pay`), looks again|
| after the payment failed                | PAYING, the melt FAILED, coins free   | FAILED                                  |
| after the payment, before it is noted   | PAYING, the quote PAID                | PAID, and claims                        |
| before or while coins are claimed       | PAID; perhaps an OPEN mint operation  | carries that on, or claims              |
| after the claim, before it is noted     | PAID, the quote issued                | DONE                                    |

A payment whose end nobody knows stays PAYING with its coins locked. One that the source calls paid and the destination does
not stays PAID, for ever if need be: it is claimed as soon as the destination has it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from specie.ecash.info import MethodSetting
from specie.ecash.mint_url import mint_url_checked
from specie.ecash.quote import MeltState
from specie.kernel.errors import InvariantError, MalformedError, PeerFaultError, SpecieError
from specie.kernel.money import unit_checked
from specie.lightning.invoice import decode_invoice
from specie.wallet.engine import pay
from specie.wallet.engine.context import Context
from specie.wallet.engine.issue import claim, request_mint_quote, wait_for_payment
from specie.wallet.engine.mints import fresh_keysets, known_mint
from specie.wallet.engine.prices import Asked, request_melt_quote
from specie.wallet.errors import (
    FeeExceedsLimitError,
    FeeExceedsValueError,
    InsufficientFundsError,
    MintLeavingError,
    MintUnknownError,
    OperationBusyError,
)
from specie.wallet.holding import StoredProof, WalletMeltQuote, WalletMintQuote
from specie.wallet.selection import net_value, select, spendable
from specie.wallet.states import CoinState, OperationState
from specie.wallet.transfer import Transfer, TransferQuote, TransferState

__all__ = ["Transfers", "payment_bounds"]

_METHOD = "bolt11"
_ROUNDS = 6
_LOOK_BACK_S = 7 * 86_400
_PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class _Plan:
    """Both quotes, and the most that the transfer can cost."""

    mint_quote: WalletMintQuote
    melt_quote: WalletMeltQuote
    fee: int

    @property
    def amount(self) -> int:
        """What arrives."""
        return self.mint_quote.amount or 0


@dataclass(frozen=True, slots=True)
class _Order:
    source: str
    destination: str
    unit: str
    max_fee: int | None
    cost_ppm: int | None

    def check_cost(self, amount: int, fee: int) -> None:
        """FeeExceedsLimitError where `fee` is more than the caller allows."""
        allowed = [] if self.max_fee is None else [self.max_fee]
        if self.cost_ppm is not None:
            allowed.append(amount * self.cost_ppm // _PPM)
        if allowed and fee > min(allowed):
            raise FeeExceedsLimitError(fee, min(allowed), self.unit)


def payment_bounds(settings: Sequence[MethodSetting], unit: str) -> tuple[int | None, int | None]:
    """Least and most of one BOLT 11 payment in `unit` that all of these settings allow; None for no bound."""
    ours = [one for one in settings if (one.method, one.unit) == (_METHOD, unit)]
    least = [one.min_amount for one in ours if one.min_amount is not None]
    most = [one.max_amount for one in ours if one.max_amount is not None]
    return max(least, default=None), min(most, default=None)


class Transfers:
    """`wallet.transfers`: money from mint to mint. Both must be known to the wallet, and speak BOLT 11."""

    def __init__(self, context: Context) -> None:
        """Work on a wallet's context."""
        self._context = context

    async def quote(
        self, amount: int | None, *, source: str, destination: str, unit: str = "sat", at_most: int | None = None
    ) -> TransferQuote:
        """What moving `amount` would cost at most; with None, how much of all the free money there would arrive.

        Asks both mints for quotes and pays nothing. Errors as `move`.
        """
        order = await self._order(source, destination, unit, None, None)
        plan = await self._plan(order, amount, at_most)
        return TransferQuote(order.source, order.destination, order.unit, plan.amount, plan.fee)

    async def move(
        self,
        amount: int | None,
        *,
        source: str,
        destination: str,
        unit: str = "sat",
        max_fee: int | None = None,
        cost_ppm: int | None = None,
        at_most: int | None = None,
        wait_s: float | None = None,
    ) -> Transfer:
        """Move `amount` (what arrives) from one mint to another; with None all that is free there, up to `at_most`.

        `max_fee` and `cost_ppm` (millionths of the amount) bound all it may cost. The transfer as it stands after `wait_s`:
        DONE, or PAYING or PAID where `resume` has to carry it on. InsufficientFundsError, FeeExceedsLimitError, and
        FeeExceedsValueError where nothing would arrive, before anything is paid; a RefusedError or UnavailableError where the
        payment failed and its coins are free again.
        """
        order = await self._order(source, destination, unit, max_fee, cost_ppm)
        plan = await self._plan(order, amount, at_most)
        now = self._context.clock.now()
        transfer = Transfer(
            transfer_id=self._context.new_id(),
            source=order.source,
            destination=order.destination,
            unit=order.unit,
            amount=plan.amount,
            fee=plan.fee,
            mint_quote=plan.mint_quote.quote,
            melt_quote=plan.melt_quote.quote,
            created_at=now,
            updated_at=now,
        )
        ctx, wait = self._context, self._context.settings.payment_wait_s if wait_s is None else wait_s
        ctx.busy.add(transfer.transfer_id)
        try:
            if not await ctx.storage.transact(lambda tx: ctx.store.add_transfer(tx, transfer)):
                raise PeerFaultError("the mint gave the quote of another transfer", peer=order.source)
            return await self._run(transfer, plan, order, wait)
        finally:
            ctx.busy.discard(transfer.transfer_id)

    async def entries(self, *, pending: bool = True) -> list[Transfer]:
        """Transfers, oldest first: those that are not at their end, or all."""
        states = (TransferState.PAYING, TransferState.PAID) if pending else tuple(TransferState)
        return await self._context.storage.read(lambda tx: self._context.store.transfers(tx, states))

    async def resume(self, *, wait_s: float = 0.0) -> list[Transfer]:
        """Look what became of transfers and claim what was paid; those not at their end. `Wallet.resume` calls it.

        Raises for none of them. Payments themselves are carried on by `Wallet.resume`.
        """
        ctx = self._context
        found = await ctx.storage.read(lambda tx: ctx.store.transfers(tx, tuple(TransferState)[:2]))
        late = ctx.clock.now() - _LOOK_BACK_S
        failed = await ctx.storage.read(lambda tx: ctx.store.transfers(tx, (TransferState.FAILED,)))
        for transfer in [*found, *(one for one in failed if one.updated_at >= late)]:
            if transfer.transfer_id not in ctx.busy:
                ctx.busy.add(transfer.transfer_id)
                try:
                    await self._carry_on(transfer, wait_s)
                finally:
                    ctx.busy.discard(transfer.transfer_id)
        return await self.entries()

    # planning

    async def _order(self, source: str, destination: str, unit: str, max_fee: int | None, cost_ppm: int | None) -> _Order:
        ctx = self._context
        order = _Order(mint_url_checked(source), mint_url_checked(destination), unit_checked(unit), max_fee, cost_ppm)
        for mint in (order.source, order.destination):
            if not await known_mint(ctx, mint):
                raise MintUnknownError(mint)
        if order.source == order.destination:
            raise MalformedError("a transfer is from one mint to another one")
        if any(one.mint == order.destination for one in await ctx.storage.read(ctx.store.leaving)):
            raise MintLeavingError(order.destination)
        return order

    async def _plan(self, order: _Order, amount: int | None, at_most: int | None) -> _Plan:
        if amount is not None:
            if amount <= 0:
                raise MalformedError("an amount to move must be positive")
            plan = await self._quoted(order, amount)
            order.check_cost(plan.amount, plan.fee)
            return plan
        plan = await self._plan_all(order, at_most)
        order.check_cost(plan.amount, plan.fee)
        return plan

    async def _free(self, order: _Order) -> list[StoredProof]:
        ctx = self._context
        return spendable(
            await ctx.storage.read(
                lambda tx: ctx.store.proofs(tx, mint=order.source, unit=order.unit, states=(CoinState.UNSPENT,))
            )
        )

    async def _ask(self, order: _Order, amount: int) -> tuple[WalletMintQuote, WalletMeltQuote]:
        ctx = self._context
        incoming = await request_mint_quote(ctx, order.destination, order.unit, amount, description=None, method=_METHOD)
        outgoing = await request_melt_quote(ctx, order.source, Asked(_METHOD, incoming.request, order.unit))
        return incoming, outgoing

    async def _quoted(self, order: _Order, amount: int) -> _Plan:
        ctx = self._context
        free = await self._free(order)
        if sum(p.proof.amount for p in free) < amount:
            raise InsufficientFundsError(amount, sum(p.proof.amount for p in free), order.unit)
        incoming, outgoing = await self._ask(order, amount)
        limit = await ctx.array_limit(order.source)
        target = outgoing.amount + outgoing.fee_reserve
        chosen = select(free, target, await ctx.terms(order.source, free), unit=order.unit, max_inputs=limit)
        return _Plan(incoming, outgoing, outgoing.amount - amount + outgoing.fee_reserve + chosen.fee)

    async def _plan_all(self, order: _Order, at_most: int | None) -> _Plan:
        """The largest amount that, with fee reserve and input fees, the free coins pay for; what is over comes back as change.

        The reserve depends on the amount: it is asked for anew until the sum fits, and once more with what was left over.
        """
        ctx = self._context
        await fresh_keysets(ctx, order.source)
        free = await self._free(order)
        terms = await ctx.terms(order.source, free)
        worth = sorted((p for p in free), key=lambda p: terms[p.proof.id].input_fee_ppk - 1000 * p.proof.amount)
        coins = [p for p in worth if 1000 * p.proof.amount > terms[p.proof.id].input_fee_ppk]
        coins = coins[: await ctx.array_limit(order.source)]
        total, net = sum(p.proof.amount for p in coins), net_value(coins, terms)
        least, most = await self._bounds(order)
        ceiling = min([net, *(bound for bound in (most, at_most) if bound is not None)])
        amount, best, need = ceiling, None, 0
        for _ in range(_ROUNDS):
            if amount < max(least or 1, 1):
                break
            incoming, outgoing = await self._ask(order, amount)
            need = outgoing.amount + outgoing.fee_reserve
            if need > net:
                if best is not None:
                    break
                amount -= need - net
                continue
            tried, slack = best is not None, net - need
            best = _Plan(incoming, outgoing, need - amount + (total - net))
            if tried or not slack or amount == ceiling:
                break
            amount = min(amount + slack, ceiling)
        if best is None:
            raise FeeExceedsValueError(max(need - amount, 0) + total - net, total, order.unit)
        return best

    async def _bounds(self, order: _Order) -> tuple[int | None, int | None]:
        ctx = self._context
        settings = [*(await ctx.info(order.destination)).methods(4), *(await ctx.info(order.source)).methods(5)]
        return payment_bounds(settings, order.unit)

    # carrying out

    async def _run(self, transfer: Transfer, plan: _Plan, order: _Order, wait_s: float) -> Transfer:
        ctx = self._context
        extra = plan.melt_quote.amount - plan.amount
        bounds = [] if order.max_fee is None else [order.max_fee - extra]
        if order.cost_ppm is not None:
            bounds.append(plan.amount * order.cost_ppm // _PPM - extra)
        try:
            await pay.pay(ctx, plan.melt_quote, max_fee=min(bounds, default=None), memo=None, wait_s=wait_s)
        except SpecieError as error:
            seen = await self._look_back(transfer, error.detail, over=not isinstance(error, OperationBusyError))
            if seen.state is TransferState.FAILED:
                raise
            transfer = seen
        else:
            transfer = await self._look_back(transfer, "the payment is on its way", over=True)
        return await self._claim(transfer, wait_s) if transfer.state is TransferState.PAID else transfer

    async def _carry_on(self, transfer: Transfer, wait_s: float) -> None:
        if not await known_mint(self._context, transfer.destination):
            return  # it was removed by force: adding it again takes this up
        if transfer.state is not TransferState.PAID:
            transfer = await self._look_back(transfer, transfer.error, over=True)
        if transfer.state is TransferState.PAID:
            await self._claim(transfer, wait_s)

    async def _note(self, transfer: Transfer, after: TransferState, error: str, fee: int | None = None) -> Transfer:
        ctx, now = self._context, self._context.clock.now()
        if (after, error, fee) == (transfer.state, transfer.error, None):
            return transfer
        await ctx.storage.transact(
            lambda tx: ctx.store.move_transfer(tx, transfer.transfer_id, after, fee=fee, error=error, now=now)
        )
        found = await ctx.storage.read(lambda tx: ctx.store.transfer(tx, transfer.transfer_id))
        if found is None:
            raise InvariantError("a transfer is not stored")
        return found

    async def _look_back(self, transfer: Transfer, reason: str, *, over: bool) -> Transfer:
        """What our own journal says of the payment; asks nobody. `over`: no task is about to begin it."""
        ctx = self._context
        quote = await ctx.storage.read(lambda tx: ctx.store.melt_quote(tx, transfer.source, transfer.melt_quote))
        if quote is None:
            raise InvariantError("a transfer names a quote that is not stored")
        if quote.state == MeltState.PAID:
            cost = await ctx.storage.read(lambda tx: ctx.store.payment_cost(tx, transfer.source, quote.request))
            fee = None if cost is None else cost + quote.amount - transfer.amount
            return await self._note(transfer, TransferState.PAID, "", fee)
        states = await ctx.storage.read(lambda tx: ctx.store.quote_operations(tx, transfer.source, transfer.melt_quote))
        if OperationState.OPEN in states or not over:
            return await self._note(transfer, transfer.state, reason)
        if transfer.state is TransferState.FAILED:
            return transfer
        return await self._note(transfer, TransferState.FAILED, reason or "the payment was not made")

    async def _claim(self, transfer: Transfer, wait_s: float) -> Transfer:
        """Have the destination's coins; the transfer DONE, or PAID with the reason why it is not."""
        ctx = self._context
        stored = await self._mint_quote(transfer)
        reason = "the destination has not seen the payment yet"
        if stored.amount_issued < transfer.amount:
            try:
                seen = await wait_for_payment(ctx, stored, timeout_s=max(wait_s, 0.0))
                if seen.claimable:
                    await claim(ctx, seen)
            except SpecieError as error:
                reason = error.detail
            stored = await self._mint_quote(transfer)
        if stored.amount_issued >= transfer.amount:
            return await self._note(transfer, TransferState.DONE, "")
        if not stored.amount_paid and not await self._is_proven(transfer, stored):
            reason = "the source says that it paid, shows no proof of it, and the destination has not seen it"
            ctx.telemetry.page("wallet: a mint says it paid another one and did not prove it", mint=transfer.source)
        return await self._note(transfer, TransferState.PAID, reason)

    async def _mint_quote(self, transfer: Transfer) -> WalletMintQuote:
        ctx = self._context
        stored = await ctx.storage.read(lambda tx: ctx.store.mint_quote(tx, transfer.destination, transfer.mint_quote))
        if stored is None:
            raise InvariantError("a transfer names a quote that is not stored")
        return stored

    async def _is_proven(self, transfer: Transfer, incoming: WalletMintQuote) -> bool:
        """Whether the source has shown the preimage of the destination's invoice."""
        ctx = self._context
        quote = await ctx.storage.read(lambda tx: ctx.store.melt_quote(tx, transfer.source, transfer.melt_quote))
        try:
            preimage = bytes.fromhex((quote.preimage if quote is not None else None) or "")
        except ValueError:
            return False
        return hashlib.sha256(preimage).digest() == decode_invoice(incoming.request).payment_hash
