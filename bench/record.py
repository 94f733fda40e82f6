"""What every benchmark program shares: its options, what it tells while it runs, and the files it leaves.

A run is `results/<date>-<name>.json`, with machine, versions, commit and notes in it, and one SVG a picture beside it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from bench.fill import embedded_engines
from bench.machine import machine_facts

__all__ = ["Record", "engine_option", "options_parser", "stem_of"]


def options_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that all programs have."""
    parser = argparse.ArgumentParser(
        prog=f"bench.{name}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="short windows: to see that it works, not to quote")
    parser.add_argument("--dir", type=Path, default=None, help="where stores are made (the system's temporary directory)")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"), help="where results are written")
    parser.add_argument("--no-record", action="store_true", help="write no files")
    return parser


def engine_option(parser: argparse.ArgumentParser) -> None:
    """Which embedded engine the bank keeps its books in."""
    engines = embedded_engines()
    parser.add_argument("--engine", default="sqlite", choices=engines, help=f"of {', '.join(engines)} (sqlite)")


def stem_of(date: str, name: str) -> str:
    """Beginning of the names of a run's files: the date (ISO 8601, UTC) without separators, and the program."""
    return date.replace(":", "").replace("-", "") + (f"-{name}" if name else "")


class Record:
    """One run of one program: what it found, and what the reader must know."""

    def __init__(self, name: str, options: argparse.Namespace, directory: Path) -> None:
        self.name = name
        self.date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.machine = machine_facts(directory)
        self.figures: dict[str, Any] = {}
        self.notes: list[str] = []
        self.pictures: dict[str, str] = {}
        hidden = ("out", "no_record", "dir")
        self._options = {key: str(value) for key, value in sorted(vars(options).items()) if key not in hidden}
        self._out: Path = options.out
        self._write: bool = not options.no_record
        self._began = time.monotonic()
        self.say(f"{name} {self.date}  {self.machine['cpu']}, {self.machine['cores']} cores, commit {self.machine['revision']}")
        if options.quick:
            self.note("a quick run: its figures are not worth keeping")

    def say(self, line: str = "") -> None:
        """One line for the person who waits."""
        print(line, flush=True)

    def note(self, text: str) -> None:
        """Something the reader of the figures must know."""
        self.notes.append(text)
        self.say(f"NOTE: {text}")

    def picture(self, name: str, svg: str) -> None:
        """An SVG to leave beside the figures."""
        self.pictures[name] = svg

    def write(self) -> list[Path]:
        """The files of this run; none with --no-record."""
        took = time.monotonic() - self._began
        self.say(f"{self.name}: {took:.0f} s")
        if not self._write:
            return []
        self._out.mkdir(parents=True, exist_ok=True)
        stem = stem_of(self.date, self.name)
        document = {
            "date": self.date,
            "program": self.name,
            "took_s": round(took, 1),
            "machine": self.machine,
            "options": self._options,
            "notes": self.notes,
            "figures": self.figures,
        }
        paths = [self._out / f"{stem}.json"]
        paths[0].write_text(json.dumps(document, indent=1) + "\n")
        for name, svg in self.pictures.items():
            paths.append(self._out / f"{stem}-{name}.svg" if name else self._out / f"{stem}.svg")
            paths[-1].write_text(svg)
        for path in paths:
            self.say(f"written: {path}")
        return paths
