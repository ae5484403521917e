"""The headers of all images in some place, each image once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dinsegment.dicom.read.files import DicomFile, has_preamble, is_packed
from dinsegment.dicom.read.header import Header, read_header
from dinsegment.errors import InputError, damaged, unreadable

BESIDE = 500
"""Files beside those of a series that are looked at for others of it."""

_CONTENT = (
    *("SeriesInstanceUID", "InstanceNumber", "NumberOfFrames", "ImagePositionPatient", "ImageOrientationPatient"),
    *("TriggerTime", "AcquisitionTime", "ContentTime", "EchoTime", "InversionTime", "FlipAngle"),
)
"""Attributes of which some differ between images of a series that differ."""

_UNCOMPRESSED = {*(ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)}


def read_headers(
    path: Path,
    files: Sequence[DicomFile],
    warn: Callable[[str], None],
    alive: Callable[[int, int], object] = lambda _done, _of: None,
    failed: list[Path] | None = None,
) -> list[Header]:
    """The headers of the images among files, each read once.

    Args:
        path: Where the files are, for messages.
        files: All that are to be looked at.
        warn: Called with a sentence for what is passed over.
        alive: Called with how many files have been looked at, of how many.
        failed: Gets files that are damaged, which are an error where it is None.

    Raises:
        InputError: There is no image, or one is damaged; such is also a file that is none but is called as the images
            beside it are.
    """
    found = list(each_header(path, files, warn, failed, alive))
    # Pictures of screens beside images are reports; alone they are refused with a reason.
    return [header for header in found if not header.is_capture] or found


def each_header(
    path: Path,
    files: Sequence[DicomFile],
    warn: Callable[[str], None],
    failed: list[Path] | None = None,
    alive: Callable[[int, int], object] = lambda _done, _of: None,
) -> Iterator[Header]:
    """The headers of the images among files, one after the other.

    Arguments and errors as `read_headers`, but that pictures of screens are among them, and that damaged files are put
    into `failed` where it is given.
    """
    names: set[str] = set()
    others: list[DicomFile] = []
    for number, file in enumerate(files):
        alive(number, len(files))
        try:
            header = read_header(file)
        except InputError:
            if failed is None:
                raise
            failed.append(file.path)
            continue
        if header is None:
            others.append(file)
        else:
            names.add(_pattern(file))
            yield header
    packed: list[str] = []
    documents = 0
    for file in others:
        if has_preamble(file):
            documents += 1
            continue
        if is_packed(file):
            packed.append(f"'{file.path}' is packed and was not looked at: unpack it if there is DICOM in it.")
        elif _pattern(file) in names:
            if failed is None:
                raise damaged(file.path)
            failed.append(file.path)
    if not names and failed:
        raise damaged(failed[0])
    if not names:
        files = f"{documents} DICOM file{'s' * (documents > 1)}, none of them an image but, say, reports"
        none = files if documents else "no DICOM images"
        raise InputError(
            f"'{path}' has {none}: give the folder, zip or file that holds the images."
            + "".join(f" {one}" for one in packed[:1])
        )
    for sentence in packed:
        warn(sentence)


def _pattern(file: DicomFile) -> str:
    """A file's name with its numbers, also hexadecimal ones and UIDs, replaced."""
    return re.sub(r"[0-9a-fA-F.]*\d[0-9a-fA-F.]*", "0", file.path.name)


def without_copies(series: list[Header], warn: Callable[[str], None]) -> list[Header]:
    """Each image once, where some are there again under other names.

    They are copies where they have the same UID and the same bytes. They are, too, where they show the same place at
    the same time in the same series and have the same UID, or one is compressed and the other is not, as after a second
    export: of these the one that is not compressed counts, or else the first. What merely has the same UID, as after a
    careless anonymisation, is no copy.
    """
    by_uid: dict[str, list[Header]] = {}
    for header in series:
        by_uid.setdefault(header.text("SOPInstanceUID"), []).append(header)
    same: dict[Header, Header] = {}
    for group in by_uid.values():
        same |= _same_files(group) if len(group) > 1 else {}
    again = _exported_again([header for header in series if header not in same])
    _warn_of_copies(same, "is the same file as", warn)
    _warn_of_copies(again, "has the same image as", warn)
    return [header for header in series if header not in same and header not in again]


def _same_files(group: Sequence[Header]) -> dict[Header, Header]:
    """Of files with one UID those that have the bytes of an earlier one, and that one."""
    first: dict[tuple[int, int, bytes], Header] = {}
    sizes = Counter((header.offset, header.length) for header in group)
    found = {}
    for header in group:
        size = header.offset, header.length
        if sizes[size] > 1:
            original = first.setdefault((*size, _digest(header.file)), header)
            if original is not header:
                found[header] = original
    return found


def _exported_again(series: Sequence[Header]) -> dict[Header, Header]:
    """The files that show what another one shows, and that one."""
    by_content: dict[tuple[str, ...], list[Header]] = {}
    for header in series:
        if header.text("InstanceNumber"):
            # A compressed image is derived, but still of the same kind.
            kind = header.text("ImageType").split("\\")[2:]
            by_content.setdefault((*map(header.text, _CONTENT), *kind), []).append(header)
    found = {}
    for headers in by_content.values():
        best = next((one for one in headers if one.transfer_syntax in _UNCOMPRESSED), headers[0])
        plain = best.transfer_syntax in _UNCOMPRESSED
        for header in headers:
            same = header.text("SOPInstanceUID") == best.text("SOPInstanceUID") != ""
            if header is not best and (same or (plain and header.transfer_syntax not in _UNCOMPRESSED)):
                found[header] = best
    return found


def _warn_of_copies(copies: dict[Header, Header], words: str, warn: Callable[[str], None]) -> None:
    if copies:
        copy, original = next(iter(copies.items()))
        more = f", and {len(copies) - 1} more are there twice" if len(copies) > 1 else ""
        warn(f"'{copy.file.path}' {words} '{original.file.path}'{more}: each is read once.")


def _digest(file: DicomFile) -> bytes:
    digest = sha256()
    try:
        with file.open() as stream:
            for chunk in iter(lambda: stream.read(1 << 20), b""):
                digest.update(chunk)
    except Exception as error:  # a damaged archive raises whatever it stumbles upon
        raise unreadable(file.path, error) from error
    return digest.digest()


def look_beside(path: Path, series: list[Header], read: set[Path], warn: Callable[[str], None]) -> None:
    """Says so where images of the series lie beside the file, or beside those that a DICOMDIR names."""
    uid, known = series[0].text("SeriesInstanceUID"), {header.text("SOPInstanceUID") for header in series}
    folders = sorted({header.file.path.parent for header in series})
    if not uid or not all(folder.is_dir() for folder in folders):  # those of an archive are not
        return
    with suppress(OSError):
        beside = [file for folder in folders for file in sorted(folder.iterdir()) if file not in read]
        for file in beside[:BESIDE]:
            with suppress(InputError):
                header = read_header(DicomFile(file, partial(file.open, "rb"))) if file.is_file() else None
                if header and header.text("SeriesInstanceUID") == uid and header.text("SOPInstanceUID") not in known:
                    warn(
                        f"'{file}' is of the same series, but was not read, since only '{path}' was given: give the "
                        "folder for all images of the series."
                    )
                    return
