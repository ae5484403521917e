"""How images of each kind are looked at: in which slices, and with which grey values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer

from dinsegment.images.slices import Plane, SliceStack
from dinsegment.images.volume import Volume
from dinsegment.quality.image import looks_like_ct
from dinsegment.tasks import TASKS, Task
from dinsegment_slicer.running.segment_part import JobImage
from dinsegment_slicer.scene.nodes import image_of


@dataclass(frozen=True)
class Reading:
    """How an image is looked at.

    Attributes:
        plane: The slices that are shown and enhanced: as `acquired`, or `axial` ones of the patient.
        window: Grey values (low, high) that are looked at where they mean the same in every image, as Hounsfield units
            do; None where each image has its own range.
    """

    plane: Plane = "acquired"
    window: tuple[float, float] | None = None


AS_ACQUIRED = Reading()
"""Of images whose kind is not known, and of MR."""


def reading_of_task(task: Task) -> Reading:
    """How the images that a task is made for are looked at."""
    return Reading(task.plane, task.grey_window)


def reading_of(volumeNode: slicer.vtkMRMLScalarVolumeNode) -> Reading:
    """How an image is looked at before any task was done on it: by its modality.

    That is what DICOM says; of an image from another file, voxels that are darker than fat tell a CT. One that has no
    Hounsfield units is looked at as it was acquired, in its own range.

    Raises:
        InputError: It holds no grey image, or has a non-linear parent transform.
    """
    image = image_of(volumeNode)
    modality = image.modality or ("CT" if looks_like_ct(image.array) else None)
    task = next((task for task in TASKS.values() if task.modality == modality), None)
    return reading_of_task(task) if task is not None else AS_ACQUIRED


def stack_of(image: JobImage, plane: Plane) -> SliceStack:
    """The voxels of an image as slices, a live view; a single slice always as it was acquired."""
    if plane == "axial" and 1 not in image.array.shape:
        # Where the axes lead does not depend on the voxels, which a Volume would copy.
        one = Volume(np.zeros((1, 1, 1), np.float32), image.ijk_to_ras)
        return SliceStack.axial(one).like(image.array)
    return SliceStack.across(image.array, np.linalg.norm(image.ijk_to_ras[:3, :3], axis=0)[::-1])
