"""How far real horizons stray from what a training series teaches: the noise that its own horizons lack.

A distilled series teaches E[y | x]: its horizons hold less noise than real ones, by design with ``wiener``. A network
that learns a distribution from them, Moirai by likelihood or a student's quantiles by pinball loss, forecasts the
course well and its spread far too narrow. So noise is added to the horizons while it trains. Its variance, per step of
the horizon and in units of the variance of the context, is what the series lacks: the mean square error of one linear
forecaster, fitted to the series' windows, on real training windows, less that on its own. These H numbers, one that
brings them into the units of values, and ``SHAPE`` quantiles of the real errors in units of theirs (they are more
peaked than a Gaussian, whose 80% interval would be too wide) are stored beside the numbers of a distilled series.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hdt.maths.rows import Rows

RIDGE = 0.01  # relative to the mean diagonal
WINDOWS = 8192  # evenly spaced
SHAPE = 21
EPS = 1e-5  # in the deviation of a context: a flat one has none


class Scatter(NamedTuple):
    """Noise of horizons: per step a ``scale``, in which units its quantiles (see :func:`shape`) are everywhere
    ``shape``."""

    scale: Float[Tensor, " H"]
    shape: Float[Tensor, " K"]

    def draw(self, like: Float[Tensor, "B H C"], generator: torch.Generator | None) -> Float[Tensor, "B H C"]:
        """Independent noise for every window, step and channel, on the device of ``like``; a line joins the
        quantiles."""
        place = torch.rand(like.shape, generator=generator) * (len(self.shape) - 1)
        low = place.long().clamp_max(len(self.shape) - 2)
        shape = self.shape.cpu()
        drawn = shape[low] + (place - low) * (shape[low + 1] - shape[low])
        return (self.scale.cpu()[:, None] * drawn).to(like)


def lacking_noise(own: Rows, real: Rows, context: int) -> Float[Tensor, " H"]:
    """Standard deviation of the noise that horizons of ``own`` lack, per step, for contexts of unit variance.

    Windows are normalised by mean and standard deviation of their context and weighted by its variance, as
    in the Wiener objective's centred view. Zeros where ``own`` is as noisy as ``real``.
    """
    mine = _whole(own)
    student = _linear(mine, context)
    found = [_errors(windows, student, context).square().mean(dim=0) for windows in (_whole(real), mine)]
    return (found[0] - found[1]).clamp_min(0).sqrt().float()


def shape(own: Rows, real: Rows, context: int) -> Float[Tensor, " K"]:
    """Quantiles of the errors on real windows in units of their root mean square per step, at the middles of
    ``SHAPE`` equal shares."""
    found = _errors(_whole(real), _linear(_whole(own), context), context)
    standard = found / found.square().mean(dim=0).sqrt().clamp_min(EPS)
    return torch.from_numpy(np.quantile(standard.numpy(), (np.arange(SHAPE) + 0.5) / SHAPE)).float()


def unit(own: Rows, real: Rows, context: int) -> float:
    """What brings that noise into the units of values: the factor by which it has, over all steps, the variance there
    that real errors have beyond those on ``own``, whose contexts may swing more or less than real ones."""
    mine, theirs = _whole(own), _whole(real)
    student = _linear(mine, context)
    found = []
    for windows in (theirs, mine):
        swing = windows[:, :context].double().var(dim=1, correction=0).mean()
        found.append(swing * _errors(windows, student, context).square().mean(dim=0))
    levels = lacking_noise(own, real, context).double()
    lacking = (found[0] - found[1]).clamp_min(0).sum()
    return float((lacking / levels.square().sum()).sqrt()) if bool(levels.any()) else 0.0


def _whole(rows: Rows) -> Float[Tensor, "n window"]:
    """Evenly spaced windows, of those that have begun."""
    found = rows.evenly(WINDOWS)
    return found[~found.isnan().any(dim=1)]


def _linear(windows: Float[Tensor, "n window"], context: int) -> Float[Tensor, "L H"]:
    """The linear forecaster of normalised windows."""
    x, y, weight = _normalised(windows, context)
    gram = (x * weight).T @ x / len(x)
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(context, dtype=gram.dtype)
    return torch.linalg.solve(gram + ridge, (x * weight).T @ y / len(x))


def _errors(windows: Float[Tensor, "n window"], student: Float[Tensor, "L H"], context: int) -> Float[Tensor, "n H"]:
    """Its errors in units of the root mean square deviation of these contexts."""
    x, y, weight = _normalised(windows, context)
    return weight.sqrt() * (y - x @ student)


def _normalised(windows: Tensor, context: int) -> tuple[Tensor, Tensor, Tensor]:
    """Contexts and horizons in units of their context, and the weight of each window (mean 1), in float64."""
    windows = windows.double()
    past = windows[:, :context]
    mean, scale = past.mean(dim=1, keepdim=True), past.std(dim=1, keepdim=True, correction=0) + EPS
    standard = (windows - mean) / scale
    weight = scale.square()
    return standard[:, :context], standard[:, context:], weight / weight.mean()
