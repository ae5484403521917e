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

    {"command": "unexpected", "id": 5, "folder": "/tmp/v", "task": "heart", "model": "/data/run", "device": "auto",
     "volume": {...}}

asks a model what it did not expect in image.npy, in the box around what labels.npy (k, j, i), uint8, says.

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
                samples as `images.samples.Samples.to_dict` has them, and disagreement.npy (uint8, 255 for 1), the
                probability of another label over all draws, is in the folder; where the model finds no anatomy samples
                is null, and text says so; of `unexpected`: model, its name, and found; unexpected.npy (uint8, 255 for
                the whole grey range) is in the folder, or where nothing was segmented text says so; of `export`: path,
                and uid, the SOP Instance UID; of `look` and `stroke`: known, whether the image is; of `correct`:
                applied, text, changed, seen, findings and first, a list for each phase, warnings, model, device and
                seconds, with the new labels in the folder, corrected 1.npy (uint8) and so on; of `adapt`: output,
                before, after, better, held_out, trained_on, text
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
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from dinsegment.errors import DINSegmentError, InputError
from dinsegment.worker_compute import (
    Models,
    run_adapt,
    run_correct,
    run_samples,
    run_segment,
    run_strokes,
    run_unexpected,
)
from dinsegment.worker_exchange import Channel
from dinsegment.worker_export import Sources, run_export

if TYPE_CHECKING:
    from dinsegment.worker_report import Reports

REPORTS = {"report": "measure", "figures": "draw", "page": "write_page"}
"""Methods of `worker_report.Reports` by the commands that ask for them."""

IDLE_LIMIT_S = 15 * 60.0
"""Without a request for so long, the process ends and gives its memory back."""


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
        DINSegmentError: As the functions of `worker_compute`, `worker_export` and `worker_report` that do it.
    """
    command = request["command"]
    if command == "segment":
        return run_segment(request, models, channel)
    if command == "export":
        return run_export(request, channel, sources)
    if command == "samples":
        return run_samples(request, models, channel)
    if command == "unexpected":
        return run_unexpected(request, models, channel)
    if command == "correct":
        return run_correct(request, models, channel)
    if command == "adapt":
        return run_adapt(request, channel)
    if command in ("look", "stroke"):
        return run_strokes(request, models, channel)
    if reports is not None and command in REPORTS:
        return getattr(reports, REPORTS[command])(request)
    commands = ("segment", "samples", "unexpected", "export", "look", "stroke", "correct", "adapt")
    known = ", ".join(f"'{one}'" for one in commands)
    raise InputError(
        f"There is no command '{command}'; there are {known}, and in a process for reports "
        f"{', '.join(map(repr, REPORTS))}."
    )


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
