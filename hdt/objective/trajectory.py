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
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.func import functional_call

from hdt.maths.windows import windows
from hdt.objective.contract import Known, Objective, Scored, State
from hdt.students import Student, backbone, forecast_error, forecast_gradient, unflatten
from hdt.system.machine import cache_folder
from hdt.system.options import SIZE, Options
from hdt.system.parts import Method
from hdt.training.experts import Experts, Training, experts


class TrajectoryOptions(Options):
    """Hyperparameters of :class:`TrajectoryMatching`."""

    experts: int = Field(8, ge=1, description="expert trajectories")
    expert_epochs: int = Field(8, ge=1, description="epochs of each")
    expert_lr: float = Field(5e-4, gt=0)
    expert_momentum: float = Field(0.9, ge=0, lt=1)
    expert_batch: int = Field(64, ge=1, json_schema_extra=SIZE)
    max_start: int = Field(4, ge=1, description="a match starts before this epoch")
    target_epochs: int = Field(2, ge=1, description="e, epochs between start and target")
    steps_synthetic: int = Field(20, ge=1, description="N, differentiable steps", json_schema_extra=SIZE)
    inner_batch: int = Field(64, ge=1, description="synthetic windows per step", json_schema_extra=SIZE)
    inner_lr: float = Field(0.05, gt=0, description="first value of the learned step size")
    real_weight: float = Field(0.0, ge=0, description="γ, weight of the trained student's error on real windows")
    inner_lr_rate: float = Field(0.01, ge=0, description="learning rate of its logarithm; 0 keeps it fixed")


@dataclass(frozen=True, kw_only=True)
class Trajectories(Known):
    """Checkpoints of the experts, the student whose weights they are, and real windows [n, L+H, C]."""

    experts: Experts
    student: Student
    real: Tensor


class TrajectoryMatching(Objective[Trajectories]):
    """‖θ_N − θ*_{t+e}‖² / ‖θ*_t − θ*_{t+e}‖², and γ times the error on real windows.

    The state holds the logarithm of the inner step size, which is learned.
    """

    name = "mtt"
    Options: ClassVar[type[TrajectoryOptions]] = TrajectoryOptions
    citation = """@inproceedings{cazenavette2022mtt,
  author    = {Cazenavette, George and Wang, Tongzhou and Torralba, Antonio and Efros, Alexei A. and Zhu, Jun-Yan},
  title     = {Dataset Distillation by Matching Training Trajectories},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2022},
  note      = {arXiv:2203.11932}
}"""
    methods = {
        "mtt": Method(
            title="Matching training trajectories",
            parameterization="raw",
            objective="mtt",
            start="real",
            iterations=300,
            learning_rate=0.1,
        )
    }

    def prepare(self, series: Float[Tensor, "T C"]) -> Trajectories:
        options, problem = self.options, self.problem
        training = Training(
            options.experts,
            max(options.expert_epochs, options.max_start - 1 + options.target_epochs),
            options.expert_lr,
            options.expert_momentum,
            options.expert_batch,
        )
        found = experts(problem.backbone, problem.context, problem.horizon, series, training, cache_folder())
        return Trajectories(
            experts=found,
            student=backbone(problem.backbone, problem.context, problem.horizon, series),
            real=windows(series, problem.context, problem.horizon),
            saved_seconds=found.saved_seconds,
        )

    def initial(self, known: Trajectories, like: Float[Tensor, "N M C"]) -> State:
        return {"log_lr": torch.tensor(math.log(self.options.inner_lr), device=like.device)}

    def rates(self) -> dict[str, float]:
        return {"log_lr": self.options.inner_lr_rate} if self.options.inner_lr_rate else {}

    def loss(
        self, known: Trajectories, synthetic: Float[Tensor, "N M C"], state: State, generator: torch.Generator
    ) -> Scored:
        options, log_lr = self.options, state["log_lr"]
        checkpoints = known.experts.checkpoints
        expert = int(torch.randint(len(checkpoints), (), generator=generator))
        epoch = int(torch.randint(options.max_start, (), generator=generator))
        first, target = checkpoints[expert, epoch], checkpoints[expert, epoch + options.target_epochs]
        every = windows(synthetic, self.problem.context, self.problem.horizon).flatten(0, 1)
        beside = self.beside(known, every, expert)
        every = self.relabel(known, every, expert)
        theta = first.detach().requires_grad_()
        for _ in range(options.steps_synthetic):
            batch = every[torch.randperm(len(every), generator=generator)[: options.inner_batch].to(every.device)]
            gradient = forecast_gradient(known.student, theta, batch, differentiable=True)
            theta = theta - log_lr.exp() * gradient
        loss = (theta - target).square().sum() / (first - target).square().sum()
        terms = {"trajectory": loss.detach(), "inner_lr": log_lr.detach().exp()}
        if options.real_weight:
            chosen = torch.randint(len(known.real), (options.expert_batch,), generator=generator).to(theta.device)
            guide = forecast_error(known.student, theta, known.real[chosen])
            beside["real"] = options.real_weight, guide
        for name, (weight, term) in beside.items():
            loss, terms[name] = loss + weight * term, term.detach()
        return Scored(loss, terms, state)

    def relabel(
        self, known: Trajectories, every: Float[Tensor, "B window C"], expert: int
    ) -> Float[Tensor, "B window C"]:
        """The windows that the inner steps train on; here the synthetic ones as they are."""
        return every

    def beside(
        self, known: Trajectories, every: Float[Tensor, "B window C"], expert: int
    ) -> dict[str, tuple[float, Tensor]]:
        """Terms of the synthetic windows beside the trajectory, by name, with their weights; here none."""
        return {}

    def graph_bytes(self, instances: int, channels: int) -> int:
        return self._graph_bytes(instances, channels, 1, self.options.steps_synthetic, self.options.inner_batch)


def forecast(known: Trajectories, contexts: Float[Tensor, "B L C"], expert: int) -> Float[Tensor, "B H C"]:
    """The fully trained expert's forecast."""
    weights = unflatten(known.experts.checkpoints[expert, -1], known.student)
    return functional_call(known.student, weights, (contexts,))
