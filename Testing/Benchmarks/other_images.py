"""How often an image of another kind is told, and how often a short-axis cine is taken for one.

    python Testing/Benchmarks/other_images.py --cines FILE ... --others FILE ...

A folder is a DICOM series, whose first phase counts. For each image the four numbers
are printed that `quality.kind` has its limits for. Short-axis cines: ACDC's validation patients, Sunnybrook, M&Ms.
Others: late enhancement (MSCMR, EMIDEC), brains, abdomens (CHAOS), prostates, spines, long-axis views.
"""

from __future__ import annotations

import argparse

from dinsegment.errors import DINSegmentError
from dinsegment.images.reading import read_volumes
from dinsegment.images.slices import slice_axis
from dinsegment.inference.devices import choose_device
from dinsegment.inference.model import load_model
from dinsegment.inference.pipeline import predict_with_confidence
from dinsegment.inference.runner import Runner
from dinsegment.quality.kind import brightness_and_grain, kind_findings, muscle_overlap
from dinsegment.tasks import HEART


def told(path: str, runner: Runner, model) -> bool | None:
    """Whether an image is said to be of another kind; None if it cannot be read."""
    try:
        volume = read_volumes(path)[0]
    except DINSegmentError as error:
        print(f"{path}: {error}")
        return None
    prediction = predict_with_confidence(runner, model.preprocessing, volume, HEART)
    confidence = prediction.confidence
    if confidence is None or not prediction.labels.any():
        print(f"{path}: nothing found")
        return True
    axis = slice_axis(volume, HEART.plane)
    brightness, grain = brightness_and_grain(volume, prediction.labels, HEART, axis) or (float("nan"), float("nan"))
    found = kind_findings(volume, prediction.labels, HEART, axis, confidence)
    print(
        f"{path}: certainty {confidence.certainty:.3f}, muscle {muscle_overlap(HEART, confidence):.3f}, "
        f"brightness {brightness:.3f}, grain {grain:.4f}{', TOLD' if found else ''}",
        flush=True,
    )
    return bool(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cines", nargs="*", default=[], metavar="FILE")
    parser.add_argument("--others", nargs="*", default=[], metavar="FILE")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    model = load_model(None, HEART)
    runner = Runner(model.network, choose_device(options.device))
    counts = {}
    for what, paths in (("cines", options.cines), ("others", options.others)):
        seen = [one for path in paths if (one := told(path, runner, model)) is not None]
        counts[what] = f"{what}: {sum(seen)} of {len(seen)} said to be no short-axis cine MR"
    print("\n".join(counts.values()))


if __name__ == "__main__":
    main()
