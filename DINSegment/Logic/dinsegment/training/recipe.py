"""A recipe: everything that makes one training run, as a JSON file.

A recipe may name another as its `base` and then says only what differs. Objects are merged entry by entry, except that
one which names another `name` or `method` than the base's replaces it: a network's sizes mean nothing to another
network. `name` and `description` are each recipe's own.
"""

from __future__ import annotations

import ast
import difflib
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from dinsegment.errors import InputError
from dinsegment.inference.preprocessing import Preprocessing
from dinsegment.network import NetworkConfig, network_config
from dinsegment.tasks import Task, get_task
from dinsegment.training.augmentation import Augmentation

RECIPES = Path(__file__).with_name("recipes")

LOSSES = ("din", "dice-focal", "focal")
"""By which a network may be fitted to labels."""


@dataclass(frozen=True)
class Adversarial:
    """How a diffusion with a discriminator is trained; the defaults are cDAL's for MoNuSeg.

    Attributes:
        discriminator_learning_rate: Of the discriminator; the recipe's own is the generator's.
        betas: Of Adam, for both.
        final_learning_rate: What both rates fall to with half a cosine; None where they stay.
        r1_gamma: Factor of half the R1 penalty.
        r1_every: The penalty counts every so many steps.
    """

    discriminator_learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.5, 0.9)
    final_learning_rate: float | None = 1e-5
    r1_gamma: float = 1.0
    r1_every: int = 10


@dataclass(frozen=True)
class Recipe:
    """One training run.

    Attributes:
        name: Of the recipe and of the model it makes.
        task: What is learned.
        network: Options of the network; of which kind it is decides how it is trained.
        preprocessing: How slices are prepared; goes into weights.json with the model.
        augmentation: What is varied.
        boundary_weight: Factor of the boundary loss of DIN; 1 in the paper.
        loss: What a network that learns from labels is fitted by: the loss of DIN, or those of GRCSF, Dice and focal
            loss or the focal loss alone.
        learning_rate: Of AdamW, at the end of the warm-up; falls to zero with half a cosine. Of a diffusion, of the
            generator's Adam, without a warm-up.
        weight_decay: Of AdamW.
        warmup_steps: Steps of linear warm-up.
        batch: Slices a step.
        epochs: As many slices are seen in an epoch as there are.
        balance: How far rare segments are drawn more often, 0 to 1 (see SliceSampler).
        ema: Decay of the moving average of the weights, which is what is validated and kept.
        validate_every: Epochs between validations.
        seed: Of weights, order and augmentation.
        description: A line for who has to choose: what it is for, and the published score where there is one.
        adversarial: Of a network that is trained with a discriminator.
        context: What the model is told of the whole image, as weights.json has it, in validation and afterwards; what
            is learned is the network of slices alone.
    """

    name: str
    task: Task
    network: NetworkConfig
    preprocessing: Preprocessing
    augmentation: Augmentation = field(default_factory=Augmentation)
    boundary_weight: float = 1.0
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup_steps: int = 150
    batch: int = 12
    epochs: int = 40
    balance: float = 0.0
    ema: float = 0.995
    validate_every: int = 4
    seed: int = 1
    description: str = ""
    adversarial: Adversarial = field(default_factory=Adversarial)
    context: dict[str, Any] = field(default_factory=dict)
    loss: Literal["din", "dice-focal", "focal"] = "din"


def identity_of(recipe: Recipe) -> dict[str, Any]:
    """All that makes a run what it is. What is younger than the first checkpoints counts where it is no default."""
    known = asdict(recipe)
    for name in ("kinds", "wall"):
        del known["task"][name]
    for segment in known["task"]["segments"]:
        del segment["category"]
    del known["preprocessing"]["window_shift"]  # none of these touches a training
    if recipe.adversarial == Adversarial():
        del known["adversarial"]
    if not recipe.context:
        del known["context"]
    if recipe.loss == "din":
        del known["loss"]
    return known


def differences(before: str, now: str) -> str:
    """In what two runs differ, in words in parentheses; empty where that cannot be told.

    Args:
        before: A run's number of slices and `identity_of` of its recipe as its checkpoint has them, `16 slices, {...}`.
        now: The same of another run.
    """
    (count, _, made), (wanted, _, recipe) = (text.partition(" slices, ") for text in (before, now))
    try:
        one, other = ast.literal_eval(made), ast.literal_eval(recipe)
    except (ValueError, SyntaxError):
        return ""
    found = [f"{count} slices, not {wanted}"] if count != wanted else []
    for name in dict.fromkeys((*one, *other)):
        values = one.get(name), other.get(name)
        if values[0] != values[1]:
            plain = all(isinstance(value, int | float | str) for value in values)
            found.append(f"{name} {values[0]}, not {values[1]}" if plain else f"another {name}")
    return f" ({', '.join(found)})" if found else ""


def load_recipe(name_or_file: str) -> Recipe:
    """A recipe by its name, or from a JSON file.

    Raises:
        InputError: There is none, its bases cannot be followed, or an entry is unknown or missing.
    """
    path = _find(name_or_file, Path())
    if path is None:
        raise InputError(f"There is no recipe '{name_or_file}'; {_near(name_or_file)}")
    options = _with_bases(path)
    try:
        return _from_dict(options)
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"The recipe '{path}' cannot be used: {str(error).rstrip('.')}.") from error


def list_recipes() -> dict[str, str]:
    """The recipes that come with DINSegment: name -> a line that describes it, in the order of their names."""
    return {
        path.stem: _read(path).get("description", "") for path in sorted(RECIPES.glob("*.json"), key=lambda p: p.stem)
    }


def _near(name: str) -> str:
    """The recipes whose names are nearest to one that there is not, in words: there are too many to name them all."""
    known = sorted(p.stem for p in RECIPES.glob("*.json"))
    begins = difflib.get_close_matches(name.split("-")[0], {one.split("-")[0] for one in known}, 1)
    near = difflib.get_close_matches(name, known, 3) or [one for one in known if one.split("-")[0] in begins][:3]
    named = f"is it {' or '.join(near)}? " if near else ""
    return f"{named}`dinsegment recipes` lists all {len(known)}, and a JSON file may be given, too."


def _find(name_or_file: str, folder: Path) -> Path | None:
    """The file of a recipe that comes with DINSegment, or a file, looked for from that folder; None without either."""
    shipped = RECIPES / f"{name_or_file}.json"
    path = shipped if shipped.is_file() else folder / name_or_file
    return path if path.is_file() else None


def _read(path: Path) -> dict[str, Any]:
    try:
        options = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"The recipe '{path}' cannot be used: it is no JSON ({error}).") from error
    if not isinstance(options, dict):
        raise InputError(f"The recipe '{path}' cannot be used: it is no JSON object.")
    return options


def _with_bases(path: Path) -> dict[str, Any]:
    """The entries of a recipe, those of its bases filled in."""
    chain = [path]
    options = _read(path)
    while (base := options.pop("base", None)) is not None:
        found = _find(str(base), chain[-1].parent)
        if found is None:
            raise InputError(f"The recipe '{chain[-1]}' builds on '{base}', which there is not; {_near(str(base))}")
        if found.resolve() in [p.resolve() for p in chain]:
            names = " -> ".join(p.stem for p in [*chain, found])
            raise InputError(f"The recipe '{path}' cannot be used: its bases go round in a circle, {names}.")
        chain.append(found)
        inherited = {k: v for k, v in _read(found).items() if k not in ("name", "description")}
        options = {**inherited, **{k: _merged(inherited.get(k), v) for k, v in options.items()}}
    return options


def _merged(base: Any, own: Any) -> Any:
    """An entry of a recipe over that of its base."""
    if not (isinstance(base, dict) and isinstance(own, dict)):
        return own
    if any(k in own and own[k] != base.get(k) for k in ("name", "method")):
        return own
    return {**base, **{k: _merged(base.get(k), v) for k, v in own.items()}}


def _from_dict(options: dict[str, Any]) -> Recipe:
    known = [f.name for f in fields(Recipe)]
    unknown = [k for k in options if k not in known]
    if unknown:
        raise ValueError(f"a recipe has no entry {', '.join(map(repr, unknown))}; it has: {', '.join(known)}")
    missing = [k for k in ("name", "task", "network", "preprocessing") if k not in options]
    if missing:
        raise ValueError(f"it has no entry {', '.join(map(repr, missing))}")
    augmentation = {k: tuple(v) if isinstance(v, list) else v for k, v in options.get("augmentation", {}).items()}
    task, network = get_task(options["task"]), network_config(options["network"])
    if network.kind.learns == "volumes":
        raise ValueError("its network learns from whole volumes: python -m dinsegment.training.context")
    if network.kind.returns not in task.kinds:
        raise ValueError(
            f"its network gives {network.kind.returns}, but the task '{task.name}' names {', '.join(task.kinds)} as "
            "the kinds of its models"
        )
    if options.get("loss", "din") not in LOSSES:
        raise ValueError(f"'loss' is one of {', '.join(LOSSES)}, not '{options['loss']}'")
    adversarial = {k: tuple(v) if isinstance(v, list) else v for k, v in options.get("adversarial", {}).items()}
    made = {
        "task": task,
        "network": network,
        "preprocessing": Preprocessing.from_dict(options["preprocessing"], task),
        "augmentation": Augmentation(**augmentation),
        "adversarial": Adversarial(**adversarial),
    }
    return Recipe(**{**options, **made})
