"""Grey values of DICOM files by Slicer's own reader, which also has compressed ones, before anything is installed."""

from __future__ import annotations

import numpy as np
import slicer

from dinsegment.errors import InputError
from dinsegment_slicer.i18n import tr as _


def read_picture(path: str) -> np.ndarray:
    """The picture of a file: rescaled grey values (rows, columns), whole numbers or float32.

    Raises:
        InputError: It cannot be read, or is not one grey picture.
    """
    reader = slicer.vtkMRMLVolumeArchetypeStorageNode()
    reader.SetFileName(path)
    reader.SetSingleFile(True)  # Else it takes the files beside it, too.
    node = slicer.vtkMRMLScalarVolumeNode()
    array = slicer.util.arrayFromVolume(node) if reader.ReadData(node) else None
    if array is None or array.ndim != 3 or len(array) != 1:
        raise InputError(
            _("'{path}' cannot be read as one grey image: import its series again in the DICOM module.").format(
                path=path
            )
        )
    picture = array[0].copy()  # The node, whose voxels they are, ends here.
    return picture.astype(np.float32) if picture.dtype == np.float64 else picture
