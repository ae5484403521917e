"""The AHA segments of the left ventricle's wall as a segmentation node of their own."""

from __future__ import annotations

import numpy as np
import slicer

from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.scene.changes import made, new_node, restored_on_error, unique_name
from dinsegment_slicer.scene.content import label_content
from dinsegment_slicer.scene.edits import corrected_segments
from dinsegment_slicer.scene.nodes import display_segments, lay_on, local_ijk_to_ras
from dinsegment_slicer.scene.segments import with_segments
from dinsegment_slicer.scene.terminology import aha_structures

MADE_BY = "AHA segments"
"""What their DICOM tags name beside DINSegment as the algorithm."""

OPACITY = 0.6
"""Of their areas in slices: the image is seen through them."""


def update_aha_node(
    labels: np.ndarray,
    first: tuple[int, int, int],
    volumeNode: slicer.vtkMRMLScalarVolumeNode,
    node: slicer.vtkMRMLSegmentationNode | None = None,
) -> slicer.vtkMRMLSegmentationNode:
    """A segmentation with the AHA segments, on the grid of an image in a scene.

    Args:
        labels: Their numbers (k, j, i), uint8, 0 where there is none.
        first: Index (k, j, i) of the first voxel of `labels` on the image's grid.
        volumeNode: The image.
        node: One that this function made: it gets the new voxels, and keeps names, colours and what is shown.

    Returns:
        The node.
    """
    scene = volumeNode.GetScene()
    whole = np.zeros(volumeNode.GetImageData().GetDimensions()[::-1], np.uint8)
    whole[tuple(slice(a, a + n) for a, n in zip(first, labels.shape, strict=True))] = labels
    structures = aha_structures()
    content = made(label_content(whole, structures, local_ijk_to_ras(volumeNode)))
    with restored_on_error(scene):
        is_new = node is None or node.GetScene() is not scene
        if is_new:
            name = _("{image} AHA segments").format(image=volumeNode.GetName())
            node = new_node(scene, "vtkMRMLSegmentationNode", unique_name(scene, name))
        after, _ids = with_segments(node.GetSegmentation(), structures, structures, content, MADE_BY)
        node.SetAndObserveSegmentation(after)
        if is_new:
            scene.AddNode(node)
            display_segments(node)
            node.GetDisplayNode().SetOpacity2DFill(OPACITY)
            lay_on(node, volumeNode)
        elif node.GetTransformNodeID() != volumeNode.GetTransformNodeID():  # The image was moved since.
            node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
        node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    return node


def is_corrected(node: slicer.vtkMRMLSegmentationNode) -> bool:
    """Whether the user has changed voxels of the AHA segments, added or removed some: then they are the user's."""
    names = {segment.name for segment in aha_structures()}
    return bool(corrected_segments([node])) or set(node.GetSegmentation().GetSegmentIDs()) != names
