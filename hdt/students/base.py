"""The contract of every student, and the published way to train it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Training:
    """Adam with a learning rate that is halved every epoch, as the students' authors train them.

    Tiny training sets need many more passes: the schedule is stretched so that the run has at least
    ``min_steps`` optimiser steps, with the same number of halvings (``epochs``).
    """

    lr: float
    batch: int = 32
    epochs: int = 10
    min_steps: int = 700


class Student(nn.Module):
    """Forecasts a horizon from a context: [B, L, C] → [B, H, C]."""

    training_settings: ClassVar[Training]

    def __init__(self, context: int, horizon: int, channels: int) -> None:
        super().__init__()
        self.context, self.horizon, self.channels = context, horizon, channels

    def forward(self, context: Float[Tensor, "B L C"]) -> Float[Tensor, "B H C"]:
        raise NotImplementedError
