"""CFM: curriculum frequency matching, and the filters of UniDD (arXiv 2503.01212).

For features X [n, D] and labels Y [n, H] let Ψ = XᵀX/n be the feature-feature correlations (FFC) and Φ = XᵀY/n the
feature-label correlations (FLC). What many methods match are these two behind a filter of Ψ's spectrum:

    ‖f(Ψ) − f(Ψ_s)‖ + ‖g(Ψ)Φ − g(Ψ_s)Φ_s‖

    dm     –                g = 1                    kip    –              g = 1/(λ+β)
    dc     f = λ            g = 1                    low    f = g = λ
    mtt    f = (1−αλ)^p     g = α·Σ_{i<p} (1−αλ)^i   high   f = g = 1/(λ+β)      cfm    high, β from large to small

(dc: the two parts of the gradient ΨW − Φ; mtt: those of p gradient steps; kip: the ridge regression.) X are the
inputs of every linear and convolutional layer of a trained, frozen teacher, Y the horizons or its forecasts. CFM adds
the teacher's own error on the synthetic windows, and cuts these into B batches, from low to high frequency: batch b
has β_b = β(1 + cos(πb/B))/2, and the smaller β, the more the small eigenvalues count. Statistics run on over
batches, Ψ_s ← (1 − 1/b)Ψ_s + Ψ_b/b, the past not being differentiated. With one batch, β stays fixed.

Deviations and choices: β is relative to the mean and α to the largest eigenvalue of the teacher's Ψ, and every norm
to that of the teacher's term, so that one setting serves all layers; ``paper`` takes them as they are. Inputs of
convolutions, and of layers that run over several tokens of a channel, are averaged over positions. Batches are
consecutive windows, which overlap in one long sequence; they are learned together, not one after another. The
task loss is the squared error. The default backbone is the MLP: its layers read the raw context and features learned
from it. With DLinear the inputs of both layers are linear in the raw context, and no learned feature is matched; behind
an instance normalisation (xPatch, iTransformer) no layer sees the level, and linear forecasters suffer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pydantic import Field
from torch import Tensor, nn

from hdt.maths.correlations import (
    Correlations,
    Filter,
    annealed,
    average,
    correlations,
    filtered,
    layer_inputs,
    running,
)
from hdt.maths.windows import windows
from hdt.objective.contract import Known, Objective, Scored, State
from hdt.students import Student, backbone, unflatten
from hdt.system.machine import cache_folder
from hdt.system.options import SIZE, Options
from hdt.system.parts import History, Method
from hdt.training.experts import Training, experts

REAL_BATCH = 256  # real windows at a time


class CFMOptions(Options):
    """Hyperparameters of :class:`CFM`."""

    filter: Filter = Field("cfm", description="what of the correlations is matched")
    beta: float = Field(1.0, gt=0, description="β")
    alpha: float = Field(0.5, gt=0, description="α, of filter mtt")
    filter_steps: int = Field(20, ge=1, description="p, of filter mtt")
    paper: bool = Field(False, description="β, α and norms absolute, as published")
    batches: int = Field(4, ge=1, description="B, parts of the synthetic windows")
    match_weight: float = Field(0.1, ge=0, description="weight of the correlations; the task loss has 1")
    labels: Literal["horizon", "teacher"] = Field("horizon", description="Y")
    teacher_epochs: int = Field(8, ge=1, description="epochs of the teacher (SGD with momentum 0.9, batch 64)")
    teacher_lr: float = Field(0.05, gt=0, description="learning rate of the teacher")
    most_real: int = Field(4096, ge=1, description="real windows at most, evenly spaced", json_schema_extra=SIZE)


@dataclass(frozen=True, kw_only=True)
class Teacher(Known):
    """The frozen teacher with its weights, and of every layer the real correlations and the mean and largest eigenvalue
    of Ψ; ``targets`` are its filtered terms by β, computed once.
    """

    student: Student
    weights: dict[str, Tensor]
    real: list[Correlations]
    eigenvalues: list[tuple[float, float]]
    targets: dict[float, list[list[Tensor]]] = field(default_factory=dict)


class CFM(Objective[Teacher]):
    """The teacher's error on the synthetic windows plus the distance of their filtered correlations from real ones."""

    name = "cfm"
    backbone = "mlp"
    Options: ClassVar[type[CFMOptions]] = CFMOptions
    citation = """@inproceedings{bo2026cfm,
  author    = {Bo, Deyu and Liu, Songhua and Wang, Xinchao},
  title     = {Understanding Dataset Distillation via Spectral Filtering},
  booktitle = {International Conference on Learning Representations},
  year      = {2026},
  note      = {arXiv:2503.01212}
}"""
    methods = {
        "cfm": Method(
            title="Curriculum frequency matching of feature correlations",
            parameterization="raw",
            objective="cfm",
            start="real",
            iterations=400,
            learning_rate=0.1,
            options={"match_weight": 1.0},
        ),
        "hdt-cfm": Method(
            title="Curriculum frequency matching on Fourier coefficients",
            parameterization="harmonic",
            objective="cfm",
            start="phase",
            iterations=400,
            learning_rate=0.1,
            options={"match_weight": 1.0},
        ),
    }

    def prepare(self, series: Float[Tensor, "T C"]) -> Teacher:
        options, problem = self.options, self.problem
        student = backbone(problem.backbone, problem.context, problem.horizon, series).eval()
        training = Training(1, options.teacher_epochs, options.teacher_lr, 0.9, 64)
        teacher = experts(problem.backbone, problem.context, problem.horizon, series, training, cache_folder())
        weights = unflatten(teacher.checkpoints[0, -1], student)
        count = len(series) - problem.context - problem.horizon + 1
        every = windows(series, problem.context, problem.horizon, stride=-(-count // options.most_real))
        with torch.no_grad():
            parts = [(self.correlations(student, weights, part)[0], len(part)) for part in every.split(REAL_BATCH)]
        real = average([found for found, _ in parts], [size for _, size in parts])
        return Teacher(
            student=student, weights=weights, real=real, saved_seconds=teacher.saved_seconds,
            eigenvalues=[(float(c.ffc.diagonal().mean()), float(torch.linalg.matrix_norm(c.ffc, 2))) for c in real],
        )  # fmt: skip

    def correlations(
        self, student: Student, weights: dict[str, Tensor], batch: Float[Tensor, "B window C"]
    ) -> tuple[list[Correlations], Tensor]:
        """Ψ and Φ of every layer on a batch of windows, and the teacher's error there."""
        context, horizon = batch[:, : self.problem.context], batch[:, self.problem.context :]
        inputs, forecast = layer_inputs(student, weights, context)
        labels = horizon if self.options.labels == "horizon" else forecast
        per_channel = labels.transpose(1, 2).flatten(0, 1)  # [B·C, H]
        found = []
        for x in inputs:
            y = per_channel if len(x) % len(per_channel) == 0 else labels.flatten(1)
            found.append(correlations(x.unflatten(0, (len(y), -1)).mean(dim=1), y))
        return found, nn.functional.mse_loss(forecast, horizon)

    def loss(
        self, known: Teacher, synthetic: Float[Tensor, "N M C"], state: State, generator: torch.Generator
    ) -> Scored:
        options = self.options
        every = windows(synthetic, self.problem.context, self.problem.horizon).flatten(0, 1)
        parts = every.chunk(options.batches)
        task = matched = every.new_zeros((), dtype=torch.float64)
        past: list[Correlations] | None = None
        for b, part in enumerate(parts):
            own, error = self.correlations(known.student, known.weights, part)
            own = running(past, own, b + 1)
            past = [Correlations(c.ffc.detach(), c.flc.detach()) for c in own]
            beta = annealed(options.beta, b, len(parts)) if options.filter == "cfm" else options.beta
            layers = zip(self.targets(known, beta), own, known.eigenvalues, strict=True)
            matched = matched + sum(self.distance(*layer, beta) for layer in layers) / len(parts)
            task = task + error / len(parts)
        loss = task + options.match_weight * matched
        return Scored(loss, {"task": task.detach(), "correlations": matched.detach()}, state)

    def targets(self, known: Teacher, beta: float) -> list[list[Tensor]]:
        """The teacher's filtered terms, by layer; they do not change."""
        if beta not in known.targets:
            layers = zip(known.real, known.eigenvalues, strict=True)
            known.targets[beta] = [self.filtered(*layer, beta) for layer in layers]
        return known.targets[beta]

    def filtered(self, own: Correlations, eigenvalues: tuple[float, float], beta: float) -> list[Tensor]:
        """The terms of one layer; ``eigenvalues``: the mean and the largest one of the teacher's Ψ."""
        options, alpha = self.options, self.options.alpha
        if not options.paper:
            mean, largest = eigenvalues
            beta, alpha = beta * mean, alpha / largest
        return filtered(options.filter, own, beta, alpha, options.filter_steps)

    def distance(
        self, targets: list[Tensor], own: Correlations, eigenvalues: tuple[float, float], beta: float
    ) -> Tensor:
        """The two norms of one layer."""
        total = own.ffc.new_zeros(())
        for target, found in zip(targets, self.filtered(own, eigenvalues, beta), strict=True):
            total = total + (target - found).norm() / (1.0 if self.options.paper else target.norm())
        return total

    @classmethod
    def picture(
        cls, options: Mapping[str, Any], params: Mapping[str, np.ndarray], history: History, length: int
    ) -> Figure | None:
        """β of every batch of synthetic windows, and the two terms of the loss."""
        figure = Figure(figsize=(9, 3), layout="constrained")
        left, right = figure.subplots(1, 2)
        batches = range(options["batches"])
        fixed = options["filter"] != "cfm"
        betas = [options["beta"] if fixed else annealed(options["beta"], b, len(batches)) for b in batches]
        left.plot([b + 1 for b in batches], betas, "o-", color="#2c3e50")
        left.set_xlabel("batch of synthetic windows", fontsize=8)
        left.set_ylabel("β / mean eigenvalue" if not options["paper"] else "β", fontsize=8)
        left.set_ylim(0, None)
        left.xaxis.set_major_locator(MaxNLocator(integer=True))
        for name, color in (("task", "#c0392b"), ("correlations", "#2980b9")):
            terms = [(entry["iteration"], entry[name]) for entry in history if name in entry]
            right.plot(*zip(*terms, strict=True) if terms else ([], []), color=color, label=name)
        right.set_yscale("log")
        right.set_xlabel("iteration", fontsize=8)
        right.legend(fontsize=8, frameon=False)
        for ax in (left, right):
            ax.spines[["top", "right"]].set_visible(False)
            ax.tick_params(labelsize=8)
        return figure
