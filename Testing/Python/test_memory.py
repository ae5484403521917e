"""Memory grows with the volume and its results alone: nothing else is held of more than a few slices."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import textwrap
import tracemalloc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slices_back import slices_back
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dinsegment.enhancement.displayed import FINE, enhanced_volume
from dinsegment.enhancement.methods import Enhancement
from dinsegment.images import read_volume, write_segmentation, write_volume
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import Volume, ras_of
from dinsegment.inference import looking
from dinsegment.inference.confidence import MIN_AREA_CM2, Evidence
from dinsegment.inference.prediction import predict
from dinsegment.inference.preprocessing import Preprocessing
from dinsegment.inference.runner import MAX_BATCH, Runner, bytes_per_slice
from dinsegment.inference.view import View, decide
from dinsegment.network import DIN, DIN_BASE, DIN_SMALL, rewrite
from dinsegment.network.rewriting import for_inference
from dinsegment.tasks import ABDOMEN

PREPARED = Preprocessing(
    spacing=4.0,
    box=32,
    overview_spacing=8.0,
    plane="axial",
    slice_spacing=3.0,
    grey_window=(-125.0, 275.0),
    locate="body",
)
RAS = np.diag([-2.0, -2.0, 3.0, 1.0])
WINDOW = (-125.0, 275.0)


def ct(slices: int, side: int = 48, dtype: type = np.int16) -> Volume:
    """Noise of soft tissue in air."""
    array = np.full((slices, side, side), -1000.0)
    body = array[:, side // 8 : -side // 8, side // 8 : -side // 8]
    body[...] = np.random.default_rng(slices).normal(60, 80, body.shape).round()
    return Volume(array.astype(dtype), RAS, "CT", modality="CT")


class Held:
    """Counts the arrays that are alive at a time."""

    def __init__(self) -> None:
        self.now = self.most = self.all = 0

    def add(self, thing: object) -> None:
        self.now, self.all = self.now + 1, self.all + 1
        self.most = max(self.most, self.now)
        weakref.finalize(thing, self._drop)

    def _drop(self) -> None:
        self.now -= 1


@pytest.fixture(scope="module")
def network(one_thread):
    torch.manual_seed(0)
    return for_inference(DIN(replace(DIN_SMALL, classes=ABDOMEN.classes, in_channels=3)))


def test_probabilities_and_inputs_of_a_few_batches_are_held_however_many_slices_there_are(network, monkeypatch):
    monkeypatch.setitem(MAX_BATCH, "cpu", 2)
    monkeypatch.setattr(looking, "BLOCK", 4)
    forward, slices = Runner._forward, Preprocessing.slices
    for count in (12, 24):
        batches, blocks = Held(), Held()

        def counted(self, *inputs, batches=batches):
            # What is made of an array keeps it alive, each view of one slice too.
            array = forward(self, *inputs).numpy().copy()
            batches.add(array)
            return torch.from_numpy(array)

        def prepared(self, *arguments, blocks=blocks, **options):
            made = slices(self, *arguments, **options)
            assert len(made.image) <= 4 + 2  # with a neighbour at either end
            blocks.add(made)
            return made

        monkeypatch.setattr(Runner, "_forward", counted)
        monkeypatch.setattr(Preprocessing, "slices", prepared)
        predict(Runner(network, torch.device("cpu")), PREPARED, ct(count), ABDOMEN)
        assert (batches.all, blocks.all) == (count // 2, count // 4)
        assert batches.most <= 4
        assert blocks.most <= 2


class Allocated(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive at a time, without those that were there before."""

    def __init__(self, before) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in before}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in filter(torch.is_tensor, tree_leaves(made)):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._known:
                self._known.add(storage._cdata)
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
        return made

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


NOTHING = SliceStack(np.zeros((1, 8, 8), np.float32), (1.0, 1.0), 0)
"""For views that are never sampled."""


@pytest.mark.parametrize(
    ("config", "side"),
    [
        (DIN_BASE, 224),
        (replace(DIN_BASE, decoder="emcad"), 224),
        (replace(DIN_BASE, stem_stride=2), 224),
        (DIN_SMALL, 112),
        (replace(DIN_SMALL, in_channels=3, classes=ABDOMEN.classes), 144),
    ],
    ids=["din-base", "din-base with EMCAD", "din-base, stride 2", "din-small", "din-small for the abdomen"],
)
def test_a_batch_takes_no_more_memory_than_it_is_counted_for(config, side):
    """As a GPU computes it, in float32, by the sizes of all tensors; scores, too, which fused attention never holds."""
    with torch.device("meta"):
        network = rewrite(DIN(config).eval())
    view = View(NOTHING, (0.0, 0.0), (side, side), 1.5)
    for batch in (1, 3):
        images = torch.zeros(2, batch, config.in_channels, side, side, device="meta")
        with Allocated([*network.parameters(), *network.buffers(), images]) as allocated:
            network(*images)
        counted = batch * bytes_per_slice(network, view)
        assert 0.2 * counted < allocated.most < counted


def test_din_base_fits_a_gpu_of_6_gb():
    """Beside its weights in half precision, `Runner.batches` takes half of what is free: more than two slices."""
    with torch.device("meta"):
        network = rewrite(DIN(DIN_BASE).eval())
    weights = 2 * sum(p.numel() for p in network.parameters())
    assert 2 * bytes_per_slice(network, View(NOTHING, (0.0, 0.0), (224, 224), 1.5)) < 0.5 * (6e9 - weights)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="Memory is managed by glibc on Linux only.")
def test_tensors_get_the_memory_of_those_before_them():
    """In a fresh process: pages that the system has to give (minor faults) while tensors of 1 to 20 MB come and go."""
    code = """
        import resource, sys, torch
        from dinsegment.inference.devices import keep_freed_memory

        if sys.argv[1] == "keep":
            keep_freed_memory()
        torch.ones(1)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for megabytes in range(1, 21):
            torch.ones(megabytes << 18)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    faults = {}
    for how in ("keep", "give back"):
        command = [sys.executable, "-c", textwrap.dedent(code), how]
        faults[how] = int(subprocess.run(command, env=clean, capture_output=True, text=True, check=True).stdout)
    assert faults["keep"] < faults["give back"] / 2


def peak_of(function) -> float:
    """The most memory that Python and numpy take while a function runs, in bytes."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_reading_and_enhancing_take_the_memory_of_their_result_and_writing_none(tmp_path):
    volume = ct(60, 256)
    slack = 3_500_000  # a few slices as float32, and what gzip takes at a time
    path = tmp_path / "ct.nrrd"
    assert peak_of(lambda: write_volume(volume, path)) < slack
    assert peak_of(lambda: read_volume(path)) < volume.array.nbytes + slack
    made = []
    assert peak_of(lambda: made.append(enhanced_volume(volume, Enhancement(), window=WINDOW))) < (
        volume.array.nbytes + slack
    )
    labels = (volume.array > 100).astype(np.uint8)
    segmentation = Segmentation(volume, labels, ABDOMEN, "a model", made[0], "cpu", 0.0)
    # The fingerprints look at one segment at a time, in its box.
    assert peak_of(lambda: write_segmentation(segmentation, tmp_path / "ct.seg.nrrd")) < 1.5 * labels.nbytes + slack


# --- the same results as with everything held -----------------------------------------------------


def probabilities_of(view: View, classes: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    blobs = torch.rand(view.count, classes, 3, 4, generator=generator)
    logits = torch.nn.functional.interpolate(blobs, view.size, mode="bilinear") * 20
    logits[:, 0] += 4
    return logits.softmax(1)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.sampled_from([None, 1.7, 3.0, 5.0]), st.floats(1.0, 6.0), st.integers(0, 10**6))
def test_labels_made_slice_by_slice_are_those_of_all_probabilities(count, distance, spacing, seed):
    stack = SliceStack(np.zeros((count, 21, 25), np.float32), (2.0, 2.2), 0, 3.0)
    place = np.random.default_rng(seed).uniform(0, 50, 2)
    view = View(stack, (float(place[0]), float(place[1])), (12, 14), spacing, distance)
    probabilities = probabilities_of(view, 5, seed)
    found = np.stack(list(view.labels_back(iter(probabilities[:, 1:]))))
    expected = torch.stack([decide(one) for one in slices_back(view, probabilities[:, 1:])]).numpy()
    assert found.shape == stack.array.shape and found.dtype == np.uint8
    # But for a tie now and then, of numbers that are rounded.
    assert (found != expected).mean() < 1e-3


def direct_confidence(probabilities, labels, view, stack, volume):
    """Overlap, area in cm2 and place of each slice and segment, from all probabilities and masks."""
    count, classes = probabilities.shape[:2]
    first = 0.5 * ((len(stack.array) - 1) * stack.slice_spacing - (count - 1) * view.slice_spacing)
    k, y, x = (
        (start + np.arange(n) * step) / pitch
        for start, n, step, pitch in zip(
            (first, *view.first),
            (count, *view.size),
            (view.slice_spacing, view.spacing, view.spacing),
            (stack.slice_spacing, *stack.spacing),
            strict=True,
        )
    )
    near = [np.clip(np.round(p).astype(int), 0, n - 1) for p, n in zip((k, y, x), stack.array.shape, strict=True)]
    inside = np.outer(*((p > -0.5) & (p < n - 0.5) for p, n in zip((y, x), stack.array.shape[1:], strict=True)))
    overlap, area = np.ones((count, classes - 1)), np.zeros((count, classes - 1))
    place = np.zeros((count, classes - 1, 3))
    for n in range(count):
        for label in range(1, classes):
            p = probabilities[n, label].double().numpy()
            mask = (labels[near[0][n]][np.ix_(near[1], near[2])] == label) & inside
            area[n, label - 1] = max(mask.sum(), p.sum()) * view.spacing**2 / 100
            if area[n, label - 1] >= MIN_AREA_CM2:
                overlap[n, label - 1] = 2 * p[mask].sum() / (mask.sum() + p.sum())
                doubt = np.abs(mask - p)
                middle = doubt.sum(1) @ y / doubt.sum(), doubt.sum(0) @ x / doubt.sum()
                place[n, label - 1] = ras_of(volume, (k[n], *middle))
    return overlap, area, place


@pytest.mark.parametrize("distance", [1.7, 3.0, 5.0])
def test_confidence_of_corrected_labels_needs_no_probabilities_of_the_whole_volume(distance):
    volume = Volume(np.zeros((7, 40, 50), np.float32), np.diag([2.2, 2.0, 3.0, 1.0]))
    stack = SliceStack.of(volume)
    view = View(stack, (45.0, 50.0), (32, 40), 2.5, distance)
    probabilities = probabilities_of(view, 5, 3)
    evidence = Evidence(view)
    labels = np.zeros(volume.shape, np.uint8)
    for k, decided in enumerate(evidence.labels(probabilities[:, 1:])):
        labels[k] = decided
    assert len(np.unique(labels)) == 5
    labels[:, :15][labels[:, :15] == 2] = 0  # a piece is removed
    labels[:, :, 25:][labels[:, :, 25:] == 1] = 3  # and one turns out to be the other side's
    found = evidence.confidence(labels, volume, ABDOMEN)
    overlap, area, place = direct_confidence(probabilities, labels, view, stack, volume)
    np.testing.assert_allclose(found.overlap, overlap, atol=1e-4)
    np.testing.assert_allclose(found.area_cm2, area, rtol=1e-4)
    np.testing.assert_allclose(found.place, place, atol=1e-2)


# --- whole numbers --------------------------------------------------------------------------------


def test_a_ct_of_whole_numbers_stays_one_and_has_the_same_labels(tmp_path, network):
    image = sitk.GetImageFromArray(ct(8).array)
    image.SetSpacing((2.0, 2.0, 3.0))
    sitk.WriteImage(image, str(tmp_path / "whole.nii.gz"))
    sitk.WriteImage(sitk.Cast(image, sitk.sitkFloat32), str(tmp_path / "float.nii.gz"))
    whole, float32 = (read_volume(tmp_path / f"{name}.nii.gz") for name in ("whole", "float"))
    assert (whole.array.dtype, float32.array.dtype) == (np.int16, np.float32)
    np.testing.assert_array_equal(whole.array, float32.array)
    runner = Runner(network, torch.device("cpu"))
    one, other = (predict(runner, PREPARED, volume, ABDOMEN) for volume in (whole, float32))
    np.testing.assert_array_equal(one, other)
    whole_enhanced, enhanced = (enhanced_volume(v, Enhancement(), window=WINDOW) for v in (whole, float32))
    assert (whole_enhanced.array.dtype, enhanced.array.dtype) == (np.int16, np.float32)
    np.testing.assert_array_equal(whole_enhanced.array, np.rint(enhanced.array))
    write_volume(whole_enhanced, tmp_path / "enhanced.nrrd")
    assert sitk.ReadImage(str(tmp_path / "enhanced.nrrd")).GetPixelID() == sitk.sitkInt16


def test_an_image_of_few_grey_values_is_enhanced_between_them():
    volume = ct(2)
    few = volume.with_array((volume.array > 60).astype(np.int16) * (FINE // 2))
    enhanced = enhanced_volume(few, Enhancement()).array
    assert enhanced.dtype == np.float32 and (enhanced != np.rint(enhanced)).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.float64, ">i2"])
def test_other_types_become_float32(dtype):
    array = ct(2).array.clip(0, 200).astype(dtype)
    volume = Volume(array, RAS)
    assert volume.array.dtype == (np.int16 if dtype == ">i2" and np.dtype(dtype) == np.int16 else np.float32)
    np.testing.assert_array_equal(volume.array, array)
