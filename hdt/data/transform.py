"""Reversible transforms of a table that drifts: what they leave is distilled and trained on.

They are fitted on the training part and undone for whatever comes back in the caller's units. Axis letters: T real
steps, M synthetic steps, N sequences, C channels.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hdt.data.missing import profile, season
from hdt.system.errors import require

TRANSFORMS = ("none", "difference", "detrend", "seasonal")
AUTO = "auto"  # one of them, see hdt.run.choice


@dataclass(frozen=True)
class Transform:
    """One of ``TRANSFORMS`` with what it was fitted to.

    ``difference``: each row less the one before; ``state`` [1, C] is the level before the first. ``detrend``: rows less
    the least-squares line of the training part; ``state`` [2, C] is its value at the first row and its slope per row.
    ``seasonal``: rows less the seasonal level of their phase, the mean deviation from a moving mean over one period, so
    that a drift stays whole; ``state`` [period, C], its first row that of the first row of the table.
    """

    kind: str
    state: np.ndarray

    @classmethod
    def fit(cls, kind: str, values: np.ndarray, name: str = "frame") -> Transform:
        """Of the training part [T, C], complete, of two rows or more.

        Raises :class:`hdt.system.errors.InputError` for ``seasonal`` levels of a table without a season.
        """
        values = values.astype(np.float64, copy=False)
        if kind == "seasonal":
            return cls(kind, _levels(values, name))
        if kind == "difference":  # the first difference, which nobody knows, is that of the second row
            return cls(kind, 2 * values[:1] - values[1:2])
        rows = np.arange(len(values)) - (len(values) - 1) / 2
        slope = rows @ values / (rows @ rows)
        return cls(kind, np.stack([values.mean(axis=0) + slope * rows[0], slope]))

    def forward(self, values: np.ndarray, before: np.ndarray) -> np.ndarray:
        """What is left of rows [T, C] of the table, complete, which follow those of ``before``, its first ones."""
        if self.kind == "difference":
            return np.diff(values, axis=0, prepend=before[-1:] if len(before) else self.state)
        return values - self._taken(len(before), len(values))

    def inverse(self, series: np.ndarray) -> np.ndarray:
        """Series [N, M, C] in the caller's units, as if each began with the first row of the table."""
        if self.kind == "difference":
            return self.state + np.cumsum(series, axis=1)
        return series + self._taken(0, series.shape[1])

    @property
    def record(self) -> dict[str, Any]:
        """As JSON knows it."""
        return {"kind": self.kind, "state": self.state.tolist()}

    def _taken(self, first: int, rows: int) -> np.ndarray:
        """What is taken from rows [rows, C] of the table, where that is the same whatever they hold."""
        own = np.arange(first, first + rows)
        if self.kind == "seasonal":
            return self.state[own % len(self.state)]
        return self.state[0] + self.state[1] * own[:, None]


def _levels(values: np.ndarray, name: str) -> np.ndarray:
    """Seasonal levels [period, C] of columns [T, C], in the season that most of them have, the shortest of several.

    Zero for a column that has none, or one that neither divides that of the table nor is a multiple of it.
    """
    scale = np.abs(values).max(axis=0)
    scale = np.where(scale > 0, scale, 1.0)  # sums of large values would leave float64
    columns = [pd.Series(own) for own in (values / scale).T]
    found = [season(own) for own in columns]
    counts = Counter(own for own in found if own is not None)
    require(
        bool(counts),
        f"{name}: --transform seasonal takes levels of a season from the table, and no column has one; leave it out",
    )
    period = min(counts, key=lambda own: (-counts[own], own))
    levels = np.zeros((period, len(columns)))
    for c, (column, own) in enumerate(zip(columns, found, strict=True)):
        if own is not None and (period % own == 0 or own % period == 0):
            levels[:, c] = profile(column, period)
    return levels * scale
