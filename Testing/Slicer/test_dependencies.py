"""What is missing, and its installation by a real pip into an environment that stands for Slicer's Python."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest
import slicer
from packaging.requirements import Requirement
from wheels import Environment, write_wheel

from dinsegment_slicer.installing.dependencies import REQUIREMENTS, SLICERS_OWN, Dependencies, DependencyError, Missing

ROOT = Path(__file__).parents[2]
API = ROOT.parent / "shared" / "slicer-api.json"

OTHERS = ("safetensors==0.5.0", "huggingface_hub==1.1.0", "psutil==6.0", "matplotlib==3.9.0", "reportlab==4.2.0")
TORCH = ("torch==2.8.0+cpu", "torchvision==0.23.0+cpu")

requirements = [
    Requirement(line) for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")
]


class VenvPackaging:
    """`slicer.packaging`, as far as used, with the environment in the place of Slicer's Python."""

    def __init__(self, environment):
        self.environment, self.calls = environment, []

    def pip_ensure(
        self,
        requirements,
        constraints=None,
        skip_packages=None,
        prompt_install=True,
        prompt_restart=True,
        requester=None,
        skip_in_testing=True,
        show_progress=True,
    ):
        assert not prompt_install
        assert not skip_in_testing
        self.calls.append(requirements)
        self.environment.pip("install", *requirements)


class VenvTorch:
    """`PyTorchUtilsLogic`: installs both packages in one go, and hands no constraints on."""

    def __init__(self, environment):
        self.environment, self.calls = environment, []

    def installTorch(
        self,
        askConfirmation=False,
        forceComputationBackend=None,
        torchVersionRequirement=None,
        torchvisionVersionRequirement=None,
    ):
        assert not askConfirmation
        self.calls.append((forceComputationBackend, torchVersionRequirement, torchvisionVersionRequirement))
        self.environment.pip(
            "install", f"torch{torchVersionRequirement}", f"torchvision{torchvisionVersionRequirement}"
        )


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """An index; its path has a blank, as user names have."""
    folder = tmp_path_factory.mktemp("some wheels")
    write_wheel(folder, "numpy", "2.0.0")
    write_wheel(folder, "numpy", "2.1.0")
    for torch, torchvision in (("2.4.0", "0.19.0"), ("2.8.0", "0.23.0")):
        for build in ("+cpu", "+cu128"):
            write_wheel(folder, "torch", torch + build, "numpy")
            write_wheel(folder, "torchvision", torchvision + build, "numpy", f"torch=={torch}")
    write_wheel(folder, "safetensors", "0.4.0")
    write_wheel(folder, "safetensors", "0.5.0")
    write_wheel(folder, "huggingface_hub", "1.1.0")
    write_wheel(folder, "psutil", "6.0")
    write_wheel(folder, "matplotlib", "3.9.0", "numpy")
    write_wheel(folder, "reportlab", "4.2.0")
    return folder


@pytest.fixture
def index(wheels, monkeypatch):
    """Makes pip take packages from the folder alone."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", wheels.as_uri())
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return wheels


@pytest.fixture
def environment(tmp_path, index):
    """Slicer's Python as it comes, with a numpy of its own."""
    environment = Environment(tmp_path / "Slicer's Python")
    install(environment, "numpy==2.0.0")
    return environment


def install(environment, *requirements):
    """Has them there from the start."""
    folder = Path(url2pathname(urlsplit(os.environ["PIP_FIND_LINKS"]).path))
    environment.unpack(*(folder / f"{requirement.replace('==', '-')}-py3-none-any.whl" for requirement in requirements))


def dependencies_of(environment, **collaborators):
    collaborators = {
        "packaging": VenvPackaging(environment),
        "torch_installer": VenvTorch(environment),
        **collaborators,
    }
    return Dependencies(**collaborators, path=[str(environment.site_packages)])


def names(missing):
    return [m.name for m in missing]


class TestRequirements:
    def test_lower_bounds_are_those_of_the_project(self):
        text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        listed = re.search(r"^dependencies = (\[.*?^\])", text, re.DOTALL | re.MULTILINE)[1]
        project = {r.name: r.specifier for r in map(Requirement, ast.literal_eval(listed))}
        ours = {r.name: r.specifier for r in requirements}
        assert ours.items() <= project.items()

    def test_none_is_slicers_own(self):
        assert not {r.name for r in requirements} & set(SLICERS_OWN)

    def test_they_are_all_that_the_worker_needs_to_segment_and_to_report(self):
        """In a process that finds these, Slicer's own and what both require, but nothing else."""
        code = """
            import sys
            from importlib import metadata
            from packaging.requirements import Requirement
            from packaging.utils import canonicalize_name

            allowed, todo = set(), sys.argv[1:]
            while todo:
                name = canonicalize_name(todo.pop())
                try:
                    requires = metadata.requires(name) or []
                except metadata.PackageNotFoundError:
                    continue
                if name not in allowed:
                    allowed.add(name)
                    # What vtk asks for Slicer does not bring.
                    found = map(Requirement, requires if name != "vtk" else [])
                    todo += [r.name for r in found if r.marker is None or r.marker.evaluate({"extra": ""})]
            owners = metadata.packages_distributions()
            blocked = {top for top, names in owners.items() if not allowed & set(map(canonicalize_name, names))}
            blocked -= {"dinsegment", "dinsegment_slicer"}
            assert {"rich", "skimage"} <= blocked

            class Filtered:
                # Some packages only look for others: nothing is found then, as where they are not installed.
                def __init__(self, finder):
                    self.finder = finder

                def find_spec(self, name, path=None, target=None):
                    return None if name.partition(".")[0] in blocked else self.finder.find_spec(name, path, target)

                def __getattr__(self, name):
                    return getattr(self.finder, name)

            sys.meta_path[:] = map(Filtered, sys.meta_path)
            for name in set(sys.modules) & blocked:
                del sys.modules[name]

            import dinsegment.worker
            from dinsegment.inference import segment
            from dinsegment.phantom.heart import heart_phantom

            phantom = heart_phantom(slices=2, size=(130, 130))
            made = segment(phantom.volume, "heart", device="cpu")
            assert made.labels.any()

            import dinsegment.worker_report
            from dinsegment.measurements.study import measure_study
            from dinsegment.report.pages import make_pages

            pages = make_pages([made], measure_study([made]))
            assert pages.pdf.startswith(b"%PDF") and pages.html
        """
        command = [sys.executable, "-c", textwrap.dedent(code), *names_of(requirements), *SLICERS_OWN]
        done = subprocess.run(command, cwd=ROOT / "DINSegment" / "Logic", capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def names_of(requirements):
    return [r.name for r in requirements]


class TestMissing:
    def test_everything_in_a_fresh_slicer(self, environment):
        assert names(dependencies_of(environment).missing()) == names_of(requirements)

    def test_nothing_here(self):
        assert Dependencies().missing() == []

    def test_too_old(self, environment):
        install(environment, "torch==2.4.0+cpu", "torchvision==0.19.0+cpu", "safetensors==0.4.0")
        missing = dependencies_of(environment).missing()
        absent = [(name, None) for name in ("huggingface_hub", "psutil", "matplotlib", "reportlab")]
        old = [("torch", "2.4.0+cpu"), ("safetensors", "0.4.0")]
        assert [(m.name, m.installed) for m in missing] == [*old, *absent]

    def test_what_a_removal_left_does_not_count(self, environment):
        (environment.site_packages / "psutil-7.0.dist-info").mkdir()
        assert "psutil" in names(dependencies_of(environment).missing())

    def test_it_is_quick_and_imports_nothing(self):
        code = (
            "import sys; from dinsegment_slicer.installing.dependencies import Dependencies; "
            "Dependencies().missing(); sys.exit(bool({'torch', 'psutil'} & set(sys.modules)))"
        )
        subprocess.run([sys.executable, "-c", code], cwd=ROOT / "DINSegment" / "Logic", check=True)
        seconds = []
        for _ in range(5):
            start = time.process_time()
            Dependencies().missing()
            seconds.append(time.process_time() - start)
        assert min(seconds) < 0.05


class TestQuestion:
    def test_it_names_every_package_how_much_and_from_where(self):
        text = Dependencies().question([Missing(r) for r in requirements])
        for requirement in requirements:
            assert f"- {requirement}\n" in text
        assert re.search(r"about 2\d\d MB, with an NVIDIA GPU up to 3\d\d\d MB", text)
        assert "indexes of Python and PyTorch" in text
        assert "done once" in text
        assert text.endswith("Install them now?")

    def test_an_old_version_is_named(self):
        text = Dependencies().question([Missing(Requirement("psutil>=5.9"), "5.0")])
        assert "psutil>=5.9 (installed: 5.0)" in text
        assert "(about 1 MB)" in text


class TestInstall:
    def test_into_a_fresh_slicer(self, environment):
        packaging, torch = VenvPackaging(environment), VenvTorch(environment)
        dependencies = dependencies_of(environment, packaging=packaging, torch_installer=torch)
        before = dict(os.environ)
        dependencies.install(dependencies.missing())
        assert dependencies.missing() == []
        assert environment.versions()["numpy"] == "2.0.0"
        assert torch.calls == [(None, ">=2.5.1", "")]
        assert packaging.calls == [[str(r) for r in requirements[1:]]]
        assert dict(os.environ) == before

    def test_torch_and_torchvision_that_are_there_stay(self, environment):
        install(environment, "torch==2.8.0+cu128", "torchvision==0.23.0+cu128")
        dependencies = dependencies_of(environment, torch_installer=object())
        dependencies.install(dependencies.missing())
        versions = environment.versions()
        assert (versions["torch"], versions["torchvision"]) == ("2.8.0+cu128", "0.23.0+cu128")

    def test_an_old_torch_goes_with_its_torchvision(self, environment):
        install(environment, "torch==2.4.0+cu128", "torchvision==0.19.0+cu128", *OTHERS)
        dependencies = dependencies_of(environment)
        dependencies.install(dependencies.missing())
        assert dependencies.missing() == []
        versions = environment.versions()
        assert (versions["torch"][:5], versions["torchvision"][:6]) == ("2.8.0", "0.23.0")

    def test_nothing_is_done_where_nothing_is_missing(self):
        Dependencies(packaging=object(), torch_installer=object()).install([])

    def test_older_slicer(self, environment, monkeypatch):
        """Without slicer.packaging, by slicer.util.pip_install, which is given a list."""
        install(environment, *TORCH)
        monkeypatch.setitem(sys.modules, "slicer.packaging", None)  # as if it could not be imported
        monkeypatch.setattr(slicer.util, "pip_install", lambda wanted: environment.pip("install", *wanted))
        dependencies = dependencies_of(environment, packaging=None)
        dependencies.install(dependencies.missing())
        assert dependencies.missing() == []

    def test_the_packaging_of_slicer_is_found(self, environment, monkeypatch):
        install(environment, *TORCH)
        module = ModuleType("slicer.packaging")
        module.pip_ensure = VenvPackaging(environment).pip_ensure
        monkeypatch.setitem(sys.modules, "slicer.packaging", module)
        dependencies = dependencies_of(environment, packaging=None)
        dependencies.install(dependencies.missing())
        assert dependencies.missing() == []

    def test_the_extension_pytorch_is_found(self, environment, monkeypatch):
        install(environment, *OTHERS)
        module = ModuleType("PyTorchUtils")
        module.PyTorchUtilsLogic = lambda: VenvTorch(environment)
        monkeypatch.setitem(sys.modules, "PyTorchUtils", module)
        dependencies = dependencies_of(environment, torch_installer=None)
        dependencies.install(dependencies.missing())
        assert dependencies.missing() == []


class TestSlicersOwnPackagesStay:
    @pytest.fixture
    def demanding(self, index, tmp_path, monkeypatch):
        """An index whose psutil wants a newer numpy than Slicer has."""
        folder = tmp_path / "index"
        folder.mkdir()
        for wheel in index.iterdir():
            if not wheel.name.startswith("psutil"):
                (folder / wheel.name).write_bytes(wheel.read_bytes())
        write_wheel(folder, "psutil", "7.0", "numpy>=2.1")
        monkeypatch.setenv("PIP_FIND_LINKS", folder.as_uri())

    def test_pip_fails_rather_than_change_numpy(self, environment, demanding, tmp_path, monkeypatch):
        install(environment, *TORCH)
        temporary = tmp_path / "John Doe"  # pip splits variables at blanks
        temporary.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        dependencies = dependencies_of(environment)
        with pytest.raises(DependencyError) as raised:
            dependencies.install(dependencies.missing())
        sentence = str(raised.value)
        assert "psutil 7.0 depends on numpy>=2.1, but here is numpy==2.0.0" in sentence
        assert sentence.endswith("update Slicer.")
        versions = environment.versions()
        assert versions["numpy"] == "2.0.0"
        assert "psutil" not in versions
        # It was the constraint that stopped it: by itself, pip changes numpy.
        environment.pip("install", "psutil")
        assert environment.versions()["numpy"] == "2.1.0"

    def test_an_installer_that_changes_numpy_all_the_same(self, environment):
        class Careless(VenvTorch):
            def installTorch(self, **options):
                del os.environ["PIP_CONSTRAINT"]
                self.environment.pip("install", "numpy==2.1.0")
                super().installTorch(**options)

        dependencies = dependencies_of(environment, torch_installer=Careless(environment))
        with pytest.raises(DependencyError, match=r"\(numpy 2\.0\.0 -> 2\.1\.0\).*close Slicer") as raised:
            dependencies.install(dependencies.missing())
        assert "pip install numpy==2.0.0" in str(raised.value)

    def test_also_when_the_installation_fails_then(self, environment):
        class Failing(VenvTorch):
            def installTorch(self, **options):
                del os.environ["PIP_CONSTRAINT"]
                self.environment.pip("uninstall", "--yes", "numpy")
                raise RuntimeError("out of order")

        dependencies = dependencies_of(environment, torch_installer=Failing(environment))
        with pytest.raises(DependencyError, match=r"\(numpy 2\.0\.0 -> removed\)"):
            dependencies.install(dependencies.missing())

    def test_constraints_of_the_user_hold_too(self, environment, tmp_path, monkeypatch):
        constraints = tmp_path / "constraints.txt"
        constraints.write_text("psutil<6\n")
        monkeypatch.setenv("PIP_CONSTRAINT", str(constraints))
        install(environment, *TORCH)
        dependencies = dependencies_of(environment)
        with pytest.raises(DependencyError, match="psutil"):
            dependencies.install(dependencies.missing())
        assert os.environ["PIP_CONSTRAINT"] == str(constraints)


class TestErrors:
    def test_without_the_extension_pytorch(self, environment):
        packaging = VenvPackaging(environment)
        dependencies = dependencies_of(environment, packaging=packaging, torch_installer=None)
        with pytest.raises(DependencyError, match="'PyTorch' is missing: install it in the Extensions Manager"):
            dependencies.install(dependencies.missing())
        assert packaging.calls == []

    def test_without_a_network(self, environment, monkeypatch):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.delenv("PIP_FIND_LINKS")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{port}/simple")
        monkeypatch.setenv("PIP_RETRIES", "0")
        dependencies = dependencies_of(environment)
        missing = dependencies.missing()
        with pytest.raises(DependencyError) as raised:
            dependencies.install(missing)
        sentence, _, instructions = str(raised.value).partition("\n\n")
        assert sentence == "torch cannot be downloaded: check the network and the proxy settings."
        assert "pip download" in instructions

    def test_what_is_in_no_index(self, environment, tmp_path, monkeypatch):
        monkeypatch.setenv("PIP_FIND_LINKS", tmp_path.as_uri())
        dependencies = dependencies_of(environment)
        with pytest.raises(DependencyError, match="torch cannot be installed: No matching distribution"):
            dependencies.install(dependencies.missing())

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (OSError(28, "No space left on device"), "disk is full: make room"),
            (OSError("[WinError 5] Access is denied: 'torch_cpu.dll'"), "restart Slicer"),
            (
                RuntimeError("PythonSlicer executable not found"),
                "cannot be installed: PythonSlicer executable not found",
            ),
        ],
    )
    def test_every_reason_has_its_sentence(self, environment, error, said):
        class Failing(VenvTorch):
            def installTorch(self, **options):
                raise error

        dependencies = dependencies_of(environment, torch_installer=Failing(environment))
        with pytest.raises(DependencyError, match=re.escape(said)) as raised:
            dependencies.install(dependencies.missing())
        assert "\n" not in str(raised.value).partition("\n\n")[0]

    def test_an_installer_that_does_nothing(self, environment):
        class Idle(VenvTorch):
            def installTorch(self, **options):
                pass

        dependencies = dependencies_of(environment, torch_installer=Idle(environment))
        install(environment, *OTHERS)
        with pytest.raises(DependencyError, match="torch could not be installed"):
            dependencies.install(dependencies.missing())

    def test_while_slicer_tests_itself_it_must_be_asked_for(self, environment, monkeypatch):
        monkeypatch.setattr(slicer, "app", SimpleNamespace(testingEnabled=lambda: True), raising=False)
        install(environment, *TORCH)
        dependencies = dependencies_of(environment)
        missing = dependencies.missing()
        with pytest.raises(DependencyError, match="tests itself"):
            dependencies.install(missing)
        assert dependencies.missing() == missing
        dependencies.install(missing, in_testing=True)
        assert dependencies.missing() == []


class TestOffline:
    def test_the_commands_work(self, environment, index, tmp_path, monkeypatch):
        """Copied from the text into a shell, with an index on the one computer and none on the other."""
        dependencies = dependencies_of(environment)
        with monkeypatch.context() as there:
            there.setattr(sys, "executable", str(environment.python))
            text = dependencies.offline_instructions(dependencies.missing())
        constraints = re.search(r"constraints\.txt:\n(.*?)\n2\. ", text, re.DOTALL)[1]
        assert constraints == "numpy==2.0.0"
        (tmp_path / "constraints.txt").write_text(constraints)
        fetch, install = (shlex.split(line) for line in text.splitlines() if " -m pip " in line)
        assert install[0] == str(environment.python)
        monkeypatch.chdir(tmp_path)
        subprocess.run([sys.executable, *fetch[1:]], check=True, stdout=subprocess.DEVNULL)
        assert {path.name.split("-")[0] for path in Path("wheels").iterdir()} == {*names_of(requirements), "numpy"}
        monkeypatch.delenv("PIP_FIND_LINKS")
        environment.pip(*install[3:])
        assert dependencies.missing() == []
        assert environment.versions()["numpy"] == "2.0.0"


@pytest.mark.skipif(not API.exists(), reason="needs the list of names of the running application")
def test_the_stand_in_has_the_signature_of_slicers_own():
    text = json.loads(API.read_text(encoding="utf-8"))["functions"]["slicer.packaging"]["pip_ensure"]
    function = ast.parse(f"def f{text}: ...").body[0].args
    names = [argument.arg for argument in function.args]
    defaults = dict(zip(reversed(names), map(ast.literal_eval, reversed(function.defaults)), strict=False))
    parameters = inspect.signature(VenvPackaging(None).pip_ensure).parameters.values()
    assert [p.name for p in parameters] == names
    assert {p.name: p.default for p in parameters if p.default is not p.empty} == defaults
