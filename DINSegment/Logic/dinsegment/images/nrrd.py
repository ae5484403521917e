"""NRRD files whose axis of phases ITK does not know as one: sequences of 3D Slicer, multi-volumes, and others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from dinsegment.errors import InputError, damaged, unreadable
from dinsegment.images.nrrd_axes import NrrdAxes
from dinsegment.memory import check_memory

_TAG = "MultiVolume.FrameIdentifyingDICOMTagName"
_LABELS = "MultiVolume.FrameLabels"
"""What 3D Slicer's multi-volumes say of the DICOM attribute in which their volumes differ, and of its values."""

_NO_TIMES = ("EchoTime", "RepetitionTime", "InversionTime", "FlipAngle", "DiffusionBValue")
"""Attributes in which images differ that are no phases of a movement."""

_MS = {"ms": 1.0, "msec": 1.0, "millisecond": 1.0, "milliseconds": 1.0, "s": 1e3, "sec": 1e3, "seconds": 1e3}
"""Milliseconds in a unit."""

_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
"""Types of voxels as NumPy calls them, and as NRRD does."""


def is_sequence(path: Path, keys: Mapping[str, str]) -> bool:
    """Whether a file says that its images follow each other, by its name or by what 3D Slicer writes into it."""
    name = path.name.lower()
    return (
        name.endswith((".seq.nrrd", ".seq.nhdr")) or _TAG in keys or any(key.endswith(" index values") for key in keys)
    )


def check_phases(path: Path, keys: Mapping[str, str]) -> None:
    """Refuses files whose images are something else than phases of a movement.

    Raises:
        InputError: It holds segments, directions of diffusion, or images that differ in how they were acquired.
    """
    if "Segment0_ID" in keys:
        raise InputError(f"'{path}' is a segmentation, not an image: give the image that it was made from.")
    if keys.get("modality", "").upper() == "DWMRI" or any(key.startswith("DWMRI_") for key in keys):
        raise InputError(f"'{path}' is a diffusion scan, whose images are no phases of a movement: give a cine.")
    if keys.get(_TAG) in _NO_TIMES:
        raise InputError(
            f"'{path}' has images that differ in their {keys[_TAG]}, so they are no phases of a movement: give one of "
            "them, or a cine."
        )


def times_ms(axes: NrrdAxes, phase_axis: int, keys: Mapping[str, str]) -> tuple[float, ...] | None:
    """When the phases were taken, milliseconds; None where the file does not say it."""
    count, to_ms = axes.sizes[phase_axis], _MS.get(axes.units[phase_axis].strip().lower())
    listed = next((value.split() for key, value in keys.items() if key.endswith(" index values")), [])
    if keys.get(_TAG) == "TriggerTime":
        listed, to_ms = keys.get(_LABELS, "").split(","), 1.0
    if to_ms is None:
        return None
    with suppress(ValueError):
        if len(listed) == count:
            return tuple(float(value) * to_ms for value in listed)
    step = axes.spacings[phase_axis]
    return None if math.isnan(step) else tuple(number * step * to_ms for number in range(count))


def read_voxels(path: Path, fields: Mapping[str, str], axes: NrrdAxes, phase_axis: int) -> np.ndarray:
    """The voxels (phase, k, j, i), int16 where the file's are and float32 otherwise.

    Args:
        path: The file, which was checked by `integrity.check_nrrd`.
        fields: Of its header, by their names in small letters.
        axes: Its axes.
        phase_axis: The one of the phases.

    Raises:
        InputError: It cannot be read.
    """
    import nrrd  # only these files need it

    named = " ".join(fields.get("type", "").lower().split())
    kind = next((kind for kind, names in _TYPES.items() if named in names), None)
    if kind is None:
        raise InputError(f"'{path}' has voxels of the type '{named}', which are no grey values: give a grey image.")
    check_memory(path, math.prod(axes.sizes) * (4 + np.dtype(kind).itemsize))
    header: dict[str, object] = {name: fields[name].lower() for name in ("encoding", "endian") if name in fields}
    header |= {"type": _TYPES[kind][-1], "dimension": len(axes.sizes), "sizes": np.array(axes.sizes)}
    for name in ("line skip", "byte skip"):
        header[name] = int(fields.get(name) or fields.get(name.replace(" ", "")) or 0)
    detached = fields.get("data file") or fields.get("datafile")
    if detached is not None:
        header["data file"] = detached
    try:
        with path.open("rb") as file:
            while detached is None and file.readline().strip():
                pass
            voxels = nrrd.read_data(header, file, str(path), index_order="C")
    except OSError as error:
        raise unreadable(path, error) from error
    except (nrrd.NRRDError, ValueError, EOFError) as error:
        raise damaged(path) from error
    phases = np.moveaxis(voxels, len(axes.sizes) - 1 - phase_axis, 0)
    return np.ascontiguousarray(phases, dtype=np.int16 if kind == "i2" else np.float32)
