"""Seconds, memory and energy of a segmentation, beside other tools and the limits of this machine.

python Testing/Benchmarks/run.py --task heart --against nnunet-2d
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from rich.console import Console

from compare.data import benchmark_data, phantom
from compare.report import append_history, make_table, notes, title, write_comparison, write_growth
from compare.run import run_benchmark
from compare.tools import Setting, choose_tools
from dinsegment.errors import DINSegmentError, InputError
from dinsegment.files import atomic_path, ensure_writable_folder, write_json
from dinsegment.images import read_volume
from dinsegment.images.volume import check_voxels
from dinsegment.inference.devices import choose_device
from dinsegment.tasks import get_task
from memory import available_cores

out, err = Console(highlight=False), Console(stderr=True, highlight=False)


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="heart")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--against", default="", help="nnunet, monai-unet, monai-swinunetr, ..., with commas between")
    parser.add_argument("--image", type=Path, help="image to measure on; else the task's phantom")
    parser.add_argument("--model", help="a model of `dinsegment models`; else the task's first")
    parser.add_argument("--cores", type=int, help="of the CPU; all by default")
    parser.add_argument(
        "--repeat", type=int, default=3, help="warm runs at the least; their median counts; 1 is for a look"
    )
    parser.add_argument("--rounds", type=int, default=1, help="times that every tool is measured, in turns")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds; longer runs are estimated from a part")
    parser.add_argument("--growth", action="store_true", help="also how the time grows with slices, size and batch")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--png", type=Path, help="file for bars; growth goes into FILE-growth.png")
    parser.add_argument("--history", type=Path, help="JSON lines that a line is added to")
    return parser.parse_args()


def main() -> None:
    """Measures, prints a table, and writes what is asked for."""
    options = arguments()
    task = get_task(options.task)
    benchmark_data(task)
    tools = choose_tools([name.strip() for name in options.against.split(",") if name.strip()])
    there = available_cores()
    if options.cores is not None and not 1 <= options.cores <= there:
        raise InputError(
            f"This program may use {there} cores of this machine: --cores can be 1 to {there}, not {options.cores}."
        )
    for path in filter(None, (options.json, options.png, options.history)):
        ensure_writable_folder(path.parent)
    device = str(choose_device(options.device))
    setting = Setting(
        options.task, device, options.cores or there, options.model, options.repeat, options.limit, options.rounds
    )
    volume = phantom(task) if options.image is None else read_volume(options.image)
    check_voxels(volume)
    with err.status("Measuring") as status:
        content = run_benchmark(volume, setting, tools, options.growth, lambda _fraction, text: status.update(text))
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
            write_growth(content, options.png.with_name(f"{options.png.stem}-growth{options.png.suffix}"))
    if options.history:
        append_history(content, options.history)


if __name__ == "__main__":
    try:
        main()
    except DINSegmentError as error:
        err.print(f"Error: {error}", soft_wrap=True, markup=False)
        sys.exit(2)
