"""An abdominal CT phantom with contrast agent and known truth, for demonstrations and tests without images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from dinsegment.geometry import RAS_FROM_LPS
from dinsegment.images.volume import Volume
from dinsegment.phantom.ct_organs import paint_organs
from dinsegment.phantom.ct_patient import AIR, Patient
from dinsegment.phantom.ct_shapes import BLUR_MM, Canvas, Texture
from dinsegment.phantom.ct_trunk import paint_trunk

AT_A_TIME = 3_000_000
"""Voxels that are painted at a time, which bounds the memory."""

CENTER = (0.0, 14.0, -15.0)
"""Middle (x, y, z) of every grid in the body, in mm."""

ISOCENTER = (0.0, -170.0, -820.0)
"""Where the body's origin lies in the scanner, (x, y, z) in mm of LPS: the table is in the way of a centred patient."""

BEND_MM = 2.5
"""Standard deviation of how far a place is off that in a straight body."""

GRAIN_MM = 0.8
"""Width of the noise's grain in the plane; from slice to slice it is independent."""


@dataclass(frozen=True, eq=False)
class CTPhantom:
    """An abdomen and its truth.

    Attributes:
        volume: The image (k, j, i), float32 with whole Hounsfield units, inferior to superior along k; modality CT.
        labels: Truth (k, j, i), uint8, the labels of the abdomen task.
    """

    volume: Volume
    labels: np.ndarray


def abdomen_phantom(
    *,
    seed: int = 0,
    slices: int = 100,
    spacing: tuple[float, float, float] = (3.0, 1.5, 1.5),
    size: tuple[int, int] = (256, 256),
    noise: float = 11.0,
) -> CTPhantom:
    """An abdomen in the portal venous phase, from the diaphragm to the pelvis as far as the grid reaches.

    Args:
        seed: The patient. Equal seeds give equal voxels; grids of one seed share the anatomy, not the noise.
        slices: Axial slices, centred on the abdomen.
        spacing: Millimetres along (k, j, i).
        size: Rows and columns.
        noise: Standard deviation in Hounsfield units.
    """
    patient = Patient.draw(seed)
    center = CENTER[::-1]
    axes = [
        (middle + (np.arange(n) - (n - 1) / 2) * step).astype(np.float32)
        for n, step, middle in zip((slices, *size), spacing, center, strict=True)
    ]
    array = np.empty((slices, *size), np.float32)
    labels = np.zeros(array.shape, np.uint8)
    wavelengths = {"bend z": 90.0, "bend y": 90.0, "bend x": 90.0, "rough": 26.0, "fine": 6.5}
    textures = tuple(patient.texture(name, wavelength) for name, wavelength in wavelengths.items())
    step = max(1, AT_A_TIME // (size[0] * size[1]))
    for first in range(0, slices, step):
        part = slice(first, first + step)
        slab = [axes[0][part], axes[1], axes[2]]
        canvas = _canvas(slab, patient, textures, array[part], labels[part], max(BLUR_MM, *spacing[1:]))
        paint_trunk(canvas, patient)
        paint_organs(canvas, patient)
        _paint_table(canvas)
    for k in range(slices):
        _acquire(array[k], spacing[1:], noise, np.random.default_rng([seed, k]))
    name = f"abdomen phantom {seed}"
    return CTPhantom(Volume(array, _ijk_to_ras(axes, spacing), name, modality="CT", source="phantom"), labels)


def _canvas(
    slab: list[np.ndarray],
    patient: Patient,
    textures: tuple[Texture, ...],
    grey: np.ndarray,
    labels: np.ndarray,
    edge: float,
) -> Canvas:
    """An empty slab: places bent by a few mm, because no organ is an ellipsoid."""
    grey[...] = AIR
    scale = (patient.height, patient.depth, patient.width)
    straight = np.meshgrid(*(axis / s for axis, s in zip(slab, scale, strict=True)), indexing="ij", sparse=True)
    *bends, rough, fine = (texture(slab) for texture in textures)
    z, y, x = (place + BEND_MM * bend for place, bend in zip(straight, bends, strict=True))
    axes = tuple(axis / s for axis, s in zip(slab, scale, strict=True))
    return Canvas(axes, x, y, z, rough, fine, grey, labels, edge)


def _paint_table(canvas: Canvas) -> None:
    """A shell with foam inside, under the patient."""
    y, x = np.meshgrid(canvas.axes[1], canvas.axes[2], indexing="ij", sparse=True)
    top = np.abs(y - 148 + 0.0011 * x**2) - 16
    table = np.maximum(top, np.abs(x) - 190) + np.zeros_like(canvas.x)
    free = canvas.grey < -990
    for distance, grey in ((table, -60.0), (table + 3.5, -930.0)):
        cover = np.clip(0.5 - distance / canvas.edge, 0, 1) * free
        canvas.grey += cover * (grey - canvas.grey)


def _acquire(image: np.ndarray, pixel: tuple[float, float], noise: float, rng: np.random.Generator) -> None:
    """Noise of a filtered back projection: its grain is coarser than a pixel. Rounds to whole Hounsfield units."""
    grain = rng.standard_normal(image.shape, dtype=np.float32)
    gain = 1.0
    for axis, step in enumerate(pixel):
        sigma = GRAIN_MM / step
        if sigma > 0.3:
            grain = ndimage.gaussian_filter1d(grain, sigma, axis, mode="wrap")
            impulse = ndimage.gaussian_filter1d(np.eye(1, 65, 32)[0], sigma)
            gain *= np.sqrt((impulse**2).sum())
    image += noise / gain * grain
    np.clip(np.rint(image, out=image), -1024, 3071, out=image)


def _ijk_to_ras(axes: list[np.ndarray], spacing: tuple[float, float, float]) -> np.ndarray:
    matrix = np.diag([*spacing[::-1], 1.0])
    matrix[:3, 3] = [float(axis[0]) + shift for axis, shift in zip(axes[::-1], ISOCENTER, strict=True)]
    return RAS_FROM_LPS @ matrix
