"""curves.png: how loss and validation Dice went, one picture for a whole run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dinsegment.files import atomic_path


def write_curves(history: Sequence[dict[str, float]], path: Path, title: str, grid: str) -> None:
    """Draws the loss of every epoch, and the Dice of every validation, per segment and their mean.

    Args:
        history: Rows of log.csv: `epoch`, `loss` and, where there was a validation, `dice` and `dice SEGMENT`.
        path: The PNG file.
        title: Of the picture.
        grid: What the Dice was computed on, as it stands on its axis.

    Raises:
        OutputError: The file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    loss, scores = figure.subplots(1, 2)
    loss.plot([row["epoch"] for row in history], [row["loss"] for row in history], marker=".")
    loss.set(xlabel="Epoch", ylabel="Training loss")
    validated = [row for row in history if "dice" in row]
    epochs = [row["epoch"] for row in validated]
    for name in validated[-1] if validated else ():
        if name.startswith("dice"):
            label = name.removeprefix("dice").strip() or "mean"
            width = 2.5 if label == "mean" else 1.2
            scores.plot(epochs, [row[name] for row in validated], marker=".", linewidth=width, label=label)
    scores.set(xlabel="Epoch", ylabel=f"Validation Dice, {grid}", ylim=(0, 1))
    if validated:
        scores.legend(loc="lower right", frameon=False)
    for axes in (loss, scores):
        axes.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
