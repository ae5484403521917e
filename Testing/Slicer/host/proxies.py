"""Qt objects as Python sees them in the application: properties are attributes, enums are ints, names are checked.

PySide's `true_property` is chosen for each importing module by its globals, so that every file which touches a widget
would have to be rewritten while it is loaded, and it checks no name. These proxies sit between instead: they read and
set a property where the object's meta-object has one, and first ask the list of the application's names.
"""

from __future__ import annotations

import ctypes
import enum
import functools
import itertools
import sys
import traceback
import types
import weakref
from collections.abc import Callable
from typing import Any

import shiboken6
from PySide6 import QtCore, QtWidgets

from host.api import Api, UnknownName

if sys.version_info < (3, 12):
    # PySide 6.12 gives up references to these that it does not own, which no longer matters where they are immortal;
    # before, a long run would end with "deallocating None".
    for _constant in (None, True, False):
        ctypes.c_ssize_t.from_address(id(_constant)).value += 1 << 40

_api = Api()
_classes: dict[type, QtClass] = {}
_proxies: weakref.WeakValueDictionary[int, QtProxy] = weakref.WeakValueDictionary()
_api_names: dict[type, str] = {}
_overloads: dict[tuple[type, str, str], int] = {}
# Signals that Qt 6 passes more arguments with than Qt 5's first overload, which is the one that `connect` takes.
_FIRST_OVERLOAD = {("QProcess", "finished"): 1}

made: weakref.WeakSet[QtCore.QObject] = weakref.WeakSet()
"""Timers and processes that Python made."""

errors: list[BaseException] = []
"""What slots, timers and observers raised; Qt itself would only print it."""


def api() -> Api:
    """The names that are checked against."""
    return _api


def use_api(new: Api) -> None:
    """Checks against other names from now on."""
    global _api
    _api = new


def register_stand_in(native: type, name: str) -> None:
    """Says what `native` is called in the application, such as `ctk.ctkSliderWidget`."""
    _api_names[native] = name


def api_name(native: type) -> str:
    """The application's name of a class: its own, or that of the first base that is listed."""
    return _api_names.get(native, f"qt.{native.__name__}")


class EnumValue(int):
    """A Qt enum's value as the application has it: an int."""

    member: enum.Enum

    def __new__(cls, member: enum.Enum) -> EnumValue:
        value = super().__new__(cls, member.value)
        value.member = member
        return value

    def _combined(self, other: object, operator: Callable[[Any, Any], Any]) -> int:
        if isinstance(other, EnumValue) and isinstance(other.member, type(self.member)):
            return EnumValue(operator(self.member, other.member))
        if isinstance(self.member, enum.Flag) and isinstance(other, int):
            return EnumValue(operator(self.member, type(self.member)(int(other))))
        return operator(int(self), int(other))

    def __or__(self, other: object) -> int:
        return self._combined(other, lambda a, b: a | b)

    def __and__(self, other: object) -> int:
        return self._combined(other, lambda a, b: a & b)

    def __xor__(self, other: object) -> int:
        return self._combined(other, lambda a, b: a ^ b)

    def __invert__(self) -> int:
        return EnumValue(~self.member) if isinstance(self.member, enum.Flag) else ~int(self)

    __ror__, __rand__, __rxor__ = __or__, __and__, __xor__

    def __repr__(self) -> str:
        return f"{self.member.name} ({int(self)})"


class QtClass(type):
    """A Qt class: called, it makes an object; its attributes are enums and static methods."""

    _native_type: type

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _api.check(api_name(cls._native_type), name)
        attribute = getattr(cls._native_type, name, None)
        if attribute is None:
            attribute = _enum_member(cls._native_type, name)
        if attribute is None:
            raise AttributeError(f"The host's {api_name(cls._native_type)} has no '{name}'.")
        return _wrap_attribute(attribute, cls._native_type, name)


class QtProxy(metaclass=QtClass):
    """An object of Qt, or a stand-in for one of the application's widgets."""

    __slots__ = ("__dict__", "__weakref__", "_native")
    _native_type: type = shiboken6.Shiboken.Object

    def __init__(self, *arguments: Any) -> None:
        native = self._native_type(*map(unwrap, arguments))
        object.__setattr__(self, "_native", native)
        if isinstance(native, QtCore.QObject):
            _proxies[shiboken6.getCppPointer(native)[0]] = self
        if isinstance(native, QtCore.QTimer | QtCore.QProcess):
            made.add(native)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        native = cls._native_type
        overridden = [name for name in vars(cls) if not name.startswith("_") and hasattr(native, name)]
        if overridden:
            raise TypeError(f"The host does not call what {cls.__name__} overrides: {', '.join(overridden)}.")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        native = self._native
        if isinstance(native, QtCore.QObject):
            name = "objectName" if name == "name" else name
            _api.check(api_name(type(native)), name)
            if name in _OBJECT_METHODS:
                return functools.partial(_OBJECT_METHODS[name], native)
            if _is_property(native, name):
                return wrap(_read(native, name))
        else:
            _api.check(api_name(type(native)), name)
            if name in ("delete", "className"):
                return functools.partial(_OBJECT_METHODS[name], native)
        try:
            attribute = getattr(native, name)
        except AttributeError:
            attribute = getattr(native, name.removesuffix("_"), None) or _enum_member(type(native), name)
            if attribute is None:
                raise AttributeError(f"The host's {api_name(type(native))} has no '{name}'.") from None
        return _wrap_attribute(attribute, native, name)

    def __setattr__(self, name: str, value: Any) -> None:
        native = self._native
        if isinstance(native, QtCore.QObject):
            name = "objectName" if name == "name" else name
            if _is_property(native, name):
                _api.check(api_name(type(native)), name)
                _write(native, name, unwrap(value))
                return
        if type(self) is not _classes.get(self._native_type):  # A Python subclass has attributes of its own.
            object.__setattr__(self, name, value)
            return
        raise UnknownName(f"{api_name(type(native))} has no property '{name}' to be set.")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QtProxy) and (self._native is other._native or self._native == other._native)

    def __hash__(self) -> int:
        return hash(self._native)

    def __bool__(self) -> bool:
        return True  # Not its length: PythonQt gives None for an object that does not exist.

    def __len__(self) -> int:
        return len(self._native)

    def __bytes__(self) -> bytes:
        return bytes(self._native)

    def __repr__(self) -> str:
        return f"<{api_name(type(self._native))} {self._native!r}>"


def qt_class(native: type) -> QtClass:
    """The class under which the module sees objects of `native`."""
    if native not in _classes:
        bases = tuple(qt_class(base) for base in native.__bases__ if issubclass(base, shiboken6.Shiboken.Object))
        namespace = {"_native_type": native, "__slots__": (), "__module__": api_name(native).split(".")[0]}
        _classes[native] = type.__new__(QtClass, native.__name__, bases or (QtProxy,), namespace)
    return _classes[native]


_PLAIN = frozenset((type(None), bool, int, float, str, bytes))
"""Of values that are the same in Qt and in Python, as most are."""


def wrap(value: Any) -> Any:
    """A value that comes from Qt, as the application's Python has it."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, enum.Enum):
        return EnumValue(value)
    if isinstance(value, list | tuple):
        return tuple(map(wrap, value))
    if isinstance(value, dict):
        return {key: wrap(item) for key, item in value.items()}
    if not isinstance(value, shiboken6.Shiboken.Object) or type(value) is shiboken6.Shiboken.Object:
        return value
    # One proxy for one object, so that `is` holds; values such as a size are copies anyway.
    is_object = isinstance(value, QtCore.QObject)
    if is_object and not shiboken6.isValid(value):
        return None
    pointer = shiboken6.getCppPointer(value)[0] if is_object else 0
    known = _proxies.get(pointer)
    if known is not None and known._native is value:
        return known
    proxy = object.__new__(qt_class(type(value)))
    object.__setattr__(proxy, "_native", value)
    if is_object:
        _proxies[pointer] = proxy
    return proxy


def unwrap(value: Any) -> Any:
    """A value that is handed to Qt."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, QtProxy):
        return value._native
    if isinstance(value, QtClass):
        return value._native_type
    if isinstance(value, EnumValue):
        return value.member
    if isinstance(value, list | tuple):
        return [unwrap(item) for item in value]
    if isinstance(value, types.FunctionType | types.MethodType | types.BuiltinMethodType | functools.partial):
        return guarded(value)
    return value


def guarded(function: Callable[..., Any], passed: int | None = None) -> Callable[..., Any]:
    """`function` for Qt to call: with wrapped arguments, and its errors kept.

    Args:
        function: What the module gave as a slot or callback.
        passed: How many arguments Qt passes; None where it does not say.
    """
    taken = _arguments_taken(function)

    def call(*arguments: Any) -> None:
        owner = getattr(function, "owner", None)
        if isinstance(owner, shiboken6.Shiboken.Object) and not shiboken6.isValid(owner):
            return  # As Qt itself does with a slot of what is gone.
        try:
            function(*map(wrap, arguments if taken is None else arguments[:taken]))
        except Exception as error:
            record(error)

    # PySide looks at the slot's signature: for *arguments it would leave out those that have a default.
    fixed = {
        0: lambda: call(),
        1: lambda a: call(a),
        2: lambda a, b: call(a, b),
        3: lambda a, b, c: call(a, b, c),
        4: lambda a, b, c, d: call(a, b, c, d),
    }
    return call if passed is None else fixed[passed]


def close_made() -> list[str]:
    """Stops the timers and processes that are left; the programs of the processes that still ran."""
    running = []
    for native in list(made):
        if shiboken6.isValid(native) and isinstance(native, QtCore.QTimer):
            native.stop()
        elif shiboken6.isValid(native) and not native.waitForFinished(2000) and native.state().value:
            running.append(native.program())
            native.kill()
            native.waitForFinished()
    made.clear()
    return running


def record(error: BaseException) -> None:
    """Keeps an error that nobody can catch, and prints it as Qt would."""
    errors.append(error)
    traceback.print_exception(error, file=sys.stderr)


class Signal:
    """A signal of an object: `button.clicked.connect(f)`."""

    def __init__(self, native: QtCore.QObject, name: str, arguments: int | None = None) -> None:
        self._native = native
        self._name = name
        self._arguments = arguments

    def connect(self, slot: Callable[..., Any]) -> bool:
        if isinstance(slot, Signal):
            slot = slot.emit
        if not callable(slot):
            raise TypeError(f"A signal is connected to a function, not to {slot!r}.")
        # `signal.connect` takes the first overload, whole; a signature says itself what is passed.
        whole = self._arguments is None
        handler = guarded(slot, _first_overload(self._native, self._name) if whole else self._arguments)
        getattr(self._native, self._name).connect(handler)
        _slots(self._native).append((self._name, slot, handler))
        return True

    def disconnect(self, slot: Callable[..., Any] | None = None) -> bool:
        slots = _slots(self._native)
        found = [entry for entry in slots if entry[0] == self._name and (slot is None or entry[1] == slot)]
        for entry in found:
            getattr(self._native, self._name).disconnect(entry[2])
            slots.remove(entry)
        return bool(found)

    def emit(self, *arguments: Any) -> None:
        getattr(self._native, self._name).emit(*map(unwrap, arguments))

    __call__ = emit


def _first_overload(native: QtCore.QObject, name: str) -> int:
    """How many arguments the first signal of this name passes."""
    meta = native.metaObject()
    key = (type(native), meta.className(), name)
    if key not in _overloads:
        named = (_FIRST_OVERLOAD.get((base.__name__, name)) for base in type(native).__mro__)
        methods = (meta.method(index) for index in range(meta.methodCount()))
        passed = (method.parameterCount() for method in methods if bytes(method.name()).decode() == name)
        _overloads[key] = next(itertools.chain((given for given in named if given is not None), passed))
    return _overloads[key]


class _Slots:
    """What is connected to an object's signals; kept by the object itself."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, Callable[..., Any], Callable[..., Any]]] = []


def _slots(native: QtCore.QObject) -> list[tuple[str, Callable[..., Any], Callable[..., Any]]]:
    slots = native.property("_host_slots")
    if slots is None:
        slots = _Slots()
        native.setProperty("_host_slots", slots)
    return slots.entries


def _arguments_taken(function: Callable[..., Any]) -> int | None:
    """How many arguments PythonQt passes to a slot: all that a plain function names, defaults too; None for any."""
    code = getattr(function, "__code__", None)
    if code is None or code.co_flags & 4:
        return None
    return code.co_argcount - isinstance(function, types.MethodType)


def _wrap_attribute(attribute: Any, owner: Any, name: str) -> Any:
    if isinstance(attribute, QtCore.SignalInstance):
        return Signal(owner, name)
    if isinstance(attribute, type) and issubclass(attribute, enum.Enum):
        return attribute
    if callable(attribute) and not isinstance(attribute, shiboken6.Shiboken.Object):
        owner_type = owner if isinstance(owner, type) else type(owner)
        dialog = _modal.get(name) if issubclass(owner_type, QtWidgets.QDialog) else None
        if dialog:
            return lambda *arguments: wrap(dialog(owner, name, arguments))

        def method(*arguments: Any, **keywords: Any) -> Any:
            return wrap(attribute(*map(unwrap, arguments), **{key: unwrap(item) for key, item in keywords.items()}))

        method.__name__ = name
        method.owner = owner
        return method
    return wrap(attribute)


_modal: dict[str, Callable[[Any, str, tuple[Any, ...]], Any]] = {}


def answer_modal(names: list[str], answer: Callable[[Any, str, tuple[Any, ...]], Any]) -> None:
    """Has these methods of dialogs, which wait for the user, answered by `answer(dialog, name, arguments)`."""
    _modal.update(dict.fromkeys(names, answer))


@functools.cache
def _enum_member(native: type, name: str) -> enum.Enum | None:
    for base in native.__mro__:
        for attribute in vars(base).values():
            if isinstance(attribute, type) and issubclass(attribute, enum.Enum) and name in attribute.__members__:
                return attribute[name]
    return None


def _is_property(native: QtCore.QObject, name: str) -> bool:
    return native.metaObject().indexOfProperty(name) >= 0


def _read(native: QtCore.QObject, name: str) -> Any:
    for getter in (name, f"is{name[0].upper()}{name[1:]}"):
        value = getattr(native, getter, None)
        if value is not None and not callable(value):
            return value
        if value is not None:
            return value()
    return native.property(name)


def _write(native: QtCore.QObject, name: str, value: Any) -> None:
    if isinstance(getattr(type(native), name, None), QtCore.Property):
        setattr(native, name, value)
        return
    setter = getattr(native, f"set{name[0].upper()}{name[1:]}", None)
    if setter is not None:
        setter(value)
    elif not native.setProperty(name, value):
        raise ValueError(f"Property '{name}' of {api_name(type(native))} does not accept {value!r}.")


def _connect(native: QtCore.QObject, signature: str, *slot: Any) -> bool:
    return _signal(native, signature).connect(_slot(slot))


def _disconnect(native: QtCore.QObject, signature: str, *slot: Any) -> bool:
    return _signal(native, signature).disconnect(_slot(slot))


def _signal(native: QtCore.QObject, signature: str) -> Signal:
    """The signal of "clicked(bool)", with as many arguments as are named."""
    name, _, arguments = signature.partition("(")
    if not isinstance(getattr(native, name, None), QtCore.SignalInstance):
        raise UnknownName(f"{api_name(type(native))} has no signal '{signature}'.")
    arguments = arguments.rstrip(")").strip()
    return Signal(native, name, len(arguments.split(",")) if arguments else 0)


def _slot(slot: tuple[Any, ...]) -> Callable[..., Any]:
    if len(slot) == 2:  # A receiver and "slot(int)".
        return getattr(slot[0], slot[1].partition("(")[0])
    return slot[0]


_OBJECT_METHODS: dict[str, Callable[..., Any]] = {
    "connect": _connect,
    "disconnect": _disconnect,
    "delete": lambda native: shiboken6.delete(native),
    "className": lambda native: api_name(type(native)).split(".")[1],
    # Qt would keep a Python tuple or an int as such; the application's Python gets them back as here.
    "property": lambda native, name: wrap(native.property(name)),
}
