"""The variance-preserving noise schedule in a few large steps, and the posterior of one step back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class Schedule:
    """q(x_t | x_0) = N(sqrt(abar_t) x_0, (1 - abar_t) I) with abar_t = exp(-integral of beta from 0 to t / T).

    beta rises linearly from `beta_min` to `beta_max`. Step 0 is the mask itself, step T is all but noise.

    Attributes:
        steps: T.
        beta_min: Of the continuous process.
        beta_max: Of the continuous process.
    """

    steps: int
    beta_min: float = 0.1
    beta_max: float = 20.0

    @cached_property
    def signal(self) -> tuple[float, ...]:
        """abar_t for t = 0, ..., T; the first is 1."""
        times = (t / self.steps for t in range(self.steps + 1))
        return tuple(math.exp(-self.beta_min * u - 0.5 * (self.beta_max - self.beta_min) * u * u) for u in times)

    def diffuse(self, x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t from x_0 (B, C, H, W), at step t (B,), 0 to T, with standard normal noise of the same shape."""
        kept = self._at(self.signal, t, x_0)
        return kept.sqrt() * x_0 + (1 - kept).sqrt() * noise

    def advance(self, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_(t+1) from x_t, at step t (B,), 0 to T - 1: q(x_(t+1) | x_t) = N(sqrt(1 - beta) x_t, beta I)."""
        kept = self._at(self._alphas, t + 1, x)
        return kept.sqrt() * x + (1 - kept).sqrt() * noise

    def posterior(self, x_0: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of q(x_(t-1) | x_t, x_0), at step t (B,), 1 to T. The variance is 0 at step 1.

        Returns:
            The mean, of the shape of x_0, and the variance, (B, 1, 1, 1).
        """
        alpha, now, before = (
            self._at(v, n, x_0) for v, n in ((self._alphas, t), (self.signal, t), (self.signal, t - 1))
        )
        mean = before.sqrt() * (1 - alpha) / (1 - now) * x_0 + alpha.sqrt() * (1 - before) / (1 - now) * x_t
        return mean, (1 - alpha) * (1 - before) / (1 - now)

    def back(self, x_0: Tensor, x_t: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """A sample of q(x_(t-1) | x_t, x_0)."""
        mean, variance = self.posterior(x_0, x_t, t)
        return mean + variance.sqrt() * noise

    @cached_property
    def _alphas(self) -> tuple[float, ...]:
        """alpha_t = 1 - beta_t = abar_t / abar_(t-1); the first, of no step, is 1."""
        return (1.0, *(now / before for before, now in pairwise(self.signal)))

    @staticmethod
    def _at(values: tuple[float, ...], t: Tensor, like: Tensor) -> Tensor:
        """Values at steps t (B,) as (B, 1, 1, 1) of the precision and on the device of `like`."""
        return torch.tensor(values, dtype=like.dtype, device=like.device)[t].view(-1, 1, 1, 1)
