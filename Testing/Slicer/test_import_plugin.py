"""The plugin for Slicer's DICOM module on the host: what it offers, what a plain Load then loads, and what that is."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import heart_study
import mrml
import numpy as np
import pydicom
import pytest
import slicer
import vtk
from heart_study import PHASES, SLICES, change, copy_series, import_study, write_study

pytest.importorskip("PySide6", reason="the host needs PySide6")

from host import MODULE, Host
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless
from read_dicom_seg import read_dicom_seg

from dinsegment.images.volume import Volume
from dinsegment.tasks import HEART
from dinsegment_slicer.logic import DINSegmentLogic
from dinsegment_slicer.scene.browsers import proxy_of
from dinsegment_slicer.scene.sequence_results import add_sequences_to_scene
from dinsegment_slicer.scene.sequences import phase_images, phases, sequence_of, times_ms

PYTHON = sys.executable  # On the host it is empty at first, as in the application.
IMAGE_SEQUENCE, CINE_STACK = "Image sequence", "Cine stack"


@pytest.fixture
def host(scene, tmp_path):
    with Host(scene, dicom=True) as host:
        host.load_module(MODULE)
        host.database = host.open_dicom(tmp_path / "database")
        yield host


@pytest.fixture
def study(host, scene, tmp_path):
    """Voxels and place of each phase, and the series of the slices."""
    made = write_study(tmp_path / "study", scene)
    import_study(host.database, tmp_path / "study")
    return made


def selected(loadables):
    """What is checked: the reader and the name of each line."""
    return [(plugin.loadType, one.name) for plugin, found in loadables.items() for one in found if one.selected]


def sequences(scene):
    return [
        scene.GetNthNodeByClass(n, "vtkMRMLSequenceNode")
        for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSequenceNode"))
    ]


def load(host, uids):
    """Plain Load in the DICOM browser; the sequences that are then there."""
    browser = host.open_dicom_browser()
    browser.load(uids)
    assert browser.messages == []
    return sequences(slicer.mrmlScene)


def in_order_of_k(array, ijk_to_ras):
    """Slices as the grid has them whose k grows along the normal."""
    right_handed = np.linalg.det(ijk_to_ras[:3, :3]) > 0
    return array if right_handed else array[::-1]


def assert_is(node, volumes):
    """The voxels of each phase in their place."""
    assert node.GetNumberOfDataNodes() == len(volumes)
    for phase, (array, ijk_to_ras) in zip(phases(node), volumes, strict=True):
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(phase), in_order_of_k(array, ijk_to_ras))
        matrix = vtk.vtkMatrix4x4()
        phase.GetIJKToRASMatrix(matrix)
        found = slicer.util.arrayFromVTKMatrix(matrix)
        assert np.linalg.det(found[:3, :3]) > 0
        first = 0 if np.linalg.det(ijk_to_ras[:3, :3]) > 0 else len(array) - 1
        np.testing.assert_allclose(found[:3, 3], (ijk_to_ras @ (0, 0, first, 1))[:3], atol=1e-4)
        np.testing.assert_allclose(np.abs(found[:3, :3]), np.abs(ijk_to_ras[:3, :3]), atol=1e-4)


def moved_by_a_pixel(image):
    """A position along the row, as after another breath-hold."""
    row = np.array(image.ImageOrientationPatient[:3], float)
    moved = np.array(image.ImagePositionPatient, float) + float(image.PixelSpacing[1]) * row
    return [f"{x:.8g}" for x in moved]


class TestRegistered:
    def test_with_all_its_tags_before_the_database_is_opened(self, host):
        plugin = slicer.modules.dicomPlugins["DINSegmentDICOMPlugin"]()
        assert set(map(str.upper, plugin.tags.values())) <= set(map(str.upper, host.database.tagsToPrecache))

    def test_not_where_the_application_has_no_dicom(self, scene):
        with Host(scene) as host:
            host.load_module(MODULE)
            assert not hasattr(slicer.modules, "dicomPlugins")

    def test_beside_those_that_came_before(self, scene):
        with Host(scene, dicom=True) as host:
            slicer.modules.dicomPlugins = {"Other": object}
            host.load_module(MODULE)
            assert list(slicer.modules.dicomPlugins) == ["Other", "DINSegmentDICOMPlugin"]

    def test_it_needs_nothing_that_a_fresh_slicer_lacks(self):
        lacking = ("torch", "safetensors", "huggingface_hub", "psutil", "highdicom", "pylibjpeg")
        program = f"""
            import sys, types
            for name in {lacking}:
                sys.modules[name] = None
            package = types.ModuleType("DICOMLib")
            package.DICOMPlugin = package.DICOMLoadable = object
            sys.modules["DICOMLib"] = package
            import dinsegment_slicer.dicom.import_plugin, dinsegment_slicer.dicom.joining
            """
        environment = {**os.environ, "PYTHONPATH": str(MODULE.parent / "Logic")}
        command = [PYTHON, "-c", textwrap.dedent(program)]
        done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8")
        assert done.returncode == 0, done.stderr


class TestOffer:
    def test_one_stack_and_none_of_its_series(self, host, study):
        _volumes, uids = study
        found = host.open_dicom_browser().examine(uids)
        assert selected(found) == [(CINE_STACK, f"Short-axis cine stack, {SLICES} slices x {PHASES} phases")]

    def test_others_stay_choosable(self, host, study):
        _volumes, uids = study
        found = host.open_dicom_browser().examine(uids)
        names = [one.name for plugin, all in found.items() if plugin.loadType == IMAGE_SEQUENCE for one in all]
        assert names == [f"{5 + n}: MR cine sax" for n in range(SLICES)]

    def test_series_in_any_order(self, host, study):
        _volumes, uids = study
        for order in (uids[::-1], uids[2:] + uids[:2]):
            assert len(selected(host.open_dicom_browser().examine(order))) == 1

    def test_only_what_is_selected(self, host, study):
        _volumes, uids = study
        found = host.open_dicom_browser().examine(uids[:1])
        assert selected(found) == [(IMAGE_SEQUENCE, "5: MR cine sax")]

    def test_a_stack_in_one_series(self, host, scene, tmp_path):
        write_study(tmp_path / "study", scene)
        uid = pydicom.uid.generate_uid()
        change(tmp_path / "study", SeriesInstanceUID=uid, SeriesNumber=7)
        import_study(host.database, tmp_path / "study")
        assert selected(host.open_dicom_browser().examine([uid])) == [
            (CINE_STACK, f"Short-axis cine stack, {SLICES} slices x {PHASES} phases")
        ]

    def test_what_lies_beside_it_is_loaded_as_before(self, host, scene, tmp_path):
        _volumes, uids = write_study(tmp_path / "study", scene)
        along = [0.5, 0.5, 0.7071067812, 0.7071067812, -0.7071067812, 0]
        beside = copy_series(tmp_path / "study", 7, 30, SeriesDescription="cine 4ch", ImageOrientationPatient=along)
        import_study(host.database, tmp_path / "study")
        found = selected(host.open_dicom_browser().examine([*uids, beside]))
        assert sorted(found) == [
            (CINE_STACK, f"Short-axis cine stack, {SLICES} slices x {PHASES} phases"),
            (IMAGE_SEQUENCE, "30: MR cine 4ch"),
        ]

    def test_of_a_slice_acquired_twice_the_later_one(self, host, scene, tmp_path):
        volumes, uids = write_study(tmp_path / "study", scene)
        again = copy_series(tmp_path / "study", 7, 30, AcquisitionTime="123000")
        change(tmp_path / "study", [7], PixelData=lambda image: bytes(len(image.PixelData)))
        import_study(host.database, tmp_path / "study")
        browser = host.open_dicom_browser()
        found = browser.examine([*uids, again])
        assert len(selected(found)) == 1
        (stack,) = (one for all in found.values() for one in all if one.selected)
        assert "acquired twice" in stack.warning and "7" in stack.warning
        (node,) = load(host, [*uids, again])
        assert_is(node, volumes)

    def test_of_two_patients_a_stack_each(self, host, scene, tmp_path):
        _first, uids = write_study(tmp_path / "one", scene)
        _second, others = write_study(tmp_path / "two", scene)
        change(tmp_path / "two", PatientID="SECOND")
        for name in ("one", "two"):
            import_study(host.database, tmp_path / name)
        assert len(selected(host.open_dicom_browser().examine([*uids, *others]))) == 2

    def test_nothing_of_a_volume(self, host, scene, tmp_path):
        _volumes, uids = write_study(tmp_path / "study", scene, phases=1)
        import_study(host.database, tmp_path / "study")
        found = host.open_dicom_browser().examine(uids)
        assert {reader for reader, _name in selected(found)} == {"Scalar Volume"}

    def test_of_other_modalities_one_file_is_asked_alone(self, host, scene, tmp_path, monkeypatch):
        _volumes, uids = write_study(tmp_path / "study", scene)
        change(tmp_path / "study", SOPClassUID="1.2.840.10008.5.1.4.1.1.2", Modality="CT")
        import_study(host.database, tmp_path / "study")
        asked = []
        ask = host.database.fileValue
        monkeypatch.setattr(host.database, "fileValue", lambda *what: asked.append(what) or ask(*what))
        plugin = slicer.modules.dicomPlugins["DINSegmentDICOMPlugin"]()
        assert plugin.examineForImport([host.database.filesForSeries(uid) for uid in uids]) == []
        assert len(asked) == len(uids)

    def test_a_second_look_asks_nothing(self, host, study, monkeypatch):
        _volumes, uids = study
        files = [host.database.filesForSeries(uid) for uid in uids]
        plugin = slicer.modules.dicomPlugins["DINSegmentDICOMPlugin"]()
        first = plugin.examineForImport(files)
        monkeypatch.setattr(host.database, "fileValue", None)
        assert plugin.examineForImport(files) == first
        assert plugin.examine(files) == first


class Costless:
    """A database of 3000 instances that answers from memory."""

    def __init__(self, series, of_each):
        self.asked, self.questions = set(), 0
        self.files = {}
        for s in range(series):
            for n in range(of_each):
                self.files[f"{s}/{n}"] = {
                    "0008,0016": "1.2.840.10008.5.1.4.1.1.4",
                    "0008,0008": "ORIGINAL\\PRIMARY\\OTHER",
                    "0008,0032": f"1200{s % 60:02d}",
                    "0008,0060": "MR",
                    "0008,103E": "cine sax",
                    "0018,1060": str(20.0 * n),
                    "0020,000D": "1.2.3",
                    "0020,000E": f"1.2.3.{s}",
                    "0020,0011": str(s),
                    "0020,0013": str(n + 1),
                    "0020,0032": f"{-0.6 * 8 * s}\\{0.6 * 8 * s}\\{0.529 * 8 * s}",
                    "0020,0037": "0.70711\\0.70711\\0\\-0.37409\\0.37409\\-0.8486",
                    "0028,0010": "256",
                    "0028,0011": "208",
                    "0028,0030": "1.4\\1.4",
                    "0018,0088": "8",
                    "0018,0050": "8",
                }

    def fileValue(self, file, tag):
        self.asked.add(tag)
        self.questions += 1
        return self.files[file].get(tag, "")


def test_three_thousand_instances(host):
    """In the window's thread: a few questions for each, of tags that the database has noted."""
    database = Costless(60, 50)
    module = sys.modules[slicer.modules.dicomPlugins["DINSegmentDICOMPlugin"].__module__]
    files = [[f"{s}/{n}" for n in range(50)] for s in range(60)]
    found = module.find_loadables(files, database)
    assert len({*found}) == 1 and len(found) == 60
    tags = slicer.modules.dicomPlugins["DINSegmentDICOMPlugin"]().tags.values()
    assert {tag.upper() for tag in database.asked} <= {tag.upper() for tag in tags}
    assert database.questions < 15 * 3000


class TestLoad:
    @pytest.fixture
    def node(self, host, study):
        (node,) = load(host, study[1])
        return node

    def test_one_sequence_with_the_voxels_in_their_place(self, node, study):
        assert_is(node, study[0])

    def test_by_patient_from_a_script(self, host, study):
        from DICOMLib import DICOMUtils

        (patient,) = host.database.patients()
        DICOMUtils.loadPatientByUID(patient)
        (node,) = sequences(slicer.mrmlScene)
        assert_is(node, study[0])

    def test_by_series_from_a_script(self, host, study):
        from DICOMLib import DICOMUtils

        DICOMUtils.loadSeriesByUID(study[1][::-1])
        assert len(sequences(slicer.mrmlScene)) == 1

    def test_the_index_is_the_time_in_milliseconds(self, node):
        assert node.GetIndexName() == "trigger time" and node.GetIndexUnit() == "ms"
        assert times_ms(node) == [35.5 * n for n in range(PHASES)]

    def test_every_phase_knows_the_instances_of_its_slices(self, host, node):
        for index, phase in enumerate(phases(node)):
            uids = phase.GetAttribute("DICOM.instanceUIDs").split()
            assert len(uids) == SLICES
            for k, uid in enumerate(uids):
                image = pydicom.dcmread(host.database.fileForInstance(uid))
                assert float(image.TriggerTime) == 35.5 * index
                np.testing.assert_array_equal(image.pixel_array, slicer.util.arrayFromVolume(phase)[k])

    def test_it_is_a_series_of_its_study(self, scene, node, study):
        hierarchy, names = scene.GetSubjectHierarchyNode(), slicer.vtkMRMLSubjectHierarchyConstants
        item = hierarchy.GetItemByDataNode(proxy_of(node))
        parent = hierarchy.GetItemParent(item)
        assert hierarchy.GetItemLevel(parent) == names.GetDICOMLevelStudy()
        first = phases(node)[0].GetAttribute("DICOM.instanceUIDs").split()[0]
        uid = slicer.dicomDatabase.seriesForFile(slicer.dicomDatabase.fileForInstance(first))
        assert hierarchy.GetItemUID(item, names.GetDICOMUIDName()) == uid
        assert len(hierarchy.GetItemUID(item, names.GetDICOMInstanceUIDName()).split()) == SLICES * PHASES
        assert hierarchy.GetItemAttribute(item, "DICOM.Modality") == "MR"

    def test_also_where_one_of_its_series_is_there_already(self, host, scene, study):
        load(host, study[1][:1])
        for node in (sequences(scene)[0], load(host, study[1])[1]):
            hierarchy = scene.GetSubjectHierarchyNode()
            parent = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(proxy_of(node)))
            assert hierarchy.GetItemLevel(parent) == "Study"

    def test_it_is_shown_and_plays(self, host, node):
        (browserNode, found) = sequence_of(proxy_of(node))
        assert found is node and browserNode.GetNumberOfItems() == PHASES
        assert slicer.modules.sequences.toolBar().activeBrowserNode() is browserNode
        composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
        assert composite.GetBackgroundVolumeID() == proxy_of(node).GetID()
        display = proxy_of(node).GetDisplayNode()
        before = display.GetWindow(), display.GetLevel()
        browserNode.SetSelectedItemNumber(PHASES // 2)
        shown = slicer.util.arrayFromVolume(proxy_of(node))
        np.testing.assert_array_equal(shown, slicer.util.arrayFromVolume(phases(node)[PHASES // 2]))
        assert (display.GetWindow(), display.GetLevel()) == before

    def test_the_panel_takes_it(self, host, node):
        panel = host.open_module("DINSegment")
        host.pump()
        assert panel.parameters.inputNode is node
        assert len(phase_images(node)) == PHASES

    def test_its_name_and_another_that_the_user_gives(self, host, study):
        browser = host.open_dicom_browser()
        found = browser.examine(study[1])
        (plugin,) = (plugin for plugin in found if plugin.loadType == CINE_STACK)
        first = found[plugin][0]
        assert plugin.load(first).GetName() == f"5: cine sax, {SLICES} slices"
        first.name = "Heart of Monday"
        assert plugin.load(first).GetName() == "Heart of Monday"

    def test_twice_gives_two(self, host, study):
        load(host, study[1])
        nodes = load(host, study[1])
        assert len(nodes) == 2 and len({node.GetName() for node in nodes}) == 2

    def test_a_slice_moved_by_a_breath(self, host, scene, tmp_path):
        volumes, uids = write_study(tmp_path / "study", scene)
        change(tmp_path / "study", [7], ImagePositionPatient=moved_by_a_pixel)
        import_study(host.database, tmp_path / "study")
        found = host.open_dicom_browser().examine(uids)
        (stack,) = (one for all in found.values() for one in all if one.selected)
        assert "beside the others" in stack.warning
        (node,) = load(host, uids)
        for phase, (array, ijk_to_ras) in zip(phases(node), volumes, strict=True):
            shown = slicer.util.arrayFromVolume(phase)
            expected = in_order_of_k(array, ijk_to_ras).copy()
            (k,) = (k for k in range(SLICES) if not np.array_equal(shown[k], expected[k]))
            np.testing.assert_array_equal(shown[k, :, 1:], expected[k, :, :-1])  # One pixel along the row.
            assert (shown[k, :, 0] == array.min()).all()

    def test_series_that_differ_in_their_rescale(self, host, scene, tmp_path):
        volumes, uids = write_study(tmp_path / "study", scene)
        change(tmp_path / "study", [6], RescaleSlope="0.5", RescaleIntercept="0")
        import_study(host.database, tmp_path / "study")
        (node,) = load(host, uids)
        array = slicer.util.arrayFromVolume(phases(node)[0])
        expected = in_order_of_k(*volumes[0]).astype(np.float32)
        halved = [k for k in range(SLICES) if not np.array_equal(array[k], expected[k])]
        assert array.dtype == np.float32 and len(halved) == 1
        np.testing.assert_array_equal(array[halved[0]], expected[halved[0]] / 2)

    @pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless], ids=lambda uid: uid.name)
    def test_compressed_pixels(self, host, scene, tmp_path, syntax):
        volumes, uids = write_study(tmp_path / "study", scene)
        for path in (tmp_path / "study").rglob("*.dcm"):
            image = pydicom.dcmread(path)
            image.compress(syntax, generate_instance_uid=False)
            image.save_as(path)
        import_study(host.database, tmp_path / "study")
        (node,) = load(host, uids)
        assert_is(node, volumes)

    def test_a_slice_with_fewer_phases(self, host, scene, tmp_path):
        _volumes, uids = write_study(tmp_path / "study", scene)
        (tmp_path / "study" / "7" / "0002.dcm").unlink()
        import_study(host.database, tmp_path / "study")
        found = host.open_dicom_browser().examine(uids)
        (stack,) = (one for all in found.values() for one in all if one.selected)
        assert f"has {PHASES - 1} phases" in stack.warning
        (node,) = load(host, uids)
        assert node.GetNumberOfDataNodes() == PHASES
        for phase in phases(node):
            assert len(phase.GetAttribute("DICOM.instanceUIDs").split()) == SLICES

    def test_without_trigger_times_phases_are_numbered(self, host, scene, tmp_path):
        volumes, uids = write_study(tmp_path / "study", scene)
        change(tmp_path / "study", TriggerTime="")
        import_study(host.database, tmp_path / "study")
        (node,) = load(host, uids)
        assert_is(node, volumes)
        assert times_ms(node) is None
        assert [node.GetNthIndexValue(n) for n in range(PHASES)] == [str(n + 1) for n in range(PHASES)]

    @pytest.mark.vtk_says("Reading of file")
    def test_a_damaged_file_leaves_nothing(self, host, scene, study):
        before = scene.GetNumberOfNodes()
        path = Path(host.database.filesForSeries(study[1][2])[1])
        path.write_bytes(path.read_bytes()[:400])
        browser = host.open_dicom_browser()
        browser.load(study[1])
        assert browser.messages == [
            f"Could not load: Short-axis cine stack, {SLICES} slices x {PHASES} phases as a {CINE_STACK}"
        ]
        assert scene.GetNumberOfNodes() == before

    @pytest.mark.vtk_says("invalid orientation preset name: Reformat")  # Of any view that was turned.
    def test_the_scene_is_saved_with_the_instances(self, host, scene, node, tmp_path):
        from dinsegment_slicer.dicom.instances import source_files

        expected = [phase.GetAttribute("DICOM.instanceUIDs") for phase in phases(node)]
        assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
        scene.Clear(False)
        slicer.util.loadScene(str(tmp_path / "scene.mrb"))
        (loaded,) = sequences(scene)
        assert times_ms(loaded) == [35.5 * n for n in range(PHASES)]
        for phase, uids in zip(phases(loaded), expected, strict=True):
            files = source_files(phase, slicer.dicomDatabase, proxy_of(loaded), loaded)
            paths = [slicer.dicomDatabase.fileForInstance(uid) for uid in uids.split()]
            assert set(paths) <= set(files.paths)


class TestRoundTrip:
    """From the loaded stack to DICOM SEG and back."""

    @pytest.mark.parametrize("moved", [False, True], ids=["straight", "a slice moved"])
    def test_the_labels_come_back_and_refer_to_every_series(self, host, scene, tmp_path, worker, moved):
        _volumes, uids = write_study(tmp_path / "study", scene)
        if moved:
            change(tmp_path / "study", [7], ImagePositionPatient=moved_by_a_pixel)
        import_study(host.database, tmp_path / "study")
        (node,) = load(host, uids)
        volumes = [Volume(one.array, one.ijk_to_ras, one.name, one.modality) for one in phase_images(node)]
        segmentations = [mrml.threshold(volume) for volume in volumes]
        result = add_sequences_to_scene(node, segmentations)
        paths = DINSegmentLogic(worker).exportDicomSeg(result.segmentationNode, tmp_path / "out")
        assert len(paths) == PHASES
        hierarchy = scene.GetSubjectHierarchyNode()
        item = hierarchy.GetItemByDataNode(proxy_of(node))
        for path, segmentation, volume, phase in zip(paths, segmentations, volumes, phases(node), strict=True):
            for mask, segment in zip(read_dicom_seg(path, volume).masks, HEART.segments, strict=True):
                np.testing.assert_array_equal(mask, segmentation.labels == segment.label)
            seg = pydicom.dcmread(path)
            referred = [str(series.SeriesInstanceUID) for series in seg.ReferencedSeriesSequence]
            assert sorted(referred) == sorted(uids)
            # By the first one Slicer's reader finds the image in the scene.
            names = slicer.vtkMRMLSubjectHierarchyConstants
            assert referred[0] == hierarchy.GetItemUID(item, names.GetDICOMUIDName())
            instances = phase.GetAttribute("DICOM.instanceUIDs").split()
            found = [
                str(one.ReferencedSOPInstanceUID)
                for series in seg.ReferencedSeriesSequence
                for one in series.ReferencedInstanceSequence
            ]
            assert found == instances


def test_the_study_writer_tells_what_it_wrote(host, study, tmp_path):
    """What the tests rely on: a series for each slice, none like another."""
    assert len(set(study[1])) == SLICES
    assert len(list((tmp_path / "study").rglob("*.dcm"))) == SLICES * PHASES
    assert heart_study.PHASES == PHASES
