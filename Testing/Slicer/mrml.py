"""Scenes, nodes and segmentations for the tests; all real."""

from __future__ import annotations

import dataclasses

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from dinsegment.errors import DINSegmentError
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.volume import Volume
from dinsegment.tasks import HEART, get_task


def rotation(*degrees):
    """3x3, about x, then y, then z."""
    turned = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        c, s = np.cos(angle), np.sin(angle)
        about = np.eye(3)
        first, second = [n for n in range(3) if n != axis]
        about[first, first] = about[second, second] = c
        about[first, second], about[second, first] = -s, s
        turned = about @ turned
    return turned


def affine(directions, spacing, origin):
    """4x4 IJK-to-RAS."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.asarray(directions) * spacing
    matrix[:3, 3] = origin
    return matrix


OBLIQUE = affine(rotation(31, -17, 52), (1.25, 1.4, 8.0), (-87.3, 41.0, 12.7))

GEOMETRIES = {
    "identity": np.eye(4),
    "anisotropic": affine(np.eye(3), (0.7, 1.3, 9.6), (10, -20, 30)),
    "flipped": affine(np.diag([-1, -1, 1]), (1.4, 1.4, 8), (101.5, 88.25, -40)),
    "mirrored": affine(np.diag([-1, 1, 1]), (1.4, 1.4, 8), (101.5, 88.25, -40)),
    "permuted": affine(np.eye(3)[[2, 0, 1]], (0.9, 1.1, 5), (3, 4, 5)),
    "oblique": OBLIQUE,
}


def random_image(shape=(4, 5, 6), dtype=np.int16):
    return np.random.default_rng(3).integers(-500, 1500, shape).astype(dtype)


def add_volume(scene, array=None, ijk_to_ras=OBLIQUE, name="Cine SAX"):
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, random_image() if array is None else array)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras))
    node.CreateDefaultDisplayNodes()
    return node


def add_image_sequence(scene, volumes, name="301: MR cine_sax"):
    """A cine as Slicer's DICOM reader "Image sequence" loads it: a frame for each slice of each phase, in a browser.

    The instances are numbered from 1, all phases of a slice together.
    """
    node = scene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    node.SetIndexName("instance number")
    node.SetIndexUnit("")
    frames = [(volume, k) for k in range(len(volumes[0].array)) for volume in volumes]
    for number, (volume, k) in enumerate(frames, start=1):
        frame = slicer.vtkMRMLScalarVolumeNode()
        slicer.util.updateVolumeFromArray(frame, volume.array[k : k + 1])
        matrix = volume.ijk_to_ras.copy()
        matrix[:3, 3] = (volume.ijk_to_ras @ (0, 0, k, 1))[:3]
        frame.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
        node.SetDataNodeAtValue(frame, str(number))
    browserNode = slicer.vtkMRMLSequenceBrowserNode()
    browserNode.SetName(f"{name} browser")
    scene.AddNode(browserNode)
    browserNode.AddSynchronizedSequenceNode(node)
    return node


def add_linear_transform(scene, matrix, parent=None):
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Registration")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    if parent:
        node.SetAndObserveTransformNodeID(parent.GetID())
    return node


def add_warp(scene):
    warp = vtk.vtkThinPlateSplineTransform()
    corners = [(x, y, z) for x in (0, 100) for y in (0, 100) for z in (0, 100)]
    for landmarks, shift in ((warp.SetSourceLandmarks, 0), (warp.SetTargetLandmarks, 1)):
        points = vtk.vtkPoints()
        for n, corner in enumerate(corners):
            points.InsertNextPoint(np.add(corner, shift * np.array((n, -n, n * n))))
        landmarks(points)
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode", "Warp")
    node.SetAndObserveTransformToParent(warp)
    return node


def add_study(scene, volumeNode):
    """Patient and study in the subject hierarchy, as the DICOM module makes them; the study's item."""
    hierarchy = scene.GetSubjectHierarchyNode()
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Patient")
    study = hierarchy.CreateStudyItem(patient, "Study")
    hierarchy.CreateItem(study, volumeNode)
    return study


def threshold(volume, task=HEART, model=None, device="auto", progress=None, cancelled=None):
    """A segmenter that needs no network: labels by quantiles of grey, enhanced by a square root."""
    edges = np.quantile(volume.array, np.linspace(0, 1, task.classes + 1)[1:-1])
    labels = np.digitize(volume.array, edges).astype(np.uint8)
    if progress:
        progress(1.0, "Done")
    low, high = volume.array.min(), volume.array.max()
    enhanced = low + (high - low) * np.sqrt((volume.array - low) / (high - low))
    return Segmentation(volume, labels, task, model or "threshold", volume.with_array(enhanced), "cpu", 0.0)


class InProcess:
    """A worker that needs no process: segments with `segmenter`, one image at each poll."""

    def __init__(self, segmenter=threshold):
        self.segmenter, self.jobs, self.environment, self.pid = segmenter, [], {}, None

    def start(self, images, task, model=None, device="auto"):
        self.jobs.append(InProcessJob(self.segmenter, images, get_task(task), model, device))
        return self.jobs[-1]

    def warm_up(self):
        """There is nothing to start."""

    def close(self):
        for job in self.jobs:
            job.close()


class InProcessJob:
    def __init__(self, segmenter, images, task, model, device):
        self.finished = self.cancelled = self.closed = False
        self.error, self.results, self.fraction, self.text, self.seconds_left = None, (), 0.0, "Starting", None
        self._todo = [Volume(image.array, image.ijk_to_ras, image.name, image.modality) for image in images]
        self.model = model
        self._run = lambda volume: segmenter(volume, task, model=model, device=device)

    def poll(self):
        if self.finished:
            return False
        try:
            self.results += (self._run(self._todo[len(self.results)]),)
        except DINSegmentError as error:
            self.error = error
        self.fraction, self.text = len(self.results) / len(self._todo), "Segmenting"
        self.finished = self.error is not None or self.fraction == 1
        return True

    def cancel(self):
        self.cancelled = self.cancelled or not self.finished
        self.finished = True

    def close(self):
        self.cancel()
        self.closed = True


def without(segmentation, *labels):
    """The same, but with no voxel of these labels."""
    kept = np.where(np.isin(segmentation.labels, labels), 0, segmentation.labels).astype(np.uint8)
    return dataclasses.replace(segmentation, labels=kept)


def exported_labels(segmentationNode, volumeNode):
    """Labelmap (k, j, i) on the volume's grid, 1, 2, ... by the order of the segments."""
    scene = segmentationNode.GetScene()
    before = node_ids(scene)
    labelmapNode = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "exported")
    ids = segmentationNode.GetSegmentation().GetSegmentIDs()
    assert slicer.vtkSlicerSegmentationsModuleLogic.ExportSegmentsToLabelmapNode(
        segmentationNode, ids, labelmapNode, volumeNode
    )
    labels = slicer.util.arrayFromVolume(labelmapNode).copy()
    for node_id in reversed(node_ids(scene)):
        if node_id not in before:
            scene.RemoveNode(scene.GetNodeByID(node_id))
    return labels


def set_segment(segmentationNode, segmentId, mask, matrix):
    """Gives a segment these voxels (k, j, i) of a grid with that IJK-to-RAS matrix, as `slicer.util` does it."""
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(*mask.shape[::-1])
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = np.asarray(mask, np.uint8).ravel()
    image.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(matrix))
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.SetBinaryLabelmapToSegment(image, segmentationNode, segmentId, logic.MODE_REPLACE)


def segments(segmentationNode):
    segmentation = segmentationNode.GetSegmentation()
    return [segmentation.GetNthSegment(n) for n in range(segmentation.GetNumberOfSegments())]


def tag(segment, name):
    value = vtk.mutable("")
    return str(value) if segment.GetTag(name, value) else None


def ijk_to_ras(volumeNode):
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def to_world(node):
    matrix = np.eye(4)
    if node.GetParentTransformNode():
        matrix = slicer.util.arrayFromTransformMatrix(node.GetParentTransformNode(), toWorld=True)
    return matrix


def world_positions(matrix, kji):
    """(n, 3) millimetres of the voxels whose indices are given as (n, 3) k, j, i."""
    ijk1 = np.c_[np.asarray(kji)[:, ::-1], np.ones(len(kji))]
    return (matrix @ ijk1.T).T[:, :3]


def segment_world_positions(segmentationNode, segmentId):
    """Where a segment's voxels lie, read from its own labelmap: (n, 3) mm in world RAS."""
    image = segmentationNode.GetBinaryLabelmapInternalRepresentation(segmentId)
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    array = slicer.util.arrayFromSegmentInternalBinaryLabelmap(segmentationNode, segmentId)
    label = segmentationNode.GetSegmentation().GetSegment(segmentId).GetLabelValue()
    first = image.GetExtent()[4::-2]
    local = slicer.util.arrayFromVTKMatrix(matrix)
    return world_positions(to_world(segmentationNode) @ local, np.argwhere(array == label) + first)


def node_ids(scene):
    return [scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())]


def scene_state(scene):
    """Everything that would be saved, and every node's ID: equal before and after means nothing was left."""
    scene.SetSaveToXMLString(1)
    scene.Commit()
    hierarchy = scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode")
    return node_ids(scene), scene.GetSceneXMLString(), hierarchy.GetNumberOfItems() if hierarchy else None
