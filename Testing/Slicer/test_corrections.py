"""What the tool remembers of slices, and a result that follows what a user corrected, in a real scene."""

from __future__ import annotations

import json

import numpy as np
import pytest
import slicer
from mrml import (
    GEOMETRIES,
    OBLIQUE,
    add_linear_transform,
    add_volume,
    affine,
    exported_labels,
    rotation,
    segments,
    threshold,
)
from vtk.util.numpy_support import vtk_to_numpy

from dinsegment.errors import DINSegmentError, InputError
from dinsegment.images.segmentation import Finding, ToCorrect
from dinsegment.images.slices import slice_axis
from dinsegment.tasks import HEART
from dinsegment_slicer.running.correct_part import Corrected
from dinsegment_slicer.scene import corrections
from dinsegment_slicer.scene.corrections import Phase, apply, corrected_slices, look_at
from dinsegment_slicer.scene.edits import ALGORITHM_TYPE_TAG, model_name, tag
from dinsegment_slicer.scene.findings import findings_of
from dinsegment_slicer.scene.nodes import image_of, segmentation_node, volume_from_node
from dinsegment_slicer.scene.segments import LABELMAP
from dinsegment_slicer.scene.slice_notes import SLICES_ATTRIBUTE, SliceNotes, note_slices, slice_notes


def phase_of(volumeNode, wanted=None):
    node = segmentation_node(threshold(volume_from_node(volumeNode), HEART, "heart-din-small"), volumeNode, wanted)
    return Phase(node, volumeNode, image_of(volumeNode))


@pytest.fixture
def phase(scene):
    return phase_of(add_volume(scene))


def correct_by_hand(phase, k, label=3):
    """Takes a voxel of a segment away in slice k, as an effect of the Segment Editor does it: in its labelmap."""
    segment = phase.segmentationNode.GetSegmentation().GetSegment(HEART.segments[label - 1].name)
    image = segment.GetRepresentation(LABELMAP)
    labels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
    slices = labels[k - image.GetExtent()[4]]
    slices[tuple(np.argwhere(slices == label)[0])] = 0
    image.Modified()


def answer_of(now, labels, seen=None, **changes):
    count = len(now.phases)
    nothing = tuple(() for _ in range(count))
    content = {
        "applied": True,
        "text": "Two slices follow.",
        "labels": tuple(labels),
        "changed": nothing,
        "seen": seen or now.seen,
        "findings": nothing,
        "first": nothing,
        "warnings": (),
        "model": "heart-din-small",
    }
    return Corrected(**content | changes)


def shifted(labels):
    return np.roll(labels, 1, axis=2)


# --- what is remembered


@pytest.mark.parametrize("name", GEOMETRIES)
def test_nothing_is_corrected_of_what_was_just_made(scene, name):
    volumeNode = add_volume(scene, ijk_to_ras=GEOMETRIES[name])
    one = phase_of(volumeNode)
    now = look_at([one], HEART)
    assert np.array_equal(now.labels[0], threshold(volume_from_node(volumeNode), HEART).labels)
    assert (now.seen, now.fresh) == (((),), ((),))
    assert slice_notes(one.segmentationNode).axis == slice_axis(volume_from_node(volumeNode), HEART.plane)


def test_a_corrected_slice_is_known_without_a_mark(phase):
    correct_by_hand(phase, 2)
    now = look_at([phase], HEART)
    assert (now.seen, now.fresh) == (((2,),), ((2,),))


def test_only_wanted_segments_count(scene):
    one = phase_of(add_volume(scene), wanted=["Left ventricle"])
    assert set(np.unique(look_at([one], HEART).labels[0])) == {0, 3}
    assert look_at([one], HEART).seen == ((),)


def test_a_segment_of_the_users_own_is_no_correction(phase):
    segment = slicer.vtkSegment()
    segment.SetName("Scar")
    image = slicer.vtkOrientedImageData()
    image.DeepCopy(segments(phase.segmentationNode)[0].GetRepresentation(LABELMAP))
    segment.AddRepresentation(LABELMAP, image)
    phase.segmentationNode.GetSegmentation().AddSegment(segment, "Scar")
    assert look_at([phase], HEART).seen == ((),)


def test_a_result_of_an_earlier_version_is_told(phase):
    note_slices(phase.segmentationNode, None)
    with pytest.raises(InputError, match="not known which slices of 'Cine SAX' were corrected: segment it again"):
        look_at([phase], HEART)


@pytest.mark.parametrize("text", ["no JSON", "[]", json.dumps({"axis": 9, "prints": [], "seen": [], "first": []})])
def test_what_another_program_wrote_there_is_not_taken(phase, text):
    phase.segmentationNode.SetAttribute(SLICES_ATTRIBUTE, text)
    assert slice_notes(phase.segmentationNode) is None


def test_where_to_correct_first_moves_with_the_image(scene):
    volumeNode = add_volume(scene)
    move = affine(rotation(10, 20, 30), (1, 1, 1), (5, 6, 7))
    volumeNode.SetAndObserveTransformNodeID(add_linear_transform(scene, move).GetID())
    made = threshold(volume_from_node(volumeNode), HEART)
    place = tuple((move @ OBLIQUE @ (2, 1, 3, 1))[:3])
    object.__setattr__(made, "first", (ToCorrect(3, 2, 1.25, place),))
    (first,) = slice_notes(segmentation_node(made, volumeNode)).first
    assert (first.slice, first.segment, first.ml) == (3, "Left ventricular myocardium", 1.25)
    np.testing.assert_allclose(first.position, (OBLIQUE @ (2, 1, 3, 1))[:3], atol=1e-3)


# --- what follows


def test_labels_follow_and_what_is_the_users_stays(scene, phase):
    node = phase.segmentationNode
    node.GetSegmentation().GetSegment("Left ventricle").SetName("Cavity")
    node.GetSegmentation().GetSegment("Left ventricle").SetColor(0.1, 0.2, 0.3)
    correct_by_hand(phase, 1)
    now = look_at([phase], HEART)
    new = shifted(now.labels[0])
    new[1] = now.labels[0][1]
    apply(now, answer_of(now, [new]), HEART)
    assert np.array_equal(exported_labels(node, phase.volumeNode), new)
    segment = node.GetSegmentation().GetSegment("Left ventricle")
    assert (segment.GetName(), segment.GetColor()) == ("Cavity", (0.1, 0.2, 0.3))
    assert model_name(node) == "heart-din-small"
    later = look_at([phase], HEART)
    assert (later.seen, later.fresh) == (((1,),), ((),))
    correct_by_hand(phase, 3)
    assert look_at([phase], HEART).seen == ((1, 3),)


def test_what_is_not_the_networks_alone_says_so(phase):
    correct_by_hand(phase, 1)
    now = look_at([phase], HEART)
    new = now.labels[0].copy()
    new[0][new[0] == 3] = 0
    apply(now, answer_of(now, [new]), HEART)
    kinds = {s.GetName(): tag(s, ALGORITHM_TYPE_TAG) for s in segments(phase.segmentationNode)}
    assert kinds["Left ventricle"] == "SEMIAUTOMATIC"
    assert kinds["Right ventricle"] == "AUTOMATIC"


def test_it_is_remembered_which_slices_a_person_saw_and_what_looks_wrong_now(phase):
    correct_by_hand(phase, 1)
    correct_by_hand(phase, 2)
    now = look_at([phase], HEART)
    place = tuple((OBLIQUE @ (1, 1, 1, 1))[:3])
    wrong = (Finding("Unsure in slice 1.", place, 3, "Left ventricle: unsure", "unsure", ml=2.0),)
    first = ({"slice": 0, "segment": 3, "ml": 2.0, "ras": list(place)},)
    apply(now, answer_of(now, now.labels, findings=(wrong,), first=(first,)), HEART)
    found, noted = findings_of(phase.segmentationNode), slice_notes(phase.segmentationNode)
    assert [f.text for f in found] == ["Unsure in slice 1."]
    assert corrected_slices(phase.segmentationNode, phase.volumeNode, HEART) == (1, 2)
    correct_by_hand(phase, 3)
    assert corrected_slices(phase.segmentationNode, phase.volumeNode, HEART) == (1, 2, 3)
    note_slices(phase.segmentationNode, None)
    assert corrected_slices(phase.segmentationNode, phase.volumeNode, HEART) == ()
    note_slices(phase.segmentationNode, noted)
    assert (found[0].segment, found[0].ml) == ("Left ventricle", 2.0)
    assert [p.slice for p in slice_notes(phase.segmentationNode).first] == [0]


def test_undo_is_one_step(scene, phase):
    correct_by_hand(phase, 1)
    node = phase.segmentationNode
    labels, attribute = exported_labels(node, phase.volumeNode), node.GetAttribute(SLICES_ATTRIBUTE)
    now = look_at([phase], HEART)
    before = apply(now, answer_of(now, [shifted(now.labels[0])]), HEART)
    assert not before.changed_since()
    assert not np.array_equal(exported_labels(node, phase.volumeNode), labels)
    before.put_back()
    assert np.array_equal(exported_labels(node, phase.volumeNode), labels)
    assert node.GetAttribute(SLICES_ATTRIBUTE) == attribute
    assert findings_of(node) == []
    assert look_at([phase], HEART).fresh == ((1,),)


def test_what_was_corrected_since_is_known_before_undo(phase):
    correct_by_hand(phase, 1)
    now = look_at([phase], HEART)
    before = apply(now, answer_of(now, [shifted(now.labels[0])]), HEART)
    correct_by_hand(phase, 3)
    assert before.changed_since()


@pytest.mark.parametrize(
    "change",
    [
        lambda segmentation: segmentation.AddEmptySegment("mine", "Scar"),
        lambda segmentation: segmentation.RemoveSegment("Left ventricle"),
        lambda segmentation: segmentation.GetSegment("Left ventricle").SetName("Cavity"),
    ],
)
def test_whatever_an_undo_would_take_back_is_known(phase, change):
    correct_by_hand(phase, 1)
    now = look_at([phase], HEART)
    before = apply(now, answer_of(now, [shifted(now.labels[0])]), HEART)
    change(phase.segmentationNode.GetSegmentation())
    assert before.changed_since()


def test_all_phases_or_none(scene, monkeypatch):
    phases = [phase_of(add_volume(scene, name=name)) for name in ("ED", "ES")]
    correct_by_hand(phases[0], 1)
    now = look_at(phases, HEART)
    assert now.seen == ((1,), ())
    before = [exported_labels(phase.segmentationNode, phase.volumeNode) for phase in phases]
    tags = [phase.segmentationNode.GetAttribute(SLICES_ATTRIBUTE) for phase in phases]
    real, calls = corrections.with_segments, []

    def fails(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise DINSegmentError("Slicer did not take it.")
        return real(*arguments)

    monkeypatch.setattr(corrections, "with_segments", fails)
    with pytest.raises(DINSegmentError, match="did not take it"):
        apply(now, answer_of(now, map(shifted, now.labels)), HEART)
    for phase, labels, text in zip(phases, before, tags, strict=True):
        assert np.array_equal(exported_labels(phase.segmentationNode, phase.volumeNode), labels)
        assert phase.segmentationNode.GetAttribute(SLICES_ATTRIBUTE) == text


def test_notes_come_back_as_they_were_written(phase):
    labels = phase.labels(HEART)
    notes = SliceNotes.of(labels, 0, seen=(3, 1))
    note_slices(phase.segmentationNode, notes)
    assert slice_notes(phase.segmentationNode) == notes
    assert notes.seen == (1, 3)
    changed = labels.copy()
    changed[0] = 0
    assert notes.corrected(changed) == (0, 1, 3)


def test_what_left_the_scene_cannot_be_put_back(scene, phase):
    correct_by_hand(phase, 1)
    now = look_at([phase], HEART)
    before = apply(now, answer_of(now, [shifted(now.labels[0])]), HEART)
    scene.RemoveNode(phase.segmentationNode)
    with pytest.raises(InputError, match="not in the scene"):
        before.put_back()
