"""A process that generates phantoms with NumPy and SciPy alone, one image after the other.

`python -m dinsegment.phantom.writer` takes one JSON line from standard input:

    {"folder": "/tmp/x", "generator": "heart", "images": 10, "options": {"slices": 10, "size": [160, 176]}}

`images` of a heart are phases at equal intervals of its beat. For each image it writes a file into the folder,
(k, j, i), int16, and then a JSON line to standard output:

    {"event": "image", "path": "/tmp/x/image 1.npy", "modality": "MR", "ijk_to_ras": [[...], [...], [...], [...]]}

It ends after the last one, or when its standard input ends.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dinsegment.images.volume import Volume
from dinsegment.phantom.ct import abdomen_phantom
from dinsegment.phantom.heart import heart_phantom
from dinsegment.phantom.late_enhancement import late_enhancement_phantom


def hearts(images: int, **options: Any) -> Iterator[Volume]:
    """Phases of a beat at equal intervals; the first is end diastole."""
    return (heart_phantom(n / images, **options).volume for n in range(images))


def infarcts(images: int, **options: Any) -> Iterator[Volume]:
    """Patients after an infarct."""
    return (late_enhancement_phantom(seed=n, **options).volume for n in range(images))


def abdomens(images: int, **options: Any) -> Iterator[Volume]:
    """Patients."""
    return (abdomen_phantom(seed=n, **options).volume for n in range(images))


GENERATORS = {"heart": hearts, "infarct": infarcts, "abdomen": abdomens}


def write(folder: Path, generator: str, images: int, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Writes images; the event of each once it is there."""
    for number, volume in enumerate(GENERATORS[generator](images, **options), start=1):
        path = folder / f"image {number}.npy"
        np.save(path, volume.array.astype(np.int16))
        yield {
            "event": "image",
            "path": str(path),
            "modality": volume.modality,
            "ijk_to_ras": volume.ijk_to_ras.tolist(),
        }


def main() -> None:
    """Serves the one request."""
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for event in write(Path(request["folder"]), request["generator"], request["images"], request["options"]):
        print(json.dumps(event), flush=True)


def _end_with_parent() -> None:
    """Waits for the end of standard input, which comes when the program that started this one closes it or is gone."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
