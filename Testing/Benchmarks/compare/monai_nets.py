"""Networks of MONAI by its sliding window, as its tutorials run them, with random weights.

The chain is that of the tutorials 2d_segmentation/torch/unet_evaluation, spleen_segmentation_3d and
swin_unetr_btcv_segmentation_3d of Project MONAI: orientation and spacing, grey values, cropping, windows that overlap
by a quarter, four at a time, and the prediction inverted to the image's grid.
"""

from __future__ import annotations

import math
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch

from compare.data import SlidingWindow, benchmark_data
from compare.tools import Setting
from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import Volume
from dinsegment.tasks import get_task

OVERLAP = 0.25
BATCH = 4


class MonaiTool:
    """As `Tool` says."""

    def __init__(self, setting: Setting, kind: str) -> None:
        import monai

        task = get_task(setting.task)
        self._way = benchmark_data(task).sliding_window
        self._classes, self._plane = task.classes, task.plane
        self._device = torch.device(setting.device)
        torch.manual_seed(0)
        self.network = _network(kind, self._way, task.classes).to(self._device).eval()
        self.version = monai.__version__
        self.precision = "float32"
        spacing = [s for s in self._way.spacing if s > 0]
        self.defaults = (
            f"{' x '.join([str(self._way.window)] * self._way.dimensions)} pixels of "
            f"{' x '.join(f'{s:.2f}' for s in spacing)} mm, overlap {OVERLAP:g}, {BATCH} windows at a time"
        )
        self.tiles: int | None = None

    def run(self, volume: Volume) -> np.ndarray:
        from monai.inferers import sliding_window_inference

        self._image = image = self._prepare(volume)
        array = image.as_tensor()
        seen = array[None] if self._way.dimensions == 3 else array.permute(3, 0, 1, 2)  # slices as a batch
        self.tiles = len(seen) * count_windows(tuple(seen.shape[2:]), self._way.window)
        with torch.inference_mode():
            window = (self._way.window,) * self._way.dimensions
            logits = sliding_window_inference(seen.to(self._device), window, BATCH, self.network, OVERLAP)
        return self._bring_back(logits[0] if self._way.dimensions == 3 else logits.permute(1, 2, 3, 0))

    def finish(self) -> None:
        self._bring_back(torch.zeros(self._classes, *self._image.shape[1:], device=self._device))

    def _prepare(self, volume: Volume) -> torch.Tensor:
        from monai import transforms
        from monai.data import MetaTensor

        way = self._way
        steps = [transforms.Spacing(way.spacing, mode="bilinear")]
        if way.grey_window:
            steps.append(transforms.ScaleIntensityRange(*way.grey_window, 0.0, 1.0, clip=True))
            steps.append(transforms.CropForeground(allow_smaller=True))
        else:
            steps.append(transforms.NormalizeIntensity())
        self._transform = transforms.Compose(steps)
        self._stack = SliceStack.in_plane(volume, self._plane)
        array = torch.from_numpy(np.ascontiguousarray(self._stack.array.T)[None])  # (1, x, y, slices)
        spacing = (*self._stack.spacing[::-1], self._stack.slice_spacing, 1.0)
        return self._transform(MetaTensor(array, affine=torch.diag(torch.tensor(spacing, dtype=torch.float64))))

    def _bring_back(self, logits: torch.Tensor) -> np.ndarray:
        """Logits (classes, x, y, slices) of the prepared image -> labels (k, j, i) of the volume."""
        from monai.data import MetaTensor
        from monai.transforms import Invert

        prediction = MetaTensor(
            logits.cpu(), meta=self._image.meta, applied_operations=deepcopy(self._image.applied_operations)
        )  # inverting takes the operations from their list
        inverted = Invert(self._transform, nearest_interp=False)(prediction)
        return self._stack.to_volume_axes(inverted.argmax(0).numpy().astype(np.uint8).T)


def count_windows(size: tuple[int, ...], window: int) -> int:
    """Windows that MONAI's sliding window has in an image of so many pixels along its axes."""
    step = int(window * (1 - OVERLAP))
    return math.prod(math.ceil(max(0, n - window) / step) + 1 for n in size)


def _network(kind: str, way: SlidingWindow, classes: int) -> torch.nn.Module:
    from monai.networks import nets

    if kind == "SwinUNETR":
        return nets.SwinUNETR(in_channels=1, out_channels=classes, feature_size=48, spatial_dims=way.dimensions)
    return nets.UNet(way.dimensions, 1, classes, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2, norm=way.norm)


def load(setting: Setting, folder: Path, kind: str) -> MonaiTool:
    """A network of MONAI, ready to segment."""
    return MonaiTool(setting, kind)
