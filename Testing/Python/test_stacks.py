"""Which stacks there are in a study: short-axis slices put together from series of any kind, and what the rest is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import cine_study
import numpy as np
import pytest
from cine_study import REPEATED, SLICES, axes_of, into_series, move, series_per_phase, series_per_slice, uid_of
from pydicom import Dataset
from pydicom.multival import MultiValue

from dinsegment.dicom.read.choose import candidates
from dinsegment.dicom.read.stacks import TAGS, Stack, find_stacks, picture_of
from dinsegment.tasks import HEART

PHASES = (0, 4, 8, 12, 16)


def text_of(value: object) -> str:
    return "\\".join(map(str, value)) if isinstance(value, MultiValue | list) else "" if value is None else str(value)


def stacks_of(series: Iterable[list[Dataset]]) -> list[Stack]:
    """Of the tags that a database would have, by "gggg,eeee"."""
    pictures = []
    for images in series:
        for image in images:
            database = {tag: text_of(image.get(keyword)) for keyword, tag in TAGS.items()}
            pictures.append(picture_of(image.SOPInstanceUID, lambda k, d=database: d.get(TAGS.get(k, ""), "")))
    return find_stacks(pictures)


def cine_of(stacks: list[Stack]) -> Stack:
    """The one short-axis cine that nothing is wrong with."""
    (found,) = [one for one in stacks if one.kind == "short-axis cine" and not one.is_repeat]
    return found


def instances(stack: Stack) -> list[list[str]]:
    """By slice and phase."""
    return [list(one.keys) for one in stack.slices]


def uids(series: Iterable[list[Dataset]]) -> list[list[str]]:
    return [[image.SOPInstanceUID for image in images] for images in series]


def expected_grid(rows) -> np.ndarray:
    first, last = rows[0][0], rows[-1][0]
    row, column = axes_of(first)
    start, end = (np.array(one.ImagePositionPatient, float) for one in (first, last))
    normal = np.cross(row, column)
    spacing = float(first.PixelSpacing[0])
    step = normal * (normal @ (end - start)) / (len(rows) - 1)
    matrix = np.eye(4)
    matrix[:3] = np.column_stack([row * spacing, column * spacing, step, start])
    return np.diag([-1.0, -1, 1, 1]) @ matrix


def test_a_series_for_each_slice(rows):
    series = series_per_slice(rows)
    (stack,) = stacks_of(reversed(series))
    assert (stack.name, stack.kind, stack.shape, stack.phases) == (
        "short-axis cine",
        "short-axis cine",
        (12, 256, 256),
        5,
    )
    assert instances(stack) == uids(series)
    assert np.allclose(stack.ijk_to_ras, expected_grid(rows), atol=1e-3)
    assert stack.times_ms[0] < 30 and np.allclose(np.diff(stack.times_ms), 4 * 37.97, atol=1)
    assert [name.number for name in stack.series] == list(range(101, 113)) and stack.warnings == () == tuple(
        stack.problem
    )
    assert all(one.offset == (0, 0) for one in stack.slices)


@pytest.mark.parametrize("layout", ["whole", "per phase", "two series", "odd and even", "mixture"])
def test_other_ways_in_which_a_stack_is_stored(layout, rows):
    series = {
        "whole": lambda: [cine_study.whole_series(rows)],
        "per phase": lambda: series_per_phase(rows),
        "two series": lambda: [cine_study.whole_series(rows[:5], 7), cine_study.whole_series(rows[5:], 8)],
        "odd and even": lambda: [cine_study.whole_series(rows[::2], 7), cine_study.whole_series(rows[1::2], 8)],
        "mixture": lambda: [cine_study.whole_series(rows[:8], 7), *series_per_slice(rows[8:])],
    }[layout]()
    (stack,) = stacks_of(series)
    by_place = {}
    for image in (image for images in series for image in images):
        by_place.setdefault(tuple(image.ImagePositionPatient), []).append(image)
    expected = [
        sorted(by_place[tuple(row[0].ImagePositionPatient)], key=lambda i: float(i.TriggerTime)) for row in rows
    ]
    assert stack.kind == "short-axis cine" and instances(stack) == uids(expected)
    assert np.allclose(stack.ijk_to_ras, expected_grid(rows), atol=1e-3) and stack.warnings == ()


def test_everything_in_a_study_is_listed_as_what_it_is(rows):
    stacks = stacks_of(cine_study.study_of(rows))
    kinds = [(stack.kind, len(stack.series), stack.is_repeat) for stack in stacks]
    assert kinds == [
        ("localizer", 1, False),
        ("long-axis cine", 1, False),
        ("long-axis cine", 1, False),
        ("short-axis cine", 12, False),
        ("short-axis cine", 1, True),
        ("late enhancement", 1, False),
    ]
    assert len({stack.name for stack in stacks}) == len(stacks)
    (warning,) = cine_of(stacks).warnings
    assert "slice 5 was acquired twice" in warning.lower() and "150" in warning and "105" in warning
    assert uid_of(150) in cine_of(stacks).series_uids and uid_of(101 + REPEATED) not in cine_of(stacks).series_uids
    pictures = sum(len(images) for images in cine_study.study_of(rows))
    assert len({key for stack in stacks for key in stack.keys}) == pictures


def test_the_earlier_of_two_is_taken_where_the_later_is_not_there(rows):
    series = series_per_slice(rows)
    again = cine_study.repeated(series[REPEATED], 150, at="070000")
    assert uid_of(150) not in cine_of(stacks_of([*series, again])).series_uids


def test_a_slice_twice_in_one_series(rows):
    series = series_per_slice(rows)
    again = cine_study.repeated(series[REPEATED], 101 + REPEATED)
    for number, image in enumerate(again, 900):
        image.InstanceNumber, image.SOPInstanceUID = number, f"1.2.{number}"
    stacks = stacks_of([*series[:REPEATED], series[REPEATED] + again, *series[REPEATED + 1 :]])
    assert instances(cine_of(stacks))[REPEATED] == [image.SOPInstanceUID for image in again]
    assert [stack.is_repeat for stack in stacks].count(True) == 1


def test_a_slice_twice_in_one_series_whose_numbers_start_again(rows):
    series = series_per_slice(rows)
    again = cine_study.repeated(series[REPEATED], 101 + REPEATED)
    for number, image in enumerate(again):
        image.SOPInstanceUID = f"1.2.{number}"
    stacks = stacks_of([*series[:REPEATED], again + series[REPEATED], *series[REPEATED + 1 :]])
    assert instances(cine_of(stacks))[REPEATED] == [image.SOPInstanceUID for image in again]
    assert [stack.is_repeat for stack in stacks].count(True) == 1


@pytest.mark.parametrize("layout", ["whole", "series per slice"])
def test_phases_whose_instances_are_numbered_by_turns_are_one_acquisition(layout, sunnybrook_folder):
    rows = cine_study.read_cine(sunnybrook_folder, range(4), range(8))
    series = [cine_study.whole_series(rows)] if layout == "whole" else series_per_slice(rows)
    expected = sorted(image.SOPInstanceUID for images in series for image in images)
    for images in series:
        for place, image in enumerate(images):
            k, phase = divmod(place, 8)
            image.InstanceNumber = 8 * k + 4 * (phase % 2) + phase // 2 + 1
    (stack,) = stacks_of(series)
    assert (stack.phases, stack.warnings, stack.problem) == (8, (), "")
    assert sorted(key for one in stack.slices for key in one.keys) == expected
    assert all(list(one.times_ms) == sorted(one.times_ms) for one in stack.slices)


def test_twice_as_many_phases_are_no_second_acquisition(sunnybrook_folder):
    """As of a stack in real time that runs on beside one that is gated."""
    rows = cine_study.read_cine(sunnybrook_folder, range(4), range(0, 20, 2))
    longer = cine_study.read_cine(sunnybrook_folder, range(4))
    stacks = stacks_of([*series_per_slice(rows), *series_per_slice(longer, 301, "realtime")])
    assert [(len(one.slices), one.phases, one.warnings) for one in stacks] == [(4, 10, ()), (4, 20, ())]


def test_a_slice_of_one_series_that_is_incomplete_does_not_shorten_the_others(sunnybrook_folder):
    rows = cine_study.read_cine(sunnybrook_folder, range(6), range(20))
    images = cine_study.whole_series(rows)
    stacks = stacks_of([images[:44] + images[60:]])
    assert [(len(one.slices), one.phases) for one in stacks] == [(5, 20), (1, 4)]
    assert "has 4 phases where the others have 20" in stacks[0].problem


def test_two_complete_stacks_stay_two(rows):
    before = series_per_slice(rows)
    after = [cine_study.repeated(row, 301 + k, at=f"09{k:02d}00") for k, row in enumerate(rows)]
    stacks = stacks_of([*before, *after])
    assert [(len(s.slices), s.warnings, s.problem) for s in stacks] == [(SLICES, (), "")] * 2
    assert len({s.name for s in stacks}) == 2 and instances(stacks[1]) == uids(after)
    whole = [cine_study.whole_series(rows, 7), cine_study.whole_series(rows, 8)]
    assert [len(stack.slices) for stack in stacks_of(whole)] == [SLICES, SLICES]


@pytest.mark.parametrize("layout", ["whole", "series per slice"])
def test_a_second_stack_in_the_middle_between_the_slices_of_the_first(layout, rows):
    after = cine_study.a_copy(rows)
    normal = np.cross(*axes_of(rows[0][0]))
    for k, images in enumerate(after):
        move(images, 5.0 * normal)
        for image in images:
            image.AcquisitionTime = f"11{k:02d}00"
    if layout == "whole":
        series = [cine_study.whole_series(rows, 7), cine_study.whole_series(after, 8)]
    else:
        series = [*series_per_slice(rows), *series_per_slice(after, 301)]
    stacks = stacks_of(series)
    assert [(len(one.slices), one.warnings, one.problem) for one in stacks] == [(SLICES, (), "")] * 2
    assert all(round(one.spacing_mm[0]) == 10 for one in stacks)


def test_slices_that_overlap_as_they_were_planned_are_one_stack(rows):
    between = cine_study.a_copy(rows)
    for images in between:
        move(images, 5.0 * np.cross(*axes_of(rows[0][0])))
    both = [images for pair in zip(rows, between, strict=True) for images in pair]
    for k, images in enumerate(both):
        for image in images:
            image.AcquisitionTime = f"10{k:02d}00"
    assert len(cine_of(stacks_of(series_per_slice(both))).slices) == 2 * SLICES


def test_a_half_that_was_planned_anew_is_named(rows):
    series = series_per_slice(rows)
    for images in series[6:]:
        move(images, 3.0 * np.cross(*axes_of(rows[0][0])))
    first, second = stacks_of(series)
    assert "Series 107-112 lies in line with the stack, but is left out" in first.warnings[0]
    assert "Series 101-106 lies in line with the stack, but is left out" in second.warnings[0]


def test_every_slice_repeated_at_once_is_one_stack_of_the_later_ones(rows):
    first, second = series_per_slice(rows, 101), series_per_slice(rows, 201)
    for k, (one, other) in enumerate(zip(first, second, strict=True)):
        for image in one:
            image.AcquisitionTime = f"09{k:02d}00"
        for image in other:
            image.AcquisitionTime = f"09{k:02d}30"
    stacks = stacks_of([*first, *second])
    assert instances(cine_of(stacks)) == uids(second)
    assert cine_of(stacks).warnings == (
        "Slices 1-12 were acquired twice: those of series 201-212, the latest, are taken, and those of series 101-112 "
        "are left out.",
    )
    assert [stack.is_repeat for stack in stacks].count(True) == SLICES


def test_a_filtered_copy_of_a_stack_was_not_acquired_again(rows):
    first, second = series_per_slice(rows, 101), series_per_slice(rows, 201, "cine_filtered")
    for k, images in enumerate(zip(first, second, strict=True)):
        for image in (*images[0], *images[1]):
            image.AcquisitionTime = f"09{k:02d}00"
    stacks = stacks_of([*first, *second])
    (warning,) = cine_of(stacks).warnings
    assert warning.startswith(
        "Slices 1-12 are there twice, acquired at the same time: those of series 201-212 are taken"
    )
    assert instances(cine_of(stacks)) == uids(second)


def test_slices_that_a_breath_hold_moved(rows):
    series = series_per_slice(rows)
    row, column = axes_of(rows[0][0])
    spacing = 1.367188
    move(series[2], 1.0 * row)
    move(series[5], -3.0 * spacing * column + 0.2 * spacing * row)
    (stack,) = stacks_of(series)
    assert [one.offset for one in stack.slices] == [
        (0, 1) if k == 2 else (-3, 0) if k == 5 else (0, 0) for k in range(12)
    ]
    assert np.allclose(stack.slices[5].shift_mm, (-3 * spacing, 0.2 * spacing), atol=1e-3)
    assert np.allclose(stack.ijk_to_ras, expected_grid(rows), atol=1e-3)
    (warning,) = stack.warnings
    assert "Slices 3 and 6 of series 103 'cine' and 106 'cine'" in warning and "4.1 mm" in warning


def test_the_first_slice_moved(rows):
    series = series_per_slice(rows)
    move(series[0], 4.0 * axes_of(rows[0][0])[0])
    (stack,) = stacks_of(series)
    assert [one.offset for one in stack.slices] == [(0, 3), *[(0, 0)] * 11]
    assert np.allclose(stack.ijk_to_ras, expected_grid(rows), atol=1e-3)


def test_matrices_that_differ(rows):
    series = series_per_slice(rows)
    for image in series[3]:
        pixels = cine_study.pixels_of(image)
        cine_study.set_pixels(image, pixels[16:240, 8:])
        move([image], 1.367188 * (8 * axes_of(image)[0] + 16 * axes_of(image)[1]))
    (stack,) = stacks_of(series)
    assert stack.shape == (12, 256, 256) and stack.slices[3].offset == (16, 8) and stack.slices[3].size == (224, 248)
    (warning,) = stack.warnings
    assert "Slice 4" in warning and "248 x 224" in warning and "256 x 256" in warning


@pytest.mark.parametrize("lost", [0, 2, 4])
def test_a_slice_with_a_phase_fewer(lost, rows):
    series = series_per_slice(rows)
    whole = uids(series)[7]
    del series[7][lost]
    (stack,) = stacks_of(series)
    keys = instances(stack)[7]
    assert len(keys) == 5 and [key for n, key in enumerate(keys) if n != lost] == [
        k for n, k in enumerate(whole) if n != lost
    ]
    assert keys[lost] in (whole[lost - 1], whole[(lost + 1) % 5])
    (warning,) = stack.warnings
    assert "108" in warning and "4 phases" in warning and "5" in warning


def test_a_slice_that_was_broken_off_is_not_stretched_over_the_beat(sunnybrook_folder):
    """Without a nominal interval only the distance between its images tells that the rest of the beat is missing."""
    series = series_per_slice(cine_study.read_cine(sunnybrook_folder, range(5)))
    for image in (image for images in series for image in images):
        image.pop("NominalInterval", None)
        image.pop("HeartRate", None)
    whole = uids(series)[2]
    del series[2][12:]
    (stack,) = stacks_of(series)
    assert instances(stack)[2] == [*whole[:12], *whole[11:12] * 4, *whole[:1] * 4]
    (warning,) = stack.warnings
    assert "103" in warning and "has 12 phases and most slices have 20" in warning
    assert "but for 6 phases none is near" in warning


def test_a_repetition_that_was_broken_off_does_not_count(sunnybrook_folder):
    rows = cine_study.read_cine(sunnybrook_folder, range(5))
    series = series_per_slice(rows)
    stacks = stacks_of([*series, cine_study.repeated(rows[2][:14], 150)])
    assert instances(cine_of(stacks)) == uids(series)
    (warning,) = cine_of(stacks).warnings
    assert (
        "that of series 103 'cine', the latest of this scan with all phases, is taken" in warning and "150" in warning
    )


def test_slices_of_20_and_of_25_phases_meet_by_their_times(sunnybrook_folder):
    rows = cine_study.read_cine(sunnybrook_folder, range(5))
    series = series_per_slice(rows)
    for row in series[:2]:
        beat = float(row[0].NominalInterval)
        row += cine_study.a_copy(row[:5])
        for number, image in enumerate(row):
            image.TriggerTime = f"{(number + 0.5) * beat / 25:.3f}"
            image.NominalCardiacTriggerDelayTime, image.InstanceNumber = float(image.TriggerTime), number + 1
            image.SOPInstanceUID = f"{image.SeriesInstanceUID}.{number}"
    (stack,) = stacks_of(series)
    assert stack.phases == 20 and len(stack.warnings) == 2
    parts = [np.array(one.times_ms) / float(rows[k][0].NominalInterval) for k, one in enumerate(stack.slices)]
    away = np.abs(np.array(parts[:2]) - np.median(parts[2:], axis=0))
    assert np.minimum(away, 1 - away).max() <= 0.5 / 25 + 1e-3
    assert [len(set(one.keys)) for one in stack.slices] == [20] * 5


def test_a_gap_is_no_stack_and_says_what_lies_there(rows):
    series = series_per_slice(rows)
    gone = cine_of(stacks_of([*series[:6], *series[7:]]))
    assert "missing" in gone.problem and "20 mm" in gone.problem
    for image in series[6]:
        image.PixelSpacing = ["1.5", "1.5"]
    gone = [stack for stack in stacks_of(series) if len(stack.slices) > 1]
    assert "107 'cine'" in gone[0].problem and "pixels" in gone[0].problem


def test_uneven_within_a_tenth(rows):
    normal = np.cross(*axes_of(rows[0][0]))
    series = series_per_slice(rows)
    move(series[4], 0.7 * normal)
    (stack,) = stacks_of(series)
    assert stack.problem == "" and " to 10.7 mm" in stack.warnings[0]
    move(series[4], 1.5 * normal)
    assert cine_of([s for s in stacks_of(series) if len(s.slices) > 1]).problem


@pytest.mark.parametrize("turn", ["sagittal", "coronal", "mirrored", "apex first"])
def test_hearts_that_lie_in_another_way(turn, rows):
    """Nothing tells where the heart lies but twelve slices that beat."""
    series = series_per_slice(rows)
    row, column = axes_of(rows[0][0])
    basis = np.array([row, column, np.cross(row, column)])
    target = {
        "sagittal": np.array([[0, 1, 0], [0, 0, -1], [-1, 0, 0]]),
        "coronal": np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]),
        "mirrored": basis * [-1, 1, 1] * [[1], [1], [-1]],
        "apex first": basis * [[-1], [1], [-1]],
    }[turn]
    rotation = target.T @ basis
    for image in (image for images in series for image in images):
        image.ImagePositionPatient = cine_study.decimals(rotation @ np.array(image.ImagePositionPatient, float))
        image.ImageOrientationPatient = cine_study.decimals((rotation @ axes_of(image).T).T.ravel())
    (stack,) = stacks_of(series)
    assert stack.kind == "short-axis cine" and stack.problem == "" and instances(stack) == uids(series)
    assert any("another way" in warning for warning in stack.warnings) == (turn in ("coronal", "mirrored"))


def test_few_slices_that_lie_in_another_way_are_no_short_axis(rows):
    """As a stack of long-axis slices has them."""
    series = series_per_slice(rows[:4])
    for k, images in enumerate(series):
        for image in images:
            image.ImageOrientationPatient = cine_study.decimals([0.68, 0.73, 0, 0.31, -0.29, -0.9])
            image.ImagePositionPatient = cine_study.decimals(8.0 * k * np.cross([0.68, 0.73, 0], [0.31, -0.29, -0.9]))
    (stack,) = stacks_of(series)
    assert len(stack.slices) == 4 and stack.kind == "cine"


def test_a_single_slice_is_listed_as_what_it_looks_like(rows):
    (stack,) = stacks_of(series_per_slice(rows[5:6]))
    assert (stack.kind, len(stack.slices), stack.warnings) == ("short-axis cine", 1, ())
    (stack,) = stacks_of([cine_study.long_axis(rows, 90)])
    assert (stack.kind, len(stack.slices), stack.warnings) == ("long-axis cine", 1, ())


def test_frames_of_reference_that_differ_are_said(rows):
    series = series_per_slice(rows)
    for number, images in enumerate(series):
        for image in images:
            image.FrameOfReferenceUID = f"1.2.{number}"
    (stack,) = stacks_of(series)
    assert len(stack.slices) == SLICES and "frames of reference" in stack.warnings[0]


def test_a_slice_that_was_turned_is_named_where_it_is_missing(rows):
    series = series_per_slice(rows)
    for image in series[6]:
        row, column = axes_of(image)
        image.ImageOrientationPatient = cine_study.decimals([*column, *row])
    (stack,) = [stack for stack in stacks_of(series) if len(stack.slices) > 1]
    assert "series 107 'cine' lies there" in stack.problem and "another direction" in stack.problem


def test_an_axial_cine_and_a_long_axis_stack_are_no_short_axis(rows):
    axial = cine_study.series_per_slice(rows, 301, "cine")
    for k, images in enumerate(axial):
        for image in images:
            image.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
            image.ImagePositionPatient = cine_study.decimals([-170, -170, 8.0 * k])
    stacks = stacks_of([*series_per_slice(rows), *axial])
    assert sorted(stack.kind for stack in stacks) == ["axial cine", "short-axis cine"]
    assert [stack.kind for stack in stacks_of(axial)] == ["axial cine"]


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("perfusion", {"description": "dyn_perfusion_rest"}),
        ("perfusion", {"clock": True}),
        ("flow", {"description": "fl2d_flow_v150in"}),
        ("flow", {"ImageType": ["DERIVED", "PRIMARY", "VELOCITY MAP"]}),
        ("phase images", {"ImageType": ["ORIGINAL", "PRIMARY", "P"]}),
        ("T1 map", {"description": "T1Map_MOLLI_sax"}),
        ("T1 map", {"inversions": True}),
        ("inversion-time scout", {"description": "TI_scout"}),
        ("tagging", {"description": "grid_tagging sax"}),
        ("localizer", {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}),
    ],
)
def test_what_is_no_cine_is_told_from_one(kind, changes, rows):
    images = into_series([cine_study.a_copy(image) for image in rows[5] * 3], 400, changes.get("description", "series"))
    for number, image in enumerate(images, 1):
        image.InstanceNumber, image.TriggerTime = number, "600"
        image.NominalCardiacTriggerDelayTime = 600.0
        image.ImageType = changes.get("ImageType", image.ImageType)
        if "clock" in changes:
            image.AcquisitionTime = f"0910{number * 2:02d}"
        if "inversions" in changes:
            image.InversionTime = str(100 + 80 * (number % 8))
    stacks = stacks_of([*series_per_slice(rows), images])
    assert {stack.kind for stack in stacks} == {"short-axis cine", kind}
    assert len(cine_of(stacks).slices) == SLICES and cine_of(stacks).warnings == ()


@pytest.mark.parametrize("words", ["CINE SAX post perfusion", "cine_sax_postperf nach T1 map", "FIESTA flow comp SA"])
def test_a_cine_that_names_what_was_done_before_is_still_one(words, rows):
    assert len(cine_of(stacks_of(series_per_slice(rows, description=words))).slices) == SLICES


@pytest.mark.parametrize(
    ("kind", "count", "time"),
    [
        ("perfusion", 20, lambda k, n: 100 + 200 * k),
        ("perfusion", 20, lambda _k, n: 100 + 7 * (n % 5)),
        ("perfusion", 20, lambda _k, n: 100 + 900 * n),
        ("other", 8, lambda _k, _n: 600),
        ("late enhancement", 2, lambda _k, n: 600 + n),
        ("late enhancement", 2, None),
    ],
)
def test_images_of_one_moment_of_the_beat_are_no_cine(kind, count, time, rows):
    """Three slices whose description and clock say nothing."""
    series = []
    for k in range(3):
        images = into_series([cine_study.a_copy(rows[3 * k][0]) for _ in range(count)], 400 + k, "sax")
        for number, image in enumerate(images):
            image.InstanceNumber = number + 1
            del image.AcquisitionTime, image.ContentTime, image.SeriesTime, image.NominalCardiacTriggerDelayTime
            image.TriggerTime = None if time is None else str(time(k, number))
            if kind == "late enhancement":
                image.InversionTime, image.ScanningSequence = "300", ["GR", "IR"]
        series += [images]
    if kind == "perfusion":  # as one series, as it is stored
        series = [into_series([image for images in series for image in images], 400, "sax")]
    assert {one.kind for one in stacks_of(series)} == {kind}


def test_one_trigger_time_in_all_images_of_a_cine_says_nothing(sunnybrook_folder):
    series = series_per_slice(cine_study.read_cine(sunnybrook_folder, range(4), range(12)))
    for image in (image for images in series for image in images):
        image.TriggerTime, image.NominalCardiacTriggerDelayTime = "600", 600.0
    assert cine_of(stacks_of(series)).phases == 12


def test_trigger_times_that_are_all_zero_are_no_times(sunnybrook_folder):
    series = series_per_slice(cine_study.read_cine(sunnybrook_folder, range(4), range(6)))
    for image in (image for images in series for image in images):
        image.TriggerTime, image.NominalCardiacTriggerDelayTime = "0", 0.0
    (stack,) = stacks_of(series)
    assert instances(stack) == uids(series) and stack.times_ms == (None,) * 6


@pytest.mark.parametrize("changes", [{"FlipAngle": "14"}, {"EchoTime": "4.5"}, {"SequenceName": "*fl2d1_tag2"}])
def test_another_scan_of_a_slice_is_no_repetition(changes, rows):
    """As grid tagging that is called by nothing but its place."""
    series = series_per_slice(rows)
    for image in (image for images in series for image in images):
        image.FlipAngle, image.EchoTime, image.SequenceName = "60", "1.3", "*tfi2d1_12"
    others = [cine_study.repeated(series[k], 400 + k) for k in (2, 6, 9)]
    for image in (image for images in others for image in images):
        for keyword, value in changes.items():
            setattr(image, keyword, value)
    stacks = stacks_of([*series, *others])
    first = next(one for one in stacks if len(one.slices) == SLICES)
    assert instances(first) == uids(series) and "402, 406, 409" in " ".join(first.warnings)


def phase_images(images: list[Dataset], number: int) -> list[Dataset]:
    made = into_series(cine_study.a_copy(images), number, "cine")
    for image in made:
        image.ImageType = ["ORIGINAL", "PRIMARY", "P", "ND"]
    return made


def test_the_magnitude_images_of_a_flow_measurement_are_no_slice_of_the_cine(rows):
    """They lie where a slice lies, and nothing in their own headers says what they are."""
    series = series_per_slice(rows)
    magnitude = cine_study.repeated(rows[2], 400)
    stacks = stacks_of([*series, magnitude, phase_images(magnitude, 401)])
    assert [(one.kind, len(one.slices)) for one in stacks] == [
        ("short-axis cine", SLICES),
        ("flow", 1),
        ("phase images", 1),
    ]
    assert instances(stacks[0]) == uids(series) and stacks[0].warnings == ()


@pytest.mark.parametrize("long_axis", [False, True])
def test_a_cine_that_is_stored_with_its_phase_images_stays_one(long_axis, rows):
    series = series_per_slice(rows)
    stacks = stacks_of(
        [
            *series,
            *(phase_images(images, 301 + k) for k, images in enumerate(series)),
            *([cine_study.long_axis(rows, 90)] if long_axis else []),
        ]
    )
    assert instances(cine_of(stacks)) == uids(series)


def test_a_wide_gap_is_no_end_of_a_stack(rows):
    series = series_per_slice(rows)
    stacks = stacks_of([*series[:5], *series[9:]])
    assert [len(one.slices) for one in stacks] == [5, 3]
    assert "slices of series 110-112 continue it behind a gap" in stacks[0].problem and stacks[1].problem
    stacks = stacks_of([*series[:7], *series[11:]])
    assert [(len(one.slices), one.problem) for one in stacks] == [(7, ""), (1, "")]
    assert "series 112 'cine' continue it behind a gap" in stacks[0].warnings[0]


def test_a_few_slices_do_not_count_beside_a_whole_stack(rows):
    few = series_per_slice(rows[3:10:3], 400)
    for image in (image for images in few for image in images):
        image.PixelSpacing = ["2", "2"]
    stacks = stacks_of([*series_per_slice(rows), *few])
    assert [(one.kind, len(one.slices), one.problem) for one in stacks] == [
        ("short-axis cine", SLICES, ""),
        ("short-axis cine", 3, ""),
    ]
    assert candidates(stacks, HEART) == stacks[:1]


def test_of_a_gated_stack_and_one_in_real_time_the_gated_one_is_proposed(rows):
    series = [*series_per_slice(rows), *(cine_study.repeated(row, 301 + k, "110000") for k, row in enumerate(rows))]
    for image in (image for images in series[:SLICES] for image in images):
        image.SeriesDescription = "cine_realtime_sax"
    first, second = candidates(stacks_of(series), HEART)
    assert first.series[0].number == 301 and second.series[0].number == 101


def test_colour_images_and_such_without_a_place_are_listed_with_a_reason(rows):
    strange = into_series(cine_study.a_copy(rows[0]), 500, "screen")
    for image in strange[1:]:
        del image.ImagePositionPatient
    strange[0].SamplesPerPixel = 3
    stacks = stacks_of([strange, *series_per_slice(rows)])
    assert [(s.kind, s.slices == ()) for s in stacks] == [("short-axis cine", False), ("other", True)]
    assert "where in the patient" in stacks[1].problem


def test_it_needs_nothing_but_numpy():
    others = {"pydicom", "torch", "SimpleITK", "scipy"}
    code = f"import sys; import dinsegment.dicom.read.stacks; print({others} & set(sys.modules))"
    logic = Path(__file__).parents[2] / "DINSegment" / "Logic"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(logic)}, capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.strip() == "set()"
