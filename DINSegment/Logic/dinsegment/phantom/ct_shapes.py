"""Simple shapes painted into a part of a patient: ellipsoids and tubes whose borders share voxels.

Positions are (x, y, z) in mm along the axes of LPS: x to the patient's left, y to the back, z to the head. A distance
is negative inside a shape and, near its border, about right in mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation

Point = Sequence[float]
Number = np.ndarray | float

NOWHERE = 1e3
"""Distance to a shape that is far away."""

MARGIN_MM = 16.0
"""What is painted around a shape, such as the fat that it lies in, is no wider."""

STEP_MM = 9.0
"""Length of the straight pieces of a tube."""

BLUR_MM = 1.2
"""Width over which a CT's resolution blurs a border, at the least."""


class Texture:
    """Smooth noise of mean 0 and variance about 1, fixed in the body whatever the grid."""

    def __init__(self, seed: Sequence[int], wavelength: float, reach: float) -> None:
        """Noise in the cube from -reach to reach, in mm; wavelength is the size of its lumps."""
        self.step = wavelength / 2
        self.lattice = np.arange(-reach, reach + self.step, self.step)
        self.field = np.random.default_rng(seed).standard_normal([len(self.lattice)] * 3, dtype=np.float32)

    def __call__(self, axes: Sequence[np.ndarray]) -> np.ndarray:
        """Values (k, j, i) at the places of the axes (z, y, x)."""
        field = self.field
        for axis, places in enumerate(axes):
            first, last = np.searchsorted(self.lattice, [places.min() - 3 * self.step, places.max() + 3 * self.step])
            distance = (places[:, None] - self.lattice[first:last]) / self.step
            spread = np.exp(-(distance**2)).astype(np.float32)
            spread /= np.sqrt((spread**2).sum(axis=1, keepdims=True)) + 1e-6
            used = np.take(field, range(first, last), axis=axis)
            field = np.moveaxis(np.tensordot(spread, used, axes=(1, axis)), 0, axis)
        return np.ascontiguousarray(field)


@dataclass(eq=False)
class Canvas:
    """A box of a volume that is being painted; a smaller box of it is a view, so painting there paints here.

    Attributes:
        axes: Places (z, y, x) of the voxels, of a body that is straight.
        x: Places (k, j, i) in the body, which is not; as are y and z.
        rough: Texture with lumps of some centimetres, as organs' outlines have them.
        fine: Texture with lumps of some millimetres, as tissue has it.
        grey: Hounsfield units (k, j, i).
        labels: (k, j, i) uint8.
        edge: Width in mm over which a border is shared.
        distances: To what has been painted and bounds what comes later, by name, (k, j, i) each.
    """

    axes: tuple[np.ndarray, np.ndarray, np.ndarray]
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    rough: np.ndarray
    fine: np.ndarray
    grey: np.ndarray
    labels: np.ndarray
    edge: float
    distances: dict[str, np.ndarray] = field(default_factory=dict)

    def box(self, low: Point, high: Point, margin: float = MARGIN_MM) -> Canvas:
        """The voxels from one corner (x, y, z) to another and a margin around them; may be none."""
        window = tuple(
            slice(*np.searchsorted(axis, [a - margin, b + margin]))
            for axis, a, b in zip(self.axes, low[::-1], high[::-1], strict=True)
        )
        return self._view(window)

    def around(self, points: Sequence[Point], reach: float) -> Canvas:
        """The voxels no farther than `reach` and a margin from any of the points."""
        low, high = np.min(points, axis=0) - reach, np.max(points, axis=0) + reach
        return self.box(low, high)

    def _view(self, window: tuple[slice, ...]) -> Canvas:
        arrays = {name: getattr(self, name)[window] for name in ("x", "y", "z", "rough", "fine", "grey", "labels")}
        axes = tuple(axis[part] for axis, part in zip(self.axes, window, strict=True))
        distances = {name: distance[window] for name, distance in self.distances.items()}
        return replace(self, axes=axes, distances=distances, **arrays)

    @property
    def empty(self) -> bool:
        """Whether it has no voxel."""
        return self.grey.size == 0

    def paint(self, distance: np.ndarray, grey: Number, label: int = 0) -> None:
        """Covers what lies inside, the border voxels in part; a voxel is labelled where half of it is covered."""
        cover = np.clip(0.5 - distance / self.edge, 0, 1)
        self.grey += cover * (grey - self.grey)
        self.labels[cover > 0.5] = label

    def ellipsoid(self, center: Point, semi_axes: Point, turn: Point = (0, 0, 0)) -> np.ndarray:
        """Distance to an ellipsoid.

        Args:
            center: (x, y, z).
            semi_axes: In mm, along x, y and z before it is turned.
            turn: Degrees about z, then about y, then about x.
        """
        matrix = (Rotation.from_euler("zyx", turn, degrees=True).as_matrix() / semi_axes).T.astype(np.float32)
        place = [self.x - center[0], self.y - center[1], self.z - center[2]]
        square = np.zeros_like(self.x)
        slope = np.zeros_like(self.x)
        for row, semi_axis in zip(matrix, semi_axes, strict=True):
            along = sum(weight * one for weight, one in zip(row, place, strict=True))
            square += along * along
            slope += (along / semi_axis) ** 2
        radius = np.sqrt(square)
        return (radius - 1) * radius / np.maximum(np.sqrt(slope), 1e-6)

    def tube(self, points: Sequence[Point], radii: Sequence[float]) -> np.ndarray:
        """Distance to a smooth tube of changing radius through points (x, y, z); NOWHERE far from it."""
        places, radii = smooth_path(points, radii)
        distance = np.full(self.x.shape, NOWHERE, np.float32)
        for a, b, ra, rb in zip(places[:-1], places[1:], radii[:-1], radii[1:], strict=True):
            reach = max(ra, rb)
            part = replace(self, grey=distance, distances={}).box(np.minimum(a, b) - reach, np.maximum(a, b) + reach)
            if part.empty:
                continue
            x, y, z = part.x - a[0], part.y - a[1], part.z - a[2]
            ab = (b - a).astype(np.float32)
            t = np.clip((x * ab[0] + y * ab[1] + z * ab[2]) / (ab @ ab), 0, 1)
            to_axis = np.sqrt((x - t * ab[0]) ** 2 + (y - t * ab[1]) ** 2 + (z - t * ab[2]) ** 2)
            np.minimum(part.grey, to_axis - (ra + t * (rb - ra)), out=part.grey)
        return distance


def smooth_path(points: Sequence[Point], radii: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 3) and radii (n,) on a spline through the given ones, some millimetres apart."""
    points, radii = np.asarray(points, float), np.asarray(radii, float)
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
    knots = np.append(0, np.cumsum(np.sqrt(lengths)))  # centripetal, so that it does not overshoot
    steps = np.maximum(1, np.ceil(lengths / STEP_MM)).astype(int)
    pieces = [np.linspace(a, b, n, endpoint=False) for a, b, n in zip(knots[:-1], knots[1:], steps, strict=True)]
    t = np.append(np.concatenate(pieces), knots[-1])
    return CubicSpline(knots, points, bc_type="natural")(t), np.interp(t, knots, radii)


def blend(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    """Distance to both shapes together, whose seam is rounded over a width in mm."""
    h = np.clip(0.5 + 0.5 * (b - a) / width, 0, 1)
    return b + h * (a - b) - width * h * (1 - h)
