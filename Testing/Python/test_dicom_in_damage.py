"""Two hundred damaged inputs: bytes flipped, replaced, cleared, lost or cut off, in files of every kind that is read.

Each of them has to be refused in a sentence or to give the very same volumes in the very same place. What may differ:

- Voxels. A flip among uncompressed pixels changes one of them and nothing in the file can tell; a rescale slope that
  changed to another number cannot be known either.
- A hundredth of a slice's distance. A last digit of a position that turned from 4 to 5 is less than what scanners round
  by; what is more makes the slices uneven or shifts one of them sideways, which is refused.
- Nothing else may, for several slices tell of each other. A single slice has no neighbours: where the damage turned a
  digit of its own position or pixel size into another digit, no reader can know. Then it has to be exactly where the
  file now says, judged by pydicom's own reading of it.
"""

from __future__ import annotations

import io
import logging
import shutil
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_cases import SERIES, Series, enhanced, headers, pixels
from pydicom.fileset import FileSet
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from dinsegment.errors import InputError
from dinsegment.geometry import RAS_FROM_LPS
from dinsegment.images import read_volumes
from dinsegment.images.volume import Volume

SAX = SERIES["oblique"]
SECONDS = 5.0
"""No input takes so long; those of these tests are read in hundredths of a second."""


def _save(folder: Path, images: list[pydicom.FileDataset], syntax: str | None = None) -> Path:
    for n, image in enumerate(images):
        if syntax == ImplicitVRLittleEndian:
            image.file_meta.TransferSyntaxUID = syntax
        elif syntax is not None:
            image.compress(syntax)
        implicit = True if syntax == ImplicitVRLittleEndian else None
        image.save_as(folder / f"IM{n:04d}", implicit_vr=implicit, enforce_file_format=True)
    return folder


def _cine(folder: Path) -> Path:
    images = []
    for phase in range(2):
        for image in headers(SAX):
            image.TriggerTime, image.SeriesInstanceUID = str(15 + 40 * phase), "1.2.3.4"
            images.append(image)
    return _save(folder, images)


def _zip(folder: Path) -> Path:
    _save(folder, headers(SAX))
    with zipfile.ZipFile(folder / "export.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for image in sorted(folder.glob("IM*")):
            file.write(image, f"STUDY/{image.name}")
            image.unlink()
    return folder / "export.zip"


def _disc(folder: Path) -> Path:
    files = FileSet()
    for image in headers(SAX):
        files.add(image)
    files.write(folder / "DISC")
    return folder / "DISC/DICOMDIR"


def _single(folder: Path) -> Path:
    return _save(folder, headers(SERIES["single slice"])) / "IM0000"


MADE = {
    "MR": lambda folder: _save(folder, headers(SAX)),
    "CT, implicit": lambda folder: _save(folder, headers(SERIES["CT"]), ImplicitVRLittleEndian),
    "RLE": lambda folder: _save(folder, headers(SERIES["sagittal"]), RLELossless),
    "JPEG 2000": lambda folder: _save(folder, headers(Series(shape=(3, 40, 40))), JPEG2000Lossless),
    "JPEG-LS": lambda folder: _save(folder, headers(Series(shape=(3, 40, 40))), JPEGLSLossless),
    "enhanced": lambda folder: _save(folder, [enhanced(SAX, 2)]) / "IM0000",
    "cine": _cine,
    "single": _single,
    "zip": _zip,
    "DICOMDIR": _disc,
}
REAL = ("Sunnybrook", "TotalSegmentator")


def _copy(files: list[Path], folder: Path) -> Path:
    for file in files:
        shutil.copyfile(file, folder / file.name)
    return folder


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, tuple[Path, Path]]:
    """Of each kind the folder that holds it and what is given to be read."""
    made = {}
    for name, make in MADE.items():
        folder = tmp_path_factory.mktemp(name.replace(" ", "").replace(",", ""))
        made[name] = folder, make(folder)
    return made


def damage(data: bytes, noise: np.random.Generator, head: int) -> bytes:
    """Data with one damage, mostly in its first bytes, where the header is."""
    changed = bytearray(data)
    at = int(noise.integers(0, len(data) if noise.random() < 0.3 else min(head, len(data))))
    match int(noise.integers(0, 6)):
        case 0 | 1:
            changed[at] ^= 1 << int(noise.integers(0, 8))
        case 2:
            changed[at] = int(noise.integers(0, 256))
        case 3:
            changed[at : at + 16] = bytes(len(changed[at : at + 16]))
        case 4:
            del changed[at : at + int(noise.integers(1, 9))]
        case _:
            del changed[at:]
    return bytes(changed)


def corners(volume: Volume) -> np.ndarray:
    k, j, i = volume.shape
    return (volume.ijk_to_ras @ np.array([(x, y, z, 1) for x in (0, i) for y in (0, j) for z in (0, k)]).T)[:3]


def is_same_place(volumes: list[Volume], expected: list[Volume]) -> bool:
    if [volume.shape for volume in volumes] != [volume.shape for volume in expected]:
        return False
    moved = max(np.abs(corners(a) - corners(b)).max() for a, b in zip(volumes, expected, strict=True))
    return moved <= 0.02 * expected[0].spacing[0]


def is_where_the_header_says(volume: Volume, data: bytes) -> bool:
    header = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
    axes = np.reshape(np.array(header.ImageOrientationPatient, float), (2, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    spacing = np.array(header.PixelSpacing, float)
    ijk_to_lps = np.eye(4)
    ijk_to_lps[:3, 0], ijk_to_lps[:3, 1] = axes[0] * spacing[1], axes[1] * spacing[0]
    ijk_to_lps[:3, 2] = np.cross(*axes) * float(header.get("SpacingBetweenSlices") or header.SliceThickness)
    ijk_to_lps[:3, 3] = np.array(header.ImagePositionPatient, float)
    return volume.shape == (1, header.Rows, header.Columns) and np.allclose(
        volume.ijk_to_ras, RAS_FROM_LPS @ ijk_to_lps, atol=1e-6
    )


def check(given: Path, harmed: Path, expected: list[Volume], noise: np.random.Generator) -> str:
    """Damages a file, reads, puts the file back; gives `refused` or `read`."""
    original = harmed.read_bytes()
    data = damage(original, noise, 2200)
    harmed.write_bytes(data)
    started = time.perf_counter()
    try:
        volumes = read_volumes(given)
    except InputError as error:
        assert str(error) and "\n" not in str(error) and len(str(error)) < 1000
        return "refused"
    else:
        alone = expected[0].shape[0] == 1
        assert is_same_place(volumes, expected) or (alone and is_where_the_header_says(volumes[0], data))
        return "read"
    finally:
        assert time.perf_counter() - started < SECONDS
        harmed.write_bytes(original)


def run(name: str, folder: Path, given: Path, count: int) -> None:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    if name == "DICOMDIR":
        files += [given] * 3
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # none of pydicom's warnings reaches a user
        expected = read_volumes(given)
        outcomes = []
        for seed in range(count):
            noise = np.random.default_rng(seed)
            harmed = files[noise.integers(len(files))]
            try:
                outcomes.append(check(given, harmed, expected, noise))
            except AssertionError as error:
                raise AssertionError(f"{name}, seed {seed}, {harmed.name}: {error}") from error
        assert all(np.array_equal(a.array, b.array) for a, b in zip(read_volumes(given), expected, strict=True))
    assert outcomes.count("refused") >= count // 4  # the damage is real
    if name != "zip":  # where a checksum tells of everything
        assert "read" in outcomes  # and not every one is a reason to refuse


@pytest.mark.parametrize("name", MADE)
def test_damaged_files_are_refused_or_read_where_they_are(name, sources, caplog):
    caplog.set_level(logging.CRITICAL)
    run(name, *sources[name], count=18)


@pytest.mark.parametrize("name", REAL)
def test_damaged_files_of_real_scanners(name, request, tmp_path, caplog):
    caplog.set_level(logging.CRITICAL)
    if name == "Sunnybrook":
        folder = request.getfixturevalue("sunnybrook_folder")
        _copy([folder / f"{n}.dcm" for n in (1, 21, 41)], tmp_path)
    else:
        folder = request.getfixturevalue("totalsegmentator_folder")
        _copy(sorted(folder.glob("CT*"))[:2], tmp_path)
    run(name, tmp_path, tmp_path, count=10)


@pytest.mark.parametrize("name", ("MR", "JPEG 2000", "enhanced", "DICOMDIR"))
def test_a_file_that_is_cut_anywhere_is_never_read(name, sources):
    folder, given = sources[name]
    last = given if name == "DICOMDIR" else max(file for file in folder.rglob("*") if file.is_file())
    original = last.read_bytes()
    try:
        # Also within what tells that it is an image at all.
        for size in {*np.linspace(0, len(original) - 1, 25).astype(int), *range(128, 230, 2), len(original) - 2}:
            last.write_bytes(original[:size])
            with pytest.raises(InputError):
                read_volumes(given)
    finally:
        last.write_bytes(original)


@pytest.mark.parametrize("name, mark, at", [("JPEG 2000", b"\xff\x4f\xff\x51", 9), ("JPEG-LS", b"\xff\xf7", 5)])
def test_a_compressed_image_that_became_a_thousand_times_larger_is_not_decoded(name, mark, at, sources):
    folder, given = sources[name]
    harmed = max(folder.iterdir())
    original = harmed.read_bytes()
    changed = bytearray(original)
    changed[original.index(mark) + at] = 0x10
    harmed.write_bytes(changed)
    try:
        with pytest.raises(InputError, match="damaged") as caught:
            read_volumes(given)
    finally:
        harmed.write_bytes(original)
    assert "another size" in str(caught.value.__cause__)


def test_a_digit_of_a_position_that_became_another_is_seen(tmp_path):
    """Wherever it is among four slices, and by however little, as long as it is more than rounding."""
    given = _save(tmp_path, headers(SAX))
    noise = np.random.default_rng(0)
    for file in sorted(tmp_path.iterdir()):
        original = file.read_bytes()
        start = original.index(b"\x20\0\x32\0DS") + 8
        length = int.from_bytes(original[start - 2 : start], "little")
        digits = [n for n in range(start, start + length) if chr(original[n]).isdigit()]
        for at in digits:
            changed = bytearray(original)
            changed[at] = ord("0") + (original[at] - ord("0") + int(noise.integers(1, 10))) % 10
            file.write_bytes(changed)
            before, after = (
                np.array([float(x) for x in data[start : start + length].split(b"\\")]) for data in (original, changed)
            )
            try:
                (volume,) = read_volumes(given)
            except InputError as error:
                assert any(word in str(error) for word in ("mm apart", "sideways", "tilted"))
            else:
                assert np.abs(before - after).max() <= 0.02 * SAX.step
                assert np.abs(volume.ijk_to_ras - SAX.ijk_to_ras).max() <= 0.02 * SAX.step
                assert np.array_equal(volume.array, pixels(SAX))
        file.write_bytes(original)
