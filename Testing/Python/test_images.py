"""Image files: exact geometry there and back, and one clear sentence for whatever is wrong."""

from __future__ import annotations

import gzip
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

import forked
from dinsegment.errors import InputError, OutputError
from dinsegment.files import atomic_path, ensure_writable_folder
from dinsegment.images import read_volume, read_volumes, write_segmentation, write_volume
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.volume import Volume
from dinsegment.tasks import HEART

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")


def rotation(quaternion):
    """3x3 rotation from four numbers, not all zero."""
    w, x, y, z = np.array(quaternion) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


@st.composite
def volumes(draw):
    """Any grid a scanner or a tool makes: oblique, permuted, flipped, anisotropic, one slice thick."""
    shape = draw(st.tuples(*[st.integers(1, 6)] * 3))
    component = st.floats(-1, 1, allow_subnormal=False)
    turned = rotation(draw(st.tuples(*[component] * 4).filter(lambda q: np.linalg.norm(q) > 0.1)))
    order = draw(st.permutations(range(3)))
    signs = draw(st.tuples(*[st.sampled_from((-1, 1))] * 3))
    spacing = draw(st.tuples(*[st.floats(0.3, 12)] * 3))
    matrix = np.eye(4)
    matrix[:3, :3] = turned[:, order] * signs * spacing
    matrix[:3, 3] = draw(st.tuples(*[st.floats(-300, 300)] * 3))
    seed = draw(st.integers(0, 2**32 - 1))
    array = np.random.default_rng(seed).normal(0, 500, shape)
    return Volume(array, matrix)


def farthest(volume, other):
    """The largest distance between where two grids put the same voxel, in millimetres."""
    k, j, i = np.array(volume.shape) - 1
    corners = np.array([(x, y, z, 1) for x in (0, i) for y in (0, j) for z in (0, k)]).T
    return np.linalg.norm((volume.ijk_to_ras - other.ijk_to_ras) @ corners, axis=0).max()


@pytest.fixture
def volume():
    matrix = np.eye(4)
    matrix[:3, :3] = rotation((0.9, 0.3, -0.2, 0.4)) * (1.25, 1.4, 8)
    matrix[:3, 3] = (-87.3, 41, 12.7)
    return Volume(np.random.default_rng(5).normal(100, 30, (5, 16, 15)), matrix)


def make_segmentation(volume):
    labels = np.random.default_rng(1).integers(0, 4, volume.shape).astype(np.uint8)
    return Segmentation(volume, labels, HEART, "heart-test", volume, "cpu", 0.0)


def fails(path, *words):
    """Reading says one sentence with these words, and nothing of a traceback or of ITK."""
    with pytest.raises(InputError) as caught:
        read_volumes(path)
    text = str(caught.value)
    assert Path(path).name in text
    for word in words:
        assert word in text
    assert "\n" not in text and "ITK" not in text and "itk" not in text and len(text) < 400
    return text


class TestRoundTrip:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    @settings(max_examples=40, deadline=None)
    @given(volume=volumes())
    def test_every_voxel_comes_back_to_its_place(self, suffix, volume):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"image{suffix}"
            write_volume(volume, path)
            back = read_volume(path)
        assert np.array_equal(back.array, volume.array)
        assert farthest(back, volume) <= (1e-4 if ".nii" in suffix else 1e-9)

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
    def test_the_voxel_type_is_the_one_asked_for(self, tmp_path, volume, suffix, dtype):
        path = tmp_path / f"image{suffix}"
        write_volume(volume, path, dtype)
        image = sitk.ReadImage(str(path))
        expected = volume.array if dtype == np.float32 else np.rint(volume.array)
        assert sitk.GetArrayFromImage(image).dtype == dtype
        assert np.array_equal(sitk.GetArrayFromImage(image), expected)

    @pytest.mark.parametrize("suffix", (".nii.gz", ".nrrd", ".mha"))
    def test_files_are_compressed(self, tmp_path, suffix):
        flat = Volume(np.full((20, 64, 64), 7.0), np.eye(4))
        write_volume(flat, tmp_path / f"flat{suffix}")
        assert (tmp_path / f"flat{suffix}").stat().st_size < flat.array.nbytes / 10

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_values_that_the_type_cannot_hold_are_refused(self, tmp_path, volume, suffix):
        with pytest.raises(OutputError, match="uint8"):
            write_volume(volume.with_array(volume.array * 10), tmp_path / f"image{suffix}", np.uint8)
        assert not list(tmp_path.iterdir())

    def test_axes_that_are_not_perpendicular_need_another_format_than_nifti(self, tmp_path, volume):
        matrix = volume.ijk_to_ras.copy()
        matrix[:3, 2] += 0.2 * matrix[:3, 0]
        tilted = Volume(volume.array, matrix)
        with pytest.raises(OutputError, match="perpendicular"):
            write_volume(tilted, tmp_path / "tilted.nii.gz")
        assert not list(tmp_path.iterdir())
        for suffix in (".nrrd", ".mha"):
            write_volume(tilted, tmp_path / f"tilted{suffix}")
            assert farthest(read_volume(tmp_path / f"tilted{suffix}"), tilted) < 1e-9

    def test_the_voxels_outlive_the_file(self, tmp_path, volume):
        write_volume(volume, tmp_path / "image.nrrd")
        back = read_volume(tmp_path / "image.nrrd")
        (tmp_path / "image.nrrd").unlink()
        for _ in range(3):  # memory that ITK gave back would be written over
            sitk.GetImageFromArray(np.zeros_like(volume.array))
        back.array[0, 0, 0] = 1
        assert np.array_equal(back.array.ravel()[1:], volume.array.ravel()[1:])

    def test_a_file_that_exists_is_replaced(self, tmp_path, volume):
        path = tmp_path / "image.nrrd"
        path.write_text("old")
        write_volume(volume, path)
        assert np.array_equal(read_volume(path).array, volume.array)
        assert [file.name for file in tmp_path.iterdir()] == ["image.nrrd"]

    def test_a_file_has_the_usual_permissions(self, tmp_path, volume):
        (tmp_path / "usual").touch()
        write_volume(volume, tmp_path / "image.nrrd")
        assert (tmp_path / "image.nrrd").stat().st_mode == (tmp_path / "usual").stat().st_mode


class TestNames:
    @pytest.mark.parametrize(
        "file, name",
        [("a.nii.gz", "a"), ("a.v2.nii", "a.v2"), ("a.nrrd", "a"), ("a.seg.nrrd", "a"), ("a b.mha", "a b")],
    )
    def test_a_volume_is_named_by_the_stem(self, tmp_path, volume, file, name):
        write_volume(volume, tmp_path / file)
        back = read_volume(tmp_path / file)
        assert (back.name, back.source, back.modality) == (name, str(tmp_path / file), None)

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("slices", (1, 3))
    def test_a_4d_file_gives_a_volume_per_phase(self, tmp_path, suffix, slices):
        array = np.random.default_rng(0).normal(size=(11, slices, 5, 4)).astype(np.float32)
        image = sitk.GetImageFromArray(array, isVector=False)
        image.SetSpacing((1.5, 1.25, 8, 0.04))
        image.SetOrigin((10, -20, 30, 0))
        path = tmp_path / f"cine{suffix}"
        sitk.WriteImage(image, str(path))
        phases = read_volumes(path)
        assert [phase.name for phase in phases] == [f"cine phase {n:02d}" for n in range(1, 12)]
        assert np.array_equal([phase.array for phase in phases], array)
        for phase in phases:
            assert np.allclose(phase.spacing, (8, 1.25, 1.5))
            assert np.allclose(phase.ijk_to_ras[:3, 3], (-10, 20, 30))
        with pytest.raises(InputError, match="11 phases"):
            read_volume(path)

    def test_a_4d_file_with_one_phase_is_one_volume(self, tmp_path):
        image = sitk.GetImageFromArray(np.ones((1, 3, 5, 4), np.float32), isVector=False)
        sitk.WriteImage(image, str(tmp_path / "one.nrrd"))
        assert read_volume(tmp_path / "one.nrrd").name == "one"


class TestAcdc:
    @pytest.mark.parametrize("patient", ("patient001", "patient042", "patient090"))
    def test_spacing_is_that_of_pixdim(self, acdc_folder, patient, capfd):
        for path in sorted((acdc_folder / patient).glob("*_frame*.nii.gz")):
            with gzip.open(path) as file:
                header = file.read(348)
            i, j, k = struct.unpack_from("<3f", header, 80)
            volume = read_volume(path)
            assert np.allclose(volume.spacing, (k, j, i), rtol=0, atol=1e-6)
            # srow_x, y, z have columns of length 1 in this set: spacing that came from there would be wrong.
            assert not np.allclose((k, j, i), 1)
        assert capfd.readouterr().err == ""

    def test_voxels_are_those_of_the_file(self, acdc_folder):
        path = sorted((acdc_folder / "patient007").glob("*_gt.nii.gz"))[0]
        content = gzip.decompress(path.read_bytes())
        i, j, k = struct.unpack_from("<3h", content, 42)
        kind = np.dtype({2: np.uint8, 4: np.int16}[struct.unpack_from("<h", content, 70)[0]])
        offset = int(struct.unpack_from("<f", content, 108)[0])
        raw = np.frombuffer(content, kind, i * j * k, offset)
        assert np.array_equal(read_volume(path).array, raw.reshape(k, j, i))


@pytest.mark.parametrize("display", (True, False))
def test_warnings_are_afterwards_as_they_were(tmp_path, volume, display):
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(display)
    try:
        write_volume(volume, tmp_path / "image.nii")
        assert sitk.ProcessObject.GetGlobalWarningDisplay() == display
        read_volume(tmp_path / "image.nii")
        assert sitk.ProcessObject.GetGlobalWarningDisplay() == display
        fails(tmp_path / "nowhere.nii")
        fails(tmp_path)
        assert sitk.ProcessObject.GetGlobalWarningDisplay() == display
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


class TestBadInput:
    def test_a_file_that_is_not_there(self, tmp_path):
        fails(tmp_path / "nowhere.nii.gz", "no file")

    @pytest.mark.parametrize("suffix", (*SUFFIXES, ".txt", ".dcm", ".png", ""))
    @pytest.mark.parametrize("content", (b"", b"Dear colleague,\nplease segment this.\n" * 50))
    def test_a_file_that_is_no_image(self, tmp_path, suffix, content):
        (tmp_path / f"letter{suffix}").write_bytes(content)
        fails(tmp_path / f"letter{suffix}", "damaged")

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("missing", (1, 9, 700, 3000))
    def test_a_truncated_file(self, tmp_path, volume, suffix, missing):
        path = tmp_path / f"image{suffix}"
        write_volume(volume, path)
        content = path.read_bytes()
        path.write_bytes(content[:-missing])
        fails(path, "damaged")

    @settings(max_examples=60, deadline=None)
    @given(suffix=st.sampled_from(SUFFIXES), part=st.floats(0, 0.999))
    def test_a_file_truncated_anywhere_is_never_read(self, suffix, part):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"image{suffix}"
            write_volume(Volume(np.random.default_rng(2).normal(size=(3, 8, 9)), np.eye(4)), path)
            content = path.read_bytes()
            path.write_bytes(content[: int(part * len(content))])
            fails(path)

    @pytest.mark.parametrize("suffix", (".nii.gz", ".nrrd", ".mha"))
    @pytest.mark.parametrize("place", (0.3, 0.5, 0.9))
    def test_damage_in_the_middle_of_a_compressed_file(self, tmp_path, volume, suffix, place):
        path = tmp_path / f"image{suffix}"
        write_volume(volume, path)
        content = bytearray(path.read_bytes())
        content[int(place * len(content))] ^= 0xFF
        path.write_bytes(content)
        fails(path, "damaged")

    @pytest.mark.parametrize("header, voxels", [("image.mhd", "image.zraw"), ("image.nhdr", "image.raw.gz")])
    def test_damage_in_a_file_of_voxels_beside_its_header(self, tmp_path, volume, header, voxels):
        sitk.WriteImage(sitk.GetImageFromArray(volume.array), str(tmp_path / header), useCompression=True)
        assert np.array_equal(read_volume(tmp_path / header).array, volume.array)
        content = bytearray((tmp_path / voxels).read_bytes())
        content[len(content) // 2] ^= 0xFF
        (tmp_path / voxels).write_bytes(content)
        fails(tmp_path / header, "damaged")

    def test_an_empty_folder(self, tmp_path):
        fails(tmp_path, "no DICOM images")

    def test_a_2d_image(self, tmp_path):
        for name in ("flat.png", "flat.nrrd", "flat.nii", "flat.mha"):
            sitk.WriteImage(sitk.GetImageFromArray(np.zeros((9, 8), np.uint8)), str(tmp_path / name))
            fails(tmp_path / name, "2 dimensions")

    def test_a_5d_image(self, tmp_path):
        for name in ("five.nii", "five.mha"):
            image = sitk.GetImageFromArray(np.zeros((2, 2, 3, 4, 5), np.uint8), isVector=False)
            sitk.WriteImage(image, str(tmp_path / name))
            fails(tmp_path / name, "5 dimensions")

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_a_colour_image(self, tmp_path, suffix):
        image = sitk.GetImageFromArray(np.zeros((3, 9, 8, 3), np.uint8), isVector=True)
        sitk.WriteImage(image, str(tmp_path / f"colour{suffix}"))
        fails(tmp_path / f"colour{suffix}", "3 values per voxel")

    def test_a_complex_image(self, tmp_path):
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 9, 8), np.complex64)), str(tmp_path / "k.nii"))
        fails(tmp_path / "k.nii", "complex", "magnitude")

    @pytest.mark.parametrize("axis", range(3))
    @pytest.mark.parametrize("value", (0.0, -1.25, float("nan")))
    @pytest.mark.parametrize("suffix", (".nii", ".nii.gz"))
    def test_spacing_in_nifti(self, tmp_path, volume, suffix, value, axis):
        write_volume(volume, tmp_path / "good.nii")
        content = bytearray((tmp_path / "good.nii").read_bytes())
        struct.pack_into("<f", content, 80 + 4 * axis, value)
        path = tmp_path / f"bad{suffix}"
        path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
        fails(path, "how large" if np.isnan(value) else "above zero")

    @pytest.mark.parametrize(
        "line, word",
        [
            ("spacings: 0 1 1", "above zero"),
            ("spacings: 1 1 -1", "above zero"),
            ("spacings: nan nan nan", "how large"),
            ("", "how large"),
            ("space: left-posterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,0)", "above zero"),
        ],
    )
    def test_spacing_in_nrrd(self, tmp_path, line, word):
        header = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n"
        bad = header + (line and line + "\n")
        (tmp_path / "bad.nrrd").write_bytes(bad.encode() + b"\n" + bytes(range(8)))
        fails(tmp_path / "bad.nrrd", word)
        good = header + "spacings: 1 2 3\n"
        (tmp_path / "good.nrrd").write_bytes(good.encode() + b"\n" + bytes(range(8)))
        assert read_volume(tmp_path / "good.nrrd").spacing.tolist() == [3, 2, 1]

    @pytest.mark.parametrize("spacing", ("0 0 0", "1 1 0", "-1 1 1"))
    def test_spacing_in_metaimage(self, tmp_path, spacing):
        header = (
            "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
            f"ElementSpacing = {spacing}\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
        )
        (tmp_path / "bad.mha").write_bytes(header.encode() + bytes(range(8)))
        fails(tmp_path / "bad.mha", "above zero")

    def test_a_nifti_whose_only_transform_is_sheared(self, tmp_path, volume):
        write_volume(volume, tmp_path / "good.nii")
        content = bytearray((tmp_path / "good.nii").read_bytes())
        struct.pack_into("<2h", content, 252, 0, 1)  # qform_code, sform_code
        struct.pack_into("<12f", content, 280, 1, 0.5, 0, 0, 0, 1, 0, 0, 0, 0, 8, 0)
        (tmp_path / "sheared.nii").write_bytes(content)
        fails(tmp_path / "sheared.nii", "perpendicular")

    def test_big_endian_and_two_file_nifti_are_read(self, tmp_path):
        header = bytearray(352)
        struct.pack_into(">i", header, 0, 348)
        struct.pack_into(">4h", header, 40, 3, 2, 3, 4)
        struct.pack_into(">2h", header, 70, 4, 16)
        struct.pack_into(">4f", header, 76, 1, 1.5, 2.5, 8)
        struct.pack_into(">2f", header, 108, 352, 1)
        voxels = np.arange(24, dtype=">i2")
        header[344:348] = b"n+1\0"
        (tmp_path / "big.nii").write_bytes(header + voxels.tobytes())
        header[344:348] = b"ni1\0"
        struct.pack_into(">f", header, 108, 0)
        (tmp_path / "two.hdr").write_bytes(header[:348])
        (tmp_path / "two.img").write_bytes(voxels.tobytes())
        for name in ("big.nii", "two.hdr", "two.img"):
            back = read_volume(tmp_path / name)
            assert np.array_equal(back.array.ravel(), range(24))
            assert back.spacing.tolist() == [8, 2.5, 1.5]
        (tmp_path / "two.img").write_bytes(voxels.tobytes()[:-1])
        fails(tmp_path / "two.hdr", "damaged")


class TestSegmentationFile:
    def test_the_labelmap_lies_on_the_image(self, tmp_path, volume):
        segmentation = make_segmentation(volume)
        write_segmentation(segmentation, tmp_path / "heart.seg.nrrd")
        back = read_volume(tmp_path / "heart.seg.nrrd")
        assert np.array_equal(back.array, segmentation.labels)
        assert farthest(back, volume) < 1e-9
        assert sitk.ReadImage(str(tmp_path / "heart.seg.nrrd")).GetPixelID() == sitk.sitkUInt8

    def test_another_suffix_is_refused(self, tmp_path, volume):
        with pytest.raises(OutputError, match=r"\.seg\.nrrd"):
            write_segmentation(make_segmentation(volume), tmp_path / "heart.nii.gz")
        assert not list(tmp_path.iterdir())


class TestWriting:
    def test_an_unknown_format_is_refused(self, tmp_path, volume):
        with pytest.raises(OutputError, match=r"\.nii\.gz"):
            write_volume(volume, tmp_path / "image.xyz")
        assert not list(tmp_path.iterdir())

    def test_a_folder_that_is_not_there(self, tmp_path, volume):
        with pytest.raises(OutputError, match="folder does not exist"):
            write_volume(volume, tmp_path / "nowhere" / "image.nrrd")
        assert not list(tmp_path.iterdir())

    def test_a_file_in_place_of_the_folder(self, tmp_path, volume):
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match="a file stands"):
            write_volume(volume, tmp_path / "file" / "image.nrrd")

    def test_a_folder_in_place_of_the_file(self, tmp_path, volume):
        (tmp_path / "image.nrrd").mkdir()
        with pytest.raises(OutputError, match=r"image\.nrrd"):
            write_volume(volume, tmp_path / "image.nrrd")
        assert [file.name for file in tmp_path.iterdir()] == ["image.nrrd"]

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a process's files.")
    @pytest.mark.parametrize("file", ("image.nii", "image.nii.gz", "image.nrrd", "image.mha", "heart.seg.nrrd"))
    def test_a_file_that_cannot_be_written_to_its_end(self, tmp_path, file):
        """In a process whose files may not grow beyond 20 kB, which fails inside ITK as a full disk does."""
        script = textwrap.dedent(
            f"""
            import resource, signal, sys
            import numpy as np
            from dinsegment.errors import OutputError
            from dinsegment.images import write_segmentation, write_volume
            from dinsegment.images.segmentation import Segmentation
            from dinsegment.tasks import HEART
            from dinsegment.images.volume import Volume

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
            noise = np.random.default_rng(0)
            # The last slices are empty, as in many a labelmap: zeros are what a truncated NIfTI is read as.
            labels = noise.integers(0, 4, (80, 64, 64)).astype(np.uint8)
            labels[-20:] = 0
            volume = Volume(labels, np.eye(4))
            try:
                if {file!r}.endswith(".seg.nrrd"):
                    write_segmentation(Segmentation(volume, labels, HEART, "m", volume, "cpu", 0.0), {file!r})
                else:
                    write_volume(volume, {file!r}, np.uint8)
            except OutputError as error:
                print(error)
            """
        )
        (tmp_path / file).write_text("the result of the run before")
        done = forked.run(
            [sys.executable, "-c", script],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert file in done.stdout and "could not be written" in done.stdout, done.stderr
        assert len(done.stdout.splitlines()) == 1
        assert [one.name for one in tmp_path.iterdir()] == [file]
        assert (tmp_path / file).read_text(encoding="utf-8") == "the result of the run before"

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="Only root may mount a disk.")
    @pytest.mark.parametrize("file", ("image.nii", "image.nii.gz", "image.nrrd", "image.mha"))
    def test_a_full_disk(self, tmp_path, file):
        disk = tmp_path / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
        if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("This machine does not permit mounting a small disk.")
        try:
            volume = Volume(np.random.default_rng(0).normal(size=(10, 64, 64)), np.eye(4))
            with pytest.raises(OutputError, match="could not be written"):
                write_volume(volume, disk / file)
            assert not list(disk.iterdir())
            (disk / "filler").write_bytes(b"")
            with (disk / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError):
                while True:
                    filler.write(bytes(4096))
            with pytest.raises(OutputError, match=r"disk is full|could not be written"):
                write_volume(volume, disk / file)
            assert [one.name for one in disk.iterdir()] == ["filler"]
        finally:
            subprocess.run(["umount", str(disk)], check=True)


class TestAtomicPath:
    @pytest.mark.parametrize("name", ("a.seg.nrrd", "a.nii.gz", "a.mha", "1.2.840.113619.nrrd"))
    def test_the_temporary_file_is_beside_and_has_the_suffixes(self, tmp_path, name):
        with atomic_path(tmp_path / name) as temporary:
            assert temporary.parent == tmp_path
            assert temporary.name.endswith("".join(Path(name).suffixes[-2:]))
            temporary.write_text("new")
            assert not (tmp_path / name).exists()
        assert (tmp_path / name).read_text(encoding="utf-8") == "new"
        assert [file.name for file in tmp_path.iterdir()] == [name]

    @pytest.mark.parametrize("error", (ValueError, KeyboardInterrupt, InputError))
    def test_an_error_leaves_what_was_there(self, tmp_path, error):
        (tmp_path / "a.json").write_text("old")
        with pytest.raises(error), atomic_path(tmp_path / "a.json") as temporary:
            temporary.write_text("half")
            raise error("stop")
        assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
        assert (tmp_path / "a.json").read_text(encoding="utf-8") == "old"

    def test_an_error_of_the_system_is_told_in_a_sentence(self, tmp_path):
        with pytest.raises(OutputError, match="disk is full"), atomic_path(tmp_path / "a.json") as temporary:
            temporary.write_text("half")
            raise OSError(28, "No space left on device")
        assert not list(tmp_path.iterdir())


class TestWritableFolder:
    def test_it_is_created_with_its_parents(self, tmp_path):
        assert ensure_writable_folder(str(tmp_path / "a" / "b")) == tmp_path / "a" / "b"
        assert not list((tmp_path / "a" / "b").iterdir())
        assert ensure_writable_folder(tmp_path / "a" / "b").is_dir()

    def test_a_file_in_its_place(self, tmp_path):
        (tmp_path / "file").write_text("mine")
        for path in (tmp_path / "file", tmp_path / "file" / "folder"):
            with pytest.raises(OutputError, match="cannot be written to"):
                ensure_writable_folder(path)
        assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"

    def test_nothing_is_left_of_one_that_fails(self, tmp_path):
        too_long = tmp_path / "a" / "b" / ("c" * 300)
        with pytest.raises(OutputError, match="cannot be written to"):
            ensure_writable_folder(too_long)
        assert not list(tmp_path.iterdir())

    @pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere.")
    def test_a_folder_without_permission(self, tmp_path):
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(OutputError, match="not writable"):
            ensure_writable_folder(tmp_path / "locked")
