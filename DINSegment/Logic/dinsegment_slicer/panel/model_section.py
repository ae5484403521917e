"""The panel's section with the model: which one, what it was trained on, where its weights come from."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import qt
import slicer

from dinsegment.errors import DINSegmentError, InputError
from dinsegment.models.entries import LIST, ModelEntry, find_entry, read_entries
from dinsegment.models.settings import (
    CACHE_VARIABLE,
    HUB_VARIABLE,
    OFFLINE_FOLDER_VARIABLE,
    OFFLINE_VARIABLE,
    WeightsSettings,
)
from dinsegment.models.weights import import_weights
from dinsegment.tasks import TASKS, Task
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.panel.dialogs import ask_file, ask_folder
from dinsegment_slicer.panel.model_card import model_card
from dinsegment_slicer.panel.parameters import DINSegmentParameters
from dinsegment_slicer.panel.section import Section
from dinsegment_slicer.running.controller import Controller
from dinsegment_slicer.scene.edits import model_gone, model_name

SETTINGS = {
    "mirrorEdit": ("DINSegment/Mirror", HUB_VARIABLE),
    "cacheEdit": ("DINSegment/CacheFolder", CACHE_VARIABLE),
    "offlineEdit": ("DINSegment/OfflineFolder", OFFLINE_FOLDER_VARIABLE),
    "offlineCheckBox": ("DINSegment/NeverDownload", OFFLINE_VARIABLE),
}
"""Widget, key in the application's settings, and the environment variable that tells the worker."""

RUNS_SETTING = "DINSegment/TrainingRuns"
"""Folders of runs that the panel itself has trained."""


class ModelSection(Section):
    """Model, device and weights.

    Args:
        ui: The panel's widgets by name.
    """

    def __init__(self, ui: Any) -> None:
        super().__init__(ui)
        self._entries: list[ModelEntry] = []
        self._fillDevices()
        self._loadSettings()
        ui.modelComboBox.currentTextChanged.connect(self._onModelChanged)
        ui.deviceComboBox.currentTextChanged.connect(self._onDeviceChanged)
        ui.importWeightsButton.clicked.connect(self._onImport)
        ui.modelFolderButton.clicked.connect(self._onFolder)
        ui.mirrorEdit.editingFinished.connect(self._saveSettings)
        ui.cacheEdit.currentPathChanged.connect(self._saveSettings)
        ui.offlineEdit.currentPathChanged.connect(self._saveSettings)
        ui.offlineCheckBox.toggled.connect(self._saveSettings)

    def setParameters(self, parameters: DINSegmentParameters | None) -> None:
        """Follows another parameter node from now on, or none."""
        self._readModels()
        super().setParameters(parameters)

    def update(self) -> None:
        """Shows the parameters."""
        if self._parameters is None:
            return
        combo = self.ui.modelComboBox
        if self._parameters.model and combo.findData(self._parameters.model) < 0 and self._chosen() is not None:
            combo.addItem(self._chosen().name, self._parameters.model)  # A folder, from a scene that was saved with it.
        combo.setCurrentIndex(max(0, combo.findData(self._parameters.model)))
        self.ui.deviceComboBox.setCurrentIndex(max(0, self.ui.deviceComboBox.findData(self._parameters.device)))
        self._showCard()

    def showState(self, controller: Controller) -> None:
        """Lets nothing be chosen while a run goes on."""
        self.ui.modelComboBox.setEnabled(not controller.busy)
        self.ui.deviceComboBox.setEnabled(not controller.busy)

    def modelFor(self, task: Task) -> str | None:
        """The model that the user chose, if it is one for this task; else None, the task's first."""
        entry = self._chosen()
        return self._parameters.model if entry is not None and entry.task == task.name else None

    def named(self, name: str) -> str | None:
        """How a model is asked for that is called so, as segments' tags say it: its name in weights.json, or a folder.

        The folder is that of a training run, the one that is chosen before those that are offered. None where there is
        no such model any more.
        """
        chosen = self._chosen()
        if chosen is not None and chosen.name == name:
            return self._parameters.model
        if any(entry.name == name for entry in self._entries):
            return name
        for run in _runs():
            with suppress(DINSegmentError):  # It was removed, or is damaged.
                if find_entry(run, None).name == name:
                    return run
        return None

    def thatMade(self, segmentationNode: slicer.vtkMRMLSegmentationNode, task: Task) -> str | None:
        """How the model is asked for that made a segmentation, as `named`; the one for the task where none is known.

        Raises:
            InputError: It is not there any more.
        """
        name = model_name(segmentationNode)
        if name is None:
            return self.modelFor(task)
        model = self.named(name)
        if model is None:
            raise InputError(model_gone(name))
        return model

    def thatTellsUnexpected(self, segmentationNode: slicer.vtkMRMLSegmentationNode, task: Task) -> str | None:
        """How a model is asked for that tells what it did not expect in images of a task.

        The one that made the segmentation comes before others of its task; None where there is none.
        """
        with suppress(DINSegmentError):  # What made it is not there any more.
            model = self.thatMade(segmentationNode, task)
            if find_entry(model, task).maps:
                return model or find_entry(model, task).name
        return next((entry.name for entry in self._entries if entry.task == task.name and entry.maps), None)

    def offer(self, folder: Path) -> None:
        """Adds a training run to the models that can be chosen, in this scene and in later ones."""
        runs = [str(folder), *(run for run in _runs() if run != str(folder))]
        settings = qt.QSettings()
        settings.setValue(RUNS_SETTING, runs)
        self._readModels()
        self.update()

    def environment(self) -> dict[str, str]:
        """What the worker is told by environment variables; a setting that is empty says nothing."""
        values = {variable: str(self._setting(key)) for key, variable in SETTINGS.values() if self._setting(key)}
        if OFFLINE_VARIABLE in values:
            values[OFFLINE_VARIABLE] = "1"
        return values

    def _settings(self) -> WeightsSettings:
        return WeightsSettings.from_environment({**os.environ, **self.environment()})

    def _fillDevices(self) -> None:
        apple = sys.platform == "darwin"
        graphics = ("mps", _("Apple graphics (MPS)")) if apple else ("cuda", _("NVIDIA graphics card (CUDA)"))
        for device, title in (("auto", _("Automatic")), ("cpu", _("Processor (CPU)")), graphics):
            self.ui.deviceComboBox.addItem(title, device)

    def _readModels(self) -> None:
        try:
            # What only tells another model stands in that one's card.
            self._entries = [entry for entry in read_entries() if entry.task in TASKS]
        except DINSegmentError as error:
            self._entries = []
            self.message.emit(str(error), True)
        combo = self.ui.modelComboBox
        blocked = combo.blockSignals(True)
        combo.clear()
        combo.addItem(_("The best for each task"), "")
        for entry in self._entries:
            combo.addItem(entry.name, entry.name)
        for run in _runs():
            with suppress(DINSegmentError):  # It was removed, or is damaged.
                combo.addItem(find_entry(run, None).name, run)
        combo.blockSignals(blocked)

    def _showCard(self) -> None:
        chosen = self._chosen()
        cards = [chosen] if chosen is not None else self._firsts()
        self.ui.modelCard.setText("".join(model_card(entry, self._settings()) for entry in cards))

    def _chosen(self) -> ModelEntry | None:
        """The model that the parameter node names, by its name or by the folder of a training run; None for neither."""
        name = self._parameters.model if self._parameters is not None else ""
        if not name:
            return None
        try:
            return find_entry(name, None)
        except DINSegmentError:
            return None

    def _firsts(self) -> list[ModelEntry]:
        """The first model of each task, which is what the task takes by itself."""
        firsts: dict[str, ModelEntry] = {}
        for entry in self._entries:
            firsts.setdefault(entry.task, entry)
        return list(firsts.values())

    def _onModelChanged(self, _text: str) -> None:
        if self._parameters is not None:
            self._parameters.model = self.ui.modelComboBox.itemData(self.ui.modelComboBox.currentIndex) or ""

    def _onDeviceChanged(self, _text: str) -> None:
        if self._parameters is not None:
            self._parameters.device = self.ui.deviceComboBox.itemData(self.ui.deviceComboBox.currentIndex) or "auto"

    def _onFolder(self, _checked: bool = False) -> None:
        folder = ask_folder(_("Folder of a training run"))
        if folder is None or self._parameters is None:
            return
        chosen = str(folder)
        if not (folder / LIST).is_file():
            text = _("'{folder}' holds no model: choose a folder that dinsegment train has written.")
            self.message.emit(text.format(folder=chosen), True)
            return
        try:
            entry = find_entry(chosen, None)
        except DINSegmentError as error:
            self.message.emit(str(error), True)
            return
        if self.ui.modelComboBox.findData(chosen) < 0:
            self.ui.modelComboBox.addItem(entry.name, chosen)
        self._parameters.model = chosen

    def _onImport(self, _checked: bool = False) -> None:
        path = ask_file(_("Import weights"), _("Weights (*.safetensors)"))
        if path is None:
            return
        try:
            entry = import_weights(path, settings=self._settings())
        except DINSegmentError as error:
            self.message.emit(str(error), True)
            return
        self.message.emit(_("The weights of '{name}' were imported.").format(name=entry.name), False)
        self._showCard()

    def _setting(self, key: str) -> Any:
        return slicer.util.settingsValue(key, "") if key != "DINSegment/NeverDownload" else self._neverDownload()

    def _neverDownload(self) -> bool:
        return slicer.util.settingsValue("DINSegment/NeverDownload", False, converter=slicer.util.toBool)

    def _loadSettings(self) -> None:
        self.ui.mirrorEdit.setText(self._setting("DINSegment/Mirror"))
        self.ui.cacheEdit.setCurrentPath(self._setting("DINSegment/CacheFolder"))
        self.ui.offlineEdit.setCurrentPath(self._setting("DINSegment/OfflineFolder"))
        self.ui.offlineCheckBox.setChecked(self._neverDownload())

    def _saveSettings(self, _value: Any = None) -> None:
        settings = qt.QSettings()
        settings.setValue("DINSegment/Mirror", self.ui.mirrorEdit.text.strip())
        settings.setValue("DINSegment/CacheFolder", self.ui.cacheEdit.currentPath)
        settings.setValue("DINSegment/OfflineFolder", self.ui.offlineEdit.currentPath)
        settings.setValue("DINSegment/NeverDownload", self.ui.offlineCheckBox.checked)
        self._showCard()  # Weights may be at hand now, or not any more.


def _runs() -> list[str]:
    """Folders of training runs that are offered."""
    settings = qt.QSettings()
    found = settings.value(RUNS_SETTING, [])
    return [found] if isinstance(found, str) else [str(run) for run in found or ()]  # A list of one comes back as text.
