"""Reads the settings of a bank: defaults, then one TOML file, then the environment, then the command line.

Every problem of every source is found in one go, each with the place it was written. Not here: adapters, and any use of
the settings; `app` does that.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

from specie.ops.errors import SettingsError, SettingsProblem
from specie.ops.schema import FieldSpec, as_toml, convert, fields_of, is_section, nearest, parse_text
from specie.ops.secret import Secret
from specie.ops.secret_reference import reference_from_text
from specie.ops.settings import (
    BankSettings,
    KeysProvider,
    RailSettings,
    RemoteKeysSettings,
    SealingSource,
    StoreEngine,
    default_data_dir,
    is_loopback,
)

__all__ = [
    "ENVIRONMENT_PREFIX",
    "data_dir_named",
    "default_config_file",
    "example_toml",
    "is_dsn",
    "leaves",
    "load_settings",
    "parse_document",
    "read_content",
    "read_document",
    "settings_file",
]

ENVIRONMENT_PREFIX = "SPECIE_"

_ALIASES = {"SPECIE_PASSPHRASE": "keys.passphrase", "SPECIE_PASSPHRASE_FILE": "keys.passphrase_file"}
_OTHERS = ("SPECIE_CONFIG", "SPECIE_WALLET", "SPECIE_TEST", "SPECIE_BENCH", "SPECIE_PEERS", "SPECIE_REQUIRE")
"""Names, or beginnings of names, in the environment that belong to other programs of this package."""

_MAX_FILE_BYTES = 1_000_000
_METHOD = re.compile(r"[a-z0-9_-]{1,64}")

_SectionT = TypeVar("_SectionT")


def default_config_file() -> Path:
    """The TOML file read where none is named: `bank.toml` in the user's config home; it need not exist."""
    return Path(platformdirs.user_config_dir("specie")) / "bank.toml"


def load_settings(
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
    *,
    content: bytes | None = None,
) -> BankSettings:
    """Build the settings of a bank.

    `file`: a TOML file, which must exist if given (also as SPECIE_CONFIG); without, `default_config_file()` if there is
    one. `environ`: variables SPECIE_<SECTION>_<KEY>. `overrides`: dotted names to values, from the command line; None
    means not given. `content`: what the file holds, for one that was read already or is not written yet. Raises
    SettingsError, with all problems at once.
    """
    environ = environ or {}
    problems: list[SettingsProblem] = []
    values: dict[str, tuple[Any, str]] = {}
    _read_file(file, environ, values, problems, content)
    _read_environment(environ, values, problems)
    _read_overrides(overrides or {}, values, problems)
    if problems:
        raise SettingsError(problems)
    settings = _build(BankSettings, "", values, problems)
    if settings is None or problems:
        raise SettingsError(problems)
    _check_together(settings, values, problems)
    if problems:
        raise SettingsError(problems)
    return settings


def leaves(section: type = BankSettings, prefix: str = "") -> Iterator[tuple[str, FieldSpec]]:
    """Every setting by its dotted name, in order of declaration; `rails` is one."""
    for spec in fields_of(section).values():
        if is_section(spec.hint):
            yield from leaves(spec.hint, f"{prefix}{spec.name}.")
        else:
            yield prefix + spec.name, spec


def _names() -> dict[str, str]:
    """Environment variable name to dotted name."""
    names = {ENVIRONMENT_PREFIX + key.replace(".", "_").upper(): key for key, _ in leaves(BankSettings)}
    return names | _ALIASES


def _read_file(
    file: Path | None,
    environ: Mapping[str, str],
    values: dict[str, tuple[Any, str]],
    problems: list[SettingsProblem],
    content: bytes | None,
) -> None:
    found = settings_file(file, environ) if content is None else file or settings_file(None, environ) or default_config_file()
    if found is None:
        return
    source = str(found)
    try:
        document = read_document(found) if content is None else parse_document(content)
    except OSError as error:
        problems.append(SettingsProblem(source, "", f"cannot be read: {error.strerror or error}"))
    except ValueError as error:
        problems.append(SettingsProblem(source, "", str(error)))
    else:
        _read_table(BankSettings, document, "", source, found.absolute().parent, values, problems)


def settings_file(file: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The file that is read: `file`, else that of SPECIE_CONFIG, else the default one; None if that is not there."""
    if file is not None:
        return file
    if environ.get("SPECIE_CONFIG"):
        return Path(environ["SPECIE_CONFIG"])
    default = default_config_file()
    return default if default.exists() else None


def read_document(file: Path) -> dict[str, Any]:
    """The tables of a settings file as they are written. OSError; ValueError for what is no TOML or too large."""
    return parse_document(read_content(file))


def read_content(file: Path) -> bytes:
    """What a settings file holds, as far as is needed to see that it is too large. OSError, also for what is no file.

    Opening never waits: a pipe would have a running bank wait for ever. The null device is an empty file.
    """
    handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(handle)
        if stat.S_ISCHR(found.st_mode) and found.st_rdev == os.stat(os.devnull).st_rdev:
            return b""
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        with os.fdopen(handle, "rb", closefd=False) as opened:
            return opened.read(_MAX_FILE_BYTES + 1)
    finally:
        os.close(handle)


def parse_document(data: bytes) -> dict[str, Any]:
    """As `read_document`, of bytes."""
    if len(data) > _MAX_FILE_BYTES:
        raise ValueError("is larger than 1 MB")
    try:
        return tomllib.loads(data.decode())  # UnicodeDecodeError and TOMLDecodeError are ValueErrors
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def data_dir_named(file: Path | None, environ: Mapping[str, str], data_dir: Path | None = None) -> Path:
    """The data directory that these sources name, as far as they can be read, whatever else is wrong with them."""
    named: object = data_dir or environ.get("SPECIE_DATA_DIR")
    base = Path.cwd()
    found = settings_file(file, environ)
    if not named and found is not None:
        try:
            named, base = read_document(found).get("data_dir"), found.absolute().parent
        except (OSError, ValueError):
            named = None
    if isinstance(named, str | Path) and str(named):
        return (base / Path(named).expanduser()).absolute()
    return default_data_dir()


def _read_table(
    section: type,
    table: Mapping[str, object],
    prefix: str,
    source: str,
    base: Path,
    values: dict[str, tuple[Any, str]],
    problems: list[SettingsProblem],
) -> None:
    specs = fields_of(section)
    for name, value in table.items():
        key = prefix + name
        spec = specs.get(name)
        if spec is None:
            problems.append(SettingsProblem(source, key, f"unknown key; {nearest(name, specs)}"))
        elif is_section(spec.hint):
            if isinstance(value, Mapping):
                _read_table(spec.hint, value, f"{key}.", source, base, values, problems)
            else:
                problems.append(SettingsProblem(source, key, f"is a section: write [{key}] and its keys below"))
        elif key == "keys.passphrase" and not _is_reference(value, base):
            reason = "a passphrase does not belong in a file beside the settings; use a reference or SPECIE_PASSPHRASE"
            problems.append(SettingsProblem(source, key, reason))
        elif key == "keys.pkcs11.pin" and not _is_reference(value, base):
            reason = "a PIN does not belong in a file of settings; use pin_file, a reference or SPECIE_KEYS_PKCS11_PIN"
            problems.append(SettingsProblem(source, key, reason))
        else:
            _take(key, spec, value, source, base, values, problems, text=False)


def _is_reference(value: object, base: Path) -> bool:
    try:
        return isinstance(value, str) and reference_from_text(value, base) is not None
    except ValueError:
        return True  # a wrong one, which is told where it is taken


def is_dsn(secret: Secret) -> bool:
    """Whether a secret can name a PostgreSQL database."""
    return secret.reveal_bytes().startswith((b"postgresql://", b"postgres://"))


def _read_environment(environ: Mapping[str, str], values: dict[str, tuple[Any, str]], problems: list[SettingsProblem]) -> None:
    names, specs = _names(), dict(leaves(BankSettings))
    for name, text in environ.items():
        if not name.startswith(ENVIRONMENT_PREFIX) or name.startswith(_OTHERS):
            continue
        key = names.get(name)
        if key is None:
            problems.append(SettingsProblem(name, "", f"unknown variable; {_near_variable(name, names)}"))
        else:
            _take(key, specs[key], text, name, Path.cwd(), values, problems, text=True)


def _near_variable(name: str, names: Mapping[str, str]) -> str:
    hint = nearest(name, names)
    return hint if hint.startswith("did you mean") else f"names are made as {ENVIRONMENT_PREFIX}SERVER_PORT is of server.port"


def _read_overrides(
    overrides: Mapping[str, object], values: dict[str, tuple[Any, str]], problems: list[SettingsProblem]
) -> None:
    specs = dict(leaves(BankSettings))
    for key, value in overrides.items():
        if value is None:
            continue
        if key not in specs:
            raise KeyError(f"no setting is called {key}")  # our own mistake, not the operator's
        source = "--" + key.rpartition(".")[2].replace("_", "-")
        _take(key, specs[key], value, source, Path.cwd(), values, problems, text=False)


def _take(
    key: str,
    spec: FieldSpec,
    value: object,
    source: str,
    base: Path,
    values: dict[str, tuple[Any, str]],
    problems: list[SettingsProblem],
    *,
    text: bool,
) -> None:
    try:
        read = parse_text(spec, value, base) if text and isinstance(value, str) else convert(spec, value, base)
    except ValueError as error:
        problems.append(SettingsProblem(source, key, str(error)))
    else:
        values[key] = (read, source)


def _build(
    section: Callable[..., _SectionT], prefix: str, values: Mapping[str, tuple[Any, str]], problems: list[SettingsProblem]
) -> _SectionT | None:
    arguments: dict[str, Any] = {}
    sources: list[str] = []
    for spec in fields_of(section).values():
        key = prefix + spec.name
        if is_section(spec.hint):
            built = _build(spec.hint, f"{key}.", values, problems)
            if built is not None:
                arguments[spec.name] = built
        elif key in values:
            arguments[spec.name], source = values[key]
            sources.append(source)
    try:
        return section(**arguments)
    except ValueError as error:  # a room's own judgement over its settings
        source = ", ".join(dict.fromkeys(sources)) or "defaults"
        problems.append(SettingsProblem(source, prefix.rstrip("."), str(error)))
        return None


def _check_together(settings: BankSettings, values: Mapping[str, tuple[Any, str]], problems: list[SettingsProblem]) -> None:
    def problem(key: str, reason: str) -> None:
        problems.append(SettingsProblem(values.get(key, (None, "defaults"))[1], key, reason))

    server = settings.server
    if not settings.rails:
        problem("rails", "at least one rail is needed")
    if settings.play and not is_loopback(server.host) and not server.allow_play_on_network:
        reason = (
            f"{server.host} can be reached by other machines, and this bank's money is play money: anyone could take it for"
            " money; say --allow-play-on-network (server.allow_play_on_network) if that is meant"
        )
        problem("server.host", reason)
    names = [rail.full_name for rail in settings.rails]
    if len(set(names)) < len(names):
        problem("rails", f"names must differ: {', '.join(names)}")
    methods = [rail.method for rail in settings.rails]
    if len(set(methods)) < len(methods) and len(set(names)) == len(names):
        problem("rails", f"each serves another method: {', '.join(methods)}")
    for method in methods:
        if not _METHOD.fullmatch(method) or method == "quote":
            problem("rails", f"{method!r} cannot be a payment method: 1 to 64 of a-z, 0-9, '_' and '-', and not quote")
    for network in server.trusted_proxies:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            problem("server.trusted_proxies", f"{network!r} is no address or network")
    if server.public_url and not server.public_url.startswith(("http://", "https://")):
        problem("server.public_url", "must begin with http:// or https://")
    _check_keys(settings, problem)
    anchor = settings.audit.anchor_file
    if anchor is not None and settings.data_dir.absolute() in anchor.parents:
        problem(
            "audit.anchor_file", "is in the data directory: whoever could change the log there could change its anchor, too"
        )
    if settings.store.dsn is not None and (settings.store.path is not None or settings.store.engine is not StoreEngine.SQLITE):
        other = "store.engine" if settings.store.path is None else "store.path"
        problem("store.dsn", f"is given beside {other}; a bank has one store")
    if isinstance(settings.store.dsn, Secret) and not is_dsn(settings.store.dsn):
        problem("store.dsn", "must begin with postgresql://")
    if settings.server.workers > 1 and settings.store.dsn is None:
        problem("server.workers", "needs PostgreSQL (store.dsn): an embedded store belongs to one process")


def _check_keys(settings: BankSettings, problem: Any) -> None:
    keys = settings.keys
    given = keys.passphrase is not None or keys.passphrase_file is not None
    if keys.passphrase is not None and keys.passphrase_file is not None:
        problem("keys.passphrase_file", "is given beside a passphrase in the environment; which one is meant?")
    if isinstance(keys.passphrase, Secret) and not keys.passphrase:
        problem("keys.passphrase", "is empty")
    if keys.pkcs11.pin is not None and keys.pkcs11.pin_file is not None:
        problem("keys.pkcs11.pin_file", "is given beside a PIN in the environment; which one is meant?")
    if keys.sealing is SealingSource.PASSPHRASE and not given:
        problem("keys.sealing", "needs keys.passphrase_file, or SPECIE_PASSPHRASE in the environment")
    _check_provider(settings, problem)
    if keys.sealing is SealingSource.KEYRING and given:
        problem("keys.sealing", f"is {keys.sealing.value}, yet a passphrase is given; which one is meant?")


def _signer_files(place: RemoteKeysSettings) -> dict[str, Path | None]:
    return {"socket": place.socket, "identity": place.identity, "signer": place.signer}


def _check_provider(settings: BankSettings, problem: Any) -> None:
    keys = settings.keys
    files, standby = _signer_files(keys.remote), _signer_files(keys.standby)
    if keys.provider is KeysProvider.SOFTWARE:
        for section, given in (("remote", files), ("standby", standby)):
            for name in [name for name, path in given.items() if path is not None]:
                problem(f"keys.{section}.{name}", "is given, yet keys.provider is software; is remote meant?")
        return
    if any(standby.values()):
        for name in [name for name, path in standby.items() if path is None]:
            problem(f"keys.standby.{name}", "is needed for a second signer; specie signer pair makes the files")
        if keys.standby.socket is not None and keys.standby.socket == keys.remote.socket:
            problem("keys.standby.socket", "is the first signer's; a second one has a socket of its own")
    for name in [name for name, path in files.items() if path is None]:
        problem(f"keys.remote.{name}", "is needed where keys.provider is remote; specie signer pair makes the files")
    if keys.passphrase is not None or keys.passphrase_file is not None or keys.sealing is not SealingSource.AUTO:
        problem("keys.provider", "is remote, so this bank has no seed to seal: the passphrase or keyring is the signer's")


def example_toml() -> str:
    """A TOML file with every setting, its documentation and its default, all commented out; it loads as it stands."""
    lines = [
        "# Settings of a specie bank. Every line shows its default; remove the # to change it.",
        "# The environment wins over this file (server.port is SPECIE_SERVER_PORT), the command line over both.",
        "",
    ]
    lines += _example_keys(BankSettings, "")
    lines += ["", "# One table for each payment rail.", "# [[rails]]"]
    lines += _example_keys(RailSettings, "", skip=())
    return "\n".join(lines) + "\n"


def _example_keys(section: type, prefix: str, skip: tuple[str, ...] = ("rails", "passphrase", "pin")) -> list[str]:
    lines: list[str] = []
    tables: list[str] = []
    for spec in fields_of(section).values():
        if spec.name in skip:
            continue
        if is_section(spec.hint):
            head = _first_line(spec.hint)
            tables += ["", f"# {head}", f"[{prefix}{spec.name}]", *_example_keys(spec.hint, f"{prefix}{spec.name}.")]
            continue
        lines += [f"# {spec.doc}"] if spec.doc else []
        try:
            default = spec.default
            if isinstance(default, Path) and default.is_relative_to(Path.home()):
                default = "~/" + default.relative_to(Path.home()).as_posix()
            shown = as_toml(default)
        except TypeError:
            shown = '""'
        lines.append(f"# {spec.name} = {shown}")
    return lines + tables


def _first_line(section: type) -> str:
    """First line of a class's docstring."""
    return (section.__doc__ or section.__name__).strip().splitlines()[0]
