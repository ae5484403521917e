"""A table node as text: for the clipboard, and as a file that spreadsheets open."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import slicer

from dinsegment.files import atomic_path


def table_text(tableNode: slicer.vtkMRMLTableNode, delimiter: str = "\t") -> str:
    """Headings and rows, a line each; tabs, as spreadsheets paste them, unless another delimiter is given."""
    table = tableNode.GetTable()
    columns = range(table.GetNumberOfColumns())
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow([table.GetColumnName(column) for column in columns])
    for row in range(table.GetNumberOfRows()):
        writer.writerow([table.GetValue(row, column).ToString() for column in columns])
    return text.getvalue()


def write_csv(tableNode: slicer.vtkMRMLTableNode, path: Path) -> None:
    """Writes a table as comma-separated values in UTF-8 with a byte order mark, which spreadsheets look for.

    Raises:
        OutputError: The file cannot be written; what was there is as it was.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(table_text(tableNode, ","), encoding="utf-8-sig")
