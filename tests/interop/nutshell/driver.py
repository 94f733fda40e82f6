"""Drives the Nutshell wallet from the interop tests: one JSON request a line on stdin, one JSON answer a line on stdout.

Runs in Nutshell's own interpreter (scripts/install-peers.sh), so it imports nothing of ours. The protocol and the calls are
those of ../cashu_ts/driver.mjs. Each wallet keeps its database in the directory it was opened with, and every proof it
makes must carry a DLEQ (Nutshell verifies those that are there). It is not a wallet for anybody's money.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import sys
import time
import webbrowser
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

_answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # whatever the wallet prints goes to stderr

import cashu  # noqa: E402
from bolt11 import Bolt11, MilliSatoshi, TagChar, Tags, encode  # noqa: E402
from cashu.core.base import AuthProof, PaymentRequest, Proof, TokenV3, TokenV3Token, TokenV4  # noqa: E402
from cashu.core.helpers import sum_proofs  # noqa: E402
from cashu.core.json_rpc.base import JSONRPCSubscriptionKinds  # noqa: E402
from cashu.core.models import PostMeltQuoteResponse  # noqa: E402
from cashu.core.nuts import nut18, nut26  # noqa: E402
from cashu.core.secret import Tags as LockTags  # noqa: E402
from cashu.wallet.auth.auth import WalletAuth  # noqa: E402
from cashu.wallet.auth.openid_connect.openid_client import AuthorizationFlow  # noqa: E402
from cashu.wallet.crud import get_proofs, invalidate_proof  # noqa: E402
from cashu.wallet.helpers import deserialize_token_from_string  # noqa: E402
from cashu.wallet.subscriptions import SubscriptionManager  # noqa: E402
from cashu.wallet.wallet import Wallet  # noqa: E402

_CODE = re.compile(r"\(Code: (\d+)\)")

os.chdir(Path(cashu.__file__).parents[1])  # the page it shows after a login is looked for below the working directory


class Peer:
    """One wallet at one mint, with its own database and words."""

    def __init__(self, wallet: Wallet) -> None:
        self.wallet = wallet

    @property
    def balance(self) -> int:
        return int(self.wallet.available_balance.amount)

    def _kept(self, proofs: list[Proof]) -> dict[str, Any]:
        missing = [p.amount for p in proofs if p.dleq is None]
        if missing:
            raise ValueError(f"proofs without DLEQ: {missing}")
        return {"amount": sum_proofs(proofs), "amounts": [p.amount for p in proofs], "balance": self.balance}

    async def info(self) -> dict[str, Any]:
        wallet = self.wallet
        return {
            "pubkey": await wallet.create_p2pk_pubkey(),
            "keyset": wallet.keyset_id,
            "fee_ppk": wallet.keysets[wallet.keyset_id].input_fee_ppk,
            "name": wallet.mint_info.name,
            "balance": self.balance,
        }

    async def unaware(self) -> None:
        """From now on it does not know what the mint asks for, as a wallet that saw the mint before a change."""
        self.wallet.mint_info = None

    async def mint_quote(self, amount: int, locked: bool = True) -> dict[str, Any]:
        del locked  # Nutshell signs every quote (NUT-20)
        quote = await self.wallet.request_mint(amount)
        return {"quote": quote.quote, "request": quote.request, "state": quote.state.value.upper()}

    async def wait_paid(self, quote: str, timeout_ms: int) -> dict[str, Any]:
        end = time.monotonic() + timeout_ms / 1000
        while time.monotonic() < end:
            seen = await self.wallet.get_mint_quote(quote)
            if seen.paid or seen.issued:
                return {"state": seen.state.value.upper()}
            await asyncio.sleep(0.05)
        raise TimeoutError(f"quote {quote} was not paid in {timeout_ms} ms")

    async def wait_paid_by_socket(self, quote: str, timeout_ms: int) -> dict[str, Any]:
        paid = asyncio.get_running_loop().create_future()
        subscriptions = await self._subscribe(
            JSONRPCSubscriptionKinds.BOLT11_MINT_QUOTE,
            [quote],
            lambda told: told["state"] in ("PAID", "ISSUED") and (paid.done() or paid.set_result(told["state"])),
            timeout_ms,
        )
        async with asyncio.timeout(timeout_ms / 1000):
            state = await paid
        await asyncio.to_thread(subscriptions.close)
        return {"state": state}

    async def watch(self, token: str) -> dict[str, Any]:
        ys, spent = [proof.Y for proof in await self._proofs(token)], set()
        self.watched_all = asyncio.get_running_loop().create_future()

        def seen(told: dict[str, Any]) -> None:
            if str(told["state"]).upper() == "SPENT":
                spent.add(told["Y"])
            if len(spent) == len(ys) and not self.watched_all.done():
                self.watched_all.set_result(len(spent))

        self.watching = await self._subscribe(JSONRPCSubscriptionKinds.PROOF_STATE, ys, seen, 10_000)
        return {}

    async def watched(self, timeout_ms: int) -> dict[str, Any]:
        async with asyncio.timeout(timeout_ms / 1000):
            spent = await self.watched_all
        await asyncio.to_thread(self.watching.close)
        return {"spent": spent}

    async def _subscribe(
        self, kind: JSONRPCSubscriptionKinds, names: list[str], seen: Callable[[dict[str, Any]], Any], timeout_ms: int
    ) -> SubscriptionManager:
        """A subscription (NUT-17) whose notices come to `seen` in this loop."""
        loop = asyncio.get_running_loop()
        subscriptions = SubscriptionManager(self.wallet.url)
        subscriptions.callback_map = {}  # Nutshell shares one among all managers
        Thread(target=subscriptions.connect, daemon=True).start()
        async with asyncio.timeout(timeout_ms / 1000):
            while not (subscriptions.websocket.sock and subscriptions.websocket.sock.connected):
                await asyncio.sleep(0.02)
        await asyncio.to_thread(
            subscriptions.subscribe, kind, names, lambda params: loop.call_soon_threadsafe(seen, params.payload)
        )
        return subscriptions

    async def mint(self, quote: str) -> dict[str, Any]:
        amount = (await self.wallet.get_mint_quote(quote)).amount
        return self._kept(await self.wallet.mint(amount, quote_id=quote))

    async def swap(self) -> dict[str, Any]:
        before = self.balance
        fresh, _ = await self.wallet.split([proof for proof in self.wallet.proofs if not proof.reserved], 0)
        return {"paid": before - sum_proofs(fresh), **self._kept(fresh)}

    async def send(
        self,
        amount: int,
        lock: dict[str, Any] | None = None,
        include_fees: bool = False,
        legacy: bool = False,
        memo: str | None = None,
    ) -> dict[str, Any]:
        wallet = self.wallet
        if lock:
            secret, hint = await self._lock(lock)
            _, proofs = await wallet.swap_to_send(
                wallet.proofs, amount, secret_lock=secret, include_fees=include_fees, p2pk_e=hint
            )
        else:
            proofs, _ = await wallet.select_to_send(wallet.proofs, amount, include_fees=include_fees)
        self._kept(proofs)
        token = await wallet.serialize_proofs(proofs, include_dleq=True, legacy=legacy, memo=memo)
        await wallet.set_reserved_for_send(proofs, reserved=True)
        return {"token": token, "amount": sum_proofs(proofs), "balance": self.balance}

    async def _lock(self, lock: dict[str, Any]) -> tuple[Any, str | None]:
        """The secret, and the key that goes beside it where the lock is blinded (NUT-28)."""
        pubkeys, refund = lock.get("pubkeys") or [], lock.get("refund") or []
        locktime_s = int(lock["locktime"] - time.time()) if lock.get("locktime") else None
        if lock.get("hashlock"):
            secret = await self.wallet.create_htlc_lock(
                preimage_hash=lock["hashlock"],
                hashlock_pubkeys=pubkeys or None,
                locktime_seconds=locktime_s,
                locktime_pubkeys=refund or None,
            )
            return secret, None
        tags = LockTags()
        if lock.get("locktime"):
            tags["locktime"] = str(lock["locktime"])
        if pubkeys[1:]:
            tags["pubkeys"] = pubkeys[1:]
        if refund:
            tags["refund"] = refund
        terms = {"tags": tags, "sig_all": bool(lock.get("sig_all")), "n_sigs": lock.get("n_sigs") or 1}
        if lock.get("blinded"):
            return await self.wallet.create_p2bk_lock(pubkeys[0], **terms)
        return await self.wallet.create_p2pk_lock(pubkeys[0], **terms), None

    async def receive(self, token: str, preimage: str | None = None, privkeys: list[str] | None = None) -> dict[str, Any]:
        wallet = self.wallet
        decoded = deserialize_token_from_string(token)
        proofs = await self._proofs(token)
        if any(p.dleq is None for p in proofs):
            raise ValueError("the token has proofs without DLEQ")
        if preimage is not None:
            await wallet.add_htlc_preimage_to_proofs(proofs, preimage)
        if privkeys:
            await self._sign_with(privkeys, proofs)
        kept, _ = await wallet.redeem(proofs)
        return {**self._kept(kept), "memo": decoded.memo}

    async def _proofs(self, token: str) -> list[Proof]:
        proofs = list(deserialize_token_from_string(token).proofs)
        await self.wallet._expand_short_keyset_ids(proofs)
        return proofs

    async def _sign_with(self, privkeys: list[str], proofs: list[Proof]) -> None:
        """Signs with more keys than the wallet's own, for multi-signature locks with SIG_INPUTS."""
        from cashu.core.crypto.secp import PrivateKey

        own = self.wallet.private_key
        try:
            for privkey in privkeys:
                self.wallet.private_key = PrivateKey(bytes.fromhex(privkey))
                self.wallet.sign_p2pk_sig_inputs(proofs)
        finally:
            self.wallet.private_key = own

    async def melt(
        self,
        request: str,
        amount_msat: int | None = None,
        token: str | None = None,
        privkeys: list[str] | None = None,
        prefer_async: bool = False,
        timeout_ms: int = 0,
    ) -> dict[str, Any]:
        wallet = self.wallet
        if amount_msat is not None:
            raise NotImplementedError("Nutshell's wallet pays no invoice without an amount")
        quote = await wallet.melt_quote(request)
        needed = quote.amount + quote.fee_reserve
        if token is not None:
            proofs = await self._proofs(token)
            await self._sign_with(privkeys or [], proofs)
        else:
            proofs, _ = await wallet.select_to_send(wallet.proofs, needed, include_fees=True)
        paid = await wallet.melt(proofs, request, quote.fee_reserve, quote.quote, prefer_async=prefer_async)
        state, preimage, end = str(paid.state), paid.payment_preimage, time.monotonic() + timeout_ms / 1000
        while state == "PENDING" and time.monotonic() < end:
            await asyncio.sleep(0.05)
            seen = await wallet.get_melt_quote(quote.quote)  # Nutshell leaves the change of such a payment unclaimed
            state, preimage = seen.state.value.upper(), seen.payment_preimage
        return {
            "state": state,
            "first_state": str(paid.state),
            "preimage": preimage,
            "amount": quote.amount,
            "fee_reserve": quote.fee_reserve,
            "change": self._change(paid),
            "balance": self.balance,
        }

    @staticmethod
    def _change(paid: PostMeltQuoteResponse) -> int:
        if any(signature.dleq is None for signature in paid.change or []):
            raise ValueError("change without DLEQ")
        return sum(signature.amount for signature in paid.change or [])

    async def melt_part(self, request: str, amount_msat: int) -> dict[str, Any]:
        """A part of an invoice (NUT-15)."""
        wallet = self.wallet
        quote = await wallet.melt_quote(request, amount_msat)
        proofs, _ = await wallet.select_to_send(wallet.proofs, quote.amount + quote.fee_reserve, include_fees=True)
        paid = await wallet.melt(proofs, request, quote.fee_reserve, quote.quote)
        self._change(paid)
        return {"state": str(paid.state), "preimage": paid.payment_preimage, "amount": quote.amount, "balance": self.balance}

    async def pay_request(self, text: str, dleq: bool = True) -> dict[str, Any]:
        """What Nutshell's `pay` puts on a request's transport, for whoever carries it; without `dleq` exactly that."""
        asked = nut18.deserialize(text)
        secret = None
        if asked.nut10 is not None:
            secret = await self.wallet.create_p2pk_lock(asked.nut10.d)
        _, proofs = await self.wallet.swap_to_send(self.wallet.proofs, asked.a, secret_lock=secret, include_fees=True)
        payload = {"id": asked.i, "unit": asked.u, "mint": self.wallet.url, "memo": "from nutshell"}
        payload["proofs"] = [proof.to_dict(include_dleq=dleq) for proof in proofs]
        return {"payload": json.dumps(payload), "balance": self.balance}

    async def take_payload(self, payload: str) -> dict[str, Any]:
        paid = json.loads(payload)
        held = TokenV3Token(mint=paid["mint"], proofs=[Proof(**proof) for proof in paid["proofs"]])
        token = TokenV4.from_tokenv3(TokenV3(token=[held]))
        return await self.receive(token.serialize(include_dleq=True))

    async def restore(self) -> dict[str, Any]:
        wallet = self.wallet
        await wallet.restore_wallet_from_mnemonic(None)
        await wallet.load_proofs(reload=True)
        return self._kept(wallet.proofs)

    async def states(self, token: str | None = None) -> list[str]:
        proofs = self.wallet.proofs
        if token is not None:
            proofs = await self._proofs(token)
        return [str(state.state.value).upper() for state in (await self.wallet.check_proof_state(proofs)).states]


class AuthPeer(Peer):
    """A wallet at a mint that asks for a login (NUT-21) and for blind tokens (NUT-22), which Nutshell mints and spends.

    The browser alone is not Nutshell's: what it would show is the test's to visit.
    """

    async def ask(self, device: bool) -> str:
        """Starts a login, by its own redirect or by a device code: the address that the browser is sent to."""
        asked = asyncio.get_running_loop().create_future()
        webbrowser.open = asked.set_result
        self.auth = await self._auth()
        if device:
            self.auth.auth_flow = AuthorizationFlow.DEVICE_CODE  # no command of Nutshell's chooses it yet
        self.logging_in = asyncio.create_task(self.auth.init_auth_wallet(self.wallet.mint_info))
        await asyncio.wait({asked, self.logging_in}, return_when=asyncio.FIRST_COMPLETED)
        while not (self.logging_in.done() or device or self._listens()):
            await asyncio.sleep(0.01)
        if self.logging_in.done():
            await self.logging_in
        return str(await asked)

    def _listens(self) -> bool:
        """Whether its port for the redirect is open."""
        return hasattr(self.auth.oidc_client, "server") and self.auth.oidc_client.server.started

    async def _auth(self) -> WalletAuth:
        return await WalletAuth.with_db(url=self.wallet.url, db=self.wallet.db.db_location)

    async def login(self) -> dict[str, Any]:
        await self.logging_in
        self.wallet.auth_db, self.wallet.auth_keyset_id = self.auth.db, self.auth.keyset_id
        self.wallet.mint_info = self.auth.mint_info
        return await self.pool()

    async def top_up(self) -> dict[str, Any]:
        """What each command of Nutshell does first: take up the login and mint blind tokens if there are too few."""
        self.auth = await self._auth()
        await self.auth.init_auth_wallet(self.wallet.mint_info)
        return await self.pool()

    async def _tokens(self) -> list[Proof]:
        return await get_proofs(db=self.auth.db, id=self.auth.keyset_id)

    async def pool(self) -> dict[str, Any]:
        tokens = await self._tokens()
        if any(token.dleq is None for token in tokens):
            raise ValueError("blind tokens without DLEQ")
        return {"pool": len(tokens), "login": self.auth.oidc_client.access_token}

    async def take(self) -> str:
        """One blind token out of the pool, as a header has it."""
        token = (await self._tokens())[0]
        await invalidate_proof(proof=token, db=self.auth.db)
        return AuthProof.from_proof(token).to_base64()


_peers: list[Peer] = []


async def _wallet(mint: str, unit: str, words: str, directory: str) -> Wallet:
    wallet = await Wallet.with_db(mint, directory, unit=unit, skip_db_read=True)
    await wallet._init_private_key(words)
    await wallet.load_mint()
    await wallet.load_proofs(reload=True)
    return wallet


async def _open(mint: str, unit: str, words: str, directory: str) -> dict[str, Any]:
    peer = Peer(await _wallet(mint, unit, words, directory))
    _peers.append(peer)
    return {"wallet": len(_peers) - 1, **await peer.info()}


async def _open_auth(mint: str, unit: str, words: str, directory: str, device: bool) -> dict[str, Any]:
    peer = AuthPeer(await _wallet(mint, unit, words, directory))
    _peers.append(peer)
    return {"wallet": len(_peers) - 1, "visit": await peer.ask(device)}


async def _invoice(amount_msat: int | None, currency: str) -> dict[str, Any]:
    """An invoice of a node that no mint here knows; FRESH preimage."""
    preimage = os.urandom(32)
    tags = Tags()
    tags.add(TagChar.payment_hash, hashlib.sha256(preimage).hexdigest())
    tags.add(TagChar.payment_secret, os.urandom(32).hex())
    tags.add(TagChar.description, "an invoice of a stranger")
    tags.add(TagChar.expire_time, 3600)
    invoice = Bolt11(
        currency=currency, amount_msat=MilliSatoshi(amount_msat) if amount_msat else None, date=int(time.time()), tags=tags
    )
    return {"request": encode(invoice, os.urandom(32).hex()), "preimage": preimage.hex()}


async def _pay_parts(request: str, parts: list[tuple[int, int]]) -> list[dict[str, Any]]:
    return await asyncio.gather(*(_peers[wallet].melt_part(request, amount_msat) for wallet, amount_msat in parts))


async def _request_encode(request: dict[str, Any], form: str) -> str:
    made = PaymentRequest(**request)
    return nut18.serialize(made) if form == "creqA" else nut26.serialize(made)


async def _request_decode(text: str) -> dict[str, Any]:
    return nut18.deserialize(text).model_dump(exclude_none=True)


_calls = {
    "open": _open,
    "open_auth": _open_auth,
    "invoice": _invoice,
    "pay_parts": _pay_parts,
    "request_encode": _request_encode,
    "request_decode": _request_decode,
}


async def _answer(line: str) -> dict[str, Any]:
    request = json.loads(line)
    handle = request.get("wallet")
    call = _calls[request["call"]] if handle is None else getattr(_peers[handle], request["call"])
    try:
        return {"id": request["id"], "ok": await call(**request["args"])}
    except Exception as error:  # every failure is the test's to judge
        code = _CODE.search(str(error))
        message = f"{type(error).__name__}: {error}"
        return {"id": request["id"], "error": {"message": message, "code": int(code[1]) if code else None}}


async def _serve() -> None:
    while line := await asyncio.to_thread(sys.stdin.readline):
        _answers.write(json.dumps(await _answer(line)) + "\n")
        _answers.flush()


asyncio.run(_serve())
