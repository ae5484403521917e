"""What the product asks for: licences that suit Apache-2.0, and sentences where something optional is absent."""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

from dinsegment.enhancement.methods import Enhancement
from dinsegment.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SLICER = ROOT / "DINSegment" / "Resources" / "requirements.txt"

COPYLEFT = re.compile(r"\b[AL]?GPL|GNU (Affero |Lesser |Library )?General Public", re.IGNORECASE)
EXCEPTION = re.compile(r"GCC[- ](runtime library )?exception", re.IGNORECASE)


def closure(requirements: list[str]) -> set[str]:
    """All distributions that a base install brings along."""
    found, waiting = set(), [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name in found:
            continue
        found.add(name)
        waiting += [Requirement(text) for text in distribution(name).requires or ()]
        for extra in requirement.extras:
            asked = (Requirement(text) for text in distribution(name).requires or ())
            waiting += [Requirement(str(r).split(";")[0]) for r in asked if r.marker and f'"{extra}"' in str(r.marker)]
    return found


def copyleft(expression: str, license_: str, classifiers: list[str]) -> list[str]:
    """What of the licence that a distribution states is under GPL, LGPL or AGPL."""
    if expression:  # an SPDX expression: of alternatives one may be chosen
        parts = [part for part in re.split(r"\bAND\b", expression) if not re.search(r"\bOR\b", part)]
    else:
        parts = [license_.strip().split("\n")[0], *classifiers]
    return [part for part in parts if COPYLEFT.search(part) and not EXCEPTION.search(part)]


def base_requirements() -> list[str]:
    lines = [line.partition("#")[0].strip() for line in SLICER.read_text(encoding="utf-8").splitlines()]
    return [*PROJECT["dependencies"], *filter(None, lines)]


def test_nothing_in_the_base_install_is_copyleft():
    try:
        names = closure(base_requirements())
    except PackageNotFoundError as error:
        pytest.skip(f"Not installed here: {error}.")
    assert {"numpy", "simpleitk", "torch", "pydicom", "highdicom", "pylibjpeg-openjpeg"} <= names
    found = {}
    for name in sorted(names):
        stated = distribution(name).metadata
        classifiers = [text for text in stated.get_all("Classifier") or () if text.startswith("License")]
        if parts := copyleft(stated.get("License-Expression") or "", stated.get("License") or "", classifiers):
            found[name] = parts
    assert found == {}


@pytest.mark.parametrize(
    ("stated", "refused"),
    [
        (("MIT", "", []), False),
        (("BSD-3-Clause AND GPL-3.0-or-later WITH GCC-exception-3.1", "", []), False),
        (("MIT OR GPL-2.0-only", "", []), False),
        (("MIT AND LGPL-2.1-or-later", "", []), True),
        (("", "GPL V3.0", []), True),
        (("", "", ["License :: OSI Approved :: GNU Affero General Public License v3"]), True),
        (("", "GNU Lesser General Public License v2", []), True),
        (("", "BSD", ["License :: OSI Approved :: BSD License"]), False),
    ],
)
def test_what_counts_as_copyleft(stated, refused):
    assert bool(copyleft(*stated)) == refused


def test_the_readme_says_of_every_dependency_why_it_is_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    extras = [r for name, group in PROJECT["optional-dependencies"].items() if name != "test" for r in group]
    for requirement in [*PROJECT["dependencies"], *extras]:
        name = Requirement(requirement).name
        if name != "dinsegment":
            assert re.search(rf"^\| `{re.escape(name)}`", text, re.MULTILINE), name


@pytest.mark.parametrize("method", ["clahe", "histogram-equalization"])
def test_an_enhancement_without_its_package_says_what_to_install(method, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(InputError) as caught:
        Enhancement(method)(np.zeros((1, 8, 8), np.float32))
    assert "scikit-image" in str(caught.value) and "pip install" in str(caught.value)
