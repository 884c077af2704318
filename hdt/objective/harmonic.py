"""HDT: harmonic amplitudes plus gradient matching on the harmonic signals (arXiv 2603.03760).

    L = L_grad(S_H, X_H) + λ·L_harm,    L_harm = mean over channels of (1/k) Σ_{f∈Hk} ||F_X(f)| − |F_S(f)||^p

F are orthonormal Fourier coefficients, Hk the k largest bins of a channel, and X_H, S_H the series with
all other bins set to zero. ``acf_weight`` adds the right side of Theorem 1, (1/M) Σ_f |P_S − P_X|, which
bounds the largest gap between the two autocovariances; it reaches the bins outside Hk.

Deviations and choices (the paper publishes the equations above, not k, λ, p or how |F_X| is taken):
|F_X| is the mean amplitude over all real sub-series of length M rather than that of one sampled
sub-series, so Hk is fixed and L_harm has no sampling noise; p = 2; k = 32; λ = 0.5; the sum is divided
by k so that λ means the same for every k. The start has random phases on the root mean real spectrum.
Chosen on the validation parts of ETTh1 and ETTm1 (recipes/LOG.md).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from hdt import spectrum
from hdt.objective.base import Objective, Problem, Terms
from hdt.objective.gradient import GradientMatching, GradientOptions


class HarmonicOptions(GradientOptions):
    """Hyperparameters of :class:`HarmonicMatching`."""

    k: int = Field(32, ge=1, description="harmonics kept per channel")
    lam: float = Field(0.5, ge=0, description="λ, weight of the harmonic amplitudes")
    p: float = Field(2.0, ge=1, description="power of the amplitude differences")
    gradient_weight: float = Field(1.0, ge=0, description="weight of L_grad")
    acf_weight: float = Field(0.0, ge=0, description="weight of the PSD gap of Theorem 1")


class HarmonicMatching(Objective):
    """The HDT objective; terms of weight zero are not computed."""

    Options = HarmonicOptions
    pools_channels = False

    def __init__(self, options: HarmonicOptions, problem: Problem) -> None:
        super().__init__(options, problem)
        self.gradient = GradientMatching(options, problem)

    def prepare(self, series: Float[Tensor, "T C"]) -> None:
        self.amplitude, self.power = spectrum.mean_spectrum(series, self.problem.length)
        self.mask = spectrum.top_harmonics(self.amplitude, self.options.k)
        self.gradient.prepare(series)
        self.kept = self.gradient.kept = self.mask

    def loss(self, synthetic: Float[Tensor, "N M C"], generator: torch.Generator) -> tuple[Tensor, Terms]:
        options = self.options
        total = synthetic.new_zeros(())
        terms: Terms = {}
        if options.gradient_weight:
            gradient, terms = self.gradient.loss(synthetic, generator)
            total = total + options.gradient_weight * gradient
        if options.lam:
            harmonic = self.harmonic_loss(synthetic)
            total, terms = total + options.lam * harmonic, {**terms, "harmonic": harmonic.detach()}
        if options.acf_weight:
            gap = spectrum.psd_distance(spectrum.psd(synthetic), self.power, self.problem.length).mean()
            total, terms = total + options.acf_weight * gap, {**terms, "psd_gap": gap.detach()}
        return total, terms

    def harmonic_loss(self, synthetic: Float[Tensor, "N M C"]) -> Tensor:
        """L_harm, averaged over sequences and channels."""
        gap = (spectrum.rfft(synthetic).abs() - self.amplitude).abs() * self.mask
        return gap.pow(self.options.p).sum(dim=-2).mean() / self.options.k
