"""Pictures of an evaluation, as PNG: Dice per case, agreement of measurements, and the worst cases."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dinsegment.images.segmentation import Segmentation
from dinsegment.images.slices import SliceStack
from dinsegment.studies.overview import BACKGROUND, TEXT, crop_around
from dinsegment.training.statistics import Agreement

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EXPERT, MODEL = "#40e0d0", "#ffb000"
"""Outlines in the worst cases, told apart on grey also by the colour-blind."""

SLICES = 3
"""Of each of the worst cases."""


@dataclass(frozen=True)
class Look:
    """Colours of a plot."""

    paper: str
    ink: str
    faint: str
    dots: str
    line: str


LIGHT = Look(paper="#ffffff", ink="#1d2127", faint="#c9ced6", dots="#2563a8", line="#b3470b")
DARK = Look(paper="#16181c", ink="#e8eaed", faint="#444a54", dots="#7cb7ff", line="#ffb070")


@dataclass(frozen=True, eq=False)
class Picture:
    """What is needed to show a case: the slices in which most pixels differ, cropped to the anatomy.

    Attributes:
        case: Its name.
        slices: Numbers of the slices, as the user reads them.
        image: (slices, y, x) in the plane that the task looks at.
        enhanced: The enhanced image of the same.
        labels: The model's, uint8.
        truth: The experts', uint8.
        aspect: Height of a pixel over its width.
    """

    case: str
    slices: tuple[int, ...]
    image: np.ndarray
    enhanced: np.ndarray
    labels: np.ndarray
    truth: np.ndarray
    aspect: float


def picture_of(case: str, result: Segmentation, truth: np.ndarray) -> Picture:
    """The slices of a result that differ most from the experts' labels (k, j, i); copies, not views."""
    stack = SliceStack.in_plane(result.volume, result.task.plane)
    enhanced, labels, expert = (stack.like(a).array for a in (result.enhanced.array, result.labels, truth))
    wrong = (labels != expert).sum(axis=(1, 2))
    chosen = np.sort(np.argsort(-wrong, kind="stable")[:SLICES])
    rows, columns = crop_around(labels[chosen] | expert[chosen], stack.spacing)
    return Picture(
        case=case,
        slices=tuple(stack.number(int(k)) for k in chosen),
        image=stack.array[chosen, rows, columns],
        enhanced=enhanced[chosen, rows, columns],
        labels=labels[chosen, rows, columns],
        truth=expert[chosen, rows, columns],
        aspect=stack.spacing[0] / stack.spacing[1],
    )


def picture_png(picture: Picture) -> bytes:
    """Each slice as a pair of original and enhanced, with the expert's and the model's outlines on both."""
    count = len(picture.slices)
    tile = 2.1
    height = tile * picture.image.shape[1] * picture.aspect / picture.image.shape[2]
    figure = _figure(2 * tile * count, height + 0.22, BACKGROUND)
    figure.subplots_adjust(0.003, 0.003, 0.997, height / (height + 0.22), 0.02, 0)
    for n, k in enumerate(picture.slices):
        for column, (images, title) in enumerate(((picture.image, f"Slice {k}"), (picture.enhanced, "Enhanced"))):
            axes = figure.add_subplot(1, 2 * count, 2 * n + column + 1)
            low, high = np.percentile(images, (0.5, 99.5))
            axes.imshow(images[n], cmap="gray", vmin=low, vmax=high, aspect=picture.aspect, interpolation="bilinear")
            for labels, color, style in ((picture.truth[n], EXPERT, "solid"), (picture.labels[n], MODEL, "dashed")):
                for label in np.unique(labels[labels > 0]):
                    axes.contour(labels == label, levels=[0.5], colors=color, linewidths=1.0, linestyles=style)
            axes.set_axis_off()
            axes.set_title(title, color=TEXT, fontsize=8, pad=2, loc="left")
    return _png(figure)


def dice_png(values: np.ndarray, names: tuple[str, ...], look: Look) -> bytes:
    """A dot for every case (cases, segments) over a box from quartile to quartile with the median."""
    figure = _figure(max(4.5, 1.5 * len(names)), 3.4, look.paper)
    axes = figure.add_subplot()
    _dress(axes, look)
    axes.boxplot(
        list(values.T), widths=0.5, showfliers=False,
        medianprops={"color": look.line, "linewidth": 2}, boxprops={"color": look.ink},
        whiskerprops={"color": look.ink}, capprops={"color": look.ink},
    )  # fmt: skip
    # Dots beside each other in the order of the cases: the eye tells equal ones apart, and nothing is random.
    across = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else np.zeros(1)
    for n, column in enumerate(values.T, start=1):
        axes.plot(n + across, column, ".", color=look.dots, alpha=0.75, markersize=6)
    axes.set_xticks(range(1, len(names) + 1), names)
    axes.set_ylabel("Dice")
    figure.tight_layout(pad=0.6)
    return _png(figure)


def agreement_png(measurements: list[tuple[str, str, np.ndarray, np.ndarray]], look: Look) -> bytes:
    """Bland-Altman plots, two a row.

    Args:
        measurements: Title, unit, the model's and the experts' values of the patients; NaN where there is none.
        look: Colours.
    """
    rows = -(-len(measurements) // 2)
    figure = _figure(9.4, 3.1 * rows, look.paper)
    for n, (title, unit, model, expert) in enumerate(measurements, start=1):
        axes = figure.add_subplot(rows, 2, n)
        _dress(axes, look)
        agreement = Agreement.of(model - expert)
        axes.plot((model + expert) / 2, model - expert, "o", color=look.dots, alpha=0.8, markersize=4.5)
        axes.axhline(0, color=look.faint, linewidth=1)
        for value, name, style in (
            (agreement.upper_limit, "+1.96 SD", "dashed"),
            (agreement.bias, "bias", "solid"),
            (agreement.lower_limit, "-1.96 SD", "dashed"),
        ):
            if np.isfinite(value):
                axes.axhline(value, color=look.line, linewidth=1.3, linestyle=style)
                axes.annotate(
                    f"{name}\n{value:+.1f}", (1, value), xycoords=("axes fraction", "data"), xytext=(3, 0),
                    textcoords="offset points", ha="left", va="center", fontsize=7.5, color=look.ink,
                )  # fmt: skip
        axes.margins(y=0.2)
        axes.set_title(title, color=look.ink, fontsize=10, loc="left")
        axes.set_xlabel(f"Mean of model and expert, {unit}")
        axes.set_ylabel(f"Model minus expert, {unit}")
    figure.tight_layout(pad=0.6)
    return _png(figure)


def _figure(width: float, height: float, paper: str) -> Figure:
    """A figure of its own, so that no window system is asked for and nothing stays behind."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, facecolor=paper)
    FigureCanvasAgg(figure)
    return figure


def _dress(axes: Axes, look: Look) -> None:
    axes.set_facecolor(look.paper)
    axes.tick_params(colors=look.ink, labelsize=8)
    axes.xaxis.label.set(color=look.ink, fontsize=8.5)
    axes.yaxis.label.set(color=look.ink, fontsize=8.5)
    for side, spine in axes.spines.items():
        spine.set_color(look.faint)
        spine.set_visible(side in ("left", "bottom"))
    axes.grid(axis="y", color=look.faint, linewidth=0.5, alpha=0.6)
    axes.set_axisbelow(True)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor=figure.get_facecolor())
    return buffer.getvalue()
