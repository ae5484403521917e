"""The way back from a view to the slices of a stack in plain matrices, beside which `View.labels_back` is tested."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dinsegment.inference.view import View, resampling_matrix


def slices_back(view: View, values: Tensor) -> Tensor:
    """(slices, ..., rows, columns) on a view's grid -> (slices, ..., y, x) on the stack's, zero outside of the view."""
    stack = view.stack
    if view.slice_spacing is not None:
        count, step = view.count, view.slice_spacing
        first = 0.5 * ((len(stack.array) - 1) * stack.slice_spacing - (count - 1) * step)
        along = resampling_matrix(count, step, len(stack.array), stack.slice_spacing, -first)
        blended = []
        for weights in along:
            used = np.flatnonzero(weights)
            blended.append(torch.tensordot(torch.from_numpy(weights[used]).to(values), values[used], 1))
        values = torch.stack(blended)
    shape = stack.array.shape[1:]
    y, x = (
        torch.from_numpy(resampling_matrix(n, view.spacing, n_out, spacing, -first))
        for n, n_out, spacing, first in zip(view.size, shape, stack.spacing, view.first, strict=True)
    )
    return y @ values @ x.T
