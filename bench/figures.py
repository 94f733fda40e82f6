"""Numbers and tables: percentiles, medians over repetitions, columns of text. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["median_of", "names_checked", "numbers_checked", "percentile", "short", "summary_of", "table"]


def percentile(ordered: Sequence[float], share: float) -> float:
    """Nearest-rank percentile of ascending values: the least that `share` (0 to 1) of them do not exceed.

    ValueError for no values, or a share out of range.
    """
    if not ordered or not 0 <= share <= 1:
        raise ValueError("a percentile needs values, and a share from 0 to 1")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median_of(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Median of each figure over repetitions; a figure that a repetition lacks is left out of that figure's median."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: statistics.median(row[name] for row in rows if name in row) for name in names}


def summary_of(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Medians over repetitions, but all of their `errors`: one bad repetition must not hide behind others."""
    found = median_of(rows)
    return found | {"errors": sum(row["errors"] for row in rows)} if "errors" in found else found


def names_checked(text: str, known: Sequence[str]) -> list[str]:
    """Names separated by commas, in the order of `known`; ValueError for one that is not known."""
    asked = {name.strip() for name in text.split(",") if name.strip()}
    unknown = sorted(asked - set(known))
    if unknown or not asked:
        raise ValueError(f"{', '.join(unknown) or 'nothing'}: choose from {', '.join(known)}")
    return [name for name in known if name in asked]


def numbers_checked(text: str, least: int, most: int) -> list[int]:
    """Whole numbers separated by commas, without repetition; ValueError outside of [least, most]."""
    numbers = list(dict.fromkeys(int(part) for part in text.split(",")))
    if not all(least <= number <= most for number in numbers):
        raise ValueError(f"expected numbers from {least} to {most}")
    return numbers


def short(value: object) -> str:
    """A figure as a reader wants it: three significant digits below 100, none behind the point above."""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table whose columns line up as plain text too; the first column to the left, figures to the right."""
    cells = [[short(value) for value in row] for row in rows]
    widths = [max(3, len(name), *(len(row[at]) for row in cells)) for at, name in enumerate(head)]

    def line(values: Sequence[str]) -> str:
        padded = [
            value.rjust(width) if at else value.ljust(width)
            for at, (value, width) in enumerate(zip(values, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    rule = (
        "|"
        + "|".join((":" if not at else "-") + "-" * width + ("-" if not at else ":") for at, width in enumerate(widths))
        + "|"
    )
    return "\n".join([line(head), rule, *map(line, cells)])
