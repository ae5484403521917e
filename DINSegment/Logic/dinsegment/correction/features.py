"""What the network has seen of an image, kept so that it is computed once however often a user corrects."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dinsegment.errors import ModelError
from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import Volume
from dinsegment.inference.anatomy import find_box
from dinsegment.inference.cine import consistent
from dinsegment.inference.confidence import Evidence
from dinsegment.inference.looking import look
from dinsegment.inference.plausible import checked_image
from dinsegment.inference.postprocessing import postprocess
from dinsegment.inference.preprocessing import Preprocessing
from dinsegment.inference.runner import Runner
from dinsegment.inference.view import View
from dinsegment.memory import check_memory
from dinsegment.quality.estimator import Estimator
from dinsegment.quality.unsure import Confidence
from dinsegment.tasks import Task

LEAST = 1e-4
"""Probabilities below this are taken for this: what the network rules out can still be corrected."""


@dataclass(frozen=True, eq=False)
class Features:
    """The network's probabilities of an image, and what its last layer made them from.

    Attributes:
        box: Where the network looked, in n slices.
        probabilities: Of all classes, (n, classes, rows, columns) float32: as `segment` has them, of a cine as
            `segment_phases` has them (`in_time`), so that slices of which nothing is learned keep their labels, voxel
            for voxel.
        hidden: What the last layer was given, (n, channels, h, w) float16; a pixel of it covers `scale` x `scale` of
            the box's.
        own: Of a cine those of the segments before they were smoothed, (n, segments, rows, columns) float16 as
            `segment_phases` has them, which tell how sure the network is; else None.
    """

    box: View
    probabilities: Tensor
    hidden: Tensor
    own: Tensor | None = None

    @property
    def stack(self) -> SliceStack:
        """The image in the slices that the network looks at."""
        return self.box.stack

    @property
    def scale(self) -> int:
        """Pixels of the box along either side of a pixel of `hidden`; the last ones may reach beyond the box."""
        return -(-self.probabilities.shape[-1] // self.hidden.shape[-1])

    @property
    def bytes(self) -> int:
        """Memory that it takes, without the image."""
        return self.probabilities.nbytes + self.hidden.nbytes

    def coarse(self, values: Tensor) -> Tensor:
        """Values (n, channels, rows, columns) of the box as means on the pixels of `hidden`, float32."""
        values = values.float()
        h, w = self.hidden.shape[-2:]
        pad = (0, w * self.scale - values.shape[-1], 0, h * self.scale - values.shape[-2])
        values = F.pad(values, pad, mode="replicate") if any(pad) else values
        return F.avg_pool2d(values, self.scale) if self.scale > 1 else values

    def fine(self, values: Tensor) -> Tensor:
        """Values (n, channels, h, w) on the pixels of `hidden`, interpolated to those of the box."""
        rows, columns = self.probabilities.shape[-2:]
        if self.scale > 1:
            values = F.interpolate(values, scale_factor=float(self.scale), mode="bilinear", align_corners=False)
        return values[..., :rows, :columns]

    def known(self, labels: np.ndarray, seen: tuple[int, ...]) -> dict[int, Tensor]:
        """What a user's labels say on the box's grid, in its slices nearest to those that the user has corrected.

        Args:
            labels: (slices, y, x) on the stack's grid.
            seen: Slices of the stack that were corrected.

        Returns:
            By slice of the box, the share of each of its pixels that each class has, (classes, rows, columns) float32.
            Of several corrected slices nearest to the same one, the nearest counts.
        """
        places = self.box.places[0]
        nearest: dict[int, tuple[float, int]] = {}
        for k in seen:
            n = int(np.argmin(np.abs(places - k)))
            nearest[n] = min(nearest.get(n, (np.inf, k)), (abs(float(places[n]) - k), k))
        flat = replace(self.box, slice_spacing=None)
        known = {}
        for n, (_, k) in sorted(nearest.items()):
            shares = []
            for label in range(1, self.probabilities.shape[1]):
                mask = replace(self.stack, array=(labels[k : k + 1] == label).astype(np.float32))
                shares.append(flat.on(mask).sample()[0][0])
            foreground = torch.stack(shares)
            known[n] = torch.cat((1 - foreground.sum(0, keepdim=True), foreground)).clamp(0, 1)
        return known

    def labels(
        self,
        probabilities: Iterator[Tensor],
        volume: Volume,
        task: Task,
        given: np.ndarray,
        seen: Collection[int],
        estimator: Estimator | None = None,
        temperature: float = 1.0,
        own: Iterator[Tensor] | None = None,
    ) -> tuple[np.ndarray, Confidence]:
        """Labels on the image's grid, made as `segment` makes them, and how sure the network is of them.

        Args:
            probabilities: Of all classes, (classes, rows, columns) float32, slice after slice of the box.
            volume: The image.
            task: What is segmented.
            given: The user's labels (slices, y, x) on the stack's grid.
            seen: Its slices that were corrected, which stay as they are.
            estimator: The model's, if it has one.
            temperature: The model's.
            own: The same that tell how sure the network is, of a cine; None where the others do.

        Returns:
            Labels (slices, y, x) uint8 on the stack's grid.
        """
        evidence = Evidence(self.box, temperature)
        foreground, drawn = (one[1:] for one in probabilities), {k: given[k] for k in seen}
        told, shown = (foreground, None) if own is None else ((one[1:] for one in own), foreground)
        labels = np.empty(self.stack.array.shape, np.uint8)
        for k, decided in enumerate(evidence.labels(told, shown, drawn)):
            labels[k] = decided
        labels = postprocess(labels, task, self.stack)
        for k in seen:  # What looks wrong to anatomy's rules is right if a person has drawn it.
            labels[k] = given[k]
        return labels, evidence.confidence(labels, volume, task, estimator)


def in_time(phases: Sequence[Features], name: str) -> list[Features]:
    """What the network saw of the phases of a cine, with probabilities smoothed in time as `segment_phases` does.

    Args:
        phases: All of them, in their order, of one box.
        name: Of the image, for messages.

    Raises:
        InputError: There is too little memory.
    """
    check_memory(name, 2 * sum(phase.probabilities.nbytes for phase in phases))
    own = np.stack([phase.probabilities[:, 1:].half().numpy() for phase in phases])
    smoothed = (torch.from_numpy(one).float() for one in consistent(own))
    return [
        replace(
            phase,
            probabilities=torch.cat((1 - foreground.sum(1, keepdim=True), foreground), 1),
            own=torch.from_numpy(own[n]),
        )
        for n, (phase, foreground) in enumerate(zip(phases, smoothed, strict=True))
    ]


def features_of(
    runner: Runner,
    preprocessing: Preprocessing,
    volume: Volume,
    task: Task,
    start: float = 0.0,
    stop: float = 1.0,
    name: str = "the model",
    box: View | None = None,
) -> Features | None:
    """What the network sees of an image; None where it finds no anatomy.

    Args:
        runner: With the network.
        preprocessing: Of the model.
        volume: The image.
        task: What is segmented.
        start: Progress at the beginning.
        stop: Progress at the end.
        name: Of the model, for messages.
        box: Where to look; where the anatomy is found if None.

    Raises:
        InputError: The image cannot be one of the task.
        ModelError: The network has no layer that could learn from corrections.
        Cancelled: The user has asked for it.
    """
    stack = checked_image(volume, task).stack
    box = box or find_box(runner, preprocessing, stack)
    if box is None:
        return None
    box = box.on(stack)
    classes = runner.network.config.classes
    needed = box.count * box.size[0] * box.size[1] * (4 * classes + 64) + volume.array.size * 4
    check_memory(volume.name, needed + runner.bytes_around(stack))
    given: list[Tensor] = []
    text, mirror = "Looking at the image", preprocessing.mirror
    probabilities = torch.cat(list(look(runner, preprocessing, box, text, start, stop, mirror=mirror, hidden=given)))
    if not given:
        raise ModelError(
            f"{name} cannot learn from corrections: its network has no last convolution. Choose another model."
        )
    return Features(box, probabilities, torch.cat(given))
