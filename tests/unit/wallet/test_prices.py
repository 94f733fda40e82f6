"""How a pasted text becomes a question to a mint: which way, which amount, which fee; and what is refused before asking."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specie.ecash import MeltFeeOption, MeltQuote
from specie.kernel import MalformedError, PeerFaultError, RefusedError
from specie.wallet import WalletMeltQuote
from specie.wallet.engine.prices import Asked, asked_of, check_unchanged, choose_fee
from tests.support.method_mint import address_of, method_mints, offer_of
from tests.support.wallets import virtually

OPTIONS = st.lists(
    st.builds(MeltFeeOption, st.integers(0, 40), st.integers(0, 500), st.integers(0, 200)),
    min_size=1,
    max_size=6,
    unique_by=lambda one: one.fee_index,
)
STORED = WalletMeltQuote("http://m.test", "q", "bolt12", "sat", "lno1", 5, 3, "UNPAID", None, None, 0)
SEEN = MeltQuote("q", "bolt12", "lno1", "sat", 5, 3)


@given(options=OPTIONS, blocks=st.none() | st.integers(0, 210), default=st.integers(0, 210))
def test_the_cheapest_within_the_target_is_chosen(options: list[MeltFeeOption], blocks: int | None, default: int) -> None:
    """Never a dearer one than another that is as quick as asked for; without a target the quickest where none is in time."""
    target = default if blocks is None else blocks
    within = [one for one in options if one.estimated_blocks <= target]
    if blocks is not None and not within:
        with pytest.raises(RefusedError):
            choose_fee(options, blocks=blocks, default_blocks=default)
        return
    chosen = choose_fee(options, blocks=blocks, default_blocks=default)
    if within:
        assert chosen.fee_reserve == min(one.fee_reserve for one in within)
        assert chosen in within
    else:
        assert chosen.estimated_blocks == min(one.estimated_blocks for one in options)
    assert choose_fee(options, fee_index=chosen.fee_index) == chosen
    assert choose_fee(options[::-1], blocks=blocks, default_blocks=default) == chosen


def test_ways_of_a_text() -> None:
    """By what it is, by what is asked for, and as it stands for a method of no NUT."""
    address, offer = address_of("shop"), offer_of(None)
    uri = f"bitcoin:{address}?amount=0.0001&lno={offer}"
    assert [(way.method, way.amount) for way in asked_of(uri, method=None, unit="sat")] == [
        ("bolt12", 10_000),
        ("onchain", 10_000),
    ]
    assert [way.amount for way in asked_of(uri, method="onchain", unit="msat")] == [10_000_000]
    assert [way.amount for way in asked_of(uri, method="onchain", unit="usd", amount=7)] == [7]
    assert asked_of("a thing", method="barter", unit="sat", amount=3) == [Asked("barter", "a thing", "sat", 3)]
    assert asked_of("lnxx1odd", method="bolt11", unit="sat") == [Asked("bolt11", "lnxx1odd", "sat")]
    assert [way.amount_msat for way in asked_of(uri, method=None, unit="sat", amount_msat=10_000_000)] == [10_000_000, None]
    for text, options in (
        (address, {"method": "bolt12"}),
        ("a thing", {"method": None}),
        (uri, {"method": None, "amount": 9_999}),
        (uri, {"method": None, "amount_msat": 9_999}),
        (f"bitcoin:{address}?amount=0.0001&lno={offer_of(5)}", {"method": None}),
    ):
        with pytest.raises(MalformedError):
            asked_of(text, unit="sat", **options)


@virtually
async def test_amounts_that_contradict_are_refused_before_asking() -> None:
    """Zero, twice, beside the request's own, in a unit whose rate is the mint's, beside an address in millisatoshi."""
    async with method_mints() as m:
        wallet = await m.wallet()
        await m.fund(wallet, 100)
        invoice = await m.worlds[0].foreign_invoice(21_000)
        open_invoice = await m.worlds[0].foreign_invoice(None, "open")
        m.mints[0].faults.calls.clear()
        for request, options in (
            (invoice, {"amount": 20}),
            (invoice, {"amount_msat": 20_000}),
            (open_invoice, {}),
            (open_invoice, {"amount": 0}),
            (open_invoice, {"amount": 5, "amount_msat": 5_000}),
            (open_invoice, {"amount": 5, "unit": "usd"}),
            (offer_of(None), {}),
            (address_of("a"), {"amount_msat": 5_000}),
            ("bitcoin:", {}),
            ("no address", {"method": "onchain", "amount": 5}),
        ):
            with pytest.raises(RefusedError):
                await wallet.melt_quote(request, **options)
        assert "request_melt_quote" not in m.mints[0].faults.calls
        assert (await wallet.melt_quote(open_invoice, amount=5)).amount == 5
        assert (await wallet.melt_quote(invoice, amount=21)).amount == 21
        with pytest.raises(MalformedError):
            await wallet.melt_quote(invoice, fee_index=1)
        with pytest.raises(MalformedError):
            await wallet.pay(await wallet.melt_quote(invoice), blocks=3)


@virtually
async def test_an_amount_goes_where_the_mint_wants_it() -> None:
    """Beside the request of a method of no NUT, or in its options where the mint announces that."""
    async with method_mints() as m:
        (mint,) = m.mints
        wallet = await m.wallet()
        await m.fund(wallet, 100)
        seen = []
        real = mint.request_melt_quote

        async def look(request: object) -> object:
            seen.append((request.amount, request.amount_msat))  # type: ignore[attr-defined]
            return await real(request)  # type: ignore[arg-type]

        mint.request_melt_quote = look  # type: ignore[method-assign, assignment]
        await wallet.melt_quote("x", method="voucher", amount=7)
        mint.amountless = ("voucher",)
        await wallet.add_mint(m.urls[0])
        assert (await wallet.melt_quote("x", method="voucher", amount=7)).amount == 7
        assert seen == [(7, None), (None, 7_000)]


@pytest.mark.parametrize(
    "change",
    [
        {"quote": "r"},
        {"amount": 6},
        {"unit": "msat"},
        {"request": "lno2"},
        {"fee_reserve": 4},
        {"fee_options": (MeltFeeOption(0, 1, 1),)},
    ],
)
def test_what_a_mint_may_not_change(change: dict[str, object]) -> None:
    """The quote's name, amount, unit, payee, and its fee upwards; a lower fee is welcome."""
    import msgspec

    check_unchanged(STORED, SEEN)
    check_unchanged(STORED, msgspec.structs.replace(SEEN, fee_reserve=2, request=""))
    with pytest.raises(PeerFaultError):
        check_unchanged(STORED, msgspec.structs.replace(SEEN, **change))
