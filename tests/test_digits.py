from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "recipes" / "digits"


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(FOLDER))
    import run

    yield run
    for name in ("run", "report", "variants", "cfm", "matching", "digits"):
        sys.modules.pop(name, None)


def test_every_variant_runs_within_its_floats_and_once(recipe: object, tmp_path: Path) -> None:
    arguments = ["--tiny", "--seeds", "2", "--out", str(tmp_path)]
    recipe.main(arguments)
    cells = {file: json.loads(file.read_text()) for file in (tmp_path / "tiny").glob("*.json")}
    assert len(cells) == 2 * len(recipe.VARIANTS)
    for cell in cells.values():
        assert cell["budget"] is None or cell["floats"] <= cell["budget"], cell["variant"]
        assert cell["variant"] == "full" or len(set(cell["per_class"])) == 1, cell["variant"]
        assert min(cell["per_class"]) > 0 and 0 <= cell["accuracy"] <= 1
    found = json.loads((tmp_path / "results.json").read_text())
    assert set(found["variants"]) == set(recipe.VARIANTS)
    assert all(math.isfinite(pair[key]) for pair in found["pairs"] for key in ("mean", "low", "high"))
    before = {file: file.stat().st_mtime_ns for file in cells}
    recipe.main(arguments)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert (tmp_path / "images.png").stat().st_size < 100_000
    assert "| nsd |" in (tmp_path / "table.md").read_text()
