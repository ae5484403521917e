"""The Region Compensation Unit: residual maps tell the decoder where something is that nobody expected."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinsegment.network.grcsf.attention import Attention, positions


class RegionCompensationUnit(nn.Module):
    """Cross-attention among patches: queries from the decoder, keys and values from a residual map.

    What is found is weighted by an importance score of each patch, which the backbone's global features give, and by a
    weight of each mask ratio, added to the decoder's features, and goes through a convolution:
    D' = conv(D + sum over ratios r of w_r I A_r).

    Args:
        channels: Of the decoder's features.
        context: Channels of the backbone's global features.
        residuals: Channels of a residual map.
        ratios: How many residual maps there are.
        patch: Pixels of a patch's side in the image.
        stride: Pixels of the image in one of the decoder's features; it divides the patch.
        width: Of tokens.
        heads: Of attention.
    """

    def __init__(
        self,
        channels: int,
        context: int,
        residuals: int,
        ratios: int,
        patch: int,
        stride: int,
        width: int,
        heads: int,
    ) -> None:
        super().__init__()
        own = patch // stride
        self.width = width
        self.ask = nn.Conv2d(channels, width, own, own)
        self.embed = nn.Conv2d(residuals, width, patch, patch)
        self.norm_asked, self.norm_seen = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.answer = nn.ConvTranspose2d(width, channels, own, own)
        self.score = nn.Conv2d(context, 1, 1)
        self.weights = nn.Parameter(torch.full((ratios,), 1 / ratios))
        self.last = nn.Conv2d(channels, channels, 3, padding=1)
        self.own = own

    def importance(self, context: Tensor, rows: int, columns: int) -> Tensor:
        """How much each patch counts, (B, 1, rows, columns) in (0, 1), from global features (B, context, h, w)."""
        scores = F.interpolate(self.score(context), (rows, columns), mode="bilinear", align_corners=False)
        return scores.sigmoid()

    def forward(self, decoded: Tensor, context: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """The decoder's features with what the residual maps tell.

        Args:
            decoded: D (B, channels, h, w), whose sides are whole numbers of patches.
            context: (B, context, h', w').
            maps: Of each mask ratio a residual map (B, residuals, H, W).

        Returns:
            (B, channels, h, w).
        """
        asked = self.ask(decoded)
        rows, columns = asked.shape[2:]
        place = positions(rows, columns, self.width, asked)
        queries = self.norm_asked(_tokens(asked) + place)
        importance = F.interpolate(self.importance(context, rows, columns), scale_factor=self.own, mode="nearest")
        found = torch.zeros_like(decoded)
        for weight, residual in zip(self.weights, maps, strict=True):
            seen = self.norm_seen(_tokens(self.embed(residual.to(decoded.dtype))) + place)
            looked = self.attention(queries, seen).transpose(1, 2).unflatten(2, (rows, columns))
            found = found + weight * importance * self.answer(looked)
        return self.last(decoded + found)


def _tokens(features: Tensor) -> Tensor:
    """(B, C, rows, columns) -> (B, rows * columns, C)."""
    return features.flatten(2).transpose(1, 2)
