"""DINSegment as it is measured: its own inference, from the volume to the labels on its grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compare.tools import Setting, Tool
from dinsegment.images.volume import Volume
from dinsegment.models.entries import choose_folder, find_entry, told_by
from dinsegment.models.weights import provide_weights
from dinsegment.tasks import get_task
from dinsegment.version import __version__


class OwnTool(Tool):
    """The task's model. Raises ModelError as `load_model`."""

    version = __version__

    def __init__(self, setting: Setting, folder: Path | None = None) -> None:
        # Only where it is measured: to prepare it, PyTorch is not needed.
        from dinsegment.inference.devices import autocast_dtype, choose_device
        from dinsegment.inference.model import load_model
        from dinsegment.inference.runner import Runner

        self._task = get_task(setting.task)
        model, device = load_model(setting.model, self._task), choose_device(setting.device)
        model.check_task(self._task)
        self._preprocessing = model.preprocessing
        self._runner = Runner(model.network, device, context=model.context)
        self.network = self._runner.network
        dtype = autocast_dtype(device)
        self.precision = str(dtype).removeprefix("torch.") if dtype else "float32"
        mirrored = ", mirrored" if self._preprocessing.mirror else ""
        self.defaults = f"{model.name}, {self._preprocessing.spacing:g} mm{mirrored}"

    @staticmethod
    def prepare(setting: Setting, folder: Path) -> None:
        """Downloads the weights if they are not here."""
        name, folder = choose_folder(setting.model, None)
        entry = find_entry(name, get_task(setting.task), folder)
        for one in filter(None, (entry, told_by(entry.context, folder))):
            provide_weights(one, folder)

    def run(self, volume: Volume) -> np.ndarray:
        from dinsegment.inference.prediction import predict

        return predict(self._runner, self._preprocessing, volume, self._task)
