"""Synthetic series and all that is known of how they were made: data, with no way out but to be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from hdt.data.covariates import calendar
from hdt.data.frames import parse_step
from hdt.data.layout import Layout
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
    from, ``given`` [M, G, K] the columns known ahead that are no calendar's, in original units.
    """

    values: np.ndarray
    params: Mapping[str, np.ndarray]
    info: RunInfo
    history: list[dict[str, float]] = field(default_factory=list)
    panel: Panel | None = None
    kept: Kept | None = None
    given: np.ndarray | None = None

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

    @property
    def ahead(self) -> np.ndarray | None:
        """The columns known ahead [M, G, K] in original units; None where there are none."""
        own = self.info.data.covariates
        if own is None or own.first_stamp is None:
            return None
        layout, steps = Layout(**self.info.data.layout), self.values.shape[1]
        stamps = layout.stamps(own.first_stamp, parse_step(self.info.data.step), steps)
        made = calendar(stamps, own.calendar, self.info.data.name)[:, None].repeat(own.groups, axis=1)
        return made if self.given is None else np.concatenate([made, self.given], axis=2)

    @property
    def seen(self) -> np.ndarray:
        """``values`` and, after their channels, the columns known ahead, scaled: what students train on."""
        own, ahead = self.info.data.covariates, self.ahead
        if own is None or ahead is None:
            return self.values
        scaled = ((ahead - own.mean) / own.std).astype(self.values.dtype).reshape(1, len(ahead), -1)
        return np.concatenate([self.values, scaled.repeat(len(self.values), axis=0)], axis=2)

    def __repr__(self) -> str:
        n, length, channels = self.values.shape
        return (
            f"{type(self).__name__}({self.info.data.name} by {self.info.settings.method}: {n} × {length} steps × "
            f"{channels} channels, {self.info.floats} floats, {self.info.compression:.0f}× smaller)"
        )
