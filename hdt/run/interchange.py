"""Synthetic series as other libraries take them: pandas frames and gluonts data sets."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hdt.data.frames import parse_step
from hdt.data.layout import Layout, suffixed
from hdt.system.errors import InputError

if TYPE_CHECKING:
    from gluonts.dataset.pandas import PandasDataset

    from hdt.run.synthetic import Synthetic


def laid_out(distilled: Synthetic, layout: Layout) -> pd.DataFrame:
    """The synthetic series in ``layout``, see :meth:`hdt.Distilled.to_frame`."""
    info, original = distilled.info, distilled.original
    index = layout.stamps(info.data.first_stamp, parse_step(info.data.step), original.shape[1])
    columns = distilled.columns if info.settings.channels is not None else layout.own(distilled.columns)
    if len(original) > 1:
        columns = [suffixed(column, str(n)) for n in range(1, len(original) + 1) for column in columns]
    return layout.frame(np.concatenate(list(original), axis=1), index, columns)


def names(frame: pd.DataFrame) -> list[object]:
    """Labels of columns as text, level by level: parquet keeps those of mixed kinds as text only."""
    return [tuple(map(str, label)) if isinstance(label, tuple) else str(label) for label in frame.columns]


def parquet(frame: pd.DataFrame) -> bytes:
    """A frame as a parquet file; pandas' warning that labels of mixed kinds become text is not the reader's."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The DataFrame has column names of mixed type", UserWarning)
        return frame.to_parquet()


def to_gluonts(wide: pd.DataFrame, step: str) -> PandasDataset:
    """One univariate float32 series per column of a wide frame, see :meth:`hdt.Distilled.to_gluonts`."""
    try:
        from gluonts.dataset.pandas import PandasDataset
    except ImportError as error:
        raise InputError("gluonts is not installed; pip install 'hdt-ts[moirai]'") from error
    if not isinstance(wide.index, pd.DatetimeIndex):
        raise InputError("gluonts has no period for numbered rows; use to_long() instead")
    stamps = wide.index
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas is to drop periods of business days, which gluonts still takes
            periods = stamps.tz_localize(None).to_period()  # gluonts counts in periods, which have no time zone
    except ValueError as error:
        raise InputError(f"gluonts has no period for the time step {step} ({error}); use to_long() instead") from error
    series = {str(name): pd.DataFrame({"target": wide[name].to_numpy()}, index=periods) for name in wide.columns}
    return PandasDataset(series, target="target", freq=periods.freqstr)
