"""What `dinsegment.worker` computes with models: segment, samples, unexpected, correct, adapt, look and stroke."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinsegment.images.segmentation import Finding
from dinsegment.images.volume import Volume
from dinsegment.tasks import Task, get_task
from dinsegment.worker_exchange import (
    CORRECTED_OF,
    DISAGREEMENT,
    ENHANCED,
    IMAGE,
    IMAGE_OF,
    LABELS,
    LABELS_OF,
    PHASE,
    UNEXPECTED,
    Channel,
    alive,
    in_steps,
    save,
    told,
)

if TYPE_CHECKING:  # What computes only once it is asked for.
    from dinsegment.correction.pipeline import FeaturesKept
    from dinsegment.correction.serving import StrokeServer
    from dinsegment.images.segmentation import Segmentation
    from dinsegment.inference.model import Model


class Models:
    """Models that were used once stay in memory."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[str | None, str], tuple[int, Model]] = {}
        self._strokes: StrokeServer | None = None
        self._features: FeaturesKept | None = None

    @property
    def strokes(self) -> StrokeServer:
        """What answers strokes with these models."""
        if self._strokes is None:
            from dinsegment.correction.serving import StrokeServer

            self._strokes = StrokeServer(self.load)
        return self._strokes

    @property
    def features(self) -> FeaturesKept:
        """What the models saw of the images that were corrected last."""
        if self._features is None:
            from dinsegment.correction.pipeline import FeaturesKept

            self._features = FeaturesKept()
        return self._features

    def load(self, name: str | None, task: Task, **options: Any) -> Model:
        """The model `load_model` gives; one that was loaded before is returned again without being read.

        One of a run's folder is read again once another run was written there.
        """
        from dinsegment.inference.model import load_model
        from dinsegment.models.entries import LIST, choose_folder

        _, folder = choose_folder(name, None)
        key, written = (name, task.name), 0 if folder is None else (folder / LIST).stat().st_mtime_ns
        if key not in self._loaded or self._loaded[key][0] != written:
            self._loaded[key] = written, load_model(name, task, **options)
        return self._loaded[key][1]


def run_segment(request: dict[str, Any], models: Models, channel: Channel) -> dict[str, Any]:
    """Segments the images in the request's folder and leaves the results there.

    Raises:
        DINSegmentError: As `dinsegment.inference.segment_phases`.
        OutputError: The results could not be written.
    """
    from dinsegment.inference.phases import segment_phases

    folders = [Path(request["folder"]) / PHASE.format(n) for n in range(1, len(request["volumes"]) + 1)]
    tell, cancelled = told(request, channel)

    def progress(number: int, fraction: float, text: str) -> None:
        tell(fraction, text, phase=number + 1, phases=len(folders))

    # Copy on write: a file that cannot be changed, and an array that torch takes without a warning.
    volumes = [
        Volume(np.load(folder / IMAGE, mmap_mode="c"), **volume)
        for folder, volume in zip(folders, request["volumes"], strict=True)
    ]
    how = request["task"], request["model"], request["device"], progress, cancelled, models.load
    results = segment_phases(volumes, *how)
    return {"phases": [_leave(result, folder) for result, folder in zip(results, folders, strict=True)]}


def _leave(result: Segmentation, folder: Path) -> dict[str, Any]:
    """Leaves the arrays of a result in its image's folder; returns what `done` says of it."""
    save(folder, {LABELS: result.labels, ENHANCED: result.enhanced.array})
    return {
        "model": result.model,
        "device": result.device,
        "seconds": result.seconds,
        "warnings": list(result.warnings),
        "findings": _described_findings(result.findings, result.volume, result.task),
        "first": [one.to_dict() for one in result.first],
    }


def _described_findings(found: Sequence[Finding], volume: Volume, task: Task) -> list[dict[str, Any]]:
    return [
        finding.to_dict(volume, task.plane)
        | {"topic": finding.topic, "slices": list(finding.slices), "advice": finding.advice}
        for finding in found
    ]


def run_samples(request: dict[str, Any], models: Models, channel: Channel) -> dict[str, Any]:
    """Draws possible segmentations of an image that was segmented, and leaves in its folder where they differ.

    Raises:
        DINSegmentError: As `dinsegment.inference.samples.with_samples`.
        OutputError: The result could not be written.
    """
    from dinsegment.images.segmentation import Segmentation
    from dinsegment.inference.samples import with_samples

    folder = Path(request["folder"])
    volume = Volume(np.load(folder / IMAGE, mmap_mode="c"), **request["volume"])
    model, device, task = request["model"], request["device"], get_task(request["task"])
    segmentation = Segmentation(volume, np.load(folder / LABELS), task, model or "", volume, device, 0.0)
    result = with_samples(segmentation, request["draws"], model, device, *told(request, channel), models.load)
    samples = result.samples
    if samples is None:
        return {"samples": None, "text": result.warnings[-1]}
    save(folder, {DISAGREEMENT: in_steps(samples.disagreement)})
    return {"samples": samples.to_dict(), "text": ""}


def run_unexpected(request: dict[str, Any], models: Models, channel: Channel) -> dict[str, Any]:
    """Asks a model what it did not expect in an image that was segmented, and leaves the map in its folder.

    Raises:
        DINSegmentError: As `dinsegment.inference.maps.load_maps_model` and `with_unexpected`.
        OutputError: The result could not be written.
    """
    from dinsegment.images.segmentation import Segmentation
    from dinsegment.inference.maps import GREY_RANGE, load_maps_model, with_unexpected

    folder = Path(request["folder"])
    volume = Volume(np.load(folder / IMAGE, mmap_mode="c"), **request["volume"])
    device, task = request["device"], get_task(request["task"])
    progress, cancelled = told(request, channel)
    model = load_maps_model(request["model"], task, cancelled, models.load)
    segmentation = Segmentation(volume, np.load(folder / LABELS), task, "", volume, device, 0.0)
    result = with_unexpected(segmentation, model, device, progress, cancelled)
    if result.unexpected is None:
        return {"model": model.name, "found": False, "text": result.warnings[-1]}
    save(folder, {UNEXPECTED: in_steps(result.unexpected, GREY_RANGE)})
    return {"model": model.name, "found": True, "text": ""}


def run_correct(request: dict[str, Any], models: Models, channel: Channel) -> dict[str, Any]:
    """Learns from what a user has corrected and leaves the new labels in the request's folder.

    Raises:
        DINSegmentError: As `dinsegment.correction.correct`.
        OutputError: The results could not be written.
    """
    from dinsegment.correction.pipeline import correct

    folder, task = Path(request["folder"]), get_task(request["task"])
    numbered = list(enumerate(request["volumes"], start=1))
    volumes = [Volume(np.load(folder / IMAGE_OF.format(n), mmap_mode="c"), **one) for n, one in numbered]
    labels = [np.load(folder / LABELS_OF.format(n)) for n, _ in numbered]
    result = correct(
        volumes, labels, request["seen"], task, request["model"], request["device"], *told(request, channel),
        models.load, models.features,
    )  # fmt: skip
    save(folder, {CORRECTED_OF.format(n): array for n, array in enumerate(result.labels, start=1)})
    return {
        "applied": result.applied,
        "text": result.text,
        "changed": result.changed,
        "seen": result.seen,
        "findings": [
            _described_findings(found, volume, task) for volume, found in zip(volumes, result.findings, strict=True)
        ],
        "first": [[one.to_dict() for one in of_phase] for of_phase in result.first],
        "warnings": result.warnings,
        "model": result.model,
        "device": result.device,
        "seconds": result.seconds,
    }


def run_adapt(request: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Adapts a model to a folder of cases.

    Raises:
        DINSegmentError: As `dinsegment.training.adapt`.
    """
    from dinsegment.training.adapt import adapt

    progress, _ = told(request, channel)
    progress(0.0, "Reading the cases")
    where = Path(request["cases"]), Path(request["output"])
    with alive(request, channel):  # Reading and scoring cases ask nobody, and take minutes.
        adapted = adapt(
            request["model"], get_task(request["task"]), *where, request["device"], request.get("epochs"), progress
        )
    return {
        "output": str(adapted.output),
        "before": adapted.before,
        "after": adapted.after,
        "better": adapted.better,
        "held_out": adapted.held_out,
        "trained_on": adapted.trained_on,
        "text": adapted.text,
    }


def run_strokes(request: dict[str, Any], models: Models, channel: Channel) -> dict[str, Any]:
    """Looks at slices of an image, or answers strokes in one of them.

    Raises:
        DINSegmentError: As the methods of `dinsegment.correction.serving.StrokeServer`.
    """
    folder, (_, cancelled) = Path(request["folder"]), told(request, channel)
    if request["command"] == "stroke":
        return models.strokes.answer(request, folder, cancelled)
    return models.strokes.look(request, folder / IMAGE, cancelled)
