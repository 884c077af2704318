"""HCDC: "Calibrated Dataset Condensation for Faster Hyperparameter Search" (arXiv 2405.17535), for series.

A small set should order hyperparameters λ as all data T does. Orders are equal where the validation errors of students
trained on either rise and fall together, that is where their gradients with respect to λ point the same way, so the
paper matches these hypergradients. With θ(λ) trained to optimality, implicit differentiation gives

    ∇_λ L_val(θ(λ)) = −∂²L_train/∂λ∂θ · [∂²L_train/∂θ²]⁻¹ · ∂L_val/∂θ          loss: Σ_λ 1 − cos(∇_λ of S, ∇_λ of T)

Of the paper are this loss, and that λ is continuous. There the inverse Hessian is a Neumann series, cut off, for
networks; S_train is condensed as usual beforehand, and what is learned by the loss above is a synthetic S_val;
discrete choices are put on continuous paths. It is about images and graphs.

Ours is all else. Here whoever searches trains on S and validates on real data, so S_train is learned and L_val is real:
within the *training part*, for validation and test parts are never read. It is cut into up to five stretches of time;
for all data, L_val sums the errors on each of a student trained on the others, for S it is that of one student on all
of them. (One stretch alone, the last fifth, was overfitted, see recipes/LOG.md.) Validation parts drift: the windows
of L_val are shifted by N(0, level²), in expectation. The student is a ridge regression of y − x̄ on
φ = (x − x̄, x̄, 1, relu(R(x − x̄)/σ + b)), whose inverse Hessian is exact: with a(S), b(S) the mean moments of synthetic
windows (:mod:`hdt.maths.moments`), A, B, c those of real ones, K = a + diag(d) and d the penalty of each feature,

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
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from hdt.maths import moments
from hdt.maths.blocks import Real, groups, starts, summed
from hdt.maths.hypergradients import hypergradients
from hdt.maths.moments import Moments
from hdt.objective.contract import BYTES, COPIES, Scored, State
from hdt.objective.views import Views
from hdt.objective.wiener import Wiener, WienerOptions
from hdt.system.errors import require
from hdt.system.fingerprint import fingerprint
from hdt.system.options import SIZE
from hdt.system.parts import Method, Shape
from hdt.training.features import Relu, centred, numbers

POOL = 16  # points λ per draw of features
MOST_FOLDS = 5  # stretches of the training part, each held out in turn


class HCDCOptions(WienerOptions):
    """Hyperparameters of :class:`HCDC`."""

    direction: float = Field(1.0, ge=0, description="weight of 1 − cosine of hypergradients")
    value: float = Field(0.0, ge=0, description="weight of the squared difference of log validation errors")
    points: int = Field(4, ge=1, le=POOL, description="λ that an iteration looks at", json_schema_extra=SIZE)
    least_penalty: float = Field(1e-3, gt=0, description="lower end of the penalties, relative")
    most_penalty: float = Field(1000.0, gt=0, description="upper end of the penalties, relative")


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
    """Points λ with what all data knows of them: penalties of the features there, the cross-validated error and its
    hypergradient. ``real`` are the moments of all real windows."""

    features: Joint
    groups: Float[Tensor, "D G"]
    real: Moments
    penalties: Float[Tensor, "P D"]
    errors: Float[Tensor, " P"]
    slopes: Float[Tensor, "P G"]


@dataclass(frozen=True, kw_only=True)
class Calibrated(Views):
    """What Wiener knows, and the points of every draw of features."""

    draws: Sequence[Points]


@dataclass(frozen=True)
class Folds:
    """Sums of some channels over the windows within each of ``count`` stretches of time, for every draw of features."""

    context: int
    horizon: int
    drawn: Sequence[Joint]
    stride: int
    count: int

    def __call__(self, own: Float[Tensor, "rows g"]) -> list[Tensor]:
        found = []
        for features in self.drawn:
            for part in own.tensor_split(self.count):
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
        super().check(options, shape)
        least, most = options["least_penalty"], options["most_penalty"]
        require(least < most, f"least_penalty={least:g} is not below most_penalty={most:g}; give a range")

    @classmethod
    def fixed(cls, options: Mapping[str, Any]) -> str | None:
        return f"objective {cls.name!r} cuts the training part into stretches, which would be others"

    def prepare(self, series: Real) -> Calibrated:
        context, horizon = self.problem.context, self.problem.horizon
        size, longest = context + horizon, series.shape[0] - int(starts(series).min())
        count = min(MOST_FOLDS, longest // size)
        require(
            count >= 2,
            f"objective {self.name!r} holds out half of the training part, or less: that takes {2 * size} rows and it "
            f"has {longest}; lower --context or --horizon",
        )
        generator = torch.Generator().manual_seed(0)  # as of Wiener, whose features these are
        drawn = [Joint(context, relu) for relu in self.drawn(generator, series.device)] or [Joint(context, None)]
        total = sum((series.shape[0] - start) * len(own) for start, own in groups(series, count * size))
        statistic = Folds(context, horizon, drawn, -(-total // self.options.most_windows), count)
        facts = [context, horizon, len(drawn), statistic.stride, count]
        known = numbers([joint.relu for joint in drawn if joint.relu is not None])
        told = summed(series, count * size, statistic, lambda: fingerprint(facts, known, code=[Folds, Joint, Relu]))
        every = [Moments.of([moments.whole(told[n]), *told[n + 1 : n + 4]]) for n in range(0, len(told), 4)]
        draws = [self.points(joint, every[n * count : (n + 1) * count], generator) for n, joint in enumerate(drawn)]
        return Calibrated(**vars(super().prepare(series)), draws=draws)

    def points(self, features: Joint, folds: Sequence[Moments], generator: torch.Generator) -> Points:
        """Points for these features, by cross-validation: ``folds`` are sums over windows of each stretch."""
        every, held = reduce(add, folds), [self.drifted(fold) for fold in folds]
        real, member = every.means(), features.groups().to(every.features)
        least, most = self.options.least_penalty, self.options.most_penalty
        places = torch.rand(POOL, member.shape[1], generator=generator, dtype=torch.float64).to(member)
        scale = real.features.diagonal() @ member / member.sum(dim=0)
        penalties = (least * (most / least) ** places * scale) @ member.T
        rests = [reduce(add, [fold for fold in folds if fold is not own]).means() for own in folds]
        told = [hypergradients(rest, own, penalties, member) for rest, own in zip(rests, held, strict=True)]
        errors, slopes = (torch.stack(part).sum(dim=0) / every.count for part in zip(*told, strict=True))
        return Points(features, member, self.drifted(real), penalties, errors, slopes)

    def drifted(self, real: Moments) -> Moments:
        """The expectation of these moments when every window is shifted by N(0, ``level``²), which x̄ alone sees."""
        product = real.features.clone()
        product[self.problem.context, self.problem.context] += real.count * self.options.level**2
        return replace(real, features=product)

    def loss(self, known: Views, synthetic: Float[Tensor, "N M C"], state: State, generator: torch.Generator) -> Scored:
        assert isinstance(known, Calibrated)
        total, terms, state = super().loss(known, synthetic, state, generator)
        flat = self.looked_at(known, synthetic, generator)
        points = known.draws[int(torch.randint(len(known.draws), (), generator=generator))]
        chosen = torch.randperm(POOL, generator=generator)[: self.options.points].to(flat.device)
        own = moments.window_moments([points.features(flat)]).means().double()
        errors, slopes = hypergradients(own, points.real, points.penalties[chosen], points.groups)
        direction = (1 - torch.cosine_similarity(slopes, points.slopes[chosen], dim=1, eps=1e-12)).mean()
        value = (errors / points.errors[chosen]).log().square().mean()
        total = total + self.options.direction * direction + self.options.value * value
        return Scored(total, {**terms, "direction": direction.detach(), "value": value.detach()}, state)

    def graph_bytes(self, instances: int, channels: int) -> int:
        size = self.problem.context + 2 + (self.options.features if self.options.relu else 0)
        return super().graph_bytes(instances, channels) + 2 * BYTES * COPIES * self.options.points * size**2
