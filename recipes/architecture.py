"""Draws which folder of hdt imports from which: `python recipes/architecture.py` writes architecture.png beside this.

The picture keeps the counts it was drawn from, so that a test can tell when it is out of date.
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent / "hdt"
PICTURE = HERE / "architecture.png"
ORDER = (
    "system", "data", "maths", "students", "training", "start", "parameterization", "objective", "distillation", "run",
    "evaluation", "tuning", "cli",
)  # fmt: skip


def imports() -> dict[str, dict[str, int]]:
    """How many modules of a folder import from which other folder."""
    found: dict[str, Counter[str]] = {name: Counter() for name in ORDER}
    for name in ORDER:
        for path in (PACKAGE / name).glob("*.py"):
            modules = set()
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("hdt."):
                    modules.add(node.module.split(".")[1])
            found[name].update(modules - {name})
    return {name: {other: count[other] for other in ORDER if count[other]} for name, count in found.items()}


def meanings() -> dict[str, str]:
    """The first sentence of every folder."""
    texts = {name: (PACKAGE / name / "__init__.py").read_text(encoding="utf-8") for name in ORDER}
    return {name: (ast.get_docstring(ast.parse(text)) or "").split("\n")[0] for name, text in texts.items()}


def draw() -> Figure:
    """A row per importing folder, a column per imported one; everything lies left of the diagonal."""
    counts, said = imports(), meanings()
    cells = np.array([[counts[row].get(column, 0) for column in ORDER] for row in ORDER])
    figure = Figure(figsize=(16, 6), layout="constrained")
    ax = figure.subplots()
    ax.imshow(np.where(cells > 0, np.log1p(cells), np.nan), cmap="Blues", vmin=-0.5, vmax=3.2)
    for (row, column), count in np.ndenumerate(cells):
        if count:
            ax.text(column, row, str(count), ha="center", va="center", fontsize=9)
    for n, name in enumerate(ORDER):
        ax.text(n, n, "■", ha="center", va="center", color="#2c3e50", fontsize=8)
        ax.text(len(ORDER) - 0.3, n, said[name], va="center", fontsize=9, color="#2c3e50")
    ax.set_xticks(range(len(ORDER)), ORDER, rotation=45, ha="left")
    ax.xaxis.tick_top()
    ax.set_yticks(range(len(ORDER)), ORDER)
    ax.set_title("files of a row's folder that import from a column's", fontsize=10)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return figure


def drawn() -> dict[str, dict[str, int]]:
    """What the picture was drawn from."""
    with Image.open(PICTURE) as image:
        return json.loads(image.info["Description"])


if __name__ == "__main__":
    draw().savefig(PICTURE, dpi=90, metadata={"Description": json.dumps(imports())})
    print(PICTURE)
