"""The price of privacy: test errors of DLinear on sets of tables of many series, by ε (δ = 1e-5).

    python recipes/privacy.py electricity m4-hourly solar made --seeds 3 --out privacy.csv --figure privacy.png

``electricity``, ``m4-hourly`` and ``solar`` are files of HDT_DATA_DIR; ``made`` are 2,000 series of daily and weekly
harmonics and autoregressive noise, with weights of their own. ``random`` with an ε are pieces of the stand-in itself:
the noised spectrum with random phases. Epoch and rate are chosen on real validation data, which a private set does not
cover: the errors are those of an owner who looks. Rows are written as they are found; those there are not found again.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import hdt

CASES: dict[str, dict[str, Any]] = {
    "electricity": {"context": 24, "horizon": 24, "length": 192},
    "m4-hourly": {"context": 48, "horizon": 24, "length": 192},
    "solar": {"context": 48, "horizon": 24, "length": 192},
    "made": {"context": 48, "horizon": 24, "length": 192},
}
EPSILONS = [1.0, 2.0, 4.0, 8.0, 1000.0]  # the last one: what the spectrum alone costs
WIENER = {"iterations": 100, "features": 64, "draws": 4}


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


def rows(case: str, epsilon: float | None, seeds: int) -> pd.DataFrame:
    """Errors of one case and ε; None: without noise, which is not private."""
    given = {} if epsilon is None else {"epsilon": epsilon}
    panel = hdt.load(table_of(case))
    found = hdt.compare(panel, methods=["wiener"], students=["dlinear"], seeds=seeds, **CASES[case], **WIENER, **given)
    found = found[["method", "mse", "mse_std", "validation_mse", "ratio_to_full", "seeds"]]
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
    parser.add_argument("--out", type=Path, default=Path("privacy.csv"))
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    known = pd.read_csv(given.out) if given.out.is_file() else pd.DataFrame({"case": [], "epsilon": [], "seeds": []})
    for case in given.cases:
        for epsilon in (None, *EPSILONS):
            there = (known.case == case) & (known.epsilon == (epsilon or np.inf)) & (known.seeds >= given.seeds)
            if not there.any():
                known = pd.concat([known[known.seeds > 0], rows(case, epsilon, given.seeds)])
                known = known.astype({"series": int, "seeds": int})
                known.round(5).to_csv(given.out, index=False)
    print(known.round(4).to_string())
    if given.figure:
        draw(known[~known.method.isin(["last value", "last season"])], given.figure)


if __name__ == "__main__":
    main()
