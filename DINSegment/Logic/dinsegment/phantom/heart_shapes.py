"""Simple shapes painted into short-axis slices; the voxels of a border are shared.

Positions are (x, y, z) in mm: x along a slice's rows to the image's right (the patient's left and back), y down its
columns (mostly to the feet), z from the heart's base to its apex; the origin is the middle of the stack.
A distance is negative inside a shape and, near its border, about right in mm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from dinsegment.phantom.contrasts import Contrast
from dinsegment.phantom.heart_patient import Patient

Number = np.ndarray | float

NOWHERE = 1e3
"""Distance to a shape that this slice does not cut."""


@dataclass(eq=False)
class Slices:
    """Slices being painted: positions in the body, greys, and how much of each voxel is which label."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    edge: float  # width over which a border is shared: a pixel
    grey: np.ndarray
    texture: Callable[[str, float], np.ndarray]  # name and wavelength: see `Patient.texture`
    contrast: Contrast
    share: np.ndarray | None = None  # (label, k, j, i)

    @classmethod
    def of(cls, patient: Patient, axes: list[np.ndarray], bend: float, contrast: Contrast) -> Slices:
        """Positions on a grid, bent by about so many mm: no organ is an ellipse."""
        z, y, x = np.meshgrid(*(axis.astype(np.float32) for axis in axes), indexing="ij", sparse=True)
        cos, sin = np.cos(patient.roll), np.sin(patient.roll)
        bend_x, bend_y = (bend * patient.texture(axes, name, 55.0) for name in ("bend x", "bend y"))
        x, y = cos * x + sin * y + bend_x, cos * y - sin * x + bend_y
        edge = float(axes[1][1] - axes[1][0])
        return cls(x, y, z, edge, np.zeros_like(x), partial(patient.texture, axes), contrast)

    def paint(self, distance: np.ndarray, grey: Number, label: int = 0) -> None:
        """Covers what lies inside (negative distance), the border voxels in part."""
        cover = np.clip(0.5 - distance / self.edge, 0, 1)
        box = _box(cover > 0)  # Elsewhere nothing changes.
        cover, before = cover[box], self.grey[box]
        before += cover * (np.broadcast_to(grey, self.grey.shape)[box] - before)
        if self.share is not None:
            share = self.share[(slice(None), *box)]
            share *= 1 - cover
            share[label] += cover

    def first(self, count: int) -> Slices:
        """So many of the slices: what is painted there is painted here."""
        share = None if self.share is None else self.share[:, :count]
        here = (array[:count] for array in (self.x, self.y, self.z))
        return Slices(*here, self.edge, self.grey[:count], self.texture, self.contrast, share)

    def ellipse(self, x: Number, y: Number, a: Number, b: Number, degrees: float = 0) -> np.ndarray:
        """Signed distance to an ellipse, to first order: centre, semi-axes, turn towards y."""
        return ellipse(self.x - x, self.y - y, a, b, np.radians(degrees))


def _box(inside: np.ndarray) -> tuple[slice, ...]:
    """The slices, rows and columns that hold all that is inside."""
    box = []
    for axis in range(inside.ndim):
        there = np.flatnonzero(inside.any(axis=tuple(n for n in range(inside.ndim) if n != axis)))
        box.append(slice(there[0], there[-1] + 1) if len(there) else slice(0))
    return tuple(box)


def ellipse(x: np.ndarray, y: np.ndarray, a: Number, b: Number, turn: float = 0.0) -> np.ndarray:
    cos, sin = np.cos(turn), np.sin(turn)
    a, b = np.maximum(a, 1e-3), np.maximum(b, 1e-3)
    u, v = (cos * x + sin * y) / a, (cos * y - sin * x) / b
    r = np.sqrt(u * u + v * v)
    return (r - 1) * r / np.maximum(np.hypot(u / a, v / b), 1e-6)
