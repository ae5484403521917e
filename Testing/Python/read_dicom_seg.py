"""DICOM SEG back to masks on a volume's grid, read by highdicom."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import highdicom
import numpy as np
from highdicom.seg import SegmentDescription, segread

from dinsegment.dicom.codes import from_item, from_sequence
from dinsegment.geometry import RAS_FROM_LPS
from dinsegment.images.volume import Volume
from dinsegment.tasks import Code


@dataclass(frozen=True)
class Described:
    """What a DICOM SEG says of a segment."""

    name: str
    type: Code
    modifier: Code | None


@dataclass(frozen=True, eq=False)
class SegContent:
    """The segments of a DICOM SEG: masks (k, j, i) on a volume's grid, and what they are."""

    masks: list[np.ndarray]
    segments: list[Described]


def read_dicom_seg(path: Path, reference: Volume) -> SegContent:
    """The segments of a DICOM SEG of the volume's images; slices without a frame are empty.

    Raises:
        RuntimeError: It does not lie on the volume's grid.
    """
    affine = (RAS_FROM_LPS @ reference.ijk_to_ras)[:, [2, 1, 0, 3]]  # from (k, j, i) to LPS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        seg = segread(path)
        frame_of_reference = str(seg.FrameOfReferenceUID)
        grid = highdicom.VolumeGeometry(affine, reference.shape, "PATIENT", frame_of_reference)
        masks = seg.get_volume(skip_overlap_checks=True).match_geometry(grid, tol=0.05).array
        described = [_described(seg.get_segment_description(number)) for number in seg.segment_numbers]
    return SegContent([masks[..., n] > 0 for n in range(masks.shape[-1])], described)


def _described(item: SegmentDescription) -> Described:
    kind = item.SegmentedPropertyTypeCodeSequence[0]
    modifier = from_sequence(kind, "SegmentedPropertyTypeModifierCodeSequence")
    return Described(str(item.SegmentLabel), from_item(kind), modifier)
