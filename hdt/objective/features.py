"""What the closed-form students of :mod:`hdt.objective.wiener` see of a window.

Each map takes windows [B, L+H, C] and returns features φ of every channel's context, [B·C, D], and the
targets that go with them, [B·C, H]. With x̄ and σ, mean and standard deviation of the context, and z = (x − x̄)/σ:

    raw        φ = (x, 1)                                      y
    centred    φ = x − x̄                                       y − x̄
    relu       φ = σ·relu(R z + b)                             y − x̄
    mixed      φ = σ·relu(R z + Q m + b), m = Σ_c z_c / √C     y − x̄

R, Q and b are random; Q is zero for half of the features, so that a student may look at the other channels
or not. Errors of the last three are in the original scale: windows count by their variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

EPS = 1e-5

Seen = tuple[Float[Tensor, "BC D"], Float[Tensor, "BC H"]]


@dataclass(frozen=True)
class Raw:
    """A linear map with a bias."""

    context: int

    def __call__(self, every: Float[Tensor, "B window C"]) -> Seen:
        flat = every.transpose(1, 2).flatten(0, 1)
        return torch.cat([flat[:, : self.context], torch.ones_like(flat[:, :1])], dim=1), flat[:, self.context :]


@dataclass(frozen=True)
class Centred:
    """A linear map behind an instance normalisation."""

    context: int

    def __call__(self, every: Float[Tensor, "B window C"]) -> Seen:
        flat = (every - every[:, : self.context].mean(dim=1, keepdim=True)).transpose(1, 2).flatten(0, 1)
        return flat[:, : self.context], flat[:, self.context :]


@dataclass(frozen=True)
class Rectified:
    """Random ReLU features behind an instance normalisation; with ``others``, of all channels."""

    own: Float[Tensor, "L D"]
    bias: Float[Tensor, " D"]
    others: Float[Tensor, "L D"] | None

    @classmethod
    def draw(cls, context: int, size: int, mixed: bool, generator: torch.Generator) -> Rectified:
        """Normal weights of variance 1/L, uniform biases in [−1, 1]."""
        own, others = torch.randn(2, context, size, generator=generator, dtype=torch.float64) / context**0.5
        bias = torch.rand(size, generator=generator, dtype=torch.float64) * 2 - 1
        others[:, : size // 2] = 0
        return cls(own, bias, others if mixed else None)

    def to(self, device: torch.device) -> Rectified:
        """The same on another device."""
        others = None if self.others is None else self.others.to(device)
        return Rectified(self.own.to(device), self.bias.to(device), others)

    def __call__(self, every: Float[Tensor, "B window C"]) -> Seen:
        context, channels = len(self.own), every.shape[2]
        flat, y = Centred(context)(every)
        scale = (flat.square().mean(dim=1, keepdim=True) + EPS).sqrt()
        z = flat / scale
        inside = z @ self.own.to(z) + self.bias.to(z)
        if self.others is not None:
            mean = z.unflatten(0, (-1, channels)).sum(dim=1) / channels**0.5  # [B, L]
            inside = inside + (mean @ self.others.to(z)).repeat_interleave(channels, dim=0)
        return scale * torch.relu(inside), y
