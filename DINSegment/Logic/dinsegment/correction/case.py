"""A corrected image as a training case: image and labels in a folder as nnU-Net lays data sets out (version 2).

`dataset.json` names the labels, `imagesTr/NAME_0000.nii.gz` is the image, `labelsTr/NAME.nii.gz` its labels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from dinsegment.errors import InputError, OutputError
from dinsegment.files import atomic_path, ensure_writable_folder, write_json
from dinsegment.images.volume import Volume
from dinsegment.images.writing import write_volume
from dinsegment.tasks import Task

DESCRIPTION, IMAGES, LABELS, ENDING = "dataset.json", "imagesTr", "labelsTr", ".nii.gz"


def save_case(folder: Path, volume: Volume, labels: np.ndarray, task: Task, name: str) -> Path:
    """Adds an image with its labels to a folder of training cases; nothing that is there is overwritten.

    Args:
        folder: Of the cases; created with its dataset.json if there is none.
        volume: The image.
        labels: Its labels (k, j, i), as the task numbers them.
        task: What they are.
        name: Of the case. What is no letter, digit, `-`, `_` or `.` becomes `_`; a name that is taken gets a number.
            Cases whose names differ only in `_frame` and digits at their end are images of one patient, and so are
            phases of a cine, which are named `... phase 03`.

    Returns:
        The file of the labels.

    Raises:
        InputError: The labels are not the image's or show nothing, or the folder holds another data set.
        OutputError: It could not be written. The folder is then as it was.
    """
    if labels.shape != volume.shape:
        raise InputError(f"The labels of '{volume.name}' do not lie on its grid: they have the shape {labels.shape}.")
    if not labels.any():
        raise InputError(f"Nothing is segmented in '{volume.name}': correct it first, there is nothing to learn from.")
    if int(labels.max()) >= task.classes:
        raise InputError(
            f"'{volume.name}' has the label {int(labels.max())}, which the task '{task.name}' does not have."
        )
    path = folder / DESCRIPTION
    description = _description(path, task)
    parts = folder / LABELS, folder / IMAGES
    missing = [one for one in (*parts, folder, *folder.parents) if not one.exists()]
    name = _free_name(folder, name)
    image, labelmap = folder / IMAGES / f"{name}_0000{ENDING}", folder / LABELS / f"{name}{ENDING}"
    try:
        for one in (folder, *parts):
            ensure_writable_folder(one)
        write_volume(volume, image)
        write_volume(volume.with_array(labels.astype(np.int16)), labelmap, np.uint8)
        # What lies there is counted, so that an interrupted earlier call leaves no wrong number.
        description["numTraining"] = len([p for p in (folder / LABELS).glob(f"*{ENDING}") if p.name[0] != "."])
        with atomic_path(path) as temporary:
            write_json(description, temporary)
    except (OSError, OutputError) as error:
        for written in (labelmap, image):
            with suppress(OSError):
                written.unlink(missing_ok=True)
        for one in missing:
            with suppress(OSError):  # it is not there, or somebody keeps something in it
                one.rmdir()
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"'{folder}' could not be written to ({error.strerror or error}): choose another folder."
        ) from error
    return labelmap


def _description(path: Path, task: Task) -> dict[str, Any]:
    """What dataset.json is to say: what it says now, if it is there and the labels are the task's."""
    names = {segment.name: segment.label for segment in task.segments}
    if not path.exists():
        if any(any((path.parent / part).glob("*")) for part in (IMAGES, LABELS)):
            raise InputError(
                f"'{path.parent}' has images but no {DESCRIPTION} that says what they are: choose an empty folder, or "
                "one that this program made."
            )
        return {
            "channel_names": {"0": task.modality},
            "labels": {"background": 0, **names},
            "numTraining": 0,
            "file_ending": ENDING,
            "name": f"DINSegment {task.name}",
        }
    try:
        description = json.loads(path.read_text(encoding="utf-8-sig"))
        labels = description["labels"]
        known = {str(name): int(number) for name, number in labels.items() if int(number) > 0}
        channels = description["channel_names"]
        fits = known == names and description["file_ending"] == ENDING and isinstance(channels, Mapping)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        fits = False
    if not fits or len(channels) != 1:
        raise InputError(
            f"'{path}' describes another data set than one of the task '{task.name}' with the labels "
            f"{', '.join(f'{number} {name}' for name, number in names.items())}: choose another folder."
        )
    return description


def _free_name(folder: Path, name: str) -> str:
    """The name as files can have it, with a number where it is taken, before the `_frameFF` that a phase ends with."""
    clean = re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII).strip("._-") or "case"
    image, frame = re.fullmatch(r"(.+?)(?:_(?:frame|phase_)(\d+))?", clean).groups()
    number, frame = 1, f"_frame{frame}" if frame else ""
    free = f"{image}{frame}"
    while (folder / IMAGES / f"{free}_0000{ENDING}").exists() or (folder / LABELS / f"{free}{ENDING}").exists():
        number += 1
        free = f"{image}_{number}{frame}"
    return free
