"""The tasks: what is segmented in which images. Each is a JSON file in Resources/Tasks, or where DINSEGMENT_TASKS says.

Tasks in Resources/Tasks/Research are those of recipes, and of networks that only tell others what may be where: they
are known by name, and offered to nobody.

Codes are SNOMED CT. Segments have two colours. In one they are told apart on grey, as outlines, also by the
colour-blind: any two differ by 10 and more (CIEDE2000), and so does each from mid greys, as everybody sees them, with
deuteranopia and with protanopia. The other is what Slicer's own terminologies recommend, mostly reds of flesh.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from dinsegment.errors import InputError
from dinsegment.resources import resource

KINDS = ("probabilities", "samples", "maps", "context")
"""What a model may return: the probability of each label, one possible segmentation for each draw, a map of what it did
not expect, or, for the models of another task, what may be where."""

MEASURES = ("attenuation", "length", "height", "diameter")
"""What a segment's task may ask to measure beside its volume."""

TASKS_VARIABLE = "DINSEGMENT_TASKS"
"""Environment variable naming a folder with more tasks, a JSON file each."""


@dataclass(frozen=True)
class Code:
    """A coded concept: scheme (`SCT`), value and meaning (DICOM PS3.3, section 8)."""

    scheme: str
    value: str
    meaning: str

    def __str__(self) -> str:
        return f"{self.scheme}^{self.value}^{self.meaning}"


ANATOMICAL_STRUCTURE = Code("SCT", "123037004", "Anatomical Structure")
TERMINOLOGY_CONTEXT = "DINSegment"
"""Name of the terminology that holds every code below; Slicer bundles none that has the myocardium."""


REGION_CONTEXT = "Anatomic codes - DICOM master list"
"""Slicer's own list of anatomic regions, which its terminology selector offers beside the type."""


@dataclass(frozen=True)
class Segment:
    """One structure of a task.

    Attributes:
        label: Its value in a labelmap.
        name: What the user reads.
        abbreviation: As the literature reports it.
        type: What it is.
        color: Red, green, blue in 0..255, told apart from those of the other segments.
        recommended_color: As Slicer's terminologies recommend it; of the myocardium, which they lack, of the heart.
        modifier: Laterality, where the type alone does not say which one.
        region: Anatomic region, where the type alone does not say it.
        category: Of which category the type is (DICOM PS3.16, CID 7150).
        seen_ml: Smallest and largest volume in ml that the experts' labels of the training patients have; None where
            it depends on what the image shows.
        place: Where its centre lies to those of the other segments that have one, in mm in RAS, on average over the
            training patients; None where every image of the task shows it.
        absence: Why a patient may not have it, where that is common.
        smallest_piece: Share of its largest piece from which on another one is no mistake; None for the usual one.
        runs_on: Whether it goes on beyond what images of the task show, as the aorta does.
        measures: What is measured of it beside its volume: `attenuation` (Hounsfield units), `length`, `height`
            (craniocaudal), `diameter` (of a vessel).
        measured_up_to: Labels of organs up to whose upper end, the highest of them, a vessel's diameter is measured;
            everywhere if there are none.
    """

    label: int
    name: str
    abbreviation: str
    type: Code
    color: tuple[int, int, int]
    recommended_color: tuple[int, int, int]
    modifier: Code | None = None
    region: Code | None = None
    category: Code = ANATOMICAL_STRUCTURE
    seen_ml: tuple[float, float] | None = None
    place: tuple[float, float, float] | None = None
    absence: str = ""
    smallest_piece: float | None = None
    runs_on: bool = False
    measures: tuple[str, ...] = ()
    measured_up_to: tuple[int, ...] = ()

    @property
    def terminology(self) -> str:
        """Slicer's terminology entry: context~category~type~modifier~region context~region~modifier."""
        none = "^^"
        modifier = str(self.modifier) if self.modifier else none
        region = str(self.region) if self.region else none
        what = (TERMINOLOGY_CONTEXT, str(self.category), str(self.type), modifier)
        return "~".join((*what, REGION_CONTEXT, region, none))


@dataclass(frozen=True)
class Doubt:
    """From when on the user is told that the network is unsure of a segment; chosen on validation patients.

    Attributes:
        overlap: A slice is doubtful below this Dice, the one to be expected if calibrated probabilities are true.
        area_cm2: Where the segment has at least this area in it.
        share: And doubtful slices hold at least this share of the segment.
    """

    overlap: float
    area_cm2: float
    share: float


@dataclass(frozen=True)
class DamagedWall:
    """The wall of a ventricle in one image, of which parts are damaged: the labels that it consists of.

    Attributes:
        cavity: What it surrounds.
        muscle: What of it is sound.
        infarct: What of it is infarcted.
        no_reflow: What of the infarct no blood reaches; None where that is not told apart.
        smallest_percent: Smallest share of the muscle, in %, that is damaged in a training patient with damage; of less
            the user is told.
        least_percent: Damage of less than this share of the muscle, in %, is a mistake; 0 where none is.
        name: Of all of it, as a user reads it; empty for the muscle's.
    """

    cavity: int
    muscle: int
    infarct: int
    no_reflow: int | None = None
    smallest_percent: float = 0.0
    least_percent: float = 0.0
    name: str = ""

    @property
    def damaged(self) -> tuple[int, ...]:
        """The infarct, no-reflow included."""
        return (self.infarct,) if self.no_reflow is None else (self.infarct, self.no_reflow)


@dataclass(frozen=True)
class PhantomOptions:
    """The generated images that show a task.

    Attributes:
        generator: Which generator makes them: a name of `dinsegment.phantom.generators.GENERATORS`.
        images: How many: phases of a beat, or patients.
        options: Of the generator.
        description: What they are, in words that follow "a generated".
    """

    generator: str
    images: int = 1
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    description: str = "phantom"


@dataclass(frozen=True)
class Task:
    """What is segmented, in which images.

    Attributes:
        name: As the command line takes it.
        title: As a user reads it.
        modality: DICOM modality of its images, `MR` or `CT`.
        images: What its images are, in words that follow "is it".
        segments: In the order of their labels, 1, 2, ...
        stacks: Kinds of the stacks of a DICOM study that it is done on (`dicom.read.stack`), the preferred first; any
            of its modality if empty.
        chamber: Label of the cavity whose volume over the cardiac phases gives the ejection fraction; None if nothing
            beats.
        muscle: Label of the muscle whose mass is reported with it.
        right_chamber: Label of the other cavity that beats, the right ventricle's; None if there is none.
        one_organ: Whether all segments hang together, so that what lies apart is a mistake; otherwise each segment is
            one piece of its own, or a few large ones.
        pairs: Labels of the left and the right one of organs that come in pairs.
        compared: Labels of organs whose attenuation is compared: the first one's less the second one's, and over it.
        plane: Slices that its images are looked at in: as they were `acquired`, or `axial` ones of the patient.
        grey_window: Grey values (low, high) that are looked at where they mean the same in every image, in Hounsfield
            units; None where each image has its own range.
        sides: Labels of organs of which the first lies to the left of the second, in order of importance.
        open_base: Whether one end of the stack may lie inside of the segments, as short-axis slices mostly begin below
            the heart's base.
        doubt: When the network is unsure of a segment.
        smallest_ml: A segment with less than this, unless the image's edge cuts it, is a mistake; 0 where none is.
        correction: How is learned from a user's corrections, options of `dinsegment.correction.learn.Options`; its
            defaults where there are none.
        phantom: Generated images that show it; None where none do.
        icon: Name of its icon in Resources/Icons, without the suffix; empty for none.
        order: Its place among the tasks, smallest first.
        key: The letter of its title that starts it from the keyboard, with Alt; empty for none.
        kinds: What its models may return, of `KINDS`.
        wall: The wall whose damage is measured; None where none is.
    """

    name: str
    title: str
    modality: str
    images: str
    segments: tuple[Segment, ...]
    stacks: tuple[str, ...] = ()
    chamber: int | None = None
    muscle: int | None = None
    right_chamber: int | None = None
    one_organ: bool = False
    pairs: tuple[tuple[int, int], ...] = ()
    compared: tuple[tuple[int, int], ...] = ()
    plane: Literal["acquired", "axial"] = "acquired"
    grey_window: tuple[float, float] | None = None
    sides: tuple[tuple[int, int], ...] = ()
    open_base: bool = False
    doubt: Doubt = Doubt(overlap=0.75, area_cm2=2.0, share=0.2)
    smallest_ml: float = 0.0
    correction: dict[str, Any] = field(default_factory=dict, hash=False)
    phantom: PhantomOptions | None = None
    icon: str = ""
    order: int = 100
    key: str = ""
    kinds: tuple[str, ...] = ("probabilities",)
    wall: DamagedWall | None = None

    def __post_init__(self) -> None:
        """Raises ValueError if an entry has no such value."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", self.name):
            raise ValueError(f"its name is '{self.name}', not small letters, digits and hyphens")
        labels = [s.label for s in self.segments]
        if not labels or labels != list(range(1, len(labels) + 1)):
            raise ValueError(f"its labels are {labels}, not 1, 2, ... in this order")
        if self.plane not in ("acquired", "axial"):
            raise ValueError(f"its plane is '{self.plane}', not 'acquired' or 'axial'")
        if self.grey_window is not None and not self.grey_window[0] < self.grey_window[1]:
            raise ValueError(f"its grey_window is {list(self.grey_window)}, not a lower and a higher value")
        if not self.kinds or set(self.kinds) - set(KINDS):
            raise ValueError(f"its kinds are {list(self.kinds)}, not some of {list(KINDS)}")
        named = {
            self.chamber,
            self.muscle,
            self.right_chamber,
            *((self.wall.cavity, self.wall.muscle, *self.wall.damaged) if self.wall else ()),
            *(label for pair in (*self.pairs, *self.compared, *self.sides) for label in pair),
            *(label for segment in self.segments for label in segment.measured_up_to),
        } - {None}
        if unknown := {name for s in self.segments for name in s.measures} - set(MEASURES):
            raise ValueError(f"it asks to measure {sorted(unknown)}, and there are only {list(MEASURES)}")
        if not named <= set(labels):
            raise ValueError(f"it names labels {sorted(named - set(labels))}, which it does not have")

    @property
    def classes(self) -> int:
        """Classes of the network: the segments and the background."""
        return len(self.segments) + 1


LEFT_VENTRICLE = Code("SCT", "87878005", "Left ventricle")
LEFT = Code("SCT", "7771000", "Left")
RIGHT = Code("SCT", "24028007", "Right")


class _Tasks(Mapping[str, Task]):
    """All tasks by their names, read when somebody first asks: those that ship, then those of DINSEGMENT_TASKS."""

    def __getitem__(self, name: str) -> Task:
        return _read_all(os.environ.get(TASKS_VARIABLE))[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_read_all(os.environ.get(TASKS_VARIABLE)))

    def __len__(self) -> int:
        return len(_read_all(os.environ.get(TASKS_VARIABLE)))


TASKS: Mapping[str, Task] = _Tasks()


def __getattr__(name: str) -> Task:
    """HEART and ABDOMEN, the tasks that ship."""
    if name in ("HEART", "ABDOMEN"):
        return TASKS[name.lower()]
    raise AttributeError(f"The module dinsegment.tasks has no '{name}'.")


def get_task(name: str) -> Task:
    """The task of that name.

    Raises:
        InputError: There is none, and the message names those that there are; or a task's file cannot be used.
    """
    known = _read_all(os.environ.get(TASKS_VARIABLE))
    try:
        return known[name] if name in known else _research()[name]
    except KeyError:
        known = ", ".join(TASKS)
        raise InputError(f"There is no task '{name}'; the tasks are: {known}.") from None


def offered_task(stack: str, but: Task) -> Task | None:
    """The first other task that a user is offered and that is done on stacks of such a kind, if there is one."""
    return next((task for task in TASKS.values() if stack in task.stacks and task.name != but.name), None)


@cache
def _research() -> dict[str, Task]:
    tasks = [read_task(path) for path in sorted(resource("Tasks").joinpath("Research").glob("*.json"))]
    return {task.name: task for task in tasks}


@cache
def _read_all(folder: str | None) -> dict[str, Task]:
    files = sorted(resource("Tasks").glob("*.json"))
    if folder:
        own = sorted(Path(folder).glob("*.json"))
        if not own:
            raise InputError(f"{TASKS_VARIABLE} names '{folder}', in which there is no task: put its JSON file there.")
        files += own
    tasks: dict[str, Task] = {}
    for path in files:
        task = read_task(path)
        if task.name in tasks:
            raise InputError(f"'{path}' has a task '{task.name}', of which there is one already: rename it.")
        tasks[task.name] = task
    return dict(sorted(tasks.items(), key=lambda item: item[1].order))


def read_task(path: Path) -> Task:
    """A task from its JSON file, whose entries are the attributes of `Task`; `note` is for people.

    Raises:
        InputError: It cannot be read, or an entry is missing, unknown or has no such value.
    """
    try:
        options = json.loads(path.read_text(encoding="utf-8"))
        options.pop("note", None)
        segments = tuple(_segment(one) for one in options.pop("segments"))
        if "doubt" in options:
            options["doubt"] = Doubt(**options["doubt"])
        if options.get("wall") is not None:
            options["wall"] = DamagedWall(**options["wall"])
        if options.get("phantom") is not None:
            options["phantom"] = PhantomOptions(**options["phantom"])
        if "kinds" in options:
            options["kinds"] = tuple(options["kinds"])
        for name in ("pairs", "compared", "sides"):
            options[name] = tuple((int(left), int(right)) for left, right in options.get(name, ()))
        if options.get("grey_window") is not None:
            low, high = options["grey_window"]
            options["grey_window"] = float(low), float(high)
        return Task(segments=segments, **options)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"it has no entry {error}" if isinstance(error, KeyError) else str(error).rstrip(".")
        raise InputError(f"The task '{path}' cannot be used: {reason}.") from error


def _segment(options: dict[str, Any]) -> Segment:
    options = dict(options)
    for name in ("type", "modifier", "region", "category"):
        if options.get(name) is not None:
            options[name] = Code(*options[name])
    for name in ("color", "recommended_color", "seen_ml", "place", "measures", "measured_up_to"):
        if options.get(name) is not None:
            options[name] = tuple(options[name])
    options.setdefault("recommended_color", options["color"])
    return Segment(**options)
