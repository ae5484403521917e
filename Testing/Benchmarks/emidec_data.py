"""Lays out EMIDEC (infarcts in late enhancement MR of the heart) as nnU-Net has data sets, from a public repository.

    python Testing/Benchmarks/emidec_data.py CLONES FOLDER

CLONES has a git directory of irehmanar/LV_Segmentation_MRI_Dataset_EMIDEC, as OWNER+NAME or OWNER+NAME/repo
(`git clone --bare`): the 100 published training patients of EMIDEC as slices of 256 x 256 pixels in PNG, with labels.
Its `train` and `val` are put together again: all of `val` are normal cases. The lists of patients are in
`dinsegment/training/datasets`; licence and citation in `emidec.json` there.

What can be restored, and is:
    - Sides. Each slice was stretched to a square, linearly, its labels by nearest neighbours. Of an axis that had fewer
      pixels than 256, the number is the one whose linear interpolation explains the slices but for the rounding of grey
      values (0.3 levels where the next best number leaves more): pixels are then those before stretching, grey values
      to within one level or two, labels exactly. An axis that had more leaves a pattern of noise; where it is clear,
      pixels stay and the spacing says how many there were. Where neither is found, the axis is taken for 256.

What cannot: the size of a pixel (published: 1.25 to 2 mm; 1.4 mm is written, so no millilitres and no grams), the
distance of slices (published: 8 to 13 mm; 10 mm is written), grey values beyond 8 bits, how the patient lies (some
slices are turned and mirrored to others), and what was written of the patient (age, ECG, troponin).
"""

from __future__ import annotations

import argparse
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from nnunet_folder import Laid, write_folder
from other_images_data import Clone

REPOSITORY = "irehmanar/LV_Segmentation_MRI_Dataset_EMIDEC"

SIDE = 256
"""Pixels of a stretched side."""

FEWEST, MOST = 90, 400
"""Pixels that a side may have had."""

ROUNDING = 0.31
"""Grey levels (root of the mean square) that rounding leaves, 0.289, and a little more."""

CLEAR = 0.35
"""Correlation from which on a pattern of noise is one: the best of wrong numbers mostly has 0.15 to 0.25."""

NOMINAL_MM = (10.0, 1.4, 1.4)
"""Distance of slices and size of a pixel where nobody knows them."""

LABELS = {"1": "Left ventricle", "2": "Normal myocardium", "3": "Infarct", "4": "No-reflow"}


def interpolation(count: int) -> np.ndarray:
    """Linear interpolation of `count` pixels to `SIDE`, pixels being areas: (SIDE, count)."""
    place = np.clip((np.arange(SIDE) + 0.5) * count / SIDE - 0.5, 0, count - 1)
    before = np.minimum(place.astype(int), count - 2)
    weights = np.zeros((SIDE, count))
    weights[np.arange(SIDE), before] = 1 - (place - before)
    weights[np.arange(SIDE), before + 1] = place - before
    return weights


@cache
def _unexplained(count: int) -> np.ndarray:
    """What no `count` pixels give when they are stretched: an orthonormal basis, (SIDE - count, SIDE)."""
    basis, _ = np.linalg.qr(interpolation(count), mode="complete")
    return basis[:, count:].T


@cache
def _noise_pattern(count: int) -> np.ndarray:
    """How much noise a second difference keeps at each place of a side that had `count` pixels, (SIDE - 2,)."""
    return _without_trend(np.log(np.linalg.norm(np.diff(interpolation(count), 2, axis=0), axis=1)))


def _without_trend(values: np.ndarray, width: int = 21) -> np.ndarray:
    values = values - np.convolve(np.pad(values, width // 2, mode="reflect"), np.ones(width) / width, "valid")
    return values / max(float(np.linalg.norm(values)), 1e-9)  # of some numbers the noise is the same everywhere


def pixels_before(image: np.ndarray, axis: int) -> int:
    """How many pixels an axis of stretched slices had.

    Args:
        image: (slices, SIDE, SIDE) grey values of 0 to 255.
        axis: 1 or 2.
    """
    lines = np.moveaxis(image.astype(float), axis, 0).reshape(SIDE, -1)
    lines = lines[:, lines.std(0) > 3]
    some = lines[:, :: max(1, lines.shape[1] // 500)]
    for count in range(FEWEST, SIDE):  # fewer pixels explain less, so that the first that do are those
        if np.sqrt(((_unexplained(count) @ some) ** 2).mean()) < ROUNDING:
            return count
    seen = _without_trend(np.log(np.median(np.abs(np.diff(lines, 2, axis=0)), axis=1) + ROUNDING))
    likeness, count = max((float(seen @ _noise_pattern(n)), n) for n in range(SIDE + 2, MOST))
    return count if likeness >= CLEAR else SIDE


def restored(image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """Slices as they were before they were stretched to squares.

    Args:
        image: (slices, SIDE, SIDE) uint8.
        labels: Of the same shape.

    Returns:
        Grey values (int16) and labels (uint8) of (slices, rows, columns), and a spacing in mm with the right
        proportions but of a nominal size.
    """
    spacing = list(NOMINAL_MM)
    grey = image.astype(float)
    for axis in (1, 2):
        count = pixels_before(image, axis)
        if count > SIDE:
            spacing[axis] *= count / SIDE
        elif count < SIDE:
            back = np.linalg.pinv(interpolation(count))
            grey = np.moveaxis(np.tensordot(back, grey, (1, axis)), 0, axis)
            first = np.ceil(np.arange(count) * SIDE / count).astype(int)  # of the pixels that repeat one
            labels = labels.take(first, axis)
    return np.clip(np.rint(grey), 0, 255).astype(np.int16), labels, (spacing[0], spacing[1], spacing[2])


def patients(clone: Clone) -> dict[str, list[str]]:
    """Files of the slices of each patient, in their order."""
    found = defaultdict(list)
    for file in sorted(clone.files()):
        if match := re.fullmatch(r"dataset/(?:train|val)/(Case_[NP]\d+)_slice\d+\.png", file):
            found[match[1]].append(file)
    return dict(sorted(found.items()))


def read(clone: Clone, files: Iterable[str]) -> np.ndarray:
    """Slices (slices, SIDE, SIDE), uint8."""
    return np.stack([np.array(Image.open(io.BytesIO(clone.read(file))).convert("L")) for file in files])


def cases(clone: Clone) -> Iterator[Laid]:
    """Each patient as far as it can be restored."""
    for patient, files in patients(clone).items():
        labels = [re.sub(r"/(train|val)/", r"/\1annot/", file) for file in files]
        yield patient, *restored(read(clone, files), read(clone, labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clones", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    clone = Clone(options.clones, REPOSITORY)
    write_folder(options.folder, "MR", {name: int(label) for label, name in LABELS.items()}, cases(clone))


if __name__ == "__main__":
    main()
