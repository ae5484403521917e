"""What ITK passes over in silence: spacing that it replaces by another, and voxels missing or damaged."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

from dinsegment.errors import InputError, damaged
from dinsegment.geometry import check_spacing

_CHUNK = 1 << 20


def check_nifti(path: Path) -> None:
    """Checks a NIfTI-1, NIfTI-2 or Analyze file.

    ITK reads a zero spacing as 1 mm, a negative one as positive, and missing voxels as zeros.

    Raises:
        InputError: The spacing is not above zero, or the file is shorter than its header says or damaged.
    """
    header_path = path.with_suffix(".hdr") if path.suffix == ".img" else path
    with _reading(path):
        with open_maybe_gzipped(header_path) as file:
            header = file.read(544)
        order = "<" if header[:4] in (b"\x5c\x01\x00\x00", b"\x1c\x02\x00\x00") else ">"
        if struct.unpack_from(f"{order}i", header)[0] == 540:  # NIfTI-2
            magic = header[4:7]
            dimensions = struct.unpack_from(f"{order}8q", header, 16)
            bits = struct.unpack_from(f"{order}h", header, 14)[0]
            spacing = struct.unpack_from(f"{order}3d", header, 112)
            offset = struct.unpack_from(f"{order}q", header, 168)[0]
        else:
            magic = header[344:347]
            dimensions = struct.unpack_from(f"{order}8h", header, 40)
            bits = struct.unpack_from(f"{order}h", header, 72)[0]
            spacing = struct.unpack_from(f"{order}3f", header, 80)
            offset = int(struct.unpack_from(f"{order}f", header, 108)[0])
        check_spacing(path, spacing[: dimensions[0]])
        voxel_path = header_path if magic in (b"n+1", b"n+2") else header_path.with_suffix(".img")
        with open_maybe_gzipped(voxel_path) as file:
            size = _drain(file)
        if size < offset + math.prod(dimensions[1 : dimensions[0] + 1]) * bits // 8:
            raise damaged(path)


def check_nrrd(path: Path) -> None:
    """Checks a NRRD file.

    ITK takes a spacing that is missing or NaN for 1 mm, and does not look at the checksum of packed voxels.

    Raises:
        InputError: The spacing of a 3D or 4D image is not above zero or given for fewer than three axes, or
            the voxels are damaged.
    """
    with path.open("rb") as file, _reading(path):
        fields = _header(file, ":", lambda line: not line.strip())
        # With directions, ITK reports lengths of zero itself. NaN says that an axis is none of space.
        if "space directions" not in fields and _number(fields.get("dimension", "")) >= 3:
            spacing = [_number(word) for word in fields.get("spacings", "").split()]
            known = [value for value in spacing if not math.isnan(value)]
            check_spacing(path, known if len(known) >= 3 else [math.nan] * 3)
        if fields.get("encoding", "").lower() in ("gzip", "gz"):
            name = fields.get("data file") or fields.get("datafile")
            with _voxels(file, path, name) as voxels:
                _drain(gzip.GzipFile(fileobj=voxels))


def check_metaimage(path: Path) -> None:
    """Checks the compressed voxels of a MetaImage; ITK takes those before the damage and makes up the rest.

    Raises:
        InputError: They are damaged.
    """
    with path.open("rb") as file, _reading(path):
        fields = _header(file, "=", lambda line: line.lower().startswith("elementdatafile"))
        if fields.get("compresseddata", "").lower() == "true":
            name = fields.get("elementdatafile", "")
            with _voxels(file, path, None if name.upper() == "LOCAL" else name) as voxels:
                unpacker = zlib.decompressobj()
                while not unpacker.eof:
                    chunk = unpacker.unconsumed_tail or voxels.read(_CHUNK)
                    if not chunk:
                        raise damaged(path)
                    unpacker.decompress(chunk, _CHUNK)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns what Python raises for a file that ends early or breaks its checksum into an InputError."""
    try:
        yield
    except InputError:
        raise
    except (OSError, EOFError, ValueError, OverflowError, struct.error, zlib.error) as error:
        raise damaged(path) from error


def open_maybe_gzipped(path: Path) -> BinaryIO:
    """The file, unpacked if it is compressed."""
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if compressed else path.open("rb")


def _drain(file: BinaryIO | gzip.GzipFile) -> int:
    """Bytes from here to the end; of a gzip file unpacked, which verifies its checksum."""
    return sum(len(chunk) for chunk in iter(lambda: file.read(_CHUNK), b""))


def _header(file: BinaryIO, separator: str, is_last: Callable[[str], bool]) -> dict[str, str]:
    """Fields of a text header by their names in lower case; the file is left behind the last line."""
    fields = {}
    while line := file.readline().decode("latin-1"):
        name, _, value = line.partition(separator)
        # In NRRD, := is a key of the user's.
        if not value.startswith("="):
            fields[name.strip().lower()] = value.strip()
        if is_last(line):
            break
    return fields


def _voxels(header: BinaryIO, path: Path, name: str | None) -> AbstractContextManager[BinaryIO]:
    """Where the voxels are: behind the header, or in the file that it names."""
    return nullcontext(header) if name is None else (path.parent / name).open("rb")


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan
