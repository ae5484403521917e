"""`slicer.parameterNodeWrapper` outside the application: typed access to a parameter node, and its binding to widgets.

Values are written in the application's own text form, so that a scene saved by one is read by the other.
What a module seldom uses (parameter packs, tuples, dicts, generated panels) is refused with a TypeError.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import logging
import pathlib
import types
import typing
from typing import Annotated, Any

import slicer
import vtk

SlicerParameterNamePropertyName = "SlicerParameterName"


# Annotations


class Default:
    """The value that a parameter has before it is set."""

    def __init__(self, value: Any = None, *, generator: collections.abc.Callable[[], Any] | None = None) -> None:
        self._value = value
        self._generator = generator

    @property
    def value(self) -> Any:
        return self._generator() if self._generator else self._value


@dataclasses.dataclass
class Decimals:
    """Digits after the point that a spin box or slider shows."""

    value: int


@dataclasses.dataclass
class SingleStep:
    """Step of a spin box or slider."""

    value: float


@dataclasses.dataclass
class Label:
    """Text for a generated panel."""

    value: str


class Validator:
    """What a value must be; `validate` raises where it is not."""

    def validate(self, value: Any) -> None:
        raise NotImplementedError


class NotNone(Validator):
    def validate(self, value: Any) -> None:
        if value is None:
            raise ValueError("The value must not be None.")


class IsInstance(Validator):
    def __init__(self, classtype: type | tuple[type, ...]) -> None:
        self.classtype = classtype

    def validate(self, value: Any) -> None:
        if value is not None and not isinstance(value, self.classtype):
            raise TypeError(f"The value {value!r} must be of type {self.classtype}.")


class WithinRange(Validator):
    def __init__(self, minimum: float, maximum: float) -> None:
        self.minimum, self.maximum = minimum, maximum

    def validate(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"The value must lie in [{self.minimum}, {self.maximum}], but is {value}.")


class Minimum(Validator):
    def __init__(self, minimum: float) -> None:
        self.minimum = minimum

    def validate(self, value: Any) -> None:
        if value < self.minimum:
            raise ValueError(f"The value must be at least {self.minimum}, but is {value}.")


class Maximum(Validator):
    def __init__(self, maximum: float) -> None:
        self.maximum = maximum

    def validate(self, value: Any) -> None:
        if value > self.maximum:
            raise ValueError(f"The value must be at most {self.maximum}, but is {value}.")


class Choice(Validator):
    def __init__(self, choices: collections.abc.Sequence[Any]) -> None:
        self.choices = choices

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"The value must be one of {self.choices}, but is {value!r}.")


class Exclude(Validator):
    def __init__(self, excludedValues: collections.abc.Sequence[Any]) -> None:
        self.excludedValues = excludedValues

    def validate(self, value: Any) -> None:
        if value in self.excludedValues:
            raise ValueError(f"The value must not be {value!r}.")


# How values are kept in a node


class _Codec:
    """A value as one text parameter of a node."""

    def __init__(self, kind: Any, default: Any, validators: list[Validator]) -> None:
        self.kind = kind
        self.default = default
        self.validators = validators

    def takes(self, kind: type) -> bool:
        return kind is self.kind

    def validate(self, value: Any) -> None:
        for validator in self.validators:
            validator.validate(value)

    def to_text(self, value: Any) -> str:
        return str(value)

    def from_text(self, text: str) -> Any:
        return self.kind(text)

    def is_in(self, node: slicer.vtkMRMLScriptedModuleNode, name: str) -> bool:
        return bool(node.HasParameter(name))

    def write(self, node: slicer.vtkMRMLScriptedModuleNode, name: str, value: Any) -> None:
        self.validate(value)
        node.SetParameter(name, self.to_text(value))

    def read(self, node: slicer.vtkMRMLScriptedModuleNode, name: str) -> Any:
        return self.from_text(node.GetParameter(name))

    def remove(self, node: slicer.vtkMRMLScriptedModuleNode, name: str) -> None:
        node.UnsetParameter(name)


class _NumberCodec(_Codec):
    def __init__(self, kind: type) -> None:
        super().__init__(kind, 0, [NotNone(), IsInstance((int, float) if kind is float else int)])

    def takes(self, kind: type) -> bool:
        return kind in (int, float)


class _BoolCodec(_Codec):
    def __init__(self) -> None:
        super().__init__(bool, False, [NotNone(), IsInstance(bool)])

    def from_text(self, text: str) -> bool:
        return text == "True"


class _EnumCodec(_Codec):
    def __init__(self, kind: type[enum.Enum]) -> None:
        super().__init__(kind, next(iter(kind)), [IsInstance(kind)])

    def to_text(self, value: enum.Enum) -> str:
        return value.name

    def from_text(self, text: str) -> enum.Enum:
        if text not in self.kind.__members__:
            raise ValueError(f"The parameter node has '{text}', which is no name in {self.kind}.")
        return self.kind[text]


class _NoneCodec(_Codec):
    def __init__(self) -> None:
        super().__init__(type(None), None, [])

    def to_text(self, value: None) -> str:
        return "True"

    def from_text(self, text: str) -> None:
        return None


class _NodeCodec(_Codec):
    """A node: a reference of the parameter's name, and an empty text that says that it is set."""

    def __init__(self, kind: type) -> None:
        super().__init__(kind, None, [IsInstance(kind)])

    def takes(self, kind: type) -> bool:
        return issubclass(kind, slicer.vtkMRMLNode)

    def write(self, node: slicer.vtkMRMLScriptedModuleNode, name: str, value: slicer.vtkMRMLNode | None) -> None:
        self.validate(value)
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node: slicer.vtkMRMLScriptedModuleNode, name: str) -> slicer.vtkMRMLNode | None:
        return node.GetNodeReference(name)

    def remove(self, node: slicer.vtkMRMLScriptedModuleNode, name: str) -> None:
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)


class _ListCodec(_Codec):
    """`name.len`, `name.0`, `name.1`, ..."""

    def __init__(self, element: _Codec) -> None:
        super().__init__(list, None, [])
        self._element = element
        self._length = _NumberCodec(int)
        self.default = []

    def is_in(self, node: slicer.vtkMRMLScriptedModuleNode, name: str) -> bool:
        return self._length.is_in(node, f"{name}.len")

    def write(self, node: slicer.vtkMRMLScriptedModuleNode, name: str, value: Any) -> None:
        self.validate(value)
        values = list(value)
        for item in values:  # All or nothing.
            self._element.validate(item)
        with slicer.util.NodeModify(node):
            length = self._count(node, name)
            for index, item in enumerate(values):
                self._element.write(node, f"{name}.{index}", item)
            self._length.write(node, f"{name}.len", len(values))
            for index in range(len(values), length):
                self._element.remove(node, f"{name}.{index}")

    def _count(self, node: slicer.vtkMRMLScriptedModuleNode, name: str) -> int:
        return self._length.read(node, f"{name}.len") if self.is_in(node, name) else 0

    def read(self, node: slicer.vtkMRMLScriptedModuleNode, name: str) -> ParameterList:
        values = [self._element.read(node, f"{name}.{index}") for index in range(self._count(node, name))]
        return ParameterList(values, lambda changed: self.write(node, name, changed))

    def remove(self, node: slicer.vtkMRMLScriptedModuleNode, name: str) -> None:
        with slicer.util.NodeModify(node):
            for index in range(self._count(node, name)):
                self._element.remove(node, f"{name}.{index}")
            self._length.remove(node, f"{name}.len")


class ParameterList(collections.abc.MutableSequence):
    """A list whose changes are written to the parameter node at once; it has no `+` and `*`."""

    def __init__(self, values: list[Any], write: collections.abc.Callable[[list[Any]], None]) -> None:
        self._values = values
        self._write = write

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: Any) -> Any:
        return self._values[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._values[index] = value
        self._write(self._values)

    def __delitem__(self, index: Any) -> None:
        del self._values[index]
        self._write(self._values)

    def insert(self, index: int, value: Any) -> None:
        self._values.insert(index, value)
        self._write(self._values)

    def sort(self, **keywords: Any) -> None:
        self._values.sort(**keywords)
        self._write(self._values)

    def __eq__(self, other: object) -> bool:
        return self._values == (other._values if isinstance(other, ParameterList) else other)

    def __repr__(self) -> str:
        return f"ParameterList({self._values})"


class _UnionCodec(_Codec):
    """The value under `name.N`, N the place of its type in the union."""

    def __init__(self, members: list[_Codec]) -> None:
        optional = len(members) == 2 and isinstance(members[1], _NoneCodec)
        super().__init__(None, None if optional else members[0].default, [])
        self._members = members

    def _member(self, value: Any) -> int:
        refused: Exception | None = None
        for index, member in enumerate(self._members):
            if not member.takes(type(value)):
                continue
            try:
                member.validate(value)
                return index
            except (TypeError, ValueError) as error:
                refused = error
        raise refused or TypeError(f"The value {value!r} has none of the types of the parameter.")

    def is_in(self, node: slicer.vtkMRMLScriptedModuleNode, name: str) -> bool:
        return any(member.is_in(node, f"{name}.{index}") for index, member in enumerate(self._members))

    def write(self, node: slicer.vtkMRMLScriptedModuleNode, name: str, value: Any) -> None:
        self.validate(value)
        index = self._member(value)
        with slicer.util.NodeModify(node):
            self.remove(node, name)
            self._members[index].write(node, f"{name}.{index}", value)

    def read(self, node: slicer.vtkMRMLScriptedModuleNode, name: str) -> Any:
        for index, member in enumerate(self._members):
            if member.is_in(node, f"{name}.{index}"):
                return member.read(node, f"{name}.{index}")
        raise KeyError(f"The parameter node has no value for '{name}'.")

    def remove(self, node: slicer.vtkMRMLScriptedModuleNode, name: str) -> None:
        with slicer.util.NodeModify(node):
            for index, member in enumerate(self._members):
                member.remove(node, f"{name}.{index}")


def splitAnnotations(possiblyAnnotatedType: Any) -> tuple[Any, tuple[Any, ...]]:
    """The type alone, and what it is annotated with."""
    kind, *annotations = typing.get_args(Annotated[possiblyAnnotatedType, None])
    return kind, tuple(annotations[:-1])


def unannotatedType(possiblyAnnotatedType: Any) -> Any:
    return splitAnnotations(possiblyAnnotatedType)[0]


def findFirstAnnotation(annotationsList: collections.abc.Iterable[Any], annotationType: type) -> Any:
    return next((item for item in annotationsList if isinstance(item, annotationType)), None)


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) is typing.Union or isinstance(kind, types.UnionType)


def _is_node(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode)


def isNodeOrUnionOfNodes(datatype: Any) -> bool:
    kind = unannotatedType(datatype)
    members = typing.get_args(kind) if _is_union(kind) else (kind,)
    return all(_is_node(unannotatedType(member)) or member is type(None) for member in members)


def getNodeTypes(datatype: Any) -> tuple[str, ...]:
    kind = unannotatedType(datatype)
    members = typing.get_args(kind) if _is_union(kind) else (kind,)
    return tuple(unannotatedType(member)().GetClassName() for member in members if _is_node(unannotatedType(member)))


def _codec(annotatedType: Any) -> tuple[_Codec, list[Any]]:
    """The codec of a type with its validators, and the annotations that are left."""
    kind, annotations = splitAnnotations(annotatedType)
    codec = _plain_codec(kind)
    codec.validators = codec.validators + [item for item in annotations if isinstance(item, Validator)]
    return codec, [item for item in annotations if not isinstance(item, Validator)]


def _plain_codec(kind: Any) -> _Codec:
    if kind is bool:
        return _BoolCodec()
    if kind in (int, float):
        return _NumberCodec(kind)
    if kind is str:
        return _Codec(str, "", [NotNone(), IsInstance(str)])
    if kind is type(None):
        return _NoneCodec()
    if _is_union(kind):
        return _UnionCodec([_codec(member)[0] for member in typing.get_args(kind)])
    if typing.get_origin(kind) is list:
        return _ListCodec(_codec(typing.get_args(kind)[0])[0])
    if _is_node(kind):
        return _NodeCodec(kind)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _EnumCodec(kind)
    if isinstance(kind, type) and issubclass(kind, pathlib.PurePath):
        return _Codec(kind, kind(), [NotNone(), IsInstance(kind)])
    raise TypeError(f"The host keeps no parameter of type {kind}.")


# The class decorator


@dataclasses.dataclass(frozen=True)
class _Parameter:
    codec: _Codec
    default: Default
    annotatedType: Any


class _Wrapper:
    """What the decorator adds to a class."""

    allParameters: dict[str, _Parameter]
    _is_parameter_node_wrapper = True

    def __init__(self, parameterNode: slicer.vtkMRMLScriptedModuleNode) -> None:
        self.parameterNode = parameterNode
        self._connections: dict[int, tuple[dict[str, Any], int]] = {}
        self._next_tag = 0
        self._updating_gui = False
        for name, parameter in self.allParameters.items():
            if not parameter.codec.is_in(parameterNode, name):
                parameter.codec.write(parameterNode, name, parameter.default.value)

    def default(self, paramName: str) -> Default:
        return self._parameter(paramName).default

    @classmethod
    def dataType(cls, membername: str) -> Any:
        return cls._parameter(membername).annotatedType

    @classmethod
    def _parameter(cls, name: str) -> _Parameter:
        if name not in cls.allParameters:
            raise ValueError(f"There is no parameter '{name}', only {', '.join(cls.allParameters)}.")
        return cls.allParameters[name]

    def getValue(self, name: str) -> Any:
        codec = self._parameter(name).codec
        if not codec.is_in(self.parameterNode, name):  # Another program wrote the scene, or it was unset.
            codec.write(self.parameterNode, name, self.default(name).value)
        return codec.read(self.parameterNode, name)

    def setValue(self, name: str, value: Any) -> None:
        with slicer.util.NodeModify(self.parameterNode):
            self._parameter(name).codec.write(self.parameterNode, name, value)

    def connectGui(self, gui: Any) -> int:
        if getattr(gui, "isWidgetType", lambda: False)():
            import qt

            widgets = list(gui.findChildren(qt.QWidget))
        else:
            widgets = list(vars(gui).values())
        named = {widget.property(SlicerParameterNamePropertyName): widget for widget in widgets}
        return self.connectParametersToGui({name: widget for name, widget in named.items() if name})

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        from host.parameter_gui import create_connector

        for name in mapping:
            self._parameter(name)
        connectors = {name: create_connector(widget, self.dataType(name)) for name, widget in mapping.items()}
        tag = self._next_tag
        self._next_tag += 1
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.connect(self._changed(name, connector))
        observer = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: self._update_gui())
        self._connections[tag] = connectors, observer
        return tag

    def disconnectGui(self, guiTag: int) -> None:
        if guiTag not in self._connections:
            return
        connectors, observer = self._connections.pop(guiTag)
        for connector in connectors.values():
            connector.disconnect()
        self.RemoveObserver(observer)

    def _changed(self, name: str, connector: Any) -> collections.abc.Callable[[], None]:
        def changed() -> None:  # Takes nothing: a signal would fill even arguments that have a default.
            if not self._updating_gui:
                self.setValue(name, connector.read())

        return changed

    def _update_gui(self) -> None:
        if self._updating_gui:
            return
        self._updating_gui = True
        try:
            with slicer.util.NodeModify(self):
                for connectors, _observer in list(self._connections.values()):
                    for name, connector in connectors.items():
                        connector.write(self.getValue(name))
        finally:
            self._updating_gui = False

    def StartModify(self) -> int:
        return self.parameterNode.StartModify()

    def EndModify(self, wasModified: int) -> int:
        return self.parameterNode.EndModify(wasModified)

    def AddObserver(self, event: Any, callback: collections.abc.Callable[..., Any], priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        self.parameterNode.Modified()


def _property(name: str) -> property:
    return property(lambda self: self.getValue(name), lambda self, value: self.setValue(name, value))


def _wrapped(classtype: type) -> type:
    parameters = {}
    for name, annotatedType in typing.get_type_hints(classtype, include_extras=True).items():
        codec, annotations = _codec(annotatedType)
        defaults = [item for item in annotations if isinstance(item, Default)]
        if len(defaults) > 1:
            raise TypeError(f"Parameter '{name}' has more than one default.")
        if hasattr(classtype, name):
            default = Default(getattr(classtype, name))
        else:
            default = defaults[0] if defaults else Default(codec.default)
        unused = [item for item in annotations if not isinstance(item, Default)]
        if unused:
            logging.warning(f"Unused annotations: {unused}")
        parameters[name] = _Parameter(codec, default, annotatedType)
        setattr(classtype, name, _property(name))
    for name in ["allParameters", *(name for name in vars(_Wrapper) if not name.startswith("__"))]:
        if hasattr(classtype, name):
            raise ValueError(f"'{name}' is a name of the parameter node wrapper itself.")
        if name != "allParameters":
            setattr(classtype, name, vars(_Wrapper)[name])
    classtype.allParameters = parameters
    classtype.__init__ = _Wrapper.__init__
    return classtype


def parameterNodeWrapper(classtype: type | None = None) -> Any:
    """Class decorator: the annotated members become parameters of a node that is given to the constructor."""
    return _wrapped if classtype is None else _wrapped(classtype)


def isParameterNodeWrapper(classOrObj: Any) -> bool:
    return getattr(classOrObj, "_is_parameter_node_wrapper", False)
