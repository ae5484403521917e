"""What nodes will hold, made bit by bit: equal to the whole, and in bits that a window does not notice."""

from __future__ import annotations

import mrml
import numpy as np
import pytest
from vtk.util.numpy_support import vtk_to_numpy

from dinsegment.images.fingerprint import EMPTY, fingerprints
from dinsegment.tasks import ABDOMEN
from dinsegment_slicer.scene import content
from dinsegment_slicer.scene.changes import made
from dinsegment_slicer.scene.content import grey_image, label_content


def some_labels(shape=(12, 20, 30)):
    labels = np.zeros(shape, np.uint8)
    labels[3:9, 4:12, 6:20] = 5
    labels[2:4, 10:18, 20:25] = 8
    labels[7, 6, 21] = 1
    return labels


def array_of(image):
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])


@pytest.fixture
def small_bits(monkeypatch):
    monkeypatch.setattr(content, "VOXELS_AT_ONCE", 1300)


@pytest.mark.usefixtures("small_bits")
def test_an_image_made_in_bits_is_the_whole():
    array = np.random.default_rng(1).normal(size=(12, 20, 30)).astype(np.float32)
    assert sum(1 for _ in grey_image(array)) == 6
    np.testing.assert_array_equal(array_of(made(grey_image(array))), array)


@pytest.mark.usefixtures("small_bits")
def test_labels_are_cut_to_what_is_labelled_and_lie_where_they_did():
    labels = some_labels()
    assert sum(1 for _ in label_content(labels, ABDOMEN.segments, mrml.OBLIQUE)) > 6
    cut = made(label_content(labels, ABDOMEN.segments, mrml.OBLIQUE))
    i0, i1, j0, j1, k0, k1 = cut.image.GetExtent()
    assert (k0, k1, j0, j1, i0, i1) == (2, 8, 4, 17, 6, 24)
    np.testing.assert_array_equal(array_of(cut.image), labels[k0 : k1 + 1, j0 : j1 + 1, i0 : i1 + 1])
    assert cut.present == {1, 5, 8}


def test_the_fingerprints_are_those_of_the_whole_labelmap():
    labels = some_labels()
    values = [segment.label for segment in ABDOMEN.segments]
    found = made(label_content(labels, ABDOMEN.segments, mrml.OBLIQUE)).fingerprints
    assert found == fingerprints(labels, values, mrml.OBLIQUE)


def test_without_any_label_there_is_nothing():
    cut = made(label_content(np.zeros((3, 4, 5), np.uint8), ABDOMEN.segments, np.eye(4)))
    assert cut.present == frozenset() and set(cut.fingerprints.values()) == {EMPTY}


@pytest.mark.usefixtures("small_bits")
def test_labels_that_are_not_asked_for_are_left_out():
    labels = some_labels()
    wanted = [segment for segment in ABDOMEN.segments if segment.label in (1, 2, 5)]
    cut = made(label_content(labels, wanted, mrml.OBLIQUE))
    i0, i1, j0, j1, k0, k1 = cut.image.GetExtent()
    expected = np.where(labels == 8, 0, labels)
    assert (k0, k1, j0, j1, i0, i1) == (3, 8, 4, 11, 6, 21)
    np.testing.assert_array_equal(array_of(cut.image), expected[k0 : k1 + 1, j0 : j1 + 1, i0 : i1 + 1])
    assert cut.present == {1, 5}
    assert cut.fingerprints == fingerprints(expected, [1, 2, 5], mrml.OBLIQUE)
