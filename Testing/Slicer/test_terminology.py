"""The shipped terminology, read by Slicer's own logic."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import slicer

from dinsegment.tasks import ANATOMICAL_STRUCTURE, TASKS, TERMINOLOGY_CONTEXT, Code, get_task
from dinsegment_slicer.scene.terminology import aha_structures, terminology_context, terminology_file

FILE = Path(__file__).parents[2] / "DINSegment" / "Resources" / "Terminologies" / "DINSegment.term.json"

SEGMENTS = [*(segment for task in TASKS.values() for segment in task.segments), *aha_structures()]

NAMED = {(segment.type, segment.modifier): segment for segment in reversed(SEGMENTS)}.values()
"""What has the type of a segment before it goes by that one's name."""

every_name = pytest.mark.parametrize("segment", NAMED, ids=lambda segment: segment.name)
every_segment = pytest.mark.parametrize("segment", SEGMENTS, ids=lambda segment: segment.name)


@pytest.fixture
def logic():
    logic = slicer.vtkSlicerTerminologiesModuleLogic()
    assert logic.LoadTerminologyFromFile(str(FILE)) == TERMINOLOGY_CONTEXT
    return logic


def coded(entry):
    return Code(entry.GetCodingSchemeDesignator(), entry.GetCodeValue(), entry.GetCodeMeaning())


def test_the_file_is_made_from_the_tasks_and_the_aha_segments():
    assert FILE.read_text(encoding="utf-8") == terminology_file()


def test_an_infarct_has_a_category_of_its_own_in_which_slicer_asks_where(tmp_path):
    infarct = get_task("infarct").segments
    path = tmp_path / "own.term.json"
    path.write_text(json.dumps(terminology_context(infarct)), encoding="utf-8")
    logic = slicer.vtkSlicerTerminologiesModuleLogic()
    assert logic.LoadTerminologyFromFile(str(path)) == TERMINOLOGY_CONTEXT
    assert logic.GetNumberOfCategoriesInTerminology(TERMINOLOGY_CONTEXT) == 2
    for segment in infarct:
        entry = slicer.vtkSlicerTerminologyEntry()
        assert logic.DeserializeTerminologyEntry(segment.terminology, entry)
        assert logic.UpdateEntryFromLoadedTerminologies(entry, (), ())
        assert (coded(entry.GetCategoryObject()), coded(entry.GetTypeObject())) == (segment.category, segment.type)
        assert tuple(entry.GetTypeObject().GetRecommendedDisplayRGBValue()) == segment.color
        assert entry.GetCategoryObject().GetShowAnatomy() == (segment.category != ANATOMICAL_STRUCTURE)


def test_every_category_once_with_every_type_once(logic):
    expected = {}
    for segment in SEGMENTS:
        expected.setdefault(segment.category.value, set()).add(segment.type.value)
    assert logic.GetNumberOfCategoriesInTerminology(TERMINOLOGY_CONTEXT) == len(expected) == 2
    for number, (value, codes) in enumerate(expected.items()):
        category = slicer.vtkSlicerTerminologyCategory()
        assert logic.GetNthCategoryInTerminology(TERMINOLOGY_CONTEXT, number, category)
        assert category.GetCodeValue() == value
        assert logic.GetNumberOfTypesInTerminologyCategory(TERMINOLOGY_CONTEXT, category) == len(codes)


@every_segment
def test_slicer_finds_code_and_colour(logic, segment):
    entry = slicer.vtkSlicerTerminologyEntry()
    assert logic.DeserializeTerminologyEntry(segment.terminology, entry)
    # Fills in what the loaded terminologies know: the colour is in none of the entry's own text.
    assert logic.UpdateEntryFromLoadedTerminologies(entry, (), ())
    assert entry.GetTerminologyContextName() == TERMINOLOGY_CONTEXT
    assert coded(entry.GetTypeObject()) == segment.type
    colored = entry.GetTypeObject()
    if segment.modifier:
        colored = entry.GetTypeModifierObject()
        assert coded(colored) == segment.modifier
    assert tuple(colored.GetRecommendedDisplayRGBValue()) == segment.color


@every_name
def test_slicer_finds_the_segment_by_its_name(logic, segment):
    entry = slicer.vtkSlicerTerminologyEntry()
    assert logic.FindTypeInTerminologyBy3dSlicerLabel(TERMINOLOGY_CONTEXT, segment.name, entry)
    assert coded(entry.GetTypeObject()) == segment.type
    if segment.modifier:
        assert coded(entry.GetTypeModifierObject()) == segment.modifier
