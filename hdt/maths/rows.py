"""Univariate training windows: every window of every channel and sequence, cut out only when asked for."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from hdt.maths.windows import windows


class Rows:
    """Windows [L + H] of series [N, M, C], numbered by sequence, then position, then channel; float32."""

    def __init__(self, values: np.ndarray | Tensor, context: int, horizon: int) -> None:
        self.series = torch.as_tensor(values, dtype=torch.float32)
        self.every = windows(self.series, context, horizon)  # a view [N, n, L+H, C]

    def __len__(self) -> int:
        sequences, count, _, channels = self.every.shape
        return sequences * count * channels

    def __getitem__(self, chosen: Int[Tensor, " B"]) -> Float[Tensor, "B window"]:
        _, count, _, channels = self.every.shape
        place = chosen // channels
        return self.every[place // count, place % count, :, chosen % channels]

    def evenly(self, most: int) -> Float[Tensor, "B window"]:
        """At most so many rows, evenly spaced from the first to the last."""
        count = min(len(self), most)
        return self[torch.arange(count) * (len(self) - 1) // max(count - 1, 1)]
