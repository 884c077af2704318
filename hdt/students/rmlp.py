"""RMLP: "Revisiting Long-term Time Series Forecasting: An Investigation on Linear Mapping" (arXiv 2305.10721).

Every context is brought to mean 0 and deviation 1; a perceptron of one hidden layer (256 units, ReLU) is added to it,
and a linear map takes the sum from L to H steps; mean and deviation come back. All channels share the weights.

Deviations and choices: no affine vectors in the normalisation, so that it serves any number of channels; no dropout;
learning rate 1e-3 with the schedule of the other students. It is the cheapest student that learns features, and thus
the backbone for objectives that match features.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hdt.students.contract import Student, Training

HIDDEN, EPS = 256, 1e-5


class RMLP(Student):
    """A linear map beside a perceptron, on normalised contexts: 2·L·256 + L·H parameters, and biases."""

    name = "rmlp"
    training_settings = Training(lr=1e-3)

    def __init__(self, context: int, horizon: int, channels: int) -> None:
        super().__init__(context, horizon, channels)
        self.hidden, self.back = nn.Linear(context, HIDDEN), nn.Linear(HIDDEN, context)
        self.head = nn.Linear(context, horizon)

    def forward(self, context: Float[Tensor, "B L C"]) -> Float[Tensor, "B H C"]:
        mean = context.mean(dim=1, keepdim=True)
        std = torch.sqrt(context.var(dim=1, keepdim=True, correction=0) + EPS)
        x = ((context - mean) / std).transpose(1, 2)
        forecast = self.head(x + self.back(torch.relu(self.hidden(x))))
        return forecast.transpose(1, 2) * std + mean
