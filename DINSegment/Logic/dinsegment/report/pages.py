"""The files of a report: PDF, HTML, the key picture and a thumbnail of it; one content, one set of figures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from dinsegment.images.segmentation import Segmentation
from dinsegment.measurements.study import StudyMeasurements
from dinsegment.report.content import Report, report_content
from dinsegment.report.figures import Picture, bulls_eyes, curve_colors, key_slices, volume_curve
from dinsegment.report.html import write_html

FEWEST_PHASES = 3
"""Of fewer phases there is no curve."""

THUMBNAIL = (300, 200)
"""Pixels of a thumbnail at most."""


@dataclass(frozen=True, eq=False)
class Pages:
    """A report as files.

    Attributes:
        pdf: The page that is printed and archived.
        html: The same for a browser.
        key_picture: PNG of the key slices.
        thumbnail: PNG of it, small.
        content: What stands in all of them.
    """

    pdf: bytes
    html: bytes
    key_picture: bytes
    thumbnail: bytes
    content: Report


def make_pages(phases: Sequence[Segmentation], study: StudyMeasurements, anonymous: bool = False) -> Pages:
    """Draws and lays out the report of one study.

    Args:
        phases: As they were measured.
        study: What they measure.
        anonymous: As in `content.report_content`.
    """
    from dinsegment.report.pdf import write_pdf  # It takes reportlab, which the figures alone do without.

    content = report_content(phases, study, anonymous)
    pictures = figures_of(phases, study)
    key = pictures[0].data
    return Pages(write_pdf(content, pictures), write_html(content, pictures), key, _thumbnail(key), content)


def figures_of(phases: Sequence[Segmentation], study: StudyMeasurements) -> list[Picture]:
    """All figures that this study has, the key slices first."""
    pictures = [key_slices(phases, study)]
    if study.beat is not None and len(phases) >= FEWEST_PHASES:
        pictures.append(volume_curve(study, curve_colors(phases[0])))
    if study.walls is not None and not study.walls.reason:
        pictures += bulls_eyes(study.walls)
    return pictures


def _thumbnail(png: bytes) -> bytes:
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        small = image.convert("RGB")
        small.thumbnail(THUMBNAIL)
    file = io.BytesIO()
    small.save(file, "PNG", compress_level=6)
    return file.getvalue()
