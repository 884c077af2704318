"""Columns beside the targets: known ahead (calendar, holidays, prices), known of the past alone, and static ones.

Axis letters: T steps, C series, K columns that are known ahead, G groups of them: 1 where all series share them, C
where each has its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from hdt.data.scaler import Scaler
from hdt.system.errors import InputError, require

CYCLES: dict[str, tuple[int, str]] = {  # harmonics of each, and what it is
    "hour": (2, "hour of the day"), "weekday": (3, "day of the week"), "year": (2, "day of the year"),
}  # fmt: skip


@dataclass(frozen=True)
class Covariates:
    """What a panel holds beside its ``targets``, which are its first columns; ``past`` columns follow them.

    ``values`` [T, G, K] are the columns known ahead in original units: those of the ``calendar`` first, which follow
    from the stamps, then the given ones. ``names`` are theirs. ``past`` are the names of those of the past, each with G
    columns of the panel. ``static`` holds a value per target for every static column.
    """

    targets: int
    values: np.ndarray
    names: tuple[str, ...] = ()
    past: tuple[str, ...] = ()
    calendar: tuple[str, ...] = ()
    static: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    past_groups: int = 1

    @property
    def given(self) -> int:
        """The columns known ahead that are no calendar's."""
        return len(self.names) - len(calendar_names(self.calendar))

    @property
    def identity(self) -> list[Any]:
        """What tells these from others."""
        values = hashlib.sha256(np.ascontiguousarray(self.values).data).hexdigest()
        return [self.targets, values, self.names, self.past]

    def scaler(self, rows: int) -> Scaler:
        """Of the columns known ahead [K], over all series and so many training rows."""
        return Scaler.fit(self.values[:rows].reshape(-1, len(self.names)))

    def scaled(self, rows: int) -> np.ndarray:
        """``values`` by that scaler, float32."""
        return self.scaler(rows).transform(self.values).astype(np.float32)


def calendar_names(cycles: Sequence[str]) -> list[str]:
    """The columns of :func:`calendar`."""
    return [f"{c}_{part}{n}" for c in cycles for n in range(1, CYCLES[c][0] + 1) for part in ("sin", "cos")]


def calendar(stamps: pd.Index, cycles: Sequence[str], name: str = "calendar") -> np.ndarray:
    """Sines and cosines [T, K] of where stamps stand in these cycles, by the clock of their own zone.

    Of a day its hour and minutes count, of a week whole days, of a year its days; ``CYCLES`` names them and has how
    many harmonics each gets. Raises :class:`hdt.system.errors.InputError` for another name and for numbered rows.
    """
    for cycle in cycles:
        require(cycle in CYCLES, f"{name}: unknown calendar {cycle!r}; choose among {', '.join(CYCLES)}")
    if not cycles:
        return np.empty((len(stamps), 0))
    if not isinstance(stamps, pd.DatetimeIndex):
        raise InputError(f"{name}: numbered rows have no calendar; give stamps, or leave --calendar out")
    days = np.where(stamps.is_leap_year, 366, 365)
    share = {
        "hour": (stamps.hour + stamps.minute / 60 + stamps.second / 3600) / 24,
        "weekday": stamps.day_of_week / 7,
        "year": (stamps.day_of_year - 1) / days,
    }
    turns = [
        2 * np.pi * n * np.asarray(share[cycle], float) for cycle in cycles for n in range(1, CYCLES[cycle][0] + 1)
    ]
    return np.stack([part(turn) for turn in turns for part in (np.sin, np.cos)], axis=1)
