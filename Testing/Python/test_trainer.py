"""The trainer: killed and resumed, several processes, time limits, packs, logs and pretrained weights."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import pickle
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import timm
import tiny_runs
import torch
from phantom_cases import write_patients
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_runs import CPU, RECIPE, SHARED, TINY
from typer.testing import CliRunner

import forked
from dinsegment.cli import app
from dinsegment.errors import InputError, ModelError
from dinsegment.inference.model import load_model
from dinsegment.models.entries import find_entry
from dinsegment.network import DIN, DINConfig, build_network
from dinsegment.tasks import HEART
from dinsegment.training import pretrained, run_options
from dinsegment.training.pack import read_pack, write_pack
from dinsegment.training.run_options import make_fabric
from dinsegment.training.trainer import Trainer, train


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Four images of two patients, 20 slices: five steps an epoch."""
    return write_patients(tmp_path_factory.mktemp("data"), 2)


@pytest.fixture(scope="module")
def whole(cases, tmp_path_factory):
    """A run from the first to the last epoch."""
    trainer = Trainer(RECIPE, cases, cases[:1], tmp_path_factory.mktemp("whole"), options=CPU)
    trainer.run()
    return trainer


def without_time(history):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


RUNS = {"epoch": (None, 0), "steps": (0.0, 2)}
"""Runs by what they leave a checkpoint after: the minutes between two, and the steps of an epoch in the last one."""


@pytest.fixture(scope="module")
def killed(cases, tmp_path_factory):
    """A folder with those runs, killed in the middle of the second epoch."""
    folder = tmp_path_factory.mktemp("killed")
    runs = [(folder / name, minutes) for name, (minutes, _done) in RUNS.items()]
    code = "import pickle, sys, tiny_runs; tiny_runs.run_killed(*pickle.load(sys.stdin.buffer))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    forked.run([sys.executable, "-c", code], input=pickle.dumps((cases, runs)), env=environment, check=True)
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_a_killed_run_goes_on_as_if_it_had_not_been(whole, cases, killed, name):
    output, done = killed / name, RUNS[name][1]
    state = torch.load(output / "checkpoint.pt", weights_only=True)["state"]
    assert (state["epoch"], state["step"], len(state["losses"])) == (1, 5 + done, done)
    torch.manual_seed(99)
    resumed = Trainer(RECIPE, cases, cases[:1], output, options=CPU)
    resumed.run(resume=True)
    assert without_time(resumed.state.history) == without_time(whole.state.history)
    assert_same_weights(resumed.network.state_dict(), whole.network.state_dict())
    for file in ("best.safetensors", "last.safetensors"):
        assert_same_weights(load_file(output / file), load_file(whole.output / file))


def test_a_time_limit_stops_with_a_checkpoint_and_the_run_goes_on(whole, cases, tmp_path, capsys):
    class Slow(Trainer):
        def _step(self, *batch):
            if self.state.step == 3:
                self.started -= 600  # as if the limit were over
            return super()._step(*batch)

    stopped = Slow(RECIPE, cases, cases[:1], tmp_path, options=replace(CPU, minutes=5))
    state = stopped.run()
    assert not state.finished and (state.epoch, state.step, len(state.losses)) == (0, 4, 4)
    assert "Stopped before 5 minutes" in capsys.readouterr().out
    resumed = Trainer(RECIPE, cases, cases[:1], tmp_path, options=CPU).run(resume=True)
    assert resumed.finished and without_time(resumed.history) == without_time(whole.state.history)


def test_a_checkpoint_of_another_recipe_is_refused(whole, cases):
    other = Trainer(replace(RECIPE, learning_rate=1e-3), cases, cases[:1], whole.output, options=CPU)
    with pytest.raises(InputError, match=r"another recipe or other cases \(learning_rate .*, not 0\.001\)"):
        other.run(resume=True)


def test_what_differs_from_a_checkpoint_is_named(whole, cases):
    more = [*cases, *cases]
    recipe = replace(RECIPE, epochs=RECIPE.epochs + 1, augmentation=replace(RECIPE.augmentation, rotation=0.0))
    other = Trainer(recipe, more, cases[:1], whole.output, options=CPU)
    with pytest.raises(InputError) as caught:
        other.run(resume=True)
    text = str(caught.value)
    assert "slices, not " in text
    assert f"epochs {RECIPE.epochs}, not {RECIPE.epochs + 1}" in text and "another augmentation" in text


def test_logs_and_curves_tell_every_epoch(whole):
    with (whole.output / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == [row["loss"] for row in whole.state.history]
    board = EventAccumulator(str(whole.output / "tensorboard")).Reload()
    assert [e.step for e in board.Scalars("loss")] == [1, 2]
    assert [e.value for e in board.Scalars("loss")] == pytest.approx([row["loss"] for row in whole.state.history])
    dice = board.Scalars("validation on the images' own grids/dice")
    assert [e.value for e in dice] == pytest.approx([row["dice"] for row in whole.state.history])
    assert (whole.output / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert_same_weights(
        load_file(whole.output / "last.safetensors"),
        {k: v.contiguous() for k, v in whole.average.module.state_dict().items()},
    )


def test_a_run_on_a_pack_validates_on_its_grid(cases, tmp_path, capsys):
    write_pack(cases[:2], cases[2:3], HEART, RECIPE.preprocessing, tmp_path / "pack")
    pack = read_pack(tmp_path / "pack")
    state = train(replace(RECIPE, epochs=1), pack.train, pack.validation, tmp_path / "run", CPU)
    assert state.finished and np.isfinite(state.history[0]["dice"])
    assert "on the packed grid" in capsys.readouterr().out
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert "validation on the packed grid/dice" in board.Tags()["scalars"]


def test_without_validation_the_weights_of_the_last_epoch_are_the_runs(cases, tmp_path):
    state = train(RECIPE, cases[:2], [], tmp_path, CPU)
    assert state.finished and all(row.keys() == {"epoch", "loss", "seconds"} for row in state.history)
    best, last = (load_file(tmp_path / f"{name}.safetensors") for name in ("best", "last"))
    assert_same_weights(best, last)
    entry = find_entry(str(tmp_path), HEART)
    assert entry.data["split"] == "2 training and 0 validation cases"
    assert load_model(str(tmp_path), HEART).name == entry.name


# --- several processes ----------------------------------------------------------------------------


class PerHalf(torch.nn.BatchNorm2d):
    """Normalises each half of a batch by itself, as two processes on CPUs do; the first one's statistics are kept."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        first, second = x.chunk(2)
        other = torch.nn.functional.batch_norm(second, None, None, self.weight, self.bias, True, 0.0, self.eps)
        return torch.cat((super().forward(first), other))


def test_two_processes_learn_what_one_learns(cases, tmp_path, monkeypatch):
    monkeypatch.setattr(run_options, "autocast_dtype", lambda device: None)  # float32 rounds little
    make_fabric(replace(CPU, devices=2)).launch(partial(tiny_runs.run_one_of_two, cases=cases, output=tmp_path))
    ranks = [torch.load(tmp_path / f"rank{n}.pt", weights_only=True) for n in range(2)]
    parameters = dict(DIN(SHARED.network).named_parameters())
    for name in parameters:
        assert torch.equal(ranks[0][name], ranks[1][name]), name
    trainer = Trainer(SHARED, cases, cases[:1], tmp_path / "one", options=CPU)
    start = {k: v.clone() for k, v in trainer.network.state_dict().items()}
    for module in trainer.network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.__class__ = PerHalf
    state = trainer.run()
    moved = sum(float((trainer.network.state_dict()[n] - start[n]).norm() ** 2) for n in parameters) ** 0.5
    apart = sum(float((trainer.network.state_dict()[n] - ranks[0][n]).norm() ** 2) for n in parameters) ** 0.5
    assert moved > 0.02 and apart < 0.02 * moved
    with (tmp_path / "log.csv").open(newline="") as file:
        assert float(next(csv.DictReader(file))["loss"]) == pytest.approx(state.history[0]["loss"], rel=1e-4)


def test_a_batch_that_cannot_be_shared_is_refused(cases, tmp_path):
    class Three:
        world_size, device = 3, torch.device("cpu")

    with pytest.raises(InputError, match="4 slices cannot be shared evenly by 3 devices"):
        Trainer(RECIPE, cases, cases[:1], tmp_path, options=CPU, fabric=Three())


# --- pretrained weights ---------------------------------------------------------------------------


def test_pretrained_weights_reach_both_encoders(monkeypatch):
    config = DINConfig(dims=(96, 192, 384, 768), depths=(3, 3, 9, 3), stem_stride=4, decoder_dim=8, merge_kernel=1)
    network = DIN(replace(config, heads=(1, 1, 1, 1), expand_kernel=1, decoder_layers=1))
    source = timm.create_model("convnext_tiny", pretrained=False)
    # The network is not reached here; what is loaded is what timm would give.
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: source)
    stem = network.encoder_i.down[0][0].weight.clone()
    count = pretrained.load_pretrained(network)
    names = set(network.encoder_i.state_dict())
    assert count == len([n for n in names if not n.startswith(("edge.0", "down.0"))])
    for encoder in (network.encoder_i, network.encoder_e):
        assert torch.equal(encoder.blocks[2][8].mlp.fc1.weight, source.stages[2].blocks[8].mlp.fc1.weight)
        for layers in (encoder.edge, encoder.down):
            assert torch.equal(layers[3][1].weight, source.stages[3].downsample[1].weight)
    assert torch.equal(stem, network.encoder_i.down[0][0].weight)


def test_without_network_pretrained_weights_are_one_sentence(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setitem(pretrained.SOURCES, (TINY.dims, TINY.depths), "convnext_atto")
    started = time.perf_counter()
    with pytest.raises(ModelError, match="could not be downloaded and are not on this machine") as caught:
        pretrained.load_pretrained(DIN(TINY))
    assert "\n" not in str(caught.value) and time.perf_counter() - started < 30


def test_without_timm_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(pretrained.SOURCES, (TINY.dims, TINY.depths), "convnext_atto")
    monkeypatch.setitem(sys.modules, "timm", None)  # as if it could not be imported
    with pytest.raises(InputError, match=r"need the package 'timm'.*pip install 'dinsegment\[train\]'"):
        pretrained.load_pretrained(DIN(TINY))


def test_a_network_without_pretrained_weights_says_so(cases, tmp_path):
    trainer = Trainer(RECIPE, cases, cases[:1], tmp_path, options=replace(CPU, pretrained=True))
    with pytest.raises(InputError, match="no pretrained weights for channels"):
        trainer.run()


def test_a_model_that_sees_one_slice_starts_one_that_sees_its_neighbours(tmp_path):
    torch.manual_seed(3)
    alone, wide = DIN(TINY).eval(), DIN(replace(TINY, in_channels=3)).eval()
    save_file(alone.state_dict(), tmp_path / "alone.safetensors")
    pretrained.load_start(wide, str(tmp_path / "alone.safetensors"))
    image = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        expected, got = alone(image[:, 1:2], image[:, 1:2] ** 2), wide(image, image**2)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_a_model_of_another_task_gives_all_but_the_last_layer(tmp_path):
    torch.manual_seed(3)
    heart, abdomen = DIN(TINY), DIN(replace(TINY, classes=9, in_channels=3))
    save_file(heart.state_dict(), tmp_path / "heart.safetensors")
    before = {name: value.clone() for name, value in abdomen.state_dict().items()}
    pretrained.load_start(abdomen, str(tmp_path / "heart.safetensors"))
    own = {"decoder.classify.weight", "decoder.classify.bias"}
    stems = 0
    for name, value in abdomen.state_dict().items():
        taken = heart.state_dict()[name]
        if name in own:
            assert torch.equal(value, before[name]) and value.shape != taken.shape
        elif value.shape != taken.shape:  # a first convolution: what was there sees the slice, nothing its neighbours
            assert torch.equal(value[:, 1:2], taken) and not value[:, ::2].any()
            stems += 1
        else:
            assert torch.equal(value, taken), name
    assert stems > 0
    # And back: fewer classes.
    save_file(abdomen.state_dict(), tmp_path / "abdomen.safetensors")
    other = DIN(replace(TINY, in_channels=3))
    pretrained.load_start(other, str(tmp_path / "abdomen.safetensors"))
    assert torch.equal(other.decoder.fuse.weight, abdomen.decoder.fuse.weight)


def test_a_run_starts_from_the_weights_of_a_model(cases, tmp_path):
    torch.manual_seed(3)
    save_file(DIN(TINY).state_dict(), tmp_path / "start.safetensors")
    still = replace(RECIPE, learning_rate=0.0, epochs=1)
    options = replace(CPU, start=str(tmp_path / "start.safetensors"))
    Trainer(still, cases, cases[:1], tmp_path / "run", options=options).run()
    started, ended = (load_file(tmp_path / name) for name in ("start.safetensors", "run/last.safetensors"))
    for name, _ in DIN(TINY).named_parameters():  # the buffers are running means of what was seen
        value = started[name]
        torch.testing.assert_close(ended[name].float(), value, rtol=1e-2, atol=1e-2)


def test_weights_of_another_network_are_one_sentence(cases, tmp_path):
    save_file(DIN(replace(TINY, decoder_dim=12)).state_dict(), tmp_path / "other.safetensors")
    for start, message in (
        (str(tmp_path / "other.safetensors"), "another network's"),
        (str(Path(__file__)), "cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            Trainer(RECIPE, cases, cases[:1], tmp_path, options=replace(CPU, start=start)).run()
    with pytest.raises(ModelError, match="no-such-model"):
        Trainer(RECIPE, cases, cases[:1], tmp_path, options=replace(CPU, start="no-such-model")).run()


def test_the_folder_of_a_run_is_a_model(whole, cases, tmp_path):
    model = load_model(str(whole.output), HEART)
    best = build_network(RECIPE.network).eval()
    best.load_state_dict(load_file(whole.output / "best.safetensors"))
    content = (whole.output / "best.safetensors").read_bytes()
    assert model.name == f"{whole.output.name}-{hashlib.sha256(content).hexdigest()[:8]}"
    assert model.preprocessing == RECIPE.preprocessing
    images = torch.rand(2, 1, RECIPE.network.in_channels, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(model.network(*images), best(*images), atol=1e-4, rtol=0)
    command = ["segment", str(cases[0].image), "--task", "heart", "--device", "cpu"]
    result = CliRunner().invoke(app, [*command, "--model", str(whole.output), "--output", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "out" / "measurements.json").read_text(encoding="utf-8"))["model"] == model.name
    (entry,) = json.loads((whole.output / "weights.json").read_text(encoding="utf-8"))["models"]
    assert entry["scores"] == {} and entry["data"]["name"] == "data of a training run"
    assert RECIPE.name in entry["description"]
