"""The process that keeps models warm: requests in, events out, arrays in files.

`python -m dinsegment.worker` is started by another program and serves it until that ends. Requests come on standard
input and events go to standard output, one JSON object a line; whatever else a library prints goes to standard error.

Request, with each image, all phases of a heart, as image.npy (k, j, i), float32 or int16, in the folders phase 1, phase
2, ... of the folder:

    {"command": "segment", "id": 1, "folder": "/tmp/x", "task": "heart", "model": null, "device": "auto",
     "volumes": [{"name": "Cine SAX", "ijk_to_ras": [[...], [...], [...], [...]], "modality": "MR"}, ...]}

    {"command": "export", "id": 2, "folder": "/tmp/y", "path": "/out/Cine SAX.dcm", "run": "a7", "phase": 0,
     "volume": {"name": "Cine SAX", "shape": [12, 256, 256], "ijk_to_ras": [[...], [...], [...], [...]]},
     "segments": [{"name": "Liver", "category": ["SCT", "123037004", "Anatomical Structure"], "type": [...],
                   "first": [4, 30, 60], "algorithm_type": "AUTOMATIC", ...}], "options": {"series_number": 300, ...}}

writes a DICOM SEG: mask 1.npy, mask 2.npy, ... in the folder, (k, j, i), bool, are what the segments cover from their
voxel `first` on. sources.json is a list of files or folders among which the instances of the slices are found by their
places; where several lie in one place, image.npy, if it is there, tells them apart, and `phase` says which to look at
first. Sources that several requests of one `run` share are read once. What segments and options hold is in
`dinsegment.dicom.write.seg`.

    {"command": "samples", "id": 5, "folder": "/tmp/v", "task": "heart", "model": null, "device": "auto", "draws": 16,
     "volume": {...}}

draws possible segmentations of image.npy, whose labels are labels.npy (k, j, i), uint8. Draws of the same number in the
requests for other phases of a heart belong together.

    {"command": "look", "id": 3, "folder": "/tmp/z", "key": "b2", "slices": [4, 5, 6], "task": "heart", "model": null,
     "device": "auto", "volume": {...}}
    {"command": "stroke", "id": 4, "folder": "/tmp/w", "key": "b2", "segment": 3, "slice": 5, "first": 4}

`look` computes the features of slices of an image.npy, which a `key` then names; without a volume, of the image that
is remembered. `stroke` gives a segment's masks after strokes in one slice; `dinsegment.correction.serving` says what
is in the folder.

    {"command": "correct", "id": 5, "folder": "/tmp/z", "task": "heart", "model": null, "device": "auto",
     "volumes": [{"name": "Cine SAX", "ijk_to_ras": [...], "modality": "MR"}, ...], "seen": [[3, 4], [], ...]}

learns from the slices that a user has corrected and predicts the others again. For each phase, counted from 1, the
folder has its image, `image 1.npy`, and the labels as the user has them, `labels 1.npy` (uint8); `seen` has the
corrected slices of each, counted from 0 along the image's slice axis. What the network saw of the last images is kept,
so that another round is quicker.

    {"command": "adapt", "id": 6, "task": "heart", "model": "heart-din-small", "device": "auto",
     "cases": "/data/mine", "output": "/data/run", "epochs": null}

goes on training a model on a folder of cases and writes one of its own.

`python -m dinsegment.worker report` serves reports alone, without what a network needs: see `dinsegment.worker_report`.

Events; all but the first carry the request's id:

    ready       everything is loaded; sent once, at the start
    alive       a sign of life of the computation, at most one a second
    progress    fraction 0..1, text; of `segment` phase and phases, which one it is about, from 1, of how many
    done        of `segment`: phases, one for each image, with model, device, seconds, warnings, findings, each with
                kind, text, short, slice, ras, segment, ml, topic, slices and advice, and first, where to correct first;
                labels.npy (uint8) and enhanced.npy (of the type of image.npy) are beside each image.npy; of `samples`:
                samples as `images.samples.Samples.to_dict` has them, and disagreement.npy (float32), the probability
                of another label over all draws, is in the folder; where the model finds no anatomy samples is null, and
                text says so; of `export`: path, and uid, the SOP Instance UID; of `look` and `stroke`: known, whether
                the image is; of `correct`: applied, text, changed, seen, findings and first, a list for each phase,
                warnings, model, device and seconds, with the new labels in the folder, corrected 1.npy (uint8) and so
                on; of `adapt`: output, before, after, better, held_out, trained_on, text
    error       type and message of the exception, and its traceback where it is none of the library's own

The files of a request are closed before its `done` or `error` is sent.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from dinsegment.errors import DINSegmentError, InputError, OutputError
from dinsegment.images.segmentation import Finding
from dinsegment.images.volume import Volume
from dinsegment.tasks import Code, Task

if TYPE_CHECKING:  # DICOM only once it is asked for, and what computes only in the worker itself.
    from dinsegment.correction.pipeline import FeaturesKept
    from dinsegment.correction.serving import StrokeServer
    from dinsegment.dicom.read.match import Instances
    from dinsegment.dicom.write.seg import SegSegment
    from dinsegment.images.segmentation import Segmentation
    from dinsegment.inference.model import Model
    from dinsegment.worker_report import Reports

IMAGE, LABELS, ENHANCED = "image.npy", "labels.npy", "enhanced.npy"
DISAGREEMENT = "disagreement.npy"
IMAGE_OF, LABELS_OF, CORRECTED_OF = "image {}.npy", "labels {}.npy", "corrected {}.npy"
"""Of several phases, counted from 1."""

MASK, SOURCES = "mask {}.npy", "sources.json"
PHASE = "phase {}"
"""Folder of an image, counted from 1."""

REPORTS = {"report": "measure", "figures": "draw", "page": "write_page"}
"""Methods of `worker_report.Reports` by the commands that ask for them."""

IDLE_LIMIT_S = 15 * 60.0
"""Without a request for so long, the process ends and gives its memory back."""

ALIVE_INTERVAL_S = 1.0


class Channel:
    """Events to the program that started this process."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._said = 0.0

    def send(self, event: str, **content: Any) -> None:
        """Sends one event."""
        self._said = time.monotonic()
        # One write a line, so that no reader ever sees two events mixed.
        self._stream.write(json.dumps({"event": event, **content}).encode() + b"\n")

    def alive(self, request_id: int) -> None:
        """Sends a sign of life unless the last event was a moment ago."""
        if time.monotonic() - self._said >= ALIVE_INTERVAL_S:
            self.send("alive", id=request_id)


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


class Sources:
    """The DICOM files of the last run."""

    def __init__(self) -> None:
        self._key: tuple[str, ...] = ()
        self._instances: Instances | None = None

    def open(self, run: str, paths: list[str], alive: Callable[[], object]) -> Instances:
        """The instances in DICOM files; those of the last call are returned again without being read.

        That is right because files do not change within a run, in which each phase of a cine asks for the same ones.

        Args:
            run: ID of the run.
            paths: The files.
            alive: Called between files.
        """
        from dinsegment.dicom.read.match import Instances

        if self._instances is None or (run, *paths) != self._key:
            self._instances = None
            self._instances = Instances([Path(path) for path in paths], alive)
            self._key = run, *paths
        return self._instances


def take_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output for this protocol alone, both binary.

    From then on everything else that is printed goes to standard error, and everything else that reads standard input
    finds it at its end; on Windows a library that only looks at it while a thread reads it would wait forever.
    """
    requests, events = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, events


def read_requests(stream: BinaryIO, requests: queue.Queue[bytes]) -> None:
    """Hands on line after line; at the end, when the program that started this process is gone, ends at once."""
    for line in stream:
        requests.put(line)
    os._exit(0)  # The only way out while another thread computes.


def run(
    request: dict[str, Any], models: Models, channel: Channel, sources: Sources, reports: Reports | None = None
) -> dict[str, Any]:
    """Does what a request says.

    Returns:
        What `done` says.

    Raises:
        DINSegmentError: As `run_segment`, `run_export`, `run_correct`, `run_adapt` and `worker_report.Reports`.
    """
    command = request["command"]
    if command == "segment":
        return run_segment(request, models, channel)
    if command == "export":
        return run_export(request, channel, sources)
    if command == "samples":
        return run_samples(request, models, channel)
    if command == "correct":
        return run_correct(request, models, channel)
    if command == "adapt":
        return run_adapt(request, channel)
    if command in ("look", "stroke"):
        return run_strokes(request, models, channel)
    if reports is not None and command in REPORTS:
        return getattr(reports, REPORTS[command])(request)
    known = ", ".join(f"'{one}'" for one in ("segment", "samples", "export", "look", "stroke", "correct", "adapt"))
    raise InputError(
        f"There is no command '{command}'; there are {known}, and in a process for reports "
        f"{', '.join(map(repr, REPORTS))}."
    )


def run_segment(request: dict[str, Any], models: Models, channel: Channel) -> dict[str, Any]:
    """Segments the images in the request's folder and leaves the results there.

    Raises:
        DINSegmentError: As `dinsegment.inference.segment_phases`.
        OutputError: The results could not be written.
    """
    from dinsegment.inference.phases import segment_phases

    folders = [Path(request["folder"]) / PHASE.format(n) for n in range(1, len(request["volumes"]) + 1)]
    tell, cancelled = _told(request, channel)

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
    _save(folder, {LABELS: result.labels, ENHANCED: result.enhanced.array})
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


def run_correct(request: dict[str, Any], models: Models, channel: Channel) -> dict[str, Any]:
    """Learns from what a user has corrected and leaves the new labels in the request's folder.

    Raises:
        DINSegmentError: As `dinsegment.correction.correct`.
        OutputError: The results could not be written.
    """
    from dinsegment.correction.pipeline import correct
    from dinsegment.tasks import get_task

    request_id, folder, task = request["id"], Path(request["folder"]), get_task(request["task"])

    def progress(fraction: float, text: str) -> None:
        channel.send("progress", id=request_id, fraction=fraction, text=text)

    def cancelled() -> bool:  # Whoever cancels ends this process.
        channel.alive(request_id)
        return False

    numbered = list(enumerate(request["volumes"], start=1))
    volumes = [Volume(np.load(folder / IMAGE_OF.format(n), mmap_mode="c"), **one) for n, one in numbered]
    labels = [np.load(folder / LABELS_OF.format(n)) for n, _ in numbered]
    result = correct(
        volumes, labels, request["seen"], task, request["model"], request["device"], progress, cancelled, models.load,
        models.features,
    )  # fmt: skip
    try:
        for n, array in enumerate(result.labels, start=1):
            np.save(folder / CORRECTED_OF.format(n), array)
    except OSError as error:
        raise OutputError(
            f"The result could not be written to '{folder}' ({error.strerror or error}): make room there and try again."
        ) from error
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
    from dinsegment.tasks import get_task
    from dinsegment.training.adapt import adapt

    def progress(fraction: float, text: str) -> None:
        channel.send("progress", id=request["id"], fraction=fraction, text=text)

    progress(0.0, "Reading the cases")
    where = Path(request["cases"]), Path(request["output"])
    with _alive(request, channel):  # Reading and scoring cases ask nobody, and take minutes.
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


def run_samples(request: dict[str, Any], models: Models, channel: Channel) -> dict[str, Any]:
    """Draws possible segmentations of an image that was segmented, and leaves in its folder where they differ.

    Raises:
        DINSegmentError: As `dinsegment.inference.samples.with_samples`.
        OutputError: The result could not be written.
    """
    from dinsegment.images.segmentation import Segmentation
    from dinsegment.inference.samples import with_samples
    from dinsegment.tasks import get_task

    folder, told = Path(request["folder"]), _told(request, channel)
    volume = Volume(np.load(folder / IMAGE, mmap_mode="c"), **request["volume"])
    model, device, task = request["model"], request["device"], get_task(request["task"])
    segmentation = Segmentation(volume, np.load(folder / LABELS), task, model or "", volume, device, 0.0)
    result = with_samples(segmentation, request["draws"], model, device, *told, models.load)
    samples = result.samples
    if samples is None:
        return {"samples": None, "text": result.warnings[-1]}
    _save(folder, {DISAGREEMENT: samples.disagreement})
    return {"samples": samples.to_dict(), "text": ""}


def _told(request: dict[str, Any], channel: Channel) -> tuple[Callable[..., None], Callable[[], bool]]:
    """What takes the progress of a request, and what asks whether it is cancelled."""
    request_id = request["id"]

    def progress(fraction: float, text: str, **phase: int) -> None:
        channel.send("progress", id=request_id, fraction=fraction, text=text, **phase)

    def cancelled() -> bool:  # Whoever cancels ends this process.
        channel.alive(request_id)
        return False

    return progress, cancelled


@contextmanager
def _alive(request: dict[str, Any], channel: Channel) -> Iterator[None]:
    """Sends signs of life from a thread of its own, so long as the block takes."""
    ended = threading.Event()

    def say() -> None:
        while not ended.wait(ALIVE_INTERVAL_S):
            channel.alive(request["id"])

    thread = threading.Thread(target=say, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _save(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """Arrays by the names of their files.

    Raises:
        OutputError: One could not be written.
    """
    try:
        for name, array in arrays.items():
            np.save(folder / name, array)
    except OSError as error:
        raise OutputError(
            f"The result could not be written to '{folder}' ({error.strerror or error}): make room there and try again."
        ) from error


def run_export(request: dict[str, Any], channel: Channel, sources: Sources) -> dict[str, Any]:
    """Writes the masks in the request's folder as a DICOM SEG.

    Raises:
        InputError: No instances show the image, or no DICOM SEG can be made of them.
        OutputError: The file could not be written; nothing is left of it.
    """
    from dinsegment.dicom.read.match import Grid
    from dinsegment.dicom.write.save import save_dicom
    from dinsegment.dicom.write.seg import SegOptions, make_dicom_seg

    request_id, folder, path = request["id"], Path(request["folder"]), Path(request["path"])

    def progress(fraction: float, text: str) -> None:
        channel.send("progress", id=request_id, fraction=fraction, text=text)

    progress(0.1, "Reading the headers of the DICOM images")
    paths = json.loads((folder / SOURCES).read_text(encoding="utf-8"))
    instances = sources.open(request["run"], paths, lambda: channel.alive(request_id))
    volume = request["volume"]
    grid = Grid(volume["name"], tuple(volume["shape"]), np.array(volume["ijk_to_ras"]))
    image = folder / IMAGE
    voxels = np.load(image, mmap_mode="r") if image.exists() else None
    progress(0.3, "Looking for the DICOM image of each slice")
    source = instances.source_of(grid, voxels, request["phase"])
    progress(0.5, "Making the DICOM SEG")
    masks = [_whole_mask(folder / MASK.format(n), s["first"], grid.shape) for n, s in enumerate(request["segments"], 1)]
    segments = [_described_segment(segment) for segment in request["segments"]]
    seg = make_dicom_seg(masks, segments, source, SegOptions(**request["options"]), grid.ijk_to_ras)
    progress(0.8, f"Writing '{path.name}'")
    save_dicom(seg, path)
    return {"path": str(path), "uid": str(seg.SOPInstanceUID)}


def run_strokes(request: dict[str, Any], models: Models, channel: Channel) -> dict[str, Any]:
    """Looks at slices of an image, or answers strokes in one of them.

    Raises:
        DINSegmentError: As the methods of `dinsegment.correction.serving.StrokeServer`.
    """
    folder = Path(request["folder"])

    def cancelled() -> bool:  # Whoever cancels ends this process.
        channel.alive(request["id"])
        return False

    if request["command"] == "stroke":
        return models.strokes.answer(request, folder, cancelled)
    return models.strokes.look(request, folder / IMAGE, cancelled)


def _whole_mask(path: Path, first: list[int], shape: tuple[int, int, int]) -> np.ndarray:
    """A mask on the whole grid; what lies outside of the part in the file takes no memory until it is written to."""
    part = np.load(path)
    whole = np.zeros(shape, bool)
    whole[tuple(slice(start, start + length) for start, length in zip(first, part.shape, strict=True))] = part
    return whole


def _described_segment(described: dict[str, Any]) -> SegSegment:
    from dinsegment.dicom.write.seg import SegSegment

    values = {key: value for key, value in described.items() if key != "first"}
    for key in ("category", "type", "modifier", "region", "region_modifier", "algorithm_family"):
        if values.get(key) is not None:
            values[key] = Code(*values[key])
    return SegSegment(**values | {"color": tuple(values["color"])})


def answer(
    request: dict[str, Any],
    models: Models,
    channel: Channel,
    sources: Sources | None = None,
    reports: Reports | None = None,
) -> None:
    """Runs a request and sends its `done` or `error`; `sources` and `reports` are those of the requests before it."""
    event, content = "done", {}
    try:
        content = run(request, models, channel, sources or Sources(), reports)
    except Exception as error:
        event, content = "error", {"type": type(error).__name__, "message": str(error)}
        if not isinstance(error, DINSegmentError):
            content["traceback"] = traceback.format_exc()
    # A traceback holds the arrays of its frames, and Windows removes no folder whose files are still mapped.
    gc.collect()
    _release_device_memory()
    channel.send(event, id=request.get("id"), **content)


def _release_device_memory() -> None:
    """Gives back what PyTorch keeps for the next time: this process may be idle for long."""
    torch = sys.modules.get("torch")  # A process for reports has none.
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _offer_to_end_first() -> None:
    """Where memory runs out, Linux ends this process rather than the application with the user's work."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")


def preload() -> None:
    """Loads what the first request would wait for."""
    import dinsegment.inference.pipeline  # noqa: F401


def preload_reports() -> Reports:
    """The same of a process for reports."""
    from dinsegment.worker_report import Reports

    return Reports()


def main(for_reports: bool = False) -> None:
    """Serves requests until there are none for a while; does not return."""
    stream, events = take_standard_streams()
    faulthandler.enable()
    _offer_to_end_first()
    requests: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=read_requests, args=(stream, requests), daemon=True).start()
    reports = preload_reports() if for_reports else preload()
    gc.freeze()  # What is loaded stays, and need not be looked through after each request.
    channel, models, sources = Channel(events), Models(), Sources()
    channel.send("ready")
    while True:
        try:
            line = requests.get(timeout=IDLE_LIMIT_S)
        except queue.Empty:
            break
        answer(json.loads(line), models, channel, sources, reports)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # Not by returning: the interpreter would wait for the thread that reads.


if __name__ == "__main__":
    main(for_reports=sys.argv[1:] == ["report"])
