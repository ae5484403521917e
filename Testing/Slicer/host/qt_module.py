"""The modules `qt` and `ctk`: PySide's classes and the stand-ins under the application's flat names."""

from __future__ import annotations

import functools
import types
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import slicer
from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

from host import ctk_widgets, mrml_widgets
from host.proxies import QtClass, api, qt_class, register_stand_in

STAND_INS = {widget.__name__: widget for widget in (*ctk_widgets.WIDGETS, *mrml_widgets.WIDGETS)}
for _name, _widget in STAND_INS.items():
    register_stand_in(_widget, f"{'ctk' if _name.startswith('ctk') else 'slicer'}.{_name}")


class UiLoader(QtUiTools.QUiLoader):
    """Loads .ui files that contain the application's widgets."""

    def __init__(self, parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        self._made: list[QtWidgets.QWidget] = []
        self._failures: list[Exception] = []

    def createWidget(
        self, class_name: str, parent: QtWidgets.QWidget | None = None, name: str = ""
    ) -> QtWidgets.QWidget | None:
        try:
            widget = self._stand_in(class_name, parent)
        except Exception as error:  # The form builder, in C++, would crash.
            self._failures.append(error)
            widget = QtWidgets.QWidget(parent)
        if widget is None:
            return super().createWidget(class_name, parent, name)
        widget.setObjectName(name)
        self._made.append(widget)  # The form builder holds only the C++ part until the form is complete.
        return widget

    def _stand_in(self, class_name: str, parent: QtWidgets.QWidget | None) -> QtWidgets.QWidget | None:
        if class_name in STAND_INS:
            return STAND_INS[class_name](parent)
        if class_name.startswith(("qMRML", "qSlicer", "ctk")):
            raise NotImplementedError(f"The host has no stand-in for {class_name}.")
        return None

    def load(self, device: QtCore.QIODevice, parent: QtWidgets.QWidget | None = None) -> QtWidgets.QWidget | None:
        form, connections, flags = _taken_apart(bytes(device.readAll()))
        buffer = QtCore.QBuffer()
        buffer.setData(form)
        buffer.open(QtCore.QIODevice.ReadOnly)
        widget = super().load(buffer, parent)
        self._made.clear()
        if self._failures:
            raise self._failures.pop(0)
        for connection in () if widget is None else connections:
            self._connect(widget, connection)
        for name, prop, value in flags:
            self._named(widget, name).setProperty(prop, value)
        return widget

    def _connect(self, form: QtWidgets.QWidget, connection: ET.Element) -> None:
        sender, receiver = (self._named(form, connection.findtext(end, "")) for end in ("sender", "receiver"))
        signal, slot = (connection.findtext(end, "").partition("(")[0] for end in ("signal", "slot"))
        getattr(sender, signal).connect(getattr(receiver, slot))

    def _named(self, form: QtWidgets.QWidget, name: str) -> QtCore.QObject:
        found = form if form.objectName() == name else form.findChild(QtCore.QObject, name)
        if found is None:
            raise RuntimeError(f"The form connects '{name}', which it does not contain.")
        return found


@functools.cache
def _taken_apart(text: bytes) -> tuple[bytes, tuple[ET.Element, ...], tuple[tuple[str, str, int], ...]]:
    """A form without its connections and the CTK widgets' own flags; these, and those as `_take_flags` gives them."""
    form = ET.fromstring(text)
    # Their arguments are VTK objects, which Qt's own string connections cannot pass here.
    connections = form.find("connections")
    if connections is not None:
        form.remove(connections)
    flags = tuple(_take_flags(form))
    return ET.tostring(form), tuple(() if connections is None else connections), flags


def _take_flags(form: ET.Element) -> Iterator[tuple[str, str, int]]:
    """Takes the CTK widgets' own flags out of the form: widget, property, value; they are named as QDir's filters."""
    for widget in form.iter("widget"):
        for element in widget.findall("property"):
            names = element.findtext("set", "")
            if names.startswith("ctk"):
                widget.remove(element)
                flags = [QtCore.QDir.Filter[name.rpartition("::")[2]].value for name in names.split("|")]
                yield widget.get("name"), element.get("name"), sum(set(flags))


class QtModule(types.ModuleType):
    """`import qt`: a class of any of Qt's modules that the application has."""

    def __getattr__(self, name: str) -> QtClass:
        if name.startswith("__"):
            raise AttributeError(name)
        if not api().has_class(f"qt.{name}"):
            raise AssertionError(f"The application's module qt has no '{name}'.")
        for module in (QtCore, QtGui, QtWidgets):
            native = UiLoader if name == "QUiLoader" else getattr(module, name, None)
            if native is not None:
                return qt_class(native)
        raise AttributeError(f"The host's module qt has no '{name}'.")


class CtkModule(types.ModuleType):
    """`import ctk`: the stand-ins for CTK's widgets."""

    def __getattr__(self, name: str) -> QtClass:
        if name.startswith("__"):
            raise AttributeError(name)
        if not api().has_class(f"ctk.{name}"):
            raise AssertionError(f"The application's module ctk has no '{name}'.")
        if name not in STAND_INS:
            raise AttributeError(f"The host has no stand-in for ctk.{name}.")
        return qt_class(STAND_INS[name])


def install_widget_classes() -> None:
    """Puts the MRML widgets' classes into `slicer`, where the application has them."""
    for widget in mrml_widgets.WIDGETS:
        setattr(slicer, widget.__name__, qt_class(widget))


register_stand_in(UiLoader, "qt.QUiLoader")
