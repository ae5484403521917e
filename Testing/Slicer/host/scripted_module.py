"""`slicer.ScriptedLoadableModule` outside the application: what a module's own classes derive from."""

from __future__ import annotations

import importlib
import logging
import unittest
from pathlib import Path
from typing import Any

import qt
import slicer

__all__ = [
    "ScriptedLoadableModule",
    "ScriptedLoadableModuleLogic",
    "ScriptedLoadableModuleTest",
    "ScriptedLoadableModuleWidget",
]


def _resource(module_file: str, name: str) -> str:
    return str(Path(module_file).parent / "Resources" / name)


def _message_delay() -> int:
    return int(slicer.app.userSettings().value("Developer/SelfTestDisplayMessageDelay"))


class ScriptedLoadableModule:
    """What a module says of itself; `parent` is the application's object for it."""

    def __init__(self, parent: Any) -> None:
        super().__init__()
        self.parent = parent
        self.moduleName = type(self).__name__
        parent.title = ""
        parent.categories = []
        parent.dependencies = []
        parent.contributors = []
        parent.helpText = ""
        parent.acknowledgementText = ""
        for ending in (".svg", ".png"):
            icon = Path(_resource(parent.path, f"Icons/{self.moduleName}{ending}"))
            if icon.is_file():
                parent.icon = qt.QIcon(str(icon))
                break
        if not hasattr(slicer, "selfTests"):
            slicer.selfTests = {}
        slicer.selfTests[self.moduleName] = self.runTest

    def resourcePath(self, filename: str) -> str:
        return _resource(self.parent.path, filename)

    def getDefaultModuleDocumentationLink(self, docPage: str | None = None) -> str:
        url = (
            slicer.app.documentationBaseUrl + docPage if docPage else slicer.app.moduleDocumentationUrl(self.moduleName)
        )
        return f'<p>For more information, see the <a href="{url}">online documentation</a>.</p>'

    def runTest(self, msec: int = 100, **kwargs: Any) -> None:
        """Runs the class <name>Test of the module's file."""
        name = f"{self.moduleName}Test"
        test_class = getattr(importlib.import_module(self.__module__), name, None)
        assert test_class, f"{self.__module__} has no test class {name}."
        test = test_class()
        test.messageDelay = msec
        test.runTest(**kwargs)


class ScriptedLoadableModuleWidget:
    """A module's panel; `parent` is the application's widget for it, or one is made."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = slicer.util.settingsValue("Developer/DeveloperMode", False, converter=slicer.util.toBool)
        self.parent = parent
        if not parent:
            self.parent = slicer.qMRMLWidget()
            self.parent.setLayout(qt.QVBoxLayout())
            self.parent.setMRMLScene(slicer.mrmlScene)
        self.layout = self.parent.layout()
        if not parent:
            self.setup()
            self.parent.show()
        slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def resourcePath(self, filename: str) -> str:
        return _resource(slicer.util.modulePath(self.moduleName), filename)

    def setup(self) -> None:
        """The application adds "Reload & Test" here in developer mode; the host has only `onReload`."""

    def cleanup(self) -> None:
        """Called before the module goes, and before it is loaded again."""

    def _onModuleAboutToBeUnloaded(self, moduleName: str) -> None:
        if moduleName == self.moduleName:
            self.cleanup()
            slicer.app.moduleManager().disconnect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def onReload(self) -> None:
        """Loads the module's file again and makes its panel anew."""
        slicer.util.reloadScriptedModule(self.moduleName)

    def onTest(self, **kwargs: Any) -> None:
        with slicer.util.tryWithErrorDisplay("Test failed."):
            slicer.selfTests[self.moduleName](msec=_message_delay(), **kwargs)

    def onReloadAndTest(self, **kwargs: Any) -> None:
        with slicer.util.tryWithErrorDisplay("Reload and Test failed."):
            self.onReload()
            slicer.selfTests[self.moduleName](msec=_message_delay(), **kwargs)


class ScriptedLoadableModuleLogic:
    """What a module computes; keeps its parameter node in the scene."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self) -> slicer.vtkMRMLScriptedModuleNode:
        """The scene's parameter node of this module; one is added where there is none."""
        if self.isSingletonParameterNode:
            node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
            if node:
                if node.GetAttribute("ModuleName") != self.moduleName:  # Closing a scene takes it away.
                    node.SetAttribute("ModuleName", self.moduleName)
                return node
        else:
            nodes = self.getAllParameterNodes()
            if nodes:
                return nodes[0]
        return slicer.mrmlScene.AddNode(self.createParameterNode())

    def getAllParameterNodes(self) -> list[slicer.vtkMRMLScriptedModuleNode]:
        nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
        return [node for node in nodes if node.GetAttribute("ModuleName") == self.moduleName]

    def createParameterNode(self) -> slicer.vtkMRMLScriptedModuleNode:
        """A parameter node that is in no scene yet."""
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)  # Python owns it from here.
        if self.isSingletonParameterNode:
            node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """A module's self test; `runTest` runs every method with "test" in its name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.moduleTestNames: list[str] = []
        super().__init__(*args, **kwargs)
        self.messageDelay: int | None = None
        if not self.moduleTestNames:
            named = (name for name in dir(self) if "test" in name)
            self.moduleTestNames = [name for name in named if callable(getattr(self, name))]

    def delayDisplay(self, message: str, requestedDelay: int | None = None, msec: int | None = None) -> None:
        delays = (self.messageDelay, msec, requestedDelay, 100)
        slicer.util.delayDisplay(message, next(delay for delay in delays if delay is not None))

    def runTest(self) -> None:
        if not self.moduleTestNames:
            logging.warning(f"No test is defined in {type(self).__name__}.")
            return
        self.setUpClass()
        for name in self.moduleTestNames:
            self.setUp()
            getattr(self, name)()
            self.tearDown()
        self.tearDownClass()
