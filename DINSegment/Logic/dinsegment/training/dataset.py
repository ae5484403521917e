"""Cases on disk, their split into patients, and the slices that training draws from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dinsegment.errors import InputError
from dinsegment.images import read_volume
from dinsegment.preprocessing import Preprocessing, View, decide
from dinsegment.slices import SliceStack
from dinsegment.tasks import Task
from dinsegment.volume import Volume


@dataclass(frozen=True)
class Case:
    """One labelled image.

    Attributes:
        patient: What a split names.
        name: The image's own name.
        image: Its file.
        labels: The labelmap's file, on the same grid.
        phase: `ED` or `ES` where the data set tells, else empty.
    """

    patient: str
    name: str
    image: Path
    labels: Path
    phase: str = ""

    def read(self, task: Task) -> tuple[Volume, np.ndarray]:
        """The image and its labels (k, j, i), uint8.

        Raises:
            InputError: A file cannot be read, the grids differ, or a label is none of the task's.
        """
        volume, truth = read_volume(self.image), read_volume(self.labels)
        if truth.shape != volume.shape or not np.allclose(truth.ijk_to_ras, volume.ijk_to_ras, atol=1e-2):
            raise InputError(f"'{self.labels}' does not lie on the grid of '{self.image}'.")
        values = np.unique(truth.array)
        if not np.isin(values, range(task.classes)).all():
            raise InputError(f"'{self.labels}' has labels other than 0 to {task.classes - 1}: {values.tolist()}.")
        return volume, truth.array.astype(np.uint8)


def read_split(path: Path) -> list[str]:
    """Patients of a split: a text file with one name a line."""
    try:
        names = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The split '{path}' cannot be read: it is a text file with one patient a line.") from error
    if not names:
        raise InputError(f"The split '{path}' names no patient.")
    return names


def find_cases(data: Path, patients: Iterable[str]) -> list[Case]:
    """The labelled images of those patients in ACDC's published layout.

    That is `PATIENT/PATIENT_frameFF.nii.gz` with `_gt.nii.gz` beside it, and `Info.cfg` naming the ED and ES frames.

    Raises:
        InputError: A patient has no folder or no labelled image.
    """
    cases = []
    for patient in patients:
        folder = data / patient
        found = sorted(folder.glob(f"{patient}_frame*_gt.nii*"))
        if not found:
            raise InputError(f"There is no labelled image '{patient}_frame*_gt.nii.gz' in '{folder}'.")
        phases = _phases(folder / "Info.cfg")
        for labels in found:
            name, _, suffix = labels.name.partition("_gt")
            frame = name.rpartition("frame")[2].lstrip("0")
            cases.append(Case(patient, name, labels.with_name(name + suffix), labels, phases.get(frame, "")))
    return cases


def _phases(info: Path) -> dict[str, str]:
    """Frame number -> `ED` or `ES`, from ACDC's Info.cfg; empty without that file."""
    if not info.exists():
        return {}
    try:
        lines = info.read_text(encoding="utf-8").splitlines()
        pairs = (line.partition(":") for line in lines)
        entries = {key.strip(): value.strip() for key, _, value in pairs}
        return {str(int(entries[phase])): phase for phase in ("ED", "ES") if phase in entries}
    except (OSError, ValueError) as error:
        raise InputError(f"'{info}' does not name the ED and ES frames by their numbers: correct it.") from error


@dataclass(frozen=True, eq=False)
class TrainingStack:
    """One case, ready to draw slices from.

    Attributes:
        image: (slices, y, x) float16 at the box's spacing over the whole field of view; 0 and 1 are the grey values at
            the percentiles of the box around the anatomy, values beyond are kept.
        labels: (slices, y, x) uint8 on the same grid.
        center: (y, x) of the anatomy in pixels of that grid.
        overview_window: (low, high) at the percentiles of the whole field of view, in the units of `image`.
    """

    image: Tensor
    labels: Tensor
    center: tuple[float, float]
    overview_window: tuple[float, float]


def prepare(case: Case, task: Task, preprocessing: Preprocessing) -> TrainingStack:
    """Reads a case and resamples it as inference does, around the experts' anatomy."""
    volume, labels = case.read(task)
    stack = SliceStack.of(volume)
    truth = SliceStack(np.moveaxis(labels, stack.axis, 0), stack.spacing, stack.axis)
    extent = stack.extent_mm
    size = np.maximum(1, np.round(extent / preprocessing.spacing)).astype(int)
    middle = (extent - stack.spacing) / 2
    view = View((middle[0], middle[1]), (int(size[0]), int(size[1])), preprocessing.spacing)
    _, rows, columns = np.nonzero(truth.array)
    if not len(rows):
        raise InputError(f"'{case.labels}' has no label above 0: there is nothing to learn from.")
    center = (float(rows.mean()) * stack.spacing[0], float(columns.mean()) * stack.spacing[1])
    low, high = preprocessing.window(*preprocessing.box_around(center).sample(stack))
    image, inside = view.sample(stack)
    overview = preprocessing.window(image, inside)
    masks = (truth.array == s.label for s in task.segments)
    soft = [view.sample(SliceStack(m.astype(np.float32), stack.spacing, stack.axis))[0] for m in masks]
    return TrainingStack(
        image=((image - low) / (high - low)).half(),
        labels=decide(torch.stack(soft)),
        center=tuple(float(c - f) / preprocessing.spacing for c, f in zip(center, view.first, strict=True)),
        overview_window=((overview[0] - low) / (high - low), (overview[1] - low) / (high - low)),
    )


class SliceSampler:
    """Draws slices of all stacks in random order, each once an epoch. Its state is its epoch and its seed."""

    def __init__(self, stacks: Sequence[TrainingStack], batch: int, seed: int) -> None:
        self.index = [(n, k) for n, stack in enumerate(stacks) for k in range(len(stack.image))]
        self.batch = batch
        self.seed = seed

    def __len__(self) -> int:
        return len(self.index) // self.batch

    def epoch(self, number: int) -> list[list[tuple[int, int]]]:
        """Batches of (stack, slice) of that epoch; the rest that fills no batch is left out."""
        order = np.random.default_rng((self.seed, number)).permutation(len(self.index))
        return [[self.index[i] for i in order[n * self.batch : (n + 1) * self.batch]] for n in range(len(self))]
