"""The small bar beside a number: where it lies in the range of healthy people."""

from __future__ import annotations

import io
from dataclasses import dataclass

from dinsegment.measurements.ranges import NormalRange

LINE, BAND, WITHIN, OUTSIDE = "#b9bfc8", "#c9dcee", "#1d2127", "#a33c00"

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


def bar_png(bar: Bar, width: int = 72, height: int = 16, scale: int = 2) -> bytes:
    """The bar as a PNG on a transparent ground, which windows show beside a text.

    Args:
        bar: The bar.
        width: In points of a window.
        height: In points of a window.
        scale: Pixels of a point.
    """
    from PIL import Image, ImageDraw

    fine = 4 * scale  # drawn larger, and made smaller: its edges are smooth then
    image = Image.new("RGBA", (width * fine, height * fine), (255, 255, 255, 0))
    draw = ImageDraw.Draw(image)
    middle, unit = height * fine / 2, height * fine / 16
    draw.line((0, middle, width * fine, middle), fill=LINE, width=round(1.2 * unit))
    draw.rectangle((bar.low * width * fine, middle - 4 * unit, bar.high * width * fine, middle + 4 * unit), fill=BAND)
    at = bar.value * width * fine
    if bar.place == "within":
        draw.ellipse((at - 3.4 * unit, middle - 3.4 * unit, at + 3.4 * unit, middle + 3.4 * unit), fill=WITHIN)
    else:
        way = -unit if bar.place == "below" else unit
        back = at - 3 * way
        draw.polygon([(at + 5 * way, middle), (back, middle + 4.5 * unit), (back, middle - 4.5 * unit)], fill=OUTSIDE)
    file = io.BytesIO()
    image.resize((width * scale, height * scale), Image.Resampling.LANCZOS).save(file, "PNG")
    return file.getvalue()
