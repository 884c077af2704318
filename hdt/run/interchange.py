"""Synthetic series as other libraries take them: pandas frames and gluonts data sets."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hdt.data.frames import parse_step
from hdt.data.layout import Label, Layout, suffixed
from hdt.data.series import Panel
from hdt.system.errors import InputError, require

if TYPE_CHECKING:
    from gluonts.dataset.pandas import PandasDataset

    from hdt.run.synthetic import Synthetic


def laid_out(distilled: Synthetic, layout: Layout) -> pd.DataFrame:
    """The synthetic series in ``layout``, see :meth:`hdt.Distilled.to_frame`."""
    original = distilled.original
    index = _stamps(distilled, layout, original.shape[1])
    return layout.frame(np.concatenate(list(original), axis=1), index, _labels(distilled, layout, joined=False))


def joined(distilled: Synthetic, layout: Layout) -> pd.DataFrame:
    """The sequences one after another in a long layout, see :meth:`hdt.Distilled.to_long`."""
    original, settings = distilled.original, distilled.info.settings
    gap = settings.context + settings.horizon
    apart = ((0, 0), (0, gap), (0, 0))
    level = original.mean(axis=(0, 1))
    known = np.pad(np.ones(original.shape, dtype=bool), apart)
    values = np.where(known, np.pad(original, apart), level).reshape(-1, len(level))[:-gap]
    long = layout.frame(values, _stamps(distilled, layout, len(values)), _labels(distilled, layout, joined=True))
    return long.assign(available_mask=known.reshape(-1, len(level))[:-gap].T.ravel().astype(int))


def real_validation(distilled: Synthetic, layout: Layout, panel: Panel, joined: bool) -> pd.DataFrame:
    """The real validation part under the ids of the synthetic series, see :meth:`hdt.Distilled.real_validation`."""
    pooled, rows = distilled.info.settings.channels, panel.rows("val")
    require(rows.stop > rows.start, f"{panel.name}: the val part has no rows; choose another --split")
    if pooled is None:
        values = panel.plain.original("val").astype(np.float64, copy=False)
    else:
        values = panel.block("val", [n * panel.channels // pooled for n in range(pooled)])
    labels = _labels(distilled, layout, joined)
    return layout.frame(np.tile(values, (1, len(labels) // values.shape[1])), panel.index[rows], labels)


def _stamps(distilled: Synthetic, layout: Layout, steps: int) -> pd.Index:
    return layout.stamps(distilled.info.data.first_stamp, parse_step(distilled.info.data.step), steps)


def _labels(distilled: Synthetic, layout: Layout, joined: bool) -> list[Label]:
    """Of the channels, or of those of every sequence where there are several that are not ``joined``."""
    sequences = 1 if joined else len(distilled.values)
    columns = distilled.columns if distilled.info.settings.channels is not None else layout.own(distilled.columns)
    if sequences == 1:
        return columns
    return [suffixed(column, str(n)) for n in range(1, sequences + 1) for column in columns]


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
    series = {
        str(name): pd.DataFrame({"target": wide[name].to_numpy(np.float32)}, index=periods) for name in wide.columns
    }
    return PandasDataset(series, target="target", freq=periods.freqstr)
