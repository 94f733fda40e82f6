"""The mistake: amounts pass through a double (2^53), a signed column (2^63) or a float on their way.

Keysets have a key for 2^63, and amounts go to 2^64-1. Every path from JSON to disk and back must keep each unit: here the
amounts that the usual shortcuts spoil go all the way round.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import pytest

from specie.ecash import BlindedMessage, SwapRequest, wire
from specie.ecash import codes as refused
from specie.ecash.token import Token, decode_token, encode_token, resolve_token
from specie.kernel import MAX_AMOUNT, MalformedError
from specie.kernel.money import split_amount
from specie.mint.engine import checks
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.coins import public_key
from tests.support.house import House, Outputs, Purse, house

SPOILT = [2**53 - 1, 2**53, 2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 2, 2**64 - 1]
ID = "00" + "ab" * 7


@pytest.mark.parametrize("amount", SPOILT)
def test_json_keeps_every_unit(amount: int) -> None:
    """Read and written as a JSON integer, to the last digit, in requests and answers."""
    body = b'{"inputs":[],"outputs":[{"amount":%d,"id":"%s","B_":"%s"}]}' % (amount, ID.encode(), public_key(1).hex().encode())
    (output,) = wire.swap_request_from_json(body).outputs
    assert output.amount == amount
    assert str(amount).encode() in wire.swap_request_to_json(SwapRequest((), (output,)))


@pytest.mark.parametrize("written", ["18446744073709551616", "1e3", "1.0", "-1", '"1"', "true", "null", "9007199254740993.0"])
def test_what_is_no_amount_is_refused(written: str) -> None:
    """2^64, floats, text, booleans: refused rather than rounded."""
    body = f'{{"inputs":[],"outputs":[{{"amount":{written},"id":"{ID}","B_":"{public_key(1).hex()}"}}]}}'
    with pytest.raises(MalformedError):
        wire.swap_request_from_json(body.encode())


@pytest.mark.parametrize("amount", SPOILT)
def test_amounts_split_and_sum_exactly(amount: int) -> None:
    """Into powers of two and back."""
    parts = split_amount(amount, [1 << power for power in range(64)])
    assert sum(parts) == amount
    assert len(parts) == amount.bit_count()


async def forged(bank: House, outputs: Outputs) -> list[msgspec.Struct]:
    """Good coins that nobody paid for: there is not so much money to pay with."""
    return list(outputs.proofs(await checks.blind_sign(bank.mint._context, outputs.messages)))  # type: ignore[arg-type]


async def test_from_json_to_disk_and_back(tmp_path: Path) -> None:
    """A swap of 2^64-1 goes in as JSON, lies on disk as text, survives a restart, comes back by replay and restore."""
    path = tmp_path / "bank.sqlite"
    store = SqliteStorage(path)
    async with house(storage=store) as bank:
        purse, keyset = Purse(bank), bank.keyset()
        coins = await forged(bank, purse.outputs(sorted(keyset.keys)))
        outputs = purse.outputs(sorted(keyset.keys, reverse=True))
        request = wire.swap_request_to_json(SwapRequest(tuple(coins), outputs.messages))  # type: ignore[arg-type]
        answer = wire.signatures_to_json(await bank.mint.swap(wire.swap_request_from_json(request)))
        assert b"9223372036854775808" in answer
        assert sum(one.amount for one in wire.signatures_from_json(answer)) == MAX_AMOUNT
        clock = bank.clock
    await store.close()
    with sqlite3.connect(path) as raw:
        kinds = raw.execute(
            "SELECT DISTINCT typeof(amount) FROM mint_proof UNION SELECT typeof(amount) FROM mint_output"
        ).fetchall()
        assert kinds == [("text",)]
        assert raw.execute("SELECT count(*) FROM mint_output WHERE amount = '9223372036854775808'").fetchone() == (1,)
    raw.close()
    store = SqliteStorage(path)
    async with house(storage=store, clock=clock) as bank:
        again = await bank.mint.swap(wire.swap_request_from_json(request))
        assert wire.signatures_to_json(again) == answer
        placeholders = [BlindedMessage(1, one.id, one.B_) for one in outputs.messages]
        assert sum(signature.amount for _, signature in await bank.mint.restore(placeholders)) == MAX_AMOUNT
        books = await bank.mint.books()
        assert books.issued(keyset.id, "sat") == books.redeemed(keyset.id, "sat") == MAX_AMOUNT
    await store.close()


async def test_tokens_carry_them(bank: House, purse: Purse) -> None:
    """V3 (JSON) and V4 (CBOR) tokens of coins up to 2^63."""
    coins = await forged(bank, purse.outputs([2**53, 2**63]))
    for version in (3, 4):
        text = encode_token(Token("http://mint.test", "sat", tuple(coins)), version=version)  # type: ignore[arg-type]
        token = resolve_token(decode_token(text), [bank.keyset()])
        assert [proof.amount for proof in token.proofs] == [2**53, 2**63]


async def test_sums_beyond_64_bits_are_refused(bank: House, purse: Purse) -> None:
    """Two coins of 2^63 are 2^64, which is no amount: refused, not taken for 0."""
    coins = await forged(bank, purse.outputs([2**63, 2**63]))
    with pytest.raises(refused.AmountOutOfRangeError):
        await bank.mint.swap(SwapRequest(tuple(coins), purse.outputs([1]).messages))  # type: ignore[arg-type]
    with pytest.raises(refused.AmountOutOfRangeError):
        await bank.mint.swap(SwapRequest(tuple(coins[:1]), purse.outputs([2**63, 2**63]).messages))  # type: ignore[arg-type]
