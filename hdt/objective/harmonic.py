"""HDT: harmonic amplitudes plus gradient matching on the harmonic signals (arXiv 2603.03760).

    L = L_grad(S_H, X_H) + λ·L_harm,    L_harm = mean over channels of (1/k) Σ_{f∈Hk} ||F_X(f)| − |F_S(f)||^p

F are orthonormal Fourier coefficients, Hk the k largest bins of a channel, and X_H, S_H the series with
all other bins set to zero. ``acf_weight`` adds the right side of Theorem 1, (1/M) Σ_f |P_S − P_X|, which
bounds the largest gap between the two autocovariances; it reaches the bins outside Hk.

Deviations and choices (the paper publishes the equations above, not k, λ, p or how |F_X| is taken):
|F_X| is the mean amplitude over all real sub-series of length M rather than that of one sampled
sub-series, so Hk is fixed and L_harm has no sampling noise; p = 2; k = 32; λ = 0.5; the sum is divided
by k so that λ means the same for every k. ``k=auto`` keeps as many harmonics as hold 99% of the energy,
``lam=auto`` gives both terms equal gradients at the start. The start has random phases on the root mean real spectrum.
Chosen on the validation parts of ETTh1 and ETTm1 (recipes/LOG.md).
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from hdt.maths import spectrum
from hdt.objective.base import Objective, Problem, Terms
from hdt.objective.gradient import GradientMatching, GradientOptions
from hdt.system.errors import require

ENERGY = 0.99  # of the channels' mean amplitude spectrum, for k = auto
DRAWS = 8  # of L_grad, for lam = auto


class HarmonicOptions(GradientOptions):
    """Hyperparameters of :class:`HarmonicMatching`."""

    k: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(32, description="harmonics kept per channel")
    lam: Annotated[float, Field(ge=0)] | Literal["auto"] = Field(
        0.5, description="λ, weight of the harmonic amplitudes"
    )
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
        k = self.options.k
        if k == "auto":
            k = spectrum.harmonics_for(self.amplitude, self.problem.length, ENERGY)
            self.chosen["k"] = k
        self.k = k
        self.lam = None if self.options.lam == "auto" else self.options.lam
        self.mask = spectrum.top_harmonics(self.amplitude, k)
        self.gradient.prepare(series)
        self.kept = self.gradient.kept = self.mask

    def loss(self, synthetic: Float[Tensor, "N M C"], generator: torch.Generator) -> tuple[Tensor, Terms]:
        options = self.options
        total = synthetic.new_zeros(())
        terms: Terms = {}
        if options.gradient_weight:
            gradient, terms = self.gradient.loss(synthetic, generator)
            total = total + options.gradient_weight * gradient
        if self.lam is None:
            self.chosen["lam"] = self.lam = self.balance(synthetic, generator)
        if self.lam:
            harmonic = self.harmonic_loss(synthetic)
            total, terms = total + self.lam * harmonic, {**terms, "harmonic": harmonic.detach()}
        if options.acf_weight:
            gap = spectrum.psd_distance(spectrum.psd(synthetic), self.power, self.problem.length).mean()
            total, terms = total + options.acf_weight * gap, {**terms, "psd_gap": gap.detach()}
        return total, terms

    def harmonic_loss(self, synthetic: Float[Tensor, "N M C"]) -> Tensor:
        """L_harm, averaged over sequences and channels."""
        gap = (spectrum.rfft(synthetic).abs() - self.amplitude).abs() * self.mask
        return gap.pow(self.options.p).sum(dim=-2).mean() / self.k

    def balance(self, synthetic: Float[Tensor, "N M C"], generator: torch.Generator) -> float:
        """λ = root mean square of ‖∇L_grad‖ over ``DRAWS`` draws / ‖∇L_harm‖, both at this series."""
        (harmonic,) = torch.autograd.grad(self.harmonic_loss(synthetic), synthetic, retain_graph=True)
        squared = 0.0
        for _ in range(DRAWS):
            (part,) = torch.autograd.grad(self.gradient.loss(synthetic, generator)[0], synthetic, retain_graph=True)
            squared += part.square().sum().item() / DRAWS
        norm = harmonic.norm().item()
        require(
            norm > 1e-9, "lam=auto: the amplitudes already match, so there is nothing to balance; give --lam a number"
        )
        return float(squared**0.5 / norm)
