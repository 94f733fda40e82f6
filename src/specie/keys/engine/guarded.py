"""`GuardedSigner`: a signer behind a policy. What a rule forbids is refused with its name and the reason, and told.

Amounts are reserved on disk before anything is signed, a share of the limit at a time: a signer that is killed and started
again counts what it had reserved as used, so that restarting it makes no room. A question is counted when it is asked,
whether or not an answer comes of it. What a refusal was about is told to the log (`policy_refused`), never what was to be
signed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, Protocol

from specie.kernel.clock import Clock
from specie.kernel.telemetry import NULL_TELEMETRY, Telemetry
from specie.keys.errors import PolicyRefusedError
from specie.keys.policy import MINUTES, Rule, Usage, Verb, why_not
from specie.keys.ports import (
    BlindedKey,
    BlindSigned,
    Capabilities,
    DerivedSecret,
    KeyRef,
    KeysetRef,
    ProofToVerify,
    Signer,
    ToBlindSign,
)

__all__ = ["GuardedSigner", "Reservations"]

_SHARES: Final = 64
"""A reservation is this part of a rule's limit, or what is asked for if that is more."""
_SECRETS, _WRAPPING, _IDENTITY = "secrets", "wrapping", "signer"

Amounts = dict[str, dict[int, int]]
"""By rule: amounts reserved, by unix minute."""


class Reservations(Protocol):
    """Where reserved amounts are kept."""

    def load(self) -> Amounts:
        """What was reserved before. RefusedError for a file that is damaged."""
        ...

    def save(self, amounts: Amounts) -> None:
        """Keep it, durably, in place of what was there. UnavailableError if that fails."""
        ...


class GuardedSigner:
    """A `keys.ports.Signer` over another one, which is closed with it.

    PolicyRefusedError for what a rule forbids; nothing was asked of the inner signer then.
    """

    def __init__(
        self,
        inner: Signer,
        rules: Sequence[Rule],
        reservations: Reservations,
        *,
        clock: Clock,
        telemetry: Telemetry = NULL_TELEMETRY,
    ) -> None:
        self._inner = inner
        self._rules = tuple(rules)
        self._reservations = reservations
        self._clock = clock
        self._telemetry = telemetry
        self._reserved = {name: dict(amounts) for name, amounts in reservations.load().items()}
        self._usage = {rule.name: Usage(amounts=dict(self._reserved.get(rule.name, {}))) for rule in rules}
        self._limits = {rule.name: rule.amount_an_hour for rule in rules if rule.amount_an_hour is not None}
        self._unused = dict.fromkeys(self._limits, 0)
        """Reserved in this minute and not used yet, by rule."""
        self._minute = -1
        self._for: dict[str, tuple[Rule, ...]] = {}
        self._units = {_unit_index(unit): unit for rule in self._rules for unit in rule.units()}
        """Units that rules name, by the number that their keys are derived by: no other text may stand for one of them."""

    def capabilities(self) -> Capabilities:
        """Those of the inner signer: what a policy forbids now it may allow later."""
        return self._inner.capabilities()

    async def keyset_public_keys(self, keyset: KeysetRef, amounts: Sequence[int]) -> dict[int, bytes]:
        """As the port says, if the policy allows."""
        self._check({Verb.PUBLIC: {_keyset(keyset)}})
        return await self._inner.keyset_public_keys(keyset, amounts)

    async def public_key(self, ref: KeyRef) -> bytes:
        """As the port says, if the policy allows; `signer`, by which a signer proves itself, always."""
        if ref == _IDENTITY:
            return await self._inner.public_key(ref)
        self._check({Verb.PUBLIC: {_ref(ref)}})
        return await self._inner.public_key(ref)

    async def verify_proofs(self, proofs: Sequence[ProofToVerify]) -> list[bytes | None]:
        """As the port says, if the policy allows."""
        self._check({Verb.JUDGE: {_keyset(proof.keyset) for proof in proofs}})
        return await self._inner.verify_proofs(proofs)

    async def blind_sign(self, messages: Sequence[ToBlindSign]) -> list[BlindSigned]:
        """As the port says, if the policy allows; the whole sum counts."""
        self._check({Verb.ISSUE: {_keyset(message.keyset) for message in messages}}, (), messages)
        return await self._inner.blind_sign(messages)

    async def exchange(
        self, proofs: Sequence[ProofToVerify], messages: Sequence[ToBlindSign]
    ) -> tuple[list[bytes | None], list[BlindSigned]]:
        """As the port says, if the policy allows; what goes out beyond what comes in counts, by rule and unit."""
        keys = {
            Verb.JUDGE: {_keyset(proof.keyset) for proof in proofs},
            Verb.ISSUE: {_keyset(message.keyset) for message in messages},
        }
        self._check(keys, proofs, messages)
        return await self._inner.exchange(proofs, messages)

    async def sign_schnorr(self, ref: KeyRef, digests: Sequence[bytes]) -> list[bytes]:
        """As the port says, if the policy allows."""
        self._check({Verb.SIGN: {_ref(ref)}})
        return await self._inner.sign_schnorr(ref, digests)

    async def own_blinded(self, keys: Sequence[BlindedKey]) -> list[bool]:
        """As the port says, if the policy allows."""
        self._check({Verb.PUBLIC: {_ref(key.ref) for key in keys}})
        return await self._inner.own_blinded(keys)

    async def sign_blinded(self, key: BlindedKey, digests: Sequence[bytes]) -> list[bytes]:
        """As the port says, if the policy allows."""
        self._check({Verb.SIGN: {_ref(key.ref)}})
        return await self._inner.sign_blinded(key, digests)

    async def sign_recoverable(self, ref: KeyRef, digests: Sequence[bytes]) -> list[tuple[bytes, int]]:
        """As the port says, if the policy allows; `signer` always."""
        if ref == _IDENTITY:
            return await self._inner.sign_recoverable(ref, digests)
        self._check({Verb.SIGN: {_ref(ref)}})
        return await self._inner.sign_recoverable(ref, digests)

    async def derive_secrets(self, keyset_id: str, counters: Sequence[int]) -> list[DerivedSecret]:
        """As the port says, if the policy allows."""
        self._check({Verb.DERIVE: {_SECRETS}})
        return await self._inner.derive_secrets(keyset_id, counters)

    async def wrap(self, plaintext: bytes, *, context: bytes) -> bytes:
        """As the port says, if the policy allows."""
        self._check({Verb.SEAL: {_WRAPPING}})
        return await self._inner.wrap(plaintext, context=context)

    async def unwrap(self, sealed: bytes, *, context: bytes) -> bytes:
        """As the port says, if the policy allows."""
        self._check({Verb.OPEN: {_WRAPPING}})
        return await self._inner.unwrap(sealed, context=context)

    async def close(self) -> None:
        """Close the inner signer."""
        await self._inner.close()

    # The policy

    def _check(
        self, uses: dict[Verb, set[str]], proofs: Sequence[ProofToVerify] = (), messages: Sequence[ToBlindSign] = ()
    ) -> None:
        """Count a question, or refuse it: all rules are asked before one is counted."""
        now = self._clock.now()
        amounts: dict[str, int] = {}
        for verb, keys in uses.items():
            self._no_alias(keys)
            named = {rule.name: rule for key in keys for rule in self._named(key)}
            for rule in named.values():
                amount = 0
                if verb is Verb.ISSUE and rule.amount_an_hour is not None:
                    amount = _excess(rule, proofs, messages)
                self._allow(rule, verb, amount, now, keys)
                amounts[rule.name] = amounts.get(rule.name, 0) + amount
        if amounts:
            self._reserve(amounts, now // 60)
            for name, amount in amounts.items():
                self._usage[name].used(now // 60, amount)

    def _no_alias(self, keys: set[str]) -> None:
        """Refuse a unit whose text is not that of a unit in the rules while its keys are: rules go by names."""
        for key in keys:
            if key.startswith("mint/") and self._units:
                unit = key[5:].rpartition("/")[0]
                if self._units.get(_unit_index(unit), unit) != unit:
                    raise PolicyRefusedError("this unit stands for the keys of another one", rule="", retry_after_s=None)

    def _allow(self, rule: Rule, verb: Verb, amount: int, now: int, keys: set[str]) -> None:
        reason = why_not(rule, self._usage[rule.name], verb, amount, now)
        if reason is not None:
            self._telemetry.count("policy_refused", rule=rule.name, verb=verb.value)
            told = [key[:80] for key in sorted(keys)[:5]]
            self._telemetry.event("policy_refused", rule=rule.name, verb=verb.value, keys=told, reason=reason[0])
            raise PolicyRefusedError(f"rule {rule.name}: {reason[0]}", rule=rule.name, retry_after_s=reason[1])

    def _named(self, key: str) -> tuple[Rule, ...]:
        found = self._for.get(key)
        if found is None:
            found = tuple(rule for rule in self._rules if rule.names(key))
            if len(self._for) < 4096:
                self._for[key] = found
        return found

    def _reserve(self, amounts: dict[str, int], minute: int) -> None:
        """Make durable that these amounts are used, some ahead; before they are."""
        if minute != self._minute:
            self._minute = minute
            self._unused = dict.fromkeys(self._limits, 0)
        limited = {name: amount for name, amount in amounts.items() if amount and name in self._limits}
        wanted = {
            name: max(amount - self._unused[name], self._limits[name] // _SHARES)
            for name, amount in limited.items()
            if amount > self._unused[name]
        }
        if wanted:
            reserved = {
                name: {at: amount for at, amount in before.items() if at > minute - MINUTES}
                for name, before in self._reserved.items()
            }
            for name, amount in wanted.items():
                mine = reserved.setdefault(name, {})
                mine[minute] = mine.get(minute, 0) + amount
            self._reservations.save(reserved)
            self._reserved = reserved
        for name, amount in limited.items():
            self._unused[name] += wanted.get(name, 0) - amount


def _keyset(keyset: KeysetRef) -> str:
    return f"mint/{keyset.unit}/{keyset.index}"


def _ref(ref: KeyRef) -> str:
    """A mint key's ref counts for its keyset."""
    return ref.rpartition("/")[0] if ref.startswith("mint/") and ref.count("/") == 3 else ref


def _excess(rule: Rule, proofs: Sequence[ProofToVerify], messages: Sequence[ToBlindSign]) -> int:
    """What goes out in the rule's keysets beyond what comes in by them, in the same unit."""
    sums: dict[str, int] = {}
    for message in messages:
        if rule.names(_keyset(message.keyset)):
            sums[message.keyset.unit] = sums.get(message.keyset.unit, 0) + message.amount
    for proof in proofs:
        if proof.keyset.unit in sums and rule.names(_keyset(proof.keyset)):
            sums[proof.keyset.unit] -= proof.amount
    return sum(max(0, amount) for amount in sums.values())


def _unit_index(unit: str) -> int:
    """The number by which keys of a unit are derived (see `adapters.software`)."""
    return int.from_bytes(hashlib.sha256(unit.encode("utf-8", "surrogatepass")).digest()[:4]) & 0x7FFFFFFF
