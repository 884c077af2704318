"""After TimeDC: "Efficient Time Series Dataset Condensation via Two-fold Modal Matching" (arXiv 2410.20905).

Trajectory matching with a student that forecasts trend and residual from patches, beside a frequency term. Windows are
split by a moving average of 25 steps, and what is compared of both parts are amplitudes |rfft|, here their mean over
windows and channels, by the cosine of the angle between the real and the synthetic one:

    L = L_mtt + w·Σ_{trend, residual} (1 − cos(A(real), A(synthetic)))

Formulas and code (uestc-liuzq/STdistillation) do not agree, hence the name ``timedc-like``. The paper adds a frequency
term on features within its student, a curriculum of matches from easy to hard, and a task loss; the code has none of
these. It draws contexts and horizons of its synthetic windows separately, so that they do not belong together, and
nothing marks the tensor that its optimiser is given as learned. Ours are: the frequency term on the windows themselves,
so that any student may be the backbone, and on amplitudes, for phases of different windows have no common meaning;
contexts with their own horizons; Adam instead of SGD with momentum 0.5; no curriculum, and no task loss but
``real_weight``, which is 0.

The backbone is xPatch: like theirs it normalises each window, splits trend from residual and cuts patches of 16 steps
every 8, but with convolutions instead of attention, and only in the residual. Published in the code: 50 experts of 50
epochs (SGD 0.01 without momentum, batch 128), starts before epoch 20, targets 3 epochs later, 20 steps (``syn_steps``;
what runs is 50 of 2 windows each) of a learned size that begins at 1e-4, 1,000 iterations. Their rate, batch, targets
and number of steps are taken over; 2 experts of 5 epochs, starts before epoch 3 and 120 iterations are what takes some
minutes on a CPU; steps of 16 windows and of a first size of 0.05 are ours, for 20 steps of 1e-4 cannot go where 3
epochs of 0.01 have gone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from hdt.maths import spectrum
from hdt.maths.windows import spread
from hdt.objective.trajectory import Trajectories, TrajectoryMatching, TrajectoryOptions
from hdt.system.options import SIZE
from hdt.system.parts import Method

MOVING_AVERAGE_STEPS = 25  # of the trend, as DLinear has it
MOST_WINDOWS, AT_ONCE = 4096, 256  # real windows whose amplitudes are averaged
WIDTH = 22  # times as much as a linear student that xPatch keeps of a window, measured


class TimeDCOptions(TrajectoryOptions):
    """Hyperparameters of :class:`TimeDC`."""

    experts: int = Field(2, ge=1, description="expert trajectories")
    expert_epochs: int = Field(5, ge=1, description="epochs of each")
    expert_lr: float = Field(0.01, gt=0)
    expert_momentum: float = Field(0.0, ge=0, lt=1)
    expert_batch: int = Field(128, ge=1, json_schema_extra=SIZE)
    max_start: int = Field(3, ge=1, description="a match starts before this epoch")
    target_epochs: int = Field(3, ge=1, description="e, epochs between start and target")
    inner_batch: int = Field(16, ge=1, description="synthetic windows per step", json_schema_extra=SIZE)
    frequency_weight: float = Field(1.0, ge=0, description="w, weight of the frequency term")


@dataclass(frozen=True, kw_only=True)
class TwoFold(Trajectories):
    """Trajectories, and the mean amplitudes of trend and residual over real windows."""

    amplitudes: Float[Tensor, "2 F"]


class TimeDC(TrajectoryMatching):
    """Trajectory matching with a frequency term of trend and residual."""

    name = "timedc-like"
    backbone = "xpatch"
    Options = TimeDCOptions
    citation = """@article{miao2024timedc,
  author  = {Miao, Hao and Liu, Ziqiao and Zhao, Yan and Guo, Chenjuan and Yang, Bin and Zheng, Kai and
             Jensen, Christian S.},
  title   = {Less is More: Efficient Time Series Dataset Condensation via Two-fold Modal Matching},
  journal = {Proceedings of the VLDB Endowment},
  volume  = {18},
  number  = {2},
  pages   = {226--238},
  year    = {2024},
  note    = {arXiv:2410.20905}
}"""
    methods = {
        "timedc-like": Method(
            title="Trajectories of a patch student, frequencies of trend and residual, after TimeDC",
            parameterization="raw",
            objective="timedc-like",
            start="real",
            iterations=120,
            learning_rate=0.1,
        )
    }

    def prepare(self, series: Float[Tensor, "T C"]) -> TwoFold:
        known = super().prepare(series)
        some = spread(len(known.real), MOST_WINDOWS).to(series.device)
        found = torch.stack([amplitudes(known.real[part]) * len(part) for part in some.split(AT_ONCE)])
        return TwoFold(**vars(known), amplitudes=found.sum(dim=0) / len(some))

    def beside(
        self, known: Trajectories, every: Float[Tensor, "B window C"], expert: int
    ) -> dict[str, tuple[float, Tensor]]:
        assert isinstance(known, TwoFold)
        angles = torch.cosine_similarity(amplitudes(every), known.amplitudes, dim=1)
        return {"frequency": (self.options.frequency_weight, (1 - angles).sum())}

    def graph_bytes(self, instances: int, channels: int) -> int:
        return super().graph_bytes(instances, channels) * (WIDTH if self.problem.backbone == "xpatch" else 1)


def amplitudes(every: Float[Tensor, "B window C"]) -> Float[Tensor, "2 F"]:
    """Mean amplitudes of trend and residual over windows and channels."""
    x, half = every.transpose(1, 2), MOVING_AVERAGE_STEPS // 2
    trend = functional.avg_pool1d(functional.pad(x, (half, half), mode="replicate"), MOVING_AVERAGE_STEPS, stride=1)
    return torch.stack([spectrum.rfft(part.transpose(1, 2)).abs().mean(dim=(0, 2)) for part in (trend, x - trend)])
