"""Finds the temperature at which a model's probabilities come true, and how far they are from it before and after.

    python Testing/Benchmarks/calibration.py --data DIR FILE [--data DIR FILE] [--model MODEL] [--task heart]
        [--write weights.json]

FILE names patients, one a line: validation patients, never test patients. Looked at are the pixels of the network's
grid, inside of the image, in which it gives a segment at least 1 % (`inference.calibration`): elsewhere all is
background, and the error of all pixels would only tell how many of these there are.

The temperature is the one of the least negative log-likelihood. Expected calibration error: pixels in 15 bins of the
highest probability, in each the difference between its mean and the share of pixels that are what the expert says,
weighted by pixels. "Held out" is that of each half of the patients with the temperature of the other half. Dice that is
to be expected, slice by slice (`quality.unsure.Confidence.overlap`), is compared with the one that is.

With --write the temperature is put into the model's entry there. Labels do not change, nor does what the estimator of
doubt.py sees. Run it again when the model changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from dinsegment.inference.anatomy import find_box
from dinsegment.inference.calibration import LEAST, calibrated
from dinsegment.inference.devices import choose_device
from dinsegment.inference.looking import look_at_segments
from dinsegment.inference.model import Model, load_model
from dinsegment.inference.plausible import checked_image
from dinsegment.inference.prediction import predict_with_confidence
from dinsegment.inference.runner import Runner
from dinsegment.inference.view import decide
from dinsegment.tasks import Task, get_task
from dinsegment.training.cases import Case, find_cases, read_split
from dinsegment.training.metrics import dice
from model_entry import named, parser_of, write_part

BINS = 15
MOST = 400_000
"""Pixels of one image that are looked at, drawn at random from a larger CT."""


class Seen(NamedTuple):
    """Pixels of one image: probabilities of the segments (segments, pixels), and the expert's labels."""

    patient: str
    foreground: np.ndarray
    truth: np.ndarray


def seen_in(case: Case, task: Task, model: Model, runner: Runner) -> Seen | None:
    """The pixels of a case in which the network sees anything."""
    volume, labels = case.read(task)
    image = checked_image(volume, task)
    stack = image.stack
    box = find_box(runner, model.preprocessing, stack)
    if box is None:
        return None
    places = box.places
    nearest = [np.clip(np.round(p).astype(int), 0, n - 1) for p, n in zip(places, stack.array.shape, strict=True)]
    rows, columns = ((p > -0.5) & (p < n - 0.5) for p, n in zip(places[1:], stack.array.shape[1:], strict=True))
    truth = stack.like(labels).array
    kept, known = [], []
    for k, foreground in enumerate(look_at_segments(runner, model.preprocessing, volume, box)):
        one = foreground.numpy()
        chosen = (one.sum(0) >= LEAST) & rows[:, None] & columns
        kept.append(one[:, chosen])
        known.append(truth[nearest[0][k]][np.ix_(*nearest[1:])][chosen])
    foreground, expert = np.concatenate(kept, 1), np.concatenate(known)
    if len(expert) > MOST:
        drawn = np.random.default_rng(0).choice(len(expert), MOST, replace=False)
        foreground, expert = foreground[:, drawn], expert[drawn]
    return Seen(case.patient, foreground, expert)


def joined(seen: Sequence[Seen]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([one.foreground for one in seen], 1), np.concatenate([one.truth for one in seen])


def likelihood(foreground: np.ndarray, truth: np.ndarray, temperature: float) -> float:
    """Mean negative logarithm of the probability of what the expert says."""
    at = calibrated(foreground, temperature)
    every = np.concatenate((1 - at.sum(0, keepdims=True), at))
    return float(-np.log(np.clip(every[truth, np.arange(len(truth))], 1e-6, 1)).mean())


def best_temperature(seen: Sequence[Seen]) -> float:
    found = minimize_scalar(lambda t: likelihood(*joined(seen), t), bounds=(0.5, 5.0), method="bounded")
    return round(float(found.x), 2)


def bins_of(foreground: np.ndarray, truth: np.ndarray, temperature: float) -> np.ndarray:
    """Of each bin how many pixels it has, the sum of their highest probability, and how many are right, (bins, 3)."""
    at = calibrated(foreground, temperature)
    highest = np.maximum(at.max(0), 1 - at.sum(0))
    right = labels_of(foreground) == truth
    which = np.clip((highest * BINS).astype(int), 0, BINS - 1)
    return np.stack([np.bincount(which, w, BINS) for w in (np.ones(len(truth)), highest, right)], 1)


def labels_of(foreground: np.ndarray) -> np.ndarray:
    return decide(torch.from_numpy(foreground)).numpy()


def calibration_error(bins: np.ndarray) -> float:
    return float(np.abs(bins[:, 1] - bins[:, 2]).sum() / bins[:, 0].sum())


def promised_dice(case: Case, task: Task, model: Model, runner: Runner, temperature: float) -> list[list[float]]:
    """Dice that is to be expected before and after, and the one that is, of segments in slices with 1 cm2 drawn."""
    if model.preprocessing.slice_spacing is not None:
        return []  # The network's slices are not those of the image.
    volume, truth = case.read(task)
    image = checked_image(volume, task)
    prediction = predict_with_confidence(runner, model.preprocessing, image, task, None, temperature)
    axis, confidence = image.stack.axis, prediction.confidence
    if confidence is None:
        return []
    cm2 = float(np.prod(np.delete(volume.spacing, axis)) / 100)
    drawn, expert = (np.moveaxis(array, axis, 0) for array in (prediction.labels, truth))
    return [
        [*(float(overlap[k, s.label - 1]) for overlap in (confidence.said, confidence.overlap)),
         dice(drawn[k], expert[k], s.label)]
        for s in task.segments
        for k in range(len(drawn))
        if (drawn[k] == s.label).sum() * cm2 >= 1
    ]  # fmt: skip


def main() -> None:
    options = parser_of(__doc__).parse_args()
    task = get_task(options.task)
    model = load_model(options.model, task)
    runner = Runner(model.network, choose_device(options.device), context=model.context)
    cases = [case for data, split in options.data for case in find_cases(data, read_split(split), task)]
    seen = [one for case in cases if (one := seen_in(case, task, model, runner)) is not None]

    temperature = best_temperature(seen)
    patients = sorted({one.patient for one in seen})
    halves = [{name for n, name in enumerate(patients) if n % 2 == half} for half in (0, 1)]
    held_out = np.zeros((BINS, 3))
    for half in halves:
        inside, outside = ([one for one in seen if (one.patient in half) == here] for here in (True, False))
        held_out += bins_of(*joined(inside), best_temperature(outside) if outside else temperature)
    before, after = (bins_of(*joined(seen), t) for t in (1.0, temperature))
    errors = {
        "before": round(calibration_error(before), 4),
        "after": round(calibration_error(after), 4),
        "after, held out": round(calibration_error(held_out), 4),
    }
    print(f"'{model.name}', {named(options.data)}: {len(patients)} patients, {len(seen)} images")
    print(f"Temperature {temperature}, expected calibration error", ", ".join(f"{k} {v}" for k, v in errors.items()))
    print("highest probability   pixels    right   mean before    pixels    right   mean after")
    for n in range(BINS):
        row = f"{n / BINS:8.2f} to {(n + 1) / BINS:.2f}"
        for count, highest, right in (before[n], after[n]):
            row += f"{count:13.0f}" + (f"{right / count:9.3f}{highest / count:12.3f}" if count else " " * 21)
        print(row)
    promised = np.array([row for case in cases for row in promised_dice(case, task, model, runner, temperature)])
    for column, when in enumerate(("before", "after") if len(promised) else ()):
        expected, real = promised[:, column], promised[:, 2]
        off = np.abs(expected - real).mean()
        print(
            f"Dice in {len(real)} slices, {when}: {expected.mean():.3f} expected, {real.mean():.3f} is; {off:.3f} apart"
        )
    if options.write:
        command = "python Testing/Benchmarks/calibration.py"
        command += "".join(f" --data {data.name} {split.name}" for data, split in options.data)
        made = {
            "patients": len(patients),
            "expected calibration error": errors,
            "command": f"{command} --task {task.name}",
        }
        write_part(options.write, model.name, "calibration", {"temperature": temperature, "made": made})


if __name__ == "__main__":
    main()
