"""The DICOM images of an image that another program has loaded: by where they lie, also where they have moved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_cases import SERIES, decimals, headers
from pydicom.uid import generate_uid

from dinsegment.dicom.read.match import Grid, Instances
from dinsegment.errors import InputError

SERIES_OF = SERIES["oblique"]
SHIFTS = ((0, 0), (2, -1), (0, 0), (-1.4, 0.3))
"""Pixels (j, i) by which each slice has moved."""

FIRST = ((0, 0), (2, -1), (0, 0), (-1, 0))
"""Voxels (j, i) at which the first pixel of each was put."""


def write_stack(folder, phases=3, shifts=SHIFTS, crop=0, number=100):
    """Writes a cine of a series for each slice; its images by phase and slice, and their voxels (phase, k, j, i)."""
    random = np.random.default_rng(number)
    folder.mkdir(exist_ok=True)
    rows, columns = SERIES_OF.shape[1:]
    pixels = random.integers(0, 1000, (phases, *SERIES_OF.shape)).astype("<i2")
    shared = {name: generate_uid() for name in ("StudyInstanceUID", "FrameOfReferenceUID")}
    series = [generate_uid() for _ in shifts]
    images = []
    for phase in range(phases):
        images.append(headers(SERIES_OF))
        for k, image in enumerate(images[-1]):
            j, i = shifts[k]
            step = SERIES_OF.pixel_spacing[0]
            moved = SERIES_OF.position(k) + step * (i * SERIES_OF.axes[0] + j * SERIES_OF.axes[1])
            image.update(shared)
            image.SeriesInstanceUID, image.SeriesNumber = series[k], number + k
            image.ImagePositionPatient = decimals(moved)
            image.TriggerTime, image.InstanceNumber = str(40 * phase), phase + 1
            image.Rows, image.Columns = rows - crop, columns
            image.PixelData = pixels[phase, k, : rows - crop].tobytes()
            image.save_as(folder / f"{number}-{k}-{phase}.dcm", enforce_file_format=True)
    return images, pixels


def on_grid(pixels, first=FIRST):
    """Voxels (k, j, i) of one phase, each slice moved by whole voxels; what nobody has seen is -1."""
    volume = np.full((len(pixels), *SERIES_OF.shape[1:]), -1, float)
    rows, columns = pixels.shape[1:]
    for k, (j, i) in enumerate(first):
        for row in range(rows):
            for column in range(columns):
                if 0 <= row + j < volume.shape[1] and 0 <= column + i < volume.shape[2]:
                    volume[k, row + j, column + i] = pixels[k, row, column]
    return volume


def uids(source):
    return [str(header.SOPInstanceUID) for header in source.headers]


GRID = Grid("heart", SERIES_OF.shape, SERIES_OF.ijk_to_ras)


@pytest.mark.parametrize("phase", (0, 1, 2))
@pytest.mark.parametrize("likely", (0, 2))
def test_slices_that_have_moved_are_found_by_their_voxels(phase, likely, tmp_path):
    images, pixels = write_stack(tmp_path)
    found = Instances([tmp_path]).source_of(GRID, on_grid(pixels[phase]), likely)
    assert uids(found) == [str(image.SOPInstanceUID) for image in images[phase]]
    assert len(found.series_uids) == 4


def test_slices_that_have_moved_are_found_where_there_is_one_for_each(tmp_path):
    images, _ = write_stack(tmp_path, phases=1)
    assert uids(Instances(sorted(tmp_path.iterdir())).source_of(GRID)) == [str(i.SOPInstanceUID) for i in images[0]]


def test_the_images_may_be_smaller(tmp_path):
    images, pixels = write_stack(tmp_path, crop=3)
    found = Instances([tmp_path]).source_of(GRID, on_grid(pixels[1, :, :-3]), 0)
    assert uids(found) == [str(image.SOPInstanceUID) for image in images[1]]


@pytest.mark.parametrize("moved", (0, 1))
def test_of_two_acquisitions_the_one_that_was_loaded(moved, tmp_path):
    """One in place, one that has moved, in one folder."""
    both = [write_stack(tmp_path, 1, shifts, number=n) for shifts, n in ((((0, 0),) * 4, 100), (SHIFTS, 200))]
    images, pixels = both[moved]
    voxels = on_grid(pixels[0], FIRST if moved else ((0, 0),) * 4)
    assert uids(Instances([tmp_path]).source_of(GRID, voxels)) == [str(i.SOPInstanceUID) for i in images[0]]


def test_one_in_place_is_it_where_nothing_can_be_compared(tmp_path):
    images, _ = write_stack(tmp_path, 1, ((0, 0),) * 4)
    write_stack(tmp_path, 1, ((2, -1),) * 4, number=200)
    assert uids(Instances([tmp_path]).source_of(GRID)) == [str(image.SOPInstanceUID) for image in images[0]]


@pytest.mark.parametrize("moved_by", ((3, 0), (0, 1.5), (0.4, 0.4)))
@pytest.mark.parametrize("shifts", (((0, 0),) * 4, SHIFTS))
def test_an_image_that_was_moved_as_a_whole_is_no_image_of_them(moved_by, shifts, tmp_path):
    write_stack(tmp_path, 1, [(j + moved_by[0], i + moved_by[1]) for j, i in shifts])
    with pytest.raises(InputError, match="no DICOM image in the same place"):
        Instances([tmp_path]).source_of(GRID)


def test_images_that_lie_beside_the_whole_slice_are_not_it(tmp_path):
    write_stack(tmp_path, 1, ((0, 0), (0, 7), (0, 0), (0, 0)))
    with pytest.raises(InputError, match="Of slice 2 of 4 of 'heart' there is no DICOM image"):
        Instances([tmp_path]).source_of(GRID)


def test_other_voxels_are_no_images_of_them(tmp_path):
    _, pixels = write_stack(tmp_path)
    with pytest.raises(InputError, match="none has its voxels"):
        Instances([Path(tmp_path)]).source_of(GRID, on_grid(pixels[0]) + 5)
