"""How sure the network is of its own labels, from the probabilities that it has given anyway."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from dinsegment.images.volume import Volume, ras_of
from dinsegment.inference.calibration import calibrated
from dinsegment.inference.view import View
from dinsegment.quality.estimator import Estimator
from dinsegment.quality.unsure import Confidence
from dinsegment.tasks import Task

MIN_AREA_CM2 = 0.5
"""A smaller cross-section tells nothing: Dice of a few pixels is low, however sure the network is."""


class Evidence:
    """What is kept of the probabilities, slice after slice, so that they need not be held themselves.

    That is the sums over each slice, and the probabilities where something was labelled, a few hundredths of a CT.
    Labels may still be changed or removed afterwards, but no pixel may be labelled that was background.

    Args:
        view: Where the network looked.
        temperature: At which the model's probabilities come true.
    """

    def __init__(self, view: View, temperature: float = 1.0) -> None:
        self._view, self._stack, self._places = view, view.stack, view.places
        self._temperature = temperature
        shape = self._stack.array.shape
        self._nearest = [np.clip(np.round(p).astype(int), 0, n - 1) for p, n in zip(self._places, shape, strict=True)]
        inside = [(p > -0.5) & (p < n - 0.5) for p, n in zip(self._places[1:], shape[1:], strict=True)]
        self._in_image = inside[0][:, None] & inside[1]
        self._coming: deque[np.ndarray] = deque()
        self._slices: list[_SliceEvidence] = []

    def labels(
        self,
        probabilities: Iterable[Tensor],
        shown: Iterable[Tensor] | None = None,
        given: Mapping[int, np.ndarray] | None = None,
    ) -> Iterator[np.ndarray]:
        """Labels (y, x) uint8 of one slice of the stack after the other, whose evidence is kept.

        Args:
            probabilities: Of the segments (segments, rows, columns), of one slice of the view after the other.
            shown: Those that labels are decided on instead, of the same slices; None for the same.
            given: Labels (y, x), by slice of the stack, that count instead of what is decided.
        """
        seen = self._see(probabilities)
        if shown is not None:
            seen = (instead for _, instead in zip(seen, shown, strict=True))
        for k, decided in enumerate(self._view.labels_back(seen)):
            labels = decided if given is None else given.get(k, decided)
            self._labelled(k, labels)
            yield labels

    def _see(self, probabilities: Iterable[Tensor]) -> Iterator[Tensor]:
        for one in probabilities:
            self._coming.append(one.numpy())
            yield one

    def _labelled(self, k: int, labels: np.ndarray) -> None:
        """Takes the labels (y, x) of slice k of the stack, each once, in their order.

        The slices of the network's grid that are nearest to it have been seen by then: they blend into it.
        """
        while len(self._slices) < len(self._nearest[0]) and self._nearest[0][len(self._slices)] == k:
            raw = self._coming.popleft()
            where = np.flatnonzero(self._on_grid(labels))
            true = calibrated(raw, self._temperature)
            over_columns = true.sum(2)
            sums = np.stack((over_columns.sum(1), over_columns @ self._places[1], true.sum(1) @ self._places[2]), 1)
            totals = raw.sum((1, 2))
            raw, true = (p.reshape(len(p), -1)[:, where] for p in (raw, true))
            self._slices.append(_SliceEvidence(sums, where, true, totals, raw))

    def confidence(
        self, labels: np.ndarray, volume: Volume, task: Task, estimator: Estimator | None = None
    ) -> Confidence:
        """How sure the network is of the labels in the end.

        Args:
            labels: (slices, y, x) on the stack's grid.
            volume: The image that the stack is of.
            task: What they are.
            estimator: What tells how likely they are to be corrected; None where the model has none.
        """
        count, segments = len(self._slices), len(self._slices[0].sums)
        overlap, area = np.ones((count, segments)), np.zeros((count, segments))
        doubtful, wrong = np.zeros((count, segments, 3)), np.zeros((count, segments))
        said, said_area = np.ones((count, segments)), np.zeros((count, segments))
        pixel = self._view.spacing**2 / 100
        height_cm = (self._view.slice_spacing or self._stack.slice_spacing) / 10
        on_grid = np.zeros((count, *self._view.size), np.uint8) if estimator else None
        for n, one in enumerate(self._slices):
            of_slice = self._on_grid(labels[self._nearest[0][n]])
            here = of_slice.ravel()[one.where]
            if on_grid is not None:
                on_grid[n] = of_slice
            for index in range(segments):
                mask = here == index + 1
                expected = float(one.sums[index, 0])
                labelled = int(mask.sum())
                said_area[n, index] = max(labelled, one.totals[index]) * pixel
                if said_area[n, index] >= MIN_AREA_CM2:
                    inside = float(one.raw[index, mask].sum(dtype=float))
                    said[n, index] = 2 * inside / (labelled + float(one.totals[index]))
                area[n, index] = max(labelled, expected) * pixel
                if area[n, index] < MIN_AREA_CM2:
                    continue
                p = one.true[index, mask].astype(float)
                overlap[n, index] = 2 * float(p.sum()) / (labelled + expected)
                rows, columns = np.divmod(one.where[mask], self._view.size[1])
                # In doubt is p outside of the label, and 1 - p inside.
                inside = np.stack((np.ones(labelled), self._places[1][rows], self._places[2][columns]), 1)
                doubt, y, x = one.sums[index] + (1 - 2 * p) @ inside
                wrong[n, index] = max(0.0, float(doubt)) * pixel * height_cm
                if doubt > 0:
                    y, x = y / doubt, x / doubt
                    doubtful[n, index] = ras_of(volume, self._stack.volume_index((self._places[0][n], y, x)))
        highest = [one.raw.max(0) for one in self._slices if one.where.size]
        certainty = float(np.concatenate(highest).mean()) if highest else 1.0
        if estimator is None or on_grid is None:
            return Confidence(overlap, area, doubtful, certainty, wrong_ml=wrong, said=said, said_area_cm2=said_area)
        totals = np.stack([one.totals for one in self._slices])
        kept = [(one.where, one.raw) for one in self._slices]
        bad, told = estimator.look(on_grid, said, totals, kept, task, pixel)
        return Confidence(overlap, area, doubtful, certainty, bad, told, wrong, said, said_area)

    def _on_grid(self, labels: np.ndarray) -> np.ndarray:
        """A slice of labels (y, x) where the network looked: (rows, columns) of its grid, 0 outside of the image."""
        return labels[np.ix_(*self._nearest[1:])] * self._in_image


@dataclass(frozen=True, eq=False)
class _SliceEvidence:
    """Of one slice of the network's grid.

    Attributes:
        sums: Of each segment's calibrated probability, and of that times y and x in pixels of the stack, (segments, 3).
        where: Pixels, counted row by row, in which something was labelled.
        true: Calibrated probabilities of the segments in the pixels of `where`, (segments, pixels).
        totals: Sums over the slice of the probabilities as the network gave them, (segments,).
        raw: Probabilities as the network gave them in the pixels of `where`, (segments, pixels).
    """

    sums: np.ndarray
    where: np.ndarray
    true: np.ndarray
    totals: np.ndarray
    raw: np.ndarray
