"""Locks put on coins that are sent, and opened on coins that arrive (NUT-10, 11, 14, 28).

Keys are our own `p2pk/{n}` behind the signer (`own_keys`). Whether a lock is open is judged by
`ecash.conditions.verify_spend` before anything is sent, the same judge as the mint's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import msgspec

from specie.ecash.codes import ConditionMalformedError, ConditionUnmetError
from specie.ecash.conditions import (
    Pathway,
    SigFlag,
    SignatureChecks,
    SpendingCondition,
    Witness,
    htlc_secret,
    is_preimage,
    lock_key_checked,
    p2pk_secret,
    parse_secret,
    parse_witness,
    sig_all_digest,
    sig_inputs_digest,
    signatures_by_key,
    verify_spend,
    witness_text,
)
from specie.ecash.conditions import open_pathways as pathways_of
from specie.ecash.p2bk import blind_keys, first_slots
from specie.ecash.proof import BlindedMessage, Proof
from specie.ecash.requests import LockOption, locked_secret
from specie.kernel import curve
from specie.kernel.encoding import hex_checked
from specie.kernel.errors import MalformedError
from specie.storage.ports import Transaction
from specie.wallet.engine.context import Context
from specie.wallet.engine.own_keys import PURPOSE, OwnKeys, own_keys
from specie.wallet.errors import TokenLockedError, UnsupportedError
from specie.wallet.lock import HTLC, P2PK

__all__ = [
    "LockedSecret",
    "check_lock_supported",
    "fresh_key",
    "is_locked",
    "lock_secrets",
    "swappable",
    "unlocked",
    "with_one_ephemeral",
    "witness_along",
]

T = TypeVar("T")

_NONCE_BYTES = 32


async def fresh_key(ctx: Context) -> str:
    """A public key (hex, 33 bytes) that nobody has seen, for others to lock coins to; its index is committed first."""
    index = await ctx.storage.transact(lambda tx: ctx.store.take_key_index(tx, PURPOSE))
    public = await ctx.signer.public_key(f"{PURPOSE}/{index}")

    async def body(tx: Transaction) -> None:
        await ctx.store.save_key(tx, PURPOSE, index, public)

    await ctx.storage.transact(body)
    return public.hex()


async def check_lock_supported(ctx: Context, mint: str, lock: P2PK | HTLC | LockOption) -> None:
    """UnsupportedError unless the mint says it enforces such locks; elsewhere anybody could spend the coin."""
    info = await ctx.info(mint)
    nut = 11 if isinstance(lock, P2PK) or (isinstance(lock, LockOption) and lock.kind == "P2PK") else 14
    if not (info.supports(10) and info.supports(nut)):
        raise UnsupportedError("the mint does not say that it enforces this lock, so anybody could spend the coins", nut=nut)


@dataclass(frozen=True, slots=True)
class LockedSecret:
    """The text of a locked secret, with the ephemeral key that goes with its coin if its keys are blinded (NUT-28)."""

    text: str = field(repr=False)
    p2pk_e: bytes | None = None


def lock_secrets(ctx: Context, lock: P2PK | HTLC | LockOption, count: int) -> list[LockedSecret]:
    """`count` locked secrets, each with a FRESH nonce, and blinded by FRESH keys (one for all under SIG_ALL) if asked for.

    ConditionMalformedError for what mints would refuse; MalformedError for blinding more keys than there are slots, or none.
    """

    def nonce() -> bytes:
        return ctx.entropy.bytes(_NONCE_BYTES)

    def ephemeral() -> bytes:
        return curve.scalar_from_bytes_wrapping(ctx.entropy.bytes(32))

    if isinstance(lock, LockOption) or not lock.blinded:
        return [LockedSecret(_secret(lock, nonce())) for _ in range(count)]
    _secret(lock, nonce())  # judged before its keys are hidden: one that stands twice no longer shows once it is blinded
    scalars = [ephemeral()] * count if lock.sig_all else [ephemeral() for _ in range(count)]
    return [LockedSecret(_secret(_blinded(lock, one), nonce()), curve.public_key(one)) for one in scalars]


def _blinded(lock: P2PK | HTLC, ephemeral: bytes) -> P2PK | HTLC:
    """The same lock with its keys blinded, each for its slot."""
    first = 1 if isinstance(lock, HTLC) else 0
    keys = [bytes.fromhex(lock_key_checked(key)) for key in (*lock.pubkeys, *lock.refund)]
    if not keys:
        raise MalformedError("there is no key in this lock that could be blinded")
    hidden = [key.hex() for key in blind_keys(keys, ephemeral, first)]
    split = len(lock.pubkeys)
    return replace(lock, pubkeys=tuple(hidden[:split]), refund=tuple(hidden[split:]))


def _secret(lock: P2PK | HTLC | LockOption, nonce: bytes) -> str:
    if isinstance(lock, LockOption):
        return locked_secret(lock, nonce=nonce)
    flag = SigFlag.SIG_ALL if lock.sig_all else SigFlag.SIG_INPUTS
    n_sigs = lock.n_sigs if lock.n_sigs != 1 else None
    n_refund = lock.n_sigs_refund if lock.n_sigs_refund != 1 else None
    if isinstance(lock, HTLC):
        return htlc_secret(
            lock.payment_hash,
            nonce=nonce,
            pubkeys=lock.pubkeys,
            n_sigs=n_sigs,
            locktime=lock.locktime,
            refund=lock.refund,
            n_sigs_refund=n_refund,
            sigflag=flag,
        )
    if not lock.pubkeys:
        raise MalformedError("a lock to keys names at least one key")
    return p2pk_secret(
        lock.pubkeys[0],
        nonce=nonce,
        pubkeys=lock.pubkeys[1:],
        n_sigs=n_sigs,
        locktime=lock.locktime,
        refund=lock.refund,
        n_sigs_refund=n_refund,
        sigflag=flag,
    )


def witness_along(proof: Proof) -> Witness:
    """What came along with a coin to open it; nothing where it makes no sense, for then it is not what opens it."""
    try:
        return parse_witness(proof.witness)
    except ConditionMalformedError:
        return Witness()


def is_locked(proof: Proof) -> bool:
    """Whether a coin carries a lock. ConditionMalformedError for a coin that nobody can spend."""
    return parse_secret(proof.secret) is not None


def swappable(items: Sequence[T], proof_of: Callable[[T], Proof], limit: int) -> list[list[T]]:
    """Coins by what one request can spend: each SIG_ALL lock by itself, all others at once, each up to `limit` (NUT-11).

    ConditionMalformedError for a coin that nobody can spend.
    """
    plain: list[T] = []
    together: dict[tuple[object, ...], list[T]] = {}
    for one in items:
        condition = parse_secret(proof_of(one).secret)
        if condition is not None and condition.sigflag is SigFlag.SIG_ALL:
            secret = condition.secret
            together.setdefault((secret.kind, secret.data, secret.tags), []).append(one)
        else:
            plain.append(one)
    return [group[at : at + limit] for group in (plain, *together.values()) for at in range(0, len(group), limit)]


def with_one_ephemeral(proofs: Sequence[Proof]) -> tuple[Proof, ...]:
    """The coins, those of one lock that are signed together (SIG_ALL) all with the first ephemeral key that one of them has.

    Their keys are blinded alike, so one that was left off, or is another, is no reason not to open any of them later, in
    whatever order and company. ConditionMalformedError for a coin that nobody can spend.
    """
    alike: dict[str, bytes] = {}
    for group in swappable(proofs, lambda proof: proof, len(proofs)):
        condition = parse_secret(group[0].secret)
        if condition is not None and condition.sigflag is SigFlag.SIG_ALL:
            ephemeral = next((proof.p2pk_e for proof in group if proof.p2pk_e is not None), None)
            alike |= {} if ephemeral is None else {proof.secret: ephemeral for proof in group}
    return tuple(msgspec.structs.replace(p, p2pk_e=alike.get(p.secret, p.p2pk_e)) for p in proofs)


async def unlocked(
    ctx: Context, proofs: Sequence[Proof], outputs: Sequence[BlindedMessage], preimage: str | None
) -> tuple[Proof, ...]:
    """The coins with the witnesses that open them for a swap to `outputs`; those that need none have none.

    TokenLockedError where our keys, the `preimage` (hex) and signatures that came along do not open them now, or where
    coins to be signed together (SIG_ALL) are mixed with others.
    """
    conditions = [parse_secret(proof.secret) for proof in proofs]
    bare = [msgspec.structs.replace(proof, witness=None) for proof in proofs]
    if all(condition is None for condition in conditions):
        return tuple(bare)
    together = any(condition is not None and condition.sigflag is SigFlag.SIG_ALL for condition in conditions)
    opener = _Opener(ctx, await own_keys(ctx), SignatureChecks(len(proofs)), preimage)
    opened: list[Proof] = []
    try:
        for position, (proof, condition) in enumerate(zip(proofs, conditions, strict=True)):
            if condition is None or (together and position):
                opened.append(bare[position])
            else:
                digest = sig_all_digest(proofs, outputs) if together else sig_inputs_digest(proof)
                opened.append(await opener.opened(proof, condition, digest))
        verify_spend(opened, outputs, None, ctx.clock.now())
    except ConditionUnmetError as error:
        raise TokenLockedError(f"the token is locked: {error.detail}") from error
    return tuple(opened)


@dataclass(frozen=True, slots=True)
class _Opener:
    """Opens the coins of one request."""

    ctx: Context
    ours: OwnKeys
    checks: SignatureChecks
    preimage: str | None = field(repr=False)

    async def opened(self, proof: Proof, condition: SpendingCondition, digest: bytes) -> Proof:
        """The coin with a witness for an open pathway: valid signatures that came along, and ours for those that miss.

        What else stands in its witness is left out. Keys that have opened a coin before are tried on all pathways first.
        """
        witness = witness_along(proof)
        known = self.preimage if self.preimage is not None else witness.preimage
        ways: list[tuple[Pathway, int, dict[bytes, bytes]]] = []
        for pathway, slot in zip(pathways_of(condition, self.ctx.clock.now()), first_slots(condition), strict=False):
            if not pathway.n_sigs and not pathway.needs_preimage:
                return msgspec.structs.replace(proof, witness=None)
            if not pathway.needs_preimage or is_preimage(known, condition.hash):
                ways.append((pathway, slot, signatures_by_key(pathway, witness, digest, self.checks)))
        for thorough in (False, True):
            for pathway, slot, present in ways:
                signed = await self._signed(proof, pathway, slot, present, digest, thorough=thorough)
                if signed is not None:
                    shown = hex_checked(known, 32) if known is not None and pathway.needs_preimage else None
                    return msgspec.structs.replace(proof, witness=witness_text(signed, shown))
        raise TokenLockedError("the token is locked to keys, a preimage or a time that this wallet does not have")

    async def _signed(
        self, proof: Proof, pathway: Pathway, slot: int, present: dict[bytes, bytes], digest: bytes, *, thorough: bool
    ) -> list[bytes] | None:
        """As many signatures as the pathway asks for, in the order of its keys; None where they cannot be had."""
        missing = pathway.n_sigs - len(present)
        ours = await self.ours.of(pathway, proof.p2pk_e, slot, without=present, thorough=thorough) if missing else {}
        if len(ours) < missing:
            return None
        made = {key: await self.ours.sign(own, digest) for key, own in list(ours.items())[:missing]}
        return [signature for key in pathway.keys if (signature := present.get(key) or made.get(key)) is not None]
