from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import hdt

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "hdt").rglob("*.py"))


def test_public_names_are_few_and_resolve() -> None:
    assert len(hdt.__all__) <= 11
    for name in hdt.__all__:
        assert getattr(hdt, name).__doc__, name
    assert set(hdt.__all__) == set(dir(hdt))
    with pytest.raises(AttributeError, match="nothing"):
        _ = hdt.nothing


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_small_and_documented(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    small = path.parent.name in ("objective", "parameterization", "students")
    assert len(text.splitlines()) <= (230 if small else 300)
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "no module docstring"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"


def test_nothing_is_pickled_and_nothing_prints_but_the_terminal() -> None:
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"import pickle|torch\.load\(|allow_pickle=True", text), path
        if path.parent.name != "cli":
            assert not re.search(r"^\s*print\(", text, re.MULTILINE), path


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_text_files_are_read_and_written_as_utf_8_whatever_the_locale(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        binary = any(isinstance(a, ast.Constant) and "b" in str(a.value) for a in node.args[:2])
        library = isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") == "os"
        if name in ("read_text", "write_text", "open", "fdopen") and not binary and not library:
            assert any(keyword.arg == "encoding" for keyword in node.keywords), f"{path}:{node.lineno}"
