"""weights.json: the models that there are, where their weights are, and the weights themselves, checked before use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dinsegment.errors import ModelError
from dinsegment.files import atomic_path, sha256_of
from dinsegment.models.download import fetch, keeping
from dinsegment.models.entries import ModelEntry, models_folder, read_entries
from dinsegment.models.settings import WeightsSettings

if TYPE_CHECKING:
    from torch import Tensor

    from dinsegment.progress import Progress

Place = Literal["shipped", "offline folder", "cached"]
"""Where weights are found, in the order in which they are looked for."""

WHAT_TO_DO: dict[Place, str] = {
    "shipped": "install DINSegment again",
    "offline folder": "copy it to the offline folder again",
    "cached": "download or import it again",
}
"""For a weights file that is not the right one."""


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
