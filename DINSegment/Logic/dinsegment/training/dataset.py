"""The slices that training draws from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dinsegment.enhancement.grey import window_inside
from dinsegment.errors import InputError
from dinsegment.images.slices import SliceStack
from dinsegment.inference.anatomy import box_around, box_around_body
from dinsegment.inference.preprocessing import Preprocessing
from dinsegment.inference.view import View, decide
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
    stack = SliceStack.in_plane(volume, preprocessing.plane)
    extent = stack.extent_mm
    size = np.maximum(1, np.round(extent / preprocessing.spacing)).astype(int)
    shape, spacing = (int(size[0]), int(size[1])), preprocessing.spacing
    view = View(stack, stack.middle_mm, shape, spacing, preprocessing.slice_spacing)
    truth = stack.like(labels).array
    _, rows, columns = np.nonzero(truth)
    if not len(rows):
        raise InputError(f"'{case.labels}' has no label above 0: there is nothing to learn from.")
    if preprocessing.locate == "body":
        center = box_around_body(preprocessing, stack).center
    elif preprocessing.locate == "middle":
        center = stack.middle_mm
    else:
        center = (float(rows.mean()) * stack.spacing[0], float(columns.mean()) * stack.spacing[1])
    clip = preprocessing.grey_window
    box = box_around(preprocessing, stack, center)
    low, high = window_inside(*box.sample(clip=clip), clip, preprocessing.percentiles)
    image, inside = view.sample(clip=clip)
    overview = window_inside(image, inside, clip, preprocessing.percentiles)
    masks = (replace(stack, array=truth == s.label) for s in task.segments)
    soft = [view.on(mask).sample()[0] for mask in masks]
    return TrainingStack(
        image=((image - low) / (high - low)).half(),
        masks=(torch.stack(soft, 1) * 255).round().to(torch.uint8),
        center=tuple(float(c - f) / spacing for c, f in zip(center, view.first, strict=True)),
        overview_window=((overview[0] - low) / (high - low), (overview[1] - low) / (high - low)),
        slice_spacing=preprocessing.slice_spacing or stack.slice_spacing,
        spacing=spacing,
    )


class SliceSampler:
    """Draws slices of all stacks in random order. Its state is its epoch and its seed.

    Args:
        stacks: What to draw from.
        batch: Slices a step.
        seed: Of the order.
        balance: 0 draws each slice once an epoch. With 1, every segment, and no segment, has the same share of the
            draws, spread evenly over the slices that show it. Values between mix both. An epoch has as many slices in
            any case.
    """

    def __init__(self, stacks: Sequence[TrainingStack], batch: int, seed: int, balance: float = 0.0) -> None:
        self.index = [(n, k) for n, stack in enumerate(stacks) for k in range(len(stack.image))]
        self.batch = batch
        self.seed = seed
        self.shares = _shares(stacks, balance) if balance else None

    def __len__(self) -> int:
        return len(self.index) // self.batch

    def epoch(self, number: int) -> list[list[tuple[int, int]]]:
        """Batches of (stack, slice) of that epoch; the rest that fills no batch is left out."""
        random = np.random.default_rng((self.seed, number))
        order = random.permutation(len(self.index))
        if self.shares is not None:  # systematic sampling: a slice comes as often as its share says, or once more
            ends = np.cumsum(self.shares[order]) * len(order)
            ends[-1] = len(order)  # however its sum was rounded
            order = random.permutation(order[np.searchsorted(ends, np.arange(len(order)) + random.random())])
        return [[self.index[i] for i in order[n * self.batch : (n + 1) * self.batch]] for n in range(len(self))]


def _shares(stacks: Sequence[TrainingStack], balance: float) -> np.ndarray:
    """How often each slice of all stacks is drawn, (slices,), in sum 1."""
    present = np.concatenate([(stack.masks > 127).flatten(2).any(2).numpy() for stack in stacks])
    present = np.concatenate((present, ~present.any(1, keepdims=True)), axis=1).astype(float)
    present = present[:, present.any(0)]
    balanced = (present / present.sum(0)).mean(1)
    return balance * balanced + (1 - balance) / len(present)
