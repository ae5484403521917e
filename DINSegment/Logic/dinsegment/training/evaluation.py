"""Evaluation of a model on labelled cases: Dice per segment, over ED and ES volumes at original resolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dinsegment.inference import segment
from dinsegment.tasks import Task
from dinsegment.training.dataset import Case
from dinsegment.training.metrics import dice
from dinsegment.weights import Model


def evaluate(
    model: Model,
    task: Task,
    cases: Sequence[Case],
    device: str = "auto",
    progress: Callable[[int, Case], None] | None = None,
) -> dict[str, Any]:
    """Segments every case as a user would and compares with the experts.

    Returns:
        As metrics.json has it: `dice` with `mean` and one entry per segment, all in 0..1 and means over cases; the same
        per cardiac phase in `phases`; `cases` with each case's own.
    """
    rows = []
    for number, case in enumerate(cases):
        if progress:
            progress(number, case)
        volume, truth = case.read(task)
        result = segment(volume, task, model, device)
        scores = {s.abbreviation: dice(result.labels, truth, s.label) for s in task.segments}
        rows.append(
            {
                "case": case.name,
                "patient": case.patient,
                "phase": case.phase,
                "dice": {"mean": float(np.mean(list(scores.values()))), **scores},
                "seconds": round(result.seconds, 3),
                "warnings": list(result.warnings),
            }
        )
    phases = sorted({row["phase"] for row in rows} - {""})
    return {
        "dice": mean_dice(rows),
        "phases": {phase: mean_dice([r for r in rows if r["phase"] == phase]) for phase in phases},
        "model": model.name,
        "task": task.name,
        "cases": rows,
    }


def mean_dice(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean over cases of every entry of `dice`."""
    return {name: float(np.mean([row["dice"][name] for row in rows])) for name in rows[0]["dice"]}
