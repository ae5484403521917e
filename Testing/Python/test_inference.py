from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from dinsegment.errors import Cancelled, InputError, ModelError
from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import Volume
from dinsegment.inference import anatomy, segment, segment_phases
from dinsegment.inference import runner as running
from dinsegment.inference.anatomy import find_anatomy
from dinsegment.inference.devices import choose_device
from dinsegment.inference.model import load_model
from dinsegment.inference.preprocessing import neighbourhoods
from dinsegment.inference.runner import Runner, Slices, bytes_per_slice
from dinsegment.inference.view import View
from dinsegment.network import DIN, DIN_SMALL
from dinsegment.network.rewriting import for_inference
from dinsegment.phantom.heart import heart_phantom
from dinsegment.tasks import HEART
from dinsegment.training.metrics import dice


@pytest.fixture(scope="module")
def model():
    return load_model(None, HEART)


@pytest.fixture(scope="module")
def phantom():
    return heart_phantom(slices=10)


@pytest.fixture(scope="module")
def result(phantom, model):
    return segment(phantom.volume, "heart", model, "cpu")


def mean_dice(labels: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean([dice(labels, truth, s.label) for s in HEART.segments]))


def test_finds_the_phantoms_heart(result, phantom):
    assert mean_dice(result.labels, phantom.labels) > 0.7
    assert result.warnings == ()


@pytest.mark.parametrize("given", ["patient.nii.gz", None, np.zeros((2, 3, 4)), [np.zeros((2, 3, 4))]], ids=type)
def test_what_is_no_volume_is_answered_with_how_to_make_one(given, model):
    for call in (lambda: segment(given, "heart", model), lambda: list(segment_phases([given], "heart", model))):
        with pytest.raises(
            InputError, match=rf"not a {type(given).__name__}: read_volume\(FILE\) reads one, and Volume"
        ):
            call()


def test_labels_lie_on_the_grid_of_the_input(result, phantom):
    assert result.labels.shape == phantom.volume.shape
    assert result.labels.dtype == np.uint8
    assert result.volume is phantom.volume
    np.testing.assert_array_equal(result.enhanced.ijk_to_ras, phantom.volume.ijk_to_ras)
    assert result.enhanced.shape == phantom.volume.shape


def test_enhanced_image_keeps_the_grey_range_and_differs(result, phantom):
    original, enhanced = phantom.volume.array, result.enhanced.array
    assert original.min() <= enhanced.min()
    assert enhanced.max() <= original.max()
    assert np.abs(enhanced - original).mean() > 0.01 * np.ptp(original)


def test_says_how_it_went(result, model):
    assert result.model == model.name
    assert result.device == "cpu"
    assert result.task is HEART
    assert result.seconds > 0


def test_same_result_twice(result, phantom, model):
    again = segment(phantom.volume, HEART, model, "cpu")
    np.testing.assert_array_equal(again.labels, result.labels)
    np.testing.assert_array_equal(again.enhanced.array, result.enhanced.array)


def test_input_is_not_changed(phantom, model):
    before = phantom.volume.array.copy()
    segment(phantom.volume, HEART, model, "cpu")
    np.testing.assert_array_equal(phantom.volume.array, before)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (1, 2, 0)])
def test_slices_may_lie_along_any_axis_of_the_array(order, result, phantom, model):
    matrix = phantom.volume.ijk_to_ras.copy()
    matrix[:, :3] = phantom.volume.ijk_to_ras[:, [2 - order[2], 2 - order[1], 2 - order[0]]]
    turned = replace(phantom.volume, array=phantom.volume.array.transpose(order), ijk_to_ras=matrix)
    labels = segment(turned, HEART, model, "cpu").labels.transpose(np.argsort(order))
    assert mean_dice(labels, result.labels) > 0.93


def test_brightness_and_contrast_do_not_matter(result, phantom, model):
    other = phantom.volume.with_array(phantom.volume.array * 7.5 + 300)
    assert mean_dice(segment(other, HEART, model, "cpu").labels, result.labels) > 0.99


def test_single_slice(phantom, model):
    k = int(np.argmax((phantom.labels == 3).sum((1, 2))))
    one = replace(phantom.volume, array=phantom.volume.array[k : k + 1])
    labels = segment(one, HEART, model, "cpu").labels
    assert labels.shape == one.shape
    assert mean_dice(labels, phantom.labels[k : k + 1]) > 0.7


def test_tiny_image_works(phantom, model):
    """Few pixels, that is; what has no room for a heart is refused."""
    tiny = replace(phantom.volume, array=phantom.volume.array[:2, :7, :5])
    with pytest.raises(InputError, match="smaller than what is to be segmented"):
        segment(tiny, HEART, model, "cpu")
    coarse = replace(tiny, ijk_to_ras=tiny.ijk_to_ras @ np.diag([10.0, 10.0, 1.0, 1.0]))
    assert segment(coarse, HEART, model, "cpu").labels.shape == (2, 7, 5)


def test_nothing_found_is_said(model):
    ramp = np.tile(np.arange(140.0), (5, 120, 1))
    volume = Volume(ramp, np.diag([1.5, 1.5, 8.0, 1.0]), name="ramp")
    result = segment(volume, HEART, model, "cpu")
    assert not result.labels.any()
    assert "Nothing was found in 'ramp'" in result.warnings[0]


def test_ct_runs_with_a_warning(phantom, model):
    result = segment(replace(phantom.volume, modality="CT", name="thorax"), HEART, model, "cpu")
    assert any("'thorax' looks like CT" in w for w in result.warnings)
    hounsfield = phantom.volume.with_array(phantom.volume.array - 1000.0)
    assert any("CT" in w for w in segment(replace(hounsfield, modality=None), HEART, model, "cpu").warnings)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers_are_refused(bad, phantom, model):
    array = phantom.volume.array.copy()
    array[3, 4, 5] = bad
    with pytest.raises(InputError, match="1 voxels that are NaN or infinite"):
        segment(phantom.volume.with_array(array), HEART, model, "cpu")


def test_constant_image_is_refused(phantom, model):
    with pytest.raises(InputError, match="constant"):
        segment(phantom.volume.with_array(np.full(phantom.volume.shape, 7.0)), HEART, model, "cpu")


def test_unknown_task_model_and_device(phantom):
    with pytest.raises(InputError, match="no task 'lung'; the tasks are: heart"):
        segment(phantom.volume, "lung")
    with pytest.raises(ModelError, match="no model 'nnU-Net'"):
        segment(phantom.volume, "heart", "nnU-Net")
    with pytest.raises(InputError, match="no device 'tpu'"):
        choose_device("tpu")
    with pytest.raises(InputError, match="no device 'cuda:x'"):
        choose_device("cuda:x")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="has no device 'cuda'"):
            choose_device("cuda")


def test_progress_rises_from_zero_to_one(phantom, model):
    seen: list[tuple[float, str]] = []
    segment(phantom.volume, HEART, model, "cpu", progress=lambda f, text: seen.append((f, text)))
    fractions = [f for f, _ in seen]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0.0
    assert fractions[-1] == 1.0
    assert {text.split(":")[0] for _, text in seen} >= {"Finding the anatomy", "Segmenting"}


@pytest.mark.parametrize("after", [0.0, 0.1, 0.5])
def test_cancel_answers_within_a_second_of_computing(after, phantom, model):
    state = {"asked": 0.0, "fraction": 0.0}

    def progress(fraction: float, _text: str) -> None:
        state["fraction"] = fraction

    def cancelled() -> bool:
        if state["fraction"] >= after and not state["asked"]:
            state["asked"] = time.process_time()
        return bool(state["asked"])

    with pytest.raises(Cancelled):
        segment(phantom.volume, HEART, model, "cpu", progress, cancelled)
    assert time.process_time() - state["asked"] < 1.0


def test_cancel_stops_inside_a_batch(phantom, model):
    """The question is asked between layers: many more times than there are batches."""
    asked = []
    segment(phantom.volume, HEART, model, "cpu", cancelled=lambda: bool(asked.append(1)))
    assert len(asked) > 100
    assert not any(m._forward_pre_hooks for m in model.network.modules())


class Narrow(DIN):
    """A network that has memory for so many slices only, as a small device would."""

    def __init__(self, fits: int) -> None:
        super().__init__(DIN_SMALL)
        self.fits = fits
        self.eval().requires_grad_(False)

    def forward(self, image, enhanced):
        if len(image) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 TiB.")
        return super().forward(image, enhanced)


NOTHING = SliceStack(np.zeros((1, 8, 8), np.float32), (1.0, 1.0), 0)
"""For views that are never sampled."""


def slices(count: int) -> Slices:
    image = torch.rand(count, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Slices(image, image.tanh(), View(NOTHING, (0.0, 0.0), (32, 32), 1.4), torch.arange(count)[:, None])


def probabilities_of(runner: Runner, seen: Slices, mirror: bool = False) -> torch.Tensor:
    return torch.cat(list(runner.batches([seen], len(seen), "Segmenting", 0, 1, mirror)))


def test_out_of_memory_halves_the_batch_and_says_so():
    torch.manual_seed(0)
    network = Narrow(3)
    runner = Runner(network, torch.device("cpu"))
    got = probabilities_of(runner, slices(8))
    assert len(runner.warnings) == 1
    assert "ran out of memory" in runner.warnings[0]
    assert "2 at a time" in runner.warnings[0]
    network.fits = 100
    alone = probabilities_of(Runner(network, torch.device("cpu")), slices(8))
    torch.testing.assert_close(got, alone, atol=2e-2, rtol=0)


def test_out_of_memory_halves_the_slices_that_are_also_shown_mirrored():
    """Of eight slices, sixteen images, four fit; and it stays at two slices for what comes then."""
    torch.manual_seed(0)
    network, sizes = Narrow(4), []
    network.register_forward_hook(lambda _m, inputs, _o: sizes.append(len(inputs[0])))
    runner = Runner(network, torch.device("cpu"))
    got = probabilities_of(runner, slices(8), mirror=True)
    again = probabilities_of(runner, slices(8), mirror=True)
    assert sizes == [4] * 8
    assert len(runner.warnings) == 1 and "2 at a time" in runner.warnings[0]
    network.fits = 100
    alone = probabilities_of(Runner(network, torch.device("cpu")), slices(8), mirror=True)
    torch.testing.assert_close(got, alone, atol=2e-2, rtol=0)
    torch.testing.assert_close(again, got)


def test_no_memory_for_one_slice_goes_to_the_cpu(monkeypatch):
    """The device is asked through the meta device, which is a device and not the CPU, and holds nothing."""
    network = Narrow(0)
    runner = Runner(network, torch.device("cpu"))
    runner.device = torch.device("meta")
    runner._after_out_of_memory(1)
    assert runner.device.type == "cpu" and runner._batch == running.MAX_BATCH["cpu"]
    assert "the CPU was used instead" in runner.warnings[0]
    with pytest.raises(InputError, match="too little memory"):
        runner._after_out_of_memory(1)


def test_other_errors_are_not_taken_for_memory():
    network = Narrow(100)
    with pytest.raises(RuntimeError, match=r"channels|expected"):
        broken = slices(1)
        probabilities_of(
            Runner(network, torch.device("cpu")),
            Slices(broken.image, broken.enhanced, broken.view, torch.zeros(1, 3, dtype=torch.long)),
        )


def test_batch_follows_free_memory(monkeypatch):
    network = Narrow(100)
    sizes: list[int] = []
    network.register_forward_hook(lambda _m, inputs, _o: sizes.append(len(inputs[0])))
    view = slices(1).view
    monkeypatch.setattr(running, "free_memory", lambda _device: 5 * bytes_per_slice(network, view))
    probabilities_of(Runner(network, torch.device("cpu")), slices(6))
    assert sizes == [2, 2, 2]


def test_memory_of_a_slice_is_not_underestimated():
    """Peak of a real forward pass, counted by the allocator of the profiler, against the estimate."""
    network = for_inference(DIN(DIN_SMALL))
    image = torch.rand(4, 1, 128, 128)
    view = View(NOTHING, (0.0, 0.0), (128, 128), 1.4)
    with torch.inference_mode(), torch.profiler.profile(profile_memory=True) as profile:
        network(image, image)
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    assert 0 < peak <= 4 * bytes_per_slice(network, view)


def test_anatomy_is_the_largest_piece():
    probabilities = torch.zeros(3, 4, 40, 60)
    probabilities[:, 0] = 1.0
    probabilities[1:, 0, 10:20, 30:40] = 0.0
    probabilities[0, 0, 35:38, 2:5] = 0.0
    probabilities[2, 0, 10:20, 30:40] = 0.4
    found = find_anatomy(probabilities)
    assert found.center == pytest.approx((14.5, 34.5))
    assert found.probability == pytest.approx((1.0 + 0.6) / 2)
    assert find_anatomy(torch.ones(3, 4, 40, 60)) is None


def test_heart_at_the_edge_of_a_wide_field_of_view(phantom, model, result):
    """The heart is found wherever it lies."""
    rows, columns = phantom.volume.shape[1:]
    width = ((0, 0), (rows, 10), (20, columns))
    wide = replace(
        phantom.volume, array=np.pad(phantom.volume.array, width, constant_values=phantom.volume.array.min())
    )
    labels = segment(wide, HEART, model, "cpu").labels[:, rows:-10, 20:-columns]
    assert mean_dice(labels, result.labels) > 0.93
    assert SliceStack.of(wide).array.shape == wide.shape


@pytest.mark.parametrize("end", ["first", "last"])
def test_heart_in_the_outer_slices_of_a_long_stack(phantom, model, result, end):
    """Where the few slices that are looked at first show none, all others are."""
    image = phantom.volume.array
    empty = np.random.default_rng(0).normal(image.min(), 0.02 * np.ptp(image), (3 * len(image), *image.shape[1:]))
    parts = (image, empty) if end == "first" else (empty, image)
    long = replace(phantom.volume, array=np.concatenate(parts).astype(image.dtype))
    labels = segment(long, HEART, model, "cpu").labels
    heart = slice(0, len(image)) if end == "first" else slice(len(empty), None)
    assert mean_dice(labels[heart], result.labels) > 0.9


@pytest.mark.parametrize("sure", [True, False])
def test_only_where_the_first_slices_leave_doubt_are_others_looked_at(phantom, model, monkeypatch, sure):
    looked = []
    original = anatomy.look

    def note(*arguments, **options):
        batches = list(original(*arguments, **options))
        looked.append(sum(map(len, batches)))
        return batches if sure else [0.6 * out + 0.4 / out.shape[1] for out in batches]

    monkeypatch.setattr(anatomy, "look", note)
    count = len(SliceStack.of(phantom.volume).array)
    assert segment(phantom.volume, HEART, model, "cpu").labels.any()
    assert looked == ([2] if sure else [2, count - 2])


def test_a_network_with_neighbours_sees_the_slices_beside_each_one():
    """Every slice has a grey of its own, so what reaches the network tells which slices it was shown."""
    config = replace(DIN_SMALL, in_channels=3)
    network = for_inference(DIN(config))
    greys = torch.linspace(-0.5, 0.5, 5)
    images = greys[:, None, None].expand(5, 32, 32)
    shown = torch.from_numpy(neighbourhoods(np.arange(5), 5, 3))
    given: list[torch.Tensor] = []
    network.register_forward_pre_hook(lambda _m, inputs: given.append(inputs[0][:, :, 0, 0]))
    out = probabilities_of(
        Runner(network, torch.device("cpu")), Slices(images, images, View(NOTHING, (0.0, 0.0), (32, 32), 1.4), shown)
    )
    assert out.shape == (5, 4, 32, 32)
    padded = torch.cat((torch.tensor([-1.0]), greys, torch.tensor([-1.0])))
    torch.testing.assert_close(torch.cat(given), padded.unfold(0, 3, 1))


def test_mirrored_slices_get_the_mirrored_answer():
    torch.manual_seed(1)
    runner = Runner(for_inference(DIN(DIN_SMALL)), torch.device("cpu"))
    seen = slices(3)
    turned = replace(seen, image=seen.image.flip(-1), enhanced=seen.enhanced.flip(-1))
    alone, mirrored = (probabilities_of(runner, x) for x in (seen, turned))
    assert (alone - mirrored.flip(-1)).abs().max() > 1e-3  # the network itself is not symmetric
    both = probabilities_of(runner, seen, mirror=True)
    torch.testing.assert_close(both, (alone + mirrored.flip(-1)) / 2)
    again = probabilities_of(runner, turned, mirror=True)
    torch.testing.assert_close(again.flip(-1), both, atol=1e-5, rtol=0)


def test_a_model_whose_preprocessing_says_so_is_shown_mirrored_slices(monkeypatch):
    model = load_model(None, HEART)
    volume = heart_phantom(slices=3).volume
    asked = []
    original = Runner.batches

    def note(self, *arguments):
        asked.append(arguments[5])
        return original(self, *arguments)

    monkeypatch.setattr(Runner, "batches", note)
    for mirror in (False, True):
        told = replace(model, preprocessing=replace(model.preprocessing, mirror=mirror))
        segment(volume, HEART, told, "cpu")
    assert asked == [False, False, False, True]  # each time the overview first, which is never mirrored


@pytest.mark.parametrize(
    ("count", "most", "expected"), [(10, 8, 5), (16, 8, 8), (17, 8, 6), (3, 8, 3), (1, 1, 1), (0, 8, 1)]
)
def test_batches_are_of_like_size_and_no_more_than_needed(count, most, expected):
    batch = running.evenly(count, most)
    assert batch == expected <= most
