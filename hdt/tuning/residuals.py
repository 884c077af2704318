"""How far real horizons stray from what a training series teaches: noise that keeps a tuned Moirai from overconfidence.

A distilled series teaches E[y | x]: its horizons hold less noise than real ones, by design with ``wiener``. A
network tuned on them by likelihood forecasts the course well and its spread far too narrow. So Gaussian noise is
added to the horizons while it trains. Its variance, per step of the horizon and in units of the variance of the
context, is what the series lacks: the mean square error of one linear forecaster, fitted to the series' windows, on
real training windows, less that on its own. These H numbers come on top of the stored
numbers of the series, alike for every training set.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from hdt.tuning.rows import Rows

RIDGE = 0.01  # relative to the mean diagonal
WINDOWS = 8192  # evenly spaced
EPS = 1e-5  # in the deviation of a context: a flat one has none


def lacking_noise(own: Rows, real: Rows, context: int) -> Float[Tensor, " H"]:
    """Standard deviation of the noise that horizons of ``own`` lack, per step, for contexts of unit variance.

    Windows are normalised by mean and standard deviation of their context and weighted by its variance, as
    in the Wiener objective's centred view. Zeros where ``own`` is as noisy as ``real``.
    """
    mine = own.evenly(WINDOWS)
    x, y, weight = _normalised(mine, context)
    gram = (x * weight).T @ x / len(x)
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(context, dtype=gram.dtype)
    student = torch.linalg.solve(gram + ridge, (x * weight).T @ y / len(x))

    def error(windows: Tensor) -> Tensor:
        x, y, weight = _normalised(windows, context)
        return (weight * (y - x @ student).square()).mean(dim=0)

    return (error(real.evenly(WINDOWS)) - error(mine)).clamp_min(0).sqrt().float()


def _normalised(windows: Tensor, context: int) -> tuple[Tensor, Tensor, Tensor]:
    """Contexts and horizons in units of their context, and the weight of each window (mean 1), in float64."""
    windows = windows.double()
    past = windows[:, :context]
    mean, scale = past.mean(dim=1, keepdim=True), past.std(dim=1, keepdim=True, correction=0) + EPS
    standard = (windows - mean) / scale
    weight = scale.square()
    return standard[:, :context], standard[:, context:], weight / weight.mean()
