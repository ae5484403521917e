"""Axial slices of a Volume, however its voxels are stored, and slices at one distance, however far apart they were."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation
from slices_back import slices_back

from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import Volume
from dinsegment.inference.view import AT_A_TIME, View, resampling_matrix

quick = settings(max_examples=30, deadline=None)

ORIENTATIONS = [(order, flips) for order in permutations(range(3)) for flips in product((False, True), repeat=3)]
"""All ways to store an image along the patient's axes: the order of its axes, and which of them are reversed."""

each_orientation = pytest.mark.parametrize(("order", "flips"), ORIENTATIONS, ids=str)


def axial_volume(array, spacing=(5.0, 0.8, 1.25), origin=(-30.0, 17.0, 5.0)):
    """A Volume of axial slices (slices, y, x) as CT scanners write them; spacing in the same order."""
    matrix = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
    matrix[:3, 3] = origin
    return Volume(array, matrix, "ct", "CT")


def stored(volume, order, flips):
    """The same image with its axes in another order and direction, and every voxel where it was in the patient."""
    array = volume.array.transpose(order)
    columns = volume.ijk_to_ras[:, 2::-1][:, list(order)]  # of the new (k, j, i)
    origin = volume.ijk_to_ras[:, 3].copy()
    for axis, flip in enumerate(flips):
        if flip:
            origin += columns[:, axis] * (array.shape[axis] - 1)
            columns[:, axis] *= -1
    array = np.flip(array, [n for n, flip in enumerate(flips) if flip])
    return replace(volume, array=array, ijk_to_ras=np.column_stack((columns[:, ::-1], origin)))


def restored(array, order, flips):
    """The inverse of `stored`, of an array on its grid."""
    return np.flip(array, [n for n, flip in enumerate(flips) if flip]).transpose(np.argsort(order))


def rotated(volume, degrees, axis):
    """The same voxels in a patient who lies turned by that angle."""
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec(np.radians(degrees) * np.array(axis) / np.linalg.norm(axis)).as_matrix()
    return replace(volume, ijk_to_ras=turn @ volume.ijk_to_ras)


def numbered(shape=(4, 5, 6)):
    """An image whose voxels all differ."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


# --- axial slices ---------------------------------------------------------------------------------


@each_orientation
def test_however_an_image_is_stored_its_axial_slices_are_the_same(order, flips):
    plain = axial_volume(numbered())
    volume = stored(plain, order, flips)
    np.testing.assert_array_equal(restored(volume.array, order, flips), plain.array)
    stack = SliceStack.axial(volume)
    np.testing.assert_array_equal(stack.array, plain.array)
    assert (stack.slice_spacing, *stack.spacing) == (5.0, 0.8, 1.25)
    assert np.shares_memory(stack.array, volume.array)  # a large CT is not copied
    back = stack.to_volume_axes(stack.array)
    np.testing.assert_array_equal(back, volume.array)
    assert back.flags.c_contiguous
    labels = (volume.array % 7).astype(np.uint8)
    seen = stack.like(labels)
    np.testing.assert_array_equal(seen.array, plain.array % 7)
    assert (seen.spacing, seen.slice_spacing) == (stack.spacing, stack.slice_spacing)
    np.testing.assert_array_equal(seen.to_volume_axes(seen.array), labels)


def test_slices_run_to_the_head_rows_to_the_back_and_columns_to_the_left():
    """Each voxel's value is one of its coordinates in RAS: superior, anterior and right."""
    for order, flips in ((0, 1, 2), (False, False, False)), ((2, 0, 1), (True, False, True)):
        volume = stored(axial_volume(numbered()), order, flips)
        index = np.indices(volume.shape)[::-1].reshape(3, -1)
        places = volume.ijk_to_ras[:3, :3] @ index + volume.ijk_to_ras[:3, 3:]
        right, anterior, superior = (SliceStack.axial(volume).like(x.reshape(volume.shape)).array for x in places)
        assert (np.diff(superior, axis=0) > 0).all() and not np.diff(superior, axis=1).any()
        assert (np.diff(anterior, axis=1) < 0).all() and not np.diff(anterior, axis=2).any()
        assert (np.diff(right, axis=2) < 0).all() and not np.diff(right, axis=0).any()


@quick
@given(
    st.sampled_from(ORIENTATIONS),
    st.floats(-40, 40),
    st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda axis: np.linalg.norm(axis) > 0.1),
)
def test_of_an_oblique_image_the_closest_axes_are_taken(orientation, degrees, axis):
    plain = axial_volume(numbered())
    stack = SliceStack.axial(rotated(stored(plain, *orientation), degrees, axis))
    np.testing.assert_array_equal(stack.array, plain.array)
    np.testing.assert_allclose((stack.slice_spacing, *stack.spacing), (5.0, 0.8, 1.25), rtol=1e-12)


def test_a_gantry_tilt_shears_the_grid_and_changes_no_slice():
    plain = axial_volume(numbered())
    tilted = plain.ijk_to_ras.copy()
    tilted[1, 2] = 5.0 * np.tan(np.radians(25))  # each slice lies a little farther to the front
    stack = SliceStack.axial(replace(plain, ijk_to_ras=tilted))
    np.testing.assert_array_equal(stack.array, plain.array)


@pytest.mark.parametrize("shape", [(1, 5, 6), (4, 1, 6), (4, 5, 1), (1, 1, 6), (1, 1, 1)])
def test_a_single_slice_of_any_plane_is_seen_from_the_feet_too(shape):
    plain = axial_volume(numbered(shape))
    for orientation in ORIENTATIONS[::5]:
        volume = stored(plain, *orientation)
        stack = SliceStack.axial(volume)
        np.testing.assert_array_equal(stack.array, plain.array)
        np.testing.assert_array_equal(stack.to_volume_axes(stack.array), volume.array)


def test_the_plane_says_which_slices_are_looked_at():
    volume = stored(axial_volume(numbered()), (2, 1, 0), (False, False, False))  # sagittal, i along the body
    axial, acquired = (SliceStack.in_plane(volume, plane) for plane in ("axial", "acquired"))
    assert axial.array.shape == (4, 5, 6)
    # The voxels do not tell plainly across which axis the slices lie, so it is the last one, as DICOM has it.
    assert acquired.axis == 0 and acquired.array.shape == volume.shape
    assert axial.slice_spacing == 5.0


# --- slices at one distance -----------------------------------------------------------------------


def stack_of(array, slice_spacing, spacing=(2.0, 2.0)):
    return SliceStack(np.asarray(array, np.float32), spacing, 0, slice_spacing)


def view_of(stack, slice_spacing, spacing=2.0):
    """The whole field of view on a grid that has the stack's own pixels if `spacing` is theirs."""
    size = tuple(int(n) for n in np.round(stack.extent_mm / spacing))
    middle = (stack.extent_mm - stack.spacing) / 2
    return View(stack, (float(middle[0]), float(middle[1])), size, spacing, slice_spacing)


def back_of(view, values):
    values = torch.stack(values) if isinstance(values, list) else torch.as_tensor(values)
    return slices_back(view, values).numpy()


@pytest.mark.parametrize("wanted", [2.0, 3.0])
@pytest.mark.parametrize("distance", [0.5, 1.0, 2.5, 3.0, 5.0, 10.0])
@pytest.mark.parametrize("count", [1, 2, 3, 17])
def test_no_slice_stays_empty(count, distance, wanted):
    stack = stack_of(np.ones((count, 6, 8)), distance)
    view = view_of(stack, wanted)
    slices, inside = view.sample()
    assert len(slices) == view.count
    assert len(slices) * wanted >= count * distance - 1e-3 > (len(slices) - 1) * wanted - 2e-3  # no more than it takes
    np.testing.assert_allclose(slices, 1, atol=1e-5)
    assert (inside > 0.99).all()
    np.testing.assert_allclose(back_of(view, slices), 1, atol=1e-5)


@quick
@given(st.integers(1, 60), st.floats(0.3, 12), st.floats(0.8, 6))
def test_slices_cover_the_stack_evenly_about_its_middle(count, distance, wanted):
    stack = stack_of(np.arange(count)[:, None, None] * np.ones((1, 2, 2)) * distance, distance)
    view = view_of(stack, wanted)
    grid = view.count
    assert grid * wanted >= count * distance - 1e-4 and (grid == 1 or (grid - 1) * wanted < count * distance)
    along = view.sample()[0][:, 0, 0].numpy()  # where each slice lies, as the image tells it
    middle = 0.5 * (count - 1) * distance
    np.testing.assert_allclose(along + along[::-1], 2 * middle, atol=1e-3 * max(1, middle))
    assert (np.diff(along) >= -1e-4).all()


@quick
@given(st.integers(1, 12), st.floats(0.5, 8), st.integers(0, 2**32 - 1))
def test_upside_down_the_same_slices_are_seen_upside_down(count, distance, seed):
    array = np.random.default_rng(seed).normal(size=(count, 5, 7))
    one, other = stack_of(array, distance), stack_of(array[::-1, :, ::-1], distance)
    view = view_of(one, 3.0, 2.7)
    seen, mirrored = view.sample()[0], view.on(other).sample()[0]
    torch.testing.assert_close(mirrored, seen.flip(0, 2), rtol=0, atol=1e-4)
    np.testing.assert_allclose(back_of(view.on(other), mirrored), back_of(view, seen)[::-1, :, ::-1], atol=1e-4)


@pytest.mark.parametrize(("distance", "wanted", "error"), [(1.0, 1.5, 0.06), (3.0, 3.0, 1e-5), (4.0, 3.0, 0.06)])
def test_a_smooth_image_survives_another_distance_and_back(distance, wanted, error):
    array = gaussian_filter(np.random.default_rng(1).normal(size=(24, 12, 14)), (8 / distance, 3, 3))
    stack = stack_of(array / np.abs(array).max(), distance)
    view = view_of(stack, wanted)
    back = back_of(view, view.sample()[0])
    assert np.abs(back - stack.array)[3:-3].max() < error


def test_refining_blends_the_slices_above_and_below():
    stack = stack_of(np.array([0.0, 4.0])[:, None, None] * np.ones((2, 3, 3)), 4.0)
    slices, _ = view_of(stack, 2.0).sample()  # at -1, 1, 3 and 5 mm
    np.testing.assert_allclose(slices[:, 1, 1], [0, 1, 3, 4], atol=1e-5)


def test_many_slices_are_those_of_one_product():
    """More than are resampled at a time."""
    count = 2 * AT_A_TIME + 7
    array = np.random.default_rng(2).normal(size=(count, 4, 5))
    stack = stack_of(array, 1.3)
    for wanted in (None, 1.7):
        view = view_of(stack, wanted, 1.1)
        slices, _ = view.sample()
        y, x = (resampling_matrix(n, 2.0, m, 1.1, f) for n, m, f in zip((4, 5), view.size, view.first, strict=True))
        expected = y @ array @ x.T
        if wanted:
            first = 0.5 * ((count - 1) * 1.3 - (len(slices) - 1) * wanted)
            expected = np.tensordot(resampling_matrix(count, 1.3, len(slices), wanted, first), expected, 1)
        np.testing.assert_allclose(slices, expected, atol=1e-4)


def test_chosen_slices_are_those_of_the_whole_grid():
    stack = stack_of(np.random.default_rng(3).normal(size=(9, 6, 8)), 2.2)
    for wanted in (None, 3.0):
        view = view_of(stack, wanted)
        whole, _ = view.sample()
        chosen = np.array([0, 3, view.count - 1])
        torch.testing.assert_close(view.sample(chosen)[0], whole[chosen], rtol=0, atol=1e-5)


def test_grey_values_are_clipped_before_they_are_blended():
    """Air beside a patient must not darken the skin more in a coarse image than in a fine one."""
    stack = stack_of(np.array([-1000.0, 100.0])[:, None, None] * np.ones((2, 4, 4)), 4.0)
    slices, _ = view_of(stack, 2.0).sample(clip=(-125.0, 275.0))
    np.testing.assert_allclose(slices[:, 1, 1], [-125, -125 + 225 / 4, 100 - 225 / 4, 100], atol=1e-4)
    assert stack.array.min() == -1000


def test_classes_are_brought_back_slice_by_slice():
    stack = stack_of(np.zeros((5, 6, 8)), 4.0)
    view = view_of(stack, 3.0)
    values = torch.rand(view.count, 3, *view.size)
    back = back_of(view, values)
    assert back.shape == (5, 3, 6, 8)
    for n in range(3):
        np.testing.assert_allclose(back[:, n], back_of(view, values[:, n]), atol=1e-6)
