"""The kinds of networks: how one is trained and what it returns. Who uses one asks its kind, not its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

Learns = Literal["supervised", "adversarial-diffusion", "reconstruction", "volumes"]
"""How a network learns: a step of that name in `dinsegment.training.steps`, or from whole volumes, in
`dinsegment.training.context`."""

Returns = Literal["probabilities", "samples", "maps", "context"]
"""What a network returns: the probability of each class, one possible segmentation for each draw, no segmentation but a
map of what it did not expect, or, for a network that segments slices, what it may expect where."""


@dataclass(frozen=True)
class Kind:
    """What networks of one kind have in common.

    Attributes:
        learns: Which training step fits their weights.
        returns: What they make of an image; a task names what its models may return (`Task.kinds`).
        frozen: The attribute with the networks inside them that are trained before and then stay as they are; empty for
            none.
    """

    learns: Learns
    returns: Returns
    frozen: str = ""


@dataclass(frozen=True)
class Draw:
    """One possible answer of a network, the same for every slice that it is asked for.

    Attributes:
        number: From 0; everything random follows from it alone.
        dropout: Share of the features that a network which draws no samples itself leaves out.
    """

    number: int
    dropout: float = 0.0


SEGMENTER = Kind("supervised", "probabilities")
DIFFUSION = Kind("adversarial-diffusion", "samples")
CONTEXT = Kind("volumes", "context")
RECONSTRUCTION = Kind("reconstruction", "maps")
COMPENSATED = Kind("supervised", "probabilities", frozen="autoencoders")


class Segmenter(nn.Module):
    """A network that gives logits for (image, enhanced), each (B, in_channels, H, W)."""

    kind: ClassVar[Kind] = SEGMENTER

    def probabilities(self, image: Tensor, enhanced: Tensor) -> Tensor:
        """Probability of each class, (B, classes, H, W) float32, in sum 1."""
        return self(image, enhanced).float().softmax(1)

    def sample(self, image: Tensor, enhanced: Tensor, draw: Draw) -> Tensor:
        """`probabilities` as this network would give them with a share of its decoder's features left out."""
        decoder = getattr(self, "decoder", None)
        if decoder is None or not draw.dropout:
            return self.probabilities(image, enhanced)
        hook = decoder.register_forward_pre_hook(lambda _module, levels: (dropped(levels[0], draw),))
        try:
            return self.probabilities(image, enhanced)
        finally:
            hook.remove()


def dropped(levels: Sequence[Tensor], draw: Draw) -> list[Tensor]:
    """Features (B, C, H, W) of each level without a share of their channels, the same in all images of the draw."""
    random = torch.Generator().manual_seed(draw.number)
    kept = []
    for features in levels:
        mask = torch.rand(features.shape[1], generator=random, device="cpu") >= draw.dropout
        kept.append(features * (mask / (1 - draw.dropout)).to(features)[:, None, None])
    return kept
