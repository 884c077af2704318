"""Trajectory matching, MTT: "Dataset Distillation by Matching Training Trajectories" (arXiv 2203.11932).

Experts are students trained on real windows, with a checkpoint θ*_t after every epoch t. From a random
early checkpoint take N differentiable steps on batches of synthetic windows, and compare with where the
expert stood ``target_epochs`` epochs later (eq. 2):

    L = ‖θ_N − θ*_{t+e}‖² / ‖θ*_t − θ*_{t+e}‖²

The step size of the inner steps is learned too. With ``real_weight`` γ > 0 the real-guided loss of NSD (ECCV
2024) is added: γ times the squared error of θ_N on a batch of real windows.

Deviations and choices: the inner step size is learned as its logarithm, so it can never become negative;
the experts' own settings are those of CondTSF (SGD 5e-4, momentum 0.9, batch 64) with fewer of them. Chosen
on validation, see recipes/LOG.md. The time to train the experts counts as distillation time.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from hdt.maths.windows import windows
from hdt.objective.base import Objective, Terms
from hdt.students import backbone, forecast_error, forecast_gradient
from hdt.system.machine import cache_folder
from hdt.system.options import Options
from hdt.training.experts import Training, experts


class TrajectoryOptions(Options):
    """Hyperparameters of :class:`TrajectoryMatching`."""

    experts: int = Field(8, ge=1, description="expert trajectories")
    expert_epochs: int = Field(8, ge=1, description="epochs of each")
    expert_lr: float = Field(5e-4, gt=0)
    expert_momentum: float = Field(0.9, ge=0, lt=1)
    expert_batch: int = Field(64, ge=1)
    max_start: int = Field(4, ge=1, description="a match starts before this epoch")
    target_epochs: int = Field(2, ge=1, description="e, epochs between start and target")
    steps_synthetic: int = Field(20, ge=1, description="N, differentiable steps")
    inner_batch: int = Field(64, ge=1, description="synthetic windows per step")
    inner_lr: float = Field(0.05, gt=0, description="first value of the learned step size")
    real_weight: float = Field(0.0, ge=0, description="γ, weight of the trained student's error on real windows")
    inner_lr_rate: float = Field(0.01, ge=0, description="learning rate of its logarithm; 0 keeps it fixed")


class TrajectoryMatching(Objective):
    """The loss above."""

    Options: ClassVar[type[TrajectoryOptions]] = TrajectoryOptions

    def prepare(self, series: Float[Tensor, "T C"]) -> None:
        options, problem = self.options, self.problem
        training = Training(
            options.experts,
            max(options.expert_epochs, options.max_start - 1 + options.target_epochs),
            options.expert_lr,
            options.expert_momentum,
            options.expert_batch,
        )
        self.student = backbone(problem.backbone, problem.context, problem.horizon, series)
        self.experts = experts(problem.backbone, problem.context, problem.horizon, series, training, cache_folder())
        self.saved_seconds = self.experts.saved_seconds
        self.real = windows(series, problem.context, problem.horizon)
        self.log_lr = torch.tensor(math.log(options.inner_lr), device=series.device, requires_grad=True)

    def learned(self) -> list[tuple[Tensor, float]]:
        """The logarithm of the inner step size and its learning rate."""
        return [(self.log_lr, self.options.inner_lr_rate)] if self.options.inner_lr_rate else []

    def loss(self, synthetic: Float[Tensor, "N M C"], generator: torch.Generator) -> tuple[Tensor, Terms]:
        options = self.options
        checkpoints = self.experts.checkpoints
        expert = int(torch.randint(len(checkpoints), (), generator=generator))
        start = int(torch.randint(options.max_start, (), generator=generator))
        first, target = checkpoints[expert, start], checkpoints[expert, start + options.target_epochs]
        every = windows(synthetic, self.problem.context, self.problem.horizon).flatten(0, 1)
        every = self.relabel(every, expert)
        theta = first.detach().requires_grad_()
        for _ in range(options.steps_synthetic):
            batch = every[torch.randperm(len(every), generator=generator)[: options.inner_batch].to(every.device)]
            gradient = forecast_gradient(self.student, theta, batch, differentiable=True)
            theta = theta - self.log_lr.exp() * gradient
        loss = (theta - target).square().sum() / (first - target).square().sum()
        terms = {"trajectory": loss.detach(), "inner_lr": self.log_lr.detach().exp()}
        if options.real_weight:
            chosen = torch.randint(len(self.real), (options.expert_batch,), generator=generator).to(theta.device)
            guide = forecast_error(self.student, theta, self.real[chosen])
            loss, terms["real"] = loss + options.real_weight * guide, guide.detach()
        return loss, terms

    def relabel(self, every: Float[Tensor, "B window C"], expert: int) -> Float[Tensor, "B window C"]:
        """The windows that the inner steps train on; here the synthetic ones as they are."""
        return every
