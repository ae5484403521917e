"""What the whole trunk says of a place: organs that a small 3D network expects there, weighed into those of slices.

A network that sees a slice and its neighbours can take a kidney for a spleen far away from it. A second one sees all
of the trunk on a coarse grid (`dinsegment.network.context`). Both opinions are pooled logarithmically: the probability
of a class is proportional to that of the slice's network times a power of that of the trunk's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dinsegment.images.slices import SliceStack
from dinsegment.inference.body import AIR, find_body
from dinsegment.inference.devices import asking, autocast_dtype, layers_of, lowered
from dinsegment.inference.view import View, resampling_matrix
from dinsegment.models.entries import ModelEntry
from dinsegment.network.context import ContextConfig, ContextNetwork
from dinsegment.tasks import Task, get_task


@dataclass(frozen=True)
class ContextGrid:
    """The grid that the trunk is seen on; stands as `preprocessing` of a context network in weights.json.

    Attributes:
        spacing: In mm, along all three axes.
        grey_window: Grey values that become 0 and 1.
        reach: Millimetres from the body's middle, behind it or to its left, that become 1 in the channels of place.
    """

    spacing: float = 6.0
    grey_window: tuple[float, float] = (-125.0, 275.0)
    reach: float = 150.0

    @classmethod
    def from_dict(cls, options: dict[str, Any]) -> ContextGrid:
        """From JSON. Raises TypeError or ValueError if an option is unknown or has no such value."""
        grid = cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in options.items()})
        if not (grid.spacing > 0 and grid.reach > 0 and grid.grey_window[0] < grid.grey_window[1]):
            raise ValueError(f"{grid} is no grid of a context network")
        return grid

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    def view(self, stack: SliceStack) -> View:
        """The whole stack on this grid."""
        rows, columns = np.maximum(1, np.ceil(stack.extent_mm / self.spacing - 1e-6)).astype(int).tolist()
        return View(stack, stack.middle_mm, (rows, columns), self.spacing, self.spacing)

    def channels(self, stack: SliceStack) -> Tensor:
        """What the network sees of axial slices, (3, z, y, x) float32: grey value, how far behind and how far left.

        Black, 0, lies outside of the image.
        """
        view, (low, high) = self.view(stack), self.grey_window
        raw, inside = view.sample(clip=self.grey_window)
        grey = torch.where(inside > 0.5, (raw - low) / (high - low), 0.0).clamp(0, 1)
        z, _, _ = view.places
        grey[(z < -0.5) | (z > len(stack.array) - 0.5)] = 0.0
        body, _ = find_body((grey > AIR).numpy(), (self.spacing,) * 3)
        behind, left = (
            (torch.arange(n, dtype=torch.float32) * self.spacing - middle) / self.reach
            for n, middle in zip(view.size, body, strict=True)
        )
        return torch.stack((grey, behind[:, None].expand_as(grey), left.expand_as(grey)))


@dataclass(frozen=True)
class Pooling:
    """How far the trunk's network is believed; chosen on validation patients, and as JSON in weights.json.

    Attributes:
        weight: Power that its probabilities are taken to.
        floor: The least that they are taken for: what it rules out wrongly can still be seen in a slice.
        least: The least that those of the slice's network are taken for, likewise.
    """

    weight: float
    floor: float
    least: float

    def __post_init__(self) -> None:
        """Raises ValueError unless probabilities can be pooled so."""
        if not (0 < self.weight <= 10 and 0 < self.floor < 1 and 0 < self.least < 1):
            raise ValueError(f"{self} cannot be used to pool probabilities")


@dataclass(frozen=True, eq=False)
class Context:
    """A network that sees the whole trunk, ready for inference.

    Attributes:
        name: In weights.json.
        network: The network.
        grid: What it sees the trunk on.
        labels: The task's label of each of the network's classes; 0 for none of its segments.
        classes: Labels of the task, background included.
        pooling: How far it is believed.
    """

    name: str
    network: ContextNetwork
    grid: ContextGrid
    labels: tuple[int, ...]
    classes: int
    pooling: Pooling

    def surroundings(self, stack: SliceStack, device: torch.device, ask: Callable[[], None]) -> Surroundings:
        """What the network expects in a stack of axial slices, all over it; `ask` is called between its layers."""
        seen = self.grid.channels(stack).to(device)
        network, dtype = lowered(self.network, device), autocast_dtype(device)
        precision = torch.autocast(device.type, dtype, enabled=dtype is not None)
        with torch.inference_mode(), precision, asking(layers_of(network), ask):
            own = network.probabilities(seen).cpu()
        expected = own.new_zeros(self.classes, *own.shape[1:])
        expected.index_add_(0, torch.tensor(self.labels), own)
        logs = self.pooling.weight * expected.clamp_min(self.pooling.floor).log()
        return Surroundings(logs, self.grid.view(stack), self.pooling.least)


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What is expected in a stack, on a coarse grid.

    Attributes:
        logs: (classes, z, y, x) float32, logarithms of the probabilities, already weighted.
        view: Their grid.
        least: As in `Pooling`.
    """

    logs: Tensor
    view: View
    least: float

    def weigh(self, batches: Iterable[Tensor], view: View, chosen: np.ndarray) -> Iterator[Tensor]:
        """Probabilities of the slice's network pooled with what is expected where they lie.

        Args:
            batches: (slices, classes, rows, columns) float32 of one batch of slices after the other.
            view: The grid that these lie on.
            chosen: Which of its slices they are, in their order.
        """
        along, rows, columns = self._matrices(view)
        done = 0
        for batch in batches:
            pooled = torch.empty_like(batch)
            for n, own in enumerate(batch):
                weights = along[chosen[done + n]]
                used = torch.nonzero(weights)[:, 0]
                blended = torch.einsum("n,cnyx->cyx", weights[used], self.logs[:, used])
                both = own.clamp_min(self.least) * (rows @ blended @ columns.T).exp_()
                pooled[n] = both / both.sum(0)
            done += len(batch)
            yield pooled

    def _matrices(self, view: View) -> tuple[Tensor, Tensor, Tensor]:
        """What brings values of the coarse grid to a view's slices, rows and columns; nothing is expected outside."""
        stack = self.view.stack
        spacings = (stack.slice_spacing, *stack.spacing)
        matrices = []
        for own, other, spacing, size in zip(self.view.places, view.places, spacings, self.logs.shape[1:], strict=True):
            first, there = own[0] * spacing, other * spacing
            step = (there[-1] - there[0]) / max(1, len(there) - 1) if len(there) > 1 else spacing
            matrices.append(resampling_matrix(size, self.view.spacing, len(there), step, there[0] - first))
        along, rows, columns = (torch.from_numpy(m) for m in matrices)
        return along, rows, columns


def build_context(options: dict[str, Any], task: Task, entry: ModelEntry, weights: dict[str, Tensor]) -> Context:
    """The context that a model's entry in weights.json asks for.

    Args:
        options: `context` of the model's entry: the name of the context network as `model`, and what a `Pooling` has.
        task: The model's.
        entry: The context network's own.
        weights: Its weights, which become its parameters.

    Raises:
        RuntimeError: The weights do not fit.
        TypeError, ValueError, KeyError: An option is unknown or has no such value.
    """
    config = ContextConfig.from_dict(entry.network)
    with torch.device("meta"):  # no time is spent on random weights
        network = ContextNetwork(config)
    network.load_state_dict(weights, assign=True)
    organs = {segment.name: segment.label for segment in get_task(entry.task).segments}
    if config.classes != 1 + len(organs):
        raise ValueError(f"'{entry.name}' has {config.classes} classes, but the task '{entry.task}' {1 + len(organs)}")
    if missing := [segment.name for segment in task.segments if segment.name not in organs]:
        raise ValueError(f"'{entry.name}' knows nothing of {', '.join(missing)}")
    known = {organs[segment.name]: segment.label for segment in task.segments}
    labels = tuple(known.get(label, 0) for label in range(config.classes))
    pooling = Pooling(**{k: v for k, v in options.items() if k != "model"})
    grid = ContextGrid.from_dict(entry.preprocessing)
    return Context(entry.name, network.eval(), grid, labels, task.classes, pooling)
