"""A folder of images and labels as nnU-Net has data sets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk

Laid = tuple[str, np.ndarray, np.ndarray, tuple[float, float, float]]
"""A case: its name, image and labels (k, j, i), spacing along (k, j, i) in mm."""


def write_folder(folder: Path, channel: str, labels: Mapping[str, int], cases: Iterable[Laid]) -> None:
    """Writes `imagesTr`, `labelsTr` and `dataset.json`, and prints of each case its name, shape and spacing.

    Args:
        folder: Is made where it is missing.
        channel: What the images' one channel is.
        labels: Of segments, by their names.
        cases: Are asked for one after the other.
    """
    count = 0
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for name, image, truth, spacing in cases:
        count += 1
        print(name, *image.shape, *(f"{mm:.3f}" for mm in spacing))
        for array, file in ((image, f"imagesTr/{name}_0000.nii.gz"), (truth, f"labelsTr/{name}.nii.gz")):
            made = sitk.GetImageFromArray(array)
            made.SetSpacing(spacing[::-1])
            sitk.WriteImage(made, str(folder / file), True)
    description = {
        "channel_names": {"0": channel},
        "labels": {"background": 0, **labels},
        "numTraining": count,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=2), encoding="utf-8")
    print(f"{count} cases in {folder}")
