"""Labelled cases of the phantoms on disk, in the layouts that ACDC and BTCV are published in."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dinsegment.images import write_volume
from dinsegment.phantom.ct import abdomen_phantom
from dinsegment.phantom.heart import cine_phantom
from dinsegment.tasks import ABDOMEN, HEART
from dinsegment.training.cases import Case, find_cases
from dinsegment.training.label_names import DATASETS, label_map

SMALL_ABDOMEN = {"slices": 30, "size": (60, 80), "spacing": (10.0, 5.0, 5.0)}
SMALL = {"slices": 5, "size": (64, 80), "spacing": (16.0, 2.8, 2.5)}


def write_patients(data: Path, count: int = 1, first: int = 1, **grid) -> list[Case]:
    """ED (frame 03) and ES (frame 09) of so many patients: `patient001`, ..."""
    names = [f"patient{number:03d}" for number in range(first, first + count)]
    for seed, name in enumerate(names, start=first):
        folder = data / name
        folder.mkdir(parents=True)
        for frame, phantom in zip((3, 9), cine_phantom(seed=seed, **{**SMALL, **grid}), strict=True):
            write_volume(phantom.volume, folder / f"{name}_frame{frame:02d}.nii.gz")
            truth = phantom.volume.with_array(phantom.labels)
            write_volume(truth, folder / f"{name}_frame{frame:02d}_gt.nii.gz")
        (folder / "Info.cfg").write_text("ED: 3\nES: 9\nGroup: NOR\nNbFrame: 20\n", encoding="utf-8")
    return find_cases(data, names, HEART)


def write_abdomens(data: Path, count: int = 1, first: int = 1, **grid) -> list[Case]:
    """So many patients in BTCV's layout, `img0001.nii.gz` and `label0001.nii.gz`, ..., with BTCV's labels."""
    table = np.zeros(ABDOMEN.classes, np.uint8)
    for theirs, ours in label_map(DATASETS / "btcv.json", ABDOMEN).items():
        if ours:
            table[ours] = theirs
    data.mkdir(parents=True, exist_ok=True)
    numbers = range(first, first + count)
    for number in numbers:
        phantom = abdomen_phantom(seed=number, **{**SMALL_ABDOMEN, **grid})
        write_volume(phantom.volume, data / f"img{number:04d}.nii.gz")
        write_volume(phantom.volume.with_array(table[phantom.labels]), data / f"label{number:04d}.nii.gz")
    return find_cases(data, [f"{number:04d}" for number in numbers], ABDOMEN)
