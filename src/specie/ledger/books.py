"""Double entry as values: accounts, postings and the trial balance. Debits are positive, credits negative.

Accounts are text with a kind in front: `asset:rail/play` (what a rail owes us), `liability:keyset/<id>/issued` and
`liability:keyset/<id>/redeemed` (ecash; their sum is in circulation), `liability:deposit/<method>` (paid in, ecash not
yet issued), `income:input_fee`, `income:payment_fee`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from specie.kernel import InvariantError

__all__ = ["Books", "JournalEntry", "Posting", "balanced_checked"]

_KINDS = ("asset", "liability", "income", "expense", "equity")


class Posting(NamedTuple):
    """One line of an entry: `amount` in the minor unit of `unit`, positive for a debit, negative for a credit."""

    account: str
    unit: str
    amount: int


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One entry as it was written: `kind` is the verb (swap, mint, melt, deposit), `reference` what it belongs to."""

    entry_id: int
    at: int
    kind: str
    reference: str
    postings: tuple[Posting, ...]


def balanced_checked(postings: Iterable[Posting]) -> tuple[Posting, ...]:
    """The postings without zero lines, merged by account; InvariantError unless they sum to zero in every unit."""
    merged: dict[tuple[str, str], int] = {}
    sums: dict[str, int] = {}
    for line in postings:
        if line.account.partition(":")[0] not in _KINDS:
            raise InvariantError(f"account {line.account} is of no known kind")
        key = (line.account, line.unit)
        merged[key] = merged.get(key, 0) + line.amount
        sums[line.unit] = sums.get(line.unit, 0) + line.amount
    if any(sums.values()):
        raise InvariantError("an entry does not balance")
    return tuple(Posting(account, unit, amount) for (account, unit), amount in sorted(merged.items()) if amount)


@dataclass(frozen=True, slots=True)
class Books:
    """The trial balance at one moment: balance of each (account, unit), debits positive."""

    balances: Mapping[tuple[str, str], int]

    def of(self, account: str, unit: str) -> int:
        """Balance of one account, debits positive; 0 if nothing was ever posted."""
        return self.balances.get((account, unit), 0)

    def total(self, kind: str, unit: str) -> int:
        """Sum of all accounts of a kind in its natural sign: assets and expenses positive, the others as credits."""
        prefix = f"{kind}:"
        total = sum(amount for (account, of), amount in self.balances.items() if of == unit and account.startswith(prefix))
        return total if kind in ("asset", "expense") else -total

    def keysets(self, unit: str) -> list[str]:
        """Ids of the keysets that have postings in `unit`, sorted."""
        return sorted({a.split("/")[1] for (a, of) in self.balances if of == unit and a.startswith("liability:keyset/")})

    def issued(self, keyset_id: str, unit: str) -> int:
        """Ecash ever signed under a keyset."""
        return -self.of(f"liability:keyset/{keyset_id}/issued", unit)

    def redeemed(self, keyset_id: str, unit: str) -> int:
        """Ecash of a keyset ever spent."""
        return self.of(f"liability:keyset/{keyset_id}/redeemed", unit)

    def outstanding(self, keyset_id: str, unit: str) -> int:
        """Ecash of a keyset in circulation."""
        return self.issued(keyset_id, unit) - self.redeemed(keyset_id, unit)

    def units(self) -> list[str]:
        """Units that have any account, sorted."""
        return sorted({unit for _, unit in self.balances})

    def check(self) -> None:
        """InvariantError unless debits equal credits in every unit and no ecash liability is negative."""
        for unit in self.units():
            if sum(amount for (_, of), amount in self.balances.items() if of == unit):
                raise InvariantError(f"the books of unit {unit} do not balance")
            for keyset_id in self.keysets(unit):
                if self.outstanding(keyset_id, unit) < 0:
                    raise InvariantError(f"more {unit} was redeemed than issued under keyset {keyset_id}")
        for (account, unit), amount in self.balances.items():
            if account.startswith("liability:deposit/") and amount > 0:
                raise InvariantError(f"more {unit} was issued than paid in ({account})")
