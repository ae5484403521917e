"""Both ventricles, mass, output, indices, rates; and where they lie among published normal values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from wall_phantoms import cylinder, segmentation

from dinsegment.dicom.read.patient import Patient
from dinsegment.images.segmentation import OTHER_IMAGE, Finding
from dinsegment.measurements.body import body_surface_area
from dinsegment.measurements.function import Beat, Ventricle
from dinsegment.measurements.heart import heart_measurements
from dinsegment.measurements.measurement import Measurement, definitions
from dinsegment.measurements.normals import (
    WITHIN_SD,
    has_normal_values,
    normal_range,
    sources,
    why_no_normal_values,
    with_normal_values,
    with_remarks,
)
from dinsegment.measurements.rates import FEWEST_PHASES, rates_of, rates_or_reason, why_no_rates
from dinsegment.measurements.study import MeasureOptions, measure_study
from dinsegment.tasks import ABDOMEN, HEART

MAN = Patient("M", 60.0, 1.80, 80.0, 70.0)
LEFT = [150.0, 120.0, 70.0, 60.0, 90.0, 130.0]
RIGHT = [140.0, 125.0, 80.0, 74.0, 70.0, 120.0]
MUSCLE = [100.0, 101.0, 104.0, 106.0, 103.0, 101.0]


def measured(left=LEFT, right=RIGHT, muscle=MUSCLE, patient=MAN, **more) -> dict[str, Measurement]:
    beat = Beat(left, muscle)
    ventricle = None if right is None else Ventricle(right, name="right ventricle")
    return {m.key: m for m in heart_measurements(HEART, beat, ventricle, patient, **more)}


class TestVentricles:
    def test_each_has_its_own_end_systole_and_the_right_one_that_of_the_left_too(self):
        found = measured()
        expected = {
            "lv_edv": 150, "lv_esv": 60, "lv_sv": 90, "lv_ef": 60, "rv_edv": 140, "rv_esv": 70, "rv_sv": 70,
            "rv_ef": 50,
            "rv_esv_lv": 74, "rv_ef_lv": 100 * 66 / 140, "lv_mass_ed": 105, "lv_mass_es": 106 * 1.05,
        }  # fmt: skip
        assert {key: found[key].value for key in expected} == pytest.approx(expected)
        phases = {key: found[key].phases for key in ("lv_ef", "rv_ef", "rv_esv_lv")}
        assert phases == {"lv_ef": (0, 3), "rv_ef": (0, 4), "rv_esv_lv": (3,)}
        assert (
            found["lv_ef"].segments == (3,) and found["rv_ef"].segments == (1,) and found["lv_mass_ed"].segments == (2,)
        )

    def test_the_output_is_stroke_volume_times_heart_rate(self):
        assert measured()["cardiac_output"].value == pytest.approx(90 * 70 / 1000)
        without = measured(patient=replace(MAN, heart_rate_bpm=None))["cardiac_output"]
        assert without.value is None and without.reason == "The heart rate is not known."

    def test_indices(self):
        found = measured()
        surface = (180 * 80 / 3600) ** 0.5
        assert found["lv_edv_bsa"].value == pytest.approx(150 / surface)
        assert found["lv_edv_height"].value == pytest.approx(150 / 1.8)
        assert found["cardiac_output_bsa"].unit == "l/min/m²"
        assert (found["lv_mass_ed_bsa"].unit, found["rv_edv_height"].unit) == ("g/m²", "ml/m")
        assert "lv_ef_bsa" not in found
        dubois = measured(formula="dubois")["lv_edv_bsa"].value
        assert dubois == pytest.approx(150 / (0.007184 * 80**0.425 * 180**0.725))
        assert body_surface_area(1.80, 80.0) == pytest.approx(2.0)

    @pytest.mark.parametrize(
        ("patient", "missing"),
        [(replace(MAN, weight_kg=None), {"bsa"}), (replace(MAN, height_m=None), {"bsa", "height"})],
    )
    def test_no_index_without_the_size(self, patient, missing):
        found = measured(patient=patient)
        for index in ("bsa", "height"):
            one = found[f"lv_edv_{index}"]
            assert (one.value is None) == (index in missing) and bool(one.reason) == (index in missing)

    def test_a_ventricle_that_is_missing_says_so_and_the_other_is_measured(self):
        found = measured(right=[140.0, 0.0, 80.0, 74.0, 70.0, 120.0])
        assert found["rv_ef"].reason == found["rv_edv_bsa"].reason == ("No right ventricle was found in phase 2 of 6.")
        assert found["lv_ef"].value == pytest.approx(60)
        found = measured(left=[150.0, 0.0, 70.0, 60.0, 90.0, 130.0])
        assert found["lv_mass_ed"].value is None and "no left ventricle was found in phase 2" in found["lv_ef"].reason
        assert found["rv_ef"].value == pytest.approx(50)
        assert found["rv_ef_lv"].reason == "The left ventricle's end systole is not known."

    def test_few_phases_are_told_beside_the_ejection_fraction(self):
        """Which of few phases is end systole by chance: 4 points are missing at most of 6, and 1 of 10."""
        found = measured()
        assert "Of 6 phases end systole may lie between two" in found["lv_ef"].remark
        assert found["rv_ef"].remark and not found["lv_esv"].remark and not found["lv_esv_bsa"].remark
        kept = {m.key: m for m in with_remarks(list(found.values()), HEART)}
        assert kept["lv_ef"].remark == found["lv_ef"].remark
        many = measured(np.interp(np.arange(0, 5, 0.5), range(6), LEFT), None, [100.0] * 10)
        assert not many["lv_ef"].remark
        assert not measured(LEFT[::3], RIGHT[::3], MUSCLE[::3])["lv_ef"].remark

    def test_a_single_phase_has_no_function(self):
        assert measured([150.0], [140.0], [100.0]) == {}

    def test_a_task_without_a_right_ventricle(self):
        assert not any(key.startswith("rv") for key in measured(right=None))


class TestRates:
    def curve(self, phases: int, beat_ms: float = 900.0, noise: float = 0.0):
        """Four harmonics, whose steepest places are found on a fine grid."""
        rng = np.random.default_rng(2)
        t = 11.0 + beat_ms * np.arange(phases) / phases

        def volume(t):
            w = 2 * np.pi * t / beat_ms
            return 110 + 38 * np.cos(w) + 12 * np.cos(2 * w - 0.6) + 5 * np.cos(3 * w + 0.8) + 3 * np.sin(4 * w)

        fine = np.arange(0, beat_ms, 0.5)
        return t, volume(t) + noise * rng.standard_normal(phases), fine, volume(fine)

    @pytest.mark.parametrize("phases", [20, 25, 40])
    def test_of_a_curve_that_is_known(self, phases):
        t, v, fine, exact = self.curve(phases)
        slope = 1000 * np.gradient(exact, fine)
        rates = rates_of(t, v)
        assert rates.peak_ejection_ml_s == pytest.approx(-slope.min(), rel=0.01)
        assert rates.peak_filling_ml_s == pytest.approx(slope.max(), rel=0.01)
        ed, es = fine[exact.argmax()], fine[exact.argmin()]
        assert rates.time_to_peak_ejection_ms == pytest.approx((fine[slope.argmin()] - ed) % 900, abs=3)
        assert rates.time_to_peak_filling_ms == pytest.approx((fine[slope.argmax()] - es) % 900, abs=3)

    @pytest.mark.parametrize("begin", [0.0, 0.3, 0.7])
    def test_the_fewest_phases_are_enough_for_a_heart_that_moves_fast(self, begin):
        """A short filling wave, 92 ms wide at half of its height, diastasis, and an atrial wave."""
        fine = np.arange(0, 920.0, 0.25)

        def wave(center: float, width: float) -> np.ndarray:
            return np.exp(-(((fine - center) / width) ** 2))

        out, into = wave(170, 80), wave(470, 55) + 0.55 * wave(850, 35)
        flow = 95.0 * (into / into.sum() - out / out.sum()) / 0.25  # ml a millisecond
        t = 920.0 * (np.arange(FEWEST_PHASES) + begin) / FEWEST_PHASES
        rates = rates_of(t, np.interp(t, fine, 150 + 0.25 * np.cumsum(flow)))
        assert rates.peak_filling_ml_s == pytest.approx(1000 * flow.max(), rel=0.12)
        assert rates.peak_ejection_ml_s == pytest.approx(-1000 * flow.min(), rel=0.05)

    def test_noise_changes_them_little(self):
        t, v, fine, exact = self.curve(30, noise=2.0)
        slope = 1000 * np.gradient(exact, fine)
        rough = 1000 * np.gradient(v, t)
        assert rates_of(t, v).peak_filling_ml_s == pytest.approx(slope.max(), rel=0.15)
        assert abs(rough.max() - slope.max()) > 0  # without smoothing it is another number

    def test_the_beat_may_begin_anywhere(self):
        t, v, _, _ = self.curve(25)
        later = rates_of(t, np.roll(v, 7))
        assert later.peak_filling_ml_s == pytest.approx(rates_of(t, v).peak_filling_ml_s)

    def test_why_there_are_none(self):
        even = list(np.arange(20) * 40.0)
        assert why_no_rates(even) == why_no_rates(even, 75) == ""
        assert why_no_rates(None) == "The images do not say when their phases were taken."
        assert "17 phases are too few" in why_no_rates(even[:17]) and not why_no_rates(even[:18])
        assert "2 phases are too few" in why_no_rates([0.0, 320.0])
        assert "even intervals" in why_no_rates([*even[:10], *(t + 200 for t in even[10:])])
        assert why_no_rates(even, 50) == "The phases do not cover the whole beat."
        assert why_no_rates(even, 120) == "The phases span 800 ms, longer than a heartbeat at 120/min."

    def test_they_are_measured_where_the_times_are_known(self):
        t, v, _, _ = self.curve(24)
        found = measured(list(v), None, [100.0] * 24, rates=rates_or_reason(t, v))
        assert found["lv_peak_filling_rate"].value == pytest.approx(rates_of(t, v).peak_filling_ml_s)
        assert found["lv_peak_filling_rate"].unit == "ml/s"
        without = measured(list(v), None, [100.0] * 24)
        assert without["lv_time_to_peak_ejection"].reason == "The images do not say when their phases were taken."


class TestNormalValues:
    @pytest.mark.parametrize(
        ("kind", "index", "man", "woman"),
        [
            ("lv_edv", "", (166, 32), (124, 21)),
            ("lv_esv", "", (69, 16), (49, 11)),
            ("lv_sv", "", (96, 20), (75, 14)),
            ("lv_ef", "", (58, 5), (61, 5)),
            ("lv_mass_ed", "bsa", (53, 9), (42, 7)),
        ],
    )
    def test_they_are_those_of_the_table(self, kind, index, man, woman):
        """Petersen et al. 2017, table 12 and abstract: mean and standard deviation."""
        measurement = Measurement(kind, 1.0, index=index)
        assert has_normal_values(measurement)
        for sex, (mean, sd) in (("M", man), ("F", woman)):
            found = normal_range(measurement, replace(MAN, sex=sex))
            assert (found.mean, found.low, found.high) == pytest.approx(
                (mean, round(mean - WITHIN_SD * sd), round(mean + WITHIN_SD * sd))
            )
            assert "papillary" in found.source.convention.lower() and "45 to 74" in found.source.population

    def test_their_numbers_go_together(self):
        """Stroke volume and ejection fraction follow from the means, as far as rounding lets them."""
        for sex in "MF":
            who = replace(MAN, sex=sex)
            edv, esv, sv, ef = (
                normal_range(Measurement(kind, 1.0), who).mean for kind in ("lv_edv", "lv_esv", "lv_sv", "lv_ef")
            )
            assert edv - esv == pytest.approx(sv, abs=1.5) and 100 * sv / edv == pytest.approx(ef, abs=1)

    def test_the_place_in_the_range(self):
        """Of what is read: 58 - 1.96 * 5 = 48.2 is read as 48, and so is 47.9."""

        def place(value: float) -> str:
            (found,) = with_normal_values([Measurement("lv_ef", value)], MAN)
            assert found.to_dict()["normal"] == {
                "low": 48.0, "high": 68.0, "place": found.normal.place_of(found.read), "source": "Petersen 2017",
            }  # fmt: skip
            return found.normal.place_of(found.read)

        assert [place(v) for v in (30, 47.4, 47.9, 58)] == ["below", "below", "within", "within"]
        assert [place(v) for v in (68.4, 68.6, 90)] == ["within", "above", "above"]
        (missing,) = with_normal_values([Measurement("lv_ef", None, reason="No.")], MAN)
        assert missing.normal is None and missing.to_dict()["normal"] is None

    @pytest.mark.parametrize(
        ("patient", "why"),
        [
            (replace(MAN, sex=None), "the sex is not known"),
            (Patient(), "the sex and the age is not known"),
            (replace(MAN, age_years=44.9), "45 to 74 years"),
            (replace(MAN, age_years=75.0), "45 to 74 years"),
        ],
    )
    def test_none_for_this_patient(self, patient, why):
        assert normal_range(Measurement("lv_ef", 50.0), patient) is None
        assert why in why_no_normal_values(patient)

    def test_of_the_oldest_and_the_youngest(self):
        for age in (45.0, 74.9):
            assert normal_range(Measurement("lv_ef", 50.0), replace(MAN, age_years=age)) is not None
        assert why_no_normal_values(MAN) == ""

    def test_there_are_none_of_what_nobody_has_published_here(self):
        for kind in ("rv_ef", "wall_ed", "cardiac_output"):
            assert not has_normal_values(Measurement(kind, 1.0))
            assert normal_range(Measurement(kind, 1.0), MAN) is None
        assert normal_range(Measurement("lv_edv", 1.0, index="bsa"), MAN) is None

    def test_every_source_has_a_doi(self):
        assert all(source.doi.startswith("10.") and source.citation for source in sources().values())


class TestLimits:
    def remark(self, kind, value, label, contrast=False) -> str:
        (found,) = with_remarks([Measurement(kind, value, "Organ", segments=(label,))], ABDOMEN, contrast)
        return found.remark

    def test_an_aneurysm(self):
        assert (
            self.remark("diameter", 30.0, 1)
            == "30 mm and more: an aneurysm, where it is the abdominal aorta (ESVS 2019)."
        )
        assert self.remark("diameter", 29.6, 1)  # is read as 30 mm
        assert self.remark("diameter", 29.4, 1) == self.remark("diameter", 40.0, 3) == ""

    def test_an_enlarged_spleen(self):
        assert "enlarged spleen" in self.remark("height", 131.0, 7)
        assert self.remark("height", 130.4, 7) == self.remark("height", 180.0, 5) == ""

    @pytest.mark.parametrize("contrast", [True, None])
    def test_steatosis_is_told_of_images_without_contrast_agent_alone(self, contrast):
        assert "steatosis" in self.remark("hu_mean", 40.0, 5)
        assert "steatosis" in self.remark("hu_difference", -5.0, 5)
        assert self.remark("hu_mean", 48.0, 5) == self.remark("hu_difference", 1.0, 5) == ""
        assert self.remark("hu_mean", 40.0, 5, contrast) == self.remark("hu_difference", -5.0, 5, contrast) == ""


class TestStudy:
    def phases(self):
        ed, es = cylinder(22.0, 30.0), cylinder(16.0, 28.0)
        ed[[0, -1]], es[[0, -1]] = 0, 0
        return [segmentation(labels) for labels in (ed, es)]

    def test_all_of_it(self):
        study = measure_study(self.phases(), MeasureOptions(MAN, anterior=(20.0, 130.0, 0.0)))
        assert study.value("lv_ef") == pytest.approx(100 * (1 - (16 / 22) ** 2), abs=1.5)
        assert study.value("segment_10_mid_inferior_wall_ed") == pytest.approx(8, abs=0.4)
        assert study.function.ejection_fraction_percent == study.value("lv_ef")
        assert study.surface_m2 == pytest.approx(2.0) and study.no_function == ""
        keys = [m.key for m in study.measurements]
        assert len(keys) == len(set(keys))

    def test_the_user_goes_before_the_images(self):
        phases = self.phases()
        said = Patient(None, 50.0, 1.7, None, None)
        phases[0] = replace(phases[0], volume=replace(phases[0].volume, patient=MAN))
        assert measure_study(phases, MeasureOptions(said)).patient == Patient("M", 50.0, 1.7, 80.0, 70.0)
        assert measure_study(phases).patient == MAN

    def test_times_come_from_the_phases(self):
        phases = self.phases()
        assert measure_study(phases).times_ms is None
        timed = [
            replace(phase, volume=replace(phase.volume, time_ms=30.0 * n)) for n, phase in enumerate(phases, start=1)
        ]
        assert measure_study(timed).times_ms == (30.0, 60.0)

    def test_an_image_of_another_kind_has_no_numbers(self):
        finding = Finding("It is no heart.", kind=OTHER_IMAGE)
        phases = [replace(phase, findings=(finding,)) for phase in self.phases()]
        study = measure_study(phases, MeasureOptions(MAN))
        assert all(m.value is None for m in study.measurements)
        assert study.walls.reason and study.function is None

    def test_a_single_phase_has_the_volumes_of_its_segments(self):
        study = measure_study(self.phases()[:1])
        assert [m.key for m in study.measurements] == [
            "right_ventricle_volume", "left_ventricular_myocardium_volume", "left_ventricle_volume",
        ]  # fmt: skip


def test_every_definition_can_be_measured():
    for kind, definition in definitions().items():
        one = Measurement(kind, 1.0)
        assert one.name and one.key.startswith(kind) and definition.digits >= 0


def test_a_measurement_has_a_value_or_a_reason():
    with pytest.raises(ValueError, match="lv_ef"):
        Measurement("lv_ef", None)
    with pytest.raises(ValueError, match="lv_ef"):
        Measurement("lv_ef", 1.0, reason="None.")
