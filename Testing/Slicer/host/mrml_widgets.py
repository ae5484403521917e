"""The application's MRML widgets that a panel uses, on the real scene: same properties, signals and behaviour."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import slicer
import vtk
from PySide6.QtCore import Property, QEvent, QObject, QSignalBlocker, Qt, Signal
from PySide6.QtGui import QColor, QIcon, QPixmap
from PySide6.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QHBoxLayout,
    QHeaderView,
    QInputDialog,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from host.proxies import record

SCENE_EVENTS = (
    slicer.vtkMRMLScene.NodeAddedEvent,
    slicer.vtkMRMLScene.NodeRemovedEvent,
    slicer.vtkMRMLScene.EndBatchProcessEvent,
    slicer.vtkMRMLScene.EndCloseEvent,
    slicer.vtkMRMLScene.EndImportEvent,
)


class Observations:
    """VTK observers of one owner; the host removes what is left when it closes.

    A widget that Python's garbage collector destroys must not be called back: it would be half gone.
    """

    _open: ClassVar[set[Observations]] = set()

    def __init__(self) -> None:
        self._entries: list[tuple[vtk.vtkObject, int]] = []

    def observe(self, subject: vtk.vtkObject, event: int | str, callback: Callable[[], None]) -> None:
        """Calls `callback` without arguments; what it raises is kept, as VTK would only print it."""

        def call(*_arguments: Any) -> None:
            try:
                callback()
            except Exception as error:
                record(error)

        self.keep(subject, event, call)

    def keep(self, subject: vtk.vtkObject, event: int | str, callback: Callable[..., None]) -> None:
        """Adds a callback that takes VTK's own arguments."""
        self._entries.append((subject, subject.AddObserver(event, callback)))
        self._open.add(self)

    def remove_all(self) -> None:
        for subject, observer in self._entries:
            subject.RemoveObserver(observer)
        self._entries = []
        self._open.discard(self)

    @classmethod
    def close(cls) -> None:
        """Removes all observers of all owners."""
        for observations in list(cls._open):
            observations.remove_all()


class qMRMLWidget(QWidget):
    """A widget that knows the scene and passes it on."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: slicer.vtkMRMLScene | None = None

    def mrmlScene(self) -> slicer.vtkMRMLScene | None:
        return self._scene

    def setMRMLScene(self, scene: slicer.vtkMRMLScene | None) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


class qMRMLSortFilterProxyModel(QObject):
    """What a node selector leaves out; of the application's, only that."""

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__()
        self._changed = changed
        self._hidden: tuple[str, ...] = ()

    def _set_hidden(self, node_ids: list[str]) -> None:
        if tuple(node_ids) != self._hidden:
            self._hidden = tuple(node_ids)
            self._changed()

    hiddenNodeIDs = Property("QVariant", lambda s: s._hidden, _set_hidden)


class qMRMLNodeComboBox(QWidget):
    """Chooses a node of the scene; follows nodes that are added, removed and renamed."""

    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)
    currentNodeRenamed = Signal(str)
    nodeActivated = Signal(object)
    nodeAboutToBeEdited = Signal(object)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeAboutToBeRemoved = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: slicer.vtkMRMLScene | None = None
        self._requested = ""  # What is to be chosen once there is a scene.
        self._node_types: list[str] = []
        self._flags = {
            "noneEnabled": False,
            "addEnabled": True,
            "removeEnabled": True,
            "editEnabled": False,
            "renameEnabled": False,
            "showHidden": False,
            "showChildNodeTypes": True,
            "selectNodeUponCreation": True,
        }
        self._texts = {"noneDisplay": "None", "baseName": ""}
        self._hidden_child_types: list[str] = []
        self._attributes: list[tuple[str, str, object]] = []
        self._model = qMRMLSortFilterProxyModel(self._rebuild)
        self._current = ""
        self._scene_observations = Observations()
        self._node_observations = Observations()
        self._combo_box = QComboBox(self)
        self._combo_box.setSizePolicy(QSizePolicy.Expanding, QSizePolicy.Fixed)
        self._combo_box.setMinimumContentsLength(8)
        self._combo_box.setSizeAdjustPolicy(QComboBox.AdjustToMinimumContentsLengthWithIcon)
        self._combo_box.activated.connect(self._activated)
        self._combo_box.currentIndexChanged.connect(self._index_changed)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo_box)
        self.setFocusProxy(self._combo_box)
        self.setSizePolicy(QSizePolicy.Preferred, QSizePolicy.Fixed)
        self.setEnabled(False)
        self._rebuild()

    # The scene

    def mrmlScene(self) -> slicer.vtkMRMLScene | None:
        return self._scene

    def setMRMLScene(self, scene: slicer.vtkMRMLScene | None) -> None:
        if scene is self._scene:
            return
        self._scene_observations.remove_all()
        self._scene = scene
        if scene:
            for event in SCENE_EVENTS:
                self._scene_observations.observe(scene, event, self._rebuild)
        self._rebuild()
        if scene and self._requested:
            self.setCurrentNodeID(self._requested)
            self._requested = ""
        self.setEnabled(scene is not None)

    def sortFilterProxyModel(self) -> qMRMLSortFilterProxyModel:
        return self._model

    def _accepts(self, node: slicer.vtkMRMLNode) -> bool:
        if node.GetID() in self._model.hiddenNodeIDs:
            return False
        if node.GetHideFromEditors() and not self._flags["showHidden"]:
            return False
        for node_type in self._node_types:
            if not (node.IsA(node_type) if self._flags["showChildNodeTypes"] else node.GetClassName() == node_type):
                continue
            if any(node.GetClassName() != node_type and node.IsA(child) for child in self._hidden_child_types):
                continue
            wanted = [(name, value) for of_type, name, value in self._attributes if of_type == node_type]
            if all(
                node.GetAttribute(name) is not None and value in (None, node.GetAttribute(name))
                for name, value in wanted
            ):
                return True
        return False

    def _nodes(self) -> list[slicer.vtkMRMLNode]:
        if not self._scene:
            return []
        # Of most types there are few nodes, and a scene has many: those of a type are found by VTK in a moment.
        nodes: list[slicer.vtkMRMLNode] = []
        for node_type in self._node_types:
            found = self._scene.GetNodesByClass(node_type)
            found.UnRegister(None)
            nodes += (found.GetItemAsObject(index) for index in range(found.GetNumberOfItems()))
        if len(self._node_types) > 1 and nodes:
            wanted = {node.GetID() for node in nodes}
            every = (self._scene.GetNthNode(index) for index in range(self._scene.GetNumberOfNodes()))
            nodes = [node for node in every if node.GetID() in wanted]
        return [node for node in nodes if self._accepts(node)]

    def _rebuild(self) -> None:
        """Lists the nodes anew; the chosen one stays, or its neighbour takes its place as in any combo box."""
        nodes = self._nodes()
        before = self._listed()
        ids = [node.GetID() for node in nodes]
        with QSignalBlocker(self._combo_box):
            self._combo_box.clear()
            self._combo_box.setPlaceholderText(f"Select a {self._label(self._node_types[:1])}")
            if self._flags["noneEnabled"]:
                self._combo_box.addItem(self._texts["noneDisplay"], "")
            for node in nodes:
                self._combo_box.addItem(node.GetName() or "", node.GetID())
            self._add_actions()
        self._node_observations.remove_all()
        for node in nodes:
            self._node_observations.observe(node, vtk.vtkCommand.ModifiedEvent, self._rename)
        for node in nodes:
            if before and node.GetID() not in before:
                self.nodeAdded.emit(node)
        if self._current in ids:
            self._choose(self._current)
        elif self._current:
            row = before.index(self._current) if self._current in before else 0
            self._choose(ids[min(row, len(ids) - 1)] if ids else "")
        elif ids and not self._flags["noneEnabled"] and not self._actions():
            self._choose(ids[0])
        else:
            self._choose("")

    def _listed(self) -> list[str]:
        data = (self._combo_box.itemData(row) for row in range(self._combo_box.count()))
        return [item for item in data if isinstance(item, str) and item]

    def _rename(self) -> None:
        nodes = {node.GetID(): node for node in self._nodes()}
        if list(nodes) != self._listed():  # One was hidden or shown, or got an attribute.
            self._rebuild()
            return
        for row in range(self._combo_box.count()):
            node = nodes.get(self._combo_box.itemData(row))
            if node and self._combo_box.itemText(row) != node.GetName():
                self._combo_box.setItemText(row, node.GetName() or "")

    # What the user can do besides choosing

    def _actions(self) -> list[tuple[str, str]]:
        label = self._label(self._node_types if len(self._node_types) == 1 else [])
        actions = []
        if self._flags["renameEnabled"]:
            actions.append((f"Rename current {label}", "rename"))
        if self._flags["editEnabled"]:
            actions.append((f"Edit current {label}", "edit"))
        if self._flags["addEnabled"]:
            actions += [
                (f"Create new {self._label([node_type])}", f"create/{node_type}") for node_type in self._node_types
            ]
        if self._flags["removeEnabled"]:
            actions.append((f"Delete current {label}", "delete"))
        return actions

    def _add_actions(self) -> None:
        actions = self._actions()
        if actions and self._scene:
            self._combo_box.insertSeparator(self._combo_box.count())
            for text, action in actions:
                self._combo_box.addItem(text, (action,))

    def _label(self, node_types: list[str]) -> str:
        name = self._scene.GetTypeDisplayNameByClassName(node_types[0]) if self._scene and node_types else ""
        return name or "node"

    def _activated(self, row: int) -> None:
        data = self._combo_box.itemData(row)
        if isinstance(data, str):
            self.nodeActivated.emit(self.currentNode())

    def _index_changed(self, row: int) -> None:
        data = self._combo_box.itemData(row)
        if isinstance(data, str):
            self._choose(data)
        elif data is None:
            self._choose("")
        else:
            self._choose(self._current)  # An action is no choice.
            self._act(data[0])

    def _act(self, action: str) -> None:
        if action.startswith("create/"):
            self.addNode(action.removeprefix("create/"))
        elif action == "delete":
            self.removeCurrentNode()
        elif action == "rename":
            self.renameCurrentNode()
        else:
            self.editCurrentNode()

    def addNode(self, nodeType: str | None = None) -> slicer.vtkMRMLNode | None:
        nodeType = nodeType or (self._node_types or [None])[0]
        if not self._scene or nodeType not in self._node_types:
            return None
        node = self._scene.AddNewNodeByClass(nodeType, self._texts["baseName"])
        for of_type, name, value in self._attributes:
            if of_type == nodeType:
                node.SetAttribute(name, "" if value is None else str(value))
        if self._flags["selectNodeUponCreation"]:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        if self.currentNode():
            self._scene.RemoveNode(self.currentNode())

    def renameCurrentNode(self) -> None:
        node = self.currentNode()
        if not node:
            return
        name, accepted = QInputDialog.getText(self, "Rename", "New name:", text=node.GetName())
        if accepted and name:
            node.SetName(name)
            self.currentNodeRenamed.emit(name)

    def editCurrentNode(self) -> None:
        self.nodeAboutToBeEdited.emit(self.currentNode())

    # The choice

    def _choose(self, node_id: str) -> None:
        row = self._combo_box.findData(node_id) if node_id else (0 if self._flags["noneEnabled"] else -1)
        with QSignalBlocker(self._combo_box):
            self._combo_box.setCurrentIndex(row)
        if node_id != self._current:
            self._current = node_id
            node = self.currentNode()
            self.currentNodeChanged.emit(node)
            self.currentNodeIDChanged.emit(node_id)

    def currentNode(self) -> slicer.vtkMRMLNode | None:
        return self._scene.GetNodeByID(self._current) if self._scene and self._current else None

    def setCurrentNode(self, node: slicer.vtkMRMLNode | None) -> None:
        self.setCurrentNodeID(node.GetID() if node else "")

    def _current_node_id(self) -> str:
        return self._current

    def setCurrentNodeID(self, node_id: str | None) -> None:
        if not self._scene:
            self._requested = node_id or ""
            return
        self._choose(node_id if node_id in self._listed() else "")

    def setCurrentNodeIndex(self, index: int) -> None:
        listed = self._listed()
        self._choose(listed[index] if 0 <= index < len(listed) else "")

    def nodeFromIndex(self, index: int) -> slicer.vtkMRMLNode | None:
        listed = self._listed()
        return self._scene.GetNodeByID(listed[index]) if 0 <= index < len(listed) else None

    def nodeCount(self) -> int:
        return len(self._listed())

    # What is listed

    def _node_types_value(self) -> list[str]:
        return self._node_types

    def _set_node_types(self, node_types: list[str]) -> None:
        self._node_types = [node_type for node_type in node_types if node_type]
        self._rebuild()

    def _hidden_child_types_value(self) -> list[str]:
        return self._hidden_child_types

    def _set_hidden_child_types(self, node_types: list[str]) -> None:
        self._hidden_child_types = list(node_types)
        self._rebuild()

    def addAttribute(self, nodeType: str, name: str, value: object = None) -> None:
        self._attributes.append((nodeType, name, None if value is None else str(value)))
        self._rebuild()

    def removeAttribute(self, nodeType: str, name: str) -> None:
        self._attributes = [entry for entry in self._attributes if entry[:2] != (nodeType, name)]
        self._rebuild()

    def _set_flag(self, name: str, value: bool) -> None:
        if self._flags[name] != value:
            self._flags[name] = value
            self._rebuild()

    def _set_text(self, name: str, value: str) -> None:
        self._texts[name] = value
        self._rebuild()

    nodeTypes = Property("QStringList", _node_types_value, _set_node_types)
    hideChildNodeTypes = Property("QStringList", _hidden_child_types_value, _set_hidden_child_types)
    currentNodeID = Property(str, _current_node_id, setCurrentNodeID)
    noneEnabled = Property(bool, lambda s: s._flags["noneEnabled"], lambda s, v: s._set_flag("noneEnabled", v))
    addEnabled = Property(bool, lambda s: s._flags["addEnabled"], lambda s, v: s._set_flag("addEnabled", v))
    removeEnabled = Property(bool, lambda s: s._flags["removeEnabled"], lambda s, v: s._set_flag("removeEnabled", v))
    editEnabled = Property(bool, lambda s: s._flags["editEnabled"], lambda s, v: s._set_flag("editEnabled", v))
    renameEnabled = Property(bool, lambda s: s._flags["renameEnabled"], lambda s, v: s._set_flag("renameEnabled", v))
    showHidden = Property(bool, lambda s: s._flags["showHidden"], lambda s, v: s._set_flag("showHidden", v))
    showChildNodeTypes = Property(
        bool, lambda s: s._flags["showChildNodeTypes"], lambda s, v: s._set_flag("showChildNodeTypes", v)
    )
    selectNodeUponCreation = Property(
        bool, lambda s: s._flags["selectNodeUponCreation"], lambda s, v: s._set_flag("selectNodeUponCreation", v)
    )
    noneDisplay = Property(str, lambda s: s._texts["noneDisplay"], lambda s, v: s._set_text("noneDisplay", v))
    baseName = Property(str, lambda s: s._texts["baseName"], lambda s, v: s._set_text("baseName", v))

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.DeferredDelete:
            self._forget()
        return super().event(event)

    def _forget(self) -> None:
        self._scene_observations.remove_all()
        self._node_observations.remove_all()
        self._scene = None


class qMRMLSegmentsTableView(QWidget):
    """The segments of a segmentation: visibility, colour, name."""

    selectionChanged = Signal(object, object)
    segmentAboutToBeModified = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._node: slicer.vtkMRMLSegmentationNode | None = None
        self._scene: slicer.vtkMRMLScene | None = None
        self._observations = Observations()
        self._read_only = False
        self._table = QTableWidget(0, 3, self)
        self._table.setHorizontalHeaderLabels(["", "", "Name"])
        self._table.verticalHeader().hide()
        self._table.horizontalHeader().setSectionResizeMode(2, QHeaderView.Stretch)
        self._table.setColumnWidth(0, 28)
        self._table.setColumnWidth(1, 28)
        self._table.setSelectionBehavior(QAbstractItemView.SelectRows)
        self._table.itemChanged.connect(self._item_changed)
        self._table.selectionModel().selectionChanged.connect(lambda a, b: self.selectionChanged.emit(a, b))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._table)

    def mrmlScene(self) -> slicer.vtkMRMLScene | None:
        return self._scene

    def setMRMLScene(self, scene: slicer.vtkMRMLScene | None) -> None:
        self._scene = scene

    def segmentationNode(self) -> slicer.vtkMRMLSegmentationNode | None:
        return self._node

    def setSegmentationNode(self, node: slicer.vtkMRMLSegmentationNode | None) -> None:
        self._observations.remove_all()
        self._node = node
        if node:
            self._observations.observe(node.GetSegmentation(), vtk.vtkCommand.AnyEvent, self._rebuild)
            self._observations.observe(node, node.DisplayModifiedEvent, self._rebuild)
        self._rebuild()

    def _ids(self) -> list[str]:
        return list(self._node.GetSegmentation().GetSegmentIDs()) if self._node else []

    def _rebuild(self) -> None:
        ids = self._ids()
        with QSignalBlocker(self._table):
            self._table.setRowCount(len(ids))
            for row, segment_id in enumerate(ids):
                segment = self._node.GetSegmentation().GetSegment(segment_id)
                display = self._node.GetDisplayNode()
                shown = QTableWidgetItem()
                shown.setData(Qt.UserRole, segment_id)
                visible = display is None or display.GetSegmentVisibility(segment_id)
                shown.setCheckState(Qt.Checked if visible else Qt.Unchecked)
                pixmap = QPixmap(16, 16)
                pixmap.fill(QColor.fromRgbF(*segment.GetColor()))
                self._table.setItem(row, 0, shown)
                self._table.setItem(row, 1, QTableWidgetItem(QIcon(pixmap), ""))
                self._table.setItem(row, 2, QTableWidgetItem(segment.GetName()))

    def _item_changed(self, item: QTableWidgetItem) -> None:
        segment_id = self.segmentIDForRow(item.row())
        if item.column() == 0 and self._node.GetDisplayNode():
            self._node.GetDisplayNode().SetSegmentVisibility(segment_id, item.checkState() == Qt.Checked)
        elif item.column() == 2 and not self._read_only:
            self.segmentAboutToBeModified.emit(segment_id)
            self._node.GetSegmentation().GetSegment(segment_id).SetName(item.text())

    def segmentIDForRow(self, row: int) -> str:
        return self._ids()[row]

    def rowForSegmentID(self, segment_id: str) -> int:
        return self._ids().index(segment_id) if segment_id in self._ids() else -1

    def selectedSegmentIDs(self) -> list[str]:
        return [self.segmentIDForRow(index.row()) for index in self._table.selectionModel().selectedRows()]

    def setSelectedSegmentIDs(self, segment_ids: list[str]) -> None:
        self._table.clearSelection()
        for segment_id in segment_ids:
            self._table.selectRow(self.rowForSegmentID(segment_id))

    def clearSelection(self) -> None:
        self._table.clearSelection()

    def setSelectionMode(self, mode: QAbstractItemView.SelectionMode) -> None:
        self._table.setSelectionMode(mode)

    def tableWidget(self) -> QTableWidget:
        return self._table

    def setReadOnly(self, read_only: bool) -> None:
        self._read_only = read_only
        triggers = QAbstractItemView.NoEditTriggers if read_only else QAbstractItemView.DoubleClicked
        self._table.setEditTriggers(triggers)

    def _set_column(self, column: int, visible: bool) -> None:
        self._table.setColumnHidden(column, not visible)

    def setVisibilityColumnVisible(self, visible: bool) -> None:
        self._set_column(0, visible)

    def setColorColumnVisible(self, visible: bool) -> None:
        self._set_column(1, visible)

    def setHeaderVisible(self, visible: bool) -> None:
        self._table.horizontalHeader().setVisible(visible)

    segmentCount = Property(int, lambda s: s._table.rowCount())
    readOnly = Property(bool, lambda s: s._read_only, setReadOnly)
    headerVisible = Property(bool, lambda s: not s._table.horizontalHeader().isHidden(), setHeaderVisible)
    visibilityColumnVisible = Property(bool, lambda s: not s._table.isColumnHidden(0), setVisibilityColumnVisible)
    colorColumnVisible = Property(bool, lambda s: not s._table.isColumnHidden(1), setColorColumnVisible)


WIDGETS = (qMRMLNodeComboBox, qMRMLSegmentsTableView, qMRMLWidget)
