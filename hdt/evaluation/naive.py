"""Naive forecasts, the least that any training has to beat: the last value, and the last season, repeated.

Hyndman & Athanasopoulos, "Forecasting: Principles and Practice", section 5.2. Both are the same rule: the forecast
for step h is the value of the last season at phase h mod s, and the last value is a season of one step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from hdt.data.series import Panel, Part
from hdt.maths.grid import peak_period

LAST_VALUE, LAST_SEASON = "last value", "last season"
NAIVE = (LAST_VALUE, LAST_SEASON)
SEASON_WITHIN = 1024  # steps: two seasons fit


def targets(panel: Panel) -> slice:
    """The channels that are forecast."""
    return slice(None if panel.covariates is None else panel.covariates.targets)


def season_of(panel: Panel) -> int | None:
    """The dominant period of the training part in steps, at most half of ``SEASON_WITHIN``; None without a peak.

    Of series of unequal length, the half that is longest tells, from where all of it has begun.
    """
    panel = panel.plain
    values = panel.part("train")[:, targets(panel)]
    if panel.starts is not None:
        long = panel.starts <= np.median(panel.starts)
        values = values[panel.starts[long].max() :, long]
    train = torch.tensor(values, dtype=torch.float32)
    return peak_period(train, min(len(train), SEASON_WITHIN))


def scale(panel: Panel) -> np.ndarray:
    """Mean absolute error, within the training part, of repeating the last season (or value) one season on, [C].

    Pairs of which both values were observed count.
    """
    panel = panel.plain
    train, season = panel.part("train", gaps=True)[:, targets(panel)], season_of(panel) or 1
    gaps = np.abs(train[season:] - train[:-season])
    begun = np.isfinite(gaps)  # and observed
    with np.errstate(invalid="ignore", divide="ignore"):  # of a series shorter than a season
        return np.where(begun, gaps, 0).sum(axis=0) / begun.sum(axis=0)


def scaled_errors(absolute: Float[np.ndarray, " C"], scale: Float[np.ndarray, " C"]) -> float:
    """Mean over series of absolute error over scale (MASE), of those that change at all; 0 when none does."""
    told = np.isfinite(scale) & (scale > 0)
    return float((absolute[told] / scale[told]).mean()) if told.any() else 0.0


def errors(
    values: Float[np.ndarray, "T C"], season: int, horizon: int, observed: Float[np.ndarray, "T C"] | None = None
) -> tuple[Float[np.ndarray, " C"], Float[np.ndarray, " C"]]:
    """Mean squared and mean absolute error of every channel over all T − s − H + 1 windows of a season s and a horizon
    H after it; of targets that were ``observed``, where that is given with NaN elsewhere."""
    count = len(values) - season - horizon + 1
    squared, absolute = (np.zeros(values.shape[1]) for _ in range(2))
    seen: Any = count * horizon if observed is None else np.zeros(values.shape[1])
    for h in range(horizon):
        gap = (values if observed is None else observed)[season + h :][:count] - values[h % season :][:count]
        if observed is not None:
            seen += np.isfinite(gap).sum(axis=0)
            gap = np.nan_to_num(gap)
        squared += np.square(gap).sum(axis=0)
        absolute += np.abs(gap).sum(axis=0)
    return squared / seen, absolute / seen


def score(panel: Panel, kind: str, horizon: int) -> dict[str, float] | None:
    """Errors of one of ``NAIVE`` on the windows that students are scored on, in scaled units; nothing is trained.

    A season may reach further back than a student's context. None where the training part has no season, or a
    part or a series is too short for one.
    """
    panel = panel.plain
    season = 1 if kind == LAST_VALUE else season_of(panel)
    if season is None:
        return None
    parts: tuple[Part, ...] = ("val", "test")
    own = targets(panel)
    found = {part: panel.part(part, context=season)[:, own] for part in parts}
    starts = (panel.borders[0], panel.borders[1])
    whole = [len(found[p]) == panel.borders[n + 1] - starts[n] + season for n, p in enumerate(parts)]
    whole += [bool(np.isfinite(values).all()) for values in found.values()]
    if not all(whole) or any(len(values) < season + horizon for values in found.values()):
        return None
    masked = [part for part in parts if panel.filled(part).gaps is not None]
    observed = {part: panel.part(part, context=season, gaps=True)[:, own] for part in masked}
    squared, absolute = errors(found["test"], season, horizon, observed.get("test"))
    validation = errors(found["val"], season, horizon, observed.get("val"))
    return {
        "mse": float(squared.mean()),
        "mae": float(absolute.mean()),
        "mase": scaled_errors(absolute, scale(panel)),
        "validation_mse": float(validation[0].mean()),
        "validation_mae": float(validation[1].mean()),
        "train_seconds": 0.0,
    }
