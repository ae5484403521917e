"""The pack: prepared cases in one file, the same but for the rounding of grey values."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from phantom_cases import write_patients
from safetensors import safe_open
from safetensors.torch import save_file

from dinsegment.errors import InputError
from dinsegment.images.slices import SliceStack
from dinsegment.inference.preprocessing import Preprocessing
from dinsegment.tasks import ABDOMEN, HEART
from dinsegment.training.cases import find_cases, read_split
from dinsegment.training.dataset import prepare
from dinsegment.training.pack import KEY, MARGIN, read_pack, write_pack

PREPROCESSING = Preprocessing(spacing=3.0, box=48, overview_spacing=4.5)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    return write_patients(tmp_path_factory.mktemp("data"), 2)


@pytest.fixture(scope="module")
def packed(cases, tmp_path_factory):
    """Path of a pack with a training and a validation patient."""
    path = tmp_path_factory.mktemp("pack") / "heart.pack"
    write_pack(cases[:2], cases[2:], HEART, PREPROCESSING, path)
    return path


def assert_as_prepared(packed_case, case, preprocessing, bits):
    expected, stack = prepare(case, HEART, preprocessing), packed_case.stack
    assert (packed_case.patient, packed_case.name, packed_case.phase) == (case.patient, case.name, case.phase)
    assert torch.equal(stack.masks, expected.masks)
    assert stack.center == expected.center and stack.overview_window == expected.overview_window
    assert (stack.slice_spacing, stack.spacing) == (expected.slice_spacing, expected.spacing)
    low, high = min(0.0, expected.overview_window[0]), max(1.0, expected.overview_window[1])
    ends = low - MARGIN[0] * (high - low), high + MARGIN[1] * (high - low)
    step = (ends[1] - ends[0]) / (2**bits - 1)
    difference = (stack.image.float() - expected.image.float().clamp(*ends)).abs().max()
    assert difference <= step / 2 + ends[1] * 2**-10  # half a step, and what float16 rounds


@pytest.mark.parametrize("bits", [8, 16])
def test_packed_cases_are_as_prepared_but_for_the_rounding_of_grey_values(cases, tmp_path, bits):
    seen = []
    write_pack(cases[:2], cases[2:], HEART, PREPROCESSING, tmp_path / "x", lambda n, c: seen.append((n, c.name)), bits)
    pack = read_pack(tmp_path / "x")
    assert (len(pack.train), len(pack.validation), pack.bits, pack.task) == (2, 2, bits, "heart")
    assert pack.preprocessing == PREPROCESSING
    assert seen == [(n, c.name) for n, c in enumerate(cases)]
    for packed_case, case in zip((*pack.train, *pack.validation), cases, strict=True):
        assert_as_prepared(packed_case, case, PREPROCESSING, bits)


def test_a_packed_case_is_a_volume_on_the_packed_grid(packed, cases):
    volume, labels = read_pack(packed).validation[0].read(HEART)
    original, truth = cases[2].read(HEART)
    np.testing.assert_allclose(volume.spacing, (original.spacing[0], 3.0, 3.0))
    assert labels.shape == volume.shape and labels.dtype == np.uint8
    assert SliceStack.of(volume).axis == 0
    for label in (1, 2, 3):  # the same anatomy in millilitres
        packed_ml = (labels == label).sum() * volume.voxel_volume_ml
        assert packed_ml == pytest.approx((truth == label).sum() * original.voxel_volume_ml, rel=0.06)


def test_masks_stay_soft(packed):
    masks = read_pack(packed).train[0].stack.masks
    between = ((masks > 20) & (masks < 235)).sum()
    assert between > 0.05 * (masks > 127).sum()


def test_a_pack_serves_only_what_it_was_made_for(packed):
    pack = read_pack(packed)
    pack.check(HEART, PREPROCESSING)
    pack.check(HEART, replace(PREPROCESSING, overview_spacing=6.0))  # which is decided later
    with pytest.raises(InputError, match="task 'heart', not 'abdomen'"):
        pack.check(ABDOMEN, PREPROCESSING)
    with pytest.raises(InputError, match=r"spacing 3\.0, the recipe wants 1.5"):
        pack.check(HEART, replace(PREPROCESSING, spacing=1.5))


def test_a_patient_for_fitting_and_choosing_is_refused(cases, tmp_path):
    with pytest.raises(InputError, match="patient001"):
        write_pack(cases[:1], cases[1:], HEART, PREPROCESSING, tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_a_damaged_pack_is_named(packed, tmp_path):
    damaged = tmp_path / "damaged.pack"
    with safe_open(packed, "pt") as file:
        header, tensors = file.metadata()[KEY], {n: file.get_tensor(n) for n in file.keys()}  # noqa: SIM118
    changed = {**tensors, "0.masks": tensors["0.masks"].clone()}
    changed["0.masks"][9] += 1
    save_file(changed, damaged, metadata={KEY: header})
    with pytest.raises(InputError, match=r"damaged\.pack' is damaged"):
        read_pack(damaged)
    save_file(tensors, damaged, metadata={KEY: json.dumps({**json.loads(header), "format": 9})})
    with pytest.raises(InputError, match="format 9"):
        read_pack(damaged)
    for content in (b"", packed.read_bytes()[:-100], b"no pack"):
        damaged.write_bytes(content)
        with pytest.raises(InputError, match="not a pack"):
            read_pack(damaged)
    with pytest.raises(InputError, match="not a pack"):
        read_pack(tmp_path / "none")


def test_real_cases_are_packed_small(acdc_folder, tmp_path):
    train = find_cases(acdc_folder, read_split(acdc_folder / "split-train.txt")[:1], HEART)
    write_pack(train, [], HEART, Preprocessing(), tmp_path / "x")
    pack = read_pack(tmp_path / "x")
    for packed_case, case in zip(pack.train, train, strict=True):
        assert_as_prepared(packed_case, case, Preprocessing(), 8)
    pixels = sum(c.stack.image.numel() for c in pack.train)
    assert (tmp_path / "x").stat().st_size < 0.6 * pixels
