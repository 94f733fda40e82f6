"""A mint that lies about what it owes: its money is honest, its epochs are made here, signed with the mint's own key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from specie.ecash import wire
from specie.ecash.liabilities import (
    NO_DIGEST,
    UNSCHEDULED,
    ConsistencyProof,
    Epoch,
    Forest,
    InclusionProof,
    KeysetCommitment,
    Root,
    Side,
    Span,
    Step,
    SumNode,
    leaf,
    manifest_digest,
    path_spans,
    spans,
)
from specie.mint.adapters.liability_store import SqlLiabilityStore
from tests.support.direct_client import DirectClient
from tests.support.house import House

Log = list[tuple[bytes, int]]


def forest(log: Log, size: int | None = None) -> tuple[Forest, dict[Span, SumNode]]:
    """A log's peaks and all of its subtrees."""
    made: dict[Span, SumNode] = {}
    found = Forest(made=made.__setitem__)
    for place, (item, amount) in enumerate(log[:size]):
        made[Span(place, 0)] = leaf(item, amount)
        found.append(made[Span(place, 0)])
    return found, made


class Liar:
    """Logs and epochs beside the truth. Unless told to lie it says what an honest mint says."""

    def __init__(self, bank: House) -> None:
        self.bank = bank
        self.logs: dict[tuple[str, Side], Log] = {}
        self.epochs: list[Epoch] = []
        self.asked: list[tuple[str, ...]] = []
        self.shown: list[Epoch] | None = None
        """What is shown in place of `epochs`."""
        self.hidden = 0
        """Leaves that are kept back at the end of every log."""
        self.at: int | None = None
        """The time that is told in place of the real one."""

    async def fresh(self) -> dict[tuple[str, Side], Log]:
        """What the logs lack, as the mint's tables have it."""
        store, found = SqlLiabilityStore(), {}
        for side in Side:
            for keyset, item, amount in await self.bank.storage.read(lambda tx, side=side: store.unlogged(tx, side)):
                if all(item != known for known, _ in self.logs.get((keyset, side), [])):
                    found.setdefault((keyset, side), []).append((item, amount))
        return found

    async def close(self, fresh: dict[tuple[str, Side], Log] | None = None) -> Epoch:
        """Close an epoch over what is new, or over what is given."""
        for key, log in (await self.fresh() if fresh is None else fresh).items():
            self.logs.setdefault(key, []).extend(log)
        epoch = await self.signed(self._epoch())
        self.epochs.append(epoch)
        return epoch

    def _epoch(self) -> Epoch:
        last = self.epochs[-1] if self.epochs else None
        keysets = []
        for keyset in sorted(self.bank.mint.keysets(), key=lambda one: one.id):
            roots = {}
            for side in Side:
                grown, _ = forest(self.logs.get((keyset.id, side), []))
                roots[side] = Root(grown.size, grown.root.hash, grown.root.sum)
            keysets.append(
                KeysetCommitment(keyset.id, keyset.unit, roots[Side.ISSUED], roots[Side.SPENT], keyset.active, UNSCHEDULED)
            )
        at = self.at or self.bank.clock.now()
        if last is None:
            return Epoch(1, at, NO_DIGEST, tuple(keysets))
        return Epoch(last.number + 1, at, last.digest, tuple(keysets))

    async def signed(self, epoch: Epoch) -> Epoch:
        """An epoch under the mint's own key."""
        digests = [manifest_digest(epoch, keyset) for keyset in epoch.keysets]
        return msgspec.structs.replace(epoch, signatures=tuple(await self.bank.signer.sign_schnorr("mint", digests)))

    # answers

    def answer(self, path: tuple[str, ...], content: bytes | None, query: Mapping[str, int]) -> bytes:
        """The body of an answer below /v1/pol."""
        self.asked.append(path)
        epochs = self.epochs if self.shown is None else self.shown
        if path == ("epochs",):
            return wire.epochs_to_json([epoch for epoch in epochs if epoch.number >= query["from"]][:3])
        keyset, kind, side = path[0], path[1], Side(path[2])
        log = self.logs.get((keyset, side), [])
        if kind == "leaves":
            said = next(epoch for epoch in epochs if epoch.number == query["epoch_index"]).keyset(keyset)
            assert said is not None
            end = said.log(side).size - self.hidden
            return wire.leaves_to_json(log[query["from"] : end][:7])
        if kind == "proofs":
            items = wire.proof_request_from_json(content or b"", side, most=50)
            return wire.inclusion_to_json([self._proof(log, item) for item in items if any(item == one for one, _ in log)])
        sizes = [self.epochs[query[name] - 1].keyset(keyset).log(side).size for name in ("from", "to")]  # type: ignore[union-attr]
        _, made = forest(log)
        return wire.consistency_to_json(
            ConsistencyProof(
                sizes[0],
                sizes[1],
                tuple(made[span] for span in spans(0, sizes[0])),
                tuple(made[span] for span in spans(*sizes)),
            )
        )

    def _proof(self, log: Log, item: bytes) -> InclusionProof:
        grown, made = forest(log)
        index = next(place for place, (one, _) in enumerate(log) if one == item)
        path = [Step(made[span].hash, made[span].sum, span.start < index) for span in path_spans(index, len(log))]
        return InclusionProof(item, log[index][1], index, tuple(path), grown.peaks)


class LiarClient(DirectClient):
    """A client whose questions below /v1/pol the liar answers; all else is the honest mint's."""

    liar: Liar

    async def info(self) -> Any:
        found = await super().info()
        return msgspec.structs.replace(found, nuts=dict(found.nuts) | {"388": {"supported": True, "epoch_s": 3600}})

    async def ask(self, verb: str, *path: str, content: bytes | None = None, query: Mapping[str, int] | None = None) -> bytes:
        async def work() -> bytes:
            return self.liar.answer(path[1:], content, query or {})

        return await self._call("ask", work)


__all__ = ["Liar", "LiarClient", "forest"]
