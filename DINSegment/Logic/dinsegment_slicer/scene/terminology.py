"""The terminology that Slicer loads, made from the tasks and the AHA segments, and the entries that segments carry.

    python -m dinsegment_slicer.scene.terminology > DINSegment.term.json

writes the file that ships; a test compares the two.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from dinsegment.measurements.walls import aha_segments
from dinsegment.tasks import ANATOMICAL_STRUCTURE, TASKS, TERMINOLOGY_CONTEXT, Code, Segment

# Slicer compares this text to tell a terminology from other JSON; it does not fetch it.
SCHEMA = "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/segment-context-schema.json#"


@dataclass(frozen=True)
class TerminologyEntry:
    """What Slicer knows a segment to be; None for what is not said."""

    category: Code | None
    type: Code | None
    modifier: Code | None
    region: Code | None
    region_modifier: Code | None


def read_entry(text: str | None) -> TerminologyEntry:
    """Reads the terminology tag of a segment.

    That is context~category~type~modifier~region context~region~modifier, where a code is scheme^value^meaning.
    """
    fields = (text or "").split("~")
    codes = [_read_code(fields[n]) if n < len(fields) else None for n in (1, 2, 3, 5, 6)]
    return TerminologyEntry(*codes)


def _read_code(text: str) -> Code | None:
    parts = text.split("^")
    return Code(*parts) if len(parts) == 3 and all(parts) else None


@cache
def aha_structures() -> tuple[Segment, ...]:
    """The sixteen AHA segments that short-axis slices show, as a segmentation has them."""
    return tuple(
        Segment(
            label=aha.number,
            name=aha.name,
            abbreviation=str(aha.number),
            type=aha.code,
            color=aha.color,
            recommended_color=aha.color,
        )
        for aha in aha_segments()
    )


def terminology_context(segments: Iterable[Segment]) -> dict[str, Any]:
    """What vtkSlicerTerminologiesModuleLogic.LoadTerminologyFromFile reads: each type once, with name and colour.

    Where a type has a modifier (left, right), name and colour are those of type and modifier together. Where something
    lies that is no anatomical structure itself, such as an infarct, Slicer asks for, too.
    """
    categories: dict[Code, dict[Code, dict[str, Any]]] = {ANATOMICAL_STRUCTURE: {}}
    for segment in segments:
        entry = categories.setdefault(segment.category, {}).setdefault(segment.type, _code(segment.type))
        if segment.modifier is None:
            for key, value in _shown(segment).items():
                entry.setdefault(key, value)  # Of two tasks with the same type, the first one's.
        else:
            entry.setdefault("Modifier", []).append({**_code(segment.modifier), **_shown(segment)})
    return {
        "SegmentationCategoryTypeContextName": TERMINOLOGY_CONTEXT,
        "@schema": SCHEMA,
        "SegmentationCodes": {
            "Category": [
                {**_code(one), "showAnatomy": one != ANATOMICAL_STRUCTURE, "Type": list(types.values())}
                for one, types in categories.items()
            ]
        },
    }


def terminology_file() -> str:
    """Text of DINSegment.term.json."""
    segments = [segment for task in TASKS.values() for segment in task.segments] + list(aha_structures())
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
