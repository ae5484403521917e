"""What the library reads of the .seq.nrrd files that 3D Slicer's own storage node writes of sequences."""

from __future__ import annotations

import mrml
import numpy as np
import pytest
from test_seg_nrrd import GRIDS

from dinsegment.images import read_volumes

slicer = pytest.importorskip("slicer", reason="The slicer-core wheel is not installed.")


def save(scene, volumes, path, times, unit="ms"):
    """A sequence with that array and grid for each time, as 3D Slicer saves it."""
    sequenceNode = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "cine")
    sequenceNode.SetIndexName("time")
    sequenceNode.SetIndexUnit(unit)
    for (array, grid), time in zip(volumes, times, strict=True):
        volumeNode = slicer.vtkMRMLScalarVolumeNode()
        volumeNode.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(grid))
        volumeNode.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
        slicer.util.updateVolumeFromArray(volumeNode, array)
        sequenceNode.SetDataNodeAtValue(volumeNode, time)
    storage = scene.AddNewNodeByClass("vtkMRMLVolumeSequenceStorageNode")
    storage.SetFileName(str(path))
    assert storage.WriteData(sequenceNode)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("suffix", (".seq.nrrd", ".seq.nhdr", ".nrrd"))
def test_every_volume_of_a_sequence_is_a_phase(scene, grid, suffix, tmp_path):
    arrays = [mrml.random_image() + n for n in range(11)]
    times = [f"{38.5 * n:g}" for n in range(11)]
    save(scene, [(array, GRIDS[grid]) for array in arrays], tmp_path / f"cine{suffix}", times)
    phases = read_volumes(tmp_path / f"cine{suffix}")
    assert [phase.name for phase in phases] == [f"cine phase {n:02d}" for n in range(1, 12)]
    assert np.array_equal([phase.array for phase in phases], arrays)
    assert all(np.allclose(phase.ijk_to_ras, GRIDS[grid], atol=1e-6) for phase in phases)
    assert [phase.time_ms for phase in phases] == [float(time) for time in times]


@pytest.mark.parametrize("dtype", (np.uint8, np.uint16, np.float32, np.float64))
def test_voxels_of_any_type(scene, dtype, tmp_path):
    arrays = [mrml.random_image(dtype=np.uint8).astype(dtype) for _ in range(3)]
    save(scene, [(array, GRIDS["oblique"]) for array in arrays], tmp_path / "cine.seq.nrrd", "012")
    assert np.array_equal([phase.array for phase in read_volumes(tmp_path / "cine.seq.nrrd")], arrays)


def test_a_sequence_of_one_volume(scene, tmp_path):
    array = mrml.random_image()
    save(scene, [(array, GRIDS["flipped"])], tmp_path / "one.seq.nrrd", ["0"])
    (volume,) = read_volumes(tmp_path / "one.seq.nrrd")
    assert volume.name == "one" and np.array_equal(volume.array, array)
    assert np.allclose(volume.ijk_to_ras, GRIDS["flipped"])
