"""What differs between the tasks in a benchmark: the volume, and what the other tools would be told of the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dinsegment.errors import InputError
from dinsegment.images.volume import Volume
from dinsegment.phantom.ct import abdomen_phantom
from dinsegment.phantom.heart import heart_phantom
from dinsegment.tasks import Task


@dataclass(frozen=True)
class Fingerprint:
    """A training set as nnU-Net's planner sees it; from it follow patch size, spacing and network.

    Attributes:
        source: Which set, and where its figures stand.
        channel: nnU-Net's name of the image's kind, which decides how grey values are normalised.
        cases: Training cases.
        grids: Shape (k, j, i) and spacing in mm of some cases, which have the median shape, the median spacing and the
            tenth percentile of the slice distance of them all; the planner looks at nothing else.
    """

    source: str
    channel: str
    cases: int
    grids: tuple[tuple[tuple[int, int, int], tuple[float, float, float]], ...]


@dataclass(frozen=True)
class SlidingWindow:
    """How MONAI's tutorials prepare such images.

    Attributes:
        dimensions: 2 for slices one by one, 3 for the volume.
        spacing: Along (x, y, slices) in mm; -1 keeps what the image has.
        window: Sides in pixels.
        grey_window: Grey values (low, high) brought to 0..1; None where each image is normalised by itself.
        norm: Of the U-Net.
    """

    dimensions: int
    spacing: tuple[float, float, float]
    window: int
    grey_window: tuple[float, float] | None
    norm: str


@dataclass(frozen=True)
class BenchmarkData:
    """What a task is measured with."""

    phantom: Callable[[], Volume]
    fingerprint: Fingerprint
    sliding_window: SlidingWindow


def _heart() -> Volume:
    return heart_phantom(slices=10).volume


def _abdomen() -> Volume:
    return abdomen_phantom(slices=150, size=(512, 512), spacing=(2.0, 0.75, 0.75)).volume


DATA = {
    "heart": BenchmarkData(
        phantom=_heart,
        fingerprint=Fingerprint(
            source="ACDC, from the headers of its 200 training images",
            channel="MRI",
            cases=200,
            grids=(
                *3 * (((10, 256, 216), (5.0, 1.3672, 1.3672)),),
                *5 * (((9, 256, 216), (10.0, 1.5625, 1.5625)),),
                *4 * (((9, 256, 216), (10.0, 1.6797, 1.6797)),),
            ),
        ),
        # MONAI's tutorial 2d_segmentation has windows of 96 x 96; spacing is the median of ACDC.
        sliding_window=SlidingWindow(2, (1.5625, 1.5625, -1.0), 96, None, "INSTANCE"),
    ),
    "abdomen": BenchmarkData(
        phantom=_abdomen,
        fingerprint=Fingerprint(
            source="BTCV (Synapse): 30 cases of 512 x 512 pixels of 0.76 mm, 148 slices of 3 mm in the median",
            channel="CT",
            cases=30,
            grids=(
                *3 * (((96, 512, 512), (5.0, 0.70, 0.70)),),
                *4 * (((148, 512, 512), (3.0, 0.76, 0.76)),),
                *2 * (((140, 512, 512), (3.0, 0.82, 0.82)),),
            ),
        ),
        # MONAI's tutorials spleen_segmentation_3d and unetr_btcv_segmentation_3d.
        sliding_window=SlidingWindow(3, (1.5, 1.5, 2.0), 96, (-175.0, 250.0), "BATCH"),
    ),
}
"""By the names of the tasks."""


def benchmark_data(task: Task) -> BenchmarkData:
    """What a task is measured with.

    Raises:
        InputError: There is nothing for it.
    """
    if task.name not in DATA:
        raise InputError(f"There is no benchmark for the task '{task.name}'; there is one for: {', '.join(DATA)}.")
    return DATA[task.name]
