"""A result that the worker measures for its report: what is written for it, what it is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dinsegment.worker_report import IMAGE, LABELS, WALLS
from dinsegment_slicer.running.segment_part import write_blocks


@dataclass(frozen=True, eq=False)
class ReportPhase:
    """One phase of a beat, or the only image.

    Attributes:
        labels: (k, j, i), uint8, of the part of the grid that has any.
        first: Index (k, j, i) of their first voxel.
        time_ms: When it was taken; None where nobody knows.
        findings: What looks wrong with it, as `dinsegment.worker_report` takes it.
        image: Grey values (k, j, i), which may be a live view of a node's.
        corrected: Slices that a person has corrected, counted from 0 along the image's slice axis.
        changed: Labels of the segments that a person has changed.
        samples: As `images.samples.Samples.to_dict` has them; None where nobody has asked.
    """

    labels: np.ndarray
    first: tuple[int, int, int]
    time_ms: float | None
    findings: tuple[Mapping[str, Any], ...]
    image: np.ndarray
    corrected: tuple[int, ...] = ()
    changed: tuple[int, ...] = ()
    samples: Mapping[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class ReportInput:
    """What a report is made of.

    Attributes:
        name: Of the image.
        ijk_to_ras: 4x4, from (i, j, k, 1) to millimetres in RAS.
        modality: DICOM modality, where it is known.
        task: Name of the task.
        model: Name of the model, or who else made it.
        phases: One at least, on one grid.
        from_dicom: Whether the image tells how the patient lies.
        files: DICOM files that the image was loaded from, as far as they are known.
        patient: What the user says: fields of `dinsegment.dicom.read.patient.Patient`, None for what is not known.
        anterior: Where the right ventricle's wall meets the left one's in front, in mm in RAS; None for not known.
        needs_images: Whether grey values are measured.
    """

    name: str
    ijk_to_ras: np.ndarray
    modality: str | None
    task: str
    model: str
    phases: Sequence[ReportPhase]
    from_dicom: bool = False
    files: tuple[str, ...] = ()
    patient: Mapping[str, Any] = field(default_factory=dict)
    anterior: tuple[float, float, float] | None = None
    needs_images: bool = False


@dataclass(frozen=True)
class Page:
    """A file to write: PDF, or HTML where its name ends in .html; without what tells who the patient is, or with."""

    path: Path
    anonymous: bool


@dataclass(frozen=True, eq=False)
class Measured:
    """What the worker has measured, as `dinsegment.worker_report.measured` says it.

    Attributes:
        content: What stands in the report: tables, findings, notes.
        measurements: All numbers, and why those that are missing are.
        texts: Each number as it is read, by its key.
        read: What the DICOM files say of the patient.
        walls: Whether the wall was divided and has names; None where nothing beats.
        wall_labels: Numbers of the AHA segments at end diastole, from the voxel `walls["first"]` on; None without.
        intervals: Where the interval of a number begins and ends as they are read, by its key.
    """

    content: dict[str, Any]
    measurements: list[dict[str, Any]]
    texts: dict[str, str]
    read: dict[str, Any]
    walls: dict[str, Any] | None
    wall_labels: np.ndarray | None
    intervals: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """A drawn figure: its name, PNG, what it shows in words, and its width in inches."""

    name: str
    png: bytes
    text: str
    width: float


class ReportPart:
    """Measures a result, or with a page writes its report.

    Args:
        source: What is measured; read while the part is written.
        run: Number by which `FiguresPart` knows what was measured.
        page: The file to write; None measures.
    """

    def __init__(self, source: ReportInput, run: int, page: Page | None = None) -> None:
        self._phases: Sequence[ReportPhase] = source.phases
        self._with_images = source.needs_images or page is not None
        self._page = page
        self._request = {
            "command": "report" if page is None else "page",
            "run": run,
            "task": source.task,
            "model": source.model,
            "volume": {
                "name": source.name,
                "shape": list(source.phases[0].image.shape),
                "ijk_to_ras": np.asarray(source.ijk_to_ras).tolist(),
                "modality": source.modality,
            },
            "phases": [
                {
                    "first": list(p.first),
                    "time_ms": p.time_ms,
                    "findings": list(p.findings),
                    "corrected": list(p.corrected),
                    "changed": list(p.changed),
                    "samples": p.samples,
                }
                for p in source.phases
            ],
            "images": self._with_images,
            "from_dicom": source.from_dicom,
            "files": list(source.files),
            "patient": dict(source.patient),
            "anterior": None if source.anterior is None else list(source.anterior),
        }
        if page is not None:
            self._request |= {"path": str(page.path), "anonymous": page.anonymous}

    @property
    def is_page(self) -> bool:
        """Whether a file is written; else it is measured."""
        return self._page is not None

    def check(self) -> None:
        """Everything was checked when it was gathered."""

    def write(self, folder: Path) -> Iterator[None]:
        """Writes labels and, where they are looked at, grey values, a block a step; neither is needed afterwards."""
        for number, phase in enumerate(self._phases, start=1):
            np.save(folder / LABELS.format(number), phase.labels)
            yield
            if self._with_images:
                dtype = np.int16 if phase.image.dtype == np.int16 else np.float32
                yield from write_blocks(folder / IMAGE.format(number), phase.image, dtype)
        self._phases = ()

    def request(self) -> dict[str, Any]:
        """What the worker is told."""
        return self._request

    def result(self, folder: Path, event: dict[str, Any]) -> Measured | Path:
        """What was measured, or the file that was written.

        Raises:
            KeyError, TypeError, ValueError: It is not what was agreed.
        """
        if self._page is not None:
            return Path(event["path"])
        walls = event["walls"]
        labels = None
        if walls is not None and walls["first"] is not None:
            try:
                labels = np.load(folder / WALLS)
            except OSError as error:
                raise ValueError(f"{WALLS}: {error}") from error
        names = ("content", "measurements", "texts", "read", "intervals")
        return Measured(**{name: event[name] for name in names}, walls=walls, wall_labels=labels)

    def close(self) -> None:
        """All files are in the job's folder, which the job removes."""
        self._phases = ()


class FiguresPart:
    """Draws what was measured last.

    Args:
        run: That of the `ReportPart`.
    """

    def __init__(self, run: int) -> None:
        self._run = run

    def check(self) -> None:
        """There is nothing to check."""

    def write(self, folder: Path) -> Iterator[None]:
        """There is nothing to write."""
        yield from ()

    def request(self) -> dict[str, Any]:
        """What the worker is told."""
        return {"command": "figures", "run": self._run}

    def result(self, folder: Path, event: dict[str, Any]) -> tuple[Figure, ...]:
        """The figures.

        Raises:
            KeyError, TypeError, ValueError: They are not what was agreed.
        """
        try:
            return tuple(
                Figure(str(f["name"]), (folder / f["file"]).read_bytes(), str(f["text"]), float(f["width"]))
                for f in event["figures"]
            )
        except OSError as error:
            raise ValueError(str(error)) from error

    def close(self) -> None:
        """All files are in the job's folder, which the job removes."""
