"""A distilled set kept up to date, month by month, beside one distilled anew: python recipes/update.py ETTm1

Of the training part all but the last ten months of 30 days are distilled, then each month is added with ``hdt.update``.
Printed after every update are the seconds it took and the size of the state, and in the end the validation errors of
students trained on the first set, on the updated one and on one distilled from all rows anew, each in original units
and scaled as the evaluation does, and the mean difference of the last two over the seeds. Only the validation part is
read.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

import hdt
from hdt.distillation.recipe import parse_options
from hdt.evaluation.protocol import Evaluator
from hdt.run.records import STATE
from hdt.run.update import ALL_TRAIN


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default="ETTm1")
    parser.add_argument("--method", default="wiener")
    parser.add_argument("--student", default="dlinear")
    parser.add_argument("--months", type=int, default=10)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3, help="of distillations, and of trainings on each")
    parser.add_argument("--iterations", type=int, help="of the first set and of the one made anew")
    parser.add_argument("--update-iterations", type=int, help="of each update; a quarter of the method's")
    parser.add_argument("--learning-rate", type=float, help="of updates")
    parser.add_argument("--option", action="append", help="hyperparameter of all of them, name=value")
    args = parser.parse_args()
    panel = hdt.load(args.data)
    rows, month = panel.borders[0], args.days * int(pd.Timedelta("1D") / panel.step)
    begin = rows - args.months * month
    frame = pd.DataFrame(panel.original("train"), index=panel.index[:rows], columns=list(panel.columns))
    found: dict[str, list[float]] = {"first": [], "updated": [], "anew": []}
    evaluator = None
    for seed in range(args.seeds):
        given = {"method": args.method, "seed": seed, "iterations": args.iterations, **parse_options(args.option)}
        first = updated = hdt.distill(hdt.load(frame.iloc[:begin], split=ALL_TRAIN), **given)
        settings = first.info.settings
        seconds = []
        for number in range(args.months):
            begun = time.perf_counter()
            new = frame.iloc[begin + number * month : begin + (number + 1) * month]
            updated = hdt.update(updated, new, iterations=args.update_iterations, learning_rate=args.learning_rate)
            seconds.append(time.perf_counter() - begun)
        anew = hdt.distill(panel, **given)
        if evaluator is None:
            evaluator = Evaluator(panel, settings.context, settings.horizon, device="cpu")
            with tempfile.TemporaryDirectory() as folder:
                size = (updated.save(Path(folder) / "run", state=True) / STATE).stat().st_size
            print(f"state: {size / 1e6:.2f} MB; training part in float64: {frame.to_numpy().nbytes / 1e6:.2f} MB")
        for name, distilled in (("first", first), ("updated", updated), ("anew", anew)):
            values = distilled.values
            if settings.channels is None:  # as the scaler of all rows has it
                values = panel.scaler.transform(distilled.original).astype(np.float32)
            own = replace(distilled, values=values)
            errors = [evaluator.score(args.student, own.values, n)["validation_mse"] for n in range(args.seeds)]
            found[name].append(float(np.mean(errors)))
        print(
            f"seed {seed}: first {first.info.seconds:.1f} s, {args.months} updates {np.median(seconds):.1f} s each "
            f"(median), anew {anew.info.seconds:.1f} s; validation MSE "
            + ", ".join(f"{name} {errors[-1]:.4f}" for name, errors in found.items()),
            flush=True,
        )
    for name, errors in found.items():
        print(f"{name}: validation MSE {np.mean(errors):.4f} ± {np.std(errors):.4f}")
    gap = np.array(found["updated"]) / np.array(found["anew"]) - 1
    print(f"updated beside anew: {100 * gap.mean():+.2f}% (seeds {', '.join(f'{100 * g:+.2f}%' for g in gap)})")


if __name__ == "__main__":
    main()
