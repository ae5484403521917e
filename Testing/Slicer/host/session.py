"""The host: the application's Python environment around a module's panel, in one process and without a window."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import slicer
import vtk
from PySide6.QtCore import SIGNAL, QCoreApplication, QElapsedTimer, QEvent, QEventLoop, Qt, QTimer
from PySide6.QtGui import QPixmap
from PySide6.QtWidgets import QApplication, QWidget

from host import proxies
from host.api import Api, api_file, known_names
from host.application import palette, qSlicerApplication
from host.dialogs import Dialogs, Message
from host.dicom_database import DicomDatabase
from host.dicom_lib import DicomBrowser, forget_library, library, open_dicom
from host.main_window import qSlicerMainWindow
from host.modules import (
    close_modules,
    install_module_classes,
    make_modules,
    qSlicerScriptedLoadableModule,
)
from host.mrml_widgets import Observations
from host.qt_module import CtkModule, QtModule, install_widget_classes

# Nodes that the application gives an item in the subject hierarchy.
HIERARCHY_CLASSES = (
    "vtkMRMLVolumeNode",
    "vtkMRMLSegmentationNode",
    "vtkMRMLTransformNode",
    "vtkMRMLModelNode",
    "vtkMRMLMarkupsNode",
    "vtkMRMLTableNode",
    "vtkMRMLTextNode",
    "vtkMRMLSequenceNode",
    "vtkMRMLSequenceBrowserNode",
    "vtkMRMLPlotChartNode",
)

LOOK_MS = 5
"""How often a condition is looked at that is waited for: a tenth of the time between two steps of the panel's runs."""


def _conversion_rules() -> set[slicer.vtkSegmentationConverterRule]:
    """What segmentations are converted with, in this process: each scene that a module's logic gets adds them anew."""
    return set(slicer.vtkSegmentationConverterFactory.GetInstance().GetConverterRules())


class Host:
    """The application around a panel: `qt`, `ctk`, `slicer.app`, `slicer.modules`, a scene and its views.

    The modules `qt`, `ctk` and those of `slicer` are put into sys.modules once for the process. `slicer.app`,
    `slicer.modules` and `slicer.mrmlScene` are there until `close`, with a scene, settings and dialogs of their own.
    Only one Host is open at a time.

    Args:
        scene: A scene to work on; by default a new one with the application's colours and subject hierarchy.
        api: The names to check against; by default those found beside the repository.
        dicom: Whether the application has its DICOM modules, so that `DICOMLib` can be imported; `open_dicom` starts
            them.

    Attributes:
        scene: The scene, also `slicer.mrmlScene`.
        messages: What dialogs said, in order.
        opened: Addresses that were opened in the browser.
    """

    _application: qSlicerApplication | None = None
    _dialogs: Dialogs | None = None
    _main_window: qSlicerMainWindow | None = None
    _current: Host | None = None

    def __init__(self, scene: slicer.vtkMRMLScene | None = None, api: Api | None = None, dicom: bool = False) -> None:
        if Host._current is not None:
            raise RuntimeError("Another Host is open; close it first.")
        proxies.use_api(api or known_names(api_file()))
        self._install()
        Host._current = self
        self._rules = _conversion_rules()
        self._own_scene = scene is None
        self.scene = scene or slicer.vtkMRMLScene()
        self._colors = slicer.vtkMRMLColorLogic()
        if self._own_scene:
            self._colors.SetMRMLScene(self.scene)
        self.scene.GetSubjectHierarchyNode()
        self._observations = Observations()
        self._follow_nodes()
        slicer.app = proxies.wrap(Host._application)
        slicer.mrmlScene = self.scene
        Host._application.open_scene(self.scene)
        slicer.modules = make_modules(self.scene, Host._application.applicationLogic())
        Host._main_window = qSlicerMainWindow()
        Host._main_window.setAttribute(Qt.WA_DontShowOnScreen)
        Host._main_window.show()  # So that everything in it is laid out.
        self._probes: list[Responsiveness] = []
        self._database: DicomDatabase | None = None
        if dicom:
            sys.modules.update({module.__name__: module for module in library()})
        proxies.errors.clear()
        # VTK and Qt hand what an observer or an overridden method raised to this hook.
        self._hook, sys.excepthook = sys.excepthook, lambda kind, error, trace: proxies.record(error)
        self.set_theme("light")
        QTimer.singleShot(0, Host._application.python_slicer.handle_command_line_arguments)

    def __enter__(self) -> Host:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_exception: Any) -> None:
        self.close(check=kind is None)

    # Installing

    @classmethod
    def _install(cls) -> None:
        if cls._application is not None:
            return
        if QApplication.instance() is not None:
            raise RuntimeError("There is a QApplication already; the host needs its own.")
        cls._application = qSlicerApplication()
        cls._application.setStyle("Fusion")
        sys.modules["qt"] = QtModule("qt")
        sys.modules["ctk"] = CtkModule("ctk")
        cls._dialogs = Dialogs()
        install_widget_classes()
        install_module_classes()
        i18n = types.ModuleType("slicer.i18n")
        i18n.translate = cls._application.translate
        i18n.getContext = lambda source: Path(source).stem
        i18n.tr = _translated
        from host import parameter_node_wrapper, scripted_module

        for name, module in {
            "i18n": i18n,
            "ScriptedLoadableModule": scripted_module,
            "parameterNodeWrapper": parameter_node_wrapper,
        }.items():
            sys.modules[f"slicer.{name}"] = module
            setattr(slicer, name, module)

    def _follow_nodes(self) -> None:
        """Gives new nodes an item in the subject hierarchy and takes it again, as the application's plugins do."""

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def added(_scene: Any, _event: str, node: slicer.vtkMRMLNode) -> None:
            hierarchy = self.scene.GetSubjectHierarchyNode()
            wanted = any(node.IsA(name) for name in HIERARCHY_CLASSES) and not node.GetHideFromEditors()
            if wanted and not self.scene.IsImporting() and not hierarchy.GetItemByDataNode(node):
                hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def removed(_scene: Any, _event: str, node: slicer.vtkMRMLNode) -> None:
            hierarchy = self.scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode")
            item = hierarchy.GetItemByDataNode(node) if hierarchy and not self.scene.IsClosing() else 0
            if item:
                hierarchy.RemoveItem(item, False, False)

        self._observations.keep(self.scene, slicer.vtkMRMLScene.NodeAddedEvent, added)
        self._observations.keep(self.scene, slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, removed)

    def close(self, check: bool = True) -> None:
        """Unloads the modules and empties the scene.

        Raises:
            BaseException: The first error that a slot, timer or observer raised, unless `check` is False.
            AssertionError: An answer was queued for a dialog that never came, or a process still runs.
        """
        if Host._current is not self:
            return
        Host._current = None
        left: list[Any] = []
        running: list[str] = []
        try:
            close_modules(slicer.modules)
            self._process_deletions()
            running = proxies.close_made()
        finally:
            for rule in _conversion_rules() - self._rules:
                slicer.vtkSegmentationConverterFactory.GetInstance().UnregisterConverterRule(rule)
            Host._application.close_scene()
            # There is one application for all: what this Host's modules connected to its start is theirs.
            if Host._application.receivers(SIGNAL("startupCompleted()")):
                Host._application.startupCompleted.disconnect()
            for widget in QApplication.topLevelWidgets():
                widget.deleteLater()
            self._process_deletions()
            Host._main_window = None
            Observations.close()
            if self._own_scene:
                self._colors.SetMRMLScene(None)
                self.scene.Clear(True)
            left = Host._dialogs.close()
            sys.excepthook = self._hook
            forget_library()
            if self._database is not None:
                del slicer.dicomDatabase
            for name in ("app", "modules", "mrmlScene"):  # Outside the application there is none of them.
                delattr(slicer, name)
        errors = self.take_errors()
        if check:
            if errors:
                raise errors[0]
            assert not running, f"These programs still run after the module was closed: {running}."
            assert not left, f"No dialog asked for the answers {left}."

    @staticmethod
    def _process_deletions() -> None:
        QCoreApplication.sendPostedEvents(None, QEvent.DeferredDelete)
        QCoreApplication.processEvents()

    # The module under test

    def load_module(self, path: Path | str) -> Any:
        """Loads a module's file, as the application does at start; what `slicer.modules.<name>` is."""
        path = Path(path).resolve()
        module = qSlicerScriptedLoadableModule(path)
        setattr(slicer.modules, path.stem.lower(), module)
        slicer.app.moduleManager().moduleLoaded.emit(path.stem)
        return module

    def start(self) -> None:
        """The application's start is complete, and its event loop runs."""
        slicer.app.startupCompleted.emit()
        self.pump()

    def open_dicom(self, folder: Path) -> DicomDatabase:
        """The DICOM module's part of the start, after the modules were loaded: an empty database in a folder."""
        assert "DICOMLib" in sys.modules, "This application has no DICOM modules."
        self._database = open_dicom(folder)
        return self._database

    def open_dicom_browser(self) -> DicomBrowser:
        """The window in which series are chosen and loaded."""
        return DicomBrowser()

    def open_module(self, name: str) -> Any:
        """Chooses a module in the main window, which makes its panel; the module's own widget object."""
        slicer.util.selectModule(name)
        return slicer.util.getModuleWidget(name)

    # The user

    @property
    def messages(self) -> list[Message]:
        return Host._dialogs.messages

    def answer(self, *answers: Any) -> None:
        """Queues answers for dialogs to come: the name of a button such as "Cancel", a file name, a text."""
        Host._dialogs.answer(*answers)

    @property
    def opened(self) -> list[str]:
        return Host._application._opened

    @property
    def main_window(self) -> Any:
        return proxies.wrap(Host._main_window)

    def set_testing(self, testing: bool) -> None:
        """Whether the application runs its self tests; dialogs do not come then."""
        Host._application._testing = testing

    def set_translation(self, translation: Callable[[str, str], str]) -> None:
        """What `slicer.i18n.tr` returns from now on: a function of the context and the text."""
        Host._application._translation = translation

    # The event loop

    def pump(self, seconds: float = 0.05) -> None:
        """Runs the event loop for a while; raises the first error of a slot, timer or observer."""
        self._run(lambda: False, seconds)

    def wait_until(self, condition: Callable[[], Any], timeout: float = 5) -> Any:
        """Runs the event loop until `condition` is true; its value.

        Raises:
            TimeoutError: It is still false after `timeout` seconds.
            BaseException: What a slot, timer or observer raised meanwhile.
        """
        value = self._run(condition, timeout)
        if not value:
            raise TimeoutError(f"The condition is still false after {timeout} s.")
        return value

    def _run(self, condition: Callable[[], Any], seconds: float) -> Any:
        loop = QEventLoop()
        value: Any = None
        failure: list[BaseException] = []

        def look() -> None:
            nonlocal value
            try:
                value = condition()
            except BaseException as error:
                failure.append(error)
            if value or failure or proxies.errors or clock.elapsed() >= seconds * 1000:
                loop.quit()

        clock = QElapsedTimer()
        clock.start()
        timer = QTimer()
        timer.setTimerType(Qt.PreciseTimer)
        timer.timeout.connect(look)
        timer.start(LOOK_MS)
        for probe in self._probes:
            probe.resume()
        loop.exec()
        timer.stop()
        for probe in self._probes:
            probe.pause()
        self._process_deletions()
        errors = self.take_errors()
        if errors or failure:
            raise (errors + failure)[0]
        return value

    def take_errors(self) -> list[BaseException]:
        """What slots, timers and observers raised since it was last asked; nothing raises it again."""
        errors = list(proxies.errors)
        proxies.errors.clear()
        return errors

    @contextlib.contextmanager
    def responsiveness(self) -> Iterator[Responsiveness]:
        """Measures how long the panel does not answer while the event loop runs inside the block."""
        probe = Responsiveness()
        self._probes.append(probe)
        try:
            yield probe
        finally:
            self._probes.remove(probe)
            probe.pause()

    # Looks

    def set_theme(self, name: str) -> None:
        """Light or dark colours, as the application's styles have them."""
        Host._application.setPalette(palette(name))
        self._process_deletions()

    def grab(self, widget: Any, path: Path | str, width: int | None = None, scale: int = 2) -> Path:
        """Writes a picture of a widget as it is laid out, at twice its size in pixels by default."""
        native: QWidget = proxies.unwrap(widget)
        if native.isWindow() and not native.isVisible():
            native.setAttribute(Qt.WA_DontShowOnScreen)
            native.show()
        if native.isWindow():
            native.resize(width or native.width(), max(native.height(), native.sizeHint().height()))
        elif width is not None:
            native.window().resize(width, native.window().height())
        self._process_deletions()
        pixmap = QPixmap(native.size() * scale)
        pixmap.setDevicePixelRatio(scale)
        pixmap.fill(native.palette().color(native.backgroundRole()))
        native.render(pixmap)
        path = Path(path)
        if not pixmap.save(str(path)):
            raise OSError(f"The picture cannot be written to '{path}'.")
        return path


class Responsiveness:
    """How long a click may have to wait.

    Attributes:
        longest: The longest time between two turns of the event loop, in seconds.
        total: How long the event loop ran, in seconds.
    """

    def __init__(self) -> None:
        self.longest = self.total = 0.0
        self._last: float | None = None
        self._timer = QTimer()
        self._timer.setTimerType(Qt.PreciseTimer)
        self._timer.timeout.connect(self._turn)

    def resume(self) -> None:
        """The event loop begins to run."""
        self._last = time.perf_counter()
        self._timer.start(1)

    def pause(self) -> None:
        """The event loop has stopped; what the test does by itself does not count."""
        if self._last is not None:
            self._turn()
        self._timer.stop()
        self._last = None

    def _turn(self) -> None:
        now = time.perf_counter()
        self.longest = max(self.longest, now - self._last)
        self.total += now - self._last
        self._last = now


def _translated(text: str) -> str:
    """As `slicer.i18n.tr`: translated in the context of the calling file."""
    source = sys._getframe(1).f_code.co_filename
    return Host._application.translate(Path(source).stem, text)
