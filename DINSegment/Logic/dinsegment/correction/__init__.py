"""Learning from what a user has corrected in some slices, for the others: the way of `correct`, in `pipeline`.

1. What was corrected is found by comparing, slice by slice (`changed_slices` of `dinsegment.images.fingerprint`); of a
   file, `reading` and `told` find it.
2. `features` keeps what the network has seen of the image: its probabilities, and what its last layer made them from.
3. `learn` finds what helps: `neighbours` carries a correction to the slices beside it, `head` is a last layer of the
   patient's own. Corrected slices that are left out in turn decide which of them is used, or neither.
4. The slices that nobody has corrected are predicted again and brought back to the image's grid, as `segment` does it.

For strokes, `single_slices` keeps what a network makes of slices, `strokes` makes new masks of what the user draws in
one of them, and `serving` does both for the worker process.

`case` keeps a corrected image as a training case, from which `dinsegment.training.adapt` makes a model of one's own.
"""

from __future__ import annotations

from typing import Any

__all__ = ["changed_slices", "correct", "save_case"]


def __getattr__(name: str) -> Any:
    if name == "correct":
        from dinsegment.correction.pipeline import correct

        return correct
    if name == "changed_slices":
        from dinsegment.images.fingerprint import changed_slices

        return changed_slices
    if name == "save_case":
        from dinsegment.correction.case import save_case

        return save_case
    raise AttributeError(f"The package dinsegment.correction has no '{name}'.")
