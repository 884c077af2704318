"""Reversible transforms of a table that drifts: what they leave is distilled and trained on.

They are fitted on the training part and undone for whatever comes back in the caller's units. Axis letters: T real
steps, M synthetic steps, N sequences, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

TRANSFORMS = ("none", "difference", "detrend")


@dataclass(frozen=True)
class Transform:
    """One of ``TRANSFORMS`` with what it was fitted to.

    ``difference``: each row less the one before; ``state`` [1, C] is the level before the first. ``detrend``: rows less
    the least-squares line of the training part; ``state`` [2, C] is its value at the first row and its slope per row.
    """

    kind: str
    state: np.ndarray

    @classmethod
    def fit(cls, kind: str, values: np.ndarray) -> Transform:
        """Of the training part [T, C], complete, of two rows or more."""
        values = values.astype(np.float64, copy=False)
        if kind == "difference":  # the first difference, which nobody knows, is that of the second row
            return cls(kind, 2 * values[:1] - values[1:2])
        rows = np.arange(len(values)) - (len(values) - 1) / 2
        slope = rows @ values / (rows @ rows)
        return cls(kind, np.stack([values.mean(axis=0) + slope * rows[0], slope]))

    def forward(self, values: np.ndarray, before: np.ndarray) -> np.ndarray:
        """What is left of rows [T, C] of the table, complete, which follow those of ``before``, its first ones."""
        if self.kind == "difference":
            return np.diff(values, axis=0, prepend=before[-1:] if len(before) else self.state)
        return values - self._line(len(before), len(values))

    def inverse(self, series: np.ndarray) -> np.ndarray:
        """Series [N, M, C] in the caller's units, as if each began with the first row of the table."""
        if self.kind == "difference":
            return self.state + np.cumsum(series, axis=1)
        return series + self._line(0, series.shape[1])

    @property
    def record(self) -> dict[str, Any]:
        """As JSON knows it."""
        return {"kind": self.kind, "state": self.state.tolist()}

    def _line(self, first: int, rows: int) -> np.ndarray:
        return self.state[0] + self.state[1] * np.arange(first, first + rows)[:, None]
