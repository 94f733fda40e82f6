"""Swaps and claims whose fate has to be pieced together from signatures, states and quotes."""

from __future__ import annotations

import msgspec
import pytest

from specie.ecash import MintQuote
from specie.ecash import codes as refused
from specie.kernel import PeerFaultError, RefusedError, UnavailableError, UncertainError
from specie.wallet.errors import OperationOpenError
from tests.support.wallets import MINT_URL, virtually, world

LOST = UncertainError("the answer was lost")
AWAY = UnavailableError("no connection")


def fault() -> PeerFaultError:
    return PeerFaultError("not JSON", peer=MINT_URL)


@virtually
async def test_unreadable_answer_after_the_effect() -> None:
    """The mint swapped and answered garbage: the signatures are had by NUT-09, and the verb succeeds."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.faults.plant("after", "swap", fault())
        assert (await wallet.send(37)).amount == 37
        assert w.faults.calls.count("swap") == 1
        await w.books_hold(wallet)


@virtually
async def test_unreadable_answer_without_effect() -> None:
    """The mint answered garbage and did nothing: it is at fault, and the coins are free."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.faults.plant("before", "swap", fault())
        with pytest.raises(PeerFaultError):
            await wallet.send(37)
        assert (await wallet.balance()).available == 100
        assert not await wallet.operations()


@virtually
async def test_busy_coins() -> None:
    """`Pending` at the first sending is a plain refusal; after a lost answer it means: wait and send the same again."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.faults.plant("before", "swap", refused.ProofsPendingError())
        with pytest.raises(refused.ProofsPendingError):
            await wallet.send(37)
        assert (await wallet.balance()).available == 100
        w.faults.plant("before", "swap", LOST, refused.ProofsPendingError())
        assert (await wallet.send(37)).amount == 37
        await w.books_hold(wallet)


@virtually
@pytest.mark.parametrize("question", ["restore", "check_state"])
async def test_mint_that_cannot_be_asked(question: str) -> None:
    """A replay that says `spent`, and then silence: the coins stay locked until the mint says more."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.faults.plant("after", "swap", LOST)
        w.faults.plant("before", "swap", None, refused.ProofsSpentError())
        w.faults.plant("before", question, AWAY, AWAY, AWAY)
        with pytest.raises(OperationOpenError):
            await wallet.send(37)
        assert (await wallet.balance()).reserved == 64
        await wallet.resume()
        await w.books_hold(wallet)


@virtually
async def test_replay_refused_for_another_reason() -> None:
    """After a rotation a mint may refuse the replay of what it has done (12002): its signatures tell."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.faults.plant("after", "swap", LOST)
        w.faults.plant("before", "swap", None, refused.KeysetInactiveError())
        assert (await wallet.send(37)).amount == 37
        assert w.faults.calls.count("swap") == 2
        await w.books_hold(wallet)


@virtually
async def test_coins_of_another_device_are_given_up() -> None:
    """A swap refused because a coin is gone marks that coin spent and is built again from the others."""
    words = "legal winner thank year wave sausage worth useful legal winner thank yellow"
    async with world() as w:
        one, two, bob = await w.wallet(words=words), await w.wallet(words=words), await w.wallet()
        await w.fund(one, 64)
        await w.fund(one, 32)
        await two.restore()
        await bob.receive((await one.send(32)).text)
        assert (await two.send(20)).amount == 20
        assert (await two.balance()).total == 64
        await one.check_pending()


@virtually
async def test_state_that_is_left_out_is_a_fault() -> None:
    """A mint that does not answer for a coin leaves everything as it was."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.faults.plant("after", "swap", LOST)
        w.faults.plant("before", "swap", None, refused.ProofsSpentError())

        def change(verb: str, answer: object) -> object:
            return [] if verb == "check_state" else answer

        w.faults.change = change
        with pytest.raises(PeerFaultError):
            await wallet.send(37)
        assert (await wallet.balance()).reserved == 64
        w.faults.change = None
        await wallet.resume()
        await w.books_hold(wallet)


@virtually
async def test_part_of_a_request_signed() -> None:
    """A mint that gives back only part of what it signed: that part is kept, a human is called, the rest is on the words."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.faults.plant("after", "swap", LOST)
        w.faults.plant("before", "swap", None, refused.ProofsSpentError())

        def change(verb: str, answer: object) -> object:
            return answer[:-1] if verb == "restore" and isinstance(answer, list) else answer

        w.faults.change = change
        await wallet.split([3, 5])
        assert w.pages.pages
        assert 0 < (await wallet.balance()).available < 100
        w.faults.change = None
        await wallet.restore()
        await w.books_hold(wallet)


@virtually
@pytest.mark.parametrize(
    ("field", "value"), [("unit", "usd"), ("amount", 99), ("pubkey", "02" + "11" * 32), ("request", "not an invoice")]
)
async def test_mint_quotes_are_checked(field: str, value: object) -> None:
    """Another unit, amount, key or no invoice at all: the quote is not shown to anybody."""
    async with world() as w:
        wallet = await w.wallet()

        def change(verb: str, answer: object) -> object:
            return msgspec.structs.replace(answer, **{field: value}) if isinstance(answer, MintQuote) else answer

        w.faults.change = change
        with pytest.raises(PeerFaultError):
            await wallet.mint_quote(13)
        assert await wallet.mint_quotes() == []


@virtually
async def test_quote_that_answers_for_another() -> None:
    """A look that answers about another quote is a fault."""
    async with world() as w:
        wallet = await w.wallet()
        quote = await wallet.mint_quote(13)

        def change(verb: str, answer: object) -> object:
            return msgspec.structs.replace(answer, quote="other") if isinstance(answer, MintQuote) else answer

        w.faults.change = change
        with pytest.raises(PeerFaultError):
            await wallet.claim(quote)


@virtually
async def test_unlocked_quotes_where_the_mint_knows_no_locks() -> None:
    """Without NUT-20 the quote carries no key, and is claimed without a signature."""
    from specie.ecash import MintInfo

    async with world() as w:

        def change(verb: str, answer: object) -> object:
            if isinstance(answer, MintInfo):
                return msgspec.structs.replace(answer, nuts={k: v for k, v in answer.nuts.items() if k != "20"})
            return answer

        w.faults.change = change
        wallet = await w.wallet()
        quote = await wallet.mint_quote(13)
        assert quote.key_index is None
        await w.pay(quote.request)
        assert await wallet.claim(quote) == 13
        (body,) = [body for verb, body in w.faults.bodies if verb == "issue"]
        assert "signature" not in msgspec.json.decode(body)


@virtually
async def test_claim_refused_stays_claimable() -> None:
    """A claim the mint refuses (minting switched off) costs nothing and can be made later."""
    async with world() as w:
        wallet = await w.wallet()
        quote = await wallet.mint_quote(13)
        await w.pay(quote.request)
        for refusal in (refused.MintingDisabledError(), RefusedError("no")):
            w.faults.plant("before", "issue", refusal)
            with pytest.raises(type(refusal)):
                await wallet.claim(quote)
        assert await wallet.claim(quote) == 13
        await w.books_hold(wallet)
