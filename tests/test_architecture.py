from __future__ import annotations

import sys
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.mark.draws
def test_the_picture_of_the_imports_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else: python recipes/architecture.py"""
    monkeypatch.syspath_prepend(str(RECIPES))
    import architecture

    assert architecture.drawn() == architecture.imports()
    assert set(architecture.ORDER) == {path.parent.name for path in architecture.PACKAGE.glob("*/__init__.py")}
    for name, others in architecture.imports().items():
        assert all(architecture.ORDER.index(other) < architecture.ORDER.index(name) for other in others), name
    sys.modules.pop("architecture")
