"""What a network is called with while a tool runs, and when to stop a run that would take too long."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch
from torch import nn

from compare.tools import TiledTool, Tool

SHARE = 0.05
"""Of the limit: no run is stopped before it has lasted so long."""

LEAST_CALLS = 4
"""Of the network, before a run is stopped: the first of them also sets up what the others use. Two if they alone take
longer than the limit."""

Shapes = tuple[tuple[int, ...], ...]


class Enough(Exception):
    """Stops a run that would take too long."""


@dataclass
class Passes:
    """Watches a tool's network during one run.

    Attributes:
        tool: Whose network it is.
        limit: Seconds that a run may take, if its tool is a `TiledTool`; None for any.
        wait: Waits until the device has done what was asked of it.
        shapes: How often the network was called with inputs of these shapes.
        tiles: Inputs that it got, each of a batch counted.
        before: Seconds from the beginning to the first call.
        per_tile: Seconds between one tile and the next, without those of the first call; None until then.
    """

    tool: Tool | TiledTool
    limit: float | None
    wait: Callable[[], None]
    shapes: Counter[Shapes] = field(default_factory=Counter)
    tiles: int = 0
    before: float = 0.0
    per_tile: float | None = None

    def __enter__(self) -> Passes:
        self._handle = self.tool.network.register_forward_pre_hook(self._before_call)
        self._calls = 0
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.remove()

    def _before_call(self, _module: nn.Module, args: tuple[Any, ...]) -> None:
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        now = time.perf_counter()
        if self._calls == 0:
            self.before = now - self._started
        elif self.limit is not None and hasattr(self.tool, "tiles"):
            if self._calls == 1:
                self.wait()
                self._mark = time.perf_counter(), self.tiles
            elif now - self._started >= (SHARE if self._calls >= LEAST_CALLS else 1.0) * self.limit:
                self._stop_if_too_long(self.limit)
        self._calls += 1
        self.tiles += len(tensors[0])
        self.shapes[tuple(tuple(t.shape) for t in tensors)] += 1

    def _stop_if_too_long(self, limit: float) -> None:
        self.wait()
        since, tiles = self._mark
        self.per_tile = (time.perf_counter() - since) / (self.tiles - tiles)
        if self.before + self.per_tile * self.tool.tiles > limit:
            raise Enough
