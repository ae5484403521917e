"""Lays out MoNuSeg (nuclei in stained tissue) as nnU-Net has data sets, from a public repository.

    python Testing/Benchmarks/nuclei_data.py CLONES FOLDER

CLONES has a git directory of McGregorWwww/UCTransNet, as OWNER+NAME or OWNER+NAME/repo (`git clone --bare`): 44 images
of 1000 x 1000 pixels at 40 times magnification, in colour, with one mask for all nuclei. Colours become grey by their
luminance (ITU-R BT.601), as the networks here see one channel. A pixel is written as 1 mm: sizes here count pixels.
The repository's folders for training, validation and test are the lists in `dinsegment/training/datasets`; licence and
citation are in `nuclei.json` there.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from nnunet_folder import Laid, write_folder
from other_images_data import Clone

REPOSITORY = "McGregorWwww/UCTransNet"

PARTS = ("Train_Folder", "Val_Folder", "Test_Folder")


def read(clone: Clone, file: str) -> np.ndarray:
    """Grey values of an image, (1, rows, columns) uint8."""
    with Image.open(io.BytesIO(clone.read(file))) as image:
        return np.array(image.convert("L"))[None]


def images(clone: Clone) -> dict[str, tuple[str, str]]:
    """The files of image and mask by their common name."""
    found: dict[str, dict[str, str]] = {"img": {}, "labelcol": {}}
    for file in sorted(clone.files()):
        path = PurePosixPath(file)
        if path.parts[:2] == ("datasets", "MoNuSeg") and path.parts[2] in PARTS:
            found[path.parts[3]][path.stem] = file
    return {name: (file, found["labelcol"][name]) for name, file in found["img"].items()}


def cases(clone: Clone) -> Iterator[Laid]:
    """Each image with its mask."""
    for name, (image, mask) in images(clone).items():
        yield name, read(clone, image).astype(np.int16), (read(clone, mask) > 127).astype(np.uint8), (1.0, 1.0, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clones", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    clone = Clone(options.clones, REPOSITORY)
    write_folder(options.folder, "SM", {"Nuclei": 1}, cases(clone))


if __name__ == "__main__":
    main()
