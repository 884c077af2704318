"""What irregular stamps cost: python recipes/irregular.py ETTh1 --csv irregular.csv --picture resample.png

Readings of the training and validation parts are moved by up to half a step, to where the straight line between their
neighbours then is, and a share of them is lost, with one seed; ``--resample`` of the data's step brings them back to a
grid, and what is missing is masked and filled. Columns: the share of missing cells of the training part, its mean
squared distance from the complete one, of cells that are there and of all, and the error on the complete test part of a
ridge regression 96 → 96, one for all channels, that was fitted to it; all in the scale of the complete data.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import hdt
from hdt.data.series import Panel

SHARES, SHOWN, CONTEXT, HORIZON = (0.0, 0.3, 0.5), 72, 96, 96


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


def ridge(train: np.ndarray) -> np.ndarray:
    """Weights [L + 1, H] of a forecaster of one channel, fitted to all of them."""
    left, right = np.eye(CONTEXT + 1), np.zeros((CONTEXT + 1, HORIZON))
    for own in train.T:
        context, horizon = cut(own)
        left, right = left + context.T @ context, right + context.T @ horizon
    return np.linalg.solve(left, right)


def cut(own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Contexts [n, L + 1], with a one, and horizons [n, H] of a channel."""
    every = np.lib.stride_tricks.sliding_window_view(own, CONTEXT + HORIZON)
    return np.column_stack([every[:, :CONTEXT], np.ones(len(every))]), every[:, CONTEXT:]


def measured(panel: Panel, given: Panel) -> dict[str, float]:
    """The columns for one table, beside the complete one."""
    complete, train, gaps = panel.part("train"), given.part("train"), given.part("train", gaps=True)
    weights = ridge(train)
    parts = [cut(own) for own in panel.part("test", CONTEXT).T]
    errors = [np.square(context @ weights - horizon).mean() for context, horizon in parts]
    return {
        "missing": float(np.isnan(gaps).mean()), "there": float(np.nanmean(np.square(gaps - complete))),
        "all": float(np.square(train - complete).mean()), "ridge": float(np.mean(errors)),
    }  # fmt: skip


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
    axis.plot(grid[begin:end], "o", color="tab:red", markersize=3, fillstyle="none",
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
    parser.add_argument("--csv", type=Path, default=Path("irregular.csv"))
    parser.add_argument("--picture", type=Path, help="where a picture goes")
    args = parser.parse_args()
    panel = hdt.load(args.data)
    if args.picture is not None:
        draw(panel, SHARES[1], args.rule, args.picture)
    rows = []
    for share in (None, *SHARES):
        given = panel if share is None else resampled(panel, share, args.rule)
        stamps = {"stamps": "regular" if share is None else "irregular", "lost": share or 0.0}
        rows.append({"data": panel.name, **stamps, **measured(panel, given)})
        table = pd.DataFrame(rows).assign(to_complete=lambda found: found["ridge"] / found["ridge"][0]).round(4)
        table.to_csv(args.csv, index=False)
        print(table.tail(1).to_string(header=len(rows) == 1, index=False), flush=True)


if __name__ == "__main__":
    main()
