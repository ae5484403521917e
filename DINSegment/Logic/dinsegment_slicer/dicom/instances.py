"""Which DICOM files an image in the scene was loaded from, as Slicer's DICOM plugins leave it behind.

- A volume carries the SOP Instance UIDs of its slices in its attribute `DICOM.instanceUIDs`; so does a phase of a cine
  where the plugin that loaded it kept it.
- A cine that was loaded as a volume sequence carries the files of all phases in `MultiVolume.FrameFileList`.
- In the subject hierarchy the item of the volume, or of the node that shows the phases, carries the UIDs of instances
  and series.

The files themselves are known to `slicer.dicomDatabase` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import slicer

from dinsegment.errors import InputError
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.scene.changes import subject_hierarchy
from dinsegment_slicer.scene.stacks import INSTANCE_UIDS_ATTRIBUTE

FRAME_FILES_ATTRIBUTE = "MultiVolume.FrameFileList"

UNKNOWN_UID = "Unknown"
"""What Slicer's plugins write for an instance whose UID they do not find."""


class DicomDatabase(Protocol):
    """What is used of Slicer's `ctkDICOMDatabase`."""

    isOpen: bool

    def fileForInstance(self, sopInstanceUID: str) -> str: ...

    def filesForSeries(self, seriesUID: str) -> list[str]: ...

    def prepareInsert(self) -> None: ...

    def insert(self, filePath: str) -> None: ...

    def updateDisplayedFields(self) -> None: ...


class SourceUnknown(InputError):
    """It is not known which DICOM files an image was loaded from, or they are not there; the user may know."""


@dataclass(frozen=True)
class SourceFiles:
    """The files that an image was loaded from.

    Attributes:
        paths: Files, or folders with files.
        exact: One for each slice of the image. Otherwise there may be others, of other phases, say.
    """

    paths: tuple[str, ...]
    exact: bool


def application_database() -> DicomDatabase | None:
    """Slicer's DICOM database; None where it is not open."""
    database = getattr(slicer, "dicomDatabase", None)
    return database if database is not None and database.isOpen else None


def source_files(
    volumeNode: slicer.vtkMRMLScalarVolumeNode,
    database: DicomDatabase | None,
    proxyNode: slicer.vtkMRMLScalarVolumeNode | None = None,
    sequenceNode: slicer.vtkMRMLSequenceNode | None = None,
) -> SourceFiles:
    """The DICOM files that an image was loaded from.

    Args:
        volumeNode: The image, or a phase of a cine.
        database: Knows the files.
        proxyNode: The node that shows the phases.
        sequenceNode: The cine.

    Raises:
        SourceUnknown: They are not known, or not all there.
    """
    name = (proxyNode or volumeNode).GetName()
    slices = volumeNode.GetImageData().GetDimensions()[2]
    own = (volumeNode.GetAttribute(INSTANCE_UIDS_ATTRIBUTE) or "").split()
    if own:
        return SourceFiles(_files_of(own, database, name), exact=len(own) == slices)
    listed = ((sequenceNode.GetAttribute(FRAME_FILES_ATTRIBUTE) or "") if sequenceNode is not None else "").split(",")
    if all(path and Path(path).is_file() for path in listed):
        return SourceFiles(tuple(listed), exact=False)
    instance_uids, series_uid = _uids_in_hierarchy(proxyNode or volumeNode)
    if instance_uids:
        return SourceFiles(_files_of(instance_uids, database, name), exact=len(instance_uids) == slices)
    files = tuple(database.filesForSeries(series_uid)) if series_uid and database is not None else ()
    if files:
        return SourceFiles(files, exact=False)
    raise SourceUnknown(
        _(
            "It is not known which DICOM images '{name}' was loaded from: load it with Slicer's DICOM module, or "
            "choose the folder of its DICOM series."
        ).format(name=name)
    )


def is_from_dicom(
    volumeNode: slicer.vtkMRMLScalarVolumeNode,
    proxyNode: slicer.vtkMRMLScalarVolumeNode | None = None,
    sequenceNode: slicer.vtkMRMLSequenceNode | None = None,
) -> bool:
    """Whether an image was loaded from DICOM, so that its place in the patient is known; arguments as `source_files`.

    That is so whether or not the files are still there.
    """
    if volumeNode.GetAttribute(INSTANCE_UIDS_ATTRIBUTE) or any(_uids_in_hierarchy(proxyNode or volumeNode)):
        return True
    return sequenceNode is not None and bool(sequenceNode.GetAttribute(FRAME_FILES_ATTRIBUTE))


def add_to_database(paths: list[Path], uids: list[str], database: DicomDatabase | None) -> None:
    """Copies DICOM files, which are saved already, into Slicer's DICOM database.

    Raises:
        InputError: It is not open, or does not have them afterwards.
    """
    if database is None:
        raise InputError(
            _(
                "Slicer's DICOM database has no copy, because it is not open: open the DICOM module and import "
                "'{folder}' there."
            ).format(folder=paths[0].parent)
        )
    database.prepareInsert()
    for path in paths:
        database.insert(str(path))
    database.updateDisplayedFields()
    missing = [path for path, uid in zip(paths, uids, strict=True) if not database.fileForInstance(uid)]
    if missing:
        raise InputError(
            _("Slicer's DICOM database did not take '{path}': import it in the DICOM module.").format(path=missing[0])
        )


def _files_of(uids: list[str], database: DicomDatabase | None, name: str) -> tuple[str, ...]:
    if database is None:
        raise SourceUnknown(
            _(
                "The DICOM images of '{name}' are not known, because Slicer's DICOM database is not open: open the "
                "DICOM module once, or choose the folder of the DICOM series."
            ).format(name=name)
        )
    files = [database.fileForInstance(uid) if uid != UNKNOWN_UID else "" for uid in uids]
    missing = sum(not file or not Path(file).is_file() for file in files)
    if missing:
        raise SourceUnknown(
            _(
                "{missing} of the {count} DICOM images of '{name}' are not in Slicer's DICOM database any more: import "
                "them again in the DICOM module, or choose the folder of the DICOM series."
            ).format(missing=missing, count=len(uids), name=name)
        )
    return tuple(files)


def _uids_in_hierarchy(volumeNode: slicer.vtkMRMLScalarVolumeNode) -> tuple[list[str], str]:
    hierarchy = subject_hierarchy(volumeNode.GetScene()) if volumeNode.GetScene() else None
    item = hierarchy.GetItemByDataNode(volumeNode) if hierarchy else 0
    if not item:
        return [], ""
    names = slicer.vtkMRMLSubjectHierarchyConstants
    instances = hierarchy.GetItemUID(item, names.GetDICOMInstanceUIDName())
    return instances.split(), hierarchy.GetItemUID(item, names.GetDICOMUIDName())
