"""The small bar beside a number: where it lies in the range of healthy people."""

from __future__ import annotations

from dataclasses import dataclass

from dinsegment.measurements.ranges import NormalRange

AROUND = 0.6
"""The bar reaches beyond the range by this share of the range on either side."""


@dataclass(frozen=True)
class Bar:
    """Places along a bar, 0 to 1, and whether the number is below, within or above the range."""

    low: float
    high: float
    value: float
    place: str


def bar_of(value: float, known: NormalRange) -> Bar:
    """Where a value is; one far off is at the end of the bar."""
    reach = known.high - known.low
    begin, length = known.low - AROUND * reach, (1 + 2 * AROUND) * reach

    def at(number: float) -> float:
        return min(max((number - begin) / length, 0.03), 0.97)

    return Bar(at(known.low), at(known.high), at(value), known.place_of(value))
