"""Attention among tokens of patches, and where a patch lies as numbers."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Softmax attention of several heads, from queries (B, N, width) to what is looked at (B, M, width).

    Args:
        width: Of both, and of the output.
        heads: Which share the width evenly.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.project = nn.Linear(width, width)

    def forward(self, queries: Tensor, seen: Tensor) -> Tensor:
        """(B, N, width)."""

        def split(tokens: Tensor) -> Tensor:
            return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)

        q, k, v = split(self.query(queries)), split(self.key(seen)), split(self.value(seen))
        return self.project(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A transformer's block of tokens (B, N, width), normalised before each of its two branches."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm_1(x)
        x = x + self.attention(normed, normed)
        return x + self.mlp(self.norm_2(x))


def positions(rows: int, columns: int, width: int, like: Tensor) -> Tensor:
    """Sines and cosines of the places of patches, (rows * columns, width): half of them of the row, half of the column.

    Nothing of them is learned, so that an image may have any size.

    Args:
        rows: Of patches.
        columns: Of patches.
        width: A multiple of 4.
        like: Whose precision and device they get.
    """
    count = width // 4
    frequencies = torch.exp(-math.log(10000.0) / count * torch.arange(count, device=like.device))
    along = [torch.outer(torch.arange(n, device=like.device).float(), frequencies) for n in (rows, columns)]
    row, column = (torch.cat((angles.sin(), angles.cos()), 1) for angles in along)
    both = torch.cat((row[:, None].expand(-1, columns, -1), column[None].expand(rows, -1, -1)), 2)
    return both.flatten(0, 1).to(like.dtype)
