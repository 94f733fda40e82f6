"""Which mints say that their money is play money. What a mint says of itself; nothing here checks it."""

from __future__ import annotations

from specie.ecash.info import MintInfo

__all__ = ["announces_play_money", "speaks_of_play"]


def speaks_of_play(text: str) -> bool:
    """Whether a mint's message of the day or an invoice speaks of play money."""
    lower = text.lower()
    return lower.startswith(("lnbcrt", "bcrt1")) or "play money" in lower


def announces_play_money(info: MintInfo) -> bool:
    """Whether the mint's NUT-06 answer says that its money is play money."""
    return speaks_of_play(info.motd or "")
