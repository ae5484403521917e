"""The slices that training draws from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dinsegment.errors import InputError
from dinsegment.preprocessing import Preprocessing, View, decide
from dinsegment.slices import SliceStack
from dinsegment.tasks import Task
from dinsegment.training.cases import Case


@dataclass(frozen=True, eq=False)
class TrainingStack:
    """One case, ready to draw slices from.

    Attributes:
        image: (slices, y, x) float16 at the box's spacing over the whole field of view; 0 and 1 are the grey values at
            the percentiles of the box around the anatomy, values beyond are kept.
        masks: (slices, segments, y, x) uint8 on the same grid: the share of each pixel that is the segment, 255 is all
            of it. They stay soft, so that an augmented slice decides its labels once, where its own pixels are.
        center: (y, x) of the anatomy in pixels of that grid.
        overview_window: (low, high) at the percentiles of the whole field of view, in the units of `image`.
        slice_spacing: Distance of the slices in mm.
        spacing: In-plane spacing of this grid in mm.
    """

    image: Tensor
    masks: Tensor
    center: tuple[float, float]
    overview_window: tuple[float, float]
    slice_spacing: float
    spacing: float

    @property
    def labels(self) -> Tensor:
        """(slices, y, x) uint8, decided on the stack's own grid."""
        return decide(self.masks.movedim(1, 0).float() / 255)

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        return self.image.nbytes + self.masks.nbytes

    def to(self, device: torch.device) -> TrainingStack:
        """The same stack in the device's memory."""
        return replace(self, image=self.image.to(device), masks=self.masks.to(device))


def prepare(case: Case, task: Task, preprocessing: Preprocessing) -> TrainingStack:
    """Reads a case and resamples it as inference does, around the experts' anatomy."""
    volume, labels = case.read(task)
    stack = SliceStack.of(volume)
    truth = SliceStack(np.moveaxis(labels, stack.axis, 0), stack.spacing, stack.axis)
    extent = stack.extent_mm
    size = np.maximum(1, np.round(extent / preprocessing.spacing)).astype(int)
    middle = (extent - stack.spacing) / 2
    view = View((middle[0], middle[1]), (int(size[0]), int(size[1])), preprocessing.spacing)
    _, rows, columns = np.nonzero(truth.array)
    if not len(rows):
        raise InputError(f"'{case.labels}' has no label above 0: there is nothing to learn from.")
    center = (float(rows.mean()) * stack.spacing[0], float(columns.mean()) * stack.spacing[1])
    low, high = preprocessing.window(*preprocessing.box_around(center).sample(stack))
    image, inside = view.sample(stack)
    overview = preprocessing.window(image, inside)
    masks = (truth.array == s.label for s in task.segments)
    soft = [view.sample(SliceStack(m.astype(np.float32), stack.spacing, stack.axis))[0] for m in masks]
    return TrainingStack(
        image=((image - low) / (high - low)).half(),
        masks=(torch.stack(soft, 1) * 255).round().to(torch.uint8),
        center=tuple(float(c - f) / preprocessing.spacing for c, f in zip(center, view.first, strict=True)),
        overview_window=((overview[0] - low) / (high - low), (overview[1] - low) / (high - low)),
        slice_spacing=float(volume.spacing[stack.axis]),
        spacing=preprocessing.spacing,
    )


class SliceSampler:
    """Draws slices of all stacks in random order, each once an epoch. Its state is its epoch and its seed."""

    def __init__(self, stacks: Sequence[TrainingStack], batch: int, seed: int) -> None:
        self.index = [(n, k) for n, stack in enumerate(stacks) for k in range(len(stack.image))]
        self.batch = batch
        self.seed = seed

    def __len__(self) -> int:
        return len(self.index) // self.batch

    def epoch(self, number: int) -> list[list[tuple[int, int]]]:
        """Batches of (stack, slice) of that epoch; the rest that fills no batch is left out."""
        order = np.random.default_rng((self.seed, number)).permutation(len(self.index))
        return [[self.index[i] for i in order[n * self.batch : (n + 1) * self.batch]] for n in range(len(self))]
