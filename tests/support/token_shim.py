"""A shim around python-pkcs11: real calls of a real token, any of which a test may delay, refuse or falsify.

`hooks` maps the name of a method (`derive_key`, `sign`, `get_objects`, `getitem`, ...) to a function that is called with the
real method and its arguments, in its place.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["ShimPackage"]

_PLAIN = (str, bytes, int, float, set, frozenset, type(None))


class ShimPackage:
    """In the place of the package `pkcs11`. `calls` counts what was called."""

    def __init__(self) -> None:
        self._real = importlib.import_module("pkcs11")
        self.hooks: dict[str, Callable[..., Any]] = {}
        self.calls: Counter[str] = Counter()

    def lib(self, path: str) -> Any:
        """The module, wrapped."""
        return _Shim(self._real.lib(path), self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def wrapped(self, value: Any) -> Any:
        """Objects of the token wrapped, plain values as they are."""
        if isinstance(value, _PLAIN):
            return value
        if isinstance(value, (list, tuple, Iterator)):
            return tuple(self.wrapped(one) for one in value)
        return _Shim(value, self)

    def done(self, name: str, real: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """One call, by its hook if there is one."""
        self.calls[name] += 1
        hook = self.hooks.get(name)
        return self.wrapped(real(*arguments, **named) if hook is None else hook(real, *arguments, **named))


class _Shim:
    def __init__(self, real: Any, package: ShimPackage) -> None:
        self.real = real
        self._package = package

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.real, name)
        if not callable(value):
            return self._package.wrapped(value)
        return lambda *arguments, **named: self._package.done(name, value, *arguments, **named)

    def __getitem__(self, attribute: Any) -> Any:
        return self._package.done("getitem", self.real.__getitem__, attribute)
