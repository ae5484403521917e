"""The tasks as data: modality, segments with their codes and colours, how slices are prepared.

Codes are SNOMED CT. Segments have two colours. In one they are told apart on grey, as outlines, also by the
colour-blind: any two differ by 10 and more (CIEDE2000), and so does each from mid greys, as everybody sees them, with
deuteranopia and with protanopia. The other is what Slicer's own terminologies recommend, mostly reds of flesh.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dinsegment.errors import InputError


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
        type: What it is, of category Anatomical Structure.
        color: Red, green, blue in 0..255, told apart from those of the other segments.
        recommended_color: As Slicer's terminologies recommend it; of the myocardium, which they lack, of the heart.
        modifier: Laterality, where the type alone does not say which one.
        region: Anatomic region, where the type alone does not say it.
        seen_ml: Smallest and largest volume in ml that the experts' labels of the training patients have; None where
            it depends on what the image shows.
        place: Where its centre lies to those of the other segments that have one, in mm in RAS, on average over the
            training patients; None where every image of the task shows it.
        absence: Why a patient may not have it, where that is common.
        runs_on: Whether it goes on beyond what images of the task show, as the aorta does.
    """

    label: int
    name: str
    abbreviation: str
    type: Code
    color: tuple[int, int, int]
    recommended_color: tuple[int, int, int]
    modifier: Code | None = None
    region: Code | None = None
    seen_ml: tuple[float, float] | None = None
    place: tuple[float, float, float] | None = None
    absence: str = ""
    runs_on: bool = False

    @property
    def terminology(self) -> str:
        """Slicer's terminology entry: context~category~type~modifier~region context~region~modifier."""
        none = "^^"
        modifier = str(self.modifier) if self.modifier else none
        region = str(self.region) if self.region else none
        what = (TERMINOLOGY_CONTEXT, str(ANATOMICAL_STRUCTURE), str(self.type), modifier)
        return "~".join((*what, REGION_CONTEXT, region, none))


@dataclass(frozen=True)
class Doubt:
    """From when on the user is told that the network is unsure of a segment; chosen on validation patients.

    Attributes:
        overlap: A slice is doubtful below this Dice, the one to be expected if the network's probabilities are true.
        area_cm2: Where the segment has at least this area in it.
        share: And doubtful slices hold at least this share of the segment.
    """

    overlap: float
    area_cm2: float
    share: float


@dataclass(frozen=True)
class Task:
    """What is segmented, in which images.

    Attributes:
        name: As the command line takes it.
        title: As a user reads it.
        modality: DICOM modality of its images, `MR` or `CT`.
        images: What its images are, in words that follow "is it".
        segments: In the order of their labels, 1, 2, ...
        chamber: Label of the cavity whose volume over the cardiac phases gives the ejection fraction; None if nothing
            beats.
        muscle: Label of the muscle whose mass is reported with it.
        one_organ: Whether all segments hang together, so that what lies apart is a mistake; otherwise each segment is
            one piece of its own, or a few large ones.
        pairs: Labels of the left and the right one of organs that come in pairs.
        plane: Slices that its images are looked at in: as they were `acquired`, or `axial` ones of the patient.
        grey_window: Grey values (low, high) that are looked at where they mean the same in every image, in Hounsfield
            units; None where each image has its own range.
        sides: Labels of organs of which the first lies to the left of the second, in order of importance.
        open_base: Whether one end of the stack may lie inside of the segments, as short-axis slices mostly begin below
            the heart's base.
        doubt: When the network is unsure of a segment.
        smallest_ml: A segment with less than this, unless the image's edge cuts it, is a mistake; 0 where none is.
    """

    name: str
    title: str
    modality: str
    images: str
    segments: tuple[Segment, ...]
    chamber: int | None = None
    muscle: int | None = None
    one_organ: bool = False
    pairs: tuple[tuple[int, int], ...] = ()
    plane: Literal["acquired", "axial"] = "acquired"
    grey_window: tuple[float, float] | None = None
    sides: tuple[tuple[int, int], ...] = ()
    open_base: bool = False
    doubt: Doubt = Doubt(overlap=0.75, area_cm2=2.0, share=0.2)
    smallest_ml: float = 0.0

    @property
    def classes(self) -> int:
        """Classes of the network: the segments and the background."""
        return len(self.segments) + 1


MYOCARDIUM = Code("SCT", "74281007", "Myocardium")
LEFT_VENTRICLE = Code("SCT", "87878005", "Left ventricle")

HEART = Task(
    name="heart",
    title="Heart",
    modality="MR",
    images="a short-axis cine MR of the heart",
    segments=(
        # Volumes: the 70 patients of ACDC's training split, at end diastole and end systole.
        Segment(
            1,
            "Right ventricle",
            "RV",
            Code("SCT", "53085002", "Right ventricle"),
            (255, 176, 0),
            (181, 85, 57),
            seen_ml=(13.0, 295.1),
        ),
        # Myocardium is of both ventricles: the region says of which.
        Segment(
            2,
            "Left ventricular myocardium",
            "Myo",
            MYOCARDIUM,
            (29, 237, 254),
            (206, 110, 84),
            region=LEFT_VENTRICLE,
            seen_ml=(35.1, 298.3),
        ),
        Segment(3, "Left ventricle", "LV", LEFT_VENTRICLE, (255, 72, 83), (152, 55, 13), seen_ml=(22.3, 374.4)),
    ),
    chamber=3,
    muscle=2,
    one_organ=True,
    open_base=True,
    doubt=Doubt(overlap=0.75, area_cm2=2.0, share=0.0),
    # No smallest_ml: a small animal's heart has less, and islands are removed however large they are.
)

KIDNEY = Code("SCT", "64033007", "Kidney")
LEFT = Code("SCT", "7771000", "Left")
RIGHT = Code("SCT", "24028007", "Right")

ABDOMEN = Task(
    name="abdomen",
    title="Abdomen",
    modality="CT",
    images="a CT of the abdomen",
    pairs=((3, 4),),
    plane="axial",
    grey_window=(-125.0, 275.0),
    sides=((7, 5), (3, 4)),
    doubt=Doubt(overlap=0.88, area_cm2=2.0, share=0.2),
    smallest_ml=0.5,  # a fifth of the smallest gallbladder below
    segments=(
        # Volumes and places: the 18 training cases of BTCV.
        Segment(
            1,
            "Aorta",
            "Aorta",
            Code("SCT", "15825003", "Aorta"),
            (255, 0, 29),
            (224, 97, 76),
            place=(-9.0, -16.0, 51.0),
            runs_on=True,
        ),
        Segment(
            2,
            "Gallbladder",
            "GB",
            Code("SCT", "28231008", "Gallbladder"),
            (119, 219, 14),
            (139, 150, 98),
            seen_ml=(2.4, 80.5),
            place=(74.0, 42.0, -8.0),
            absence="a cholecystectomy",
        ),
        Segment(
            3,
            "Left kidney",
            "KL",
            KIDNEY,
            (80, 120, 255),
            (185, 102, 83),
            LEFT,
            seen_ml=(78.7, 251.1),
            place=(-70.0, -37.0, -33.0),
            absence="a nephrectomy",
        ),
        Segment(
            4,
            "Right kidney",
            "KR",
            KIDNEY,
            (0, 220, 255),
            (185, 102, 83),
            RIGHT,
            seen_ml=(79.7, 258.4),
            place=(74.0, -36.0, -37.0),
            absence="a nephrectomy",
        ),
        Segment(
            5,
            "Liver",
            "Liver",
            Code("SCT", "10200004", "Liver"),
            (158, 126, 93),
            (221, 130, 101),
            seen_ml=(1029.8, 2555.8),
            place=(70.0, 16.0, 31.0),
        ),
        Segment(
            6,
            "Pancreas",
            "PC",
            Code("SCT", "15776009", "Pancreas"),
            (253, 238, 165),
            (249, 180, 111),
            seen_ml=(40.8, 114.9),
            place=(-9.0, 21.0, -9.0),
        ),
        Segment(
            7,
            "Spleen",
            "SP",
            Code("SCT", "78961009", "Spleen"),
            (162, 103, 163),
            (157, 108, 162),
            seen_ml=(63.1, 3076.8),
            place=(-97.0, -40.0, 29.0),
            absence="a splenectomy",
        ),
        Segment(
            8,
            "Stomach",
            "SM",
            Code("SCT", "69695003", "Stomach"),
            (226, 164, 136),
            (216, 132, 105),
            seen_ml=(154.5, 990.3),
            place=(-42.0, 35.0, 26.0),
        ),
    ),
)

TASKS = {task.name: task for task in (HEART, ABDOMEN)}


def get_task(name: str) -> Task:
    """The task of that name; an InputError that names the known ones otherwise."""
    try:
        return TASKS[name]
    except KeyError:
        known = ", ".join(TASKS)
        raise InputError(f"There is no task '{name}'; the tasks are: {known}.") from None
