"""What a command writes: tables and sentences for people, one JSON value for programs.

Results go to standard output. Everything said beside a result (notices, progress, questions, QR codes) goes to standard
error, so that `$(specie wallet send 21)` holds the token and nothing else. Text from strangers (memos, names of mints) is
shown through `shown`. Not here: what is written; the commands know.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from specie.cli.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

__all__ = ["Column", "Progress", "Screen", "shown", "table"]

_MAX_STDIN = 1_000_000

Column = str | tuple[str, str]
"""A column's heading; with `right` as second item its cells are aligned to the right."""


def shown(text: str, limit: int = 200) -> str:
    """Text from outside, safe for a terminal: no control characters, no direction marks, at most `limit` characters."""
    clean = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def table(columns: Sequence[Column], rows: Sequence[Sequence[object]], *, title: str = "") -> Table:
    """A table in the house's look. Cells that are plain text are not read as markup; give a rich Text to style one."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(
        box=box.SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold", header_style="dim", pad_edge=False
    )
    for column in columns:
        name, justify = column if isinstance(column, tuple) else (column, "left")
        made.add_column(name, justify="right" if justify == "right" else "left", overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return made


class Progress:
    """A line that moves while something takes long; silent where nobody watches."""

    def __init__(self, say: object = None) -> None:
        self._status = say

    def update(self, text: str) -> None:
        """Say what is going on now."""
        update = getattr(self._status, "update", None)
        if update is not None:
            update(f"[dim]{text}[/dim]")


class Screen:
    """One command's standard output, error and input."""

    def __init__(
        self,
        *,
        json: bool = False,
        debug: bool = False,
        out: TextIO | None = None,
        err: TextIO | None = None,
        stdin: TextIO | None = None,
    ) -> None:
        """`json`: one JSON value instead of text; `debug`: tracebacks. Streams are those of the process unless given."""
        self.json = json
        self.debug = debug
        self._out = out
        self._err = err
        self._stdin = stdin
        self._consoles: dict[str, Console] = {}

    def _console(self, name: str) -> Console:
        if name not in self._consoles:
            from rich.console import Console

            stream = (self._out or sys.stdout) if name == "out" else (self._err or sys.stderr)
            width = None if stream.isatty() or "COLUMNS" in os.environ else 120
            self._consoles[name] = Console(file=stream, highlight=False, width=width, emoji=False)
        return self._consoles[name]

    @property
    def out(self) -> Console:
        """Standard output, for results."""
        return self._console("out")

    @property
    def err(self) -> Console:
        """Standard error, for everything beside them."""
        return self._console("err")

    @property
    def interactive(self) -> bool:
        """Whether a person can be asked: standard input is a terminal."""
        return not self.json and (self._stdin or sys.stdin).isatty()

    def answer(self, facts: Mapping[str, object], *shown: RenderableType) -> None:
        """The command's result: `facts` as JSON, or `shown` for people."""
        if self.json:
            self._write(json.dumps(facts, ensure_ascii=False, default=str))
            return
        for item in shown:
            self.out.print(item)

    def bare(self, facts: Mapping[str, object], text: str) -> None:
        """A result that is one word to be copied or piped (a token, an invoice): never wrapped, coloured or decorated."""
        self._write(json.dumps(facts, ensure_ascii=False, default=str) if self.json else text)

    def _write(self, text: str) -> None:
        stream = self._out or sys.stdout
        stream.write(text + "\n")
        stream.flush()

    def say(self, *items: RenderableType) -> None:
        """Something beside the result, for people only. Text is markup: put text from outside in a rich Text."""
        if not self.json:
            for item in items:
                self.err.print(item)

    @contextlib.contextmanager
    def progress(self, text: str) -> Iterator[Progress]:
        """A moving line on the terminal while inside; nothing where standard error is no terminal."""
        if self.json or not self.err.is_terminal:
            yield Progress()
            return
        with self.err.status(f"[dim]{text}[/dim]", spinner="dots") as status:
            yield Progress(status)

    def confirm(self, question: str) -> bool:
        """Ask the person at the terminal; False where nobody can answer."""
        if not self.interactive:
            return False
        self.err.print(f"{question} [dim]\\[y/N][/dim] ", end="")
        return (self._stdin or sys.stdin).readline().strip().lower() in ("y", "yes")

    def read_line(self, prompt: str, *, hidden: bool) -> str:
        """One line from the person or the pipe on standard input; `hidden` is not echoed. UsageError at its end."""
        if self.interactive and hidden and self._stdin is None:
            import getpass

            return getpass.getpass(f"{prompt}: ", stream=sys.stderr)
        if self.interactive:
            self.err.print(f"{prompt}: ", end="")
        line = (self._stdin or sys.stdin).readline()
        if not line:
            raise UsageError(f"{prompt}: nothing came from standard input")
        return line.strip()

    def read_word(self, what: str) -> str:
        """One line of standard input, stripped, as soon as it is there. UsageError if it is empty or endless."""
        text = (self._stdin or sys.stdin).readline(_MAX_STDIN + 1)
        if not text.strip() or len(text) > _MAX_STDIN:
            raise UsageError(f"{what}: standard input is {'too long' if text.strip() else 'empty'}")
        return text.strip()

    def lines(self, most: int) -> Iterator[str]:
        """Lines of standard input as they come; one longer than `most` characters comes in pieces."""
        return iter(lambda: (self._stdin or sys.stdin).readline(most), "")

    def read_stdin(self, what: str) -> str:
        """All of standard input, stripped. UsageError if it is empty or longer than a megabyte."""
        text = (self._stdin or sys.stdin).read(_MAX_STDIN + 1)
        if not text.strip() or len(text) > _MAX_STDIN:
            raise UsageError(f"{what}: standard input is {'too long' if text.strip() else 'empty'}")
        return text.strip()
