"""weights.json: the models that there are, where their weights are, and the weights themselves, checked before use."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dinsegment.errors import ModelError
from dinsegment.files import atomic_path
from dinsegment.models.download import WeightsSettings, fetch, keeping, sha256_of
from dinsegment.tasks import Task

if TYPE_CHECKING:
    from torch import Tensor

    from dinsegment.inference.pipeline import Progress
    from dinsegment.inference.preprocessing import Preprocessing
    from dinsegment.network import DIN, Comparator

MODELS_VARIABLE = "DINSEGMENT_MODELS"
"""Environment variable naming another folder with a weights.json."""

Place = Literal["shipped", "offline folder", "cached"]
"""Where weights are found, in the order in which they are looked for."""

WHAT_TO_DO: dict[Place, str] = {
    "shipped": "install DINSegment again",
    "offline folder": "copy it to the offline folder again",
    "cached": "download or import it again",
}
"""For a weights file that is not the right one."""


def models_folder() -> Path:
    """The folder of weights.json and of the weights that are shipped.

    In a checkout and in Slicer that is Resources/Models of the extension, in an installed wheel Resources/Models of the
    package; the environment variable DINSEGMENT_MODELS names another one.
    """
    if named := os.environ.get(MODELS_VARIABLE):
        return Path(named)
    here = Path(__file__).parents[1]
    installed = here / "Resources" / "Models"
    return installed if installed.is_dir() else here.parents[1] / "Resources" / "Models"


@dataclass(frozen=True)
class ModelEntry:
    """One model as weights.json describes it.

    Attributes:
        name: As `--model` takes it.
        task: Name of its task.
        description: A sentence for the user.
        network: Options of the network.
        preprocessing: Options of the Preprocessing.
        weights: `file`, `sha256`, `size` in bytes; where they are not shipped also `repository` on the hub
            ("owner/name") and `revision` (the hash of a commit).
        license: Of the weights.
        data: What it was trained on: `name`, `license`, `citation`, `split`.
        scores: Test scores with the command that gives them.
    """

    name: str
    task: str
    description: str
    network: dict[str, Any]
    preprocessing: dict[str, Any]
    weights: dict[str, Any]
    license: str
    data: dict[str, Any]
    scores: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises KeyError, TypeError or ValueError unless what is said of the weights is enough to find them."""
        patterns = {"file": r"[\w-][\w.-]*", "sha256": r"[0-9a-f]{64}"}
        if "repository" in self.weights:
            patterns |= {"repository": r"[\w.-]+/[\w.-]+", "revision": r"[0-9a-f]{40}"}
        for key, pattern in patterns.items():
            if not re.fullmatch(pattern, self.weights[key]):
                raise ValueError(f"'{key}' of the weights of '{self.name}' cannot be '{self.weights[key]}'.")
        if not isinstance(self.weights["size"], int):
            raise ValueError(f"The size of the weights of '{self.name}' is no number of bytes.")


@dataclass(frozen=True, eq=False)
class Model:
    """A network with its weights, ready for inference, and the preprocessing it was trained with."""

    name: str
    task: str
    network: DIN | Comparator
    preprocessing: Preprocessing

    def check_task(self, task: Task) -> None:
        """Raises ModelError unless it was trained for that task."""
        if self.task != task.name:
            raise ModelError(f"The model '{self.name}' was trained for the task '{self.task}', not '{task.name}'.")


def read_entries(folder: Path | None = None) -> list[ModelEntry]:
    """All models of weights.json, in its order.

    Raises:
        ModelError: The file is missing or cannot be read.
    """
    path = (folder or models_folder()) / "weights.json"
    try:
        return [ModelEntry(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))["models"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"The list of models '{path}' is missing or damaged; install DINSegment again.") from error


def choose_folder(name: str | None, folder: Path | None) -> tuple[str | None, Path | None]:
    """Name and folder of a model that is named by its folder, such as that of a training run; others as they are."""
    if folder is None and name and (Path(name) / "weights.json").is_file():
        return None, Path(name)
    return name, folder


def find_entry(name: str | None, task: Task | None, folder: Path | None = None) -> ModelEntry:
    """The model of that name, or the task's first; the first of all with neither.

    Args:
        name: As weights.json says, or the folder of a training run, which has a weights.json of its own.
        task: What it has to segment; None for any task.
        folder: Of weights.json, if not models_folder().

    Raises:
        ModelError: There is none; the message names those that there are.
    """
    name, folder = choose_folder(name, folder)
    entries = [e for e in read_entries(folder) if name is not None or task is None or e.task == task.name]
    found = [e for e in entries if name is None or e.name == name]
    if not found:
        known = ", ".join(e.name for e in entries) or "none"
        of_task = f"no model for the task '{task.name}'" if task else "no model"
        wanted = f"no model '{name}'" if name else of_task
        raise ModelError(f"There is {wanted}; weights.json has: {known}.")
    return found[0]


def find_weights(
    entry: ModelEntry, folder: Path | None = None, settings: WeightsSettings | None = None
) -> tuple[Place, Path] | None:
    """Where the weights of a model lie on this machine, and the file; None if they have to be downloaded.

    Only the name and the size are looked at, so that this is quick; what is wrong inside shows when they are loaded.
    """
    for place, path in _candidates(entry, folder, settings or WeightsSettings.from_environment()):
        if _size(path) == entry.weights["size"]:
            return place, path
    return None


def locate(entry: ModelEntry, folder: Path | None = None, settings: WeightsSettings | None = None) -> Path | None:
    """The weights file of a model on this machine, by name and size; None if it has to be downloaded."""
    found = find_weights(entry, folder, settings)
    return found[1] if found else None


def is_available(entry: ModelEntry, folder: Path | None = None, settings: WeightsSettings | None = None) -> bool:
    """Whether a model can be loaded without going online."""
    return locate(entry, folder, settings) is not None


def _candidates(entry: ModelEntry, folder: Path | None, settings: WeightsSettings) -> list[tuple[Place, Path]]:
    """Everywhere that the weights may be; the offline folder may also be a copy of a cache."""
    file, cached = entry.weights["file"], settings.cached(entry)
    offline = settings.offline_folder
    copies = [offline / file, offline / cached.relative_to(settings.cache)] if offline else []
    return [
        ("shipped", (folder or models_folder()) / file),
        *(("offline folder", path) for path in copies),
        ("cached", cached),
    ]


def _size(path: Path) -> int | None:
    """Bytes of a file, None if there is none or its folder cannot be reached."""
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None


def provide_weights(
    entry: ModelEntry,
    folder: Path | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    settings: WeightsSettings | None = None,
) -> Path:
    """The weights file of a model, downloaded if it is not here, once it is known to be the right one.

    A damaged file is removed from the cache, but not from the other folders, which are not ours to change.

    Raises:
        ModelError: The file is missing and cannot be downloaded, was cut short, or is not the one whose SHA-256 stands
            in weights.json.
        Cancelled: `cancelled` said so.
    """
    settings = settings or WeightsSettings.from_environment()
    found = find_weights(entry, folder, settings)
    if found is None:
        if "repository" not in entry.weights or settings.offline:
            _explain_missing(entry, folder, settings)
        return fetch(entry, settings, progress, cancelled)
    place, path = found
    try:
        right = sha256_of(path, cancelled) == entry.weights["sha256"]
    except OSError as error:
        raise ModelError(f"The weights file '{path}' cannot be read: {WHAT_TO_DO[place]}.") from error
    if right:
        return path
    removed = ""
    if place == "cached":
        with keeping(settings.cache):
            path.unlink(missing_ok=True)
        removed = " and was removed"
    raise ModelError(f"The weights file '{path}' is damaged: its SHA-256 is wrong{removed}; {WHAT_TO_DO[place]}.")


def _explain_missing(entry: ModelEntry, folder: Path | None, settings: WeightsSettings) -> None:
    """Raises ModelError for a file that has the wrong size, or for weights that should have been shipped."""
    candidates = _candidates(entry, folder, settings)
    for place, path in candidates:
        if (size := _size(path)) is not None:
            raise ModelError(
                f"The weights file '{path}' has {size} bytes instead of {entry.weights['size']}: it was cut short or "
                f"replaced; {WHAT_TO_DO[place]}."
            )
    if "repository" not in entry.weights:
        place, path = candidates[0]
        raise ModelError(f"The weights of '{entry.name}' are not at '{path}'; {WHAT_TO_DO[place]}.")


def import_weights(
    file: str | os.PathLike[str],
    folder: Path | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    settings: WeightsSettings | None = None,
) -> ModelEntry:
    """Copies a weights file that came from another machine into the cache.

    Args:
        file: The file; its name does not matter.
        folder: Of weights.json, if not models_folder().
        progress: Called with the fraction done and what is being done.
        cancelled: Asked several times a second.
        settings: Where the cache is; from the environment if None.

    Returns:
        The model that the file belongs to, by its SHA-256.

    Raises:
        ModelError: It cannot be read, is cut short or damaged, belongs to no model, or cannot be kept.
        Cancelled: `cancelled` said so; nothing was kept.
    """
    file = Path(file)
    settings = settings or WeightsSettings.from_environment()
    report = progress or (lambda _fraction, _text: None)
    entries = read_entries(folder)
    try:
        size = file.stat().st_size
        report(0.0, f"Checking {file.name}")
        known = [e for e in entries if e.weights["size"] == size]
        sha256 = sha256_of(file, cancelled) if known else None
    except OSError as error:
        raise ModelError(f"'{file}' cannot be read: choose a weights file that was downloaded.") from error
    found = [e for e in known if e.weights["sha256"] == sha256]
    if not found:
        raise _belongs_to_none(file, size, entries)
    entry = found[0]
    target = settings.cached(entry)
    report(0.5, f"Copying {file.name}")
    with keeping(settings.cache):
        target.parent.mkdir(parents=True, exist_ok=True)
        if not (target.exists() and target.samefile(file)):
            with atomic_path(target) as path:
                shutil.copyfile(file, path)
                if sha256_of(path, cancelled) != sha256:  # the source was changed meanwhile, or the copy failed
                    raise ModelError(f"'{file}' could not be copied without errors: try again.")
    report(1.0, f"Imported {entry.name}")
    return entry


def _belongs_to_none(file: Path, size: int, entries: list[ModelEntry]) -> ModelError:
    """The error for a file that is the weights of no model, or not any more."""
    for entry in entries:
        weights = entry.weights
        if size == weights["size"]:
            return ModelError(
                f"'{file}' has the size of '{weights['file']}' but another SHA-256, it is damaged or of another "
                "version: download it again."
            )
        if file.name == weights["file"]:
            return ModelError(
                f"'{file}' has {size} bytes instead of {weights['size']}: it was cut short or is of another version; "
                "download it again."
            )
    known = ", ".join(f"'{e.weights['file']}'" for e in entries) or "none"
    return ModelError(f"'{file}' is the weights of no model that weights.json has; it has: {known}.")


def read_weights(
    entry: ModelEntry,
    folder: Path | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    settings: WeightsSettings | None = None,
) -> dict[str, Tensor]:
    """The weights of a model in single precision, downloaded if they are not here, once known to be the right ones.

    The file is mapped, not read into memory as a whole; what is returned is a copy, since a mapped file on a network
    drive would take the process down with it.

    Raises:
        ModelError: As provide_weights; or the file is no safetensors file.
        Cancelled: `cancelled` said so.
    """
    path = provide_weights(entry, folder, progress, cancelled, settings)

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        mapped = load_file(path)
    except (SafetensorError, OSError) as error:
        raise _unfit(entry) from error
    return {k: v.to(torch.float32 if v.is_floating_point() else v.dtype, copy=True) for k, v in mapped.items()}


def _unfit(entry: ModelEntry) -> ModelError:
    return ModelError(f"The weights of '{entry.name}' do not fit what weights.json says of them.")


def build_model(entry: ModelEntry, weights: dict[str, Tensor]) -> Model:
    """A network from its entry and its weights, which become its parameters.

    Raises:
        ModelError: The weights do not fit the network that weights.json describes, or an option there is unknown.
    """
    import torch

    from dinsegment.inference.pipeline import for_inference
    from dinsegment.inference.preprocessing import Preprocessing
    from dinsegment.network import build_network

    try:
        with torch.device("meta"):  # no time is spent on random weights
            network = build_network(entry.network)
        network.load_state_dict(weights, assign=True)
        preprocessing = Preprocessing.from_dict(entry.preprocessing)
    except (RuntimeError, ValueError, TypeError) as error:
        raise _unfit(entry) from error
    return Model(entry.name, entry.task, for_inference(network), preprocessing)


def load_model(
    name: str | None,
    task: Task | None,
    folder: Path | None = None,
    *,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    settings: WeightsSettings | None = None,
) -> Model:
    """A model by name, or the task's first, ready for inference.

    Its weights are looked for among the shipped ones, in the offline folder and in the cache, and downloaded into the
    cache when they are in none of them.

    Args:
        name: Its name in weights.json, or the folder of a training run; the task's first one if None.
        task: What it has to segment; None for any task.
        folder: Of weights.json, if not models_folder().
        progress: Called while weights are downloaded, with the fraction done and what is being done.
        cancelled: Asked several times a second; True stops a download, which can be resumed.
        settings: Where to look and where to download from; from the environment if None.

    Raises:
        ModelError: It is unknown, its weights are missing and cannot be downloaded, are damaged, or do not fit.
        Cancelled: `cancelled` said so.
    """
    name, folder = choose_folder(name, folder)
    entry = find_entry(name, task, folder)
    return build_model(entry, read_weights(entry, folder, progress, cancelled, settings))
