"""Speaks with a running bank through its operator's socket; what `specie mint ...` uses.

Answers are plain dictionaries, as the operator's API sends them. Not here: what to do when no bank runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx2

from specie.ecash import wire
from specie.kernel.errors import InvariantError, MalformedError, PeerFaultError, UnavailableError, UncertainError
from specie.server.unix_socket import reachable_name

__all__ = ["AdminClient", "admin_client"]

_TIMEOUT = httpx2.Timeout(600.0, connect=5.0)


class AdminClient:
    """One method for each thing an operator may ask. All raise UnavailableError if no bank answers, else what it says."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def health(self) -> dict[str, Any]:
        """State, uptime and what each dependency says."""
        return await self._ask("GET", "/health")

    async def keysets(self) -> list[dict[str, Any]]:
        """Every keyset with what was issued and redeemed under it."""
        found: list[dict[str, Any]] = (await self._ask("GET", "/keysets"))["keysets"]
        return found

    async def rotate(
        self,
        unit: str = "sat",
        *,
        input_fee_ppk: int | None = None,
        final_expiry: int | None = None,
        home: str | None = None,
    ) -> dict[str, Any]:
        """A new active keyset. NOT to be repeated blindly: each call makes one."""
        body = {"unit": unit, "input_fee_ppk": input_fee_ppk, "final_expiry": final_expiry, "home": home}
        return await self._ask("POST", "/keysets/rotate", body)

    async def quotes(self, limit: int = 20) -> list[dict[str, Any]]:
        """Newest quotes, mint and melt, with shortened ids."""
        found: list[dict[str, Any]] = (await self._ask("GET", f"/quotes?limit={limit}"))["quotes"]
        return found

    async def books(self) -> dict[str, Any]:
        """The trial balance: `units` summed up, `accounts` one by one (debits positive)."""
        return await self._ask("GET", "/books")

    async def audit(self) -> dict[str, Any]:
        """Books checked against all history; InvariantError if they differ."""
        return await self._ask("POST", "/audit")

    async def audit_log(self, what: str, **query: int) -> dict[str, Any]:
        """A page of the audit log: `records` or `checkpoints` (`after`, `limit`), or its `head`."""
        return await self._ask("GET", f"/audit/{what}?{urlencode(query)}")

    async def audit_checkpoint(self) -> dict[str, Any]:
        """A checkpoint of the audit log, kept and anchored now."""
        return await self._ask("POST", "/audit/checkpoint")

    async def epochs(self) -> dict[str, Any]:
        """The newest epochs of proved liabilities, newest first, and the key that signs them."""
        return await self._ask("GET", "/epochs")

    async def close_epoch(self) -> dict[str, Any]:
        """Close the epoch that runs, now."""
        return await self._ask("POST", "/epochs/close")

    async def audit_epochs(self) -> dict[str, Any]:
        """Every epoch and leaf checked against coins and books; InvariantError if they differ."""
        return await self._ask("POST", "/epochs/audit")

    async def prove(self, item: str) -> dict[str, Any]:
        """The newest manifest and the inclusion proof of one B_ or Y, given in hex."""
        return await self._ask("GET", f"/epochs/prove?{urlencode({'item': item})}")

    async def prune(self, grace_s: int, *, act: bool, cursor: str | None = None) -> dict[str, Any]:
        """One step over rows of keysets that expired `grace_s` ago: what it found or (`act`) dropped, and the next cursor."""
        return await self._ask("POST", "/prune", {"grace_s": grace_s, "act": act, "cursor": cursor})

    async def backup(self, path: Path) -> Path:
        """A consistent copy of the store in the new file `path`, which is absolute."""
        return Path((await self._ask("POST", "/backup", {"path": str(path)}))["path"])

    async def settle(self, request: str, amount_msat: int | None = None) -> None:
        """Have the play rail pay one of its own requests now; `amount_msat` where it names no amount."""
        await self._ask("POST", "/play/settle", {"request": request, "amount_msat": amount_msat})

    async def mine(self, blocks: int = 1) -> int:
        """New play blocks; the height after them."""
        return int((await self._ask("POST", "/play/mine", {"blocks": blocks}))["height"])

    async def reorganise(self, depth: int = 1, *, drop: str | None = None) -> int:
        """Undo the newest play blocks, and `drop` a transaction that they had; how many deposits were withdrawn."""
        return int((await self._ask("POST", "/play/reorganise", {"depth": depth, "drop": drop}))["withdrawn"])

    async def replace(self, txid: str, *, paid: bool = True) -> str | None:
        """Replace a play transaction that no block has, by one that pays the same or (not `paid`) somebody else; its id."""
        found: str | None = (await self._ask("POST", "/play/replace", {"txid": txid, "paid": paid}))["txid"]
        return found

    async def config(self) -> dict[str, Any]:
        """What runs: every setting by its name, without secrets, and whether settings can be taken now (`live`)."""
        return await self._ask("GET", "/config")

    async def revisions(self, limit: int = 20) -> list[dict[str, Any]]:
        """The newest revisions of the settings, newest first."""
        found: list[dict[str, Any]] = (await self._ask("GET", f"/config/revisions?limit={limit}"))["revisions"]
        return found

    async def revision(self, number: int) -> dict[str, Any]:
        """One revision, with its `settings` and its `document` (None where a secret stood in it in the clear)."""
        return await self._ask("GET", f"/config/revision?number={number}")

    async def check_config(self, file: Path | None = None) -> dict[str, Any]:
        """What the bank would make of a settings file: `problems`, `changes`, keys that need a `restart`."""
        return await self._ask("POST", "/config/check", {"file": None if file is None else str(file)})

    async def apply_config(self, author: str) -> dict[str, Any]:
        """Take the bank's settings file now; the revision that runs then. RefusedError tells what is in the way."""
        return await self._ask("POST", "/config/apply", {"author": author})

    async def rollback_config(self, number: int, author: str) -> dict[str, Any]:
        """Write and take the settings file of an earlier revision; the revision that runs then."""
        return await self._ask("POST", "/config/rollback", {"number": number, "author": author})

    async def workers(self) -> dict[str, Any]:
        """How many processes the bank has (`count`), and how often that of this socket was replaced (`generation`)."""
        return await self._ask("GET", "/workers")

    async def restart(self) -> dict[str, Any]:
        """Begin to replace every worker; `count` and `generation` as before that. RefusedError where there is one process."""
        return await self._ask("POST", "/restart")

    async def stop(self) -> None:
        """Begin a graceful stop."""
        await self._ask("POST", "/stop")

    async def _ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        try:
            response = await self._client.request(method, path, json=body)
        except httpx2.ConnectError:
            raise UnavailableError("no bank is running here") from None
        except httpx2.TransportError as error:
            if method == "GET":
                raise UnavailableError("the bank did not answer") from None
            raise UncertainError(f"the bank did not answer ({type(error).__name__}); it may have done it") from None
        if response.status_code == 200:
            try:
                found: dict[str, Any] = response.json()
            except ValueError:
                raise PeerFaultError("the bank's answer is no JSON", peer="admin socket") from None
            return found
        raise self._error(response)

    def _error(self, response: httpx2.Response) -> Exception:
        try:
            refused = wire.error_from_json(response.content)
        except MalformedError:
            return PeerFaultError(f"the bank answered HTTP {response.status_code}", peer="admin socket")
        if response.status_code == 503:
            return UnavailableError(refused.detail)
        if response.status_code >= 500:
            return InvariantError(refused.detail)
        return refused


@asynccontextmanager
async def admin_client(socket: Path) -> AsyncIterator[AdminClient]:
    """A client of the bank that listens on `socket`, for use inside `async with`."""
    with reachable_name(socket) as name:
        transport = httpx2.AsyncHTTPTransport(uds=name)
        async with httpx2.AsyncClient(transport=transport, base_url="http://bank", timeout=_TIMEOUT) as client:
            yield AdminClient(client)
