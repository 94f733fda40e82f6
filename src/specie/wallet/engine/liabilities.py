"""Checks what a mint proves of its liabilities (draft 388) against this wallet's own coins, and keeps evidence.

By default whole logs are read, from where the last check ended, and looked through here: the mint learns that somebody
audits, and not for whose coins. A log that is too long for that can be asked about item by item, which tells the mint
which coins belong together; so that is done only when it is said.

| a crash ...               | leaves behind                                                             |
|---------------------------|---------------------------------------------------------------------------|
| before anything is saved  | nothing: the next check begins where this one did                         |
| after evidence was saved  | the evidence; the next check finds the same fault and keeps it once       |
| after the view was saved  | the end of the check                                                      |

Nothing here moves money, and a mint that is caught keeps the wallet's view where it was: the fault is found again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TypeVar

import msgspec

from specie.ecash import wire
from specie.ecash.keyset import Keyset, is_expired
from specie.ecash.liabilities import (
    NO_DIGEST,
    CommitmentBrokenError,
    Epoch,
    Evidence,
    EvidenceKind,
    Forest,
    InclusionProof,
    Side,
    Signed,
    Span,
    Step,
    SumNode,
    leaf,
    path_spans,
    spans,
    verify_consistency,
    verify_epoch,
    verify_evidence,
    verify_inclusion,
    verify_successor,
)
from specie.ecash.mint_url import mint_url_checked
from specie.kernel import curve
from specie.kernel.errors import MalformedError, PeerFaultError, RefusedError
from specie.storage.ports import Transaction
from specie.wallet.engine.context import Context
from specie.wallet.engine.mints import fresh_keysets
from specie.wallet.errors import UnsupportedError
from specie.wallet.liabilities import (
    CoinRecord,
    KeptEvidence,
    LiabilityFault,
    LiabilityReceipt,
    LiabilityReport,
    LiabilityView,
    LoggedItem,
    LogView,
    issued_signature,
    receipts_of,
)

__all__ = ["MintLiabilities"]

T = TypeVar("T")

_NUT = 388
_MAX_EPOCHS = 20_000
_ITEMS_A_QUESTION = 50
GRACE_S = 600
"""By how much clocks may differ before a coin must be in an epoch that was closed after it came."""
MAX_LEAVES = 200_000
"""Leaves of one log that are read in one check: about 16 MB of JSON."""

_view = msgspec.json.Decoder(LiabilityView)


class _FaultError(Exception):
    """The mint was caught; what was found is in the report."""


@dataclass(slots=True)
class _Check:
    """One check of one mint as it goes on."""

    mint: str
    view: LiabilityView
    report: LiabilityReport
    receipts: dict[tuple[Side, bytes], LiabilityReceipt]
    logged: dict[tuple[Side, bytes], LoggedItem]
    keysets: dict[str, Keyset]
    begun: int
    """When, by our clock, before any epoch was asked for."""
    ahead_s: int = 0
    """By how much the mint's clock is ahead of ours, as it tells the time in its information."""
    found: list[LoggedItem] = field(default_factory=list)
    whole: set[str] = field(default_factory=set)
    """Logs that are known to the end of the newest epoch."""
    before: tuple[int, int] | None = None
    """The check before: when, by our clock, and which epoch was the newest."""

    def overdue(self, receipt: LiabilityReceipt, newest: Epoch) -> bool:
        """Whether an epoch must hold a receipt whatever the mint's clock says.

        What we had at the check before came before the epoch after next was decided, for the next one was not shown yet.
        """
        return self.before is not None and receipt.at < self.before[0] and newest.number >= self.before[1] + 2

    def caught(self, detail: str, *evidence: Evidence) -> None:
        """Note a fault; of the evidence offered, the first that verifies."""
        for one in evidence:
            try:
                verify_evidence(one)
            except CommitmentBrokenError:
                continue
            self.report.faults.append(LiabilityFault(detail, one))
            return
        self.report.faults.append(LiabilityFault(detail))


class MintLiabilities:
    """The wallet's `liabilities`: verify what mints owe."""

    def __init__(self, context: Context) -> None:
        """Take what the wallet's verbs share."""
        self._ctx = context

    async def verify(self, mint: str, *, ask: bool = False, max_leaves: int = MAX_LEAVES) -> LiabilityReport:
        """Check a mint's new epochs, its logs and our receipts; what was found, good or bad.

        `ask` names our coins to the mint where a log has more than `max_leaves` new leaves. Evidence is kept in the wallet.
        MintUnknownError, UnsupportedError where the mint proves nothing, PeerFaultError for answers that do not fit,
        UnavailableError.
        """
        ctx, mint = self._ctx, mint_url_checked(mint)
        await fresh_keysets(ctx, mint, force=True)
        info = await ctx.info(mint)
        if not info.supports(_NUT):
            raise UnsupportedError("the mint does not prove what it owes", nut=_NUT)
        check = await self._begin(mint, info.pubkey)
        check.ahead_s = max(0, (info.time or 0) - check.begun)
        try:
            epochs = await self._epochs(check)
            self._age(check, info.nuts.get(str(_NUT)))
            if epochs or check.view.epoch is not None:
                await self._logs(check, epochs, ask, max_leaves)
                self._missing(check)
        except _FaultError:
            pass
        await self._settle(check)
        return check.report

    async def evidence(self) -> list[KeptEvidence]:
        """All evidence this wallet keeps, oldest first."""
        return await self._ctx.storage.read(self._ctx.store.evidence)

    # before

    async def _begin(self, mint: str, announced: str | None) -> _Check:
        ctx = self._ctx
        try:
            pubkey = curve.point_from_bytes_checked(bytes.fromhex(announced or ""))
        except (ValueError, MalformedError):
            raise PeerFaultError("the mint announces no key of its own", peer=mint) from None

        async def body(tx: Transaction) -> tuple[bytes | None, list[CoinRecord], list[LoggedItem]]:
            return (
                await ctx.store.liability_view(tx, mint),
                await ctx.store.coin_records(tx, mint),
                await ctx.store.logged_items(tx, mint),
            )

        begun = ctx.clock.now()
        saved, coins, items = await ctx.storage.read(body)
        view = LiabilityView(pubkey) if saved is None else _view.decode(saved)
        report = LiabilityReport(mint)
        logged = {(one.side, one.item): one for one in items}
        known = {(one.side, one.y) for one in items}
        receipts: dict[tuple[Side, bytes], LiabilityReceipt] = {}
        for coin in coins:
            report.unproven += coin.stored.proof.dleq is None
            if (Side.ISSUED, coin.stored.y) in known and (Side.SPENT, coin.stored.y) in known:
                continue
            for receipt in receipts_of(coin):
                if (receipt.side, receipt.y) not in known:
                    receipts[receipt.side, receipt.item] = receipt
        keysets = {known.keyset.id: known.keyset for known in await ctx.keysets(mint)}
        check = _Check(mint, view, report, receipts, logged, keysets, begun)
        if view.epoch is not None:
            check.before = view.checked_at, view.epoch.number
        if view.pubkey != pubkey:
            check.caught("the mint's own key is another one than when it was first checked")
        return check

    # epochs

    async def _epochs(self, check: _Check) -> list[Epoch]:
        """All epochs behind the last one that was checked, each verified; _FaultError at the first that does not hold."""
        last = check.view.epoch
        found: list[Epoch] = []
        try:
            again = await self._page(check, 1 if last is None else last.number)
        except RefusedError as error:
            raise UnsupportedError(f"the mint does not list its epochs: {error.detail}", nut=_NUT) from error
        if last is not None:
            if not again:
                check.caught(f"the mint shows epoch {last.number} no more")
                raise _FaultError
            if msgspec.structs.replace(again[0], signatures=last.signatures) != last:
                self._equivocation(check, last, again[0])
                raise _FaultError
            again = again[1:]
        self._take(check, found, again)
        # a first page of one epoch that was known says nothing of the next
        while (found or last is not None) and len(found) < _MAX_EPOCHS:
            page = await self._page(check, (found[-1] if found else last).number + 1)  # type: ignore[union-attr]
            if not page:
                break
            self._take(check, found, page)
        newest = found[-1] if found else last
        if newest is not None:
            check.report.epoch, check.report.at, check.report.owed = newest.number, newest.at, newest.outstanding()
        check.report.epochs = len(found)
        return found

    def _age(self, check: _Check, setting: object) -> None:
        """Whether the mint has stopped closing epochs, by what it announces."""
        every_s = setting.get("epoch_s") if isinstance(setting, Mapping) else None
        if isinstance(every_s, int) and check.report.at is not None:
            check.report.stale = self._ctx.clock.now() - check.report.at > 3 * every_s + GRACE_S

    async def _page(self, check: _Check, first: int) -> Sequence[Epoch]:
        return await self._answer(
            check.mint, wire.epochs_from_json, lambda: self._ask(check.mint, "GET", "epochs", query={"from": first})
        )

    def _take(self, check: _Check, found: list[Epoch], page: Sequence[Epoch]) -> None:
        for epoch in page:
            before = found[-1] if found else check.view.epoch
            try:
                verify_epoch(epoch, check.view.pubkey)
                if before is not None:
                    expired = [k.id for k in check.keysets.values() if is_expired(k, epoch.at)]
                    verify_successor(before, epoch, expired=expired)
                elif (epoch.number, epoch.previous_digest) != (1, NO_DIGEST):
                    raise CommitmentBrokenError("the mint's first epoch is not shown")
            except CommitmentBrokenError as error:
                check.caught(error.detail, *_broken(check, before, epoch))
                raise _FaultError from error
            found.append(epoch)

    def _equivocation(self, check: _Check, seen: Epoch, shown: Epoch) -> None:
        offered = [
            Evidence(EvidenceKind.EQUIVOCATION, check.mint, check.view.pubkey, one, other) for one, other in _pairs(seen, shown)
        ]
        check.caught(f"the mint shows another epoch {seen.number} than before", *offered)

    # logs

    async def _logs(self, check: _Check, epochs: Sequence[Epoch], ask: bool, max_leaves: int) -> None:
        """Bring every log to the newest epoch, looking for our receipts on the way."""
        newest = epochs[-1] if epochs else check.view.epoch
        if newest is None:
            return
        logs = dict(check.view.logs)
        for keyset in newest.keysets:
            for side in Side:
                name = f"{keyset.keyset_id}/{side}"
                log = logs.get(name, LogView())
                more = keyset.log(side).size - log.size
                if more <= max_leaves:
                    logs[name] = await self._read(check, keyset.keyset_id, side, log, epochs, newest)
                    check.whole.add(name)
                    continue
                check.report.unread.append(name)
                if ask:
                    logs[name] = await self._ask_about(check, keyset.keyset_id, side, log, newest)
        check.view = LiabilityView(check.view.pubkey, newest, logs, check.begun)

    async def _read(
        self, check: _Check, keyset_id: str, side: Side, log: LogView, epochs: Sequence[Epoch], newest: Epoch
    ) -> LogView:
        """Read a log's new leaves, compare its root at the end of every epoch, and look for what is ours."""
        goal = Signed.of(newest, keyset_id)
        leaves: list[tuple[bytes, int]] = []
        while log.size + len(leaves) < goal.keyset.log(side).size:
            start = log.size + len(leaves)
            page = await self._answer(
                check.mint,
                wire.leaves_from_json,
                lambda start=start: self._ask(  # type: ignore[misc]
                    check.mint, "GET", keyset_id, "leaves", side, query={"from": start, "epoch_index": newest.number}
                ),
            )
            if not page or start + len(page) > goal.keyset.log(side).size:
                check.caught(f"the mint does not show all leaves of the {side} log of keyset {keyset_id}")
                raise _FaultError
            leaves += page
        forest = Forest(log.size, log.peaks)
        taken = 0
        for epoch in epochs or (newest,):
            said = epoch.keyset(keyset_id)
            if said is None:
                continue
            for item, value in leaves[taken : said.log(side).size - log.size]:
                forest.append(leaf(item, value))
            taken = max(taken, said.log(side).size - log.size)
            if forest.root != said.log(side).node:
                check.caught(f"epoch {epoch.number}: the leaves of the {side} log of {keyset_id} do not make its root")
                raise _FaultError
        check.report.leaves += len(leaves)
        self._look(check, keyset_id, side, log, leaves, goal)
        return LogView(forest.size, forest.peaks)

    def _look(
        self, check: _Check, keyset_id: str, side: Side, log: LogView, leaves: Sequence[tuple[bytes, int]], goal: Signed
    ) -> None:
        """Look for our receipts among new leaves, and for items that stand there twice."""
        places: dict[bytes, int] = {}
        for offset, (item, value) in enumerate(leaves):
            place, key = log.size + offset, (side, item)
            known = check.logged.get(key)
            if known is not None and (known.keyset, known.position) == (keyset_id, place):
                continue  # it was asked about before the log was read
            if item in places or known is not None:
                self._twice(check, side, goal, log, leaves, offset, places.get(item))
                continue
            places[item] = offset
            receipt = check.receipts.get(key)
            if receipt is None:
                continue
            if (receipt.keyset, receipt.amount) != (keyset_id, value):
                proof = _local_proof(log, leaves, offset)
                check.caught(
                    f"a coin of {receipt.amount} is in the {side} log of {keyset_id} as {value}",
                    *_coin_evidence(check, EvidenceKind.AMOUNT, receipt, goal, proof),
                )
            self._seen(check, receipt, place)

    def _twice(
        self,
        check: _Check,
        side: Side,
        goal: Signed,
        log: LogView,
        leaves: Sequence[tuple[bytes, int]],
        offset: int,
        first: int | None,
    ) -> None:
        offered: list[Evidence] = []
        if first is not None:
            proofs = (_local_proof(log, leaves, first), _local_proof(log, leaves, offset))
            offered.append(Evidence(EvidenceKind.TWICE, check.mint, check.view.pubkey, goal, side=side, proofs=proofs))
        check.caught(f"an item is twice in the {side} log of keyset {goal.keyset.keyset_id}", *offered)

    def _seen(self, check: _Check, receipt: LiabilityReceipt, place: int) -> None:
        """A receipt is honoured."""
        item = LoggedItem(receipt.side, receipt.item, receipt.y, receipt.keyset, place)
        check.found.append(item)
        check.logged[receipt.side, receipt.item] = item
        del check.receipts[receipt.side, receipt.item]

    async def _ask_about(self, check: _Check, keyset_id: str, side: Side, log: LogView, newest: Epoch) -> LogView:
        """Ask for proofs of our own items, and that a log known before was only appended to."""
        goal = Signed.of(newest, keyset_id)
        said = goal.keyset.log(side)
        mine = [one for one in check.receipts.values() if one.side is side and one.keyset == keyset_id]
        for start in range(0, len(mine), _ITEMS_A_QUESTION):
            part = {one.item: one for one in mine[start : start + _ITEMS_A_QUESTION]}
            content = wire.proof_request_to_json(side, list(part))
            proofs = await self._answer(
                check.mint,
                wire.inclusion_from_json,
                lambda content=content: self._ask(  # type: ignore[misc]
                    check.mint, "POST", keyset_id, "proofs", side, content=content, query={"epoch_index": newest.number}
                ),
            )
            for proof in proofs:
                self._judge(check, part.pop(proof.item, None), proof, goal)
        check.whole.add(f"{keyset_id}/{side}")
        if not log.size or check.view.epoch is None:
            return log
        query = {"from": check.view.epoch.number, "to": newest.number}
        consistency = await self._answer(
            check.mint,
            wire.consistency_from_json,
            lambda: self._ask(check.mint, "GET", keyset_id, "consistency", side, query=query),
        )
        known = Forest(log.size, log.peaks)
        try:
            verify_consistency(consistency, (log.size, known.root), (said.size, said.node))
        except CommitmentBrokenError as error:
            check.caught(f"the {side} log of keyset {keyset_id}: {error.detail}")
            raise _FaultError from error
        for place, node in zip(spans(log.size, said.size), consistency.appended, strict=True):
            known.append_subtree(node, place.height)
        return LogView(known.size, known.peaks)

    def _judge(self, check: _Check, receipt: LiabilityReceipt | None, proof: InclusionProof, goal: Signed) -> None:
        """One proof of an item that we asked about."""
        if receipt is None:
            return
        log = goal.keyset.log(receipt.side)
        try:
            verify_inclusion(proof, log.size, log.node)
        except CommitmentBrokenError as error:
            check.caught(f"a proof for a coin of ours does not hold: {error.detail}")
            return
        if proof.value != receipt.amount:
            check.caught(
                f"a coin of {receipt.amount} is in the {receipt.side} log of {receipt.keyset} as {proof.value}",
                *_coin_evidence(check, EvidenceKind.AMOUNT, receipt, goal, proof),
            )
        self._seen(check, receipt, proof.leaf_index)

    def _missing(self, check: _Check) -> None:
        """What the newest epoch would have to hold and does not."""
        newest = check.view.epoch
        for receipt in check.receipts.values():
            due = newest is not None and (receipt.at + GRACE_S + check.ahead_s < newest.at or check.overdue(receipt, newest))
            said = None if newest is None else newest.keyset(receipt.keyset)
            if newest is None or not due or (said is not None and f"{receipt.keyset}/{receipt.side}" not in check.whole):
                check.report.waiting += 1
                continue
            known = check.keysets.get(receipt.keyset)
            if said is None and known is not None and is_expired(known, newest.at):
                continue  # worthless, and the draft lets a mint forget it
            if said is None:
                check.caught(f"keyset {receipt.keyset}, of which we have coins, is in no epoch")
                continue
            goal = Signed.of(newest, receipt.keyset)
            check.caught(
                f"a coin of {receipt.amount} that was {receipt.side} before epoch {newest.number} is not in its log",
                *_coin_evidence(check, EvidenceKind.MISSING, receipt, goal, None),
            )

    # after

    async def _settle(self, check: _Check) -> None:
        ctx, report = self._ctx, check.report
        report.issued = sum(side is Side.ISSUED for side, _ in check.logged)
        report.spent = sum(side is Side.SPENT for side, _ in check.logged)
        now = ctx.clock.now()
        kept = [_kept(fault.evidence, now) for fault in report.faults if fault.evidence is not None]

        async def body(tx: Transaction) -> None:
            for one in kept:
                await ctx.store.add_evidence(tx, one)
            if not report.faults:
                await ctx.store.add_logged_items(tx, check.mint, check.found)
                await ctx.store.save_liability_view(tx, check.mint, msgspec.json.encode(check.view))

        await ctx.storage.transact(body)
        if report.faults:
            ctx.telemetry.page("wallet: a mint's liabilities do not hold", mint=check.mint, faults=len(report.faults))

    async def _ask(
        self, mint: str, verb: str, *path: str, content: bytes | None = None, query: dict[str, int] | None = None
    ) -> bytes:
        return await self._ctx.client(mint).ask(verb, "pol", *path, content=content, query=query)

    async def _answer(self, mint: str, read: Callable[..., T], asked: Callable[[], Awaitable[bytes]]) -> T:
        """An answer as a value; PeerFaultError for one that does not fit."""
        body = await asked()
        try:
            return read(body, limits=self._ctx.settings.limits)
        except RefusedError as error:
            raise PeerFaultError(f"the mint's answer does not fit: {error.detail}", peer=mint) from error


def _pairs(old: Epoch, new: Epoch) -> Iterable[tuple[Signed, Signed]]:
    """The manifests of keysets that both epochs have."""
    for keyset in old.keysets:
        if new.keyset(keyset.keyset_id) is not None:
            yield Signed.of(old, keyset.keyset_id), Signed.of(new, keyset.keyset_id)


def _broken(check: _Check, before: Epoch | None, epoch: Epoch) -> list[Evidence]:
    """All evidence that an epoch which does not hold could give."""
    if len(epoch.signatures) != len(epoch.keysets):
        return []
    offered = [
        Evidence(kind, check.mint, check.view.pubkey, Signed.of(epoch, keyset.keyset_id))
        for keyset in epoch.keysets
        for kind in (EvidenceKind.OVERDRAWN, EvidenceKind.OVERRUN)
    ]
    if before is not None:
        offered += [
            Evidence(EvidenceKind.REWRITTEN, check.mint, check.view.pubkey, one, other) for one, other in _pairs(before, epoch)
        ]
    return offered


def _coin_evidence(
    check: _Check, kind: EvidenceKind, receipt: LiabilityReceipt, goal: Signed, proof: InclusionProof | None
) -> list[Evidence]:
    """Evidence that a coin gives; none for a spent one, whose answer the mint has not signed."""
    known = check.keysets.get(receipt.keyset)
    signature = None if known is None else issued_signature(receipt.coin, known)
    if receipt.side is not Side.ISSUED or signature is None:
        return []
    return [
        Evidence(
            kind=kind,
            mint=check.mint,
            pubkey=check.view.pubkey,
            first=goal,
            side=receipt.side,
            proofs=() if proof is None else (proof,),
            item=receipt.item,
            signature=signature,
            keyset=known,
            issued_at=receipt.at,
        )
    ]


def _local_proof(log: LogView, leaves: Sequence[tuple[bytes, int]], offset: int) -> InclusionProof:
    """Inclusion of a new leaf, from the old peaks and the new leaves: every sibling is one, or was made of them."""
    made: dict[Span, SumNode] = dict(zip(spans(0, log.size), log.peaks, strict=True))
    forest = Forest(log.size, log.peaks, made=made.__setitem__)
    for place, (item, value) in enumerate(leaves):
        node = leaf(item, value)
        made[Span(log.size + place, 0)] = node
        forest.append(node)
    index = log.size + offset
    path = [Step(made[span].hash, made[span].sum, span.start < index) for span in path_spans(index, forest.size)]
    return InclusionProof(leaves[offset][0], leaves[offset][1], index, tuple(path), forest.peaks)


def _kept(evidence: Evidence, now: int) -> KeptEvidence:
    body = wire.evidence_to_json(evidence)
    return KeptEvidence(sha256(body).hexdigest()[:32], evidence.mint, evidence.kind.value, body, now)
