"""Dialogs that wait for the user: recorded, and answered by the test at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from PySide6 import QtWidgets

from host.proxies import answer_modal, unwrap

_STATIC_BUTTONS = ("question", "information", "warning", "critical", "about", "aboutQt")
_FILES = (
    "getExistingDirectory",
    "getOpenFileName",
    "getOpenFileNames",
    "getSaveFileName",
)
_INPUTS = ("getText", "getItem", "getInt", "getDouble", "getMultiLineText")


@dataclasses.dataclass(frozen=True)
class Message:
    """What was shown to the user."""

    kind: str
    """`information`, `question`, `warning`, `critical`, `dialog`, or the name of a static method such as getText."""
    text: str
    title: str = ""
    details: str = ""
    buttons: tuple[str, ...] = ()


class Dialogs:
    """Records messages; answers with what was queued, else by the button that agrees, else as a user who cancels."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._answers: list[Any] = []
        answer_modal(["exec", "exec_", *_STATIC_BUTTONS, *_FILES, *_INPUTS], self._answer)

    def answer(self, *answers: Any) -> None:
        """Queues answers for the dialogs to come: names of buttons ("Cancel"), file names, texts."""
        self._answers += answers

    def close(self) -> list[Any]:
        """Forgets everything; the answers that nobody asked for."""
        left, self._answers, self.messages = self._answers, [], []
        return left

    def _answer(self, dialog: Any, name: str, arguments: tuple[Any, ...]) -> Any:
        if name in _FILES or name in _INPUTS:
            title, text = (str(item) for item in (*arguments[1:3], "", "")[:2])
            self.messages.append(Message(name, text, title))
            default = () if name == "getOpenFileNames" else ""
            return self._answers.pop(0) if self._answers else default
        if name in _STATIC_BUTTONS:
            title, text = (str(item) for item in (*arguments[1:3], "", "")[:2])
            offered = unwrap(arguments[3]) if len(arguments) > 3 else _button("Yes") | _button("No")
            offered = offered if name == "question" or len(arguments) > 3 else _button("Ok")
            return self._choose(Message(name, text, title, "", tuple(_names(offered))))
        if isinstance(dialog, QtWidgets.QMessageBox):
            kind = dialog.icon().name.lower()
            text = "\n\n".join(filter(None, (dialog.text(), dialog.informativeText())))
            buttons = tuple(_names(dialog.standardButtons())) or ("Ok",)
            return self._choose(Message(kind, text, dialog.windowTitle().strip(), dialog.detailedText() or "", buttons))
        text = "\n".join(label.text() for label in dialog.findChildren(QtWidgets.QLabel))
        self.messages.append(Message("dialog", text, dialog.windowTitle()))
        answer = self._answers.pop(0) if self._answers else "Rejected"
        return QtWidgets.QDialog.DialogCode[answer]

    def _choose(self, message: Message) -> QtWidgets.QMessageBox.StandardButton:
        self.messages.append(message)
        if self._answers:
            answer = self._answers.pop(0)
        else:
            answer = next((name for name in ("Ok", "Yes", "Close") if name in message.buttons), message.buttons[0])
        assert answer in message.buttons, f"The dialog '{message.text}' offers {message.buttons}, not '{answer}'."
        return _button(answer)


def _button(name: str) -> QtWidgets.QMessageBox.StandardButton:
    return QtWidgets.QMessageBox.StandardButton[name]


def _names(buttons: QtWidgets.QMessageBox.StandardButton) -> Iterator[str]:
    named = (
        "Ok",
        "Open",
        "Save",
        "Cancel",
        "Close",
        "Discard",
        "Apply",
        "Reset",
        "Yes",
        "No",
        "Retry",
        "Ignore",
        "Abort",
    )
    return (name for name in named if buttons & _button(name))
