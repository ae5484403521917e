"""weights.json: the models that there are, and their weights, checked before use."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinsegment.errors import ModelError
from dinsegment.tasks import Task

if TYPE_CHECKING:
    from dinsegment.network import DIN
    from dinsegment.preprocessing import Preprocessing

MODELS_VARIABLE = "DINSEGMENT_MODELS"
"""Environment variable naming another folder with a weights.json."""


def models_folder() -> Path:
    """The folder of weights.json and of the weights that are shipped.

    In a checkout and in Slicer that is Resources/Models of the extension, in an installed wheel Resources/Models of the
    package; the environment variable DINSEGMENT_MODELS names another one.
    """
    if named := os.environ.get(MODELS_VARIABLE):
        return Path(named)
    here = Path(__file__).parent
    installed = here / "Resources" / "Models"
    return installed if installed.is_dir() else here.parents[1] / "Resources" / "Models"


@dataclass(frozen=True)
class ModelEntry:
    """One model as weights.json describes it.

    Attributes:
        name: As `--model` takes it.
        task: Name of its task.
        description: A sentence for the user.
        network: Options of the DIN.
        preprocessing: Options of the Preprocessing.
        weights: `file`, `sha256`, `size` in bytes.
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


@dataclass(frozen=True, eq=False)
class Model:
    """A network with its weights, ready for inference, and the preprocessing it was trained with."""

    name: str
    task: str
    network: DIN
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
        entries = [ModelEntry(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))["models"]]
        for entry, key in product(entries, ("file", "sha256", "size")):
            entry.weights[key]  # a missing one is damage, too
        return entries
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"The list of models '{path}' is missing or damaged; install DINSegment again.") from error


def find_entry(name: str | None, task: Task, folder: Path | None = None) -> ModelEntry:
    """The model of that name, or the task's first.

    Raises:
        ModelError: There is none; the message names those that there are.
    """
    entries = [e for e in read_entries(folder) if name is not None or e.task == task.name]
    found = [e for e in entries if name is None or e.name == name]
    if not found:
        known = ", ".join(e.name for e in entries) or "none"
        wanted = f"no model '{name}'" if name else f"no model for the task '{task.name}'"
        raise ModelError(f"There is {wanted}; weights.json has: {known}.")
    return found[0]


def read_weights(entry: ModelEntry, folder: Path | None = None) -> bytes:
    """The bytes of a weights file, once they are known to be the right ones.

    Raises:
        ModelError: The file is missing, cut short, or not the one whose SHA-256 stands in weights.json.
    """
    path = (folder or models_folder()) / entry.weights["file"]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"The weights of '{entry.name}' are not at '{path}'; install DINSegment again.") from error
    if len(content) != entry.weights["size"]:
        raise ModelError(
            f"The weights file '{path}' has {len(content)} bytes instead of {entry.weights['size']}: it was cut short "
            "or replaced; install DINSegment again."
        )
    if hashlib.sha256(content).hexdigest() != entry.weights["sha256"]:
        raise ModelError(f"The weights file '{path}' is damaged: its SHA-256 is wrong; install DINSegment again.")
    return content


def build_model(entry: ModelEntry, content: bytes) -> Model:
    """A network from its entry and the bytes of its safetensors file.

    Raises:
        ModelError: The weights do not fit the network that weights.json describes, or an option there is unknown.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    from dinsegment.inference import freeze
    from dinsegment.network import DIN, DINConfig
    from dinsegment.preprocessing import Preprocessing

    try:
        with torch.device("meta"):  # no time is spent on random weights
            network = DIN(DINConfig.from_dict(entry.network))
        weights = {k: v.float() if v.is_floating_point() else v for k, v in load(content).items()}
        network.load_state_dict(weights, assign=True)
        preprocessing = Preprocessing.from_dict(entry.preprocessing)
    except (SafetensorError, RuntimeError, ValueError, TypeError) as error:
        raise ModelError(f"The weights of '{entry.name}' do not fit what weights.json says of them.") from error
    return Model(entry.name, entry.task, freeze(network), preprocessing)


def load_model(name: str | None, task: Task, folder: Path | None = None) -> Model:
    """A model by name, or the task's first, ready for inference.

    Raises:
        ModelError: It is unknown, its weights are missing or damaged, or they do not fit.
    """
    entry = find_entry(name, task, folder)
    return build_model(entry, read_weights(entry, folder))
