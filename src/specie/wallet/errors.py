"""What the wallet itself refuses, and what it catches a mint doing; one class for each thing a caller can do about it."""

from __future__ import annotations

from specie.kernel.errors import PeerFaultError, RefusedError, UnavailableError, UncertainError

__all__ = [
    "BreakerOpenError",
    "DleqMissingError",
    "FeeExceedsLimitError",
    "FeeExceedsValueError",
    "InsufficientFundsError",
    "KeysetCollisionError",
    "MintHoldsMoneyError",
    "MintLeavingError",
    "MintUnknownError",
    "MintUntrustedError",
    "OfflineRefusedError",
    "OperationBusyError",
    "OperationFailedError",
    "OperationOpenError",
    "PaymentPendingError",
    "QuoteUnknownError",
    "TokenLockedError",
    "TokenUnknownError",
    "UnsupportedError",
]


class MintUnknownError(RefusedError):
    """The wallet does not know this mint: add it first.

    Attributes:
        mint: its normalised URL.
    """

    def __init__(self, mint: str) -> None:
        super().__init__(f"this wallet does not know the mint {mint}")
        self.mint = mint


class MintUntrustedError(MintUnknownError):
    """A token comes from a mint that the owner has not said to trust; nothing was sent anywhere."""


class MintLeavingError(RefusedError):
    """The owner leaves this mint, so nothing new is taken there.

    Attributes:
        mint: its normalised URL.
    """

    def __init__(self, mint: str) -> None:
        super().__init__(f"this wallet is leaving the mint {mint} and takes nothing new there")
        self.mint = mint


class MintHoldsMoneyError(RefusedError):
    """A mint is not removed while money is there or may still arrive.

    Attributes:
        mint: its normalised URL.
        reasons: what is there, a phrase each.
    """

    def __init__(self, mint: str, reasons: tuple[str, ...]) -> None:
        super().__init__(f"{mint} is not removed: {', '.join(reasons)}")
        self.mint = mint
        self.reasons = reasons


class OfflineRefusedError(RefusedError):
    """The owner's policy does not take this token off-line; nothing was kept of it.

    Attributes:
        rule: which rule says so, such as `unlocked` or `total_most`.
    """

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(detail)
        self.rule = rule


class InsufficientFundsError(RefusedError):
    """There are not enough coins that are free to spend.

    Attributes:
        needed: what the verb needs, fees included, in the unit's minor unit.
        available: what is free at the mint in question.
        unit: the unit.
    """

    def __init__(self, needed: int, available: int, unit: str) -> None:
        super().__init__(f"{needed} {unit} are needed, {available} {unit} are free to spend")
        self.needed = needed
        self.available = available
        self.unit = unit


class FeeExceedsValueError(RefusedError):
    """The mint's input fee eats the whole value: there is nothing to gain by redeeming these coins.

    Attributes:
        fee: the fee.
        value: the value.
    """

    def __init__(self, fee: int, value: int, unit: str) -> None:
        super().__init__(f"the fee of {fee} {unit} is not less than the value of {value} {unit}")
        self.fee = fee
        self.value = value


class FeeExceedsLimitError(RefusedError):
    """The payment could cost more than the caller allows; nothing was sent.

    Attributes:
        fee: the most it could cost.
        max_fee: what is allowed.
    """

    def __init__(self, fee: int, max_fee: int, unit: str) -> None:
        super().__init__(f"the fee could be {fee} {unit}, more than the allowed {max_fee} {unit}")
        self.fee = fee
        self.max_fee = max_fee


class TokenLockedError(RefusedError):
    """The token is locked and this wallet holds no key, preimage or elapsed locktime that opens it."""


class TokenUnknownError(RefusedError):
    """No token like this was sent from this wallet."""


class QuoteUnknownError(RefusedError):
    """The wallet has no quote of this id."""


class DleqMissingError(RefusedError):
    """Off-line receipt needs a DLEQ proof on every coin (NUT-12); absence is not a pass."""


class UnsupportedError(RefusedError):
    """The mint does not offer what the verb needs.

    Attributes:
        nut: number of the specification that is missing.
    """

    def __init__(self, detail: str, *, nut: int) -> None:
        super().__init__(detail)
        self.nut = nut


class OperationBusyError(RefusedError):
    """The quote is being worked on by another operation of this wallet."""


class OperationFailedError(RefusedError):
    """The operation came to nothing; its inputs are free again, or known to be spent by somebody else.

    Attributes:
        operation: its id.
    """

    def __init__(self, detail: str, *, operation: str, code: int | None = None) -> None:
        super().__init__(detail, code=code)
        self.operation = operation


class OperationOpenError(UncertainError):
    """It is not known yet what became of the operation: its coins stay locked, and `resume` will settle it."""


class PaymentPendingError(UncertainError):
    """The payment is on its way; its coins stay locked until the mint knows the end."""


class KeysetCollisionError(PeerFaultError):
    """A mint announces a keyset whose id belongs to another mint, or whose counters would meet another keyset's."""


class BreakerOpenError(UnavailableError):
    """The mint was unreachable several times in a row; it is asked again after `retry_after_s`."""
