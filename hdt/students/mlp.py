"""MLP: a linear map beside a perceptron of one hidden layer, the residual block of TiDE (arXiv 2304.08424, figure 2).

Both read the raw context; their sum is the forecast. 256 hidden units (``width``) in one
layer (``depth``), ReLU. All channels share the weights.

Deviations and choices: no dropout and no layer norm; learning rate 1e-3 with the schedule of the other students. It is
the cheapest student that learns features, and as its linear map reads the context itself, the backbone for objectives
that match features: what they match then holds for linear forecasters too (recipes/LOG.md).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hdt.students.contract import Student, Training
from hdt.system.errors import require


class MLP(Student):
    """Perceptron and linear map: 256·(L + H) + L·H parameters, and biases; 256² more for each further layer."""

    name = "mlp"
    training_settings = Training(lr=1e-3)

    def __init__(self, context: int, horizon: int, channels: int, *, width: int = 256, depth: int = 1) -> None:
        super().__init__(context, horizon, channels)
        require(min(width, depth) >= 1, "mlp: width and depth are at least 1")
        self.hidden, self.head = nn.Linear(context, width), nn.Linear(width, horizon)
        self.linear = nn.Linear(context, horizon)
        self.deeper = nn.Sequential(*(nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in range(depth - 1)))

    def forward(self, context: Float[Tensor, "B L C"]) -> Float[Tensor, "B H C"]:
        x = context.transpose(1, 2)
        return (self.linear(x) + self.head(self.deeper(torch.relu(self.hidden(x))))).transpose(1, 2)
