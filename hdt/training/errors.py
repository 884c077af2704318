"""Errors of students over the windows of a series: of forecasts of one number, and of quantiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hdt.maths.windows import Seen, parted, spread, windows
from hdt.students import Student
from hdt.students.quantiles import LEVELS, Quantiles, pinball

BATCH_ELEMENTS = 2**23  # window cells per evaluation batch: 32 MB in float32


class Errors(NamedTuple):
    """Mean squared and mean absolute error over every window, step and channel, in scaled units."""

    mse: float
    mae: float


class Spread(NamedTuple):
    """How good quantile forecasts are, over every window, step and channel, in scaled units.

    ``crps``: twice the mean pinball loss over the levels, the usual approximation of the continuous ranked probability
    score; ``wql``: the same over the mean absolute target, the mean weighted quantile loss; ``coverage_80``: the share
    of targets from the lowest quantile to the highest, .1 to .9.
    """

    crps: float
    wql: float
    coverage_80: float


@torch.no_grad()
def errors(student: Student, series: Seen, most: int | None = None) -> Errors:
    """Errors over all windows of one or several series, or over ``most`` of them (:func:`hdt.maths.windows.spread`).

    The last incomplete batch is counted; targets that were not observed are not.
    """
    squared, absolute = errors_by_series(student, series, most)
    return Errors(squared.mean().item(), absolute.mean().item())


@torch.no_grad()
def errors_by_series(
    student: Student, series: Seen, most: int | None = None
) -> tuple[Float[Tensor, "... C"], Float[Tensor, "... C"]]:
    """Mean squared and mean absolute errors of :func:`errors` for every series and channel, float64; zero for one of
    which these windows hold no target. Of a transformed table they are in its own units, see
    :class:`hdt.maths.windows.Gappy`."""
    _, _, unit, summed = parted(series)

    def told(window: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        gap = student.of(window) - (window[:, student.context :] if summed else target)
        gap = gap.cumsum(dim=1) if summed else gap
        gap = gap if unit is None else gap * unit
        return gap.square(), gap.abs()

    student.eval()
    scored = student.scored(parted(series).values.shape[-1])
    squared, absolute = _means((student.context, student.horizon), series, most, told, scored=scored)
    return squared, absolute


@torch.no_grad()
def spread_errors(student: Quantiles, series: Seen, most: int | None = None) -> Spread:
    """The same windows as :func:`errors`, of a student with quantiles."""

    def told(window: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        found = student.quantiles(window[:, : student.context])
        inside = (found[:, 0] <= target) & (target <= found[:, -1])
        return 2 * pinball(found, target).mean(dim=1), inside.to(target.dtype), target.abs()

    student.eval()
    found = _means((student.context, student.horizon), series, most, told, len(LEVELS))
    crps, inside, size = (part.mean().item() for part in found)
    return Spread(crps, crps / size if size > 0 else 0.0, inside)


def mean_size(series: Seen, context: int, horizon: int) -> float:
    """The mean absolute target of the windows of :func:`errors`."""
    (size,) = _means((context, horizon), series, None, lambda _, target: (target.abs(),))
    return size.mean().item()


def _means(
    window: tuple[int, int],
    series: Seen,
    most: int | None,
    told: Callable[[Tensor, Tensor], tuple[Tensor, ...]],
    numbers: int = 1,
    scored: int | None = None,
) -> list[Float[Tensor, "... C"]]:
    """Means over windows (L, H) and steps of each [B, H, C] that ``told`` makes of windows and their targets, NaN where
    nothing was observed; ``numbers`` that it needs for each of a window. The first ``scored`` channels are targets, all
    by default."""
    context, horizon = window
    values, targets, *_ = parted(series)
    every = windows(values, context, horizon)  # [(N,) n, L+H, C]
    count = every.shape[-3]
    several = every[None] if every.ndim == 3 else every
    truth = several if targets is values else windows(targets, context, horizon).reshape(several.shape)
    places = spread(count, max(1, most // len(several)) if most else count)
    batch = max(1, BATCH_ELEMENTS // (every.shape[-2] * every.shape[-1] * numbers))
    scored = values.shape[-1] if scored is None else scored
    seen = several.new_zeros(len(several), scored, dtype=torch.float64)
    sums: list[Tensor] = []
    chosen = torch.cartesian_prod(torch.arange(len(several)), places).to(values.device)
    for some in chosen.split(batch):
        part = several[some[:, 0], some[:, 1]]
        target = (part if truth is several else truth[some[:, 0], some[:, 1]])[:, context:, :scored]
        found = told(part, target)
        if truth is not several:
            there = ~target.isnan()
            found = tuple(torch.where(there, each, 0.0) for each in found)
            seen.index_add_(0, some[:, 0], there.double().mean(dim=1))
        sums = sums or [torch.zeros_like(seen) for _ in found]
        for total, each in zip(sums, found, strict=True):
            total.index_add_(0, some[:, 0], each.mean(dim=1, dtype=torch.float64))
    shape = (*values.shape[:-2], scored)
    share = len(places) if truth is several else torch.where(seen > 0, seen, 1.0)
    return [(total / share).reshape(shape) for total in sums]
