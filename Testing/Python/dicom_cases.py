"""Small DICOM series written with pydicom, valid by the letter of the standard, in every position a scanner takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

from dinsegment.dicom.source import DicomSource
from dinsegment.geometry import RAS_FROM_LPS
from dinsegment.images.volume import Volume

OBLIQUE = np.array([[0.8, 0.6, 0.0], [-0.36, 0.48, 0.8], [0.48, -0.64, 0.6]])
"""Directions of row, column and normal of a series that is parallel to no plane of the body."""


@dataclass(frozen=True)
class Series:
    """How a series lies and what its headers say.

    Attributes:
        modality: `MR` or `CT`.
        shape: Slices, rows, columns.
        axes: Directions in which the column index, the row index and the slices grow, as rows, LPS.
        step: Millimetres between slices.
        pixel_spacing: Millimetres between rows and between columns.
        thickness: What SliceThickness says.
        origin: First pixel of the first slice, millimetres in LPS.
        tags: Further attributes of all images, or other values of them; None removes one.
    """

    modality: str = "MR"
    shape: tuple[int, int, int] = (4, 12, 10)
    axes: np.ndarray = field(default_factory=lambda: np.eye(3))
    step: float = 5.0
    pixel_spacing: tuple[float, float] = (1.5, 1.5)
    thickness: float = 5.0
    origin: tuple[float, float, float] = (-20.0, 30.0, 40.0)
    tags: dict[str, Any] = field(default_factory=dict)

    def position(self, k: int) -> np.ndarray:
        return np.array(self.origin) + k * self.step * self.axes[2]

    @property
    def ijk_to_ras(self) -> np.ndarray:
        ijk_to_lps = np.eye(4)
        ijk_to_lps[:3, 0] = self.axes[0] * self.pixel_spacing[1]
        ijk_to_lps[:3, 1] = self.axes[1] * self.pixel_spacing[0]
        ijk_to_lps[:3, 2] = self.axes[2] * self.step
        ijk_to_lps[:3, 3] = self.origin
        return RAS_FROM_LPS @ ijk_to_lps


SERIES = {
    "axial": Series(),
    "CT": Series("CT", (5, 9, 11), pixel_spacing=(0.8, 0.8), step=2.0, thickness=2.0),
    "oblique": Series(axes=OBLIQUE, step=8.0, thickness=8.0),
    "flipped": Series(axes=np.array([[-1.0, 0, 0], [0, 1, 0], [0, 0, -1]])),
    "sagittal": Series(axes=np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]]), shape=(3, 12, 10)),
    "non-square pixels": Series("CT", pixel_spacing=(1.25, 0.75), step=3.0, thickness=3.0),
    "gappy": Series(step=10.0, thickness=6.0, axes=OBLIQUE),
    "overlapping slices": Series("CT", step=2.0, thickness=3.0),
    "single slice": Series(shape=(1, 12, 10), step=8.0, thickness=8.0, tags={"SpacingBetweenSlices": 8.0}),
}
"""Kinds of series that have gone wrong in one program or another."""


def pixels(series: Series, seed: int = 0) -> np.ndarray:
    """Stored values (k, j, i), int16."""
    return np.random.default_rng(seed).integers(0, 1000, series.shape).astype(np.int16)


def headers(series: Series) -> list[FileDataset]:
    """The images of a series with valid UIDs, new ones each time, in the order of k."""
    study, series_uid, frame = generate_uid(), generate_uid(), generate_uid()
    stored = pixels(series)
    images = []
    for k in range(series.shape[0]):
        image = _common(series, study, series_uid, frame)
        image.SOPClassUID = {"MR": MRImageStorage, "CT": CTImageStorage}[series.modality]
        image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if series.modality == "CT" else "M"]
        image.InstanceNumber = k + 1
        image.ImagePositionPatient = decimals(series.position(k))
        image.ImageOrientationPatient = decimals(np.ravel(series.axes[:2]))
        image.PixelSpacing = decimals(series.pixel_spacing)
        image.SliceThickness = decimals([series.thickness])[0]
        image.AcquisitionNumber = 1
        if series.modality == "CT":
            image.RescaleIntercept, image.RescaleSlope, image.RescaleType = -1024, 1, "HU"
            image.KVP = 120
        else:
            image.ScanningSequence, image.SequenceVariant, image.ScanOptions = "GR", "SS", ""
            image.MRAcquisitionType, image.EchoTrainLength = "2D", 1
            image.EchoTime, image.RepetitionTime = "1.5", "3.3"
        image.PixelData = stored[k].tobytes()
        _finish(image, series)
        images.append(image)
    return images


def enhanced(series: Series, phases: int = 1) -> FileDataset:
    """The same as one enhanced MR image; the phases of a slice follow one another."""
    image = _common(series, generate_uid(), generate_uid(), generate_uid())
    image.SOPClassUID = EnhancedMRImageStorage
    image.ImageType = ["ORIGINAL", "PRIMARY", "CARDIAC", "NONE"]
    image.InstanceNumber, image.NumberOfFrames = 1, series.shape[0] * phases
    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing = decimals(series.pixel_spacing)
    measures.SliceThickness = decimals([series.thickness])[0]
    shared.PixelMeasuresSequence = [measures]
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = []
    for k in range(series.shape[0]):
        for phase in range(phases):
            group, content, position, orientation = Dataset(), Dataset(), Dataset(), Dataset()
            content.StackID, content.InStackPositionNumber, content.TemporalPositionIndex = "1", k + 1, phase + 1
            content.DimensionIndexValues = [k + 1, phase + 1]
            position.ImagePositionPatient = decimals(series.position(k))
            orientation.ImageOrientationPatient = decimals(np.ravel(series.axes[:2]))
            group.FrameContentSequence, group.PlanePositionSequence = [content], [position]
            group.PlaneOrientationSequence = [orientation]  # of each frame, as MR scanners write it
            image.PerFrameFunctionalGroupsSequence.append(group)
    stored = np.stack([pixels(series, phase) for phase in range(phases)], axis=1)
    image.PixelData = stored.tobytes()
    _finish(image, series)
    return image


def write_series(folder: Path, series: Series) -> list[FileDataset]:
    """Writes the images under names that are not in the order of the slices; returns their headers in order."""
    images = headers(series)
    folder.mkdir(parents=True, exist_ok=True)
    for k, image in enumerate(images):
        image.save_as(folder / f"IM{(7 * k + 3) % 1000:04d}.dcm", enforce_file_format=True)
    return images


def source_of(images: list[FileDataset]) -> DicomSource:
    """The source of single-frame images in order, without their pixel data."""
    bare = []
    for image in images:
        header = Dataset()
        header.update({element.tag: element for element in image if element.keyword != "PixelData"})
        bare.append(header)
    return DicomSource(tuple(bare))


def volume_of(series: Series, source: DicomSource | None) -> Volume:
    """The volume that reading the series gives."""
    return Volume(pixels(series), series.ijk_to_ras, "case", series.modality, dicom=source)


def decimals(values: Any) -> list[str]:
    """Decimal strings of at most 16 characters."""
    return [f"{float(value):.9g}" for value in values]


def _common(series: Series, study: str, series_uid: str, frame: str) -> FileDataset:
    image = FileDataset("", Dataset(), preamble=bytes(128), file_meta=FileMetaDataset())
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SpecificCharacterSet = "ISO_IR 100"
    image.SOPInstanceUID = generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series_uid, frame
    image.PatientName, image.PatientID = "Müller^Jörg", "4711"
    image.PatientBirthDate, image.PatientSex = "19500401", "M"
    image.StudyDate = image.SeriesDate = image.AcquisitionDate = image.ContentDate = "20240229"
    image.StudyTime = image.SeriesTime = image.AcquisitionTime = image.ContentTime = "101112"
    image.StudyID, image.AccessionNumber, image.StudyDescription = "1", "A1", "Herz-MRT für Übungszwecke"
    image.ReferringPhysicianName, image.SeriesDescription, image.SeriesNumber = "Ärztin^Eva", "SAX", 4
    image.PositionReferenceIndicator, image.PatientPosition = "", "HFS"
    image.Modality, image.Manufacturer = series.modality, "Scanners"
    image.ManufacturerModelName, image.DeviceSerialNumber, image.SoftwareVersions = "One", "12", "3"
    image.ClinicalTrialSponsorName, image.ClinicalTrialProtocolID = "Sponsor", "P-1"
    image.ClinicalTrialProtocolName, image.ClinicalTrialSiteID, image.ClinicalTrialSiteName = "", "7", ""
    image.ClinicalTrialSubjectID, image.ClinicalTrialTimePointID = "S-12", "baseline"
    return image


def _finish(image: FileDataset, series: Series) -> None:
    _, image.Rows, image.Columns = series.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    for keyword, value in series.tags.items():
        if value is not None:
            setattr(image, keyword, value)
        elif keyword in image:
            delattr(image, keyword)
