"""The source keeps the house's rules: small documented modules, whole front doors, no marks of unfinished work."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
MODULES = sorted((SOURCE / "specie").rglob("*.py"))
MOST_LINES = 600


def _name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = [_name(path) for path in MODULES if path.name != "__main__.py"]


def test_there_is_a_source_to_check() -> None:
    """The tests below prove something only if they see the house."""
    assert len(MODULES) > 100
    assert "specie.mint.engine.melt" in NAMES


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_module_is_small_documented_and_finished(path: Path) -> None:
    """At most 600 lines, a docstring, postponed annotations wherever something is defined, no print and no unfinished work."""
    text = path.read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= MOST_LINES
    assert ast.get_docstring(tree)
    if any(isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.AnnAssign)) for node in tree.body):
        futures = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
        assert "annotations" in {alias.name for node in futures for alias in node.names}
    calls = [node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    assert "print" not in calls
    assert "breakpoint" not in calls
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text)
    raised = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and node.exc is not None]
    assert "NotImplementedError" not in {getattr(getattr(exc, "func", exc), "id", "") for exc in raised}


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_exists_and_is_documented(name: str) -> None:
    """`__all__` names what is there, each once; every class and function of it says what it is."""
    module = importlib.import_module(name)
    public = getattr(module, "__all__", [])
    assert len(public) == len(set(public))
    for one in public:
        value = getattr(module, one)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{name}.{one} has no docstring"


def test_front_doors_name_what_they_open() -> None:
    """Whatever a package imports into its front door under a public name, it names in `__all__`."""
    for path in MODULES:
        body = ast.parse(path.read_text()).body[1:]
        if path.name != "__init__.py" or not all(isinstance(node, (ast.ImportFrom, ast.Assign)) for node in body):
            continue  # a front door opens and does nothing else; what does more is a module in its own right
        module = importlib.import_module(_name(path))
        imported = {
            alias.asname or alias.name
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.ImportFrom) and node.module != "__future__"
            for alias in node.names
        }
        public = {one for one in imported if not one.startswith("_")} - {"TYPE_CHECKING"}
        assert public <= set(getattr(module, "__all__", [])), _name(path)


def _late_names(tree: ast.Module) -> tuple[set[tuple[str, str]], set[tuple[str, str]]] | None:
    """Of a front door that opens late: the names that type checkers see, and those that it opens, each with its room."""
    for node in tree.body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and node.orelse:
            (door,) = (one for one in ast.walk(node) if isinstance(one, ast.Call) and ast.unparse(one.func) == "front_door")
            rooms = ast.literal_eval(door.args[1])
            seen = {
                (one.module or "", alias.asname or alias.name)
                for one in node.body
                if isinstance(one, ast.ImportFrom)
                for alias in one.names
            }
            return seen, {(room, name) for room, names in rooms.items() for name in names}
    return None


def test_late_front_doors_open_what_type_checkers_see() -> None:
    """A package that imports its names when they are asked for says the same three times, and each name is where it says."""
    found = 0
    for path in MODULES:
        late = _late_names(ast.parse(path.read_text()))
        if late is None:
            continue
        found += 1
        seen, opened = late
        name = _name(path)
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        assert {(f"{package}.{room}" if room else package, one) for room, one in opened} == seen, name
        module = importlib.import_module(name)
        assert sorted(module.__all__) == sorted(one for _, one in opened), name
        for room, one in opened:
            home = importlib.import_module(f"{package}.{room or one}")
            assert getattr(module, one) is (getattr(home, one) if room else home)
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            _ = module.nothing
    assert found > 10


def test_error_codes_have_one_class_each() -> None:
    """The table of NUT codes is one to one, each class carries its code, and no other class claims one of them."""
    from specie.ecash import codes
    from specie.kernel import RefusedError

    assert len(set(codes.CODES.values())) == len(codes.CODES)
    for code, one in codes.CODES.items():
        assert one.code == code
        assert codes.error_from_code(code, "why").code == code
        assert type(codes.error_from_code(code, "why")) is one
    for name in NAMES:
        importlib.import_module(name)
    pending, owners = [RefusedError], {code: set[str]() for code in codes.CODES}
    while pending:
        one = pending.pop()
        pending += one.__subclasses__()
        code = vars(one).get("code")
        if isinstance(code, int) and one is not codes.ConditionMalformedError and one.__module__.startswith("specie."):
            owners[code].add(f"{one.__module__}.{one.__name__}")
    assert {code: names for code, names in owners.items() if len(names) != 1} == {}


def test_errors_end_in_error_and_stand_in_the_tree() -> None:
    """Every exception of the house is a leaf of one tree, so that a caller always knows what to do next."""
    from specie.kernel import SpecieError

    strays = []
    for name in NAMES:
        module = importlib.import_module(name)
        for one in vars(module).values():
            if (
                inspect.isclass(one)
                and issubclass(one, Exception)
                and one.__module__ == name
                and not one.__name__.startswith("_")
            ):
                assert one.__name__.endswith("Error"), one
                if not issubclass(one, SpecieError):
                    strays.append(f"{name}.{one.__name__}")
    assert sorted(strays) == [
        "specie.server.http.PeerGoneError",  # nobody is left to be told anything
        "specie.storage.deferred.RerunError",  # never leaves an engine
    ]


def _modules_after(code: str) -> set[str]:
    """What a fresh interpreter loads for `code`; not what it brings along, as it does where coverage is counted."""
    program = f"import sys\nold = set(sys.modules)\n{code}\nsys.stderr.write(chr(10) + '|'.join(set(sys.modules) - old))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT)
    return set(done.stderr.rpartition("\n")[2].split("|"))


def _within(loaded: set[str], *packages: str) -> set[str]:
    return {name for name in loaded if any(name == one or name.startswith(f"{one}.") for one in packages)}


def test_a_wallet_loads_no_server() -> None:
    """`specie.Wallet` brings in no web framework, no mint and no database server's driver."""
    loaded = _modules_after("import specie\nspecie.Wallet\nspecie.SyncWallet")
    assert "specie.wallet" in loaded
    assert not _within(loaded, "starlette", "uvicorn", "specie.server", "specie.mint", "specie.ops", "specie.cli", "asyncpg")


HEAVY = (
    *("httpx2", "httpcore2", "websockets", "keyring", "apsw", "asyncpg", "rocksdict", "uvicorn", "starlette", "nostr_sdk"),
    *("cryptography", "btclib_secp256k1", "msgspec", "cbor2", "mnemonic", "joserfc", "segno", "platformdirs"),
    *("asyncio", "logging", "ssl", "email", "importlib.metadata", "dataclasses", "inspect", "pathlib", "ctypes"),
    *("specie.storage", "specie.lightning", "specie.wallet.adapters", "specie.keys", "specie.ecash.wire", "specie.app.vault"),
)
"""What the class `Wallet` is loaded without."""
TALKATIVE = (
    *("httpx2", "httpcore2", "websockets", "keyring", "asyncpg", "rocksdict", "nostr_sdk", "cbor2", "email"),
    *("importlib.metadata", "specie.lightning", "specie.ecash.requests", "specie.wallet.adapters.http", "specie.app.vault"),
    *("specie.wallet.engine.requests", "specie.wallet.engine.exits", "specie.wallet.engine.pay", "specie.wallet.engine.auth"),
)
"""What an open wallet does without until a mint is asked or a part is used."""


def test_the_wallet_is_loaded_without_what_it_does_not_need_yet() -> None:
    """`specie.Wallet` is the class itself, and brings in no library that its verbs need, nor the loop they run on."""
    loaded = _modules_after("import specie\nassert specie.Wallet.pay.__module__ == 'specie.wallet.engine.wallet'")
    assert _within(loaded, "specie.app.wallet", "specie.wallet.engine.wallet") == {
        "specie.app.wallet",
        "specie.wallet.engine.wallet",
    }
    assert not _within(loaded, *HEAVY)
    assert len(loaded) < 100


def test_a_wallet_is_opened_without_what_it_does_not_need_yet(tmp_path: Path) -> None:
    """A wallet of play money that is opened, asked what it holds and closed has loaded no client and none of its parts."""
    code = f"""
import asyncio, pathlib, specie
home = pathlib.Path({str(tmp_path)!r})
async def look():
    sealed = specie.SealSource(play_key=True)
    async with specie.Wallet.open(home / "wallet", sealed=sealed, config_home=home / "config") as wallet:
        assert (await wallet.balance()).available == 0
asyncio.run(look())
"""
    loaded = _modules_after(code)
    assert "specie.wallet.adapters.store_sql" in loaded
    assert not _within(loaded, *TALKATIVE)


def test_importing_specie_loads_next_to_nothing() -> None:
    """The version can be had without an event loop, a curve or a store."""
    loaded = _modules_after("import specie\nspecie.__version__")
    assert _within(loaded, "specie") == {"specie", "specie._version"}


def test_help_is_light() -> None:
    """`specie --help` loads no server, mint, store, curve or event loop: it is counted in modules, for time is noisy."""
    loaded = _modules_after("from specie.cli.program import run\nassert run(['--help']) == 0")
    heavy = ("starlette", "uvicorn", "asyncpg", "apsw", "cryptography", "btclib_secp256k1", "httpx2", "keyring", "asyncio")
    assert not _within(loaded, *heavy, "specie.server", "specie.mint", "specie.wallet", "specie.app", "specie.ecash")
    assert len(loaded) < 400
