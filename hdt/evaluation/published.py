"""Figures printed in papers, shown beside what is measured here; all of them in ``published.yaml``."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@cache
def _blocks() -> list[dict[str, Any]]:
    return yaml.safe_load((files("hdt.evaluation") / "published.yaml").read_text(encoding="utf-8"))


def mse(dataset: str, method: str, student: str, *, length: int, context: int, horizon: int) -> float | None:
    """The published test MSE of exactly this setting, or None."""
    for block in _blocks():
        same = (context, horizon) == (block["context"], block["horizon"])
        same = same and (method == "full" or length == block.get("length"))
        found = block["mse"].get(dataset, {}).get(method, {}).get(student)
        if same and found is not None:
            return found
    return None
