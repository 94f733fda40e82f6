"""State machines as tables: what may follow what, in one value that the code obeys and the documents are drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from specie.kernel.errors import InvariantError

__all__ = ["Machine"]

S = TypeVar("S", bound=str)


@dataclass(frozen=True, slots=True)
class Machine(Generic[S]):
    """States and events as text; `table` maps (state, event) to the next state. What is not in it cannot happen."""

    name: str
    initial: S
    table: Mapping[tuple[S, str], S]

    def next(self, state: S, event: str) -> S:
        """The state after `event`; InvariantError where the table has none."""
        try:
            return self.table[state, event]
        except KeyError:
            raise InvariantError(f"{self.name}: {event} cannot happen in state {state}") from None

    def check_move(self, before: S, after: S) -> None:
        """None if some event leads from `before` to `after` (or nothing changes); InvariantError otherwise."""
        if before != after and not any(pair[0] == before and to == after for pair, to in self.table.items()):
            raise InvariantError(f"{self.name}: nothing leads from {before} to {after}")

    def states(self) -> list[S]:
        """All states, the initial one first, then as the table names them."""
        return list(dict.fromkeys([self.initial, *(s for (before, _), after in self.table.items() for s in (before, after))]))

    def final(self) -> list[S]:
        """States that nothing leaves."""
        left = {before for before, _ in self.table}
        return [state for state in self.states() if state not in left]

    def mermaid(self) -> str:
        """A drawing as a Mermaid state diagram."""
        lines = ["stateDiagram-v2", f"    [*] --> {self.initial}"]
        lines += [f"    {before} --> {after}: {event}" for (before, event), after in self.table.items()]
        lines += [f"    {state} --> [*]" for state in self.final()]
        return "\n".join(lines) + "\n"
