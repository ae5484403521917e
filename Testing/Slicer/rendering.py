"""Slice and 3D views drawn off screen by Slicer's own displayable managers, as the application draws them."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from dinsegment_slicer.scene import layouts

if sys.platform == "linux" and not os.environ.get("DISPLAY"):
    # VTK would look for a screen first, and warn that there is none.
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")

SLICE_MANAGERS = ("vtkMRMLSegmentationsDisplayableManager2D", "vtkMRMLRulerDisplayableManager")
THREE_D_MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
)
BAR = 26
"""Height in pixels of the bar with its label on top of a view."""
GAP = 4
"""Pixels between views."""


def can_draw():
    """VTK finds OpenGL: a screen, or EGL without one. What it falls back to is seldom there, and crashes then."""
    return not vtk.vtkRenderWindow().IsA("vtkOSOpenGLRenderWindow")


class _View:
    """An off-screen window of `size` (width, height) pixels that shows a view node."""

    def __init__(self, applicationLogic, viewNode, managers, size, behind=()):
        self.viewNode = viewNode
        self.renderer = vtk.vtkRenderer()
        for prop in behind:  # Drawn first, so that what the managers draw blends with it.
            self.renderer.AddViewProp(prop)
        self.window = _window(self.renderer, size)
        self.interactor = vtk.vtkRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        self.group = slicer.vtkMRMLDisplayableManagerGroup()
        self.group.SetRenderer(self.renderer)
        for name in managers:
            manager = slicer.vtkMRMLDisplayableManagerGroup.InstantiateDisplayableManager(name)
            manager.UnRegister(None)
            manager.SetMRMLApplicationLogic(applicationLogic)
            self.group.AddDisplayableManager(manager)
        self.group.SetMRMLDisplayableNode(viewNode)

    def image(self):
        """What is seen: (rows, columns, RGB) uint8, first row on top."""
        return _grab(self.window)

    def close(self):
        """The managers go before what they draw into."""
        self.group.SetMRMLDisplayableNode(None)
        self.group = None
        self.renderer.RemoveAllViewProps()
        self.window.Finalize()


class SliceView(_View):
    """A slice view, with the slice logic that the application gives to its widget."""

    def __init__(self, applicationLogic, sliceNode, size, managers=SLICE_MANAGERS):
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(applicationLogic)
        self.logic.SetMRMLScene(sliceNode.GetScene())
        self.logic.SetSliceNode(sliceNode)
        applicationLogic.GetSliceLogics().AddItem(self.logic)
        self._sliceLogics = applicationLogic.GetSliceLogics()
        self._mapper = vtk.vtkImageMapper()  # The blended slice has colours already: 0 to 255 as they are.
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._mapper.SetInputConnection(self.logic.GetImageDataConnection())
        self._image = vtk.vtkActor2D()
        self._image.SetMapper(self._mapper)
        self._image.GetProperty().SetDisplayLocationToBackground()
        super().__init__(applicationLogic, sliceNode, managers, size, [self._image])
        self.resize(size)

    def resize(self, size):
        """Tells the slice node its size as the application's widget does."""
        self.window.SetSize(*size)
        self.logic.ResizeSliceNode(*size)

    def image(self):
        self._image.SetVisibility(self.logic.GetSliceCompositeNode().GetBackgroundVolumeID() is not None)
        self._mapper.SetInputConnection(self.logic.GetImageDataConnection())
        return super().image()

    def close(self):
        super().close()
        self._sliceLogics.RemoveItem(self.logic)
        self.logic.SetMRMLScene(None)


class ThreeDView(_View):
    """A 3D view."""

    def __init__(self, applicationLogic, viewNode, size, managers=THREE_D_MANAGERS):
        super().__init__(applicationLogic, viewNode, managers, size)

    def image(self):
        self.renderer.ResetCameraClippingRange()  # The window's interactor does it in the application.
        return super().image()


@contextmanager
def slice_views(sideBySide, applicationLogic, size):
    """Both slice views, original and enhanced, `size` pixels each."""
    scene = applicationLogic.GetMRMLScene()
    if applicationLogic.GetSliceLogics() is None:
        applicationLogic.SetSliceLogics(vtk.vtkCollection())
    assert sideBySide.visible
    views = []
    try:
        for tag in (layouts.ORIGINAL_VIEW, layouts.ENHANCED_VIEW):
            views.append(SliceView(applicationLogic, scene.GetSingletonNode(tag, "vtkMRMLSliceNode"), size))
        yield views
    finally:
        for view in views:
            view.close()


def render_side_by_side(sideBySide, applicationLogic, path, size):
    """Writes what `sideBySide` shows as a PNG of `size` (width, height) pixels: slice views, and 3D view if any.

    The views have their bars with label and colour; a plot view is drawn by Qt and left out. Returns the picture,
    (rows, columns, RGB) uint8.
    """
    scene = applicationLogic.GetMRMLScene()
    layout = scene.GetFirstNodeByClass("vtkMRMLLayoutNode").GetViewArrangement()
    threeD = layout in (layouts.WITH_3D, layouts.WITH_3D_AND_PLOT)
    columns = 3 if threeD else 2
    view_size = (size[0] - (columns - 1) * GAP) // columns, size[1] - BAR
    picture = np.zeros((size[1], size[0], 3), np.uint8)

    def paste(column, view):
        left = column * (view_size[0] + GAP)
        picture[:BAR, left : left + view_size[0]] = _bar(view.viewNode, view_size[0])
        picture[BAR:, left : left + view_size[0]] = view.image()

    with slice_views(sideBySide, applicationLogic, view_size) as views:
        for column, view in enumerate(views):
            paste(column, view)
    if threeD:
        view = ThreeDView(applicationLogic, scene.GetSingletonNode(layouts.THREE_D_VIEW, "vtkMRMLViewNode"), view_size)
        paste(2, view)
        view.close()
    write_png(path, picture)
    return picture


def write_png(path, picture):
    """(rows, columns, RGB) uint8, first row on top."""
    rows, columns, channels = picture.shape
    image = vtk.vtkImageData()
    image.SetDimensions(columns, rows, 1)
    flat = np.ascontiguousarray(picture[::-1]).reshape(-1, channels)
    image.GetPointData().SetScalars(numpy_to_vtk(flat, deep=True))
    writer = vtk.vtkPNGWriter()
    writer.SetFileName(str(Path(path)))
    writer.SetInputData(image)
    writer.Write()


def _bar(viewNode, width):
    """A view's label on its colour: (BAR, width, RGB)."""
    renderer = vtk.vtkRenderer()
    renderer.SetBackground(viewNode.GetLayoutColor())
    text = vtk.vtkTextActor()
    text.SetInput(viewNode.GetLayoutLabel())
    text.GetTextProperty().SetColor(0, 0, 0)
    text.GetTextProperty().SetFontSize(15)
    text.SetPosition(8, 7)
    renderer.AddViewProp(text)
    window = _window(renderer, (width, BAR))
    picture = _grab(window)
    window.Finalize()
    return picture


def _window(renderer, size):
    window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(True)
    window.SetSize(*size)
    window.AddRenderer(renderer)
    return window


def _grab(window):
    window.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    grab.Update()
    image = grab.GetOutput()
    columns, rows, _depth = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, -1)[::-1].copy()


class Plot:
    """A chart drawn as the application's plot view draws it."""

    def __init__(self, chartNode, size=(600, 300)):
        self.chart = vtk.vtkChartXY()
        self.chart.SetShowLegend(chartNode.GetLegendVisibility())
        self.chart.GetLegend().GetLabelProperties().SetFontSize(chartNode.GetLegendFontSize())
        for n in range(chartNode.GetNumberOfPlotSeriesNodes()):
            self._add(chartNode.GetNthPlotSeriesNode(n))
        if not chartNode.GetYAxisRangeAuto():
            axis = self.chart.GetAxis(vtk.vtkAxis.LEFT)
            axis.SetBehavior(vtk.vtkAxis.FIXED)
            axis.SetUnscaledRange(*chartNode.GetYAxisRange())
        self._view = vtk.vtkContextView()
        self._view.GetRenderWindow().SetOffScreenRendering(True)
        self._view.GetRenderWindow().SetSize(*size)
        self._view.GetScene().AddItem(self.chart)

    def _add(self, series):
        line = vtk.vtkPlotLine()
        line.SetInputData(series.GetTableNode().GetTable(), series.GetXColumnName(), series.GetYColumnName())
        line.SetColorF(*series.GetColor())
        line.GetPen().SetLineType(
            vtk.vtkPen.NO_PEN if series.GetLineStyle() == series.LineStyleNone else vtk.vtkPen.SOLID_LINE
        )
        line.SetLabel(series.GetName())
        self.chart.AddPlot(line)

    def image(self):
        """What is seen: (rows, columns, RGB) uint8, first row on top."""
        self._view.Render()
        return _grab(self._view.GetRenderWindow())

    def right_of_curves(self):
        """Where the axes end on the right, in pixels."""
        return self.chart.GetAxis(vtk.vtkAxis.BOTTOM).GetPoint2()[0]

    def left_of_legend(self):
        """Where the legend begins, in pixels."""
        return self.chart.GetLegend().GetBoundingRect(self._view.GetContext())[0]
