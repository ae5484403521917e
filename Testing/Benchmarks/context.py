"""How far a model should believe what it is told of the whole image, and what that brings.

    python Testing/Benchmarks/context.py --data DIR FILE [--model abdomen-din-small] [--context abdomen-context]
        [--write weights.json]

FILE names patients, one a line: validation patients, never test patients. Each image is looked at once by both
networks; their probabilities are pooled (`inference.context`) with every weight, floor and least probability listed
below, and the labels are scored at the image's own resolution, as they are written. What has the best mean Dice is
chosen; where several are equal to a thousandth, the one that believes least. "Held out" is the mean over patients of
the Dice with what the others would have chosen.

With --write the choice is put into the model's entry there. Run calibration.py afterwards: the probabilities are then
others.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import torch
from torch import Tensor

from dinsegment.inference.anatomy import find_box
from dinsegment.inference.context import Pooling, Surroundings
from dinsegment.inference.devices import choose_device
from dinsegment.inference.looking import look
from dinsegment.inference.model import Model, load_context, load_model
from dinsegment.inference.plausible import checked_image
from dinsegment.inference.postprocessing import postprocess
from dinsegment.inference.runner import Runner
from dinsegment.tasks import Task, get_task
from dinsegment.training.cases import Case, find_cases, read_split
from dinsegment.training.metrics import dice
from model_entry import parser_of, write_part

WEIGHTS = (0.5, 1.0, 1.5, 2.0, 3.0)
FLOORS = (0.001, 0.01)
LEAST = (0.001, 0.01)
EQUAL = 0.001

Choice = tuple[float, float, float] | None
"""Weight, floor and least probability; None for a model that is told nothing."""


def scores(case: Case, task: Task, model: Model, alone: Model, device: torch.device) -> dict[Choice, list[float]]:
    """Dice of every segment with every choice."""
    volume, truth = case.read(task)
    image = checked_image(volume, task)
    stack, preprocessing = image.stack, alone.preprocessing
    runner = Runner(alone.network, device)
    box = find_box(runner, preprocessing, stack)
    own = torch.cat(list(look(runner, preprocessing, box, "", 0, 1)))
    around = replace(model.context, pooling=Pooling(1.0, 1e-6, 1e-6)).surroundings(stack, device, lambda: None)

    def scored(probabilities: Tensor) -> list[float]:
        labels = np.stack(list(box.labels_back(one[1:] for one in probabilities)))
        labels = stack.to_volume_axes(postprocess(labels, task, stack))
        return [dice(labels, truth, segment.label) for segment in task.segments]

    found: dict[Choice, list[float]] = {None: scored(own)}
    for weight, floor, least in product(WEIGHTS, FLOORS, LEAST):
        logs = weight * around.logs.exp().clamp_min(floor).log()
        told: Surroundings = replace(around, logs=logs, least=least)
        found[weight, floor, least] = scored(torch.cat(list(told.weigh([own], box, np.arange(len(own))))))
    return found


def best(found: list[dict[Choice, list[float]]]) -> Choice:
    """The choice with the best mean Dice; of those that are equal, the one that believes least."""
    means = {choice: float(np.mean([one[choice] for one in found])) for choice in found[0]}
    good = [choice for choice, mean in means.items() if mean > max(means.values()) - EQUAL]
    return min(good, key=lambda choice: (choice is not None, choice and (choice[0], -choice[1], choice[2])))


def main() -> None:
    parser = parser_of(__doc__, task="abdomen")
    parser.add_argument("--context", default="abdomen-context")
    options = parser.parse_args()
    task, device = get_task(options.task), choose_device(options.device)
    alone = replace(load_model(options.model, task), context=None)
    told = {"model": options.context, "weight": 1.0, "floor": 0.01, "least": 0.001}
    model = replace(alone, context=load_context(told, task))
    cases = [case for data, split in options.data for case in find_cases(data, read_split(split), task)]
    found = [scores(case, task, model, alone, device) for case in cases]

    choice = best(found)
    held_out = [one[best(found[:n] + found[n + 1 :])] for n, one in enumerate(found)] if len(found) > 1 else []
    names = " ".join(f"{segment.abbreviation:>6}" for segment in task.segments)
    print(f"{'weight, floor, least':<24} Dice  {names}   {'  '.join(case.patient for case in cases)}")
    ordered = sorted(found[0], key=lambda one: float(np.mean([case[one] for case in found])))
    for one in [None, *(c for c in ordered if c is not None)]:
        every = np.array([case[one] for case in found])
        organs = " ".join(f"{value:6.3f}" for value in every.mean(0))
        print(
            f"{one or 'told nothing'!s:<24} {every.mean():.4f} {organs}   "
            + " ".join(f"{v:.3f}" for v in every.mean(1))
        )
    print(f"Chosen: {choice or 'told nothing'}" + (f"; held out {np.mean(held_out):.4f}" if held_out else ""))
    if options.write and choice:
        pooling = dict(zip(("weight", "floor", "least"), choice, strict=True))
        write_part(options.write, model.name, "context", {"model": options.context, **pooling})


if __name__ == "__main__":
    main()
