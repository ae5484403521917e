"""What was measured -> a table node, which is saved with the scene; and its text, for clipboard and spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import slicer
import vtk

from dinsegment.files import atomic_path
from dinsegment.measurements.function import CardiacFunction
from dinsegment.measurements.infarct import Damage
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.scene.changes import restored_on_error
from dinsegment_slicer.scene.measure import MeasuredSegment
from dinsegment_slicer.scene.sample_intervals import SampleIntervals


def update_table(
    scene: slicer.vtkMRMLScene,
    name: str,
    columns: Sequence[tuple[str, Sequence[float] | Sequence[str]]],
    tableNode: slicer.vtkMRMLTableNode | None,
) -> slicer.vtkMRMLTableNode:
    """Gives `tableNode`, or a new one, these columns; numbers where the first value is one."""
    if tableNode is None or tableNode.GetScene() is not scene:
        tableNode = scene.AddNewNodeByClass("vtkMRMLTableNode", scene.GenerateUniqueName(name))
    table = vtk.vtkTable()
    for title, values in columns:
        column = vtk.vtkStringArray() if values and isinstance(values[0], str) else vtk.vtkDoubleArray()
        column.SetName(title)
        for value in values:
            column.InsertNextValue(value)
        table.AddColumn(column)
    tableNode.SetUseColumnTitleAsColumnHeader(True)
    tableNode.SetLocked(True)  # Results are not typed in.
    tableNode.SetAndObserveTable(table)
    return tableNode


def update_measurement_table(
    scene: slicer.vtkMRMLScene,
    name: str,
    phases: Sequence[Sequence[MeasuredSegment]],
    function: CardiacFunction | None,
    tableNode: slicer.vtkMRMLTableNode | None = None,
    intervals: SampleIntervals | None = None,
    damage: Damage | None = None,
) -> slicer.vtkMRMLTableNode:
    """A table of what was measured, which is saved with the scene: the heart's function, then each segment per phase.

    Args:
        scene: Where the table is.
        name: Of a new table.
        phases: What `measure` said of each.
        function: From `function_of`.
        tableNode: A table that this function made: it gets the new content.
        intervals: How far the numbers can be trusted, where samples were drawn.
        damage: From `damage_of`.

    Returns:
        The table, with columns for measurement, phase (from 1; empty where it is of the whole beat), value and unit;
        with intervals two more, where they begin and end, as texts that are empty where there is none.
    """
    rows = [*_function_rows(function), *_damage_rows(damage), *_segment_rows(phases)]
    titles = (_("Measurement"), _("Phase"), _("Value"), _("Unit"))
    if intervals is not None and (intervals.numbers or intervals.volumes):
        keys = [("lv_edv", "lv_esv", "lv_sv", "lv_ef", "lv_mass_ed")[n] for n in range(len(_function_rows(function)))]
        keys += [] if damage is None else list(damage.percents)
        found = [intervals.numbers.get(key) for key in keys]
        found += [intervals.volumes.get((n, s.id)) for n, phase in enumerate(phases) for s in phase]
        ends = [("", "") if one is None else (f"{one.low:.3f}", f"{one.high:.3f}") for one in found]
        rows = [(*row, *both) for row, both in zip(rows, ends, strict=True)]
        titles = (*titles, _("90 % interval from"), _("90 % interval to"))
    columns = list(zip(titles, zip(*rows, strict=True), strict=True)) if rows else [(title, ()) for title in titles]
    with restored_on_error(scene):
        return update_table(scene, name, columns, tableNode)


def _function_rows(function: CardiacFunction | None) -> list[tuple[str, str, float, str]]:
    if function is None:
        return []
    ed, es = str(function.end_diastole + 1), str(function.end_systole + 1)
    return [
        (_("End-diastolic volume (EDV)"), ed, function.end_diastolic_volume_ml, "ml"),
        (_("End-systolic volume (ESV)"), es, function.end_systolic_volume_ml, "ml"),
        (_("Stroke volume (SV)"), "", function.stroke_volume_ml, "ml"),
        (_("Ejection fraction (EF)"), "", function.ejection_fraction_percent, "%"),
        (_("Myocardial mass"), ed, function.myocardial_mass_g, "g"),
    ]


def _damage_rows(damage: Damage | None) -> list[tuple[str, str, float, str]]:
    names = {"infarct_percent": _("Infarct size"), "no_reflow_percent": _("No-reflow")}
    return [] if damage is None else [(names[key], "1", percent, "%") for key, percent in damage.percents.items()]


def _segment_rows(phases: Sequence[Sequence[MeasuredSegment]]) -> list[tuple[str, str, float, str]]:
    return [(s.name, str(number), s.volume_ml, "ml") for number, phase in enumerate(phases, start=1) for s in phase]


def table_text(tableNode: slicer.vtkMRMLTableNode, delimiter: str = "\t") -> str:
    """Headings and rows, a line each; tabs, as spreadsheets paste them, unless another delimiter is given."""
    return rows_text(_rows_of(tableNode), delimiter)


def write_csv(tableNode: slicer.vtkMRMLTableNode, path: Path) -> None:
    """Writes a table as comma-separated values in UTF-8 with a byte order mark, which spreadsheets look for.

    Raises:
        OutputError: The file cannot be written; what was there is as it was.
    """
    write_rows(_rows_of(tableNode), path)


def rows_text(rows: Sequence[Sequence[str]], delimiter: str = "\t") -> str:
    """A line for each row, as `table_text` has them."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return text.getvalue()


def write_rows(rows: Sequence[Sequence[str]], path: Path) -> None:
    """Writes rows as `write_csv` does a table.

    Raises:
        OutputError: The file cannot be written; what was there is as it was.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(rows_text(rows, ","), encoding="utf-8-sig")


def _rows_of(tableNode: slicer.vtkMRMLTableNode) -> list[list[str]]:
    """Headings and rows."""
    table = tableNode.GetTable()
    columns = range(table.GetNumberOfColumns())
    rows = [[table.GetValue(row, column).ToString() for column in columns] for row in range(table.GetNumberOfRows())]
    return [[table.GetColumnName(column) for column in columns], *rows]
