"""`dinsegment export`, and the DICOM among the results of images that came from DICOM."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_cases import SERIES, Series, headers, write_series
from pydicom import dcmread
from read_dicom_seg import read_dicom_seg

from dinsegment.geometry import RAS_FROM_LPS
from dinsegment.images import read_volume, read_volumes, write_segmentation, write_volume
from dinsegment.images.fingerprint import fingerprints
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.volume import Volume
from dinsegment.manifest import MANIFEST
from dinsegment.models.entries import find_entry
from dinsegment.studies.ledger import Ledger
from dinsegment.studies.results import RESULT_FILES, write_results
from dinsegment.studies.study import Study, write_study
from dinsegment.tasks import ABDOMEN, HEART

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
SAX = Series(shape=(3, 16, 14), axes=SERIES["oblique"].axes, step=8.0, thickness=6.0)
BOTH = ["measurements.dcm", "segmentation.dcm"]


@pytest.fixture
def export(run):
    """Runs `dinsegment export`; gives its exit code and what it printed, errors included."""

    def export(*arguments: object) -> tuple[int, str]:
        code, printed, errors = run("export", *arguments)
        return code, printed + errors

    return export


def segmentation_of(volume, seed=0, task=HEART):
    labels = np.random.default_rng(seed).integers(0, task.classes, volume.shape).astype(np.uint8)
    return Segmentation(volume, labels, task, f"{task.name}-1", volume, "cpu", 1.0)


@pytest.fixture
def study(tmp_path):
    """A folder of DICOM images, what is read of it, a segmentation, and that as .seg.nrrd."""
    write_series(tmp_path / "images", SAX)
    volume = read_volume(tmp_path / "images")
    segmentation = segmentation_of(volume)
    write_segmentation(segmentation, tmp_path / "heart.seg.nrrd")
    return tmp_path, volume, segmentation


def fails(result, *words):
    code, text = result
    assert code == 2 and text.startswith("Error: ") and text.count("\n") == 1
    for word in words:
        assert word in text


def same(path, reference, segmentation):
    content = read_dicom_seg(path, reference)
    by_name = {segment.name: mask for segment, mask in zip(content.segments, content.masks, strict=True)}
    known = {s.name: segmentation.labels == s.label for s in segmentation.task.segments}
    assert set(by_name) == {name for name, mask in known.items() if mask.any()}
    return all(np.array_equal(known[name], mask) for name, mask in by_name.items())


def edit_fields(path, change):
    """Rewrites the header fields of a .seg.nrrd file."""
    image = sitk.ReadImage(str(path))
    for key in image.GetMetaDataKeys():
        image.SetMetaData(key, change(key, image.GetMetaData(key)))
    sitk.WriteImage(image, str(path), useCompression=True)


class TestExport:
    def test_of_our_file(self, export, study):
        folder, volume, segmentation = study
        code, text = export(folder / "heart.seg.nrrd", "--source", folder / "images", "-o", folder / "seg.dcm")
        assert code == 0
        assert "Right ventricle, Left ventricular myocardium, Left ventricle" in text and "not a medical" in text
        assert same(folder / "seg.dcm", volume, segmentation)
        item = dcmread(folder / "seg.dcm").SegmentSequence[2]
        assert (item.SegmentAlgorithmType, item.SegmentAlgorithmName) == ("AUTOMATIC", "DINSegment heart-1")
        assert item.SegmentedPropertyTypeCodeSequence[0].CodeValue == "87878005"

    def test_says_what_it_is_told(self, export, study):
        folder, _, _ = study
        code, _ = export(
            *(folder / "heart.seg.nrrd", "--source", folder / "images", "--output", folder / "seg.dcm"),
            *("--description", "Zweiter Lauf", "--series-number", 17, "--creator", "Müller^Eva"),
            *("--uid-root", "1.2.3.4"),
        )
        seg = dcmread(folder / "seg.dcm")
        assert code == 0
        assert (seg.ContentDescription, seg.SeriesDescription) == ("Zweiter Lauf", "Zweiter Lauf")
        assert (seg.SeriesNumber, str(seg.ContentCreatorName)) == (17, "Müller^Eva")
        assert seg.SOPInstanceUID.startswith("1.2.3.4.")

    def test_deterministic(self, export, study):
        folder, _, _ = study
        for name in ("a.dcm", "b.dcm"):
            code, _ = export(
                folder / "heart.seg.nrrd", "--source", folder / "images", "-o", folder / name, "--deterministic"
            )
            assert code == 0
        assert (folder / "a.dcm").read_bytes() == (folder / "b.dcm").read_bytes()

    @pytest.mark.parametrize("suffix", (".nii.gz", ".nrrd", ".mha"))
    @pytest.mark.parametrize("model", (None, "heart-2"))
    def test_of_a_labelmap(self, export, study, suffix, model):
        folder, volume, segmentation = study
        path = folder / f"labels{suffix}"
        write_volume(volume.with_array(segmentation.labels.astype(np.float32)), path, np.uint8)
        arguments = [path, "--source", folder / "images", "-o", folder / "seg.dcm"]
        fails(export(*arguments), path.name, "task")
        code, _ = export(*arguments, "--task", "heart", *(["--model", model] if model else []))
        assert code == 0
        assert same(folder / "seg.dcm", volume, segmentation)
        item = dcmread(folder / "seg.dcm").SegmentSequence[0]
        assert item.SegmentAlgorithmType == ("AUTOMATIC" if model else "MANUAL")
        assert item.get("SegmentAlgorithmName") == (model and "DINSegment heart-2")

    def test_of_a_labelmap_with_its_axes_turned(self, export, study):
        folder, volume, segmentation = study
        image = sitk.GetImageFromArray(segmentation.labels)
        ijk_to_lps = RAS_FROM_LPS @ volume.ijk_to_ras
        image.SetSpacing(volume.spacing[::-1])
        image.SetOrigin(ijk_to_lps[:3, 3])
        image.SetDirection((ijk_to_lps[:3, :3] / volume.spacing[::-1]).ravel())
        image = sitk.Flip(sitk.PermuteAxes(image, [2, 0, 1]), [True, False, True])
        sitk.WriteImage(image, str(folder / "turned.nrrd"))
        arguments = (folder / "turned.nrrd", "--source", folder / "images", "-o", folder / "seg.dcm", "--task", "heart")
        assert export(*arguments)[0] == 0
        assert same(folder / "seg.dcm", volume, segmentation)

    def test_of_a_file_that_slicer_has_cut_to_the_segments(self, export, study):
        folder, volume, segmentation = study
        segmentation.labels[0] = 0
        segmentation.labels[:, :, 10:] = 0
        write_segmentation(segmentation, folder / "heart.seg.nrrd")
        whole = sitk.ReadImage(str(folder / "heart.seg.nrrd"))
        part = whole[:10, :, 1:]
        for key in whole.GetMetaDataKeys():
            if key.startswith("Segment"):
                part.SetMetaData(key, whole.GetMetaData(key))
        sitk.WriteImage(part, str(folder / "cut.seg.nrrd"))
        assert export(folder / "cut.seg.nrrd", "--source", folder / "images", "-o", folder / "seg.dcm")[0] == 0
        assert same(folder / "seg.dcm", volume, segmentation)

    def test_a_segment_changed_by_hand_is_semiautomatic(self, export, study):
        folder, volume, segmentation = study
        marks = fingerprints(segmentation.labels, (1, 2, 3), volume.ijk_to_ras)
        marks[3] = fingerprints(segmentation.labels[:, 1:], (3,), volume.ijk_to_ras)[3]

        def mark(key, value):
            if not key.endswith("_Tags"):
                return value
            return f"{value}DINSegment.Version:0.0.9|DINSegment.Fingerprint:{marks[int(key[7]) + 1]}|"

        edit_fields(folder / "heart.seg.nrrd", mark)
        assert export(folder / "heart.seg.nrrd", "--source", folder / "images", "-o", folder / "seg.dcm")[0] == 0
        items = dcmread(folder / "seg.dcm").SegmentSequence
        assert [item.SegmentAlgorithmType for item in items] == ["AUTOMATIC", "AUTOMATIC", "SEMIAUTOMATIC"]
        assert items[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion == "0.0.9"

    def test_a_segment_that_nobody_said_what_it_is(self, export, study):
        folder, _, _ = study
        edit_fields(
            folder / "heart.seg.nrrd",
            lambda key, value: "Segmentation.Status:new|" if key == "Segment1_Tags" else value,
        )
        result = export(folder / "heart.seg.nrrd", "--source", folder / "images", "-o", folder / "seg.dcm")
        fails(result, "'Left ventricular myocardium'", "terminology")

    def test_of_another_grid(self, export, study):
        folder, volume, segmentation = study
        moved = replace(volume, ijk_to_ras=volume.ijk_to_ras @ np.diag([1.1, 1, 1, 1]))
        write_volume(moved.with_array(segmentation.labels), folder / "moved.nii.gz", np.uint8)
        arguments = (
            folder / "moved.nii.gz",
            "--source",
            folder / "images",
            "-o",
            folder / "seg.dcm",
            "--task",
            "heart",
        )
        fails(export(*arguments), "moved.nii.gz", "14 x 16 x 3 voxels of 1.65 x 1.5 x 8 mm", "grid")
        assert not (folder / "seg").exists()

    def test_of_labels_that_the_task_does_not_have(self, export, study):
        folder, volume, segmentation = study
        for values, said in ((segmentation.labels * 2.0, "4, 6"), (segmentation.labels / 2.0, "0.5, 1.5")):
            write_volume(volume.with_array(values), folder / "labels.nrrd")
            arguments = ("--source", folder / "images", "-o", folder / "seg.dcm", "--task", "heart")
            fails(export(folder / "labels.nrrd", *arguments), said)

    def test_of_segments_that_overlap(self, export, study):
        folder, _, segmentation = study
        layers = np.stack([segmentation.labels, segmentation.labels], axis=-1)
        sitk.WriteImage(sitk.GetImageFromArray(layers, isVector=True), str(folder / "layers.seg.nrrd"))
        fails(export(folder / "layers.seg.nrrd", "--source", folder / "images", "-o", folder / "seg.dcm"), "overlap")

    @pytest.mark.parametrize("content", (None, b"", b"NRRD0004\ntype: uchar\n"))
    def test_of_a_file_that_cannot_be_read(self, export, study, content):
        folder, _, _ = study
        if content is not None:
            (folder / "bad.seg.nrrd").write_bytes(content)
        fails(export(folder / "bad.seg.nrrd", "--source", folder / "images", "-o", folder / "seg.dcm"), "bad.seg.nrrd")

    def test_of_nothing(self, export, study):
        folder, volume, _ = study
        write_volume(volume.with_array(np.zeros(volume.shape)), folder / "labels.nrrd", np.uint8)
        arguments = ("--source", folder / "images", "-o", folder / "seg.dcm", "--task", "heart")
        fails(export(folder / "labels.nrrd", *arguments), "no segment has a voxel")

    def test_of_images_that_are_not_dicom(self, export, study):
        folder, volume, _ = study
        write_volume(volume, folder / "image.nii.gz")
        result = export(folder / "heart.seg.nrrd", "--source", folder / "image.nii.gz", "-o", folder / "seg.dcm")
        fails(result, "image.nii.gz", "not DICOM")

    def test_of_one_series_of_several(self, export, study):
        folder, volume, segmentation = study
        for k, image in enumerate(headers(SAX)):
            image.save_as(folder / "images" / f"other{k}.dcm", enforce_file_format=True)
        arguments = [folder / "heart.seg.nrrd", "--source", folder / "images", "-o", folder / "seg.dcm"]
        fails(export(*arguments), "2 DICOM series")
        assert export(*arguments, "--series", volume.dicom.headers[0].SeriesInstanceUID)[0] == 0
        assert same(folder / "seg.dcm", volume, segmentation)

    def test_of_one_phase_of_a_cine(self, export, tmp_path):
        phases = write_cine(tmp_path / "cine")
        segmentation = segmentation_of(phases[1])
        write_segmentation(segmentation, tmp_path / "heart.seg.nrrd")
        arguments = [tmp_path / "heart.seg.nrrd", "--source", tmp_path / "cine", "-o", tmp_path / "seg.dcm"]
        fails(export(*arguments), "2 phases")
        fails(export(*arguments, "--phase", 3), "no phase 3")
        assert export(*arguments, "--phase", 2)[0] == 0
        assert same(tmp_path / "seg.dcm", phases[1], segmentation)


def write_cine(folder, series=SAX, count=2):
    """A series of several phases; returns the volumes that are read of it."""
    folder.mkdir()
    images = [headers(series) for _ in range(count)]
    for phase, of_phase in enumerate(images):
        for k, image in enumerate(of_phase):
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
                setattr(image, keyword, images[0][0][keyword].value)
            image.TriggerTime, image.InstanceNumber = 40 * phase, k * count + phase + 1
            image.save_as(folder / f"{k}-{phase}.dcm", enforce_file_format=True)
    return read_volumes(folder)


class TestResults:
    def test_of_one_volume(self, study):
        folder, volume, segmentation = study
        assert write_results([segmentation], folder / "OUT") == [segmentation]
        assert sorted(p.name for p in (folder / "OUT").iterdir()) == sorted([*RESULT_FILES, MANIFEST])
        assert same(folder / "OUT" / "segmentation.dcm", volume, segmentation)
        report, seg = (dcmread(folder / "OUT" / name) for name in BOTH)
        assert report.Modality == "SR" and seg.Modality == "SEG"
        evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        referred = {i.ReferencedSOPInstanceUID for series in evidence for i in series.ReferencedSOPSequence}
        assert seg.SOPInstanceUID in referred

    def test_of_a_cine(self, tmp_path):
        phases = [segmentation_of(volume, n) for n, volume in enumerate(write_cine(tmp_path / "cine"))]
        write_results(phases, tmp_path / "OUT")
        segs = [dcmread(tmp_path / "OUT" / f"phase0{n}" / "segmentation.dcm") for n in (1, 2)]
        for n, phase in enumerate(phases, start=1):
            assert same(tmp_path / "OUT" / f"phase0{n}" / "segmentation.dcm", phase.volume, phase)
            assert not (tmp_path / "OUT" / f"phase0{n}" / "measurements.dcm").exists()
        assert (tmp_path / "OUT" / "measurements.dcm").exists()
        assert segs[0].SeriesInstanceUID == segs[1].SeriesInstanceUID
        assert segs[0].SOPInstanceUID != segs[1].SOPInstanceUID
        assert [seg.InstanceNumber for seg in segs] == [1, 2]
        assert [seg.ContentDescription for seg in segs] == ["Cardiac phase 1 of 2", "Cardiac phase 2 of 2"]

    def test_of_a_phase_in_which_nothing_was_found(self, tmp_path):
        first, second = (segmentation_of(volume) for volume in write_cine(tmp_path / "cine"))
        empty = replace(second, labels=np.zeros_like(second.labels))
        assert write_results([first, empty], tmp_path / "OUT")[1].warnings == ()
        assert (tmp_path / "OUT" / "phase01" / "segmentation.dcm").exists()
        assert not (tmp_path / "OUT" / "phase02" / "segmentation.dcm").exists()
        write_results([first], tmp_path / "one")
        write_results([replace(first, labels=empty.labels)], tmp_path / "one")
        assert not any((tmp_path / "one" / name).exists() for name in BOTH)  # nor are there those of the first run

    def test_dicom_of_others_in_the_folder_stays(self, tmp_path):
        volume = Volume(np.random.default_rng(0).random((3, 8, 8)), np.eye(4))
        headers(SAX)[0].save_as(tmp_path / "segmentation.dcm", enforce_file_format=True)
        (tmp_path / "measurements.dcm").write_text("theirs")
        write_results([segmentation_of(volume)], tmp_path)
        assert all((tmp_path / name).exists() for name in BOTH)

    def test_of_an_image_that_is_not_dicom(self, tmp_path):
        volume = Volume(np.random.default_rng(0).random((3, 8, 8)), np.eye(4))
        write_results([segmentation_of(volume)], tmp_path)
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted({*RESULT_FILES, MANIFEST} - set(BOTH))

    def test_images_that_no_dicom_can_refer_to_are_segmented_all_the_same(self, tmp_path):
        write_series(tmp_path / "images", SAX)
        file = min((tmp_path / "images").iterdir())
        other = dcmread(file)
        other.StudyInstanceUID = "1.2.3.4.5"
        other.save_as(file)
        phases = [segmentation_of(read_volume(tmp_path / "images"))]
        result = write_study(Study(tmp_path / "images", tmp_path / "OUT"), phases)
        assert sorted(p.name for p in (tmp_path / "OUT").iterdir()) == sorted({*RESULT_FILES, MANIFEST} - set(BOTH))
        (warning,) = result.warnings
        assert "No DICOM result" in warning and "several studies" in warning
        assert json.loads((tmp_path / "OUT" / "measurements.json").read_text(encoding="utf-8"))["warnings"] == [warning]

    def test_results_without_their_dicom_are_not_complete(self, tmp_path):
        write_series(tmp_path / "images", SAX)
        (tmp_path / "OUT").mkdir()
        study = Study(tmp_path / "images", tmp_path / "OUT" / "images")
        ledger = Ledger(tmp_path / "OUT", HEART, find_entry(None, HEART))
        assert ledger.claim(study) is None
        ledger.settle(study, write_study(study, [segmentation_of(read_volume(tmp_path / "images"))]))
        assert ledger.claim(study).status == "skipped"
        for name in BOTH:
            content = (study.folder / name).read_bytes()
            (study.folder / name).unlink()
            assert ledger.claim(study) is None
            ledger.close()
            (study.folder / name).write_bytes(content)
        assert ledger.claim(study).status == "skipped"

    def test_organs_of_real_ct(self, dcmqi_folder, tmp_path):
        volume = read_volume(dcmqi_folder)
        labels = np.zeros(volume.shape, np.uint8)
        labels[:, 200:260, 100:200] = 5
        labels[1, 300:320, 300:330] = 3
        phases = [Segmentation(volume, labels, ABDOMEN, "m", volume, "cpu", 1.0)]
        write_results(phases, tmp_path)
        assert same(tmp_path / "segmentation.dcm", volume, phases[0])
