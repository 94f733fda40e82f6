"""Animated QR codes: what is drawn is read by a QR reader, and frames in any order are a token again."""

from __future__ import annotations

import asyncio
import io
import random
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import segno

from specie.cli.errors import UsageError
from specie.cli.screen import Screen
from specie.cli.wallet.frames import (
    AnimationOptions,
    _drawing,
    animate,
    animation_checked,
    token_from_lines,
    token_given,
)
from specie.kernel.errors import MalformedError
from specie.kernel.ur import BYTES, PartStrayError, UrDecoder, UrEncoder, bytes_from_cbor, bytes_to_cbor

zxingcpp = pytest.importorskip("zxingcpp")

TOKEN = "cashuB" + random.Random("a token of many coins").randbytes(900).hex()
_DARK = {"█": (False, False), "▀": (False, True), "▄": (True, False), " ": (True, True)}


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """A terminal of 120 columns and 60 lines."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "60")
    monkeypatch.setenv("TERM", "xterm")
    return Screen(err=_Terminal(), out=io.StringIO(), stdin=io.StringIO())


def _seen(rows: Sequence[Sequence[bool]], scale: int = 4) -> str:
    """What a QR reader sees in rows of modules, True for dark."""
    width = len(rows[0]) * scale
    pixels = b"".join(bytes(0 if dark else 255 for dark in row for _ in range(scale)) * scale for row in rows)
    image = memoryview(pixels).cast("B", shape=[len(rows) * scale, width])
    (found,) = zxingcpp.read_barcodes(image, formats=zxingcpp.BarcodeFormat.QRCode)
    return str(found.text)


def _png_rows(data: bytes) -> list[list[bool]]:
    """Pixels of a black and white PNG, True for dark: PNG's own arithmetic, by hand."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at, packed, width, height = 8, b"", 0, 0
    while at < len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
            assert body[8] == 1, "one bit a pixel"
        elif kind == b"IDAT":
            packed += body
        at += 12 + length
    plain, stride = zlib.decompress(packed), (width + 7) // 8 + 1
    rows, above = [], bytes(stride)
    for number in range(height):
        line = plain[number * stride : (number + 1) * stride]
        assert line[0] in (0, 2), "as it is, or as the difference to the line above"
        line = bytes((one + other) % 256 for one, other in zip(line, above, strict=True)) if line[0] == 2 else line
        above = b"\0" + line[1:]
        rows.append([not line[1 + x // 8] >> 7 - x % 8 & 1 for x in range(width)])
    return rows


def test_png_frames_read_by_a_qr_reader_are_the_token() -> None:
    """Frames rendered to PNG and read back, a third lost, out of order, some twice: the token."""
    rng = random.Random("optical")
    encoder = UrEncoder(BYTES, bytes_to_cbor(TOKEN.encode()), most_bytes=150)
    numbers = [number for number in range(1, 5 * encoder.seq_len) if rng.random() > 0.33]
    numbers += rng.choices(numbers, k=5)
    rng.shuffle(numbers)
    decoder, looked = UrDecoder(BYTES), 0
    for number in numbers:
        image = io.BytesIO()
        segno.make(encoder.frame(number).upper(), error="l").save(image, kind="png", scale=4, border=4)
        looked += 1
        if decoder.take(_seen(_png_rows(image.getvalue()), scale=1)):
            break
    assert bytes_from_cbor(decoder.message or b"").decode() == TOKEN
    assert looked >= encoder.seq_len > 5


def _modules(text: str) -> list[list[bool]]:
    rows: list[list[bool]] = []
    for line in text.splitlines():
        rows.append([_DARK[char][0] for char in line])
        rows.append([_DARK[char][1] for char in line])
    border = [False] * (len(rows[0]) + 6)  # the terminal around it
    return [border] * 3 + [[False] * 3 + row + [False] * 3 for row in rows] + [border] * 3


def test_what_the_terminal_shows_is_read_by_a_qr_reader(screen: Screen) -> None:
    """The drawn characters, as an image: every second frame, backwards, gives the token."""
    drawing = _drawing(screen, TOKEN, AnimationOptions(animate=True))
    assert not isinstance(drawing, str)
    draw, still = drawing
    assert not still
    lines = [_seen(_modules(draw(number).plain)) for number in range(60, 1, -2)]
    assert token_from_lines(lines, screen) == TOKEN


def test_a_small_token_stands_still(screen: Screen) -> None:
    """Two coins are one QR code of the token's own text, that every wallet reads."""
    token = "cashuB" + "x" * 300
    drawing = _drawing(screen, token, AnimationOptions(animate=True))
    assert not isinstance(drawing, str)
    draw, still = drawing
    assert still
    assert _seen(_modules(draw(5).plain)) == token


def test_a_small_terminal_is_told(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no frame fits, that is said, and a given density is not changed behind the user's back."""
    monkeypatch.setenv("COLUMNS", "20")
    small = Screen(err=_Terminal(), out=io.StringIO())
    assert "smaller --density" in str(_drawing(small, TOKEN, AnimationOptions(animate=True)))
    asyncio.run(animate(small, TOKEN, AnimationOptions(animate=True)))
    assert "no QR code" in small.err.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(_drawing(screen, TOKEN, AnimationOptions(animate=True, density=1000)), str)


def test_the_animation_draws_frames(screen: Screen) -> None:
    """Three frames at thirty a second, then it ends and leaves the terminal clean."""
    asyncio.run(animate(screen, TOKEN, AnimationOptions(animate=True, rate=30), most_frames=3))
    shown = screen.err.file.getvalue()  # type: ignore[attr-defined]
    assert shown.count("█▀▀▀▀▀▀▀█") >= 3
    assert "Ctrl-C" in shown


def test_ctrl_c_ends_the_animation_alone(screen: Screen) -> None:
    """A cancelled animation ends as if nothing had happened: the command goes on and prints the token."""

    async def command() -> str:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_later(0.05, task.cancel)
        await animate(screen, TOKEN, AnimationOptions(animate=True, rate=30))
        await asyncio.sleep(0)
        return TOKEN

    assert asyncio.run(command()) == TOKEN


@pytest.mark.parametrize(
    "options",
    [AnimationOptions(rate=0.1), AnimationOptions(rate=31), AnimationOptions(density=19), AnimationOptions(density=1001)],
)
def test_numbers_out_of_range(options: AnimationOptions, screen: Screen) -> None:
    """Rates and densities are judged before a token is made."""
    with pytest.raises(UsageError):
        animation_checked(options, screen)


def test_without_a_terminal_nothing_is_animated() -> None:
    """Into a pipe or as JSON there are no pictures: refused before money is moved."""
    for one in (Screen(err=io.StringIO()), Screen(json=True, err=_Terminal())):
        with pytest.raises(UsageError, match="terminal"):
            animation_checked(AnimationOptions(animate=True), one)
    animation_checked(AnimationOptions(), Screen(err=io.StringIO()))


def _lines(token: str = TOKEN, most: int = 100) -> list[str]:
    encoder = UrEncoder(BYTES, bytes_to_cbor(token.encode()), most_bytes=most)
    return [encoder.frame(number) for number in range(1, 2 * encoder.seq_len)]


def test_lines_in_any_order(screen: Screen) -> None:
    """Empty and unreadable lines do no harm and are counted; what is read stops at the end of the token."""
    lines = [*reversed(_lines()), "", "not a frame", "ur:bytes/1-9/zz"]
    random.Random("lines").shuffle(lines)
    assert token_from_lines(iter(lines), screen) == TOKEN


def test_too_few_lines_are_told(screen: Screen) -> None:
    """How much is there is said, and what could not be read."""
    with pytest.raises(UsageError, match=r"3 of \d+ pieces; 1 lines could not be read"):
        token_from_lines([*_lines()[:3], "?"], screen)
    with pytest.raises(UsageError, match="unknown"):
        token_from_lines([], screen)


def test_lines_of_two_tokens_are_refused(screen: Screen) -> None:
    """Nobody can know which was meant."""
    with pytest.raises(PartStrayError):
        token_from_lines(_lines()[:3] + _lines(TOKEN[::-1]), screen)


def test_frames_of_no_text_are_refused(screen: Screen) -> None:
    """Bytes that are no UTF-8 are no token."""
    with pytest.raises(MalformedError, match="no text"):
        token_from_lines([UrEncoder(BYTES, bytes_to_cbor(b"\xff\xfe")).frame(1)], screen)


def test_where_a_token_comes_from(tmp_path: Path, screen: Screen) -> None:
    """From the argument, as frame or text; from standard input, as frames or text; from several files."""
    lines = _lines()
    assert token_given("  cashuBabc ", None, screen) == "cashuBabc"
    assert token_given(_frame("cashuBabc"), None, screen) == "cashuBabc"
    assert token_given("-", None, Screen(stdin=io.StringIO("cashuBabc\nmore\n"))) == "cashuBabc"
    assert token_given("-", None, Screen(stdin=io.StringIO("\n".join(reversed(lines)) + "\n"))) == TOKEN
    (tmp_path / "a").write_text("\n".join(lines[1::2]))
    (tmp_path / "b").write_text("\n".join(lines[0::2]))
    assert token_given(None, [tmp_path / "a", tmp_path / "b"], screen) == TOKEN
    for argument, files in ((None, None), ("cashuB", [tmp_path / "a"]), (None, [tmp_path / "missing"])):
        with pytest.raises(UsageError):
            token_given(argument, files, screen)


def _frame(token: str) -> str:
    return UrEncoder(BYTES, bytes_to_cbor(token.encode())).frame(1)


def test_the_command_makes_what_receive_reads(specie: Callable[..., object]) -> None:
    """`specie wallet frames` prints the lines; a whole one where the token is small."""
    ran = specie("wallet", "frames", TOKEN, "--density", "80")
    assert token_from_lines(reversed(ran.out.split()), Screen()) == TOKEN  # type: ignore[attr-defined]
    small = specie("wallet", "frames", "cashuBabc", "--json")
    assert small.json() == {"frames": [_frame("cashuBabc")], "fragments": 1}  # type: ignore[attr-defined]
    assert specie("wallet", "frames", TOKEN, "--count", "0").code == 2  # type: ignore[attr-defined]
