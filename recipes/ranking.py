"""Does tuning on a distilled set order models as tuning on all data does? python recipes/ranking.py RUN --out FILE

``--each`` configurations of every student of ``--space`` are drawn, and each is trained on the run's series, on a
random segment of as many floats, on a random tenth of the windows, on all data for a single epoch and on all data,
with ``--seeds`` seeds. Every training is a row of ``--out``, so that an interrupted ranking goes on. Printed per small
set, over configurations: Kendall's τ and Spearman's ρ between the validation error there, which one would choose by,
and the test (or validation) error on all data, with 95% bootstrap intervals, the regret of taking the one that is best
there, the same against what one would have taken on all data, and the seconds of all trainings beside those on all
data. ``--draw`` trains nothing: it tells what the file holds, of configurations that are complete, and draws it beside.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from hdt.run.distilled import Distilled
from hdt.selection.ranking import SETS, agreements, rank
from hdt.selection.space import Configuration, Space

HERE = Path(__file__).resolve().parent


def drawn(space: Space, each: int, seed: int = 0) -> list[Configuration]:
    """So many random configurations of every student, those of one student together; fewer where some are equal."""
    found = []
    for place, student in enumerate(space.students):
        generator = np.random.default_rng([seed, place])
        own = [space.draw(student, generator) for _ in range(each)]
        found += [one for n, one in enumerate(own) if one not in own[:n]]
    return found


def whole(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of configurations that every training set and seed has."""
    label = table["student"] + table["values"]
    count = table.groupby(label)["key"].transform("count")
    return table[count == count.max()]


def told(table: pd.DataFrame) -> str:
    """The agreement of every small set, by what is tested and by validation alone, as Markdown."""
    seconds = table.groupby("trained_on")["train_seconds"].sum()
    lines = [
        "| trained on | seed | by | τ | ρ | regret | to tuning on all data | seconds, to all data |",
        "|" + "---|" * 8,
    ]
    for truth, name in (("mse", "test"), ("validation_mse", "validation")):
        for own in agreements(table, truth).itertuples():
            share = seconds[own.trained_on] / seconds["full"]
            lines.append(
                f"| {own.trained_on} | {own.seed} | {name} | {own.kendall:.2f} [{own.kendall_low:.2f}, "
                f"{own.kendall_high:.2f}] | {own.spearman:.2f} [{own.spearman_low:.2f}, {own.spearman_high:.2f}] | "
                f"{own.regret:.1%} | {behind(table, own.trained_on, own.seed, truth):+.1%} | {share:.3f} |"
            )
    return "\n".join(lines)


def behind(table: pd.DataFrame, trained_on: str, seed: int, truth: str) -> float:
    """How much higher the error on all data is of what one would choose there than of what one would on all data."""
    index = ["student", "values"]
    full = table[table["trained_on"] == "full"].groupby(index)[list({"validation_mse", truth})].mean()
    small = table[(table["trained_on"] == trained_on) & (table["seed"] == seed)].set_index(index)["validation_mse"]
    return float(full[truth][small.idxmin()] / full[truth][full["validation_mse"].idxmin()] - 1)


def draw(table: pd.DataFrame, path: Path) -> Path:
    """Every configuration: the error on each small set against that on all data."""
    from matplotlib.figure import Figure

    index = ["student", "values", "seed", "trained_on"]
    wide = table.set_index(index)[["validation_mse", "mse"]].unstack()
    small = [name for name in SETS if name != "full" and name in set(table["trained_on"])]
    figure = Figure(figsize=(4.2 * len(small), 4.4), layout="constrained")
    for ax, name in zip(np.atleast_1d(figure.subplots(1, len(small), sharey=True)), small, strict=True):
        for student, own in wide.groupby("student", sort=True):
            ax.plot(own["validation_mse"][name], own["mse"]["full"], "o", ms=4, alpha=0.8, label=student)
        ax.set(xscale="log", yscale="log", xlabel=f"validation MSE, trained on: {name}")
        ax.spines[["top", "right"]].set_visible(False)
        handles = ax.get_legend_handles_labels()
    figure.axes[0].set_ylabel("test MSE, trained on all data")
    figure.legend(*handles, loc="outside lower center", ncols=8, fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of 'hdt distill'")
    parser.add_argument("--out", type=Path, required=True, help="a CSV file that rows are added to")
    parser.add_argument("--space", type=Path, default=HERE / "ranking-space.yaml")
    parser.add_argument("--each", type=int, default=6, help="configurations of a student")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--stride", type=int, default=1, help="of all data, every so many-th window")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--draw", action="store_true", help="train nothing: tell and draw what is in --out")
    args = parser.parse_args()
    if args.draw:
        table = whole(pd.read_csv(args.out))
        print(told(table))
        print(draw(table, args.out.with_suffix(".png")))
        return
    configurations = drawn(Space.read(args.space), args.each)
    table = rank(
        Distilled.load(args.run), configurations, sets=args.sets, seeds=args.seeds, stride=args.stride,
        device=args.device, out=args.out,
        watch=lambda label, done, total: print(f"{done}/{total} {label}", flush=True),
    )  # fmt: skip
    if "full" in args.sets:
        print(told(table))


if __name__ == "__main__":
    main()
