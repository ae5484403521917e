"""DIFM's cross-attention as inference computes it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinsegment.network.composed import Pointwise
from dinsegment.network.fusion import DualCrossAttention, WindowGrid

WINDOWS = 512
"""Windows, times heads, whose attention a CPU computes at a time."""


class RewrittenAttention(nn.Module):
    """`DualCrossAttention` (eq. 2, 3) with the factor 1 / sqrt(d) in the keys' weights.

    On a CPU it is computed as plain products: PyTorch's fused attention is made for longer sequences than the 49 tokens
    of a window and takes half as long again.
    """

    def __init__(self, plain: DualCrossAttention) -> None:
        super().__init__()
        self.window, self.direction = plain.window, plain.direction
        parts_i, parts_e = (
            list(zip(qkv.weight.split(plain.dim), qkv.bias.split(plain.dim), strict=True))
            for qkv in (plain.qkv_i, plain.qkv_e)
        )
        # Whose queries there are, those come first: see DualCrossAttention.
        ways = []
        if plain.direction != "enhanced-to-image":
            ways.append((parts_i[0], *parts_e[-2:]))
        if plain.direction != "image-to-enhanced":
            ways.append((parts_e[0], *parts_i[-2:]))
        self.ways = nn.ModuleList(WindowAttention(*way, plain.heads, plain.qkv_i) for way in ways)

    def forward(self, f_i: Tensor, f_e: Tensor) -> tuple[Tensor, ...]:
        """The two feature maps, each after attention to the other, as `DualCrossAttention.forward` gives them."""
        grid = WindowGrid(f_i.shape[0], *f_i.shape[-2:], self.window)
        mask = grid.mask(f_i.device)
        i, e = grid.split(f_i), grid.split(f_e)
        pairs = {"both": ((i, e), (e, i)), "image-to-enhanced": ((i, e),), "enhanced-to-image": ((e, i),)}
        asked = zip(self.ways, pairs[self.direction], strict=True)
        return tuple(grid.join(way(query, key, mask)) for way, (query, key) in asked)


class WindowAttention(nn.Module):
    """softmax(Q K^T / sqrt(d)) V + Q inside windows, the queries of one image, keys and values of the other.

    Args:
        query: Weight (C, C) and bias (C,) of the queries.
        key: Of the keys.
        value: Of the values.
        heads: Attention heads.
        like: A layer of the same precision and device.
    """

    def __init__(
        self,
        query: tuple[Tensor, Tensor],
        key: tuple[Tensor, Tensor],
        value: tuple[Tensor, Tensor],
        heads: int,
        like: nn.Linear,
    ) -> None:
        super().__init__()
        self.heads = heads
        scale = (len(query[1]) // heads) ** -0.5
        self.query, self.value = Pointwise(*query, like), Pointwise(*value, like)
        self.key = Pointwise(*(x.double() * scale for x in key), like)

    def forward(self, asking: Tensor, asked: Tensor, mask: Tensor | None) -> Tensor:
        """Tokens (windows, tokens, C) of both, and a mask as `WindowGrid` gives it -> (windows, tokens, C)."""
        q, k, v = (self._heads(layer, x) for layer, x in ((self.query, asking), (self.key, asked), (self.value, asked)))
        if q.device.type != "cpu":
            x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0) + q
        else:
            x = _products(q, k, v, mask)
        return x.transpose(1, 2).flatten(2)

    def _heads(self, layer: Pointwise, x: Tensor) -> Tensor:
        """(windows, tokens, C) -> (windows, heads, tokens, C / heads)."""
        return layer(x.flatten(0, 1)).view(*x.shape[:2], self.heads, -1).transpose(1, 2)


def _products(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k^T) v + q, a part of the windows at a time, so that the scores stay in the cache."""
    shape = q.shape
    hidden = None if mask is None else ~mask.expand(-1, shape[1], -1, -1).flatten(0, 1)
    q, k, v = (x.flatten(0, 1) for x in (q, k, v))
    out = torch.empty_like(q)
    for start in range(0, len(q), WINDOWS):
        part = slice(start, start + WINDOWS)
        scores = torch.bmm(q[part], k[part].transpose(1, 2))
        if hidden is not None:
            scores.masked_fill_(hidden[part], -torch.inf)
        torch.baddbmm(q[part], scores.softmax(-1), v[part], out=out[part])
    return out.view(shape)
