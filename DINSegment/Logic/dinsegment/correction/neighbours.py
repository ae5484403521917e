"""What was corrected in one slice, carried to the slices beside it: a kernel regression that nothing is trained for.

Where the user has changed labels, the difference between what is right and what the network said is known, as a
difference of logarithms of probabilities. A pixel of another slice gets the mean of those differences that lie near its
place, weighted by how alike the network's features of both pixels are and how far the slices, and in a cine the phases,
lie apart. Where nothing is alike the mean is drawn to zero, and the network's own answer stands. As it is a shift of
logits, a network that is sure of the other slice is not overruled by one that it was unsure of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dinsegment.correction.features import Features

CHANGED = 0.2
"""Difference of probabilities, summed over classes, from which on a pixel was corrected."""

AT_A_TIME = 1 << 22
"""Weights that are held at a time: pixels times slices times places around each pixel."""


@dataclass(frozen=True)
class Kernel:
    """How far a correction reaches. All were chosen on validation patients; `Testing/Benchmarks/correction.py` scores.

    Attributes:
        reach_mm: Standard deviation of the weight along the distance of slices.
        beat: The same along the distance of phases, as a share of the beat.
        pixels: The same within the slice, in pixels of the features.
        alike: How much less a pixel weighs that is less alike: exp((cosine - 1) / alike).
        prior: Weight of the network's own answer.
        floor: Probabilities below this are taken for this in differences of logarithms.
    """

    reach_mm: float = 15.0
    beat: float = 0.1
    pixels: float = 2.5
    alike: float = 0.06
    prior: float = 0.1
    floor: float = 0.03


Place = tuple[int, int]
"""A slice: the phase, and the slice of its box."""


def carried(
    phases: Sequence[Features],
    known: Mapping[Place, Tensor],
    base: Callable[[Place], Tensor],
    kernel: Kernel,
    chosen: Sequence[Place] | None = None,
    check_cancelled: Callable[[], None] = lambda: None,
) -> dict[Place, Tensor]:
    """What is to be added to the logits of slices near those that are known.

    Args:
        phases: What the network saw of each phase.
        known: The share of each class in slices that the user has corrected, (classes, h, w) on the features' pixels.
        base: Gives what is said of a known slice without the user, (classes, h, w), probabilities.
        kernel: How far it reaches.
        chosen: Slices that are wanted; None for all that are not known.
        check_cancelled: Raises if the user has asked for it.

    Returns:
        By slice, where there is anything to add: (classes, h, w) float32.
    """
    sums: dict[Place, Tensor] = {}
    for place, right in known.items():
        near = _near(place, phases, known, kernel, chosen)
        if not near:
            continue
        before = base(place)
        corrected = (right - before).abs().sum(0) > CHANGED
        if corrected.any():
            difference = right.clamp(min=kernel.floor).log() - before.clamp(min=kernel.floor).log()
            for phase in sorted({p for p, _ in near}):
                check_cancelled()
                of_phase = {n: w for (p, n), w in near.items() if p == phase}
                _carry(phases, place, phase, of_phase, difference, corrected, kernel, sums)
    return {place: of_slice[:-1] / (of_slice[-1:] + kernel.prior) for place, of_slice in sums.items()}


def _near(
    place: Place,
    phases: Sequence[Features],
    known: Mapping[Place, Tensor],
    kernel: Kernel,
    chosen: Sequence[Place] | None,
) -> dict[Place, float]:
    """The slices that a known one reaches, each with its weight by distance alone."""
    phase, n = place
    here = _heights(phases[phase])[n]
    near = {}
    for p, features in enumerate(phases):
        apart = abs(p - phase)
        share = min(apart, len(phases) - apart) / len(phases)
        step = features.box.slice_spacing or features.stack.slice_spacing
        heights = _heights(features)
        for k in range(len(features.hidden)) if chosen is None else (k for q, k in chosen if q == p):
            if (p, k) in known:
                continue
            distance = (heights[k] - here) / kernel.reach_mm
            weight = float(np.exp(-0.5 * (distance**2 + (share / kernel.beat) ** 2)))
            if weight > 0.04 or (p == phase and abs(heights[k] - here) <= step * 1.01):
                near[p, k] = weight
    return near


def _heights(features: Features) -> np.ndarray:
    """Where the slices of the box lie, in mm from the stack's first one."""
    return features.box.places[0] * features.stack.slice_spacing


def _carry(
    phases: Sequence[Features],
    place: Place,
    phase: int,
    near: Mapping[int, float],
    difference: Tensor,
    corrected: Tensor,
    kernel: Kernel,
    sums: dict[Place, Tensor],
) -> None:
    """Adds what one known slice says of the slices of one phase to the sums, (classes + 1, h, w), weights last."""
    source, target = phases[place[0]], phases[phase]
    (h, w), (th, tw) = source.hidden.shape[-2:], target.hidden.shape[-2:]
    # The boxes of two phases of a heart may lie apart.
    pixel = source.box.spacing * source.scale
    shift = [round((t - s) / pixel) for s, t in zip(source.box.first, target.box.first, strict=True)]
    radius = int(np.ceil(2 * kernel.pixels))
    around = torch.arange(-radius, radius + 1)
    dy, dx = (d.flatten() for d in torch.meshgrid(around, around, indexing="ij"))
    inside = torch.exp(-0.5 * (dy**2 + dx**2) / kernel.pixels**2)
    dy, dx, inside = (v[inside > 0.05] for v in (dy, dx, inside))
    touched = F.max_pool2d(corrected[None, None].float(), 2 * radius + 1, 1, radius)[0, 0] > 0
    y, x = (c - s for c, s in zip(torch.nonzero(touched, as_tuple=True), shift, strict=True))
    kept = (y >= 0) & (y < th) & (x >= 0) & (x < tw)
    y, x = y[kept], x[kept]
    slices = sorted(near)
    keys = F.normalize(source.hidden[place[1]].float().flatten(1), dim=0).T.contiguous()  # (h * w, channels)
    seen = target.hidden[torch.tensor(slices)].float().flatten(2)[:, :, y * tw + x]
    queries = F.normalize(seen, dim=1).permute(2, 0, 1).contiguous()  # (pixels, slices, channels)
    # What is to be summed, and a one for the sum of weights.
    values = F.pad(difference.flatten(1).T, (0, 1), value=1.0)
    closeness = torch.tensor([near[n] for n in slices])[:, None]
    said = []
    step = max(1, AT_A_TIME // (len(slices) * len(inside)))
    for start in range(0, len(y), step):
        ys, xs = y[start : start + step], x[start : start + step]
        rows, columns = ys[:, None] + shift[0] + dy, xs[:, None] + shift[1] + dx
        there = (rows >= 0) & (rows < h) & (columns >= 0) & (columns < w)
        index = rows.clamp(0, h - 1) * w + columns.clamp(0, w - 1)
        # (pixels, slices, places): the logarithms of the weights, then these
        weights = torch.baddbmm(
            ((inside * there).log() - 1 / kernel.alike)[:, None],
            queries[start : start + step],
            keys[index].transpose(1, 2),
            alpha=1 / kernel.alike,
        ).exp_()
        said.append(torch.bmm(weights, values[index]))
    if said:
        total = (torch.cat(said) * closeness).permute(1, 2, 0)  # (slices, classes + 1, pixels)
        for of_slice, n in zip(total, slices, strict=True):
            summed = sums.setdefault((phase, n), torch.zeros(len(values.T), th, tw))
            summed[:, y, x] += of_slice
