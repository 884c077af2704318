"""Wiener: the exact full-data loss of the forecaster trained to optimality on the synthetic series (ours).

A linear student on features φ of the context, trained on synthetic windows with ridge ρ, has a closed form,
and its error over *all* real windows needs only the real moments A, B, c (:mod:`hdt.moments`):

    W(S) = (a(S) + ρ·tr a(S)/D·I)⁻¹ b(S)            L(S) = tr(WᵀAW) − 2 tr(WᵀB) + c

a, b are the moments of the synthetic windows. L is differentiable in S: no inner loop, no experts. At the
optimum W(S) is the Wiener filter A⁻¹B of the real series. The loss is the sum of L/c over four views, whose
features are in :mod:`hdt.objective.features`:

- raw: test sets drift, so adding E over level shifts of variance s² to A and B (s²·uuᵀ and s²·u1ᵀ, u = 1 on
  the context) asks for unit gain at frequency zero.
- centred: a linear student behind an instance normalisation.
- relu, mixed: random features as stand-ins for networks behind an instance normalisation, the latter
  for those that look at other channels: it makes the synthetic series show only relations that hold.
  Features drawn once would be fitted like a training set: the loss on others stays 10% higher on ETTm1.
  So ``draws`` sets of each have their real moments taken, and each iteration uses one of them.

A network memorises what W(S) leaves unexplained of the few synthetic horizons, the more the longer it trains. So
the centred views also pay for it, ``noise`` times tr(WᵀaW) − 2 tr(Wᵀb) + c(S) over c(S): synthetic horizons
become forecasts, in closed form what CondTSF's value update (arXiv 2406.02131) does with experts.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from hdt import moments
from hdt.errors import InputError
from hdt.moments import Features, Moments
from hdt.objective.base import Objective, Options, Terms
from hdt.objective.features import Centred, Raw, Rectified
from hdt.start import some_channels
from hdt.windows import windows


class WienerOptions(Options):
    """Hyperparameters of :class:`Wiener`."""

    ridge: float = Field(0.01, gt=0, description="ρ, relative to the mean diagonal of a(S)")
    level: float = Field(1.0, ge=0, description="s, standard deviation of level shifts in the raw view")
    raw: float = Field(1.0, ge=0, description="weight of the raw view")
    centred: float = Field(1.0, ge=0, description="weight of the centred linear view")
    relu: float = Field(1.0, ge=0, description="weight of the centred view with random ReLU features")
    mixed: float = Field(1.0, ge=0, description="weight of that with features of all channels, if there are several")
    noise: float = Field(0.03, ge=0, description="weight of what W(S) cannot explain of synthetic horizons")
    features: int = Field(256, ge=1, description="D of the ReLU views")
    draws: int = Field(16, ge=1, description="sets of random features of each ReLU view")
    most_windows: int = Field(20_000, ge=1, description="real windows per set at most, evenly spaced")


class View(NamedTuple):
    """Features of windows with the real moments they have, as means; ``weight`` in the loss."""

    name: str
    weight: float
    features: Features
    real: Moments


class Wiener(Objective):
    """The sum of L/c over the views."""

    Options = WienerOptions

    def prepare(self, series: Float[Tensor, "T C"]) -> None:
        options, context, horizon = self.options, self.problem.context, self.problem.horizon
        gram = moments.gram(series, context + horizon)
        self.linear: list[View] = []
        if options.raw:
            real = level_shifted(moments.lag_moments(gram, context).means(), options.level)
            self.linear.append(View("raw", options.raw, Raw(context), real))
        if options.centred:
            real = moments.lag_moments(moments.centred_gram(gram, context), context, bias=False).means()
            self.linear.append(View("centred", options.centred, Centred(context), real))
        self.random: list[list[View]] = []
        generator = torch.Generator().manual_seed(0)  # the features are part of the objective, not of a run
        for name, weight in (
            ("relu", options.relu),
            ("mixed", options.mixed if (self.problem.channels or series.shape[1]) > 1 else 0.0),
        ):
            if weight:
                draws = range(options.draws)
                self.random.append([self.rectified(name, weight, draw, series, generator) for draw in draws])

    def rectified(
        self, name: str, weight: float, draw: int, series: Float[Tensor, "T C"], generator: torch.Generator
    ) -> View:
        """A view with fresh random features, its real moments from evenly spaced windows."""
        options, context, horizon = self.options, self.problem.context, self.problem.horizon
        count = (len(series) - context - horizon + 1) * series.shape[1]
        stride = -(-count // options.most_windows)
        features = Rectified.draw(context, options.features, name == "mixed", generator).to(series.device)
        part = series[draw * stride // options.draws :]
        if features.others is not None:  # fewer synthetic channels see fewer others
            part = some_channels(part, self.problem.channels, generator)
        return View(name, weight, features, moments.stream(part, context, horizon, features, stride).means())

    def loss(self, synthetic: Float[Tensor, "N M C"], generator: torch.Generator) -> tuple[Tensor, Terms]:
        every = windows(synthetic, self.problem.context, self.problem.horizon).flatten(0, 1)
        chosen = [draws[int(torch.randint(len(draws), (), generator=generator))] for draws in self.random]
        total = every.new_zeros((), dtype=torch.float64)
        terms: Terms = {}
        for view in [*self.linear, *chosen]:
            own = moments.window_moments([view.features(every)]).means().double()
            weights = self.student(own)
            error = view.real.loss(weights) / view.real.target
            total = total + view.weight * error
            terms[view.name] = error.detach()
            if view.name != "raw" and self.options.noise:
                noise = own.loss(weights) / own.target
                total = total + view.weight * self.options.noise * noise
                terms[f"{view.name}_noise"] = noise.detach()
        return total, terms

    def student(self, own: Moments) -> Float[Tensor, "D H"]:
        """W(S), the ridge regression on synthetic windows of these mean moments."""
        ridge = self.options.ridge * own.features.diagonal().mean()
        identity = torch.eye(len(own.features), dtype=own.features.dtype, device=own.features.device)
        factor, info = torch.linalg.cholesky_ex(own.features + ridge * identity)
        if info.item():
            raise InputError("the synthetic moments became singular; raise --option ridge or lower --learning-rate")
        return torch.cholesky_solve(own.cross, factor)


def level_shifted(real: Moments, deviation: float) -> Moments:
    """The expectation of mean moments of φ = (x, 1) when every window is shifted by N(0, ``deviation``²)."""
    variance, (size, horizon) = deviation**2, real.cross.shape
    shift = torch.ones(size, 1, dtype=real.features.dtype, device=real.features.device)
    shift[-1] = 0  # the bias feature does not shift
    return Moments(
        real.features + variance * shift @ shift.T, real.cross + variance * shift, real.target + variance * horizon, 1
    )
