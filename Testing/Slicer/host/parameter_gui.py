"""Which widgets show which parameters, as the application connects them."""

from __future__ import annotations

import enum
import math
import pathlib
from collections.abc import Callable
from typing import Any

import ctk
import qt
import slicer

from host.parameter_node_wrapper import (
    Choice,
    Decimals,
    Maximum,
    Minimum,
    SingleStep,
    WithinRange,
    findFirstAnnotation,
    getNodeTypes,
    isNodeOrUnionOfNodes,
    splitAnnotations,
)


class Connector:
    """A widget that shows one parameter."""

    def __init__(
        self,
        signal: Any,
        read: Callable[[], Any],
        write: Callable[[Any], None],
    ) -> None:
        self._signal = signal
        self.read = read
        self.write = write
        self._changed: Callable[[], None] | None = None

    def connect(self, changed: Callable[[], None]) -> None:
        if self._signal is not None:
            self._changed = changed
            self._signal.connect(changed)

    def disconnect(self) -> None:
        if self._changed:
            self._signal.disconnect(self._changed)
            self._changed = None


def create_connector(widget: Any, datatype: Any) -> Connector:
    """The connector for a widget of just this class; RuntimeError where the application has none."""
    kind, annotations = splitAnnotations(datatype)
    widget_class = type(widget)
    if kind is bool and widget_class in (qt.QCheckBox, ctk.ctkCheckBox):
        return _property(widget, "checked", widget.stateChanged)
    if kind is bool and widget_class in (qt.QPushButton, ctk.ctkCheckablePushButton):
        if not getattr(widget, "checkBoxControlsButtonToggleState", False):
            widget.checkable = True
        return _property(widget, "checked", widget.toggled)
    if kind is int and widget_class in (qt.QSlider, qt.QSpinBox):
        _limit(widget, annotations, -(2**31), 2**31 - 1, widget_class is qt.QSlider)
        return _property(widget, "value", widget.valueChanged)
    if kind in (int, float) and widget_class in (qt.QDoubleSpinBox, ctk.ctkSliderWidget):
        if kind is int:
            widget.decimals = 0
        _limit(widget, annotations, -math.inf, math.inf, widget_class is ctk.ctkSliderWidget)
        return _property(widget, "value", widget.valueChanged, kind)
    if widget_class in (qt.QComboBox, ctk.ctkComboBox):
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            label = getattr(kind, "label", lambda item: item.name)
            return _items(widget, [(label(item), item) for item in kind])
        if kind in (int, float, str, bool):
            choice = findFirstAnnotation(annotations, Choice)
            if choice is None:
                raise RuntimeError("A combo box needs the choices of its parameter: annotate it with Choice.")
            return _items(widget, [(str(item), item) for item in choice.choices])
    if kind is str and widget_class is qt.QLineEdit:
        return Connector(widget.textChanged, lambda: widget.text, lambda value: _write_text(widget, value))
    if kind is str and widget_class is qt.QLabel:
        return _property(widget, "text", None)
    if kind is str and widget_class is qt.QTextEdit:
        return Connector(widget.textChanged, lambda: widget.toPlainText(), lambda value: widget.setPlainText(value))
    if isinstance(kind, type) and issubclass(kind, pathlib.PurePath):
        if widget_class is ctk.ctkPathLineEdit:
            return _property(widget, "currentPath", widget.currentPathChanged, kind, str)
        if widget_class is ctk.ctkDirectoryButton:
            return _property(widget, "directory", widget.directoryChanged, kind, str)
    if widget_class is slicer.qMRMLNodeComboBox and isNodeOrUnionOfNodes(datatype):
        widget.nodeTypes = getNodeTypes(datatype)
        return Connector(
            widget.currentNodeChanged, lambda: widget.currentNode(), lambda value: widget.setCurrentNode(value)
        )
    raise RuntimeError(f"A parameter of type {datatype} cannot be connected to a {widget_class.__name__}.")


def _property(
    widget: Any,
    name: str,
    signal: Any,
    read: Callable[[Any], Any] = lambda value: value,
    write: Callable[[Any], Any] = lambda value: value,
) -> Connector:
    return Connector(signal, lambda: read(getattr(widget, name)), lambda value: setattr(widget, name, write(value)))


def _limit(widget: Any, annotations: tuple[Any, ...], lowest: float, highest: float, must_be_bounded: bool) -> None:
    decimals = findFirstAnnotation(annotations, Decimals)
    if decimals is not None:
        widget.decimals = decimals.value
    step = findFirstAnnotation(annotations, SingleStep)
    if step is not None:
        widget.singleStep = step.value
    within = findFirstAnnotation(annotations, WithinRange)
    minimum = findFirstAnnotation(annotations, Minimum)
    maximum = findFirstAnnotation(annotations, Maximum)
    if must_be_bounded and within is None and (minimum is None or maximum is None):
        raise RuntimeError("A slider needs the range of its parameter: annotate it with WithinRange.")
    widget.minimum = within.minimum if within else minimum.minimum if minimum else lowest
    widget.maximum = within.maximum if within else maximum.maximum if maximum else highest


def _items(widget: Any, items: list[tuple[str, Any]]) -> Connector:
    selected = max(widget.currentIndex, 0)
    widget.clear()
    for text, _item in items:
        widget.addItem(text)
    widget.currentIndex = min(selected, len(items) - 1)

    def write(value: Any) -> None:
        for index, (_text, item) in enumerate(items):
            if item == value:
                widget.currentIndex = index
                return
        raise ValueError(f"The value {value!r} is none of the choices.")

    return Connector(widget.currentIndexChanged, lambda: items[widget.currentIndex][1], write)


def _write_text(widget: Any, value: str) -> None:
    if value != widget.text:  # Else the cursor would jump to the end while the user types.
        widget.text = value
