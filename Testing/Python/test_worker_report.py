"""What the worker does for a report: measured as the library measures it, drawn, laid out, and refused in sentences."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace

import numpy as np
import pydicom
import pypdfium2
import pytest
from PIL import Image
from test_walls import in_front
from test_worker import Process
from wall_phantoms import SHAPE, cylinder, segmentation

from dinsegment.dicom.read.patient import Patient
from dinsegment.errors import InputError, OutputError
from dinsegment.images.samples import Samples
from dinsegment.images.segmentation import Finding
from dinsegment.measurements.study import MeasureOptions, measure_study
from dinsegment.measurements.walls import aha_labels, anterior_insertion, wall_of
from dinsegment.phantom.ct import abdomen_phantom
from dinsegment.report.bars import bar_of, bar_png
from dinsegment.report.content import report_content
from dinsegment.worker_report import IMAGE, LABELS, WALLS, Reports, _box

WOMAN = Patient("F", 55.0, 1.68, 64.0, 66.0)
RADII = (22, 20, 17, 16, 18, 21)


@pytest.fixture(scope="module")
def beat():
    phases = []
    for n, radius in enumerate(RADII):
        labels = cylinder(radius, 31.0 - 0.3 * (22 - radius), tilt=0.1)
        labels[[0, -1]] = 0
        one = segmentation(labels)
        grey = np.choose(labels, [40, 170, 70, 180]).astype(np.float32)
        phases.append(replace(one, volume=replace(one.volume, array=grey, name="Cine", time_ms=120.0 * n)))
    finding = Finding("Doubtful in slice 3.", segment=1, kind="unsure", topic="Doubtful", slices=(3,))
    phases[2] = replace(phases[2], findings=(finding,), warnings=(finding.text,))
    return phases


def whole_slices(labels, **more):
    """Neither the first slice nor the last one cuts the heart."""
    labels[[0, -1]] = 0
    return segmentation(labels, **more)


def write(folder, phases, images=False, cut=True, **more):
    """A request for these phases, with their files."""
    first = phases[0].volume
    described = []
    for number, phase in enumerate(phases, start=1):
        filled = [np.flatnonzero(phase.labels.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
        begin = [int(f[0]) if cut and f.size else 0 for f in filled]
        end = [int(f[-1]) + 1 if cut and f.size else n for f, n in zip(filled, phase.labels.shape, strict=True)]
        part = phase.labels[tuple(slice(a, b) for a, b in zip(begin, end, strict=True))]
        np.save(folder / LABELS.format(number), part)
        if images:
            np.save(folder / IMAGE.format(number), phase.volume.array)
        findings = [
            {"text": f.text, "segment": f.segment, "kind": f.kind, "topic": f.topic, "slices": list(f.slices)}
            for f in phase.findings
        ]
        described.append({"first": begin, "time_ms": phase.volume.time_ms, "findings": findings})
    request = {
        "command": "report",
        "folder": str(folder),
        "run": 1,
        "task": phases[0].task.name,
        "model": "truth",
        "volume": {
            "name": first.name,
            "shape": list(first.shape),
            "ijk_to_ras": first.ijk_to_ras.tolist(),
            "modality": first.modality,
        },
        "phases": described,
        "images": images,
        "from_dicom": False,
        "files": [],
        "patient": vars(WOMAN),
        "anterior": None,
    }
    return json.loads(json.dumps({**request, **more}))


class TestMeasured:
    @pytest.mark.parametrize("anterior", [None, in_front()])
    def test_as_the_library_measures_the_whole_grid(self, beat, tmp_path, anterior):
        answer = json.loads(json.dumps(Reports().measure(write(tmp_path, beat, anterior=anterior))))
        study = measure_study(beat, MeasureOptions(WOMAN, anterior=anterior))
        expected = [m.to_dict() for m in study.measurements]
        assert [m["key"] for m in answer["measurements"]] == [m["key"] for m in expected] and len(expected) > 20
        for got, wanted in zip(answer["measurements"], expected, strict=True):
            value = got.pop("value"), wanted.pop("value")
            assert value[0] == (value[1] and pytest.approx(value[1], rel=1e-9)), got["key"]
            assert got == json.loads(json.dumps(wanted))
        content = report_content(beat, study)
        assert answer["content"]["findings"] == list(content.findings)
        assert content.findings[0] == "Doubtful in slice 3 in phase 3."
        assert answer["texts"] == {m.key: m.text for m in study.measurements}
        assert answer["content"]["left_out"] == list(content.left_out)
        assert [t["title"] for t in answer["content"]["tables"]] == [t.title for t in content.tables]

    def test_only_a_part_of_the_slices_is_looked_at(self, beat):
        box = _box(SHAPE, beat[0].volume.ijk_to_ras, [(slice(1, 8), slice(40, 60), slice(3, 50))], None)
        assert box == (slice(0, 9), slice(32, 68), slice(0, 58))

    def test_a_cut_heart_is_still_said_to_be_cut(self, tmp_path):
        """The margin must not make an edge of the image look like none."""
        phases = [whole_slices(np.roll(cylinder(radius, 30.0), 40, axis=1)) for radius in (22, 16)]
        answer = Reports().measure(write(tmp_path, phases))
        study = measure_study(phases, MeasureOptions(WOMAN))
        assert "edge of the field of view" in study.no_function
        assert study.no_function in {m["reason"] for m in answer["measurements"]}

    def test_bars_of_numbers_with_ranges(self, beat, tmp_path):
        tables = Reports().measure(write(tmp_path, beat))["content"]["tables"]
        rows = [row for table in tables for row in table["rows"]]
        with_bars = [row for row in rows if row["bar"]]
        assert with_bars and all(bool(row["bar"]) == bool(row["range_text"]) for row in rows)
        image = Image.open(io.BytesIO(base64.b64decode(with_bars[0]["bar"])))
        assert image.size == (144, 32) and image.mode == "RGBA"

    def test_nothing_to_measure(self, beat, tmp_path):
        empty = [replace(phase, labels=np.zeros_like(phase.labels)) for phase in beat]
        with pytest.raises(InputError, match=r"'Cine' has no segment of heart"):
            Reports().measure(write(tmp_path, empty))

    def test_an_organ_needs_grey_values(self, tmp_path):
        phantom = abdomen_phantom(slices=20, size=(96, 96), spacing=(10.0, 4.0, 4.0))
        from dinsegment.images.segmentation import Segmentation
        from dinsegment.tasks import ABDOMEN

        one = Segmentation(phantom.volume, phantom.labels.astype(np.uint8), ABDOMEN, "truth", phantom.volume, "", 0.0)
        answer = Reports().measure(write(tmp_path, [one], images=True))
        expected = {m.key: m.value for m in measure_study([one]).measurements}
        assert {m["key"]: m["value"] for m in answer["measurements"]} == expected
        assert expected["liver_hu_mean"] is not None and answer["walls"] is None


class TestPatient:
    @pytest.fixture
    def file(self, tmp_path):
        dataset = pydicom.Dataset()
        dataset.PatientName, dataset.PatientSex, dataset.PatientAge = "Lovelace^Ada", "F", "061Y"
        dataset.PatientSize, dataset.PatientWeight, dataset.HeartRate = 1.7, 70.0, 75
        dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", pydicom.uid.generate_uid()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        pydicom.dcmwrite(tmp_path / "a.dcm", dataset, enforce_file_format=True)
        return str(tmp_path / "a.dcm")

    def test_is_read_from_the_files_and_the_user_goes_before(self, beat, tmp_path, file):
        request = write(tmp_path, beat, files=[file], from_dicom=True, patient={"weight_kg": 90.0})
        answer = Reports().measure(request)
        assert answer["read"] == {
            "sex": "F", "age_years": 61.0, "height_m": 1.7, "weight_kg": 70.0, "heart_rate_bpm": 75.0,
        }  # fmt: skip
        told = dict(answer["content"]["patient"])
        assert told["Weight"] == "90 kg" and told["Height"] == "170 cm" and told["Patient"] == "Lovelace, Ada"

    def test_files_that_are_gone_tell_nothing(self, beat, tmp_path, file):
        (tmp_path / "b.dcm").write_text("no DICOM")
        request = write(tmp_path, beat, files=["/nowhere/a.dcm", str(tmp_path / "b.dcm")], from_dicom=True)
        assert set(Reports().measure(request)["read"].values()) == {None}


class TestWalls:
    def test_are_divided_where_the_image_tells_how_the_patient_lies(self, tmp_path):
        """Slices as DICOM has them, in a patient: rows to the left, columns to the back and down."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.array([[-1.0, 0.6, 0.5], [0.5, -1.0, 0.6], [-0.6, -0.5, -1.0]]) * (1.4, 1.4, 8.0)
        phases = [whole_slices(cylinder(radius, 31.0), ijk_to_ras=matrix) for radius in (22, 16)]
        answer = Reports().measure(write(tmp_path, phases, from_dicom=True))
        assert answer["walls"]["named"] and len(answer["walls"]["anterior"]) == 3
        unnamed = Reports().measure(write(tmp_path, phases))
        assert not unnamed["walls"]["named"] and unnamed["walls"]["anterior"] is None
        assert "The walls have no names: the image does not tell how the patient lies." in unnamed["content"]["notes"]

    def test_their_labels_are_those_of_the_library_where_they_belong(self, beat, tmp_path):
        answer = Reports().measure(write(tmp_path, beat, anterior=in_front()))
        part, first = np.load(tmp_path / WALLS), answer["walls"]["first"]
        whole = np.zeros(SHAPE, np.uint8)
        whole[tuple(slice(a, a + n) for a, n in zip(first, part.shape, strict=True))] = part
        ed = beat[answer["walls"]["phase"]]
        assert np.array_equal(whole, aha_labels(ed, wall_of(ed, in_front())))
        assert set(np.unique(whole)) == set(range(17))

    @pytest.mark.parametrize("sense", [1, -1])
    def test_the_anterior_insertion_divides_as_it_was_found(self, sense):
        one = segmentation(cylinder(20.0, 30.0))
        wall = wall_of(one, in_front(sense=sense))
        found = anterior_insertion(one, wall)
        again = wall_of(one, found)
        assert np.mean(again.segment == wall.segment) > 0.97
        assert np.linalg.norm(np.subtract(found, in_front(30.0, sense=sense))[:2]) < 3.0

    def test_it_is_not_known_of_walls_without_names(self):
        one = segmentation(cylinder(20.0, 30.0))
        assert anterior_insertion(one, wall_of(one)) is None


class TestDrawn:
    def test_curve_and_bulls_eyes(self, beat, tmp_path):
        reports = Reports()
        reports.measure(write(tmp_path, beat, anterior=in_front()))
        figures = reports.draw({"folder": str(tmp_path), "run": 1})["figures"]
        assert [f["name"] for f in figures] == ["curve", "wall_ed", "wall_es", "thickening"]
        for figure in figures:
            with Image.open(tmp_path / figure["file"]) as image:
                assert image.width / image.height == pytest.approx(figure["width"] / figure["height"], rel=0.01)

    def test_of_two_phases_there_is_no_curve_and_of_an_open_wall_no_bulls_eye(self, tmp_path):
        phases = [segmentation(np.where(cylinder(r, 30.0) == 2, 0, cylinder(r, 30.0))) for r in (22, 16)]
        reports = Reports()
        reports.measure(write(tmp_path, phases))
        assert reports.draw({"folder": str(tmp_path), "run": 1})["figures"] == []

    def test_what_was_measured_before_is_not_drawn_for_something_else(self, beat, tmp_path):
        reports = Reports()
        reports.measure(write(tmp_path, beat))
        with pytest.raises(InputError, match="measured again"):
            reports.draw({"folder": str(tmp_path), "run": 2})

    @pytest.mark.parametrize(("value", "place"), [(40, "below"), (75, "within"), (140, "above")])
    def test_a_bar_has_its_mark_where_the_number_is(self, value, place):
        from dinsegment.measurements.normals import sources
        from dinsegment.measurements.ranges import NormalRange

        bar = bar_of(value, NormalRange(50, 100, 75, next(iter(sources().values()))))
        assert bar.place == place
        pixels = np.asarray(Image.open(io.BytesIO(bar_png(bar)))).astype(int)
        color = (0x1D, 0x21, 0x27) if place == "within" else (0xA3, 0x3C, 0x00)
        marked = (np.abs(pixels[..., :3] - color).sum(axis=2) < 30) & (pixels[..., 3] > 200)
        assert np.flatnonzero(marked.any(axis=0)).mean() == pytest.approx(bar.value * 144, abs=7)


class TestPage:
    def page(self, folder, beat, path, **more):
        request = write(folder, beat, images=True, path=str(path), **{"anonymous": False, **more})
        return Reports().write_page(request)

    def test_pdf(self, beat, tmp_path):
        assert self.page(tmp_path, beat, tmp_path / "a.pdf") == {"path": str(tmp_path / "a.pdf")}
        text = pypdfium2.PdfDocument(tmp_path / "a.pdf")[0].get_textpage().get_text_range()
        assert "Ejection fraction" in text and "Cine" in text and "Research tool" in text

    def test_html_without_the_name(self, beat, tmp_path):
        self.page(tmp_path, beat, tmp_path / "a.html", anonymous=True)
        text = (tmp_path / "a.html").read_text(encoding="utf-8")
        assert text.startswith("<!doctype html>") and "Ejection fraction" in text and "Cine" not in text

    def test_a_folder_that_is_not_there(self, beat, tmp_path):
        with pytest.raises(OutputError, match="nowhere"):
            self.page(tmp_path, beat, tmp_path / "nowhere" / "a.pdf")

    def test_without_reportlab_html_is_offered(self, beat, tmp_path, monkeypatch):
        import sys

        for name in [name for name in sys.modules if name.startswith("reportlab")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.delitem(sys.modules, "dinsegment.report.pdf", raising=False)
        monkeypatch.delitem(sys.modules, "dinsegment.report.fonts", raising=False)
        monkeypatch.setitem(sys.modules, "reportlab", None)
        with pytest.raises(InputError, match=r"reportlab.*save the report as HTML"):
            self.page(tmp_path, beat, tmp_path / "a.pdf")
        self.page(tmp_path, beat, tmp_path / "a.html")
        assert not (tmp_path / "a.pdf").exists() and (tmp_path / "a.html").exists()


class TestProcess:
    def test_serves_reports_without_torch(self, beat, tmp_path):
        code = (
            "import sys; sys.argv = ['worker', 'report']; import dinsegment.worker as worker; "
            "say = worker.Channel.send; "
            "worker.Channel.send = lambda self, event, **c: say(self, event, torch='torch' in sys.modules, **c); "
            "worker.main(for_reports=True)"
        )
        process = Process(code)
        try:
            assert process.read() == {"event": "ready", "torch": False}
            done = process.answers({**write(tmp_path, beat), "id": 1})[-1]
            assert done["event"] == "done" and not done["torch"] and done["content"]["title"] == "Heart MR"
            figures = process.answers({"command": "figures", "id": 2, "folder": str(tmp_path), "run": 1})[-1]
            assert figures["figures"][0]["name"] == "curve"
            refused = process.answers({"command": "figures", "id": 3, "folder": str(tmp_path), "run": 9})[-1]
            assert refused["event"] == "error" and refused["type"] == "InputError"
        finally:
            process.close()


class TestSamples:
    """Where samples were drawn of end diastole and end systole, numbers have intervals wherever they stand."""

    @pytest.fixture
    def sampled(self, beat):
        phases = list(beat)
        for n in (0, 3):
            ml = [(phases[n].labels == label).sum() * phases[n].volume.voxel_volume_ml for label in (1, 2, 3)]
            draws = np.array(ml) + np.array([-4.0, 0.0, 4.0])[:, None]
            scales = {"ml": 2.0, "%": 2.0, "g": 2.0}
            samples = Samples("m", draws, np.zeros(phases[n].volume.shape, np.float32), scales, {"ml": 3.0}, 3, 22)
            phases[n] = replace(phases[n], samples=samples)
        return phases

    def request(self, folder, phases, changed=(), **more):
        request = write(folder, phases, **more)
        for described, phase in zip(request["phases"], phases, strict=True):
            described["samples"] = phase.samples and json.loads(json.dumps(phase.samples.to_dict()))
        request["phases"][3]["changed"] = list(changed)
        return request

    def test_they_are_told(self, sampled, tmp_path):
        answer = json.loads(json.dumps(Reports().measure(self.request(tmp_path, sampled))))
        study = measure_study(sampled, MeasureOptions(WOMAN))
        edv = study.value("lv_edv")
        low, high = f"{edv - 2 * 5:.0f}", f"{edv + 2 * 5:.0f}"  # 3, 4, 5
        assert answer["intervals"]["lv_edv"] == [low, high] and "lv_ef" in answer["intervals"]
        left = next(table for table in answer["content"]["tables"] if table["title"] == "Left ventricle")
        rows = {row["name"]: row["cells"] for row in left["rows"]}
        assert rows["End-diastolic volume"][0] == f"{edv:.0f} ml ({low} to {high})"
        assert "(" not in rows["End-diastolic volume"][1]
        notes = " ".join(answer["content"]["notes"])
        assert "90 % intervals from 3 samples, calibrated on 22 validation patients" in notes

    def test_not_of_what_was_corrected(self, sampled, tmp_path):
        answer = Reports().measure(self.request(tmp_path, sampled, changed=(3,)))
        assert "lv_edv" in answer["intervals"] and not {"lv_esv", "lv_ef"} & set(answer["intervals"])
        assert "numbers of what a person has corrected have no interval" in " ".join(answer["content"]["notes"])

    def test_without_samples_there_is_no_word_of_them(self, beat, tmp_path):
        answer = Reports().measure(write(tmp_path, beat))
        assert answer["intervals"] == {} and "interval" not in json.dumps(answer["content"])

    @pytest.mark.parametrize("suffix", [".pdf", ".html"])
    def test_they_stand_on_the_page(self, sampled, tmp_path, suffix):
        path = tmp_path / f"report{suffix}"
        page = {"command": "page", "path": str(path), "anonymous": True, "images": True}
        Reports().write_page(self.request(tmp_path, sampled, **page))
        if suffix == ".html":
            text = path.read_text(encoding="utf-8")
        else:
            document = pypdfium2.PdfDocument(path)
            text = "".join(page.get_textpage().get_text_range() for page in document)
        edv = measure_study(sampled).value("lv_edv")
        assert f"{edv:.0f} ml ({edv - 10:.0f} to {edv + 10:.0f})" in text and "(90 % interval)" in text
        assert "calibrated on 22 validation patients" in " ".join(text.split())


def test_what_the_user_says_is_not_known_is_not_known_though_the_files_say_it(beat, tmp_path):
    image = pydicom.Dataset()
    image.PatientID, image.PatientSex, image.PatientAge, image.PatientWeight = "4711", "F", "061Y", 70.5
    image.SOPClassUID, image.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", pydicom.uid.generate_uid()
    image.file_meta = pydicom.dataset.FileMetaDataset()
    image.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    pydicom.dcmwrite(tmp_path / "image.dcm", image, enforce_file_format=True)
    files = {"files": [str(tmp_path / "image.dcm")], "from_dicom": True}
    said = {"sex": None, "age_years": None, "height_m": 1.7}
    answer = Reports().measure(write(tmp_path, beat, patient=said, **files))
    told = dict(map(tuple, answer["content"]["patient"]))
    assert told["Weight"] == "70 kg" and told["Height"] == "170 cm" and not {"Sex", "Age"} & set(told)
    assert answer["read"]["sex"] == "F" and answer["read"]["age_years"] == 61  # What the files say is still told.
