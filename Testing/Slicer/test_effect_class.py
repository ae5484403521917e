"""The class of the effect DIN on the Qt host, with what it asks of the Segment Editor in the Segment Editor's place."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import slicer
from mrml import add_volume, threshold

pytest.importorskip("PySide6", reason="the effect's widgets need PySide6")

from host import Host
from vtk.util.numpy_support import vtk_to_numpy

from dinsegment.tasks import HEART
from dinsegment_slicer.effect.masks import slices_of
from dinsegment_slicer.effect.target import find_target
from dinsegment_slicer.scene.nodes import segmentation_node, volume_from_node
from dinsegment_slicer.scene.segments import LABELMAP

EFFECT = Path(__file__).parents[2] / "DINSegment" / "DINSegmentEditorEffect" / "SegmentEditorEffect.py"
DRAWN_IN, CHOSEN_SINCE = "Left ventricle", "Right ventricle"


class Editor:
    """What the Segment Editor gives an effect; what the effect changes is remembered."""

    def __init__(self):
        self.node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
        self.changes, self.undo_states, self.widgets = [], 0, []

    def parameterSetNode(self):
        return self.node

    def addLabeledOptionsWidget(self, label, widget):
        self.widgets.append((label, widget))

    def addOptionsWidget(self, widget):
        self.widgets.append(widget)

    def saveStateForUndo(self):
        self.undo_states += 1

    def defaultModifierLabelmap(self):
        labelmap = self.node.GetSegmentationNode().GetSegmentation().GetNthSegment(0).GetRepresentation(LABELMAP)
        image = slicer.vtkOrientedImageData()
        image.DeepCopy(labelmap)
        return image

    def modifySelectedSegmentByLabelmap(self, labelmap, mode):
        node = self.node.GetSegmentationNode()
        self.modifySegmentByLabelmap(node, self.node.GetSelectedSegmentID(), labelmap, mode)

    def modifySegmentByLabelmap(self, segmentationNode, segmentID, labelmap, mode):
        count = int(np.count_nonzero(vtk_to_numpy(labelmap.GetPointData().GetScalars())))
        self.changes.append((segmentationNode, segmentID, count, mode))


class Base:
    def __init__(self, scriptedEffect):
        self.scriptedEffect = scriptedEffect


@pytest.fixture
def effect(monkeypatch):
    with Host():
        effects = SimpleNamespace(AbstractScriptedSegmentEditorEffect=Base)
        monkeypatch.setitem(sys.modules, "SegmentEditorEffects", effects)
        modes = SimpleNamespace(ModificationModeAdd="add", ModificationModeRemove="remove")
        monkeypatch.setattr(slicer, "qSlicerSegmentEditorAbstractEffect", modes, raising=False)
        spec = importlib.util.spec_from_file_location("SegmentEditorEffect", EFFECT)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        effect = module.SegmentEditorEffect(Editor())
        effect.setupOptionsFrame()
        volumeNode = add_volume(slicer.mrmlScene)
        node = segmentation_node(threshold(volume_from_node(volumeNode), HEART, "heart-din-small"), volumeNode)
        editorNode = effect.scriptedEffect.node
        editorNode.SetAndObserveSegmentationNode(node)
        editorNode.SetAndObserveSourceVolumeNode(volumeNode)
        editorNode.SetSelectedSegmentID(DRAWN_IN)
        preview(effect, find_target(node, DRAWN_IN, volumeNode))
        yield effect


def preview(effect, target):
    """What is there once the network has answered a stroke that takes away the first voxel and adds another."""
    before = slices_of(target, [2])
    after = before[2].copy()
    after[tuple(np.argwhere(after)[0])] = False
    after[tuple(np.argwhere(~before[2])[0])] = True
    effect._target, effect._slice, effect._before, effect._after = target, 2, before, {2: after}
    effect._strokes = [(True, [[0.0, 0.0, 0.0]])]


def test_a_stroke_changes_the_segment_that_it_was_drawn_in(effect):
    editor = effect.scriptedEffect
    editor.node.SetSelectedSegmentID(CHOSEN_SINCE)
    effect.accept()
    node = editor.node.GetSegmentationNode()
    assert editor.changes == [(node, DRAWN_IN, 1, "add"), (node, DRAWN_IN, 1, "remove")]
    assert editor.undo_states == 1
    assert not effect._strokes


@pytest.mark.parametrize("what", ["segment", "segmentation", "scene"])
def test_a_stroke_in_what_is_not_edited_any_more_changes_nothing(effect, what):
    editor = effect.scriptedEffect
    if what == "segment":
        editor.node.GetSegmentationNode().GetSegmentation().RemoveSegment(DRAWN_IN)
    elif what == "segmentation":
        other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        editor.node.SetAndObserveSegmentationNode(other)
    else:
        slicer.mrmlScene.RemoveNode(editor.node.GetSegmentationNode())
    effect.accept()
    assert (editor.changes, editor.undo_states) == ([], 0)
    assert "not edited any more" in effect.statusLabel.text


def test_a_stroke_that_is_taken_back_while_it_is_drawn_grows_no_other(effect, monkeypatch):
    monkeypatch.setattr(effect, "_ask", lambda: None)
    view = SimpleNamespace(className=lambda: "qMRMLSliceWidget")
    effect._strokes.append((False, [[1.0, 1.0, 1.0]]))
    effect._drawing = view
    effect._takeBack()
    assert effect._drawing is None
    assert effect._strokes == [(True, [[0.0, 0.0, 0.0]])]
