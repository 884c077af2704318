"""Draws what methods make of one table: `python recipes/methods.py` writes the docs/methods/METHOD.png that are there.

The table is that of docs/start.md, the settings are those of `hdt distill load.csv --method METHOD`, seed 0. Names
after the command draw these methods, new ones too.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import hdt
from hdt.run.pictures import REAL, SYNTHETIC, middle, png, powers

DOCS = Path(__file__).resolve().parent.parent / "docs"


def table() -> pd.DataFrame:
    """The table of docs/start.md."""
    code = re.search(r"```python\n(.*?)```", (DOCS / "start.md").read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    with TemporaryDirectory() as folder:
        exec(code[1].replace('"load.csv"', repr(f"{folder}/load.csv")), {})
        return pd.read_csv(f"{folder}/load.csv", index_col=0, parse_dates=True)


def picture(distilled: hdt.Distilled) -> Figure:
    """Channel ``load``: the first synthetic sequence beside a real one, and amplitudes of both."""
    length, real, (own, power) = distilled.info.settings.length, middle(distilled, 1), powers(distilled, 1)
    assert real is not None and power is not None
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    days = np.arange(length) / 24
    left.plot(days, real[:, 0], color=REAL, lw=0.9, label="real")
    left.plot(days, distilled.original[0][:, 0], color=SYNTHETIC, lw=0.9, label=f"{distilled.info.settings.method}")
    left.set_xlabel("days", fontsize=8)
    right.semilogy(power.sqrt()[:, 0], color=REAL, lw=1.4)
    right.semilogy(own.sqrt()[:, 0], color=SYNTHETIC, lw=0.8)
    right.set_xlabel(f"frequency, cycles per {length} steps", fontsize=8)
    for ax in (left, right):
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    left.legend(fontsize=8, frameon=False, ncols=2)
    return figure


if __name__ == "__main__":
    frame = table()
    for method in sys.argv[1:] or sorted(path.stem for path in (DOCS / "methods").glob("*.png")):
        distilled = hdt.distill(frame, method=method)
        (DOCS / "methods" / f"{method}.png").write_bytes(png(picture(distilled), dpi=90))
        print(method, round(distilled.info.seconds, 1), "s", flush=True)
