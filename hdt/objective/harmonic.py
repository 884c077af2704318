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

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from hdt.maths import spectrum
from hdt.objective.contract import Known, Objective, Problem, Scored, State, Terms
from hdt.objective.gradient import GradientMatching, GradientOptions, Segments
from hdt.system.errors import require
from hdt.system.options import FLAG
from hdt.system.parts import Method, Shape

ENERGY = 0.99  # of the channels' mean amplitude spectrum, for k = auto
DRAWS = 8  # of L_grad, for lam = auto
NO_GRADIENT = 1e-9  # of L_harm: what rounding leaves of it where the amplitudes match


class HarmonicOptions(GradientOptions):
    """Hyperparameters of :class:`HarmonicMatching`."""

    k: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        32, description="harmonics kept per channel", json_schema_extra=FLAG
    )
    lam: Annotated[float, Field(ge=0)] | Literal["auto"] = Field(
        0.5, description="λ, weight of the harmonic amplitudes", json_schema_extra=FLAG
    )
    p: float = Field(2.0, ge=1, description="power of the amplitude differences")
    gradient_weight: float = Field(1.0, ge=0, description="weight of L_grad")
    acf_weight: float = Field(0.0, ge=0, description="weight of the PSD gap of Theorem 1", json_schema_extra=FLAG)


@dataclass(frozen=True, kw_only=True)
class Harmonics(Known):
    """Mean amplitude and mean power [F, C] of real sub-series, k, and what L_grad knows."""

    amplitude: Tensor
    power: Tensor
    k: int
    gradient: Segments
    mask: Tensor


class HarmonicMatching(Objective[Harmonics]):
    """The HDT objective; terms of weight zero are not computed. The state holds λ once it was balanced."""

    name = "harmonic"
    Options = HarmonicOptions
    pools_channels = False
    citation = """@article{hong2026hdt,
  author  = {Hong, Seungha and Jang, Sanghwan and Kweon, Wonbin and Kim, Suyeon and Lee, Gyuseok and Yu, Hwanjo},
  title   = {Harmonic Dataset Distillation for Time Series Forecasting},
  journal = {arXiv preprint arXiv:2603.03760},
  year    = {2026},
  note    = {AAAI 2026}
}"""
    methods = {
        "hdt": Method(
            title="Harmonic dataset distillation for time series forecasting",
            parameterization="harmonic",
            objective="harmonic",
            start="phase",
            iterations=400,
            learning_rate=0.02,
        )
    }

    def __init__(self, options: HarmonicOptions, problem: Problem) -> None:
        super().__init__(options, problem)
        self.gradient = GradientMatching(options, problem)

    @classmethod
    def check(cls, options: Mapping[str, Any], shape: Shape) -> None:
        if options["k"] != "auto":
            spectrum.check_harmonics(options["k"], shape.length)

    def prepare(self, series: Float[Tensor, "T C"]) -> Harmonics:
        amplitude, power = spectrum.mean_spectrum(series, self.problem.length)
        k, chosen = self.options.k, {}
        if k == "auto":
            k = chosen["k"] = spectrum.harmonics_for(amplitude, self.problem.length, ENERGY)
        mask = spectrum.top_harmonics(amplitude, k)
        gradient = self.gradient.prepare(series, mask)
        return Harmonics(amplitude=amplitude, power=power, k=k, gradient=gradient, mask=mask, chosen=chosen)

    def restrict(self, known: Harmonics, channels: Int[Tensor, " g"]) -> Harmonics:
        parts = {name: getattr(known, name)[:, channels] for name in ("amplitude", "power", "mask")}
        return replace(known, gradient=self.gradient.restrict(known.gradient, channels), **parts)

    def loss(
        self, known: Harmonics, synthetic: Float[Tensor, "N M C"], state: State, generator: torch.Generator
    ) -> Scored:
        options = self.options
        total = synthetic.new_zeros(())
        terms: Terms = {}
        if options.gradient_weight:
            gradient, terms, _ = self.gradient.loss(known.gradient, synthetic, {}, generator)
            total = total + options.gradient_weight * gradient
        lam = options.lam
        if lam == "auto":
            if "lam" not in state:
                state = {**state, "lam": self.balance(known, synthetic, generator)}
            lam = state["lam"].item()
        if lam:
            harmonic = self.harmonic_loss(known, synthetic)
            total, terms = total + lam * harmonic, {**terms, "harmonic": harmonic.detach()}
        if options.acf_weight:
            gap = spectrum.psd_distance(spectrum.psd(synthetic), known.power, self.problem.length).mean()
            total, terms = total + options.acf_weight * gap, {**terms, "psd_gap": gap.detach()}
        return Scored(total, terms, state)

    def harmonic_loss(self, known: Harmonics, synthetic: Float[Tensor, "N M C"]) -> Tensor:
        """L_harm, averaged over sequences and channels."""
        gap = (spectrum.rfft(synthetic).abs() - known.amplitude).abs() * known.mask
        return gap.pow(self.options.p).sum(dim=-2).mean() / known.k

    def balance(self, known: Harmonics, synthetic: Float[Tensor, "N M C"], generator: torch.Generator) -> Tensor:
        """λ = root mean square of ‖∇L_grad‖ over ``DRAWS`` draws / ‖∇L_harm‖, both at this series; float64."""
        (harmonic,) = torch.autograd.grad(self.harmonic_loss(known, synthetic), synthetic, retain_graph=True)
        squared = 0.0
        for _ in range(DRAWS):
            gradient = self.gradient.loss(known.gradient, synthetic, {}, generator).loss
            (part,) = torch.autograd.grad(gradient, synthetic, retain_graph=True)
            squared += part.square().sum().item() / DRAWS
        norm = harmonic.norm().item()
        require(
            norm > NO_GRADIENT,
            "lam=auto: the amplitudes already match, so there is nothing to balance; give --lam a number",
        )
        return torch.tensor(squared**0.5 / norm, dtype=torch.float64)

    def chosen(self, known: Harmonics, state: State) -> dict[str, int | float]:
        return {**known.chosen, **{name: value.item() for name, value in state.items()}}

    def graph_bytes(self, instances: int, channels: int) -> int:
        return self.gradient.graph_bytes(instances, channels)
