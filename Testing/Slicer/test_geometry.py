"""Sizes of the panel in the main window: it neither grows nor hides anything, on small screens, with large fonts."""

from __future__ import annotations

import contextlib

import mrml
import pytest
import slicer

pytest.importorskip("PySide6", reason="the panel needs PySide6")

from host import Host
from host.main_window import SMALL_SCREEN
from host.proxies import unwrap
from PySide6.QtCore import QPoint
from PySide6.QtWidgets import QAbstractButton, QApplication, QLabel, QTableWidget, QToolButton, QWidget
from test_correction_section import Answers
from test_panel import add_small_ct, choose, shown, with_findings
from test_report_section import measured
from test_sure_section import ask, drawn, heart

from dinsegment_slicer.scene.sample_data import add_cine_phantom

WIDEST_PANEL = 400
"""What is left of a window of 1024 pixels for the panel, which needs its place for two views, too."""

SECTIONS = ("enhancementSection", "modelSection", "logSection", "resultSection", "findingsSection", "sureSection")


@pytest.fixture(params=[1.0, 1.5], ids=["100 %", "150 %"])
def scale(request):
    """Of all fonts, as the system's setting for large text makes them."""
    with Host():  # Makes the application.
        application = QApplication.instance()
    before = application.font()
    font = application.font()
    font.setPointSizeF(before.pointSizeF() * request.param)
    application.setFont(font)
    yield request.param
    application.setFont(before)


@pytest.fixture
def host(scale, host):
    """With those fonts: they are set before the application opens."""
    return host


@pytest.fixture
def segmenting():
    return mrml.InProcess(with_findings)


def run(host, panel, button):
    button.click()
    host.wait_until(lambda: not panel.controller.busy, 20)
    host.pump(0.5)


def widths(host):
    window = unwrap(host.main_window)
    return window.width(), window.modulePanel().width(), window.modulePanel().minimumSizeHint().width()


def cut(panel) -> list[str]:
    """Widgets of the panel of which something cannot be seen: beyond the edge, or a text that has no room."""
    top = unwrap(panel.parent)
    found = []
    for widget in top.findChildren(QWidget):
        if not widget.isVisible() or not widget.objectName():
            continue
        right = widget.mapTo(top, QPoint(widget.width(), 0)).x()
        if right > top.width():
            found.append(f"{widget.objectName()} ends at {right} of {top.width()}")
        if isinstance(widget, QLabel) and widget.text() and widget.pixmap().isNull():
            if widget.wordWrap() and widget.heightForWidth(widget.width()) > widget.height():
                found.append(f"{widget.objectName()} is too low for its text")
            if not widget.wordWrap() and widget.sizeHint().width() > widget.width():
                found.append(f"{widget.objectName()} is too narrow for '{widget.text()}'")
        is_button = isinstance(widget, QAbstractButton) and not isinstance(widget, QToolButton)
        if is_button and widget.text() and widget.minimumSizeHint().width() > widget.width():
            found.append(f"{widget.objectName()} is too narrow for '{widget.text()}'")
        if isinstance(widget, QTableWidget) and widget.rowCount():
            rows = sum(widget.rowHeight(row) for row in range(widget.rowCount()))
            if rows > widget.viewport().height():
                found.append(f"{widget.objectName()} has {rows} pixels of rows in {widget.viewport().height()}")
            found += [f"{widget.objectName()} has no room for '{word}'" for word in cut_words(widget)]
    return found


def cut_words(table: QTableWidget) -> list[str]:
    """Words that are wider than their column, of tables whose cells may have several lines."""
    if not table.wordWrap():
        return []
    words = []
    for row in range(table.rowCount()):
        for column in range(table.columnCount()):
            item = table.item(row, column)
            left = table.columnWidth(column) - 6 - (0 if item.icon().isNull() else 20)
            words += [w for w in item.text().split() if table.fontMetrics().horizontalAdvance(w) > left]
    return words


def cut_in_the_end(host, panel) -> list[str]:
    """As `cut`, once the report is there and the layout has settled: both take events of their own."""
    measured(host, panel)
    with contextlib.suppress(TimeoutError):
        host.wait_until(lambda: not cut(panel), 10)
    return cut(panel)


class TestWidth:
    def open_and_close_everything(self, host, panel):
        for name in SECTIONS:
            section = getattr(panel.ui, name)
            for _ in range(2):
                section.collapsed = not section.collapsed
                host.pump(0.02)
                yield name

    def test_a_small_screen_is_enough_whatever_is_opened(self, scale, host, panel):
        host.pump()
        assert widths(host)[0] == SMALL_SCREEN[0]
        first = widths(host)[1:]
        assert first[1] <= WIDEST_PANEL * scale
        for section in self.open_and_close_everything(host, panel):
            assert widths(host) == (SMALL_SCREEN[0], *first), section

    def test_results_do_not_widen_it(self, scale, host, panel):
        host.pump()
        before = widths(host)
        choose(panel, add_small_ct())
        for _ in range(4):
            run(host, panel, panel.ui.segmentAbdomenButton)
            assert shown(panel.ui.resultSection) and widths(host) == before
        cine = add_cine_phantom(slicer.mrmlScene, phases=2).GetMasterSequenceNode()
        cine.SetName("A_CINE_SAX_2D_FIESTA_RETRO_WITH_A_NAME_THAT_SCANNERS_GIVE_15SL_30PH_8MM")
        choose(panel, cine)
        run(host, panel, panel.ui.segmentHeartButton)
        assert shown(panel.ui.functionTable) and widths(host) == before
        for section in self.open_and_close_everything(host, panel):
            assert widths(host) == before, section

    def test_a_wider_panel_can_be_made_narrow_again(self, host, panel):
        choose(panel, add_small_ct())
        run(host, panel, panel.ui.segmentAbdomenButton)
        window = unwrap(host.main_window)
        least = widths(host)[2]
        window.resize(1800, 900)
        host.pump(0.1)
        run(host, panel, panel.ui.segmentAbdomenButton)
        window.resize(*SMALL_SCREEN)
        host.pump(0.1)
        assert widths(host)[0] == SMALL_SCREEN[0] and widths(host)[2] == least


class TestTexts:
    def test_nothing_is_cut(self, host, panel):
        host.pump()
        assert cut_in_the_end(host, panel) == []
        for name in SECTIONS:
            getattr(panel.ui, name).collapsed = False
        choose(panel, add_small_ct())
        host.pump(0.1)
        run(host, panel, panel.ui.segmentAbdomenButton)
        assert cut_in_the_end(host, panel) == []

    def test_the_numbers_of_a_cine_with_a_message_and_findings(self, host, panel):
        choose(panel, add_cine_phantom(slicer.mrmlScene, phases=2).GetMasterSequenceNode())
        run(host, panel, panel.ui.segmentHeartButton)
        assert shown(panel.ui.messageFrame) and shown(panel.ui.findingsSection)
        assert cut_in_the_end(host, panel) == []
        tops = [unwrap(getattr(panel.ui, name)).mapTo(unwrap(panel.parent), QPoint(0, 0)).y() for name in BELOW]
        assert tops == sorted(tops)

    def test_intervals_have_room_and_widen_nothing(self, host, panel, monkeypatch):
        monkeypatch.setattr(panel.logic, "worker", Answers(heart, drawn))
        choose(panel, add_cine_phantom(slicer.mrmlScene, phases=2).GetMasterSequenceNode())
        run(host, panel, panel.ui.segmentHeartButton)
        before = widths(host)
        ask(host, panel)
        assert " to " in panel.ui.functionTable.item(1, 1).text() and shown(panel.ui.disagreementSlider)
        assert widths(host) == before and cut_in_the_end(host, panel) == []


BELOW = ("volumeTable", "functionTable", "findingsSection", "sureSection", "editButton")
"""In this order: the numbers come first."""
