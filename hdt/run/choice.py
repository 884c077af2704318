"""``--transform auto``: of the transforms the one under which a ridge regression in closed form forecasts best.

It is fitted on the first ``SHARE`` of the training rows, as are the transforms, and measured on the windows that
forecast the others; validation and test parts are not read. Errors are squared, of the table in its scale, each the
least over ``PENALTIES``: a forecast of differences is added up, which is a matrix on the targets of the Gram matrix.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from hdt.data.series import Panel
from hdt.data.transform import AUTO, TRANSFORMS, Transform
from hdt.maths.hypergradients import hypergradients
from hdt.maths.moments import gram, lag_moments
from hdt.system.errors import InputError, require
from hdt.system.machine import sample

SHARE = 0.8
PENALTIES = tuple(10.0**power for power in range(-7, 1))  # in parts of the mean diagonal


def decided(panel: Panel, context: int, horizon: int) -> Panel:
    """The panel; one whose transform is ``auto`` with that which is best for these windows, and a notice of it.

    Of a wide table a sample of channels decides, and seasonal levels are tried where it has a season. What is masked
    counts as it was filled. Raises :class:`InputError` for too few training rows.
    """
    if panel.transform != AUTO:
        return panel
    rows = panel.plain.original("train", list(sample(panel.channels))).astype(np.float64)
    cut = round(SHARE * len(rows))
    require(
        cut >= context + horizon and len(rows) - cut >= horizon,
        f"{panel.name}: --transform auto measures on the last fifth of the training rows what it fits on the others, "
        f"and {len(rows)} are too few for context {context} and horizon {horizon}; choose one of "
        f"{', '.join(TRANSFORMS)}",
    )
    std = panel.plain.scaler.of(list(sample(panel.channels))).std
    tried: dict[str, float] = {}
    for kind in TRANSFORMS:
        left = rows
        if kind != "none":
            try:
                Transform.fit(kind, rows)
                left = Transform.fit(kind, rows[:cut]).forward(rows, rows[:0])
            except InputError:  # no season, or none in the first rows
                continue
        tried[kind] = error((left - left[:cut].mean(axis=0)) / std, cut, context, horizon, kind == "difference")
    best = min(tried, key=lambda kind: tried[kind])
    told = ", ".join(f"{kind} {found:.3g}" for kind, found in tried.items())
    notice = f"--transform auto took {best}; squared errors on the last fifth of the training rows: {told}"
    options = {**panel.load_options, "transform": best}
    return replace(panel, transform=best, tried=tried, read=(*panel.read, notice), load_options=options)


def error(left: np.ndarray, cut: int, context: int, horizon: int, summed: bool) -> float:
    """Mean squared error of the forecasts of rows [T, C] from ``cut`` on, by the ridge regression on those before;
    ``summed`` along the horizon, where rows are differences."""
    targets = torch.eye(context + horizon + 1, dtype=torch.float64)
    if summed:
        targets[context:-1, context:-1] = torch.ones(horizon, horizon, dtype=torch.float64).tril()
    fit, held = (
        lag_moments(targets @ gram(torch.tensor(some), context + horizon) @ targets.T, context).means()
        for some in (left[:cut], left[cut - context :])
    )
    size = fit.features.diagonal()[:-1].mean()
    penalties = (size if size > 0 else 1.0) * torch.tensor(PENALTIES, dtype=torch.float64)[:, None].repeat(
        1, context + 1
    )
    penalties[:, -1] = 0  # of the bias
    found, _ = hypergradients(fit, held, penalties, penalties.new_zeros(context + 1, 0))
    return max(0.0, found.min().item() / horizon)
