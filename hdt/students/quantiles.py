"""Students with quantiles: any network that trains step by step, with as many outputs for every step of the horizon.

The network is built for a horizon of Q·H steps, which are read as one course of H steps per level. It trains by the
pinball loss (Koenker & Bassett, "Regression Quantiles", 1978) on its outputs as they are; a forecast has them sorted,
so that quantiles never cross, which never raises the loss (Chernozhukov et al. 2010, arXiv 0704.3649).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hdt.students.contract import Student
from hdt.students.table import STUDENTS, build
from hdt.system.errors import require

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MEDIAN = LEVELS.index(0.5)


class Quantiles(Student):
    """A student that forecasts the quantiles of ``LEVELS``; its forecast of one number is their median."""

    def __init__(self, network: Student, horizon: int) -> None:
        super().__init__(network.context, horizon, network.channels)
        self.network = network

    def outputs(self, context: Float[Tensor, "B L C"]) -> Float[Tensor, "B Q H C"]:
        """What the network makes of a context, for the loss: not sorted."""
        return self.network(context).unflatten(1, (len(LEVELS), self.horizon))

    def quantiles(self, context: Float[Tensor, "B L C"]) -> Float[Tensor, "B Q H C"]:
        """The forecast: quantiles in ascending order."""
        return self.outputs(context).sort(dim=1).values

    def forward(self, context: Float[Tensor, "B L C"]) -> Float[Tensor, "B H C"]:
        return self.quantiles(context)[:, MEDIAN]


def build_quantiles(name: str, context: int, horizon: int, channels: int, seed: int, **keywords: Any) -> Quantiles:
    """A freshly initialised student with quantiles, as :func:`hdt.students.build` makes one without.

    Raises :class:`hdt.system.errors.InputError` for one that does not train by gradient.
    """
    check_quantiles(name)
    return Quantiles(build(name, context, len(LEVELS) * horizon, channels, seed, **keywords), horizon)


def check_quantiles(name: str) -> None:
    """Refuse a student that cannot forecast quantiles."""
    require(
        STUDENTS[name].by_gradient,
        f"student {name!r} is fitted at once and knows no pinball loss; leave --quantiles out, or name a network",
    )


def pinball(quantiles: Float[Tensor, "B Q H C"], truth: Float[Tensor, "B H C"]) -> Float[Tensor, "B Q H C"]:
    """τ·(y − q) where the truth y is above the quantile q of level τ, else (1 − τ)·(q − y)."""
    levels = torch.tensor(LEVELS, dtype=quantiles.dtype, device=quantiles.device)[:, None, None]
    gap = truth[:, None] - quantiles
    return torch.maximum(levels * gap, (levels - 1) * gap)
