"""What is kept of the labels after the network."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dinsegment.postprocessing import keep_one_organ, largest_component


def flood(mask, start):
    """Voxels that hang together with one, over faces, edges and corners."""
    seen, todo = {start}, [start]
    while todo:
        voxel = todo.pop()
        for step in np.ndindex(3, 3, 3):
            near = tuple(int(v + s - 1) for v, s in zip(voxel, step, strict=True))
            inside = all(0 <= v < n for v, n in zip(near, mask.shape, strict=True))
            if inside and mask[near] and near not in seen:
                seen.add(near)
                todo.append(near)
    return seen


def pieces(mask):
    """All components, in the order of their first voxels."""
    found, known = [], set()
    for voxel in map(tuple, np.argwhere(mask).tolist()):
        if voxel not in known:
            found.append(flood(mask, voxel))
            known |= found[-1]
    return found


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.integers(1, 6)] * 3), st.floats(0, 0.5), st.integers(0, 2**32 - 1))
def test_largest_component_is_that_of_a_flood_fill(shape, share, seed):
    mask = np.random.default_rng(seed).random(shape) < share
    before = mask.copy()
    expected = np.zeros(shape, bool)
    for voxel in max(pieces(mask), key=len, default=()):  # max takes the first of equals
        expected[voxel] = True
    np.testing.assert_array_equal(largest_component(mask), expected)
    np.testing.assert_array_equal(mask, before)


def test_voxels_that_touch_at_a_corner_hang_together():
    mask = np.zeros((2, 2, 2), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert largest_component(mask).sum() == 2


def test_one_organ_keeps_all_its_segments_and_no_island():
    labels = np.zeros((4, 8, 8), np.uint8)
    labels[1:3, 2:5, 2] = 1  # touches 2, which touches 3: one organ of 18 voxels
    labels[1:3, 2:5, 3] = 2
    labels[1:3, 2:5, 4] = 3
    organ = labels.copy()
    labels[0:2, 0:5, 7] = 3  # an island larger than any one segment, smaller than the organ
    labels[3, 7, 0] = 1
    kept = keep_one_organ(labels)
    np.testing.assert_array_equal(kept, organ)
    assert kept.dtype == np.uint8
    assert labels[3, 7, 0] == 1  # the input is as it was


def test_nothing_found_stays_nothing():
    assert not keep_one_organ(np.zeros((2, 3, 3), np.uint8)).any()
    assert not largest_component(np.zeros((2, 3, 3), bool)).any()
