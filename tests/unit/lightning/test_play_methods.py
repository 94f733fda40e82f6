"""Play rails of every method: what their requests look like, what happens by itself, and blocks by the clock and by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specie.kernel import PaymentOrder, PaymentState, RefusedError, UncertainError, curve
from specie.kernel.encoding import bech32_encode, convert_bits
from specie.keys.adapters.software import SoftwareSigner
from specie.lightning import InvoiceExpiredError, InvoiceNetworkError, decode_offer
from specie.lightning.adapters.play import CRASH_POINTS, MIGRATIONS, Fault, PlayFaults, PlayRail, PlaySettings
from specie.lightning.adapters.play_codecs import AddressCodec, OfferCodec, PlainCodec, RequestCodec
from specie.lightning.adapters.play_methods import play_rail
from specie.lightning.adapters.play_network import PlayNetwork
from specie.lightning.adapters.play_onchain import PlayOnchainRail
from specie.lightning.adapters.play_requests import PlayRequestRail
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.methods import foreign_address, foreign_offer
from tests.support.play import SEED, virtual
from tests.support.virtual import SeededEntropy, VirtualClock

KEY = curve.public_key(b"\x07" * 32)


@asynccontextmanager
async def rail_of(method: str, storage: SqliteStorage | None = None, **plugs: Any) -> AsyncIterator[PlayRequestRail]:
    """A started rail on a store of its own."""
    store = storage or SqliteStorage(":memory:", inline=True)
    await store.migrate(MIGRATIONS)
    entropy = SeededEntropy(f"{method} {len(plugs)}")
    signer = SoftwareSigner(SEED, threads=0, entropy=entropy)
    plugs.setdefault("autopay_delay_s", None)
    rail = play_rail(method, store, signer, VirtualClock(), entropy, plugs.pop("settings", None), **plugs)
    assert isinstance(rail, PlayRequestRail)
    await rail.start()
    yield rail
    await rail.close()
    if storage is None:
        await store.close()


CODECS: list[RequestCodec] = [OfferCodec(), AddressCodec(1, 546_000), PlainCodec("bank-wire")]


@pytest.mark.parametrize("codec", CODECS, ids=lambda one: type(one).__name__)
@given(seed=st.binary(min_size=20, max_size=20), amount=st.none() | st.integers(1, 10**15))
def test_what_a_codec_writes_it_reads(codec: RequestCodec, seed: bytes, amount: int | None) -> None:
    """The same payee, from any way to write it; unequal seeds give unequal requests."""
    amount = None if codec.terms.incoming_amount == "never" else amount
    text = codec.write(seed, KEY, amount_msat=amount, description="tea", expiry=100)
    payee = codec.read(text, 50)
    assert payee.amount_msat == amount
    assert codec.read(payee.request, 50) == payee
    other = bytes([seed[0] ^ 1]) + seed[1:]
    assert codec.write(other, KEY, amount_msat=amount, description="tea", expiry=100) != text
    if not isinstance(codec, PlainCodec):
        assert codec.read(text.upper(), 50) == payee


@pytest.mark.parametrize("codec", CODECS, ids=lambda one: type(one).__name__)
@given(text=st.text(max_size=120) | st.text(alphabet="bcrt1qpzry9x8gf2tvdw0s3jn54khce6mua7lplay:-wire", max_size=90))
def test_any_text_is_read_or_refused(codec: RequestCodec, text: str) -> None:
    """No other error than those of the tree."""
    for one in (text, f"bcrt1{text}", f"play:bank-wire:{text}"):
        try:
            codec.read(one, 0)
        except RefusedError:
            continue


def test_addresses() -> None:
    """Segwit of any version on regtest, by the checksum of its version; dead lengths and other networks are refused."""
    codec = AddressCodec(1, 546_000)
    taproot = bech32_encode("bcrt", [1, *convert_bits(bytes(32), 8, 5, pad=True)], variant="bech32m")
    script = bech32_encode("bcrt", [0, *convert_bits(bytes(32), 8, 5, pad=True)])
    for good in (foreign_address(), taproot, script, taproot.upper(), f"bitcoin:{script}"):
        assert codec.read(good, 0).request == good.removeprefix("bitcoin:").lower()
    wrong = [
        bech32_encode("bcrt", [1, *convert_bits(bytes(32), 8, 5, pad=True)]),
        bech32_encode("bcrt", [0, *convert_bits(bytes(20), 8, 5, pad=True)], variant="bech32m"),
        bech32_encode("bcrt", [0, *convert_bits(bytes(21), 8, 5, pad=True)]),
        bech32_encode("bcrt", [17, *convert_bits(bytes(20), 8, 5, pad=True)], variant="bech32m"),
        bech32_encode("bcrt", [1, 0], variant="bech32m"),
        bech32_encode("bcrt", []),
        taproot[:-1] + taproot[-1].upper(),
        taproot + "q" * 60,
    ]
    for text in wrong:
        with pytest.raises(RefusedError):
            codec.read(text, 0)
    with pytest.raises(InvoiceNetworkError):
        codec.read(bech32_encode("bc", [0, *convert_bits(bytes(20), 8, 5, pad=True)]), 0)


def test_offers_that_are_not_paid() -> None:
    """Expired ones, and those in another currency."""
    text = OfferCodec().write(bytes(20), KEY, amount_msat=None, description="", expiry=100)
    with pytest.raises(InvoiceExpiredError):
        OfferCodec().read(text, 101)
    regtest = decode_offer(text).chains
    assert len(regtest) == 1
    with pytest.raises(InvoiceNetworkError):
        OfferCodec().read("lno1zcss9mk8y3wkklfvevcrszlmu23kfrxh49px20665dqwmn4p72pksese", 0)


@pytest.mark.parametrize("method", ["bolt12", "onchain", "barter"])
@virtual
async def test_what_cannot_be_asked_for(method: str) -> None:
    """Amounts, times and descriptions out of range."""
    async with rail_of(method) as rail:
        assert (rail.method, rail.name, rail.play) == (method, f"play-{method}", True)
        for change in ({"amount_msat": 0}, {"expiry_s": 0}, {"expiry_s": 10**12}, {"description": "x" * 640}):
            asked: dict[str, Any] = {"amount_msat": None, "description": "", "expiry_s": 60} | change
            with pytest.raises(RefusedError):
                await rail.request(asked["amount_msat"], description=asked["description"], expiry_s=asked["expiry_s"])
        with pytest.raises(RefusedError):
            await rail.settle("nobody's", 1_000_000)


@pytest.mark.parametrize("method", ["bolt12", "onchain", "barter"])
@virtual
async def test_requests_are_paid_by_themselves_once(method: str) -> None:
    """After a moment, by the amount asked for or a gift; not once somebody announced to pay."""
    async with rail_of(method, autopay_delay_s=3.0) as rail:
        left = await rail.request(None, description="", expiry_s=600)
        quoted = await rail.request(None, description="", expiry_s=600)
        await rail.quote(quoted.request, amount_msat=2_000_000)
        await asyncio.sleep(60)
        assert [one.amount_msat for one in await rail.incoming(left.payment_id)] == [PlaySettings().gift_msat]
        assert await rail.incoming(quoted.payment_id) == []
        if rail.terms.incoming_amount == "optional":
            exact = await rail.request(7000, description="", expiry_s=600)
            await asyncio.sleep(10)
            assert [one.amount_msat for one in await rail.incoming(exact.payment_id)] == [7000]


@virtual
async def test_blocks_come_by_the_clock_while_something_waits() -> None:
    """Seen, three blocks, told; then the chain stands still."""
    async with rail_of("onchain") as rail:
        assert isinstance(rail, PlayOnchainRail)
        asked = await rail.request(None, description="", expiry_s=600)
        await asyncio.sleep(60)
        paid = await rail.settle(asked.request, 1_000_000)
        assert (paid.reference, paid.amount_msat) == (paid.receipt_id, 1_000_000)
        await asyncio.sleep(4.5)
        assert await rail.incoming(asked.payment_id) == []
        await asyncio.sleep(2)
        assert len(await rail.incoming(asked.payment_id)) == 1
        await asyncio.sleep(600)
        assert await rail.mine() == 4


@virtual
async def test_what_the_chain_refuses() -> None:
    """Reorganisations below its start, replacements of what is mined, unknown, or a payment of ours; dust by halves."""
    async with rail_of("onchain", settings=PlaySettings(block_s=None)) as rail:
        assert isinstance(rail, PlayOnchainRail)
        for depth in (0, -1, 1):
            with pytest.raises(RefusedError):
                await rail.reorganise(depth)
        for blocks in (0, 1001):
            with pytest.raises(RefusedError):
                await rail.mine(blocks)
        with pytest.raises(RefusedError, match="no such transaction"):
            await rail.replace("ff" * 32)
        asked = await rail.request(None, description="", expiry_s=600)
        for amount in (999, 1500):
            with pytest.raises(RefusedError):
                await rail.settle(asked.request, amount)
        with pytest.raises(RefusedError, match="whole satoshi"):
            await rail.quote(foreign_address(), amount_msat=1_000_500)
        with pytest.raises(RefusedError):
            await rail.request(1000, description="", expiry_s=60)
        quote = await rail.quote(foreign_address(), amount_msat=1_000_000)
        order = PaymentOrder(quote.payment_id, "a", foreign_address(), 1_000_000, quote.fee_reserve_msat, fee_index=0)
        outcome = await rail.pay(order)
        assert outcome.outpoint is not None
        txid = outcome.outpoint.partition(":")[0]
        with pytest.raises(RefusedError, match="replaces none"):
            await rail.replace(txid)
        await rail.mine()
        with pytest.raises(RefusedError, match="reorganise first"):
            await rail.replace(txid)
        with pytest.raises(RefusedError):
            await rail.resolve(order.payment_id, PaymentState.PENDING)


@virtual
async def test_a_cheap_fee_waits_longer() -> None:
    """Each option is mined in as many blocks as it says."""
    async with rail_of("onchain", settings=PlaySettings(block_s=None, confirmations=1)) as rail:
        assert isinstance(rail, PlayOnchainRail)
        quotes = [await rail.quote(foreign_address(), amount_msat=1_000_000) for _ in range(3)]
        for quote, option in zip(quotes, quotes[0].fee_options, strict=True):
            order = PaymentOrder(
                quote.payment_id, "a", foreign_address(), 1_000_000, option.fee_reserve_msat, fee_index=option.fee_index
            )
            assert (await rail.pay(order)).state is PaymentState.PENDING
        done: list[int] = []
        for height in range(1, 8):
            await rail.mine()
            states = [(await rail.outgoing(quote.payment_id, "a")).state for quote in quotes]
            done += [height] * (states.count(PaymentState.PAID) - len(done))
        assert done == [option.estimated_blocks for option in quotes[0].fee_options]


@virtual
async def test_a_payment_told_to_fail_after_its_broadcast_is_not_undone() -> None:
    """Once the network has it, no operator's word makes it FAILED."""
    async with rail_of("onchain", settings=PlaySettings(block_s=None)) as rail:
        assert isinstance(rail, PlayOnchainRail)
        quote = await rail.quote(foreign_address(), amount_msat=1_000_000)
        order = PaymentOrder(quote.payment_id, "a", foreign_address(), 1_000_000, quote.fee_reserve_msat, fee_index=0)
        assert (await rail.pay(order)).outpoint
        assert (await rail.resolve(order.payment_id, PaymentState.FAILED)).state is PaymentState.PENDING
        await rail.mine(3)
        assert (await rail.outgoing(order.payment_id, "a")).state is PaymentState.PAID


class Crash(BaseException):
    """Stands for SIGKILL."""


@pytest.mark.parametrize("method", ["bolt12", "onchain", "barter"])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("point", ["pay:begin", "pay:stored", "pay:settled"])
@virtual
async def test_a_crash_at_each_point_of_an_order(method: str, own: bool, point: str) -> None:
    """Given again after the crash, the same order is paid once, and an own request has one arrival."""
    assert point in CRASH_POINTS

    def crash(passed: str) -> None:
        if passed == point:
            raise Crash(point)

    store = SqliteStorage(":memory:", inline=True)
    settings = PlaySettings(block_s=1.0)
    foreign = {"onchain": foreign_address(), "bolt12": foreign_offer()}.get(method, "play:barter:" + "ab" * 20)
    async with rail_of(method, store, settings=settings) as rail:
        asked = await rail.request(None, description="", expiry_s=600)
        request = asked.request if own else foreign
        quote = await rail.quote(request, amount_msat=2_000_000)
        index = 0 if quote.fee_options else None
        order = PaymentOrder(quote.payment_id, "a", request, 2_000_000, quote.fee_reserve_msat, fee_index=index)
        rail.set_faults(PlayFaults(on_point=crash))
        try:
            await rail.pay(order)
        except Crash:
            pass
        else:
            assert point == "pay:settled"
    async with rail_of(method, store, settings=settings, name=f"play-{method}") as again:
        await again.pay(order)
        await asyncio.sleep(30)
        outcome = await again.outgoing(order.payment_id, "a")
        assert outcome.state is PaymentState.PAID
        assert len(await again.incoming(asked.payment_id)) == own
        balance = (await again.health()).balance_msat
        assert balance == (0 if own else -2_000_000) - outcome.fee_msat
    await store.close()


@pytest.mark.parametrize("method", ["bolt12", "onchain"])
@virtual
async def test_a_lost_answer_is_no_lost_payment(method: str) -> None:
    """UncertainError, and the truth is there to be looked up."""
    async with rail_of(method) as rail:
        request = foreign_address() if method == "onchain" else foreign_offer()
        quote = await rail.quote(request, amount_msat=2_000_000)
        index = 0 if quote.fee_options else None
        order = PaymentOrder(quote.payment_id, "a", request, 2_000_000, quote.fee_reserve_msat, fee_index=index)
        rail.faults.for_next(Fault.lost())
        with pytest.raises(UncertainError):
            await rail.pay(order)
        await asyncio.sleep(30)
        assert (await rail.outgoing(order.payment_id, "a")).state is PaymentState.PAID


# parts


@virtual
async def test_parts_end_together_or_not_at_all() -> None:
    """Whole: all PAID, once; late: all FAILED and a new round begins; after PAID nothing more is taken."""
    store, clock = SqliteStorage(":memory:", inline=True), VirtualClock()
    await store.migrate(MIGRATIONS)
    network = PlayNetwork(store, clock, patience_s=10)
    join = network.join
    assert not await network.joined("a")
    assert await join("h", 10, "a", 6) is PaymentState.PENDING
    assert await network.joined("a")
    clock.skip(11)
    assert await join("h", 10, "b", 4) is PaymentState.PENDING
    assert await join("h", 10, "a", 6) is PaymentState.FAILED
    assert await join("h", 10, "c", 6) is PaymentState.PAID
    assert await join("h", 10, "b", 4) is PaymentState.PAID
    assert await join("h", 10, "d", 9) is PaymentState.FAILED
    assert await join("other", 10, "e", 10) is PaymentState.PAID
    await store.close()


@virtual
async def test_a_part_hangs_and_is_let_go_by_hand() -> None:
    """Let go it joins the others; with them it cannot be failed by hand any more."""
    from tests.support.play import PlayWorld, foreign_invoice

    world = await PlayWorld.make()
    rail: PlayRail = world.rail()
    await rail.start()
    request = await foreign_invoice(100_000)
    quote = await rail.quote(request, amount_msat=40_000, partial=True)
    order = PaymentOrder(quote.payment_id, "a", request, 40_000, quote.fee_reserve_msat, 1.0, partial=True)
    rail.faults.for_next(Fault.hang())
    assert (await rail.pay(order)).state is PaymentState.PENDING
    assert (await rail.resolve(quote.payment_id, PaymentState.PAID)).state is PaymentState.PENDING
    with pytest.raises(RefusedError, match="end together"):
        await rail.resolve(quote.payment_id, PaymentState.FAILED)
    await asyncio.sleep(5)
    own = await rail.request(5000, description="", expiry_s=60)
    assert (await rail.pay(PaymentOrder(own.payment_id, "b", own.request, 1000, 0, partial=True))).state is PaymentState.FAILED
    assert (await rail.pay(PaymentOrder("ff" * 32, "c", request, 1000, 0, partial=True))).state is PaymentState.FAILED
    for amount in (0, 100_001, None):
        with pytest.raises(RefusedError):
            await rail.quote(request, amount_msat=amount, partial=True)
    with pytest.raises(RefusedError):
        await rail.quote(await foreign_invoice(None, name="open"), amount_msat=1000, partial=True)
    await world.close()
