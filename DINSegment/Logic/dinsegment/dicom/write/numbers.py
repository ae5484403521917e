"""Measured numbers as content of a DICOM SR: coded names, units, and the phases that each comes from.

A concept that neither SNOMED CT, LOINC nor DICOM has, or whose code another number of the same group has, is coded with
the key by which the library's files know it, in a scheme of this library's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    FindingSite,
    Measurement,
    MeasurementProperties,
    MeasurementsAndQualitativeEvaluations,
    NormalRangeProperties,
    NumContentItem,
    RelationshipTypeValues,
    SourceImageForMeasurement,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom import Dataset

from dinsegment.dicom.codes import to_concept
from dinsegment.dicom.uids import derived_uid
from dinsegment.dicom.write.save import MANUFACTURER
from dinsegment.dicom.write.seg import SegOptions
from dinsegment.measurements.measurement import Measurement as Number
from dinsegment.measurements.walls import aha_segments
from dinsegment.tasks import LEFT_VENTRICLE, Code
from dinsegment.version import __version__

OWN_SCHEME = "99DINSEGMENT"
LONGEST_MEANING = 64

RIGHT_VENTRICLE = Code("SCT", "53085002", "Right ventricle")
MYOCARDIUM = Code("SCT", "74281007", "Myocardium")

VOXEL_SUM = Code("DCM", "126030", "Sum of segmented voxel method for volume")
"""How volumes were measured (CID 7474)."""

EJECTION_FRACTION = {
    "MR": Code("LN", "8811-2", "Left ventricular ejection fraction by MR"),
    "CT": Code("LN", "8810-4", "Left ventricular ejection fraction by CT"),
}
"""By modality (CID 3833); for others there is `CARDIAC_EJECTION_FRACTION`."""

CARDIAC_EJECTION_FRACTION = Code("SCT", "70822001", "Cardiac ejection fraction")

CODES = {
    "cardiac_output_bsa": Code("SCT", "54993008", "Cardiac Index"),
    "lv_sv_bsa": Code("SCT", "277381004", "Stroke Index"),
    "rv_sv_bsa": Code("SCT", "429619008", "RV Stroke Index"),
}
"""Of numbers that have a concept of their own where they are indexed."""

SHARED = ("lv_mass_es", "rv_esv_lv", "rv_ef_lv")
"""Kinds whose code another number of their group has, which the code is more usual for."""

UNITS = {
    "ml": ("ml", "milliliter"),
    "%": ("%", "percent"),
    "g": ("g", "gram"),
    "l/min": ("l/min", "liter per minute"),
    "ml/s": ("ml/s", "milliliter per second"),
    "ms": ("ms", "millisecond"),
    "mm": ("mm", "millimeter"),
    "HU": ("[hnsf'U]", "Hounsfield unit"),
    "ml/m²": ("ml/m2", "milliliter per square meter"),
    "ml/m": ("ml/m", "milliliter per meter"),
    "g/m²": ("g/m2", "gram per square meter"),
    "g/m": ("g/m", "gram per meter"),
    "l/min/m²": ("l/min/m2", "liter per minute per square meter"),
    "": ("1", "no units"),
}
"""UCUM's code and its meaning."""

NORMALITY = {
    "below": Code("SCT", "371880002", "Abnormally Low"),
    "within": Code("SCT", "17621005", "Normal"),
    "above": Code("SCT", "371879000", "Abnormally High"),
}
"""Of a number in the range of healthy people (CID 222)."""

LOWER_LIMIT = Code("SCT", "385524004", "Normal Range Lower Limit")
UPPER_LIMIT = Code("SCT", "371933006", "Normal Range Upper Limit")
"""Of that range (CID 223)."""

COMMENT = Code("DCM", "121106", "Comment")

GROUPS = (
    ("lv_", "Left ventricular function", LEFT_VENTRICLE),
    ("cardiac_output", "Left ventricular function", LEFT_VENTRICLE),
    ("rv_", "Right ventricular function", RIGHT_VENTRICLE),
)
"""By how a kind begins: the group that it is in, and what that is about."""


def name_of(number: Number, modality: str) -> Code:
    """The coded name of a number."""
    if number.kind == "lv_ef":
        return EJECTION_FRACTION.get(modality, CARDIAC_EJECTION_FRACTION)
    code = CODES.get(number.key)
    if code is None and not number.index and number.kind not in SHARED:
        code = number.definition.code
    if code is not None:
        return code
    meaning = number.name.replace(", indexed to body surface area", " / BSA").replace(
        ", indexed to height", " / height"
    )
    key = f"{number.kind}_{number.index}" if number.index else number.kind
    return Code(OWN_SCHEME, key, meaning[:LONGEST_MEANING])


def to_item(number: Number, segs: Sequence[Dataset | None], modality: str, root: str | None) -> Measurement:
    """A number as a NUM item, with the DICOM SEGs of the phases that it comes from.

    Args:
        number: With a value.
        segs: The DICOM SEG of each phase; None for a phase without a voxel, which has none to refer to.
        modality: Of the images.
        root: Of new UIDs.
    """
    unit, meaning = UNITS[number.unit]
    volume = number.definition.unit == "ml" and not number.index and len(number.phases) == 1
    study = next(str(seg.StudyInstanceUID) for seg in segs if seg is not None)
    return Measurement(
        name=to_concept(name_of(number, modality)),
        value=number.value,
        unit=to_concept(Code("UCUM", unit, meaning)),
        tracking_identifier=TrackingIdentifier(derived_uid(root, "number", study, number.key), number.name)
        if number.kind.startswith("wall_")
        else None,
        method=to_concept(VOXEL_SUM) if volume else None,
        properties=_normality(number, to_concept(Code("UCUM", unit, meaning))),
        referenced_images=[
            SourceImageForMeasurement(segs[phase].SOPClassUID, segs[phase].SOPInstanceUID)
            for phase in number.phases
            if segs[phase] is not None
        ],
    )


def _normality(number: Number, unit: CodedConcept) -> MeasurementProperties | None:
    """Where a number lies among those of healthy people (TID 310, TID 312); None where nobody knows."""
    known = number.normal
    if known is None or number.read is None:
        return None
    return MeasurementProperties(
        normality=to_concept(NORMALITY[known.place_of(number.read)]),
        normal_range_properties=NormalRangeProperties(
            [
                NumContentItem(to_concept(name), end, unit, relationship_type=RelationshipTypeValues.HAS_PROPERTIES)
                for name, end in ((LOWER_LIMIT, known.low), (UPPER_LIMIT, known.high))
            ],
            description=known.source.population,
            authority=f"{known.source.short}, doi {known.source.doi}",
        ),
    )


def heart_groups(
    numbers: Iterable[Number], segs: Sequence[Dataset | None], modality: str, options: SegOptions
) -> list[MeasurementsAndQualitativeEvaluations]:
    """Groups (TID 1501) of both ventricles, and of each segment of the wall with its finding site (CID 3717)."""
    measured = [number for number in numbers if number.value is not None]
    groups = []
    for title, about in dict((title, about) for _, title, about in GROUPS).items():
        begins = tuple(begin for begin, of, _ in GROUPS if of == title)
        found = [number for number in measured if not number.subject and number.kind.startswith(begins)]
        if found:
            groups.append(group_of(title, about, [site_of(about)], found, segs, modality, options))
    for segment in aha_segments():
        found = [number for number in measured if number.subject == segment.subject]
        if found:
            sites = [site_of(segment.code)]
            groups.append(group_of(segment.subject, MYOCARDIUM, sites, found, segs, modality, options))
    return groups


def site_of(code: Code) -> FindingSite:
    """Where something was measured, by a code alone."""
    return FindingSite(to_concept(code))


def group_of(
    title: str,
    about: Code,
    sites: Sequence[FindingSite],
    numbers: Sequence[Number],
    segs: Sequence[Dataset | None],
    modality: str,
    options: SegOptions,
) -> MeasurementsAndQualitativeEvaluations:
    """A group of numbers about one structure, or several together, and what is to be known of them (TID 1501)."""
    study = next(str(seg.StudyInstanceUID) for seg in segs if seg is not None)
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(derived_uid(options.uid_root, "tracking", study, title), title),
        finding_type=to_concept(about),
        finding_sites=list(sites),
        algorithm_id=AlgorithmIdentification(MANUFACTURER, __version__),
        measurements=[to_item(number, segs, modality, options.uid_root) for number in numbers] or None,
    )
    add_comments(group, [number.remarked for number in numbers])
    return group


def add_comments(group: MeasurementsAndQualitativeEvaluations, texts: Iterable[str]) -> None:
    """Adds sentences to a group, those that say something."""
    for text in filter(None, texts):
        group[0].ContentSequence.append(TextContentItem(to_concept(COMMENT), text, RelationshipTypeValues.CONTAINS))
