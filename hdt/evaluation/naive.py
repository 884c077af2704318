"""Naive forecasts, the least that any training has to beat: the last value, and the last season, repeated.

Hyndman & Athanasopoulos, "Forecasting: Principles and Practice", section 5.2. Both are the same rule: the forecast
for step h is the value of the last season at phase h mod s, and the last value is a season of one step.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from hdt.data.series import Panel, Part
from hdt.maths.grid import peak_period

LAST_VALUE, LAST_SEASON = "last value", "last season"
NAIVE = (LAST_VALUE, LAST_SEASON)
SEASON_WITHIN = 1024  # steps: two seasons fit


def season_of(panel: Panel) -> int | None:
    """The dominant period of the training part in steps, at most half of ``SEASON_WITHIN``; None without a peak."""
    train = torch.tensor(panel.part("train"), dtype=torch.float32)
    return peak_period(train, min(len(train), SEASON_WITHIN))


def errors(values: Float[np.ndarray, "T C"], season: int, horizon: int) -> tuple[float, float]:
    """Mean squared and mean absolute error over all T − s − H + 1 windows of a season s and a horizon H after it."""
    count = len(values) - season - horizon + 1
    squared = absolute = 0.0
    for h in range(horizon):
        gap = values[season + h :][:count] - values[h % season :][:count]
        squared += float(np.square(gap).sum())
        absolute += float(np.abs(gap).sum())
    cells = count * horizon * values.shape[1]
    return squared / cells, absolute / cells


def score(panel: Panel, kind: str, horizon: int) -> dict[str, float] | None:
    """Errors of one of ``NAIVE`` on the windows that students are scored on, in scaled units; nothing is trained.

    A season may reach further back than a student's context. None where the training part has no season, or a
    part is too short for one.
    """
    season = 1 if kind == LAST_VALUE else season_of(panel)
    if season is None:
        return None
    parts: tuple[Part, ...] = ("val", "test")
    found = {part: panel.part(part, context=season) for part in parts}
    starts = (panel.borders[0], panel.borders[1])
    whole = [len(found[p]) == panel.borders[n + 1] - starts[n] + season for n, p in enumerate(parts)]
    if not all(whole) or any(len(values) < season + horizon for values in found.values()):
        return None
    mse, mae = errors(found["test"], season, horizon)
    return {"mse": mse, "mae": mae, "validation_mse": errors(found["val"], season, horizon)[0], "train_seconds": 0.0}
