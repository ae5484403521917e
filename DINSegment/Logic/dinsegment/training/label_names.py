"""A data set's labels by name, and which label of the task each of them is.

Every description of a data set that is read here is JSON with the entry `labels`: those in `datasets/`, nnU-Net's
dataset.json, and a file of the user's own. It gives names by numbers, `{"1": "Spleen"}`, or, as nnU-Net version 2 does,
numbers by names, `{"Spleen": 1}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dinsegment.errors import InputError
from dinsegment.images.reading import check_there
from dinsegment.tasks import Segment, Task

DATASETS = Path(__file__).with_name("datasets")
"""Descriptions of public data sets: name, licence, citation, labels."""

LARGEST_LABEL = 65535


def read_description(path: Path) -> dict[str, Any]:
    """A data set's description.

    Raises:
        InputError: The file cannot be read or is no JSON object.
    """
    check_there(path)
    try:
        description = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' cannot be read as JSON: correct it or copy it again.") from error
    if not isinstance(description, dict):
        raise InputError(f"'{path}' is no JSON object: it has to describe a data set, with its 'labels'.")
    return description


def label_map(path: Path, task: Task) -> dict[int, int]:
    """The task's label for every label above 0 that the description names; 0 for what is none of the task's.

    A name fits a segment's name, abbreviation or, where that says all, coded meaning; upper and lower case, the order
    of words and what separates them do not matter: `kidney_left` is the left kidney. Several labels may be one segment.

    Raises:
        InputError: The description cannot be used, or names no label for a segment of the task.
    """
    names = _names(path)
    known = {key: segment.label for segment in task.segments for key in _keys(segment)}
    mapping = {label: known.get(_words(name), 0) for label, name in names.items()}
    missing = [f"{s.name} ({s.abbreviation})" for s in task.segments if s.label not in mapping.values()]
    if missing:
        raise InputError(
            f"'{path}' names no label for {', '.join(missing)} of the task '{task.name}'; it names "
            f"{', '.join(names.values()) or 'none'}: give a file with the task's names (--labels FILE), such as "
            f'{{"labels": {{"{task.segments[0].name}": {task.segments[0].label}, ...}}}}.'
        )
    return mapping


def _names(path: Path) -> dict[int, str]:
    labels = read_description(path).get("labels")
    if not isinstance(labels, Mapping):
        raise InputError(f"'{path}' has no 'labels': they are a JSON object like {{\"1\": \"Liver\"}}.")
    names: dict[int, str] = {}
    for key, value in labels.items():
        # Names by numbers, or numbers by names.
        number, name = (key, value) if isinstance(value, str) else (value, key)
        if isinstance(number, list):
            raise InputError(f"'{path}' has the region '{name}' made of several labels: give each label one name.")
        try:
            label = int(number)
        except (TypeError, ValueError):
            label = -1
        if not 0 <= label <= LARGEST_LABEL:
            raise InputError(f"'{path}' has '{number}' where a label has to be: labels are 0 to {LARGEST_LABEL}.")
        if name.casefold() == "ignore":
            raise InputError(f"'{path}' has a label for voxels to ignore, which training cannot: label them all.")
        if label in names:
            raise InputError(f"'{path}' gives the label {label} two names: give each label one name.")
        if label > 0:
            names[label] = name
    return names


def _keys(segment: Segment) -> list[frozenset[str]]:
    # "Kidney" does not say which one.
    meaning = [] if segment.modifier else [segment.type.meaning]
    return [_words(name) for name in (segment.name, segment.abbreviation, *meaning)]


def _words(name: str) -> frozenset[str]:
    return frozenset(re.split(r"[\W_]+", name.casefold().strip()))
