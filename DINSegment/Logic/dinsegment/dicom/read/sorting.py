"""From the images of one DICOM series to the grid that they make up and the phases that they show."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from dinsegment.dicom.read.frames import Frame, complex_component, kind_of, time_of
from dinsegment.dicom.read.header import Header
from dinsegment.dicom.read.picture import TIMES
from dinsegment.errors import InputError
from dinsegment.geometry import LEAN_DEGREES, RAS_FROM_LPS, check_spacing

SAME_POSITION_MM = 0.01
"""Images closer than this along the slice normal show the same slice."""

PLACE_ROUNDING_MM = 0.1
"""Positions that are written with one decimal are off by less."""

SAME_DIRECTION = 1e-3
"""Direction cosines that differ by less are written with few digits."""

UNEVEN = 0.1
"""Share of the distance between slices by which they may be off: no slice is missing there."""

_KINDS = {
    "EchoTime": "echo times",
    "EffectiveEchoTime": "echo times",
    "InversionTime": "inversion times",
    "FlipAngle": "flip angles",
    "DiffusionBValue": "b-values",
    "ImageType": "image types",
}
"""Attributes that make several images of a slice no phases of a movement."""


def series_of(headers: Sequence[Header]) -> dict[str, list[Header]]:
    """The images of each series, by its UID."""
    by_uid: dict[str, list[Header]] = {}
    for header in headers:
        by_uid.setdefault(header.text("SeriesInstanceUID"), []).append(header)
    return by_uid


def list_series(by_uid: dict[str, list[Header]]) -> str:
    """Series in words, in the order of their numbers."""
    by_number = sorted(by_uid.items(), key=lambda entry: entry[1][0].integer("SeriesNumber") or 0)
    return "; ".join(f"{_describe(series)} {uid or 'without a UID'}" for uid, series in by_number)


def _describe(series: list[Header]) -> str:
    images = sum(max(header.integer("NumberOfFrames") or 1, 1) for header in series)
    return f"'{_description(series[0])}' ({images} image{'s' * (images != 1)})"


def _description(header: Header) -> str:
    """Series Description as its character set says."""
    try:
        text = str(header.dataset.get("SeriesDescription") or "") if header.text("SpecificCharacterSet") else ""
    except Exception:  # pydicom raises whatever it stumbles upon
        text = ""
    return " ".join((text or header.text("SeriesDescription")).split()) or "no description"


def choose_component(path: Path, frames: list[Frame], warn: Callable[[str], None]) -> list[Frame]:
    """The magnitude images where a series has them beside the others, which show no movement of their own.

    Raises:
        InputError: The parts do not go in pairs, or there is no magnitude among them.
    """
    components = [complex_component(frame) for frame in frames]
    counts = Counter(components)
    if len(counts) == 1:
        return frames
    names = " and ".join(sorted(name or "other" for name in counts))
    if "magnitude" not in counts or len(set(counts.values())) > 1:
        raise InputError(f"'{path}' mixes {names} images in one series: give a folder with the magnitude images alone.")
    warn(f"'{path}' mixes {names} images in one series; only the magnitude images are read.")
    return [frame for frame, component in zip(frames, components, strict=True) if component == "magnitude"]


def check_alike(path: Path, frames: list[Frame]) -> None:
    """Raises InputError unless all images are parallel, of one size and one pixel spacing."""
    first = frames[0]
    checks: dict[str, Callable[[Frame], bool]] = {
        "orientations": lambda one: bool(np.abs(one.axes - first.axes).max() < SAME_DIRECTION),
        "image sizes": lambda one: one.size == first.size,
        "pixel spacings": lambda one: np.allclose(one.pixel_spacing, first.pixel_spacing, rtol=1e-4, atol=0),
        "rescaled and raw pixels": lambda one: one.rescaling == first.rescaling,
        "bright and dark as what is large": lambda one: one.is_inverted == first.is_inverted,
    }
    for what, alike in checks.items():
        different = sum(not alike(one) for one in frames)
        if different:
            raise InputError(
                f"'{path}' mixes {what}, {different} of its {len(frames)} images differ from "
                f"'{first.label}': give a folder with parallel slices of one kind, without localizers."
            )


def group_slices(frames: list[Frame]) -> list[list[Frame]]:
    """The images of each slice, in the order of the slices along their normal."""
    normal = np.cross(*frames[0].axes)
    heights = np.array([normal @ one.position for one in frames])
    order = np.argsort(heights, kind="stable")
    starts = np.flatnonzero(np.diff(heights[order]) > SAME_POSITION_MM) + 1
    return [[frames[n] for n in group] for group in np.split(order, starts)]


def grid(path: Path, slices: list[list[Frame]], warn: Callable[[str], None]) -> np.ndarray:
    """IJK-to-RAS of the slices: i grows along a row, j along a column, k from slice to slice.

    The distance between slices comes from their positions; only of a single slice the header says how thick it is.

    Raises:
        InputError: Slices are missing, unevenly spaced, shifted sideways, or lean as those of a tilted gantry.
    """
    first = slices[0][0]
    between_rows, between_columns = first.pixel_spacing
    ijk_to_lps = np.eye(4)
    ijk_to_lps[:3, 0] = first.axes[0] * between_columns
    ijk_to_lps[:3, 1] = first.axes[1] * between_rows
    ijk_to_lps[:3, 2] = _slice_step(path, slices, warn)
    ijk_to_lps[:3, 3] = first.position
    return RAS_FROM_LPS @ ijk_to_lps


def _slice_step(path: Path, slices: list[list[Frame]], warn: Callable[[str], None]) -> np.ndarray:
    """From a slice to the next, millimetres in LPS."""
    first = slices[0][0]
    normal = np.cross(*first.axes)
    if len(slices) == 1:
        distance = first.number_of("SpacingBetweenSlices") or first.number_of("SliceThickness") or math.nan
        check_spacing(first.path, [distance])
        step = normal * distance
    else:
        step = (slices[-1][0].position - first.position) / (len(slices) - 1)
    tolerance = max(SAME_POSITION_MM, 0.01 * float(normal @ step))
    upright = normal * (normal @ step)
    lean = float(np.linalg.norm(step - upright))
    tilt = math.degrees(math.atan2(lean, float(normal @ step)))
    rounding = PLACE_ROUNDING_MM if tilt > LEAN_DEGREES else 0.0
    if lean * (len(slices) - 1) <= max(tolerance, rounding):
        step, tilt = upright, 0.0  # the rest is rounding
    for number, images in enumerate(slices):
        for image in images:
            off = image.position - first.position - number * step
            along = float(normal @ off)
            sideways = float(np.linalg.norm(off - along * normal))
            if abs(along) > max(tolerance, UNEVEN * float(normal @ step)) or sideways > max(
                tolerance, PLACE_ROUNDING_MM
            ):
                raise _uneven(path, slices, normal)
    if len(slices) > 1:
        _check_gaps(path, slices, normal, tolerance, warn)
    if tilt > LEAN_DEGREES:
        raise InputError(
            f"'{path}' was scanned with a tilted gantry, its slices lean by {tilt:.1f} degrees: load it in 3D Slicer, "
            "which straightens such scans, and save the volume as NRRD."
        )
    return step


def _check_gaps(
    path: Path, slices: list[list[Frame]], normal: np.ndarray, tolerance: float, warn: Callable[[str], None]
) -> None:
    gaps = np.diff([normal @ images[0].position for images in slices])
    mean = float(gaps.mean())
    if np.abs(gaps - mean).max() > max(tolerance, PLACE_ROUNDING_MM, UNEVEN * mean):
        raise _uneven(path, slices, normal)
    if gaps.max() - gaps.min() > max(2 * tolerance, 2 * PLACE_ROUNDING_MM):
        warn(
            f"'{path}' has slices {gaps.min():.4g} to {gaps.max():.4g} mm apart, a gap that differs from the others: "
            f"they are taken as {mean:.4g} mm apart."
        )


def _uneven(path: Path, slices: list[list[Frame]], normal: np.ndarray) -> InputError:
    gaps = np.diff([normal @ images[0].position for images in slices])
    if len(slices) == 1 or gaps.max() - gaps.min() <= max(SAME_POSITION_MM, 0.01 * gaps.mean()):
        return InputError(f"'{path}' has slices that are shifted sideways against each other: give one straight stack.")
    return InputError(
        f"'{path}' has slices {gaps.min():.4g} to {gaps.max():.4g} mm apart, so some are missing or from "
        "another stack: export the complete series again."
    )


def order_phases(path: Path, slices: list[list[Frame]]) -> list[list[Frame]]:
    """The slices of each phase: a phase is the rank of a time within its slice.

    Raises:
        InputError: Images are missing, double, or of several kinds that are no phases.
    """
    counts = sorted({len(images) for images in slices})
    if len(counts) > 1:
        raise InputError(
            f"'{path}' has from {counts[0]} to {counts[-1]} images per slice, so some are missing or double: "
            "export the complete series again."
        )
    if counts == [1]:
        return [[images[0] for images in slices]]
    for keyword, what in _KINDS.items():
        kinds = [{kind_of(image, keyword) for image in images} for images in slices]
        differing = [values for values in kinds if len(values) > 1]
        if differing:
            listed = ", ".join(sorted(value or "none" for value in differing[0]))
            raise InputError(
                f"'{path}' has several images of each slice that differ in their {what} ({listed}), so they are no "
                "phases of a movement: give a folder with images of one kind."
            )
    for keyword in TIMES:
        times = [[time_of(image, keyword) for image in images] for images in slices]
        if all(None not in row and len(set(row)) == len(row) for row in times):
            ranks = np.argsort(np.array(times, dtype=float), axis=1)
            return [[images[n] for images, n in zip(slices, phase, strict=True)] for phase in ranks.T]
    raise InputError(
        f"'{path}' has every slice {counts[0]} times with nothing to tell them apart: remove the duplicates."
    )
