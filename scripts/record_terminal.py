"""Records a terminal: runs the tour of README.md for real and draws what it printed as docs/images/tour.svg.

A bank of its own is started in a temporary home; a shell on a pseudo terminal runs the tour's lines one by one. What it
wrote is read by a small terminal (colours, carriage returns, cursor up, erase) and drawn as one SVG without scripts, links
or fonts from elsewhere; block characters become rectangles, so the QR code can be scanned from the picture.

    python scripts/record_terminal.py [--output docs/images/tour.svg] [--columns 96]
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html import escape
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOUR = re.compile(r"<!-- tour -->\s*```sh\n(.*?)```\s*<!-- /tour -->", re.DOTALL)

# The screen's colours: Nord-like, readable at a glance on light and dark pages.
BACKGROUND, FOREGROUND, FRAME = "#11151c", "#d5dbe5", "#1b212b"
PALETTE = (
    "#1b212b", "#e2686d", "#8fc07a", "#e6c46c", "#6ea3e0", "#b78ad6", "#63bfc7", "#c9d1dc",
    "#5b6675", "#f08489", "#a8d693", "#f2d58a", "#8fbcf0", "#cda6e6", "#85d6dc", "#ffffff",
)  # fmt: skip
CELL_W, CELL_H, PAD, BAR = 8.4, 18.0, 18.0, 34.0
BLOCKS = {"█": (0.0, 1.0), "▀": (0.0, 0.5), "▄": (0.5, 0.5)}
ESCAPE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b\][^\x07]*\x07|\x1b[()][A-Z0-9]|\x1b[=>78]")


@dataclass(frozen=True)
class Style:
    """How a cell looks."""

    fore: str | None = None
    back: str | None = None
    bold: bool = False
    dim: bool = False
    italic: bool = False


@dataclass
class Terminal:
    """As much of a terminal as `specie` uses; lines are kept for ever, none scroll away."""

    columns: int
    lines: list[list[tuple[str, Style]]] = field(default_factory=lambda: [[]])
    row: int = 0
    column: int = 0
    style: Style = Style()

    def feed(self, text: str) -> None:
        """Take what a program wrote."""
        at = 0
        while at < len(text):
            match = ESCAPE.match(text, at)
            if match:
                self._control(match[1] or "", match[2] or "")
                at = match.end()
                continue
            self._put(text[at])
            at += 1

    def _put(self, char: str) -> None:
        if char == "\n":
            self.row += 1
        elif char == "\r":
            self.column = 0
        elif char == "\b":
            self.column = max(0, self.column - 1)
        elif char >= " ":
            if self.column >= self.columns:
                self.row, self.column = self.row + 1, 0
            line = self._line()
            line.extend([(" ", Style())] * (self.column + 1 - len(line)))
            line[self.column] = (char, self.style)
            self.column += 1
        while len(self.lines) <= self.row:
            self.lines.append([])

    def _line(self) -> list[tuple[str, Style]]:
        while len(self.lines) <= self.row:
            self.lines.append([])
        return self.lines[self.row]

    def _control(self, arguments: str, letter: str) -> None:
        numbers = [int(part) for part in arguments.split(";") if part.isdigit()]
        count = numbers[0] if numbers else 0
        if letter == "m":
            self._colour(numbers or [0])
        elif letter == "A":
            self.row = max(0, self.row - max(1, count))
        elif letter == "B":
            self.row += max(1, count)
        elif letter == "G":
            self.column = max(0, count - 1)
        elif letter == "K":
            line = self._line()
            if count == 0:
                del line[self.column :]
            else:
                line.clear()

    def _colour(self, codes: list[int]) -> None:
        at = 0
        while at < len(codes):
            code = codes[at]
            if code == 0:
                self.style = Style()
            elif code in (1, 2, 3):
                self.style = replace(self.style, **{("bold", "dim", "italic")[code - 1]: True})
            elif code == 22:
                self.style = replace(self.style, bold=False, dim=False)
            elif code == 23:
                self.style = replace(self.style, italic=False)
            elif code in (38, 48):
                colour, used = _extended(codes[at + 1 :])
                self.style = replace(self.style, **{"fore" if code == 38 else "back": colour})
                at += used
            elif code in (39, 49):
                self.style = replace(self.style, **{"fore" if code == 39 else "back": None})
            elif code // 10 in (3, 4, 9, 10) and code % 10 < 8:
                bright = 8 if code // 10 in (9, 10) else 0
                name = "fore" if code // 10 in (3, 9) else "back"
                self.style = replace(self.style, **{name: PALETTE[code % 10 + bright]})
            at += 1


def _extended(codes: list[int]) -> tuple[str | None, int]:
    """A colour of the 256 or of all, and how many codes it took."""
    if codes[:1] == [2] and len(codes) >= 4:
        return "#{:02x}{:02x}{:02x}".format(*codes[1:4]), 4
    if codes[:1] == [5] and len(codes) >= 2:
        number = codes[1]
        if number < 16:
            return PALETTE[number], 2
        if number >= 232:
            return "#" + f"{8 + 10 * (number - 232):02x}" * 3, 2
        steps = (0, 95, 135, 175, 215, 255)
        number -= 16
        return f"#{steps[number // 36]:02x}{steps[number // 6 % 6]:02x}{steps[number % 6]:02x}", 2
    return None, len(codes)


def draw(terminal: Terminal, title: str) -> str:
    """The terminal as SVG."""
    lines = terminal.lines
    while lines and not any(char != " " for char, _ in lines[-1]):
        lines.pop()
    width = PAD * 2 + CELL_W * terminal.columns
    height = BAR + PAD + CELL_H * len(lines) + PAD / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">',
        "<style>text{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace;"
        "font-size:14px;white-space:pre}</style>",
        f'<rect width="{width:g}" height="{height:g}" rx="10" fill="{BACKGROUND}"/>',
        f'<path d="M0 {BAR:g}V10a10 10 0 0 1 10-10H{width - 10:g}a10 10 0 0 1 10 10V{BAR:g}z" fill="{FRAME}"/>',
    ]
    parts += [
        f'<circle cx="{20 + 18 * i}" cy="{BAR / 2:g}" r="5.5" fill="{c}"/>'
        for i, c in enumerate(("#e2686d", "#e6c46c", "#8fc07a"))
    ]
    parts.append(f'<text x="{width / 2:g}" y="{BAR / 2 + 5:g}" text-anchor="middle" fill="#7d8898">{escape(title)}</text>')
    for number, line in enumerate(lines):
        parts += _draw_line(line, BAR + PAD / 2 + CELL_H * number)
    parts += [
        f'<path d="{"".join(pieces)}" fill="{fill}" shape-rendering="crispEdges"/>' for fill, pieces in _blocks(lines).items()
    ]
    return "\n".join([*parts, "</svg>", ""])


def _blocks(lines: list[list[tuple[str, Style]]]) -> dict[str, list[str]]:
    """Block characters as pieces of one path a colour, so that they meet without seams."""
    found: dict[str, list[str]] = {}
    for number, line in enumerate(lines):
        top = BAR + PAD / 2 + CELL_H * number
        for column, text, style in _runs(line):
            if text[0] in BLOCKS:
                offset, part = BLOCKS[text[0]]
                x, y, width = PAD + CELL_W * column, top + CELL_H * offset, CELL_W * len(text)
                piece = f"M{x:.1f} {y:g}h{width:.1f}v{CELL_H * part:g}h{-width:.1f}z"
                found.setdefault(style.fore or FOREGROUND, []).append(piece)
    return found


def _runs(line: list[tuple[str, Style]]) -> Iterator[tuple[int, str, Style]]:
    """Stretches of a line that are drawn as one: column, text, style. A block character stands with its like only."""
    column = 0
    for (style, _), cells in groupby(line, key=lambda cell: (cell[1], cell[0] if cell[0] in BLOCKS else "")):
        text = "".join(char for char, _ in cells)
        yield column, text, style
        column += len(text)


def _draw_line(line: list[tuple[str, Style]], top: float) -> list[str]:
    parts: list[str] = []
    for column, text, style in _runs(line):
        x, span = PAD + CELL_W * column, CELL_W * len(text)
        if style.back and text[0] not in BLOCKS:
            parts.append(f'<rect x="{x:.1f}" y="{top:g}" width="{span:.1f}" height="{CELL_H:g}" fill="{style.back}"/>')
        if text.strip() and text[0] not in BLOCKS:
            looks = (' font-weight="bold"' if style.bold else "") + (' font-style="italic"' if style.italic else "")
            looks += ' opacity="0.6"' if style.dim else ""
            where = f'x="{x:.1f}" y="{top + CELL_H * 0.74:.1f}" textLength="{span:.1f}" lengthAdjust="spacingAndGlyphs"'
            parts.append(f'<text {where} fill="{style.fore or FOREGROUND}"{looks}>{escape(text)}</text>')
    return parts


def tour_lines(readme: str) -> list[str]:
    """The commands between the tour's markers."""
    match = TOUR.search(readme)
    if match is None:
        raise SystemExit("README.md has no tour between <!-- tour --> and <!-- /tour -->")
    return [line for line in match[1].splitlines() if line.strip()]


def environment(home: Path, url: str = "") -> dict[str, str]:
    """The environment of a newcomer whose home is `home`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPECIE_", "XDG_"))}
    kept |= {"HOME": str(home), "XDG_DATA_HOME": str(home / "data"), "XDG_CONFIG_HOME": str(home / "config")}
    kept |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}
    return kept | ({"SPECIE_WALLET_MINT_URL": url} if url else {})


def start_bank(home: Path) -> tuple[subprocess.Popen[str], str]:
    """A bank on the tour's port, or on another where that is taken; its process and URL."""
    for port in ("3338", "0"):
        command = [ROOT / ".venv/bin/specie", "up", "--json", "--port", port, "--log-level", "error"]
        process = subprocess.Popen(command, env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        line = process.stdout.readline()
        if line:
            return process, json.loads(line)["url"]
        process.wait()
    raise SystemExit("the bank did not start")


def record(lines: list[str], home: Path, url: str, columns: int) -> str:
    """What a terminal of so many columns shows while a shell runs the lines."""
    prompt = "\\033[1;32m❯\\033[0m "
    script = "\n".join(f"printf '{prompt}\\033[1m%s\\033[0m\\n' {_quoted(line)}\n{line}\nsleep 0.1; echo" for line in lines)
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        os.execvpe("bash", ["bash", "-e", "-c", script], environment(home, url))
    import fcntl
    import struct
    import termios

    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 60, columns, 0, 0))
    seen, until = b"", time.monotonic() + 300
    while time.monotonic() < until:
        if not select.select([terminal], [], [], 1.0)[0]:
            continue
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux says so when the last writer has gone
            break
        if not piece:
            break
        seen += piece
    else:
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        sys.stderr.write(seen.decode(errors="replace"))
        raise SystemExit(f"the tour ended with exit code {status}")
    return seen.decode(errors="replace")


def _quoted(line: str) -> str:
    return "'" + line.replace("'", "'\\''") + "'"


def main() -> None:
    """Record, draw, write."""
    arguments = argparse.ArgumentParser(description="Record the README's tour as an SVG.")
    arguments.add_argument("--output", type=Path, default=ROOT / "docs/images/tour.svg")
    arguments.add_argument("--columns", type=int, default=96)
    given = arguments.parse_args()
    lines = tour_lines((ROOT / "README.md").read_text())
    with tempfile.TemporaryDirectory(prefix="specie-tour-") as place:
        home = Path(place)
        bank, url = start_bank(home)
        try:
            text = record(lines, home, url, given.columns)
        finally:
            bank.terminate()
            bank.wait(30)
    terminal = Terminal(given.columns)
    terminal.feed(text)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(draw(terminal, "specie: the six-line tour"))
    print(f"wrote {given.output} ({given.output.stat().st_size:,} bytes)")


if __name__ == "__main__":
    main()
