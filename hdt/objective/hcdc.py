"""HCDC: "Calibrated Dataset Condensation for Faster Hyperparameter Search" (arXiv 2405.17535), for series.

A small set should order hyperparameters λ as all data T does. Orders are equal where the validation errors of students
trained on either rise and fall together, that is where their gradients with respect to λ point the same way, so the
paper matches these hypergradients. With θ(λ) trained to optimality, implicit differentiation gives

    ∇_λ L_val(θ(λ)) = −∂²L_train/∂λ∂θ · [∂²L_train/∂θ²]⁻¹ · ∂L_val/∂θ          loss: Σ_λ 1 − cos(∇_λ of S, ∇_λ of T)

Of the paper are this loss, and that λ is continuous. There the inverse Hessian is a Neumann series, cut off, for
networks; S_train is condensed as usual beforehand, and what is learned by the loss above is a synthetic S_val;
discrete choices are put on continuous paths. It is about images and graphs.

Ours is all else. Here whoever searches trains on S and validates on real data, so S_train is learned and L_val is real:
the last fifth of the *training part*, whose other windows make the θ(λ) of all data (validation and test parts are
never read). The student is a ridge regression of y − x̄ on φ = (x − x̄, x̄, 1, relu(R(x − x̄)/σ + b)), whose inverse
Hessian is exact: with a(S), b(S) the mean moments of synthetic windows (:mod:`hdt.maths.moments`), A, B, c those of
held-out ones, K = a + diag(d) and d the penalty of each feature,

    W = K⁻¹b     L_val = tr(WᵀAW) − 2 tr(WᵀB) + c     ∂L_val/∂λ_g = −2 Σ_{i∈g} d_i Σ_h [W ∘ K⁻¹(AW − B)]_ih

λ_g is the logarithm of the penalty of a group g of features, in units of their mean square on real windows: four groups
of steps of the context (the last eighth, what the last quarter has beside, the last half, the rest), the level with the
bias, the ReLU features. What a network's settings choose is alike: how far back it looks, whether it sees levels, how
much is not linear, and how far it is trained (early stopping is nearly a ridge). ``POOL`` points λ per draw of
features are drawn once, log-uniformly, and their real errors and hypergradients are known; an iteration looks at
``points`` of them. Beside the direction there may be the value, (log L_val(S) − log L_val(T))².

The loss stands beside that of :mod:`hdt.objective.wiener`, for a direction alone does not make students good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from pydantic import Field
from torch import Tensor

from hdt.maths import moments
from hdt.maths.blocks import Real, groups, starts, summed
from hdt.maths.moments import Moments
from hdt.maths.windows import some_windows, windows
from hdt.objective.contract import BYTES, COPIES, Scored, State
from hdt.objective.wiener import Views, Wiener, WienerOptions
from hdt.system.errors import InputError, require
from hdt.system.fingerprint import fingerprint
from hdt.system.machine import one_thread
from hdt.system.options import SIZE
from hdt.system.parts import History, Method, Shape
from hdt.training.features import Relu, centred, numbers

POOL = 16  # points λ per draw of features
HELD = 5  # of the training rows, the last of so many parts is held out


class HCDCOptions(WienerOptions):
    """Hyperparameters of :class:`HCDC`."""

    direction: float = Field(1.0, ge=0, description="weight of 1 − cosine of hypergradients")
    value: float = Field(0.0, ge=0, description="weight of the squared difference of log validation errors")
    points: int = Field(4, ge=1, le=POOL, description="λ that an iteration looks at", json_schema_extra=SIZE)
    least_penalty: float = Field(1e-3, gt=0, description="lower end of the penalties, relative")
    most_penalty: float = Field(10.0, gt=0, description="upper end of the penalties, relative")


@dataclass(frozen=True)
class Joint:
    """Features (x − x̄, x̄, 1, ReLU features) and targets y − x̄ of windows."""

    context: int
    relu: Relu | None

    def __call__(self, flat: Float[Tensor, "B window"]) -> tuple[Tensor, Tensor]:
        x, y = centred(flat, self.context)
        level = flat[:, : self.context].mean(dim=1, keepdim=True)
        parts = [x, level, torch.ones_like(level)]
        return torch.cat(parts if self.relu is None else [*parts, self.relu(flat)[0]], dim=1), y

    def groups(self) -> Float[Tensor, "D G"]:
        """Which group every feature is in, one of each row being 1."""
        lags = self.context - torch.arange(self.context)  # of the last step 1
        edges = torch.tensor([self.context // part for part in (8, 4, 2)])
        of = [torch.bucketize(lags, edges), torch.full((2,), 4)]
        of += [] if self.relu is None else [torch.full((len(self.relu.bias),), 5)]
        found = torch.nn.functional.one_hot(torch.cat(of)).double()
        return found[:, found.sum(dim=0) > 0]


@dataclass(frozen=True)
class Points:
    """Points λ with what all data knows of them: penalties of the features there, the error on held-out windows and
    its hypergradient."""

    features: Joint
    groups: Float[Tensor, "D G"]
    held: Moments
    penalties: Float[Tensor, "P D"]
    errors: Float[Tensor, " P"]
    slopes: Float[Tensor, "P G"]


@dataclass(frozen=True, kw_only=True)
class Calibrated(Views):
    """What Wiener knows, and the points of every draw of features."""

    draws: Sequence[Points]


@dataclass(frozen=True)
class Halves:
    """Sums of some channels over windows to train on and over those held out, for every draw of features."""

    context: int
    horizon: int
    drawn: Sequence[Joint]
    stride: int

    def __call__(self, own: Float[Tensor, "rows g"]) -> list[Tensor]:
        found = []
        for features in self.drawn:
            for part in apart(own, self.context, self.horizon):
                product, *others = moments.stream(part, self.context, self.horizon, features, self.stride).tensors()
                found += [moments.half(product), *others]
        return found


class HCDC(Wiener):
    """Wiener's loss and the distance of hypergradients."""

    name = "hcdc"
    Options = HCDCOptions
    citation = """@misc{ding2024hcdc,
  author = {Ding, Mucong and Xu, Yuancheng and Rabbani, Tahseen and Liu, Xiaoyu and Gravelle, Brian and Ranadive, Teresa
            and Tuan, Tai-Ching and Huang, Furong},
  title  = {Calibrated Dataset Condensation for Faster Hyperparameter Search},
  year   = {2024},
  note   = {arXiv:2405.17535}
}"""
    methods = {
        "hcdc": Method(
            title="Hyperparameter gradients of a closed-form student as on all data",
            parameterization="raw",
            objective="hcdc",
            start="phase",
            iterations=300,
            learning_rate=0.1,
        )
    }

    @classmethod
    def check(cls, options: Mapping[str, Any], shape: Shape) -> None:
        least, most = options["least_penalty"], options["most_penalty"]
        require(least < most, f"least_penalty={least:g} is not below most_penalty={most:g}; give a range")

    @classmethod
    def fixed(cls, options: Mapping[str, Any]) -> str | None:
        return f"objective {cls.name!r} holds out the last rows, which would no longer be the last"

    def prepare(self, series: Real) -> Calibrated:
        context, horizon = self.problem.context, self.problem.horizon
        rows = context + 2 * horizon
        longest = series.shape[0] - int(starts(series).min())
        require(
            longest >= rows,
            f"objective {self.name!r} holds out a horizon of the training part, which takes {rows} rows; it has "
            f"{longest}; lower --context or --horizon",
        )
        generator = torch.Generator().manual_seed(0)  # as of Wiener, whose features these are
        drawn = [Joint(context, relu) for relu in self.drawn(generator, series.device)] or [Joint(context, None)]
        total = sum((series.shape[0] - start) * len(own) for start, own in groups(series, rows))
        statistic = Halves(context, horizon, drawn, -(-total // self.options.most_windows))
        known = [numbers([joint.relu]) if joint.relu else [] for joint in drawn]
        facts, tensors = [context, horizon, len(drawn), statistic.stride], [one for part in known for one in part]
        told = summed(series, rows, statistic, lambda: fingerprint(facts, tensors, code=[Halves, Joint, Relu]))
        sums = [told[8 * n : 8 * n + 8] for n in range(len(drawn))]
        draws = [self.points(joint, own, generator) for joint, own in zip(drawn, sums, strict=True)]
        return Calibrated(**vars(super().prepare(series)), draws=draws)

    def points(self, features: Joint, sums: Sequence[Tensor], generator: torch.Generator) -> Points:
        """Points for these features, by sums over windows to train on and over those held out."""
        fit, held = (Moments.of([moments.whole(own[0]), *own[1:]]).means() for own in (sums[:4], sums[4:]))
        member = features.groups().to(fit.features)
        least, most = self.options.least_penalty, self.options.most_penalty
        spread = torch.rand(POOL, member.shape[1], generator=generator, dtype=torch.float64).to(member)
        relative = least * (most / least) ** spread
        scale = fit.features.diagonal() @ member / member.sum(dim=0)
        penalties = (relative * scale) @ member.T
        return Points(features, member, held, penalties, *hypergradients(fit, held, penalties, member))

    def loss(self, known: Views, synthetic: Float[Tensor, "N M C"], state: State, generator: torch.Generator) -> Scored:
        assert isinstance(known, Calibrated)
        total, terms, state = super().loss(known, synthetic, state, generator)
        every = windows(synthetic, self.problem.context, self.problem.horizon)  # [N, n, L+H, C]
        flat = some_windows(every, known.share, generator).transpose(-1, -2).flatten(0, 2)
        points = known.draws[int(torch.randint(len(known.draws), (), generator=generator))]
        chosen = torch.randperm(POOL, generator=generator)[: self.options.points].to(flat.device)
        own = moments.window_moments([points.features(flat)]).means().double()
        errors, slopes = hypergradients(own, points.held, points.penalties[chosen], points.groups)
        direction = (1 - torch.cosine_similarity(slopes, points.slopes[chosen], dim=1, eps=1e-12)).mean()
        value = (errors / points.errors[chosen]).log().square().mean()
        total = total + self.options.direction * direction + self.options.value * value
        return Scored(total, {**terms, "direction": direction.detach(), "value": value.detach()}, state)

    def graph_bytes(self, instances: int, channels: int) -> int:
        size = self.problem.context + 2 + (self.options.features if self.options.relu else 0)
        return super().graph_bytes(instances, channels) + 2 * BYTES * COPIES * self.options.points * size**2


def apart(own: Float[Tensor, "rows g"], context: int, horizon: int) -> tuple[Tensor, Tensor]:
    """Rows to train on, and the rows after them with the context before: no horizon of the second is in the first."""
    rows = len(own)
    cut = max(rows - max(rows // HELD, horizon), context + horizon)
    return own[:cut], own[cut - context :]


def hypergradients(
    fit: Moments, held: Moments, penalties: Float[Tensor, "P D"], member: Float[Tensor, "D G"]
) -> tuple[Float[Tensor, " P"], Float[Tensor, "P G"]]:
    """For each row of penalties the mean squared error, summed over a horizon, on held-out windows of the ridge
    regression on others, and its derivatives with respect to the logarithms of the penalties of groups.

    ``fit`` and ``held`` are mean moments. Raises :class:`hdt.system.errors.InputError`.
    """
    with one_thread():
        factor, info = torch.linalg.cholesky_ex(fit.features + penalties.diag_embed())
    if info.any():
        raise InputError("the synthetic moments became singular; raise --option least_penalty or lower --learning-rate")
    weights = torch.cholesky_solve(fit.cross.expand(len(penalties), -1, -1), factor)
    gap = held.features @ weights - held.cross
    errors = (weights * (gap - held.cross)).sum(dim=(1, 2)) + held.target
    adjoint = torch.cholesky_solve(gap, factor)
    return errors, -2 * (penalties * (adjoint * weights).sum(dim=2)) @ member
