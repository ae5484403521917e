"""A benchmark: every tool in fresh processes of its own, in turns, on the same volume, device and cores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

from compare.cores import thread_settings
from compare.process import RESULT, write_job
from compare.tools import OWN, TOOLS, Setting
from dinsegment.errors import WorkerError
from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import Volume
from dinsegment.progress import Progress
from dinsegment.tasks import get_task
from dinsegment.version import __version__

SOURCES = (Path(__file__).parents[1], Path(__file__).parents[3] / "DINSegment" / "Logic")
"""Where a new process finds this package and the library."""


def run_benchmark(
    volume: Volume,
    setting: Setting,
    tools: Sequence[str],
    growth: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measures the machine and every tool.

    Args:
        volume: What all of them segment.
        setting: What is the same for all.
        tools: Their names; DINSegment's is the first.
        growth: Also measure how DINSegment's time grows.
        progress: Called with the fraction done and what is being done.

    Returns:
        The content of the report's JSON file: `date`, `version`, `setting`, `volume`, `machine`, `tools`, and `growth`
        where asked for. A tool that failed has an `error` in place of figures.

    Raises:
        DINSegmentError: DINSegment itself failed.
    """
    report = progress or (lambda _fraction, _text: None)
    steps = 1 + setting.rounds * len(tools) + growth
    with tempfile.TemporaryDirectory(prefix="dinsegment-") as name:
        folder = Path(name)
        write_job(folder, setting, volume)
        report(0.0, "Measuring the machine")
        machine = start(folder, setting, "machine")["content"]
        slices = len(SliceStack.in_plane(volume, get_task(setting.task).plane).array)
        rounds: dict[str, list[dict[str, Any]]] = {tool: [] for tool in tools}
        failed: dict[str, str] = {}
        for n, tool in enumerate(tool for _ in range(setting.rounds) for tool in tools):
            if tool in failed:
                continue
            report((1 + n) / steps, f"Measuring {TOOLS[tool].title}")
            try:
                rounds[tool].append(_measure(folder, setting, tool))
            except WorkerError as error:
                if tool == OWN:
                    raise
                failed[tool] = str(error)
        results: dict[str, Any] = {}
        for tool in tools:
            if tool in failed:
                results[tool] = {"title": TOOLS[tool].title, "error": failed[tool]}
            else:
                results[tool] = rate(together(rounds[tool]), machine, slices, results.get(OWN))
        content = {
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "version": __version__,
            "setting": asdict(setting),
            "volume": {"name": volume.name, "shape": volume.shape, "spacing_mm": volume.spacing.tolist()},
            "machine": machine,
            "tools": results,
        }
        if growth:
            report((steps - 1) / steps, "Measuring how DINSegment's time grows")
            content["growth"] = start(folder, setting, "growth")["content"]
    report(1.0, "Done")
    return content


def _measure(folder: Path, setting: Setting, tool: str) -> dict[str, Any]:
    if TOOLS[tool].prepares:
        start(folder, setting, "prepare", tool)
    told = start(folder, setting, "tool", tool)
    content, seconds = told["content"], told["seconds"]
    estimated = content.pop("first_estimated_s")
    cold = seconds["first"] if estimated is None else seconds["loaded"] + estimated
    return {"title": TOOLS[tool].title, "cold_s": cold, **content}


def together(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A tool's figures of all rounds: the medians of its seconds, its largest memory; the last round's of all else."""
    warm = [seconds for result in rounds for seconds in result["warm_runs_s"]]
    return {
        **rounds[-1],
        "cold_s": median(result["cold_s"] for result in rounds),
        "warm_s": median(warm),
        "warm_runs_s": warm,
        "peak_memory_bytes": max(result["peak_memory_bytes"] for result in rounds),
    }


def rate(result: dict[str, Any], machine: dict[str, Any], slices: int, own: dict[str, Any] | None) -> dict[str, Any]:
    """What follows from a tool's figures.

    Args:
        result: What was measured.
        machine: With the rates of the device.
        slices: Of the volume.
        own: DINSegment's, with which it is compared; None for itself.

    Returns:
        The same with `slices_per_s`; `limit_s`, the seconds that the device would need at its measured matrix rate and
        bandwidth, whichever is more; `times_limit`, how many times as long it took warm; and `times_own_warm` and
        `times_own_cold`, how many times as long as DINSegment.
    """
    own = own or result
    limits = {
        "matrix_limit_s": result["macs"] / machine["macs_per_s"][result["precision"]],
        "memory_limit_s": result["bytes"] / machine["bytes_per_s"],
    }
    limit = max(limits.values())
    return {
        **result,
        "slices_per_s": slices / result["warm_s"],
        **limits,
        "limit_s": limit,
        "times_limit": result["warm_s"] / limit,
        "times_own_warm": result["warm_s"] / own["warm_s"],
        "times_own_cold": result["cold_s"] / own["cold_s"],
    }


def start(folder: Path, setting: Setting, job: str, tool: str = "") -> dict[str, Any]:
    """Runs a job in a fresh process: the `content` of what it measured, and the `seconds` from its start to its marks.

    Raises:
        WorkerError: It failed.
    """
    command = [sys.executable, "-m", "compare.process", str(folder), job, *([tool] if tool else [])]
    result = folder / RESULT
    result.unlink(missing_ok=True)
    started = time.perf_counter()
    done = subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False, text=True, encoding="utf-8",
        errors="replace", env=_environment(setting.cores),
    )  # fmt: skip
    what = TOOLS[tool].title if tool else job
    if done.returncode < 0:
        raise WorkerError(
            f"The measurement of {what} was ended by the system, mostly for want of memory: free some and try again."
        )
    if not result.exists():
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise WorkerError(f"The measurement of {what} failed: {lines[-1] if lines else f'exit code {done.returncode}'}")
    told = json.loads(result.read_text(encoding="utf-8"))
    if "error" in told:
        raise WorkerError(told["error"])
    return told | {"seconds": {event: at - started for event, at in told["at"].items()}}


def _environment(cores: int) -> dict[str, str]:
    paths = [*map(str, SOURCES), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, **thread_settings(cores), "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
