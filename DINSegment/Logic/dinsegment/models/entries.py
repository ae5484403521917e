"""The entries of weights.json: every model with its network, preprocessing, labels and weights."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dinsegment.errors import ModelError
from dinsegment.resources import checkout, resource
from dinsegment.tasks import Task

MODELS_VARIABLE = "DINSEGMENT_MODELS"
"""Environment variable naming a folder with another weights.json and its weights."""

LIST = "weights.json"


def models_folder() -> Path:
    """The folder of the weights that are shipped.

    In a checkout and in Slicer that is Resources/Models of the extension, in an installed wheel Resources/Models of the
    package; the environment variable DINSEGMENT_MODELS names another one.
    """
    if named := os.environ.get(MODELS_VARIABLE):
        return Path(named)
    return resource("Models")


def models_list(folder: Path | None = None) -> Path:
    """The weights.json of a folder of weights; of those that are shipped if None.

    It stands beside the weights, except in a checkout, where the one of the shipped weights stands at the top.
    """
    folder = folder or models_folder()
    beside, top = folder / LIST, checkout() / LIST
    return top if folder == checkout() / "DINSegment" / "Resources" / "Models" and top.is_file() else beside


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
        estimator: What tells how likely that what it draws is to be corrected, as `quality.estimator` takes it; empty
            where none was fitted.
        samples: How possible segmentations are drawn from it and what they are worth, as `inference.draws` takes it;
            empty where nobody has looked.
        calibration: The `temperature` at which its probabilities come true, and how that was found; empty where it was
            not.
        context: The name of another entry as `model`, a network that says what is to be expected where, and how far it
            is believed, as `inference.context` takes it; empty where there is none.
        maps: Whether it tells what it did not expect, as a network that has or is a masked autoencoder.
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
    estimator: dict[str, Any] = field(default_factory=dict)
    samples: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)
    maps: bool = False

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


def read_entries(folder: Path | None = None) -> list[ModelEntry]:
    """All models of weights.json, in its order.

    Raises:
        ModelError: The file is missing or cannot be read.
    """
    path = models_list(folder)
    try:
        return [ModelEntry(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))["models"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"The list of models '{path}' is missing or damaged; install DINSegment again.") from error


def choose_folder(name: str | None, folder: Path | None) -> tuple[str | None, Path | None]:
    """Name and folder of a model that is named by its folder, such as that of a training run; others as they are.

    A name in weights.json is that model, whatever the working directory holds: `./NAME` is the folder.
    """
    if folder is not None or not name or not (Path(name) / LIST).is_file():
        return name, folder
    if Path(name).name == name and name in {entry.name for entry in read_entries()}:
        return name, None
    return None, Path(name)


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
    if not found and name is None and folder is not None and task is not None and (others := read_entries(folder)):
        raise ModelError(
            f"'{folder}' is a model for the task '{others[0].task}', not for '{task.name}': give another model, or "
            "that task."
        )
    if not found:
        known = ", ".join(e.name for e in entries) or "none"
        of_task = f"no model for the task '{task.name}'" if task else "no model"
        wanted = f"no model '{name}'" if name else of_task
        if name and Path(name).is_dir():
            wanted += f" and no '{LIST}' in the folder of that name, as a training writes it"
        raise ModelError(f"There is {wanted}; the models are: {known}.")
    return found[0]


def told_by(context: Mapping[str, Any], folder: Path | None = None) -> tuple[ModelEntry, ...]:
    """The entries of the networks that tell a model what is to be expected where, and then of what looks closer.

    They stand in the model's weights.json; that of a training run names some of the models that ship.

    Args:
        context: Of the model's entry; empty for a model that is told nothing.
        folder: Of its weights.json, if not models_folder().

    Raises:
        ModelError: There is no such network.
    """
    named = [part.get("model", "") for part in (context, context.get("closer")) if part]
    return tuple(find_entry(name, None, folder_of(name, folder)) for name in named)


def folder_of(name: str, folder: Path | None) -> Path | None:
    """Where a network of `told_by` and its weights are: `folder` if its weights.json has it, None for what ships."""
    own = folder is not None and name in {one.name for one in read_entries(folder)}
    return folder if own else None
