"""Wallets over any history: what they hold is what was issued less what was spent, and no crash or lost answer changes that.

Two wallets trade at one mint in generated order while answers get lost, processes end and keysets rotate. After each step,
once everything interrupted has been resumed, the mint owes exactly what the two hold, and their words find all of it again.
"""

from __future__ import annotations

import json
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from specie.ecash import Proof
from specie.kernel import SpecieError, UnavailableError, UncertainError
from specie.kernel.hd import words_from_entropy
from specie.lightning.adapters.play import Fault, PlayFaults
from specie.mint import MintSettings
from specie.wallet import Wallet
from specie.wallet.errors import InsufficientFundsError
from specie.wallet.holding import StoredProof
from specie.wallet.selection import KeysetTerms, fee_of, keep_amounts, net_value, select, select_exact
from tests.support.virtual import VirtualClock, VirtualLoop
from tests.support.wallets import MortalStorage, World, memory_storage, world

T = TypeVar("T")

LOST = UncertainError("the answer was lost")
AWAY = UnavailableError("no connection")
TROUBLE: dict[str, tuple[str, str, tuple[BaseException | None, ...]] | None] = {
    "none": None,
    "a swap's answer is lost": ("after", "swap", (LOST,)),
    "all answers of a swap are lost": ("after", "swap", (LOST, LOST, LOST)),
    "a swap does not arrive": ("before", "swap", (AWAY, AWAY, AWAY)),
    "an issue's answer is lost": ("after", "issue", (LOST, LOST, LOST)),
    "a melt's answer is lost": ("after", "melt", (LOST,)),
    "a melt does not arrive": ("before", "melt", (LOST,)),
}
NAMES = ("alice", "bob")


class Trade(RuleBasedStateMachine):
    """Alice and Bob at one mint."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.stack = AsyncExitStack()
        self.invoices = 0
        self.tokens: list[tuple[str, str]] = []
        self.stores: dict[str, MortalStorage] = {}
        self.wallets: dict[str, Wallet] = {}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize(fee=st.sampled_from([0, 100, 1000]), version=st.sampled_from([0, 1]))
    def begin(self, fee: int, version: int) -> None:
        """A mint with a fee of its own, and two wallets with a little money."""
        terms = MintSettings(input_fee_ppk=fee, keyset_version=version, reconcile_every_s=5)
        opening = world(settings=terms, clock=VirtualClock(self.loop))
        self.world: World = self.run(self.stack.enter_async_context(opening))
        for number, name in enumerate(NAMES):
            self.stores[name] = MortalStorage(self.run(memory_storage()))
            self.wallets[name] = self.run(self.world.wallet(self.stores[name], words=self.words(number)))
            self.run(self.world.fund(self.wallets[name], 64))

    @staticmethod
    def words(number: int) -> str:
        return words_from_entropy(bytes([number + 1]) * 16)

    def teardown(self) -> None:
        """The words alone give back all that is free."""
        try:
            if self.wallets:
                for number, name in enumerate(NAMES):
                    again = self.run(self.world.wallet(words=self.words(number), trusted=True))
                    self.run(again.restore())
                    ours = self.run(self.wallets[name].balance())
                    found = self.run(again.balance())
                    assert found.available == ours.available + self._sent_plain(name)
        finally:
            self.run(self.stack.aclose())
            self.loop.close()

    def _sent_plain(self, name: str) -> int:
        """Tokens that nobody redeemed are coins of the seed too."""
        return sum(token.amount for token in self.run(self.wallets[name].tokens()))

    def attempt(self, work: Coroutine[Any, Any, T], trouble: str = "none") -> T | None:
        """Do it, and let it fail; what was interrupted is resumed."""
        planted = TROUBLE[trouble]
        if planted is not None:
            self.world.faults.plant(planted[0], planted[1], *planted[2])
        result, bodies = None, self.world.faults.bodies
        before = len(bodies)
        with suppress(SpecieError):
            result = self.run(work)
        if planted is not None and AWAY in planted[2]:  # these never left, so their numbers may be used again
            never = [one for one in bodies[before:] if one[0] == planted[1]][: len(planted[2])]
            bodies[before:] = [one for one in bodies[before:] if one not in never]
        self.world.faults.before.clear()
        self.world.faults.after.clear()
        self.world.bank.rail.set_faults(PlayFaults())
        for name in NAMES:
            self.world.clock.skip(130)
            report = self.run(self.wallets[name].resume(wait_s=300))
            assert not report.open, report.open
            self.run(self.wallets[name].check_pending())
        return result

    @rule(who=st.sampled_from(NAMES), amount=st.integers(1, 120), trouble=st.sampled_from(sorted(TROUBLE)))
    def mint(self, who: str, amount: int, trouble: str) -> None:
        """Money comes in."""
        self.attempt(self.world.fund(self.wallets[who], amount), trouble)

    @rule(who=st.sampled_from(NAMES), amount=st.integers(1, 80), trouble=st.sampled_from(sorted(TROUBLE)), fee=st.booleans())
    def send(self, who: str, amount: int, trouble: str, fee: bool) -> None:
        """A token is made."""
        token = self.attempt(self.wallets[who].send(amount, include_fee=fee), trouble)
        if token is not None:
            assert token.amount >= amount
            self.tokens.append((who, token.text))

    @rule(data=st.data(), by=st.sampled_from(NAMES), trouble=st.sampled_from(sorted(TROUBLE)))
    def receive(self, data: st.DataObject, by: str, trouble: str) -> None:
        """A token is redeemed, perhaps not for the first time."""
        if self.tokens:
            _, text = data.draw(st.sampled_from(self.tokens))
            self.attempt(self.wallets[by].receive(text), trouble)

    @rule(data=st.data())
    def reclaim(self, data: st.DataObject) -> None:
        """Its sender takes it back, if nobody was faster."""
        if self.tokens:
            sender, text = data.draw(st.sampled_from(self.tokens))
            self.attempt(self.wallets[sender].reclaim(text))

    @rule(
        who=st.sampled_from(NAMES),
        amount=st.integers(1, 60),
        trouble=st.sampled_from(sorted(TROUBLE)),
        fault=st.sampled_from([None, Fault.fail(), Fault.late(60.0), Fault.delay(20.0)]),
    )
    def pay(self, who: str, amount: int, trouble: str, fault: Fault | None) -> None:
        """An invoice elsewhere is paid, or fails."""
        self.invoices += 1
        self.world.bank.rail.set_faults(PlayFaults(always=fault))
        invoice = self.run(self.world.foreign_invoice(amount * 1000, f"invoice {self.invoices}"))
        self.attempt(self.wallets[who].pay(invoice, wait_s=5), trouble)

    @rule(amount=st.integers(1, 60), trouble=st.sampled_from(sorted(TROUBLE)))
    def pay_each_other(self, amount: int, trouble: str) -> None:
        """Alice pays an invoice of Bob's."""

        async def work() -> None:
            quote = await self.wallets["bob"].mint_quote(amount)
            await self.wallets["alice"].pay(quote.request)

        self.attempt(work(), trouble)

    @rule(who=st.sampled_from(NAMES), verb=st.sampled_from(["consolidate", "rotate", "secure"]))
    def tidy(self, who: str, verb: str) -> None:
        """Housekeeping moves coins and creates none."""
        self.attempt(getattr(self.wallets[who], verb)())

    @rule(fee=st.sampled_from([0, 100, 1000]))
    def rotate_keyset(self, fee: int) -> None:
        """The mint changes its keys and its fee."""
        self.run(self.world.bank.mint.rotate_keyset("sat", input_fee_ppk=fee))
        self.world.clock.skip(700)

    @rule(who=st.sampled_from(NAMES))
    def restart(self, who: str) -> None:
        """The wallet's process ends, and another opens its store."""
        words = self.words(NAMES.index(who))
        self.wallets[who] = self.run(self.world.wallet(self.stores[who].inner, words=words, trusted=False))

    @invariant()
    def what_is_held_is_what_is_owed(self) -> None:
        """Issued minus spent, to the unit; nothing is reserved once all is resumed; no blinded message was used twice."""
        if not self.wallets:
            return
        self.run(self.world.books_hold(*self.wallets.values()))
        for wallet in self.wallets.values():
            assert self.run(wallet.balance()).reserved == 0
        requests = {body for verb, body in self.world.faults.bodies if verb in ("issue", "swap", "melt")}
        outputs = [output["B_"] for body in requests for output in json.loads(body).get("outputs") or []]
        assert len(outputs) == len(set(outputs))


TestTrade = Trade.TestCase
TestTrade.settings = settings(max_examples=15, stateful_step_count=14)
TestTrade.pytestmark = pytest.mark.timeout(900)  # to make a failure small takes its time


# Choosing coins

terms = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.builds(KeysetTerms, st.sampled_from([0, 1, 100, 999, 1000, 4000]), st.booleans()),
    min_size=3,
)
purses = st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["a", "b", "c"])), max_size=25)


def _coins(pieces: list[tuple[int, str]]) -> list[StoredProof]:
    return [
        StoredProof(Proof(1 << power, keyset, str(number), b""), str(number).encode(), "http://mint.test", "sat")
        for number, (power, keyset) in enumerate(pieces)
    ]


@settings(max_examples=300)
@given(pieces=purses, target=st.integers(1, 5000), terms=terms, most=st.integers(1, 30))
def test_selection_never_creates_value(
    pieces: list[tuple[int, str]], target: int, terms: dict[str, KeysetTerms], most: int
) -> None:
    """What is chosen is ours, each once, worth the target after its own exact fee, with no coin that could be left out."""
    coins = _coins(pieces)
    try:
        chosen = select(coins, target, terms, max_inputs=most)
    except InsufficientFundsError:
        worth = sorted((1000 * p.proof.amount - terms[p.proof.id].input_fee_ppk for p in coins), reverse=True)
        assert sum(one for one in worth[:most] if one > 0) < 1000 * target
        return
    ys = [p.y for p in chosen.proofs]
    assert len(ys) == len(set(ys)) <= most
    assert set(ys) <= {p.y for p in coins}
    assert chosen.amount == sum(p.proof.amount for p in chosen.proofs)
    assert chosen.fee == fee_of(terms[p.proof.id].input_fee_ppk for p in chosen.proofs)
    assert chosen.net == net_value(chosen.proofs, terms) >= target


@settings(max_examples=200)
@given(pieces=purses, target=st.integers(1, 3000), terms=terms, with_fee=st.booleans())
def test_exact_selection_is_exact(
    pieces: list[tuple[int, str]], target: int, terms: dict[str, KeysetTerms], with_fee: bool
) -> None:
    """Coins handed out as they are make the amount to the unit, before or after their fee, or none are."""
    chosen = select_exact(_coins(pieces), target, terms, with_fee=with_fee)
    if chosen is not None:
        assert (chosen.net if with_fee else chosen.amount) == target


@settings(max_examples=200)
@given(
    amount=st.integers(0, 2**64 - 1),
    held=st.dictionaries(st.sampled_from([1, 2, 4, 8, 1024]), st.integers(0, 5)),
    pieces=st.integers(0, 4),
)
def test_change_is_split_without_remainder(amount: int, held: dict[int, int], pieces: int) -> None:
    """However small change is filled up: the parts make the amount, and each has a key."""
    denominations = [1 << power for power in range(64)]
    parts = keep_amounts(amount, denominations, held, target=pieces)
    assert sum(parts) == amount
    assert set(parts) <= set(denominations)
    assert parts == sorted(parts)
