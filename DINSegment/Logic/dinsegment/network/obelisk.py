"""OBELISK-Net, hybrid: a small 3D network that looks at single places far around each voxel, and a U beside them.

M. P. Heinrich, O. Oktay, N. Bouteldja, Medical Image Analysis 54, 2019, doi 10.1016/j.media.2019.02.006. Where a filter
has its weights is learned, too: each reads the image at a distance of its own, anywhere in the box. Sizes are those of
the weights that the authors have published for abdomens. Norms are of the one image that is looked at: a run over
images would not be that of another hospital's.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinsegment.network.kinds import CONTEXT, Kind

SLOPE = 0.025
"""Of leaky ReLU below 0."""

NEAR, FAR = (4, 4, 4), (8, 4, 8)
"""How many times coarser are the grids around whose voxels places are read; the far one's as the published weights'."""

SPREAD = 0.05
"""Standard deviation of the places at first, in halves of the box."""


@dataclass(frozen=True)
class ObeliskConfig:
    """Everything that tells one OBELISK-Net from another, as JSON in weights.json.

    Attributes:
        classes: Organs and, first, what is none of them.
        features: Channels that the classes are made of at full resolution.
        side: Voxels of the box along each axis, a multiple of 8.
        near: Places that are read around each voxel of the finer of two coarse grids.
        far: The same of the coarser one.
    """

    kind: ClassVar[Kind] = CONTEXT

    classes: int = 10
    features: int = 11
    side: int = 144
    near: int = 128
    far: int = 512

    def __post_init__(self) -> None:
        """Raises ValueError if an option has no such value."""
        if self.classes < 2 or self.features < 1 or self.side < 8 or self.side % 8:
            raise ValueError("An OBELISK-Net has two classes or more, and a box whose side is a multiple of 8.")
        if self.near < 2 or self.near % 2 or self.far < 4 or self.far % 4:
            raise ValueError("An OBELISK-Net reads an even number of near places, and of far ones a multiple of 4.")

    @classmethod
    def from_dict(cls, options: dict[str, Any]) -> ObeliskConfig:
        """A configuration from JSON; an option that it does not have is an error."""
        chosen = {k: v for k, v in options.items() if k != "name"}
        if unknown := sorted(set(chosen) - {f.name for f in fields(cls)}):
            raise ValueError(f"An OBELISK-Net has no option {', '.join(map(repr, unknown))}.")
        return cls(**chosen)

    def to_dict(self) -> dict[str, Any]:
        """The options as JSON takes them."""
        return {"name": "obelisk", **asdict(self)}


class Convolution(nn.Module):
    """A convolution of 3 voxels, a norm, and leaky ReLU; with a stride of 2 it halves the resolution."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, out, 3, stride, 1)
        self.norm = nn.InstanceNorm3d(out, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, D, H, W) to (B, out, D / stride, H / stride, W / stride)."""
        return F.leaky_relu(self.norm(self.conv(x)), SLOPE, inplace=True)


class Places(nn.Module):
    """What is read of an image at learned places around each voxel of a coarser grid, made features of by 1x1 layers.

    Args:
        count: Places around each voxel.
        groups: Parts that the first layer sees them in.
        growth: Channels that each of the three layers after it adds.
        out: Channels of the result.
    """

    def __init__(self, count: int, groups: int, growth: int, out: int) -> None:
        super().__init__()
        width = 128
        self.offset = nn.Parameter(torch.empty(count, 3))
        # randn, or a product, would import PyTorch's compiler where a network is built on the meta device: two seconds.
        nn.init.trunc_normal_(self.offset, std=SPREAD)
        self.first = nn.Conv3d(count, width, 1, groups=groups, bias=False)
        widths = [width + n * growth for n in range(4)]
        self.norms = nn.ModuleList(nn.InstanceNorm3d(n, affine=True) for n in widths)
        outs = [growth] * 3 + [out]
        self.layers = nn.ModuleList(nn.Conv3d(n, m, 1, bias=False) for n, m in zip(widths, outs, strict=True))

    def forward(self, image: Tensor, shrink: tuple[int, int, int]) -> Tensor:
        """(B, 1, D, H, W) to (B, out, d, h, w), whose sides are `shrink` times smaller."""
        sizes = [n // times for n, times in zip(image.shape[2:], shrink, strict=True)]
        # The coarse voxels lie from the middle of the image's first voxel to that of its last.
        axes = [torch.linspace(-1, 1, n, device=image.device) for n in sizes]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flip(-1).reshape(1, 1, -1, 1, 3)
        places = (grid + self.offset[None, :, None, None]).expand(len(image), -1, -1, -1, -1)
        read = F.grid_sample(image, places, align_corners=True).reshape(len(image), -1, *sizes)
        x = F.leaky_relu(self.first(read), SLOPE)
        *more, last = zip(self.norms, self.layers, strict=True)
        for norm, layer in more:
            x = torch.cat((x, F.leaky_relu(layer(norm(x)), SLOPE)), 1)
        norm, layer = last
        return F.leaky_relu(layer(norm(x)), SLOPE)


class Obelisk(nn.Module):
    """Grey values of a box of organs to logits of them."""

    kind: ClassVar[Kind] = CONTEXT

    def __init__(self, config: ObeliskConfig) -> None:
        super().__init__()
        self.config = config
        self.full = Convolution(1, 4)
        self.halved = nn.Sequential(Convolution(4, 16, 2), Convolution(16, 16))
        self.quartered = nn.Sequential(Convolution(16, 32, 2), Convolution(32, 32), Convolution(32, 32))
        self.near = Places(config.near, 2, 32, 16)
        self.far = Places(config.far, 4, 32, 32)
        self.at_quarter = Convolution(64, 32)
        self.at_half = Convolution(64, 12)
        self.at_full = Convolution(16, config.features)
        self.head = nn.Conv3d(config.features, config.classes, 1)

    @property
    def values_per_voxel(self) -> int:
        """Peak of activations in numbers per voxel of the box, with room to spare.

        It is that of the last convolution, whose input and output oneDNN copies into blocks of 16 channels.
        """
        blocks = 16 * math.ceil(self.config.features / 16)
        return max(48 + 2 * blocks, 20 + 2 * (self.config.features + self.config.classes))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits (B, classes, D, H, W), as the only level.

        Args:
            x: (B, 1, D, H, W): grey values over 1024 HU, plus 1; D to the patient's left, H to anterior, W to inferior.
        """
        once = F.avg_pool3d(x, 3, 1, 1)
        twice = F.avg_pool3d(once, 3, 1, 1)
        full = self.full(x)
        half = self.halved(full)
        quarter = self.quartered(half)
        far = _grown(self.far(twice, FAR), quarter)
        up = _grown(self.at_quarter(torch.cat((quarter, far), 1)), half)
        near = _grown(self.near(once, NEAR), half)
        up = self.at_half(torch.cat((up, near, half), 1))
        # At full resolution nothing is held that is not needed any more: this is where a run's memory peaks.
        return [self.head(self.at_full(torch.cat((_grown(up, x), full), 1)))]

    def probabilities(self, x: Tensor) -> Tensor:
        """(classes, D, H, W) float32 of one input (1, D, H, W)."""
        return self(x[None])[0][0].float().softmax(0)


def _grown(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="trilinear", align_corners=False)
