"""Finds the DICOM images that show the slices of an image that some other program has read, by where they lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dinsegment.dicom.read.files import DicomFile, open_files
from dinsegment.dicom.read.frames import Frame, frames_of, source_of, time_of
from dinsegment.dicom.read.header import Header, read_header
from dinsegment.dicom.read.picture import TIMES
from dinsegment.dicom.read.pixels import read_pixels
from dinsegment.dicom.source import DicomSource
from dinsegment.errors import InputError
from dinsegment.geometry import RAS_FROM_LPS, nearest_voxel

SAME_PLACE = 0.1
"""How far an image may lie from a slice, in pixels within the slice and in slices across: rounding of headers."""

MOVED_ACROSS = 0.25
"""How far one of unevenly spaced slices may lie from its place, in slices."""

MOVED_WITHIN = 0.5
"""How far an image may have moved within its slice, as a share of the slice's size."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Where an image lies.

    Attributes:
        name: What messages call the image.
        shape: Voxels (k, j, i).
        ijk_to_ras: 4x4, from (i, j, k, 1) to millimetres in RAS.
    """

    name: str
    shape: tuple[int, int, int]
    ijk_to_ras: np.ndarray


class Instances:
    """DICOM images whose headers were read once, for all phases of a cine.

    Args:
        paths: Files, or one folder, in which all files are looked at, also those in its folders.
        alive: Called now and then while files are read.

    Raises:
        InputError: A file that is given is damaged or no image that lies in the patient; a folder has none.
    """

    def __init__(self, paths: Sequence[Path], alive: Callable[[], object] = lambda: None) -> None:
        frames: dict[tuple[str, int | None], Frame] = {}
        for file, chosen in _files(paths):
            alive()
            for frame in _frames(file, chosen):
                # Archives hand out the same instance twice, now and then.
                frames.setdefault((frame.header.text("SOPInstanceUID") or str(file.path), frame.number), frame)
        if not frames:
            raise InputError(f"'{paths[0]}' has no DICOM images that lie in the patient: give the series' folder.")
        self._frames = list(frames.values())
        self._corners = np.stack([_corners(frame) for frame in self._frames])
        self._sizes = np.array([[size or 1 for size in frame.size] for frame in self._frames])
        # What the corners are in pixels (i, j, 0), counted from the first.
        self._ends = np.stack([[(0, 0, 0), (columns - 1, 0, 0), (0, rows - 1, 0)] for rows, columns in self._sizes])

    def source_of(self, grid: Grid, voxels: np.ndarray | None = None, phase: int = 0) -> DicomSource:
        """The images that show the slices of an image, in the order of k.

        Args:
            grid: Where the image lies.
            voxels: Its voxels (k, j, i), by which DICOM images are told apart that lie in one place.
            phase: Which of those is likely to be it, counted from 0, in the order of their times.

        Raises:
            InputError: For a slice there is no DICOM image, or several that nothing tells apart.
        """
        found = [self._of_slice(grid, k, voxels, phase) for k in range(grid.shape[0])]
        # Slices may have moved against each other; if every one has, it is the image that was moved.
        lps_to_ijk = np.linalg.inv(RAS_FROM_LPS @ grid.ijk_to_ras)
        places = np.array([(lps_to_ijk @ (*frame.position, 1.0))[:2] for frame in found])
        if (np.abs(places).max(axis=1) > SAME_PLACE).all():
            raise _nowhere(grid, 0)
        return source_of(found)

    def _of_slice(self, grid: Grid, k: int, voxels: np.ndarray | None, phase: int) -> Frame:
        there = self._there(grid, k)
        in_place = [frame for frame, first in there if first is None]
        # Without voxels to compare, one that has not moved is it; with them others may be.
        if len(there) == 1 or (voxels is None and len(in_place) == 1):
            return there[0][0]
        if not there:
            raise _nowhere(grid, k)
        likely = there[min(phase, len(in_place or there) - 1)]
        if voxels is not None:
            for frame, first in (likely, *(one for one in there if one is not likely)):
                if _has_voxels(frame, first, voxels[k]):
                    return frame
        raise InputError(
            f"Of slice {k + 1} of {grid.shape[0]} of '{grid.name}' there are {len(there)} DICOM images in the same "
            "place, and none has its voxels: give the folder of the series that it was loaded from."
        )

    def _there(self, grid: Grid, k: int) -> list[tuple[Frame, tuple[int, int] | None]]:
        """The images that lie where slice k does, and then those that have moved within it.

        Both are in the order of their times; of those that have moved the second is the voxel (j, i) at which the first
        pixel lies.
        """
        ijk_to_lps = RAS_FROM_LPS @ grid.ijk_to_ras
        _slices, rows, columns = grid.shape
        lps_to_ijk = np.linalg.inv(ijk_to_lps)
        corners = self._corners @ lps_to_ijk[:3, :3].T + lps_to_ijk[:3, 3]  # in voxels, so that a tolerance is for all
        first = corners[:, 0] - (0, 0, k)
        off = np.abs(corners - corners[:, :1] - self._ends).max(axis=(1, 2))  # 0 where pixels go along with voxels
        same_size = (self._sizes == (rows, columns)).all(axis=1)
        in_place = (np.abs(first).max(axis=1) + off <= SAME_PLACE) & same_size
        reach = np.array((columns * MOVED_WITHIN, rows * MOVED_WITHIN, MOVED_ACROSS))
        moved = (np.abs(first) <= reach).all(axis=1) & (off <= SAME_PLACE) & ~in_place
        found = []
        for among in (in_place, moved):
            numbers = sorted(np.flatnonzero(among), key=lambda n: _times(self._frames[n]))
            places = [None if in_place[n] else tuple(nearest_voxel(first[n, 1::-1]).tolist()) for n in numbers]
            found += zip([self._frames[n] for n in numbers], places, strict=True)
        return found


def _nowhere(grid: Grid, k: int) -> InputError:
    return InputError(
        f"Of slice {k + 1} of {grid.shape[0]} of '{grid.name}' there is no DICOM image in the same place, of the same "
        "size: export the segmentation of the image as it was loaded, not cropped, not resampled, and without a "
        "hardened transform."
    )


def _files(paths: Sequence[Path]) -> Iterator[tuple[DicomFile, bool]]:
    """All files, and whether they were chosen one by one."""
    for path in paths:
        if not path.exists():
            raise InputError(f"There is no '{path}' any more: import the DICOM series again.")
        with open_files(path) as files:
            yield from ((file, path.is_file()) for file in files)


def _frames(file: DicomFile, chosen: bool) -> list[Frame]:
    """The pictures in a file that lie in the patient; of one that was not chosen, nothing if it has none."""
    try:
        header: Header | None = read_header(file)
        if header is None and chosen:
            raise InputError(f"'{file.path}' is no DICOM image: import the series again.")
        return frames_of(header) if header is not None else []
    except InputError:
        if chosen:
            raise
        return []


def _corners(frame: Frame) -> np.ndarray:
    """Centres of the first pixel, the last of the first row and the last of the first column: (3, 3), LPS, mm."""
    rows, columns = (size or 1 for size in frame.size)
    between_rows, between_columns = frame.pixel_spacing
    along_row, along_column = frame.axes[0] * between_columns * (columns - 1), frame.axes[1] * between_rows * (rows - 1)
    return frame.position + np.array([np.zeros(3), along_row, along_column])


def _has_voxels(frame: Frame, first: tuple[int, int] | None, voxels: np.ndarray) -> bool:
    """Whether an image shows the voxels (j, i) of a slice, at one of which its first pixel lies."""
    pixels = read_pixels([[frame]], as_stored=True)[0][0]
    j, i = first or (0, 0)
    of_slice = voxels[max(j, 0) : j + pixels.shape[0], max(i, 0) : i + pixels.shape[1]]
    of_image = pixels[max(-j, 0) :, max(-i, 0) :][: of_slice.shape[0], : of_slice.shape[1]]
    return bool(of_image.size) and np.allclose(of_image, of_slice, rtol=1e-5, atol=1e-3)


def _times(frame: Frame) -> tuple[float, ...]:
    return tuple(time_of(frame, keyword) or 0.0 for keyword in TIMES)
