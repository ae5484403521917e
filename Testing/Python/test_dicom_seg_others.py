"""DICOM SEG as others read it, highdicom, dcmqi and ITK, voxel for voxel and in millimetres."""

from __future__ import annotations

import subprocess
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pytest
import SimpleITK as sitk
from dicom_cases import SERIES, Series, enhanced, headers, source_of, volume_of
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from read_dicom_seg import read_dicom_seg

from dinsegment.dicom.source import DicomSource
from dinsegment.dicom.write.save import save_dicom
from dinsegment.dicom.write.seg import make_dicom_seg, task_segments
from dinsegment.geometry import RAS_FROM_LPS
from dinsegment.images import read_volume, read_volumes
from dinsegment.images.volume import Volume
from dinsegment.tasks import ABDOMEN, HEART

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
        assert [(s.name, s.type, s.modifier) for s in content.segments] == [
            (s.name, s.type, s.modifier) for s in SEGMENTS
        ]

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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            uids = [str(header.SOPInstanceUID) for header in volume.dicom.headers]
            by_source = highdicom.seg.segread(path).get_pixels_by_source_instance(uids)
        assert same(list(np.moveaxis(by_source, -1, 0) > 0), masks)
        measures = dcmread(path).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        assert np.isclose(measures.SpacingBetweenSlices, 4 * np.cos(tilt))  # between the planes

    def test_of_an_enhanced_image(self, tmp_path):
        series = SERIES["oblique"]
        image = enhanced(series, phases=2)
        masks = masks_of(series.shape)
        second = DicomSource((image,), (2, 4, 6, 8))
        save_dicom(make_dicom_seg(masks, SEGMENTS, second), tmp_path / "seg.dcm")
        assert same(read_dicom_seg(tmp_path / "seg.dcm", volume_of(series, second)).masks, masks)

    def test_of_each_phase_of_a_cine(self, sunnybrook_folder, tmp_path):
        phases = read_volumes(sunnybrook_folder)[:3]
        for number, phase in enumerate(phases):
            masks = [phase.array > 300, phase.array < 20]
            save_dicom(make_dicom_seg(masks, SEGMENTS[:2], phase.dicom), tmp_path / f"{number}.dcm")
            assert same(read_dicom_seg(tmp_path / f"{number}.dcm", phase).masks, masks)

    @pytest.mark.parametrize("axes", ((0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1)))
    @pytest.mark.parametrize("flips", ((False, True, False), (True, False, True)))
    def test_on_the_same_grid_with_other_axes(self, tmp_path, axes, flips):
        path, masks, volume = write_seg(tmp_path, SERIES["gappy"])
        found = read_dicom_seg(path, turned(volume, axes, flips))
        back = [turned(volume.with_array(mask), axes, flips).array for mask in masks]
        assert same(found.masks, [mask > 0 for mask in back])


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
