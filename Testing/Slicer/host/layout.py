"""The layout manager: views as the scene's layout node asks for them, with real slice logics and no rendering."""

from __future__ import annotations

import slicer
import vtk
from PySide6.QtCore import Property, QObject, Qt, Signal
from PySide6.QtWidgets import QWidget

from host.mrml_widgets import Observations
from host.proxies import register_stand_in


class qMRMLSliceControllerWidget(QWidget):
    """The bar over a slice view.

    Its slider is connected queued, as in the application: what it had when it was made, 0, is set from the event loop,
    after whatever was done to the view in the event that made it.
    """

    _offset_changed = Signal(float)

    def __init__(self, logic: slicer.vtkMRMLSliceLogic, parent: QWidget) -> None:
        super().__init__(parent)
        self._logic = logic
        self._offset_changed.connect(self.setSliceOffsetValue, Qt.QueuedConnection)
        self._offset_changed.emit(0.0)

    def sliceLogic(self) -> slicer.vtkMRMLSliceLogic:
        return self._logic

    def mrmlSliceNode(self) -> slicer.vtkMRMLSliceNode:
        return self._logic.GetSliceNode()

    def mrmlSliceCompositeNode(self) -> slicer.vtkMRMLSliceCompositeNode:
        return self._logic.GetSliceCompositeNode()

    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()

    def setSliceOffsetValue(self, offset: float) -> None:
        self._logic.SetSliceOffset(offset)

    def setSliceLink(self, linked: bool) -> None:
        self.mrmlSliceCompositeNode().SetLinkedControl(linked)

    def setHotLinked(self, linked: bool) -> None:
        self.mrmlSliceCompositeNode().SetHotLinkedControl(linked)

    def setSliceVisible(self, visible: bool) -> None:
        self.mrmlSliceNode().SetSliceVisible(visible)


class RenderWindow:
    """What a view draws into: it has a renderer, as VTK's has, and needs no display."""

    def __init__(self) -> None:
        self._renderers = vtk.vtkRendererCollection()
        self._renderers.AddItem(vtk.vtkRenderer())

    def GetRenderers(self) -> vtk.vtkRendererCollection:
        return self._renderers


class qMRMLSliceView(QWidget):
    """Where a slice would be rendered: its window has a renderer, but is never drawn."""

    def __init__(self, logic: slicer.vtkMRMLSliceLogic, parent: QWidget) -> None:
        super().__init__(parent)
        self._logic = logic
        self._window = RenderWindow()

    def renderWindow(self) -> RenderWindow:
        return self._window

    def mrmlSliceNode(self) -> slicer.vtkMRMLSliceNode:
        return self._logic.GetSliceNode()

    def scheduleRender(self) -> None:
        """Nothing is rendered."""

    def forceRender(self) -> None:
        """Nothing is rendered."""


class qMRMLSliceWidget(QWidget):
    """A slice view with its bar."""

    def __init__(self, logic: slicer.vtkMRMLSliceLogic) -> None:
        super().__init__()
        self._logic = logic
        self._controller = qMRMLSliceControllerWidget(logic, self)
        self._view = qMRMLSliceView(logic, self)

    def sliceLogic(self) -> slicer.vtkMRMLSliceLogic:
        return self._logic

    def mrmlScene(self) -> slicer.vtkMRMLScene:
        return self._logic.GetMRMLScene()

    def mrmlSliceNode(self) -> slicer.vtkMRMLSliceNode:
        return self._logic.GetSliceNode()

    def mrmlSliceCompositeNode(self) -> slicer.vtkMRMLSliceCompositeNode:
        return self._logic.GetSliceCompositeNode()

    def sliceController(self) -> qMRMLSliceControllerWidget:
        return self._controller

    def sliceView(self) -> qMRMLSliceView:
        return self._view

    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()


class qSlicerLayoutManager(QObject):
    """Makes the views of the layout node's arrangement."""

    layoutChanged = Signal(int)

    def __init__(self, scene: slicer.vtkMRMLScene, application_logic: slicer.vtkMRMLApplicationLogic) -> None:
        super().__init__()
        self._application_logic = application_logic
        self._widgets: dict[str, qMRMLSliceWidget] = {}
        self._observations = Observations()
        self._arrangement = -1
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLScene(scene)
        self._slice_logics = vtk.vtkCollection()
        application_logic.SetSliceLogics(self._slice_logics)
        self._layout_node = self._logic.GetLayoutNode()
        self._observations.observe(self._layout_node, vtk.vtkCommand.ModifiedEvent, self._update)
        self._layout_node.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        self._update()

    def _update(self) -> None:
        views = self._logic.GetViewNodes()
        for index in range(views.GetNumberOfItems()):
            node = views.GetItemAsObject(index)
            if node.IsA("vtkMRMLSliceNode") and node.GetLayoutName() not in self._widgets:
                self._widgets[node.GetLayoutName()] = qMRMLSliceWidget(self._slice_logic(node))
        if self._arrangement != self._layout_node.GetViewArrangement():
            self._arrangement = self._layout_node.GetViewArrangement()
            self.layoutChanged.emit(self._arrangement)

    def _slice_logic(self, node: slicer.vtkMRMLSliceNode) -> slicer.vtkMRMLSliceLogic:
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(self._application_logic)
        logic.SetMRMLScene(node.GetScene())
        logic.SetSliceNode(node)
        self._slice_logics.AddItem(logic)
        return logic

    def close(self) -> None:
        self._observations.remove_all()
        for index in range(self._slice_logics.GetNumberOfItems()):
            self._slice_logics.GetItemAsObject(index).SetMRMLScene(None)
        self._logic.SetMRMLScene(None)
        for widget in self._widgets.values():
            widget.deleteLater()

    def layoutLogic(self) -> slicer.vtkMRMLLayoutLogic:
        return self._logic

    def mrmlScene(self) -> slicer.vtkMRMLScene:
        return self._logic.GetMRMLScene()

    def mrmlSliceLogics(self) -> vtk.vtkCollection:
        return self._slice_logics

    def _shown(self) -> list[str]:
        views = self._logic.GetViewNodes()
        nodes = (views.GetItemAsObject(index) for index in range(views.GetNumberOfItems()))
        return [node.GetLayoutName() for node in nodes if node.IsA("vtkMRMLSliceNode")]

    def sliceViewNames(self) -> list[str]:
        """All views that were made so far, shown or not, as in the application."""
        return list(self._widgets)

    def sliceWidget(self, name: str) -> qMRMLSliceWidget | None:
        return self._widgets.get(name)

    def threeDWidget(self, index: int) -> None:
        """There are no 3D views here."""

    def resetSliceViews(self) -> None:
        self._application_logic.FitSliceToAll()

    def setLayout(self, layout: int) -> None:
        self._layout_node.SetViewArrangement(int(layout))

    def _layout(self) -> int:
        return self._layout_node.GetViewArrangement()

    layout = Property(int, _layout, setLayout)
    threeDViewCount = Property(int, lambda self: 0)
    tableViewCount = Property(int, lambda self: 0)
    plotViewCount = Property(int, lambda self: 0)


register_stand_in(qSlicerLayoutManager, "slicer.app.layoutManager()")
register_stand_in(qMRMLSliceWidget, "sliceWidget")
register_stand_in(qMRMLSliceControllerWidget, "sliceController")
register_stand_in(qMRMLSliceView, "slicer.qMRMLSliceView")
