"""What Slicer's build packages, and what the Extensions Index and the Extensions Manager are told."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import forked

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "DINSegment"
PUBLISHED = json.loads((ROOT / "DINSegment.json").read_text(encoding="utf-8"))["scm_url"]

# As Slicer's own does: refuses files that are not there and words it does not know, and copies each file to where it
# lies below the module. What it was given is written down.
STUB_USE_FILE = """
macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MY "WITH_GENERIC_TESTS" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(MY_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "Unknown: ${MY_UNPARSED_ARGUMENTS}")
  endif()
  foreach(file ${MY_SCRIPTS} ${MY_RESOURCES})
    if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${file})
      message(FATAL_ERROR "There is no '${file}'")
    endif()
    configure_file(${file} ${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}/${file} COPYONLY)
    get_filename_component(folder ${file} DIRECTORY)
    install(FILES ${file} DESTINATION ${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}/${folder} COMPONENT Runtime)
  endforeach()
  file(APPEND ${CMAKE_BINARY_DIR}/said "NAME ${MY_NAME}\\nWITH_GENERIC_TESTS ${MY_WITH_GENERIC_TESTS}\\n")
endmacro()
macro(slicer_add_python_unittest)
  file(APPEND ${CMAKE_BINARY_DIR}/said "UNITTEST ${ARGN}\\n")
endmacro()
"""
STUB_CPACK = """
foreach(name HOMEPAGE CONTRIBUTORS DESCRIPTION ICONURL SCREENSHOTURLS DEPENDS)
  file(APPEND ${CMAKE_BINARY_DIR}/said "${name} ${EXTENSION_${name}}\\n")
endforeach()
"""


def shipped_files():
    """What is in the module's folder and not ignored, whether committed or not yet."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "."]
    try:
        listed = subprocess.run(command, cwd=MODULE, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git and a checkout")
    return {name for name in listed if (MODULE / name).is_file() and Path(name).name != "CMakeLists.txt"}


def listed_files():
    text = (MODULE / "CMakeLists.txt").read_text(encoding="utf-8")
    return {name: re.search(rf"set\({name}\n(.*?)\n  \)", text, re.DOTALL)[1].split() for name in LISTS}


LISTS = ("MODULE_PYTHON_SCRIPTS", "MODULE_PYTHON_RESOURCES")


class TestLists:
    def test_every_file_is_listed_once_and_nothing_else(self):
        listed = [file for files in listed_files().values() for file in files]
        assert len(listed) == len(set(listed))
        assert set(listed) == shipped_files()

    def test_python_files_are_scripts_and_others_resources(self):
        lists = listed_files()
        assert all(file.endswith(".py") for file in lists["MODULE_PYTHON_SCRIPTS"])
        assert not any(file.endswith(".py") for file in lists["MODULE_PYTHON_RESOURCES"])


@pytest.fixture(scope="module")
def configured(tmp_path_factory):
    """A build folder, configured by a real cmake with stand-ins for Slicer's macros."""
    if shutil.which("cmake") is None or not any(map(shutil.which, ("cc", "gcc", "clang", "cl"))):
        pytest.skip("needs cmake and a compiler")
    slicer, build = tmp_path_factory.mktemp("Slicer"), tmp_path_factory.mktemp("build")
    variables = ("Slicer_USE_FILE", "Slicer_EXTENSION_GENERATE_CONFIG", "Slicer_EXTENSION_CPACK")
    for name, text in zip(variables, (STUB_USE_FILE, "", STUB_CPACK), strict=True):
        (slicer / f"{name}.cmake").write_text(text)
    config = "".join(f"set({name} ${{CMAKE_CURRENT_LIST_DIR}}/{name}.cmake)\n" for name in variables)
    config += "set(Slicer_QTSCRIPTEDMODULES_LIB_DIR lib/Slicer-5.12/qt-scripted-modules)\n"
    config += "set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR lib/Slicer-5.12/qt-scripted-modules)\n"
    (slicer / "SlicerConfig.cmake").write_text(config)
    command = ["cmake", "-S", ROOT, "-B", build, f"-DSlicer_DIR={slicer}", "-DBUILD_TESTING=ON"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "CMake Warning" not in done.stderr, done.stderr
    return build


@pytest.fixture(scope="module")
def said(configured):
    lines = (configured / "said").read_text(encoding="utf-8").splitlines()
    return dict(line.split(" ", 1) for line in lines)


class TestConfigured:
    def test_the_macros_are_told_what_to_build_and_test(self, said):
        assert said["NAME"] == "DINSegment"
        assert said["WITH_GENERIC_TESTS"] == "TRUE"
        assert said["UNITTEST"] == "SCRIPT;DINSegment.py"

    def test_the_extensions_manager_is_told_what_it_is(self, said):
        assert said["HOMEPAGE"] == PUBLISHED
        assert said["CONTRIBUTORS"] == "DINSegment developers"
        assert said["DEPENDS"] == "PyTorch"
        assert "not a medical device" in said["DESCRIPTION"]
        assert all(word in said["DESCRIPTION"] for word in ("heart", "abdominal CT"))
        assert said["DESCRIPTION"].count(". ") == 1  # two sentences

    @pytest.mark.parametrize("name", ["ICONURL", "SCREENSHOTURLS"])
    def test_its_pictures_are_in_the_repository(self, said, name):
        base = f"{PUBLISHED.replace('github.com', 'raw.githubusercontent.com')}/main/"
        assert said[name].startswith(base)
        assert (ROOT / said[name].removeprefix(base)).is_file()

    @pytest.mark.parametrize("tree", ["build", "installed"])
    def test_what_is_packaged_finds_its_own_files(self, configured, tree, tmp_path):
        """The list of models, weights and requirements are found from where Slicer puts the code."""
        base = configured
        if tree == "installed":
            base = tmp_path
            command = ["cmake", "--install", configured, "--prefix", base, "--component", "Runtime"]
            subprocess.run(command, check=True, capture_output=True)
        modules = base / "lib" / "Slicer-5.12" / "qt-scripted-modules"
        code = """
import sys
from collections import Counter
from pathlib import Path

here = Path(sys.argv[1]).resolve()
for name in [name for name in sys.modules if name.startswith("dinsegment")]:
    del sys.modules[name]  # Those of the process that this one is a copy of.
sys.path.insert(0, str(here / "Logic"))
import dinsegment
from dinsegment.tasks import HEART
from dinsegment.models.entries import find_entry, models_list
from dinsegment.models.weights import read_weights
from dinsegment_slicer.installing.dependencies import Dependencies

assert Path(dinsegment.__file__).is_relative_to(here)
assert models_list() == here / "Resources" / "Models" / "weights.json"
read_weights(find_entry(None, HEART))
Dependencies().missing()
"""
        environment = {k: v for k, v in os.environ.items() if k not in ("DINSEGMENT_MODELS", "PYTHONPATH")}
        command = [sys.executable, "-c", code, modules]
        done = forked.run(command, cwd=base, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


class TestExtensionsIndex:
    def test_where_it_is_published_stands_in_one_place(self):
        name = PUBLISHED.rpartition("/")[2]
        assert re.fullmatch(r"https://github\.com/[\w-]+/SlicerDINSegment", PUBLISHED)
        files = [path for path in ROOT.iterdir() if path.is_file() and path.name != "DINSegment.json"]
        files += [path for folder in ("DINSegment", "docs") for path in (ROOT / folder).rglob("*") if path.is_file()]
        assert [path for path in files if f"/{name}".encode() in path.read_bytes()] == []

    def test_the_entry_is_one_that_the_index_takes(self):
        entry = json.loads((ROOT / "DINSegment.json").read_text(encoding="utf-8"))
        schema = entry.pop("$schema")
        assert re.search(r"/slicer-extension-catalog-entry-schema-v1\.0\.\d\.json#$", schema)
        assert entry == {
            "build_dependencies": ["PyTorch"],
            "build_subdirectory": ".",
            "category": "Segmentation",
            "scm_revision": "main",
            "scm_url": PUBLISHED,
            "tier": 5,
        }


class TestPages:
    @pytest.mark.parametrize(
        "page", ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
    )
    def test_nothing_is_said_twice(self, page):
        lines = [line for line in (ROOT / page).read_text(encoding="utf-8").splitlines() if len(line) > 60]
        said = Counter(line for line in lines if not line.startswith("|"))
        assert [line for line, times in said.items() if times > 1] == []


class TestPictures:
    @pytest.mark.parametrize(
        ("name", "size"),
        [
            ("DINSegment", (128, 128)),
            ("heart", (64, 64)),
            ("abdomen", (64, 64)),
            ("HeartPhantom", (260, 280)),
            ("CineHeartPhantom", (260, 280)),
            ("CTLiver", (260, 280)),
        ],
    )
    def test_size(self, name, size):
        content = (MODULE / "Resources" / "Icons" / f"{name}.png").read_bytes()
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">II", content[16:24]) == size
        assert len(content) < 50_000
