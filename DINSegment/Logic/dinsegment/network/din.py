"""The Dual Interaction Network, DIN (J. Noh, W. Jeon, J. Park, Pattern Recognition Letters 2025, arXiv 2509.05953)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinsegment.network.backbone import BackboneEncoder
from dinsegment.network.decoder import MLPDecoder
from dinsegment.network.emcad import EMCADDecoder
from dinsegment.network.encoder import Encoder
from dinsegment.network.fusion import DIFM, Concatenation
from dinsegment.network.kinds import SEGMENTER, Kind, Segmenter

CHOICES = {
    "fusion": ("difm", "concatenation", "input", "none"),
    "inputs": ("both", "image", "enhanced"),
    "attention": ("both", "image-to-enhanced", "enhanced-to-image"),
    "levels_without_difm": ("omitted", "concatenation"),
    "decoder": ("mlp", "emcad"),
}
"""What the options that are words can be."""


DIFM_OPTIONS = ("merging", "cross_attention", "spatial_attention", "attention", "difm_levels", "levels_without_difm")
"""What only a DIN with the fusion `difm` has."""


@dataclass(frozen=True)
class DINConfig:
    """Everything that tells one DIN from another; as JSON it stands in weights.json beside each model.

    The defaults are `din-base`, the published network. See `Encoder`, `DIFM`, `MLPDecoder` and `EMCADDecoder` for what
    each option does and for what the paper leaves open. The last nine are the paper's experiments.

    Attributes:
        in_channels: Slices in each image: 1, as published, or an odd number, the slice between its neighbours.
        fusion: `difm`; `concatenation` of both encoders' features at each level; `input`, both images as channels of a
            single encoder; `none`, a single encoder that sees one image.
        inputs: `both`, or with the fusion `none` the one that is seen: `image` or `enhanced` (table 4, only I or E).
        merging: Whether DIFM merges f_edge with f_shape.
        cross_attention: Whether DIFM has its cross-attention.
        spatial_attention: Whether DIFM has its global spatial attention.
        attention: Direction of the cross-attention (table 7).
        difm_levels: How many levels have a DIFM, counted from the coarsest (table 6).
        levels_without_difm: What the finer levels give the decoder: nothing (`omitted`), or their `concatenation`. The
            paper does not say. Its 86.86 % with one DIFM are far below the 92.50 % of concatenation at all levels, and
            its four figures rise as outputs of 28, 56, 112 and 224 pixels would: omitted, coarsest first, fits both.
        decoder: `mlp` or `emcad` (table 11).
        backbone: Name of one of timm's networks, which then is each encoder; `dims` and `stem_stride` are its own, and
            `depths` and `layer_scale` do not count. Empty for the published encoder.
    """

    kind: ClassVar[Kind] = SEGMENTER

    classes: int = 4
    in_channels: int = 1
    dims: tuple[int, ...] = (128, 256, 512, 1024)
    depths: tuple[int, ...] = (3, 3, 27, 3)
    stem_stride: int = 1
    shared_encoder: bool = False
    layer_scale: float = 1e-6
    drop_path: float = 0.0
    heads: tuple[int, ...] = (4, 8, 16, 32)
    window: int = 7
    merge_kernel: int = 3
    expand_kernel: int = 3
    decoder_dim: int = 768
    decoder_layers: int = 2
    fusion: str = "difm"
    inputs: str = "both"
    merging: bool = True
    cross_attention: bool = True
    spatial_attention: bool = True
    attention: str = "both"
    difm_levels: int = 4
    levels_without_difm: str = "omitted"
    decoder: str = "mlp"
    backbone: str = ""

    def __post_init__(self) -> None:
        for name in ("dims", "depths", "heads"):
            value = tuple(getattr(self, name))
            if len(value) != 4:
                raise ValueError(f"'{name}' of a DIN needs four values, one per level, not {len(value)}.")
            object.__setattr__(self, name, value)
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"'{name}' of a DIN is one of {', '.join(choices)}, not '{getattr(self, name)}'.")
        if self.in_channels < 1 or self.in_channels % 2 == 0:
            raise ValueError(f"'in_channels' of a DIN is odd, a slice between its neighbours, not {self.in_channels}.")
        if self.difm_levels not in (1, 2, 3, 4):
            raise ValueError(f"A DIN has 1 to 4 levels with a DIFM, not {self.difm_levels}.")
        if (self.fusion == "none") != (self.inputs != "both"):
            raise ValueError("The fusion 'none', and it alone, needs 'inputs' to be 'image' or 'enhanced'.")
        if self.attention != "both" and not self.cross_attention:
            raise ValueError(f"'attention' cannot be '{self.attention}' where 'cross_attention' is off.")
        if self.shared_encoder and self.single_encoder:
            raise ValueError(f"With the fusion '{self.fusion}' there is one encoder: none that could be shared.")
        defaults = {f.name: f.default for f in fields(self)}
        without = [n for n in DIFM_OPTIONS if self.fusion != "difm" and getattr(self, n) != defaults[n]]
        if without:
            raise ValueError(f"'{without[0]}' is an option of DIFM, which the fusion '{self.fusion}' does not have.")

    @property
    def single_encoder(self) -> bool:
        """Whether there is one encoder instead of two."""
        return self.fusion in ("none", "input")

    @property
    def first_level(self) -> int:
        """Index of the finest level that the decoder sees."""
        return 4 - self.difm_levels if self.levels_without_difm == "omitted" else 0

    def has_difm(self, level: int) -> bool:
        """Whether the level of that index has a DIFM."""
        return self.fusion == "difm" and level >= 4 - self.difm_levels

    @classmethod
    def check_names(cls, options: dict[str, Any]) -> None:
        """Raises ValueError if there is an option that DIN does not have."""
        unknown = sorted(set(options) - {f.name for f in fields(cls)})
        if unknown:
            raise ValueError(f"DIN has no option {', '.join(map(repr, unknown))}.")

    @classmethod
    def from_dict(cls, options: dict[str, Any]) -> DINConfig:
        """A configuration from JSON; an option that DIN does not have is an error."""
        cls.check_names(options)
        return cls(**options)

    def to_dict(self) -> dict[str, Any]:
        """The options as JSON takes them; no backbone is not mentioned."""
        options = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return options if self.backbone else {k: v for k, v in options.items() if k != "backbone"}


DIN_BASE = DINConfig()
"""The published network: 317 M parameters here, 323.31 M in table 15."""

DIN_SMALL = DINConfig(
    dims=(32, 64, 128, 256),
    depths=(2, 2, 4, 2),
    stem_stride=2,
    layer_scale=1.0,
    heads=(1, 2, 4, 8),
    window=7,
    merge_kernel=1,
    expand_kernel=1,
    decoder_dim=64,
    decoder_layers=1,
)
"""The same design for CPUs: 5.7 M parameters. Level 1 at half resolution, a quarter of the width, 1x1 kernels."""

CONFIGS = {"din-base": DIN_BASE, "din-small": DIN_SMALL}


class DIN(Segmenter):
    """Two encoders, a DIFM at each of four levels, an MLP decoder (figure 2), or what the options make of it.

    Any input size will do: it is padded with its edge values to a multiple of the coarsest level's stride and the
    logits are cropped again.
    """

    def __init__(self, config: DINConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.in_channels * (2 if config.fusion == "input" else 1)
        edge = [config.merging and config.has_difm(level) for level in range(4)]

        def encoder() -> nn.Module:
            if config.backbone:
                return BackboneEncoder(config.backbone, channels, config.drop_path, edge)
            shape = (config.dims, config.depths, config.stem_stride)
            return Encoder(channels, *shape, config.layer_scale, config.drop_path, edge)

        self.encoder_i = encoder() if config.inputs != "enhanced" else None
        if config.shared_encoder:
            self.encoder_e = self.encoder_i
        else:
            self.encoder_e = encoder() if config.inputs != "image" and config.fusion != "input" else None
        self.levels = range(config.first_level, 4)
        self.fusion = nn.ModuleList() if config.single_encoder else nn.ModuleList(map(self._fusion, self.levels))
        dims = config.dims[config.first_level :]
        if config.decoder == "emcad":
            self.decoder: nn.Module = EMCADDecoder(dims, config.classes)
        else:
            self.decoder = MLPDecoder(dims, config.decoder_dim, config.classes, config.decoder_layers)

    def _fusion(self, level: int) -> nn.Module:
        """What brings both encoders' features of a level together."""
        config = self.config
        dim = config.dims[level]
        if not config.has_difm(level):
            return Concatenation(dim)
        return DIFM(
            dim,
            config.heads[level],
            config.window,
            config.merge_kernel,
            config.expand_kernel,
            merging=config.merging,
            cross_attention=config.cross_attention,
            spatial_attention=config.spatial_attention,
            direction=config.attention,
        )

    @property
    def stride(self) -> int:
        """Pixels per token at the coarsest level."""
        return self.config.stem_stride * 2 ** (len(self.config.dims) - 1)

    @property
    def values_per_pixel(self) -> float:
        """Peak of activations in numbers per pixel of a slice, with room to spare: decoder or level 1, the larger."""
        config = self.config
        decoder = 6 * (config.decoder_dim if config.decoder == "mlp" else 4 * config.dims[0])
        level_1 = 24 * config.dims[0]
        return (max(decoder, level_1) + 8 * config.dims[0]) / config.stem_stride**2 + 2 * config.classes

    def forward(self, image: Tensor, enhanced: Tensor) -> Tensor:
        """Original and enhanced slices, each (B, in_channels, H, W) -> class logits (B, classes, H, W)."""
        height, width = image.shape[-2:]
        pad = (0, -width % self.stride, 0, -height % self.stride)
        if any(pad):
            image, enhanced = (F.pad(x, pad, mode="replicate") for x in (image, enhanced))
        logits = self.decoder(self._features(image, enhanced))
        scale = self.config.stem_stride * 2**self.config.first_level
        if scale > 1:
            logits = F.interpolate(logits, scale_factor=float(scale), mode="bilinear", align_corners=False)
        return logits[..., :height, :width]

    def _features(self, image: Tensor, enhanced: Tensor) -> list[Tensor]:
        """What the decoder sees, finest level first."""
        if self.encoder_i is None:
            return [shape for _, shape in self.encoder_e(enhanced)]
        if self.encoder_e is None:
            seen = torch.cat((image, enhanced), dim=1) if self.config.fusion == "input" else image
            return [shape for _, shape in self.encoder_i(seen)]
        i, e = self.encoder_i(image), self.encoder_e(enhanced)
        return [fuse(i[level], e[level]) for level, fuse in zip(self.levels, self.fusion, strict=True)]


def count_parameters(network: DIN) -> dict[str, int]:
    """Parameters per part, as table 15 lists them: `encoders`, `fusion`, `decoder`, `total`."""

    def count(*modules: nn.Module | None) -> int:
        return sum(p.numel() for p in {p for m in modules if m is not None for p in m.parameters()})

    parts: dict[str, Sequence[nn.Module | None]] = {
        "encoders": (network.encoder_i, network.encoder_e),
        "fusion": (network.fusion,),
        "decoder": (network.decoder,),
    }
    counts = {name: count(*modules) for name, modules in parts.items()}
    return {**counts, "total": sum(counts.values())}
