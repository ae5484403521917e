"""Devices that compute: which there are, in what precision, with how much memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from dinsegment import memory
from dinsegment.errors import InputError
from dinsegment.network.sharing import shared

MATRIX_PRODUCTS = (nn.Linear, nn.modules.conv._ConvNd)
"""Layers whose weights autocast converts."""


def choose_device(device: str) -> torch.device:
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps` -> a device that is there.

    Raises:
        InputError: No such device on this machine.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if device == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    match = re.fullmatch(r"(cpu|cuda|mps)(?::([0-9]{1,4}))?", device)
    if match is None:
        raise InputError(f"There is no device '{device}'; choose auto, cpu, cuda, cuda:0, cuda:1, ... or mps.")
    kind, index = match[1], None if match[2] is None else int(match[2])
    counts = {"cpu": 1, "cuda": torch.cuda.device_count() if cuda else 0, "mps": int(mps)}
    if (index or 0) >= counts[kind]:
        raise InputError(f"This machine has no device '{device}' that PyTorch can use; choose 'auto' or 'cpu'.")
    return torch.device(kind) if index is None else torch.device(kind, index)


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Precision of matrix products: bfloat16 or float16 where the device computes it, None for float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if device.type == "cpu" and _cpu_has_bf16() else None


def _cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 itself; emulated it would be slower than float32."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def free_memory(device: torch.device) -> int:
    """Bytes that can still be had on the device."""
    if device.type == "cuda":
        reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reusable
    return memory.free_memory()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device has too little memory."""
    return isinstance(error, torch.OutOfMemoryError) or memory.is_out_of_memory(error)


_LOWERED: WeakKeyDictionary[nn.Module, dict[tuple[torch.device, torch.dtype | None], nn.Module]] = WeakKeyDictionary()


def lowered(network: nn.Module, device: torch.device) -> nn.Module:
    """The network on a device, with the weights of matrix products and convolutions in the device's precision.

    Autocast computes the same from weights in single precision, but converts them for every batch. It is made once for
    each network and device: its weights must not change afterwards.

    Returns:
        A copy that shares what need not be converted, so that the network can still go to another device.
    """
    dtype = autocast_dtype(device)
    known = _LOWERED.setdefault(network, {})
    if (device, dtype) not in known:
        known[device, dtype] = _on_device(network, device, dtype)
    return known[device, dtype]


def _on_device(network: nn.Module, device: torch.device, dtype: torch.dtype | None) -> nn.Module:
    def there(module: nn.Module, tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            return tensor.to(device)
        to = dtype if isinstance(module, MATRIX_PRODUCTS) else None
        return nn.Parameter(tensor.to(device, to), False)

    return shared(network, there)


LARGEST = 31 << 20
"""Bytes; glibc's threshold grows to 32 MB at most, with what it notes beside a block (mallopt(3), M_MMAP_THRESHOLD)."""


def keep_freed_memory() -> None:
    """Has glibc, Linux's C library, take tensors of up to 32 MB from its heap, which keeps 64 MB of what is freed.

    By default each block of 128 kB or more is asked of the system and given back, and every page of it costs a fault
    when it is first touched: a quarter of the time of a heart. Once a larger block was freed, that is the threshold.
    Where memory is managed otherwise this does nothing.
    """
    torch.empty(LARGEST, dtype=torch.uint8)  # freed at once; as nothing touches it, it costs nothing


def layers_of(network: nn.Module) -> list[nn.Module]:
    """The modules of a network that have no others in them."""
    return [m for m in network.modules() if not any(m.children())]


@contextmanager
def asking(layers: Iterable[nn.Module], ask: Callable[[], None]) -> Iterator[None]:
    """Calls `ask` before every layer, so that a slow network on a CPU stops within one if it raises."""
    hooks = [layer.register_forward_pre_hook(lambda *_: ask()) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
