"""Writes `SyncWallet` from `Wallet`: every verb of it, and of what hangs on it, without `await`.

    python scripts/write_sync.py            # write src/specie/app/sync_wallet.py and sync_parts.py
    python scripts/write_sync.py --check    # say whether they are as they should be

Signatures are copied from the source as they stand, so that a type checker sees the same ones. A part is a cached property of
the engine's `WalletParts` whose class has asynchronous verbs (`def transfers(self) -> Transfers`). Asynchronous iterators are
not written: name them in LEFT_OUT with the reason.
"""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"
ENGINE, PARTS, FACE = "specie.wallet.engine.wallet", "specie.wallet.engine.parts", "specie.app.wallet"
TARGETS = {"wallet": SOURCE / "specie/app/sync_wallet.py", "parts": SOURCE / "specie/app/sync_parts.py"}
LEFT_OUT: dict[str, str] = {
    "Wallet.close": "written by hand below: it ends the thread as well",
    "Requests.watch": "a stream without end would hold its thread for good: ask `list`, or watch in an asynchronous program",
    "Exits.guard": "it never ends and would hold its thread for good: call `check_due` now and then",
    "Requests.close": "closing the wallet does it",
}
"""Verbs that are not written, with the reason."""
Verb = ast.AsyncFunctionDef | ast.FunctionDef


@dataclass
class Module:
    """A module's source: its tree, and where each name in it comes from."""

    name: str
    tree: ast.Module = field(init=False)
    origins: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        path = SOURCE / (self.name.replace(".", "/") + ".py")
        self.tree = ast.parse(path.read_text())
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    self.origins[alias.asname or alias.name] = node.module
        for node in self.tree.body:
            if isinstance(node, ast.ClassDef):
                self.origins[node.name] = self.name

    def class_named(self, name: str) -> ast.ClassDef:
        """A class at its top level."""
        return next(node for node in self.tree.body if isinstance(node, ast.ClassDef) and node.name == name)


@dataclass
class Page:
    """One file in the making: its classes, and what they need imported."""

    imports: dict[str, set[str]] = field(default_factory=dict)
    annotations: dict[str, set[str]] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)

    def need(self, module: str, name: str) -> None:
        """Import a name."""
        self.imports.setdefault(module, set()).add(name)

    def need_typed(self, module: str, name: str) -> None:
        """Import a name for type checkers."""
        self.annotations.setdefault(module, set()).add(name)

    def need_all(self, node: ast.AST, home: Module) -> None:
        """Import whatever an annotation names."""
        for one in ast.walk(node):
            if isinstance(one, ast.Name) and one.id in home.origins:
                self.need_typed(home.origins[one.id], one.id)

    def need_defaults(self, arguments: ast.arguments, home: Module) -> None:
        """Import the constants that stand as defaults."""
        for default in [*arguments.defaults, *arguments.kw_defaults]:
            for one in ast.walk(default) if default else ():
                if isinstance(one, ast.Name) and one.id in home.origins:
                    self.need(home.origins[one.id], one.id)

    def text(self, title: str, public: list[str]) -> str:
        """The whole file, formatted."""
        lines = [f'"""{title}"""', "", "from __future__ import annotations", ""]
        lines += ["from typing import TYPE_CHECKING", ""]
        lines += [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(self.imports.items())]
        lines += ["", "if TYPE_CHECKING:"]
        for module, names in sorted(self.annotations.items()):
            if late := sorted(names - self.imports.get(module, set())):
                lines.append(f"    from {module} import {', '.join(late)}")
        lines += ["", f"__all__ = {sorted(public)!r}", "", *self.classes]
        for arguments in (["check", "--fix", "--quiet", "--select", "I"], ["format", "--quiet"]):
            name = ["--stdin-filename", str(TARGETS["wallet"])]
            done = subprocess.run(
                [sys.executable, "-m", "ruff", *arguments, *name, "-"],
                input="\n".join(lines),
                capture_output=True,
                text=True,
                check=True,
            )
            lines = done.stdout.split("\n")
        return done.stdout


def verbs(node: ast.ClassDef) -> list[Verb]:
    """The public methods of a class, as they stand."""
    return [
        one for one in node.body if isinstance(one, ast.AsyncFunctionDef | ast.FunctionDef) and not one.name.startswith("_")
    ]


def simplified(verb: Verb, home: Module) -> ast.arguments:
    """The verb's parameters, with constants of its module as the values they have."""
    arguments = verb.args
    namespace = vars(importlib.import_module(home.name))
    for defaults in (arguments.defaults, arguments.kw_defaults):
        for place, value in enumerate(defaults):
            if isinstance(value, ast.Name):
                defaults[place] = ast.Constant(namespace[value.id])
    return arguments


def call_of(arguments: ast.arguments) -> str:
    """How a call passes all parameters on."""
    given = [one.arg for one in [*arguments.posonlyargs, *arguments.args] if one.arg != "self"]
    given += [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    given += [f"{one.arg}={one.arg}" for one in arguments.kwonlyargs]
    given += [f"**{arguments.kwarg.arg}"] if arguments.kwarg else []
    return ", ".join(given)


def method(verb: Verb, owner: str, home: Module, page: Page, inner: str) -> str:
    """One verb without `await`; nothing where it is left out."""
    name = f"{owner}.{verb.name}"
    decorators = {ast.unparse(one) for one in verb.decorator_list}
    if name in LEFT_OUT or decorators & {"classmethod", "staticmethod"}:
        return ""
    returns = "None" if verb.returns is None else ast.unparse(verb.returns)
    if isinstance(verb, ast.AsyncFunctionDef) and any(isinstance(one, ast.Yield | ast.YieldFrom) for one in ast.walk(verb)):
        raise SystemExit(f"{name} is an asynchronous iterator: name it in LEFT_OUT with the reason")
    if returns.startswith(("AsyncIterator", "AsyncGenerator")):
        raise SystemExit(f"{name} gives an asynchronous iterator: name it in LEFT_OUT with the reason")
    page.need_all(verb.args, home)
    if verb.returns is not None:
        page.need_all(verb.returns, home)
    arguments = simplified(verb, home)
    page.need_defaults(arguments, home)
    if decorators & {"property", "cached_property"}:
        body = f"{inner}.{verb.name}"
    else:
        body = f"{inner}.{verb.name}({call_of(arguments)})"
    if isinstance(verb, ast.AsyncFunctionDef):
        body = f"self._thread.run({body})"
    back = body if returns == "None" else f"return {body}"
    head = "    @property\n" if decorators & {"property", "cached_property"} else ""
    return f'{head}    def {verb.name}({ast.unparse(arguments)}) -> {returns}:\n        """As `{name}`."""\n        {back}\n'


def parts(hung: Module) -> dict[str, tuple[str, Module]]:
    """What hangs on the wallet: attribute to class and its module."""
    found: dict[str, tuple[str, Module]] = {}
    for node in hung.class_named("WalletParts").body:
        if isinstance(node, ast.FunctionDef) and isinstance(node.returns, ast.Name):
            kind = node.returns.id
            module = Module(hung.origins[kind])
            if any(isinstance(one, ast.AsyncFunctionDef) for one in verbs(module.class_named(kind))):
                found[node.name] = (kind, module)
    return found


def part_class(kind: str, module: Module, page: Page) -> str:
    """The class of one part without `await`."""
    page.need_typed(module.name, kind)
    page.need_typed("specie.app.loop_thread", "LoopThread")
    methods = [method(one, kind, module, page, "self._inner") for one in verbs(module.class_named(kind))]
    return (
        f'class Sync{kind}:\n    """As `{kind}`, without `await`."""\n\n'
        f"    def __init__(self, inner: {kind}, thread: LoopThread) -> None:\n"
        f'        """Run the verbs of `inner` on `thread`."""\n'
        "        self._inner = inner\n        self._thread = thread\n\n" + "\n".join(one for one in methods if one)
    )


_HEAD = '''class SyncWallet:
    """`Wallet` without `await`: the same verbs, run on a loop of its own in a thread of its own.

        with SyncWallet.open("alice") as wallet:
            wallet.send(21)

    Any thread may call it, several at once too. A call that is interrupted (Ctrl-C) is cancelled; `resume` settles it.

    Attributes:
{attributes}
    """

    def __init__(self, opening: Opening) -> None:
        """Start the loop and open; use `SyncWallet.open`."""
        self._thread = LoopThread("specie-wallet")
        self._run = self._thread.run
        try:
            self._wallet = self._thread.run(_opened(opening))
        except BaseException:
            self._thread.stop()
            raise

{made}
    @classmethod
    def open({parameters}) -> SyncWallet:
        """As `Wallet.open`, at once. Close it, or use it in a `with`."""
        return cls(Wallet.open({call}))

    def close(self) -> None:
        """As `Wallet.close`; ends the thread."""
        if self._thread.closed:
            return
        self._thread.run(self._wallet.close())
        self._thread.stop()

    def __enter__(self) -> SyncWallet:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

'''
_TAIL = '''

async def _opened(opening: Opening) -> Wallet:
    return await opening


async def _made(make: Callable[[], T]) -> T:
    """A part of the wallet, made on its loop: two threads that ask for it at once get the same."""
    return make()
'''
_PART = '''
    @cached_property
    def {name}(self) -> Sync{kind}:
        """As `Wallet.{name}`, without `await`."""
        from specie.app.sync_parts import Sync{kind}

        return Sync{kind}(self._run(_made(lambda: self._wallet.{name})), self._thread)
'''


def written() -> dict[str, str]:
    """Both files as they should be."""
    engine, face = Module(ENGINE), Module(FACE)
    hung = parts(Module(PARTS))
    pieces, page = Page(), Page()
    pieces.classes = [part_class(kind, module, pieces) for kind, module in hung.values()]
    for module, name in (
        ("functools", "cached_property"),
        ("typing", "TypeVar"),
        ("specie.app.loop_thread", "LoopThread"),
        (FACE, "Wallet"),
    ):
        page.need(module, name)
    for module, name in (("collections.abc", "Callable"), ("types", "TracebackType"), (FACE, "Opening")):
        page.need_typed(module, name)
    for kind, _ in hung.values():
        page.need_typed("specie.app.sync_parts", f"Sync{kind}")
    face_class = face.class_named("Wallet")
    opening = next(one for one in verbs(face_class) if one.name == "open")
    page.need_all(opening.args, face)
    page.need_defaults(opening.args, face)
    fields = [
        one
        for one in face_class.body
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and not one.target.id.startswith("_")
    ]
    text = _HEAD.format(
        attributes="\n".join(f"        {name}: as `Wallet.{name}`." for name in hung),
        made="".join(_PART.format(name=name, kind=kind) for name, (kind, _) in hung.items()).lstrip("\n"),
        parameters=ast.unparse(opening.args),
        call=call_of(ast.arguments([], opening.args.args[1:], None, opening.args.kwonlyargs, [], None, [])),
    )
    for one in fields:
        page.need_all(one.annotation, face)
        name, kind = ast.unparse(one.target), ast.unparse(one.annotation)
        text += f'    @property\n    def {name}(self) -> {kind}:\n        """As `Wallet.{name}`."""\n'
        text += f"        return self._wallet.{name}\n\n"
    own = verbs(face_class)
    overridden = {one.name for one in own}
    methods = [method(one, "Wallet", face, page, "self._wallet") for one in own]
    methods += [
        method(one, "Wallet", engine, page, "self._wallet")
        for one in verbs(engine.class_named("Wallet"))
        if one.name not in overridden
    ]
    page.classes = ['T = TypeVar("T")\n', text + "\n".join(one for one in methods if one) + _TAIL]
    note = "Written by scripts/write_sync.py from `Wallet`: change that, and run it again."
    return {
        "wallet": page.text(f"`SyncWallet`: the wallet without a loop.\n\n{note}\n", ["SyncWallet"]),
        "parts": pieces.text(
            f"What hangs on a `SyncWallet`: the parts of `Wallet` without `await`.\n\n{note}\n",
            [f"Sync{kind}" for kind, _ in hung.values()],
        ),
    }


def main() -> int:
    """Write the files, or with `--check` compare them."""
    stale = [name for name, text in written().items() if not TARGETS[name].exists() or TARGETS[name].read_text() != text]
    if "--check" in sys.argv[1:]:
        if stale:
            sys.stderr.write(f"stale: {', '.join(str(TARGETS[name].name) for name in stale)}; run scripts/write_sync.py\n")
        return 1 if stale else 0
    for name, text in written().items():
        TARGETS[name].write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
