"""A CT-sized DICOM SEG written: seconds and peak memory, beside copying its file and reading it again.

python Testing/Benchmarks/dicom_seg.py [--shape 300 512 512] [--segments 8]
"""

from __future__ import annotations

import argparse
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Python"))

from dicom_cases import Series, headers, source_of
from read_dicom_seg import read_dicom_seg

from dinsegment.dicom.write.save import save_dicom
from dinsegment.dicom.write.seg import make_dicom_seg, task_segments
from dinsegment.images.volume import Volume
from dinsegment.tasks import ABDOMEN


def peak() -> float:
    """Peak resident memory of this process so far, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def balls(shape: tuple[int, ...], count: int) -> list[np.ndarray]:
    """Balls of organ size that do not touch, in different slices, so that most slices of a segment are empty."""
    k, j, i = np.ogrid[tuple(slice(0, size) for size in shape)]
    masks = []
    for n in range(count):
        middle = (shape[0] * (n + 1) / (count + 1), shape[1] * (0.25 + 0.5 * (n % 2)), shape[2] * (n + 1) / (count + 1))
        radius = min(shape) / (count + 2)
        masks.append((k - middle[0]) ** 2 + (j - middle[1]) ** 2 + (i - middle[2]) ** 2 < radius**2)
    return masks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(300, 512, 512))
    parser.add_argument("--segments", type=int, default=8, choices=range(1, 9))
    options = parser.parse_args()
    series = Series("CT", tuple(options.shape), step=1.0, pixel_spacing=(0.8, 0.8), thickness=1.0)
    source = source_of(headers(series))
    masks = balls(series.shape, options.segments)
    reference = Volume(np.zeros(series.shape, np.float32), series.ijk_to_ras, dicom=source)
    print(f"{'masks and headers in memory':32} {peak():39.2f} GB")

    def timed(name: str, function: Callable[[], object]) -> float:
        started, worked = time.perf_counter(), time.process_time()
        result[name] = function()
        seconds, worked = time.perf_counter() - started, time.process_time() - worked
        print(f"{name:32} {seconds:6.2f} s, of which on a core {worked:6.2f} s {peak():6.2f} GB so far")
        return seconds

    result: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        path, copy = Path(folder) / "segmentation.dcm", Path(folder) / "copy.dcm"
        segments = task_segments(ABDOMEN, "benchmark")[: options.segments]
        export = timed("make", lambda: make_dicom_seg(masks, segments, source))
        export += timed("write and check", lambda: save_dicom(result.pop("make"), path))
        copying = timed("copy the file", lambda: shutil.copyfile(path, copy))
        reading = timed("read back", lambda: read_dicom_seg(path, reference))
        same = all(np.array_equal(a, b) for a, b in zip(masks, result["read back"].masks, strict=True))
        print(f"exported in {export:.2f} s, {path.stat().st_size / 1e6:.0f} MB, the same read back: {same}")
        print(f"times as long as copying {export / copying:.1f}, as reading {export / reading:.2f}")


if __name__ == "__main__":
    main()
