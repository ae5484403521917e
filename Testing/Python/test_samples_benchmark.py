"""How wide intervals are chosen to be, and how it is counted what samples find."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest

import samples
from dinsegment.images.samples import Samples
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.volume import Volume
from dinsegment.inference.draws import SampleOptions, Variations
from dinsegment.measurements.study import measure_study
from dinsegment.models.entries import ModelEntry, read_entries
from dinsegment.tasks import get_task
from model_entry import write_part
from samples import Value, auc, by_key, by_unit, chosen_scale, inside, left_out, scales_of


def value(patient, away, deviation=1.0, unit="ml", key="lv_edv"):
    return Value(patient, key, unit, 100.0, 100.0 + away, deviation)


def test_the_scale_is_the_conformal_quantile():
    assert chosen_scale(range(1, 20)) == 18  # rank ceil(0.9 * 20)
    assert chosen_scale(range(1, 10)) == 9
    assert chosen_scale([3.0, 1.0]) == 3.0  # too few: the largest


def test_a_new_patients_value_is_inside_with_the_wanted_probability():
    random = np.random.default_rng(0)
    hits = []
    for _ in range(2000):
        ratios = np.abs(random.standard_t(3, 30))  # whatever the distribution
        hits.append(ratios[-1] <= chosen_scale(ratios[:-1]))
    assert np.mean(hits) == pytest.approx(27 / 30, abs=0.02)


def test_a_value_with_no_spread_is_far_away_unless_it_is_right():
    assert value("a", 2.0, 4.0).ratio(0.0) == 0.5
    assert math.isinf(value("a", 2.0, 0.0).ratio(0.0)) and value("a", 0.0, 0.0).ratio(0.0) == 0.0
    assert value("a", 10.0, 4.0).ratio(3.0) == 2.0  # 3, 4, 5


def test_draws_that_agree_by_chance_do_not_widen_all_intervals():
    """One patient's draws hardly differ: without a floor the others' intervals would be a hundred times as wide."""
    values = [value(f"p{n}", 1 + 0.01 * n, 0.01 if n == 9 else 1.0) for n in range(10)]
    scales, floors = scales_of(values)
    assert floors == {"lv_edv": 1.0, "ml": 1.0} and scales["ml"] < 1.2


def test_units_are_looked_at_apart_and_nine_patients_are_needed():
    values = [value(f"p{n}", n) for n in range(10)] + [value(f"p{n}", 2 * n, unit="%", key="lv_ef") for n in range(8)]
    scales, floors = scales_of(values)
    assert floors == {"lv_edv": 1.0, "ml": 1.0} and scales["ml"] == pytest.approx(9 / math.sqrt(2), abs=0.01)
    assert inside(values, {"ml": 8.0}, {}) == [True] * 9 + [False]
    assert all(inside(values, scales, floors))
    # Without the patient that is farthest away the others reach as far as the second.
    assert [held for _, held, _ in left_out(values[:10], by_key)] == [True] * 9 + [False]


def test_a_number_that_is_measured_well_has_a_narrower_interval_of_its_own():
    values = [value(f"p{n}", 1 + n / 10) for n in range(20)] + [value(f"p{n}", 10 + n, key="rv_esv") for n in range(20)]
    scales, floors = scales_of(values)
    assert set(scales) == {"lv_edv", "rv_esv", "ml"} and scales["lv_edv"] < scales["ml"] / 3
    other = value("q", 5.0, key="rv_edv")  # nobody has looked at it: its unit's
    assert inside([other, value("q", 5.0), value("q", 5.0, key="rv_esv")], scales, floors) == [True, False, True]
    narrow, wide = (np.mean([w for v, _, w in left_out(values, by) if v.key == "lv_edv"]) for by in (by_key, by_unit))
    assert narrow < wide / 3
    assert all(held for _, held, _ in left_out(values, by_key)[:17])


def test_of_nine_patients_the_largest_is_taken():
    values = [value(f"p{n}", n) for n in range(9)]
    scales, floors = scales_of(values)
    assert floors["lv_edv"] == 1.0 and scales["lv_edv"] == pytest.approx(8 / math.sqrt(2), abs=0.01)
    assert chosen_scale(range(9)) == 8 and math.ceil(0.9 * (9 + 1)) == 9


def infarcted(labels):
    task = get_task("infarct")
    volume = Volume(labels.astype(np.float32), np.diag([2.0, 2.0, 8.0, 1.0]), "late")
    return Segmentation(volume, labels.astype(np.uint8), task, "m", volume, "cpu", 0.0)


def test_a_wall_that_the_image_cuts_counts_as_the_one_that_is_shown():
    labels = np.zeros((3, 24, 24), np.uint8)
    labels[:, 4:20, 4:20], labels[:, 8:16, 8:16] = 2, 1
    expert, found = labels.copy(), labels.copy()
    expert[:, 4:8, 4:20], found[:, 4:8, 4:12] = 3, 3
    assert measure_study([infarcted(expert)]).value("infarct_percent") is None
    ml = [8, 32, 32 / 3, 0.0]
    draws = Samples("m", np.array([ml, [8, 33, 9, 0], [8, 31, 11, 0.0]]), np.zeros(0), {"ml": 1.0, "%": 1.0})
    kept = samples._values("p", [replace(infarcted(found), samples=draws)], [infarcted(expert)])
    own = {one.key: one for one in kept}
    whole = (16 * 16 - 8 * 8) / 100
    assert own["infarct_percent"].measured == pytest.approx(4 * 8 / whole)
    assert own["infarct_percent"].expert == pytest.approx(4 * 16 / whole)
    percents = [100 * infarct / (muscle + infarct) for _, muscle, infarct, _ in draws.volumes_ml]
    assert own["infarct_percent"].deviation == pytest.approx(np.std(percents, ddof=1))


def test_the_area_under_the_curve_counts_pairs():
    score, wrong = np.array([0.1, 0.5, 0.5, 0.9, 0.2]), np.array([0, 1, 0, 1, 0], bool)
    pairs = [(a > b) + 0.5 * (a == b) for a in score[wrong] for b in score[~wrong]]
    assert auc(score, wrong) == pytest.approx(np.mean(pairs))


def test_what_is_chosen_stands_with_the_model_and_is_read(tmp_path):
    path, entry = tmp_path / "weights.json", read_entries()[0]
    others = {"models": [asdict(entry), {**asdict(entry), "name": "another"}]}
    path.write_text(json.dumps(others), encoding="utf-8")
    options = SampleOptions(Variations(shift_mm=1.5, dropout=0.2))
    chosen = {"scales": {"ml": 2.5, "%": 1.9}, "floors": {"ml": 0.4}, "made": {"chosen": "here"}}
    write_part(path, entry.name, "samples", {"variations": vars(options.variations), **chosen})
    first, second = (ModelEntry(**e) for e in json.loads(path.read_text(encoding="utf-8"))["models"])
    read = SampleOptions.from_dict(first.samples, "probabilities")
    assert read == replace(options, scales={"ml": 2.5, "%": 1.9}, floors={"ml": 0.4}, made={"chosen": "here"})
    assert second.samples == entry.samples
    with pytest.raises(SystemExit, match="no model 'none'"):
        write_part(path, "none", "samples", {})


def test_nothing_is_checked_that_was_not_chosen(monkeypatch):
    model = SimpleNamespace(name="m", samples=SampleOptions(Variations()))
    monkeypatch.setattr(samples, "load_model", lambda *_: model)
    monkeypatch.setattr("sys.argv", ["samples.py", "--data", "x", "y", "--check"])
    with pytest.raises(SystemExit, match="no scales that could be checked"):
        samples.main()
