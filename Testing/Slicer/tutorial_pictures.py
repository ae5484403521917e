"""The pictures of docs/tutorial.md, made anew from the panel as it is, with the generated phantoms.

    python Testing/Slicer/tutorial_pictures.py docs/tutorial

The panel is the real one on the Qt host; the views are drawn by Slicer's own displayable managers.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import matplotlib.image
import numpy as np

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "DINSegment" / "Logic")]

import slicer  # noqa: E402
from host import Host  # noqa: E402
from rendering import render_side_by_side  # noqa: E402

WIDTH = 440
VIEWS = (1500, 900)
"""Width and height of the views, in pixels; of what is wider than high they are lower, and so of three of them."""
WIDE = (1900, 1660)
THREE = (1500, 540)
SCALE = 2


def panel_picture(host, panel, folder):
    """The panel down to its last line: the host's window stays as high as it ever was."""
    path = host.grab(panel.parent, folder / "panel.png", width=WIDTH, scale=SCALE)
    picture = matplotlib.image.imread(path)[..., :3]
    last = np.flatnonzero((np.abs(picture - picture[-1, 0]) > 0.02).any(axis=(1, 2)))[-1]
    return picture[: last + 20 * SCALE]


def views_picture(host, panel, folder, size=VIEWS):
    path = folder / "views.png"
    for _ in range(2):  # At first the views get their size, which they answer by fitting the image again.
        render_side_by_side(panel.views, slicer.app.applicationLogic(), path, size)
        host.pump()
    return matplotlib.image.imread(path)[..., :3]


def side_by_side(left, right):
    """Two pictures as one, top edges aligned, on the colour of the first one's last row."""
    height = max(len(left), len(right))

    def padded(picture, color):
        rest = np.broadcast_to(color, (height - len(picture), picture.shape[1], 3))
        return np.concatenate([picture, rest])

    return np.concatenate([padded(left, left[-1, 0]), padded(right, (0.0, 0.0, 0.0))], axis=1)


def write(picture, path):
    # Half the size is enough to read, and small enough to keep.
    even = picture[: len(picture) // 2 * 2, : picture.shape[1] // 2 * 2]
    small = even.reshape(len(even) // 2, 2, even.shape[1] // 2, 2, 3).mean((1, 3))
    matplotlib.image.imsave(path, (small * 255).round().astype(np.uint8), pil_kwargs={"optimize": True})


def both_pictures(host, panel, folder, size=VIEWS):
    return side_by_side(panel_picture(host, panel, folder), views_picture(host, panel, folder, size))


def finish(host, panel, seconds=900):
    """Until the run is over and everything is shown; a run that failed is no picture."""
    host.wait_until(lambda: not panel.controller.busy, seconds)
    host.pump(0.6)
    if not panel.ui.resultSection.isVisibleTo(panel.parent):
        raise SystemExit(f"The segmentation failed: {panel.ui.messageLabel.text}")


def heart_pictures(host, panel, folder, target):
    from dinsegment_slicer.scene.sample_data import add_cine_phantom, add_heart_phantom

    panel.ui.inputSelector.setCurrentNode(add_heart_phantom(slicer.mrmlScene))
    host.pump(0.2)
    write(panel_picture(host, panel, folder), target / "1-ready.png")

    panel.ui.segmentHeartButton.click()
    host.wait_until(lambda: panel.controller.fraction > 0.2, 300)
    write(panel_picture(host, panel, folder), target / "2-running.png")
    finish(host, panel)
    write(both_pictures(host, panel, folder), target / "3-result.png")

    three_d_picture(host, panel, folder, target / "4-3d.png")

    panel.ui.enhancementSection.collapsed = False
    panel.ui.windowsXSpinBox.setValue(6)
    panel.ui.windowsYSpinBox.setValue(6)
    host.pump(0.6)
    write(both_pictures(host, panel, folder), target / "5-enhancement.png")
    panel.ui.resetEnhancementButton.click()
    panel.ui.enhancementSection.collapsed = True

    browserNode = add_cine_phantom(slicer.mrmlScene, 10)
    panel.ui.inputSelector.setCurrentNode(browserNode.GetMasterSequenceNode())
    panel.ui.segmentHeartButton.click()
    finish(host, panel)
    panel.ui.endSystoleButton.click()
    host.pump(0.6)
    write(both_pictures(host, panel, folder), target / "6-cine.png")

    panel.ui.resultSection.collapsed = True
    report_picture(host, panel, folder, target / "12-report.png")
    panel.ui.modelSection.collapsed = False
    panel.ui.modelComboBox.setCurrentIndex(1)
    host.pump(0.2)
    write(panel_picture(host, panel, folder), target / "7-model.png")
    panel.ui.modelComboBox.setCurrentIndex(0)
    panel.ui.modelSection.collapsed = True


def report_picture(host, panel, folder, path):
    """The section Report of the cine in view, with all that the user may say."""
    ui = panel.ui
    ui.reportSection.collapsed = False
    for edit, text in ((ui.ageEdit, "55"), (ui.heightEdit, "172"), (ui.weightEdit, "70"), (ui.heartRateEdit, "66")):
        edit.setText(text)
        edit.editingFinished.emit()
    ui.sexComboBox.setCurrentIndex(1)
    ui.anteriorButton.click()
    bounds = [0.0] * 6
    panel.parameters.segmentationNode.GetRASBounds(bounds)
    panel.parameters.anteriorNode.AddControlPointWorld(*(sum(bounds[n : n + 2]) / 2 + 30 for n in (0, 2, 4)))
    host.pump(0.5)
    host.wait_until(lambda: not panel.report.reporter.busy, 300)
    host.pump(0.5)
    write(panel_picture(host, panel, folder), path)
    ui.reportSection.collapsed = True


def abdomen_pictures(host, panel, folder, target):
    from mrml import add_volume

    from dinsegment.phantom.ct import abdomen_phantom
    from dinsegment_slicer.scene.sample_data import add_abdomen_phantom, phantom_of

    panel.ui.inputSelector.setCurrentNode(add_abdomen_phantom(slicer.mrmlScene))
    host.pump(0.2)
    panel.ui.segmentAbdomenButton.click()
    finish(host, panel)
    panel.ui.messageCloseButton.click()
    host.pump(0.2)
    write(both_pictures(host, panel, folder, WIDE), target / "9-abdomen.png")
    three_d_picture(host, panel, folder, target / "10-abdomen-3d.png")

    # Too few slices for the organs: there is always something to say.
    volume = abdomen_phantom(**{**phantom_of("abdomen").options, "slices": 40}).volume
    node = add_volume(slicer.mrmlScene, volume.array.astype(np.int16), volume.ijk_to_ras, "AbdomenPhantom, cut")
    panel.ui.inputSelector.setCurrentNode(node)
    panel.ui.segmentAbdomenButton.click()
    finish(host, panel)
    panel.ui.messageCloseButton.click()
    table = panel.ui.findingsTable
    placed = [row for row in range(table.rowCount) if table.item(row, 0).font().underline()]
    if not placed:
        raise SystemExit("Nothing was said of a CT that cuts through organs.")
    table.setCurrentCell(placed[0], 0)
    table.cellClicked.emit(placed[0], 0)
    host.pump(0.2)
    write(both_pictures(host, panel, folder, WIDE), target / "11-findings.png")


def infarct_picture(host, panel, folder, target):
    from mrml import add_volume

    from dinsegment.phantom.late_enhancement import late_enhancement_phantom
    from dinsegment_slicer.scene.sample_data import phantom_of

    volume = late_enhancement_phantom(**phantom_of("infarct").options).volume
    node = add_volume(slicer.mrmlScene, volume.array.astype(np.int16), volume.ijk_to_ras, "LateEnhancementPhantom")
    panel.ui.inputSelector.setCurrentNode(node)
    panel.ui.segmentInfarctButton.click()
    finish(host, panel)
    write(both_pictures(host, panel, folder), target / "13-infarct.png")


def three_d_picture(host, panel, folder, path):
    """The surfaces, beside filled segments."""
    panel.ui.threeDCheckBox.click()
    panel.ui.outlineCheckBox.click()
    host.pump(0.3)
    write(views_picture(host, panel, folder, THREE), path)
    panel.ui.threeDCheckBox.click()
    panel.ui.outlineCheckBox.click()


def message_picture(host, panel, folder, target):
    from dinsegment_slicer.installing.dependencies import Dependencies
    from dinsegment_slicer.scene.sample_data import add_heart_phantom

    slicer.mrmlScene.Clear()
    panel.ui.inputSelector.setCurrentNode(add_heart_phantom(slicer.mrmlScene))
    panel.controller.dependencies = Dependencies(path=[str(folder / "nothing")])
    host.answer("Ok")
    panel.ui.segmentHeartButton.click()
    host.pump(0.2)
    write(panel_picture(host, panel, folder), target / "8-message.png")


def main(target):
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, Host() as host:
        folder = Path(name)
        host.load_module(Path(__file__).parents[2] / "DINSegment" / "DINSegment.py")
        panel = host.open_module("DINSegment")
        panel.ui.reportSection.collapsed = True  # Until it is looked at.
        heart_pictures(host, panel, folder, target)
        slicer.mrmlScene.Clear()
        host.pump(0.2)
        panel.ui.resultSection.collapsed = False
        infarct_picture(host, panel, folder, target)
        slicer.mrmlScene.Clear()
        host.pump(0.2)
        abdomen_pictures(host, panel, folder, target)
        message_picture(host, panel, folder, target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
