"""The panel's choice of structures: a menu with all segments of all tasks, of which the user unchecks some."""

from __future__ import annotations

from typing import Any

import qt

from dinsegment.tasks import TASKS, Task
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.panel.section import Section
from dinsegment_slicer.running.controller import Controller


class StructuresSection(Section):
    """Keeps the names of the segments that are not wanted in the parameter node.

    Args:
        ui: The panel's widgets by name.
    """

    def __init__(self, ui: Any) -> None:
        super().__init__(ui)
        self._actions: dict[str, Any] = {}
        self._updating = False
        self._menu = qt.QMenu(ui.structuresButton)
        for task in TASKS.values():
            self._menu.addSection(_(task.title))
            for segment in task.segments:
                action = self._menu.addAction(_(segment.name))
                action.setCheckable(True)
                action.toggled.connect(self._onToggled)
                self._actions[segment.name] = action
        self._menu.addSeparator()
        self._menu.addAction(_("All")).triggered.connect(self._onAll)
        ui.structuresButton.setMenu(self._menu)

    def update(self) -> None:
        """Shows the parameters."""
        unwanted = set(self._parameters.unwanted) if self._parameters is not None else set()
        self._updating = True
        for name, action in self._actions.items():
            action.setChecked(name not in unwanted)
        self._updating = False
        wanted = [name for name in self._actions if name not in unwanted]
        every = len(wanted) == len(self._actions)
        some = _("{count} of {all}").format(count=len(wanted), all=len(self._actions))
        self.ui.structuresButton.setText(_("All") if every else some)

    def showState(self, controller: Controller) -> None:
        """Lets nothing be chosen while a run goes on."""
        self.ui.structuresButton.setEnabled(not controller.busy)

    def wanted(self, task: Task) -> list[str] | None:
        """Names of the wanted segments of a task; None for all of them."""
        unwanted = set(self._parameters.unwanted) if self._parameters is not None else set()
        names = [segment.name for segment in task.segments if segment.name not in unwanted]
        return None if len(names) == len(task.segments) else names

    def _onToggled(self, _checked: bool) -> None:
        if self._parameters is None or self._updating:
            return
        self._parameters.unwanted = [name for name, action in self._actions.items() if not action.checked]

    def _onAll(self, _checked: bool = False) -> None:
        if self._parameters is not None:
            self._parameters.unwanted = []
