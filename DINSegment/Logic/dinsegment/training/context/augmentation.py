"""What is varied in a field of view: shape, place, contrast of organs, filling of the stomach, noise, what is shown."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dinsegment.tasks import Task

TILT_DEG = (7.0, 4.0, 4.0)
"""Standard deviations of the rotations in the planes (y, x), (z, y) and (z, x)."""

SCALE, STRETCH = 0.22, 0.06
"""Range of the logarithm of the size, and standard deviation of that of each axis."""

ELASTIC, ELASTIC_MM, ELASTIC_STEP_MM = 0.8, (3.0, 11.0), 70.0
"""How often, how far (standard deviation) and how coarsely the body is bent."""

MIDDLE_MM = 10.0
"""How far the body's middle is off: tables and arms may move it."""

ORGAN_SHIFT = 0.09
"""Standard deviation of what is added to an organ's grey values, as contrast agents do in other phases."""


def bent_grid(
    random: np.random.Generator,
    patch: tuple[int, int, int],
    spacing: float,
    center: np.ndarray,
    middle: tuple[float, float],
) -> tuple[Tensor, Tensor, Tensor]:
    """Where the voxels of a field of view lie.

    Args:
        random: What is drawn from.
        patch: Its voxels (z, y, x).
        spacing: Their distance in mm.
        center: Its middle (z, y, x) in mm from the image's first voxel.
        middle: That of the body (y, x), likewise.

    Returns:
        Places (z, y, x, 3) in mm, and how far behind (y, 1) and left (x) of the body's middle the voxels lie in mm.
    """
    axes = [(torch.arange(n) - (n - 1) / 2) * spacing for n in patch]
    straight = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    off = torch.from_numpy(center[1:] - middle + random.normal(0, MIDDLE_MM, 2)).float()
    matrix = rotation(np.deg2rad(random.normal(0, TILT_DEG)))
    size = np.exp(random.uniform(-SCALE, SCALE)) * np.exp(random.normal(0, STRETCH, 3))
    grid = straight @ torch.from_numpy((matrix / size).T).float()
    if random.random() < ELASTIC:
        nodes = [max(4, round(n * spacing / ELASTIC_STEP_MM)) for n in patch]
        moved = torch.from_numpy(random.normal(0, random.uniform(*ELASTIC_MM), (1, 3, *nodes))).float()
        moved = F.interpolate(moved, size=patch, mode="trilinear", align_corners=True)
        grid = grid + moved[0].movedim(0, -1)
    return grid + torch.from_numpy(center).float(), axes[1][:, None] + off[0], axes[2] + off[1]


def rotation(angles: np.ndarray) -> np.ndarray:
    """The matrix (3, 3) on (z, y, x) of rotations in the planes (y, x), (z, y) and (z, x), in radians."""
    matrix = np.eye(3)
    for angle, (i, j) in zip(angles, ((1, 2), (0, 1), (0, 2)), strict=True):
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix


def varied(random: np.random.Generator, grey: Tensor, labels: Tensor, task: Task) -> Tensor:
    """Grey values (z, y, x) in [0, 1] as another scanner, another contrast phase and another meal would show them."""
    if random.random() < 0.6:
        shift = np.concatenate(([0.0], random.normal(0, ORGAN_SHIFT, task.classes - 1)))
        grey = grey + _blurred(torch.from_numpy(shift).float()[labels], (3, 3, 3))
    if random.random() < 0.35:
        grey = _filled(random, grey, labels, task)
    grey = grey * float(np.exp(random.normal(0, 0.12))) + float(random.normal(0, 0.06))
    if random.random() < 0.3:
        grey = (grey - grey.mean()) * float(random.uniform(0.65, 1.4)) + grey.mean()
    if random.random() < 0.25:
        grey = _blurred(grey, (3, 1, 1))
    if random.random() < 0.2:
        grey = _blurred(grey, (1, 3, 3))
    noise = torch.from_numpy(random.standard_normal(grey.shape, np.float32))
    return (grey + noise * float(abs(random.normal(0, 0.04)))).clamp(0, 1)


def _filled(random: np.random.Generator, grey: Tensor, labels: Tensor, task: Task) -> Tensor:
    """With air in front and contrast behind in the stomach of somebody who lies on the back."""
    inside = torch.zeros_like(labels, dtype=torch.bool)
    for segment in task.segments:
        if segment.name == "Stomach":
            inside |= _blurred((labels == segment.label).float(), (3, 3, 3)) > 0.85
    rows = torch.nonzero(inside.any(0).any(-1))
    if not len(rows):
        return grey
    first, last = int(rows[0]), int(rows[-1])
    level = first + (last - first + 1) * random.random()
    row = torch.arange(grey.shape[1])[None, :, None]
    if random.random() < 0.7:
        grey = torch.where(inside & (row < level), 0.0, grey)
    if random.random() < 0.4:
        grey = torch.where(inside & (row >= level), float(random.uniform(0.5, 1.0)), grey)
    return grey


def _blurred(values: Tensor, size: tuple[int, int, int]) -> Tensor:
    return F.avg_pool3d(values[None, None], size, 1, tuple(n // 2 for n in size))[0, 0]


def cropped(random: np.random.Generator, grey: Tensor, labels: Tensor, spacing: float) -> tuple[Tensor, Tensor]:
    """As an image shows it that begins or ends earlier, or that has a narrower circle; nothing lies outside."""
    shown = torch.ones_like(grey, dtype=torch.bool)
    if random.random() < 0.4:
        begin = random.integers(0, len(grey) // 2)
        end = random.integers(begin + 10, len(grey) + 12)
        shown[:begin], shown[end:] = False, False
    if random.random() < 0.15:
        y, x = ((torch.arange(n) - (n - 1) / 2) * spacing for n in grey.shape[1:])
        shown &= y[:, None] ** 2 + x**2 <= random.uniform(110, 200) ** 2
    return torch.where(shown, grey, 0.0), torch.where(shown, labels, 0)
