"""From a Volume to what the network sees, and back to exactly the same voxels."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slices_back import slices_back

from dinsegment.enhancement.displayed import enhanced_volume
from dinsegment.enhancement.fuzzy import fuzzy
from dinsegment.enhancement.grey import window_inside
from dinsegment.enhancement.methods import Enhancement
from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import Volume
from dinsegment.inference.anatomy import box_around, box_around_body, overview_of
from dinsegment.inference.preprocessing import Preprocessing
from dinsegment.inference.view import View, decide, resampling_matrix
from dinsegment.tasks import ABDOMEN, HEART

quick = settings(max_examples=40, deadline=None)
spacings = st.floats(0.4, 4)
seeds = st.integers(0, 2**32 - 1)


def blobs(shape, seed=0, width=6.0):
    """A smooth image (k, j, i), 0..1000, whose structures are some pixels wide."""
    random = np.random.default_rng(seed)
    grids = np.meshgrid(*[np.arange(n) for n in shape[1:]], indexing="ij")
    image = np.zeros(shape)
    for k in range(shape[0]):
        for _ in range(8):
            place = [random.uniform(0, n) for n in shape[1:]]
            square = sum((g - c) ** 2 for g, c in zip(grids, place, strict=True))
            image[k] += random.uniform(0.2, 1) * np.exp(-square / (2 * (random.uniform(1, 2) * width) ** 2))
    return image / image.max() * 1000


def scan(shape=(3, 60, 80), spacing=(8.0, 1.5, 1.2), seed=0):
    """A smooth Volume; spacing along (k, j, i)."""
    return Volume(blobs(shape, seed), np.diag([*spacing[::-1], 1.0]), "scan")


def stack_of(array, spacing=(1.5, 1.5)):
    return SliceStack(np.asarray(array, np.float32), spacing, 0)


# --- resampling along an axis ---------------------------------------------------------------------


@quick
@given(st.integers(1, 30), spacings, st.integers(1, 40), spacings, st.floats(-40, 40))
def test_rows_sum_to_one_inside_the_field_of_view_and_to_zero_outside(n_in, s_in, n_out, s_out, first):
    matrix = resampling_matrix(n_in, s_in, n_out, s_out, first)
    assert matrix.shape == (n_out, n_in) and matrix.dtype == np.float32 and matrix.min() >= 0
    place = (first + np.arange(n_out) * s_out) / s_in  # in samples; the field of view ends half a sample outside
    inside, outside = (place > -0.499) & (place < n_in - 0.501), (place < -0.501) | (place > n_in - 0.499)
    np.testing.assert_allclose(matrix[inside].sum(1), 1, atol=1e-6)
    assert not matrix[outside].any()


@quick
@given(st.integers(1, 40), spacings)
def test_the_same_grid_is_left_as_it_is(n, spacing):
    np.testing.assert_allclose(resampling_matrix(n, spacing, n, spacing, 0.0), np.eye(n), atol=1e-6)


@quick
@given(st.integers(2, 30), spacings, st.floats(0.1, 1), st.floats(0, 1), st.floats(-3, 3), st.floats(-50, 50))
def test_refining_is_exact_for_a_linear_ramp(n_in, s_in, ratio, start, slope, offset):
    length, s_out = (n_in - 1) * s_in, ratio * s_in
    first = start * s_in
    n_out = int((length - first) / s_out) + 1
    ramp = slope * np.arange(n_in) * s_in + offset
    expected = slope * (first + np.arange(n_out) * s_out) + offset
    got = resampling_matrix(n_in, s_in, n_out, s_out, first).astype(np.float64) @ ramp
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_coarsening_averages_what_would_alias():
    n, factor = 120, 4
    matrix = resampling_matrix(n, 1.0, n // factor, factor, 1.5)
    finest = np.tile([1.0, -1.0], n // 2)  # point sampling would show this as a constant, or as bands
    fast = np.cos(2 * np.pi * np.arange(n) / 5)
    slow = np.cos(2 * np.pi * np.arange(n) / 40)
    assert np.abs(matrix @ finest)[1:-1].max() < 0.02
    assert np.abs(matrix @ fast)[1:-1].max() < 0.15
    assert np.abs(matrix @ slow).max() > 0.8
    # No sample counts more than another: their weights add up to the same.
    np.testing.assert_allclose(matrix.sum(0)[8:-8], 1 / factor, atol=1e-3)


def test_the_outermost_values_hold_for_half_a_sample():
    matrix = resampling_matrix(3, 2.0, 5, 1.0, -1.0)
    np.testing.assert_allclose(matrix[0], [1, 0, 0])
    np.testing.assert_allclose(resampling_matrix(3, 2.0, 1, 1.0, 4.99)[0], [0, 0, 1])
    assert not resampling_matrix(3, 2.0, 1, 1.0, 5.01).any()


# --- slices of a volume ---------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_slices_lie_across_the_largest_spacing_whatever_the_axis_order(order):
    shape, spacing = np.array([3, 4, 5]), np.array([8.0, 1.5, 1.25])
    array = np.arange(60, dtype=np.float32).reshape(shape).transpose(order)
    volume = Volume(array, np.diag([*spacing[list(order)][::-1], 1.0]))
    stack = SliceStack.of(volume)
    assert stack.axis == order.index(0) and len(stack.array) == 3
    in_plane = [spacing[a] for a in order if a != 0]
    assert stack.spacing == pytest.approx(in_plane)
    assert stack.array.shape[1:] == tuple(shape[a] for a in order if a != 0)
    np.testing.assert_allclose(stack.extent_mm, [shape[a] * spacing[a] for a in order if a != 0])
    back = stack.to_volume_axes(stack.array)
    np.testing.assert_array_equal(back, volume.array)
    assert back.flags.c_contiguous
    slices = np.stack([np.take(volume.array, k, stack.axis) for k in range(3)])
    np.testing.assert_array_equal(stack.array, slices)


@pytest.mark.parametrize(
    ("spacing", "axis"),
    [
        ((1, 1, 1), 0),
        ((1, 1.005, 1), 0),  # a header's rounding makes no slice axis
        ((1, 1.1, 1), 0),  # oblong pixels are no slices
        ((2, 1.2, 3), 0),
        ((1.25, 2, 1.25), 1),
        ((0.5, 1, 1), 0),  # two axes are equally coarse: k
        ((1, 1, 3), 2),
        ((5, 1, 1), 0),
    ],
)
def test_without_a_largest_spacing_slices_are_those_of_the_array(spacing, axis):
    volume = Volume(np.zeros((4, 5, 6)), np.diag([*spacing[::-1], 1.0]))
    assert SliceStack.of(volume).axis == axis


@pytest.mark.parametrize("axis", range(3))
def test_a_single_slice_lies_across_its_axis_whatever_the_spacing(axis):
    shape = [7, 7, 7]
    shape[axis] = 1
    for spacing in itertools.permutations((0.5, 1.4, 1.6)):
        volume = Volume(np.zeros(shape), np.diag([*spacing, 1.0]))
        assert SliceStack.of(volume).array.shape == (1, 7, 7)


# --- a view and back ------------------------------------------------------------------------------


def covering(stack, spacing):
    """A view that holds the whole field of view and some more."""
    extent = stack.extent_mm
    size = tuple(int(n) + 4 for n in extent / spacing)
    return View(stack, tuple(float(c) for c in (extent - stack.spacing) / 2), size, spacing)


def back_of(view, values):
    """What `slices_back` gives, all slices in one array."""
    values = torch.stack(values) if isinstance(values, list) else torch.as_tensor(values)
    return slices_back(view, values).numpy()


def test_first_pixel_of_a_view_lies_half_its_size_before_the_centre():
    assert View(stack_of(np.zeros((1, 9, 9))), (10.0, 20.0), (5, 4), 2.0).first == (6.0, 17.0)


@quick
@given(st.floats(0.7, 2), st.floats(0.7, 2), st.floats(0.4, 1.5), seeds)
def test_smooth_images_survive_a_view_and_back(spacing_y, spacing_x, spacing, seed):
    stack = stack_of(blobs((2, 48, 64), seed), (spacing_y, spacing_x))
    view = covering(stack, spacing)
    slices, inside = view.sample()
    assert slices.shape == (2, *view.size) and inside.shape == view.size
    assert set(inside.unique().round(decimals=4).tolist()) <= {0.0, 1.0}
    back = back_of(view, slices)
    assert back.shape == stack.array.shape
    inner = (slice(None), slice(3, -3), slice(3, -3))
    assert np.abs(back[inner] - stack.array[inner]).max() < 0.05 * 1000


def test_a_view_on_the_same_grid_is_a_crop():
    stack = stack_of(np.random.default_rng(1).normal(size=(2, 20, 30)), (1.5, 1.5))
    view = View(stack, (1.5 * (4 + 3.5), 1.5 * (6 + 4.5)), (8, 10), 1.5)
    slices, inside = view.sample()
    np.testing.assert_allclose(slices, stack.array[:, 4:12, 6:16], atol=1e-5)
    assert inside.min() > 0.999
    back = back_of(view, slices)
    np.testing.assert_allclose(back[:, 4:12, 6:16], stack.array[:, 4:12, 6:16], atol=1e-5)
    back[:, 4:12, 6:16] = 0
    assert not back.any()  # zero outside the view


@quick
@given(
    corner=st.tuples(st.integers(8, 18), st.integers(8, 28)),
    sides=st.tuples(st.integers(5, 12), st.integers(5, 12)),
    in_plane=st.tuples(st.floats(0.8, 2), st.floats(0.8, 2)),
    shift=st.tuples(st.floats(-3, 3), st.floats(-3, 3)),
    fineness=st.floats(0.3, 0.95),
)
def test_labels_land_on_the_voxels_they_came_from(corner, sides, in_plane, shift, fineness):
    labels = np.zeros((1, 40, 56))
    labels[0, corner[0] : corner[0] + sides[0], corner[1] : corner[1] + sides[1]] = 1
    stack = stack_of(labels, in_plane)
    view = covering(stack, fineness * min(in_plane))
    view = replace(view, center=tuple(c + s for c, s in zip(view.center, shift, strict=True)))
    back = back_of(view, view.sample()[0])
    np.testing.assert_array_equal(back > 0.5, labels > 0)


def test_classes_come_back_as_each_of_them_would():
    stack = stack_of(np.zeros((3, 12, 14)))
    view = View(stack, (8.0, 9.0), (10, 11), 1.4)
    values = torch.rand(3, 4, 10, 11)
    back = back_of(view, values)
    assert back.shape == (3, 4, 12, 14)
    np.testing.assert_allclose(back[:, 2], back_of(view, values[:, 2]), atol=1e-6)


# --- what the network sees ------------------------------------------------------------------------

PREPROCESSING = Preprocessing(spacing=1.4, box=32, overview_spacing=2.8)
CENTER = (42.0, 50.0)
ROOM = 14  # pixels of `scan` that lie beyond the box around CENTER on every side, at least


def seen(volume, center=CENTER, preprocessing=PREPROCESSING):
    stack = SliceStack.of(volume)
    return preprocessing.slices(box_around(preprocessing, stack, center))


def test_slices_are_images_and_enhanced_images_in_the_unit_interval():
    result = seen(scan())
    for x in (result.image, result.enhanced):
        assert x.shape == (3, 32, 32) and x.dtype == torch.float32
        assert x.min() >= -1 and x.max() <= 1
    assert result.image.min() == -1 and result.image.max() == 1
    assert result.view == View(SliceStack.of(scan()), CENTER, (32, 32), 1.4)
    torch.testing.assert_close(result.enhanced, fuzzy(result.image))


def test_the_window_are_the_percentiles_of_all_slices_inside_the_field_of_view():
    values = np.random.default_rng(2).normal(100, 20, (3, 20, 20)).astype(np.float32)
    stack = stack_of(values, (1.4, 1.4))
    view = box_around(PREPROCESSING, stack, (13.3, 13.3))  # 32 pixels around 20: what is beyond them is no grey value
    raw, inside = view.sample()
    assert 0.35 < inside.mean() < 0.45
    expected = np.percentile(values, PREPROCESSING.percentiles)
    assert window_inside(raw, inside, None, PREPROCESSING.percentiles) == pytest.approx(tuple(expected), rel=1e-4)
    image = PREPROCESSING.slices(view).image
    assert (image[:, inside < 0.5] == -1).all() and image[:, inside > 0.5].mean() == pytest.approx(0, abs=0.1)


def test_a_window_has_a_width_even_if_all_is_constant():
    for value in (0.0, 7.0, -3000.0):
        stack = stack_of(np.full((2, 40, 40), value), (1.4, 1.4))
        result = PREPROCESSING.slices(box_around(PREPROCESSING, stack, (28.0, 28.0)))
        assert torch.isfinite(result.image).all() and torch.isfinite(result.enhanced).all()
    low, high = window_inside(torch.zeros(2, 3, 3), torch.zeros(3, 3))  # a view of nothing
    assert high > low


@quick
@given(st.tuples(*[st.integers(-ROOM, 20)] * 4), st.floats(0, 3000))
def test_neither_padding_nor_cropping_beside_the_box_changes_what_is_seen(margins, padding):
    """The box and its anatomy are seen alike in a wide and in a narrow field of view."""
    volume = scan((3, 72, 90))
    top, bottom, left, right = margins
    widths = [(0, 0), (max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))]
    array = np.pad(volume.array, widths, constant_values=padding)
    rows, columns = array.shape[1:]
    array = array[:, max(-top, 0) : rows - max(-bottom, 0), max(-left, 0) : columns - max(-right, 0)]
    other = Volume(array, volume.ijk_to_ras)
    center = (54.0, 54.0)
    expected = seen(volume, center)
    got = seen(other, (center[0] + 1.5 * top, center[1] + 1.2 * left))
    torch.testing.assert_close(got.image, expected.image, rtol=0, atol=1e-4)
    torch.testing.assert_close(got.enhanced, expected.enhanced, rtol=0, atol=1e-3)


@quick
@given(st.floats(0.02, 60), st.floats(-1500, 1500))
def test_scanner_units_do_not_matter(a, b):
    volume = scan()
    expected = seen(volume)
    got = seen(volume.with_array(a * volume.array.astype(np.float64) + b))
    torch.testing.assert_close(got.image, expected.image, rtol=0, atol=2e-3)
    torch.testing.assert_close(got.enhanced, expected.enhanced, rtol=0, atol=1e-2)


def test_the_axis_order_of_the_file_does_not_matter():
    volume = scan()
    expected = seen(volume)
    turned = Volume(np.moveaxis(volume.array, 0, 2), np.diag([8.0, 1.2, 1.5, 1.0]))
    torch.testing.assert_close(seen(turned).image, expected.image)


def test_the_enhancement_of_the_options_is_used():
    plain = seen(scan(), preprocessing=Preprocessing(box=32, enhancement=Enhancement("none")))
    assert torch.equal(plain.enhanced, plain.image)
    assert not torch.allclose(seen(scan()).enhanced, plain.enhanced, atol=0.1)


@pytest.mark.parametrize(("shape", "spacing"), [((2, 30, 40), 1.5), ((2, 300, 260), 1.4), ((1, 200, 64), 0.7)])
def test_the_overview_shows_the_whole_field_of_view(shape, spacing):
    stack = stack_of(np.ones(shape), (spacing, 1.2 * spacing))
    view = overview_of(PREPROCESSING, stack)
    assert all(n % 16 == 0 and n >= PREPROCESSING.box[0] for n in view.size)
    assert view.spacing == PREPROCESSING.overview_spacing
    first, extent = np.array(view.first), stack.extent_mm
    assert (first - view.spacing / 2 <= -0.5 * np.array(stack.spacing)).all()
    last = first + (np.array(view.size) - 0.5) * view.spacing
    assert (last >= extent - 0.5 * np.array(stack.spacing)).all()
    _, inside = view.sample()
    assert float(inside.sum()) * view.spacing**2 == pytest.approx(extent.prod(), rel=0.1)
    back = back_of(view, inside.expand(shape[0], -1, -1))
    assert back[:, 2:-2, 2:-2].min() > 0.99


CT = Preprocessing(
    spacing=6.0,
    box=(32, 48),
    overview_spacing=9.0,
    plane="axial",
    slice_spacing=5.0,
    grey_window=(-125.0, 275.0),
    locate="body",
)


@pytest.mark.parametrize(
    ("preprocessing", "task"),
    [
        (Preprocessing(), HEART),
        (CT, ABDOMEN),
        (Preprocessing(1.1, 96, 3.0, (1.0, 99.0), Enhancement("fuzzy", {"m": 3, "gamma": 2.0}), True), HEART),
    ],
    ids=("defaults", "ct", "options"),
)
def test_options_survive_json_without_what_is_the_tasks(preprocessing, task):
    options = json.loads(json.dumps(preprocessing.to_dict()))
    assert not {"plane", "grey_window"} & set(options)
    assert Preprocessing.from_dict(options, task) == preprocessing
    assert Preprocessing.from_dict({}) == Preprocessing()


def test_plane_and_window_are_the_tasks():
    made = Preprocessing.from_dict({"locate": "body"}, ABDOMEN)
    assert (made.plane, made.grey_window) == (ABDOMEN.plane, ABDOMEN.grey_window)
    assert Preprocessing.from_dict({"plane": "axial", "grey_window": [-125.0, 275.0]}, ABDOMEN).plane == "axial"
    with pytest.raises(ValueError, match=r"'plane'.*acquired.*axial in the task 'abdomen'"):
        Preprocessing.from_dict({"plane": "acquired"}, ABDOMEN)
    with pytest.raises(ValueError, match="'grey_window'"):
        Preprocessing.from_dict({"grey_window": [-200.0, 300.0]}, ABDOMEN)


def test_one_number_is_a_square_box():
    assert Preprocessing(box=96) == Preprocessing(box=(96, 96)) == Preprocessing.from_dict({"box": [96, 96]})


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"plane": "sagittal"}, "'plane'.*'sagittal'.*acquired"),
        ({"locate": "head"}, "'locate'.*'head'.*anatomy"),
        ({"locate": "body"}, "give 'grey_window'"),
        ({"grey_window": [275, -125]}, "'grey_window'.*lower and a higher"),
        ({"box": [96, 96, 96]}, "'box'.*96, 96, 96"),
        ({"box": [96, 0]}, "'box'"),
        ({"box": 96.5}, "'box'.*96.5"),
        ({"spacing": 0.0}, "'spacing'.*0.0.*above 0 mm"),
        ({"slice_spacing": -3.0}, "'slice_spacing'.*-3.0"),
        ({"overview_spacing": float("nan")}, "'overview_spacing'.*nan"),
    ],
    ids=str,
)
def test_an_option_that_cannot_be_is_named(options, named):
    with pytest.raises(ValueError, match=named):
        Preprocessing.from_dict(options)


# --- grey values that mean the same in every image ------------------------------------------------


def hounsfield(seed=0):
    """A body of soft tissue in air with bone in it, all of it beyond the window somewhere, and its axial slices."""
    array = blobs((6, 40, 50), seed) * 2.5 - 1000
    return Volume(array, np.diag([-9.0, -9.0, 6.0, 1.0]), "ct", "CT")


def ct_sees(volume):
    stack = SliceStack.in_plane(volume, CT.plane)
    return CT.slices(box_around_body(CT, stack), 3)


def test_the_window_is_that_of_the_options_whatever_the_image_holds():
    for value, expected in ((-1000.0, -1.0), (-125.0, -1.0), (75.0, 0.0), (275.0, 1.0), (3000.0, 1.0)):
        volume = hounsfield()
        stack = SliceStack.in_plane(volume.with_array(np.full(volume.shape, value)), CT.plane)
        view = box_around(CT, stack, (180.0, 220.0))
        image = CT.slices(view).image
        torch.testing.assert_close(image, torch.full_like(image, expected), rtol=0, atol=1e-5)


@quick
@given(seeds)
def test_what_lies_beyond_the_window_makes_no_difference(seed):
    """A stored image may be clipped; air may be -1000 or -3024 around the scanner's circle; metal has any value."""
    volume = hounsfield(seed % 1000)
    expected = ct_sees(volume)
    clipped = volume.with_array(volume.array.clip(-125, 275))
    beyond = volume.array.copy()
    random = np.random.default_rng(seed)
    beyond[volume.array < -125] = random.choice([-3024.0, -1024.0, -200.0], (volume.array < -125).sum())
    beyond[volume.array > 275] = random.choice([300.0, 3000.0, 30000.0], (volume.array > 275).sum())
    assert (volume.array < -125).any() and (volume.array > 275).any()
    for other in (clipped, volume.with_array(beyond)):
        got = ct_sees(other)
        assert got.view == expected.view
        assert torch.equal(got.image, expected.image) and torch.equal(got.enhanced, expected.enhanced)


# --- for display ----------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", range(3))
def test_the_enhanced_volume_lies_on_the_grid_and_in_the_grey_range_of_the_original(axis):
    plain = scan()
    array = np.moveaxis(plain.array, 0, axis)
    spacing = np.insert((1.5, 1.2), axis, 8.0)
    matrix = np.diag([*spacing[::-1], 1.0])
    matrix[:3, 3] = (-120, 30, 55)
    volume = Volume(array, matrix, "scan", "MR")
    before = volume.array.copy()
    enhanced = enhanced_volume(volume, PREPROCESSING.enhancement)
    np.testing.assert_array_equal(volume.array, before)
    np.testing.assert_array_equal(enhanced.ijk_to_ras, volume.ijk_to_ras)
    assert enhanced.shape == volume.shape and enhanced.modality == "MR"
    assert "scan" in enhanced.name and enhanced.name != "scan"
    assert np.isfinite(enhanced.array).all()
    assert enhanced.array.min() >= volume.array.min() and enhanced.array.max() <= volume.array.max()
    low, high = np.percentile(volume.array, (0.5, 99.5))
    unit = np.clip((plain.array - low) / (high - low) * 2 - 1, -1, 1)
    expected = (np.stack([fuzzy(s) for s in unit]) + 1) / 2 * (high - low) + low
    np.testing.assert_allclose(enhanced.array, np.moveaxis(expected, 0, axis), atol=1.0)
    assert np.abs(enhanced.array - volume.array).mean() > 20


def test_the_enhanced_ct_lies_in_the_window_of_the_options():
    volume = hounsfield()
    enhanced = enhanced_volume(volume, CT.enhancement, CT.percentiles, CT.grey_window)
    assert enhanced.array.min() >= -125 and enhanced.array.max() <= 275
    unit = (volume.array.clip(-125, 275) + 125) / 200 - 1
    expected = (np.stack([fuzzy(s) for s in unit]) + 1) * 200 - 125
    np.testing.assert_allclose(enhanced.array, expected, atol=0.5)


# --- the decision ---------------------------------------------------------------------------------


@quick
@given(st.integers(2, 9), st.integers(1, 6), st.integers(1, 7), st.floats(0.2, 8), seeds)
def test_decide_is_argmax_with_what_is_left_as_background(classes, rows, columns, sharpness, seed):
    logits = torch.randn(classes, rows, columns, generator=torch.Generator().manual_seed(seed)) * sharpness
    probabilities = logits.double().softmax(0)
    labels = decide(probabilities[1:])
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.long(), probabilities.argmax(0))


def test_outside_the_box_everything_is_background():
    assert not decide(torch.zeros(3, 4, 5)).any()
    assert decide(torch.tensor([[0.3], [0.3]])).tolist() == [0]  # 0.4 is left for the background
    assert decide(torch.tensor([[0.3], [0.36]])).tolist() == [2]


def test_outside_the_field_of_view_it_is_black_whatever_zero_means():
    """In CT 0 HU is water: what lies outside must not look like it."""
    water = scan(seed=3)
    water = water.with_array(water.array - 500.0)
    preprocessing = Preprocessing(box=64)
    view = box_around(preprocessing, SliceStack.of(water), (0.0, 0.0))
    slices = preprocessing.slices(view)
    _, inside = view.sample()
    assert 0 < inside.mean() < 0.5
    assert (slices.image[:, inside < 0.5] == -1).all()
    assert slices.image[:, inside > 0.5].mean() > -0.99


def test_chosen_slices_come_with_their_neighbours_and_black_beyond_the_ends():
    volume = scan()
    stack = SliceStack.of(volume)
    view = box_around(PREPROCESSING, stack, CENTER)
    whole = PREPROCESSING.slices(view)
    some = PREPROCESSING.slices(view, channels=3, chosen=np.array([0, 2]))
    assert len(some) == 2 and len(whole) == len(stack.array) == 3
    image, enhanced = some.inputs(slice(0, 2))
    assert image.shape == enhanced.shape == (2, 3, 32, 32)
    assert (image[0, 0] == -1).all() and (enhanced[0, 0] == -1).all()  # nothing lies before the first slice
    assert (image[1, 2] == -1).all()
    torch.testing.assert_close(image[0, 1:], whole.image[:2])
    torch.testing.assert_close(enhanced[1, :2], whole.enhanced[1:])


def test_only_the_slices_that_are_seen_are_sampled():
    volume = scan()
    stack = SliceStack.of(volume)
    few = PREPROCESSING.slices(box_around(PREPROCESSING, stack, CENTER), chosen=np.array([2]))
    assert few.image.shape[0] == 1 and few.shown.tolist() == [[0]]
