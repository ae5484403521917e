"""The box around the trunk in a CT: on tables, beside arms, cut off by the field of view, in large patients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import Volume
from dinsegment.inference.anatomy import box_around_body
from dinsegment.inference.body import find_body
from dinsegment.inference.preprocessing import Preprocessing

quick = settings(max_examples=20, deadline=None)

CT = Preprocessing(
    spacing=3.0,
    box=(96, 128),
    overview_spacing=6.0,
    plane="axial",
    slice_spacing=3.0,
    grey_window=(-125.0, 275.0),
    locate="body",
)
AIR, FAT, MUSCLE, BONE, TABLE = -1000.0, -95.0, 45.0, 700.0, 100.0


def ct(
    shape=(6, 110, 130),
    spacing=(6.0, 4.0, 4.0),
    half=(110.0, 165.0),
    center=(0.0, 0.0),
    table=None,
    thickness=4.0,
    arms=None,
    seed=0,
):
    """A trunk with a rim of fat, bone and noise, as a CT in air.

    Args:
        shape: (slices, y, x), the slices axial.
        spacing: In mm, in the same order.
        half: Half the trunk's size (y, x) in mm.
        center: Its middle (y, x) in mm from the middle of the field of view.
        table: Distance in mm of a table's top from the back; None for no table.
        thickness: Of the table's top in mm.
        arms: Distance in mm of the arms from the flanks; None for no arms.
        seed: Of the noise.
    """
    y, x = ((np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape[1:], spacing[1:], strict=True))
    y, x = y[:, None] - center[0], x - center[1]
    radius = np.sqrt((y / half[0]) ** 2 + (x / half[1]) ** 2)
    slice_ = np.where(radius < 1, FAT, AIR)
    if table is not None:
        under = y - half[0] - table
        slice_[(under > 0) & (under <= thickness) & (np.abs(x) < 250)] = TABLE
    if arms is not None:
        for side in (-1, 1):
            slice_[y**2 + (x - side * (half[1] + arms + 40)) ** 2 < 40**2] = MUSCLE
    slice_[radius < 0.85] = MUSCLE
    slice_[(y - 0.55 * half[0]) ** 2 + x**2 < 20**2] = BONE
    array = slice_ + np.random.default_rng(seed).normal(0, 12, shape)
    return Volume(array, np.diag([-spacing[2], -spacing[1], spacing[0], 1.0]), "ct", "CT")


def box_of(volume, preprocessing=CT):
    """Centre (y, x) in mm from the middle of the field of view, and size in mm, of the box around the body."""
    stack = SliceStack.in_plane(volume, preprocessing.plane)
    view = box_around_body(preprocessing, stack)
    assert view.spacing == preprocessing.spacing and view.slice_spacing == preprocessing.slice_spacing
    assert all(n % 16 == 0 and n >= least for n, least in zip(view.size, preprocessing.box, strict=True))
    middle = (stack.extent_mm - stack.spacing) / 2
    return np.array(view.center) - middle, np.array(view.size) * view.spacing


USUAL = np.array(CT.box) * CT.spacing  # 288 x 384 mm


def test_the_box_lies_around_the_trunk():
    center, size = box_of(ct())
    np.testing.assert_allclose(center, 0, atol=6)
    np.testing.assert_array_equal(size, USUAL)


@pytest.mark.parametrize("spacing", [0.9, 2.0, 3.3])
def test_a_body_in_the_middle_has_its_box_exactly_there(spacing):
    """However the grid that it is looked for on lies to the image's voxels."""
    shape = 3, round(400 / spacing), round(460 / spacing)
    array = ct(shape, (5.0, spacing, spacing)).array
    symmetric = (array + array[:, ::-1] + array[:, :, ::-1] + array[:, ::-1, ::-1]) / 4
    volume = Volume(symmetric, np.diag([-spacing, -spacing, 5.0, 1.0]))
    for overview_spacing in (6.0, 14.0):
        center, _ = box_of(volume, replace(CT, overview_spacing=overview_spacing))
        np.testing.assert_allclose(center, 0, atol=1e-3)


@pytest.mark.parametrize("off", [(40.0, -60.0), (-70.0, 0.0)])
def test_a_patient_may_lie_anywhere_in_the_field_of_view(off):
    center, size = box_of(ct(center=off))
    np.testing.assert_allclose(center, off, atol=6)
    np.testing.assert_array_equal(size, USUAL)


@pytest.mark.parametrize("gap", [0.0, 8.0, 30.0])
def test_a_table_is_no_part_of_the_body(gap):
    """Also one that the patient touches."""
    volume = ct(table=gap)
    center, size = box_of(volume)
    np.testing.assert_allclose(center, 0, atol=8)
    np.testing.assert_array_equal(size, USUAL)
    stack = SliceStack.axial(volume)
    y, x = find_body(stack.array > -113, (6.0, 4.0, 4.0))[1]
    assert 200 <= y <= 232 and 310 <= x <= 340


def test_a_thick_table_makes_the_box_no_smaller():
    center, size = box_of(ct(table=0.0, thickness=40.0))
    assert (center[0] - size[0] / 2 < -101) and (center[0] + size[0] / 2 > 110) and (size >= USUAL).all()
    assert center[1] == pytest.approx(0, abs=6)


def test_arms_that_lie_apart_are_no_part_of_the_trunk():
    volume = ct(shape=(6, 110, 160), arms=20.0)
    center, size = box_of(volume)
    np.testing.assert_allclose(center, 0, atol=6)
    np.testing.assert_array_equal(size, USUAL)
    assert find_body(volume.array > -113, (6.0, 4.0, 4.0))[1][1] < 345


def test_a_large_patient_gets_a_larger_box_in_steps_of_16_pixels():
    for half in ((160.0, 230.0), (130.0, 245.0)):
        center, size = box_of(ct(half=half))
        needed = np.maximum(2 * np.array(half), USUAL)
        np.testing.assert_allclose(center, 0, atol=6)
        # The body is measured in steps of 6 mm, and the first thin rim of it does not count.
        assert (size >= needed - 12).all() and (size < needed + 48 + 12).all()


def test_a_field_of_view_inside_the_body_is_taken_whole():
    """Tissue touches every edge: the body goes on beyond, and nothing of what there is may be left out."""
    volume = ct(shape=(6, 50, 70))  # 200 x 280 mm of 220 x 330
    center, size = box_of(volume)
    np.testing.assert_allclose(center, 0, atol=6)
    np.testing.assert_array_equal(size, USUAL)
    extent = find_body(SliceStack.axial(volume).array > -113, (6.0, 4.0, 4.0))[1]
    assert extent == pytest.approx((200, 280))


def test_a_body_that_one_edge_cuts_off_is_not_shifted_towards_the_middle():
    center, _ = box_of(ct(center=(0.0, 160.0)))  # 95 mm of the left flank lie outside
    seen = (160 - 165 + 260) / 2  # from where it starts to the edge
    np.testing.assert_allclose(center, (0, seen), atol=8)


def test_what_touches_the_edge_is_not_thin():
    """Only the rim of the body is seen; a table just as thin does not count."""
    tissue = np.zeros((4, 30, 40), bool)
    tissue[:, 5:25, :2] = True
    tissue[:, 10:14, 20:24] = True
    tissue[:, 27:29, 10:30] = True
    assert find_body(tissue, (6.0, 6.0, 6.0)) == ((14.5 * 6, 0.5 * 6), (20 * 6, 2 * 6))


def test_without_any_tissue_it_is_the_whole_field_of_view():
    noise = np.random.default_rng(1).normal(-1000, 20, (3, 90, 100))
    volume = Volume(noise, np.diag([-5.0, -5.0, 5.0, 1.0]))
    center, size = box_of(volume)
    np.testing.assert_allclose(center, 0, atol=3)
    assert (size >= (450, 500)).all() and (size < (450 + 54, 500 + 54)).all()


def test_only_thin_tissue_is_found_all_the_same():
    """A single slice through a hand, or a catheter: nothing survives what removes a table."""
    volume = Volume(np.full((1, 60, 60), AIR), np.diag([-2.0, -2.0, 2.0, 1.0]))
    array = volume.array.copy()
    array[:, 10:14, 40:44] = MUSCLE
    center, _ = box_of(volume.with_array(array))
    np.testing.assert_allclose(center, (2 * (11.5 - 29.5), 2 * (41.5 - 29.5)), atol=6)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 3), (40, 1, 1), (2, 3, 200)])
def test_any_shape_has_a_box(shape):
    for value in (AIR, MUSCLE):
        center, size = box_of(Volume(np.full(shape, value), np.diag([-2.0, -2.0, 2.0, 1.0])))
        assert np.isfinite(center).all() and (size >= USUAL).all()


def test_grey_values_that_are_no_hounsfield_units_are_tissue_everywhere():
    """An MR image by mistake: the whole field of view is looked at, and nothing breaks."""
    values = np.random.default_rng(1).uniform(0, 900, (4, 80, 80))
    center, size = box_of(Volume(values, np.diag([-2.0, -2.0, 8.0, 1.0])))
    np.testing.assert_allclose(center, 0, atol=6)
    np.testing.assert_array_equal(size, USUAL)


def test_without_a_window_of_grey_values_there_is_no_body():
    with pytest.raises(ValueError, match="grey_window"):
        box_around_body(Preprocessing(), SliceStack.axial(ct()))


@quick
@given(
    half=st.tuples(st.floats(80, 150), st.floats(110, 210)),
    center=st.tuples(st.floats(-40, 40), st.floats(-40, 40)),
    gap=st.none() | st.floats(0, 40),
    seed=st.integers(0, 1000),
)
def test_the_box_holds_the_trunk_wherever_and_however_large_it_is(half, center, gap, seed):
    found, size = box_of(ct((3, 110, 130), half=half, center=center, table=gap, seed=seed))
    ends = np.stack((found - size / 2, found + size / 2))
    trunk = np.stack((np.subtract(center, half), np.add(center, half)))
    assert (ends[0] <= trunk[0] + 9).all() and (ends[1] >= trunk[1] - 9).all()


def test_finding_the_body_is_deterministic_and_the_same_from_every_side():
    volume = ct(center=(20.0, -30.0), table=4.0, arms=15.0)
    tissue = SliceStack.axial(volume).array > -113
    steps = (6.0, 4.0, 4.0)
    center, size = find_body(tissue, steps)
    assert find_body(tissue.copy(), steps) == (center, size)
    last = [(n - 1) * s for n, s in zip(tissue.shape[1:], steps[1:], strict=True)]
    mirrored = find_body(tissue[:, :, ::-1], steps)
    assert mirrored[0] == pytest.approx((center[0], last[1] - center[1])) and mirrored[1] == size
    upside_down = find_body(tissue[::-1, ::-1], steps)
    assert upside_down[0] == pytest.approx((last[0] - center[0], center[1])) and upside_down[1] == size
    turned = find_body(tissue.swapaxes(1, 2), steps)
    assert turned == (center[::-1], size[::-1])
