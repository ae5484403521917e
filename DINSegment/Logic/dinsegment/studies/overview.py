"""overview.png: original and enhanced slices side by side with the segments' outlines."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dinsegment.files import atomic_path
from dinsegment.images.outlines import crop_around, outlines, plot_color
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.slices import SliceStack
from dinsegment.measurements.volumes import segment_volumes

PAIRS_PER_ROW = 4
MAX_SLICES = 12
COMPRESSION = 3
"""Of the PNG, 0 to 9: half the time of the usual 6, a twelfth more bytes."""

BACKGROUND, TEXT = "#16181c", "#e8eaed"
PAIR, WITHIN, BETWEEN, LEAST_WIDTH = 3.1, 0.02, 0.09, 6.2
"""Widths in inches: of a pair, of the gaps in it and after it, and of the whole picture at the least."""
MARGIN, ABOVE, BELOW, OVER_TILE = 0.06, 0.60, 0.46, 0.18
"""Room in inches: at the left, for the title, for the legend, and for the name of each slice."""


def _choose_slices(labels: np.ndarray) -> np.ndarray:
    """Up to MAX_SLICES slices, spread over those that have segments (over all if none has)."""
    filled = np.flatnonzero(labels.reshape(len(labels), -1).any(1))
    first, last = (filled[0], filled[-1]) if len(filled) else (0, len(labels) - 1)
    return np.unique(np.linspace(first, last, min(MAX_SLICES, last - first + 1)).round().astype(int))


def write_overview(segmentation: Segmentation, path: Path) -> None:
    """Writes rows of slices, each as a pair of original and enhanced, with outlines on both and a legend.

    Raises:
        OutputError: The file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.transforms import Affine2D

    task = segmentation.task
    stack = SliceStack.in_plane(segmentation.volume, task.plane)
    labels, enhanced = (stack.like(a).array for a in (segmentation.labels, segmentation.enhanced.array))
    rows, columns = crop_around(labels, stack.spacing)
    chosen = _choose_slices(labels)
    pair = [array[chosen, rows, columns] for array in (stack.array, enhanced)]
    windows = [task.grey_window or tuple(np.percentile(a, (0.5, 99.5))) for a in pair]

    n_rows, n_columns = pair[0].shape[1:]
    pairs = min(PAIRS_PER_ROW, len(chosen))
    wide = (PAIR - WITHIN - BETWEEN) / 2
    high = wide * n_rows / n_columns * stack.spacing[0] / stack.spacing[1]
    width = max(MARGIN + PAIR * pairs, LEAST_WIDTH)
    height = ABOVE + (OVER_TILE + high) * -(-len(chosen) // pairs) + BELOW
    figure = Figure(figsize=(width, height), dpi=150)
    FigureCanvasAgg(figure)
    # One system of axes for all, in inches from the upper left corner: to set one up for each slice takes long.
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    axes.set_axis_off()
    for n, k in enumerate(chosen):
        titles = (f"Slice {stack.number(k)}", "Enhanced")
        for column, (images, window, title) in enumerate(zip(pair, windows, titles, strict=True)):
            x = MARGIN + PAIR * (n % pairs) + (wide + WITHIN) * column
            y = ABOVE + (OVER_TILE + high) * (n // pairs) + OVER_TILE
            axes.imshow(
                images[n], cmap="gray", vmin=window[0], vmax=window[1], interpolation="bilinear", aspect="auto",
                extent=(x, x + wide, y + high, y),
            )  # fmt: skip
            lines = outlines(labels[k, rows, columns], task)
            to_tile = Affine2D().translate(0.5, 0.5).scale(wide / n_columns, high / n_rows).translate(x, y)
            lines.set_transform(to_tile + axes.transData)
            axes.add_collection(lines, autolim=False)
            axes.text(x, y - 0.03, title, color=TEXT, fontsize=6.5, va="bottom")
    axes.set(xlim=(0, width), ylim=(height, 0))

    # Names of files have dollar signs and backslashes, too.
    words = {"color": TEXT, "va": "top", "parse_math": False}
    axes.text(MARGIN, 0.12, f"{segmentation.volume.name}  ·  {task.title}", fontsize=11, **words)
    said = f"Original and fuzzy-enhanced image, {segmentation.model}. Research tool, not a medical device."
    axes.text(MARGIN, 0.36, said, fontsize=7.5, alpha=0.8, **words)
    volumes = zip(task.segments, segment_volumes(segmentation), strict=True)
    figure.legend(
        handles=[
            Line2D([], [], color=plot_color(s), linewidth=2.5, label=f"{s.name}  {v.volume_ml:.1f} ml")
            for s, v in volumes
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
