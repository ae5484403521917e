"""What keeps a report in step: the real process, the latest state, pages, and what is said when something fails."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pypdfium2
import pytest
from test_walls import in_front
from wall_phantoms import SHAPE, cylinder, segmentation

from dinsegment.errors import InputError
from dinsegment.measurements.study import measure_study
from dinsegment_slicer.running.report_part import Page, ReportInput, ReportPhase
from dinsegment_slicer.running.reporter import Reporter

RADII = (22, 19, 16, 20)


def phases_of(radii=RADII):
    found = []
    for radius in radii:
        labels = cylinder(radius, 31.0)
        labels[[0, -1]] = 0
        found.append(segmentation(labels))
    return found


def source(radii=RADII, **more):
    """As the panel gathers it, each phase cut to what is labelled."""
    made = phases_of(radii)
    phases = []
    for n, one in enumerate(made):
        filled = [np.flatnonzero(one.labels.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
        part = tuple(slice(int(f[0]), int(f[-1]) + 1) for f in filled)
        first = tuple(p.start for p in part)
        phases.append(ReportPhase(one.labels[part], first, 100.0 * n, (), one.volume.array.astype(np.int16)))
    known = ReportInput("Cine", made[0].volume.ijk_to_ras, "MR", "heart", "truth", phases)
    return replace(known, **more)


class Told:
    """What a reporter said."""

    def __init__(self, reporter):
        self.measured, self.drawn, self.failed, self.saved, self.notSaved = [], [], [], [], []
        for name in vars(self):
            getattr(reporter, name).connect(getattr(self, name).append)


@pytest.fixture
def given():
    """What there is to measure."""
    return {"now": source(anterior=in_front())}


@pytest.fixture
def reporter(report_worker, given):
    def gather():
        if isinstance(given["now"], Exception):
            raise given["now"]
        return given["now"]

    reporter = Reporter(gather, report_worker)
    yield reporter
    reporter.stop()


def finish(reporter, seconds=120):
    end = time.monotonic() + seconds
    while reporter.busy:
        assert time.monotonic() < end
        reporter.tick()
        time.sleep(0.01)


class TestMeasuring:
    def test_numbers_walls_and_figures(self, reporter):
        told = Told(reporter)
        reporter.update()
        finish(reporter)
        (measured,) = told.measured
        expected = {m.key: m.value for m in measure_study(phases_of()).measurements}
        got = {m["key"]: m["value"] for m in measured.measurements}
        assert got["lv_ef"] == pytest.approx(expected["lv_ef"]) and got["rv_edv"] == pytest.approx(expected["rv_edv"])
        assert measured.walls["named"] and set(np.unique(measured.wall_labels)) == set(range(17))
        (figures,) = told.drawn
        assert [f.name for f in figures] == ["curve", "wall_ed", "wall_es", "thickening"]
        assert all(f.png.startswith(b"\x89PNG") for f in figures)
        assert told.failed == told.saved == told.notSaved == []

    def test_what_changes_meanwhile_is_measured_at_once_and_drawn_once(self, reporter, given):
        told = Told(reporter)
        reporter.update()
        reporter.tick()  # The first one is on its way.
        for radii in ((22, 18, 14), (22, 18, 12)):
            given["now"] = source(radii)
            reporter.update()
        finish(reporter)
        assert len(told.measured) == 2 and len(told.drawn) == 1
        last = {m["key"]: m["value"] for m in told.measured[-1].measurements}
        study = measure_study(phases_of((22, 18, 12)))
        assert last["lv_esv"] == pytest.approx(study.value("lv_esv"))

    def test_nothing_to_measure(self, reporter, given):
        told = Told(reporter)
        given["now"] = None
        reporter.update()
        finish(reporter)
        assert vars(told) == {name: [] for name in vars(told)}

    def test_what_cannot_be_gathered_is_said(self, reporter, given):
        told = Told(reporter)
        given["now"] = InputError("There is no image.")
        reporter.update()
        finish(reporter)
        assert told.failed == ["There is no image."]

    def test_what_the_worker_refuses_is_said(self, reporter, given):
        told = Told(reporter)
        empty = [replace(phase, labels=np.zeros_like(phase.labels)) for phase in given["now"].phases]
        given["now"] = replace(given["now"], phases=empty)
        reporter.update()
        finish(reporter)
        assert told.failed == ["'Cine' has no segment of heart: there is nothing to measure."]
        given["now"] = source()
        reporter.update()
        finish(reporter)
        assert len(told.measured) == 1  # The process serves on.

    def test_a_process_that_was_ended_is_started_again(self, reporter, report_worker):
        told = Told(reporter)
        reporter.update()
        while not told.measured:
            reporter.tick()
            time.sleep(0.01)
        report_worker.end_process()  # Before the figures: they are of what the process has measured.
        finish(reporter)
        assert len(told.measured) == 2 and len(told.drawn) == 1 and not told.failed

    def test_stopped_nothing_is_said_any_more(self, reporter):
        told = Told(reporter)
        reporter.update()
        reporter.tick()
        reporter.stop()
        assert not reporter.busy
        finish(reporter)
        assert vars(told) == {name: [] for name in vars(told)}


class TestPages:
    def test_a_page_still_waits_when_measuring_fails(self, reporter, given, tmp_path):
        told = Told(reporter)
        good = given["now"]
        empty = [replace(phase, labels=np.zeros_like(phase.labels)) for phase in good.phases]
        given["now"] = replace(good, phases=empty)
        reporter.update()
        reporter.tick()  # It is being measured, and will fail.
        given["now"] = good
        reporter.write(Page(tmp_path / "a.html", False))
        finish(reporter)
        assert told.failed == ["'Cine' has no segment of heart: there is nothing to measure."]
        assert told.notSaved == [] and told.saved == [tmp_path / "a.html"]

    def test_a_page_that_cannot_be_gathered_is_said_once(self, reporter, given, tmp_path):
        told = Told(reporter)
        given["now"] = RuntimeError("Nobody expected that")
        reporter.write(Page(tmp_path / "a.html", False))
        finish(reporter, 5)
        assert len(told.notSaved) == 1 and "Nobody expected that" in told.notSaved[0]

    def test_pdf_and_html(self, reporter, tmp_path):
        told = Told(reporter)
        for page in (Page(tmp_path / "a.pdf", False), Page(tmp_path / "a.html", True)):
            reporter.write(page)
        assert reporter.writing
        finish(reporter)
        assert told.saved == [tmp_path / "a.pdf", tmp_path / "a.html"] and not reporter.writing
        text = pypdfium2.PdfDocument(tmp_path / "a.pdf")[0].get_textpage().get_text_range()
        assert "Ejection fraction" in text and "Cine" in text
        assert "Cine" not in (tmp_path / "a.html").read_text(encoding="utf-8")

    def test_a_page_that_cannot_be_written_and_the_next_one(self, reporter, tmp_path):
        told = Told(reporter)
        reporter.write(Page(tmp_path / "nowhere" / "a.pdf", False))
        reporter.write(Page(tmp_path / "a.html", False))
        reporter.update()
        finish(reporter)
        assert "nowhere" in told.notSaved[0] and told.saved == [tmp_path / "a.html"]
        assert len(told.measured) == 1 and not told.failed

    def test_of_nothing(self, reporter, given, tmp_path):
        told = Told(reporter)
        given["now"] = None
        reporter.write(Page(tmp_path / "a.pdf", False))
        finish(reporter)
        assert told.notSaved == ["There is no result: segment an image first."]

    def test_drawn_figures_are_still_of_what_was_measured(self, reporter, tmp_path):
        """A page that is written between the numbers and the figures does not make them unknown."""
        told = Told(reporter)
        reporter.update()
        while not told.measured:
            reporter.tick()
            time.sleep(0.01)
        reporter.write(Page(tmp_path / "a.html", False))
        finish(reporter)
        assert len(told.measured) == 1 and len(told.drawn) == 1 and told.saved


def test_grids_are_those_of_the_input():
    assert source().phases[0].image.shape == SHAPE
