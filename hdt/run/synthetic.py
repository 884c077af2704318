"""Synthetic series and all that is known of how they were made: data, with no way out but to be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from hdt.data.scaler import Scaler
from hdt.data.series import Panel
from hdt.data.transform import Transform
from hdt.run.kept import Kept
from hdt.run.records import RunInfo


@dataclass(frozen=True)
class Synthetic:
    """Synthetic series and all that is known of how they were made.

    ``values`` [N, M, C] are in scaled units, ``params`` the learned arrays they decode from,
    ``history`` one entry per iteration. ``panel`` is the real data when it is at hand, ``kept`` what an update goes on
    from.
    """

    values: np.ndarray
    params: Mapping[str, np.ndarray]
    info: RunInfo
    history: list[dict[str, float]] = field(default_factory=list)
    panel: Panel | None = None
    kept: Kept | None = None

    @property
    def columns(self) -> list[str]:
        """Names of the synthetic channels: the real ones, or ``synthetic_1`` … when they are fewer."""
        count = self.info.settings.channels
        return self.info.data.columns if count is None else [f"synthetic_{n}" for n in range(1, count + 1)]

    @property
    def scaler(self) -> Scaler:
        """Of the real channels, as the run has it."""
        return Scaler(np.array(self.info.scaler_mean), np.array(self.info.scaler_std))

    @property
    def original(self) -> np.ndarray:
        """Values [N, M, C] in original units; scaled units when channels stand for several real ones.

        What was taken from the table is put back, as if every sequence began with its first row.
        """
        if self.info.settings.channels is not None:
            return self.values.astype(np.float64)
        series = self.values.astype(np.float64) * self.info.scaler_std + self.info.scaler_mean
        taken = self.info.data.transform
        return series if taken is None else Transform(taken.kind, np.array(taken.state)).inverse(series)

    def __repr__(self) -> str:
        n, length, channels = self.values.shape
        return (
            f"{type(self).__name__}({self.info.data.name} by {self.info.settings.method}: {n} × {length} steps × "
            f"{channels} channels, {self.info.floats} floats, {self.info.compression:.0f}× smaller)"
        )
