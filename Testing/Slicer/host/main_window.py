"""The main window with its module panel, which has the widths that the application's has."""

from __future__ import annotations

import slicer
from PySide6.QtCore import Property, QEvent, QObject, QSize, Qt
from PySide6.QtWidgets import QDockWidget, QMainWindow, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from host.proxies import api, register_stand_in, unwrap

SMALL_SCREEN = (1024, 700)
"""Width and height that the application's window has on a small screen."""

LEAST_VIEWS = (200, 200)
"""What the views need at the least."""


class qSlicerModulePanel(QWidget):
    """Shows one module's panel in an area that scrolls up and down only.

    As in the application (qSlicerModulePanel.cxx), what a module's widget would like to have is the least width of the
    panel, and so of the window: it grows with it, and never shrinks below.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._area = QScrollArea()
        self._area.setWidgetResizable(True)
        self._area.setHorizontalScrollBarPolicy(Qt.ScrollBarAlwaysOff)
        contents = QWidget()
        self._contents = QVBoxLayout(contents)
        self._area.setWidget(contents)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._area)
        self._shown: QWidget | None = None

    def setModuleWidget(self, widget: QWidget | None) -> None:
        """Shows a module's widget instead of the one before."""
        if self._shown is not None:
            self._shown.removeEventFilter(self)
            self._contents.removeWidget(self._shown)
            self._shown.setVisible(False)
            self._shown.setParent(None)
        self._shown = widget
        if widget is not None:
            widget.layout().setContentsMargins(0, 0, 0, 0)
            self._contents.insertWidget(0, widget, 1)
            widget.setSizePolicy(QSizePolicy.Minimum, widget.sizePolicy().verticalPolicy())
            widget.setVisible(True)
            widget.installEventFilter(self)
        self.updateGeometry()

    def forget(self, widget: QWidget) -> None:
        """The widget goes."""
        if self._shown is widget:
            self.setModuleWidget(None)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Resize:
            self.updateGeometry()
        return False

    def minimumSizeHint(self) -> QSize:
        width = self._area.widget().minimumSizeHint().width() + self._area.verticalScrollBar().sizeHint().width()
        return QSize(width, super().minimumSizeHint().height())


class ModuleSelector(QWidget):
    """The main window's choice of a module; choosing leaves one module and enters the other."""

    def __init__(self, panel: qSlicerModulePanel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._panel = panel
        self._selected = ""

    def selectModule(self, name: str) -> None:
        known = api().names("slicer.modules")
        module = vars(slicer.modules).get(name.lower())
        if module is None and known is not None and name.lower() not in known:
            raise AssertionError(f"The application has no module '{name}'.")
        before = vars(slicer.modules).get(self._selected.lower())
        if before is not None and before.widgetRepresentation() is not None:
            before.widgetRepresentation().exit()
        self._selected = name
        widget = module.widgetRepresentation() if module is not None else None
        native = unwrap(widget)
        self._panel.setModuleWidget(native if isinstance(native, QWidget) else None)
        if widget is not None:
            widget.enter()

    def _selected_value(self) -> str:
        return self._selected

    selectedModule = Property(str, _selected_value)


class qSlicerMainWindow(QMainWindow):
    """The application's window: the module panel on the left, the place of the views beside it, a status bar."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self.setWindowTitle("3D Slicer")
        self._panel = qSlicerModulePanel()
        dock = QDockWidget(self)
        dock.setObjectName("PanelDockWidget")
        dock.setWidget(self._panel)
        self.addDockWidget(Qt.LeftDockWidgetArea, dock)
        views = QWidget()
        views.setMinimumSize(*LEAST_VIEWS)
        views.setSizePolicy(QSizePolicy.Expanding, QSizePolicy.Expanding)
        self.setCentralWidget(views)
        self._selector = ModuleSelector(self._panel, self)
        self.statusBar()
        self.resize(*SMALL_SCREEN)

    def modulePanel(self) -> qSlicerModulePanel:
        return self._panel

    def moduleSelector(self) -> ModuleSelector:
        return self._selector


register_stand_in(qSlicerMainWindow, "slicer.util.mainWindow()")
