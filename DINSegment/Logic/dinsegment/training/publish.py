"""Puts trained weights among the models that ship: safetensors in half precision, and their entry in weights.json.

python -m dinsegment.training.publish --recipe NAME --weights FILE --description TEXT --data data.json [--name MODEL]
python -m dinsegment.training.publish --scores metrics.json
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Protocol

import torch
import typer
from safetensors.torch import load_file, save

from dinsegment.errors import InputError
from dinsegment.files import atomic_path, write_json
from dinsegment.models.entries import ModelEntry, models_folder, models_list
from dinsegment.network import build_network
from dinsegment.tasks import Task
from dinsegment.training.recipe import load_recipe

SCORES = ("dice", "phases", "hd95_mm", "asd_mm", "ef_mae", "mass_mae_g", "split", "command")
"""What a model's entry keeps of metrics.json, with the 95 % intervals."""

MAX_SIZE = 16_000_000
"""Bytes of one weights file: git keeps every version for ever."""


class Published(Protocol):
    """What an entry of weights.json takes of a recipe."""

    name: str
    task: Task
    network: Any
    preprocessing: Any
    context: dict[str, Any]


def half_precision(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights in float16; vectors (biases, norms, their statistics) keep float32, they are small and set the scale."""
    return {k: v.half() if v.is_floating_point() and v.ndim > 1 else v for k, v in weights.items()}


def publish(recipe: Published, weights: Path, description: str, data: dict[str, Any], folder: Path) -> ModelEntry:
    """Writes the weights into `folder` and replaces or adds the model's entry in its weights.json, without scores.

    Raises:
        InputError: The weights do not fit the recipe's network, or are too large to ship.
    """
    tensors = load_file(weights)
    with torch.device("meta"):
        network = build_network(recipe.network)
    try:
        network.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise InputError(f"'{weights}' does not fit the network of the recipe '{recipe.name}'.") from error
    content = save(half_precision(tensors))
    if len(content) > MAX_SIZE:
        raise InputError(f"'{weights}' makes {len(content)} bytes; a model that ships has at most {MAX_SIZE}.")
    return add_model(recipe, content, f"{recipe.name}.safetensors", description, data, folder)


def write_run(recipe: Published, content: bytes, cases: str, folder: Path) -> ModelEntry:
    """Writes the weights of a training run and a weights.json of its own, which make its folder a model.

    Its name is that of the folder with the first letters of the weights' SHA-256, so that it is no other model's, and
    of what other models reach or were trained on it says nothing.

    Args:
        recipe: What is trained.
        content: Of the safetensors file.
        cases: What it was trained on, in words.
        folder: Of the run.
    """
    name = f"{folder.resolve().name}-{hashlib.sha256(content).hexdigest()[:8]}"
    data = {"name": "data of a training run", "license": "that of its training data", "citation": "", "split": cases}
    description = f"Trained with the recipe '{recipe.name}', not yet published."
    entry = _write_weights(replace(recipe, name=name), content, "best.safetensors", description, data, folder)
    _write_list([asdict(entry)], folder)
    return entry


def add_model(
    recipe: Published, content: bytes, file: str, description: str, data: dict[str, Any], folder: Path
) -> ModelEntry:
    """Writes a weights file into `folder` and replaces or adds the model's entry in its weights.json, without scores.

    Args:
        recipe: What was trained.
        content: Of the safetensors file.
        file: Its name.
        description: A sentence for the user.
        data: `name`, `license`, `citation` and `split` of what it was trained on.
        folder: Of the weights and of weights.json.
    """
    entry = _write_weights(recipe, content, file, description, data, folder)
    _replace(entry.name, asdict(entry), folder)
    return entry


def _write_weights(
    recipe: Published, content: bytes, file: str, description: str, data: dict[str, Any], folder: Path
) -> ModelEntry:
    """Writes a weights file; returns the entry that belongs to it."""
    with atomic_path(folder / file) as path:
        path.write_bytes(content)
    return ModelEntry(
        name=recipe.name,
        task=recipe.task.name,
        description=description,
        network=recipe.network.to_dict(),
        preprocessing=recipe.preprocessing.to_dict(),
        weights={"file": file, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)},
        license=data["license"],
        data={key: data[key] for key in ("name", "split", "license", "citation")},
        context=recipe.context,
        maps=getattr(recipe.network, "has_maps", False),
    )


def all_data(sets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a model was trained on, from the data set that it learned its task from and those of its starting weights.

    The licences and citations of all bind the model; the split is that of the first.
    """
    start = ", ".join(d["name"] for d in sets[1:])
    name = f"{sets[0]['name']}, begun with weights trained on {start}" if start else sets[0]["name"]
    joined = {key: "; ".join(dict.fromkeys(str(d[key]) for d in sets)) for key in ("license", "citation")}
    return {"name": name, "split": sets[0]["split"], **joined}


def record_scores(metrics: dict[str, Any], folder: Path) -> None:
    """Adds test scores, as `dinsegment evaluate` gives them, to the model that they belong to."""
    entries = _read(folder)
    if metrics["model"] not in entries:
        raise InputError(f"weights.json has no model '{metrics['model']}' that the scores could belong to.")
    kept = {k: metrics[k] for k in SCORES if metrics.get(k) is not None} | {"cases": len(metrics["cases"])}
    kept["intervals"] = {k: v for k, v in metrics["intervals"].items() if k in kept}
    _replace(metrics["model"], {**entries[metrics["model"]], "scores": kept}, folder)


def _read(folder: Path) -> dict[str, dict[str, Any]]:
    path = models_list(folder)
    models = json.loads(path.read_text(encoding="utf-8"))["models"] if path.exists() else []
    return {model["name"]: model for model in models}


def _replace(name: str, entry: dict[str, Any], folder: Path) -> None:
    _write_list(list({**_read(folder), name: entry}.values()), folder)


def _write_list(entries: list[dict[str, Any]], folder: Path) -> None:
    with atomic_path(models_list(folder)) as path:
        write_json({"models": entries}, path)


def main(
    recipe: Annotated[str | None, typer.Option(help="The recipe that was trained.")] = None,
    weights: Annotated[Path | None, typer.Option(help="best.safetensors of the run.")] = None,
    description: Annotated[str, typer.Option(help="A sentence for the user.")] = "",
    data: Annotated[
        list[Path] | None,
        typer.Option(help="JSON: name, license, citation, split; once more for what the starting weights come from."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the model; the recipe's if not given.")] = None,
    scores: Annotated[Path | None, typer.Option(help="metrics.json of the test patients.")] = None,
) -> None:
    """Publish weights, or record the scores of published ones."""
    folder = models_folder()
    if recipe and weights and data:
        chosen = load_recipe(recipe)
        chosen = replace(chosen, name=name or chosen.name)
        sets = [json.loads(path.read_text(encoding="utf-8")) for path in data]
        publish(chosen, weights, description, all_data(sets), folder)
    if scores:
        record_scores(json.loads(scores.read_text(encoding="utf-8")), folder)


if __name__ == "__main__":
    typer.run(main)
