"""`PlayOnchainRail`: on-chain payments (NUT-30) in play money, on a chain of play blocks (`play_chain`).

Deposits are seen, mined and told when they are deep enough. A payment is one transaction, named by its attempt: it is stored
before it is broadcast, and whatever happens to blocks it stays that one. It is PENDING until it is deep enough; then PAID, for
good. Of the reserve that was chosen a part is spent, the rest is change. Blocks come by the clock while something waits for
them, or by hand.

| crash                                 | in the store             | after the next start                            |
|---------------------------------------|--------------------------|-------------------------------------------------|
| before an order is stored             | nothing                  | ABSENT; the order may be given again            |
| after it is stored                    | PENDING, not broadcast   | broadcast when it is due: the same transaction  |
| after it is broadcast                 | PENDING, its transaction | mined with the next blocks                      |
| between a block and what it confirms  | never: one transaction   |                                                 |
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from specie.kernel.clock import Clock
from specie.kernel.entropy import Entropy
from specie.kernel.errors import RefusedError, UncertainError
from specie.kernel.rail import FeeOption, IncomingPayment, OutgoingQuote, PaymentOrder, PaymentOutcome, PaymentState
from specie.kernel.telemetry import NULL_TELEMETRY, Telemetry
from specie.keys.ports import Signer
from specie.lightning.adapters import play_chain as chain
from specie.lightning.adapters import play_request_store as asked
from specie.lightning.adapters import play_store as rows
from specie.lightning.adapters.play_chain import TransactionRow
from specie.lightning.adapters.play_codecs import AddressCodec, Payee
from specie.lightning.adapters.play_faults import Answer, Fault, PlayFaults
from specie.lightning.adapters.play_policy import PlaySettings, plan_payment, refused
from specie.lightning.adapters.play_request_store import RequestRow
from specie.lightning.adapters.play_requests import PlayRequestRail
from specie.lightning.adapters.play_store import PaymentRow
from specie.storage import Storage, Transaction

__all__ = ["PlayOnchainRail"]

_PAYMENT_VBYTES = 141
"""One input, a payee and change, all segwit version 0."""
_MOST_BLOCKS = 1000


class PlayOnchainRail(PlayRequestRail):
    """A `kernel.Rail` for `onchain` in play money; `name` names it in the store too."""

    def __init__(
        self,
        storage: Storage,
        signer: Signer,
        clock: Clock,
        entropy: Entropy,
        settings: PlaySettings | None = None,
        *,
        name: str = "play-onchain",
        autopay_delay_s: float | None = 3.0,
        faults: PlayFaults | None = None,
        telemetry: Telemetry = NULL_TELEMETRY,
    ) -> None:
        """Keep the plugs; nothing runs before `start`."""
        settings = settings or PlaySettings()
        super().__init__(
            storage,
            signer,
            clock,
            entropy,
            settings,
            method="onchain",
            codec=AddressCodec(settings.confirmations, settings.dust_msat),
            name=name,
            autopay_delay_s=autopay_delay_s,
            faults=faults,
            telemetry=telemetry,
        )

    # The port

    def _priced(self, payment_id: str, payee: Payee, amount_msat: int, own: bool) -> OutgoingQuote:
        options = tuple(
            FeeOption(index, rate * _PAYMENT_VBYTES * 1000, blocks)
            for index, (blocks, rate) in enumerate(self._settings.feerates)
        )
        most = max(option.fee_reserve_msat for option in options)
        return OutgoingQuote(payment_id, amount_msat, most, None, own, options)

    def _amount_of(self, payee: Payee, amount_msat: int | None) -> int:
        amount = super()._amount_of(payee, amount_msat)
        if amount % 1000:
            raise RefusedError("on-chain only whole satoshi are paid")
        if amount < self._settings.dust_msat:
            raise RefusedError(f"on-chain less than {self._settings.dust_msat // 1000} sat is dust, which nobody carries")
        return amount

    # For operators and tests

    async def settle(self, request: str, amount_msat: int | None = None) -> IncomingPayment:
        """Send play money to an address of ours by hand; what will arrive once it is confirmed. RefusedError if unknown."""
        now_ms, txid = self._now_ms(), self._entropy.bytes(32).hex()
        amount = self._settings.gift_msat if amount_msat is None else amount_msat
        if amount < 1000 or amount % 1000:
            raise RefusedError("on-chain only whole satoshi are paid")

        async def body(tx: Transaction) -> TransactionRow:
            own = await asked.request_row(tx, self._book, request) or await asked.request_by_text(tx, self._book, request)
            if own is None:
                raise RefusedError("the play rail has issued no such address")
            await asked.hold_request(tx, self._book, own.payment_id)
            return await self._send(tx, TransactionRow(txid, own.payment_id, amount, now_ms, 0))

        sent = await self._storage.transact(body)
        self._faults.point("settle:stored")
        self._wake()
        self._driver.set()
        return IncomingPayment(
            sent.payment_id, sent.outpoint, sent.amount_msat, "", first_seen=sent.seen_ms // 1000, reference=sent.outpoint
        )

    async def mine(self, blocks: int = 1) -> int:
        """New blocks now; the height after them."""
        if not 1 <= blocks <= _MOST_BLOCKS:
            raise RefusedError(f"from 1 to {_MOST_BLOCKS} blocks are mined at once")
        salt, now_ms = self._entropy.bytes(32), self._now_ms()

        async def body(tx: Transaction) -> int:
            await self._locked(tx)
            for _ in range(blocks):
                await self._mine(tx, salt, now_ms)
            return await chain.tip_height(tx, self._book)

        height = await self._storage.transact(body)
        self._wake()
        return height

    async def reorganise(self, depth: int, *, drop: str | None = None) -> int:
        """Undo the newest blocks; with `drop` its sender then spends that transaction's inputs elsewhere. How many arrivals
        were withdrawn."""

        async def body(tx: Transaction) -> int:
            await self._locked(tx)
            withdrawn = await chain.reorganise(tx, self._book, depth)
            if drop is not None:
                await chain.drop_transaction(tx, self._book, drop)
            return withdrawn

        withdrawn = await self._storage.transact(body)
        self._wake()
        self._driver.set()
        return withdrawn

    async def replace(self, txid: str, *, paid: bool = True) -> str | None:
        """The sender of a transaction that no block has replaces it: by another to the same address, or (not `paid`) by one
        that pays somebody else. The other's txid."""
        now_ms, fresh = self._now_ms(), self._entropy.bytes(32).hex()

        async def body(tx: Transaction) -> str | None:
            await self._locked(tx)
            row = await chain.drop_transaction(tx, self._book, txid)
            if not paid:
                return None
            return (await self._send(tx, replace(row, txid=fresh, seen_ms=now_ms))).txid

        other = await self._storage.transact(body)
        self._driver.set()
        return other

    # What the machine asks

    async def _locked(self, tx: Transaction) -> None:
        await rows.open_book(tx, self._book)
        await rows.lock_book(tx, self._book)

    async def _send(self, tx: Transaction, row: TransactionRow) -> TransactionRow:
        await self._locked(tx)
        await chain.add_transaction(tx, self._book, row)
        return row

    async def _mine(self, tx: Transaction, salt: bytes, now_ms: int) -> None:
        confirmations = self._settings.confirmations
        buried = await chain.mine_block(tx, self._book, now_ms=now_ms, salt=salt, confirmations=confirmations)
        for sent in buried:
            row = await rows.payment_row(tx, sent.paying, sent.attempt)
            if row is not None:
                await rows.resolve_payment(tx, replace(row, own=False), PaymentState.PAID, now_ms=now_ms)

    async def _plan(
        self, tx: Transaction, order: PaymentOrder, payee: Payee, fault: Fault | None, made_up: str, now_ms: int
    ) -> PaymentRow:
        await rows.open_book(tx, self._book)
        own = await asked.request_by_text(tx, self._book, payee.request)
        option = dict(enumerate(self._settings.feerates)).get(-1 if order.fee_index is None else order.fee_index)
        blocks, rate = option or (0, 0)
        reserve = rate * _PAYMENT_VBYTES * 1000
        fee = reserve - reserve // 4 // 1000 * 1000 if fault is None or fault.fee_msat is None else fault.fee_msat
        row = plan_payment(order, fault, self._settings, now_ms=now_ms, fee_msat=fee, preimage="", own=own is not None)
        row = replace(row, rail=self._book, request=payee.request, target=own.payment_id if own else "", blocks=blocks)
        if option is None:
            return refused(row, "the order names no fee option of this rail")
        try:
            self._amount_of(payee, order.amount_msat)
        except RefusedError as error:
            return refused(row, error.detail)
        return refused(row, "the fee is above the limit") if fee > order.max_fee_msat else row

    async def _begin(self, tx: Transaction, row: PaymentRow, fault: Fault | None, now_ms: int) -> None:
        if row.target:
            await asked.hold_request(tx, self._book, row.target)
        if fault is None:
            await self._finish(tx, row, PaymentState.PAID, now_ms)

    async def _finish(self, tx: Transaction, row: PaymentRow, truth: PaymentState, now_ms: int) -> None:
        """PAID: broadcast, once; blocks do the rest. FAILED: as long as it was not broadcast."""
        txid = hashlib.sha256(f"specie play {row.payment_id} {row.attempt}".encode()).hexdigest()
        await self._locked(tx)
        now = await rows.payment_row(tx, row.payment_id, row.attempt) or row
        if now.state is not PaymentState.PENDING or await chain.transaction_row(tx, self._book, txid) is not None:
            return
        if truth is PaymentState.FAILED:
            await rows.resolve_payment(tx, row, truth, now_ms=now_ms)
            return
        height = await chain.tip_height(tx, self._book)
        sent = TransactionRow(
            txid, row.target, row.amount_msat, now_ms, height + row.blocks, paying=row.payment_id, attempt=row.attempt
        )
        await chain.add_transaction(tx, self._book, sent)
        await tx.execute(
            "UPDATE play_payment SET outpoint = $3, due_ms = NULL, answer = 'PENDING', updated_ms = $4"
            " WHERE payment_id = $1 AND attempt = $2 AND state = 'PENDING'",
            row.payment_id,
            row.attempt,
            sent.outpoint,
            now_ms,
        )
        tx.notify(rows.CHANNEL, row.payment_id)

    async def _carry_out(self, row: PaymentRow, fault: Fault | None, deadline_s: float) -> PaymentOutcome:
        """An order is answered once it is stored: what it becomes takes blocks."""
        self._driver.set()
        if row.plan is PaymentState.FAILED and fault is not None and not fault.after_s and fault.answer is Answer.TRUTH:
            row = await self._end(row, row.plan)
        self._faults.point("pay:settled")
        if fault is not None and fault.answer is Answer.LOST:
            raise UncertainError("play rail: told to lose the answer", reference=row.payment_id)
        return row.outcome

    async def _await_end(self, row: PaymentRow, deadline_s: float) -> PaymentOutcome:
        return row.outcome

    async def _work(self, now_ms: int) -> int | None:
        next_ms = await super()._work(now_ms)
        if self._settings.block_s is None:
            return next_ms
        block_ms, confirmations = int(self._settings.block_s * 1000), self._settings.confirmations
        salt = self._entropy.bytes(32)

        async def due(tx: Transaction) -> int | None:
            return await chain.next_block_ms(tx, self._book, block_ms=block_ms, confirmations=confirmations)

        async def body(tx: Transaction) -> bool:
            await self._locked(tx)
            again = await due(tx)  # another process may have mined it meanwhile
            if again is None or again > now_ms:
                return False
            await self._mine(tx, salt, now_ms)
            return True

        at = await self._storage.read(due)
        if at is not None and at <= now_ms:
            if await self._storage.transact(body):
                self._faults.point("due:stored")
                self._wake()
            at = await self._storage.read(due)
        times = [time for time in (next_ms, at) if time is not None]
        return min(times, default=None)

    async def _deliver(self, tx: Transaction, own: RequestRow, receipt_id: str, amount_msat: int, now_ms: int) -> None:
        """Autopay's gift: a transaction like another."""
        txid = hashlib.sha256(f"specie play {receipt_id}".encode()).hexdigest()
        await self._send(tx, TransactionRow(txid, own.payment_id, amount_msat, now_ms, 0))
