"""An abdominal CT of 512 x 512 x 150 voxels from file to files on two cores: seconds, memory, and where they go.

python Testing/Benchmarks/abdomen.py [--model NAME] [--device cpu] [--cores 2] [--json FILE]

The phantom is written as NIfTI and `dinsegment segment` run on it as a user runs it, with its start and all result
files. Then the same is done once more under a profiler, stage by stage. Asked for are 60 s and 4 GB. On a machine that
is busy with other things, the CPU's seconds tell more than the clock's.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from dinsegment.images import read_volume, write_volume
from dinsegment.phantom.ct import abdomen_phantom
from dinsegment.tasks import ABDOMEN
from memory import run_program, use_cores

GRID = {"slices": 150, "size": (512, 512), "spacing": (2.0, 0.75, 0.75)}

STAGES = {
    "reading the image": ("images/reading.py", "read_volumes"),
    "loading the model": ("inference/model.py", "load_model"),
    "segmenting, all of it": ("inference/pipeline.py", "segment"),
    "  finding the body": ("inference/anatomy.py", "find_box"),
    "  preparing slices": ("inference/preprocessing.py", "slices"),
    "  the whole trunk": ("inference/context.py", "surroundings"),
    "  the network": ("inference/runner.py", "_forward"),
    "  bringing back": ("inference/view.py", "_labels_of"),
    "  deciding": ("inference/view.py", "decide"),
    "  postprocessing": ("inference/postprocessing.py", "postprocess"),
    "  what confidence needs": ("inference/confidence.py", "_labelled"),
    "  confidence": ("inference/confidence.py", "confidence"),
    "  enhanced image": ("enhancement/displayed.py", "enhanced_volume"),
    "  findings": ("quality/findings.py", "findings"),
    "measuring": ("measurements/study.py", "measure_study"),
    "writing, all of it": ("studies/results.py", "write_results"),
    "  segmentation.seg.nrrd": ("images/writing.py", "write_segmentation"),
    "  enhanced.nrrd": ("images/writing.py", "write_volume"),
    "  overview.png": ("studies/overview.py", "write_overview"),
}
"""What is timed: the file, in the library, and the name of a function."""


def run_command(image: Path, output: Path, options: argparse.Namespace) -> dict[str, float]:
    """The program as a user runs it: seconds of the clock and of the CPU, and the peak of its memory."""
    model = ["--model", options.model] if options.model else []
    return run_program("segment", image, "--task", ABDOMEN.name, "--output", output, "--device", options.device, *model)


def profile(image: Path, output: Path, options: argparse.Namespace, clock: str) -> dict[str, float]:
    """Seconds of every stage, in this process."""
    from dinsegment.inference.model import load_model
    from dinsegment.studies.study import segment_study

    profiler = cProfile.Profile(time.process_time if clock == "cpu" else time.perf_counter)
    model = profiler.runcall(load_model, options.model, ABDOMEN)
    profiler.runcall(segment_study, image, output, ABDOMEN, model, options.device)
    called = pstats.Stats(profiler).stats.items()
    spent = {}
    for stage, (file, function) in STAGES.items():
        in_file = ((name, times[3]) for (path, _, name), times in called if Path(path).match(f"dinsegment/{file}"))
        seconds = [cumulative for name, cumulative in in_file if name == function]
        if not seconds:
            raise SystemExit(f"Nothing called {function} in {file}: correct the stage '{stage.strip()}'.")
        spent[stage] = sum(seconds)
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None, help="name in weights.json; the first one for the abdomen by default")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="of the stages")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    use_cores(options.cores)
    with tempfile.TemporaryDirectory() as folder:
        image, output = Path(folder) / "phantom.nii.gz", Path(folder) / "OUT"
        started = time.perf_counter()
        phantom = abdomen_phantom(**GRID)
        making = time.perf_counter() - started
        write_volume(phantom.volume, image, np.int16)
        result = run_command(image, output, options)
        scores = dice_of(phantom.labels, read_volume(output / "segmentation.seg.nrrd").array)
        stages = profile(image, output, options, options.clock)

    table = Table("512 x 512 x 150 at 2 mm", f"{options.cores} cores", title="Abdomen, from file to files")
    table.add_row("End to end, with the start", f"{result['seconds']:.1f} s (asked for: 60 s)")
    table.add_row("  of the CPU, all cores", f"{result['cpu_seconds']:.1f} s")
    table.add_row("Peak memory", f"{result['peak_gb']:.2f} GB (asked for: 4 GB)")
    table.add_section()
    for stage, seconds in stages.items():
        table.add_row(stage, f"{seconds:.2f} s")
    table.add_section()
    table.add_row("Dice with the phantom's truth", ", ".join(f"{name} {value:.2f}" for name, value in scores.items()))
    table.add_row("Making the phantom", f"{making:.1f} s")
    Console().print(table)
    if options.json:
        content = {**result, "cores": options.cores, "clock": options.clock, "stages": stages, "dice": scores}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def dice_of(truth, labels) -> dict[str, float]:
    from dinsegment.training.metrics import dice

    return {segment.abbreviation: dice(labels, truth, segment.label) for segment in ABDOMEN.segments}


if __name__ == "__main__":
    main()
