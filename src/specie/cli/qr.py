"""QR codes drawn in a terminal, two modules to a character, or a word on why one does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["qr_text"]

_BORDER = 1
"""Quiet zone in modules; readers of screens make do with less than the four of paper."""

_HALVES = {(False, False): "█", (False, True): "▀", (True, False): "▄", (True, True): " "}
"""Light modules are drawn, as blocks of the foreground; (upper is dark, lower is dark)."""


def _modules(data: str) -> list[list[bool]] | None:
    """Rows of modules, True for dark, with the border; None where no QR code holds the data."""
    import segno

    try:
        made = segno.make(data, error="l", micro=False, boost_error=False)
    except segno.DataOverflowError:
        return None
    return [[bool(module) for module in row] for row in made.matrix_iter(border=_BORDER)]


def qr_text(data: str, width: int) -> Text | None:
    """The QR code of `data`, white with black modules whatever the terminal's colours; None if it does not fit `width`."""
    from rich.text import Text

    modules = _modules(data)
    if modules is None or len(modules) > width:
        return None
    if len(modules) % 2:
        modules.append([False] * len(modules[0]))
    lines = [
        "".join(_HALVES[upper, lower] for upper, lower in zip(above, below, strict=True))
        for above, below in zip(modules[::2], modules[1::2], strict=True)
    ]
    return Text("\n".join(lines), "bright_white on black", no_wrap=True)
