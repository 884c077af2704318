"""Gradient matching, DC: "Dataset Condensation with Gradient Matching" (arXiv 2006.05929).

Real and synthetic windows should give a student the same gradient, all along its training on the
synthetic ones: from a new initialisation, match, take steps on the synthetic windows, match again. The
distance of two gradients is one minus their cosine, summed over output units of every weight matrix
(their eq. 9).

Deviations and choices: biases are left out, as in the authors' code. Settings chosen on validation, see
recipes/LOG.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
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


@dataclass(frozen=True)
class Part:
    """Channels that are matched together: which synthetic ones, the means of real ones that they stand for, and how
    much each counts. By default all of both, and alike."""

    channels: Int[Tensor, " g"] | None = None
    means: Float[Tensor, "C g"] | None = None
    importance: Float[Tensor, " g"] | None = None

    def synthetic(self, every: Float[Tensor, "B window C_s"]) -> Float[Tensor, "B window g"]:
        """Its channels of synthetic windows."""
        return every if self.channels is None else every[:, :, self.channels]

    def real(self, every: Float[Tensor, "B window C"]) -> Float[Tensor, "B window g"]:
        """What they stand for of real windows."""
        return every if self.means is None else every @ self.means

    def gradient(
        self, student: Student, theta: Float[Tensor, " P"], batch: Float[Tensor, "B window g"], differentiable: bool
    ) -> Float[Tensor, " P"]:
        """Gradient of the forecast error at the weights θ."""
        return forecast_gradient(student, theta.detach().requires_grad_(), batch, differentiable, self.importance)


class GradientCosine(Objective[RealWindows]):
    """The matching loss of DC. The state holds the current weights θ and the number of matches so far."""

    name = "dc"
    Options: ClassVar[type[DCOptions]] = DCOptions
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
        matched = int(state.get("matched", 0))
        state, parts = self.divide(known, synthetic.shape[2], state, generator)
        turn, at = divmod(matched, len(parts))
        part = parts[at]
        if at == 0 and turn % options.matches == 0:
            seed = int(torch.randint(2**31, (), generator=generator))
            fresh = build(problem.backbone, problem.context, problem.horizon, synthetic.shape[2], seed)
            theta = flatten(fresh).to(synthetic)
        elif at == 0:
            theta = self.trained(student, state["theta"], own.detach(), parts)
        else:
            theta = state["theta"]
        chosen = torch.randint(len(known.real), (options.batch,), generator=generator).to(synthetic.device)
        target = part.gradient(student, theta, part.real(known.real[chosen]), differentiable=False)
        loss = distance(student, part.gradient(student, theta, part.synthetic(own), differentiable=True), target)
        return Scored(loss, {"cosine": loss.detach()}, {**state, "theta": theta, "matched": torch.tensor(matched + 1)})

    def trained(
        self, student: Student, theta: Float[Tensor, " P"], own: Float[Tensor, "B window C"], parts: Sequence[Part]
    ) -> Float[Tensor, " P"]:
        """The weights after the steps between matches, each on every part in turn."""
        for part in [*parts] * self.options.network_steps:
            step = part.gradient(student, theta, part.synthetic(own), differentiable=False)
            theta = theta - self.options.network_lr * step
        return theta

    def divide(
        self, known: RealWindows, channels: int, state: State, generator: torch.Generator
    ) -> tuple[State, Sequence[Part]]:
        """What is matched in turn, of that many synthetic channels, and the state with what that takes; here all at
        once."""
        return state, [Part()]


def distance(student: Student, first: Float[Tensor, " P"], second: Float[Tensor, " P"]) -> Tensor:
    """Σ over output units of 1 − cosine of two gradients."""
    total = first.new_zeros(())
    for a, b in zip(unflatten(first, student).values(), unflatten(second, student).values(), strict=True):
        if a.ndim > 1:
            total = total + (1 - torch.cosine_similarity(a.flatten(1), b.flatten(1), dim=1, eps=1e-6)).sum()
    return total
