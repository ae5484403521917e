"""What a GRCSF model consists of: a U-shaped backbone with both units, and the frozen autoencoders that they ask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinsegment.network.grcsf.autoencoder import AutoencoderConfig, MaskedAutoencoder
from dinsegment.network.grcsf.gcu import GlobalCompensationUnit
from dinsegment.network.grcsf.rcu import RegionCompensationUnit
from dinsegment.network.kinds import COMPENSATED, Kind, Segmenter


@dataclass(frozen=True)
class GRCSFConfig:
    """Everything that tells one GRCSF from another, as JSON in a recipe and in weights.json.

    Attributes:
        classes: Classes, background included.
        in_channels: Slices in an image: 1, or an odd number, the slice between its neighbours.
        width: Channels of the finest level.
        multipliers: Of the width, one a level, finest first.
        gcu: Whether skips are compensated for what downsampling lost.
        rcu: Levels of the decoder, 0 the finest, that residual maps guide; none leaves the unit out.
        ratios: Shares of the patches that are masked, one autoencoder each.
        autoencoder: Options of all autoencoders; the ratio of each is that of `ratios`.
        token_width: Of the tokens with which decoder and residual maps are compared.
        heads: Of that attention.
        reduction: Of squeeze and excitation.
    """

    kind: ClassVar[Kind] = COMPENSATED

    classes: int = 2
    in_channels: int = 1
    width: int = 24
    multipliers: tuple[int, ...] = (1, 2, 4, 8, 16)
    gcu: bool = True
    rcu: tuple[int, ...] = (0, 1, 2, 3)
    ratios: tuple[float, ...] = (0.5, 0.75)
    autoencoder: dict[str, Any] = field(default_factory=dict)
    token_width: int = 64
    heads: int = 8
    reduction: int = 8

    def __post_init__(self) -> None:
        """Raises ValueError if an option has no such value."""
        for name in ("multipliers", "rcu", "ratios"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        sizes = {f.name: getattr(self, f.name) for f in fields(self) if f.type == "int"}
        if wrong := [name for name, value in sizes.items() if value < 1]:
            raise ValueError(f"'{wrong[0]}' of GRCSF is {sizes[wrong[0]]}, not a whole number above 0.")
        if self.in_channels % 2 == 0:
            raise ValueError(f"'in_channels' of GRCSF is odd, a slice between its neighbours, not {self.in_channels}.")
        if len(self.multipliers) < 2:
            raise ValueError(f"GRCSF has at least two levels, not 'multipliers' of {list(self.multipliers)}.")
        if not set(self.rcu) <= set(range(len(self.multipliers) - 1)):
            raise ValueError(f"'rcu' of GRCSF names levels 0 to {len(self.multipliers) - 2}, not {list(self.rcu)}.")
        if self.token_width % 4 or self.token_width % self.heads:
            raise ValueError(f"'token_width' of GRCSF is a multiple of 4 and of the heads, not {self.token_width}.")
        if self.rcu and not self.ratios:
            raise ValueError("GRCSF with 'rcu' has a mask ratio in 'ratios' at least.")
        for one in self.autoencoders:
            if one.patch % 2 ** max(self.rcu):
                raise ValueError(f"'patch' of the autoencoder is a multiple of {2 ** max(self.rcu)}, not {one.patch}.")

    @property
    def autoencoders(self) -> tuple[AutoencoderConfig, ...]:
        """The autoencoders, in the order of `ratios`; none without the unit that asks them."""
        if not self.rcu:
            return ()
        own = {"classes": self.classes, "in_channels": self.in_channels}
        made = AutoencoderConfig.from_dict(self.autoencoder | own)
        return tuple(replace(made, ratio=ratio) for ratio in self.ratios)

    @property
    def has_maps(self) -> bool:
        """Whether it asks autoencoders, which tell what they did not expect."""
        return bool(self.autoencoders)

    @classmethod
    def from_dict(cls, options: dict[str, Any]) -> GRCSFConfig:
        """A configuration from JSON; an option that it does not have is an error."""
        chosen = {k: v for k, v in options.items() if k != "name"}
        if unknown := sorted(set(chosen) - {f.name for f in fields(cls)}):
            raise ValueError(f"GRCSF has no option {', '.join(map(repr, unknown))}.")
        return cls(**chosen)

    def to_dict(self) -> dict[str, Any]:
        """The options as JSON takes them."""
        return {"name": "grcsf", **{k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}}

    @property
    def stride(self) -> int:
        """Pixels that the sides of an input have to be a multiple of: a coarsest pixel, and a patch."""
        return math.lcm(2 ** (len(self.multipliers) - 1), *(one.patch for one in self.autoencoders))


class GRCSF(Segmenter):
    """A U-shaped network with compensation units; any input size will do.

    It sees the original image alone: the enhanced one is DIN's.

    Attributes:
        autoencoders: Frozen: they have no gradient, and their weights are those that they were loaded with.
    """

    kind: ClassVar[Kind] = COMPENSATED

    def __init__(self, config: GRCSFConfig) -> None:
        super().__init__()
        self.config = config
        sizes = [config.width * n for n in config.multipliers]
        self.autoencoders = nn.ModuleList(MaskedAutoencoder(one) for one in config.autoencoders)
        self.autoencoders.requires_grad_(False)
        self.down = nn.ModuleList(
            DoubleConvolution(n, m) for n, m in zip([config.in_channels, *sizes[:-1]], sizes, strict=True)
        )
        levels = range(len(sizes) - 1)
        self.gcu = nn.ModuleList(
            GlobalCompensationUnit(sizes[n], sizes[n + 1], config.reduction) for n in levels if config.gcu
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(sizes[n + 1], sizes[n], 2, 2) for n in levels)
        self.join = nn.ModuleList(DoubleConvolution(2 * sizes[n], sizes[n]) for n in levels)
        patch, kinds = (
            (config.autoencoders[0].patch, len(config.autoencoders[0].residuals)) if config.autoencoders else (0, 0)
        )
        self.rcu = nn.ModuleDict(
            {
                str(n): RegionCompensationUnit(
                    sizes[n], sizes[-1], kinds, len(config.ratios), patch, 2**n, config.token_width, config.heads
                )
                for n in config.rcu
            }
        )
        self.last = nn.Conv2d(sizes[0], config.classes, 1)

    @property
    def values_per_pixel(self) -> float:
        """Peak of activations in numbers per pixel of a slice, with room to spare."""
        asked = sum(one.values_per_pixel for one in self.autoencoders)
        return 12 * self.config.width + asked + 2 * self.config.classes

    def forward(self, image: Tensor, enhanced: Tensor) -> Tensor:
        """Slices (B, in_channels, H, W) in [-1, 1] -> logits (B, classes, H, W)."""
        height, width = image.shape[-2:]
        stride = self.config.stride
        pad = (0, -width % stride, 0, -height % stride)
        image = F.pad(image, pad, mode="replicate") if any(pad) else image
        maps = self.residual_maps(image)
        skips, h = [], image
        for number, layers in enumerate(self.down):
            h = layers(F.max_pool2d(h, 2) if number else h)
            skips.append(h)
        context = h
        if self.config.gcu:
            skips = [unit(skip, below) for unit, skip, below in zip(self.gcu, skips, skips[1:], strict=False)]
        for number in reversed(range(len(self.up))):
            h = self.join[number](torch.cat((skips[number], self.up[number](h)), 1))
            if str(number) in self.rcu:
                h = self.rcu[str(number)](h, context, maps)
        return self.last(h)[..., :height, :width]

    def residual_maps(self, image: Tensor) -> list[Tensor]:
        """Of each autoencoder the residual map (B, residuals, H, W) float32, without a gradient."""
        with torch.no_grad():
            return [one.residual(image) for one in self.autoencoders]

    @property
    def has_maps(self) -> bool:
        """Whether `maps` can be asked."""
        return self.config.has_maps

    def maps(self, image: Tensor, enhanced: Tensor) -> Tensor:
        """What the autoencoders did not expect of each image, their mean: (B, 1, H, W) float32."""
        return torch.stack([one.maps(image, enhanced) for one in self.autoencoders]).mean(0)

    def load_autoencoders(self, weights: Sequence[dict[str, Tensor]]) -> None:
        """Takes up trained autoencoders, in the order of `config.ratios`; they stay frozen.

        Raises:
            RuntimeError: Weights do not fit.
        """
        for one, tensors in zip(self.autoencoders, weights, strict=True):
            one.load_state_dict(tensors)


class DoubleConvolution(nn.Sequential):
    """Two 3x3 convolutions, each with normalisation and ReLU, (B, in, H, W) -> (B, out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        sizes = ((in_channels, out_channels), (out_channels, out_channels))
        layers = (
            (nn.Conv2d(n, m, 3, padding=1, bias=False), nn.BatchNorm2d(m), nn.ReLU(inplace=True)) for n, m in sizes
        )
        super().__init__(*(layer for triple in layers for layer in triple))
