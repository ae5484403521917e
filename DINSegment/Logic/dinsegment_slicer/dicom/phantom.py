"""A volume as a DICOM MR series of files, as a scanner writes one, for the self test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import slicer
import vtk


def write_mr_series(folder: Path, volumeNode: slicer.vtkMRMLScalarVolumeNode) -> tuple[str, list[str]]:
    """Writes a file for each slice into a new folder; pydicom is needed, which Slicer has.

    Args:
        folder: Is made.
        volumeNode: Of whole numbers, int16, with right angles between its axes.

    Returns:
        Series Instance UID, and the SOP Instance UID of each slice.
    """
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    ijk_to_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ slicer.util.arrayFromVTKMatrix(matrix)
    spacing = np.linalg.norm(ijk_to_lps[:3, :3], axis=0)
    along_i, along_j = (ijk_to_lps[:3, axis] / spacing[axis] for axis in (0, 1))
    shared = {name: generate_uid() for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    folder.mkdir(parents=True)
    uids = []
    for k, pixels in enumerate(slicer.util.arrayFromVolume(volumeNode)):
        image = pydicom.Dataset()
        image.file_meta = pydicom.dataset.FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = MRImageStorage
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.update(shared)
        image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = "Phantom", "PHANTOM", "", "O"
        image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20250101", "120000", "1", ""
        image.ReferringPhysicianName = image.PositionReferenceIndicator = ""
        image.Modality, image.Manufacturer, image.SeriesDescription = "MR", "DINSegment", volumeNode.GetName()
        image.ScanningSequence, image.SequenceVariant, image.ScanOptions = "GR", "SK", ""
        image.MRAcquisitionType, image.EchoTrainLength = "2D", 1
        image.RepetitionTime, image.EchoTime = 3.0, 1.5
        image.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
        image.SeriesNumber, image.InstanceNumber = 1, k + 1
        image.ImagePositionPatient = [_decimal(x) for x in (ijk_to_lps @ (0, 0, k, 1))[:3]]
        image.ImageOrientationPatient = [_decimal(x) for x in (*along_i, *along_j)]
        image.PixelSpacing = [_decimal(spacing[1]), _decimal(spacing[0])]
        image.SliceThickness = image.SpacingBetweenSlices = _decimal(spacing[2])
        image.Rows, image.Columns = pixels.shape
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
        image.PixelData = pixels.astype("<i2").tobytes()
        image.save_as(folder / f"{k + 1:04d}.dcm", enforce_file_format=True)
        uids.append(str(image.SOPInstanceUID))
    return str(shared["SeriesInstanceUID"]), uids


def _decimal(value: float) -> str:
    """A number as a decimal string (DS) of DICOM, which has at most 16 characters."""
    return f"{value:.10g}"[:16]
