"""Real CT slices of a scanner that no model was trained on, from DICOM to DICOM SEG by the program's own command."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dciodvfy import dciodvfy_errors
from read_dicom_seg import read_dicom_seg
from safetensors.torch import save_file
from totalsegmentator_reference import read_reference

from dinsegment import cli
from dinsegment.images import read_volume
from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import Volume
from dinsegment.inference.anatomy import box_around_body
from dinsegment.inference.model import Model
from dinsegment.inference.preprocessing import Preprocessing
from dinsegment.models.entries import ModelEntry, read_entries
from dinsegment.network import DIN, DINConfig
from dinsegment.tasks import ABDOMEN
from dinsegment.training.metrics import dice

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

TINY = DINConfig(
    dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), stem_stride=2, layer_scale=0.5, heads=(1, 1, 1, 1), window=4,
    merge_kernel=1, expand_kernel=1, decoder_dim=16, decoder_layers=1, classes=ABDOMEN.classes, in_channels=3,
)  # fmt: skip
COARSE = Preprocessing(
    spacing=12.0,
    box=(32, 48),
    overview_spacing=12.0,
    plane="axial",
    slice_spacing=8.0,
    grey_window=ABDOMEN.grey_window,
    locate="body",
)
AORTA, LEFT_KIDNEY, RIGHT_KIDNEY, LIVER, SPLEEN, STOMACH = 1, 3, 4, 5, 7, 8


@pytest.fixture(scope="module")
def ct(totalsegmentator_folder) -> Volume:
    return read_volume(totalsegmentator_folder)


@pytest.fixture(scope="module")
def reference(totalsegmentator_folder, ct) -> np.ndarray:
    return read_reference(totalsegmentator_folder, ct)


def untrained(volume: Volume) -> Model:
    """A small network with random weights, whose classes are about equally frequent in a volume."""
    torch.manual_seed(0)
    network = DIN(TINY).eval()
    stack = SliceStack.in_plane(volume, COARSE.plane)
    with torch.no_grad():
        seen = COARSE.slices(box_around_body(COARSE, stack), TINY.in_channels)
        logits = network(*seen.inputs(slice(None))).transpose(0, 1).flatten(1)
        last = network.decoder.classify
        last.weight /= logits.std(1)[:, None, None, None]
        last.bias.copy_((last.bias - logits.mean(1)) / logits.std(1))
    return Model("untrained", ABDOMEN.name, network, COARSE)


def write_model(model: Model, folder: Path) -> Path:
    """A folder that `--model` takes."""
    weights = folder / "untrained.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in model.network.state_dict().items()}, weights)
    content = weights.read_bytes()
    entry = ModelEntry(
        name=model.name,
        task=model.task,
        description="Random weights.",
        network=asdict(TINY),
        preprocessing=model.preprocessing.to_dict(),
        weights={"file": weights.name, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)},
        license="none",
        data={"name": "none", "split": "none", "license": "none", "citation": ""},
    )
    (folder / "weights.json").write_text(json.dumps({"models": [asdict(entry)]}), encoding="utf-8")
    return folder


def run_command(*arguments: object) -> None:
    """`dinsegment` with these arguments, in this process."""
    before = sys.argv
    sys.argv = ["dinsegment", *map(str, arguments)]
    try:
        cli.main()
    except SystemExit as stop:
        assert not stop.code
    finally:
        sys.argv = before


@pytest.fixture(scope="module")
def result(totalsegmentator_folder, ct, tmp_path_factory) -> Path:
    """What the command writes, with a model that has learnt nothing but finds all kinds of things."""
    folder = tmp_path_factory.mktemp("ct")
    model = write_model(untrained(ct), folder)
    command = ("segment", totalsegmentator_folder, "--task", "abdomen", "--device", "cpu")
    run_command(*command, "--model", model, "--output", folder / "OUT")
    return folder / "OUT"


def test_the_dicom_seg_has_the_labels_in_their_places(result, ct):
    labels = read_volume(result / "segmentation.seg.nrrd")
    np.testing.assert_allclose(labels.ijk_to_ras, ct.ijk_to_ras, atol=1e-4)
    content = read_dicom_seg(result / "segmentation.dcm", ct)
    names = {segment.name: mask for segment, mask in zip(content.segments, content.masks, strict=True)}
    present = [segment for segment in ABDOMEN.segments if (labels.array == segment.label).any()]
    assert len(present) >= 4  # otherwise equal voxels would show little
    assert set(names) == {segment.name for segment in present}
    for segment in present:
        np.testing.assert_array_equal(names[segment.name], labels.array == segment.label)


def test_the_dicom_seg_is_read_back_on_the_grid_of_another_orientation(result, ct):
    """The reference's file has its rows from posterior to anterior; in the patient nothing moves."""
    labels = read_volume(result / "segmentation.seg.nrrd").array
    flip = np.eye(4)
    flip[1, 1], flip[1, 3] = -1, ct.shape[1] - 1
    turned = replace(ct, array=ct.array[:, ::-1], ijk_to_ras=ct.ijk_to_ras @ flip)
    content = read_dicom_seg(result / "segmentation.dcm", turned)
    for segment, mask in zip(content.segments, content.masks, strict=True):
        label = next(s.label for s in ABDOMEN.segments if s.name == segment.name)
        np.testing.assert_array_equal(mask, labels[:, ::-1] == label)


def test_measurements_count_the_voxels_of_the_dicom_seg(result, ct):
    measured = {
        s["name"]: s for s in json.loads((result / "measurements.json").read_text(encoding="utf-8"))["segments"]
    }
    content = read_dicom_seg(result / "segmentation.dcm", ct)
    for segment, mask in zip(content.segments, content.masks, strict=True):
        assert measured[segment.name]["voxels"] == mask.sum()
        assert measured[segment.name]["volume_ml"] == pytest.approx(mask.sum() * ct.voxel_volume_ml)


@pytest.mark.parametrize("file, kind", [("segmentation.dcm", "Segmentation"), ("measurements.dcm", "ComprehensiveSR")])
def test_dciodvfy_finds_nothing_wrong(result, file, kind):
    assert dciodvfy_errors(result / file, kind) == []


def test_the_reference_lies_on_the_organs_and_nowhere_else(ct, reference):
    """Their grey values are those of organs, and stray more with the labels upside down."""
    for label in (AORTA, LIVER, SPLEEN):
        organ = ct.array[reference == label]
        wrong = ct.array[reference[:, ::-1] == label]
        assert 70 < np.median(organ) < 200
        assert organ.std() < 0.5 * wrong.std()
    centre = {
        label: (ct.ijk_to_ras @ (*np.argwhere(reference == label).mean(0)[::-1], 1))[:3] for label in (LIVER, SPLEEN)
    }
    assert centre[LIVER][0] > centre[SPLEEN][0] + 100  # liver on the right
    assert not np.isin(reference, (LEFT_KIDNEY, RIGHT_KIDNEY)).any()


def shipped() -> str:
    """Name of the shipped model for the abdomen."""
    names = [entry.name for entry in read_entries() if entry.task == ABDOMEN.name and "repository" not in entry.weights]
    if not names:
        pytest.skip("No model for the task 'abdomen' ships yet.")
    return names[0]


def test_the_shipped_model_finds_the_organs(totalsegmentator_folder, ct, reference, tmp_path):
    command = ("segment", totalsegmentator_folder, "--task", "abdomen", "--device", "cpu")
    run_command(*command, "--model", shipped(), "--output", tmp_path / "OUT")
    content = read_dicom_seg(tmp_path / "OUT" / "segmentation.dcm", ct)
    labels = np.zeros(ct.shape, np.uint8)
    for segment, mask in zip(content.segments, content.masks, strict=True):
        labels[mask] = next(s.label for s in ABDOMEN.segments if s.name == segment.name)
    least = {LIVER: 0.85, SPLEEN: 0.75, AORTA: 0.65, STOMACH: 0.55}
    scores = {label: dice(labels, reference, label) for label in least}
    assert all(scores[label] > least[label] for label in least), scores
