"""Tiny wheels made by hand, and an environment of its own for a real pip to install them into."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path


def write_wheel(folder, name, version, *requires):
    """A wheel with nothing in it but its metadata and an empty module."""
    info = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}", *(f"Requires-Dist: {r}" for r in requires)]
    files = {
        f"{name}/__init__.py": f"__version__ = {version!r}\n",
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)


class Environment:
    """An empty virtual environment; the pip of this one installs into it."""

    def __init__(self, folder):
        venv.create(folder)
        self.folder = Path(folder)
        self.python = next(p for p in self.folder.rglob("python*") if p.stem == "python" and p.suffix in ("", ".exe"))
        self.site_packages = next(self.folder.rglob("site-packages"))

    def unpack(self, *wheels):
        """What installing them comes to, at once and without asking anything."""
        for wheel in wheels:
            zipfile.ZipFile(wheel).extractall(self.site_packages)

    def pip(self, *arguments):
        command = [sys.executable, "-m", "pip", "--python", self.python, "--disable-pip-version-check", *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def versions(self):
        """Name to version of all that is installed."""
        infos = (folder.name.removesuffix(".dist-info") for folder in self.site_packages.glob("*.dist-info"))
        return dict(info.rsplit("-", 1) for info in infos)
