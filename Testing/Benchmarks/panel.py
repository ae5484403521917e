"""The panel while it segments: how long a click may have to wait, how long a volume takes, what is left.

    python Testing/Benchmarks/panel.py [IMAGE] [--task abdomen] [--rounds 50]

Runs the real panel on the Qt host with the real worker. IMAGE is a short-axis MR, or an abdominal CT, that SimpleITK
reads; without it the generated phantom is used, for the abdomen with 512 x 512 x 150 voxels. Beside the panel's own
waits stands what the same event loop waits when nothing runs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "Testing" / "Slicer"), str(ROOT / "DINSegment" / "Logic")]

import slicer  # noqa: E402
from host import Host  # noqa: E402

LARGE_CT = {"slices": 150, "spacing": (2.0, 0.75, 0.75), "size": (512, 512)}


def add_image(path, task):
    from mrml import add_volume

    from dinsegment.images import read_volume
    from dinsegment.phantom.ct import abdomen_phantom
    from dinsegment_slicer.scene.sample_data import add_heart_phantom

    if path is None and task == "heart":
        return add_heart_phantom(slicer.mrmlScene)
    volume = read_volume(path) if path is not None else abdomen_phantom(**LARGE_CT).volume
    return add_volume(slicer.mrmlScene, volume.array.astype(np.int16), volume.ijk_to_ras, volume.name)


def segment(host, panel, button):
    """Seconds from the click to the result in the scene, and the longest wait of the event loop meanwhile."""
    began = time.perf_counter()
    with host.responsiveness() as probe:
        button.click()
        host.wait_until(lambda: not panel.controller.busy, 900)
        seconds = time.perf_counter() - began
        host.pump(0.6)
    assert panel.ui.resultSection.isVisibleTo(panel.parent), panel.ui.messageLabel.text
    return seconds, probe.longest


def look(host, panel):
    """What else takes time of a large result, and the longest wait of the event loop meanwhile."""
    import qt  # The host's.

    table = panel.ui.findingsTable

    def correct():
        segmentation = panel.parameters.segmentationNode.GetSegmentation()
        segmentation.InvokeEvent(slicer.vtkSegmentation.SourceRepresentationModified, segmentation.GetNthSegmentID(0))

    actions = {
        "the enhanced image follows a slider": lambda: setattr(panel.ui.gammaSlider, "value", 2.5),
        "a correction is measured": correct,
        "a finding is shown": lambda: table.cellClicked.emit(0, 0),
        "surfaces are made": panel.ui.threeDCheckBox.click,
        "surfaces go": panel.ui.threeDCheckBox.click,
    }
    for name, act in actions.items():
        with host.responsiveness() as probe:
            qt.QTimer.singleShot(0, act)
            host.pump(2.0)
        yield name, probe.longest


def node_ids():
    return [slicer.mrmlScene.GetNthNode(n).GetID() for n in range(slicer.mrmlScene.GetNumberOfNodes())]


def leftovers():
    return len(psutil.Process().children(recursive=True)), len(list(Path(tempfile.gettempdir()).glob("DINSegment-*")))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", nargs="?", type=Path)
    parser.add_argument("--task", choices=("heart", "abdomen"), default="heart")
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    table = Table("", "seconds", "longest wait, ms", title="The panel while it segments")
    with Host() as host:
        host.load_module(ROOT / "DINSegment" / "DINSegment.py")
        panel = host.open_module("DINSegment")
        panel.ui.inputSelector.setCurrentNode(add_image(options.image, options.task))
        button = panel.run.buttons[options.task]
        with host.responsiveness() as probe:
            host.pump(3)
        table.add_row("nothing runs", "3.0", f"{1000 * probe.longest:.0f}")
        panel.logic.close()  # the worker that started when the image was chosen
        cold = None
        for name in ("first volume, cold worker", "second volume", "third volume"):
            seconds, wait = segment(host, panel, button)
            cold = cold or seconds
            table.add_row(name, f"{seconds:.2f}", f"{1000 * wait:.0f}")
        for name, wait in look(host, panel):
            table.add_row(name, "", f"{1000 * wait:.0f}")
        panel.logic.close()

        before, cancels, memory = node_ids(), [], []
        for number in range(options.rounds):
            button.click()
            host.pump(0.8 * cold * (number % 10) / 10)  # each worker is a new one
            assert panel.controller.busy
            began = time.perf_counter()
            panel.ui.cancelButton.click()
            cancels.append(time.perf_counter() - began)
            assert not panel.controller.busy and node_ids() == before and leftovers() == (0, 0)
            memory.append(psutil.Process().memory_info().rss / 1e6)
        grown = memory[-1] - memory[0]
        table.caption = (
            f"{options.rounds} rounds of segment and cancel: longest cancel {max(cancels):.2f} s; no process, file or "
            f"node left after any; the host's memory went from {memory[0]:.0f} to {memory[-1]:.0f} MB ({grown:+.1f} MB)"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
