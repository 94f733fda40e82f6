"""Lies of a mint by the question they answer, and a liar who tells them. Lies about methods beside BOLT 11: `method_lies`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from specie.ecash import BlindSignature, Dleq, MeltQuote, MintInfo, MintQuote, ProofState, State
from specie.ecash.codes import OutputsSignedError, ProofsSpentError
from specie.ecash.quote import MeltState
from specie.kernel import MAX_AMOUNT, RefusedError, SpecieError, UnavailableError, UncertainError
from tests.support.coins import public_key, secret_key

__all__ = ["LIES", "UNSEEN", "Liar", "Lie", "raising"]

Lie = Callable[[Any], Any]


def _first(change: Callable[[BlindSignature], BlindSignature]) -> Lie:
    return lambda answer: [change(answer[0]), *answer[1:]] if answer else answer


def _last(change: Callable[[BlindSignature], BlindSignature]) -> Lie:
    return lambda answer: [*answer[:-1], change(answer[-1])] if answer else answer


SIGNATURES: dict[str, Lie] = {
    "a lower amount": _last(lambda s: replace(s, amount=max(s.amount // 2, 1))),
    "a higher amount": _first(lambda s: replace(s, amount=min(s.amount * 2, MAX_AMOUNT))),
    "another keyset": _first(lambda s: replace(s, id="00" + "ab" * 7)),
    "no dleq": _first(lambda s: replace(s, dleq=None)),
    "a made-up dleq": _first(lambda s: replace(s, dleq=Dleq(secret_key("e"), secret_key("s")))),
    "another point": _first(lambda s: replace(s, C_=public_key("forged"), dleq=None)),
    "one twice": lambda answer: [answer[0], *answer[:-1]],
    "reordered": lambda answer: list(reversed(answer)),
    "one less": lambda answer: answer[1:],
    "one more": lambda answer: [*answer, *answer[:1]],
    "none": lambda answer: [],
}


def _each(change: Callable[[Any], Any]) -> Lie:
    return lambda answer: [change(one) for one in answer]


def _states(change: Callable[[ProofState], ProofState]) -> Lie:
    return lambda answer: [change(one) for one in answer]


LIES: dict[str, dict[str, Lie]] = {
    "issue": SIGNATURES,
    "issue_batch": SIGNATURES,
    "swap": SIGNATURES,
    "info": {
        "nothing at all": lambda answer: MintInfo(),
        "no array is short enough": lambda answer: replace(answer, max_array_length=1),
        "minting is off": lambda answer: replace(answer, nuts={**answer.nuts, "4": {"methods": [], "disabled": True}}),
        "settings of other shapes": lambda answer: replace(answer, nuts=dict.fromkeys(answer.nuts, "yes")),
    },
    "keysets": {
        "none": lambda answer: [],
        "all inactive": lambda answer: [replace(one, active=False) for one in answer],
        "a high fee": lambda answer: [replace(one, input_fee_ppk=2**31 - 1) for one in answer],
        "another unit": lambda answer: [replace(one, unit="usd") for one in answer],
        "expired": lambda answer: [replace(one, final_expiry=1) for one in answer],
        "another id": lambda answer: [replace(one, id="01" + "cd" * 32) for one in answer],
        "each twice": lambda answer: [*answer, *answer],
    },
    "keys": {
        "other keys": lambda answer: replace(answer, keys={a: public_key(f"evil {a}") for a in answer.keys}),
        "fewer keys": lambda answer: replace(answer, keys=dict(list(answer.keys.items())[:3])),
        "no keys": lambda answer: replace(answer, keys={}),
        "another id": lambda answer: replace(answer, id="01" + "cd" * 32),
    },
    "request_mint_quote": {
        "another amount": lambda answer: replace(answer, amount=answer.amount + 1),
        "another unit": lambda answer: replace(answer, unit="usd"),
        "another key": lambda answer: replace(answer, pubkey=public_key("evil").hex()),
        "paid already": lambda answer: replace(answer, amount_paid=answer.amount or 0),
        "one id for all": lambda answer: replace(answer, quote="q"),
        "another invoice": lambda answer: replace(answer, request="lnbcrt1"),
    },
    "mint_quote": {
        "paid": lambda answer: replace(answer, amount_paid=answer.amount or 0),
        "paid more than there is": lambda answer: replace(answer, amount_paid=MAX_AMOUNT),
        "issued": lambda answer: replace(answer, amount_paid=answer.amount or 0, amount_issued=answer.amount or 0),
        "unpaid": lambda answer: replace(answer, amount_paid=0, amount_issued=0),
        "old": lambda answer: replace(answer, updated_at=0),
        "of another": lambda answer: replace(answer, quote="another"),
    },
    "mint_quotes": {
        "all paid": _each(lambda one: replace(one, amount_paid=one.amount or 0)),
        "paid more than there is": _each(lambda one: replace(one, amount_paid=MAX_AMOUNT)),
        "all issued": _each(lambda one: replace(one, amount_paid=one.amount or 0, amount_issued=one.amount or 0)),
        "none paid": _each(lambda one: replace(one, amount_paid=0, amount_issued=0)),
        "reordered": lambda answer: list(reversed(answer)),
        "one less": lambda answer: answer[1:],
        "each twice": lambda answer: [*answer, *answer],
        "of others": _each(lambda one: replace(one, quote="another")),
    },
    "request_melt_quote": {
        "one id for all": lambda answer: replace(answer, quote="q"),
        "a huge amount": lambda answer: replace(answer, amount=MAX_AMOUNT),
        "a huge reserve": lambda answer: replace(answer, fee_reserve=MAX_AMOUNT),
        "a lower amount": lambda answer: replace(answer, amount=1),
        "another unit": lambda answer: replace(answer, unit="usd"),
        "paid already": lambda answer: replace(answer, state=MeltState.PAID),
        "expired": lambda answer: replace(answer, expiry=1),
    },
    "melt": {
        "paid": lambda answer: replace(answer, state=MeltState.PAID, payment_preimage="00" * 32),
        "paid without change": lambda answer: replace(answer, state=MeltState.PAID, change=None),
        "unpaid": lambda answer: replace(answer, state=MeltState.UNPAID, change=None),
        "pending": lambda answer: replace(answer, state=MeltState.PENDING, change=None),
        "change reordered": lambda answer: replace(answer, change=tuple(reversed(answer.change or ())) or None),
        "of another": lambda answer: replace(answer, quote="another"),
    },
    "melt_quote": {
        "paid": lambda answer: replace(answer, state=MeltState.PAID),
        "unpaid": lambda answer: replace(answer, state=MeltState.UNPAID, change=None),
        "pending": lambda answer: replace(answer, state=MeltState.PENDING, change=None),
    },
    "check_state": {
        "spent": _states(lambda one: replace(one, state=State.SPENT)),
        "unspent": _states(lambda one: replace(one, state=State.UNSPENT)),
        "pending": _states(lambda one: replace(one, state=State.PENDING)),
        "reordered": lambda answer: list(reversed(answer)),
        "of others": _states(lambda one: replace(one, Y=public_key("other"))),
        "one less": lambda answer: answer[1:],
        "each twice": lambda answer: [*answer, *answer],
    },
    "restore": {
        "none": lambda answer: [],
        "each twice": lambda answer: [*answer, *answer],
        "signatures mixed up": lambda answer: [(o, s) for (o, _), (_, s) in zip(answer, reversed(answer), strict=True)],
        "other amounts": lambda answer: [(o, replace(s, amount=max(s.amount // 2, 1))) for o, s in answer],
        "outputs of others": lambda answer: [(replace(o, B_=public_key("other")), s) for o, s in answer],
    },
}


def raising(error: SpecieError) -> Lie:
    def lie(answer: object) -> object:
        raise error

    return lie


for _verb in ("issue", "issue_batch", "swap", "melt"):
    LIES[_verb] = LIES[_verb] | {
        "refused, though it was done": raising(RefusedError("no", code=0)),
        "spent before, though it was done": raising(ProofsSpentError()),
        "outputs signed before, though it was done now": raising(OutputsSignedError()),
        "no answer": raising(UncertainError("lost")),
    }
for _verb in ("mint_quote", "mint_quotes", "melt_quote", "check_state", "restore", "keysets", "info"):
    LIES[_verb] = LIES[_verb] | {
        "away": raising(UnavailableError("away")),
        "refused": raising(RefusedError("no", code=0)),
    }

UNSEEN: set[str] = set()
"""Names of lies that a reader should not see at all. The others count as told where they change an answer."""


class Liar:
    """Exchanges answers while it is `on`: of the lies of the plan that are about the question asked, the first one left.

    Each is told `times` times in a row, so that what tries again is lied to again. A question is a verb, or a verb and the
    method that the answer is about.
    """

    def __init__(self, plan: Sequence[tuple[str, str]], times: int, lies: dict[str, dict[str, Lie]]) -> None:
        self.plan = [one for one in plan for _ in range(times)]
        self.lies = lies
        self.told: list[tuple[str, str]] = []
        self.on = True

    def __call__(self, verb: str, answer: object) -> object:
        about = (verb, f"{verb} {_method_of(answer)}")
        found = next((one for one in self.plan if one[0] in about), None) if self.on else None
        if found is None:
            return answer
        try:
            lie = self.lies[found[0]][found[1]](answer)
        except (IndexError, TypeError):  # nothing in this answer to lie about
            return answer
        except SpecieError:
            self._tell(found)
            raise
        if lie != answer or found[1] in UNSEEN:
            self._tell(found)
        return lie

    def _tell(self, lie: tuple[str, str]) -> None:
        self.plan.remove(lie)
        self.told.append(lie)


def _method_of(answer: object) -> str | None:
    first = answer[0] if isinstance(answer, list) and answer else answer
    return first.method if isinstance(first, MintQuote | MeltQuote) else None
