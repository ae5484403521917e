"""DICOM SEG as written: what it says, what it refers to, and what dciodvfy finds wrong with it."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pytest
from dciodvfy import dciodvfy_errors
from dicom_cases import SERIES, enhanced, headers, source_of, volume_of
from pydicom import Dataset, dcmread
from pydicom.uid import UID
from read_dicom_seg import read_dicom_seg

from dinsegment.dicom.codes import ARTIFICIAL_INTELLIGENCE
from dinsegment.dicom.source import DicomSource
from dinsegment.dicom.write.save import save_dicom
from dinsegment.dicom.write.seg import SegOptions, SegSegment, make_dicom_seg, task_segments, write_dicom_seg
from dinsegment.errors import InputError, OutputError
from dinsegment.images import read_volumes
from dinsegment.images.segmentation import Segmentation
from dinsegment.tasks import ABDOMEN, ANATOMICAL_STRUCTURE, HEART, LEFT, LEFT_VENTRICLE, Code, get_task

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # of values that are wrong on purpose

LIVER = SegSegment("Leber", ANATOMICAL_STRUCTURE, Code("SCT", "10200004", "Liver"), algorithm_name="Test")


def masks_of(series, count=3, seed=1):
    """Masks that do not overlap, none in the first and the last slice where there are others."""
    labels = np.random.default_rng(seed).integers(0, count + 1, series.shape)
    if series.shape[0] > 2:
        labels[[0, -1]] = 0
    return [labels == n for n in range(1, count + 1)]


def heart_seg(series=SERIES["axial"], source=None, **options):
    source = source or source_of(headers(series))
    return make_dicom_seg(masks_of(series), task_segments(HEART, "heart-1"), source, SegOptions(**options))


def fails(source, *words, series=SERIES["axial"]):
    with pytest.raises(InputError) as caught:
        heart_seg(series, source)
    for word in words:
        assert word in str(caught.value)


def changed(images, **values):
    """A source of images in which some values differ."""
    source = source_of(images)
    for header in source.headers:
        for keyword, value in values.items():
            if value is None:
                header.pop(keyword, None)
            else:
                setattr(header, keyword, value)
    return source


class TestContent:
    def test_segments_say_what_they_are(self):
        masks = masks_of(SERIES["CT"], 8)
        seg = make_dicom_seg(masks, task_segments(ABDOMEN, "m"), source_of(headers(SERIES["CT"])))
        assert [item.SegmentLabel for item in seg.SegmentSequence] == [s.name for s in ABDOMEN.segments]
        kidney = seg.SegmentSequence[2]
        assert kidney.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "123037004"
        kind = kidney.SegmentedPropertyTypeCodeSequence[0]
        assert (kind.CodeValue, kind.CodingSchemeDesignator, kind.CodeMeaning) == ("64033007", "SCT", "Kidney")
        modifier = kind.SegmentedPropertyTypeModifierCodeSequence[0]
        assert (modifier.CodeValue, modifier.CodeMeaning) == (LEFT.value, "Left")
        red, green, blue = highdicom.color.CIELabColor.from_dicom_value(kidney.RecommendedDisplayCIELabValue).to_rgb()
        assert (red, green, blue) == ABDOMEN.segments[2].color

    def test_an_infarct_is_an_altered_structure_of_the_muscle(self, tmp_path):
        task = get_task("infarct")
        seg = make_dicom_seg(
            masks_of(SERIES["axial"], 4), task_segments(task, "m"), source_of(headers(SERIES["axial"]))
        )
        said = [
            (
                item.SegmentLabel,
                item.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning,
                item.SegmentedPropertyTypeCodeSequence[0].CodeValue,
                item.SegmentationAlgorithmIdentificationSequence[0].AlgorithmFamilyCodeSequence[0].CodeMeaning,
            )
            for item in seg.SegmentSequence
        ]
        altered, family = "Morphologically Altered Structure", "Artificial Intelligence"
        assert said == [
            ("Left ventricle", "Anatomical Structure", "87878005", family),
            ("Normal myocardium", "Anatomical Structure", "74281007", family),
            ("Infarct", altered, "55641003", family),
            ("No-reflow", altered, "26036001", family),
        ]
        regions = [item.AnatomicRegionSequence[0].CodeMeaning for item in seg.SegmentSequence[1:]]
        assert regions == ["Left ventricle", "Myocardium", "Myocardium"]
        save_dicom(seg, tmp_path / "seg.dcm")
        assert dciodvfy_errors(tmp_path / "seg.dcm", "Segmentation") == []

    def test_the_algorithm_is_named(self):
        item = heart_seg().SegmentSequence[0]
        assert (item.SegmentAlgorithmType, item.SegmentAlgorithmName) == ("AUTOMATIC", "DINSegment heart-1")
        algorithm = item.SegmentationAlgorithmIdentificationSequence[0]
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("DINSegment heart-1", "0.1.0")
        assert algorithm.AlgorithmFamilyCodeSequence[0].CodeValue == ARTIFICIAL_INTELLIGENCE.value == "123110"

    def test_the_myocardium_is_that_of_the_left_ventricle(self):
        regions = [item.get("AnatomicRegionSequence") for item in heart_seg().SegmentSequence]
        assert regions[0] is None and regions[2] is None
        assert regions[1][0].CodeValue == LEFT_VENTRICLE.value

    @pytest.mark.parametrize("kind", ("MANUAL", "SEMIAUTOMATIC"))
    def test_segments_that_a_user_drew_or_changed(self, kind):
        name = None if kind == "MANUAL" else "Test"
        segment = replace(LIVER, algorithm_type=kind, algorithm_name=name)
        item = make_dicom_seg(masks_of(SERIES["CT"], 1), [segment], source_of(headers(SERIES["CT"]))).SegmentSequence[0]
        assert (item.SegmentAlgorithmType, item.get("SegmentAlgorithmName")) == (kind, name)
        assert "SegmentationAlgorithmIdentificationSequence" not in item  # of an algorithm without a version

    def test_names_of_any_kind(self, tmp_path):
        names = ["Leber\\links\nunten", "x" * 100, "", "肝臓"]
        masks = [np.ones(SERIES["CT"].shape, bool)] * 4
        seg = make_dicom_seg(masks, [replace(LIVER, name=name) for name in names], source_of(headers(SERIES["CT"])))
        check(seg, tmp_path)
        labels = [item.SegmentLabel for item in dcmread(tmp_path / "checked.dcm").SegmentSequence]
        assert labels == ["Leber/links unten", "x" * 64, "Liver", "肝臓"]

    def test_empty_segments_are_left_out_and_empty_slices_are_not(self):
        masks = masks_of(SERIES["axial"])
        masks[1][:] = False
        seg = make_dicom_seg(masks, task_segments(HEART, "m"), source_of(headers(SERIES["axial"])))
        assert [item.SegmentLabel for item in seg.SegmentSequence] == ["Right ventricle", "Left ventricle"]
        assert [item.SegmentNumber for item in seg.SegmentSequence] == [1, 2]
        assert seg.NumberOfFrames == 2 * SERIES["axial"].shape[0]

    def test_patient_study_and_trial_are_the_sources(self):
        images = headers(SERIES["axial"])
        seg = heart_seg(source=source_of(images))
        for keyword in (
            *("PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID"),
            *("AccessionNumber", "StudyDescription", "FrameOfReferenceUID", "PositionReferenceIndicator"),
            *("ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialSubjectID", "ClinicalTrialSiteID"),
            "ClinicalTrialTimePointID",
        ):
            assert seg[keyword].value == images[0][keyword].value, keyword
        assert (str(seg.PatientName), str(seg.ReferringPhysicianName)) == ("Müller^Jörg", "Ärztin^Eva")
        assert seg.SeriesInstanceUID != images[0].SeriesInstanceUID

    def test_names_and_numbers_are_chosen(self):
        chosen = {
            "content_creator": "Müller^Eva",
            "description": "Zweiter Lauf für Übung",
            "series_description": "Herz",
            "series_number": 12,
            "instance_number": 3,
            "series_uid": "1.2.3.4",
        }
        seg = heart_seg(**chosen)
        assert (str(seg.ContentCreatorName), seg.ContentDescription) == ("Müller^Eva", chosen["description"])
        assert (seg.SeriesDescription, seg.SeriesNumber, seg.InstanceNumber) == ("Herz", 12, 3)
        assert seg.SeriesInstanceUID == "1.2.3.4"
        assert heart_seg().SeriesDescription == "Segmentation of SAX"

    @pytest.mark.parametrize(
        "options",
        (
            {"description": "x" * 65},
            {"series_description": "two\nlines"},
            {"series_number": 0},
            {"content_creator": "x" * 65},
            {"uid_root": "1.02.3"},
            {"uid_root": "1.2.3."},
            {"uid_root": "1." + "2" * 60},
            {"uid_root": "my.root"},
        ),
    )
    def test_what_dicom_cannot_hold_is_refused(self, options):
        with pytest.raises(InputError):
            SegOptions(**options)

    def test_an_algorithm_has_a_name_and_a_known_type(self):
        with pytest.raises(InputError, match="name of the algorithm"):
            replace(LIVER, algorithm_name=None)
        with pytest.raises(InputError, match="AUTOMATIC, SEMIAUTOMATIC, MANUAL"):
            replace(LIVER, algorithm_type="GUESSED")


class TestReferences:
    @pytest.mark.parametrize("kind", SERIES)
    def test_every_frame_is_of_its_slice_and_refers_to_it(self, kind):
        series = SERIES[kind]
        images = headers(series)
        masks = masks_of(series)
        seg = make_dicom_seg(masks, task_segments(HEART, "m"), source_of(images))
        frames = seg.pixel_array.reshape(-1, *series.shape[1:])
        assert len(frames) == 3 * len(images)
        for pixels, group in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
            (item,) = group.DerivationImageSequence[0].SourceImageSequence
            k = [image.SOPInstanceUID for image in images].index(item.ReferencedSOPInstanceUID)
            assert group.PlanePositionSequence[0].ImagePositionPatient == images[k].ImagePositionPatient
            number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            assert np.array_equal(pixels, masks[number - 1][k])
        assert {i.ReferencedSOPInstanceUID for i in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence} == {
            image.SOPInstanceUID for image in images
        }
        assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == images[0].SeriesInstanceUID

    @pytest.mark.parametrize("kind", SERIES)
    def test_slices_are_as_far_apart_as_they_are(self, kind):
        series = SERIES[kind]
        tags = {"SpacingBetweenSlices": 99.0} if series.shape[0] > 1 else {}
        measures = heart_seg(series, changed(headers(series), **tags)).SharedFunctionalGroupsSequence[0]
        measures = measures.PixelMeasuresSequence[0]
        assert measures.SpacingBetweenSlices == series.step
        assert measures.SliceThickness == series.thickness
        assert list(measures.PixelSpacing) == list(series.pixel_spacing)

    @pytest.mark.parametrize("phase", (0, 1))
    def test_frames_of_an_enhanced_image(self, phase):
        series = SERIES["oblique"]
        image = enhanced(series, phases=2)
        frames = tuple(range(phase + 1, 2 * series.shape[0] + 1, 2))[::-1]  # from the last slice to the first
        masks = masks_of(series, 2)
        seg = make_dicom_seg(masks, task_segments(HEART, "m")[:2], DicomSource((image,), frames))
        pixels = seg.pixel_array
        assert seg.NumberOfFrames == 2 * len(frames)
        for plane, group in zip(pixels, seg.PerFrameFunctionalGroupsSequence, strict=True):
            (item,) = group.DerivationImageSequence[0].SourceImageSequence
            assert item.ReferencedSOPInstanceUID == image.SOPInstanceUID
            k = frames.index(item.ReferencedFrameNumber)
            here = image.PerFrameFunctionalGroupsSequence[frames[k] - 1].PlanePositionSequence[0]
            assert group.PlanePositionSequence[0].ImagePositionPatient == here.ImagePositionPatient
            number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            assert np.array_equal(plane, masks[number - 1][k])

    def test_overlapping_segments_keep_all_their_voxels(self):
        series = SERIES["CT"]
        masks = [np.random.default_rng(n).random(series.shape) < 0.6 for n in range(3)]
        seg = make_dicom_seg(masks, task_segments(ABDOMEN, "m")[:3], source_of(headers(series)))
        assert seg.SegmentsOverlap == "YES"
        assert seg.pixel_array.sum() == sum(mask.sum() for mask in masks)


class TestDamagedSources:
    def test_several_frames_of_reference_become_one(self, caplog):
        images = headers(SERIES["axial"])
        for image in images:
            image.FrameOfReferenceUID = highdicom.UID()
        seg = heart_seg(source=source_of(images))
        assert seg.FrameOfReferenceUID.is_valid
        assert seg.FrameOfReferenceUID not in [image.FrameOfReferenceUID for image in images]
        assert "several Frame of Reference UIDs" in caplog.text
        again = heart_seg(source=source_of(images[::-1]))
        assert again.FrameOfReferenceUID == seg.FrameOfReferenceUID  # so that phases of a cine agree

    @pytest.mark.parametrize("value", (None, ""))
    def test_no_frame_of_reference(self, caplog, value):
        seg = heart_seg(source=changed(headers(SERIES["axial"]), FrameOfReferenceUID=value))
        assert seg.FrameOfReferenceUID.is_valid
        assert "no Frame of Reference UID" in caplog.text

    def test_invalid_uids_are_referred_to_as_they_are(self):
        images = headers(SERIES["axial"])
        for k, image in enumerate(images):
            image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.03", "1.2.04"
            image.SOPInstanceUID = f"1.2.05.{k}"
        seg = heart_seg(source=source_of(images))
        assert seg.StudyInstanceUID == "1.2.03"
        (series,) = seg.ReferencedSeriesSequence
        assert series.SeriesInstanceUID == "1.2.04"
        assert [i.ReferencedSOPInstanceUID for i in series.ReferencedInstanceSequence] == [
            f"1.2.05.{k}" for k in range(4)
        ]
        assert seg.SOPInstanceUID.is_valid and seg.SeriesInstanceUID.is_valid

    def test_impossible_values_are_left_out(self, tmp_path):
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = "1.2.840.10008.3.1.2.1.1", "1.02"
        source = changed(
            headers(SERIES["axial"]),
            **{"StudyDate": "20120000", "PatientBirthDate": "00000000", "PatientSex": "?", "StudyTime": "99"},
            **{"PatientAge": "old", "ReferencedPatientSequence": [reference], "StudyDescription": "x" * 70},
        )
        seg = heart_seg(source=source)
        assert (seg.StudyDate, seg.StudyTime, seg.PatientBirthDate, seg.PatientSex) == ("", "", "", "")
        assert not {"PatientAge", "ReferencedPatientSequence", "StudyDescription"}.intersection(seg.dir())
        check(seg, tmp_path)

    def test_values_that_cannot_be_read_are_left_out(self, tmp_path):
        images = headers(SERIES["axial"])
        for image in images:
            image.PatientWeight, image.PatientSize = "70.125", "1.75"
            image.save_as(tmp_path / f"{image.InstanceNumber}.dcm")
            content = (tmp_path / f"{image.InstanceNumber}.dcm").read_bytes()
            (tmp_path / f"{image.InstanceNumber}.dcm").write_bytes(content.replace(b"70.125", b"heavy!"))
        read = [dcmread(tmp_path / f"{k}.dcm", stop_before_pixels=True) for k in range(1, 5)]
        seg = heart_seg(source=DicomSource(tuple(read)))
        assert "PatientWeight" not in seg and seg.PatientSize == 1.75

    def test_orientations_that_are_rounded_differently(self, tmp_path):
        images = headers(SERIES["oblique"])
        images[1].ImageOrientationPatient = ["0.800001", "0.599999", "0", "-0.36", "0.48", "0.8"]
        images[2].PixelSpacing = ["1.500001", "1.5"]
        seg = heart_seg(SERIES["oblique"], source_of(images))
        shared = seg.SharedFunctionalGroupsSequence[0]
        assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == images[0].ImageOrientationPatient

    def test_whose_images_they_are_is_kept_whatever_it_looks_like(self):
        seg = heart_seg(source=changed(headers(SERIES["axial"]), PatientID="x" * 70, AccessionNumber="A" * 20))
        assert (seg.PatientID, seg.AccessionNumber) == ("x" * 70, "A" * 20)

    def test_attributes_that_have_to_be_there_may_be_missing(self):
        required = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID")
        more = ("AccessionNumber", "ReferringPhysicianName", "SpecificCharacterSet", "SliceThickness")
        source = changed(headers(SERIES["axial"]), **dict.fromkeys((*required, *more)))
        seg = heart_seg(source=source)
        assert all(seg[keyword].value in ("", None) for keyword in required)
        assert seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness == 5

    @pytest.mark.parametrize(
        "characters, name",
        (
            ("ISO_IR 100", "Müller^Jörg"),
            ("ISO_IR 144", "Люксембург^Роза"),
            (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
            ("GB18030", "Wang^XiaoDong=王^小东"),
            ("ISO_IR 192", "Kübler^Åse"),
        ),
    )
    def test_names_in_all_characters(self, tmp_path, characters, name):
        images = headers(SERIES["axial"])
        for image in images:
            image.SpecificCharacterSet, image.PatientName = characters, name
            image.add_new((0x0011, 0x0010), "LO", "Somebody")
            image.add_new((0x0011, 0x1001), "LO", name[:20])
            image.save_as(tmp_path / f"{image.InstanceNumber}.dcm")
        read = [dcmread(tmp_path / f"{k}.dcm", stop_before_pixels=True) for k in range(1, 5)]
        save_dicom(heart_seg(source=DicomSource(tuple(read))), tmp_path / "seg.dcm")
        seg = dcmread(tmp_path / "seg.dcm")
        assert (str(seg.PatientName), seg.SpecificCharacterSet) == (name, "ISO_IR 192")
        assert not any(element.tag.is_private for element in seg)

    def test_a_character_set_that_nobody_knows(self, tmp_path):
        images = headers(SERIES["axial"])
        for image in images:
            image.PatientName = "Plain^Name"
            image.SpecificCharacterSet = "ISO_IR 100"
            image.save_as(tmp_path / f"{image.InstanceNumber}.dcm")
            content = (tmp_path / f"{image.InstanceNumber}.dcm").read_bytes()
            (tmp_path / f"{image.InstanceNumber}.dcm").write_bytes(content.replace(b"ISO_IR 100", b"KLINGON_10"))
        read = [dcmread(tmp_path / f"{k}.dcm", stop_before_pixels=True) for k in range(1, 5)]
        assert str(heart_seg(source=DicomSource(tuple(read))).PatientName) == "Plain^Name"

    @pytest.mark.parametrize("keyword", ("SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID"))
    def test_images_that_cannot_be_referred_to(self, keyword):
        fails(changed(headers(SERIES["axial"]), **{keyword: ""}), "cannot refer to them")

    def test_images_of_several_studies_or_with_one_uid(self):
        images = headers(SERIES["axial"])
        other = copy.deepcopy(images)
        other[1].StudyInstanceUID = "1.2.3"
        fails(source_of(other), "several studies")
        images[1].SOPInstanceUID = images[2].SOPInstanceUID
        fails(source_of(images), "same SOP Instance UID")

    def test_images_without_a_place(self):
        fails(changed(headers(SERIES["axial"]), ImageOrientationPatient=None), "Image Orientation (Patient)")

    def test_images_of_an_unknown_kind(self):
        fails(changed(headers(SERIES["axial"]), SOPClassUID=UID("1.2.3.4")), "No DICOM SEG can be made")

    def test_nothing_segmented(self):
        series = SERIES["axial"]
        with pytest.raises(InputError, match="no segment has a voxel"):
            make_dicom_seg([np.zeros(series.shape, bool)], [LIVER], source_of(headers(series)))


class TestUids:
    def file(self, folder, images, masks=None, **options):
        path = folder / "seg.dcm"
        masks = masks or masks_of(SERIES["axial"])
        options = SegOptions(deterministic_uids=True, **options)
        save_dicom(make_dicom_seg(masks, task_segments(HEART, "m"), source_of(images), options), path)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def test_the_same_input_gives_the_same_file(self, tmp_path):
        images = headers(SERIES["axial"])
        first = self.file(tmp_path, images)
        assert self.file(tmp_path, images) == first
        seg = dcmread(tmp_path / "seg.dcm")
        assert (seg.ContentDate, seg.ContentTime) == ("20240229", "101112")

    def test_another_input_gives_other_uids(self, tmp_path):
        images = headers(SERIES["axial"])
        masks = masks_of(SERIES["axial"])
        uids = set()

        def add(*arguments, **options):
            self.file(tmp_path, *arguments, **options)
            uids.add(dcmread(tmp_path / "seg.dcm").SOPInstanceUID)

        add(images)
        masks[0][1, 2, 3] ^= True
        add(images, masks)
        add(images, content_creator="Other")
        add(headers(SERIES["axial"]))
        assert len(uids) == 4 and all(uid.is_valid for uid in uids)

    def test_images_without_a_date_give_the_same_file_too(self, tmp_path):
        images = headers(SERIES["axial"])
        for image in images:
            image.ContentDate = image.AcquisitionDate = image.SeriesDate = image.StudyDate = "20120000"
        assert self.file(tmp_path, images) == self.file(tmp_path, images)

    def test_uids_are_below_the_root(self):
        for deterministic in (False, True):
            seg = heart_seg(uid_root="1.2.826.0.1.3680043.2.1125", deterministic_uids=deterministic)
            for uid in (seg.SOPInstanceUID, seg.SeriesInstanceUID, seg.DimensionIndexSequence[0][0x00209164].value):
                assert uid.startswith("1.2.826.0.1.3680043.2.1125.") and uid.is_valid
            assert seg.file_meta.MediaStorageSOPInstanceUID == seg.SOPInstanceUID
        assert heart_seg().SOPInstanceUID.startswith("2.25.")
        assert heart_seg().SOPInstanceUID != heart_seg().SOPInstanceUID


class TestFile:
    def test_of_a_segmentation(self, tmp_path):
        series = SERIES["CT"]
        labels = np.zeros(series.shape, np.uint8)
        labels[2, 3:6, 4:8] = 5
        volume = volume_of(series, source_of(headers(series)))
        segmentation = Segmentation(volume, labels, ABDOMEN, "m", volume, "cpu", 0.0)
        written = write_dicom_seg(segmentation, tmp_path / "seg.dcm")
        assert [item.SegmentLabel for item in written.SegmentSequence] == ["Liver"]
        assert dcmread(tmp_path / "seg.dcm").SOPInstanceUID == written.SOPInstanceUID
        assert [p.name for p in tmp_path.iterdir()] == ["seg.dcm"]

    def test_of_an_image_that_is_not_dicom(self, tmp_path):
        volume = volume_of(SERIES["CT"], None)
        labels = np.ones(volume.shape, np.uint8)
        with pytest.raises(InputError, match="not read from DICOM"):
            write_dicom_seg(Segmentation(volume, labels, ABDOMEN, "m", volume, "cpu", 0.0), tmp_path / "seg.dcm")

    def test_a_place_that_cannot_be_written_to(self, tmp_path):
        with pytest.raises(OutputError):
            save_dicom(heart_seg(), tmp_path / "missing" / "seg.dcm")
        assert list(tmp_path.iterdir()) == []

    def test_a_file_that_does_not_come_back_as_it_was_written(self, tmp_path, monkeypatch):
        (tmp_path / "seg.dcm").write_bytes(b"before")
        write = Path.write_bytes
        monkeypatch.setattr(Path, "write_bytes", lambda path, data: write(path, bytes(data)[:-9]))
        with pytest.raises(OutputError, match="completely"):
            save_dicom(heart_seg(), tmp_path / "seg.dcm")
        assert (tmp_path / "seg.dcm").read_bytes() == b"before"
        assert [p.name for p in tmp_path.iterdir()] == ["seg.dcm"]


def check(seg, folder):
    save_dicom(seg, folder / "checked.dcm")
    assert dciodvfy_errors(folder / "checked.dcm", "Segmentation") == []


class TestDciodvfy:
    @pytest.mark.parametrize("kind", SERIES)
    def test_finds_nothing_in_a_seg_of(self, kind, tmp_path):
        check(heart_seg(SERIES[kind]), tmp_path)

    def test_finds_nothing_in_organs_with_laterality(self, tmp_path):
        masks = masks_of(SERIES["CT"], 8)
        check(make_dicom_seg(masks, task_segments(ABDOMEN, "m"), source_of(headers(SERIES["CT"]))), tmp_path)

    def test_finds_nothing_in_a_seg_of_an_enhanced_image(self, tmp_path):
        source = DicomSource((enhanced(SERIES["oblique"], 2),), (1, 3, 5, 7))
        check(heart_seg(SERIES["oblique"], source), tmp_path)

    def test_finds_nothing_in_drawn_and_overlapping_segments(self, tmp_path):
        masks = [np.ones(SERIES["CT"].shape, bool)] * 2
        region = Code("SCT", "818983003", "Abdomen")
        segments = [
            replace(LIVER, algorithm_type="MANUAL", algorithm_name=None, region=region, region_modifier=LEFT),
            replace(LIVER, algorithm_type="SEMIAUTOMATIC"),
        ]
        check(make_dicom_seg(masks, segments, source_of(headers(SERIES["CT"]))), tmp_path)

    def test_finds_nothing_in_a_seg_of_real_ct(self, dcmqi_folder, tmp_path):
        (volume,) = read_volumes(dcmqi_folder)
        mask = volume.array > 100
        check(make_dicom_seg([mask], task_segments(ABDOMEN, "m")[4:5], volume.dicom), tmp_path)

    def test_finds_in_a_seg_of_sunnybrook_only_the_uids_that_identify_the_images(self, sunnybrook_folder, tmp_path):
        volume = read_volumes(sunnybrook_folder)[3]
        mask = volume.array > 200
        seg = make_dicom_seg([mask], task_segments(HEART, "m")[2:], volume.dicom)
        save_dicom(seg, tmp_path / "seg.dcm")
        errors = dciodvfy_errors(tmp_path / "seg.dcm", "Segmentation")
        assert errors.pop() == "Error - Dicom dataset contains invalid data values for Value Representations"
        kinds = {line.split(" UI ")[1].strip() for line in errors}
        assert kinds == {"Referenced SOP Instance UID", "Study Instance UID", "Series Instance UID"}
        assert all("Leading zeroes" in line for line in errors)


def test_images_without_study_series_and_instance_uids_get_a_seg_that_belongs_together(
    totalsegmentator_folder, tmp_path, caplog
):
    """The instance UIDs stand in the files' meta information, where the standard wants the same ones."""
    volume = read_volumes(totalsegmentator_folder)[0]
    assert "belong to no study" in caplog.text and "belong to no series" in caplog.text
    reference = read_volumes(totalsegmentator_folder / "reference-segmentation.nii.gz")[0]
    liver = reference.array[:, ::-1] == 5  # its rows run the other way
    seg = make_dicom_seg([liver], [LIVER], volume.dicom)
    save_dicom(seg, tmp_path / "seg.dcm")
    files = [dcmread(f, stop_before_pixels=True) for f in totalsegmentator_folder.glob("CT*")]
    instances = {str(f.file_meta.MediaStorageSOPInstanceUID) for f in files}
    referred = {str(i.ReferencedSOPInstanceUID) for i in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert referred == instances and len(instances) == 20
    again = read_volumes(totalsegmentator_folder)[0]
    assert again.dicom.headers[0].StudyInstanceUID == volume.dicom.headers[0].StudyInstanceUID
    assert dciodvfy_errors(tmp_path / "seg.dcm", "Segmentation") == []
    np.testing.assert_array_equal(read_dicom_seg(tmp_path / "seg.dcm", again).masks[0], liver)
