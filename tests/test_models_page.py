"""Every block of Python in recipes/models.md runs, where the library that it shows is installed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from hdt.students import DLinear, Training

PAGE = (Path(__file__).parent.parent / "recipes" / "models.md").read_text(encoding="utf-8")
SECTIONS = dict(part.partition("\n")[::2] for part in PAGE.split("\n## ")[1:])
NEEDS = {"LightGBM": "lightgbm", "gluonts": "gluonts"}


def block(text: str) -> str:
    (found,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return str(found)


@pytest.fixture(scope="module")
def begun() -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(block(PAGE.partition("\n## ")[0]), names)
    return names


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DLinear, "training_settings", Training(lr=5e-3, epochs=1, min_steps=10))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("section", [name for name, text in SECTIONS.items() if "```python" in text])
def test_the_block_runs_in_ten_lines(section: str, begun: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    code = block(SECTIONS[section])
    assert len(code.splitlines()) <= 10
    package = "neuralforecast" if section.startswith("neuralforecast") else NEEDS.get(section)
    if package is not None:
        pytest.importorskip(package, reason=f"{package} is not installed")
    exec(code, dict(begun))
    printed = capsys.readouterr().out
    assert printed.strip() and "nan" not in printed.lower()
    if "hdt.evaluate" in code:
        assert {"distilled", "random", "full"} <= set(printed.split())


def test_every_kind_of_model_has_its_block() -> None:
    assert len(SECTIONS) == 9 and sum("```python" in text for text in SECTIONS.values()) == 8
