"""Is one method better than another? Differences paired by seed, with 95% intervals."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from hdt.evaluation.naive import NAIVE

REFERENCES = ("full", *NAIVE)  # what methods are held against; never methods themselves

TIE = 0.02  # of full data's error: what lies within is no difference that anybody would choose by


def interval(differences: np.ndarray) -> tuple[float, float, float]:
    """Mean of differences [seeds] and its 95% interval by Student's t, which a single seed does not have."""
    from scipy import stats

    mean, count = float(np.mean(differences)), len(differences)
    if count < 2:
        return mean, math.nan, math.nan
    half = float(stats.t.ppf(0.975, count - 1) * np.std(differences, ddof=1) / math.sqrt(count))
    return mean, mean - half, mean + half


def ratios(cells: pd.DataFrame) -> pd.DataFrame:
    """Mean over students of MSE / mean MSE of full data, by seed and method: [seeds, methods].

    ``cells`` holds ``method``, ``student``, ``seed`` and ``mse``, as :func:`hdt.compare` writes them to ``cells.csv``;
    only the seeds and methods that have every student are there. Where there is ``wql``, it is taken in place of MSE.
    """
    error = "wql" if "wql" in cells else "mse"
    full = cells[cells["method"] == "full"].groupby("student")[error].mean()
    table = cells[~cells["method"].isin(REFERENCES)].pivot_table(
        index=["seed", "student"], columns="method", values=error
    )
    relative = table.div(table.index.get_level_values("student").map(full.to_dict()), axis=0)
    whole = relative.groupby("seed").count() == len(full)
    return relative.groupby("seed").mean().where(whole).dropna(axis=1, how="all")


def behind_best(cells: pd.DataFrame) -> pd.DataFrame:
    """How far every method is behind the one with the lowest mean ratio, best first.

    Columns ``method``, ``ratio``, ``behind`` with ``low`` and ``high``, the 95% interval of the difference over the
    seeds that both have, ``seeds``, and ``verdict``: best; behind, where the interval lies above zero; tie, where it
    holds zero and nothing beyond ± ``TIE``; undecided, where it is wider; one seed, where there is none.
    """
    found = ratios(cells)
    order = found.mean().sort_values()
    best = found[order.index[0]]
    rows = []
    for method, ratio in order.items():
        differences = (found[method] - best).dropna().to_numpy()
        mean, low, high = interval(differences) if method != order.index[0] else (0.0, 0.0, 0.0)
        verdict = (
            "one seed" if math.isnan(low) else "behind" if low > 0 else "tie" if max(-low, high) <= TIE else "undecided"
        )
        verdict = "best" if method == order.index[0] else verdict
        rows.append({"method": method, "ratio": ratio, "behind": mean, "low": low, "high": high,
                     "seeds": len(differences), "verdict": verdict})  # fmt: skip
    return pd.DataFrame(rows)


def readable(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of :func:`behind_best` for people."""
    lines = []
    for n, row in enumerate(table.to_dict("records")):
        known = math.isfinite(row["low"])
        gap = f"{row['behind']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]" if known else f"{row['behind']:+.3f}"
        lines.append([row["method"], f"{row['ratio']:.3f}×", "" if n == 0 else gap, row["verdict"], str(row["seeds"])])
    return ["method", "to full", "behind the best, paired [95%]", "", "seeds"], lines
