"""Seconds, memory and energy of a segmentation, beside other tools and the limits of this machine.

Every tool is measured in fresh processes of its own, in turns, on the same volume, device and cores.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

from compare.growth import measure_growth
from compare.machine import describe_machine
from compare.measure import measure_tool
from compare.process import start
from compare.report import append_history, make_table, notes, title, write_comparison, write_growth
from compare.tools import OWN, TOOLS, Setting, choose_tools
from dinsegment.cli_console import err, out
from dinsegment.errors import DINSegmentError, InputError, WorkerError
from dinsegment.files import atomic_path, ensure_writable_folder, write_json
from dinsegment.images import read_volume
from dinsegment.images.slices import slice_axis
from dinsegment.images.volume import Volume, check_voxels
from dinsegment.inference.devices import choose_device
from dinsegment.inference.model import load_model
from dinsegment.phantom.generators import GENERATORS
from dinsegment.tasks import get_task
from dinsegment.version import __version__
from memory import available_cores


def main() -> None:
    """The command; what is wrong with its options is said in one sentence, with exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="heart")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--against", default="", help="nnunet, monai-unet, monai-swinunetr, ..., with commas between")
    parser.add_argument("--image", type=Path, help="image to measure on; else the task's phantom")
    parser.add_argument("--model", help="a model of `dinsegment models`; else the task's first")
    parser.add_argument("--cores", type=int, default=available_cores(), help="of the CPU; all by default")
    parser.add_argument("--repeat", type=int, default=Setting.repeat, help="warm runs at the least; the median counts")
    parser.add_argument("--rounds", type=int, default=Setting.rounds, help="times that all are measured, in turns")
    parser.add_argument("--limit", type=float, default=Setting.limit, help="seconds; what takes longer is estimated")
    parser.add_argument("--growth", action="store_true", help="also how the time grows with slices, size and batch")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--png", type=Path, help="file for bars; growth goes into FILE-growth.png")
    parser.add_argument("--history", type=Path, help="JSON lines that a line is added to")
    try:
        measure_and_write(parser.parse_args())
    except DINSegmentError as error:
        err.print(f"Error: {error}", soft_wrap=True, markup=False)
        sys.exit(2)


def measure_and_write(options: argparse.Namespace) -> None:
    """Measures, prints a table, and writes what is asked for."""
    task, cores = get_task(options.task), available_cores()
    device = str(choose_device(options.device))
    setting = Setting(task.name, device, options.cores, options.model, options.repeat, options.limit, options.rounds)
    phantom = setting.data["phantom"]
    tools = choose_tools([name.strip() for name in options.against.split(",") if name.strip()])
    if not 1 <= options.cores <= cores:
        raise InputError(
            f"This program may use {cores} cores of this machine: --cores can be 1 to {cores}, not {options.cores}."
        )
    for path in filter(None, (options.json, options.png, options.history)):
        ensure_writable_folder(path.parent)
    volume = read_volume(options.image) if options.image else GENERATORS[task.phantom.generator](1, **phantom)[0].volume
    check_voxels(volume)
    with err.status("Loading the model") as status:
        load_model(options.model, task).check_task(task)  # its weights are downloaded before anything is timed
        content = run_benchmark(volume, setting, tools, options.growth, status.update)
    content["command"] = f"python Testing/Benchmarks/run.py {shlex.join(sys.argv[1:])}"
    out.print(title(content), soft_wrap=True, markup=False)
    out.print(make_table(content))
    for note in notes(content):
        out.print(note, soft_wrap=True, markup=False)
    if options.json:
        with atomic_path(options.json) as path:
            write_json(content, path)
    if options.png:
        write_comparison(content, options.png)
        if options.growth:
            write_growth(content, options.png.with_stem(f"{options.png.stem}-growth"))
    if options.history:
        append_history(content, options.history)


def run_benchmark(
    volume: Volume, setting: Setting, tools: Sequence[str], growth: bool, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Measures the machine and every tool by its name, DINSegment first, and tells what is being done.

    Returns:
        The content of the report's JSON file: `date`, `version`, `setting`, `volume`, `machine`, `tools`, and where
        asked for `growth`, how DINSegment's time grows. A tool that failed has an `error` in place of figures.

    Raises:
        WorkerError: DINSegment itself failed.
    """
    tell("Measuring the machine")
    machine = start(setting.cores, describe_machine, setting.device, setting.cores)
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in tools}
    failed: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="dinsegment-") as folder:
        for name in (name for _ in range(setting.rounds) for name in tools if name not in failed):
            tool = TOOLS[name]
            tell(f"Measuring {tool.title}")
            try:
                if tool.prepare:
                    start(setting.cores, tool.prepare, setting, Path(folder))
                figures = start(setting.cores, measure_tool, tool, setting, Path(folder), volume, time.perf_counter())
            except WorkerError as error:
                failed[name] = {"title": tool.title, "error": f"{tool.title}: {error}"}
                if name == OWN:
                    raise WorkerError(failed[name]["error"]) from error
            else:
                rounds[name].append(figures)
    slices = volume.shape[slice_axis(volume, get_task(setting.task).plane)]
    results: dict[str, dict[str, Any]] = {}
    for name in tools:
        results[name] = failed.get(name) or rate(rounds[name], machine, slices, results.get(OWN))
    content = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "version": __version__,
        "setting": asdict(setting),
        "volume": {"name": volume.name, "shape": volume.shape, "spacing_mm": volume.spacing.tolist()},
        "machine": machine,
        "tools": results,
    }
    if growth:
        tell("Measuring how DINSegment's time grows")
        content["growth"] = start(setting.cores, measure_growth, setting, volume)
    return content


def rate(
    rounds: Sequence[dict[str, Any]], machine: dict[str, Any], slices: int, own: dict[str, Any] | None
) -> dict[str, Any]:
    """A tool's figures of all rounds, and what follows from them; `own` are DINSegment's, None if these are they.

    Returns:
        The medians of the seconds, the largest memory, and the last round's of all else; `slices_per_s`; `limit_s`, the
        seconds that the device would need at its measured matrix rate and bandwidth, whichever is more; `times_limit`,
        how many times as long it took warm; `times_own_warm` and `times_own_cold`, compared with DINSegment.
    """
    last, warm_runs = rounds[-1], [seconds for result in rounds for seconds in result["warm_runs_s"]]
    cold, warm = median(result["cold_s"] for result in rounds), median(warm_runs)
    limits = {
        "matrix_limit_s": last["macs"] / machine["macs_per_s"][last["precision"]],
        "memory_limit_s": last["bytes"] / machine["bytes_per_s"],
    }
    limit = max(limits.values())
    return {
        **last,
        "cold_s": cold,
        "warm_s": warm,
        "warm_runs_s": warm_runs,
        "peak_memory_bytes": max(result["peak_memory_bytes"] for result in rounds),
        "slices_per_s": slices / warm,
        **limits,
        "limit_s": limit,
        "times_limit": warm / limit,
        "times_own_warm": warm / own["warm_s"] if own else 1.0,
        "times_own_cold": cold / own["cold_s"] if own else 1.0,
    }
