"""DICOM series of one file per slice: the real ones, and what goes wrong with them on made ones (written by GDCM)."""

from __future__ import annotations

import shutil
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from dinsegment.errors import InputError
from dinsegment.images import read_volume, read_volumes

CT_IMAGE, MR_IMAGE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
AXIAL = np.eye(3)


def write_image(path, array, position=(0, 0, 0), axes=AXIAL, spacing=(1.5, 1.25), **tags):
    """One MR image as a scanner writes it; the rows of `axes` are the directions of row, column, normal."""
    values = {
        "0008|0016": MR_IMAGE,
        "0008|0018": f"1.2.3.{zlib.crc32(str(path).encode())}",
        "0008|0060": "MR",
        "0008|0008": "ORIGINAL\\PRIMARY\\CARDIAC",
        "0008|103e": "SAX cine",
        "0020|000d": "1.2.3.4",
        "0020|000e": "1.2.3.4.5",
        "0020|0032": "\\".join(f"{x:.9g}"[:16] for x in position),
        "0020|0037": "\\".join(f"{x:.12f}"[:16] for x in np.ravel(axes[:2])),
        "0018|0050": "99",  # nothing may come from SliceThickness
    }
    values |= {f"{key[1:5]}|{key[5:]}": value for key, value in tags.items()}
    image = sitk.GetImageFromArray(np.asarray(array))
    image.SetSpacing([*spacing[::-1], 1][: image.GetDimension()])
    for tag, value in values.items():
        if value is not None:
            image.SetMetaData(tag, str(value))
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(path))
    writer.Execute(image)


def pixels(seed):
    return np.random.default_rng(seed).integers(0, 1000, (6, 5)).astype(np.int16)


def rename_tag(path, tag):
    """Makes a tag one that nobody knows, which is as if it were missing."""
    content = path.read_bytes()
    assert content.count(tag) == 1
    path.write_bytes(content.replace(tag, tag[:2] + bytes((tag[2] + 1, tag[3]))))


def write_stack(folder, count=4, step=8.0, **tags):
    for k in range(count):
        write_image(folder / f"{k}.dcm", pixels(k), (10, 20, 30 + k * step), **tags)


def fails(path, *words, **options):
    with pytest.raises(InputError) as caught:
        read_volumes(path, **options)
    text = str(caught.value)
    said = text.replace(str(path), "")  # the folder is named after the test
    for word in words:
        assert word in said
    assert "\n" not in text and "ITK" not in text and len(text) < 500
    return text


def header(path):
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return reader


def world_lps(volume, ijk):
    return (np.diag([-1, -1, 1, 1]) @ volume.ijk_to_ras @ (*ijk, 1))[:3]


@pytest.fixture(scope="module")
def phases(sunnybrook_folder):
    return read_volumes(sunnybrook_folder)


@pytest.fixture(scope="module")
def ct(totalsegmentator_folder):
    return read_volume(totalsegmentator_folder)


class TestSunnybrook:
    def test_twenty_phases_of_twelve_slices(self, phases, sunnybrook_folder):
        assert len(phases) == 20
        assert {phase.shape for phase in phases} == {(12, 256, 256)}
        assert phases[0].name == f"{sunnybrook_folder.name} phase 01"
        assert {phase.modality for phase in phases} == {"MR"}
        assert np.allclose(phases[0].spacing, (10, 1.367188, 1.367188), atol=1e-3)

    def test_every_image_is_in_its_place_and_phase(self, phases, sunnybrook_folder):
        by_position = {}
        for path in sunnybrook_folder.glob("*.dcm"):
            position = header(path).GetMetaData("0020|0032")
            by_position.setdefault(position, []).append(path)
        assert len(by_position) == 12
        seen = set()
        for position, paths in by_position.items():
            expected = np.array([float(x) for x in position.split("\\")])
            distance = [np.linalg.norm(world_lps(phases[0], (0, 0, k)) - expected) for k in range(12)]
            k = int(np.argmin(distance))
            assert distance[k] < 0.01
            seen.add(k)
            paths.sort(key=lambda path: float(header(path).GetMetaData("0018|1060")))
            for phase, path in zip(phases, paths, strict=True):
                assert np.array_equal(phase.array[k], sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0])
        assert seen == set(range(12))

    def test_frames_of_reference_that_differ_are_said(self, sunnybrook_folder, caplog):
        read_volumes(sunnybrook_folder)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "frames of reference" in caplog.text

    def test_a_single_file_is_a_volume_of_one_slice(self, sunnybrook_folder):
        volume = read_volume(sunnybrook_folder / "7.dcm")
        assert (volume.shape, volume.name, volume.modality) == ((1, 256, 256), "7", "MR")
        assert np.allclose(volume.spacing, (10, 1.367188, 1.367188))

    def test_phases_that_are_not_complete(self, sunnybrook_folder, tmp_path):
        for path in sunnybrook_folder.glob("*.dcm"):
            if path.name != "57.dcm":
                (tmp_path / path.name).symlink_to(path)
        fails(tmp_path, "from 19 to 20 images per slice")


class TestTotalSegmentator:
    def test_the_distance_between_slices_is_not_their_thickness(self, ct):
        assert ct.spacing.tolist() == [2, 0.9765625, 0.9765625]
        assert ct.modality == "CT"

    def test_the_grid_is_that_of_the_reference_segmentation(self, ct, totalsegmentator_folder):
        reference = read_volume(totalsegmentator_folder / "reference-segmentation.nii.gz")
        assert ct.shape == reference.shape
        # The same voxels, counted from the other end along j.
        k, j, i = ct.shape
        flip = np.diag([1.0, -1, 1, 1])
        flip[1, 3] = j - 1
        corners = np.array([(x, y, z, 1) for x in (0, i) for y in (0, j) for z in (0, k)]).T
        there, here = reference.ijk_to_ras @ flip @ corners, ct.ijk_to_ras @ corners
        assert np.abs(there - here).max() < 1e-3

    def test_voxels_are_hounsfield_units(self, ct, totalsegmentator_folder):
        files = sorted(totalsegmentator_folder.glob("CT*"), key=lambda f: -int(f.name.rpartition(".")[2]))
        expected = np.concatenate([sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in files])
        assert np.array_equal(ct.array, expected)
        reference = read_volume(totalsegmentator_folder / "reference-segmentation.nii.gz")
        inside = ct.array[reference.array[:, ::-1] > 0]
        assert ct.array.min() == -1024 and -200 < np.median(inside) < 200


def test_a_segmentation_beside_the_images_is_passed_over(dcmqi_folder):
    volume = read_volume(dcmqi_folder)
    assert (volume.shape, volume.modality) == ((3, 512, 512), "CT")
    fails(dcmqi_folder / "liver-SEG.dcm", "none of them an image")


class TestOrder:
    @settings(max_examples=25, deadline=None)
    @given(
        turn=st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1),
        origin=st.tuples(*[st.floats(-300, 300)] * 3),
        spacing=st.tuples(st.floats(0.5, 12), st.floats(0.5, 3), st.floats(0.5, 3)),
        slices=st.integers(2, 4),
        phases=st.integers(1, 3),
        seed=st.integers(0, 1000),
    )
    def test_every_voxel_is_in_its_place_whatever_the_files_are_called(
        self, turn, origin, spacing, slices, phases, seed
    ):
        noise = np.random.default_rng(seed)
        axes, _ = np.linalg.qr(np.outer(turn, turn)[:3, :3] + noise.normal(size=(3, 3)))
        axes[2] = np.cross(axes[0], axes[1])
        array = noise.integers(0, 1000, (phases, slices, 6, 5)).astype(np.int16)
        names = noise.permutation(phases * slices).reshape(phases, slices)
        with tempfile.TemporaryDirectory() as folder:
            for k in range(slices):
                start = noise.uniform(0, 30)  # trigger times differ from slice to slice
                for phase in range(phases):
                    write_image(
                        Path(folder) / f"IM{names[phase, k]}",
                        array[phase, k],
                        np.array(origin) + k * spacing[0] * axes[2],
                        axes,
                        spacing[1:],
                        _00181060=f"{start + 40 * phase:.3f}",
                        _00200013=int(names[phase, k]),
                    )
            volumes = read_volumes(folder)
        assert len(volumes) == phases
        assert np.array_equal([volume.array for volume in volumes], array)
        for volume in volumes:
            for ijk in ((0, 0, 0), (4, 5, slices - 1)):
                there = origin + ijk[2] * spacing[0] * axes[2]
                there = there + ijk[0] * spacing[2] * axes[0] + ijk[1] * spacing[1] * axes[1]
                assert np.abs(world_lps(volume, ijk) - there).max() < 1e-3

    @pytest.mark.parametrize("tag", ("_00181060", "_00200100", "_00080032", "_00200013"))
    def test_phases_are_told_apart_by_the_best_tag_there_is(self, tmp_path, tag):
        for k in range(3):
            for phase in range(2):
                time = {"_00200013": 100 - 50 * phase, tag: 10 + 5 * phase}
                write_image(tmp_path / f"{k}{1 - phase}", pixels(10 * phase + k), (0, 0, 5 * k), **time)
        first, second = read_volumes(tmp_path)
        assert np.array_equal(first.array, [pixels(k) for k in range(3)])
        assert np.array_equal(second.array, [pixels(10 + k) for k in range(3)])

    @pytest.mark.parametrize("modality, storage", [("MR", MR_IMAGE), ("CT", CT_IMAGE)])
    def test_rescaling_is_that_of_each_slice(self, tmp_path, modality, storage):
        expected = []
        for k in range(3):
            tags = {"_00080016": storage, "_00080060": modality, "_00281052": -100 * k, "_00281053": 1 + k}
            write_image(tmp_path / f"{k}.dcm", pixels(k), (0, 0, 5 * k), **tags)
            stored = np.frombuffer((tmp_path / f"{k}.dcm").read_bytes()[-60:], "<i2").reshape(6, 5)
            expected.append(stored * (1.0 + k) - 100 * k)
        assert np.array_equal(read_volume(tmp_path).array, expected)

    def test_slices_that_lean_by_a_rounded_direction_stay_where_they_are(self, tmp_path):
        for k in range(20):
            write_image(tmp_path / f"{k}.dcm", pixels(k), (0, 0.008 * k, 5.0 * k))
        volume = read_volume(tmp_path)
        for k in range(20):
            assert np.allclose(world_lps(volume, (0, 0, k)), (0, 0.008 * k, 5 * k))

    def test_other_files_are_passed_over(self, tmp_path):
        write_stack(tmp_path)
        alone = read_volume(tmp_path)
        (tmp_path / "notes.txt").write_text("Patient moved.")
        (tmp_path / ".DS_Store").write_bytes(bytes(300))
        (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + b"\2\0\2\0UI\x14\0" + b"1.2.840.10008.1.3.10")
        report = b"\2\0\2\0UI\x1e\0" + b"1.2.840.10008.5.1.4.1.1.88.22\0" + b"\x08\0\x60\0CS\2\0SR"
        (tmp_path / "report.dcm").write_bytes(bytes(128) + b"DICM" + report)
        (tmp_path / "folder").mkdir()
        assert np.array_equal(read_volume(tmp_path).array, alone.array)

    def test_the_name_is_that_of_the_folder(self, tmp_path, monkeypatch):
        write_stack(tmp_path)
        assert read_volume(tmp_path).name == tmp_path.name
        monkeypatch.chdir(tmp_path)
        assert read_volume(".").name == tmp_path.name


class TestAccepted:
    """What is off by less than a digit or a tenth, or there twice, is read, with a word where it may matter."""

    def test_uneven_gaps_of_less_than_a_tenth_are_said(self, tmp_path):
        for k, z in enumerate((0, 8, 16.5, 24)):
            write_image(tmp_path / f"{k}.dcm", pixels(k), (0, 0, z))
        volume = read_volume(tmp_path)
        assert volume.spacing[0] == 8 and np.array_equal(volume.array, [pixels(k) for k in range(4)])
        assert len(volume.warnings) == 1 and "7.5 to 8.5 mm apart" in volume.warnings[0]

    def test_positions_with_one_decimal(self, tmp_path):
        turned = np.array([[0.8, 0.6, 0.0], [-0.36, 0.48, 0.8], [0.48, -0.64, 0.6]])
        for k in range(20):
            write_image(tmp_path / f"{k:02d}.dcm", pixels(k), np.round(1.25 * k * turned[2], 1), turned)
        volume = read_volume(tmp_path)
        assert volume.warnings == () and volume.spacing[0] == pytest.approx(1.25, abs=0.01)
        normal = volume.ijk_to_ras[:3, 2] / volume.spacing[0]
        assert abs(normal @ (turned[2] * (-1, -1, 1))) > np.cos(np.radians(0.1))

    @pytest.mark.parametrize(("off", "accepted"), [(0.0003, True), (0.02, False)])
    def test_directions_with_few_digits(self, tmp_path, off, accepted):
        write_stack(tmp_path)
        write_image(tmp_path / "2.dcm", pixels(2), (10, 20, 46), AXIAL + off * (np.eye(3, k=1) - np.eye(3, k=-1)))
        if accepted:
            assert np.array_equal(read_volume(tmp_path).array, [pixels(k) for k in range(4)])
        else:
            fails(tmp_path, "mixes orientations")

    @pytest.mark.parametrize("copies", [1, 4])
    def test_the_same_file_under_two_names(self, tmp_path, copies):
        write_stack(tmp_path)
        (tmp_path / "copies").mkdir()
        for k in range(copies):
            shutil.copy(tmp_path / f"{k}.dcm", tmp_path / "copies" / f"{k} (1).dcm")
        volume = read_volume(tmp_path)
        assert np.array_equal(volume.array, [pixels(k) for k in range(4)])
        assert len(volume.warnings) == 1 and "0 (1).dcm" in volume.warnings[0] and "same file" in volume.warnings[0]
        assert ("3 more" in volume.warnings[0]) == (copies == 4)


class TestRefused:
    def test_several_series(self, tmp_path):
        write_stack(tmp_path, 3, _0020000e="1.2.3.1", _0008103e="SAX")
        write_image(tmp_path / "other.dcm", pixels(9), _0020000e="1.2.3.2", _0008103e="Vierkammerblick ä")
        text = fails(tmp_path, "2 DICOM series", "'SAX' (3 images) 1.2.3.1", "(1 image) 1.2.3.2", "--series")
        assert "Vierkammerblick ä" in text
        assert read_volume(tmp_path, series_uid="1.2.3.1").shape == (3, 6, 5)
        fails(tmp_path, "1.2.3.9", "1.2.3.1", "1.2.3.2", series_uid="1.2.3.9")

    def test_a_folder_without_dicom(self, tmp_path):
        (tmp_path / "notes.txt").write_text("nothing")
        fails(tmp_path, "no DICOM images")

    def test_a_missing_slice(self, tmp_path):
        write_stack(tmp_path, 5)
        (tmp_path / "2.dcm").unlink()
        fails(tmp_path, "8 to 16 mm apart", "missing")

    def test_uneven_slices(self, tmp_path):
        for k, z in enumerate((0, 8, 17, 24)):
            write_image(tmp_path / f"{k}.dcm", pixels(k), (0, 0, z))
        fails(tmp_path, "7 to 9 mm apart")

    def test_half_a_stack_with_other_gaps(self, tmp_path):
        """Each gap is within a tenth of the mean, but in the middle the slices would be off by a third of one."""
        heights = np.cumsum([0, *[7.3] * 6, *[8.7] * 6])
        for k, z in enumerate(heights):
            write_image(tmp_path / f"{k:02d}.dcm", pixels(k), (0, 0, z))
        fails(tmp_path, "7.3 to 8.7 mm apart")

    def test_slices_shifted_sideways(self, tmp_path):
        for k, x in enumerate((0, 3, 0, 0)):
            write_image(tmp_path / f"{k}.dcm", pixels(k), (x, 0, 8 * k))
        fails(tmp_path, "sideways")

    def test_a_tilted_gantry(self, tmp_path):
        for k in range(4):
            write_image(tmp_path / f"{k}.dcm", pixels(k), (0, 2.0 * k, 5.0 * k))
        fails(tmp_path, "tilted gantry", "21.8 degrees", "3D Slicer")

    def test_phases_of_one_slice_shifted_sideways(self, tmp_path):
        for phase, x in enumerate((0, 0, 3)):
            write_image(tmp_path / f"{phase}.dcm", pixels(phase), (x, 0, 0), _00181060=40 * phase)
        fails(tmp_path, "sideways")

    def test_a_double_slice(self, tmp_path):
        write_stack(tmp_path)
        write_image(tmp_path / "again.dcm", pixels(7), (10, 20, 46))
        fails(tmp_path, "from 1 to 2 images per slice", "double")

    def test_all_slices_double(self, tmp_path):
        write_stack(tmp_path)
        for k in range(4):
            write_image(tmp_path / f"again{k}.dcm", pixels(k + 7), (10, 20, 30 + 8 * k))
        fails(tmp_path, "every slice 2 times", "duplicates")

    def test_the_same_uid_with_other_pixels_is_no_copy(self, tmp_path):
        write_stack(tmp_path, _00080018="1.2.3.9")  # as some anonymisers leave it, on all images
        assert read_volume(tmp_path).shape == (4, 6, 5)
        write_image(tmp_path / "again.dcm", pixels(7), (10, 20, 46), _00080018="1.2.3.9")
        fails(tmp_path, "from 1 to 2 images per slice")

    def test_mixed_orientations(self, tmp_path):
        write_stack(tmp_path)
        write_image(tmp_path / "long.dcm", pixels(9), (0, 0, 70), np.array([[0, 1, 0], [0, 0, -1]]))
        fails(tmp_path, "mixes orientations")

    def test_mixed_sizes(self, tmp_path):
        write_stack(tmp_path)
        write_image(tmp_path / "large.dcm", np.zeros((7, 5), np.int16), (10, 20, 62))
        fails(tmp_path, "mixes image sizes")

    def test_mixed_pixel_spacings(self, tmp_path):
        write_stack(tmp_path)
        write_image(tmp_path / "zoom.dcm", pixels(9), (10, 20, 62), spacing=(1, 1))
        fails(tmp_path, "mixes pixel spacings")

    def test_a_localizer(self, tmp_path):
        write_stack(tmp_path, _00080008="ORIGINAL\\PRIMARY\\LOCALIZER")
        fails(tmp_path, "localizer")

    @pytest.mark.parametrize("missing", (1, 20, 900))
    def test_a_damaged_image(self, tmp_path, missing):
        for k in range(3):
            write_image(tmp_path / f"{k}.dcm", np.zeros((32, 32), np.int16), (0, 0, 8 * k))
        content = (tmp_path / "2.dcm").read_bytes()
        (tmp_path / "2.dcm").write_bytes(content[:-missing])
        fails(tmp_path, "2.dcm", "damaged")
        fails(tmp_path / "2.dcm", "damaged")

    @pytest.mark.parametrize("content", (b"", b"not found"))
    def test_a_dcm_file_that_is_none(self, tmp_path, content):
        write_stack(tmp_path)
        (tmp_path / "4.dcm").write_bytes(content)
        fails(tmp_path, "4.dcm", "damaged")

    def test_several_frames_in_one_file_without_a_place_for_each(self, tmp_path):
        write_image(tmp_path / "many.dcm", np.zeros((3, 6, 5), np.int16))  # as an enhanced image
        assert read_volume(tmp_path / "many.dcm").shape == (3, 6, 5)
        rename_tag(tmp_path / "many.dcm", b"\x00\x52\x30\x92")
        fails(tmp_path / "many.dcm", "3 frames", "where each")

    def test_a_colour_image(self, tmp_path):
        image = sitk.GetImageFromArray(np.zeros((6, 5, 3), np.uint8), isVector=True)
        sitk.WriteImage(image, str(tmp_path / "photo.dcm"))
        fails(tmp_path / "photo.dcm", "colour")

    @pytest.mark.parametrize(
        ("tag", "name"),
        [
            (b"\x20\x00\x32\x00", "ImagePositionPatient"),
            (b"\x20\x00\x37\x00", "ImageOrientationPatient"),
            (b"\x28\x00\x30\x00", "PixelSpacing"),
        ],
    )
    def test_an_image_without_a_place(self, tmp_path, tag, name):
        write_image(tmp_path / "screen.dcm", pixels(0))
        rename_tag(tmp_path / "screen.dcm", tag)
        fails(tmp_path / "screen.dcm", "where in the patient", f"(no usable {name})")

    def test_a_single_slice_of_unknown_thickness(self, tmp_path):
        write_image(tmp_path / "one.dcm", pixels(0))
        assert read_volume(tmp_path / "one.dcm").spacing[0] == 1  # SpacingBetweenSlices, as GDCM writes it
        rename_tag(tmp_path / "one.dcm", b"\x18\x00\x88\x00")
        assert read_volume(tmp_path / "one.dcm").spacing[0] == 99
        rename_tag(tmp_path / "one.dcm", b"\x18\x00\x50\x00")
        fails(tmp_path / "one.dcm", "how large")
