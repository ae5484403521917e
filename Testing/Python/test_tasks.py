"""Tasks: the labels mean what the data sets and DICOM say they mean."""

from __future__ import annotations

import pytest

from dinsegment.errors import InputError
from dinsegment.tasks import ABDOMEN, HEART, LEFT, RIGHT, TASKS, get_task

every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


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
    # A pair of organs has one colour, as everywhere in Slicer.
    assert len({s.color for s in task.segments}) == len({s.type for s in task.segments})
    assert all(0 <= c <= 255 for s in task.segments for c in s.color)


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


@every_task
def test_codes_are_snomed_ct(task):
    for segment in task.segments:
        assert segment.type.scheme == "SCT" and segment.type.value.isdigit() and segment.type.meaning


@every_task
def test_terminology_entry_has_the_seven_fields_that_slicer_reads(task):
    for segment in task.segments:
        fields = segment.terminology.split("~")
        assert len(fields) == 7
        assert fields[1].split("^") == ["SCT", "123037004", "Anatomical Structure"]
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
