"""Routes of proved liabilities (draft 388) under /v1/pol; there are none unless the mint has them switched on.

`manifest` and `proofs` are the draft's. `epochs`, `leaves` and `consistency` are ours: with the leaves a wallet checks by
itself and tells nobody which coins are its own. Every answer is bounded: a page of epochs or leaves, a few proofs.
"""

from __future__ import annotations

from urllib.parse import parse_qs

from specie.ecash import wire
from specie.ecash.liabilities import Side
from specie.kernel.errors import MalformedError
from specie.kernel.limits import Limits
from specie.mint import ITEMS_A_QUESTION, Liabilities
from specie.server.errors import Answer, NoRouteError
from specie.server.front import UNKNOWN, Route
from specie.server.http import Request
from specie.server.ports import MintFace

__all__ = ["LiabilityRoutes"]

_CACHE = [(b"cache-control", b"no-cache")]


class LiabilityRoutes:
    """The handlers, over the mint's `liabilities`."""

    def __init__(self, mint: MintFace, limits: Limits) -> None:
        self._mint = mint
        self._limits = limits
        self._epochs = Route("/v1/pol/epochs", {"GET": self._list_epochs})
        self._by_shape = {
            "manifest": Route("/v1/pol/{id}/manifest", {"GET": self._manifest}),
            "proofs": Route("/v1/pol/{id}/proofs/{side}", {"POST": self._prove}),
            "leaves": Route("/v1/pol/{id}/leaves/{side}", {"GET": self._leaves}),
            "consistency": Route("/v1/pol/{id}/consistency/{side}", {"GET": self._consistency}),
        }

    def route(self, pieces: list[str]) -> tuple[Route, tuple[str, ...]]:
        """The route of a path behind /v1/pol, and the parts of it that vary."""
        if self._mint.liabilities is None:
            return UNKNOWN, ()
        match pieces:
            case ["epochs"]:
                return self._epochs, ()
            case [keyset, "manifest"]:
                return self._by_shape["manifest"], (keyset,)
            case [keyset, "proofs" | "leaves" | "consistency" as kind, "issued" | "spent" as side]:
                return self._by_shape[kind], (keyset, side)
        return UNKNOWN, ()

    @property
    def _on(self) -> Liabilities:
        if self._mint.liabilities is None:
            raise NoRouteError("no such path")
        return self._mint.liabilities

    async def _list_epochs(self, request: Request) -> Answer:
        found = await self._on.epochs(_number(request, "from") or 1)
        return Answer(wire.epochs_to_json(found), headers=_CACHE)

    async def _manifest(self, request: Request) -> Answer:
        epoch, keyset = await self._on.manifest(request.parts[0], _number(request, "epoch_index"))
        return Answer(wire.manifest_to_json(epoch, keyset, self._on.pubkey), headers=_CACHE)

    async def _prove(self, request: Request) -> Answer:
        keyset, side = request.parts[0], Side(request.parts[1])
        items = wire.proof_request_from_json(await request.body(), side, most=ITEMS_A_QUESTION, limits=self._limits)
        proofs = await self._on.prove_inclusion(keyset, side, items, _number(request, "epoch_index"))
        return Answer(wire.inclusion_to_json(proofs), headers=_CACHE)

    async def _leaves(self, request: Request) -> Answer:
        keyset, side = request.parts[0], Side(request.parts[1])
        leaves = await self._on.leaves(keyset, side, _number(request, "from") or 0, _number(request, "epoch_index"))
        return Answer(wire.leaves_to_json(leaves), headers=_CACHE)

    async def _consistency(self, request: Request) -> Answer:
        keyset, side = request.parts[0], Side(request.parts[1])
        old, new = _number(request, "from"), _number(request, "to")
        if old is None or new is None:
            raise MalformedError("from and to name two epochs")
        return Answer(wire.consistency_to_json(await self._on.prove_consistency(keyset, side, old, new)), headers=_CACHE)


def _number(request: Request, name: str) -> int | None:
    """A number in the query; None if it is not there, MalformedError for what is none up to 2^53."""
    found = parse_qs(request.scope.get("query_string", b"").decode("latin-1"), max_num_fields=10).get(name)
    if not found:
        return None
    text = found[0]
    if len(found) > 1 or not text.isascii() or not text.isdigit() or len(text) > 16 or int(text) > 2**53:
        raise MalformedError(f"{name} must be a number from 0 to 2^53")
    return int(text)
