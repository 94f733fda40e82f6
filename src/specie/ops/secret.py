"""`Secret`: a value that must be asked for by name before it can be seen, and that no log, repr or pickle gives away.

Not here: wiping memory. Python copies strings freely, so a promise to wipe them would be false.
"""

from __future__ import annotations

import hmac
from typing import Any, NoReturn, final

__all__ = ["REDACTED", "Secret"]

REDACTED = "[redacted]"
"""What stands in the place of a secret wherever text is made."""


@final
class Secret:
    """Text or bytes that only `reveal` shows. It cannot be pickled, formatted with a specification, or made JSON."""

    __slots__ = ("_value",)

    def __init__(self, value: str | bytes) -> None:
        self._value = value.encode() if isinstance(value, str) else bytes(value)

    def reveal(self) -> str:
        """The secret as text. ValueError if it is no UTF-8."""
        return self._value.decode()

    def reveal_bytes(self) -> bytes:
        """The secret as bytes; text is UTF-8."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Secret({REDACTED})"

    __str__ = __repr__

    def __format__(self, specification: str) -> str:
        return repr(self)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")

    __reduce__ = __getstate__ = __reduce_ex__  # type: ignore[assignment]
