"""What irregular stamps cost: python recipes/irregular.py ETTh1 --out irregular

Readings of the training and validation parts are moved by up to half a step, to where the straight line between their
neighbours then is, and a share of them is lost, with one seed; ``--resample`` of the data's step brings them back to a
grid. The test part stays complete and regular. Each method distils what was resampled, a student trains on the result
and on all that was resampled, its epoch chosen there, and its test error in the scale of the complete data is divided
by that of the same on complete data. Every cell is kept in --out, from where a stopped run goes on.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import hdt
from hdt.data.series import Panel
from hdt.evaluation.protocol import Evaluator
from hdt.run import produce

SHARES, METHODS, SHOWN = (0.0, 0.3, 0.5), ("wiener", "full"), 72


def irregular(panel: Panel, share: float, seed: int = 0) -> pd.DataFrame:
    """Readings of the panel at other times, so many of them lost; the test part as it is."""
    draw, rows, step = np.random.default_rng(seed), panel.borders[1], pd.Timedelta(panel.step)
    truth = np.asarray(panel.values, np.float64)
    at = np.arange(len(truth)) + np.where(np.arange(len(truth)) < rows, draw.uniform(-0.5, 0.5, len(truth)), 0)
    values = np.stack([np.interp(at, np.arange(len(truth)), own) for own in truth.T], axis=1)
    kept = (draw.random(len(truth)) >= share) | (np.arange(len(truth)) >= rows)
    kept[0] = True
    stamps = panel.index[0] + np.maximum(at, 0) * step
    return pd.DataFrame(values, pd.DatetimeIndex(stamps).round("s"), list(panel.columns))[kept]


def resampled(panel: Panel, share: float, rule: str) -> Panel:
    """What hdt reads of these readings, in the scale of the complete data."""
    found = hdt.load(irregular(panel, share), resample=rule, split=panel.borders, missing="mask")
    return replace(found, fixed=panel.scaler, name=panel.name, source=panel.source)


def measured(panel: Panel, method: str, student: str) -> dict[str, float]:
    """Errors of the student on what the method makes of the panel, or on the panel itself."""
    _, plan = produce.prepare(panel, method="wiener" if method == "full" else method, seed=0, device="cpu")
    evaluator = Evaluator(panel, plan.context, plan.horizon, device="cpu")
    series = evaluator.train[None] if method == "full" else produce.distill_panel(panel, plan).values
    return evaluator.score(student, series, 0)


def draw(panel: Panel, share: float, rule: str, file: Path) -> None:
    """Three days of the last column: complete, at irregular times, and resampled."""
    figure = Figure(figsize=(8, 2.6), layout="constrained")
    axis, first = figure.subplots(), 200
    name = panel.columns[-1]
    begin, end = panel.index[first], panel.index[first + SHOWN]
    values = pd.DataFrame(panel.values, panel.index, list(panel.columns))[name]
    raw, back = irregular(panel, share)[name], resampled(panel, share, rule)
    grid = pd.DataFrame(back.values, back.index, list(back.columns))[name]
    filled = pd.DataFrame(back.original("train"), back.index[: back.borders[0]], list(back.columns))[name]
    axis.plot(values[begin:end], color="0.75", linewidth=3, label="complete")
    axis.plot(raw[begin:end], "k.", markersize=4, label=f"readings, {share:.0%} lost")
    axis.step(filled[begin:end].index, filled[begin:end], where="post", color="tab:red", linewidth=1, label="filled")
    axis.plot(grid[begin:end] + 0 * grid[begin:end], "o", color="tab:red", markersize=3, fillstyle="none",
              label=f"--resample {rule}")  # fmt: skip
    axis.set_ylabel(f"{panel.name} {name}")
    axis.legend(fontsize=8, ncols=4, loc="upper left", frameon=False)
    low, high = axis.get_ylim()
    axis.set_ylim(low, high + 0.2 * (high - low))
    figure.savefig(file, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--rule", default="h")
    parser.add_argument("--student", default="dlinear")
    parser.add_argument("--methods", nargs="*", default=METHODS)
    parser.add_argument("--out", type=Path, default=Path("irregular"))
    parser.add_argument("--csv", type=Path, help="where the table goes; by default irregular.csv in --out")
    parser.add_argument("--picture", type=Path, help="where a picture goes")
    args = parser.parse_args()
    panel = hdt.load(args.data)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.picture is not None:
        draw(panel, SHARES[1], args.rule, args.picture)
    rows = []
    for method in args.methods:
        complete = None
        for share in (None, *SHARES):
            file = args.out / f"{panel.name}-{args.student}-{method}-{share}.json"
            if not file.exists():
                given = panel if share is None else resampled(panel, share, args.rule)
                file.write_text(json.dumps(measured(given, method, args.student)))
            score = json.loads(file.read_text())
            complete = complete or score["mse"]
            row = {"data": panel.name, "student": args.student, "trained_on": method}
            row |= {"stamps": "regular" if share is None else "irregular", "lost": share or 0.0}
            row |= {name: round(score[name], 4) for name in ("mse", "mae", "validation_mse")}
            rows.append({**row, "to_complete": round(score["mse"] / complete, 4)})
            table = pd.DataFrame(rows)
            table.to_csv(args.csv or args.out / "irregular.csv", index=False)
            print(table.tail(1).to_string(header=len(rows) == 1, index=False), flush=True)


if __name__ == "__main__":
    main()
