"""DICOM SEG from segmentation nodes: real nodes, DICOM files as scanners write them, the real worker, read back."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import mrml
import numpy as np
import pydicom
import pytest
import slicer
import vtk
from dicom_cases import SERIES, write_series
from host.dicom_database import DicomDatabase
from phantom_series import write_phantom_series
from read_dicom_seg import read_dicom_seg
from test_sequences import Application, add_browser
from vtk.util.numpy_support import vtk_to_numpy

from dinsegment.dicom.write.grid import put_on_grid
from dinsegment.errors import InputError, OutputError
from dinsegment.images import read_volume, read_volumes
from dinsegment.images.fingerprint import fingerprints, same_voxels
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.volume import Volume
from dinsegment.tasks import ABDOMEN, HEART
from dinsegment_slicer.dicom import export as dicom_export
from dinsegment_slicer.dicom.instances import SourceUnknown
from dinsegment_slicer.installing.dependencies import Dependencies
from dinsegment_slicer.logic import DINSegmentLogic
from dinsegment_slicer.running.controller import Controller
from dinsegment_slicer.running.messages import Severity
from dinsegment_slicer.running.requests import ExportRequest
from dinsegment_slicer.running.states import State
from dinsegment_slicer.scene.edits import mark_edited
from dinsegment_slicer.scene.nodes import enhanced_node, segmentation_node, volume_from_node
from dinsegment_slicer.scene.sequence_results import add_sequences_to_scene
from dinsegment_slicer.scene.sequences import phase_images

LABELMAP = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()


@pytest.fixture
def logic(worker):
    return DINSegmentLogic(worker)


@pytest.fixture
def database(tmp_path, monkeypatch):
    database = DicomDatabase(tmp_path / "database")
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    return database


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def imported(database, folder):
    database.prepareInsert()
    for path in sorted(folder.iterdir()):
        database.insert(str(path))
    database.updateDisplayedFields()
    return database


def load(scene, folder, name="SAX", reverse=False):
    """As Slicer's DICOM plugin for volumes loads a series; it turns the order of the slices of left-handed ones."""
    volume = read_volume(folder)
    array, matrix, headers = volume.array, volume.ijk_to_ras, list(volume.dicom.headers)
    if reverse:
        turn = np.diag([1.0, 1.0, -1.0, 1.0])
        turn[2, 3] = len(array) - 1
        array, matrix, headers = array[::-1], matrix @ turn, headers[::-1]
    node = mrml.add_volume(scene, np.rint(array).astype(np.int16), matrix, name)
    node.SetAttribute("DICOM.instanceUIDs", " ".join(str(header.SOPInstanceUID) for header in headers))
    mrml.add_study(scene, node)
    return node


def segmented(volumeNode):
    return segmentation_node(mrml.threshold(volume_from_node(volumeNode)), volumeNode)


@pytest.fixture
def series(tmp_path):
    folder = tmp_path / "series"
    write_series(folder, SERIES["oblique"])
    return folder


@pytest.fixture
def volumeNode(scene, database, series):
    imported(database, series)
    return load(scene, series)


@pytest.fixture
def segmentationNode(volumeNode):
    return segmented(volumeNode)


def edit(node, segment_id="Left ventricle", voxel=(0, 0, 0)):
    """Turns one voxel of the segment's label map on or off, as a stroke of the brush does."""
    node.GetSegmentation().SeparateSegmentLabelmap(segment_id)
    segment = node.GetSegmentation().GetSegment(segment_id)
    array = slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, segment_id)
    array[voxel] = 0 if array[voxel] else segment.GetLabelValue()
    image = segment.GetRepresentation(LABELMAP)
    image.GetPointData().GetScalars().Modified()
    image.Modified()
    node.GetSegmentation().InvokeEvent(slicer.vtkSegmentation.SourceRepresentationModified, segment_id)


def types(path):
    return {s.SegmentLabel: s.SegmentAlgorithmType for s in pydicom.dcmread(path).SegmentSequence}


def voxels_of(segmentationNode, volumeNode):
    labels = mrml.exported_labels(segmentationNode, volumeNode)
    return {s.GetName(): np.argwhere(labels == n) for n, s in enumerate(mrml.segments(segmentationNode), 1)}


def assert_same_place(path, folder, segmentationNode, volumeNode):
    reference = read_volume(folder)
    content = read_dicom_seg(path, reference)
    found = {s.name: mask for s, mask in zip(content.segments, content.masks, strict=True)}
    expected = voxels_of(segmentationNode, volumeNode)
    assert set(found) == {name for name, voxels in expected.items() if len(voxels)}
    for name, mask in found.items():
        a = mrml.world_positions(reference.ijk_to_ras, np.argwhere(mask))
        b = mrml.world_positions(mrml.ijk_to_ras(volumeNode), expected[name])
        assert len(a) == len(b) > 0
        a, b = (p[np.lexsort(np.round(p, 2).T)] for p in (a, b))
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-3)
    return content


def overlap(node):
    """A segment that the user draws over others; its voxels."""
    volumeNode = node.GetNodeReference("referenceImageGeometryRef")
    node.GetSegmentation().AddEmptySegment("Scar", "Scar", [1.0, 0.5, 0.0])
    node.GetSegmentation().GetSegment("Scar").SetTerminology(HEART.segments[1].terminology)
    labels = np.zeros(volumeNode.GetImageData().GetDimensions()[::-1], np.uint8)
    labels[1:3, 2:5, 3:7] = 1
    image = slicer.vtkOrientedImageData()
    image.SetExtent(0, labels.shape[2] - 1, 0, labels.shape[1] - 1, 0, labels.shape[0] - 1)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = labels.ravel()
    image.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(mrml.ijk_to_ras(volumeNode)))
    added = slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(
        image, node, "Scar", slicer.vtkSlicerSegmentationsModuleLogic.MODE_REPLACE
    )
    assert added
    return np.argwhere(labels)


class TestTheSameVoxels:
    @pytest.mark.parametrize("reverse", [False, True], ids=["as stored", "slices turned"])
    @pytest.mark.parametrize("name", SERIES)
    def test_come_back_in_millimetres(self, scene, database, logic, tmp_path, out, name, reverse):
        write_series(tmp_path / "series", SERIES[name])
        imported(database, tmp_path / "series")
        volumeNode = load(scene, tmp_path / "series", reverse=reverse)
        node = segmented(volumeNode)
        (path,) = logic.exportDicomSeg(node, out)
        assert path == out / "SAX Heart.dcm" and [p.name for p in out.iterdir()] == ["SAX Heart.dcm"]
        content = assert_same_place(path, tmp_path / "series", node, volumeNode)
        assert [s.type for s in content.segments] == [s.type for s in HEART.segments]
        assert types(path) == {s.name: "AUTOMATIC" for s in HEART.segments}
        first = pydicom.dcmread(path).SegmentSequence[0]
        assert first.SegmentAlgorithmName == "DINSegment threshold"
        assert first.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion

    def test_of_a_compressed_ct(self, scene, database, logic, tmp_path, out, totalsegmentator_folder):
        folder = tmp_path / "ct"
        folder.mkdir()
        for path in totalsegmentator_folder.glob("CT.*"):  # An anonymisation has emptied the UIDs.
            dataset = pydicom.dcmread(path)
            dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.4"
            dataset.save_as(folder / path.name)
        imported(database, folder)
        volumeNode = load(scene, folder, reverse=True)
        truth = read_volume(totalsegmentator_folder / "reference-segmentation.nii.gz")
        volume = volume_from_node(volumeNode)
        labels = np.zeros(volume.shape, np.uint8)
        # Of the abdomen's organs these five are in the slices; two boxes stand for the kidneys.
        organs = sum(n * (truth.array == m) for m, n in {52: 1, 5: 5, 7: 6, 1: 7, 6: 8}.items()).astype(np.uint8)
        organs[3:5, 2:9, 2:9], organs[5:7, 2:9, 2:9] = 3, 4
        assert put_on_grid(organs, truth.ijk_to_ras, volume, labels)
        node = segmentation_node(Segmentation(volume, labels, ABDOMEN, "truth", volume, "cpu", 0.0), volumeNode)
        (path,) = logic.exportDicomSeg(node, out)
        reference = read_volume(folder)
        content = read_dicom_seg(path, reference)
        found_segments = [s for s in ABDOMEN.segments if s.label in np.unique(organs)]
        assert len(found_segments) == 7  # No gallbladder.
        said = [(s.name, s.type, s.modifier) for s in content.segments]
        assert said == [(s.name, s.type, s.modifier) for s in found_segments]
        assert {s.modifier.meaning for s in content.segments if s.modifier} == {"Left", "Right"}
        for segment, mask in zip(found_segments, content.masks, strict=True):
            found = mrml.world_positions(reference.ijk_to_ras, np.argwhere(mask))
            expected = mrml.world_positions(truth.ijk_to_ras, np.argwhere(organs == segment.label))
            a, b = (p[np.lexsort(np.round(p, 2).T)] for p in (found, expected))
            np.testing.assert_allclose(a, b, rtol=0, atol=2e-3)  # NIfTI holds the grid in single precision.

    def test_of_segments_that_overlap(self, logic, series, segmentationNode, volumeNode, out):
        voxels = overlap(segmentationNode)
        (path,) = logic.exportDicomSeg(segmentationNode, out)
        content = read_dicom_seg(path, read_volume(series))
        masks = {s.name: mask for s, mask in zip(content.segments, content.masks, strict=True)}
        np.testing.assert_array_equal(np.argwhere(masks["Scar"]), voxels)
        labels = mrml.threshold(volume_from_node(volumeNode)).labels
        for segment in HEART.segments:
            np.testing.assert_array_equal(masks[segment.name], labels == segment.label)

    def test_of_a_registered_image_lie_where_its_dicom_images_do(
        self, scene, logic, series, segmentationNode, volumeNode, out
    ):
        transform = mrml.add_warp(scene)
        for node in (volumeNode, segmentationNode):
            node.SetAndObserveTransformNodeID(transform.GetID())
        (path,) = logic.exportDicomSeg(segmentationNode, out)
        labels = mrml.threshold(read_volume(series)).labels
        for mask, segment in zip(read_dicom_seg(path, read_volume(series)).masks, HEART.segments, strict=True):
            np.testing.assert_array_equal(mask, labels == segment.label)

    def test_of_a_segmentation_whose_image_was_set_to_the_enhanced_one(
        self, logic, series, segmentationNode, volumeNode, out
    ):
        enhanced = enhanced_node(mrml.threshold(volume_from_node(volumeNode)), volumeNode)
        segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(enhanced)
        (path,) = logic.exportDicomSeg(segmentationNode, out)
        assert_same_place(path, series, segmentationNode, volumeNode)

    def test_empty_segments_are_left_out(self, logic, volumeNode, out):
        node = segmentation_node(mrml.without(mrml.threshold(volume_from_node(volumeNode)), 2), volumeNode)
        (path,) = logic.exportDicomSeg(node, out)
        assert list(types(path)) == ["Right ventricle", "Left ventricle"]

    def test_no_file_is_replaced(self, logic, segmentationNode, out):
        first, second = (logic.exportDicomSeg(segmentationNode, out)[0] for _ in range(2))
        assert [first.name, second.name] == ["SAX Heart.dcm", "SAX Heart (2).dcm"]
        assert pydicom.dcmread(first).SOPInstanceUID != pydicom.dcmread(second).SOPInstanceUID

    def test_a_name_that_is_no_file_name(self, logic, segmentationNode, out):
        segmentationNode.SetName('4: SAX/"cine"\\1 ' + 80 * "x")
        (path,) = logic.exportDicomSeg(segmentationNode, out)
        assert path.name.startswith("4_ SAX__cine__1 xx") and pydicom.dcmread(path).SeriesDescription.startswith(
            "4: SAX"
        )


class TestEdits:
    def test_only_the_edited_segment_is_semiautomatic(self, logic, segmentationNode, volumeNode, series, out):
        edit(segmentationNode)
        (path,) = logic.exportDicomSeg(segmentationNode, out)
        found = types(path)
        assert found.pop("Left ventricle") == "SEMIAUTOMATIC" and set(found.values()) == {"AUTOMATIC"}
        assert_same_place(path, series, segmentationNode, volumeNode)  # With the edit.

    def test_a_segment_drawn_by_hand_is_manual(self, logic, segmentationNode, out):
        overlap(segmentationNode)
        (path,) = logic.exportDicomSeg(segmentationNode, out)
        assert types(path)["Scar"] == "MANUAL"
        (scar,) = [s for s in pydicom.dcmread(path).SegmentSequence if s.SegmentLabel == "Scar"]
        assert "SegmentAlgorithmName" not in scar

    def test_an_edit_that_is_undone_is_none(self, segmentationNode):
        for expected in ("SEMIAUTOMATIC", "AUTOMATIC"):
            edit(segmentationNode)
            mark_edited(segmentationNode)
            assert mrml.tag(mrml.segments(segmentationNode)[2], "DICOM.SegmentAlgorithmType") == expected

    def test_a_segment_that_was_erased(self, logic, segmentationNode, out):
        segmentationNode.GetSegmentation().SeparateSegmentLabelmap("Left ventricle")
        slicer.util.arrayFromSegmentInternalBinaryLabelmap(segmentationNode, "Left ventricle")[:] = 0
        mark_edited(segmentationNode)
        assert mrml.tag(mrml.segments(segmentationNode)[2], "DICOM.SegmentAlgorithmType") == "SEMIAUTOMATIC"
        (path,) = logic.exportDicomSeg(segmentationNode, out)
        assert "Left ventricle" not in types(path)

    def test_what_the_user_calls_manual_stays_manual(self, segmentationNode):
        segment = mrml.segments(segmentationNode)[0]
        segment.SetTag("DICOM.SegmentAlgorithmType", "MANUAL")
        mark_edited(segmentationNode)
        assert mrml.tag(segment, "DICOM.SegmentAlgorithmType") == "MANUAL"

    def test_saving_and_loading_is_no_edit_and_an_edit_after_it_is_one(
        self, scene, tmp_path, segmentationNode, volumeNode
    ):
        application = Application(scene, tmp_path / "cache")
        path = tmp_path / "saved.seg.nrrd"
        overlap(segmentationNode)  # Another layer.
        storage = slicer.vtkMRMLSegmentationStorageNode()
        storage.SetFileName(str(path))
        storage.SetCropToMinimumExtent(True)
        assert storage.WriteData(segmentationNode)
        loaded = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Loaded")
        assert storage.ReadData(loaded)
        before = segmentationNode.GetSegmentation().GetSegment("Left ventricle").GetRepresentation(LABELMAP).GetExtent()
        after = loaded.GetSegmentation().GetSegment("Left ventricle").GetRepresentation(LABELMAP).GetExtent()
        assert before != after or loaded.GetSegmentation().GetNumberOfLayers() == 2
        mark_edited(loaded)
        found = [mrml.tag(s, "DICOM.SegmentAlgorithmType") for s in mrml.segments(loaded)]
        assert found == ["AUTOMATIC"] * 3 + [None]
        edit(loaded, voxel=(1, 1, 1))
        mark_edited(loaded)
        assert mrml.tag(mrml.segments(loaded)[2], "DICOM.SegmentAlgorithmType") == "SEMIAUTOMATIC"
        application.close()

    def test_a_segment_moved_as_a_whole_was_edited(self, scene, segmentationNode):
        shift = np.eye(4)
        shift[0, 3] = 1.5
        segmentationNode.SetAndObserveTransformNodeID(mrml.add_linear_transform(scene, shift).GetID())
        segmentationNode.HardenTransform()
        mark_edited(segmentationNode)
        found = {mrml.tag(s, "DICOM.SegmentAlgorithmType") for s in mrml.segments(segmentationNode)}
        assert found == {"SEMIAUTOMATIC"}


class TestFingerprints:
    labels = np.random.default_rng(4).integers(0, 3, (5, 6, 7)).astype(np.uint8)

    def test_do_not_depend_on_how_a_segment_is_stored(self):
        matrix = mrml.OBLIQUE
        plain = fingerprints(self.labels, [1, 2], matrix)
        wide = np.pad(self.labels, ((1, 2), (3, 0), (2, 2))).astype(np.int16)
        first = np.eye(4)
        first[:3, 3] = (-2, -3, -1)
        padded = fingerprints(np.where(wide == 1, 7, wide), [7, 2], matrix @ first)
        assert same_voxels(plain[1], padded[7]) and same_voxels(plain[2], padded[2])
        assert not same_voxels(plain[1], plain[2])

    def test_tell_one_voxel_and_one_step(self):
        plain = fingerprints(self.labels, [1], np.eye(4))[1]
        changed = self.labels.copy()
        changed[2, 3, 4] = 0 if changed[2, 3, 4] == 1 else 1
        assert not same_voxels(plain, fingerprints(changed, [1], np.eye(4))[1])
        moved = np.eye(4)
        moved[1, 3] = 0.02
        assert not same_voxels(plain, fingerprints(self.labels, [1], moved)[1])

    def test_of_nothing_and_of_what_is_none(self):
        nothing = fingerprints(np.zeros((2, 2, 2), np.uint8), [1], np.eye(4))[1]
        some = fingerprints(self.labels, [1], np.eye(4))[1]
        assert same_voxels(nothing, nothing) and not same_voxels(nothing, some) and not same_voxels("x,y,z", some)


def missing(logic, nodes, folder):
    """The sentences, and that nothing was written."""
    with pytest.raises(InputError) as caught:
        logic.exports(nodes, folder)
    assert folder is None or not folder.exists()
    lines = str(caught.value).splitlines()
    assert all(line.endswith(".") for line in lines)
    return lines


class TestWhatIsMissingIsNamed:
    def test_no_folder(self, logic, segmentationNode):
        assert missing(logic, [segmentationNode], None) == ["Choose the folder in which the DICOM SEG is saved."]

    def test_no_reference_image(self, logic, segmentationNode, out):
        segmentationNode.SetNodeReferenceID("referenceImageGeometryRef", None)
        (line,) = missing(logic, [segmentationNode], out)
        assert "'SAX Heart' has no reference image" in line and "source volume" in line

    def test_no_instances_known(self, logic, segmentationNode, volumeNode, out):
        volumeNode.RemoveAttribute("DICOM.instanceUIDs")
        (line,) = missing(logic, [segmentationNode], out)
        assert "not known which DICOM images 'SAX' was loaded from" in line and "folder" in line
        with pytest.raises(SourceUnknown):
            logic.exports([segmentationNode], out)

    def test_images_that_were_deleted(self, logic, database, segmentationNode, volumeNode, out):
        uids = volumeNode.GetAttribute("DICOM.instanceUIDs").split()
        database.remove(uids[1])
        Path(database.fileForInstance(uids[2])).unlink()
        (line,) = missing(logic, [segmentationNode], out)
        assert line.startswith("2 of the 4 DICOM images of 'SAX' are not in Slicer's DICOM database")

    def test_instances_that_slicer_did_not_know(self, logic, segmentationNode, volumeNode, out):
        uids = volumeNode.GetAttribute("DICOM.instanceUIDs").split()
        volumeNode.SetAttribute("DICOM.instanceUIDs", " ".join(["Unknown", *uids[1:]]))
        assert missing(logic, [segmentationNode], out)[0].startswith("1 of the 4 DICOM images")

    def test_no_database(self, logic, database, segmentationNode, out):
        database.isOpen = False
        (line,) = missing(logic, [segmentationNode], out)
        assert "DICOM database is not open" in line

    def test_no_code(self, logic, segmentationNode, out):
        mrml.segments(segmentationNode)[1].SetTerminology("")
        mrml.segments(segmentationNode)[2].SetTerminology("x~^^~SCT^1^One~^^~x~^^~^^")
        first, second = missing(logic, [segmentationNode], out)
        assert (
            "The segment 'Left ventricular myocardium' of 'SAX Heart' has no code" in first and "'Left vent" in second
        )

    def test_an_empty_segment_needs_no_code(self, logic, segmentationNode, out):
        segmentationNode.GetSegmentation().AddEmptySegment("Empty")
        segmentationNode.GetSegmentation().GetSegment("Empty").SetTerminology("")
        assert len(logic.exportDicomSeg(segmentationNode, out)) == 1

    def test_no_name_of_the_algorithm(self, logic, segmentationNode, out):
        mrml.segments(segmentationNode)[0].RemoveTag("DICOM.SegmentAlgorithmName")
        (line,) = missing(logic, [segmentationNode], out)
        assert "'Right ventricle'" in line and "DICOM.SegmentAlgorithmName" in line

    def test_nothing_segmented(self, logic, volumeNode, out):
        node = segmentation_node(mrml.without(mrml.threshold(volume_from_node(volumeNode)), 1, 2, 3), volumeNode)
        assert missing(logic, [node], out) == ["'SAX Heart' has no voxels: there is nothing to export."]

    def test_another_transform(self, scene, logic, segmentationNode, out):
        segmentationNode.SetAndObserveTransformNodeID(mrml.add_linear_transform(scene, np.eye(4)).GetID())
        (line,) = missing(logic, [segmentationNode], out)
        assert "'SAX Heart' lies under another transform than its image 'SAX'" in line

    def test_no_labelmap(self, scene, tmp_path, logic, segmentationNode, out):
        application = Application(scene, tmp_path / "cache")
        segmentationNode.CreateClosedSurfaceRepresentation()
        segmentationNode.GetSegmentation().SetSourceRepresentationName("Closed surface")
        segmentationNode.RemoveBinaryLabelmapRepresentation()
        (line,) = missing(logic, [segmentationNode], out)
        assert "is no labelmap" in line and "Binary labelmap" in line
        application.close()

    def test_everything_at_once(self, scene, logic, segmentationNode, volumeNode):
        volumeNode.RemoveAttribute("DICOM.instanceUIDs")
        mrml.segments(segmentationNode)[1].SetTerminology("")
        segmentationNode.SetAndObserveTransformNodeID(mrml.add_linear_transform(scene, np.eye(4)).GetID())
        assert len(missing(logic, [segmentationNode], None)) == 4

    def test_an_older_slicer(self, logic, segmentationNode, out, monkeypatch):
        from packaging.version import Version

        monkeypatch.setitem(dicom_export.PACKAGES, "highdicom", Version("99"))
        (line,) = missing(logic, [segmentationNode], out)
        assert "highdicom 99" in line and "5.12" in line

    def test_a_folder_that_cannot_be_made(self, logic, segmentationNode, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match="cannot be written to"):
            logic.exports([segmentationNode], tmp_path / "file" / "folder")

    def test_an_image_that_is_not_as_it_was_loaded(self, logic, segmentationNode, volumeNode, out):
        matrix = mrml.ijk_to_ras(volumeNode)
        matrix[:3, 3] += matrix[:3, 2] / 2  # As a hardened registration does.
        volumeNode.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
        with pytest.raises(InputError, match="slice 1 of 4 of 'SAX' there is no DICOM image in the same place"):
            logic.exportDicomSeg(segmentationNode, out)
        assert list(out.iterdir()) == []


class TestAChosenFolder:
    def test_does_instead_of_the_database(self, logic, database, segmentationNode, volumeNode, series, out):
        database.isOpen = False
        alone = shutil.copytree(series, out.parent / "alone")
        for name in ("other", "again"):
            write_series(series / name, SERIES["oblique"])  # Series in the same place; the voxels are the same, too.
        (series / "notes.txt").write_text("no DICOM")
        (path,) = logic.exportDicomSeg(segmentationNode, out, sourceFolder=series)
        assert_same_place(path, alone, segmentationNode, volumeNode)

    def test_of_images_without_uids_is_refused(self, scene, logic, out, totalsegmentator_folder):
        volumeNode = load(scene, totalsegmentator_folder)
        with pytest.raises(InputError, match=r"images have no .*UID"):
            logic.exportDicomSeg(segmented(volumeNode), out, sourceFolder=totalsegmentator_folder)
        assert list(out.iterdir()) == []

    def test_of_another_series_is_refused(self, logic, segmentationNode, tmp_path, out):
        write_series(tmp_path / "CT", SERIES["CT"])
        with pytest.raises(InputError, match="there is no DICOM image in the same place"):
            logic.exportDicomSeg(segmentationNode, out, sourceFolder=tmp_path / "CT")

    def test_without_dicom_is_refused(self, logic, segmentationNode, tmp_path, out):
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError, match="no DICOM images"):
            logic.exportDicomSeg(segmentationNode, out, sourceFolder=tmp_path / "empty")
        assert list(out.iterdir()) == []


PHASES = 3


@pytest.fixture
def cine(tmp_path):
    folder = tmp_path / "cine"
    write_phantom_series(folder, PHASES, slices=3, size=(40, 48), spacing=(20.0, 4.5, 4.0))
    return folder


def uids_of(volume):
    return [str(header.SOPInstanceUID) for header in volume.dicom.headers]


def load_cine(scene, folder, database, known):
    """As Slicer's plugin for sequences of volumes loads a cine, with one of the traces that it leaves of the files."""
    volumes = read_volumes(folder)
    files = {str(pydicom.dcmread(path).SOPInstanceUID): str(path) for path in folder.iterdir()}
    sequenceNode = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "Cine")
    for index, volume in enumerate(volumes):
        phase = slicer.vtkMRMLScalarVolumeNode()
        slicer.util.updateVolumeFromArray(phase, volume.array.astype(np.int16))
        phase.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(volume.ijk_to_ras))
        if known == "phases":
            phase.SetAttribute("DICOM.instanceUIDs", " ".join(uids_of(volume)))
        sequenceNode.SetDataNodeAtValue(phase, str(index))
    if known == "files":
        listed = [files[uid] for volume in volumes for uid in uids_of(volume)]
        sequenceNode.SetAttribute("MultiVolume.FrameFileList", ",".join(listed))
    browserNode = add_browser(scene, sequenceNode)
    proxyNode = browserNode.GetProxyNode(sequenceNode)
    proxyNode.SetName("Cine")
    mrml.add_study(scene, proxyNode)
    hierarchy, constants = scene.GetSubjectHierarchyNode(), slicer.vtkMRMLSubjectHierarchyConstants
    item = hierarchy.GetItemByDataNode(proxyNode)
    if known == "instances":  # In no order that means something.
        hierarchy.SetItemUID(item, constants.GetDICOMInstanceUIDName(), " ".join(sorted(files)))
    if known == "series":
        uid = str(volumes[0].dicom.headers[0].SeriesInstanceUID)
        hierarchy.SetItemUID(item, constants.GetDICOMUIDName(), uid)
    imported(database, folder)
    return sequenceNode, volumes


def segmented_cine(sequenceNode):
    images = phase_images(sequenceNode)
    volumes = [Volume(i.array, i.ijk_to_ras, i.name, i.modality) for i in images]
    return add_sequences_to_scene(sequenceNode, [mrml.threshold(volume) for volume in volumes])


@pytest.fixture
def application(scene, tmp_path):
    application = Application(scene, tmp_path / "cache")
    yield application
    application.close()


class TestCine:
    @pytest.mark.parametrize("known", ["phases", "files", "instances", "series", "folder"])
    def test_each_phase_refers_to_its_own_images(self, scene, application, database, logic, cine, out, known):
        sequenceNode, volumes = load_cine(scene, cine, database, known)
        result = segmented_cine(sequenceNode)
        paths = logic.exportDicomSeg(result.segmentationNode, out, cine if known == "folder" else None)
        name = result.segmentationNode.GetName()
        assert [path.name for path in paths] == [f"{name} phase 0{n}.dcm" for n in range(1, PHASES + 1)]
        assert sorted(path.name for path in out.iterdir()) == [path.name for path in paths]
        written = [pydicom.dcmread(path) for path in paths]
        for dataset, volume, path in zip(written, volumes, paths, strict=True):
            (referenced,) = dataset.ReferencedSeriesSequence
            found = [item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence]
            assert found == uids_of(volume)
            labels = mrml.threshold(volume).labels
            for mask, segment in zip(read_dicom_seg(path, volume).masks, HEART.segments, strict=True):
                np.testing.assert_array_equal(mask, labels == segment.label)
        assert len({dataset.SeriesInstanceUID for dataset in written}) == 1
        assert [dataset.InstanceNumber for dataset in written] == [1, 2, 3]

    def test_an_edit_of_one_phase_is_of_that_phase_alone(self, scene, application, database, logic, cine, out):
        sequenceNode, _volumes = load_cine(scene, cine, database, "files")
        result = segmented_cine(sequenceNode)
        result.browserNode.SetSelectedItemNumber(1)
        edit(result.segmentationNode)
        result.browserNode.SetSelectedItemNumber(2)
        paths = logic.exportDicomSeg(result.segmentationNode, out)
        found = [types(path)["Left ventricle"] for path in paths]
        assert found == ["AUTOMATIC", "SEMIAUTOMATIC", "AUTOMATIC"]

    def test_it_cannot_be_known(self, scene, application, database, logic, cine, out):
        sequenceNode, _volumes = load_cine(scene, cine, database, None)
        result = segmented_cine(sequenceNode)
        (line,) = missing(logic, [result.segmentationNode], out)
        assert "not known which DICOM images 'Cine' was loaded from" in line

    def test_a_phase_that_was_changed(self, scene, application, database, logic, cine, out):
        sequenceNode, _volumes = load_cine(scene, cine, database, "files")
        result = segmented_cine(sequenceNode)
        slicer.util.arrayFromVolume(sequenceNode.GetNthDataNode(2))[1] += 500
        with pytest.raises(InputError, match=r"slice 2 of 3 of 'Cine phase 03'.*3 DICOM images in the same place"):
            logic.exportDicomSeg(result.segmentationNode, out)
        assert list(out.iterdir()) == []  # Not the phases before it, either.


class Panel:
    """Stands where the panel does."""

    def __init__(self, worker, folder=None):
        self.asked = []
        self._folder = folder
        self.controller = Controller(DINSegmentLogic(worker), Dependencies(), lambda _text: True, self._ask_folder)

    def _ask_folder(self, text):
        self.asked.append(text)
        return self._folder

    def export(self, nodes, folder, **options):
        self.controller.chooseInput(nodes[0])
        self.controller.export(ExportRequest(tuple(nodes), folder, **options))
        return self

    def wait(self, until=lambda controller: not controller.busy, seconds=60):
        end = time.monotonic() + seconds
        while not until(self.controller):
            assert time.monotonic() < end, self.controller.text
            self.controller.tick()
            time.sleep(0.005)
        return self.controller.message


class TestController:
    def test_says_where_it_was_saved(self, worker, segmentationNode, out):
        message = Panel(worker).export([segmentationNode], out).wait()
        assert message.severity is Severity.INFORMATION and str(out / "SAX Heart.dcm") in message.text

    def test_adds_a_copy_to_the_database(self, worker, database, segmentationNode, out):
        message = Panel(worker).export([segmentationNode], out, addToDatabase=True).wait()
        assert "DICOM database has a copy" in message.text
        uid = str(pydicom.dcmread(out / "SAX Heart.dcm").SOPInstanceUID)
        assert Path(database.fileForInstance(uid)).read_bytes() == (out / "SAX Heart.dcm").read_bytes()

    def test_a_database_that_does_not_take_it(self, worker, database, segmentationNode, out, monkeypatch):
        monkeypatch.setattr(database, "insert", lambda path: None)
        message = Panel(worker).export([segmentationNode], out, addToDatabase=True).wait()
        assert message.severity is Severity.WARNING
        assert "Saved" in message.text and "database did not take" in message.text and list(out.iterdir())

    def test_a_closed_database_after_the_folder_was_chosen(self, worker, database, segmentationNode, series, out):
        """What is not known was asked for before; what is said in the end is about the copy alone."""
        database.isOpen = False
        panel = Panel(worker, series).export([segmentationNode], out, addToDatabase=True)
        message = panel.wait()
        (text,) = panel.asked
        assert "choose the folder" in text
        assert message.severity is Severity.WARNING and (out / "SAX Heart.dcm").is_file()
        assert message.text.splitlines() == [
            f"Saved '{out / 'SAX Heart.dcm'}'.",
            "Slicer's DICOM database has no copy, because it is not open: open the DICOM module and import "
            f"'{out}' there.",
        ]

    def test_two_images_get_a_file_each(self, scene, worker, segmentationNode, volumeNode, series, out):
        other = segmented(load(scene, series, "ES"))
        message = Panel(worker).export([segmentationNode, other], out).wait()
        assert "Saved 2 DICOM SEG" in message.text
        assert sorted(p.name for p in out.iterdir()) == ["ES Heart.dcm", "SAX Heart.dcm"]

    def test_asks_for_the_folder_of_the_images(self, worker, segmentationNode, volumeNode, series, out):
        volumeNode.RemoveAttribute("DICOM.instanceUIDs")
        panel = Panel(worker, series).export([segmentationNode], out)
        assert "Saved" in panel.wait().text
        (text,) = panel.asked
        assert "not known which DICOM images 'SAX'" in text

    def test_no_folder_is_an_error_in_words(self, worker, segmentationNode, volumeNode, out):
        volumeNode.RemoveAttribute("DICOM.instanceUIDs")
        message = Panel(worker).export([segmentationNode], out).wait()
        assert message.severity is Severity.ERROR and "not known" in message.text and not out.exists()

    def test_an_error_of_the_worker_is_told(self, worker, segmentationNode, volumeNode, out):
        matrix = mrml.ijk_to_ras(volumeNode)
        matrix[0, 3] += 3
        volumeNode.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
        panel = Panel(worker).export([segmentationNode], out)
        assert "no DICOM image in the same place" in panel.wait().text
        assert panel.controller.state is State.READY and list(out.iterdir()) == []

    def test_cancel_leaves_nothing(self, worker, segmentationNode, out):
        panel = Panel(worker).export([segmentationNode], out)
        panel.wait(lambda controller: controller.fraction > 0)
        panel.controller.cancel()
        assert "Cancelled" in panel.controller.message.text and list(out.iterdir()) == []
        assert "Saved" in panel.export([segmentationNode], out).wait().text  # And it works again.

    def test_a_killed_worker_leaves_nothing(self, worker, segmentationNode, out):
        panel = Panel(worker).export([segmentationNode], out)
        panel.wait(lambda controller: controller.fraction > 0)
        os.kill(worker.pid, signal.SIGKILL)
        assert "memory" in panel.wait().text and list(out.iterdir()) == []

    def test_the_segmentation_is_removed_meanwhile(self, scene, worker, segmentationNode, out):
        panel = Panel(worker).export([segmentationNode], out)
        panel.controller.nodeRemoved(segmentationNode)
        assert "'SAX Heart' was removed while it was exported" in panel.controller.message.text
        assert panel.controller.state is State.READY and list(out.iterdir()) == []

    def test_no_image_is_chosen_any_more(self, worker, segmentationNode, out):
        panel = Panel(worker).export([segmentationNode], out)
        panel.wait(lambda controller: controller.fraction > 0)
        panel.controller.chooseInput(None)
        assert not panel.controller.busy and list(out.iterdir()) == []

    def test_does_nothing_while_a_run_goes_on(self, worker, segmentationNode, out):
        panel = Panel(worker).export([segmentationNode], out)
        panel.controller.export(ExportRequest((segmentationNode,), None))
        panel.wait()
        assert [p.name for p in out.iterdir()] == ["SAX Heart.dcm"]

    def test_the_place_was_taken_meanwhile(self, worker, segmentationNode, out):
        panel = Panel(worker).export([segmentationNode], out)
        (out / "SAX Heart.dcm").write_text("another's")
        assert "could not be written" in panel.wait().text
        assert [p.name for p in out.iterdir()] == ["SAX Heart.dcm"]
        assert (out / "SAX Heart.dcm").read_text(encoding="utf-8") == "another's"


class TestSlicersOwnExport:
    """What Slicer's DICOM module asks of a segmentation node, as its plugin for DICOM SEG (5.12) does."""

    def check(self, scene, node, database):
        reference = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
        uids = reference.GetAttribute("DICOM.instanceUIDs").split()
        assert uids and all(Path(database.fileForInstance(uid)).is_file() for uid in uids)
        hierarchy = scene.GetSubjectHierarchyNode()
        item = hierarchy.GetItemByDataNode(node)
        study = hierarchy.GetItemParent(item)
        assert item and study == hierarchy.GetItemParent(hierarchy.GetItemByDataNode(reference))
        assert (
            hierarchy.GetItemLevel(study) == "Study"
            and hierarchy.GetItemLevel(hierarchy.GetItemParent(study)) == "Patient"
        )
        referenced = hierarchy.GetItemAttribute(item, "DICOM.ReferencedInstanceUIDs").split()
        assert all(database.fileForInstance(uid) for uid in referenced)
        ids = vtk.vtkStringArray()
        for segment_id in node.GetSegmentation().GetSegmentIDs():
            segment = node.GetSegmentation().GetSegment(segment_id)
            voxels = segment.GetRepresentation(LABELMAP).GetPointData().GetArray("ImageScalars")
            assert voxels.GetValueRange() != (0, 0)
            entry = slicer.vtkSlicerTerminologyEntry()
            assert slicer.vtkSlicerTerminologiesModuleLogic.DeserializeTerminologyEntry(segment.GetTerminology(), entry)
            for part in (entry.GetCategoryObject(), entry.GetTypeObject()):
                assert part.GetCodeValue() and part.GetCodingSchemeDesignator() and part.GetCodeMeaning()
            algorithm = mrml.tag(segment, "DICOM.SegmentAlgorithmType")
            assert algorithm in ("AUTOMATIC", "SEMIAUTOMATIC") and mrml.tag(segment, "DICOM.SegmentAlgorithmName")
            ids.InsertNextValue(segment_id)
            labelmap = slicer.vtkOrientedImageData()
            assert node.GenerateMergedLabelmapForAllSegments(labelmap, 0, None, ids)
            assert labelmap.GetDimensions() == reference.GetImageData().GetDimensions()  # As dcmqi wants it.
            ids.Reset()

    def test_takes_a_segmentation(self, scene, database, segmentationNode):
        edit(segmentationNode)
        mark_edited(segmentationNode)
        self.check(scene, segmentationNode, database)

    def test_takes_the_phase_in_view(self, scene, application, database, cine):
        sequenceNode, _volumes = load_cine(scene, cine, database, "phases")
        result = segmented_cine(sequenceNode)
        for phase in (0, 2):
            result.browserNode.SetSelectedItemNumber(phase)
            self.check(scene, result.segmentationNode, database)
