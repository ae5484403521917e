"""What a CT of the abdomen is measured for: volumes, attenuation in Hounsfield units, lengths, the width of vessels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pydicom import Dataset
from scipy import ndimage

from dinsegment.images.pieces import CUT_AREA_CM2, large_pieces
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.volume import Volume
from dinsegment.measurements.extents import greatest_width, height_mm, length_mm, superior_end
from dinsegment.measurements.measurement import Measurement
from dinsegment.measurements.volumes import SegmentVolume
from dinsegment.tasks import Segment, Task

AIR = -900.0
"""Below this an image has air, so that it is not cut off above it, in Hounsfield units."""

BONE = 1000.0
"""Above this an image has dense bone or metal."""

CLIPPED_BELOW, CLIPPED_ABOVE = 0.005, 0.0002
"""An image is clipped where at least this share of its voxels has its smallest, or its largest, value."""

CONTRAST_HU = 80.0
"""Blood is denser where it holds contrast agent: without, it has 30 to 60 Hounsfield units."""

NO_AGENT = ("", "NO", "NONE", "N/A", "NA", "WITHOUT", "UNENHANCED")
"""What stands for no contrast agent where the name of one does."""

OTHER_ROUTES = ("ORAL", "RECTAL", "PO")
"""Contrast agent that was given in these ways is in the bowel alone."""

_CONTRAST = ("ContrastBolusAgent", "ContrastBolusRoute")

CLIPPED = "The image is clipped to a range of grey values."
NOTHING_LEFT = "Without its outermost voxels nothing is left of it."
CUT = "The image's edge cuts it."
NO_VESSEL = "It has no centre line that could be followed."
MISSING = "It was not found."


def organ_measurements(segmentation: Segmentation, volumes: list[SegmentVolume]) -> list[Measurement]:
    """The volume of every segment, and what its task asks for beside (`tasks.Segment.measures`).

    Args:
        segmentation: Of one image.
        volumes: Of its segments, in the order of their labels.
    """
    task = segmentation.task
    is_ct = task.modality == "CT"
    clipped = is_ct and is_clipped(segmentation.volume.array)
    found: list[Measurement] = []
    parts = _Parts(segmentation)
    for segment, volume in zip(task.segments, volumes, strict=True):
        organ = parts.of(segment.label)
        if organ is None:
            found.append(Measurement("volume", None, segment.name, reason=MISSING, segments=(segment.label,)))
            continue
        found.append(Measurement("volume", volume.volume_ml, segment.name, segments=(segment.label,)))
        for what in segment.measures:
            found += _MEASURES[what](organ, segment, parts, clipped)
    by_key = {m.key: m for m in found}
    for first, second in task.compared:
        one, other = (by_key.get(_hu_key(task.segments[label - 1])) for label in (first, second))
        if one is not None and other is not None:
            found += _compared(one, other)
    return found


@dataclass(frozen=True, eq=False)
class _Part:
    """A part of an image, and a mask of the same shape; it ends a voxel beyond the mask or at the image's edge."""

    volume: Volume
    mask: np.ndarray


class _Parts:
    """The parts of an image in which its segments lie: all of a large CT takes half a second for each question."""

    def __init__(self, segmentation: Segmentation) -> None:
        self.segmentation = segmentation
        self._boxes = ndimage.find_objects(segmentation.labels, max_label=segmentation.task.classes - 1)

    def of(self, *labels: int) -> _Part | None:
        """That of some segments together; None where there is none of them."""
        boxes = [box for box in (self._boxes[label - 1] for label in labels) if box is not None]
        if not boxes:
            return None
        ends = [(min(s.start for s in along), max(s.stop for s in along)) for along in zip(*boxes, strict=True)]
        shape = self.segmentation.labels.shape
        box = tuple(slice(max(0, start - 1), min(n, stop + 1)) for (start, stop), n in zip(ends, shape, strict=True))
        return _Part(self.segmentation.volume.part(box), np.isin(self.segmentation.labels[box], labels))


def is_clipped(array: np.ndarray) -> bool:
    """Whether a CT's grey values were cut off, as in a copy made for a network: many voxels have the same extreme."""
    low, high = array.min(), array.max()
    below = low > AIR and float(np.mean(array == low)) >= CLIPPED_BELOW
    above = high < BONE and float(np.mean(array == high)) >= CLIPPED_ABOVE
    return bool(below or above)


def has_contrast(segmentation: Segmentation, measurements: list[Measurement]) -> bool | None:
    """Whether contrast agent was given: as DICOM says, else by how dense vessels are; None where nobody can say."""
    dicom = segmentation.volume.dicom
    if dicom is not None and _was_injected(dicom.headers[0]):
        return True
    vessels = {s.name for s in segmentation.task.segments if "diameter" in s.measures}
    blood = [m.value for m in measurements if m.kind == "hu_mean" and m.subject in vessels and m.value is not None]
    return max(blood) >= CONTRAST_HU if blood else None


def _was_injected(header: Dataset) -> bool:
    """Whether a header names a contrast agent, and no other way into the body than a vessel."""
    agent, route = (str(header.get(keyword) or "").strip().upper() for keyword in _CONTRAST)
    return agent not in NO_AGENT and not set(OTHER_ROUTES) & set(route.split())


def _hu_key(segment: Segment) -> str:
    return Measurement("hu_mean", 0.0, segment.name).key


def _attenuation(organ: _Part, segment: Segment, parts: _Parts, clipped: bool) -> list[Measurement]:
    """Mean and standard deviation without the outermost voxels, which show what is beside, too."""
    kinds, about = ("hu_mean", "hu_sd"), {"subject": segment.name, "segments": (segment.label,)}
    inner = ndimage.binary_erosion(organ.mask)
    reason = CLIPPED if clipped else "" if inner.any() else NOTHING_LEFT
    if reason:
        return [Measurement(kind, None, reason=reason, **about) for kind in kinds]
    grey = organ.volume.array[inner].astype(np.float64)
    return [Measurement(kind, float(v), **about) for kind, v in zip(kinds, (grey.mean(), grey.std()), strict=True)]


def _length(organ: _Part, segment: Segment, parts: _Parts, clipped: bool) -> list[Measurement]:
    return [_whole("length", length_mm, organ, segment)]


def _height(organ: _Part, segment: Segment, parts: _Parts, clipped: bool) -> list[Measurement]:
    return [_whole("height", height_mm, organ, segment)]


def _whole(kind: str, measure: Callable[..., float], organ: _Part, segment: Segment) -> Measurement:
    about = {"subject": segment.name, "segments": (segment.label,)}
    mask = large_pieces(organ.mask)  # an accessory spleen, or a stray voxel of a correction, makes no organ longer
    if _is_cut(mask, organ.volume.spacing):
        return Measurement(kind, None, reason=CUT, **about)
    return Measurement(kind, measure(organ.volume, mask), **about)


def _is_cut(mask: np.ndarray, spacing: np.ndarray) -> bool:
    for axis in range(3):
        pixel_cm2 = float(np.prod(np.delete(spacing, axis))) / 100
        if any(np.take(mask, end, axis).sum() * pixel_cm2 >= CUT_AREA_CM2 for end in (0, -1)):
            return True
    return False


def _diameter(organ: _Part, segment: Segment, parts: _Parts, clipped: bool) -> list[Measurement]:
    about = {"subject": segment.name, "segments": (segment.label,)}
    up_to = np.inf
    if segment.measured_up_to:
        landmarks = parts.of(*segment.measured_up_to)
        if landmarks is None:
            reason = _no_landmark(parts.segmentation.task, segment)
            return [Measurement("diameter", None, reason=reason, **about)]
        up_to = superior_end(landmarks.volume, large_pieces(landmarks.mask))
    width = greatest_width(organ.volume, organ.mask, up_to)
    if width is None:
        return [Measurement("diameter", None, reason=NO_VESSEL, **about)]
    return [Measurement("diameter", width.diameter_mm, place=width.place, **about)]


def _no_landmark(task: Task, segment: Segment) -> str:
    names = [name[0].lower() + name[1:] for name in (task.segments[n - 1].name for n in segment.measured_up_to)]
    return f"It is measured up to the upper end of {' or '.join(names)}, which was not found."


def _compared(one: Measurement, other: Measurement) -> list[Measurement]:
    """Difference and ratio of two organs' mean attenuation."""
    second = other.subject[0].lower() + other.subject[1:]
    about = {"subject": f"{one.subject} and {second}", "segments": one.segments + other.segments}
    if one.value is None or other.value is None:
        reason = one.reason or other.reason
        return [Measurement(kind, None, reason=reason, **about) for kind in ("hu_difference", "hu_ratio")]
    found = [Measurement("hu_difference", one.value - other.value, **about)]
    if other.value > 0:
        found.append(Measurement("hu_ratio", one.value / other.value, **about))
    return found


_MEASURES = {"attenuation": _attenuation, "length": _length, "height": _height, "diameter": _diameter}
"""What a task may ask for, by the names that its file has."""
