"""Expert contours of the Sunnybrook cardiac data as masks on the volumes of their cine series.

A file is one closed contour, a line for each point: column and row, in pixels, of which the first one's centre is at 0.
The number in the file's name is the Instance Number of the image (P. Radau et al., "Evaluation Framework for Algorithms
Segmenting Short Axis Cardiac MRI", The MIDAS Journal 2009).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from skimage.draw import polygon

from dinsegment.images.segmentation import Segmentation
from dinsegment.images.volume import Volume

MYOCARDIUM, CAVITY = 2, 3
ENDOCARDIUM = (CAVITY,)
"""Labels inside the endocardial contour."""

EPICARDIUM = (MYOCARDIUM, CAVITY)
"""Labels inside the epicardial contour."""


@dataclass(frozen=True, eq=False)
class Contours:
    """What an expert drew in one phase.

    Attributes:
        phase: Which one, counted from 0.
        endocardium: Mask (j, i) inside the contour by slice k.
        epicardium: The same; empty where none was drawn.
    """

    phase: int
    endocardium: dict[int, np.ndarray]
    epicardium: dict[int, np.ndarray]

    @property
    def voxels(self) -> int:
        """Inside the endocardial contours."""
        return sum(int(mask.sum()) for mask in self.endocardium.values())


@dataclass(frozen=True)
class Agreement:
    """A segmentation beside the masks of an expert.

    Attributes:
        dice: Over all slices that have a contour together.
        by_slice: In each of them.
        expert_ml: Volume inside the contours.
        segmented_ml: Volume of the labels in the slices that have a contour.
        other_ml: Volume of the labels in each other slice that has any.
    """

    dice: float
    by_slice: dict[int, float]
    expert_ml: float
    segmented_ml: float
    other_ml: dict[int, float]


def read_contours(folder: Path, phases: Sequence[Volume]) -> tuple[Contours, Contours]:
    """End diastole and end systole, the two phases that have contours."""
    places = {
        int(header.InstanceNumber): (phase, k)
        for phase, volume in enumerate(phases)
        for k, header in enumerate(volume.dicom.headers)
    }
    found: dict[int, Contours] = {}
    for kind, name in (("i", "endocardium"), ("o", "epicardium")):
        for path in sorted((folder / f"{kind}-contours").glob("*.txt")):
            phase, k = places[int(re.search(rf"-(\d+)-{kind}contour", path.name)[1])]
            contours = found.setdefault(phase, Contours(phase, {}, {}))
            getattr(contours, name)[k] = _mask(path, phases[phase].shape[1:])
    systole, diastole = sorted(found.values(), key=lambda contours: contours.voxels)
    return diastole, systole


def compare(segmentation: Segmentation, masks: dict[int, np.ndarray], labels: Sequence[int]) -> Agreement:
    """The labels of a segmentation beside the masks by slice."""
    ml = segmentation.volume.voxel_volume_ml
    segmented = np.isin(segmentation.labels, labels)
    slices = sorted(masks)
    expert = np.stack([masks[k] for k in slices])
    others = {k: int(segmented[k].sum()) * ml for k in range(len(segmented)) if k not in masks}
    return Agreement(
        dice=_dice(segmented[slices], expert),
        by_slice={k: _dice(segmented[k], masks[k]) for k in slices},
        expert_ml=int(expert.sum()) * ml,
        segmented_ml=int(segmented[slices].sum()) * ml,
        other_ml={k: volume for k, volume in others.items() if volume},
    )


def _mask(path: Path, shape: tuple[int, int]) -> np.ndarray:
    columns, rows = np.loadtxt(path).T
    mask = np.zeros(shape, dtype=bool)
    mask[polygon(rows, columns, shape)] = True
    return mask


def _dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * np.logical_and(first, second).sum() / (first.sum() + second.sum()))
