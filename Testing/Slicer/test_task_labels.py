"""What the user has left of a task's segments, as one labelmap on the image's grid."""

from __future__ import annotations

import mrml
import numpy as np
import pytest
import slicer
import vtk

from dinsegment.errors import InputError
from dinsegment.tasks import ABDOMEN, HEART
from dinsegment_slicer.scene.nodes import segmentation_node, volume_from_node
from dinsegment_slicer.scene.task_labels import segments_of_task, task_labels

SURFACE = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()


def labels_in_the_middle(shape=(6, 20, 24), count=3):
    labels = np.zeros(shape, np.uint8)
    labels[1:5, 4:16, 5:20] = np.random.default_rng(1).integers(0, count + 1, (4, 12, 15))
    return labels


def add_result(scene, labels, task=HEART, ijk_to_ras=mrml.OBLIQUE):
    volumeNode = mrml.add_volume(scene, mrml.random_image(labels.shape), ijk_to_ras)
    volume = volume_from_node(volumeNode)
    from dinsegment.images.segmentation import Segmentation

    made = Segmentation(volume, labels, task, "truth", volume, "cpu", 0.0)
    return volumeNode, segmentation_node(made, volumeNode)


def whole(found, shape):
    array = np.zeros(shape, np.uint8)
    array[tuple(slice(a, a + n) for a, n in zip(found.first, found.part.shape, strict=True))] = found.part
    return array


def id_of(segmentationNode, name):
    return segmentationNode.GetSegmentation().GetSegmentIdBySegmentName(name)


@pytest.mark.parametrize("geometry", mrml.GEOMETRIES)
def test_what_was_added_comes_back_cut_to_what_is_labelled(scene, geometry):
    labels = labels_in_the_middle()
    volumeNode, node = add_result(scene, labels, ijk_to_ras=mrml.GEOMETRIES[geometry])
    found = task_labels(node, volumeNode, HEART)
    assert np.array_equal(whole(found, labels.shape), labels)
    assert found.part.size < labels.size and found.part.dtype == np.uint8


def test_it_is_a_copy(scene):
    volumeNode, node = add_result(scene, labels_in_the_middle())
    found = task_labels(node, volumeNode, HEART)
    found.part[:] = 0
    assert task_labels(node, volumeNode, HEART).part.any()


def test_names_are_the_users_and_so_are_other_segments(scene):
    labels = labels_in_the_middle()
    volumeNode, node = add_result(scene, labels)
    segmentation = node.GetSegmentation()
    for n in range(3):
        segmentation.GetNthSegment(n).SetName(f"mine {n}")
    segmentation.AddEmptySegment("own", "own")
    mask = np.zeros(labels.shape, np.uint8)
    mask[0, 0, 0] = 1
    mrml.set_segment(node, "own", mask, mrml.OBLIQUE)
    assert np.array_equal(whole(task_labels(node, volumeNode, HEART), labels.shape), labels)


def test_a_segment_is_told_by_what_it_is(scene):
    """One of the user's own with the task's terminology takes the place of one that was removed."""
    labels = labels_in_the_middle()
    volumeNode, node = add_result(scene, labels)
    segmentation, cavity = node.GetSegmentation(), HEART.segments[2]
    before = segmentation.GetSegment(cavity.name)
    segmentation.AddEmptySegment("drawn", "drawn")
    segmentation.GetSegment("drawn").SetTerminology(before.GetTerminology())
    segmentation.RemoveSegment(cavity.name)
    mask = (labels == cavity.label).astype(np.uint8)
    mrml.set_segment(node, "drawn", mask, mrml.OBLIQUE)
    assert segments_of_task(segmentation, HEART)[cavity.label] == "drawn"
    assert np.array_equal(whole(task_labels(node, volumeNode, HEART), labels.shape), labels)


def test_a_left_organ_does_not_stand_for_a_right_one_that_was_removed(scene):
    left, right = next((pair for pair in ABDOMEN.pairs), (None, None))
    labels = labels_in_the_middle(count=len(ABDOMEN.segments))
    _volumeNode, node = add_result(scene, labels, ABDOMEN)
    node.GetSegmentation().RemoveSegment(ABDOMEN.segments[right - 1].name)
    found = segments_of_task(node.GetSegmentation(), ABDOMEN)
    assert right not in found and found[left] == ABDOMEN.segments[left - 1].name


def test_where_segments_overlap_the_last_one_counts(scene):
    labels = labels_in_the_middle()
    volumeNode, node = add_result(scene, labels)
    last = HEART.segments[-1]
    mask = (labels > 0).astype(np.uint8)
    # In a layer of its own, as the Segment Editor does it where overlap is allowed.
    node.GetSegmentation().SeparateSegmentLabelmap(last.name)
    mrml.set_segment(node, last.name, mask, mrml.OBLIQUE)
    found = whole(task_labels(node, volumeNode, HEART), labels.shape)
    assert np.array_equal(found, np.where(labels > 0, last.label, 0))


def test_voxels_beyond_the_image_are_left_out(scene):
    labels = labels_in_the_middle()
    volumeNode, node = add_result(scene, labels)
    larger = mrml.OBLIQUE.copy()
    larger[:3, 3] = (mrml.OBLIQUE @ (-3, -2, -1, 1))[:3]
    mrml.set_segment(node, HEART.segments[0].name, np.ones(np.add(labels.shape, (2, 4, 6))), larger)
    found = task_labels(node, volumeNode, HEART)
    assert whole(found, labels.shape).shape == labels.shape  # nothing reaches beyond it
    assert (whole(found, labels.shape) > 0).all()


def test_another_grid_is_brought_to_that_of_the_image(scene):
    labels = np.zeros((6, 20, 24), np.uint8)
    labels[1:5, 4:16, 6:18] = 2
    volumeNode, node = add_result(scene, labels, ijk_to_ras=np.diag([2.0, 2.0, 8.0, 1.0]))
    fine = np.diag([1.0, 1.0, 8.0, 1.0])
    fine[:2, 3] = -0.5
    mask = (labels == 2).repeat(2, axis=1).repeat(2, axis=2).astype(np.uint8)
    name = HEART.segments[1].name
    for segment in HEART.segments:
        if segment.name != name:
            node.GetSegmentation().RemoveSegment(segment.name)
    mrml.set_segment(node, name, mask, fine)
    found = whole(task_labels(node, volumeNode, HEART), labels.shape)
    assert np.mean(found != labels) < 0.02 and (found == 2).sum() == pytest.approx((labels == 2).sum(), rel=0.1)


def test_nothing_is_one_voxel_of_nothing(scene):
    labels = np.zeros((4, 5, 6), np.uint8)
    volumeNode, node = add_result(scene, labels)
    found = task_labels(node, volumeNode, HEART)
    assert found.part.shape == (1, 1, 1) and not found.part.any()
    for segment in HEART.segments:
        node.GetSegmentation().RemoveSegment(segment.name)
    assert task_labels(node, volumeNode, HEART).segment_ids == {}


def test_surfaces_alone_are_refused_in_a_sentence(scene):
    volumeNode, node = add_result(scene, labels_in_the_middle())
    surfaces = slicer.vtkSegmentation()
    surfaces.SetSourceRepresentationName(SURFACE)
    for segment in HEART.segments:
        sphere = vtk.vtkSphereSource()
        sphere.Update()
        made = slicer.vtkSegment()
        made.SetTerminology(segment.terminology)
        made.AddRepresentation(SURFACE, sphere.GetOutput())
        assert surfaces.AddSegment(made, segment.name)
    node.SetAndObserveSegmentation(surfaces)
    with pytest.raises(InputError, match=r"is no labelmap: create its representation 'Binary labelmap'"):
        task_labels(node, volumeNode, HEART)
