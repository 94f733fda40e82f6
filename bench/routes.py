"""Load on every documented route of the Cashu API that a bank answers as it comes: those of `bench.load`, and these."""

from __future__ import annotations

from bench.client import request_bytes
from bench.load import Load
from bench.purse import amounts_for
from specie.ecash import wire
from specie.ecash.transaction import MintBatchRequest

__all__ = ["ROUTES", "RouteLoad"]

ROUTES = {
    "info": "GET /v1/info",
    "keys": "GET /v1/keys",
    "keyset": "GET /v1/keys/{id}",
    "keysets": "GET /v1/keysets",
    "mint_quote": "POST /v1/mint/quote/bolt11",
    "mint_quote_state": "GET /v1/mint/quote/bolt11/{id}",
    "mint_quote_check": "POST /v1/mint/quote/bolt11/check, 16 quotes",
    "mint": "POST /v1/mint/bolt11, 4 coins",
    "mint_batch": "POST /v1/mint/bolt11/batch, 4 quotes, 4 coins",
    "melt_quote": "POST /v1/melt/quote/bolt11",
    "melt_quote_state": "GET /v1/melt/quote/bolt11/{id}",
    "melt": "POST /v1/melt/bolt11",
    "swap4": "POST /v1/swap, 4/4",
    "checkstate": "POST /v1/checkstate, 64 Ys",
    "restore": "POST /v1/restore, 64 outputs",
}
"""Routes of drafts and of logins are off unless an operator asks for them, and are not here; /v1/ws is `bench.sockets`'."""

_CHECKED = 16
_BATCH = 4
_FIRST_BATCHES_A_SECOND = 100.0


class RouteLoad(Load):
    """`Load` with the rest of the documented routes."""

    _known_melts: tuple[str, ...] = ()

    def _keyset(self, concurrency: int) -> None:
        request = request_bytes("GET", f"/v1/keys/{self.purse.keyset.id}")
        self._measure("keyset", concurrency, [request], repeat=True)

    def _keysets(self, concurrency: int) -> None:
        self._measure("keysets", concurrency, [request_bytes("GET", "/v1/keysets")], repeat=True)

    def _mint_quote_state(self, concurrency: int) -> None:
        quotes = self.purse.paid_quotes([sum(amounts_for(_BATCH))] * _CHECKED)
        requests = [request_bytes("GET", f"/v1/mint/quote/bolt11/{quote}") for quote in quotes]
        self._measure("mint_quote_state", concurrency, requests, repeat=True)

    def _mint_quote_check(self, concurrency: int) -> None:
        quotes = self.purse.paid_quotes([sum(amounts_for(_BATCH))] * _CHECKED)
        body = wire.quote_check_request_to_json(quotes)
        request = request_bytes("POST", "/v1/mint/quote/bolt11/check", body)
        self._measure("mint_quote_check", concurrency, [request], repeat=True)

    def _mint_batch(self, concurrency: int) -> None:
        self._rates.setdefault("mint_batch", _FIRST_BATCHES_A_SECOND)
        amounts = amounts_for(_BATCH)
        wanted = self._wanted("mint_batch", concurrency)
        quotes = self.purse.paid_quotes(amounts * wanted)
        requests = []
        for start in range(0, len(quotes), _BATCH):
            batch = MintBatchRequest("bolt11", tuple(quotes[start : start + _BATCH]), self.purse.outputs(amounts).messages)
            requests.append(request_bytes("POST", "/v1/mint/bolt11/batch", wire.mint_batch_request_to_json(batch)))
        self._measure("mint_batch", concurrency, requests)

    def _melt_quote_state(self, concurrency: int) -> None:
        if not self._known_melts:
            self._melt_quote(2)
            self._known_melts = tuple(quote for quote, _, _ in self._melt_quotes.pop(2))
        requests = [request_bytes("GET", f"/v1/melt/quote/bolt11/{quote}") for quote in self._known_melts]
        self._measure("melt_quote_state", concurrency, requests, repeat=True)
