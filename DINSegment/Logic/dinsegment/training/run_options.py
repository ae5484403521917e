"""How a recipe is run: on which devices, from which weights, for how long."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from lightning_fabric import Fabric

from dinsegment.errors import InputError
from dinsegment.inference.devices import autocast_dtype, choose_device
from dinsegment.progress import Progress


@dataclass(frozen=True)
class RunOptions:
    """How a recipe is run, without what it makes.

    Attributes:
        device: As `dinsegment.inference.devices.choose_device` takes it.
        devices: Processes, each with a device of its own (or a share of the CPU), that share every batch.
        compile: Whether to compile the network with torch.compile: minutes at the start, a fifth less time afterwards.
        pretrained: Whether both encoders start with ImageNet's weights.
        start: Weights to start with: a file, or the name of a model in weights.json.
        autoencoders: Runs or files of the autoencoders that the network asks, in the order of its mask ratios.
        checkpoint_minutes: Minutes between checkpoints within an epoch; None for one at its end only.
        progress: Called in the first process after each step, with the fraction done and the epoch in words.
        minutes: The run stops with a checkpoint before so many minutes are over; None for no limit.
    """

    device: str = "auto"
    devices: int = 1
    compile: bool = False
    pretrained: bool = False
    checkpoint_minutes: float | None = None
    minutes: float | None = None
    start: str | None = None
    progress: Progress | None = None
    autoencoders: tuple[str, ...] = ()


def make_fabric(options: RunOptions) -> Fabric:
    """Fabric for these devices, with the precision that they compute.

    Raises:
        InputError: There are not so many devices of that kind.
    """
    device = choose_device(options.device)
    if options.devices < 1 or (device.type == "cuda" and options.devices > torch.cuda.device_count()):
        raise InputError(f"{options.devices} devices were asked for, which this machine does not have: give fewer.")
    if device.type == "mps" and options.devices > 1:
        raise InputError("Only one 'mps' device can be used: give one device.")
    if device.index is not None and options.devices > 1:
        raise InputError(f"'{device}' is one device: choose '{device.type}' to use {options.devices}.")
    precision = {torch.bfloat16: "bf16-mixed", torch.float16: "16-mixed", None: "32-true"}[autocast_dtype(device)]
    return Fabric(
        accelerator=device.type,
        # Of several GPUs the first is meant where no number was given.
        devices=options.devices if device.type == "cpu" or options.devices > 1 else [device.index or 0],
        strategy="ddp_spawn" if options.devices > 1 else "auto",
        precision=precision,
    )
