"""How long an organ is, how high, and how wide a vessel across its centre line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

from dinsegment.images.pieces import largest_component
from dinsegment.images.volume import Volume, ras_of

BEYOND_MM = 30.0
"""A vessel is followed so far beyond where it is measured, so that its end there is no end of its centre line."""

LINE_STEP_MM = 2.5
"""Of the grid in which a vessel's centre line is looked for, and between the places where it is measured."""

PIECE_MM = 8.0
"""Along the vessel: the centre line goes through the middles of pieces of this length."""

PLANE_STEP_MM = 0.6
"""Between the places of a cross-section."""

MOST_OBLONG = 1.5
"""A cross-section that is longer than so many times its width is no single vessel's, unless it is widened."""

WIDENED = 1.3
"""An oblong cross-section whose smallest width is so many times a usual one is an aneurysm's: where a vessel divides,
it is longer, and no wider than the vessel."""

STRAIGHT = np.cos(np.radians(15.0))
"""Between a centre line's direction where a cross-section is oblong and that of the vessel around it: where it bends
into a sac, the cross-section lies askew and is longer than the aneurysm is wide."""

USUAL = 25
"""Percentile, of the smallest widths of cross-sections that are not oblong, that is the vessel's usual one."""

SMOOTH_MM = 6.0
"""Standard deviation of the Gaussian along the centre line."""

NEIGHBOURS = 3
"""Cross-sections whose median width is a place's: one that is wide alone is noise."""

SHORTEST_VESSEL = 2.0
"""A piece that is not longer than so many times its width has no centre line."""


def length_mm(volume: Volume, mask: np.ndarray) -> float:
    """The greatest distance in a segment (k, j, i), half way between the middles and the corners of its voxels."""
    surface = mask & ~ndimage.binary_erosion(mask)
    index = np.argwhere(surface)
    corners = np.stack(np.meshgrid(*[[-0.5, 0.5]] * 3, indexing="ij"), -1).reshape(-1, 3)
    outer = np.unique((index[:, None] + corners).reshape(-1, 3), axis=0)
    return (_greatest_distance(_places(volume, index)) + _greatest_distance(_places(volume, outer))) / 2


def height_mm(volume: Volume, mask: np.ndarray) -> float:
    """From the lowest to the highest place of a segment (k, j, i), inferior to superior, slices counted whole."""
    upwards = _places(volume, np.argwhere(mask & ~ndimage.binary_erosion(mask)))[:, 2]
    voxel = np.abs(volume.ijk_to_ras[2, :3]).sum()
    return float(np.ptp(upwards) + voxel)


def _places(volume: Volume, index: np.ndarray) -> np.ndarray:
    return index[:, ::-1] @ volume.ijk_to_ras[:3, :3].T + volume.ijk_to_ras[:3, 3]


def _greatest_distance(places: np.ndarray) -> float:
    try:
        places = places[ConvexHull(places).vertices]
    except QhullError:  # they lie in one plane
        places = places[:: max(1, len(places) // 2000)]
    return float(pdist(places).max()) if len(places) > 1 else 0.0


@dataclass(frozen=True, eq=False)
class Width:
    """The greatest diameter of a vessel, perpendicular to its centre line.

    Attributes:
        diameter_mm: Of the cross-section with the greatest one.
        place: Its middle, in mm in RAS.
        across: Two unit vectors (2, 3) in its plane, along (k, j, i) in mm.
        center: Its middle in mm along (k, j, i).
    """

    diameter_mm: float
    place: tuple[float, float, float]
    across: np.ndarray
    center: np.ndarray


def superior_end(volume: Volume, mask: np.ndarray) -> float:
    """Where a segment (k, j, i) that has voxels ends towards the head, in mm along S of RAS."""
    return float(superior(volume, np.argwhere(mask)).max())


def superior(volume: Volume, indices: np.ndarray) -> np.ndarray:
    """How far towards the head voxels lie, in mm along S of RAS; `indices` (..., 3) are (k, j, i)."""
    return indices[..., ::-1] @ volume.ijk_to_ras[2, :3] + volume.ijk_to_ras[2, 3]


def greatest_width(volume: Volume, mask: np.ndarray, up_to: float = np.inf) -> Width | None:
    """The greatest diameter of a vessel, a segment (k, j, i), across its centre line; None for no vessel's shape.

    Where it divides, and within a radius of its ends, it is not measured.

    Args:
        volume: The image.
        mask: The vessel's voxels.
        up_to: In mm along S of RAS; above, it is not measured.
    """
    if np.isfinite(up_to):
        places = np.argwhere(mask)
        places = places[superior(volume, places) <= up_to + BEYOND_MM]
        mask = np.zeros_like(mask, bool)
        mask[tuple(places.T)] = True
    box = ndimage.find_objects(mask.astype(np.uint8))
    if not box:
        return None
    start = np.array([part.start for part in box[0]])
    vessel = np.pad(largest_component(mask[box[0]]), 2)
    spacing = volume.spacing
    line = _center_line(vessel, spacing)
    if line is None:
        return None
    smooth = ndimage.gaussian_filter(vessel.astype(np.float32), 0.7)
    reach = 2.5 * float(ndimage.distance_transform_edt(vessel, spacing).max()) + 5
    sections = [_section(smooth, spacing, *at, reach) for at in zip(line, _tangents(line), strict=True)]
    # Pieces of a vessel are cut askew at first: their middles lie to one side of its own.
    line = _smoothed([c if s is None else s.center for c, s in zip(line, sections, strict=True)])
    sections = [_section(smooth, spacing, *at, reach) for at in zip(line, _tangents(line), strict=True)]
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    usual = _usual_width(sections)
    whole = [
        s for n, (s, at) in enumerate(zip(sections, along, strict=True))
        if s is not None and min(at, along[-1] - at) >= s.widest / 2
        and (not s.oblong or (s.narrowest >= WIDENED * usual and _is_straight(line, n, s.widest)))
        and superior(volume, s.center / spacing - 2 + start) <= up_to
    ]  # fmt: skip
    if not whole:
        return None
    widths = ndimage.median_filter([s.widest for s in whole], NEIGHBOURS, mode="nearest")
    n = int(np.argmax(widths))
    best = whole[n]
    place = ras_of(volume, best.center / spacing - 2 + start)
    return Width(float(widths[n]), place, best.across, best.center + (start - 2) * spacing)


def _usual_width(sections: Sequence[_Section | None]) -> float:
    """Of a vessel where it is one; infinite where it is one nowhere."""
    widths = [s.narrowest for s in sections if s is not None and not s.oblong]
    return float(np.percentile(widths, USUAL)) if widths else float("inf")


def _is_straight(line: np.ndarray, number: int, reach_mm: float) -> bool:
    """Whether a centre line runs at a place as it does so far on either side: it bends into a sac beside a vessel."""
    steps = int(reach_mm / LINE_STEP_MM)
    chord = line[min(number + steps, len(line) - 1)] - line[max(number - steps, 0)]
    return bool(_tangents(line)[number] @ chord >= STRAIGHT * np.linalg.norm(chord))


def _tangents(line: np.ndarray) -> np.ndarray:
    tangents = np.gradient(line, axis=0)
    return tangents / np.linalg.norm(tangents, axis=1, keepdims=True)


def _smoothed(line: Sequence[np.ndarray]) -> np.ndarray:
    return ndimage.gaussian_filter1d(np.array(line), SMOOTH_MM / LINE_STEP_MM, axis=0, mode="nearest")


def _center_line(vessel: np.ndarray, spacing: np.ndarray) -> np.ndarray | None:
    """(places, 3) in mm along (k, j, i) from one end to the other, LINE_STEP_MM apart; None if it is not long."""
    shape = np.maximum(2, np.rint(np.array(vessel.shape) * spacing / LINE_STEP_MM).astype(int))
    axes = [np.linspace(0, n - 1, m) for n, m in zip(vessel.shape, shape, strict=True)]
    coarse = ndimage.map_coordinates(vessel.astype(np.float32), np.meshgrid(*axes, indexing="ij"), order=1) > 0.5
    coarse = largest_component(coarse)
    if coarse.sum() < 8:
        return None
    places = np.argwhere(coarse) * [axis[1] - axis[0] for axis in axes] * spacing
    graph = _neighbours(coarse, places)
    far = int(np.argmax(dijkstra(graph, indices=0)))
    distance = dijkstra(graph, indices=far)
    length = distance.max()
    if not np.isfinite(length) or length < SHORTEST_VESSEL * 2 * ndimage.distance_transform_edt(vessel, spacing).max():
        return None
    pieces = np.maximum(np.rint(distance / PIECE_MM).astype(int), 0)
    middles = np.array([places[pieces == n].mean(axis=0) for n in np.unique(pieces)])
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(middles, axis=0), axis=1))])
    even = np.arange(0.0, along[-1], LINE_STEP_MM)
    return _smoothed(np.column_stack([np.interp(even, along, axis) for axis in middles.T])) if len(even) > 2 else None


def _neighbours(coarse: np.ndarray, places: np.ndarray) -> sparse.csr_matrix:
    """Voxels of the grid that touch, with their distances in mm."""
    number = np.full(np.array(coarse.shape) + 2, -1)
    inner = number[1:-1, 1:-1, 1:-1]
    inner[coarse] = np.arange(len(places))
    rows, columns = [], []
    for step in np.argwhere(np.ones((3, 3, 3))) - 1:
        if tuple(step) <= (0, 0, 0):
            continue
        there = number[tuple(slice(1 + s, n - 1 + s) for s, n in zip(step, number.shape, strict=True))]
        both = (inner >= 0) & (there >= 0)
        rows.append(inner[both])
        columns.append(there[both])
    row, column = np.concatenate(rows), np.concatenate(columns)
    weight = np.linalg.norm(places[row] - places[column], axis=1)
    both_ways = (np.r_[weight, weight], (np.r_[row, column], np.r_[column, row]))
    return sparse.csr_matrix(both_ways, shape=(len(places), len(places)))


def _across(tangent: np.ndarray) -> np.ndarray:
    """Two unit vectors (2, 3) perpendicular to a direction."""
    other = np.eye(3)[np.argmin(np.abs(tangent))]
    first = np.cross(tangent, other)
    first /= np.linalg.norm(first)
    return np.array([first, np.cross(tangent, first)])


@dataclass(frozen=True, eq=False)
class _Section:
    """A cross-section: its middle and axes in mm along (k, j, i), its largest and its smallest width in mm."""

    center: np.ndarray
    across: np.ndarray
    widest: float
    narrowest: float

    @property
    def oblong(self) -> bool:
        """Whether it is longer than a single vessel of usual width is across."""
        return self.widest > MOST_OBLONG * self.narrowest


def _section(
    smooth: np.ndarray, spacing: np.ndarray, center: np.ndarray, tangent: np.ndarray, reach: float
) -> _Section | None:
    """The cross-section around a place of the centre line; None if that is outside of the vessel."""
    from contourpy import contour_generator

    across = _across(tangent)
    steps = np.arange(-reach, reach + PLANE_STEP_MM, PLANE_STEP_MM)
    plane = center + steps[:, None, None] * across[0] + steps[None, :, None] * across[1]
    values = ndimage.map_coordinates(smooth, np.moveaxis(plane / spacing, -1, 0), order=1)
    parts, _ = ndimage.label(values > 0.5)
    own = parts[len(steps) // 2, len(steps) // 2]
    if own == 0:
        return None
    lines = contour_generator(z=np.where((parts == own) | (parts == 0), values, 0.0)).lines(0.5)
    border = max(lines, key=len) * PLANE_STEP_MM
    angles = np.arange(0, np.pi, np.pi / 90)
    extents = np.ptp(border @ np.array([np.cos(angles), np.sin(angles)]), axis=0)
    middle = np.argwhere(parts == own).mean(axis=0) * PLANE_STEP_MM - reach  # columns come first in a line, not here
    return _Section(center + middle @ across, across, float(extents.max()), float(extents.min()))
