"""What an output folder remembers of the inputs whose results it holds: studies.jsonl."""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from dinsegment.errors import OutputError
from dinsegment.files import json_bytes

INDEX = "studies.jsonl"
"""One line for each finished input: what it was made from and which files it has; only appended to."""

INDEX_BEGIN = b'{"folder": '
"""By which an index is known as one."""


def input_of(record: dict[str, Any]) -> tuple[str, str, str]:
    """Which input a record is of: its path, and of a folder of studies which study of which patient."""
    made_of = record["made_of"]
    return made_of["path"], made_of.get("study", ""), made_of.get("patient", "")


def absolute(path: Path) -> str:
    """The path without links, by which an input is known; as it is where its links lead nowhere."""
    try:
        return str(path.resolve())
    except (OSError, RuntimeError):
        return str(path.absolute())


class Index:
    """studies.jsonl. Several threads and processes may read and append."""

    def __init__(self, output: Path) -> None:
        self._path = output / INDEX
        self._records: dict[str, dict[str, Any]] = {}
        self._tables: set[str] = set()
        self._read = 0
        self._lock = threading.Lock()

    def records(self) -> dict[str, dict[str, Any]]:
        """The last record of each results folder; a line that was cut short by a crash is passed over."""
        with self._lock:
            with suppress(FileNotFoundError), self._path.open("rb") as file:
                file.seek(self._read)
                lines = file.read()
                lines = lines[: lines.rfind(b"\n") + 1]
                self._read += len(lines)
                for line in lines.splitlines():
                    with suppress(ValueError, KeyError, TypeError):
                        record = json.loads(line)
                        if "table" in record:
                            self._tables.add(record["table"])
                            continue
                        record["made_of"]["path"]
                        self._records[record["folder"]] = record
            return self._records

    def tables(self) -> set[str]:
        """SHA-256 of each studies.csv and index.html that was written."""
        self.records()
        return self._tables

    def append(self, record: dict[str, Any]) -> None:
        """Adds a record, which is on the disk when this returns.

        Raises:
            OutputError: It could not be written.
        """
        line = json_bytes(record)
        try:
            with self._lock, self._path.open("a+b", buffering=0) as file:
                if file.seek(0, os.SEEK_END):
                    file.seek(-1, os.SEEK_END)
                    line = line if file.read(1) == b"\n" else b"\n" + line
                file.write(line)  # at the end, whoever else has written since: the file is open for appending
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(
                f"'{self._path}' could not be written ({(error.strerror or str(error)).lower()}): make room and start "
                "again, finished inputs are kept."
            ) from error
