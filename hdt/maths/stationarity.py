"""Does a series drift? Two tests with opposite null hypotheses."""

from __future__ import annotations

import warnings

import numpy as np

# Block means that are tested, at most; fewer than so many for every lag of the regression decide nothing, nor do those
# that are all but equal.
POINTS, POINTS_PER_LAG, EQUAL = 1000, 3, 1e-12
LAGS, LEVEL = 10, 0.05  # of ADF; of both tests


def drifts(x: np.ndarray) -> bool:
    """Whether a series [T] looks non-stationary: ADF keeps its unit root and KPSS rejects stationarity.

    At most ``POINTS`` block means of it are tested, at the 5% level: drift over years is asked for, not a
    daily cycle. Dickey & Fuller (1979), Kwiatkowski et al. (1992), by statsmodels.
    """
    from statsmodels.tsa.stattools import adfuller, kpss

    size = -(-len(x) // POINTS)
    means = x[: len(x) // size * size].reshape(-1, size).mean(axis=1)
    if len(means) < POINTS_PER_LAG * LAGS or np.ptp(means) < EQUAL:
        return False
    with warnings.catch_warnings():
        # p-values outside the table are far enough, lags that say the same again are harmless, and results that
        # will become objects are read in both forms.
        warnings.simplefilter("ignore")
        tests = adfuller(means, maxlag=LAGS, autolag=None), kpss(means, nlags="auto")
    unit_root, stationary = (test.pvalue if hasattr(test, "pvalue") else test[1] for test in tests)
    return bool(unit_root > LEVEL and stationary < LEVEL)


def notice(train: np.ndarray, columns: list[str], remedy: str) -> str | None:
    """One line when tested channels of the training part [T, C] drift, ending in the ``remedy``.

    Rows before a channel begins are NaN.
    """
    found = [column for column, own in zip(columns, train.T, strict=True) if drifts(own[~np.isnan(own)])]
    if not found:
        return None
    return f"{len(found)} of {len(columns)} tested channels drift (ADF and KPSS, first {found[0]!r}): {remedy}"
