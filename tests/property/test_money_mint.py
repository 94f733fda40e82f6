"""Conservation of value at the mint over any history of minting, swapping, melting, rotating, crashing and repeating.

The model is small: the coins a user holds, the coins in payments under way, and what the rail really paid. After every step the
mint's audit passes, what it owes is what the model holds to the unit, and what it has is what it owes plus what it earned.
"""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from specie.ecash import MeltQuote, MeltRequest, MeltState, MintQuoteRequest, MintRequest, Proof, SwapRequest, fee_for
from specie.ecash import codes as refused
from specie.kernel import split_amount
from specie.lightning.adapters.play import Answer, Fault, PlayFaults
from specie.mint import MintSettings
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.house import House, Outputs, Purse, house
from tests.support.orders import foreign_invoice
from tests.support.virtual import VirtualClock, VirtualLoop

T = TypeVar("T")

FAULTS = {
    "paid": None,
    "failed": Fault.fail(),
    "late": Fault.late(50.0),
    "unknown, then paid": Fault.unknown(50.0),
    "answer lost": Fault.lost(),
    "pending, then failed": Fault(Fault.fail().truth, 50.0, Answer.PENDING),
    "away": Fault.unavailable(),
}


@dataclass
class Flight:
    """A payment whose end is not known."""

    quote: MeltQuote
    coins: list[Proof]
    blanks: Outputs


class Bank(RuleBasedStateMachine):
    """One user who does everything in any order, on a bank that is restarted now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.store = SqliteStorage(":memory:", inline=True)
        self.clock = VirtualClock(self.loop)
        self.stack = AsyncExitStack()
        self.lives = 0
        self.invoices = 0
        self.coins: list[Proof] = []
        self.spent: list[Proof] = []
        self.flights: list[Flight] = []
        self.done: list[tuple[Any, object]] = []
        self.settings = MintSettings(reconcile_every_s=10_000_000)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do one thing on the machine's loop."""
        return self.loop.run_until_complete(work)

    def _open(self) -> None:
        self.lives += 1
        opening = house(storage=self.store, clock=self.clock, seed=f"life {self.lives}", settings=self.settings)
        self.bank: House = self.run(self.stack.enter_async_context(opening))
        self.purse = Purse(self.bank, f"purse {self.lives}")

    @initialize(fee=st.sampled_from([0, 100, 1000, 2500]), version=st.sampled_from([0, 1]))
    def begin(self, fee: int, version: int) -> None:
        """A bank with a fee of its own."""
        self.settings = MintSettings(reconcile_every_s=10_000_000, input_fee_ppk=fee, keyset_version=version)
        self._open()

    def teardown(self) -> None:
        """Everything under way comes to its end, and is counted a last time."""
        try:
            if hasattr(self, "bank"):
                self.bank.rail.set_faults(PlayFaults())
                self.clock.skip(1000)
                self.look()
                assert not self.flights
                self.books_hold()
                self.run(self.stack.aclose())
            self.run(self.store.close())
        finally:
            self.loop.close()

    def fee(self, coins: list[Proof]) -> int:
        return fee_for(self.bank.mint.keyset(coin.id).input_fee_ppk for coin in coins)

    def pick(self, data: st.DataObject) -> list[Proof]:
        return data.draw(st.lists(st.sampled_from(self.coins), min_size=1, max_size=8, unique_by=lambda one: one.secret))

    def take(self, coins: list[Proof]) -> None:
        gone = {coin.secret for coin in coins}
        self.coins = [coin for coin in self.coins if coin.secret not in gone]

    # what the user does

    @rule(amount=st.integers(1, 200))
    def mint(self, amount: int) -> None:
        """Pay in and issue."""

        async def work() -> list[Proof]:
            quote = await self.bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", amount))
            await self.bank.pay(quote)
            outputs = self.purse.outputs(split_amount(amount, self.bank.keyset().keys))
            request = MintRequest("bolt11", quote.quote, outputs.messages)
            signed = await self.bank.mint.issue(request)
            self.done.append((request, signed))
            return outputs.proofs(signed)

        self.coins += self.run(work())

    @precondition(lambda self: self.coins)
    @rule(data=st.data())
    def swap(self, data: st.DataObject) -> None:
        """Any coins for any split of what is left of them."""
        chosen = self.pick(data)
        rest = sum(coin.amount for coin in chosen) - self.fee(chosen)
        if rest <= 0:
            return
        cut = data.draw(st.integers(0, rest))
        amounts = [one for part in (cut, rest - cut) if part for one in split_amount(part, self.bank.keyset().keys)]
        outputs = self.purse.outputs(amounts)
        request = SwapRequest(tuple(chosen), outputs.messages)
        signed = self.run(self.bank.mint.swap(request))
        self.done.append((request, signed))
        self.take(chosen)
        self.spent += chosen
        self.coins += outputs.proofs(signed)

    @precondition(lambda self: self.coins)
    @rule(data=st.data(), more=st.sampled_from([-5, -1, 1, 3]))
    def swap_unbalanced(self, data: st.DataObject, more: int) -> None:
        """For a unit more or less than there is: refused, and nothing has changed."""
        chosen = self.pick(data)
        amount = sum(coin.amount for coin in chosen) - self.fee(chosen) + more
        if amount <= 0:
            return
        outputs = self.purse.outputs(split_amount(amount, self.bank.keyset().keys))
        try:
            self.run(self.bank.mint.swap(SwapRequest(tuple(chosen), outputs.messages)))
        except refused.UnbalancedError:
            return
        raise AssertionError("value was created or destroyed")

    @precondition(lambda self: self.coins)
    @rule(data=st.data(), fault=st.sampled_from(sorted(FAULTS)), amount=st.integers(1, 40), blanks=st.integers(0, 7))
    def melt(self, data: st.DataObject, fault: str, amount: int, blanks: int) -> None:
        """Pay a foreign invoice, with whatever the rail does."""
        self.invoices += 1
        chosen = self.pick(data)
        self.bank.rail.set_faults(PlayFaults(always=FAULTS[fault]))

        async def work() -> MeltQuote | None:
            quote = await self.purse.melt_quote(await foreign_invoice(self.bank, amount * 1000, f"invoice {self.invoices}"))
            outputs = self.purse.outputs([1] * blanks)
            request = MeltRequest("bolt11", quote.quote, tuple(chosen), outputs.messages)
            flight = Flight(quote, chosen, outputs)
            try:
                answer = await self.bank.mint.melt(request)
            except refused.PaymentFailedError:
                return None
            except refused.UnbalancedError:
                assert sum(coin.amount for coin in chosen) < quote.amount + quote.fee_reserve + self.fee(chosen)
                return None
            self.done.append((request, answer))
            self.take(chosen)
            self.flights.append(flight)
            return answer

        self.run(work())
        self.bank.rail.set_faults(PlayFaults())
        self.settle()

    @precondition(lambda self: self.coins)
    @rule(data=st.data(), amount=st.integers(1, 40))
    def melt_inside(self, data: st.DataObject, amount: int) -> None:
        """Pay an invoice of this very mint, and issue what it brought."""
        chosen = self.pick(data)
        asked = self.run(self.bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", amount)))
        price = self.run(self.purse.melt_quote(asked.request))
        blanks = self.purse.outputs([1] * 6)
        request = MeltRequest("bolt11", price.quote, tuple(chosen), blanks.messages)
        try:
            answer = self.run(self.bank.mint.melt(request))
        except refused.UnbalancedError:
            return
        self.done.append((request, answer))
        self.take(chosen)
        self.flights.append(Flight(price, chosen, blanks))
        self.settle()
        outputs = self.purse.outputs(split_amount(amount, self.bank.keyset().keys))
        self.coins += outputs.proofs(self.run(self.bank.mint.issue(MintRequest("bolt11", asked.quote, outputs.messages))))

    # what others do

    @rule(seconds=st.sampled_from([0, 10, 100]))
    def look(self, seconds: int = 0) -> None:
        """Time passes, what is due comes true, and the reconciler looks."""
        self.clock.skip(seconds)

        async def work() -> None:
            while await self.bank.rail.tick() == 0.0:
                pass
            await self.bank.mint.reconcile()

        self.run(work())
        self.settle()

    def settle(self) -> None:
        """Take note of payments that ended."""
        still = []
        for flight in self.flights:
            seen = self.run(self.bank.mint.melt_quote(flight.quote.quote, "bolt11"))
            if seen.state is MeltState.PENDING:
                still.append(flight)
            elif seen.state is MeltState.PAID:
                change = flight.blanks.proofs(seen.change or (), blank=True)
                over = sum(coin.amount for coin in flight.coins) - self.fee(flight.coins) - flight.quote.amount
                assert 0 <= sum(coin.amount for coin in change) <= over
                self.spent += flight.coins
                self.coins += change
            else:
                self.coins += flight.coins
        self.flights = still

    @rule(fee=st.sampled_from([0, 100, 1000]))
    def rotate(self, fee: int) -> None:
        """A new keyset; coins of the old one stay good."""
        self.run(self.bank.mint.rotate_keyset("sat", input_fee_ppk=fee))

    @rule()
    def restart(self) -> None:
        """The process ends and another begins on the same store."""
        self.run(self.stack.aclose())
        self._open()
        self.settle()

    @precondition(lambda self: self.spent or self.flights)
    @rule(data=st.data())
    def spend_again(self, data: st.DataObject) -> None:
        """A coin that is spent or in a payment is refused, also in company and after any number of restarts."""
        held = [coin for flight in self.flights for coin in flight.coins]
        twice = data.draw(st.sampled_from(self.spent + held))
        company = data.draw(st.sampled_from(self.coins)) if self.coins and data.draw(st.booleans()) else None
        inputs = [twice] if company is None or company.secret == twice.secret else [company, twice]
        rest = sum(coin.amount for coin in inputs) - self.fee(inputs)
        if rest <= 0:
            return
        outputs = self.purse.outputs(split_amount(rest, self.bank.keyset().keys))
        try:
            self.run(self.bank.mint.swap(SwapRequest(tuple(inputs), outputs.messages)))
        except (refused.ProofsSpentError, refused.ProofsPendingError):
            return
        raise AssertionError("a coin was spent twice")

    @precondition(lambda self: self.done)
    @rule(data=st.data())
    def ask_again(self, data: st.DataObject) -> None:
        """Any request of the past again: the same answer (of a melt, its quote as it stands now), and no other effect."""
        request, answer = data.draw(st.sampled_from(self.done))
        if isinstance(request, SwapRequest):
            assert self.run(self.bank.mint.swap(request)) == answer
        elif isinstance(request, MintRequest):
            assert self.run(self.bank.mint.issue(request)) == answer
        else:
            now = self.run(self.bank.mint.melt_quote(request.quote, "bolt11"))
            if now.state is not MeltState.UNPAID:
                assert self.run(self.bank.mint.melt(request)) == now

    # what always holds

    @invariant()
    def books_hold(self) -> None:
        """The audit passes; what is owed is what is held; what is there is what is owed and earned."""
        if not hasattr(self, "bank"):
            return
        books = self.run(self.bank.mint.audit())
        owed = sum(books.outstanding(keyset, "sat") for keyset in books.keysets("sat"))
        held = sum(coin.amount for coin in self.coins) + sum(coin.amount for one in self.flights for coin in one.coins)
        assert owed == held
        earned = books.total("income", "sat") - books.total("expense", "sat")
        deposits = -books.of("liability:deposit/bolt11", "sat")
        assert books.of("asset:rail/play", "sat") == owed + deposits + earned
        assert earned >= 0
        assert not self.bank.mint._stopped

    @invariant()
    def states_are_true(self) -> None:
        """The mint says of every coin what the model knows."""
        if not hasattr(self, "bank"):
            return
        flying = [coin for flight in self.flights for coin in flight.coins]
        known = [(coin, "UNSPENT") for coin in self.coins[-8:]] + [(coin, "SPENT") for coin in self.spent[-8:]]
        known += [(coin, "PENDING") for coin in flying]
        states = self.run(self.bank.mint.check_state([coin.y for coin, _ in known]))
        assert [one.state.value for one in states] == [state for _, state in known]


TestBank = Bank.TestCase
TestBank.settings = settings(max_examples=25, stateful_step_count=25)
TestBank.pytestmark = pytest.mark.timeout(900)  # to make a failure small takes its time
