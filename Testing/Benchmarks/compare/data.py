"""What differs between the tasks in a benchmark, from data.json: the volume, and what other tools are told of data.

`phantom` has the options of the task's phantom. `fingerprint` is the training set as nnU-Net's planner sees it: its
name of the image's kind, which decides how grey values are normalised; how many cases there are; and grids (k, j, i)
that have the median shape, the median spacing and the tenth percentile of the slice distance of them all.
`sliding_window` is how MONAI's tutorials prepare such images: spacing along (x, y, slices) in mm, where -1 keeps the
image's; sides of a window in pixels, two of them for slices one by one; the grey values brought to 0..1, or null where
each image is normalised by itself; and the norm of the U-Net.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dinsegment.errors import InputError
from dinsegment.images.volume import Volume
from dinsegment.phantom.generators import GENERATORS
from dinsegment.tasks import Task

DATA: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
"""By the names of the tasks."""


def benchmark_data(task: Task) -> dict[str, Any]:
    """What a task is measured with.

    Raises:
        InputError: There is nothing for it.
    """
    if task.name not in DATA:
        raise InputError(f"There is no benchmark for the task '{task.name}'; there is one for: {', '.join(DATA)}.")
    return DATA[task.name]


def phantom(task: Task) -> Volume:
    """The volume that a task is measured on where no image is named. Raises as `benchmark_data`."""
    options = benchmark_data(task)["phantom"]
    return GENERATORS[task.phantom.generator](1, **options)[0].volume
