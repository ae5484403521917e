"""A pack: all prepared cases of a training run in one small file, to be reused and carried to another machine."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from dinsegment.errors import InputError
from dinsegment.files import atomic_path
from dinsegment.images.volume import Volume
from dinsegment.inference.preprocessing import Preprocessing
from dinsegment.tasks import Task
from dinsegment.training.cases import Case
from dinsegment.training.dataset import TrainingStack, prepare

FORMAT = 1
KEY = "dinsegment.pack"
PARTS = ("train", "validation")
MARGIN = (0.2, 0.4)
"""Grey values kept below and above the windows, in units of their width: what augmented windows can still show."""
BINDING = ("plane", "spacing", "slice_spacing", "box", "locate", "percentiles", "grey_window")
"""Options of the preprocessing that a pack is made with; the others are decided when it is used."""


OF_TASK = ("plane", "grey_window")
"""Of these, what the task says; a pack is prepared with it, whatever the task says later."""


@dataclass(frozen=True, eq=False)
class PackedCase:
    """One case of a pack.

    Attributes:
        patient, name, phase: As of the `Case` that it was made from.
        stack: As `prepare` gives it, but for the rounding of grey values.
        preprocessing: Options that it was prepared with.
    """

    patient: str
    name: str
    phase: str
    stack: TrainingStack
    preprocessing: Preprocessing

    def read(self, task: Task) -> tuple[Volume, np.ndarray]:
        """The image and its labels (k, j, i), uint8, on the packed grid, which is not the one it was acquired on.

        Grey values are in Hounsfield units or others where the preprocessing has a fixed window of them, else in units
        of the window of the box.
        """
        spacing, across = self.stack.spacing, self.stack.slice_spacing
        if self.preprocessing.plane == "acquired":
            # Slices lie across the axis of the largest spacing; thin ones would be taken for another orientation.
            across = max(across, spacing)
        low, high = self.preprocessing.grey_window or (0.0, 1.0)
        grey = self.stack.image.float() * (high - low) + low
        # Axial slices as `SliceStack.axial` gives them: these are the axes of LPS.
        matrix = np.diag([-spacing, -spacing, across, 1.0])
        return Volume(grey.numpy(), matrix, self.name), self.stack.labels.numpy()


@dataclass(frozen=True, eq=False)
class Pack:
    """What a pack file holds. There are no test patients in it.

    Attributes:
        task: Name of the task.
        preprocessing: Options that the slices were prepared with; of these, `BINDING` bind.
        bits: Of the grey values, 8 or 16.
        train: Cases to fit to.
        validation: Cases to choose the best weights on.
        sha256: Of the cases' contents.
    """

    task: str
    preprocessing: Preprocessing
    bits: int
    train: tuple[PackedCase, ...]
    validation: tuple[PackedCase, ...]
    sha256: str

    def check(self, task: Task, preprocessing: Preprocessing) -> None:
        """Raises InputError if the pack was made for another task, grid, box or window."""
        if self.task != task.name:
            raise InputError(f"The pack was made for the task '{self.task}', not '{task.name}': make another.")
        for name in BINDING:
            packed, wanted = getattr(self.preprocessing, name), getattr(preprocessing, name)
            if packed != wanted:
                raise InputError(f"The pack was made with {name} {packed}, the recipe wants {wanted}: make another.")


def write_pack(
    train: Sequence[Case],
    validation: Sequence[Case],
    task: Task,
    preprocessing: Preprocessing,
    path: Path,
    progress: Callable[[int, Case], None] | None = None,
    bits: int = 8,
) -> None:
    """Prepares all cases and writes them to one file, complete or not at all.

    The file is a safetensors file: for each case, `N.image` and `N.masks` are zlib streams as uint8, and the metadata's
    entry `dinsegment.pack` is JSON. Grey values become integers of `bits` bits over the windows and `MARGIN`; along
    rows and columns, differences are stored, which compress well. Masks keep 8 bits.

    Args:
        train: Cases that weights are fitted to.
        validation: Cases that the best weights are chosen on; none of them of a patient in `train`.
        task: What is labelled.
        preprocessing: How slices are prepared.
        path: The file.
        progress: Called with the number of a case, from 0, before it is prepared.
        bits: 8, or 16 for grey values without visible rounding.

    Raises:
        InputError: A case cannot be used, or a patient stands in both lists.
        OutputError: The file cannot be written.
    """
    if bits not in (8, 16):
        raise InputError(f"A pack has 8 or 16 bits for a grey value, not {bits}.")
    both = sorted({c.patient for c in train} & {c.patient for c in validation})
    if both:
        raise InputError(f"'{both[0]}' is in the training and in the validation cases: take it out of one of them.")
    entries, tensors, digest = [], {}, hashlib.sha256()
    parts = [(case, "train") for case in train] + [(case, "validation") for case in validation]
    for number, (case, part) in enumerate(parts):
        if progress:
            progress(number, case)
        stack = prepare(case, task, preprocessing)
        low, step = _levels(stack, bits)
        grey = ((stack.image.float() - low) / step).round().clamp(0, 2**bits - 1).numpy().astype(f"<u{bits // 8}")
        for name, array in (("image", _differences(grey)), ("masks", stack.masks.numpy())):
            blob = zlib.compress(array.tobytes())
            digest.update(blob)
            tensors[f"{number}.{name}"] = torch.frombuffer(bytearray(blob), dtype=torch.uint8)
        entries.append(
            {
                "patient": case.patient,
                "name": case.name,
                "phase": case.phase,
                "part": part,
                "shape": list(stack.masks.shape),
                "spacing": [stack.slice_spacing, preprocessing.spacing, preprocessing.spacing],
                "low": low,
                "step": step,
                "center": list(stack.center),
                "overview_window": list(stack.overview_window),
            }
        )
    header = {
        "format": FORMAT,
        "task": task.name,
        "preprocessing": {**preprocessing.to_dict(), **{name: getattr(preprocessing, name) for name in OF_TASK}},
        "bits": bits,
        "sha256": digest.hexdigest(),
        "cases": entries,
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={KEY: json.dumps(header)})


def read_pack(path: Path) -> Pack:
    """A pack in memory.

    Raises:
        InputError: There is no such file, it is no pack, or it is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})[KEY])
            blobs = {name: file.get_tensor(name).numpy().tobytes() for name in file.keys()}  # noqa: SIM118
        if header["format"] != FORMAT:
            raise InputError(f"The pack '{path}' has the format {header['format']}, this version reads {FORMAT}.")
        digest = hashlib.sha256()
        for number in range(len(header["cases"])):
            for name in ("image", "masks"):
                digest.update(blobs[f"{number}.{name}"])
        if digest.hexdigest() != header["sha256"]:
            raise InputError(f"The pack '{path}' is damaged: copy it again, or make it again from the images.")
        preprocessing = Preprocessing.from_dict(header["preprocessing"])
        cases = [_unpack(e, blobs, n, header["bits"], preprocessing) for n, e in enumerate(header["cases"])]
        parts = [entry["part"] for entry in header["cases"]]
        train, validation = (tuple(c for c, p in zip(cases, parts, strict=True) if p == w) for w in PARTS)
        return Pack(header["task"], preprocessing, header["bits"], train, validation, header["sha256"])
    except InputError:
        raise
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, zlib.error) as error:
        raise InputError(f"'{path}' is not a pack that can be read: make it again from the images.") from error


def _unpack(
    entry: dict[str, Any], blobs: dict[str, bytes], number: int, bits: int, preprocessing: Preprocessing
) -> PackedCase:
    slices, segments, rows, columns = entry["shape"]
    grey = np.frombuffer(zlib.decompress(blobs[f"{number}.image"]), f"<u{bits // 8}").reshape(slices, rows, columns)
    masks = np.frombuffer(bytearray(zlib.decompress(blobs[f"{number}.masks"])), np.uint8)
    image = torch.from_numpy(_sums(grey).astype(np.float32)) * entry["step"] + entry["low"]
    stack = TrainingStack(
        image=image.half(),
        masks=torch.from_numpy(masks.reshape(slices, segments, rows, columns)),
        center=(entry["center"][0], entry["center"][1]),
        overview_window=(entry["overview_window"][0], entry["overview_window"][1]),
        slice_spacing=entry["spacing"][0],
        spacing=entry["spacing"][1],
    )
    return PackedCase(entry["patient"], entry["name"], entry["phase"], stack, preprocessing)


def _levels(stack: TrainingStack, bits: int) -> tuple[float, float]:
    """The grey value of level 0, and the step from one level to the next."""
    low, high = min(0.0, stack.overview_window[0]), max(1.0, stack.overview_window[1])
    below, above = (share * (high - low) for share in MARGIN)
    return low - below, (high + above - (low - below)) / (2**bits - 1)


def _differences(grey: np.ndarray) -> np.ndarray:
    """What the neighbours to the left and above do not tell, modulo the type's range."""
    rows = np.diff(grey, axis=1, prepend=grey.dtype.type(0))
    return np.diff(rows, axis=2, prepend=grey.dtype.type(0))


def _sums(differences: np.ndarray) -> np.ndarray:
    """The inverse of `_differences`."""
    kind = differences.dtype
    return differences.cumsum(axis=2, dtype=kind).cumsum(axis=1, dtype=kind)
