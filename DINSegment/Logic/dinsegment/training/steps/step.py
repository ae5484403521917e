"""What every training step can do."""

from __future__ import annotations

from typing import Any, Protocol

from lightning_fabric import Fabric
from torch import Tensor, nn


class Step(Protocol):
    """One step of training, with its optimizers and what is trained beside the network.

    Before each step the trainer seeds PyTorch's generators from the recipe's seed and the step's number, so that a step
    may draw from them and a resumed run draws the same.
    """

    def set_up(self, fabric: Fabric, module: nn.Module) -> None:
        """Hands optimizers and networks to Fabric; `module` is the network, compiled if that was asked for."""

    def __call__(self, image: Tensor, enhanced: Tensor, labels: Tensor, number: int, of: int) -> Tensor:
        """Takes step `number`, from 0, of so many in all.

        Args:
            image: (B, in_channels, rows, columns) in [-1, 1].
            enhanced: The same slices, enhanced.
            labels: (B, rows, columns), int64.
            number: Steps that were taken before.
            of: Steps of the whole run.

        Returns:
            The loss that is logged, without a graph.
        """

    @property
    def rate(self) -> float:
        """The learning rate of the network in the last step."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the network and its average."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what a checkpoint has kept."""
