"""How well the wall is found in late enhancement of another hospital, whose experts outlined no infarct.

    python Testing/Benchmarks/late_enhancement.py DIR [DIR ...] [--model MODEL] [--device cpu]

DIR has `images` and `labels` as NIfTI, such as those of MSCMR (public, BWGZK/CycleMix: MSCMR_dataset/train, val and
TestSet), whose labels are 1 right ventricle, 2 left ventricular myocardium, 3 left ventricle. The expert's myocardium
is compared with normal muscle, infarct and no-reflow together. Printed are, for each image, Dice of cavity and wall
and the share of the wall that is said to be infarcted, then means with 95 % intervals over patients, and how many
images the findings are about.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from dinsegment.images import read_volume
from dinsegment.inference import segment
from dinsegment.inference.model import load_model
from dinsegment.measurements.infarct import infarct_measurements
from dinsegment.tasks import get_task
from dinsegment.training.metrics import dice
from dinsegment.training.statistics import PatientBootstrap

MYOCARDIUM, LEFT_VENTRICLE = 2, 3
"""Labels of the experts."""


def label_of(image: Path) -> Path:
    """The expert's file beside an image: `subject1_DE.nii.gz` has `subject1_DE_manual.nii.gz`."""
    patient = image.name.split("_")[0]
    (found,) = (image.parents[1] / "labels").glob(f"{patient}_*.nii*")
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    task = get_task("infarct")
    wall, model = task.wall, load_model(options.model, task)
    found, told, names = [], 0, []
    for image in sorted(path for folder in options.folders for path in (folder / "images").glob("*.nii*")):
        truth = read_volume(label_of(image)).array.round().astype(np.uint8)
        result = segment(read_volume(image), task, model, options.device)
        muscle = np.isin(result.labels, (wall.muscle, *wall.damaged))
        overlaps = (
            dice(muscle.astype(np.uint8), (truth == MYOCARDIUM).astype(np.uint8), 1),
            dice((result.labels == wall.cavity).astype(np.uint8), (truth == LEFT_VENTRICLE).astype(np.uint8), 1),
        )
        percent = next(m.value for m in infarct_measurements(result) if m.kind == "infarct_percent")
        found.append(overlaps)
        names.append(image.name.split("_")[0])
        told += bool(result.findings)
        said = "no muscle" if percent is None else f"{percent:.1f} % infarcted"
        print(f"{names[-1]}: wall {overlaps[0]:.3f}, cavity {overlaps[1]:.3f}, {said}", flush=True)
    scores = np.array(found)
    bootstrap = PatientBootstrap(names)
    for name, column in zip(("wall", "cavity"), scores.T, strict=True):
        low, high = bootstrap.interval(bootstrap.means(column))
        print(f"{name}: {column.mean():.3f} ({low:.3f} to {high:.3f}), least {column.min():.3f}")
    missed = np.count_nonzero(scores.min(1) < 0.6)
    print(f"{len(names)} images, {missed} with wall or cavity below 0.6, {told} with findings")


if __name__ == "__main__":
    main()
