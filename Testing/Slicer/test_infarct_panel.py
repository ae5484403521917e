"""A heart after an infarct, segmented in the panel: what is shown of it."""

from __future__ import annotations

import dataclasses

import mrml
import pytest
import slicer

pytest.importorskip("PySide6", reason="the panel needs PySide6")

from test_panel import choose, rows, shown
from test_panel_result import segment

from dinsegment.images.segmentation import Segmentation
from dinsegment.measurements.infarct import SEVERAL, infarct_measurements
from dinsegment.phantom.late_enhancement import late_enhancement_phantom
from dinsegment.tasks import get_task

TASK = get_task("infarct")
PHANTOM = {"slices": 6, "size": (96, 104), "spacing": (14.0, 2.2, 2.2)}


@pytest.fixture(scope="module")
def phantom():
    return late_enhancement_phantom(**PHANTOM)


@pytest.fixture
def panel(host, phantom, monkeypatch):
    def truth(volume, task, **options):
        made = mrml.threshold(volume, task, **options)
        labels = phantom.labels[: len(volume.array)]
        return dataclasses.replace(made, labels=labels, findings=(), warnings=())

    widget = host.open_module("DINSegment")
    monkeypatch.setattr(widget.logic, "worker", mrml.InProcess(truth))
    host.pump()
    return widget


def truth_of(phantom):
    return Segmentation(phantom.volume, phantom.labels, TASK, "truth", phantom.volume, "cpu", 0.0)


def add(phantom, name="Late"):
    return mrml.add_volume(slicer.mrmlScene, phantom.volume.array, phantom.volume.ijk_to_ras, name)


def test_its_size_stands_below_the_volumes_and_in_the_table(host, panel, phantom):
    choose(panel, add(phantom))
    segment(host, panel, "segmentInfarctButton")
    assert [name for name, _ml in rows(panel.ui.volumeTable)] == [s.name for s in TASK.segments]
    expected = {m.kind: m.value for m in infarct_measurements(truth_of(phantom))}
    assert shown(panel.ui.functionTable)
    assert rows(panel.ui.functionTable) == [
        ["Infarct, of the muscle", f"{expected['infarct_percent']:.1f} %"],
        ["No-reflow, of the muscle", f"{expected['no_reflow_percent']:.1f} %"],
    ]
    assert panel.parameters.tableNode.GetTable().GetNumberOfRows() == 2 + 4


def test_of_two_images_it_is_said_that_there_is_none(host, panel, phantom):
    choose(panel, add(phantom))
    panel.ui.secondSelector.setCurrentNode(add(phantom, "Late 2"))
    segment(host, panel, "segmentInfarctButton")
    assert rows(panel.ui.functionTable) == [[SEVERAL]]


def test_of_a_stack_that_ends_in_the_ventricle_it_is_said_that_there_is_none(host, panel, phantom):
    cut = dataclasses.replace(phantom.volume, array=phantom.volume.array[:3])
    choose(panel, mrml.add_volume(slicer.mrmlScene, cut.array, cut.ijk_to_ras, "Late"))
    segment(host, panel, "segmentInfarctButton")
    ((why,),) = rows(panel.ui.functionTable)
    assert why.startswith("The left ventricle is cut by the first slice and the last one")
    table = panel.parameters.tableNode.GetTable()
    assert table.GetNumberOfRows() == 4 and table.GetValue(0, 3).ToString() == "ml"
