"""No objective: the series stays at its start, a real subset for instance."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from hdt.maths.blocks import Real
from hdt.objective.contract import Known, Objective, Scored, State
from hdt.system.errors import InputError


class Unmatched(Objective[Known]):
    """Nothing is matched."""

    name = "none"
    by_blocks = True

    def prepare(self, series: Real) -> Known:
        return Known()

    def loss(self, known: Known, synthetic: Float[Tensor, "N M C"], state: State, generator: torch.Generator) -> Scored:
        raise InputError("objective none has nothing to optimise; use --iterations 0, or choose another --objective")
