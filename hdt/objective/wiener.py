"""Wiener: the exact full-data loss of the forecaster trained to optimality on the synthetic series (ours).

A linear student on features φ of the context, trained on synthetic windows with ridge ρ, has a closed form,
and its error over *all* real windows needs only the real moments A, B, c (:mod:`hdt.maths.moments`):

    W(S) = (a(S) + ρ·tr a(S)/D·I)⁻¹ b(S)            L(S) = tr(WᵀAW) − 2 tr(WᵀB) + c

a, b are the moments of the synthetic windows. L is differentiable in S: no inner loop, no experts. At the
optimum W(S) is the Wiener filter A⁻¹B of the real series. The loss is the sum of L/c over three views:

- raw: φ = (x, 1). Test sets drift: adding E over level shifts of variance s² to A and B (s²·uuᵀ and s²·u1ᵀ,
  u = 1 on the context) asks for unit gain at frequency zero.
- centred: φ = x − x̄, target y − x̄: a linear student behind an instance normalisation, its error
  measured in the original scale (windows weighted by their variance).
- relu: φ = σ·relu(R(x − x̄)/σ + b), R, b random: a stand-in for networks behind an instance normalisation.
  Features drawn once would be fitted like a training set: the loss on others stays 10% higher on ETTm1.
  So ``draws`` sets of features have their real moments taken, and each iteration uses one of them. With
  ``feature_steps`` they are those of networks that began random and learned on real windows for so many steps
  (:mod:`hdt.training.features`), which helps on some sets and not on others (recipes/LOG.md).

With covariates there is a fourth view, φ = (x − x̄, z, 1), z what is known beside the target (:mod:`hdt.maths.joint`):
of synthetic windows the columns known ahead are those of a real stretch of time, so that values agree with its stamps.
With ``individual`` there are students that each know one channel (:mod:`hdt.objective.individual`).

A network memorises what W(S) leaves unexplained of the few synthetic horizons, the more the longer it trains. So
the centred views also pay for it, ``noise`` times tr(WᵀaW) − 2 tr(Wᵀb) + c(S) over c(S): synthetic horizons
become forecasts, in closed form what CondTSF's value update (arXiv 2406.02131) does with experts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from hdt.maths import moments
from hdt.maths.blocks import Real, groups, starts, summed
from hdt.maths.joint import joint
from hdt.maths.moments import Moments
from hdt.maths.roles import Roles
from hdt.maths.windows import some_windows, windows
from hdt.objective.contract import SHARE, Objective, Scored, State, Sums, Terms
from hdt.objective.individual import APART, individual, told_apart
from hdt.objective.views import LinearView, Statistic, View, Views
from hdt.system.errors import InputError, require
from hdt.system.fingerprint import fingerprint
from hdt.system.options import SIZE, Options
from hdt.system.parts import Method, Shape
from hdt.training.features import Relu, learned, numbers, random_relu

ENOUGH = 400  # windows of a sequence for random features; of more, which overlap, an iteration looks at others
BESIDE = 3.0  # chosen on the validation parts of ERCOT and co2 (recipes/LOG.md)


class WienerOptions(Options):
    """Hyperparameters of :class:`Wiener`."""

    ridge: float = Field(0.01, gt=0, description="ρ, relative to the mean diagonal of a(S)")
    level: float = Field(1.0, ge=0, description="s, standard deviation of level shifts in the raw view")
    raw: float = Field(1.0, ge=0, description="weight of the raw view")
    centred: float = Field(1.0, ge=0, description="weight of the centred linear view")
    relu: float = Field(1.0, ge=0, description="weight of the centred view with random ReLU features")
    noise: float = Field(0.03, ge=0, description="weight of what W(S) cannot explain of synthetic horizons")
    features: int = Field(256, ge=1, description="D of the ReLU view", json_schema_extra=SIZE)
    draws: int = Field(16, ge=1, description="sets of ReLU features, one of which an iteration looks at")
    feature_steps: int = Field(0, ge=0, description="steps that these learn on real windows; 0: random ones")
    individual: Annotated[float, Field(ge=0)] | Literal["auto"] = Field(
        0.0, description="weight of students that each know one channel; auto: 1 where channels differ, else 0"
    )
    most_windows: int = Field(20_000, ge=1, description="real windows per set at most, evenly spaced")
    beside: float | None = Field(None, ge=0, description=f"weight of the view with covariates; by default {BESIDE:g}")


class Wiener(Objective[Views]):
    """The sum of L/c over the views."""

    name = "wiener"
    by_blocks = True
    joins = True
    Options: ClassVar[type[WienerOptions]] = WienerOptions
    citation = """@software{hdt_wiener,
  title = {hdt: the Wiener objective for time series distillation},
  year  = {2026}
}"""
    methods = {
        "wiener": Method(
            title="Closed-form student: the exact full-data loss from lag moments",
            parameterization="raw",
            objective="wiener",
            start="phase",
            iterations=300,
            learning_rate=0.1,
        )
    }

    def prepare(self, series: Real) -> Views:
        options, context, horizon = self.options, self.problem.context, self.problem.horizon
        size, generator = context + horizon, torch.Generator().manual_seed(0)  # features are no part of a run
        drawn = self.drawn(generator, series.device)
        if drawn and options.feature_steps:
            drawn = learned(drawn, series, horizon, options.feature_steps, generator)
        counts = [(series.shape[0] - start - size + 1, len(own)) for start, own in groups(series, size)]
        total = sum(count * channels for count, channels in counts)
        stride = min(-(-total // options.most_windows), max(counts)[0])
        statistic = Statistic(context, horizon, drawn, stride)
        facts = [context, horizon, len(drawn), stride]  # its weights are no part of it
        told = summed(series, size, statistic, lambda: fingerprint(facts, numbers(drawn), code=[Statistic, Relu]))
        if starts(series).any() or self.fixed(options.model_dump()):
            weight, chosen = options.individual, {}
            if weight == "auto":
                weight = chosen["individual"] = float(told_apart(series, context, horizon) <= APART)
            own = individual(series, context, horizon, weight) if weight else None
            return replace(self.views(told, drawn, None), own=own, chosen=chosen)
        return self.views(told, drawn, Sums(told, stride, counts[0][0], fingerprint([], numbers(drawn))))

    @classmethod
    def fixed(cls, options: Mapping[str, Any]) -> str | None:
        if options["feature_steps"] and options["relu"]:
            return f"feature_steps={options['feature_steps']} learns features from all of the data"
        alone = options["individual"]
        return f"individual={alone} adds no rows to its moments, individual=0 does" if alone else None

    @classmethod
    def check(cls, options: Mapping[str, Any], shape: Shape) -> None:
        alone = options.get("individual", 0)
        require(not alone or not shape.pooled, f"individual={alone}: every channel is needed; give --channels all")

    def extend(self, sums: Sums, series: Float[Tensor, "T C"]) -> Views:
        context, horizon = self.problem.context, self.problem.horizon
        drawn = self.drawn(torch.Generator().manual_seed(0), series.device)
        if sums.features != fingerprint([], numbers(drawn)):
            raise InputError("torch or numpy of other versions drew other features; install those of run.json")
        told = summed(series, context + horizon, Statistic(context, horizon, drawn, sums.stride, sums.windows))
        shapes = [tensor.shape for tensor in told]
        require(shapes == [tensor.shape for tensor in sums.tensors], "the kept sums are not of these settings")
        told = [known.to(part) + part for known, part in zip(sums.tensors, told, strict=True)]
        seen = sums.windows + len(series) - context - horizon + 1
        return self.views(told, drawn, replace(sums, tensors=told, windows=seen))

    def drawn(self, generator: torch.Generator, device: torch.device) -> list[Relu]:
        """The random features of the draws."""
        count, features = self.options.draws if self.options.relu else 0, self.options.features
        return [random_relu(self.problem.context, features, generator).to(device) for _ in range(count)]

    def views(self, told: Sequence[Tensor], drawn: Sequence[Relu], sums: Sums | None) -> Views:
        """The views of these sums of :class:`Statistic`."""
        options, context = self.options, self.problem.context
        first, change, *others = told[:4]
        gram = moments.gram_of(first, moments.whole(change), *others)
        linear: list[LinearView] = []
        if options.raw:
            raw = partial(moments.lag_moments, context=context)
            real = moments.level_shifted(raw(gram).means(), options.level)
            linear.append(LinearView("raw", options.raw, raw, real))
        if options.centred:
            centred = partial(moments.centred_moments, context=context)
            linear.append(LinearView("centred", options.centred, centred, centred(gram).means()))
        random = [
            View("relu", options.relu, features, Moments.of([moments.whole(product), *others]).means())
            for n, features in enumerate(drawn)
            for product, *others in [told[4 * n + 4 : 4 * n + 8]]
        ]
        return Views(linear=linear, random=random, sums=sums)

    def join(self, known: Views, series: Float[Tensor, "T C"], roles: Roles, stretch: Float[Tensor, "M GK"]) -> Views:
        context, horizon, most = self.problem.context, self.problem.horizon, self.options.most_windows
        return replace(known, joint=joint(series, roles, context, horizon, stretch, most), sums=None)

    def restrict(self, known: Views, channels: Int[Tensor, " g"]) -> Views:
        return replace(known, share=SHARE, own=None if known.own is None else known.own.restrict(channels))

    def loss(self, known: Views, synthetic: Float[Tensor, "N M C"], state: State, generator: torch.Generator) -> Scored:
        size, rows = self.problem.context + self.problem.horizon, synthetic.transpose(0, 1).flatten(1)  # [M, N·C]
        flat = self.looked_at(known, synthetic, generator)
        chosen = torch.randperm(len(known.random), generator=generator)[:1].tolist()
        total = flat.new_zeros((), dtype=torch.float64)
        terms: Terms = {}
        gram = moments.gram_of(*moments.lags(rows, size))
        for view in known.linear:
            total = self.scored(total, terms, view.name, view.weight, view.real, view.of(gram).means())
        for view in (known.random[i] for i in chosen):
            own = moments.window_moments([view.features(flat)]).means().double()
            total = self.scored(total, terms, view.name, view.weight, view.real, own)
        if known.own is not None:
            error, noise = known.own.errors(flat, self.options.ridge, generator)
            total = total + known.own.weight * (error + self.options.noise * noise)
            terms |= {"individual": error.detach(), "individual_noise": noise.detach()}
        if known.joint is not None:
            weight = BESIDE if self.options.beside is None else self.options.beside
            own = known.joint.of(synthetic)
            total = self.scored(total, terms, "beside", weight, known.joint.real, own)
        return Scored(total, terms, state)

    def looked_at(
        self, known: Views, synthetic: Float[Tensor, "N M C"], generator: torch.Generator
    ) -> Float[Tensor, "B window"]:
        """The synthetic windows of an iteration, of any sequence and channel: ``ENOUGH`` of a sequence at most."""
        every = windows(synthetic, self.problem.context, self.problem.horizon)  # [N, n, L+H, C]
        share = max(known.share, -(-every.shape[1] // ENOUGH))
        return some_windows(every, share, generator).transpose(-1, -2).flatten(0, 2)

    def scored(self, total: Tensor, terms: Terms, name: str, weight: float, real: Moments, own: Moments) -> Tensor:
        """The total and the terms with those of a view."""
        weights = self.student(own)
        error = real.loss(weights) / real.target
        total, terms[name] = total + weight * error, error.detach()
        if name != "raw" and self.options.noise:
            noise = own.loss(weights) / own.target
            total, terms[f"{name}_noise"] = total + weight * self.options.noise * noise, noise.detach()
        return total

    def student(self, own: Moments) -> Float[Tensor, "D H"]:
        """W(S), the ridge regression on synthetic windows of these mean moments."""
        return moments.ridge(own.features, own.cross, self.options.ridge * own.features.diagonal().mean())

    def graph_bytes(self, instances: int, channels: int) -> int:
        size = self.problem.context + self.problem.horizon
        return self._graph_bytes(instances, channels, -(-(self.problem.length - size + 1) // ENOUGH))

    @classmethod
    def remedy(cls, options: Mapping[str, Any]) -> str:
        if options["level"]:
            return f"the level term (level={options['level']:g}) trains students for levels that shift"
        return "nothing here trains students for other levels; try --option level=1"
