"""`specie wallet mints backup` and `restore`: the list of trusted mints on Nostr relays (NUT-27)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter

from specie.cli.arguments import ScreenArgument
from specie.cli.screen import table
from specie.cli.wallet.opening import WalletChoice, opened

__all__ = ["backup", "restore"]

RelayArgument = Annotated[list[str], Parameter(negative="", help="Address of a Nostr relay (wss://...); may be repeated.")]


async def backup(relay: RelayArgument, /, *, wallet: WalletChoice | None = None, screen: ScreenArgument) -> None:
    """Keep the list of mints on Nostr relays, encrypted: with the words alone another device finds where the money is."""
    from rich.text import Text

    async with opened(wallet or WalletChoice(), screen) as purse:
        with screen.progress("asking the relays"):
            kept = await purse.mint_list.backup(relay)
    screen.answer(
        {"mints": list(kept.mints), "relays": kept.relays, "written_at": kept.written_at},
        Text.assemble(("✓ ", "green"), f"{len(kept.mints)} mints on {kept.relays} of {len(set(relay))} relays"),
    )


async def restore(
    relay: RelayArgument,
    /,
    *,
    yes: Annotated[bool, Parameter(negative="", show_default=False, help="Trust all of them without asking.")] = False,
    wallet: WalletChoice | None = None,
    screen: ScreenArgument,
) -> None:
    """Read the list of mints back, and trust those that you agree to; then: specie wallet restore."""
    from rich.text import Text

    added: list[str] = []
    async with opened(wallet or WalletChoice(), screen) as purse:
        with screen.progress("asking the relays"):
            found = await purse.mint_list.restore(relay)
        for url in found.new:
            if yes or screen.confirm(f"Trust {url} from now on?"):
                with screen.progress("meeting the mint"):
                    await purse.add_mint(url)
                added.append(url)
    rows = [(url, "added" if url in added else "new" if url in found.new else "known") for url in found.mints]
    when = "" if found.written_at is None else datetime.fromtimestamp(found.written_at, UTC).strftime("  of %Y-%m-%d")
    left = len(found.new) - len(added)
    screen.answer(
        {"mints": list(found.mints), "new": list(found.new), "added": added, "written_at": found.written_at},
        Text.assemble(("✓ ", "green"), f"{len(found.mints)} mints in the backup{when}, {len(added)} added"),
        *([table(("mint", ""), rows)] if rows else []),
        *([Text(f"  {left} not trusted: answer y, or add --yes", "dim")] if left else []),
    )
