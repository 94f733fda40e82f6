"""What the wallet itself refuses, and what it catches a mint doing; one class for each thing a caller can do about it."""

from __future__ import annotations

from specie.kernel.errors import MalformedError, PeerFaultError, RefusedError, UnavailableError, UncertainError

__all__ = [
    "BackupForeignError",
    "BackupLockedError",
    "BackupMalformedError",
    "BreakerOpenError",
    "DeliveryFailedError",
    "DleqMissingError",
    "FeeExceedsLimitError",
    "FeeExceedsValueError",
    "InsufficientFundsError",
    "KeysetCollisionError",
    "LiabilitiesBrokenError",
    "LoginRefusedError",
    "LoginRequiredError",
    "MintHoldsMoneyError",
    "MintLeavingError",
    "MintUnknownError",
    "MintUntrustedError",
    "OfflineRefusedError",
    "OperationBusyError",
    "OperationFailedError",
    "OperationOpenError",
    "PaymentPendingError",
    "PaymentTornError",
    "PaymentUnfitError",
    "QuoteUnknownError",
    "RequestClosedError",
    "RequestPaidError",
    "RequestUnknownError",
    "SpendingLimitError",
    "TokenLockedError",
    "TokenUnknownError",
    "TokenUsedError",
    "TransportUnsupportedError",
    "UnsupportedError",
]


class BackupMalformedError(MalformedError):
    """The file is no backup of a wallet, was changed or cut short, or is of a later version."""


class BackupLockedError(RefusedError):
    """Nothing that was given opens the backup.

    Attributes:
        ways: what can open it: `words`, `passphrase`.
    """

    def __init__(self, detail: str, *, ways: frozenset[str]) -> None:
        super().__init__(detail)
        self.ways = ways


class BackupForeignError(RefusedError):
    """The backup is of another wallet (other words); nothing was changed."""


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


class TokenUsedError(RefusedError):
    """The token has been spent, or has paid for a resource and is not honoured again."""


class PaymentUnfitError(RefusedError):
    """A payment request asks for what this wallet cannot or must not pay; nothing was sent."""


class SpendingLimitError(RefusedError):
    """The payment would exceed what the owner allows; nothing was sent.

    Attributes:
        host: whom it would have paid.
        asked: what it would have cost, in the minor unit.
        allowed: what may be paid still.
    """

    def __init__(self, host: str, asked: int, allowed: int, unit: str) -> None:
        super().__init__(f"{host} asks for {asked} {unit}, and {allowed} {unit} are allowed")
        self.host = host
        self.asked = asked
        self.allowed = allowed


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


class RequestUnknownError(RefusedError):
    """This wallet has not made a payment request of this id, or has not paid one."""


class RequestClosedError(RefusedError):
    """The payment request takes no (more) payments: it was for single use and is paid, or it was cancelled.

    The coins that came were not touched, so the payer still has them.
    """


class RequestPaidError(RefusedError):
    """This wallet has paid this single-use request before; nothing was done.

    Attributes:
        payment: id of that payment.
    """

    def __init__(self, payment: str) -> None:
        super().__init__("this wallet has paid this request before, and it is for single use")
        self.payment = payment


class TransportUnsupportedError(RefusedError):
    """The payment request can be delivered by no transport that this wallet has; nothing was done."""


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


class DeliveryFailedError(UncertainError):
    """The coins of a payment are made, and were not delivered: deliver them again, or take them back. Do not pay again.

    Attributes:
        reference: id of the payment.
    """


class PaymentPendingError(UncertainError):
    """The payment is on its way; its coins stay locked until the mint knows the end."""


class PaymentTornError(UncertainError):
    """Some mints say that they paid their part of an invoice, others that they did not, for good (NUT-15).

    An honest receiver takes all parts or none, so somebody is wrong. Nothing is paid again by itself; a human looks.
    """


class KeysetCollisionError(PeerFaultError):
    """A mint announces a keyset whose id belongs to another mint, or whose counters would meet another keyset's."""


class BreakerOpenError(UnavailableError):
    """The mint was unreachable several times in a row; it is asked again after `retry_after_s`."""


class LiabilitiesBrokenError(PeerFaultError):
    """What a mint proves of its liabilities does not hold, or leaves out or changes a coin of this wallet."""


class LoginRequiredError(RefusedError):
    """The mint serves users that have logged in, and this wallet has not, or its login has ended; nothing was sent.

    Attributes:
        mint: its normalised URL.
    """

    def __init__(self, mint: str) -> None:
        super().__init__(f"this mint asks for a login: specie wallet login {mint}")
        self.mint = mint


class LoginRefusedError(RefusedError):
    """The login provider said no.

    Attributes:
        reason: its error code (RFC 6749 §5.2), as `invalid_grant`; "" where it gave none.
    """

    def __init__(self, detail: str, *, reason: str = "") -> None:
        super().__init__(detail)
        self.reason = reason
