"""A Volume and a model become a Segmentation: the way of `segment`, in `pipeline`.

1. `plausible` refuses what cannot be an image of the task, and sees the rest as slices; `model` loads the network with
   its weights, and the preprocessing that it was trained with.
2. `prediction` asks `anatomy` for the box that is segmented: around the `body` in a CT, around what the network sees of
   a heart.
3. `looking` tells what the network says of that box. `preprocessing` puts slices onto the network's grid (`view`),
   normalises grey values and enhances them; `runner` takes them through the network, batch after batch, on one of the
   `devices`; where the model has a `context`, a second network looks at the whole image, and maybe a third one closer
   at the `organ_box` that it finds, and what they expect where is weighed in.
4. `labelling` makes labels of the probabilities: `view` brings them back to the image's grid and decides there, the
   most probable label wins; `postprocessing` removes what anatomy rules out.
5. `confidence` has kept how sure the network was, made true by its `calibration`.
6. The enhanced image is made for the user, and `dinsegment.quality` looks for what may be wrong.

`phases` takes the phases of a heart this way; those of a `cine` in one box, and smoothed in time before step 4.

Who asks what it could have been otherwise gets `samples`, one for each of the `draws`; who asks what an autoencoder did
not expect, `maps`.
"""

from __future__ import annotations

import sys
from typing import Any

from dinsegment.memory import check_import

if "torch" not in sys.modules:
    check_import()

__all__ = ["load_model", "segment", "segment_phases"]


def __getattr__(name: str) -> Any:
    if name == "segment":
        from dinsegment.inference.pipeline import segment

        return segment
    if name == "segment_phases":
        from dinsegment.inference.phases import segment_phases

        return segment_phases
    if name == "load_model":
        from dinsegment.inference.model import load_model

        return load_model
    raise AttributeError(f"The package dinsegment.inference has no '{name}'.")
