"""Labelled cases on disk in the layouts that public data sets come in, and splits of their patients."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dinsegment.errors import InputError
from dinsegment.images.reading import check_there, read_volume
from dinsegment.images.volume import Volume
from dinsegment.manifest import PROGRAM
from dinsegment.tasks import Task
from dinsegment.training.label_names import DATASETS, label_map, read_description


@dataclass(frozen=True)
class Case:
    """One labelled image.

    Attributes:
        patient: What a split names.
        name: The image's own name.
        image: Its file.
        labels: The labelmap's file, on the same grid.
        phase: `ED` or `ES` where the data set tells, else empty.
        label_map: The task's label for each label above 0 that the file may have, 0 for what becomes background; None
            where the file has the task's own labels.
    """

    patient: str
    name: str
    image: Path
    labels: Path
    phase: str = ""
    label_map: Mapping[int, int] | None = field(default=None, hash=False)

    def read(self, task: Task) -> tuple[Volume, np.ndarray]:
        """The image and its labels (k, j, i), uint8, as the task numbers them.

        Raises:
            InputError: A file cannot be read, the grids differ, or a label is none that the data set has.
        """
        volume, truth = read_volume(self.image), read_volume(self.labels)
        self.check_grid(volume, truth)
        return volume, self.task_labels(truth.array, task)

    def check_grid(self, volume: Volume, truth: Volume) -> float:
        """The millimetres between where image and labelmap put the same corner voxel, at most.

        Raises:
            InputError: The shapes differ, or the distance is more than half the smallest spacing, so that labels would
                belong to other voxels.
        """
        if truth.shape != volume.shape:
            raise InputError(
                f"'{self.labels}' does not lie on the grid of '{self.image}': it has {_times(truth)} voxels "
                f"instead of {_times(volume)}; resample it or find the labelmap of this image."
            )
        k, j, i = (n - 1 for n in volume.shape)
        corners = np.array([(x, y, z, 1) for x in (0, i) for y in (0, j) for z in (0, k)]).T
        apart = (volume.ijk_to_ras - truth.ijk_to_ras) @ corners
        distance = float(np.linalg.norm(apart[:3], axis=0).max())
        if distance > volume.spacing.min() / 2:
            raise InputError(
                f"'{self.labels}' does not lie on the grid of '{self.image}': spacing, origin or axes differ by up to "
                f"{distance:.3g} mm; resample it or correct its header."
            )
        return distance

    def task_labels(self, array: np.ndarray, task: Task) -> np.ndarray:
        """Labels as the task numbers them, uint8, from those in the file.

        Raises:
            InputError: A voxel is no whole number, or a label that the data set does not have.
        """
        mapping = {n: n for n in range(1, task.classes)} if self.label_map is None else dict(self.label_map)
        table = np.zeros(max(mapping) + 1, np.uint8)
        for label, own in mapping.items():
            table[label] = own
        # Truncation changes what is no whole number; NaN and what is out of range do not come back equal either.
        with np.errstate(invalid="ignore"):
            labels = array.astype(np.uint16)
        if not np.array_equal(labels, array):
            bad = np.unique(array[labels != array])
            raise InputError(
                f"'{self.labels}' has {np.count_nonzero(labels != array)} voxels that are no labels, such as "
                f"{_some(bad, 3)}: labels are whole numbers; "
                "resample labelmaps with nearest neighbours only."
            )
        unknown = sorted({n for plane in labels for n in np.unique(plane)} - {0, *mapping})
        if unknown:
            raise InputError(
                f"'{self.labels}' has the labels {_some(unknown)}, but the data set's are 0, {_some(sorted(mapping))}: "
                f"correct the labelmap, or check that it is one for the task '{task.name}'."
            )
        return table[labels]


def read_split(path: Path) -> list[str]:
    """Patients of a split: a text file with one name a line.

    Raises:
        InputError: It cannot be read, names nobody, or somebody twice.
    """
    check_there(path)
    try:
        names = path.read_text(encoding="utf-8-sig").split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The split '{path}' cannot be read: it is a text file with one patient a line.") from error
    if not names:
        raise InputError(f"The split '{path}' names no patient.")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"The split '{path}' names '{twice[0]}' more than once: a patient counts once, remove it.")
    return names


def find_cases(data: Path, patients: Iterable[str] | None, task: Task, labels: Path | None = None) -> list[Case]:
    """The labelled images of those patients, in a layout that is told from what the folder contains.

    ACDC's, as published: `PATIENT/PATIENT_frameFF.nii.gz` with `_gt.nii.gz` beside it, and `Info.cfg` naming the ED and
    ES frames. BTCV's: `imgNNNN.nii.gz` and `labelNNNN.nii.gz` side by side or in `img` and `label`; the patient is
    NNNN. nnU-Net's, versions 1 and 2: `dataset.json`, `imagesTr/CASE_0000.nii.gz` and `labelsTr/CASE.nii.gz` with one
    channel; the patient is the case without `_frameFF` at its end.

    Args:
        data: The folder.
        patients: In the order wanted; None for all.
        task: Whose segments the labels become, by name; what is none of them becomes background.
        labels: JSON whose `labels` name the data set's labels as the task does, where the data set itself does not.

    Raises:
        InputError: The folder has none of the layouts, a patient has no labelled image, in nnU-Net's an image has no
            labels, a segment of the task has no label, or a file that describes the data set cannot be used.
    """
    check_there(data)
    found = _layout(data)(data, task, labels)
    if patients is None:
        return found
    by_patient: dict[str, list[Case]] = {}
    for case in found:
        by_patient.setdefault(case.patient, []).append(case)
    patients = list(patients)
    if missing := [patient for patient in patients if patient not in by_patient]:
        raise InputError(
            f"There is no labelled image of '{missing[0]}' in '{data}', which has {len(by_patient)} patients such as "
            f"'{next(iter(by_patient))}': correct the split or add the patient."
        )
    return [case for patient in patients for case in by_patient[patient]]


def _layout(data: Path) -> Callable[[Path, Task, Path | None], list[Case]]:
    if (data / "dataset.json").is_file() and (data / "labelsTr").is_dir():
        return _nnunet_cases
    if _acdc_labels(data):
        return _acdc_cases
    if _btcv_labels(data):
        return _btcv_cases
    raise InputError(
        f"'{data}' has no labelled images in a known layout: give a folder as ACDC is published "
        "(PATIENT/PATIENT_frameFF.nii.gz and PATIENT_frameFF_gt.nii.gz), as BTCV is (imgNNNN.nii.gz and "
        "labelNNNN.nii.gz), or as nnU-Net takes it (dataset.json, imagesTr and labelsTr)."
    )


def _acdc_labels(data: Path) -> list[Path]:
    return sorted(p for p in data.glob("*/*_frame*_gt.nii*") if p.name.startswith(f"{p.parent.name}_frame"))


def _acdc_cases(data: Path, task: Task, labels: Path | None) -> list[Case]:
    mapping = label_map(labels or DATASETS / "acdc.json", task)
    cases = []
    for path in _acdc_labels(data):
        name, _, suffix = path.name.partition("_gt")
        frame = name.rpartition("frame")[2].lstrip("0")
        phase = _phases(path.with_name("Info.cfg")).get(frame, "")
        cases.append(Case(path.parent.name, name, path.with_name(name + suffix), path, phase, mapping))
    return cases


def _phases(info: Path) -> dict[str, str]:
    """Frame number -> `ED` or `ES`, from ACDC's Info.cfg; empty without that file."""
    if not info.exists():
        return {}
    try:
        lines = info.read_text(encoding="utf-8-sig").splitlines()
        pairs = (line.partition(":") for line in lines)
        entries = {key.strip(): value.strip() for key, _, value in pairs}
        return {str(int(entries[phase])): phase for phase in ("ED", "ES") if phase in entries}
    except (OSError, ValueError) as error:
        raise InputError(f"'{info}' does not name the ED and ES frames by their numbers: correct it.") from error


def _btcv_labels(data: Path) -> list[Path]:
    together = [p for folder in (data, data / "label") for p in folder.glob("label*.nii*")]
    return sorted(p for p in together if re.fullmatch(r"label\d+\.nii(\.gz)?", p.name))


def _btcv_cases(data: Path, task: Task, labels: Path | None) -> list[Case]:
    mapping = label_map(labels or DATASETS / "btcv.json", task)
    cases = []
    for path in _btcv_labels(data):
        folder = data / "img" if path.parent != data else data
        image = folder / path.name.replace("label", "img")
        name = image.name.partition(".")[0]
        cases.append(Case(name.removeprefix("img"), name, image, path, label_map=mapping))
    return cases


def _nnunet_cases(data: Path, task: Task, labels: Path | None) -> list[Case]:
    path = data / "dataset.json"
    description = read_description(path)
    _check_channels(path, description)
    ending = str(description.get("file_ending", ".nii.gz"))  # version 1 has no other
    files = sorted(p for p in (data / "labelsTr").glob(f"*{ending}") if not p.name.startswith("."))
    _check_labelled(data, files, ending)
    promised = description.get("numTraining", len(files))
    if str(description.get("name", "")).startswith(f"{PROGRAM} "):
        promised = len(files)  # Of a user's own cases, of which one may have been removed; saving one counts them anew.
    if promised != len(files) or not files:
        raise InputError(
            f"'{path}' promises {promised} training cases, but labelsTr has {len(files)} files *{ending}: "
            "copy the data set again or correct numTraining and file_ending."
        )
    mapping = label_map(labels or path, task)
    cases = []
    for file in files:
        name = file.name.removesuffix(ending)
        patient = re.sub(r"(?<=.)_frame\d+$", "", name)
        image = data / "imagesTr" / f"{name}_0000{ending}"
        if not image.exists() and (plain := data / "imagesTr" / f"{name}{ending}").exists():
            image = plain
        cases.append(Case(patient, name, image, file, label_map=mapping))
    return cases


def _check_labelled(data: Path, files: Sequence[Path], ending: str) -> None:
    """Raises InputError where images have no labels, or several channels."""
    named = {file.name.removesuffix(ending) for file in files}
    without = []
    for image in sorted((data / "imagesTr").glob(f"*{ending}")):
        name = image.name.removesuffix(ending)
        case, channel = re.fullmatch(r"(.*?)(?:_(\d{4}))?", name).groups()
        if image.name.startswith(".") or name in named or (case in named and channel == "0000"):
            continue
        if case in named:
            raise InputError(
                f"'{image}' is another channel of '{case}', but the network takes grey images: make a data set of one "
                "channel, 0000."
            )
        without.append(image)
    if without:
        more = f", and {len(without) - 1} more have none" if len(without) > 1 else ""
        raise InputError(
            f"'{without[0]}' has no labels in labelsTr{more}: add them, or move the images to another folder."
        )


def _check_channels(path: Path, description: Mapping[str, Any]) -> None:
    channels = description.get("channel_names", description.get("modality"))
    if not isinstance(channels, Mapping) or not channels:
        raise InputError(f"'{path}' does not name the channel of its images: give their channel_names, for example CT.")
    if len(channels) > 1:
        raise InputError(
            f"'{path}' has {len(channels)} channels ({', '.join(map(str, channels.values()))}), but the network takes "
            "grey images: make a data set of one of them."
        )


def _times(volume: Volume) -> str:
    return " x ".join(str(n) for n in reversed(volume.shape))


def _some(values: Iterable[float], most: int = 16) -> str:
    texts = list(dict.fromkeys(f"{value:g}" for value in values))
    return ", ".join(texts[:most]) + (", ..." if len(texts) > most else "")
