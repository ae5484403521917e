"""The script that measures reports: its point on the septum, and the table of diagnoses."""

from __future__ import annotations

import numpy as np
import pytest
from wall_phantoms import cylinder, segmentation

import report as benchmark
from dinsegment.measurements.walls import wall_of


def test_both_walls_are_divided_from_the_end_of_the_experts_septum():
    one = segmentation(cylinder(20.0, 30.0, septum=0.7, offset=4.0))
    point = benchmark.septal_end(one)
    again = wall_of(one, point)
    assert again.named
    assert again.mean_mm == pytest.approx(wall_of(one).mean_mm, abs=0.3)
    assert benchmark.septal_end(segmentation(np.zeros((5, 20, 20)))) is None


def test_the_groups_are_those_of_info_cfg(acdc_folder, tmp_path, capsys):
    split = tmp_path / "split.txt"
    split.write_text("patient002 patient019 patient028 patient030")
    table = benchmark.groups(acdc_folder, split)
    assert {name: of["lv_ef"]["n"] for name, of in table.items()} == {"DCM": 2, "HCM": 2}
    assert table["DCM"]["lv_ef"]["mean"] < 40 < table["HCM"]["lv_ef"]["mean"]
    assert table["HCM"][benchmark.THICKEST]["mean"] > table["DCM"][benchmark.THICKEST]["mean"]
    assert "HCM lv_edv_bsa" in capsys.readouterr().out
