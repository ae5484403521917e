"""Chooses how wide intervals have to be, and checks what samples tell: of volumes, and of where labels are wrong.

    python Testing/Benchmarks/samples.py --data DIR FILE [--model MODEL] [--draws 16] [--write weights.json]
    python Testing/Benchmarks/samples.py --data DIR FILE [--model MODEL] [--draws 16] --check

FILE names patients, one a line. With --write they are validation patients: for each number, and for each unit for all
that have none of their own, so many standard deviations of the draws are chosen that the intervals hold nine in ten of
the experts' values, and put into the model's entry; each patient's own interval is also tried with what the others say
(leave one out), with a choice for each number and with one for each unit. With --check, once, on test patients: which
share of the experts' values lies in the intervals as they stand, with the interval of Clopper and Pearson, 95 %. Both
tell how well wrong voxels are found within 5 mm of what anybody labels: the area under the ROC curve of the samples'
disagreement and of the network's own probability of another label. With --keep the numbers go into a JSON file, and
with --kept they come from there instead of from images, so that nothing is drawn twice. With --unit only
numbers of that unit count: of images whose spacing nobody knows, percentages.

Draws of end diastole and end systole belong together, so that the ejection fraction of each draw is known.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.stats import binomtest, rankdata

from dinsegment.files import write_json
from dinsegment.images.samples import Samples
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.slices import SliceStack
from dinsegment.inference.anatomy import find_box
from dinsegment.inference.devices import choose_device
from dinsegment.inference.looking import look
from dinsegment.inference.model import Model, load_model
from dinsegment.inference.pipeline import segment
from dinsegment.inference.runner import Runner
from dinsegment.inference.samples import probability_of_another, with_samples
from dinsegment.measurements.intervals import intervals_of
from dinsegment.measurements.study import measure_study
from dinsegment.tasks import Task, get_task
from dinsegment.training.cases import Case, find_cases, read_split
from model_entry import named, parser_of, write_part

SHARE = 0.9
NEAR_MM = 5.0

FEWEST = 9
"""Patients: of fewer, not even the largest of their values holds nine in ten of those to come."""


@dataclass(frozen=True)
class Value:
    """A number of a patient: as measured, as of the experts' labels, and the deviation of its draws."""

    patient: str
    key: str
    unit: str
    measured: float
    expert: float
    deviation: float

    def wide(self, floor: float) -> float:
        """The deviation with a floor added to it."""
        return math.hypot(self.deviation, floor)

    def ratio(self, floor: float) -> float:
        """How many of these the experts' value is away."""
        away, deviation = abs(self.measured - self.expert), self.wide(floor)
        return away / deviation if deviation > 0 else (math.inf if away else 0.0)


def values_of(cases: Sequence[Case], task: Task, model: Model, draws: int, device: str) -> tuple[list[Value], dict]:
    """The numbers of all patients, and the areas under the curve of their images."""
    patients: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        patients[case.patient].append(case)
    values, areas = [], defaultdict(list)
    unit = {u: 1.0 for u in ("ml", "%", "g")}
    for patient, own in patients.items():
        found, expert = [], []
        for case in own:
            volume, truth = case.read(task)
            result = segment(volume, task, model, device)
            # Intervals of one deviation to either side, whatever the model says.
            plain = replace(model, samples=replace(model.samples, scales=unit, floors={}))
            drawn = with_samples(result, draws, plain, device)
            if drawn.samples is None:
                print(drawn.warnings[-1], flush=True)
                break
            found.append(drawn)
            expert.append(replace(result, labels=truth))
            for name, area in aucs(drawn, truth, model, device).items():
                areas[name].append(area)
        if len(found) == len(own):
            values += _values(patient, found, expert)
        print(f"{patient}: {len(values)} numbers so far", flush=True)
    return values, {name: (float(np.mean(a)), len(a)) for name, a in areas.items()}


def _values(patient: str, found: list[Segmentation], expert: list[Segmentation]) -> list[Value]:
    if found[0].task.wall is not None:
        # What of a wall that the image cuts is shown is the same for the network and for experts: it counts here.
        found, expert = ([_within_air(one) for one in all_of] for all_of in (found, expert))
    truth = measure_study(expert)
    made = intervals_of(found, measure_study(found))
    kept = []
    for one in made.intervals if made is not None else ():
        measurement = one.measurement
        true = truth.value(measurement.key)
        if true is None or measurement.index:  # an indexed number says the same as the number
            continue
        deviation = one.high - measurement.value
        unit = measurement.definition.unit
        kept.append(Value(patient, measurement.key, unit, measurement.value, true, deviation))
    return kept


def _within_air(segmentation: Segmentation) -> Segmentation:
    """The same with a voxel of nothing on every side of the image."""
    volume = segmentation.volume
    ijk_to_ras = volume.ijk_to_ras.copy()
    ijk_to_ras[:3, 3] -= ijk_to_ras[:3, :3].sum(1)
    padded = replace(volume, array=np.pad(volume.array, 1), ijk_to_ras=ijk_to_ras)
    return replace(segmentation, volume=padded, labels=np.pad(segmentation.labels, 1))


def aucs(drawn: Segmentation, truth: np.ndarray, model: Model, device: str) -> dict[str, float]:
    """Areas under the ROC curve of what should be high where the labels are wrong."""
    wrong = drawn.labels != truth
    near = ndimage.distance_transform_edt(~((drawn.labels > 0) | (truth > 0)), drawn.volume.spacing) <= NEAR_MM
    if not wrong[near].any() or wrong[near].all():
        return {}
    doubt = own_doubt(drawn, model, device)
    return {
        "samples' disagreement": auc(drawn.samples.disagreement[near], wrong[near]),
        "the network's own probabilities": auc(doubt[near], wrong[near]),
        "both, added": auc((drawn.samples.disagreement + doubt)[near], wrong[near]),
    }


def own_doubt(result: Segmentation, model: Model, device: str) -> np.ndarray:
    """The probability that the network itself gives to another label than the result's, (k, j, i) on its grid."""
    stack = SliceStack.in_plane(result.volume, model.preprocessing.plane)
    runner = Runner(model.network, choose_device(device), context=model.context)
    box = find_box(runner, model.preprocessing, stack)
    labels = stack.like(result.labels).array
    doubt = np.ones(labels.shape, np.float32)
    if box is None:
        return stack.to_volume_axes(1 - doubt)
    batches = look(runner, model.preprocessing, box, "Segmenting", 0.0, 1.0, mirror=model.preprocessing.mirror)
    foreground = (one[1:] for batch in batches for one in batch)
    for k, shares in enumerate(box.values_back(foreground)):
        doubt[k] = probability_of_another(shares, labels[k])
    return stack.to_volume_axes(doubt)


def auc(score: np.ndarray, positive: np.ndarray) -> float:
    """The area under the ROC curve, by the rank sum of Mann and Whitney; ties count half."""
    ranks, count = rankdata(score), int(positive.sum())
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(score) - count)))


def chosen_scale(ratios: Sequence[float]) -> float:
    """The smallest number of deviations with which a new patient's value is inside with the wanted probability.

    Of n values it is the one of rank ceil(0.9 (n + 1)), the largest where there are too few (split conformal
    prediction).
    """
    rank = min(len(ratios), math.ceil(SHARE * (len(ratios) + 1)))
    return sorted(ratios)[rank - 1]


Name = Callable[[Value], str]
"""What values that are looked at together have in common."""


def by_key(value: Value) -> str:
    return value.key


def by_unit(value: Value) -> str:
    return value.unit


def grouped(values: Sequence[Value], name: Name) -> dict[str, list[Value]]:
    groups: dict[str, list[Value]] = defaultdict(list)
    for value in values:
        groups[name(value)].append(value)
    return dict(groups)


def floor_of(values: Sequence[Value]) -> float:
    """The median deviation: draws of one patient that happen to agree more than that tell no more."""
    return float(f"{np.median([value.deviation for value in values]):.3g}")


def scales_of(values: Sequence[Value]) -> tuple[dict[str, float], dict[str, float]]:
    """Scales and floors of each number and of each unit, of those with values of enough patients."""
    scales, floors = {}, {}
    for name, own in [*grouped(values, by_key).items(), *grouped(values, by_unit).items()]:
        if len({value.patient for value in own}) >= FEWEST:
            floors[name] = floor_of(own)
            # Rounded up: what was chosen holds what it was chosen for.
            scales[name] = math.ceil(100 * chosen_scale([value.ratio(floors[name]) for value in own])) / 100
    return scales, floors


def reach(value: Value, scales: Mapping[str, float], floors: Mapping[str, float]) -> float | None:
    """How far a value's interval reaches to either side; None where neither it nor its unit has a scale."""
    chosen = Samples("", np.zeros((0, 0)), np.zeros(0), scales, floors).scale_and_floor(value.key, value.unit)
    return None if chosen is None else chosen[0] * value.wide(chosen[1])


def inside(values: Sequence[Value], scales: Mapping[str, float], floors: Mapping[str, float]) -> list[bool]:
    known = [(value, reach(value, scales, floors)) for value in values]
    return [abs(value.measured - value.expert) <= wide for value, wide in known if wide is not None]


def left_out(values: Sequence[Value], name: Name) -> list[tuple[Value, bool, float]]:
    """Each value, whether it lies in the interval that the other patients' values say, and how far that reaches."""
    found = []
    for own in grouped(values, name).values():
        for value in own:
            others = [other for other in own if other.patient != value.patient]
            if others:
                floor = floor_of(others)
                scale = chosen_scale([other.ratio(floor) for other in others])
                found.append((value, value.ratio(floor) <= scale, scale * value.wide(floor)))
    return found


def share(counted: Sequence[bool]) -> str:
    if not counted:
        return "none"
    low, high = binomtest(sum(counted), len(counted)).proportion_ci(method="exact")
    return f"{sum(counted)} of {len(counted)} ({100 * low:.0f} to {100 * high:.0f} %)"


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--check", action="store_true", help="judge the scales that stand in the model's entry")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="write the numbers of the patients there, too")
    parser.add_argument("--kept", type=Path, metavar="FILE", help="take the numbers that --keep has written")
    parser.add_argument("--unit", help="the only unit of the numbers that count, such as %%")
    options = parser.parse_args()
    task = get_task(options.task)
    model = load_model(options.model, task)
    if options.check and not model.samples.scales:
        raise SystemExit(f"'{model.name}' has no scales that could be checked: choose them first, with --write.")
    if options.kept:
        kept = json.loads(options.kept.read_text(encoding="utf-8"))
        values, areas = [Value(**one) for one in kept["values"]], kept["areas"]
    else:
        cases = [case for data, split in options.data for case in find_cases(data, read_split(split), task)]
        values, areas = values_of(cases, task, model, options.draws, options.device)
    values = [value for value in values if options.unit in (None, value.unit)]
    if options.keep:
        write_json({"values": [asdict(value) for value in values], "areas": areas}, options.keep)
    samples = model.samples
    scales, floors = (samples.scales, samples.floors) if options.check else scales_of(values)
    patients = len({value.patient for value in values})
    print(f"\n{model.name}, {options.draws} draws, {patients} patients")
    for name, scale in scales.items():
        print(f"    {name}: {scale:g} deviations to either side, with a floor of {floors.get(name, 0.0):g}")
    for key, own in sorted(grouped(values, by_key).items()):
        wide = [one for value in own if (one := reach(value, scales, floors)) is not None]
        mean = f"{np.mean(wide):.1f} {own[0].unit} to either side on average" if wide else "no scale"
        print(f"    {key}: inside {share(inside(own, scales, floors))}, {mean}")
    print("inside in all:", share(inside(values, scales, floors)))
    if not options.check:
        for title, name in (("number", by_key), ("unit", by_unit)):
            tried = left_out(values, name)
            print(f"one choice for each {title}, the patient left out:", share([held for _, held, _ in tried]))
            for key in sorted({value.key for value, _, _ in tried}):
                own = [(held, wide) for value, held, wide in tried if value.key == key]
                mean = np.mean([wide for _, wide in own])
                print(f"    {key}: inside {share([held for held, _ in own])}, {mean:.1f} to either side on average")
    for name, (area, count) in areas.items():
        print(f"wrong voxels found by {name}: area under the curve {area:.3f} (mean of {count} images)")
    if options.write and not options.check:
        made = {"chosen": f"{named(options.data)}, {patients} patients", "patients": patients, "draws": options.draws}
        chosen = {"variations": vars(samples.variations), "scales": scales, "floors": floors, "made": made}
        write_part(options.write, model.name, "samples", chosen)


if __name__ == "__main__":
    main()
