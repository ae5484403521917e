"""DICOM SEG: masks on the grid of a DICOM series, as every archive takes and every viewer shows them.

What is written (DICOM PS3.3 A.51, C.8.20) is a BINARY segmentation, uncompressed, a frame for each segment and each
source slice. Frames without voxels are written, too: viewers that count frames instead of reading their positions
misplace the others where frames are missing, and readers that build a volume from the frames get another grid. That
costs a bit a voxel, 80 MB for eight segments in 300 slices of 512 x 512. Segments without a voxel are not written:
some viewers hang on them.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom import seg as highdicom_seg
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentationTypeValues, SegmentDescription
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import DA, DT, TM

from dinsegment.dicom.codes import ARTIFICIAL_INTELLIGENCE, to_cielab, to_concept
from dinsegment.dicom.source import DicomSource
from dinsegment.dicom.uids import NewUids, check_uid_root
from dinsegment.dicom.write.place import placement
from dinsegment.dicom.write.save import MANUFACTURER, save_dicom, warnings_off
from dinsegment.dicom.write.source import (
    UTF8,
    PreparedSource,
    frame_of_reference_warning,
    person_name,
    planes_of,
    source_datetime,
)
from dinsegment.errors import InputError
from dinsegment.geometry import RAS_FROM_LPS
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.volume import Volume
from dinsegment.tasks import Code, Task
from dinsegment.version import __version__

LONG_STRING = 64
"""Characters of a DICOM LO value."""


@dataclass(frozen=True)
class SegSegment:
    """What a DICOM SEG says of one segment.

    Attributes:
        name: What the user reads; the first 64 characters are written, without line breaks and backslashes.
        category: Property category (CID 7150).
        type: Property type (CID 7151).
        modifier: Laterality (CID 244), where the type alone does not say which one.
        region: Anatomic region, where the type does not say it.
        region_modifier: Laterality of the region.
        color: Recommended display colour: red, green, blue in 0..255.
        algorithm_type: `AUTOMATIC`, `SEMIAUTOMATIC` where a user changed what was calculated, or `MANUAL`.
        algorithm_name: Needed unless `MANUAL`.
        algorithm_version: With the family it identifies the algorithm; an algorithm without a version is only named.
        algorithm_family: Of CID 7162.
    """

    name: str
    category: Code
    type: Code
    modifier: Code | None = None
    region: Code | None = None
    region_modifier: Code | None = None
    color: tuple[int, int, int] = (128, 128, 128)
    algorithm_type: str = "AUTOMATIC"
    algorithm_name: str | None = None
    algorithm_version: str | None = None
    algorithm_family: Code | None = ARTIFICIAL_INTELLIGENCE

    def __post_init__(self) -> None:
        known = [one.value for one in SegmentAlgorithmTypeValues]
        if self.algorithm_type not in known:
            raise InputError(f"'{self.algorithm_type}' is no algorithm type: give {', '.join(known)}.")
        if self.algorithm_type != "MANUAL" and not self.algorithm_name:
            raise InputError(f"The segment '{self.name}' needs the name of the algorithm that made it.")


@dataclass(frozen=True)
class SegOptions:
    """How the instance is described and numbered.

    Attributes:
        content_creator: Who made it; a person's name is written `Family^Given`.
        description: Content Description, at most 64 characters.
        series_description: At most 64 characters; `Segmentation of ` and that of the source where there is none.
        series_number: Number of the series in the study.
        instance_number: Number in the series.
        uid_root: UIDs are made below this root of your organisation, for example `1.2.826.0.1.3680043.2.1125`;
            otherwise from UUIDs, below 2.25, which needs no registration.
        deterministic_uids: The same masks, segments, source, options and versions give the same file, byte by byte:
            UIDs follow from a hash of them, and all dates and times are those of the source.
        series_uid: Series that the instance is put into; a new one if None. The phases of a cine share one.
        common_grid: Where the patient has moved between slices, whether all frames lie on the one grid of the volume,
            which viewers want that build a volume of them, 3D Slicer among them; otherwise each frame lies on its
            image, pixel for pixel.
    """

    content_creator: str = MANUFACTURER
    description: str | None = None
    series_description: str | None = None
    series_number: int = 300
    instance_number: int = 1
    uid_root: str | None = None
    deterministic_uids: bool = False
    series_uid: str | None = None
    common_grid: bool = False

    def __post_init__(self) -> None:
        for text in (self.description, self.series_description):
            if text is not None and (len(text) > LONG_STRING or "\\" in text or not text.isprintable()):
                raise InputError(f"'{text}' cannot be a DICOM description: give one line of at most 64 characters.")
        for number in (self.series_number, self.instance_number):
            if not 1 <= number < 2**31:
                raise InputError(f"{number} cannot be a DICOM series or instance number: give one from 1 on.")
        person_name(self.content_creator)
        if self.uid_root is not None:
            check_uid_root(self.uid_root)


def cine_options(phases: int, options: SegOptions = SegOptions()) -> list[SegOptions]:
    """Options for each phase of a cine: instances of one new series, numbered and described by their phase."""
    if phases == 1:
        return [options]
    series_uid = str(NewUids(options.uid_root, None)("series"))
    return [
        replace(options, series_uid=series_uid, instance_number=n, description=f"Cardiac phase {n} of {phases}")
        for n in range(1, phases + 1)
    ]


def task_segments(task: Task, model: str) -> list[SegSegment]:
    """The segments of a task, in the order of their labels, as a model of that name segments them."""
    return [
        SegSegment(
            name=segment.name,
            category=segment.category,
            type=segment.type,
            modifier=segment.modifier,
            region=segment.region,
            color=segment.color,
            algorithm_name=f"DINSegment {model}",
            algorithm_version=__version__,
        )
        for segment in task.segments
    ]


def make_dicom_seg(
    masks: Sequence[np.ndarray],
    segments: Sequence[SegSegment],
    source: DicomSource,
    options: SegOptions = SegOptions(),
    ijk_to_ras: np.ndarray | None = None,
) -> highdicom_seg.Segmentation:
    """Makes a DICOM SEG of the images that were segmented.

    Args:
        masks: One for each segment, bool (k, j, i), k in the order of the slices of the source. They may overlap.
            Empty ones are left out.
        segments: What they are.
        source: The images; of one study, but not necessarily of one series.
        options: Descriptions, numbers and UIDs.
        ijk_to_ras: Where the masks lie, 4x4, millimetres; on the pixels of the images if None.

    Raises:
        InputError: All masks are empty, or no DICOM SEG can refer to such images, or they lie elsewhere.
    """
    if len(masks) != len(segments):
        raise ValueError(f"There are {len(masks)} masks of {len(segments)} segments.")
    with warnings_off():
        prepared = PreparedSource(source)
        masks, in_place = _placed(masks, prepared, ijk_to_ras, options.common_grid)
        present = [(mask, segment) for mask, segment in zip(masks, segments, strict=True) if mask.any()]
        if not present:
            raise InputError("There is nothing to write: no segment has a voxel, and a DICOM SEG needs one.")
        masks, segments = [mask for mask, _ in present], [segment for _, segment in present]
        uids = NewUids(options.uid_root, _digest(masks, segments, source, options, prepared))
        made = source_datetime(source) if options.deterministic_uids else datetime.datetime.now()
        seg = _encoded(_combined(masks), segments, prepared, options, uids, made)
        _complete(seg, source, options, uids, made)
        return prepared.refer(seg, in_place)


def _placed(
    masks: Sequence[np.ndarray], prepared: PreparedSource, ijk_to_ras: np.ndarray | None, common_grid: bool
) -> tuple[list[np.ndarray], list[bool]]:
    """The masks as frames, whose places `prepared` then has; and whether those are the pixels of their images."""
    count, sizes = len(prepared.planes), {plane.size for plane in prepared.planes}
    shape = masks[0].shape if masks else (count, *prepared.planes[0].size)
    if any(mask.shape != shape for mask in masks):
        raise ValueError(f"There are masks of the shapes {sorted({mask.shape for mask in masks})}.")
    if ijk_to_ras is None:
        if {(count, *size) for size in sizes} != {shape}:
            raise ValueError(f"A mask of shape {shape} does not fit {count} images of {sorted(sizes)}.")
        return list(masks), [True] * count
    where = placement(prepared.planes, ijk_to_ras, shape)
    if common_grid and not where.is_grid:
        along_k = np.array([(0, 0, k, 1) for k in range(count)]).T
        prepared.place(where.shape, (RAS_FROM_LPS @ ijk_to_ras @ along_k).T[:, :3])
        return list(masks), where.in_place.tolist()
    prepared.place(where.largest)
    return [where.on_images(mask) for mask in masks], [True] * count


def write_dicom_seg(segmentation: Segmentation, path: Path, options: SegOptions = SegOptions()) -> Dataset:
    """Writes the DICOM SEG of a volume that was read from DICOM, and returns it.

    Raises:
        InputError: The volume was not read from DICOM, or as `make_dicom_seg`.
        OutputError: As `save_dicom`.
    """
    volume = segmentation.volume
    if volume.dicom is None:
        raise InputError(f"'{volume.name}' was not read from DICOM: a DICOM SEG refers to the images it was made from.")
    masks = [segmentation.labels == segment.label for segment in segmentation.task.segments]
    segments = [
        replace(described, algorithm_type=segmentation.algorithm_type(segment.label))
        for described, segment in zip(
            task_segments(segmentation.task, segmentation.model), segmentation.task.segments, strict=True
        )
    ]
    seg = make_dicom_seg(masks, segments, volume.dicom, options, volume.ijk_to_ras)
    save_dicom(seg, path)
    return seg


def seg_warnings(volume: Volume, options: SegOptions = SegOptions()) -> tuple[str, ...]:
    """Sentences for the user about the DICOM SEG of a volume that was read from DICOM: what had to be decided.

    Raises:
        InputError: As `make_dicom_seg`.
    """
    planes = planes_of(volume.dicom)
    where = placement(planes, volume.ijk_to_ras, volume.shape)
    said = [frame_of_reference_warning(volume.dicom)]
    if not (where.is_grid or options.common_grid):
        moved = float(np.linalg.norm((where.offsets - where.offsets[0]) * volume.spacing[1:], axis=1).max())
        said.append(
            f"The images of the slices lie up to {moved:.1f} mm beside one another: each frame of the DICOM SEG lies "
            "on its image, and programs that want one grid, such as 3D Slicer, do not read it; with --common-grid it "
            "has one."
        )
    return tuple(filter(None, said))


def _combined(masks: list[np.ndarray]) -> np.ndarray:
    """A labelmap (k, j, i) of the numbers of the segments, from 1; where they overlap, masks (k, j, i, segment)."""
    labels = np.zeros(masks[0].shape, dtype=np.uint8 if len(masks) < 256 else np.uint16)
    for number, mask in enumerate(masks, start=1):
        np.copyto(labels, number, where=mask)
    if np.count_nonzero(labels) == sum(np.count_nonzero(mask) for mask in masks):
        return labels
    # The segment is the last axis, but in memory a mask is in one piece: highdicom takes slice after slice.
    return np.moveaxis(np.stack(masks), 0, -1)


def _encoded(
    pixels: np.ndarray,
    segments: list[SegSegment],
    prepared: PreparedSource,
    options: SegOptions,
    uids: NewUids,
    made: datetime.datetime,
) -> highdicom_seg.Segmentation:
    first = prepared.headers[0]
    try:
        return highdicom_seg.Segmentation(
            source_images=prepared.headers,
            pixel_array=pixels,
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=[_description(n, segment) for n, segment in enumerate(segments, start=1)],
            series_instance_uid=options.series_uid or uids("series"),
            series_number=options.series_number,
            sop_instance_uid=uids("instance"),
            instance_number=options.instance_number,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MANUFACTURER,
            software_versions=__version__,
            device_serial_number="0",  # software has none, the standard requires one
            content_description=options.description,
            content_label="SEGMENTATION",
            transfer_syntax_uid=ExplicitVRLittleEndian,
            omit_empty_frames=False,
            series_description=_series_description(options, prepared.description),
            content_date=DA(made.date()),
            content_time=TM(made.time()),
            series_date=DA(made.date()),
            series_time=TM(made.time()),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"No DICOM SEG can be made from the series {first.SeriesInstanceUID} of {first.SOPClassUID.name}: {error}"
        ) from error


def _series_description(options: SegOptions, of_source: str | None) -> str:
    default = f"Segmentation of {of_source}" if of_source else "Segmentation"
    return options.series_description or _line(default)


def _line(text: str) -> str:
    """A text as an LO value holds it: short, in one line, and with a backslash it would be two."""
    return "".join(c if c.isprintable() else " " for c in text.replace("\\", "/"))[:LONG_STRING].strip()


def _description(number: int, segment: SegSegment) -> SegmentDescription:
    algorithm = None
    if segment.algorithm_name:
        family = segment.algorithm_family or ARTIFICIAL_INTELLIGENCE
        algorithm = AlgorithmIdentificationSequence(
            _line(segment.algorithm_name), to_concept(family), segment.algorithm_version or ""
        )
    description = SegmentDescription(
        segment_number=number,
        segment_label=_line(segment.name) or segment.type.meaning,
        segmented_property_category=to_concept(segment.category),
        segmented_property_type=to_concept(segment.type),
        algorithm_type=segment.algorithm_type,
        algorithm_identification=algorithm,
        anatomic_regions=[to_concept(segment.region)] if segment.region else None,
        display_color=to_cielab(segment.color),
    )
    if segment.algorithm_version is None or segment.algorithm_family is None:
        # It takes both to identify an algorithm; its name is in the description all the same.
        description.pop("SegmentationAlgorithmIdentificationSequence", None)
    if segment.modifier:
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [to_concept(segment.modifier)]
    if segment.region and segment.region_modifier:
        description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [to_concept(segment.region_modifier)]
    return description


def _complete(
    seg: highdicom_seg.Segmentation,
    source: DicomSource,
    options: SegOptions,
    uids: NewUids,
    made: datetime.datetime,
) -> None:
    """What highdicom has no argument for."""
    seg.SpecificCharacterSet = UTF8  # newer versions of highdicom take it from the source
    seg.ContentCreatorName = person_name(options.content_creator)
    seg.InstanceCreationDate, seg.InstanceCreationTime = seg.ContentDate, seg.ContentTime
    for equipment in seg.ContributingEquipmentSequence:
        if "ContributionDateTime" in equipment:
            equipment.ContributionDateTime = DT(made)
    organisation = uids("dimensions")
    for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        item.DimensionOrganizationUID = organisation
    center = source.headers[0].get("ClinicalTrialCoordinatingCenterName")
    if center or any(element.tag.group == 0x0012 for element in seg):
        seg.ClinicalTrialCoordinatingCenterName = center or ""


def _digest(
    masks: list[np.ndarray],
    segments: list[SegSegment],
    source: DicomSource,
    options: SegOptions,
    prepared: PreparedSource,
) -> bytes | None:
    """What a deterministic file follows from; None if it need not be one."""
    if not options.deterministic_uids:
        return None
    digest = hashlib.sha256()
    instances = [str(header.SOPInstanceUID) for header in source.headers]
    places = [str(header.ImagePositionPatient) for header in prepared.headers]
    versions = [__version__, version("highdicom"), version("pydicom")]
    digest.update(repr((instances, source.frames, places, segments, options, versions)).encode())
    for mask in masks:
        digest.update(np.packbits(mask))
    return digest.digest()
