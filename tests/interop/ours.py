"""Our wallet with the verbs that the peers' wallets have in these tests (`peers.PeerWallet`), through `specie.SyncWallet`."""

from __future__ import annotations

import itertools
import json
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from specie import SyncWallet
from specie.ecash import Token, decode_token, encode_token, resolve_token
from specie.ecash.proof import y
from specie.ecash.wire import keysets_from_json
from specie.kernel.errors import SpecieError
from specie.keys import SealSource
from specie.wallet import HTLC, P2PK, WalletMintQuote, WalletSettings
from tests.interop.peers import PeerError

__all__ = ["OurWallet", "OurWallets", "read_token"]

T = TypeVar("T")
_POLL_S = 0.05
_NEVER_POLL_S = 600.0
_SEALED = SealSource(passphrase="of the interop tests")
"""Peers' mints do not say that their money is play money, so a key file does not do."""


class OurWallets:
    """All of our wallets of a test session, each in a directory of its own, closed together."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._numbers = itertools.count()
        self._open: list[SyncWallet] = []

    def open(self, mint_url: str, words: str) -> SyncWallet:
        """A wallet made from words, in a new directory, that hears of payments by WebSocket or never."""
        directory = self.home / f"wallet-{next(self._numbers)}"
        settings = WalletSettings(poll_s=_NEVER_POLL_S, longest_poll_s=_NEVER_POLL_S)
        wallet = SyncWallet.open(
            directory / "data", sealed=_SEALED, words=words, mint=mint_url, settings=settings, config_home=directory / "config"
        )
        self._open.append(wallet)
        return wallet

    def close(self) -> None:
        while self._open:
            self._open.pop().close()


def _tried(what: str, work: Callable[[], T]) -> T:
    """The result of `work`; our errors become what the tests know of any wallet."""
    try:
        return work()
    except SpecieError as error:
        raise PeerError(f"specie {what}: {type(error).__name__}: {error}", getattr(error, "code", None)) from error


class OurWallet:
    """See `peers.PeerWallet`, whose verbs these are."""

    def __init__(self, wallets: OurWallets, mint_url: str, words: str) -> None:
        self.mint_url, self.words = mint_url, words
        self._wallet = _tried("open", lambda: wallets.open(mint_url, words))
        (view,) = self._wallet.mints()
        active = next(known.keyset for known in view.keysets if known.keyset.active and known.keyset.unit == "sat")
        self.keyset, self.fee_ppk = active.id, active.input_fee_ppk
        self.pubkey = self._wallet.p2pk_key()
        self._quotes: dict[str, WalletMintQuote] = {}

    @property
    def balance(self) -> int:
        return self._wallet.balance().available

    def lock_keys(self, count: int) -> list[str]:
        return [self._wallet.p2pk_key() for _ in range(count)]

    def mint_quote(self, amount: int, *, locked: bool = False) -> dict[str, Any]:
        quote = _tried("mint_quote", lambda: self._wallet.mint_quote(amount))
        assert quote.key_index is not None or not locked, "the quote is not locked to a key of ours"
        self._quotes[quote.quote] = quote
        return {"quote": quote.quote, "request": quote.request}

    def wait_paid(self, quote: str, *, by_socket: bool = False, timeout_s: float = 20.0) -> str:
        start, end = time.monotonic(), time.monotonic() + timeout_s
        seen = _tried("wait", lambda: self._wallet.wait(self._quotes[quote], timeout_s=timeout_s if by_socket else 0.0))
        while not seen.amount_paid and not by_socket and time.monotonic() < end:
            time.sleep(_POLL_S)
            seen = _tried("wait", lambda: self._wallet.wait(self._quotes[quote], timeout_s=0.0))
        if not seen.amount_paid:
            raise PeerError(f"specie wait: not paid in {timeout_s} s", None)
        if by_socket and time.monotonic() - start > timeout_s - 1:
            raise PeerError("specie wait: paid, and nobody told", None)  # its last look saw it
        self._quotes[quote] = seen
        return "PAID" if seen.claimable else "ISSUED"

    def issue(self, quote: str) -> int:
        return _tried("claim", lambda: self._wallet.claim(self._quotes[quote]))

    def mint(self, amount: int, *, locked: bool = False) -> int:
        quote = self.mint_quote(amount, locked=locked)["quote"]
        self.wait_paid(quote)
        return self.issue(quote)

    def swap(self) -> int:
        # a split into all there is spends every coin
        price = -(-len(self.states()) * self.fee_ppk // 1000)
        return _tried("split", lambda: self._wallet.split([self.balance - price]))

    def send(
        self,
        amount: int,
        *,
        lock: Mapping[str, Any] | None = None,
        include_fees: bool = False,
        legacy: bool = False,
        memo: str | None = None,
    ) -> str:
        terms = _lock(lock) if lock else None
        sent = _tried("send", lambda: self._wallet.send(amount, lock=terms, memo=memo, include_fee=include_fees))
        assert all(proof.dleq is not None for proof in self._token(sent.text).proofs)
        return encode_token(self._token(sent.text), 3) if legacy else sent.text

    def receive(self, token: str, *, preimage: str | None = None) -> int:
        return _tried("receive", lambda: self._wallet.receive(token, preimage=preimage)).amount

    def receive_offline(self, token: str) -> int:
        """Takes a token without asking its mint."""
        return _tried("receive", lambda: self._wallet.receive(token, offline=True)).amount

    def secure(self) -> int:
        """Swaps what was received off-line."""
        return _tried("secure", self._wallet.secure)

    def rotate(self) -> int:
        """Moves coins off keysets that are no longer active: how much."""
        return _tried("rotate", self._wallet.rotate)

    def claim_all(self) -> int:
        """Mints all that was paid: how much."""
        return _tried("claim_all", self._wallet.claim_all).get("sat", 0)

    def minted(self) -> list[int]:
        """What each operation minted, the last first."""
        return [entry.amount for entry in self._wallet.history() if entry.kind == "mint"]

    def pay(self, request: str, *, wait_s: float) -> str:
        """Pays an invoice, waiting so long for its end: PAID or PENDING."""
        return _tried("pay", lambda: self._wallet.pay(request, wait_s=wait_s)).state

    def resume(self) -> None:
        """Takes up what is open."""
        _tried("resume", self._wallet.resume)

    @property
    def reserved(self) -> int:
        """What is held in operations whose end is not known."""
        return self._wallet.balance().reserved

    def melt(self, request: str) -> dict[str, Any]:
        before = self.balance
        quote = _tried("melt_quote", lambda: self._wallet.melt_quote(request))
        paid = _tried("pay", lambda: self._wallet.pay(quote))
        after = self.balance
        assert before - after == paid.amount + paid.fee, "the wallet's account of the payment is wrong"
        return {
            "state": paid.state,
            "preimage": paid.preimage,
            "amount": paid.amount,
            "fee_reserve": quote.fee_reserve,
            "change": max(quote.fee_reserve - paid.fee, 0),
        }

    def restore(self) -> int:
        return sum(found.amount for found in _tried("restore", lambda: self._wallet.restore([self.mint_url])))

    def states(self, token: str | None = None) -> list[str]:
        if token is None:
            ys = [stored.y.hex() for stored in self._wallet._run(self._wallet._wallet._proofs()) if stored.state == "UNSPENT"]
        else:
            ys = [y(proof).hex() for proof in self._token(token).proofs]
        answer = json.loads(_asked(f"{self.mint_url}/v1/checkstate", json.dumps({"Ys": ys}).encode()))
        return [state["state"] for state in answer["states"]]

    def _token(self, text: str) -> Token:
        return read_token(self.mint_url, text)


def read_token(mint_url: str, text: str) -> Token:
    """A token with full keyset ids, by what the mint says of its keysets."""
    return resolve_token(decode_token(text), keysets_from_json(_asked(f"{mint_url}/v1/keysets")))


def _asked(url: str, body: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"} if body else {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=20) as answer:
        data: bytes = answer.read()
        return data


def _lock(lock: Mapping[str, Any]) -> P2PK | HTLC:
    pubkeys: Sequence[str] = tuple(lock.get("pubkeys", ()))
    more = {
        "n_sigs": lock.get("n_sigs", 1),
        "locktime": lock.get("locktime"),
        "refund": tuple(lock.get("refund", ())),
        "sig_all": lock.get("sig_all", False),
        "blinded": lock.get("blinded", False),
    }
    if "hashlock" in lock:
        return HTLC(lock["hashlock"], tuple(pubkeys), **more)
    return P2PK(tuple(pubkeys), **more)
