"""The package `DICOMLib` of the application, with two of its plugins and what its DICOM browser does.

`open_dicom` is the start of the DICOM module; `DicomBrowser` loads as its window does. What a plugin may rely on is
here as the application has it: when `examineForImport` and `examine` are called, which loadables are selected, in which
order they are loaded, and that a loadable is a key of a dictionary meanwhile.
"""

from __future__ import annotations

import logging
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from hashlib import md5
from pathlib import Path
from typing import Any

import slicer
import vtk

from host.dicom_database import DicomDatabase

TAGS = {
    "seriesDescription": "0008,103E",
    "seriesNumber": "0020,0011",
    "frameOfReferenceUID": "0020,0052",
    "seriesInstanceUID": "0020,000E",
    "modality": "0008,0060",
    "instanceUID": "0008,0018",
    "sopClassUID": "0008,0016",
}
"""Those of every plugin."""

ATTRIBUTES = {
    "DICOM.Modality": "0008,0060",
    "DICOM.SeriesNumber": "0020,0011",
    "DICOM.FrameOfReferenceUID": "0020,0052",
    "DICOM.SeriesDescription": "0008,103E",
}
"""Some of what the application notes of a series in the subject hierarchy."""


class DICOMLoadable:
    """What can be loaded."""

    def __init__(self, qLoadable: Any = None) -> None:
        assert qLoadable is None, "Loadables of C++ plugins are not in the host."
        self.files: list[str] = []
        self.name = "Unknown"
        self.tooltip = "No further information available"
        self.warning = ""
        self.selected = False
        self.confidence = 0.5


class DICOMPlugin:
    """Base class of plugins."""

    def __init__(self) -> None:
        self.loadType = "Generic DICOM"
        self.loadableCache: dict[bytes, list[DICOMLoadable]] = {}
        self.tags = dict(TAGS)

    def hashFiles(self, files: Sequence[str]) -> bytes:
        return md5("".join(files).encode()).digest()

    def getCachedLoadables(self, files: Sequence[str]) -> list[DICOMLoadable] | None:
        return self.loadableCache.get(self.hashFiles(files))

    def cacheLoadables(self, files: Sequence[str], loadables: list[DICOMLoadable]) -> None:
        self.loadableCache[self.hashFiles(files)] = loadables

    def examineForImport(self, fileList: Sequence[Sequence[str]]) -> list[DICOMLoadable]:
        loadables: list[DICOMLoadable] = []
        for files in fileList:
            found = self.getCachedLoadables(files)
            if found is None:
                found = self.examineFiles(files)
                self.cacheLoadables(files, found)
            loadables += found
        return loadables

    def examineFiles(self, files: Sequence[str]) -> list[DICOMLoadable]:
        return []

    def examine(self, fileList: Sequence[Sequence[str]]) -> list[DICOMLoadable]:
        return self.examineForImport(fileList)

    def load(self, loadable: DICOMLoadable) -> Any:
        return True

    def examineForExport(self, subjectHierarchyItemID: int) -> list[Any]:
        return []

    def defaultSeriesNodeName(self, seriesUID: str) -> str:
        files = slicer.dicomDatabase.filesForSeries(seriesUID, 1)
        if not files:
            return "Unnamed Series"
        name = slicer.dicomDatabase.fileValue(files[0], TAGS["seriesDescription"]) or "Unnamed Series"
        number = slicer.dicomDatabase.fileValue(files[0], TAGS["seriesNumber"])
        return f"{number}: {name}" if number else name

    def addSeriesInSubjectHierarchy(self, loadable: DICOMLoadable, dataNode: slicer.vtkMRMLNode) -> None:
        """By the first file; an item that has the UID of the series already is the one that is put into the study."""
        value = slicer.dicomDatabase.fileValue
        first = loadable.files[0]
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
        names = slicer.vtkMRMLSubjectHierarchyConstants
        item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), dataNode)
        series, study = value(first, "0020,000E"), value(first, "0020,000D")
        hierarchy.SetItemUID(item, names.GetDICOMUIDName(), series)
        for attribute, tag in ATTRIBUTES.items():
            hierarchy.SetItemAttribute(item, attribute, value(first, tag))
        uids = " ".join(value(file, TAGS["instanceUID"]) or "Unknown" for file in loadable.files)
        hierarchy.SetItemUID(item, names.GetDICOMInstanceUIDName(), uids)
        patient = value(first, "0010,0020") or f"Patient-{study}"
        slicer.vtkSlicerSubjectHierarchyModuleLogic.InsertDicomSeriesInHierarchy(hierarchy, patient, study, series)
        for uid, tag, nameless in ((patient, "0010,0010", "No name"), (study, "0008,1030", "No study description")):
            found = hierarchy.GetItemByUID(names.GetDICOMUIDName(), uid)
            hierarchy.SetItemName(found, value(first, tag) or nameless)


class DICOMScalarVolumePluginClass(DICOMPlugin):
    """As far as it competes with others: each series as one volume, confidence 0.5."""

    def __init__(self) -> None:
        super().__init__()
        self.loadType = "Scalar Volume"

    def examineFiles(self, files: Sequence[str]) -> list[DICOMLoadable]:
        loadable = DICOMLoadable()
        loadable.files = list(files)
        loadable.name = self.defaultSeriesNodeName(slicer.dicomDatabase.fileValue(files[0], "0020,000E"))
        loadable.selected = True
        return [loadable]

    def load(self, loadable: DICOMLoadable) -> slicer.vtkMRMLScalarVolumeNode:
        reader = slicer.vtkMRMLVolumeArchetypeStorageNode()
        reader.SetFileName(loadable.files[0])
        for file in loadable.files:
            reader.AddFileName(file)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", loadable.name)
        assert reader.ReadData(node)
        node.CreateDefaultDisplayNodes()
        self.addSeriesInSubjectHierarchy(loadable, node)
        return node


class DICOMImageSequencePluginClass(DICOMPlugin):
    """A cine MR series as a sequence of single slices in the order of their numbers, confidence 0.85."""

    def __init__(self) -> None:
        super().__init__()
        self.loadType = "Image sequence"
        self.tags |= {"instanceNumber": "0020,0013", "triggerTime": "0018,1060", "orientation": "0020,0037"}

    def examine(self, fileLists: Sequence[Sequence[str]]) -> list[DICOMLoadable]:
        return [loadable for files in fileLists for loadable in self.examineFiles(files)]

    def examineFiles(self, files: Sequence[str]) -> list[DICOMLoadable]:
        value = slicer.dicomDatabase.fileValue
        files = [file for file in files if value(file, TAGS["sopClassUID"]) == "1.2.840.10008.5.1.4.1.1.4"]
        numbers = {int(value(file, "0020,0013")): file for file in files}
        if len(numbers) < 2:
            return []
        loadable = DICOMLoadable()
        loadable.instanceNumbers = sorted(numbers)
        loadable.files = [numbers[number] for number in loadable.instanceNumbers]
        number, modality, description = (value(files[0], TAGS[n]) for n in ("seriesNumber", "modality",
                                                                            "seriesDescription"))  # fmt: skip
        loadable.name = f"{number}: {modality} {description}"
        loadable.selected = True
        loadable.confidence = 0.85 if len({value(file, "0018,1060") for file in files}) > 3 else 0.4
        return [loadable]

    def load(self, loadable: DICOMLoadable) -> slicer.vtkMRMLSequenceNode:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", loadable.name)
        node.SetIndexName("instance number")
        node.SetIndexUnit("")
        for number, file in zip(loadable.instanceNumbers, loadable.files, strict=True):
            frame = slicer.vtkMRMLScalarVolumeNode()
            reader = slicer.vtkMRMLVolumeArchetypeStorageNode()
            reader.SetFileName(file)
            reader.SetSingleFile(True)
            assert reader.ReadData(frame)
            frame.SetAttribute("DICOM.instanceUIDs", slicer.dicomDatabase.instanceForFile(file))
            time = slicer.dicomDatabase.fileValue(file, "0018,1060")
            if time:
                frame.SetAttribute("DICOM.triggerTime", time)
            node.SetDataNodeAtValue(frame, str(number))
        browserNode = slicer.vtkMRMLSequenceBrowserNode()
        browserNode.SetName(slicer.mrmlScene.GenerateUniqueName(f"{loadable.name} browser"))
        slicer.mrmlScene.AddNode(browserNode)
        browserNode.AddSynchronizedSequenceNode(node)
        self.addSeriesInSubjectHierarchy(loadable, browserNode.GetProxyNode(node))
        return node


PLUGINS = {
    "DICOMImageSequencePlugin": DICOMImageSequencePluginClass,
    "DICOMScalarVolumePlugin": DICOMScalarVolumePluginClass,
}


def getLoadablesFromFileLists(
    fileLists: list[Sequence[str]],
    pluginClassNames: Sequence[str] | None = None,
    messages: list[str] | None = None,
    progressCallback: Callable[[str, float], bool] | None = None,
    pluginInstances: dict[str, DICOMPlugin] | None = None,
) -> tuple[dict[DICOMPlugin, list[DICOMLoadable]], bool]:
    """Asks all plugins; one that raises is passed over, with its traceback in the log."""
    instances = {} if pluginInstances is None else pluginInstances
    found: dict[DICOMPlugin, list[DICOMLoadable]] = {}
    for name in pluginClassNames or slicer.modules.dicomPlugins:
        plugin = instances.setdefault(name, None) or slicer.modules.dicomPlugins[name]()
        instances[name] = plugin
        try:
            # What finds nothing is asked a second time, by its old name.
            found[plugin] = plugin.examineForImport(fileLists) or plugin.examine(fileLists)
        except Exception as error:
            traceback.print_exc()
            logging.error("DICOM Plugin failed: %s", error)
            if messages is not None:
                messages.append(f"Plugin failed: {name}.")
    return found, any(found.values())


def selectHighestConfidenceLoadables(loadablesByPlugin: dict[DICOMPlugin, list[DICOMLoadable]]) -> None:
    """Of the loadables whose first file is of one series those of the highest confidence, whatever was selected."""
    by_series: dict[str, list[DICOMLoadable]] = {}
    for loadables in loadablesByPlugin.values():
        for loadable in loadables:
            by_series.setdefault(slicer.dicomDatabase.fileValue(loadable.files[0], "0020,000E"), []).append(loadable)
    for loadables in by_series.values():
        highest = max(loadable.confidence for loadable in loadables)
        for loadable in loadables:
            loadable.selected = loadable.confidence == highest


def loadLoadables(
    loadablesByPlugin: dict[DICOMPlugin, list[DICOMLoadable]],
    messages: list[str] | None = None,
    progressCallback: Callable[[str, float], bool] | None = None,
) -> list[str]:
    """Loads what is selected; the IDs of the nodes that were added."""
    selected = {one: plugin for plugin, loadables in loadablesByPlugin.items() for one in loadables if one.selected}
    added: list[str] = []

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def on_node_added(_caller: Any, _event: str, node: slicer.vtkMRMLNode) -> None:
        if not (node.IsA("vtkMRMLStorageNode") or node.IsA("vtkMRMLDisplayNode")):
            added.append(node.GetID())

    observer = slicer.mrmlScene.AddObserver(slicer.vtkMRMLScene.NodeAddedEvent, on_node_added)
    for step, (loadable, plugin) in enumerate(selected.items(), start=1):
        if progressCallback and progressCallback(loadable.name, step * 100 / len(selected)):
            break
        try:
            loaded = plugin.load(loadable)
        except Exception:
            loaded = None
            logging.error("DICOM plugin failed to load '%s'.\n%s", loadable.name, traceback.format_exc())
        if not loaded and messages is not None:
            messages.append(f"Could not load: {loadable.name} as a {plugin.loadType}")
        loadable.loadSuccess = bool(loaded)
    slicer.mrmlScene.RemoveObserver(observer)
    return added


def loadSeriesByUID(seriesUIDs: list[str]) -> list[str]:
    files = [slicer.dicomDatabase.filesForSeries(uid) for uid in seriesUIDs]
    loadables, _ = getLoadablesFromFileLists(files)
    selectHighestConfidenceLoadables(loadables)
    return loadLoadables(loadables)


def loadPatientByUID(patientUID: str) -> list[str]:
    assert slicer.dicomDatabase.isOpen and patientUID in slicer.dicomDatabase.patients()
    studies = slicer.dicomDatabase.studiesForPatient(patientUID)
    return loadSeriesByUID([uid for study in studies for uid in slicer.dicomDatabase.seriesForStudy(study)])


class DicomBrowser:
    """The window of the DICOM module: its plugins are asked again and again, with what they keep.

    Attributes:
        messages: What it said that it could not load.
    """

    def __init__(self) -> None:
        self.messages: list[str] = []
        self._instances: dict[str, DICOMPlugin] = {}

    def examine(self, seriesUIDs: Sequence[str]) -> dict[DICOMPlugin, list[DICOMLoadable]]:
        """The button "Examine": the lines of the table, with what is checked in them."""
        files = [slicer.dicomDatabase.filesForSeries(uid) for uid in seriesUIDs]
        found, _ = getLoadablesFromFileLists(files, None, self.messages, None, self._instances)
        selectHighestConfidenceLoadables(found)
        for loadables in found.values():  # Of the same files only the first line is checked.
            for number, loadable in enumerate(loadables):
                before = loadables[:number]
                if any(one.selected and set(one.files) == set(loadable.files) for one in before):
                    loadable.selected = False
        return found

    def load(self, seriesUIDs: Sequence[str]) -> list[str]:
        """The button "Load"."""
        return loadLoadables(self.examine(seriesUIDs), self.messages)


def library() -> Iterator[types.ModuleType]:
    """The package and its module of functions, by which they are imported."""
    functions = types.ModuleType("DICOMLib.DICOMUtils")
    for function in (
        getLoadablesFromFileLists,
        selectHighestConfidenceLoadables,
        loadLoadables,
        loadSeriesByUID,
        loadPatientByUID,
    ):
        setattr(functions, function.__name__, function)
    package = types.ModuleType("DICOMLib")
    package.__path__ = []
    package.DICOMUtils, package.DICOMPlugin, package.DICOMLoadable = functions, DICOMPlugin, DICOMLoadable
    yield package
    yield functions


def forget_library() -> None:
    """The next application may have none: it, and modules that have its classes, are imported anew."""
    if "DICOMLib" not in sys.modules:  # Nor has any module its classes: to look at all of them takes long.
        return
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "DICOMLib" or getattr(module, "__dict__", {}).get("DICOMPlugin") is DICOMPlugin:
            del sys.modules[name]
            package, _, last = name.rpartition(".")
            if package in sys.modules:
                vars(sys.modules[package]).pop(last, None)


def open_dicom(folder: Path) -> DicomDatabase:
    """What the DICOM module does at the start, after all modules were made: an empty database in a folder."""
    if not hasattr(slicer.modules, "dicomPlugins"):
        slicer.modules.dicomPlugins = {}
    slicer.modules.dicomPlugins |= PLUGINS
    slicer.dicomDatabase = DicomDatabase(folder)
    tags = [tag for plugin in slicer.modules.dicomPlugins.values() for tag in plugin().tags.values()]
    slicer.dicomDatabase.tagsToPrecache = tuple(sorted({tag for tag in tags}))
    return slicer.dicomDatabase
