"""Images that the worker segments: what is written for it, what it is asked, and what it answers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dinsegment.images.segmentation import Finding, Segmentation, ToCorrect
from dinsegment.images.volume import Volume, check_grid
from dinsegment.tasks import get_task
from dinsegment.worker_exchange import ENHANCED, IMAGE, LABELS, PHASE

BLOCK_VOXELS = 512 * 512


@dataclass(frozen=True, eq=False)
class JobImage:
    """What a job reads of a node, without copying it.

    Attributes:
        array: Voxels (k, j, i) of any real type; may be a live view of a node's voxels.
        ijk_to_ras: 4x4, from (i, j, k, 1) to millimetres in RAS.
        name: What messages call it.
        modality: DICOM modality (`MR`, `CT`) where the source tells, else None.
    """

    array: np.ndarray
    ijk_to_ras: np.ndarray
    name: str
    modality: str | None


class SegmentPart:
    """The images of a job that segments, all phases of a heart, which the worker sees as one thing.

    Args:
        images: At least one; read while the part is written.
        task: Name of a task.
        model: Name of a model, or None for the task's first.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
    """

    def __init__(self, images: Sequence[JobImage], task: str, model: str | None, device: str) -> None:
        self._images = list(images)
        self._options = {"task": task, "model": model, "device": device}
        self._volumes = [
            {"name": image.name, "ijk_to_ras": np.asarray(image.ijk_to_ras).tolist(), "modality": image.modality}
            for image in images
        ]

    def check(self) -> None:
        """Raises InputError for an unknown task."""
        get_task(self._options["task"])

    def write(self, folder: Path) -> Iterator[None]:
        """Writes the images, one block a step; each is not needed any more afterwards.

        Raises:
            InputError: A grid is none.
        """
        for number in range(1, len(self._volumes) + 1):
            image = self._images.pop(0)
            check_grid(image)
            beside = folder / PHASE.format(number)
            beside.mkdir()
            yield from write_blocks(beside / IMAGE, image.array)

    def request(self) -> dict[str, Any]:
        """What the worker is told."""
        return {"command": "segment", "volumes": self._volumes, **self._options}

    def result(self, folder: Path, event: dict[str, Any]) -> list[Segmentation]:
        """What the worker's `done` and its files say, of each image.

        Raises:
            KeyError, TypeError, ValueError: They are not what was agreed.
        """
        folders = [folder / PHASE.format(number) for number in range(1, len(self._volumes) + 1)]
        return [self._of_phase(*one) for one in zip(folders, self._volumes, event["phases"], strict=True)]

    def _of_phase(self, folder: Path, described: dict[str, Any], told: dict[str, Any]) -> Segmentation:
        volume = Volume(load(folder / IMAGE, np.float32), **described)
        enhanced = load(folder / ENHANCED, np.float32, volume.shape)
        return Segmentation(
            volume=volume,
            labels=load(folder / LABELS, np.uint8, volume.shape),
            task=get_task(self._options["task"]),
            model=str(told["model"]),
            enhanced=volume.with_array(enhanced, name=f"{volume.name} fuzzy-enhanced"),
            device=str(told["device"]),
            seconds=float(told["seconds"]),
            warnings=tuple(map(str, told["warnings"])),
            findings=tuple(finding_of(**finding) for finding in told.get("findings", ())),
            first=tuple(_to_correct(**one) for one in told.get("first", ())),
        )

    def close(self) -> None:
        """All files are in the job's folder, which the job removes."""


def finding_of(
    text: str,
    short: str,
    slice: int | None,
    ras: list[float] | None,
    segment: int | None,
    kind: str = "",
    topic: str = "",
    slices: Sequence[int] = (),
    advice: str = "",
    ml: float = 0.0,
) -> Finding:
    """What the worker tells of a finding; the number of its slice is in its text, too."""
    place = None
    if ras is not None:
        r, a, s = map(float, ras)
        place = (r, a, s)
    said = str(text), place, segment, str(short), str(kind), str(topic), tuple(int(n) for n in slices), str(advice)
    return Finding(*said, ml=float(ml))


def _to_correct(slice: int, segment: int, ml: float, ras: list[float]) -> ToCorrect:
    r, a, s = map(float, ras)
    return ToCorrect(int(slice), int(segment), float(ml), (r, a, s))


def write_blocks(path: Path, array: np.ndarray, dtype: type = np.float32) -> Iterator[None]:
    """Writes an array (k, j, i) as .npy of another type, a block of rows a step."""
    # By writing, not through a memory map: a full disk is an error there, and the end of the process here.
    with path.open("wb") as file:
        descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
        np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": array.shape})
        rows = max(1, BLOCK_VOXELS // array.shape[2])
        for k, j in itertools.product(range(array.shape[0]), range(0, array.shape[1], rows)):
            with np.errstate(over="ignore"):  # Too large becomes infinite, which the library refuses in its words.
                block = np.ascontiguousarray(array[k, j : j + rows], dtype=dtype)
            file.write(block.data)
            yield


def load(path: Path, dtype: type, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """A memory-mapped .npy file that is what it should be.

    Raises:
        ValueError: It is missing or damaged, or has another type or shape.
    """
    try:
        array = np.load(path, mmap_mode="r").view(np.ndarray)
    except OSError as error:
        raise ValueError(f"{path.name}: {error.strerror or error}") from error
    if array.dtype != dtype or (shape is not None and array.shape != shape):
        raise ValueError(f"{path.name} is {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}")
    return array
