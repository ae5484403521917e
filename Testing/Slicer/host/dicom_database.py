"""A small DICOM database: what Python uses of Slicer's `slicer.dicomDatabase`, a ctkDICOMDatabase, on real files."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pydicom
from pydicom.dataelem import DataElement


class DicomDatabase:
    """Keeps copies of the files that are inserted, in a folder.

    Args:
        folder: Where.

    Attributes:
        isOpen: As the property of the same name.
        tagsToPrecache: Tags whose values are noted when a file is inserted; what else is asked for is read from the
            file, which takes the application magnitudes longer.
        read: The tags that had to be read from a file, once for each time.
    """

    def __init__(self, folder: Path) -> None:
        self.isOpen = True
        self.tagsToPrecache: tuple[str, ...] = ()
        self.read: list[str] = []
        self._folder = folder
        self._files: dict[str, Path] = {}
        self._headers: dict[str, pydicom.Dataset] = {}
        self._cached: dict[str, set[str]] = {}
        self._instances: dict[str, str] = {}
        self._prepared = False

    def prepareInsert(self) -> None:
        self._prepared = True

    def insert(self, filePath: str, storeFile: bool = True, generateThumbnail: bool = True) -> None:
        """As in the application a file that is not DICOM is passed over."""
        assert self._prepared, "What was removed since the last insert may be taken to be still there."
        try:
            header = pydicom.dcmread(filePath, stop_before_pixels=True)
        except (OSError, pydicom.errors.InvalidDicomError):
            return
        uid, path = str(header.SOPInstanceUID), Path(filePath)
        if storeFile:
            path = self._folder / f"{uid}.dcm"
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(filePath, path)
        self._files[uid] = path
        self._headers[str(path)] = header
        self._cached[str(path)] = {tag.upper() for tag in self.tagsToPrecache}
        self._instances[str(path)] = uid

    def updateDisplayedFields(self) -> None:
        self._prepared = False

    # Patients, studies, series

    def patients(self) -> tuple[str, ...]:
        """Numbers of the database's own, as text."""
        return tuple(str(number) for number, _ in enumerate(self._different("0010,0020", self._files), start=1))

    def studiesForPatient(self, patientUID: str) -> tuple[str, ...]:
        patient = self._different("0010,0020", self._files)[int(patientUID) - 1]
        return self._different("0020,000D", [uid for uid in self._files if self._value(uid, "0010,0020") == patient])

    def seriesForStudy(self, studyUID: str) -> tuple[str, ...]:
        return self._different("0020,000E", [uid for uid in self._files if self._value(uid, "0020,000D") == studyUID])

    def instancesForSeries(self, seriesUID: str, hits: int = -1) -> tuple[str, ...]:
        found = tuple(uid for uid in self._files if self._value(uid, "0020,000E") == seriesUID)
        return found[:hits] if hits > 0 else found

    def filesForSeries(self, seriesUID: str, hits: int = -1) -> tuple[str, ...]:
        """In the order in which they were inserted, which need not mean anything."""
        return tuple(str(self._files[uid]) for uid in self.instancesForSeries(seriesUID, hits))

    # Instances

    def fileForInstance(self, sopInstanceUID: str) -> str:
        return str(self._files.get(sopInstanceUID, ""))

    def instanceForFile(self, fileName: str) -> str:
        return self._instances.get(fileName, "")

    def seriesForFile(self, fileName: str) -> str:
        uid = self.instanceForFile(fileName)
        return self._value(uid, "0020,000E") if uid else ""

    def fileValue(self, fileName: str, tag: str) -> str:
        """The value of a tag given as `0020,000E`, several joined by backslashes; empty where there is none."""
        assert re.fullmatch("[0-9a-fA-F]{4},[0-9a-fA-F]{4}", tag), f"'{tag}' is no tag to the application."
        if not fileName:
            return ""
        if tag.upper() not in self._cached.get(fileName, ()):
            self.read.append(tag)
        header = self._headers.get(fileName)
        if header is None:
            header = pydicom.dcmread(fileName, stop_before_pixels=True)
        return _text(header.get(tuple(int(part, 16) for part in tag.split(","))))

    def fileValueExists(self, fileName: str, tag: str) -> bool:
        return tag.lower() == "7fe0,0010" or bool(self.fileValue(fileName, tag))

    def remove(self, uid: str) -> None:
        """Somebody has deleted an instance."""
        path = str(self._files.pop(uid))
        del self._headers[path], self._instances[path]

    def _value(self, uid: str, tag: str) -> str:
        group, element = tag.split(",")
        return _text(self._headers[str(self._files[uid])].get((int(group, 16), int(element, 16))))

    def _different(self, tag: str, uids: object) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._value(uid, tag) for uid in uids))


def _text(element: DataElement | None) -> str:
    if element is None or element.value is None or element.VR == "SQ":
        return ""
    several = element.VM > 1
    return "\\".join(map(str, element.value)) if several else str(element.value)
