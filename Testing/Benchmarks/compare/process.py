"""A fresh process in which one tool is prepared or measured, or the machine, or DINSegment's growth.

`python -m compare.process FOLDER JOB [TOOL]`; what FOLDER holds is written by `write_job`. What was measured goes into
FOLDER/result.json: `content`, or `error` with a text that a user reads as it stands, and `at`, which says when the tool
was `loaded` and when its `first` result was there, by the clock that processes share.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from compare.cores import use_cores
from compare.tools import TOOLS, Setting, prepare_tool
from dinsegment.errors import DINSegmentError
from dinsegment.images.volume import Volume

SETTING, ARRAY, RESULT = "setting.json", "volume.npy", "result.json"


def write_job(folder: Path, setting: Setting, volume: Volume) -> None:
    """Writes what a process reads: the setting and the volume, as an array in memory would be."""
    np.save(folder / ARRAY, volume.array)
    content = {"setting": asdict(setting), "name": volume.name, "ijk_to_ras": volume.ijk_to_ras.tolist()}
    (folder / SETTING).write_text(json.dumps(content), encoding="utf-8")


def read_job(folder: Path) -> tuple[Setting, Volume]:
    """What `write_job` wrote."""
    content = json.loads((folder / SETTING).read_text(encoding="utf-8"))
    volume = Volume(np.load(folder / ARRAY), np.array(content["ijk_to_ras"]), name=content["name"])
    return Setting(**content["setting"]), volume


def tool_folder(folder: Path, name: str) -> Path:
    """Where a tool's files are; variants of one tool share them."""
    path = folder / TOOLS[name].module
    path.mkdir(exist_ok=True)
    return path


def work(folder: Path, job: str, name: str, mark: Callable[[str], None]) -> Any:
    """Does one job and returns what was measured."""
    setting, volume = read_job(folder)
    use_cores(setting.cores)  # before a library starts its threads
    if job == "prepare":
        return prepare_tool(name, setting, tool_folder(folder, name))
    if job == "tool":
        from compare.measure import measure_tool

        return measure_tool(name, setting, tool_folder(folder, name), volume, mark)
    if job == "growth":
        from compare.growth import measure_growth

        return measure_growth(setting, volume)
    import torch

    from compare.machine import describe_machine, measure_rates

    device = torch.device(setting.device)
    return describe_machine(device, setting.cores) | measure_rates(device)


def main() -> None:
    """The process; without a result its last words are on standard error."""
    folder, job, *name = sys.argv[1:]
    at: dict[str, float] = {}
    try:
        told = {"content": work(Path(folder), job, *name or ("",), lambda event: at.update({event: perf_counter()}))}
    except DINSegmentError as error:
        told = {"error": str(error)}
    (Path(folder) / RESULT).write_text(json.dumps(told | {"at": at}), encoding="utf-8")
    sys.stderr.flush()
    os._exit(0)  # a library's thread that still waits, after its run was stopped, keeps nobody


if __name__ == "__main__":
    main()
