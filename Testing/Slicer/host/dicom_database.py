"""A small DICOM database: what Python uses of Slicer's `slicer.dicomDatabase`, a ctkDICOMDatabase, on real files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pydicom


class DicomDatabase:
    """Keeps copies of the files that are inserted, in a folder.

    Args:
        folder: Where.

    Attributes:
        isOpen: As the property of the same name.
    """

    def __init__(self, folder: Path) -> None:
        self.isOpen = True
        self._folder = folder
        self._files: dict[str, Path] = {}
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

    def updateDisplayedFields(self) -> None:
        self._prepared = False

    def fileForInstance(self, sopInstanceUID: str) -> str:
        return str(self._files.get(sopInstanceUID, ""))

    def instancesForSeries(self, seriesUID: str) -> tuple[str, ...]:
        return tuple(uid for uid, path in self._files.items() if self.fileValue(str(path), "0020,000E") == seriesUID)

    def filesForSeries(self, seriesUID: str) -> tuple[str, ...]:
        return tuple(str(self._files[uid]) for uid in self.instancesForSeries(seriesUID))

    def fileValue(self, fileName: str, tag: str) -> str:
        """The value of a tag given as `0020,000E`; empty where there is none."""
        header = pydicom.dcmread(fileName, stop_before_pixels=True)
        element = header.get(tuple(int(part, 16) for part in tag.split(",")))
        return "" if element is None or element.value is None else str(element.value)

    def remove(self, uid: str) -> None:
        """Somebody has deleted an instance."""
        del self._files[uid]
