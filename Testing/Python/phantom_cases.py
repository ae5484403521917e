"""Labelled cases of the phantom heart on disk, in ACDC's published layout."""

from __future__ import annotations

from pathlib import Path

from dinsegment.images import write_volume
from dinsegment.phantom import cine_phantom
from dinsegment.tasks import HEART
from dinsegment.training.cases import Case, find_cases

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
