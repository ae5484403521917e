"""The part of the panel that exports DICOM SEG: where to, and where from if Slicer does not know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
import slicer

from dinsegment_slicer.i18n import tr as _

FOLDER_SETTING = "DINSegment/ExportFolder"
"""The folder is the machine's, not the scene's."""


class DicomSection:
    """The folder of the export, kept as the user's setting.

    Args:
        ui: The panel's widgets by name.
    """

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        ui.exportFolderEdit.setCurrentPath(slicer.util.settingsValue(FOLDER_SETTING, ""))
        ui.exportFolderEdit.currentPathChanged.connect(self._saveFolder)

    def folder(self) -> Path | None:
        """Where to write; None while none is chosen."""
        text = self.ui.exportFolderEdit.currentPath.strip()
        return Path(text) if text else None

    def setReady(self, ready: bool) -> None:
        """Whether something can be exported: not while a run goes on."""
        for widget in (self.ui.exportFolderEdit, self.ui.exportDatabaseCheckBox, self.ui.exportButton):
            widget.setEnabled(ready)

    def askFolder(self, text: str) -> Path | None:
        """Says what is not known of the DICOM images, and asks for their folder; None if the user has none."""
        question = _("{text}\n\nChoose the folder now?").format(text=text)
        if not slicer.util.confirmOkCancelDisplay(question, windowTitle=_("DINSegment")):
            return None
        title = _("Folder of the DICOM series")
        chosen = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title, "")
        return Path(chosen) if chosen else None

    def _saveFolder(self, path: str) -> None:
        settings = qt.QSettings()
        settings.setValue(FOLDER_SETTING, path)
