"""DICOM SEG read back: by this library, and by dcmqi, highdicom and ITK, voxel for voxel and in millimetres."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pytest
import SimpleITK as sitk
from dicom_cases import OBLIQUE, SERIES, Series, enhanced, headers, source_of, volume_of
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from read_dicom_seg import read_dicom_seg

from dinsegment.dicom.source import DicomSource
from dinsegment.dicom.write.save import save_dicom
from dinsegment.dicom.write.seg import make_dicom_seg, task_segments
from dinsegment.errors import InputError
from dinsegment.geometry import RAS_FROM_LPS
from dinsegment.images import read_volume, read_volumes
from dinsegment.images.volume import Volume
from dinsegment.tasks import ABDOMEN, HEART, Code

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
SEGMENTS = task_segments(HEART, "heart-1")


def masks_of(shape, seed=1, empty_ends=True):
    """Three masks that do not overlap and are not symmetric in any direction."""
    labels = np.random.default_rng(seed).integers(0, 4, shape)
    if empty_ends and shape[0] > 2:
        labels[[0, -1]] = 0
    labels[shape[0] // 2, 0, 1:4] = (1, 2, 3)
    return [labels == n for n in (1, 2, 3)]


def write_seg(folder, series, empty_ends=True):
    source = source_of(headers(series))
    masks = masks_of(series.shape, empty_ends=empty_ends)
    path = Path(folder) / "seg.dcm"
    save_dicom(make_dicom_seg(masks, SEGMENTS, source), path)
    return path, masks, volume_of(series, source)


def same(masks, expected):
    assert len(masks) == len(expected)
    return all(np.array_equal(mask, other) for mask, other in zip(masks, expected, strict=True))


def fails(path, reference, *words):
    with pytest.raises(InputError) as caught:
        read_dicom_seg(path, reference)
    for word in words:
        assert word in str(caught.value)


def turned(volume, axes, flips):
    """The same image in the same place with its axes in another order and direction, without its DICOM."""
    array = np.flip(volume.array.transpose(axes), [n for n, flip in enumerate(flips) if flip])
    ijk_to_ras = np.eye(4)
    ijk_to_ras[:3, 3] = volume.ijk_to_ras[:3, 3]
    for n, (axis, flip) in enumerate(zip(axes, flips, strict=True)):
        step = volume.ijk_to_ras[:3, 2 - axis]
        ijk_to_ras[:3, 2 - n] = -step if flip else step
        ijk_to_ras[:3, 3] += step * (volume.shape[axis] - 1) * flip
    return Volume(array, ijk_to_ras, "turned")


class TestRoundTrip:
    @pytest.mark.parametrize("empty_ends", (True, False))
    @pytest.mark.parametrize("kind", SERIES)
    def test_of(self, kind, empty_ends, tmp_path):
        path, masks, volume = write_seg(tmp_path, SERIES[kind], empty_ends)
        content = read_dicom_seg(path, volume)
        assert same(content.masks, masks)
        assert content.segments == tuple(SEGMENTS)

    @settings(max_examples=20, deadline=None)
    @given(
        turn=st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1),
        origin=st.tuples(*[st.floats(-400, 400)] * 3),
        step=st.floats(0.5, 12),
        spacing=st.tuples(st.floats(0.3, 3), st.floats(0.3, 3)),
        shape=st.tuples(st.integers(1, 5), st.integers(3, 9), st.integers(4, 9)),
        seed=st.integers(0, 1000),
    )
    def test_of_any_position(self, turn, origin, step, spacing, shape, seed):
        random = np.random.default_rng(seed)
        axes, _ = np.linalg.qr(np.outer(turn, turn)[:3, :3] + random.normal(size=(3, 3)))
        axes[2] = np.cross(axes[0], axes[1])
        tags = {"SpacingBetweenSlices": step} if shape[0] == 1 else {}
        series = Series("CT", shape, axes, round(step, 6), tuple(round(s, 6) for s in spacing), 1.0, origin, tags)
        source = source_of(headers(series))
        masks = [random.random(shape) < 0.4 for _ in range(3)]  # overlapping
        masks[0][0, 0, 0] = masks[1][0, 0, 0] = masks[2][-1, -1, -1] = True
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "seg.dcm"
            save_dicom(make_dicom_seg(masks, SEGMENTS, source), path)
            content = read_dicom_seg(path, volume_of(series, source))
        assert same(content.masks, masks)

    def test_of_a_tilted_gantry(self, tmp_path):
        tilt = np.deg2rad(15)
        axes = np.array([[1, 0, 0], [0, np.cos(tilt), np.sin(tilt)], [0, 0, 1]])
        path, masks, volume = write_seg(tmp_path, Series("CT", axes=axes, step=4.0))
        assert same(read_dicom_seg(path, volume).masks, masks)
        measures = dcmread(path).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        assert np.isclose(measures.SpacingBetweenSlices, 4 * np.cos(tilt))  # between the planes

    def test_of_an_enhanced_image(self, tmp_path):
        series = SERIES["oblique"]
        image = enhanced(series, phases=2)
        masks = masks_of(series.shape)
        first, second = DicomSource((image,), (1, 3, 5, 7)), DicomSource((image,), (2, 4, 6, 8))
        save_dicom(make_dicom_seg(masks, SEGMENTS, second), tmp_path / "seg.dcm")
        assert same(read_dicom_seg(tmp_path / "seg.dcm", volume_of(series, second)).masks, masks)
        fails(tmp_path / "seg.dcm", volume_of(series, first), "other images", "phase")

    def test_of_each_phase_of_a_cine(self, sunnybrook_folder, tmp_path):
        phases = read_volumes(sunnybrook_folder)[:3]
        for number, phase in enumerate(phases):
            masks = [phase.array > 300, phase.array < 20]
            save_dicom(make_dicom_seg(masks, SEGMENTS[:2], phase.dicom), tmp_path / f"{number}.dcm")
            assert same(read_dicom_seg(tmp_path / f"{number}.dcm", phase).masks, masks)
        fails(tmp_path / "0.dcm", phases[1], "other images")

    @pytest.mark.parametrize("axes", ((0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1)))
    @pytest.mark.parametrize("flips", ((False, True, False), (True, False, True)))
    def test_on_the_same_grid_with_other_axes(self, tmp_path, axes, flips):
        path, masks, volume = write_seg(tmp_path, SERIES["gappy"])
        found = read_dicom_seg(path, turned(volume, axes, flips))
        back = [turned(volume.with_array(mask), axes, flips).array for mask in masks]
        assert same(found.masks, [mask > 0 for mask in back])


class TestOthersFiles:
    def test_of_dcmqi(self, dcmqi_folder):
        """Compared with what dcmqi itself makes of its file."""
        volume = read_volume(dcmqi_folder)
        content = read_dicom_seg(dcmqi_folder / "liver-SEG.dcm", volume)
        (segment,) = content.segments
        assert (segment.name, segment.algorithm_type, segment.algorithm_name) == (
            "Liver",
            "SEMIAUTOMATIC",
            "SlicerEditor",
        )
        assert (segment.category, segment.type) == (Code("SRT", "T-D0050", "Tissue"), Code("SRT", "T-62000", "Liver"))
        assert segment.color == (221, 130, 101)
        with tempfile.TemporaryDirectory() as folder:
            ((mask, ijk_to_ras),) = dcmqi_masks(dcmqi_folder / "liver-SEG.dcm", Path(folder))
        assert content.masks[0].sum() == mask.sum() > 10000
        assert places(content.masks[0], volume.ijk_to_ras) == places(mask, ijk_to_ras)

    @pytest.mark.parametrize("threshold", (0.3, 0.5, 0.8))
    def test_fractional(self, tmp_path, threshold):
        series = SERIES["CT"]
        source = source_of(headers(series))
        fractions = np.random.default_rng(2).integers(0, 101, (*series.shape, 2)) / 100
        save_highdicom(tmp_path / "seg.dcm", source, fractions, "FRACTIONAL", 2, max_fractional_value=100)
        content = read_dicom_seg(tmp_path / "seg.dcm", volume_of(series, source), threshold)
        assert same(content.masks, [fractions[..., n] >= threshold - 1e-9 for n in range(2)])

    @pytest.mark.parametrize("kind", ("BINARY", "LABELMAP"))
    def test_frames_that_were_left_out_are_empty(self, tmp_path, kind):
        series = SERIES["flipped"]
        source = source_of(headers(series))
        masks = masks_of(series.shape)
        masks[1][2] = False
        labels = sum(n * mask.astype(np.uint8) for n, mask in enumerate(masks, 1))
        save_highdicom(tmp_path / "seg.dcm", source, labels.astype(np.uint8), kind, 3, omit_empty_frames=True)
        assert dcmread(tmp_path / "seg.dcm").NumberOfFrames < series.shape[0] * 3
        assert same(read_dicom_seg(tmp_path / "seg.dcm", volume_of(series, source)).masks, masks)

    def test_a_part_of_the_grid(self, tmp_path):
        series = SERIES["oblique"]
        part = replace(series, shape=(2, 12, 10), origin=tuple(series.position(1)))
        path, masks, _ = write_seg(tmp_path, part, empty_ends=False)
        content = read_dicom_seg(path, volume_of(series, None))
        for found, mask in zip(content.masks, masks, strict=True):
            assert np.array_equal(found[1:3], mask) and not found[[0, 3]].any()


class TestRefused:
    def test_another_series_on_the_same_grid(self, tmp_path):
        path, _, _ = write_seg(tmp_path, SERIES["axial"])
        fails(path, volume_of(SERIES["axial"], source_of(headers(SERIES["axial"]))), "seg.dcm", "other images")

    @pytest.mark.parametrize(
        "change",
        (
            {"step": 5.5},
            {"pixel_spacing": (1.5, 1.6)},
            {"origin": (-19.0, 30.0, 40.0)},
            {"origin": (-20.0, 30.0, 42.5)},
            {"axes": OBLIQUE},
            {"shape": (3, 12, 10)},
            {"shape": (4, 12, 9)},
        ),
    )
    def test_another_grid(self, tmp_path, change):
        path, _, _ = write_seg(tmp_path, SERIES["axial"], empty_ends=False)
        fails(path, volume_of(replace(SERIES["axial"], **change), None), "seg.dcm", "grid")

    def test_several_phases_in_one(self, tmp_path):
        path, _, volume = write_seg(tmp_path, SERIES["axial"])
        seg = dcmread(path)
        groups = seg.PerFrameFunctionalGroupsSequence
        groups[1].PlanePositionSequence = groups[0].PlanePositionSequence
        seg.save_as(path)
        fails(path, volume, "one phase")

    def test_what_is_no_seg(self, tmp_path):
        images = headers(SERIES["axial"])
        volume = volume_of(SERIES["axial"], source_of(images))
        images[0].save_as(tmp_path / "image.dcm", enforce_file_format=True)
        fails(tmp_path / "image.dcm", volume, "no DICOM SEG")
        (tmp_path / "text.dcm").write_text("no DICOM")
        fails(tmp_path / "text.dcm", volume, "no DICOM file")

    def test_damaged_files(self, tmp_path):
        """Cut and flipped bytes: refused in words, or read; never anything else."""
        path, masks, volume = write_seg(tmp_path, SERIES["axial"])
        content = path.read_bytes()
        random = np.random.default_rng(0)
        refused = 0
        for number in range(60):
            damaged = bytearray(content)
            if number % 2:
                del damaged[random.integers(200, len(content)) :]
            else:
                for place in random.integers(132, len(content), 20):
                    damaged[place] = random.integers(0, 256)
            path.write_bytes(damaged)
            try:
                found = read_dicom_seg(path, volume)
            except InputError as error:
                assert "seg.dcm" in str(error)
                refused += 1
            else:
                assert len(found.masks) <= len(masks)
        assert refused > 25


def save_highdicom(path, source, pixels, kind, count, **options):
    """A SEG as others write it with highdicom."""
    algorithm = highdicom.AlgorithmIdentificationSequence("other", highdicom.sr.CodedConcept("1", "99X", "x"), "1")
    concept = highdicom.sr.CodedConcept("10200004", "SCT", "Liver")
    describe = highdicom.seg.SegmentDescription
    numbers = range(1, count + 1)
    seg = highdicom.seg.Segmentation(
        source_images=list(source.headers),
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=[describe(n, f"{n}", concept, concept, "AUTOMATIC", algorithm) for n in numbers],
        series_instance_uid=highdicom.UID(),
        series_number=1,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="Other",
        manufacturer_model_name="Other",
        software_versions="1",
        device_serial_number="1",
        **options,
    )
    seg.save_as(path)


def places(mask, ijk_to_ras):
    """Where the voxels of a mask lie: set of RAS millimetres."""
    ijk = np.argwhere(mask)[:, ::-1]
    ras = ijk @ ijk_to_ras[:3, :3].T + ijk_to_ras[:3, 3]
    return set(map(tuple, np.round(ras / 0.05).astype(int)))  # to 0.05 mm


def grid_of(image):
    """IJK to RAS of an ITK image."""
    ijk_to_lps = np.eye(4)
    ijk_to_lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    ijk_to_lps[:3, 3] = image.GetOrigin()
    return RAS_FROM_LPS @ ijk_to_lps


def dcmqi_masks(path, folder):
    """Mask and IJK to RAS of each segment as dcmqi's segimage2itkimage, which 3D Slicer uses, reads them."""
    dcmqi = pytest.importorskip("dcmqi", reason="The Python package dcmqi is not installed.")
    program = next((Path(dcmqi.__file__).parent / "bin").glob("segimage2itkimage*"))
    subprocess.run(
        [program, "--inputDICOM", path, "--outputDirectory", folder, "-t", "nrrd"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    images = [sitk.ReadImage(str(file)) for file in sorted(folder.glob("*.nrrd"))]
    return [(sitk.GetArrayFromImage(image) > 0, grid_of(image)) for image in images]


class TestOthersRead:
    @pytest.mark.parametrize("kind", SERIES)
    def test_dcmqi(self, kind, tmp_path):
        path, masks, volume = write_seg(tmp_path, SERIES[kind])
        found = dcmqi_masks(path, tmp_path)
        assert len(found) == 3
        for (mask, ijk_to_ras), expected in zip(found, masks, strict=True):
            assert places(mask, ijk_to_ras) == places(expected, volume.ijk_to_ras)
            # Not only the same places: the same grid, counted from the same or the other end.
            assert mask.shape == expected.shape
            corners = [np.array([[0, 0, 0, 1], [*(np.array(mask.shape[::-1]) - 1), 1]]) @ m.T
                       for m in (ijk_to_ras, volume.ijk_to_ras)]  # fmt: skip
            assert np.allclose(np.sort(corners[0], 0), np.sort(corners[1], 0), atol=0.01)

    @pytest.mark.parametrize("kind", SERIES)
    def test_highdicom(self, kind, tmp_path):
        path, masks, volume = write_seg(tmp_path, SERIES[kind])
        seg = highdicom.seg.segread(path)
        uids = [str(header.SOPInstanceUID) for header in volume.dicom.headers]
        by_source = seg.get_pixels_by_source_instance(uids)
        assert same(list(np.moveaxis(by_source, -1, 0) > 0), masks)
        found = seg.get_volume()
        assert found.shape[:3] == volume.shape
        ijk_to_lps = found.affine @ np.eye(4)[[2, 1, 0, 3]]  # highdicom counts (k, j, i)
        for n, expected in enumerate(masks):
            ras = RAS_FROM_LPS @ ijk_to_lps
            assert places(found.array[..., n] > 0, ras) == places(expected, volume.ijk_to_ras)

    @pytest.mark.parametrize("kind", [kind for kind, series in SERIES.items() if series.shape[0] > 1])
    def test_simpleitk_where_there_is_one_segment(self, kind, tmp_path):
        series = SERIES[kind]
        mask = masks_of(series.shape)[0]
        mask[[0, -1], -1] = False
        save_dicom(make_dicom_seg([mask], SEGMENTS[:1], source_of(headers(series))), tmp_path / "seg.dcm")
        image = sitk.ReadImage(str(tmp_path / "seg.dcm"))
        found = sitk.GetArrayFromImage(image) > 0
        # GDCM leaves undefined what stands in a last byte of fewer than eight voxels.
        found.ravel()[found.size - found.size % 8 :] = False
        assert found.shape == mask.shape
        assert places(found, grid_of(image)) == places(mask, series.ijk_to_ras)

    def test_dcmqi_of_real_ct_with_organs(self, dcmqi_folder, tmp_path):
        volume = read_volume(dcmqi_folder)
        inside = np.zeros(volume.shape, bool)
        inside[:, 200:300, 150:260] = True
        masks = [inside & (volume.array > 100), inside & (volume.array < 0)]
        save_dicom(make_dicom_seg(masks, task_segments(ABDOMEN, "m")[4:6], volume.dicom), tmp_path / "seg.dcm")
        for (mask, ijk_to_ras), expected in zip(dcmqi_masks(tmp_path / "seg.dcm", tmp_path), masks, strict=True):
            assert places(mask, ijk_to_ras) == places(expected, volume.ijk_to_ras)


def test_an_enhanced_image_of_one_frame_makes_the_round_trip(tmp_path):
    one = replace(SERIES["oblique"], shape=(1, *SERIES["oblique"].shape[1:]))
    enhanced(one).save_as(tmp_path / "image.dcm", enforce_file_format=True)
    volume = read_volume(tmp_path / "image.dcm")
    assert volume.shape == one.shape and volume.dicom.frames == (1,)
    mask = masks_of(one.shape)[0]
    save_dicom(make_dicom_seg([mask], SEGMENTS[:1], volume.dicom), tmp_path / "seg.dcm")
    assert same(read_dicom_seg(tmp_path / "seg.dcm", volume).masks, [mask])
