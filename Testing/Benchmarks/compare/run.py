"""A benchmark: every tool in fresh processes of its own, in turns, on the same volume, device and cores."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

from compare.process import start
from compare.tools import OWN, TOOLS, Setting
from dinsegment.errors import WorkerError
from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import Volume
from dinsegment.progress import Progress
from dinsegment.tasks import get_task
from dinsegment.version import __version__


def run_benchmark(
    volume: Volume, setting: Setting, tools: Sequence[str], growth: bool = False, progress: Progress | None = None
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
        WorkerError: DINSegment itself failed.
    """
    report = progress or (lambda _fraction, _text: None)
    steps = 1 + setting.rounds * len(tools) + growth
    report(0.0, "Measuring the machine")
    machine = start(setting.cores, "machine", setting.device, setting.cores)["content"]
    rounds: dict[str, list[dict[str, Any]]] = {tool: [] for tool in tools}
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="dinsegment-") as folder:
        for n, tool in enumerate(tool for _ in range(setting.rounds) for tool in tools if tool not in failed):
            report((1 + n) / steps, f"Measuring {TOOLS[tool].title}")
            try:
                rounds[tool].append(measure(tool, setting, Path(folder), volume))
            except WorkerError as error:
                if tool == OWN:
                    raise
                failed[tool] = str(error)
    slices = len(SliceStack.in_plane(volume, get_task(setting.task).plane).array)
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
        content["growth"] = start(setting.cores, "growth", setting, volume)["content"]
    report(1.0, "Done")
    return content


def measure(tool: str, setting: Setting, folder: Path, volume: Volume) -> dict[str, Any]:
    """A tool's figures of one round. Raises WorkerError where it fails."""
    own = folder / TOOLS[tool].made_by.partition(":")[0]  # variants of one tool share their files
    own.mkdir(exist_ok=True)
    try:
        if TOOLS[tool].prepares:
            start(setting.cores, "prepare", tool, setting, own)
        told = start(setting.cores, "measure", tool, setting, own, volume)
    except WorkerError as error:
        raise WorkerError(f"{TOOLS[tool].title}: {error}") from error
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
