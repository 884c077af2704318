"""The validation error of Moirai: the continuous ranked probability score of its samples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from hdt.training.loop import seeded
from hdt.tuning.tokens import tokens

if TYPE_CHECKING:
    from uni2ts.model.moirai import MoiraiModule

DRAWS = 20  # samples per forecast
BATCH = 64
WILD = 1e6  # in the units of scaled windows; their differences would be rounding errors
# What torch says when the parameters of a distribution are not finite.
NO_DISTRIBUTION = ("Poisson rate", "probability tensor", "Expected parameter")


@torch.no_grad()
def crps(module: MoiraiModule, windows: Float[Tensor, "n window"], context: int, patch: int) -> float:
    """Continuous ranked probability score, mean over the steps of the horizons, from ``DRAWS`` samples.

    The unbiased estimate E|X − y| − E|X − X′|/2 (Gneiting and Raftery 2007, equation 21), in the units of the
    windows, whose device the module shares. Always the same draws; the global generators are put back. Infinite for
    a network that has diverged: one that yields no distribution, or draws beyond ``WILD``.
    """
    device, horizon = next(module.parameters()).device, windows.shape[1] - context
    first, total = -(-context // patch), 0.0
    rank = torch.arange(1, DRAWS + 1, device=device)
    weight = (2 * rank - DRAWS - 1) / (DRAWS * (DRAWS - 1))
    with seeded(0, device):
        for part in windows.to(device).split(BATCH):
            try:
                forecast = module(**tokens(part, context, patch, max(module.patch_sizes)))
                draws = forecast.sample((DRAWS,))[:, :, first:, :patch].flatten(2)[..., :horizon]  # [draws, B, H]
            except (RuntimeError, ValueError) as error:
                if not is_divergence(error):
                    raise
                return math.inf
            if not draws.abs().max() < WILD:
                return math.inf
            gap = (draws - part[:, context:]).abs().mean(dim=0)
            spread = (draws.sort(dim=0).values * weight[:, None, None]).sum(dim=0)
            total += (gap - spread).sum(dtype=torch.float64).item()
    return total / (len(windows) * horizon)


def is_divergence(error: Exception) -> bool:
    """Whether torch complains of a distribution whose parameters are not finite."""
    return any(sign in str(error) for sign in NO_DISTRIBUTION)
