"""The contract of every student, and the published way to train it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Training:
    """AdamW with a learning rate that is halved every epoch and early stopping, as the students' authors train.

    Tiny training sets need many more passes: the schedule is stretched so that the run has at least
    ``min_steps`` optimiser steps, with the same number of halvings (``epochs``); the run stops when the
    validation error has not improved for ``patience`` halvings. ``shuffle_channels`` takes each channel of
    a training window from another window of the batch, and permutes channels.
    """

    lr: float
    weight_decay: float = 0.0
    batch: int = 32
    epochs: int = 10
    patience: int = 5
    min_steps: int = 700
    shuffle_channels: bool = False


class Student(nn.Module):
    """Forecasts a horizon from a context: [B, L, C] → [B, H, C], for any C, whatever it was trained on.

    ``mixes_channels``: whether one channel's forecast depends on the others. ``tiny_rates``: multiples of
    the published learning rate to choose from, by validation error, where the training set is so small that the
    published schedule has to be stretched: with few windows the published rate is too small for some sets
    and too large for others (recipes/LOG.md).
    """

    training_settings: ClassVar[Training]
    tiny_rates: ClassVar[tuple[float, ...]] = (1.0, 5.0)
    mixes_channels: ClassVar[bool] = False

    def __init__(self, context: int, horizon: int, channels: int) -> None:
        super().__init__()
        self.context, self.horizon, self.channels = context, horizon, channels

    @classmethod
    def trainings_for(cls, windows: int) -> tuple[Training, ...]:
        """How this student is trained on that many windows: the ways that validation chooses from."""
        usual = cls.training_settings
        if usual.epochs * math.ceil(windows / usual.batch) >= usual.min_steps:
            return (usual,)
        return tuple(replace(usual, lr=rate * usual.lr) for rate in cls.tiny_rates)

    def forward(self, context: Float[Tensor, "B L C"]) -> Float[Tensor, "B H C"]:
        raise NotImplementedError
