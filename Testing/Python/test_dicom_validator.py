"""dicom-validator on what is written, where it and its tables of the standard are at hand.

It is not installed with the tests, since it fetches the standard from the network when it is first run:
`pip install dicom-validator`, then `validate_iods FILE` once.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from dicom_cases import SERIES, write_series

from dinsegment.images import read_volumes
from dinsegment.images.segmentation import Segmentation
from dinsegment.studies.results import write_results
from dinsegment.tasks import HEART

TABLES = Path.home() / "dicom-validator"


@pytest.mark.skipif(importlib.util.find_spec("dicom_validator") is None, reason="dicom-validator is not installed.")
@pytest.mark.skipif(not list(TABLES.glob("*/docbook")), reason="dicom-validator has no tables of the standard yet.")
def test_dicom_validator_finds_nothing_in_seg_and_report(tmp_path):
    write_series(tmp_path / "images", SERIES["axial"])
    (volume,) = read_volumes(tmp_path / "images")
    labels = (volume.array > volume.array.mean()).astype("uint8")
    result = Segmentation(volume, labels, HEART, "model", volume, "cpu", 1.0)
    write_results([result], tmp_path / "OUT")
    for name in ("segmentation.dcm", "measurements.dcm"):
        command = [sys.executable, "-m", "dicom_validator.validate_iods", "--edition", "local"]
        done = subprocess.run([*command, str(tmp_path / "OUT" / name)], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
