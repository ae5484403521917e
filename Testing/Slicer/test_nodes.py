"""Nodes <-> Volume, Segmentation: geometry, voxels, names, codes, references."""

from __future__ import annotations

import mrml
import numpy as np
import pytest
import slicer
import vtk

from dinsegment.errors import InputError
from dinsegment.images.segmentation import Segmentation
from dinsegment.phantom.heart import heart_phantom
from dinsegment.tasks import ABDOMEN, HEART
from dinsegment_slicer.scene.nodes import enhanced_node, plain_enhanced_node, segmentation_node, volume_from_node
from dinsegment_slicer.scene.sequences import hidden_inputs, is_enhanced

geometries = pytest.mark.parametrize("matrix", mrml.GEOMETRIES.values(), ids=mrml.GEOMETRIES)

TILT = mrml.affine(mrml.rotation(-12, 25, 70), (1, 1, 1), (55, -3, 20))


@pytest.fixture
def volumeNode(scene):
    return mrml.add_volume(scene)


@pytest.fixture
def segmentation(volumeNode):
    return mrml.threshold(volume_from_node(volumeNode))


class TestVolumeFromNode:
    @geometries
    def test_geometry_is_the_nodes(self, scene, matrix):
        node = mrml.add_volume(scene, ijk_to_ras=matrix)
        volume = volume_from_node(node)
        assert np.array_equal(volume.ijk_to_ras, mrml.ijk_to_ras(node))
        assert np.allclose(volume.ijk_to_ras, matrix, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
    def test_voxels_are_a_float32_copy(self, scene, dtype):
        array = mrml.random_image().clip(0, 255).astype(dtype)
        node = mrml.add_volume(scene, array)
        volume = volume_from_node(node)
        assert volume.array.dtype == np.float32
        assert np.array_equal(volume.array, array)
        volume.array[:] = -1
        assert np.array_equal(slicer.util.arrayFromVolume(node), array)

    def test_linear_transforms_up_to_the_world_are_composed(self, scene):
        node = mrml.add_volume(scene)
        inner, outer = mrml.affine(mrml.rotation(0, 0, 30), (1, 1, 1), (5, 6, 7)), TILT
        parent = mrml.add_linear_transform(scene, inner, mrml.add_linear_transform(scene, outer))
        node.SetAndObserveTransformNodeID(parent.GetID())
        expected = outer @ inner @ mrml.OBLIQUE
        assert np.allclose(volume_from_node(node).ijk_to_ras, expected, rtol=0, atol=1e-10)

    def test_a_non_linear_transform_is_refused(self, scene, volumeNode):
        linear = mrml.add_linear_transform(scene, TILT, mrml.add_warp(scene))
        volumeNode.SetAndObserveTransformNodeID(linear.GetID())
        with pytest.raises(InputError, match=r"'Cine SAX'.*non-linear.*harden"):
            volume_from_node(volumeNode)

    def test_no_node(self):
        with pytest.raises(InputError, match="No volume is selected"):
            volume_from_node(None)

    def test_no_image_data(self, scene):
        node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty")
        with pytest.raises(InputError, match="'Empty' holds no image"):
            volume_from_node(node)
        no_scalars, no_voxels = vtk.vtkImageData(), vtk.vtkImageData()
        no_voxels.AllocateScalars(vtk.VTK_SHORT, 1)
        for image in (no_scalars, no_voxels):
            node.SetAndObserveImageData(image)
            with pytest.raises(InputError, match="'Empty' holds no image"):
                volume_from_node(node)

    def test_a_label_map(self, scene):
        node = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Labels")
        slicer.util.updateVolumeFromArray(node, np.ones((2, 3, 4), np.uint8))
        with pytest.raises(InputError, match="'Labels' is a label map"):
            volume_from_node(node)

    def test_colour(self, scene):
        node = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "Photo")
        slicer.util.updateVolumeFromArray(node, np.zeros((2, 3, 4, 3), np.uint8))
        with pytest.raises(InputError, match="'Photo' has 3 values per voxel"):
            volume_from_node(node)

    def test_no_volume(self, scene):
        with pytest.raises(InputError, match="'Points' is not a volume"):
            volume_from_node(scene.AddNewNodeByClass("vtkMRMLModelNode", "Points"))

    def test_modality_of_the_dicom_series(self, scene, volumeNode):
        assert volume_from_node(volumeNode).modality is None
        mrml.add_study(scene, volumeNode)
        assert volume_from_node(volumeNode).modality is None
        hierarchy = scene.GetSubjectHierarchyNode()
        attribute = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMSeriesModalityAttributeName()
        hierarchy.SetItemAttribute(hierarchy.GetItemByDataNode(volumeNode), attribute, "MR")
        assert volume_from_node(volumeNode).modality == "MR"

    def test_modality_of_the_node(self, volumeNode):
        volumeNode.SetAttribute("DICOM.Modality", "CT")
        assert volume_from_node(volumeNode).modality == "CT"

    def test_a_node_without_scene_or_name(self):
        node = slicer.vtkMRMLScalarVolumeNode()
        slicer.util.updateVolumeFromArray(node, mrml.random_image())
        assert volume_from_node(node).name == "volume"

    def test_reading_leaves_a_scene_without_subject_hierarchy_alone(self):
        scene = slicer.vtkMRMLScene()
        node = mrml.add_volume(scene)
        before = mrml.node_ids(scene)
        volume_from_node(node)
        assert mrml.node_ids(scene) == before


class TestEnhancedNode:
    @geometries
    def test_geometry_and_voxels(self, scene, matrix):
        volumeNode = mrml.add_volume(scene, ijk_to_ras=matrix)
        segmentation = mrml.threshold(volume_from_node(volumeNode))
        node = enhanced_node(segmentation, volumeNode)
        assert np.array_equal(mrml.ijk_to_ras(node), mrml.ijk_to_ras(volumeNode))
        array = slicer.util.arrayFromVolume(node)
        assert array.dtype == np.float32
        assert np.array_equal(array, segmentation.enhanced.array)

    def test_same_place_and_name_of_the_input(self, scene, volumeNode, segmentation):
        study = mrml.add_study(scene, volumeNode)
        transform = mrml.add_linear_transform(scene, TILT)
        volumeNode.SetAndObserveTransformNodeID(transform.GetID())
        node = enhanced_node(segmentation, volumeNode)
        hierarchy = scene.GetSubjectHierarchyNode()
        assert node.GetName() == "Cine SAX fuzzy-enhanced"
        assert node.GetParentTransformNode() is transform
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study

    def test_no_dicom_instances_of_the_original(self, volumeNode, segmentation):
        volumeNode.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
        assert enhanced_node(segmentation, volumeNode).GetAttribute("DICOM.instanceUIDs") is None

    @pytest.mark.parametrize("auto", [False, True])
    def test_shown_as_the_original(self, volumeNode, segmentation, auto):
        display = volumeNode.GetDisplayNode()
        display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeFullRainbow")
        display.SetInterpolate(False)
        display.SetAutoWindowLevel(auto)
        if not auto:
            display.SetWindowLevel(321, 123)
        shown = enhanced_node(segmentation, volumeNode).GetDisplayNode()
        assert (shown.GetWindow(), shown.GetLevel()) == (display.GetWindow(), display.GetLevel())
        assert shown.GetColorNodeID() == "vtkMRMLColorTableNodeFullRainbow"
        assert not shown.GetInterpolate()

    def test_an_original_that_is_not_shown(self, volumeNode, segmentation):
        volumeNode.SetAndObserveDisplayNodeID(None)
        shown = enhanced_node(segmentation, volumeNode).GetDisplayNode()
        assert shown.GetColorNode() is not None
        assert shown.GetAutoWindowLevel()


class TestIsEnhanced:
    """What a node selector must not offer as an input."""

    def test_an_enhanced_image_and_its_copy(self, scene, volumeNode, segmentation):
        made = enhanced_node(segmentation, volumeNode), plain_enhanced_node(volumeNode)
        copy = scene.CopyNode(made[0])
        assert is_enhanced(copy) and all(map(is_enhanced, made))
        assert not is_enhanced(volumeNode) and not is_enhanced(None)
        assert hidden_inputs(scene) == [*(node.GetID() for node in made), copy.GetID()]

    def test_also_without_its_original(self, scene, volumeNode, segmentation):
        node = enhanced_node(segmentation, volumeNode)
        scene.RemoveNode(volumeNode)
        assert is_enhanced(node)

    def test_in_the_scene_of_an_older_version(self, scene, volumeNode, segmentation):
        node = enhanced_node(segmentation, volumeNode)
        node.RemoveAttribute("DINSegment.Enhanced")
        assert is_enhanced(node) and hidden_inputs(scene) == [node.GetID()]

    def test_told_as_soon_as_the_scene_tells_of_it(self, scene, volumeNode, segmentation):
        seen = []

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def added(_scene, _event, node):
            seen.append((node.GetClassName(), is_enhanced(node)))

        scene.AddObserver(scene.NodeAddedEvent, added)
        enhanced_node(segmentation, volumeNode)
        assert ("vtkMRMLScalarVolumeNode", True) in seen
        assert ("vtkMRMLScalarVolumeNode", False) not in seen


class TestWindowOfCT:
    """Of images whose grey values are looked at in one window."""

    @pytest.fixture
    def ct(self, scene):
        return mrml.add_volume(scene, name="CT")

    def pair(self, ct):
        enhanced = enhanced_node(mrml.threshold(volume_from_node(ct), ABDOMEN), ct)
        displays = ct.GetDisplayNode(), enhanced.GetDisplayNode()
        return [(d.GetWindowLevelMin(), d.GetWindowLevelMax(), d.GetAutoWindowLevel()) for d in displays]

    def test_both_show_soft_tissue(self, ct):
        assert ct.GetDisplayNode().GetAutoWindowLevel()
        assert self.pair(ct) == [(*ABDOMEN.grey_window, 0)] * 2

    def test_what_the_user_or_the_scanner_chose_for_the_original_stays(self, ct):
        ct.GetDisplayNode().SetAutoWindowLevel(False)
        ct.GetDisplayNode().SetWindowLevelMinMax(-1000, 400)
        assert self.pair(ct) == [(-1000, 400, 0), (*ABDOMEN.grey_window, 0)]

    def test_an_image_that_is_not_displayed(self, ct):
        ct.SetAndObserveDisplayNodeID(None)
        shown = enhanced_node(mrml.threshold(volume_from_node(ct), ABDOMEN), ct).GetDisplayNode()
        assert (shown.GetWindowLevelMin(), shown.GetWindowLevelMax()) == ABDOMEN.grey_window


class TestSegmentationNode:
    @geometries
    def test_labels_come_back_voxel_for_voxel(self, scene, matrix):
        volumeNode = mrml.add_volume(scene, ijk_to_ras=matrix)
        segmentation = mrml.threshold(volume_from_node(volumeNode))
        node = segmentation_node(segmentation, volumeNode)
        assert np.array_equal(mrml.exported_labels(node, volumeNode), segmentation.labels)

    @pytest.mark.parametrize("transformed", [False, True], ids=["no transform", "transform"])
    @geometries
    def test_segments_lie_where_the_image_does(self, scene, matrix, transformed):
        volumeNode = mrml.add_volume(scene, ijk_to_ras=matrix)
        if transformed:
            transform = mrml.add_linear_transform(scene, TILT, mrml.add_linear_transform(scene, mrml.OBLIQUE))
            volumeNode.SetAndObserveTransformNodeID(transform.GetID())
        segmentation = mrml.threshold(volume_from_node(volumeNode))
        node = segmentation_node(segmentation, volumeNode)
        for segment in HEART.segments:
            expected = mrml.world_positions(
                segmentation.volume.ijk_to_ras, np.argwhere(segmentation.labels == segment.label)
            )
            found = mrml.segment_world_positions(node, segment.name)
            assert len(found) > 5
            assert np.allclose(found, expected, rtol=0, atol=1e-9)
        if transformed:
            assert np.array_equal(mrml.exported_labels(node, volumeNode), segmentation.labels)

    def test_follows_a_change_of_the_transform(self, scene, volumeNode):
        transform = mrml.add_linear_transform(scene, np.eye(4))
        volumeNode.SetAndObserveTransformNodeID(transform.GetID())
        segmentation = mrml.threshold(volume_from_node(volumeNode))
        node = segmentation_node(segmentation, volumeNode)
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(TILT))
        expected = mrml.world_positions(TILT @ mrml.OBLIQUE, np.argwhere(segmentation.labels == 3))
        found = mrml.segment_world_positions(node, "Left ventricle")
        assert np.allclose(found, expected, rtol=0, atol=1e-9)

    def test_segments_of_the_task(self, volumeNode, segmentation):
        node = segmentation_node(segmentation, volumeNode)
        segments = mrml.segments(node)
        assert [s.GetName() for s in segments] == [s.name for s in HEART.segments]
        for made, segment in zip(segments, HEART.segments, strict=True):
            assert np.allclose(np.multiply(made.GetColor(), 255), segment.color)
            assert made.GetTerminology() == segment.terminology
            assert mrml.tag(made, "DICOM.SegmentAlgorithmType") == "AUTOMATIC"
            assert mrml.tag(made, "DICOM.SegmentAlgorithmName") == "DINSegment threshold"
            assert not made.GetNameAutoGenerated()
            assert not made.GetColorAutoGenerated()

    def test_terminology_reads_back_as_the_codes(self, volumeNode, segmentation):
        node = segmentation_node(segmentation, volumeNode)
        logic = slicer.vtkSlicerTerminologiesModuleLogic
        for made, segment in zip(mrml.segments(node), HEART.segments, strict=True):
            entry = slicer.vtkSlicerTerminologyEntry()
            assert logic.DeserializeTerminologyEntry(made.GetTerminology(), entry)
            type_ = entry.GetTypeObject()
            assert type_.GetCodingSchemeDesignator() == segment.type.scheme
            assert type_.GetCodeValue() == segment.type.value
            assert type_.GetCodeMeaning() == segment.type.meaning
            assert entry.GetCategoryObject().GetCodeValue() == "123037004"

    @pytest.mark.parametrize("absent", [(1,), (2,), (3,), (1, 3), (1, 2, 3)], ids=str)
    def test_absent_labels_are_empty_segments(self, volumeNode, segmentation, absent):
        segmentation = mrml.without(segmentation, *absent)
        node = segmentation_node(segmentation, volumeNode)
        segments = mrml.segments(node)
        assert [s.GetName() for s in segments] == [s.name for s in HEART.segments]
        name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
        for made, segment in zip(segments, HEART.segments, strict=True):
            # As Slicer's DICOM export asks whether a segment is empty.
            voxels = made.GetRepresentation(name).GetPointData().GetArray("ImageScalars")
            empty = voxels is None or voxels.GetValueRange() == (0, 0)
            assert empty == (segment.label in absent)
        assert np.array_equal(mrml.exported_labels(node, volumeNode), segmentation.labels)

    def test_segments_share_one_label_map(self, volumeNode, segmentation):
        node = segmentation_node(segmentation, volumeNode)
        assert node.GetSegmentation().GetNumberOfLayers() == 1

    @pytest.mark.parametrize("transformed", [False, True])
    def test_reference_image(self, scene, volumeNode, segmentation, transformed):
        if transformed:
            transform = mrml.add_linear_transform(scene, TILT)
            volumeNode.SetAndObserveTransformNodeID(transform.GetID())
        node = segmentation_node(segmentation, volumeNode)
        role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
        assert node.GetNodeReference(role) is volumeNode
        name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
        text = node.GetSegmentation().GetConversionParameter(name)
        geometry = slicer.vtkOrientedImageData()
        assert slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, geometry, False)
        matrix = vtk.vtkMatrix4x4()
        geometry.GetImageToWorldMatrix(matrix)
        assert np.allclose(slicer.util.arrayFromVTKMatrix(matrix), mrml.OBLIQUE, rtol=0, atol=1e-9)
        assert geometry.GetDimensions() == volumeNode.GetImageData().GetDimensions()

    def test_same_place_and_name_of_the_input(self, scene, volumeNode, segmentation):
        study = mrml.add_study(scene, volumeNode)
        transform = mrml.add_linear_transform(scene, TILT)
        volumeNode.SetAndObserveTransformNodeID(transform.GetID())
        node = segmentation_node(segmentation, volumeNode)
        hierarchy = scene.GetSubjectHierarchyNode()
        assert node.GetName() == "Cine SAX Heart"
        assert segmentation_node(segmentation, volumeNode).GetName() == "Cine SAX Heart (2)"
        assert segmentation_node(segmentation, volumeNode).GetName() == "Cine SAX Heart (3)"
        assert node.GetParentTransformNode() is transform
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study

    def test_an_input_outside_the_subject_hierarchy(self, scene, volumeNode, segmentation):
        hierarchy = scene.GetSubjectHierarchyNode()
        assert not hierarchy.GetItemByDataNode(volumeNode)
        node = segmentation_node(segmentation, volumeNode)
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == hierarchy.GetSceneItemID()

    def test_adds_only_the_node_and_its_display(self, scene, volumeNode, segmentation):
        before = set(mrml.node_ids(scene))
        node = segmentation_node(segmentation, volumeNode)
        added = set(mrml.node_ids(scene)) - before
        assert added == {node.GetID(), node.GetDisplayNodeID()}

    def test_a_volume_that_changed_meanwhile(self, volumeNode, segmentation):
        slicer.util.updateVolumeFromArray(volumeNode, mrml.random_image((3, 5, 6)))
        for make in (enhanced_node, segmentation_node):
            with pytest.raises(InputError, match=r"'Cine SAX' has changed.*\(4, 5, 6\).*\(3, 5, 6\)"):
                make(segmentation, volumeNode)

    def test_heart_phantom(self, scene):
        phantom = heart_phantom(slices=5, size=(90, 100))
        volumeNode = mrml.add_volume(scene, phantom.volume.array, phantom.volume.ijk_to_ras)
        volume = volume_from_node(volumeNode)
        assert np.array_equal(volume.array, phantom.volume.array)
        truth = Segmentation(volume, phantom.labels, HEART, "truth", volume, "cpu", 0.0)
        node = segmentation_node(truth, volumeNode)
        assert np.array_equal(mrml.exported_labels(node, volumeNode), phantom.labels)
