"""The pixels of DICOM images, decoded by pydicom and its plugins."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from pydicom import dcmread
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes

from dinsegment.dicom.read import jpeg
from dinsegment.dicom.read.frames import Frame
from dinsegment.dicom.read.header import UNDEFINED_LENGTH, Header, stored_value
from dinsegment.dicom.read.stack import overlap
from dinsegment.errors import InputError, damaged, unreadable
from dinsegment.memory import check_memory

_ITEM, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
_STARTS_OF_FRAME = {0xFFF7, *range(0xFFC0, 0xFFD0)} - {0xFFC4, 0xFFC8, 0xFFCC}


@dataclass(frozen=True, eq=False)
class _Wanted:
    """A picture that is asked for, and where it goes.

    Attributes:
        frame: The picture.
        plane: View of the voxels that it covers.
        padded: View of where there is no image; None where its file has no padding.
        part: The rows and columns of it that are on the grid.
    """

    frame: Frame
    plane: np.ndarray
    padded: np.ndarray | None
    part: tuple[slice, slice]


def read_pixels(
    phases: Sequence[Sequence[Frame]],
    shape: tuple[int, int, int] | None = None,
    offsets: Sequence[tuple[int, int]] | None = None,
    as_stored: bool = False,
) -> list[np.ndarray]:
    """The voxels of each phase: (k, rows, columns), after the rescale slope and intercept of each frame.

    They are int16 where slopes and intercepts are whole numbers and all values fit, as in CT, and float32 otherwise.
    What is large is bright in all of them, and padding (Pixel Padding Value and Range Limit, DICOM PS3.3 C.7.5.1.1.2)
    is dark. So is what no picture covers.

    Args:
        phases: The slices of each phase. A frame may be in several.
        shape: Voxels (k, j, i) of each phase; as the first frame has them if None.
        offsets: Row and column at which the first pixel of each slice lies; all at the first if None.
        as_stored: Leaves padding and images in which what is large is dark (MONOCHROME1) as they are, as most other
            programs do.

    Raises:
        InputError: A file is damaged, incomplete, or compressed in a way that cannot be read.
    """
    shape = shape or (len(phases[0]), *phases[0][0].size)
    places = offsets or [(0, 0)] * shape[0]
    check_memory(phases[0][0].path, 6 * math.prod((len(phases), *shape)))  # float32, int16
    arrays = [np.empty(shape, np.float32) for _ in phases]
    paddings = [[_padding_of(frame, as_stored) for frame in phase] for phase in phases]
    outside = [np.zeros(shape, bool) if any(padding) else None for padding in paddings]
    covered = None if offsets is None else np.zeros(shape, bool)
    wanted: dict[Header, list[_Wanted]] = {}
    for phase, array, padded in zip(phases, arrays, outside, strict=True):
        for k, (frame, offset) in enumerate(zip(phase, places, strict=True)):
            there, part = overlap(shape[1:], frame.size, offset)
            if covered is not None:
                covered[k][there] = True
            wanted.setdefault(frame.header, []).append(
                _Wanted(frame, array[k][there], None if padded is None else padded[k][there], part)
            )
    # The decoders of compressed images let other threads work.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for _ in pool.map(_fill, wanted, wanted.values()):
            pass
    if covered is not None:
        for array in arrays:
            array[~covered] = array[covered].min()
    if not as_stored:
        _make_sense(arrays, outside, phases[0][0].is_inverted)
    for number, phase in enumerate(phases):
        if all(frame.slope % 1 == frame.intercept % 1 == 0 for frame in phase):
            arrays[number] = _as_int16(arrays[number])
    return arrays


def _padding_of(frame: Frame, as_stored: bool) -> tuple[int, int] | None:
    """Stored values from the first to the last that mean that there is no image; None where all are image."""
    value = None if as_stored else stored_value(frame.header.dataset, "PixelPaddingValue")
    if value is None:
        return None
    limit = stored_value(frame.header.dataset, "PixelPaddingRangeLimit")
    limit = value if limit is None else limit
    return min(value, limit), max(value, limit)


def _make_sense(arrays: list[np.ndarray], outside: list[np.ndarray | None], inverted: bool) -> None:
    """Makes, in place, what is large bright, and padding as dark as the darkest of the image.

    Padding that is darker than that, but not by more than the image's own range, is dark as it is.
    """
    if not inverted and not any(padded is not None and padded.any() for padded in outside):
        return
    lows, highs = [], []
    for array, padded in zip(arrays, outside, strict=True):
        image = array if padded is None else array[~padded]
        if image.size:
            lows.append(float(image.min()))
            highs.append(float(image.max()))
    if not lows:  # there is nothing but padding
        return
    low, high = min(lows), max(highs)
    for array, padded in zip(arrays, outside, strict=True):
        if inverted:
            np.subtract(low + high, array, out=array)
        if padded is not None:
            array[padded & ((array > low) | (array < low - (high - low)))] = low


def _as_int16(array: np.ndarray) -> np.ndarray:
    """Whole numbers (k, rows, columns) in half the memory, if all of them fit."""
    limits = np.iinfo(np.int16)
    fit = limits.min <= array.min() and array.max() <= limits.max
    return array.astype(np.int16) if fit else array


def check_pixels(header: Header) -> None:
    """Raises InputError unless the header describes grey whole-numbered pixels that the file has room for."""
    path = header.file.path
    options = _options(header)
    if None in options.values():
        raise damaged(path)
    bits, stored, high = options["bits_allocated"], options["bits_stored"], header.integer("HighBit")
    if bits not in (8, 16, 32) or high not in (None, stored - 1) or not 0 < stored <= bits:
        raise InputError(f"'{path}' has pixels of {stored} in {bits} bits, which is no grey image: export it again.")
    if options["rows"] < 1 or options["columns"] < 1 or options["pixel_representation"] not in (0, 1):
        raise damaged(path)
    decoder = _decoder(header)
    if decoder.is_encapsulated != (header.length == UNDEFINED_LENGTH):
        raise damaged(path)
    if decoder.is_native and header.length < _native_size(header):
        raise damaged(path)


def _native_size(header: Header) -> int:
    """Bytes of uncompressed pixels; what lies behind them is padding, which readers have to accept."""
    options = _options(header)
    return math.prod((options["rows"], options["columns"], options["number_of_frames"], options["bits_allocated"] // 8))


def _options(header: Header) -> dict[str, int | str | None]:
    """What a decoder needs to know (DICOM PS3.3 C.7.6.3); None where it is missing."""
    return {
        "rows": header.integer("Rows"),
        "columns": header.integer("Columns"),
        "bits_allocated": header.integer("BitsAllocated"),
        "bits_stored": header.integer("BitsStored"),
        "pixel_representation": header.integer("PixelRepresentation"),
        "number_of_frames": header.integer("NumberOfFrames") or 1,
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "pixel_keyword": "PixelData",
    }


def _decoder(header: Header) -> Decoder:
    uid = UID(header.transfer_syntax)
    try:
        decoder = get_decoder(uid)
    except NotImplementedError as error:
        raise _unreadable(header, uid) from error
    if jpeg.is_available(uid) and jpeg.NAME not in decoder.available_plugins:
        decoder.add_plugin(jpeg.NAME, (jpeg.__name__, "decode_frame"))
    if not decoder.is_available:
        raise _unreadable(header, uid)
    return decoder


def _unreadable(header: Header, uid: UID) -> InputError:
    return InputError(
        f"'{header.file.path}' is compressed in a way that cannot be read ({uid.name}): export it uncompressed."
    )


def _fill(header: Header, wanted: list[_Wanted]) -> None:
    """Decodes the frames of a file, each into its planes, and marks where there is none."""
    by_number: dict[int, list[_Wanted]] = {}
    for one in wanted:
        by_number.setdefault(one.frame.number or 1, []).append(one)
    decoder = _decoder(header)
    try:
        decoded = 0
        for stored in _decode(header, decoder):
            decoded += 1
            for one in by_number.get(decoded, ()):
                _put(stored[one.part], one)
        if decoded != (header.integer("NumberOfFrames") or 1):
            raise ValueError("Frames are missing.")
    except Exception as error:  # pydicom and the decoders raise whatever they stumble upon
        raise unreadable(header.file.path, error) from error


def _put(stored: np.ndarray, one: _Wanted) -> None:
    """Puts stored values, rescaled, where they go."""
    frame = one.frame
    padding = None if one.padded is None else _padding_of(frame, as_stored=False)
    if padding is not None:
        one.padded[:] = (stored >= padding[0]) & (stored <= padding[1])
    # In double precision, since stored values may have 32 bits.
    one.plane[:] = stored if (frame.slope, frame.intercept) == (1, 0) else stored * frame.slope + frame.intercept


def _decode(header: Header, decoder: Decoder) -> Iterator[np.ndarray]:
    """Stored values (rows, columns) of each frame."""
    with header.file.open() as stream:
        if header.transfer_syntax == DeflatedExplicitVRLittleEndian:
            data = dcmread(stream).PixelData
        else:
            stream.seek(header.offset)
            data = stream.read()  # to the end, where a zip archive compares its checksum
    if header.length == UNDEFINED_LENGTH:
        data = _encapsulated(data, (header.integer("Rows"), header.integer("Columns")))
    elif len(data) < header.length:
        raise ValueError("It ends within its pixel data.")
    else:
        size = _native_size(header)
        behind = data[size : header.length]
        # Less than a row is padding, whatever it is; more of another content belongs to an image of another size.
        if len(behind) >= size // (header.integer("Rows") or 1) and any(behind):
            raise ValueError("It has more pixels than its header says.")
        data = data[:size]
    for array, _ in decoder.iter_array(data, decoding_plugin=_plugin(decoder.UID), **_options(header)):
        yield array


def _plugin(syntax: UID) -> str:
    """The same decoder on every machine, whatever else is installed; pydicom's own where there is one."""
    if jpeg.is_available(syntax):
        return jpeg.NAME
    if syntax in JPEG2000TransferSyntaxes:
        return "pylibjpeg"  # with pylibjpeg-openjpeg
    return "pyjpegls" if syntax in JPEGLSTransferSyntaxes else ""


def _encapsulated(data: bytes, size: tuple[int | None, int | None]) -> bytes:
    """The items of compressed pixel data (DICOM PS3.5 A.4) up to the mark behind the last one.

    Raises:
        struct.error: It is missing.
        ValueError: The items do not follow one another, or hold images of another size (rows, columns), for which a
            decoder would take any time and memory.
    """
    start = 0
    while True:
        group, element, length = struct.unpack_from("<HHL", data, start)
        start += 8
        if (group, element) == _SEQUENCE_END:
            return data[:start]
        if (group, element) != _ITEM or start + length > len(data):
            raise ValueError("Its compressed pixel data is cut.")
        if _coded_size(data[start : start + length]) not in (None, size):
            raise ValueError("Its compressed image has another size.")
        start += length


def _coded_size(code: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 image says it has; None for other data."""
    if code.startswith(b"\xff\x4f\xff\x51"):  # JPEG 2000: start of codestream, then its size (ISO 15444-1 A.5.1)
        right, bottom, left, top = struct.unpack_from(">4L", code, 8)
        return bottom - top, right - left
    if code.startswith(b"\xff\xd8"):  # start of image, then segments up to the start of frame (ISO 10918-1 B.2)
        start = 2
        while True:
            marker, length = struct.unpack_from(">HH", code, start)
            if marker in _STARTS_OF_FRAME:
                rows, columns = struct.unpack_from(">HH", code, start + 5)
                return rows, columns
            start += 1 if marker == 0xFFFF else 2 + length  # markers may have fill bytes before them
    return None
