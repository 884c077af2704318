"""What missing values cost: python recipes/gaps.py ETTh1 --out gaps

Cells of the training and validation parts are removed, one by one or in blocks of a channel (of 48 steps on average),
with one seed, until a share of them is gone; the test part stays complete. Each method distils what is left, a student
trains on the result and on all that is left, and its test error, in the scale of the complete data, is divided by that
of the same on complete data. Every cell of the table is kept in --out as it is done, from where a stopped run goes on.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

import hdt
from hdt.data.series import Panel
from hdt.evaluation.protocol import Evaluator
from hdt.run import produce

SHARES, KINDS, METHODS, BLOCK = (0.3, 0.5, 0.1), ("random", "blocks"), ("wiener", "fred-wiener", "full"), 48


def holes(kind: str, share: float, shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Which cells [T, C] are missing."""
    draw = np.random.default_rng(seed)
    if kind == "random":
        return draw.random(shape) < share
    found = np.zeros(shape, bool)
    for channel in found.T:
        while channel.mean() < share:
            size = draw.geometric(1 / BLOCK)
            start = draw.integers(1 - size, len(channel))
            channel[max(0, start) : start + size] = True
    return found


def gappy(panel: Panel, kind: str, share: float) -> Panel:
    """The panel without those cells, in the scale of all of them."""
    values, rows = np.array(panel.values, np.float64), panel.borders[1]
    if share:
        values[:rows][holes(kind, share, (rows, panel.channels))] = np.nan
    return replace(panel, values=values, missing="mask", fixed=panel.scaler)


def measured(panel: Panel, method: str, student: str) -> dict[str, float]:
    """Errors of the student on what the method makes of the panel, or on the panel itself."""
    _, plan = produce.prepare(panel, method="wiener" if method == "full" else method, seed=0, device="cpu")
    evaluator = Evaluator(panel, plan.context, plan.horizon, device="cpu")
    series = evaluator.train[None] if method == "full" else produce.distill_panel(panel, plan).values
    return evaluator.score(student, series, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--student", default="dlinear")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--out", type=Path, default=Path("gaps"))
    parser.add_argument("--csv", type=Path, help="where the table goes; by default gaps.csv in --out")
    args = parser.parse_args()
    panel = hdt.load(args.data)
    args.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for method in args.methods:
        complete = None
        for kind, share in [("none", 0.0), *((kind, share) for share in SHARES for kind in KINDS)]:
            file = args.out / f"{panel.name}-{args.student}-{method}-{kind}-{share}.json"
            if not file.exists():
                file.write_text(json.dumps(measured(gappy(panel, kind, share), method, args.student)))
            score = json.loads(file.read_text())
            complete = complete or score["mse"]
            row = {"data": panel.name, "student": args.student, "trained_on": method, "missing": kind, "share": share}
            row |= {name: round(score[name], 4) for name in ("mse", "mae", "validation_mse")}
            rows.append({**row, "to_complete": round(score["mse"] / complete, 4)})
            table = pd.DataFrame(rows)
            table.to_csv(args.csv or args.out / "gaps.csv", index=False)
            print(table.tail(1).to_string(header=len(rows) == 1, index=False), flush=True)


if __name__ == "__main__":
    main()
