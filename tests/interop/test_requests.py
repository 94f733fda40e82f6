"""Payment requests cross between peers and us: both texts both ways, and the payments of them (NUT-18, NUT-26)."""

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
from specie.ecash.requests.verify import PaymentMismatchError
from specie.kernel import curve
from specie.keys import SealSource
from specie.wallet import OwnRequest, RequestState
from tests.interop.matrix import EVERY_PEER, OpenWallet
from tests.interop.peers import Driver, MintProcess, PeerWallet

pytestmark = [pytest.mark.interop, pytest.mark.network]

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


@EVERY_PEER
@EVERY_REQUEST
@BOTH_FORMS
def test_a_peer_reads_ours(kind: str, name: str, form: Any, driver: Driver) -> None:
    """What we write says the same there."""
    request, raw = REQUESTS[name]
    assert plain(driver.call("request_decode", text=encode_payment_request(request, form))) == raw


@EVERY_PEER
@EVERY_REQUEST
@BOTH_FORMS
def test_we_read_what_a_peer_writes(kind: str, name: str, form: str, driver: Driver) -> None:
    """And what it writes says the same here; flags that it writes though they are off make no difference."""
    request, raw = REQUESTS[name]
    read = decode_payment_request(driver.call("request_encode", request=raw, form=form))
    assert (read.single_use or None) == request.single_use
    assert read.id == request.id
    assert (read.amount, read.unit, read.mints, read.description) == (
        request.amount,
        request.unit,
        request.mints,
        request.description,
    )
    assert (read.transports, read.lock) == (request.transports, request.lock)


@EVERY_PEER
@pytest.mark.parametrize("lock", [False, True], ids=["plain", "locked"])
def test_a_peer_pays_our_request(
    kind: str,
    lock: bool,
    specie_mint: MintProcess,
    method_mint: MintProcess,
    open_wallet: OpenWallet,
    driver: Driver,
    tmp_path: Path,
) -> None:
    """Its payload is judged and redeemed: the right amount after the fee, and the lock exactly as asked."""
    mint = method_mint if kind == "nutshell" else specie_mint  # Nutshell chooses too few coins where there are fees
    payer = open_wallet(kind, mint)
    assert isinstance(payer, PeerWallet)
    payer.mint(100)

    async def main() -> OwnRequest:
        async with _opened(tmp_path, mint) as wallet:
            own = await wallet.requests.create(21, lock=lock)
            payload = await asyncio.to_thread(driver.call, "pay_request", payer.handle, text=own.short)
            receipt = await wallet.requests.accept(payload["payload"])
            assert receipt.memo == f"from {kind}"
            return await wallet.requests.show(own.request_id)

    seen = asyncio.run(main())
    assert seen.state is RequestState.PAID
    assert seen.received >= 21


def test_a_payment_without_dleq_is_refused_and_not_lost(
    method_mint: MintProcess, open_wallet: OpenWallet, nutshell: Driver, tmp_path: Path
) -> None:
    """Nutshell's `pay` leaves DLEQ out: we do not call the request paid, and its coins stay as they were."""
    payer = open_wallet("nutshell", method_mint)
    assert isinstance(payer, PeerWallet)
    payer.mint(100)

    async def main() -> OwnRequest:
        async with _opened(tmp_path, method_mint) as wallet:
            own = await wallet.requests.create(21)
            payload = await asyncio.to_thread(nutshell.call, "pay_request", payer.handle, text=own.short, dleq=False)
            with pytest.raises(PaymentMismatchError):
                await wallet.requests.accept(payload["payload"])
            return await wallet.requests.show(own.request_id)

    assert asyncio.run(main()).received == 0
    assert set(payer.states()) == {"UNSPENT"}


@EVERY_PEER
def test_we_pay_a_request_of_a_peer(
    kind: str, specie_mint: MintProcess, open_wallet: OpenWallet, driver: Driver, tmp_path: Path
) -> None:
    """Locked to its key: it redeems our payload for the amount that it asked for."""
    payee = open_wallet(kind, specie_mint)
    assert isinstance(payee, PeerWallet)
    raw = {"i": "x", "a": 21, "u": "sat", "m": [specie_mint.url], "nut10": {"k": "P2PK", "d": payee.pubkey}}
    text = driver.call("request_encode", request=raw, form="creqA")

    async def main() -> bytes:
        async with _opened(tmp_path, specie_mint) as wallet:
            await wallet.mint(100)
            paid = await wallet.requests.pay(text)
            return await wallet.requests.payload(paid.payment_id)

    payload = asyncio.run(main())
    got = driver.call("take_payload", payee.handle, payload=payload.decode())
    assert got["amount"] >= 21


def _opened(home: Path, mint: MintProcess) -> Any:
    return Wallet.open(home / "ours", sealed=SealSource(play_key=True), mint=mint.url, config_home=home / "config")
