"""EMCAD decoder (M. M. Rahman, M. Munir, R. Marculescu, CVPR 2024, arXiv 2405.06880): the other one of table 11.

Coarsest level first: a level is refined by multi-scale convolutional attention (MSCAM), brought to the next finer
level (EUCB) and added to what an attention gate (LGAG) lets through of that level.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ChannelAttention(nn.Module):
    """CAB: sigmoid(MLP(max over pixels) + MLP(mean over pixels)) * x; the MLP narrows to a 16th of the channels.

    It keeps four at least: behind a ReLU, one or two are easily dead from the start.
    """

    def __init__(self, dim: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(4, dim // reduction)
        self.mlp = nn.Sequential(
            nn.Conv2d(dim, hidden, 1, bias=False), nn.ReLU(), nn.Conv2d(hidden, dim, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.mlp(x.amax((-2, -1), True)) + self.mlp(x.mean((-2, -1), True))) * x


class SpatialAttention(nn.Module):
    """SAB: sigmoid(7x7 convolution of the maximum and the mean over channels) * x."""

    def __init__(self, kernel: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.conv(torch.cat((x.amax(1, True), x.mean(1, True)), dim=1))) * x


class MultiScaleConvolution(nn.Module):
    """MSCB: 1x1 to twice the channels, parallel depthwise convolutions (MSDC), channel shuffle, 1x1 back, residual."""

    def __init__(self, dim: int, kernels: Sequence[int] = (1, 3, 5), expansion: int = 2) -> None:
        super().__init__()
        wide = expansion * dim
        self.shuffle = nn.ChannelShuffle(dim)
        self.expand = nn.Sequential(nn.Conv2d(dim, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6())
        self.scales = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(wide, wide, k, padding=k // 2, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()
            )
            for k in kernels
        )
        self.project = nn.Sequential(nn.Conv2d(wide, dim, 1, bias=False), nn.BatchNorm2d(dim))

    def forward(self, x: Tensor) -> Tensor:
        wide = self.expand(x)
        return self.project(self.shuffle(sum(scale(wide) for scale in self.scales))) + x


def mscam(dim: int) -> nn.Sequential:
    """MSCAM: channel attention, spatial attention, multi-scale convolution; (B, C, H, W) -> the same shape."""
    return nn.Sequential(ChannelAttention(dim), SpatialAttention(), MultiScaleConvolution(dim))


class UpConvolution(nn.Sequential):
    """EUCB: twice the size, 3x3 depthwise, BatchNorm, ReLU, 1x1: (B, C_in, H, W) -> (B, C_out, 2H, 2W)."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__(
            nn.Upsample(scale_factor=2),
            nn.Conv2d(in_dim, in_dim, 3, padding=1, groups=in_dim, bias=False),
            nn.BatchNorm2d(in_dim),
            nn.ReLU(),
            nn.Conv2d(in_dim, out_dim, 1),
        )


class AttentionGate(nn.Module):
    """LGAG: what of a level's feature x passes, decided with the decoder's own feature g.

    sigmoid(BN(1x1(ReLU(BN(GC(g)) + BN(GC(x)))))) * x, where GC is a 3x3 convolution in groups of two channels to
    half the channels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f"The EMCAD decoder needs even numbers of channels, not {dim}.")
        hidden = dim // 2

        def grouped() -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(dim, hidden, 3, padding=1, groups=hidden), nn.BatchNorm2d(hidden))

        self.of_decoder, self.of_level = grouped(), grouped()
        self.weigh = nn.Sequential(nn.Conv2d(hidden, 1, 1), nn.BatchNorm2d(1), nn.Sigmoid())

    def forward(self, g: Tensor, x: Tensor) -> Tensor:
        return self.weigh(F.relu(self.of_decoder(g) + self.of_level(x))) * x


class EMCADDecoder(nn.Module):
    """The whole decoder, with one prediction at the finest level.

    EMCAD is published with a prediction at each level and a loss over their combinations; there is one here, the last,
    so that the decoder alone differs from `MLPDecoder` in a comparison.

    Args:
        in_dims: Channels of the fused features, finest first; each level halves the size of the one before.
        classes: Classes, background included.
    """

    def __init__(self, in_dims: Sequence[int], classes: int) -> None:
        super().__init__()
        dims = list(in_dims)
        self.refine = nn.ModuleList(mscam(dim) for dim in dims)
        self.up = nn.ModuleList(UpConvolution(coarse, fine) for fine, coarse in pairwise(dims))
        self.gate = nn.ModuleList(AttentionGate(dim) for dim in dims[:-1])
        self.classify = nn.Conv2d(dims[0], classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """(B, C_l, H_l, W_l) of the levels, finest first -> logits (B, classes, H_1, W_1)."""
        d = self.refine[-1](features[-1])
        for level in reversed(range(len(self.up))):
            d = self.up[level](d)
            d = self.refine[level](d + self.gate[level](d, features[level]))
        return self.classify(d)
