"""Series as images: rows of one period each, for methods that were made for images.

    series [N, M, C]  ⇄  grid [N, C, R, P],   R = ⌈M / P⌉

The last row is filled up with the last value and cropped again: unfolding what was folded changes nothing.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from hdt.system.errors import require

PEAK = 10.0  # how many times the mean power around it a period must have


class Grid:
    """Folds series of ``length`` steps by ``period``; ``rows`` R and ``period`` P are its sides."""

    def __init__(self, length: int, period: int) -> None:
        require(1 <= period <= length, f"period={period}: expected 1 to M = {length} steps")
        self.length, self.period, self.rows = length, period, -(-length // period)

    def fold(
        self, series: Float[Tensor, "N M C"], rest: Float[Tensor, "N C R P"] | None = None
    ) -> Float[Tensor, "N C R P"]:
        """One row per period; with ``rest`` the last row is filled up with what that grid has there."""
        if rest is None:
            fill = series[:, -1:].expand(-1, self.rows * self.period - self.length, -1)
        else:
            fill = rest.flatten(2)[..., self.length :].transpose(1, 2)
        return torch.cat([series, fill], dim=1).transpose(1, 2).unflatten(2, (self.rows, self.period))

    def unfold(self, grid: Float[Tensor, "N C R P"]) -> Float[Tensor, "N M C"]:
        """The rows behind one another."""
        return grid.flatten(2)[..., : self.length].transpose(1, 2)


def dominant_period(series: Float[Tensor, "T C"], length: int) -> int:
    """The :func:`peak_period` of a series; without one the grid is square: ⌊√M⌋."""
    return peak_period(series, length) or max(1, math.isqrt(length))


def peak_period(series: Float[Tensor, "T C"], length: int) -> int | None:
    """The period with the highest peak of the summed periodogram, at most half of ``length``; None without one.

    Linear trends are taken out, a Hann window keeps peaks narrow, and a parabola through the logarithms of a
    peak and its neighbours places it between two bins. A peak needs ``PEAK`` times the mean power of the other
    frequencies from half to twice its own, so that the slope of a drifting series is none.
    """
    rows = len(series)
    x = series.double()
    time = torch.linspace(-1, 1, rows, dtype=x.dtype, device=x.device)[:, None]
    x = x - x.mean(dim=0)
    x = x - time * (time * x).sum(dim=0) / time.square().sum()
    window = torch.hann_window(rows, dtype=x.dtype, device=x.device)[:, None]
    power = torch.fft.rfft(x * window, dim=0).abs().square().sum(dim=1)
    cycles = torch.arange(len(power), device=x.device)
    allowed = (cycles * (length // 2) >= rows) & (2 * cycles <= rows)
    if not allowed.any():
        return None
    peak = int(torch.where(allowed, power, -1.0).argmax())
    around = torch.cat([power[peak // 2 : peak - 1], power[peak + 2 : 2 * peak + 1]])  # the window spreads a peak by 1
    if len(around) == 0 or power[peak] <= PEAK * around.mean():
        return None
    place = float(peak)
    if peak + 1 < len(power):
        below, at, above = power[peak - 1 : peak + 2].log().tolist()
        place += (below - above) / (2 * (below - 2 * at + above)) if min(below, above) > -math.inf else 0.0
    return min(max(1, round(rows / place)), length)
