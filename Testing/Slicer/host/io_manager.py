"""`slicer.app.coreIOManager()`: saves and loads scenes, which is all that a panel's test asks of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
from PySide6.QtCore import QObject

from host.proxies import register_stand_in


class qSlicerCoreIOManager(QObject):
    """Scenes by MRML's own reader and writer, as the application's IO plugins for scenes use them."""

    def saveNodes(self, file_type: str, properties: dict[str, Any], messages: Any = None) -> bool:
        assert file_type == "SceneFile" and properties["fileName"].endswith(".mrb"), "The host saves .mrb alone."
        slicer.mrmlScene.SetRootDirectory(slicer.app.temporaryPath)
        return slicer.mrmlScene.WriteToMRB(properties["fileName"], None, messages)

    def loadNodes(self, file_type: str, properties: dict[str, Any], _loaded: Any = None, messages: Any = None) -> bool:
        assert file_type == "SceneFile" and properties["fileName"].endswith(".mrb"), "The host loads .mrb alone."
        return slicer.mrmlScene.ReadFromMRB(properties["fileName"], False, messages)


def give_cache(scene: slicer.vtkMRMLScene, folder: str) -> None:
    """A scene unpacks what it loads into its cache, which the application gives it at the start."""
    (Path(folder) / ".slicer-cache").touch()  # Without it the cache refuses to be cleared.
    cache = slicer.vtkCacheManager()
    cache.SetRemoteCacheDirectory(folder)
    manager = slicer.vtkDataIOManager()
    manager.SetCacheManager(cache)
    scene.SetCacheManager(cache)
    scene.SetDataIOManager(manager)


register_stand_in(qSlicerCoreIOManager, "slicer.qSlicerIOManager")
