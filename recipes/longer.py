"""What more steps buy every student, with auto: python recipes/longer.py --out longer.png

Drawn from ``recipes/longer.csv`` is the test error over that on all data against the numbers stored, mean over seeds,
of the sets that ``hdt distill DATA --method auto --length M`` makes (ν = .06, beyond 384 steps .06 · 384/M).
Rows that stand in other files of this folder, too, name these in the column ``commit``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from hdt.distillation.methods import automatic
from hdt.evaluation.figures import REAL

DATA = ("ETTh1", "ETTm1", "Weather")
STUDENTS = {"dlinear": "DLinear", "xpatch": "xPatch", "itransformer": "iTransformer"}


def ratios(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each set, length and student: numbers stored and error over that on all data, of the same seeds if known."""
    full = rows[rows["method"] == "full"].set_index(["data", "student", "seed"])["mse"]
    sets = rows[rows["method"] == "auto"]
    sets = sets[
        [noise == automatic(int(m), True)["noise"] for m, noise in zip(sets["length"], sets["noise"], strict=True)]
    ]
    found = []
    for (data, student, length), own in sets.groupby(["data", "student", "length"]):
        known = full[data, student]
        same = known[known.index.isin(own["seed"])]
        against = same if len(same) == len(own) else known
        found.append((data, student, length, own["floats"].iloc[0], own["mse"].mean() / against.mean(), len(own)))
    return pd.DataFrame(found, columns=["data", "student", "length", "floats", "ratio", "seeds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("longer.png"))
    args = parser.parse_args()
    found = ratios(pd.read_csv(Path(__file__).with_name("longer.csv")))
    figure = Figure(figsize=(10.5, 3.4), layout="constrained")
    for ax, data in zip(figure.subplots(1, len(DATA), sharey=True), DATA, strict=True):
        for student, label in STUDENTS.items():
            own = found[(found["data"] == data) & (found["student"] == student)].sort_values("floats")
            ax.plot(own["floats"], own["ratio"], "o-", ms=4, lw=1.3, label=label)
        ax.axhline(1, color=REAL, lw=1)
        lengths = found[found["data"] == data].groupby("floats")["length"].max()
        ax.set(xscale="log", title=data, xlabel="steps (numbers stored)")
        ax.set_xticks(lengths.index, [f"{length:,.0f}\n({floats:,.0f})" for floats, length in lengths.items()])
        ax.minorticks_off()
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("test MSE over that on all data")
    figure.axes[0].legend(frameon=False)
    figure.savefig(args.out, dpi=130)
    print(found.pivot(index="student", columns=["data", "length"], values="ratio").round(3).to_string())


if __name__ == "__main__":
    main()
