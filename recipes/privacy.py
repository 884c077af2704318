"""The price of privacy: test errors on sets of tables of many series, by ε (δ = 1e-5).

    python recipes/privacy.py electricity m4-hourly --seeds 5 --out privacy.csv
    python recipes/privacy.py solar made --seeds 2 --out privacy.csv --figure privacy.png
    python recipes/privacy.py electricity m4-hourly --student dlinear --seeds 2 --out privacy.csv

``electricity``, ``m4-hourly`` and ``solar`` are files of HDT_DATA_DIR; ``made`` are 2,000 series of daily and weekly
harmonics and autoregressive noise, with weights of their own. ``random`` with an ε are pieces of the stand-in itself:
the noised spectrum with random phases. ``ridge`` is a linear forecaster in closed form whose penalty is chosen by
leaving out windows it is trained on, so that nothing is chosen on real data; of DLinear epoch and rate are, as an owner
can who looks. Rows are written as they are found; those there are not found again.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import hdt
from hdt.students.lags import on_lags

CASES: dict[str, dict[str, Any]] = {
    "electricity": {"context": 24, "horizon": 24, "length": 192},
    "m4-hourly": {"context": 48, "horizon": 24, "length": 192},
    "solar": {"context": 48, "horizon": 24, "length": 192},
    "made": {"context": 48, "horizon": 24, "length": 192},
}
EPSILONS = [1.0, 2.0, 4.0, 8.0, 1000.0]  # the last one: what the spectrum alone costs
ROWS = 60_000  # windows that ridge is trained on at most
WIENER = {"iterations": 100, "features": 64, "draws": 4}


def student(name: str, context: int) -> Any:
    """``ridge`` on contexts less their mean, or a student of that name."""
    if name != "ridge":
        return name
    from sklearn.linear_model import RidgeCV

    return on_lags(RidgeCV(np.logspace(-3, 3, 13) * context, fit_intercept=False), "ridge", level="mean", rows=ROWS)


def made(series: int = 2000, steps: int = 600) -> np.ndarray:
    """Series [T, C] with daily and weekly harmonics, and autoregressive noise."""
    rng, t = np.random.default_rng(0), np.arange(steps)[:, None]
    noise, memory = rng.normal(size=(steps, series)), rng.uniform(0.5, 0.95, series)
    for step in range(1, steps):
        noise[step] = memory * noise[step - 1] + np.sqrt(1 - memory**2) * noise[step]
    values = noise * rng.gamma(2, 0.7, series)
    for period in (24, 168):
        for k in (1, 2, 3):
            phase = rng.normal(k, 0.5, series)
            values += rng.gamma(1, 1, series) / k * np.sin(2 * np.pi * k * t / period + phase)
    return values


def table_of(case: str) -> pd.DataFrame:
    """The table of a case, a column per series."""
    folder = Path(os.environ.get("HDT_DATA_DIR", "data"))
    if case == "electricity":
        values = np.load(folder / "electricity_321x840.npy").T
    elif case == "m4-hourly":  # the last 700 hours, which all series have
        lines = pd.read_csv(folder / "M4_Hourly-train.csv", index_col=0).to_numpy(float)
        values = np.stack([line[~np.isnan(line)][-700:] for line in lines], axis=1)
    elif case == "solar":
        values = pd.read_parquet(folder / "solar_10608x137.parquet").select_dtypes("number").to_numpy(float)[:4000]
    else:
        values = made()
    stamps = pd.date_range("2014-01-01", periods=len(values), freq="h")
    return pd.DataFrame(values, index=stamps, columns=[f"s{n}" for n in range(values.shape[1])])


def rows(case: str, epsilon: float | None, seeds: int, own: str) -> pd.DataFrame:
    """Errors of one case and ε; None: without noise, which is not private."""
    given = {} if epsilon is None else {"epsilon": epsilon}
    panel = hdt.load(table_of(case))
    students = [student(own, CASES[case]["context"])]
    found = hdt.compare(panel, methods=["wiener"], students=students, seeds=seeds, **CASES[case], **WIENER, **given)
    found = found[["student", "method", "mse", "mse_std", "validation_mse", "ratio_to_full", "seeds"]]
    where = {"case": case, "series": panel.channels, "epsilon": np.inf if epsilon is None else epsilon}
    return found.assign(**where)[[*where, *found.columns]]


def draw(table: pd.DataFrame, place: Path) -> None:
    """Error to that of all data by ε; marks at the right: without noise, and a set that is not private."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 3.4), ncols=2, sharey=True, layout="constrained")
    ticks = [*EPSILONS, np.inf]
    for part, (method, title) in zip(
        axes, {"random": "pieces of the stand-in, □ of the data", "wiener": "wiener"}.items(), strict=True
    ):
        for n, (case, own) in enumerate(table[table.method == method].groupby("case", sort=False)):
            places = [ticks.index(epsilon) for epsilon in own.epsilon]
            noised = [place < len(EPSILONS) for place in places]
            ratio, colour = own.ratio_to_full.to_numpy(), f"C{n}"
            label = f"{case}, {int(own.series.iloc[0]):,} series"
            part.plot(np.array(places)[noised], ratio[noised], "o-", color=colour, label=label)
            part.plot(np.array(places)[np.invert(noised)], ratio[np.invert(noised)], "s", color=colour, mfc="none")
        part.axhline(1, color="0.6", lw=1)
        part.set(title=title, xlabel="ε", xticks=range(len(ticks)))
        part.set_xticklabels(["1", "2", "4", "8", "no\nnoise", "not\nprivate"])
    axes[0].set_ylabel("test MSE to all data")
    axes[1].legend(frameon=False, fontsize=8)
    figure.savefig(place, dpi=110)


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help=", ".join(CASES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--student", default="ridge", help="ridge, or one that hdt knows")
    parser.add_argument("--out", type=Path, default=Path("privacy.csv"))
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    known = pd.read_csv(given.out) if given.out.is_file() else pd.DataFrame(columns=["case", "epsilon", "student"])
    for case in given.cases:
        for epsilon in (None, *EPSILONS):
            there = (known.case == case) & (known.epsilon == (epsilon or np.inf)) & (known.student == given.student)
            if not there.any():
                found = rows(case, epsilon, given.seeds, given.student)
                known = pd.concat([known, found]) if len(known) else found
                known.round(5).to_csv(given.out, index=False)
    print(known.round(4).to_string())
    if given.figure:
        draw(known[known.student == given.student], given.figure)


if __name__ == "__main__":
    main()
