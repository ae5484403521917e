"""What the whole trunk says of a place: organs that a small 3D network expects there, weighed into those of slices.

A network that sees a slice and its neighbours can take a kidney for a spleen far away from it. A second one sees all
of the trunk on a coarse grid (`dinsegment.network.context`), and a third one, where there is one, the box of the organs
that the second has found (`inference.organ_box`). Their opinions are pooled logarithmically: the probability of a class
is proportional to that of the slice's network times powers of those of the others.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dinsegment.images.slices import SliceStack
from dinsegment.inference.body import AIR, find_body
from dinsegment.inference.devices import asking, autocast_dtype, layers_of, lowered
from dinsegment.inference.organ_box import BoxGrid, Done, to_superior_posterior_left
from dinsegment.inference.view import View, resampling_matrix
from dinsegment.models.entries import ModelEntry
from dinsegment.network.context import CHANNELS, ContextConfig, ContextNetwork
from dinsegment.network.obelisk import Obelisk, ObeliskConfig
from dinsegment.progress import Progress
from dinsegment.tasks import Task, get_task

SEEN, TOLD = 0.02, 0.1
"""Parts of a look at the whole image, by their time where something looks closer: the trunk is on its grid, and its
network has told."""

BOXED = 0.25
"""Part of a closer look: the box is on its grid."""


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

    def channels(self, stack: SliceStack, ask: Callable[[], None] = lambda: None) -> Tensor:
        """What the network sees of axial slices, (3, z, y, x) float32: grey value, how far behind and how far left.

        Black, 0, lies outside of the image. `ask` is as in `View.sample`.
        """
        view, (low, high) = self.view(stack), self.grey_window
        raw, inside = view.sample(clip=self.grey_window, ask=ask)
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
class Expected:
    """What one network expects in a stack, on a grid of its own.

    Attributes:
        logs: (classes, z, y, x) float32, logarithms of the probabilities, already weighted.
        first: Middle (z, y, x) of the grid's first voxel in mm from that of the stack.
        spacing: Of the grid along (z, y, x) in mm.
    """

    logs: Tensor
    first: tuple[float, float, float]
    spacing: tuple[float, float, float]

    @classmethod
    def on(cls, logs: Tensor, view: View) -> Expected:
        """On the grid of a view of the stack."""
        spacings = (view.stack.slice_spacing, *view.stack.spacing)
        z, y, x = (float(places[0]) * own for places, own in zip(view.places, spacings, strict=True))
        return cls(logs, (z, y, x), (view.slice_spacing or spacings[0], view.spacing, view.spacing))

    def matrices(self, view: View) -> tuple[Tensor, Tensor, Tensor]:
        """What brings values of this grid to a view's slices, rows and columns; nothing is expected outside."""
        matrices = []
        stack = view.stack
        spacings = (stack.slice_spacing, *stack.spacing)
        axes = zip(self.logs.shape[1:], self.first, self.spacing, view.places, spacings, strict=True)
        for size, first, spacing, places, own in axes:
            there = places * own
            step = (there[-1] - there[0]) / max(1, len(there) - 1) if len(there) > 1 else own
            matrices.append(resampling_matrix(size, spacing, len(there), step, there[0] - first))
        along, rows, columns = (torch.from_numpy(m) for m in matrices)
        return along, rows, columns


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What is expected in a stack.

    Attributes:
        stack: The slices.
        expected: By each network that was asked.
        least: As in `Pooling`.
    """

    stack: SliceStack
    expected: tuple[Expected, ...]
    least: float

    def weigh(self, batches: Iterable[Tensor], view: View, chosen: np.ndarray) -> Iterator[Tensor]:
        """Probabilities of the slice's network pooled with what is expected where they lie.

        Args:
            batches: (slices, classes, rows, columns) float32 of one batch of slices after the other.
            view: The grid that these lie on.
            chosen: Which of its slices they are, in their order.
        """
        grids = [(one.logs, *one.matrices(view)) for one in self.expected]
        done = 0
        for batch in batches:
            pooled = torch.empty_like(batch)
            for n, own in enumerate(batch):
                both = own.clamp_min(self.least)
                for logs, along, rows, columns in grids:
                    weights = along[chosen[done + n]]
                    used = torch.nonzero(weights)[:, 0]
                    blended = torch.einsum("n,cnyx->cyx", weights[used], logs[:, used])
                    both = both * (rows @ blended @ columns.T).exp_()
                pooled[n] = both / both.sum(0)
            done += len(batch)
            yield pooled


@dataclass(frozen=True, eq=False)
class Closer:
    """A network that sees the box of the organs, ready for inference.

    Attributes:
        name: In weights.json.
        network: The network.
        grid: How its box is found and prepared.
        around: The task's labels of the segments that the box lies around.
        labels: The task's label of each of the network's classes; 0 for none of its segments.
        weight: As in `Pooling`.
        floor: As in `Pooling`.
    """

    name: str
    network: Obelisk
    grid: BoxGrid
    around: tuple[int, ...]
    labels: tuple[int, ...]
    weight: float
    floor: float

    @property
    def voxels(self) -> int:
        """Of its box."""
        return self.network.config.side**3

    def expected(
        self,
        stack: SliceStack,
        found: np.ndarray,
        first: tuple[float, float, float],
        spacing: tuple[float, float, float],
        device: torch.device,
        done: Done,
    ) -> Expected | None:
        """What it expects in the box of what was found; None where there is no box.

        Args:
            stack: Axial slices.
            found: Labels (z, y, x) of the task.
            first: Of their grid, as in `Expected`.
            spacing: Likewise.
            device: Where to compute; the CPU in place of an Apple GPU, which cannot read between voxels in 3D.
            done: Told after each slice, and between the network's layers.
        """
        box, side = self.grid.box(found, self.around, first, spacing), self.network.config.side
        if box is None:
            return None
        device = torch.device("cpu") if device.type == "mps" else device
        seen = self.grid.channels(stack, box, side, part_of(done, 0.0, BOXED))
        own = _asked(self.network, seen, device, part_of(done, BOXED, 1.0))
        merged = _merged(own, self.labels, 1 + max(self.labels))
        logs = to_superior_posterior_left(merged.clamp_(min=self.floor).log_().mul_(self.weight))
        return Expected(logs.contiguous(), box.first(side), box.spacing(side))


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
        closer: What sees the organs that it finds on a finer grid; None for nothing.
    """

    name: str
    network: ContextNetwork
    grid: ContextGrid
    labels: tuple[int, ...]
    classes: int
    pooling: Pooling
    closer: Closer | None = None

    def bytes_held(self, stack: SliceStack) -> int:
        """Memory of what is expected in a stack: of the trunk and, where something looks closer, of the box."""
        return 4 * self.classes * (self._voxels(stack) + (self.closer.voxels if self.closer else 0))

    def bytes_needed(self, stack: SliceStack) -> int:
        """The most memory that is needed to find that out on a CPU, with room to spare."""
        trunk = self._voxels(stack)
        needed = trunk * self.network.values_per_voxel
        if self.closer is not None:
            # Meanwhile what the trunk's network has seen and said is held.
            held = trunk * (CHANNELS + self.network.config.classes + 2 * self.classes)
            needed = max(needed, held + self.closer.voxels * self.closer.network.values_per_voxel)
        return 4 * needed

    def _voxels(self, stack: SliceStack) -> int:
        view = self.grid.view(stack)
        return math.prod(self.network.padded((view.count, *view.size)))

    def surroundings(self, stack: SliceStack, device: torch.device, tell: Progress) -> Surroundings:
        """What the network expects in a stack of axial slices, all over it.

        Args:
            stack: The slices.
            device: Where to compute.
            tell: Called every few slices and between layers; it raises Cancelled if the user has asked for it.
        """

        def whole(share: float) -> None:
            tell(share, "Looking at the whole image")

        stop = 1.0 if self.closer is None else TOLD
        seen = self.grid.channels(stack, lambda: whole(0.0))
        own = _asked(self.network, seen, device, part_of(whole, SEEN, stop))
        expected = _merged(own, self.labels, self.classes)
        logs = self.pooling.weight * expected.clamp_min(self.pooling.floor).log()
        own_grid = Expected.on(logs, self.grid.view(stack))
        all_of = [own_grid]
        if self.closer is not None:
            found = expected.argmax(0).numpy()
            closely = part_of(lambda share: tell(share, "Looking closer at the organs"), TOLD, 1.0)
            closer = self.closer.expected(stack, found, own_grid.first, own_grid.spacing, device, closely)
            all_of += [] if closer is None else [closer]
        return Surroundings(stack, tuple(all_of), self.pooling.least)


def part_of(done: Done, start: float, stop: float) -> Done:
    """What is told how much of a part is done, which takes the whole from one share to another."""
    return lambda share: done(start + (stop - start) * min(share, 1.0))


def _asked(network: ContextNetwork | Obelisk, seen: Tensor, device: torch.device, done: Done) -> Tensor:
    """Probabilities (classes, ...) float32 on the CPU of what a network sees; `done` is told between its layers."""
    network, dtype = lowered(network, device), autocast_dtype(device)
    layers, asked = layers_of(network), itertools.count()
    precision = torch.autocast(device.type, dtype, enabled=dtype is not None)
    with torch.inference_mode(), precision, asking(layers, lambda: done(next(asked) / len(layers))):
        return network.probabilities(seen.to(device)).cpu()


def _merged(own: Tensor, labels: tuple[int, ...], classes: int) -> Tensor:
    """Probabilities (classes, z, y, x) of the task's labels from those of a network's classes."""
    merged = own.new_zeros(classes, *own.shape[1:])
    for label, one in zip(labels, own, strict=True):
        merged[label] += one
    return merged


def build_context(
    options: dict[str, Any], task: Task, entry: ModelEntry, weights: dict[str, Tensor], closer: Closer | None = None
) -> Context:
    """The context that a model's entry in weights.json asks for.

    Args:
        options: `context` of the model's entry: the name of the context network as `model`, what a `Pooling` has, and
            `closer`, where there is one.
        task: The model's.
        entry: The context network's own.
        weights: Its weights, which become its parameters.
        closer: What looks closer.

    Raises:
        RuntimeError: The weights do not fit.
        TypeError, ValueError, KeyError: An option is unknown or has no such value.
    """
    config = ContextConfig.from_dict(entry.network)
    with torch.device("meta"):  # no time is spent on random weights
        network = ContextNetwork(config)
    network.load_state_dict(weights, assign=True)
    labels = _labels_of(entry, config.classes, task)
    pooling = Pooling(**{k: v for k, v in options.items() if k not in ("model", "closer")})
    grid = ContextGrid.from_dict(entry.preprocessing)
    return Context(entry.name, network.eval(), grid, labels, task.classes, pooling, closer)


def build_closer(options: dict[str, Any], task: Task, entry: ModelEntry, weights: dict[str, Tensor]) -> Closer:
    """The network that sees the box of the organs, as `closer` of a model's `context` asks for it.

    Args:
        options: Its name as `model`, and `weight` and `floor` as a `Pooling` has them.
        task: The model's.
        entry: The network's own.
        weights: Its weights, which become its parameters.

    Raises: As `build_context`.
    """
    config = ObeliskConfig.from_dict(entry.network)
    with torch.device("meta"):
        network = Obelisk(config)
    network.load_state_dict(weights, assign=True)
    grid = BoxGrid.from_dict(entry.preprocessing)
    by_name = {segment.name: segment.label for segment in task.segments}
    around = tuple(by_name[name] for name in grid.around)
    believed = Pooling(**{k: v for k, v in options.items() if k != "model"}, least=0.5)
    labels = _labels_of(entry, config.classes, task)
    return Closer(entry.name, network.eval(), grid, around, labels, believed.weight, believed.floor)


def _labels_of(entry: ModelEntry, classes: int, task: Task) -> tuple[int, ...]:
    """The task's label of each class of another network's; 0 for none of its segments."""
    organs = {segment.name: segment.label for segment in get_task(entry.task).segments}
    if classes != 1 + len(organs):
        raise ValueError(f"'{entry.name}' has {classes} classes, but the task '{entry.task}' {1 + len(organs)}")
    if missing := [segment.name for segment in task.segments if segment.name not in organs]:
        raise ValueError(f"'{entry.name}' knows nothing of {', '.join(missing)}")
    known = {organs[segment.name]: segment.label for segment in task.segments}
    return tuple(known.get(label, 0) for label in range(classes))
