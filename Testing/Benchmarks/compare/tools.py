"""The tools that are measured: DINSegment, MONAI and nnU-Net, each as its users run it.

A tool goes to a fresh process before it imports anything of its packages, so that this counts as its time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dinsegment.errors import InputError
from dinsegment.files import write_json
from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import Volume
from dinsegment.tasks import get_task
from dinsegment.version import __version__

if TYPE_CHECKING:
    from torch import nn

DATA: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("data.json").read_text(encoding="utf-8"))
"""What differs between the tasks, by their names: the volume, and what other tools are told of data.

`phantom` has the options of the task's phantom. `fingerprint` is the training set as nnU-Net's planner sees it: its
name of the image's kind, which decides how grey values are normalised; how many cases there are; and grids (k, j, i)
that have the median shape, the median spacing and the tenth percentile of the slice distance of them all.
`sliding_window` is how MONAI's tutorials prepare such images: spacing along (x, y, slices) in mm, where -1 keeps the
image's; sides of a window in pixels, two of them for slices one by one; the grey values brought to 0..1, or null where
each image is normalised by itself; and the norm of the U-Net.
"""

OVERLAP, BATCH = 0.25, 4
"""Of MONAI's windows."""

DATASET, CHECKPOINT = "Dataset001_Benchmark", "checkpoint_final.pth"
"""Of nnU-Net's files."""


@dataclass(frozen=True)
class Setting:
    """What is the same for all tools of a run.

    Attributes:
        task: Name of the task.
        device: `cpu`, `cuda`, `cuda:N` or `mps`.
        cores: Of the CPU.
        model: DINSegment's; None for the task's first.
        repeat: Warm runs in a process, at the least; one alone is one, and more go on for some seconds.
        limit: Seconds after which another tool's run is not computed to its end: the rest is estimated.
        rounds: How often every tool is measured, each time in a process of its own.
    """

    task: str
    device: str
    cores: int
    model: str | None = None
    repeat: int = 3
    limit: float = 60.0
    rounds: int = 1

    @property
    def data(self) -> dict[str, Any]:
        """What `DATA` has for the task. Raises InputError where it has nothing."""
        if self.task not in DATA:
            raise InputError(f"There is no benchmark for the task '{self.task}'; there is one for: {', '.join(DATA)}.")
        return DATA[self.task]


class Tool(Protocol):
    """A tool that is measured.

    Attributes:
        title: In tables.
        packages: That have to be installed.
        prepare: Makes the files in a folder that the tool's user would have, untimed; None where there are none.
        version: Of the package; this and what follows is there when the tool is loaded.
        network: What is called for every batch of tiles, slices or windows, as the first argument's first axis.
        precision: `float32`, `bfloat16` or `float16`: of the network's matrix products.
        defaults: What it does by default, for the reader of the figures.
    """

    title: str
    packages: tuple[str, ...] = ()
    prepare: Callable[[Setting, Path], None] | None = None
    version: str
    network: nn.Module
    precision: str
    defaults: str

    def load(self, setting: Setting, folder: Path) -> None:
        """Makes it ready to segment with what `prepare` has made in the folder."""

    def run(self, volume: Volume) -> np.ndarray:
        """From the array in memory to labels (k, j, i) on the volume's grid."""
        ...


class OwnTool(Tool):
    """The task's model."""

    title = "DINSegment"
    version = __version__

    def load(self, setting: Setting, folder: Path | None = None) -> None:
        """Raises ModelError as `load_model`."""
        from dinsegment.inference.devices import autocast_dtype, choose_device
        from dinsegment.inference.model import load_model
        from dinsegment.inference.runner import Runner

        self._task = get_task(setting.task)
        model, device = load_model(setting.model, self._task), choose_device(setting.device)
        self._preprocessing = model.preprocessing
        self._runner = Runner(model.network, device, context=model.context)
        self.network = self._runner.network
        self.precision = str(autocast_dtype(device) or "float32").removeprefix("torch.")
        mirrored = ", mirrored" if self._preprocessing.mirror else ""
        self.defaults = f"{model.name}, {self._preprocessing.spacing:g} mm{mirrored}"

    def run(self, volume: Volume) -> np.ndarray:
        from dinsegment.inference.prediction import predict

        return predict(self._runner, self._preprocessing, volume, self._task)


class MonaiTool(Tool):
    """A network of MONAI, `UNet` or `SwinUNETR`, by its sliding window, with random weights.

    The chain is that of Project MONAI's tutorials 2d_segmentation/torch/unet_evaluation, spleen_segmentation_3d and
    swin_unetr_btcv_segmentation_3d: spacing, grey values, cropping, windows that overlap by a quarter, four at a time,
    and the prediction inverted to the image's grid.
    """

    precision = "float32"

    def __init__(self, title: str, kind: str, packages: tuple[str, ...] = ("monai",)) -> None:
        self.title, self.packages, self._kind = title, packages, kind

    def load(self, setting: Setting, folder: Path | None = None) -> None:
        import monai
        import torch
        from monai import transforms
        from monai.networks import nets

        self.version = monai.__version__
        task, way = get_task(setting.task), setting.data["sliding_window"]
        self._plane, self._device, self._sides = task.plane, torch.device(setting.device), way["sides"]
        dimensions = len(self._sides)
        torch.manual_seed(0)
        if self._kind == "UNet":
            widths, strides = (16, 32, 64, 128, 256), (2, 2, 2, 2)
            network = nets.UNet(dimensions, 1, task.classes, widths, strides, num_res_units=2, norm=way["norm"])
        else:
            network = nets.SwinUNETR(1, task.classes, feature_size=48, spatial_dims=dimensions)
        self.network = network.to(self._device).eval()
        steps = [transforms.Spacing(way["spacing"], mode="bilinear")]
        if way["grey_window"]:
            steps.append(transforms.ScaleIntensityRange(*way["grey_window"], 0.0, 1.0, clip=True))
            steps.append(transforms.CropForeground(allow_smaller=True))
        else:
            steps.append(transforms.NormalizeIntensity())
        self._transform = transforms.Compose(steps)
        pixels = " x ".join(f"{s:.2f}" for s in way["spacing"] if s > 0)
        window = f"{' x '.join(map(str, self._sides))} pixels of {pixels} mm"
        self.defaults = f"{window}, overlap {OVERLAP:g}, {BATCH} windows at a time"

    def run(self, volume: Volume) -> np.ndarray:
        import torch
        from monai.data import MetaTensor
        from monai.inferers import sliding_window_inference
        from monai.transforms import Invert

        stack = SliceStack.in_plane(volume, self._plane)
        array = torch.from_numpy(np.ascontiguousarray(stack.array.T)[None])  # (1, x, y, slices)
        spacing = torch.tensor((*stack.spacing[::-1], stack.slice_spacing, 1.0), dtype=torch.float64)
        image = self._transform(MetaTensor(array, affine=torch.diag(spacing)))
        flat = len(self._sides) == 2
        seen = image.as_tensor().permute(3, 0, 1, 2) if flat else image.as_tensor()[None]  # slices as a batch
        with torch.inference_mode():
            logits = sliding_window_inference(seen.to(self._device), self._sides, BATCH, self.network, OVERLAP)
        logits = logits.permute(1, 2, 3, 0) if flat else logits[0]
        operations = deepcopy(image.applied_operations)  # inverting takes them from their list
        prediction = MetaTensor(logits.cpu(), meta=image.meta, applied_operations=operations)
        inverted = Invert(self._transform, nearest_interp=False)(prediction)
        return stack.to_volume_axes(inverted.argmax(0).numpy().astype(np.uint8).T)


class NNUNet(Tool):
    """nnU-Net v2 with its own planner, predictor and files of a trained model, with random weights: one fold.

    F. Isensee et al., Nature Methods 18:203-211, 2021. What takes time is all nnU-Net's: cropping, normalising and
    resampling to the plans' spacing, windows at half steps with Gaussian weights, and logits resampled to the image's
    grid. The configuration is `2d` or `3d_fullres`.
    """

    packages = ("nnunetv2",)

    def __init__(self, title: str, configuration: str, mirror: bool) -> None:
        self.title, self._configuration, self._mirror = title, configuration, mirror

    def prepare(self, setting: Setting, folder: Path) -> None:
        """Makes a model of what the planner plans for the task's training set; it is the same for both mirrorings."""
        model = folder / self._configuration
        if model.exists():
            return
        task, fingerprint = get_task(setting.task), setting.data["fingerprint"]
        grids = [grid for grid in fingerprint["grids"] for _ in range(grid["count"])]
        grey = {"mean": 0.0, "std": 1.0, "percentile_00_5": -1e4, "percentile_99_5": 1e4}  # of no influence on the time
        told = {
            "spacings": [grid["spacing"] for grid in grids],
            "shapes_after_crop": [grid["shape"] for grid in grids],
            "median_relative_size_after_cropping": 1.0,
            "foreground_intensity_properties_per_channel": {"0": grey},
        }
        dataset = {
            "channel_names": {"0": fingerprint["channel"]},
            "labels": {"background": 0} | {segment.abbreviation: segment.label for segment in task.segments},
            "numTraining": fingerprint["cases"],
            "file_ending": ".nii.gz",
            "overwrite_image_reader_writer": "SimpleITKIO",  # else it looks into an image for it
            "dataset": {"case": {"images": ["case_0000.nii.gz"], "label": "case.nii.gz"}},
        }
        for place, name, content in (("raw", "dataset", dataset), ("preprocessed", "dataset_fingerprint", told)):
            os.environ[f"nnUNet_{place}"] = str(folder / place)  # where it looks when it is imported
            (folder / place / DATASET).mkdir(parents=True, exist_ok=True)
            write_json(content, folder / place / DATASET / f"{name}.json")
        import torch
        from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
        from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

        plans = ExperimentPlanner(DATASET).plan_experiment()
        plan = plans["configurations"][self._configuration]
        kind, options = plan["architecture"]["network_class_name"], plan["architecture"]["arch_kwargs"]
        imported = plan["architecture"]["_kw_requires_import"]
        torch.manual_seed(0)
        network = get_network_from_plans(kind, options, imported, 1, task.classes, deep_supervision=False)
        checkpoint = {
            "trainer_name": "nnUNetTrainer",
            "init_args": {"configuration": self._configuration},
            "inference_allowed_mirroring_axes": tuple(range(len(plan["patch_size"]))),  # all, as its trainer sets it
            "network_weights": network.state_dict(),
        }
        (model / "fold_0").mkdir(parents=True)
        torch.save(checkpoint, model / "fold_0" / CHECKPOINT)
        write_json(plans, model / "plans.json")
        write_json(dataset, model / "dataset.json")

    def load(self, setting: Setting, folder: Path) -> None:
        import torch
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        device = torch.device(setting.device)
        self._predictor = predictor = nnUNetPredictor(use_mirroring=self._mirror, device=device)
        predictor.initialize_from_trained_model_folder(str(folder / self._configuration), (0,), CHECKPOINT)
        self.version, self.network = version("nnunetv2"), predictor.network
        self.precision = "float16" if device.type == "cuda" else "float32"
        plan, mirrored = predictor.configuration_manager, "mirrored" if self._mirror else "not mirrored"
        voxels = f"{' x '.join(map(str, plan.patch_size))} voxels of {' x '.join(f'{s:.2f}' for s in plan.spacing)} mm"
        self.defaults = f"{voxels}, step {predictor.tile_step_size:g}, {mirrored}, one fold"

    def run(self, volume: Volume) -> np.ndarray:
        properties = {"spacing": [float(s) for s in volume.spacing]}
        return self._predictor.predict_single_npy_array(volume.array[None], properties)


OWN = "dinsegment"

TOOLS: dict[str, Tool] = {
    OWN: OwnTool(),
    "nnunet-2d": NNUNet("nnU-Net 2D", "2d", mirror=False),
    "nnunet-2d-mirrored": NNUNet("nnU-Net 2D, mirrored", "2d", mirror=True),
    "nnunet-3d": NNUNet("nnU-Net 3D", "3d_fullres", mirror=False),
    "nnunet-3d-mirrored": NNUNet("nnU-Net 3D, mirrored", "3d_fullres", mirror=True),
    "monai-unet": MonaiTool("MONAI UNet", "UNet"),
    "monai-swinunetr": MonaiTool("MONAI SwinUNETR", "SwinUNETR", ("monai", "einops")),
}

GROUPS = {"nnunet": tuple(name for name in TOOLS if name.startswith("nnunet-"))}
"""Names for several tools at once."""


def choose_tools(against: Sequence[str]) -> list[str]:
    """DINSegment and the tools of these names.

    Raises:
        InputError: There is no such tool, or a package that it needs is not installed.
    """
    choice = GROUPS | {name: (name,) for name in TOOLS if name != OWN}
    chosen = [OWN]
    for name in against:
        if name not in choice:
            raise InputError(f"There is no tool '{name}' to compare with; there are: {', '.join(choice)}.")
        chosen += [tool for tool in choice[name] if tool not in chosen]
    for tool in (TOOLS[name] for name in chosen):
        for package in tool.packages:
            if find_spec(package) is None:
                raise InputError(
                    f"The comparison with {tool.title} needs the package '{package}', which is not installed: "
                    "pip install 'dinsegment[benchmark]'."
                )
    return chosen
