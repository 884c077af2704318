"""Every recipe at tiny size: what it does today is what it did when its figures were measured.

``recipe_losses.json`` holds, per recipe, the last loss and the root mean square of the tiny result. After a
change that is meant to alter them: ``HDT_UPDATE_LOSSES=1 pytest tests/test_recipes.py``, and measure the recipe again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import make_frame

import hdt
from hdt.distillation import recipe
from hdt.distillation.methods import METHODS
from hdt.evaluation import published

REFERENCES = Path(__file__).parent / "recipe_losses.json"
TINY = {"length": 48, "context": 12, "horizon": 6, "iterations": 3}
TINY_OPTIONS = {"k": 6, "experts": 1, "expert_epochs": 4, "max_start": 2, "steps_synthetic": 3, "inner_batch": 16}


@pytest.mark.parametrize("path", recipe.recipe_files(), ids=lambda path: path.stem)
def test_a_recipe_at_tiny_size_ends_where_it_did(path: Path) -> None:
    _, settings = recipe.read_recipe(path)
    tiny = {**TINY, "iterations": min(settings["iterations"], 3)}
    settings |= tiny | {name: value for name, value in TINY_OPTIONS.items() if name in settings}
    distilled = hdt.distill(make_frame(), **settings)
    found = {"rms": float(np.sqrt(np.mean(distilled.values.astype(float) ** 2)))}
    if distilled.history:
        found["loss"] = distilled.history[-1]["loss"]
    references = json.loads(REFERENCES.read_text()) if REFERENCES.exists() else {}
    if os.environ.get("HDT_UPDATE_LOSSES"):
        REFERENCES.write_text(json.dumps({**references, path.stem: found}, indent=1, sort_keys=True) + "\n")
    else:
        assert found == pytest.approx(references[path.stem], rel=1e-3)


def test_every_published_row_has_a_recipe() -> None:
    names = {path.stem for path in recipe.recipe_files()}
    for dataset in ("ETTh1", "ETTh2", "ETTm2", "Electricity"):
        for method in ("random", "mtt", "condtsf", "hdt"):
            assert f"{dataset.lower()}-{method}" in names
            data, settings = recipe.read_recipe(recipe.recipe_file(f"{dataset.lower()}-{method}"))
            assert data == dataset and settings["method"] == method
            where = {name: settings[name] for name in ("length", "context", "horizon")}
            assert published.mse(data, method, "dlinear", **where) is not None


def test_every_method_has_a_recipe() -> None:
    assert {recipe.read_recipe(path)[1]["method"] for path in recipe.recipe_files()} == set(METHODS)


def test_references_name_no_recipe_that_is_gone() -> None:
    assert set(json.loads(REFERENCES.read_text())) == {path.stem for path in recipe.recipe_files()}
