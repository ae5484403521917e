"""Volumes as DICOM MR files, as a scanner writes them, for the self test. pydicom is needed, which Slicer has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import vtk

if TYPE_CHECKING:
    from pydicom import Dataset

BEAT_MS = 1000
FIRST_SERIES = 5
"""Before it a scanner has taken localizers."""


def write_mr_series(folder: Path, volumeNode: slicer.vtkMRMLScalarVolumeNode) -> tuple[str, list[str]]:
    """Writes a file for each slice into a new folder.

    Args:
        folder: Is made.
        volumeNode: Of whole numbers, int16, with right angles between its axes.

    Returns:
        Series Instance UID, and the SOP Instance UID of each slice.
    """
    shared = _of_study() | {"SeriesInstanceUID": _uid(), "SeriesNumber": 1, "SeriesDescription": volumeNode.GetName()}
    folder.mkdir(parents=True)
    uids = []
    for k in range(volumeNode.GetImageData().GetDimensions()[2]):
        image = _image(volumeNode, k, shared | {"InstanceNumber": k + 1})
        image.save_as(folder / f"{k + 1:04d}.dcm", enforce_file_format=True)
        uids.append(str(image.SOPInstanceUID))
    return str(shared["SeriesInstanceUID"]), uids


def write_cine_study(folder: Path, sequenceNode: slicer.vtkMRMLSequenceNode) -> list[str]:
    """Writes a cine as most scanners do, each slice as a series of its own, a folder each.

    Args:
        folder: Is made.
        sequenceNode: A volume of whole numbers for each phase; its index tells milliseconds.

    Returns:
        The Series Instance UID of each slice.
    """
    study = _of_study()
    nodes = [sequenceNode.GetNthDataNode(index) for index in range(sequenceNode.GetNumberOfDataNodes())]
    uids = []
    for k in range(nodes[0].GetImageData().GetDimensions()[2]):
        number = FIRST_SERIES + k
        (folder / str(number)).mkdir(parents=True)
        series = study | {
            "SeriesInstanceUID": _uid(),
            "SeriesNumber": number,
            "SeriesDescription": "cine sax",
            "NominalInterval": BEAT_MS,
            "AcquisitionTime": f"1210{k:02d}",  # Each in a breath-hold of its own.
        }
        for index, node in enumerate(nodes):
            own = {"InstanceNumber": index + 1, "TriggerTime": _decimal(float(sequenceNode.GetNthIndexValue(index)))}
            image = _image(node, k, series | own)
            image.save_as(folder / str(number) / f"{index + 1:04d}.dcm", enforce_file_format=True)
        uids.append(str(series["SeriesInstanceUID"]))
    return uids


def _uid() -> str:
    from pydicom.uid import generate_uid

    return generate_uid()


def _of_study() -> dict[str, Any]:
    """What all images of a new study have in common."""
    return {
        **{name: _uid() for name in ("StudyInstanceUID", "FrameOfReferenceUID")},
        "PatientName": "Phantom",
        "PatientID": "PHANTOM",
        "PatientBirthDate": "",
        "PatientSex": "O",
        "StudyDate": "20250101",
        "StudyTime": "120000",
        "StudyID": "1",
        "AccessionNumber": "",
        "ReferringPhysicianName": "",
        "PositionReferenceIndicator": "",
        "Modality": "MR",
        "Manufacturer": "DINSegment",
        "ScanningSequence": "GR",
        "SequenceVariant": "SK",
        "ScanOptions": "",
        "MRAcquisitionType": "2D",
        "EchoTrainLength": 1,
        "RepetitionTime": 3.0,
        "EchoTime": 1.5,
        "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"],
    }


def _image(volumeNode: slicer.vtkMRMLScalarVolumeNode, k: int, attributes: dict[str, Any]) -> Dataset:
    """A slice with a new SOP Instance UID."""
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    ijk_to_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ slicer.util.arrayFromVTKMatrix(matrix)
    spacing = np.linalg.norm(ijk_to_lps[:3, :3], axis=0)
    along_i, along_j = (ijk_to_lps[:3, axis] / spacing[axis] for axis in (0, 1))
    pixels = np.rint(slicer.util.arrayFromVolume(volumeNode)[k]).astype("<i2")
    image = pydicom.Dataset()
    image.file_meta = pydicom.dataset.FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = MRImageStorage
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = _uid()
    image.update(attributes)
    image.ImagePositionPatient = [_decimal(x) for x in (ijk_to_lps @ (0, 0, k, 1))[:3]]
    image.ImageOrientationPatient = [_decimal(x) for x in (*along_i, *along_j)]
    image.PixelSpacing = [_decimal(spacing[1]), _decimal(spacing[0])]
    image.SliceThickness = image.SpacingBetweenSlices = _decimal(spacing[2])
    image.Rows, image.Columns = pixels.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    image.PixelData = pixels.tobytes()
    return image


def _decimal(value: float) -> str:
    """A number as a decimal string (DS) of DICOM, which has at most 16 characters."""
    return f"{value:.10g}"[:16]
