"""What an operator may ask of proved liabilities (draft 388), over the same socket as everything else."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from specie.ecash import wire
from specie.ecash.liabilities import Epoch, timestamp_text
from specie.kernel.encoding import hex_checked
from specie.kernel.errors import MalformedError, RefusedError
from specie.mint import Liabilities
from specie.server.ports import ServerContext

__all__ = ["LiabilityOperator"]

_SHOWN = 20


class LiabilityOperator:
    """The handlers; RefusedError in each while liabilities are not proved."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context

    @property
    def _on(self) -> Liabilities:
        found = self._context.mint.liabilities
        if found is None:
            raise RefusedError("this bank does not prove its liabilities; the setting mint.liabilities switches that on")
        return found

    async def epochs(self, request: Request) -> Response:
        """The newest epochs, newest first."""
        latest = await self._on.latest()
        found = [] if latest is None else await self._on.epochs(latest.number - _SHOWN + 1)
        return _json({"pubkey": self._on.pubkey.hex(), "epochs": [_epoch(epoch) for epoch in reversed(found)]})

    async def close(self, request: Request) -> Response:
        """Close the epoch that runs, now."""
        return _json(_epoch(await self._on.close_epoch()))

    async def audit(self, request: Request) -> Response:
        """Check every epoch and leaf against coins and books; reads all history."""
        return _json({"holds": True, "epochs": await self._on.audit()})

    async def prove(self, request: Request) -> Response:
        """The newest manifest and the inclusion proof of one B_ or Y."""
        try:
            item = hex_checked(request.query_params.get("item", ""), 33)
        except MalformedError:
            raise MalformedError("item is B_ or Y: 33 bytes in hex") from None
        found = await self._on.find(item)
        if found is None:
            raise RefusedError("no log holds this item yet")
        side, keyset_id = found
        epoch, keyset = await self._on.manifest(keyset_id)
        proofs = await self._on.prove_inclusion(keyset_id, side, [item])
        if not proofs:
            raise RefusedError("the epoch that holds this item is not signed yet")
        return _json(
            {
                "side": side.value,
                "manifest": msgspec.Raw(wire.manifest_to_json(epoch, keyset, self._on.pubkey)),
                "proof": msgspec.Raw(wire.inclusion_to_json(proofs)),
            }
        )


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _epoch(epoch: Epoch) -> dict[str, Any]:
    return {
        "number": epoch.number,
        "at": epoch.at,
        "timestamp": timestamp_text(epoch.at),
        "digest": epoch.digest.hex(),
        "outstanding": epoch.outstanding(),
        "issued": sum(keyset.issued.size for keyset in epoch.keysets),
        "spent": sum(keyset.spent.size for keyset in epoch.keysets),
        "keysets": len(epoch.keysets),
    }
