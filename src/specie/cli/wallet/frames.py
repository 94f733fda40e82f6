"""Tokens as animated QR codes (NUT-16), out and in: frames drawn on the terminal, and frames read as lines of text.

A frame is a UR of type `bytes` that carries the token's text (`kernel.ur`). Not here: a camera. Whatever reads QR codes
and writes one line for each it saw can be put before `specie wallet receive -`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from specie.cli.arguments import ScreenArgument
from specie.cli.errors import UsageError
from specie.cli.screen import Screen

if TYPE_CHECKING:
    from rich.text import Text

    from specie.kernel.ur import UrEncoder

__all__ = ["AnimationOptions", "animate", "animation_checked", "frames", "token_from_lines", "token_given"]

_GROUP = Group("Animated QR code", sort_key=4)
_STILL_CHARACTERS = 400
"""Tokens of up to two coins or so: one QR code holds them, and any wallet reads it."""
_DENSEST, _LEAST, _STEP = 200, 20, 20
_MOST_LINES = 100_000
_MOST_LINE = 10_000
_LINES_BESIDE = 2


@Parameter(name="*")
@dataclass(frozen=True)
class AnimationOptions:
    """How a token is shown as an animation."""

    animate: Annotated[
        bool,
        Parameter(
            group=_GROUP, negative="", show_default=False, help="Show the whole token as a QR code in many frames; Ctrl-C ends."
        ),
    ] = False
    rate: Annotated[float, Parameter(group=_GROUP, help="Frames in a second, from 0.5 to 30.")] = 5.0
    density: Annotated[
        int | None, Parameter(group=_GROUP, help="Bytes in a frame, from 20 to 1000; what the terminal can show unless given.")
    ] = None


def animation_checked(options: AnimationOptions, screen: Screen) -> None:
    """UsageError for numbers out of range, or where there is no terminal to draw on; call it before money is moved."""
    if not 0.5 <= options.rate <= 30:
        raise UsageError("--rate: expected from 0.5 to 30 frames in a second")
    if options.density is not None and not _LEAST <= options.density <= 1000:
        raise UsageError("--density: expected from 20 to 1000 bytes in a frame")
    if options.animate and (screen.json or not screen.err.is_terminal):
        raise UsageError("--animate needs a terminal; for frames as text: specie wallet frames TOKEN")


def _encoder(token: str, density: int) -> UrEncoder:
    from specie.kernel.ur import BYTES, UrEncoder, bytes_to_cbor

    return UrEncoder(BYTES, bytes_to_cbor(token.encode()), most_bytes=density)


async def animate(
    screen: Screen,
    token: str,
    options: AnimationOptions,
    *,
    most_frames: int | None = None,
) -> None:
    """Show a token until Ctrl-C: small ones stand still. `most_frames` ends it by itself."""
    from rich.live import Live

    drawing = _drawing(screen, token, options)
    if isinstance(drawing, str):
        screen.say(f"[dim]{drawing}[/dim]")
        return
    draw, still = drawing
    screen.say("[dim]Ctrl-C when it was read[/dim]")
    count = 0
    try:
        with Live(draw(1), console=screen.err, auto_refresh=False, transient=True) as live:
            while most_frames is None or count < most_frames:
                count += 1
                if not still or count == 1:
                    live.update(draw(count), refresh=True)
                await asyncio.sleep(1 / options.rate)
    except asyncio.CancelledError:  # Ctrl-C is how it ends; a second one is not ours
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()


def _drawing(screen: Screen, token: str, options: AnimationOptions) -> tuple[Callable[[int], Text], bool] | str:
    """What draws frame n, and whether they are all the same; or why nothing can be drawn here."""
    from rich.text import Text

    from specie.cli.qr import qr_text

    width, height = screen.err.width, screen.err.height - _LINES_BESIDE

    def drawn(data: str) -> Text | None:
        made = qr_text(data, width)
        return made if made is not None and made.plain.count("\n") < height else None

    if len(token) <= _STILL_CHARACTERS and options.density is None:
        still = drawn(token)
        if still is not None:
            return lambda _: still, True
    densities = [options.density] if options.density is not None else range(_DENSEST, _LEAST - 1, -_STEP)
    for density in densities:
        encoder = _encoder(token, density)
        if drawn(encoder.frame(9_999_999 if encoder.seq_len > 1 else 1).upper()) is not None:
            return lambda number, made=encoder: drawn(made.frame(number).upper()) or Text(), encoder.seq_len == 1
    return f"no QR code: too large for {width} columns and {screen.err.height} lines; a smaller --density may fit"


def frames(
    token: Annotated[str, Parameter(help="The token, or - to read it from standard input.", allow_leading_hyphen=True)],
    /,
    *,
    count: Annotated[int | None, Parameter(help="How many frames; twice what is needed without a loss unless given.")] = None,
    density: Annotated[int, Parameter(help="Bytes in a frame, from 20 to 1000.")] = 100,
    screen: ScreenArgument,
) -> None:
    """A token as the frames of an animated QR code, one line of text each; `specie wallet receive -` reads them."""
    animation_checked(AnimationOptions(density=density), screen)
    piped = token == "-"  # noqa: S105 - a file name
    encoder = _encoder(screen.read_word("token") if piped else token.strip(), density)
    most = count if count is not None else 1 if encoder.seq_len == 1 else 2 * encoder.seq_len
    if not 1 <= most <= _MOST_LINES:
        raise UsageError(f"--count: expected from 1 to {_MOST_LINES:,}")
    made = [encoder.frame(number) for number in range(1, most + 1)]
    screen.bare({"frames": made, "fragments": encoder.seq_len}, "\n".join(made))


def token_given(argument: str | None, files: list[Path] | None, screen: Screen) -> str:
    """The token of an argument, of standard input (`-`: its text, or frames), or of files with frames in them."""
    from specie.kernel.ur import is_ur

    if (argument is None) == (not files):
        raise UsageError("give the token, or - to read it from standard input, or --frames FILE")
    if files:
        return token_from_lines(_lines_of(files), screen)
    if argument != "-":
        text = (argument or "").strip()
        return token_from_lines(text.split(), screen) if is_ur(text) else text
    first = screen.read_word("token")
    if not is_ur(first):
        return first

    def lines() -> Iterator[str]:
        yield first
        yield from screen.lines(_MOST_LINE)

    return token_from_lines(lines(), screen)


def _lines_of(files: Iterable[Path]) -> Iterator[str]:
    for file in files:
        try:
            with file.open(encoding="ascii") as lines:
                yield from iter(lambda: lines.readline(_MOST_LINE), "")
        except (OSError, UnicodeError) as error:
            raise UsageError(f"{file}: cannot be read ({type(error).__name__})") from None


def token_from_lines(lines: Iterable[str], screen: Screen) -> str:
    """The token in frames, one a line, in any order; stops reading once it is whole.

    Lines that cannot be read are skipped and counted. PartStrayError for frames of two messages; UsageError if it stays
    incomplete.
    """
    from specie.kernel.errors import MalformedError
    from specie.kernel.ur import BYTES, PartStrayError, UrDecoder, bytes_from_cbor

    decoder, skipped = UrDecoder(BYTES), 0
    for number, line in enumerate(lines):
        if number >= _MOST_LINES:
            break
        if not line.strip():
            continue
        try:
            whole = decoder.take(line)
        except PartStrayError:
            raise
        except MalformedError:
            skipped += 1
            continue
        if whole:
            if skipped:
                screen.say(f"[dim]{skipped} lines could not be read and were not needed[/dim]")
            try:
                return bytes_from_cbor(decoder.message or b"").decode()
            except UnicodeDecodeError:
                raise MalformedError("the frames carry bytes that are no text") from None
    more = f"; {skipped} lines could not be read" if skipped else ""
    raise UsageError(f"the frames are not enough: {decoder.found} of {decoder.wanted or 'an unknown number of'} pieces{more}")
