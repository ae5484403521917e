"""The MLP decoder as inference computes it: convolutions before the upsampling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinsegment.network.composed import convolution
from dinsegment.network.decoder import MLPDecoder

BAND = 32
"""Places that are upsampled at a time; many more multiply by zeros, many fewer are slow products."""


class RewrittenMLPDecoder(nn.Module):
    """`MLPDecoder` (eq. 14) without its wide 3x3 convolution at full resolution.

    From the features to the ReLU the decoder is affine: linear layers, bilinear upsampling, concatenation, 3x3
    convolution, BatchNorm. So a level's linear layers and BatchNorm's scale go into its share of the 3x3 convolution,
    which then has the level's C channels as input. The finest level has it as it is. At a coarser one it comes before
    the upsampling: a 3x3 convolution is nine channel mixings, shifted and added, and mixing channels commutes with
    upsampling. `add_upsampled` does the rest.

    At din-base's published size, 1114 G of its 1880 G multiply-accumulates become 93 G.
    """

    def __init__(self, plain: MLPDecoder) -> None:
        super().__init__()
        norm, fuse = plain.norm, plain.fuse
        scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        shares = (scale[:, None, None, None] * fuse.weight.double()).chunk(len(plain.linear), dim=1)
        composed = [_compose(share, linear) for share, linear in zip(shares, plain.linear, strict=True)]
        (finest, _), *coarser = composed
        self.finest = convolution(finest, norm.bias.double() - scale * norm.running_mean.double(), fuse, padding=1)
        self.mixings = nn.ModuleList(_mixings(w, fuse) for w, _ in coarser)
        # The linear layers' biases are zero beyond the border, as all is that the 3x3 convolution sees there.
        self.border = convolution(sum(bias for _, bias in composed)[:, None], None, fuse, padding=1)
        self.classify = plain.classify

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """(B, C_l, H_l, W_l) of the levels, finest first -> logits (B, classes, H_1, W_1)."""
        x = self.finest(features[0]).contiguous(memory_format=torch.channels_last)
        x += self.border(x.new_ones(1, 1, *x.shape[-2:]))
        for mixings, feature in zip(self.mixings, features[1:], strict=True):
            for tap, mix in enumerate(mixings):
                add_upsampled(mix(feature), tap, x)
        return self.classify(F.relu_(x))


def _compose(share: Tensor, linear: nn.Sequential) -> tuple[Tensor, Tensor]:
    """A level's share of a 3x3 convolution, (out, dim, 3, 3), after its linear layers: one from the level's channels.

    Returns:
        Its weights (out, C, 3, 3), and what the linear layers' biases add at each tap, (out, 3, 3).
    """
    weight, bias = None, None
    for layer in linear:
        w, b = layer.weight.double()[:, :, 0, 0], layer.bias.double()
        weight, bias = (w, b) if weight is None else (w @ weight, w @ bias + b)
    return torch.einsum("odyx,di->oiyx", share, weight), torch.einsum("odyx,d->oyx", share, bias)


def _mixings(weight: Tensor, like: nn.Conv2d) -> nn.ModuleList:
    """A 3x3 convolution's weights, (out, C, 3, 3), as a 1x1 convolution for each row of taps.

    Their output channels are (tap along x, out), as `add_upsampled` takes them.
    """
    rows = weight.permute(2, 3, 0, 1).flatten(1, 2)[..., None, None]
    return nn.ModuleList(convolution(row, None, like) for row in rows)


def add_upsampled(x: Tensor, tap: int, onto: Tensor) -> None:
    """Adds maps, upsampled bilinearly, shifted by a pixel each way and summed: what is left of a 3x3 convolution.

    Upsampling and shifting are linear along each axis, so both are one matrix for each tap, and all taps along x one
    matrix product.

    Args:
        x: (B, 3 * C, h, w), channels (tap along x, C), channels last.
        tap: 0 to 2, the tap along y.
        onto: (B, C, H, W), channels last.
    """
    batch, channels, h, w = x.shape
    height, width = onto.shape[-2:]
    tokens = x.permute(0, 2, 3, 1).reshape(batch * h, w * 3, channels // 3)
    rows = x.new_empty(batch * h, width, channels // 3)
    _along(tokens, shifted_upsampling(w, width), rows, keep=0)
    along_y = shifted_upsampling(h, height)[..., tap : tap + 1]
    _along(rows.view(batch, h, -1), along_y, onto.permute(0, 2, 3, 1).view(batch, height, -1), keep=1)


def _along(x: Tensor, matrix: Tensor, onto: Tensor, keep: int) -> None:
    """Matrix (n_out, n, taps) times x (N, n * taps, K) along an axis: (N, n_out, K), added to `keep * onto`."""
    n_out, n, taps = matrix.shape
    matrix = matrix.to(x)
    # The matrix is banded: a part of the output needs a part of the input only.
    step = BAND if n_out >= 4 * BAND else n_out
    for start in range(0, n_out, step):
        stop = min(start + step, n_out)
        first, last = max(0, start * n // n_out - 2), min(n, -(-stop * n // n_out) + 2)
        band = matrix[start:stop, first:last].flatten(1).expand(len(x), -1, -1)
        part = onto[:, start:stop]
        torch.baddbmm(part, band, x[:, taps * first : taps * last], beta=keep, out=part)


def shifted_upsampling(n: int, n_out: int) -> Tensor:
    """(n_out, n, 3): what bilinear upsampling gives one place before, at, and one after each place; 0 beyond the ends.

    The network's own upsampling makes it, so that the weights are the same at the ends, too.
    """
    matrix = F.interpolate(torch.eye(n)[None, None], size=(n_out, n), mode="bilinear", align_corners=False)[0, 0]
    padded = F.pad(matrix, (0, 0, 1, 1))
    return torch.stack([padded[tap : tap + n_out] for tap in range(3)], dim=-1)
