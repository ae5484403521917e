"""The Dual Interaction Network, DIN (J. Noh, W. Jeon, J. Park, Pattern Recognition Letters 2025, arXiv 2509.05953)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from dinsegment.network.decoder import MLPDecoder
from dinsegment.network.encoder import Encoder
from dinsegment.network.fusion import DIFM


@dataclass(frozen=True)
class DINConfig:
    """Everything that tells one DIN from another; as JSON it stands in weights.json beside each model.

    The defaults are `din-base`, the published network. See `Encoder`, `DIFM` and `MLPDecoder` for what each option
    does and for what the paper leaves open.
    """

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

    def __post_init__(self) -> None:
        for name in ("dims", "depths", "heads"):
            value = tuple(getattr(self, name))
            if len(value) != 4:
                raise ValueError(f"'{name}' of a DIN needs four values, one per level, not {len(value)}.")
            object.__setattr__(self, name, value)

    @classmethod
    def from_dict(cls, options: dict[str, Any]) -> DINConfig:
        """A configuration from JSON; an option that DIN does not have is an error."""
        unknown = sorted(set(options) - {f.name for f in fields(cls)})
        if unknown:
            raise ValueError(f"DIN has no option {', '.join(map(repr, unknown))}.")
        return cls(**options)

    def to_dict(self) -> dict[str, Any]:
        """The options as JSON takes them."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


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


class DIN(nn.Module):
    """Two encoders, a DIFM at each of four levels, an MLP decoder (figure 2).

    Any input size will do: it is padded with its edge values to a multiple of the coarsest level's stride and the
    logits are cropped again.
    """

    def __init__(self, config: DINConfig) -> None:
        super().__init__()
        self.config = config
        encoder = (config.in_channels, config.dims, config.depths, config.stem_stride)
        regularisation = (config.layer_scale, config.drop_path)
        self.encoder_i = Encoder(*encoder, *regularisation)
        self.encoder_e = self.encoder_i if config.shared_encoder else Encoder(*encoder, *regularisation)
        self.fusion = nn.ModuleList(
            DIFM(dim, heads, config.window, config.merge_kernel, config.expand_kernel)
            for dim, heads in zip(config.dims, config.heads, strict=True)
        )
        self.decoder = MLPDecoder(config.dims, config.decoder_dim, config.classes, config.decoder_layers)

    @property
    def stride(self) -> int:
        """Pixels per token at the coarsest level."""
        return self.config.stem_stride * 2 ** (len(self.config.dims) - 1)

    def forward(self, image: Tensor, enhanced: Tensor) -> Tensor:
        """Original and enhanced slices, each (B, in_channels, H, W) -> class logits (B, classes, H, W)."""
        height, width = image.shape[-2:]
        pad = (0, -width % self.stride, 0, -height % self.stride)
        if any(pad):
            image, enhanced = (F.pad(x, pad, mode="replicate") for x in (image, enhanced))
        features = [
            fuse(i, e) for fuse, i, e in zip(self.fusion, self.encoder_i(image), self.encoder_e(enhanced), strict=True)
        ]
        logits = self.decoder(features)
        if self.config.stem_stride > 1:
            logits = F.interpolate(
                logits, scale_factor=float(self.config.stem_stride), mode="bilinear", align_corners=False
            )
        return logits[..., :height, :width]


def count_parameters(network: DIN) -> dict[str, int]:
    """Parameters per part, as table 15 lists them: `encoders`, `fusion`, `decoder`, `total`."""

    def count(*modules: nn.Module) -> int:
        return sum(p.numel() for p in {p for m in modules for p in m.parameters()})

    parts: dict[str, Sequence[nn.Module]] = {
        "encoders": (network.encoder_i, network.encoder_e),
        "fusion": (network.fusion,),
        "decoder": (network.decoder,),
    }
    counts = {name: count(*modules) for name, modules in parts.items()}
    return {**counts, "total": sum(counts.values())}
