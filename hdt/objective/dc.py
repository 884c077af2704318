"""Gradient matching, DC: "Dataset Condensation with Gradient Matching" (arXiv 2006.05929).

Real and synthetic windows should give a student the same gradient, all along its training on the
synthetic ones: from a new initialisation, match, take steps on the synthetic windows, match again. The
distance of two gradients is one minus their cosine, summed over output units of every weight matrix
(their eq. 9).

Deviations and choices: biases are left out, as in the authors' code. Settings chosen on validation, see
recipes/LOG.md.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from hdt.maths.windows import windows
from hdt.objective.base import Objective, Terms
from hdt.students import backbone, build, flatten, forecast_gradient, unflatten
from hdt.system.options import Options


class DCOptions(Options):
    """Hyperparameters of :class:`GradientCosine`."""

    batch: int = Field(256, ge=1, description="real windows per match")
    matches: int = Field(10, ge=1, description="matches before a new initialisation")
    network_steps: int = Field(10, ge=0, description="steps on synthetic windows between matches")
    network_lr: float = Field(0.1, gt=0, description="their size")


class GradientCosine(Objective):
    """The matching loss of DC."""

    Options = DCOptions

    def prepare(self, series: Float[Tensor, "T C"]) -> None:
        problem = self.problem
        self.real = windows(series, problem.context, problem.horizon)
        self.student = backbone(problem.backbone, problem.context, problem.horizon, series)
        self.matched = 0

    def loss(self, synthetic: Float[Tensor, "N M C"], generator: torch.Generator) -> tuple[Tensor, Terms]:
        options, problem = self.options, self.problem
        own = windows(synthetic, problem.context, problem.horizon).flatten(0, 1)
        if self.matched % options.matches == 0:
            seed = int(torch.randint(2**31, (), generator=generator))
            fresh = build(problem.backbone, problem.context, problem.horizon, synthetic.shape[2], seed)
            self.theta = flatten(fresh).to(synthetic)
        else:
            for _ in range(options.network_steps):
                self.theta = self.theta - options.network_lr * self.gradient(own.detach(), differentiable=False)
        self.matched += 1
        chosen = torch.randint(len(self.real), (options.batch,), generator=generator).to(synthetic.device)
        target = self.gradient(self.real[chosen], differentiable=False)
        loss = self.distance(self.gradient(own, differentiable=True), target)
        return loss, {"cosine": loss.detach()}

    def gradient(self, batch: Float[Tensor, "B window C"], differentiable: bool) -> Float[Tensor, " P"]:
        """Gradient of the forecast error at the current weights."""
        return forecast_gradient(self.student, self.theta.detach().requires_grad_(), batch, differentiable)

    def distance(self, first: Float[Tensor, " P"], second: Float[Tensor, " P"]) -> Tensor:
        """Σ over output units of 1 − cosine."""
        total = first.new_zeros(())
        for a, b in zip(unflatten(first, self.student).values(), unflatten(second, self.student).values(), strict=True):
            if a.ndim > 1:
                total = total + (1 - torch.cosine_similarity(a.flatten(1), b.flatten(1), dim=1, eps=1e-6)).sum()
        return total
