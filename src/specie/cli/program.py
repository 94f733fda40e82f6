"""The program: its commands, the options every command takes, and what becomes of errors.

Commands are named here and loaded when they are called, so `specie --help` and `specie wallet` know nothing of servers.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Group, Parameter

from specie._version import __version__
from specie.cli.errors import EXIT_CODES, INTERRUPTED, USAGE, UsageError, error_facts, exit_code
from specie.cli.screen import Screen
from specie.kernel.errors import SpecieError

__all__ = ["app", "main", "run"]

_BANK = Group("Run a bank", sort_key=1)
_MONEY = Group("Hold money", sort_key=2)
_TRY = Group("Try it out", sort_key=3)
_MORE = Group("More", sort_key=4)
_EVERYWHERE = Group("Everywhere", sort_key=9)

_FLAGS = frozenset({"--key-file", "--keyring"})
"""Options of a group that take no value."""

_EXAMPLES = """\
[bold]Examples[/bold]
  specie up                               start a play-money bank here
  specie wallet mint 100                  put 100 sat in your wallet
  specie wallet send 21                   a token for somebody, with QR code
  specie wallet receive TOKEN --name bob  take it into a wallet called bob
  specie mint liabilities --verify        what the bank owes, checked
  specie demo crash                       kill a bank twenty times, and count

[bold]Exit codes[/bold]
""" + "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES)

app = App(
    name="specie",
    help="A self-hosted bitcoin bank: ecash mint, wallet and books in one program.",
    help_format="rich",
    help_epilogue=_EXAMPLES,
    version=f"specie {__version__}",
    version_flags=["--version"],
    result_action="return_value",
    exit_on_error=False,
    print_error=False,
    suppress_keyboard_interrupt=False,
)
app["--help"].group = app["--version"].group = (_MORE,)
app.command(
    "specie.cli.up:up",
    name="up",
    group=_BANK,
    sort_key=1,
    help_epilogue="",
    help="Start a bank: mint, API, books and start page.",
)
app.command(
    "specie.cli.operator:app", name="mint", group=_BANK, sort_key=2, help="Look after a bank: keysets, quotes, books, backup."
)
app.command("specie.cli.signer:app", name="signer", group=_BANK, help="Keep a bank's keys in a process of their own.")
app.command(
    "specie.cli.audit:app", name="audit", group=_BANK, help="Who did what to the bank: read, check and export its audit log."
)
app.command("specie.cli.config:app", name="config", group=_BANK, help="See and check a bank's settings.")
app.command("specie.cli.keys:app", name="keys", group=_BANK, help="Where keys may live: providers, and a trial of a token.")
app.command("specie.cli.wallet:app", name="wallet", group=_MONEY, help="Mint, send, receive and pay; restore from words.")
app.command("specie.cli.demo:app", name="demo", group=_TRY, help="See a bank survive what banks should survive.")
app.command(
    "specie.cli.version:version", name="version", group=_MORE, help_epilogue="", help="Versions of specie and what it runs on."
)

app.meta.group_parameters = _EVERYWHERE
app.meta.suppress_keyboard_interrupt = False


def _flag(name: str, text: str) -> Parameter:
    return Parameter(name=name, negative="", show_default=False, help=text)


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    json: Annotated[bool, _flag("--json", "One JSON value on stdout, errors as JSON on stderr.")] = False,
    debug: Annotated[bool, _flag("--debug", "Show tracebacks.")] = False,
) -> int:
    screen = Screen(json=json, debug=debug)
    command, bound, ignored = app.parse_args(hoisted(tokens))
    if "screen" in ignored:
        bound.arguments["screen"] = screen
    result: Any = command(*bound.args, **bound.kwargs)
    if inspect.iscoroutine(result):
        import asyncio

        try:
            result = asyncio.run(result)
        except asyncio.CancelledError:  # told to end, as by SIGTERM
            raise KeyboardInterrupt from None
    return result if isinstance(result, int) else 0


def hoisted(tokens: Sequence[str]) -> list[str]:
    """`wallet --name bob balance` as `wallet balance --name bob`: options of a group may stand before its command."""
    head, rest = list(tokens[:1]), list(tokens[1:])
    moved: list[str] = []
    while head in (["wallet"], ["mint"]) and rest and rest[0].startswith("--") and rest[0] not in ("--help", "--version", "--"):
        moved.append(rest.pop(0))
        if "=" not in moved[-1] and moved[-1] not in _FLAGS and rest and not rest[0].startswith("-"):
            moved.append(rest.pop(0))
    return head + rest[:1] + moved + rest[1:]


def run(arguments: Sequence[str]) -> int:
    """Run one command line; its exit code. Errors are told on standard error, without a traceback unless asked for."""
    screen = Screen(json="--json" in arguments, debug="--debug" in arguments)
    try:
        result = app.meta(list(arguments))
        return result if isinstance(result, int) else 0
    except CycloptsError as error:
        return _tell_usage(screen, error)
    except KeyboardInterrupt:
        screen.say("[dim]interrupted[/dim]")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read our output has left
        return 0
    except ExceptionGroup as group:  # of tasks that ran side by side: the first that failed is told
        return _tell(screen, _first(group))
    except Exception as error:  # the face: every error becomes a line and an exit code here
        return _tell(screen, error)


def _first(error: Exception) -> Exception:
    """The first error in a group of groups."""
    return _first(error.exceptions[0]) if isinstance(error, ExceptionGroup) else error


def _tell_usage(screen: Screen, error: CycloptsError) -> int:
    if screen.json:
        _tell(screen, UsageError(str(error)))
        return USAGE
    from rich.text import Text

    where = " ".join(("specie", *error.command_chain)) if error.command_chain else "specie"
    screen.err.print(Text.assemble(("✗ ", "bold red"), str(error)), soft_wrap=True)
    screen.err.print(Text(f"  {where} --help tells more", "dim"))
    return USAGE


def _tell(screen: Screen, error: Exception) -> int:
    """One error on standard error; its exit code."""
    import json

    facts = error_facts(error)
    if screen.debug:
        import traceback

        from specie.ops.redaction import redact_text

        sys.stderr.write(redact_text("".join(traceback.format_exception(error))))
    if screen.json:
        sys.stderr.write(json.dumps({"error": facts}, ensure_ascii=False) + "\n")
        return exit_code(error)
    from rich.text import Text

    known = isinstance(error, SpecieError)
    detail = str(facts["detail"]) if known else f"unexpected error: {type(error).__name__} (--debug shows where)"
    screen.err.print(Text.assemble(("✗ ", "bold red"), detail), soft_wrap=True)
    return exit_code(error)


def main() -> None:
    """The console script: run `sys.argv` and leave with its exit code. Nothing of its memory is left on disk by a crash."""
    from specie.app.system import forbid_memory_dumps

    forbid_memory_dumps()
    sys.exit(run(sys.argv[1:]))
