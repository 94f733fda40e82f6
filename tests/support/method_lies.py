"""Lies of a mint about methods beside BOLT 11, and about quotes that the wallet looks for by its keys (`ask`).

Some are told in a decoded value, as a mint may well send it; others in the body itself, which the client then reads or refuses.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from specie.ecash import MeltFeeOption, MeltQuote, MeltState, wire
from specie.kernel import MAX_AMOUNT, PeerFaultError, RefusedError, UnavailableError
from tests.support.coins import public_key
from tests.support.lies import UNSEEN, Lie, raising
from tests.support.methods import foreign_address, foreign_offer

__all__ = ["METHOD_LIES", "NEVER"]

NEVER = 4_000_000_000
"""A time beyond every test."""


def _body(**fields: Any) -> Lie:
    """The answer with these fields of its JSON exchanged, as a client reads it."""
    return _edited(lambda body: body.update(fields))


def _edited(edit: Callable[[dict[str, Any]], None]) -> Lie:
    def lie(answer: Any) -> Any:
        text = wire.melt_quote_to_json(answer) if isinstance(answer, MeltQuote) else wire.mint_quote_to_json(answer)
        body = json.loads(text)
        edit(body)
        try:
            if isinstance(answer, MeltQuote):
                return wire.melt_quote_from_json(json.dumps(body).encode(), method=answer.method)
            return wire.mint_quote_from_json(json.dumps(body).encode(), method=answer.method)
        except RefusedError as error:
            raise PeerFaultError(error.detail, peer="mint") from error

    return lie


def _options(change: Callable[[list[dict[str, Any]]], Any]) -> Lie:
    """The body with other fee options."""

    def edit(body: dict[str, Any]) -> None:
        body["fee_options"] = change(body["fee_options"])

    return _edited(edit)


def _each_option(**fields: Any) -> Lie:
    return _options(lambda options: [{**one, **fields} for one in options])


def _dearer(by: int) -> Lie:
    """The same options at other prices."""

    def lie(answer: MeltQuote) -> MeltQuote:
        options = tuple(MeltFeeOption(o.fee_index, max(o.fee_reserve + by, 0), o.estimated_blocks) for o in answer.fee_options)
        return replace(answer, fee_options=options, fee_reserve=max(answer.fee_reserve + by, 0))

    return lie


def _another_choice(answer: MeltQuote) -> MeltQuote:
    others = [one for one in answer.fee_options if one.fee_index != answer.selected_fee_index]
    return replace(answer, selected_fee_index=others[-1].fee_index, fee_reserve=others[-1].fee_reserve)


def _less_change(count: int) -> Lie:
    def lie(answer: MeltQuote) -> MeltQuote:
        return replace(answer, change=answer.change[:count]) if answer.change else answer

    return lie


DEEP: Any = {"a": 1}
for _ in range(40):
    DEEP = {"deep": [DEEP]}
_EXTRA: dict[str, Lie] = {
    "nested extra fields": _body(extra=DEEP),
    "extra fields too deep to read": _body(extra=json.loads("[" * 400 + "]" * 400)),
    "a huge extra field": _body(extra="x" * 300_000),
    "extra fields without end": _edited(lambda body: body.update({f"field {n}": n for n in range(5000)})),
}
UNSEEN.update(_EXTRA)
_EXPIRY: dict[str, Lie] = {
    "expired": lambda answer: replace(answer, expiry=1),
    "never expires": lambda answer: replace(answer, expiry=MAX_AMOUNT),
    "expires before time": _body(expiry=-1),
    "expires between seconds": _body(expiry=1_800_000_000.5),
    "no expiry": lambda answer: replace(answer, expiry=None),
}
_PRICES: dict[str, Lie] = {
    "dear options": _dearer(10**12),
    "free options": _dearer(-(10**12)),
    "options dearer than there is money": _each_option(fee_reserve=MAX_AMOUNT),
    "no options": lambda answer: replace(answer, fee_options=()),
    "an empty list of options": _options(lambda options: []),
    "options that are null": _options(lambda options: None),
    "options that are no list": _options(lambda options: {"0": options[0]}),
    "an option that is null": _options(lambda options: [None, *options]),
    "one option twice": _options(lambda options: [*options, options[0]]),
    "one index for all": _each_option(fee_index=0),
    "a negative reserve": _each_option(fee_reserve=-1),
    "a reserve that is a fraction": _each_option(fee_reserve=1.5),
    "a reserve that is text": _each_option(fee_reserve="1"),
    "a reserve beyond all amounts": _each_option(fee_reserve=MAX_AMOUNT + 1),
    "a negative index": _each_option(fee_index=-1),
    "indices beyond what a store counts": _options(
        lambda options: [{**one, "fee_index": MAX_AMOUNT - n} for n, one in enumerate(options)]
    ),
    "blocks beyond all time": _each_option(estimated_blocks=MAX_AMOUNT),
    "negative blocks": _each_option(estimated_blocks=-3),
    "options without indices": _options(
        lambda options: [{k: v for k, v in o.items() if k != "fee_index"} for o in options[::-1]]
    ),
    "a thousand options": _options(lambda options: [{**options[0], "fee_index": n} for n in range(1000)]),
    "one option": lambda answer: replace(answer, fee_options=answer.fee_options[:1]),
    "one option more": _options(lambda options: [*options, {"fee_index": 77, "fee_reserve": 0, "estimated_blocks": 1}]),
}
_MELT: dict[str, Lie] = {
    "a higher amount": lambda answer: replace(answer, amount=answer.amount + 1),
    "a lower amount": lambda answer: replace(answer, amount=1),
    "another payee": lambda answer: replace(answer, request=foreign_address(99)),
    "another unit": lambda answer: replace(answer, unit="usd"),
    "another method": lambda answer: replace(answer, method="bolt11"),
    "of another": lambda answer: replace(answer, quote="another"),
    **_EXPIRY,
    **_EXTRA,
}
_FOLLOWED: dict[str, Lie] = {
    "a choice that we did not make": _another_choice,
    "a choice that is none": _body(selected_fee_index=500),
    "a negative choice": _body(selected_fee_index=-1),
    "paid": lambda answer: replace(answer, state=MeltState.PAID),
    "unpaid": lambda answer: replace(answer, state=MeltState.UNPAID, change=None, outpoint=None),
    "pending": lambda answer: replace(answer, state=MeltState.PENDING, change=None),
    "a state that is none": _body(state="CONFIRMED"),
    "an outpoint that is none": lambda answer: replace(answer, outpoint="somewhere"),
    "an outpoint that is long": _body(outpoint="f" * 5000),
    "an outpoint that is no text": _body(outpoint={"txid": "00" * 32, "vout": 0}),
    "an outpoint that commands a terminal": _body(outpoint="\x1b[2J" + "00" * 32 + ":0"),
    "another outpoint": lambda answer: replace(answer, outpoint="ab" * 32 + ":7"),
}
_CHANGE: dict[str, Lie] = {
    "no change": _less_change(0),
    "one piece of the change": _less_change(1),
    "change that is left out": lambda answer: replace(answer, change=None) if answer.change else answer,
}
_ASKED_TO_BE_PAID: dict[str, Lie] = {
    "another key": lambda answer: replace(answer, pubkey=public_key("evil").hex()),
    "a key that is none": lambda answer: replace(answer, pubkey="05" * 33),
    "no key": lambda answer: replace(answer, pubkey=None),
    "another unit": lambda answer: replace(answer, unit="usd"),
    "another method": lambda answer: replace(answer, method="bolt11"),
    "an amount that nobody asked for": lambda answer: replace(answer, amount=(answer.amount or 0) + 1),
    "paid already": lambda answer: replace(answer, amount_paid=1000, updated_at=answer.updated_at),
    "issued already": lambda answer: replace(answer, amount_paid=1000, amount_issued=1000),
    "issued more than was paid": lambda answer: replace(answer, amount_issued=1000),
    "of the far future": lambda answer: replace(answer, updated_at=NEVER),
    "nothing to pay to": lambda answer: replace(answer, request=""),
    "text to pay to": lambda answer: replace(answer, request="lno1\x00"),
    **_EXPIRY,
    **_EXTRA,
}
_PAID: dict[str, Lie] = {
    "paid more than there is": lambda answer: replace(answer, amount_paid=MAX_AMOUNT),
    "paid beyond all amounts": _body(amount_paid=MAX_AMOUNT + 1),
    "paid a little more": lambda answer: replace(answer, amount_paid=answer.amount_paid + 1),
    "paid a little less": lambda answer: replace(answer, amount_paid=max(answer.amount_paid - 1, 0)),
    "paid nothing": lambda answer: replace(answer, amount_paid=0),
    "paid less than nothing": _body(amount_paid=-5),
    "paid a fraction": _body(amount_paid=2.5),
    "paid by text": _body(amount_paid="21"),
    "paid null": _body(amount_paid=None, state=None),
    "issued all": lambda answer: replace(answer, amount_issued=answer.amount_paid),
    "issued more than was paid": lambda answer: replace(answer, amount_issued=answer.amount_paid + 1),
    "issued nothing": lambda answer: replace(answer, amount_issued=0),
    "issued more than there is": lambda answer: replace(answer, amount_issued=MAX_AMOUNT),
    "unpaid, and newest": lambda answer: replace(answer, amount_paid=0, amount_issued=0, updated_at=answer.updated_at + 30),
    "unpaid, and of the far future": lambda answer: replace(answer, amount_paid=0, amount_issued=0, updated_at=NEVER),
    "issued, and of the far future": lambda answer: replace(answer, amount_issued=answer.amount_paid, updated_at=MAX_AMOUNT),
    "another key": lambda answer: replace(answer, pubkey=public_key("evil").hex()),
    "another unit": lambda answer: replace(answer, unit="usd"),
    "another method": lambda answer: replace(answer, method="bolt11"),
    "another payee": lambda answer: replace(answer, request=foreign_address(98)),
    "another amount": lambda answer: replace(answer, amount=1),
    "of another": lambda answer: replace(answer, quote="another"),
    **_EXPIRY,
    **_EXTRA,
}


def _page(change: Callable[[dict[str, Any]], Any]) -> Lie:
    """The answer of a look for quotes by keys, changed as JSON."""

    def lie(answer: bytes) -> bytes:
        body = json.loads(answer)
        changed = change(body)
        return json.dumps(body if changed is None else changed).encode()

    return lie


def _quotes(**fields: Any) -> Lie:
    def lie(body: dict[str, Any]) -> None:
        body["quotes"] = [{**one, **fields} for one in body["quotes"]]

    return _page(lie)


def _issued(body: dict[str, Any]) -> None:
    for one in body["quotes"]:
        one.update(amount_paid=one["amount"], amount_issued=one["amount"])


_ASK: dict[str, Lie] = {
    "nothing": lambda answer: b"",
    "no JSON": lambda answer: b"<html>" + answer,
    "a list": _page(lambda body: [body]),
    "no quotes": _page(lambda body: {"quotes": [], "next_cursor": None}),
    "quotes that are null": _page(lambda body: {**body, "quotes": None}),
    "quotes that are numbers": _page(lambda body: {**body, "quotes": [1, 2]}),
    "JSON too deep to read": lambda answer: b"[" * 5000 + b"]" * 5000,
    "a list without end": _page(lambda body: {**body, "next_cursor": "more"}),
    "a cursor that is no text": _page(lambda body: {**body, "next_cursor": {"at": 1}}),
    "a long cursor": _page(lambda body: {**body, "next_cursor": "c" * 100_000}),
    "each twice": _page(lambda body: {**body, "quotes": body["quotes"] * 2}),
    "another key": _quotes(pubkey=public_key("evil").hex()),
    "a key that is none": _quotes(pubkey="zz"),
    "no key": _quotes(pubkey=None),
    "another method": _quotes(method="bolt12"),
    "another unit": _quotes(unit="usd"),
    "a unit that is none": _quotes(unit=""),
    "one id for all": _quotes(quote="q"),
    "no id": _quotes(quote=""),
    "no amount": _quotes(amount=0),
    "another amount": _quotes(amount=1),
    "a negative amount": _quotes(amount=-1),
    "a fraction": _quotes(amount_paid=0.5),
    "paid more than there is": _quotes(amount_paid=MAX_AMOUNT),
    "unpaid": _quotes(amount_paid=0, amount_issued=0, state="UNPAID"),
    "unpaid, and of the far future": _quotes(amount_paid=0, amount_issued=0, updated_at=NEVER),
    "all issued": _page(_issued),
    "expired": _quotes(expiry=1),
    "nested extra fields": _quotes(extra=DEEP),
    "a huge extra field": _quotes(extra="x" * 300_000),
    "away": raising(UnavailableError("away")),
    "refused": raising(RefusedError("no", code=0)),
}


def _of_several(lies: dict[str, Lie]) -> dict[str, Lie]:
    def each(lie: Lie) -> Lie:
        return lambda answers: [lie(one) for one in answers]

    return {name: each(lie) for name, lie in lies.items()}


METHOD_LIES: dict[str, dict[str, Lie]] = {
    "request_melt_quote onchain": {**_PRICES, **_MELT, "paid": _FOLLOWED["paid"], "one id for all": _body(quote="q")},
    "melt_quote onchain": {**_PRICES, **_MELT, **_FOLLOWED, **_CHANGE},
    "melt onchain": {
        **_MELT,
        **{name: lie for name, lie in _FOLLOWED.items() if name != "pending"},  # that is the truth there
        "dear options": _PRICES["dear options"],
        "no options": _PRICES["no options"],
    },
    "request_melt_quote bolt12": {
        **_MELT,
        "options that nobody asked for": lambda answer: replace(answer, fee_options=(MeltFeeOption(0, MAX_AMOUNT, 1),)),
        "a huge reserve": lambda answer: replace(answer, fee_reserve=MAX_AMOUNT),
        "a negative reserve": _body(fee_reserve=-1),
        "one id for all": _body(quote="q"),
    },
    "melt_quote bolt12": {
        **_MELT,
        "a higher reserve": lambda answer: replace(answer, fee_reserve=answer.fee_reserve + 1),
        "options that nobody asked for": lambda answer: replace(answer, fee_options=(MeltFeeOption(0, 1, 1),)),
    },
    "melt bolt12": _CHANGE,
    "melt bolt11": _CHANGE,
    "request_mint_quote bolt12": {
        **_ASKED_TO_BE_PAID,
        "an offer of another amount": lambda answer: replace(answer, request=foreign_offer(1_000, description="x")),
        "an invoice": lambda answer: replace(answer, request="lnbcrt1"),
    },
    "request_mint_quote onchain": {
        **_ASKED_TO_BE_PAID,
        "an address of nobody": lambda answer: replace(answer, request=foreign_address(97)),
        "no address": lambda answer: replace(answer, request="bc1q"),
    },
    "request_mint_quote voucher": _ASKED_TO_BE_PAID,
    "mint_quote bolt12": _PAID,
    "mint_quote onchain": _PAID,
    "mint_quote voucher": _PAID,
    "mint_quote bolt11": {name: lie for name, lie in _PAID.items() if name not in ("issued nothing", "another method")},
    "mint_quotes bolt12": _of_several(_PAID),
    "ask": _ASK,
}
