"""JPEG in DICOM (ISO 10918-1, with and without loss, 8 to 16 bits), decoded by the GDCM that SimpleITK brings.

A plugin as pydicom takes them (`pydicom.pixels.decoders.base.Decoder.add_plugin`). pydicom's own decoders of JPEG have
a licence that does not suit, or refuse 12 bits.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import DecodeRunner
from pydicom.uid import (
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    SecondaryCaptureImageStorage,
    generate_uid,
)

NAME = "SimpleITK"

DECODER_DEPENDENCIES = {
    uid: ("SimpleITK",) for uid in (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1)
}
"""What each transfer syntax needs, by the name that pydicom asks for."""


def is_available(uid: str) -> bool:
    """Whether a transfer syntax can be decoded here; asked by pydicom."""
    return uid in DECODER_DEPENDENCIES


def decode_frame(code: bytes, runner: DecodeRunner) -> bytes:
    """The stored values of one grey frame, row by row, in the bits allocated; called by pydicom.

    Raises:
        RuntimeError: GDCM cannot decode it.
    """
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = runner.transfer_syntax
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = SecondaryCaptureImageStorage
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = generate_uid()
    image.Modality = "OT"
    image.Rows, image.Columns, image.SamplesPerPixel = runner.rows, runner.columns, 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.BitsAllocated, image.BitsStored = runner.bits_allocated, runner.bits_stored
    image.HighBit, image.PixelRepresentation = runner.bits_stored - 1, runner.pixel_representation
    image.PixelData = encapsulate([code])
    image["PixelData"].VR = "OB"
    kind = "i" if runner.pixel_representation else "u"
    with tempfile.TemporaryDirectory(prefix="dinsegment-") as folder:  # ITK reads files only
        path = Path(folder) / "frame.dcm"
        image.save_as(path, enforce_file_format=True)
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(path))
        decoded = sitk.GetArrayFromImage(reader.Execute())
        return decoded.astype(np.dtype(f"<{kind}{runner.bits_allocated // 8}")).tobytes()
