"""Where weights are looked for and fetched from."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dinsegment.models.entries import ModelEntry

CACHE_VARIABLE = "DINSEGMENT_CACHE"
"""Environment variable naming the folder that downloaded and imported weights are kept in."""


OFFLINE_FOLDER_VARIABLE = "DINSEGMENT_OFFLINE_FOLDER"
"""Environment variable naming a folder that somebody filled with weights files."""


HUB_VARIABLE = "DINSEGMENT_HUB"
"""Environment variable with the address of a mirror; without it HF_ENDPOINT counts, as everywhere with the hub."""


OFFLINE_VARIABLE = "DINSEGMENT_OFFLINE"
"""Environment variable that, set to 1, forbids to go online; HF_HUB_OFFLINE does, too."""


STALL_VARIABLE = "HF_HUB_DOWNLOAD_TIMEOUT"
"""The hub's own environment variable: seconds without a byte after which a download is given up."""


STALL_SECONDS = 30.0
"""Without that variable. A proxy that looks for viruses lets one wait for longer than a line does."""


_TRUE = ("1", "ON", "YES", "TRUE")


@dataclass(frozen=True)
class WeightsSettings:
    """Where weights are looked for and fetched from.

    Attributes:
        cache: Folder that downloaded and imported weights are kept in; created when needed.
        offline_folder: Folder that somebody filled with weights files, or None.
        hub: Address of a mirror, or None for the hub's own.
        offline: Never go online.
        stall_seconds: Without a byte for so long, a download is given up. It may take any time as a whole.
    """

    cache: Path
    offline_folder: Path | None = None
    hub: str | None = None
    offline: bool = False
    stall_seconds: float = STALL_SECONDS

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> WeightsSettings:
        """What environment variables say, and the platform's usual cache folder without them.

        Args:
            environment: Names and values; by default those of this process.
        """
        values = os.environ if environment is None else environment
        cache, folder = values.get(CACHE_VARIABLE), values.get(OFFLINE_FOLDER_VARIABLE)
        hub = values.get(HUB_VARIABLE) or values.get("HF_ENDPOINT")
        seconds = 0.0
        with suppress(ValueError):
            seconds = float(values.get(STALL_VARIABLE) or 0)
        return cls(
            cache=Path(cache).expanduser() if cache else default_cache(),
            offline_folder=Path(folder).expanduser() if folder else None,
            hub=hub.rstrip("/") if hub else None,
            # As the hub reads its own variables.
            offline=any(values.get(name, "").upper() in _TRUE for name in (OFFLINE_VARIABLE, "HF_HUB_OFFLINE")),
            stall_seconds=seconds if seconds > 0 else STALL_SECONDS,
        )

    def cached(self, entry: ModelEntry) -> Path:
        """Where the cache keeps the weights of a model; other weights under the same file name lie elsewhere."""
        return self.cache / entry.weights["sha256"][:16] / entry.weights["file"]


def default_cache() -> Path:
    """The user's cache folder as the platform has it: XDG on Linux, Library on macOS, local AppData on Windows."""
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "dinsegment" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "dinsegment"
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(xdg) if Path(xdg).is_absolute() else Path.home() / ".cache") / "dinsegment"
