"""How a context network is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dinsegment.inference.context import ContextGrid
from dinsegment.network.context import ContextConfig
from dinsegment.tasks import Task, get_task


@dataclass(frozen=True)
class ContextRecipe:
    """One training of a context network.

    Attributes:
        name: Of the network in weights.json.
        task: Whose segments it tells apart.
        network: Its sizes.
        preprocessing: The grid that it sees the trunk on.
        patch: Voxels (z, y, x) of a field of view in training, multiples of the network's stride.
        minutes: Of training, by which the learning rate falls to a hundredth with half a cosine.
        learning_rate: Of AdamW, after the warm-up.
        weight_decay: Of AdamW.
        warmup_steps: Steps of linear warm-up.
        batch: Fields of view a step; of a single one PyTorch takes a slower way on a CPU.
        ema: Decay of the moving average of the weights, which is what is kept.
        levels: Levels that are compared with the labels, finest first; each counts half as much as the one before.
        seed: Of weights and of what is drawn.
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
    seed: int = 0

    @property
    def context(self) -> dict[str, Any]:
        """What other networks tell it: nothing."""
        return {}
