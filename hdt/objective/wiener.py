"""Wiener: the exact full-data loss of the forecaster trained to optimality on the synthetic series (ours).

A linear student on features φ of the context, trained on synthetic windows with ridge ρ, has a closed form,
and its error over *all* real windows needs only the real moments A, B, c (:mod:`hdt.moments`):

    W(S) = (a(S) + ρ·tr a(S)/D·I)⁻¹ b(S)            L(S) = tr(WᵀAW) − 2 tr(WᵀB) + c

a, b are the moments of the synthetic windows. L is differentiable in S: no inner loop, no experts, no
sampling. At the optimum W(S) is the Wiener filter A⁻¹B of the real series. Views, each divided by its c:

- raw: φ = (x, 1). Test sets drift: adding E over level shifts of variance s² to A and B (s²·uuᵀ and s²·u1ᵀ,
  u = 1 on the context) asks for unit gain at frequency zero.
- centred: φ = x − x̄, target y − x̄: a linear student behind an instance normalisation, its error
  measured in the original scale (windows weighted by their variance).
- relu: φ = σ·relu(R(x − x̄)/σ + b), R, b random: a stand-in for networks behind an instance normalisation.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from hdt import moments
from hdt.errors import InputError
from hdt.moments import Moments
from hdt.objective.base import Objective, Options, Terms
from hdt.windows import windows

EPS = 1e-5


class WienerOptions(Options):
    """Hyperparameters of :class:`Wiener`."""

    ridge: float = Field(0.01, gt=0, description="ρ, relative to the mean diagonal of a(S)")
    level: float = Field(1.0, ge=0, description="s, standard deviation of level shifts in the raw view")
    raw: float = Field(1.0, ge=0, description="weight of the raw view")
    centred: float = Field(1.0, ge=0, description="weight of the centred linear view")
    relu: float = Field(1.0, ge=0, description="weight of the centred view with random ReLU features")
    features: int = Field(256, ge=1, description="D of the ReLU view")
    feature_seed: int = Field(0, ge=0, description="draws R and b")
    most_windows: int = Field(100_000, ge=1, description="real windows the ReLU view reads at most, evenly spaced")


class Wiener(Objective):
    """The sum of L over the views."""

    Options = WienerOptions

    def prepare(self, series: Float[Tensor, "T C"]) -> None:
        options, context, horizon = self.options, self.problem.context, self.problem.horizon
        gram = moments.gram(series, context + horizon)
        self.real: dict[str, Moments] = {}
        if options.raw:
            raw = moments.lag_moments(gram, context).means()
            shift = torch.zeros(context + 1, 1, dtype=torch.float64, device=series.device)
            shift[:context] = options.level
            self.real["raw"] = Moments(
                raw.features + shift @ shift.T,
                raw.cross + options.level * shift,
                raw.target + options.level**2 * horizon,
                1,
            )
        if options.centred:
            self.real["centred"] = _without_bias(moments.lag_moments(moments.centred_gram(gram, context), context))
        if options.relu:
            draws = torch.Generator().manual_seed(options.feature_seed)
            mix = torch.randn(context, options.features, generator=draws, dtype=torch.float64) / context**0.5
            bias = torch.rand(options.features, generator=draws, dtype=torch.float64) * 2 - 1
            self.mix, self.bias = mix.to(series.device), bias.to(series.device)
            count = (len(series) - context - horizon + 1) * series.shape[1]
            stride = -(-count // options.most_windows)
            self.real["relu"] = moments.stream(series, context, horizon, self.relu_view, stride).means()

    def loss(self, synthetic: Float[Tensor, "N M C"], generator: torch.Generator) -> tuple[Tensor, Terms]:
        every = windows(synthetic, self.problem.context, self.problem.horizon)  # [N, n, L+H, C]
        flat = every.transpose(-1, -2).flatten(0, 2)
        views = {"raw": self.raw_view, "centred": self.centred_view, "relu": self.relu_view}
        total = flat.new_zeros(())
        terms: Terms = {}
        for name, real in self.real.items():
            weights = self.student(*views[name](flat))
            error = real.loss(weights) / real.target
            total = total + getattr(self.options, name) * error
            terms[name] = error.detach()
        return total, terms

    def student(self, features: Float[Tensor, "B D"], target: Float[Tensor, "B H"]) -> Float[Tensor, "D H"]:
        """W(S), the ridge regression on the synthetic windows."""
        own = moments.window_moments([(features, target)]).means().double()
        ridge = self.options.ridge * own.features.diagonal().mean()
        identity = torch.eye(len(own.features), dtype=own.features.dtype, device=own.features.device)
        factor, info = torch.linalg.cholesky_ex(own.features + ridge * identity)
        if info.item():
            raise InputError("the synthetic moments became singular; raise the objective's ridge")
        return torch.cholesky_solve(own.cross, factor)

    def raw_view(self, flat: Float[Tensor, "B window"]) -> tuple[Tensor, Tensor]:
        """φ = (x, 1) and y."""
        context = self.problem.context
        return torch.cat([flat[:, :context], torch.ones_like(flat[:, :1])], dim=1), flat[:, context:]

    def centred_view(self, flat: Float[Tensor, "B window"]) -> tuple[Tensor, Tensor]:
        """x − x̄ and y − x̄."""
        context = self.problem.context
        flat = flat - flat[:, :context].mean(dim=1, keepdim=True)
        return flat[:, :context], flat[:, context:]

    def relu_view(self, flat: Float[Tensor, "B window"]) -> tuple[Tensor, Tensor]:
        """σ·relu(R(x − x̄)/σ + b) and y − x̄."""
        x, y = self.centred_view(flat)
        scale = (x.square().mean(dim=1, keepdim=True) + EPS).sqrt()
        return torch.relu(x @ self.mix.to(x) + scale * self.bias.to(x)), y


def _without_bias(biased: Moments) -> Moments:
    return Moments(biased.features[:-1, :-1], biased.cross[:-1], biased.target, biased.count).means()
