"""What a mint announces in /v1/info and what it does are the same: every flag of every bank here is tried over HTTP.

Announced: it works. Not announced: it is refused or not there. A flag without a probe fails the test, so none is added blindly.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx2
import msgspec
import pytest

from specie.ecash import (
    MeltQuoteRequest,
    MeltRequest,
    MintBatchRequest,
    MintQuote,
    MintQuoteRequest,
    MintRequest,
    Proof,
    QuoteLookup,
    SwapRequest,
    quote_lookup_digest,
    unblind_signature,
    wire,
)
from specie.ecash.dleq import verify_dleq
from specie.ecash.liabilities import verify_epoch
from specie.kernel import Limits, curve, split_amount
from specie.kernel.rail import RailTerms
from specie.keys.adapters.software import SoftwareSigner
from specie.lightning import decode_invoice
from specie.lightning.adapters.play import PlayRail
from specie.mint import MintSettings
from specie.ops.health import Health
from specie.ops.logging import make_logger
from specie.ops.metrics import Metrics
from specie.ops.settings import BankSettings, LogFormat, LogSettings, ServerSettings
from specie.server import BankApp, BankFacts, ServerContext, build_app
from specie.storage import Storage
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.coins import public_key
from tests.support.house import MIGRATIONS, House, Outputs, house
from tests.support.locked import sign_all, sign_inputs
from tests.support.methods import KEY, PUBKEY, Teller, foreign_address, foreign_offer, sign_quote
from tests.support.openid import Provider, auth_settings, blind_tokens, outputs_of
from tests.support.orders import foreign_invoice
from tests.support.virtual import VirtualClock
from tests.unit.server.test_auth import Door

METHODS = ("bolt11", "bolt12", "onchain", "voucher")
UNITS = ("sat", "msat", "usd")
ROOT = Path(__file__).resolve().parents[3]
NAMED_METHODS = {"23": "bolt11", "25": "bolt12", "30": "onchain"}
AMOUNT = 8
"""What most is tried with; on-chain it would be dust."""
ROUTES = (
    ("GET", "/v1/keys"),
    ("GET", "/v1/keysets"),
    ("POST", "/v1/swap"),
    ("POST", "/v1/mint/quote/bolt11"),
    ("GET", "/v1/mint/quote/bolt11/x"),
    ("POST", "/v1/mint/quote/bolt11/check"),
    ("POST", "/v1/mint/bolt11"),
    ("POST", "/v1/mint/bolt11/batch"),
    ("POST", "/v1/melt/quote/bolt11"),
    ("GET", "/v1/melt/quote/bolt11/x"),
    ("POST", "/v1/melt/bolt11"),
    ("POST", "/v1/checkstate"),
    ("POST", "/v1/restore"),
)


# Banks


@dataclass(frozen=True)
class Setup:
    """How a bank is built."""

    settings: MintSettings = field(default_factory=MintSettings)
    methods: tuple[str, ...] = ()
    proves: bool = True
    """Whether its signer can make DLEQ proofs."""
    terms: RailTerms | None = None
    """Of its BOLT 11 rail, where they are not the play rail's own."""


SETUPS = {
    "plain": Setup(),
    "everything": Setup(
        MintSettings(
            units=("sat", "msat"),
            mint_min=2,
            mint_max=5_000_000,
            melt_min=3,
            melt_max=4_000_000,
            liabilities=True,
            liabilities_every_s=1_000_000,
            quote_lookup=True,
            limits=Limits(array_length=40, batch_quotes=3),
        ),
        METHODS[1:],
    ),
    "short arrays": Setup(MintSettings(quote_lookup=True, limits=Limits(array_length=12, batch_quotes=12))),
    "logins": Setup(MintSettings(auth=auth_settings(clear_endpoints=("POST /v1/swap",), blind_endpoints=()))),
    "blind tokens": Setup(
        MintSettings(
            auth=auth_settings(
                clear_endpoints=("POST /v1/restore",),
                blind_endpoints=("POST /v1/swap", "POST /v1/m*", "GET /v1/ws"),
                bat_max_mint=7,
            )
        )
    ),
    "no minting": Setup(MintSettings(minting=False)),
    "no melting": Setup(MintSettings(melting=False)),
    "closed": Setup(MintSettings(minting=False, melting=False)),
    "no proofs": Setup(proves=False),
    "whole payments": Setup(terms=RailTerms(description=False, outgoing_amount="request")),
}


class _Unproving(SoftwareSigner):
    """A signer whose keys lie where no DLEQ proof is made."""

    def capabilities(self):
        return replace(super().capabilities(), dleq=False)

    async def blind_sign(self, messages):
        return [one._replace(dleq_e=None, dleq_s=None) for one in await super().blind_sign(messages)]

    async def exchange(self, proofs, messages):
        ys, signed = await super().exchange(proofs, messages)
        return ys, [one._replace(dleq_e=None, dleq_s=None) for one in signed]


@dataclass
class Stock:
    """What was there before minting and melting were switched off."""

    coins: list[Proof] = field(default_factory=list)
    quotes: list[MintQuote] = field(default_factory=list)
    melt_quote: str = ""
    melted: tuple[bytes, bytes] = (b"", b"")
    """A request to /v1/melt/bolt11 with its answer."""


@dataclass
class Bank:
    """A bank with its HTTP face, and somebody with money at it."""

    house: House
    app: BankApp
    client: httpx2.AsyncClient
    teller: Teller
    seed: str
    settings: MintSettings
    stock: Stock
    login: Callable[[], str]
    nuts: dict[str, Any] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    asked: int = 0

    async def ask(self, method: str, path: str, body: bytes = b"", *, bare: bool = False) -> httpx2.Response:
        """A request with the tokens that it needs, or without any."""
        headers = {} if bare else await self.tokens(method, path)
        return await self.client.request(method, path, content=body, headers=headers)

    async def tokens(self, method: str, path: str) -> dict[str, str]:
        """Headers of NUT-21 and NUT-22 for a request."""
        found = {}
        if protected(self.nuts.get("21"), method, path):
            found["clear-auth"] = self.login()
        if protected(self.nuts.get("22"), method, path):
            self.asked += 1
            (found["blind-auth"],) = await blind_tokens(self.house, 1, subject=str(self.asked), seed=("token", self.asked))
        return found

    async def done(self, path: str, body: bytes) -> Any:
        """The JSON of a POST that must succeed."""
        answer = await self.ask("POST", path, body)
        assert answer.status_code == 200, (path, answer.text)
        return answer.json()

    async def refused(self, path: str, body: bytes, code: int | None = None) -> None:
        """A POST that must be refused, with a code of NUT-00 where one is named."""
        answer = await self.ask("POST", path, body)
        assert answer.status_code == 400, (path, answer.status_code, answer.text)
        if code is not None:
            assert answer.json()["code"] == code, (path, answer.text)

    def is_on(self, nut: str) -> bool:
        """Whether 4 or 5 is switched on."""
        return not self.nuts[nut]["disabled"]

    async def coins(self, *amounts: int, secrets: Sequence[str] = ()) -> list[Proof]:
        """Coins, minted now or out of the stock."""
        mint, total = self.house.mint, sum(amounts)
        if not self.is_on("4"):
            taken = [self.stock.coins.pop() for _ in range(-(-total // self.stock.coins[0].amount))]
            rest = split_amount(sum(one.amount for one in taken) - total, self.house.keyset().keys)
            texts = [*secrets, *(sha256(repr((taken, n)).encode()).hexdigest() for n in range(len(rest)))] if secrets else []
            outputs = self.teller.outputs([*amounts, *rest], secrets=texts)
            return opened(outputs, await mint.swap(SwapRequest(tuple(taken), outputs.messages)))[: len(amounts)]
        quote = await mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", total))
        await self.house.pay(quote)
        outputs = self.teller.outputs(amounts, secrets=secrets)
        return opened(outputs, await mint.issue(MintRequest("bolt11", quote.quote, outputs.messages)))

    async def paid(self, method: str, count: int) -> list[MintQuote]:
        """Paid mint quotes that are locked to a key, over `worth`."""
        if not self.is_on("4"):
            return [self.stock.quotes.pop() for _ in range(count)]
        quotes = [await self.teller.quote(method, AMOUNT if method == "bolt11" else None) for _ in range(count)]
        for quote in quotes:
            await self.teller.deposit(quote, worth(method))
        return quotes


def worth(method: str) -> int:
    """What a mint quote is paid with, and what is melted."""
    return 1024 if method == "onchain" else AMOUNT


def protected(setting: dict[str, Any] | None, method: str, path: str) -> bool:
    """Whether a setting of NUT-21 or NUT-22 names a request."""
    for one in (setting or {}).get("protected_endpoints", ()):
        there = path.startswith(one["path"][:-1]) if one["path"].endswith("*") else path == one["path"]
        if one["method"] == method and there:
            return True
    return False


def opened(outputs: Outputs, signatures: Sequence[Any], *, blank: bool = False) -> list[Proof]:
    """Coins, though their signatures may come without proof."""
    parts = zip(outputs.messages, signatures, outputs.secrets, outputs.factors, strict=not blank)
    keys = outputs.keyset.keys
    return [unblind_signature(m, s, secret=text, r=r, key=keys[s.amount], blank=blank) for m, s, text, r in parts]


@contextlib.asynccontextmanager
async def open_for_business(setup: Setup, storage: Storage, stock: Stock, *, seed: str = "now") -> AsyncIterator[Bank]:
    """The bank of a setup, and an app over it."""
    clock, settings = VirtualClock(), setup.settings
    provider = Provider(clock)
    async with contextlib.AsyncExitStack() as stack:
        if not setup.proves:
            stack.enter_context(patch("tests.support.house.SoftwareSigner", _Unproving))
        if setup.terms is not None:
            stack.enter_context(patch.object(PlayRail, "terms", setup.terms))
        source = provider if settings.auth.openid_discovery else None
        running = await stack.enter_async_context(
            house(storage=storage, clock=clock, seed=seed, settings=settings, methods=setup.methods, auth_source=source)
        )
        metrics = Metrics(make_logger(LogSettings(format=LogFormat.JSON), io.StringIO()), clock.now, version="9")
        context = ServerContext(
            mint=running.mint,
            facts=BankFacts(version="specie 9", rails=()),
            settings=ServerSettings(),
            limits=settings.limits,
            metrics=metrics,
            health=Health(metrics, clock.now, clock.monotonic),
            clock=clock,
            entropy=running.entropy,
            auth=running.mint.auth,
        )
        app = build_app(context)
        stack.push_async_callback(app.aclose)
        client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://127.0.0.1:3338")
        await stack.enter_async_context(client)
        bank = Bank(running, app, client, Teller(running, seed), seed, settings, stock, provider.token)
        bank.info = (await client.get("/v1/info")).json()
        bank.nuts = bank.info["nuts"]
        yield bank


async def stocked(storage: Storage) -> Stock:
    """Fill the store of a bank that will be closed."""
    async with open_for_business(Setup(), storage, Stock(), seed="before") as bank:
        stock = Stock(await bank.coins(*[64] * 10), await bank.paid("bolt11", 3))
        quote = await bank.teller.price("bolt11", await foreign_invoice(bank.house, 8000, "open"))
        stock.melt_quote = quote.quote
        path, body = await _melt(bank, "bolt11")
        stock.melted = (body, (await bank.ask("POST", path, body)).content)
        return stock


@contextlib.asynccontextmanager
async def banking(name: str) -> AsyncIterator[Bank]:
    """The bank of a name."""
    setup = SETUPS[name]
    storage = SqliteStorage(":memory:", inline=True)
    await storage.migrate(MIGRATIONS)
    stock = Stock() if setup.settings.minting and setup.settings.melting else await stocked(storage)
    try:
        async with open_for_business(setup, storage, stock) as bank:
            yield bank
    finally:
        await storage.close()


# NUT-04, NUT-05


def _mint_quote(method: str, unit: str, amount: int | None, **more: Any) -> tuple[str, bytes]:
    asked = MintQuoteRequest(method, unit, amount, pubkey=PUBKEY, **more)
    return f"/v1/mint/quote/{method}", wire.mint_quote_request_to_json(asked)


async def minting(bank: Bank, announced: dict[str, Any]) -> None:
    """Each method and unit gives quotes within its bounds and with its options; every other pair is refused."""
    pairs = {(one["method"], one["unit"]): one for one in announced["methods"]}
    assert len(pairs) == len(announced["methods"]) > 0
    for method in METHODS:
        for unit in UNITS:
            amount = None if method == "onchain" else AMOUNT
            if announced["disabled"]:
                await bank.refused(*_mint_quote(method, unit, amount), 20003)
            elif (method, unit) not in pairs:
                await bank.refused(*_mint_quote(method, unit, amount), 11013)
            else:
                await _minting_as(bank, pairs[method, unit])


async def _minting_as(bank: Bank, setting: dict[str, Any]) -> None:
    method, unit, options = setting["method"], setting["unit"], setting.get("options", {})
    least, most = setting["min_amount"], setting["max_amount"]
    describes = options.get("description", False)
    if "confirmations" in options:
        await bank.done(*_mint_quote(method, unit, None))
        await bank.refused(*_mint_quote(method, unit, least))
        if unit == "sat":
            await _deposits_count(bank, setting)
    else:
        for amount in (least, most):
            assert (await bank.done(*_mint_quote(method, unit, amount)))["amount"] == amount
        await bank.refused(*_mint_quote(method, unit, most + 1), 11006)
        await bank.refused(*_mint_quote(method, unit, least - 1), 11006 if least > 1 else None)
    asked = _mint_quote(method, unit, None if "confirmations" in options else least, description="for tea")
    if not describes:
        await bank.refused(*asked)
    elif method == "bolt11":
        assert decode_invoice((await bank.done(*asked))["request"]).description == "for tea"
    else:
        await bank.done(*asked)


async def _deposits_count(bank: Bank, setting: dict[str, Any]) -> None:
    """A deposit counts at the depth that is announced, and none below the least amount does."""
    method, least, depth = setting["method"], setting["min_amount"], setting["options"]["confirmations"]
    quote = await bank.done(*_mint_quote(method, "sat", None))

    async def paid() -> int:
        found = await bank.ask("GET", f"/v1/mint/quote/{method}/{quote['quote']}")
        return found.json()["amount_paid"]

    rail = bank.house.onchain
    await rail.settle(quote["request"], (least - 1) * 1000)
    await rail.mine(depth)
    assert await paid() == 0
    await rail.settle(quote["request"], least * 1000)
    await rail.mine(depth - 1)
    assert await paid() == 0
    await rail.mine(1)
    assert await paid() == least


async def _payee(bank: Bank, method: str, amount_msat: int | None) -> str:
    """A request for payment of somebody else; FRESH."""
    bank.asked += 1
    match method:
        case "bolt11":
            return await foreign_invoice(bank.house, amount_msat, f"{bank.seed} {bank.asked}")
        case "bolt12":
            return foreign_offer(amount_msat, name=bank.asked % 256)
        case "onchain":
            return foreign_address(bank.asked % 256)
    return f"play:{method}:{bank.asked:040x}" + (f":{amount_msat}" if amount_msat else "")


async def _melt_quote(bank: Bank, method: str, unit: str, amount: int, *, open_amount: bool = False) -> tuple[str, bytes]:
    """A request for a price; `open_amount`: the payer names the amount though the method does not demand it."""
    msat = amount if unit == "msat" else amount * 1000
    text = await _payee(bank, method, None if open_amount else msat)
    named = {"amount": amount} if method == "onchain" else {"amount_msat": msat} if open_amount else {}
    return f"/v1/melt/quote/{method}", wire.melt_quote_request_to_json(MeltQuoteRequest(method, text, unit, **named))


async def melting(bank: Bank, announced: dict[str, Any]) -> None:
    """Each method and unit gives prices within its bounds and with its options; every other pair is refused."""
    pairs = {(one["method"], one["unit"]): one for one in announced["methods"]}
    assert len(pairs) == len(announced["methods"]) > 0
    for method in METHODS:
        for unit in UNITS:
            if announced["disabled"]:
                await bank.refused(*await _melt_quote(bank, method, unit, AMOUNT), 20003)
                continue
            if (method, unit) not in pairs:
                await bank.refused(*await _melt_quote(bank, method, unit, AMOUNT), 11013)
                continue
            setting = pairs[method, unit]
            least, most = setting["min_amount"], setting["max_amount"]
            for amount in (least, most):
                assert (await bank.done(*await _melt_quote(bank, method, unit, amount)))["amount"] == amount
            step = 1000 if (method, unit) == ("onchain", "msat") else 1  # whole satoshi
            await bank.refused(*await _melt_quote(bank, method, unit, most + step), 11006)
            if least > step:
                await bank.refused(*await _melt_quote(bank, method, unit, least - step))
            amountless = setting.get("options", {}).get("amountless")
            if amountless:
                await bank.done(*await _melt_quote(bank, method, unit, least, open_amount=True))
            elif amountless is not None:
                await bank.refused(*await _melt_quote(bank, method, unit, least, open_amount=True), 11011)
    if announced["disabled"]:
        coins = await bank.coins(32)
        await bank.refused(
            "/v1/melt/bolt11", wire.melt_request_to_json(MeltRequest("bolt11", bank.stock.melt_quote, tuple(coins))), 20003
        )


# NUT-06 to NUT-14


def _swap(coins: Sequence[Proof], outputs: Outputs) -> tuple[str, bytes]:
    return "/v1/swap", wire.swap_request_to_json(SwapRequest(tuple(coins), outputs.messages))


def _points(count: int) -> list[bytes]:
    point = bytes.fromhex(PUBKEY)
    points = [point]
    for _ in range(count - 1):
        points.append(curve.add((points[-1], point)))
    return points


async def array_length(bank: Bank, most: int) -> None:
    """Arrays of the announced length are read, longer ones are refused."""
    assert most == bank.settings.limits.array_length
    points = _points(most + 1)
    await bank.done("/v1/checkstate", wire.check_state_request_to_json(points[:most]))
    await bank.refused("/v1/checkstate", wire.check_state_request_to_json(points))
    coin, _ = await bank.coins(1, 1)
    many = tuple(msgspec.structs.replace(coin, secret=f"{number}") for number in range(most + 1))
    await bank.refused(*_swap(many, bank.teller.outputs([1])), 11014)
    await bank.refused(*_swap([coin], bank.teller.outputs([1] * (most + 1))), 11015)
    await bank.done(*_swap([coin], bank.teller.outputs([1])))


def _lock(kind: str, data: str, *tags: list[str]) -> str:
    _lock.made += 1  # type: ignore[attr-defined]
    return json.dumps([kind, {"nonce": f"{_lock.made:032x}", "data": data, "tags": list(tags)}])  # type: ignore[attr-defined]


_lock.made = 0  # type: ignore[attr-defined]


async def state(bank: Bank, announced: dict[str, Any]) -> None:
    """UNSPENT before and SPENT after, with the witness that opened the coin."""
    assert announced == {"supported": True}
    (coin,) = await bank.coins(AMOUNT, secrets=[_lock("P2PK", public_key("bob").hex())])
    asked = "/v1/checkstate", wire.check_state_request_to_json([coin.y])
    assert (await bank.done(*asked))["states"][0]["state"] == "UNSPENT"
    signed = sign_inputs(coin, "bob")
    await bank.done(*_swap([signed], bank.teller.outputs([AMOUNT])))
    (found,) = (await bank.done(*asked))["states"]
    assert (found["Y"], found["state"]) == (coin.y.hex(), "SPENT")
    assert json.loads(found["witness"]) == json.loads(signed.witness or "")


async def change(bank: Bank, announced: dict[str, Any] | None) -> None:
    """What a payment did not cost comes back on blank outputs; where nothing is paid, that is not announced."""
    if not bank.is_on("5"):
        assert announced is None
        return
    assert announced == {"supported": True}
    quote = wire.melt_quote_from_json(
        json.dumps(await bank.done(*await _melt_quote(bank, "bolt11", "sat", AMOUNT))).encode(), method="bolt11"
    )
    coins = await bank.coins(64)
    blanks = bank.teller.outputs([1] * 7)
    body = wire.melt_request_to_json(MeltRequest("bolt11", quote.quote, tuple(coins), blanks.messages))
    answer = await bank.ask("POST", "/v1/melt/bolt11", body)
    done = wire.melt_quote_from_json(answer.content, method="bolt11")
    back = opened(blanks, done.change or (), blank=True)
    assert 64 - quote.amount - quote.fee_reserve <= sum(one.amount for one in back) <= 64 - quote.amount
    await bank.done(*_swap(back, bank.teller.outputs([one.amount for one in back])))


async def restore(bank: Bank, announced: dict[str, Any]) -> None:
    """Signatures that were given once are given again, for the outputs that have one."""
    assert announced == {"supported": True}
    coins = await bank.coins(4, 4)
    outputs, others = bank.teller.outputs([4, 4]), bank.teller.outputs([4])
    signatures = (await bank.done(*_swap(coins, outputs)))["signatures"]
    body = wire.restore_request_to_json([*others.messages, *outputs.messages])
    found = await bank.done("/v1/restore", body)
    assert [one["B_"] for one in found["outputs"]] == [one.B_.hex() for one in outputs.messages]
    assert found["signatures"] == signatures


async def conditions(bank: Bank, announced: dict[str, Any]) -> None:
    """A lock of NUT-10 is enforced, and one of a kind that is not known is an ordinary secret."""
    assert announced == {"supported": True}
    await _opens(bank, _lock("P2PK", public_key("bob").hex()), lambda coin: sign_inputs(coin, "bob"))
    (coin,) = await bank.coins(AMOUNT, secrets=[_lock("GOSSIP", "anything")])
    await bank.done(*_swap([coin], bank.teller.outputs([AMOUNT])))


async def _opens(bank: Bank, secret: str, sign: Callable[[Proof], Proof], *wrong: Callable[[Proof], Proof]) -> None:
    (coin,) = await bank.coins(AMOUNT, secrets=[secret])
    for attempt in (lambda coin: coin, *wrong):
        await bank.refused(*_swap([attempt(coin)], bank.teller.outputs([AMOUNT])))
    await bank.done(*_swap([sign(coin)], bank.teller.outputs([AMOUNT])))


async def p2pk(bank: Bank, announced: dict[str, Any]) -> None:
    """Locked coins: one key, several, after the locktime, and over the whole request."""
    assert announced == {"supported": True}
    bob, carol = public_key("bob").hex(), public_key("carol").hex()
    one, stranger = (lambda coin: sign_inputs(coin, "bob")), (lambda coin: sign_inputs(coin, "eve"))
    await _opens(bank, _lock("P2PK", bob), one, stranger)
    both = _lock("P2PK", bob, ["pubkeys", carol], ["n_sigs", "2"])
    await _opens(bank, both, lambda coin: sign_inputs(coin, "bob", "carol"), one)
    late = str(bank.house.clock.now() - 1)
    expired = _lock("P2PK", bob, ["locktime", late], ["refund", carol])
    await _opens(bank, expired, lambda coin: sign_inputs(coin, "carol"), stranger)
    tag = ["sigflag", "SIG_ALL"]
    coins = await bank.coins(4, 4, secrets=[_lock("P2PK", bob, tag), _lock("P2PK", bob, tag)])
    outputs, others = bank.teller.outputs([AMOUNT]), bank.teller.outputs([AMOUNT])
    await bank.refused(*_swap([sign_inputs(coin, "bob") for coin in coins], outputs))
    await bank.refused(*_swap(sign_all(coins, outputs, "bob"), others))
    await bank.done(*_swap(sign_all(coins, outputs, "bob"), outputs))


async def htlc(bank: Bank, announced: dict[str, Any]) -> None:
    """A hash lock opens by its preimage and the key's signature, and by no other preimage."""
    assert announced == {"supported": True}
    preimage = b"\x05" * 32
    secret = _lock("HTLC", sha256(preimage).hexdigest(), ["pubkeys", public_key("bob").hex()])
    await _opens(
        bank,
        secret,
        lambda coin: sign_inputs(coin, "bob", preimage=preimage),
        lambda coin: sign_inputs(coin, "bob", preimage=b"\x06" * 32),
        lambda coin: sign_inputs(coin, "bob"),
    )


async def proofs(bank: Bank, announced: dict[str, Any]) -> None:
    """Signatures carry a DLEQ proof that verifies, or none at all: in swaps, after minting, and when restored."""
    swapped = bank.teller.outputs([AMOUNT])
    answers = [(swapped, await bank.done(*_swap(await bank.coins(AMOUNT), swapped)))]
    (quote,) = await bank.paid("bolt11", 1)
    minted = bank.teller.outputs([AMOUNT])
    asked = MintRequest("bolt11", quote.quote, minted.messages, sign_quote(quote.quote, minted.messages))
    answers.append((minted, await bank.done("/v1/mint/bolt11", wire.mint_request_to_json(asked))))
    answers.append((minted, await bank.done("/v1/restore", wire.restore_request_to_json(minted.messages))))
    for outputs, answer in answers:
        (signature,) = wire.signatures_from_json(json.dumps({"signatures": answer["signatures"]}).encode())
        assert (signature.dleq is not None) is announced["supported"]
        if signature.dleq is not None:
            verify_dleq(outputs.messages[0].B_, signature.C_, signature.dleq, outputs.keyset.keys[AMOUNT])


# NUT-15 to NUT-20


async def parts(bank: Bank, announced: dict[str, Any] | None) -> None:
    """A part of an invoice has a price where that is announced, and nowhere else."""
    pairs = {(one["method"], one["unit"]) for one in (announced or {"methods": ()})["methods"]}
    assert announced is None or pairs
    for method in METHODS:
        for unit in UNITS:
            text = await _payee(bank, method, 100_000)
            body = wire.melt_quote_request_to_json(MeltQuoteRequest(method, text, unit, mpp_msat=30_000))
            if (method, unit) not in pairs:
                await bank.refused(f"/v1/melt/quote/{method}", body)
                continue
            found = await bank.done(f"/v1/melt/quote/{method}", body)
            assert found["amount"] == (30_000 if unit == "msat" else 30)


async def news(bank: Bank, announced: dict[str, Any]) -> None:
    """Each kind is answered and told the present state; a kind that is not announced is an error."""
    kinds = {command for one in announced["supported"] for command in one["commands"]}
    assert {(one["method"], one["unit"]) for one in announced["supported"]} == {
        (one["method"], one["unit"]) for one in bank.nuts["4"]["methods"]
    }
    socket = await Door(bank.app, **await bank.tokens("GET", "/v1/ws")).accepted()
    (coin,) = await bank.coins(AMOUNT)
    known = {"proof_state": coin.y.hex()}
    for method in dict.fromkeys(one["method"] for one in announced["supported"]):
        (quote,) = await bank.paid(method, 1)
        known[f"{method}_mint_quote"] = quote.quote
        known[f"{method}_melt_quote"] = await _open_melt_quote(bank, method)
    assert kinds == set(known)
    for number, (kind, name) in enumerate(known.items()):
        socket.ask("subscribe", number, kind=kind, subId=kind, filters=[name])
        assert await socket.hear() == {"jsonrpc": "2.0", "result": {"status": "OK", "subId": kind}, "id": number}
        payload = (await socket.hear())["params"]["payload"]
        assert payload.get("Y", payload.get("quote")) == name
    absent = [f"{method}_{what}_quote" for method in METHODS for what in ("mint", "melt")]
    for kind in {*absent, "gossip"} - kinds:
        socket.ask("subscribe", 99, kind=kind, subId="no", filters=[known[f"bolt11_{kind[-10:]}"] if "_" in kind else "x"])
        assert "error" in await socket.hear(), kind
    await socket.leave()


async def _open_melt_quote(bank: Bank, method: str) -> str:
    if not bank.is_on("5"):
        return bank.stock.melt_quote
    found = await bank.done(*await _melt_quote(bank, method, "sat", worth(method)))
    return str(found["quote"])


async def _issue(bank: Bank, method: str) -> tuple[str, bytes]:
    (quote,) = await bank.paid(method, 1)
    outputs = bank.teller.outputs([worth(method)])
    asked = MintRequest(method, quote.quote, outputs.messages, sign_quote(quote.quote, outputs.messages))
    return f"/v1/mint/{method}", wire.mint_request_to_json(asked)


async def _batch(bank: Bank, method: str, count: int = 2) -> tuple[str, bytes]:
    quotes, amount = await bank.paid(method, count), worth(method)
    asked = bank.teller.batch(quotes, 0, [amount] * count, outputs=bank.teller.outputs([amount] * count))
    return f"/v1/mint/{method}/batch", wire.mint_batch_request_to_json(asked)


async def _melt(bank: Bank, method: str) -> tuple[str, bytes]:
    if not bank.is_on("5"):
        return "/v1/melt/bolt11", bank.stock.melted[0]
    answer = await bank.done(*await _melt_quote(bank, method, "sat", worth(method)))
    chosen = {"fee_index": answer["fee_options"][0]["fee_index"]} if method == "onchain" else {}
    coins = await bank.coins(8192 if method == "onchain" else 64)
    return f"/v1/melt/{method}", wire.melt_request_to_json(MeltRequest(method, answer["quote"], tuple(coins), (), **chosen))


async def ordered(bank: Bank) -> None:
    """Until every payment was given to its rail."""
    while bank.house.mint._paying:
        await asyncio.sleep(0)


async def cached(bank: Bank, announced: dict[str, Any]) -> None:
    """The same request again has the same answer, to the byte; there is no endpoint announced that is not tried."""
    assert announced["ttl"] is None
    wanted = {"/v1/swap": lambda: _same_swap(bank)}
    for method in {one["method"] for one in bank.nuts["4"]["methods"]}:
        wanted[f"/v1/mint/{method}"] = lambda method=method: _issue(bank, method)
        wanted[f"/v1/mint/{method}/batch"] = lambda method=method: _batch(bank, method)
        if method != "onchain":  # answered as it stands, which changes
            wanted[f"/v1/melt/{method}"] = lambda method=method: _melt(bank, method)
    assert {one["path"] for one in announced["cached_endpoints"]} == set(wanted)
    assert {one["method"] for one in announced["cached_endpoints"]} == {"POST"}
    for path, make in wanted.items():
        same, body = await make()
        assert same == path
        first = await bank.ask("POST", path, body)
        assert first.status_code == 200, (path, first.text)
        await ordered(bank)
        again = await bank.ask("POST", path, body)
        assert again.status_code == 200, (path, again.text)
        assert again.content == first.content, path
        if path == "/v1/melt/bolt11" and not bank.is_on("5"):
            assert first.content == bank.stock.melted[1]


async def _same_swap(bank: Bank) -> tuple[str, bytes]:
    return _swap(await bank.coins(AMOUNT), bank.teller.outputs([AMOUNT]))


async def locked_quotes(bank: Bank, announced: dict[str, Any]) -> None:
    """A quote with a key is issued for a signature of that key over these outputs, and not otherwise."""
    assert announced == {"supported": True}
    (quote,) = await bank.paid("bolt11", 1)
    outputs, others = bank.teller.outputs([AMOUNT]), bank.teller.outputs([AMOUNT])
    for signature in (None, "00" * 64, sign_quote(quote.quote, others.messages)):
        asked = MintRequest("bolt11", quote.quote, outputs.messages, signature)
        await bank.refused("/v1/mint/bolt11", wire.mint_request_to_json(asked), 20008)
    asked = MintRequest("bolt11", quote.quote, outputs.messages, sign_quote(quote.quote, outputs.messages))
    await bank.done("/v1/mint/bolt11", wire.mint_request_to_json(asked))


# NUT-21, NUT-22, NUT-29, drafts


async def _asked_for(bank: Bank, nut: str, code: int) -> None:
    """Who brings nothing is refused with a code at the announced endpoints alone."""
    for method, path in ROUTES:
        answer = await bank.ask(method, path, b"{}", bare=True)
        found = answer.json().get("code") if answer.status_code == 400 else None
        earlier = nut == "22" and protected(bank.nuts.get("21"), method, path)
        assert (found == code) is (protected(bank.nuts.get(nut), method, path) and not earlier), (method, path, answer.text)
    if any(protected(bank.nuts.get(one), "GET", "/v1/ws") for one in ("21", "22")):
        wanted = 30001 if protected(bank.nuts.get("21"), "GET", "/v1/ws") else 31001
        assert await Door(bank.app).refused() == (400, wanted)
    else:
        await (await Door(bank.app).accepted()).leave()


async def logins(bank: Bank, announced: dict[str, Any] | None) -> None:
    """30001 at the protected endpoints alone, 30002 for a bad login, and a good one is let in."""
    await _asked_for(bank, "21", 30001)
    for one in (announced or {}).get("protected_endpoints", ()):
        assert not one["path"].endswith("*")
        for token, opens in ((bank.login() + "x", False), (bank.login(), True)):
            headers = await bank.tokens(one["method"], one["path"]) | {"clear-auth": token}
            answer = await bank.client.request(one["method"], one["path"], content=b"{}", headers=headers)
            assert (answer.json().get("code") == 30002) is not opens, answer.text
    if announced:
        auth = bank.settings.auth
        assert (announced["openid_discovery"], announced["client_id"]) == (auth.openid_discovery, auth.client_id)


async def blind_logins(bank: Bank, announced: dict[str, Any] | None) -> None:
    """31001 at the protected endpoints alone; tokens are minted for a login, up to the announced number."""
    await _asked_for(bank, "22", 31001)
    keys = await bank.ask("GET", "/v1/auth/blind/keys")
    if announced is None:
        assert keys.status_code == 404
        assert (await bank.ask("POST", "/v1/auth/blind/mint", b"{}")).status_code == 404
        return
    assert keys.json()["keysets"][0]["unit"] == "auth"
    most = announced["bat_max_mint"]
    minted = outputs_of(bank.house, most, "few")
    body = wire.auth_mint_request_to_json(minted.messages)
    answer = await bank.ask("POST", "/v1/auth/blind/mint", body)
    tokens = minted.proofs(wire.signatures_from_json(answer.content))
    many = wire.auth_mint_request_to_json(outputs_of(bank.house, most + 1, "many").messages)
    await bank.refused("/v1/auth/blind/mint", many, 31003)
    path, swap = await _same_swap(bank)
    header = {"blind-auth": wire.auth_token_to_text(tokens[0])}
    assert (await bank.client.post(path, content=swap, headers=header)).status_code == 200
    assert (await bank.client.post(path, content=swap, headers=header)).json()["code"] == 31002


async def batches(bank: Bank, announced: dict[str, Any]) -> None:
    """As many quotes as announced are looked at and issued together, more are 11017; no other method is."""
    most = announced["max_batch_size"]
    assert set(announced["methods"]) == {one["method"] for one in bank.nuts["4"]["methods"]}
    for method in METHODS:
        path = f"/v1/mint/quote/{method}/check"
        if method not in announced["methods"]:
            await bank.refused(path, wire.quote_check_request_to_json(["x"]))
            continue
        names = [f"quote {number}" for number in range(most + 1)]
        outputs = bank.teller.outputs([1]).messages
        for count in (most, most + 1):
            look = wire.quote_check_request_to_json(names[:count])
            batch = MintBatchRequest(method, tuple(names[:count]), outputs, None, None)
            for asked, body in ((path, look), (f"/v1/mint/{method}/batch", wire.mint_batch_request_to_json(batch))):
                answer = await bank.ask("POST", asked, body)  # there are no such quotes, which is found out next
                assert (answer.json()["code"] == 11017) is (count > most), answer.text
    count = min(most, 3)
    quotes = [one.quote for one in await bank.paid("bolt11", count)]
    found = await bank.done("/v1/mint/quote/bolt11/check", wire.quote_check_request_to_json(quotes))
    assert [one["quote"] for one in found] == quotes
    if bank.is_on("4"):
        answer = await bank.done(*await _batch(bank, "bolt11", count))
        assert len(answer["signatures"]) == count


async def liabilities(bank: Bank, announced: dict[str, Any] | None) -> None:
    """Signed epochs are there, or their routes are not."""
    if announced is None:
        assert (await bank.ask("GET", "/v1/pol/epochs")).status_code == 404
        return
    assert announced == {"supported": True, "draft": True, "epoch_s": bank.settings.liabilities_every_s}
    await bank.coins(AMOUNT)
    assert bank.house.mint.liabilities is not None
    await bank.house.mint.liabilities.close_epoch()
    epochs = wire.epochs_from_json((await bank.ask("GET", "/v1/pol/epochs")).content)
    assert epochs
    verify_epoch(epochs[-1], bytes.fromhex(bank.info["pubkey"]))


async def quote_lookup(bank: Bank, announced: dict[str, Any] | None) -> None:
    """Who holds a key finds the quotes locked to it, up to so many keys; or is refused."""
    now, mint = bank.house.clock.now(), bytes.fromhex(bank.info["pubkey"])

    def question(count: int) -> bytes:
        keys = [KEY, *(number.to_bytes(32) for number in range(1, count))]
        signed = [curve.schnorr_sign(quote_lookup_digest(mint, curve.public_key(k), now), k, bytes(32)) for k in keys]
        return wire.quote_lookup_to_json(QuoteLookup("bolt11", tuple(map(curve.public_key, keys)), tuple(signed), now))

    (quote,) = await bank.paid("bolt11", 1)
    if announced is None:
        await bank.refused("/v1/mint/quote/bolt11/pubkey", question(1))
        return
    found = await bank.done("/v1/mint/quote/bolt11/pubkey", question(1))
    assert quote.quote in [one["quote"] for one in found["quotes"]]
    await bank.done("/v1/mint/quote/bolt11/pubkey", question(announced["max_pubkeys"]))
    await bank.refused("/v1/mint/quote/bolt11/pubkey", question(announced["max_pubkeys"] + 1))


PROBES: dict[str, Callable[[Bank, Any], Awaitable[None]]] = {
    "4": minting,
    "5": melting,
    "7": state,
    "8": change,
    "9": restore,
    "10": conditions,
    "11": p2pk,
    "12": proofs,
    "14": htlc,
    "15": parts,
    "17": news,
    "19": cached,
    "20": locked_quotes,
    "21": logins,
    "22": blind_logins,
    "29": batches,
    "388": liabilities,
    "XX": quote_lookup,
}
"""What tries a flag; it is given the announced value, None where there is none."""


@pytest.mark.parametrize("name", SETUPS)
async def test_every_flag_is_tried(name: str) -> None:
    """Nothing is announced that no probe knows."""
    async with banking(name) as bank:
        assert set(bank.nuts) <= set(PROBES)


async def test_the_table_says_what_is_announced() -> None:
    """docs/nuts.md: by default, with a setting, as a method, or without a flag; and no flag is left out."""
    lines = (ROOT / "docs/nuts.md").read_text().partition("## Evidence")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if re.match(r"\| (draft )?\d", line)]
    assert [row[0] for row in rows if row[0].isdigit()] == [f"{number:02}" for number in range(31)]
    always, at_all = set(), set()
    for name in SETUPS:
        async with banking(name) as bank:
            at_all |= set(bank.nuts)
            always |= set(bank.nuts) if name == "plain" else set()
    rails = {rail.method for rail in BankSettings().rails}
    told = set()
    for nut, *_, said in rows:
        named = re.search(r"as `(\w+)`$", said)
        key = named[1] if named else str(int(nut))
        told.add(key)
        if said == "by default":
            assert key in always, nut
        elif said.startswith("with "):
            assert key in at_all - always, nut
            setting = re.findall(r"`(mint\.[a-z_.]+)`", said)[0]
            assert f"`SPECIE_{setting.replace('.', '_').upper()}`" in (ROOT / "docs/reference/settings.md").read_text(), nut
        else:
            assert key not in at_all, nut
            assert said == ("as a method of 4 and 5" if nut in NAMED_METHODS else "no flag"), nut
            assert NAMED_METHODS.get(nut, "bolt11") in rails
    assert at_all <= told


@pytest.mark.parametrize("name", SETUPS)
async def test_arrays_are_as_long_as_announced(name: str) -> None:
    """`max_array_length` of NUT-06 holds for every array."""
    async with banking(name) as bank:
        await array_length(bank, bank.info["max_array_length"])


@pytest.mark.parametrize("nut", PROBES)
@pytest.mark.parametrize("name", SETUPS)
async def test_a_flag_is_what_the_bank_does(name: str, nut: str) -> None:
    """Announced and it works, or not announced and it is refused."""
    async with banking(name) as bank:
        await PROBES[nut](bank, bank.nuts.get(nut))
