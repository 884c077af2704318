"""Gradient matching, DC: "Dataset Condensation with Gradient Matching" (arXiv 2006.05929).

Real and synthetic windows should give a student the same gradient, all along its training on the
synthetic ones: from a new initialisation, match, take steps on the synthetic windows, match again. The
distance of two gradients is one minus their cosine, summed over output units of every weight matrix
(their eq. 9).

Deviations and choices: biases are left out, as in the authors' code. Settings chosen on validation, see
recipes/LOG.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from hdt.maths.windows import windows
from hdt.objective.contract import Known, Objective, Scored, State
from hdt.students import Student, backbone, build, flatten, forecast_gradient, unflatten
from hdt.system.options import SIZE, Options
from hdt.system.parts import Method


class DCOptions(Options):
    """Hyperparameters of :class:`GradientCosine`."""

    batch: int = Field(256, ge=1, description="real windows per match", json_schema_extra=SIZE)
    matches: int = Field(10, ge=1, description="matches before a new initialisation")
    network_steps: int = Field(10, ge=0, description="steps on synthetic windows between matches")
    network_lr: float = Field(0.1, gt=0, description="their size")


@dataclass(frozen=True, kw_only=True)
class RealWindows(Known):
    """Real windows [n, L+H, C], and the student whose weights are replaced."""

    real: Tensor
    student: Student


class GradientCosine(Objective[RealWindows]):
    """The matching loss of DC. The state holds the current weights θ and the number of matches so far."""

    name = "dc"
    Options = DCOptions
    citation = """@inproceedings{zhao2021dc,
  author    = {Zhao, Bo and Mopuri, Konda Reddy and Bilen, Hakan},
  title     = {Dataset Condensation with Gradient Matching},
  booktitle = {International Conference on Learning Representations},
  year      = {2021},
  note      = {arXiv:2006.05929}
}"""
    methods = {
        "dc": Method(
            title="Gradient matching along training",
            parameterization="raw",
            objective="dc",
            start="real",
            iterations=400,
            learning_rate=0.1,
        )
    }

    def prepare(self, series: Float[Tensor, "T C"]) -> RealWindows:
        problem = self.problem
        return RealWindows(
            real=windows(series, problem.context, problem.horizon),
            student=backbone(problem.backbone, problem.context, problem.horizon, series),
        )

    def loss(
        self, known: RealWindows, synthetic: Float[Tensor, "N M C"], state: State, generator: torch.Generator
    ) -> Scored:
        options, problem, student = self.options, self.problem, known.student
        own = windows(synthetic, problem.context, problem.horizon).flatten(0, 1)
        matched = state.get("matched", torch.tensor(0))
        if matched % options.matches == 0:
            seed = int(torch.randint(2**31, (), generator=generator))
            fresh = build(problem.backbone, problem.context, problem.horizon, synthetic.shape[2], seed)
            theta = flatten(fresh).to(synthetic)
        else:
            theta = state["theta"]
            for _ in range(options.network_steps):
                theta = theta - options.network_lr * gradient(student, theta, own.detach(), differentiable=False)
        chosen = torch.randint(len(known.real), (options.batch,), generator=generator).to(synthetic.device)
        target = gradient(student, theta, known.real[chosen], differentiable=False)
        loss = distance(student, gradient(student, theta, own, differentiable=True), target)
        return Scored(loss, {"cosine": loss.detach()}, {"theta": theta, "matched": matched + 1})


def gradient(
    student: Student, theta: Float[Tensor, " P"], batch: Float[Tensor, "B window C"], differentiable: bool
) -> Float[Tensor, " P"]:
    """Gradient of the forecast error at the weights θ."""
    return forecast_gradient(student, theta.detach().requires_grad_(), batch, differentiable)


def distance(student: Student, first: Float[Tensor, " P"], second: Float[Tensor, " P"]) -> Tensor:
    """Σ over output units of 1 − cosine of two gradients."""
    total = first.new_zeros(())
    for a, b in zip(unflatten(first, student).values(), unflatten(second, student).values(), strict=True):
        if a.ndim > 1:
            total = total + (1 - torch.cosine_similarity(a.flatten(1), b.flatten(1), dim=1, eps=1e-6)).sum()
    return total
