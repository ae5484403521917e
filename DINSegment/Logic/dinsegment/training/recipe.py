"""A recipe: everything that makes one training run, as a JSON file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dinsegment.errors import InputError
from dinsegment.network import CONFIGS, DINConfig
from dinsegment.preprocessing import Preprocessing
from dinsegment.tasks import Task, get_task
from dinsegment.training.augmentation import Augmentation

RECIPES = Path(__file__).with_name("recipes")


@dataclass(frozen=True)
class Recipe:
    """One training run.

    Attributes:
        name: Of the recipe and of the model it makes.
        task: What is learned.
        network: Options of the DIN.
        preprocessing: How slices are prepared; goes into weights.json with the model.
        augmentation: What is varied.
        boundary_weight: Factor of the boundary loss; 1 in the paper.
        learning_rate: Of AdamW, at the end of the warm-up; falls to zero with half a cosine.
        weight_decay: Of AdamW.
        warmup_steps: Steps of linear warm-up.
        batch: Slices a step.
        epochs: Each slice is seen once an epoch.
        ema: Decay of the moving average of the weights, which is what is validated and kept.
        validate_every: Epochs between validations.
        seed: Of weights, order and augmentation.
    """

    name: str
    task: Task
    network: DINConfig
    preprocessing: Preprocessing
    augmentation: Augmentation = field(default_factory=Augmentation)
    boundary_weight: float = 1.0
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup_steps: int = 150
    batch: int = 12
    epochs: int = 40
    ema: float = 0.995
    validate_every: int = 4
    seed: int = 1


def load_recipe(name_or_file: str) -> Recipe:
    """A recipe by its name, or from a JSON file.

    Raises:
        InputError: There is none, or an entry is unknown or missing.
    """
    path = RECIPES / f"{name_or_file}.json"
    path = path if path.exists() else Path(name_or_file)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.json")))
        raise InputError(f"There is no recipe '{name_or_file}'; give a JSON file or one of: {known}.")
    try:
        return _from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"The recipe '{path}' cannot be used: {error}.") from error


def _from_dict(options: dict[str, Any]) -> Recipe:
    network = dict(options["network"])
    config = CONFIGS[network.pop("name")]
    DINConfig.from_dict(network)  # an unknown option is named before it is used
    augmentation = {k: tuple(v) if isinstance(v, list) else v for k, v in options.get("augmentation", {}).items()}
    made = {
        "task": get_task(options["task"]),
        "network": replace(config, **network),
        "preprocessing": Preprocessing.from_dict(options["preprocessing"]),
        "augmentation": Augmentation(**augmentation),
    }
    return Recipe(**{**options, **made})
