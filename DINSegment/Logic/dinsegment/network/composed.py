"""Layers whose weights were composed from those of others: what networks rewritten for inference consist of."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def convolution(weight: Tensor, bias: Tensor | None, like: nn.Conv2d, padding: int = 0) -> nn.Conv2d:
    """A convolution with these weights (out, in, rows, columns), of the stride, precision and device of another."""
    conv = nn.Conv2d(*weight.shape[1::-1], weight.shape[2:], like.stride, padding, bias=bias is not None, device="meta")
    conv.weight = parameter(weight, like.weight)
    if bias is not None:
        conv.bias = parameter(bias, like.weight)
    return conv


def parameter(value: Tensor, like: Tensor) -> nn.Parameter:
    """A weight that is not trained, of the precision and device of another."""
    return nn.Parameter(value.to(like), requires_grad=False)


class Normalize(nn.Module):
    """LayerNorm over channels without weights: (B, C, H, W) -> the same shape."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2], eps=self.eps).permute(0, 3, 1, 2)


class Pointwise(nn.Module):
    """A linear layer, (N, C_in) -> (N, C_out).

    On a CPU it is computed as a 1x1 convolution, which oneDNN does up to a quarter faster than the matrix product.
    """

    def __init__(self, weight: Tensor, bias: Tensor, like: nn.Linear) -> None:
        super().__init__()
        self.layer = nn.Conv2d(weight.shape[1], weight.shape[0], 1, device="meta")
        self.layer.weight = parameter(weight[..., None, None], like.weight)
        self.layer.bias = parameter(bias, like.weight)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return F.linear(x, self.layer.weight[..., 0, 0], self.layer.bias)
        image = x.view(1, len(x), 1, -1).permute(0, 3, 1, 2)
        return self.layer(image).permute(0, 2, 3, 1).flatten(0, 2)
