"""The reference segmentation of the CT slices `ct-totalsegmentator`, as the abdomen task numbers its organs.

Its labels are those of version 2 of TotalSegmentator: 52, not 7 as in version 1, is the artery in front of the spine.
Its file has the rows of a slice from posterior to anterior, the DICOM images from anterior to posterior; both files say
so in their matrices, so voxels are compared where they lie in the patient, never by their indices.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from dinsegment.images import read_volume
from dinsegment.images.volume import Volume

FILE = "reference-segmentation.nii.gz"
TASK_LABELS = {52: 1, 4: 2, 3: 3, 2: 4, 5: 5, 7: 6, 1: 7, 6: 8}
"""TotalSegmentator's label of every organ of the abdomen task -> the task's."""


def read_reference(folder: Path, volume: Volume) -> np.ndarray:
    """The organs (k, j, i), uint8, at the voxels of a volume; 0 beyond the reference's field of view."""
    reference = read_volume(folder / FILE)
    table = np.zeros(256, np.uint8)
    table[list(TASK_LABELS)] = list(TASK_LABELS.values())
    return at_voxels_of(volume, reference.with_array(table[reference.array.astype(np.uint8)]))


def at_voxels_of(volume: Volume, labels: Volume) -> np.ndarray:
    """Labels (k, j, i), uint8, at the places of a volume's voxels: those of the nearest voxel there."""
    ijk = np.linalg.inv(labels.ijk_to_ras) @ volume.ijk_to_ras
    matrix, offset = ijk[:3, :3][::-1, ::-1], ijk[:3, 3][::-1]
    return ndimage.affine_transform(labels.array.astype(np.uint8), matrix, offset, volume.shape, order=0)
