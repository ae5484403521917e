"""ConvNeXt encoder with a fine stem and two features per level (DIN paper, section 9.1, table 14, eq. 13)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from dinsegment.network.convnext import ConvNeXtBlock, LayerNorm2d


class Downsampling(nn.Sequential):
    """LayerNorm, then a 2x2 convolution of stride 2: ConvNeXt's step from one level to the next.

    (B, C_in, H, W) -> (B, C_out, H/2, W/2). Names and order are those of timm's `ConvNeXtStage.downsample`.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(LayerNorm2d(in_channels), nn.Conv2d(in_channels, out_channels, 2, stride=2))


class Stem(nn.Sequential):
    """3x3 convolution and LayerNorm in place of ConvNeXt's 4x4 patches of stride 4 (table 14, level 1).

    The published network has stride 1, so level 1 keeps every pixel. A stride of 2 or 4 trades that for speed.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1), LayerNorm2d(out_channels))


class Encoder(nn.Module):
    """One of DIN's two encoders: four levels, each giving a low-level and a high-level feature.

    At every level two downsampling layers of the same shape see the level above: one gives f_edge, which goes to
    the fusion module only, and one feeds the level's ConvNeXt blocks, whose output is f_shape (section 9.1).

    Args:
        in_channels: Channels of the input slice (1 for grey images).
        dims: Channels of the four levels.
        depths: ConvNeXt blocks of the four levels. Table 14 prints 9 for level 3; the published 178 M parameters
            need ConvNeXt-base's 27.
        stem_stride: Stride of the first convolution.
        layer_scale: Start value of ConvNeXt's layer scale.
        drop_path: Stochastic depth rate of the last block; it grows linearly from 0 at the first.
        edge: Whether a level gives f_edge. A fusion that looks at f_shape only has no use for it, and weights that
            nothing depends on would never learn.
    """

    def __init__(
        self,
        in_channels: int = 1,
        dims: Sequence[int] = (128, 256, 512, 1024),
        depths: Sequence[int] = (3, 3, 27, 3),
        stem_stride: int = 1,
        layer_scale: float = 1e-6,
        drop_path: float = 0.0,
        edge: Sequence[bool] = (True, True, True, True),
    ) -> None:
        super().__init__()
        self.has_edge = tuple(edge)
        rates = iter(np.linspace(0, drop_path, sum(depths)).tolist())
        self.edge, self.down, self.blocks = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.norm = nn.ModuleList(nn.Identity() for _ in dims)  # what both see first, once rewritten for inference
        for level, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
            for layers in (self.edge, self.down):
                layers.append(Downsampling(dims[level - 1], dim) if level else Stem(in_channels, dim, stem_stride))
            if not edge[level]:
                self.edge[level] = nn.Identity()
            self.blocks.append(
                nn.Sequential(
                    *(ConvNeXtBlock(dim, layer_scale=layer_scale, drop_path=next(rates)) for _ in range(depth))
                )
            )

    def forward(self, x: Tensor) -> list[tuple[Tensor | None, Tensor]]:
        """(B, in_channels, H, W) -> four pairs (f_edge, f_shape), each (B, C_l, H / (s 2^l), W / (s 2^l)).

        f_edge is None at levels built without it.
        """
        features = []
        levels = zip(self.has_edge, self.norm, self.edge, self.down, self.blocks, strict=True)
        for has_edge, norm, edge, down, blocks in levels:
            x = norm(x)
            f_edge = edge(x) if has_edge else None
            x = blocks(down(x))
            features.append((f_edge, x))
        return features
