"""After DDTime: "Dataset Distillation with Spectral Alignment and Information Bottleneck" (arXiv 2511.16715).

Trajectory matching plus a value term. Like that of CondTSF it asks each synthetic horizon y to be what a fully trained
expert forecasts from its context, ŷ = f_expert(x); but neighbouring steps of a horizon depend on each other, their
Fourier coefficients hardly do, so it is also taken there:

    L = L_mtt + w·[(1 − α)·mean (ŷ − y)² + α·mean |rfft ŷ − rfft y|]

No code is published. Of the paper are the value term in the frequency domain, its balance α and that it stands beside
the loss of another method; hence the name ``ddtime-like``. Ours are: that method is trajectory matching as in ``mtt``,
with its settings; the expert is that of the iteration, at its last epoch, and gradients flow into contexts and horizons
of all windows; orthonormal transforms, so that α means the same for every horizon; α = 0.5 and w = 1. The second
part of the paper, a bottleneck that keeps samples different from each other, is left out: windows of one long sequence,
which overlap, are not samples that could be told to differ. No setting of the paper's experiments is taken over.
"""

from __future__ import annotations

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from hdt.maths import spectrum
from hdt.objective.trajectory import Trajectories, TrajectoryMatching, TrajectoryOptions, forecast
from hdt.system.parts import Method


class DDTimeOptions(TrajectoryOptions):
    """Hyperparameters of :class:`DDTime`."""

    value_weight: float = Field(1.0, ge=0, description="w, weight of the value term")
    alpha: float = Field(0.5, ge=0, le=1, description="α, share of frequencies in the value term")


class DDTime(TrajectoryMatching):
    """Trajectory matching with a value term in time and frequency."""

    name = "ddtime-like"
    Options = DDTimeOptions
    citation = """@misc{li2025ddtime,
  author = {Li, Yuqi and Ding, Kuiye and Yang, Chuanguang and Wang, Hao and Wang, Haoxuan and Duan, Huiran and
            Liu, Junming and Tian, Yingli},
  title  = {DDTime: Dataset Distillation with Spectral Alignment and Information Bottleneck for Time-Series
            Forecasting},
  year   = {2025},
  note   = {arXiv:2511.16715}
}"""
    methods = {
        "ddtime-like": Method(
            title="Trajectory matching with a value term in the frequency domain, after DDTime",
            parameterization="raw",
            objective="ddtime-like",
            start="real",
            iterations=300,
            learning_rate=0.1,
        )
    }

    def beside(
        self, known: Trajectories, every: Float[Tensor, "B window C"], expert: int
    ) -> dict[str, tuple[float, Tensor]]:
        context = self.problem.context
        error = forecast(known, every[:, :context], expert) - every[:, context:]
        value = value_term(error, self.options.alpha)
        return {"value": (self.options.value_weight, value)}


def value_term(error: Float[Tensor, "B H C"], alpha: float) -> Tensor:
    """(1 − α)·mean (ŷ − y)² + α·mean |rfft (ŷ − y)|."""
    return (1 - alpha) * error.square().mean() + alpha * spectrum.rfft(error).abs().mean()
