"""What a heart's report says, beside what it says of the experts' labels; the groups of diagnoses; seconds of a page.

    python Testing/Benchmarks/report.py --data acdc --split acdc/split-val.txt [--json FILE]
    python Testing/Benchmarks/report.py --data acdc --split acdc/split-train.txt --groups [--json FILE]
    python Testing/Benchmarks/report.py --pages 500

The first segments every heart and measures its two phases, from the network's labels and from the experts': bias (the
network's less the experts') and limits of agreement of volumes, ejection fractions and mass, and the mean absolute
error of wall thickness and thickening in each of the sixteen segments. Both walls are divided from the same point, the
end of the septum that the experts' labels show, because ACDC does not tell how the patient lies.

`--groups` measures the experts' labels alone and gives mean and standard deviation of each group that Info.cfg names.
`--pages` lays out so many reports of a generated heart, and tells seconds and memory.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import psutil

from dinsegment.dicom.read.patient import Patient
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import ras_of
from dinsegment.measurements.study import MeasureOptions, StudyMeasurements, measure_study
from dinsegment.measurements.walls import wall_of
from dinsegment.tasks import get_task
from dinsegment.training.cases import Case, find_cases, read_split

COMPARED = ("lv_edv", "lv_esv", "lv_ef", "lv_mass_ed", "lv_mass_es", "rv_edv", "rv_esv", "rv_ef")
OF_GROUPS = ("lv_edv_bsa", "lv_ef", "lv_mass_ed_bsa", "rv_edv_bsa", "rv_ef")
THICKEST = "thickest_segment_ed"
HEART = get_task("heart")


def hearts(data: Path, split: Path) -> dict[str, list[Case]]:
    """End diastole and end systole of each patient."""
    found: dict[str, list[Case]] = defaultdict(list)
    for case in find_cases(data, read_split(split), HEART):
        found[case.patient].append(case)
    return {patient: sorted(cases, key=lambda case: case.phase) for patient, cases in found.items()}


def by_experts(cases: list[Case]) -> list[Segmentation]:
    """The experts' labels of both phases."""
    phases = []
    for case in cases:
        volume, labels = case.read(HEART)
        phases.append(Segmentation(volume, labels, HEART, "experts", volume, "cpu", 0.0))
    return phases


def septal_end(expert: Segmentation) -> tuple[float, float, float] | None:
    """A point in RAS at one end of the septum, the same whatever is segmented; None where the wall is not divided."""
    wall = wall_of(expert)
    if isinstance(wall, str):
        return None
    ring, segment = wall.rings[0], wall.segment[0]
    first = np.flatnonzero((segment == 2) & ((np.roll(segment, 1) == 1) | (np.roll(segment, -1) == 1)))
    stack = SliceStack.of(expert.volume)
    row, column = ring.epicardium[first[0]] / stack.spacing
    return ras_of(expert.volume, np.insert([row, column], stack.axis, ring.slice))


def walls(study: StudyMeasurements) -> dict[str, dict[int, float]]:
    """Thickness at both ends and thickening, by segment; nothing where there are none."""
    return {} if study.walls is None else study.walls.values


def agreement(data: Path, split: Path, model_name: str | None, device: str) -> dict[str, Any]:
    """The network beside the experts."""
    from dinsegment.inference.model import load_model
    from dinsegment.studies.study import compute_study

    model = load_model(model_name, HEART)
    differences: dict[str, list[float]] = defaultdict(list)
    errors: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    undivided = []
    for patient, cases in hearts(data, split).items():
        expert = by_experts(cases)
        found = compute_study([phase.volume for phase in expert], HEART, model, device)
        options = MeasureOptions(anterior=septal_end(expert[0]))
        ours, theirs = measure_study(found, options), measure_study(expert, options)
        for key in COMPARED:
            values = ours.value(key), theirs.value(key)
            if None not in values:
                differences[key].append(values[0] - values[1])
        mine, truth = walls(ours), walls(theirs)
        if not mine or not truth:
            undivided.append(patient)
        for kind in (kind for kind in mine if kind in truth):
            for segment in mine[kind].keys() & truth[kind].keys():
                errors[kind][segment].append(abs(mine[kind][segment] - truth[kind][segment]))
        print(patient, "; ".join(f"{k} {differences[k][-1]:+.1f}" for k in COMPARED if differences[k]), flush=True)
    table = {
        key: {"n": len(d), "bias": fmean(d), "lower": fmean(d) - 1.96 * stdev(d), "upper": fmean(d) + 1.96 * stdev(d),
              "mae": fmean(map(abs, d))}
        for key, d in differences.items()
    }  # fmt: skip
    mae = {kind: {n: fmean(e) for n, e in sorted(of.items())} for kind, of in errors.items()}
    for key, row in table.items():
        print(f"{key:12} n {row['n']:3}  bias {row['bias']:+6.1f} ({row['lower']:+.1f} to {row['upper']:+.1f})  "
              f"MAE {row['mae']:.1f}")  # fmt: skip
    for kind, of in mae.items():
        each = ", ".join(f"{n}: {value:.2f}" for n, value in of.items())
        print(f"{kind}: MAE {fmean(of.values()):.2f} ({each})")
    print(f"Not divided into segments: {', '.join(undivided) or 'none'}")
    return {"agreement": table, "wall_mae": mae, "undivided": undivided}


def groups(data: Path, split: Path) -> dict[str, Any]:
    """The experts' labels by the diagnosis of Info.cfg."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for patient, cases in hearts(data, split).items():
        lines = (cases[0].image.parent / "Info.cfg").read_text(encoding="utf-8").splitlines()
        info = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        size = Patient(height_m=float(info["Height"]) / 100, weight_kg=float(info["Weight"]))
        study = measure_study(by_experts(cases), MeasureOptions(size))
        group = found[info["Group"]]
        for key in OF_GROUPS:
            if (value := study.value(key)) is not None:
                group[key].append(value)
        if thickness := walls(study).get("wall_ed"):
            group[THICKEST].append(max(thickness.values()))
        else:
            print(f"{patient}: {study.walls.reason if study.walls else study.no_function}", flush=True)
    table = {
        name: {key: {"n": len(v), "mean": fmean(v), "sd": stdev(v)} for key, v in of.items() if len(v) > 1}
        for name, of in sorted(found.items())
    }
    for name, of in table.items():
        print(name, "; ".join(f"{key} {v['mean']:.1f} ± {v['sd']:.1f} (n {v['n']})" for key, v in of.items()))
    return table


def pages(count: int) -> dict[str, Any]:
    """Seconds and memory of so many reports of a generated heart."""
    from dinsegment.phantom.heart import cine_phantom
    from dinsegment.report.pages import make_pages

    phases = [
        Segmentation(p.volume, p.labels, HEART, "truth", p.volume, "cpu", 0.0) for p in cine_phantom(12, slices=10)
    ]
    options = MeasureOptions(Patient("F", 55.0, 1.65, 60.0, 65.0), anterior=ras_of(phases[0].volume, (4, 40, 80)))
    process, memory = psutil.Process(), []
    started, cpu = time.perf_counter(), time.process_time()
    for number in range(count):
        named = [replace(p, volume=replace(p.volume, name=f"patient {number}")) for p in phases]
        made = make_pages(named, measure_study(named, options))
        del made, named
        if number % max(1, count // 10) == 0:
            gc.collect()
            memory.append(round(process.memory_info().rss / 2**20))
            print(f"{number + 1}: {memory[-1]} MiB", flush=True)
    seconds, used = (time.perf_counter() - started) / count, (time.process_time() - cpu) / count
    print(f"{seconds:.2f} s a report, {used:.2f} s of a processor; memory {memory[0]} to {memory[-1]} MiB")
    return {"seconds": seconds, "cpu_seconds": used, "memory_mib": memory}


def main() -> None:
    """Runs what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="Labelled hearts, as ACDC has them.")
    parser.add_argument("--split", type=Path, help="Which patients.")
    parser.add_argument("--model", help="A model of weights.json; else the task's first.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--groups", action="store_true", help="The experts' labels by diagnosis.")
    parser.add_argument("--pages", type=int, metavar="N", help="Lay out N reports.")
    parser.add_argument("--json", type=Path, help="Gets the numbers.")
    options = parser.parse_args()
    if options.pages:
        result = pages(options.pages)
    elif options.data is None or options.split is None:
        parser.error("give --data and --split, or --pages")
    elif options.groups:
        result = groups(options.data, options.split)
    else:
        result = agreement(options.data, options.split, options.model, options.device)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
