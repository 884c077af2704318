"""Multi-step gradient matching: a student should move alike on real and on synthetic windows.

From one freshly initialised θ, take i steps of gradient descent on windows of real sub-series and j
differentiable steps on the synthetic windows, and compare where they arrive:

    L_grad = ‖θ_j(S) − θ_i(X)‖² / ‖θ − θ_i(X)‖²

With i = j = 1 this is gradient matching (arXiv 2006.05929) with a Euclidean distance; with several
steps it is the trajectory term of HDT (arXiv 2603.03760, step 4) and, started from expert checkpoints
instead of fresh weights, trajectory matching (arXiv 2203.11932, eq. 2).

Deviations and choices (the HDT paper publishes none of these): i = j = 4 steps of size 0.3
from a new initialisation each time; each real step draws 192 windows from 8 sub-series of length M;
synthetic windows are taken every third step. All chosen on validation (recipes/LOG.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from hdt.maths import spectrum
from hdt.maths.windows import some_windows, windows
from hdt.objective.contract import SHARE, Known, Objective, Scored, State
from hdt.start import real_segments
from hdt.students import Student, backbone, build, flatten, forecast_gradient
from hdt.system.options import SIZE, Options


class GradientOptions(Options):
    """Hyperparameters of :class:`GradientMatching`."""

    steps_real: int = Field(4, ge=1, description="i, gradient steps on real windows")
    steps_synthetic: int = Field(
        4, ge=1, description="j, differentiable steps on synthetic windows", json_schema_extra=SIZE
    )
    inner_lr: float = Field(0.3, gt=0, description="step size of both")
    segments: int = Field(
        8, ge=1, description="real sub-series of length M drawn per iteration", json_schema_extra=SIZE
    )
    batch: int = Field(192, ge=1, description="real windows per step", json_schema_extra=SIZE)
    window_stride: int = Field(3, ge=1, description="distance between synthetic windows")


@dataclass(frozen=True, kw_only=True)
class Segments(Known):
    """The real series [T, C], and the student whose weights are replaced; one in ``share`` windows is looked at."""

    series: Tensor
    student: Student
    share: int = 1


class GradientMatching(Objective[Segments]):
    """‖θ_j(S) − θ_i(X)‖² / ‖θ − θ_i(X)‖²: where i real and j synthetic steps from the same weights arrive."""

    name = "gradient"
    Options = GradientOptions
    pools_channels = False

    def prepare(self, series: Float[Tensor, "T C"], mask: Bool[Tensor, "F C"] | None = None) -> Segments:
        """``mask`` restricts both signals to the marked harmonics."""
        student = backbone(self.problem.backbone, self.problem.context, self.problem.horizon, series)
        return Segments(series=series, student=student, mask=mask)

    def restrict(self, known: Segments, channels: Int[Tensor, " g"]) -> Segments:
        mask = None if known.mask is None else known.mask[:, channels]
        return replace(known, series=known.series[:, channels], mask=mask, share=SHARE)

    def loss(
        self, known: Segments, synthetic: Float[Tensor, "N M C"], state: State, generator: torch.Generator
    ) -> Scored:
        options, problem = self.options, self.problem
        real = real_segments(known.series, options.segments, problem.length, generator)
        if known.mask is not None:
            real, synthetic = (spectrum.keep_harmonics(x, known.mask) for x in (real, synthetic))
        seed = int(torch.randint(2**31, (), generator=generator))
        fresh = build(problem.backbone, problem.context, problem.horizon, real.shape[2], seed)
        theta = flatten(fresh).to(real).requires_grad_()
        pool = windows(real, problem.context, problem.horizon)  # [segments, n, L+H, C]
        own = windows(synthetic, problem.context, problem.horizon, options.window_stride)
        own = some_windows(own, known.share, generator).flatten(0, 1)
        draw = lambda: _sample(pool, -(-options.batch // known.share), generator)  # noqa: E731
        target = self._descend(known.student, theta, draw, options.steps_real, differentiable=False)
        arrived = self._descend(known.student, theta, lambda: own, options.steps_synthetic, differentiable=True)
        loss = (arrived - target).square().sum() / (theta - target).detach().square().sum()
        return Scored(loss, {"gradient": loss.detach()}, state)

    def graph_bytes(self, instances: int, channels: int) -> int:
        options = self.options
        return self._graph_bytes(instances, channels, options.window_stride, options.steps_synthetic)

    def _descend(
        self,
        student: Student,
        theta: Float[Tensor, " P"],
        batches: Callable[[], Tensor],
        steps: int,
        differentiable: bool,
    ) -> Float[Tensor, " P"]:
        for _ in range(steps):
            gradient = forecast_gradient(student, theta, batches(), differentiable)
            theta = theta - self.options.inner_lr * gradient
            if not differentiable:
                theta = theta.detach().requires_grad_()
        return theta if differentiable else theta.detach()


def _sample(pool: Float[Tensor, "segments n window C"], count: int, generator: torch.Generator) -> Tensor:
    chosen = torch.randint(pool.shape[0] * pool.shape[1], (count,), generator=generator).to(pool.device)
    return pool[chosen // pool.shape[1], chosen % pool.shape[1]]
