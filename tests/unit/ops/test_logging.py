"""Log lines are structured, and no planted secret gets through them."""

from __future__ import annotations

import io
import json
import logging

import pytest

from specie.ops.logging import capture, make_logger
from specie.ops.redaction import redact, redact_text
from specie.ops.secret import Secret
from specie.ops.settings import LogFormat, LogLevel, LogSettings

WORDS = "abandon ability able about above absent absorb abstract absurd abuse access accident"
TOKEN = "cashuBo2F0gaJhaUgArSaMTR9YJmFwgaNhYQFhc3hAOWE2ZGJiODQ3YmQyMzJiYTc2ZGIwZGYxOTcyMTZiMjlkM2I4Y2MxNDU1M2Nk"
SECRET = "9a6dbb847bd232ba76db0df197216b29d3b8cc14553cd27827fc1cc942fedb4e"
QUOTE = "019233bb-9d5b-7b3c-8f4e-3f2d4b5c6d7e"
PLANTED = {
    "passphrase": "hunter2-canary",
    "secret": SECRET,
    "seed": "seed-canary",
    "witness": '{"signatures":["witness-canary"]}',
    "payment_preimage": "preimage-canary",
    "mnemonic": WORDS,
    "Authorization": "Bearer canary-authorization",
    "db_password": "password-canary",
    "sealing": Secret("typed-canary"),
    "detail": f"could not spend {TOKEN} for {SECRET}",
    "note": f"the words are {WORDS}",
    "target": "postgresql://specie:dsn-canary@db.internal/bank",
    "nested": {"inputs": [{"amount": 1, "secret": "nested-canary", "C": bytes(33)}]},
    "tprv": "tprv8ZgxMBicQKsPd7Uf69XL1XwhmjHopUGep8GuEiJDZmbQz6o58LninorQAfcKZWARbtRtfnLcJ5MQ2AtHcQJCCRUcMRvmDUjyEmNUWwx8UbK",
    "quote": QUOTE,
}
CANARIES = ("canary", SECRET, SECRET[:16], TOKEN[10:30], "ability able", QUOTE, "tprv8Zgx")


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("form", [LogFormat.JSON, LogFormat.CONSOLE, LogFormat.AUTO])
def test_nothing_planted_survives(form):
    """Secrets under telling keys, in plain text, nested, typed, in an exception and in the event itself."""
    stream = io.StringIO()
    logger = make_logger(LogSettings(format=form), stream)
    logger.info("refused", **PLANTED)
    logger.error(f"token {TOKEN} and {SECRET}")
    try:
        raise ValueError(f"bad token {TOKEN} with {SECRET}")
    except ValueError:
        logger.error("failed", exc_info=True)
    text = stream.getvalue()
    assert "refused" in text
    assert "ValueError" in text
    for canary in CANARIES:
        assert canary not in text


def test_a_line_is_json_with_time_level_and_facts():
    """What an operator's tools read."""
    stream = io.StringIO()
    logger = make_logger(LogSettings(format=LogFormat.JSON), stream)
    logger.warning("rail_slow", rail="play", elapsed_ms=12.5, retries=3, ok=False, nothing=None, kinds=("a", "b"))
    (line,) = lines(stream)
    assert line["event"] == "rail_slow"
    assert line["level"] == "warning"
    assert str(line["time"]).endswith("Z")
    assert (line["rail"], line["elapsed_ms"], line["retries"], line["ok"], line["nothing"]) == ("play", 12.5, 3, False, None)
    assert line["kinds"] == ["a", "b"]


def test_levels_below_the_setting_are_dropped():
    """Only warnings and errors with level warning."""
    stream = io.StringIO()
    logger = make_logger(LogSettings(level=LogLevel.WARNING, format=LogFormat.JSON), stream)
    logger.info("quiet")
    logger.error("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_a_closed_stream_does_not_stop_the_caller():
    """A log that cannot be written is no reason to stop a payment."""
    stream = io.StringIO()
    logger = make_logger(LogSettings(format=LogFormat.JSON), stream)
    stream.close()
    logger.info("nobody listens")


def test_public_names_stay_whole_and_equal_strings_stay_comparable():
    """Keyset ids and keys are public; other opaque strings become a digest that can still be compared."""
    keyset = "01" + "ab12" * 16
    assert redact(keyset, "keyset") == keyset
    hidden = redact(keyset, "y")
    assert keyset[:10] not in hidden
    assert hidden == redact(keyset, "y2")
    assert redact("02" + "cd34" * 16, "y") != hidden


def test_ordinary_text_is_left_alone():
    """Paths, sentences, times and names with underscores survive."""
    for text in (
        "/home/operator/.local/share/specie/bank/bank.sqlite",
        "the mint could not reach its rail, and will try again in 5 s",
        "2026-11-22T10:00:00.000000Z",
        "test_a_very_long_function_name_with_many_underscores",
        "https://mint.example.org:3338/v1/info",
    ):
        assert redact_text(text) == text


def test_shapes():
    """Bytes become their length, deep nesting and long text are cut, counts under secret names stay."""
    assert redact(b"\x00" * 33) == "[33 bytes]"
    deep: object = "x"
    for _ in range(10):
        deep = [deep]
    assert "[deep]" in str(redact(deep))
    assert redact("a b " * 5000).endswith("[cut]")
    assert redact(7, "secrets") == 7
    assert redact("7", "secrets") == "[redacted]"
    assert redact({1: {"a"}}) == {"1": ["a"]}


def test_standard_loggers_go_through_the_same_nets():
    """uvicorn's and asyncio's warnings are captured inside, and left as they were after."""
    stream = io.StringIO()
    logger = make_logger(LogSettings(format=LogFormat.JSON), stream)
    target = logging.getLogger("uvicorn.error")
    before = (logging.getLogger("uvicorn").handlers[:], target.propagate, target.level)
    with capture(logger):
        target.warning("body was %s", TOKEN)
        target.info("not shown")
        try:
            raise ValueError(TOKEN)
        except ValueError:
            logging.getLogger("asyncio").exception("task failed")
    found = lines(stream)
    assert [line["logger"] for line in found] == ["uvicorn.error", "asyncio"]
    assert TOKEN[10:] not in stream.getvalue()
    assert "ValueError" in str(found[1]["traceback"])
    assert (logging.getLogger("uvicorn").handlers, target.propagate, target.level) == before
