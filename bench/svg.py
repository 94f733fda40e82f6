"""Pictures of figures as SVG text: lines, stacked bars and flame graphs, without a library. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from bench.figures import short

__all__ = ["bars", "flame", "lines"]

_COLOURS = ("#1f6f8b", "#e07a1f", "#5b8c3a", "#8e4585", "#c23b3b", "#8a7a5c", "#3d4a5c", "#d4a72c", "#4f9d9d", "#a0a0a0")
_FONT = "font-family='system-ui,sans-serif'"
_WIDTH = 860
_FLAME_ROW = 16
_FLAME_DEEPEST = 70
_MONOSPACE_PX = 6.6


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", colour: str = "#222") -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' text-anchor='{anchor}' fill='{colour}' {_FONT}>{escape(text)}</text>"
    )


def _page(height: float, title: str, parts: Iterable[str]) -> str:
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {height:.0f}' width='{_WIDTH}' height='{height:.0f}'>"
    )
    body = [head, "<rect width='100%' height='100%' fill='#fff'/>", _text(16, 26, title, size=16), *parts, "</svg>"]
    return "\n".join(body) + "\n"


def _legend(names: Sequence[str], y: float) -> list[str]:
    parts, x = [], 16.0
    for at, name in enumerate(names):
        if x + 28 + 7 * len(name) > _WIDTH:
            x, y = 16.0, y + 18
        parts.append(f"<rect x='{x:.1f}' y='{y - 10:.1f}' width='12' height='12' fill='{_COLOURS[at % len(_COLOURS)]}'/>")
        parts.append(_text(x + 17, y, name))
        x += 34 + 7 * len(name)
    return parts


def _steps(most: float) -> list[float]:
    """Four to eight round marks from 0 to at least `most`."""
    if most <= 0:
        return [0.0, 1.0]
    step = 10.0 ** math.floor(math.log10(most))
    for smaller in (1, 2, 5):
        if most / (step / smaller) >= 4:
            step /= smaller
            break
    return [step * at for at in range(math.ceil(most / step - 1e-9) + 1)]


def _log_marks(least: float, most: float) -> list[float]:
    return [10.0**power for power in range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)]


def lines(
    title: str,
    x_name: str,
    y_name: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    log_x: bool = False,
    log_y: bool = False,
) -> str:
    """Points joined by lines, one colour a series; a logarithmic axis takes values above 0 only. ValueError for no points."""
    points = [point for one in series.values() for point in one]
    if not points:
        raise ValueError("a picture of lines needs points")
    left, right, top, bottom = 76.0, _WIDTH - 24.0, 72.0, 400.0
    xs, ys = [x for x, _ in points], [y for _, y in points]
    x_marks = sorted(set(xs)) if len(set(xs)) <= 12 else (_log_marks(min(xs), max(xs)) if log_x else _steps(max(xs)))
    y_marks = _log_marks(min(ys), max(ys)) if log_y else _steps(max(ys))

    def scale(value: float, low: float, high: float, log: bool) -> float:
        if log:
            value, low, high = math.log10(value), math.log10(low), math.log10(high)
        return (value - low) / (high - low) if high > low else 0.5

    def at(point: tuple[float, float]) -> tuple[float, float]:
        x = left + (right - left) * scale(point[0], x_marks[0], x_marks[-1], log_x)
        return x, bottom - (bottom - top) * scale(point[1], y_marks[0], y_marks[-1], log_y)

    parts = _legend(list(series), 50)
    for mark in y_marks:
        y = at((x_marks[0], mark))[1]
        parts.append(f"<line x1='{left}' x2='{right}' y1='{y:.1f}' y2='{y:.1f}' stroke='#ddd'/>")
        parts.append(_text(left - 8, y + 4, short(float(mark)), anchor="end"))
    for mark in x_marks:
        x = at((mark, y_marks[0]))[0]
        parts.append(_text(x, bottom + 18, short(int(mark) if float(mark).is_integer() else mark), anchor="middle"))
    for number, one in enumerate(series.values()):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [at(point) for point in one]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>")
        if len(one) <= 40:
            for (x, y), point in zip(places, one, strict=True):
                told = f"{short(point[0])}: {short(float(point[1]))}"
                parts.append(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.5' fill='{colour}'><title>{told}</title></circle>")
    parts += [_text((left + right) / 2, bottom + 40, x_name, anchor="middle"), _text(16, top - 4, y_name, size=11)]
    return _page(bottom + 56, title, parts)


def bars(title: str, unit: str, rows: Mapping[str, Mapping[str, float]]) -> str:
    """One bar a row, of parts laid end to end; the sum of a row is written behind it. ValueError for no rows."""
    if not rows:
        raise ValueError("a picture of bars needs rows")
    names = list(dict.fromkeys(name for parts in rows.values() for name in parts))
    most = max(sum(parts.values()) for parts in rows.values()) or 1.0
    left, right, top = 24.0 + 7 * max(map(len, rows)), _WIDTH - 100.0, 92.0
    drawn = _legend(names, 50)
    for place, (label, parts) in enumerate(rows.items()):
        x, y = left, top + place * 30
        drawn.append(_text(left - 8, y + 15, label, anchor="end"))
        for name, value in parts.items():
            width = (right - left) * value / most
            colour = _COLOURS[names.index(name) % len(_COLOURS)]
            told = f"<title>{escape(label)}: {escape(name)} {short(float(value))} {escape(unit)}</title>"
            drawn.append(f"<rect x='{x:.1f}' y='{y}' width='{width:.1f}' height='22' fill='{colour}'>{told}</rect>")
            x += width
        drawn.append(_text(x + 6, y + 15, f"{short(float(sum(parts.values())))} {unit}"))
    return _page(top + len(rows) * 30 + 16, title, drawn)


class _Frame:
    """One box of a flame graph: samples in it, and what it called."""

    __slots__ = ("called", "samples")

    def __init__(self) -> None:
        self.samples = 0
        self.called: dict[str, _Frame] = {}


def flame(title: str, stacks: Mapping[Sequence[str], int]) -> str:
    """A flame graph, callers below what they called; widths are samples, frames above the 70th are left out.

    `stacks`: samples for each stack, outermost frame first. ValueError for no samples.
    """
    root = _Frame()
    for stack, samples in stacks.items():
        root.samples += samples
        frame = root
        for name in stack[:_FLAME_DEEPEST]:
            frame = frame.called.setdefault(name, _Frame())
            frame.samples += samples
    if not root.samples:
        raise ValueError("a flame graph needs samples")
    boxes: list[tuple[int, float, float, str, int]] = []

    def place(frame: _Frame, depth: int, x: float) -> None:
        for name, child in sorted(frame.called.items()):
            width = (_WIDTH - 20) * child.samples / root.samples
            if width >= 0.5:
                boxes.append((depth, x, width, name, child.samples))
                place(child, depth + 1, x)
            x += width

    place(root, 0, 10.0)
    height = 60 + (max(depth for depth, *_ in boxes) + 1) * _FLAME_ROW if boxes else 60
    parts = []
    for depth, x, width, name, samples in boxes:
        y = height - 14 - (depth + 1) * _FLAME_ROW
        hue = sum(name.encode()) % 40
        share = f"{samples / root.samples:.1%}"
        fits = int(width / _MONOSPACE_PX)
        label = escape(name if len(name) <= fits else name[: fits - 1] + "…") if fits >= 4 else ""
        parts.append(
            f"<g><title>{escape(name)}: {samples} samples, {share}</title>"
            f"<rect x='{x:.1f}' y='{y}' width='{width:.1f}' height='{_FLAME_ROW - 1}' fill='hsl({hue + 10},75%,68%)'/>"
            f"<text x='{x + 2:.1f}' y='{y + 11}' font-size='11' font-family='monospace'>{label}</text></g>"
        )
    return _page(height, title, [_text(16, 44, f"{root.samples:,} samples", size=11), *parts])
