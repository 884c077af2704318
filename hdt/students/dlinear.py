"""DLinear: "Are Transformers Effective for Time Series Forecasting?" (arXiv 2205.13504, section 4).

A moving average of 25 steps (``kernel``) splits the context into trend and seasonal part; one linear map from L to H
steps for each, shared by all channels; the forecast is their sum. Official settings for ETTh1: Adam,
learning rate 5e-3 halved every epoch, batch 32, 10 epochs.

Deviations and choices: none in the network. The authors start both maps at 1/L only in a commented-out
variant; the default initialisation of ``torch.nn.Linear`` is used, as in their published runs.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from hdt.students.contract import Student, Training
from hdt.system.errors import require


class DLinear(Student):
    """Decomposition-linear forecaster; 2·(L·H + H) parameters whatever the number of channels."""

    name = "dlinear"
    training_settings = Training(lr=5e-3, patience=10)

    def __init__(self, context: int, horizon: int, channels: int, *, kernel: int = 25) -> None:
        super().__init__(context, horizon, channels)
        require(kernel >= 1 and kernel % 2 == 1, f"dlinear: kernel={kernel}: expected an odd number of steps")
        self.kernel = kernel
        self.seasonal = nn.Linear(context, horizon)
        self.trend = nn.Linear(context, horizon)

    def forward(self, context: Float[Tensor, "B L C"]) -> Float[Tensor, "B H C"]:
        x = context.transpose(1, 2)
        half = (self.kernel - 1) // 2
        padded = functional.pad(x, (half, half), mode="replicate")
        trend = functional.avg_pool1d(padded, self.kernel, stride=1)
        return (self.seasonal(x - trend) + self.trend(trend)).transpose(1, 2)
