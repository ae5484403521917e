"""Real CT slices of another scanner, contrast and window than the training data's, from DICOM to DICOM SEG.

python Testing/Benchmarks/ct_totalsegmentator.py DATA_DIR OUT_DIR [--model NAME] [--device auto] [--json FILE]

DATA_DIR is the folder `ct-totalsegmentator` with its 20 DICOM images and reference-segmentation.nii.gz. `dinsegment
segment` runs as a user runs it; the DICOM SEG that it writes is read back and compared with the reference, where both
lie in the patient. The reference itself is not an expert's work: it was made by another network.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "Testing" / "Python"), str(ROOT / "DINSegment" / "Logic")]

from read_dicom_seg import read_dicom_seg  # noqa: E402
from totalsegmentator_reference import read_reference  # noqa: E402

from dinsegment.images import read_volume  # noqa: E402
from dinsegment.tasks import ABDOMEN  # noqa: E402
from dinsegment.training.metrics import dice  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA_DIR")
    parser.add_argument("output", type=Path, metavar="OUT_DIR")
    parser.add_argument("--model", default=None, help="name in weights.json; the first one for the abdomen by default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    program = (sys.executable, "-c", "from dinsegment.cli import main; main()")
    command = [*program, "segment", options.data, "--task", ABDOMEN.name, "--output", options.output]
    command += ["--device", options.device, *(("--model", options.model) if options.model else ())]
    started = time.perf_counter()
    subprocess.run([str(part) for part in command], check=True)
    seconds = time.perf_counter() - started

    volume = read_volume(options.data)
    labels = np.zeros(volume.shape, np.uint8)
    content = read_dicom_seg(options.output / "segmentation.dcm", volume)
    numbers = {segment.name: segment.label for segment in ABDOMEN.segments}
    for segment, mask in zip(content.segments, content.masks, strict=True):
        labels[mask] = numbers[segment.name]
    reference = read_reference(options.data, volume)

    table = Table("", "Dice", "Reference, ml", "Segmented, ml", title=f"{len(volume.array)} slices")
    scores = {}
    for segment in ABDOMEN.segments:
        ml = [float((one == segment.label).sum() * volume.voxel_volume_ml) for one in (reference, labels)]
        row = {"reference_ml": ml[0], "segmented_ml": ml[1]}
        if ml[0]:
            row["dice"] = dice(labels, reference, segment.label)
        scores[segment.name] = row
        agreement = f"{row['dice']:.3f}" if ml[0] else "not there"
        table.add_row(segment.name, agreement, f"{ml[0]:.1f}", f"{ml[1]:.1f}")
    Console().print(table)
    there = [row["dice"] for row in scores.values() if "dice" in row]
    print(f"Mean Dice of the {len(there)} organs that are there: {np.mean(there):.3f}; {seconds:.1f} s with the start")
    if options.json:
        result = {"organs": scores, "mean_dice": float(np.mean(there)), "seconds": seconds}
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
