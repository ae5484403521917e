"""MLP decoder (DIN paper, section 9.2, eq. 14), after SegFormer's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MLPDecoder(nn.Module):
    """Each level to `dim` channels and to the finest level's size; concatenation, 3x3 convolution, classes.

    Args:
        in_dims: Channels of the fused features, finest first.
        dim: Channels of the decoder (768 in the paper).
        classes: Classes, background included.
        layers: Linear layers per level. One, as in SegFormer, makes 22.7 M parameters at the published width; 25.27 M
            is published and a second one makes 25.1 M. Neither source puts a nonlinearity between them, so there is
            none: the decoder stays linear up to its 3x3 convolution.
    """

    def __init__(self, in_dims: Sequence[int], dim: int = 768, classes: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.linear = nn.ModuleList(
            nn.Sequential(*(nn.Conv2d(in_dim if n == 0 else dim, dim, 1) for n in range(layers))) for in_dim in in_dims
        )
        self.fuse = nn.Conv2d(dim * len(in_dims), dim, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(dim)
        self.classify = nn.Conv2d(dim, classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """(B, C_l, H_l, W_l) of the levels, finest first -> logits (B, classes, H_1, W_1)."""
        size = features[0].shape[-2:]
        levels = [linear(f) for linear, f in zip(self.linear, features, strict=True)]
        levels = [levels[0]] + [F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in levels[1:]]
        return self.classify(F.relu(self.norm(self.fuse(torch.cat(levels, dim=1)))))
