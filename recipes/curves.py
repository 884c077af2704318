"""Every method's curve of error over stored numbers in one picture: python recipes/curves.py FOLDER… --out curves.png

Folders are those of ``hdt compare DATA --method M --student S --vary length=…``, of one data set and students. Drawn is
the test error over that on all data, mean over students and seeds, against the numbers that are stored; methods in
panels by where they come from, a random segment in each. All rows are written beside the picture as CSV, from which
``--draw`` draws again; the table is printed as Markdown.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from hdt.evaluation.figures import REAL

OURS = ("auto", "wiener", "fred-wiener", "nsd-wiener", "hdt-wiener", "hdt-cfm", "fred-mtt", "nsd-mtt")
SUBSETS = ("random", "herding", "kcenter")
PANELS = ("ours, and parts of others put together", "published", "real values")
KEPT = ["data", "method", "varied", "student", "seed", "mse", "validation_mse", "floats", "distill_seconds", "protocol"]


def panel(method: str) -> str:
    """Where a method comes from."""
    return PANELS[0] if method in OURS else PANELS[2] if method in SUBSETS else PANELS[1]


def ratios(rows: pd.DataFrame) -> pd.DataFrame:
    """Method, length, numbers and error over that on all data, mean over students of the ratio of means over seeds."""
    full = rows[rows["method"] == "full"].groupby("student")["mse"].mean()
    small = (
        rows[rows["varied"].notna()].groupby(["method", "varied", "student"])[["mse", "floats"]].mean().reset_index()
    )
    small["ratio"] = small["mse"] / small["student"].map(full)
    return small.groupby(["method", "varied"])[["floats", "ratio"]].mean().reset_index()


def draw(found: pd.DataFrame, title: str, path: Path) -> None:
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    figure.suptitle(title, fontsize=11)
    for ax, name in zip(figure.subplots(1, len(PANELS), sharey=True), PANELS, strict=True):
        shown = found[found["method"].map(panel) == name]
        if name != PANELS[2]:
            shown = pd.concat([shown, found[found["method"] == "random"]])
        for n, method in enumerate(dict.fromkeys(shown["method"])):
            own = shown[shown["method"] == method].sort_values("floats")
            colour = "0.6" if method == "random" else f"C{n + (n >= 7)}"  # C7 is grey, too
            ax.plot(own["floats"], own["ratio"], "o-", ms=3.5, lw=1.2, color=colour, label=method)
        ax.axhline(1, color=REAL, lw=1)
        ax.set(xscale="log", title=name, xlabel="numbers stored", ylim=(0.95, 1.6))
        ticks = sorted(found.groupby("varied")["floats"].max().astype(int))
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        ax.minorticks_off()
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(fontsize=7, frameon=False, ncols=2, loc="upper right")
    figure.axes[0].set_ylabel("test MSE over that on all data")
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, default=Path("curves.png"))
    parser.add_argument("--draw", type=Path, help="a CSV written before, in place of folders")
    args = parser.parse_args()
    if args.draw:
        rows = pd.read_csv(args.draw)
    else:
        rows = pd.concat([pd.read_csv(folder / "cells.csv") for folder in args.folders])[KEPT].drop_duplicates(KEPT[:5])
        rows.to_csv(args.out.with_suffix(".csv"), index=False)
    found = ratios(rows)
    lengths = sorted(found["varied"].unique())
    print(
        "| method | " + " | ".join(f"{length:,.0f}" for length in lengths) + " |\n" + "|---" * (len(lengths) + 1) + "|"
    )
    table = found.pivot_table(index="method", columns="varied", values="ratio")
    for method, row in table.iterrows():
        print(f"| `{method}` | " + " | ".join("–" if pd.isna(row[n]) else f"{row[n]:.3f}" for n in lengths) + " |")
    students = ", ".join(rows["student"].unique())
    draw(found, f"{rows['data'].iloc[0]}, {students}, {rows['seed'].nunique()} seed(s)", args.out)


if __name__ == "__main__":
    main()
