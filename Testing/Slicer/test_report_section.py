"""The report in the panel: real nodes, the real process that measures, on the Qt host."""

from __future__ import annotations

import csv
import dataclasses
import io

import mrml
import numpy as np
import pydicom
import pypdfium2
import pytest
import slicer

pytest.importorskip("PySide6", reason="the panel needs PySide6")

from host.dicom_database import DicomDatabase
from test_panel import add_small_ct, choose, plain, shown
from test_sequences import add_sequence
from wall_phantoms import SPACING, cylinder, segmentation

from dinsegment.images.segmentation import Finding
from dinsegment.measurements.study import MeasureOptions, measure_study
from dinsegment.tasks import HEART
from dinsegment_slicer.installing.dependencies import Dependencies

RADII = (22, 19, 16, 20)
FLAT = np.diag([*SPACING[::-1], 1.0])
IN_PATIENT = np.eye(4)
IN_PATIENT[:3, :3] = np.array([[-1.0, 0.6, 0.5], [0.5, -1.0, 0.6], [-0.6, -0.5, -1.0]])
IN_PATIENT[:3, :3] = np.linalg.qr(IN_PATIENT[:3, :3])[0] * np.sign(np.diag(np.linalg.qr(IN_PATIENT[:3, :3])[1]))
IN_PATIENT[:3, :3] *= SPACING[::-1]


def labels_of(radius):
    labels = cylinder(radius, 31.0)
    labels[[0, -1]] = 0
    return labels


def beat(radii=RADII, matrix=FLAT):
    return [segmentation(labels_of(radius), ijk_to_ras=matrix) for radius in radii]


def as_drawn(volume, task, **options):
    """The grey values are the labels."""
    made = mrml.threshold(volume, task, **options)
    return dataclasses.replace(made, labels=volume.array.astype(np.uint8), findings=(), warnings=())


def with_finding(volume, task, **options):
    found = Finding("Look at slice 3.", None, 3, "Left ventricle: look", "unsure", "Doubtful", (3,))
    return dataclasses.replace(as_drawn(volume, task, **options), findings=(found,), warnings=(found.text,))


@pytest.fixture
def segmenting():
    return mrml.InProcess(as_drawn)


@pytest.fixture
def panel(panel, report_worker, monkeypatch):
    monkeypatch.setattr(panel.report.reporter, "worker", report_worker)
    monkeypatch.setattr(report_worker, "close", lambda: None)
    return panel


def add_cine(radii=RADII):
    volumes = [dataclasses.replace(one.volume, time_ms=100.0 * n) for n, one in enumerate(beat(radii))]
    return add_sequence(slicer.mrmlScene, volumes)


def add_two(matrix=FLAT, radii=(22, 16)):
    return [
        mrml.add_volume(slicer.mrmlScene, labels_of(radius).astype(np.int16), matrix, name)
        for radius, name in zip(radii, ("Diastole", "Systole"), strict=True)
    ]


def segment(host, panel, button="segmentHeartButton"):
    getattr(panel.ui, button).click()
    host.wait_until(lambda: not panel.controller.busy, 60)
    measured(host, panel)


def measured(host, panel, seconds=120):
    """Until nothing is left to measure."""

    def is_idle():
        # The result is measured a moment after its last change, and the report a moment after that.
        timers = panel.result._measureTimer, panel.report._gatherTimer
        return not panel.report.reporter.busy and not any(timer.isActive() for timer in timers)

    for _ in range(2):  # What is done later may begin it.
        host.pump(0.1)
        host.wait_until(is_idle, seconds)


def table(panel):
    """Texts of the table, row by row."""
    found = panel.ui.reportTable
    items = [[found.item(r, c) for c in range(found.columnCount)] for r in range(found.rowCount)]
    return [[item.text() if item is not None else "" for item in row] for row in items]


def value_of(panel, name):
    return next(row[1] for row in table(panel) if row[0].partition(" [")[0] == name)


def type_in(field, text):
    field.setText(text)
    field.editingFinished.emit()


class TestNumbers:
    def test_of_a_cine_as_the_library_measures_it(self, host, panel):
        choose(panel, add_cine())
        segment(host, panel)
        assert shown(panel.ui.reportSection) and not shown(panel.ui.reportStateLabel)
        study = measure_study(beat())
        text = {m.key: f"{m.text} {m.unit}" for m in study.measurements}
        for name, key in (("End-diastolic volume", "lv_edv"), ("Ejection fraction", "lv_ef")):
            assert value_of(panel, name) == text[key]
        titles = [row[0] for row in table(panel)]
        assert "Left ventricle" in titles and "Right ventricle" in titles
        notes = panel.ui.reportNotesLabel.text
        assert "The heart rate is not known." in notes and "it takes 18" in notes
        assert "Segment 17, the apex: short-axis slices do not show it." in notes
        assert shown(panel.ui.curveLabel) and shown(panel.ui.bullsEyeLabel)

    def test_they_follow_a_correction(self, host, panel):
        for node, selector in zip(add_two(), (panel.ui.inputSelector, panel.ui.secondSelector), strict=True):
            selector.setCurrentNode(node)
        segment(host, panel)
        before = value_of(panel, "End-systolic volume")
        labels = labels_of(14)
        for segment_ in HEART.segments:
            node = panel.parameters.secondSegmentationNode
            mrml.set_segment(node, segment_.name, labels == segment_.label, FLAT)
        measured(host, panel)
        study = measure_study([beat((22,))[0], beat((14,))[0]])
        after = next(f"{m.text} {m.unit}" for m in study.measurements if m.key == "lv_esv")
        assert value_of(panel, "End-systolic volume") == after != before
        assert panel.report._measured.content["made_by"].startswith("heart-din-small, corrected by hand")

    def test_of_an_abdomen(self, host, panel, monkeypatch):
        monkeypatch.setattr(panel.logic, "worker", mrml.InProcess(mrml.threshold))
        choose(panel, add_small_ct())
        segment(host, panel, "segmentAbdomenButton")
        assert table(panel)[0][:3] == ["Abdomen", "Volume", "Attenuation"]
        assert any(row[0] == "Left kidney" and row[1].endswith("ml") and "HU" in row[2] for row in table(panel))
        assert not shown(panel.ui.wallsFrame) and not shown(panel.ui.curveLabel)

    def test_a_finding_stands_beside_what_it_touches(self, host, panel, monkeypatch):
        monkeypatch.setattr(panel.logic, "worker", mrml.InProcess(with_finding))
        choose(panel, add_cine())
        segment(host, panel)
        assert "Doubtful in slice 3 in all 4 phases." in panel.ui.reportNotesLabel.text
        marked = [row[0] for row in table(panel) if row[0].endswith("[1]")]
        assert "End-diastolic volume [1]" in marked

    def test_while_the_section_is_closed_nothing_is_measured(self, host, panel):
        panel.ui.reportSection.collapsed = True
        choose(panel, add_cine())
        segment(host, panel)
        assert table(panel) == [] and panel.report._measured is None
        panel.ui.reportSection.collapsed = False
        measured(host, panel)
        assert value_of(panel, "Ejection fraction")

    def test_without_the_image_it_says_why(self, host, panel):
        choose(panel, add_cine())
        segment(host, panel)
        slicer.mrmlScene.RemoveNode(panel.parameters.inputNode)
        panel.report.measureLater()
        measured(host, panel)
        assert table(panel) == [] and not panel.ui.copyReportButton.enabled
        text = plain(panel.ui.reportStateLabel.text)
        assert "no sequence any more" in text or "not in the scene any more" in text

    def test_a_result_that_was_removed_is_given_away_no_more(self, host, panel):
        choose(panel, add_two()[0])
        segment(host, panel)
        panel.ui.reportNodeButton.click()
        answer = panel.report._measured
        slicer.mrmlScene.RemoveNode(panel.parameters.segmentationNode)
        assert panel.report.rows() == [] and not panel.ui.copyReportButton.enabled
        panel.report._onMeasured(answer)  # As one that came just then.
        assert panel.parameters.reportTableNode is not None

    def test_a_closed_scene_has_no_report(self, host, panel):
        choose(panel, add_cine())
        segment(host, panel)
        panel.report.measureLater()
        host.pump(0.15)
        slicer.mrmlScene.Clear()
        host.pump(0.3)
        assert not shown(panel.ui.reportSection) and not panel.report.reporter.busy


class TestPatient:
    @pytest.fixture
    def of_a_cine(self, host, panel):
        choose(panel, add_cine())
        segment(host, panel)

    def test_what_the_user_says_indexes_and_is_remembered(self, host, panel, of_a_cine):
        for name, text in (("heightEdit", "168"), ("weightEdit", "64,5"), ("ageEdit", "55"), ("heartRateEdit", "70")):
            type_in(getattr(panel.ui, name), text)
        panel.ui.sexComboBox.setCurrentIndex(1)
        measured(host, panel)
        p = panel.parameters
        assert (p.patientHeight, p.patientWeight, p.patientAge, p.heartRate) == (168.0, 64.5, 55.0, 70.0)
        assert p.patientSex == "F"
        assert panel.ui.surfaceLabel.text == "BSA: 1.73 m²"
        rows = table(panel)
        volume = next(row for row in rows if row[0] == "End-diastolic volume")
        assert volume[2].isdigit() and "–" in volume[3]
        assert any(row[0] == "Cardiac output" for row in rows)
        item = panel.ui.reportTable.item(rows.index(volume), 3)
        assert not item.icon().isNull() and "Normal: " in item.toolTip()

    def test_a_script_may_say_it_too(self, host, panel, of_a_cine):
        panel.parameters.heartRate = 80.0
        measured(host, panel)
        assert panel.ui.heartRateEdit.text == "80"
        assert any(row[0] == "Cardiac output" for row in table(panel))

    def test_a_newborn_is_0_years_old_and_may_be_not_known_again(self, host, panel, of_a_cine):
        type_in(panel.ui.ageEdit, "0")
        measured(host, panel)
        assert panel.ui.ageEdit.text == "0" and not shown(panel.ui.messageFrame)
        assert dict(map(tuple, panel.report._measured.content["patient"]))["Age"] == "0 months"
        type_in(panel.ui.ageEdit, "")
        measured(host, panel)
        assert panel.ui.ageEdit.text == "" and "Age" not in dict(map(tuple, panel.report._measured.content["patient"]))

    @pytest.mark.parametrize(("name", "text"), [("heightEdit", "1.68"), ("weightEdit", "heavy"), ("ageEdit", "-3")])
    def test_what_cannot_be_right_is_refused_in_a_sentence(self, panel, of_a_cine, name, text):
        type_in(getattr(panel.ui, name), text)
        assert f"'{text}' cannot be right: give" in plain(panel.ui.messageLabel.text)
        assert getattr(panel.ui, name).text == ""

    def test_of_another_image_nothing_is_known(self, host, panel, of_a_cine):
        type_in(panel.ui.heightEdit, "168")
        panel.ui.sexComboBox.setCurrentIndex(2)
        measured(host, panel)
        choose(panel, add_two()[0])
        segment(host, panel)
        assert panel.ui.heightEdit.text == "" and panel.parameters.patientHeight == 0
        assert panel.parameters.patientSex == "" and panel.ui.sexComboBox.currentIndex == 0

    def test_after_the_image_was_removed_nothing_is_known_of_the_next(self, host, panel, of_a_cine):
        type_in(panel.ui.heightEdit, "168")
        panel.ui.sexComboBox.setCurrentIndex(2)
        panel.ui.reportNodeButton.click()
        numbers = panel.parameters.reportTableNode
        rows = numbers.GetNumberOfRows()
        slicer.mrmlScene.RemoveNode(panel.parameters.reportImageNode)
        choose(panel, add_two()[0])
        segment(host, panel)
        assert panel.ui.heightEdit.text == "" and panel.parameters.patientHeight == 0
        assert panel.parameters.patientSex == "" and panel.ui.sexComboBox.currentIndex == 0
        assert panel.parameters.reportTableNode is None and numbers.GetNumberOfRows() == rows

    def test_segmented_again_it_is_the_same_patient(self, host, panel, of_a_cine):
        type_in(panel.ui.heightEdit, "168")
        segment(host, panel)
        assert panel.ui.heightEdit.text == "168"

    def test_a_saved_scene_brings_it_back(self, host, panel, of_a_cine, tmp_path):
        type_in(panel.ui.heightEdit, "168")
        stored = {
            name: panel.parameters.parameterNode.GetParameter(name)
            for name in panel.parameters.parameterNode.GetParameterNames()
        }
        assert stored["patientHeight"] == "168.0"


class TestDicom:
    @pytest.fixture
    def of_dicom(self, host, panel, tmp_path, monkeypatch):
        """Two phases whose slices are instances in Slicer's DICOM database."""
        database = DicomDatabase(tmp_path / "database")
        monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
        database.prepareInsert()
        nodes = add_two(IN_PATIENT)
        for n, node in enumerate(nodes):
            uids = []
            for k in range(9):
                image = pydicom.Dataset()
                image.PatientName, image.PatientID, image.PatientSex = "Lovelace^Ada", "4711", "F"
                image.PatientAge, image.PatientSize, image.PatientWeight = "061Y", 1.7, 70.5
                image.HeartRate, image.Modality = 75, "MR"
                image.SOPClassUID, image.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", pydicom.uid.generate_uid()
                image.StudyInstanceUID = image.SeriesInstanceUID = pydicom.uid.generate_uid()
                image.file_meta = pydicom.dataset.FileMetaDataset()
                image.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
                pydicom.dcmwrite(tmp_path / f"{n}-{k}.dcm", image, enforce_file_format=True)
                database.insert(str(tmp_path / f"{n}-{k}.dcm"))
                uids.append(image.SOPInstanceUID)
            node.SetAttribute("DICOM.instanceUIDs", " ".join(uids))
        choose(panel, nodes[0])
        panel.ui.secondSelector.setCurrentNode(nodes[1])
        segment(host, panel)

    def texts(self, panel):
        names = ("ageEdit", "heightEdit", "weightEdit", "heartRateEdit")
        return [getattr(panel.ui, name).text for name in names]

    def test_fills_the_fields(self, panel, of_dicom):
        assert self.texts(panel) == ["61", "170", "70.5", "75"]
        assert panel.ui.sexComboBox.currentText == "female"
        assert panel.parameters.patientHeight == 0  # Only what the user says is kept.

    def test_the_user_goes_before_and_an_empty_field_gives_it_back(self, host, panel, of_dicom):
        type_in(panel.ui.weightEdit, "90")
        panel.ui.sexComboBox.setCurrentIndex(2)
        measured(host, panel)
        told = dict(map(tuple, panel.report._measured.content["patient"]))
        assert told["Weight"] == "90 kg" and told["Sex"] == "male" and told["Height"] == "170 cm"
        type_in(panel.ui.weightEdit, "")
        panel.ui.sexComboBox.setCurrentIndex(1)
        measured(host, panel)
        assert self.texts(panel)[2] == "70.5" and panel.parameters.patientWeight == 0
        assert panel.parameters.patientSex == ""

    def test_what_dicom_says_can_be_set_to_not_known(self, host, panel, of_dicom):
        for name in ("ageEdit", "weightEdit", "heightEdit", "heartRateEdit"):
            type_in(getattr(panel.ui, name), "")
        panel.ui.sexComboBox.setCurrentIndex(0)
        measured(host, panel)
        assert self.texts(panel) == [""] * 4 and panel.ui.sexComboBox.currentText == "not known"
        told = dict(map(tuple, panel.report._measured.content["patient"]))
        assert not {"Sex", "Age", "Weight", "Height", "Heart rate"} & set(told) and told["ID"] == "4711"
        assert not panel.ui.surfaceLabel.text
        type_in(panel.ui.weightEdit, "70.5")
        panel.ui.sexComboBox.setCurrentIndex(1)
        measured(host, panel)
        assert self.texts(panel)[2] == "70.5" and panel.parameters.patientWeight == 0  # As DICOM has it, again.
        told = dict(map(tuple, panel.report._measured.content["patient"]))
        assert told["Sex"] == "female" and told["Weight"] == "70 kg" and "Age" not in told

    def test_walls_have_names_and_the_point_is_shown_where_it_was_found(self, host, panel, of_dicom):
        assert panel.report._measured.walls["named"] and not shown(panel.ui.wallsLabel)
        before = {m["key"]: m["value"] for m in panel.report._measured.measurements if "segment" in m["key"]}
        panel.ui.anteriorButton.click()
        measured(host, panel)
        after = {m["key"]: m["value"] for m in panel.report._measured.measurements if "segment" in m["key"]}
        assert panel.parameters.anteriorNode.GetNumberOfDefinedControlPoints() == 1
        assert len(before) == len(after) == 48
        assert np.mean([abs(after[key] - before[key]) for key in before if "thickening" not in key]) < 0.2

    def test_files_that_are_gone_leave_the_orientation(self, host, panel, of_dicom, tmp_path):
        for path in tmp_path.rglob("*.dcm"):
            path.unlink()
        panel.report._files.forget()
        panel.report.measureLater()
        measured(host, panel)
        assert self.texts(panel) == [""] * 4 and panel.report._measured.walls["named"]


class TestWalls:
    @pytest.fixture
    def of_a_cine(self, host, panel):
        choose(panel, add_cine())
        segment(host, panel)

    def in_front(self, sense=1):
        angle = np.pi - sense * np.radians(60)
        return 76.3 + 31 * np.cos(angle), 76.3 + 31 * np.sin(angle), 30.0

    def test_without_the_point_they_have_no_names_and_why_is_said(self, panel, of_a_cine):
        text = panel.ui.wallsLabel.text
        assert text.startswith("The walls have no names: the image does not tell how the patient lies.")
        assert not shown(panel.ui.wallsCheckBox) and shown(panel.ui.anteriorButton)
        assert not any("segment" in m["key"] for m in panel.report._measured.measurements)

    def test_placed_it_names_them_and_dragged_it_divides_them_anew(self, host, panel, of_a_cine):
        panel.ui.anteriorButton.click()
        node = panel.parameters.anteriorNode
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        assert interaction.GetCurrentInteractionMode() == interaction.Place
        assert "Click where the wall of the right ventricle meets" in panel.ui.wallsLabel.text
        node.AddControlPointWorld(*self.in_front())  # The click.
        measured(host, panel)
        first = panel.report._measured
        assert first.walls["named"] and shown(panel.ui.wallsCheckBox)
        assert any(m["name"].startswith("Segment 01 basal anterior") for m in first.measurements)
        node.SetNthControlPointPositionWorld(0, *self.in_front(-1))
        measured(host, panel)
        second = panel.report._measured
        assert not np.array_equal(first.wall_labels, second.wall_labels)

    def test_taken_away_by_the_button_or_in_the_scene_they_have_no_names(self, host, panel, of_a_cine):
        for way in ("button", "scene"):
            panel.ui.anteriorButton.click()
            panel.parameters.anteriorNode.AddControlPointWorld(*self.in_front())
            measured(host, panel)
            assert panel.report._measured.walls["named"]
            if way == "button":
                panel.ui.removeAnteriorButton.click()
            else:
                slicer.mrmlScene.RemoveNode(panel.parameters.anteriorNode)
            measured(host, panel)
            assert panel.parameters.anteriorNode is None and not panel.report._measured.walls["named"]
            assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 0

    def test_as_a_segmentation_that_follows(self, host, panel, of_a_cine):
        panel.ui.anteriorButton.click()
        panel.parameters.anteriorNode.AddControlPointWorld(*self.in_front())
        measured(host, panel)
        panel.ui.wallsCheckBox.click()
        node, image = panel.parameters.wallsNode, panel.parameters.inputNode
        proxy = panel.parameters.enhancedNode
        assert [s.GetName() for s in mrml.segments(node)][:2] == ["Basal anterior", "Basal anteroseptal"]
        labels = mrml.exported_labels(node, proxy)
        assert set(np.unique(labels[labels_of(22) == HEART.muscle])) - {0} == set(range(1, 17))
        assert not labels[labels_of(22) != HEART.muscle].any() and image is not None
        panel.parameters.anteriorNode.SetNthControlPointPositionWorld(0, *self.in_front(-1))
        measured(host, panel)
        assert panel.parameters.wallsNode is node
        assert not np.array_equal(mrml.exported_labels(node, proxy), labels)
        panel.ui.wallsCheckBox.click()
        assert node.GetScene() is None and panel.parameters.wallsNode is None

    def test_changed_by_hand_they_are_the_users(self, host, panel, of_a_cine):
        panel.ui.anteriorButton.click()
        panel.parameters.anteriorNode.AddControlPointWorld(*self.in_front())
        measured(host, panel)
        panel.ui.wallsCheckBox.click()
        node = panel.parameters.wallsNode
        mrml.set_segment(node, "Basal anterior", labels_of(22) == HEART.chamber, FLAT)
        panel.parameters.anteriorNode.SetNthControlPointPositionWorld(0, *self.in_front(-1))
        measured(host, panel)
        assert node.GetScene() is not None and panel.parameters.wallsNode is None
        assert not panel.ui.wallsCheckBox.checked
        assert "was changed by hand" in plain(panel.ui.messageLabel.text)

    def test_of_another_image_the_point_says_nothing(self, host, panel, of_a_cine):
        panel.ui.anteriorButton.click()
        panel.parameters.anteriorNode.AddControlPointWorld(*self.in_front())
        measured(host, panel)
        choose(panel, add_cine((21, 15)))
        segment(host, panel)
        assert panel.parameters.anteriorNode is None and not panel.report._measured.walls["named"]
        assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 1  # It is the user's.

    def test_a_wall_that_is_not_divided_says_why(self, host, panel, monkeypatch):
        def without_right(volume, task, **options):
            return mrml.without(as_drawn(volume, task, **options), HEART.right_chamber)

        monkeypatch.setattr(panel.logic, "worker", mrml.InProcess(without_right))
        choose(panel, add_cine())
        segment(host, panel)
        assert "The wall is not divided. At end diastole the right ventricle does not" in panel.ui.wallsLabel.text
        assert not shown(panel.ui.anteriorButton) and not shown(panel.ui.bullsEyeLabel)


class TestGivenAway:
    @pytest.fixture
    def of_a_cine(self, host, panel):
        choose(panel, add_cine())
        segment(host, panel)

    def test_to_the_clipboard(self, panel, of_a_cine):
        panel.ui.copyReportButton.click()
        rows = list(csv.reader(io.StringIO(slicer.app.clipboard().text()), delimiter="\t"))
        study = measure_study(beat(), MeasureOptions())
        assert len(rows) == 1 + len(study.measurements)
        assert rows[1][:3] == ["Left ventricle: End-diastolic volume", study.measurements[0].text, "ml"]
        assert "Height and weight are not known." in [row[6] for row in rows]

    def test_as_csv(self, host, panel, of_a_cine, tmp_path):
        host.answer(str(tmp_path / "numbers"))
        panel.ui.saveNumbersButton.click()
        with (tmp_path / "numbers.csv").open(encoding="utf-8-sig", newline="") as file:
            assert [tuple(row) for row in csv.reader(file)] == panel.report.rows()
        host.answer(str(tmp_path / "nowhere" / "numbers.csv"))
        panel.ui.saveNumbersButton.click()
        assert "nowhere" in plain(panel.ui.messageLabel.text)

    def test_as_a_table_in_the_scene_that_follows(self, host, panel, of_a_cine):
        panel.ui.reportNodeButton.click()
        node = panel.parameters.reportTableNode
        assert node.GetName().endswith(" report") and node.GetNumberOfRows() == len(panel.report.rows()) - 1
        type_in(panel.ui.heartRateEdit, "70")
        measured(host, panel)
        assert panel.parameters.reportTableNode is node
        names = [row[0] for row in panel.report.rows()[1:]]
        output = names.index("Left ventricle: Cardiac output")
        assert node.GetTable().GetValueByName(output, "Value").ToString() != ""

    def test_as_pdf_and_html(self, host, panel, of_a_cine, tmp_path):
        host.answer(str(tmp_path / "a"))
        panel.ui.saveReportButton.click()
        measured(host, panel)
        name = panel.parameters.enhancedNode.GetNodeReference("DINSegment.Original").GetName()
        text = pypdfium2.PdfDocument(tmp_path / "a.pdf")[0].get_textpage().get_text_range()
        assert "Ejection fraction" in text and name in text
        assert f"Saved '{tmp_path / 'a.pdf'}'." in plain(panel.ui.messageLabel.text)
        panel.ui.anonymousCheckBox.click()
        host.answer(str(tmp_path / "a.html"))
        panel.ui.saveReportButton.click()
        measured(host, panel)
        page = (tmp_path / "a.html").read_text(encoding="utf-8")
        assert "Ejection fraction" in page and name not in page
        assert panel.parameters.anonymous and panel.ui.saveReportButton.enabled

    def test_a_file_that_is_there_is_not_replaced_unasked(self, host, panel, of_a_cine, tmp_path):
        (tmp_path / "a.pdf").write_text("mine")
        host.answer(str(tmp_path / "a"), "Cancel")
        panel.ui.saveReportButton.click()
        measured(host, panel)
        assert "exists already. Replace it?" in host.messages[-1].text
        assert (tmp_path / "a.pdf").read_text() == "mine"

    def test_a_user_who_changes_their_mind(self, host, panel, of_a_cine):
        host.answer("")
        panel.ui.saveReportButton.click()
        measured(host, panel)
        assert panel.controller.message is None


class TestMissing:
    class Some(Dependencies):
        """Of these packages it is said that they are missing, until they are installed."""

        def __init__(self, *names):
            super().__init__(path=["/nowhere"])
            self.names, self.asked = list(names), []

        def missing(self):
            return [one for one in super().missing() if one.name in self.names]

        def install(self, missing, in_testing=False):
            self.asked.append([one.name for one in missing])
            self.names = [name for name in self.names if name not in self.asked[-1]]

    def test_what_is_missing_is_said_and_installed_if_the_user_agrees(self, host, panel):
        panel.controller.dependencies = some = self.Some("matplotlib", "reportlab")
        choose(panel, add_cine())
        panel.run._missing = []
        some.names, kept = [], some.names
        segment(host, panel)
        some.names, panel.report._complete = kept, False
        panel.report.measureLater()
        measured(host, panel)
        text = plain(panel.ui.reportStateLabel.text)
        assert text == "The report needs Python packages that are not installed yet: matplotlib."
        assert shown(panel.ui.reportInstallButton) and panel.ui.reportTable.rowCount == 0
        host.answer("Cancel")
        panel.ui.reportInstallButton.click()
        assert some.asked == []
        host.answer("Ok")
        panel.ui.reportInstallButton.click()
        assert "matplotlib" in host.messages[-1].text and "reportlab" in host.messages[-1].text
        measured(host, panel)
        assert some.asked == [["matplotlib", "reportlab"]] and value_of(panel, "Ejection fraction")
        assert not shown(panel.ui.reportInstallButton)

    def test_a_pdf_needs_one_more_than_html(self, host, panel, tmp_path):
        choose(panel, add_cine())
        segment(host, panel)
        panel.controller.dependencies, panel.report._complete = self.Some("reportlab"), False
        host.answer(str(tmp_path / "a.pdf"), "Cancel")
        panel.ui.saveReportButton.click()
        measured(host, panel)
        assert "reportlab" in host.messages[-1].text and not (tmp_path / "a.pdf").exists()
        host.answer(str(tmp_path / "a.html"))
        panel.ui.saveReportButton.click()
        measured(host, panel)
        assert (tmp_path / "a.html").exists()
