"""README.md, docs/results.md and recipes/README.md print what recipes/results/ holds."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md", ROOT / "recipes" / "README.md")
RESULTS = sorted((ROOT / "recipes" / "results").glob("*.csv"))


@pytest.fixture(scope="module")
def tables() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "recipes" / "tables.py"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_tables_agree_with_the_results(tables: dict[str, Any], page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<!-- table: " in text
    assert tables["rewritten"](text) == text, "run 'make tables'"


def test_the_results_page_leaves_no_comparison_out() -> None:
    text = PAGES[1].read_text(encoding="utf-8")
    (others,) = re.findall("<!-- table: others ([^>]+) -->", text)
    shown = set(re.findall("<!-- table: errors ([^ ]+) -->", text))
    assert set(others.split()) == shown
    assert shown | set(re.findall("^### (.+)$", text, re.MULTILINE)) == {path.stem for path in RESULTS}


def test_a_figure_changed_by_hand_is_noticed(tables: dict[str, Any]) -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    changed = tables["BLOCK"].sub(lambda block: block[0].replace(" 0.", " 9."), text)
    assert changed != text and tables["rewritten"](changed) == text


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_results_say_how_they_were_made(tables: dict[str, Any], path: Path) -> None:
    found = pd.read_csv(path, comment="#")
    assert path.stem.startswith(tables["title"](found))
    assert found["commit"].str.fullmatch("[0-9a-f]{7,40}").all() and found["protocol"].notna().all()
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# {tables['command'](found)}"
    assert not found.duplicated(["method", "student", "seed"]).any()
