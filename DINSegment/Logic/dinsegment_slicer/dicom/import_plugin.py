"""A plugin for Slicer's DICOM module: cine stacks whose slices are series of their own are loaded as one sequence.

It is imported where the application has a DICOM module alone, and needs nothing that a fresh Slicer lacks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import slicer
from DICOMLib import DICOMLoadable, DICOMPlugin

from dinsegment.dicom.read.picture import TAGS
from dinsegment.dicom.read.stack import AXIAL_CINE, SHORT_AXIS_CINE, Stack
from dinsegment_slicer.dicom.pictures import Headers, is_cine_stack, mr_pictures, stacks_of
from dinsegment_slicer.dicom.pixels import read_picture
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.scene.browsers import proxy_of
from dinsegment_slicer.scene.changes import restored_on_error, subject_hierarchy
from dinsegment_slicer.scene.sequences import show_cine
from dinsegment_slicer.scene.stacks import add_stack, dimensions

NAME = "DINSegmentDICOMPlugin"
"""By which the application knows it, and remembers that a user has disabled it."""

PREFERRED, OFFERED = 1.1, 0.3
"""Confidence that it is what the user wants. Slicer's own plugins give a cine up to 1.05, and a volume 0.5."""


class StackLoadable(DICOMLoadable):
    """A stack that can be loaded.

    Slicer selects, of all loadables whose first file is of one series, those of the highest confidence. So that the
    single series of a stack are not loaded beside it, there is a loadable of the same files for each of its series,
    with a file of that one first. They are equal: as keys of a dictionary, by which Slicer loads what is selected, they
    are one, and in the table of the DICOM browser only the first line is checked.

    Attributes:
        stack: What is loaded; the keys of its pictures are names of files.
        nodeName: What it is called in the scene, unless the user gives it another name in the table.
    """

    def __init__(self, stack: Stack, files: Sequence[str]) -> None:
        super().__init__()
        self.stack = stack
        self.files = list(files)
        self.confidence = PREFERRED if stack.kind == SHORT_AXIS_CINE else OFFERED
        self.selected = self.confidence == PREFERRED
        self.name = self.offer = f"{_kind(stack)}, {dimensions(stack)}"
        self.nodeName = _node_name(stack)
        self.warning = " ".join(stack.warnings)
        series = ", ".join(map(str, stack.series))
        self.tooltip = _("One sequence of the series {series}").format(series=series)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StackLoadable) and set(self.files) == set(other.files)

    def __hash__(self) -> int:
        return hash(frozenset(self.files))


class DINSegmentDICOMPluginClass(DICOMPlugin):
    """Looks at all series that are selected together, and offers the cine stacks that they make up."""

    def __init__(self) -> None:
        super().__init__()
        self.loadType = _("Cine stack")
        self.tags |= TAGS

    def examineForImport(self, fileLists: Sequence[Sequence[str]]) -> list[StackLoadable]:
        """The stacks, once for each of their series; in the window's thread, by the tags that the database has noted.

        Args:
            fileLists: The files of each series that is selected.
        """
        files = [file for files in fileLists for file in files]
        found = self.getCachedLoadables(files)
        if found is None:
            found = find_loadables(fileLists, slicer.dicomDatabase)
            self.cacheLoadables(files, found)
        return found

    def load(self, loadable: StackLoadable) -> slicer.vtkMRMLSequenceNode:
        """Loads a stack as one sequence, which is put into its study and shown; all of it or, with an error, nothing.

        Raises:
            InputError: One of its files cannot be read.
        """
        scene = slicer.mrmlScene
        name = loadable.nodeName if loadable.name == loadable.offer else loadable.name
        with restored_on_error(scene):
            node = add_stack(scene, name, loadable.stack, read_picture, slicer.dicomDatabase.instanceForFile)
            self._putIntoStudy(proxy_of(node), loadable.stack)
        show_cine(node)
        return node

    def _putIntoStudy(self, volumeNode: slicer.vtkMRMLScalarVolumeNode, stack: Stack) -> None:
        """As a series of its study it carries the UID of the first slice's, by which Slicer finds what refers to it."""
        pictures = DICOMLoadable()
        pictures.files = list(dict.fromkeys(key for one in stack.slices for key in one.keys))
        self.addSeriesInSubjectHierarchy(pictures, volumeNode)
        # Where another node of that series is there, Slicer has put that one into the study.
        hierarchy, uids = subject_hierarchy(slicer.mrmlScene), slicer.vtkMRMLSubjectHierarchyConstants
        study = slicer.dicomDatabase.fileValue(pictures.files[0], TAGS["StudyInstanceUID"])
        study_item = hierarchy.GetItemByUID(uids.GetDICOMUIDName(), study)
        if study_item:
            hierarchy.SetItemParent(hierarchy.GetItemByDataNode(volumeNode), study_item)


def find_loadables(file_lists: Sequence[Sequence[str]], database: Headers) -> list[StackLoadable]:
    """The stacks that can be loaded, each once for every series that is not to be loaded beside it."""
    pictures = mr_pictures(file_lists, database)
    of_series: dict[str, set[str]] = {}
    for picture in pictures:
        of_series.setdefault(picture.series_uid, set()).add(picture.key)
    stacks = stacks_of(pictures)
    return [
        StackLoadable(stack, files)
        for stack in filter(is_cine_stack, stacks)
        for files in _orders(stack, stacks, of_series)
    ]


def _orders(stack: Stack, stacks: Sequence[Stack], of_series: Mapping[str, set[str]]) -> Iterator[list[str]]:
    """The files of a stack, and of what was acquired again, in as many orders as there are series to be kept back."""
    repeats = [one for one in stacks if one.is_repeat and one.kind == stack.kind and _is_parallel(one, stack)]
    files = dict.fromkeys(key for one in (stack, *repeats) for key in one.keys)
    # A series that shows something else, too, is not kept back: that would be missed.
    whole = [keys for keys in of_series.values() if keys <= files.keys()]
    firsts = [next(file for file in files if file in keys) for keys in whole] or [next(iter(files))]
    for first in firsts:
        yield [first, *(file for file in files if file != first)]


def _is_parallel(one: Stack, other: Stack) -> bool:
    directions = [stack.ijk_to_ras[:3, :3] / np.linalg.norm(stack.ijk_to_ras[:3, :3], axis=0) for stack in (one, other)]
    return bool(np.abs(directions[0] - directions[1]).max() < 0.1)


def _kind(stack: Stack) -> str:
    return {
        SHORT_AXIS_CINE: _("Short-axis cine stack"),
        AXIAL_CINE: _("Axial cine stack"),
    }.get(stack.kind, _("Cine stack"))


def _node_name(stack: Stack) -> str:
    first = min(stack.series, key=lambda one: (one.number is None, one.number))
    name = first.description or _("Unnamed series")
    name = name if first.number is None else f"{first.number}: {name}"
    return name if len(stack.series) == 1 else _("{name}, {slices} slices").format(name=name, slices=len(stack.slices))
