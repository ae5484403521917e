"""The names that Python sees in the running application, and checks against them.

The list is no part of the repository: `slicer-api.json` in the folder `shared` beside it, or beside what
`DINSEGMENT_DATA` names. Where it is missing, nothing is checked and `Api.known` is False.
"""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path

import slicer

SUBMODULES = {"ScriptedLoadableModule", "i18n", "logic", "packaging", "parameterNodeWrapper", "testing", "util"}
OBJECTS = {"app", "modules", "mrmlScene", "selfTests"}
# What the list of names leaves out, as it was made without the DICOM modules; from the application's sources.
DICOM_MODULES = {"dicom", "dicomPlugins"}
DICOM_DATABASE = {
    *("databaseDirectory", "databaseFilename", "isOpen", "tagsToPrecache"),
    *("patients", "studiesForPatient", "seriesForStudy", "instancesForSeries", "filesForSeries", "studyForSeries"),
    *("fileForInstance", "instanceForFile", "seriesForFile"),
    *("fileValue", "fileValueExists", "instanceValue", "instanceValueExists"),
    *("prepareInsert", "insert", "updateDisplayedFields", "removePatient", "removeStudy", "removeSeries"),
}
# What Python's view of Qt adds to every object, whatever dir() lists: `name` is objectName, exec_ is exec.
EVERY_QOBJECT = {"name", "className", "delete", "help", "inherits"}


class UnknownName(AssertionError, AttributeError):
    """The application has no such name. Also an AttributeError, so that `hasattr` answers as it would there."""


def api_file() -> Path:
    """Where the list of names is, or would be."""
    beside = Path(__file__).resolve().parents[4] / "shared"
    if os.environ.get("DINSEGMENT_DATA"):
        data = Path(os.environ["DINSEGMENT_DATA"])
        for folder in (data, data.parent):
            if (folder / "slicer-api.json").is_file():
                return folder / "slicer-api.json"
    return beside / "slicer-api.json"


class Api:
    """Names of the application's classes, objects and modules."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or api_file()
        self.known = self.path.is_file()
        document = (
            json.loads(self.path.read_text(encoding="utf-8"))
            if self.known
            else {"classes": {}, "functions": {}, "objects": {}}
        )
        self._classes = document["classes"]
        self._functions = document["functions"]
        self._objects = {name: frozenset(names.split()) for name, names in document["objects"].items()}
        self.names = functools.lru_cache(maxsize=None)(self._names)

    def has_class(self, name: str) -> bool:
        """Whether there is a class of this name, such as `qt.QLabel` or `slicer.qMRMLNodeComboBox`."""
        return not self.known or name in self._classes

    def _names(self, name: str) -> frozenset[str] | None:
        """All names of a class with those that it inherits, or of an object; None where nothing is listed."""
        if name in self._objects:
            return self._objects[name]
        if name not in self._classes:
            return None
        found: set[str] = set(EVERY_QOBJECT)
        while name:
            found |= set(self._classes[name]["attributes"].split())
            name = self._classes[name]["inherits"]
        return frozenset(found)

    def check(self, owner: str, name: str) -> None:
        """Raises UnknownName where `owner` is listed and has no `name`."""
        names = self.names(owner) if self.known else None
        if names is None or name in names or name.removesuffix("_") in names:
            return
        raise UnknownName(f"{owner} has no '{name}' in the application.")

    def functions(self, module: str) -> frozenset[str] | None:
        """Names in a module such as `slicer.util`; None where it is not listed."""
        return frozenset(self._functions[module]) if module in self._functions else None

    def signature(self, module: str, name: str) -> str:
        """As inspect.signature writes it; empty for a class and what is not listed."""
        signature = self._functions.get(module, {}).get(name, "")
        return signature if signature.startswith("(") else ""


@functools.cache
def known_names(path: Path) -> Api:
    """Those of a list, which is read once."""
    return Api(path)


def check_sources(
    paths: Iterable[Path | str], api: Api | None = None, own_modules: Iterable[str] = ("dinsegment",)
) -> list[str]:
    """Uses of `qt.`, `ctk.` and `slicer.` names that the application does not have, as "file:line: what".

    Args:
        paths: Python files.
        api: The names to check against; by default those found.
        own_modules: Names below `slicer.modules` that the files themselves bring.
    """
    api = api or Api()
    if not api.known:
        return []
    found = []
    for path in map(Path, paths):
        visitor = _Uses(api, {name.lower() for name in own_modules})
        visitor.visit(ast.parse(path.read_text(encoding="utf-8"), str(path)))
        found += [f"{path}:{line}: {text}" for line, text in sorted(visitor.found)]
    return found


def check_forms(paths: Iterable[Path | str], api: Api | None = None) -> list[str]:
    """Widgets, properties, signals and slots of .ui files that the application does not have, as "file: what".

    An unknown property is no error there: it is kept as a dynamic one, and nothing is seen of it.
    """
    api = api or Api()
    if not api.known:
        return []
    found = []
    for path in map(Path, paths):
        form = ET.parse(path).getroot()
        classes = {widget.get("name"): _class_name(widget.get("class")) for widget in form.iter("widget")}
        used = [(name, None) for name in classes.values()]
        for widget in form.iter("widget"):
            names = [element.get("name") for element in widget.findall("property") if element.get("stdset") != "0"]
            used += [(classes[widget.get("name")], name) for name in names]
        for connection in form.iter("connection"):
            for end, method in (("sender", "signal"), ("receiver", "slot")):
                used.append((classes[connection.findtext(end)], connection.findtext(method, "").partition("(")[0]))
        for owner, name in used:
            if not api.has_class(owner):
                found.append(f"{path}: {owner} does not exist in the application")
            elif name is not None and name not in api.names(owner):
                found.append(f"{path}: {owner}.{name} does not exist in the application")
    return list(dict.fromkeys(found))


def _class_name(name: str) -> str:
    return f"{'ctk' if name.startswith('ctk') else 'slicer' if name.startswith(('qMRML', 'qSlicer')) else 'qt'}.{name}"


class _Uses(ast.NodeVisitor):
    def __init__(self, api: Api, own_modules: set[str]) -> None:
        self.api = api
        self.own_modules = own_modules
        self.found: set[tuple[int, str]] = set()

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if path := _dotted(node):
            self._check(path, node.lineno)
        self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._check(alias.name.split("."), node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if node.module and not node.level and alias.name != "*":
                self._check([*node.module.split("."), alias.name], node.lineno)

    def visit_Call(self, node: ast.Call) -> None:
        path = _dotted(node.func)
        if path and path[:1] == ["slicer"] and len(path) == 3:
            signature = self.api.signature(f"slicer.{path[1]}", path[2])
            accepted = signature and "**" not in signature
            for keyword in node.keywords:
                if accepted and keyword.arg and not _has_parameter(signature, keyword.arg):
                    self.found.add((node.lineno, f"{'.'.join(path)}{signature} takes no '{keyword.arg}'"))
        self.generic_visit(node)

    def _check(self, path: list[str], line: int) -> None:
        wrong = self._wrong(path)
        if wrong:
            self.found.add((line, f"{wrong} does not exist in the application"))

    def _wrong(self, path: list[str]) -> str | None:
        """The part of a dotted name that the application lacks."""
        head, *rest = path
        if head in ("qt", "ctk") and rest:
            return self._wrong_in_class(f"{head}.{rest[0]}", rest[1:])
        if head != "slicer" or not rest:
            return None
        name, *rest = rest
        if name.startswith("vtk"):
            return None if hasattr(slicer, name) else f"slicer.{name}"
        if name in SUBMODULES:
            names = self.api.functions(f"slicer.{name}")
            return f"slicer.{name}.{rest[0]}" if rest and names is not None and rest[0] not in names else None
        if name == "modules" and rest:
            known = self.api.names("slicer.modules") | self.own_modules | DICOM_MODULES
            own = rest[0].removesuffix("Widget").removesuffix("Instance").lower() in self.own_modules
            return None if own or rest[0] in known else f"slicer.modules.{rest[0]}"
        if name == "app" and rest:
            if rest[0] == "layoutManager()" and len(rest) > 1:
                missing = rest[1].removesuffix("()") not in self.api.names("slicer.app.layoutManager()")
                return f"slicer.app.layoutManager().{rest[1]}" if missing else None
            return None if rest[0].removesuffix("()") in self.api.names("slicer.app") else f"slicer.app.{rest[0]}"
        if name == "dicomDatabase":
            wrong = rest and rest[0].removesuffix("()") not in DICOM_DATABASE
            return f"slicer.dicomDatabase.{rest[0]}" if wrong else None
        if name in OBJECTS:
            return None
        return self._wrong_in_class(f"slicer.{name}", rest)

    def _wrong_in_class(self, name: str, rest: list[str]) -> str | None:
        if not self.api.has_class(name):
            return name
        attribute = rest[0].removesuffix("()") if rest else None
        known = attribute is None or attribute.startswith("__") or attribute in self.api.names(name)
        return None if known else f"{name}.{attribute}"


def _dotted(node: ast.AST) -> list[str] | None:
    """`slicer.app.layoutManager().layout` as its parts, calls without arguments as `name()`; None for anything else."""
    parts: list[str] = []
    suffix = ""
    while True:
        if isinstance(node, ast.Call) and not node.args and not node.keywords and not suffix:
            suffix, node = "()", node.func
        elif isinstance(node, ast.Attribute):
            parts.insert(0, node.attr + suffix)
            suffix, node = "", node.value
        elif isinstance(node, ast.Name) and not suffix:
            return [node.id, *parts]
        else:
            return None


def _has_parameter(signature: str, name: str) -> bool:
    plain = re.sub(r"<(?:[^<>]|<[^<>]*>)*>", "None", signature.split(" -> ")[0])  # `=<function <lambda> at 0x7f>`
    arguments = ast.parse(f"def f{plain}: ...").body[0].args
    return name in {argument.arg for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]}
