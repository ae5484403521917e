"""`slicer.modules`: the application's modules with their real MRML logics, and the module under test."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import slicer
from PySide6.QtCore import Property, QObject, Signal
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QVBoxLayout, QWidget

from host.mrml_widgets import qMRMLWidget
from host.proxies import QtProxy, api, qt_class, register_stand_in, wrap

# Module: class of its logic, as in the application.
MODULE_LOGICS = {
    "volumes": "vtkSlicerVolumesLogic",
    "segmentations": "vtkSlicerSegmentationsModuleLogic",
    "sequences": "vtkSlicerSequencesLogic",
    "terminologies": "vtkSlicerTerminologiesModuleLogic",
    "tables": "vtkSlicerTablesLogic",
    "texts": "vtkSlicerTextsLogic",
    "markups": "vtkSlicerMarkupsLogic",
    "models": "vtkSlicerModelsLogic",
    "plots": "vtkSlicerPlotsLogic",
    "transforms": "vtkSlicerTransformLogic",
}


class Checked:
    """An object whose public names are those that the application's object has."""

    _api_name = ""
    _own_names: frozenset[str] = frozenset()  # What the list of names leaves out; from the application's sources.

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name not in type(self)._own_names:
            api().check(type(self)._api_name, name)
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and name not in type(self)._own_names:
            api().check(type(self)._api_name, name)
        super().__setattr__(name, value)


class qSlicerCoreModule(Checked):
    """A module of the application: its logic is the real one, its panel is not there."""

    _api_name = "slicer.qSlicerScriptedLoadableModule"

    def __init__(self, name: str, logic: Any = None, path: str = "") -> None:
        self._logic = logic
        self.name = self.title = name
        self.path = path
        self.categories: list[str] = []
        self.dependencies: list[str] = []
        self.contributors: list[str] = []
        self.helpText = self.acknowledgementText = ""
        self.associatedNodeTypes: list[str] = []
        self.hidden = False
        self.index = -1
        self.icon = wrap(QIcon())

    def logic(self) -> Any:
        return self._logic

    def mrmlScene(self) -> slicer.vtkMRMLScene:
        return slicer.mrmlScene

    def widgetRepresentation(self) -> Any:
        return None


class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """The application's widget around a scripted module's panel."""

    def __init__(self, module: qSlicerScriptedLoadableModule) -> None:
        super().__init__()
        self._module = module
        self._self: Any = None
        self._entered = False
        self.setLayout(QVBoxLayout())

    def make(self) -> None:
        """Makes the module's panel in this widget."""
        name = f"{self._module.name}Widget"
        self._self = getattr(sys.modules[self._module.name], name)(wrap(self))
        setattr(slicer.modules, name, self._self)
        self._self.setup()

    def reload(self) -> None:
        self.make()

    def self(self) -> Any:
        return self._self

    def module(self) -> qSlicerScriptedLoadableModule:
        return self._module

    def enter(self) -> None:
        self._entered = True
        if hasattr(self._self, "enter"):
            self._self.enter()

    def exit(self) -> None:
        self._entered = False
        if hasattr(self._self, "exit"):
            self._self.exit()

    def _is_entered(self) -> bool:
        return self._entered

    def _module_name(self) -> str:
        return self._module.name

    isEntered = Property(bool, _is_entered)
    moduleName = Property(str, _module_name)


class qSlicerScriptedLoadableModule(qSlicerCoreModule):
    """A module that is written in Python; its panel is made when it is first asked for."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.stem, None, str(path))
        self._widget: QWidget | None = None
        source = str(path.parent)
        if source not in sys.path:  # As the application does it with the folder of each module.
            sys.path.insert(0, source)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        loaded = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = loaded
        spec.loader.exec_module(loaded)
        self._description = getattr(loaded, path.stem)(self)
        setattr(slicer.modules, f"{path.stem}Instance", self._description)

    def widgetRepresentation(self) -> QtProxy:
        if self._widget is None:
            self._widget = qSlicerScriptedLoadableModuleWidget(self)
            self._widget.setMRMLScene(slicer.mrmlScene)
            self._widget.make()
        return wrap(self._widget)

    def _close(self) -> None:
        name = self.name
        if self._widget is not None:
            if self._widget.isEntered:
                self._widget.exit()
            slicer.app.moduleManager().moduleAboutToBeUnloaded.emit(name)
            self._widget.deleteLater()
            self._widget = None
        sys.modules.pop(name, None)
        sys.path.remove(str(Path(self.path).parent))


class SegmentEditorWidget(Checked):
    """The Segment Editor's widget: remembers what it was given."""

    _api_name = "slicer.qMRMLSegmentEditorWidget"

    def __init__(self) -> None:
        self._segmentation: Any = None
        self._source: Any = None
        self._segment = ""
        self._parameters: Any = None

    def mrmlScene(self) -> slicer.vtkMRMLScene:
        return slicer.mrmlScene

    def mrmlSegmentEditorNode(self) -> Any:
        return self._parameters

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        self._parameters = node

    def segmentationNode(self) -> Any:
        return self._segmentation

    def setSegmentationNode(self, node: Any) -> None:
        self._segmentation = node

    def segmentationNodeID(self) -> str:
        return self._segmentation.GetID() if self._segmentation else ""

    def setSegmentationNodeID(self, node_id: str) -> None:
        self._segmentation = slicer.mrmlScene.GetNodeByID(node_id)

    def sourceVolumeNode(self) -> Any:
        return self._source

    def setSourceVolumeNode(self, node: Any) -> None:
        self._source = node

    def setSourceVolumeNodeID(self, node_id: str) -> None:
        self._source = slicer.mrmlScene.GetNodeByID(node_id)

    def currentSegmentID(self) -> str:
        return self._segment

    def setCurrentSegmentID(self, segment_id: str) -> None:
        self._segment = segment_id


class SegmentEditorPanel(Checked):
    """`slicer.modules.SegmentEditorWidget`: the panel of the Segment Editor."""

    def __init__(self) -> None:
        self.editor = SegmentEditorWidget()
        self.parameterSetNode = None


class _SegmentEditorRepresentation(Checked):
    _api_name = "slicer.qSlicerScriptedLoadableModuleWidget"

    def __init__(self, panel: SegmentEditorPanel) -> None:
        self._panel = panel

    def self(self) -> SegmentEditorPanel:
        return self._panel

    def enter(self) -> None:
        """The panel needs nothing to be shown."""

    def exit(self) -> None:
        """Nor to be left."""


class _SegmentEditorModule(qSlicerCoreModule):
    def __init__(self, panel: SegmentEditorPanel) -> None:
        super().__init__("SegmentEditor")
        self._representation = _SegmentEditorRepresentation(panel)

    def widgetRepresentation(self) -> _SegmentEditorRepresentation:
        return self._representation


class SequenceToolBar(Checked):
    """The tool bar that plays a sequence."""

    _api_name = "slicer.qMRMLSequenceBrowserToolBar"

    def __init__(self) -> None:
        self._browser: Any = None

    def activeBrowserNode(self) -> Any:
        return self._browser

    def setActiveBrowserNode(self, node: Any) -> None:
        self._browser = node


class _SequencesModule(qSlicerCoreModule):
    _own_names = frozenset(
        ("autoShowToolBar", "setToolBarActiveBrowserNode", "showSequenceBrowser", "toolBar", "toolBarVisible")
    )

    def __init__(self, logic: Any) -> None:
        super().__init__("Sequences", logic)
        self._tool_bar = SequenceToolBar()
        self.toolBarVisible = False
        self.autoShowToolBar = True

    def toolBar(self) -> SequenceToolBar:
        return self._tool_bar

    def setToolBarActiveBrowserNode(self, node: Any) -> None:
        self._tool_bar.setActiveBrowserNode(node)

    def showSequenceBrowser(self, node: Any) -> bool:
        if self.autoShowToolBar:
            self.setToolBarActiveBrowserNode(node)
            self.toolBarVisible = True
        return True


class Modules:
    """The namespace `slicer.modules`."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            api().check("slicer.modules", name)
        raise AttributeError(f"The host's slicer.modules has no '{name}'.")


def make_modules(scene: slicer.vtkMRMLScene, application_logic: Any) -> Modules:
    """The application's modules on a scene."""
    modules = Modules()
    for name, class_name in MODULE_LOGICS.items():
        logic = getattr(slicer, class_name)()
        logic.SetMRMLApplicationLogic(application_logic)
        if name != "terminologies":  # It would load the application's own terminologies, which the wheel has not.
            logic.SetMRMLScene(scene)
        made = _SequencesModule(logic) if name == "sequences" else qSlicerCoreModule(name.capitalize(), logic)
        setattr(modules, name, made)
    panel = SegmentEditorPanel()
    modules.segmenteditor = _SegmentEditorModule(panel)
    modules.SegmentEditorWidget = panel
    return modules


def close_modules(modules: Modules) -> None:
    """Unloads the modules under test and takes the scene from the logics."""
    loaded = list(vars(modules).values())
    for module in loaded:
        if isinstance(module, qSlicerScriptedLoadableModule):
            module._close()
    empty = slicer.vtkMRMLScene()
    empty.GetSubjectHierarchyNode()
    for module in loaded:
        if isinstance(module, qSlicerCoreModule) and module.logic() and module.logic().GetMRMLScene():
            # Without a scene the segmentations' logic would warn of a missing subject hierarchy.
            module.logic().SetMRMLScene(empty if module is modules.segmentations else None)


class qSlicerModuleFactoryManager(QObject):
    def loadedModuleNames(self) -> list[str]:
        return self.parent().modulesNames()

    def isLoaded(self, name: str) -> bool:
        return name in self.parent().modulesNames()


class qSlicerModuleManager(QObject):
    moduleAboutToBeUnloaded = Signal(str)
    moduleLoaded = Signal(str)

    def module(self, name: str) -> qSlicerCoreModule | None:
        return vars(slicer.modules).get(name.lower())

    def modulesNames(self) -> list[str]:
        loaded = vars(slicer.modules).values()
        return [module.name for module in loaded if isinstance(module, qSlicerCoreModule)]

    def factoryManager(self) -> qSlicerModuleFactoryManager:
        return qSlicerModuleFactoryManager(self)


register_stand_in(qSlicerModuleManager, "slicer.qSlicerModuleManager")
register_stand_in(qSlicerScriptedLoadableModuleWidget, "slicer.qSlicerScriptedLoadableModuleWidget")


def install_module_classes() -> None:
    """Puts the classes that tell scripted modules from others into `slicer`."""
    slicer.qSlicerScriptedLoadableModule = qSlicerScriptedLoadableModule
    slicer.qSlicerScriptedLoadableModuleWidget = qt_class(qSlicerScriptedLoadableModuleWidget)
