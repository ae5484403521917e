"""Cine sequences: what is read of them, what a result adds, edits that stay, saving and errors."""

from __future__ import annotations

import itertools
from dataclasses import asdict, replace

import mrml
import numpy as np
import pytest
import slicer
import vtk

from dinsegment.errors import DINSegmentError, InputError
from dinsegment.images import read_volumes
from dinsegment.images.volume import Volume
from dinsegment.phantom.heart import cine_phantom
from dinsegment.tasks import HEART
from dinsegment_slicer.logic import DINSegmentLogic
from dinsegment_slicer.scene import changes as scene_module
from dinsegment_slicer.scene import nodes, sequence_results
from dinsegment_slicer.scene.browsers import browser_of, proxy_of, select_phase, selected_phase
from dinsegment_slicer.scene.measure import function_of, measure_phases
from dinsegment_slicer.scene.plots import update_volume_plot
from dinsegment_slicer.scene.segment_display import show_colors
from dinsegment_slicer.scene.sequence_results import add_sequences_to_scene, adding_sequences
from dinsegment_slicer.scene.sequences import (
    hidden_inputs,
    is_enhanced,
    is_image_sequence,
    phase_images,
    phases,
    sequence_of,
    times_ms,
)
from dinsegment_slicer.scene.tables import update_measurement_table

SHIFT = mrml.affine(mrml.rotation(10, 20, 30), (1, 1, 1), (5, 6, 7))


class Application:
    """What the application has beside a scene: the logic that watches it, converters, a place to unpack files."""

    def __init__(self, scene, folder):
        self.sequences = slicer.vtkSlicerSequencesLogic()
        self.sequences.SetMRMLScene(scene)
        self.cache = slicer.vtkCacheManager()
        self.cache.SetRemoteCacheDirectory(str(folder))
        self.files = slicer.vtkDataIOManager()
        self.files.SetCacheManager(self.cache)
        scene.SetCacheManager(self.cache)
        scene.SetDataIOManager(self.files)
        self.rules = [
            slicer.vtkBinaryLabelmapToClosedSurfaceConversionRule(),
            slicer.vtkClosedSurfaceToBinaryLabelmapConversionRule(),
        ]
        for rule in self.rules:
            slicer.vtkSegmentationConverterFactory.GetInstance().RegisterConverterRule(rule)

    def close(self):
        for rule in self.rules:
            slicer.vtkSegmentationConverterFactory.GetInstance().UnregisterConverterRule(rule)
        self.sequences.SetMRMLScene(None)


@pytest.fixture
def application(scene, tmp_path):
    (tmp_path / "cache").mkdir()
    application = Application(scene, tmp_path / "cache")
    yield application
    application.close()


@pytest.fixture(scope="module")
def cine():
    return [phantom.volume for phantom in cine_phantom(3, slices=4, size=(40, 44), spacing=(20.0, 6.0, 6.0))]


def add_sequence(scene, volumes, name="Cine SAX", unit="ms", values=None):
    """As the modules of Slicer that load a cine make it, without a browser."""
    node = scene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    node.SetIndexName("trigger time")
    node.SetIndexUnit(unit)
    for index, volume in enumerate(volumes):
        phase = slicer.vtkMRMLScalarVolumeNode()
        phase.SetName(f"{name} {index}")
        slicer.util.updateVolumeFromArray(phase, volume.array)
        phase.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(volume.ijk_to_ras))
        node.SetDataNodeAtValue(phase, values[index] if values else str(35.5 * index))
    return node


def add_browser(scene, *sequenceNodes):
    node = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    for sequenceNode in sequenceNodes:
        node.AddSynchronizedSequenceNode(sequenceNode)
    return node


def segmented(sequenceNode):
    images = phase_images(sequenceNode)
    return [mrml.threshold(Volume(i.array, i.ijk_to_ras, i.name, i.modality)) for i in images]


@pytest.fixture
def sequenceNode(scene, application, cine):
    return add_sequence(scene, cine)


@pytest.fixture
def browserNode(scene, sequenceNode):
    return add_browser(scene, sequenceNode)


@pytest.fixture
def proxyNode(scene, browserNode, sequenceNode):
    """In a study and under a transform, as a registered DICOM series is."""
    node = browserNode.GetProxyNode(sequenceNode)
    node.SetName("Heart cine")
    mrml.add_study(scene, node)
    node.SetAndObserveTransformNodeID(mrml.add_linear_transform(scene, SHIFT).GetID())
    return node


@pytest.fixture
def segmentations(sequenceNode, proxyNode):
    return segmented(sequenceNode)


@pytest.fixture
def result(sequenceNode, segmentations):
    return add_sequences_to_scene(sequenceNode, segmentations)


def data_nodes(sequenceNode):
    return [sequenceNode.GetNthDataNode(n) for n in range(sequenceNode.GetNumberOfDataNodes())]


def index_of(sequenceNode):
    values = [sequenceNode.GetNthIndexValue(n) for n in range(sequenceNode.GetNumberOfDataNodes())]
    kind = sequenceNode.GetIndexName(), sequenceNode.GetIndexUnit(), sequenceNode.GetIndexType()
    return (*kind, sequenceNode.GetNumericIndexValueTolerance(), values)


def synchronized(browserNode):
    found = vtk.vtkCollection()
    browserNode.GetSynchronizedSequenceNodes(found, True)
    return [found.GetItemAsObject(n) for n in range(found.GetNumberOfItems())]


def labels_of(segmentationNode, shape):
    """Labelmap (k, j, i) by the order of the segments, from the segments' own labelmaps."""
    labels = np.zeros(shape, np.uint8)
    for number in range(segmentationNode.GetSegmentation().GetNumberOfSegments()):
        segmentId = segmentationNode.GetSegmentation().GetNthSegmentID(number)
        image = segmentationNode.GetBinaryLabelmapInternalRepresentation(segmentId)
        if image.IsEmpty():
            continue
        i0, i1, j0, j1, k0, k1 = image.GetExtent()
        array = slicer.util.arrayFromSegmentInternalBinaryLabelmap(segmentationNode, segmentId)
        value = segmentationNode.GetSegmentation().GetSegment(segmentId).GetLabelValue()
        labels[k0 : k1 + 1, j0 : j1 + 1, i0 : i1 + 1][array == value] = number + 1
    return labels


def on_grid(volumeNode, ijk_to_ras):
    """Voxels (k, j, i) of a node in the order of another grid: Slicer turns left-handed ones round when it loads."""
    array = slicer.util.arrayFromVolume(volumeNode)
    kji = np.argwhere(np.ones(array.shape))
    turned = np.linalg.inv(ijk_to_ras) @ mrml.ijk_to_ras(volumeNode)
    found = np.empty_like(array)
    found[tuple(np.rint(mrml.world_positions(turned, kji)[:, ::-1]).astype(int).T)] = array.ravel()
    return found


def paint(segmentationNode, segmentId, kji):
    """Sets one voxel as the Segment Editor does."""
    image = slicer.vtkOrientedImageData()
    segmentationNode.GetBinaryLabelmapRepresentation(segmentId, image)
    brush = slicer.vtkOrientedImageData()
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    brush.SetGeometryFromImageToWorldMatrix(matrix)
    k, j, i = kji
    brush.SetExtent(i, i, j, j, k, k)
    brush.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    brush.GetPointData().GetScalars().Fill(segmentationNode.GetSegmentation().GetSegment(segmentId).GetLabelValue())
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.SetBinaryLabelmapToSegment(
        brush, segmentationNode, segmentId, logic.MODE_MERGE_MAX, brush.GetExtent(), False, []
    )


class TestIsImageSequence:
    def test_a_cine(self, sequenceNode):
        assert is_image_sequence(sequenceNode)

    def test_not_an_empty_one_a_segmentation_or_another_node(self, scene, application, cine):
        assert not is_image_sequence(None)
        assert not is_image_sequence(mrml.add_volume(scene))
        assert not is_image_sequence(add_sequence(scene, []))
        for className in ("vtkMRMLTransformNode", "vtkMRMLLabelMapVolumeNode"):
            node = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "other")
            node.SetDataNodeAtValue(getattr(slicer, className)(), "0")
            assert not is_image_sequence(node)


class TestSequenceOf:
    def test_the_proxy_of_a_cine(self, browserNode, sequenceNode):
        assert sequence_of(browserNode.GetProxyNode(sequenceNode)) == (browserNode, sequenceNode)

    def test_an_ordinary_volume(self, scene, browserNode):
        assert sequence_of(mrml.add_volume(scene)) is None
        assert sequence_of(None) is None

    def test_the_browser_whose_master_it_is_comes_first(self, scene, cine, sequenceNode):
        other = add_browser(scene, add_sequence(scene, cine, "Flow"), sequenceNode)
        own = add_browser(scene, sequenceNode)
        own.AddProxyNode(other.GetProxyNode(sequenceNode), sequenceNode, False)
        assert sequence_of(own.GetProxyNode(sequenceNode)) == (own, sequenceNode)

    def test_browser_and_proxy_of_a_sequence(self, scene, cine, sequenceNode):
        assert browser_of(sequenceNode) is None
        assert proxy_of(sequenceNode) is None
        other = add_browser(scene, add_sequence(scene, cine, "Flow"), sequenceNode)
        assert browser_of(sequenceNode) is other
        own = add_browser(scene, sequenceNode)
        assert browser_of(sequenceNode) is own
        assert proxy_of(sequenceNode) is own.GetProxyNode(sequenceNode)

    def test_the_proxy_of_something_else(self, scene, application):
        node = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "labels")
        empty = slicer.vtkMRMLLabelMapVolumeNode()
        node.SetDataNodeAtValue(empty, "0")
        assert sequence_of(add_browser(scene, node).GetProxyNode(node)) is None


class TestInputs:
    def test_neither_enhanced_images_nor_segmentations_are_offered(
        self, scene, browserNode, proxyNode, sequenceNode, result
    ):
        hidden = {result.segmentationSequenceNode, result.enhancedSequenceNode, result.enhancedNode}
        for index in (0, 2):
            select_phase(browserNode, index)
            assert {scene.GetNodeByID(i) for i in hidden_inputs(scene)} == hidden
            assert is_enhanced(result.enhancedSequenceNode) and is_enhanced(result.enhancedNode)
        assert all(map(is_enhanced, data_nodes(result.enhancedSequenceNode)))
        assert not is_enhanced(sequenceNode) and not is_enhanced(proxyNode)

    def test_in_the_scene_of_an_older_version(self, scene, result):
        for node in (result.enhancedSequenceNode, result.enhancedNode, *data_nodes(result.enhancedSequenceNode)):
            node.RemoveAttribute("DINSegment.Enhanced")
        hidden = {result.segmentationSequenceNode, result.enhancedSequenceNode, result.enhancedNode}
        assert {scene.GetNodeByID(i) for i in hidden_inputs(scene)} == hidden

    def test_an_empty_sequence_may_be_filled_later(self, scene):
        add_sequence(scene, [])
        assert hidden_inputs(scene) == []


class TestPhases:
    def test_are_the_data_nodes_in_order(self, sequenceNode):
        assert phases(sequenceNode) == data_nodes(sequenceNode)

    def test_no_sequence(self, scene):
        for node in (None, mrml.add_volume(scene)):
            with pytest.raises(InputError, match="No sequence is selected"):
                phases(node)

    def test_no_phases(self, scene):
        with pytest.raises(InputError, match="'Cine SAX' has no phases"):
            phases(add_sequence(scene, []))

    @pytest.mark.parametrize("className", ["vtkMRMLLabelMapVolumeNode", "vtkMRMLTransformNode"])
    def test_no_images(self, scene, cine, className):
        node = add_sequence(scene, cine[:2])
        node.SetDataNodeAtValue(getattr(slicer, className)(), "100")
        with pytest.raises(InputError, match="Phase 3 of the sequence 'Cine SAX' is no grey image"):
            phases(node)

    def test_colour(self, scene, cine):
        node = add_sequence(scene, cine[:1])
        photo = slicer.vtkMRMLVectorVolumeNode()
        slicer.util.updateVolumeFromArray(photo, np.zeros((2, 3, 4, 3), np.uint8))
        node.SetDataNodeAtValue(photo, "100")
        with pytest.raises(InputError, match="Phase 2 of the sequence 'Cine SAX' is no grey image"):
            phases(node)

    def test_phases_of_differing_types(self, scene, cine):
        node = add_sequence(scene, cine[:1])
        other = slicer.vtkMRMLVectorVolumeNode()
        slicer.util.updateVolumeFromArray(other, np.zeros((2, 3, 4), np.uint8))
        node.SetDataNodeAtValue(other, "100")
        with pytest.raises(InputError, match="Phase 2 of the sequence 'Cine SAX' is of another type than the first"):
            phases(node)

    def test_a_phase_without_voxels(self, scene, cine):
        node = add_sequence(scene, cine[:2])
        node.SetDataNodeAtValue(slicer.vtkMRMLScalarVolumeNode(), "100")
        with pytest.raises(InputError, match="Phase 3 of the sequence 'Cine SAX' holds no image"):
            phases(node)


class TestPhaseImages:
    def test_lie_where_the_proxy_shows_them(self, sequenceNode, browserNode, proxyNode):
        for index, image in enumerate(phase_images(sequenceNode)):
            select_phase(browserNode, index)
            shown = nodes.volume_from_node(proxyNode)
            assert np.allclose(image.ijk_to_ras, shown.ijk_to_ras, rtol=0, atol=1e-9)
            assert not np.allclose(image.ijk_to_ras, mrml.ijk_to_ras(proxyNode))
            assert np.array_equal(image.array, shown.array)
            assert image.name == f"Heart cine phase {index + 1:02d}"

    def test_are_not_copied(self, sequenceNode):
        image = phase_images(sequenceNode)[1]
        image.array[0, 0, 0] = 4321
        assert slicer.util.arrayFromVolume(sequenceNode.GetNthDataNode(1))[0, 0, 0] == 4321

    def test_modality_of_the_series(self, scene, sequenceNode, proxyNode):
        assert {image.modality for image in phase_images(sequenceNode)} == {None}
        hierarchy = scene.GetSubjectHierarchyNode()
        hierarchy.SetItemAttribute(hierarchy.GetItemByDataNode(proxyNode), nodes.MODALITY_ATTRIBUTE, "MR")
        assert {image.modality for image in phase_images(sequenceNode)} == {"MR"}

    def test_a_cine_without_a_browser(self, sequenceNode, cine):
        images = phase_images(sequenceNode)
        assert np.allclose(images[2].ijk_to_ras, cine[2].ijk_to_ras, rtol=0, atol=1e-9)
        assert images[2].name == "Cine SAX phase 03"

    def test_a_proxy_whose_name_changes_with_the_phase(self, sequenceNode, browserNode):
        browserNode.SetOverwriteProxyName(sequenceNode, True)
        assert browserNode.GetProxyNode(sequenceNode).GetName() != "Cine SAX"
        assert phase_images(sequenceNode)[0].name == "Cine SAX phase 01"

    def test_a_non_linear_transform_is_refused(self, scene, sequenceNode, browserNode):
        browserNode.GetProxyNode(sequenceNode).SetAndObserveTransformNodeID(mrml.add_warp(scene).GetID())
        with pytest.raises(InputError, match=r"'Cine SAX'.*non-linear.*harden"):
            phase_images(sequenceNode)


class TestSingleSlices:
    """What Slicer makes of a cine that its DICOM reader "Image sequence" loads."""

    def test_frames_of_a_stack_are_refused_with_what_to_do(self, scene, application, cine):
        node = mrml.add_image_sequence(scene, cine)
        assert node.GetNumberOfDataNodes() == 12
        with pytest.raises(InputError, match=r"'301: MR cine_sax', 12 of 12 frames are single slices.*join them"):
            phase_images(node)

    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_a_cine_of_one_slice_is_refused(self, scene, cine, axis):
        node = add_sequence(scene, [replace(v, array=v.array.take([2], axis)) for v in cine])
        with pytest.raises(InputError, match="'Cine SAX' shows one slice only"):
            phase_images(node)

    def test_one_frame_among_volumes_is_refused(self, scene, cine):
        with pytest.raises(InputError, match="'Cine SAX', 1 of 3 frames are single slices"):
            phase_images(add_sequence(scene, [*cine[:2], replace(cine[2], array=cine[2].array[:1])]))

    def test_two_slices_are_a_volume(self, scene, cine):
        images = phase_images(add_sequence(scene, [replace(v, array=v.array[:2]) for v in cine]))
        assert [image.array.shape[0] for image in images] == [2, 2, 2]

    def test_nothing_is_computed_or_added(self, scene, application, cine):
        node = mrml.add_image_sequence(scene, cine)
        worker, before = mrml.InProcess(), mrml.scene_state(scene)
        with pytest.raises(InputError, match="frames are single slices"):
            DINSegmentLogic(worker).segment(node, HEART)
        assert worker.jobs == [] and mrml.scene_state(scene) == before


class TestTimes:
    @pytest.mark.parametrize(("unit", "factor"), [("ms", 1), ("s", 1000), ("sec", 1000)])
    def test_in_milliseconds(self, scene, cine, unit, factor):
        node = add_sequence(scene, cine, unit=unit)
        assert times_ms(node) == pytest.approx([0, 35.5 * factor, 71 * factor])

    def test_an_index_that_tells_no_time(self, scene, cine):
        assert times_ms(add_sequence(scene, cine, unit="")) is None
        assert times_ms(add_sequence(scene, cine, unit="mm")) is None
        text = add_sequence(scene, cine)
        text.SetIndexType(slicer.vtkMRMLSequenceNode.TextIndex)
        assert times_ms(text) is None
        assert times_ms(add_sequence(scene, cine[:1], values=["rest"])) is None


class TestAddedSequences:
    def test_have_the_index_of_the_cine(self, sequenceNode, result):
        for node in (result.segmentationSequenceNode, result.enhancedSequenceNode):
            assert index_of(node) == index_of(sequenceNode)

    def test_a_text_index(self, scene, application, cine):
        node = add_sequence(scene, [], values=["rest", "apnoea", "stress"])
        node.SetIndexType(slicer.vtkMRMLSequenceNode.TextIndex)
        for value, volume in zip(("rest", "apnoea", "stress"), cine, strict=True):
            phase = slicer.vtkMRMLScalarVolumeNode()
            slicer.util.updateVolumeFromArray(phase, volume.array)
            node.SetDataNodeAtValue(phase, value)
        result = add_sequences_to_scene(node, segmented(node))
        assert index_of(result.segmentationSequenceNode) == index_of(node)
        assert index_of(node)[-1] == ["rest", "apnoea", "stress"]

    def test_each_phase_has_its_segments(self, result, segmentations):
        for node, segmentation in zip(data_nodes(result.segmentationSequenceNode), segmentations, strict=True):
            assert np.array_equal(labels_of(node, segmentation.labels.shape), segmentation.labels)
            segments = mrml.segments(node)
            assert [s.GetName() for s in segments] == [s.name for s in HEART.segments]
            for made, segment in zip(segments, HEART.segments, strict=True):
                assert np.allclose(np.multiply(made.GetColor(), 255), segment.color)
                assert made.GetTerminology() == segment.terminology
                assert mrml.tag(made, "DICOM.SegmentAlgorithmType") == "AUTOMATIC"
                assert mrml.tag(made, "DICOM.SegmentAlgorithmName") == "DINSegment threshold"

    def test_each_phase_has_its_enhanced_image(self, sequenceNode, result, segmentations):
        originals = data_nodes(sequenceNode)
        for node, original, segmentation in zip(
            data_nodes(result.enhancedSequenceNode), originals, segmentations, strict=True
        ):
            assert np.array_equal(slicer.util.arrayFromVolume(node), segmentation.enhanced.array)
            assert np.array_equal(mrml.ijk_to_ras(node), mrml.ijk_to_ras(original))

    def test_the_sequences_hold_nothing_but_the_phases(self, result):
        for node in (result.segmentationSequenceNode, result.enhancedSequenceNode):
            found = [node.GetSequenceScene().GetNthNode(n) for n in range(node.GetSequenceScene().GetNumberOfNodes())]
            assert found == data_nodes(node)
        role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
        for phase in data_nodes(result.segmentationSequenceNode):
            assert phase.GetNodeReferenceID(role) is None

    def test_phases_may_lie_differently(self, scene, application, cine):
        moved = [replace(v, ijk_to_ras=SHIFT**n @ v.ijk_to_ras) if n == 1 else v for n, v in enumerate(cine)]
        moved[2] = Volume(cine[2].array[:3], cine[2].ijk_to_ras)
        sequenceNode = add_sequence(scene, moved)
        browserNode = add_browser(scene, sequenceNode)
        result = add_sequences_to_scene(sequenceNode, segmented(sequenceNode))
        for index, segmentation in enumerate(result.segmentations):
            select_phase(browserNode, index)
            expected = mrml.world_positions(segmentation.volume.ijk_to_ras, np.argwhere(segmentation.labels == 3))
            found = mrml.segment_world_positions(result.segmentationNode, "Left ventricle")
            assert np.allclose(found, expected, rtol=0, atol=1e-9)
            assert np.allclose(mrml.ijk_to_ras(result.enhancedNode), moved[index].ijk_to_ras, rtol=0, atol=1e-9)
            text = result.segmentationNode.GetSegmentation().GetConversionParameter(
                slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
            )
            geometry = slicer.vtkOrientedImageData()
            assert slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, geometry, False)
            assert geometry.GetDimensions() == segmentation.labels.shape[::-1]


class TestBrowser:
    def test_all_three_are_in_the_browser_of_the_cine(self, browserNode, sequenceNode, result):
        assert result.browserNode is browserNode
        assert set(synchronized(browserNode)) == {
            sequenceNode,
            result.segmentationSequenceNode,
            result.enhancedSequenceNode,
        }
        assert browserNode.GetMasterSequenceNode() is sequenceNode
        assert browserNode.GetProxyNode(result.segmentationSequenceNode) is result.segmentationNode
        assert browserNode.GetProxyNode(result.enhancedSequenceNode) is result.enhancedNode

    def test_a_change_of_phase_changes_all_proxies(self, browserNode, proxyNode, result, segmentations):
        for index in (2, 0, 1, 2):
            select_phase(browserNode, index)
            segmentation = segmentations[index]
            assert np.array_equal(slicer.util.arrayFromVolume(proxyNode), segmentation.volume.array)
            assert np.array_equal(slicer.util.arrayFromVolume(result.enhancedNode), segmentation.enhanced.array)
            assert np.array_equal(labels_of(result.segmentationNode, segmentation.labels.shape), segmentation.labels)

    def test_the_phase_in_view_stays_in_view(self, browserNode, sequenceNode, proxyNode, segmentations):
        select_phase(browserNode, 2)
        result = add_sequences_to_scene(sequenceNode, segmentations)
        assert browserNode.GetSelectedItemNumber() == 2
        assert np.array_equal(slicer.util.arrayFromVolume(proxyNode), segmentations[2].volume.array)
        assert np.array_equal(slicer.util.arrayFromVolume(result.enhancedNode), segmentations[2].enhanced.array)

    def test_only_the_phases_there_are(self, browserNode):
        for index in (-1, 3):
            with pytest.raises(IndexError, match="'browser' has 3 phases"):
                select_phase(browserNode, index)

    def test_a_browser_that_plays_or_records_is_stopped(self, browserNode, sequenceNode, segmentations):
        browserNode.SetPlaybackActive(True)
        browserNode.SetRecordingActive(True)
        add_sequences_to_scene(sequenceNode, segmentations)
        assert not browserNode.GetPlaybackActive()
        assert not browserNode.GetRecordingActive()

    def test_a_cine_without_a_browser_gets_one(self, scene, sequenceNode):
        result = add_sequences_to_scene(sequenceNode, segmented(sequenceNode))
        browserNode = result.browserNode
        assert browserNode.GetName() == "Cine SAX browser"
        assert browserNode.GetMasterSequenceNode() is sequenceNode
        assert sequence_of(browserNode.GetProxyNode(sequenceNode)) == (browserNode, sequenceNode)
        assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 2
        assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1
        select_phase(browserNode, 1)
        expected = result.segmentations[1].labels
        assert np.array_equal(labels_of(result.segmentationNode, expected.shape), expected)

    def test_of_several_browsers_the_one_whose_master_it_is(self, scene, cine, sequenceNode):
        add_browser(scene, add_sequence(scene, cine, "Flow"), sequenceNode)
        own = add_browser(scene, sequenceNode)
        assert add_sequences_to_scene(sequenceNode, segmented(sequenceNode)).browserNode is own

    def test_a_browser_with_another_master(self, scene, cine, sequenceNode):
        other = add_browser(scene, add_sequence(scene, cine, "Flow"), sequenceNode)
        result = add_sequences_to_scene(sequenceNode, segmented(sequenceNode))
        assert result.browserNode is other
        select_phase(other, 1)
        expected = result.segmentations[1].labels
        assert np.array_equal(labels_of(result.segmentationNode, expected.shape), expected)

    def test_without_the_sequences_logic_the_phase_in_view_is_there(self, scene, cine):
        sequenceNode = add_sequence(scene, cine)
        result = add_sequences_to_scene(sequenceNode, segmented(sequenceNode))
        expected = result.segmentations[0]
        shown = result.browserNode.GetProxyNode(sequenceNode)
        assert np.array_equal(slicer.util.arrayFromVolume(shown), expected.volume.array)
        assert np.array_equal(slicer.util.arrayFromVolume(result.enhancedNode), expected.enhanced.array)
        assert np.array_equal(labels_of(result.segmentationNode, expected.labels.shape), expected.labels)

        select_phase(result.browserNode, 2)
        again = add_sequences_to_scene(sequenceNode, result.segmentations)
        expected = result.segmentations[2]
        assert again.browserNode is result.browserNode
        assert np.array_equal(slicer.util.arrayFromVolume(again.enhancedNode), expected.enhanced.array)
        assert np.array_equal(labels_of(again.segmentationNode, expected.labels.shape), expected.labels)


class TestNoSelection:
    """A browser has none when a sequence was just added to it, as Slicer's DICOM readers do."""

    @pytest.fixture
    def sequenceNode(self, scene, application, cine):
        """Without an index value of 0, which is what Slicer takes for the missing one."""
        return add_sequence(scene, cine, unit="", values=["1", "2", "3"])

    def test_no_phase_is_added(self, browserNode, sequenceNode):
        assert browserNode.GetSelectedItemNumber() == -1
        result = add_sequences_to_scene(sequenceNode, segmented(sequenceNode))
        for node in (result.segmentationSequenceNode, result.enhancedSequenceNode):
            assert index_of(node) == index_of(sequenceNode)
        assert browserNode.GetSelectedItemNumber() == 0
        expected = result.segmentations[0].labels
        assert np.array_equal(labels_of(result.segmentationNode, expected.shape), expected)

    def test_nor_where_it_is_lost_later(self, browserNode, sequenceNode):
        result = add_sequences_to_scene(sequenceNode, segmented(sequenceNode))
        for index in (2, -1, 1):
            browserNode.SetSelectedItemNumber(index)
        for node in (result.segmentationSequenceNode, result.enhancedSequenceNode):
            assert index_of(node) == index_of(sequenceNode)
        expected = result.segmentations[1].labels
        assert np.array_equal(labels_of(result.segmentationNode, expected.shape), expected)

    def test_nor_by_a_master_with_other_phases(self, scene, cine, sequenceNode):
        flow = add_sequence(scene, [*cine, cine[0]], "Flow", unit="", values=["0.5", "1", "2", "7"])
        browserNode = add_browser(scene, flow, sequenceNode)
        result = add_sequences_to_scene(sequenceNode, segmented(sequenceNode))
        for index in (0, 1, 2, 3, 1):
            select_phase(browserNode, index)
            assert index_of(result.segmentationSequenceNode) == index_of(sequenceNode)
            assert index_of(result.enhancedSequenceNode) == index_of(sequenceNode)
        expected = result.segmentations[0].labels
        assert np.array_equal(labels_of(result.segmentationNode, expected.shape), expected)

    def test_the_selected_phase(self, scene, cine, browserNode, sequenceNode):
        assert browserNode.GetSelectedItemNumber() == -1
        assert selected_phase(sequenceNode) == 0
        select_phase(browserNode, 2)
        assert selected_phase(sequenceNode) == 2
        assert selected_phase(add_sequence(scene, cine)) == 0

    def test_the_selected_phase_of_another_master(self, scene, cine, sequenceNode):
        flow = add_sequence(scene, [*cine, cine[0]], "Flow", unit="", values=["0.5", "1", "2", "7"])
        browserNode = add_browser(scene, flow, sequenceNode)
        found = []
        for index in range(4):
            select_phase(browserNode, index)
            found.append(selected_phase(sequenceNode))
        assert found == [0, 0, 1, 2]


class TestProxies:
    def test_lie_with_the_proxy_of_the_cine(self, scene, proxyNode, result):
        hierarchy = scene.GetSubjectHierarchyNode()
        study = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(proxyNode))
        assert study != hierarchy.GetSceneItemID()
        for node in (result.segmentationNode, result.enhancedNode):
            assert node.GetParentTransformNode() is proxyNode.GetParentTransformNode()
            assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study

    def test_have_the_names_of_a_single_result(self, result):
        assert result.segmentationNode.GetName() == "Heart cine Heart"
        assert result.enhancedNode.GetName() == "Heart cine fuzzy-enhanced"

    def test_reference_image_is_the_proxy_of_the_cine(self, browserNode, proxyNode, result):
        role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
        for index in (1, 0):
            select_phase(browserNode, index)
            assert result.segmentationNode.GetNodeReference(role) is proxyNode

    def test_the_original_is_the_proxy_of_the_cine(self, browserNode, proxyNode, result):
        for index in (1, 0):
            select_phase(browserNode, index)
            assert nodes.original_of(result.enhancedNode) is proxyNode

    def test_outlines_are_two_pixels_wide(self, result):
        assert result.segmentationNode.GetDisplayNode().GetSliceIntersectionThickness() == 2

    def test_colours_of_all_phases(self, browserNode, result):
        show_colors(data_nodes(result.segmentationSequenceNode), "recommended")
        for index in (1, 0, 2):
            select_phase(browserNode, index)
            for made, segment in zip(mrml.segments(result.segmentationNode), HEART.segments, strict=True):
                assert np.allclose(np.multiply(made.GetColor(), 255), segment.recommended_color)

    def test_can_be_shown_and_saved(self, result):
        for node in (result.segmentationNode, result.enhancedNode):
            assert node.GetDisplayNode() is not None
            assert node.GetStorageNode() is not None

    def test_segments_lie_where_the_image_does(self, browserNode, result, segmentations):
        select_phase(browserNode, 1)
        expected = mrml.world_positions(segmentations[1].volume.ijk_to_ras, np.argwhere(segmentations[1].labels == 3))
        found = mrml.segment_world_positions(result.segmentationNode, "Left ventricle")
        assert np.allclose(found, expected, rtol=0, atol=1e-9)

    @pytest.mark.parametrize("auto", [False, True])
    def test_window_and_level_are_those_of_the_cine_and_stay(
        self, browserNode, sequenceNode, proxyNode, segmentations, auto
    ):
        display = proxyNode.GetDisplayNode()
        display.SetAutoWindowLevel(auto)
        if not auto:
            display.SetWindowLevel(321, 123)
        before = display.GetWindow(), display.GetLevel(), display.GetAutoWindowLevel()
        result = add_sequences_to_scene(sequenceNode, segmentations)
        shown = result.enhancedNode.GetDisplayNode()
        assert (display.GetWindow(), display.GetLevel(), display.GetAutoWindowLevel()) == before
        assert (shown.GetWindow(), shown.GetLevel()) == before[:2]
        select_phase(browserNode, 2)
        assert (shown.GetWindow(), shown.GetLevel()) == before[:2]

    def test_the_cine_stays_as_it_was(self, sequenceNode, segmentations, cine):
        before = index_of(sequenceNode), data_nodes(sequenceNode)
        add_sequences_to_scene(sequenceNode, segmentations)
        assert (index_of(sequenceNode), data_nodes(sequenceNode)) == before
        for node, volume in zip(data_nodes(sequenceNode), cine, strict=True):
            assert np.array_equal(slicer.util.arrayFromVolume(node), volume.array)

    def test_a_second_run_has_names_of_its_own(self, browserNode, sequenceNode, result, segmentations):
        again = add_sequences_to_scene(sequenceNode, segmentations)
        assert again.segmentationNode.GetName() == "Heart cine Heart (2)"
        assert len(synchronized(browserNode)) == 5


class TestEdits:
    def test_an_edit_stays_with_its_phase(self, browserNode, result, segmentations):
        shape = segmentations[1].labels.shape
        where = tuple(np.argwhere(segmentations[1].labels == 0)[7])
        select_phase(browserNode, 1)
        paint(result.segmentationNode, "Left ventricle", where)
        expected = segmentations[1].labels.copy()
        expected[where] = 3
        assert np.array_equal(labels_of(result.segmentationNode, shape), expected)

        select_phase(browserNode, 2)
        assert np.array_equal(labels_of(result.segmentationNode, shape), segmentations[2].labels)
        select_phase(browserNode, 1)
        assert np.array_equal(labels_of(result.segmentationNode, shape), expected)
        assert np.array_equal(labels_of(result.segmentationSequenceNode.GetNthDataNode(1), shape), expected)

    def test_a_segment_that_was_added_or_renamed_stays_with_its_phase(self, browserNode, result):
        select_phase(browserNode, 0)
        result.segmentationNode.GetSegmentation().AddEmptySegment("scar", "Scar")
        result.segmentationNode.GetSegmentation().GetSegment("Left ventricle").SetName("LV")
        select_phase(browserNode, 1)
        assert [s.GetName() for s in mrml.segments(result.segmentationNode)] == [s.name for s in HEART.segments]
        select_phase(browserNode, 0)
        names = [s.GetName() for s in mrml.segments(result.segmentationNode)]
        assert names == ["Right ventricle", "Left ventricular myocardium", "LV", "Scar"]

    def test_the_phase_in_view_is_not_held_twice(self, browserNode, result):
        select_phase(browserNode, 1)
        phase = result.segmentationSequenceNode.GetNthDataNode(1)
        assert phase.GetSegmentation() is result.segmentationNode.GetSegmentation()


class TestSaving:
    def save_and_load(self, scene, application, folder):
        (folder / "saved").mkdir()
        assert scene.SaveSceneToSlicerDataBundleDirectory(str(folder / "saved"))
        scene.Clear(True)
        scene.SetURL(str(folder / "saved" / "saved.mrml"))
        assert scene.Connect()

    def test_what_was_added_comes_back_connected(
        self, scene, application, cine, browserNode, sequenceNode, result, segmentations, tmp_path
    ):
        where = tuple(np.argwhere(segmentations[1].labels == 0)[7])
        select_phase(browserNode, 1)
        paint(result.segmentationNode, "Left ventricle", where)
        edited = segmentations[1].labels.copy()
        edited[where] = 3
        measured = measure_phases(data_nodes(result.segmentationSequenceNode), result.segmentationNode)
        function = function_of(HEART, measured)
        update_volume_plot(scene, "Volumes", measured, times_ms(sequenceNode), function)
        update_measurement_table(scene, "Measurements", measured, function)
        index = index_of(sequenceNode)

        self.save_and_load(scene, application, tmp_path)

        browserNode = scene.GetFirstNodeByClass("vtkMRMLSequenceBrowserNode")
        loaded = {browserNode.GetProxyNode(node).GetName(): node for node in synchronized(browserNode)}
        assert set(loaded) == {"Heart cine", "Heart cine Heart", "Heart cine fuzzy-enhanced"}
        assert browserNode.GetSaveChanges(loaded["Heart cine Heart"])
        assert browserNode.GetSelectedItemNumber() == 1
        for node in loaded.values():
            assert index_of(node)[:2] == index[:2]
            assert [float(value) for value in index_of(node)[-1]] == [float(value) for value in index[-1]]
        proxyNode = browserNode.GetProxyNode(loaded["Heart cine"])
        segmentationNode = browserNode.GetProxyNode(loaded["Heart cine Heart"])
        role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
        assert segmentationNode.GetNodeReference(role) is proxyNode
        assert segmentationNode.GetParentTransformNode() is proxyNode.GetParentTransformNode() is not None
        assert nodes.original_of(browserNode.GetProxyNode(loaded["Heart cine fuzzy-enhanced"])) is proxyNode

        for index, labels in ((2, segmentations[2].labels), (1, edited)):
            select_phase(browserNode, index)
            assert np.array_equal(labels_of(segmentationNode, labels.shape), labels)
            enhancedNode = browserNode.GetProxyNode(loaded["Heart cine fuzzy-enhanced"])
            enhanced = on_grid(enhancedNode, cine[index].ijk_to_ras)
            assert np.array_equal(enhanced, segmentations[index].enhanced.array)
        again = measure_phases(data_nodes(loaded["Heart cine Heart"]), segmentationNode)
        assert asdict(function_of(HEART, again)) == pytest.approx(asdict(function))

        chartNode = scene.GetFirstNodeByClass("vtkMRMLPlotChartNode")
        before = mrml.node_ids(scene)
        update_volume_plot(scene, "Volumes", again, None, None, chartNode)
        assert set(mrml.node_ids(scene)) < set(before)
        tables = {chartNode.GetNthPlotSeriesNode(n).GetTableNode() for n in range(3)}
        assert len(tables) == 1
        assert tables.pop().GetTable().GetValue(2, 0).ToDouble() == 3


class TestErrors:
    def test_another_number_of_phases(self, scene, sequenceNode, segmentations):
        before = mrml.scene_state(scene)
        with pytest.raises(InputError, match=r"'Cine SAX' has changed.*from 2 phases to 3"):
            add_sequences_to_scene(sequenceNode, segmentations[:2])
        assert mrml.scene_state(scene) == before

    def test_another_grid_of_one_phase(self, scene, sequenceNode, segmentations):
        slicer.util.updateVolumeFromArray(sequenceNode.GetNthDataNode(2), np.zeros((3, 4, 5)))
        before = mrml.scene_state(scene)
        with pytest.raises(InputError, match=r"'Cine SAX 2' has changed"):
            add_sequences_to_scene(sequenceNode, segmentations)
        assert mrml.scene_state(scene) == before

    def test_a_cine_that_was_removed(self, scene, sequenceNode, segmentations):
        scene.RemoveNode(sequenceNode)
        with pytest.raises(InputError, match="'Cine SAX' is not in the scene"):
            add_sequences_to_scene(sequenceNode, segmentations)

    def test_an_index_that_does_not_tell_the_phases_apart(self, scene, sequenceNode, segmentations):
        sequenceNode.SetNumericIndexValueTolerance(50)
        before = mrml.scene_state(scene)
        with pytest.raises(InputError, match="'Cine SAX' has index values that are equal"):
            add_sequences_to_scene(sequenceNode, segmentations)
        assert mrml.scene_state(scene) == before

    STEPS = (
        ("_new_sequence", 1),
        ("_new_sequence", 2),
        ("_add_segmentation", 1),
        ("_add_segmentation", 3),
        ("_add_enhanced", 2),
        ("_check_same_index", 1),
        ("new_proxy", 1),
        ("new_proxy", 2),
        ("display_segments", 1),
        ("_check_same_index", 2),
        ("join", 1),
        ("join", 2),
        ("copy_display", 1),
        ("lay_on", 1),
        ("lay_on", 2),
        ("SequenceResult", 1),
    )

    @pytest.mark.parametrize("playing", [False, True], ids=["stopped", "playing"])
    @pytest.mark.parametrize(("step", "call"), STEPS)
    def test_an_error_after_any_step_leaves_the_scene_as_it_was(
        self, scene, monkeypatch, browserNode, sequenceNode, segmentations, step, call, playing
    ):
        browserNode.SetPlaybackActive(playing)
        before = mrml.scene_state(scene)
        self.stop_after(monkeypatch, step, call)
        with pytest.raises(DINSegmentError, match="stop"):
            add_sequences_to_scene(sequenceNode, segmentations)
        assert mrml.scene_state(scene) == before
        assert synchronized(browserNode) == [sequenceNode]
        assert browserNode.GetPlaybackActive() == playing

        monkeypatch.undo()
        result = add_sequences_to_scene(sequenceNode, segmentations)
        select_phase(browserNode, 2)
        expected = segmentations[2].labels
        assert np.array_equal(labels_of(result.segmentationNode, expected.shape), expected)

    @pytest.mark.parametrize(("step", "call"), STEPS)
    def test_an_error_leaves_no_new_browser(self, scene, monkeypatch, sequenceNode, step, call):
        segmentations = segmented(sequenceNode)
        before = mrml.scene_state(scene)
        self.stop_after(monkeypatch, step, call)
        with pytest.raises(DINSegmentError, match="stop"):
            add_sequences_to_scene(sequenceNode, segmentations)
        assert mrml.scene_state(scene) == before

    def test_given_up_after_any_step_the_scene_is_as_it_was(self, scene, browserNode, sequenceNode, segmentations):
        browserNode.SetPlaybackActive(True)
        before = mrml.scene_state(scene)
        partial = 0
        for number in range(1, 1000):
            steps = adding_sequences(sequenceNode, segmentations)
            if len(list(itertools.islice(steps, number))) < number:
                break
            partial += scene.GetNumberOfNodes() > len(before[0])
            steps.close()
            assert mrml.scene_state(scene) == before, number
            assert synchronized(browserNode) == [sequenceNode] and browserNode.GetPlaybackActive()
        assert number > 20 and partial == 4

    @pytest.mark.parametrize("given_up", [False, True], ids=["to the end", "given up"])
    def test_what_the_user_does_between_two_steps_stays(
        self, scene, browserNode, sequenceNode, segmentations, given_up
    ):
        steps, own = adding_sequences(sequenceNode, segmentations), []
        before = scene.GetNumberOfNodes()
        while scene.GetNumberOfNodes() - len(own) < before + 4:
            next(steps)
            own.append(scene.AddNewNodeByClass("vtkMRMLModelNode", "mine"))
            select_phase(browserNode, len(own) % 3)
        own.append(add_sequence(scene, [segmentations[0].volume], "Flow", values=["0.0"]))
        browserNode.AddSynchronizedSequenceNode(own[-1])
        select_phase(browserNode, 1)
        if given_up:
            steps.close()
        else:
            result = scene_module.made(steps)
            assert np.array_equal(
                labels_of(result.segmentationNode, segmentations[1].labels.shape), segmentations[1].labels
            )
        assert browserNode.GetSelectedItemNumber() == 1
        assert own[-1] in synchronized(browserNode)
        assert all(node.GetScene() is scene for node in own)

    def test_a_scene_that_is_closed_between_two_steps(self, scene, browserNode, sequenceNode, segmentations):
        steps = adding_sequences(sequenceNode, segmentations)
        before = scene.GetNumberOfNodes()
        while scene.GetNumberOfNodes() == before:
            next(steps)
        scene.Clear(False)
        others = [scene.AddNewNodeByClass(name, "mine") for name in ("vtkMRMLSequenceNode", "vtkMRMLModelNode")]
        with pytest.raises(InputError, match="is not in the scene"):
            scene_module.made(steps)
        assert all(node.GetScene() is scene for node in others)

    def stop_after(self, monkeypatch, step, call):
        """Raises once `step` was done for the given time."""
        real, calls = getattr(sequence_results, step), []

        def stopping(*args, **kwargs):
            made = real(*args, **kwargs)
            calls.append(made)
            if len(calls) == call:
                raise DINSegmentError("stop")
            return made

        monkeypatch.setattr(sequence_results, step, stopping)


def test_sunnybrook(scene, application, sunnybrook_folder):
    volumes = read_volumes(sunnybrook_folder)[::7]
    assert len(volumes) == 3
    sequenceNode = add_sequence(scene, volumes, "Sunnybrook")
    browserNode = add_browser(scene, sequenceNode)
    result = add_sequences_to_scene(sequenceNode, segmented(sequenceNode))
    for index, volume in enumerate(volumes):
        select_phase(browserNode, index)
        expected = mrml.threshold(volume)
        assert np.array_equal(labels_of(result.segmentationNode, expected.labels.shape), expected.labels)
        found = mrml.segment_world_positions(result.segmentationNode, "Right ventricle")
        lies = mrml.world_positions(volume.ijk_to_ras, np.argwhere(expected.labels == 1))
        assert np.allclose(found, lies, rtol=0, atol=1e-6)
    function = function_of(HEART, measure_phases(data_nodes(result.segmentationSequenceNode)))
    counts = [int((s.labels == 3).sum()) for s in result.segmentations]
    ml = volumes[0].voxel_volume_ml
    assert function.end_diastolic_volume_ml == pytest.approx(max(counts) * ml)
    assert function.end_systolic_volume_ml == pytest.approx(min(counts) * ml)


def test_sunnybrook_as_slicer_may_load_it(scene, application, sunnybrook_folder):
    """The DICOM reader "Image sequence" makes 240 frames of 20 phases of 12 slices: no phases."""
    volumes = read_volumes(sunnybrook_folder)
    node = mrml.add_image_sequence(scene, volumes)
    assert node.GetNumberOfDataNodes() == len(volumes) * len(volumes[0].array) == 240
    with pytest.raises(InputError, match="240 of 240 frames are single slices"):
        phase_images(node)
