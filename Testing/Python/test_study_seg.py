"""From a study of many series to its DICOM SEGs and its report: read, segmented, written, read by others."""

from __future__ import annotations

import json

import cine_study
import highdicom
import numpy as np
import pytest
from cine_study import REPEATED, SLICES, axes_of, move, pixels_of, series_per_slice, set_pixels, uid_of, write
from dciodvfy import dciodvfy_errors
from highdicom.sr import srread
from pydicom import dcmread
from remembered import remembered
from test_dicom_seg_others import dcmqi_masks

from dinsegment.geometry import RAS_FROM_LPS
from dinsegment.images import read_volume, read_volumes
from dinsegment.images.segmentation import Segmentation
from dinsegment.inference.model import load_model
from dinsegment.studies.results import write_results
from dinsegment.tasks import HEART

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # of UIDs that the images have of old
PHASES = (0, 8)
TAKEN = [150 if k == REPEATED else 101 + k for k in range(SLICES)]
"""Numbers of the series that the slices of `study_of` are taken from."""


def bright(volume, seed=0):
    """A segmentation by brightness, in every slice and to its edges, so that no voxel may go astray unseen."""
    labels = np.digitize(volume.array, np.percentile(volume.array, (50, 80, 95))).astype(np.uint8)
    labels[:, :3] = np.random.default_rng(seed).integers(0, 4, labels[:, :3].shape)
    return Segmentation(volume, labels, HEART, "heart-din-small", volume, "cpu", 0.0)


def results(folder, output, **options):
    """The phases of a study as segmented by brightness, with their results written."""
    phases = [bright(volume, n) for n, volume in enumerate(read_volumes(folder, None, HEART))]
    return write_results(phases, output, **options)


def seg_of(output, phase):
    return output / f"phase{phase + 1:02d}" / "segmentation.dcm"


def by_image(path, headers):
    """Labels (k, rows, columns) on the pixels of each image, as highdicom reads them."""
    seg = highdicom.seg.segread(path)
    masks = seg.get_pixels_by_source_instance([str(header.SOPInstanceUID) for header in headers]) > 0
    labels = np.zeros(masks.shape[:3], np.uint8)
    for n in range(masks.shape[-1]):
        labels[masks[..., n]] = n + 1
    return labels


def check_dcmqi(path, segmentation, folder):
    """That dcmqi finds the voxels of each segment where they are on the volume's grid."""
    folder.mkdir()
    found = dcmqi_masks(path, folder)
    assert len(found) == 3
    for label, (mask, ijk_to_ras) in enumerate(found, start=1):
        ijk = np.column_stack([np.argwhere(mask)[:, ::-1], np.ones(mask.sum())]) @ ijk_to_ras.T
        ijk = (ijk @ np.linalg.inv(segmentation.volume.ijk_to_ras).T)[:, :3]
        assert np.abs(ijk - np.rint(ijk)).max() < 0.01
        back = np.zeros_like(segmentation.labels, bool)
        back[tuple(np.rint(ijk).astype(int).T[::-1])] = True
        assert mask.sum() == back.sum() and np.array_equal(back, segmentation.labels == label)


@pytest.fixture(scope="module")
def written(study, tmp_path_factory):
    """What was segmented in the study, and the folder of its results."""
    folder = tmp_path_factory.mktemp("written") / "OUT"
    return results(study, folder), folder


class TestStudy:
    def test_each_phase_has_a_seg_of_all_its_series(self, written):
        phases, folder = written
        for n, phase in enumerate(phases):
            assert dciodvfy_errors(seg_of(folder, n), "Segmentation") == []
            seg = dcmread(seg_of(folder, n))
            referred = [str(series.SeriesInstanceUID) for series in seg.ReferencedSeriesSequence]
            assert referred == [uid_of(number) for number in TAKEN]  # that of the first slice first
            assert np.array_equal(by_image(seg_of(folder, n), phase.volume.dicom.headers), phase.labels)
            shown = [str(header.SeriesInstanceUID) for header in phase.volume.dicom.headers]
            assert shown == referred
        assert len({str(dcmread(seg_of(folder, n)).SeriesInstanceUID) for n in range(2)}) == 1
        assert not any("Frame of Reference" in text or "--common-grid" in text for p in phases for text in p.warnings)

    def test_dcmqi_reads_the_same_voxels(self, written, tmp_path):
        phases, folder = written
        for n, phase in enumerate(phases):
            check_dcmqi(seg_of(folder, n), phase, tmp_path / str(n))

    def test_the_report_refers_to_all(self, written):
        phases, folder = written
        assert dciodvfy_errors(folder / "measurements.dcm", "ComprehensiveSR") == []
        report = srread(folder / "measurements.dcm")
        images = {str(i) for _, _, i, _ in report.get_evidence()}
        assert images >= {str(h.SOPInstanceUID) for phase in phases for h in phase.volume.dicom.headers}
        groups = report.content.get_volumetric_roi_measurement_groups()
        assert len(groups) == 6 and len({str(group.tracking_uid) for group in groups}) == 3

    def test_a_corrected_segmentation_is_exported_for_the_study(self, written, study, run, tmp_path):
        phases, folder = written
        code, _, errors = run(
            "export", folder / "phase02" / "segmentation.seg.nrrd", "--source", study, "--phase", 2,
            "--series", "short-axis cine", "--output", tmp_path / "seg.dcm",
        )  # fmt: skip
        assert (code, errors) == (0, "")
        assert np.array_equal(by_image(tmp_path / "seg.dcm", phases[1].volume.dicom.headers), phases[1].labels)


def write_sequence(volumes, path):
    """Phases as a sequence of 3D Slicer."""
    ijk_to_lps = RAS_FROM_LPS @ volumes[0].ijk_to_ras
    vectors = " ".join(f"({','.join(map(repr, ijk_to_lps[:3, n].tolist()))})" for n in range(3))
    header = (
        "NRRD0005\ntype: short\ndimension: 4\nspace: left-posterior-superior\n"
        f"sizes: {' '.join(map(str, volumes[0].shape[::-1]))} {len(volumes)}\nspace directions: {vectors} none\n"
        "kinds: domain domain domain list\nendian: little\nencoding: raw\n"
        f"space origin: ({','.join(map(repr, ijk_to_lps[:3, 3].tolist()))})\n\n"
    )
    voxels = np.stack([volume.array for volume in volumes]).astype("<i2")
    path.write_bytes(header.encode() + voxels.tobytes())
    return path


def test_the_program_makes_the_same_of_a_study_of_the_series_it_was_made_of_and_of_a_sequence(
    study, original, run, monkeypatch, tmp_path
):
    """The same voxels on the same grid give the same labels; and those in the DICOM SEGs are those in the files."""
    model = remembered(load_model(None, HEART))
    monkeypatch.setattr("dinsegment.cli_segment.load", lambda *_: model)
    whole = write([cine_study.whole_series(cine_study.a_copy(original))], tmp_path / "whole")
    sequence = write_sequence(read_volumes(study, None, HEART), tmp_path / "cine.seq.nrrd")
    found = []
    for source in (study, whole, sequence):
        output = tmp_path / f"OUT {source.name}"
        code, _, errors = run("segment", source, "--task", "heart", "--output", output, "--device", "cpu")
        assert code == 0, errors
        labels = [read_volume(output / f"phase{n:02d}" / "segmentation.seg.nrrd").array for n in (1, 2)]
        assert all(phase.any() for phase in labels)
        if source.is_dir():
            headers = [volume.dicom.headers for volume in read_volumes(source, None, HEART)]
            assert np.array_equal([by_image(seg_of(output, n), headers[n]) for n in range(2)], labels)
        found.append(labels)
    assert np.array_equal(found[1], found[0]) and np.array_equal(found[2], found[0])


@pytest.mark.parametrize("layout", ("enhanced", "mixture", "per phase"))
def test_other_ways_in_which_a_stack_is_stored(layout, rows, tmp_path):
    series = {
        "enhanced": lambda: [[cine_study.enhanced(row, 101 + k)] for k, row in enumerate(rows)],
        "mixture": lambda: [
            cine_study.whole_series(rows[:8], 7), *series_per_slice(rows[8:11]), [cine_study.enhanced(rows[11], 9)]
        ],
        "per phase": lambda: cine_study.series_per_phase(rows),
    }[layout]()  # fmt: skip
    folder = write(series, tmp_path / "study")
    phases = results(folder, tmp_path / "OUT")
    assert not any("No DICOM result" in text for phase in phases for text in phase.warnings)
    for n, phase in enumerate(phases):
        assert dciodvfy_errors(seg_of(tmp_path / "OUT", n), "Segmentation") == []
        check_dcmqi(seg_of(tmp_path / "OUT", n), phase, tmp_path / str(n))
        seg = dcmread(seg_of(tmp_path / "OUT", n))
        images = {(str(header.SOPInstanceUID), frame) for header, frame in phase.volume.dicom.images}
        items = [g.DerivationImageSequence[0].SourceImageSequence[0] for g in seg.PerFrameFunctionalGroupsSequence]
        assert {(str(i.ReferencedSOPInstanceUID), i.get("ReferencedFrameNumber")) for i in items} == images
    assert dciodvfy_errors(tmp_path / "OUT" / "measurements.dcm", "ComprehensiveSR") == []
    groups = srread(tmp_path / "OUT" / "measurements.dcm").content.get_volumetric_roi_measurement_groups()
    assert len({str(group.tracking_uid) for group in groups}) == 3


class TestSlicesThatMoved:
    SPACING = 1.367188

    @pytest.fixture
    def moved(self, rows, tmp_path):
        """Slices 2 and 6 moved, by pixels and parts of them; slice 8 of a larger matrix."""
        series = series_per_slice(rows)
        row, column = axes_of(rows[0][0])
        move(series[2], (2 * row - 3 * column) * self.SPACING + 0.3 * row)
        move(series[6], 0.5 * self.SPACING * column)  # halfway between two pixels
        for image in series[8]:
            set_pixels(image, np.pad(pixels_of(image), 10, mode="reflect"))
            move([image], -self.SPACING * 10 * (row + column))
        return write(series, tmp_path / "study")

    def test_each_voxel_is_on_the_pixel_that_it_was_seen_in(self, moved, tmp_path):
        """The network has seen pixel (j, i) of an image in the voxel that has its value."""
        phases = results(moved, tmp_path / "OUT")
        for n, phase in enumerate(phases):
            headers = phase.volume.dicom.headers
            assert dciodvfy_errors(seg_of(tmp_path / "OUT", n), "Segmentation") == []
            found = by_image(seg_of(tmp_path / "OUT", n), headers)
            images = {str(image.SOPInstanceUID): image for image in map(dcmread, moved.iterdir())}
            thresholds = np.percentile(phase.volume.array, (50, 80, 95))
            lps_to_ijk = np.linalg.inv(RAS_FROM_LPS @ phase.volume.ijk_to_ras)
            for k, header in enumerate(headers):
                pixels = pixels_of(images[str(header.SOPInstanceUID)]).astype(np.float32)
                labels = np.digitize(pixels, thresholds)
                i, j = (lps_to_ijk @ (*map(float, header.ImagePositionPatient), 1.0))[:2]
                rows, columns = pixels.shape
                # But for the edge, where labels are random, and what lies outside of the volume.
                inside = np.zeros(pixels.shape, bool)
                top, left = max(0, 4 - int(np.floor(j))), max(0, 1 - int(np.floor(i)))
                inside[top : 256 - int(np.ceil(j)) - 1, left : 256 - int(np.ceil(i)) - 1] = True
                assert np.array_equal(found[k, :rows, :columns][inside], labels[inside])
            assert "beside one another" in " ".join(phase.warnings)

    def test_on_one_grid_dcmqi_reads_the_voxels_of_the_volume(self, moved, tmp_path):
        phases = results(moved, tmp_path / "OUT", common_grid=True)
        for n, phase in enumerate(phases):
            assert dciodvfy_errors(seg_of(tmp_path / "OUT", n), "Segmentation") == []
            check_dcmqi(seg_of(tmp_path / "OUT", n), phase, tmp_path / str(n))
            assert "beside one another" not in " ".join(phase.warnings)

    def test_the_program_has_the_option(self, moved, run, tmp_path):
        phases = results(moved, tmp_path / "OUT")
        for options, shared in (((), False), (("--common-grid",), True)):
            code, _, errors = run(
                "export", tmp_path / "OUT" / "phase01" / "segmentation.seg.nrrd", "--source", moved, "--phase", 1,
                "--series", "short-axis cine", "--output", tmp_path / f"{shared}.dcm", *options,
            )  # fmt: skip
            assert code == 0 and ("--common-grid" in errors) != shared
        check_dcmqi(tmp_path / "True.dcm", phases[0], tmp_path / "back")
        assert np.array_equal(
            by_image(tmp_path / "False.dcm", phases[0].volume.dicom.headers),
            by_image(seg_of(tmp_path / "OUT", 0), phases[0].volume.dicom.headers),
        )


@pytest.mark.parametrize(("own", "words"), [(1, "that of 11 of the 12 slices"), (SLICES, "a new one")])
def test_series_that_name_frames_of_reference_of_their_own(own, words, rows, tmp_path):
    series = series_per_slice(rows)
    for k, images in enumerate(series[:own]):
        for image in images:
            image.FrameOfReferenceUID = f"{cine_study.ROOT}.77.{k + 1}"
    phases = results(write(series, tmp_path / "study"), tmp_path / "OUT")
    said = json.loads((tmp_path / "OUT" / "measurements.json").read_text(encoding="utf-8"))["warnings"]
    assert any(words in text for text in said)
    uids = {str(dcmread(seg_of(tmp_path / "OUT", n)).FrameOfReferenceUID) for n in range(len(phases))}
    assert len(uids) == 1 and (uids == {f"{cine_study.ROOT}.2"}) == (own == 1)


def test_images_whose_study_was_taken_away_belong_together(rows, tmp_path):
    series = series_per_slice(rows)
    for image in (image for images in series for image in images):
        image.StudyInstanceUID = ""
    phases = results(write(series, tmp_path / "study"), tmp_path / "OUT")
    assert not any("No DICOM result" in text for phase in phases for text in phase.warnings)
    assert len({str(dcmread(seg_of(tmp_path / "OUT", n)).StudyInstanceUID) for n in range(2)}) == 1
