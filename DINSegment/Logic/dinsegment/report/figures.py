"""Figures of a report: key slices with outlines, bull's-eyes of the wall, curves of the volumes. PNG or SVG.

Colours are told apart by the colour-blind, too, and every sector of a bull's-eye has its number.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from dinsegment.images.outlines import crop_around, outlines, plot_color
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.slices import SliceStack
from dinsegment.measurements.measurement import definitions, rounded
from dinsegment.measurements.rings import apex_first
from dinsegment.measurements.study import StudyMeasurements
from dinsegment.measurements.walls import Walls

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, PAPER = "#1d2127", "#b9bfc8", "#ffffff"
DPI = 150
MARGIN_MM = 18.0
"""Shown around the segments of a key slice."""

COLUMNS = 3
"""Key slices beside each other."""

COLOR_MAP = "cividis"
"""Even in lightness, and the same to the colour-blind."""

RINGS = ((0.72, 1.0), (0.44, 0.72), (0.18, 0.44))
"""Inner and outer radius of the sectors at the base, in the middle and towards the apex."""


@dataclass(frozen=True)
class Picture:
    """A figure as a file.

    Attributes:
        data: PNG or SVG.
        width: In inches.
        height: In inches.
        text: What it shows, for who cannot see it.
        new_line: Whether it begins a line of pictures, that the next ones go on.
    """

    data: bytes
    width: float
    height: float
    text: str
    new_line: bool = False


def key_slices(
    phases: Sequence[Segmentation], study: StudyMeasurements, kind: Literal["png", "svg"] = "png"
) -> Picture:
    """Slices with the segments' outlines: base, middle and apex at end diastole and end systole; of an organ, six."""
    function = study.function
    if function is not None:
        numbers = (("ED", function.end_diastole), ("ES", function.end_systole))
        shown, titles = [], []
        from_apex = apex_first([phases[n] for _, n in numbers])
        for name, number in numbers:
            chosen = _spread(phases[number], COLUMNS, from_apex)
            shown += [(name, phases[number], k) for k in chosen]
            places = ("base", "middle", "apex") if len(chosen) == COLUMNS else ("",) * len(chosen)
            titles += [f"{name} {place}".strip() for place in places]
    else:
        chosen = _spread(phases[0], 2 * COLUMNS)
        shown = [("", phases[0], k) for k in chosen]
        titles = [""] * len(shown)
    task = phases[0].task
    stacks = {id(s): SliceStack.in_plane(s.volume, task.plane) for _, s, _ in shown}
    labels = {id(s): stacks[id(s)].like(s.labels).array for _, s, _ in shown}
    spacing = stacks[id(shown[0][1])].spacing
    union = np.any([labels[id(s)][k] > 0 for _, s, k in shown], axis=0)
    rows, columns = crop_around(union[None], spacing, MARGIN_MM)
    aspect = spacing[0] / spacing[1]
    count = min(COLUMNS, len(shown))
    lines = -(-len(shown) // count)
    height_px, width_px = union[rows, columns].shape
    shape = height_px * aspect / width_px
    tile = min(1.45, 1.3 / shape) if function is not None else 2.4
    tall = tile * shape
    figure = _figure(tile * count, tall * lines)
    for n, (_, segmentation, k) in enumerate(shown):
        stack = stacks[id(segmentation)]
        axes = figure.add_axes(
            ((n % count) / count + 0.003, 1 - (n // count + 1) / lines + 0.004, 1 / count - 0.006, 1 / lines - 0.008)
        )
        image = stack.array[k, rows, columns]
        low, high = task.grey_window or np.percentile(stack.array[k], (1, 99.5))
        axes.imshow(image, cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="bilinear")
        axes.add_collection(outlines(labels[id(segmentation)][k, rows, columns], task, 1.2), autolim=False)
        axes.set_axis_off()
        text = f"{titles[n]} · slice {stack.number(int(k))}".lstrip(" ·")
        axes.text(
            0.02, 0.97, text, transform=axes.transAxes, color="white", fontsize=6.5, va="top",
            bbox={"facecolor": "black", "alpha": 0.55, "pad": 1.2, "edgecolor": "none"},
        )  # fmt: skip
    words = "Key slices with outlines" + (" at end diastole and end systole" if function else "")
    return _saved(figure, kind, words)


def bulls_eyes(walls: Walls, kind: Literal["png", "svg"] = "png") -> list[Picture]:
    """Thickness at end diastole and at end systole, and thickening, of the sixteen segments: three, with numbers."""
    ed, es, thickening = (walls.values[kind_of] for kind_of in ("wall_ed", "wall_es", "thickening"))
    largest = max([*ed.values(), *es.values()])
    plots = (
        ("Wall at end diastole, mm", ed, largest, "wall_ed"),
        ("Wall at end systole, mm", es, largest, "wall_es"),
        ("Thickening, %", thickening, max([100.0, *thickening.values()]), "thickening"),
    )
    pictures = []
    for title, values, most, kind_of in plots:
        digits = definitions()[kind_of].digits
        figure = _figure(2.35, 2.2)
        axes = figure.add_axes((0.01, 0.01, 0.98, 0.9))
        _bulls_eye(axes, values, most, digits, walls.named)
        figure.text(0.5, 0.94, title, fontsize=8, color=INK, ha="center")
        told = ", ".join(f"segment {n} {rounded(value, digits)}" for n, value in values.items())
        picture = _saved(figure, kind, f"{title}: {told if walls.named else 'sixteen segments'}")
        pictures.append(replace(picture, new_line=not pictures))
    return pictures


def volume_curve(study: StudyMeasurements, colors: dict[str, str], kind: Literal["png", "svg"] = "png") -> Picture:
    """Volumes of both ventricles over the beat, the left one's smoothed curve, end diastole and end systole."""
    figure = _figure(3.1, 2.1)
    axes = figure.add_axes((0.145, 0.185, 0.83, 0.74))
    times = study.times_ms
    count = len(study.beat.chamber_ml)
    x = np.arange(1, count + 1) if times is None else np.array(times)
    axes.plot(
        x, study.beat.chamber_ml, "o" if study.rates else "o-", color=colors["left"], markersize=3, linewidth=1.2,
        label="Left ventricle",
    )  # fmt: skip
    if study.rates:
        axes.plot(study.rates.times_ms, study.rates.volume_ml, color=colors["left"], linewidth=1.2)
    if study.right is not None:
        axes.plot(
            x, study.right.chamber_ml, "s-", color=colors["right"], markersize=2.6, linewidth=1.0,
            label="Right ventricle",
        )  # fmt: skip
    if study.function is not None:
        for name, phase in (("ED", study.function.end_diastole), ("ES", study.function.end_systole)):
            axes.axvline(x[phase], color=FAINT, linewidth=0.8, zorder=0)
            axes.text(x[phase], 1.01, name, transform=axes.get_xaxis_transform(), fontsize=6.5, ha="center", color=INK)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("Phase" if times is None else "Time after the R wave, ms", fontsize=7, labelpad=1.5, color=INK)
    axes.set_ylabel("Volume, ml", fontsize=7, labelpad=1.5, color=INK)
    axes.tick_params(labelsize=6.5, colors=INK, length=2.5)
    axes.legend(fontsize=6, frameon=False, loc="lower right")
    axes.grid(axis="y", color=FAINT, linewidth=0.4, alpha=0.7)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)
    return _saved(figure, kind, "Volumes of the ventricles over the beat")


def curve_colors(phase: Segmentation) -> dict[str, str]:
    """The colours of both ventricles, as the outlines have them, darker on paper."""
    from matplotlib.colors import to_hex

    task = phase.task
    names = {"left": task.chamber, "right": task.right_chamber}
    return {
        name: to_hex([0.82 * c for c in plot_color(task.segments[label - 1])])
        for name, label in names.items()
        if label is not None
    }


def _spread(segmentation: Segmentation, count: int, from_apex: bool = False) -> list[int]:
    """Slices of the stack in which there is something, evenly; from base to apex where a heart beats."""
    task = segmentation.task
    stack = SliceStack.in_plane(segmentation.volume, task.plane).like(segmentation.labels)
    wanted = stack.array == task.chamber if task.chamber is not None else stack.array > 0
    filled = np.flatnonzero(wanted.any(axis=(1, 2)))
    if not len(filled):
        filled = np.arange(len(stack.array))
    elif from_apex:
        filled = filled[::-1]
    at = (np.arange(count) + 0.5) / count * len(filled)
    return [int(k) for k in dict.fromkeys(filled[np.minimum(at.astype(int), len(filled) - 1)])]


def _bulls_eye(axes: Axes, values: dict[int, float], most: float, digits: int, named: bool) -> None:
    from matplotlib import colormaps
    from matplotlib.patches import Circle, Wedge

    shades = colormaps[COLOR_MAP]
    for level, (inner, outer) in enumerate(RINGS):
        sectors = 4 if level == 2 else 6
        wide = 360 / sectors
        for n in range(sectors):
            number = (1, 7, 13)[level] + n
            middle = 90 + n * wide  # the anterior wall is above, the septum to the left
            value = values.get(number)
            part = 0.0 if value is None else value / most
            shade = "#e3e6ea" if value is None else shades(min(max(part, 0.0), 1.0))
            axes.add_artist(  # `add_patch` would look for limits, which are set below
                Wedge((0, 0), outer, middle - wide / 2, middle + wide / 2, width=outer - inner, facecolor=shade,
                      edgecolor="white", linewidth=1.0)
            )  # fmt: skip
            radius = (inner + outer) / 2
            at = np.radians(middle)
            axes.text(
                radius * np.cos(at), radius * np.sin(at), "–" if value is None else rounded(value, digits), ha="center",
                va="center", fontsize=6.6, color=INK if value is None or part > 0.55 else "white",
            )  # fmt: skip
    axes.add_artist(Circle((0, 0), RINGS[-1][0], facecolor="#e3e6ea", edgecolor="white"))
    axes.text(0, 0, "17", ha="center", va="center", fontsize=5, color="#5b636e")
    sides = {"anterior": (0, 1.08), "inferior": (0, -1.08)} if named else {}
    for name, place in {**sides, "septal": (-1.08, 0)}.items():
        turn = 90 if name == "septal" else 0
        axes.text(*place, name, ha="center", va="center", rotation=turn, fontsize=6, color=INK)
    if named:
        axes.text(1.08, 0, "lateral", ha="center", va="center", rotation=270, fontsize=6, color=INK)
    axes.set_xlim(-1.2, 1.2)
    axes.set_ylim(-1.2, 1.2)
    axes.set_aspect("equal")
    axes.set_axis_off()


def _figure(width: float, height: float) -> Figure:
    """A figure of its own, so that no window system is asked for and nothing stays behind."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def _saved(figure: Figure, kind: Literal["png", "svg"], text: str) -> Picture:
    file = io.BytesIO()
    width, height = figure.get_size_inches()
    if kind == "svg":
        figure.savefig(file, format="svg", facecolor=PAPER)
    else:
        figure.savefig(file, format="png", facecolor=PAPER, pil_kwargs={"compress_level": 3})
    return Picture(file.getvalue(), float(width), float(height), text)
