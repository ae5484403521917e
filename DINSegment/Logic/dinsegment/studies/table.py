"""studies.csv: a row for each input of the last run."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from io import StringIO
from pathlib import Path
from typing import Any

from dinsegment.errors import printable
from dinsegment.files import atomic_path
from dinsegment.studies.study import StudyResult
from dinsegment.tasks import Task

TABLE = "studies.csv"


def number_columns(results: Iterable[StudyResult]) -> dict[str, str]:
    """The columns of studies.csv for all that was measured, by its key: names with units. Volumes have their own."""
    columns = {}
    for result in results:
        for one in result.measurements:
            if not one["key"].endswith("_volume"):
                columns.setdefault(one["key"], f"{one['name']} ({one['unit']})" if one["unit"] else one["name"])
    return columns


def interval_columns(results: Iterable[StudyResult]) -> dict[str, tuple[str, str]]:
    """Two for the interval of each number that has one, where samples were drawn, by its key: names with units."""
    columns: dict[str, tuple[str, str]] = {}
    for result in results:
        named = {one["key"]: one for one in result.measurements}
        for key in _intervals(result):
            name, unit = named[key]["name"], named[key]["unit"]
            columns.setdefault(key, (f"{name}, 90 % interval from ({unit})", f"{name}, 90 % interval to ({unit})"))
    return columns


def _intervals(result: StudyResult) -> dict[str, dict[str, Any]]:
    return {one["key"]: one for one in result.samples["intervals"]} if result.samples else {}


def table_header(task: Task) -> list[str]:
    """The columns of studies.csv that a screen has room for."""
    volumes = [f"{segment.name} (ml)" for segment in task.segments]
    function = ["Ejection fraction (%)", "No ejection fraction"] if task.chamber is not None else []
    return ["Input", "Folder", "Status", "Phases", *volumes, *function, "Seconds", "Warnings", "Message"]


def table_row(result: StudyResult, task: Task) -> list[str]:
    """A study as studies.csv has it; what is not known is empty."""
    volumes = result.volumes_ml
    row = [result.input, Path(result.folder).name, result.status, str(len(result.phases) or "")]
    row += [f"{volumes[s.name]:.2f}" if s.name in volumes else "" for s in task.segments]
    if task.chamber is not None:
        row.append(f"{result.function['ejection_fraction_percent']:.2f}" if result.function else "")
        row.append(result.no_function)
    row += [f"{result.seconds:.1f}", str(len(result.warnings)) if result.phases else "", result.message]
    return [printable(cell) for cell in row]


def write_table(results: Iterable[StudyResult], task: Task, path: Path) -> None:
    """Writes studies.csv, a row for each result, in the place of the one before.

    Raises:
        OutputError: It could not be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(table_bytes(results, task))


def table_bytes(results: Iterable[StudyResult], task: Task) -> bytes:
    """The content of studies.csv."""
    file = StringIO(newline="")
    writer = csv.writer(file)
    results = list(results)
    columns, intervals = number_columns(results), interval_columns(results)
    writer.writerow([*table_header(task), *columns.values(), *(name for both in intervals.values() for name in both)])
    for result in results:
        values = {one["key"]: one["value"] for one in result.measurements}
        numbers = ["" if values.get(key) is None else f"{values[key]:.3f}" for key in columns]
        drawn = _intervals(result)
        for key in intervals:
            numbers += [f"{drawn[key][end]:.3f}" if key in drawn else "" for end in ("low", "high")]
        writer.writerow([*table_row(result, task), *numbers])
    return file.getvalue().encode()
