"""DINSegment as it is measured: its own inference, from the volume to the labels on its grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compare.tools import Setting
from dinsegment.images.volume import Volume
from dinsegment.inference.devices import autocast_dtype, choose_device
from dinsegment.inference.model import load_model
from dinsegment.inference.pipeline import predict
from dinsegment.inference.runner import Runner
from dinsegment.tasks import get_task
from dinsegment.version import __version__


class OwnTool:
    """As `Tool` says."""

    def __init__(self, setting: Setting) -> None:
        self._task = get_task(setting.task)
        device = choose_device(setting.device)
        self._model = load_model(setting.model, self._task)
        self._model.check_task(self._task)
        self._runner = Runner(self._model.network, device)
        dtype = autocast_dtype(device)
        preprocessing = self._model.preprocessing
        self.version = __version__
        self.network = self._runner.network
        self.precision = str(dtype).removeprefix("torch.") if dtype else "float32"
        self.defaults = f"{self._model.name}, {preprocessing.spacing:g} mm" + (
            ", mirrored" if preprocessing.mirror else ""
        )

    def run(self, volume: Volume) -> np.ndarray:
        return predict(self._runner, self._model.preprocessing, volume, self._task)


def prepare(setting: Setting, folder: Path) -> None:
    """Downloads the weights if they are not here.

    Raises:
        ModelError: As `load_model`.
    """
    load_model(setting.model, get_task(setting.task))


def load(setting: Setting, folder: Path) -> OwnTool:
    """The task's model, ready to segment.

    Raises:
        ModelError: As `load_model`.
    """
    return OwnTool(setting)
