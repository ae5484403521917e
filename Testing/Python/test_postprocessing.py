"""What is kept of the labels after the network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dinsegment.images.pieces import largest_component
from dinsegment.images.slices import SliceStack
from dinsegment.inference.postprocessing import APART_MM, keep_large_pieces, keep_one_organ, postprocess, tell_sides
from dinsegment.tasks import ABDOMEN, HEART


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


# --- organs that are one piece each, or a few large ones ------------------------------------------


def test_each_segment_keeps_its_large_pieces():
    labels = np.zeros((3, 10, 12), np.uint8)
    labels[:, 1:5, 1:5] = 5
    labels[:, 1:3, 5:8] = 7  # touches 5, which does not make them one
    labels[0:2, 5:7, 9:11] = 7  # 8 voxels, beside 18
    expected = labels.copy()
    labels[0, 8, 1:4] = 5
    labels[2, 8, 8:11] = 7
    labels[1, 8, 5] = 2  # the only piece of its segment
    expected[1, 8, 5] = 2
    before = labels.copy()
    kept = keep_large_pieces(labels)
    np.testing.assert_array_equal(kept, expected)
    np.testing.assert_array_equal(labels, before)
    assert kept.dtype == np.uint8


def test_of_a_vessel_that_is_lost_here_and_there_smaller_pieces_stay():
    """The aorta is a tube: 18 of 154 voxels go on with it, 2 are a mistake; of another organ both go."""
    labels = np.zeros((24, 8, 8), np.uint8)
    labels[:17, 2:5, 2:5] = 1
    labels[20:22, 2:5, 2:5] = 1
    labels[20:22, 7, 7] = 1
    labels[20, 2:4, 7] = 3
    labels[0:10, 7, 7] = 3
    stack = SliceStack(labels, (5.0, 5.0), 0, 5.0)
    kept = postprocess(labels, replace(ABDOMEN, pairs=(), smallest_ml=0.0), stack)
    assert kept[20, 3, 3] == 1 and kept[20, 7, 7] == 0
    assert kept[20, 2, 7] == 0 and kept[5, 7, 7] == 3
    other = np.where(labels == 1, 7, labels).astype(np.uint8)
    assert postprocess(other, replace(ABDOMEN, pairs=(), smallest_ml=0.0), stack)[20, 3, 3] == 0


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.integers(1, 7)] * 3), st.floats(0, 0.9), st.integers(0, 2**32 - 1))
def test_large_pieces_are_those_of_each_segment_alone(shape, share, seed):
    random = np.random.default_rng(seed)
    labels = (random.integers(1, 5, shape) * (random.random(shape) < share)).astype(np.uint8)
    kept = keep_large_pieces(labels)
    for label in range(1, 5):
        found = pieces(labels == label)
        largest = max(map(len, found), default=0)
        expected = np.zeros(shape, bool)
        for piece in found:
            for voxel in piece:
                expected[voxel] = len(piece) >= 0.25 * largest
        np.testing.assert_array_equal(kept == label, expected)


# --- what is too small for an organ ---------------------------------------------------------------


def box_of(size, at, shape=(12, 14, 16), label=2):
    labels = np.zeros(shape, np.uint8)
    labels[tuple(slice(a, a + n) for a, n in zip(at, size, strict=True))] = label
    return labels


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(*[st.integers(1, 5)] * 3), st.tuples(*[st.floats(0.4, 6.0)] * 3), st.floats(0.05, 2.0), st.integers(1, 6)
)
def test_a_segment_inside_the_image_stays_from_a_volume_in_millilitres_on(size, spacing, smallest_ml, first):
    labels = box_of(size, (first, 2, 3)) + box_of((3, 3, 3), (1, 8, 9), label=5)
    ml = float(np.prod(size) * np.prod(spacing)) / 1000
    assume(abs(ml - smallest_ml) > 1e-6)
    kept = keep_large_pieces(labels, spacing, smallest_ml)
    np.testing.assert_array_equal(kept == 2, labels == 2 if ml >= smallest_ml else np.zeros(labels.shape, bool))
    assert (kept == 5).any() == (27 * np.prod(spacing) / 1000 >= smallest_ml)  # each segment on its own


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("end", [0, -1])
def test_what_the_edge_cuts_stays_however_little_of_it_there_is(axis, end):
    spacing = np.insert((5.0, 5.0), axis, 0.5)  # a square centimetre of 2 by 2 voxels at the edge has 0.05 ml
    outermost = (12, 14, 16)[axis] - 1 if end else 0

    def cut(width):
        return box_of(np.insert((2, width), axis, 1), np.insert((4, 4), axis, outermost))

    whole = cut(2)
    np.testing.assert_array_equal(keep_large_pieces(whole, tuple(spacing), 0.5), whole)
    assert not keep_large_pieces(cut(1), tuple(spacing), 0.5).any()  # half a square centimetre is no matter
    inside = np.roll(whole, 3 if end == 0 else -3, axis)
    assert inside.any() and not keep_large_pieces(inside, tuple(spacing), 0.5).any()


def test_pieces_that_are_removed_do_not_count():
    labels = box_of((3, 3, 3), (1, 1, 1)) + box_of((1, 2, 3), (8, 8, 8))  # 27 voxels and 6, less than a quarter
    assert (keep_large_pieces(labels, (1.0, 1.0, 1.0), 0.027) == 2).sum() == 27
    assert not keep_large_pieces(labels, (1.0, 1.0, 1.0), 0.030).any()


# --- left and right -------------------------------------------------------------------------------

LEFT, RIGHT, OTHER = 3, 4, 5
X_SPACING = 2.0
AT_RIGHT, AT_LEFT = slice(20, 36), slice(80, 96)  # columns, from the patient's right to the left: 120 mm apart


def abdomen(*organs):
    """Labels of axial slices (8, 24, 120): each organ is (columns, label), or (columns, label, slices)."""
    labels = np.zeros((8, 24, 120), np.uint8)
    labels[:, 2:6, 10:110] = OTHER
    for columns, label, *slices in organs:
        labels[slices[0] if slices else slice(1, 7), 10:18, columns] = label
    return labels


def told(labels, pair=(LEFT, RIGHT), x_spacing=X_SPACING):
    before = labels.copy()
    result = tell_sides(labels, pair, x_spacing)
    np.testing.assert_array_equal(labels, before)  # the input is as it was
    assert result.dtype == labels.dtype
    return result


def test_sides_that_are_right_stay():
    labels = abdomen((AT_RIGHT, RIGHT), (AT_LEFT, LEFT))
    np.testing.assert_array_equal(told(labels), labels)


def test_one_kidney_with_both_labels_becomes_what_most_of_it_is():
    mixed = abdomen((AT_RIGHT, RIGHT), (AT_LEFT, LEFT), (slice(80, 85), RIGHT))
    np.testing.assert_array_equal(told(mixed), abdomen((AT_RIGHT, RIGHT), (AT_LEFT, LEFT)))
    across_slices = abdomen((AT_RIGHT, RIGHT), (AT_RIGHT, LEFT, slice(1, 3)))
    np.testing.assert_array_equal(told(across_slices), abdomen((AT_RIGHT, RIGHT)))


def test_two_kidneys_with_the_same_label_are_told_apart_by_where_they_lie():
    for same in (LEFT, RIGHT):
        labels = abdomen((AT_RIGHT, same), (AT_LEFT, same))
        np.testing.assert_array_equal(told(labels), abdomen((AT_RIGHT, RIGHT), (AT_LEFT, LEFT)))
    # Also where one of them was labelled as both, and most of it is wrong.
    labels = abdomen((AT_RIGHT, LEFT), (slice(20, 24), RIGHT), (AT_LEFT, LEFT))
    np.testing.assert_array_equal(told(labels), abdomen((AT_RIGHT, RIGHT), (AT_LEFT, LEFT)))


def test_a_horseshoe_kidney_stays_as_it_is():
    labels = abdomen((slice(20, 58), RIGHT), (slice(58, 96), LEFT))
    np.testing.assert_array_equal(told(labels), labels)


def test_a_single_kidney_is_what_it_was_called():
    for columns in (AT_RIGHT, AT_LEFT):
        for label in (LEFT, RIGHT):
            labels = abdomen((columns, label))
            np.testing.assert_array_equal(told(labels), labels)


def test_two_pieces_of_one_kidney_are_one_side():
    """A cyst or a gap of the labels parts a kidney into two, one above the other."""
    labels = abdomen((AT_LEFT, LEFT, slice(0, 3)), (AT_LEFT, LEFT, slice(5, 8)))
    np.testing.assert_array_equal(told(labels), labels)


def test_how_far_two_kidneys_lie_apart_is_in_millimetres():
    labels = abdomen((AT_RIGHT, LEFT), (AT_LEFT, LEFT))  # 60 columns from middle to middle
    for spacing, apart in ((0.9 * APART_MM / 60, False), (1.1 * APART_MM / 60, True)):
        assert (RIGHT in told(labels, x_spacing=spacing)) == apart


def test_islands_tell_nothing_about_sides():
    labels = abdomen((AT_RIGHT, RIGHT), (slice(90, 92), RIGHT, slice(2, 3)), (slice(100, 102), LEFT, slice(2, 3)))
    np.testing.assert_array_equal(told(labels), labels)


def test_the_order_of_the_labels_makes_no_difference():
    labels = abdomen((AT_RIGHT, LEFT), (AT_LEFT, LEFT), (slice(80, 83), RIGHT))
    swapped = np.array([0, 1, 2, RIGHT, LEFT, 5], np.uint8)[labels]
    expected = np.array([0, 1, 2, RIGHT, LEFT, 5], np.uint8)[told(labels)]
    np.testing.assert_array_equal(told(swapped, pair=(RIGHT, LEFT)), expected)


def test_a_mirrored_patient_has_mirrored_sides():
    for organs in (
        [(AT_RIGHT, LEFT), (AT_LEFT, LEFT)],
        [(AT_RIGHT, RIGHT), (AT_LEFT, LEFT), (slice(80, 83), RIGHT)],
        [(slice(20, 58), RIGHT), (slice(58, 96), LEFT)],
    ):
        labels = abdomen(*organs)
        mirrored = told(np.ascontiguousarray(labels[:, :, ::-1]), pair=(RIGHT, LEFT))
        np.testing.assert_array_equal(mirrored[:, :, ::-1], told(labels))
        upside_down = told(np.ascontiguousarray(labels[::-1, ::-1]))
        np.testing.assert_array_equal(upside_down[::-1, ::-1], told(labels))


def test_without_the_pair_nothing_happens():
    labels = abdomen()
    np.testing.assert_array_equal(told(labels), labels)
    assert not told(np.zeros((2, 3, 4), np.uint8)).any()


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 60)), st.floats(0, 0.6), st.integers(0, 2**32 - 1)
)
def test_telling_sides_only_exchanges_the_pair_and_is_done_once(shape, share, seed):
    random = np.random.default_rng(seed)
    labels = (random.integers(1, 6, shape) * (random.random(shape) < share)).astype(np.uint8)
    result = told(labels)
    pair = np.isin(labels, (LEFT, RIGHT))
    np.testing.assert_array_equal(np.isin(result, (LEFT, RIGHT)), pair)
    np.testing.assert_array_equal(result[~pair], labels[~pair])
    np.testing.assert_array_equal(told(result), result)


# --- what a task says -----------------------------------------------------------------------------


def test_a_heart_is_one_organ():
    labels = np.zeros((4, 8, 8), np.uint8)
    labels[1:3, 2:5, 2], labels[1:3, 2:5, 3], labels[0, 7, 7] = 1, 2, 1
    kept = postprocess(labels, HEART, SliceStack(np.zeros(labels.shape, np.float32), (1.4, 1.4), 0, 8.0))
    np.testing.assert_array_equal(kept, keep_one_organ(labels))
    assert not kept[0].any() and set(np.unique(kept)) == {0, 1, 2}


def test_an_abdomen_has_its_kidneys_on_their_sides_and_no_islands():
    assert ABDOMEN.pairs == ((LEFT, RIGHT),)
    labels = abdomen((AT_RIGHT, LEFT), (AT_LEFT, LEFT), (slice(80, 84), RIGHT), (slice(100, 102), RIGHT, slice(0, 1)))
    labels[7, 22:, :3] = OTHER
    stack = SliceStack(np.zeros(labels.shape, np.float32), (3.0, X_SPACING), 0, 5.0)
    expected = abdomen((AT_RIGHT, RIGHT), (AT_LEFT, LEFT))
    np.testing.assert_array_equal(postprocess(labels, ABDOMEN, stack), expected)
    # It is the columns' spacing that counts.
    narrow = SliceStack(np.zeros(labels.shape, np.float32), (3.0, 0.5), 0, 5.0)
    assert not (postprocess(labels, ABDOMEN, narrow)[:, :, AT_RIGHT] == RIGHT).any()


def test_an_abdomen_has_no_organ_of_a_few_voxels():
    labels = abdomen((AT_RIGHT, RIGHT), (AT_LEFT, LEFT))
    labels[2:4, 20:22, 50:55] = 2  # 20 voxels: 0.4 ml at 20 mm3 each
    spacing = (2.0, X_SPACING)
    for slice_spacing, found in ((5.0, False), (7.0, True)):
        stack = SliceStack(np.zeros(labels.shape, np.float32), spacing, 0, slice_spacing)
        kept = postprocess(labels, ABDOMEN, stack)
        assert (kept == 2).any() == found
        np.testing.assert_array_equal(kept[labels != 2], labels[labels != 2])


def test_hearts_of_any_size_stay():
    """A mouse's ventricles have a few hundredths of a millilitre."""
    labels = np.zeros((3, 12, 12), np.uint8)
    labels[1, 4:8, 4:6], labels[1, 4:8, 6:7], labels[1, 4:8, 7:9] = 1, 2, 3
    stack = SliceStack(np.zeros(labels.shape, np.float32), (0.2, 0.2), 0, 1.0)
    np.testing.assert_array_equal(postprocess(labels, HEART, stack), labels)
