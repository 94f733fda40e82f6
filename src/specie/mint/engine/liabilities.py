"""Epochs of proved liabilities (draft 388): a saga of two transactions around one batch of signatures.

    decide    on one snapshot: what is not logged yet, the new roots; the sums must equal the ledger's books
    TX1       the epoch DECIDED, its leaves appended, its subtrees kept
    act       the mint's key signs one manifest a keyset
    TX2       the epoch SIGNED; from now on it is shown

What a crash leaves behind:

    before TX1         nothing; the next look decides anew
    TX1 .. act         DECIDED: whoever looks next, in any process, signs these very contents
    act .. TX2         the same; a signature nobody has seen is lost, and made again over the same text
    after TX2          the end

No two manifests of one epoch can be signed, for what is signed is durable first, and its number is a unique insert: of two
processes that close at once one decides, and either may sign. Nothing of this runs where coins are signed or spent: what
an epoch adds is found by what the logs lack, so a switch that is off costs nothing, and one that is on a scan an epoch.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from specie.ecash.liabilities import (
    NO_DIGEST,
    UNSCHEDULED,
    CommitmentBrokenError,
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
    verify_epoch,
    verify_successor,
)
from specie.kernel import InvariantError, MalformedError, RefusedError, UnavailableError
from specie.ledger import Books
from specie.mint.engine.context import Context
from specie.mint.ports import KeysetRecord, LiabilityStore, LoggedLeaf
from specie.storage import Transaction

__all__ = ["EPOCHS_A_PAGE", "ITEMS_A_QUESTION", "LEAVES_A_PAGE", "Liabilities"]

EPOCHS_A_PAGE = 50
LEAVES_A_PAGE = 2000
_KEYSETS_A_PAGE = 1000
"""Keysets of all epochs of a page together, some 700 bytes each; one epoch is shown whole whatever it has."""
ITEMS_A_QUESTION = 50
_KEPT_HEIGHT = 8
"""Subtrees of at least 2^8 leaves are kept; smaller ones are made from their leaves again."""
_BLOCK = 1 << _KEPT_HEIGHT
_Blocks = dict[int, list[LoggedLeaf]]
"""Leaves of one log by the place of the first, which is a multiple of `_BLOCK`."""
_LOOK_EVERY_S = 30.0
_TRIES = 10
"""Closes that find another process's epoch decided and not signed; it is signed and looked again."""


@dataclass(frozen=True, slots=True)
class _Growth:
    """What an epoch adds to one log."""

    root: Root
    leaves: tuple[LoggedLeaf, ...]
    nodes: tuple[tuple[Span, SumNode], ...]


@dataclass(frozen=True, slots=True)
class _Decided:
    """An epoch and what it adds, by log."""

    epoch: Epoch
    growth: dict[tuple[Side, str], _Growth]


class Liabilities:
    """A mint's epochs, logs and proofs. Any number of processes may run one on one store."""

    def __init__(self, context: Context, store: LiabilityStore, pubkey: bytes) -> None:
        """Take the mint's context and the key (33 bytes) that signs, `mint` at the signer."""
        self._context = context
        self._store = store
        self.pubkey = pubkey

    # closing

    async def follow(self) -> None:
        """Close epochs when they are due, until cancelled."""
        every_s = self._context.settings.liabilities_every_s
        while True:
            latest = await self.latest()
            if latest is None or not latest.signatures or self._context.clock.now() - latest.at >= every_s:
                await self.close_epoch()
            await self._context.clock.sleep(min(_LOOK_EVERY_S, every_s))

    async def latest(self) -> Epoch | None:
        """The newest epoch, signed or only decided; None before the first."""
        return await self._context.storage.read(self._store.latest_epoch)

    async def close_epoch(self) -> Epoch:
        """Close the epoch that runs: the new one, signed. One that a crash left DECIDED is signed first.

        InvariantError, and nothing written, where the logs would not add up to the ledger's books.
        """
        for _ in range(_TRIES):
            await self._finish()
            now = self._context.clock.now()
            decided = await self._context.storage.read(lambda tx, now=now: self._decide(tx, now))  # type: ignore[misc]
            if decided is None:
                continue
            if await self._context.storage.transact(lambda tx, what=decided: self._commit(tx, what)):  # type: ignore[misc]
                self._context.telemetry.count("liability_epochs")
                return await self._sign(decided.epoch)
            return await self._finish() or await self.epoch(decided.epoch.number)
        raise UnavailableError("other processes close epochs all the time", retry_after_s=1.0)

    async def _finish(self) -> Epoch | None:
        """Sign the epoch that is decided and not signed; None if there is none."""
        latest = await self.latest()
        return await self._sign(latest) if latest is not None and not latest.signatures else None

    async def _decide(self, tx: Transaction, now: int) -> _Decided | None:
        """What the next epoch says; None while the one before is not signed, for none may be passed over."""
        last = await self._store.latest_epoch(tx)
        if last is not None and not last.signatures:
            return None
        books = await self._context.ledger.books(tx)
        promised = await self._store.promised_keysets(tx)
        pruned = {side: await self._store.unlogged_dropped(tx, side) for side in Side}
        growth: dict[tuple[Side, str], _Growth] = {}
        keysets: list[KeysetCommitment] = []
        fresh: dict[tuple[Side, str], list[tuple[bytes, int]]] = {}
        for side in Side:
            for keyset_id, item, amount in await self._store.unlogged(tx, side):
                fresh.setdefault((side, keyset_id), []).append((item, amount))
        for record in sorted(await self._context.store.keysets(tx), key=lambda one: one.id):
            before = None if last is None else last.keyset(record.id)
            for side in Side:
                root = Root() if before is None else before.log(side)
                growth[side, record.id] = await self._grown(tx, side, record.id, root, fresh.pop((side, record.id), []))
            keysets.append(_commitment(record, before, growth, promised))
            _check_books(keysets[-1], books, pruned)
        if fresh:
            raise InvariantError("coins of a keyset that does not exist")
        number, digest, at = (1, NO_DIGEST, now) if last is None else (last.number + 1, last.digest, max(now, last.at))
        epoch = Epoch(number, at, digest, tuple(keysets))
        if last is not None:
            try:
                verify_successor(last, epoch)
            except CommitmentBrokenError as error:
                raise InvariantError(f"the next epoch would break a rule: {error.detail}") from error
        return _Decided(epoch, growth)

    async def _grown(
        self, tx: Transaction, side: Side, keyset_id: str, root: Root, fresh: Sequence[tuple[bytes, int]]
    ) -> _Growth:
        """A log with its new leaves behind the old ones."""
        if not fresh:
            return _Growth(root, (), ())
        kept: list[tuple[Span, SumNode]] = []

        def made(span: Span, node: SumNode) -> None:
            if span.height >= _KEPT_HEIGHT:
                kept.append((span, node))

        peaks = [await self._subtree(tx, side, keyset_id, span) for span in spans(0, root.size)]
        forest = Forest(root.size, peaks, made=made)
        if forest.root != root.node:
            raise InvariantError(f"the {side} log of keyset {keyset_id} is not the one that was signed")
        leaves = [LoggedLeaf(keyset_id, item, amount, root.size + place) for place, (item, amount) in enumerate(fresh)]
        for one in leaves:
            forest.append(leaf(one.item, one.amount))
        grown = forest.root
        return _Growth(Root(forest.size, grown.hash, grown.sum), tuple(leaves), tuple(kept))

    async def _commit(self, tx: Transaction, decided: _Decided) -> bool:
        """TX1; False if another process decided this number first."""
        if not await self._store.add_epoch(tx, decided.epoch):
            return False
        for (side, keyset_id), growth in decided.growth.items():
            if not await self._store.add_leaves(tx, side, growth.leaves):
                raise InvariantError("a leaf is in a log already")
            await self._store.add_nodes(tx, side, keyset_id, growth.nodes)
        return True

    async def _sign(self, epoch: Epoch) -> Epoch:
        """Act and TX2. If another process was quicker, its signatures stand."""
        digests = [manifest_digest(epoch, keyset) for keyset in epoch.keysets]
        signatures = await self._context.signer.sign_schnorr("mint", digests)
        signed = msgspec.structs.replace(epoch, signatures=tuple(signatures))
        if await self._context.storage.transact(lambda tx: self._store.sign_epoch(tx, signed)):
            return signed
        stored = await self.epoch(epoch.number)
        if not stored.signatures:
            raise InvariantError(f"epoch {epoch.number} has lost its keysets")
        return stored

    # reading

    async def epochs(self, first: int, limit: int = EPOCHS_A_PAGE) -> list[Epoch]:
        """Signed epochs from number `first` on, at most a page."""
        count = max(0, min(limit, EPOCHS_A_PAGE))
        found = await self._context.storage.read(lambda tx: self._store.epochs(tx, max(first, 1), count))
        keysets = list(itertools.accumulate(len(epoch.keysets) for epoch in found))
        return [epoch for place, epoch in enumerate(found) if not place or keysets[place] <= _KEYSETS_A_PAGE]

    async def epoch(self, number: int | None = None) -> Epoch:
        """A signed epoch, the newest if no number is given; RefusedError if there is none."""

        async def body(tx: Transaction) -> list[Epoch]:
            wanted = number
            if wanted is None:
                last = await self._store.latest_epoch(tx)
                wanted = 0 if last is None else last.number if last.signatures else last.number - 1
            return await self._store.epochs(tx, wanted, 1)

        found = await self._context.storage.read(body)
        if not found or (number is not None and found[0].number != number):
            raise RefusedError("there is no such epoch")
        return found[0]

    async def manifest(self, keyset_id: str, number: int | None = None) -> tuple[Epoch, KeysetCommitment]:
        """What an epoch says of a keyset; RefusedError if there is no such epoch, or no such keyset in it."""
        epoch = await self.epoch(number)
        keyset = epoch.keyset(keyset_id)
        if keyset is None:
            raise RefusedError("the epoch has no such keyset")
        return epoch, keyset

    async def leaves(self, keyset_id: str, side: Side, first: int, number: int | None = None) -> list[tuple[bytes, int]]:
        """Leaves of a log as of an epoch from place `first` on, at most a page; none behind its end."""
        _, keyset = await self.manifest(keyset_id, number)
        count = min(LEAVES_A_PAGE, keyset.log(side).size - first)
        if first < 0 or count <= 0:
            return []
        found = await self._context.storage.read(lambda tx: self._store.leaves(tx, side, keyset_id, first, count))
        return [(one.item, one.amount) for one in found]

    async def prove_inclusion(
        self, keyset_id: str, side: Side, items: Sequence[bytes], number: int | None = None
    ) -> list[InclusionProof]:
        """Proofs for those of the items that a log holds as of an epoch, in the order asked."""
        if len(items) > ITEMS_A_QUESTION:
            raise MalformedError(f"ask about at most {ITEMS_A_QUESTION} items")
        _, keyset = await self.manifest(keyset_id, number)
        log = keyset.log(side)

        async def body(tx: Transaction) -> list[InclusionProof]:
            found = await self._store.find_leaves(tx, side, items)
            wanted = [found[item] for item in dict.fromkeys(items) if item in found]
            logged = [one for one in wanted if one.keyset == keyset_id and one.position < log.size]
            if not logged:
                return []
            blocks: _Blocks = {}
            peaks = tuple([await self._subtree(tx, side, keyset_id, span, blocks) for span in spans(0, log.size)])
            return [await self._proof(tx, side, one, log.size, peaks, blocks) for one in logged]

        return await self._context.storage.read(body)

    async def _proof(
        self, tx: Transaction, side: Side, one: LoggedLeaf, size: int, peaks: tuple[SumNode, ...], blocks: _Blocks
    ) -> InclusionProof:
        path: list[Step] = []
        for span in path_spans(one.position, size):
            node = await self._subtree(tx, side, one.keyset, span, blocks)
            path.append(Step(node.hash, node.sum, span.start < one.position))
        return InclusionProof(one.item, one.amount, one.position, tuple(path), peaks)

    async def find(self, item: bytes) -> tuple[Side, str] | None:
        """Side and keyset of the log that holds B_ or Y; None if none does."""

        async def body(tx: Transaction) -> tuple[Side, str] | None:
            for side in Side:
                found = await self._store.find_leaves(tx, side, [item])
                if item in found:
                    return side, found[item].keyset
            return None

        return await self._context.storage.read(body)

    async def prove_consistency(self, keyset_id: str, side: Side, old: int, new: int) -> ConsistencyProof:
        """That a log of epoch `new` begins as in epoch `old`; RefusedError unless it grew in between."""
        sizes = [(await self.manifest(keyset_id, number))[1].log(side).size for number in (old, new)]
        if sizes[0] >= sizes[1]:
            raise RefusedError("the log did not grow between these epochs")

        async def body(tx: Transaction) -> ConsistencyProof:
            blocks: _Blocks = {}
            old_peaks = [await self._subtree(tx, side, keyset_id, span, blocks) for span in spans(0, sizes[0])]
            appended = [await self._subtree(tx, side, keyset_id, span, blocks) for span in spans(sizes[0], sizes[1])]
            return ConsistencyProof(sizes[0], sizes[1], tuple(old_peaks), tuple(appended))

        return await self._context.storage.read(body)

    async def _subtree(self, tx: Transaction, side: Side, keyset_id: str, span: Span, blocks: _Blocks | None = None) -> SumNode:
        """A complete subtree, kept or made from its leaves; `blocks` keeps leaves that were read, within one question."""
        if span.height >= _KEPT_HEIGHT:
            node = await self._store.node(tx, side, keyset_id, span)
            if node is None:
                raise InvariantError("a subtree of a log is lost")
            return node
        blocks = {} if blocks is None else blocks
        start = span.start & -_BLOCK
        if start not in blocks:
            blocks[start] = await self._store.leaves(tx, side, keyset_id, start, _BLOCK)
        leaves = [one for one in blocks[start] if span.start <= one.position < span.end]
        if [one.position for one in leaves] != list(range(span.start, span.end)):
            raise InvariantError("a leaf of a log is lost")
        forest = Forest()
        for one in leaves:
            forest.append(leaf(one.item, one.amount))
        return forest.root

    # checking

    async def audit(self) -> int:
        """Check every epoch and every leaf: signatures, chain, roots, coins and books; how many epochs there are.

        Reads all history. InvariantError where anything differs.
        """
        await self._finish()
        before: Epoch | None = None
        logs: dict[tuple[Side, str], Forest] = {}
        while True:
            page = await self.epochs(1 if before is None else before.number + 1)
            if not page:
                break
            for epoch in page:
                try:
                    verify_epoch(epoch, self.pubkey)
                    if before is not None:
                        verify_successor(before, epoch)
                except CommitmentBrokenError as error:
                    raise InvariantError(error.detail) from error
                if before is None and (epoch.number, epoch.previous_digest) != (1, NO_DIGEST):
                    raise InvariantError("the first epoch is lost")
                await self._audit_logs(epoch, logs)
                before = epoch
        await self._audit_coins()
        return 0 if before is None else before.number

    async def _audit_logs(self, epoch: Epoch, logs: dict[tuple[Side, str], Forest]) -> None:
        for keyset in epoch.keysets:
            for side in Side:
                forest = logs.setdefault((side, keyset.keyset_id), Forest())
                while forest.size < keyset.log(side).size:
                    page = await self.leaves(keyset.keyset_id, side, forest.size, epoch.number)
                    if not page:
                        raise InvariantError("a leaf of a log is lost")
                    for item, amount in page:
                        forest.append(leaf(item, amount))
                if forest.root != keyset.log(side).node:
                    raise InvariantError(f"epoch {epoch.number}: the {side} log of {keyset.keyset_id} is another one")

    async def _audit_coins(self) -> None:
        """Logs against the coins' tables, and with what is not logged yet against the books, all on one snapshot."""

        async def body(tx: Transaction) -> int:
            await self._decide(tx, self._context.clock.now())  # for the sums it checks; not while an epoch waits to be signed
            return sum([await self._store.unbacked(tx, side) for side in Side])

        unbacked = await self._context.storage.read(body)
        if unbacked:
            raise InvariantError(f"{unbacked} leaves of the logs are borne out by no coin")


def _commitment(
    record: KeysetRecord,
    before: KeysetCommitment | None,
    growth: dict[tuple[Side, str], _Growth],
    promised: set[str],
) -> KeysetCommitment:
    """What an epoch says of a keyset. It is called closed only when nothing can be issued under it any more.

    Change of a payment begun before a rotation is signed after it, and a process may learn of a rotation late: until an
    epoch went by without either, the keyset counts as active.
    """
    issued, spent = growth[Side.ISSUED, record.id], growth[Side.SPENT, record.id]
    closed = not record.active and record.id not in promised and not issued.leaves and before is not None
    return KeysetCommitment(
        keyset_id=record.id,
        unit=record.unit,
        issued=issued.root,
        spent=spent.root,
        active=not closed,
        deactivation_epoch=UNSCHEDULED if before is None else before.deactivation_epoch,
    )


def _check_books(keyset: KeysetCommitment, books: Books, pruned: dict[Side, dict[str, int]]) -> None:
    """What is proved, with what was pruned before any log held it, must be what is booked."""
    booked = {
        Side.ISSUED: books.issued(keyset.keyset_id, keyset.unit),
        Side.SPENT: books.redeemed(keyset.keyset_id, keyset.unit),
    }
    for side in Side:
        if keyset.log(side).sum + pruned[side].get(keyset.keyset_id, 0) != booked[side]:
            raise InvariantError(f"the logs of keyset {keyset.keyset_id} would not add up to its books")
