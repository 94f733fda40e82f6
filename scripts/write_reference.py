"""Write the pages of docs/reference/ that are made from the code; with --check, fail if one there is stale.

`settings.md` comes from the settings' classes and the docstrings below their fields, `cli.md` from what `--help` shows.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

from specie.cli.errors import EXIT_CODES
from specie.cli.program import app
from specie.kernel.money import MAX_AMOUNT
from specie.ops.config import ENVIRONMENT_PREFIX, example_toml
from specie.ops.schema import FieldSpec, as_toml, fields_of, is_section
from specie.ops.secret import Secret
from specie.ops.settings import BankSettings, RailSettings

TARGET = Path(__file__).parent.parent / "docs" / "reference"
NOTE = "<!-- Made by scripts/write_reference.py; do not edit. -->\n"

SETTINGS_HEAD = """\
# Settings

A bank reads its settings from one TOML file and from the environment. The environment wins over the file, the command line
over both. The file is `bank.toml` in your config home (`~/.config/specie/bank.toml` on Linux), or the one named by `--config`
or `SPECIE_CONFIG`. A variable's name is made of section and key: `server.port` is `SPECIE_SERVER_PORT`; lists are written with
commas, tables as TOML in brackets. Unknown keys are refused, all of them at once.

    specie config example    # a file with every setting, commented out
    specie config check      # what a start would read, or what is wrong with it

A secret may be written as a reference, which is all that is ever stored or shown of it: `file:/path` (a file of mode 0600),
`env:NAME` or `keyring:service/user`. A running bank takes changes of settings that say "live"
([Changing settings](../guides/configuration.md)); the rails are one setting, taken at a restart.

"""

CLI_HEAD = """\
# Commands

What `specie ... --help` shows, on one page. Every command also takes `--json` (one JSON value on standard output, errors as
JSON on standard error) and `--debug` (tracebacks). Results go to standard output; notices, progress and QR codes to standard
error.

"""


def main() -> int:
    """Write or compare; 1 if something is stale."""
    checking = "--check" in sys.argv
    stale = []
    for name, text in {"settings.md": settings_page(), "cli.md": cli_page()}.items():
        path = TARGET / name
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if not checking:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    if stale:
        print(("stale, run scripts/write_reference.py: " if checking else "written: ") + ", ".join(stale))
    return 1 if stale and checking else 0


# -- settings ------------------------------------------------------------------------------------------------------------


def settings_page() -> str:
    """Tables of every setting, then the example file."""
    parts = [NOTE, SETTINGS_HEAD, *_sections(BankSettings, "")]
    parts += ["## One `[[rails]]` for each rail\n\n", f"{_first_line(RailSettings)}\n\n", *_table(RailSettings, "", rail=True)]
    parts += ["## Example file\n\nWhat `specie config example` prints.\n\n```toml\n", example_toml(), "```\n"]
    return "".join(parts)


def _sections(section: Any, prefix: str) -> Iterator[str]:
    if prefix:
        yield f"## `[{prefix[:-1]}]`\n\n{_first_line(section)}\n\n"
    yield from _table(section, prefix)
    for spec in fields_of(section).values():
        if is_section(spec.hint):
            yield from _sections(spec.hint, f"{prefix}{spec.name}.")


def _table(section: Any, prefix: str, *, rail: bool = False) -> Iterator[str]:
    taken = "" if rail else " a change is taken |"
    yield f"| key | default | what it is |{taken}\n|---|---|---|{taken and '---|'}\n"
    for spec in fields_of(section).values():
        if is_section(spec.hint) or spec.name == "rails":
            continue
        when = "" if rail else f" {'live' if spec.live else 'at a restart'} |"
        yield f"| {_keys(spec, prefix, rail)} | {_default(spec)} | {_meaning(spec)} |{when}\n"
    yield "\n"


def _keys(spec: FieldSpec, prefix: str, rail: bool) -> str:
    if rail:
        return f"`{spec.name}`"
    key = prefix + spec.name
    if key == "keys.passphrase":
        return f"`{ENVIRONMENT_PREFIX}PASSPHRASE`"
    if key == "keys.pkcs11.pin":
        return f"`{ENVIRONMENT_PREFIX}KEYS_PKCS11_PIN`"
    variables = f"`{ENVIRONMENT_PREFIX}{key.replace('.', '_').upper()}`"
    if key == "keys.passphrase_file":
        variables = f"`{ENVIRONMENT_PREFIX}PASSPHRASE_FILE`"
    return f"`{spec.name}`<br>{variables}"


def _default(spec: FieldSpec) -> str:
    value = spec.default
    if isinstance(value, Path):
        return "in your data home" if spec.name == "data_dir" else f"`{value}`"
    if value is None or value == "":
        return "none"
    return f"`{as_toml(value)}`"


def _meaning(spec: FieldSpec) -> str:
    kind, extra = spec.hint, ""
    if isinstance(kind, type) and issubclass(kind, Enum) and " or " not in spec.doc.lower():
        extra = " One of " + ", ".join(f"`{member.value}`" for member in kind) + "."
    elif kind in (int, float) and spec.maximum < MAX_AMOUNT:
        extra = f" From {spec.minimum:,} to {spec.maximum:,}."
    elif get_origin(kind) is tuple:
        extra = " A list."
    elif kind is Secret or Secret in get_args(kind):
        extra = " Never shown or logged."
    return (spec.doc + extra).replace("|", "\\|")


def _first_line(section: Any) -> str:
    return (section.__doc__ or section.__name__).strip().splitlines()[0]


# -- commands ------------------------------------------------------------------------------------------------------------


def cli_page() -> str:
    """Every command with its options, and the exit codes."""
    text = app.generate_docs(output_format="markdown", max_heading_level=4)
    text = re.sub(r"\A# .*?\n(?=## specie )", "", text, flags=re.DOTALL)  # our own head stands in its place
    text = re.sub(r"^\*\*(Everywhere|Examples?)\*\*:?\n.*?(?=^#|^\*\*|\Z)", "", text, flags=re.DOTALL | re.MULTILINE)
    text = text.replace("```console", "```text")
    codes = "".join(f"| {code} | {meaning} |\n" for code, meaning in EXIT_CODES)
    table = f"## Exit codes\n\n| code | meaning |\n|---:|---|\n{codes}"
    return NOTE + CLI_HEAD + table + "\n" + re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


if __name__ == "__main__":
    sys.exit(main())
