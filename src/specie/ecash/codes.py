"""The NUT error codes: one class each, all leaves of RefusedError (error_codes.md of the NUTs).

Not here: HTTP status codes and bodies (`wire` writes the body, `server` the status). Spending conditions have no code of
their own in the specification and peers disagree (CDK answers 20008, Nutshell 11000); ours is 10001, "proof verification
failed", the official code that says what happened: the proof may not be spent in this way.
"""

from __future__ import annotations

from specie.kernel.errors import MalformedError, RefusedError

__all__ = [
    "CODES",
    "AmountMismatchError",
    "AmountOutOfRangeError",
    "AmountlessUnsupportedError",
    "BatchTooLargeError",
    "BlindAuthFailedError",
    "BlindAuthRateLimitedError",
    "BlindAuthRequiredError",
    "BlindAuthTooManyError",
    "ClearAuthFailedError",
    "ClearAuthRequiredError",
    "ConditionMalformedError",
    "ConditionUnmetError",
    "DuplicateInputsError",
    "DuplicateOutputsError",
    "DuplicateQuotesError",
    "InvoicePaidError",
    "KeysetExpiredError",
    "KeysetInactiveError",
    "KeysetUnknownError",
    "MintingDisabledError",
    "MixedUnitsError",
    "OutputsPendingError",
    "OutputsSignedError",
    "PaymentFailedError",
    "ProofInvalidError",
    "ProofsPendingError",
    "ProofsSpentError",
    "QuoteExpiredError",
    "QuoteIssuedError",
    "QuotePendingError",
    "QuotePubkeyRequiredError",
    "QuoteSignatureInvalidError",
    "QuoteUnpaidError",
    "TooManyInputsError",
    "TooManyOutputsError",
    "UnbalancedError",
    "UnitMismatchError",
    "UnitUnsupportedError",
    "error_from_code",
]


class ProofInvalidError(RefusedError):
    """A proof does not verify (also the parent of unmet spending conditions)."""

    code = 10001

    def __init__(self, detail: str = "Proof verification failed") -> None:
        super().__init__(detail)


class ProofsSpentError(RefusedError):
    """A proof was spent before."""

    code = 11001

    def __init__(self, detail: str = "Proofs already spent") -> None:
        super().__init__(detail)


class ProofsPendingError(RefusedError):
    """A proof is locked by another request that is not finished."""

    code = 11002

    def __init__(self, detail: str = "Proofs are pending") -> None:
        super().__init__(detail)


class OutputsSignedError(RefusedError):
    """A blinded message was signed before."""

    code = 11003

    def __init__(self, detail: str = "Outputs already signed") -> None:
        super().__init__(detail)


class OutputsPendingError(RefusedError):
    """A blinded message waits in another request."""

    code = 11004

    def __init__(self, detail: str = "Outputs are pending") -> None:
        super().__init__(detail)


class UnbalancedError(RefusedError):
    """Inputs less fees are not equal to the outputs."""

    code = 11005

    def __init__(self, detail: str = "Transaction is not balanced (inputs != outputs)") -> None:
        super().__init__(detail)


class AmountOutOfRangeError(RefusedError):
    """An amount is outside of the limits the mint announces."""

    code = 11006

    def __init__(self, detail: str = "Amount outside of limit range") -> None:
        super().__init__(detail)


class DuplicateInputsError(RefusedError):
    """A proof stands twice among the inputs."""

    code = 11007

    def __init__(self, detail: str = "Duplicate inputs provided") -> None:
        super().__init__(detail)


class DuplicateOutputsError(RefusedError):
    """A blinded message stands twice among the outputs."""

    code = 11008

    def __init__(self, detail: str = "Duplicate outputs provided") -> None:
        super().__init__(detail)


class MixedUnitsError(RefusedError):
    """Inputs, or outputs, of several units."""

    code = 11009

    def __init__(self, detail: str = "Inputs/Outputs of multiple units") -> None:
        super().__init__(detail)


class UnitMismatchError(RefusedError):
    """Inputs and outputs are of different units."""

    code = 11010

    def __init__(self, detail: str = "Inputs and outputs not of same unit") -> None:
        super().__init__(detail)


class AmountlessUnsupportedError(RefusedError):
    """The mint pays no invoice without an amount."""

    code = 11011

    def __init__(self, detail: str = "Amountless invoice is not supported") -> None:
        super().__init__(detail)


class AmountMismatchError(RefusedError):
    """The amount asked for is not that of the invoice."""

    code = 11012

    def __init__(self, detail: str = "Amount in request does not equal invoice") -> None:
        super().__init__(detail)


class UnitUnsupportedError(RefusedError):
    """The mint does not serve this unit (with this method)."""

    code = 11013

    def __init__(self, detail: str = "Unit in request is not supported") -> None:
        super().__init__(detail)


class TooManyInputsError(RefusedError):
    """More inputs than the mint takes in one request."""

    code = 11014

    def __init__(self, detail: str = "Max inputs exceeded") -> None:
        super().__init__(detail)


class TooManyOutputsError(RefusedError):
    """More outputs than the mint takes in one request."""

    code = 11015

    def __init__(self, detail: str = "Max outputs exceeded") -> None:
        super().__init__(detail)


class DuplicateQuotesError(RefusedError):
    """A quote stands twice in a batch."""

    code = 11016

    def __init__(self, detail: str = "Duplicate quote IDs provided") -> None:
        super().__init__(detail)


class BatchTooLargeError(RefusedError):
    """More quotes than the mint takes in one batch."""

    code = 11017

    def __init__(self, detail: str = "Max batch size exceeded") -> None:
        super().__init__(detail)


class KeysetUnknownError(RefusedError):
    """No such keyset."""

    code = 12001

    def __init__(self, detail: str = "Keyset is not known") -> None:
        super().__init__(detail)


class KeysetInactiveError(RefusedError):
    """The keyset signs no more."""

    code = 12002

    def __init__(self, detail: str = "Keyset is inactive, cannot sign messages") -> None:
        super().__init__(detail)


class KeysetExpiredError(RefusedError):
    """The keyset's final expiry has passed."""

    code = 12003

    def __init__(self, detail: str = "Keyset has expired") -> None:
        super().__init__(detail)


class QuoteUnpaidError(RefusedError):
    """The quote is not paid."""

    code = 20001

    def __init__(self, detail: str = "Quote request is not paid") -> None:
        super().__init__(detail)


class QuoteIssuedError(RefusedError):
    """The quote's ecash was issued before."""

    code = 20002

    def __init__(self, detail: str = "Quote has already been issued") -> None:
        super().__init__(detail)


class MintingDisabledError(RefusedError):
    """The mint issues nothing at present."""

    code = 20003

    def __init__(self, detail: str = "Minting is disabled") -> None:
        super().__init__(detail)


class PaymentFailedError(RefusedError):
    """The Lightning payment failed for good; the inputs are free again."""

    code = 20004

    def __init__(self, detail: str = "Lightning payment failed") -> None:
        super().__init__(detail)


class QuotePendingError(RefusedError):
    """A payment for the quote is on its way."""

    code = 20005

    def __init__(self, detail: str = "Quote is pending") -> None:
        super().__init__(detail)


class InvoicePaidError(RefusedError):
    """The invoice was paid before."""

    code = 20006

    def __init__(self, detail: str = "Invoice already paid") -> None:
        super().__init__(detail)


class QuoteExpiredError(RefusedError):
    """The quote has expired."""

    code = 20007

    def __init__(self, detail: str = "Quote is expired") -> None:
        super().__init__(detail)


class QuoteSignatureInvalidError(RefusedError):
    """The signature for a locked quote is missing or wrong (NUT-20)."""

    code = 20008

    def __init__(self, detail: str = "Signature for mint request invalid") -> None:
        super().__init__(detail)


class QuotePubkeyRequiredError(RefusedError):
    """The method needs a valid public key in the quote (NUT-20)."""

    code = 20009

    def __init__(self, detail: str = "Pubkey required for mint quote") -> None:
        super().__init__(detail)


class ClearAuthRequiredError(RefusedError):
    """The endpoint needs a clear authentication token (NUT-21)."""

    code = 30001

    def __init__(self, detail: str = "Endpoint requires clear auth") -> None:
        super().__init__(detail)


class ClearAuthFailedError(RefusedError):
    """The clear authentication token is not accepted (NUT-21)."""

    code = 30002

    def __init__(self, detail: str = "Clear authentication failed") -> None:
        super().__init__(detail)


class BlindAuthRequiredError(RefusedError):
    """The endpoint needs a blind authentication token (NUT-22)."""

    code = 31001

    def __init__(self, detail: str = "Endpoint requires blind auth") -> None:
        super().__init__(detail)


class BlindAuthFailedError(RefusedError):
    """The blind authentication token is not accepted (NUT-22)."""

    code = 31002

    def __init__(self, detail: str = "Blind authentication failed") -> None:
        super().__init__(detail)


class BlindAuthTooManyError(RefusedError):
    """More blind authentication tokens than one request may mint (NUT-22)."""

    code = 31003

    def __init__(self, detail: str = "Maximum BAT mint amount exceeded") -> None:
        super().__init__(detail)


class BlindAuthRateLimitedError(RefusedError):
    """Blind authentication tokens are minted too fast (NUT-22)."""

    code = 31004

    def __init__(self, detail: str = "BAT mint rate limit exceeded") -> None:
        super().__init__(detail)


class ConditionUnmetError(ProofInvalidError):
    """A spending condition (NUT-10, 11, 14) is not met: signatures or preimage are missing, or a locktime has not passed."""

    def __init__(self, detail: str = "Spending condition not met") -> None:
        super().__init__(detail)


class ConditionMalformedError(MalformedError):
    """The secret, or the witness, of a kind that is enforced here breaks its rules, so the proof is unspendable as it is."""

    code = 10001


CODES: dict[int, type[RefusedError]] = {
    10001: ProofInvalidError,
    11001: ProofsSpentError,
    11002: ProofsPendingError,
    11003: OutputsSignedError,
    11004: OutputsPendingError,
    11005: UnbalancedError,
    11006: AmountOutOfRangeError,
    11007: DuplicateInputsError,
    11008: DuplicateOutputsError,
    11009: MixedUnitsError,
    11010: UnitMismatchError,
    11011: AmountlessUnsupportedError,
    11012: AmountMismatchError,
    11013: UnitUnsupportedError,
    11014: TooManyInputsError,
    11015: TooManyOutputsError,
    11016: DuplicateQuotesError,
    11017: BatchTooLargeError,
    12001: KeysetUnknownError,
    12002: KeysetInactiveError,
    12003: KeysetExpiredError,
    20001: QuoteUnpaidError,
    20002: QuoteIssuedError,
    20003: MintingDisabledError,
    20004: PaymentFailedError,
    20005: QuotePendingError,
    20006: InvoicePaidError,
    20007: QuoteExpiredError,
    20008: QuoteSignatureInvalidError,
    20009: QuotePubkeyRequiredError,
    30001: ClearAuthRequiredError,
    30002: ClearAuthFailedError,
    31001: BlindAuthRequiredError,
    31002: BlindAuthFailedError,
    31003: BlindAuthTooManyError,
    31004: BlindAuthRateLimitedError,
}
"""Class of each code; complete as of error_codes.md."""

_CODES_IN_USE_ELSEWHERE: dict[int, type[RefusedError]] = {
    11000: ConditionUnmetError,  # Nutshell, spending conditions
    80001: ClearAuthRequiredError,  # Nutshell 30001, 30002, 31001 to 31004
    80002: ClearAuthFailedError,
    81001: BlindAuthRequiredError,
    81002: BlindAuthFailedError,
    81003: BlindAuthTooManyError,
    81004: BlindAuthRateLimitedError,
}


def error_from_code(code: int, detail: str) -> RefusedError:
    """The error a mint's answer means; a code outside the table gives a RefusedError that carries it.

    Codes that Nutshell uses in place of official ones are understood, and kept in `code` as they came.
    """
    if known := CODES.get(code):
        return known(detail)
    if peculiar := _CODES_IN_USE_ELSEWHERE.get(code):
        error = peculiar(detail)
        error.code = code
        return error
    return RefusedError(detail, code=code)
