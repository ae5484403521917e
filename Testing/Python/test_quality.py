"""What looks wrong: healthy results, which raise nothing, and results in which a single thing is wrong."""

from __future__ import annotations

import io
import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from dinsegment.images import read_volume
from dinsegment.images.segmentation import OTHER_IMAGE, Finding, Segmentation
from dinsegment.images.slices import SliceStack, slice_axis
from dinsegment.images.volume import Volume, slice_number
from dinsegment.inference import segment
from dinsegment.inference.confidence import Evidence
from dinsegment.inference.model import load_model
from dinsegment.inference.view import View
from dinsegment.measurements.report import report
from dinsegment.phantom.heart import END_SYSTOLE_PHASE, heart_phantom
from dinsegment.quality.findings import findings
from dinsegment.quality.gather import CHECK, gathered, with_check
from dinsegment.quality.image import image_findings
from dinsegment.quality.unsure import Confidence
from dinsegment.quality.words import phases_text, slices_text
from dinsegment.tasks import ABDOMEN, HEART
from dinsegment.training.cases import find_cases
from dinsegment.worker_compute import Models, run_segment
from dinsegment.worker_exchange import IMAGE, PHASE, Channel

RV, MYO, LV = 1, 2, 3
AORTA, GALLBLADDER, LEFT_KIDNEY, RIGHT_KIDNEY, LIVER, PANCREAS, SPLEEN, STOMACH = range(1, 9)

CT_SPACING = (5.0, 4.0, 4.0)  # k, j, i
CT_SHAPE = (70, 90, 110)


def ct_phantom() -> tuple[Volume, np.ndarray]:
    """Eight ellipsoids of usual volumes in their usual places, with the voxel axes right, anterior, superior in RAS."""
    matrix = np.diag([*CT_SPACING[::-1], 1.0])
    matrix[:3, 3] = [-s * (n - 1) / 2 for s, n in zip(CT_SPACING[::-1], CT_SHAPE[::-1], strict=True)]
    s, a, r = (
        (np.arange(n) - (n - 1) / 2).reshape([-1 if m == axis else 1 for m in range(3)]) * step
        for axis, (n, step) in enumerate(zip(CT_SHAPE, CT_SPACING, strict=True))
    )
    body = (r / 190) ** 2 + (a / 130) ** 2 < 1
    rng = np.random.default_rng(0)
    grey = np.broadcast_to(np.where(body, 40.0, -1000.0), CT_SHAPE) + rng.normal(0, 12, CT_SHAPE)
    fat = np.broadcast_to(body & ((r / 175) ** 2 + (a / 115) ** 2 > 1), CT_SHAPE)
    grey = np.where(fat, -100.0, grey)
    labels = np.zeros(CT_SHAPE, np.uint8)
    labels[np.broadcast_to(np.hypot(r + 5, a + 60) < 11, CT_SHAPE)] = AORTA
    for organ in (LIVER, STOMACH, SPLEEN, LEFT_KIDNEY, RIGHT_KIDNEY, PANCREAS, GALLBLADDER):
        described = ABDOMEN.segments[organ - 1]
        ml = np.sqrt(np.prod(described.seen_ml))
        radius = (3 * ml * 1000 / (4 * np.pi)) ** (1 / 3)
        x, y, z = described.place
        labels[((r - x) ** 2 + (a - y) ** 2 + (s - z) ** 2 < radius**2)] = organ
    return Volume(grey, matrix, name="belly", modality="CT"), labels


@pytest.fixture(scope="module")
def belly():
    return ct_phantom()


@pytest.fixture(scope="module")
def heart():
    phantom = heart_phantom(slices=10)
    return phantom.volume, phantom.labels


@pytest.fixture(scope="module")
def noisy() -> Segmentation:
    """What the network makes of a heart in much noise that says it is CT."""
    volume = heart_phantom(slices=5).volume
    noise = np.random.default_rng(0).normal(0, 350, volume.shape)
    array = np.abs(volume.array + noise)
    return segment(replace(volume, array=array, modality="CT"), HEART, load_model(None, HEART), "cpu")


def only(found, *words: str, segment: int | None = None) -> Finding:
    """The single finding, which has those words."""
    assert len(found) == 1, [f.text for f in found]
    for word in words:
        assert word in found[0].text
    assert found[0].segment == segment
    assert found[0].text.endswith(".")
    return found[0]


def crop(volume: Volume, labels: np.ndarray, *box: slice) -> tuple[Volume, np.ndarray]:
    """A part of an image, in the same place of the patient."""
    matrix = volume.ijk_to_ras.copy()
    matrix[:3, 3] += matrix[:3, 2::-1] @ [b.start or 0 for b in box]
    return replace(volume, array=volume.array[box], ijk_to_ras=matrix), np.ascontiguousarray(labels[box])


def in_slice(volume: Volume, found: Finding, labels: np.ndarray, label: int) -> bool:
    """Whether a finding's place is in the segment and the slice it names is the place's."""
    index = np.linalg.solve(volume.ijk_to_ras, (*found.place, 1.0))[2::-1]
    k, j, i = np.round(index).astype(int)
    assert f"slice {slice_number(volume, found.place, slice_axis(volume, 'acquired'))}" in found.text
    return bool(labels[k, j, i] == label)


# Healthy results.


@pytest.mark.parametrize(("seed", "phase"), [(0, END_SYSTOLE_PHASE), (2, 0.0)])
def test_healthy_hearts_raise_nothing(seed, phase):
    phantom = heart_phantom(phase, seed=seed, slices=10, spacing=(8.0, 2.0, 2.0), size=(140, 156))
    assert findings(phantom.volume, phantom.labels, HEART) == ()
    assert findings(replace(phantom.volume, modality=None), phantom.labels, HEART) == ()


def test_a_healthy_abdomen_raises_nothing(belly):
    volume, labels = belly
    assert findings(volume, labels, ABDOMEN) == ()
    assert findings(replace(volume, modality=None), labels, ABDOMEN) == ()


def test_a_healthy_heart_that_the_network_segments_raises_nothing():
    phantom = heart_phantom(END_SYSTOLE_PHASE, slices=8, seed=1)
    assert segment(phantom.volume, HEART, load_model(None, HEART), "cpu").findings == ()


def test_the_experts_hearts_raise_nothing(acdc_folder):
    for case in find_cases(acdc_folder, ["patient003", "patient086", "patient094"], HEART):
        volume, truth = case.read(HEART)
        assert findings(volume, truth, HEART) == (), case.name


def test_an_abdomen_clipped_to_a_window_and_its_experts_labels_raise_nothing(btcv_folder):
    (case,) = find_cases(btcv_folder, ["0028"], ABDOMEN)
    volume, truth = case.read(ABDOMEN)
    assert volume.array.min() >= -125.5
    assert findings(volume, truth, ABDOMEN) == ()


# The image.


def test_ct_given_as_mr(heart, belly):
    volume, labels = heart
    only(
        findings(replace(volume, modality="CT"), labels, HEART),
        f"'{volume.name}' looks like CT",
        "made for a short-axis cine MR",
    )
    hounsfield = replace(volume, array=volume.array - 900, modality=None)
    only(findings(hounsfield, labels, HEART), "looks like CT")
    standardised = (volume.array - volume.array.mean()) / volume.array.std()
    assert findings(replace(volume, array=standardised, modality=None), labels, HEART) == ()


def test_mr_given_as_ct(heart, belly):
    volume, labels = belly
    only(findings(replace(volume, modality="MR"), labels, ABDOMEN), "looks like MR", "made for a CT of the abdomen")
    only(image_findings(replace(heart[0], modality=None), ABDOMEN), "no Hounsfield units", "below -20", "may be MR")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda hu: np.clip(hu, -1024, None) + 1024, "shifted by 1024"),
        (lambda hu: np.clip((hu + 160) / 400 * 255, 0, 255), "from 0 to 255"),
        (lambda hu: np.clip((hu + 160) / 400, 0, 1), "rescaled"),
        (lambda hu: hu - 1024, "soft tissue"),
    ],
    ids=["no intercept", "8 bits", "0 to 1", "intercept twice"],
)
def test_grey_values_that_are_no_hounsfield_units(belly, change, words):
    volume, labels = belly
    only(findings(volume.with_array(change(volume.array)), labels, ABDOMEN), "'belly' are no Hounsfield units", words)


def test_windows_and_padding_of_a_ct_are_no_matter(belly):
    volume, _ = belly
    padded = np.where(volume.array < -900, -2000, volume.array)
    for array in (np.clip(volume.array, -125, 275), np.clip(volume.array, -200, 300), padded, volume.array + 30):
        assert image_findings(volume.with_array(array), ABDOMEN) == []
    around_liver = volume.array[25:60, 20:75, 60:105]
    assert image_findings(replace(volume, array=around_liver), ABDOMEN) == []


def test_an_mr_of_another_kind(heart):
    """Each reason alone; what the network drew is that of a heart in all of them."""
    volume, labels = heart
    found = only(
        findings(volume, labels, HEART, replace(sure(volume, labels, HEART), certainty=0.85)),
        f"'{volume.name}' does not look like a short-axis cine MR of the heart (the network is unsure of most",
        "do not rely on the result",
    )
    assert found.kind == OTHER_IMAGE
    muscle = [(k, MYO, 0.5) for k in np.flatnonzero((labels == MYO).any((1, 2)))]
    only(findings(volume, labels, HEART, sure(volume, labels, HEART, muscle)), "no heart muscle that the network is")
    blood = np.median(volume.array[labels == LV])
    bright = np.where(labels == MYO, 0.6 * volume.array + 0.7 * blood, volume.array)
    only(findings(volume.with_array(bright), labels, HEART), "about as bright as blood")
    noise = np.random.default_rng(0).normal(0, 0.15 * blood, volume.shape)
    only(findings(volume.with_array(volume.array + noise), labels, HEART), "grainy")


def test_a_grainy_heart_is_offered_the_task_for_late_enhancement(heart):
    volume, labels = heart
    noise = np.random.default_rng(0).normal(0, 0.15 * np.median(volume.array[labels == LV]), volume.shape)
    grainy = volume.with_array(volume.array + noise)
    found = only(findings(grainy, labels, HEART), "not rely", "taken after contrast agent, segment it as 'Infarct'.")
    assert found.text.endswith(f"{found.advice}.")
    unsure = replace(sure(volume, labels, HEART), certainty=0.85)  # It is not grainy.
    assert "Infarct" not in only(findings(volume, labels, HEART, unsure), "is unsure of most").text


def test_late_enhancement_is_no_task_of_an_abdomen(belly):
    volume, labels = belly
    assert findings(volume, labels, ABDOMEN, replace(sure(volume, labels, ABDOMEN), certainty=0.5)) == ()


# What is missing.


def test_nothing_found(heart):
    volume, labels = heart
    only(findings(volume, np.zeros_like(labels), HEART), "Nothing was found in", "check that it is a short-axis")


def test_noise_and_another_part_of_the_body(belly):
    volume, labels = belly
    specks = np.where(ndimage.grey_erosion(labels, 3) > 0, 0, labels)
    specks[:, ::2] = 0
    specks[:, :, ::3] = 0
    specks[labels == LIVER] = 0
    only(findings(volume, specks, ABDOMEN), "Hardly anything", "'belly'", "liver")


def test_a_missing_chamber(heart):
    volume, labels = heart
    found = findings(volume, np.where(labels == RV, 0, labels).astype(np.uint8), HEART)
    only(found, f"Not found in '{volume.name}': right ventricle", segment=RV)


def test_a_missing_gallbladder_is_said_mildly_and_where_to_look(belly):
    volume, labels = belly
    found = only(
        findings(volume, np.where(labels == GALLBLADDER, 0, labels).astype(np.uint8), ABDOMEN),
        "No gallbladder was found, as after a cholecystectomy",
        segment=GALLBLADDER,
    )
    assert np.linalg.norm(np.subtract(found.place, ABDOMEN.segments[GALLBLADDER - 1].place)) < 15
    assert f"near slice {slice_number(volume, found.place, slice_axis(volume, 'axial'))}" in found.text


def test_a_missing_pancreas_has_no_excuse(belly):
    volume, labels = belly
    found = findings(volume, np.where(labels == PANCREAS, 0, labels).astype(np.uint8), ABDOMEN)
    assert "as after" not in only(found, "No pancreas was found;", segment=PANCREAS).text


def test_organs_that_the_image_does_not_show_are_not_missed(belly):
    """Cropped to the right half of the upper abdomen: there is no spleen, no kidney, and nobody expects them."""
    volume, labels = crop(*belly, slice(30, 65), slice(20, 75), slice(68, 105))
    labels[~np.isin(labels, (LIVER, GALLBLADDER))] = 0
    assert [f for f in findings(volume, labels, ABDOMEN) if "found" in f.text] == []


# Cut by the edge.


def test_a_liver_that_the_first_slice_cuts_and_the_aorta_that_may_be(belly):
    volume, labels = crop(*belly, slice(0, 46), slice(None), slice(None))
    found = only(findings(volume, labels, ABDOMEN), "liver", "cut by the last slice (slice 46)", segment=LIVER)
    assert in_slice(volume, replace(found, text="slice 46"), labels, LIVER)
    assert (labels[-1] == AORTA).any()


def test_a_kidney_at_the_edge_of_the_field_of_view(belly):
    volume, labels = crop(*belly, slice(None), slice(None), slice(36, None))
    labels[np.isin(labels, (SPLEEN, STOMACH))] = 0
    found = [f for f in findings(volume, labels, ABDOMEN) if "No " not in f.text]
    found = only(found, "The left kidney is cut by the edge of the field of view", segment=LEFT_KIDNEY)
    assert in_slice(volume, found, labels, LEFT_KIDNEY)


def test_the_base_of_a_heart_may_be_cut_but_not_its_apex(heart):
    volume, labels = heart
    whole = slice(None)
    from_base = np.flatnonzero((labels == LV).any((1, 2)))[0] + 2
    assert findings(*crop(volume, labels, slice(from_base, None), whole, whole), HEART) == ()
    upper, cut = crop(volume, labels, slice(0, from_base + 2), whole, whole)
    found = [f for f in findings(upper, cut, HEART) if "cut by" in f.text]
    found = only(
        found, "left ventricle", f"are cut by the last slice (slice {from_base + 2})", segment=found[0].segment
    )
    assert in_slice(upper, found, cut, found.segment)
    turned = replace(upper, array=upper.array[::-1])
    found = [f for f in findings(turned, np.ascontiguousarray(cut[::-1]), HEART) if "cut by" in f.text]
    only(found, "the first slice (slice 1)", segment=found[0].segment)


def test_a_cut_organ_is_not_called_too_small(belly):
    volume, labels = crop(*belly, slice(0, 38), slice(None), slice(None))
    texts = [f.text for f in findings(volume, labels, ABDOMEN)]
    assert any("spleen" in t and "cut by" in t for t in texts)
    assert not any("smaller than in any patient" in t for t in texts)


# Shape.


def test_volumes_beyond_those_seen_in_training(heart, belly):
    volume, labels = belly
    large = labels.copy()
    large[ndimage.binary_dilation(labels == PANCREAS, iterations=3) & (labels != SPLEEN)] = PANCREAS
    found = [f for f in findings(volume, large, ABDOMEN) if f.segment == PANCREAS]
    found = only(found, "The pancreas has", "larger than in any patient", "41 to 115 ml", segment=PANCREAS)
    assert in_slice(volume, found, large, PANCREAS)
    small = labels.copy()
    small[(labels == LEFT_KIDNEY) & ~ndimage.binary_erosion(labels == LEFT_KIDNEY, iterations=3)] = 0
    only(findings(volume, small, ABDOMEN), "left kidney", "smaller than in any", segment=LEFT_KIDNEY)
    volume, labels = heart
    huge = replace(volume, ijk_to_ras=volume.ijk_to_ras @ np.diag([2, 2, 1, 1.0]))
    assert any("larger than in any patient" in f.text for f in findings(huge, labels, HEART))


def test_a_slice_without_label_between_labelled_ones(heart):
    volume, labels = heart
    gap = labels.copy()
    gap[5][gap[5] == LV] = 0
    found = only(findings(volume, gap, HEART), "left ventricle is missing in slice 6,", segment=LV)
    assert in_slice(volume, found, labels, LV)


def test_a_slice_with_much_less_than_its_neighbours(heart):
    volume, labels = heart
    dip = labels.copy()
    ventricle = np.argwhere(dip[4] == LV)
    for y, x in ventricle[: int(0.8 * len(ventricle))]:
        dip[4, y, x] = 0
    found = only(findings(volume, dip, HEART), "left ventricle is much smaller in slice 5 than", segment=LV)
    assert in_slice(volume, found, dip, LV)


def test_a_ventricle_in_pieces(heart):
    volume, labels = heart
    pieces = labels.copy()
    pieces[3:6, 5:35, 5:35] = RV
    found = only(findings(volume, pieces, HEART), "right ventricle is in pieces", segment=RV)
    assert in_slice(volume, found, pieces, RV)
    assert found.place is not None
    specks = labels.copy()
    specks[3, 5:8, 5:8] = RV
    assert findings(volume, specks, HEART) == ()


# Sides.


def test_exchanged_sides_in_the_file(belly):
    volume, labels = belly
    wrong = replace(volume, ijk_to_ras=np.diag([-1.0, 1, 1, 1]) @ volume.ijk_to_ras)
    found = only(findings(wrong, labels, ABDOMEN), "spleen lies to the right of the liver", "situs", segment=SPLEEN)
    assert in_slice(wrong, found, labels, SPLEEN)


def test_exchanged_sides_that_make_the_network_call_the_liver_a_spleen(belly):
    """What a network says that has learned sides: it finds hardly any liver where the spleen is."""
    volume, labels = belly
    seen = np.where(labels == LIVER, SPLEEN, np.where(labels == SPLEEN, 0, labels)).astype(np.uint8)
    seen[30:36][labels[30:36] == SPLEEN] = LIVER
    wrong = replace(volume, ijk_to_ras=np.diag([-1.0, 1, 1, 1]) @ volume.ijk_to_ras)
    swapped = np.arange(9, dtype=np.uint8)
    swapped[[LEFT_KIDNEY, RIGHT_KIDNEY]] = RIGHT_KIDNEY, LEFT_KIDNEY
    found = findings(wrong, swapped[seen], ABDOMEN)
    only(found[:1], "spleen is larger than the liver", "left and right may be exchanged", segment=SPLEEN)
    # A large spleen beside a liver of the usual size is a patient's, and so is a small right kidney.
    kidney = np.where((labels == RIGHT_KIDNEY) & (np.arange(70)[:, None, None] % 3 > 0), 0, labels).astype(np.uint8)
    assert not any("exchanged" in f.text for f in findings(volume, kidney, ABDOMEN))


def test_exchanged_kidneys(belly):
    volume, labels = belly
    table = np.arange(9, dtype=np.uint8)
    table[[LEFT_KIDNEY, RIGHT_KIDNEY]] = RIGHT_KIDNEY, LEFT_KIDNEY
    only(findings(volume, table[labels], ABDOMEN), "left kidney lies to the right of the right", segment=LEFT_KIDNEY)


def test_a_true_mirror_image_of_file_and_voxels_raises_nothing(belly):
    """Voxels run to the patient's left instead of to the right, and the file says so."""
    volume, labels = belly
    matrix = volume.ijk_to_ras.copy()
    matrix[:3, 3] += matrix[:3, 0] * (volume.shape[2] - 1)
    matrix[:3, 0] *= -1
    turned = replace(volume, array=volume.array[:, :, ::-1], ijk_to_ras=matrix)
    assert findings(turned, np.ascontiguousarray(labels[:, :, ::-1]), ABDOMEN) == ()


# How sure the network is.


def sure(volume: Volume, labels: np.ndarray, task, low=()) -> Confidence:
    """Sure everywhere but in the slices (k, label, overlap) of `low`."""
    count, classes = len(labels), task.classes
    areas = np.stack([(labels == n).sum((1, 2)) for n in range(1, classes)], 1) * np.prod(volume.spacing[1:]) / 100
    overlap, place = np.ones((count, classes - 1)), np.zeros((count, classes - 1, 3))
    for k, label, value in low:
        overlap[k, label - 1] = value
        inside = np.argwhere(labels[k] == label).mean(0)
        place[k, label - 1] = (volume.ijk_to_ras @ (inside[1], inside[0], k, 1.0))[:3]
    return Confidence(overlap, areas, place)


def test_an_unsure_network_is_told_with_the_worst_slice(heart):
    volume, labels = heart
    assert findings(volume, labels, HEART, sure(volume, labels, HEART)) == ()
    unsure = sure(volume, labels, HEART, [(3, RV, 0.7), (4, RV, 0.3), (6, LV, 0.76)])
    found = only(findings(volume, labels, HEART, unsure), "unsure of the right ventricle in slices 4 and 5", segment=RV)
    assert slice_number(volume, found.place, slice_axis(volume, "acquired")) == 5


def test_a_few_doubtful_slices_of_an_organ_are_no_matter(belly):
    volume, labels = belly
    filled = np.flatnonzero((labels == LIVER).any((1, 2)))
    edge, most = filled[:3], filled[: 2 * len(filled) // 3]
    assert findings(volume, labels, ABDOMEN, sure(volume, labels, ABDOMEN, [(k, LIVER, 0.5) for k in edge])) == ()
    unsure = sure(volume, labels, ABDOMEN, [(k, LIVER, 0.5) for k in most])
    only(findings(volume, labels, ABDOMEN, unsure), "unsure of the liver in slices", "most in slice", segment=LIVER)


def test_a_slice_without_the_segment_is_never_pointed_to(heart):
    """Postprocessing may have removed what the network was unsure of."""
    volume, labels = heart
    doubt = [(3, RV, 0.3), (4, RV, 0.7), (6, LV, 0.76)]
    unsure = sure(volume, labels, HEART, doubt)
    removed = labels.copy()
    removed[:4][removed[:4] == RV] = 0
    found = only(findings(volume, removed, HEART, unsure), "unsure of the right ventricle in slice 5", segment=RV)
    assert found.short == "Right ventricle, slice 5: unsure"
    removed[labels == RV] = 0
    removed[8][labels[8] == RV] = RV
    assert not any("unsure" in f.text for f in findings(volume, removed, HEART, unsure))


def test_of_many_unsure_segments_the_last_share_a_sentence(belly):
    volume, labels = belly
    low = [(k, n, 0.3) for n in range(1, 9) for k in np.flatnonzero((labels == n).any((1, 2)))]
    found = findings(volume, labels, ABDOMEN, sure(volume, labels, ABDOMEN, low))
    assert len(found) == 4
    assert "also unsure of" in found[-1].text
    assert "liver" in found[0].text


def confidence(probabilities, labels, view, volume):
    """Of labels as they were decided."""
    evidence = Evidence(view)
    for _ in evidence.labels(probabilities, given=dict(enumerate(labels))):
        pass
    return evidence.confidence(labels, volume, HEART)


@pytest.mark.parametrize("plane", ["acquired", "axial"])
def test_confidence_is_the_dice_that_the_probabilities_promise(plane):
    """A segment with probability 0.6 inside and none outside: Dice of 2 * 0.6 / 1.6, in the slice and place it has."""
    array = np.zeros((12, 40, 30), np.float32)
    matrix = np.array([[-2.0, 0, 0, 10], [0, 0, 3.0, 20], [0, -2.0, 0, 30], [0, 0, 0, 1]])  # coronal slices
    volume = Volume(array, matrix)
    labels = np.zeros(array.shape, np.uint8)
    labels[4, 10:20, 5:15] = LV
    stack = SliceStack.axial(volume) if plane == "axial" else SliceStack.of(volume)
    seen = stack.like(labels).array if plane == "axial" else labels
    rows, columns = seen.shape[1:]
    steps = stack.spacing
    size = tuple(round(n * s) for n, s in zip((rows, columns), steps, strict=True))  # 1 mm
    center = tuple((n - 1) * s / 2 for n, s in zip((rows, columns), steps, strict=True))
    view = View(stack, center, size, 1.0, None if plane == "acquired" else stack.slice_spacing)
    mask = np.repeat(np.repeat(seen == LV, round(steps[0]), 1), round(steps[1]), 2)
    probabilities = torch.zeros(len(seen), 4, *size)
    probabilities[:, 0] = 1
    probabilities[:, LV][torch.from_numpy(mask)] = 0.6
    found = confidence(probabilities[:, 1:], seen, view, volume)
    filled = np.flatnonzero(mask.any((1, 2)))
    assert len(filled) == (1 if plane == "acquired" else 10)
    np.testing.assert_allclose(found.overlap[filled, LV - 1], 2 * 0.6 / 1.6, atol=1e-5)
    np.testing.assert_allclose(found.overlap[:, RV - 1], 1)
    np.testing.assert_allclose(found.area_cm2[filled, LV - 1], mask[filled[0]].sum() / 100)
    assert found.certainty == pytest.approx(0.6)
    center_ras = (matrix @ (9.5, 14.5, 4, 1))[:3]
    places = found.place[filled, LV - 1]
    np.testing.assert_allclose(places.mean(0), center_ras, atol=0.6)
    assert {slice_number(volume, tuple(p), slice_axis(volume, "acquired")) for p in places} == {5}


def test_a_heart_in_noise_makes_the_network_unsure(noisy):
    assert any("unsure" in f.text or "found" in f.text for f in noisy.findings)


# Where they go.


def test_slices_are_counted_along_the_acquired_axis_and_from_one(heart):
    volume, labels = heart
    gap = labels.copy()
    gap[5][gap[5] == LV] = 0
    matrix = volume.ijk_to_ras.copy()
    matrix[:, :3] = volume.ijk_to_ras[:, [2, 0, 1]]
    turned = replace(volume, array=volume.array.transpose(1, 2, 0), ijk_to_ras=matrix)
    found = only(findings(turned, np.ascontiguousarray(gap.transpose(1, 2, 0)), HEART), "slice 6,", segment=LV)
    assert (
        slice_number(turned, found.place, slice_axis(turned, "acquired"))
        == slice_number(volume, found.place, slice_axis(volume, "acquired"))
        == 6
    )


def test_slices_in_words():
    assert slices_text([3], 3) == "slice 3"
    assert slices_text([4, 3], 3) == "slices 3 and 4"
    assert slices_text([3, 5, 4], 3) == "slices 3 to 5"
    assert slices_text([3, 4, 5, 8], 8) == "slices 3 to 5 and 8, most in slice 8"
    assert slices_text(range(1, 20, 2), 7) == "slices between 1 and 19, most in slice 7"
    assert slices_text(range(1, 20, 2)) == "slices between 1 and 19"


def test_phases_in_words():
    assert phases_text([3], 20) == "phase 3"
    assert phases_text(range(3, 10), 20) == "phases 3 to 9"
    assert phases_text([1, 2], 20) == "phases 1 and 2"
    assert phases_text(range(1, 21), 20) == "all 20 phases"
    # Each of them, however many: a user goes there.
    assert phases_text([2, 4, 6, 7, 8, 11, 13], 20) == "phases 2, 4, 6 to 8, 11 and 13"


def cine(heart, low: dict[int, list[tuple[int, int, float]]], count: int = 12) -> list[Segmentation]:
    """Phases of a heart, numbered from 1, of which the network is unsure as `low` says; in all of them memory is short.

    The images are named as those of a cine are.
    """
    volume, labels = heart
    phases = []
    for number in range(1, count + 1):
        named = replace(volume, name=f"cine phase {number}")
        found = findings(named, labels, HEART, sure(named, labels, HEART, low.get(number, ())))
        warnings = (*with_check(found), "Memory was short.")
        phases.append(Segmentation(named, labels, HEART, "model", named, "cpu", 1.0, warnings, found))
    return phases


def test_a_cines_warnings_are_gathered_and_name_their_phases(heart):
    low = {n: [(3, RV, 0.3)] for n in range(3, 10)} | {10: [(4, RV, 0.3), (6, LV, 0.2)]}
    assert gathered(cine(heart, low)) == (
        "The network is unsure of the right ventricle in slices 4 and 5 in phases 3 to 10.",
        "The network is unsure of the left ventricle in slice 7 in phase 10.",
        CHECK,
        "Memory was short.",
    )
    assert gathered(cine(heart, {})) == ("Memory was short.",)
    one = cine(heart, {1: [(3, RV, 0.3)]}, count=1)
    assert gathered(one) == one[0].warnings == (one[0].findings[0].text, CHECK, "Memory was short.")


def test_what_is_wrong_with_all_images_of_a_cine_is_said_once(heart):
    phases = []
    for phase in cine(heart, {}, count=3):
        volume = replace(phase.volume, modality="CT")
        found = findings(volume, np.where(phase.labels == RV, 0, phase.labels).astype(np.uint8), HEART)
        phases.append(replace(phase, volume=volume, findings=found, warnings=with_check(found)))
    looks, missing = gathered(phases)
    assert looks == (
        "The image looks like CT, but the network is made for a short-axis cine MR of the heart in all 3 phases: do "
        "not rely on the result."
    )
    assert missing == "No right ventricle was found in all 3 phases: check the slices."


def test_what_to_do_stands_once_and_in_no_finding(heart):
    volume, labels = heart
    doubt = sure(volume, labels, HEART, [(3, RV, 0.3), (6, LV, 0.2), (5, MYO, 0.2)])
    found = findings(volume, labels, HEART, doubt)
    assert len(found) == 3
    assert not any("Segment Editor" in f.text for f in found)
    assert [text for text in with_check(found) if "Segment Editor" in text] == [CHECK] == list(with_check(found)[3:])
    assert with_check(findings(replace(volume, modality="CT"), labels, HEART))[1:] == ()


def test_findings_come_first_among_the_warnings_and_into_measurements_json(noisy):
    assert len(noisy.findings) > 1
    assert noisy.warnings[: len(noisy.findings)] == tuple(f.text for f in noisy.findings)
    content = json.loads(json.dumps(report(noisy)))["findings"]
    assert [c["text"] for c in content] == list(noisy.warnings[: len(noisy.findings)])
    assert content[0] == {
        "kind": noisy.findings[0].kind,
        "text": noisy.warnings[0],
        "short": noisy.findings[0].short,
        "slice": None,
        "ras": None,
        "segment": None,
        "ml": 0.0,
    }


def test_the_worker_hands_findings_over(tmp_path):
    volume = heart_phantom(slices=2, size=(130, 130)).volume
    folder = tmp_path / PHASE.format(1)
    folder.mkdir()
    np.save(folder / IMAGE, volume.array)
    grid = {"name": "scan", "ijk_to_ras": volume.ijk_to_ras.tolist(), "modality": "CT"}
    request = {"id": 1, "folder": str(tmp_path), "task": "heart", "model": None, "device": "cpu", "volumes": [grid]}
    (done,) = run_segment(request, Models(), Channel(io.BytesIO()))["phases"]
    assert "'scan' looks like CT" in done["findings"][0]["text"]
    assert [f["text"] for f in done["findings"]] == [text for text in done["warnings"] if text != CHECK]
    assert done["findings"][0]["kind"] == OTHER_IMAGE
    assert [f for f in done["findings"] if f["slice"] in (1, 2) and len(f["ras"]) == 3]
    json.dumps(done)


def test_a_finding_says_slice_and_place_in_json(heart):
    volume, labels = heart
    gap = labels.copy()
    gap[5][gap[5] == LV] = 0
    found = findings(volume, gap, HEART)
    result = Segmentation(volume, gap, HEART, "model", volume, "cpu", 1.0, tuple(f.text for f in found), found)
    (content,) = json.loads(json.dumps(report(result)))["findings"]
    assert content == {
        "kind": "gap",
        "text": found[0].text,
        "short": found[0].short,
        "slice": 6,
        "ras": pytest.approx(found[0].place),
        "segment": LV,
        "ml": 0.0,
    }


def test_findings_of_a_large_ct_take_a_moment(belly):
    volume, labels = belly
    large = ndimage.zoom(labels, (2, 4, 4), order=0)
    spacing = np.diag([0.25, 0.25, 0.5, 1.0])
    grid = Volume(np.zeros(large.shape, np.float32), volume.ijk_to_ras @ spacing, modality="CT")
    started = time.process_time()
    findings(grid, large, ABDOMEN)
    assert time.process_time() - started < 2.0


def test_real_ct_with_damage(btcv_folder):
    """A real abdomen: cropped through the liver, its sides exchanged, its grey values as unsigned numbers."""
    volume = read_volume(btcv_folder / "img0028.nii.gz")
    (case,) = find_cases(btcv_folder, ["0028"], ABDOMEN)
    truth = case.task_labels(read_volume(case.labels).array, ABDOMEN)
    top = int(np.argmax((truth == LIVER).sum((1, 2))))
    half = crop(volume, truth, slice(0, top), slice(None), slice(None))
    assert any("liver" in f.text and "cut by the last slice" in f.text for f in findings(*half, ABDOMEN))
    mirrored = replace(volume, ijk_to_ras=np.diag([-1.0, 1, 1, 1]) @ volume.ijk_to_ras)
    only(findings(mirrored, truth, ABDOMEN), "spleen lies to the right of the liver", segment=SPLEEN)
    only(findings(volume.with_array(volume.array + 1024), truth, ABDOMEN), "shifted by 1024")
