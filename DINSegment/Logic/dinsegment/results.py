"""The files of a result, all or none."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dinsegment.errors import OutputError
from dinsegment.files import ensure_writable_folder
from dinsegment.images import write_segmentation, write_volume
from dinsegment.measurements import cardiac_function, report
from dinsegment.overview import write_overview
from dinsegment.segmentation import Segmentation


def write_json(content: Any, path: Path) -> None:
    """Writes JSON that people read, too."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def staged(output: Path) -> Iterator[Path]:
    """A folder beside its place whose content replaces what has the same name in `output` once all is written."""
    existed = output.exists()
    ensure_writable_folder(output)
    staging = Path(tempfile.mkdtemp(prefix=".dinsegment-", dir=output))
    try:
        yield staging
        for item in sorted(staging.iterdir()):
            target = output / item.name
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            item.replace(target)
    except BaseException as error:
        shutil.rmtree(staging, ignore_errors=True)
        if not existed:
            shutil.rmtree(output, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, OutputError):
            reason = (error.strerror or str(error)).lower()
            raise OutputError(f"The results could not be written to '{output}': {reason}.") from error
        raise
    shutil.rmtree(staging, ignore_errors=True)


def _write_phase(segmentation: Segmentation, folder: Path) -> None:
    write_segmentation(segmentation, folder / "segmentation.seg.nrrd")
    write_volume(segmentation.enhanced, folder / "enhanced.nrrd")
    write_overview(segmentation, folder / "overview.png")
    write_json(report(segmentation), folder / "measurements.json")


def write_results(phases: Sequence[Segmentation], output: Path) -> None:
    """Writes segmentation.seg.nrrd, enhanced.nrrd, overview.png and measurements.json into `output`.

    Several phases of one heart get a folder each, phase01, phase02, ..., and a measurements.json of their own with all
    phases and, where two or more show it, the heart's function.

    Raises:
        OutputError: Something could not be written; then nothing is left.
    """
    with staged(output) as folder:
        if len(phases) == 1:
            _write_phase(phases[0], folder)
            return
        for number, segmentation in enumerate(phases, start=1):
            phase = folder / f"phase{number:02d}"
            phase.mkdir()
            _write_phase(segmentation, phase)
        function = cardiac_function(phases)
        content = {
            "phases": [report(s) for s in phases],
            "function": asdict(function) if function else None,
        }
        write_json(content, folder / "measurements.json")
