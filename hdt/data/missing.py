"""Missing cells of one part: filled or masked where that is allowed, else refused by name.

A masked cell is filled, too, for a window cannot be read with holes in its context, but what the data does not hold is
never counted in an error: :attr:`Filled.gaps` marks it. It is filled along the season of its column, the mean deviation
from the level at each phase, to which what is left of the neighbours is added: interpolated within the training part,
carried forward in the others, where a forecaster knows nothing of later rows. recipes/README.md has what was measured
instead and did worse: straight lines, moments of observed pairs, windows weighted by what was observed, masked targets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from hdt.data.scaler import Channels
from hdt.system.errors import require

LIMIT = 0.05  # of a column: more is masked unless asked otherwise
POLICIES = ("auto", "error", "interpolate", "mask")
CYCLES = 4  # of a season that must have been seen
FLAT = 1e-20  # mean square of a column, largest value 1, that is no more than a line
LONGEST = 1024  # steps of a season
BUMP, NEAR = 0.1, 0.05  # by which a season's correlation exceeds that of a shorter lag; of the highest, as good as it
AGREE = 0.8  # correlation of the profile of its odd cycles with that of its even ones

Past: TypeAlias = Callable[[int, int], tuple[np.ndarray, int]]


class Hole(NamedTuple):
    """What a column misses of a part."""

    share: float
    note: str


class Filled(NamedTuple):
    """Values [T, g] without holes, what was filled by column, and which cells are masked [T, g], None if none are."""

    values: np.ndarray
    holes: dict[str, Hole]
    gaps: np.ndarray | None

    def of(self, channels: Channels, columns: Sequence[str]) -> Filled:
        """The same of some of the columns."""
        names = [columns[c] for c in np.arange(len(columns))[channels]] if self.holes else []
        holes = {name: self.holes[name] for name in names if name in self.holes}
        return Filled(self.values[:, channels], holes, None if self.gaps is None else self.gaps[:, channels])


def fill(
    values: np.ndarray, starts: np.ndarray | None, columns: Sequence[str], first: int, part: str, policy: str,
    name: str, past: Past,
) -> Filled:  # fmt: skip
    """Values [T, g] of some columns of a part that begins at row ``first``, holes filled.

    Rows before a series begins, at row ``starts`` [g], stay NaN. ``policy`` is ``missing`` of :func:`hdt.load`.
    ``past`` reads, of a column, the rows from one on until the part, as they are, and tells how many of them are
    training rows. Raises :class:`hdt.system.errors.InputError` naming the column and row.
    """
    before = np.zeros((1, 1), bool) if starts is None else np.arange(len(values))[:, None] + first < starts
    holes = np.isnan(values) & ~before
    if not holes.any():
        return Filled(values, {}, None)
    filled: np.ndarray = pd.DataFrame(values).interpolate("linear", limit_direction="both").to_numpy(copy=True)
    found, masked = {}, np.zeros(len(columns), bool)
    for c, share in enumerate(holes.sum(axis=0) / np.maximum(1, len(values) - before.sum(axis=0))):
        if share == 0:
            continue
        column, row = columns[c], first + int(holes[:, c].argmax())
        what = f"{name}: column {column!r} misses {share:.1%} of its {part} values (first at row {row})"
        require(share < 1, f"{what}; drop the column, or choose another --split")
        require(policy != "error", f"{what}; fill them, or pass --missing interpolate or mask")
        masked[c] = policy == "mask" or (policy == "auto" and share > LIMIT)
        told = "linearly interpolated"
        if masked[c]:
            start = 0 if starts is None else int(starts[c])
            own = values[max(0, start - first) :, c]
            filled[len(values) - len(own) :, c], period = along_season(own, *past(c, start))
            season = f"a season of {period} steps" if period else "straight lines"
            told = f"masked: not counted in errors, filled along {season} where a context needs them"
        note = f"column {column!r}: {int(holes[:, c].sum())} missing {part} values ({share:.1%}) {told}"
        found[column] = Hole(float(share), note)
    filled = filled if starts is None else np.where(before, np.nan, filled)
    return Filled(filled, found, holes & masked if masked.any() else None)


def along_season(own: np.ndarray, past: np.ndarray, training: int) -> tuple[np.ndarray, int | None]:
    """A column [T] with its holes filled, and its season in steps, if it has one; ``past`` holds the rows before.

    Season and profile are those of the first ``training`` rows; without a past, of the column itself, which then is
    filled from both sides.
    """
    whole = pd.Series(np.concatenate([past, own]), dtype=np.float64)
    known = whole[:training] if len(past) else whole
    scale = known.abs().max() or 1.0  # sums of large values would leave float64
    whole, known = whole / scale, known / scale
    period = season(known)
    repeated: np.ndarray = np.zeros(len(whole))
    if period is not None:
        levels = profile(known, period).interpolate("linear", limit_direction="both")
        repeated = levels.to_numpy()[whole.index % period]
    rest = whole - repeated
    filled = rest.ffill() if len(past) else rest.interpolate("linear", limit_direction="both")
    return np.where(np.isnan(own), (filled + repeated).to_numpy()[len(past) :] * scale, own), period


def season(own: pd.Series) -> int | None:
    """The period of a column [T] with holes, by its autocorrelation over the pairs that are there; None without one.

    Its largest value is about 1. A straight line is taken out. The shortest lag counts that is a peak, higher by
    ``BUMP`` than a shorter one and than zero, and no lower than the highest such by ``NEAR``; at most ``LONGEST``, seen
    ``CYCLES`` times, and with a profile that odd and even cycles ``AGREE`` on.
    """
    there, rows = own.notna().to_numpy(), len(own)
    most = min(LONGEST, rows // CYCLES)
    if there.sum() < 2 or most < 2:
        return None
    time, x = np.linspace(-1, 1, rows), np.zeros(rows)
    x[there] = own[there] - np.polyval(np.polyfit(time[there], own[there], 1), time[there])
    products, pairs = (_products(each, most + 2) for each in (x, there.astype(np.float64)))
    if products[0] <= pairs[0] * FLAT:
        return None
    r = np.where(pairs > 0.5, products / np.maximum(pairs, 1), np.nan) / (products[0] / pairs[0])
    lowest = np.fmin.accumulate(r)[1:-1]
    peak = (r[1:-1] >= r[:-2]) & (r[1:-1] > r[2:]) & (np.minimum(r[1:-1], r[1:-1] - lowest) >= BUMP)  # NaN: no
    if not peak.any():
        return None
    period = int(np.flatnonzero(peak & (r[1:-1] >= r[1:-1][peak].max() - NEAR))[0]) + 1
    odd = own.index // period % 2 == 1
    agreement = profile(own.where(odd), period).corr(profile(own.where(~odd), period))
    return period if agreement >= AGREE else None


def profile(own: pd.Series, period: int) -> pd.Series:
    """The mean deviation from the level, a mean over one period around, at each phase; NaN at those never seen."""
    level = own.interpolate("linear", limit_direction="both").rolling(period, center=True, min_periods=1).mean()
    return (own - level).groupby(own.index % period).mean().reindex(range(period))


def _products(x: np.ndarray, lags: int) -> np.ndarray:
    """Σ x_t x_{t+τ} at the first lags."""
    spectrum = np.fft.rfft(x, 2 * len(x))
    return np.fft.irfft(np.square(np.abs(spectrum)), 2 * len(x))[:lags]
