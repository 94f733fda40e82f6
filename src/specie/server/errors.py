"""The leaves of the error tree that the HTTP face raises, and the one place that maps errors to HTTP."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from http import HTTPStatus
from math import ceil

from specie.ecash import wire
from specie.ecash.codes import QuotePendingError
from specie.kernel.errors import (
    InvariantError,
    MalformedError,
    PeerFaultError,
    RefusedError,
    SpecieError,
    UnavailableError,
    UncertainError,
)
from specie.kernel.telemetry import Telemetry

__all__ = [
    "Answer",
    "BodyTooLargeError",
    "BodyTooSlowError",
    "BusyError",
    "NoMethodError",
    "NoRouteError",
    "RateLimitedError",
    "SocketInUseError",
    "answer_error",
]


class NoRouteError(RefusedError):
    """No such path."""


class NoMethodError(RefusedError):
    """The path does not take this HTTP method. `allowed` are those it takes."""

    def __init__(self, allowed: str) -> None:
        super().__init__(f"this path takes {allowed}")
        self.allowed = allowed


class BodyTooLargeError(MalformedError):
    """The request's body is longer than the limit."""


class BodyTooSlowError(UnavailableError):
    """The request's body did not arrive in time."""


class RateLimitedError(UnavailableError):
    """The peer asks too often; `retry_after_s` says when it may again."""


class BusyError(UnavailableError):
    """More requests are being worked on than the bank allows."""


class SocketInUseError(RefusedError):
    """Another program listens there already."""


@dataclass(slots=True)
class Answer:
    """An HTTP answer: status, body, and headers beyond those every answer carries."""

    body: bytes
    status: int = 200
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    content_type: bytes = b"application/json"


def _retry(error: UnavailableError) -> list[tuple[bytes, bytes]]:
    return [(b"retry-after", str(max(1, ceil(error.retry_after_s))).encode())]


def answer_error(error: Exception, telemetry: Telemetry, route: str, reference: str) -> Answer:
    """Map any error to HTTP; the caller's next step decides the status.

    RefusedError 400 with its code (404, 405, 413 for our own leaves); UnavailableError 503 (429, 408) with Retry-After;
    PeerFaultError 502; UncertainError 500 with the code of a pending quote, because a wallet takes 4xx for "nothing
    happened" and must not here; InvariantError and everything unexpected 500 with the opaque `reference` (FRESH), after
    a page.
    """
    match error:
        case NoRouteError():
            return _answer(HTTPStatus.NOT_FOUND, error)
        case NoMethodError():
            return _answer(HTTPStatus.METHOD_NOT_ALLOWED, error, [(b"allow", error.allowed.encode())])
        case BodyTooLargeError():
            return _answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, error, [_CLOSE])
        case RefusedError():
            return _answer(HTTPStatus.BAD_REQUEST, error)
        case BodyTooSlowError():
            return _answer(HTTPStatus.REQUEST_TIMEOUT, error, [_CLOSE])
        case RateLimitedError():
            return _answer(HTTPStatus.TOO_MANY_REQUESTS, error, _retry(error))
        case UnavailableError():
            return _answer(HTTPStatus.SERVICE_UNAVAILABLE, error, _retry(error))
        case PeerFaultError():
            return _answer(HTTPStatus.BAD_GATEWAY, error)
        case UncertainError():
            telemetry.event("http_uncertain", route=route, detail=error.detail, reference=error.reference)
            return _answer(HTTPStatus.INTERNAL_SERVER_ERROR, QuotePendingError(_UNCERTAIN))
    reason = "an invariant is broken" if isinstance(error, InvariantError) else "unexpected error"
    trace = "".join(traceback.format_exception(error))
    telemetry.page(reason, error=type(error).__name__, detail=str(error), route=route, reference=reference, traceback=trace)
    hidden = InvariantError(f"internal error; tell the operator this reference: {reference}")
    return _answer(HTTPStatus.INTERNAL_SERVER_ERROR, hidden)


_CLOSE = (b"connection", b"close")
_UNCERTAIN = "the outcome is not known yet: keep what was sent, and look at the quote or the coins later"


def _answer(status: HTTPStatus, error: SpecieError, headers: list[tuple[bytes, bytes]] | None = None) -> Answer:
    return Answer(wire.error_to_json(error), status.value, headers or [])
