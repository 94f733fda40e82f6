"""What a mint may answer to a payment, and what the wallet makes of it: every corner of the table in `engine.pay`."""

from __future__ import annotations

import msgspec
import pytest

from specie.ecash import MeltQuote, MeltState
from specie.ecash import codes as refused
from specie.kernel import PeerFaultError, RefusedError, UnavailableError, UncertainError
from specie.lightning.adapters.play import Answer, Fault, PlayFaults
from specie.wallet.errors import OperationOpenError
from tests.support.wallets import World, virtually, world

AWAY = UnavailableError("no connection")
LOST = UncertainError("the answer was lost")


def answers(w: World, **by_verb: object) -> None:
    """Change fields of the mint's answers to a verb: `melt={"state": ...}`."""

    def change(verb: str, answer: object) -> object:
        fields = by_verb.get(verb)
        return answer if fields is None else msgspec.structs.replace(answer, **fields)  # type: ignore[type-var, arg-type]

    w.faults.change = change


@virtually
async def test_answer_that_says_unpaid_is_a_failure_not_a_reason_to_send_again() -> None:
    """Some mints answer 200 with UNPAID where a payment failed: it is over, and one request was sent."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        quote = await wallet.melt_quote(await w.foreign_invoice(21_000))
        real = w.client.melt_quote
        known = await real(_as_melt(quote))

        async def unpaid(*_: object) -> object:
            w.faults.bodies.append(("melt", b""))
            return known

        w.client.melt = unpaid  # type: ignore[assignment, method-assign]
        with pytest.raises(refused.PaymentFailedError):
            await wallet.pay(quote)
        assert [verb for verb, _ in w.faults.bodies].count("melt") == 1
        assert (await wallet.balance()).available == 100


def _as_melt(quote: object) -> object:
    from specie.wallet.engine.prices import as_melt_quote

    return as_melt_quote(quote)  # type: ignore[arg-type]


@virtually
async def test_never_sent_is_unavailable_and_free() -> None:
    """No connection at all: the payment fails as unavailable and nothing is locked."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.faults.plant("before", "melt", AWAY, AWAY, AWAY)
        with pytest.raises(UnavailableError):
            await wallet.pay(await w.foreign_invoice(21_000))
        assert (await wallet.balance()).available == 100
        assert not await wallet.operations()


@virtually
@pytest.mark.parametrize("verb", ["melt_quote", "check_state"])
async def test_mint_that_cannot_be_asked_keeps_coins_locked(verb: str) -> None:
    """A lost answer, and then no way to look: locked until somebody can."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.faults.plant("before", "melt", LOST)
        w.faults.plant("before", verb, AWAY, AWAY, AWAY)
        with pytest.raises(OperationOpenError):
            await wallet.pay(await w.foreign_invoice(21_000))
        assert (await wallet.balance()).reserved > 0
        await wallet.resume()
        assert (await wallet.balance()).reserved == 0
        await w.books_hold(wallet)


@virtually
async def test_refusals_free_the_coins() -> None:
    """Quote expired, invoice paid by somebody else, payment failed: refused for good, coins free."""
    for refusal in (refused.QuoteExpiredError(), refused.InvoicePaidError(), refused.UnbalancedError(), RefusedError("no")):
        async with world() as w:
            wallet = await w.wallet()
            await w.fund(wallet, 100)
            w.faults.plant("before", "melt", refusal)
            with pytest.raises(type(refusal)):
                await wallet.pay(await w.foreign_invoice(21_000))
            assert (await wallet.balance()).available == 100
            await w.books_hold(wallet)


@virtually
async def test_refusal_that_may_hide_work_keeps_coins_locked() -> None:
    """`Proofs are pending` (11002) says that the mint works on them, whatever the quote says."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.faults.plant("before", "melt", refused.ProofsPendingError())
        with pytest.raises(OperationOpenError):
            await wallet.pay(await w.foreign_invoice(21_000))
        assert (await wallet.balance()).reserved > 0
        await wallet.resume()
        await w.books_hold(wallet)


@virtually
async def test_coins_that_another_device_spent() -> None:
    """A payment refused because a coin is gone gives that coin up and frees the others."""
    words = "legal winner thank year wave sausage worth useful legal winner thank yellow"
    async with world() as w:
        one, two = await w.wallet(words=words), await w.wallet(words=words)
        await w.fund(one, 16)
        await w.fund(one, 8)
        await two.restore()
        bob = await w.wallet()
        await bob.receive((await one.send(16)).text)
        with pytest.raises(refused.ProofsSpentError):
            await two.pay(await w.foreign_invoice(21_000))
        balance = await two.balance()
        assert (balance.available, balance.reserved) == (8, 0)


@virtually
async def test_wrong_change_is_a_fault_and_loses_nothing() -> None:
    """Change with a wrong DLEQ, or more change than there was, is refused; honest change comes with `resume`."""
    for broken in ("dleq", "more"):
        async with world() as w:
            wallet = await w.wallet()
            await w.fund(wallet, 100)

            def change(verb: str, answer: object, broken: str = broken) -> object:
                signed = getattr(answer, "change", None)
                if verb not in ("melt", "melt_quote") or not signed:
                    return answer
                first, *rest = signed
                if broken == "dleq":
                    first = msgspec.structs.replace(first, C_=rest[0].C_ if rest else signed[0].dleq.e + b"\0")
                else:
                    first = msgspec.structs.replace(first, amount=1 << 40, dleq=None)
                return msgspec.structs.replace(answer, change=(first, *rest))  # type: ignore[type-var]

            w.faults.change = change
            with pytest.raises(PeerFaultError):
                await wallet.pay(await w.foreign_invoice(21_000))
            assert w.pages.pages
            assert len(await wallet.operations()) == 1
            w.faults.change = None
            await wallet.resume()
            await w.books_hold(wallet)


@virtually
async def test_mint_that_cannot_restore_change_still_ends_the_payment() -> None:
    """Paid, no change in the quote, and no NUT-09: the payment is settled; its change is left to a restore by the words."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        answers(w, melt={"change": None}, melt_quote={"change": None})
        w.faults.plant("before", "restore", RefusedError("HTTP 404"))
        payment = await wallet.pay(await w.foreign_invoice(21_000))
        assert payment.state == "PAID"
        w.faults.change = None
        await wallet.restore()
        await w.books_hold(wallet)


@virtually
async def test_change_waits_for_the_mint() -> None:
    """Paid, but the mint is gone before it gave the change: open until it can be asked, then settled with the change."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        answers(w, melt={"change": None}, melt_quote={"change": None})
        w.faults.plant("before", "restore", AWAY, AWAY, AWAY)
        with pytest.raises(OperationOpenError):
            await wallet.pay(await w.foreign_invoice(21_000))
        assert len((await wallet.resume()).settled) == 1
        await w.books_hold(wallet)


@virtually
async def test_mint_that_answers_about_another_quote() -> None:
    """An answer about another quote is a fault; nothing is freed for it."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.faults.plant("before", "melt", LOST)
        answers(w, melt_quote={"quote": "another"})
        with pytest.raises(PeerFaultError):
            await wallet.pay(await w.foreign_invoice(21_000))
        assert (await wallet.balance()).reserved > 0
        w.faults.change = None
        await wallet.resume()
        await w.books_hold(wallet)


@virtually
async def test_wait_sees_the_end() -> None:
    """A payment that takes a while is waited for, and ends PAID with its preimage in the same call."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.bank.rail.set_faults(PlayFaults(always=Fault(after_s=20.0, answer=Answer.PENDING)))
        payment = await wallet.pay(await w.foreign_invoice(21_000), wait_s=300)
        assert payment.state == MeltState.PAID
        assert payment.preimage
        await w.books_hold(wallet)


@virtually
@pytest.mark.parametrize("given", [0, 1, None])
async def test_change_that_is_kept_back_is_fetched(given: int | None) -> None:
    """A mint that tells of less change than the agreed reserve leaves over is asked by NUT-09 for the rest of it."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 1000)

        def lie(verb: str, answer: object) -> object:
            if isinstance(answer, MeltQuote) and answer.change:
                return msgspec.structs.replace(answer, change=None if given is None else answer.change[:given])
            return answer

        w.faults.change = lie
        paid = await wallet.pay(await w.foreign_invoice(40_000))
        assert (await wallet.balance()).available == 1000 - 40 - paid.fee
        assert w.pages.pages == []
        await w.books_hold(wallet)


@virtually
async def test_change_that_is_never_given_is_told() -> None:
    """A mint that keeps more than the agreed reserve, and shows no signature for it, is told of; what it gave is kept."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 1000)

        def lie(verb: str, answer: object) -> object:
            if isinstance(answer, MeltQuote) and answer.change:
                return msgspec.structs.replace(answer, change=answer.change[:1])
            return [] if verb == "restore" else answer

        w.faults.change = lie
        paid = await wallet.pay(await w.foreign_invoice(40_000), wait_s=1)
        assert (await wallet.balance()).available == 1000 - 40 - paid.fee
        assert [reason for reason, _ in w.pages.pages] == ["wallet: a mint kept more of a payment than it had agreed to"]
        w.faults.change = None
        await wallet.restore()
        await w.books_hold(wallet)
