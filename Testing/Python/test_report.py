"""The report: what stands in it, that its PDF and HTML say it, in any script, and without identity where asked."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pypdfium2
import pytest
from phantom_cases import SMALL_ABDOMEN
from PIL import Image
from pydicom import Dataset
from wall_phantoms import cylinder, segmentation

from dinsegment.dicom.read.patient import Patient
from dinsegment.dicom.source import DicomSource
from dinsegment.images.segmentation import Finding, Segmentation
from dinsegment.measurements.measurement import Measurement, rounded
from dinsegment.measurements.normals import sources
from dinsegment.measurements.ranges import NormalRange
from dinsegment.measurements.study import MeasureOptions, measure_study
from dinsegment.phantom.ct import abdomen_phantom
from dinsegment.report.bars import bar_of
from dinsegment.report.content import age, day, person, report_content
from dinsegment.report.figures import bulls_eyes, curve_colors, key_slices, volume_curve
from dinsegment.report.fonts import REGULAR, marked_up, register_fonts
from dinsegment.report.pages import make_pages
from dinsegment.report.scripts import as_read
from dinsegment.tasks import ABDOMEN

MAN = Patient("M", 60.0, 1.80, 80.0, 70.0)
RADII = (22, 21, 19, 17, 16, 17, 18, 19, 20, 20.3, 20.6, 20.9, 21.1, 21.3, 21.5, 21.7, 21.8, 21.9)
SECRET = "Grünwald^Änne=山田^太郎"


def header(name: str = SECRET) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName, dataset.PatientID = name, "SECRET-4711"
    dataset.PatientBirthDate, dataset.StudyDate, dataset.AccessionNumber = "19640229", "20240131", "ACC-99"
    return dataset


@pytest.fixture(scope="module")
def beat() -> list[Segmentation]:
    """A beat with a grey image: blood bright, muscle dark; its right ventricle has a finding at end systole."""
    phases = []
    for n, radius in enumerate(RADII):
        labels = cylinder(radius, 31.0 - 0.3 * (22 - radius), tilt=0.1)
        labels[[0, -1]] = 0
        one = segmentation(labels)
        grey = np.choose(labels, [40, 170, 70, 180]).astype(np.float32)
        volume = replace(
            one.volume, array=grey, name="secret-name", time_ms=48.0 * n, dicom=DicomSource((header(),) * 9)
        )
        phases.append(replace(one, volume=volume))
    finding = Finding(
        "The right ventricle is missing in slice 4 of 'secret-name'.", segment=1, topic="The right ventricle is missing"
    )
    phases[4] = replace(phases[4], findings=(finding,), warnings=(finding.text,))
    return phases


@pytest.fixture(scope="module")
def study(beat):
    return measure_study(beat, MeasureOptions(MAN, anterior=(20.0, 130.0, 0.0)))


@pytest.fixture(scope="module")
def pages(beat, study):
    return make_pages(beat, study)


def pdf_text(pdf: bytes) -> str:
    document = pypdfium2.PdfDocument(pdf)
    return "\n".join(page.get_textpage().get_text_range() for page in document)


class Text(HTMLParser):
    """The words of a page, and what it loads."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.words, self.loads, self.open = [], [], []
        self.feed(html.decode())

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "path", "circle", "rect"):
            self.open.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href") and not value.startswith("data:")]

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)


class TestContent:
    def test_every_number_stands_in_it_once_as_it_was_measured(self, beat, study):
        content = report_content(beat, study)
        left, right = content.tables
        rows = {row.name: row for row in left.rows}
        assert rows["Ejection fraction"].cells[0] == f"{study.value('lv_ef'):.0f} %"
        assert rows["End-diastolic volume"].cells == (
            f"{study.value('lv_edv'):.0f} ml", f"{study.value('lv_edv_bsa'):.0f} ml/m²",
            f"{study.value('lv_edv_height'):.0f} ml/m",
        )  # fmt: skip
        assert rows["Peak filling rate"].cells[0].endswith("ml/s")
        assert [row.name for row in right.rows][-1] == "Ejection fraction at LV end systole"

    def test_normal_ranges_are_of_this_patient(self, beat, study):
        rows = {row.name: row for row in report_content(beat, study).tables[0].rows}
        assert rows["Ejection fraction"].range_text.startswith("48 to 68 %")
        said = {name: row.range_text.rpartition(", ")[2] for name, row in rows.items() if ", " in row.range_text}
        by_name = {m.definition.name: m for m in study.measurements if m.normal is not None}
        assert said and said == {
            name: place for name, m in by_name.items() if (place := m.normal.place_of(m.read)) != "within"
        }
        mass = rows["Myocardial mass at end diastole"]
        assert mass.range_text.startswith("35 to 71 g/m²") and mass.value == round(study.value("lv_mass_ed_bsa"))
        unknown = measure_study(beat, MeasureOptions(replace(MAN, sex=None)))
        content = report_content(beat, unknown)
        assert not any(row.range_text for table in content.tables for row in table.rows)
        assert any("No normal value for this patient: the sex is not known." in note for note in content.notes)

    def test_the_notes_say_by_which_formula_and_of_which_phases(self, beat, study):
        notes = report_content(beat, study).notes
        assert "Body surface area: Mosteller 1987." in notes
        two = [beat[0], beat[4]]
        other = measure_study(two, MeasureOptions(MAN, "dubois"))
        notes = report_content(two, other).notes
        assert "Body surface area: Du Bois 1916." in notes
        assert "The larger of the two phases is taken for end diastole, the smaller for end systole." in notes

    def test_a_finding_stands_beside_the_numbers_that_it_touches(self, beat, study):
        left, right = report_content(beat, study).tables
        assert not any(row.marks for row in left.rows)
        assert {row.name: row.marks for row in right.rows} == {
            "End-diastolic volume": (), "End-systolic volume": (1,), "Stroke volume": (1,), "Ejection fraction": (1,),
            "Volume at LV end systole": (1,), "Ejection fraction at LV end systole": (1,),
        }  # fmt: skip

    def test_what_is_missing_is_said_with_its_reason(self, beat, study):
        content = report_content(
            beat[:2], measure_study([replace(p, volume=replace(p.volume, time_ms=None)) for p in beat[:2]])
        )
        text = " ".join(content.left_out)
        assert "The heart rate is not known." in text and "when their phases were taken" in text
        assert "Height and weight are not known." in text and "Segment 17" in text
        assert "cardiac output" in text and text.count("Height and weight") == 1

    @pytest.mark.parametrize(
        ("known", "said"),
        [
            (Patient(), ("Indexed numbers: by body surface area. Height and weight are not known.",
                         "Indexed numbers: by height. The height is not known.")),
            (Patient(height_m=1.7), ("Indexed numbers: by body surface area. The weight is not known.",)),
            (Patient(weight_kg=70), ("Indexed numbers: by body surface area, by height. The height is not known.",)),
            (Patient(weight_kg=70, wrong=("a height of 170 m",)),
             ("Indexed numbers: by body surface area, by height. The height is not known. The images say a height of "
              "170 m, which cannot be right.",)),
        ],
    )  # fmt: skip
    def test_numbers_that_are_there_are_not_listed_as_missing_where_they_are_not_indexed(self, beat, known, said):
        phases = [replace(p, volume=replace(p.volume, patient=replace(known, heart_rate_bpm=60))) for p in beat]
        content = report_content(phases, measure_study(phases))
        assert tuple(text for text in content.left_out if "not known" in text) == said

    def test_a_single_phase_says_why_it_has_no_function(self, beat):
        content = report_content(beat[:1], measure_study(beat[:1]))
        assert content.left_out[0].startswith("Ejection fraction, mass and wall thickness. One phase")
        assert content.tables[0].rows[0].name == "Right ventricle"

    def test_no_table_where_nothing_can_be_measured(self, beat):
        empty = [replace(phase, labels=np.zeros_like(phase.labels)) for phase in beat]
        study = measure_study(empty)
        pages = make_pages(empty, study)
        assert pages.content.tables == () and any("No ejection fraction" in text for text in pages.content.left_out)
        assert pages.pdf.startswith(b"%PDF")

    def test_names_and_dates(self):
        assert person("Grünwald^Änne^M") == "Grünwald, Änne M"
        assert person(SECRET) == "Grünwald, Änne (山田, 太郎)"
        assert person("") == "" and person("Single") == "Single"
        assert age(74.9) == "74 years" and age(2) == "2 years" and age(0.7) == "8 months"
        assert day("20240131") == day("2024.01.31") == "2024-01-31"
        assert day("20120000") == "2012" and day("00000000") == day("") == ""

    def test_an_organ_has_a_row(self):
        phantom = abdomen_phantom(seed=1, **SMALL_ABDOMEN)
        one = Segmentation(phantom.volume, phantom.labels, ABDOMEN, "truth", phantom.volume, "cpu", 0.0)
        study = measure_study([one])
        (table,) = report_content([one], study).tables
        rows = {row.name: row.cells for row in table.rows}
        assert rows["Liver"][0] == f"{study.value('liver_volume'):.0f} ml"
        assert re.fullmatch(r"greatest diameter \d+ mm \(slice \d+\)", rows["Aorta"][2])
        assert rows["Liver and spleen"][1].startswith("difference ")

    def test_a_bar_shows_the_place(self):
        known = NormalRange(40.0, 60.0, 50.0, sources()["petersen2017"])
        assert bar_of(50, known).value == pytest.approx(0.5)
        below, within, above = (bar_of(value, known) for value in (10, 41, 300))
        assert (below.place, within.place, above.place) == ("below", "within", "above")
        assert 0 < below.value < below.low < within.value < above.high < above.value < 1

    def test_a_zero_has_no_sign(self):
        assert [rounded(value, 0) for value in (-0.3, 0.3, -0.6, 12.5)] == ["0", "0", "-1", "12"]
        assert Measurement("hu_difference", -0.2, "Liver and spleen").text == "0"

    def test_a_phase_that_its_neighbours_contradict_tells_no_rates(self, beat, study):
        """It would be the steepest place of the curve; volumes at end diastole and end systole are as before."""
        labels = beat[10].labels.copy()
        labels[:3][labels[:3] == 3] = 2
        spoilt = measure_study([*beat[:10], replace(beat[10], labels=labels), *beat[11:]], MeasureOptions(MAN))
        assert spoilt.value("lv_ef") == study.value("lv_ef") and study.value("lv_peak_filling_rate") is not None
        (missing,) = (m for m in spoilt.measurements if m.key == "lv_peak_filling_rate")
        assert missing.reason == "The left ventricle of phase 11 does not go with those of the phases before and after."


class TestPages:
    def test_the_pdf_is_one_page_that_says_it(self, pages, study):
        assert len(pypdfium2.PdfDocument(pages.pdf)) == 1
        text = pdf_text(pages.pdf)
        for words in (
            "Heart MR", "Grünwald, Änne", "SECRET-4711", "1964-02-29", f"{study.value('lv_ef'):.0f} %", "48 to 68 %",
            "Petersen", "Research tool, not a medical device.", "[1]", "DINSegment",
        ):  # fmt: skip
            assert words in text, words

    def test_the_html_has_the_same_and_needs_no_other_file(self, pages):
        page = Text(pages.html)
        words = " ".join(page.words)
        for row in (row for table in pages.content.tables for row in table.rows):
            assert row.name in words and all(cell in words for cell in row.cells)
        for text in (*pages.content.findings, *pages.content.left_out, *pages.content.notes, pages.content.note):
            assert text in words
        assert page.loads == [] and b"url(" not in pages.html and "width=device-width" in pages.html.decode()
        assert "Grünwald, Änne (山田, 太郎)" in words

    def test_an_anonymous_report_tells_nobody(self, beat, study):
        pages = make_pages(beat, study, anonymous=True)
        everything = (
            pdf_text(pages.pdf) + pages.html.decode() + repr(pypdfium2.PdfDocument(pages.pdf).get_metadata_dict())
        )
        for secret in ("Grünwald", "山田", "SECRET-4711", "1964", "2024", "ACC-99", "secret-name"):
            assert secret not in everything, secret
        assert "60 years" in everything and "180 cm" in everything

    def test_what_html_means_is_escaped(self, beat, study):
        named = [replace(p, volume=replace(p.volume, dicom=DicomSource((header("<b>&^x"),) * 9))) for p in beat]
        pages = make_pages(named, study)
        assert b"&lt;b&gt;&amp;" in pages.html and "<b>&, x" in pdf_text(pages.pdf)

    def test_pictures(self, pages):
        with Image.open(io.BytesIO(pages.key_picture)) as key, Image.open(io.BytesIO(pages.thumbnail)) as small:
            assert key.width > 400 and small.width <= 300 and small.height <= 200

    def test_findings_that_fill_pages(self, beat, study):
        many = [replace(beat[0], findings=tuple(Finding(f"Something {n} " * 12) for n in range(120))), *beat[1:]]
        document = pypdfium2.PdfDocument(make_pages(many, study).pdf)
        assert len(document) > 1
        assert all("Research tool" in page.get_textpage().get_text_range() for page in document)


class TestFigures:
    def test_svg_for_the_panel(self, beat, study):
        for picture in (key_slices(beat, study, "svg"), volume_curve(study, curve_colors(beat[0]), "svg")):
            assert picture.data.lstrip().startswith(b"<?xml") and picture.text
        eyes = bulls_eyes(study.walls, "svg")
        assert len(eyes) == 3 and all("segment 16" in eye.text for eye in eyes)

    def test_a_bulls_eye_of_walls_without_names_says_none(self, beat):
        unknown = [replace(phase, volume=replace(phase.volume, dicom=None)) for phase in beat]
        walls = measure_study(unknown).walls
        assert not walls.named and "segment 1 " not in bulls_eyes(walls)[0].text

    def test_outlines_and_sectors_are_drawn(self, beat, study):
        """The colours of all three segments are in the key slices, and many shades in a bull's-eye."""
        with Image.open(io.BytesIO(key_slices(beat, study).data)) as image:
            pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
        for segment in beat[0].task.segments:
            assert (np.abs(pixels - segment.color).max(axis=1) < 60).sum() > 200, segment.name
        with Image.open(io.BytesIO(bulls_eyes(study.walls)[2].data)) as image:
            assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 20


class TestFonts:
    def test_letters_of_many_scripts_have_a_font(self):
        register_fonts()
        text = "Müller Άννα Ивáн שלום محمد Հայ ქარ"
        assert marked_up(text) == as_read(text)
        for text in ("山田 太郎", "홍길동", "ひらがな"):
            assert "<font name=" in marked_up(text)
        assert marked_up("<&>") == "&lt;&amp;&gt;"

    def test_a_letter_that_no_font_has_is_told_by_its_number(self, monkeypatch):
        from dinsegment.report import fonts

        monkeypatch.setattr(fonts, "_fonts_of_this_computer", lambda: ())
        fonts._font_for.cache_clear()
        assert marked_up("\U00012000") == "U+12000 "
        fonts._font_for.cache_clear()

    def test_it_is_embedded(self, pages):
        assert REGULAR.encode() in pages.pdf and b"/FontFile2" in pages.pdf


def test_a_measurement_with_a_remark_is_a_finding():
    labels = np.zeros((64, 90, 90), np.uint8)
    z, y, x = np.meshgrid(*(np.arange(n) - n / 2 for n in labels.shape), indexing="ij")
    labels[(np.hypot(y * 1.6, x * 1.6) < 19) & (np.abs(z) < 28)] = 1
    labels[(np.hypot(y * 1.6, (x - 30) * 1.6) < 10) & (np.abs(z) < 28)] = 3
    grey = np.where(labels > 0, 45.0, -100.0).astype(np.float32)
    grey[:, :20] = -1000
    matrix = np.diag([1.6, 1.6, 3.0, 1.0])
    one = segmentation(labels, ijk_to_ras=matrix)
    one = replace(one, task=ABDOMEN, volume=replace(one.volume, array=grey, modality="CT"))
    study = measure_study([one])
    content = report_content([one], study)
    assert any("aneurysm" in text for text in content.findings) and "aneurysm" in content.tables[0].rows[0].remark
    assert any("ESVS 2019: A. Wanhainen" in note for note in content.notes)
    assert isinstance(study.measurements[0], Measurement)
    assert "aneurysm" in pdf_text(make_pages([one], study).pdf)


class TestScripts:
    """What is written from right to left, against what the Unicode algorithms give."""

    @pytest.mark.parametrize(
        ("text", "drawn"),
        [
            ("Doe, John", "Doe, John"),
            ("山田, 太郎", "山田, 太郎"),
            ("כהן, משה", "השמ ,ןהכ"),
            ("Cohen, Ada (כהן)", "Cohen, Ada (ןהכ)"),
            ("כהן (משה) 12", "12 (השמ) ןהכ"),
            ("Cohen (כהן) 12", "Cohen (ןהכ) 12"),
            ("محمد", "\ufeaa\ufee4\ufea4\ufee3"),
            ("لا", "\ufefb"),
            ("سلام", "\ufee1\ufefc\ufeb3"),
            ("گچ", "\ufb7b\ufb94"),
        ],
    )
    def test_as_it_is_drawn_from_left_to_right(self, text, drawn):
        assert as_read(text) == drawn

    def test_marks_stay_on_their_letters(self):
        assert as_read("אָב") == "באָ"
        assert as_read("بَيت") == "\ufe96\ufef4\ufe91\u064e"

    def test_a_name_in_a_pdf_is_drawn_so(self, beat, study):
        header_ = header("Cohen^Moshe=כהן^משה")
        phases = [replace(p, volume=replace(p.volume, dicom=DicomSource((header_,) * 9))) for p in beat]
        text = pdf_text(make_pages(phases, study).pdf)
        # What reads a PDF turns each word back: of one that is drawn the wrong way round it makes another.
        assert "כהן" in text and "משה" in text and "U+05" not in text
