"""What ITK passes over: units, contradictions, voxels that are missing or elsewhere; and the reason that is given."""

from __future__ import annotations

import bz2
import errno
import gzip
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from test_images import fails

from dinsegment import memory
from dinsegment.errors import InputError
from dinsegment.images import read_volume
from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import Volume
from dinsegment.inference.plausible import checked_image, narrowest_mm
from dinsegment.tasks import ABDOMEN, HEART

ARRAY = np.random.default_rng(0).integers(0, 1000, (4, 5, 6)).astype(np.int16)


def image_file(path: Path, spacing=(1.5, 1.25, 8.0), origin=(10.0, 20.0, 30.0), packed: bool = False) -> Path:
    image = sitk.GetImageFromArray(ARRAY)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    sitk.WriteImage(image, str(path), packed)
    return path


def change(path: Path, pattern: bytes, new: bytes) -> Path:
    content, count = re.subn(pattern, new, path.read_bytes(), count=1)
    assert count == 1
    path.write_bytes(content)
    return path


def patch(path: Path, **values: float) -> Path:
    """Sets fields of a NIfTI-1 header, `f252=...` for a float, `h254=...` for a short and `b123=...` for a byte."""
    content = bytearray(path.read_bytes())
    for field, value in values.items():
        struct.pack_into(f"<{field[0]}", content, int(field[1:]), value)
    path.write_bytes(content)
    return path


@pytest.fixture
def nifti(tmp_path):
    return image_file(tmp_path / "image.nii")


SFORM = {"f280": 1.5, "f300": 1.25, "f320": 8.0}


class TestUnits:
    @pytest.mark.parametrize(
        ("unit", "mm"), [("mm", 1), ("um", 1e-3), ("\u00b5m", 1e-3), ("microns", 1e-3), ("m", 1e3), ("cm", 10), ("", 1)]
    )
    def test_nrrd(self, tmp_path, unit, mm):
        path = image_file(tmp_path / "image.nrrd")
        units = f'space units: "{unit}" "{unit}" "{unit}"\nkinds:'.encode()
        volume = read_volume(change(path, b"kinds:", units))
        assert np.allclose(volume.spacing, np.array((8, 1.25, 1.5)) * mm)
        assert np.allclose(volume.ijk_to_ras[:3, 3], np.array((-10, -20, 30)) * mm)

    def test_nrrd_without_directions(self, tmp_path):
        path = tmp_path / "image.nrrd"
        header = 'NRRD0004\ntype: short\ndimension: 3\nsizes: 6 5 4\nspacings: 1500 1250 8000\nunits: "um" "um" "um"\n'
        path.write_bytes(f"{header}endian: little\nencoding: raw\n\n".encode() + ARRAY.tobytes())
        assert np.allclose(read_volume(path).spacing, (8, 1.25, 1.5))

    @pytest.mark.parametrize(
        ("units", "words"), [('"mm" "mm" "um"', "different units"), ('"a" "a" "a"', "units of 'a'")]
    )
    def test_units_that_cannot_be_meant(self, tmp_path, units, words):
        path = image_file(tmp_path / "image.nrrd")
        fails(change(path, b"kinds:", f"space units: {units}\nkinds:".encode()), words)

    @pytest.mark.parametrize(("unit", "mm"), [("mm", 1), ("um", 1e-3), ("cm", 10)])
    def test_metaimage(self, tmp_path, unit, mm):
        path = image_file(tmp_path / "image.mha")
        volume = read_volume(change(path, b"ElementSpacing", f"DistanceUnits = {unit}\nElementSpacing".encode()))
        assert np.allclose(volume.spacing, np.array((8, 1.25, 1.5)) * mm)

    @pytest.mark.parametrize(("unit", "mm"), [(1, 1e3), (2, 1), (3, 1e-3)])
    def test_nifti(self, nifti, unit, mm):
        assert np.allclose(read_volume(patch(nifti, b123=unit)).spacing, np.array((8, 1.25, 1.5)) * mm)


class TestPixdimAndSform:
    def test_that_agree_say_nothing(self, nifti):
        assert read_volume(nifti).warnings == ()

    @pytest.mark.parametrize("unit", [2, 3])
    def test_a_pixdim_that_nobody_has_set(self, nifti, unit):
        volume = read_volume(patch(nifti, f80=1, f84=1, f88=1, b123=unit))
        assert np.allclose(volume.spacing, np.array((8, 1.25, 1.5)) * (1e-3 if unit == 3 else 1))
        assert np.array_equal(volume.array, ARRAY) and "pixdim" in volume.warnings[0] and "sform" in volume.warnings[0]

    def test_an_sform_of_unit_vectors(self, nifti):
        volume = read_volume(patch(nifti, f280=-1, f300=-1, f320=1))
        assert np.allclose(volume.spacing, (8, 1.25, 1.5))
        assert "1.5 x 1.25 x 8 mm by its pixdim, which was used" in volume.warnings[0]

    def test_two_spacings_of_which_either_may_be_right(self, nifti):
        volume = read_volume(patch(nifti, f80=2, f84=2, f88=5))
        assert np.allclose(volume.spacing, (5, 2, 2)) and len(volume.warnings) == 1

    def test_acdc_is_such_and_stays_as_it_is(self, acdc_folder):
        path = sorted(acdc_folder.glob("patient001/*_frame01.nii.gz"))[0]
        volume, image = read_volume(path), sitk.ReadImage(str(path))
        assert np.array_equal(volume.array, sitk.GetArrayFromImage(image))
        assert volume.spacing.tolist() == pytest.approx(image.GetSpacing()[::-1], abs=0)

    @pytest.mark.parametrize(("degrees", "accepted"), [(0.0066, True), (0.06, True), (0.3, False)])
    def test_axes_that_are_not_perpendicular(self, nifti, degrees, accepted):
        patch(nifti, h252=0, h254=2, f304=8 * np.sin(np.radians(degrees)))
        if not accepted:
            fails(nifti, "not perpendicular")
            return
        volume = read_volume(nifti)
        axes = volume.ijk_to_ras[:3, :3] / volume.spacing[::-1]
        assert np.array_equal(volume.array, ARRAY) and np.allclose(axes.T @ axes, np.eye(3), atol=1e-6)


class TestStoredInAnUnusualWay:
    @pytest.mark.parametrize("skipped", [0, 2])
    def test_gzip_with_lines_and_bytes_to_skip(self, tmp_path, skipped):
        path = image_file(tmp_path / "image.nhdr", packed=True)
        data = tmp_path / "image.raw.gz"
        data.write_bytes(b"a line\n" * skipped + gzip.compress(b"four" + ARRAY.tobytes()))
        change(path, b"data file:", f"line skip: {skipped}\nbyte skip: 4\ndata file:".encode())
        assert np.array_equal(read_volume(path).array, ARRAY)

    def test_damage_behind_skipped_lines_is_seen(self, tmp_path):
        path = image_file(tmp_path / "image.nhdr", packed=True)
        packed = bytearray(gzip.compress(ARRAY.tobytes()))
        packed[-6] ^= 1
        (tmp_path / "image.raw.gz").write_bytes(b"a line\n" + packed)
        fails(change(path, b"data file:", b"line skip: 1\ndata file:"), "damaged")

    @pytest.mark.parametrize("names", ["LIST\n0.gz\n1.gz\n2.gz\n3.gz\n", "%d.gz 0 3 1\n"])
    def test_a_file_for_each_slice(self, tmp_path, names):
        path = image_file(tmp_path / "image.nhdr", packed=True)
        change(path, b"data file:.*\n", f"data file: {names}".encode())
        for k, plane in enumerate(ARRAY):
            (tmp_path / f"{k}.gz").write_bytes(gzip.compress(plane.tobytes()))
        assert np.array_equal(read_volume(path).array, ARRAY)
        (tmp_path / "2.gz").unlink()
        text = fails(path, "2.gz", "cannot be opened")
        assert "damaged" not in text

    def test_bzip2(self, tmp_path):
        path = image_file(tmp_path / "image.nrrd")
        header, _, data = path.read_bytes().partition(b"\n\n")
        path.write_bytes(header.replace(b"encoding: raw", b"encoding: bzip2") + b"\n\n" + bz2.compress(data))
        assert "damaged" not in fails(path, "bzip2", "save it again")

    def test_nifti_of_single_bits(self, nifti):
        assert "damaged" not in fails(patch(nifti, h70=1, h72=1), "single bits")

    @pytest.mark.parametrize("name", ["image.nhdr", "image.mhd", "image.hdr"])
    def test_the_file_with_the_voxels_is_missing(self, tmp_path, name):
        image_file(tmp_path / name.replace(".hdr", ".img"))
        for file in list(tmp_path.iterdir()):
            if file.suffix in (".raw", ".zraw", ".img"):
                file.unlink()
        fails(tmp_path / name)

    def test_a_file_that_the_system_does_not_open(self, nifti, monkeypatch):
        def refuse(*_):
            raise PermissionError(errno.EACCES, "Permission denied", str(nifti))

        monkeypatch.setattr(Path, "open", refuse)
        assert "damaged" not in fails(nifti, "cannot be opened", "permission denied")


class TestMetaImage:
    def test_without_a_spacing(self, tmp_path):
        fails(change(image_file(tmp_path / "image.mha"), b"ElementSpacing = .*\n", b""), "how large its voxels are")

    def test_element_size_is_a_spacing(self, tmp_path):
        path = change(image_file(tmp_path / "image.mha"), b"ElementSpacing", b"ElementSize")
        assert np.allclose(read_volume(path).spacing, (8, 1.25, 1.5))

    def test_compressed_without_its_size(self, tmp_path):
        path = image_file(tmp_path / "image.mha", packed=True)
        assert np.array_equal(read_volume(path).array, ARRAY)
        text = fails(change(path, b"CompressedDataSize = .*\n", b""), "CompressedDataSize")
        assert "damaged" not in text

    @pytest.mark.parametrize("what", ["smaller size", "fewer voxels"])
    def test_what_would_leave_memory_as_it_was(self, tmp_path, what):
        path = image_file(tmp_path / "image.mha", packed=True)
        if what == "smaller size":
            change(path, b"CompressedDataSize = .*", b"CompressedDataSize = 50")
        else:
            packed = zlib.compress(ARRAY[:3].tobytes())
            header = path.read_bytes().partition(b"LOCAL\n")[0] + b"LOCAL\n"
            size = f"CompressedDataSize = {len(packed)}".encode()
            path.write_bytes(re.sub(b"CompressedDataSize = .*", size, header) + packed)
        fails(path, "damaged")

    @pytest.mark.parametrize("big_endian", [False, True])
    def test_a_header_that_is_understood_otherwise_would_leave_memory_as_it_was(self, tmp_path, big_endian):
        """A line that ITK takes for the beginning of the next one, which it then does not know."""
        path = image_file(tmp_path / "image.mha", packed=True)
        if big_endian:
            packed = zlib.compress(ARRAY.astype(ARRAY.dtype.newbyteorder(">")).tobytes())
            header = path.read_bytes().partition(b"LOCAL\n")[0] + b"LOCAL\n"
            header = re.sub(b"ByteOrderMSB = False", b"ByteOrderMSB = True", header)
            path.write_bytes(re.sub(b"DataSize = .*", f"DataSize = {len(packed)}".encode(), header) + packed)
        assert np.array_equal(read_volume(path).array, ARRAY)
        content = path.read_bytes()
        fails(change(path, b"CompressedDataSize", b"CompressedDataS\nCompressedDataSize"), "damaged")
        path.write_bytes(content)
        fails(change(path, b"CompressedData = True\nCom", b"CompressedData = Tru\n"), "CompressedDataSize")

    def test_voxels_as_text(self, tmp_path):
        path = change(image_file(tmp_path / "image.mha"), b"BinaryData = True", b"BinaryData = False")
        fails(path, "damaged")  # they are none
        header = path.read_bytes().partition(b"LOCAL\n")[0] + b"LOCAL\n"
        path.write_bytes(header + " ".join([*map(str, ARRAY.ravel()), ""]).encode())
        assert np.array_equal(read_volume(path).array, ARRAY)
        path.write_bytes(path.read_bytes()[:-20])
        fails(path, "damaged")


class TestOtherFormats:
    def test_vtk(self, tmp_path):
        path = image_file(tmp_path / "image.vtk")
        assert np.array_equal(read_volume(path).array, ARRAY)
        path.write_bytes(path.read_bytes()[:-200])
        fails(path, "damaged")
        fails(change(image_file(path), b"SPACING.*\n", b""), "how large its voxels are")

    def test_tiff_knows_no_distance_of_slices(self, tmp_path):
        fails(image_file(tmp_path / "image.tif"), "how far apart slices are")


# --- size and axis


def volume_of(size: tuple[float, float, float], shape=(10, 64, 64), **options) -> Volume:
    """A volume that is so many mm large along (k, j, i)."""
    spacing = np.array(size) / shape
    return Volume(np.indices(shape)[0], np.diag([*spacing[::-1], 1.0]), "case", **options)


@pytest.mark.parametrize(
    ("task", "size", "word"),
    [
        (HEART, (80, 350, 350), ""),
        (HEART, (80, 150, 120), ""),
        (HEART, (800, 3500, 3500), "larger"),
        (HEART, (8, 35, 35), "smaller"),
        (HEART, (80000, 350000, 350000), "larger"),
        (ABDOMEN, (2000, 500, 500), ""),
        (ABDOMEN, (40, 60, 60), ""),
        (ABDOMEN, (3000, 500, 500), "larger"),
        (ABDOMEN, (20, 35, 35), "smaller"),
    ],
)
def test_sizes(task, size, word):
    volume = volume_of(size)
    if not word:
        assert checked_image(volume, task).volume is volume
        return
    with pytest.raises(InputError, match=f"'case' has a field of view .* which is {word} .*spacing"):
        checked_image(volume, task)


def test_what_the_anatomy_needs_follows_from_what_was_seen():
    assert narrowest_mm(HEART) == pytest.approx(41.3, abs=0.1)
    assert narrowest_mm(ABDOMEN) == pytest.approx(42.9, abs=0.1)


@pytest.mark.parametrize(
    ("size", "options", "said"),
    [
        ((80, 64 * 1.4, 64 * 1.4), {}, False),
        ((20, 64 * 1.4, 64 * 2.5), {}, True),  # 2 x 1.4 x 2.5 mm
        ((14, 64 * 1.4, 64 * 1.4), {}, True),
        ((14, 64 * 1.4, 64 * 1.4), {"slice_axis": 0}, False),
    ],
)
def test_slices_that_nothing_tells_the_axis_of(size, options, said):
    texts = checked_image(volume_of(size, **options), HEART).warnings
    assert len(texts) == said and all("axis" in text for text in texts)
    assert checked_image(volume_of(size, **options), ABDOMEN).warnings == ()


def test_dicom_keeps_its_slices_whatever_the_spacing():
    volume = volume_of((10, 64 * 1.2, 64 * 3.0), slice_axis=0)
    assert SliceStack.of(volume).axis == 0
    assert SliceStack.of(volume_of((10, 64 * 1.2, 64 * 8.0))).axis == 2


# --- memory


def test_an_image_that_needs_more_memory_than_is_free_is_refused_before_it_is_taken(nifti, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: ARRAY.size * 6 - 1)
    fails(nifti, "GB of memory", "are free")
    monkeypatch.setattr(memory, "free_memory", lambda: ARRAY.size * 6)
    assert np.array_equal(read_volume(nifti).array, ARRAY)


def test_free_memory_is_no_more_than_the_machine_has():
    import psutil

    assert 0 < memory.free_memory() <= psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4400000000 bytes."), True),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), True),
        (RuntimeError("The size of tensor a must match"), False),
    ],
)
def test_what_says_that_memory_runs_out(error, is_one):
    assert memory.is_out_of_memory(error) == is_one
    raised = InputError if is_one else type(error)
    with pytest.raises(raised), memory.enough_memory("case"):
        raise error
