"""Where to correct first: the volume that is to be expected to be wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dinsegment.images.segmentation import Finding
from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import Volume
from dinsegment.inference.confidence import Evidence
from dinsegment.inference.view import View
from dinsegment.quality.first import correct_first, with_volumes
from dinsegment.quality.unsure import Confidence
from dinsegment.tasks import HEART

VOLUME = Volume(np.zeros((4, 8, 8), np.float32), np.diag([10.0, 10.0, 10.0, 1.0]), "image")
"""Voxels of 1 ml."""


def test_what_is_probable_outside_and_improbable_inside_counts():
    stack = SliceStack.of(VOLUME)
    view = View(stack, stack.middle_mm, (8, 8), 10.0)
    evidence = Evidence(view)
    labels = np.zeros((4, 8, 8), np.uint8)
    labels[1, 2:4, 2:4] = 3  # four voxels
    probabilities = torch.zeros(4, 3, 8, 8)
    probabilities[1, 2, 2:4, 2:4] = 0.75
    probabilities[1, 2, 5, :6] = 0.25
    for _ in evidence.labels(probabilities, given=dict(enumerate(labels))):
        pass
    confidence = evidence.confidence(labels, VOLUME, HEART)
    expected = np.zeros((4, 3))
    expected[1, 2] = 4 * 0.25 + 6 * 0.25
    np.testing.assert_allclose(confidence.wrong_ml, expected, atol=1e-6)
    (first,) = correct_first(confidence, VOLUME, 0)
    assert (first.slice, first.segment) == (1, 3)
    assert first.ml == pytest.approx(2.5)
    assert first.to_dict()["ras"] == pytest.approx(list(first.place))


def confidence(wrong):
    """Slices of the network's grid lie half as far apart as those of the image."""
    wrong = np.array(wrong, float)
    place = np.zeros((*wrong.shape, 3))
    place[..., 2] = (np.arange(len(wrong)) * 5.0 + 1.0)[:, None]
    return Confidence(np.ones(wrong.shape), np.ones(wrong.shape), place, wrong_ml=wrong)


def test_the_most_comes_first_and_slices_between_are_taken_together():
    found = correct_first(confidence([[0, 0, 2], [0, 1, 3], [4, 0, 0], [0, 0, 0], [0, 0, 0.5]]), VOLUME, 0)
    # At 1, 6, 11 and 21 mm: the slices 0, 1, 1 and 2.
    assert [(one.slice, one.segment, one.ml) for one in found] == [
        (1, 1, 4.0), (1, 3, 3.0), (0, 3, 2.0), (1, 2, 1.0), (2, 3, 0.5)
    ]  # fmt: skip
    assert len(correct_first(confidence(np.ones((8, 3))), VOLUME, 0, most=4)) == 4
    assert correct_first(None, VOLUME, 0) == ()
    assert correct_first(replace(confidence([[1.0, 1, 1]]), wrong_ml=None), VOLUME, 0) == ()


def test_findings_say_what_a_correction_would_change():
    said = confidence([[0, 0, 2], [0, 1, 0], [4, 0, 3], [0, 0, 0], [0, 0, 0.5]])
    found = with_volumes(
        [
            Finding("all of the left ventricle", segment=3),
            Finding("in slice 1", segment=3, slices=(1,)),
            Finding("the image"),
        ],
        said, VOLUME, 0,
    )  # fmt: skip
    assert [one.ml for one in found] == pytest.approx([5.5, 2.0, 0.0])
    assert found[0].to_dict(VOLUME, HEART.plane)["ml"] == 5.5
