"""The kinds of networks: how one is trained and what it returns. Who uses one asks its kind, not its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

Learns = Literal["supervised", "adversarial-diffusion"]
"""How a network learns: a step of that name in `dinsegment.training.steps`."""

Returns = Literal["probabilities", "samples"]
"""What a network returns: the probability of each class, or one possible segmentation for each draw."""


@dataclass(frozen=True)
class Kind:
    """What networks of one kind have in common.

    Attributes:
        learns: Which training step fits their weights.
        returns: What they make of an image; a task names what its models may return (`Task.kinds`).
    """

    learns: Learns
    returns: Returns


SEGMENTER = Kind("supervised", "probabilities")
DIFFUSION = Kind("adversarial-diffusion", "samples")


class Segmenter(nn.Module):
    """A network that gives logits for (image, enhanced), each (B, in_channels, H, W)."""

    kind: ClassVar[Kind] = SEGMENTER

    def probabilities(self, image: Tensor, enhanced: Tensor) -> Tensor:
        """Probability of each class, (B, classes, H, W) float32, in sum 1."""
        return self(image, enhanced).float().softmax(1)
