"""What generator and discriminator are built of: resampling with a FIR filter, modulated residual blocks, attention."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Resample = Literal["none", "up", "down"]

OUTER, INNER = 1 / 8, 3 / 8
"""Taps of the filter along either axis: outer, inner, inner, outer."""

HALF = math.sqrt(0.5)
"""Sums of two branches are scaled by this, so that their variance stays."""

SMALL = 0.1
"""Gain of a branch's last layer at the start: a block then begins near the identity, and each weight has a gradient."""


def conv3(in_channels: int, out_channels: int, gain: float = 1.0) -> nn.Conv2d:
    """A 3x3 convolution, Xavier-initialised."""
    return _initialised(nn.Conv2d(in_channels, out_channels, 3, padding=1), gain)


def conv1(in_channels: int, out_channels: int, gain: float = 1.0, bias: bool = True) -> nn.Conv2d:
    """A 1x1 convolution, Xavier-initialised."""
    return _initialised(nn.Conv2d(in_channels, out_channels, 1, bias=bias), gain)


def _initialised(layer: nn.Conv2d, gain: float) -> nn.Conv2d:
    nn.init.xavier_uniform_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm of groups of four channels and more, 32 groups at most."""
    groups = max(1, min(channels // 4, 32))
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels, eps=1e-6)


def resample(x: Tensor, how: Resample) -> Tensor:
    """(B, C, H, W) at twice or half the resolution through the filter, or as it is.

    Along either axis in turn, as weighted sums of shifted samples: a CPU is slow at grouped convolutions.
    """
    along = {"none": lambda values, _axis: values, "up": _up, "down": _down}[how]
    return along(along(x, 2), 3)


def _padded(x: Tensor, axis: int) -> Tensor:
    """With a zero at either end of axis 2 (rows) or 3 (columns)."""
    return F.pad(x, (0, 0, 1, 1) if axis == 2 else (1, 1))


def _down(x: Tensor, axis: int) -> Tensor:
    """Every second sample of the filtered ones."""
    padded, count = _padded(x, axis), x.shape[axis]
    taps = [padded.narrow(axis, n, count - 1) for n in range(4)]
    first, second, third, fourth = (v[:, :, ::2] if axis == 2 else v[..., ::2] for v in taps)
    return OUTER * (first + fourth) + INNER * (second + third)


def _up(x: Tensor, axis: int) -> Tensor:
    """The filter over samples with zeros set in between, at a gain of 2: two of its taps meet samples at each place."""
    padded, count = _padded(x, axis), x.shape[axis]
    before, after = padded.narrow(axis, 0, count), padded.narrow(axis, 2, count)
    places = (2 * (OUTER * other + INNER * x) for other in (before, after))
    return torch.stack(tuple(places), axis + 1).flatten(axis, axis + 1)


def time_embedding(t: Tensor, width: int) -> Tensor:
    """Sines and cosines of steps t (B,) -> (B, width), as positions are embedded in transformers."""
    half = width // 2
    frequencies = torch.exp(-math.log(10000.0) / max(1, half - 1) * torch.arange(half, device=t.device))
    angles = t.float()[:, None] * frequencies
    return F.pad(torch.cat((angles.sin(), angles.cos()), 1), (0, width - 2 * half))


class AdaptiveNorm(nn.Module):
    """GroupNorm whose scale and shift of each channel come from the latent; at first they are 1 and 0 on average."""

    def __init__(self, channels: int, latent: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.norm.affine = False
        self.norm.weight = self.norm.bias = None
        self.style = nn.Linear(latent, 2 * channels)
        nn.init.zeros_(self.style.bias)

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        scale, shift = self.style(latent)[..., None, None].chunk(2, 1)
        return (1 + scale) * self.norm(x) + shift


class Block(nn.Module):
    """BigGAN's residual block: latent in its norms, time step between its convolutions, resampling inside.

    Args:
        in_channels: Of the input.
        out_channels: Of the output.
        time: Width of the time step's embedding.
        latent: Width of the mapped latent.
        how: Whether the resolution is doubled, halved, or stays.
    """

    def __init__(self, in_channels: int, out_channels: int, time: int, latent: int, how: Resample = "none") -> None:
        super().__init__()
        self.how = how
        self.norm_1, self.norm_2 = AdaptiveNorm(in_channels, latent), AdaptiveNorm(out_channels, latent)
        self.conv_1, self.conv_2 = conv3(in_channels, out_channels), conv3(out_channels, out_channels, SMALL)
        self.time = nn.Linear(time, out_channels)
        same = in_channels == out_channels and how == "none"
        self.shortcut = nn.Identity() if same else conv1(in_channels, out_channels)

    def forward(self, x: Tensor, time: Tensor, latent: Tensor) -> Tensor:
        h = resample(F.silu(self.norm_1(x, latent)), self.how)
        h = self.conv_1(h) + self.time(F.silu(time))[..., None, None]
        h = self.conv_2(F.silu(self.norm_2(h, latent)))
        return (h + self.shortcut(resample(x, self.how))) * HALF


class PlainBlock(nn.Module):
    """A residual block without modulation, for the image: (B, C, H, W) -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            group_norm(channels),
            nn.SiLU(),
            conv3(channels, channels),
            group_norm(channels),
            nn.SiLU(),
            conv3(channels, channels, SMALL),
        )

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.layers(x)) * HALF


class SelfAttention(nn.Module):
    """Attention of one head among all pixels of a feature map, with a residual connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.qkv, self.project = conv1(channels, 3 * channels), conv1(channels, channels, SMALL)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, 2)
        weights = (q @ k.transpose(1, 2) / math.sqrt(x.shape[1])).softmax(2)
        seen = (weights @ v).transpose(1, 2).reshape(x.shape)
        return (x + self.project(seen)) * HALF
