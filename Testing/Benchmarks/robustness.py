"""How much Dice falls when the same hearts are presented differently.

    python Testing/Benchmarks/robustness.py --data DIR --split FILE [--json FILE]

Ten volumes, one of each patient in the split, end diastole and end systole in turn. Every change is made to the image,
its grid and the experts' labels alike; the score is mean Dice over segments and volumes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from dinsegment.images.volume import Volume
from dinsegment.inference import segment
from dinsegment.inference.model import load_model
from dinsegment.tasks import get_task
from dinsegment.training.cases import find_cases, read_split
from dinsegment.training.metrics import dice

Labelled = tuple[Volume, np.ndarray]
MARGIN_MM = 10.0


def regrid(volume: Volume, array: np.ndarray, ijk_to_new_ijk: np.ndarray) -> Volume:
    """Voxels on a grid whose indices come from the old ones by a 4x4 matrix."""
    return replace(volume, array=array, ijk_to_ras=volume.ijk_to_ras @ np.linalg.inv(ijk_to_new_ijk))


def shifted(i: float, j: float) -> np.ndarray:
    """Index matrix of a shift."""
    matrix = np.eye(4)
    matrix[:2, 3] = i, j
    return matrix


def pad(volume: Volume, truth: np.ndarray) -> Labelled:
    """Half the image's size more on every side of the slices, filled with its minimum."""
    _, rows, columns = volume.shape
    width = ((0, 0), (rows // 2, rows // 2), (columns // 2, columns // 2))
    array = np.pad(volume.array, width, constant_values=volume.array.min())
    return regrid(volume, array, shifted(columns // 2, rows // 2)), np.pad(truth, width)


def crop(volume: Volume, truth: np.ndarray) -> Labelled:
    """The rectangle around the heart and a centimetre more."""
    bounds = []
    for axis, spacing in ((1, volume.spacing[1]), (2, volume.spacing[2])):
        filled = np.flatnonzero(truth.any(axis=(0, 3 - axis)))
        margin = round(MARGIN_MM / spacing)
        bounds.append(slice(max(0, filled[0] - margin), filled[-1] + margin + 1))
    rows, columns = bounds
    moved = regrid(volume, volume.array[:, rows, columns], shifted(-columns.start, -rows.start))
    return moved, truth[:, rows, columns]


def rotate(volume: Volume, truth: np.ndarray) -> Labelled:
    """A quarter turn of the slices."""
    matrix = np.array([[0, 1, 0, 0], [-1, 0, 0, volume.shape[2] - 1], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    return regrid(volume, np.rot90(volume.array, axes=(1, 2)), matrix), np.rot90(truth, axes=(1, 2))


def flip(axis: int) -> Callable[[Volume, np.ndarray], Labelled]:
    """The axis of the array runs backwards."""

    def flipped(volume: Volume, truth: np.ndarray) -> Labelled:
        matrix = np.eye(4)
        matrix[2 - axis, 2 - axis], matrix[2 - axis, 3] = -1, volume.shape[axis] - 1
        return regrid(volume, np.flip(volume.array, axis), matrix), np.flip(truth, axis)

    return flipped


def halve(volume: Volume, truth: np.ndarray) -> Labelled:
    """Half the in-plane resolution: means of 2x2 pixels; labels by the mean of each class."""

    def mean(array: np.ndarray) -> np.ndarray:
        even = array[:, : array.shape[1] // 2 * 2, : array.shape[2] // 2 * 2].astype(np.float32)
        return even.reshape(len(even), even.shape[1] // 2, 2, even.shape[2] // 2, 2).mean((2, 4))

    matrix = np.diag([0.5, 0.5, 1, 1])
    matrix[:2, 3] = -0.25
    classes = np.stack([mean(truth == label) for label in range(int(truth.max()) + 1)])
    return regrid(volume, mean(volume.array), matrix), classes.argmax(0).astype(np.uint8)


CHANGES: dict[str, Callable[[Volume, np.ndarray], Labelled]] = {
    "as it is": lambda volume, truth: (volume, truth),
    "padded by half its size on every side": pad,
    "cropped around the heart": crop,
    "rotated by 90 degrees": rotate,
    "flipped left to right": flip(2),
    "flipped top to bottom": flip(1),
    "slices in reverse order": flip(0),
    "half the in-plane resolution": halve,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--task", default="heart")
    parser.add_argument("--model")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    task = get_task(options.task)
    model = load_model(options.model, task)
    cases = find_cases(options.data, read_split(options.split), task)
    chosen = [c for n, p in enumerate(dict.fromkeys(c.patient for c in cases))
              for c in cases if c.patient == p and c.phase == ("ED", "ES")[n % 2]][:10]  # fmt: skip
    table = {}
    for name, change in CHANGES.items():
        scores = []
        for case in chosen:
            volume, truth = change(*case.read(task))
            labels = segment(volume, task, model, options.device).labels
            scores.append(np.mean([dice(labels, truth, s.label) for s in task.segments]))
        table[name] = float(np.mean(scores))
        print(f"{name:40} {table[name]:.4f}  {table[name] - table['as it is']:+.4f}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
