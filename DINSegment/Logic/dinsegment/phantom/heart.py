"""A beating-heart phantom: short-axis MR with known truth, for demonstrations and tests without images.

Lengths are in mm, volumes in ml. Positions are (x, y, z): x along a slice's rows to the image's right (the
patient's left and back), y down its columns (mostly to the feet), z from the heart's base to its apex; the
origin is the middle of the stack. How bright tissues are is that of a sequence (`contrasts`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import fft

from dinsegment.images.volume import Volume
from dinsegment.phantom.contrasts import CINE, Contrast
from dinsegment.phantom.heart_beat import (
    END_DIASTOLE_PHASE,
    END_SYSTOLE_PHASE,
    LV,
    NO_REFLOW,
    Infarct,
    paint_heart,
)
from dinsegment.phantom.heart_chest import paint_chest
from dinsegment.phantom.heart_patient import Patient
from dinsegment.phantom.heart_shapes import Slices

BLOOD_SIGNAL = 300.0  # scanner units of grey 1
SAMPLED = 0.8  # resolution acquired over resolution of the grid, as scanners interpolate

SUBSLICES = 4  # samples through a slice's thickness
HEART_WINDOW = ((-115.0, 55.0), (-85.0, 85.0))  # range of y and of x that holds every patient's heart

LEFT_POSTERIOR = (-np.sqrt(0.5), -np.sqrt(0.5), 0.0)  # RAS direction of x
TO_APEX = (-0.6, 0.6, -0.53)  # of z: the long axis of the heart points left, forward and down
TO_FEET = np.cross(LEFT_POSTERIOR, TO_APEX)  # of y, with some of right and back


@dataclass(frozen=True, eq=False)
class Phantom:
    """One cardiac phase and its truth.

    Attributes:
        volume: The image (k, j, i), float32 with whole numbers, base to apex along k; modality MR.
        labels: Truth (k, j, i), uint8: 1 right ventricle, 2 left ventricular myocardium, 3 left ventricle; where there
            is an infarct, 4 what of it blood reaches, 5 no-reflow. Papillary muscles and trabeculae count as cavity,
            the convention of the ACDC challenge.
    """

    volume: Volume
    labels: np.ndarray


def heart_phantom(
    phase: float = END_DIASTOLE_PHASE,
    *,
    seed: int = 0,
    slices: int = 12,
    spacing: tuple[float, float, float] = (8.0, 1.4, 1.4),
    size: tuple[int, int] = (200, 224),
    contrast: Contrast = CINE,
    infarct: Infarct | None = None,
) -> Phantom:
    """One phase of a beating heart.

    Args:
        phase: In cycles: 0 is end diastole, END_SYSTOLE_PHASE end systole; smooth, and repeats at 1.
        seed: The patient. Equal seeds give equal voxels; phases of one seed share the anatomy, not the noise.
        slices: Short-axis slices, centred on the heart.
        spacing: Millimetres along (k, j, i).
        size: Rows and columns.
        contrast: Of the sequence.
        infarct: Where the wall is dead; it moves as the rest does.
    """
    phase = round(phase % 1.0, 9) % 1.0  # 1.3 % 1.0 is not quite 0.3
    patient = Patient.draw(np.random.default_rng(seed))
    axes = _axes(slices, size, spacing)
    grey = _still(seed, slices, tuple(spacing), tuple(size), contrast).copy()
    labels = _insert_heart(grey, patient, axes, spacing[0], phase, contrast, infarct)
    noise = np.random.default_rng([seed, round(phase * 1e9)])
    array = _acquire(grey, patient, axes, noise, contrast)
    name = f"heart phantom {seed}, phase {phase:g}"
    return Phantom(Volume(array, _ijk_to_ras(axes, spacing), name, modality="MR", source="phantom"), labels)


def cine_phantom(phases: int = 2, *, seed: int = 0, **grid: Any) -> list[Phantom]:
    """The beat as a list of phases on one grid.

    Args:
        phases: 2 gives end diastole and end systole; any other number so many phases at equal intervals.
        seed: The patient.
        grid: `slices`, `spacing` and `size` of `heart_phantom`.
    """
    if phases < 1:
        raise ValueError(f"A cine has at least one phase, not {phases}.")
    times = (END_DIASTOLE_PHASE, END_SYSTOLE_PHASE) if phases == 2 else np.arange(phases) / phases
    return [heart_phantom(float(time), seed=seed, **grid) for time in times]


def _axes(slices: int, size: tuple[int, int], spacing: tuple[float, float, float]) -> list[np.ndarray]:
    """Positions (mm) of slices, rows and columns, about the middle."""
    return [(np.arange(n) - (n - 1) / 2) * step for n, step in zip((slices, *size), spacing, strict=True)]


@lru_cache(maxsize=1)
def _still(
    seed: int, slices: int, spacing: tuple[float, float, float], size: tuple[int, int], contrast: Contrast
) -> np.ndarray:
    """Greys (k, j, i) of all that does not beat: painted once for the phases of a cine, which copy them."""
    patient = Patient.draw(np.random.default_rng(seed))
    axes = _axes(slices, size, spacing)
    body = Slices.of(patient, axes, 2.5, contrast)
    paint_chest(body, patient)
    body.grey.flags.writeable = False
    return body.grey


def _insert_heart(
    grey: np.ndarray,
    patient: Patient,
    axes: list[np.ndarray],
    thickness: float,
    phase: float,
    contrast: Contrast,
    infarct: Infarct | None,
) -> np.ndarray:
    """Paints the heart over the body's greys, averaged through the thickness of a slice; returns the labels."""
    rows, columns = (slice(*np.searchsorted(a, w)) for a, w in zip(axes[1:], HEART_WINDOW, strict=True))
    window = (slice(None), rows, columns)
    within = thickness * ((np.arange(SUBSLICES) + 0.5) / SUBSLICES - 0.5)
    depth = (axes[0][:, None] + within).ravel()
    heart = Slices.of(patient, [depth, axes[1][rows], axes[2][columns]], 0.7, contrast)
    heart.grey = np.repeat(grey[window], SUBSLICES, axis=0)
    heart.share = np.zeros((NO_REFLOW + 1 if infarct else LV + 1, *heart.grey.shape), np.float32)
    heart.share[0] = 1
    paint_heart(heart, patient, phase, infarct)

    def through_plane(fine: np.ndarray) -> np.ndarray:
        return fine.reshape(*fine.shape[:-3], len(axes[0]), SUBSLICES, *fine.shape[-2:]).mean(axis=-3)

    grey[window] = through_plane(heart.grey)
    labels = np.zeros(grey.shape, np.uint8)
    labels[window] = through_plane(heart.share).argmax(axis=0)
    return labels


def _acquire(
    grey: np.ndarray, patient: Patient, axes: list[np.ndarray], noise: np.random.Generator, contrast: Contrast
) -> np.ndarray:
    """The scanner: coil shading, off-resonance bands, sampling and noise in k-space, magnitude."""
    _, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    coil = 0.62 + 0.75 * np.exp(-((x + 20) ** 2 + (y + 110) ** 2) / 2 / 95**2)
    coil = coil + 0.35 * np.exp(-((x - 150) ** 2 + (y - 40) ** 2) / 2 / 60**2)
    # Balanced SSFP passes |sin| of half the precession per repetition; shimming keeps it at pi in the heart.
    off_resonance = np.pi * (1 + (np.hypot(x + 10, y + 20) / 185) ** 6)
    bands = np.abs(np.sin(off_resonance / 2)) ** 0.6 if contrast.balanced else 1.0
    mottle = 1 + 0.03 * patient.texture(axes, "grain", 5.0) + 0.05 * patient.texture(axes, "shading", 40.0)
    gain = 1 + 0.03 * np.random.default_rng(patient.texture_seed).standard_normal((len(grey), 1, 1))  # of slices
    signal = (grey * mottle * coil * bands * gain).astype(np.complex64)
    signal += contrast.noise * (noise.standard_normal(grey.shape) + 1j * noise.standard_normal(grey.shape))

    # k-space was sampled to SAMPLED of this grid's resolution and tapered, which blurs and rings a little.
    rows, columns = (np.abs(2 * fft.fftfreq(n)) for n in grey.shape[1:])
    rows, columns = (np.where(f < SAMPLED, 0.54 + 0.46 * np.cos(np.pi * f / SAMPLED), 0) for f in (rows, columns))
    image = fft.ifft2(fft.fft2(signal) * np.sqrt(np.outer(rows, columns)).astype(np.float32))
    return np.rint(BLOOD_SIGNAL * np.abs(image)).astype(np.float32)


def _ijk_to_ras(axes: list[np.ndarray], spacing: tuple[float, float, float]) -> np.ndarray:
    """IJK-to-RAS (4, 4) of an oblique stack; left-handed, because its slices run from base to apex."""
    directions = np.column_stack([LEFT_POSTERIOR, TO_FEET, TO_APEX])
    matrix = np.eye(4)
    matrix[:3, :3] = directions / np.linalg.norm(directions, axis=0) * spacing[::-1]
    middle = [(len(axis) - 1) / 2 for axis in axes[::-1]]
    matrix[:3, 3] = -matrix[:3, :3] @ middle
    return matrix
