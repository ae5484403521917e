"""Image files, any that SimpleITK reads, and DICOM series to `Volume`."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from dinsegment.dicom.read.files import is_dicom
from dinsegment.errors import InputError, damaged, unreadable
from dinsegment.files import check_name, image_stem, phase_names
from dinsegment.geometry import LEAN_DEGREES, RAS_FROM_LPS, check_spacing
from dinsegment.images.integrity import Grid, check_metaimage, check_nifti, check_nrrd, check_tiff, check_vtk
from dinsegment.images.nrrd import read_voxels
from dinsegment.images.nrrd_axes import ijk_to_ras
from dinsegment.images.volume import Volume
from dinsegment.memory import check_memory, is_out_of_memory
from dinsegment.tasks import Task

if TYPE_CHECKING:  # It takes pydicom, which other images do without.
    from dinsegment.dicom.read.parts import StudyPart

_CHECKS = {
    "NiftiImageIO": check_nifti,
    "NrrdImageIO": check_nrrd,
    "MetaImageIO": check_metaimage,
    "VTKImageIO": check_vtk,
    "TIFFImageIO": check_tiff,
}
_PERMISSIVE = "ITK_NIFTI_SFORM_PERMISSIVE"
"""Environment variable by which ITK takes the nearest perpendicular axes of a NIfTI file."""

SAME_PLACE = 0.1
"""Voxels by which phases of one heart may lie beside one another."""

_BYTES = {
    **dict.fromkeys((sitk.sitkUInt8, sitk.sitkInt8), 1),
    **dict.fromkeys((sitk.sitkUInt16, sitk.sitkInt16), 2),
    **dict.fromkeys((sitk.sitkUInt64, sitk.sitkInt64, sitk.sitkFloat64), 8),
}
"""Of a voxel by its type; 4 of the others."""

_COMPLEX = (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64)


def read_volumes(
    path: str | os.PathLike[str],
    series_uid: str | None = None,
    task: Task | None = None,
    part: StudyPart | None = None,
) -> list[Volume]:
    """Reads an image file or a DICOM series.

    Args:
        path: NIfTI, NRRD, MetaImage or what else SimpleITK reads, a DICOM file, or a folder, zip archive or DICOMDIR
            of them.
        series_uid: Of several DICOM series, which: a Series Instance UID, several with commas between them, or the name
            of a stack, see `dicom.read.series.read_series`.
        task: What is to be segmented: of several DICOM series the stack that it needs is read if there is but one.
        part: Of a folder of DICOM studies, which study.

    Returns:
        One volume per phase, in the order of time: several for a cine, named `<stem> phase 01`, ...;
        otherwise one, named by the stem. Arrays are (k, j, i), int16 where the file's voxels are and float32 otherwise,
        spacing is in millimetres.

    Raises:
        InputError: It does not exist, is damaged, is no 3D or 4D grey image, or its header cannot be right.
    """
    path = Path(path)
    check_there(path)
    if not path.is_dir():
        _check_readable(path)
    if path.is_dir() or is_dicom(path):
        return _read_dicom(path, series_uid, task, part)
    check_name(path)
    with itk_warnings_off():
        image_io = sitk.ImageFileReader.GetImageIOFromFileName(str(path))
        if image_io == "GDCMImageIO":  # one without a preamble
            return _read_dicom(path, series_uid, task)
        if series_uid is not None:
            raise InputError(f"'{path}' is no DICOM, which alone has series to choose from: leave out --series.")
        if not image_io:
            raise InputError(f"'{path}' is damaged or in no known image format: give NIfTI, NRRD, MetaImage or DICOM.")
        return _read_file(path, image_io)


def check_there(path: Path) -> None:
    """Raises InputError where there is no file or folder of this name, or none that may be looked at."""
    try:
        there = path.exists()
    except OSError as error:  # a name that is too long, or a folder that may not be looked into
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"'{path}' cannot be opened ({reason}): check the path and that you may read it.") from error
    if not there:
        raise InputError(f"There is no file or folder '{path}': check the path.")


def _read_dicom(path: Path, wanted: str | None, task: Task | None, part: StudyPart | None = None) -> list[Volume]:
    """The phases of a DICOM series as volumes."""
    from dinsegment.dicom.read.series import read_series, series_name  # it takes pydicom, which other images do without

    series = read_series(path, wanted, task, part)
    names = phase_names(series_name(path) if part is None else part.name, len(series.phases))
    return [
        Volume(
            voxels,
            series.ijk_to_ras,
            name,
            series.modality,
            str(path if part is None else part.where),
            source,
            0,
            series.warnings,
            time,
            series.patient,
        )
        for voxels, name, source, time in zip(series.phases, names, series.sources, series.times_ms, strict=True)
    ]


def read_volume(path: str | os.PathLike[str], series_uid: str | None = None) -> Volume:
    """Reads an image with one phase: a NIfTI, NRRD or MetaImage file, a DICOM file, or a folder with a DICOM series.

    Args:
        path: The file or folder.
        series_uid: SeriesInstanceUID, where a folder holds several series.

    Raises:
        InputError: It cannot be read, as `read_volumes` says, or has several phases.
    """
    return _only(path, read_volumes(path, series_uid))


def read_layers(path: Path) -> list[Volume]:
    """The labelmaps of a segmentation in a NRRD file: one, or several where 3D Slicer has segments that overlap.

    Raises:
        InputError: It cannot be read, as `read_volumes` says.
    """
    check_name(path)
    grid = check_nrrd(path, layers=True) if path.is_file() else Grid()
    if grid.nrrd is None:
        return [read_volume(path)]
    layers, ijk_to_ras = _read_nrrd(path, grid)
    return [Volume(layer, ijk_to_ras, name=image_stem(path), source=str(path)) for layer in layers]


def read_phases(paths: Sequence[str | os.PathLike[str]], task: Task | None = None) -> list[Volume]:
    """Reads images that are the phases of one heart, in their order.

    Args:
        paths: Files or folders, as for `read_volumes`, each with one phase.
        task: As for `read_volumes`.

    Returns:
        A volume for each, all on the grid of the first; named by the stems of the files, or by number where two have
        the same.

    Raises:
        InputError: One cannot be read, has several phases, is there twice, or lies on another grid than the first.
    """
    for number, path in enumerate(paths):
        if any(Path(path).absolute() == Path(other).absolute() for other in paths[:number]):
            raise InputError(f"'{path}' is given twice: give an image for each phase.")
    volumes = [_only(path, read_volumes(path, task=task)) for path in paths]
    first = volumes[0]
    for path, volume in zip(paths[1:], volumes[1:], strict=True):
        if volume.shape != first.shape or not _same_place(first, volume):
            raise InputError(
                f"'{path}' ({grid_text(volume)}) lies on another grid than '{paths[0]}' ({grid_text(first)}), but "
                "phases of one heart share theirs: give images of one scan, none of them cropped or resampled."
            )
    names = [volume.name for volume in volumes]
    if len(set(names)) < len(names):
        names = phase_names("heart", len(names))
    return [replace(one, name=name, ijk_to_ras=first.ijk_to_ras) for one, name in zip(volumes, names, strict=True)]


def grid_text(volume: Volume) -> str:
    """The size of a volume's grid and of its voxels, for messages."""
    k, j, i = volume.shape
    z, y, x = volume.spacing
    return f"{i} x {j} x {k} voxels of {x:.4g} x {y:.4g} x {z:.4g} mm"


def _only(path: str | os.PathLike[str], volumes: list[Volume]) -> Volume:
    """The only phase that a file or folder has."""
    if len(volumes) > 1:
        raise InputError(f"'{path}' has {len(volumes)} phases where a single volume is needed: give one of them.")
    return volumes[0]


def _same_place(one: Volume, other: Volume) -> bool:
    """Whether the corners of two grids of one shape lie within a tenth of a voxel: formats round differently."""
    k, j, i = one.shape
    corners = np.array([(x, y, z, 1) for x in (0, i - 1) for y in (0, j - 1) for z in (0, k - 1)]).T
    off = np.linalg.solve(one.ijk_to_ras, other.ijk_to_ras @ corners)[:3] - corners[:3]
    return bool(np.abs(off).max() <= SAME_PLACE)


def read_image(path: Path, image_io: str) -> sitk.Image:
    """A grey 3D or 4D image in mm, after what ITK passes over has been checked."""
    return _read_checked(path, _CHECKS[image_io](path) if image_io in _CHECKS else Grid())


def _read_checked(path: Path, grid: Grid) -> sitk.Image:
    """The image on the grid that the header means."""
    try:
        image = _read(path)
    except RuntimeError as error:
        if "orthonormal" in str(error) and 0 < grid.leans <= LEAN_DEGREES:
            with _nearest_perpendicular():
                image = _read(path)
        elif "orthonormal" in str(error):
            raise InputError(
                f"'{path}' has axes that are not perpendicular, which NIfTI readers do not support: "
                "resample the image or convert it to NRRD."
            ) from error
        elif is_out_of_memory(error):
            raise unreadable(path, MemoryError()) from error
        else:
            raise damaged(path) from error
    if grid.checksum is not None and grid.checksum not in _checksums(image):
        raise damaged(path)
    space = slice(0, 3)
    for get, put in ((image.GetSpacing, image.SetSpacing), (image.GetOrigin, image.SetOrigin)):
        values = np.array(get())
        values[space] *= grid.to_mm
        put(values.tolist())
    if grid.spacing is not None:
        image.SetSpacing([*(float(value) for value in grid.spacing), *image.GetSpacing()[3:]])
    return image


def _checksums(image: sitk.Image) -> Iterator[int]:
    """CRC-32 of an image's voxels, as this machine has their bytes and the other way round."""
    voxels = sitk.GetArrayViewFromImage(image)
    yield zlib.crc32(voxels)
    yield zlib.crc32(voxels.byteswap())


def _read(path: Path) -> sitk.Image:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    _check_kind(path, reader)
    return reader.Execute()


@contextmanager
def _nearest_perpendicular() -> Iterator[None]:
    before = os.environ.get(_PERMISSIVE)
    os.environ[_PERMISSIVE] = "ON"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_PERMISSIVE]
        else:
            os.environ[_PERMISSIVE] = before


def _read_file(path: Path, image_io: str) -> list[Volume]:
    grid = _CHECKS[image_io](path) if image_io in _CHECKS else Grid()
    phases, ijk_to_ras = _read_nrrd(path, grid) if grid.nrrd is not None else _read_itk(path, grid)
    times = grid.times_ms if grid.times_ms is not None else (None,) * len(phases)
    return [
        Volume(phase, ijk_to_ras, name=name, source=str(path), warnings=grid.warnings, time_ms=time)
        for name, phase, time in zip(phase_names(image_stem(path), len(phases)), phases, times, strict=True)
    ]


def _read_itk(path: Path, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (phase, k, j, i) and IJK-to-RAS."""
    image = _read_checked(path, grid)
    voxels = sitk.GetArrayViewFromImage(image)
    # astype copies: the view ends with the image.
    voxels = voxels.astype(np.int16 if voxels.dtype == np.int16 else np.float32)
    return voxels.reshape(-1, *image.GetSize()[2::-1]), ijk_to_ras_of(path, image)


def _read_nrrd(path: Path, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The same of a NRRD file whose phases ITK does not see."""
    fields, axes, axis = grid.nrrd
    to_mm = np.diag([grid.to_mm, grid.to_mm, grid.to_mm, 1.0])
    return read_voxels(path, fields, axes, axis), to_mm @ ijk_to_ras(path, axes, axis)


def _check_kind(path: Path, reader: sitk.ImageFileReader) -> None:
    """Refuses what is no grey 3D or 4D image, before its voxels are read."""
    if reader.GetPixelID() in _COMPLEX:
        raise InputError(f"'{path}' has complex voxels: give the magnitude image.")
    if reader.GetNumberOfComponents() > 1:
        raise InputError(
            f"'{path}' has {reader.GetNumberOfComponents()} values per voxel, as colour images and vectors have: "
            "give a grey image."
        )
    size = reader.GetSize()
    if not 3 <= len(size) <= 5 or (len(size) == 5 and min(size[3:]) > 1):
        raise InputError(
            f"'{path}' has {reader.GetDimension()} dimensions: give a 3D image, or a 4D one whose last axis is time."
        )
    check_spacing(path, reader.GetSpacing()[:3])
    # Those of the file, and the same as float32.
    check_memory(path, math.prod(reader.GetSize()) * (4 + _BYTES.get(reader.GetPixelID(), 4)))


def ijk_to_ras_of(path: Path, image: sitk.Image) -> np.ndarray:
    dimension = image.GetDimension()
    direction = np.reshape(image.GetDirection(), (dimension, dimension))
    if np.any(direction[3:, :3]) or np.any(direction[:3, 3:]):
        raise InputError(f"'{path}' has a time axis that leans into space: give each phase as a 3D image.")
    ijk_to_lps = np.eye(4)
    ijk_to_lps[:3, :3] = direction[:3, :3] * image.GetSpacing()[:3]
    ijk_to_lps[:3, 3] = image.GetOrigin()[:3]
    return RAS_FROM_LPS @ ijk_to_lps


def _check_readable(path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise unreadable(path, error) from error


@contextmanager
def itk_warnings_off() -> Iterator[None]:
    """ITK warns on stderr of spacing that is only in NIfTI's pixdim, which is read all the same."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)
