"""The part of the panel that exports DICOM SEG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
import slicer

from dinsegment_slicer.panel.model_section import ModelSection
from dinsegment_slicer.panel.result import ResultNodes
from dinsegment_slicer.panel.section import Section
from dinsegment_slicer.running.controller import Controller
from dinsegment_slicer.running.requests import ExportRequest
from dinsegment_slicer.running.states import State
from dinsegment_slicer.signal import Signal

FOLDER_SETTING = "DINSegment/ExportFolder"
"""The folder is the machine's, not the scene's."""


class ExportSection(Section):
    """Writes the segmentations in view; the folder is kept as the user's setting. `begins` is emitted before.

    Args:
        ui: The panel's widgets by name.
        controller: Runs the export.
        model: Says what the process that writes is told of the environment.
    """

    def __init__(self, ui: Any, controller: Controller, model: ModelSection) -> None:
        super().__init__(ui)
        self.begins = Signal()
        self._controller = controller
        self._model = model
        ui.exportFolderEdit.setCurrentPath(slicer.util.settingsValue(FOLDER_SETTING, ""))
        ui.exportFolderEdit.currentPathChanged.connect(self._saveFolder)
        ui.exportButton.clicked.connect(self._onExport)

    def showState(self, controller: Controller) -> None:
        """Lets nothing be exported while a run goes on."""
        for widget in (self.ui.exportFolderEdit, self.ui.exportDatabaseCheckBox, self.ui.exportButton):
            widget.setEnabled(controller.state is State.READY)

    def _folder(self) -> Path | None:
        """Where to write; None while none is chosen."""
        text = self.ui.exportFolderEdit.currentPath.strip()
        return Path(text) if text else None

    def _onExport(self, _checked: bool = False) -> None:
        if self._parameters is None:
            return
        self.begins.emit()
        self._controller.logic.worker.environment = self._model.environment()
        nodes = tuple(ResultNodes(self._parameters).segmentations())
        self._controller.export(ExportRequest(nodes, self._folder(), self._parameters.exportToDatabase))

    def _saveFolder(self, path: str) -> None:
        settings = qt.QSettings()
        settings.setValue(FOLDER_SETTING, path)
