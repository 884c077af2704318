"""CondTSF: "One-line Plugin of Dataset Condensation for Time Series Forecasting" (arXiv 2406.02131).

Trajectory matching plus a value term: every n-th iteration each horizon block y of the synthetic series
moves towards the forecast of a fully trained expert from the context x before it,

    y ← (1 − β)·y + β·f_expert(x),

and the inner steps learn labels mixed alike, 0.2·y + 0.8·f_expert(x). Published: n = 3, β = 0.01, the
expert of the last epoch, inner step size 3e-4 fixed, Adam 0.1 on the values.

Deviations and choices: an independent implementation from the paper; the published protocol (z-score over
the whole series, selection on the test part) is not copied. Its repository (RafaDD/CondTSF) departs from it, and we
do not follow: there the value update takes the place of every third gradient step and runs over overlapping windows
of stride 4, and labels are mixed with the expert of the target epoch. Settings chosen on validation, see
recipes/LOG.md.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from hdt.objective.trajectory import Trajectories, TrajectoryMatching, TrajectoryOptions, forecast
from hdt.system.parts import Method


class CondTSFOptions(TrajectoryOptions):
    """Hyperparameters of :class:`CondTSF`."""

    value_every: int = Field(3, ge=1, description="n, iterations between value updates")
    value_rate: float = Field(0.01, gt=0, le=1, description="β")
    label_share: float = Field(0.8, ge=0, le=1, description="share of the expert's forecast in the labels")


class CondTSF(TrajectoryMatching):
    """Trajectory matching with the value update and mixed labels."""

    name = "condtsf"
    Options = CondTSFOptions
    citation = """@inproceedings{ding2024condtsf,
  author    = {Ding, Jianrong and Liu, Zhanyu and Zheng, Guanjie and Jin, Haiming and Kong, Linghe},
  title     = {CondTSF: One-line Plugin of Dataset Condensation for Time Series Forecasting},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2024},
  note      = {arXiv:2406.02131}
}"""
    methods = {
        "condtsf": Method(
            title="Trajectory matching with a value term for forecasting",
            parameterization="raw",
            objective="condtsf",
            start="real",
            iterations=300,
            learning_rate=0.03,
            options={"label_share": 0.0},
        )
    }

    def relabel(
        self, known: Trajectories, every: Float[Tensor, "B window C"], expert: int
    ) -> Float[Tensor, "B window C"]:
        share, context = self.options.label_share, self.problem.context
        contexts, labels = every[:, :context], every[:, context:]
        return torch.cat([contexts, (1 - share) * labels + share * forecast(known, contexts, expert)], dim=1)

    @torch.no_grad()
    def revise(
        self, known: Trajectories, synthetic: Float[Tensor, "N M C"], iteration: int, generator: torch.Generator
    ) -> Float[Tensor, "N M C"] | None:
        """The value update of every n-th iteration, block after block from the left."""
        if iteration % self.options.value_every:
            return None
        context, horizon = self.problem.context, self.problem.horizon
        expert = int(torch.randint(len(known.experts.checkpoints), (), generator=generator))
        revised = synthetic.clone()
        for start in range(context, synthetic.shape[1] - horizon + 1, horizon):
            block = slice(start, start + horizon)
            target = forecast(known, revised[:, start - context : start], expert)
            revised[:, block] += self.options.value_rate * (target - revised[:, block])
        return revised
