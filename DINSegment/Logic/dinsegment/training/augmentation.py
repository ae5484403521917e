"""Augmentation: what scanners, patients and operators vary, applied to slices before they are enhanced."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dinsegment.inference.preprocessing import Preprocessing, neighbourhoods
from dinsegment.inference.runner import black_where
from dinsegment.inference.view import decide
from dinsegment.training.dataset import TrainingStack


@dataclass(frozen=True)
class Augmentation:
    """Ranges and probabilities; a probability of 0 switches a step off.

    Attributes:
        overview: Share of slices shown as an overview, so that the network also learns to find the anatomy.
        quarter_turn: Share turned by 90, 180 or 270 degrees.
        flip: Share flipped, along each axis.
        rotation: Standard deviation in degrees.
        scale: Standard deviation of log2 of the magnification.
        shift: Standard deviation of the box's centre in mm, for anatomy that was not found exactly.
        elastic: Share deformed, and the standard deviation of the displacement in mm.
        window: Standard deviation of the window's ends, in units of its width.
        gamma: Standard deviation of log2 of gamma.
        noise: Share, and the largest standard deviation of the noise.
        blur: Share, and the largest loss of in-plane resolution.
        bias: Share, and the standard deviation of the logarithm of the bias field.
        crop: Share whose field of view ends inside the box.
        reverse: Share whose neighbours change sides, where the network sees neighbours.
        missing: Share shown without its neighbours, likewise.
    """

    overview: float = 0.15
    quarter_turn: float = 0.4
    flip: float = 0.3
    rotation: float = 15.0
    scale: float = 0.2
    shift: float = 8.0
    elastic: tuple[float, float] = (0.3, 2.5)
    window: float = 0.07
    gamma: float = 0.3
    noise: tuple[float, float] = (0.3, 0.08)
    blur: tuple[float, float] = (0.3, 2.4)
    bias: tuple[float, float] = (0.3, 0.25)
    crop: float = 0.15
    reverse: float = 0.5
    missing: float = 0.1

    def __call__(
        self,
        stack: TrainingStack,
        k: int,
        preprocessing: Preprocessing,
        random: torch.Generator,
        channels: int = 1,
    ) -> tuple[Tensor, Tensor]:
        """One slice, between its neighbours if the network has channels for them, and its labels.

        It is computed where the stack lies. Everything random is drawn on the CPU, from a CPU's generator, so that a
        seed means the same on every device.

        Returns:
            An image (channels, rows, columns) in [-1, 1] and labels (rows, columns), int64, of the middle one.
        """
        overview = _chance(self.overview, random)
        shown = self._neighbours(len(stack.image), k, channels, random)
        image = stack.image[shown].float()
        grid = self._grid(stack, preprocessing, overview, random).to(image.device)
        if overview:  # coarser: without smoothing it would alias
            image = F.avg_pool2d(F.avg_pool2d(F.pad(image[None], (1, 1, 1, 1), "replicate"), 2, 1), 2, 1)[0]
        inside = torch.ones_like(image[:1])
        low, high = stack.overview_window if overview else (0.0, 1.0)
        planes = torch.cat((image, inside, stack.masks[k] / 255))
        sampled = F.grid_sample(planes[None], grid, align_corners=False)[0]
        image, inside, foreground = sampled[:channels], sampled[channels] > 0.5, sampled[channels + 1 :]
        truth = decide(foreground).long()
        image = self._degrade((image - low) / (high - low), random)
        if not overview and _chance(self.crop, random):
            inside = inside & _field_of_view(truth.shape, random).to(inside.device)
            truth = truth * inside
        image = torch.where(inside, image, 0.0)
        return black_where(shown.to(image.device) < 0, 2.0 * image - 1.0), truth

    def _neighbours(self, count: int, k: int, channels: int, random: torch.Generator) -> Tensor:
        """Slices in the channels of slice k of `count`, -1 where there is none: (channels,) int64."""
        shown = torch.from_numpy(neighbourhoods(np.array([k]), count, channels)[0])
        if channels > 1:
            if _chance(self.reverse, random):
                shown = shown.flip(0)
            if _chance(self.missing, random):
                shown[shown != k] = -1
        return shown

    def _grid(
        self, stack: TrainingStack, preprocessing: Preprocessing, overview: bool, random: torch.Generator
    ) -> Tensor:
        """Where each pixel of the augmented slice comes from: (1, rows, columns, 2), as `grid_sample` takes it."""
        size = torch.tensor(stack.image.shape[1:], dtype=torch.float32)
        spacing = preprocessing.spacing
        step = (preprocessing.overview_spacing / spacing if overview else 1.0) * 2 ** _normal(self.scale, random)
        center = (size - 1) / 2 if overview else torch.tensor(stack.center)
        shift = 3 * self.shift if overview else self.shift
        center = center + torch.randn(2, generator=random) * shift / spacing
        angle = math.radians(_normal(self.rotation, random))
        if _chance(self.quarter_turn, random):
            angle += math.pi / 2 * int(torch.randint(1, 4, (1,), generator=random))
        matrix = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) * step
        for axis in range(2):
            if _chance(self.flip, random):
                matrix[:, axis] *= -1
        ticks = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in preprocessing.box]
        pixels = torch.stack(torch.meshgrid(*ticks, indexing="ij"), dim=-1)
        pixels = pixels @ matrix.T + center
        share, deviation = self.elastic
        if _chance(share, random):
            pixels = pixels + deviation / spacing * step * _smooth_field(2, preprocessing.box, 6, random)
        return ((2 * pixels + 1) / size - 1).flip(-1).unsqueeze(0)

    def _degrade(self, image: Tensor, random: torch.Generator) -> Tensor:
        """Grey values (channels, rows, columns), 0..1 inside the window, as another scanner might have given them."""
        share, largest = self.blur
        if _chance(share, random):
            factor = 1 + (largest - 1) * _uniform(random)
            small = [max(8, round(n / factor)) for n in image.shape[1:]]
            coarse = F.interpolate(image[None], small, mode="bilinear", antialias=True)
            image = F.interpolate(coarse, image.shape[1:], mode="bilinear")[0]
        share, deviation = self.bias
        if _chance(share, random):
            field = _smooth_field(1, image.shape[1:], 3, random)[..., 0].to(image.device)
            image = image * torch.exp(deviation * field)
        share, largest = self.noise
        if _chance(share, random):
            noise = torch.randn(image.shape, generator=random) * largest * _uniform(random)
            image = image + noise.to(image.device)
        low, high = _normal(self.window, random), 1 + 2 * _normal(self.window, random)
        image = ((image - low) / max(high - low, 0.5)).clamp(0.0, 1.0)
        return image ** (2 ** _normal(self.gamma, random))


def _uniform(random: torch.Generator) -> float:
    return float(torch.rand(1, generator=random))


def _chance(share: float, random: torch.Generator) -> bool:
    return _uniform(random) < share


def _normal(deviation: float, random: torch.Generator) -> float:
    return deviation * float(torch.randn(1, generator=random).clamp(-2.5, 2.5))


def _smooth_field(channels: int, size: tuple[int, int], knots: int, random: torch.Generator) -> Tensor:
    """A smooth random field (rows, columns, channels) of about unit standard deviation."""
    coarse = torch.randn(1, channels, knots, knots, generator=random)
    return F.interpolate(coarse, tuple(size), mode="bicubic", align_corners=True)[0].permute(1, 2, 0)


def _field_of_view(shape: torch.Size, random: torch.Generator) -> Tensor:
    """A rectangle that cuts away up to a quarter of a slice (rows, columns) on each side: True inside."""
    rows, columns = shape
    inside = torch.zeros(rows, columns, dtype=torch.bool)
    top, bottom, left, right = (torch.rand(4, generator=random) * 0.25).tolist()
    inside[int(top * rows) : rows - int(bottom * rows), int(left * columns) : columns - int(right * columns)] = True
    return inside
