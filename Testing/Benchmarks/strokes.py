"""Strokes of a simulated user: what a segment is after one, two and three of them, by several methods.

    python Testing/Benchmarks/strokes.py --task heart --data DIR FILE [--slices 2] [--beside 2] [--methods ships]

FILE names patients, one a line; nothing is chosen on test patients. Of each segment of each image, the slices in which
most pixels are wrong are corrected, if the largest piece of what is wrong there has 0.5 cm2. The user draws the middle
line of the largest piece that is wrong, as missed or as not belonging, looks at the answer, and draws the next; all
methods are drawn for by the same user, who sees their own answers. The methods:

    ships    the one of `dinsegment.correction.strokes`: a linear head on the decoder's features, then a graph cut
    head     the head alone, without the cut
    cut      a graph cut over what the network says, weighted by the distance to the strokes, without the head
    walker   random walker (scikit-image) over grey values and all probabilities, seeded by the strokes, by what is
             farther than 10 mm away, and by what a stroke cannot change
    grey     the same on grey values alone
    paint    nothing but the strokes' own pixels

In all of them nothing changes that does not hang together with a stroke. Of the method that ships there is also what
two strokes bring in the slices beside it, and how long answers take.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import ndimage
from skimage.morphology import skeletonize
from skimage.segmentation import random_walker

import dinsegment.correction.strokes as strokes
from dinsegment.correction.single_slices import SingleSlices
from dinsegment.correction.strokes import Stroke
from dinsegment.inference.devices import choose_device
from dinsegment.inference.model import Model, load_model
from dinsegment.inference.prediction import predict
from dinsegment.inference.runner import Runner
from dinsegment.tasks import Task, get_task
from dinsegment.training.cases import find_cases, read_split

LEAST_CM2 = 0.5
STROKES = 3
FAR_MM = 10.0
TIMED = 50


# --- the methods: new mask (y, x) of a slice from what belongs and what does not


def as_shipped(slices, segment, k, before, belongs, other) -> np.ndarray:
    return strokes._cut_slice(slices, segment, slices.place(k), before, (belongs, other), fixed=True)


def by_walker(slices, segment, k, before, belongs, other, grey=False) -> np.ndarray:
    on, off = strokes._touched(slices.on_grid(belongs), slices.on_grid(other))
    inside = slices.on_grid(before) > 0.5
    to_on, to_off = (ndimage.distance_transform_edt(~x) * slices.flat.spacing if x.any() else 1e3 for x in (on, off))
    seeds = np.where(np.minimum(to_on, to_off) > FAR_MM, np.where(inside, 1, 2), 0)
    seeds[inside & (to_on < to_off)] = 1
    seeds[~inside & (to_off < to_on)] = 2
    seeds[on], seeds[off] = 1, 2
    if not all((seeds == n).any() for n in range(3)):
        return before
    seen = slices.of_slice(k)
    image = seen.image / 2 + 0.5
    data = image if grey else np.stack([image, *seen.probabilities], -1)
    options = {} if grey else {"channel_axis": -1}
    walked = random_walker(data, seeds, mode="cg_j", tol=1e-2, return_full_prob=True, **options)
    return slices.back(np.clip(walked[0], 0, 1).astype(np.float32))


def by_grey(*arguments) -> np.ndarray:
    return by_walker(*arguments, grey=True)


def by_head(slices, segment, k, before, belongs, other) -> np.ndarray:
    on, off = strokes._touched(slices.on_grid(belongs), slices.on_grid(other))
    if not (on.any() or off.any()):
        return before
    seen = slices.of_slice(k)
    logits = strokes._logits(seen, segment, slices.on_grid(before))
    distance = ndimage.distance_transform_edt(~(on | off)) * slices.flat.spacing
    odds = np.clip(logits + strokes.head(seen.features(), logits, on, off, distance), -30, 30)
    return slices.back((1 / (1 + np.exp(-odds))).astype(np.float32))


def by_cut(slices, segment, k, before, belongs, other, reach=5.0, border=4.0) -> np.ndarray:
    on, off = strokes._touched(slices.on_grid(belongs), slices.on_grid(other))
    if not (on.any() or off.any()):
        return before
    seen = slices.of_slice(k)
    distance = ndimage.distance_transform_edt(~(on | off)) * slices.flat.spacing
    logits = strokes._logits(seen, segment, slices.on_grid(before)) * (1 - np.exp(-0.5 * (distance / reach) ** 2))
    logits[on], logits[off] = np.inf, -np.inf
    return slices.back(strokes.cut(logits, seen.image, border).astype(np.float32))


def by_paint(_slices, _segment, _k, before, _belongs, _other) -> np.ndarray:
    return before


METHODS: dict[str, Callable[..., np.ndarray]] = {
    "ships": as_shipped,
    "head": by_head,
    "cut": by_cut,
    "walker": by_walker,
    "grey": by_grey,
    "paint": by_paint,
}


# --- the user


def stroke_in(wrong: np.ndarray) -> tuple[np.ndarray, int] | None:
    """The middle line of the largest piece of a mask, where it is thick, and how many pixels the piece has."""
    pieces, count = ndimage.label(wrong)
    if not count:
        return None
    sizes = ndimage.sum(wrong, pieces, range(1, count + 1))
    piece = pieces == 1 + int(np.argmax(sizes))
    depth = ndimage.distance_transform_edt(np.pad(piece, 1))[1:-1, 1:-1]
    line = skeletonize(piece) & (depth >= 0.5 * depth.max())
    line = line if line.any() else depth == depth.max()
    lines, _count = ndimage.label(line, strokes.EIGHT)
    deepest = np.unravel_index(np.argmax(np.where(line, depth, 0)), depth.shape)
    return lines == lines[deepest], int(sizes.max())


def dice(one: np.ndarray, two: np.ndarray) -> float:
    total = int(one.sum() + two.sum())
    return 2 * int((one & two).sum()) / total if total else 1.0


def draw(method: Callable[..., np.ndarray], slices: SingleSlices, segment: int, k: int, before, truth, count: int):
    """Masks after each of so many strokes, and the strokes; k is of the stack."""
    now, masks = before, [before]
    belongs, other = np.zeros_like(before), np.zeros_like(before)
    for _ in range(count):
        missed, wrong = stroke_in(truth & ~now), stroke_in(now & ~truth)
        if missed is None and wrong is None:
            masks.append(now)
            continue
        if wrong is None or (missed is not None and missed[1] >= wrong[1]):
            belongs, other = belongs | missed[0], other & ~missed[0]
        else:
            belongs, other = belongs & ~wrong[0], other | wrong[0]
        new = method(slices, segment, k, before, belongs, other)
        now = before.copy()
        for value, change, drawn in ((True, new & ~before, belongs), (False, before & ~new, other)):
            now[strokes._pieces_on(change | drawn, drawn)] = value
        now[belongs], now[other] = True, False
        masks.append(now)
    return masks, belongs, other


def to_correct(truth, labels, task: Task, cm2: float, most: int) -> Iterator[tuple[int, int]]:
    for segment in task.segments:
        wrong = (truth == segment.label) != (labels == segment.label)
        for k in np.argsort(-wrong.sum((1, 2)), kind="stable")[:most]:
            largest = stroke_in(wrong[k])
            if largest is not None and largest[1] * cm2 >= LEAST_CM2:
                yield segment.label, int(k)


def look(data: Path, split: Path, task: Task, model: Model, options: argparse.Namespace) -> dict[str, list]:
    """Scores by method, those of slices beside by distance, and seconds."""
    found: dict[str, list] = defaultdict(list)
    for case in find_cases(data, read_split(split), task):
        volume, truth = case.read(task)
        runner = Runner(model.network, choose_device("cpu"), context=model.context)
        labels = predict(runner, model.preprocessing, volume, task)
        slices = SingleSlices(volume, model, "cpu")
        expert, drawn = slices.stack.like(truth).array, slices.stack.like(labels).array
        cm2 = float(np.prod(slices.stack.spacing) / 100)
        for segment, k in to_correct(expert, drawn, task, cm2, options.slices):
            before, wanted = drawn[k] == segment, expert[k] == segment
            slices.of_slice(k)
            for name in options.methods:
                masks, _belongs, _other = draw(METHODS[name], slices, segment, k, before, wanted, STROKES)
                found[name].append([dice(mask, wanted) for mask in masks])
            beside(found, slices, segment, k, drawn, expert, options.beside)
        print(f"{case.name}: {len(found['alone'])} slices so far", flush=True)
    return found


def beside(found, slices: SingleSlices, segment: int, k: int, drawn, expert, most: int) -> None:
    """What two strokes in a slice bring in those beside it, and how long an answer takes."""
    _masks, belongs, other = draw(as_shipped, slices, segment, k, drawn[k] == segment, expert[k] == segment, 2)
    around = [n for n in range(k - most, k + most + 1) if 0 <= n < slices.count]
    slices.prepare(around)
    stroke = Stroke(slices.place(k), slices.from_stack(belongs), slices.from_stack(other))
    masks = {slices.place(n): slices.from_stack(drawn[n] == segment) for n in around}
    for name, given in (("alone", {stroke.slice: masks[stroke.slice]}), ("with those beside it", masks)):
        started = time.perf_counter(), time.process_time()
        after = strokes.answer(slices, segment, stroke, given)
        found[name].append([time.perf_counter() - started[0], time.process_time() - started[1]])
    for n in around:
        if n != k:
            wanted = slices.from_stack(expert[n] == segment)
            scores = [dice(mask[slices.place(n)], wanted) for mask in (masks, after)]
            found[f"beside {abs(n - k)}"].append(scores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="heart")
    parser.add_argument("--data", nargs=2, type=Path, required=True, metavar=("DIR", "FILE"))
    parser.add_argument("--model", default=None)
    parser.add_argument("--slices", type=int, default=2, help="of each segment of each image")
    parser.add_argument("--beside", type=int, default=2, help="slices on either side that may follow")
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=tuple(METHODS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    task = get_task(options.task)
    found = look(*options.data, task, load_model(options.model, task), options)
    table = Table("Method", "Slices", "Dice before", *(f"after {n}" for n in range(1, STROKES + 1)), "worse by 0.01")
    for name in options.methods:
        scores = np.array(found[name])
        worse = [f"{(scores[:, n] < scores[:, 0] - 0.01).mean():.0%}" for n in range(1, STROKES + 1)]
        table.add_row(name, str(len(scores)), *(f"{x:.3f}" for x in scores.mean(0)), ", ".join(worse))
    for name in sorted(n for n in found if n.startswith("beside")):
        scores = np.array(found[name])
        worse = f"{(scores[:, 1] < scores[:, 0] - 0.01).mean():.0%}"
        table.add_row(f"{name}, as shipped", str(len(scores)), *(f"{x:.3f}" for x in scores.mean(0)), "", "", worse)
    Console(width=120).print(table)
    for name in ("alone", "with those beside it"):
        wall, cpu = (1000 * np.array(found[name])[:TIMED]).T
        print(
            f"The slice {name}, {len(wall)} strokes: median {np.median(wall):.0f} ms, worst {wall.max():.0f} ms; "
            f"of the CPU {np.median(cpu):.0f} and {cpu.max():.0f} ms"
        )
    if options.json:
        options.json.write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
