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
import json
from pathlib import Path, PurePosixPath

import numpy as np
import SimpleITK as sitk
from PIL import Image

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clones", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    clone = Clone(options.clones, REPOSITORY)
    found = images(clone)
    for part in ("imagesTr", "labelsTr"):
        (options.folder / part).mkdir(parents=True, exist_ok=True)
    for name, (image, mask) in found.items():
        nuclei = (read(clone, mask) > 127).astype(np.uint8)
        for array, file in (
            (read(clone, image).astype(np.int16), f"imagesTr/{name}_0000.nii.gz"),
            (nuclei, f"labelsTr/{name}.nii.gz"),
        ):
            sitk.WriteImage(sitk.GetImageFromArray(array), str(options.folder / file), True)
    description = {
        "channel_names": {"0": "SM"},
        "labels": {"background": 0, "Nuclei": 1},
        "numTraining": len(found),
        "file_ending": ".nii.gz",
    }
    (options.folder / "dataset.json").write_text(json.dumps(description, indent=2), encoding="utf-8")
    print(f"{len(found)} images in {options.folder}")


if __name__ == "__main__":
    main()
