"""Whether an autoencoder tells of unusual images what the checks do not tell.

    python Testing/Benchmarks/unexpected.py --unexpected MODEL --data DIR FILE ... [--others FILE ...] [--measured FILE]

FILE of --data names labelled patients that the autoencoder has not learned from; their first images are what is usual.
From each of them unusual ones are made by code: noise, metal (a void with bright rims beside the heart, or in a CT a
bright piece with streaks), a ghost (the image over itself, shifted, as of a patient who moved) and, in a CT, a tumour
(a dark ball in the largest organ). --others are images of another kind.

Of each image is kept what the checks say of the image as a whole, and how much of the grey range the map of
`with_unexpected` says on average, in the box and in the tenth of its pixels that are expected least, and the first over
the standard deviation of the grey values. Patients fall into two halves by a hash of their names. A limit is as far out
as the most extreme usual image of one half, and MARGIN of its distance from the median beyond; it is counted in the
other half: false alarms, and unusual images that it tells and the checks do not. `--measured` keeps the numbers, a line
each, so that nothing is measured twice. With --truth nothing is segmented: the box lies around what experts have
labelled, and the checks are not asked.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from dinsegment.errors import DINSegmentError
from dinsegment.images.reading import read_volumes
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import Volume
from dinsegment.inference.anatomy import box_around
from dinsegment.inference.maps import GREY_RANGE, load_maps_model, with_unexpected
from dinsegment.inference.model import Model, load_model
from dinsegment.inference.pipeline import segment
from dinsegment.tasks import Task, get_task
from dinsegment.training.cases import find_cases, read_split
from model_entry import PAIR
from other_images import MARGIN
from other_images import Image as Named

NUMBERS = ("mean", "least", "relative")
"""What a limit is chosen for."""

LEAST = 0.1
"""Share of the box whose pixels are expected least."""


class Image(NamedTuple):
    """`group` is `usual` or in which way it is not; without `mean`, nothing was found in it or it was refused."""

    name: str
    group: str
    said: tuple[str, ...] = ()
    mean: float | None = None
    least: float | None = None
    spread: float | None = None

    @property
    def half(self) -> int:
        """Of the patient, as `other_images.py` draws it."""
        return Named(self.name, True, None).half

    @property
    def relative(self) -> float | None:
        """`mean` over the standard deviation of the grey values: noise and bright spots make all else flatter."""
        return None if self.mean is None else self.mean / self.spread

    @property
    def told(self) -> bool:
        """Whether the checks say that the image as a whole is not what the network is made for."""
        return bool(self.said)


def made(volume: Volume, labels: np.ndarray, task: Task) -> Iterator[tuple[str, Volume]]:
    """Unusual images, of a usual one whose anatomy is labelled (k, j, i)."""
    grey, random = volume.array.astype(np.float32), np.random.default_rng(0)
    low, high = task.grey_window or (float(grey.min()), float(np.percentile(grey, 99.5)))
    size, spacing = high - low, volume.spacing
    yield "noise", volume.with_array(grey + random.normal(0, 0.15 * size, grey.shape).astype(np.float32))
    ghost = np.roll(grey, round(25 / spacing[1]), axis=1)
    yield "ghost", volume.with_array(0.65 * grey + 0.35 * ghost)
    inside = labels > 0
    k, j = (round(float(axis.mean())) for axis in np.nonzero(inside)[:2])
    edge = int(np.nonzero(inside.any(0))[1].max())  # of the anatomy, in a row's direction
    away = np.indices(grey.shape[1:])
    distance = np.hypot((away[0] - j) * spacing[1], (away[1] - edge) * spacing[2])
    angle = np.arctan2((away[0] - j) * spacing[1], (away[1] - edge) * spacing[2])
    near = np.zeros(grey.shape, bool)
    near[max(0, k - 1) : k + 2] = True
    if task.modality == "CT":
        streaks = 0.5 * size * np.cos(6 * angle) * np.exp(-distance / 40)
        metal = np.where(near & (distance < 8), 3000.0, np.where(near, grey + streaks, grey))
        label = int(np.bincount(labels[inside]).argmax())
        depth = ndimage.distance_transform_edt(labels == label, spacing)
        middle = np.unravel_index(depth.argmax(), depth.shape)
        z, y, x = (((np.arange(n) - m) * mm) ** 2 for n, m, mm in zip(grey.shape, middle, spacing, strict=True))
        ball = z[:, None, None] + y[None, :, None] + x[None, None, :] < 15.0**2
        yield "tumour", volume.with_array(np.where(ball, grey - 70, grey).astype(np.float32))
    else:
        metal = np.where(near & (distance < 14), low, np.where(near & (distance < 18), low + 1.6 * size, grey))
    yield "metal", volume.with_array(metal.astype(np.float32))


def segmented(volume: Volume, task: Task, model: Model | None, device: str, truth: np.ndarray | None) -> Segmentation:
    """What the model makes of an image; without one, what experts have labelled."""
    if model is not None:
        return segment(volume, task, model, device)
    return Segmentation(volume, truth, task, "experts", volume, device, 0.0)


def measure(image: Image, result: Segmentation, maps: Model, device: str) -> Image:
    """What is said of an image, by the checks and by the autoencoder."""
    said = tuple(finding.text for finding in result.findings if finding.segment is None)
    told = with_unexpected(result, maps, device)
    if told.unexpected is None:
        return image._replace(said=(*said, told.warnings[-1]))
    looked = np.sort(told.unexpected[told.unexpected > 0]) / GREY_RANGE
    least = looked[-max(1, round(LEAST * len(looked))) :]
    mean, spread = float(looked.mean()), spread_of(result, maps)
    return image._replace(said=said, mean=mean, least=float(least.mean()), spread=spread)


def spread_of(result: Segmentation, maps: Model) -> float:
    """The standard deviation of the grey values that the autoencoder is shown, as a share of the grey range."""
    prepared = maps.preprocessing
    stack = SliceStack.in_plane(result.volume, prepared.plane)
    _, rows, columns = np.nonzero(stack.like(result.labels).array)
    center = (float(rows.mean()) * stack.spacing[0], float(columns.mean()) * stack.spacing[1])
    slices = prepared.slices(box_around(prepared, stack, center), maps.network.config.in_channels)
    image, _ = slices.inputs(slice(None))
    return float(image.std()) / GREY_RANGE


def limit(images: list[Image], which: str) -> float:
    values = np.array([getattr(one, which) for one in images if one.group == "usual" and one.mean is not None])
    return float(values.max() + MARGIN * (values.max() - np.median(values)))


def count(title: str, images: list[Image], limits: dict[str, float]) -> None:
    """Prints what limits tell in images that they were not chosen on."""
    print(f"\n{title}: " + ", ".join(f"{which} {value:.4f}" for which, value in limits.items()))
    groups: dict[str, list[Image]] = defaultdict(list)
    for one in images:
        groups[one.group].append(one)
    for group, own in groups.items():
        beyond = [one.mean is not None and any(getattr(one, w) > value for w, value in limits.items()) for one in own]
        checks = sum(one.told for one in own)
        more = sum(far and not one.told for one, far in zip(own, beyond, strict=True))
        print(f"    {group}: {len(own)}, told by the checks {checks}, by the map {sum(beyond)}, by it alone {more}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="heart")
    parser.add_argument("--model")
    parser.add_argument("--unexpected", required=True, metavar="MODEL")
    parser.add_argument("--data", action="append", default=[], **PAIR)
    parser.add_argument("--usual", nargs="*", default=[], metavar="FILE")
    parser.add_argument("--others", nargs="*", default=[], metavar="FILE")
    parser.add_argument("--truth", action="store_true")
    parser.add_argument("--measured", type=Path, metavar="FILE")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    task = get_task(options.task)
    model = None if options.truth else load_model(options.model, task)
    maps = load_maps_model(options.unexpected, task)
    kept: dict[tuple[str, str], Image] = {}
    if options.measured and options.measured.exists():
        for line in options.measured.read_text("utf-8").splitlines():
            one = Image(*json.loads(line))
            kept[one.name, one.group] = one._replace(said=tuple(one.said))

    def keep(name: str, group: str, volume: Volume, truth: np.ndarray | None = None) -> None:
        if (name, group) not in kept:
            image = Image(name, group)
            try:
                result = segmented(volume, task, model, options.device, truth)
                kept[name, group] = measure(image, result, maps, options.device)
            except DINSegmentError as error:
                kept[name, group] = image._replace(said=(str(error),))
            print(kept[name, group], flush=True)
            if options.measured:
                with options.measured.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(kept[name, group]) + "\n")

    cases = [case for data, split in options.data for case in find_cases(data, read_split(split), task)]
    for case in {case.patient: case for case in reversed(cases)}.values():
        volume, truth = case.read(task)
        keep(case.name, "usual", volume, truth)
        for group, unusual in made(volume, truth, task):
            keep(case.name, group, unusual, truth)
    for group, paths in (("usual", options.usual), ("other", options.others)):
        for path in paths:
            keep(Path(path).name.partition(".")[0], group, read_volumes(path)[0])
    images = list(kept.values())
    for half in (0, 1):
        own, other = ([one for one in images if (one.half == half) == mine] for mine in (True, False))
        if not all(any(one.group == "usual" for one in part) for part in (own, other)):
            print("All usual images are in one half: no limit can be judged.")
            break
        for which in NUMBERS:
            count(f"Limit of half {half + 1}, in the other", other, {which: limit(own, which)})
    print(f"\nMedian of each group: {', '.join(NUMBERS)}")
    for group in dict.fromkeys(one.group for one in images):
        own = [one for one in images if one.group == group and one.mean is not None]
        middle = [float(np.median([getattr(one, w) for one in own])) for w in NUMBERS] if own else []
        print(f"    {group}: {len(own)}, " + ", ".join(f"{value:.4f}" for value in middle))


if __name__ == "__main__":
    main()
