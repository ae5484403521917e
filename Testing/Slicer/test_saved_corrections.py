"""What `dinsegment correct` makes of segmentations to which segments were added in 3D Slicer, as it saves them."""

from __future__ import annotations

import numpy as np
import pytest

from dinsegment.correction.reading import read_corrected
from dinsegment.errors import InputError
from dinsegment.images import write_segmentation
from dinsegment.images.fingerprint import grey_print
from dinsegment.images.segmentation import Segmentation
from dinsegment.phantom.heart import heart_phantom
from dinsegment.tasks import HEART

slicer = pytest.importorskip("slicer", reason="The slicer-core wheel is not installed.")

from test_seg_nrrd import load, save  # noqa: E402  (it needs slicer)


@pytest.fixture(scope="module")
def phantom():
    return heart_phantom(seed=0, slices=4, size=(48, 56), spacing=(20.0, 3.5, 3.5))


@pytest.fixture
def node(scene, phantom, tmp_path):
    labels = phantom.labels.astype(np.uint8)
    segmentation = Segmentation(phantom.volume, labels, HEART, "m", phantom.volume, "cpu", 0.0)
    write_segmentation(segmentation, tmp_path / "made.seg.nrrd")
    return load(scene, tmp_path / "made.seg.nrrd")


def add_over(node, other, name, segment_id=None):
    """Puts the voxels of a segment into another one, which is added where no ID is given, in a layer of its own."""
    segmentation = node.GetSegmentation()
    segment_id = segment_id or segmentation.AddEmptySegment("", name, [1, 1, 0])
    voxels = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation(other, voxels)
    segmentation.SeparateSegmentLabelmap(segment_id)
    segmentation.GetSegment(segment_id).RemoveRepresentation("Binary labelmap")
    segmentation.GetSegment(segment_id).AddRepresentation("Binary labelmap", voxels)
    assert segmentation.GetNumberOfLayers() == 2


def test_a_segment_of_the_users_own_may_overlap(scene, node, phantom, tmp_path):
    add_over(node, "Segment_2", "Scar")
    save(scene, node, tmp_path / "saved.seg.nrrd", "vtkMRMLSegmentationStorageNode")
    read = read_corrected(tmp_path / "saved.seg.nrrd", phantom.volume, HEART)
    assert np.array_equal(read.labels, phantom.labels)
    assert read.slices == ()
    assert read.image == grey_print(phantom.volume)
    assert read.models == {"m"}
    assert read.remarks == ("Segments that are none of the task's count as background: Scar.",)
    content = (tmp_path / "saved.seg.nrrd").read_bytes()
    (tmp_path / "cut.seg.nrrd").write_bytes(content[:-60])
    with pytest.raises(InputError, match="is damaged"):
        read_corrected(tmp_path / "cut.seg.nrrd", phantom.volume, HEART)


def test_where_segments_of_the_task_overlap_the_last_one_counts(scene, node, phantom, tmp_path):
    """As in the panel."""
    add_over(node, "Segment_2", "", "Segment_3")  # The cavity is now where the muscle is.
    save(scene, node, tmp_path / "saved.seg.nrrd", "vtkMRMLSegmentationStorageNode")
    read = read_corrected(tmp_path / "saved.seg.nrrd", phantom.volume, HEART)
    expected = np.where(phantom.labels == 3, 0, phantom.labels)
    assert np.array_equal(read.labels, np.where(phantom.labels == 2, 3, expected))
    assert read.remarks == ("Where Left ventricular myocardium and Left ventricle overlap, the latter counts.",)


def test_segments_in_another_order_without_one_and_cut_to_what_they_cover(scene, node, phantom, tmp_path):
    """The right ventricle, which says what each slice was, is gone; nothing is known any more of what was corrected."""
    segmentation = node.GetSegmentation()
    segmentation.SetSegmentIndex("Segment_3", 0)
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetCropToMinimumExtent(True)
    storage.SetFileName(str(tmp_path / "saved.seg.nrrd"))
    assert storage.WriteData(node)
    read = read_corrected(tmp_path / "saved.seg.nrrd", phantom.volume, HEART)
    assert np.array_equal(read.labels, phantom.labels)
    assert read.slices == ()
    assert read.remarks == ()
    segmentation.RemoveSegment("Segment_1")
    assert storage.WriteData(node)
    read = read_corrected(tmp_path / "saved.seg.nrrd", phantom.volume, HEART)
    assert np.array_equal(read.labels, np.where(phantom.labels == 1, 0, phantom.labels))
    assert read.slices is None
    assert read.remarks == ("'saved.seg.nrrd' has no segment Right ventricle: in corrected slices there is none.",)
