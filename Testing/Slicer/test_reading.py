"""How images are looked at: as their kind says, in slices of any orientation."""

from __future__ import annotations

import mrml
import numpy as np
import pytest
import slicer

from dinsegment.images.slices import SliceStack
from dinsegment.tasks import ABDOMEN, HEART
from dinsegment_slicer.scene.nodes import image_of, volume_from_node
from dinsegment_slicer.scene.reading import AS_ACQUIRED, Reading, reading_of, reading_of_task, stack_of

CT = Reading("axial", ABDOMEN.grey_window)


def hounsfield(shape=(6, 20, 24)):
    """Air around soft tissue."""
    array = np.full(shape, -1000, np.int16)
    array[:, 5:15, 6:18] = 40
    return array


def test_a_task_says_it():
    assert reading_of_task(ABDOMEN) == CT
    assert reading_of_task(HEART) == AS_ACQUIRED == Reading("acquired", None)


@pytest.mark.parametrize(("modality", "expected"), [("CT", CT), ("MR", AS_ACQUIRED), ("PT", AS_ACQUIRED)])
def test_what_dicom_says_comes_first(scene, modality, expected):
    node = mrml.add_volume(scene, hounsfield())
    node.SetAttribute("DICOM.Modality", modality)
    assert reading_of(node) == expected


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_without_dicom_air_tells_a_ct(scene, dtype):
    assert reading_of(mrml.add_volume(scene, hounsfield().astype(dtype))) == CT


def test_grey_values_that_are_no_hounsfield_units_are_looked_at_in_their_own_range(scene):
    assert reading_of(mrml.add_volume(scene, hounsfield() + 1024)) == AS_ACQUIRED


@pytest.mark.parametrize("geometry", mrml.GEOMETRIES)
@pytest.mark.parametrize("plane", ["acquired", "axial"])
def test_the_slices_are_those_of_the_library_and_live(scene, geometry, plane):
    node = mrml.add_volume(scene, hounsfield(), mrml.GEOMETRIES[geometry])
    volume = volume_from_node(node)
    expected = SliceStack.axial(volume) if plane == "axial" else SliceStack.of(volume)
    stack = stack_of(image_of(node), plane)
    assert (stack.axis, stack.flipped, stack.transposed) == (expected.axis, expected.flipped, expected.transposed)
    assert stack.spacing == pytest.approx(expected.spacing)
    np.testing.assert_array_equal(stack.array, expected.array)
    stack.array[0] = 77
    assert (slicer.util.arrayFromVolume(node) == 77).sum() == stack.array[0].size


def test_a_single_slice_is_looked_at_as_it_is(scene):
    coronal = mrml.affine(np.eye(3)[[0, 2, 1]], (1, 1, 1), (0, 0, 0))
    stack = stack_of(image_of(mrml.add_volume(scene, hounsfield((1, 20, 24)), coronal)), "axial")
    assert stack.array.shape == (1, 20, 24)
