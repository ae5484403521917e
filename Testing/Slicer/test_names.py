"""Names of methods: Slicer's camelCase where the application has it, PEP 8 elsewhere, and never both in one class."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

LOGIC = Path(__file__).parents[2] / "DINSegment" / "Logic"
SNAKE, CAMEL = re.compile(r"_?[a-z0-9]+(_[a-z0-9]+)+"), re.compile(r"_?[a-z]+([A-Z][a-zA-Z0-9]*)+")
UNITTEST = re.compile(r"test_.*|setUp|tearDown")


def methods(package):
    """Class by class, with the file it stands in: the methods in snake_case, and those in camelCase."""
    for path in sorted((LOGIC / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                names = [n.name for n in node.body if isinstance(n, ast.FunctionDef) and not UNITTEST.fullmatch(n.name)]
                yield f"{path.name}: {node.name}", *([n for n in names if p.fullmatch(n)] for p in (SNAKE, CAMEL))


def test_the_library_has_the_names_of_pep_8():
    assert [(where, camel) for where, _, camel in methods("dinsegment") if camel] == []


def test_no_class_has_both():
    assert [(where, snake, camel) for where, snake, camel in methods("dinsegment_slicer") if snake and camel] == []


@pytest.mark.parametrize("ending", ["Widget", "Logic", "Section", "Controller", "ResultNodes"])
def test_what_slicer_calls_and_what_its_widgets_have_is_camel_case(ending):
    found = [one for one in methods("dinsegment_slicer") if one[0].endswith(ending)]
    assert found
    assert [(where, snake) for where, snake, _ in found if snake] == []
