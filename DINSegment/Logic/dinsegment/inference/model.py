"""A model ready for inference: its network with its weights, and its preprocessing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinsegment.errors import ModelError
from dinsegment.models.settings import WeightsSettings
from dinsegment.tasks import Task, get_task

if TYPE_CHECKING:
    from torch import Tensor

    from dinsegment.inference.context import Context
    from dinsegment.inference.draws import SampleOptions
    from dinsegment.inference.preprocessing import Preprocessing
    from dinsegment.network import Network
    from dinsegment.progress import Progress
    from dinsegment.quality.estimator import Estimator
from dinsegment.models.entries import ModelEntry, choose_folder, find_entry, folder_of, told_by
from dinsegment.models.weights import _unfit, read_weights


@dataclass(frozen=True, eq=False)
class Model:
    """A network with its weights, ready for inference, and the preprocessing it was trained with.

    `estimator` tells how likely what it draws is to be corrected; None where none was fitted. `samples` says how
    possible segmentations are drawn from it. `temperature` is that at which its probabilities come true
    (`inference.calibration`); 1 where it was not looked for. `context` is what it is told of the whole image by another
    network; None where there is none.
    """

    name: str
    task: str
    network: Network
    preprocessing: Preprocessing
    estimator: Estimator | None = None
    samples: SampleOptions | None = None
    temperature: float = 1.0
    context: Context | None = None

    def check_task(self, task: Task) -> None:
        """Raises ModelError unless it was trained to segment what that task has."""
        if self.task != task.name:
            raise ModelError(f"The model '{self.name}' was trained for the task '{self.task}', not '{task.name}'.")
        if self.network.kind.returns == "maps":
            raise ModelError(
                f"The model '{self.name}' segments nothing: it tells what it did not expect. Give another one, and "
                "this one with --unexpected."
            )


def build_model(entry: ModelEntry, weights: dict[str, Tensor]) -> Model:
    """A network from its entry and its weights, which become its parameters.

    Raises:
        ModelError: The weights do not fit the network that weights.json describes, an option there is unknown, or it
            is no network that segments.
    """
    import torch

    from dinsegment.inference.draws import SampleOptions
    from dinsegment.inference.preprocessing import Preprocessing
    from dinsegment.network import build_network
    from dinsegment.network.rewriting import for_inference
    from dinsegment.quality.estimator import Estimator

    try:
        with torch.device("meta"):  # no time is spent on random weights
            network = build_network(entry.network)
        if network.kind.returns == "context":
            raise ModelError(f"'{entry.name}' tells other models what may be where; it segments nothing itself.")
        network.load_state_dict(weights, assign=True)
        preprocessing = Preprocessing.from_dict(entry.preprocessing, get_task(entry.task))
        estimator = Estimator.from_dict(entry.estimator, get_task(entry.task)) if entry.estimator else None
        samples = SampleOptions.from_dict(entry.samples, network.kind.returns)
        temperature = float(entry.calibration.get("temperature", 1.0))
        if not 0.1 <= temperature <= 10:
            raise ValueError(f"{temperature} is no temperature of probabilities")
    except ModelError:
        raise
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise _unfit(entry) from error
    return Model(entry.name, entry.task, for_inference(network), preprocessing, estimator, samples, temperature)


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
    model = build_model(entry, read_weights(entry, folder, progress, cancelled, settings))
    return replace(
        model, context=load_context(entry.context, get_task(entry.task), folder, progress, cancelled, settings)
    )


def load_context(
    options: dict[str, Any],
    task: Task,
    folder: Path | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    settings: WeightsSettings | None = None,
) -> Context | None:
    """What a model is told of the whole image; None where it is told nothing.

    Args:
        options: `context` of its entry in weights.json.
        task: The model's.
        folder: Of its weights.json, if not models_folder().
        progress: As in `load_model`.
        cancelled: As in `load_model`.
        settings: As in `load_model`.

    Raises:
        ModelError: As `load_model`, of the network that tells the model.
        Cancelled: `cancelled` said so.
    """
    from dinsegment.inference.context import build_closer, build_context

    closer = None
    for about in reversed(told_by(options, folder)):
        weights = read_weights(about, folder_of(about.name, folder), progress, cancelled, settings)
        try:
            if about.name == options["model"]:
                return build_context(options, task, about, weights, closer)
            closer = build_closer(options["closer"], task, about, weights)
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            raise _unfit(about) from error
    return None
