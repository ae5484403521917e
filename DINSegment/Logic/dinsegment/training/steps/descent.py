"""The step of a network with one loss: AdamW, a warm-up, half a cosine."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from dinsegment.training.recipe import Recipe


class DescentStep(ABC):
    """Goes down a loss.

    Attributes:
        optimizer: AdamW of what is not frozen; vectors, which are biases and norms, do not decay.
    """

    def __init__(self, recipe: Recipe, network: nn.Module) -> None:
        self._recipe = recipe
        learned = [p for p in network.parameters() if p.requires_grad]
        decayed = [p for p in learned if p.ndim > 1]
        others = [p for p in learned if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed}, {"params": others, "weight_decay": 0.0}],
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
        )

    def set_up(self, fabric: Fabric, module: nn.Module) -> None:
        """As `Step`."""
        self._fabric = fabric
        self._network, self._optimizer = fabric.setup(module, self.optimizer)

    def __call__(self, image: Tensor, enhanced: Tensor, labels: Tensor, number: int, of: int) -> Tensor:
        """As `Step`."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self._recipe, number, of)
        # The fused attention of CPUs is fast forwards only; backwards the plain one wins.
        backend = SDPBackend.MATH if image.device.type == "cpu" else list(SDPBackend.__members__.values())
        with sdpa_kernel(backend):
            loss = self._loss(image, enhanced, labels)
        self._optimizer.zero_grad(set_to_none=True)
        self._fabric.backward(loss)
        # In float16 gradients may overflow: the scaler then leaves out the step.
        self._fabric.clip_gradients(self._network, self._optimizer, max_norm=1.0, error_if_nonfinite=False)
        self._optimizer.step()
        return loss.detach()

    @abstractmethod
    def _loss(self, image: Tensor, enhanced: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch, of `self._network`."""

    @property
    def rate(self) -> float:
        """As `Step`."""
        return self.optimizer.param_groups[0]["lr"]

    def state_dict(self) -> dict[str, Any]:
        """As `Step`."""
        return {"optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `Step`."""
        self.optimizer.load_state_dict(state["optimizer"])


def learning_rate(recipe: Recipe, number: int, of: int) -> float:
    """Of step `number`, from 0, of so many: linear warm-up, then half a cosine to zero."""
    warmup = recipe.warmup_steps
    if number < warmup:
        return recipe.learning_rate * (number + 1) / warmup
    done = (number - warmup) / max(1, of - warmup)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
