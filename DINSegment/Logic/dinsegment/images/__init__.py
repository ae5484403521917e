"""Images: files and DICOM series become volumes, volumes and segmentations become files.

`reading` checks a file for what ITK passes over (`integrity`) and makes a `Volume` of each phase (`volume`); of phases
that ITK does not see in a NRRD file (`nrrd_axes`) `nrrd` gives the voxels, of a DICOM series `dinsegment.dicom.read`. A
volume is looked at as a stack of parallel slices (`slices`). What is labelled is a `Segmentation` (`segmentation`), of
which `pieces` finds the parts that hang together and `outlines` what is drawn around them; what it could have been are
`samples`. `writing` puts both into files on exactly the grid that they have, with a `fingerprint` of each segment that
tells whether somebody has changed it since.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Segmentation", "Volume", "read_phases", "read_volume", "read_volumes", "write_segmentation", "write_volume"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"The package dinsegment.images has no '{name}'.")
    if name == "Volume":
        from dinsegment.images.volume import Volume

        return Volume
    if name == "Segmentation":
        from dinsegment.images.segmentation import Segmentation

        return Segmentation
    from dinsegment.images import reading, writing  # with SimpleITK, which a volume does without

    return getattr(reading if name.startswith("read") else writing, name)
