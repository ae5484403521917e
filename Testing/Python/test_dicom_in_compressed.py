"""Transfer syntaxes: what scanners and archives compress with, written by pydicom's encoders and by GDCM."""

from __future__ import annotations

import io
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_cases import SERIES, Series, decimals, enhanced, headers, pixels
from PIL import Image
from pydicom import Dataset, FileDataset, dcmread, dcmwrite
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.decoders.base import DecodeRunner
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from dinsegment.dicom.read import jpeg
from dinsegment.errors import InputError
from dinsegment.images import read_volume, read_volumes

LARGE = Series(shape=(2, 33, 47))  # an odd size, which compressed data is padded for
PIXELS = pixels(LARGE).astype(np.int16) - 500


def images(stored: np.ndarray = PIXELS) -> list[FileDataset]:
    made = headers(LARGE)
    for image, plane in zip(made, stored, strict=True):
        image.PixelData = plane.tobytes()
    return made


def write(folder: Path, made: list[FileDataset], **options) -> None:
    for k, image in enumerate(made):
        image.save_as(folder / f"{k}.dcm", enforce_file_format=True, **options)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless], ids=lambda uid: uid.keyword)
def test_compressed_without_loss(syntax, tmp_path):
    made = images()
    for image in made:
        image.compress(syntax)
    write(tmp_path, made)
    assert np.array_equal(read_volume(tmp_path).array, PIXELS)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless], ids=lambda uid: uid.keyword)
def test_twelve_bits_of_sixteen(syntax, tmp_path):
    stored = pixels(LARGE).astype(np.uint16) + 3000
    made = images(stored)
    for image in made:
        image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 11, 0
        image.compress(syntax)
    write(tmp_path, made)
    assert np.array_equal(read_volume(tmp_path).array, stored)


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
def test_compressed_by_another_program(compressor, tmp_path):
    names = {"0008|0060": "MR", "0020|0037": "1\\0\\0\\0\\1\\0", "0020|000e": "1.2.3"}
    for k, plane in enumerate(PIXELS):
        image = sitk.GetImageFromArray(plane)
        for tag, value in {**names, "0020|0032": f"0\\0\\{3 * k}"}.items():
            image.SetMetaData(tag, value)
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.KeepOriginalImageUIDOn()
        writer.SetCompressor(compressor)
        writer.UseCompressionOn()
        writer.SetFileName(str(tmp_path / f"{k}.dcm"))
        writer.Execute(image)
    assert np.array_equal(read_volume(tmp_path).array, PIXELS)


def test_jpeg_of_eight_bits_with_loss_is_near(tmp_path):
    smooth = np.broadcast_to(np.arange(47, dtype=np.uint8) * 5, LARGE.shape)
    made = images()
    for image, plane in zip(made, smooth, strict=True):
        coded = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(plane)).save(coded, "JPEG", quality=95)
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 8, 8, 7, 0
        image.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        image.PixelData = encapsulate([coded.getvalue()])
        image["PixelData"].VR = "OB"
    write(tmp_path, made)
    assert np.abs(read_volume(tmp_path).array - smooth).max() <= 3


def test_jpeg_of_twelve_bits_with_loss():
    """An image that pydicom ships: what GDCM makes of it in the file itself, which no other decoder here can read."""
    path = get_testdata_file("JPGExtended.dcm", download=False)
    if path is None:
        pytest.skip("This pydicom comes without JPGExtended.dcm.")
    dataset = dcmread(path)
    runner = DecodeRunner(dataset.file_meta.TransferSyntaxUID)
    runner.set_source(dataset)
    code = next(generate_frames(dataset.PixelData, number_of_frames=1))
    decoded = np.frombuffer(jpeg.decode_frame(code, runner), "<u2").reshape(dataset.Rows, dataset.Columns)
    assert (decoded.min(), decoded.max()) == (0, 264)
    assert np.array_equal(decoded, sitk.GetArrayFromImage(sitk.ReadImage(path)).reshape(decoded.shape))


@pytest.mark.parametrize("kept", [0.9, 0.5])
def test_a_jpeg_image_that_is_cut_within_its_code_is_damaged(kept, tmp_path):
    made = images()
    for image, plane in zip(made, PIXELS, strict=True):
        coded = io.BytesIO()
        Image.fromarray((plane % 256).astype(np.uint8)).save(coded, "JPEG")
        code = coded.getvalue()
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 8, 8, 7, 0
        image.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        image.PixelData = encapsulate([code[: int(kept * len(code))]])
        image["PixelData"].VR = "OB"
    write(tmp_path, made)
    says(tmp_path, "damaged")


def test_jpeg_2000_with_loss_is_near(tmp_path):
    made = images(np.broadcast_to(np.arange(47, dtype=np.int16) * 20, LARGE.shape).copy())
    for image in made:
        image.compress(JPEG2000, j2k_psnr=[80])
    write(tmp_path, made)
    assert 0 < np.abs(read_volume(tmp_path).array - np.arange(47) * 20).max() < 40


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian], ids=lambda uid: uid.keyword
)
def test_uncompressed_in_other_ways(syntax, tmp_path):
    stored = PIXELS.astype(">i2") if syntax == ExplicitVRBigEndian else PIXELS
    made = images(stored)
    for image in made:
        image.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            image["PixelData"].VR = "OW"
    for k, image in enumerate(made):
        options = {"implicit_vr": syntax.is_implicit_VR, "little_endian": syntax.is_little_endian}
        bare = Dataset(image)
        bare.file_meta = image.file_meta
        dcmwrite(tmp_path / f"{k}.dcm", bare, **options, enforce_file_format=True)
    volume = read_volume(tmp_path)
    assert np.array_equal(volume.array, PIXELS)
    assert np.allclose(volume.ijk_to_ras, LARGE.ijk_to_ras)


def test_bits_that_hold_no_pixels_are_left_out(tmp_path):
    stored = pixels(LARGE) % 512  # ten bits, signed
    made = images((stored & 0x3FF | 0x5400).astype(np.int16))  # old scanners kept overlays in the others
    for image in made:
        image.BitsStored, image.HighBit = 10, 9
    write(tmp_path, made)
    assert np.array_equal(read_volume(tmp_path).array, stored)


def test_frames_of_one_file_are_decompressed_each(tmp_path):
    image = enhanced(SERIES["oblique"], 3)
    image.compress(RLELossless)
    image.save_as(tmp_path / "cine.dcm", enforce_file_format=True)
    phases = read_volumes(tmp_path / "cine.dcm")
    assert [np.array_equal(v.array, pixels(SERIES["oblique"], n)) for n, v in enumerate(phases)] == [True] * 3
    assert phases[1].dicom.frames == (2, 5, 8, 11)


def says(path: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_volumes(path)
    assert all(word in str(caught.value).replace(str(path), "") for word in words), str(caught.value)


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.2.4.100", "1.2.3"])
def test_a_compression_that_cannot_be_read(uid, tmp_path):
    made = images()
    for image in made:
        image.compress(RLELossless)
        image.file_meta.TransferSyntaxUID = UID(uid)
    write(tmp_path, made)
    says(tmp_path, "compressed in a way that cannot be read", UID(uid).name, "uncompressed")


def test_pixels_that_are_fewer_or_more_than_the_header_says(tmp_path):
    for behind in (None, b"\1" * 1000):
        made = images()
        made[1].PixelData = made[1].PixelData[:-2] if behind is None else made[1].PixelData + behind
        write(tmp_path, made)
        says(tmp_path, "1.dcm", "damaged")


@pytest.mark.parametrize("behind", [b"\1\2", bytes(1000)])
def test_padding_behind_the_pixels(behind, tmp_path):
    made = images()
    for name in ("as it was", "padded"):
        (tmp_path / name).mkdir()
    write(tmp_path / "as it was", made)
    for image in made:
        image.PixelData += behind
    write(tmp_path / "padded", made)
    assert np.array_equal(read_volume(tmp_path / "padded").array, read_volume(tmp_path / "as it was").array)


def test_frames_that_are_missing_from_compressed_data(tmp_path):
    image = enhanced(SERIES["oblique"], 3)
    image.compress(RLELossless)
    image.NumberOfFrames = 15
    groups = image.PerFrameFunctionalGroupsSequence
    for group in deepcopy(groups[:3]):  # those of one slice more
        group.PlanePositionSequence[0].ImagePositionPatient = decimals(SERIES["oblique"].position(4))
        groups.append(group)
    image.save_as(tmp_path / "cine.dcm", enforce_file_format=True)
    says(tmp_path / "cine.dcm", "damaged")


@pytest.mark.parametrize("change", [{"BitsAllocated": 12}, {"HighBit": 14}, {"BitsStored": 17}, {"BitsStored": None}])
def test_pixels_that_are_none(change, tmp_path):
    made = images()
    for keyword, value in change.items():
        for image in made:
            if value is None:
                del image[keyword]
            else:
                setattr(image, keyword, value)
    write(tmp_path, made)
    says(tmp_path, "export it again")
