"""Image enhancement of slices: fuzzy (V. Patrascu, arXiv 1502.04499; DIN paper, section 8), and its alternatives.

Every method takes slices with grey values in [-1, 1] and gives slices of the same shape in [-1, 1].
"""

from __future__ import annotations

from math import comb, prod, sqrt
from typing import Any

import numpy as np

from dinsegment.enhancement.grey import Array

SIGMA_U = sqrt(1 / 3)
"""Standard deviation of the uniform distribution on (-1, 1), which every fuzzy window is stretched to (eq. 12)."""

LIMIT = 0.98
"""Grey values are scaled by this into the open interval, where artanh is finite: artanh(0.98) = 2.3."""

FLOOR = 0.05
"""Least standard deviation of a window, in the phi domain. A flat window (air, padding) would otherwise have its noise
blown up into structure, and a constant slice would be divided by zero. With it no window gains more than 11.5 times."""

BLOCK = 1 << 18
"""Pixels that a CPU enhances at a time: what is computed of a slice of a CT then stays in its cache."""


def memberships(size: int, degree: int, gamma: float = 1.0) -> np.ndarray:
    """Bernstein memberships along one axis, raised to `gamma` and normalised: P_i or Q_j.

    Args:
        size: Pixels along the axis; the support runs from the first to the last pixel's centre.
        degree: m or n; there are degree + 1 windows.
        gamma: Sharpness of the windows; 1 leaves the Bernstein polynomials as they are.

    Returns:
        (size, degree + 1) float32; rows sum to 1.
    """
    t = np.linspace(0.0, 1.0, size)[:, None] if size > 1 else np.full((1, 1), 0.5)
    i = np.arange(degree + 1)
    p = np.array([comb(degree, k) for k in i]) * t**i * (1 - t) ** (degree - i)
    p = p**gamma
    return (p / p.sum(axis=1, keepdims=True)).astype(np.float32)


def fuzzy_enhance(v: Array, m: int = 2, n: int = 2, gamma: float = 1.0, floor: float = FLOOR) -> Array:
    """Fuzzy enhancement in closed form: tanh(A Phi - B), Phi = artanh(v), A and B from the windows' statistics.

    The weights of window (i, j) are a product P_i(x) Q_j(y), so all sums are products of small matrices: a slice costs
    one artanh, two passes for the windows' means and variances, and one tanh. On a CPU all of them are made of a few
    slices while these are in its cache, so the stack goes through memory twice: it is read, and the result written.

    Args:
        v: Slices (..., H, W) in the open interval (-1, 1), float32 or float64, numpy or torch on any device. Each slice
            is a support of its own.
        m: Windows along x, less one.
        n: Windows along y, less one.
        gamma: Sharpness of the windows.
        floor: Least standard deviation of a window in the phi domain.

    Returns:
        Enhanced slices of the same shape, type and device, in (-1, 1).
    """
    if isinstance(v, np.ndarray):
        xp: Any = np
    else:
        import torch as xp  # only here: an array of numpy is enhanced without PyTorch

    def matrix(size: int, degree: int) -> Array:
        weights = memberships(size, degree, gamma)
        return weights.astype(v.dtype) if xp is np else xp.as_tensor(weights, dtype=v.dtype, device=v.device)

    q, p = matrix(v.shape[-2], n), matrix(v.shape[-1], m)
    slices = v.reshape(prod(v.shape[:-2]), *v.shape[-2:])
    enhanced = np.empty(slices.shape, v.dtype) if xp is np else slices.new_empty(slices.shape)
    on_cpu = xp is np or v.device.type == "cpu"
    step = max(1, BLOCK // prod(v.shape[-2:])) if on_cpu else max(1, len(slices))
    for start in range(0, len(slices), step):
        part = slice(start, start + step)
        _enhance_slices(xp, slices[part], q, p, floor, enhanced[part])
    return enhanced.reshape(v.shape)


def _enhance_slices(xp: Any, v: Array, q: Array, p: Array, floor: float, out: Array) -> None:
    """Enhances slices (slices, H, W) with memberships q (H, n + 1) and p (W, m + 1) into `out`."""
    phi = xp.arctanh(v)
    # Moments about the slice's own mean: m and s stay exact where brightness in the phi domain is far from zero.
    phi -= phi.mean((-2, -1), keepdims=True)
    # Two pixels touch no inner window of a row: its weights are all 0, and so is what it adds.
    card = (q.sum(0)[:, None] * p.sum(0)).clip(1e-12, None)
    mean = (q.T @ phi @ p) / card
    variance = (q.T @ xp.multiply(phi, phi, out=out) @ p) / card - mean * mean
    gain = SIGMA_U / xp.sqrt(variance.clip(floor**2, None))
    xp.matmul(q @ gain, p.T, out=out)
    out *= phi
    out -= xp.matmul(q @ (gain * mean), p.T, out=phi)
    xp.tanh(out, out=out)


def fuzzy(v: Array, **parameters: Any) -> Array:
    """`fuzzy_enhance` of slices in the closed interval [-1, 1], (..., H, W) -> the same."""
    return fuzzy_enhance(v * LIMIT, **parameters)
