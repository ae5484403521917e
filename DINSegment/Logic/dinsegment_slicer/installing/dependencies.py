"""Packages that the worker needs: what is missing, installed the way Slicer wants it, with nothing else changed."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import slicer
from packaging.requirements import Requirement
from packaging.version import Version

from dinsegment.errors import DINSegmentError, WorkerError
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.installing.pip_guard import PipFailed, command_line, guarded_pip
from dinsegment_slicer.running.interpreter import SLICERS_PYTHON, python_executable

REQUIREMENTS = Path(__file__).parents[3] / "Resources" / "requirements.txt"

SLICERS_OWN = ("numpy", "scipy", "vtk", "pydicom", "SimpleITK")
"""Packages that Slicer brings and was tested with: never changed."""

DOWNLOADS = {
    "torch": (200, 3000),
    "safetensors": (1, 1),
    "huggingface_hub": (10, 10),
    "psutil": (1, 1),
    "matplotlib": (25, 25),
    "reportlab": (3, 3),
}
"""MB, with all that comes with them: for a CPU, and for an NVIDIA GPU."""


class DependencyError(DINSegmentError, RuntimeError):
    """Packages that could not be installed."""


class Packaging(Protocol):
    """What is used of `slicer.packaging`."""

    def pip_ensure(
        self,
        requirements: list[str],
        *,
        prompt_install: bool,
        requester: str,
        skip_in_testing: bool,
    ) -> Any:
        """Installs the requirements, or raises."""


class TorchInstaller(Protocol):
    """What is used of `PyTorchUtils.PyTorchUtilsLogic`."""

    def installTorch(
        self,
        askConfirmation: bool,
        forceComputationBackend: str | None,
        torchVersionRequirement: str,
        torchvisionVersionRequirement: str,
    ) -> Any:
        """Installs torch and torchvision, or raises."""


@dataclass(frozen=True)
class Missing:
    """A package to install.

    Attributes:
        requirement: Its name, and the versions that do.
        installed: The version that is there but does not do; None if there is none.
    """

    requirement: Requirement
    installed: str | None = None

    @property
    def name(self) -> str:
        """The package's name as it stands in requirements.txt."""
        return self.requirement.name


class Dependencies:
    """The packages of requirements.txt in Slicer's Python.

    First `missing`, then the user's yes to `question`, then `install`. Nothing is imported, except that the extension
    PyTorch imports torch once it has installed it.

    Args:
        packaging: Installs packages; by default `slicer.packaging`, or what older Slicer has instead.
        torch_installer: Installs torch and torchvision; by default the extension PyTorch.
        path: Folders that hold the installed packages; by default `sys.path`.
    """

    def __init__(
        self,
        packaging: Packaging | None = None,
        torch_installer: TorchInstaller | None = None,
        path: Sequence[str] | None = None,
    ) -> None:
        self._packaging = packaging
        self._torch_installer = torch_installer
        self._where = {} if path is None else {"path": list(path)}

    def missing(self) -> list[Missing]:
        """Packages that are not there or too old."""
        return [
            Missing(requirement, self._version(requirement.name))
            for requirement in _read_requirements()
            if not self._does(requirement)
        ]

    def question(self, missing: Sequence[Missing]) -> str:
        """Asks whether to install: what, how much, and from where."""
        least, most = (sum(DOWNLOADS[m.name][build] for m in missing) for build in (0, 1))
        size = _("about {least} MB").format(least=least)
        if any(m.name == "torch" for m in missing):
            size = _("about {least} MB, with an NVIDIA GPU up to {most} MB").format(least=least, most=most)
        return _(
            "DINSegment needs Python packages that are not installed yet:\n\n{packages}\n\n"
            "They are downloaded ({size}) from the public package indexes of Python and PyTorch and installed into "
            "Slicer's Python. This is done once. The packages that Slicer brings stay as they are.\n\n"
            "Install them now?"
        ).format(packages="\n".join(f"- {_described(m)}" for m in missing), size=size)

    def install(self, missing: Sequence[Missing], in_testing: bool = False) -> None:
        """Installs the packages and returns when it is done. The user has been asked; for the main thread only.

        Args:
            missing: What `missing()` found.
            in_testing: Installs also while Slicer tests itself, which otherwise is an error.

        Raises:
            DependencyError: They could not be installed, or that changed a package that Slicer brings.
        """
        if not missing:
            return
        if _testing() and not in_testing:
            raise DependencyError(
                _("Slicer tests itself and installs nothing then: install {names} before.").format(
                    names=_names(missing)
                )
            )
        before = self._versions(SLICERS_OWN)
        try:
            self._install_torch([m for m in missing if m.name == "torch"])
            self._install_others([m for m in missing if m.name != "torch"])
        finally:
            # Also after an error: what stopped halfway may have changed them.
            importlib.invalidate_caches()
            self._check_unchanged(before)
        if left := self.missing():
            raise DependencyError(
                _("{names} could not be installed; Slicer's Python console says why.").format(names=_names(left))
            )

    def offline_instructions(self, missing: Sequence[Missing]) -> str:
        """How to install without a network: the commands for this computer and for one that has a network."""
        requirements = [str(m.requirement) for m in missing]
        # Public versions: the other computer may not find the build that is installed here.
        pins = [f"{name}=={Version(version).public}" for name, version in self._kept(missing).items()]
        constraint = ["--constraint", "constraints.txt"] if pins else []
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        python = "python" if os.name == "nt" else "python3"
        download = [python, "-m", "pip", "download", "--dest", "wheels", "--only-binary", ":all:"]
        download += ["--python-version", version, *constraint, *requirements]
        install = [_python(), "-m", "pip", "install", "--no-index", "--find-links", "wheels"]
        install += [*constraint, *requirements]
        steps = [
            _(
                "On a computer with a network, and with {system} on {machine} as here, run in a terminal:\n{command}\n"
                "(For an NVIDIA GPU, add the option --index-url that PyTorch's web site names for it.)"
            ).format(system=platform.system(), machine=platform.machine(), command=command_line(download)),
            _("Bring what it fetched to this computer, close Slicer, and run in the same folder:\n{command}").format(
                command=command_line(install)
            ),
        ]
        if pins:
            steps.insert(0, _("Save these lines as constraints.txt:\n{lines}").format(lines="\n".join(pins)))
        numbered = (f"{number}. {step}" for number, step in enumerate(steps, start=1))
        return _("To install without a network:\n{steps}").format(steps="\n".join(numbered))

    def _does(self, requirement: Requirement) -> bool:
        version = self._version(requirement.name)
        return version is not None and requirement.specifier.contains(version, prereleases=True)

    def _install_torch(self, missing: Sequence[Missing]) -> None:
        """By the extension PyTorch, which chooses a build for this computer and brings a torchvision that fits."""
        if not missing:
            return
        installer = self._torch_installer or _pytorch_extension()
        with self._pip(missing):
            installer.installTorch(
                askConfirmation=False,  # The user has been asked, once for all.
                forceComputationBackend=None,
                torchVersionRequirement=str(missing[0].requirement.specifier),
                torchvisionVersionRequirement="",
            )

    def _install_others(self, missing: Sequence[Missing]) -> None:
        if not missing:
            return
        installer = self._packaging or _slicers_packaging()
        with self._pip(missing):
            installer.pip_ensure(
                [str(m.requirement) for m in missing],
                prompt_install=False,
                requester="DINSegment",
                skip_in_testing=False,
            )

    @contextmanager
    def _pip(self, missing: Sequence[Missing]) -> Iterator[None]:
        pins = [f"{name}=={version}" for name, version in self._kept(missing).items()]
        try:
            with guarded_pip(pins, _names(missing)):
                yield
        except PipFailed as error:
            instructions = [self.offline_instructions(missing)] if error.by_hand else []
            raise DependencyError("\n\n".join([str(error), *instructions])) from error

    def _kept(self, missing: Iterable[Missing]) -> dict[str, str]:
        """Installed packages, with versions, that must stay as they are while the missing ones are installed."""
        # A new torch needs a new torchvision, should there be one.
        torch = () if any(m.name == "torch" for m in missing) else ("torch", "torchvision")
        return self._versions((*SLICERS_OWN, *torch))

    def _check_unchanged(self, before: dict[str, str]) -> None:
        after = self._versions(before)
        changed = {name: version for name, version in before.items() if after.get(name) != version}
        if not changed:
            return
        repair = [_python(), "-m", "pip", "install", *(f"{name}=={version}" for name, version in changed.items())]
        changes = (f"{name} {version} -> {after.get(name, _('removed'))}" for name, version in changed.items())
        raise DependencyError(
            _(
                "This changed packages that Slicer brings ({changes}): close Slicer and run in a terminal:\n{command}"
            ).format(changes=", ".join(changes), command=command_line(repair))
        )

    def _versions(self, names: Iterable[str]) -> dict[str, str]:
        found = {name: self._version(name) for name in names}
        return {name: version for name, version in found.items() if version is not None}

    def _version(self, name: str) -> str | None:
        found = metadata.distributions(name=name, **self._where)
        # What is left of a package that was removed halfway has no metadata, so no version.
        return next(filter(None, map(_version_of, found)), None)


def _version_of(distribution: metadata.Distribution) -> str | None:
    """By the head of its metadata: `version` would read the package's whole description with them."""
    text = next(filter(None, map(distribution.read_text, ("METADATA", "PKG-INFO", ""))), "")
    head = text.partition("\n\n")[0].splitlines()
    return next((line.partition(":")[2].strip() for line in head if line.lower().startswith("version:")), None)


class _OlderPackaging:
    """`slicer.packaging` for Slicer before 5.12, by its `slicer.util`."""

    def pip_ensure(self, requirements: list[str], **options: Any) -> None:
        slicer.util.pip_install(requirements)


def _slicers_packaging() -> Packaging:
    try:
        return importlib.import_module("slicer.packaging")
    except ImportError:
        return _OlderPackaging()


def _pytorch_extension() -> TorchInstaller:
    try:
        from PyTorchUtils import PyTorchUtilsLogic
    except ImportError as error:
        raise DependencyError(
            _(
                "PyTorch cannot be installed because the extension 'PyTorch' is missing: install it in the Extensions "
                "Manager, restart Slicer and try again."
            )
        ) from error
    return PyTorchUtilsLogic()


def _read_requirements() -> list[Requirement]:
    lines = (line.strip() for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def _python() -> str:
    """The Python of a command that the user is to run."""
    try:
        return python_executable()
    except WorkerError:
        return SLICERS_PYTHON


def _testing() -> bool:
    """Whether Slicer tests itself. Outside the application there is no `slicer.app`."""
    app = getattr(slicer, "app", None)
    return app is not None and app.testingEnabled()


def _described(missing: Missing) -> str:
    if missing.installed is None:
        return str(missing.requirement)
    return _("{requirement} (installed: {version})").format(requirement=missing.requirement, version=missing.installed)


def _names(missing: Iterable[Missing]) -> str:
    return ", ".join(m.name for m in missing)
