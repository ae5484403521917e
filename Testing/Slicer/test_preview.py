"""The preview of the enhanced image: the slice in view at once, the same voxels as the whole in the end."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from mrml import OBLIQUE, add_volume, affine, rotation

from dinsegment.enhancement.displayed import enhanced_slices, enhanced_volume
from dinsegment.enhancement.grey import grey_window
from dinsegment.enhancement.methods import Enhancement
from dinsegment.images.slices import SliceStack
from dinsegment_slicer.scene import preview as preview_module
from dinsegment_slicer.scene.nodes import plain_enhanced_node, volume_from_node
from dinsegment_slicer.scene.preview import EnhancedImage, EnhancementPreview
from dinsegment_slicer.scene.reading import Reading, reading_of

SHARP = Enhancement("fuzzy", {"m": 4, "n": 3, "gamma": 2.0})


def image(scene, shape=(6, 40, 50), ijk_to_ras=OBLIQUE, name="Cine SAX"):
    array = np.random.default_rng(1).gamma(2.0, 200.0, shape).astype(np.int16)
    volumeNode = add_volume(scene, array, ijk_to_ras, name)
    return EnhancedImage(volumeNode, plain_enhanced_node(volumeNode))


def shown(image):
    return slicer.util.arrayFromVolume(image.enhancedNode).copy()


def expected(image, enhancement):
    return enhanced_volume(volume_from_node(image.volumeNode), enhancement).array


def test_the_slice_in_view_is_there_at_once_and_the_rest_is_not(scene):
    one = image(scene)
    before = shown(one)
    EnhancementPreview().begin([one], SHARP, 2)
    after = shown(one)
    np.testing.assert_array_equal(after[2], expected(one, SHARP)[2])
    np.testing.assert_array_equal(np.delete(after, 2, 0), np.delete(before, 2, 0))


@pytest.mark.parametrize("axis", range(3))
def test_in_the_end_it_is_the_whole_enhanced_volume(scene, axis):
    spacing = np.insert((1.3, 1.2), axis, 8.0)[::-1]
    one = image(scene, np.insert((40, 50), axis, 5), affine(np.eye(3), spacing, (0, 0, 0)))
    preview = EnhancementPreview()
    preview.begin([one], SHARP, 0)
    while preview.step():
        pass
    np.testing.assert_array_equal(shown(one), expected(one, SHARP))


def test_all_images_are_made_the_first_one_first(scene):
    first, second = image(scene), image(scene, name="Other")
    untouched = shown(second)
    preview = EnhancementPreview()
    preview.begin([first, second], SHARP, 3)
    np.testing.assert_array_equal(shown(second), untouched)
    while preview.step():
        pass
    for one in (first, second):
        np.testing.assert_array_equal(shown(one), expected(one, SHARP))


def test_other_parameters_begin_anew(scene):
    one = image(scene)
    preview = EnhancementPreview()
    preview.begin([one], SHARP, 0)
    preview.begin([one], Enhancement("none"), 5)
    while preview.step():
        pass
    np.testing.assert_array_equal(shown(one), expected(one, Enhancement("none")))


def test_the_original_and_its_display_are_not_touched(scene):
    one = image(scene)
    before = slicer.util.arrayFromVolume(one.volumeNode).copy()
    display = one.volumeNode.GetDisplayNode()
    window = (display.GetWindow(), display.GetLevel(), display.GetAutoWindowLevel())
    preview = EnhancementPreview()
    preview.begin([one], SHARP, 0)
    while preview.step():
        pass
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(one.volumeNode), before)
    assert (display.GetWindow(), display.GetLevel(), display.GetAutoWindowLevel()) == window


def test_slicer_is_told_that_the_image_changed(scene):
    one = image(scene)
    before = one.enhancedNode.GetImageData().GetMTime()
    EnhancementPreview().begin([one], SHARP, 0)
    assert one.enhancedNode.GetImageData().GetMTime() > before


def test_an_image_removed_meanwhile_is_left_out(scene):
    first, second = image(scene), image(scene, name="Other")
    preview = EnhancementPreview()
    preview.begin([first, second], SHARP, 0)
    scene.RemoveNode(first.enhancedNode)
    while preview.step():
        pass
    np.testing.assert_array_equal(shown(second), expected(second, SHARP))


def test_without_an_image_there_is_nothing_to_do():
    preview = EnhancementPreview()
    preview.begin([], SHARP, 0)
    assert not preview.step()


def test_a_large_image_is_made_in_many_steps_between_which_the_window_answers(scene):
    one = image(scene, (120, 512, 512))
    preview = EnhancementPreview()
    preview.begin([one], SHARP, 30)
    steps = 1
    while preview.step():
        steps += 1
    assert steps > 4  # a step takes as many slices as fit into its time, so a fast machine takes few


def test_the_grey_window_is_computed_once_until_the_voxels_change(scene, monkeypatch):
    calls = []
    monkeypatch.setattr(preview_module, "grey_window", lambda array: calls.append(1) or grey_window(array))
    one = image(scene)
    preview = EnhancementPreview()
    preview.begin([one], SHARP, 0)
    while preview.step():
        pass
    assert len(calls) == 1
    slicer.util.arrayFromVolume(one.volumeNode)[:] += 5
    slicer.util.arrayFromVolumeModified(one.volumeNode)
    preview.begin([one], SHARP, 0)
    assert len(calls) == 2


class TestCT:
    WINDOW = (-125.0, 275.0)

    @pytest.fixture(params=["sagittal", "coronal", "flipped", "oblique"])
    def one(self, scene, request):
        """A CT with thick slices that are not axial ones, or run downwards."""
        directions = {
            "sagittal": np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]]),
            "coronal": np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]),
            "flipped": np.diag([-1, 1, -1]),
            "oblique": rotation(15, -10, 5),
        }[request.param]
        array = np.random.default_rng(2).normal(0, 400, (7, 18, 20)).astype(np.int16)
        volumeNode = add_volume(scene, array, affine(directions, (1.5, 1.5, 4.0), (0, 0, 0)), "CT")
        volumeNode.SetAttribute("DICOM.Modality", "CT")
        reading = reading_of(volumeNode)
        assert reading == Reading("axial", self.WINDOW)
        return EnhancedImage(volumeNode, plain_enhanced_node(volumeNode, reading.window), reading=reading)

    def expected(self, one):
        volume = volume_from_node(one.volumeNode)
        stack = SliceStack.axial(volume)
        slices = [enhanced_slices(stack.array[k : k + 1], self.WINDOW, SHARP)[0] for k in range(len(stack.array))]
        return stack.to_volume_axes(np.stack(slices))

    def test_axial_slices_are_enhanced_inside_the_window_of_soft_tissue(self, one):
        preview = EnhancementPreview()
        preview.begin([one], SHARP, 0)
        while preview.step():
            pass
        np.testing.assert_array_equal(shown(one), self.expected(one))
        assert shown(one).min() >= self.WINDOW[0] and shown(one).max() <= self.WINDOW[1]

    def test_the_axial_slice_in_view_comes_first(self, one):
        before = shown(one)
        EnhancementPreview().begin([one], SHARP, 2)
        axis = SliceStack.axial(volume_from_node(one.volumeNode)).axis
        after, expected = (np.moveaxis(array, axis, 0) for array in (shown(one), self.expected(one)))
        np.testing.assert_array_equal(after[2], expected[2])
        np.testing.assert_array_equal(np.delete(after, 2, 0), np.delete(np.moveaxis(before, axis, 0), 2, 0))
