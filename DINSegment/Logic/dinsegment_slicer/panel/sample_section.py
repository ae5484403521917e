"""The panel's button that adds a generated image: in a process of its own, while the window answers."""

from __future__ import annotations

from typing import Any

import qt
import slicer

from dinsegment.errors import Cancelled, DINSegmentError
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.panel.section import Section
from dinsegment_slicer.panel.timers import timer
from dinsegment_slicer.running.controller import Controller
from dinsegment_slicer.running.states import State
from dinsegment_slicer.scene.sample_data import Phantom, PhantomSteps, phantom_steps, phantoms
from dinsegment_slicer.signal import Signal

INTERVAL_MS = 50


class SampleSection(Section):
    """Offers all samples that are generated. `added` is emitted with the volume or sequence.

    Args:
        ui: The panel's widgets by name.
    """

    def __init__(self, ui: Any) -> None:
        super().__init__(ui)
        self.added = Signal()
        self._title = ui.sampleDataButton.text
        self._phantom: Phantom | None = None
        self._steps: PhantomSteps | None = None
        self._timer = timer(INTERVAL_MS, self._step)
        self._menu = qt.QMenu(ui.sampleDataButton)
        for phantom in phantoms():
            action = self._menu.addAction(_(phantom.sample))
            action.triggered.connect(lambda _checked=False, phantom=phantom: self.begin(phantom))
        ui.sampleDataButton.setMenu(self._menu)

    @property
    def busy(self) -> bool:
        """An image is being generated."""
        return self._steps is not None

    def showState(self, controller: Controller) -> None:
        """Offers samples where no image is chosen."""
        self.ui.sampleDataButton.setVisible(controller.state is State.NO_INPUT or self.busy)

    def begin(self, phantom: Phantom) -> None:
        """Begins to generate a sample, unless one is under way."""
        if self._steps is not None:
            return
        self._phantom, self._steps = phantom, phantom_steps(phantom, slicer.mrmlScene)
        self.ui.sampleDataButton.setEnabled(False)
        self._step()
        self._timer.start()

    def stop(self) -> None:
        """Gives up what is under way; nothing of it is left."""
        self._timer.stop()
        steps, self._steps = self._steps, None
        if steps is not None:
            steps.close()
        self.ui.sampleDataButton.setText(self._title)
        self.ui.sampleDataButton.setEnabled(True)

    def _step(self) -> None:
        if self._steps is None:
            return
        try:
            done = next(self._steps)
        except StopIteration as end:
            self.stop()
            self.added.emit(end.value)
        except Cancelled:  # The scene was closed.
            self.stop()
        except DINSegmentError as error:
            self.stop()
            self.message.emit(str(error), True)
        except BaseException:
            self.stop()
            raise
        else:
            text = _("Generating image {number} of {count}")
            self.ui.sampleDataButton.setText(text.format(number=done + 1, count=self._phantom.images))
