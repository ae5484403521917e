"""A real evaluation of the shipped model on phantom hearts, its numbers, its files and its page."""

from __future__ import annotations

import base64
import csv
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from matplotlib.image import imread
from phantom_cases import write_patients

from dinsegment.errors import OutputError
from dinsegment.images import read_volume
from dinsegment.inference import segment
from dinsegment.inference.model import load_model
from dinsegment.measurements.function import Beat
from dinsegment.tasks import ABDOMEN, HEART
from dinsegment.training.evaluation import (
    CaseScores,
    Evaluation,
    SegmentScores,
    evaluate,
    heart_functions,
)
from dinsegment.training.figures import picture_of
from dinsegment.training.metrics import dice, surface_distances
from dinsegment.training.report import PUBLISHED, write_evaluation

COMMAND = "dinsegment evaluate --data <phantoms> --split 'a & b.txt'"


@pytest.fixture(scope="module")
def model():
    return load_model(None, HEART)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """ED and ES of three phantom hearts on a grid that the shipped model can see them on."""
    data = tmp_path_factory.mktemp("data") / "phantoms"
    return write_patients(data, 3, slices=5, size=(96, 112), spacing=(16.0, 2.2, 2.0))


@pytest.fixture(scope="module")
def seen():
    """What an evaluation reports on its way."""
    return {"progress": [], "scores": []}


@pytest.fixture(scope="module")
def evaluation(model, cases, seen):
    return evaluate(
        model, HEART, cases, "cpu", lambda n, case: seen["progress"].append((n, case.name)), seen["scores"].append
    )


@pytest.fixture(scope="module")
def output(evaluation, tmp_path_factory):
    folder = tmp_path_factory.mktemp("OUT") / "new"
    write_evaluation(evaluation, folder, "split-phantoms.txt", COMMAND)
    return folder


@pytest.fixture(scope="module")
def metrics(output):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads((output / "metrics.json").read_text(encoding="utf-8"), parse_constant=refuse)


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def made_up(patient, phase, dices, model_ml=(100.0, 100.0, 100.0), expert_ml=(100.0, 100.0, 100.0), hd95=1.0):
    names = [s.abbreviation for s in HEART.segments]
    segments = {
        name: SegmentScores(d, math.nan if not (m and e) else hd95, math.nan if not (m and e) else hd95 / 2, m, e)
        for name, d, m, e in zip(names, dices, model_ml, expert_ml, strict=True)
    }
    return CaseScores(f"{patient}_{phase}", patient, phase, segments, 1.0, "cpu")


def of(*cases):
    return Evaluation(
        "mine", HEART, "somewhere", "2026-01-01T00:00:00+00:00", cases, tuple(heart_functions(cases, HEART)), ()
    )


# --- the numbers ----------------------------------------------------------------------------------


def test_a_case_has_the_scores_of_what_segment_gives(model, cases, evaluation):
    volume, truth = cases[1].read(HEART)
    result = segment(volume, HEART, model, "cpu")
    scores = evaluation.cases[1]
    assert (scores.case, scores.patient, scores.phase) == ("patient001_frame09", "patient001", "ES")
    assert list(scores.segments) == ["RV", "Myo", "LV"]
    for s in HEART.segments:
        found = scores.segments[s.abbreviation]
        assert found.dice == dice(result.labels, truth, s.label)
        assert (found.hd95_mm, found.asd_mm) == surface_distances(result.labels, truth, s.label, (16.0, 2.2, 2.0))
        assert found.model_ml == pytest.approx((result.labels == s.label).sum() * 16.0 * 2.2 * 2.0 / 1000, rel=1e-5)
        assert found.expert_ml == pytest.approx((truth == s.label).sum() * 16.0 * 2.2 * 2.0 / 1000, rel=1e-5)
    assert 0.6 < scores.dice < 1 and 0 < scores.segments["LV"].asd_mm < 10


def test_progress_and_scores_come_case_by_case(cases, evaluation, seen):
    assert seen["progress"] == [(n, c.name) for n, c in enumerate(cases)]
    assert seen["scores"] == list(evaluation.cases)


def test_means_are_over_cases_and_lie_in_their_intervals(evaluation, metrics):
    for key, attribute in (("dice", "dice"), ("hd95_mm", "hd95_mm"), ("asd_mm", "asd_mm")):
        assert list(metrics[key]) == ["mean", "RV", "Myo", "LV"]
        values = evaluation.values(attribute)
        assert metrics[key]["mean"] == pytest.approx(values.mean())
        assert metrics[key]["LV"] == pytest.approx(values[:, 2].mean())
        for name, (low, high) in metrics["intervals"][key].items():
            assert low < metrics[key][name] < high
    assert metrics["volume_mae_ml"]["RV"] == pytest.approx(np.abs(evaluation.values("difference_ml"))[:, 0].mean())
    assert metrics["phases"]["ED"]["LV"] == pytest.approx(evaluation.values("dice")[::2, 2].mean())
    assert metrics["dice"]["mean"] == pytest.approx(np.mean([metrics["phases"][p]["mean"] for p in ("ED", "ES")]))


def test_function_is_that_of_the_volumes(evaluation, metrics):
    assert [p.patient for p in evaluation.patients] == ["patient001", "patient002", "patient003"]
    errors = []
    for n, patient in enumerate(evaluation.patients):
        ed, es = evaluation.cases[2 * n].segments, evaluation.cases[2 * n + 1].segments
        for found, who in ((patient.model, "model_ml"), (patient.expert, "expert_ml")):
            chamber, muscle = ([getattr(c[s], who) for c in (ed, es)] for s in ("LV", "Myo"))
            assert found == Beat(chamber, muscle).function
        errors.append(abs(patient.model.ejection_fraction_percent - patient.expert.ejection_fraction_percent))
    assert metrics["ef_mae"] == metrics["function"]["ef"]["mae"] == pytest.approx(np.mean(errors))
    low, high = metrics["intervals"]["ef_mae"]
    assert min(errors) <= low <= metrics["ef_mae"] <= high <= max(errors) + 1e-9


def test_function_by_hand():
    found = of(
        made_up("a", "ED", (0.9,) * 3, (0, 110, 100), (0, 100, 100)),
        made_up("a", "ES", (0.9,) * 3, (0, 110, 40), (0, 100, 50)),
        made_up("b", "ED", (0.9,) * 3, (0, 100, 200), (0, 120, 200)),
        made_up("b", "ES", (0.9,) * 3, (0, 100, 110), (0, 120, 100)),
    ).summary()
    assert found["ef_mae"] == pytest.approx((10 + 5) / 2)
    assert found["function"]["ef"]["bias"] == pytest.approx((10 - 5) / 2)
    assert found["function"]["esv_ml"]["bias"] == pytest.approx(0)
    spread = 1.96 * np.std([-10, 10], ddof=1)
    assert found["function"]["esv_ml"]["upper_limit"] == pytest.approx(spread)
    assert found["mass_mae_g"] == pytest.approx(1.05 * (10 + 20) / 2)


def test_end_diastole_is_what_the_data_set_names_even_if_the_cavity_is_smaller_there():
    cases = (
        made_up("a", "ES", (0.9,) * 3, (0, 100, 120), (0, 100, 50)),
        made_up("a", "ED", (0.9,) * 3, (0, 90, 80), (0, 100, 100)),
    )
    model = heart_functions(cases, HEART)[0].model
    assert (model.end_diastolic_volume_ml, model.end_systolic_volume_ml) == (80, 120)
    assert model.ejection_fraction_percent == pytest.approx(-50)
    assert model.myocardial_mass_g == pytest.approx(90 * 1.05)


def test_function_needs_both_phases_and_a_task_that_beats():
    assert heart_functions([made_up("a", "ED", (1, 1, 1))], HEART) == []
    assert heart_functions([made_up("a", "", (1, 1, 1)), made_up("a", "", (1, 1, 1))], HEART) == []
    both = [made_up("a", "ED", (1, 1, 1)), made_up("a", "ES", (1, 1, 1))]
    assert len(heart_functions(both, HEART)) == 1 and heart_functions(both, ABDOMEN) == []
    assert of(both[0]).summary()["ef_mae"] is None


def test_what_is_missing_is_counted_and_in_no_mean_of_distances(tmp_path):
    incomplete = of(
        made_up("a", "ED", (0.0, 0.8, 0.9), (0, 100, 100), (50, 100, 100), hd95=2.0),
        made_up("a", "ES", (1.0, 0.8, 0.0), (0, 100, 0), (0, 100, 50), hd95=4.0),
        made_up("b", "ED", (0.6, 0.8, 0.0), (40, 100, 0), (50, 100, 100), hd95=6.0),
        made_up("b", "ES", (0.0, 0.8, 0.9), (40, 100, 50), (0, 100, 50), hd95=8.0),
    )
    found = incomplete.summary()
    assert found["empty"]["RV"] == {"only_model": 1, "only_expert": 1, "neither": 1}
    assert found["empty"]["LV"] == {"only_model": 0, "only_expert": 2, "neither": 0}
    assert found["hd95_mm"] == pytest.approx({"mean": (6 + 5 + 5) / 3, "RV": 6.0, "Myo": 5.0, "LV": 5.0})
    assert found["dice"]["RV"] == pytest.approx(0.4)
    assert found["function"]["ef"]["patients"] == 1 and found["function"]["ef"]["undefined"] == 1  # b has no cavity
    write_evaluation(incomplete, tmp_path, "split.txt", "command")
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["cases"][0]["hd95_mm"]["RV"] is None and metrics["patients"][1]["ef"]["model"] is None
    assert [r["hd95_mm"] for r in rows(tmp_path / "cases.csv") if r["segment"] == "RV"] == ["", "", "6.0", ""]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "RV: 1 cases in which only the expert has it, 1 in which only the" in page and "1 not defined" in page
    assert "nan" not in re.sub(r"base64,[^\"]+", "", page).lower()


def test_one_patient_has_no_intervals(evaluation, tmp_path):
    alone = replace(evaluation, cases=evaluation.cases[:2], patients=evaluation.patients[:1], worst=())
    write_evaluation(alone, tmp_path, "split.txt", "command")
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["intervals"]["dice"]["mean"] == [None, None]
    assert metrics["function"]["ef"]["lower_limit"] is None and metrics["ef_mae"] is not None


def test_no_case_is_no_evaluation(model):
    with pytest.raises(ValueError, match="no case"):
        evaluate(model, HEART, [], "cpu")


# --- the worst cases ------------------------------------------------------------------------------


def test_the_five_worst_cases_are_shown_worst_first(evaluation):
    by_dice = sorted(evaluation.cases, key=lambda c: c.dice)
    assert [p.case for p in evaluation.worst] == [c.case for c in by_dice[:5]]


def test_a_picture_holds_the_slices_that_differ_most_and_no_whole_volume(model, cases):
    volume, truth = cases[0].read(HEART)
    result = segment(volume, HEART, model, "cpu")
    wrong = truth.copy()
    for k, side in ((0, 2), (2, 30), (3, 20), (4, 25)):
        wrong[k] = result.labels[k]
        wrong[k, 30 : 30 + side, 40 : 40 + side] = (result.labels[k, 30 : 30 + side, 40 : 40 + side] + 1) % 4
    wrong[1] = result.labels[1]
    picture = picture_of("case", result, wrong)
    assert picture.slices == (3, 4, 5)
    assert picture.image.shape == picture.enhanced.shape == picture.truth.shape == picture.labels.shape
    assert picture.image.shape[1:] < volume.shape[1:] and picture.aspect == pytest.approx(2.2 / 2.0, rel=1e-5)
    counts = [(a != b).sum() for a, b in zip(picture.labels, picture.truth, strict=True)]
    assert counts == [30 * 30, 20 * 20, 25 * 25]
    assert all(np.array(a).base is None or a.base.size < volume.array.size for a in (picture.image, picture.labels))


# --- the files ------------------------------------------------------------------------------------


def test_metrics_say_what_was_evaluated(metrics):
    assert (metrics["model"], metrics["task"], metrics["data"]) == ("heart-din-small", "heart", "phantoms")
    assert (metrics["split"], metrics["command"], metrics["device"]) == ("split-phantoms.txt", COMMAND, "cpu")
    assert metrics["seconds_per_case"] > 0 and {"dinsegment", "torch", "monai"} <= set(metrics["versions"])
    assert len(metrics["cases"]) == 6 and len(metrics["patients"]) == 3


def test_the_table_of_cases_has_every_number_in_full(evaluation, output):
    found = rows(output / "cases.csv")
    assert len(found) == 6 * 3
    expected = [(c, name, s) for c in evaluation.cases for name, s in c.segments.items()]
    for row, (case, name, scores) in zip(found, expected, strict=True):
        assert (row["case"], row["patient"], row["phase"], row["segment"]) == (
            case.case, case.patient, case.phase, name,
        )  # fmt: skip
        for key in ("dice", "hd95_mm", "asd_mm", "model_ml", "expert_ml", "difference_ml"):
            assert float(row[key]) == getattr(scores, key)


def test_the_table_of_patients_has_every_number_in_full(evaluation, output):
    found = rows(output / "patients.csv")
    assert [row["patient"] for row in found] == ["patient001", "patient002", "patient003"]
    for row, patient in zip(found, evaluation.patients, strict=True):
        assert float(row["ef_model"]) == patient.model.ejection_fraction_percent
        assert float(row["mass_g_expert"]) == patient.expert.myocardial_mass_g
        assert float(row["sv_ml_difference"]) == patient.model.stroke_volume_ml - patient.expert.stroke_volume_ml


def test_equal_evaluations_give_equal_files(evaluation, output, tmp_path):
    write_evaluation(evaluation, tmp_path, "split-phantoms.txt", COMMAND)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "cases.csv", "dinsegment.json", "metrics.json", "patients.csv", "report.html"
    ]  # fmt: skip
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (output / path.name).read_bytes()


def test_what_cannot_be_written_leaves_nothing_behind(evaluation, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dinsegment.training.report.html_report", lambda *_: "")
    monkeypatch.setattr("dinsegment.training.report._write_patients", full)
    with pytest.raises(OutputError, match="no space left"):
        write_evaluation(evaluation, tmp_path / "new", "split.txt", COMMAND)
    assert not list(tmp_path.iterdir())


# --- the page -------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Tags that are left open, addresses of resources, and the text."""

    EMPTY = ("meta", "img", "source", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.tags, self.text = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for key, value in attrs if key in ("src", "srcset", "href", "data")]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def page(output):
    return Page((output / "report.html").read_text(encoding="utf-8"))


def test_the_page_needs_nothing_from_elsewhere(output, page):
    assert page.open == [] and not {"script", "link", "iframe"} & set(page.tags)
    assert page.addresses and all(a.startswith("data:image/png;base64,") for a in page.addresses)
    source = re.sub(r"base64,[^\"]+", "", (output / "report.html").read_text(encoding="utf-8"))
    assert not re.search(r"https?://|url\(|@import", source)
    assert "prefers-color-scheme: dark" in source


def test_its_pictures_are_whole_and_show_something(evaluation, page):
    pictures = [imread(BytesIO(base64.b64decode(a.partition(",")[2])), format="png") for a in page.addresses]
    assert len(pictures) == 2 * 2 + len(evaluation.worst)  # both plots for light and dark
    assert all(p.std() > 0.03 for p in pictures)
    dark, light = pictures[0], pictures[1]
    assert np.median(light) > 0.9 and np.median(dark[..., :3]) < 0.15
    for worst in pictures[4:]:  # the expert's and the model's outlines
        for color in ((64, 224, 208), (255, 176, 0)):
            assert (np.abs(worst[..., :3] * 255 - color).max(axis=-1) < 30).sum() > 20


def test_it_tells_the_numbers_the_published_ones_and_what_it_is_not(metrics, page):
    text = " ".join(page.text.split())
    for name, value in metrics["dice"].items():
        low, high = metrics["intervals"]["dice"][name]
        assert f"{value:.4f} ({low:.4f} to {high:.4f})" in text
        assert f"{PUBLISHED['heart']['dice'][name]:.4f}" in text
    for key in ("hd95_mm", "asd_mm"):
        assert all(f"{value:.2f}" in text for value in metrics[key].values())
    for values in metrics["function"].values():
        assert f"{values['mae']:.2f}" in text and f"{values['lower_limit']:.2f} to {values['upper_limit']:.2f}" in text
    assert all(case["case"] in text for case in metrics["cases"])
    assert "not a medical device" in text and "ACDC, 20 test patients" in text and metrics["date"] in text


def test_names_are_text_and_never_markup(evaluation, page, tmp_path, monkeypatch):
    assert COMMAND in page.text
    for picture in ("dice_png", "agreement_png", "picture_png"):
        monkeypatch.setattr(f"dinsegment.training.report.{picture}", lambda *_: b"")
    write_evaluation(replace(evaluation, data="<img src=x>"), tmp_path, "<b>.txt", COMMAND)
    again = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert again.tags == page.tags and "<img src=x>" in again.text


def test_the_published_figures_are_of_the_segments_that_the_tasks_have():
    for task in (HEART, ABDOMEN):
        dices = dict(PUBLISHED[task.name]["dice"])
        mean = dices.pop("mean")
        assert list(dices) == [s.abbreviation for s in task.segments]
        assert np.mean(list(dices.values())) == pytest.approx(mean, abs=2e-4)


def test_a_real_patient(acdc_folder, model):
    from dinsegment.training.cases import find_cases, read_split

    patient = read_split(acdc_folder / "split-val.txt")[1]
    cases = find_cases(acdc_folder, [patient], HEART)
    found = evaluate(model, HEART, cases, "cpu")
    assert {c.phase for c in found.cases} == {"ED", "ES"} and min(c.dice for c in found.cases) > 0.85
    assert read_volume(cases[0].image).spacing[0] > 4  # distances in mm of slices that far apart
    values = found.values("hd95_mm")
    assert values.min() > 1 and values.max() < 10
    assert abs(found.summary()["function"]["ef"]["bias"]) < 10
