"""Synthetic series as other libraries take them: pandas frames and gluonts data sets."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hdt.data.frames import Layout, parse_step
from hdt.system.errors import InputError

if TYPE_CHECKING:
    from gluonts.dataset.pandas import PandasDataset

    from hdt.run.synthetic import Synthetic


def laid_out(distilled: Synthetic, layout: Layout) -> pd.DataFrame:
    """The synthetic series in ``layout``, see :meth:`hdt.Distilled.to_frame`."""
    data = distilled.info.data
    steps = distilled.values.shape[1]
    index = pd.date_range(pd.Timestamp(data.first_stamp), periods=steps, freq=parse_step(data.step))
    original, columns = distilled.original, distilled.columns
    if len(original) > 1:
        columns = [f"{column}/{n}" for n in range(1, len(original) + 1) for column in columns]
    return layout.frame(np.concatenate(list(original), axis=1), index, columns)


def to_gluonts(distilled: Synthetic) -> PandasDataset:
    """One univariate float32 series per column, see :meth:`hdt.Distilled.to_gluonts`."""
    try:
        from gluonts.dataset.pandas import PandasDataset
    except ImportError as error:
        raise InputError("gluonts is not installed; pip install 'hdt-ts[moirai]'") from error
    wide = laid_out(distilled, Layout("wide"))
    stamps = pd.DatetimeIndex(wide.index)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas is to drop periods of business days, which gluonts still takes
            periods = stamps.tz_localize(None).to_period()  # gluonts counts in periods, which have no time zone
    except ValueError as error:
        step = distilled.info.data.step
        raise InputError(f"gluonts has no period for the time step {step} ({error}); use to_long() instead") from error
    series = {str(name): pd.DataFrame({"target": wide[name].to_numpy()}, index=periods) for name in wide.columns}
    return PandasDataset(series, target="target", freq=periods.freqstr)
