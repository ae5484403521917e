"""Image files: any that SimpleITK reads to `Volume`, and back to files on exactly the same grid."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import DTypeLike

from dinsegment import __version__
from dinsegment.dicom.read.files import is_dicom
from dinsegment.errors import InputError, OutputError
from dinsegment.files import atomic_path, image_stem, phase_names
from dinsegment.images.fingerprint import FINGERPRINT_TAG, VERSION_TAG, fingerprints
from dinsegment.images.integrity import check_metaimage, check_nifti, check_nrrd, check_spacing, damaged
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.volume import RAS_FROM_LPS, Volume

WRITABLE = (".nii.gz", ".nii", ".nrrd", ".mha")
"""Formats that hold an image in one file, so that it can be put in place in one step."""

_CHECKS = {"NiftiImageIO": check_nifti, "NrrdImageIO": check_nrrd, "MetaImageIO": check_metaimage}
_COMPLEX = (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64)


def read_volumes(path: str | os.PathLike[str], series_uid: str | None = None) -> list[Volume]:
    """Reads an image file or a DICOM series.

    Args:
        path: NIfTI, NRRD, MetaImage or what else SimpleITK reads, a DICOM file, or a folder, zip archive or DICOMDIR
            of them.
        series_uid: Series Instance UID of the DICOM series to read where there are several.

    Returns:
        One volume per phase, in the order of time: several for a cine, named `<stem> phase 01`, ...;
        otherwise one, named by the stem. Arrays are (k, j, i), int16 where the file's voxels are and float32 otherwise,
        spacing is in millimetres.

    Raises:
        InputError: It does not exist, is damaged, is no 3D or 4D grey image, or its header cannot be right.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"There is no file or folder '{path}': check the path.")
    if not path.is_dir():
        _check_readable(path)
    if path.is_dir() or is_dicom(path):
        return _read_dicom(path, series_uid)
    with itk_warnings_off():
        image_io = sitk.ImageFileReader.GetImageIOFromFileName(str(path))
        if image_io == "GDCMImageIO":  # one without a preamble
            return _read_dicom(path, series_uid)
        if series_uid is not None:
            raise InputError(f"'{path}' is no DICOM, which alone has series to choose from: leave out --series.")
        if not image_io:
            raise InputError(f"'{path}' is damaged or in no known image format: give NIfTI, NRRD, MetaImage or DICOM.")
        return _read_file(path, image_io)


def _read_dicom(path: Path, series_uid: str | None) -> list[Volume]:
    from dinsegment.dicom.read.folder import read_dicom  # it takes pydicom, which other images do without

    return read_dicom(path, series_uid)


def read_volume(path: str | os.PathLike[str], series_uid: str | None = None) -> Volume:
    """As `read_volumes`, of an image with one phase.

    Raises:
        InputError: As `read_volumes`, and if the image has several phases.
    """
    volumes = read_volumes(path, series_uid)
    if len(volumes) > 1:
        raise InputError(f"'{path}' has {len(volumes)} phases where a single volume is needed: give one of them.")
    return volumes[0]


def write_volume(volume: Volume, path: str | os.PathLike[str], dtype: DTypeLike | None = None) -> None:
    """Writes a volume on its own grid, compressed where the format can.

    Args:
        volume: What to write.
        path: Ends in `.nii.gz`, `.nii`, `.nrrd` or `.mha`; is replaced if it exists.
        dtype: Of the voxels in the file, the volume's own if None; rounded to the nearest number for integers.

    Raises:
        OutputError: The format is another one or cannot hold these values or this grid, or the file could not
            be written. Nothing is left of it then.
    """
    _write(volume, volume.array, Path(path), np.dtype(volume.array.dtype if dtype is None else dtype), {})


def write_segmentation(segmentation: Segmentation, path: str | os.PathLike[str]) -> None:
    """Writes a `.seg.nrrd` file as 3D Slicer does: names, colours and terminology beside one shared labelmap.

    Segments without voxels are written too. Source of the fields: Slicer's vtkMRMLSegmentationStorageNode.

    Raises:
        OutputError: `path` has another suffix, or the file could not be written. Nothing is left of it then.
    """
    path = Path(path)
    if not path.name.endswith(".seg.nrrd"):
        raise OutputError(f"'{path}' has to end in .seg.nrrd, by which 3D Slicer knows a segmentation: rename it.")
    _write(segmentation.volume, segmentation.labels, path, np.dtype(np.uint8), _segmentation_fields(segmentation))


def _segmentation_fields(segmentation: Segmentation) -> dict[str, str]:
    k, j, i = segmentation.labels.shape
    extent = (0, i - 1, 0, j - 1, 0, k - 1)
    # The grid on which Slicer edits and saves the segments: IJK-to-RAS by rows, then the extent.
    geometry = "".join(f"{value:.17g};" for value in (*segmentation.volume.ijk_to_ras.ravel(), *extent))
    fields = {
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
        "Segmentation_ConversionParameters": f"Reference image geometry|{geometry}|&",
    }
    values = [segment.label for segment in segmentation.task.segments]
    made = fingerprints(segmentation.labels, values, segmentation.volume.ijk_to_ras)
    for n, segment in enumerate(segmentation.task.segments):
        tags = {
            "DICOM.SegmentAlgorithmName": f"DINSegment {segmentation.model}",
            "DICOM.SegmentAlgorithmType": "AUTOMATIC",
            FINGERPRINT_TAG: made[segment.label],
            VERSION_TAG: __version__,
            "Segmentation.Status": "inprogress",
            "TerminologyEntry": segment.terminology,
        }
        fields |= {
            f"Segment{n}_ID": f"Segment_{segment.label}",
            f"Segment{n}_Name": segment.name,
            f"Segment{n}_NameAutoGenerated": "0",
            f"Segment{n}_Color": " ".join(f"{channel / 255:.6g}" for channel in segment.color),
            f"Segment{n}_ColorAutoGenerated": "0",
            f"Segment{n}_LabelValue": str(segment.label),
            f"Segment{n}_Layer": "0",
            # The extent of the shared labelmap, not of the segment: Slicer cuts the layer, for all its
            # segments, to what the first one says.
            f"Segment{n}_Extent": " ".join(map(str, extent)),
            f"Segment{n}_Tags": "".join(f"{key}:{value}|" for key, value in tags.items()),
        }
    return fields


def _read_image(path: Path, image_io: str) -> sitk.Image:
    """A grey 3D or 4D image as ITK has it, after what ITK passes over has been checked."""
    if image_io in _CHECKS:
        _CHECKS[image_io](path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _check_kind(path, reader)
        return reader.Execute()
    except RuntimeError as error:
        if "orthonormal" in str(error):
            raise InputError(
                f"'{path}' has axes that are not perpendicular, which NIfTI readers do not support: "
                "resample the image or convert it to NRRD."
            ) from error
        raise damaged(path) from error


def _read_file(path: Path, image_io: str) -> list[Volume]:
    image = _read_image(path, image_io)
    ijk_to_ras = _ijk_to_ras(path, image)
    voxels = sitk.GetArrayViewFromImage(image)
    # astype copies: the view ends with the image.
    voxels = voxels.astype(np.int16 if voxels.dtype == np.int16 else np.float32)
    phases = voxels.reshape(-1, *image.GetSize()[2::-1])
    return [
        Volume(phase, ijk_to_ras, name=name, source=str(path))
        for name, phase in zip(phase_names(image_stem(path), len(phases)), phases, strict=True)
    ]


def _check_kind(path: Path, reader: sitk.ImageFileReader) -> None:
    """Refuses what is no grey 3D or 4D image, before its voxels are read."""
    if reader.GetPixelID() in _COMPLEX:
        raise InputError(f"'{path}' has complex voxels: give the magnitude image.")
    if reader.GetNumberOfComponents() > 1:
        raise InputError(
            f"'{path}' has {reader.GetNumberOfComponents()} values per voxel, as colour images "
            "and sequences of 3D Slicer have: give a grey image."
        )
    if reader.GetDimension() not in (3, 4):
        raise InputError(
            f"'{path}' has {reader.GetDimension()} dimensions: give a 3D image, or a 4D one whose last axis is time."
        )
    check_spacing(path, reader.GetSpacing()[:3])


def _ijk_to_ras(path: Path, image: sitk.Image) -> np.ndarray:
    dimension = image.GetDimension()
    direction = np.reshape(image.GetDirection(), (dimension, dimension))
    if np.any(direction[3:, :3]) or np.any(direction[:3, 3:]):
        raise InputError(f"'{path}' has a time axis that leans into space: give each phase as a 3D image.")
    ijk_to_lps = np.eye(4)
    ijk_to_lps[:3, :3] = direction[:3, :3] * image.GetSpacing()[:3]
    ijk_to_lps[:3, 3] = image.GetOrigin()[:3]
    return RAS_FROM_LPS @ ijk_to_lps


def _write(grid: Volume, array: np.ndarray, path: Path, dtype: np.dtype, fields: Mapping[str, str]) -> None:
    """Writes an array (k, j, i) on the grid of a volume."""
    if not path.name.endswith(WRITABLE):
        raise OutputError(f"'{path}' is in no format that can be written: let it end in {', '.join(WRITABLE)}.")
    array = _as_type(array, grid.name, path, dtype)
    ijk_to_lps = RAS_FROM_LPS @ grid.ijk_to_ras
    spacing = np.linalg.norm(ijk_to_lps[:3, :3], axis=0)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetDirection((ijk_to_lps[:3, :3] / spacing).ravel())
    image.SetOrigin(ijk_to_lps[:3, 3])
    for key, value in fields.items():
        image.SetMetaData(key, value)
    with atomic_path(path) as temporary, itk_warnings_off():
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
        except RuntimeError as error:
            raise _not_written(path) from error
        del image  # of which there will be another one
        _check_written(grid, array, temporary, path)


def _as_type(array: np.ndarray, name: str, path: Path, dtype: np.dtype) -> np.ndarray:
    if dtype.kind not in "iu" or array.dtype == dtype:
        return array.astype(dtype, copy=False)
    rounded = np.rint(array)
    limits = np.iinfo(dtype)
    if not (limits.min <= rounded.min() and rounded.max() <= limits.max):  # also where NaN
        raise OutputError(
            f"'{path}' cannot be written as {dtype}: the voxels of '{name}' run from "
            f"{rounded.min():g} to {rounded.max():g}; write them as float32."
        )
    return rounded.astype(dtype)


def _check_written(grid: Volume, array: np.ndarray, temporary: Path, path: Path) -> None:
    """Reads the file again: ITK does not report every failure to write, and NIfTI cannot hold every grid."""
    try:
        written = _read_image(temporary, sitk.ImageFileReader.GetImageIOFromFileName(str(temporary)))
        ijk_to_ras = _ijk_to_ras(temporary, written)
    except InputError as error:
        raise _not_written(path) from error
    voxels = sitk.GetArrayViewFromImage(written)
    if voxels.shape != array.shape or not all(map(_equal, voxels, array)):
        raise _not_written(path)
    k, j, i = array.shape
    corners = np.array([(x, y, z, 1) for x in (0, i) for y in (0, j) for z in (0, k)]).T
    expected = grid.ijk_to_ras @ corners
    # NIfTI holds the grid in single precision.
    if np.abs(ijk_to_ras @ corners - expected).max() > max(1e-3, 1e-6 * np.abs(expected).max()):
        raise OutputError(f"'{path}' cannot hold axes that are not perpendicular: write the image as .nrrd or .mha.")


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether slices hold the same; NaN, which is rare and takes time to look for, is equal to NaN."""
    return np.array_equal(one, other) or np.array_equal(one, other, equal_nan=True)


def _not_written(path: Path) -> OutputError:
    return OutputError(f"'{path}' could not be written completely, perhaps the disk is full: make room and try again.")


def _check_readable(path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise InputError(f"'{path}' cannot be opened: check that you may read it.") from error


@contextmanager
def itk_warnings_off() -> Iterator[None]:
    """ITK warns on stderr of spacing that is only in NIfTI's pixdim, which is read all the same."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)
