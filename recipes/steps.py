"""Validation error against optimiser steps, on all data and on a distilled set: python recipes/steps.py ETTh1 dlinear

Both train at each of the student's rates with its published schedule and are looked at after every few steps. Printed
are the first step and second at which any of them comes within 2% of the lowest error on all data; that rate is drawn,
or where none does the best one, with what the set has taken to distil. Only the validation part is read.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

import hdt
from hdt.evaluation.protocol import Evaluator
from hdt.students import STUDENTS, build
from hdt.training.fit import Running, _Students
from hdt.training.loop import train

WITHIN = 1.02
Curve = list[tuple[int, float, float]]  # step, seconds of training, validation error


def curves(student: str, series: Tensor, evaluator: Evaluator, steps: int, looks: int) -> list[Curve]:
    """The course at each of the student's rates over so many steps."""
    found: list[Curve] = []
    for training in STUDENTS[student].trainings():
        network = build(student, evaluator.context, evaluator.horizon, series.shape[-1], 0)
        task = _Students(network, series, evaluator.val, 0, training, Running(steps=steps))
        course = replace(task.course(), look_every=max(1, steps // looks), patience=math.inf, from_base=True)
        found.append(train(task, course)[0].history)
    return found


def best(history: Curve) -> float:
    """The lowest error of a course."""
    return min(error for _, _, error in history)


def within(history: Curve, target: float) -> tuple[float, float]:
    """The first step, and second, at which the error is at most the target; infinite where it never is."""
    return next(((step, seconds) for step, seconds, error in history if error <= target), (math.inf, math.inf))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("students", nargs="+")
    parser.add_argument("--method", default="fred-wiener")
    parser.add_argument("--passes", type=float, default=3, help="passes over all data")
    parser.add_argument("--steps", type=int, default=700, help="on the distilled set")
    parser.add_argument("--looks", type=int, default=300, help="at the validation part, of each training")
    parser.add_argument("--out", type=Path, default=Path("steps.png"))
    args = parser.parse_args()
    panel = hdt.load(args.data)
    distilled = hdt.distill(panel, method=args.method)
    settings = distilled.info.settings
    evaluator = Evaluator(panel, settings.context, settings.horizon, device="cpu")
    synthetic = torch.as_tensor(distilled.values, dtype=torch.float32)
    figure = Figure(figsize=(4.5 * len(args.students), 3.6), layout="constrained")
    axes = figure.subplots(1, len(args.students), squeeze=False)[0]
    for ax, student in zip(axes, args.students, strict=True):
        count = len(evaluator.train) - settings.context - settings.horizon + 1
        all_steps = math.ceil(args.passes * count / STUDENTS[student].training_settings.batch)
        full = curves(student, evaluator.train[None], evaluator, all_steps, args.looks)
        small = curves(student, synthetic, evaluator, args.steps, args.looks)
        lowest = min(map(best, full))
        target = WITHIN * lowest
        for name, histories in (("all data", full), (args.method, small)):
            drawn = min(histories, key=lambda history: (within(history, target)[0], best(history)))
            (step, second), least = within(drawn, target), min(map(best, histories))
            ax.plot([max(place, 1) for place, _, _ in drawn], [error for _, _, error in drawn], label=name)
            told = "never" if step == math.inf else f"step {step:,}, {second:.2f} s"
            print(f"{panel.name} {student}, {name}: best {least:.4f}; within 2% of all data: {told}", flush=True)
        ax.axhline(target, ls=":", c="grey", lw=1)
        ax.set(xscale="log", title=student, xlabel="optimiser steps", ylim=(0.97 * lowest, 1.6 * lowest))
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("validation MSE")
    axes[0].legend(frameon=False)
    figure.suptitle(f"{panel.name}; distilled in {distilled.info.seconds:.0f} s; dotted: 2% above all data", fontsize=9)
    figure.savefig(args.out, dpi=110)


if __name__ == "__main__":
    main()
