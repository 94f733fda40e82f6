"""News of quotes (NUT-17): every kind, taken up again after the connection broke, and polling where there are none."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from specie.ecash import MintInfo
from specie.kernel import UnavailableError
from specie.wallet.engine.methods import batch_size, display_name, offers_news
from specie.wallet.errors import UnsupportedError
from tests.support.method_mint import MethodClient, method_mints
from tests.support.wallets import virtually


def _info(nut: str, setting: object) -> MintInfo:
    return MintInfo(nuts={nut: setting})


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"supported": [{"method": "onchain", "unit": "sat", "commands": ["onchain_mint_quote"]}]}, True),
        ({"supported": [{"method": "bolt11", "unit": "sat", "commands": ["bolt11_mint_quote"]}]}, False),
        ({"supported": [{"method": "bolt11", "unit": "sat"}]}, True),
        ({"supported": True}, True),
        ({"supported": []}, False),
        ({"supported": [5, "x"]}, False),
        ({}, False),
        ("yes", False),
    ],
)
def test_only_news_that_are_announced_are_asked_for(setting: object, expected: bool) -> None:
    """By kind; a mint that lists no kinds is asked; nonsense is no announcement."""
    assert offers_news(_info("17", setting), "onchain_mint_quote") is expected


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"max_batch_size": 7, "methods": ["bolt12"]}, 7),
        ({"max_batch_size": 7, "methods": ["bolt11"]}, 1),
        ({"max_batch_size": 700}, 50),
        ({}, 50),
        ({"max_batch_size": 0}, 1),
        ({"max_batch_size": -3}, 1),
        ({"max_batch_size": True}, 50),
        ({"max_batch_size": "9"}, 50),
        (None, 1),
        ([], 1),
    ],
)
def test_sizes_of_batches(setting: object, expected: int) -> None:
    """The mint's bound and ours, whichever is less; nonsense is no bound."""
    assert batch_size(_info("29", setting), "bolt12", 50) == expected


def test_names_of_methods() -> None:
    """The mint's own, or one made from the method."""
    info = _info("4", {"methods": [{"method": "gift_card", "unit": "sat", "method_name": "Gift card"}]})
    assert display_name(info, "gift_card") == "Gift card"
    assert display_name(info, "cash-by_mail") == "Cash By Mail"


class _Line:
    """A WebSocket that breaks when told, and what was subscribed to."""

    def __init__(self, mint: MethodClient, breaks: int, error: Exception) -> None:
        self.mint = mint
        self.breaks = breaks
        self.error = error
        self.asked: list[str] = []
        self.news = 0

    async def watch(self, kind: str, name: str) -> AsyncIterator[None]:
        self.asked.append(kind)
        if len(self.asked) <= self.breaks:
            raise self.error
        clock = self.mint.bank.clock
        before = self.mint.quotes[name]
        while True:
            await clock.sleep(0.01)
            if self.mint.quotes[name] != before:
                before = self.mint.quotes[name]
                self.news += 1
                yield


def _announce(mint: MethodClient, *commands: str) -> None:
    real = mint.info

    async def info() -> MintInfo:
        found = await real()
        entry = {"method": "onchain", "unit": "sat", "commands": list(commands)}
        return msgspec.structs.replace(found, nuts={**found.nuts, "17": {"supported": [entry]}})

    mint.info = info  # type: ignore[method-assign]


@virtually
async def test_a_broken_line_is_taken_up_again() -> None:
    """Three connections break, the fourth tells of the deposit long before the next poll."""
    async with method_mints() as m:
        (mint,) = m.mints
        _announce(mint, "onchain_mint_quote")
        wallet = await m.wallet()
        line = _Line(mint, 3, UnavailableError("no WebSocket"))
        mint.watch = line.watch  # type: ignore[method-assign]
        quote = await wallet.mint_quote(method="onchain")

        async def later() -> None:
            await m.clock.sleep(200.1)
            mint.deposit(quote.quote, 5)

        import asyncio

        paying = asyncio.ensure_future(later())
        seen = await wallet.wait(quote, timeout_s=500)
        await paying
        assert seen.claimable == 5
        assert line.asked == ["onchain_mint_quote"] * 4
        assert line.news == 1


@virtually
async def test_a_refused_line_is_left_alone() -> None:
    """A mint that refuses the subscription is polled, and not asked again."""
    async with method_mints() as m:
        (mint,) = m.mints
        _announce(mint, "onchain_mint_quote")
        wallet = await m.wallet()
        line = _Line(mint, 100, UnsupportedError("no", nut=17))
        mint.watch = line.watch  # type: ignore[method-assign]
        quote = await wallet.mint_quote(method="onchain")
        assert (await wallet.wait(quote, timeout_s=100)).claimable == 0
        assert len(line.asked) == 1


@virtually
async def test_news_that_are_not_announced_are_polled_for() -> None:
    """No subscription to a kind that the mint does not list; the deposit is seen all the same."""
    async with method_mints() as m:
        (mint,) = m.mints
        _announce(mint, "bolt11_mint_quote")
        wallet = await m.wallet()
        line = _Line(mint, 0, UnavailableError("no"))
        mint.watch = line.watch  # type: ignore[method-assign]
        quote = await wallet.mint_quote(method="onchain")
        mint.deposit(quote.quote, 5)
        assert (await wallet.wait(quote, timeout_s=100)).claimable == 5
        assert (await wallet.wait(quote, timeout_s=1)).claimable == 5
        assert line.asked == []
