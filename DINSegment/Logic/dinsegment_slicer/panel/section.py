"""What all sections of the panel have in common: how they learn of what happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dinsegment_slicer.signal import Signal

if TYPE_CHECKING:  # The application alone has what they are made of.
    from dinsegment_slicer.panel.parameters import DINSegmentParameters
    from dinsegment_slicer.panel.result import Measurement
    from dinsegment_slicer.running.controller import Controller


class Section:
    """A part of the panel. The panel calls the methods below of each section, which has its own of those that it needs.

    `message` is emitted with a text for the user and whether it is an error; the panel shows it.

    Args:
        ui: The panel's widgets by name.
    """

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self.message = Signal()
        self._parameters: DINSegmentParameters | None = None

    def setParameters(self, parameters: DINSegmentParameters | None) -> None:
        """Follows another parameter node from now on, or none."""
        self._parameters = parameters
        self.update()

    def update(self) -> None:
        """Shows the parameter node, which has changed."""

    def showState(self, controller: Controller) -> None:
        """Shows what the controller does: a run began, went on or ended, or something is said."""

    def onMeasured(self, measurement: Measurement | None) -> None:
        """The result was measured: a new one, or one that was corrected; None where there is none any more."""

    def stop(self) -> None:
        """Ends what goes on: the scene is closed, or the panel."""

    def close(self) -> None:
        """Gives back what is held: the panel is closed."""
