"""The effect DIN without the Segment Editor: what is drawn on, what is read and changed, and what is asked."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest
import slicer
from mrml import GEOMETRIES, OBLIQUE, add_linear_transform, add_volume, affine, rotation, threshold
from vtk.util.numpy_support import vtk_to_numpy

from dinsegment.correction.single_slices import SingleSlices
from dinsegment.correction.strokes import Stroke, answer
from dinsegment.errors import InputError, WorkerError
from dinsegment.inference.model import load_model
from dinsegment.phantom.heart import heart_phantom
from dinsegment.tasks import ABDOMEN, HEART
from dinsegment_slicer.effect.drawing import drawn, in_world, on_slice, outline, slice_shape
from dinsegment_slicer.effect.masks import change_image, slices_of
from dinsegment_slicer.effect.pipeline import Lines
from dinsegment_slicer.effect.talk import Image, Question, Talk
from dinsegment_slicer.effect.target import find_target
from dinsegment_slicer.running.worker import Worker
from dinsegment_slicer.scene.nodes import image_of, segmentation_node, volume_from_node
from dinsegment_slicer.scene.placement import Grid
from dinsegment_slicer.scene.segments import LABELMAP

LV, LV_NAME = 3, "Left ventricle"
COARSE = affine(np.eye(3), (2, 2, 2), (0.5, 0.5, 0.5))


def segmented(volumeNode, model="heart-din-small"):
    return segmentation_node(threshold(volume_from_node(volumeNode), HEART, model), volumeNode)


def add_segment(node, segment_id, name):
    """An empty segment, as the Segment Editor adds it."""
    segment = slicer.vtkSegment()
    segment.SetName(name)
    segment.AddRepresentation(LABELMAP, slicer.vtkOrientedImageData())
    assert node.GetSegmentation().AddSegment(segment, segment_id)


def set_voxels(node, segment_id, array, ijk_to_ras):
    """Gives a segment a labelmap of its own."""
    image = slicer.vtkOrientedImageData()
    image.SetExtent(0, array.shape[2] - 1, 0, array.shape[1] - 1, 0, array.shape[0] - 1)
    image.SetGeometryFromImageToWorldMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras))
    image.AllocateScalars(3, 1)
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = array.ravel()
    segment = node.GetSegmentation().GetSegment(segment_id)
    segment.AddRepresentation(LABELMAP, image)
    segment.SetLabelValue(1)


def labels_of(volumeNode):
    return threshold(volume_from_node(volumeNode), HEART).labels


# --- what is corrected


def test_a_segment_is_known_by_its_codes_whatever_it_is_called(scene):
    volumeNode = add_volume(scene)
    node = segmented(volumeNode)
    node.GetSegmentation().GetSegment(LV_NAME).SetName("Cavity")
    target = find_target(node, LV_NAME, volumeNode)
    assert (target.label, target.task, target.model) == (LV, HEART, "heart-din-small")


def test_a_segment_of_the_users_own_is_known_by_its_name(scene):
    volumeNode = add_volume(scene)
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    add_segment(node, "1", "Spleen")
    target = find_target(node, "1", volumeNode)
    assert (target.task, target.model) == (ABDOMEN, None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda node, volume: (None, LV_NAME, volume), "Choose a segmentation and the image"),
        (lambda node, volume: (node, LV_NAME, None), "Choose a segmentation and the image"),
        (lambda node, volume: (node, None, volume), "Choose the segment to correct"),
        (lambda node, volume: (node, "nobody", volume), "Choose the segment to correct"),
    ],
)
def test_says_what_to_choose(scene, make, message):
    volumeNode = add_volume(scene)
    with pytest.raises(InputError, match=re.escape(message)):
        find_target(*make(segmented(volumeNode), volumeNode))


def test_a_segment_that_no_model_knows_is_named_with_those_that_one_does(scene):
    volumeNode = add_volume(scene)
    node = segmented(volumeNode)
    add_segment(node, "tumor", "Tumor")
    with pytest.raises(InputError, match="does not know the segment 'Tumor': choose one of Right ventricle") as said:
        find_target(node, "tumor", volumeNode)
    assert "Spleen" not in str(said.value)  # A network for the heart has made the others.


def test_a_model_in_a_folder_answers_for_what_it_made(scene):
    volumeNode = add_volume(scene)
    node = segmented(volumeNode, "mine")
    asked = []
    target = find_target(node, LV_NAME, volumeNode, lambda name: asked.append(name) or "heart-din-small")
    assert (target.model, target.task, asked) == ("heart-din-small", HEART, ["mine"])


@pytest.mark.parametrize("named", [lambda _name: None, lambda _name: "/nowhere/mine"])
def test_a_model_that_is_nowhere_to_be_found_is_said_and_no_other_takes_its_place(scene, named):
    volumeNode = add_volume(scene)
    node = segmented(volumeNode, "mine")
    with pytest.raises(InputError, match="The model 'mine', which made this result, is not there any more: choose"):
        find_target(node, LV_NAME, volumeNode, named)


def test_a_segment_is_in_the_segmentation_that_is_edited_or_not(scene):
    volumeNode = add_volume(scene)
    node, other = segmented(volumeNode), segmented(volumeNode)
    target = find_target(node, LV_NAME, volumeNode)
    assert target.is_in(node)
    assert not target.is_in(other)
    assert not target.is_in(None)
    node.GetSegmentation().RemoveSegment(LV_NAME)
    assert not target.is_in(node)


def test_another_phase_is_another_image(scene):
    volumeNode = add_volume(scene)
    node = segmented(volumeNode)
    before = find_target(node, LV_NAME, volumeNode).key
    assert find_target(node, LV_NAME, volumeNode).key == before
    array = slicer.util.arrayFromVolume(volumeNode)
    array[0, 0, 0] += 1
    slicer.util.arrayFromVolumeModified(volumeNode)
    assert find_target(node, LV_NAME, volumeNode).key != before


# --- where it is drawn


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("axis", range(3))
def test_there_and_back(scene, name, axis):
    volumeNode = add_volume(scene, ijk_to_ras=GEOMETRIES[name])
    grid = Grid(GEOMETRIES[name], image_of(volumeNode).array.shape[::-1], axis)
    pixels = np.array([(0.0, 0.0), (1.5, 2.25), (2.0, 3.0)])
    n, back = on_slice(grid, in_world(grid, 2, pixels))
    assert n == 2
    np.testing.assert_allclose(back, pixels, atol=1e-6)


def test_pixels_are_those_of_the_array(scene):
    volumeNode = add_volume(scene, ijk_to_ras=OBLIQUE)
    grid = Grid.of(volumeNode)
    shape = image_of(volumeNode).array.shape
    assert slice_shape(grid) == shape[1:]
    k, j, i = 3, 2, 5
    world = (OBLIQUE @ (i, j, k, 1))[:3]
    n, pixels = on_slice(grid, [world])
    assert n == k
    np.testing.assert_allclose(pixels, [(j, i)], atol=1e-6)


def test_a_line_across_slices_is_refused(scene):
    grid = Grid.of(add_volume(scene))
    across = [(OBLIQUE @ (2, 2, k, 1))[:3] for k in (0, 1, 2)]
    with pytest.raises(InputError, match="slices that the network looks at"):
        on_slice(grid, across)


def test_a_place_beside_the_stack_is_refused(scene):
    grid = Grid.of(add_volume(scene))
    with pytest.raises(InputError, match="none of the image"):
        on_slice(grid, [(OBLIQUE @ (2, 2, 9, 1))[:3]])


def test_a_line_leaves_no_pixel_out_and_ends_at_the_image():
    mask = drawn(np.array([(1.0, -3.0), (1.4, 4.0), (6.0, 4.2)]), (6, 7))
    assert mask[1, :5].all()
    assert mask[1:, 4].all()
    assert mask.sum() == 9
    assert drawn(np.array([(2.2, 3.4)]), (6, 7)).sum() == 1


def test_the_outline_encloses_the_mask_and_nothing_else():
    mask = np.zeros((6, 7), bool)
    mask[2:4, 3:6] = mask[0, 0] = True
    edges = outline(mask)
    assert len(edges) == 2 * (2 + 3) + 4
    ends = {tuple(end) for edge in edges for end in edge}
    assert {(1.5, 2.5), (3.5, 5.5), (-0.5, -0.5), (0.5, 0.5)} <= ends
    assert np.allclose(np.abs(np.diff(edges, axis=1)).sum(2), 1.0)
    assert len(outline(np.zeros((3, 3), bool))) == 0


# --- what is read, and what is changed


@pytest.mark.parametrize("name", GEOMETRIES)
def test_slices_are_those_of_the_segment(scene, name):
    volumeNode = add_volume(scene, ijk_to_ras=GEOMETRIES[name])
    target = find_target(segmented(volumeNode), LV_NAME, volumeNode)
    expected = np.moveaxis(labels_of(volumeNode) == LV, 2 - target.grid.axis, 0)
    found = slices_of(target, range(-2, 9))
    assert set(found) == set(range(target.grid.count))
    for n, mask in found.items():
        assert np.array_equal(mask, expected[n])


def test_slices_of_a_segment_that_is_small_or_empty(scene):
    volumeNode = add_volume(scene)
    node = segmented(volumeNode)
    array = np.zeros(image_of(volumeNode).array.shape, np.uint8)
    array[2, 3, 1:4] = 1
    set_voxels(node, LV_NAME, array, OBLIQUE)
    found = slices_of(find_target(node, LV_NAME, volumeNode), range(4))
    assert np.array_equal(np.stack([found[n] for n in range(4)]), array > 0)
    add_segment(node, "x", "Right ventricle")
    assert not any(mask.any() for mask in slices_of(find_target(node, "x", volumeNode), range(4)).values())


def test_slices_follow_a_transform_of_both(scene):
    volumeNode = add_volume(scene)
    node = segmented(volumeNode)
    transformNode = add_linear_transform(scene, affine(rotation(10, 20, 30), (1, 1, 1), (5, 6, 7)))
    for one in (volumeNode, node):
        one.SetAndObserveTransformNodeID(transformNode.GetID())
    target = find_target(node, LV_NAME, volumeNode)
    assert np.array_equal(slices_of(target, [1])[1], labels_of(volumeNode)[1] == LV)


def test_slices_of_a_segmentation_on_another_grid_are_resampled(scene):
    volumeNode = add_volume(scene, np.zeros((4, 10, 10), np.int16), np.eye(4))
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    add_segment(node, "1", LV_NAME)
    array = np.zeros((2, 5, 5), np.uint8)
    array[1, 1:3, 2] = 1
    set_voxels(node, "1", array, COARSE)
    found = slices_of(find_target(node, "1", volumeNode), range(4))
    assert [int(found[n].sum()) for n in range(4)] == [0, 0, 8, 8]
    assert found[2][2:6, 4:6].all()


@pytest.mark.parametrize("name", GEOMETRIES)
def test_a_change_lies_where_it_was_made(scene, name):
    volumeNode = add_volume(scene, ijk_to_ras=GEOMETRIES[name])
    target = find_target(segmented(volumeNode), LV_NAME, volumeNode)
    changed = {n: np.random.default_rng(n).random(slice_shape(target.grid)) > 0.5 for n in (1, 2)}
    geometry = slicer.vtkOrientedImageData()
    geometry.SetDimensions(*target.grid.dimensions)
    geometry.SetGeometryFromImageToWorldMatrix(slicer.util.vtkMatrixFromArray(GEOMETRIES[name]))
    geometry.AllocateScalars(3, 1)
    image = change_image(target, changed, geometry)
    assert image.GetDimensions() == geometry.GetDimensions()
    voxels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
    expected = np.zeros(voxels.shape, bool)
    for n, mask in changed.items():
        np.moveaxis(expected, 2 - target.grid.axis, 0)[n] = mask
    assert np.array_equal(voxels > 0, expected)


# --- what a view shows


def test_lines_are_there_only_in_their_slice_and_where_the_view_has_it(scene):
    sliceNode = scene.AddNewNodeByClass("vtkMRMLSliceNode")
    sliceNode.SetDimensions(200, 100, 1)
    sliceNode.SetFieldOfView(100, 50, 5)
    sliceNode.SetSliceToRASByNTP(0, 0, 1, -1, 0, 0, 0, 0, 0, 0)
    sliceNode.UpdateMatrices()
    lines = Lines((1, 1, 0), 2)
    lines.set(np.array([[(10.0, 5.0, 0.0), (10.0, -5.0, 1.0)]]))
    lines.place(sliceNode)
    assert lines.actor.GetVisibility()
    points = vtk_to_numpy(lines.actor.GetMapper().GetInput().GetPoints().GetData())
    to_world = slicer.util.arrayFromVTKMatrix(sliceNode.GetXYToRAS())
    back = points @ to_world[:3, :3].T + to_world[:3, 3]
    np.testing.assert_allclose(back[:, :2], [(10, 5), (10, -5)], atol=1e-4)
    sliceNode.SetSliceToRASByNTP(0, 0, 1, -1, 0, 0, 0, 0, 5, 0)
    lines.place(sliceNode)
    assert not lines.actor.GetVisibility()
    sliceNode.SetSliceToRASByNTP(0, 0, 1, -1, 0, 0, 0, 0, 0, 0)
    lines.place(sliceNode)
    assert lines.actor.GetVisibility()
    lines.set(np.zeros((0, 2, 3)))
    lines.place(sliceNode)
    assert not lines.actor.GetVisibility()


# --- what is asked


@pytest.fixture(scope="module")
def heart():
    return heart_phantom(slices=5).volume


@pytest.fixture
def talk(worker, monkeypatch):
    monkeypatch.setattr(worker, "close", lambda: None)  # It is not the effect's alone.
    talk = Talk(worker)
    yield talk
    talk.close()


def image_to_ask_about(heart, key="a", task="heart"):
    from dinsegment_slicer.running.segment_part import JobImage

    one = JobImage(heart.array, heart.ijk_to_ras, heart.name, heart.modality)
    return Image(key, lambda: one, len(heart.array), task, None, "cpu")


def go_on(talk, until, limit_s=180):
    end = time.monotonic() + limit_s
    while not until():
        assert time.monotonic() < end
        talk.tick()
        time.sleep(0.005)


@pytest.fixture
def question(heart):
    mask = np.zeros((5, *heart.shape[1:]), bool)
    mask[:, 95:110, 100:125] = True
    line = np.zeros(heart.shape[1:], bool)
    line[97:108, 112] = True
    return Question(LV, 2, line, line & False, {n: mask[n] for n in (1, 2, 3)})


def test_the_slice_is_answered_first_then_those_beside_it(heart, talk, question):
    answers = []
    talk.answered.connect(lambda asked, masks: answers.append((asked, masks)))
    talk.show(image_to_ask_about(heart), 2)
    talk.ask(question)
    assert talk.waiting
    go_on(talk, lambda: not talk.waiting)
    assert [set(masks) for _asked, masks in answers] == [{2}, {1, 2, 3}]
    assert all(asked is question for asked, _masks in answers)
    slices = SingleSlices(heart, load_model(None, HEART), "cpu")
    expected = answer(slices, LV, Stroke(2, question.belongs, question.other), question.masks)
    for n, mask in answers[1][1].items():
        assert np.array_equal(mask, expected[n])
    go_on(talk, lambda: not talk.busy)  # Then the other slices are looked at, so that no stroke waits for them.
    assert talk._looked == set(range(5))


def test_a_process_that_has_ended_is_told_the_image_again(heart, talk, question):
    answers = []
    talk.answered.connect(lambda _asked, masks: answers.append(masks))
    talk.show(image_to_ask_about(heart), 2)
    go_on(talk, lambda: not talk.busy)
    talk.worker.end_process()
    talk.ask(question)
    go_on(talk, lambda: not talk.waiting)
    assert len(answers) == 2


def test_what_is_forgotten_is_not_answered(heart, talk, question):
    answers = []
    talk.answered.connect(lambda _asked, masks: answers.append(masks))
    talk.show(image_to_ask_about(heart), 2)
    go_on(talk, lambda: talk.ready)
    talk.ask(question)
    talk.tick()
    talk.forget()
    go_on(talk, lambda: not talk.busy)
    assert answers == []


def test_an_error_is_told_once_and_the_next_stroke_works(heart, talk, question):
    said, answers = [], []
    talk.failed.connect(said.append)
    talk.answered.connect(lambda _asked, masks: answers.append(masks))
    wrong = heart.with_array(np.zeros(heart.shape, np.float32))
    talk.show(image_to_ask_about(wrong, "constant"), 2)
    go_on(talk, lambda: bool(said))
    assert "is constant" in str(said[0])
    assert not talk.busy
    talk.show(image_to_ask_about(heart, "good"), 2)
    talk.ask(question)
    go_on(talk, lambda: not talk.waiting)
    assert len(said) == 1
    assert len(answers) == 2


def test_a_process_that_cannot_start_is_told(heart, question):
    talk = Talk(Worker(("/no/such/program",)))
    said = []
    talk.failed.connect(said.append)
    talk.show(image_to_ask_about(heart), 2)
    talk.ask(question)
    go_on(talk, lambda: bool(said))
    assert isinstance(said[0], WorkerError)
    assert not talk.busy
