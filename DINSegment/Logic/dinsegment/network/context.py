"""A small 3D network that tells for each place of a trunk which organ it may be: residual blocks in a U."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinsegment.network.kinds import CONTEXT, Kind

GROUPS = 8
"""Groups of channels that are normalised together, of at least four channels each."""

CHANNELS = 3
"""What it sees of each voxel: its grey value, and how far behind and left of the body's middle it lies."""


@dataclass(frozen=True)
class ContextConfig:
    """Everything that tells one context network from another, as JSON in weights.json.

    Attributes:
        classes: Organs and, first, what is none of them.
        dims: Channels of each level, finest first; each level has half the resolution of the one before.
        depths: Residual blocks of each level on the way down.
    """

    kind: ClassVar[Kind] = CONTEXT

    classes: int = 14
    dims: tuple[int, ...] = (16, 32, 64, 128)
    depths: tuple[int, ...] = (1, 2, 2, 3)

    def __post_init__(self) -> None:
        """Raises ValueError if an option has no such value."""
        for name in ("dims", "depths"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if len(self.dims) != len(self.depths) or len(self.dims) < 2 or self.classes < 2:
            raise ValueError("A context network has two classes or more, and as many depths as dims, two or more.")
        if any(not isinstance(n, int) or n < 1 for n in (*self.dims, *self.depths)):
            raise ValueError(f"Dims and depths of a context network are numbers above 0, not {self.dims, self.depths}.")

    @classmethod
    def from_dict(cls, options: dict[str, Any]) -> ContextConfig:
        """A configuration from JSON; an option that it does not have is an error."""
        chosen = {k: v for k, v in options.items() if k != "name"}
        if unknown := sorted(set(chosen) - {f.name for f in fields(cls)}):
            raise ValueError(f"A context network has no option {', '.join(map(repr, unknown))}.")
        return cls(**chosen)

    def to_dict(self) -> dict[str, Any]:
        """The options as JSON takes them."""
        return {"name": "context", **{k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}}

    @property
    def stride(self) -> int:
        """Voxels that the sides of an input have to be a multiple of."""
        return 2 ** (len(self.dims) - 1)


class ResidualBlock(nn.Module):
    """Two convolutions with group norms and a skip; with a stride of 2 it halves the resolution."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        groups = max(1, min(GROUPS, out // 4))
        self.conv1 = nn.Conv3d(channels, out, 3, stride, 1, bias=False)
        self.norm1 = nn.GroupNorm(groups, out)
        self.conv2 = nn.Conv3d(out, out, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(groups, out)
        self.skip = nn.Conv3d(channels, out, 1, bias=False) if channels != out or stride != 1 else nn.Identity()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, z, y, x) to (B, out, z / stride, y / stride, x / stride)."""
        out = F.leaky_relu(self.norm1(self.conv1(x)), 0.01)
        out = self.norm2(self.conv2(out))
        skipped = F.avg_pool3d(x, self.stride) if self.stride != 1 else x
        return F.leaky_relu(out + self.skip(skipped), 0.01)


class ContextNetwork(nn.Module):
    """Voxels with their place to logits of the organs; in training also those of the coarser levels."""

    kind: ClassVar[Kind] = CONTEXT

    def __init__(self, config: ContextConfig) -> None:
        super().__init__()
        self.config = config
        dims = config.dims
        self.encoder = nn.ModuleList()
        for level, (dim, depth) in enumerate(zip(dims, config.depths, strict=True)):
            first = ResidualBlock(dims[level - 1] if level else CHANNELS, dim, 2 if level else 1)
            self.encoder.append(nn.Sequential(first, *(ResidualBlock(dim, dim) for _ in range(depth - 1))))
        upwards = list(pairwise(dims))[::-1]
        self.up = nn.ModuleList(nn.Conv3d(coarse, fine, 1, bias=False) for fine, coarse in upwards)
        self.decoder = nn.ModuleList(ResidualBlock(fine, fine) for fine, _ in upwards)
        self.heads = nn.ModuleList(nn.Conv3d(fine, config.classes, 1) for fine, _ in upwards)

    @property
    def values_per_voxel(self) -> int:
        """Peak of activations in numbers per voxel of an input whose sides were padded, with room to spare."""
        return 6 * self.config.dims[0] + 2 * self.config.classes

    def padded(self, sides: Sequence[int]) -> list[int]:
        """The sides (z, y, x) that an input is padded to."""
        return [side + -side % self.config.stride for side in sides]

    def levels(self, x: Tensor) -> Iterator[tuple[nn.Module, Tensor]]:
        """Each level's head and what it makes its logits of, coarsest first."""
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        skips.pop()
        for up, block, head in zip(self.up, self.decoder, self.heads, strict=True):
            x = block(F.interpolate(up(x), scale_factor=2, mode="nearest") + skips.pop())
            yield head, x

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits (B, classes, z, y, x), and those of every coarser level after them.

        Args:
            x: (B, 3, z, y, x), whose last three sides are multiples of the configuration's stride.
        """
        return [head(features) for head, features in self.levels(x)][::-1]

    def probabilities(self, x: Tensor) -> Tensor:
        """(classes, z, y, x) float32 of one input (3, z, y, x), any size."""
        sides = x.shape[1:]
        pad = [n for side, to in reversed([*zip(sides, self.padded(sides), strict=True)]) for n in (0, to - side)]
        *_, (head, features) = self.levels(F.pad(x, pad)[None])
        logits = head(features)[0].float()
        return torch.softmax(logits[:, : sides[0], : sides[1], : sides[2]], 0)
