"""What benchmarks put into weights.json, on a copy of the one that ships."""

from __future__ import annotations

import json
import shutil

import pytest

from dinsegment.models.entries import LIST, models_list
from model_entry import parser_of, write_part


@pytest.fixture
def weights(tmp_path):
    return shutil.copy(models_list(), tmp_path / LIST)


def test_a_part_goes_to_its_model_and_nothing_else_changes(weights):
    before = json.loads(weights.read_text(encoding="utf-8"))
    name = before["models"][1]["name"]
    write_part(weights, name, "calibration", {"temperature": 1.5, "made": {"command": "größer"}})
    after = json.loads(weights.read_text(encoding="utf-8"))
    assert after["models"][1].pop("calibration")["made"] == {"command": "größer"}
    before["models"][1].pop("calibration", None)
    assert after == before
    write_part(weights, before["models"][0]["name"], "samples", before["models"][0].get("samples"))
    assert "größer" in weights.read_text(encoding="utf-8")


def test_the_file_that_ships_is_written_as_it_is(weights):
    before, first = weights.read_bytes(), json.loads(weights.read_text(encoding="utf-8"))["models"][0]
    write_part(weights, first["name"], "scores", first["scores"])
    assert weights.read_bytes() == before


def test_a_model_that_is_not_there_is_told(weights):
    before = weights.read_bytes()
    with pytest.raises(SystemExit, match="has no model 'nnU-Net'"):
        write_part(weights, "nnU-Net", "calibration", {})
    assert weights.read_bytes() == before


def test_options(tmp_path):
    options = parser_of("What it does.", "abdomen").parse_args(["--data", "acdc", "a.txt", "--data", "more", "b.txt"])
    assert (options.task, options.device, options.write) == ("abdomen", "auto", None)
    assert [[path.name for path in pair] for pair in options.data] == [["acdc", "a.txt"], ["more", "b.txt"]]
