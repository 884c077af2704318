"""ReLU features of contexts, random or learned on real windows.

φ = σ·relu((x − x̄)R/σ + b), targets y − x̄: a hidden layer behind an instance normalisation, its error measured in
the original scale. Random ones are those of an arc-cosine kernel (Cho & Saul 2009). Those of networks that were trained
for a few hundred steps, each from its own random ones, are nearer to what students use (recipes/LOG.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hdt.maths.blocks import Real, evenly, groups, long_enough, take
from hdt.maths.windows import spread, windows
from hdt.system.machine import one_thread

EPS = 1e-5  # in the variance of a context, as in instance normalisation: a flat one has none
POOL, BATCH, RATE = 2**16, 128, 3e-3  # windows that networks learn on, at most; of each in a step; Adam's rate


@dataclass(frozen=True)
class Relu:
    """Features σ·relu((x − x̄)R/σ + b) and targets y − x̄ of windows, for one R and b."""

    context: int
    mix: Tensor  # [L, D]
    bias: Tensor  # [D]

    def __call__(self, flat: Float[Tensor, "B window"]) -> tuple[Tensor, Tensor]:
        x, y = centred(flat, self.context)
        inputs = torch.cat([x, deviation(x)], dim=1)
        return torch.relu(inputs @ torch.cat([self.mix, self.bias[None]]).to(x)), y

    def to(self, device: torch.device) -> Relu:
        """The same on that device."""
        return Relu(self.context, self.mix.to(device), self.bias.to(device))


def numbers(drawn: Sequence[Relu]) -> list[Tensor]:
    """What identifies these features."""
    return [tensor for features in drawn for tensor in (features.mix, features.bias)]


def centred(flat: Float[Tensor, "B window"], context: int) -> tuple[Tensor, Tensor]:
    """x − x̄ and y − x̄."""
    flat = flat - flat[:, :context].mean(dim=1, keepdim=True)
    return flat[:, :context], flat[:, context:]


def deviation(x: Float[Tensor, "B L"]) -> Float[Tensor, "B 1"]:
    """σ of centred contexts."""
    return (x.square().mean(dim=1, keepdim=True) + EPS).sqrt()


def random_relu(context: int, count: int, generator: torch.Generator) -> Relu:
    """R from N(0, 1/L) and b from U(−1, 1), float64."""
    mix = torch.randn(context, count, generator=generator, dtype=torch.float64) / context**0.5
    return Relu(context, mix, torch.rand(count, generator=generator, dtype=torch.float64) * 2 - 1)


def learned(begun: Sequence[Relu], series: Real, horizon: int, steps: int, generator: torch.Generator) -> list[Relu]:
    """The features of networks [L → D → H] that begin with those given, after ``steps`` of Adam on real windows.

    Each network sees batches of its own. Of many channels a sample is looked at, and of their windows a pool that is
    spread evenly. The result does not depend on the number of threads.
    """
    context = begun[0].context
    x, y = centred(pool(series, context + horizon), context)
    scale = deviation(x)
    x = x / scale
    with one_thread(), torch.enable_grad():
        mix = torch.stack([features.mix for features in begun]).to(x).requires_grad_()  # [N, L, D]
        bias = torch.stack([features.bias for features in begun])[:, None].to(x).requires_grad_()
        head = torch.zeros(len(begun), mix.shape[2], horizon, device=x.device, requires_grad=True)
        optimizer = torch.optim.Adam([mix, bias, head], lr=RATE)
        for _ in range(steps):
            rows = torch.randint(len(x), (len(begun), BATCH), generator=generator).to(x.device)
            hidden = torch.relu(x[rows] @ mix + bias)
            gap = scale[rows] * (hidden @ head) - y[rows]
            optimizer.zero_grad()
            gap.square().mean(dim=(1, 2)).sum().backward()
            optimizer.step()
    mixes, biases = mix.detach().double(), bias.detach().double()
    return [Relu(context, mixes[n], biases[n, 0]) for n in range(len(begun))]


def pool(series: Real, size: int) -> Float[Tensor, "P size"]:
    """Real windows of a sample of channels, ``POOL`` at most, every channel's spread over its length."""
    chosen = evenly(long_enough(series, size))
    found = []
    for start, own in groups(series, size):
        some = own[torch.isin(own, chosen)]
        if len(some):
            every = windows(take(series, some)[start:], size, 0)  # [n, size, g]
            places = spread(len(every), max(1, POOL // len(chosen))).to(every.device)
            found.append(every[places].transpose(1, 2).flatten(0, 1))
    return torch.cat(found).float()
