"""A fresh process in which one tool is prepared or measured, or the machine, or DINSegment's growth.

`python -m compare.process FOLDER JOB [TOOL]`; what FOLDER holds is written by `write_job`. Events are JSON
objects, one a line, on standard output; whatever a library prints goes to standard error:

    loaded      imports are done, the tool is ready: who started the process looks at the clock
    first       the first result is there, or its seconds are known
    result      content: what was measured
    error       message: of an error whose text a user reads as it stands
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from compare.cores import use_cores
from compare.tools import TOOLS, Setting, prepare_tool
from dinsegment.errors import DINSegmentError
from dinsegment.images.volume import Volume

SETTING, ARRAY = "setting.json", "volume.npy"

Send = Callable[..., None]


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


def work(folder: Path, job: str, name: str, send: Send) -> Any:
    """Does one job and returns what was measured."""
    setting, volume = read_job(folder)
    use_cores(setting.cores)  # before a library starts its threads
    if job == "prepare":
        return prepare_tool(name, setting, tool_folder(folder, name))
    if job == "tool":
        from compare.measure import measure_tool

        return measure_tool(name, setting, tool_folder(folder, name), volume, send)
    if job == "growth":
        from compare.growth import measure_growth

        return measure_growth(setting, volume)
    import torch

    from compare.machine import describe_machine, measure_rates

    device = torch.device(setting.device)
    return describe_machine(device, setting.cores) | measure_rates(device)


def main() -> None:
    """The process; its exit code is 1 after an error."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1) as events:
        os.dup2(2, 1)  # what libraries print

        def send(event: str, **content: Any) -> None:
            events.write(json.dumps({"event": event, **content}) + "\n")

        folder, job, *name = sys.argv[1:]
        code = 0
        try:
            send("result", content=work(Path(folder), job, *name or ("",), send))
        except DINSegmentError as error:
            send("error", message=str(error))
            code = 1
    sys.stderr.flush()
    os._exit(code)  # a library's thread that still waits, after its run was stopped, keeps nobody


if __name__ == "__main__":
    main()
