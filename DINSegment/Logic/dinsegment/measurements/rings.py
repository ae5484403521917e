"""The left ventricle's wall in short-axis slices: where it is a closed ring, and its inner and outer border."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from dinsegment.images.pieces import largest_component
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.slices import SliceStack

ANGLES = 180
"""Directions from the ventricle's centre in which its borders are measured."""

OPEN_SHARE = 0.03
"""A wall is open where more than this share of the cavity's border pixels has no muscle beside it."""

SMALLEST_CM2 = 0.2
"""A smaller cavity is a few pixels, whose borders are nowhere in particular."""

SMOOTH_PIXELS = 1.0
"""Standard deviation of the Gaussian that takes the steps of pixels from a border: it moves one of 25 mm by 0.04 mm."""

TOUCHING_MM = 3.0
"""The right ventricle is at the wall where its nearest pixel is no farther from the outer border."""


TO_APEX = np.array([-1.0, 1.0, -1.0]) / np.sqrt(3)
"""In RAS: from the base of a heart to its apex."""

LEAST_LEAN = 0.4
"""Cosine between the slices' normal and `TO_APEX`: of less nobody can say which way they run."""


@dataclass(frozen=True, eq=False)
class Ring:
    """The left ventricle in one slice.

    Attributes:
        slice: Its number in the stack, counted from 0.
        center: Row and column of the centre, in mm from the first pixel.
        endocardium: (ANGLES, 2) places of the inner border, as `center`; None for a slice below the cavity.
        epicardium: (ANGLES, 2) places of the outer border.
        right: In which directions the right ventricle touches the wall, (ANGLES,) bool.
    """

    slice: int
    center: np.ndarray
    endocardium: np.ndarray | None
    epicardium: np.ndarray
    right: np.ndarray


def directions() -> np.ndarray:
    """The angles, in radians, in which borders are measured: from the direction of columns towards that of rows."""
    return 2 * np.pi * np.arange(ANGLES) / ANGLES


def rings_of(segmentation: Segmentation) -> tuple[list[Ring], list[int], list[int]]:
    """The left ventricle in the slices of a segmentation.

    Returns:
        Slices whose wall is a closed ring around a cavity, and those that have muscle alone; the numbers, counted from
        0, of slices whose wall is open, as at the valves; and of those that show but a few pixels, as at the apex. All
        in the order of the slices.
    """
    task = segmentation.task
    stack = SliceStack.of(segmentation.volume).like(segmentation.labels)
    heart = largest_component(np.isin(stack.array, (task.chamber, task.muscle)))
    rings, open_slices, small = [], [], []
    fewest = SMALLEST_CM2 / (float(np.prod(stack.spacing)) / 100)
    for k in np.flatnonzero(heart.any(axis=(1, 2))):
        labels = np.where(heart[k], stack.array[k], 0)
        right = stack.array[k] == task.right_chamber
        ring = _ring(int(k), labels == task.chamber, labels == task.muscle, right, np.array(stack.spacing))
        if ring is not None:
            rings.append(ring)
        elif (labels == (task.chamber if (labels == task.chamber).any() else task.muscle)).sum() < fewest:
            small.append(int(k))
        else:
            open_slices.append(int(k))
    return rings, open_slices, small


def apex_first(phases: Sequence[Segmentation]) -> bool:
    """Whether the slices run from apex to base, of one heart in one phase or several.

    From base to apex is to the left, to the front and down, where the images tell how the patient lies. Otherwise both
    ventricles together are smaller towards the apex: so it is in all 160 volumes of ACDC's training and validation
    patients.
    """
    volume = phases[0].volume
    stack = SliceStack.of(volume)
    if volume.dicom is not None:
        along = volume.ijk_to_ras[:3, 2 - stack.axis]
        lean = float(along @ TO_APEX / np.linalg.norm(along))
        if abs(lean) >= LEAST_LEAN:
            return lean < 0
    difference = 0
    for phase in phases:
        task, labels = phase.task, stack.like(phase.labels).array
        shown = np.flatnonzero((labels == task.chamber).any(axis=(1, 2)))
        ventricles = [n for n in (task.chamber, task.muscle, task.right_chamber) if n]
        areas = np.isin(labels, ventricles).sum(axis=(1, 2))
        half = len(shown) // 2
        difference += int(areas[shown[:half]].sum() - areas[shown[len(shown) - half :]].sum())
    return difference < 0


def _ring(k: int, cavity: np.ndarray, muscle: np.ndarray, right: np.ndarray, spacing: np.ndarray) -> Ring | None:
    wall = cavity | muscle
    pixel_cm2 = float(np.prod(spacing)) / 100
    if not cavity.any():
        # Below the cavity: the tip of the muscle belongs to the outer border.
        outer = _border(ndimage.binary_fill_holes(muscle), spacing)
        if outer is None or muscle.sum() * pixel_cm2 < SMALLEST_CM2:
            return None
        center = outer.mean(axis=0)
        epicardium = _polar(outer, center)
        return Ring(k, center, None, epicardium, _touching(epicardium, right, spacing))
    border = cavity & ~ndimage.binary_erosion(cavity, border_value=0)
    open_border = border & ndimage.binary_dilation(~np.pad(wall, 1))[1:-1, 1:-1]
    if cavity.sum() * pixel_cm2 < SMALLEST_CM2 or open_border.sum() > OPEN_SHARE * border.sum():
        return None
    inner, outer = (
        _border(ndimage.binary_fill_holes(cavity), spacing),
        _border(ndimage.binary_fill_holes(wall), spacing),
    )
    if inner is None or outer is None:
        return None
    center = np.array(ndimage.center_of_mass(cavity)) * spacing
    epicardium = _polar(outer, center)
    touching = _touching(epicardium, right, spacing)
    return Ring(k, center, _polar(inner, center), epicardium, touching)


def _border(mask: np.ndarray, spacing: np.ndarray) -> np.ndarray | None:
    """The longest closed line around a mask, (points, 2) rows and columns in mm; None where there is none."""
    from contourpy import contour_generator

    box = ndimage.find_objects(mask.astype(np.uint8))
    if not box:
        return None
    margin = 4
    rows, columns = box[0]
    smooth = ndimage.gaussian_filter(np.pad(mask[box[0]].astype(float), margin), SMOOTH_PIXELS)
    lines = [line for line in contour_generator(z=smooth).lines(0.5) if len(line) > 4]
    if not lines:
        return None
    line = max(lines, key=len)[:, ::-1]  # columns come first
    return (line + np.array([rows.start - margin, columns.start - margin])) * spacing


def _polar(line: np.ndarray, center: np.ndarray) -> np.ndarray:
    """A closed line at even directions from a centre."""
    offset = line - center
    angle = np.arctan2(offset[:, 0], offset[:, 1])
    radius = np.hypot(*offset.T)
    order = np.argsort(angle)
    even = directions()
    at = np.interp(even, angle[order], radius[order], period=2 * np.pi)
    return center + at[:, None] * np.column_stack([np.sin(even), np.cos(even)])


def _touching(epicardium: np.ndarray, right: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """In which directions the right ventricle touches the outer border."""
    if not right.any():
        return np.zeros(len(epicardium), bool)
    distance = ndimage.distance_transform_edt(~right, spacing)
    at = ndimage.map_coordinates(distance, (epicardium / spacing).T, order=1, mode="nearest")
    return at <= TOUCHING_MM
