"""Draws which folder of hdt imports from which: `python recipes/architecture.py` writes architecture.png beside this.

The picture keeps what it was drawn from, so that a test can tell when it is out of date.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent / "hdt"
PICTURE = HERE / "architecture.png"
ORDER = (
    "system", "data", "maths", "students", "training", "start", "parameterization", "objective", "distillation", "run",
    "evaluation", "selection", "tuning", "cli",
)  # fmt: skip


def imports() -> dict[str, list[str]]:
    """From which other folders each imports."""
    found: dict[str, list[str]] = {}
    for name in ORDER:
        others = set()
        for path in (PACKAGE / name).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("hdt."):
                    others.add(node.module.split(".")[1])
        found[name] = [other for other in ORDER if other in others - {name}]
    return found


def meanings() -> dict[str, str]:
    """The first sentence of every folder."""
    texts = {name: (PACKAGE / name / "__init__.py").read_text(encoding="utf-8") for name in ORDER}
    return {name: (ast.get_docstring(ast.parse(text)) or "").split("\n")[0] for name, text in texts.items()}


def draw() -> Figure:
    """A row per importing folder, a column per imported one; everything lies left of the diagonal."""
    found, said = imports(), meanings()
    cells = np.array([[1.0 if column in found[row] else np.nan for column in ORDER] for row in ORDER])
    figure = Figure(figsize=(16, 6), layout="constrained")
    ax = figure.subplots()
    ax.imshow(cells, cmap="Blues", vmin=0, vmax=2)
    for n, name in enumerate(ORDER):
        ax.text(n, n, "■", ha="center", va="center", color="#2c3e50", fontsize=8)
        ax.text(len(ORDER) - 0.3, n, said[name], va="center", fontsize=9, color="#2c3e50")
    ax.set_xticks(range(len(ORDER)), ORDER, rotation=45, ha="left")
    ax.xaxis.tick_top()
    ax.set_yticks(range(len(ORDER)), ORDER)
    ax.set_title("which folder (row) imports from which (column)", fontsize=10)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return figure


def drawn() -> dict[str, list[str]]:
    """What the picture was drawn from."""
    with Image.open(PICTURE) as image:
        return json.loads(image.info["Description"])


if __name__ == "__main__":
    draw().savefig(PICTURE, dpi=90, metadata={"Description": json.dumps(imports())})
    print(PICTURE)
