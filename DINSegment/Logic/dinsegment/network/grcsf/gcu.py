"""The Global Compensation Unit: what downsampling lost is given back to a skip, where both agree."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class SqueezeExcitation(nn.Module):
    """Channels (B, C, H, W) weighted by what all of the image says of them (J. Hu et al., CVPR 2018).

    Args:
        channels: C.
        reduction: By how much the layer between is narrower; it has four channels at least.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(4, channels // reduction)
        self.weigh = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weigh(x.mean((2, 3)))[..., None, None]


class GlobalCompensationUnit(nn.Module):
    """F' = F + s F, s the cosine similarity, pixel by pixel, of the skip and of what is left of it one level down.

    The skip's features F and the features U, which were downsampled and are upsampled again, each go through squeeze
    and excitation before they are compared.

    Args:
        channels: Of the skip.
        coarser: Channels of the level below, which a 1x1 convolution brings to those of the skip.
        reduction: Of squeeze and excitation.
    """

    def __init__(self, channels: int, coarser: int, reduction: int) -> None:
        super().__init__()
        self.match = nn.Conv2d(coarser, channels, 1)
        self.excite_fine, self.excite_coarse = (SqueezeExcitation(channels, reduction) for _ in range(2))

    def forward(self, skip: Tensor, below: Tensor) -> Tensor:
        """The skip with what was lost.

        Args:
            skip: F (B, channels, H, W).
            below: Features of the next level (B, coarser, h, w).

        Returns:
            (B, channels, H, W).
        """
        return skip + self.similarity(skip, below) * skip

    def similarity(self, skip: Tensor, below: Tensor) -> Tensor:
        """s (B, 1, H, W) in [-1, 1]; arguments as `forward`."""
        up = F.interpolate(self.match(below), skip.shape[2:], mode="bilinear", align_corners=False)
        return F.cosine_similarity(self.excite_fine(skip), self.excite_coarse(up), dim=1)[:, None]
