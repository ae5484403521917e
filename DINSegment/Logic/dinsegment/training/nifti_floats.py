"""NaN and infinite voxels of NIfTI files, which ITK reads as 0 without a word."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from dinsegment.images.integrity import open_maybe_gzipped

_FLOATS = {16: "f4", 64: "f8"}
"""NIfTI's codes of the voxel types that have NaN."""

_CHUNK = 1 << 20


def count_not_finite(path: Path, voxels: int) -> int:
    """How many of the first so many voxels are NaN or infinite; 0 for what is no single NIfTI file of floats.

    Args:
        path: A file that could be read as an image, so that its header is whole.
        voxels: How many it has.
    """
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        return 0
    with open_maybe_gzipped(path) as file:
        header = file.read(544)
        order = "<" if header[:4] in (b"\x5c\x01\x00\x00", b"\x1c\x02\x00\x00") else ">"
        if struct.unpack_from(f"{order}i", header)[0] == 540:  # NIfTI-2
            code = struct.unpack_from(f"{order}h", header, 12)[0]
            offset = struct.unpack_from(f"{order}q", header, 168)[0]
        else:
            code = struct.unpack_from(f"{order}h", header, 70)[0]
            offset = int(struct.unpack_from(f"{order}f", header, 108)[0])
        if code not in _FLOATS:
            return 0
        dtype = np.dtype(order + _FLOATS[code])
        file.seek(offset)
        found, left = 0, voxels * dtype.itemsize
        while left and (chunk := file.read(min(left, _CHUNK))):
            values = np.frombuffer(chunk, dtype, count=len(chunk) // dtype.itemsize)
            found += values.size - int(np.isfinite(values).sum())
            left -= len(chunk)
        return found
