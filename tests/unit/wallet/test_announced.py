"""What a mint announces decides what the wallet does there: it relies on nothing that is not announced (NUT-06)."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from specie.ecash import MintInfo
from specie.kernel import PeerFaultError
from specie.wallet import HTLC, P2PK
from specie.wallet.errors import UnsupportedError
from tests.support.methods import foreign_address, foreign_offer
from tests.support.wallets import MINT_URL, virtually, world

NOT_ON = (None, {"supported": False}, {"supported": None}, "yes", [], True)
"""Settings under which a NUT is not announced as on; None: it is not named at all."""


def announcing(nut: str, setting: object) -> Callable[[str, object], object]:
    """A mint's information with another setting of one NUT; None leaves it out."""

    def change(verb: str, answer: object) -> object:
        if not isinstance(answer, MintInfo):
            return answer
        nuts: dict[str, Any] = {name: value for name, value in answer.nuts.items() if name != nut}
        return msgspec.structs.replace(answer, nuts=nuts if setting is None else nuts | {nut: setting})

    return change


@pytest.mark.parametrize("setting", NOT_ON, ids=repr)
@pytest.mark.parametrize(("nut", "kind"), [("10", "P2PK"), ("11", "P2PK"), ("10", "HTLC"), ("14", "HTLC")])
def test_a_lock_that_is_not_announced_is_not_made(nut: str, kind: str, setting: object) -> None:
    """Without the lock's own NUT, or NUT-10 below it, nothing is sent, and the coins stay free."""

    @virtually
    async def story() -> None:
        async with world() as w:
            w.faults.change = announcing(nut, setting)
            alice = await w.wallet()
            await w.fund(alice, 100)
            key = await alice.p2pk_key()
            lock = P2PK((key,)) if kind == "P2PK" else HTLC(sha256(bytes(32)).hexdigest(), (key,))
            with pytest.raises(UnsupportedError):
                await alice.send(37, lock=lock)
            assert (await alice.balance()).available == 100
            assert (await alice.send(37)).amount == 37

    story()


@pytest.mark.parametrize(("nut", "kind"), [("14", "P2PK"), ("11", "HTLC")])
def test_a_lock_needs_its_own_nut_alone(nut: str, kind: str) -> None:
    """The other kind of lock may be missing."""

    @virtually
    async def story() -> None:
        async with world() as w:
            w.faults.change = announcing(nut, None)
            alice = await w.wallet()
            await w.fund(alice, 100)
            key = await alice.p2pk_key()
            lock = P2PK((key,)) if kind == "P2PK" else HTLC(sha256(bytes(32)).hexdigest(), (key,))
            assert (await alice.send(37, lock=lock)).amount == 37

    story()


@pytest.mark.parametrize("setting", [None, {"supported": False}, {"supported": True}], ids=repr)
def test_a_quote_is_locked_where_that_is_announced(setting: object) -> None:
    """A mint that does not say NUT-20 is asked for a quote without a key, and the money is claimed all the same."""

    @virtually
    async def story() -> None:
        async with world() as w:
            w.faults.change = announcing("20", setting)
            wallet = await w.wallet()
            quote = await wallet.mint_quote(13)
            assert (quote.key_index is not None) is (setting == {"supported": True})
            stored = (await w.bank.mint.recent_mint_quotes())[0]
            assert (stored.pubkey is not None) is (setting == {"supported": True})
            await w.pay(quote.request)
            assert await wallet.claim(quote) == 13

    story()


@pytest.mark.parametrize("verb", ["swap", "issue"])
def test_a_promised_proof_that_is_missing_is_the_mints_fault(verb: str) -> None:
    """Where NUT-12 is announced, signatures without DLEQ are not taken for money; they are kept, and restored later."""

    @virtually
    async def story() -> None:
        async with world() as w:
            wallet = await w.wallet()
            await w.fund(wallet, 100)
            quote = await wallet.mint_quote(13)
            await w.pay(quote.request)

            def change(asked: str, answer: object) -> object:
                if asked == verb and isinstance(answer, list):
                    return [msgspec.structs.replace(one, dleq=None) for one in answer]
                return answer

            w.faults.change = change
            with pytest.raises(PeerFaultError):
                await (wallet.send(37) if verb == "swap" else wallet.claim(quote))
            w.faults.change = None
            await wallet.resume()
            await w.books_hold(wallet)

    story()


@pytest.mark.parametrize("nut", ["4", "5"])
@pytest.mark.parametrize("method", ["bolt12", "onchain", "voucher"])
def test_a_method_is_not_tried_where_it_is_off(nut: str, method: str) -> None:
    """`disabled` counts though the method is listed: the mint is not even asked."""

    @virtually
    async def story() -> None:
        async with world() as w:
            setting = {"methods": [{"method": method, "unit": "sat"}], "disabled": True}
            w.faults.change = announcing(nut, setting)
            wallet = await w.wallet()
            await w.fund(wallet, 100)
            asked = "request_mint_quote" if nut == "4" else "request_melt_quote"
            before = w.faults.calls.count(asked)
            if nut == "4":
                trying = wallet.mint_quote(5000, method=method, mint=MINT_URL)
            elif method == "onchain":
                trying = wallet.melt_quote(foreign_address(), amount=5000)
            elif method == "bolt12":
                trying = wallet.melt_quote(foreign_offer(5000))
            else:
                trying = wallet.melt_quote("play:voucher", method=method)
            with pytest.raises(UnsupportedError):
                await trying
            assert w.faults.calls.count(asked) == before

    story()
