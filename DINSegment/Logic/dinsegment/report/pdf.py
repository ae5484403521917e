"""A report as PDF, laid out by reportlab: one page for a heart, one or two for an abdomen."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from reportlab import rl_config
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Paragraph

from dinsegment.report.bars import Bar, bar_of
from dinsegment.report.content import Report, Row, Table
from dinsegment.report.figures import Picture
from dinsegment.report.fonts import BOLD, REGULAR, marked_up, register_fonts

MARGIN = 34.0
"""On all sides, in points."""

INK, FAINT, BAND, OUTSIDE = HexColor("#1d2127"), HexColor("#b9bfc8"), HexColor("#c9dcee"), HexColor("#a33c00")
POINTS = 72.0
GAP = 6.0

MOST_MARKS = 4
"""Findings that are pointed to beside a name."""

LINE = 10.2
"""Of a row of a table."""


@dataclass(frozen=True)
class Style:
    """Sizes of letters."""

    body: float = 7.2
    title: float = 14.0
    heading: float = 8.2


STYLE = Style()


def write_pdf(report: Report, pictures: Sequence[Picture]) -> bytes:
    """The report as a PDF of A4 pages.

    Args:
        report: What stands in it.
        pictures: In the order in which they are shown.
    """
    register_fonts()
    file = io.BytesIO()
    canvas = Canvas(file, pagesize=A4, pageCompression=1)
    canvas.setTitle(f"{report.title}, DINSegment")
    canvas.setCreator("DINSegment")
    canvas.setSubject(report.note)
    page = _Page(canvas, report)
    page.header()
    for table in report.tables:
        page.table(table)
    with _binary():
        page.pictures(pictures)
    page.texts("Check", report.findings, numbered=True)
    page.texts("Not measured", report.left_out)
    page.texts("How to read it", report.notes)
    page.end()
    canvas.save()
    return file.getvalue()


@contextmanager
def _binary() -> Iterator[None]:
    """Pictures as bytes: as text, which reportlab makes of them, they take half the time of a report and more room."""
    before = rl_config.useA85
    rl_config.useA85 = 0
    try:
        yield
    finally:
        rl_config.useA85 = before


class _Page:
    """Lays parts below each other, and begins a page where one does not fit any more."""

    def __init__(self, canvas: Canvas, report: Report) -> None:
        self._canvas = canvas
        self._report = report
        self._width, self._height = A4
        self._y = self._height - MARGIN
        self._inner = self._width - 2 * MARGIN

    def header(self) -> None:
        canvas = self._canvas
        canvas.setFillColor(INK)
        canvas.setFont(BOLD, STYLE.title)
        self._y -= STYLE.title
        canvas.drawString(MARGIN, self._y, self._report.title)
        canvas.setFont(REGULAR, STYLE.body)
        canvas.drawRightString(self._width - MARGIN, self._y, self._report.made_by)
        self._y -= 3
        known = [(f"<b>{label}</b> ", marked_up(text)) for label, text in self._report.patient]
        # What is short is not broken into lines.
        line = " &nbsp; ".join(
            a.replace(" ", "&nbsp;") + (b.replace(" ", "&nbsp;") if "<" not in b and len(b) < 24 else b)
            for a, b in known
        )
        if line:
            self._paragraph(line, STYLE.body + 0.8)
        canvas.setStrokeColor(FAINT)
        canvas.line(MARGIN, self._y - 2, self._width - MARGIN, self._y - 2)
        self._y -= GAP

    def table(self, table: Table) -> None:
        columns = table.columns
        name_width = 160.0 if table.has_ranges else 125.0
        bar_width = 74.0
        if table.has_ranges:
            widths = [60.0] * len(columns)
            if columns[0]:  # The number has its interval beside it.
                name_width, widths = name_width - 26.0, [98.0, *[54.0] * (len(columns) - 1)]
        else:
            widths = [(self._inner - name_width) * share for share in _shares(table)]
        self._need(LINE * 3)
        canvas = self._canvas
        self._y -= LINE
        canvas.setFillColor(INK)
        canvas.setFont(BOLD, STYLE.heading)
        canvas.drawString(MARGIN, self._y, table.title)
        canvas.setFont(REGULAR, STYLE.body - 0.6)
        x = MARGIN + name_width
        for name, width in zip(columns, widths, strict=True):
            if table.has_ranges:
                canvas.drawRightString(x + width - 4, self._y, name)
            else:
                canvas.drawString(x, self._y, name)
            x += width
        if table.has_ranges and any(row.range_text for row in table.rows):
            canvas.drawString(x + 6, self._y, "Normal")
        self._y -= 2.5
        canvas.setStrokeColor(FAINT)
        canvas.line(MARGIN, self._y, self._width - MARGIN, self._y)
        for row in table.rows:
            self._row(row, name_width, widths, bar_width, table.has_ranges)
        self._y -= GAP - 2

    def _row(self, row: Row, name_width: float, widths: Sequence[float], bar_width: float, ranges: bool) -> None:
        if self._need(LINE):
            self._y -= 4
        canvas = self._canvas
        self._y -= LINE - 1.2
        canvas.setFillColor(INK)
        canvas.setFont(REGULAR, STYLE.body)
        marks = "".join(f" [{mark}]" for mark in row.marks[:MOST_MARKS])
        marks += " …" if len(row.marks) > MOST_MARKS else ""
        name = _fitting(row.name, name_width - 4 - canvas.stringWidth(marks, BOLD, 6))
        canvas.drawString(MARGIN, self._y, name)
        if marks:
            at = MARGIN + canvas.stringWidth(name, REGULAR, STYLE.body)
            canvas.setFillColor(OUTSIDE)
            canvas.setFont(BOLD, 6)
            canvas.drawString(at, self._y, marks)
            canvas.setFillColor(INK)
        x = MARGIN + name_width
        for n, (text, width) in enumerate(zip(row.cells, widths, strict=True)):
            canvas.setFont(BOLD if n == 0 and ranges else REGULAR, STYLE.body)
            if ranges:
                canvas.drawRightString(x + width - 4, self._y, text)
            else:
                canvas.drawString(x, self._y, text)
            x += width
        if row.range is not None and row.value is not None:
            bar = bar_of(row.value, row.range)
            canvas.setFont(REGULAR, STYLE.body - 0.6)
            canvas.drawString(x + 6, self._y, row.range_text)
            self._bar(bar, self._width - MARGIN - bar_width, bar_width)
        if row.remark:
            self._y -= 2
            self._paragraph(
                f'<font color="#a33c00">{marked_up(row.remark)}</font>', STYLE.body - 0.6, MARGIN + name_width
            )
        self._y -= 1.2

    def _bar(self, bar: Bar, x: float, width: float) -> None:
        canvas, y = self._canvas, self._y + 2.4
        canvas.setStrokeColor(FAINT)
        canvas.setLineWidth(0.8)
        canvas.line(x, y, x + width, y)
        canvas.setFillColor(BAND)
        canvas.rect(x + bar.low * width, y - 2.6, (bar.high - bar.low) * width, 5.2, stroke=0, fill=1)
        canvas.setFillColor(INK if bar.place == "within" else OUTSIDE)
        at = x + bar.value * width
        if bar.place == "within":
            canvas.circle(at, y, 2.1, stroke=0, fill=1)
        else:
            # A triangle that points outwards: its place is told by its shape, too.
            way = -1 if bar.place == "below" else 1
            path = canvas.beginPath()
            path.moveTo(at + way * 3.2, y)
            path.lineTo(at - way * 1.6, y + 2.8)
            path.lineTo(at - way * 1.6, y - 2.8)
            path.close()
            canvas.drawPath(path, stroke=0, fill=1)
        canvas.setFillColor(INK)
        canvas.setLineWidth(1)

    def pictures(self, pictures: Sequence[Picture]) -> None:
        """As many beside each other as fit."""
        waiting = list(pictures)
        while waiting:
            line = [waiting.pop(0)]
            while waiting and not waiting[0].new_line:
                if (sum(p.width for p in line) + waiting[0].width) * POINTS > self._inner:
                    break
                line.append(waiting.pop(0))
            width = sum(p.width for p in line) * POINTS
            scale = min(1.0, (self._inner - GAP * (len(line) - 1)) / width)
            height = max(p.height for p in line) * POINTS * scale
            self._need(height + GAP)
            x = MARGIN
            for picture in line:
                w, h = picture.width * POINTS * scale, picture.height * POINTS * scale
                self._canvas.drawImage(ImageReader(io.BytesIO(picture.data)), x, self._y - h, w, h)
                x += w + GAP
            self._y -= height + GAP

    def texts(self, title: str, texts: Sequence[str], numbered: bool = False) -> None:
        if not texts:
            return
        self._need(2 * LINE)
        self._y -= STYLE.heading + 1
        self._canvas.setFillColor(INK)
        self._canvas.setFont(BOLD, STYLE.heading)
        self._canvas.drawString(MARGIN, self._y, title)
        self._y -= 1.5
        for number, text in enumerate(texts, start=1):
            mark = f'<font color="#a33c00"><b>[{number}]</b></font> ' if numbered else ""
            self._paragraph(mark + marked_up(text), STYLE.body - 0.4)

    def end(self) -> None:
        """The line at the foot of the last page."""
        self._foot()

    def _foot(self) -> None:
        canvas = self._canvas
        canvas.setFillColor(INK)
        canvas.setFont(BOLD, STYLE.body)
        canvas.drawString(MARGIN, MARGIN - 12, self._report.note)
        canvas.setFont(REGULAR, STYLE.body - 0.6)
        canvas.drawRightString(self._width - MARGIN, MARGIN - 12, f"Page {canvas.getPageNumber()}")

    def _need(self, height: float) -> bool:
        """Begins a page where there is no room for so much; whether it did."""
        if self._y - height >= MARGIN:
            return False
        self._foot()
        self._canvas.showPage()
        self._y = self._height - MARGIN
        return True

    def _paragraph(self, text: str, size: float, left: float = MARGIN) -> None:
        style = ParagraphStyle("text", fontName=REGULAR, fontSize=size, leading=size * 1.24, textColor=INK)
        paragraph = Paragraph(text, style)
        _, height = paragraph.wrap(self._width - MARGIN - left, self._height)
        self._need(height + 1)
        paragraph.drawOn(self._canvas, left, self._y - height)
        self._y -= height + 1


def _shares(table: Table) -> list[float]:
    """How the width is shared among the cells of a table without ranges: by the longest text in each."""
    longest = [max([len(name), *(len(row.cells[n]) for row in table.rows)]) + 2 for n, name in enumerate(table.columns)]
    return [length / sum(longest) for length in longest]


def _fitting(text: str, width: float) -> str:
    from reportlab.pdfbase.pdfmetrics import stringWidth

    if stringWidth(text, REGULAR, STYLE.body) <= width:
        return text
    while text and stringWidth(f"{text}…", REGULAR, STYLE.body) > width:
        text = text[:-1]
    return f"{text.rstrip()}…"
