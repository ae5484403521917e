"""Tasks: the labels mean what the data sets and DICOM say they mean."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from dinsegment.errors import InputError
from dinsegment.models.entries import read_entries
from dinsegment.resources import resource
from dinsegment.tasks import ABDOMEN, HEART, LEFT, RIGHT, TASKS, TASKS_VARIABLE, get_task, offered_task

every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
INFARCT = get_task("infarct")
with_infarct = {**TASKS, "infarct": INFARCT}
also_infarct = pytest.mark.parametrize("task", with_infarct.values(), ids=with_infarct)


def test_heart_labels_are_those_of_acdc_with_their_snomed_codes():
    assert [(s.label, s.abbreviation, s.type.value) for s in HEART.segments] == [
        (1, "RV", "53085002"),
        (2, "Myo", "74281007"),
        (3, "LV", "87878005"),
    ]
    assert HEART.modality == "MR" and HEART.classes == 4


def test_the_abdomen_has_eight_organs_with_their_snomed_codes():
    assert [(s.name, s.type.value, s.modifier and s.modifier.value) for s in ABDOMEN.segments] == [
        ("Aorta", "15825003", None),
        ("Gallbladder", "28231008", None),
        ("Left kidney", "64033007", "7771000"),
        ("Right kidney", "64033007", "24028007"),
        ("Liver", "10200004", None),
        ("Pancreas", "15776009", None),
        ("Spleen", "78961009", None),
        ("Stomach", "69695003", None),
    ]
    assert ABDOMEN.modality == "CT" and ABDOMEN.classes == 9
    assert ABDOMEN.chamber is None and ABDOMEN.muscle is None


@every_task
def test_labels_count_from_one_and_leave_zero_to_the_background(task):
    assert [s.label for s in task.segments] == list(range(1, len(task.segments) + 1))
    assert task.classes == len(task.segments) + 1


@every_task
def test_segments_can_be_told_apart(task):
    for values in zip(*((s.name, s.abbreviation, (s.type, s.modifier)) for s in task.segments), strict=True):
        assert len(set(values)) == len(values), values
    assert all(0 <= c <= 255 for s in task.segments for c in (*s.color, *s.recommended_color))


DICHROMACY = {
    # Machado, Oliveira, Fernandes: A physiologically-based model for simulation of color vision deficiency, IEEE TVCG
    # 15(6), 2009: severity 1.0, for linear red, green, blue.
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


def seen(colors, matrix):
    """CIELAB of 8-bit sRGB colours as somebody with that matrix sees them."""
    channels = np.array(colors) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.transpose(matrix), 0, 1)
    return rgb2lab(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))


def test_the_measure_of_colours_is_that_of_the_literature():
    # Sharma, Wu, Dalal: The CIEDE2000 color-difference formula, Color Res. Appl. 30(1), 2005, table 1.
    first = [(50, 2.6772, -79.7751), (50, 0, 0), (50, 2.5, 0), (60.2574, -34.0099, 36.2677)]
    second = [(50, 0, -82.7485), (50, -1, 2), (73, 25, -18), (60.4626, -34.1751, 39.4387)]
    expected = [2.0425, 2.3669, 27.1492, 1.2644]
    assert deltaE_ciede2000(np.array(first), np.array(second)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("vision", DICHROMACY)
@every_task
def test_colours_differ_from_each_other_and_from_mid_greys(task, vision):
    colors = seen([s.color for s in task.segments], DICHROMACY[vision])
    greys = seen([(grey,) * 3 for grey in range(64, 193)], DICHROMACY[vision])
    for n, color in enumerate(colors):
        others = np.vstack([np.delete(colors, n, axis=0), greys])
        assert deltaE_ciede2000(np.broadcast_to(color, others.shape), others).min() >= 10, task.segments[n].name


@every_task
def test_a_pair_is_the_left_and_the_right_one_of_an_organ(task):
    for pair in task.pairs:
        left, right = (task.segments[label - 1] for label in pair)
        assert left.type == right.type and (left.modifier, right.modifier) == (LEFT, RIGHT)
    paired = {label for pair in task.pairs for label in pair}
    assert paired == {s.label for s in task.segments if s.modifier in (LEFT, RIGHT)}


def test_a_heart_is_one_organ_and_only_hounsfield_units_have_a_fixed_window():
    assert HEART.one_organ and not ABDOMEN.one_organ
    assert HEART.grey_window is None
    low, high = ABDOMEN.grey_window
    assert -200 < low < -100 < 40 < high < 400  # soft tissue, fat and contrast medium lie between


@also_infarct
def test_codes_are_snomed_ct(task):
    for segment in task.segments:
        assert segment.type.scheme == "SCT" and segment.type.value.isdigit() and segment.type.meaning


def test_what_is_no_organ_is_said_to_be_altered():
    """CID 7150; what an infarct is, is of CID 7151 or, as that may be extended, of SNOMED CT."""
    codes = [(s.name, s.category.value, s.type.value, s.region and s.region.value) for s in INFARCT.segments]
    assert codes == [
        ("Left ventricle", "123037004", "87878005", None),
        ("Normal myocardium", "123037004", "74281007", "87878005"),
        ("Infarct", "49755003", "55641003", "74281007"),
        ("No-reflow", "49755003", "26036001", "74281007"),
    ]
    categories = {s.category.value for task in TASKS.values() if task.wall is None for s in task.segments}
    assert categories == {"123037004"}


def test_a_task_with_damage_is_offered_only_with_a_model_that_finds_it():
    for task in TASKS.values():
        if task.wall is not None:
            name = next(s.abbreviation for s in task.segments if s.label == task.wall.infarct)
            found = [e.scores.get("dice", {}).get(name, 0.0) for e in read_entries() if e.task == task.name]
            assert max(found, default=0.0) >= 0.5, f"{task.title} finds too little of the infarct to be offered."


def test_another_task_is_named_only_where_it_is_offered(tmp_path, monkeypatch):
    assert offered_task("late enhancement", HEART) == INFARCT
    assert offered_task("late enhancement", INFARCT) is None and offered_task("short-axis cine", HEART) is None
    text = (resource("Tasks") / "infarct.json").read_text(encoding="utf-8")
    text = text.replace('"name": "infarct"', '"name": "mine"').replace('"order": 3', '"order": 1')
    (tmp_path / "mine.json").write_text(text, encoding="utf-8")
    monkeypatch.setenv(TASKS_VARIABLE, str(tmp_path))
    assert (
        offered_task("late enhancement", HEART) == TASKS["mine"]
        and offered_task("late enhancement", TASKS["mine"]) == INFARCT
    )


@also_infarct
def test_terminology_entry_has_the_seven_fields_that_slicer_reads(task):
    for segment in task.segments:
        fields = segment.terminology.split("~")
        assert len(fields) == 7
        assert fields[1].split("^") == ["SCT", segment.category.value, segment.category.meaning]
        assert fields[2].split("^") == ["SCT", segment.type.value, segment.type.meaning]
        assert fields[3] == (f"SCT^{segment.modifier.value}^{segment.modifier.meaning}" if segment.modifier else "^^")
        assert fields[5] == (f"SCT^{segment.region.value}^{segment.region.meaning}" if segment.region else "^^")
        assert fields[6] == "^^"
        assert fields[4] == "Anatomic codes - DICOM master list"


def test_a_task_is_found_by_its_name():
    for name, task in TASKS.items():
        assert get_task(name) is task and task.name == name


def test_an_unknown_task_is_answered_with_the_known_ones():
    with pytest.raises(InputError, match=r"no task 'Heart'.*heart"):
        get_task("Heart")
