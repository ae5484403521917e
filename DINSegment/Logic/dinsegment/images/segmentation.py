"""Segmentation: what a run gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dinsegment.images.samples import Samples
from dinsegment.images.slices import Plane, slice_axis
from dinsegment.images.volume import Volume, slice_number
from dinsegment.tasks import Task

OTHER_IMAGE = "other image"
"""Kind of the finding that an image is not of the kind that the network is made for."""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Labels on exactly the grid of the image they were made from.

    Attributes:
        volume: The image that was segmented.
        labels: Labelmap (k, j, i), uint8, the shape of `volume.array`; 0 is background, the rest as in `task`.
        task: What the labels mean.
        model: Name of the model in weights.json.
        enhanced: The fuzzy-enhanced image on the same grid, in the grey range of `volume`.
        device: Where it was computed: `cpu`, `cuda`, `cuda:1`, `mps`.
        seconds: Wall-clock time of the computation, reading and writing files not included.
        warnings: Sentences for the user: those of the findings, then what else there is to say.
        findings: What looks wrong with the image or the labels, the most important first.
        samples: What it could have been; None where nobody has asked.
        first: Where to correct first, the most volume that is to be expected to be wrong first.
        corrected: Slices that a person has corrected, counted from 0 along the image's slice axis.
        made: The labels as the network made them before a person corrected any, of the shape of `labels`; None where
            nobody has, or they are not known any more.
        changed: Labels of the segments that a person has changed, where `made` does not tell.
        unexpected: What a network did not expect, (k, j, i) float32, 0 where it did or did not look; None where nobody
            has asked.
    """

    volume: Volume
    labels: np.ndarray
    task: Task
    model: str
    enhanced: Volume
    device: str
    seconds: float
    warnings: tuple[str, ...] = field(default=())
    findings: tuple[Finding, ...] = field(default=())
    samples: Samples | None = field(default=None)
    first: tuple[ToCorrect, ...] = field(default=())
    corrected: tuple[int, ...] = field(default=())
    made: np.ndarray | None = field(default=None, repr=False)
    changed: frozenset[int] = field(default=frozenset())
    unexpected: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.labels.shape != self.volume.shape:
            raise ValueError(f"Labels of shape {self.labels.shape} do not fit the grid {self.volume.shape}.")
        if self.labels.dtype != np.uint8:
            raise ValueError(f"Labels are uint8, not {self.labels.dtype}.")
        if int(self.labels.max()) >= self.task.classes:
            raise ValueError(f"The task '{self.task.name}' has no label {int(self.labels.max())}.")
        if self.made is not None and self.made.shape != self.labels.shape:
            raise ValueError(f"Labels of shape {self.labels.shape} were not made of those of shape {self.made.shape}.")

    def algorithm_type(self, label: int) -> str:
        """How a segment came about (DICOM PS3.3 C.8.20.4): `SEMIAUTOMATIC` after corrections, or `AUTOMATIC`."""
        return "SEMIAUTOMATIC" if self.is_changed(label) else "AUTOMATIC"

    def is_changed(self, label: int) -> bool:
        """Whether a person has changed a segment."""
        if self.made is None:
            return label in self.changed
        return bool(((self.made == label) != (self.labels == label)).any())


@dataclass(frozen=True)
class Finding:
    """One thing that looks wrong.

    Attributes:
        text: A whole sentence for a clinician: what is wrong, in which slice, and what to do.
        place: What to look at, the centre of the doubtful part in the slice to look at, in mm in RAS; None if it is
            about the whole image.
        segment: Label of what it is about, of the first where there are several; None if it is about the image.
        short: The same in a few words for a list, such as `Spleen, slices 23 to 29: unsure`; empty for none.
        kind: Which rule it comes from, such as `unsure`.
        topic: What is wrong, without slices and what to do, to say it of several phases at once; empty for the text.
        slices: Slices that it is about, counted from 1.
        advice: What to do, where it is not to correct a segment; words that end a sentence.
        ml: Volume that is to be expected to be wrong in what it is about: what a correction there would change; 0 where
            nothing is known.
    """

    text: str
    place: tuple[float, float, float] | None = None
    segment: int | None = None
    short: str = ""
    kind: str = ""
    topic: str = ""
    slices: tuple[int, ...] = ()
    advice: str = ""
    ml: float = 0.0

    def to_dict(self, volume: Volume, plane: Plane) -> dict[str, Any]:
        """A dictionary for JSON with kind, text, short, slice, ras, segment and ml.

        Args:
            volume: The image that the finding is about.
            plane: The plane that its slices are numbered in.
        """
        return {
            "kind": self.kind,
            "text": self.text,
            "short": self.short,
            "slice": None if self.place is None else slice_number(volume, self.place, slice_axis(volume, plane)),
            "ras": None if self.place is None else list(self.place),
            "segment": self.segment,
            "ml": round(self.ml, 3),
        }


@dataclass(frozen=True)
class ToCorrect:
    """A segment in a slice that is worth a correction.

    Attributes:
        slice: Counted from 0 along the image's slice axis.
        segment: Its label.
        ml: Volume that is to be expected to be wrong there.
        place: Centre of what is doubtful, in mm in RAS.
    """

    slice: int
    segment: int
    ml: float
    place: tuple[float, float, float]

    def to_dict(self) -> dict[str, Any]:
        """A dictionary for JSON with slice, segment, ml and ras."""
        return {"slice": self.slice, "segment": self.segment, "ml": round(self.ml, 3), "ras": list(self.place)}
