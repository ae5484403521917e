"""The beating-heart phantom as a cine MR series of DICOM files, and its truth as segmentations of what is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from dicom_cases import Series, headers
from pydicom.uid import generate_uid

from dinsegment.geometry import RAS_FROM_LPS
from dinsegment.images import read_volumes
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.volume import Volume
from dinsegment.phantom.heart import cine_phantom
from dinsegment.tasks import HEART

GRID = {"slices": 4, "size": (64, 80), "spacing": (16.0, 2.8, 2.5)}
MODEL = "heart-din-small"


def write_phantom_series(folder: Path, phases: int = 2, seed: int = 1, **grid) -> list[np.ndarray]:
    """Writes a cine into a folder, under names that are not in the order of slices or phases.

    Returns:
        The truth of each phase: labels (k, j, i), k from base to apex.
    """
    folder.mkdir(parents=True, exist_ok=True)
    phantoms = cine_phantom(phases, seed=seed, **{**GRID, **grid})
    series = _series(phantoms[0].volume)
    shared = {name: generate_uid() for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    slices = len(phantoms[0].labels)
    names = np.random.default_rng(seed).permutation(phases * slices)
    for phase, phantom in enumerate(phantoms):
        for k, image in enumerate(headers(series)):
            number = k * phases + phase
            image.update(shared)
            image.TriggerTime, image.InstanceNumber = str(20 + 40 * phase), number + 1
            image.PixelData = np.rint(phantom.volume.array[k]).astype("<i2").tobytes()
            image.save_as(folder / f"IM{names[number]:04d}", enforce_file_format=True)
    return [phantom.labels for phantom in phantoms]


def phantom_study(folder: Path, phases: int = 2, seed: int = 1, **grid) -> list[Segmentation]:
    """The phases of such a series, read from its files, with the truth as what was segmented."""
    truth = write_phantom_series(folder, phases, seed, **grid)
    volumes = read_volumes(folder)
    numbers = [int(header.InstanceNumber) for header in volumes[0].dicom.headers]
    order = [(number - 1) // phases for number in numbers]  # k runs along the normal, perhaps from apex to base
    return [
        Segmentation(volume, labels[order], HEART, MODEL, volume, "cpu", 0.0)
        for volume, labels in zip(volumes, truth, strict=True)
    ]


def _series(volume: Volume) -> Series:
    """How a series on the grid of the volume lies."""
    ijk_to_lps = RAS_FROM_LPS @ volume.ijk_to_ras
    i, j, k = np.linalg.norm(ijk_to_lps[:3, :3], axis=0)
    axes = (ijk_to_lps[:3, :3] / (i, j, k)).T
    return Series("MR", volume.shape, axes, float(k), (float(j), float(i)), float(k), tuple(ijk_to_lps[:3, 3]))
