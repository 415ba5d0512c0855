"""The shape of the source: short functions, short files, names that say something."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

LONGEST_FUNCTION, LONGEST_FILE = 60, 400
EMPTY_NAMES = {"utils", "util", "common", "misc", "core", "helpers", "helper"}
SOURCE = Path(__file__).parents[1] / "src" / "forerun"
FILES = sorted(SOURCE.rglob("*.py"))


def functions(path: Path) -> list[tuple[int, str]]:
    """(lines, where) of each function, decorators and docstring included."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            where = f"{path.relative_to(SOURCE)}:{node.lineno} {node.name}"
            found.append((node.end_lineno - first + 1, where))
    return found


def test_no_function_is_longer_than_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    longest = sorted((f for path in FILES for f in functions(path)), reverse=True)[:10]
    with capsys.disabled():
        print("\nthe ten longest functions:", *(f"{lines:>4} {where}" for lines, where in longest), sep="\n")
    assert [where for lines, where in longest if lines > LONGEST_FUNCTION] == []


def test_no_file_is_longer_than_a_few_screens() -> None:
    lengths = {path.relative_to(SOURCE).as_posix(): len(path.read_text().splitlines()) for path in FILES}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_every_module_is_named_after_what_it_holds() -> None:
    tests = Path(__file__).parent.rglob("*.py")
    assert [p.name for p in [*FILES, *tests] if p.stem in EMPTY_NAMES or p.parent.name in EMPTY_NAMES] == []


def test_nothing_is_left_to_be_done_later() -> None:
    marks = ("TO" + "DO", "FIX" + "ME", "XX" + "X")
    assert [p.name for p in FILES if any(mark in p.read_text() for mark in marks)] == []


def test_every_module_and_public_class_says_what_it_is_for() -> None:
    silent = []
    for path in FILES:
        tree = ast.parse(path.read_text())
        if tree.body and ast.get_docstring(tree) is None:
            silent.append(path.relative_to(SOURCE).as_posix())
        classes = [n for n in tree.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]
        silent += [f"{path.stem}.{c.name}" for c in classes if ast.get_docstring(c) is None]
    assert silent == []
