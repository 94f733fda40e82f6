"""Payment requests cross between cashu-ts and us: both texts both ways, and the payments of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from specie.app.wallet import Wallet
from specie.ecash.requests import (
    LockOption,
    NostrProfile,
    PaymentRequest,
    Transport,
    decode_payment_request,
    encode_nostr_profile,
    encode_payment_request,
)
from specie.kernel import curve
from specie.keys import SealSource
from specie.wallet import OwnRequest, RequestState
from tests.interop.matrix import OpenWallet
from tests.interop.peers import Driver, MintProcess, PeerWallet

pytestmark = [pytest.mark.interop, pytest.mark.network]

PLAY = SealSource(play_key=True)
KEY = curve.public_key(bytes([7]) * 32)
NOSTR = Transport("nostr", encode_nostr_profile(NostrProfile(KEY[1:], ("wss://relay.example.com",))), (("n", "17"),))
MINT = "https://mint.example.com"
REQUESTS = {
    "least": (PaymentRequest(id="7f4a2b39", unit="sat", mints=(MINT,)), {"i": "7f4a2b39", "u": "sat", "m": [MINT]}),
    "amount": (
        PaymentRequest(id="a", amount=2**53 - 1, unit="usd", single_use=True, mints=(MINT,), description="tea ☕"),
        {"i": "a", "a": 2**53 - 1, "u": "usd", "s": True, "m": [MINT], "d": "tea ☕"},
    ),
    "transports": (
        PaymentRequest(
            id="t", amount=10, unit="sat", mints=(MINT,), transports=(NOSTR, Transport("post", "https://shop.example.com/pay"))
        ),
        {
            "i": "t",
            "a": 10,
            "u": "sat",
            "m": [MINT],
            "t": [
                {"t": "nostr", "a": NOSTR.target, "g": [["n", "17"]]},
                {"t": "post", "a": "https://shop.example.com/pay"},
            ],
        },
    ),
    "lock": (
        PaymentRequest(
            id="l", amount=10, unit="sat", mints=(MINT,), lock=LockOption("P2PK", KEY.hex(), (("locktime", "1900000000"),))
        ),
        {
            "i": "l",
            "a": 10,
            "u": "sat",
            "m": [MINT],
            "nut10": {"k": "P2PK", "d": KEY.hex(), "t": [["locktime", "1900000000"]]},
        },
    ),
}
EVERY_REQUEST = pytest.mark.parametrize("name", sorted(REQUESTS))
BOTH_FORMS = pytest.mark.parametrize("form", ["creqA", "creqB"])


def plain(body: Any) -> Any:
    """A raw request of cashu-ts without what it writes for absence."""
    if isinstance(body, dict):
        return {key: plain(value) for key, value in body.items() if value is not None and value is not False and value != []}
    return [plain(item) for item in body] if isinstance(body, list) else body


@EVERY_REQUEST
@BOTH_FORMS
def test_cashu_ts_reads_ours(name: str, form: Any, cashu_ts: Driver) -> None:
    """What we write says the same there."""
    request, raw = REQUESTS[name]
    assert plain(cashu_ts.call("request_decode", text=encode_payment_request(request, form))) == raw


@EVERY_REQUEST
@BOTH_FORMS
def test_we_read_what_cashu_ts_writes(name: str, form: str, cashu_ts: Driver) -> None:
    """And what it writes says the same here; flags that it writes though they are off make no difference."""
    request, raw = REQUESTS[name]
    read = decode_payment_request(cashu_ts.call("request_encode", request=raw, form=form))
    assert (read.single_use or None) == request.single_use
    assert read.id == request.id
    assert (read.amount, read.unit, read.mints, read.description) == (
        request.amount,
        request.unit,
        request.mints,
        request.description,
    )
    assert (read.transports, read.lock) == (request.transports, request.lock)


@pytest.mark.parametrize("lock", [False, True], ids=["plain", "locked"])
def test_cashu_ts_pays_our_request(
    lock: bool, specie_mint: MintProcess, open_wallet: OpenWallet, cashu_ts: Driver, tmp_path: Path
) -> None:
    """Its payload is judged and redeemed: the right amount after the fee, the lock exactly as asked, DLEQ on every coin."""
    payer = open_wallet("cashu-ts", specie_mint)
    assert isinstance(payer, PeerWallet)
    payer.mint(100)

    async def main() -> OwnRequest:
        async with Wallet.open(tmp_path / "ours", sealed=PLAY, mint=specie_mint.url, config_home=tmp_path / "config") as wallet:
            own = await wallet.requests.create(21, lock=lock)
            payload = await asyncio.to_thread(cashu_ts.call, "pay_request", payer.handle, text=own.short)
            receipt = await wallet.requests.accept(payload["payload"])
            assert receipt.memo == "from cashu-ts"
            return await wallet.requests.show(own.request_id)

    seen = asyncio.run(main())
    assert seen.state is RequestState.PAID
    assert seen.received >= 21


def test_we_pay_a_request_of_cashu_ts(
    specie_mint: MintProcess, open_wallet: OpenWallet, cashu_ts: Driver, tmp_path: Path
) -> None:
    """Locked to its key: it redeems our payload for the amount that it asked for."""
    payee = open_wallet("cashu-ts", specie_mint)
    assert isinstance(payee, PeerWallet)
    raw = {"i": "x", "a": 21, "u": "sat", "m": [specie_mint.url], "nut10": {"k": "P2PK", "d": payee.pubkey}}
    text = cashu_ts.call("request_encode", request=raw, form="creqA")

    async def main() -> bytes:
        async with Wallet.open(tmp_path / "ours", sealed=PLAY, mint=specie_mint.url, config_home=tmp_path / "config") as wallet:
            await wallet.mint(100)
            paid = await wallet.requests.pay(text)
            return await wallet.requests.payload(paid.payment_id)

    payload = asyncio.run(main())
    got = cashu_ts.call("take_payload", payee.handle, payload=payload.decode())
    assert got["amount"] >= 21
