"""What `dinsegment.worker` does for a report: measures what the user has left of a result, draws it, lays it out.

The labels of each phase come as labels 1.npy, labels 2.npy, ... (k, j, i), uint8, which cover the grid from a voxel
`first` on; grey values, where they are looked at, as image 1.npy, ... on the whole grid.

    {"command": "report", "id": 3, "folder": "/tmp/z", "run": 7, "task": "heart", "model": "heart-din-small",
     "volume": {"name": "Cine SAX", "shape": [12, 256, 256], "ijk_to_ras": [[...], [...], [...], [...]],
                "modality": "MR"},
     "phases": [{"first": [0, 60, 70], "time_ms": 0.0, "findings": [...], "corrected": [4], "changed": [3],
                 "samples": null}, ...], "images": false,
     "from_dicom": true, "files": ["/data/a.dcm", ...], "patient": {"height_m": 1.8}, "anterior": null}

measures; `corrected` are slices and `changed` labels of segments that a person has corrected, samples are as
`images.samples.Samples.to_dict` has them. What `patient` says goes before what the files do; null is for what is not
known, whatever they say. `done` has what `measured` says, and walls.npy, where the wall has named segments, their
numbers at end diastole (k, j, i), uint8, from the voxel `walls.first` on.

    {"command": "figures", "id": 4, "folder": "/tmp/z", "run": 7}

draws what was measured last: `done` has `figures`, each with name, text, file (PNG in the folder), width and height in
inches.

    {"command": "page", ..., "images": true, "path": "/out/report.pdf", "anonymous": false}

with all that `report` has, writes a PDF, or an HTML file where the path ends in .html.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from dinsegment.dicom.read.patient import Patient, patient_of
from dinsegment.dicom.source import DicomSource
from dinsegment.errors import InputError
from dinsegment.files import atomic_path
from dinsegment.images.samples import Samples
from dinsegment.images.segmentation import Finding, Segmentation
from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import Volume
from dinsegment.measurements.intervals import intervals_of
from dinsegment.measurements.study import MeasureOptions, StudyMeasurements, measure_study
from dinsegment.measurements.walls import aha_labels, anterior_insertion
from dinsegment.report.bars import bar_of, bar_png
from dinsegment.report.content import Report, Row, report_content
from dinsegment.report.figures import bulls_eyes, curve_colors, volume_curve
from dinsegment.report.pages import FEWEST_PHASES, figures_of
from dinsegment.tasks import get_task

LABELS, IMAGE, WALLS = "labels {}.npy", "image {}.npy", "walls.npy"

MOST_FILES = 60
"""DICOM files whose headers are read for the patient and the heart rate."""

MARGIN = 8
"""Pixels around the labels that are kept where no grey value is looked at."""


class Reports:
    """What was measured last, and the headers that were read for it."""

    def __init__(self) -> None:
        self._files: tuple[str, ...] = ()
        self._headers: tuple[Dataset, ...] = ()
        self._run: int | None = None
        self._phases: tuple[Segmentation, ...] = ()
        self._study: StudyMeasurements | None = None

    def measure(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answers `report`.

        Raises:
            InputError: There is nothing to measure.
        """
        phases, first = self._read(request)
        study = measure_study(phases, _options(request))
        self._run, self._phases, self._study = request["run"], phases, study
        read = patient_of(self._headers) if self._headers else None
        return measured(phases, study, first, Path(request["folder"]), read)

    def draw(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answers `figures`.

        Raises:
            InputError: Something else was measured since, or nothing.
        """
        if self._study is None or request["run"] != self._run:
            raise InputError("What was measured is not known any more: it is measured again.")
        folder, study = Path(request["folder"]), self._study
        pictures = []
        if study.beat is not None and len(self._phases) >= FEWEST_PHASES:
            pictures.append(("curve", volume_curve(study, curve_colors(self._phases[0]))))
        if study.walls is not None and not study.walls.reason:
            names = ("wall_ed", "wall_es", "thickening")
            pictures += list(zip(names, bulls_eyes(study.walls), strict=True))
        figures = []
        for name, picture in pictures:
            (folder / f"{name}.png").write_bytes(picture.data)
            size = {"width": picture.width, "height": picture.height}
            figures.append({"name": name, "text": picture.text, "file": f"{name}.png", **size})
        return {"figures": figures}

    def write_page(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answers `page`.

        Raises:
            InputError: There is nothing to measure, or reportlab is missing.
            OutputError: The file cannot be written; what was there is as it was.
        """
        phases, _ = self._read(request)
        study, path = measure_study(phases, _options(request)), Path(request["path"])
        content = report_content(phases, study, bool(request["anonymous"]))
        pictures = figures_of(phases, study)
        if path.suffix.lower() in (".html", ".htm"):
            from dinsegment.report.html import write_html

            page = write_html(content, pictures)
        else:
            try:
                from dinsegment.report.pdf import write_pdf
            except ImportError as error:
                raise InputError(
                    "A PDF needs the Python package reportlab, which is not installed: install it, or save the report "
                    "as HTML."
                ) from error
            page = write_pdf(content, pictures)
        with atomic_path(path) as temporary:
            temporary.write_bytes(page)
        return {"path": str(path)}

    def _read(self, request: dict[str, Any]) -> tuple[tuple[Segmentation, ...], tuple[int, int, int]]:
        """The phases, and which voxel of the image their grid begins with."""
        folder, described, task = Path(request["folder"]), request["volume"], get_task(request["task"])
        shape, matrix = tuple(described["shape"]), np.array(described["ijk_to_ras"], dtype=float)
        parts = []
        for number, phase in enumerate(request["phases"], start=1):
            part = np.load(folder / LABELS.format(number))
            parts.append((tuple(slice(a, a + n) for a, n in zip(phase["first"], part.shape, strict=True)), part))
        if not any(part.any() for _, part in parts):
            raise InputError(
                f"'{described['name']}' has no segment of {task.title.lower()}: there is nothing to measure."
            )
        slice_axis = 0 if request["from_dicom"] else None
        box = _box(shape, matrix, [place for place, _ in parts], slice_axis) if not request["images"] else _whole(shape)
        first = tuple(part.start for part in box)
        matrix = matrix.copy()
        matrix[:3, 3] = (matrix @ (*first[::-1], 1.0))[:3]
        headers = self._headers_of(request)
        shown = Volume(
            np.zeros([part.stop - part.start for part in box], np.float32),
            matrix,
            described["name"],
            described["modality"],
            dicom=DicomSource(headers or (Dataset(),)) if request["from_dicom"] else None,
            slice_axis=slice_axis,
            patient=replace(patient_of(headers), **_not_known(request)) if headers else None,
        )
        phases = []
        for number, (phase, (place, part)) in enumerate(zip(request["phases"], parts, strict=True), start=1):
            whole = np.zeros(shape, np.uint8)
            whole[place] = part
            volume = replace(shown, time_ms=phase["time_ms"])
            if request["images"]:
                volume = replace(volume, array=np.load(folder / IMAGE.format(number), mmap_mode="r"))
            findings = tuple(_finding(**finding) for finding in phase["findings"])
            labels = np.ascontiguousarray(whole[box])
            phases.append(
                Segmentation(
                    *(
                        volume,
                        labels,
                        task,
                        request["model"],
                        volume,
                        "",
                        0.0,
                        tuple(f.text for f in findings),
                        findings,
                    ),
                    samples=_samples(phase.get("samples"), labels.shape),
                    corrected=tuple(phase.get("corrected", ())),
                    changed=frozenset(phase.get("changed", ())),
                )
            )
        return tuple(phases), first

    def _headers_of(self, request: dict[str, Any]) -> tuple[Dataset, ...]:
        files = tuple(request["files"][:: max(1, -(-len(request["files"]) // MOST_FILES))])
        if files != self._files:
            self._files, self._headers = files, tuple(_headers(files))
        return self._headers


def _samples(described: dict[str, Any] | None, shape: tuple[int, ...]) -> Samples | None:
    """Without where they differ, which no number needs."""
    if described is None:
        return None
    return Samples.from_dict(described, np.broadcast_to(np.float32(0), shape))


def measured(
    phases: Sequence[Segmentation],
    study: StudyMeasurements,
    first: tuple[int, int, int],
    folder: Path,
    read: Patient | None = None,
) -> dict[str, Any]:
    """What a window shows of a study, as JSON has it.

    Args:
        phases: As they were measured.
        study: What they measure.
        first: Which voxel of the image their grid begins with.
        folder: Where walls.npy is written.
        read: What the files say of the patient.
    """
    content, intervals = report_content(phases, study), intervals_of(phases, study)
    found = intervals.intervals if intervals is not None else ()
    return {
        "content": _described(content),
        "measurements": [m.to_dict() for m in study.measurements],
        "texts": {m.key: m.text for m in study.measurements},
        "intervals": {i.measurement.key: [i.measurement.written(i.low), i.measurement.written(i.high)] for i in found},
        "read": (read or Patient()).to_dict(),
        "walls": _walls(phases, study, first, folder),
    }


def _described(content: Report) -> dict[str, Any]:
    described = asdict(content)
    for table, entry in zip(content.tables, described["tables"], strict=True):
        for row, shown in zip(table.rows, entry["rows"], strict=True):
            del shown["range"]
            shown["bar"] = _bar(row)
            shown["range_short"] = "" if row.range is None else f"{row.range.low:g}–{row.range.high:g}"
    return described


def _bar(row: Row) -> str | None:
    """PNG in base64."""
    if row.range is None or row.value is None:
        return None
    return base64.b64encode(bar_png(bar_of(row.value, row.range))).decode("ascii")


def _walls(
    phases: Sequence[Segmentation], study: StudyMeasurements, first: tuple[int, int, int], folder: Path
) -> dict[str, Any] | None:
    walls = study.walls
    if walls is None:
        return None
    if walls.reason:
        return {"reason": walls.reason, "named": False, "anterior": None, "first": None, "phase": None}
    phase = walls.phases[0]
    place, begin = None, None
    if walls.named:
        place = anterior_insertion(phases[phase], walls.end_diastole)
        labels = aha_labels(phases[phase], walls.end_diastole)
        filled = [np.flatnonzero(labels.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
        box = tuple(slice(int(f[0]), int(f[-1]) + 1) for f in filled)
        np.save(folder / WALLS, labels[box])
        begin = [a + part.start for a, part in zip(first, box, strict=True)]
    return {"reason": "", "named": walls.named, "anterior": place, "first": begin, "phase": phase}


def _not_known(request: dict[str, Any]) -> dict[str, None]:
    """What the user says is not known of the patient."""
    return {name: None for name, value in request["patient"].items() if value is None}


def _options(request: dict[str, Any]) -> MeasureOptions:
    anterior = request["anterior"]
    return MeasureOptions(Patient(**request["patient"]), anterior=None if anterior is None else tuple(anterior))


def _whole(shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in shape)


def _box(
    shape: tuple[int, ...], matrix: np.ndarray, places: Sequence[tuple[slice, ...]], slice_axis: int | None
) -> tuple[slice, ...]:
    """All slices, each cut to what has labels and a margin, which measures the same in a fraction of the time."""
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)[::-1]
    across = SliceStack.across(np.broadcast_to(np.uint8(0), shape), spacing, slice_axis).axis
    box = []
    for axis, count in enumerate(shape):
        begin = max(0, min(place[axis].start for place in places) - MARGIN)
        end = min(count, max(place[axis].stop for place in places) + MARGIN)
        # At least two pixels: a grid of one is a slice across that axis.
        box.append(slice(0, count) if axis == across or end - begin < 2 else slice(begin, end))
    return tuple(box)


def _headers(files: Sequence[str]) -> list[Dataset]:
    found = []
    for file in files:
        try:
            found.append(dcmread(file, stop_before_pixels=True))
        except (OSError, InvalidDicomError):  # It was moved meanwhile: what it said is not known then.
            continue
    return found


def _finding(
    text: str, segment: int | None, kind: str = "", topic: str = "", slices: Sequence[int] = (), advice: str = ""
) -> Finding:
    return Finding(text, segment=segment, kind=kind, topic=topic, slices=tuple(slices), advice=advice)
