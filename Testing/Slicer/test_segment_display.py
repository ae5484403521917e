"""Colours of segments: two kinds to choose from, and the user's own, which stay."""

from __future__ import annotations

import mrml
import numpy as np
import pytest

from dinsegment.tasks import ABDOMEN, HEART
from dinsegment_slicer.scene.nodes import segmentation_node, volume_from_node
from dinsegment_slicer.scene.segment_display import show_colors


@pytest.fixture(params=[HEART, ABDOMEN], ids=lambda task: task.name)
def task(request):
    return request.param


@pytest.fixture
def segmentationNode(scene, task):
    volumeNode = mrml.add_volume(scene)
    return segmentation_node(mrml.threshold(volume_from_node(volumeNode), task), volumeNode)


def colors(segmentationNode):
    return [tuple(np.rint(np.multiply(s.GetColor(), 255)).astype(int)) for s in mrml.segments(segmentationNode)]


def test_the_colours_are_those_that_are_told_apart_until_others_are_chosen(segmentationNode, task):
    assert colors(segmentationNode) == [s.color for s in task.segments]
    show_colors([segmentationNode], "recommended")
    assert colors(segmentationNode) == [s.recommended_color for s in task.segments]
    show_colors([segmentationNode], "distinct")
    assert colors(segmentationNode) == [s.color for s in task.segments]


def test_a_colour_that_the_user_chose_stays(segmentationNode, task):
    mrml.segments(segmentationNode)[1].SetColor(0.2, 0.4, 0.6)
    for choice, expected in (("recommended", "recommended_color"), ("distinct", "color")):
        show_colors([segmentationNode], choice)
        found = colors(segmentationNode)
        assert found.pop(1) == (51, 102, 153)
        assert found == [getattr(s, expected) for n, s in enumerate(task.segments) if n != 1]


def test_segments_that_the_user_renamed_or_added(segmentationNode, task):
    segmentation = segmentationNode.GetSegmentation()
    mrml.segments(segmentationNode)[0].SetName("mine")
    segmentation.GetSegment(segmentation.AddEmptySegment("scar", "Scar")).SetColor(1, 0, 0)
    show_colors([segmentationNode], "recommended")
    assert colors(segmentationNode) == [*(s.recommended_color for s in task.segments), (255, 0, 0)]


def test_outlines_are_two_pixels_wide_unless_the_user_has_wider_ones(scene, segmentationNode):
    assert segmentationNode.GetDisplayNode().GetSliceIntersectionThickness() == 2
    default = scene.CreateNodeByClass("vtkMRMLSegmentationDisplayNode")
    default.UnRegister(None)
    default.SetSliceIntersectionThickness(4)
    scene.AddDefaultNode(default)
    volumeNode = mrml.add_volume(scene)
    wide = segmentation_node(mrml.threshold(volume_from_node(volumeNode)), volumeNode)
    assert wide.GetDisplayNode().GetSliceIntersectionThickness() == 4
