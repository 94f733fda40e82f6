"""Draw every state machine into docs/states/; with --check, fail if a drawing there is stale."""

from __future__ import annotations

import sys
from pathlib import Path

from specie.kernel.machine import Machine
from specie.mint.states import MACHINES as MINT
from specie.wallet.paid import MACHINES as PAID
from specie.wallet.states import MACHINES as WALLET

TARGET = Path(__file__).parent.parent / "docs" / "states"


def pages() -> dict[str, str]:
    """File name and text of each room's page."""
    rooms: dict[str, tuple[Machine, ...]] = {"mint": MINT, "wallet": (*WALLET, *PAID)}  # type: ignore[type-arg]
    drawn = {}
    for room, machines in rooms.items():
        parts = [f"# States of the {room}\n\nDrawn from `specie.{room}.states`; do not edit.\n"]
        parts += [f"\n## {machine.name.capitalize()}\n\n```mermaid\n{machine.mermaid()}```\n" for machine in machines]
        drawn[f"{room}.md"] = "".join(parts)
    return drawn


def main() -> int:
    """Write or compare; 1 if something is stale."""
    stale = []
    for name, text in pages().items():
        path = TARGET / name
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            path.write_text(text)
    if stale:
        print(("stale: " if "--check" in sys.argv else "drawn: ") + ", ".join(stale))
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
