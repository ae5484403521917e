"""Reports as files beside the other results: what is written, replaced, recorded; a batch's table and page."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from phantom_series import phantom_study

from dinsegment.dicom.read.patient import Patient
from dinsegment.errors import OutputError
from dinsegment.images.segmentation import Segmentation
from dinsegment.manifest import written
from dinsegment.measurements.study import MeasureOptions, StudyMeasurements
from dinsegment.models.entries import find_entry
from dinsegment.report import pages
from dinsegment.studies.ledger import Ledger
from dinsegment.studies.page import PAGE, page_bytes
from dinsegment.studies.results import KIND, PAGE_FILES, check_results
from dinsegment.studies.study import Study, StudyResult, write_study
from dinsegment.tasks import HEART

MAN = MeasureOptions(Patient("M", 60.0, 1.80, 80.0, 70.0))


@pytest.fixture(scope="module")
def beat(tmp_path_factory):
    return phantom_study(tmp_path_factory.mktemp("images"), phases=3)


def study_in(folder, **more) -> Study:
    return Study(folder / "images", folder / "OUT", measure=MAN, report=True, **more)


@pytest.fixture(scope="module", autouse=True)
def pages_once():
    """The pages of the same beat and the same numbers are made once; they are written anew each time."""
    known: dict[tuple, pages.Pages] = {}

    def once(phases: list[Segmentation], measured: StudyMeasurements, anonymous: bool = False) -> pages.Pages:
        key = (*map(id, phases), repr(measured), anonymous)
        if key not in known:
            known[key] = make_pages(phases, measured, anonymous)
        return known[key]

    make_pages = pages.make_pages
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "make_pages", once)
        yield


@pytest.fixture(scope="module")
def made(beat, tmp_path_factory) -> StudyResult:
    """Results with a report, to be read, and to be copied where they are changed."""
    return write_study(study_in(tmp_path_factory.mktemp("made")), beat)


def copied(made: StudyResult, folder: Path) -> None:
    """The same results in another folder, as if they had been written there."""
    shutil.copytree(made.folder, folder)


class TestFiles:
    def test_a_report_lies_beside_the_results_and_is_known_as_the_tools(self, made):
        result, out = made, Path(made.folder)
        assert all((out / name).is_file() and name in written(out, KIND) for name in PAGE_FILES)
        assert (out / "report.pdf").read_bytes().startswith(b"%PDF") and (out / "measurements.dcm").is_file()
        content = json.loads((out / "measurements.json").read_text(encoding="utf-8"))
        assert tuple(content["measurements"]) == result.measurements
        assert content["patient"] == {
            "sex": "M",
            "age_years": 60.0,
            "height_m": 1.8,
            "weight_kg": 80.0,
            "heart_rate_bpm": 70.0,
        }
        by_key = {m["key"]: m for m in result.measurements}
        assert by_key["lv_ef"]["value"] == result.function["ejection_fraction_percent"]
        assert by_key["rv_edv_bsa"]["unit"] == "ml/m²"

    def test_without_it_there_is_none_and_an_earlier_one_goes(self, beat, made, tmp_path):
        copied(made, tmp_path / "OUT")
        write_study(replace(study_in(tmp_path), report=False), beat)
        assert not any((tmp_path / "OUT" / name).exists() for name in PAGE_FILES)
        assert "measurements" in json.loads((tmp_path / "OUT" / "measurements.json").read_text(encoding="utf-8"))

    def test_somebody_elses_report_is_not_replaced(self, beat, tmp_path):
        out = tmp_path / "OUT"
        out.mkdir()
        (out / "report.pdf").write_bytes(b"mine")
        study = study_in(tmp_path)
        volumes = [phase.volume for phase in beat]
        with pytest.raises(OutputError, match=r"report\.pdf"):
            check_results(volumes, out, study.input, with_pages=True)
        check_results(volumes, out, study.input)
        with pytest.raises(OutputError, match=r"report\.pdf"):
            write_study(study, beat)
        assert (out / "report.pdf").read_bytes() == b"mine" and list(out.iterdir()) == [out / "report.pdf"]

    def test_a_report_that_was_changed_is_kept(self, beat, made, tmp_path):
        copied(made, tmp_path / "OUT")
        (tmp_path / "OUT" / "report.html").write_text("corrected")
        with pytest.raises(OutputError, match="changed since"):
            write_study(study_in(tmp_path), beat)
        result = write_study(study_in(tmp_path, overwrite=True), beat)
        assert "report.html" in result.message

    def test_an_anonymous_one_makes_nothing_for_the_patients_study(self, beat, tmp_path):
        write_study(study_in(tmp_path, anonymous=True), beat)
        assert not list((tmp_path / "OUT").rglob("*.dcm"))
        assert str(beat[0].volume.dicom.headers[0].PatientID) not in (tmp_path / "OUT" / "report.html").read_text(
            encoding="utf-8"
        )


class Rows(HTMLParser):
    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.links, self.values, self.text = [], [], []
        self.feed(page.decode())

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.links += [attributes[name] for name in ("href", "src") if name in attributes]
        if "data-value" in attributes:
            self.values.append(attributes["data-value"])

    def handle_data(self, data):
        self.text.append(data)


class TestBatch:
    @pytest.fixture
    def results(self, made, tmp_path) -> list[StudyResult]:
        copied(made, tmp_path / "a & b")
        done = replace(made, input=str(tmp_path / "one"), folder=str(tmp_path / "a & b"))
        failed = StudyResult(str(tmp_path / "two"), str(tmp_path / "two"), "failed", message="'<two>' is damaged.")
        return [done, failed]

    def test_the_table_has_a_row_a_study_with_all_numbers(self, results, tmp_path):
        ledger = Ledger(tmp_path, HEART, find_entry(None, HEART))
        ledger.write_table(results)
        with (tmp_path / "studies.csv").open(newline="", encoding="utf-8") as file:
            one, two = csv.DictReader(file)
        for m in results[0].measurements:
            column = f"{m['name']} ({m['unit']})"
            assert one[column] == ("" if m["value"] is None else f"{m['value']:.3f}") and two[column] == ""
        assert one["Ejection fraction (%)"] == f"{results[0].function['ejection_fraction_percent']:.2f}"

    def test_the_page_links_to_each_report_and_can_be_sorted(self, results):
        page = page_bytes(results, HEART)
        rows = Rows(page)
        assert {"a%20%26%20b/report.html", "a%20%26%20b/report.pdf", "a%20%26%20b/thumbnail.png"} == set(rows.links)
        assert f"{results[0].function['ejection_fraction_percent']:.2f}" in rows.values
        text = "".join(rows.text)
        assert "a & b" in text and "'<two>' is damaged." in text and b"<two>" not in page
        assert "aria-sort" in page.decode() and "http" not in page.decode()

    def test_an_anonymous_page_names_nobody(self, results):
        page = page_bytes(results, HEART, anonymous=True).decode()
        assert "Study 1" in page and "a &amp; b" not in page and "damaged" not in page

    def test_a_page_of_somebody_else_is_kept(self, results, tmp_path):
        (tmp_path / PAGE).write_text("mine")
        ledger = Ledger(tmp_path, HEART, find_entry(None, HEART))
        with pytest.raises(OutputError, match=r"index\.html"):
            ledger.check_page()
        (tmp_path / PAGE).unlink()
        ledger.check_page()
        ledger.write_page(results)
        ledger.write_page(results[:1])
        (tmp_path / PAGE).write_text("changed")
        with pytest.raises(OutputError, match="was changed since"):
            Ledger(tmp_path, HEART, find_entry(None, HEART)).check_page()

    def test_results_without_a_report_are_made_again_where_one_is_asked_for(self, beat, tmp_path):
        """And those of a patient of another size."""
        (tmp_path / "images").mkdir()
        plain = Study(tmp_path / "images", tmp_path / "OUT")
        ledger = Ledger(tmp_path, HEART, find_entry(None, HEART))
        assert ledger.claim(plain) is None
        ledger.settle(plain, write_study(plain, beat))
        again = ledger.claim(plain)
        assert again.status == "skipped" and again.measurements[0]["key"] == "lv_edv"
        asked = replace(plain, report=True)
        assert ledger.claim(asked) is None
        ledger.settle(asked, write_study(asked, beat))
        assert ledger.claim(asked).status == "skipped"
        assert ledger.claim(replace(asked, measure=MAN)) is None


class TestCommandLine:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--anonymous"], "--anonymous is for --report"),
            (["--height", "1.8"], "--height 1.8 cannot be right: give 30 to 250 cm"),
            (["--weight", "8000"], "--weight 8000 cannot be right"),
            (["--sex", "other"], "give M or F"),
            (["--age", "-1"], "--age -1 cannot be right"),
            (["--heart-rate", "5"], "--heart-rate 5 cannot be right"),
            (["--surface", "boyd"], "give mosteller or dubois"),
        ],
    )
    def test_what_cannot_be_right_is_refused_before_anything_is_made(self, run, tmp_path, options, said):
        code, _, errors = run("segment", "--task", "heart", "--output", tmp_path / "OUT", *options)
        assert code == 2 and said in errors and not (tmp_path / "OUT").exists()
