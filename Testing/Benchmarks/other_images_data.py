"""Writes images that are no short-axis cine MR, for other_images.py, from clones of public repositories.

    python Testing/Benchmarks/other_images_data.py CLONES FOLDER [--cines DIR FILE ...]

CLONES has git directories of these, as OWNER+NAME or OWNER+NAME/repo (`git clone --bare`):
    - BWGZK/CycleMix: late enhancement of MSCMR, 45; irehmanar/LV_Segmentation_MRI_Dataset_EMIDEC: of EMIDEC, 60, from
      PNG slices, with a spacing that is made up;
    - udacity/nd320-c3-3d-imaging-starter: hippocampi, each ninth of 262, and brains;
    - shenqq377/Q-Net: abdomens (CHAOS, T2), 20; spinalcordtoolbox/sct_testing_data: spines;
    - SlicerProstate/SliceTracker: prostates.
Long-axis views are cut from labelled cines (--cines: a folder as ACDC has it and the patients, one a line), through the
left ventricle towards the right one (4ch) and across (2ch). Each repository's licence binds; nothing of it is shipped.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image

from dinsegment.tasks import HEART
from dinsegment.training.cases import find_cases, read_split

LONG_AXIS = {"4ch": 0.0, "2ch": np.pi / 2}
"""Angles from the direction to the right ventricle."""

WITH_PROSTATES = "afe7398538df999ba997079306ec6751737c69d8"
"""The commit of SliceTracker that has test images."""

NO_IMAGES = re.compile(r"seg|label|mask|template|init|warp|manual|lesion|dmri_T\d|goldstandard|_ref|fmri_r|tsnr", re.I)
"""Parts of names in sct_testing_data of what is no image of its own."""


class Clone:
    """A git directory without work tree."""

    def __init__(self, clones: Path, name: str) -> None:
        folder = clones / name.replace("/", "+")
        self._git = next(p for p in (folder / "repo/.git", folder / "repo", folder / ".git", folder) if p.is_dir())

    def _run(self, *arguments: str) -> bytes:
        return subprocess.run(["git", "--git-dir", str(self._git), *arguments], capture_output=True, check=True).stdout

    def files(self, commit: str = "HEAD") -> list[str]:
        return self._run("ls-tree", "-r", "--name-only", commit).decode().splitlines()

    def read(self, file: str, commit: str = "HEAD") -> bytes:
        return self._run("show", f"{commit}:{file}")


def volumes(clones: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of NIfTI files."""
    clone = Clone(clones, "BWGZK/CycleMix")
    for file in clone.files():
        if "/images/" in file and file.endswith(".nii.gz"):
            yield f"lge_{Path(file).name}", clone.read(file)
    clone = Clone(clones, "udacity/nd320-c3-3d-imaging-starter")
    for file in [f for f in clone.files() if f.startswith("data/TrainingSet/images/")][::9]:
        if not file.endswith(".nii.gz"):
            continue
        yield f"hippo_{Path(file).name}", clone.read(file)
    clone = Clone(clones, "shenqq377/Q-Net")
    for file in clone.files():
        if file.startswith("data/CHAOST2/chaos_MR_T2_normalized/image_"):
            yield f"abd_{Path(file).name}", clone.read(file)
    clone = Clone(clones, "spinalcordtoolbox/sct_testing_data")
    for file in clone.files():
        if file.endswith(".nii.gz") and not NO_IMAGES.search(file) and len(content := clone.read(file)) > 5000:
            yield f"spine_{re.sub(r'[^A-Za-z0-9]+', '_', file.removesuffix('.nii.gz'))}.nii.gz", content


def series(clones: Path) -> Iterator[tuple[str, str, bytes]]:
    """Folder, name and content of DICOM files."""
    clone = Clone(clones, "udacity/nd320-c3-3d-imaging-starter")
    for file in clone.files():
        if file.endswith(".dcm") and file.startswith("data/TestVolumes/") and "HCrop" not in file:
            place = Path(file).relative_to("data/TestVolumes")
            yield f"brain_{re.sub(r'[^A-Za-z0-9]+', '_', str(place.parent))}", place.name, clone.read(file)
    clone, folder = Clone(clones, "SlicerProstate/SliceTracker"), "RegistrationModule/Resources/Testing/"
    for file in clone.files(WITH_PROSTATES):
        if file.startswith(folder) and file.endswith(".dcm"):
            name = Path(file).name
            yield f"prostate_{Path(file).parent.name}_{name.split('.')[3]}", name, clone.read(file, WITH_PROSTATES)


def emidec(clones: Path) -> Iterator[tuple[str, sitk.Image]]:
    clone = Clone(clones, "irehmanar/LV_Segmentation_MRI_Dataset_EMIDEC")
    slices = defaultdict(list)
    for file in sorted(clone.files()):
        if found := re.search(r"dataset/(?:train|val)/(Case_\w+?)_slice\d+\.png", file):
            slices[found[1]].append(file)
    for case, files in sorted(slices.items())[:60]:
        grey = [np.array(Image.open(io.BytesIO(clone.read(file))).convert("L"), np.int16) for file in files]
        image = sitk.GetImageFromArray(np.stack(grey))
        image.SetSpacing((350 / image.GetWidth(), 350 / image.GetHeight(), 10.0))
        yield f"emidec_{case}.nii.gz", image


def long_axis(data: Path, split: Path) -> Iterator[tuple[str, sitk.Image]]:
    """One slice of 8 mm in each direction, of the first frame."""
    for case in find_cases(data, read_split(split), HEART):
        if not case.name.endswith("frame01"):
            continue
        volume, truth = case.read(HEART)
        image = sitk.GetImageFromArray(volume.array.astype(np.float32))
        image.SetSpacing(volume.spacing[::-1].tolist())
        _, y, x = (round(float(axis.mean())) for axis in np.nonzero(truth == HEART.chamber))
        center = image.TransformContinuousIndexToPhysicalPoint((float(x), float(y), (volume.shape[0] - 1) / 2))
        _, right_y, right_x = (axis.mean() for axis in np.nonzero(truth == 1))
        towards = np.arctan2((right_y - y) * volume.spacing[1], (right_x - x) * volume.spacing[2])
        for name, turned in LONG_AXIS.items():
            across = np.array([np.cos(towards + turned), np.sin(towards + turned), 0.0])
            axes = np.stack([across, (0.0, 0.0, 1.0), np.cross(across, (0.0, 0.0, 1.0))], 1)
            size, spacing = np.array([200, 200, 1]), np.array([1.4, 1.4, 8.0])
            origin = np.array(center) - axes @ ((size - 1) / 2 * spacing)
            cut = (size.tolist(), sitk.Transform(), sitk.sitkBSpline, origin.tolist(), spacing.tolist())
            view = sitk.GetArrayFromImage(sitk.Resample(image, *cut, axes.ravel().tolist()))
            rows = np.flatnonzero(view[0].any(1))
            shown = sitk.GetImageFromArray(np.clip(view[:, rows[0] : rows[-1] + 1], 0, None).astype(np.int16))
            shown.SetSpacing(spacing.tolist())
            shown.SetDirection(axes.ravel().tolist())
            yield f"lax_{case.name}_{name}.nii.gz", shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clones", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cines", nargs=2, action="append", default=[], metavar=("DIR", "FILE"), type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, content in volumes(options.clones):
        (options.folder / name).write_bytes(content)
    for name, file, content in series(options.clones):
        (options.folder / name).mkdir(exist_ok=True)
        (options.folder / name / file).write_bytes(content)
    for name, image in (*emidec(options.clones), *(one for cines in options.cines for one in long_axis(*cines))):
        sitk.WriteImage(image, str(options.folder / name))
    print(f"{len(list(options.folder.iterdir()))} images in {options.folder}")


if __name__ == "__main__":
    main()
