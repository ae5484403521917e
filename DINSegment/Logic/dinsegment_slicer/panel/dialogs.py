"""Questions that the panel asks in a window of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
import slicer

from dinsegment_slicer.i18n import tr as _


def ask(question: str) -> bool:
    """Whether the user agrees."""
    return bool(slicer.util.confirmOkCancelDisplay(question, windowTitle=_("DINSegment")))


def ask_source_folder(text: str) -> Path | None:
    """Says what is not known of the DICOM images, and asks for their folder; None if the user has none."""
    if not ask(_("{text}\n\nChoose the folder now?").format(text=text)):
        return None
    return ask_folder(_("Folder of the DICOM series"))


def ask_folder(title: str, start: str = "") -> Path | None:
    """A folder that is there; None if the user chose none. The search begins in `start`."""
    chosen = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title, start)
    return Path(chosen) if chosen else None


def ask_file(title: str, kinds: str) -> Path | None:
    """A file that is there, of the kinds that a filter names; None if the user chose none."""
    return _path(qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), title, "", kinds))


def ask_new_file(title: str, name: str, kinds: str) -> Path | None:
    """Where to save a file, which is proposed to be called `name`; None if the user chose nothing."""
    return _path(qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), title, name, kinds))


def _path(answer: Any) -> Path | None:
    path = answer[0] if isinstance(answer, tuple) else answer  # PySide answers with the chosen filter, too.
    return Path(path) if path else None
