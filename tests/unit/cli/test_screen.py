"""What is written where: results on standard output, everything beside them on standard error."""

from __future__ import annotations

import io
import json

import pytest

from specie.cli.errors import UsageError
from specie.cli.screen import Screen, shown, table


def _screen(stdin: str = "", **options: bool) -> tuple[Screen, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Screen(out=out, err=err, stdin=io.StringIO(stdin), **options), out, err


def test_a_result_is_text_for_people_and_json_for_programs() -> None:
    """One value either way, amounts beyond what a float holds exact."""
    facts = {"amount": 2**64 - 1}
    screen, out, _ = _screen()
    screen.answer(facts, "all of it")
    assert out.getvalue() == "all of it\n"
    screen, out, _ = _screen(json=True)
    screen.answer(facts, "all of it")
    assert json.loads(out.getvalue()) == facts


def test_notices_never_enter_standard_output() -> None:
    """So that `$(specie wallet send 21)` is the token alone."""
    screen, out, err = _screen()
    screen.say("mind this")
    screen.bare({"token": "cashuB…"}, "cashuBabc")
    assert out.getvalue() == "cashuBabc\n"
    assert "mind this" in err.getvalue()


def test_with_json_nothing_is_said_beside_the_result() -> None:
    """Standard error is for the error as JSON alone."""
    screen, _, err = _screen(json=True)
    screen.say("mind this")
    with screen.progress("working") as progress:
        progress.update("still")
    assert err.getvalue() == ""


def test_a_long_word_is_never_wrapped() -> None:
    """A token of thousands of characters stays one line to copy."""
    screen, out, _ = _screen()
    screen.bare({}, "x" * 5000)
    assert out.getvalue() == "x" * 5000 + "\n"


def test_text_of_strangers_cannot_move_the_cursor() -> None:
    """Control characters, escapes and direction marks are made visible; long text is cut."""
    assert "\x1b" not in shown("\x1b[2Jpwned\u202e")
    assert "\u202e" not in shown("\u202eabc")
    assert shown("Bank für Münzen") == "Bank für Münzen"
    assert len(shown("x" * 1000)) == 200


def test_cells_are_not_read_as_markup() -> None:
    """A memo like [red] is shown, not obeyed."""
    screen, out, _ = _screen()
    screen.answer({}, table(("memo",), [("[red]hello[/red]",)]))
    assert "[red]hello[/red]" in out.getvalue()


def test_nobody_to_ask_is_a_no() -> None:
    """Without a terminal nothing is ever confirmed by default."""
    screen, _, _ = _screen("yes\n")
    assert screen.confirm("really?") is False


def test_empty_or_endless_standard_input_is_refused() -> None:
    """A token from a pipe must be there, and not be a flood."""
    with pytest.raises(UsageError):
        _screen("  \n")[0].read_stdin("token")
    with pytest.raises(UsageError):
        _screen("x" * 1_000_001)[0].read_stdin("token")
    assert _screen(" cashuA \n")[0].read_stdin("token") == "cashuA"
    with pytest.raises(UsageError):
        _screen("")[0].read_line("words", hidden=True)
    assert _screen(" a b \n")[0].read_line("words", hidden=True) == "a b"
