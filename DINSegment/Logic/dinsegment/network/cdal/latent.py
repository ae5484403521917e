"""From a random latent to what modulates the generator's blocks."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

LAYERS = 3


class PixelNorm(nn.Module):
    """A latent (B, N) over the root of its mean square."""

    def forward(self, z: Tensor) -> Tensor:
        return z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class LatentMapping(nn.Sequential):
    """z (B, latent) of N(0, I) -> (B, width): PixelNorm, a linear layer and an MLP of three."""

    def __init__(self, latent: int, width: int) -> None:
        sizes = [latent, *[width] * (LAYERS + 1)]
        layers = [(nn.Linear(n, m), nn.SiLU()) for n, m in pairwise(sizes)]
        super().__init__(PixelNorm(), *(layer for pair in layers for layer in pair))
