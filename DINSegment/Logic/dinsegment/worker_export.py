"""What `dinsegment.worker` writes as DICOM SEG: masks of a program, with references to the images they are of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinsegment.tasks import Code
from dinsegment.worker_exchange import IMAGE, MASK, SOURCES, Channel, told

if TYPE_CHECKING:  # DICOM only once it is asked for.
    from dinsegment.dicom.read.match import Instances
    from dinsegment.dicom.write.seg import SegSegment


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


def run_export(request: dict[str, Any], channel: Channel, sources: Sources) -> dict[str, Any]:
    """Writes the masks in the request's folder as a DICOM SEG.

    Raises:
        InputError: No instances show the image, or no DICOM SEG can be made of them.
        OutputError: The file could not be written; nothing is left of it.
    """
    from dinsegment.dicom.read.match import Grid
    from dinsegment.dicom.write.save import save_dicom
    from dinsegment.dicom.write.seg import SegOptions, make_dicom_seg

    folder, path = Path(request["folder"]), Path(request["path"])
    progress, cancelled = told(request, channel)
    progress(0.1, "Reading the headers of the DICOM images")
    paths = json.loads((folder / SOURCES).read_text(encoding="utf-8"))
    instances = sources.open(request["run"], paths, cancelled)
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
