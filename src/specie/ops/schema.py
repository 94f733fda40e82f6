"""From written text to typed values: reads the fields of frozen dataclasses and converts what a person wrote for them.

One converter serves TOML (values have types) and the environment (all is text). Not here: which sources exist, and in
which order they win; that is `config`'s.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import itertools
import math
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from specie.kernel.money import MAX_AMOUNT
from specie.ops.secret import Secret
from specie.ops.secret_reference import SecretReference, reference_from_text

__all__ = ["FieldSpec", "as_toml", "convert", "fields_of", "is_section", "nearest", "parse_text"]


_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclasses.dataclass(frozen=True, slots=True)
class FieldSpec:
    """One field of a settings class: its type, its bounds and what its docstring says."""

    name: str
    hint: Any
    doc: str
    default: Any
    minimum: float
    maximum: float
    live: bool | None = None
    """Whether a running bank takes a new value; None where the field does not say."""


@cache
def fields_of(section: Any) -> dict[str, FieldSpec]:
    """The fields of a settings class by name, in order of declaration.

    Bounds come from `metadata` (0 to 2^64-1 without), and so does whether a field may change while a bank runs.
    """
    hints = typing.get_type_hints(section)
    docs = _field_docs(section)
    return {
        item.name: FieldSpec(
            item.name,
            hints[item.name],
            docs.get(item.name, ""),
            item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default,
            item.metadata.get("minimum", 0),
            item.metadata.get("maximum", MAX_AMOUNT),
            item.metadata.get("live"),
        )
        for item in dataclasses.fields(section)
    }


def is_section(hint: Any) -> bool:
    """Whether a field is a table of its own."""
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def nearest(name: str, valid: Iterable[str]) -> str:
    """`; did you mean "port"?`, or the valid names where none is near."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, 1, 0.5)
    return f'did you mean "{close[0]}"?' if close else f"valid here: {', '.join(names)}"


def convert(spec: FieldSpec, value: object, base: Path) -> Any:
    """The typed value of a field; ValueError tells what is wrong. Relative paths are taken from `base`."""
    return _convert(spec.hint, value, spec, base)


def parse_text(spec: FieldSpec, text: str, base: Path) -> Any:
    """As `convert`, from text of the environment: lists are comma separated, or TOML in brackets; "" is none."""
    hint, optional = _unwrap(spec.hint)
    if optional and not text:
        return None
    if typing.get_origin(hint) is tuple:
        if text.lstrip().startswith(("[", "{")):
            try:
                return convert(spec, tomllib.loads(f"value = {text}")["value"], base)
            except tomllib.TOMLDecodeError as error:
                raise ValueError(f"is no TOML list: {error}") from None
        return convert(spec, [part.strip() for part in text.split(",") if part.strip()], base)
    if hint is bool:
        try:
            return {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}[
                text.lower()
            ]
        except KeyError:
            raise ValueError(f"expected true or false, not {text!r}") from None
    if hint in (int, float):
        try:
            return convert(spec, hint(text.replace("_", "")), base)
        except ValueError:
            raise ValueError(_bounds(spec, hint) + f", not {text!r}") from None
    return convert(spec, text, base)


def _unwrap(hint: Any) -> tuple[Any, bool]:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        inner = [part for part in typing.get_args(hint) if part is not type(None)]
        return inner[0], len(inner) < len(typing.get_args(hint))
    return hint, False


def _bounds(spec: FieldSpec, hint: type) -> str:
    noun = "an integer" if hint is int else "a number"
    return f"expected {noun} from {spec.minimum:,} to {spec.maximum:,}"


def _convert(hint: Any, value: object, spec: FieldSpec, base: Path) -> Any:
    hint, optional = _unwrap(hint)
    if optional and value in (None, ""):
        return None
    if hint is bool:
        if not isinstance(value, bool):
            raise ValueError(f"expected true or false, not {value!r}")
        return value
    if hint in (int, float):
        return _number(hint, value, spec)
    if typing.get_origin(hint) is tuple:
        return _tuple(typing.get_args(hint), value, spec, base)
    if hint is Secret:
        if isinstance(value, Secret | SecretReference):
            return value
        if not isinstance(value, str):
            raise ValueError("expected text")
        reference = reference_from_text(value, base)
        if reference is not None and SecretReference not in typing.get_args(spec.hint):
            raise ValueError("takes no reference: write the secret itself")
        return reference or Secret(value)
    if hint is Path:
        if isinstance(value, str | Path) and str(value):
            return (base / Path(value).expanduser()).absolute()
        raise ValueError("expected a path")
    if isinstance(hint, type) and issubclass(hint, Enum):
        names = [str(member.value) for member in hint]
        if str(value) not in names:
            raise ValueError(f"expected one of {', '.join(names)}, not {value!r}")
        return hint(str(value))
    if is_section(hint):
        return _table(hint, value, base)
    if not isinstance(value, str):
        raise ValueError(f"expected text, not {value!r}")
    return value


def _number(hint: type, value: object, spec: FieldSpec) -> int | float:
    allowed = (int,) if hint is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed) or not math.isfinite(value):
        raise ValueError(f"{_bounds(spec, hint)}, not {value!r}")
    if not spec.minimum <= value <= spec.maximum:
        raise ValueError(f"{_bounds(spec, hint)}, not {value}")
    return hint(value)  # type: ignore[no-any-return]


def _tuple(arguments: tuple[Any, ...], value: object, spec: FieldSpec, base: Path) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected a list, not {value!r}")
    if arguments[-1] is Ellipsis:
        return tuple(_convert(arguments[0], item, spec, base) for item in value)
    if len(value) != len(arguments):
        raise ValueError(f"expected {len(arguments)} values, not {len(value)}")
    return tuple(_convert(kind, item, spec, base) for kind, item in zip(arguments, value, strict=True))


def _table(section: Any, value: object, base: Path) -> Any:
    if dataclasses.is_dataclass(value) and isinstance(value, section):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a table, not {value!r}")
    specs = fields_of(section)
    built: dict[str, Any] = {}
    for name, item in value.items():
        if name not in specs:
            raise ValueError(f'unknown key "{name}"; {nearest(name, specs)}')
        try:
            built[name] = convert(specs[name], item, base)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return section(**built)


@cache
def _field_docs(section: Any) -> dict[str, str]:
    """Docstrings written below the fields. Empty where the source is not at hand."""
    try:
        tree = ast.parse(inspect.cleandoc(inspect.getsource(section)))
    except (OSError, TypeError, SyntaxError):
        return {}
    docs: dict[str, str] = {}
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    for line, after in itertools.pairwise(body):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and isinstance(after, ast.Expr):
            text = after.value.value if isinstance(after.value, ast.Constant) else None
            if isinstance(text, str):
                docs[line.target.id] = " ".join(text.split())
    return docs


def as_toml(value: object) -> str:
    """A value as TOML text. TypeError for what has no form there (None, Secret)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return as_toml(value.value)
    if isinstance(value, int | float):
        return f"{value:_}" if isinstance(value, int) and value >= 100_000 else str(value)
    if isinstance(value, str | Path | SecretReference):
        text = str(value).replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(char if char >= " " and char != "\x7f" else f"\\u{ord(char):04x}" for char in text) + '"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(as_toml(item) for item in value)}]"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_toml_key(name)} = {as_toml(item)}' for name, item in value.items())} }}" if value else "{}"
    raise TypeError(f"{type(value).__name__} has no TOML form")


def _toml_key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else as_toml(name)
