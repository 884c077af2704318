"""Seconds of training on full data and on a synthetic set, side by side: python recipes/training_time.py ETTm1 dlinear

Three figures per student: ten epochs of full data, its published schedule; ten epochs of the synthetic set, which
is what papers compare; and the synthetic set as hdt trains it, at least 700 steps at each of two learning rates.
Nothing is validated or stopped early here, so these are seconds of optimiser steps only.
"""

import sys
from dataclasses import replace

import torch

import hdt
from hdt.evaluation.protocol import Evaluator
from hdt.students import build
from hdt.training.fit import fit

panel = hdt.load(sys.argv[1])
distilled = hdt.distill(panel, method="wiener")
context, horizon = distilled.info.settings.context, distilled.info.settings.horizon
evaluator = Evaluator(panel, context, horizon, device="cpu")
one_window = evaluator.val[: context + horizon]


def seconds(student: str, series: torch.Tensor, training: object) -> float:
    return fit(build(student, context, horizon, series.shape[-1], 0), series, one_window, 0, training).seconds


for student in sys.argv[2:]:
    synthetic, full = torch.as_tensor(distilled.values, dtype=torch.float32), evaluator.train[None]
    as_hdt = [replace(way, patience=99) for way in evaluator.trainings(student)]
    published = replace(as_hdt[1], min_steps=0)
    ten = seconds(student, synthetic, published)
    tuned = sum(seconds(student, synthetic, way) for way in as_hdt)
    real = seconds(student, full, published)
    print(
        f"{panel.name} {student}: full {real:.1f} s, synthetic {ten:.3f} s ({real / ten:.0f}x), "
        f"as hdt trains {tuned:.1f} s ({real / tuned:.1f}x), {torch.get_num_threads()} thread(s)",
        flush=True,
    )
