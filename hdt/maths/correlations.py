"""Correlations of features and labels, and the filters of their spectrum that UniDD names (arXiv 2503.01212).

For features X [n, D] and labels Y [n, H]: Ψ = XᵀX/n, feature-feature (FFC), and Φ = XᵀY/n, feature-label (FLC).
The filters are listed in :mod:`hdt.objective.cfm`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.func import functional_call

Filter = Literal["cfm", "high", "low", "dm", "dc", "mtt", "kip"]


class Correlations(NamedTuple):
    """Ψ [D, D] and Φ [D, H] of one layer."""

    ffc: Tensor
    flc: Tensor


def layer_inputs(model: nn.Module, weights: dict[str, Tensor], inputs: Tensor) -> tuple[list[Tensor], Tensor]:
    """What enters every linear and convolutional layer, as rows [n, D], and what the model returns."""
    seen: list[Tensor] = []

    def look(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        x = given[0]
        seen.append(x.flatten(0, -2) if isinstance(module, nn.Linear) else x.flatten(2).mean(dim=2))

    layers = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)]
    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        output = functional_call(model, weights, (inputs,))
    finally:
        for hook in hooks:
            hook.remove()
    return seen, output


def correlations(x: Float[Tensor, "n D"], y: Num[Tensor, "n H"]) -> Correlations:
    """Ψ = XᵀX/n and Φ = XᵀY/n, in float64."""
    x, y = x.double(), y.double()
    return Correlations(x.T @ x / len(x), x.T @ y / len(x))


def average(parts: Sequence[list[Correlations]], sizes: Sequence[int]) -> list[Correlations]:
    """The correlations of all parts together."""
    shares = [size / sum(sizes) for size in sizes]
    return [
        Correlations(*(sum(w * c[i] for w, c in zip(shares, layer, strict=True)) for i in range(2)))
        for layer in zip(*parts, strict=True)
    ]


def running(past: list[Correlations] | None, new: list[Correlations], count: int) -> list[Correlations]:
    """The mean over ``count`` batches, given that over those before."""
    if past is None:
        return new
    return [
        Correlations(*((1 - 1 / count) * old + part / count for old, part in zip(before, now, strict=True)))
        for before, now in zip(past, new, strict=True)
    ]


def annealed(beta: float, batch: int, batches: int) -> float:
    """β_b, from β down to nearly 0."""
    return beta * (1 + math.cos(math.pi * batch / batches)) / 2


def filtered(kind: Filter, own: Correlations, beta: float, alpha: float, steps: int) -> list[Tensor]:
    """The filtered FFC (if the method looks at it) and FLC."""
    ffc, flc = own
    identity = torch.eye(len(ffc), dtype=ffc.dtype, device=ffc.device)
    if kind == "dm":
        return [flc]
    if kind == "dc":
        return [ffc, flc]
    if kind == "low":
        return [ffc, ffc @ flc]
    if kind == "mtt":
        decay, power, weights = identity - alpha * ffc, identity, torch.zeros_like(flc)
        for _ in range(steps):
            weights, power = decay @ weights + alpha * flc, power @ decay
        return [power, weights]
    inverse = torch.linalg.solve(ffc + beta * identity, identity)
    return [inverse @ flc] if kind == "kip" else [inverse, inverse @ flc]
