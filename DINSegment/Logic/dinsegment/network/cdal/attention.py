"""Spatial attention: where the discriminator looks, as a weight of the mask that is noised in training."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def attention_map(features: Tensor, size: tuple[int, int]) -> Tensor:
    """The weight of each pixel from the discriminator's features.

    The mean over channels, brought to full size bilinearly, becomes a weight in (0, 2) that is 1 where the map is at
    its mean: features that are the same everywhere change nothing, and then a mask is noised in training as it is when
    samples are drawn, without attention.

    Args:
        features: (B, C, h, w) of one level.
        size: (H, W) of the mask.

    Returns:
        (B, 1, H, W).
    """
    seen = F.interpolate(features.mean(1, keepdim=True), size, mode="bilinear", align_corners=False)
    return 2 * (seen - seen.mean((2, 3), keepdim=True)).sigmoid()
