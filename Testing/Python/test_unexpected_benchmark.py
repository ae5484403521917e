"""Unusual images that are made of usual ones, and how it is counted what a map tells of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dinsegment.phantom.generators import phantoms_of
from dinsegment.tasks import ABDOMEN, HEART
from unexpected import Image, count, limit, made

SMALL = {
    HEART.name: {"slices": 6, "size": [96, 104], "spacing": [10.0, 2.0, 2.0]},
    ABDOMEN.name: {"slices": 50, "size": [128, 128], "spacing": [6.0, 3.0, 3.0]},
}


@pytest.fixture(scope="module", params=(HEART, ABDOMEN), ids=lambda task: task.name)
def usual(request):
    task = request.param
    phantom = replace(task.phantom, options=SMALL[task.name])
    return phantoms_of(replace(task, phantom=phantom))[0], task


def test_what_is_made_is_unusual_in_its_way(usual):
    phantom, task = usual
    volume, labels = phantom.volume, phantom.labels
    unusual = dict(made(volume, labels, task))
    assert set(unusual) == {"noise", "ghost", "metal"} | ({"tumour"} if task is ABDOMEN else set())
    grey = volume.array.astype(np.float32)
    low, high = task.grey_window or (grey.min(), np.percentile(grey, 99.5))
    changed = {name: np.abs(one.array - grey) for name, one in unusual.items()}
    assert all(one.shape == volume.shape for one in unusual.values())
    assert np.std(unusual["noise"].array - grey) == pytest.approx(0.15 * (high - low), rel=0.05)
    slices = np.flatnonzero(changed["metal"].max((1, 2)) > 0)
    assert len(slices) == 3 and changed["metal"].max() > 0.5 * (high - low)
    if task is ABDOMEN:
        ball = changed["tumour"] > 0
        ml = ball.sum() * volume.voxel_volume_ml
        assert np.unique(changed["tumour"][ball]) == pytest.approx([70.0]) and 10 < ml < 16
        inside = labels[ball]
        assert (inside == np.bincount(labels[labels > 0]).argmax()).mean() > 0.8


def images(usual, noise):
    """Of names that fall into both halves."""
    of_usual = [Image(f"patient{n:03d}_frame01", "usual", (), value, value) for n, value in enumerate(usual)]
    return of_usual + [Image(f"patient{n:03d}_frame01", "noise", said, v, v) for n, (v, said) in enumerate(noise)]


def test_a_limit_lies_beyond_the_most_extreme_usual_image():
    assert limit(images([0.1, 0.2, 0.4], [(9.0, ())]), "mean") == pytest.approx(0.4 + 0.15 * 0.2)


def test_what_it_alone_tells_is_counted(capsys):
    assert Image("a", "usual", (), 0.1, 0.3, 0.4).relative == pytest.approx(0.25)
    own = images([0.1, 0.3, 0.2], [(0.5, ()), (0.5, ("no heart",)), (0.1, ("no heart",)), (0.1, ())])
    count("x", [*own, Image("empty", "noise", ("nothing",))], {"mean": 0.25, "least": 0.6})
    said = capsys.readouterr().out
    assert "usual: 3, told by the checks 0, by the map 1, by it alone 1" in said
    assert "noise: 5, told by the checks 3, by the map 2, by it alone 1" in said


def test_frames_and_what_is_made_of_them_lie_in_the_half_of_their_patient():
    halves = {Image(f"patient012_frame{n:02d}", group).half for n in (1, 13) for group in ("usual", "noise")}
    assert len(halves) == 1
    assert {Image(f"patient{n:03d}_frame01", "usual").half for n in range(20)} == {0, 1}
