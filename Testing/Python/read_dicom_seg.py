"""DICOM SEG, this library's and others', back to masks on a volume's grid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from highdicom.seg import Segmentation, SegmentationTypeValues
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import SegmentationStorage

from dinsegment.dicom.codes import from_cielab, from_item, from_sequence
from dinsegment.dicom.write.grid import put_on_grid
from dinsegment.dicom.write.save import warnings_off
from dinsegment.dicom.write.seg import SegSegment
from dinsegment.dicom.write.source import frame_of_reference
from dinsegment.errors import DINSegmentError, InputError, damaged
from dinsegment.geometry import RAS_FROM_LPS
from dinsegment.images.volume import Volume
from dinsegment.tasks import Code

LABELMAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
"""Label Map Segmentation Storage, which pydicom has no name for."""


@dataclass(frozen=True, eq=False)
class SegContent:
    """The segments of a DICOM SEG on a volume's grid.

    Attributes:
        masks: One for each segment, bool (k, j, i), the shape of the volume; they may overlap.
        segments: What they are.
    """

    masks: tuple[np.ndarray, ...]
    segments: tuple[SegSegment, ...]


def read_dicom_seg(path: Path, reference: Volume, threshold: float = 0.5) -> SegContent:
    """Reads a DICOM SEG of the volume's images: BINARY, FRACTIONAL or LABELMAP.

    Frames are put where their positions say. Slices without a frame are empty.

    Args:
        path: The file.
        reference: The volume that was segmented. If it knows its DICOM instances, the SEG has to refer to one of them.
        threshold: A voxel of a FRACTIONAL segmentation belongs to a segment from this fraction on.

    Raises:
        InputError: It is damaged or no DICOM SEG, was made from other images, or does not lie on the volume's grid.
    """
    try:
        with warnings_off():
            dataset = dcmread(path)
            if dataset.get("SOPClassUID") not in (SegmentationStorage, LABELMAP_STORAGE):
                raise InputError(f"'{path}' is no DICOM SEG: give a file of the modality SEG.")
            seg = Segmentation.from_dataset(dataset, copy=False)
            _check_source(path, seg, reference)
            return _read(path, seg, reference, threshold)
    except DINSegmentError:
        raise
    except InvalidDicomError as error:
        raise InputError(f"'{path}' is no DICOM file: give a DICOM SEG.") from error
    except Exception as error:  # a damaged file makes the parsers fail in every way
        raise damaged(path) from error


def _read(path: Path, seg: Segmentation, reference: Volume, threshold: float) -> SegContent:
    numbers = list(seg.segment_numbers)
    masks = {number: np.zeros(reference.shape, dtype=bool) for number in numbers}
    labelmap = seg.segmentation_type == SegmentationTypeValues.LABELMAP
    least = 1.0
    if seg.segmentation_type == SegmentationTypeValues.FRACTIONAL:
        least = max(threshold * int(seg.MaximumFractionalValue), 1e-6)
    taken: set[tuple] = set()
    for frame in range(seg.number_of_frames):
        pixels = seg.get_stored_frame(frame, as_index=True)
        ijk_to_ras = _frame_grid(seg, frame, reference)
        for number in numbers if labelmap else [_segment_number(seg, frame)]:
            key = (number, *np.rint(ijk_to_ras[:3, 3] * 100))
            if key in taken:
                raise InputError(f"'{path}' shows several times or phases in one place: give a DICOM SEG of one phase.")
            taken.add(key)
            mask = pixels == number if labelmap else pixels >= least
            if not put_on_grid(mask[np.newaxis], ijk_to_ras, reference, masks[number]):
                raise InputError(
                    f"'{path}' does not lie on the grid of '{reference.name}': give the images that it was made from."
                )
    return SegContent(tuple(masks.values()), tuple(_segment(seg.get_segment_description(n)) for n in numbers))


def _groups(seg: Segmentation, frame: int) -> Iterator[Dataset]:
    """The functional groups of a frame: its own, and those of all."""
    if items := seg.get("PerFrameFunctionalGroupsSequence"):
        yield items[frame]
    yield from seg.SharedFunctionalGroupsSequence


def _macro(seg: Segmentation, frame: int, keyword: str) -> Dataset:
    return next(group[keyword][0] for group in _groups(seg, frame) if group.get(keyword))


def _segment_number(seg: Segmentation, frame: int) -> int:
    return int(_macro(seg, frame, "SegmentIdentificationSequence").ReferencedSegmentNumber)


def _frame_grid(seg: Segmentation, frame: int, reference: Volume) -> np.ndarray:
    """IJK to RAS of a frame; a step off its plane is that of the volume, since a frame alone has none."""
    row, column = np.reshape(
        [float(x) for x in _macro(seg, frame, "PlaneOrientationSequence").ImageOrientationPatient], (2, 3)
    )
    between_rows, between_columns = map(float, _macro(seg, frame, "PixelMeasuresSequence").PixelSpacing)
    ijk_to_lps = np.eye(4)
    ijk_to_lps[:3, 0] = row * between_columns
    ijk_to_lps[:3, 1] = column * between_rows
    ijk_to_lps[:3, 3] = [float(x) for x in _macro(seg, frame, "PlanePositionSequence").ImagePositionPatient]
    ijk_to_ras = RAS_FROM_LPS @ ijk_to_lps
    normal = np.cross(ijk_to_ras[:3, 0], ijk_to_ras[:3, 1])
    steps = reference.ijk_to_ras[:3, :3]
    off_plane = np.abs(normal @ steps) / np.linalg.norm(steps, axis=0)
    ijk_to_ras[:3, 2] = steps[:, int(off_plane.argmax())]
    return ijk_to_ras


def _check_source(path: Path, seg: Segmentation, reference: Volume) -> None:
    """Refuses a SEG of another series, or of another phase, that happens to lie on the same grid."""
    source = reference.dicom
    instances = [str(header.get("SOPInstanceUID") or "") for header in source.headers] if source else []
    if source is None or not all(instances):
        return  # nothing but the grid can tell
    referred = _referred(seg)
    if source.frames is None:
        known = {uid for uid, _ in referred}.intersection(instances)
    else:
        known = referred.intersection((instances[0], frame) for frame in (None, *source.frames))
    if not referred:
        known = seg.get("FrameOfReferenceUID") == frame_of_reference(source)
    if not known:
        raise InputError(
            f"'{path}' was made from other images than '{reference.name}': give the series and phase that it refers to."
        )


def _referred(seg: Segmentation) -> set[tuple[str, int | None]]:
    """The instances, and frames where they are named, that a SEG was derived from."""
    items = [
        item
        for group in (*seg.SharedFunctionalGroupsSequence, *seg.get("PerFrameFunctionalGroupsSequence", ()))
        for derivation in group.get("DerivationImageSequence") or ()
        for item in derivation.get("SourceImageSequence") or ()
    ]
    items = items or [
        item
        for series in seg.get("ReferencedSeriesSequence") or ()
        for item in series.get("ReferencedInstanceSequence") or ()
    ]
    referred: set[tuple[str, int | None]] = set()
    for item in items:
        frames = item.get("ReferencedFrameNumber")
        for frame in [None] if frames is None else np.atleast_1d(frames):
            referred.add((str(item.ReferencedSOPInstanceUID), None if frame is None else int(frame)))
    return referred


def _segment(item: Dataset) -> SegSegment:
    kind = item.SegmentedPropertyTypeCodeSequence[0]
    regions = item.get("AnatomicRegionSequence")
    algorithms = item.get("SegmentationAlgorithmIdentificationSequence")
    algorithm = algorithms[0] if algorithms else Dataset()
    modifiers: list[Code | None] = [
        from_sequence(kind, "SegmentedPropertyTypeModifierCodeSequence"),
        from_sequence(regions[0], "AnatomicRegionModifierSequence") if regions else None,
    ]
    kind_of_algorithm = str(item.SegmentAlgorithmType)
    name = item.get("SegmentAlgorithmName") or algorithm.get("AlgorithmName")
    return SegSegment(
        name=str(item.SegmentLabel),
        category=from_item(item.SegmentedPropertyCategoryCodeSequence[0]),
        type=from_item(kind),
        modifier=modifiers[0],
        region=from_item(regions[0]) if regions else None,
        region_modifier=modifiers[1],
        color=from_cielab(item.get("RecommendedDisplayCIELabValue")),
        algorithm_type=kind_of_algorithm,
        algorithm_name=name or (None if kind_of_algorithm == "MANUAL" else "unknown"),
        algorithm_version=algorithm.get("AlgorithmVersion"),
        algorithm_family=from_sequence(algorithm, "AlgorithmFamilyCodeSequence"),
    )
