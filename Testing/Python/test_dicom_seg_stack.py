"""DICOM SEG and SR of a stack whose slices are of several series, and of one whose slices have moved."""

from __future__ import annotations

import copy
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pytest
from dciodvfy import dciodvfy_errors
from dicom_cases import SERIES, decimals, enhanced, headers, source_of
from highdicom.sr import srread
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import generate_uid
from test_dicom_seg_others import dcmqi_masks, places

from dinsegment.dicom.source import DicomSource
from dinsegment.dicom.write.save import save_dicom
from dinsegment.dicom.write.seg import SegOptions, make_dicom_seg, task_segments, write_dicom_seg
from dinsegment.dicom.write.source import frame_of_reference_warning
from dinsegment.dicom.write.sr import write_dicom_sr
from dinsegment.errors import InputError
from dinsegment.geometry import nearest_voxel
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.volume import Volume
from dinsegment.studies.results import write_results
from dinsegment.tasks import HEART

SEGMENTS = task_segments(HEART, "heart-1")
SLICED = [kind for kind, series in SERIES.items() if series.shape[0] > 1]


def masks_of(shape, seed=1):
    """Three masks that do not overlap, in every slice, up to its edges."""
    labels = np.random.default_rng(seed).integers(0, 4, shape)
    return [labels == n for n in (1, 2, 3)]


def stack(series, shifts=None, crops=None, per_series=1):
    """A source of images whose series are of `per_series` slices.

    Args:
        series: How they lie, unless they have moved.
        shifts: By how many pixels (j, i) each has moved, with fractions.
        crops: How many rows and columns each has less, at its end.
        per_series: Slices of a series.
    """
    images = headers(series)
    for k, image in enumerate(images):
        if k % per_series == 0:
            uid, number = generate_uid(), 100 + k
        image.SeriesInstanceUID, image.SeriesNumber, image.SeriesDescription = uid, number, f"SAX_{k // per_series + 1}"
        if shifts is not None:
            j, i = shifts[k]
            rows, columns = series.pixel_spacing
            moved = series.position(k) + i * columns * series.axes[0] + j * rows * series.axes[1]
            image.ImagePositionPatient = decimals(moved)
        if crops is not None:
            image.Rows, image.Columns = image.Rows - crops[k][0], image.Columns - crops[k][1]
    return source_of(images)


def made(masks, source, ijk_to_ras, folder, **options):
    """What highdicom reads of the DICOM SEG in a file, and the file."""
    path = Path(folder) / "seg.dcm"
    save_dicom(make_dicom_seg(masks, SEGMENTS, source, SegOptions(**options), ijk_to_ras), path)
    return highdicom.seg.segread(path), path


def by_image(seg, source):
    """Masks (k, j, i) of the segments on the pixels of each image."""
    uids = [str(header.SOPInstanceUID) for header in source.headers]
    return list(np.moveaxis(seg.get_pixels_by_source_instance(uids), -1, 0) > 0)


def same(masks, expected):
    return len(masks) == len(expected) and all(map(np.array_equal, masks, expected))


def references(seg):
    """Series and instances of the Common Instance Reference, in their order."""
    return [
        (str(series.SeriesInstanceUID), [str(i.ReferencedSOPInstanceUID) for i in series.ReferencedInstanceSequence])
        for series in seg.ReferencedSeriesSequence
    ]


class TestSeveralSeries:
    @pytest.mark.parametrize("per_series", (1, 2))
    @pytest.mark.parametrize("kind", SLICED)
    def test_it_refers_to_all_of_them_as_they_are(self, kind, per_series, tmp_path):
        series = SERIES[kind]
        source = stack(series, per_series=per_series)
        masks = masks_of(series.shape)
        seg, path = made(masks, source, series.ijk_to_ras, tmp_path)
        assert dciodvfy_errors(path, "Segmentation") == []
        expected = {}
        for header in source.headers:
            expected.setdefault(str(header.SeriesInstanceUID), []).append(str(header.SOPInstanceUID))
        assert references(seg) == list(expected.items())  # that of the first slice first, which 3D Slicer follows
        frames = seg.pixel_array
        assert len(frames) == 3 * len(source.headers)
        for pixels, group in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
            (item,) = group.DerivationImageSequence[0].SourceImageSequence
            k = [str(h.SOPInstanceUID) for h in source.headers].index(item.ReferencedSOPInstanceUID)
            assert item.ReferencedSOPClassUID == source.headers[k].SOPClassUID
            assert item.SpatialLocationsPreserved == "YES"
            assert group.PlanePositionSequence[0].ImagePositionPatient == source.headers[k].ImagePositionPatient
            number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            assert np.array_equal(pixels, masks[number - 1][k])
        assert [str(i.ReferencedSOPInstanceUID) for i in seg.SourceImageSequence] == [
            str(header.SOPInstanceUID) for header in source.headers
        ]
        assert same(by_image(seg, source), masks)

    @pytest.mark.parametrize("kind", SLICED)
    def test_dcmqi_reads_the_same_voxels(self, kind, tmp_path):
        series = SERIES[kind]
        masks = masks_of(series.shape)
        _, path = made(masks, stack(series), series.ijk_to_ras, tmp_path)
        for (mask, ijk_to_ras), expected in zip(dcmqi_masks(path, tmp_path), masks, strict=True):
            assert mask.shape == expected.shape
            assert places(mask, ijk_to_ras) == places(expected, series.ijk_to_ras)

    def test_what_is_in_memory_knows_the_series_too(self):
        series = SERIES["axial"]
        source = stack(series)
        seg = make_dicom_seg(masks_of(series.shape), SEGMENTS, source)
        known = {(str(s), str(i)) for _, s, i in seg.get_source_image_uids()}
        assert known == {(str(h.SeriesInstanceUID), str(h.SOPInstanceUID)) for h in source.headers}

    def test_the_headers_stay_as_they_are(self):
        series = SERIES["oblique"]
        source = stack(series, shifts=np.array([(0, 0), (2, 1), (0, 0), (-1.4, 0)]))
        before = copy.deepcopy(source.headers)
        for common_grid in (False, True):
            options = SegOptions(common_grid=common_grid)
            make_dicom_seg(masks_of(series.shape), SEGMENTS, source, options, series.ijk_to_ras)
            assert list(source.headers) == list(before)
        image = enhanced(series)
        before = copy.deepcopy(image)
        make_dicom_seg(masks_of(series.shape), SEGMENTS, DicomSource((image,), (1, 2, 3, 4)))
        assert image == before

    @pytest.mark.parametrize(
        "descriptions, name",
        [
            (("SAX_1", "SAX_2", "SAX_3", "SAX_4"), "Segmentation of SAX"),
            (("cine sa (b)", "cine sa (a)", "cine sa (a)", "cine sa"), "Segmentation of cine sa"),
            (("SAX",) * 4, "Segmentation of SAX"),
            (("basal", "mid", "apical", "SAX"), "Segmentation of 4 series"),
            (("", "SAX", "SAX", "SAX"), "Segmentation of 4 series"),
        ],
    )
    def test_it_is_called_by_what_the_series_have_in_common(self, descriptions, name):
        series = SERIES["axial"]
        source = stack(series)
        for header, description in zip(source.headers, descriptions, strict=True):
            header.SeriesDescription = description
        assert make_dicom_seg(masks_of(series.shape), SEGMENTS, source).SeriesDescription == name

    def test_the_same_input_gives_the_same_file(self, tmp_path):
        series = SERIES["axial"]
        source = stack(series)
        for name in ("one", "two"):
            seg = make_dicom_seg(masks_of(series.shape), SEGMENTS, source, SegOptions(deterministic_uids=True))
            save_dicom(seg, tmp_path / name)
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()

    def test_turned_or_scaled_images_are_refused(self):
        series = SERIES["oblique"]
        for keyword, value in (
            ("ImageOrientationPatient", decimals(np.ravel(SERIES["axial"].axes[:2]))),
            ("PixelSpacing", ["1.7", "1.7"]),
        ):
            source = stack(series)
            setattr(source.headers[2], keyword, value)
            with pytest.raises(InputError, match="Image 3 of 4 is turned or scaled"):
                make_dicom_seg(masks_of(series.shape), SEGMENTS, source)

    @pytest.mark.parametrize("order", ((1, 0, 2, 3), (3, 2, 1, 0)))
    def test_images_that_are_not_those_of_the_slices_are_refused(self, order):
        series = SERIES["oblique"]
        source = stack(series)
        other = DicomSource(tuple(source.headers[k] for k in order))
        with pytest.raises(InputError, match="does not lie in the slice"):
            make_dicom_seg(masks_of(series.shape), SEGMENTS, other, ijk_to_ras=series.ijk_to_ras)


def multi_frame(series, phases=2):
    """An enhanced image for each slice, with all phases of it, each a series of its own."""
    study, frame = generate_uid(), generate_uid()
    images = []
    for k in range(series.shape[0]):
        one = replace(series, shape=(1, *series.shape[1:]), origin=tuple(series.position(k)))
        image = enhanced(one, phases)
        image.StudyInstanceUID, image.FrameOfReferenceUID = study, frame
        images.append(image)
    return images


class TestSeveralMultiFrameImages:
    @pytest.mark.parametrize("phase", (0, 1))
    def test_a_file_for_each_slice(self, phase, tmp_path):
        series = SERIES["oblique"]
        images = multi_frame(series)
        source = DicomSource(tuple(images), (phase + 1,) * len(images))
        masks = masks_of(series.shape)
        seg, path = made(masks, source, series.ijk_to_ras, tmp_path)
        assert dciodvfy_errors(path, "Segmentation") == []
        assert references(seg) == [(str(i.SeriesInstanceUID), [str(i.SOPInstanceUID)]) for i in images]
        for pixels, group in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
            (item,) = group.DerivationImageSequence[0].SourceImageSequence
            k = [i.SOPInstanceUID for i in images].index(item.ReferencedSOPInstanceUID)
            assert item.ReferencedFrameNumber == phase + 1
            assert item.ReferencedSOPClassUID == images[k].SOPClassUID
            number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            assert np.array_equal(pixels, masks[number - 1][k])
        for (mask, ijk_to_ras), expected in zip(dcmqi_masks(path, tmp_path), masks, strict=True):
            assert places(mask, ijk_to_ras) == places(expected, series.ijk_to_ras)

    def test_single_images_and_frames_in_one_stack(self, tmp_path):
        series = SERIES["oblique"]
        lower = enhanced(replace(series, shape=(2, *series.shape[1:])))
        upper = list(stack(series).headers[2:])
        for header in upper:
            header.StudyInstanceUID = lower.StudyInstanceUID
        source = DicomSource((lower, lower, *upper), (1, 2, None, None))
        masks = masks_of(series.shape)
        seg, path = made(masks, source, series.ijk_to_ras, tmp_path)
        assert dciodvfy_errors(path, "Segmentation") == []
        assert [len(instances) for _, instances in references(seg)] == [1, 1, 1]
        shown = []
        for pixels, group in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
            (item,) = group.DerivationImageSequence[0].SourceImageSequence
            key = (str(item.ReferencedSOPInstanceUID), item.get("ReferencedFrameNumber"))
            shown.append(key)
            k = [(str(h.SOPInstanceUID), frame) for h, frame in source.images].index(key)
            number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            assert np.array_equal(pixels, masks[number - 1][k])
        assert len(set(shown)) == 4


class TestFrameOfReference:
    def seg_of(self, uids):
        series = SERIES["axial"]
        source = stack(series)
        for header, uid in zip(source.headers, uids, strict=True):
            header.FrameOfReferenceUID = uid
        seg = make_dicom_seg(masks_of(series.shape), SEGMENTS, source)
        return str(seg.FrameOfReferenceUID), frame_of_reference_warning(source)

    def test_that_all_have(self):
        assert self.seg_of(("1.2.3",) * 4) == ("1.2.3", "")

    @pytest.mark.parametrize("uids", [("1.2.3", "1.2.3", "1.2.4", "1.2.3"), ("", "1.2.3", "1.2.3", "1.2.3")])
    def test_that_most_have(self, uids):
        uid, said = self.seg_of(uids)
        assert uid == "1.2.3" and "and 3 more" in said and "that of 3 of the 4 slices" in said

    @pytest.mark.parametrize("uids", [("1.2.3", "1.2.3", "1.2.4", "1.2.4"), ("1.2.3", "1.2.4", "1.2.5", "1.2.6")])
    def test_a_new_one_where_none_has_most(self, uids):
        uid, said = self.seg_of(uids)
        assert uid not in uids and uid.startswith("2.25.") and "gets a new one" in said

    def test_a_new_one_where_there_is_none(self):
        uid, said = self.seg_of(("",) * 4)
        assert uid.startswith("2.25.") and "no Frame of Reference UID" in said


SHIFTS = np.array([(0, 0), (2, -1), (0, 0), (-1.4, 0.3)])
"""Pixels (j, i) by which slices have moved."""


class TestMovedSlices:
    @pytest.mark.parametrize("kind", ("axial", "oblique", "flipped", "non-square pixels"))
    def test_each_frame_lies_on_its_image(self, kind, tmp_path):
        series = SERIES[kind]
        source = stack(series, SHIFTS)
        masks = masks_of(series.shape)
        seg, path = made(masks, source, series.ijk_to_ras, tmp_path)
        assert dciodvfy_errors(path, "Segmentation") == []
        assert {str(g.PlanePositionSequence[0].ImagePositionPatient) for g in seg.PerFrameFunctionalGroupsSequence} == {
            str(header.ImagePositionPatient) for header in source.headers
        }
        for found, mask in zip(by_image(seg, source), masks, strict=True):
            assert np.array_equal(found[[0, 2]], mask[[0, 2]])
            # The first pixel of slice 1 lies at voxel (2, -1) of the volume's slice, that of slice 3 at (-1, 0).
            assert np.array_equal(found[1, :-2, 1:], mask[1, 2:, :-1])
            assert not found[1, -2:].any() and not found[1, :, 0].any()
            assert np.array_equal(found[3, 1:], mask[3, :-1]) and not found[3, 0].any()

    @pytest.mark.parametrize("kind", ("axial", "oblique", "flipped", "non-square pixels"))
    def test_all_lie_on_the_grid_of_the_volume_if_that_is_wanted(self, kind, tmp_path):
        series = SERIES[kind]
        source = stack(series, SHIFTS)
        masks = masks_of(series.shape)
        seg, path = made(masks, source, series.ijk_to_ras, tmp_path, common_grid=True)
        assert dciodvfy_errors(path, "Segmentation") == []
        assert references(seg) == [(str(h.SeriesInstanceUID), [str(h.SOPInstanceUID)]) for h in source.headers]
        preserved = {}
        for group in seg.PerFrameFunctionalGroupsSequence:
            (item,) = group.DerivationImageSequence[0].SourceImageSequence
            preserved[str(item.ReferencedSOPInstanceUID)] = item.SpatialLocationsPreserved
        found = [preserved[str(header.SOPInstanceUID)] for header in source.headers]
        assert found == ["YES", "NO", "YES", "NO"]
        for (mask, ijk_to_ras), expected in zip(dcmqi_masks(path, tmp_path), masks, strict=True):
            assert mask.shape == expected.shape
            assert places(mask, ijk_to_ras) == places(expected, series.ijk_to_ras)

    def test_on_its_images_dcmqi_does_not_find_it(self, tmp_path):
        """For which the common grid is there; were this to fail, dcmqi would have learned it."""
        series = SERIES["axial"]
        masks = masks_of(series.shape)
        _, path = made(masks, stack(series, SHIFTS), series.ijk_to_ras, tmp_path)
        found = [places(mask, ijk_to_ras) for mask, ijk_to_ras in dcmqi_masks(path, tmp_path)]
        assert found != [places(mask, series.ijk_to_ras) for mask in masks]

    @pytest.mark.parametrize("common_grid", (False, True))
    def test_images_of_several_sizes(self, common_grid, tmp_path):
        series = SERIES["axial"]
        crops = [(0, 0), (0, 2), (3, 0), (0, 0)]
        source = stack(series, np.array([(0, 0), (0, 1), (2, 0), (0, 0)]), crops)
        masks = masks_of(series.shape)
        seg, path = made(masks, source, series.ijk_to_ras, tmp_path, common_grid=common_grid)
        assert dciodvfy_errors(path, "Segmentation") == []
        if common_grid:
            found = [(mask > 0, ijk_to_ras) for mask, ijk_to_ras in dcmqi_masks(path, tmp_path)]
            assert all(
                places(mask, ijk_to_ras) == places(expected, series.ijk_to_ras)
                for (mask, ijk_to_ras), expected in zip(found, masks, strict=True)
            )
            return
        for found, mask in zip(by_image(seg, source), masks, strict=True):
            assert np.array_equal(found[1, :, :8], mask[1, :, 1:9]) and not found[1, :, 8:].any()
            assert np.array_equal(found[2, :9], mask[2, 2:11]) and not found[2, 9:].any()

    def test_rounding_is_no_movement(self, tmp_path):
        series = SERIES["axial"]
        source = stack(series, np.array([(0, 0), (0.05, 0), (0, -0.05), (0, 0)]))
        masks = masks_of(series.shape)
        for common_grid in (False, True):
            seg, path = made(masks, source, series.ijk_to_ras, tmp_path, common_grid=common_grid)
            assert same(by_image(seg, source), masks)
            (mask, ijk_to_ras), *_ = dcmqi_masks(path, tmp_path)
            assert places(mask, ijk_to_ras) == places(masks[0], series.ijk_to_ras)

    def test_a_segment_that_lies_beside_its_images_is_left_out(self):
        series = SERIES["axial"]
        masks = [np.zeros(series.shape, bool) for _ in range(3)]
        masks[0][1, 5, 5] = masks[1][3, -1, 0] = True  # the image of slice 3 ends before
        source = stack(series, np.array([(0, 0), (0, 0), (0, 0), (-2, 0)]))
        seg = make_dicom_seg(masks, SEGMENTS, source, ijk_to_ras=series.ijk_to_ras)
        assert [item.SegmentLabel for item in seg.SegmentSequence] == ["Right ventricle"]

    @settings(max_examples=25, deadline=None)
    @given(
        shape=st.tuples(st.integers(1, 4), st.integers(4, 9), st.integers(4, 9)),
        seed=st.integers(0, 10_000),
        kind=st.sampled_from(("axial", "oblique", "flipped", "sagittal", "non-square pixels")),
        common_grid=st.booleans(),
    )
    def test_no_voxel_lies_more_than_half_a_pixel_from_where_it_was_seen(self, shape, seed, kind, common_grid):
        series = replace(SERIES[kind], shape=shape, tags={"SpacingBetweenSlices": 5.0} if shape[0] == 1 else {})
        random = np.random.default_rng(seed)
        shifts = np.round(random.uniform(-2, 2, (shape[0], 2)), 3)
        crops = random.integers(0, 2, (shape[0], 2)).tolist()
        source = stack(series, shifts, crops)
        masks = [random.random(shape) < 0.4 for _ in range(3)]
        for mask in masks:
            mask[0] = True
        with tempfile.TemporaryDirectory() as folder:
            seg, _ = made(masks, source, series.ijk_to_ras, folder, common_grid=common_grid)
        position = {str(h.SOPInstanceUID): k for k, h in enumerate(source.headers)}
        names = [segment.name for segment in SEGMENTS]
        written = [masks[names.index(item.SegmentLabel)] for item in seg.SegmentSequence]  # all but the empty ones
        lps_to_ijk = np.linalg.inv(np.diag([-1.0, -1, 1, 1]) @ series.ijk_to_ras)
        axes = np.stack([series.axes[0] * series.pixel_spacing[1], series.axes[1] * series.pixel_spacing[0]])
        for pixels, group in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
            (item,) = group.DerivationImageSequence[0].SourceImageSequence
            k = position[str(item.ReferencedSOPInstanceUID)]
            mask = written[group.SegmentIdentificationSequence[0].ReferencedSegmentNumber - 1]
            first = np.array([float(x) for x in group.PlanePositionSequence[0].ImagePositionPatient])
            seen = np.argwhere(pixels)
            lps = first + seen[:, ::-1] @ axes
            ijk = (np.column_stack([lps, np.ones(len(lps))]) @ lps_to_ijk.T)[:, :3]
            nearest = nearest_voxel(ijk)
            assert (np.abs(ijk - nearest)[:, :2] <= 0.5 + 1.1e-3).all() and (nearest[:, 2] == k).all()
            # None but those of the mask; and of the mask none is missing that lies in the image.
            assert mask[k, nearest[:, 1], nearest[:, 0]].all()
            rows, columns = (s - c for s, c in zip(shape[1:], crops[k], strict=True))
            j, i = nearest_voxel(shifts[k])
            inside = mask[k, max(j, 0) : max(j + rows, 0), max(i, 0) : max(i + columns, 0)].sum()
            alone = common_grid and not _is_grid(shifts, crops)
            assert len(seen) == (mask[k].sum() if alone else inside)


def _is_grid(shifts, crops):
    return np.abs(shifts - shifts[0]).max() <= 0.1 and all(crop == crops[0] for crop in crops)


class TestResults:
    def written(self, source, folder, **options):
        """What is said of the results of a volume, and the DICOM SEG among them."""
        series = SERIES["oblique"]
        volume = Volume(np.zeros(series.shape), series.ijk_to_ras, "heart", "MR", dicom=source)
        labels = np.random.default_rng(0).integers(0, 4, series.shape).astype(np.uint8)
        segmentation = Segmentation(volume, labels, HEART, "heart-1", volume, "cpu", 0.0, ("As before.",))
        (result,) = write_results([segmentation], folder, **options)
        assert json.loads((folder / "measurements.json").read_text(encoding="utf-8"))["warnings"] == list(
            result.warnings
        )
        assert (folder / "measurements.dcm").is_file()
        return result.warnings, highdicom.seg.segread(folder / "segmentation.dcm")

    def test_nothing_more_is_said_of_a_stack_that_is_as_it_should_be(self, tmp_path):
        assert self.written(stack(SERIES["oblique"]), tmp_path / "OUT")[0] == ("As before.",)

    def test_frames_of_reference_that_differ_are_said(self, tmp_path):
        source = stack(SERIES["oblique"])
        source.headers[1].FrameOfReferenceUID = generate_uid()
        warnings, seg = self.written(source, tmp_path / "OUT")
        assert len(warnings) == 2 and "several Frame of Reference UIDs" in warnings[1]
        assert seg.FrameOfReferenceUID == source.headers[0].FrameOfReferenceUID

    def test_slices_that_moved_are_said_unless_there_is_one_grid(self, tmp_path):
        source = stack(SERIES["oblique"], SHIFTS)
        warnings, seg = self.written(source, tmp_path / "OUT")
        # 2 and -1 pixels of 1.5 mm
        assert len(warnings) == 2 and "up to 3.4 mm beside" in warnings[1] and "--common-grid" in warnings[1]
        assert len(by_image(seg, source)) == 3
        warnings, seg = self.written(source, tmp_path / "OUT", common_grid=True)
        assert warnings == ("As before.",)
        assert {str(g.PlanePositionSequence[0].ImagePositionPatient) for g in seg.PerFrameFunctionalGroupsSequence} == {
            str(h.ImagePositionPatient) for h in stack(SERIES["oblique"]).headers
        }


class TestReport:
    def phases(self, folder, count=2, per_series=1, by_phase=False):
        """A cine of several series with its DICOM SEGs: a series for some slices, or for each phase."""
        series = SERIES["oblique"]
        first, segmented, segs = None, [], []
        for n in range(count):
            source = stack(series, per_series=per_series) if not by_phase else source_of(headers(series))
            first = first or source
            for header, other in zip(source.headers, first.headers, strict=True):
                header.StudyInstanceUID, header.FrameOfReferenceUID = other.StudyInstanceUID, other.FrameOfReferenceUID
                if not by_phase:
                    header.SeriesInstanceUID = other.SeriesInstanceUID
            labels = np.random.default_rng(n).integers(0, 4, series.shape).astype(np.uint8)
            volume = Volume(np.zeros(series.shape), series.ijk_to_ras, f"phase {n}", "MR", dicom=source)
            segmented.append(Segmentation(volume, labels, HEART, "heart-1", volume, "cpu", 0.0))
            segs.append(write_dicom_seg(segmented[-1], folder / f"{n}.dcm", SegOptions(series_uid="2.25.7")))
        return segmented, segs

    @pytest.mark.parametrize("per_series", (1, 2))
    def test_it_refers_to_every_image_of_every_series(self, per_series, tmp_path):
        phases, segs = self.phases(tmp_path, per_series=per_series)
        write_dicom_sr(phases, segs, None, tmp_path / "sr.dcm")
        assert dciodvfy_errors(tmp_path / "sr.dcm", "ComprehensiveSR") == []
        report = srread(tmp_path / "sr.dcm")
        groups = report.content.get_volumetric_roi_measurement_groups()
        assert len(groups) == 6
        for number, phase in enumerate(phases):
            images = {str(h.SOPInstanceUID) for h in phase.volume.dicom.headers}
            for group in groups[3 * number : 3 * number + 3]:
                referred = group.referenced_segment.source_images_for_segmentation
                assert {str(image.referenced_sop_instance_uid) for image in referred} == images
        evidence = {str(i) for _, _, i, _ in report.get_evidence(current_procedure_only=True)}
        assert evidence == {str(seg.SOPInstanceUID) for seg in segs} | {
            str(header.SOPInstanceUID) for phase in phases for header in phase.volume.dicom.headers
        }
        series = {str(s) for _, s in report.get_evidence_series()}
        assert series == {"2.25.7", *phases[0].volume.dicom.series_uids}
        assert report.SeriesDescription == "Measurements of SAX"

    def test_a_structure_is_tracked_by_one_uid_in_all_phases(self, tmp_path):
        for by_phase in (False, True):
            phases, segs = self.phases(tmp_path, by_phase=by_phase)
            uids = []
            for _ in range(2):
                write_dicom_sr(phases, segs, None, tmp_path / "sr.dcm")
                groups = srread(tmp_path / "sr.dcm").content.get_volumetric_roi_measurement_groups()
                uids.append([str(group.tracking_uid) for group in groups])
            assert len(uids[0]) == 6 and len(set(uids[0])) == 3 and uids[0] == uids[1]  # in another report, too

    def test_frames_of_several_images(self, tmp_path):
        series = SERIES["oblique"]
        source = DicomSource(tuple(multi_frame(series)), (2,) * 4)
        volume = Volume(np.zeros(series.shape), series.ijk_to_ras, "phase 2", "MR", dicom=source)
        labels = np.random.default_rng(0).integers(0, 4, series.shape).astype(np.uint8)
        phase = Segmentation(volume, labels, HEART, "heart-1", volume, "cpu", 0.0)
        seg = write_dicom_seg(phase, tmp_path / "seg.dcm")
        write_dicom_sr([phase], [seg], None, tmp_path / "sr.dcm")
        assert dciodvfy_errors(tmp_path / "sr.dcm", "ComprehensiveSR") == []
        group = srread(tmp_path / "sr.dcm").content.get_volumetric_roi_measurement_groups()[0]
        images = group.referenced_segment.source_images_for_segmentation
        assert [image.referenced_frame_numbers for image in images] == [[2]] * 4
        assert dcmread(tmp_path / "seg.dcm").NumberOfFrames == 12
