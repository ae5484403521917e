"""Any of timm's networks with four feature maps as the encoders of a DIN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from types import ModuleType

import torch
from torch import Tensor, nn

from dinsegment.errors import InputError
from dinsegment.network.encoder import Downsampling, Stem

LEVELS = 4


@dataclass(frozen=True)
class Backbone:
    """What a DIN takes from one of timm's networks.

    Attributes:
        dims: Channels of its last four feature maps.
        stem_stride: Pixels per token of the first of them.
        indices: Which feature maps these are.
    """

    dims: tuple[int, ...]
    stem_stride: int
    indices: tuple[int, ...]


def _timm(name: str) -> ModuleType:
    try:
        import timm  # here, since it takes seconds
    except ImportError as error:
        raise InputError(
            f"The backbone '{name}' needs the package 'timm', which is not installed: pip install 'dinsegment[train]'."
        ) from error
    return timm


@cache
def describe(name: str) -> Backbone:
    """Looks at one of timm's networks, without its weights.

    Raises:
        ValueError: There is no such network, or its last four feature maps are not each half the size of the one
            before, for images of any size.
        InputError: timm is not installed.
    """
    timm = _timm(name)
    try:
        with torch.device("meta"):
            network = timm.create_model(name, features_only=True, in_chans=1)
            maps = network.eval()(torch.empty(1, 1, 96, 160))
        channels, strides = network.feature_info.channels(), network.feature_info.reduction()
    except Exception as error:  # timm raises what it stumbles upon, such as an image of a size it was not made for
        raise ValueError(f"'backbone' of a DIN cannot be timm's '{name}': {str(error).splitlines()[0]}") from error
    first = len(maps) - LEVELS
    dims, last = tuple(channels[first:]), strides[first:]
    expected = [(1, c, 96 // s, 160 // s) for c, s in zip(dims, last, strict=True)]
    halves = all(b == 2 * a for a, b in pairwise(last))
    if first < 0 or not halves or [tuple(one.shape) for one in maps[first:]] != expected:
        raise ValueError(
            f"'backbone' of a DIN gives four feature maps, each half the size of the one before; timm's '{name}' has "
            f"steps of {strides} pixels"
        )
    return Backbone(dims, last[0], tuple(range(first, len(maps))))


class BackboneEncoder(nn.Module):
    """An encoder as `dinsegment.network.encoder.Encoder`, whose f_shape are the feature maps of one of timm's networks.

    f_edge comes, as there, from a downsampling layer of its own that sees the level above.

    Args:
        name: Of timm's network.
        in_channels: Channels of the input slice.
        drop_path: Stochastic depth rate, where the network has any.
        edge: Whether a level gives f_edge.
    """

    def __init__(self, name: str, in_channels: int, drop_path: float = 0.0, edge: Sequence[bool] = (True,) * 4) -> None:
        super().__init__()
        about = describe(name)
        options = {"drop_path_rate": drop_path} if drop_path else {}
        self.backbone = _timm(name).create_model(
            name, features_only=True, in_chans=in_channels, out_indices=about.indices, **options
        )
        self.edge = nn.ModuleList()
        for level, (dim, has_edge) in enumerate(zip(about.dims, edge, strict=True)):
            if not has_edge:
                self.edge.append(nn.Identity())
            elif level:
                self.edge.append(Downsampling(about.dims[level - 1], dim))
            else:
                self.edge.append(Stem(in_channels, dim, about.stem_stride))
        self.has_edge = tuple(edge)

    def forward(self, x: Tensor) -> list[tuple[Tensor | None, Tensor]]:
        """(B, in_channels, H, W) -> four pairs (f_edge, f_shape), finest first; f_edge is None where there is none."""
        shapes = self.backbone(x)
        above = [x, *shapes[:-1]]
        edges = (edge(a) if has else None for has, edge, a in zip(self.has_edge, self.edge, above, strict=True))
        return list(zip(edges, shapes, strict=True))

    def load_pretrained(self, name: str, in_channels: int) -> int:
        """Loads timm's weights, which it downloads on the first use; returns how many tensors there are."""
        pretrained = _timm(name).create_model(
            name, features_only=True, pretrained=True, in_chans=in_channels, out_indices=describe(name).indices
        )
        self.backbone.load_state_dict(pretrained.state_dict())
        return len(pretrained.state_dict())
