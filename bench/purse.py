"""Everything that costs time on the wallet's side, done outside of the timed windows: outputs, coins, invoices, checks."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.bank import BenchError
from bench.client import Answer, Clients, request_bytes
from specie.ecash import (
    BlindedMessage,
    BlindSignature,
    Keyset,
    MintQuoteRequest,
    MintRequest,
    Proof,
    SwapRequest,
    blind,
    unblind,
    verify_dleq,
    wire,
)
from specie.kernel import curve
from specie.lightning import InvoiceDraft, Network, encode_invoice

__all__ = ["Outputs", "Purse", "amounts_for", "foreign_invoice"]

_BATCH = 256
"""Outputs of one mint request when coins are made for later."""

_PREPARING = 8
"""Connections used outside of the timed windows."""

_PAID_WITHIN_S = 20.0


def amounts_for(coins: int) -> list[int]:
    """Amounts of a group of coins: 1, 2, 4 ... 128, 1, 2 ..."""
    return [1 << (place % 8) for place in range(coins)]


def foreign_invoice(amount_sat: int, key: bytes) -> str:
    """A BOLT 11 regtest invoice that a node with this throw-away key might have made."""
    draft = InvoiceDraft(
        network=Network.REGTEST,
        amount_msat=amount_sat * 1000,
        timestamp=int(time.time()),
        payment_hash=os.urandom(32),
        payment_secret=os.urandom(32),
        description="bench",
    )
    return asyncio.run(encode_invoice(draft, lambda digest: curve.ecdsa_sign_recoverable(digest, key)))


@dataclass(frozen=True, slots=True)
class Outputs:
    """Blinded messages with what unblinds their signatures."""

    messages: tuple[BlindedMessage, ...]
    secrets: tuple[str, ...]
    factors: tuple[bytes, ...]


class Purse:
    """Coins at one bank, in groups by their number, and the requests that spend them."""

    def __init__(self, clients: Clients, *, retries: int = 0) -> None:
        self._clients = clients
        self._retries = retries
        self._groups: dict[int, list[tuple[Proof, ...]]] = {}
        self.spent: list[bytes] = []
        """Ys of spent coins, at most some thousands."""
        self.signed: list[BlindedMessage] = []
        """Outputs the bank has signed, at most some thousands."""
        self.dleqs_verified = 0
        keysets = wire.keys_from_json(self._answered([request_bytes("GET", "/v1/keys")])[0])
        self.keyset: Keyset = next(keyset for keyset in keysets if keyset.unit == "sat")
        if self.keyset.input_fee_ppk:
            raise BenchError("the keyset takes input fees; coins are swapped here for as much as they are worth")

    def _answered(self, requests: Sequence[bytes]) -> list[bytes]:
        """Bodies of the answers, in order. BenchError unless all are 200, some only when sent again, as often as allowed."""
        answers = dict(self._clients.fire(requests, min(_PREPARING, len(requests))).answers)
        for left in range(self._retries, -1, -1):
            failed = [place for place in range(len(requests)) if answers[place].status != 200]
            if not failed:
                break
            if not left:
                answer = answers[failed[0]]
                raise BenchError(f"preparing: HTTP {answer.status} {answer.body[:200]!r}")
            again = self._clients.fire([requests[place] for place in failed], 1).answers
            answers |= {place: again[number] for number, place in enumerate(failed)}
        return [answers[place].body for place in range(len(requests))]

    def outputs(self, amounts: Sequence[int]) -> Outputs:
        """FRESH outputs."""
        secrets = tuple(os.urandom(32).hex() for _ in amounts)
        factors = tuple(os.urandom(32) for _ in amounts)
        made = zip(amounts, secrets, factors, strict=True)
        messages = tuple(BlindedMessage(amount, self.keyset.id, blind(secret, r)) for amount, secret, r in made)
        return Outputs(messages, secrets, factors)

    def coins(self, outputs: Outputs, signatures: Sequence[BlindSignature], *, verify: int = 0) -> tuple[Proof, ...]:
        """The coins of an answer; the DLEQ of the first `verify` is checked, amounts and ids of all."""
        keys = self.keyset.keys
        asked = [(message.amount, message.id) for message in outputs.messages]
        if [(signature.amount, signature.id) for signature in signatures] != asked:
            raise BenchError("the bank signed something else than it was asked to")
        for message, signature in zip(outputs.messages[:verify], signatures[:verify], strict=True):
            if signature.dleq is None:
                raise BenchError("a signature without DLEQ")
            verify_dleq(message.B_, signature.C_, signature.dleq, keys[message.amount])
            self.dleqs_verified += 1
        if len(self.signed) < 4096:
            self.signed += outputs.messages
        return tuple(
            Proof(signature.amount, signature.id, secret, unblind(signature.C_, r, keys[signature.amount]))
            for signature, secret, r in zip(signatures, outputs.secrets, outputs.factors, strict=True)
        )

    def take(self, coins: int, count: int) -> list[tuple[Proof, ...]]:
        """`count` groups of that many unspent coins; what is missing is minted."""
        stock = self._groups.setdefault(coins, [])
        if len(stock) < count:
            stock += self.minted([amounts_for(coins)] * (count - len(stock)))
        taken, self._groups[coins] = stock[:count], stock[count:]
        return taken

    def next(self, coins: int, count: int) -> list[tuple[Proof, ...]]:
        """The groups that `take` will give; they stay here."""
        taken = self.take(coins, count)
        self._groups[coins] = taken + self._groups[coins]
        return taken

    def give(self, group: tuple[Proof, ...]) -> None:
        """Put back coins that are unspent."""
        self._groups.setdefault(len(group), []).append(group)

    def minted(self, groups: Sequence[Sequence[int]]) -> list[tuple[Proof, ...]]:
        """New coins, several groups to a mint request."""
        per_request = max(1, _BATCH // max(len(group) for group in groups))
        batches = [groups[start : start + per_request] for start in range(0, len(groups), per_request)]
        quotes = self.paid_quotes([sum(map(sum, batch)) for batch in batches])
        outputs = [self.outputs([amount for group in batch for amount in group]) for batch in batches]
        requests = [self.mint_request(quote, made) for quote, made in zip(quotes, outputs, strict=True)]
        minted: list[tuple[Proof, ...]] = []
        for batch, made, body in zip(batches, outputs, self._answered(requests), strict=True):
            coins = self.coins(made, wire.signatures_from_json(body), verify=1)
            for group in batch:
                minted.append(coins[: len(group)])
                coins = coins[len(group) :]
        return minted

    def paid_quotes(self, amounts: Sequence[int]) -> list[str]:
        """Ids of new mint quotes, once they are paid."""
        bodies = self._answered([self.quote_request(amount) for amount in amounts])
        quotes = [wire.mint_quote_from_json(body).quote for body in bodies]
        self.wait_paid(quotes)
        return quotes

    def wait_paid(self, quotes: Sequence[str]) -> None:
        """Until all of these mint quotes are paid, so that nothing of them goes on behind the next measurement."""
        unpaid, deadline = list(quotes), time.monotonic() + _PAID_WITHIN_S
        while unpaid:
            bodies = self._answered([request_bytes("GET", f"/v1/mint/quote/bolt11/{quote}") for quote in unpaid])
            states = map(wire.mint_quote_from_json, bodies)
            unpaid = [state.quote for state in states if not state.amount_paid]
            if unpaid and time.monotonic() > deadline:
                raise BenchError(f"{len(unpaid)} mint quotes were not paid")

    # Requests

    def quote_request(self, amount: int) -> bytes:
        """POST /v1/mint/quote/bolt11."""
        body = wire.mint_quote_request_to_json(MintQuoteRequest("bolt11", "sat", amount))
        return request_bytes("POST", "/v1/mint/quote/bolt11", body)

    def mint_request(self, quote: str, outputs: Outputs) -> bytes:
        """POST /v1/mint/bolt11."""
        return request_bytes(
            "POST", "/v1/mint/bolt11", wire.mint_request_to_json(MintRequest("bolt11", quote, outputs.messages))
        )

    def swap_request(self, group: tuple[Proof, ...], outputs: Outputs) -> bytes:
        """POST /v1/swap."""
        return request_bytes("POST", "/v1/swap", wire.swap_request_to_json(SwapRequest(group, outputs.messages)))

    # Checks

    def check_double_spend(self, group: tuple[Proof, ...]) -> None:
        """Spent coins for new outputs must be refused as spent (NUT code 11001); BenchError if they are not."""
        again = self.swap_request(group, self.outputs([proof.amount for proof in group]))
        answer = self._clients.fire([again], 1).answers[0]
        if answer.status != 400 or wire.error_from_json(answer.body).code != 11001:
            raise BenchError(f"a double spend was answered with HTTP {answer.status} {answer.body[:200]!r}")

    def check_replay(self, request: bytes, answer: Answer) -> None:
        """The same request again must get the same answer; BenchError if it does not."""
        again = self._clients.fire([request], 1).answers[0]
        if again != answer:
            raise BenchError(f"the same request again was answered with HTTP {again.status} {again.body[:200]!r}")
