"""Measurements as DICOM SR: what highdicom reads back, what it refers to, and what dciodvfy says of it."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dciodvfy import dciodvfy_errors
from dicom_cases import SERIES, headers, source_of, volume_of
from highdicom.sr import srread
from phantom_series import phantom_study
from PIL import Image
from pydicom import dcmread
from pydicom.uid import ComprehensiveSRStorage

from dinsegment.dicom.read.patient import Patient
from dinsegment.dicom.write.seg import SegOptions, make_dicom_seg, task_segments, write_dicom_seg
from dinsegment.dicom.write.sr import make_dicom_sr, write_dicom_sr
from dinsegment.errors import InputError
from dinsegment.images.segmentation import Segmentation
from dinsegment.measurements.function import beat_of
from dinsegment.measurements.measurement import Measurement as Number
from dinsegment.measurements.study import MeasureOptions, measure_study
from dinsegment.measurements.volumes import segment_volumes
from dinsegment.measurements.walls import aha_segments
from dinsegment.report.pages import make_pages
from dinsegment.studies.results import write_results
from dinsegment.tasks import ABDOMEN


@pytest.fixture(scope="module")
def beat(tmp_path_factory):
    """Three phases of the phantom, in the second of which the right ventricle is missing."""
    folder = tmp_path_factory.mktemp("beat")
    phases = phantom_study(folder / "images", phases=3)
    without = np.where(phases[1].labels == 1, 0, phases[1].labels)
    phases[1] = replace(phases[1], labels=without)
    return phases


@pytest.fixture(scope="module")
def segs(beat, tmp_path_factory):
    folder = tmp_path_factory.mktemp("segs")
    series_uid = "2.25.1001"
    return [
        write_dicom_seg(phase, folder / f"{n}.dcm", SegOptions(series_uid=series_uid, instance_number=n + 1))
        for n, phase in enumerate(beat)
    ]


@pytest.fixture(scope="module")
def report(beat, segs, tmp_path_factory):
    """The report as highdicom reads it from its file."""
    path = tmp_path_factory.mktemp("report") / "measurements.dcm"
    write_dicom_sr(beat, segs, beat_of(beat).function, path)
    return srread(path)


@pytest.fixture(scope="module")
def organs():
    """An abdominal CT with both kidneys and a liver, and the DICOM SEG of it."""
    series = SERIES["CT"]
    volume = volume_of(series, source_of(headers(series)))
    labels = np.zeros(series.shape, np.uint8)
    labels[1, 2:4, 2:4], labels[2, 5:8, 6:9], labels[3] = 3, 4, 5
    segmentation = Segmentation(volume, labels, ABDOMEN, "abdomen-din-small", volume, "cpu", 0.0)
    masks = [labels == segment.label for segment in ABDOMEN.segments]
    return segmentation, make_dicom_seg(masks, task_segments(ABDOMEN, "abdomen-din-small"), volume.dicom)


def write_only(phases, segs, path, **options):
    """The path, after a report is written there."""
    beat = beat_of(phases)  # None of what does not beat.
    function, reason = (beat.function, beat.reason) if beat is not None else (None, "")
    write_dicom_sr(phases, segs, function, path, SegOptions(**options), reason)
    return path


def write_report(phases, segs, path, **options):
    """A report that is written, as highdicom reads it."""
    return srread(write_only(phases, segs, path, **options))


def roi_groups(report, **which):
    return report.content.get_volumetric_roi_measurement_groups(**which)


def items(group, code):
    """The texts of the content items of that concept directly in a group."""
    content = group[0].ContentSequence
    return [item.TextValue for item in content if item.ConceptNameCodeSequence[0].CodeValue == code]


def of_segment(group):
    """(SEG, segment number) that a group of measurements is about."""
    reference = group.referenced_segment
    item = reference[0].ReferencedSOPSequence[0]
    return item.ReferencedSOPInstanceUID, int(item.ReferencedSegmentNumber)


def function_group(report):
    (group,) = report.content.get_image_measurement_groups()
    return {m.name.value: m for m in group.get_measurements()}


class TestVolumes:
    def test_they_are_those_of_the_segments_in_every_phase(self, report, beat):
        read = [(g.tracking_identifier, m.value, m.unit) for g in roi_groups(report) for m in g.get_measurements()]
        expected = [
            (volume.name, volume.volume_ml) for phase in beat for volume in segment_volumes(phase) if volume.voxels
        ]
        assert [(name, value) for name, value, _ in read] == expected
        assert {(unit.value, unit.scheme_designator) for _, _, unit in read} == {("cm3", "UCUM")}
        names = {m.name.value for g in roi_groups(report) for m in g.get_measurements()}
        assert names == {"118565006"}

    def test_an_absent_segment_is_not_measured(self, report, segs):
        names = [g.tracking_identifier for g in roi_groups(report) if of_segment(g)[0] == segs[1].SOPInstanceUID]
        assert names == ["Left ventricular myocardium", "Left ventricle"]

    def test_each_refers_to_its_segment_in_the_seg_of_its_phase(self, report, segs):
        by_uid = {seg.SOPInstanceUID: seg for seg in segs}
        seen = []
        for group in roi_groups(report):
            uid, number = of_segment(group)
            segment = by_uid[uid].SegmentSequence[number - 1]
            assert segment.SegmentNumber == number and segment.SegmentLabel == group.tracking_identifier
            kind = segment.SegmentedPropertyTypeCodeSequence[0]
            assert group.finding_type.value == kind.CodeValue
            seen.append((uid, number))
        assert seen == [(seg.SOPInstanceUID, s.SegmentNumber) for seg in segs for s in seg.SegmentSequence]

    def test_each_names_the_source_series_and_its_phase(self, report, beat):
        series = beat[0].volume.dicom.headers[0].SeriesInstanceUID
        for group in roi_groups(report):
            reference = group.referenced_segment
            assert reference.source_series_for_segmentation.value == series
        times = [text for group in roi_groups(report) for text in items(group, "C2348792")]
        assert times == ["Phase 1 of 3"] * 3 + ["Phase 2 of 3"] * 2 + ["Phase 3 of 3"] * 3

    def test_a_structure_is_tracked_through_the_phases(self, report):
        uids = {}
        for group in roi_groups(report):
            uids.setdefault(group.tracking_identifier, set()).add(group.tracking_uid)
        assert len(uids) == 3 and all(len(one) == 1 for one in uids.values())
        assert len(set.union(*uids.values())) == 3

    def test_the_algorithm_is_that_of_the_seg(self, report, segs):
        algorithm = segs[0].SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
        for group in roi_groups(report):
            assert items(group, "111001") == [algorithm.AlgorithmName] == ["DINSegment heart-din-small"]
            assert items(group, "111003") == [algorithm.AlgorithmVersion]


class TestFunction:
    def test_its_numbers_are_those_of_the_beat(self, report, beat):
        function, read = beat_of(beat).function, function_group(report)
        expected = {
            "8821-1": (function.end_diastolic_volume_ml, "ml"),
            "8823-7": (function.end_systolic_volume_ml, "ml"),
            "90096001": (function.stroke_volume_ml, "ml"),
            "8811-2": (function.ejection_fraction_percent, "%"),
            "18087-7": (function.myocardial_mass_g, "g"),
        }
        assert {code: (m.value, m.unit.value) for code, m in read.items()} == expected
        assert function.ejection_fraction_percent > 30

    def test_each_number_refers_to_the_phases_it_comes_from(self, report, beat, segs):
        function, read = beat_of(beat).function, function_group(report)
        diastole, systole = (segs[n].SOPInstanceUID for n in (function.end_diastole, function.end_systole))
        assert diastole != systole
        expected = {"8821-1": [diastole], "8823-7": [systole], "90096001": [diastole, systole]}
        expected |= {"8811-2": [diastole, systole], "18087-7": [diastole]}
        found = {code: [i.referenced_sop_instance_uid for i in m.referenced_images] for code, m in read.items()}
        assert found == expected

    def test_a_single_phase_has_none(self, beat, segs, tmp_path):
        report = write_report(beat[:1], segs[:1], tmp_path / "one.dcm")
        assert report.content.get_image_measurement_groups() == []
        assert len(roi_groups(report)) == 3 and "Phase 1" not in str(report)

    def test_a_phase_without_a_voxel_has_no_seg_to_refer_to(self, beat, segs, tmp_path):
        empty = [beat[0], replace(beat[1], labels=np.zeros_like(beat[1].labels))]
        report = write_report(empty, [segs[0], None], tmp_path / "empty.dcm")
        assert len(roi_groups(report)) == 3

    def test_the_reason_stands_where_the_function_would(self, beat, segs, tmp_path):
        empty = [beat[0], replace(beat[1], labels=np.zeros_like(beat[1].labels))]
        report = write_report(empty, [segs[0], None], tmp_path / "empty.dcm")
        (group,) = report.content.get_image_measurement_groups()
        assert group.get_measurements() == []
        assert items(group, "121106") == [beat_of(empty).reason]
        assert "no left ventricle was found in phase 2 of 2" in beat_of(empty).reason
        assert "Left ventricular ejection fraction" not in str(report)
        assert "121106" not in str(write_report(beat, segs, tmp_path / "whole.dcm"))


class TestDocument:
    def test_it_is_of_the_study_and_patient(self, report, beat, segs):
        source = beat[0].volume.dicom.headers[0]
        for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "StudyDate", "AccessionNumber"):
            assert report[keyword].value == source[keyword].value
        assert report.SOPClassUID == ComprehensiveSRStorage
        assert report.SeriesInstanceUID not in (source.SeriesInstanceUID, segs[0].SeriesInstanceUID)
        assert report.SeriesNumber == segs[0].SeriesNumber + 1
        template = report.ContentTemplateSequence[0]
        assert (template.MappingResource, template.TemplateIdentifier) == ("DCMR", "1500")

    def test_the_evidence_is_every_seg_and_every_source_image(self, report, beat, segs):
        images = [header for phase in beat for header in phase.volume.dicom.headers]
        expected = {(one.SeriesInstanceUID, one.SOPInstanceUID) for one in (*segs, *images)}
        assert {(series, instance) for _, series, instance, _ in report.get_evidence()} == expected
        assert len(expected) == 3 + 12

    def test_the_observer_is_the_software(self, report):
        (observer,) = report.content.get_observer_contexts()
        assert observer.observer_type.meaning == "Device"
        assert observer.observer_identifying_attributes.name.startswith("DINSegment ")

    def test_a_person_is_named_beside_it(self, beat, segs, tmp_path):
        report = write_report(beat, segs, tmp_path / "person.dcm", content_creator="Müller^Eva")
        device, person = report.content.get_observer_contexts()
        assert device.observer_type.meaning == "Device"
        assert person.observer_identifying_attributes.name == "Müller^Eva"

    def test_dciodvfy_finds_nothing_wrong(self, beat, segs, tmp_path):
        write_only(beat, segs, tmp_path / "sr.dcm", content_creator="Müller^Eva")
        assert dciodvfy_errors(tmp_path / "sr.dcm", "ComprehensiveSR") == []

    def test_dcmqi_reads_it(self, beat, segs, tmp_path):
        program = shutil.which("tid1500reader", path=os.pathsep.join((str(Path(sys.executable).parent), os.defpath)))
        if program is None:
            pytest.skip("dcmqi is not installed.")
        write_only(beat, segs, tmp_path / "sr.dcm")
        command = [program, "--inputDICOM", str(tmp_path / "sr.dcm"), "--outputMetadata", str(tmp_path / "sr.json")]
        subprocess.run(command, capture_output=True, timeout=60, check=True)
        *groups, function = json.loads((tmp_path / "sr.json").read_text(encoding="utf-8"))["Measurements"]
        expected = [volume for phase in beat for volume in segment_volumes(phase) if volume.voxels]
        assert [group["TrackingIdentifier"] for group in groups] == [volume.name for volume in expected]
        read = [float(item["value"]) for group in groups for item in group["measurementItems"]]
        assert np.allclose(read, [volume.volume_ml for volume in expected], rtol=1e-12)
        assert [group["segmentationSOPInstanceUID"] for group in groups[:3]] == [segs[0].SOPInstanceUID] * 3
        assert [item["units"]["CodeValue"] for item in function["measurementItems"]] == ["ml", "ml", "ml", "%", "g"]

    def test_equal_measurements_give_equal_files_on_request(self, beat, segs, tmp_path):
        options = {"deterministic_uids": True, "uid_root": "1.2.826.0.1.3680043.2.1125"}
        for name in ("a", "b"):
            write_only(beat, segs, tmp_path / name, **options)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
        report = dcmread(tmp_path / "a")
        assert report.SOPInstanceUID.startswith(options["uid_root"] + ".")
        other = dcmread(write_only(beat[::-1], segs[::-1], tmp_path / "c", **options))
        assert other.SOPInstanceUID != report.SOPInstanceUID
        random = {dcmread(write_only(beat, segs, tmp_path / "d")).SOPInstanceUID for _ in range(2)}
        assert len(random) == 2

    def test_the_seg_is_left_as_it_was(self, beat, segs, tmp_path):
        before = [str(seg) for seg in segs]
        write_only(beat, segs, tmp_path / "sr.dcm")
        assert [str(seg) for seg in segs] == before


class TestAbdomen:
    def test_left_and_right_are_told_apart(self, organs, tmp_path):
        segmentation, seg = organs
        report = write_report([segmentation], [seg], tmp_path / "ct.dcm")
        groups = {g.tracking_identifier: g for g in roi_groups(report)}
        assert list(groups) == ["Left kidney", "Right kidney", "Liver"]
        for name, side in (("Left kidney", "7771000"), ("Right kidney", "24028007")):
            (site,) = groups[name].finding_sites
            assert (groups[name].finding_type.value, site.value.value) == ("64033007", "64033007")
            assert site.laterality.value == side
        assert groups["Liver"].finding_sites[0].laterality is None
        assert "CT unspecified body region" in str(report) and "SAX" in report.SeriesDescription
        assert dciodvfy_errors(tmp_path / "ct.dcm", "ComprehensiveSR") == []

    def test_volumes_are_in_millilitres(self, organs, tmp_path):
        segmentation, seg = organs
        report = write_report([segmentation], [seg], tmp_path / "ct.dcm")
        values = [m.value for g in roi_groups(report) for m in g.get_measurements()]
        assert np.allclose(values, np.array([4, 9, 99]) * 0.8 * 0.8 * 2 / 1000)


class TestRefused:
    def test_a_volume_that_is_not_from_dicom(self, beat, segs, tmp_path):
        phases = [replace(beat[0], volume=replace(beat[0].volume, dicom=None))]
        with pytest.raises(InputError, match="not read from DICOM"):
            write_dicom_sr(phases, segs[:1], None, tmp_path / "sr.dcm")
        assert not list(tmp_path.iterdir())

    def test_nothing_to_report(self, beat):
        with pytest.raises(InputError, match="nothing to report"):
            make_dicom_sr([None], [segment_volumes(beat[0])], None, [beat[0].volume.dicom])

    def test_phases_that_do_not_match(self, beat, segs):
        with pytest.raises(ValueError, match="2 SEGs"):
            make_dicom_sr(segs[:2], [segment_volumes(beat[0])], None, [beat[0].volume.dicom])


def test_the_results_of_a_cine_have_one_report_that_refers_to_their_segs(beat, tmp_path):
    write_results(beat[:2], tmp_path / "out")
    report = srread(tmp_path / "out" / "measurements.dcm")
    written = [dcmread(tmp_path / "out" / f"phase0{n}" / "segmentation.dcm") for n in (1, 2)]
    assert {of_segment(group)[0] for group in roi_groups(report)} == {seg.SOPInstanceUID for seg in written}
    function = json.loads((tmp_path / "out" / "measurements.json").read_text(encoding="utf-8"))["function"]
    assert function_group(report)["8811-2"].value == function["ejection_fraction_percent"]
    assert len(list((tmp_path / "out").rglob("measurements.dcm"))) == 1


def test_the_library_does_without_dicom_packages_until_they_are_needed():
    code = "import sys, dinsegment, dinsegment.studies.results; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert not {"highdicom", "pydicom"} & set(done.stdout.split())


class TestEveryNumber:
    """A heart whose walls have names, and an abdomen, from their results to what highdicom reads."""

    @pytest.fixture(scope="class")
    def results(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("numbers")
        phases = phantom_study(folder / "images", phases=2, slices=10, size=(96, 112), spacing=(9.0, 2.0, 2.0))
        patient = Patient("F", 55.0, 1.65, 60.0, 65.0)
        study = measure_study(phases, MeasureOptions(patient))
        pages = make_pages(phases, study)
        write_results(phases, folder / "OUT", measured=study, pages=pages)
        return study, pages, phases, folder / "OUT"

    @pytest.fixture(scope="class")
    def groups(self, results):
        """Of measurements, by what they are about, as highdicom reads them."""
        report = srread(results[3] / "measurements.dcm")
        groups = report.content.get_image_measurement_groups()
        by_name = {group.tracking_identifier: group for group in groups}
        assert len(by_name) == len(groups)
        return by_name

    def test_each_is_in_a_group_of_what_it_is_about(self, results, groups):
        study = results[0]
        read = {title: sorted(m.value for m in group.get_measurements()) for title, group in groups.items()}
        measured = [m for m in study.measurements if m.value is not None]
        left = [m.value for m in measured if m.kind.startswith(("lv_", "cardiac"))]
        assert read["Left ventricular function"] == sorted(left)
        assert read["Right ventricular function"] == sorted(m.value for m in measured if m.kind.startswith("rv_"))
        assert study.walls.named and sum(title.startswith("Segment") for title in read) == 16
        for aha in aha_segments():
            group = groups[aha.subject]
            assert read[aha.subject] == sorted(m.value for m in measured if m.subject == aha.subject)
            (site,) = group.finding_sites
            assert site.value.value == aha.code.value

    def test_names_that_are_the_same_are_told_apart(self, groups):
        for group in groups.values():
            names = [
                (m.name.value, tuple(i.referenced_sop_instance_uid for i in m.referenced_images))
                for m in group.get_measurements()
            ]
            assert len(names) == len(set(names)), group.tracking_identifier

    def test_codes_of_the_standard_are_used_where_there_are_some(self, groups):
        right = {m.name.value for m in groups["Right ventricular function"].get_measurements()}
        left = {m.name.value for m in groups["Left ventricular function"].get_measurements()}
        assert {"8822-9", "8824-5", "8818-7", "429483009", "429619008"} <= right
        assert {"8821-1", "8823-7", "8811-2", "18087-7", "82799009", "54993008", "277381004"} <= left

    def test_a_number_outside_of_its_range_is_said_to_be(self, results, groups):
        """As in measurements.json and in the report."""
        study = results[0]
        meant = {"below": "371880002", "within": "17621005", "above": "371879000"}
        said = {}
        for item in groups["Left ventricular function"].get_measurements():
            told = [i for i in item[0].ContentSequence if i.RelationshipType == "HAS PROPERTIES"]
            values = {i.ConceptNameCodeSequence[0].CodeMeaning: i for i in told}
            if "Normality" in values:
                normality = values["Normality"].ConceptCodeSequence[0].CodeValue
                ends = [
                    float(i.MeasuredValueSequence[0].NumericValue)
                    for name, i in values.items()
                    if name.startswith("Normal Range") and i.ValueType == "NUM"
                ]
                said[item.value] = normality, *ends
        known = [m for m in study.measurements if m.normal is not None]
        assert len(known) == 5
        assert said == {m.value: (meant[m.normal.place_of(m.read)], m.normal.low, m.normal.high) for m in known}

    @pytest.mark.parametrize(
        ("name", "kind"),
        [("measurements.dcm", "ComprehensiveSR"), ("report.dcm", "EncapsulatedPDF"), ("key-slices.dcm", "SCImage")],
    )
    def test_dciodvfy_finds_nothing_wrong(self, results, name, kind):
        assert dciodvfy_errors(results[3] / name, kind) == []

    def test_the_page_and_the_picture_are_in_the_patients_study(self, results):
        _, pages, phases, out = results
        source = phases[0].volume.dicom.headers[0]
        page, picture = dcmread(out / "report.dcm"), dcmread(out / "key-slices.dcm")
        for one in (page, picture):
            assert one.StudyInstanceUID == source.StudyInstanceUID and one.PatientID == source.PatientID
            assert one.BurnedInAnnotation == "YES"
        assert page.EncapsulatedDocument[: page.EncapsulatedDocumentLength] == pages.pdf
        with Image.open(io.BytesIO(pages.key_picture)) as image:
            assert np.array_equal(picture.pixel_array, np.asarray(image.convert("RGB")))
        series = {dcmread(path).SeriesInstanceUID for path in out.rglob("*.dcm")}
        assert len(series) == 4

    def test_of_an_organ_they_are_with_its_segment(self, organs, tmp_path):
        segmentation, seg = organs
        numbers = [
            Number("volume", 12.0, "Liver", segments=(5,)),
            Number("hu_mean", 55.5, "Liver", segments=(5,), remark="Something is to be known."),
            Number("hu_sd", 9.5, "Liver", segments=(5,)), Number("length", 101.0, "Left kidney", segments=(3,)),
            Number("hu_difference", -3.2, "Liver and left kidney", segments=(5, 3), remark="Too small."),
            Number("hu_ratio", 1.1, "Liver and left kidney", segments=(5, 3)),
            Number("length", None, "Spleen", reason="No."),
        ]  # fmt: skip
        write_dicom_sr([segmentation], [seg], None, tmp_path / "organs.dcm", numbers=numbers)
        read = {
            (g.tracking_identifier, m.name.value): (m.value, m.unit.value)
            for g in roi_groups(srread(tmp_path / "organs.dcm"))
            for m in g.get_measurements()
        }
        assert read["Liver", "112181"] == (55.5, "[hnsf'U]") and read["Liver", "112183"] == (9.5, "[hnsf'U]")
        assert read["Left kidney", "410668003"] == (101.0, "mm")
        assert sum(name == "118565006" for _, name in read) == 3
        said = {
            group.tracking_identifier: item.TextValue
            for group in roi_groups(srread(tmp_path / "organs.dcm"))
            for item in group[0].ContentSequence
            if item.ValueType == "TEXT" and item.ConceptNameCodeSequence[0].CodeMeaning == "Comment"
        }
        assert said == {"Liver": "Liver: Mean attenuation, 56 HU: Something is to be known."}
        (both,) = srread(tmp_path / "organs.dcm").content.get_image_measurement_groups()
        assert both.tracking_identifier == "Liver and left kidney" and both.finding_type.meaning == "Liver"
        assert [site.value.meaning for site in both.finding_sites] == ["Liver", "Kidney"]
        measured = [(m.name.value, m.value, m.unit.value) for m in both.get_measurements()]
        assert measured == [("hu_difference", -3.2, "[hnsf'U]"), ("hu_ratio", 1.1, "1")]
        comments = [item.TextValue for item in both[0].ContentSequence if item.ValueType == "TEXT"]
        assert any("Too small." in comment for comment in comments)
        assert dciodvfy_errors(tmp_path / "organs.dcm", "ComprehensiveSR") == []
