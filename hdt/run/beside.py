"""Covariates of a run: the columns of its frames beside the targets, and what a distillation is told of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from hdt.data.series import Panel
from hdt.distillation.config import Settings
from hdt.distillation.loop import Beside
from hdt.maths.roles import Roles
from hdt.run.records import CovariateInfo
from hdt.system.errors import require

if TYPE_CHECKING:
    from hdt.run.synthetic import Synthetic

Arrange = Callable[[np.ndarray], np.ndarray]  # of sequences [N, M, C] a table, a column per series


def roles(panel: Panel) -> Roles | None:
    """Which channels of a panel are what; None where all are targets and nothing is beside them."""
    found = panel.covariates
    if found is None:
        return None
    return Roles(found.targets, len(found.past), len(found.names), found.values.shape[1], found.past_groups)


def flat(panel: Panel) -> np.ndarray:
    """The columns known ahead [T, G·K], scaled as in the training part; none without covariates."""
    found = panel.covariates
    if found is None:
        return np.empty((len(panel.values), 0), np.float32)
    return found.scaled(panel.borders[0]).reshape(len(found.values), -1)


def told(panel: Panel) -> Beside | None:
    """What a distillation is told."""
    own = roles(panel)
    return None if own is None else Beside(torch.from_numpy(flat(panel)[: panel.borders[0]]), own)


def check(panel: Panel, settings: Settings) -> None:
    """Refuse covariates that a distillation with these settings would take apart."""
    own = roles(panel)
    if own is None:
        return
    pooled = settings.channels is not None
    assert panel.covariates is not None
    alike = own.groups == 1 and not own.past and not panel.covariates.static
    require(
        alike or not pooled,
        f"{panel.name}: {settings.channels} synthetic channels stand for all {panel.channels}, and covariates of the "
        "past, static ones, or ones that differ by series belong to each; give --channels all",
    )
    batch = settings.channel_batch
    require(
        batch is None or batch >= (settings.channels or panel.channels),
        f"{panel.name}: covariates are matched with all channels at once; give --channel-batch {panel.channels}",
    )


def info(panel: Panel, row: int | None) -> CovariateInfo | None:
    """What run.json keeps of them; the columns known ahead of the synthetic series are those from ``row`` on."""
    found = panel.covariates
    if found is None:
        return None
    scaler = found.scaler(panel.borders[0]) if found.names else None
    return CovariateInfo(
        targets=found.targets, past=list(found.past), past_groups=found.past_groups, known=list(found.names),
        calendar=list(found.calendar), groups=found.values.shape[1],
        first_stamp=None if row is None else str(panel.index[row]),
        static={name: list(values) for name, values in found.static.items()},
        mean=[] if scaler is None else scaler.mean.tolist(), std=[] if scaler is None else scaler.std.tolist(),
    )  # fmt: skip


def given(panel: Panel, row: int | None, length: int) -> np.ndarray | None:
    """The columns known ahead [M, G, K] of that stretch that are no calendar's; None where there are none."""
    found = panel.covariates
    if found is None or row is None or not found.given:
        return None
    return np.ascontiguousarray(found.values[row : row + length, :, -found.given :])


def wide(frame: pd.DataFrame, distilled: Synthetic) -> pd.DataFrame:
    """A wide frame of the learned channels with the columns known ahead."""
    own, known = distilled.info.data.covariates, distilled.ahead
    if own is None or known is None:
        return frame
    names = [""] if own.groups == 1 else [f"{series}/" for series in distilled.columns[: own.targets]]
    columns = {f"{series}{name}": known[:, g, k] for k, name in enumerate(own.known) for g, series in enumerate(names)}
    return frame.assign(**columns)


def long(
    frame: pd.DataFrame, own: CovariateInfo, series: int, arrange: Arrange, past: np.ndarray, known: np.ndarray | None
) -> pd.DataFrame:
    """A long frame of the targets, ``series`` of them in each sequence, with columns of the past [N, M, P·G], those
    known ahead [N, M, G, K], and static ones."""
    columns: dict[str, np.ndarray] = {}
    for p, name in enumerate(own.past):
        columns[name] = past[..., p * own.past_groups : (p + 1) * own.past_groups]
    if known is not None:
        columns |= {name: known[..., k] for k, name in enumerate(own.known)}
    every = (*past.shape[:2], series)
    laid = {name: arrange(np.broadcast_to(values, every)).T.ravel() for name, values in columns.items()}
    which = arrange(np.broadcast_to(np.arange(series), every)).T.ravel()
    return frame.assign(**laid, **{name: np.array(values)[which] for name, values in own.static.items()})
