"""QR codes in a terminal: the characters say what the modules are."""

from __future__ import annotations

import segno

from specie.cli.qr import qr_text

_DARK = {"█": (False, False), "▀": (False, True), "▄": (True, False), " ": (True, True)}


def _modules(text: str) -> list[list[bool]]:
    rows: list[list[bool]] = []
    for line in text.splitlines():
        rows.append([_DARK[char][0] for char in line])
        rows.append([_DARK[char][1] for char in line])
    return rows


def test_what_is_drawn_is_the_code() -> None:
    """Read back from its half blocks it is the code, module by module, within a light border."""
    data = "cashuBo2F0gaJhaUgB" * 12
    drawn = qr_text(data, 120)
    assert drawn is not None
    rows = _modules(drawn.plain)
    expected = [[bool(module) for module in row] for row in segno.make(data, error="l", micro=False, boost_error=False).matrix]
    assert [row[1:-1] for row in rows[1 : len(expected) + 1]] == expected
    assert not any(rows[0])
    assert not any(row[0] or row[-1] for row in rows)


def test_a_code_that_does_not_fit_is_not_drawn() -> None:
    """Neither wider than the terminal, nor longer than any code can hold."""
    assert qr_text("x" * 400, 40) is None
    assert qr_text("x" * 5000, 1000) is None


def test_colours_are_set_whatever_the_terminals_are() -> None:
    """White on black on every theme: a reader needs the contrast."""
    drawn = qr_text("lnbcrt1", 80)
    assert drawn is not None
    assert str(drawn.style) == "bright_white on black"
