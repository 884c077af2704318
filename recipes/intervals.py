"""How calibrated intervals are that are learned on small sets: python recipes/intervals.py OUT RUN [RUN ...]

Each RUN is a run folder of ``hdt distill``; runs of the same data share the rows of full data and of a random segment.
To cost seconds, DLinear forecasts nine quantiles of every eighth step of the horizon only, at its published rate, and
full data are seen for at most as many steps as make ten passes over ETTh1; else it is the rule of ``hdt evaluate
--quantiles``. The last step of training is chosen on validation, the test part is read once. OUT gets ``intervals.csv``
and ``intervals.png``; rows that are in it already are not computed again. ``--seeds 3`` repeats all of it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from hdt.evaluation.figures import _color
from hdt.evaluation.protocol import Evaluator
from hdt.evaluation.scores import noise_of
from hdt.maths.residuals import Scatter
from hdt.maths.windows import spread, windows
from hdt.run.distilled import Distilled
from hdt.run.source import real_data
from hdt.start import random_set
from hdt.students import build
from hdt.students.quantiles import LEVELS, Quantiles, pinball
from hdt.training import fit
from hdt.training.loop import train

EVERY, MOST = 8, 2650  # steps of the horizon, and of training


class Some(Quantiles):
    """Quantiles [B, Q, H / EVERY, C] of some steps of the horizon."""

    def __init__(self, context: int, horizon: int, channels: int, seed: int) -> None:
        self.count = horizon // EVERY
        super().__init__(build("dlinear", context, len(LEVELS) * self.count, channels, seed), horizon)

    def outputs(self, context: Tensor) -> Tensor:
        return self.network(context).unflatten(1, (len(LEVELS), self.count))


class Task(fit._Quantiles):
    """The training of ``hdt evaluate --quantiles`` on these steps."""

    def target(self, batch: Tensor) -> Tensor:
        return super().target(batch)[:, EVERY - 1 :: EVERY]

    def measure(self) -> float:
        return told(self.quantiles, self.validation, 256)["crps"]


@torch.no_grad()
def told(student: Quantiles, series: Tensor, most: int) -> dict[str, float]:
    """Errors over so many windows, spread evenly, and the share of targets below every quantile."""
    student.eval()
    every = windows(series, student.context, student.horizon)
    sums: dict[str, float] = {}
    for some in spread(len(every), most).split(256):
        target = every[some][:, student.context :][:, EVERY - 1 :: EVERY]
        found = student.quantiles(every[some][:, : student.context])
        inside = (found[:, 0] <= target) & (target <= found[:, -1])
        part = {"crps": 2 * pinball(found, target).mean(), "size": target.abs().mean(), "coverage_80": inside.float()}
        part |= {f"below_{level}": (target <= found[:, n]).float() for n, level in enumerate(LEVELS)}
        for name, value in part.items():
            sums[name] = sums.get(name, 0.0) + len(some) * value.mean().item()
    count = min(most, len(every))
    means = {name: value / count for name, value in sums.items()}
    size = means.pop("size")
    return {**means, "wql": means["crps"] / size}


def measured(evaluator: Evaluator, series: Tensor, seed: int, noise: Scatter | None) -> dict[str, float]:
    """Train on a series, the step chosen on validation; errors there and on the test part."""
    student = Some(evaluator.context, evaluator.horizon, series.shape[-1], seed)
    training = student.network.training_settings
    steps = min(
        MOST, training.epochs * -(-windows(series, evaluator.context, evaluator.horizon).shape[1] // training.batch)
    )
    running = fit.Running(steps=max(training.min_steps, steps))
    task = Task(student, series, evaluator.val, seed, training, running, noise)
    _, best = train(task, task.course())
    assert best is not None
    student.load_state_dict(best)
    found = {
        f"validation_{name}": value for name, value in told(student, evaluator.val, 1024).items() if name[0] != "b"
    }
    return {**found, **told(student, evaluator.test, 10**9)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    kept = args.out / "intervals.csv"
    rows: list[dict[str, Any]] = pd.read_csv(kept).to_dict("records") if kept.exists() else []
    for folder in args.runs:
        distilled = Distilled.load(folder)
        run, panel = distilled.info.settings, real_data(distilled)
        evaluator = Evaluator(panel, run.context, run.horizon, device="cpu")
        noise, known = noise_of(distilled), {(r["trained_on"], r["seed"]) for r in rows if r["data"] == panel.name}
        for seed in range(args.seeds):
            sets: dict[str, tuple[Tensor, Scatter | None]] = {
                run.method: (torch.tensor(distilled.values), noise),
                f"{run.method}, without noise": (torch.tensor(distilled.values), None),
                "random": (random_set(evaluator.train, run.sequences, run.length, run.channels, seed), None),
                "full": (evaluator.train[None], None),
            }
            for name, (series, added) in sets.items():
                if (name, seed) not in known:
                    found = measured(evaluator, series, seed, added)
                    rows.append({"data": panel.name, "trained_on": name, "seed": seed, **found})
                    pd.DataFrame(rows).round(4).to_csv(kept, index=False)
                    print(rows[-1], flush=True)
    draw(pd.DataFrame(rows)).savefig(args.out / "intervals.png", dpi=100)


def draw(table: pd.DataFrame) -> Figure:
    """The share of test targets below every quantile against its level, a panel per data set."""
    names = list(dict.fromkeys(table["data"]))
    figure = Figure(figsize=(4.2 * len(names), 4), layout="constrained")
    columns = [f"below_{level}" for level in LEVELS]
    methods = sorted(set(table["trained_on"]) - {"full"}, key=lambda name: (name == "random", name))
    for ax, data in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        ax.plot([0, 1], [0, 1], color="#bbbbbb", lw=1)
        for name in [*methods, "full"]:
            own = table[(table["data"] == data) & (table["trained_on"] == name)]
            if len(own):
                base = name.split(",")[0]
                color = "black" if name == "full" else _color(base)
                style = "--" if name.endswith("without noise") else "-"
                ax.plot(LEVELS, own[columns].mean(), style, marker="o", ms=3, color=color, label=name)
        ax.set(title=data, xlabel="level of the quantile", ylabel="share of test targets below it")
        ax.set(xlim=(0, 1), ylim=(0, 1))
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(fontsize=8, frameon=False)
    return figure


if __name__ == "__main__":
    main()
