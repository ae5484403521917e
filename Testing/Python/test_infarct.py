"""Infarct size and its place on ventricles whose infarct is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from wall_phantoms import SHAPE, SPACING, cylinder, grid, segmentation

from dinsegment.errors import InputError
from dinsegment.images.samples import Samples
from dinsegment.images.segmentation import OTHER_IMAGE, Finding
from dinsegment.measurements.infarct import OTHER, SEVERAL, infarct_measurements
from dinsegment.measurements.intervals import intervals_of
from dinsegment.measurements.study import MeasureOptions, measure_study
from dinsegment.report.content import report_content
from dinsegment.resources import resource
from dinsegment.tasks import HEART, get_task, read_task

INFARCT = get_task("infarct")
ML = float(np.prod(SPACING)) / 1000


def infarcted(begin: float, end: float, slices: slice = slice(None), depth: float = 31.0, spacing=SPACING, **more):
    """A tube whose muscle is infarcted between two directions, in degrees from x to y, up to a distance from the axis;
    its inner millimetre is no-reflow. It ends before the last slice."""
    _, y, x = grid()
    tube = cylinder(22.0, 31.0)
    labels = np.select([tube == 3, tube == 2], [1, 2]).astype(np.uint8)
    degrees, distance = np.degrees(np.arctan2(y, x)) % 360, np.hypot(y, x)
    hurt = (labels == 2) & (degrees >= begin) & (degrees < end) & (distance < depth)
    hurt[[k for k in range(SHAPE[0]) if k not in range(SHAPE[0])[slices]]] = False
    labels[hurt] = 3
    labels[hurt & (distance < 24.0)] = 4
    return of_labels(np.pad(labels, ((0, 1), (0, 0), (0, 0))), spacing, **more)


def of_labels(labels, spacing=SPACING, **more):
    return replace(segmentation(np.zeros_like(labels), spacing, **more), labels=labels, task=INFARCT)


def numbers(one, anterior=None):
    return {m.key: m for m in infarct_measurements(one, anterior)}


def test_the_size_is_the_share_of_the_whole_muscle():
    found = numbers(infarcted(30, 120))
    assert found["infarct_percent"].value == pytest.approx(25.0, abs=0.5)
    thin = (24.0**2 - 22.0**2) / (31.0**2 - 22.0**2)
    assert found["no_reflow_percent"].value == pytest.approx(25 * thin, abs=1.0)
    assert numbers(infarcted(0, 360))["infarct_percent"].value == 100.0
    assert numbers(infarcted(0, 0))["infarct_percent"].value == 0.0


def test_the_mass_is_that_of_the_infarct_where_the_image_has_a_spacing():
    one = infarcted(30, 120)
    ml = np.pi * (31.0**2 - 22.0**2) / 4 * SPACING[0] * SHAPE[0] / 1000
    assert numbers(one)["infarct_mass"].value == pytest.approx(1.05 * ml, rel=0.03)  # pixels of a circle
    lost = numbers(replace(one, volume=replace(one.volume, ijk_to_ras=np.eye(4))))
    assert lost["infarct_mass"].value is None and "spacing was lost" in lost["infarct_mass"].reason
    assert lost["infarct_percent"].value == pytest.approx(25.0, abs=0.5)


APEX_LAST = np.array([[-1.4, 0, 0, 0], [0, -1.4, 0, 0], [0, 0, -8.0, 0], [0, 0, 0, 1.0]])
"""Columns run to the patient's left, rows to the back, and from slice to slice it goes down."""


def insertion(degrees: float, matrix=APEX_LAST, radius: float = 31.0):
    """The place in RAS at the outer border in that direction from the tube's middle."""
    angle = np.radians(degrees)
    j = (SHAPE[1] - 1) / 2 + radius * np.sin(angle) / SPACING[1]
    i = (SHAPE[2] - 1) / 2 + radius * np.cos(angle) / SPACING[2]
    return tuple((matrix @ (i, j, 4.0, 1.0))[:3])


def test_an_infarct_is_found_in_its_segment():
    # The septum's anterior end at 240 degrees, up and to the patient's right; the septum goes on to 120 degrees.
    one = infarcted(240, 300, slice(0, 3), ijk_to_ras=APEX_LAST)
    one = replace(one, volume=replace(one.volume, dicom=object()))
    found = numbers(one, insertion(240))
    shares = {m.subject: m.value for m in found.values() if m.kind == "infarct_segment"}
    assert len(shares) == 16
    assert shares["Segment 01 basal anterior"] > 95
    assert all(share < 5 for subject, share in shares.items() if subject != "Segment 01 basal anterior")
    total = sum(m.value is not None for m in found.values())
    assert total == 16 + 4


def test_a_patient_who_lies_the_other_way_has_the_mirrored_segments():
    mirrored = np.diag([-1, 1, 1, 1]) @ APEX_LAST  # columns run to the right: the septum is on the other side
    one = infarcted(240, 300, slice(0, 3), ijk_to_ras=mirrored)
    one = replace(one, volume=replace(one.volume, dicom=object()))
    shares = {
        m.subject: m.value for m in infarct_measurements(one, insertion(240, mirrored)) if m.kind == "infarct_segment"
    }
    assert shares["Segment 02 basal anteroseptal"] > 95 and shares["Segment 01 basal anterior"] < 5


@pytest.mark.parametrize(
    ("anterior", "dicom", "said"),
    [(None, object(), "right ventricle is not segmented"), (240, None, "right ventricle is not segmented")],
    ids=["no point", "nobody knows how the patient lies"],
)
def test_without_a_reference_there_are_no_segments_and_why_is_said(anterior, dicom, said):
    one = infarcted(240, 300, ijk_to_ras=APEX_LAST)
    one = replace(one, volume=replace(one.volume, dicom=dicom))
    found = numbers(one, None if anterior is None else insertion(anterior))
    assert found["infarct_segment"].value is None and said in found["infarct_segment"].reason
    assert found["infarct_percent"].value > 0


def test_no_muscle_has_no_infarct():
    one = infarcted(0, 90)
    found = infarct_measurements(replace(one, labels=np.zeros_like(one.labels)))
    assert {m.reason for m in found} == {"No muscle was found."} and len(found) == 5


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (np.s_[:9], "cut by the first slice and the last one"),
        (np.s_[:, 40:], "cut by the edge of the field of view"),
        (np.s_[:, :, :70], "cut by the edge of the field of view"),
        (np.s_[4:5], "A single slice does not show the whole left ventricle"),
    ],
    ids=["along the stack", "in front", "to one side", "one slice"],
)
def test_of_a_ventricle_that_is_cut_there_is_no_number_and_it_is_said_why(part, said):
    whole = infarcted(30, 120)
    found = infarct_measurements(of_labels(whole.labels[part]))
    assert {m.value for m in found} == {None} and {m.kind for m in found} == {
        m.kind for m in infarct_measurements(whole)
    }
    (reason,) = {m.reason for m in found}
    assert said in reason


def test_a_wall_that_is_cut_beside_a_whole_cavity_has_no_size_either():
    whole = infarcted(30, 120)
    rows = np.flatnonzero((whole.labels == 1).any((0, 2)))
    beside_cavity = of_labels(whole.labels[:, rows[0] - 2 :])
    assert not (beside_cavity.labels[:, 0] == 1).any() and (beside_cavity.labels[:, 0] > 1).any()
    assert numbers(beside_cavity)["infarct_percent"].value is None
    just_whole = np.flatnonzero((whole.labels > 1).any((0, 2)))
    assert numbers(of_labels(whole.labels[:, just_whole[0] - 1 :]))["infarct_percent"].value == pytest.approx(25, abs=1)


def test_of_an_image_of_another_kind_there_is_no_size():
    found = infarct_measurements(replace(infarcted(30, 120), findings=(Finding("It is a cine.", kind=OTHER_IMAGE),)))
    assert {m.value for m in found} == {None} and {m.reason for m in found} == {OTHER}


def test_other_tasks_have_none():
    assert infarct_measurements(segmentation(cylinder())) == () and HEART.wall is None


def test_the_report_says_it():
    one = infarcted(240, 300, slice(0, 3), ijk_to_ras=APEX_LAST)
    study = measure_study([one], MeasureOptions())
    assert study.value("infarct_percent") == pytest.approx(100 / 18, abs=0.5)
    report = report_content([one], study)
    tables = {table.title: table for table in report.tables}
    size = f"{study.value('infarct_percent'):.1f} %"
    assert next((row.name, row.cells) for row in tables["Infarct size"].rows) == ("Infarct size", (size,))
    assert "Infarcted walls" not in tables
    assert any("infarcted share" in text and "right ventricle is not segmented" in text for text in report.left_out)
    assert [row.name for row in tables["Infarct size"].rows][1] == "Infarct mass"


def with_draws(one, scales, draws=16, most=0.0):
    """The same with samples of which each has as much muscle, and an infarct of its own size."""
    ml = np.bincount(one.labels.ravel(), minlength=5)[1:] * ML
    volumes = np.tile(ml, (draws, 1))
    volumes[:, 2] += np.linspace(-1, 1, draws) * (most or 0.5 * ml[2])
    return replace(one, samples=Samples("m", volumes, np.zeros(0), scales, {}, draws, 9))


def test_samples_tell_how_far_the_size_can_be_trusted():
    one = with_draws(infarcted(30, 120), {"infarct_percent": 2.0})
    study = measure_study([one])
    (interval,) = intervals_of([one], study).intervals  # nobody has looked at millilitres
    assert interval.measurement.key == "infarct_percent"
    _, sound, infarct, no_reflow = one.samples.volumes_ml.T
    percents = 100 * (infarct + no_reflow) / (sound + infarct + no_reflow)
    reach = 2 * np.std(percents, ddof=1)
    size = study.value("infarct_percent")
    assert (interval.low, interval.high) == (pytest.approx(size - reach), pytest.approx(size + reach))
    tables = {table.title: table for table in report_content([one], study).tables}
    assert tables["Infarct size"].columns == ("Of the muscle (90 % interval)",)
    assert tables["Infarct size"].rows[0].cells == (f"{size:.1f} % ({interval.text})",)
    assert "interval" not in str(tables[INFARCT.title].columns)


def test_an_interval_ends_where_nothing_and_where_all_is_infarcted():
    for end, at in ((14, "low"), (350, "high")):
        one = with_draws(infarcted(0, end), {"infarct_percent": 5000.0}, most=0.2)
        (interval,) = intervals_of([one], measure_study([one])).intervals
        assert getattr(interval, at) == {"low": 0.0, "high": 100.0}[at]


def test_a_wall_that_a_person_has_corrected_has_no_interval():
    one = with_draws(infarcted(30, 120), {"infarct_percent": 2.0})
    found = intervals_of([replace(one, changed=(4,))], measure_study([one]))
    assert not found.intervals and found.corrected


def test_of_several_images_there_is_no_size_and_it_is_said_why():
    one = infarcted(-30, 60)
    study = measure_study([one, one])
    assert {m.value for m in study.measurements} == {None}
    assert {m.kind for m in study.measurements} == {m.kind for m in infarct_measurements(one)}
    assert {m.reason for m in study.measurements} == {SEVERAL}


def test_a_wall_of_labels_that_the_task_lacks_is_refused(tmp_path):
    text = (resource("Tasks") / "infarct.json").read_text(encoding="utf-8")
    path = tmp_path / "infarct.json"
    path.write_text(text.replace('"no_reflow": 4', '"no_reflow": 7'), encoding="utf-8")
    with pytest.raises(InputError, match=r"names labels \[7\]"):
        read_task(path)
