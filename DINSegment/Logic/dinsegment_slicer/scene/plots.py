"""What was measured of a cine -> a plot of the volumes over its phases, with end diastole and end systole marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import slicer
import vtk

from dinsegment.measurements.function import CardiacFunction
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.scene.changes import remove_node, restored_on_error
from dinsegment_slicer.scene.measure import MeasuredSegment
from dinsegment_slicer.scene.tables import update_table

SEGMENT_ATTRIBUTE = "DINSegment.SegmentID"
"""At a plot series: the ID of the segment whose volumes it draws."""

MARK_ATTRIBUTE = "DINSegment.Mark"
"""At a plot series: which phase it marks, `ED` or `ES`."""

MARK_COLORS = {"ED": (40, 40, 40), "ES": (120, 60, 220)}
"""Told apart from each other, from the white of a plot and from the segments of all tasks."""

RANGE_ATTRIBUTE = "DINSegment.VolumeRange"
"""At a chart: the range that the volume axis was given; where it has another one, the user chose that."""

ROOM_ABOVE = 1.05
"""The volume axis ends so much above the largest volume."""


def update_volume_plot(
    scene: slicer.vtkMRMLScene,
    name: str,
    phases: Sequence[Sequence[MeasuredSegment]],
    times_ms: Sequence[float] | None,
    function: CardiacFunction | None,
    chartNode: slicer.vtkMRMLPlotChartNode | None = None,
) -> slicer.vtkMRMLPlotChartNode:
    """Plots the volume of each segment over the phases, with end diastole and end systole marked.

    The volume axis begins at 0, so that the curves show how much a chamber empties.

    Args:
        scene: Where the chart, its series and their tables are.
        name: Title of the chart.
        phases: What `measure` said of each; a segment that a phase lacks has 0 ml there.
        times_ms: When each phase was taken; None numbers the phases from 1.
        function: Tells the phases to mark; None marks none.
        chartNode: A chart that this function made, perhaps loaded with its scene: it is updated, together with its
            series and tables. Series of the user's in it stay.

    Returns:
        The chart.
    """
    axis = _("Phase") if times_ms is None else _("Time (ms)")
    x = [float(v) for v in (range(1, len(phases) + 1) if times_ms is None else times_ms)]
    with restored_on_error(scene):
        if chartNode is None or chartNode.GetScene() is not scene:
            chartNode = scene.AddNewNodeByClass("vtkMRMLPlotChartNode", scene.GenerateUniqueName(name))
        with slicer.util.NodeModify(chartNode):
            chartNode.SetTitle(name)
            chartNode.SetXAxisTitle(axis)
            chartNode.SetYAxisTitle(_("Volume (ml)"))
            lines = _volume_lines(phases)
            _begin_at_zero(chartNode, max((ml for line in lines for ml in line.ml), default=0.0))
            _update_series(chartNode, SEGMENT_ATTRIBUTE, f"{name} volumes", axis, lines, x)
            marks = _marks(function, x) if function else []
            _update_series(chartNode, MARK_ATTRIBUTE, f"{name} ED and ES", axis, marks)
    return chartNode


def show_legend_beside(chart: vtk.vtkChartXY) -> None:
    """Puts the legend of a plot view to the right of its curves; MRML does not know where it is.

    Args:
        chart: `plotWidget.plotView().chart()` in the application.
    """
    legend = chart.GetLegend()
    legend.SetInline(False)
    legend.SetHorizontalAlignment(legend.RIGHT)
    legend.SetVerticalAlignment(legend.TOP)
    chart.RecalculateBounds()


@dataclass(frozen=True)
class _Line:
    """What a plot series draws; `x` only where it has points of its own."""

    key: str
    name: str
    color: tuple[int, int, int]
    ml: list[float]
    x: list[float] | None = None


def _volume_lines(phases: Sequence[Sequence[MeasuredSegment]]) -> list[_Line]:
    lines: dict[str, _Line] = {}
    for index, phase in enumerate(phases):
        for segment in phase:
            line = _Line(segment.id, segment.name, segment.color, [0.0] * len(phases))
            lines.setdefault(segment.id, line).ml[index] = segment.volume_ml
    return list(lines.values())


def _marks(function: CardiacFunction, x: list[float]) -> list[_Line]:
    return [
        _Line(key, name, MARK_COLORS[key], [ml], [x[phase]])
        for key, name, phase, ml in (
            ("ED", _("End diastole"), function.end_diastole, function.end_diastolic_volume_ml),
            ("ES", _("End systole"), function.end_systole, function.end_systolic_volume_ml),
        )
    ]


def _update_series(
    chartNode: slicer.vtkMRMLPlotChartNode,
    attribute: str,
    tableName: str,
    axis: str,
    lines: list[_Line],
    x: list[float] | None = None,
) -> None:
    """Makes the series of the chart that have `attribute` draw `lines`, from one table that they share.

    Args:
        chartNode: In a scene.
        attribute: What tells these series, by the key of their line, from others in the chart.
        tableName: Of a new table.
        axis: What the points are plotted over.
        lines: What to draw; none removes the series and their table.
        x: Where the points of all lines are on that axis; None where each line has its own.
    """
    scene = chartNode.GetScene()
    series = {node.GetAttribute(attribute): node for node in _series(chartNode) if node.GetAttribute(attribute)}
    tableNode = next((node.GetTableNode() for node in series.values() if node.GetTableNode()), None)
    for key in set(series) - {line.key for line in lines}:
        remove_node(series.pop(key))
    if not lines:
        if tableNode is not None:
            remove_node(tableNode)
        return

    # VTK reports an error when it draws a line of one point.
    lines = [replace(line, ml=_two(line.ml), x=line.x and _two(line.x)) for line in lines]
    columns = [] if x is None else [(axis, _two(x))]
    drawn = []
    for line in lines:
        xName = axis
        if x is None:
            xName = _unique(f"{line.name}, {axis}", columns)
            columns.append((xName, line.x))
        yName = _unique(f"{line.name} (ml)", columns)
        columns.append((yName, line.ml))
        drawn.append((line, xName, yName))
    tableNode = update_table(scene, tableName, columns, tableNode)
    for line, xName, yName in drawn:
        node = series.get(line.key) or _new_series(chartNode, attribute, line)
        with slicer.util.NodeModify(node):
            node.SetName(line.name)
            if attribute == SEGMENT_ATTRIBUTE:
                node.SetColor(*(channel / 255 for channel in line.color))
            node.SetXColumnName(xName)
            node.SetYColumnName(yName)
            node.SetAndObserveTableNodeID(tableNode.GetID())
        if not chartNode.HasPlotSeriesNodeID(node.GetID()):
            chartNode.AddAndObservePlotSeriesNodeID(node.GetID())


def _series(chartNode: slicer.vtkMRMLPlotChartNode) -> list[slicer.vtkMRMLPlotSeriesNode]:
    nodes = [chartNode.GetNthPlotSeriesNode(n) for n in range(chartNode.GetNumberOfPlotSeriesNodes())]
    return [node for node in nodes if node is not None]


def _new_series(chartNode: slicer.vtkMRMLPlotChartNode, attribute: str, line: _Line) -> slicer.vtkMRMLPlotSeriesNode:
    """Its style is set here, once, so that what the user makes of it stays."""
    node = chartNode.GetScene().AddNewNodeByClass("vtkMRMLPlotSeriesNode", line.name)
    node.SetAttribute(attribute, line.key)
    node.SetPlotType(node.PlotTypeScatter)
    if attribute == MARK_ATTRIBUTE:
        node.SetColor(*(channel / 255 for channel in line.color))
        node.SetLineStyle(node.LineStyleNone)
        node.SetMarkerSize(14)
        style = {"ED": node.MarkerStyleSquare, "ES": node.MarkerStyleDiamond}
        node.SetMarkerStyle(style[line.key])
    return node


def _two(values: list[float]) -> list[float]:
    """One value twice; more as they are."""
    return values * 2 if len(values) == 1 else values


def _begin_at_zero(chartNode: slicer.vtkMRMLPlotChartNode, largest: float) -> None:
    """Lets the volume axis reach from 0 beyond the largest volume, unless the user chose what it shows."""
    shown = "automatic" if chartNode.GetYAxisRangeAuto() else repr(chartNode.GetYAxisRange())
    if shown != (chartNode.GetAttribute(RANGE_ATTRIBUTE) or "automatic") or largest <= 0:
        return
    chartNode.SetYAxisRangeAuto(False)
    chartNode.SetYAxisRange(0.0, largest * ROOM_ABOVE)
    chartNode.SetAttribute(RANGE_ATTRIBUTE, repr(chartNode.GetYAxisRange()))


def _unique(name: str, columns: list[tuple[str, list[float]]]) -> str:
    """Segments may have equal names; columns may not, because series find them by name."""
    taken = {column for column, values in columns}
    return next(n for n in (name, *(f"{name} {k}" for k in range(2, len(taken) + 3))) if n not in taken)
