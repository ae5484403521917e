"""The panel's section with the enhanced image: its parameters, and a preview that follows them at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dinsegment.enhancement.methods import Enhancement, available_methods
from dinsegment.errors import DINSegmentError
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.panel.parameters import DINSegmentParameters
from dinsegment_slicer.panel.result import ResultNodes
from dinsegment_slicer.panel.section import Section
from dinsegment_slicer.panel.timers import timer
from dinsegment_slicer.scene.preview import EnhancementPreview
from dinsegment_slicer.signal import Signal

PUBLISHED = Enhancement("fuzzy", {"m": 2, "n": 2, "gamma": 1.0})
"""Three by three windows, as in the DIN paper, and as the models that ship were trained with."""


def enhancement_of(parameters: DINSegmentParameters) -> Enhancement:
    """The enhancement that the parameter node describes."""
    if parameters.method != "fuzzy":
        return Enhancement(parameters.method)
    options = {"m": parameters.windowsX - 1, "n": parameters.windowsY - 1, "gamma": parameters.gamma}
    return Enhancement("fuzzy", options)


class EnhancementSection(Section):
    """Keeps the enhanced images in step with the parameters. `shown` is emitted once the user asked for one.

    Args:
        ui: The panel's widgets by name.
        currentSlice: Says which slice is in view.
    """

    def __init__(self, ui: Any, currentSlice: Callable[[], int]) -> None:
        super().__init__(ui)
        self.shown = Signal()
        self._currentSlice = currentSlice
        self._preview = EnhancementPreview()
        self._shown: Enhancement | None = None
        self._timer = timer(0, self._step)
        titles = {
            "fuzzy": _("Fuzzy enhancement"),
            "histogram-equalization": _("Histogram equalisation"),
            "clahe": _("CLAHE"),
            "none": _("None"),
        }
        for method in available_methods():
            ui.methodComboBox.addItem(titles.get(method, method), method)
        ui.methodComboBox.currentTextChanged.connect(self._onMethodChanged)
        ui.resetEnhancementButton.clicked.connect(self._onReset)
        ui.showEnhancedButton.clicked.connect(self._onShowEnhanced)

    def setParameters(self, parameters: DINSegmentParameters | None) -> None:
        """Follows another parameter node from now on, or none."""
        self.stop()
        self._shown = enhancement_of(parameters) if parameters else None
        super().setParameters(parameters)

    def update(self) -> None:
        """Shows the parameters, and begins to recompute the images if they changed."""
        parameters = self._parameters
        if parameters is None:
            return
        self.ui.methodComboBox.setCurrentIndex(self.ui.methodComboBox.findData(parameters.method))
        for widget in (self.ui.windowsXSpinBox, self.ui.windowsYSpinBox, self.ui.gammaSlider):
            widget.setEnabled(parameters.method == "fuzzy")
        enhancement = enhancement_of(parameters)
        if enhancement != self._shown:
            self._shown = enhancement
            self.recompute()

    def onNewImages(self) -> None:
        """The worker made images with the model's own enhancement: recomputes them if the user chose another one."""
        if self._parameters is not None and enhancement_of(self._parameters) != PUBLISHED:
            self.recompute()

    def recompute(self) -> None:
        """Makes the slice in view now, and the rest while the window is idle."""
        # A scene from elsewhere may ask for a method that cannot be used here.
        if self._parameters is not None and self._parameters.method in available_methods():
            images = ResultNodes(self._parameters).enhancedImages()
            self._preview.begin(images, enhancement_of(self._parameters), self._currentSlice())
            self._timer.start()

    def stop(self) -> None:
        """Leaves the images as they are."""
        self._timer.stop()
        self._preview.stop()

    def _step(self) -> None:
        if not self._preview.step():
            self._timer.stop()

    def _onMethodChanged(self, _text: str) -> None:
        method = self.ui.methodComboBox.itemData(self.ui.methodComboBox.currentIndex)
        if self._parameters is not None and method:
            self._parameters.method = method

    def _onShowEnhanced(self, _checked: bool = False) -> None:
        if self._parameters is None:
            return
        try:
            ResultNodes(self._parameters).addEnhanced()
        except DINSegmentError as error:
            self.message.emit(str(error), True)
            return
        self._parameters.sideBySide = True
        self.recompute()
        self.shown.emit()

    def _onReset(self, _checked: bool = False) -> None:
        if self._parameters is not None:
            self._parameters.method = PUBLISHED.method
            self._parameters.windowsX = PUBLISHED.parameters["m"] + 1
            self._parameters.windowsY = PUBLISHED.parameters["n"] + 1
            self._parameters.gamma = PUBLISHED.parameters["gamma"]
