"""Boxes of organs, varied: what the network that looks closer learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dinsegment.errors import InputError
from dinsegment.images.slices import SliceStack
from dinsegment.inference.organ_box import (
    SMALLEST_MM,
    BoxGrid,
    OrganBox,
    extent,
    to_left_anterior_inferior,
    to_superior_posterior_left,
)
from dinsegment.network.obelisk import Obelisk
from dinsegment.tasks import Task
from dinsegment.training.cases import Case
from dinsegment.training.context.augmentation import ELASTIC, rotation, varied
from dinsegment.training.context.data import dice_of_shown
from dinsegment.training.context.recipe import OrganRecipe

FACES_MM = ((16.0, 8.0), (9.0, 9.0), (8.0, 8.0))
"""Standard deviations of where the box's faces lie: inferior and superior, anterior and posterior, right and left. The
network of the trunk finds them on 6 mm, and those that the published weights were learned in were drawn by hand."""

LEAST_MM = 100.0
"""Of the sides of the box around whole organs."""

TILT_DEG = (3.0, 3.0, 5.0)
"""Standard deviations of the rotations in the planes (y, x), (z, y) and (z, x)."""

BENT_MM, NODES = (2.0, 9.0), 5
"""How far (standard deviation) the body is bent, and at how many places along each side of the box."""

CUT, SHOWN = 0.4, (0.2, 0.95)
"""How often an image begins or ends within the organs, and the share of their extent that it then shows."""

SIDEWAYS = 0.2
"""How many of these cuts are to the right, to the left or both; the others are below, above or both."""


@dataclass(frozen=True, eq=False)
class Organs:
    """One case, kept to draw boxes of.

    Attributes:
        grey: (z, y, x) float32 in [0, 1] of the grey window: axial slices from inferior to superior, y to posterior, x
            to left. Air is 0.
        air: (z, y, x) bool.
        labels: (z, y, x) uint8.
        spacing: Along (z, y, x) in mm.
        box: Around the experts' organs.
        around: Labels of the organs that a box lies around.
    """

    grey: Tensor
    air: Tensor
    labels: Tensor
    spacing: tuple[float, float, float]
    box: OrganBox
    around: tuple[int, ...]

    @classmethod
    def of(cls, case: Case, task: Task, grid: BoxGrid) -> Organs:
        """A case. Raises InputError if none of the organs that the box lies around is labelled in it."""
        volume, labels = case.read(task)
        stack = SliceStack.axial(volume)
        truth = stack.like(labels).array
        spacing = (stack.slice_spacing, *stack.spacing)
        by_name = {segment.name: segment.label for segment in task.segments}
        around = tuple(by_name[name] for name in grid.around)
        box = grid.box(truth, around, (0.0, 0.0, 0.0), spacing)
        if box is None:
            raise InputError(
                f"'{case.labels}' has none of the organs that are looked at: there is nothing to learn from."
            )
        low, high = grid.grey_window
        grey = (torch.from_numpy(stack.array.astype(np.float32)).clamp(low, high) - low) / (high - low)
        air = torch.from_numpy(np.stack([grid.is_air(plane) for plane in stack.array]))
        return cls(grey, air, torch.from_numpy(np.ascontiguousarray(truth)), spacing, box, around)


class Boxes:
    """Draws boxes of organs and varies them; what is drawn follows from the seed alone."""

    def __init__(self, organs: Sequence[Organs], recipe: OrganRecipe, seed: int) -> None:
        self._organs, self._recipe = organs, recipe
        self._random = np.random.default_rng(seed)

    def draw(self) -> tuple[Tensor, Tensor]:
        """What the network sees, (1, D, H, W) float32, and the labels (D, H, W) int64, along its axes."""
        random, recipe = self._random, self._recipe
        organs = self._organs[random.integers(len(self._organs))]
        places = self._places(organs)
        options = {"padding_mode": "border", "align_corners": False}
        planes = torch.stack((organs.grey, organs.air.float()))
        grey, air = F.grid_sample(planes[None], places, mode="bilinear", **options)[0]
        labels = F.grid_sample(organs.labels[None, None].float(), places, mode="nearest", **options)[0, 0].long()
        grey = varied(random, grey, labels, recipe.task)
        seen = recipe.preprocessing.seen(grey, air > 0.5)
        return to_left_anterior_inferior(seen)[None].contiguous(), to_left_anterior_inferior(labels).contiguous()

    def _places(self, organs: Organs) -> Tensor:
        """Where the voxels of a box lie, (1, z, y, x, 3) as `grid_sample` takes it."""
        random, side = self._random, self._recipe.network.side
        shown, box = self._shown(organs)
        cut = shown != whole(organs)
        moved = np.where(cut, 0.0, random.normal(0, FACES_MM))
        low, high = np.array(box.low) - moved[:, 0], np.array(box.high) + moved[:, 1]
        center, size = (low + high) / 2, np.maximum(high - low, SMALLEST_MM if cut.any() else LEAST_MM)
        axis = (torch.arange(side) + 0.5) / side - 0.5
        grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1) * torch.from_numpy(size).float()
        grid = grid @ torch.from_numpy(rotation(np.deg2rad(random.normal(0, TILT_DEG))).T).float()
        if random.random() < ELASTIC:
            bent = random.normal(0, random.uniform(*BENT_MM), (1, 3, NODES, NODES, NODES))
            bent = F.interpolate(torch.from_numpy(bent).float(), (side,) * 3, mode="trilinear", align_corners=True)
            grid = grid + bent[0].movedim(0, -1)
        voxels = (grid + torch.from_numpy(center).float()) / torch.tensor(organs.spacing)
        voxels = voxels.clamp(*torch.from_numpy(shown.T))  # beyond an image is what is at its edge
        return ((2 * voxels + 1) / torch.tensor(organs.grey.shape) - 1).flip(-1)[None]

    def _shown(self, organs: Organs) -> tuple[np.ndarray, OrganBox]:
        """The first and last voxels (3, 2) that an image shows, all of them or some of the organs', and its box."""
        random, shown = self._random, whole(organs)
        if random.random() >= CUT:
            return shown, organs.box
        axis = 2 if random.random() < SIDEWAYS else 0
        inside = torch.isin(organs.labels, torch.tensor(organs.around)).numpy()
        begin, end = extent(inside, axis)
        count = max(1, round((end + 1 - begin) * random.uniform(*SHOWN)))
        first = random.choice([begin, end + 1 - count, random.integers(begin, end + 2 - count)])
        last = first + count - 1
        shown[axis] = first if first > begin else shown[axis, 0], last if last < end else shown[axis, 1]
        inside = inside[tuple(slice(a, b + 1) for a, b in shown)]
        box = self._recipe.preprocessing.enclosing(inside, shown[:, 0] * organs.spacing, organs.spacing)
        return (shown, box) if box else (whole(organs), organs.box)


def whole(organs: Organs) -> np.ndarray:
    """The first and last voxels (3, 2) of a case."""
    return np.array([(0, n - 1) for n in organs.grey.shape])


class OrganLesson:
    """What the network that looks closer learns from, as a `Lesson`.

    Args:
        recipe: How it is trained.
        start: Weights that it begins with; None for random ones.
    """

    def __init__(self, recipe: OrganRecipe, start: Mapping[str, Tensor] | None = None) -> None:
        self.recipe, self._start = recipe, start

    def network(self) -> Obelisk:
        """With the weights that it begins with. Raises RuntimeError if they do not fit."""
        network = Obelisk(self.recipe.network)
        if self._start is not None:
            network.load_state_dict(dict(self._start))
        return network

    def fields(self, cases: Sequence[Case], seed: int) -> Boxes:
        """Boxes of these cases."""
        organs = [Organs.of(case, self.recipe.task, self.recipe.preprocessing) for case in cases]
        return Boxes(organs, self.recipe, seed)

    def dice(self, network: Obelisk, case: Case) -> dict[str, float]:
        """Of the most probable organs that there are, by abbreviation, in the box around the experts'."""
        recipe, device = self.recipe, next(network.parameters()).device
        volume, _ = case.read(recipe.task)
        organs, stack = Organs.of(case, recipe.task, recipe.preprocessing), SliceStack.axial(volume)
        side = recipe.network.side
        seen = recipe.preprocessing.channels(stack, organs.box, side).to(device)
        with torch.inference_mode():
            found = to_superior_posterior_left(network.probabilities(seen)).argmax(0).cpu().numpy()
        axes = zip(organs.box.first(side), organs.box.spacing(side), organs.spacing, organs.labels.shape, strict=True)
        nearest = (
            np.clip(np.round((first + np.arange(side) * step) / own).astype(int), 0, size - 1)
            for first, step, own, size in axes
        )
        return dice_of_shown(found, organs.labels.numpy()[np.ix_(*nearest)], recipe.task)
