"""Measurements as DICOM SR: TID 1500 "Measurement Report", which refers to the DICOM SEG and to its source images.

Every segment of every phase is a group of TID 1411 "Volumetric ROI Measurements": its volume, the segment in the DICOM
SEG, and the source series, or the source images where they are of several series. What the phases of a beat tell of the
left ventricle is one more group, of TID 1501, whose numbers refer to the phases that they were inferred from. The
document is a Comprehensive SR, which archives have taken for decades; Comprehensive 3D SR would add nothing but
coordinates in the patient, of which there are none here.

A group has a finding, the segment's property type, and a finding site, the same structure with its laterality, since
TID 1411 has no place for laterality at the finding.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from highdicom.sr import (
    AlgorithmIdentification,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PersonObserverIdentifyingAttributes,
    ReferencedSegment,
    SourceImageForSegmentation,
    SourceSeriesForSegmentation,
    TimePointContext,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom import Dataset
from pydicom.valuerep import DA, TM

from dinsegment.dicom.codes import from_item, from_sequence, to_concept
from dinsegment.dicom.source import DicomSource
from dinsegment.dicom.uids import NewUids, derived_uid
from dinsegment.dicom.write.numbers import VOXEL_SUM, add_comments, group_of, heart_groups, site_of, to_item
from dinsegment.dicom.write.save import save_dicom, warnings_off
from dinsegment.dicom.write.seg import LONG_STRING, MANUFACTURER, SegOptions
from dinsegment.dicom.write.source import UTF8, series_description, source_datetime
from dinsegment.errors import InputError
from dinsegment.images.segmentation import Segmentation
from dinsegment.measurements.function import CardiacFunction
from dinsegment.measurements.measurement import Measurement as Number
from dinsegment.measurements.volumes import SegmentVolume, segment_volumes
from dinsegment.tasks import LEFT, LEFT_VENTRICLE, RIGHT, Code
from dinsegment.version import __version__

COMPARED = ("hu_difference", "hu_ratio")
"""Kinds of numbers that are of two structures."""

VOLUME = Code("SCT", "118565006", "Volume")
CUBIC_CENTIMETER = Code("UCUM", "cm3", "cubic centimeter")
"""The millilitre among the units that TID 1500 has for volumes (CID 7462)."""

PROCEDURES = {
    "MR": Code("LN", "25056-3", "MRI unspecified body region"),
    "CT": Code("LN", "25045-6", "CT unspecified body region"),
}
"""The procedure reported, by modality (CID 100); for others there is `IMAGING_PROCEDURE`."""

IMAGING_PROCEDURE = Code("SCT", "363679005", "Imaging procedure")
DEVICE = Code("DCM", "121007", "Device")
PERSON = Code("DCM", "121006", "Person")

FUNCTION = "Left ventricular function"
DEFAULTS = SegOptions()


def make_dicom_sr(
    segs: Sequence[Dataset | None],
    volumes: Sequence[Sequence[SegmentVolume]],
    function: CardiacFunction | None,
    sources: Sequence[DicomSource],
    options: SegOptions = DEFAULTS,
    reason: str = "",
    numbers: Sequence[Number] = (),
) -> ComprehensiveSR:
    """Makes the measurement report of all phases of one study.

    Args:
        segs: The DICOM SEG of each phase; None for a phase in which no segment has a voxel.
        volumes: The volumes of each phase, by the names that its DICOM SEG has for its segments. Those that have no
            voxel are in no DICOM SEG, and not in the report either.
        function: What the phases tell of the left ventricle, if they do.
        sources: The images that each DICOM SEG was made from.
        options: As for the DICOM SEG. The report is a series of its own, numbered one higher. A content creator other
            than DINSegment is named as the person who observes, beside the device.
        reason: Why there is no function, where somebody may expect it: it is said in its place.
        numbers: All that was measured, in the place of what `function` has; those without a value are left out.

    Raises:
        InputError: There is nothing to report, as no phase has a segment with a voxel.
    """
    if not len(segs) == len(volumes) == len(sources):
        raise ValueError(f"There are {len(segs)} SEGs, {len(volumes)} phases and {len(sources)} sources.")
    made_from = [seg for seg in segs if seg is not None]
    if not made_from:
        raise InputError("There is nothing to report: no segment has a voxel, so there is no DICOM SEG to refer to.")
    first = made_from[0]
    modality = str(sources[0].headers[0].get("Modality", ""))
    uids = NewUids(options.uid_root, _digest(made_from, volumes, (function or reason, *numbers), options))
    made = source_datetime(sources[0]) if options.deterministic_uids else datetime.datetime.now()
    with warnings_off():
        groups = []
        # Any of the series would do, if it is the same in all phases and reports.
        series = min(uid for source in sources for uid in source.series_uids)
        for number, (seg, of_phase, source) in enumerate(zip(segs, volumes, sources, strict=True), start=1):
            if seg is not None:
                point = _time_point(number, len(segs))
                groups += _segment_groups(seg, of_phase, source, series, point, options, numbers)
        groups += _compared_groups(first, numbers, segs, modality, options)
        known = numbers or (_of_function(function) if function is not None else ())
        groups += heart_groups(known, segs, modality, options)
        if function is None and reason:
            groups.append(_no_function_group(reason, segs, options))
        content = MeasurementReport(
            observation_context=_observers(options),
            procedure_reported=to_concept(PROCEDURES.get(modality, IMAGING_PROCEDURE)),
            imaging_measurements=groups,
        )
        report = ComprehensiveSR(
            # Patient and study come from the first: those of a SEG are complete and valid.
            evidence=[*made_from, *(header for source in sources for header in source.headers)],
            content=content,
            series_instance_uid=uids("measurements series"),
            series_number=options.series_number + 1,
            sop_instance_uid=uids("measurements"),
            instance_number=1,
            is_complete=True,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MANUFACTURER,
            software_versions=__version__,
            device_serial_number="0",  # as in the DICOM SEG
            series_description=_series_description(sources[0]),
            content_date=DA(made.date()),
            content_time=TM(made.time()),
            series_date=DA(made.date()),
            series_time=TM(made.time()),
        )
        report.SpecificCharacterSet = UTF8
        report.InstanceCreationDate, report.InstanceCreationTime = report.ContentDate, report.ContentTime
        # highdicom takes the software that made the SEG for the scanner.
        report.pop("ContributingEquipmentSequence", None)
        if "ContributingEquipmentSequence" in first:
            report.ContributingEquipmentSequence = first.ContributingEquipmentSequence
    return report


def write_dicom_sr(
    phases: Sequence[Segmentation],
    segs: Sequence[Dataset | None],
    function: CardiacFunction | None,
    path: Path,
    options: SegOptions = DEFAULTS,
    reason: str = "",
    numbers: Sequence[Number] = (),
) -> Dataset:
    """Writes the measurement report of volumes that were read from DICOM, and returns it.

    Args:
        phases: The phases of one study, or its only one.
        segs: As for `make_dicom_sr`.
        function: As for `make_dicom_sr`.
        path: Is replaced if it exists.
        options: As for `make_dicom_sr`.
        reason: As for `make_dicom_sr`.
        numbers: As for `make_dicom_sr`.

    Raises:
        InputError: A volume was not read from DICOM, or as `make_dicom_sr`.
        OutputError: As `dicom_save.save_dicom`.
    """
    sources = []
    for phase in phases:
        if phase.volume.dicom is None:
            raise InputError(
                f"'{phase.volume.name}' was not read from DICOM: a DICOM SR refers to the images that were measured."
            )
        sources.append(phase.volume.dicom)
    report = make_dicom_sr(
        segs, [segment_volumes(phase) for phase in phases], function, sources, options, reason, numbers
    )
    save_dicom(report, path)
    return report


def _segment_groups(
    seg: Dataset,
    volumes: Sequence[SegmentVolume],
    source: DicomSource,
    series: str,
    time_point: TimePointContext | None,
    options: SegOptions,
    numbers: Sequence[Number],
) -> list[VolumetricROIMeasurementsAndQualitativeEvaluations]:
    """A group for each segment of a DICOM SEG (TID 1411)."""
    modality = str(source.headers[0].get("Modality", ""))
    by_name = {volume.name[:LONG_STRING]: volume for volume in volumes}
    images = _source_images(source)
    groups = []
    for segment in seg.SegmentSequence:
        name = str(segment.SegmentLabel)
        found = [n for n in numbers if n.subject == name and n.kind != "volume" and n.value is not None]
        # One structure in one series, whichever phase and report it is measured in, is tracked by one UID.
        tracking_uid = derived_uid(options.uid_root, "tracking", str(seg.StudyInstanceUID), series, name)
        groups.append(
            VolumetricROIMeasurementsAndQualitativeEvaluations(
                tracking_identifier=TrackingIdentifier(tracking_uid, name),
                referenced_segment=ReferencedSegment(
                    seg.SOPClassUID,
                    seg.SOPInstanceUID,
                    int(segment.SegmentNumber),
                    source_images=images,
                    source_series=None if images else SourceSeriesForSegmentation(source.series_uids[0]),
                ),
                time_point_context=time_point,
                finding_type=to_concept(from_item(segment.SegmentedPropertyTypeCodeSequence[0])),
                algorithm_id=_algorithm(segment),
                finding_sites=[_finding_site(segment)],
                measurements=[
                    Measurement(
                        name=to_concept(VOLUME),
                        value=by_name[name].volume_ml,
                        unit=to_concept(CUBIC_CENTIMETER),
                        method=to_concept(VOXEL_SUM),
                    ),
                    *(to_item(number, [seg], modality, options.uid_root) for number in found),
                ],
            )
        )
        add_comments(groups[-1], [number.remarked for number in found])
    return groups


def _compared_groups(
    seg: Dataset,
    numbers: Sequence[Number],
    segs: Sequence[Dataset | None],
    modality: str,
    options: SegOptions,
) -> list[MeasurementsAndQualitativeEvaluations]:
    """A group for each two structures that were compared, such as liver and spleen, both being its sites (TID 1501)."""
    measured = [n for n in numbers if n.kind in COMPARED and n.value is not None]
    groups = []
    for subject in dict.fromkeys(number.subject for number in measured):
        names = subject.lower().split(" and ")
        both = [segment for segment in seg.SegmentSequence if str(segment.SegmentLabel).lower() in names]
        both.sort(key=lambda segment: names.index(str(segment.SegmentLabel).lower()))
        if both:
            about = from_item(both[0].SegmentedPropertyTypeCodeSequence[0])
            sites = [_finding_site(segment) for segment in both]
            found = [number for number in measured if number.subject == subject]
            groups.append(group_of(subject, about, sites, found, segs, modality, options))
    return groups


def _source_images(source: DicomSource) -> list[SourceImageForSegmentation] | None:
    """The images one by one, where they are of several series: TID 1411 has room for one series alone."""
    if len(source.series_uids) == 1:
        return None
    frames: dict[str, list[int]] = {}
    for header, frame in source.images:
        frames.setdefault(str(header.SOPInstanceUID), []).extend([] if frame is None else [frame])
    headers = {str(header.SOPInstanceUID): header for header in source.headers}
    return [SourceImageForSegmentation(headers[uid].SOPClassUID, uid, shown or None) for uid, shown in frames.items()]


def _finding_site(segment: Dataset) -> FindingSite:
    """The anatomic region of a segment, or else its type, with what modifies it."""
    region = from_sequence(segment, "AnatomicRegionSequence")
    if region is not None:
        modifier = from_sequence(segment.AnatomicRegionSequence[0], "AnatomicRegionModifierSequence")
    else:
        kind = segment.SegmentedPropertyTypeCodeSequence[0]
        region, modifier = from_item(kind), from_sequence(kind, "SegmentedPropertyTypeModifierCodeSequence")
    if modifier is None:
        return FindingSite(to_concept(region))
    if modifier in (LEFT, RIGHT):
        return FindingSite(to_concept(region), laterality=to_concept(modifier))
    return FindingSite(to_concept(region), topographical_modifier=to_concept(modifier))


def _algorithm(segment: Dataset) -> AlgorithmIdentification | None:
    """What the DICOM SEG says that the segment was made by (TID 4019)."""
    items = segment.get("SegmentationAlgorithmIdentificationSequence")
    if not items or not items[0].get("AlgorithmVersion"):
        return None
    return AlgorithmIdentification(str(items[0].AlgorithmName), str(items[0].AlgorithmVersion))


def _of_function(function: CardiacFunction) -> list[Number]:
    """What the phases tell of the left ventricle, where nothing else was measured."""
    ed, es = (function.end_diastole,), (function.end_systole,)
    return [
        Number("lv_edv", function.end_diastolic_volume_ml, phases=ed),
        Number("lv_esv", function.end_systolic_volume_ml, phases=es),
        Number("lv_sv", function.stroke_volume_ml, phases=ed + es),
        Number("lv_ef", function.ejection_fraction_percent, phases=ed + es),
        Number("lv_mass_ed", function.myocardial_mass_g, phases=ed),
    ]


def _no_function_group(
    reason: str, segs: Sequence[Dataset | None], options: SegOptions
) -> MeasurementsAndQualitativeEvaluations:
    """Why the phases tell nothing of the left ventricle, as a comment where its measurements would be."""
    group = group_of(FUNCTION, LEFT_VENTRICLE, [site_of(LEFT_VENTRICLE)], (), segs, "", options)
    add_comments(group, [reason])
    return group


def _time_point(number: int, count: int) -> TimePointContext | None:
    """Which phase of a cine it is, counted from 1 (TID 1502).

    In words alone: its order would be a number among the measurements, and is read as one of them.
    """
    return TimePointContext(f"Phase {number} of {count}") if count > 1 else None


def _observers(options: SegOptions) -> ObservationContext:
    """The software, and the person who used it where one is named (TID 1002)."""
    device = DeviceObserverIdentifyingAttributes(
        uid=derived_uid(options.uid_root, "device", MANUFACTURER, __version__),
        name=f"{MANUFACTURER} {__version__}",
        manufacturer_name=MANUFACTURER,
        model_name=MANUFACTURER,
    )
    context = ObservationContext(observer_device_context=ObserverContext(to_concept(DEVICE), device))
    if options.content_creator != MANUFACTURER:
        person = PersonObserverIdentifyingAttributes(options.content_creator)
        context.extend(ObserverContext(to_concept(PERSON), person))
    return context


def _series_description(source: DicomSource) -> str:
    described = series_description(source)
    return (f"Measurements of {described}" if described else "Measurements")[:LONG_STRING]


def _digest(
    segs: Sequence[Dataset],
    volumes: Sequence[Sequence[SegmentVolume]],
    told: tuple[object, ...],
    options: SegOptions,
) -> bytes | None:
    """What a deterministic report follows from; None if it need not be one."""
    if not options.deterministic_uids:
        return None
    instances = [str(seg.SOPInstanceUID) for seg in segs]
    versions = [__version__, version("highdicom"), version("pydicom")]
    parts = (instances, [list(of_phase) for of_phase in volumes], told, options, versions)
    return hashlib.sha256(repr(parts).encode()).digest()
