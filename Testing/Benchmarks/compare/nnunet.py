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
from compare.tools import Setting
from dinsegment.images.volume import Volume
from dinsegment.tasks import Task, get_task

DATASET = "Dataset001_Benchmark"
TRAINER = "nnUNetTrainer"
PLANS, LABELS, CHECKPOINT = "plans.json", "dataset.json", "checkpoint_final.pth"


def prepare(setting: Setting, folder: Path, configuration: str, mirror: bool) -> None:
    """Plans for the task's data, made by nnU-Net's planner, and a model folder with random weights.

    Args:
        setting: Of the run.
        folder: Where nnU-Net's folders are made; what is there already, of another configuration, is used.
        configuration: `2d` or `3d_fullres`.
        mirror: Not needed here.
    """
    model = folder / configuration
    fold = model / "fold_0"
    if fold.exists():
        return
    if not (folder / PLANS).exists():
        plans, dataset = make_plans(get_task(setting.task), folder)
        (folder / PLANS).write_text(json.dumps(plans), encoding="utf-8")
        (folder / LABELS).write_text(json.dumps(dataset), encoding="utf-8")
    fold.mkdir(parents=True)
    for name in (PLANS, LABELS):
        shutil.copyfile(folder / name, model / name)
    plans, dataset = (json.loads((folder / name).read_text(encoding="utf-8")) for name in (PLANS, LABELS))
    torch.manual_seed(0)
    axes = tuple(range(len(plans["configurations"][configuration]["patch_size"])))
    checkpoint = {
        "trainer_name": TRAINER,
        "init_args": {"configuration": configuration},
        "inference_allowed_mirroring_axes": axes,  # all of them, as its trainer sets it
        "network_weights": _network(plans, dataset, configuration).state_dict(),
    }
    torch.save(checkpoint, fold / CHECKPOINT)


def make_plans(task: Task, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What nnU-Net's planner makes of the fingerprint of the task's training set.

    Args:
        task: Whose data and labels.
        folder: Where nnU-Net's folders are made.

    Returns:
        The contents of plans.json and dataset.json.
    """
    fingerprint = benchmark_data(task).fingerprint
    names = ("raw", "preprocessed", "results")
    folders = {name: folder / f"nnUNet_{name}" / DATASET for name in names}
    for name, path in folders.items():
        path.mkdir(parents=True)
        os.environ[f"nnUNet_{name}"] = str(path.parent)  # nnU-Net looks there when it is imported
    dataset = {
        "channel_names": {"0": fingerprint.channel},
        "labels": {"background": 0} | {segment.abbreviation: segment.label for segment in task.segments},
        "numTraining": fingerprint.cases,
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "SimpleITKIO",  # else it looks into an image for it
        "dataset": {"case": {"images": ["case_0000.nii.gz"], "label": "case.nii.gz"}},
    }
    grey = dict.fromkeys(("mean", "median"), 0.0) | {"std": 1.0, "min": -1e4, "max": 1e4}
    content = {
        "spacings": [spacing for _, spacing in fingerprint.grids],
        "shapes_after_crop": [shape for shape, _ in fingerprint.grids],
        "median_relative_size_after_cropping": 1.0,
        # Of no influence on the time.
        "foreground_intensity_properties_per_channel": {
            "0": grey | {"percentile_00_5": -1e4, "percentile_99_5": 1e4},
        },
    }
    (folders["raw"] / "dataset.json").write_text(json.dumps(dataset), encoding="utf-8")
    (folders["preprocessed"] / "dataset_fingerprint.json").write_text(json.dumps(content), encoding="utf-8")
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

    ExperimentPlanner(DATASET).plan_experiment()
    plans = json.loads((folders["preprocessed"] / "nnUNetPlans.json").read_text(encoding="utf-8"))
    return plans, {key: value for key, value in dataset.items() if key != "dataset"}


def _network(plans: dict[str, Any], dataset: dict[str, Any], configuration: str) -> torch.nn.Module:
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    network = plans["configurations"][configuration]["architecture"]
    return get_network_from_plans(
        network["network_class_name"],
        network["arch_kwargs"],
        network["_kw_requires_import"],
        len(dataset["channel_names"]),
        len(dataset["labels"]),
        deep_supervision=False,
    )


class NNUNet:
    """As `Tool` says."""

    def __init__(self, setting: Setting, folder: Path, configuration: str, mirror: bool) -> None:
        for name in ("raw", "preprocessed", "results"):
            os.environ[f"nnUNet_{name}"] = str(folder / f"nnUNet_{name}")
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        device = torch.device(setting.device)
        predictor = nnUNetPredictor(use_mirroring=mirror, device=device)
        predictor.initialize_from_trained_model_folder(str(folder / configuration), (0,), CHECKPOINT)
        self._predictor = predictor
        self._properties: dict[str, Any] = {}
        self._logits_shape: tuple[int, ...] = ()
        self._images = 2 ** len(predictor.allowed_mirroring_axes) if mirror else 1
        self.version = version("nnunetv2")
        self.network = predictor.network
        self.precision = "float16" if device.type == "cuda" else "float32"
        plan = predictor.configuration_manager
        self.defaults = (
            f"{' x '.join(map(str, plan.patch_size))} voxels of {' x '.join(f'{s:.2f}' for s in plan.spacing)} mm, "
            f"step {predictor.tile_step_size:g}, {'mirrored' if mirror else 'not mirrored'}, one fold"
        )
        self.tiles: int | None = None
        self._watch()

    def _watch(self) -> None:
        """Notes how many windows there are, and of what shape the image is between nnU-Net's steps."""
        predictor = self._predictor
        slicers, logits = (
            predictor._internal_get_sliding_window_slicers,
            predictor.predict_logits_from_preprocessed_data,
        )

        def noting_slicers(size: tuple[int, ...]) -> list[Any]:
            found = slicers(size)
            self.tiles = len(found) * self._images
            return found

        def noting_shape(data: torch.Tensor) -> torch.Tensor:
            self._logits_shape = (predictor.label_manager.num_segmentation_heads, *data.shape[1:])
            return logits(data)

        predictor._internal_get_sliding_window_slicers = noting_slicers
        predictor.predict_logits_from_preprocessed_data = noting_shape

    def run(self, volume: Volume) -> np.ndarray:
        self._properties = {"spacing": [float(s) for s in volume.spacing]}
        return self._predictor.predict_single_npy_array(volume.array[None], self._properties)

    def finish(self) -> None:
        from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape

        p = self._predictor
        logits = torch.zeros(self._logits_shape, dtype=torch.half)  # as the predictor gives them
        convert_predicted_logits_to_segmentation_with_correct_shape(
            logits, p.plans_manager, p.configuration_manager, p.label_manager, self._properties
        )


def load(setting: Setting, folder: Path, configuration: str, mirror: bool) -> NNUNet:
    """nnU-Net's predictor with the model that `prepare` made in the folder."""
    return NNUNet(setting, folder, configuration, mirror)
