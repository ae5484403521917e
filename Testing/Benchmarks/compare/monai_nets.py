"""Networks of MONAI by its sliding window, as its tutorials run them, with random weights.

The chain is that of the tutorials 2d_segmentation/torch/unet_evaluation, spleen_segmentation_3d and
swin_unetr_btcv_segmentation_3d of Project MONAI: orientation and spacing, grey values, cropping, windows that overlap
by a quarter, four at a time, and the prediction inverted to the image's grid.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import monai
import numpy as np
import torch
from monai import transforms
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from monai.networks import nets

from compare.data import benchmark_data
from compare.tools import Setting, Tool
from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import Volume
from dinsegment.tasks import get_task

OVERLAP = 0.25
BATCH = 4


class MonaiTool(Tool):
    """A network of MONAI, `UNet` or `SwinUNETR`."""

    version = monai.__version__
    precision = "float32"

    def __init__(self, setting: Setting, folder: Path | None, kind: str) -> None:
        task = get_task(setting.task)
        way = benchmark_data(task)["sliding_window"]
        self._plane, self._spacing, self._sides = task.plane, way["spacing"], way["sides"]
        self._device = torch.device(setting.device)
        dimensions = len(self._sides)
        torch.manual_seed(0)
        if kind == "UNet":
            widths, strides = (16, 32, 64, 128, 256), (2, 2, 2, 2)
            network = nets.UNet(dimensions, 1, task.classes, widths, strides, num_res_units=2, norm=way["norm"])
        else:
            network = nets.SwinUNETR(1, task.classes, feature_size=48, spatial_dims=dimensions)
        self.network = network.to(self._device).eval()
        pixels = " x ".join(f"{s:.2f}" for s in self._spacing if s > 0)
        window = f"{' x '.join(map(str, self._sides))} pixels of {pixels} mm"
        self.defaults = f"{window}, overlap {OVERLAP:g}, {BATCH} windows at a time"
        steps = [transforms.Spacing(self._spacing, mode="bilinear")]
        if way["grey_window"]:
            steps.append(transforms.ScaleIntensityRange(*way["grey_window"], 0.0, 1.0, clip=True))
            steps.append(transforms.CropForeground(allow_smaller=True))
        else:
            steps.append(transforms.NormalizeIntensity())
        self._transform = transforms.Compose(steps)

    def run(self, volume: Volume) -> np.ndarray:
        stack = SliceStack.in_plane(volume, self._plane)
        array = torch.from_numpy(np.ascontiguousarray(stack.array.T)[None])  # (1, x, y, slices)
        spacing = torch.tensor((*stack.spacing[::-1], stack.slice_spacing, 1.0), dtype=torch.float64)
        image = self._transform(MetaTensor(array, affine=torch.diag(spacing)))
        flat = len(self._sides) == 2
        seen = image.as_tensor().permute(3, 0, 1, 2) if flat else image.as_tensor()[None]  # slices as a batch
        with torch.inference_mode():
            logits = sliding_window_inference(seen.to(self._device), self._sides, BATCH, self.network, OVERLAP)
        logits = logits.permute(1, 2, 3, 0) if flat else logits[0]
        # Inverting takes the operations from their list.
        operations = deepcopy(image.applied_operations)
        prediction = MetaTensor(logits.cpu(), meta=image.meta, applied_operations=operations)
        inverted = transforms.Invert(self._transform, nearest_interp=False)(prediction)
        return stack.to_volume_axes(inverted.argmax(0).numpy().astype(np.uint8).T)
