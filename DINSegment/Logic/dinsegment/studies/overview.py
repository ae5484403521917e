"""overview.png: original and enhanced slices side by side with the segments' outlines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dinsegment.files import atomic_path
from dinsegment.images.outlines import crop_around, outlines, plot_color
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.slices import SliceStack
from dinsegment.measurements.volumes import segment_volumes
from dinsegment.tasks import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAIRS_PER_ROW = 4
MAX_SLICES = 12
COMPRESSION = 3
"""Of the PNG, 0 to 9: half the time of the usual 6, a twelfth more bytes."""

BACKGROUND, TEXT = "#16181c", "#e8eaed"


def _choose_slices(labels: np.ndarray) -> np.ndarray:
    """Up to MAX_SLICES slices, spread over those that have segments (over all if none has)."""
    filled = np.flatnonzero(labels.reshape(len(labels), -1).any(1))
    first, last = (filled[0], filled[-1]) if len(filled) else (0, len(labels) - 1)
    return np.unique(np.linspace(first, last, min(MAX_SLICES, last - first + 1)).round().astype(int))


def _show(
    axes: Axes, image: np.ndarray, window: tuple[float, float], labels: np.ndarray, task: Task, aspect: float
) -> None:
    axes.imshow(image, cmap="gray", vmin=window[0], vmax=window[1], aspect=aspect, interpolation="bilinear")
    axes.add_collection(outlines(labels, task), autolim=False)
    axes.set_axis_off()


def write_overview(segmentation: Segmentation, path: Path) -> None:
    """Writes rows of slices, each as a pair of original and enhanced, with outlines on both and a legend.

    Raises:
        OutputError: The file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    stack = SliceStack.in_plane(segmentation.volume, segmentation.task.plane)
    labels, enhanced = (stack.like(a).array for a in (segmentation.labels, segmentation.enhanced.array))
    rows, columns = crop_around(labels, stack.spacing)
    chosen = _choose_slices(labels)
    original = stack.array[chosen, rows, columns]
    pair = (original, enhanced[chosen, rows, columns])
    windows = [segmentation.task.grey_window or tuple(np.percentile(a, (0.5, 99.5))) for a in pair]
    aspect = stack.spacing[0] / stack.spacing[1]

    pairs = min(PAIRS_PER_ROW, len(chosen))
    grid_rows = -(-len(chosen) // pairs)
    height, width = original.shape[1] * aspect, original.shape[2]
    tile = 1.55
    figure = Figure(
        figsize=(max(2 * tile * pairs, 6.2), tile * height / width * grid_rows + 0.24 * grid_rows + 1.15), dpi=150
    )
    FigureCanvasAgg(figure)
    figure.set_facecolor(BACKGROUND)
    total = figure.get_figheight()
    outer = figure.add_gridspec(
        grid_rows, pairs, left=0.008, right=0.992, top=1 - 0.66 / total, bottom=0.42 / total, wspace=0.03, hspace=0.10
    )
    for n, k in enumerate(chosen):
        cell = outer[n // pairs, n % pairs].subgridspec(1, 2, wspace=0.01)
        for column, (image, title) in enumerate(
            ((original[n], f"Slice {stack.number(k)}"), (enhanced[k, rows, columns], "Enhanced"))
        ):
            axes = figure.add_subplot(cell[column])
            _show(axes, image, windows[column], labels[k, rows, columns], segmentation.task, aspect)
            # Matplotlib measures all ticks, hidden as they are, for a title that has no place.
            axes.set_title(title, color=TEXT, fontsize=6.5, pad=2, loc="left", y=1.0)

    task = segmentation.task
    figure.text(
        0.01,
        1 - 0.12 / total,
        f"{segmentation.volume.name}  ·  {task.title}",
        color=TEXT,
        fontsize=11,
        va="top",
        parse_math=False,  # names of files have dollar signs and backslashes, too
    )
    figure.text(
        0.01,
        1 - 0.36 / total,
        f"Original and fuzzy-enhanced image, {segmentation.model}. Research tool, not a medical device.",
        color=TEXT,
        fontsize=7.5,
        va="top",
        alpha=0.8,
        parse_math=False,
    )
    figure.legend(
        handles=[
            Line2D(
                [],
                [],
                color=plot_color(s),
                linewidth=2.5,
                label=f"{s.name}  {v.volume_ml:.1f} ml",
            )
            for s, v in zip(task.segments, segment_volumes(segmentation), strict=True)
        ],
        loc="lower left",
        bbox_to_anchor=(0.005, 0.0),
        ncols=4,
        fontsize=8,
        frameon=False,
        labelcolor=TEXT,
    )
    with atomic_path(path) as temporary:
        figure.savefig(temporary, facecolor=BACKGROUND, format="png", pil_kwargs={"compress_level": COMPRESSION})
