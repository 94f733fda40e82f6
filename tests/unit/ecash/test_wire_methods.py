"""The JSON of methods beyond BOLT 11: fee options, amounts that the payer names, batches (NUT-15, 25, 29, 30)."""

from __future__ import annotations

import json

import pytest

from specie.ecash import BlindedMessage, MeltFeeOption, MeltQuote, MeltRequest, MintBatchRequest, MintQuote, wire
from specie.ecash.codes import BatchTooLargeError, DuplicateQuotesError
from specie.ecash.quote import MeltQuoteRequest, MeltState
from specie.kernel import Limits, MalformedError, curve

OPTIONS = (MeltFeeOption(0, 5000, 1), MeltFeeOption(7, 800, 144))
ONCHAIN = MeltQuote("q", "onchain", "bcrt1q", "sat", 100_000, 5000, expiry=5, fee_options=OPTIONS)
OUTPUT = BlindedMessage(8, "009a1f293253e41e", curve.public_key(b"\x07" * 32))


def _fields(body: bytes) -> dict[str, object]:
    found = json.loads(body)
    assert isinstance(found, dict)
    return found


def test_an_onchain_quote_has_options_and_no_preimage() -> None:
    """Both ways, the reserve being the largest until an option is chosen, and then the chosen one's."""
    body = wire.melt_quote_to_json(ONCHAIN)
    assert {"fee_options", "selected_fee_index", "outpoint"} < _fields(body).keys()
    assert not {"fee_reserve", "payment_preimage"} & _fields(body).keys()
    assert wire.melt_quote_from_json(body, method="onchain") == ONCHAIN
    chosen = MeltQuote(
        "q", "onchain", "bcrt1q", "sat", 100_000, 800, MeltState.PENDING, 5, fee_options=OPTIONS, selected_fee_index=7,
        outpoint="ab" * 32 + ":1",
    )  # fmt: skip
    assert wire.melt_quote_from_json(wire.melt_quote_to_json(chosen), method="onchain") == chosen


def test_an_answer_without_options_keeps_those_known() -> None:
    """A pending answer may leave out what the wallet knows; an option of the text's example is numbered by its place."""
    assert wire.melt_quote_from_json(b'{"quote":"q","state":"PENDING"}', method="onchain", quote=ONCHAIN).fee_options == OPTIONS
    options = [{"fee_reserve": 5, "estimated_blocks": 1}, {"fee_reserve": 2, "estimated_blocks": 6}]
    bare = json.dumps({"quote": "q", "amount": 1, "unit": "sat", "state": "UNPAID", "fee_options": options}).encode()
    found = wire.melt_quote_from_json(bare, method="onchain")
    assert [one.fee_index for one in found.fee_options] == [0, 1]
    assert found.fee_reserve == 5


def test_the_reserve_of_an_option() -> None:
    """A quote with options wants one of them, a quote without wants none."""
    assert ONCHAIN.reserve(7) == 800
    plain = MeltQuote("q", "bolt11", "lnbc", "sat", 10, 2)
    assert plain.reserve(None) == 2
    for quote, index in ((ONCHAIN, None), (ONCHAIN, 1), (plain, 0)):
        with pytest.raises(MalformedError):
            quote.reserve(index)


@pytest.mark.parametrize(
    "change",
    [
        {"fee_options": [{"fee_index": 1, "fee_reserve": 1, "estimated_blocks": 1}] * 2},
        {"fee_options": [{"fee_index": 2**32, "fee_reserve": 1, "estimated_blocks": 1}]},
        {"fee_options": [{"fee_index": n, "fee_reserve": 1, "estimated_blocks": 1} for n in range(33)]},
        {"fee_options": [{"fee_index": 0, "fee_reserve": -1, "estimated_blocks": 1}]},
        {"selected_fee_index": 3},
        {"outpoint": "x" * 101},
        {"outpoint": "a\x1b[2J"},
    ],
)
def test_a_hostile_quote_is_refused(change: dict[str, object]) -> None:
    """Repeated, too many or negative options, a choice that is not there, an outpoint no terminal should print."""
    body = _fields(wire.melt_quote_to_json(ONCHAIN)) | change
    with pytest.raises(MalformedError):
        wire.melt_quote_from_json(json.dumps(body).encode(), method="onchain")


def test_one_amount_at_most() -> None:
    """The payer names one amount, in one way."""
    asked = MeltQuoteRequest("onchain", "bcrt1q", "sat", amount=5)
    assert wire.melt_quote_request_from_json(wire.melt_quote_request_to_json(asked), method="onchain") == asked
    for options in ({"mpp": {"amount": 1}}, {"amountless": {"amount_msat": 1}}):
        body = json.dumps({"request": "r", "unit": "sat", "amount": 5, "options": options}).encode()
        with pytest.raises(MalformedError):
            wire.melt_quote_request_from_json(body, method="onchain")
    with pytest.raises(MalformedError):
        wire.melt_quote_request_from_json(b'{"request":"r","unit":"sat","amount":0}', method="onchain")


def test_a_melt_names_its_option() -> None:
    """`fee_index` 0 is a choice, and none is left out."""
    for index in (0, 3, None):
        asked = MeltRequest("onchain", "q", (), (OUTPUT,), fee_index=index)
        body = wire.melt_request_to_json(asked)
        assert wire.melt_request_from_json(body, method="onchain") == asked
        assert ("fee_index" in _fields(body)) is (index is not None)


def test_a_batch_both_ways() -> None:
    """With and without amounts and signatures."""
    for amounts, signatures in ((None, None), ((1, 2), ("ab", None))):
        asked = MintBatchRequest("bolt12", ("a", "b"), (OUTPUT,), amounts, signatures)
        assert wire.mint_batch_request_from_json(wire.mint_batch_request_to_json(asked), method="bolt12") == asked
    assert wire.quote_check_request_from_json(wire.quote_check_request_to_json(["a", "b"])) == ("a", "b")


@pytest.mark.parametrize(
    ("quotes", "error"),
    [([], MalformedError), (["a", "a"], DuplicateQuotesError), (["a", "b", "c"], BatchTooLargeError), ([""], MalformedError)],
)
def test_a_batch_names_some_quotes_once_and_not_too_many(quotes: list[str], error: type[Exception]) -> None:
    """NUT-29: non-empty, unique (11016), bounded (11017)."""
    limits = Limits(batch_quotes=2)
    with pytest.raises(error):
        wire.quote_check_request_from_json(wire.quote_check_request_to_json(quotes), limits=limits)
    body = wire.mint_batch_request_to_json(MintBatchRequest("bolt11", tuple(quotes), (OUTPUT,)))
    with pytest.raises(error):
        wire.mint_batch_request_from_json(body, method="bolt11", limits=limits)


def test_arrays_of_a_batch_are_as_long_as_its_quotes() -> None:
    """Signatures and amounts stand beside the quotes."""
    for amounts, signatures in (((1,), None), (None, ("ab",))):
        body = wire.mint_batch_request_to_json(MintBatchRequest("bolt11", ("a", "b"), (OUTPUT,), amounts, signatures))
        with pytest.raises(MalformedError, match="one entry for each"):
            wire.mint_batch_request_from_json(body, method="bolt11")


def test_an_answer_about_several_quotes_is_about_those() -> None:
    """In the order asked for; a quote too few, too many or elsewhere is refused."""
    quotes = [MintQuote(name, "bolt11", "lnbc", "sat", 5, amount_paid=5) for name in ("a", "b")]
    body = wire.mint_quotes_to_json(quotes)
    assert wire.mint_quotes_from_json(body, ["a", "b"], method="bolt11") == quotes
    for asked in (["b", "a"], ["a"], ["a", "b", "c"]):
        with pytest.raises(MalformedError, match="other quotes"):
            wire.mint_quotes_from_json(body, asked, method="bolt11")
