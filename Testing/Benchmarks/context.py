"""How far a model should believe what it is told of the whole image, and what that brings.

    python Testing/Benchmarks/context.py --data DIR FILE [--model abdomen-din-small] [--context abdomen-context]
        [--closer abdomen-organs] [--write weights.json]

FILE names patients, one a line: validation patients, never test patients. Each image is looked at once by all
networks; their probabilities are pooled (`inference.context`) with every weight, floor and least probability listed
below, and the labels are scored at the image's own resolution, as they are written. What has the best mean Dice is
chosen; where several are equal to a thousandth, the one that believes least. "Held out" is the mean over patients of
the Dice with what the others would have chosen. With --closer that is chosen for the network that looks closer, and the
trunk's is believed as the model's entry says.

With --write the choice is put into the model's entry there. Run calibration.py afterwards: the probabilities are then
others.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import torch

from dinsegment.inference.anatomy import find_box
from dinsegment.inference.context import Context, Expected, Pooling, Surroundings
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

CLOSER_WEIGHTS = (0.5, 1.0, 1.5, 2.0)
CLOSER_FLOORS = (0.01, 0.05)

Choice = tuple[float, ...] | None
"""Weight, floor and, for the trunk, least probability; None for a model that is told nothing more."""


def choices(closer: bool) -> list[Choice]:
    """What is tried."""
    return [*product(CLOSER_WEIGHTS, CLOSER_FLOORS)] if closer else [*product(WEIGHTS, FLOORS, LEAST)]


def believed(one: Expected, weight: float, floor: float) -> Expected:
    """What a network expects with certainty, believed so far."""
    return replace(one, logs=weight * one.logs.exp().clamp_min(floor).log())


def scores(case: Case, task: Task, context: Context, alone: Model, device: torch.device) -> dict[Choice, list[float]]:
    """Dice of every segment with every choice."""
    volume, truth = case.read(task)
    image = checked_image(volume, task)
    stack, preprocessing = image.stack, alone.preprocessing
    runner = Runner(alone.network, device)
    box = find_box(runner, preprocessing, stack)
    own = torch.cat(list(look(runner, preprocessing, box, "", 0, 1)))
    plain = None if context.closer is None else replace(context.closer, weight=1.0, floor=1e-6)
    trusting = replace(context, pooling=Pooling(1.0, 1e-6, 1e-6), closer=plain)
    trunk, *closer = trusting.surroundings(stack, device, lambda *_: None).expected
    fixed = context.pooling

    def scored(*expected: Expected, least: float = fixed.least) -> list[float]:
        told = Surroundings(stack, expected, least)
        probabilities = torch.cat(list(told.weigh([own], box, np.arange(len(own))))) if expected else own
        labels = np.stack(list(box.labels_back(one[1:] for one in probabilities)))
        labels = stack.to_volume_axes(postprocess(labels, task, stack))
        return [dice(labels, truth, segment.label) for segment in task.segments]

    if plain is None:
        found = {None: scored()}
        return found | {one: scored(believed(trunk, *one[:2]), least=one[2]) for one in choices(closer=False)}
    first = believed(trunk, fixed.weight, fixed.floor)
    # In a case without such organs nobody looks closer, whatever is chosen.
    found = {None: scored(first)}
    return found | {one: scored(first, *(believed(c, *one) for c in closer)) for one in choices(closer=True)}


def best(found: list[dict[Choice, list[float]]]) -> Choice:
    """The choice with the best mean Dice; of those that are equal, the one that believes least."""
    means = {choice: float(np.mean([one[choice] for one in found])) for choice in found[0]}
    good = [choice for choice, mean in means.items() if mean > max(means.values()) - EQUAL]
    return min(good, key=lambda choice: (choice is not None, choice and (choice[0], -choice[1], *choice[2:])))


def main() -> None:
    parser = parser_of(__doc__, task="abdomen")
    parser.add_argument("--context", default="abdomen-context")
    parser.add_argument("--closer", help="a network that looks closer, whose weight and floor are chosen")
    options = parser.parse_args()
    task, device = get_task(options.task), choose_device(options.device)
    model = load_model(options.model, task)
    alone = replace(model, context=None)
    told: dict[str, Any] = {"model": options.context, "weight": 1.0, "floor": 0.01, "least": 0.001}
    if options.closer:
        if model.context is None:
            raise SystemExit(f"'{model.name}' is told nothing of the trunk, in which one could look closer.")
        told |= vars(model.context.pooling) | {"closer": {"model": options.closer, "weight": 1.0, "floor": 0.01}}
    context = load_context(told, task)
    cases = [case for data, split in options.data for case in find_cases(data, read_split(split), task)]
    found = [scores(case, task, context, alone, device) for case in cases]

    choice = best(found)
    held_out = [one[best(found[:n] + found[n + 1 :])] for n, one in enumerate(found)] if len(found) > 1 else []
    names = " ".join(f"{segment.abbreviation:>6}" for segment in task.segments)
    print(f"{'weight, floor, least':<24} Dice  {names}   {'  '.join(case.patient for case in cases)}")
    ordered = sorted(found[0], key=lambda one: float(np.mean([case[one] for case in found])))
    for one in [None, *(c for c in ordered if c is not None)]:
        every = np.array([case[one] for case in found])
        organs = " ".join(f"{value:6.3f}" for value in every.mean(0))
        print(
            f"{one or 'without it'!s:<24} {every.mean():.4f} {organs}   " + " ".join(f"{v:.3f}" for v in every.mean(1))
        )
    print(f"Chosen: {choice or 'without it'}" + (f"; held out {np.mean(held_out):.4f}" if held_out else ""))
    if options.write and choice:
        chosen = dict(zip(("weight", "floor", "least"), choice, strict=False))
        if options.closer:
            chosen = {**told, "closer": {"model": options.closer, **chosen}}
        else:
            chosen = {"model": options.context, **chosen}
        write_part(options.write, model.name, "context", chosen)


if __name__ == "__main__":
    main()
