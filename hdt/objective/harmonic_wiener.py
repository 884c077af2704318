"""HDT taken to the optimum: its harmonics and amplitudes, with gradients of all real windows in closed form (ours).

    L = Σ_views L_view(S) + λ·mean over channels of (1/k) Σ_{f∈Hk} (A_X(f) − |F_S(f)|)²,    A_X = √P_X

Two of the choices of HDT (:mod:`hdt.objective.harmonic`) are made differently.

Its gradient term asks where a few steps from fresh weights on a few sampled windows arrive. For a linear student the
end of all steps on all windows is known, and so is how well what the synthetic windows teach does there: the views of
:mod:`hdt.objective.wiener`.

Its amplitude is the mean of |F_X| over real sub-series, ours the root of their mean power P_X. Theorem 1 of
arXiv 2603.03760 bounds the gap of the autocovariances by that of the powers, and the square of a mean is less than the
mean of squares: for a Gaussian bin π/4 of it. So HDT's series keep a gap of a fifth of the variance where their
amplitudes match; these have none.

The paper's amplitudes are those of the k largest harmonics. As nothing else is filtered here (the views see the whole
series), k is all of them unless it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from hdt.maths import spectrum
from hdt.maths.blocks import Real
from hdt.objective.contract import Scored, State
from hdt.objective.views import Views
from hdt.objective.wiener import Wiener, WienerOptions
from hdt.system.options import FLAG
from hdt.system.parts import Method, Shape


class HarmonicWienerOptions(WienerOptions):
    """Hyperparameters of :class:`HarmonicWiener`."""

    k: Annotated[int, Field(ge=1)] | None = Field(
        None, description="harmonics per channel whose amplitudes are matched; all by default", json_schema_extra=FLAG
    )
    lam: float = Field(0.5, ge=0, description="λ, weight of the amplitudes", json_schema_extra=FLAG)


@dataclass(frozen=True, kw_only=True)
class Both(Views):
    """The views, and the amplitudes [F, C] that the series should have; of the marked harmonics, if any are."""

    amplitude: Tensor


class HarmonicWiener(Wiener):
    """The loss of :class:`hdt.objective.wiener.Wiener` plus λ times the squared gap of amplitudes."""

    name = "harmonic-wiener"
    pools_channels = False
    by_blocks = False
    Options: ClassVar[type[WienerOptions]] = HarmonicWienerOptions
    options: HarmonicWienerOptions
    citation = """@software{hdt_harmonic_wiener,
  title = {hdt: harmonic distillation with the exact full-data loss},
  year  = {2026},
  note  = {after HDT, arXiv:2603.03760}
}"""
    methods = {
        "hdt-wiener": Method(
            title="Harmonic distillation with the exact full-data loss and root mean square amplitudes",
            parameterization="harmonic",
            objective="harmonic-wiener",
            start="phase",
            iterations=300,
            learning_rate=0.1,
        )
    }

    @classmethod
    def check(cls, options: Mapping[str, Any], shape: Shape) -> None:
        super().check(options, shape)
        if options.get("k") is not None:  # which settings leave out
            spectrum.check_harmonics(options["k"], shape.length)

    @classmethod
    def fixed(cls, options: Mapping[str, Any]) -> str | None:
        return f"objective {cls.name!r} takes spectra of all of the data at once"

    def prepare(self, series: Real) -> Both:
        views, k = vars(super().prepare(series)), self.options.k
        mean, power = spectrum.mean_spectrum(series, self.problem.length)
        mask = None if k is None else spectrum.top_harmonics(mean, k)
        return Both(**{**views, "power": power, "mask": mask}, amplitude=power.sqrt())

    def restrict(self, known: Views, channels: Int[Tensor, " g"]) -> Views:
        assert isinstance(known, Both)
        mask = None if known.mask is None else known.mask[:, channels]
        own = replace(known, mask=mask, amplitude=known.amplitude[:, channels])
        return super().restrict(own, channels)

    def loss(self, known: Views, synthetic: Float[Tensor, "N M C"], state: State, generator: torch.Generator) -> Scored:
        assert isinstance(known, Both)
        total, terms, state = super().loss(known, synthetic, state, generator)
        harmonic = self.harmonic_loss(known, synthetic)
        return Scored(total + self.options.lam * harmonic, {**terms, "harmonic": harmonic.detach()}, state)

    def harmonic_loss(self, known: Both, synthetic: Float[Tensor, "N M C"]) -> Tensor:
        """Mean squared gap of the amplitudes over sequences, channels and their harmonics."""
        squared = (spectrum.rfft(synthetic).abs() - known.amplitude).square()
        if known.mask is None:
            return squared.mean()
        return (squared * known.mask).sum(dim=-2).mean() / known.mask[:, 0].sum()
