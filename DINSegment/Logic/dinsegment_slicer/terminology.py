"""The terminology that Slicer loads, made from the tasks: one source for codes and colours.

    python -m dinsegment_slicer.terminology > DINSegment.term.json

writes the file that ships; a test compares the two.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from dinsegment.tasks import ANATOMICAL_STRUCTURE, TASKS, TERMINOLOGY_CONTEXT, Code, Segment

# Slicer compares this text to tell a terminology from other JSON; it does not fetch it.
SCHEMA = "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/segment-context-schema.json#"


def terminology_context(segments: Iterable[Segment]) -> dict[str, Any]:
    """What vtkSlicerTerminologiesModuleLogic.LoadTerminologyFromFile reads: each type once, with name and colour.

    Where a type has a modifier (left, right), name and colour are those of type and modifier together.
    """
    types: dict[tuple[str, str], dict[str, Any]] = {}
    for segment in segments:
        entry = types.setdefault((segment.type.scheme, segment.type.value), _code(segment.type))
        if segment.modifier is None:
            entry.update(_shown(segment))
        else:
            entry.setdefault("Modifier", []).append({**_code(segment.modifier), **_shown(segment)})
    category = {**_code(ANATOMICAL_STRUCTURE), "showAnatomy": False, "Type": list(types.values())}
    return {
        "SegmentationCategoryTypeContextName": TERMINOLOGY_CONTEXT,
        "@schema": SCHEMA,
        "SegmentationCodes": {"Category": [category]},
    }


def terminology_file() -> str:
    """Text of DINSegment.term.json."""
    segments = [segment for task in TASKS.values() for segment in task.segments]
    return json.dumps(terminology_context(segments), indent=2) + "\n"


def _shown(segment: Segment) -> dict[str, Any]:
    return {"3dSlicerLabel": segment.name, "recommendedDisplayRGBValue": list(segment.color)}


def _code(code: Code) -> dict[str, Any]:
    return {
        "CodeMeaning": code.meaning,
        "CodingSchemeDesignator": code.scheme,
        "CodeValue": code.value,
    }


if __name__ == "__main__":
    print(terminology_file(), end="")
