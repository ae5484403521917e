"""A button for each task that there is, made from the task's own data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt

from dinsegment.tasks import TASKS, Task
from dinsegment_slicer.i18n import tr as _

COLUMNS = 2
HEIGHT = 48
ICON = 32
"""Pixels."""


def add_task_buttons(ui: Any, icon: Callable[[str], str], clicked: Callable[[Task], None]) -> dict[str, Any]:
    """Adds a button for each task to the form, two beside each other, in the order of the tasks.

    Args:
        ui: The panel's widgets by name; each button joins them, as `segmentHeartButton` does for the task heart.
        icon: Gives the path of an icon of the module; there need not be such a file.
        clicked: Is called with the task.

    Returns:
        The buttons, by the names of their tasks.
    """
    buttons = {}
    previous = ui.wholeSequenceButton
    for number, task in enumerate(TASKS.values()):
        button = qt.QPushButton(ui.taskFrame)
        button.objectName = f"segment{''.join(part.capitalize() for part in task.name.split('-'))}Button"
        button.setText(_title(task))
        button.setMinimumHeight(HEIGHT)
        button.setIconSize(qt.QSize(ICON, ICON))
        path = icon(f"{task.icon}.png")
        if task.icon and Path(path).is_file():
            button.setIcon(qt.QIcon(path))
        button.clicked.connect(lambda _checked=False, task=task: clicked(task))
        ui.taskFrame.layout().addWidget(button, number // COLUMNS, number % COLUMNS)
        qt.QWidget.setTabOrder(previous, button)
        previous = button
        setattr(ui, button.objectName, button)
        buttons[task.name] = button
    qt.QWidget.setTabOrder(previous, ui.cancelButton)
    return buttons


def _title(task: Task) -> str:
    """What the button says; `&` stands before the letter that works with Alt."""
    text = _("Segment {task}").format(task=_(task.title).lower())
    place = text.lower().rfind(task.key.lower()) if task.key else -1
    if task.key and task.key.lower() in task.title.lower():
        place = len(text) - len(task.title) + task.title.lower().index(task.key.lower())
    return f"{text[:place]}&{text[place:]}" if place >= 0 else text
