"""Teaching the model from the panel, with the real process: cases saved, a training stopped, gone on with, and used."""

from __future__ import annotations

import csv
import re
from dataclasses import replace

import numpy as np
import pytest
import slicer
from mrml import add_volume, set_segment

pytest.importorskip("PySide6", reason="the panel needs PySide6")

from phantom_cases import SMALL, write_patients
from test_correction_section import SECTION, labels_now, message
from test_panel import choose, shown
from tiny_runs import CPU, RECIPE, TINY

from dinsegment.inference import segment
from dinsegment.models.entries import find_entry
from dinsegment.phantom.heart import heart_phantom
from dinsegment.tasks import HEART
from dinsegment.training.cases import find_cases
from dinsegment.training.half_made import is_half_made
from dinsegment.training.trainer import train
from dinsegment_slicer.panel.result import ResultNodes
from dinsegment_slicer.running.worker import Worker
from dinsegment_slicer.scene.edits import model_name
from dinsegment_slicer.scene.nodes import volume_from_node

LONG = 600
"""Seconds that are waited at most, on a machine that has much else to do."""

NETWORK = replace(TINY, fusion="input", drop_path=0.0)
"""A single encoder: what is learned and how is not what is looked at here."""

EPOCHS = 16
"""Until it finds a phantom's heart."""


@pytest.fixture(scope="module")
def models(tmp_path_factory, one_thread):
    """A folder with a model that is small enough to be trained within seconds, and finds the phantoms' hearts."""
    folder = tmp_path_factory.mktemp("models")
    cases = write_patients(folder / "cases", 3)
    train(
        replace(RECIPE, network=NETWORK, epochs=EPOCHS, validate_every=EPOCHS), cases, cases[:1], folder / "tiny", CPU
    )
    return folder / "tiny"


@pytest.fixture
def panel(models, host, monkeypatch):
    """The panel, open, with that model as the heart's and a process of its own."""
    monkeypatch.setenv("DINSEGMENT_MODELS", str(models))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # A small network spends its time waiting for threads.
    widget = host.open_module("DINSegment")
    worker = Worker()
    monkeypatch.setattr(widget.logic, "worker", worker)
    host.pump()
    yield widget
    worker.close()


@pytest.fixture
def asked(host, monkeypatch):
    """What the user was asked; the answer is yes."""
    questions = []
    monkeypatch.setattr(f"{SECTION}.ask", lambda question: questions.append(question) or True)
    return questions


def segmented(host, panel, seed):
    """A phantom, segmented by a click; its node and what is right in it."""
    phantom = heart_phantom(seed=seed, **SMALL)
    node = add_volume(slicer.mrmlScene, phantom.volume.array, phantom.volume.ijk_to_ras, f"Heart {seed}")
    choose(panel, node)
    panel.ui.segmentHeartButton.click()
    host.wait_until(lambda: not panel.controller.busy, LONG)
    host.pump(0.5)
    return node, phantom.labels


def corrected(panel, node, labels):
    """The user corrects all that is wrong."""
    segmentationNode = panel.parameters.segmentationNode
    for segment_ in HEART.segments:
        set_segment(segmentationNode, segment_.name, labels == segment_.label, volume_from_node(node).ijk_to_ras)


def train_by_click(panel, host):
    """Presses the button; gives what is told of the progress from then on."""
    told = []
    panel.controller.changed.connect(lambda: told.append((panel.controller.fraction, panel.controller.text)))
    panel.ui.adaptButton.click()
    assert panel.controller.busy, message(panel)
    return told


def rows(run):
    """Of the log of a training: loss of each epoch and the seconds that it took, which are no other run's."""
    if not (run / "log.csv").exists():
        return []
    with (run / "log.csv").open(encoding="utf-8", newline="") as file:
        return [(row["loss"], row["seconds"]) for row in csv.DictReader(file)]


def test_cases_are_saved_and_a_training_is_stopped_gone_on_with_and_used(host, panel, asked, tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.setattr(f"{SECTION}.ask_folder", lambda _title, _start="": folder)
    for seed in (11, 12, 13):
        node, truth = segmented(host, panel, seed)
        corrected(panel, node, truth)
        panel.ui.saveCaseButton.click()
        host.wait_until(lambda: panel.ui.saveCaseButton.enabled, LONG)
        assert "Saved the training case" in message(panel)
        assert np.array_equal(labels_now(panel)[0], truth)
    cases = find_cases(folder, None, HEART)
    assert [case.name for case in cases] == ["Heart_11", "Heart_12", "Heart_13"]
    assert np.array_equal(cases[2].read(HEART)[1], truth)

    # Stopped in the middle.
    start = find_entry(None, HEART).name
    run = tmp_path / f"{start} mine"
    asked.clear()
    told = train_by_click(panel, host)
    assert str(run) in asked[0]
    assert "was stopped there" not in asked[0]
    host.wait_until(lambda: not panel.controller.busy or (len(rows(run)) >= 3 and told[-1][0] > 0), LONG)
    assert panel.controller.busy, message(panel)
    assert shown(panel.ui.progressFrame)
    assert re.match(r"Epoch \d+ of \d+", panel.ui.progressLabel.text)
    assert 0 < panel.ui.progressBar.value < 1000
    panel.ui.cancelButton.click()
    assert not panel.controller.busy
    assert is_half_made(run)
    assert str(run) in message(panel)
    assert "go on with it" in message(panel)
    before = rows(run)
    assert panel.ui.modelComboBox.findData(str(run)) < 0

    # Gone on with.
    told = train_by_click(panel, host)
    assert str(run) in asked[1]
    assert "was stopped there" in asked[1]
    host.wait_until(lambda: not panel.controller.busy, LONG)
    assert not is_half_made(run)
    assert not (tmp_path / f"{start} mine 2").exists()
    after = rows(run)
    assert len(after) > len(before)
    kept = before[:-1]  # It may have been killed before it kept what it had just written into the log.
    assert after[: len(kept)] == kept
    fractions = [fraction for fraction, text in told if text.startswith("Epoch")]
    assert fractions and fractions == sorted(fractions)
    assert "The adapted model is" in message(panel)
    assert "1 held-out case" in message(panel)

    # Offered, chosen, and it segments.
    adapted = find_entry(str(run), HEART).name
    combo = panel.ui.modelComboBox
    combo.setCurrentIndex(combo.findData(str(run)))
    assert combo.currentText == adapted
    assert panel.parameters.model == str(run)
    node, _ = segmented(host, panel, 14)
    (phase,) = ResultNodes(panel.parameters).phases()
    assert model_name(phase.segmentationNode) == adapted
    expected = segment(volume_from_node(node), HEART, str(run), "cpu").labels
    assert set(np.unique(expected)) == {0, 1, 2, 3}
    assert np.array_equal(labels_now(panel)[0], expected)
    shipped = segment(volume_from_node(node), HEART, start, "cpu").labels
    assert not np.array_equal(shipped, expected)
