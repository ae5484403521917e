"""nnU-Net v2 as its users run it: its own planner, predictor and files of a trained model, with random weights.

nnU-Net: F. Isensee et al., Nature Methods 18:203-211, 2021. What takes time is all nnU-Net's: cropping, normalising and
resampling to the plans' spacing, windows at half steps with Gaussian weights, and logits resampled to the image's grid.
"""

from __future__ import annotations

import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compare.data import benchmark_data
from compare.tools import Setting, Tool
from dinsegment.images.volume import Volume
from dinsegment.tasks import Task, get_task

DATASET = "Dataset001_Benchmark"
PLANS, LABELS, CHECKPOINT = "plans.json", "dataset.json", "checkpoint_final.pth"


class NNUNet(Tool):
    """nnU-Net's predictor with the model that `prepare` made in the folder; `configuration`: `2d` or `3d_fullres`."""

    def __init__(self, setting: Setting, folder: Path, configuration: str, mirror: bool) -> None:
        _folders(folder)
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        device = torch.device(setting.device)
        self._predictor = predictor = nnUNetPredictor(use_mirroring=mirror, device=device)
        predictor.initialize_from_trained_model_folder(str(folder / configuration), (0,), CHECKPOINT)
        self.version = version("nnunetv2")
        self.network = predictor.network
        self.precision = "float16" if device.type == "cuda" else "float32"
        plan = predictor.configuration_manager
        self.defaults = (
            f"{' x '.join(map(str, plan.patch_size))} voxels of {' x '.join(f'{s:.2f}' for s in plan.spacing)} mm, "
            f"step {predictor.tile_step_size:g}, {'mirrored' if mirror else 'not mirrored'}, one fold"
        )

    @staticmethod
    def prepare(setting: Setting, folder: Path, configuration: str, mirror: bool = False) -> None:
        """Plans for the task's data, which all configurations share, and a model folder with random weights."""
        model = folder / configuration
        fold = model / "fold_0"
        if fold.exists():
            return
        if not (folder / PLANS).exists():
            for name, content in zip((PLANS, LABELS), make_plans(get_task(setting.task), folder), strict=True):
                (folder / name).write_text(json.dumps(content), encoding="utf-8")
        plans, dataset = (json.loads((folder / name).read_text(encoding="utf-8")) for name in (PLANS, LABELS))
        fold.mkdir(parents=True)
        for name in (PLANS, LABELS):
            shutil.copyfile(folder / name, model / name)
        torch.manual_seed(0)
        sides = plans["configurations"][configuration]["patch_size"]
        checkpoint = {
            "trainer_name": "nnUNetTrainer",
            "init_args": {"configuration": configuration},
            "inference_allowed_mirroring_axes": tuple(range(len(sides))),  # all of them, as its trainer sets it
            "network_weights": _network(plans, dataset, configuration).state_dict(),
        }
        torch.save(checkpoint, fold / CHECKPOINT)

    def run(self, volume: Volume) -> np.ndarray:
        properties = {"spacing": [float(s) for s in volume.spacing]}
        return self._predictor.predict_single_npy_array(volume.array[None], properties)


def make_plans(task: Task, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What nnU-Net's planner makes of the fingerprint of the task's training set: plans.json and dataset.json.

    Args:
        task: Whose data and labels.
        folder: Where nnU-Net's folders are made.
    """
    fingerprint = benchmark_data(task)["fingerprint"]
    raw, preprocessed = (path / DATASET for path in _folders(folder)[:2])
    dataset = {
        "channel_names": {"0": fingerprint["channel"]},
        "labels": {"background": 0} | {segment.abbreviation: segment.label for segment in task.segments},
        "numTraining": fingerprint["cases"],
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "SimpleITKIO",  # else it looks into an image for it
    }
    images = {"dataset": {"case": {"images": ["case_0000.nii.gz"], "label": "case.nii.gz"}}}
    grids = [grid for grid in fingerprint["grids"] for _ in range(grid["count"])]
    # Of no influence on the time.
    grey = {"mean": 0.0, "median": 0.0, "std": 1.0} | dict.fromkeys(("min", "percentile_00_5"), -1e4)
    content = {
        "spacings": [grid["spacing"] for grid in grids],
        "shapes_after_crop": [grid["shape"] for grid in grids],
        "median_relative_size_after_cropping": 1.0,
        "foreground_intensity_properties_per_channel": {"0": grey | dict.fromkeys(("max", "percentile_99_5"), 1e4)},
    }
    for path, name, told in ((raw, "dataset", dataset | images), (preprocessed, "dataset_fingerprint", content)):
        path.mkdir(parents=True)
        (path / f"{name}.json").write_text(json.dumps(told), encoding="utf-8")
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

    ExperimentPlanner(DATASET).plan_experiment()
    return json.loads((preprocessed / "nnUNetPlans.json").read_text(encoding="utf-8")), dataset


def _folders(folder: Path) -> list[Path]:
    """nnU-Net's folders of images, of what it makes of them, and of models: importing it looks where they are."""
    folders = [folder / f"nnUNet_{name}" for name in ("raw", "preprocessed", "results")]
    for path in folders:
        path.mkdir(parents=True, exist_ok=True)
        os.environ[path.name] = str(path)
    return folders


def _network(plans: dict[str, Any], dataset: dict[str, Any], configuration: str) -> torch.nn.Module:
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    network = plans["configurations"][configuration]["architecture"]
    channels, classes = len(dataset["channel_names"]), len(dataset["labels"])
    return get_network_from_plans(
        network["network_class_name"], network["arch_kwargs"], network["_kw_requires_import"], channels, classes,
        deep_supervision=False,
    )  # fmt: skip
