"""`slicer.app` and the main window."""

from __future__ import annotations

import tempfile
from collections.abc import Callable

import slicer
from PySide6.QtCore import Property, QCoreApplication, QSettings, Signal
from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import QApplication

from host.io_manager import give_cache, qSlicerCoreIOManager
from host.layout import qSlicerLayoutManager
from host.modules import qSlicerModuleManager
from host.proxies import register_stand_in
from host.python_slicer import PythonSlicer

VERSION = (5, 12)


class qSlicerApplication(QApplication):
    """One for the process; the scene and what hangs on it come and go with each Host."""

    startupCompleted = Signal()
    mrmlSceneChanged = Signal(object)

    def __init__(self) -> None:
        super().__init__(["Slicer"])
        self.setOrganizationName("NA-MIC")
        self.setApplicationName("Slicer")
        self.setApplicationVersion("{}.{}.3".format(*VERSION))
        self.setQuitOnLastWindowClosed(False)
        QSettings.setDefaultFormat(QSettings.IniFormat)
        self.python_slicer = PythonSlicer()
        self._folder: tempfile.TemporaryDirectory | None = None
        self._layout_manager: qSlicerLayoutManager | None = None
        self._logic: slicer.vtkSlicerApplicationLogic | None = None
        self._manager = qSlicerModuleManager(self)
        self._testing = False
        self._paused = 0
        self._translation: Callable[[str, str], str] = lambda context, text: text
        self._opened: list[str] = []

    # The host's side

    def open_scene(self, scene: slicer.vtkMRMLScene) -> None:
        """Takes a scene, with settings and temporary files of its own."""
        self._folder = tempfile.TemporaryDirectory(prefix="slicer-host-")
        for scope in (QSettings.UserScope, QSettings.SystemScope):
            QSettings.setPath(QSettings.IniFormat, scope, self._folder.name)
        QSettings().setValue("Developer/SelfTestDisplayMessageDelay", 0)  # The application sets it at its start.
        self._logic = slicer.vtkSlicerApplicationLogic()
        self._logic.SetTemporaryPath(self._folder.name)
        self._logic.SetMRMLScene(scene)
        give_cache(scene, self._folder.name)
        self._layout_manager = qSlicerLayoutManager(scene, self._logic)
        self._opened.clear()
        self.python_slicer.begin()
        self.mrmlSceneChanged.emit(scene)

    def close_scene(self) -> None:
        self.python_slicer.end()
        self._layout_manager.close()
        self._layout_manager = None
        self._logic.SetMRMLScene(None)
        self._logic = None
        self._translation = lambda context, text: text
        self._testing = False
        QSettings().sync()
        self._folder.cleanup()

    # As in the application

    def applicationLogic(self) -> slicer.vtkSlicerApplicationLogic:
        return self._logic

    def mrmlScene(self) -> slicer.vtkMRMLScene:
        return slicer.mrmlScene

    def layoutManager(self) -> qSlicerLayoutManager | None:
        return self._layout_manager

    def moduleManager(self) -> qSlicerModuleManager:
        return self._manager

    def moduleLogic(self, name: str) -> object:
        return self._manager.module(name).logic()

    def coreIOManager(self) -> qSlicerCoreIOManager:
        return qSlicerCoreIOManager(self)

    def testingEnabled(self) -> bool:
        return self._testing

    def userSettings(self) -> QSettings:
        return QSettings()

    def revisionUserSettings(self) -> QSettings:
        return QSettings()

    def settings(self) -> QSettings:
        return QSettings()

    def openUrl(self, url: str) -> bool:
        self._opened.append(url)
        return True

    def moduleDocumentationUrl(self, name: str) -> str:
        return f"{self._documentation()}user_guide/modules/{name.lower()}.html"

    def translate(self, context: str, text: str) -> str:
        return self._translation(context, text)

    def pauseRender(self) -> None:
        self._paused += 1

    def resumeRender(self) -> None:
        self._paused -= 1

    def processEvents(self, *arguments: object) -> None:
        QCoreApplication.processEvents(*arguments)

    def _temporary_path(self) -> str:
        return self._folder.name

    def _documentation(self) -> str:
        return "documentation/"

    def applicationFilePath(self) -> str:
        return str(self.python_slicer.application)

    temporaryPath = Property(str, _temporary_path)
    slicerHome = Property(str, lambda self: str(self.python_slicer.home))
    launcherExecutableFilePath = Property(str, lambda self: str(self.python_slicer.launcher))
    documentationBaseUrl = Property(str, _documentation)
    majorVersion = Property(int, lambda self: VERSION[0])
    minorVersion = Property(int, lambda self: VERSION[1])
    mainApplicationMajorVersion = Property(int, lambda self: VERSION[0])
    mainApplicationMinorVersion = Property(int, lambda self: VERSION[1])
    renderPaused = Property(bool, lambda self: self._paused > 0)
    os = Property(str, lambda self: "linux")


register_stand_in(qSlicerApplication, "slicer.app")


def palette(theme: str) -> QPalette:
    """The colours of Fusion, light or dark."""
    dark = theme == "dark"
    if theme not in ("light", "dark"):
        raise ValueError(f"There is no theme '{theme}', only light and dark.")
    window, base, text = ("#353535", "#232323", "#ffffff") if dark else ("#efefef", "#ffffff", "#000000")
    colors = QPalette(QColor(window), QColor(window))
    shades = {
        QPalette.Window: window,
        QPalette.WindowText: text,
        QPalette.Base: base,
        QPalette.AlternateBase: window if dark else "#f7f7f7",
        QPalette.ToolTipBase: "#ffffdc",
        QPalette.ToolTipText: "#000000",
        QPalette.Text: text,
        QPalette.Button: window,
        QPalette.ButtonText: text,
        QPalette.BrightText: "#ffffff",
        QPalette.Link: "#5aaaff" if dark else "#0000ff",
        QPalette.Highlight: "#2a82da" if dark else "#308cc6",
        QPalette.HighlightedText: "#ffffff",
        QPalette.PlaceholderText: "#8c8c8c",
    }
    for role, color in shades.items():
        colors.setColor(role, QColor(color))
    for role in (QPalette.WindowText, QPalette.Text, QPalette.ButtonText):
        colors.setColor(QPalette.Disabled, role, QColor("#7f7f7f" if dark else "#bebebe"))
    return colors
