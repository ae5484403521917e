"""How often an image of another kind is told, how often a short-axis cine is taken for one, and limits for both.

    python Testing/Benchmarks/other_images.py --cines FILE ... --others FILE ... [--measured FILE]

A folder is a DICOM series, whose first phase counts. Of each image the four numbers are measured that `quality.kind`
has its limits for; `--measured` keeps them, a line each, so that what was measured is not measured again.

Patients fall into two halves by a hash of their names. Limits are as far out as the most extreme cine of one half, and
MARGIN of its distance from the median beyond; what they tell is counted in the other half, and the other way round.
Those of `quality.kind` are of the first half. A patient has a false alarm if one frame has.

Short-axis cines: ACDC's validation patients, the Sunnybrook series, M&Ms. Others: what other_images_data.py writes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dinsegment.errors import DINSegmentError
from dinsegment.images.reading import read_volumes
from dinsegment.inference.devices import choose_device
from dinsegment.inference.model import Model, load_model
from dinsegment.inference.plausible import checked_image
from dinsegment.inference.prediction import predict_with_confidence
from dinsegment.inference.runner import Runner
from dinsegment.quality.kind import LIMITS, Kind, kind_of
from dinsegment.tasks import HEART

MARGIN = 0.15


class Image(NamedTuple):
    """`measured` is None where no heart was found, which is told, too."""

    name: str
    cine: bool
    measured: Kind | None

    @property
    def patient(self) -> str:
        """Frames and views of one heart are one patient's."""
        return re.sub(r"_(frame\d+|DE|[24]ch)", "", self.name)

    @property
    def group(self) -> str:
        """The letters that its name begins with."""
        return re.match("[A-Za-z]*", self.name)[0]

    @property
    def half(self) -> int:
        return int(hashlib.sha256(self.patient.encode()).hexdigest(), 16) % 2

    def told(self, limits: Kind) -> bool:
        return self.measured is None or self.measured.beyond(limits) is not None


def measure(path: str, runner: Runner, model: Model) -> Kind | None:
    """The numbers of an image; None where no heart is found in it."""
    volume = read_volumes(path)[0]
    image = checked_image(volume, HEART)
    prediction = predict_with_confidence(runner, model.preprocessing, image, HEART)
    if prediction.confidence is None or not prediction.labels.any():
        return None
    return kind_of(volume, prediction.labels, HEART, image.stack.axis, prediction.confidence)


def limits_of(images: Sequence[Image]) -> Kind:
    """As far out as the most extreme cine, and a margin."""
    cines = np.array([one.measured for one in images if one.cine and one.measured is not None], float)
    middle, low, high = np.nanmedian(cines, 0), np.nanmin(cines, 0), np.nanmax(cines, 0)
    least, most = low - MARGIN * (middle - low), high + MARGIN * (high - middle)
    return Kind(least[0], least[1], most[2], most[3])


def count(title: str, images: Sequence[Image], limits: Kind) -> None:
    false = {one.patient for one in images if one.cine and one.told(limits)}
    others = [one for one in images if not one.cine]
    told = Counter(one.group for one in others if one.told(limits))
    of = Counter(one.group for one in others)
    print(f"\n{title}: {', '.join(f'{name} {value:.4g}' for name, value in limits._asdict().items())}")
    patients = {one.patient for one in images if one.cine}
    print(f"    patients with a false alarm: {len(false)} of {len(patients)} {' '.join(sorted(false))}")
    groups = ", ".join(f"{group} {told[group]} of {of[group]}" for group in sorted(of))
    print(f"    others told: {told.total()} of {of.total()} ({groups})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cines", nargs="*", default=[], metavar="FILE")
    parser.add_argument("--others", nargs="*", default=[], metavar="FILE")
    parser.add_argument("--measured", type=Path, metavar="FILE")
    parser.add_argument("--model")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    model = load_model(options.model, HEART)
    runner = Runner(model.network, choose_device(options.device), context=model.context)
    kept = {}
    if options.measured and options.measured.exists():
        kept = {name: numbers for name, numbers in map(json.loads, options.measured.read_text("utf-8").splitlines())}
    images, refused = [], Counter()
    for path, cine in (*((p, True) for p in options.cines), *((p, False) for p in options.others)):
        name = Path(path).name.partition(".")[0]
        if name not in kept:
            try:
                kept[name] = measure(path, runner, model)
            except DINSegmentError as error:
                print(error)
                refused[re.match("[A-Za-z]*", name)[0]] += 1
                continue
            if options.measured:
                with options.measured.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([name, kept[name]]) + "\n")
        images.append(Image(name, cine, Kind(*kept[name]) if kept[name] else None))
        if images[-1].told(LIMITS) == cine:
            print(f"{'false alarm' if cine else 'not told'}: {name} {kept[name]}", flush=True)
    if refused:
        print(
            f"\nRefused, and not counted: {', '.join(f'{count} {group}' for group, count in sorted(refused.items()))}"
        )
    for half in (0, 1):
        own, other = ([one for one in images if (one.half == half) == mine] for mine in (True, False))
        limits = limits_of(own)
        count(f"Limits of half {half + 1}, where they were chosen", own, limits)
        count(f"Limits of half {half + 1}, in the other", other, limits)
    count("The limits of quality.kind, in all", images, LIMITS)


if __name__ == "__main__":
    main()
