"""All numbers of a report as rows, and as a table node that follows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import slicer

from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.scene.changes import restored_on_error
from dinsegment_slicer.scene.tables import update_table


def report_rows(
    measurements: Sequence[Mapping[str, Any]],
    texts: Mapping[str, str],
    intervals: Mapping[str, Sequence[str]] | None = None,
) -> list[tuple[str, ...]]:
    """The heading and a row for each number, those that could not be measured with their reason.

    Args:
        measurements: As `dinsegment.measurements.measurement.Measurement.to_dict` has them.
        texts: The value of each key as it is read.
        intervals: Where the interval of a key begins and ends; with any there are two columns more.
    """
    heading = (_("Measurement"), _("Value"), _("Unit"), _("Normal from"), _("Normal to"), _("Place"), _("Note"))
    places = {"below": _("below"), "within": _("within"), "above": _("above")}
    rows = [heading]
    for one in measurements:
        normal = one["normal"] or {}
        ends = [f"{normal[end]:g}" if normal else "" for end in ("low", "high")]
        place = places[normal["place"]] if normal else ""
        rows.append((one["name"], texts[one["key"]], one["unit"], *ends, place, one["reason"] or one["remark"]))
    if intervals:
        found = [(_("90 % interval from"), _("90 % interval to"))]
        found += [tuple(intervals.get(one["key"], ("", ""))) for one in measurements]
        rows = [(*row[:3], *ends, *row[3:]) for row, ends in zip(rows, found, strict=True)]
    return rows


def update_report_table(
    scene: slicer.vtkMRMLScene,
    name: str,
    rows: Sequence[Sequence[str]],
    node: slicer.vtkMRMLTableNode | None = None,
) -> slicer.vtkMRMLTableNode:
    """A table node with these rows, the first of which are the headings.

    Args:
        scene: Where it is.
        name: Of a new node.
        rows: As `report_rows` gives them.
        node: One that this function made: it gets the new content.
    """
    columns = [(title, [row[n] for row in rows[1:]]) for n, title in enumerate(rows[0])]
    with restored_on_error(scene):
        return update_table(scene, name, columns, node)
