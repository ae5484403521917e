"""How networks that see volumes are trained: that of the trunk, and that of the box of its organs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dinsegment.inference.context import ContextGrid
from dinsegment.inference.organ_box import BoxGrid
from dinsegment.network.context import ContextConfig
from dinsegment.network.obelisk import ObeliskConfig
from dinsegment.tasks import Task, get_task


@dataclass(frozen=True, kw_only=True)
class VolumeRecipe:
    """What the training of any network of volumes is told.

    Attributes:
        name: Of the network in weights.json.
        task: Whose segments it tells apart.
        minutes: Of training, by which the learning rate falls to a hundredth with half a cosine.
        learning_rate: Of AdamW, after the warm-up.
        weight_decay: Of AdamW.
        warmup_steps: Steps of linear warm-up.
        batch: Fields of view a step.
        ema: Decay of the moving average of the weights, which is what is kept.
        levels: Levels that are compared with the labels, finest first; each counts half as much as the one before.
        seed: Of weights and of what is drawn.
    """

    name: str
    task: Task
    minutes: float
    learning_rate: float
    weight_decay: float
    warmup_steps: int
    batch: int
    ema: float
    levels: int
    seed: int = 0

    @property
    def context(self) -> dict[str, Any]:
        """What other networks tell it: nothing."""
        return {}


@dataclass(frozen=True, kw_only=True)
class ContextRecipe(VolumeRecipe):
    """One training of a network that sees the trunk; of a batch of one PyTorch takes a slower way on a CPU.

    Attributes:
        network: Its sizes.
        preprocessing: The grid that it sees the trunk on.
        patch: Voxels (z, y, x) of a field of view in training, multiples of the network's stride.
    """

    name: str = "abdomen-context"
    task: Task = field(default_factory=lambda: get_task("trunk"))
    network: ContextConfig = field(default_factory=ContextConfig)
    preprocessing: ContextGrid = field(default_factory=ContextGrid)
    patch: tuple[int, int, int] = (40, 40, 56)
    minutes: float = 178.0
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.03
    warmup_steps: int = 150
    batch: int = 2
    ema: float = 0.998
    levels: int = 3


@dataclass(frozen=True, kw_only=True)
class OrganRecipe(VolumeRecipe):
    """One training of a network that sees the box of the organs, begun with the published weights of another set.

    Attributes:
        network: Its sizes, which are those of these weights.
        preprocessing: How the box is found and prepared.
    """

    name: str = "abdomen-organs"
    task: Task = field(default_factory=lambda: get_task("organs"))
    network: ObeliskConfig = field(default_factory=ObeliskConfig)
    preprocessing: BoxGrid = field(default_factory=BoxGrid)
    minutes: float = 150.0
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 20
    batch: int = 1
    ema: float = 0.99
    levels: int = 1
