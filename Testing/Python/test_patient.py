"""What headers say of the patient, and what cannot be right stays empty."""

from __future__ import annotations

import pytest
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from dinsegment.dicom.read.patient import Patient, patient_of
from dinsegment.images import read_volumes


def header(**values: object) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"PatientSex": "F", "PatientSize": "1.68", "PatientWeight": "61.5"}, Patient("F", None, 1.68, 61.5)),
        ({"PatientSex": "O", "PatientSize": "168", "PatientWeight": "61500"}, Patient()),
        ({"PatientSize": "0", "PatientWeight": "0", "HeartRate": "0", "PatientAge": "000Y"}, Patient()),
        ({"PatientAge": "061Y"}, Patient(age_years=61)),
        ({"PatientAge": "018M"}, Patient(age_years=1.5)),
        ({"PatientAge": "999Y"}, Patient()),
        ({"PatientAge": "old"}, Patient()),
        ({"PatientBirthDate": "19500401", "StudyDate": "20110401", "PatientAge": "030Y"}, Patient(age_years=61)),
        ({"PatientBirthDate": "19000101", "StudyDate": "20240101", "PatientAge": "061Y"}, Patient(age_years=61)),
        ({"PatientBirthDate": "20300101", "StudyDate": "20240101"}, Patient()),
        ({"HeartRate": "80"}, Patient(heart_rate_bpm=80)),
        ({"HeartRate": "80", "NominalInterval": "1000"}, Patient(heart_rate_bpm=60)),
        ({"HeartRate": "80", "NominalInterval": "0"}, Patient(heart_rate_bpm=80)),
        ({"HeartRate": "700", "NominalInterval": "5"}, Patient()),
    ],
)
def test_values(values, expected):
    found = patient_of([header(**values)])
    for name in ("sex", "age_years", "height_m", "weight_kg", "heart_rate_bpm"):
        value = getattr(expected, name)
        assert getattr(found, name) == (value if value is None or name == "sex" else pytest.approx(value, rel=2e-3))


@pytest.mark.parametrize(
    ("size", "weight", "left", "wrong"),
    [
        ("168", "61.5", (None, 61.5), ("a height of 168 m",)),
        ("1,68", "61500", (None, None), ("a height of 1,68 m", "a weight of 61500 kg")),
        ("1.68", "1.68", (None, None), ("a height of 1.68 m", "a weight of 1.68 kg")),
        ("0", "0.0", (None, None), ()),
        ("0.5", "3.4", (0.5, 3.4), ()),
        ("", "", (None, None), ()),
    ],
)
def test_what_cannot_be_right_is_left_out_and_kept_in_words(size, weight, left, wrong):
    values = Dataset()
    for keyword, value in (("PatientSize", size), ("PatientWeight", weight)):  # as a file has them, unread
        tag = tag_for_keyword(keyword)
        values[tag] = RawDataElement(Tag(tag), "DS", len(value), value.encode(), 0, False, True)
    found = patient_of([values])
    assert (found.height_m, found.weight_kg) == left and found.wrong == wrong


def test_one_image_that_is_right_goes_before_one_that_is_not():
    found = patient_of([header(PatientSize="168"), header(PatientSize="1.68")])
    assert found.height_m == 1.68 and found.wrong == ()


def test_of_several_images_the_first_that_knows_and_the_median_beat():
    images = [header(HeartRate=rate) for rate in ("60", "62", "90")]
    images[1].PatientSex, images[2].PatientWeight = "M", "80"
    found = patient_of(images)
    assert (found.sex, found.weight_kg) == ("M", 80) and found.heart_rate_bpm == pytest.approx(62)


def test_the_interval_of_an_enhanced_image():
    image, shared, beat = Dataset(), Dataset(), Dataset()
    beat.RRIntervalTimeNominal = 750.0
    shared.CardiacSynchronizationSequence = [beat]
    image.SharedFunctionalGroupsSequence = [shared]
    assert patient_of([image]).heart_rate_bpm == pytest.approx(80)
    assert patient_of([Dataset()]) == Patient()


def test_a_cine_knows_its_times_and_its_beat(sunnybrook_folder):
    phases = read_volumes(sunnybrook_folder)
    times = [phase.time_ms for phase in phases]
    assert times == sorted(times) and times[0] == pytest.approx(19, abs=0.5) and times[-1] == pytest.approx(740, abs=2)
    assert phases[0].patient.heart_rate_bpm == pytest.approx(79, abs=0.5)
    assert phases[0].patient.sex is None and phases[0].patient.weight_kg is None
