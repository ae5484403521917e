"""A whole cine series from DICOM to DICOM: the volume curve, and the expert's contours beside the result.

python Testing/Benchmarks/sunnybrook.py DATA_DIR OUT_DIR [--alone]

DATA_DIR is one cine series of the Sunnybrook cardiac data, with its expert contours in the folder `contours`; no model
was trained on any of that data. OUT_DIR gets the results that `dinsegment segment` writes, DICOM SEG and DICOM SR among
them. With --alone each phase is segmented by itself before, and what it is to be one thing is told: labels that jump,
ends of the curve, and time and peak memory as ratios.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "Testing" / "Python"), str(ROOT / "DINSegment" / "Logic")]

import numpy as np  # noqa: E402
from sunnybrook_contours import ENDOCARDIUM, EPICARDIUM, Contours, compare, read_contours  # noqa: E402

from dinsegment.images.segmentation import Segmentation  # noqa: E402
from dinsegment.images.volume import Volume  # noqa: E402
from dinsegment.inference import load_model, segment, segment_phases  # noqa: E402
from dinsegment.measurements.function import beat_of  # noqa: E402
from dinsegment.measurements.volumes import segment_volumes  # noqa: E402
from dinsegment.studies.study import Study, compute_study, load_study, write_study  # noqa: E402
from dinsegment.tasks import HEART  # noqa: E402


def print_curve(phases: list[Segmentation], diastole: Contours, systole: Contours) -> None:
    volumes = [segment_volumes(phase)[HEART.chamber - 1].volume_ml for phase in phases]
    notes = {diastole.phase: "end diastole of the contours", systole.phase: "end systole of the contours"}
    print("\nphase  left ventricle")
    for number, volume in enumerate(volumes):
        print(f"{number + 1:5} {volume:9.1f} ml  {'#' * round(volume / 5)} {notes.get(number, '')}".rstrip())
    function = beat_of(phases).function
    print(
        f"\nLargest in phase {function.end_diastole + 1} (contours: {diastole.phase + 1}), "
        f"smallest in phase {function.end_systole + 1} (contours: {systole.phase + 1})\n"
        f"EDV {function.end_diastolic_volume_ml:.1f} ml, ESV {function.end_systolic_volume_ml:.1f} ml, "
        f"SV {function.stroke_volume_ml:.1f} ml, EF {function.ejection_fraction_percent:.1f} %, "
        f"myocardial mass {function.myocardial_mass_g:.1f} g"
    )


def print_agreement(phases: list[Segmentation], diastole: Contours, systole: Contours) -> None:
    """Dice and volumes in the slices that have a contour."""
    print("\n                                    Dice   expert  segmented  slices (Dice from, to)  labels elsewhere")
    volumes = {}
    for title, contours in (("end diastole", diastole), ("end systole", systole)):
        for what, masks, labels in (
            ("cavity", contours.endocardium, ENDOCARDIUM),
            ("cavity and myocardium", contours.epicardium, EPICARDIUM),
        ):
            if not masks:
                continue
            found = compare(phases[contours.phase], masks, labels)
            lowest, highest = min(found.by_slice.values()), max(found.by_slice.values())
            print(
                f"{title + ', ' + what:35} {found.dice:.3f} {found.expert_ml:6.1f} ml {found.segmented_ml:7.1f} ml"
                f"  {len(masks):6} ({lowest:.3f}, {highest:.3f})"
                f"  {len(found.other_ml)} slices, {sum(found.other_ml.values()):.1f} ml"
            )
            volumes[title, what] = found
    whose = {"expert": "expert_ml", "segmented": "segmented_ml"}
    print("\nEjection fraction from the slices with contours:", end="")
    for who, attribute in whose.items():
        edv, esv = (getattr(volumes[title, "cavity"], attribute) for title in ("end diastole", "end systole"))
        print(f"  {who} {100 * (edv - esv) / edv:.1f} %", end="")
    print()


def print_alone(volumes: list[Volume], model: str | None, device: str) -> None:
    """Phases by themselves beside the cine as one thing."""
    loaded, rows = load_model(model, HEART), []
    segment(volumes[0], HEART, loaded, device)
    for what in ("by themselves", "as one thing"):
        started = time.process_time()
        if what == "as one thing":
            phases = list(segment_phases(volumes, HEART, loaded, device))
        else:
            phases = [segment(volume, HEART, loaded, device) for volume in volumes]
        seconds = time.process_time() - started
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        labels = np.stack([phase.labels for phase in phases])
        curve = (labels == HEART.chamber).sum((1, 2, 3)) * volumes[0].voxel_volume_ml
        before, after = np.roll(labels, 1, axis=0), np.roll(labels, -1, axis=0)
        jumps, flickers = (labels != before), (labels != before) & (before == after)
        rough = np.abs(curve - (np.roll(curve, 1) + np.roll(curve, -1)) / 2).mean()
        print(
            f"Phases {what}: labels that jump {jumps.sum() / len(labels):.0f}, in one phase alone "
            f"{flickers.sum() / len(labels):.0f}; LV from {curve.min():.1f} to {curve.max():.1f} ml, {rough:.2f} rough"
        )
        rows.append((seconds, memory))
    (time_before, memory_before), (time_after, memory_after) = rows
    print(f"Ratio of CPU time {time_after / time_before:.2f}, of peak memory {memory_after / memory_before:.2f}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA_DIR")
    parser.add_argument("output", type=Path, metavar="OUT_DIR")
    parser.add_argument("--model", default=None, help="name in weights.json; the first one for the heart by default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--alone", action="store_true", help="each phase by itself, too")
    options = parser.parse_args()
    started = time.perf_counter()

    study = Study(options.data, options.output)
    volumes = load_study(study)
    read = time.perf_counter() - started
    if options.alone:
        print_alone(volumes, options.model, options.device)
    seconds = [time.perf_counter()]
    phases = compute_study(volumes, HEART, options.model, options.device)
    seconds.append(time.perf_counter())
    write_study(study, phases)
    seconds.append(time.perf_counter())

    print(f"{len(phases)} phases of {volumes[0].shape}, model {phases[0].model} on {phases[0].device}")
    print(
        "read, segmented, written in", ", ".join(f"{s:.1f} s" for s in (read, *(b - a for a, b in pairwise(seconds))))
    )
    contours = read_contours(options.data / "contours", volumes)
    print_curve(phases, *contours)
    print_agreement(phases, *contours)
    written = sorted(path.relative_to(options.output) for path in options.output.rglob("*.dcm"))
    print(f"\n{len(written)} DICOM files in '{options.output}':", ", ".join(map(str, [*written[:2], written[-1]])))


if __name__ == "__main__":
    main()
