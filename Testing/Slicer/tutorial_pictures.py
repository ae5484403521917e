"""The pictures of docs/tutorial.md, made anew from the panel as it is, with the generated phantom.

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
SCALE = 2


def panel_picture(host, panel, folder):
    path = host.grab(panel.parent, folder / "panel.png", width=WIDTH, scale=SCALE)
    return matplotlib.image.imread(path)[..., :3]


def views_picture(host, panel, folder):
    path = folder / "views.png"
    for _ in range(2):  # At first the views get their size, which they answer by fitting the image again.
        render_side_by_side(panel.views, slicer.app.applicationLogic(), path, VIEWS)
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


def main(target):
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, Host() as host:
        folder = Path(name)
        host.load_module(Path(__file__).parents[2] / "DINSegment" / "DINSegment.py")
        from dinsegment_slicer.sample_data import add_cine_phantom, add_heart_phantom

        panel = host.open_module("DINSegment")
        panel.ui.inputSelector.setCurrentNode(add_heart_phantom(slicer.mrmlScene))
        host.pump(0.2)
        write(panel_picture(host, panel, folder), target / "1-ready.png")

        panel.ui.segmentHeartButton.click()
        host.wait_until(lambda: panel.controller.fraction > 0.3, 120)
        write(panel_picture(host, panel, folder), target / "2-running.png")
        host.wait_until(lambda: not panel.controller.busy, 120)
        host.pump(0.6)
        picture = side_by_side(panel_picture(host, panel, folder), views_picture(host, panel, folder))
        write(picture, target / "3-result.png")

        panel.ui.threeDCheckBox.click()
        panel.ui.outlineCheckBox.click()
        host.pump(0.3)
        write(views_picture(host, panel, folder), target / "4-3d.png")
        panel.ui.threeDCheckBox.click()
        panel.ui.outlineCheckBox.click()

        panel.ui.enhancementSection.collapsed = False
        panel.ui.windowsXSpinBox.setValue(6)
        panel.ui.windowsYSpinBox.setValue(6)
        host.pump(0.6)
        picture = side_by_side(panel_picture(host, panel, folder), views_picture(host, panel, folder))
        write(picture, target / "5-enhancement.png")
        panel.ui.resetEnhancementButton.click()
        panel.ui.enhancementSection.collapsed = True

        browserNode = add_cine_phantom(slicer.mrmlScene, 10)
        panel.ui.inputSelector.setCurrentNode(browserNode.GetMasterSequenceNode())
        panel.ui.segmentHeartButton.click()
        host.wait_until(lambda: not panel.controller.busy, 300)
        panel.ui.endSystoleButton.click()
        host.pump(0.6)
        picture = side_by_side(panel_picture(host, panel, folder), views_picture(host, panel, folder))
        write(picture, target / "6-cine.png")

        panel.ui.resultSection.collapsed = True
        panel.ui.modelSection.collapsed = False
        host.pump(0.2)
        write(panel_picture(host, panel, folder), target / "7-model.png")

        from dinsegment_slicer.dependencies import Dependencies

        panel.controller.dependencies = Dependencies(path=[name])
        host.answer("Ok")
        panel.ui.modelSection.collapsed = True
        panel.ui.segmentHeartButton.click()
        host.pump(0.2)
        write(panel_picture(host, panel, folder), target / "8-message.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
