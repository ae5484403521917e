"""Volume: the grid it stands on, and what is no grid or no image."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dinsegment.errors import DINSegmentError, InputError
from dinsegment.geometry import RAS_FROM_LPS
from dinsegment.images.volume import Volume, check_voxels, ras_of


def grid(i=(1, 0, 0), j=(0, 1, 0), k=(0, 0, 1), origin=(0, 0, 0)):
    """IJK-to-RAS from its columns."""
    matrix = np.eye(4)
    matrix[:3] = np.column_stack((i, j, k, origin))
    return matrix


def message(function, *arguments):
    """The sentence of the error that the call raises."""
    with pytest.raises(InputError) as caught:
        function(*arguments)
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".")
    return text


@pytest.mark.parametrize(
    ("given", "kept"),
    [(np.int16, np.int16), (np.uint16, np.float32), (np.int32, np.float32), (np.float64, np.float32)],
)
def test_array_becomes_contiguous_float32_unless_int16_and_matrix_float64(given, kept):
    array = np.arange(24, dtype=given).reshape(4, 3, 2).T
    volume = Volume(array, np.eye(4, dtype=np.float32).tolist())
    assert volume.array.dtype == kept and volume.array.flags.c_contiguous
    assert volume.ijk_to_ras.dtype == np.float64
    assert volume.shape == (2, 3, 4)
    np.testing.assert_array_equal(volume.array, array)


def test_spacing_is_in_the_order_of_the_array():
    volume = Volume(np.zeros((2, 3, 4)), np.diag([0.5, 0.7, 8.0, 1.0]))
    np.testing.assert_allclose(volume.spacing, (8.0, 0.7, 0.5))


@settings(max_examples=50, deadline=None)
@given(
    spacing=st.tuples(*[st.floats(0.2, 12)] * 3),
    seed=st.integers(0, 2**32 - 1),
    order=st.permutations(range(3)),
    flips=st.tuples(*[st.sampled_from((-1.0, 1.0))] * 3),
)
def test_spacing_and_voxel_volume_of_oblique_flipped_and_permuted_grids(spacing, seed, order, flips):
    turned = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0][:, order] * flips
    volume = Volume(np.zeros((1, 1, 1)), grid(*(turned * spacing).T, origin=(5, -7, 300)))
    np.testing.assert_allclose(volume.spacing, spacing[::-1], rtol=1e-12)
    assert volume.voxel_volume_ml == pytest.approx(np.prod(spacing) / 1000, rel=1e-9)


def test_voxel_volume_of_a_sheared_grid_is_that_of_the_parallelepiped():
    volume = Volume(np.zeros((1, 1, 1)), grid((2, 0, 0), (1, 3, 0), (0.5, 0.25, 5)))
    assert volume.voxel_volume_ml == pytest.approx(0.030)
    assert np.prod(volume.spacing) / 1000 > 0.031  # which is not the product of its spacings


def test_with_array_keeps_everything_but_the_voxels():
    volume = Volume(np.zeros((2, 3, 4)), grid(origin=(1, 2, 3)), "heart", "MR", "a/file")
    other = volume.with_array(np.ones((2, 3, 4)))
    assert (other.name, other.modality, other.source) == ("heart", "MR", "a/file")
    np.testing.assert_array_equal(other.ijk_to_ras, volume.ijk_to_ras)
    assert other.array.min() == 1 and volume.array.max() == 0
    assert volume.with_array(np.ones((2, 3, 4)), name="mask").name == "mask"
    with pytest.raises(ValueError, match=r"\(2, 4, 3\).*\(2, 3, 4\)"):
        volume.with_array(np.ones((2, 4, 3)))


def test_a_part_lies_where_it_lay():
    matrix = np.array([[0.9, 0.2, 0.1, 5], [0.1, -1.4, 0.3, -7], [0.2, 0.1, 3.0, 40], [0, 0, 0, 1]])
    volume = Volume(np.arange(210, dtype=np.float32).reshape(5, 6, 7), matrix, "CT", "CT", "a/file")
    part = volume.part((slice(1, 4), slice(2, 5), slice(3, 7)))
    np.testing.assert_array_equal(part.array, volume.array[1:4, 2:5, 3:7])
    for index in ((0, 0, 0), (2, 1, 3)):
        np.testing.assert_allclose(ras_of(part, index), ras_of(volume, np.add(index, (1, 2, 3))))
    assert (part.name, part.modality, part.source, part.dicom) == ("CT", "CT", "a/file", None)


def test_lps_to_ras_turns_two_axes_and_is_its_own_inverse():
    np.testing.assert_array_equal(RAS_FROM_LPS @ (1, 2, 3, 1), (-1, -2, 3, 1))
    np.testing.assert_array_equal(RAS_FROM_LPS @ RAS_FROM_LPS, np.eye(4))


@pytest.mark.parametrize("shape", [(3,), (3, 4), (2, 3, 4, 5), (0, 3, 4), (3, 4, 0)])
def test_only_three_dimensions_none_of_them_empty(shape):
    text = message(Volume, np.zeros(shape), np.eye(4), "heart")
    assert "'heart'" in text and str(shape) in text and "three dimensions" in text


@pytest.mark.parametrize(
    "matrix",
    [np.eye(3), np.zeros((4, 3)), np.diag([1, 1, np.nan, 1]), np.diag([np.inf, 1, 1, 1]), (1.5, 1.5, 8.0), "RAS"],
    ids=("3x3", "4x3", "nan", "infinite", "spacing", "text"),
)
def test_a_matrix_has_4x4_finite_numbers(matrix):
    text = message(Volume, np.zeros((2, 2, 2)), matrix, "heart")
    assert "'heart'" in text and "4x4 finite numbers" in text


@pytest.mark.parametrize("dtype", [np.complex64, object, "U3", "M8[s]"])
def test_voxels_are_numbers(dtype):
    text = message(Volume, np.ones((2, 2, 2)).astype(dtype), np.eye(4), "heart")
    assert "'heart'" in text and "no grey values" in text


def test_masked_voxels_are_not_taken_for_values():
    array = np.ma.masked_less(np.arange(8.0).reshape(2, 2, 2), 3)
    assert "masked" in message(Volume, array, np.eye(4), "heart")
    np.testing.assert_array_equal(Volume(array.filled(0), np.eye(4)).array.ravel(), [0, 0, 0, 3, 4, 5, 6, 7])
    Volume(np.ma.array(np.ones((2, 2, 2)), mask=False), np.eye(4))


def test_numbers_too_large_for_float32_are_told_of_and_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        volume = Volume(np.array([[[0.0, 1e300]]]), np.eye(4))
    assert "1 voxels that are NaN or infinite" in message(check_voxels, volume)


def test_zero_spacing_and_axes_that_do_not_span_space_are_named():
    text = message(Volume, np.zeros((2, 2, 2)), np.diag([0.5, 0.0, 8.0, 1.0]), "heart")
    assert "(0.5, 0.0, 8.0) mm" in text and "above zero" in text
    message(Volume, np.zeros((2, 2, 2)), grid((1, 0, 0), (0, 1, 0), (1, 1, 1e-5)))
    message(Volume, np.zeros((2, 2, 2)), grid((1, 0, 0), (2, 0, 0), (0, 0, 1)))
    tiny = Volume(np.zeros((2, 2, 2)), np.diag([1e-3, 1e-3, 1e-3, 1.0]))  # small, but a grid
    assert tiny.voxel_volume_ml == pytest.approx(1e-12)


def test_errors_are_for_users_and_still_value_errors():
    assert issubclass(InputError, DINSegmentError) and issubclass(InputError, ValueError)


def test_check_voxels_counts_what_is_not_finite():
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    check_voxels(Volume(array, np.eye(4)))
    for bad in (np.nan, np.inf, -np.inf):
        damaged = array.copy()
        damaged[0, 1, 1:3] = bad
        text = message(check_voxels, Volume(damaged, np.eye(4), "heart"))
        assert "'heart' has 2 voxels that are NaN or infinite" in text


def test_check_voxels_refuses_a_constant_image():
    text = message(check_voxels, Volume(np.full((2, 3, 4), 7.5), np.eye(4), "heart"))
    assert "'heart' is constant, every voxel is 7.5" in text
