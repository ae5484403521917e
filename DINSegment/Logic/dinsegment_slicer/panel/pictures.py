"""Pictures that come as PNG, as labels and cells show them."""

from __future__ import annotations

import base64
from typing import Any

import qt

from dinsegment_slicer.running.report_part import Figure


def pixmap_of(png: bytes) -> qt.QPixmap:
    """A picture from the bytes of a PNG file."""
    pixmap = qt.QPixmap()
    pixmap.loadFromData(qt.QByteArray(png), "PNG")
    return pixmap


def icon_of(png_base64: str) -> qt.QIcon:
    """An icon from a PNG file in base64."""
    return qt.QIcon(pixmap_of(base64.b64decode(png_base64)))


def show_picture(label: Any, figure: Figure | None, width: int) -> None:
    """Shows a figure in a label, so many points wide; None hides the label."""
    label.setVisible(figure is not None)
    if figure is None:
        label.clear()
        return
    ratio = label.devicePixelRatioF()
    pixmap = pixmap_of(figure.png).scaledToWidth(round(width * ratio), qt.Qt.SmoothTransformation)
    pixmap.setDevicePixelRatio(ratio)
    label.setPixmap(pixmap)
    label.setToolTip(figure.text)
    label.setAccessibleName(figure.text)
