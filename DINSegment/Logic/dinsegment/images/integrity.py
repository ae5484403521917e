"""What ITK passes over in silence: spacing and units that it replaces by others, and voxels missing or damaged."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dinsegment.errors import InputError, damaged, unreadable
from dinsegment.geometry import check_spacing
from dinsegment.images.nrrd import check_phases, is_sequence, times_ms
from dinsegment.images.nrrd_axes import NrrdAxes, nrrd_axes, phase_axis

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Grid:
    """What a header says of the voxels' place beside what ITK makes of it.

    Attributes:
        to_mm: What lengths have to be multiplied by.
        spacing: In mm, along (i, j, k), instead of ITK's; None to keep that.
        leans: Degrees by which the axes of a NIfTI file are not perpendicular.
        warnings: Sentences for the user.
        checksum: CRC-32 of the voxels' bytes in the file, where ITK may not read all of them; None where it does.
        times_ms: When the phases were taken, where the file says it.
        nrrd: The header and the axes of a NRRD file, and which of them is that of the phases, where ITK does not see
            that there are some.
    """

    to_mm: float = 1.0
    spacing: tuple[float, ...] | None = None
    leans: float = 0.0
    warnings: tuple[str, ...] = ()
    checksum: int | None = None
    times_ms: tuple[float, ...] | None = None
    nrrd: tuple[dict[str, str], NrrdAxes, int] | None = None


_MM = ("", "???", "mm", "millimeter", "millimeters", "millimetre", "millimetres")
_MICROMETRES = (
    "um",
    "\u00b5m",
    "\u03bcm",
    "micron",
    "microns",
    "micrometer",
    "micrometers",
    "micrometre",
    "micrometres",
)
_METRES = ("m", "meter", "meters", "metre", "metres")
_UNITS = {
    **dict.fromkeys(_MM, 1.0),
    **dict.fromkeys(_MICROMETRES, 1e-3),
    **dict.fromkeys(_METRES, 1e3),
    **{"cm": 10.0, "nm": 1e-6},
}
"""Millimetres in a unit, by the names that it has in headers."""

_NIFTI_UNITS = {1: 1e3, 3: 1e-3}
_NIFTI_TIMES = {8: 1e3, 16: 1.0, 24: 1e-3}
"""Milliseconds in the unit of time that xyzt_units tells."""

_SHORTEST_BEAT_MS, _LONGEST_BEAT_MS = 250.0, 2500.0
"""Of a heart that beats 240 and 24 times a minute."""

_NIFTI_UNREADABLE = {1: "single bits", 1536: "128-bit numbers", 2048: "complex numbers"}

_SAME = 0.01
"""Spacings that differ by less in a header are the same."""

_ELEMENT_BYTES = {
    **dict.fromkeys(("MET_CHAR", "MET_UCHAR", "MET_ASCII_CHAR"), 1),
    **dict.fromkeys(("MET_SHORT", "MET_USHORT"), 2),
    **dict.fromkeys(("MET_INT", "MET_UINT", "MET_LONG", "MET_ULONG", "MET_FLOAT"), 4),
    **dict.fromkeys(("MET_DOUBLE", "MET_LONG_LONG", "MET_ULONG_LONG"), 8),
}
"""As MetaIO has them on every machine."""


def check_nifti(path: Path) -> Grid:
    """Checks a NIfTI-1, NIfTI-2 or Analyze file.

    ITK reads a zero spacing as 1 mm, a negative one as positive, and missing voxels as zeros. It takes the spacing from
    pixdim, whatever the sform says; where pixdim is just 1, nobody has set it.

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
            code, bits = struct.unpack_from(f"{order}2h", header, 12)
            spacing = struct.unpack_from(f"{order}4d", header, 112)
            offset = struct.unpack_from(f"{order}q", header, 168)[0]
            sform_code = struct.unpack_from(f"{order}i", header, 348)[0]
            sform = struct.unpack_from(f"{order}12d", header, 400)
            units = struct.unpack_from(f"{order}i", header, 500)[0]
        else:
            magic = header[344:347]
            dimensions = struct.unpack_from(f"{order}8h", header, 40)
            code, bits = struct.unpack_from(f"{order}2h", header, 70)
            spacing = struct.unpack_from(f"{order}4f", header, 80)
            offset = int(struct.unpack_from(f"{order}f", header, 108)[0])
            sform_code = struct.unpack_from(f"{order}h", header, 254)[0]
            sform = struct.unpack_from(f"{order}12f", header, 280)
            units = header[123]
        if code in _NIFTI_UNREADABLE:
            raise _unsupported(path, f"as {_NIFTI_UNREADABLE[code]}")
        step, spacing = spacing[3], spacing[:3]
        check_spacing(path, spacing[: dimensions[0]])
        times = _nifti_times(dimensions, step, units)
        voxel_path = header_path if magic in (b"n+1", b"n+2") else header_path.with_suffix(".img")
        with open_maybe_gzipped(voxel_path) as file:
            size = _drain(file)
        if size < offset + math.prod(dimensions[1 : dimensions[0] + 1]) * bits // 8:
            raise damaged(path)
        if magic not in (b"n+1", b"n+2", b"ni1", b"ni2") or sform_code <= 0:
            return Grid(times_ms=times)
        grid = _grid_of_sform(path, spacing, np.reshape(sform, (3, 4))[:, :3], _NIFTI_UNITS.get(units & 7, 1.0))
        return replace(grid, times_ms=times)


def _nifti_times(dimensions: tuple[int, ...], step: float, units: int) -> tuple[float, ...] | None:
    """When the phases were taken, milliseconds; None where pixdim[4] cannot be their distance.

    Converters leave it 0 or 1, or write the repetition time there; the phases of a heart fill a beat.
    """
    count, to_ms = dimensions[4] if dimensions[0] >= 4 else 1, _NIFTI_TIMES.get(units & 56)
    if count < 2 or to_ms is None or not _SHORTEST_BEAT_MS <= count * step * to_ms <= _LONGEST_BEAT_MS:
        return None
    return tuple(number * step * to_ms for number in range(count))


def _grid_of_sform(path: Path, pixdim: tuple[float, ...], columns: np.ndarray, to_mm: float) -> Grid:
    """Compares the spacing of pixdim with the lengths of the sform's columns, and these with each other."""
    lengths = np.linalg.norm(columns, axis=0)
    if not np.isfinite(lengths).all() or lengths.min() <= 0:
        return Grid()
    cosines = (columns / lengths).T @ (columns / lengths)
    leans = float(np.degrees(np.arcsin(np.clip(np.abs(cosines - np.diag(np.diag(cosines))).max(), 0, 1))))
    if np.allclose(lengths, pixdim, rtol=_SAME, atol=0):
        return Grid(leans=leans)
    unset = np.allclose(pixdim, 1, rtol=1e-6, atol=0)
    used, other = (lengths, pixdim) if unset else (pixdim, lengths)
    said = [" x ".join(f"{value * to_mm:.4g}" for value in values) for values in (used, other)]
    warning = (
        f"'{path}' contradicts itself: its voxels measure {said[0]} mm by its {'sform' if unset else 'pixdim'}, which "
        f"was used, and {said[1]} mm by its {'pixdim' if unset else 'sform'}. Check the volumes."
    )
    return Grid(spacing=tuple(lengths * to_mm) if unset else None, leans=leans, warnings=(warning,))


def check_nrrd(path: Path, layers: bool = False) -> Grid:
    """Checks a NRRD file.

    ITK takes a spacing that is missing or NaN for 1 mm and every unit for mm, does not look at the checksum of packed
    voxels, and knows a fourth axis neither where it has no direction nor, as one of phases, where it is a list.

    Args:
        path: The file.
        layers: Whether such an axis may be that of the layers of a segmentation, instead of one of phases.

    Raises:
        InputError: The spacing of a 3D or 4D image is not above zero or given for fewer than three axes, its unit is
            unknown, the voxels are stored in a way that ITK cannot read, they are damaged, or they are of a kind that
            has no phases.
    """
    with path.open("rb") as file, _reading(path):
        keys: dict[str, str] = {}
        fields = _header(file, ":", lambda line: not line.strip() or _NRRD_LIST.match(line) is not None, keys)
        axes = nrrd_axes(path, fields)
        axis = phase_axis(path, axes, is_sequence(path, keys)) if axes is not None else None
        if axis is not None and not layers:
            check_phases(path, keys)
        # With directions, ITK reports lengths of zero itself. NaN says that an axis is none of space.
        units = _quoted(fields.get("space units", ""))
        if "space directions" not in fields and _number(fields.get("dimension", "")) >= 3:
            spacing = [_number(word) for n, word in enumerate(fields.get("spacings", "").split()) if n != axis]
            known = [value for value in spacing if not math.isnan(value)]
            check_spacing(path, known if len(known) >= 3 else [math.nan] * 3)
            units = [unit for n, unit in enumerate(_quoted(fields.get("units", ""))) if n != axis][:3] or units
        if axis is not None and axes.directions is not None:
            check_spacing(path, [float(np.linalg.norm(axes.directions[n])) for n in axes.in_space(axis)])
        encoding = fields.get("encoding", "").lower()
        if encoding not in ("", "raw", "txt", "text", "ascii", "hex", "gzip", "gz"):
            raise _unsupported(path, f"in the encoding '{encoding}'")
        several = re.search(r"^LIST\b|%\d*d", fields.get("data file") or fields.get("datafile") or "")
        if axis is not None and (encoding == "hex" or several):
            raise _unsupported(path, "as hexadecimal digits" if encoding == "hex" else "in several files")
        for voxels in _nrrd_voxels(file, path, fields):
            with voxels as stream:
                if encoding in ("gzip", "gz"):
                    for _ in range(int(fields.get("line skip") or fields.get("lineskip") or 0)):
                        stream.readline()
                    _drain(gzip.GzipFile(fileobj=stream))
        if axis is None:
            return Grid(_to_mm(path, units))
        return Grid(_to_mm(path, units), times_ms=times_ms(axes, axis, keys), nrrd=(fields, axes, axis))


_NRRD_LIST = re.compile(r"data ?file:\s*LIST\b", re.IGNORECASE)


def _nrrd_voxels(header: BinaryIO, path: Path, fields: dict[str, str]) -> Iterator[AbstractContextManager[BinaryIO]]:
    """Where the voxels are: behind the header, in the file that it names, or in several."""
    name = fields.get("data file") or fields.get("datafile")
    if name and name.split()[0] == "LIST":
        names = [line.decode("utf-8", "surrogateescape").strip() for line in header]
    elif name and re.search(r"%\d*d", name) and len(words := name.split()) >= 4:
        first, last, step = (int(word) for word in words[1:4])
        if not step:
            raise ValueError("A step of 0.")
        names = [words[0] % number for number in range(first, last + (1 if step > 0 else -1), step)]
    else:
        yield _voxels(header, path, name)
        return
    yield from (_voxels(header, path, one) for one in names if one)


def check_metaimage(path: Path) -> Grid:
    """Checks a MetaImage.

    ITK takes a spacing that is missing for 1 mm and every unit for mm. Of compressed voxels it takes those before a
    damage, or as many as it understands the header to say, and leaves the rest of the memory as it was. Where voxels
    are said to be text it takes zeros for what is no number.

    Raises:
        InputError: The spacing is missing or not above zero, its unit is unknown, or the voxels are damaged.
    """
    with path.open("rb") as file, _reading(path):
        fields = _header(file, "=", lambda line: line.lower().startswith("elementdatafile"))
        if _number(fields.get("ndims", "")) >= 3:
            spacing = [
                _number(word) for word in (fields.get("elementspacing") or fields.get("elementsize", "")).split()
            ]
            check_spacing(path, spacing[:3] if len(spacing) >= 3 else [math.nan] * 3)
        name, checksum = fields.get("elementdatafile", ""), None
        several = name.split()[:1] == ["LIST"] or "%" in name
        compressed, binary = (fields.get(key, "")[:1] in tuple("Tt1") for key in ("compresseddata", "binarydata"))
        if compressed and ("compresseddatasize" not in fields or several):
            raise _unsupported(path, "compressed without CompressedDataSize")
        if compressed or not (binary or several):
            sizes = [int(word) for word in fields["dimsize"].split()]
            values = math.prod(sizes) * int(fields.get("elementnumberofchannels", 1))
            with _voxels(file, path, None if name.upper() == "LOCAL" else name) as voxels:
                if compressed:
                    unpacked = values * _ELEMENT_BYTES[fields["elementtype"].upper()]
                    checksum = _check_zlib(path, voxels, int(fields["compresseddatasize"]), unpacked)
                elif len(np.array(voxels.read().split(), float)) < values:
                    raise damaged(path)
        return Grid(_to_mm(path, [fields.get("distanceunits", "")]), checksum=checksum)


def _check_zlib(path: Path, voxels: BinaryIO, packed: int, unpacked: int) -> int:
    """CRC-32 of what so many packed bytes become; InputError unless they are whole and become at least so many."""
    unpacker, found, checksum = zlib.decompressobj(zlib.MAX_WBITS | 32), 0, 0
    while not unpacker.eof:
        chunk = unpacker.unconsumed_tail
        if not chunk:
            chunk = voxels.read(min(_CHUNK, packed))
            packed -= len(chunk)
        if not chunk:
            raise damaged(path)
        piece = unpacker.decompress(chunk, _CHUNK)
        checksum = zlib.crc32(piece[: max(0, unpacked - found)], checksum)
        found += len(piece)
    if found < unpacked:
        raise damaged(path)
    return checksum


def check_vtk(path: Path) -> Grid:
    """Checks a legacy VTK file. ITK takes a spacing that is missing for 1 mm, and makes up voxels that are missing.

    Raises:
        InputError: There is no spacing, or the file is shorter than its header says.
    """
    with _reading(path):
        with path.open("rb") as file:
            header = file.read(2000).decode("latin-1").upper()
        words = header.split()
        if "SPACING" not in words and "ASPECT_RATIO" not in words:
            check_spacing(path, [math.nan])
        place = words.index("DIMENSIONS")
        voxels = math.prod(int(word) for word in words[place + 1 : place + 4])
        kind = words[words.index("SCALARS") + 2] if "SCALARS" in words else "CHAR"
        size = _VTK_BYTES.get(kind.removeprefix("UNSIGNED_"), 1) if "BINARY" in words else 2
        start = max((found.end() for found in re.finditer(r"(?m)^(SCALARS|LOOKUP_TABLE) .*\n", header)), default=0)
        if path.stat().st_size < start + voxels * size:
            raise damaged(path)
    return Grid()


_VTK_BYTES = {"SHORT": 2, "INT": 4, "FLOAT": 4, "LONG": 8, "DOUBLE": 8}


def check_tiff(path: Path) -> Grid:
    """Refuses a TIFF file, which does not say how far apart its slices are."""
    raise InputError(f"'{path}' is in a format that does not say how far apart slices are: give NIfTI, NRRD or DICOM.")


def _quoted(text: str) -> list[str]:
    return re.findall(r'"([^"]*)"', text) or text.split()


def _to_mm(path: Path, units: list[str]) -> float:
    """Millimetres in the unit of a header; 1 where it does not say one."""
    factors = set()
    for unit in units:
        name = unit.strip().lower()
        with suppress(UnicodeError):  # headers are read as Latin-1
            name = unit.encode("latin-1").decode("utf-8").strip().lower()
        if name not in _UNITS:
            raise InputError(f"'{path}' has lengths in units of '{unit}', which are not known: save it in mm.")
        factors.add(_UNITS[name])
    if len(factors) > 1:
        raise InputError(f"'{path}' has lengths in different units along its axes: save it in mm.")
    return factors.pop() if factors else 1.0


def _unsupported(path: Path, how: str) -> InputError:
    return InputError(f"'{path}' has its voxels stored {how}, which cannot be read: save it again in another way.")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns what Python raises for a file that ends early or breaks its checksum into an InputError."""
    try:
        yield
    except InputError:
        raise
    except (OSError, EOFError, ValueError, LookupError, OverflowError, struct.error, zlib.error) as error:
        raise unreadable(path, error) from error


def open_maybe_gzipped(path: Path) -> BinaryIO:
    """The file, unpacked if it is compressed."""
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if compressed else path.open("rb")


def _drain(file: BinaryIO | gzip.GzipFile) -> int:
    """Bytes from here to the end; of a gzip file unpacked, which verifies its checksum."""
    return sum(len(chunk) for chunk in iter(lambda: file.read(_CHUNK), b""))


def _header(
    file: BinaryIO, separator: str, is_last: Callable[[str], bool], keys: dict[str, str] | None = None
) -> dict[str, str]:
    """Fields of a text header by their names in lower case; the file is left behind the last line.

    Args:
        file: At its beginning.
        separator: Of name and value.
        is_last: Whether a line ends the header.
        keys: Gets the keys of the user's, which NRRD has.
    """
    fields = {}
    while line := file.readline().decode("latin-1"):
        name, _, value = line.partition(separator)
        if not value.startswith("="):
            fields[name.strip().lower()] = value.strip()
        elif keys is not None:
            keys[name.strip()] = value[1:].strip()
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
