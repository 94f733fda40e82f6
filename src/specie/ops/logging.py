"""Structured logs: one line an event, JSON for machines or colour for a terminal, secrets taken out on the way.

A logger is a value that its bank hands around; nothing global is configured, so two banks (or a bank inside another
program) do not disturb each other. `capture` is for the program that owns its process: it also routes the standard
library's loggers (uvicorn, asyncio) through the same nets. Not here: what is worth a line.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from specie.ops.redaction import redact, redact_text
from specie.ops.settings import LogFormat, LogSettings

__all__ = ["capture", "make_logger"]

_CAPTURED = ("uvicorn", "uvicorn.error", "uvicorn.asgi", "asyncio", "websockets", "websockets.server", "py.warnings")


class _Lines:
    """Writes whole lines, one at a time, and never fails its caller."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def msg(self, line: str) -> None:
        try:
            with self._lock:
                self._stream.write(line + "\n")
                self._stream.flush()
        except (OSError, ValueError):  # a closed pipe must not stop a payment
            return

    debug = info = warning = warn = error = critical = exception = fatal = log = msg


def _redact_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {key: redact(value, key) for key, value in event.items()}


def _exception_text(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Traceback as text without local variables; its message is searched for secrets like any text."""
    text = event.pop("exception", None)
    if text is not None:
        event["traceback"] = redact_text(str(text))
    return event


def _processors(colour: bool, json: bool) -> list[Processor]:
    steps: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
        _exception_text,
        _redact_event,
    ]
    if json:
        return [*steps, structlog.processors.JSONRenderer(sort_keys=False, default=str)]
    return [*steps, structlog.dev.ConsoleRenderer(colors=colour, timestamp_key="time", sort_keys=False)]


def make_logger(settings: LogSettings, stream: TextIO | None = None) -> FilteringBoundLogger:
    """A logger that writes to `stream` (standard error by default). Its methods are `debug`, `info`, `warning`, `error`."""
    target = sys.stderr if stream is None else stream
    terminal = target.isatty()
    json = settings.format is LogFormat.JSON or (settings.format is LogFormat.AUTO and not terminal)
    logger: Any = structlog.wrap_logger(
        _Lines(target),
        processors=_processors(colour=terminal, json=json),
        wrapper_class=structlog.make_filtering_bound_logger(settings.level.value),
        context_class=dict,
        cache_logger_on_first_use=False,
    )
    bound: FilteringBoundLogger = logger.bind()
    return bound


class _Bridge(logging.Handler):
    def __init__(self, logger: FilteringBoundLogger) -> None:
        super().__init__()
        self._logger = logger

    def log_to(self, logger: FilteringBoundLogger) -> None:
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        try:
            name = record.levelname.lower()
            method = getattr(self._logger, name if name in ("debug", "info", "warning", "error") else "error")
            method(record.getMessage(), logger=record.name, **({"exc_info": record.exc_info} if record.exc_info else {}))
        except Exception:  # as logging itself does: a line that cannot be written is dropped
            self.handleError(record)


@contextmanager
def capture(logger: FilteringBoundLogger) -> Iterator[Callable[[FilteringBoundLogger], None]]:
    """While inside, lines of the standard library's loggers that servers use go to `logger`, or to one given later."""
    bridge = _Bridge(logger)
    before: list[tuple[logging.Logger, list[logging.Handler], bool, int]] = []
    for name in _CAPTURED:
        target = logging.getLogger(name)
        before.append((target, target.handlers[:], target.propagate, target.level))
        nested = any(name.startswith(f"{parent}.") for parent in _CAPTURED)
        target.handlers[:] = [] if nested else [bridge]
        target.propagate = nested
        target.setLevel(logging.WARNING)
    try:
        yield bridge.log_to
    finally:
        for target, handlers, propagate, level in before:
            target.handlers[:] = handlers
            target.propagate = propagate
            target.setLevel(level)
