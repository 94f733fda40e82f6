"""The mistake: a mint's answers are believed.

Lower amounts, another keyset, no DLEQ or a wrong one, one signature twice, too few, too many, a wrong order, states and
quotes about something else, bodies without end: whatever comes, the wallet refuses it, keeps what it had (the inputs and the
outputs it journalled), and gets its money once the mint answers rightly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from msgspec.structs import replace

from specie.ecash import BlindSignature, Dleq, MeltQuote, ProofState, State
from specie.kernel import Limits, PeerFaultError, SpecieError
from specie.wallet.adapters.http import HttpMintClient
from tests.support.coins import public_key, secret_key
from tests.support.wallets import virtually, world

Signatures = list[BlindSignature]
Lie = Callable[[Signatures], Signatures]


def _forged(one: BlindSignature) -> BlindSignature:
    return replace(one, C_=public_key("forged"))


LIES: dict[str, Lie] = {
    "a lower amount": lambda s: [*s[:-1], replace(s[-1], amount=max(s[-1].amount // 2, 1))],
    "a higher amount": lambda s: [*s[:-1], replace(s[-1], amount=s[-1].amount * 2)],
    "an amount without a key": lambda s: [*s[:-1], replace(s[-1], amount=3)],
    "another keyset": lambda s: [replace(s[0], id="00" + "ab" * 7), *s[1:]],
    "no dleq": lambda s: [replace(s[0], dleq=None), *s[1:]],
    "a dleq of another": lambda s: [replace(s[0], dleq=s[-1].dleq), *s[1:]],
    "a made-up dleq": lambda s: [replace(s[0], dleq=Dleq(secret_key("e"), secret_key("s"))), *s[1:]],
    "another point": lambda s: [_forged(s[0]), *s[1:]],
    "another point without dleq": lambda s: [replace(_forged(s[0]), dleq=None), *s[1:]],
    "one signature twice": lambda s: [s[0], *s[:-1]],
    "another order": lambda s: list(reversed(s)),
    "one less": lambda s: s[1:],
    "one more": lambda s: [*s, s[0]],
    "none": lambda s: [],
}


def lying(verb: str, lie: Lie) -> Callable[[str, object], object]:
    def change(asked: str, answer: object) -> object:
        return lie(list(answer)) if asked == verb and isinstance(answer, list) else answer

    return change


@virtually
@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_wrong_signatures_of_a_swap_lose_nothing(lie: Lie) -> None:
    """Refused as the mint's fault; the inputs stay reserved, nothing false enters the balance, and resume has it all."""
    async with world() as w:
        wallet, other = await w.wallet(), await w.wallet()
        await w.fund(wallet, 100)
        w.faults.change = lying("swap", lie)
        with pytest.raises(PeerFaultError):
            await wallet.send(37)
        balance = await wallet.balance()
        assert (balance.available, balance.reserved, balance.sent) == (36, 64, 0)
        report = await wallet.resume()  # the mint still lies
        assert report.open
        assert not report.settled
        w.faults.change = None
        assert (await wallet.resume()).settled
        (token,) = await wallet.tokens()
        assert (await other.receive(token.text)).amount == 37
        await wallet.check_pending()
        await w.books_hold(wallet, other)


@virtually
@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_wrong_signatures_of_an_issue_lose_nothing(lie: Lie) -> None:
    """The same for minting: the deposit is claimed in full once the mint is honest."""
    async with world() as w:
        wallet = await w.wallet()
        quote = await wallet.mint_quote(37)
        await w.pay(quote.request)
        w.faults.change = lying("issue", lie)
        with pytest.raises(PeerFaultError):
            await wallet.claim(quote)
        assert (await wallet.balance()).total == 0
        w.faults.change = None
        assert (await wallet.resume()).settled
        assert (await wallet.balance()).available == 37
        await w.books_hold(wallet)


CHANGE_LIES = {name: lie for name, lie in LIES.items() if name not in ("no dleq", "one less", "none", "a lower amount")}


@virtually
@pytest.mark.parametrize("lie", CHANGE_LIES.values(), ids=CHANGE_LIES)
async def test_wrong_change_of_a_payment_loses_nothing(lie: Lie) -> None:
    """The payment was made; false change is refused, its blank outputs are kept, and the true change comes by resume."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)

        def change(verb: str, answer: object) -> object:
            if verb in ("melt", "melt_quote") and isinstance(answer, MeltQuote) and answer.change:
                return replace(answer, change=tuple(lie(list(answer.change))))
            return answer

        w.faults.change = change
        invoice = await w.foreign_invoice(21_000)
        try:
            await wallet.pay(invoice)
        except PeerFaultError:
            assert w.pages.pages
            assert (await wallet.balance()).reserved > 0
        w.faults.change = None
        await wallet.resume()
        assert (await wallet.balance()).reserved == 0
        await w.books_hold(wallet)


@virtually
@pytest.mark.parametrize("lie", [State.SPENT, State.PENDING, State.UNSPENT])
async def test_false_states_move_no_coin_of_ours(lie: State) -> None:
    """A mint that lies about coins in hand changes nothing: states are asked of coins out of hand only."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.faults.change = lambda verb, answer: (
            [ProofState(one.Y, lie) for one in answer] if verb == "check_state" and isinstance(answer, list) else answer
        )
        await wallet.check_pending()
        await wallet.resume()
        w.faults.change = None
        assert (await wallet.balance()).available == 100
        await w.books_hold(wallet)


@virtually
async def test_restored_lies_are_refused() -> None:
    """Signatures made up in answer to a restore do not become money."""
    async with world() as w:
        words = "legal winner thank year wave sausage worth useful legal winner thank yellow"
        wallet = await w.wallet(words=words)
        await w.fund(wallet, 100)

        def change(verb: str, answer: object) -> object:
            if verb == "restore" and isinstance(answer, list):
                return [(message, _forged(signature)) for message, signature in answer]
            return answer

        w.faults.change = change
        again = await w.wallet(words=words)
        with pytest.raises(PeerFaultError):
            await again.restore()
        assert (await again.balance()).total == 0
        w.faults.change = None
        await again.restore()
        assert (await again.balance()).available == 100


@virtually
@pytest.mark.parametrize("part", ["amount", "unit", "request", "fee"])
async def test_false_quotes_cost_nothing(part: str) -> None:
    """A melt quote for more than the invoice, another unit, another invoice, or a fee beyond the limit: nothing is sent."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        other = await w.foreign_invoice(21_000, "another")
        changes: dict[str, dict[str, object]] = {
            "amount": {"amount": 50},
            "unit": {"unit": "msat"},
            "request": {"request": other},
            "fee": {"fee_reserve": 60},
        }
        w.faults.change = lambda verb, answer: (
            replace(answer, **changes[part]) if verb == "request_melt_quote" else answer  # type: ignore[type-var]
        )
        with pytest.raises(SpecieError):
            await wallet.pay(await w.foreign_invoice(21_000), max_fee=10)
        assert "melt" not in w.faults.calls
        assert (await wallet.balance()).available == 100
        await w.books_hold(wallet)


async def test_a_body_without_end_is_cut_off() -> None:
    """An answer larger than the bound is dropped while it is read, whatever length it announces, and is the mint's fault."""
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while sent < 100_000_000:
            sent += 65_536
            yield b"[" * 65_536

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=endless())

    client = HttpMintClient("http://mint.test", limits=Limits(body_bytes=1_000_000), transport=httpx2.MockTransport(answer))
    with pytest.raises(PeerFaultError):
        await client.keysets()
    assert sent < 2_000_000
    await client.close()


@pytest.mark.parametrize(
    "body", [b"[" * 500_000, b'{"a":' * 100_000, b"\xff\xfe", b"NaN", b"", b"null", b'{"signatures":[1e999]}']
)
async def test_bodies_that_hurt_parsers_are_faults(body: bytes) -> None:
    """Deep, broken, empty or impossible JSON ends in the one error that says whose fault it is."""
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, content=body))
    client = HttpMintClient("http://mint.test", transport=transport)
    with pytest.raises(PeerFaultError):
        await client.swap(b"{}")
    with pytest.raises(PeerFaultError):
        await client.keysets()
    await client.close()
