"""Volume: an image with its place in the patient, and the files it comes from and goes to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from dinsegment.errors import InputError, printable

if TYPE_CHECKING:  # It takes pydicom, which other images do without.
    from dinsegment.dicom.read.patient import Patient
    from dinsegment.dicom.source import DicomSource


@dataclass(frozen=True, eq=False)
class Volume:
    """A grey image on a grid.

    Attributes:
        array: Voxels (k, j, i), float32; or int16, as CT is stored, which takes half the memory, where it was given so.
        ijk_to_ras: 4x4 float64, from (i, j, k, 1) to millimetres in RAS (right, anterior, superior). Its columns may
            be oblique, flipped or permuted.
        name: What messages and files call it.
        modality: DICOM modality (`MR`, `CT`) where the source tells, else None.
        source: Where it was read, for messages.
        dicom: The DICOM instances it was read from, one slice after the other; None for other files.
        slice_axis: Axis of `array` across which it was acquired, where the source tells: 0 for DICOM. None if not.
        warnings: Sentences for the user about how it was read: what was left out or had to be decided.
        time_ms: Of a phase of a beating heart, milliseconds after the R wave, where the source tells.
        patient: What DICOM headers say of the patient and of the heartbeat; None for other files.
    """

    array: np.ndarray
    ijk_to_ras: np.ndarray
    name: str = "volume"
    modality: str | None = None
    source: str | None = field(default=None, repr=False)
    dicom: DicomSource | None = field(default=None, repr=False)
    slice_axis: int | None = field(default=None, repr=False)
    warnings: tuple[str, ...] = field(default=(), repr=False)
    time_ms: float | None = field(default=None, repr=False)
    patient: Patient | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Raises InputError unless the voxels are numbers on a grid of three dimensions, and the matrix is one."""
        object.__setattr__(self, "name", printable(self.name))
        object.__setattr__(self, "array", _voxels(self))
        object.__setattr__(self, "ijk_to_ras", _matrix(self))
        check_grid(self)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(k, j, i)."""
        return self.array.shape

    @property
    def spacing(self) -> np.ndarray:
        """Millimetres between voxels along (k, j, i), the order of `array`."""
        return np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)[::-1]

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres, also of a sheared grid."""
        return float(abs(np.linalg.det(self.ijk_to_ras[:3, :3]))) / 1000.0

    def with_array(self, array: np.ndarray, name: str | None = None) -> Volume:
        """The same grid with other voxels."""
        if array.shape != self.shape:
            raise ValueError(f"Voxels of shape {array.shape} do not fit a grid of shape {self.shape}.")
        return replace(self, array=array, name=name or self.name)

    def part(self, box: tuple[slice, slice, slice]) -> Volume:
        """The voxels in a box, slices with starts along (k, j, i), where they lie; without the DICOM of the whole."""
        ijk_to_ras = self.ijk_to_ras.copy()
        ijk_to_ras[:3, 3] += self.ijk_to_ras[:3, :3] @ [one.start for one in reversed(box)]
        return replace(self, array=self.array[box], ijk_to_ras=ijk_to_ras, dicom=None)


def _voxels(volume: Volume) -> np.ndarray:
    """The voxels as they are kept: int16 where they were given so, else float32."""
    array = np.asarray(volume.array)
    if array.dtype.kind not in "buif":
        raise InputError(
            f"'{volume.name}' has voxels of the type {array.dtype}, which are no grey values: give an array of whole "
            "numbers or floats."
        )
    if np.ma.is_masked(volume.array):
        raise InputError(f"'{volume.name}' has masked voxels: fill them first (by 0, say).")
    with np.errstate(over="ignore"):  # infinite ones are told of where an image is segmented
        return np.ascontiguousarray(array, dtype=np.int16 if array.dtype == np.int16 else np.float32)


def _matrix(volume: Volume) -> np.ndarray:
    """The matrix as it is kept; what is none is one of no finite number."""
    try:
        return np.array(volume.ijk_to_ras, dtype=np.float64)
    except (TypeError, ValueError):
        return np.array(np.nan)


def check_volume(volume: object) -> None:
    """Raises InputError where something else was given for a volume: a path, an array, another library's image."""
    if not isinstance(volume, Volume):
        raise InputError(
            f"A Volume is segmented, not a {type(volume).__name__}: read_volume(FILE) reads one, and Volume(array, "
            "ijk_to_ras) is one of voxels (k, j, i) and a 4x4 matrix from (i, j, k, 1) to millimetres in RAS."
        )


def check_grid(volume: Volume) -> None:
    """Raises InputError unless the array is 3D, not empty, and the matrix invertible and finite."""
    where = f"'{volume.name}'"
    if volume.array.ndim != 3 or 0 in volume.array.shape:
        raise InputError(f"{where} has the shape {volume.array.shape}: a volume has three dimensions, none empty.")
    if volume.ijk_to_ras.shape != (4, 4) or not np.isfinite(volume.ijk_to_ras).all():
        raise InputError(
            f"{where} has no usable IJK-to-RAS matrix: it needs 4x4 finite numbers, from (i, j, k, 1) to mm in RAS."
        )
    spacing = np.linalg.norm(volume.ijk_to_ras[:3, :3], axis=0)
    if spacing.min() <= 0 or abs(np.linalg.det(volume.ijk_to_ras[:3, :3] / spacing)) < 1e-3:
        raise InputError(
            f"{where} has the spacing {tuple(float(f'{s:.4g}') for s in spacing)} mm or axes that do not span space: "
            "correct the image's header, every spacing has to be above zero."
        )


def check_voxels(volume: Volume) -> None:
    """Raises InputError if the voxels cannot be an image: NaN, infinite, or all equal."""
    low, high = float(volume.array.min()), float(volume.array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = int(volume.array.size - np.isfinite(volume.array).sum())
        raise InputError(
            f"'{volume.name}' has {bad} voxels that are NaN or infinite: replace them (by 0, say) and try again."
        )
    if low == high:
        raise InputError(f"'{volume.name}' is constant, every voxel is {low:g}: there is nothing to segment.")


def ras_of(volume: Volume, index: tuple[float, float, float] | np.ndarray) -> tuple[float, float, float]:
    """The place in mm in RAS of a voxel (k, j, i), which may lie between the grid's."""
    k, j, i = (float(n) for n in index)
    r, a, s, _ = volume.ijk_to_ras @ (i, j, k, 1.0)
    return float(r), float(a), float(s)


def slice_number(volume: Volume, place: tuple[float, float, float], axis: int) -> int:
    """The number, counted from 1 in the image's order, of the slice across an axis (k, j, i) in which a place lies."""
    index = np.linalg.solve(volume.ijk_to_ras, (*place, 1.0))[2 - axis]
    return int(np.clip(round(float(index)), 0, volume.shape[axis] - 1)) + 1
