"""The part of the panel that shows a result: original and enhanced image side by side, and how its segments look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer

from dinsegment_slicer.logic import Result
from dinsegment_slicer.panel.result import Measurement, ResultNodes
from dinsegment_slicer.panel.section import Section
from dinsegment_slicer.panel.timers import later
from dinsegment_slicer.running.controller import Controller
from dinsegment_slicer.running.requests import Request
from dinsegment_slicer.running.states import State
from dinsegment_slicer.scene import layouts
from dinsegment_slicer.scene.annotations import SliceAnnotations
from dinsegment_slicer.scene.browsers import proxy_of
from dinsegment_slicer.scene.plots import show_legend_beside
from dinsegment_slicer.scene.reading import reading_of_task
from dinsegment_slicer.scene.segment_display import show_3d, show_colors, show_outline
from dinsegment_slicer.scene.views import SideBySide


class ViewsSection(Section):
    """Keeps the views in step with the result, and the segments with what is chosen of their looks.

    Args:
        ui: The panel's widgets by name.
        controller: A run that it goes on with has its views made meanwhile.
        isOpen: Says whether the panel is in view: the views are shown only then.
    """

    def __init__(self, ui: Any, controller: Controller, isOpen: Callable[[], bool]) -> None:
        super().__init__(ui)
        self._controller = controller
        self._isOpen = isOpen
        self._annotations = SliceAnnotations()
        self._views = SideBySide(slicer.mrmlScene, slicer.app.applicationLogic(), later, self._annotations.write)
        self._displayed: tuple[Any, ...] = ()
        self._viewed: tuple[Any, ...] = ()
        self._isPrepared = False
        controller.finished.connect(self._onFinished)

    @property
    def visible(self) -> bool:
        """The application's current layout is one of these views'."""
        return self._views.visible

    def update(self) -> None:
        """Shows the result as the parameter node says."""
        if self._parameters is not None:
            self._updateDisplay()
            self.show()

    def showState(self, controller: Controller) -> None:
        """Makes the views while a run goes on, which takes most of a second; never before the click."""
        if controller.state is State.RUNNING and not self._isPrepared:
            later(self._prepare)
        elif not controller.busy and self._isPrepared:  # It was cancelled, or failed: what was in view comes back.
            self._isPrepared = False
            self.show()

    def onMeasured(self, measurement: Measurement | None) -> None:
        """There may be a plot now."""
        if measurement is not None:
            self.show()

    def show(self) -> None:
        """Shows original and enhanced image, if there are and the user wants them; else the user's own layout."""
        p = self._parameters
        if p is None or not self._isOpen() or self._isPrepared:
            return
        result = ResultNodes(p)
        volumeNode, enhancedNode = result.shown()
        if not p.sideBySide or volumeNode is None or enhancedNode is None:
            self.hide()
            return
        plot = p.plotChartNode if p.showPlot else None
        segmentations = result.segmentations()
        nodes = (volumeNode, enhancedNode, plot, *segmentations)
        wanted = (p.threeD, *(node.GetID() if node is not None else None for node in nodes))
        if wanted != self._viewed or not self.visible:
            self._viewed = wanted
            plane = result.reading().plane
            self._views.show(volumeNode, enhancedNode, segmentations, plane=plane, threeD=p.threeD, plotChartNode=plot)
            if plot is not None:
                later(_place_legend)  # Once the view is there.

    def hide(self) -> None:
        """Gives the user's own layout back."""
        self._views.hide()

    def jumpTo(self, place: tuple[float, float, float]) -> None:
        """Shows the slices with that place (mm RAS)."""
        self._views.jumpTo(place)

    def currentSlice(self) -> int:
        """Which slice of the original image is in view; 0 without one."""
        result = ResultNodes(self._parameters)
        volumeNode, _enhancedNode = result.shown()
        return self._views.currentSlice(volumeNode, result.reading().plane) if volumeNode is not None else 0

    def close(self) -> None:
        """Takes the views away: the panel is closed."""
        self._views.close()
        self._annotations.close()

    def _onFinished(self, _request: Request, _result: Result) -> None:
        self._isPrepared = False

    def _prepare(self) -> None:
        request, p = self._controller.request, self._parameters
        if p is None or not p.sideBySide or self._isPrepared or not self._isOpen():
            return
        if self._controller.state is not State.RUNNING or not isinstance(request, Request):
            return
        isSequence = request.inputNode.IsA("vtkMRMLSequenceNode")
        volumeNode = proxy_of(request.inputNode) if isSequence else request.inputNode
        if volumeNode is None:  # A sequence that is not in view: its result will be.
            return
        plane = reading_of_task(request.task).plane
        self._isPrepared, self._viewed = True, ()
        self._views.prepare(volumeNode, plane=plane, threeD=p.threeD, plot=isSequence and p.showPlot)

    def _updateDisplay(self) -> None:
        p = self._parameters
        result = ResultNodes(p)
        nodes = result.segmentations()
        wanted = (*(node.GetID() for node in nodes), p.outline, p.threeD, p.showSecond, p.recommendedColors)
        if wanted == self._displayed:  # What the user changed elsewhere stays.
            return
        self._displayed = wanted
        for number, segmentationNode in enumerate(nodes):
            # Of two phases the one in view: the outlines of both would lie on each other.
            segmentationNode.GetDisplayNode().SetVisibility(number == int(p.showSecond) or len(nodes) == 1)
            show_outline(segmentationNode, p.outline)
            show_3d(segmentationNode, p.threeD)
        show_colors(result.allSegmentations(), "recommended" if p.recommendedColors else "distinct")


def _place_legend() -> None:
    """The legend stands beside the curves; the node of a plot has no say in that."""
    layoutManager = slicer.app.layoutManager()
    for n in range(layoutManager.plotViewCount):
        plotWidget = layoutManager.plotWidget(n)
        if plotWidget.mrmlPlotViewNode().GetLayoutName() == layouts.PLOT_VIEW:
            show_legend_beside(plotWidget.plotView().chart())
