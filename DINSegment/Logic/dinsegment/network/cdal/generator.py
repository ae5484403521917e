"""The generator: from a noised mask, the image, the step and a latent to the mask."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinsegment.network.cdal.blocks import (
    HALF,
    Block,
    PlainBlock,
    SelfAttention,
    conv3,
    group_norm,
    resample,
    time_embedding,
)
from dinsegment.network.cdal.latent import LatentMapping


class Condition(nn.Sequential):
    """The image (B, in_channels, H, W) -> features (B, width, H, W): a 3x3 convolution and residual blocks."""

    def __init__(self, in_channels: int, width: int, blocks: int) -> None:
        super().__init__(conv3(in_channels, width), *(PlainBlock(width) for _ in range(blocks)))


class Generator(nn.Module):
    """A U-Net as NCSN++ has it: BigGAN's residual blocks, FIR resampling, a residual pyramid of the input.

    Args:
        classes: Channels of a mask.
        width: Channels of the finest level.
        multipliers: Of the width, one a level, finest first.
        blocks: Residual blocks a level on the way down; on the way up there is one more.
        attention: Levels, 0 the finest, with self-attention after each block.
        latent: Numbers in z.
        mapping: Width of the latent's mapping.
    """

    def __init__(
        self,
        classes: int,
        width: int,
        multipliers: Sequence[int],
        blocks: int,
        attention: Sequence[int],
        latent: int,
        mapping: int,
    ) -> None:
        super().__init__()
        self.width, self.blocks = width, blocks
        time = 4 * width
        self.time = nn.Sequential(nn.Linear(width, time), nn.SiLU(), nn.Linear(time, time))
        self.mapping = LatentMapping(latent, mapping)
        self.first = conv3(classes, width)
        channels, skips, pyramid = width, [width], classes
        self.down, self.coarser, self.pyramid = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.up, self.finer = nn.ModuleList(), nn.ModuleList()

        def level(sizes: Sequence[tuple[int, int]], number: int) -> nn.ModuleList:
            """Blocks of these channels, (in, out), each with what follows it."""
            look = number in attention
            pairs = ((Block(n, m, time, mapping), SelfAttention(m) if look else nn.Identity()) for n, m in sizes)
            return nn.ModuleList(nn.ModuleList(pair) for pair in pairs)

        for number, factor in enumerate(multipliers):
            out = factor * width
            self.down.append(level([(channels, out), *[(out, out)] * (blocks - 1)], number))
            channels = out
            skips += [channels] * blocks
            if number < len(multipliers) - 1:
                self.coarser.append(Block(channels, channels, time, mapping, "down"))
                self.pyramid.append(conv3(pyramid, channels))
                pyramid = channels
                skips.append(channels)
        self.middle = nn.ModuleList(Block(channels, channels, time, mapping) for _ in range(2))
        self.middle_attention = SelfAttention(channels)
        for number, factor in reversed(list(enumerate(multipliers))):
            out, sizes = factor * width, []
            for _ in range(blocks + 1):
                sizes.append((channels + skips.pop(), out))
                channels = out
            self.up.append(level(sizes, number))
            if number:
                self.finer.append(Block(channels, channels, time, mapping, "up"))
        self.last = nn.Sequential(group_norm(channels), nn.SiLU(), conv3(channels, classes))

    def forward(self, noised: Tensor, t: Tensor, z: Tensor, condition: Tensor) -> Tensor:
        """The mask that a noised one was made of, as far as it can be told.

        Args:
            noised: x_t (B, classes, H, W), whose sides are a multiple of the coarsest level's pixel.
            t: The step (B,), 1 to T.
            z: The latent (B, latent), of N(0, I).
            condition: The image's features (B, width, H, W), see `Condition`.

        Returns:
            (B, classes, H, W) in [-1, 1].
        """
        time = self.time(time_embedding(t, self.width).to(noised.dtype))
        style = self.mapping(z)
        h, pyramid = self.first(noised) + condition, noised
        skips = [h]
        for number, blocks in enumerate(self.down):
            for block, attention in blocks:
                h = attention(block(h, time, style))
                skips.append(h)
            if number < len(self.coarser):
                h = self.coarser[number](h, time, style)
                pyramid = h = (h + self.pyramid[number](resample(pyramid, "down"))) * HALF
                skips.append(h)
        h = self.middle[1](self.middle_attention(self.middle[0](h, time, style)), time, style)
        for number, blocks in enumerate(self.up):
            for block, attention in blocks:
                h = attention(block(torch.cat((h, skips.pop()), 1), time, style))
            if number < len(self.finer):
                h = self.finer[number](h, time, style)
        return F.tanh(self.last(h))
