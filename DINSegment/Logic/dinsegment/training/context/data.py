"""Volumes on a grid twice as fine as the network's, and the fields of view that are drawn of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dinsegment.errors import InputError
from dinsegment.images.slices import SliceStack
from dinsegment.inference.context import ContextGrid
from dinsegment.network.context import ContextNetwork
from dinsegment.tasks import Task
from dinsegment.training.cases import Case
from dinsegment.training.context.augmentation import bent_grid, cropped, varied
from dinsegment.training.context.recipe import ContextRecipe
from dinsegment.training.metrics import dice

FINER = 2
"""How many times as fine as the network's is the grid that volumes are kept on."""

MOST_PLACES = 2000
"""Voxels of each organ that the middle of a field of view is drawn from."""

AROUND_ORGANS = 0.75
"""Share of the fields of view that lie around a voxel of an organ; the others lie anywhere."""

SPREAD_MM = (60.0, 40.0, 40.0)
"""How far (z, y, x) from that voxel the middle lies."""

TOWARDS_BODY = 0.65
"""How far, in the slice plane, the middle is then drawn to that of the body."""


@dataclass(frozen=True, eq=False)
class Trunk:
    """One case, kept to draw fields of view of.

    Attributes:
        grey: (z, y, x) float32 in [0, 1]: axial slices from inferior to superior, y to posterior, x to left.
        labels: (z, y, x) uint8 on the same grid.
        middle: (y, x) of the body's middle in mm from the first voxel.
        places: Voxels (n, 3) of each organ that it shows.
        spacing: In mm, along all axes.
    """

    grey: Tensor
    labels: Tensor
    middle: tuple[float, float]
    places: tuple[np.ndarray, ...]
    spacing: float

    @classmethod
    def of(cls, case: Case, task: Task, grid: ContextGrid) -> Trunk:
        """A case on the finer grid. Raises InputError if nothing is labelled in it."""
        volume, labels = case.read(task)
        stack, finer = SliceStack.axial(volume), replace(grid, spacing=grid.spacing / FINER)
        grey, behind, left = finer.channels(stack)
        truth = stack.like(labels).array
        nearest = (
            np.clip(np.round(place).astype(int), 0, size - 1)
            for place, size in zip(finer.view(stack).places, truth.shape, strict=True)
        )
        kept = truth[np.ix_(*nearest)]
        places = [np.argwhere(kept == segment.label) for segment in task.segments]
        places = [p[:: max(1, len(p) // MOST_PLACES)] for p in places if len(p)]
        if not places:
            raise InputError(f"'{case.labels}' has no label above 0: there is nothing to learn from.")
        middle = -float(behind[0, 0, 0]) * grid.reach, -float(left[0, 0, 0]) * grid.reach
        return cls(grey, torch.from_numpy(kept), middle, tuple(places), finer.spacing)


class FieldsOfView:
    """Draws fields of view of trunks and varies them; what is drawn follows from the seed alone."""

    def __init__(self, trunks: Sequence[Trunk], recipe: ContextRecipe, seed: int) -> None:
        self._trunks, self._recipe = trunks, recipe
        self._random = np.random.default_rng(seed)

    def draw(self) -> tuple[Tensor, Tensor]:
        """What the network sees, (3, z, y, x) float32, and the labels (z, y, x) int64."""
        random, recipe = self._random, self._recipe
        trunk = self._trunks[random.integers(len(self._trunks))]
        center = self._center(trunk)
        grid, behind, left = bent_grid(random, recipe.patch, recipe.preprocessing.spacing, center, trunk.middle)
        size = torch.tensor(trunk.grey.shape, dtype=torch.float32)
        places = ((2 * grid / trunk.spacing + 1) / size - 1).flip(-1)[None]
        options = {"padding_mode": "zeros", "align_corners": False}
        grey = F.grid_sample(trunk.grey[None, None], places, mode="bilinear", **options)[0, 0]
        labels = F.grid_sample(trunk.labels[None, None].float(), places, mode="nearest", **options)[0, 0].long()
        grey = varied(random, grey, labels, recipe.task)
        grey, labels = cropped(random, grey, labels, recipe.preprocessing.spacing)
        reach = recipe.preprocessing.reach
        return torch.stack((grey, (behind / reach).expand_as(grey), (left / reach).expand_as(grey))), labels

    def _center(self, trunk: Trunk) -> np.ndarray:
        """Middle (z, y, x) of a field of view in mm from the first voxel."""
        random = self._random
        if random.random() < AROUND_ORGANS:
            places = trunk.places[random.integers(len(trunk.places))]
            center = places[random.integers(len(places))] * trunk.spacing + random.normal(0, SPREAD_MM)
        else:
            center = random.uniform(0, np.array(trunk.grey.shape) * trunk.spacing)
        center[1:] += TOWARDS_BODY * (np.array(trunk.middle) - center[1:])
        return center


class TrunkLesson:
    """What the network that sees the trunk learns from, as a `Lesson`."""

    def __init__(self, recipe: ContextRecipe) -> None:
        self.recipe = recipe

    def network(self) -> ContextNetwork:
        """With random weights."""
        return ContextNetwork(self.recipe.network)

    def fields(self, cases: Sequence[Case], seed: int) -> FieldsOfView:
        """Fields of view of these cases."""
        trunks = [Trunk.of(case, self.recipe.task, self.recipe.preprocessing) for case in cases]
        return FieldsOfView(trunks, self.recipe, seed)

    def dice(self, network: ContextNetwork, case: Case) -> dict[str, float]:
        """Of the most probable organs that there are, by abbreviation, on the network's own grid."""
        volume, labels = case.read(self.recipe.task)
        stack, grid = SliceStack.axial(volume), self.recipe.preprocessing
        device = next(network.parameters()).device
        with torch.inference_mode():
            found = network.probabilities(grid.channels(stack).to(device)).argmax(0).cpu().numpy()
        truth = stack.like(labels).array
        nearest = (
            np.clip(np.round(place).astype(int), 0, size - 1)
            for place, size in zip(grid.view(stack).places, truth.shape, strict=True)
        )
        return dice_of_shown(found, truth[np.ix_(*nearest)], self.recipe.task)


def dice_of_shown(found: np.ndarray, truth: np.ndarray, task: Task) -> dict[str, float]:
    """Dice of each segment that the experts have drawn, by abbreviation."""
    return {s.abbreviation: dice(found, truth, s.label) for s in task.segments if (truth == s.label).any()}
