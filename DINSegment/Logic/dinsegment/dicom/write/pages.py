"""A report for archives that show neither SEG nor SR: the page as Encapsulated PDF, key slices as Secondary Capture."""

from __future__ import annotations

import datetime
import io
from pathlib import Path

import numpy as np
from highdicom import CoordinateSystemNames
from highdicom.sc import SCImage
from pydicom import Dataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian
from pydicom.valuerep import DA, TM

from dinsegment.dicom.uids import NewUids
from dinsegment.dicom.write.save import MANUFACTURER, save_dicom, warnings_off
from dinsegment.dicom.write.seg import SegOptions
from dinsegment.dicom.write.source import UTF8
from dinsegment.version import __version__

OF_PATIENT_AND_STUDY = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize"),
    *("PatientWeight", "StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "AccessionNumber"),
    *("ReferringPhysicianName", "StudyDescription"),
)
"""Taken over from the DICOM SEG, where they are complete and valid."""

DEFAULTS = SegOptions()


def write_encapsulated_pdf(pdf: bytes, seg: Dataset, path: Path, options: SegOptions = DEFAULTS) -> Dataset:
    """Writes a PDF into the study of a DICOM SEG (DICOM PS3.3 A.45.1), as a series of its own, two numbers higher.

    Raises:
        OutputError: As `save.save_dicom`.
    """
    uids, now = NewUids(options.uid_root, None), datetime.datetime.now()
    page = Dataset()
    for keyword in OF_PATIENT_AND_STUDY:
        if keyword in seg:
            page[keyword] = seg[keyword]
    page.SpecificCharacterSet = UTF8
    page.SOPClassUID, page.SOPInstanceUID = EncapsulatedPDFStorage, uids("report")
    page.SeriesInstanceUID, page.SeriesNumber, page.InstanceNumber = uids("report series"), options.series_number + 2, 1
    page.SeriesDescription, page.Modality = "Report", "DOC"
    page.SeriesDate = page.ContentDate = page.InstanceCreationDate = DA(now.date())
    page.SeriesTime = page.ContentTime = page.InstanceCreationTime = TM(now.time().replace(microsecond=0))
    page.AcquisitionDateTime = ""
    page.Manufacturer = page.ManufacturerModelName = MANUFACTURER
    page.DeviceSerialNumber, page.SoftwareVersions = "0", __version__
    page.ConversionType, page.BurnedInAnnotation = "WSD", "YES"
    page.DocumentTitle, page.ConceptNameCodeSequence = "DINSegment report", []
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = seg.SOPClassUID, seg.SOPInstanceUID
    page.SourceInstanceSequence = [source]
    page.MIMETypeOfEncapsulatedDocument = "application/pdf"
    page.EncapsulatedDocumentLength = len(pdf)
    page.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    _save(page, path)
    return page


def write_secondary_capture(png: bytes, seg: Dataset, path: Path, options: SegOptions = DEFAULTS) -> Dataset:
    """Writes a picture into the study of a DICOM SEG (DICOM PS3.3 A.8.1), as a series of its own, three numbers higher.

    Raises:
        OutputError: As `save.save_dicom`.
    """
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        pixels = np.ascontiguousarray(image.convert("RGB"))
    uids = NewUids(options.uid_root, None)
    with warnings_off():
        picture = SCImage.from_ref_dataset(
            seg,
            pixels,
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system=CoordinateSystemNames.PATIENT,
            patient_orientation=("L", "P"),
            series_instance_uid=uids("key picture series"),
            series_number=options.series_number + 3,
            sop_instance_uid=uids("key picture"),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MANUFACTURER,
            software_versions=__version__,
            device_serial_number="0",
            series_description="Key slices",
            transfer_syntax_uid=ExplicitVRLittleEndian,
        )
    picture.PatientOrientation = picture.Laterality = None  # a mosaic of slices has none
    picture.BurnedInAnnotation = "YES"
    picture.SpecificCharacterSet = UTF8
    _save(picture, path)
    return picture


def _save(dataset: Dataset, path: Path) -> None:
    if not hasattr(dataset, "file_meta"):
        from pydicom.dataset import FileMetaDataset

        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    save_dicom(dataset, path)
