"""Conservation of value over any history of deposits, blocks, reorganisations, partial issues, batches and payments.

Offers and addresses that are paid again and again, in a bank that is restarted now and then. After every step the audit
passes, what is owed is what the user holds, no quote is issued beyond what was ever credited to it, and what the books say the
rails hold is what the rails say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from specie.ecash import MeltQuote, MeltState, MintQuote, Proof
from specie.ecash import codes as refused
from specie.kernel import RefusedError
from specie.lightning.adapters.play import PlaySettings
from specie.mint import MintSettings
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.house import House, house
from tests.support.methods import Teller, foreign_address
from tests.support.virtual import VirtualClock, VirtualLoop

T = TypeVar("T")

METHODS = ("bolt12", "onchain")
CHAIN = PlaySettings(block_s=None, confirmations=1)
"""One block is enough, so that many things happen in few steps."""
NOT_THAT_MUCH = (refused.UnbalancedError, refused.QuoteUnpaidError, refused.QuoteIssuedError, refused.QuoteExpiredError)


class Bank(RuleBasedStateMachine):
    """One user, one sender outside and the weather of a chain."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.store = SqliteStorage(":memory:", inline=True)
        self.clock = VirtualClock(self.loop)
        self.stack = AsyncExitStack()
        self.lives = 0
        self.coins: list[Proof] = []
        self.quotes: list[MintQuote] = []
        self.sent: list[str] = []
        self.flights: list[tuple[MeltQuote, list[Proof]]] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do one thing on the machine's loop."""
        return self.loop.run_until_complete(work)

    def _open(self) -> None:
        self.lives += 1
        plan = MintSettings(mint_min=1, reconcile_every_s=10_000_000, quote_expiry_s=5000)
        opening = house(
            storage=self.store, clock=self.clock, seed=f"life {self.lives}", settings=plan, methods=METHODS, play=CHAIN
        )
        self.bank: House = self.run(self.stack.enter_async_context(opening))
        self.teller = Teller(self.bank, f"teller {self.lives}")

    @initialize()
    def begin(self) -> None:
        """A bank with a quote of each method."""
        self._open()
        self.quotes = [self.run(self.teller.quote(method)) for method in METHODS for _ in range(2)]

    def teardown(self) -> None:
        """Enough blocks for everything, and a last count."""
        try:
            if hasattr(self, "bank"):
                self.run(self.bank.onchain.mine(12))
                self.look()
                assert not self.flights
                self.books_hold()
                self.run(self.stack.aclose())
            self.run(self.store.close())
        finally:
            self.loop.close()

    # the outside

    @rule(which=st.sampled_from([3, 2, 1, 0]), amount=st.sampled_from([1, 300, 546, 700, 1000, 5000, 7000]))
    def deposit(self, which: int, amount: int) -> None:
        """Somebody pays a quote, on-chain without a block yet."""
        found = self.run(self.teller.deposit(self.quotes[which], amount, confirm=False))
        if self.quotes[which].method == "onchain":
            self.sent.append(found)

    @rule(blocks=st.integers(1, 2))
    def mine(self, blocks: int) -> None:
        """Blocks come."""
        self.run(self.bank.onchain.mine(blocks))

    @rule(depth=st.integers(1, 3), data=st.data(), drops=st.booleans())
    def reorganise(self, depth: int, data: st.DataObject, drops: bool) -> None:
        """Blocks go; perhaps a sender spends elsewhere what was in them."""
        drop = data.draw(st.sampled_from(self.sent)) if drops and self.sent else None
        try:
            self.run(self.bank.onchain.reorganise(depth, drop=drop))
        except RefusedError:  # not so high, or the transaction is in a block below
            return

    @rule(which=st.sampled_from([2, 3]), share=st.integers(1, 3), drops=st.booleans(), again=st.booleans())
    def storm(self, which: int, share: int, drops: bool, again: bool) -> None:
        """What is rare by chance: paid, mined, issued in part, reorganised away, perhaps double-spent, perhaps mined again."""
        quote = self.quotes[which]
        self.deposit(which, 5000)
        self.mine(1)
        mintable = self._mintable(quote)
        if mintable:
            self.coins += self.run(self.teller.issue(quote, max(1, mintable // share)))
        self.run(self.bank.onchain.reorganise(1, drop=self.sent[-1] if drops else None))
        self.run(asyncio.sleep(0.5))
        self.books_hold()
        if again:
            self.mine(1)

    @rule(seconds=st.sampled_from([10, 1500]))
    def wait(self, seconds: int) -> None:
        """Time passes; quotes expire, and what is first seen then counts no more on-chain."""
        self.clock.skip(seconds)

    # the user

    def _mintable(self, quote: MintQuote) -> int:
        return self.run(self.bank.mint.mint_quote(quote.quote, quote.method)).mintable

    @rule(which=st.sampled_from([3, 2, 1, 0]), share=st.integers(1, 4))
    def issue(self, which: int, share: int) -> None:
        """A part of what is mintable; one more than that is refused."""
        quote = self.quotes[which]
        mintable = self._mintable(quote)
        with pytest.raises(NOT_THAT_MUCH):
            self.run(self.teller.issue(quote, mintable + 1))
        if mintable:
            self.coins += self.run(self.teller.issue(quote, max(1, mintable // share)))

    @rule(method=st.sampled_from(METHODS), share=st.integers(1, 3), backwards=st.booleans())
    def batch(self, method: str, share: int, backwards: bool) -> None:
        """Both quotes of a method at once, as far as they have something; asked twice it has one effect."""
        quotes = [quote for quote in self.quotes if quote.method == method]
        amounts = {quote.quote: self._mintable(quote) // share for quote in quotes}
        quotes = [quote for quote in (quotes[::-1] if backwards else quotes) if amounts[quote.quote]]
        if not quotes:
            return
        wanted = [amounts[quote.quote] for quote in quotes]
        outputs = self.teller.outputs_for(sum(wanted))
        request = self.teller.batch(quotes, sum(wanted), wanted, outputs=outputs)
        signed = self.run(self.bank.mint.issue_batch(request))
        assert self.run(self.bank.mint.issue_batch(request)) == signed
        self.coins += outputs.proofs(signed)

    @precondition(lambda self: self.coins)
    @rule(index=st.integers(0, 2), own=st.booleans())
    def pay(self, index: int, own: bool) -> None:
        """All coins for a payment on-chain, to a stranger or to the bank's own address; the change comes later, or never."""
        address = self.quotes[-1].request if own else foreign_address()
        price = self.run(self.teller.price("onchain", address, amount=1000))
        coins, total = list(self.coins), sum(coin.amount for coin in self.coins)
        try:
            begun = self.run(self.teller.pay(price, coins, fee_index=index))
        except refused.UnbalancedError:
            assert total < 1000 + price.fee_options[index].fee_reserve
            return
        assert begun.state is MeltState.PENDING
        self.coins = []
        self.flights.append((price, coins))

    @rule()
    def look(self) -> None:
        """The mint looks at its rail; what was paid is spent, what was broadcast stays so."""

        async def work() -> list[MeltQuote]:
            while self.bank.mint._paying:
                await asyncio.sleep(0)
            await self.bank.mint.reconcile()
            return [await self.bank.mint.melt_quote(price.quote, "onchain") for price, _ in self.flights]

        seen = self.run(work())
        for now, (price, _) in zip(seen, list(self.flights), strict=True):
            assert now.state in (MeltState.PENDING, MeltState.PAID)
            assert now.outpoint is not None
            if now.state is MeltState.PAID:
                self.flights = [flight for flight in self.flights if flight[0].quote != price.quote]

    @rule()
    def restart(self) -> None:
        """The process ends and another begins."""
        self.run(self.stack.aclose())
        self._open()

    # what always holds

    @invariant()
    def books_hold(self) -> None:
        """See the module."""
        if not hasattr(self, "bank"):
            return

        async def settle_news() -> None:
            for quote in self.quotes:
                await self.bank.mint.mint_quote(quote.quote, quote.method)
            await asyncio.sleep(0.5)  # the streams are read to their end

        self.run(settle_news())
        books = self.run(self.bank.mint.audit())
        owed = sum(books.outstanding(keyset, "sat") for keyset in books.keysets("sat"))
        held = sum(coin.amount for coin in self.coins) + sum(coin.amount for _, coins in self.flights for coin in coins)
        assert owed == held
        for rail in self.bank.requests.values():
            balance = self.run(rail.health()).balance_msat
            assert balance is not None
            known = books.of(f"asset:rail/{rail.name}", "sat") * 1000
            assert known >= balance if self.flights else known == balance, rail.name
        lost = 0
        for record in self.run(self.bank.mint.recent_mint_quotes(10)):
            assert 0 <= record.amount_issued <= record.amount_paid
            assert not record.lost or record.amount_paid == record.amount_issued
            lost += record.lost
        assert books.of("expense:withdrawn_deposits", "sat") == lost
        assert books.of("liability:deposit/uncounted", "sat") <= 0
        assert not self.bank.mint._stopped


TestBank = Bank.TestCase
TestBank.settings = settings(max_examples=25, stateful_step_count=25)
TestBank.pytestmark = pytest.mark.timeout(900)  # to make a failure small takes its time
