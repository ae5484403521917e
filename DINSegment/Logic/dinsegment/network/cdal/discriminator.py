"""The discriminator: whether a step back, from x_(t+1) to x_t, was made by the noise or by the generator."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinsegment.network.cdal.blocks import HALF, conv1, conv3, resample, time_embedding

SLOPE = 0.2
"""Of leaky ReLU below 0."""

GROUP = 4
"""Images among which the minibatch standard deviation is taken, at most."""


class DiscriminatorBlock(nn.Module):
    """A residual block with the time step between its convolutions, at half the resolution or at the same."""

    def __init__(self, in_channels: int, out_channels: int, time: int, halve: bool) -> None:
        super().__init__()
        self.how = "down" if halve else "none"
        self.conv_1, self.conv_2 = conv3(in_channels, out_channels), conv3(out_channels, out_channels)
        self.time = nn.Linear(time, out_channels)
        self.shortcut = conv1(in_channels, out_channels, bias=False)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv_1(F.leaky_relu(x, SLOPE)) + self.time(time)[..., None, None]
        h = self.conv_2(resample(F.leaky_relu(h, SLOPE), self.how))
        return (h + self.shortcut(resample(x, self.how))) * HALF


class Discriminator(nn.Module):
    """A residual CNN on the pair (x_t, x_(t+1)), which also knows t.

    Args:
        classes: Channels of a mask.
        width: Channels, times the multipliers.
        multipliers: One a block; every block but the first halves the resolution.
        level: Which block's output, from 1, is what the spatial attention looks at.
    """

    def __init__(self, classes: int, width: int, multipliers: Sequence[int], level: int) -> None:
        super().__init__()
        self.width, self.level = width, level
        time = 4 * width
        self.time = nn.Sequential(nn.Linear(width, time), nn.LeakyReLU(SLOPE), nn.Linear(time, time))
        sizes = [width * n for n in (multipliers[0], *multipliers)]
        self.first = conv1(2 * classes, sizes[0])
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(n, m, time, number > 0) for number, (n, m) in enumerate(pairwise(sizes))
        )
        self.last = conv3(sizes[-1] + 1, sizes[-1])
        self.score = nn.Linear(sizes[-1], 1)

    def forward(self, x: Tensor, x_next: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and features.

        Args:
            x: x_t (B, classes, H, W).
            x_next: x_(t+1), of the same shape.
            t: The step (B,), 0 to T - 1.

        Returns:
            (B,), above 0 where the pair looks real; and the features (B, C, h, w) of the level of the attention.
        """
        time = F.leaky_relu(self.time(time_embedding(t, self.width).to(x.dtype)), SLOPE)
        h = self.first(torch.cat((x, x_next), 1))
        features = h
        for number, block in enumerate(self.blocks, start=1):
            h = block(h, time)
            features = h if number == self.level else features
        h = F.leaky_relu(self.last(with_deviation(h)), SLOPE)
        return self.score(h.sum((2, 3)))[:, 0], features


def with_deviation(x: Tensor) -> Tensor:
    """(B, C, H, W) with a channel more: how far the images of a group differ, on average over channels and pixels.

    It shows a discriminator whether samples are all alike. Groups have four images, or what divides the batch.
    """
    count = next(n for n in range(min(GROUP, len(x)), 0, -1) if len(x) % n == 0)
    groups = x.reshape(count, -1, *x.shape[1:])
    deviation = (groups.var(0, correction=0) + 1e-8).sqrt().mean((1, 2, 3))
    return torch.cat((x, deviation.repeat(count)[:, None, None, None].expand(-1, 1, *x.shape[2:])), 1)
