"""How far real horizons stray from what a training series teaches: the noise that its own horizons lack.

A distilled series teaches E[y | x]: its horizons hold less noise than real ones, by design with ``wiener``. A network
that learns a distribution from them, Moirai by likelihood or a student's quantiles by pinball loss, forecasts the
course well and its spread far too narrow. So Gaussian noise is added to the horizons while it trains. Its variance,
per step of the horizon and in units of the variance of the context, is what the series lacks: the mean square error of
one linear forecaster, fitted to the series' windows, on real training windows, less that on its own. These H numbers,
and the deviation of a typical context, are stored beside the numbers of a distilled series.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from hdt.maths.rows import Rows

RIDGE = 0.01  # relative to the mean diagonal
WINDOWS = 8192  # evenly spaced
EPS = 1e-5  # in the deviation of a context: a flat one has none


def lacking_noise(own: Rows, real: Rows, context: int) -> Float[Tensor, " H"]:
    """Standard deviation of the noise that horizons of ``own`` lack, per step, for contexts of unit variance.

    Windows are normalised by mean and standard deviation of their context and weighted by its variance, as
    in the Wiener objective's centred view. Zeros where ``own`` is as noisy as ``real``.
    """
    mine = _whole(own)
    x, y, weight = _normalised(mine, context)
    gram = (x * weight).T @ x / len(x)
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(context, dtype=gram.dtype)
    student = torch.linalg.solve(gram + ridge, (x * weight).T @ y / len(x))

    def error(windows: Tensor) -> Tensor:
        x, y, weight = _normalised(windows, context)
        return (weight * (y - x @ student).square()).mean(dim=0)

    return (error(_whole(real)) - error(mine)).clamp_min(0).sqrt().float()


def unit(real: Rows, context: int) -> float:
    """Root mean square deviation of the contexts of real windows: what brings that noise into the units of values."""
    past = _whole(real)[:, :context].double()
    return past.var(dim=1, correction=0).mean().sqrt().item()


def _whole(rows: Rows) -> Float[Tensor, "n window"]:
    """Evenly spaced windows, of those that have begun."""
    found = rows.evenly(WINDOWS)
    return found[~found.isnan().any(dim=1)]


def _normalised(windows: Tensor, context: int) -> tuple[Tensor, Tensor, Tensor]:
    """Contexts and horizons in units of their context, and the weight of each window (mean 1), in float64."""
    windows = windows.double()
    past = windows[:, :context]
    mean, scale = past.mean(dim=1, keepdim=True), past.std(dim=1, keepdim=True, correction=0) + EPS
    standard = (windows - mean) / scale
    weight = scale.square()
    return standard[:, :context], standard[:, context:], weight / weight.mean()
