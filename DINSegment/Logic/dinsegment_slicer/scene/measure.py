"""Segmentation nodes, as the user left them -> volumes in ml, heart function, a plot over the phases and a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import slicer
import vtk
from scipy import ndimage
from vtk.util.numpy_support import vtk_to_numpy

from dinsegment.errors import InputError
from dinsegment.measurements.function import Areas, Beat, CardiacFunction, segment_areas
from dinsegment.tasks import Code, Task
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.scene.changes import remove_node, restored_on_error
from dinsegment_slicer.scene.nodes import parent_to_world
from dinsegment_slicer.scene.terminology import read_entry

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


@dataclass(frozen=True)
class MeasuredSegment:
    """One segment as it now is.

    Attributes:
        id: Its ID in the segmentation.
        name: What the user reads, and may have changed.
        color: Red, green, blue in 0..255.
        volume_ml: Millilitres in the world; 0 for an empty segment.
        type: The anatomical structure by its terminology; None without one.
    """

    id: str
    name: str
    color: tuple[int, int, int]
    volume_ml: float
    type: Code | None = None


def measure(
    segmentationNode: slicer.vtkMRMLSegmentationNode, proxyNode: slicer.vtkMRMLSegmentationNode | None = None
) -> list[MeasuredSegment]:
    """The volume of every segment, in the order of the segments, also of empty ones and those that the user added.

    Labelmaps are counted on their own grids, with the linear parent transforms; a segment that exists only as closed
    surface has the volume that the surface encloses.

    Args:
        segmentationNode: What is measured.
        proxyNode: Where `segmentationNode` is a phase of a sequence, the node that shows it: its parent transforms
            are those of the phases.

    Raises:
        InputError: A parent transform is not linear, or a segment is neither labelmap nor closed surface.
    """
    ml = abs(np.linalg.det(parent_to_world(proxyNode or segmentationNode)[:3, :3])) / 1000
    segmentation = segmentationNode.GetSegmentation()
    counts: dict[slicer.vtkOrientedImageData, np.ndarray] = {}  # Segments share labelmaps: each is counted once.
    measured = []
    for n in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(n)
        measured.append(
            MeasuredSegment(
                id=segmentation.GetNthSegmentID(n),
                name=segment.GetName() or "",
                color=tuple(round(255 * channel) for channel in segment.GetColor()),
                volume_ml=float(ml * _cubic_millimetres(segmentationNode, segment, counts)),
                type=read_entry(segment.GetTerminology()).type,
            )
        )
    return measured


def measure_phases(
    segmentationNodes: Iterable[slicer.vtkMRMLSegmentationNode],
    proxyNode: slicer.vtkMRMLSegmentationNode | None = None,
) -> list[list[MeasuredSegment]]:
    """`measure` of each phase: of the data nodes of a sequence with their proxy, or of nodes of their own."""
    return [measure(node, proxyNode) for node in segmentationNodes]


def beat_of(
    task: Task,
    phases: Sequence[Sequence[MeasuredSegment]],
    segmentationNodes: Sequence[slicer.vtkMRMLSegmentationNode] = (),
    other_image: bool = False,
) -> Beat | None:
    """What the measured phases of one beat tell of the left ventricle.

    Chamber and muscle are found by what they are, the type in their terminology, else by the ID that the task's
    segments have when they are made; their names are the user's.

    Args:
        task: What was segmented.
        phases: What `measure` said of each.
        segmentationNodes: What was measured, to know where the image cuts the chamber.
        other_image: Whether the run said that the image is of another kind than the task's.

    Returns:
        None for a task in which nothing beats, and where chamber or muscle was removed from a phase.
    """
    if task.chamber is None or task.muscle is None:
        return None
    chamber = [_find(task, task.chamber, phase) for phase in phases]
    muscle = [_find(task, task.muscle, phase) for phase in phases]
    if None in chamber or None in muscle:
        return None
    areas = [
        _areas(node, segment.id) for node, segment in zip(segmentationNodes, chamber, strict=bool(segmentationNodes))
    ]
    return Beat([s.volume_ml for s in chamber], [s.volume_ml for s in muscle], areas, other_image)


def function_of(
    task: Task,
    phases: Sequence[Sequence[MeasuredSegment]],
    segmentationNodes: Sequence[slicer.vtkMRMLSegmentationNode] = (),
) -> CardiacFunction | None:
    """Function of the left ventricle; None for a single phase, where `beat_of` has none, or a reason against one."""
    beat = beat_of(task, phases, segmentationNodes)
    return beat.function if beat else None


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


def update_measurement_table(
    scene: slicer.vtkMRMLScene,
    name: str,
    phases: Sequence[Sequence[MeasuredSegment]],
    function: CardiacFunction | None,
    tableNode: slicer.vtkMRMLTableNode | None = None,
) -> slicer.vtkMRMLTableNode:
    """A table of what was measured, which is saved with the scene: the heart's function, then each segment per phase.

    Args:
        scene: Where the table is.
        name: Of a new table.
        phases: What `measure` said of each.
        function: From `function_of`.
        tableNode: A table that this function made: it gets the new content.

    Returns:
        The table, with columns for measurement, phase (from 1; empty where it is of the whole beat), value and unit.
    """
    rows = [*_function_rows(function), *_segment_rows(phases)]
    titles = (_("Measurement"), _("Phase"), _("Value"), _("Unit"))
    columns = list(zip(titles, zip(*rows, strict=True), strict=True)) if rows else [(title, ()) for title in titles]
    with restored_on_error(scene):
        return _update_table(scene, name, columns, tableNode)


def _cubic_millimetres(
    segmentationNode: slicer.vtkMRMLSegmentationNode,
    segment: slicer.vtkSegment,
    counts: dict[slicer.vtkOrientedImageData, np.ndarray],
) -> float:
    """In the coordinates of the segmentation; `counts` keeps the voxels per label of the labelmaps seen."""
    converter = slicer.vtkSegmentationConverter
    labelmap = segment.GetRepresentation(converter.GetSegmentationBinaryLabelmapRepresentationName())
    surfaceName = converter.GetSegmentationClosedSurfaceRepresentationName()
    surface = segment.GetRepresentation(surfaceName)
    # Where labelmaps are the source an empty one is an empty segment, though a surface may be left of what it was.
    of_surfaces = segmentationNode.GetSegmentation().GetSourceRepresentationName() == surfaceName
    if surface is not None and (labelmap is None or (of_surfaces and labelmap.IsEmpty())):
        return _enclosed_volume(surface)
    if labelmap is not None:
        if labelmap not in counts:
            counts[labelmap] = _voxels_per_label(labelmap)
        label = segment.GetLabelValue()
        return counts[labelmap][label] * _voxel_volume(labelmap) if label < len(counts[labelmap]) else 0.0
    contained: list[str] = []
    segment.GetContainedRepresentationNames(contained)
    if contained:
        raise InputError(
            _(
                "The segment '{segment}' of '{name}' is neither a label map nor a closed surface: convert it to a "
                "binary labelmap (module Segmentations) to measure it."
            ).format(segment=segment.GetName(), name=segmentationNode.GetName())
        )
    return 0.0


def _voxels_per_label(image: slicer.vtkOrientedImageData) -> np.ndarray:
    """Number of voxels with each label above 0, by the label."""
    scalars = image.GetPointData().GetScalars()
    if image.IsEmpty() or scalars is None:
        return np.zeros(1, np.intp)
    labels = vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1])
    if labels.dtype.kind not in "iu":
        labels = labels.astype(np.intp)
    # Only where a label is: all voxels together, for each label or as indices, take long of a large CT.
    boxes = ndimage.find_objects(labels)
    counts = [0 if box is None else int(np.count_nonzero(labels[box] == n)) for n, box in enumerate(boxes, start=1)]
    return np.array([0, *counts], np.intp)


def _areas(segmentationNode: slicer.vtkMRMLSegmentationNode, segment_id: str) -> Areas | None:
    """Cross-sections of a segment in the image that it was made from, as the node remembers that image's grid.

    None where they cannot be told: for a surface, and where label map and image have different grids.
    """
    segmentation = segmentationNode.GetSegmentation()
    converter = slicer.vtkSegmentationConverter
    segment = segmentation.GetSegment(segment_id)
    labelmap = segment.GetRepresentation(converter.GetSegmentationBinaryLabelmapRepresentationName())
    geometry = segmentation.GetConversionParameter(converter.GetReferenceImageGeometryParameterName())
    grid = slicer.vtkOrientedImageData()
    if labelmap is None or labelmap.IsEmpty() or not geometry:
        return None
    if not converter.DeserializeImageGeometry(geometry, grid, False):
        return None
    if not np.allclose(_matrix(labelmap), _matrix(grid), atol=1e-3):
        return None
    first, last = np.reshape(grid.GetExtent(), (3, 2)).T[:, ::-1]
    inside = np.zeros(last - first + 1, bool)
    begin, end = np.reshape(labelmap.GetExtent(), (3, 2)).T[:, ::-1]
    low, high = np.maximum(first, begin), np.minimum(last, end)
    if (low > high).any():
        return None
    labels = vtk_to_numpy(labelmap.GetPointData().GetScalars()).reshape(labelmap.GetDimensions()[::-1])
    there = tuple(slice(a, b + 1) for a, b in zip(low - begin, high - begin, strict=True))
    here = tuple(slice(a, b + 1) for a, b in zip(low - first, high - first, strict=True))
    inside[here] = labels[there] == segment.GetLabelValue()
    return segment_areas(inside, np.array(grid.GetSpacing()[::-1]))


def _matrix(image: slicer.vtkOrientedImageData) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def _voxel_volume(image: slicer.vtkOrientedImageData) -> float:
    return abs(float(np.linalg.det(_matrix(image)[:3, :3])))


def _enclosed_volume(surface: vtk.vtkPolyData) -> float:
    if surface.GetNumberOfCells() == 0:
        return 0.0
    triangles = vtk.vtkTriangleFilter()
    triangles.SetInputData(surface)
    triangles.PassLinesOff()
    triangles.PassVertsOff()
    properties = vtk.vtkMassProperties()
    properties.SetInputConnection(triangles.GetOutputPort())
    return properties.GetVolume()


def _find(task: Task, label: int, phase: Sequence[MeasuredSegment]) -> MeasuredSegment | None:
    """The segment of `phase` that is the task's one with that label."""
    wanted = next(segment for segment in task.segments if segment.label == label)
    code = (wanted.type.scheme, wanted.type.value)
    of_type = [s for s in phase if s.type is not None and (s.type.scheme, s.type.value) == code]
    # A user may have more than one of a type: the task's own is then the one that still has its ID.
    by_id = [s for s in of_type or phase if s.id == wanted.name]
    return next(iter(by_id + of_type), None)


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
    tableNode = _update_table(scene, tableName, columns, tableNode)
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


def _segment_rows(phases: Sequence[Sequence[MeasuredSegment]]) -> list[tuple[str, str, float, str]]:
    return [(s.name, str(number), s.volume_ml, "ml") for number, phase in enumerate(phases, start=1) for s in phase]


def _update_table(
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
