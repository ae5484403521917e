"""Left ventricles of known wall thickness, as labels on a short-axis grid."""

from __future__ import annotations

import numpy as np

from dinsegment.images.segmentation import Segmentation
from dinsegment.images.volume import Volume
from dinsegment.tasks import HEART

SPACING = (8.0, 1.4, 1.4)
SHAPE = (9, 110, 110)


def grid(shape=SHAPE, spacing=SPACING) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """z, y, x of all voxels in mm, 0 in the middle."""
    axes = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing, strict=True)]
    return np.meshgrid(*axes, indexing="ij")


def segmentation(labels: np.ndarray, spacing=SPACING, ijk_to_ras: np.ndarray | None = None, **more) -> Segmentation:
    matrix = np.diag([*spacing[::-1], 1.0]) if ijk_to_ras is None else ijk_to_ras
    volume = Volume(labels.astype(np.float32), matrix, name="ring", modality="MR", **more)
    return Segmentation(volume, labels.astype(np.uint8), HEART, "truth", volume, "cpu", 0.0)


def cylinder(
    inner: float = 22.0,
    outer: float = 31.0,
    tilt: float = 0.0,
    septum: float = np.pi,
    offset: float = 0.0,
    center: tuple[float, float] = (0.0, 0.0),
    shape=SHAPE,
    spacing=SPACING,
    half_width: float = np.radians(60),
) -> np.ndarray:
    """Labels of a tube beside which the right ventricle lies, with another size in each slice of the right one.

    Args:
        inner: Radius of the cavity in mm.
        outer: Radius of the muscle.
        tilt: Radians of the tube's axis against the normal of the slices, towards x.
        septum: Direction of the right ventricle, radians from x to y.
        offset: How far the cavity lies from the middle, towards the septum, in mm.
        center: y and x of the tube in the middle slice.
        shape: Of the labels.
        spacing: In mm along (k, j, i).
        half_width: Of the contact with the right ventricle, radians.
    """
    z, y, x = grid(shape, spacing)
    y, x = y - center[0], x - center[1]
    along = np.cos(tilt) * z + np.sin(tilt) * x
    across = x - along * np.sin(tilt), y, z - along * np.cos(tilt)
    outside = np.sqrt(sum(a**2 for a in across))
    shift = offset * np.cos(septum), offset * np.sin(septum), 0.0
    inside = np.sqrt(sum((a - s) ** 2 for a, s in zip(across, shift, strict=True)))
    labels = np.zeros(shape, np.uint8)
    direction = np.arctan2(y, x - z * np.tan(tilt))
    apart = np.abs((direction - septum + np.pi) % (2 * np.pi) - np.pi)
    reach = outer + 22 - 1.5 * (z - z.min()) / 8  # narrower towards the apex
    labels[(outside < reach) & (apart < half_width)] = 1
    labels[outside < outer] = 2
    labels[inside < inner] = 3
    return labels


def ellipsoid(inner: float = 24.0, inner_long: float = 44.0, wall: float = 9.0, center=(0.0, 0.0)) -> np.ndarray:
    """Labels of half an ellipsoid, whose base is the first slice, in a wall whose axes are longer by `wall`."""
    z, y, x = grid()
    depth = z - z.min()
    y, x = y - center[0], x - center[1]
    labels = np.zeros(SHAPE, np.uint8)
    labels[(np.hypot(x + 30, y) < 22) & (depth < 40)] = 1
    labels[np.sqrt((x**2 + y**2) / (inner + wall) ** 2 + (depth / (inner_long + wall)) ** 2) < 1] = 2
    labels[np.sqrt((x**2 + y**2) / inner**2 + (depth / inner_long) ** 2) < 1] = 3
    return labels
